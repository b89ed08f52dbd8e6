//! The words of a broker that speaks MQTT 5, as errors: the code, its name, the broker's own reason, and what to do. Pure.

use super::advice::connecting;
use super::client::Client;
use crate::error::{Blame, Error};
use crate::mqtt::packet::{Answer, ConnAck5, ReasonCode};

/// The broker has answered CONNECT of MQTT 5 with no.
pub(super) fn refusal5(client: &Client, connack: &ConnAck5) -> Error {
    let said = Answer::new(connack.code, connack.details.clone());
    let (problem, advice) = match connack.is_of_3_1_1 {
        true => (
            "the broker answered as one of MQTT 3.1.1 that does not speak MQTT 5 (return code 1)"
                .to_owned(),
            "use MQTT 3.1.1 (`protocol`), or a broker that speaks MQTT 5",
        ),
        false => (
            format!("the broker refused with CONNACK {said}"),
            advice(connack.code),
        ),
    };
    let problem = match &connack.server_reference {
        Some(server) => format!("{problem}; it names another server: {server:?}"),
        None => problem,
    };
    let error = Error::new(Blame::Refused, connecting(client), problem, advice);
    match is_permanent(connack.code) {
        true => error.permanent(),
        false => error,
    }
}

/// Whether the same CONNECT would be refused again.
fn is_permanent(code: ReasonCode) -> bool {
    matches!(
        code.value(),
        0x81..=0x87 | 0x8a | 0x8c | 0x90 | 0x95 | 0x9a | 0x9b
    )
}

/// What to do when CONNECT is refused with this code, or the connection is closed with it.
pub(super) fn advice(code: ReasonCode) -> &'static str {
    match code.value() {
        0x81 | 0x82 => {
            "see what the broker's log says of it; this client or the broker breaks the protocol"
        }
        0x84 => "use MQTT 3.1.1 (`protocol`), or a broker that speaks MQTT 5",
        0x85 => "give another client identifier with `client_id`",
        0x86 => "check `username` and `password`",
        0x87 => {
            "check what the broker allows this client identifier and certificate, and `username` and `password` if it \
             wants them"
        }
        0x88 | 0x89 | 0x8b => "try again later",
        0x8a => "ask who runs the broker: it has banned this client",
        0x8c => "use a broker that does not ask for an authentication method",
        0x8d => "raise the keep alive, or see why nothing came through in that time",
        0x8e => {
            "give each program a client identifier of its own: another one has connected with the same"
        }
        0x90 => "change the topic: the broker does not allow it",
        0x93 => "lower `max_inflight`, or see what the broker's log says of it",
        0x94 => "use fewer topic aliases, or none",
        0x95 => "make the message smaller, or have the broker allow larger packets",
        0x96 => "publish less often",
        0x97 => "stay below the broker's quota, or have it raised",
        0x98 => "ask who runs the broker: it was closed by hand",
        0x99 => "send what the payload format says, or do not state one",
        0x9a => "publish without the retain flag",
        0x9b => "use a lower `qos`",
        0x9c | 0x9d => "connect to the other server that the broker names, or ask who runs it",
        0x9e => "subscribe without a share name",
        0x9f => "connect less often",
        0xa0 => "nothing has to be done: the broker allows a connection only so long",
        0xa1 => "subscribe without a subscription identifier",
        0xa2 => "subscribe without wildcards",
        _ => "see what the broker's log says of it",
    }
}
