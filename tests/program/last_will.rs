//! The last will: it is in CONNECT byte for byte, and a real Mosquitto publishes it when the program
//! dies, but not when the program ends in order.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use crate::support::running::{Running, options};
use crate::support::scripted::Stream;
use crate::support::{Connection, Mosquitto, Program, ScriptedBroker};
use rumqttc::mqttbytes::{QoS, v4};

use mqtt_connection_sharing::{QoS as OurQoS, Will};

const TOPIC: &str = "status/demo";

#[test]
fn each_connect_of_the_program_carries_the_will() {
    let folder = tempfile::tempdir().expect("a folder");
    let payload = folder.path().join("will");
    // The payload is taken as it is, with its line break and any bytes.
    fs::write(&payload, b"gone\xff\0\n").expect("a payload");
    let mut broker = ScriptedBroker::bind();
    let running = Program::new()
        .args(["--endpoint", &broker.endpoint(), "--client-id", "me"])
        .args(["--will-topic", TOPIC, "--will-qos", "2", "--will-retain"])
        .arg("--will-payload-file")
        .arg(&payload)
        .args(["--connect-interval", "0", "--retry-base", "0"])
        .args(["--retry-attempts", "1", "-q"])
        .spawn();
    // The second connection is a retry.
    for _ in 0..2 {
        let mut link = broker.accept();
        let connect = link.expect_connect();
        // Type and length; protocol; clean session, will, its QoS 2, retain; keep alive 60 s.
        let start = b"\x10\x24\x00\x04MQTT\x04\x36\x00\x3c";
        let rest = b"\x00\x02me\x00\x0bstatus/demo\x00\x07gone\xff\0\n";
        assert_eq!(link.last_raw(), [&start[..], rest].concat());
        assert_eq!(connect.last_will.expect("a will").topic, TOPIC);
        link.close();
    }
    running.finish().expect_code(3);
}

#[test]
fn a_connect_without_a_will_says_so() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options(&broker));
    let (link, connect) = broker.accept_client(false);
    assert_eq!(connect.last_will, None);
    running.terminate(link);
}

#[test]
fn the_largest_will_arrives_whole() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    let payload: Vec<u8> = (0..Will::LARGEST_PAYLOAD).map(|i| i as u8).collect();
    options.last_will = Some(Will::new(TOPIC, OurQoS::AtMostOnce, payload.clone()));
    let running = Running::start(options);
    let (link, connect) = broker.accept_client(false);
    let will = connect.last_will.expect("a will");
    assert_eq!(will.message, payload);
    assert!(!will.retain);
    assert_eq!(will.qos, QoS::AtMostOnce);
    running.terminate(link);
}

fn subscribe<S: Stream>(client: &mut Connection<S>, filter: &str, qos: QoS) {
    let mut subscribe = v4::Subscribe::new(filter, qos);
    subscribe.pkid = 1;
    client.send_packet(v4::Packet::Subscribe(subscribe));
    client.expect_suback();
}

/// A program with a will that stays connected, and a subscriber to the will.
fn with_subscriber(broker: &Mosquitto) -> (crate::support::Running, impl FnMut() -> v4::Publish) {
    let payload = broker.certs().file("will");
    fs::write(&payload, "gone").expect("a payload");
    let mut subscriber = broker.client("watcher", true);
    subscribe(&mut subscriber, "status/#", QoS::AtLeastOnce);
    let mut running = Program::new()
        .args(broker.arguments())
        .args(["--client-id", "demo", "-v", "--connect-interval", "0"])
        .args(["--will-topic", TOPIC, "--will-retain"])
        .arg("--will-payload-file")
        .arg(&payload)
        .args(["--publish-count", "100000", "--publish-delay", "10ms"])
        .args(["--iterations", "1"])
        .spawn();
    running.wait_for_line("received filter/sync/3");
    let next = move || {
        let publish = subscriber.expect_publish();
        if publish.pkid != 0 {
            subscriber.send_puback(publish.pkid);
        }
        publish
    };
    (running, next)
}

#[test]
fn a_program_that_is_killed_leaves_its_will() {
    let broker = Mosquitto::start();
    let (running, mut next) = with_subscriber(&broker);
    running.signal("KILL");
    let will = next();
    assert_eq!(will.topic, TOPIC);
    assert_eq!(&will.payload[..], b"gone");
    assert_eq!(will.qos, QoS::AtLeastOnce);
    // The will was retained: a later subscriber receives it, marked as such.
    let mut later = broker.client("later", true);
    subscribe(&mut later, TOPIC, QoS::AtMostOnce);
    let kept = later.expect_publish();
    assert!(kept.retain);
    assert_eq!(&kept.payload[..], b"gone");
}

#[test]
fn a_program_that_ends_in_order_leaves_none() {
    let broker = Mosquitto::start();
    let (running, mut next) = with_subscriber(&broker);
    running.signal("INT");
    running.finish().expect_code(130);
    // This message comes first, which shows that no will came before it.
    let mut other = broker.client("other", true);
    let end = v4::Publish::new("status/end", QoS::AtLeastOnce, "end");
    other.send_packet(v4::Packet::Publish(v4::Publish { pkid: 1, ..end }));
    other.expect_puback();
    assert_eq!(next().topic, "status/end");
}
