//! CONNACK of MQTT 5: the answer to CONNECT, and what the server allows on this connection [MQTT 5, 3.2]. Pure.

use crate::mqtt::packet::{Details, QoS, ReasonCode};
use crate::mqtt::v5::codes;
use crate::mqtt::v5::problem::Problem;
use crate::mqtt::v5::properties::{Carrier, Property, Value, take_detail, walk};
use crate::mqtt::v5::reader::Reader;

/// The answer to CONNECT. Where the server says nothing, a field has the value that the standard gives it then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnAck5 {
    /// Whether the server kept this client's session.
    pub session_present: bool,
    /// Success, or why the server refused.
    pub code: ReasonCode,
    /// Whether this is a CONNACK of MQTT 3.1.1: the server does not speak MQTT 5, and `code` says so.
    pub is_of_3_1_1: bool,
    /// Seconds that the server keeps the session after the connection, if not as long as CONNECT asked for.
    pub session_expiry: Option<u32>,
    /// How many PUBLISHes of QoS 1 and 2 the server takes at one time, at least 1.
    pub receive_maximum: u16,
    /// The highest quality of service that the server takes.
    pub maximum_qos: QoS,
    /// Whether the server keeps retained messages.
    pub retain_available: bool,
    /// The largest packet, in bytes, that the server takes; `None` without a limit.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server has chosen, because CONNECT had none.
    pub assigned_client_id: Option<String>,
    /// The highest topic alias that the server takes; 0 allows none.
    pub topic_alias_maximum: u16,
    /// Whether the server takes filters with wildcards.
    pub wildcard_available: bool,
    /// Whether the server takes subscription identifiers.
    pub identifiers_available: bool,
    /// Whether the server takes shared subscriptions.
    pub shared_available: bool,
    /// The keep alive, in seconds, that holds in place of the one in CONNECT.
    pub server_keep_alive: Option<u16>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// The server's own words on it.
    pub details: Details,
}

/// Reads what follows the fixed header. `body` is all of it.
pub(super) fn read(body: &[u8]) -> Result<ConnAck5, Problem> {
    let mut connack = ConnAck5 {
        session_present: false,
        code: ReasonCode::SUCCESS,
        is_of_3_1_1: false,
        session_expiry: None,
        receive_maximum: u16::MAX,
        maximum_qos: QoS::ExactlyOnce,
        retain_available: true,
        maximum_packet_size: None,
        assigned_client_id: None,
        topic_alias_maximum: 0,
        wildcard_available: true,
        identifiers_available: true,
        shared_available: true,
        server_keep_alive: None,
        server_reference: None,
        details: Details::default(),
    };
    match *body {
        // MQTT 3.1.1, 3.2.2.3: the version is not acceptable.
        [0, 1] => {
            connack.is_of_3_1_1 = true;
            connack.code = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
            return Ok(connack);
        }
        [flags, code] => {
            let problem =
                format!("it ends behind its code, as in MQTT 3.1.1: {flags:02x} {code:02x}");
            return Err(Problem::malformed(problem, "MQTT 5, 3.2.2.3"));
        }
        _ => {}
    }
    let mut reader = Reader { bytes: body, at: 0 };
    let head = reader.take(2)?;
    let (flags, code) = (head[0], head[1]);
    if flags & 0xfe != 0 {
        return Err(Problem::malformed("reserved bits are set", "MQTT-3.2.2-1"));
    }
    connack.session_present = flags == 1;
    connack.code = ReasonCode::checked(code, codes::CONNACK)?;
    if connack.session_present && connack.code != ReasonCode::SUCCESS {
        let problem = "session present together with a refusal";
        return Err(Problem::forbidden(problem, "MQTT-3.2.2-6"));
    }
    let length = walk(&body[2..], Carrier::ConnAck, |property, value| {
        take(&mut connack, property, value);
    })?;
    match 2 + length == body.len() {
        true => Ok(connack),
        false => Err(Problem::misfit()),
    }
}

/// Takes a property over. The walk has checked that it may stand here and fits its form.
fn take(connack: &mut ConnAck5, property: Property, value: Value<'_>) {
    let two = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    match (property, value) {
        (Property::SessionExpiry, Value::Number(seconds)) => connack.session_expiry = Some(seconds),
        (Property::ReceiveMaximum, Value::Number(most)) => connack.receive_maximum = two(most),
        (Property::MaximumQos, Value::Number(most)) => {
            connack.maximum_qos = match most {
                0 => QoS::AtMostOnce,
                _ => QoS::AtLeastOnce,
            };
        }
        (Property::RetainAvailable, Value::Number(is)) => connack.retain_available = is == 1,
        (Property::MaximumPacketSize, Value::Number(most)) => {
            connack.maximum_packet_size = Some(most);
        }
        (Property::AssignedClientId, Value::Text(id)) => {
            connack.assigned_client_id = Some(id.to_owned());
        }
        (Property::TopicAliasMaximum, Value::Number(most)) => {
            connack.topic_alias_maximum = two(most);
        }
        (Property::WildcardAvailable, Value::Number(is)) => connack.wildcard_available = is == 1,
        (Property::IdentifiersAvailable, Value::Number(is)) => {
            connack.identifiers_available = is == 1;
        }
        (Property::SharedAvailable, Value::Number(is)) => connack.shared_available = is == 1,
        (Property::ServerKeepAlive, Value::Number(seconds)) => {
            connack.server_keep_alive = Some(two(seconds));
        }
        (Property::ServerReference, Value::Text(text)) => {
            connack.server_reference = Some(text.to_owned());
        }
        _ => take_detail(&mut connack.details, property, value),
    }
}
