//! An inbox that accepts by hand is dropped undone, and another one takes its place: the loop's turns, over memory.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::Agent;
use super::memory::{Peer, client, connected, turn};
use crate::client::by_hand::Unacknowledged;
use crate::client::handle::Handle;
use crate::client::inbox::Inbox;
use crate::client::outlet::ByHand;
use crate::mqtt::packet::{Filter, QoS};

type HandInbox = Inbox<Unacknowledged>;

fn subscribed(handle: &Handle) -> HandInbox {
    let inbox = handle.inbox_by_hand(9, ByHand::default());
    let filters = vec![Filter::new("t", QoS::AtLeastOnce)];
    drop(handle.subscribe(&inbox, filters).unwrap());
    inbox
}

fn take_a_turn(agent: &mut Agent) {
    agent.take_urgent(Instant::now());
    turn(agent);
}

/// The broker sends a message to the topic `t`.
fn send(peer: &Arc<Mutex<Peer>>, id: u8) {
    let publish = vec![0x32, 6, 0, 1, b't', 0, id, b'0' + id];
    peer.lock().unwrap().to_read.push_back(publish);
}

/// The identifiers that were acknowledged so far.
fn acknowledged(peer: &Arc<Mutex<Peer>>) -> Vec<u8> {
    let written = peer.lock().unwrap().written.concat();
    let pubacks = written.windows(4).filter(|it| it[..3] == [0x40, 2, 0]);
    pubacks.map(|it| it[3]).collect()
}

#[track_caller]
fn take(inbox: &HandInbox) -> Unacknowledged {
    inbox.try_recv().unwrap()
}

#[test]
fn an_inbox_that_is_opened_in_the_same_turn_takes_over() {
    let (mut agent, handle, _batch, peer) = connected(client(), 0);
    let old = subscribed(&handle);
    take_a_turn(&mut agent);
    send(&peer, 1);
    take_a_turn(&mut agent);
    drop(old);
    let new = subscribed(&handle);
    take_a_turn(&mut agent);
    take(&new).done();
    take_a_turn(&mut agent);
    assert_eq!(acknowledged(&peer), [1]);
    assert!(new.try_recv().is_err(), "once");
}

#[test]
fn an_inbox_that_was_opened_before_the_other_one_was_dropped_takes_over() {
    let (mut agent, handle, _batch, peer) = connected(client(), 0);
    let old = subscribed(&handle);
    take_a_turn(&mut agent);
    send(&peer, 1);
    take_a_turn(&mut agent);
    let new = subscribed(&handle);
    take_a_turn(&mut agent);
    send(&peer, 2);
    take_a_turn(&mut agent);
    take(&old).done();
    take_a_turn(&mut agent);
    take(&old).done();
    take(&new).done();
    take_a_turn(&mut agent);
    assert_eq!(acknowledged(&peer), [1, 2]);
    send(&peer, 3);
    take_a_turn(&mut agent);
    let newest = subscribed(&handle);
    take_a_turn(&mut agent);
    drop(old);
    take_a_turn(&mut agent);
    // One of them had it anyway, and the other one takes over.
    for inbox in [new, newest] {
        assert_eq!(acknowledged(&peer), [1, 2]);
        take(&inbox).done();
        take_a_turn(&mut agent);
    }
    assert_eq!(acknowledged(&peer), [1, 2, 3]);
}

/// The loop finds the new subscription when a message comes, before it takes what else is in the lane.
#[test]
fn a_message_that_comes_after_an_inbox_was_dropped_is_for_the_next_one_alone() {
    let (mut agent, handle, _batch, peer) = connected(client(), 0);
    let old = subscribed(&handle);
    take_a_turn(&mut agent);
    send(&peer, 1);
    take_a_turn(&mut agent);
    take(&old).done();
    drop(old);
    let new = subscribed(&handle);
    send(&peer, 2);
    turn(&mut agent);
    let message = take(&new);
    assert_eq!(message.payload(), b"2", "the first one is done");
    message.done();
    take_a_turn(&mut agent);
    assert_eq!(acknowledged(&peer), [1, 2]);
}

#[test]
fn what_comes_before_the_next_one_subscribes_waits_for_it() {
    let (mut agent, handle, _batch, peer) = connected(client(), 0);
    let old = subscribed(&handle);
    take_a_turn(&mut agent);
    send(&peer, 1);
    take_a_turn(&mut agent);
    drop(old);
    take_a_turn(&mut agent);
    send(&peer, 2);
    take_a_turn(&mut agent);
    assert!(handle.unmatched().is_empty());
    let new = subscribed(&handle);
    take_a_turn(&mut agent);
    for _ in 0..2 {
        take(&new).done();
    }
    take_a_turn(&mut agent);
    assert_eq!(acknowledged(&peer), [1, 2]);
}
