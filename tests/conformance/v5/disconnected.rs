//! The end of a connection with a reason: DISCONNECT of the server, and DISCONNECT of the client because of what the
//! server sent.

use std::io::Write;

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::error::Blame;
use mqtt_connection_sharing::options::OnTooLarge;

use super::codes::DISCONNECT;
use super::violations::{expect_told, malformed, subscribed};
use crate::harness::{Log, Submit, ack, identifier, recorded, with_dup};
use crate::support::running::{Running, attempts, next, told};
use crate::support::scripted5::{ACCEPTED5, NEXT_CONNECT, RESUMED5, connack5, message5, options5};
use crate::support::{ScriptedBroker, wait_until};

/// The server closes with each code that it may have, in each form of the packet [MQTT-4.13.2-1]. The client closes
/// without a word, says the code and the server's words, and goes on with the session.
#[test]
fn each_disconnect_of_the_server_closes_the_connection() {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    let mut failures = 0;
    for code in DISCONNECT.into_iter().filter(|code| *code != 0x8e) {
        let number = format!("closed the connection with DISCONNECT 0x{code:02X} (");
        let words = b"\x1f\x00\x02no\x26\x00\x01a\x00\x01b\x1c\x00\x03b:1\x26\x00\x01a\x00\x01c";
        let long = [&[0xe0, 27, code, 25], &words[..]].concat();
        let mut forms = vec![vec![0xe0, 1, code], vec![0xe0, 2, code, 0], long];
        if code == 0 {
            forms.push(vec![0xe0, 0]);
        }
        for form in forms {
            let payload = failures.to_string();
            let accepted = running.publish("out", &payload);
            let sent = link.read_bytes();
            // A message before it counts, and nothing behind it does.
            let good = message5(0x30, "in", 0, b"", payload.as_bytes());
            let behind = message5(0x32, "in", 5, b"", b"late");
            link.send(&[&good[..], &form, &behind, b"\xff\x00"].concat());
            assert!(link.read_to_end().is_empty(), "{form:02x?}");
            link.close();
            assert_eq!(next(&inbox), payload);
            let connect;
            (link, connect) = running.greet5(&mut broker, RESUMED5);
            assert_eq!(connect, NEXT_CONNECT);
            link.expect_bytes(with_dup(sent.clone()));
            link.send(&ack(0x40, identifier(&sent)));
            assert_eq!(attempts(told(accepted)), 2);
            let lines = log.failures();
            failures += 1;
            assert_eq!(lines.len(), failures, "{form:02x?}: {lines:#?}");
            let line = &lines[failures - 1];
            assert!(line.contains(&number), "{number:?} in {line}");
            let is_long = form.len() > 4;
            for words in [": \"no\"", "server reference \"b:1\""] {
                assert_eq!(line.contains(words), is_long, "{words} in {line}");
            }
        }
    }
    assert!(inbox.try_recv().is_err());
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Another client has taken the session over: the client closes [MQTT-4.13.2-1] and does not come back, as each of the
/// two would throw the other out again and again.
#[test]
fn a_session_that_was_taken_over_is_left_to_the_other_client() {
    for form in [&b"\xe0\x01\x8e"[..], b"\xe0\x02\x8e\x00"] {
        let mut broker = ScriptedBroker::bind();
        let (running, mut link) = Running::online5(&mut broker, b"");
        let ticket = running.send(QoS::AtLeastOnce, "out", "x");
        link.expect_bytes(b"\x32\x09\x00\x03out\x00\x01\x00x");
        link.send(form);
        assert!(link.read_to_end().is_empty());
        link.close();
        let error = running.join().result.expect_err("a loop that has ended");
        assert!(
            error.to_string().contains("0x8E (session taken over)"),
            "{error}"
        );
        assert_ne!(error.blame(), Blame::Broker, "{error}");
        assert!(!ticket.outcome().expect("an end").is_delivered());
        assert_eq!(broker.received().len(), 1);
    }
}

/// Nothing follows our DISCONNECT of each code [MQTT-3.14.4-1], the link is closed [MQTT-3.14.4-2], and each of these
/// codes is one of DISCONNECT [MQTT-3.14.2-1]. Answers that are due, and commands, wait for the next link.
#[test]
fn nothing_is_sent_after_a_disconnect_with_a_reason() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.max_packet_size = 1000;
    options.on_too_large = OnTooLarge::Close;
    let (running, mut link) = Running::online5_with(options, &mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    for (violation, code) in [
        (&b"\x41\x02\x00\x01"[..], 0x81),
        (b"\xf0\x00", 0x82),
        (b"\x30\x06\x00\x00\x03\x23\x00\x09", 0x94),
        (b"\x30\xff\x7f", 0x95),
    ] {
        let in_flight = running.send(QoS::AtLeastOnce, "out", "1");
        let twice = running.send(QoS::ExactlyOnce, "out", "2");
        let sent = [link.read_bytes(), link.read_bytes()];
        let ids = [identifier(&sent[0]), identifier(&sent[1])];
        // Four messages of QoS 2 are not finished.
        for id in 1..=4 {
            link.send(&message5(0x34, "in", id, b"", b"x"));
            link.expect_bytes(ack(0x50, id));
        }
        // Each packet behind the violation asks for an answer.
        let asks = [&ack(0x62, 1)[..], &ack(0x50, ids[1]), &ack(0x50, 700)];
        link.send(&[violation, &asks.concat()].concat());
        let queued = running.send(QoS::AtMostOnce, "out", "0");
        let rest = link.read_to_end();
        assert!(
            rest.contains(&vec![0xe0, 1, code]),
            "{code:02x}: {rest:02x?}"
        );
        assert_eq!(rest.last(), Some(&vec![0xe0, 1, code]));
        // The server does not close its side, and the client has closed both.
        wait_until("the connection to be closed", || {
            link.stream().write_all(b"\xd0\x00").is_err()
        });
        let connect;
        (link, connect) = running.greet5(&mut broker, RESUMED5);
        assert_eq!(connect[9], 0, "no clean start");
        link.expect_bytes(with_dup(sent[0].clone()));
        link.expect_bytes(with_dup(sent[1].clone()));
        link.send(&[ack(0x40, ids[0]), ack(0x50, ids[1])].concat());
        // It was sent before the violation came, or waited.
        assert!(told(queued).is_delivered());
        let mut came = vec![link.read_bytes()];
        if came[0][0] == 0x30 {
            came.push(link.read_bytes());
        }
        assert_eq!(came.last().map(Vec::as_slice), Some(&ack(0x62, ids[1])[..]));
        link.send(&ack(0x70, ids[1]));
        assert!(told(in_flight).is_delivered() && told(twice).is_delivered());
        for id in 1..=4 {
            assert_eq!(next(&inbox), "x");
            link.send(&ack(0x62, id));
            link.expect_bytes(ack(0x70, id));
        }
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    let links = recorded(&broker);
    assert_eq!(links.len(), 5);
    for packets in links {
        let ends = packets.iter().filter(|packet| packet[0] == 0xe0);
        assert_eq!(ends.count(), 1, "{packets:02x?}");
        assert_eq!(packets.last().map(|packet| packet[0]), Some(0xe0));
    }
}

/// A violation in single bytes [MQTT-4.13.2-1].
#[test]
fn a_violation_in_single_bytes_is_one_too() {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5(&mut broker, b"");
    let bytes = b"\x40\x04\x00\x01\x00\x01";
    for byte in bytes {
        link.send(&[*byte]);
        running.take_a_turn();
    }
    link.expect_disconnect5(0x81);
    let link = running.resume5(&mut broker, link);
    expect_told(
        &log.failures()[0],
        &malformed(bytes, "PUBACK", "MQTT 5, 2.2.2.1"),
    );
    running.terminate5(link);
}

/// The log shows bytes of the packet that breaks the protocol, and none of the packet behind it [MQTT-4.13.2-1].
#[test]
fn the_error_shows_no_byte_of_the_next_packet() {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5(&mut broker, b"");
    for (bytes, rule, code) in [
        (&b"\x40\x03\x00\x01\x05"[..], "MQTT 5, 2.4", 0x81),
        (b"\x41\x02\x00\x01", "MQTT-2.1.3-1", 0x81),
        (b"\x30\x06\x00\x00\x03\x23\x00\x09", "MQTT-3.1.2-26", 0x94),
        (
            b"\x30\x06\x00\x00\x03\x23\x00\x01",
            "MQTT 5, 3.3.2.3.4",
            0x82,
        ),
        (b"\x20\x03\x00\x00\x00", "MQTT-3.2.0-2", 0x82),
    ] {
        link.send(&[bytes, b"\x30\x0b\x00\x01a\x00secret"].concat());
        link.expect_disconnect5(code);
        link = running.resume5(&mut broker, link);
        let name = match bytes[0] >> 4 {
            2 => "CONNACK",
            3 => "PUBLISH",
            _ => "PUBACK",
        };
        let row = super::violations::bad(bytes, name, rule, code);
        expect_told(log.failures().last().expect("a line"), &row);
    }
    running.terminate5(link);
}

/// A server that breaks the protocol on each link in the same way is given up, with the violation in the error
/// [MQTT-4.13.2-1].
#[test]
fn a_server_that_does_nothing_else_is_given_up() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.retry.attempts = 3;
    let running = Running::start(options);
    for _ in 0..4 {
        let mut link = broker.accept();
        assert_eq!(link.read_bytes()[0], 0x10);
        link.send(&[ACCEPTED5, b"\xd1\x00"].concat());
        link.expect_disconnect5(0x81);
    }
    let ended = running.join();
    let error = ended.result.expect_err("a loop that gave up");
    assert_eq!(error.blame(), Blame::Broker);
    let told = "PINGRESP: flags 0001 where 0000 is required [MQTT-2.1.3-1], beginning d1 00";
    assert!(error.to_string().contains(told), "{error}");
    assert_eq!(broker.received().len(), 4);
}

/// The link ends with DISCONNECT [MQTT-4.13.2-1], and the session goes on. A message that came before it is acknowledged on
/// the next link if it comes again, and a message of QoS 2 is not delivered twice [MQTT-4.3.3-10].
#[test]
fn a_message_before_disconnect_is_not_delivered_twice() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    for first in [0x32, 0x34] {
        let message = message5(first, "in", 3, b"", b"once");
        link.send(&[&message[..], b"\xe0\x01\x8b"].concat());
        let rest = link.read_to_end();
        assert_eq!(next(&inbox), "once");
        link.close();
        (link, _) = running.greet5(&mut broker, &connack5(true, b""));
        if rest.is_empty() {
            link.send(&with_dup(message));
            link.expect_bytes(ack(if first == 0x32 { 0x40 } else { 0x50 }, 3));
        }
        if first == 0x34 {
            link.send(&ack(0x62, 3));
            link.expect_bytes(ack(0x70, 3));
        }
        assert!(inbox.try_recv().is_err());
    }
    running.terminate5(link);
}

/// A server sends nothing behind DISCONNECT, as we send nothing [MQTT-3.14.4-1]: what stands there all the same counts for
/// nothing, and the message is sent again on the next link.
#[test]
fn an_acknowledgment_behind_disconnect_counts_for_nothing() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let ticket = running.send(QoS::AtLeastOnce, "a", "x");
    link.expect_bytes(b"\x32\x07\x00\x01a\x00\x01\x00x");
    link.send(b"\xe0\x01\x8b\x40\x02\x00\x01");
    assert!(link.read_to_end().is_empty());
    link.close();
    let (mut link, _) = running.greet5(&mut broker, RESUMED5);
    link.expect_bytes(b"\x3a\x07\x00\x01a\x00\x01\x00x");
    link.send(&ack(0x40, 1));
    assert_eq!(attempts(told(ticket)), 2);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
