//! The limits that a broker of MQTT 5 states in CONNACK, and those of AWS IoT that are other ones. Pure data; the main
//! thread uses it.

use mqtt_connection_sharing::ConnAck5;
use mqtt_connection_sharing::limits::Limits;
use serde::Serialize;

/// The limits of a broker, as its CONNACK states them. Where it says nothing, they are those of the standard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StatedLimits {
    /// Messages of QoS 1 and 2 that may wait for its acknowledgment.
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_qos: u8,
    pub(crate) retain_available: bool,
    /// Bytes of a packet; `None` without a limit.
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) wildcard_available: bool,
    pub(crate) shared_available: bool,
    pub(crate) identifiers_available: bool,
    /// Seconds, in place of the keep alive that was asked for; `None` for that one.
    pub(crate) server_keep_alive: Option<u16>,
    /// Seconds that it keeps the session; `None` for as long as was asked for.
    pub(crate) session_expiry: Option<u32>,
    /// The limits of AWS IoT that are other ones.
    pub(crate) aws_iot_differs: Vec<String>,
}

impl StatedLimits {
    pub(super) fn of(connack: &ConnAck5) -> Self {
        StatedLimits {
            receive_maximum: connack.receive_maximum,
            maximum_qos: connack.maximum_qos as u8,
            retain_available: connack.retain_available,
            maximum_packet_size: connack.maximum_packet_size,
            topic_alias_maximum: connack.topic_alias_maximum,
            wildcard_available: connack.wildcard_available,
            shared_available: connack.shared_available,
            identifiers_available: connack.identifiers_available,
            server_keep_alive: connack.server_keep_alive,
            session_expiry: connack.session_expiry,
            aws_iot_differs: unlike_aws(connack),
        }
    }

    /// In words.
    pub(super) fn told(&self) -> String {
        let mut parts = vec![
            format!("{} in flight", self.receive_maximum),
            format!("QoS up to {}", self.maximum_qos),
            match self.maximum_packet_size {
                Some(bytes) => format!("packets up to {bytes} bytes"),
                None => "packets of any size".to_owned(),
            },
            match self.topic_alias_maximum {
                0 => "no topic aliases".to_owned(),
                most => format!("{most} topic aliases"),
            },
        ];
        for (available, what) in [
            (self.retain_available, "retained messages"),
            (self.wildcard_available, "wildcards"),
            (self.shared_available, "shared subscriptions"),
            (self.identifiers_available, "subscription identifiers"),
        ] {
            if !available {
                parts.push(format!("no {what}"));
            }
        }
        if let Some(seconds) = self.server_keep_alive {
            parts.push(format!("keep alive {seconds} s"));
        }
        if let Some(seconds) = self.session_expiry {
            parts.push(format!("sessions kept for {seconds} s"));
        }
        parts.join(", ")
    }
}

/// The limits of AWS IoT that are other ones than these.
fn unlike_aws(connack: &ConnAck5) -> Vec<String> {
    let aws = Limits::aws_iot();
    let mut differences = Vec::new();
    if connack.receive_maximum != aws.receive_maximum {
        differences.push(format!("{} in flight", aws.receive_maximum));
    }
    if connack.maximum_qos != aws.highest_qos {
        differences.push(format!("QoS up to {}", aws.highest_qos as u8));
    }
    // Beside the payload a packet has its topic and properties.
    let of_aws = aws.payload_bytes..aws.payload_bytes + 0x1_0000;
    let packet = connack.maximum_packet_size.map(|bytes| bytes as usize);
    if !packet.is_some_and(|bytes| of_aws.contains(&bytes)) {
        differences.push(format!("payloads up to {} bytes", aws.payload_bytes));
    }
    if connack.topic_alias_maximum != aws.topic_aliases {
        differences.push(format!("{} topic aliases", aws.topic_aliases));
    }
    if connack.identifiers_available != aws.subscription_identifiers {
        differences.push("no subscription identifiers".to_owned());
    }
    for (available, what) in [
        (connack.retain_available, "retained messages"),
        (connack.wildcard_available, "wildcards"),
        (connack.shared_available, "shared subscriptions"),
    ] {
        if !available {
            differences.push(what.to_owned());
        }
    }
    differences
}
