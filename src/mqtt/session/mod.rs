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
//! | with `account.rs` | incoming messages that wait for a receiver |
//! | `event.rs`, `outcome.rs` | the events for the caller |
//!
//! Several parts write to the output and to the events. Apart from that the parts do not know each other: this
//! file knows them all and the state of the link, and it passes on to the others what one part has seen.
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
mod inbound;
mod leaving;
mod liveness;
mod outbound;
mod outcome;
mod output;
mod recovery;
mod ring;
mod sorted;
mod suspects;
mod waiting;

#[cfg(test)]
mod inspect;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use std::time::Instant;

use crate::mqtt::packet::{
    Ack, Connect, ConnectReturnCode, Filter, Incoming, Message, PacketId, ProtocolError, QoS,
};
use crate::mqtt::rate::Rate;
use crate::mqtt::v4::Outgoing;

pub use account::DeliveryId;
use entry::{Body, Entry, Subscribing, Unsubscribing};
use event::Events;
pub use event::{Event, FirstUnanswered, LinkEnd, LinkLoss, OnSessionLost, SessionOptions};
use filters::Filters;
use inbound::{Arrival, Inbound};
use liveness::Liveness;
use outbound::{Outbound, Released};
pub use outcome::{NotDelivered, Outcome, Reason};
use output::Output;

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
    /// Acknowledgments that answered nothing of ours.
    unsolicited: u64,
    events: Events<T>,
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
            unsolicited: 0,
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

    /// The link is gone. A packet that awaits an acknowledgment stays and is sent again on the next link. A
    /// command that would never be acknowledged ends here.
    pub fn handle_link_lost(&mut self, end: LinkEnd, now: Instant) {
        let greeting = matches!(self.link, LinkState::Greeting { .. });
        if greeting && self.output.is_empty() {
            // The broker may have begun a session with a CONNACK that never arrived. That session may be
            // present on the next link, and it has none of the subscriptions of the one before it.
            self.filters.owe_all();
        }
        let end = match self.link {
            LinkState::Up => Some(end),
            LinkState::Closing => Some(LinkEnd::Otherwise),
            LinkState::Down | LinkState::Greeting { .. } => None,
        };
        self.link = LinkState::Down;
        let taken = self.output.handle_link_lost();
        self.liveness.stop();
        self.inbound.handle_link_lost();
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
        match self.link {
            LinkState::Up => self.handle_next_packet(packet, now),
            LinkState::Greeting { clean_session } => {
                self.handle_first_packet(packet, clean_session, now)
            }
            LinkState::Closing => {
                self.handle_last_packet(&packet, now);
                Ok(())
            }
            LinkState::Down => Ok(()),
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
        let loss = self.liveness.handle_timeout(oldest, &mut self.output, now);
        let broker_answers = self.liveness.all_answered();
        match loss {
            Some(LinkLoss::AckTimeout(id))
                if self.outbound.handle_late(id, broker_answers, now) =>
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
        if let Some(id) = self.outbound.late_without_witness(now) {
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
        match message.qos() {
            QoS::AtMostOnce => {
                let begin = self.output.position();
                self.outbound
                    .send_unacknowledged(message, token, &mut self.output, now);
                self.note_published(begin, now);
            }
            QoS::AtLeastOnce => {
                let entry = Entry::new(Some(token), Body::Publish(message), now);
                if let Some(id) = self.outbound.reserve(entry) {
                    self.send(id, now);
                }
            }
            // Its window may be full. Then no further command is taken, so that all keep their order.
            QoS::ExactlyOnce => {
                self.outbound.wait(token, Body::Publish(message), now);
                self.send_waiting(now);
            }
        }
    }

    /// SUBSCRIBE, eight filters to a packet.
    pub fn subscribe(&mut self, filters: Vec<Filter>, token: T, now: Instant) {
        let body = Body::Subscribe(Subscribing::new(filters, false));
        self.outbound.wait(token, body, now);
        self.send_waiting(now);
    }

    /// UNSUBSCRIBE, eight filters to a packet.
    pub fn unsubscribe(&mut self, filters: Vec<String>, token: T, now: Instant) {
        for filter in &filters {
            self.filters.remove(filter);
        }
        let body = Body::Unsubscribe(Unsubscribing::new(filters));
        self.outbound.wait(token, body, now);
        self.send_waiting(now);
    }

    /// PINGREQ.
    pub fn ping(&mut self, token: T, now: Instant) {
        self.liveness.send_ping(Some(token), &mut self.output, now);
    }

    /// DISCONNECT: nothing is sent after it. Without a connection it does nothing.
    pub fn disconnect(&mut self) {
        if self.link == LinkState::Up {
            self.output.disconnect();
            self.close();
        }
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
        self.link == LinkState::Up
            && (!self.filters.is_renewing() || self.outbound.is_trying())
            && self.outbound.has_room()
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

    /// Whether something that was handed in has not been put into the output yet.
    pub fn has_unsent(&self) -> bool {
        self.outbound.has_unsent()
    }

    /// Whether there is this identifier, and it is not in use.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_free(&self, id: PacketId) -> bool {
        self.outbound.is_free(id)
    }

    /// Whether nothing more is sent under this identifier, although the broker may hold it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_given_up(&self, id: PacketId) -> bool {
        self.outbound.is_given_up(id)
    }

    /// Whether the broker has granted this filter, or is to be asked for it again.
    pub fn is_subscribed(&self, filter: &str) -> bool {
        self.filters.contains(filter)
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

/// Reactions: one part has seen something, and the others have to know.
impl<T> Session<T> {
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
        self.on_connected(session_present, now);
        Ok(())
    }

    /// With the session kept, the packets in flight are sent again. Without it, every subscription is renewed before
    /// anything else, and the packets in flight are sent as new ones.
    fn on_connected(&mut self, session_present: bool, now: Instant) {
        self.link = LinkState::Up;
        self.outbound.handle_connected(now);
        self.liveness.handle_connected();
        if !session_present {
            self.inbound.handle_session_lost();
            self.filters.owe_all();
            self.outbound.handle_session_lost(&mut self.events);
        }
        let owed = self.filters.owed();
        let owed: Vec<_> = owed.map(|(filter, qos)| Filter::new(filter, qos)).collect();
        if self.outbound.begin_trials(&owed, now) {
            self.liveness.send_ping(None, &mut self.output, now);
        }
        self.send_renewals(&owed, now);
        if session_present {
            for id in self.outbound.resume() {
                self.send(id, now);
            }
        }
        self.events.push(Event::Connected {
            session_present,
            resubscribing: owed.len(),
        });
        self.send_waiting(now);
    }

    fn handle_next_packet(&mut self, packet: Incoming, now: Instant) -> Result<(), ProtocolError> {
        match packet {
            Incoming::Publish { id, message } => self.on_publish(id, message),
            Incoming::PubRel(id) => {
                self.inbound.handle_pubrel(id);
                self.output.acknowledge(Ack::PubComp, id);
                self.send_acks();
            }
            Incoming::PubAck(id) => self.on_puback(id, now),
            Incoming::PubRec(id) => self.on_pubrec(id, now),
            Incoming::PubComp(id) => self.on_pubcomp(id, now),
            Incoming::SubAck { id, granted } => self.on_suback(id, &granted, now)?,
            Incoming::UnsubAck(id) => self.on_unsuback(id, now),
            Incoming::PingResp => self.on_pingresp(now),
            Incoming::ConnAck { .. } => {
                return Err(ProtocolError::unexpected(
                    packet.name(),
                    "a second one on this connection",
                    "MQTT-3.2.0-1",
                ));
            }
        }
        Ok(())
    }

    /// The link is about to go. A packet that only ends a message or a PINGREQ still counts. SUBACK and UNSUBACK
    /// could be followed by another packet of ours.
    fn handle_last_packet(&mut self, packet: &Incoming, now: Instant) {
        match packet {
            Incoming::PubAck(id) => self.on_puback(*id, now),
            Incoming::PubComp(id) => self.on_pubcomp(*id, now),
            Incoming::PingResp => self.on_pingresp(now),
            _ => {}
        }
    }

    fn on_publish(&mut self, id: Option<PacketId>, message: Message) {
        let left_some = self.inbound.has_left_some();
        if id.is_some_and(|id| !self.inbound.has_room_for(id, &message)) {
            if !left_some {
                self.events.push(Event::Unread);
            }
            self.send_acks();
            return;
        }
        match self.inbound.handle_publish(id, message) {
            Arrival::Deliver(message, delivery) => {
                self.events.push(Event::Message { message, delivery });
            }
            Arrival::Known => {}
        }
        // It may have taken the place of a message that the next acknowledgment waited for.
        self.send_acks();
    }

    fn on_puback(&mut self, id: PacketId, now: Instant) {
        let awaited = self.outbound.handle_puback(id, &mut self.events, now);
        self.on_answer("PUBACK", id, awaited, now);
    }

    fn on_pubrec(&mut self, id: PacketId, now: Instant) {
        let released = self.outbound.handle_pubrec(id, now);
        match released {
            Released::First => {
                self.send(id, now);
                if self.outbound.is_trying() {
                    self.judge(now);
                }
            }
            Released::Unknown => self.send(id, now),
            // It counts as an acknowledgment, so that these answers cannot pile up unread.
            Released::Again | Released::UnknownInUse => self.output.acknowledge(Ack::PubRel, id),
            Released::GivenUp => self.ignore_unsolicited("PUBREC", Some(id)),
        }
        if let Released::Unknown | Released::UnknownInUse = released {
            self.note_unsolicited("PUBREC", Some(id), "answered with PUBREL");
        }
    }

    fn on_pubcomp(&mut self, id: PacketId, now: Instant) {
        let awaited = self.outbound.handle_pubcomp(id, &mut self.events, now);
        self.on_answer("PUBCOMP", id, awaited, now);
    }

    fn on_suback(
        &mut self,
        id: PacketId,
        answers: &[Option<QoS>],
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let Some(asked) = self.outbound.subscribing(id) else {
            self.on_answer("SUBACK", id, false, now);
            return Ok(());
        };
        asked.check(answers)?;
        for (Filter { filter, qos, .. }, granted) in asked.packet().iter().zip(answers) {
            if let Some(granted) = granted.filter(|granted| granted < qos) {
                log::warn!(
                    "the broker granted QoS {granted} for {filter:?}, and QoS {qos} was asked for: use `qos` {granted} \
                     with it"
                );
            }
        }
        let refused = self
            .filters
            .handle_suback(asked.packet(), answers, asked.renewal);
        if asked.renewal {
            let answered = asked.packet().iter().zip(answers);
            let granted = answered.filter(|(_, granted)| granted.is_some());
            let still = granted.filter(|(asked, _)| self.filters.contains(&asked.filter));
            let filters: Vec<_> = still.map(|(asked, _)| asked.filter.clone()).collect();
            if !filters.is_empty() {
                self.events.push(Event::Renewed { filters });
            }
        }
        for filter in refused {
            self.events.push(Event::SubscriptionRefused { filter });
        }
        asked.answer(answers);
        self.on_request_answered(id, now);
        self.on_answer("SUBACK", id, true, now);
        Ok(())
    }

    fn on_unsuback(&mut self, id: PacketId, now: Instant) {
        let left = self.outbound.unsubscribing(id);
        let awaited = left.is_some();
        if let Some(left) = left {
            left.answer();
            self.on_request_answered(id, now);
        }
        self.on_answer("UNSUBACK", id, awaited, now);
    }

    fn on_request_answered(&mut self, id: PacketId, now: Instant) {
        let rest = self
            .outbound
            .handle_request_answered(id, &mut self.events, now);
        if let Some(id) = rest {
            self.send(id, now);
        }
    }

    fn on_pingresp(&mut self, now: Instant) {
        if self.liveness.handle_pingresp(&mut self.events, now) {
            self.outbound.handle_pingresp();
            if self.outbound.goes_on_trying(now) {
                self.send_waiting(now);
            }
        } else {
            self.ignore_unsolicited("PINGRESP", None);
        }
    }

    /// An acknowledgment came. If it was awaited, there may be room for another packet.
    fn on_answer(&mut self, name: &str, id: PacketId, awaited: bool, now: Instant) {
        if !awaited {
            return self.ignore_unsolicited(name, Some(id));
        }
        if self.outbound.is_trying() {
            self.judge(now);
        }
        if self.outbound.in_flight() == 0 {
            self.liveness.handle_all_acknowledged();
        }
        self.send_waiting(now);
    }

    /// A packet was answered on a trial link: others may be given up because of that.
    fn judge(&mut self, now: Instant) {
        let given_up = self.outbound.judge(&mut self.events);
        self.refuse_renewals(given_up);
        if self.link == LinkState::Up && self.outbound.in_flight() > 0 {
            // Those that stood without an answer are awaited again.
            self.liveness.handle_sent(now);
        }
    }

    /// The renewals of these filters are given up.
    fn refuse_renewals(&mut self, filters: impl IntoIterator<Item = String>) {
        for filter in filters {
            self.filters.handle_renewal_given_up(&filter);
            self.events.push(Event::SubscriptionRefused { filter });
        }
    }

    /// Sends a SUBSCRIBE for every owed filter with the QoS that was requested, ahead of everything
    /// that waits.
    fn send_renewals(&mut self, owed: &[Filter], now: Instant) {
        self.outbound.renew(owed, now);
        while let Some(id) = self.outbound.poll_renewal() {
            self.send(id, now);
        }
    }

    /// Sends the packets that have to be sent again and then those that wait, as far as identifiers and the
    /// output have room.
    fn send_waiting(&mut self, now: Instant) {
        // At each acknowledgment, and hardly ever anything to do.
        if !self.outbound.has_waiting() {
            return;
        }
        while self.link == LinkState::Up
            && !self.output.is_full()
            && self.rate.is_open()
            && let Some(id) = self.outbound.poll_unsent(self.filters.is_renewing())
        {
            self.send(id, now);
        }
    }

    /// Puts the packet under this identifier into the output.
    fn send(&mut self, id: PacketId, now: Instant) {
        let clock = self.liveness.clock(now);
        let begin = self.output.position();
        match self.outbound.send(id, &mut self.output, now, clock) {
            Some(Body::Publish(_)) => self.note_published(begin, now),
            Some(Body::Subscribe(asked)) if asked.renewal => self.filters.handle_renewal_sent(),
            // A SUBSCRIBE that the UNSUBSCRIBE waited for may have been granted meanwhile.
            Some(Body::Unsubscribe(left)) => {
                let filters = left.packet().iter();
                filters.for_each(|filter| self.filters.remove(filter));
            }
            Some(_) => {}
            None => return,
        }
        self.liveness.handle_sent(now);
    }

    /// A message stands in the output from this position on.
    fn note_published(&mut self, begin: u64, now: Instant) {
        let bytes = self.output.position() - begin;
        self.rate.handle_published(bytes, now);
    }

    fn send_acks(&mut self) {
        if self.link != LinkState::Up {
            return;
        }
        while let Some((ack, id)) = self.inbound.poll_ack() {
            self.output.acknowledge(ack, id);
        }
    }

    /// Asks for a new link, on which the broker sends the messages again that were left with it: once half of
    /// what the thread had not read is read, and nothing waits to be sent. Until then this link is of use to
    /// every other thread.
    fn fetch_what_was_left(&mut self) {
        if self.link == LinkState::Up && self.inbound.has_room_again() && self.output.is_empty() {
            self.close();
            self.events.push(Event::Close(LinkLoss::LeftWithBroker));
        }
    }

    /// Nothing more is sent on this link, and nothing more is awaited.
    fn close(&mut self) {
        self.link = LinkState::Closing;
        self.liveness.stop();
    }

    fn ignore_unsolicited(&mut self, name: &str, id: Option<PacketId>) {
        self.note_unsolicited(name, id, "ignored");
    }

    fn note_unsolicited(&mut self, name: &str, id: Option<PacketId>, done: &str) {
        self.unsolicited += 1;
        // Ever more rarely: a broker must not be able to flood the log.
        if self.unsolicited.is_power_of_two() {
            let id = id.map_or(0, PacketId::value);
            log::warn!(
                "an unsolicited {name} (packet identifier {id}) was {done}; {} so far",
                self.unsolicited
            );
        }
    }
}
