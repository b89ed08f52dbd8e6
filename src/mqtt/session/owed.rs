//! One acknowledgment that is owed for a message that arrived, and how that message is recognised when it comes again.
//!
//! A digest is kept of each accepted message. The order of the acknowledgments is not known here. Pure; the loop's
//! thread.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::account::{DeliveryId, KEEPING};
use crate::mqtt::packet::{Message, PacketId, QoS};

/// An acknowledgment that we owe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Owed {
    pub(super) delivery: DeliveryId,
    pub(super) id: PacketId,
    pub(super) qos: QoS,
    pub(super) content: Content,
    pub(super) accepted: bool,
}

/// How a redelivered message is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Whole(Arc<Message>),
    /// Of an accepted message. Another message under the same identifier has the same digest once in 2^64.
    Digest(u64),
}

impl Owed {
    /// Whether the message is this one.
    pub(super) fn is_for(&self, message: &Message) -> bool {
        self.qos == message.qos && self.content.is_of(message)
    }

    /// The bytes that the message counts while its acceptance is awaited.
    pub(super) fn unaccepted_bytes(&self) -> Option<usize> {
        match &self.content {
            Content::Whole(message) if !self.accepted => Some(bytes_of(message)),
            _ => None,
        }
    }
}

/// The bytes that a message counts while it waits for one receiver.
pub(super) fn bytes_of(message: &Message) -> usize {
    message.waiting_bytes() + KEEPING
}

/// All that a redelivered message has in common with the first one.
fn parts(message: &Message) -> (&[u8], &[u8], u32) {
    (message.topic_bytes(), message.payload(), message.too_large)
}

impl Content {
    pub(super) fn digest(message: &Message) -> Self {
        let mut hasher = DefaultHasher::new();
        parts(message).hash(&mut hasher);
        Content::Digest(hasher.finish())
    }

    fn is_of(&self, message: &Message) -> bool {
        match self {
            Content::Whole(known) => parts(known) == parts(message),
            Content::Digest(_) => *self == Content::digest(message),
        }
    }

    /// Drops the message and keeps its digest.
    pub(super) fn shorten(&mut self) {
        if let Content::Whole(message) = self {
            *self = Content::digest(message);
        }
    }
}
