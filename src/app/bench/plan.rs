//! \[0\] \[9\] What the bench publishes, and the account of what comes back.
//!
//! Pure. A message is known by its thread and its number there: the thread stands in the topic, the
//! number at the beginning of the payload, or in the topic too where the payload is too small. Made
//! by publisher threads, checked by the receiver.

use std::process;

use bytes::Bytes;

use crate::app::bench::settings::BenchSettings;
use mqtt_connection_sharing::Topic;
use mqtt_connection_sharing::{Message, Publish, QoS};

/// Bytes of the number at the beginning of a payload.
const NUMBER: usize = size_of::<u64>();
/// What the rest of the payload consists of.
const FILL: u8 = b'x';

/// Which messages there are.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Before the thread's number.
    topic: String,
    filter: String,
    payload_size: usize,
    qos: QoS,
    threads: u64,
    messages: u64,
}

impl Plan {
    pub(super) fn new(settings: &BenchSettings) -> Self {
        let prefix = &settings.topic_prefix;
        let mode = settings.mode.name();
        Plan {
            // The process keeps two runs apart that use one broker at a time. The levels are those
            // of the demo, so that what a broker allows the demo is enough.
            topic: format!("{prefix}/{mode}/{}-", process::id()),
            filter: format!("{prefix}/+/+"),
            payload_size: settings.payload_size,
            qos: settings.qos,
            threads: settings.threads as u64,
            messages: settings.messages,
        }
    }

    /// Messages of all threads.
    pub(super) fn total(&self) -> u64 {
        self.messages
    }

    /// Messages of one thread; threads count from 0.
    pub(super) fn count(&self, thread: usize) -> u64 {
        let thread = thread as u64;
        self.messages / self.threads + u64::from(thread < self.messages % self.threads)
    }

    /// Matches every message.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// What a thread's topics begin with, or all of it where the payload has the number.
    pub(super) fn topic(&self, thread: usize) -> Topic {
        format!("{}{thread}", self.topic).into()
    }

    /// A thread's message with this number; `topic` is the thread's.
    pub(super) fn message(&self, topic: &Topic, number: u64) -> Publish {
        if self.payload_size < NUMBER {
            let payload = vec![FILL; self.payload_size];
            return Publish::new(format!("{topic}-{number}"), self.qos, payload);
        }
        let mut payload = Vec::with_capacity(self.payload_size);
        payload.extend_from_slice(&number.to_be_bytes());
        payload.resize(self.payload_size, FILL);
        Publish::new(topic, self.qos, Bytes::from(payload))
    }

    /// Thread and number of a message, if it is one of this plan, whole.
    fn identify(&self, message: &Message) -> Option<(usize, u64)> {
        let name = message.topic().strip_prefix(&self.topic)?;
        if message.payload().len() != self.payload_size {
            return None;
        }
        let (thread, number, fill) = match message.payload().split_first_chunk::<NUMBER>() {
            Some((number, fill)) => (name, u64::from_be_bytes(*number), fill),
            None => {
                let (thread, number) = name.split_once('-')?;
                (thread, number.parse().ok()?, message.payload())
            }
        };
        let thread = thread.parse().ok()?;
        let is_ours = thread < self.threads as usize
            && number < self.count(thread)
            && fill.iter().all(|byte| *byte == FILL);
        is_ours.then_some((thread, number))
    }
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Received {
    /// Distinct messages of the plan.
    pub(super) distinct: u64,
    /// Those that came again.
    pub(super) duplicated: u64,
    /// First deliveries after a later one of the same thread.
    pub(super) reordered: u64,
    /// Messages that are not of the plan, or not whole.
    pub(super) unexpected: u64,
}

/// Keeps account of what comes back: one bit for each message.
#[derive(Debug)]
pub(super) struct Account {
    plan: Plan,
    seen: Vec<Seen>,
    received: Received,
}

/// What came back of one thread.
#[derive(Debug)]
struct Seen {
    numbers: Vec<u64>,
    /// One more than the highest number so far.
    next: u64,
}

impl Account {
    pub(super) fn new(plan: &Plan) -> Self {
        let bits = |thread| usize::try_from(plan.count(thread).div_ceil(64)).unwrap_or(usize::MAX);
        let seen = (0..plan.threads as usize).map(|thread| Seen {
            numbers: vec![0; bits(thread)],
            next: 0,
        });
        Account {
            seen: seen.collect(),
            plan: plan.clone(),
            received: Received::default(),
        }
    }

    pub(super) fn add(&mut self, message: &Message) {
        let known = self.plan.identify(message);
        let Some((seen, number)) =
            known.and_then(|(thread, number)| Some((self.seen.get_mut(thread)?, number)))
        else {
            self.received.unexpected += 1;
            return;
        };
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        let Some(word) = seen.numbers.get_mut(word) else {
            return;
        };
        if *word & bit != 0 {
            self.received.duplicated += 1;
            return;
        }
        *word |= bit;
        self.received.distinct += 1;
        if number < seen.next {
            self.received.reordered += 1;
        }
        seen.next = seen.next.max(number + 1);
    }

    /// Whether everything of the plan is there.
    pub(super) fn is_complete(&self) -> bool {
        self.received.distinct == self.plan.total()
    }

    pub(super) fn received(&self) -> Received {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(threads: usize, messages: u64, payload_size: usize) -> Plan {
        Plan::new(&BenchSettings {
            threads,
            messages,
            payload_size,
            ..crate::app::tests::bench_settings()
        })
    }

    fn delivered(plan: &Plan, thread: usize, number: u64) -> Message {
        let publish = plan.message(&plan.topic(thread), number);
        Message::new(
            &**publish.topic(),
            publish.qos(),
            publish.payload().to_vec(),
        )
    }

    #[test]
    fn messages_are_shared_out_evenly() {
        let plan = plan(3, 8, 64);
        assert_eq!([0, 1, 2].map(|thread| plan.count(thread)), [3, 3, 2]);
    }

    #[test]
    fn every_size_can_be_told_apart_and_is_exact() {
        for size in [0, 1, 7, 8, 9, 64, 1024 * 1024] {
            let plan = plan(2, 5, size);
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
            let expected = Received {
                distinct: 5,
                ..Received::default()
            };
            assert_eq!(account.received(), expected, "{size} bytes");
        }
    }

    #[test]
    fn repeated_late_and_foreign_messages_are_counted_as_such() {
        let plan = plan(2, 200, 16);
        let mut account = Account::new(&plan);
        for number in [0, 2, 1, 2, 99] {
            account.add(&delivered(&plan, 1, number));
        }
        let whole = delivered(&plan, 0, 0);
        let with = |topic: &str, payload: &[u8]| Message::new(topic, whole.qos(), payload.to_vec());
        let damaged = with(whole.topic(), &[&[0; 8][..], b"xxxxxxxy"].concat());
        let short = with(whole.topic(), &whole.payload()[..15]);
        let foreign = with("filter/sync/1", whole.payload());
        let beyond = delivered(&plan, 1, 100);
        let nobody = delivered(&plan, 2, 0);
        for message in [damaged, short, foreign, beyond, nobody] {
            account.add(&message);
        }
        let expected = Received {
            distinct: 4,
            duplicated: 1,
            reordered: 1,
            unexpected: 5,
        };
        assert_eq!(account.received(), expected);
    }
}
