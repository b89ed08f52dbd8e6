//! Topic aliases of our own, and the end of all aliases with the link.

use mqtt_connection_sharing::{Filter, QoS, WhenFull};

use crate::harness::{Submit, ack, leave};
use crate::support::ScriptedBroker;
use crate::support::running::{Running, expect_delivered, next, told};
use crate::support::scripted5::{
    RESUMED5, answers5, connack5, message5, options5, packet5, with_length,
};

/// The bytes of a message of QoS 0 with this payload, and the alias if it is not 0.
fn publish(topic: &str, alias: u8, payload: &str) -> Vec<u8> {
    let properties: &[u8] = match alias {
        0 => b"",
        alias => &[0x23, 0, alias],
    };
    let length = u8::try_from(topic.len()).unwrap();
    let body = [
        &[0, length],
        topic.as_bytes(),
        &with_length(properties),
        payload.as_bytes(),
    ];
    packet5(0x30, &body.concat())
}

/// Without a topic alias maximum in CONNACK, or with 0, there is no alias [MQTT-3.2.2-18]; with less than we would use there
/// is none above it [MQTT-3.2.2-17] [MQTT-3.3.2-9]. None is 0 [MQTT-3.3.2-8].
#[test]
fn no_alias_is_above_the_servers_maximum() {
    let rows: [(&[u8], u16, u8); 6] = [
        (b"", 5, 0),
        (b"\x22\x00\x00", 5, 0),
        (b"\x22\x00\x01", 5, 1),
        (b"\x22\x00\x03", 5, 3),
        (b"\x22\xff\xff", 2, 2),
        (b"\x22\x00\x05", 0, 0),
    ];
    for (properties, ours, most) in rows {
        let mut broker = ScriptedBroker::bind();
        let mut options = options5(&broker);
        options.version5.topic_aliases = ours;
        let (running, mut link) = Running::online5_with(options, &mut broker, properties);
        let topics = ["a", "b", "c", "d", "e", "f"];
        for (topic, number) in topics.into_iter().zip(1..) {
            // A topic that has no alias yet takes the next one, or that of the topic that was not used for the longest time.
            let alias = match most {
                0 => 0,
                most => (number - 1) % most + 1,
            };
            drop(running.send(QoS::AtMostOnce, topic, "1"));
            link.expect_bytes(publish(topic, alias, "1"));
            drop(running.send(QoS::AtMostOnce, topic, "2"));
            let known = if alias == 0 { topic } else { "" };
            link.expect_bytes(publish(known, alias, "2"));
        }
        assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    }
}

/// Our aliases end with the link [MQTT-3.3.2-7]: on the next one the whole topic comes again, in packets that are sent
/// again, too, and with what the next CONNACK allows [MQTT-3.3.2-9].
#[test]
fn our_aliases_end_with_the_link() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.version5.topic_aliases = 5;
    let (running, mut link) = Running::online5_with(options, &mut broker, b"\x22\x00\x05");
    let tickets = ["1", "2"].map(|payload| running.send(QoS::AtLeastOnce, "a", payload));
    link.expect_bytes(b"\x32\x0a\x00\x01a\x00\x01\x03\x23\x00\x011");
    link.expect_bytes(b"\x32\x09\x00\x00\x00\x02\x03\x23\x00\x012");
    leave(&running, link);
    let (mut link, _) = running.greet5(&mut broker, &connack5(true, b"\x22\x00\x05"));
    for (id, payload) in [(1, b'1'), (2, b'2')] {
        let packet = link.read_bytes();
        // With the alias or without, the topic is there before anything stands for it.
        let whole = [b"\x3a\x07\x00\x01a\x00", &[id][..], &[0, payload]].concat();
        let stated = [
            b"\x3a\x0a\x00\x01a\x00",
            &[id][..],
            b"\x03\x23\x00\x01",
            &[payload],
        ]
        .concat();
        assert!(packet == whole || packet == stated, "{packet:02x?}");
    }
    drop(running.send(QoS::AtMostOnce, "a", "3"));
    link.expect_bytes(publish("a", 1, "3"));
    drop(running.send(QoS::AtMostOnce, "a", "4"));
    link.expect_bytes(publish("", 1, "4"));
    leave(&running, link);
    let (mut link, _) = running.greet5(&mut broker, RESUMED5);
    for (id, payload) in [(1, b'1'), (2, b'2')] {
        link.expect_bytes([b"\x3a\x07\x00\x01a\x00", &[id][..], &[0, payload]].concat());
        link.send(&ack(0x40, id.into()));
    }
    expect_delivered(tickets);
    drop(running.send(QoS::AtMostOnce, "a", "5"));
    link.expect_bytes(publish("a", 0, "5"));
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// The server's aliases end with the link, too [MQTT-3.3.2-7]: on the next one an alias stands for nothing until it comes
/// with a topic.
#[test]
fn the_servers_aliases_end_with_the_link() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let filters = vec![Filter::new("in/+", QoS::AtMostOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).unwrap();
    link.read_bytes();
    link.send(&answers5(0x90, 1, &[0]));
    assert!(told(ticket).is_delivered());
    let alias = b"\x23\x00\x08";
    link.send(&message5(0x30, "in/a", 0, alias, b"stated"));
    link.send(&message5(0x30, "", 0, alias, b"known"));
    assert_eq!(
        (next(&inbox), next(&inbox)),
        ("stated".into(), "known".into())
    );
    for topic in ["in/b", "in/c"] {
        link = running.resume5(&mut broker, link);
        link.send(&message5(0x30, "", 0, alias, b"unknown"));
        link.expect_disconnect5(0x82);
        link.close();
        (link, _) = running.greet5(&mut broker, RESUMED5);
        link.send(&message5(0x30, topic, 0, alias, b"stated"));
        link.send(&message5(0x30, "", 0, alias, b"known"));
        for payload in ["stated", "known"] {
            let message = inbox.recv_timeout(crate::support::HANG).unwrap();
            assert_eq!(
                (message.topic(), message.payload()),
                (topic, payload.as_bytes())
            );
        }
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
