//! Packet identifiers: which packets carry one, which one, and for how long it is in use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mqtt_connection_sharing::{Filter, Publish, QoS};
use mqtt_connection_sharing::{Outcome, WhenFull};

use crate::harness::{ACCEPTED, RESUMED, Submit, ack, greet, identifier, message, online};
use crate::harness::{online_with, recorded, terminate, with_dup};
use crate::support::ScriptedBroker;
use crate::support::running::{attempts, expect_delivered, options, told};
use crate::support::wire::Bytes;

#[test]
fn mqtt_2_3_1_1_what_awaits_an_answer_carries_an_identifier_that_is_not_0() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    // Ten filters need two packets.
    let names: Vec<_> = (0..10).map(|n| format!("f{n}")).collect();
    let filters = names.iter().map(|f| Filter::new(f, QoS::AtMostOnce));
    let mut tickets = vec![handle.subscribe(&inbox, filters.collect()).unwrap()];
    for _ in 0..2 {
        let packet = link.read_bytes();
        assert_eq!(packet[0], 0x82);
        let filters = (packet.len() - 4) / 5;
        let granted = [&[0x90, u8::try_from(2 + filters).unwrap()], &packet[2..4]];
        link.send(&[&granted.concat()[..], &vec![0; filters]].concat());
    }
    tickets.push(running.send(QoS::AtLeastOnce, "a", "1"));
    tickets.push(running.send(QoS::ExactlyOnce, "a", "2"));
    tickets.push(handle.unsubscribe(&inbox, names).unwrap());
    let packets: Vec<_> = (0..3).map(|_| link.read_bytes()).collect();
    for (packet, answer) in packets.iter().zip([0x40, 0x50, 0xb0]) {
        link.send(&ack(answer, identifier(packet)));
    }
    let released = link.read_bytes();
    assert_eq!(released, ack(0x62, identifier(&packets[1])));
    link.send(&ack(0x70, identifier(&released)));
    let rest = link.read_bytes();
    assert_eq!(rest[0], 0xa2);
    link.send(&ack(0xb0, identifier(&rest)));
    expect_delivered(tickets);
    terminate(running, link);
    let with_identifier = |packet: &&Vec<u8>| matches!(packet[0] & 0xf6, 0x32 | 0x34 | 0x82 | 0xa2);
    let connection = &recorded(&broker)[0];
    let ids = connection.iter().filter(with_identifier);
    let ids: Vec<_> = ids.map(|packet| identifier(packet)).collect();
    assert_eq!(ids.len(), 6, "{connection:02x?}");
    assert!(ids.iter().all(|id| *id != 0), "{ids:?}");
}

/// Sends more messages than there are identifiers, which are 65,535. The first message is acknowledged
/// last.
#[test]
fn mqtt_2_3_1_2_no_identifier_is_given_twice_at_one_time() {
    const MESSAGES: usize = 66_500;
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.max_inflight = 500;
    options.command_queue = 1000;
    let (running, mut link) = online_with(options, &mut broker);
    let script = broker.in_thread(move |broker| {
        let held = identifier(&link.read_bytes());
        let mut in_use = BTreeSet::from([held]);
        let (mut ever, mut number, mut again) = (in_use.clone(), 1, 0);
        while number < MESSAGES || !in_use.is_empty() {
            let is_all_answered = in_use.len() == 1 && in_use.contains(&held);
            match link.read_bytes_within(Duration::from_millis(100)) {
                Bytes::Packet(packet) => {
                    let id = identifier(&packet);
                    number += 1;
                    assert_ne!(id, 0, "in message {number}");
                    assert!(in_use.insert(id), "{id} is in use, in message {number}");
                    again += usize::from(!ever.insert(id));
                    if in_use.len() < 200 {
                        continue;
                    }
                }
                // The publishing thread has a time limit, so the script has none.
                Bytes::Silence if in_use.is_empty() => continue,
                Bytes::Silence => {}
                Bytes::Closed => panic!("closed after message {number}"),
            }
            // The identifiers are removed before PUBACK is sent, after which they may be used again at
            // once.
            let keeps = |id: &u16| *id == held && !is_all_answered;
            let (kept, answered): (BTreeSet<_>, _) = in_use.into_iter().partition(keeps);
            in_use = kept;
            let answers: Vec<_> = answered.iter().map(|id: &u16| ack(0x40, *id)).collect();
            link.send(&answers.concat());
        }
        (broker, link, ever.len(), again)
    });
    let tickets: Vec<_> = (0..MESSAGES)
        .map(|_| running.send(QoS::AtLeastOnce, "a", ""))
        .collect();
    for ticket in tickets {
        assert_eq!(attempts(told(ticket)), 1);
    }
    let (_broker, link, different, again) = script.join().expect("the script");
    // All identifiers were used, and some of them twice, because PUBACK had freed them.
    assert_eq!((different, again), (65_535, MESSAGES - 65_535));
    terminate(running, link);
}

#[test]
fn mqtt_2_3_1_2_all_kinds_of_packets_share_the_identifiers() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let mut tickets = Vec::new();
    for n in 0..5 {
        tickets.push(running.send(QoS::AtLeastOnce, "a", "1"));
        tickets.push(running.send(QoS::ExactlyOnce, "a", "2"));
        let filters = vec![Filter::new(format!("s{n}"), QoS::AtMostOnce)];
        tickets.push(handle.subscribe(&inbox, filters).unwrap());
        let leaving = vec![format!("u{n}")];
        tickets.push(handle.unsubscribe(&inbox, leaving).unwrap());
    }
    let packets: Vec<_> = (0..20).map(|_| link.read_bytes()).collect();
    let ids: BTreeSet<_> = packets.iter().map(|packet| identifier(packet)).collect();
    assert_eq!(ids.len(), 20);
    // A QoS 2 message keeps its identifier while it is a PUBREL.
    for packet in &packets {
        let id = identifier(packet);
        match packet[0] {
            0x34 => link.send(&ack(0x50, id)),
            0x32 => link.send(&ack(0x40, id)),
            0x82 => link.send(&[&[0x90, 3], &packet[2..4], &[0]].concat()),
            _ => link.send(&ack(0xb0, id)),
        }
    }
    let released: BTreeSet<_> = (0..5).map(|_| identifier(&link.read_bytes())).collect();
    let late = running.send(QoS::AtLeastOnce, "a", "late");
    let id = identifier(&link.read_bytes());
    assert!(!released.contains(&id), "{id} of {released:?}");
    link.send(&ack(0x40, id));
    assert!(told(late).is_delivered());
    for id in released {
        link.send(&ack(0x70, id));
    }
    expect_delivered(tickets);
    terminate(running, link);
}

/// A broker that keeps the session may still hold messages that a loop had in flight at its end. The
/// next loop uses other identifiers for new messages.
#[test]
fn mqtt_2_3_1_2_the_next_loop_goes_on_behind_what_the_last_one_had_in_flight() {
    let mut scripted = ScriptedBroker::bind();
    let mut client = mqtt_connection_sharing::Client::new(options(&scripted)).unwrap();
    let mut in_use = Vec::new();
    for connack in [ACCEPTED, RESUMED, RESUMED] {
        let (agent, handle) = client.open();
        let ended = std::thread::spawn(move || agent.run());
        let mut link = greet(&mut scripted, connack);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce] {
            drop(handle.publish(Publish::new("a", qos, "x")).unwrap());
            in_use.push(identifier(&link.read_bytes()));
        }
        // One message is in flight as PUBREL, the others as PUBLISH.
        let last = *in_use.last().unwrap();
        link.send(&ack(0x50, last));
        link.expect_bytes(ack(0x62, last));
        drop(handle.terminate(Duration::ZERO));
        assert_eq!(link.read_to_end(), [b"\xe0\x00"]);
        link.close();
        let ended = ended.join().unwrap();
        assert!(ended.result.is_ok());
        client = ended.client;
    }
    let different = BTreeSet::from_iter(&in_use);
    assert_eq!(different.len(), 9, "{in_use:?}");
}

/// A process that begins knows nothing of the session that the broker keeps for it, and of which the broker may hold
/// messages under any identifier.
#[test]
fn mqtt_2_3_1_2_each_client_begins_at_a_random_place_of_the_circle() {
    let mut scripted = ScriptedBroker::bind();
    let mut first = BTreeSet::new();
    for _ in 0..10 {
        let client = mqtt_connection_sharing::Client::new(options(&scripted)).unwrap();
        let (agent, handle) = client.open();
        let ended = std::thread::spawn(move || agent.run());
        let mut link = greet(&mut scripted, RESUMED);
        let sent = handle.publish(Publish::new("a", QoS::ExactlyOnce, "x"));
        first.insert(identifier(&link.read_bytes()));
        drop((sent.unwrap(), handle.terminate(Duration::ZERO)));
        assert_eq!(link.read_to_end(), [b"\xe0\x00"]);
        link.close();
        assert!(ended.join().unwrap().result.is_ok());
    }
    // Ten times the same one, or nearly, is no more likely than one in 10^30.
    assert!(first.len() >= 5, "{first:?}");
    assert!(!first.contains(&0));
}

/// The broker holds a QoS 2 message of an earlier process and goes by the identifier alone.
#[test]
fn mqtt_2_3_1_3_an_unknown_pubrec_keeps_its_identifier_until_pubcomp() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    link.send(&ack(0x50, 2));
    link.expect_bytes(ack(0x62, 2));
    let send = |payload: &str| running.send(QoS::AtLeastOnce, "a", payload);
    let mut tickets = vec![send("1"), send("2")];
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x011");
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x032");
    // The broker swallows the second one and answers for the message that it holds.
    link.send(&[ack(0x40, 1), ack(0x50, 3)].concat());
    link.expect_bytes(ack(0x62, 3));
    link.send(&ack(0x70, 3));
    link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x032");
    link.send(&ack(0x40, 3));
    link.close();
    // PUBREL that is not answered is sent again, as that of any other message.
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(ack(0x62, 2));
    link.send(&ack(0x70, 2));
    tickets.push(send("3"));
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x043");
    link.send(&ack(0x40, 4));
    expect_delivered(tickets);
    terminate(running, link);
}

#[test]
fn mqtt_2_3_1_3_a_resent_packet_keeps_its_identifier() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let released = running.send(QoS::ExactlyOnce, "a", "0");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x010");
    link.send(&ack(0x50, 1));
    link.expect_bytes(b"\x62\x02\x00\x01");
    let mut tickets = vec![released];
    tickets.push(running.send(QoS::AtLeastOnce, "a", "1"));
    tickets.push(running.send(QoS::ExactlyOnce, "a", "2"));
    let filters = vec![Filter::new("s", QoS::AtMostOnce)];
    tickets.push(handle.subscribe(&inbox, filters).unwrap());
    tickets.push(handle.unsubscribe(&inbox, vec!["u".into()]).unwrap());
    let sent: Vec<_> = (0..4).map(|_| link.read_bytes()).collect();
    assert_eq!(sent[0], b"\x32\x06\x00\x01a\x00\x021");
    assert_eq!(sent[1], b"\x34\x06\x00\x01a\x00\x032");
    assert_eq!(sent[2], b"\x82\x06\x00\x04\x00\x01s\x00");
    assert_eq!(sent[3], b"\xa2\x05\x00\x05\x00\x01u");
    for _ in 0..2 {
        link.close();
        link = greet(&mut broker, RESUMED);
        link.expect_bytes(b"\x62\x02\x00\x01");
        link.expect_bytes(with_dup(sent[0].clone()));
        link.expect_bytes(with_dup(sent[1].clone()));
        link.expect_bytes(&sent[2]);
        link.expect_bytes(&sent[3]);
    }
    let answers = [ack(0x70, 1), ack(0x40, 2), ack(0x50, 3), ack(0x70, 3)];
    link.send(&answers.concat());
    link.send(b"\x90\x03\x00\x04\x00\xb0\x02\x00\x05");
    expect_delivered(tickets);
    assert_eq!(
        terminate(running, link),
        [&b"\x62\x02\x00\x03"[..], b"\xe0\x00"]
    );
}

/// The last answer to a command, by the first byte of its packet.
fn last_answer(id: u16, first: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    match first {
        0x32 => ack(0x40, id).to_vec(),
        0x34 => ack(0x70, id).to_vec(),
        0x82 => vec![0x90, 3, high, low, 0],
        _ => ack(0xb0, id).to_vec(),
    }
}

/// Sends more commands than there are identifiers, of each kind in turn. Identifiers come back for
/// packets of another kind, so each kind has freed them. The first command of each kind is not answered
/// as long as there are others (of the QoS 2 message, PUBREL is not answered). Its identifier must not
/// come back before its last answer.
#[test]
fn mqtt_2_3_1_3_puback_pubcomp_suback_and_unsuback_free_the_identifier_on_the_wire() {
    const COMMANDS: usize = 66_500;
    const KINDS: [u8; 4] = [0x32, 0x34, 0x82, 0xa2];
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.max_inflight = 500;
    let (running, mut link) = online_with(options, &mut broker);
    let script = broker.in_thread(move |broker| {
        // Identifiers in use, with the kind of their packet; and those without a last answer, in order.
        let (mut in_use, mut unanswered) = (BTreeMap::new(), VecDeque::new());
        let (mut held, mut ever) = (VecDeque::new(), BTreeMap::new());
        let (mut number, mut again) = (0, BTreeMap::new());
        while number < COMMANDS || !in_use.is_empty() {
            let packet = match link.read_bytes_within(Duration::from_millis(100)) {
                Bytes::Packet(packet) => packet,
                Bytes::Closed => panic!("closed after command {number}"),
                Bytes::Silence => {
                    // All identifiers have been used but the few that are held: one of them is freed.
                    if number > 65_000
                        && unanswered.is_empty()
                        && let Some(id) = held.pop_front()
                    {
                        let first = in_use.remove(&id).expect("held");
                        link.send(&last_answer(id, first));
                    }
                    continue;
                }
            };
            let (first, id) = (packet[0], identifier(&packet));
            if first == 0x62 {
                assert_eq!(in_use.get(&id), Some(&0x34), "PUBREL {id}");
            } else {
                assert!(KINDS.contains(&first), "{packet:02x?}");
                number += 1;
                let other = in_use.insert(id, first);
                assert_eq!(other, None, "{id} is in use, in command {number}");
                if let Some(earlier) = ever.insert(id, first) {
                    *again.entry(earlier).or_insert(0) += 1;
                }
                if first == 0x34 {
                    link.send(&ack(0x50, id));
                    continue;
                }
            }
            if id <= 4 && held.len() < KINDS.len() && number <= 500 {
                held.push_back(id);
            } else {
                unanswered.push_back(id);
            }
            // Answers several at a time, as brokers do.
            if unanswered.len() >= 8 || number % 8 == 0 || number > 65_000 {
                let mut answers = Vec::new();
                for id in unanswered.drain(..) {
                    let first = in_use.remove(&id).expect("unanswered");
                    answers.extend(last_answer(id, first));
                }
                link.send(&answers);
            }
        }
        (broker, link, ever.len(), again)
    });
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let command = |number: usize| match number % KINDS.len() {
        0 => running.send(QoS::AtLeastOnce, "a", ""),
        1 => running.send(QoS::ExactlyOnce, "a", ""),
        2 => {
            let filters = vec![Filter::new(format!("s{number}"), QoS::AtMostOnce)];
            handle.subscribe(&inbox, filters).expect("room")
        }
        _ => {
            let leaving = vec![format!("u{number}")];
            handle.unsubscribe(&inbox, leaving).expect("room")
        }
    };
    let tickets: Vec<_> = (0..COMMANDS).map(command).collect();
    for ticket in tickets {
        assert_eq!(attempts(told(ticket)), 1);
    }
    let (_broker, link, different, again) = script.join().expect("the script");
    assert_eq!(different, 65_535);
    // Of the identifiers that came back, each kind had used a quarter before.
    let came_back = COMMANDS - different;
    assert_eq!(again.values().sum::<usize>(), came_back);
    for kind in KINDS {
        assert!(again[&kind] >= came_back / 4, "{again:?}");
    }
    terminate(running, link);
}

#[test]
fn mqtt_2_3_1_5_a_qos_0_publish_carries_no_identifier() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    for (payload, expected) in [
        ("", &b"\x30\x05\x00\x03a/b"[..]),
        ("x", b"\x30\x06\x00\x03a/bx"),
        // These two bytes of payload look like an identifier.
        ("\0\u{1}", b"\x30\x07\x00\x03a/b\x00\x01"),
    ] {
        let ticket = running.send(QoS::AtMostOnce, "a/b", payload);
        link.expect_bytes(expected);
        assert!(told(ticket).is_delivered());
    }
    // The first identifier was not used.
    let ticket = running.send(QoS::AtLeastOnce, "a", "");
    link.expect_bytes(b"\x32\x05\x00\x01a\x00\x01");
    link.send(&ack(0x40, 1));
    assert!(told(ticket).is_delivered());
    terminate(running, link);
}

#[test]
fn mqtt_2_3_1_6_acknowledgments_carry_the_identifier_of_their_publish() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(100, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    for id in [
        1, 2, 127, 128, 255, 256, 0x1234, 0x7fff, 0x8000, 0xfffe, 0xffff,
    ] {
        link.send(&message(0x32, "in", id, b"x"));
        link.expect_bytes(ack(0x40, id));
        link.send(&message(0x34, "in", id, b"x"));
        link.expect_bytes(ack(0x50, id));
        link.send(&ack(0x62, id));
        link.expect_bytes(ack(0x70, id));
    }
    // PUBREL has the identifier of its PUBLISH, in whatever order the PUBRECs come.
    let tickets: Vec<_> = (0..3)
        .map(|_| running.send(QoS::ExactlyOnce, "out", "x"))
        .collect();
    let ids: Vec<_> = (0..3).map(|_| identifier(&link.read_bytes())).collect();
    for id in [ids[2], ids[0], ids[1]] {
        link.send(&ack(0x50, id));
        link.expect_bytes(ack(0x62, id));
        link.send(&ack(0x70, id));
    }
    expect_delivered(tickets);
    terminate(running, link);
}

#[test]
fn mqtt_2_3_1_7_suback_and_unsuback_are_matched_by_identifier() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let subscribe = |filter: &str| {
        let filters = vec![Filter::new(filter, QoS::ExactlyOnce)];
        handle.subscribe(&inbox, filters).unwrap()
    };
    let (first, second, third) = (subscribe("1"), subscribe("2"), subscribe("3"));
    let leaves = handle.unsubscribe(&inbox, vec!["4".into()]).unwrap();
    let also_leaves = handle.unsubscribe(&inbox, vec!["5".into()]).unwrap();
    link.expect_bytes(b"\x82\x06\x00\x01\x00\x011\x02");
    link.expect_bytes(b"\x82\x06\x00\x02\x00\x012\x02");
    link.expect_bytes(b"\x82\x06\x00\x03\x00\x013\x02");
    link.expect_bytes(b"\xa2\x05\x00\x04\x00\x014");
    link.expect_bytes(b"\xa2\x05\x00\x05\x00\x015");
    // Answers to nothing, and answers of the wrong kind, settle nothing.
    link.send(b"\x90\x03\x00\x09\x02\xb0\x02\x00\x09");
    link.send(b"\xb0\x02\x00\x01\x90\x03\x00\x04\x02\x40\x02\x00\x02");
    running.take_a_turn();
    // Then the right answers come, in another order than the requests.
    link.send(b"\x90\x03\x00\x03\x00");
    assert_eq!(granted(told(third)), [QoS::AtMostOnce]);
    link.send(b"\xb0\x02\x00\x05");
    assert!(told(also_leaves).is_delivered());
    assert!(
        [&first, &second, &leaves]
            .iter()
            .all(|t| t.outcome().is_none())
    );
    link.send(b"\x90\x03\x00\x01\x01");
    assert_eq!(granted(told(first)), [QoS::AtLeastOnce]);
    assert!([&second, &leaves].iter().all(|t| t.outcome().is_none()));
    link.send(b"\xb0\x02\x00\x04\x90\x03\x00\x02\x02");
    assert_eq!(granted(told(second)), [QoS::ExactlyOnce]);
    assert!(told(leaves).is_delivered());
    link.close();
    // The loop knows what was granted, and asks for nothing again.
    let link = greet(&mut broker, RESUMED);
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

/// A new session knows no identifier of the old one, so an answer for the old session settles nothing.
#[test]
fn mqtt_2_3_1_7_an_answer_of_another_session_settles_nothing() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = vec![Filter::new("s", QoS::AtMostOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).unwrap();
    let old = identifier(&link.read_bytes());
    link.close();
    let mut link = greet(&mut broker, ACCEPTED);
    let new = identifier(&link.read_bytes());
    assert_ne!(new, old);
    let [high, low] = old.to_be_bytes();
    link.send(&[0x90, 3, high, low, 0]);
    running.take_a_turn();
    assert_eq!(ticket.outcome(), None);
    let [high, low] = new.to_be_bytes();
    link.send(&[0x90, 3, high, low, 0]);
    assert_eq!(granted(told(ticket)), [QoS::AtMostOnce]);
    terminate(running, link);
}

#[track_caller]
fn granted(outcome: Outcome) -> Vec<QoS> {
    match outcome {
        Outcome::Delivered { granted, .. } => granted,
        other => panic!("expected a grant: {other:?}"),
    }
}
