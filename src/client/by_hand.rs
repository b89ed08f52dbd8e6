//! \[9\] A message that its thread acknowledges when the work on it is done, and the two kinds of what an inbox gives.
//!
//! The message carries a duty ([`Hold`]): to tell the loop that it is done, or that it was dropped undone, once and
//! without waiting. The loop hears of it through the lane (`lane.rs`) and decides what follows (`fanout.rs`). Any
//! thread and any task, also the loop's own.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::client::lane::{HandEnd, LaneSender};
use crate::mqtt::packet::Message;

/// The two types that an inbox gives: `Arc<Message>`, acknowledged as the inbox's policy says, and [`Unacknowledged`]. No
/// other type can implement it.
pub trait InboxMessage: Sealed {}

impl InboxMessage for Arc<Message> {}

impl InboxMessage for Unacknowledged {}

/// How an inbox makes what it gives.
pub trait Sealed: Sized {
    /// Whether its inboxes accept by hand.
    const IS_BY_HAND: bool;

    /// There is a `hold` only if the inbox accepts by hand.
    fn given(message: Arc<Message>, hold: Option<Hold>) -> Self;
}

impl Sealed for Arc<Message> {
    const IS_BY_HAND: bool = false;

    fn given(message: Arc<Message>, _: Option<Hold>) -> Self {
        message
    }
}

impl Sealed for Unacknowledged {
    const IS_BY_HAND: bool = true;

    fn given(message: Arc<Message>, hold: Option<Hold>) -> Self {
        Unacknowledged { message, hold }
    }
}

/// A message that is acknowledged when it is [done](Unacknowledged::done): see
/// [`Handle::inbox_by_hand`](crate::Handle::inbox_by_hand).
///
/// Dropped undone, also by a thread that panics, it is offered to the same inbox again, at once: a thread that cannot do
/// its work at present should wait before it drops it. It may be sent to another
/// thread or kept, and be done in any order; whichever thread it is on, nothing waits for the loop.
///
/// A message of QoS 0 has nothing to acknowledge: [`Unacknowledged::done`] does nothing then, and a message that was
/// dropped undone does not come again.
#[must_use = "a message that is dropped undone is offered again"]
pub struct Unacknowledged {
    message: Arc<Message>,
    /// `None` for QoS 0.
    hold: Option<Hold>,
}

impl Unacknowledged {
    /// The work on the message is done: this inbox accepts it. Never waits; any thread, also inside a callback.
    ///
    /// The loop acknowledges the message (PUBACK, or PUBREC for QoS 2) once each inbox that it was for has accepted it,
    /// and so has each message before it [MQTT-4.6.0-2]. If the link was lost since it came, the acknowledgment answers
    /// the redelivery: the loop recognises it and does not offer the message again. Nothing tells whether the
    /// acknowledgment reached the broker, so after a crash a message that was done may come once more.
    ///
    /// If the inbox was dropped and another one has the message by now, this does nothing: the work is done once more.
    /// After the loop's end it does nothing either: the broker sends the message again on the next connection.
    pub fn done(mut self) {
        if let Some(hold) = &mut self.hold {
            hold.end.is_done = true;
        }
    }

    /// How many times the message was offered, this time included: 1, and one more for each time that it was dropped
    /// undone while its inbox was there. The loop counts, so a new process begins with 1.
    pub fn attempts(&self) -> u32 {
        self.hold.as_ref().map_or(1, |hold| hold.attempts)
    }

    /// The message alone, for code that outlives the work. Keeping it has no influence on the acknowledgment.
    pub fn message(&self) -> &Arc<Message> {
        &self.message
    }
}

impl Deref for Unacknowledged {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl fmt::Debug for Unacknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unacknowledged")
            .field("message", &self.message)
            .field("attempts", &self.attempts())
            .finish_non_exhaustive()
    }
}

/// The duty to tell the loop what became of a message. Told when it is dropped.
pub struct Hold {
    lane: LaneSender,
    end: HandEnd,
    attempts: u32,
}

impl Hold {
    /// A message that is not done yet.
    pub(crate) fn new(lane: LaneSender, end: HandEnd, attempts: u32) -> Self {
        Hold {
            lane,
            end,
            attempts,
        }
    }

    /// There is nothing to do.
    pub(crate) fn pass_over(mut self) {
        self.end.is_done = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.lane.end_hand(self.end);
    }
}
