//! Keep alive: ours, and the one that the server sets. The session's own tests check in simulated time when exactly
//! PINGREQ leaves; these tests check it on the wire.

use std::time::Duration;

use crate::support::ScriptedBroker;
use crate::support::running::Running;
use crate::support::scripted5::{NEXT_CONNECT, connack5, options5};

const PINGREQ: &[u8] = b"\xc0\x00";
const PINGRESP: &[u8] = b"\xd0\x00";

/// [MQTT-3.1.2-21] [MQTT-3.2.2-21]: with 60 s of our own no PINGREQ would come before the test has failed.
#[test]
fn the_servers_keep_alive_takes_the_place_of_a_longer_one() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"\x13\x00\x01");
    for _ in 0..2 {
        link.expect_bytes(PINGREQ);
        link.send(PINGRESP);
    }
    link.close();
    // CONNECT says what is ours, and the server's counts on this link, too.
    let connack = connack5(true, b"\x13\x00\x01");
    let (mut link, connect) = running.greet5(&mut broker, &connack);
    assert_eq!(connect, NEXT_CONNECT);
    link.expect_bytes(PINGREQ);
    running.terminate5(link);
}

/// An idle link gets PINGREQ again and again [MQTT-3.1.2-20]. With 0 from the server it gets none, and on a link whose
/// CONNACK has no keep alive ours counts again [MQTT-3.1.2-21].
#[test]
fn the_servers_keep_alive_takes_the_place_of_a_shorter_one() {
    let (mut silent_broker, mut broker) = (ScriptedBroker::bind(), ScriptedBroker::bind());
    let short = |broker: &ScriptedBroker| {
        let mut options = options5(broker);
        options.keep_alive = Duration::from_secs(1);
        options
    };
    let options = short(&silent_broker);
    let (silent, silent_link) = Running::online5_with(options, &mut silent_broker, b"\x13\x00\x00");
    // Another link, with our own keep alive, shows how much time has passed.
    let (running, mut link) = Running::online5_with(short(&broker), &mut broker, b"");
    for _ in 0..3 {
        link.expect_bytes(PINGREQ);
        link.send(PINGRESP);
    }
    running.terminate5(link);
    let received = silent_link.received();
    assert_eq!(
        received.len(),
        usize::from(received[1]) + 2,
        "CONNECT alone"
    );
    let mut link = silent.resume5(&mut silent_broker, silent_link);
    link.expect_bytes(PINGREQ);
    silent.terminate5(link);
}
