//! The account of the messages of QoS 1 and 2 that wait for a receiver. There is one for all of them, acknowledged or
//! not, and it outlasts the broker's session: a message is on it from its arrival until every receiver has it.
//!
//! A message may count as accepted although it waits, so that its acknowledgment delays no other. The account
//! allows this up to a limit, in the order of arrival. Beyond the limit messages wait unacknowledged, so that the
//! broker's own window bounds them. A window may have room for a lot of large messages. So there is a bound for all
//! messages together, a quarter above the limit: beyond it a message is not taken at all. Identifiers and
//! acknowledgments are not known here. Pure; the loop's thread.

use std::collections::BTreeMap;

/// Bytes that a message counts for each receiver that it waits for, beside its topic and payload.
pub(super) const KEEPING: usize = 256;

/// Names one delivery of one message, from its arrival until it is acknowledged and every inbox has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub(super) u64);

/// The messages that wait, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct WaitingAccount {
    limit: usize,
    /// Bytes of all messages that wait.
    bytes: usize,
    /// Messages that wait although nobody's acceptance is awaited: they count as accepted, or the broker expects no
    /// acknowledgment any more.
    settled: BTreeMap<DeliveryId, usize>,
    settled_bytes: usize,
    /// Messages that count as accepted as soon as the limit allows it.
    held_back: BTreeMap<DeliveryId, usize>,
}

impl WaitingAccount {
    /// An empty account, in which messages of `limit` bytes may count as accepted while they wait.
    pub(super) fn new(limit: usize) -> Self {
        WaitingAccount {
            limit,
            ..WaitingAccount::default()
        }
    }

    /// Whether a message of `bytes` bytes may be taken. One alone may be larger than the bound.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        let bound = self.limit.saturating_add(self.limit / 4);
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= bound
    }

    /// Whether half of the limit is free, so that a new link is worth it, and there is room for the first message
    /// of `bytes` bytes that was not taken.
    pub(super) fn has_room_again(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes <= self.limit / 2 && self.bytes + bytes <= self.limit
    }

    /// A message of `bytes` bytes waits from now on.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Nobody's acceptance is awaited any more for a message of `bytes` bytes that waits all the same.
    pub(super) fn settle(&mut self, delivery: DeliveryId, bytes: usize) {
        let bytes = self.held_back.remove(&delivery).unwrap_or(bytes);
        self.settled_bytes += bytes;
        self.settled.insert(delivery, bytes);
    }

    /// Every receiver that may delay a message of `bytes` bytes has it, and it waits for so many others. It counts
    /// as accepted once [`WaitingAccount::poll_settled`] says so.
    pub(super) fn hold_back(&mut self, delivery: DeliveryId, bytes: usize, receivers: usize) {
        if self.held_back.contains_key(&delivery) {
            return;
        }
        let more = KEEPING * receivers.saturating_sub(1);
        self.bytes += more;
        self.held_back.insert(delivery, bytes + more);
    }

    pub(super) fn is_held_back(&self, delivery: DeliveryId) -> bool {
        self.held_back.contains_key(&delivery)
    }

    /// The next message that counts as accepted from now on. One alone always may.
    pub(super) fn poll_settled(&mut self) -> Option<DeliveryId> {
        let (&delivery, &bytes) = self.held_back.first_key_value()?;
        if self.settled_bytes != 0 && self.settled_bytes + bytes > self.limit {
            return None;
        }
        self.settle(delivery, bytes);
        Some(delivery)
    }

    /// Every receiver has the message, which has `unaccepted` bytes if its acceptance was still awaited.
    pub(super) fn remove(&mut self, delivery: DeliveryId, unaccepted: Option<usize>) {
        if let Some(bytes) = unaccepted {
            self.bytes -= self.held_back.remove(&delivery).unwrap_or(bytes);
        } else if let Some(bytes) = self.settled.remove(&delivery) {
            self.settled_bytes -= bytes;
            self.bytes -= bytes;
        }
    }

    /// Forgets all messages.
    #[cfg(test)]
    pub(super) fn break_all(&mut self) {
        *self = WaitingAccount::new(self.limit);
    }

    /// Bytes of all messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
