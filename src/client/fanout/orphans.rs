//! \[9\] Messages that were not done when their inbox, which accepts by hand, was dropped.
//!
//! Dropping an inbox is no work done: a thread that panics drops its inbox, too. So these messages wait here,
//! unacknowledged, for an inbox that was opened after they came and subscribes to their topic. No older inbox gets
//! them: it may have them already. The loop's thread; it never waits.

use std::collections::BTreeMap;

use crate::client::outlet::Held;
use crate::mqtt::session::DeliveryId;

#[derive(Default)]
pub(super) struct Orphans {
    messages: BTreeMap<DeliveryId, Held>,
    /// The last message that came.
    newest: Option<DeliveryId>,
}

impl Orphans {
    /// A message has come.
    pub(super) fn note(&mut self, delivery: DeliveryId) {
        self.newest = Some(delivery);
    }

    /// The last message that came. An inbox that is opened now has none up to this one.
    pub(super) fn newest(&self) -> Option<DeliveryId> {
        self.newest
    }

    /// Has messages wait.
    pub(super) fn keep(&mut self, messages: impl IntoIterator<Item = Held>) {
        let named = |held: Held| (held.delivery, held);
        self.messages.extend(messages.into_iter().map(named));
    }

    /// A message does not wait any more. Returns whether it did.
    pub(super) fn remove(&mut self, delivery: DeliveryId) -> bool {
        self.messages.remove(&delivery).is_some()
    }

    /// Takes out all of them, in the order in which they came.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Held> + use<> {
        std::mem::take(&mut self.messages).into_values()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}
