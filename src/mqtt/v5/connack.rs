//! Decodes CONNACK of MQTT 5 [MQTT 5, 3.2]. Pure.

use crate::mqtt::packet::{ConnAck5, QoS, ReasonCode};
use crate::mqtt::v5::codes;
use crate::mqtt::v5::problem::Problem;
use crate::mqtt::v5::properties::{Value, take_detail, walk};
use crate::mqtt::v5::property::{Carrier, Property};
use crate::mqtt::v5::reader::Reader;

/// Reads what follows the fixed header. `body` is all of it.
pub(super) fn read(body: &[u8]) -> Result<ConnAck5, Problem> {
    let mut connack = ConnAck5::default();
    match *body {
        // MQTT 3.1.1, 3.2.2: flags and a return code, and nothing behind them. The code is mostly 1, the version is not
        // acceptable; the others have no meaning for MQTT 5.
        [0 | 1, 0..=5] => {
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
