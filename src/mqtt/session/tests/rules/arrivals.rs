//! The messages that arrived: which of them the session has to deliver, and which acknowledgments it owes.
//!
//! The rules foretell exactly what the session does with each PUBLISH, whatever the broker sends. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;
use crate::mqtt::packet::{Message, PacketId, QoS};
use crate::mqtt::session::DeliveryId;

/// A message that the session has and has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Known {
    message: Message,
    /// Bytes that it counts while it waits.
    bytes: usize,
    /// `None` until it is delivered, and for a QoS 2 message that comes again after its PUBREC.
    delivery: Option<DeliveryId>,
    accepted: bool,
    on_this_link: bool,
}

/// A message that waits for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Waiting {
    bytes: usize,
    /// It is to count as accepted.
    early: bool,
    /// It counts as accepted, or nothing is owed for it any more.
    settled: bool,
}

/// Bytes that a message counts beside its topic, its payload and the memory of what MQTT 5 adds.
const KEEPING: usize = 256;

/// The session's task when a PUBLISH comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Deliver,
    /// It was delivered before: it is only acknowledged.
    Known,
    /// There is no room for it: it stays with the broker.
    Leave,
}

/// The receiving half of the record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Arrivals {
    /// Bytes of messages that may count as accepted while they wait.
    limit: usize,
    /// The messages that wait.
    waiting: BTreeMap<DeliveryId, Waiting>,
    known: BTreeMap<u16, Known>,
    /// Acknowledgments that are owed on this link, in the order of arrival.
    owed: Vec<u16>,
    /// QoS 2 messages that came and were not released.
    unreleased: BTreeSet<u16>,
    /// The size of the first message that was left with the broker on this link.
    left: Option<usize>,
    /// With MQTT 5 the broker was told how many it may send, and all of those are taken. Others need room.
    pub(super) takes_all: bool,
}

impl Arrivals {
    pub(super) fn new(limit: usize) -> Self {
        Arrivals {
            limit,
            ..Arrivals::default()
        }
    }

    /// The session's task if this message arrives now.
    pub(crate) fn verdict(&self, id: Option<PacketId>, message: &Message) -> Verdict {
        self.judged(id, message, self.takes_all)
    }

    /// Whether a message beyond the number that the broker was told may be taken.
    pub(super) fn has_room_for(&self, id: Option<PacketId>, message: &Message) -> bool {
        self.judged(id, message, false) != Verdict::Leave
    }

    fn judged(&self, id: Option<PacketId>, message: &Message, takes_all: bool) -> Verdict {
        let Some(id) = id.map(PacketId::value) else {
            return Verdict::Deliver;
        };
        let again = match self.known.get(&id) {
            Some(known) => known.is(message),
            None => message.qos == QoS::ExactlyOnce && self.unreleased.contains(&id),
        };
        let waiting = self.bytes_waiting();
        let bound = self.limit.saturating_add(self.limit / 4);
        let fits = takes_all || waiting == 0 || waiting + bytes(message) <= bound;
        match again {
            true => Verdict::Known,
            false if fits && self.left.is_none() => Verdict::Deliver,
            false => Verdict::Leave,
        }
    }

    pub(super) fn arrives(&mut self, id: Option<PacketId>, message: &Message) -> Verdict {
        let verdict = self.verdict(id, message);
        let Some(id) = id.map(PacketId::value) else {
            return verdict;
        };
        // The broker uses the identifier for another message: the one before is over.
        if self.known.get(&id).is_some_and(|known| !known.is(message)) {
            self.releases(id);
        }
        match (verdict, self.known.get_mut(&id)) {
            (Verdict::Leave, _) => drop(self.left.get_or_insert(bytes(message))),
            (_, Some(known)) => {
                if !std::mem::replace(&mut known.on_this_link, true) {
                    self.owed.push(id);
                }
            }
            (_, None) => {
                let known = Known {
                    message: message.clone(),
                    bytes: bytes(message),
                    delivery: None,
                    accepted: verdict == Verdict::Known,
                    on_this_link: true,
                };
                self.known.insert(id, known);
                self.owed.push(id);
                if message.qos == QoS::ExactlyOnce {
                    self.unreleased.insert(id);
                }
            }
        }
        verdict
    }

    pub(super) fn delivers(&mut self, id: PacketId, delivery: DeliveryId) {
        if let Some(known) = self.known.get_mut(&id.value()) {
            known.delivery = Some(delivery);
            let waiting = Waiting {
                bytes: known.bytes,
                early: false,
                settled: false,
            };
            self.waiting.insert(delivery, waiting);
        }
    }

    /// Whether a QoS 2 message came under this identifier on this link, and PUBREC was not sent for it.
    pub(super) fn awaits_our_pubrec(&self, id: u16) -> bool {
        let known = self.known.get(&id);
        known.is_some_and(|known| known.on_this_link && known.message.qos == QoS::ExactlyOnce)
    }

    /// Whether a QoS 2 message came under this identifier, and was not released.
    pub(super) fn is_unreleased(&self, id: u16) -> bool {
        self.unreleased.contains(&id)
    }

    /// PUBREL came.
    pub(super) fn releases(&mut self, id: u16) {
        self.unreleased.remove(&id);
        let known = self.known.remove(&id);
        // It waits on, if it does, and nothing is owed for it.
        let delivery = known.and_then(|known| known.delivery);
        if let Some(waiting) = delivery.and_then(|delivery| self.waiting.get_mut(&delivery)) {
            waiting.settled = true;
        }
        self.owed.retain(|owed| *owed != id);
    }

    /// Every receiver has the message.
    pub(super) fn accepts(&mut self, delivery: DeliveryId) {
        self.waiting.remove(&delivery);
        self.counts_as_accepted(delivery);
        self.settle();
    }

    /// The message is to count as accepted while it waits. Returns whether it does so at once, or has nothing owed
    /// for it any more.
    pub(super) fn accepts_early(&mut self, delivery: DeliveryId) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&delivery) {
            waiting.early = true;
        }
        self.settle();
        self.waiting
            .get(&delivery)
            .is_none_or(|waiting| waiting.settled)
    }

    #[cfg(test)]
    pub(super) fn is_early(&self, delivery: DeliveryId) -> bool {
        let waiting = self.waiting.get(&delivery);
        waiting.is_none_or(|waiting| waiting.early || waiting.settled)
    }

    /// In the order of arrival, messages count as accepted as far as the limit goes. One alone always may.
    fn settle(&mut self) {
        loop {
            let mut held_back = self.waiting.iter().filter(|(_, w)| w.early && !w.settled);
            let Some((&first, &Waiting { bytes, .. })) = held_back.next() else {
                return;
            };
            let settled = self.waiting.values().filter(|w| w.settled);
            let settled: usize = settled.map(|w| w.bytes).sum();
            if settled > 0 && settled + bytes > self.limit {
                return;
            }
            self.counts_as_accepted(first);
            self.waiting.entry(first).and_modify(|w| w.settled = true);
        }
    }

    fn counts_as_accepted(&mut self, delivery: DeliveryId) {
        for known in self.known.values_mut() {
            known.accepted |= known.delivery == Some(delivery);
        }
    }

    /// Whether the message whose turn it is waits to be accepted, if there is one.
    pub(super) fn nothing_is_due(&self) -> Rule {
        let first = self.owed.first().and_then(|id| self.known.get(id));
        match first.is_some_and(|known| known.accepted) {
            true => Err(format!(
                "identifier {} was accepted and is not acknowledged",
                self.owed[0]
            )),
            false => Ok(()),
        }
    }

    /// The session sends PUBACK or PUBREC.
    pub(super) fn acknowledges(&mut self, id: u16, qos: QoS) -> Rule {
        let due = match self.owed.first() {
            Some(first) if *first == id => self.known.remove(&id),
            _ => None,
        };
        match due {
            None => Err(format!(
                "identifier {id} is acknowledged out of order, due: {:?}",
                self.owed
            )),
            Some(known) if !known.accepted => Err(format!(
                "identifier {id} is acknowledged before it was accepted"
            )),
            Some(known) if known.message.qos != qos => {
                Err(format!("identifier {id} is acknowledged as {qos:?}"))
            }
            Some(_) => {
                self.owed.remove(0);
                Ok(())
            }
        }
    }

    pub(super) fn link_lost(&mut self) {
        self.left = None;
        self.owed.clear();
        for known in self.known.values_mut() {
            known.on_this_link = false;
        }
    }

    pub(super) fn session_lost(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting
            .values_mut()
            .for_each(|waiting| waiting.settled = true);
        *self = Arrivals {
            left: self.left,
            takes_all: self.takes_all,
            waiting,
            ..Arrivals::new(self.limit)
        };
    }

    /// Whether a message was left with the broker on this link.
    pub(crate) fn has_left_some(&self) -> bool {
        self.left.is_some()
    }

    /// Whether there is room again for the messages left with the broker: half of it, and enough for the first.
    pub(super) fn has_room_again(&self) -> bool {
        let waiting = self.bytes_waiting();
        let has_room =
            |size| waiting == 0 || waiting <= self.limit / 2 && waiting + size <= self.limit;
        self.left.is_some_and(has_room)
    }

    /// Bytes of the messages that wait.
    pub(crate) fn bytes_waiting(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.bytes).sum()
    }

    /// Identifiers that the session still has to acknowledge on this link.
    pub(super) fn owed(&self) -> &[u16] {
        &self.owed
    }

    /// QoS 1 messages that were accepted and are not acknowledged on this link.
    #[cfg(test)]
    pub(super) fn accepted_before(&self) -> impl Iterator<Item = u16> {
        let accepted = |k: &Known| k.accepted && !k.on_this_link && k.message.qos as u8 == 1;
        let known = self.known.iter();
        known
            .filter(move |(_, known)| accepted(known))
            .map(|(id, _)| *id)
    }
}

fn bytes(message: &Message) -> usize {
    message.waiting_bytes() + KEEPING
}

impl Known {
    /// Whether it is the same message again. QoS 1 on a new link is so only with DUP [MQTT-3.3.1-1].
    fn is(&self, message: &Message) -> bool {
        let known = &self.message;
        (known.qos, known.topic(), known.payload(), known.too_large)
            == (
                message.qos,
                message.topic(),
                message.payload(),
                message.too_large,
            )
            && (self.on_this_link || message.dup || message.qos == QoS::ExactlyOnce)
    }
}
