//! Counts of what happened while a loop runs. A new count belongs here and in `meter.rs`.
//!
//! A snapshot: [`Handle::stats`](crate::Handle::stats) takes one at any time, [`Ended`](crate::Ended) has the last one.
//! Pure data.

use std::time::Duration;

use crate::client::latencies::Latencies;

/// Counts of what happened since the loop was opened, and how much waits now.
///
/// The loop's thread counts. It counts the end of a command before it tells the thread that waits for it. A snapshot
/// that another thread takes meanwhile is not of one moment: one count in it may be some messages ahead of another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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

    /// Requests of [`Handle::request`](crate::Handle::request) that were answered in time. MQTT 5 only, as the next two.
    pub responses: u64,
    /// Responses to requests that had ended, or that nobody awaited any more, and responses that came a second time.
    pub late_responses: u64,
    /// Messages on the topic of responses that belong to no request of this loop.
    pub unknown_responses: u64,

    /// Commands that ended as [`Outcome::Delivered`](crate::Outcome::Delivered). Commands are PUBLISH, SUBSCRIBE,
    /// UNSUBSCRIBE and PING that threads have queued. One that was handed back instead of queued counts nowhere.
    pub delivered: u64,
    /// Commands that ended as [`Outcome::Refused`](crate::Outcome::Refused).
    pub refused: u64,
    /// Commands that ended as [`Outcome::PerhapsDelivered`](crate::Outcome::PerhapsDelivered).
    pub perhaps_delivered: u64,
    /// Commands that ended as [`Outcome::NeverSent`](crate::Outcome::NeverSent).
    pub never_sent: u64,
    /// Commands that ended as [`Outcome::Cancelled`](crate::Outcome::Cancelled), except for those that threads queued at
    /// the moment when the loop ended, and those that a panic of the loop left.
    pub cancelled: u64,

    /// Messages that the loop took out of the queue to send them. Each counts once, however often it is sent.
    pub messages_sent: u64,
    /// Messages that came. A message of QoS 2 that the broker sends again counts once; one of QoS 1 counts each time
    /// [MQTT-4.3.2-2].
    pub messages_received: u64,
    /// Bytes that links took: MQTT packets of all kinds, before TLS.
    pub bytes_sent: u64,
    /// Bytes that came over links: MQTT packets of all kinds, after TLS.
    pub bytes_received: u64,
    /// MQTT packets of all kinds that were made to be sent. Those that a lost link did not take count, too.
    pub packets_sent: u64,
    /// MQTT packets of all kinds that came.
    pub packets_received: u64,
    /// Writes that links took. With TLS these are its records of at most 16 KiB, several of which may leave at once.
    pub writes: u64,

    /// Commands in the queue now. Threads that wait for room in it are not counted.
    pub queued: u64,
    /// The most commands that were in the queue, as far as the loop or a snapshot saw it.
    pub queued_most: u64,
    /// Commands that await their acknowledgment now, and packet identifiers that a broker may still hold.
    pub in_flight: u64,
    /// The most commands that awaited their acknowledgment at one time.
    pub in_flight_most: u64,
    /// Messages of QoS 1 and 2 that not every inbox has accepted yet: those that wait aside, that wait for a
    /// subscription, that no thread has taken out of an inbox with [`Accept::OnceTaken`](crate::Accept::OnceTaken), or that
    /// are not done for an inbox of [`Handle::inbox_by_hand`](crate::Handle::inbox_by_hand).
    pub waiting_messages: u64,
    /// Bytes that these messages count on the account of all inboxes together. See
    /// [`Options::max_packet_size`](crate::options::Options::max_packet_size) for its bound.
    pub waiting_bytes: u64,

    /// How long there was a connection that the broker had accepted: from CONNACK until the link was gone, over all
    /// connections, the present one included.
    pub online: Duration,
    /// How long [`Limits::rate`](crate::limits::Limits::rate) held messages back while there was a connection. Each time
    /// in which it let none leave counts once it is over and a message waits, from the last one that left.
    pub rate_limited: Duration,

    /// How long acknowledgments took.
    pub latencies: Latencies,
}

impl Stats {
    /// The share of the time online in which the rate held messages back: from 0 to 1, and 0 before the first
    /// connection.
    pub fn rate_limited_share(&self) -> f64 {
        match self.online.is_zero() {
            true => 0.0,
            false => (self.rate_limited.as_secs_f64() / self.online.as_secs_f64()).min(1.0),
        }
    }
}
