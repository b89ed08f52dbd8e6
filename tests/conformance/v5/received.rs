//! Messages that come: what a thread gets of them, topic aliases, and the limits that CONNECT states.

use mqtt_connection_sharing::options::OnTooLarge;
use mqtt_connection_sharing::{Accept, InboxError, Received, WhenFull};

use super::pieces::{CARRIERS, PROPERTIES};
use super::violations::{
    bad, expect_each_ends_the_link, expect_told, forbidden, subscribe, subscribed,
};
use crate::harness::{Log, ack};
use crate::support::running::{Running, next};
use crate::support::scripted5::{ack5, message5, options5, packet5};
use crate::support::{HANG, ScriptedBroker};

/// The topic alias 1 to this message.
const ALIAS_1: &[u8] = b"\x23\x00\x01";

/// Every property that a message may have comes to the thread as it stands in the packet: payload format [MQTT-3.3.2-4],
/// expiry [MQTT-3.3.2-6], response topic [MQTT-3.3.2-15], correlation data [MQTT-3.3.2-16], user properties
/// [MQTT-3.3.2-17] in their order [MQTT-3.3.2-18], content type [MQTT-3.3.2-20], and all subscription identifiers
/// [MQTT-3.3.4-4].
#[test]
fn a_message_comes_with_all_its_properties() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    let publish = CARRIERS[0];
    let own = PROPERTIES.iter().filter(|it| publish.may_have(it));
    let all: Vec<u8> = own.flat_map(|it| it.bytes()).collect();
    let more =
        b"\x0b\x80\x01\x26\x00\x00\x00\x00\x0b\xff\xff\xff\x7f\x26\x00\x01a\x00\x01c\x0b\x07";
    link.send(&publish.with(&[&all[..], more].concat()));
    let came = inbox.recv_timeout(HANG).expect("a message");
    assert_eq!((came.topic(), came.payload()), ("in", &b"x"[..]));
    let Received {
        properties,
        subscription_identifiers,
    } = came.received().expect("properties");
    assert!(properties.payload_is_text);
    assert_eq!(properties.expiry, Some(60));
    assert_eq!(properties.content_type.as_deref(), Some("t"));
    assert_eq!(properties.response_topic.as_deref(), Some("r"));
    assert_eq!(
        properties.correlation_data.as_deref(),
        Some(&b"\xff\x00"[..])
    );
    let pairs = [("a", "b"), ("", ""), ("a", "c")];
    assert_eq!(
        properties.user_properties,
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(*subscription_identifiers, [7, 128, 268_435_455, 7]);
    // Without any there are none, and an expiry of zero is one.
    link.send(&publish.with(b""));
    let came = inbox.recv_timeout(HANG).expect("a message");
    assert_eq!(came.received(), None);
    link.send(&publish.with(b"\x02\x00\x00\x00\x00"));
    let came = inbox.recv_timeout(HANG).expect("a message");
    let received = came.received().expect("properties");
    assert_eq!(received.properties.expiry, Some(0));
    running.terminate5(link);
}

/// A response topic with wildcards [MQTT-3.3.2-14 receive] or without a character, and a payload format that there is not,
/// are mistakes of a publisher, which a server hands on as they are. The message comes, and there is no response to it.
#[test]
fn what_a_publisher_got_wrong_in_a_property_costs_nobody_the_link() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    let publish = CARRIERS[0];
    for topic in ["#", "+", "in/#", "in/+/a", "a+", ""] {
        let length = u8::try_from(topic.len()).expect("a short topic");
        let property = [&[8, 0, length], topic.as_bytes()].concat();
        link.send(&publish.with(&property));
        let came = inbox.recv_timeout(HANG).expect("a message");
        let properties = &came.received().expect("properties").properties;
        assert_eq!(properties.response_topic.as_deref(), Some(topic));
        assert_eq!(came.response("x"), None, "{topic:?}");
    }
    for format in [2, 0xff] {
        link.send(&publish.with(&[1, format, 3, 0, 1, b't']));
        let came = inbox.recv_timeout(HANG).expect("a message");
        let properties = &came.received().expect("properties").properties;
        assert!(!properties.payload_is_text);
        assert_eq!(properties.content_type.as_deref(), Some("t"));
    }
    running.terminate5(link);
}

/// A byte order mark is a character like others, in a topic and in the strings of properties [MQTT-1.5.4-3].
#[test]
fn a_byte_order_mark_stays_where_it_is() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "\u{feff}a/\u{feff}");
    let mark = b"\xef\xbb\xbf";
    let pair = [&b"\x26\x00\x04"[..], mark, b"n\x00\x03", mark].concat();
    let kind = [&b"\x03\x00\x03"[..], mark].concat();
    let bytes = message5(0x30, "\u{feff}a/\u{feff}", 0, &[pair, kind].concat(), mark);
    assert_eq!(bytes[2..6], *b"\x00\x08\xef\xbb");
    link.send(&bytes);
    let came = inbox.recv_timeout(HANG).expect("a message");
    assert_eq!(came.topic(), "\u{feff}a/\u{feff}");
    assert_eq!(came.payload(), mark);
    let properties = &came.received().expect("properties").properties;
    let pair = ("\u{feff}n".to_owned(), "\u{feff}".to_owned());
    assert_eq!(properties.user_properties, [pair]);
    assert_eq!(properties.content_type.as_deref(), Some("\u{feff}"));
    running.terminate5(link);
}

/// Wildcards at the beginning do not match topics that begin with `$` [MQTT-4.7.2-1].
#[test]
fn a_topic_that_begins_with_a_dollar_sign_is_matched_by_its_name_only() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.unmatched_queue = 1;
    let (running, mut link) = Running::online5_with(options, &mut broker, b"");
    let inboxes = ["#", "+/x", "+/#", "$SYS/#", "$SYS/+"]
        .map(|filter| subscribed(&running, &mut link, filter));
    link.send(&message5(0x30, "$SYS/x", 0, b"", b"system"));
    link.send(&message5(0x30, "SYS/x", 0, b"", b"other"));
    for inbox in &inboxes[..3] {
        assert_eq!(next(inbox), "other");
    }
    for inbox in &inboxes[3..] {
        assert_eq!(next(inbox), "system");
    }
    for inbox in &inboxes {
        assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
    }
    running.terminate5(link);
}

/// Every alias from 1 to the maximum of CONNECT is taken, stated once and used often, stated anew, and by messages of
/// each QoS [MQTT-3.3.2-10].
#[test]
fn every_topic_alias_up_to_the_maximum_is_taken() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "#");
    let alias = |number: u8| [0x23, 0, number];
    for number in 1..=8 {
        let topic = format!("t/{number}");
        link.send(&message5(0x30, &topic, 0, &alias(number), b"stated"));
    }
    for number in 1..=8 {
        link.send(&message5(0x30, "", 0, &alias(number), b"used"));
    }
    for payload in ["stated", "used"] {
        for number in 1..=8 {
            let came = inbox.recv_timeout(HANG).expect("a message");
            assert_eq!(came.topic(), format!("t/{number}"));
            assert_eq!(came.payload(), payload.as_bytes());
        }
    }
    // With an identifier, properties around it, and an empty payload.
    let pair = b"\x26\x00\x01a\x00\x01b";
    let around = [&pair[..], &alias(8), b"\x01\x01"].concat();
    link.send(&message5(0x33, "", 9, &around, b""));
    let came = inbox.recv_timeout(HANG).expect("a message");
    assert_eq!(
        (came.topic(), came.payload(), came.retain()),
        ("t/8", &b""[..], true)
    );
    let properties = &came.received().expect("properties").properties;
    assert!(properties.payload_is_text && properties.user_properties.len() == 1);
    link.expect_bytes(ack(0x40, 9));
    // It stands for another topic from now on, which a message of QoS 2 says, also if that is known already.
    for _ in 0..2 {
        link.send(&message5(0x34, "other", 7, &alias(8), b"x"));
        link.expect_bytes(ack(0x50, 7));
    }
    link.send(&ack(0x62, 7));
    link.expect_bytes(ack(0x70, 7));
    link.send(&message5(0x30, "", 0, &alias(8), b"y"));
    for payload in ["x", "y"] {
        let came = inbox.recv_timeout(HANG).expect("a message");
        assert_eq!(came.topic(), "other");
        assert_eq!(came.payload(), payload.as_bytes());
    }
    running.terminate5(link);
}

/// Aliases end with the connection [MQTT-3.3.2-7], and one for which no topic was stated is a protocol error.
#[test]
fn a_topic_alias_without_a_topic_ends_the_link() {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    let unknown = message5(0x30, "", 0, ALIAS_1, b"x");
    let others = [b"\x23\x00\x02", b"\x23\x00\x08"].map(|alias| message5(0x32, "", 5, alias, b"x"));
    for (index, bytes) in [&unknown, &others[0], &others[1], &unknown]
        .into_iter()
        .enumerate()
    {
        // Another alias is known, or none is.
        if index % 2 == 1 {
            link.send(&message5(0x30, "in", 0, ALIAS_1, b"stated"));
            assert_eq!(next(&inbox), "stated");
        }
        if index == 3 {
            // The alias is known, and the link is not the same.
            link = running.resume5(&mut broker, link);
        }
        link.send(bytes);
        link.expect_disconnect5(0x82);
        link = running.resume5(&mut broker, link);
        let row = forbidden(bytes, "PUBLISH", "MQTT 5, 3.3.2.3.4");
        expect_told(log.failures().last().expect("a line"), &row);
    }
    assert!(inbox.try_recv().is_err());
    running.terminate5(link);
}

/// An alias above the maximum [MQTT-3.1.2-26] [MQTT-3.3.2-11], with a topic and without one.
#[test]
fn a_topic_alias_above_the_maximum_ends_the_link() {
    let rows: Vec<_> = [&b"\x23\x00\x09"[..], b"\x23\x01\x00", b"\x23\xff\xff"]
        .into_iter()
        .flat_map(|alias| ["in", ""].map(|topic| message5(0x30, topic, 0, alias, b"x")))
        .map(|bytes| bad(bytes, "PUBLISH", "MQTT-3.1.2-26", 0x94))
        .collect();
    expect_each_ends_the_link(&rows);
}

/// No alias is allowed where CONNECT states no maximum [MQTT-3.1.2-27].
#[test]
fn any_topic_alias_ends_the_link_where_none_is_allowed() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.version5.topic_alias_maximum = 0;
    let running = Running::start(options);
    let (mut link, connect) = running.greet5(&mut broker, b"\x20\x03\x00\x00\x00");
    // CONNECT states none: session expiry, receive maximum and the largest packet are all.
    assert_eq!(
        connect[12..],
        *b"\x0d\x11\x00\x00\x0e\x10\x21\x01\x00\x27\x00\x04\x00\x00\x00\x04loop"
    );
    for topic in ["in", ""] {
        link.send(&message5(0x30, topic, 0, ALIAS_1, b"x"));
        link.expect_disconnect5(0x94);
        link = running.resume5(&mut broker, link);
    }
    running.terminate5(link);
}

/// A packet of the largest size is taken. A larger one of any kind, where such messages are not read away, ends the link with the code for it, on its
/// beginning alone [MQTT-3.1.2-24].
#[test]
fn a_packet_above_the_largest_size_ends_the_link() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.max_packet_size = 1000;
    options.on_too_large = OnTooLarge::Close;
    let log = Log::of(&broker);
    let running = Running::start(options);
    let (mut link, connect) = running.greet5(&mut broker, b"\x20\x03\x00\x00\x00");
    let stated = b"\x27\x00\x00\x03\xe8";
    assert!(
        connect.windows(5).any(|part| part == stated),
        "{connect:02x?}"
    );
    let inbox = subscribed(&running, &mut link, "in");
    let largest = message5(0x32, "in", 3, b"", &[b'x'; 1000 - 3 - 2 - 2 - 2 - 1]);
    assert_eq!(largest.len(), 1000);
    link.send(&largest);
    link.expect_bytes(ack(0x40, 3));
    assert_eq!(next(&inbox).len(), 990);
    // 998 bytes, and three of the fixed header.
    for (first, name) in [
        (0x30, "PUBLISH"),
        (0x32, "PUBLISH"),
        (0x34, "PUBLISH"),
        (0x40, "PUBACK"),
        (0x90, "SUBACK"),
        (0xe0, "DISCONNECT"),
    ] {
        for length in [&b"\xe6\x07"[..], b"\xff\x7f", b"\xff\xff\xff\x7f"] {
            let bytes = [&[first], length].concat();
            link.send(&bytes);
            link.expect_disconnect5(0x95);
            link = running.resume5(&mut broker, link);
            let row = bad(bytes, name, "max-packet-size", 0x95);
            expect_told(log.failures().last().expect("a line"), &row);
        }
    }
    // The same size is fine with another division: 997 bytes behind the fixed header.
    link.send(&packet5(
        0x30,
        &message5(0x30, "in", 0, b"", &[b'x'; 992])[3..],
    ));
    assert_eq!(next(&inbox).len(), 992);
    running.terminate5(link);
}

/// A message above the size that CONNECT states is read away, acknowledged and told, whichever way its topic is stated. Any
/// other packet above it ends the link [MQTT-3.1.2-24].
#[test]
fn a_message_above_the_largest_size_is_read_away() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.max_packet_size = 1000;
    let (running, mut link) = Running::online5_with(options, &mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    let payload = [b'x'; 2000];
    let told = |sent: &[u8]| match inbox.recv_timeout(HANG) {
        Err(InboxError::TooLarge { topic, size }) => {
            assert_eq!((&*topic, size), ("in", sent.len()))
        }
        other => panic!("{other:?}"),
    };
    let sent = message5(0x32, "in", 3, ALIAS_1, &payload);
    let (last, before) = sent.split_last().expect("bytes");
    link.send(before);
    link.send(&[*last]);
    link.expect_bytes(ack(0x40, 3));
    told(&sent);
    let sent = message5(0x34, "", 4, ALIAS_1, &payload);
    for _ in 0..2 {
        link.send(&sent);
        link.expect_bytes(ack(0x50, 4));
    }
    link.send(&ack(0x62, 4));
    link.expect_bytes(ack(0x70, 4));
    told(&sent);
    // With QoS 0 it is counted and nothing more.
    link.send(&message5(0x30, "", 0, ALIAS_1, &payload));
    link.send(&message5(0x32, "", 5, ALIAS_1, b"small"));
    assert_eq!(next(&inbox), "small");
    link.expect_bytes(ack(0x40, 5));
    assert_eq!(inbox.dropped(), 1);
    assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
    for bytes in [b"\x40\xe6\x07", b"\x90\xe6\x07", b"\xe0\xe6\x07"] {
        link.send(bytes);
        link.expect_disconnect5(0x95);
        link = running.resume5(&mut broker, link);
    }
    // Neither is a message read away whose properties alone are above it.
    link.send(b"\x30\xe6\x0f\x00\x02in\xe6\x07");
    link.expect_disconnect5(0x95);
    link = running.resume5(&mut broker, link);
    running.terminate5(link);
}

/// The log line of a message beyond this receive maximum. Each test states a number of its own.
fn beyond(stated: u16) -> String {
    format!("receive maximum in CONNECT is {stated}:")
}

/// Brokers send more messages under load than the receive maximum allows. The standard lets a client close the link for
/// it, and does not force it to [MQTT-3.3.4-9]: they are taken while there is room for them, and the log says so.
#[test]
fn a_message_above_the_receive_maximum_is_taken_while_there_is_room() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.version5.receive_maximum = Some(1);
    let log = Log::of(&broker);
    let running = Running::start(options);
    let (mut link, connect) = running.greet5(&mut broker, b"\x20\x03\x00\x00\x00");
    let stated = b"\x21\x00\x01";
    assert!(
        connect.windows(3).any(|part| part == stated),
        "{connect:02x?}"
    );
    // No message is acknowledged before it is taken.
    let inbox = running.handle().inbox(10, Accept::OnceTaken);
    subscribe(&running, &mut link, &inbox, "in");
    let of = |first, id: u16| message5(first, "in", id, b"", id.to_string().as_bytes());
    for firsts in [[0x32, 0x32, 0x32], [0x34, 0x34, 0x34], [0x34, 0x32, 0x34]] {
        let of_each = [of(firsts[0], 1), of(firsts[1], 2), of(firsts[2], 3)];
        link.send(&of_each.concat());
        assert_eq!([next(&inbox), next(&inbox), next(&inbox)], ["1", "2", "3"]);
        assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
        for (first, id) in firsts.into_iter().zip(1..) {
            link.expect_bytes(ack(if first == 0x32 { 0x40 } else { 0x50 }, id));
        }
        for (_, id) in firsts.into_iter().zip(1..).filter(|(it, _)| *it == 0x34) {
            link.send(&ack(0x62, id));
            link.expect_bytes(ack(0x70, id));
        }
    }
    // The first of six such messages is told.
    let told = log.with(&beyond(1));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("sent 2 messages") && told[0].ends_with("1 so far"));
    assert_eq!(log.failures(), [""; 0]);
    running.terminate5(link);
}

/// Beyond the room for messages that wait the link ends [MQTT-3.3.4-9]: 64 MiB and a quarter.
#[test]
fn a_message_above_the_receive_maximum_ends_the_link() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.version5.receive_maximum = Some(3);
    options.max_packet_size = 2 << 20;
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5_with(options, &mut broker, b"");
    // No message is acknowledged before it is taken.
    let inbox = running.handle().inbox(100, Accept::OnceTaken);
    subscribe(&running, &mut link, &inbox, "in");
    let payload = vec![b'x'; 1 << 20];
    let of = |first, id| message5(first, "in", id, b"", &payload);
    // Each counts some bytes beside its payload.
    const MOST: u16 = 79;
    for id in 1..=MOST {
        link.send(&of(0x34, id));
    }
    // QoS 0 does not count, and neither does the same message again.
    link.send(&[message5(0x30, "in", 0, b"", b"0"), of(0x3c, 2)].concat());
    let last = of(0x32, MOST + 1);
    link.send(&last);
    link.expect_disconnect5(0x93);
    link = running.resume5(&mut broker, link);
    let told = log.failures();
    assert_eq!(told.len(), 1);
    expect_told(&told[0], &bad(last, "PUBLISH", "MQTT-3.3.4-9", 0x93));
    for _ in 1..=MOST {
        assert_eq!(next(&inbox).len(), payload.len());
    }
    assert_eq!(next(&inbox), "0");
    assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
    // The session goes on: the broker sends again what it has no acknowledgment for.
    for (first, id) in [(0x3c, 1), (0x3a, MOST + 1)] {
        link.send(&of(first, id));
        if first == 0x3a {
            assert_eq!(next(&inbox).len(), payload.len());
            link.expect_bytes(ack(0x40, id));
        } else {
            link.expect_bytes(ack(0x50, id));
        }
    }
    link.send(&ack(0x62, 1));
    link.expect_bytes(ack(0x70, 1));
    running.terminate5(link);
}

/// PUBACK and PUBCOMP make room for the next message, and PUBREC does not [MQTT-3.3.4-9].
#[test]
fn a_message_counts_until_it_is_finished() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.version5.receive_maximum = Some(2);
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5_with(options, &mut broker, b"");
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    subscribe(&running, &mut link, &inbox, "in");
    let of = |first, id| message5(first, "in", id, b"", b"x");
    for id in 1..=20 {
        link.send(&of(0x32, id));
        link.expect_bytes(ack(0x40, id));
    }
    for id in 1..=20 {
        link.send(&of(0x34, id));
        link.expect_bytes(ack(0x50, id));
        link.send(&of(0x32, 100));
        link.expect_bytes(ack(0x40, 100));
        link.send(&ack5(0x62, id, 0));
        link.expect_bytes(ack(0x70, id));
    }
    for _ in 0..60 {
        assert_eq!(next(&inbox), "x");
    }
    for id in [1, 2] {
        link.send(&of(0x34, id));
        link.expect_bytes(ack(0x50, id));
    }
    assert_eq!(log.with(&beyond(2)), [""; 0]);
    link.send(&of(0x32, 3));
    link.expect_bytes(ack(0x40, 3));
    let told = log.with(&beyond(2));
    assert!(told.len() == 1 && told[0].contains("sent 3 messages"));
    // It is counted anew on each link. Those that wait for PUBREL on both sides are not sent again.
    let mut link = running.resume5(&mut broker, link);
    for id in [5, 6] {
        link.send(&of(0x34, id));
        link.expect_bytes(ack(0x50, id));
    }
    assert_eq!(log.with(&beyond(2)), told);
    for id in [1, 2, 5, 6] {
        link.send(&ack(0x62, id));
        link.expect_bytes(ack(0x70, id));
    }
    running.terminate5(link);
}

/// Where the options say nothing, CONNECT states as many messages as may wait for threads: all of them may come, and the
/// log tells of one more [MQTT-3.3.4-9].
#[test]
fn as_many_messages_may_come_as_connect_says() {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(300, Accept::OnceTaken);
    subscribe(&running, &mut link, &inbox, "in");
    let all = (1..=256).map(|id| message5(0x32, "in", id, b"", b"x"));
    link.send(&all.collect::<Vec<_>>().concat());
    for id in 1..=256 {
        assert_eq!(next(&inbox), "x");
        link.expect_bytes(ack(0x40, id));
    }
    assert_eq!(log.with(&beyond(256)), [""; 0]);
    let more = (1..=257).map(|id| message5(0x34, "in", id, b"", b"x"));
    link.send(&more.collect::<Vec<_>>().concat());
    for id in 1..=257 {
        assert_eq!(next(&inbox), "x");
        link.expect_bytes(ack(0x50, id));
    }
    let told = log.with(&beyond(256));
    assert!(told.len() == 1 && told[0].contains("sent 257 messages"));
    link.close();
    running.drop_all_and_join();
}
