//! The broker's limits on this link: it states them in CONNACK of MQTT 5. With MQTT 3.1.1 it says nothing, and nothing is
//! refused here. It also knows how long the broker keeps the session of MQTT 5. Pure; the loop's thread.

use std::time::{Duration, Instant};

use super::entry::{Body, FILTERS_PER_PACKET, packets};
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::{BrokerLimit, ConnAck5, ConnectTerms, Filter};
use crate::mqtt::topic::{has_wildcards, is_shared};
use crate::mqtt::v5::{subscribe_length5, unsubscribe_length5};

/// The knowledge of the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Server {
    /// The terms of CONNECT on this link; `None` with MQTT 3.1.1.
    terms: Option<Box<ConnectTerms>>,
    /// The broker's answer to them.
    connack: Option<Box<ConnAck5>>,
    kept: Option<Kept>,
}

/// The session of MQTT 5 that the broker keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kept {
    /// Seconds that it outlives the connection.
    seconds: u32,
    /// When the connection ended.
    since: Option<Instant>,
}

impl Server {
    /// CONNECT goes out with these terms.
    pub(super) fn handle_link_up(&mut self, terms: Option<&ConnectTerms>) {
        self.terms = terms.cloned().map(Box::new);
        self.connack = None;
    }

    /// The broker has accepted CONNECT of MQTT 5.
    pub(super) fn handle_connected(&mut self, connack: Box<ConnAck5>) {
        let asked = self.terms.as_ref().map_or(0, |terms| terms.session_expiry);
        self.kept = Some(Kept {
            seconds: connack.session_expiry.unwrap_or(asked),
            since: None,
        });
        self.connack = Some(connack);
    }

    /// The link is gone.
    pub(super) fn handle_link_lost(&mut self, now: Instant) {
        if let Some(kept) = &mut self.kept {
            kept.since.get_or_insert(now);
        }
    }

    /// Whether the link speaks MQTT 5.
    pub(super) fn is_version_5(&self) -> bool {
        self.terms.is_some()
    }

    pub(super) fn terms(&self) -> Option<&ConnectTerms> {
        self.terms.as_deref()
    }

    /// The broker's answer to CONNECT of MQTT 5 on this link.
    pub(super) fn connack(&self) -> Option<&ConnAck5> {
        self.connack.as_deref()
    }

    /// Whether there is a session of MQTT 5 that the broker may still keep [MQTT-3.1.2-23].
    pub(super) fn keeps_session(&self, now: Instant) -> bool {
        match self.kept {
            None => false,
            Some(Kept { since: None, .. }) => true,
            Some(Kept {
                seconds: u32::MAX, ..
            }) => true,
            Some(Kept {
                seconds,
                since: Some(since),
            }) => now.saturating_duration_since(since) < Duration::from_secs(seconds.into()),
        }
    }

    /// The limit that the message exceeds, if any.
    pub(super) fn refuses(&self, message: &Outgoing) -> Option<BrokerLimit> {
        let connack = self.connack.as_ref()?;
        if message.qos() > connack.maximum_qos {
            return Some(BrokerLimit::MaximumQos);
        }
        if message.retain() && !connack.retain_available {
            return Some(BrokerLimit::RetainAvailable);
        }
        self.refuses_length(message.most_length5())
            .and_then(|_| self.refuses_length(message.length5()))
    }

    /// The limit that a filter exceeds, if any.
    pub(super) fn refuses_filters(&self, filters: &[Filter]) -> Option<BrokerLimit> {
        let connack = self.connack.as_ref()?;
        let mut texts = filters.iter().map(|filter| filter.filter.as_str());
        if !connack.wildcard_available && texts.clone().any(has_wildcards) {
            return Some(BrokerLimit::WildcardAvailable);
        }
        if !connack.shared_available && texts.any(is_shared) {
            return Some(BrokerLimit::SharedAvailable);
        }
        None
    }

    /// Whether the broker takes a SUBSCRIBE for this filter alone.
    pub(super) fn takes_filter(&self, filter: &Filter) -> bool {
        let alone = std::slice::from_ref(filter);
        self.refuses_filters(alone).is_none() && self.takes_together(alone)
    }

    /// Whether none of the packets is too large that have as many of these filters as they can.
    pub(super) fn takes_together(&self, filters: &[Filter]) -> bool {
        let mut packets = packets(filters, FILTERS_PER_PACKET);
        packets.all(|packet| self.refuses_subscribe(packet).is_none())
    }

    /// The limit that SUBSCRIBE for these filters exceeds by its length, if it does.
    fn refuses_subscribe(&self, packet: &[Filter]) -> Option<BrokerLimit> {
        let takes_identifiers = self.connack.as_ref()?.identifiers_available;
        let identifier = packet.first().and_then(|first| first.options.identifier);
        let identifier = identifier.filter(|_| takes_identifiers);
        self.refuses_length(subscribe_length5(packet, identifier))
    }

    /// The limit that UNSUBSCRIBE for one of these filters exceeds by its length, if one does.
    pub(super) fn refuses_unsubscribe(&self, filters: &[String]) -> Option<BrokerLimit> {
        let mut each = filters.chunks(1);
        each.find_map(|alone| self.refuses_length(unsubscribe_length5(alone)))
    }

    /// Whether UNSUBSCRIBE for these filters in one packet is too large.
    pub(super) fn refuses_together(&self, filters: &[String]) -> bool {
        self.refuses_length(unsubscribe_length5(filters)).is_some()
    }

    /// The limit that the packet exceeds that is to be sent next, if any.
    pub(super) fn refuses_packet(&self, body: &Body) -> Option<BrokerLimit> {
        self.connack.as_ref()?;
        match body {
            Body::Publish(message) => self.refuses(message),
            Body::Subscribe(asked) => {
                let packet = asked.packet();
                let refused = self.refuses_filters(packet);
                refused.or_else(|| self.refuses_subscribe(packet))
            }
            Body::Unsubscribe(left) => self.refuses_length(unsubscribe_length5(left.packet())),
            Body::Release { .. } | Body::GivenUp { .. } => None,
        }
    }

    fn refuses_length(&self, length: usize) -> Option<BrokerLimit> {
        let largest = self.connack.as_ref()?.maximum_packet_size?;
        let fits = u32::try_from(length).is_ok_and(|length| length <= largest);
        (!fits).then_some(BrokerLimit::MaximumPacketSize)
    }

    /// How many the broker may send.
    pub(super) fn own_receive_maximum(&self) -> Option<u16> {
        Some(self.terms.as_ref()?.receive_maximum)
    }
}

#[cfg(test)]
impl Server {
    pub(super) fn break_limits(&mut self) {
        if let Some(connack) = &mut self.connack {
            connack.maximum_qos = crate::mqtt::packet::QoS::ExactlyOnce;
        }
    }
}
