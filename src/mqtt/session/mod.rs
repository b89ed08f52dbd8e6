//! \[4\] The MQTT session: a pure state machine.
//!
//! It owns everything that outlives a link: packet identifiers and what awaits acknowledgment under
//! them (`ring.rs`, `entry.rs`, `outbound.rs`, `recovery.rs`), which filters are subscribed, and the receiving half
//! (`inbound.rs`); it notices when the broker falls silent (`liveness.rs`). It is told what happened
//! (`handle_*`), it is asked what to do (`poll_event`, `output`, `next_timer`). It knows no thread,
//! socket, channel or clock: `now` is passed in, bytes go into a buffer that the caller writes out. The
//! loop's thread runs it.
//!
//! `T` is whatever the caller wants back when a command has ended: each one that was taken comes
//! back in exactly one [`Event::Resolved`].

mod entry;
mod event;
mod filters;
mod inbound;
mod liveness;
mod outbound;
mod outcome;
mod output;
mod recovery;
mod ring;
mod sorted;

#[cfg(test)]
mod explore;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use crate::mqtt::packet::{Ack, Connect, ConnectReturnCode, Incoming, PacketId, ProtocolError};

use entry::{Entry, Leaving};
use event::Events;
pub use event::{Event, LinkLoss, OnSessionLost, SessionOptions};
use filters::Filters;
pub use inbound::DeliveryId;
use inbound::{Arrival, Inbound};
use liveness::Liveness;
use outbound::oldest_unanswered;
pub use outcome::{Outcome, Reason};
use output::Output;
use ring::Ring;

/// Filters in one SUBSCRIBE or UNSUBSCRIBE (AWS IoT disconnects above 8).
const FILTERS_PER_PACKET: usize = 8;

/// Identifiers that new commands leave free for resubscribing and for the next packets of commands
/// with many filters.
const SPARE_IDENTIFIERS: u16 = 16;

/// Whether packets can be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LinkState {
    Down,
    /// CONNECT is out, CONNACK is not in.
    Greeting {
        clean_session: bool,
    },
    Up,
    /// DISCONNECT is out: nothing more may follow it [MQTT-3.14.4-2]. Or the link has to be closed
    /// before anything more is taken from it.
    Closing,
}

/// A QoS 0 PUBLISH in the output: done once its bytes are out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Unacknowledged<T> {
    token: T,
    /// Where its bytes begin and end in the output.
    begin: u64,
    end: u64,
    since: Instant,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Session<T> {
    options: SessionOptions,
    link: LinkState,
    ring: Ring<Entry<T>>,
    /// What has to be sent but has no identifier yet, ahead of every new command.
    waiting: VecDeque<Entry<T>>,
    /// What is still to be sent again on this link, ahead of all that.
    resending: VecDeque<PacketId>,
    /// The request under way that the first of `waiting` must not overtake, if one was found.
    held_by: Option<PacketId>,
    /// Whether anything was acknowledged on this link.
    progress: bool,
    /// Links lost one after the other with something in flight and nothing acknowledged.
    fruitless_links: u32,
    filters: Filters,
    next_release: u64,
    unacknowledged: VecDeque<Unacknowledged<T>>,
    liveness: Liveness<T>,
    inbound: Inbound,
    /// Acknowledgments that answered nothing.
    unsolicited: u64,
    output: Output,
    /// Packets in the output that await an acknowledgment, in order.
    leaving: VecDeque<Leaving>,
    events: Events<T>,
}

impl<T> Session<T> {
    /// A session in which nothing happened yet.
    pub fn new(options: SessionOptions, now: Instant) -> Self {
        Session {
            ring: Ring::new(options.identifiers, options.first_identifier),
            liveness: Liveness::new(&options, now),
            options,
            link: LinkState::Down,
            waiting: VecDeque::new(),
            resending: VecDeque::new(),
            held_by: None,
            progress: false,
            fruitless_links: 0,
            filters: Filters::default(),
            next_release: 0,
            unacknowledged: VecDeque::new(),
            inbound: Inbound::default(),
            unsolicited: 0,
            output: Output::default(),
            leaving: VecDeque::new(),
            events: Events::default(),
        }
    }

    /// A new link is there: CONNECT goes out first and once [MQTT-3.1.0-1] [MQTT-3.1.0-2].
    pub fn handle_link_up(&mut self, connect: &Connect<'_>, now: Instant) {
        debug_assert_eq!(self.link, LinkState::Down);
        self.output.connect(connect);
        self.link = LinkState::Greeting {
            clean_session: connect.clean_session,
        };
        self.liveness.handle_link_up(now);
    }

    /// The link is gone. What has no acknowledgment stays and is sent again on the next one; what
    /// would never be acknowledged ends here.
    pub fn handle_link_lost(&mut self) {
        let greeting = matches!(self.link, LinkState::Greeting { .. });
        if greeting && self.output.is_empty() {
            // The broker may have begun a session with a CONNACK that never arrived. That one may be
            // present on the next link, and knows nothing of what the one before it knew.
            self.filters.owe_all();
        }
        let taken_by_link = self.output.handle_link_lost();
        self.take_back(taken_by_link);
        if self.progress {
            self.fruitless_links = 0;
        } else if self.link == LinkState::Up {
            self.park_if_fruitless();
        }
        self.link = LinkState::Down;
        self.liveness.stop();
        self.resending.clear();
        self.held_by = None;
        self.inbound.handle_link_lost();
        self.return_to_owed();
        self.events.handle_link_lost();
        for ended in std::mem::take(&mut self.unacknowledged) {
            let outcome = match ended.begin < taken_by_link {
                true => Outcome::PerhapsDelivered(Reason::LinkLost),
                false => Outcome::NeverSent(Reason::LinkLost),
            };
            self.events.resolve(ended.token, outcome);
        }
        self.liveness.end_pings(Reason::LinkLost, &mut self.events);
    }

    /// A packet arrived.
    ///
    /// # Errors
    /// [`ProtocolError`] when it must not come now; the link has to be closed.
    pub fn handle_packet(&mut self, packet: Incoming, now: Instant) -> Result<(), ProtocolError> {
        self.liveness.handle_received(now);
        match self.link {
            LinkState::Up => {}
            LinkState::Greeting { clean_session } => {
                return self.handle_first_packet(packet, clean_session, now);
            }
            LinkState::Closing => {
                self.handle_last_packet(&packet, now);
                return Ok(());
            }
            LinkState::Down => return Ok(()),
        }
        match packet {
            Incoming::Publish { id, message } => {
                let limit = self.options.max_owed_bytes;
                let left_some = self.inbound.has_left_some();
                if id.is_some_and(|id| !self.inbound.has_room_for(id, &message, limit)) {
                    if !left_some {
                        self.events.push(Event::Unread(limit));
                    }
                    // It may have taken the place of one that was owed under its identifier.
                    self.fetch_what_was_left();
                    return Ok(());
                }
                match self.inbound.handle_publish(id, message) {
                    Arrival::Deliver(message, delivery) => {
                        self.events.push(Event::Message { message, delivery });
                    }
                    Arrival::Known => self.send_acks(),
                }
                Ok(())
            }
            Incoming::PubRel(id) => {
                self.inbound.handle_pubrel(id);
                self.output.acknowledge(Ack::PubComp, id);
                Ok(())
            }
            Incoming::PubAck(id) => {
                self.on_puback(id, now);
                Ok(())
            }
            Incoming::PubRec(id) => {
                self.on_pubrec(id, now);
                Ok(())
            }
            Incoming::PubComp(id) => {
                self.on_pubcomp(id, now);
                Ok(())
            }
            Incoming::SubAck { id, granted } => self.on_suback(id, &granted, now),
            Incoming::UnsubAck(id) => {
                self.on_unsuback(id, now);
                Ok(())
            }
            Incoming::PingResp => {
                self.on_pingresp(now);
                Ok(())
            }
            Incoming::ConnAck { .. } => Err(ProtocolError::unexpected(
                packet.name(),
                "a second one on this connection",
                "MQTT-3.2.0-1",
            )),
        }
    }

    /// Every response queue has the message: its acknowledgment leaves when its turn comes.
    pub fn accept(&mut self, delivery: DeliveryId) {
        self.inbound.accept(delivery);
        self.send_acks();
        self.fetch_what_was_left();
    }

    /// Handles the deadlines that have expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        let written = self.output.written();
        let oldest = |last_taken| oldest_unanswered(&self.ring, written, last_taken);
        let loss = self.liveness.handle_timeout(oldest, &mut self.output, now);
        if let Some(loss) = loss {
            self.events.push(Event::Close(loss));
        }
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn next_timer(&self) -> Option<Instant> {
        self.liveness.next_timer()
    }

    /// Takes the next event.
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.poll()
    }

    /// How many events wait to be taken.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Bytes for the link.
    pub fn output(&self) -> &[u8] {
        self.output.bytes()
    }

    /// The link took this many bytes of [`Session::output`].
    pub fn handle_written(&mut self, bytes: usize, now: Instant) {
        self.output.advance(bytes);
        self.liveness.handle_written(now);
        self.forget_left(now);
        while self
            .unacknowledged
            .front()
            .is_some_and(|first| first.end <= self.output.written())
        {
            if let Some(done) = self.unacknowledged.pop_front() {
                let latency = now.saturating_duration_since(done.since);
                self.events
                    .resolve(done.token, Outcome::delivered(1, latency));
            }
        }
        self.send_waiting(now);
        self.fetch_what_was_left();
    }

    /// Whether to stop reading until the broker has taken some of our acknowledgments.
    pub fn is_behind_with_acks(&self) -> bool {
        self.output.is_behind_with_acks()
    }

    /// Whether anything was acknowledged on this link, or on the last one if there is none.
    pub fn made_progress(&self) -> bool {
        self.progress
    }

    /// Whether the broker has granted this filter, or is to be asked for it again.
    pub fn is_subscribed(&self, filter: &str) -> bool {
        self.filters.contains(filter)
    }

    /// Whether something that was handed in has not been put into the output yet.
    pub fn has_unsent(&self) -> bool {
        let has_rest = |(_, entry): (_, &Entry<T>)| entry.has_rest();
        !self.waiting.is_empty() || !self.resending.is_empty() || self.ring.iter().any(has_rest)
    }

    /// The position on the circle of identifiers at which the next session of this client is to
    /// begin: a broker that keeps the session may still hold the ones before.
    pub fn next_identifier(&self) -> u16 {
        self.ring.next_position()
    }

    /// DISCONNECT: nothing is sent after it.
    pub fn disconnect(&mut self) {
        if self.link == LinkState::Up {
            self.output.disconnect();
            self.link = LinkState::Closing;
            self.liveness.stop();
        }
    }

    /// Ends everything that has not ended: nobody will carry it on.
    pub fn abandon(&mut self, reason: Reason) {
        let waiting = std::mem::take(&mut self.waiting);
        let entries: Vec<_> = self.ring.drain().chain(waiting).collect();
        for entry in entries {
            if let Some(token) = entry.token {
                let outcome = match entry.ever_sent {
                    false => Outcome::Cancelled(reason),
                    true => Outcome::PerhapsDelivered(reason),
                };
                self.events.resolve(token, outcome);
            }
        }
        for ended in std::mem::take(&mut self.unacknowledged) {
            let outcome = match ended.begin < self.output.written() {
                true => Outcome::PerhapsDelivered(reason),
                false => Outcome::Cancelled(reason),
            };
            self.events.resolve(ended.token, outcome);
        }
        self.liveness.end_pings(reason, &mut self.events);
    }

    /// Whether a new command may be handed in now. While not, commands stay in the queue: that is
    /// the backpressure.
    pub fn wants_commands(&self) -> bool {
        self.link == LinkState::Up
            && !self.filters.is_renewing()
            && self.waiting.is_empty()
            && self.resending.is_empty()
            && self.ring.occupied() < usize::from(self.window())
            && self.ring.room() > usize::from(self.spare_identifiers())
            && self.liveness.has_room()
            && !self.output.is_full()
            // What is in the output has to leave, for a new link to be made.
            && !self.inbound.has_room_again(self.options.max_owed_bytes)
    }

    /// How many commands may be in flight at one time: what the options say, as far as there are identifiers.
    pub fn window(&self) -> u16 {
        let identifiers = self.options.identifiers - self.spare_identifiers();
        self.options.max_inflight.min(identifiers)
    }

    /// How many packet identifiers are in use.
    pub fn in_flight(&self) -> usize {
        self.ring.occupied()
    }

    /// How many commands have not ended.
    pub fn unresolved(&self) -> usize {
        let with_token = |entry: &Entry<T>| entry.token.is_some();
        self.ring.iter().filter(|(_, e)| with_token(e)).count()
            + self.waiting.iter().filter(|e| with_token(e)).count()
            + self.unacknowledged.len()
            + self.liveness.unresolved()
    }

    /// The link is about to go. What only ends a message or a PINGREQ still counts; SUBACK and UNSUBACK could
    /// be followed by another packet of ours.
    fn handle_last_packet(&mut self, packet: &Incoming, now: Instant) {
        match packet {
            Incoming::PubAck(id) => self.on_puback(*id, now),
            Incoming::PubComp(id) => self.on_pubcomp(*id, now),
            Incoming::PingResp => self.on_pingresp(now),
            _ => {}
        }
    }

    fn handle_first_packet(
        &mut self,
        packet: Incoming,
        clean_session: bool,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let Incoming::ConnAck {
            session_present,
            code,
        } = packet
        else {
            return Err(ProtocolError::unexpected(
                packet.name(),
                "it came where CONNACK was expected",
                "MQTT-3.2.0-1",
            ));
        };
        if code != ConnectReturnCode::Accepted {
            self.link = LinkState::Down;
            self.events.push(Event::ConnectRefused(code));
            return Ok(());
        }
        if session_present && clean_session {
            return Err(ProtocolError::unexpected(
                packet.name(),
                "session present after a clean session was asked for",
                "MQTT-3.2.2-1",
            ));
        }
        self.link = LinkState::Up;
        self.progress = false;
        self.liveness.handle_connected();
        if session_present {
            self.resume(now);
        } else {
            self.start_over(now);
        }
        let resubscribing = self.filters.owed().count();
        self.events.push(Event::Connected {
            session_present,
            resubscribing,
        });
        self.send_waiting(now);
        Ok(())
    }

    fn on_pingresp(&mut self, now: Instant) {
        if self.liveness.handle_pingresp(&mut self.events, now) {
            self.progress = true;
        } else {
            self.ignore_unsolicited("PINGRESP", None);
        }
    }

    fn send_acks(&mut self) {
        if self.link != LinkState::Up {
            return;
        }
        while let Some((ack, id)) = self.inbound.poll_ack() {
            self.output.acknowledge(ack, id);
        }
    }

    /// Once half of what the thread had not read is read, and nothing waits to be sent: a new link, on
    /// which the broker sends the rest again. Until then this one is of use to everybody else.
    fn fetch_what_was_left(&mut self) {
        if self.link == LinkState::Up
            && self.inbound.has_room_again(self.options.max_owed_bytes)
            && self.output.is_empty()
        {
            self.link = LinkState::Closing;
            self.liveness.stop();
            self.events.push(Event::Close(LinkLoss::LeftWithBroker));
        }
    }

    fn ignore_unsolicited(&mut self, name: &str, id: Option<PacketId>) {
        self.unsolicited += 1;
        // Ever more rarely: what a broker sends must not be able to flood the log.
        if self.unsolicited.is_power_of_two() {
            let id = id.map_or(0, PacketId::value);
            log::warn!(
                "an unsolicited {name} (packet identifier {id}) was ignored; {} so far",
                self.unsolicited
            );
        }
    }

    fn spare_identifiers(&self) -> u16 {
        SPARE_IDENTIFIERS.min(self.options.identifiers / 4)
    }
}
