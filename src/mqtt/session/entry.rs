//! What the sending half of the session keeps of a command: what was sent, or is to be, and how far it is.
//!
//! Pure; the loop's thread.

use std::time::Instant;

use super::FILTERS_PER_PACKET;
use crate::mqtt::packet::{Filter, PacketId, QoS};
use crate::mqtt::v4::Outgoing;

/// A command (or a renewed subscription) that awaits an acknowledgment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry<T> {
    /// None for what the session does on its own.
    pub(super) token: Option<T>,
    pub(super) body: Body,
    /// How often its packet was sent, all links together.
    pub(super) attempts: u32,
    /// Whether anything of it ever went out, or is about to: what is in the output stands in `leaving`.
    pub(super) ever_sent: bool,
    /// Whether the broker's present session may have seen it: then DUP is due [MQTT-3.3.1-1].
    pub(super) sent_in_session: bool,
    /// Whether it was sent on the present link.
    pub(super) on_this_link: bool,
    pub(super) since: Instant,
    /// When its packet left, or was encoded if it has not left yet.
    pub(super) sent: Instant,
    /// Where its packet ends in the output.
    pub(super) end: u64,
}

/// A packet in the output, as long as it has not left as a whole: it ends where its entry says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Leaving {
    pub(super) id: PacketId,
    /// Where it begins in the output.
    pub(super) begin: u64,
    /// What its entry said before.
    pub(super) ever_sent: bool,
    pub(super) sent_in_session: bool,
}

/// What was sent, or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Body {
    /// Awaits PUBACK or, with QoS 2, PUBREC.
    Publish(Outgoing),
    /// PUBREC came and PUBREL was sent: awaits PUBCOMP. PUBRELs keep the order of their PUBRECs
    /// [MQTT-4.6.0-4].
    Release {
        order: u64,
    },
    Subscribe(Box<Subscribing>),
    Unsubscribe(Box<Unsubscribing>),
}

/// Awaits SUBACK for the filters behind those that `granted` has the answers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subscribing {
    pub(super) filters: Vec<Filter>,
    pub(super) granted: Vec<Option<QoS>>,
    pub(super) renewal: bool,
}

/// Awaits UNSUBACK for the filters from `done` on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Unsubscribing {
    pub(super) filters: Vec<String>,
    pub(super) done: usize,
}

impl<T> Entry<T> {
    pub(super) fn new(token: Option<T>, body: Body, now: Instant) -> Self {
        Entry {
            token,
            body,
            attempts: 0,
            ever_sent: false,
            sent_in_session: false,
            on_this_link: false,
            since: now,
            sent: now,
            end: 0,
        }
    }

    /// Whether it is a long request of which packets are still to come.
    pub(super) fn has_rest(&self) -> bool {
        match &self.body {
            Body::Subscribe(asked) => asked.left().len() > FILTERS_PER_PACKET,
            Body::Unsubscribe(left) => left.left().len() > FILTERS_PER_PACKET,
            Body::Publish(_) | Body::Release { .. } => false,
        }
    }

    /// Whether it is a SUBSCRIBE or an UNSUBSCRIBE.
    pub(super) fn is_request(&self) -> bool {
        matches!(self.body, Body::Subscribe(_) | Body::Unsubscribe(_))
    }

    pub(super) fn is_release(&self) -> bool {
        matches!(self.body, Body::Release { .. })
    }

    pub(super) fn is_renewal(&self) -> bool {
        matches!(&self.body, Body::Subscribe(asked) if asked.renewal)
    }

    /// The filters of a SUBSCRIBE or an UNSUBSCRIBE.
    pub(super) fn filters(&self) -> impl Iterator<Item = &str> {
        let (asked, left): (&[Filter], &[String]) = match &self.body {
            Body::Subscribe(asked) => (&asked.filters, &[]),
            Body::Unsubscribe(left) => (&[], &left.filters),
            Body::Publish(_) | Body::Release { .. } => (&[], &[]),
        };
        let asked = asked.iter().map(|asked| asked.filter.as_str());
        asked.chain(left.iter().map(String::as_str))
    }
}

impl Body {
    /// Whether it is a message of this quality of service that awaits its first acknowledgment.
    pub(super) fn is_publish(&self, qos: QoS) -> bool {
        matches!(self, Body::Publish(message) if message.qos() == qos)
    }

    /// For the log: what it is, and about what.
    pub(super) fn name(&self) -> String {
        match self {
            Body::Publish(message) => format!("PUBLISH to {:?}", message.topic()),
            Body::Release { .. } => "PUBREL".to_owned(),
            Body::Subscribe(asked) => {
                let filters: Vec<_> = asked.filters.iter().map(|f| f.filter.as_str()).collect();
                format!("SUBSCRIBE to {filters:?}")
            }
            Body::Unsubscribe(left) => format!("UNSUBSCRIBE from {:?}", left.filters),
        }
    }
}

impl Subscribing {
    pub(super) fn new(filters: Vec<Filter>, renewal: bool) -> Box<Self> {
        Box::new(Subscribing {
            filters,
            granted: Vec::new(),
            renewal,
        })
    }

    /// What no packet was answered for yet.
    pub(super) fn left(&self) -> &[Filter] {
        &self.filters[self.granted.len()..]
    }

    /// What is in its present packet.
    pub(super) fn packet(&self) -> &[Filter] {
        let left = self.left();
        &left[..left.len().min(FILTERS_PER_PACKET)]
    }
}

impl Unsubscribing {
    pub(super) fn left(&self) -> &[String] {
        &self.filters[self.done..]
    }

    pub(super) fn packet(&self) -> &[String] {
        let left = self.left();
        &left[..left.len().min(FILTERS_PER_PACKET)]
    }
}
