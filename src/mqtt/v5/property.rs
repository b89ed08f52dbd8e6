//! The properties that a server may send: the number, the name and the form of each, and the packets that may carry it
//! [MQTT 5, 2.2.2.2]. Pure.

/// The property with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property {
    PayloadFormat,
    MessageExpiry,
    ContentType,
    ResponseTopic,
    CorrelationData,
    SubscriptionIdentifier,
    SessionExpiry,
    AssignedClientId,
    ServerKeepAlive,
    ServerReference,
    ReasonString,
    ReceiveMaximum,
    TopicAliasMaximum,
    TopicAlias,
    MaximumQos,
    RetainAvailable,
    UserPair,
    MaximumPacketSize,
    WildcardAvailable,
    IdentifiersAvailable,
    SharedAvailable,
}

/// The packets from a server that have properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    ConnAck,
    Publish,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK.
    Acknowledgment,
    Disconnect,
}

/// The forms that values have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueForm {
    Byte,
    Two,
    Four,
    Varint,
    Text,
    Binary,
    Pair,
}

/// A property's number, name and form, and the packets from a server that may carry it.
pub(super) struct PropertyRule {
    pub(super) number: u8,
    pub(super) name: &'static str,
    pub(super) property: Property,
    pub(super) form: ValueForm,
    pub(super) carriers: &'static [Carrier],
}

const fn rule(
    number: u8,
    name: &'static str,
    property: Property,
    form: ValueForm,
    carriers: &'static [Carrier],
) -> PropertyRule {
    PropertyRule {
        number,
        name,
        property,
        form,
        carriers,
    }
}

const CONNACK: &[Carrier] = &[Carrier::ConnAck];
const PUBLISH: &[Carrier] = &[Carrier::Publish];
const REASONS: &[Carrier] = &[
    Carrier::ConnAck,
    Carrier::Acknowledgment,
    Carrier::Disconnect,
];
const REFERENCES: &[Carrier] = &[Carrier::ConnAck, Carrier::Disconnect];
const ALL: &[Carrier] = &[
    Carrier::ConnAck,
    Carrier::Publish,
    Carrier::Acknowledgment,
    Carrier::Disconnect,
];

/// All that a server may send to a client that has asked for neither enhanced authentication [MQTT-4.12.0-6] nor
/// response information [MQTT-3.1.2-28] [MQTT 5, 2.2.2.2]. A session expiry interval in DISCONNECT is the client's alone
/// [MQTT-3.14.2-2].
pub(super) const RULES: [PropertyRule; 21] = [
    rule(
        1,
        "payload format indicator",
        Property::PayloadFormat,
        ValueForm::Byte,
        PUBLISH,
    ),
    rule(
        2,
        "message expiry interval",
        Property::MessageExpiry,
        ValueForm::Four,
        PUBLISH,
    ),
    rule(
        3,
        "content type",
        Property::ContentType,
        ValueForm::Text,
        PUBLISH,
    ),
    rule(
        8,
        "response topic",
        Property::ResponseTopic,
        ValueForm::Text,
        PUBLISH,
    ),
    rule(
        9,
        "correlation data",
        Property::CorrelationData,
        ValueForm::Binary,
        PUBLISH,
    ),
    rule(
        11,
        "subscription identifier",
        Property::SubscriptionIdentifier,
        ValueForm::Varint,
        PUBLISH,
    ),
    rule(
        17,
        "session expiry interval",
        Property::SessionExpiry,
        ValueForm::Four,
        CONNACK,
    ),
    rule(
        18,
        "assigned client identifier",
        Property::AssignedClientId,
        ValueForm::Text,
        CONNACK,
    ),
    rule(
        19,
        "server keep alive",
        Property::ServerKeepAlive,
        ValueForm::Two,
        CONNACK,
    ),
    rule(
        28,
        "server reference",
        Property::ServerReference,
        ValueForm::Text,
        REFERENCES,
    ),
    rule(
        31,
        "reason string",
        Property::ReasonString,
        ValueForm::Text,
        REASONS,
    ),
    rule(
        33,
        "receive maximum",
        Property::ReceiveMaximum,
        ValueForm::Two,
        CONNACK,
    ),
    rule(
        34,
        "topic alias maximum",
        Property::TopicAliasMaximum,
        ValueForm::Two,
        CONNACK,
    ),
    rule(
        35,
        "topic alias",
        Property::TopicAlias,
        ValueForm::Two,
        PUBLISH,
    ),
    rule(
        36,
        "maximum QoS",
        Property::MaximumQos,
        ValueForm::Byte,
        CONNACK,
    ),
    rule(
        37,
        "retain available",
        Property::RetainAvailable,
        ValueForm::Byte,
        CONNACK,
    ),
    rule(
        38,
        "user property",
        Property::UserPair,
        ValueForm::Pair,
        ALL,
    ),
    rule(
        39,
        "maximum packet size",
        Property::MaximumPacketSize,
        ValueForm::Four,
        CONNACK,
    ),
    rule(
        40,
        "wildcard subscription available",
        Property::WildcardAvailable,
        ValueForm::Byte,
        CONNACK,
    ),
    rule(
        41,
        "subscription identifiers available",
        Property::IdentifiersAvailable,
        ValueForm::Byte,
        CONNACK,
    ),
    rule(
        42,
        "shared subscription available",
        Property::SharedAvailable,
        ValueForm::Byte,
        CONNACK,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rules_have_one_number_or_one_property() {
        for (index, rule) in RULES.iter().enumerate() {
            for other in &RULES[index + 1..] {
                assert!(rule.number < other.number && rule.property != other.property);
            }
        }
    }
}
