//! \[0\] \[9\] Which messages there are, and which came back: for demo and bench alike.
//!
//! A [`Plan`] makes the messages of each publisher and recognises them; an [`Account`] counts those that come
//! back, in one bit for each message. Publishers make messages on their threads, one receiver
//! keeps the account. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mqtt_connection_sharing::{Message, Outcome, Publish, QoS, Reason, Topic};

use super::answers::{self, Attempted, MadeBy};
use super::bench::settings::BenchSettings;
use super::demo::settings::DemoSettings;
use super::names::as_given;

/// Bytes of the number at the beginning of a numbered payload.
const NUMBER: usize = size_of::<u64>();
/// The rest of a numbered payload.
const FILL: u8 = b'x';

/// The demo's publishers: the place of each in the plan.
pub(crate) const SYNC: usize = 0;
pub(crate) const ASYNC: usize = 1;

/// Which messages there are.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    publishers: Arc<[Publisher]>,
    /// The place of each publisher by its topic.
    places: Arc<HashMap<String, usize>>,
    filter: String,
    kind: Kind,
    payload_size: usize,
    qos: QoS,
}

/// The messages of one publisher.
#[derive(Debug)]
struct Publisher {
    /// The topic of all its messages, or the beginning of each one's topic.
    topic: Topic,
    /// Messages, numbered from 0.
    count: u64,
}

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The number stands in the topic, and the payload is a text for people.
    Text,
    /// The number begins the payload, or stands in the topic too where the payload is too small.
    Numbers,
}

impl Plan {
    /// Two publishers. The synchronous one has the odd message.
    pub(crate) fn of_demo(settings: &DemoSettings) -> Self {
        let prefix = &settings.topic_prefix;
        let half = settings.publish_count / 2;
        let publisher = |level: &str, count| Publisher {
            topic: format!("{prefix}/{level}").into(),
            count,
        };
        let publishers = [
            publisher("sync", settings.publish_count - half),
            publisher("async", half),
        ];
        Plan::new(
            publishers.into(),
            format!("{prefix}/+/+"),
            Kind::Text,
            settings.payload_size,
            settings.qos,
        )
    }

    /// As many publishers as threads, and the messages shared out evenly.
    pub(crate) fn of_bench(settings: &BenchSettings) -> Self {
        let (prefix, mode) = (&settings.topic_prefix, settings.mode.name());
        let threads = settings.threads as u64;
        // The run has a level of its own, so that two runs that use one broker at a time do not even receive
        // each other's messages.
        let own = format!("{prefix}/{mode}/{}", settings.level_of_run());
        let publishers = (0..threads).map(|thread| Publisher {
            topic: format!("{own}/{thread}").into(),
            count: settings.messages / threads + u64::from(thread < settings.messages % threads),
        });
        Plan::new(
            publishers.collect(),
            format!("{own}/+"),
            Kind::Numbers,
            settings.payload_size,
            settings.qos,
        )
    }

    fn new(
        publishers: Arc<[Publisher]>,
        filter: String,
        kind: Kind,
        payload_size: usize,
        qos: QoS,
    ) -> Self {
        let places = publishers.iter().map(|own| own.topic.to_string());
        Plan {
            places: Arc::new(places.zip(0..).collect()),
            publishers,
            filter,
            kind,
            payload_size,
            qos,
        }
    }

    /// The end of a message that was not delivered, in words. Of its publisher's messages, so many were acknowledged.
    pub(crate) fn told(&self, outcome: &Outcome, acknowledged: u64) -> String {
        let is_qos_2 = self.qos == QoS::ExactlyOnce && acknowledged == 0;
        let remedy = match outcome {
            // It names the remedy itself.
            Outcome::PerhapsDelivered(Reason::AnsweredAsQos1) => "",
            Outcome::PerhapsDelivered(_) if is_qos_2 => {
                " (none of QoS 2 was acknowledged: use `qos` 1 if the broker has no QoS 2)"
            }
            Outcome::PerhapsDelivered(Reason::Parked | Reason::Unanswered) => {
                " (compare --topic-prefix with what the broker allows, or lower --payload-size)"
            }
            _ => "",
        };
        let told = answers::told(Attempted::Publish(MadeBy::Plan), outcome);
        as_given(&format!("{told}{remedy}")).into_owned()
    }

    /// The broker granted less than was asked for.
    pub(crate) fn granted_less(&self, granted: &[QoS]) -> String {
        let lowest = granted.iter().min().copied().unwrap_or_default();
        as_given(&format!(
            "the broker granted QoS {lowest}, and QoS {} was asked for: use `qos` {lowest}",
            self.qos
        ))
        .into_owned()
    }

    /// Messages of all publishers.
    pub(crate) fn total(&self) -> u64 {
        self.publishers.iter().map(|own| own.count).sum()
    }

    /// Messages of one publisher.
    pub(crate) fn count(&self, publisher: usize) -> u64 {
        self.publishers[publisher].count
    }

    /// The filter that matches every message.
    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// A publisher's message with this number.
    pub(crate) fn message(&self, publisher: usize, number: u64) -> Publish {
        let topic = &self.publishers[publisher].topic;
        let payload = Bytes::from(self.payload(publisher, number));
        match self.separator() {
            None => Publish::new(topic, self.qos, payload),
            Some(separator) => {
                Publish::new(format!("{topic}{separator}{number}"), self.qos, payload)
            }
        }
    }

    /// Publisher and number of a message, if it is one of this plan, whole.
    pub(crate) fn identify(&self, message: &Message) -> Option<(usize, u64)> {
        let (topic, payload) = (message.topic(), message.payload());
        let (topic, number) = match self.separator() {
            None => {
                let number = payload.first_chunk::<NUMBER>()?;
                (topic, u64::from_be_bytes(*number))
            }
            Some(separator) => {
                let (topic, text) = topic.rsplit_once(separator)?;
                let number: u64 = text.parse().ok()?;
                // One number has one text.
                (number.to_string() == text).then_some((topic, number))?
            }
        };
        let publisher = *self.places.get(topic)?;
        let is_whole = match self.kind {
            Kind::Text => payload == self.payload(publisher, number),
            Kind::Numbers => {
                let fill = match self.separator() {
                    None => &payload[NUMBER..],
                    Some(_) => payload,
                };
                payload.len() == self.payload_size && fill.iter().all(|byte| *byte == FILL)
            }
        };
        (number < self.count(publisher) && is_whole).then_some((publisher, number))
    }

    fn payload(&self, publisher: usize, number: u64) -> Vec<u8> {
        match self.kind {
            Kind::Text => {
                let name = match publisher {
                    SYNC => "Sync",
                    _ => "Async",
                };
                let mut payload = format!("Hello World! {name}: {number}").into_bytes();
                if payload.len() < self.payload_size {
                    payload.resize(self.payload_size, b'.');
                }
                payload
            }
            Kind::Numbers => {
                let mut payload = vec![FILL; self.payload_size];
                if let Some(begin) = payload.first_chunk_mut() {
                    *begin = number.to_be_bytes();
                }
                payload
            }
        }
    }

    /// The character before the number in a topic; `None` where the payload has the number.
    fn separator(&self) -> Option<char> {
        match self.kind {
            Kind::Text => Some('/'),
            Kind::Numbers if self.payload_size < NUMBER => Some('-'),
            Kind::Numbers => None,
        }
    }
}

/// Which messages the publishers have begun to publish. All threads share it.
#[derive(Debug)]
pub(crate) struct Begun {
    numbers: Vec<Vec<AtomicU64>>,
    /// Those of them that nobody needs to wait for: the broker does not have them. One that it refused when it came
    /// again may come all the same.
    absent: Vec<Vec<AtomicU64>>,
}

impl Begun {
    pub(crate) fn new(plan: &Plan) -> Self {
        let words = |own: &Publisher| (0..words(own.count)).map(|_| AtomicU64::new(0)).collect();
        let none = || plan.publishers.iter().map(words).collect();
        Begun {
            numbers: none(),
            absent: none(),
        }
    }

    /// To be called before the message is pushed, so that it cannot come back earlier.
    pub(crate) fn begin(&self, publisher: usize, number: u64) {
        mark(&self.numbers[publisher], number);
    }

    /// The broker does not have a message that was begun.
    pub(crate) fn cannot_come(&self, publisher: usize, number: u64) {
        mark(&self.absent[publisher], number);
    }

    fn has(&self, (publisher, number): (usize, u64)) -> bool {
        let (word, bit) = place(number);
        let word = self.numbers[publisher].get(word);
        word.is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }
}

/// Counts of the messages that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReceivedCounts {
    /// Distinct messages of the plan.
    pub(crate) distinct: u64,
    /// Those that came again.
    pub(crate) duplicated: u64,
    /// First deliveries after a later one of the same publisher.
    pub(crate) reordered: u64,
    /// Messages that are not of the plan, not whole, or not published yet.
    pub(crate) unexpected: u64,
}

/// Counts the messages that come back.
#[derive(Debug)]
pub(crate) struct Account {
    plan: Plan,
    /// Without it every message of the plan is expected.
    begun: Option<Arc<Begun>>,
    seen: Vec<Seen>,
    received: ReceivedCounts,
}

/// The messages of one publisher that came back.
#[derive(Debug)]
struct Seen {
    numbers: Vec<u64>,
    /// One more than the highest number so far.
    next: u64,
}

impl Account {
    /// An account that expects every message of the plan.
    pub(crate) fn new(plan: &Plan) -> Self {
        let seen = plan.publishers.iter().map(|own| Seen {
            numbers: vec![0; words(own.count)],
            next: 0,
        });
        Account {
            seen: seen.collect(),
            plan: plan.clone(),
            begun: None,
            received: ReceivedCounts::default(),
        }
    }

    /// An account that expects the messages that were begun: an earlier run has left others behind.
    pub(crate) fn of_begun(plan: &Plan, begun: Arc<Begun>) -> Self {
        Account {
            begun: Some(begun),
            ..Account::new(plan)
        }
    }

    /// Counts a message. Returns whether it is one of the plan that has not come before.
    pub(crate) fn add(&mut self, message: &Message) -> bool {
        let is_expected = |known: &_| self.begun.as_ref().is_none_or(|begun| begun.has(*known));
        let known = self.plan.identify(message).filter(is_expected);
        let Some((publisher, number)) = known else {
            self.received.unexpected += 1;
            return false;
        };
        let (word, bit) = place(number);
        let seen = &mut self.seen[publisher];
        let word = &mut seen.numbers[word];
        if *word & bit != 0 {
            self.received.duplicated += 1;
            return false;
        }
        *word |= bit;
        self.received.distinct += 1;
        if number < seen.next {
            self.received.reordered += 1;
        }
        seen.next = seen.next.max(number + 1);
        true
    }

    /// Whether everything of the plan is there.
    pub(crate) fn is_complete(&self) -> bool {
        self.received.distinct == self.plan.total()
    }

    /// Whether everything is there that may come, once the publishers have ended.
    pub(crate) fn has_all_that_may_come(&self) -> bool {
        let Some(begun) = &self.begun else {
            return self.is_complete();
        };
        let publishers = begun.numbers.iter().zip(&begun.absent).zip(&self.seen);
        let mut words = publishers
            .flat_map(|((begun, absent), seen)| begun.iter().zip(absent).zip(&seen.numbers));
        words.all(|((begun, absent), seen)| {
            begun.load(Ordering::Acquire) & !absent.load(Ordering::Acquire) & !seen == 0
        })
    }

    pub(crate) fn received(&self) -> ReceivedCounts {
        self.received
    }
}

fn words(count: u64) -> usize {
    usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX)
}

fn mark(numbers: &[AtomicU64], number: u64) {
    let (word, bit) = place(number);
    if let Some(word) = numbers.get(word) {
        word.fetch_or(bit, Ordering::Release);
    }
}

fn place(number: u64) -> (usize, u64) {
    let word = usize::try_from(number / 64).unwrap_or(usize::MAX);
    (word, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::{bench_settings, demo_settings};

    fn demo(payload_size: usize, publish_count: u64) -> Plan {
        Plan::of_demo(&DemoSettings {
            payload_size,
            publish_count,
            ..demo_settings()
        })
    }

    fn bench(threads: usize, messages: u64, payload_size: usize) -> Plan {
        Plan::of_bench(&BenchSettings {
            threads,
            messages,
            payload_size,
            ..bench_settings()
        })
    }

    fn message(topic: &str, payload: &[u8]) -> Message {
        Message::new(topic, QoS::AtLeastOnce, Bytes::copy_from_slice(payload))
    }

    fn delivered(plan: &Plan, publisher: usize, number: u64) -> Message {
        let publish = plan.message(publisher, number);
        message(publish.topic(), publish.payload())
    }

    fn received(distinct: u64, duplicated: u64, reordered: u64, unexpected: u64) -> ReceivedCounts {
        ReceivedCounts {
            distinct,
            duplicated,
            reordered,
            unexpected,
        }
    }

    #[test]
    fn the_demo_has_the_topics_payloads_and_shares_of_the_original() {
        let plan = demo(0, 7);
        assert_eq!(plan.filter(), "filter/+/+");
        assert_eq!(**plan.message(SYNC, 3).topic(), *"filter/sync/3");
        assert_eq!(plan.message(ASYNC, 2).payload(), b"Hello World! Async: 2");
        assert_eq!((plan.count(SYNC), plan.count(ASYNC)), (4, 3));
        let padded = demo(30, 7).message(SYNC, 1);
        assert_eq!(padded.payload(), b"Hello World! Sync: 1..........");
    }

    #[test]
    fn a_message_of_a_bench_with_a_thousand_threads_is_one_that_its_publisher_encodes() {
        /// Bytes of the largest packet that a publisher encodes, and those of its headers.
        const MOST: usize = 95;
        const HEADERS: usize = 6;
        let plan = Plan::of_bench(&BenchSettings {
            run: "0123456789ab".to_owned(),
            threads: 1_024,
            messages: 1_024,
            payload_size: 64,
            ..bench_settings()
        });
        let message = plan.message(1_023, 0);
        let packet = HEADERS + message.topic().len() + message.payload().len();
        assert!(packet <= MOST, "{packet} bytes to {}", message.topic());
    }

    #[test]
    fn two_runs_of_a_bench_have_nothing_in_common() {
        let plan = |run: &str| {
            Plan::of_bench(&BenchSettings {
                run: run.to_owned(),
                ..bench_settings()
            })
        };
        let (one, other) = (plan("1"), plan("2"));
        assert_eq!(one.filter(), "filter/async/1/+");
        let foreign = delivered(&other, 0, 0);
        assert_eq!(foreign.topic(), "filter/async/2/0");
        assert_eq!(one.identify(&foreign), None);
        assert!(other.identify(&foreign).is_some());
    }

    #[test]
    fn a_bench_shares_its_messages_out_evenly() {
        let plan = bench(3, 8, 64);
        assert_eq!([0, 1, 2].map(|thread| plan.count(thread)), [3, 3, 2]);
        assert_eq!(plan.total(), 8);
    }

    #[test]
    fn every_size_can_be_told_apart_and_is_exact() {
        for size in [0, 1, 7, 8, 9, 64, 1024 * 1024] {
            let plan = bench(2, 5, size);
            let mut account = Account::new(&plan);
            for (thread, numbers) in [(0, 0..3), (1, 0..2)] {
                for number in numbers {
                    let message = delivered(&plan, thread, number);
                    assert_eq!(message.payload().len(), size);
                    assert!(!account.is_complete());
                    account.add(&message);
                }
            }
            assert!(account.is_complete(), "{size} bytes");
            assert_eq!(account.received(), received(5, 0, 0, 0), "{size} bytes");
        }
    }

    #[test]
    fn repeated_late_and_foreign_messages_are_counted_as_such() {
        let plan = bench(2, 200, 16);
        let mut account = Account::new(&plan);
        for number in [0, 2, 1, 2, 99] {
            account.add(&delivered(&plan, 1, number));
        }
        let whole = delivered(&plan, 0, 0);
        let damaged = message(whole.topic(), &[&[0; 8][..], b"xxxxxxxy"].concat());
        let short = message(whole.topic(), &whole.payload()[..15]);
        let foreign = message("filter/sync/1", whole.payload());
        let mut hundred = whole.payload().to_vec();
        hundred[7] = 100;
        let beyond = message(whole.topic(), &hundred);
        let nobody = message(&format!("{}9", whole.topic()), whole.payload());
        for message in [damaged, short, foreign, beyond, nobody] {
            account.add(&message);
        }
        assert_eq!(account.received(), received(4, 1, 1, 5));
    }

    fn demo_account(count: u64) -> (Plan, Arc<Begun>, Account) {
        let plan = demo(0, count);
        let begun = Arc::new(Begun::new(&plan));
        let account = Account::of_begun(&plan, Arc::clone(&begun));
        (plan, begun, account)
    }

    #[test]
    fn each_expected_message_counts_once() {
        let (plan, begun, mut account) = demo_account(4);
        for publisher in [SYNC, ASYNC] {
            for number in 0..2 {
                begun.begin(publisher, number);
                account.add(&delivered(&plan, publisher, number));
            }
        }
        account.add(&delivered(&plan, SYNC, 1));
        assert!(account.is_complete());
        assert_eq!(account.received(), received(4, 1, 0, 0));
    }

    #[test]
    fn a_message_may_come_until_it_has_or_the_broker_does_not_have_it() {
        let (plan, begun, mut account) = demo_account(4);
        begun.begin(SYNC, 0);
        begun.begin(ASYNC, 0);
        begun.cannot_come(ASYNC, 0);
        // The broker took it before, and refused it when it came again.
        account.add(&delivered(&plan, ASYNC, 0));
        assert!(!account.has_all_that_may_come());
        account.add(&delivered(&plan, SYNC, 0));
        assert!(account.has_all_that_may_come() && !account.is_complete());
    }

    #[test]
    fn leftovers_and_strangers_are_unexpected() {
        let (plan, begun, mut account) = demo_account(4);
        account.add(&delivered(&plan, SYNC, 0));
        begun.begin(SYNC, 0);
        for (topic, payload) in [
            ("filter/sync/0", "Hello World! Sync: 1"),
            ("filter/sync/00", "Hello World! Sync: 0"),
            ("filter/sync/9", "Hello World! Sync: 9"),
            ("other", ""),
        ] {
            account.add(&message(topic, payload.as_bytes()));
        }
        assert_eq!(account.received(), received(0, 0, 0, 5));
        account.add(&delivered(&plan, SYNC, 0));
        assert_eq!(account.received(), received(1, 0, 0, 5));
    }

    #[test]
    fn order_is_judged_for_each_publisher_among_first_deliveries() {
        let (plan, begun, mut account) = demo_account(6);
        for number in 0..3 {
            begun.begin(SYNC, number);
            begun.begin(ASYNC, number);
        }
        for (publisher, number) in [
            (SYNC, 0),
            (ASYNC, 0),
            (SYNC, 2),
            (SYNC, 1),
            (ASYNC, 1),
            (SYNC, 0),
        ] {
            account.add(&delivered(&plan, publisher, number));
        }
        assert_eq!(account.received(), received(5, 1, 1, 0));
    }
}
