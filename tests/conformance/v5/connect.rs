//! CONNECT: when it is sent, and the contents of its fields.

use crate::support::ScriptedBroker;
use crate::support::running::Running;
use crate::support::scripted5::ACCEPTED5;
use crate::support::scripted5::{FIRST_CONNECT, NEXT_CONNECT, RESUMED5, options5};

/// The protocol name [MQTT-3.1.2-1], version 5 [MQTT-3.1.2-2] and no reserved flag [MQTT-3.1.2-3].
#[test]
fn the_first_connect_begins_a_session_and_the_next_ones_go_on_with_it() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options5(&broker));
    let (link, connect) = running.greet5(&mut broker, ACCEPTED5);
    assert_eq!(connect, FIRST_CONNECT);
    link.close();
    let (link, connect) = running.greet5(&mut broker, RESUMED5);
    assert_eq!(connect, NEXT_CONNECT);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
