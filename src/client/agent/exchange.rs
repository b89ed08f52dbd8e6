//! Commands and packets in, packets out: one portion of it at a time.
//!
//! A quick broker acknowledges a whole window with one write. If the loop handled all of that before it
//! takes the next command, the broker would be idle meanwhile, and the loop would be idle while the
//! broker answers. So commands have their turn again, and go out, as soon as there is room for a portion
//! of them: both sides work at the same time. In the same way the acknowledgments of received messages leave
//! while others are still to be handled (`pace.rs`).
//!
//! Between portions, packets may have been read and not handled, and more may be there to be read. So
//! two rules hold. Code that gives the link up handles first what was read, except where that broke the
//! protocol (RECONNECT has its turn when nothing is left). Code that judges that something did not come
//! (an acknowledgment, a response, CONNACK, the end of a grace) reads the rest first. The loop's thread; it does not
//! wait here.

use std::time::Instant;

use super::Agent;
use super::connection::Phase;
use super::pace::portion;
use super::wire::ReceivedPacket;
use crate::mqtt::packet::ProtocolError;
use crate::mqtt::session::LinkLoss;

/// Events that may come together before they are handled: a few, so that they stay in the cache.
const EVENTS: usize = 32;

/// Reads before what goes ahead of the commands has its turn again; fewer if they bring a portion.
const READS: usize = 64;

/// Bytes that a link may have when nothing more is awaited from it: more than a socket holds, unless the system is
/// told otherwise.
const REST: u64 = 8 * 1024 * 1024;

impl Agent {
    /// Takes commands, reads and handles what the link has, and writes what the session wants sent. Call it
    /// again at once while something is left unhandled.
    pub(super) fn exchange(&mut self, now: Instant) -> bool {
        self.record_turn(now);
        let mut busy = self.take_commands(now);
        let portion = self.meter.messages_received.get() + self.pace.message_portion();
        busy |= self.receive(portion, now);
        if self.has_received(portion) && self.wire.is_readable() {
            self.pace.portion_was_handled();
        }
        if self.response_is_due(now) {
            // No response is missing that has come.
            self.read_the_rest(now);
        }
        self.offer_again(now);
        if self.session.next_timer().is_some_and(|at| at <= now) {
            // Nothing is overdue whose acknowledgment has come.
            self.read_the_rest(now);
            self.count_rate(now);
            self.session.handle_timeout(now);
            // An acknowledgment of the last moment may have made room: the next turn takes commands for it.
            busy = true;
        }
        busy |= self.handle_events(now);
        busy |= self.transmit(now);
        busy |= self.handle_events(now);
        self.read_gauges();
        busy
    }

    /// Counts that other parts keep anyway: read once a turn, not once a message.
    pub(super) fn read_gauges(&self) {
        let meter = &self.meter;
        meter.in_flight.set(self.session.in_flight() as u64);
        meter.waiting_messages.set(self.fanout.waiting() as u64);
        meter.waiting_bytes.set(self.session.bytes_waiting() as u64);
        meter.unmatched_dropped.set(self.fanout.unmatched_dropped());
        let (responses, late, unknown) = self.fanout.response_counts();
        meter.responses.set(responses);
        meter.late_responses.set(late);
        meter.unknown_responses.set(unknown);
        meter.bytes_received.set(self.wire.bytes_read());
        meter.bytes_sent.set(self.wire.bytes_written());
        meter.packets_received.set(self.wire.packets_read());
        meter.packets_sent.set(self.session.packets_sent());
        meter.writes.set(self.wire.writes());
    }

    /// Counts the time in which the rate let no message leave, if one waits now that it does.
    fn count_rate(&self, now: Instant) {
        if let Phase::Online { since } = *self.connection.phase()
            && let Some(closed) = self.session.rate_was_closed(now)
            && (self.session.has_unsent() || !self.commands.is_empty())
        {
            let begin = closed.start.max(since);
            let held = closed.end.saturating_duration_since(begin);
            self.meter.rate_limited.add_time(held);
        }
    }

    fn response_is_due(&mut self, now: Instant) -> bool {
        let due = self.fanout.responses().next_timer();
        due.is_some_and(|due| due <= now)
    }

    /// Handles a portion of what is left. If nothing is, reads until the link is drained, or has brought a
    /// portion, and hands each packet to the session. A portion also ends once so many messages were received in all.
    fn receive(&mut self, until: u64, now: Instant) -> bool {
        if self.wire.has_unhandled() {
            self.handle_received(until, now);
            return true;
        }
        let mut busy = false;
        for _ in 0..READS {
            let is_over = self.wire.has_unhandled() || self.has_received(until);
            if is_over || !self.wire.is_readable() || self.session.is_behind_with_acks() {
                return busy;
            }
            match self.wire.read() {
                Ok(Some(0)) => {
                    self.link_lost(LinkLoss::PeerClosed, now);
                    return true;
                }
                Ok(Some(bytes)) => {
                    busy = true;
                    self.record_read(bytes);
                    self.handle_received(until, now);
                }
                Ok(None) => {
                    self.pace.link_was_drained();
                    self.note_unfinished(now);
                }
                Err(error) => {
                    self.link_failed(error, now);
                    return true;
                }
            }
        }
        busy
    }

    /// Tells the session of a packet that has come in part.
    fn note_unfinished(&mut self, now: Instant) {
        match self.wire.unfinished() {
            0 => {}
            bytes => self.session.handle_unfinished(bytes, now),
        }
    }

    fn has_received(&self, messages: u64) -> bool {
        self.meter.messages_received.get() >= messages
    }

    /// Handles a portion of what was received, and ends the link if it breaks the protocol.
    fn handle_received(&mut self, until: u64, now: Instant) {
        let result = self.handle_packets(until, now);
        if result.is_err() {
            // Nothing that comes behind a violation counts.
            self.wire.discard();
        }
        // Packets before the violation count, CONNACK for one.
        self.handle_events(now);
        if let Err(error) = result
            && self.wire.is_up()
        {
            if self.session.break_off(error.answer()) {
                self.write_last_words(now);
            }
            self.link_lost(LinkLoss::Protocol(error), now);
        }
    }

    fn handle_packets(&mut self, until: u64, now: Instant) -> Result<(), ProtocolError> {
        let portion = portion(self.session.window());
        let in_flight = self.session.in_flight();
        // Until none is left: an event may be that the link has to go.
        while let Some(ReceivedPacket { packet, shown }) = self.wire.next_packet()? {
            let handled = self.session.handle_packet(packet, now);
            // A packet that is wrong only in its place shows its bytes, too.
            handled.map_err(|error| error.with_beginning(shown.bytes()))?;
            if self.session.events() >= EVENTS {
                self.handle_some_events(now);
            }
            if self.session.in_flight() + portion <= in_flight {
                return Ok(());
            }
            if self.has_received(until) {
                return Ok(());
            }
        }
        self.note_unfinished(now);
        Ok(())
    }

    /// Writes what the session wants sent as far as the link takes it at once. A failure changes nothing: the link goes
    /// for another reason, and nothing more is read from it.
    fn write_last_words(&mut self, now: Instant) {
        while self.wire.is_writable() && !self.session.output().is_empty() {
            match self.wire.write(self.session.output()) {
                Ok(Some(length)) if length > 0 => {
                    self.record_write(length);
                    self.session.handle_written(length, now);
                }
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }

    /// Writes what the session wants sent until the link takes no more.
    fn transmit(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while self.wire.is_writable() && !self.session.output().is_empty() {
            match self.wire.write(self.session.output()) {
                Ok(Some(0)) => {
                    self.read_the_rest(now);
                    if self.wire.is_up() {
                        self.link_lost(LinkLoss::PeerClosed, now);
                    }
                    return true;
                }
                Ok(Some(length)) => {
                    busy = true;
                    self.record_write(length);
                    self.session.handle_written(length, now);
                }
                Ok(None) => {}
                Err(error) => {
                    self.read_the_rest(now);
                    if self.wire.is_up() {
                        self.link_failed(error, now);
                    }
                    return true;
                }
            }
        }
        busy
    }

    /// Reads on until the link is drained, up to more than a socket holds, and not for longer than TERMINATE
    /// allows. Call it before judging that something did not come, and before giving up a link that takes
    /// nothing any more: what came over it counts, and perhaps the broker said why.
    pub(super) fn read_the_rest(&mut self, now: Instant) {
        self.handle_what_is_left(now);
        self.wire.look_for_input();
        let most = self.wire.bytes_read() + REST;
        for _ in 0..READS {
            if !self.wire.is_readable() {
                return;
            }
            self.receive(u64::MAX, now);
            self.handle_what_is_left(now);
            if self.wire.bytes_read() >= most || self.has_to_leave() {
                return;
            }
        }
    }

    /// Call it before giving a link up: what was read counts.
    pub(super) fn handle_what_is_left(&mut self, now: Instant) {
        while self.wire.has_unhandled() {
            self.handle_received(u64::MAX, now);
        }
    }
}

#[cfg(test)]
mod tests;
