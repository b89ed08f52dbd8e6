//! \[4\] The MQTT session: a pure state machine, and the front door to its parts.
//!
//! | part | what it owns |
//! |---|---|
//! | `output.rs` | the bytes for the link and their positions |
//! | `outbound.rs` | commands on their way to their acknowledgment |
//! | with `entry.rs`, `ring.rs` | one command; identifiers |
//! | with `waiting.rs`, `leaving.rs` | commands before they have an identifier; packets still in the output |
//! | with `recovery.rs` | what is sent again |
//! | with `suspects.rs` | commands that links may be lost because of: tried alone, given up |
//! | `filters.rs` | which filters the broker serves, and which it has to be asked for again |
//! | `liveness.rs` | PINGREQs, keep alive, every deadline |
//! | with `clock.rs` | the clock by which answers are late |
//! | `../rate.rs` | how much may leave in one second |
//! | `inbound.rs` with `sorted.rs` | acknowledgments that are owed for incoming messages |
//! | with `owed.rs` | one acknowledgment; how a message is recognised that comes again |
//! | with `account.rs` | incoming messages that wait for a receiver |
//! | with `unfinished.rs` | incoming messages that count against our receive maximum |
//! | `server.rs` | what the broker of MQTT 5 allows |
//! | `event.rs`, `outcome.rs` | the events for the caller |
//! | `notes.rs` | notes of each packet, for a caller that records them |
//!
//! Several parts write to the output and to the events. Apart from that the parts do not know each other: this
//! file knows them all and the state of the link, and it passes on to the others what one part has seen
//! (`greeting.rs` for CONNACK, `reactions.rs` for what follows).
//!
//! The caller tells the session what happened (`handle_*`) and asks it what to do (`poll_event`, `output`,
//! `next_timer`). The session knows no thread, socket, channel or clock: `now` is passed in, and the caller
//! writes the bytes out. The loop's thread runs it.
//!
//! `T` is the token that the caller hands in with a command. Each one comes back in exactly one
//! [`Event::Resolved`].

mod account;
mod clock;
mod entry;
mod event;
mod filters;
mod greeting;
mod inbound;
mod leaving;
mod liveness;
mod notes;
mod outbound;
mod outcome;
mod output;
mod owed;
mod reactions;
mod recovery;
mod ring;
mod server;
mod sorted;
mod suspects;
mod unfinished;
mod waiting;

#[cfg(test)]
mod inspect;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use std::ops::Range;
use std::time::Instant;

use crate::mqtt::outgoing::Outgoing;
#[cfg(any(test, fuzzing))]
use crate::mqtt::packet::PacketId;
use crate::mqtt::packet::{ConnAck5, Connect, Filter, Incoming, ProtocolError, QoS, ReasonCode};
use crate::mqtt::rate::Rate;

pub use account::DeliveryId;
use entry::{Body, Entry, Subscribing, Unsubscribing};
use event::Events;
pub use event::{Event, FirstUnanswered, LinkEnd, LinkLoss, OnSessionLost, SessionOptions};
use filters::{Filters, Served};
use inbound::Inbound;
use liveness::Liveness;
use notes::Notes;
pub use notes::{Note, Noted, PacketKind};
use outbound::Outbound;
pub use outcome::{NotDelivered, Outcome, Reason};
use output::Output;
use server::Server;

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
    /// DISCONNECT of the broker came: nothing follows it on either side.
    Told,
    /// The link has to be closed because of what came in the place of CONNACK. With MQTT 5, DISCONNECT may be out.
    Unwelcome,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Session<T> {
    link: LinkState,
    output: Output,
    outbound: Outbound<T>,
    filters: Filters,
    liveness: Liveness<T>,
    rate: Rate,
    inbound: Inbound,
    server: Server,
    /// Acknowledgments that answered nothing of ours.
    unsolicited: u64,
    /// Messages beyond our receive maximum that were taken.
    beyond_maximum: u64,
    events: Events<T>,
    notes: Option<Box<Notes<T>>>,
}

/// The link.
impl<T> Session<T> {
    /// A session in which nothing happened yet.
    pub fn new(options: SessionOptions, now: Instant) -> Self {
        Session {
            link: LinkState::Down,
            output: Output::default(),
            outbound: Outbound::new(&options, now),
            filters: Filters::default(),
            liveness: Liveness::new(&options, now),
            rate: Rate::new(options.rate, now),
            inbound: Inbound::new(options.max_waiting_bytes),
            server: Server::default(),
            unsolicited: 0,
            beyond_maximum: 0,
            events: Events::default(),
            notes: None,
        }
    }

    /// A new link is there: CONNECT goes out first and once [MQTT-3.1.0-1] [MQTT-3.1.0-2].
    pub fn handle_link_up(&mut self, connect: &Connect<'_>, now: Instant) {
        debug_assert_eq!(self.link, LinkState::Down);
        let begin = self.output.written();
        self.output.connect(connect);
        self.note_own(PacketKind::Connect, 0, begin);
        self.link = LinkState::Greeting {
            clean_session: connect.clean_session,
        };
        self.server.handle_link_up(connect.terms);
        self.inbound
            .handle_link_up(self.server.own_receive_maximum());
        self.outbound.set_quota(None);
        self.liveness.handle_link_up(now);
    }

    /// The link is gone. A packet that awaits an acknowledgment stays and is sent again on the next link. A
    /// command that would never be acknowledged ends here.
    pub fn handle_link_lost(&mut self, end: LinkEnd, now: Instant) {
        let greeting = matches!(self.link, LinkState::Greeting { .. });
        // The output may hold DISCONNECT then, and the broker has had CONNECT.
        let unwelcome = self.link == LinkState::Unwelcome;
        if greeting && self.output.is_empty() || unwelcome {
            // The broker may have begun a session with a CONNACK that never arrived. That session may be
            // present on the next link, and it has none of the subscriptions of the one before it.
            self.filters.owe_all();
            self.outbound.owe_filters();
        }
        let end = match self.link {
            LinkState::Up | LinkState::Told => Some(end),
            LinkState::Closing => Some(LinkEnd::Otherwise),
            LinkState::Down | LinkState::Greeting { .. } | LinkState::Unwelcome => None,
        };
        self.link = LinkState::Down;
        let taken = self.output.handle_link_lost();
        self.note_link_lost();
        self.liveness.stop();
        self.inbound.handle_link_lost();
        self.server.handle_link_lost(now);
        self.filters.forget_renewals();
        self.events.handle_link_lost();
        let given_up = self
            .outbound
            .handle_link_lost(taken, end, &mut self.events, now);
        self.refuse_renewals(given_up);
        self.liveness.end_pings(Reason::LinkLost, &mut self.events);
    }

    /// A packet arrived.
    ///
    /// # Errors
    /// [`ProtocolError`] when it must not come now; the link has to be closed.
    pub fn handle_packet(&mut self, packet: Incoming, now: Instant) -> Result<(), ProtocolError> {
        self.liveness.handle_received(now);
        self.note_received(&packet);
        match self.link {
            LinkState::Up => self.handle_next_packet(packet, now),
            LinkState::Greeting { clean_session } => {
                self.handle_first_packet(packet, clean_session, now)
            }
            LinkState::Closing => {
                self.handle_last_packet(&packet, now);
                Ok(())
            }
            LinkState::Down | LinkState::Told | LinkState::Unwelcome => Ok(()),
        }
    }

    /// So many bytes have arrived of a packet that has not ended.
    pub fn handle_unfinished(&mut self, bytes: usize, now: Instant) {
        self.liveness.handle_unfinished(bytes, now);
    }

    /// Every inbox has the message: its acknowledgment leaves when its turn comes.
    pub fn accept(&mut self, delivery: DeliveryId) {
        self.inbound.accept(delivery);
        self.send_acks();
        self.fetch_what_was_left();
    }

    /// The message waits for so many inboxes, and is to be acknowledged all the same. [`Session::accept`] still has
    /// to be called. Returns `false` if too much waits; then its acknowledgment leaves once enough was accepted.
    pub fn accept_early(&mut self, delivery: DeliveryId, inboxes: usize) -> bool {
        let accepted = self.inbound.accept_early(delivery, inboxes);
        self.send_acks();
        accepted
    }

    /// Whether an acknowledgment of the message is owed: without it, the broker sends the message again.
    pub fn is_owed(&self, delivery: DeliveryId) -> bool {
        self.inbound.is_owed(delivery)
    }

    /// The link took this many bytes of [`Session::output`].
    pub fn handle_written(&mut self, bytes: usize, now: Instant) {
        self.output.advance(bytes);
        self.note_written();
        self.liveness.handle_written(&self.output, now);
        let clock = self.liveness.clock(now);
        self.outbound
            .handle_written(&self.output, &mut self.events, now, clock);
        self.send_waiting(now);
        self.fetch_what_was_left();
    }

    /// Handles the deadlines that have expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        let oldest = || self.outbound.oldest_unanswered();
        let begin = self.output.position();
        let loss = self.liveness.handle_timeout(oldest, &mut self.output, now);
        if self.output.position() > begin {
            self.note_own(PacketKind::PingReq, 0, begin);
        }
        let broker_answers = self.liveness.all_answered();
        let clock = self.liveness.clock(now);
        match loss {
            Some(LinkLoss::AckTimeout(id))
                if self.outbound.handle_late(id, broker_answers, now, clock) =>
            {
                self.send_waiting(now);
            }
            Some(loss) => self.events.push(Event::Close(loss)),
            None => {}
        }
        if self.link == LinkState::Up && self.outbound.goes_on_trying(now) {
            self.send_waiting(now);
        }
        if self.rate.opens(now) {
            self.send_waiting(now);
        }
        let late = self
            .outbound
            .late_without_witness(&mut self.events, now, clock);
        if let Some(id) = late {
            self.events.push(Event::Close(LinkLoss::AckTimeout(id)));
        }
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn next_timer(&self) -> Option<Instant> {
        let trial = self.outbound.next_timer();
        let trial = trial.filter(|_| self.link == LinkState::Up);
        let timers = [self.liveness.next_timer(), trial, self.rate.next_timer()];
        timers.into_iter().flatten().min()
    }

    /// When the rate let no message leave, if it lets one leave from now on: before [`Session::handle_timeout`] is
    /// called with the same time.
    pub fn rate_was_closed(&self, now: Instant) -> Option<Range<Instant>> {
        self.rate.was_closed(now)
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

    /// How many packets were put into the output, for all links.
    pub fn packets_sent(&self) -> u64 {
        self.output.packets()
    }

    /// Whether to stop reading until the broker has taken some of our acknowledgments.
    pub fn is_behind_with_acks(&self) -> bool {
        self.output.is_behind_with_acks()
    }

    /// The command that was sent first of those that are unanswered on this link.
    pub fn first_unanswered(&self) -> Option<FirstUnanswered> {
        self.outbound.first_unanswered()
    }

    /// Whether anything was acknowledged on this link, or on the last one if there is none.
    pub fn made_progress(&self) -> bool {
        self.outbound.made_progress()
    }
}

/// Commands. Call one only while [`Session::wants_commands`].
impl<T> Session<T> {
    /// PUBLISH.
    pub fn publish(&mut self, message: Outgoing, token: T, now: Instant) {
        if let Some(reason) = self.reason_not_to_send(&message, now) {
            return self.events.resolve(token, Outcome::NeverSent(reason));
        }
        match message.qos() {
            QoS::AtMostOnce if self.outbound.lets_pass() => {
                self.send_unacknowledged(message, token, now, now);
            }
            QoS::AtLeastOnce if self.outbound.lets_publish() => {
                let entry = Entry::new(Some(token), Body::Publish(message), now);
                if let Some(id) = self.outbound.reserve(entry) {
                    self.send(id, now);
                }
            }
            // Its window may be full. Then no further command is taken, so that all keep their order.
            QoS::AtMostOnce | QoS::AtLeastOnce | QoS::ExactlyOnce => {
                self.outbound.wait(token, Body::Publish(message), now);
                self.send_waiting(now);
            }
        }
    }

    /// SUBSCRIBE, eight filters to a packet.
    pub fn subscribe(&mut self, filters: Vec<Filter>, token: T, now: Instant) {
        if let Some(limit) = self.server.refuses_filters(&filters) {
            let reason = Reason::BrokerLimit(limit);
            return self.events.resolve(token, Outcome::NeverSent(reason));
        }
        let body = Body::Subscribe(Subscribing::new(filters, false));
        self.outbound.wait(token, body, now);
        self.send_waiting(now);
    }

    /// UNSUBSCRIBE, eight filters to a packet, or one where the broker takes no more. If it takes not even that, all
    /// filters stay subscribed: those that the broker may have forgotten are asked for again, as on a new link.
    pub fn unsubscribe(&mut self, filters: Vec<String>, token: T, now: Instant) {
        if let Some(limit) = self.server.refuses_unsubscribe(&filters) {
            let reason = Reason::BrokerLimit(limit);
            return self.events.resolve(token, Outcome::NeverSent(reason));
        }
        let served = self.remove_filters(&filters);
        let kept = self.server.is_version_5().then_some(served);
        let left = Unsubscribing::new(filters, kept);
        self.outbound.wait(token, Body::Unsubscribe(left), now);
        self.send_waiting(now);
    }

    /// UNSUBSCRIBE from filters that nobody wants any more: none of them stays subscribed, whatever becomes of it. The
    /// broker is told of those that it takes.
    pub fn leave(&mut self, filters: Vec<String>, token: T, now: Instant) {
        self.remove_filters(&filters);
        let left = Unsubscribing::new(filters, None);
        self.outbound.wait(token, Body::Unsubscribe(left), now);
        self.send_waiting(now);
    }

    fn remove_filters(&mut self, filters: &[String]) -> Vec<Served> {
        let each = filters.iter();
        each.filter_map(|filter| self.filters.remove(filter))
            .collect()
    }

    /// PINGREQ.
    pub fn ping(&mut self, token: T, now: Instant) {
        let begin = self.output.position();
        let number = self.number_of(&token).unwrap_or(0);
        self.liveness.send_ping(Some(token), &mut self.output, now);
        let packet = PacketKind::PingReq;
        self.note_encoded(
            Noted {
                packet,
                number,
                id: 0,
            },
            false,
            begin,
        );
    }

    /// DISCONNECT: nothing is sent after it. Without a connection it does nothing. MQTT 3.1.1 carries no code.
    pub fn disconnect(&mut self, code: ReasonCode) {
        if self.link == LinkState::Up {
            let begin = self.output.position();
            self.output.disconnect(code);
            self.note_own(PacketKind::Disconnect, 0, begin);
            self.close();
        }
    }

    /// The link is to be closed without DISCONNECT: nothing more is sent.
    pub fn close_unsaid(&mut self) {
        if self.link == LinkState::Up {
            self.close();
        }
    }

    /// The link is to be closed because of what the broker sent: with MQTT 5, DISCONNECT says why [MQTT 5, 4.13.1].
    /// Returns whether there is something to be written.
    pub fn break_off(&mut self, code: ReasonCode) -> bool {
        let is_told = self.server.is_version_5()
            && matches!(self.link, LinkState::Up | LinkState::Greeting { .. });
        if is_told {
            let begin = self.output.position();
            self.output.disconnect(code);
            self.note_own(PacketKind::Disconnect, 0, begin);
            let had_connack = self.link == LinkState::Up;
            self.close();
            if !had_connack {
                self.link = LinkState::Unwelcome;
            }
        }
        is_told
    }

    /// Ends every command that has not ended: nobody will carry it on. This one may be called at any time.
    pub fn abandon(&mut self, reason: Reason) {
        let written = self.output.written();
        self.outbound.abandon(reason, written, &mut self.events);
        self.liveness.end_pings(reason, &mut self.events);
    }

    /// Whether a new command may be handed in now. While not, commands stay in the queue: that is
    /// the backpressure.
    pub fn wants_commands(&self) -> bool {
        self.outbound.has_room() && self.may_take_commands()
    }

    /// How many small messages of QoS 0 and 1 may be handed in one after the other, without asking again. At least one
    /// while [`Session::wants_commands`].
    pub fn wants_messages(&self) -> usize {
        match self.wants_commands() {
            false => 0,
            true if self.rate.has_limit() => 1,
            true => self.outbound.room().min(self.output.room()).max(1),
        }
    }

    /// Whether commands may be handed in although [`Session::wants_commands`] says no, if others than PUBLISH are among
    /// them: with MQTT 5, a broker that takes no further PUBLISH must not delay those [MQTT-3.3.4-8].
    pub fn wants_requests(&self) -> bool {
        self.outbound.has_room_for_requests() && self.may_take_commands()
    }

    fn may_take_commands(&self) -> bool {
        self.link == LinkState::Up
            && (!self.filters.is_renewing() || self.outbound.is_trying())
            && self.liveness.has_room()
            && self.rate.is_open()
            && !self.output.is_full()
            // The output has to be empty before a new link is made.
            && !self.inbound.has_room_again()
    }

    /// How many commands may be in flight at one time: as many as the options say, as far as there are
    /// identifiers.
    pub fn window(&self) -> u16 {
        self.outbound.window()
    }

    /// How many packet identifiers are in use.
    pub fn in_flight(&self) -> usize {
        self.outbound.in_flight()
    }

    /// How many commands have not ended.
    pub fn unresolved(&self) -> usize {
        self.outbound.unresolved() + self.liveness.unresolved()
    }

    /// Whether there is such a command. With many of them, this is quick.
    pub fn has_unresolved(&self) -> bool {
        self.liveness.unresolved() > 0 || self.outbound.has_unresolved()
    }

    /// Whether something that was handed in has not been put into the output yet.
    pub fn has_unsent(&self) -> bool {
        self.outbound.has_unsent()
    }

    /// Whether there is this identifier, and it is not in use.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_free(&self, id: PacketId) -> bool {
        self.outbound.is_free(id)
    }

    /// The broker's CONNACK of MQTT 5, with all that it allows on this link; `None` with MQTT 3.1.1, and before CONNACK.
    pub fn negotiated(&self) -> Option<&ConnAck5> {
        self.server.connack()
    }

    /// Whether there is a session of MQTT 5 that the broker may still keep. Without one, CONNECT asks for a clean start
    /// [MQTT-3.2.2-4].
    pub fn keeps_session(&self, now: Instant) -> bool {
        self.server.keeps_session(now)
    }

    /// Whether the broker has granted this filter, or is to be asked for it again.
    pub fn is_subscribed(&self, filter: &str) -> bool {
        self.filters.contains(filter)
    }

    /// Whether the broker is to have this filter once every request that is under way has ended.
    pub fn stays_subscribed(&self, filter: &str) -> bool {
        let asks_for = self.outbound.asks_for(filter);
        asks_for.unwrap_or_else(|| self.is_subscribed(filter))
    }

    /// The position on the circle of identifiers at which the next session of this client is to
    /// begin: a broker that keeps the session may still hold the ones before.
    pub fn next_identifier(&self) -> u16 {
        self.outbound.next_position()
    }
}

#[cfg(any(test, fuzzing))]
impl<T> Session<T> {
    /// Whether the link is a trial link.
    pub(crate) fn is_trying(&self) -> bool {
        self.outbound.is_trying()
    }
}
