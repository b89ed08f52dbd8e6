//! The account of a storm (`storm.rs`). It holds, for each message of a round, the outcome that its
//! publisher was given and the subscribers that saw it, and it finds where the two contradict each
//! other. One atomic byte a message, written from every thread.
//!
//! Of ten messages of a publisher eight have QoS 1, one QoS 0 and one QoS 2, by their index. The checks:
//!
//! - all: a message has one outcome. Nobody has seen a message that ended as never sent or cancelled.
//!   The first receptions of a subscriber are in their publisher's order, each QoS for itself;
//! - QoS 1: both subscribers have seen each delivered message, once or more;
//! - QoS 0: nobody has seen a message twice; it may be missing;
//! - QoS 1 and 2: each message ends as delivered, unless TERMINATE was first. One exception: QoS 2
//!   messages in flight when the broker has lost the session end as perhaps delivered, which is the
//!   truth about them;
//! - QoS 2: as QoS 1, and the broker passed each message on once. The witness checks this: it is a
//!   client of the test itself whose link nobody cuts, so a message that it sees twice was published
//!   twice. Repetitions that a subscriber behind the cuts sees are only counted: Mosquitto 2.0 may send
//!   a PUBLISH anew after PUBREL, and no client can tell that from a new message.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::{Outcome, Reason};

/// Publisher threads.
pub const PUBLISHERS: usize = 8;

/// A client that sees messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscriber {
    Fast,
    Slow,
    /// Sees QoS 2 only, and is not behind the proxy.
    Witness,
}

const SUBMITTED: u8 = 1;
const DELIVERED: u8 = 1 << 1;
const PERHAPS: u8 = 1 << 2;
const NOT_SENT: u8 = 1 << 3;
const SEEN_FAST: u8 = 1 << 4;
const SEEN_SLOW: u8 = 1 << 5;
const SEEN_WITNESS: u8 = 1 << 6;
/// Set from the beginning, so that the system has given the memory before it is measured.
const UNTOUCHED: u8 = 1 << 7;

const RESOLVED: u8 = DELIVERED | PERHAPS | NOT_SENT;
const SEEN_BOTH: u8 = SEEN_FAST | SEEN_SLOW;
const SEEN: u8 = SEEN_BOTH | SEEN_WITNESS;

/// The last message that a subscriber saw of each publisher and QoS, as round and index: the next one
/// must be later.
pub type Last = [[Option<(u64, u64)>; 3]; PUBLISHERS];

pub fn qos(index: u64) -> QoS {
    match index % 10 {
        3 => QoS::AtMostOnce,
        7 => QoS::ExactlyOnce,
        _ => QoS::AtLeastOnce,
    }
}

/// How many messages there are when this many of them have QoS 1.
pub fn all_with(of_qos_1: u64) -> u64 {
    let is_one = |index: &u64| qos(*index) == QoS::AtLeastOnce;
    let last = (0..)
        .filter(is_one)
        .nth(usize::try_from(of_qos_1 - 1).expect("a count"));
    last.map_or(0, |last| last + 1)
}

/// Messages by their QoS.
#[derive(Default)]
pub struct ByQos([AtomicU64; 3]);

impl ByQos {
    pub fn of(&self, qos: QoS) -> u64 {
        self.0[qos as usize].load(Ordering::SeqCst)
    }

    fn count(&self, qos: QoS) {
        count(&self.0[qos as usize]);
    }
}

pub struct Account {
    per_publisher: u64,
    /// The most bytes of a payload's filler; one message in [`LARGE_ONE_IN`] has so much room.
    largest: u64,
    round: AtomicU64,
    messages: Vec<AtomicU8>,
    /// Counts of this round.
    submitted: AtomicU64,
    delivered_now: AtomicU64,
    seen_now: [AtomicU64; 2],
    /// Counts of all rounds.
    pub delivered: ByQos,
    /// First receptions by the fast subscriber.
    pub arrived: ByQos,
    seen: [AtomicU64; 2],
    /// Messages of QoS 1 and 2 that ended as not delivered.
    failed: AtomicU64,
    /// Messages of QoS 2 that ended as perhaps delivered because the broker has lost the session.
    with_session: AtomicU64,
    unresolved: AtomicU64,
    untrue: AtomicU64,
    reordered: AtomicU64,
    pub repeated: ByQos,
}

impl Account {
    /// An account for rounds of this many messages of each publisher; some payloads have up to `largest`
    /// bytes.
    pub fn new(per_publisher: u64, largest: u64) -> Account {
        let all = PUBLISHERS as u64 * per_publisher;
        Account {
            per_publisher,
            largest,
            round: AtomicU64::default(),
            messages: (0..all).map(|_| AtomicU8::new(UNTOUCHED)).collect(),
            submitted: AtomicU64::default(),
            delivered_now: AtomicU64::default(),
            seen_now: Default::default(),
            delivered: ByQos::default(),
            arrived: ByQos::default(),
            seen: Default::default(),
            failed: AtomicU64::default(),
            with_session: AtomicU64::default(),
            unresolved: AtomicU64::default(),
            untrue: AtomicU64::default(),
            reordered: AtomicU64::default(),
            repeated: ByQos::default(),
        }
    }

    /// Begins a round, of which nothing has been submitted. Nothing may be under way now but duplicates.
    pub fn begin_round(&self, round: u64) {
        for message in &self.messages {
            message.store(UNTOUCHED, Ordering::SeqCst);
        }
        for counter in [&self.submitted, &self.delivered_now] {
            counter.store(0, Ordering::SeqCst);
        }
        for counter in &self.seen_now {
            counter.store(0, Ordering::SeqCst);
        }
        self.round.store(round, Ordering::SeqCst);
    }

    /// Enters that this message is about to be handed in.
    pub fn submit(&self, publisher: usize, index: u64) {
        self.message(publisher, index)
            .fetch_or(SUBMITTED, Ordering::SeqCst);
        count(&self.submitted);
    }

    /// Enters the outcome that the publisher was given.
    pub fn resolve(&self, publisher: usize, index: u64, outcome: &Outcome) {
        let kind = match outcome {
            Outcome::Delivered { .. } => DELIVERED,
            Outcome::PerhapsDelivered(_) => PERHAPS,
            _ => NOT_SENT,
        };
        let before = self
            .message(publisher, index)
            .fetch_or(kind, Ordering::SeqCst);
        if before & RESOLVED != 0 || before & SUBMITTED == 0 {
            count(&self.untrue);
        }
        let qos = qos(index);
        if kind == DELIVERED {
            self.delivered.count(qos);
        }
        // A lost link may cost QoS 0. A message of QoS 0 counts as delivered once it was written.
        if qos != QoS::AtMostOnce {
            let with_session = Outcome::PerhapsDelivered(Reason::SessionLost);
            count(match kind {
                DELIVERED => &self.delivered_now,
                PERHAPS if qos == QoS::ExactlyOnce && *outcome == with_session => {
                    &self.with_session
                }
                _ => &self.failed,
            });
        }
    }

    /// Enters that the message was handed back because the loop had ended.
    pub fn hand_back(&self, publisher: usize, index: u64) {
        let reason = Reason::Terminated;
        self.resolve(publisher, index, &Outcome::Cancelled(reason));
    }

    /// Enters that this subscriber received a message.
    pub fn see(&self, who: Subscriber, topic: &str, payload: &[u8], last: &mut Last) {
        let Some((publisher, round, index)) = self.recognise(topic, payload) else {
            count(&self.untrue);
            return;
        };
        let now = self.round.load(Ordering::SeqCst);
        if round > now {
            count(&self.untrue);
            return;
        }
        let qos = qos(index);
        let again = || match (who, qos) {
            (Subscriber::Witness, _) | (_, QoS::AtMostOnce) => count(&self.untrue),
            _ => self.repeated.count(qos),
        };
        if round < now {
            // Everybody saw all of an earlier round before that round ended, except QoS 0, which nobody
            // waits for.
            if qos != QoS::AtMostOnce {
                again();
            }
            return;
        }
        let bit = match who {
            Subscriber::Fast => SEEN_FAST,
            Subscriber::Slow => SEEN_SLOW,
            Subscriber::Witness => SEEN_WITNESS,
        };
        let before = self
            .message(publisher, index)
            .fetch_or(bit, Ordering::SeqCst);
        if before & SUBMITTED == 0 || before & NOT_SENT != 0 {
            count(&self.untrue);
        } else if before & bit != 0 {
            again();
        } else {
            let last = &mut last[publisher][qos as usize];
            if *last > Some((round, index)) {
                count(&self.reordered);
            }
            *last = Some((round, index));
            if who == Subscriber::Fast {
                self.arrived.count(qos);
            }
            if qos != QoS::AtMostOnce && who != Subscriber::Witness {
                count(&self.seen_now[who as usize]);
                count(&self.seen[who as usize]);
            }
        }
    }

    /// Whether everybody has seen each delivered message of this round, and no more is to come. Messages
    /// of QoS 0 do not count.
    pub fn all_delivered_seen(&self) -> bool {
        self.backlog() == 0 && self.missing() == 0
    }

    /// At least so many messages of this round are with the broker and have not reached both
    /// subscribers.
    pub fn backlog(&self) -> u64 {
        let delivered = self.delivered_now.load(Ordering::SeqCst);
        delivered.saturating_sub(self.seen_by_fewest(&self.seen_now))
    }

    /// Delivered messages of this round that some subscriber should have seen and has not.
    pub fn missing(&self) -> u64 {
        let missed = |(index, state): &(u64, &AtomicU8)| {
            let state = state.load(Ordering::SeqCst);
            let due = match qos(index % self.per_publisher) {
                QoS::AtMostOnce => 0,
                QoS::AtLeastOnce => SEEN_BOTH,
                QoS::ExactlyOnce => SEEN,
            };
            state & DELIVERED != 0 && state & due != due
        };
        (0..).zip(&self.messages).filter(missed).count() as u64
    }

    /// Settles the round: each submitted message must have an outcome, and a true one.
    pub fn end_round(&self) {
        for message in &self.messages {
            let state = message.load(Ordering::SeqCst);
            if state & SUBMITTED == 0 || state & RESOLVED == 0 {
                count(&self.unresolved);
            }
            if state & NOT_SENT != 0 && state & SEEN != 0 {
                count(&self.untrue);
            }
        }
    }

    pub fn in_a_round(&self) -> [u64; 3] {
        let mut count = [0; 3];
        for index in 0..self.per_publisher {
            count[qos(index) as usize] += PUBLISHERS as u64;
        }
        count
    }

    /// The payload of this message: its number, and a filler whose length depends on the number.
    pub fn payload(&self, publisher: usize, index: u64) -> Vec<u8> {
        payload(
            self.largest,
            publisher,
            self.round.load(Ordering::SeqCst),
            index,
        )
    }

    /// Messages handed in, in this round.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::SeqCst)
    }

    pub fn round(&self) -> u64 {
        self.round.load(Ordering::SeqCst)
    }

    pub fn seen_by_both(&self) -> u64 {
        self.seen_by_fewest(&self.seen)
    }

    /// Grows whenever a message of QoS 1 or 2 is acknowledged, or has been seen by both subscribers.
    pub fn progress(&self) -> u64 {
        let of = |qos| self.delivered.of(qos);
        of(QoS::AtLeastOnce) + of(QoS::ExactlyOnce) + self.seen_by_both()
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    pub fn with_session(&self) -> u64 {
        self.with_session.load(Ordering::SeqCst)
    }

    pub fn unresolved(&self) -> u64 {
        self.unresolved.load(Ordering::SeqCst)
    }

    pub fn untrue(&self) -> u64 {
        self.untrue.load(Ordering::SeqCst)
    }

    pub fn reordered(&self) -> u64 {
        self.reordered.load(Ordering::SeqCst)
    }

    fn message(&self, publisher: usize, index: u64) -> &AtomicU8 {
        let at = publisher as u64 * self.per_publisher + index;
        &self.messages[usize::try_from(at).expect("an index")]
    }

    /// Publisher, round and index of a message; `None` if no publisher sends such a message.
    fn recognise(&self, topic: &str, bytes: &[u8]) -> Option<(usize, u64, u64)> {
        let (publisher, level) = topic.strip_prefix("storm/")?.split_once('/')?;
        let publisher = publisher.parse().ok()?;
        let mut words = std::str::from_utf8(bytes).ok()?.splitn(3, ' ');
        let round = words.next()?.parse().ok()?;
        let index = words.next()?.parse().ok()?;
        let level: u64 = level.parse().ok()?;
        let known =
            publisher < PUBLISHERS && index < self.per_publisher && level == qos(index) as u64;
        (known && bytes == payload(self.largest, publisher, round, index))
            .then_some((publisher, round, index))
    }

    fn seen_by_fewest(&self, seen: &[AtomicU64; 2]) -> u64 {
        let [fast, slow] = seen;
        fast.load(Ordering::SeqCst).min(slow.load(Ordering::SeqCst))
    }
}

/// A small payload has fewer letters than this.
const SMALL: u64 = 97;

/// Enough for two numbers and 96 letters.
const ROOM: usize = 160;

/// One message in so many may be as large as the storm's largest.
const LARGE_ONE_IN: u64 = 12;

fn payload(largest: u64, publisher: usize, round: u64, index: u64) -> Vec<u8> {
    let number = index.wrapping_mul(31) + round + publisher as u64;
    let more = match (index + publisher as u64) % LARGE_ONE_IN {
        0 if largest > SMALL => number.wrapping_mul(7_919) % largest,
        _ => number % SMALL,
    };
    let filler = b'a' + u8::try_from(more % 26).unwrap_or(0);
    // All small payloads allocate the same size, so that the measured memory does not depend on how pieces of
    // many sizes are scattered.
    let mut bytes = Vec::with_capacity(ROOM);
    bytes.extend_from_slice(format!("{round} {index} ").as_bytes());
    bytes.extend(std::iter::repeat_n(filler, more as usize));
    bytes
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}
