//! A client that leaves has the broker publish its will, or forget it.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use crate::support::running::{Running, options, security, told};
use crate::support::scripted5::{connack5, options5};
use crate::support::{Connection, HANG, Mosquitto, ScriptedBroker};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{ConnectionState, Filter, Protocol, QoS, WhenFull, Will};

fn start(mut options: Options, broker: &mut ScriptedBroker) -> (Running, Connection) {
    let connack = match options.protocol {
        Protocol::V5 => connack5(false, &[]),
        _ => vec![0x20, 2, 0, 0],
    };
    options.last_will = Some(Will::new("w", QoS::AtLeastOnce, "gone"));
    let running = Running::start(options);
    let mut link = broker.accept();
    link.read_bytes();
    link.send(&connack);
    let online = ConnectionState::is_online;
    running.handle().wait_for_connection(HANG, online).unwrap();
    (running, link)
}

/// [MQTT-3.14.4-3] and, where there is no code, [MQTT-3.1.2-8].
#[test]
fn disconnect_and_terminate_ask_for_the_will_where_the_version_has_a_word_for_it() {
    let mut broker = ScriptedBroker::bind();
    for (options, with_will) in [
        (options5(&broker), &[&b"\xe0\x01\x04"[..]][..]),
        // A link that ends without DISCONNECT.
        (options(&broker), &[]),
    ] {
        let (running, mut link) = start(options.clone(), &mut broker);
        let left = running.handle().disconnect_with_will();
        assert_eq!(link.read_to_end(), with_will);
        link.close();
        assert!(told(left).is_delivered());
        running.drop_all_and_join();

        let (running, mut link) = start(options.clone(), &mut broker);
        let left = running.handle().terminate_with_will(HANG);
        assert_eq!(link.read_to_end(), with_will);
        link.close();
        assert!(told(left).is_delivered());
        assert!(running.join().result.is_ok());

        let (running, mut link) = start(options, &mut broker);
        let left = running.handle().terminate(HANG);
        assert_eq!(link.read_to_end(), [b"\xe0\x00"]);
        link.close();
        assert!(told(left).is_delivered());
        assert!(running.join().result.is_ok());
    }
}

/// With a real broker, which publishes the will of a client that leaves so, and forgets that of one that does not.
#[test]
fn a_broker_publishes_the_will_of_a_client_that_leaves_with_it() {
    let broker = Mosquitto::start();
    let options = |id: &str, protocol| {
        let mut options = Options::new("127.0.0.1", id);
        options.port = broker.port();
        options.security = security(broker.certs());
        options.protocol = protocol;
        options
    };
    let watcher = Running::start(options("watcher", Protocol::V3_1_1));
    let inbox = watcher.handle().inbox(8, WhenFull::WaitAside);
    let filters = vec![Filter::new("w/#", QoS::AtLeastOnce)];
    let subscribed = watcher.handle().subscribe(&inbox, filters).unwrap();
    assert!(told(subscribed).is_delivered());
    for (protocol, topic) in [(Protocol::V5, "w/5"), (Protocol::V3_1_1, "w/3")] {
        for with_will in [false, true] {
            let mut options = options("leaves", protocol);
            let payload = with_will.to_string();
            options.last_will = Some(Will::new(topic, QoS::AtLeastOnce, payload));
            let running = Running::start(options);
            let online = ConnectionState::is_online;
            running.handle().wait_for_connection(HANG, online).unwrap();
            let left = match with_will {
                false => running.handle().terminate(HANG),
                true => running.handle().terminate_with_will(HANG),
            };
            assert!(told(left).is_delivered());
            assert!(running.join().result.is_ok());
        }
        // The quiet one left first, so its will would be here first.
        let will = inbox.recv_timeout(HANG).unwrap();
        assert_eq!((will.topic(), will.payload()), (topic, &b"true"[..]));
    }
    assert!(told(watcher.handle().terminate(HANG)).is_delivered());
    assert!(watcher.join().result.is_ok());
}
