//! Rows 1, 2, 10 and 11: messages on their way into the inboxes, and the table of
//! subscriptions. The real queues and the real table, without a thread.

mod by_hand;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::prelude::*;

use super::{Acceptance, Fanout};
use crate::client::default_inbox::DefaultInbox;
use crate::client::inbox::Inbox;
use crate::client::inbox_error::InboxError;
use crate::client::lane::{LaneSender, UrgentLane, urgent_lane};
use crate::client::outlet::{Accept, InboxId, InboxPolicy, WhenFull};
use crate::client::waiter::tests::Task;
use crate::mqtt::packet::{Filter, Incoming, Message, QoS};
use crate::mqtt::session::DeliveryId;
use crate::mqtt::session::tests::Transcript;
use crate::mqtt::session::tests::packets::message;
use crate::mqtt::subscriptions::{Matches, Subscriptions};
use crate::mqtt::v4::decode;

const ME: InboxId = InboxId(1);
const OTHER: InboxId = InboxId(2);

/// After this time with something aside an inbox is slow.
const A_SECOND: Duration = Duration::from_secs(1);

/// The loop's end of the queues, and what the loop is told by them.
struct Queues {
    fanout: Fanout,
    unmatched: DefaultInbox,
    table: Subscriptions<InboxId>,
    waker: LaneSender,
    lane: UrgentLane,
    now: Instant,
}

impl Queues {
    fn new() -> Self {
        let (fanout, unmatched) = Fanout::new(1, None);
        let (waker, lane) = urgent_lane(Arc::default());
        Queues {
            fanout,
            unmatched,
            table: Subscriptions::default(),
            waker,
            lane,
            now: Instant::now(),
        }
    }

    /// An inbox of this size that is subscribed to `t`.
    fn subscribed(
        &mut self,
        id: InboxId,
        capacity: usize,
        policy: impl Into<InboxPolicy>,
    ) -> Inbox {
        let (inbox, outlet) = Inbox::new(id, capacity, policy.into(), self.waker.clone(), None);
        self.fanout.open(outlet);
        self.table.add(id, &[Filter::new("t", QoS::ExactlyOnce)]);
        inbox
    }

    fn deliver(&mut self, payload: &str, qos: QoS, delivery: Option<DeliveryId>) -> bool {
        let message = Arc::new(Message::new("t", qos, payload.to_owned()));
        let accepted = self
            .fanout
            .deliver(&self.table, &message, delivery, self.now);
        self.fanout.hand_over();
        accepted
    }

    /// The deliveries that every inbox has by now and had not before.
    fn retry(&mut self) -> Vec<DeliveryId> {
        let told = self.told();
        let complete = |acceptance| match acceptance {
            Acceptance::Complete(delivery) => delivery,
            Acceptance::Early(..) => panic!("{acceptance:?}"),
        };
        told.into_iter().map(complete).collect()
    }

    /// The news for the session.
    fn told(&mut self) -> Vec<Acceptance> {
        self.fanout.retry(self.now);
        std::iter::from_fn(|| self.fanout.poll()).collect()
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
fn an_inbox_with_something_aside_for_a_second_delays_nothing_until_nothing_is_aside() {
    let mut queues = Queues::new();
    let slow = queues.subscribed(ME, 1, WhenFull::WaitAside);
    let quick = queues.subscribed(OTHER, 9, WhenFull::WaitAside);
    let [first, second, third, fourth, fifth, sixth] = deliveries();
    assert!(queues.deliver("1", QoS::AtLeastOnce, Some(first)));
    assert_eq!(queues.fanout.next_timer(), None);
    assert!(!queues.deliver("2", QoS::AtLeastOnce, Some(second)));
    queues.now += A_SECOND / 2;
    assert!(!queues.deliver("3", QoS::ExactlyOnce, Some(third)));
    let due = queues.now + A_SECOND / 2;
    assert_eq!(queues.fanout.next_timer(), Some(due));
    assert_eq!(queues.told(), []);
    queues.now = due;
    assert_eq!(queues.fanout.fullest(), (Some(ME), 3));
    let early = |delivery| Acceptance::Early(delivery, 1);
    assert_eq!(queues.told(), [early(second), early(third)]);
    assert_eq!(queues.fanout.next_timer(), None);
    // From now on at once, also while the thread takes some.
    assert!(!queues.deliver("4", QoS::AtLeastOnce, Some(fourth)));
    assert_eq!(queues.told(), [early(fourth)]);
    assert_eq!(payload(&slow), "1");
    assert_eq!(queues.retry(), [second]);
    assert!(!queues.deliver("5", QoS::AtLeastOnce, Some(fifth)));
    assert_eq!(queues.told(), [early(fifth)]);
    for (number, accepted) in [("2", vec![third]), ("3", vec![fourth]), ("4", vec![fifth])] {
        assert_eq!(payload(&slow), number);
        assert_eq!(queues.retry(), accepted);
    }
    // Nothing is aside any more: it has a second again.
    assert!(!queues.deliver("6", QoS::AtLeastOnce, Some(sixth)));
    assert_eq!(queues.told(), []);
    assert_eq!(queues.fanout.next_timer(), Some(due + A_SECOND));
    assert_eq!((payload(&slow), queues.retry()), ("5".into(), vec![sixth]));
    assert_eq!(
        quick.try_recv().map(|m| m.payload().to_vec()),
        Ok(b"1".to_vec())
    );
    assert_eq!((slow.dropped(), quick.dropped()), (0, 0));
}

#[test]
fn a_message_counts_as_accepted_once_no_inbox_delays_it() {
    let mut queues = Queues::new();
    let slow = queues.subscribed(ME, 1, WhenFull::WaitAside);
    let [first, second, third, fourth] = deliveries();
    assert!(queues.deliver("1", QoS::AtLeastOnce, Some(first)));
    assert!(!queues.deliver("2", QoS::AtLeastOnce, Some(second)));
    queues.now += A_SECOND;
    assert_eq!(queues.told(), [Acceptance::Early(second, 1)]);
    // Another inbox has no room either, and may delay for a second.
    let other = queues.subscribed(OTHER, 1, WhenFull::WaitAside);
    assert!(!queues.deliver("3", QoS::AtLeastOnce, Some(third)));
    assert_eq!(
        queues.told(),
        [Acceptance::Early(third, 1)],
        "the other one has it"
    );
    assert!(!queues.deliver("4", QoS::AtLeastOnce, Some(fourth)));
    assert_eq!(queues.told(), []);
    assert_eq!(payload(&other), "3");
    assert_eq!(queues.told(), [Acceptance::Early(fourth, 1)]);
    // The slow one goes away, and with it what only it waited for.
    drop(slow);
    queues.fanout.close(ME);
    assert_eq!(queues.retry(), [second, third, fourth]);
}

#[test]
fn an_inbox_that_accepts_what_is_taken_delays_as_long_as_its_thread() {
    let mut queues = Queues::new();
    let taking = queues.subscribed(ME, 2, Accept::OnceTaken);
    let [first, second, third] = deliveries();
    assert!(!queues.deliver("1", QoS::AtLeastOnce, Some(first)));
    assert!(queues.deliver("zero", QoS::AtMostOnce, None));
    assert!(!queues.deliver("2", QoS::ExactlyOnce, Some(second)));
    assert!(!queues.deliver("3", QoS::AtLeastOnce, Some(third)));
    queues.now += 9 * A_SECOND;
    assert_eq!((queues.told(), queues.fanout.next_timer()), (vec![], None));
    assert_eq!(queues.wake_ups(), 0);
    assert_eq!(payload(&taking), "1");
    assert_eq!(queues.wake_ups(), 1, "each time");
    assert_eq!(queues.retry(), [first]);
    assert_eq!((payload(&taking), queues.wake_ups()), ("zero".into(), 1));
    assert_eq!(queues.retry(), []);
    assert_eq!(
        (payload(&taking), payload(&taking)),
        ("2".into(), "3".into())
    );
    assert_eq!(queues.retry(), [second, third]);
    // Dropped, it counts as having taken all.
    assert!(!queues.deliver("4", QoS::AtLeastOnce, Some(first)));
    drop(taking);
    queues.fanout.close(ME);
    assert_eq!(queues.retry(), [first]);
}

#[test]
fn after_the_end_the_inbox_gives_what_waited_aside_and_then_says_so() {
    for policy in [
        InboxPolicy::from(WhenFull::WaitAside),
        Accept::OnceTaken.into(),
    ] {
        let mut queues = Queues::new();
        let inbox = queues.subscribed(ME, 1, policy);
        for (number, delivery) in deliveries::<3>().into_iter().enumerate() {
            queues.deliver(&number.to_string(), QoS::AtLeastOnce, Some(delivery));
        }
        queues.fanout.tell_refused(ME, "t", queues.now);
        queues.now += A_SECOND;
        queues.told();
        drop(queues.fanout);
        for number in ["0", "1", "2"] {
            assert_eq!(payload(&inbox), number);
        }
        let refused = InboxError::SubscriptionRefused { filter: "t".into() };
        assert_eq!(inbox.recv(), Err(refused));
        for _ in 0..2 {
            assert_eq!(inbox.recv(), Err(InboxError::Closed));
            assert_eq!(inbox.try_recv(), Err(InboxError::Closed));
            assert_eq!(inbox.recv_timeout(A_SECOND), Err(InboxError::Closed));
        }
    }
}

/// One thing that happens to three inboxes.
#[derive(Debug, Clone)]
enum Step {
    Deliver,
    Take(usize),
    Wait(u64),
    Refuse(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Deliver),
        4 => (0..3_usize).prop_map(Step::Take),
        2 => (0..1_500_u64).prop_map(Step::Wait),
        1 => (0..3_usize).prop_map(Step::Refuse),
        1 => (0..3_usize).prop_map(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each inbox gets each message, once and in order, also after the end. A
    /// message is complete when every inbox has it and not before, and it counts as accepted at most once before.
    #[test]
    fn no_message_is_ever_dropped(
        steps in prop::collection::vec(step(), 1..200),
        once_taken in any::<bool>(),
    ) {
        let mut queues = Queues::new();
        let last = match once_taken {
            true => InboxPolicy::from(Accept::OnceTaken),
            false => WhenFull::WaitAside.into(),
        };
        let policies = [WhenFull::WaitAside.into(), WhenFull::WaitAside.into(), last];
        let mut inboxes: Vec<Option<Inbox>> = (1..).zip(policies).map(|(id, policy)| {
            Some(queues.subscribed(InboxId(id), id as usize, policy))
        }).collect();
        let mut due: Vec<VecDeque<String>> = vec![VecDeque::new(); 3];
        let ids = deliveries::<100>();
        let (mut open, mut early, mut sent) = (Vec::new(), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Deliver if sent < ids.len() => {
                    let text = sent.to_string();
                    if !queues.deliver(&text, QoS::AtLeastOnce, Some(ids[sent])) {
                        open.push(ids[sent]);
                    }
                    for (due, _) in due.iter_mut().zip(&inboxes).filter(|(_, i)| i.is_some()) {
                        due.push_back(text.clone());
                    }
                    sent += 1;
                }
                Step::Take(at) => if let Some(inbox) = &inboxes[at] {
                    check_next(inbox, &mut due[at])?;
                },
                Step::Wait(time) => queues.now += Duration::from_millis(time),
                Step::Refuse(at) => queues.fanout.tell_refused(InboxId(at as u64 + 1), "t", queues.now),
                Step::Drop(at) => if let Some(inbox) = inboxes[at].take() {
                    drop(inbox);
                    queues.fanout.close(InboxId(at as u64 + 1));
                    due[at].clear();
                },
                Step::Deliver => {}
            }
            for acceptance in queues.told() {
                match acceptance {
                    Acceptance::Complete(delivery) => {
                        let at = open.iter().position(|open| *open == delivery);
                        prop_assert!(at.is_some(), "{delivery:?} is complete twice");
                        open.remove(at.unwrap());
                    }
                    Acceptance::Early(delivery, _) => {
                        prop_assert!(open.contains(&delivery) && !early.contains(&delivery));
                        early.push(delivery);
                    }
                }
            }
        }
        drop(queues.fanout);
        for (inbox, due) in inboxes.iter().zip(&mut due) {
            if let Some(inbox) = inbox {
                while check_next(inbox, due)? {}
                prop_assert!(due.is_empty(), "{due:?} never came");
                prop_assert_eq!(inbox.dropped(), 0);
            }
        }
    }
}

/// Takes the next item; returns whether there was one.
fn check_next(inbox: &Inbox, due: &mut VecDeque<String>) -> Result<bool, TestCaseError> {
    match inbox.try_recv() {
        Ok(message) => {
            let expected = due.pop_front();
            let came = String::from_utf8_lossy(message.payload()).into_owned();
            prop_assert_eq!(Some(came), expected);
            Ok(true)
        }
        Err(InboxError::SubscriptionRefused { .. }) => Ok(true),
        Err(_) => Ok(false),
    }
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
fn what_comes_together_is_handed_over_together_and_wakes_a_task_once() {
    let mut queues = Queues::new();
    let inbox = queues.subscribed(ME, 70, WhenFull::WaitAside);
    let task = Arc::<Task>::default();
    let mut next = inbox.recv_async();
    assert!(task.poll(&mut next).is_pending());
    let mut deliver = |number: usize| {
        let message = Message::new("t", QoS::AtMostOnce, number.to_string());
        let fanout = &mut queues.fanout;
        assert!(fanout.deliver(&queues.table, &Arc::new(message), None, queues.now));
    };
    (0..30).for_each(&mut deliver);
    assert_eq!((inbox.waiting(), task.woken()), (0, 0));
    (30..50).for_each(&mut deliver);
    assert_eq!(inbox.waiting(), 33, "no more wait for the rest");
    assert_eq!(task.woken(), 1);
    // There is room for twenty of these.
    (50..80).for_each(&mut deliver);
    queues.fanout.hand_over();
    assert_eq!((inbox.waiting(), task.woken()), (70, 1));
    for number in 0..70 {
        assert_eq!(payload(&inbox), number.to_string());
    }
    assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
    assert_eq!(inbox.dropped(), 10);
}

/// Of QoS 0, so that a message that finds no room is dropped.
#[test]
fn a_thread_that_keeps_up_finds_what_comes_together_before_a_small_inbox_is_full_of_it() {
    for capacity in [1, 2, 3, 32] {
        let mut queues = Queues::new();
        let inbox = queues.subscribed(ME, capacity, WhenFull::WaitAside);
        let mut taken = 0;
        for number in 0..100 {
            let message = Message::new("t", QoS::AtMostOnce, number.to_string());
            let fanout = &mut queues.fanout;
            assert!(fanout.deliver(&queues.table, &Arc::new(message), None, queues.now));
            taken += std::iter::from_fn(|| inbox.try_recv().ok()).count();
        }
        queues.fanout.hand_over();
        assert_eq!(inbox.dropped(), 0, "room for {capacity}");
        assert_eq!(taken + inbox.waiting(), 100);
    }
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
    queues.fanout.close(OTHER);
    assert_eq!(queues.retry(), [second]);
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
