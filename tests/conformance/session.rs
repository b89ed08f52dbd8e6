//! The session: the state that is kept from one connection to the next, and the state that is not.

use std::time::Duration;

use mqtt_connection_sharing::{Filter, Inbox, Publish, QoS};
use mqtt_connection_sharing::{Outcome, Reason, Ticket, WhenFull};

use crate::harness::{
    ACCEPTED, CLEAN_CONNECT, CONNECT, RESUMED, Submit, ack, greet, greet_as, identifier, message,
};
use crate::harness::{leave, online, recorded, terminate};
use crate::support::running::{Running, attempts, expect_delivered, next, options, told};
use crate::support::{Connection, ScriptedBroker};

/// Leaves a message in each state in which something can be in flight: sent and not acknowledged, with QoS 1
/// (identifier 2) and QoS 2 (3); released and not completed (4); received under `id` and not released. The
/// inbox is subscribed to `in`. Returns the tickets of the first three.
#[track_caller]
fn leave_all_unfinished(
    running: &Running,
    link: &mut Connection,
    inbox: &Inbox,
    id: u16,
) -> [Ticket; 3] {
    let qos_1 = running.send(QoS::AtLeastOnce, "a", "1");
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x021");
    let qos_2 = running.send(QoS::ExactlyOnce, "a", "2");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x032");
    let released = running.send(QoS::ExactlyOnce, "a", "3");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x043");
    link.send(&ack(0x50, 4));
    link.expect_bytes(ack(0x62, 4));
    link.send(&message(0x34, "in", id, b"unreleased"));
    link.expect_bytes(ack(0x50, id));
    assert_eq!(next(inbox), "unreleased");
    [qos_1, qos_2, released]
}

#[track_caller]
fn greet_clean(broker: &mut ScriptedBroker) -> Connection {
    greet_as(CLEAN_CONNECT, broker, ACCEPTED)
}

#[test]
fn mqtt_3_1_2_4_with_clean_session_0_the_session_outlives_the_connection() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let ticket = running.send(QoS::AtLeastOnce, "out", "x");
    link.expect_bytes(b"\x32\x08\x00\x03out\x00\x02x");
    for round in 0..3_u8 {
        match round {
            0 => leave(&running, link),
            _ => link.close(),
        }
        // The flag is 0 each time, and the broker goes on sending for the one subscription.
        link = greet(&mut broker, RESUMED);
        link.expect_bytes(b"\x3a\x08\x00\x03out\x00\x02x");
        link.send(&message(0x32, "in", 1, &[b'a' + round]));
        link.expect_bytes(ack(0x40, 1));
        assert_eq!(next(&inbox).as_bytes(), [b'a' + round]);
    }
    link.send(&ack(0x40, 2));
    assert_eq!(attempts(told(ticket)), 4);
    terminate(running, link);
    let subscribes = recorded(&broker).concat();
    let subscribes = subscribes.iter().filter(|packet| packet[0] == 0x82);
    assert_eq!(subscribes.count(), 1, "nothing is subscribed twice");
}

#[test]
fn mqtt_3_1_2_6_with_clean_session_1_every_connection_begins_a_new_session() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.clean_session = true;
    let running = Running::start(options);
    let mut link = greet_clean(&mut broker);
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let [qos_1, qos_2, released] = leave_all_unfinished(&running, &mut link, &inbox, 5);
    link.close();

    let mut link = greet_clean(&mut broker);
    // The filter is subscribed anew, and the QoS 1 message is sent as a new one; nothing has DUP, and no
    // PUBREL comes.
    let renewal = link.read_bytes();
    assert_eq!((renewal[0], &renewal[4..]), (0x82, &b"\x00\x02in\x01"[..]));
    link.send(&[b"\x90\x03", &renewal[2..4], b"\x01"].concat());
    let anew = link.read_bytes();
    assert_eq!(
        (&anew[..5], &anew[7..]),
        (&b"\x32\x06\x00\x01a"[..], &b"1"[..])
    );
    // Answers to packets of the old session end nothing. PUBREC has an answer in any case.
    link.send(&[ack(0x50, 3), ack(0x70, 4)].concat());
    link.expect_bytes(ack(0x62, 3));
    link.send(&ack(0x40, identifier(&anew)));
    assert_eq!(attempts(told(qos_1)), 2);
    let unknown = Outcome::PerhapsDelivered(Reason::SessionLost);
    assert_eq!(told(qos_2), unknown);
    assert_eq!(told(released), unknown);
    // The identifier that was not released belongs to a new message now.
    link.send(&message(0x34, "in", 5, b"unreleased"));
    link.expect_bytes(ack(0x50, 5));
    assert_eq!(next(&inbox), "unreleased");
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

/// A loop that begins with a clean session leaves nothing to the next loop.
#[test]
fn mqtt_3_1_2_6_a_cleared_session_is_not_carried_on() {
    let mut scripted = ScriptedBroker::bind();
    let client = mqtt_connection_sharing::Client::new(options(&scripted)).unwrap();
    let mut client = client.with_first_identifier(1);
    for clean in [true, false] {
        let (agent, handle) = match clean {
            true => client.open_clean(),
            false => client.open(),
        };
        let ended = std::thread::spawn(move || agent.run());
        let connect = if clean { CLEAN_CONNECT } else { CONNECT };
        let mut link = greet_as(connect, &mut scripted, ACCEPTED);
        let inbox = handle.inbox(1, WhenFull::WaitAside);
        if clean {
            // Granted; sent and not acknowledged; received and not released.
            let filters = vec![Filter::new("in", QoS::ExactlyOnce)];
            let granted = handle.subscribe(&inbox, filters).unwrap();
            link.expect_bytes(b"\x82\x07\x00\x01\x00\x02in\x02");
            link.send(b"\x90\x03\x00\x01\x02");
            assert!(told(granted).is_delivered());
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                drop(handle.publish(Publish::new("a", qos, "x")).unwrap());
                assert_eq!(link.read_bytes()[0] >> 4, 3);
            }
        } else {
            // Nothing of the first loop comes before it, and nobody has the filter.
            let publish = Publish::new("a", QoS::AtLeastOnce, "y");
            let ticket = handle.publish(publish).unwrap();
            let sent = link.read_bytes();
            assert_eq!(
                (&sent[..5], &sent[7..]),
                (&b"\x32\x06\x00\x01a"[..], &b"y"[..])
            );
            link.send(&ack(0x40, identifier(&sent)));
            assert_eq!(attempts(told(ticket)), 1);
        }
        link.send(&message(0x34, "in", 5, b"unreleased"));
        link.expect_bytes(ack(0x50, 5));
        match clean {
            true => assert_eq!(next(&inbox), "unreleased"),
            false => {
                let unmatched = handle.unmatched().try_recv();
                assert_eq!(unmatched.map(|m| m.payload().len()), Ok(10));
                assert!(inbox.try_recv().is_err());
            }
        }
        drop(handle.terminate(Duration::ZERO));
        assert_eq!(link.read_to_end(), [b"\xe0\x00"]);
        link.close();
        let ended = ended.join().unwrap();
        assert!(ended.result.is_ok());
        client = ended.client;
    }
}

#[test]
fn mqtt_3_1_3_2_each_client_identifier_has_its_own_session() {
    let mut broker = ScriptedBroker::bind();
    // Two clients with one broker, each with something in flight.
    let mut clients = Vec::new();
    for id in ["one", "two"] {
        let mut options = options(&broker);
        options.client_id = id.into();
        let running = Running::start(options);
        let mut link = broker.accept();
        let connect = [
            b"\x10\x0f\x00\x04MQTT\x04\x00\x00\x3c\x00\x03",
            id.as_bytes(),
        ]
        .concat();
        link.expect_bytes(&connect);
        link.send(ACCEPTED);
        let inbox = running.handle().inbox(1, WhenFull::WaitAside);
        running.subscribe(&mut link, &inbox, id);
        let ticket = running.send(QoS::AtLeastOnce, "a", id);
        let publish = [b"\x32\x08\x00\x01a\x00\x02", id.as_bytes()].concat();
        link.expect_bytes(&publish);
        clients.push((running, link, connect, publish, ticket, inbox));
    }
    // Each client comes back under its own identifier, with its own state and nothing of the other's.
    for (running, link, connect, mut publish, ticket, inbox) in clients {
        link.close();
        let mut link = broker.accept();
        link.expect_bytes(&connect);
        link.send(RESUMED);
        publish[0] = 0x3a;
        link.expect_bytes(&publish);
        for topic in ["one", "two"] {
            link.send(&message(0x32, topic, 1, topic.as_bytes()));
            link.expect_bytes(ack(0x40, 1));
        }
        assert_eq!(next(&inbox).as_bytes(), &publish[7..]);
        assert!(inbox.try_recv().is_err());
        link.send(&ack(0x40, 2));
        assert!(told(ticket).is_delivered());
        assert_eq!(terminate(running, link), [b"\xe0\x00"]);
    }
}

#[test]
fn mqtt_4_1_0_1_all_of_the_session_state_is_kept_as_long_as_the_session_is() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let [qos_1, qos_2, released] = leave_all_unfinished(&running, &mut link, &inbox, 9);

    // The connection ends in each way there is: lost, broken off, left and made anew.
    for way in 0..5 {
        match way {
            0 => link.close(),
            1 => {
                link.send(b"\xf0\x00");
                link.read_to_end();
            }
            2 => leave(&running, link),
            3 => {
                let offline = handle.disconnect();
                assert_eq!(link.read_to_end(), [b"\xe0\x00"]);
                link.close();
                assert!(told(offline).is_delivered());
                running.take_a_turn();
                drop(handle.reconnect());
            }
            // Lost before CONNACK.
            _ => {
                link.close();
                let mut link = broker.accept();
                link.expect_bytes(CONNECT);
                link.close();
            }
        }
        link = greet(&mut broker, RESUMED);
        // A CONNACK that announced a new session may have been lost, so the loop subscribes again.
        if way == 4 {
            let renewal = link.read_bytes();
            assert_eq!((renewal[0], &renewal[4..]), (0x82, &b"\x00\x02in\x01"[..]));
            link.send(&[b"\x90\x03", &renewal[2..4], b"\x01"].concat());
        }
        link.expect_bytes(ack(0x62, 4));
        link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x021");
        link.expect_bytes(b"\x3c\x06\x00\x01a\x00\x032");
        link.send(&message(0x3c, "in", 9, b"unreleased"));
        link.expect_bytes(ack(0x50, 9));
        assert!(inbox.try_recv().is_err());
    }
    link.send(&[ack(0x70, 4), ack(0x40, 2), ack(0x50, 3)].concat());
    link.expect_bytes(ack(0x62, 3));
    link.send(&[ack(0x70, 3), ack(0x62, 9)].concat());
    link.expect_bytes(ack(0x70, 9));
    for ticket in [qos_1, qos_2, released] {
        assert!(told(ticket).is_delivered());
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_4_0_1_on_resuming_publish_and_pubrel_are_sent_again_with_their_identifiers() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let mut tickets: Vec<_> = [1, 2, 1, 2, 1]
        .into_iter()
        .map(|qos| running.send(QoS::try_from(qos).unwrap(), "a", &qos.to_string()))
        .collect();
    for expected in [
        b"\x32\x06\x00\x01a\x00\x011",
        b"\x34\x06\x00\x01a\x00\x022",
        b"\x32\x06\x00\x01a\x00\x031",
        b"\x34\x06\x00\x01a\x00\x042",
        b"\x32\x06\x00\x01a\x00\x051",
    ] {
        link.expect_bytes(expected);
    }
    // One message of each QoS is answered, as far as possible.
    link.send(&[ack(0x50, 4), ack(0x40, 3)].concat());
    link.expect_bytes(ack(0x62, 4));
    link.close();
    for _ in 0..2 {
        link = greet(&mut broker, RESUMED);
        link.expect_bytes(b"\x62\x02\x00\x04");
        link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x011");
        link.expect_bytes(b"\x3c\x06\x00\x01a\x00\x022");
        link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x051");
        leave(&running, link);
    }
    // Half of the packets arrive, and the rest comes on the next link.
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\x62\x02\x00\x04");
    link.send(&ack(0x70, 4));
    link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x011");
    link.send(&ack(0x40, 1));
    assert_eq!(attempts(told(tickets.remove(0))), 4);
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\x3c\x06\x00\x01a\x00\x022");
    link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x051");
    link.send(&[ack(0x50, 2), ack(0x70, 2), ack(0x40, 5)].concat());
    expect_delivered(tickets);
    assert_eq!(
        terminate(running, link),
        [&b"\x62\x02\x00\x02"[..], b"\xe0\x00"]
    );
}
