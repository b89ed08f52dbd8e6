//! The session: the state that is kept from one link to the next, for how long, and the state that is not.

use mqtt_connection_sharing::{Client, Filter, Inbox, QoS, Ticket, WhenFull};
use mqtt_connection_sharing::{Outcome, Reason};

use crate::harness::{Submit, ack, leave, recorded};
use crate::support::running::{Running, attempts, expect_delivered, next, told};
use crate::support::scripted5::{
    ACCEPTED5, FIRST_CONNECT, NEXT_CONNECT, RESUMED5, ack5, answers5, connack5, message5, options5,
};
use crate::support::{Connection, ScriptedBroker};

#[track_caller]
fn subscribed(running: &Running, link: &mut Connection) -> Inbox {
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let filters = vec![Filter::new("in", QoS::ExactlyOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).unwrap();
    link.expect_bytes(b"\x82\x08\x00\x01\x00\x00\x02in\x02");
    link.send(&answers5(0x90, 1, &[2]));
    assert!(told(ticket).is_delivered());
    inbox
}

/// A loop that is opened with a clean session leaves none behind, whatever the options say: the session is kept no longer
/// than its expiry [MQTT-3.1.2-23], and without one it ends with its connection.
#[test]
fn a_loop_with_a_clean_session_asks_for_none_that_is_kept() {
    const CLEAN_CONNECT: &[u8] =
        b"\x10\x1c\x00\x04MQTT\x05\x02\x00\x3c\x0b\x21\x01\x00\x27\x00\x04\x00\x00\x22\x00\x08\x00\x04loop";
    let mut broker = ScriptedBroker::bind();
    let client = Client::new(options5(&broker)).unwrap();
    let (agent, handle) = client.open_clean();
    let ended = std::thread::spawn(move || agent.run());
    let mut greeted = || {
        let mut link = broker.accept();
        link.expect_bytes(CLEAN_CONNECT);
        link.send(ACCEPTED5);
        link
    };
    greeted().close();
    let mut link = greeted();
    drop(handle);
    assert_eq!(link.read_to_end(), [b"\xe0\x00"]);
    link.close();
    assert!(ended.join().unwrap().result.is_ok());
}

/// Leaves a message in each state in which something can be in flight: sent and not acknowledged, with QoS 1
/// (identifier 2) and QoS 2 (3); released and not completed (4); received under 9 and not released. The inbox is subscribed
/// to `in`. Returns the tickets of the first three.
#[track_caller]
fn leave_all_unfinished(running: &Running, link: &mut Connection, inbox: &Inbox) -> [Ticket; 3] {
    let qos_1 = running.send(QoS::AtLeastOnce, "a", "1");
    link.expect_bytes(b"\x32\x07\x00\x01a\x00\x02\x001");
    let qos_2 = running.send(QoS::ExactlyOnce, "a", "2");
    link.expect_bytes(b"\x34\x07\x00\x01a\x00\x03\x002");
    let released = running.send(QoS::ExactlyOnce, "a", "3");
    link.expect_bytes(b"\x34\x07\x00\x01a\x00\x04\x003");
    link.send(&ack(0x50, 4));
    link.expect_bytes(ack(0x62, 4));
    link.send(&message5(0x34, "in", 9, b"", b"unreleased"));
    link.expect_bytes(ack(0x50, 9));
    assert_eq!(next(inbox), "unreleased");
    [qos_1, qos_2, released]
}

/// The session is kept as long as there is a link [MQTT-4.1.0-1] and from one to the next [MQTT-3.1.2-23]: all of it, however
/// the link ends. It goes on where it was [MQTT-4.4.0-1].
#[test]
fn all_of_the_session_is_kept_from_link_to_link() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let handle = running.handle();
    let inbox = subscribed(&running, &mut link);
    let [qos_1, qos_2, released] = leave_all_unfinished(&running, &mut link, &inbox);
    // The link ends in each way there is: lost, broken off by either side, left and made anew.
    for way in 0..5 {
        match way {
            0 => link.close(),
            1 => {
                link.send(b"\xf0\x00");
                link.expect_disconnect5(0x82);
            }
            2 => leave(&running, link),
            3 => {
                link.send(b"\xe0\x01\x8b");
                assert!(link.read_to_end().is_empty());
            }
            _ => {
                let offline = handle.disconnect();
                link.expect_disconnect5(0);
                link.close();
                assert!(told(offline).is_delivered());
                drop(handle.reconnect());
            }
        }
        let connect;
        (link, connect) = running.greet5(&mut broker, RESUMED5);
        assert_eq!(connect, NEXT_CONNECT);
        link.expect_bytes(ack(0x62, 4));
        link.expect_bytes(b"\x3a\x07\x00\x01a\x00\x02\x001");
        link.expect_bytes(b"\x3c\x07\x00\x01a\x00\x03\x002");
        link.send(&message5(0x3c, "in", 9, b"", b"unreleased"));
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
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    let subscribes = recorded(&broker).concat();
    let subscribes = subscribes.iter().filter(|packet| packet[0] == 0x82);
    assert_eq!(subscribes.count(), 1, "nothing is subscribed twice");
}

/// Without session present the state is discarded [MQTT-3.2.2-5]: identifiers, what was received and not released, what was
/// released. Messages of QoS 1 go on as new ones, and those of QoS 2 do not. The same holds behind a CONNECT of ours with
/// clean start [MQTT-3.1.2-4].
#[test]
fn a_session_that_is_not_present_is_discarded() {
    for is_clean in [false, true] {
        let mut broker = ScriptedBroker::bind();
        let mut options = options5(&broker);
        options.clean_session = is_clean;
        let (running, mut link) = Running::online5_with(options, &mut broker, b"");
        let inbox = subscribed(&running, &mut link);
        let [qos_1, qos_2, released] = leave_all_unfinished(&running, &mut link, &inbox);
        link.close();
        let (mut link, connect) = running.greet5(&mut broker, ACCEPTED5);
        assert_eq!(connect[9], if is_clean { 2 } else { 0 });
        // The filter is subscribed anew, nothing has DUP, and no PUBREL comes.
        let renewal = link.read_bytes();
        assert_eq!(renewal[0], 0x82);
        assert_eq!(renewal[4..9], *b"\x00\x00\x02in");
        link.send(&answers5(
            0x90,
            u16::from_be_bytes([renewal[2], renewal[3]]),
            &[2],
        ));
        let anew = link.read_bytes();
        assert_eq!(
            (&anew[..5], &anew[7..]),
            (&b"\x32\x07\x00\x01a"[..], &b"\x001"[..])
        );
        assert_ne!(anew[5..7], [0, 2], "the identifier of the old session");
        // Answers to packets of the old session end nothing.
        link.send(&[ack(0x50, 3), ack(0x70, 4), ack(0x40, 2)].concat());
        link.expect_bytes(ack5(0x62, 3, 0x92));
        link.send(&[0x40, 2, anew[5], anew[6]]);
        assert_eq!(attempts(told(qos_1)), 2);
        let unknown = Outcome::PerhapsDelivered(Reason::SessionLost);
        assert_eq!(told(qos_2), unknown);
        assert_eq!(told(released), unknown);
        // The identifier that was not released belongs to a new message now, and there is nothing to release before.
        link.send(&ack(0x62, 9));
        link.expect_bytes(ack5(0x70, 9, 0x92));
        link.send(&message5(0x34, "in", 9, b"", b"unreleased"));
        link.expect_bytes(ack(0x50, 9));
        assert_eq!(next(&inbox), "unreleased");
        assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    }
}

/// The session ends with the session expiry [MQTT-3.1.2-23], here at once: ours is 0 where a clean session is asked for, and
/// CONNACK may set another one. Behind it CONNECT asks for a clean start, and the state is discarded [MQTT-3.1.2-4].
#[test]
fn a_session_that_has_expired_is_not_asked_for() {
    let mut broker = ScriptedBroker::bind();
    let at_once = b"\x11\x00\x00\x00\x00";
    let (running, mut link) = Running::online5(&mut broker, at_once);
    let ticket = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(b"\x34\x07\x00\x01a\x00\x01\x00x");
    link.close();
    let (link, connect) = running.greet5(&mut broker, ACCEPTED5);
    assert_eq!(connect, FIRST_CONNECT, "a clean start");
    let unknown = Outcome::PerhapsDelivered(Reason::SessionLost);
    assert_eq!(told(ticket), unknown);
    // Without a session expiry in CONNACK it is ours, which goes on, and so does one without end.
    link.close();
    let forever = connack5(true, b"\x11\xff\xff\xff\xff");
    let (link, connect) = running.greet5(&mut broker, &forever);
    assert_eq!(connect, NEXT_CONNECT);
    link.close();
    let (link, connect) = running.greet5(&mut broker, RESUMED5);
    assert_eq!(connect, NEXT_CONNECT);
    running.terminate5(link);
}

/// On resuming all that is unacknowledged is sent again, in its old order [MQTT-4.6.0-1], with its identifiers, and at no
/// other time [MQTT-4.4.0-1]: not on a living link, however much is answered meanwhile.
#[test]
fn what_is_unacknowledged_is_sent_again_on_resuming_and_at_no_other_time() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let mut tickets: Vec<_> = [1, 2, 1, 2, 1]
        .into_iter()
        .map(|qos| running.send(QoS::try_from(qos).unwrap(), "a", &qos.to_string()))
        .collect();
    for expected in [
        b"\x32\x07\x00\x01a\x00\x01\x001",
        b"\x34\x07\x00\x01a\x00\x02\x002",
        b"\x32\x07\x00\x01a\x00\x03\x001",
        b"\x34\x07\x00\x01a\x00\x04\x002",
        b"\x32\x07\x00\x01a\x00\x05\x001",
    ] {
        link.expect_bytes(expected);
    }
    // One message of each QoS is answered, as far as possible, and so are other commands.
    link.send(&[ack(0x50, 4), ack(0x40, 3)].concat());
    link.expect_bytes(ack(0x62, 4));
    for _ in 0..5 {
        let ping = running.handle().ping().unwrap();
        link.expect_bytes(b"\xc0\x00");
        link.send(b"\xd0\x00");
        assert!(told(ping).is_delivered());
        let other = running.send(QoS::AtLeastOnce, "b", "x");
        let packet = link.read_bytes();
        assert_eq!((packet[0], packet[4]), (0x32, b'b'));
        link.send(&[0x40, 2, packet[5], packet[6]]);
        assert!(told(other).is_delivered());
    }
    link.close();
    for _ in 0..2 {
        (link, _) = running.greet5(&mut broker, RESUMED5);
        link.expect_bytes(b"\x62\x02\x00\x04");
        link.expect_bytes(b"\x3a\x07\x00\x01a\x00\x01\x001");
        link.expect_bytes(b"\x3c\x07\x00\x01a\x00\x02\x002");
        link.expect_bytes(b"\x3a\x07\x00\x01a\x00\x05\x001");
        let ping = running.handle().ping().unwrap();
        link.expect_bytes(b"\xc0\x00");
        link.send(b"\xd0\x00");
        assert!(told(ping).is_delivered());
        leave(&running, link);
    }
    let (mut link, _) = running.greet5(&mut broker, RESUMED5);
    for _ in 0..4 {
        link.read_bytes();
    }
    link.send(&[ack(0x70, 4), ack(0x40, 1), ack(0x50, 2), ack(0x40, 5)].concat());
    link.expect_bytes(ack(0x62, 2));
    link.send(&ack(0x70, 2));
    assert_eq!(attempts(told(tickets.remove(0))), 4);
    expect_delivered(tickets);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// The session belongs to the client identifier [MQTT-3.1.3-2]: each client comes back under its own, with its own state
/// and nothing of the other's.
#[test]
fn each_client_identifier_has_its_own_session() {
    let mut broker = ScriptedBroker::bind();
    let mut clients = Vec::new();
    for id in ["one", "two"] {
        let mut options = options5(&broker);
        options.client_id = id.into();
        let running = Running::start(options);
        let (mut link, connect) = running.greet5(&mut broker, ACCEPTED5);
        let ticket = running.send(QoS::AtLeastOnce, "a", id);
        let publish = [b"\x32\x09\x00\x01a\x00\x01\x00", id.as_bytes()].concat();
        link.expect_bytes(&publish);
        clients.push((running, link, connect, publish, ticket));
    }
    for (running, link, mut connect, mut publish, ticket) in clients {
        link.close();
        let (mut link, next) = running.greet5(&mut broker, RESUMED5);
        connect[9] = 0;
        assert_eq!(next, connect);
        publish[0] = 0x3a;
        link.expect_bytes(&publish);
        link.send(&ack(0x40, 1));
        assert!(told(ticket).is_delivered());
        assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    }
}

/// The link is TCP, an ordered stream of bytes without loss [MQTT-4.2.0-1]: packets come in any pieces.
#[test]
fn packets_come_in_any_pieces() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link);
    let messages = [
        message5(0x30, "in", 0, b"\x03\x00\x01t", b"0"),
        message5(0x32, "in", 7, b"", b"1"),
        message5(0x34, "in", 8, b"\x26\x00\x01k\x00\x01v", b"2"),
    ];
    for byte in messages.concat() {
        link.send(&[byte]);
    }
    for payload in ["0", "1", "2"] {
        assert_eq!(next(&inbox), payload);
    }
    link.expect_bytes(ack(0x40, 7));
    link.expect_bytes(ack(0x50, 8));
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
