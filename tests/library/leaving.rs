//! A client that leaves has the broker publish its will, or forget it.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use crate::support::running::{Running, options, told};
use crate::support::scripted5::{connack5, options5};
use crate::support::{HANG, ScriptedBroker};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Protocol, QoS, Will};

fn start(
    mut options: Options,
    broker: &mut ScriptedBroker,
) -> (Running, crate::support::Connection) {
    let connack = match options.protocol {
        Protocol::V5 => connack5(false, &[]),
        _ => vec![0x20, 2, 0, 0],
    };
    options.last_will = Some(Will::new("w", QoS::AtLeastOnce, "gone"));
    let running = Running::start(options);
    let mut link = broker.accept();
    link.read_bytes();
    link.send(&connack);
    let online = mqtt_connection_sharing::ConnectionState::is_online;
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
