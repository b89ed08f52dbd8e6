//! The tests' way into a session: they read its inside, and they break it to show that the rules notice.
//!
//! Built for tests only. A test that needs anything else of the session calls its methods. Pure.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use super::filters::Filters;
use super::{DeliveryId, LinkState, Outcome, Session};
use crate::mqtt::packet::{Ack, Message, PacketId, ReasonCode};

/// For reading.
impl<T> Session<T> {
    /// Whether CONNACK came and nothing ended the connection since.
    pub(crate) fn is_up(&self) -> bool {
        self.link == LinkState::Up
    }

    /// Whether no identifier is in use and no command waits for one.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.outbound.is_at_rest()
    }

    /// Memory that the output keeps while it is empty.
    pub(crate) fn kept_output(&mut self) -> usize {
        self.output.kept()
    }

    /// Hashes everything that decides what the session does next, but for counters and the clock.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher)
    where
        T: Hash,
    {
        (self.link, &self.filters, &self.inbound).hash(state);
        self.outbound.hash_state(state);
    }
}

/// For breaking.
impl<T> Session<T> {
    /// How many PUBLISHes the broker takes.
    pub(crate) fn quota(&self) -> Option<u16> {
        self.outbound.quota()
    }

    /// Takes another number for the one that the broker said.
    pub(crate) fn break_quota(&mut self, quota: Option<u16>) {
        self.outbound.set_quota(quota);
    }

    /// Lets no request pass while this is done.
    pub(crate) fn break_passing(&mut self, done: impl FnOnce(&mut Self)) {
        let quota = self.outbound.quota();
        self.outbound.set_quota(None);
        done(self);
        self.outbound.set_quota(quota);
    }

    /// The message under this identifier makes room.
    pub(crate) fn break_place(&mut self, id: PacketId) {
        self.outbound.break_place(id, true);
    }

    /// The message under this identifier will never make room.
    pub(crate) fn break_counting(&mut self, id: PacketId) {
        self.outbound.break_place(id, false);
    }

    /// Forgets the maximum QoS that the broker stated.
    pub(crate) fn break_limits(&mut self) {
        self.server.break_limits();
    }

    /// Forgets every filter, so that none is renewed.
    pub(crate) fn break_filters(&mut self) {
        self.filters = Filters::default();
    }

    /// Drops the commands in flight without ending them.
    pub(crate) fn break_in_flight(&mut self) {
        self.outbound.break_in_flight();
    }

    /// Frees an identifier that is still in use; returns whether it was.
    pub(crate) fn break_identifier(&mut self, id: PacketId) -> bool {
        self.outbound.break_identifier(id)
    }

    /// Frees an identifier that a PUBREC for an unknown message holds.
    pub(crate) fn break_unknown(&mut self, id: PacketId) {
        self.outbound.break_unknown(id);
    }

    /// Lets any number of QoS 2 messages be in flight.
    pub(crate) fn break_window_qos2(&mut self) {
        self.outbound.break_window_qos2();
    }

    /// Suspects nothing.
    pub(crate) fn break_suspicion(&mut self) {
        self.outbound.break_suspicion();
    }

    /// Gives up a command after so many links that are closed with it alone.
    pub(crate) fn break_threshold(&mut self, links: u32) {
        self.outbound.suspects_to_break().break_threshold(links);
    }

    /// Forgets what left on the present link beside the packet that is tried.
    pub(crate) fn break_company(&mut self) {
        self.outbound.suspects_to_break().break_company();
    }

    /// Goes on as though a command had been answered.
    pub(crate) fn break_witness(&mut self, now: Instant) {
        self.outbound.suspects_to_break().break_witness();
        self.judge(now);
    }

    /// Ends the time for which the link stands idle.
    pub(crate) fn break_idle(&mut self, now: Instant) {
        self.outbound.suspects_to_break().break_idle(now);
        if self.outbound.goes_on_trying(now) {
            self.send_waiting(now);
        }
    }

    /// Takes the packet under this identifier for one that was sent on the present link.
    pub(crate) fn break_link_of(&mut self, id: PacketId) {
        self.outbound.break_link_of(id);
    }

    /// Sends the command that waits first.
    pub(crate) fn break_turn(&mut self, now: Instant) {
        if self.link == LinkState::Up
            && let Some(id) = self.outbound.break_turn()
        {
            self.send(id, now);
        }
    }

    /// Forgets that the request under this identifier has overtaken another one.
    pub(crate) fn break_overtaken(&mut self, id: PacketId) {
        self.outbound.break_overtaken(id);
    }

    /// Frees the identifiers of commands that were given up.
    pub(crate) fn break_given_up(&mut self) {
        self.outbound.break_given_up();
    }

    /// Forgets in which order packets were sent.
    pub(crate) fn break_sending_order(&mut self) {
        self.outbound.break_sending_order();
    }

    /// Ends the oldest command in flight, which will end again.
    pub(crate) fn break_ending(&mut self, outcome: Outcome)
    where
        T: Copy,
    {
        if let Some(token) = self.outbound.oldest_token() {
            self.events.resolve(token, outcome);
        }
    }

    /// Forgets every message that arrived.
    pub(crate) fn break_inbound(&mut self) {
        self.inbound.handle_session_lost();
    }

    /// Forgets the message that arrived under this identifier.
    pub(crate) fn break_arrival(&mut self, id: PacketId) {
        self.inbound.handle_pubrel(id);
    }

    /// Remembers a message that was left with the broker as one that arrived.
    pub(crate) fn break_left(&mut self, id: PacketId, message: Arc<Message>) {
        self.inbound.break_left(id, message);
    }

    /// Has a message count as accepted, whatever the account allows.
    pub(crate) fn break_limit(&mut self, delivery: DeliveryId) {
        self.inbound.break_limit(delivery);
        self.send_acks();
    }

    /// Forgets all messages that wait.
    pub(crate) fn break_account(&mut self) {
        self.inbound.break_account();
    }

    /// Acknowledges out of order.
    pub(crate) fn break_order(&mut self, id: PacketId) {
        self.output
            .acknowledge(Ack::PubAck, id, ReasonCode::SUCCESS);
    }
}
