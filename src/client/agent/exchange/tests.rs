//! Portions of commands and packets, over a link in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::memory::{
    Peer, WINDOW, acknowledge, client, client_with, connected, memory_link, turn,
};
use super::*;
use crate::client::batch::Batch;
use crate::client::handle::Handle;
use crate::client::inbox::Inbox;
use crate::client::outlet::WhenFull;
use crate::mqtt::packet::{Filter, Protocol, Publish, QoS};
use crate::mqtt::v4;

const PINGRESP: [u8; 2] = [0xd0, 0];

/// How many PUBLISHes each write since the last look had.
fn published(peer: &Arc<Mutex<Peer>>) -> Vec<usize> {
    let written = std::mem::take(&mut peer.lock().unwrap().written);
    let published = written.iter().filter(|bytes| bytes[0] == 0x32);
    let counted = published.map(|bytes| {
        let mut bytes = bytes::BytesMut::from(bytes.as_slice());
        std::iter::from_fn(|| v4::decode(&mut bytes, 1_000).unwrap()).count()
    });
    counted.collect()
}

#[test]
fn commands_go_out_between_acknowledgments_that_came_together() {
    let (mut agent, handle, batch, peer) = connected(client(), 300);
    turn(&mut agent);
    assert_eq!(published(&peer), [100], "the window");
    acknowledge(&peer, 1..=100);
    assert_eq!(
        turn(&mut agent),
        5,
        "the last one looks whether there is more"
    );
    assert_eq!(published(&peer), [25, 25, 25, 25]);
    assert_eq!(batch.outstanding(), 200);
    assert!(!agent.wire.has_unhandled());
    drop((agent, handle));
}

/// A loop with an inbox for so many messages on "x".
fn subscribed(capacity: u16) -> (Agent, Handle, Inbox, Arc<Mutex<Peer>>) {
    let (mut agent, handle, _, peer) = connected(client(), 0);
    let inbox = handle.inbox(usize::from(capacity), WhenFull::WaitAside);
    agent.take_urgent(Instant::now());
    let filters = vec![Filter::new("x", QoS::AtLeastOnce)];
    let asked = handle.subscribe(&inbox, filters).unwrap();
    turn(&mut agent);
    let granted = vec![0x90, 3, 0, 1, 1];
    peer.lock().unwrap().to_read.push_back(granted);
    turn(&mut agent);
    assert!(asked.outcome().unwrap().is_delivered());
    peer.lock().unwrap().written.clear();
    (agent, handle, inbox, peer)
}

/// Messages with these identifiers, one after the other.
fn messages(ids: impl Iterator<Item = u16>) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    for id in ids {
        let mut message = Publish::new("x", QoS::AtLeastOnce, "");
        let id = crate::mqtt::packet::PacketId::new(id);
        v4::encode_publish(&mut message, id, false, &mut String::new(), &mut bytes);
    }
    bytes.to_vec()
}

/// How many PUBACKs each write since the last look had.
fn acknowledged(peer: &Arc<Mutex<Peer>>) -> Vec<usize> {
    let written = std::mem::take(&mut peer.lock().unwrap().written);
    let puback = |bytes: &&[u8]| bytes.starts_with(&[0x40, 2]);
    let count = |bytes: &Vec<u8>| bytes.chunks(4).filter(puback).count();
    written.iter().map(count).collect()
}

#[test]
fn acknowledgments_leave_while_other_messages_are_handled() {
    const COUNT: u16 = 300;
    // All of them are read at once, each alone, or some together: as TLS brings them.
    for together in [COUNT, 1, 50] {
        let (mut agent, handle, inbox, peer) = subscribed(COUNT);
        for _ in 0..2 {
            for begin in (1..=COUNT).step_by(usize::from(together)) {
                let piece = messages(begin..begin + together);
                peer.lock().unwrap().to_read.push_back(piece);
            }
            agent.wire.look_for_input();
            while agent.exchange(Instant::now()) {}
            let portions = acknowledged(&peer);
            match together {
                COUNT => assert_eq!(portions, [64, 128, 108], "then it is the first again"),
                1 => assert_eq!(portions, [64, 64, 64, 64, 44], "as many as one turn reads"),
                _ => assert_eq!(
                    portions,
                    [82, 18, 132, 18, 50],
                    "32 events are handled at a time"
                ),
            }
            assert_eq!(inbox.iter().take(COUNT.into()).count(), usize::from(COUNT));
        }
        drop((agent, handle));
    }
}

#[test]
fn messages_that_were_read_before_the_link_broke_are_received() {
    const COUNT: u16 = 300;
    let (mut agent, handle, inbox, peer) = subscribed(COUNT);
    peer.lock().unwrap().to_read.push_back(messages(1..=COUNT));
    peer.lock().unwrap().is_broken = true;
    turn(&mut agent);
    assert!(!agent.wire.is_up());
    assert_eq!(inbox.waiting(), usize::from(COUNT));
    drop((agent, handle));
}

#[test]
fn a_broker_that_goes_on_sending_small_messages_does_not_keep_the_loop_from_ending_its_turn() {
    let (mut agent, handle, inbox, peer) = subscribed(1);
    let message = [0x30, 3, 0, 1, b'x'];
    let piece = message.repeat(16 * 1024 / message.len());
    let most = piece.len() / message.len() / 64 + 2;
    peer.lock().unwrap().flood = Some(piece);
    for _ in 0..3 {
        agent.wire.look_for_input();
        for _ in 0..most {
            agent.exchange(Instant::now());
            if !agent.wire.has_unhandled() {
                break;
            }
        }
        assert!(!agent.wire.has_unhandled(), "after {most} portions");
    }
    assert!(agent.wire.is_up());
    drop((agent, handle, inbox));
}

/// A broker that floods the link with small messages cannot hide that it has answered.
#[test]
fn an_answer_behind_many_small_messages_is_not_missed() {
    const PIECES: usize = 500;
    let (mut agent, handle, inbox, peer) = subscribed(1);
    let ping = handle.ping().unwrap();
    turn(&mut agent);
    let message = [0x30, 3, 0, 1, b'x'];
    let piece = message.repeat(16 * 1024 / message.len());
    let flood = std::iter::repeat_n(piece, PIECES);
    peer.lock().unwrap().to_read.extend(flood);
    peer.lock().unwrap().to_read.push_back(PINGRESP.to_vec());
    agent.wire.look_for_input();
    agent.exchange(Instant::now() + agent.client.options.ack_timeout);
    assert!(agent.wire.is_up());
    assert!(ping.outcome().unwrap().is_delivered());
    drop((agent, handle, inbox));
}

#[test]
fn what_came_before_the_link_broke_has_happened() {
    for pieces in [vec![1..=100], vec![1..=50, 51..=100]] {
        let (mut agent, handle, batch, peer) = connected(client(), 300);
        let first = agent.session.next_identifier();
        turn(&mut agent);
        for piece in pieces {
            acknowledge(&peer, piece.map(|id| first + id));
        }
        peer.lock().unwrap().is_broken = true;
        turn(&mut agent);
        assert!(!agent.wire.is_up());
        assert_eq!(batch.outstanding(), 200, "all that were acknowledged");
        drop((agent, handle));
    }
}

#[test]
fn nothing_is_overdue_whose_acknowledgment_has_come() {
    // In one piece, in two, and in so many that they are not read in one turn.
    for size in [100, 50, 1] {
        let (mut agent, handle, batch, peer) = connected(client(), 150);
        let first = agent.session.next_identifier() + 1;
        turn(&mut agent);
        for begin in (0..WINDOW).step_by(size) {
            acknowledge(&peer, (0..size as u16).map(|id| first + begin + id));
        }
        let late = Instant::now() + agent.client.options.ack_timeout;
        while !peer.lock().unwrap().to_read.is_empty() || agent.wire.has_unhandled() {
            agent.wire.look_for_input();
            agent.exchange(late);
        }
        assert!(agent.wire.is_up());
        assert_eq!(batch.outstanding(), 50);
        agent.exchange(late);
        agent.exchange(late + agent.client.options.ack_timeout);
        peer.lock().unwrap().to_read.push_back(PINGRESP.to_vec());
        agent.wire.look_for_input();
        agent.exchange(late + agent.client.options.ack_timeout);
        assert!(!agent.wire.is_up(), "the others are overdue then");
        drop((agent, handle));
    }
}

#[test]
fn room_that_is_made_at_the_last_moment_is_used_in_another_turn() {
    for window in [1, WINDOW] {
        let client = client_with(|options| options.max_inflight = window);
        let count = u64::from(window) + 1;
        let (mut agent, handle, batch, peer) = connected(client, count);
        let first = agent.session.next_identifier() + 1;
        turn(&mut agent);
        published(&peer);
        // Nothing is there when the loop reads; a moment later, when the timer has rung, it is.
        peer.lock().unwrap().to_read.push_back(Vec::new());
        acknowledge(&peer, (0..window).map(|id| first + id));
        let late = Instant::now() + agent.client.options.ack_timeout;
        agent.wire.look_for_input();
        assert!(agent.exchange(late), "there is more to do");
        assert_eq!(batch.outstanding(), 1);
        agent.exchange(late);
        assert_eq!(published(&peer), [1]);
        drop((agent, handle));
    }
}

#[test]
fn a_broker_that_goes_on_sending_cannot_put_off_what_is_overdue() {
    let (mut agent, handle, _batch, peer) = connected(client(), 100);
    turn(&mut agent);
    let late = Instant::now() + agent.client.options.ack_timeout;
    let unsolicited = vec![0x40, 2, 0xff, 0xff];
    let more = std::iter::repeat_n(unsolicited, 4 * READS * READS);
    peer.lock().unwrap().to_read.extend(more);
    agent.wire.look_for_input();
    agent.exchange(late);
    assert!(agent.wire.is_up(), "the broker is asked");
    peer.lock().unwrap().to_read.push_front(PINGRESP.to_vec());
    agent.wire.look_for_input();
    agent.exchange(late);
    assert!(!agent.wire.is_up());
    assert!(!peer.lock().unwrap().to_read.is_empty());
    drop((agent, handle));
}

#[test]
fn what_comes_behind_a_violation_does_not_count() {
    let (mut agent, handle, batch, peer) = connected(client(), 100);
    turn(&mut agent);
    acknowledge(&peer, 1..=10);
    {
        let piece = &mut peer.lock().unwrap().to_read[0];
        piece.extend([0x20, 2, 0, 0]);
        piece.extend((11..=20).flat_map(|id| [0x40, 2, 0, id]));
    }
    turn(&mut agent);
    assert!(!agent.wire.is_up());
    assert_eq!(batch.outstanding(), 90);
    drop((agent, handle));
}

#[test]
fn a_connack_that_has_come_is_not_late() {
    let client = client();
    let (mut agent, handle) = client.open();
    let (link, peer) = memory_link();
    let now = Instant::now();
    let deadline = now + Duration::from_secs(1);
    agent.greet(link, deadline, now);
    agent.exchange(now);
    peer.lock().unwrap().to_read.push_back(vec![0x20, 2, 0, 0]);
    agent.advance_connection(deadline);
    assert!(matches!(agent.connection.phase(), Phase::Online { .. }));
    drop((agent, handle));
}

#[test]
fn what_was_read_before_disconnect_has_happened() {
    let (mut agent, handle, batch, peer) = connected(client(), 125);
    turn(&mut agent);
    acknowledge(&peer, 1..=100);
    let ticket = handle.disconnect();
    agent.take_urgent(Instant::now());
    turn(&mut agent);
    assert_eq!(batch.outstanding(), 25);
    turn(&mut agent);
    assert!(peer.lock().unwrap().written.concat().ends_with(&[0xe0, 0]));
    drop((agent, handle, ticket));
}

#[test]
fn what_was_read_before_a_link_is_left_for_another_has_happened() {
    const MESSAGE: usize = 1_000_000;
    let client = client_with(|options| options.max_packet_size = 2 * MESSAGE);
    let (mut agent, handle, mut batch, peer) = connected(client, 0);
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    agent.take_urgent(Instant::now());
    let filters = vec![Filter::new("x", QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&inbox, filters).unwrap();
    turn(&mut agent);
    let granted = vec![0x90, 3, 0, 1, 1];
    peer.lock().unwrap().to_read.push_back(granted);
    turn(&mut agent);
    assert!(subscribed.outcome().is_some());
    // More than may wait for a thread that does not read its inbox.
    for id in 1..=100 {
        let mut bytes = bytes::BytesMut::new();
        let mut message = Publish::new("x", QoS::AtLeastOnce, vec![7; MESSAGE]);
        let id = crate::mqtt::packet::PacketId::new(id);
        v4::encode_publish(&mut message, id, false, &mut String::new(), &mut bytes);
        let pieces = bytes.chunks(16_000).map(<[u8]>::to_vec);
        peer.lock().unwrap().to_read.extend(pieces);
    }
    while !peer.lock().unwrap().to_read.is_empty() {
        turn(&mut agent);
    }
    for number in 0..WINDOW {
        let message = Publish::new("t", QoS::AtLeastOnce, number.to_string());
        handle.publish_in(message, &mut batch).unwrap();
    }
    turn(&mut agent);
    assert_eq!(batch.outstanding(), 100);
    drop(inbox);
    acknowledge(&peer, 2..=101);
    agent.take_urgent(Instant::now());
    turn(&mut agent);
    assert!(!agent.wire.is_up());
    assert_eq!(batch.outstanding(), 0);
    drop((agent, handle));
}

#[test]
fn large_messages_wait_in_the_queue() {
    const CAPACITY: usize = 10;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let client = client_with(|options| {
            options.max_inflight = 1_000;
            options.command_queue = CAPACITY;
            options.block_time = Duration::ZERO;
        });
        let (mut agent, handle, mut batch, peer) = connected(client, 0);
        turn(&mut agent);
        let payload = bytes::Bytes::from(vec![0; 300_000]);
        for _ in 0..100 {
            let message = || Publish::new("t", qos, payload.clone());
            while handle.publish_in(message(), &mut batch).is_ok() {}
            let written = std::mem::take(&mut peer.lock().unwrap().written);
            let sent = written.iter().filter(|bytes| bytes.len() > payload.len());
            assert!(sent.count() <= 1);
            assert!(agent.commands.len() <= 2 * CAPACITY);
            turn(&mut agent);
        }
        drop((agent, handle));
    }
}

/// With MQTT 5 a broker that takes no further message delays no other packet [MQTT-3.3.4-8].
#[test]
fn the_filters_of_a_dropped_inbox_and_requests_behind_them_wait_for_no_message() {
    let client = client_with(|options| options.protocol = Protocol::V5);
    let (mut agent, handle) = client.open();
    let (link, peer) = memory_link();
    let now = Instant::now();
    agent.greet(link, now + Duration::from_secs(60), now);
    // The broker takes one message at a time.
    let connack = vec![0x20, 6, 0, 0, 3, 0x21, 0, 1];
    peer.lock().unwrap().to_read.push_back(connack);
    agent.exchange(now);
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let filters = |name: &str| vec![Filter::new(name, QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&inbox, filters("x")).unwrap();
    turn(&mut agent);
    let granted = vec![0x90, 4, 0, 1, 0, 1];
    peer.lock().unwrap().to_read.push_back(granted);
    turn(&mut agent);
    assert!(subscribed.outcome().unwrap().is_delivered());
    let mut batch = Batch::new();
    for _ in 0..3 {
        let message = Publish::new("t", QoS::AtLeastOnce, "x");
        handle.publish_in(message, &mut batch).unwrap();
    }
    turn(&mut agent);
    peer.lock().unwrap().written.clear();
    drop(inbox);
    let other = handle.inbox(1, WhenFull::WaitAside);
    let asked = handle.subscribe(&other, filters("y")).unwrap();
    let ping = handle.ping().unwrap();
    agent.take_urgent(Instant::now());
    turn(&mut agent);
    let unsubscribe = [0xa2, 6, 0, 3, 0, 0, 1, b'x'].as_slice();
    let subscribe = [0x82, 7, 0, 4, 0, 0, 1, b'y', 1].as_slice();
    let expected = [unsubscribe, subscribe, &[0xc0, 0]].concat();
    assert_eq!(peer.lock().unwrap().written.concat(), expected);
    assert_eq!(batch.outstanding(), 3);
    drop((agent, handle, other, asked, ping));
}

/// A thread drops an inbox and subscribes with another one to the same filter, after the loop has looked for dropped
/// inboxes and before it takes the SUBSCRIBE.
#[test]
fn a_filter_of_a_dropped_inbox_is_left_before_another_one_subscribes_to_it() {
    let (mut agent, handle, batch, peer) = connected(client(), 0);
    let old = handle.inbox(1, WhenFull::WaitAside);
    agent.take_urgent(Instant::now());
    let filter = || vec![Filter::new("x", QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&old, filter()).unwrap();
    turn(&mut agent);
    let answer = |bytes: &[u8]| peer.lock().unwrap().to_read.push_back(bytes.to_vec());
    answer(&[0x90, 3, 0, 1, 1]);
    turn(&mut agent);
    assert!(subscribed.outcome().unwrap().is_delivered());
    agent.take_urgent(Instant::now());
    peer.lock().unwrap().written.clear();
    drop(old);
    let new = handle.inbox(1, WhenFull::WaitAside);
    let asked = handle.subscribe(&new, filter()).unwrap();
    turn(&mut agent);
    answer(&[0xb0, 2, 0, 2]);
    turn(&mut agent);
    answer(&[0x90, 3, 0, 3, 1]);
    for _ in 0..3 {
        agent.take_urgent(Instant::now());
        turn(&mut agent);
    }
    let unsubscribe = [0xa2, 5, 0, 2, 0, 1, b'x'].as_slice();
    let subscribe = [0x82, 6, 0, 3, 0, 1, b'x', 1].as_slice();
    let written = peer.lock().unwrap().written.concat();
    assert_eq!(written, [unsubscribe, subscribe].concat());
    assert!(asked.outcome().unwrap().is_delivered());
    assert!(agent.session.is_subscribed("x"));
    drop((agent, handle, batch, new));
}

/// Ends of a batch are kept aside for a moment, and counted before another end is told.
#[test]
fn a_callback_finds_all_counted_that_was_acknowledged_before() {
    let (mut agent, handle, batch, peer) = connected(client(), 3);
    let batch = Arc::new(batch);
    let seen = Arc::new(Mutex::new(None));
    let (looks_at, sees) = (Arc::clone(&batch), Arc::clone(&seen));
    let message = Publish::new("t", QoS::AtLeastOnce, "x");
    let look = move |_| *sees.lock().unwrap() = Some(looks_at.outstanding());
    handle.publish_then(message, look).unwrap();
    turn(&mut agent);
    acknowledge(&peer, 1..=4);
    turn(&mut agent);
    assert_eq!(*seen.lock().unwrap(), Some(0));
    drop((agent, handle, batch));
}

/// A broker that sends a bad packet and closes with something unread resets the link.
#[test]
fn a_violation_is_told_and_nothing_behind_it_counts_where_the_link_takes_no_disconnect() {
    let client = client_with(|options| options.protocol = Protocol::V5);
    let (mut agent, handle) = client.open();
    let (link, peer) = memory_link();
    let now = Instant::now();
    agent.greet(link, now + Duration::from_secs(60), now);
    let connack = vec![0x20, 3, 0, 0, 0];
    peer.lock().unwrap().to_read.push_back(connack.clone());
    agent.exchange(now);
    let mut batch = Batch::new();
    let message = Publish::new("t", QoS::AtLeastOnce, "x");
    handle.publish_in(message, &mut batch).unwrap();
    let first = agent.session.next_identifier() + 1;
    turn(&mut agent);
    peer.lock().unwrap().is_broken = true;
    peer.lock().unwrap().to_read.push_back(connack);
    acknowledge(&peer, first..=first);
    turn(&mut agent);
    assert!(!agent.wire.is_up());
    assert_eq!(batch.outstanding(), 1);
    let trouble = agent.connection.trouble(&agent.client, Instant::now());
    let trouble = trouble.map(|error| error.to_string()).unwrap_or_default();
    assert!(trouble.contains("MQTT-3.2.0-2"), "{trouble}");
    drop((agent, handle));
}
