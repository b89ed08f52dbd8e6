//! What an iteration is to receive, and what it did receive.
//!
//! A message counts as received once, and only if its topic and payload are ones that this iteration
//! has published by then: what an earlier run left behind, what comes twice and what nobody sent are
//! counted apart. Memory is two bits for each message. Pure; `Published` is shared by the threads,
//! the [`Verdict`] is the subscriber's.

use std::sync::atomic::{AtomicU64, Ordering};

/// One of the two publishers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publisher {
    /// Waits for each acknowledgment.
    Sync,
    /// Queues everything, then collects the acknowledgments.
    Async,
}

/// Which topics and payloads make up an iteration.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    topic_prefix: String,
    payload_size: usize,
    count: u64,
}

/// Which messages the publishers have begun to publish.
#[derive(Debug)]
pub(super) struct Published {
    sync_bits: Vec<AtomicU64>,
    async_bits: Vec<AtomicU64>,
}

/// What the subscriber has received.
#[derive(Debug)]
pub(super) struct Verdict {
    plan: Plan,
    received_bits: [Vec<u64>; 2],
    highest: [Option<u64>; 2],
    /// Distinct expected messages.
    pub(super) received: u64,
    /// Expected messages that came again.
    pub(super) duplicated: u64,
    /// Messages that this iteration has not published.
    pub(super) unexpected: u64,
    /// First deliveries that came after a later message of the same publisher.
    pub(super) reordered: u64,
}

impl Plan {
    pub(super) fn new(topic_prefix: &str, payload_size: usize, count: u64) -> Self {
        Plan {
            topic_prefix: topic_prefix.to_owned(),
            payload_size,
            count,
        }
    }

    /// Messages of both publishers together.
    pub(super) fn total(&self) -> u64 {
        self.count
    }

    /// How many messages are one publisher's: the synchronous one has the odd one.
    pub(super) fn count(&self, publisher: Publisher) -> u64 {
        match publisher {
            Publisher::Sync => self.count - self.count / 2,
            Publisher::Async => self.count / 2,
        }
    }

    /// The filter that matches every topic.
    pub(super) fn filter(&self) -> String {
        format!("{}/+/+", self.topic_prefix)
    }

    pub(super) fn topic(&self, publisher: Publisher, index: u64) -> String {
        format!("{}/{}/{index}", self.topic_prefix, publisher.level())
    }

    /// The text, padded with dots to the payload size.
    pub(super) fn payload(&self, publisher: Publisher, index: u64) -> Vec<u8> {
        let name = match publisher {
            Publisher::Sync => "Sync",
            Publisher::Async => "Async",
        };
        let mut payload = format!("Hello World! {name}: {index}").into_bytes();
        if payload.len() < self.payload_size {
            payload.resize(self.payload_size, b'.');
        }
        payload
    }

    /// Which message this is, if it is one of the plan's.
    fn recognise(&self, topic: &str, payload: &[u8]) -> Option<(Publisher, u64)> {
        let rest = topic.strip_prefix(&self.topic_prefix)?.strip_prefix('/')?;
        let (level, number) = rest.split_once('/')?;
        let publisher = [Publisher::Sync, Publisher::Async]
            .into_iter()
            .find(|publisher| publisher.level() == level)?;
        let index: u64 = number.parse().ok()?;
        let known = index < self.count(publisher)
            && self.topic(publisher, index) == topic
            && self.payload(publisher, index) == payload;
        known.then_some((publisher, index))
    }
}

impl Publisher {
    fn level(self) -> &'static str {
        match self {
            Publisher::Sync => "sync",
            Publisher::Async => "async",
        }
    }
}

impl Published {
    pub(super) fn new(plan: &Plan) -> Self {
        let bits = |publisher| (0..words(plan.count(publisher))).map(|_| AtomicU64::new(0));
        Published {
            sync_bits: bits(Publisher::Sync).collect(),
            async_bits: bits(Publisher::Async).collect(),
        }
    }

    /// To be called before the message is pushed, so that it cannot come back earlier.
    pub(super) fn begin(&self, publisher: Publisher, index: u64) {
        let (word, bit) = place(index);
        if let Some(word) = self.bits(publisher).get(word) {
            word.fetch_or(bit, Ordering::Release);
        }
    }

    fn has_begun(&self, publisher: Publisher, index: u64) -> bool {
        let (word, bit) = place(index);
        self.bits(publisher)
            .get(word)
            .is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }

    fn bits(&self, publisher: Publisher) -> &[AtomicU64] {
        match publisher {
            Publisher::Sync => &self.sync_bits,
            Publisher::Async => &self.async_bits,
        }
    }
}

impl Verdict {
    pub(super) fn new(plan: Plan) -> Self {
        let bits = |publisher| vec![0; words(plan.count(publisher))];
        Verdict {
            received_bits: [bits(Publisher::Sync), bits(Publisher::Async)],
            highest: [None; 2],
            plan,
            received: 0,
            duplicated: 0,
            unexpected: 0,
            reordered: 0,
        }
    }

    /// Judges a message that arrived.
    pub(super) fn judge(&mut self, published: &Published, topic: &str, payload: &[u8]) {
        let Some((publisher, index)) = self
            .plan
            .recognise(topic, payload)
            .filter(|(publisher, index)| published.has_begun(*publisher, *index))
        else {
            self.unexpected += 1;
            return;
        };
        let (word, bit) = place(index);
        let received = &mut self.received_bits[publisher as usize][word];
        if *received & bit != 0 {
            self.duplicated += 1;
            return;
        }
        *received |= bit;
        self.received += 1;
        let highest = &mut self.highest[publisher as usize];
        if highest.is_some_and(|highest| index < highest) {
            self.reordered += 1;
        }
        *highest = (*highest).max(Some(index));
    }

    /// Expected messages that did not come.
    pub(super) fn lost(&self) -> u64 {
        self.plan.count - self.received
    }
}

fn words(count: u64) -> usize {
    usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX)
}

fn place(index: u64) -> (usize, u64) {
    let word = usize::try_from(index / 64).unwrap_or(usize::MAX);
    (word, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(count: u64) -> (Plan, Published, Verdict) {
        let plan = Plan::new("filter", 0, count);
        let published = Published::new(&plan);
        let verdict = Verdict::new(plan.clone());
        (plan, published, verdict)
    }

    fn arrive(plan: &Plan, published: &Published, verdict: &mut Verdict, p: Publisher, i: u64) {
        verdict.judge(published, &plan.topic(p, i), &plan.payload(p, i));
    }

    #[test]
    fn the_original_topics_payloads_and_shares() {
        let plan = Plan::new("filter", 0, 7);
        assert_eq!(plan.filter(), "filter/+/+");
        assert_eq!(plan.topic(Publisher::Sync, 3), "filter/sync/3");
        assert_eq!(plan.payload(Publisher::Async, 2), b"Hello World! Async: 2");
        assert_eq!(plan.count(Publisher::Sync), 4);
        assert_eq!(plan.count(Publisher::Async), 3);
        let padded = Plan::new("filter", 30, 7).payload(Publisher::Sync, 1);
        assert_eq!(padded, b"Hello World! Sync: 1..........");
    }

    #[test]
    fn each_expected_message_counts_once() {
        let (plan, published, mut verdict) = started(4);
        for p in [Publisher::Sync, Publisher::Async] {
            for i in 0..2 {
                published.begin(p, i);
                arrive(&plan, &published, &mut verdict, p, i);
            }
        }
        arrive(&plan, &published, &mut verdict, Publisher::Sync, 1);
        assert_eq!((verdict.received, verdict.lost()), (4, 0));
        assert_eq!((verdict.duplicated, verdict.unexpected), (1, 0));
        assert_eq!(verdict.reordered, 0);
    }

    #[test]
    fn leftovers_and_strangers_are_unexpected() {
        let (plan, published, mut verdict) = started(4);
        arrive(&plan, &published, &mut verdict, Publisher::Sync, 0);
        published.begin(Publisher::Sync, 0);
        verdict.judge(&published, "filter/sync/0", b"Hello World! Sync: 1");
        verdict.judge(&published, "filter/sync/00", b"Hello World! Sync: 0");
        verdict.judge(&published, "filter/sync/9", b"Hello World! Sync: 9");
        verdict.judge(&published, "other", b"");
        assert_eq!((verdict.received, verdict.unexpected), (0, 5));
        arrive(&plan, &published, &mut verdict, Publisher::Sync, 0);
        assert_eq!((verdict.received, verdict.lost()), (1, 3));
    }

    #[test]
    fn order_is_judged_for_each_publisher_among_first_deliveries() {
        let (plan, published, mut verdict) = started(6);
        for i in 0..3 {
            published.begin(Publisher::Sync, i);
            published.begin(Publisher::Async, i);
        }
        for (p, i) in [
            (Publisher::Sync, 0),
            (Publisher::Async, 0),
            (Publisher::Sync, 2),
            (Publisher::Sync, 1),
            (Publisher::Async, 1),
            (Publisher::Sync, 0),
        ] {
            arrive(&plan, &published, &mut verdict, p, i);
        }
        assert_eq!((verdict.reordered, verdict.duplicated), (1, 1));
    }
}
