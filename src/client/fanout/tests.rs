//! Rows 1, 2, 10 and 11: messages on their way into the inboxes, and the table of
//! subscriptions. The real queues and the real table, without a thread.

use std::sync::Arc;

use bytes::BytesMut;
use crossbeam_channel::Receiver;

use super::Fanout;
use crate::client::inbox::{Inbox, InboxError};
use crate::client::lane::{LaneSender, UrgentLane, urgent_lane};
use crate::client::outlet::{InboxId, WhenFull};
use crate::mqtt::packet::{Filter, Incoming, Message, QoS};
use crate::mqtt::session::DeliveryId;
use crate::mqtt::session::tests::Transcript;
use crate::mqtt::session::tests::packets::message;
use crate::mqtt::subscriptions::{Matches, Subscriptions};
use crate::mqtt::v4::decode;

const ME: InboxId = InboxId(1);
const OTHER: InboxId = InboxId(2);

const MAX_OWED_BYTES: usize = 10_000;

/// The loop's end of the queues, and what the loop is told by them.
struct Queues {
    fanout: Fanout,
    unmatched: Receiver<Arc<Message>>,
    table: Subscriptions<InboxId>,
    waker: LaneSender,
    lane: UrgentLane,
}

impl Queues {
    fn new() -> Self {
        let (fanout, unmatched) = Fanout::new(1, MAX_OWED_BYTES);
        let (waker, lane) = urgent_lane(Arc::default());
        Queues {
            fanout,
            unmatched,
            table: Subscriptions::default(),
            waker,
            lane,
        }
    }

    /// An inbox of this size that is subscribed to `t`.
    fn subscribed(&mut self, id: InboxId, capacity: usize, when_full: WhenFull) -> Inbox {
        let (inbox, outlet) = Inbox::new(id, capacity, when_full, self.waker.clone());
        self.fanout.open(outlet);
        self.table.add(id, &[Filter::new("t", QoS::ExactlyOnce)]);
        inbox
    }

    fn deliver(&mut self, payload: &str, qos: QoS, delivery: Option<DeliveryId>) -> bool {
        let message = Arc::new(Message::new("t", qos, payload.to_owned()));
        self.fanout.deliver(&self.table, &message, delivery)
    }

    fn retry(&mut self) -> Vec<DeliveryId> {
        let mut accepted = Vec::new();
        self.fanout.retry(&mut accepted);
        accepted
    }

    /// How often the loop was woken.
    fn wake_ups(&self) -> usize {
        usize::from(self.lane.take_process_loop())
    }
}

/// Names for deliveries, as the session gives them.
fn deliveries<const N: usize>() -> [DeliveryId; N] {
    let mut t = Transcript::connected();
    std::array::from_fn(|n| {
        t.receives(message(n as u16 + 1, 1, "x"));
        t.delivers("t \"x\"").unwrap()
    })
}

#[test]
fn what_waits_aside_is_bounded_also_over_lost_sessions() {
    let mut queues = Queues::new();
    let inbox = queues.subscribed(ME, 1, WhenFull::WaitAside);
    let [first, second] = deliveries();
    assert!(queues.deliver("in the queue", QoS::AtLeastOnce, None));
    assert!(!queues.deliver("oldest", QoS::AtLeastOnce, Some(first)));
    assert!(!queues.deliver("next", QoS::AtLeastOnce, Some(second)));
    // Each lost session lets the broker's window begin anew.
    for _ in 2..65_535 {
        queues.deliver("more", QoS::AtLeastOnce, None);
    }
    assert_eq!((queues.retry(), inbox.dropped()), (vec![], 0));
    queues.fanout.tell_refused(ME, "t");
    queues.deliver("one too many", QoS::AtLeastOnce, None);
    assert_eq!((queues.retry(), inbox.dropped()), (vec![first, second], 2));
    assert_eq!(payload(&inbox), "in the queue");
    queues.retry();
    assert_eq!(payload(&inbox), "more");
}

#[test]
fn the_bytes_of_what_waits_aside_are_bounded_also_over_lost_sessions() {
    let mut queues = Queues::new();
    let slow = queues.subscribed(ME, 1, WhenFull::WaitAside);
    let slower = queues.subscribed(OTHER, 1, WhenFull::WaitAside);
    assert!(queues.deliver("1", QoS::AtLeastOnce, None));
    assert!(queues.deliver("2", QoS::AtMostOnce, None));
    let large = |digit: &str| digit.repeat(MAX_OWED_BYTES / 4 - 1);
    let deliveries = deliveries::<7>();
    for (digit, delivery) in ["a", "b", "c", "d"].into_iter().zip(deliveries) {
        assert!(!queues.deliver(&large(digit), QoS::ExactlyOnce, Some(delivery)));
    }
    assert_eq!((queues.retry(), slow.dropped()), (vec![], 1), "it fits");
    // Accepted by one queue, it is kept for the other and counts no less.
    assert_eq!(payload(&slow), "1");
    assert_eq!((queues.retry(), payload(&slow)), (vec![], large("a")));
    // The broker has lost the session and begins anew.
    assert!(!queues.deliver(&large("e"), QoS::AtLeastOnce, Some(deliveries[4])));
    assert_eq!(queues.retry(), [deliveries[0]]);
    assert_eq!((slow.dropped(), slower.dropped()), (1, 2));
    queues.fanout.tell_refused(OTHER, "t");
    assert!(!queues.deliver("f", QoS::AtLeastOnce, Some(deliveries[5])));
    assert_eq!(queues.retry(), [deliveries[1]]);
    // One alone may be larger than the bound, whatever that costs the others.
    let huge = "g".repeat(MAX_OWED_BYTES);
    assert!(!queues.deliver(&huge, QoS::AtLeastOnce, Some(deliveries[6])));
    assert_eq!(queues.retry(), deliveries[2..6]);
    assert_eq!(payload(&slower), "1");
    queues.retry();
    assert_eq!(
        slower.try_recv(),
        Err(InboxError::SubscriptionRefused { filter: "t".into() })
    );
    assert_eq!(queues.retry(), []);
    assert!(payload(&slower) == huge);
    assert!(payload(&slow) == large("b"), "it was in the queue already");
    assert_eq!(queues.retry(), [deliveries[6]]);
    assert!(payload(&slow) == huge);
    assert_eq!((slow.dropped(), slower.dropped()), (5, 7));
}

fn payload(inbox: &Inbox) -> String {
    let message = inbox.try_recv().unwrap();
    String::from_utf8(message.payload().to_vec()).unwrap()
}

/// PUBLISH with QoS 0 to the topic, as bytes.
fn publish_bytes(topic: &str, payload: &str) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut publish = crate::mqtt::packet::Publish::new(topic, QoS::AtMostOnce, payload.to_owned());
    crate::mqtt::v4::encode_publish(&mut publish, None, false, &mut String::new(), &mut bytes);
    bytes
}

#[test]
fn row_01_long_topics_and_payloads_arrive_whole() {
    let (topic, body) = ("t/".repeat(20_000), "x".repeat(200_000));
    let decoded = decode(&mut publish_bytes(&topic, &body), 256 * 1024);
    let Ok(Some(packet @ Incoming::Publish { .. })) = decoded else {
        panic!("{decoded:?}");
    };
    let mut t = Transcript::connected();
    t.receives(packet);
    t.delivers(&format!("{topic} {body:?}"));
    let mut queues = Queues::new();
    let inbox = queues.subscribed(ME, 1, WhenFull::WaitAside);
    assert!(queues.deliver(&body, QoS::AtMostOnce, None));
    assert_eq!(payload(&inbox), body);
}

#[test]
fn row_01_a_packet_above_the_limit_is_refused_on_its_first_bytes() {
    let mut bytes = publish_bytes("t", &"x".repeat(1024));
    assert!(decode(&mut bytes.clone(), 1024).is_err());
    bytes.truncate(3);
    let error = decode(&mut bytes, 1024).unwrap_err();
    assert_eq!(error.rule(), "max-packet-size");
}

#[test]
fn row_02_a_full_queue_keeps_messages_aside_in_order_and_unacknowledged() {
    let mut queues = Queues::new();
    let inbox = queues.subscribed(ME, 1, WhenFull::WaitAside);
    let [first, second, third] = deliveries();
    assert!(queues.deliver("1", QoS::AtLeastOnce, Some(first)));
    assert!(!queues.deliver("2", QoS::AtLeastOnce, Some(second)));
    assert!(!queues.deliver("3", QoS::ExactlyOnce, Some(third)));
    assert!(queues.deliver("4", QoS::AtMostOnce, None), "dropped");
    assert_eq!(inbox.dropped(), 1);
    assert_eq!(queues.retry(), []);
    assert_eq!(queues.wake_ups(), 0);
    assert_eq!(payload(&inbox), "1");
    assert_eq!(queues.wake_ups(), 1, "whoever makes room says so");
    assert_eq!(queues.retry(), [second]);
    assert_eq!(payload(&inbox), "2");
    assert_eq!(queues.retry(), [third]);
    assert_eq!(payload(&inbox), "3");
    assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
}

#[test]
fn row_02_one_slow_queue_does_not_keep_a_message_from_the_others() {
    let mut queues = Queues::new();
    let slow = queues.subscribed(ME, 1, WhenFull::WaitAside);
    let fast = queues.subscribed(OTHER, 9, WhenFull::WaitAside);
    let [first, second] = deliveries();
    assert!(queues.deliver("1", QoS::AtLeastOnce, Some(first)));
    assert!(!queues.deliver("2", QoS::AtLeastOnce, Some(second)));
    assert_eq!((payload(&fast), payload(&fast)), ("1".into(), "2".into()));
    assert_eq!(queues.retry(), [], "one has not accepted it");
    assert_eq!(payload(&slow), "1");
    assert_eq!(queues.retry(), [second]);
}

#[test]
fn row_02_a_queue_that_went_away_accepts_what_waited_for_it() {
    let mut queues = Queues::new();
    drop(queues.subscribed(ME, 1, WhenFull::WaitAside));
    let [first, second] = deliveries();
    assert!(queues.deliver("1", QoS::AtLeastOnce, Some(first)));
    let inbox = queues.subscribed(OTHER, 1, WhenFull::WaitAside);
    queues.deliver("2", QoS::AtLeastOnce, Some(first));
    assert!(!queues.deliver("3", QoS::AtLeastOnce, Some(second)));
    drop(inbox);
    let mut accepted = Vec::new();
    queues.fanout.close(OTHER, &mut accepted);
    assert_eq!(accepted, [second]);
}

#[test]
fn row_02_the_other_policies_drop_and_count() {
    for (policy, left) in [(WhenFull::DropOldest, "3"), (WhenFull::DropNewest, "1")] {
        let mut queues = Queues::new();
        let inbox = queues.subscribed(ME, 1, policy);
        for (text, delivery) in ["1", "2", "3"].into_iter().zip(deliveries::<3>()) {
            assert!(queues.deliver(text, QoS::AtLeastOnce, Some(delivery)));
        }
        assert_eq!((payload(&inbox).as_str(), inbox.dropped()), (left, 2));
    }
}

#[test]
fn row_02_unmatched_messages_are_bounded_dropped_and_counted() {
    let mut queues = Queues::new();
    for (text, delivery) in ["1", "2", "3"].into_iter().zip(deliveries::<3>()) {
        assert!(queues.deliver(text, QoS::AtLeastOnce, Some(delivery)));
    }
    assert_eq!(queues.fanout.unmatched_dropped(), 2);
    assert_eq!(queues.unmatched.try_recv().unwrap().payload(), b"1");
}

#[test]
fn row_10_unsubscribe_goes_on_the_wire_when_the_last_one_leaves() {
    let mut queues = Queues::new();
    let mine = queues.subscribed(ME, 9, WhenFull::WaitAside);
    let others = queues.subscribed(OTHER, 9, WhenFull::WaitAside);
    let mut t = Transcript::subscribed(&[("t", 2)]);
    let leave = |queues: &mut Queues, inbox, t: &mut Transcript| {
        let (unwanted, leaving) = queues.table.leave(inbox, &["t".to_owned()]);
        queues.table.remove(&leaving);
        if !unwanted.is_empty() {
            let names: Vec<_> = unwanted.iter().map(String::as_str).collect();
            t.unsubscribe(&names);
        }
    };
    leave(&mut queues, ME, &mut t);
    t.silent();
    queues.deliver("x", QoS::AtMostOnce, None);
    assert_eq!(mine.try_recv(), Err(InboxError::Timeout));
    assert_eq!(payload(&others), "x");
    leave(&mut queues, OTHER, &mut t);
    t.sends("UNSUBSCRIBE id=2 t").finish();
}

/// The loop compares this count with the limit before anything is sent.
#[test]
fn row_11_every_interest_counts_and_none_goes_unrecorded() {
    let mut table = Subscriptions::default();
    let filters = ["a", "b", "a"].map(|name| Filter::new(name, QoS::AtLeastOnce));
    let (_, added) = table.add(ME, &filters);
    assert_eq!((table.len(), added.len()), (3, 3));
    let (_, refused) = table.add(OTHER, &filters[..1]);
    assert_eq!(table.len(), 4);
    table.remove(&refused);
    assert_eq!(table.len(), 3);
    let mut matches = Matches::default();
    for topic in ["a", "b"] {
        table.matching(topic, &mut matches);
        assert_eq!(matches.subscribers, [ME]);
    }
    table.remove(&added);
    assert_eq!(table.len(), 0);
}
