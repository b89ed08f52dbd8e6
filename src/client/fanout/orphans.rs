//! \[9\] Messages that were not done when their inbox, which accepts by hand, was dropped.
//!
//! Dropping an inbox is no work done: a thread that panics drops its inbox, too. So these messages wait here,
//! unacknowledged, for an inbox that accepts by hand, subscribes to their topic and has not had them. It takes the
//! place of all inboxes that were dropped with the message. The loop's thread; it never waits.

use std::collections::BTreeMap;

use crate::client::outlet::{Held, InboxId};
use crate::mqtt::session::DeliveryId;

#[derive(Default)]
pub(super) struct Orphans {
    messages: BTreeMap<DeliveryId, Orphan>,
}

/// A message that waits for an inbox.
pub(super) struct Orphan {
    pub(super) held: Held,
    /// The inboxes that were dropped before they had it done, at least one.
    pub(super) inboxes: Vec<InboxId>,
}

impl Orphans {
    /// An inbox was dropped before it had these messages done.
    pub(super) fn keep(&mut self, inbox: InboxId, messages: impl IntoIterator<Item = Held>) {
        for held in messages {
            let none_yet = |held| Orphan {
                held,
                inboxes: Vec::new(),
            };
            let orphan = self.messages.entry(held.delivery);
            orphan.or_insert_with(|| none_yet(held)).inboxes.push(inbox);
        }
    }

    /// No inbox takes it now.
    pub(super) fn put_back(&mut self, orphan: Orphan) {
        self.messages.insert(orphan.held.delivery, orphan);
    }

    /// A message is done in the hands of a thread whose inbox was dropped. Returns whether it waited for another one.
    pub(super) fn end(&mut self, delivery: DeliveryId, inbox: InboxId) -> bool {
        let Some(orphan) = self.messages.get_mut(&delivery) else {
            return false;
        };
        let before = orphan.inboxes.len();
        orphan.inboxes.retain(|id| *id != inbox);
        let waited = orphan.inboxes.len() < before;
        if orphan.inboxes.is_empty() {
            self.messages.remove(&delivery);
        }
        waited
    }

    /// Takes out all of them, in the order in which they came.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Orphan> + use<> {
        std::mem::take(&mut self.messages).into_values()
    }

    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}
