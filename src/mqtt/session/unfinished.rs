//! The messages of one link of MQTT 5 that count against our receive maximum [MQTT 5, 4.9]. Pure; the loop's thread.

use super::sorted::Sorted;
use crate::mqtt::packet::PacketId;

/// More messages than the broker may send at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Excess {
    /// How many are not finished.
    pub(crate) come: usize,
    /// How many CONNECT allows.
    pub(crate) stated: u16,
}

/// Messages of QoS 1 and 2 that count against the number that the broker may send at one time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Unfinished {
    receive_maximum: u16,
    /// Until PUBACK or PUBCOMP.
    ids: Sorted<PacketId, ()>,
}

impl Unfinished {
    /// The broker was told this number.
    pub(super) fn new(receive_maximum: u16) -> Self {
        Unfinished {
            receive_maximum,
            ids: Sorted::default(),
        }
    }

    /// A message arrived. Returns how many have, if they are more than the broker may send.
    pub(super) fn counts(&mut self, id: PacketId) -> Option<Excess> {
        self.ids.insert(id, ());
        let excess = Excess {
            come: self.ids.len(),
            stated: self.receive_maximum,
        };
        (excess.come > usize::from(excess.stated)).then_some(excess)
    }

    /// Whether a message came under this identifier.
    pub(super) fn has(&self, id: PacketId) -> bool {
        self.ids.get(id).is_some()
    }

    /// PUBACK or PUBCOMP goes out for it.
    pub(super) fn finish(&mut self, id: PacketId) {
        self.ids.remove(id);
    }
}
