//! The exact lives of commands and messages, over a link in memory.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::super::Agent;
use super::super::memory::{Peer, acknowledge, client_with, connected, memory_link, turn};
use crate::client::batch::Batch;
use crate::client::handle::Handle;
use crate::client::inbox::Inbox;
use crate::client::outlet::{InboxPolicy, WhenFull};
use crate::client::recording::{DEFAULT_INBOX, Reading, Record, What};
use crate::mqtt::packet::{Filter, Publish, QoS};
use crate::mqtt::session::LinkLoss;
use crate::options::RecordingSize;

const HANG: Duration = Duration::from_secs(30);

/// A loop that is connected over memory, and records.
fn recorded() -> (Agent, Handle, Arc<Mutex<Peer>>) {
    let client = client_with(|options| {
        options.recording = Some(RecordingSize::default());
        options.command_queue = 2;
    });
    let (agent, handle, _batch, peer) = connected(client, 0);
    (agent, handle, peer)
}

fn receive(agent: &mut Agent, peer: &Mutex<Peer>, bytes: &[u8]) {
    peer.lock().unwrap().to_read.push_back(bytes.to_vec());
    turn(agent);
}

fn publish(qos: QoS) -> Publish {
    Publish::new("t", qos, "abc")
}

fn read(handle: &Handle) -> Reading {
    handle.recording().unwrap().read()
}

/// The numbers of the commands, in the order in which they were pushed.
fn commands(reading: &Reading) -> Vec<u64> {
    let pushed = |record: &Record| match record.what {
        What::Pushed { command, .. } => Some(command),
        _ => None,
    };
    reading.records.iter().filter_map(pushed).collect()
}

/// The life of one command.
fn life(reading: &Reading, number: u64) -> Vec<String> {
    let told = |record: &Record| match record.what {
        What::Pushed {
            command,
            packet,
            qos,
            bytes,
        } if command == number => {
            let qos = qos.map_or(String::new(), |qos| format!(" of QoS {qos}"));
            Some(format!("pushed {}{qos}, {bytes} bytes", packet.name()))
        }
        What::HandedBack { command } if command == number => Some("handed back".to_owned()),
        What::Taken { command } if command == number => Some("taken".to_owned()),
        What::Told { command } if command == number => Some("told".to_owned()),
        What::Ended {
            command,
            end,
            answered,
        } if command == number => {
            let answered = if answered { ", answered" } else { "" };
            Some(format!("ended {end:?}{answered}"))
        }
        _ => packet(record, number),
    };
    reading.records.iter().filter_map(told).collect()
}

/// A packet of this command or message.
fn packet(record: &Record, wanted: u64) -> Option<String> {
    match record.what {
        What::Encoded {
            packet,
            packet_id,
            number,
            again,
            bytes,
        } if number == wanted => {
            let again = if again { " again" } else { "" };
            let name = packet.name();
            Some(format!("encoded {name} {packet_id}{again}, {bytes} bytes"))
        }
        What::Written {
            packet,
            packet_id,
            number,
        } if number == wanted => Some(format!("written {} {packet_id}", packet.name())),
        What::Received {
            packet,
            packet_id,
            number,
        } if number == wanted => Some(format!("received {} {packet_id}", packet.name())),
        _ => None,
    }
}

/// The life of one message that came, in these inboxes.
fn message_life(reading: &Reading, number: u64, inboxes: &[&Inbox]) -> Vec<String> {
    let name = |inbox| {
        if inbox == DEFAULT_INBOX {
            return "the default inbox".to_owned();
        }
        let place = inboxes.iter().position(|one| one.number() == inbox);
        format!("inbox {}", place.unwrap())
    };
    let told = |record: &Record| match record.what {
        What::Arrived {
            message,
            qos,
            bytes,
        } if message == number => Some(format!("arrived with QoS {qos}, {bytes} bytes")),
        What::Offered { message, inbox } if message == number => {
            Some(format!("offered to {}", name(inbox)))
        }
        What::Aside { message, inbox } if message == number => {
            Some(format!("aside for {}", name(inbox)))
        }
        What::Dropped { message, inbox } if message == number => {
            Some(format!("dropped by {}", name(inbox)))
        }
        What::TakenOut { message, inbox } if message == number => {
            Some(format!("taken out of {}", name(inbox)))
        }
        What::Encoded { packet, .. } | What::Written { packet, .. } if packet as u8 == 3 => None,
        _ => packet(record, number),
    };
    reading.records.iter().filter_map(told).collect()
}

/// The records of the connection.
fn links(reading: &Reading) -> Vec<What> {
    let link = |record: &Record| match record.what {
        What::Retrying { .. } => None,
        what @ (What::LinkUp
        | What::Connected { .. }
        | What::Lost { .. }
        | What::Offline
        | What::LoopEnded) => Some(what),
        _ => None,
    };
    reading.records.iter().filter_map(link).collect()
}

#[test]
fn a_publish_of_each_qos_has_its_life() {
    let (mut agent, handle, peer) = recorded();
    let ticket = handle.publish(publish(QoS::AtMostOnce)).unwrap();
    turn(&mut agent);
    assert!(ticket.outcome().unwrap().is_delivered());
    let ticket = handle.publish(publish(QoS::AtLeastOnce)).unwrap();
    turn(&mut agent);
    acknowledge(&peer, 1..=1);
    turn(&mut agent);
    assert!(ticket.outcome().unwrap().is_delivered());
    assert!(ticket.outcome().is_some(), "it is told once");
    let ticket = handle.publish(publish(QoS::ExactlyOnce)).unwrap();
    turn(&mut agent);
    receive(&mut agent, &peer, &[0x50, 2, 0, 2]);
    receive(&mut agent, &peer, &[0x70, 2, 0, 2]);
    drop(ticket);
    let reading = read(&handle);
    let commands = commands(&reading);
    assert_eq!(
        life(&reading, commands[0]),
        [
            "pushed PUBLISH of QoS 0, 4 bytes",
            "taken",
            "encoded PUBLISH 0, 8 bytes",
            "written PUBLISH 0",
            "ended Delivered",
            "told",
        ]
    );
    assert_eq!(
        life(&reading, commands[1]),
        [
            "pushed PUBLISH of QoS 1, 4 bytes",
            "taken",
            "encoded PUBLISH 1, 10 bytes",
            "written PUBLISH 1",
            "received PUBACK 1",
            "ended Delivered, answered",
            "told",
        ]
    );
    assert_eq!(
        life(&reading, commands[2]),
        [
            "pushed PUBLISH of QoS 2, 4 bytes",
            "taken",
            "encoded PUBLISH 2, 10 bytes",
            "written PUBLISH 2",
            "received PUBREC 2",
            "encoded PUBREL 2, 4 bytes",
            "written PUBREL 2",
            "received PUBCOMP 2",
            "ended Delivered, answered",
        ]
    );
    assert_eq!(reading.overwritten(), 0);
}

#[test]
fn requests_callbacks_batches_and_commands_that_come_back_have_their_lives() {
    let (mut agent, handle, peer) = recorded();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    agent.take_urgent(Instant::now());
    let filters = vec![Filter::new("f/1", QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&inbox, filters).unwrap();
    turn(&mut agent);
    receive(&mut agent, &peer, &[0x90, 3, 0, 1, 1]);
    let ping = handle.ping().unwrap();
    turn(&mut agent);
    receive(&mut agent, &peer, &[0xd0, 0]);
    let left = handle.unsubscribe(&inbox, vec!["f/1".to_owned()]).unwrap();
    turn(&mut agent);
    receive(&mut agent, &peer, &[0xb0, 2, 0, 2]);
    drop((subscribed, ping, left));
    let again = handle.clone();
    let called = move |_| drop(again.try_publish(publish(QoS::AtMostOnce)));
    let qos = QoS::AtLeastOnce;
    handle.publish_then(publish(qos), called).unwrap();
    let mut batch = Batch::new();
    handle.publish_in(publish(qos), &mut batch).unwrap();
    let refused = handle.try_publish(publish(qos)).unwrap_err();
    drop(refused);
    turn(&mut agent);
    acknowledge(&peer, 3..=4);
    turn(&mut agent);
    assert_eq!(batch.wait_timeout(Duration::ZERO), Some(Vec::new()));
    let reading = read(&handle);
    let lives: Vec<_> = (commands(&reading).into_iter())
        .map(|command| life(&reading, command))
        .collect();
    let request = |name: &str, bytes: u64, size: u64, id: u16, answer: &str| {
        vec![
            format!("pushed {name}, {bytes} bytes"),
            "taken".to_owned(),
            format!("encoded {name} {id}, {size} bytes"),
            format!("written {name} {id}"),
            format!("received {answer} {id}"),
            "ended Delivered, answered".to_owned(),
        ]
    };
    assert_eq!(lives[0], request("SUBSCRIBE", 3, 10, 1, "SUBACK"));
    assert_eq!(lives[1], request("PINGREQ", 0, 2, 0, "PINGRESP"));
    assert_eq!(lives[2], request("UNSUBSCRIBE", 3, 9, 2, "UNSUBACK"));
    for (life, id) in lives[3..5].iter().zip([3, 4]) {
        assert_eq!(
            *life,
            [
                "pushed PUBLISH of QoS 1, 4 bytes".to_owned(),
                "taken".to_owned(),
                format!("encoded PUBLISH {id}, 10 bytes"),
                format!("written PUBLISH {id}"),
                format!("received PUBACK {id}"),
                "ended Delivered, answered".to_owned(),
            ]
        );
    }
    assert_eq!(
        lives[5],
        ["pushed PUBLISH of QoS 1, 4 bytes", "handed back"]
    );
    assert_eq!(lives[6][0], "pushed PUBLISH of QoS 0, 4 bytes", "callback");
    let told = |record: &Record| record.what == What::BatchTold { messages: 1 };
    assert!(reading.records.iter().any(told));
}

/// Subscribes an inbox to `t`. The broker grants it, under this identifier.
fn subscribed(
    agent: &mut Agent,
    handle: &Handle,
    peer: &Mutex<Peer>,
    policy: impl Into<InboxPolicy>,
    id: u8,
) -> Inbox {
    let inbox = handle.inbox(1, policy);
    agent.take_urgent(Instant::now());
    let filters = vec![Filter::new("t", QoS::AtLeastOnce)];
    drop(handle.subscribe(&inbox, filters).unwrap());
    turn(agent);
    receive(agent, peer, &[0x90, 3, 0, id, 1]);
    inbox
}

#[test]
fn a_message_has_its_life_in_each_inbox() {
    let (mut agent, handle, peer) = recorded();
    let waits = subscribed(&mut agent, &handle, &peer, WhenFull::WaitAside, 1);
    let drops = subscribed(&mut agent, &handle, &peer, WhenFull::DropNewest, 2);
    for id in [7, 8] {
        receive(&mut agent, &peer, &[0x32, 6, 0, 1, b't', 0, id, b'x']);
    }
    // QoS 0 finds no room in either.
    receive(&mut agent, &peer, &[0x30, 4, 0, 1, b't', b'x']);
    receive(&mut agent, &peer, &[0x30, 5, 0, 1, b'u', b'x', b'y']);
    for inbox in [&waits, &drops] {
        inbox.try_recv().unwrap();
    }
    turn(&mut agent);
    waits.try_recv().unwrap();
    handle.unmatched().try_recv().unwrap();
    let reading = read(&handle);
    let life = |number| message_life(&reading, number, &[&waits, &drops]);
    assert_eq!(
        life(1),
        [
            "received PUBLISH 7",
            "arrived with QoS 1, 2 bytes",
            "offered to inbox 0",
            "offered to inbox 1",
            "encoded PUBACK 7, 4 bytes",
            "written PUBACK 7",
            "taken out of inbox 0",
            "taken out of inbox 1",
        ]
    );
    assert_eq!(
        life(3),
        [
            "received PUBLISH 8",
            "arrived with QoS 1, 2 bytes",
            "aside for inbox 0",
            "dropped by inbox 1",
            "offered to inbox 0",
            "encoded PUBACK 8, 4 bytes",
            "written PUBACK 8",
            "taken out of inbox 0",
        ]
    );
    assert_eq!(
        life(2),
        [
            "arrived with QoS 0, 2 bytes",
            "dropped by inbox 0",
            "dropped by inbox 1",
        ]
    );
    assert_eq!(
        life(4),
        [
            "arrived with QoS 0, 3 bytes",
            "offered to the default inbox",
            "taken out of the default inbox",
        ]
    );
}

#[test]
fn a_command_that_is_sent_again_has_both_packets() {
    let (mut agent, handle, peer) = recorded();
    let qos = QoS::AtLeastOnce;
    let written = handle.publish(publish(qos)).unwrap();
    turn(&mut agent);
    peer.lock().unwrap().is_full = true;
    let encoded = handle.publish(publish(qos)).unwrap();
    turn(&mut agent);
    let now = Instant::now();
    agent.link_lost(LinkLoss::PeerClosed, now);
    let (link, peer) = memory_link();
    agent.greet(link, now + Duration::from_secs(60), now);
    receive(&mut agent, &peer, &[0x20, 2, 1, 0]);
    acknowledge(&peer, 1..=2);
    turn(&mut agent);
    drop((written, encoded));
    let reading = read(&handle);
    let commands = commands(&reading);
    let pushed = "pushed PUBLISH of QoS 1, 4 bytes";
    assert_eq!(
        life(&reading, commands[0]),
        [
            pushed,
            "taken",
            "encoded PUBLISH 1, 10 bytes",
            "written PUBLISH 1",
            "encoded PUBLISH 1 again, 10 bytes",
            "written PUBLISH 1",
            "received PUBACK 1",
            "ended Delivered, answered",
        ]
    );
    assert_eq!(
        life(&reading, commands[1]),
        [
            pushed,
            "taken",
            "encoded PUBLISH 2, 10 bytes",
            "encoded PUBLISH 2, 10 bytes",
            "written PUBLISH 2",
            "received PUBACK 2",
            "ended Delivered, answered",
        ]
    );
    let mut seen = links(&reading);
    let lost = seen.remove(2);
    assert_eq!(format!("{lost:?}"), "Lost { loss: PeerClosed }");
    let connected = |session_present| What::Connected { session_present };
    let expected = [
        What::LinkUp,
        connected(false),
        What::LinkUp,
        connected(true),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn commands_that_the_loop_leaves_have_an_end_and_the_bytes_are_those_of_the_link() {
    let (mut agent, handle, peer) = recorded();
    let qos = QoS::AtLeastOnce;
    drop(handle.publish(publish(qos)).unwrap());
    turn(&mut agent);
    drop(handle.publish(publish(qos)).unwrap());
    let stats = agent.end().stats;
    let reading = read(&handle);
    let commands = commands(&reading);
    let last = |command| life(&reading, command).pop().unwrap();
    assert_eq!(last(commands[0]), "ended PerhapsDelivered");
    assert_eq!(last(commands[1]), "ended Cancelled");
    assert_eq!(reading.records.last().unwrap().what, What::LoopEnded);
    let (mut taken, mut given) = (0, 0);
    for record in &reading.records {
        match record.what {
            What::Write { bytes } => taken += bytes,
            What::Read { bytes } => given += bytes,
            _ => {}
        }
    }
    assert_eq!((taken, given), (stats.bytes_sent, stats.bytes_received));
    let sent = peer.lock().unwrap().written.concat().len() as u64;
    assert_eq!(taken, sent);
}

#[test]
fn without_the_option_there_is_no_recording() {
    let (_agent, handle, _batch, _peer) = connected(client_with(|_| {}), 0);
    assert!(handle.recording().is_none());
}

#[test]
fn a_thread_that_waits_for_room_says_when_it_was_let_in() {
    let (mut agent, handle, _peer) = recorded();
    let push = || drop(handle.publish(publish(QoS::AtLeastOnce)).unwrap());
    push();
    push();
    thread::scope(|scope| {
        let waits = scope.spawn(push);
        let begin = Instant::now();
        while handle.waiting_for_room() == 0 {
            assert!(begin.elapsed() < HANG, "the queue is full");
            thread::yield_now();
        }
        assert_eq!(let_in(&read(&handle)), []);
        while !waits.is_finished() {
            assert!(begin.elapsed() < HANG, "there is room");
            turn(&mut agent);
        }
    });
    let reading = read(&handle);
    let [(command, at, thread)] = let_in(&reading)[..] else {
        panic!("{reading:?}")
    };
    let pushed = |record: &&Record| matches!(record.what, What::Pushed { command: own, .. } if own == command);
    let pushed = reading.records.iter().find(pushed).unwrap();
    assert_eq!(pushed.thread, thread);
    assert!(pushed.at <= at && thread > 0);
    assert_eq!(commands(&reading).len(), 3);
}

/// Commands for which a thread waited, when it was let in, and the thread.
fn let_in(reading: &Reading) -> Vec<(u64, Duration, u32)> {
    let own = |record: &Record| match record.what {
        What::LetIn { command } => Some((command, record.at, record.thread)),
        _ => None,
    };
    reading.records.iter().filter_map(own).collect()
}
