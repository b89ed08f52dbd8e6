//! Messages that their threads acknowledge: the real queues and guards, without a thread.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{A_SECOND, ME, OTHER, Queues, deliveries, payload};
use crate::client::by_hand::Unacknowledged;
use crate::client::fanout::Acceptance;
use crate::client::inbox::Inbox;
use crate::client::inbox_error::InboxError;
use crate::client::outlet::{ByHand, InboxId, WhenFull};
use crate::mqtt::packet::{Filter, Message, QoS};
use crate::mqtt::session::DeliveryId;

type HandInbox = Inbox<Unacknowledged>;

impl Queues {
    /// An inbox of this size that accepts by hand and is subscribed to `t`.
    fn by_hand(&mut self, id: InboxId, capacity: usize) -> HandInbox {
        let by_hand = ByHand { told_after: 2 };
        let (inbox, outlet) = Inbox::by_hand(id, capacity, by_hand, self.waker.clone(), None);
        self.fanout.open(outlet);
        self.table.add(id, &[Filter::new("t", QoS::ExactlyOnce)]);
        self.fanout.offer_held(&self.table, self.now);
        inbox
    }

    /// The inbox was dropped. Returns how many of its messages are not done.
    fn close(&mut self, id: InboxId) -> usize {
        self.hear();
        let undone = self.fanout.close(id);
        self.table.remove_subscriber(id);
        undone
    }

    /// The loop hears of the messages that threads had. Returns how often each one that is told was dropped undone.
    fn hear(&mut self) -> Vec<u32> {
        let ends: Vec<_> = self.lane.take_hand_ends().collect();
        let told = ends.into_iter().filter_map(|end| self.fanout.end_hand(end));
        told.map(|(_, times)| times).collect()
    }

    /// The deliveries that count as accepted by now and did not before.
    fn accepted(&mut self) -> Vec<DeliveryId> {
        self.hear();
        self.retry()
    }
}

fn take(inbox: &HandInbox) -> Unacknowledged {
    inbox.try_recv().unwrap()
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload().to_vec()).unwrap()
}

#[test]
fn a_message_is_accepted_when_it_is_done_and_in_any_order() {
    let mut queues = Queues::new();
    let inbox = queues.by_hand(ME, 2);
    let [first, second, third] = deliveries();
    for (number, delivery) in ["1", "2", "3"].iter().zip([first, second, third]) {
        assert!(!queues.deliver(number, QoS::AtLeastOnce, Some(delivery)));
    }
    queues.now += 9 * A_SECOND;
    assert_eq!((queues.told(), queues.fanout.next_timer()), (vec![], None));
    let (one, two) = (take(&inbox), take(&inbox));
    assert_eq!((text(&one), text(&two)), ("1".into(), "2".into()));
    assert_eq!(queues.wake_ups(), 1, "the third one waits for room");
    assert_eq!(queues.accepted(), []);
    assert_eq!(queues.fanout.fullest(), (Some(ME), 3));
    two.done();
    assert_eq!(queues.wake_ups(), 1);
    assert_eq!(queues.accepted(), [second]);
    let three = take(&inbox);
    three.done();
    one.done();
    assert_eq!(queues.accepted(), [third, first]);
    assert_eq!(queues.fanout.waiting(), 0);
}

#[test]
fn a_message_that_is_dropped_undone_comes_again_before_those_that_wait_aside() {
    let mut queues = Queues::new();
    let inbox = queues.by_hand(ME, 1);
    let [first, second, third] = deliveries();
    queues.deliver("1", QoS::AtLeastOnce, Some(first));
    queues.deliver("2", QoS::ExactlyOnce, Some(second));
    queues.deliver("3", QoS::AtLeastOnce, Some(third));
    let one = take(&inbox);
    assert_eq!(queues.accepted(), [], "and the second one has room now");
    drop(one);
    assert_eq!(queues.accepted(), []);
    let two = take(&inbox);
    assert_eq!((text(&two).as_str(), two.attempts()), ("2", 1));
    assert_eq!(queues.accepted(), []);
    // Told after two times, and after four.
    for (attempts, told) in [
        (2, vec![2]),
        (3, vec![]),
        (4, vec![4]),
        (5, vec![]),
        (6, vec![]),
    ] {
        let one = take(&inbox);
        assert_eq!((text(&one).as_str(), one.attempts()), ("1", attempts));
        drop(one);
        assert_eq!(queues.hear(), told, "{attempts}");
    }
    take(&inbox).done();
    two.done();
    assert_eq!(queues.accepted(), [first, second]);
    let three = take(&inbox);
    assert_eq!((text(&three).as_str(), three.attempts()), ("3", 1));
    three.done();
    assert_eq!(queues.accepted(), [third]);
    assert_eq!(inbox.dropped(), 0);
}

#[test]
fn a_message_for_several_inboxes_is_accepted_when_all_have_accepted_it() {
    let mut queues = Queues::new();
    let inbox = queues.by_hand(ME, 9);
    let other = queues.by_hand(OTHER, 9);
    let quick = queues.subscribed(InboxId(3), 9, WhenFull::WaitAside);
    let [first, second] = deliveries();
    assert!(!queues.deliver("1", QoS::AtLeastOnce, Some(first)));
    assert!(!queues.deliver("2", QoS::AtLeastOnce, Some(second)));
    assert_eq!((payload(&quick), payload(&quick)), ("1".into(), "2".into()));
    take(&inbox).done();
    assert_eq!(queues.accepted(), []);
    let one = take(&other);
    take(&other).done();
    assert_eq!(queues.accepted(), []);
    take(&inbox).done();
    assert_eq!(queues.accepted(), [second]);
    one.done();
    assert_eq!(queues.accepted(), [first]);
}

#[test]
fn a_slow_inbox_does_not_make_a_message_accepted_that_is_not_done() {
    let mut queues = Queues::new();
    let slow = queues.subscribed(OTHER, 1, WhenFull::WaitAside);
    let inbox = queues.by_hand(ME, 9);
    let [first, second] = deliveries();
    queues.deliver("1", QoS::AtLeastOnce, Some(first));
    queues.deliver("2", QoS::AtLeastOnce, Some(second));
    queues.now += 2 * A_SECOND;
    assert_eq!(queues.told(), []);
    take(&inbox).done();
    assert_eq!(queues.accepted(), [first]);
    take(&inbox).done();
    queues.hear();
    assert_eq!(queues.told(), [Acceptance::Early(second, 1)]);
    assert_eq!(payload(&slow), "1");
    assert_eq!(queues.accepted(), [second]);
}

#[test]
fn qos_0_has_nothing_to_acknowledge_and_comes_once() {
    let mut queues = Queues::new();
    let inbox = queues.by_hand(ME, 1);
    for is_done in [true, false] {
        assert!(queues.deliver("0", QoS::AtMostOnce, None));
        let zero = take(&inbox);
        assert_eq!(zero.attempts(), 1);
        if is_done {
            zero.done();
        }
        assert_eq!((queues.wake_ups(), queues.accepted()), (0, vec![]));
        assert_eq!(inbox.try_recv().map(drop), Err(InboxError::Timeout));
    }
}

#[test]
fn what_a_dropped_inbox_had_waits_for_one_that_is_opened_later() {
    let mut queues = Queues::new();
    let older = queues.subscribed(OTHER, 9, WhenFull::WaitAside);
    let inbox = queues.by_hand(ME, 2);
    let ids = deliveries::<4>();
    for (number, delivery) in ["1", "2", "3", "4"].iter().zip(ids) {
        queues.deliver(number, QoS::AtLeastOnce, Some(delivery));
    }
    take(&inbox).done();
    let two = take(&inbox);
    assert_eq!(queues.accepted(), [ids[0]]);
    drop((two, inbox));
    assert_eq!(queues.close(ME), 3);
    assert_eq!(queues.accepted(), []);
    assert_eq!(queues.fanout.fullest(), (None, 3));
    // One that was there before has them already.
    queues
        .table
        .add(OTHER, &[Filter::new("#", QoS::ExactlyOnce)]);
    queues.fanout.offer_held(&queues.table, queues.now);
    assert_eq!((queues.accepted(), queues.fanout.fullest().1), (vec![], 3));
    let heirs = [InboxId(7), InboxId(8)].map(|id| queues.by_hand(id, 2));
    let two = take(&heirs[0]);
    assert_eq!((text(&two).as_str(), two.attempts()), ("2", 2));
    two.done();
    assert_eq!(queues.accepted(), [ids[1]]);
    for (number, delivery) in [("3", ids[2]), ("4", ids[3])] {
        let next = take(&heirs[0]);
        assert_eq!((text(&next).as_str(), next.attempts()), (number, 1));
        next.done();
        assert_eq!(queues.accepted(), [delivery]);
    }
    // They were given to the first heir before there was a second one.
    assert_eq!(heirs[1].try_recv().map(drop), Err(InboxError::Timeout));
    let arrived = std::iter::from_fn(|| older.try_recv().ok()).count();
    assert_eq!(arrived, 4, "each once");
}

#[test]
fn a_message_can_be_done_after_its_inbox_is_dropped() {
    let mut queues = Queues::new();
    let inbox = queues.by_hand(ME, 9);
    let [first, second] = deliveries();
    queues.deliver("1", QoS::AtLeastOnce, Some(first));
    queues.deliver("2", QoS::AtLeastOnce, Some(second));
    let (one, two) = (take(&inbox), take(&inbox));
    drop(inbox);
    assert_eq!(queues.close(ME), 2);
    one.done();
    drop(two);
    assert_eq!(queues.accepted(), [first]);
    // An inbox of another kind does no work on it.
    let quick = queues.subscribed(OTHER, 9, WhenFull::WaitAside);
    queues.fanout.offer_held(&queues.table, queues.now);
    assert_eq!(
        (quick.try_recv(), queues.accepted()),
        (Err(InboxError::Timeout), vec![])
    );
    let heir = queues.by_hand(InboxId(3), 9);
    take(&heir).done();
    assert_eq!(queues.accepted(), [second]);
}

#[test]
fn an_heir_takes_the_place_of_all_inboxes_that_were_dropped_with_a_message() {
    let mut queues = Queues::new();
    let both = [ME, OTHER].map(|id| queues.by_hand(id, 9));
    let [first, second] = deliveries();
    queues.deliver("1", QoS::AtLeastOnce, Some(first));
    queues.deliver("2", QoS::AtLeastOnce, Some(second));
    let held = both.each_ref().map(take);
    drop(both);
    assert_eq!((queues.close(ME), queues.close(OTHER)), (2, 2));
    assert_eq!(queues.fanout.fullest(), (None, 2));
    // Each thread that has it in its hands may still do its work.
    let [one, other] = held;
    one.done();
    assert_eq!(queues.accepted(), []);
    other.done();
    assert_eq!(queues.accepted(), [first]);
    let heir = queues.by_hand(InboxId(3), 9);
    take(&heir).done();
    assert_eq!(queues.accepted(), [second]);
    assert_eq!(queues.fanout.waiting(), 0);
    assert_eq!(heir.try_recv().map(drop), Err(InboxError::Timeout));
}

#[test]
fn an_inbox_takes_over_what_it_has_not_had_and_nothing_else() {
    let mut queues = Queues::new();
    let inbox = queues.by_hand(ME, 9);
    let other = queues.by_hand(OTHER, 9);
    queues.table.remove_subscriber(OTHER);
    let [first, second, third] = deliveries();
    queues.deliver("1", QoS::AtLeastOnce, Some(first));
    queues
        .table
        .add(OTHER, &[Filter::new("t", QoS::ExactlyOnce)]);
    queues.deliver("2", QoS::AtLeastOnce, Some(second));
    queues.deliver("3", QoS::AtLeastOnce, Some(third));
    take(&other).done();
    drop(inbox);
    assert_eq!(queues.close(ME), 3);
    queues.fanout.offer_held(&queues.table, queues.now);
    // It has the second one done and the third one in it.
    for (number, accepted) in [("3", vec![]), ("1", vec![first])] {
        let message = take(&other);
        assert_eq!(text(&message), number);
        message.done();
        assert_eq!(queues.accepted(), accepted);
    }
    assert_eq!(other.try_recv().map(drop), Err(InboxError::Timeout));
    assert_eq!(queues.fanout.fullest(), (None, 2));
    let heir = queues.by_hand(InboxId(3), 9);
    take(&heir).done();
    take(&heir).done();
    assert_eq!(queues.accepted(), [second, third]);
}

#[test]
fn an_inbox_that_has_room_again_is_not_among_the_full_ones() {
    let mut queues = Queues::new();
    let inbox = queues.by_hand(ME, 2);
    let ids = deliveries::<4>();
    for (number, delivery) in ["1", "2", "3"].iter().zip(ids) {
        queues.deliver(number, QoS::AtLeastOnce, Some(delivery));
    }
    let (one, two) = (take(&inbox), take(&inbox));
    drop(one);
    queues.hear();
    queues.deliver("4", QoS::AtLeastOnce, Some(ids[3]));
    assert_eq!(queues.fanout.full, [ME]);
    drop(two);
}

/// One thing that happens to inboxes that accept by hand.
#[derive(Debug, Clone)]
enum Step {
    Deliver,
    Take(usize),
    Done(usize),
    DropUndone(usize),
    Open,
    Close(usize),
    Hear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Deliver),
        5 => (0..3_usize).prop_map(Step::Take),
        3 => (0..9_usize).prop_map(Step::Done),
        2 => (0..9_usize).prop_map(Step::DropUndone),
        1 => Just(Step::Open),
        1 => (0..3_usize).prop_map(Step::Close),
        3 => Just(Step::Hear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No message is accepted before it was done, each once, and each comes again until it is.
    #[test]
    fn no_message_is_accepted_before_it_is_done(steps in prop::collection::vec(step(), 1..200)) {
        let mut queues = Queues::new();
        let ids = deliveries::<100>();
        let number_of = |id| ids.iter().position(|known| *known == id).unwrap();
        let mut inbox_ids = (1..).map(InboxId);
        let mut sent = 0;
        let mut inboxes: Vec<(InboxId, HandInbox)> = Vec::new();
        let mut held: Vec<Unacknowledged> = Vec::new();
        // How often each message was done, and whether it was accepted.
        let (mut done, mut accepted) = (BTreeMap::new(), Vec::new());
        for step in steps {
            match step {
                Step::Deliver if sent < ids.len() && !inboxes.is_empty() => {
                    prop_assert!(!queues.deliver(&sent.to_string(), QoS::AtLeastOnce, Some(ids[sent])));
                    sent += 1;
                }
                Step::Deliver => {}
                Step::Take(at) => held.extend(inboxes.get(at).and_then(|(_, inbox)| inbox.try_recv().ok())),
                Step::Done(at) if at < held.len() => {
                    let message = held.remove(at);
                    let number: usize = text(&message).parse().unwrap();
                    *done.entry(number).or_insert(0) += 1;
                    message.done();
                }
                Step::DropUndone(at) if at < held.len() => drop(held.remove(at)),
                Step::Done(_) | Step::DropUndone(_) => {}
                Step::Open if inboxes.len() < 3 => {
                    let id = inbox_ids.next().unwrap();
                    inboxes.push((id, queues.by_hand(id, 2)));
                }
                Step::Close(at) if at < inboxes.len() => {
                    let (id, inbox) = inboxes.remove(at);
                    drop(inbox);
                    queues.close(id);
                    queues.fanout.offer_held(&queues.table, queues.now);
                }
                Step::Open | Step::Close(_) => {}
                Step::Hear => accepted.extend(queues.accepted().into_iter().map(number_of)),
            }
            for number in &accepted {
                prop_assert!(done.contains_key(number), "{number} was not done");
            }
        }
        // Threads that do their work at last, and one that takes the place of all before.
        drop(held);
        accepted.extend(queues.accepted().into_iter().map(number_of));
        let id = inbox_ids.next().unwrap();
        inboxes.push((id, queues.by_hand(id, 2)));
        for (_, inbox) in &inboxes {
            let mut had = BTreeSet::new();
            while let Ok(message) = inbox.try_recv() {
                prop_assert!(had.insert(text(&message)), "twice");
                message.done();
                accepted.extend(queues.accepted().into_iter().map(number_of));
            }
        }
        accepted.sort_unstable();
        prop_assert_eq!(accepted, (0..sent).collect::<Vec<_>>());
        prop_assert_eq!(queues.fanout.waiting(), 0);
    }
}
