//! The receiving half of the session: which acknowledgments are owed for incoming messages, in which
//! order, and which QoS 2 messages were received but not released.
//!
//! PUBACK and PUBREC leave in the order of arrival [MQTT-4.6.0-2] [MQTT-4.6.0-3], each once its message
//! was accepted: every inbox has it, or counts as having it. An acknowledgment that is still owed when the link is
//! lost stays remembered under its identifier: when the broker sends the same message again, it is acknowledged and
//! not delivered a second time (`owed.rs`). Messages that wait for an inbox are on the account (`account.rs`), so that
//! all of the room is there again once everything was read. The output and the inboxes are not known here. Pure; the
//! loop's thread.

use std::collections::VecDeque;
use std::sync::Arc;

use super::account::{DeliveryId, WaitingAccount};
use super::owed::{Content, Owed, bytes_of};
use super::sorted::Sorted;
use super::unfinished::{Excess, Unfinished};
use crate::mqtt::packet::{Ack, Message, PacketId, QoS};

/// The consequence of a PUBLISH that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Deliver it; it is acknowledged once accepted (never, for QoS 0).
    Deliver(Arc<Message>, Option<DeliveryId>),
    /// It was delivered before.
    Known,
}

/// State of the receiving half.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Inbound {
    next_delivery: u64,
    /// The acknowledgments owed on this link, in order of arrival.
    owed: VecDeque<Owed>,
    /// The broker sent messages again in another order than at first, so `owed` is not sorted by delivery.
    is_disordered: bool,
    /// The acknowledgments owed once the broker sends the messages again.
    unrepeated: Sorted<DeliveryId, Owed>,
    /// The delivery of each acknowledgment owed.
    by_identifier: Sorted<PacketId, DeliveryId>,
    /// The messages that wait for an inbox, whether anything is owed for them or not.
    account: WaitingAccount,
    /// QoS 2 messages that arrived and were not released by PUBREL [MQTT-4.3.3-2].
    unreleased: Sorted<PacketId, ()>,
    /// The size of the first message that had no room on this link. No message behind it may overtake it.
    left_with_broker: Option<usize>,
    /// With MQTT 5: the messages of this link that are not finished. As many as CONNECT allows are taken, whatever waits.
    unfinished: Option<Unfinished>,
}

impl Inbound {
    /// Nothing has arrived. Messages of `limit` bytes may count as accepted while they wait.
    pub(crate) fn new(limit: usize) -> Self {
        Inbound {
            account: WaitingAccount::new(limit),
            ..Inbound::default()
        }
    }

    /// Whether a PUBLISH that arrived may be taken: there is room for it on the account. A known message that comes
    /// again costs nothing. Any other message behind one that was not taken is not taken either, until the link is
    /// made anew.
    ///
    /// Nothing that is owed makes way. The broker sends messages again in their order [MQTT-4.6.0-1],
    /// so a message that is still known may follow behind one that is not known any more.
    pub(crate) fn has_room_for(&mut self, id: PacketId, message: &Message) -> bool {
        if self.unfinished.is_some() {
            return true;
        }
        let bytes = bytes_of(message);
        let has_room = self.account.has_room_for(bytes) && !self.has_left_some()
            || self.is_same_as_owed(id, message)
            || message.qos == QoS::ExactlyOnce && self.unreleased.get(id).is_some();
        if !has_room {
            self.left_with_broker.get_or_insert(bytes);
        }
        has_room
    }

    /// Whether messages were left with the broker on this link.
    pub(crate) fn has_left_some(&self) -> bool {
        self.left_with_broker.is_some()
    }

    /// Whether messages were left with the broker and there is room for them again.
    pub(crate) fn has_room_again(&self) -> bool {
        let has_room = |bytes| self.account.has_room_again(bytes);
        self.left_with_broker.is_some_and(has_room)
    }

    /// A link is up. With MQTT 5 the broker was told how many messages it may send at one time.
    pub(crate) fn handle_link_up(&mut self, receive_maximum: Option<u16>) {
        self.unfinished = receive_maximum.map(Unfinished::new);
    }

    /// A PUBLISH arrived. Returns by how much it is beyond the number that the broker was told, if it is [MQTT-3.3.4-9].
    pub(crate) fn counts(&mut self, id: PacketId) -> Option<Excess> {
        self.unfinished.as_mut()?.counts(id)
    }

    /// Whether a message came under this identifier on this link of MQTT 5, and is not finished.
    pub(crate) fn is_unfinished(&self, id: PacketId) -> bool {
        let unfinished = self.unfinished.as_ref();
        unfinished.is_some_and(|unfinished| unfinished.has(id))
    }

    /// Whether a PUBLISH beyond that number is taken all the same: there is room for it on the account, or it is known
    /// and costs nothing. Nothing changes: the link ends if it is not.
    pub(crate) fn takes_beyond(&self, id: PacketId, message: &Message) -> bool {
        let is_known = match self.by_identifier.get(id) {
            Some(&delivery) => {
                let owed = self.owed(delivery);
                let may_repeat = message.dup || message.qos == QoS::ExactlyOnce;
                owed.is_some_and(|owed| owed.is_for(message))
                    && (may_repeat || self.place(delivery).is_some())
            }
            None => message.qos == QoS::ExactlyOnce && self.unreleased.get(id).is_some(),
        };
        is_known || self.account.has_room_for(bytes_of(message))
    }

    fn finish(&mut self, id: PacketId) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.finish(id);
        }
    }

    /// A PUBLISH arrived.
    pub(crate) fn handle_publish(
        &mut self,
        id: Option<PacketId>,
        message: Arc<Message>,
    ) -> Arrival {
        let Some(id) = id else {
            return Arrival::Deliver(message, None);
        };
        if self.is_same_as_owed(id, &message) {
            return Arrival::Known;
        }
        let repeated = message.qos == QoS::ExactlyOnce && !self.unreleased.insert(id, ());
        if repeated {
            self.owe(id, message.qos, Content::digest(&message), true);
            return Arrival::Known;
        }
        let content = Content::Whole(Arc::clone(&message));
        let delivery = self.owe(id, message.qos, content, false);
        Arrival::Deliver(message, Some(delivery))
    }

    /// With MQTT 5: whether a QoS 2 message came under this identifier on this link, and PUBREC was not sent for it. A
    /// broker that releases such a message could send others without end while nobody reads them.
    pub(crate) fn awaits_our_pubrec(&self, id: PacketId) -> bool {
        let place = self
            .by_identifier
            .get(id)
            .and_then(|delivery| self.place(*delivery));
        self.unfinished.is_some()
            && place.is_some_and(|place| self.owed[place].qos == QoS::ExactlyOnce)
    }

    /// PUBREL: the identifier may be used for a new message from now on. Returns whether there was a message under it.
    pub(crate) fn handle_pubrel(&mut self, id: PacketId) -> bool {
        if self.unfinished.is_some() && self.unreleased.get(id).is_none() {
            return false;
        }
        self.finish(id);
        let is_known = self.unreleased.remove(id).is_some();
        // A release answers our PUBREC, so nothing is owed under it any more.
        self.forget(id);
        is_known
    }

    /// Every inbox has the message.
    pub(crate) fn accept(&mut self, delivery: DeliveryId) {
        let unaccepted = self.mark_accepted(delivery);
        self.account.remove(delivery, unaccepted);
        self.accept_what_the_account_allows();
    }

    /// The message still waits for so many inboxes, and counts as accepted because none of them may delay others.
    /// Returns whether the account allows it. If not, it counts as accepted as soon as the account does.
    pub(crate) fn accept_early(&mut self, delivery: DeliveryId, inboxes: usize) -> bool {
        let owed = self.owed(delivery);
        let Some(bytes) = owed.and_then(Owed::unaccepted_bytes) else {
            return true;
        };
        self.account.hold_back(delivery, bytes, inboxes);
        self.accept_what_the_account_allows();
        !self.account.is_held_back(delivery)
    }

    fn accept_what_the_account_allows(&mut self) {
        while let Some(delivery) = self.account.poll_settled() {
            self.mark_accepted(delivery);
        }
    }

    /// Returns the bytes that the message counted if its acceptance was awaited.
    fn mark_accepted(&mut self, delivery: DeliveryId) -> Option<usize> {
        let place = self.place(delivery);
        let owed = match place {
            Some(place) => self.owed.get_mut(place),
            None => self.unrepeated.get_mut(delivery),
        }?;
        let unaccepted = owed.unaccepted_bytes();
        owed.accepted = true;
        // The next one is acknowledged at once: it needs no digest.
        if place != Some(0) {
            owed.content.shorten();
        }
        unaccepted
    }

    /// The next acknowledgment that may leave now, and its message.
    pub(crate) fn poll_ack(&mut self) -> Option<(Ack, PacketId, DeliveryId)> {
        self.owed.front().filter(|owed| owed.accepted)?;
        let Owed {
            delivery, id, qos, ..
        } = self.owed.pop_front()?;
        self.by_identifier.remove(id);
        if qos == QoS::ExactlyOnce {
            return Some((Ack::PubRec, id, delivery));
        }
        self.finish(id);
        Some((Ack::PubAck, id, delivery))
    }

    /// Whether an acknowledgment is owed, on this link or once the broker has sent the message again.
    pub(crate) fn is_owed(&self, delivery: DeliveryId) -> bool {
        self.owed(delivery).is_some()
    }

    /// The link is gone. From now on an acknowledgment is owed only if the broker sends its message again.
    pub(crate) fn handle_link_lost(&mut self) {
        self.left_with_broker = None;
        self.unfinished = None;
        self.is_disordered = false;
        for mut owed in self.owed.drain(..) {
            if owed.accepted {
                owed.content.shorten();
            }
            self.unrepeated.insert(owed.delivery, owed);
        }
    }

    /// The broker forgot the session: it sends none of its messages again. Messages that wait for an inbox wait on.
    pub(crate) fn handle_session_lost(&mut self) {
        for owed in self.owed.iter().chain(self.unrepeated.values()) {
            if let Some(bytes) = owed.unaccepted_bytes() {
                self.account.settle(owed.delivery, bytes);
            }
        }
        self.owed.clear();
        self.unrepeated.clear();
        self.by_identifier.clear();
        self.unreleased.clear();
    }

    /// Whether the message is the one for which an acknowledgment is owed under this identifier. If it is,
    /// the acknowledgment is owed on this link (again). If it is another message, the broker has reused the
    /// identifier and nothing is owed for the old one. A QoS 1 message on a new link is a repetition only
    /// with DUP [MQTT-3.3.1-1]; a QoS 2 message is known by its identifier.
    fn is_same_as_owed(&mut self, id: PacketId, message: &Message) -> bool {
        let Some(&delivery) = self.by_identifier.get(id) else {
            return false;
        };
        let may_repeat = message.dup || message.qos == QoS::ExactlyOnce;
        let place = self.place(delivery);
        if place.is_some_and(|place| self.owed[place].is_for(message)) {
            return true;
        }
        let unrepeated = self.unrepeated.get(delivery);
        if unrepeated.is_some_and(|owed| owed.is_for(message) && may_repeat) {
            self.is_disordered |= self
                .owed
                .back()
                .is_some_and(|last| last.delivery > delivery);
            self.owed.extend(self.unrepeated.remove(delivery));
            return true;
        }
        self.forget(id);
        self.unreleased.remove(id);
        false
    }

    fn owe(&mut self, id: PacketId, qos: QoS, content: Content, accepted: bool) -> DeliveryId {
        let delivery = DeliveryId(self.next_delivery);
        self.next_delivery += 1;
        self.by_identifier.insert(id, delivery);
        let owed = Owed {
            delivery,
            id,
            qos,
            content,
            accepted,
        };
        self.account.add(owed.unaccepted_bytes().unwrap_or(0));
        self.owed.push_back(owed);
        delivery
    }

    fn forget(&mut self, id: PacketId) {
        let Some(delivery) = self.by_identifier.remove(id) else {
            return;
        };
        let owed = match self.place(delivery) {
            Some(place) => self.owed.remove(place),
            None => self.unrepeated.remove(delivery),
        };
        if let Some(bytes) = owed.and_then(|owed| owed.unaccepted_bytes()) {
            self.account.settle(delivery, bytes);
        }
    }

    /// Where it stands among those that are owed on this link. It is mostly the first.
    fn place(&self, delivery: DeliveryId) -> Option<usize> {
        let first = self.owed.front()?;
        if first.delivery == delivery {
            return Some(0);
        }
        match self.is_disordered {
            true => self.owed.iter().position(|owed| owed.delivery == delivery),
            false => {
                let found = self
                    .owed
                    .binary_search_by_key(&delivery, |owed| owed.delivery);
                found.ok()
            }
        }
    }

    fn owed(&self, delivery: DeliveryId) -> Option<&Owed> {
        match self.place(delivery) {
            Some(place) => self.owed.get(place),
            None => self.unrepeated.get(delivery),
        }
    }
}

#[cfg(test)]
impl Inbound {
    pub(super) fn break_limit(&mut self, delivery: DeliveryId) {
        self.mark_accepted(delivery);
    }

    /// Takes a message for one that arrived.
    pub(super) fn break_left(&mut self, id: PacketId, message: Arc<Message>) {
        if let Arrival::Deliver(_, Some(delivery)) = self.handle_publish(Some(id), message) {
            let owed = self.owed(delivery);
            let unaccepted = owed.and_then(Owed::unaccepted_bytes);
            self.account.remove(delivery, unaccepted);
        }
    }

    pub(super) fn break_account(&mut self) {
        if self.by_identifier.len() == 0 {
            self.account.break_all();
        }
    }
}

impl<T> super::Session<T> {
    /// Bytes of the messages that wait for a receiver.
    pub fn bytes_waiting(&self) -> usize {
        self.inbound.account.bytes()
    }
}

#[cfg(any(test, fuzzing))]
impl<T> super::Session<T> {
    /// How many acknowledgments are owed, and how many identifiers are kept for them.
    pub(crate) fn acknowledgments_owed(&self) -> (usize, usize) {
        let Inbound {
            owed,
            unrepeated,
            by_identifier,
            ..
        } = &self.inbound;
        (owed.len() + unrepeated.len(), by_identifier.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll_ack(inbound: &mut Inbound) -> Option<(Ack, PacketId)> {
        let (ack, id, _) = inbound.poll_ack()?;
        Some((ack, id))
    }

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    fn message(qos: QoS, payload: &'static str) -> Arc<Message> {
        Message::new("t", qos, payload).into()
    }

    fn again(qos: QoS, payload: &'static str) -> Arc<Message> {
        let mut again = Message::new("t", qos, payload);
        again.dup = true;
        again.into()
    }

    fn deliver(inbound: &mut Inbound, at: u16, qos: QoS, payload: &'static str) -> DeliveryId {
        match inbound.handle_publish(Some(id(at)), message(qos, payload)) {
            Arrival::Deliver(_, Some(delivery)) => delivery,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn acknowledgments_leave_in_the_order_of_arrival() {
        let mut inbound = Inbound::new(usize::MAX);
        let first = deliver(&mut inbound, 1, QoS::AtLeastOnce, "a");
        let second = deliver(&mut inbound, 2, QoS::ExactlyOnce, "b");
        inbound.accept(second);
        assert_eq!(poll_ack(&mut inbound), None);
        inbound.accept(first);
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubAck, id(1))));
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubRec, id(2))));
        assert_eq!(poll_ack(&mut inbound), None);
    }

    #[test]
    fn a_qos_2_message_is_delivered_once_until_it_is_released() {
        let mut inbound = Inbound::new(usize::MAX);
        let first = deliver(&mut inbound, 1, QoS::ExactlyOnce, "a");
        assert_eq!(
            inbound.handle_publish(Some(id(1)), message(QoS::ExactlyOnce, "a")),
            Arrival::Known
        );
        inbound.accept(first);
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubRec, id(1))));
        assert_eq!(poll_ack(&mut inbound), None);
        assert_eq!(
            inbound.handle_publish(Some(id(1)), message(QoS::ExactlyOnce, "a")),
            Arrival::Known
        );
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubRec, id(1))));
        inbound.handle_pubrel(id(1));
        deliver(&mut inbound, 1, QoS::ExactlyOnce, "a");
    }

    #[test]
    fn a_message_that_waited_when_the_link_was_lost_is_acknowledged_when_it_comes_again() {
        let mut inbound = Inbound::new(usize::MAX);
        let delivery = deliver(&mut inbound, 1, QoS::AtLeastOnce, "a");
        inbound.handle_link_lost();
        inbound.accept(delivery);
        assert_eq!(poll_ack(&mut inbound), None, "not owed on the new link yet");
        assert_eq!(
            inbound.handle_publish(Some(id(1)), again(QoS::AtLeastOnce, "a")),
            Arrival::Known
        );
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubAck, id(1))));
        deliver(&mut inbound, 1, QoS::AtLeastOnce, "a");
    }

    #[test]
    fn acknowledgments_leave_in_the_order_in_which_messages_came_again() {
        let mut inbound = Inbound::new(usize::MAX);
        let qos = QoS::AtLeastOnce;
        let [first, second, third, fourth] =
            [1, 2, 3, 4].map(|at| deliver(&mut inbound, at, qos, "same"));
        inbound.handle_link_lost();
        for at in [4, 3, 1] {
            let repeated = inbound.handle_publish(Some(id(at)), again(qos, "same"));
            assert_eq!(repeated, Arrival::Known);
        }
        let new = deliver(&mut inbound, 5, qos, "new");
        for delivery in [first, second, third, new, fourth] {
            assert!(inbound.is_owed(delivery));
            assert_eq!(poll_ack(&mut inbound), None);
            inbound.accept(delivery);
        }
        for at in [4, 3, 1, 5] {
            assert_eq!(poll_ack(&mut inbound), Some((Ack::PubAck, id(at))));
        }
        assert_eq!(poll_ack(&mut inbound), None);
        let repeated = inbound.handle_publish(Some(id(2)), again(qos, "same"));
        assert_eq!(repeated, Arrival::Known);
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubAck, id(2))));
    }

    #[test]
    fn a_message_that_still_waits_is_not_delivered_again_on_the_same_link() {
        let mut inbound = Inbound::new(usize::MAX);
        let delivery = deliver(&mut inbound, 1, QoS::AtLeastOnce, "a");
        assert_eq!(
            inbound.handle_publish(Some(id(1)), message(QoS::AtLeastOnce, "a")),
            Arrival::Known
        );
        inbound.accept(delivery);
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubAck, id(1))));
        assert_eq!(poll_ack(&mut inbound), None);
    }

    #[test]
    fn another_message_under_the_same_identifier_is_a_new_one() {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut inbound = Inbound::new(usize::MAX);
            deliver(&mut inbound, 1, qos, "a");
            inbound.handle_link_lost();
            deliver(&mut inbound, 1, qos, "b");
        }
    }

    #[test]
    fn a_lost_session_leaves_nothing_behind() {
        let mut inbound = Inbound::new(usize::MAX);
        let delivery = deliver(&mut inbound, 1, QoS::ExactlyOnce, "a");
        inbound.handle_session_lost();
        inbound.accept(delivery);
        assert_eq!(poll_ack(&mut inbound), None);
        deliver(&mut inbound, 1, QoS::ExactlyOnce, "a");
    }

    #[test]
    fn identifiers_used_anew_behind_a_message_that_nobody_accepts_take_no_more_room() {
        let mut inbound = Inbound::new(usize::MAX);
        let first = deliver(&mut inbound, 1, QoS::AtLeastOnce, "first");
        let mut last = None;
        for turn in 0..1_000 {
            let payload = if turn % 2 == 0 { "even" } else { "odd" };
            last = Some(deliver(&mut inbound, 2, QoS::AtLeastOnce, payload));
        }
        assert_eq!((inbound.owed.len(), inbound.by_identifier.len()), (2, 2));
        inbound.accept(last.unwrap());
        assert_eq!(poll_ack(&mut inbound), None);
        inbound.accept(first);
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubAck, id(1))));
        assert_eq!(poll_ack(&mut inbound), Some((Ack::PubAck, id(2))));
        assert_eq!(poll_ack(&mut inbound), None);
    }
}
