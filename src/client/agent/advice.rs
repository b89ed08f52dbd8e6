//! Errors that say what a failed attempt or a lost link means, and what to do about it.
//!
//! Pure: it makes errors from what is known, and decides nothing. The loop's thread.

use std::time::Duration;

use super::Client;
use super::connection::LASTING;
use crate::error::{Blame, Error};
use crate::mqtt::packet::ConnectReturnCode;
use crate::mqtt::session::LinkLoss;
use crate::options::Security;

/// The phrase for what the loop tries before CONNACK.
pub(super) fn connecting(client: &Client) -> String {
    format!("connecting to {}", client.options.address())
}

/// CONNACK did not come.
pub(super) fn unanswered(client: &Client) -> Error {
    Error::new(
        Blame::Network,
        connecting(client),
        "the broker did not answer CONNECT in time",
        "check that it is an MQTT broker and not overloaded, or raise `connect_timeout`",
    )
}

/// The broker answered CONNECT with this code.
pub(super) fn refusal(client: &Client, code: ConnectReturnCode) -> Error {
    let client_id = &client.options.client_id;
    let (problem, advice, permanent) = match code {
        ConnectReturnCode::Accepted => ("the broker accepted".to_owned(), "", false),
        ConnectReturnCode::UnacceptableProtocolVersion => (
            "the broker does not speak MQTT 3.1.1 (return code 1)".to_owned(),
            "use a broker that does",
            true,
        ),
        ConnectReturnCode::IdentifierRejected => (
            format!("the broker refused the client identifier {client_id:?} (return code 2)"),
            "give another one with `client_id`",
            true,
        ),
        ConnectReturnCode::ServerUnavailable => (
            "the broker is there, its service is not (return code 3)".to_owned(),
            "try again later",
            false,
        ),
        ConnectReturnCode::BadUserNameOrPassword => (
            "the broker refused the user name or password (return code 4)".to_owned(),
            "check `username` and `password`",
            true,
        ),
        ConnectReturnCode::NotAuthorized => (
            "the broker refused access (return code 5)".to_owned(),
            "check `username` and `password`, the client certificate, and what the broker \
             allows this client identifier",
            true,
        ),
    };
    let error = Error::new(Blame::Refused, connecting(client), problem, advice);
    if permanent { error.permanent() } else { error }
}

/// A link that ended where CONNACK was expected.
pub(super) fn lost_before_connack(client: &Client, loss: &LinkLoss) -> Error {
    let tried = connecting(client);
    let (blame, moment) = match loss {
        LinkLoss::Protocol(_) => (Blame::Broker, "in answer to CONNECT"),
        _ => (Blame::Network, "before answering CONNECT"),
    };
    if let LinkLoss::Protocol(error) = loss
        && let Some((problem, advice)) = no_mqtt(error.beginning())
    {
        let problem = format!("{problem}, {moment}");
        return Error::new(blame, tried, problem, advice);
    }
    let advice = match (loss, &client.options.security) {
        (LinkLoss::Protocol(_), _) => {
            "check that the port is an MQTT broker's, or ask whoever runs the broker"
        }
        _ if client.options.is_aws_iot() => {
            "check that the certificate is active and attached to a policy that allows \
             iot:Connect for this client identifier"
        }
        (_, Security::Tls(_)) => {
            "see the broker's log: it may not accept this certificate or client identifier"
        }
        (_, Security::Plain) => "see the broker's log: the port may expect TLS",
    };
    Error::new(blame, tried, format!("{loss}, {moment}"), advice)
}

/// Names the other side if it is something well known that does not speak MQTT.
fn no_mqtt(beginning: &[u8]) -> Option<(String, &'static str)> {
    if beginning.starts_with(b"HTTP/") {
        let line = beginning.split(|byte| *byte < b' ').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
        return Some((
            format!("a web server answers on that port (it sent {line:?})"),
            "check that the port is an MQTT broker's; MQTT over WebSocket is not possible here",
        ));
    }
    // A TLS record that holds an alert.
    if beginning.starts_with(&[0x15, 3]) {
        return Some((
            "the port speaks TLS".to_owned(),
            "change `security`, which is without TLS",
        ));
    }
    None
}

/// A link that was up and is lost. If it did not last, the likely causes are known.
pub(super) fn lost_after_connack(client: &Client, loss: &LinkLoss, lasted: Duration) -> Error {
    let blame = match loss {
        LinkLoss::Protocol(_) => Blame::Broker,
        _ => Blame::Network,
    };
    let advice = match loss {
        LinkLoss::PeerClosed | LinkLoss::Io(_) if lasted < LASTING => {
            "likely: another program uses the same client identifier, the broker does not allow a \
             topic, or it was restarted"
        }
        LinkLoss::Protocol(_) => "see what the broker sends; it may be no MQTT 3.1.1 broker",
        _ => "",
    };
    let tried = format!("connection to {}", client.options.address());
    let problem = format!("lost after {} ms: {loss}", lasted.as_millis());
    Error::new(blame, tried, problem, advice)
}
