//! Counts of what happened while a loop ran. A new count belongs here.
//!
//! The loop's thread counts; [`Ended`](crate::Ended) hands the counts over. Pure data.

/// Counts of what happened while the loop ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// How often the broker accepted a connection.
    pub connects: u64,
    /// How many of these followed the loss of an earlier one, or a RECONNECT.
    pub reconnects: u64,
    /// How often a connection was lost that the broker had accepted, whether another followed or not.
    pub losses: u64,
    /// How often the broker still had the session at a reconnect.
    pub resumed: u64,
    /// How many subscriptions were renewed because the broker had forgotten them.
    pub resubscribed: u64,
    /// Messages whose acknowledgment waited because too many bytes waited for threads that did not read their inboxes.
    pub held_back: u64,
    /// Messages dropped because they matched no subscription and the default inbox was full.
    pub unmatched_dropped: u64,
    /// Messages above `max_packet_size` that were read away.
    pub too_large: u64,
}
