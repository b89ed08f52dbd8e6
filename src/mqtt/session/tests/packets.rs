//! Short constructors for the broker's packets, and packets, filters and outcomes as text.

use std::sync::Arc;

use rumqttc::mqttbytes::v4;

use super::QOS;
use crate::mqtt::packet::{Answer, ConnectReturnCode, Incoming, Message, PacketId};
use crate::mqtt::session::Outcome;
use crate::mqtt::v4::tests::wire::FromClient;
use crate::mqtt::v5::tests::wire::FromClient5;

pub(super) fn id(value: u16) -> PacketId {
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

/// As [`packet_text`], with what MQTT 5 adds where there is any: `PUBREL 1 0x92`, `SUBSCRIBE id=1 sub=7 a:1/nl/rap/rh1`.
pub(super) fn packet_text5(FromClient5 { packet, more }: &FromClient5<'_>) -> String {
    let code = match more.code {
        0 => String::new(),
        code => format!(" 0x{code:02X}"),
    };
    match packet {
        FromClient::Connect { clean_session } => {
            let clean = u8::from(*clean_session);
            format!("CONNECT clean={clean} keep={}", more.keep_alive)
        }
        FromClient::Publish {
            dup,
            qos,
            retain,
            topic,
            id,
            payload,
        } => {
            let mut text = String::from("PUBLISH");
            if *id != 0 {
                text += &format!(" id={id}");
            }
            text += &format!(" qos={qos}");
            for (is_set, name) in [(dup, " dup"), (retain, " retain")] {
                if *is_set {
                    text += name;
                }
            }
            if let Some(seconds) = more.expiry {
                text += &format!(" expiry={seconds}");
            }
            let payload = String::from_utf8_lossy(payload);
            format!("{text} {topic} {payload:?}")
        }
        FromClient::PubAck(id) => format!("PUBACK {id}{code}"),
        FromClient::PubRec(id) => format!("PUBREC {id}{code}"),
        FromClient::PubRel(id) => format!("PUBREL {id}{code}"),
        FromClient::PubComp(id) => format!("PUBCOMP {id}{code}"),
        FromClient::Subscribe { id, filters } => {
            let mut text = format!("SUBSCRIBE id={id}");
            if let Some(identifier) = more.identifier {
                text += &format!(" sub={identifier}");
            }
            for ((filter, qos), options) in filters.iter().zip(&more.options) {
                text += &format!(" {filter}:{qos}");
                for (bits, name) in [(4, "/nl"), (8, "/rap"), (0x10, "/rh1"), (0x20, "/rh2")] {
                    if options & bits != 0 {
                        text += name;
                    }
                }
            }
            text
        }
        FromClient::Unsubscribe { id, filters } => {
            format!("UNSUBSCRIBE id={id} {}", filters.join(" "))
        }
        FromClient::PingReq => "PINGREQ".into(),
        FromClient::Disconnect => format!("DISCONNECT{code}"),
    }
}

/// ` 0x87`, or ` 0x87 [0x01 0x87]` where there is a code for each filter.
fn answer_text(answer: Option<&Answer>) -> String {
    let Some(answer) = answer else {
        return String::new();
    };
    let codes = answer.codes.iter();
    let codes: Vec<_> = codes
        .map(|code| format!("0x{:02X}", code.value()))
        .collect();
    match codes.is_empty() {
        true => format!(" 0x{:02X}", answer.code.value()),
        false => format!(" 0x{:02X} [{}]", answer.code.value(), codes.join(" ")),
    }
}

/// `delivered x2`, `delivered x1 [1 0]`, `refused [1 -]`, with MQTT 5 `refused [] 0x87`, `perhaps LinkLost`, `cancelled ...`.
pub(super) fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered {
            attempts, granted, ..
        } => {
            let granted: Vec<_> = granted.iter().map(ToString::to_string).collect();
            let words = answer_text(outcome.answer());
            match granted.is_empty() {
                true => format!("delivered x{attempts}{words}"),
                false => format!("delivered x{attempts} [{}]{words}", granted.join(" ")),
            }
        }
        Outcome::Refused { granted, .. } => {
            let granted: Vec<_> = granted
                .iter()
                .map(|g| g.map_or("-".to_owned(), |qos| qos.to_string()))
                .collect();
            let words = answer_text(outcome.answer());
            format!("refused [{}]{words}", granted.join(" "))
        }
        Outcome::NeverSent(reason) => format!("never sent {reason:?}"),
        Outcome::PerhapsDelivered(reason) => format!("perhaps {reason:?}"),
        Outcome::Cancelled(reason) => format!("cancelled {reason:?}"),
    }
}
