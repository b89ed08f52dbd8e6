//! The properties of a packet, one after the other: whether this packet may carry them, how often, and with which values
//! [MQTT 5, 2.2.2]. Pure.

use bytes::Bytes;

use crate::mqtt::packet::{Details, MessageProperties, ReasonCode};
use crate::mqtt::v5::problem::Problem;
use crate::mqtt::v5::property::{Carrier, Property, PropertyRule, RULES, ValueForm};
use crate::mqtt::v5::reader::Reader;

/// A value as it stands in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

/// Takes a property of a received message over. The walk has checked that it may stand there and fits its form.
pub(super) fn take_of_message(of: &mut MessageProperties, property: Property, value: Value<'_>) {
    match (property, value) {
        (Property::PayloadFormat, Value::Number(format)) => of.payload_is_text = format == 1,
        (Property::MessageExpiry, Value::Number(seconds)) => of.expiry = Some(seconds),
        (Property::ContentType, Value::Text(text)) => of.content_type = Some(text.to_owned()),
        (Property::ResponseTopic, Value::Text(text)) => of.response_topic = Some(text.to_owned()),
        (Property::CorrelationData, Value::Binary(data)) => {
            of.correlation_data = Some(Bytes::copy_from_slice(data));
        }
        (Property::UserPair, Value::Pair(name, value)) => {
            of.user_properties.push((name.to_owned(), value.to_owned()));
        }
        _ => {}
    }
}

/// Takes a property of a server's answer over, as [`take_of_message`] does.
pub(super) fn take_detail(of: &mut Details, property: Property, value: Value<'_>) {
    match (property, value) {
        (Property::ReasonString, Value::Text(text)) => of.reason = Some(text.to_owned()),
        (Property::UserPair, Value::Pair(name, value)) => {
            of.user_properties.push((name.to_owned(), value.to_owned()));
        }
        _ => {}
    }
}

/// Reads the length of the properties at the beginning of `bytes` and each property after it, in order. Returns how
/// many bytes all of this has.
///
/// # Errors
/// The first rule that is broken. `each` may have been called before.
pub(super) fn walk<'a>(
    bytes: &'a [u8],
    carrier: Carrier,
    mut each: impl FnMut(Property, Value<'a>),
) -> Result<usize, Problem> {
    let mut reader = Reader { bytes, at: 0 };
    let length = reader.varint("the length of the properties")?;
    let begin = reader.at;
    let end = begin + length;
    if end > bytes.len() {
        return Err(Problem::malformed(
            "the properties do not fit into the packet",
            "MQTT 5, 2.2.2.1",
        ));
    }
    reader.bytes = &bytes[..end];
    // One bit for each property.
    let mut seen = 0_u64;
    while reader.at < end {
        let number = reader.varint("the number of a property")?;
        let Some(rule) = RULES.iter().find(|rule| usize::from(rule.number) == number) else {
            return Err(match (number, carrier) {
                (21 | 22, Carrier::ConnAck) => {
                    Problem::forbidden("no authentication method was asked for", "MQTT-4.12.0-6")
                }
                (26, Carrier::ConnAck) => {
                    Problem::forbidden("no response information was asked for", "MQTT-3.1.2-28")
                }
                (21..=26, _) => Problem::malformed(
                    format!("property {number} is not for this packet"),
                    "MQTT 5, 2.2.2.2",
                ),
                _ => {
                    Problem::malformed(format!("there is no property {number}"), "MQTT 5, 2.2.2.2")
                }
            });
        };
        let name = rule.name;
        if !rule.carriers.contains(&carrier) {
            let problem = format!("the property {name} is not for this packet");
            return Err(match (rule.property, carrier) {
                (Property::SessionExpiry, Carrier::Disconnect) => {
                    Problem::forbidden(problem, "MQTT-3.14.2-2")
                }
                _ => Problem::malformed(problem, "MQTT 5, 2.2.2.2"),
            });
        }
        let bit = 1_u64 << rule.number;
        let may_repeat = matches!(
            rule.property,
            Property::UserPair | Property::SubscriptionIdentifier
        );
        if seen & bit != 0 && !may_repeat {
            let problem = format!("the property {name} comes twice");
            return Err(Problem::forbidden(problem, "MQTT 5, 2.2.2.2"));
        }
        seen |= bit;
        let value = match rule.form {
            ValueForm::Byte => Value::Number(u32::from(reader.take(1)?[0])),
            ValueForm::Two => Value::Number(u32::from(reader.two()?)),
            ValueForm::Four => {
                let four = reader.take(4)?;
                Value::Number(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
            }
            ValueForm::Varint => {
                let number = reader.varint(name)?;
                // It has 28 bits.
                Value::Number(u32::try_from(number).unwrap_or(u32::MAX))
            }
            ValueForm::Text => Value::Text(reader.text(name)?),
            ValueForm::Binary => Value::Binary(reader.binary()?),
            ValueForm::Pair => Value::Pair(reader.text(name)?, reader.text(name)?),
        };
        check_value(rule, value)?;
        each(rule.property, value);
    }
    Ok(end)
}

/// Checks what the form of a value leaves open, and the server answers for. The payload format and the response topic are
/// their publisher's, and servers hand them on as they are [MQTT-3.3.2-4] [MQTT-3.3.2-15]: were they refused, a publisher
/// could end the link of another client.
fn check_value(rule: &PropertyRule, value: Value<'_>) -> Result<(), Problem> {
    let name = rule.name;
    let highest = match rule.property {
        Property::MaximumQos
        | Property::RetainAvailable
        | Property::WildcardAvailable
        | Property::IdentifiersAvailable
        | Property::SharedAvailable => 1,
        _ => u32::MAX,
    };
    let lowest = match rule.property {
        Property::ReceiveMaximum
        | Property::MaximumPacketSize
        | Property::TopicAlias
        | Property::SubscriptionIdentifier => 1,
        _ => 0,
    };
    match value {
        Value::Number(number) if number > highest || number < lowest => {
            let problem = format!("the property {name} is {number}");
            let answer = match rule.property {
                Property::TopicAlias => ReasonCode::new(0x94),
                _ => ReasonCode::PROTOCOL_ERROR,
            };
            let clause = match rule.property {
                Property::TopicAlias => "MQTT-3.3.2-8",
                _ => "MQTT 5, 2.2.2.2",
            };
            Err(Problem::forbidden(problem, clause).answered(answer))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(bytes: &[u8], carrier: Carrier) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        let length = walk(bytes, carrier, |property, value| {
            all.push(format!("{property:?} {value:?}"));
        });
        match length {
            Ok(length) => {
                assert_eq!(length, bytes.len());
                Ok(all)
            }
            Err(problem) => Err(format!(
                "{} [{}] {}",
                problem.text, problem.rule, problem.answer
            )),
        }
    }

    #[test]
    fn properties_come_in_any_order_and_some_more_than_once() {
        let found = walked(
            b"\x12\x26\x00\x01a\x00\x01b\x0b\x01\x0b\x80\x01\x26\x00\x00\x00\x00",
            Carrier::Publish,
        );
        assert_eq!(
            found,
            Err("the properties do not fit into the packet [MQTT 5, 2.2.2.1] 0x81 (malformed packet)".to_owned())
        );
        let found = walked(
            b"\x11\x26\x00\x01a\x00\x01b\x0b\x01\x0b\x80\x01\x26\x00\x00\x00\x00",
            Carrier::Publish,
        );
        let expected = [
            "UserPair Pair(\"a\", \"b\")",
            "SubscriptionIdentifier Number(1)",
            "SubscriptionIdentifier Number(128)",
            "UserPair Pair(\"\", \"\")",
        ];
        assert_eq!(found, Ok(expected.map(str::to_owned).to_vec()));
    }

    /// The table of the standard [MQTT 5, 2.2.2.2], for what a server may send: number, a value, and the packets: C for
    /// CONNACK, P for PUBLISH, A for acknowledgments, D for DISCONNECT.
    const TABLE: [(u8, &[u8], &str); 21] = [
        (1, &[1], "P"),
        (2, &[0, 0, 0, 1], "P"),
        (3, &[0, 1, b'x'], "P"),
        (8, &[0, 1, b'x'], "P"),
        (9, &[0, 1, 0xff], "P"),
        (11, &[1], "P"),
        (17, &[0, 0, 0, 1], "C"),
        (18, &[0, 1, b'x'], "C"),
        (19, &[0, 1], "C"),
        (28, &[0, 1, b'x'], "CD"),
        (31, &[0, 1, b'x'], "CAD"),
        (33, &[0, 1], "C"),
        (34, &[0, 1], "C"),
        (35, &[0, 1], "P"),
        (36, &[1], "C"),
        (37, &[1], "C"),
        (38, &[0, 1, b'x', 0, 1, b'y'], "CPAD"),
        (39, &[0, 0, 0, 1], "C"),
        (40, &[1], "C"),
        (41, &[1], "C"),
        (42, &[1], "C"),
    ];

    #[test]
    fn every_property_comes_once_for_its_packets_alone() {
        for number in 0..=127 {
            let row = TABLE.iter().find(|row| row.0 == number);
            let (value, packets) = row.map_or((&[1][..], ""), |row| (row.1, row.2));
            let value = [&[number], value].concat();
            let bytes = |times: usize| {
                let values = value.repeat(times);
                let length = u8::try_from(values.len()).unwrap();
                [&[length], &values[..]].concat()
            };
            for (carrier, letter) in [
                (Carrier::ConnAck, 'C'),
                (Carrier::Publish, 'P'),
                (Carrier::Acknowledgment, 'A'),
                (Carrier::Disconnect, 'D'),
            ] {
                let is_allowed = packets.contains(letter);
                let once = walked(&bytes(1), carrier);
                assert_eq!(once.is_ok(), is_allowed, "{number} {carrier:?} {once:?}");
                let twice = walked(&bytes(2), carrier);
                let may_repeat = matches!(number, 11 | 38);
                assert_eq!(
                    twice.is_ok(),
                    is_allowed && may_repeat,
                    "{number} {twice:?}"
                );
                let with_length = bytes(1);
                let (_, shorter) = with_length.split_last().unwrap();
                assert!(walked(shorter, carrier).is_err(), "{number}");
                // The length of the properties fits, and the value does not.
                let mut cut = shorter.to_vec();
                cut[0] -= 1;
                assert!(walked(&cut, carrier).is_err(), "{number}");
            }
        }
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        let error = |bytes: &[u8], carrier| walked(bytes, carrier).unwrap_err();
        let forbidden = "[MQTT 5, 2.2.2.2] 0x82 (protocol error)";
        for (bytes, carrier, expected) in [
            (
                &b"\x03\x21\x00\x00"[..],
                Carrier::ConnAck,
                format!("the property receive maximum is 0 {forbidden}"),
            ),
            (
                b"\x05\x27\x00\x00\x00\x00",
                Carrier::ConnAck,
                format!("the property maximum packet size is 0 {forbidden}"),
            ),
            (
                b"\x02\x24\x02",
                Carrier::ConnAck,
                format!("the property maximum QoS is 2 {forbidden}"),
            ),
            (
                b"\x02\x25\x02",
                Carrier::ConnAck,
                format!("the property retain available is 2 {forbidden}"),
            ),
            (
                b"\x02\x0b\x00",
                Carrier::Publish,
                format!("the property subscription identifier is 0 {forbidden}"),
            ),
            (
                b"\x03\x23\x00\x00",
                Carrier::Publish,
                "the property topic alias is 0 [MQTT-3.3.2-8] 0x94 (topic alias invalid)"
                    .to_owned(),
            ),
            (
                b"\x04\x1f\x00\x01\xff",
                Carrier::ConnAck,
                "is not UTF-8 [MQTT-1.5.4-1] 0x81 (malformed packet)".to_owned(),
            ),
            (
                b"\x04\x1f\x00\x01\x00",
                Carrier::ConnAck,
                "has the character U+0000 [MQTT-1.5.4-2] 0x81 (malformed packet)".to_owned(),
            ),
            (
                b"\x07\x26\x00\x01\x00\x00\x01b",
                Carrier::Disconnect,
                "[MQTT-1.5.4-2] 0x81 (malformed packet)".to_owned(),
            ),
            (
                b"\x05\x11\x00\x00\x00\x01",
                Carrier::Disconnect,
                "[MQTT-3.14.2-2] 0x82 (protocol error)".to_owned(),
            ),
            (
                b"\x80\x00",
                Carrier::Publish,
                "more bytes than it needs [MQTT-1.5.5-1] 0x81 (malformed packet)".to_owned(),
            ),
            (
                b"\x03\x0b\x80\x00",
                Carrier::Publish,
                "more bytes than it needs [MQTT-1.5.5-1] 0x81 (malformed packet)".to_owned(),
            ),
            (
                b"\x05\x15\x00\x02ab",
                Carrier::ConnAck,
                "no authentication method was asked for [MQTT-4.12.0-6] 0x82 (protocol error)"
                    .to_owned(),
            ),
            (
                b"\x04\x1a\x00\x01r",
                Carrier::ConnAck,
                "no response information was asked for [MQTT-3.1.2-28] 0x82 (protocol error)"
                    .to_owned(),
            ),
            (
                b"\x02\x17\x01",
                Carrier::ConnAck,
                "property 23 is not for this packet [MQTT 5, 2.2.2.2] 0x81 (malformed packet)"
                    .to_owned(),
            ),
            (
                b"\x02\x04\x01",
                Carrier::ConnAck,
                "there is no property 4 [MQTT 5, 2.2.2.2] 0x81 (malformed packet)".to_owned(),
            ),
        ] {
            let error = error(bytes, carrier);
            assert!(error.contains(&expected), "{error}\n{expected}");
        }
    }
}
