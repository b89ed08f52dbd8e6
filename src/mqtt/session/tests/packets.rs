//! Short constructors for the broker's packets, and packets, filters and outcomes as text.

use std::sync::Arc;

use rumqttc::mqttbytes::v4;

use super::QOS;
use crate::mqtt::packet::{ConnectReturnCode, Incoming, Message, PacketId};
use crate::mqtt::session::Outcome;

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

pub(super) fn connack(session_present: bool, code: ConnectReturnCode) -> Incoming {
    Incoming::ConnAck {
        session_present,
        code,
    }
}

pub(super) fn puback(value: u16) -> Incoming {
    Incoming::PubAck(id(value))
}

pub(super) fn pubrec(value: u16) -> Incoming {
    Incoming::PubRec(id(value))
}

pub(super) fn pubrel(value: u16) -> Incoming {
    Incoming::PubRel(id(value))
}

pub(super) fn pubcomp(value: u16) -> Incoming {
    Incoming::PubComp(id(value))
}

pub(super) fn unsuback(value: u16) -> Incoming {
    Incoming::UnsubAck(id(value))
}

/// None stands for a refusal.
pub(super) fn suback(value: u16, granted: &[Option<u8>]) -> Incoming {
    Incoming::SubAck {
        id: id(value),
        granted: granted
            .iter()
            .map(|qos| qos.map(|qos| QOS[usize::from(qos)]))
            .collect(),
    }
}

/// A message to topic `t`; the identifier is left out with QoS 0.
pub(crate) fn message(value: u16, qos: usize, payload: &str) -> Incoming {
    incoming(value, qos, payload, false)
}

/// The same message sent again, with DUP.
pub(super) fn message_again(value: u16, qos: usize, payload: &str) -> Incoming {
    incoming(value, qos, payload, true)
}

fn incoming(value: u16, qos: usize, payload: &str, dup: bool) -> Incoming {
    Incoming::Publish {
        id: (qos > 0).then(|| id(value)),
        message: Arc::new(Message {
            dup,
            ..Message::new("t", QOS[qos], payload.to_owned())
        }),
    }
}

/// `prefix1:qos prefix2:qos ...`, as [`packet_text`] shows them.
pub(super) fn filters_text(numbers: std::ops::RangeInclusive<u32>, qos: u8) -> String {
    let filters: Vec<_> = numbers.map(|n| format!("f{n:02}:{qos}")).collect();
    filters.join(" ")
}

/// Filter names `f01` to `f<n>`, which sort like their numbers.
pub(super) fn names(n: u32) -> Vec<String> {
    (1..=n).map(|n| format!("f{n:02}")).collect()
}

pub(super) fn packet_text(packet: &v4::Packet) -> String {
    match packet {
        v4::Packet::Connect(p) => format!(
            "CONNECT clean={} keep={}",
            u8::from(p.clean_session),
            p.keep_alive
        ),
        v4::Packet::Publish(p) => {
            let mut text = String::from("PUBLISH");
            if p.pkid != 0 {
                text += &format!(" id={}", p.pkid);
            }
            text += &format!(" qos={}", p.qos as u8);
            if p.dup {
                text += " dup";
            }
            if p.retain {
                text += " retain";
            }
            let payload = String::from_utf8_lossy(&p.payload);
            format!("{text} {} {payload:?}", p.topic)
        }
        v4::Packet::PubAck(p) => format!("PUBACK {}", p.pkid),
        v4::Packet::PubRec(p) => format!("PUBREC {}", p.pkid),
        v4::Packet::PubRel(p) => format!("PUBREL {}", p.pkid),
        v4::Packet::PubComp(p) => format!("PUBCOMP {}", p.pkid),
        v4::Packet::Subscribe(p) => {
            let filters = p
                .filters
                .iter()
                .map(|f| format!(" {}:{}", f.path, f.qos as u8));
            format!("SUBSCRIBE id={}{}", p.pkid, filters.collect::<String>())
        }
        v4::Packet::Unsubscribe(p) => {
            format!("UNSUBSCRIBE id={} {}", p.pkid, p.topics.join(" "))
        }
        v4::Packet::PingReq => "PINGREQ".into(),
        v4::Packet::Disconnect => "DISCONNECT".into(),
        other => panic!("a client does not send {other:?}"),
    }
}

/// `delivered x2`, `delivered x1 [1 0]`, `refused [1 -]`, `perhaps LinkLost`, `cancelled ...`.
pub(super) fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered {
            attempts, granted, ..
        } => {
            let granted: Vec<_> = granted.iter().map(ToString::to_string).collect();
            match granted.is_empty() {
                true => format!("delivered x{attempts}"),
                false => format!("delivered x{attempts} [{}]", granted.join(" ")),
            }
        }
        Outcome::Refused { granted, .. } => {
            let granted: Vec<_> = granted
                .iter()
                .map(|g| g.map_or("-".to_owned(), |qos| qos.to_string()))
                .collect();
            format!("refused [{}]", granted.join(" "))
        }
        Outcome::NeverSent(reason) => format!("never sent {reason:?}"),
        Outcome::PerhapsDelivered(reason) => format!("perhaps {reason:?}"),
        Outcome::Cancelled(reason) => format!("cancelled {reason:?}"),
    }
}
