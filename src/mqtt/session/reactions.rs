//! Reactions to packets: one part of the session has seen something, and the others have to know.
//!
//! The front door in `mod.rs` says what may come now; here stands what follows from each packet. Pure; the loop's
//! thread.

use std::sync::Arc;
use std::time::Instant;

use super::entry::Body;
use super::event::{Event, LinkLoss};
use super::inbound::Arrival;
use super::outbound::Released;
use super::outcome::{Outcome, Reason};
use super::unfinished::Excess;
use super::{LinkState, Noted, PacketKind, Session};
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::{
    Ack, Answer, Answering, Filter, Incoming, Message, PacketId, ProtocolError, QoS, ReasonCode,
};

impl<T> Session<T> {
    pub(super) fn handle_next_packet(
        &mut self,
        packet: Incoming,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        match packet {
            Incoming::Publish { id, message } => self.on_publish(id, message)?,
            Incoming::PubRel(id) => self.on_pubrel(id)?,
            Incoming::PubAck(id) => self.on_puback(id, None, now),
            Incoming::PubRec(id) => self.on_pubrec(id, None, now),
            Incoming::PubComp(id) => self.on_pubcomp(id, None, now),
            Incoming::SubAck { id, granted } => self.on_suback(id, &granted, None, now)?,
            Incoming::UnsubAck(id) => self.on_unsuback(id, None, now)?,
            Incoming::Answered { packet, id, answer } => {
                return self.handle_answer(packet, id, answer, now);
            }
            Incoming::Disconnect(said) => {
                self.close();
                self.link = LinkState::Told;
                self.events.push(Event::Close(LinkLoss::Disconnected(said)));
            }
            Incoming::PingResp => self.on_pingresp(now),
            Incoming::ConnAck { .. } | Incoming::ConnAck5(_) => {
                let rule = match packet {
                    Incoming::ConnAck5(_) => "MQTT-3.2.0-2",
                    _ => "MQTT-3.2.0-1",
                };
                let problem = "a second one on this connection";
                return Err(ProtocolError::unexpected(packet.name(), problem, rule));
            }
        }
        Ok(())
    }

    /// An acknowledgment of MQTT 5 that says more than that it was done as asked.
    fn handle_answer(
        &mut self,
        packet: Answering,
        id: PacketId,
        answer: Box<Answer>,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let is_failure = answer.code.is_failure();
        match packet {
            Answering::PubAck => self.on_puback(id, Some(answer), now),
            Answering::PubRec if is_failure => self.on_refusal(id, answer, now),
            Answering::PubRec => self.on_pubrec(id, Some(answer), now),
            Answering::PubRel => self.on_pubrel(id)?,
            Answering::PubComp => self.on_pubcomp(id, Some(answer), now),
            Answering::SubAck => {
                let granted: Vec<_> = answer.codes.iter().map(|code| code.granted()).collect();
                self.on_suback(id, &granted, Some(answer), now)?;
            }
            Answering::UnsubAck => self.on_unsuback(id, Some(answer), now)?,
        }
        Ok(())
    }

    /// The link is about to go. A packet that only ends a message or a PINGREQ still counts. SUBACK and UNSUBACK
    /// could be followed by another packet of ours.
    pub(super) fn handle_last_packet(&mut self, packet: &Incoming, now: Instant) {
        match packet {
            Incoming::PubAck(id) => self.on_puback(*id, None, now),
            Incoming::PubComp(id) => self.on_pubcomp(*id, None, now),
            Incoming::PingResp => self.on_pingresp(now),
            Incoming::Answered { packet, id, answer } => match packet {
                Answering::PubAck => self.on_puback(*id, Some(answer.clone()), now),
                Answering::PubComp => self.on_pubcomp(*id, Some(answer.clone()), now),
                Answering::PubRec if answer.code.is_failure() => {
                    self.on_refusal(*id, answer.clone(), now);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn on_pubrel(&mut self, id: PacketId) -> Result<(), ProtocolError> {
        if self.inbound.awaits_our_pubrec(id) {
            return Err(ProtocolError::unexpected(
                "PUBREL",
                format!("it came before PUBREC of packet identifier {}", id.value()),
                "MQTT-4.3.3-4",
            ));
        }
        let code = match self.inbound.handle_pubrel(id) {
            true => ReasonCode::SUCCESS,
            false => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        };
        let begin = self.output.position();
        self.output.acknowledge(Ack::PubComp, id, code);
        self.note_own(PacketKind::PubComp, id.value(), begin);
        self.send_acks();
        Ok(())
    }

    pub(super) fn on_publish(
        &mut self,
        id: Option<PacketId>,
        message: Arc<Message>,
    ) -> Result<(), ProtocolError> {
        if let Some(id) = id
            && self.inbound.is_unfinished(id)
            && !self.inbound.takes_beyond(id, &message)
        {
            let problem = "its packet identifier is that of another message that is not acknowledged, and there is no \
                           room for another one";
            return Err(ProtocolError::unexpected(
                "PUBLISH",
                problem,
                "MQTT-2.2.1-4",
            ));
        }
        if let Some(id) = id
            && let Some(excess) = self.inbound.counts(id)
        {
            // Brokers do this under load. The standard lets a client close the link, and does not force it to.
            if !self.inbound.takes_beyond(id, &message) {
                let problem = "more messages than the receive maximum allows are not acknowledged, and there is no \
                               room for another one";
                let error = ProtocolError::unexpected("PUBLISH", problem, "MQTT-3.3.4-9");
                return Err(error.answered(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED));
            }
            self.note_excess(excess);
        }
        let left_some = self.inbound.has_left_some();
        if id.is_some_and(|id| !self.inbound.has_room_for(id, &message)) {
            if !left_some {
                self.events.push(Event::Unread);
            }
            self.send_acks();
            return Ok(());
        }
        match self.inbound.handle_publish(id, message) {
            Arrival::Deliver(message, delivery) => {
                self.note_message(id, delivery);
                self.events.push(Event::Message { message, delivery });
            }
            Arrival::Known => self.note_message(id, None),
        }
        // It may have taken the place of a message that the next acknowledgment waited for.
        self.send_acks();
        Ok(())
    }

    pub(super) fn on_puback(&mut self, id: PacketId, answer: Option<Box<Answer>>, now: Instant) {
        let events = &mut self.events;
        let awaited = self.outbound.handle_puback(id, answer, events, now);
        self.on_answer("PUBACK", id, awaited, now);
    }

    /// PUBREC with a failure.
    fn on_refusal(&mut self, id: PacketId, answer: Box<Answer>, now: Instant) {
        let events = &mut self.events;
        let awaited = self.outbound.handle_refusal(id, answer, events, now);
        self.on_answer("PUBREC", id, awaited, now);
    }

    pub(super) fn on_pubrec(&mut self, id: PacketId, answer: Option<Box<Answer>>, now: Instant) {
        let released = self.outbound.handle_pubrec(id, answer, now);
        match released {
            Released::First => {
                self.send(id, now);
                if self.outbound.is_trying() {
                    self.judge(now);
                }
            }
            Released::Unknown => self.send(id, now),
            // It counts as an acknowledgment, so that these answers cannot pile up unread.
            Released::Again | Released::UnknownInUse => {
                let begin = self.output.position();
                let number = match released {
                    Released::Again => self.before_sending(id).map_or(0, |(number, _)| number),
                    _ => 0,
                };
                self.output
                    .acknowledge(Ack::PubRel, id, ReasonCode::SUCCESS);
                let (packet, id) = (PacketKind::PubRel, id.value());
                self.note_encoded(Noted { packet, number, id }, true, begin);
            }
            Released::NotFound => {
                let begin = self.output.position();
                let code = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
                self.output.acknowledge(Ack::PubRel, id, code);
                self.note_own(PacketKind::PubRel, id.value(), begin);
            }
            Released::GivenUp => self.ignore_unsolicited("PUBREC", Some(id)),
        }
        if let Released::Unknown | Released::UnknownInUse | Released::NotFound = released {
            self.note_unsolicited("PUBREC", Some(id), "answered with PUBREL");
        }
    }

    pub(super) fn on_pubcomp(&mut self, id: PacketId, answer: Option<Box<Answer>>, now: Instant) {
        let events = &mut self.events;
        let awaited = self.outbound.handle_pubcomp(id, answer, events, now);
        self.on_answer("PUBCOMP", id, awaited, now);
    }

    pub(super) fn on_suback(
        &mut self,
        id: PacketId,
        answers: &[Option<QoS>],
        words: Option<Box<Answer>>,
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
        asked.answer(answers, words);
        self.outbound
            .handle_request_answered(id, &mut self.events, now);
        refused
            .into_iter()
            .for_each(|filter| self.end_renewal(filter));
        self.on_answer("SUBACK", id, true, now);
        Ok(())
    }

    pub(super) fn on_unsuback(
        &mut self,
        id: PacketId,
        words: Option<Box<Answer>>,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let left = self.outbound.unsubscribing(id);
        let awaited = left.is_some();
        if let Some(left) = left {
            if let Some(words) = &words {
                left.check(words)?;
            }
            // A SUBSCRIBE that stood without an answer may have been granted behind it.
            let filters = left.packet().iter();
            filters.for_each(|filter| drop(self.filters.remove(filter)));
            left.answer(words);
            self.outbound
                .handle_request_answered(id, &mut self.events, now);
        }
        self.on_answer("UNSUBACK", id, awaited, now);
        Ok(())
    }

    pub(super) fn on_pingresp(&mut self, now: Instant) {
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
    pub(super) fn on_answer(&mut self, name: &str, id: PacketId, awaited: bool, now: Instant) {
        if !awaited {
            self.ignore_unsolicited(name, Some(id));
            if self.server.is_version_5() {
                // A late answer to a command that was given up makes room for another message.
                self.send_waiting(now);
            }
            return;
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
    pub(super) fn judge(&mut self, now: Instant) {
        let given_up = self.outbound.judge(&mut self.events);
        self.refuse_renewals(given_up);
        self.await_those_that_stood(now);
        if let Some(id) = self.outbound.holds_all_of_the_quota() {
            self.events.push(Event::Close(LinkLoss::AckTimeout(id)));
        }
    }

    /// On a trial link, those that stood without an answer are awaited again when its trials have ended.
    fn await_those_that_stood(&mut self, now: Instant) {
        if self.link == LinkState::Up && self.outbound.in_flight() > 0 {
            self.liveness.handle_sent(now);
        }
    }

    /// The renewals of these filters are given up.
    pub(super) fn refuse_renewals(&mut self, filters: impl IntoIterator<Item = String>) {
        for filter in filters {
            self.filters.handle_renewal_given_up(&filter);
            self.end_renewal(filter);
        }
    }

    /// The broker has lost this filter, and does not grant it again.
    fn end_renewal(&mut self, filter: String) {
        self.outbound.withdraw(&filter);
        self.events.push(Event::SubscriptionRefused { filter });
    }

    /// Ends the subscriptions that the broker does not take any more. Returns the others.
    pub(super) fn end_refused(&mut self, owed: Vec<Filter>) -> Vec<Filter> {
        let is_taken = |filter: &Filter| self.server.takes_filter(filter);
        let (taken, refused): (_, Vec<_>) = owed.into_iter().partition(is_taken);
        for Filter { filter, .. } in refused {
            self.filters.remove(&filter);
            self.end_renewal(filter);
        }
        taken
    }

    /// Sends a SUBSCRIBE for every owed filter with the QoS that was requested, ahead of everything
    /// that waits.
    pub(super) fn send_renewals(&mut self, owed: &[Filter], now: Instant) {
        let alone = !self.server.takes_together(owed);
        self.outbound.renew(owed, alone, now);
        while let Some(id) = self.outbound.poll_renewal() {
            self.send(id, now);
        }
    }

    /// Sends the packets that have to be sent again and then those that wait, as far as identifiers and the
    /// output have room.
    pub(super) fn send_waiting(&mut self, now: Instant) {
        // At each acknowledgment, and hardly ever anything to do.
        if !self.outbound.has_waiting() {
            return;
        }
        while self.link == LinkState::Up && !self.output.is_full() && self.rate.is_open() {
            let is_renewing = self.filters.is_renewing();
            if let Some((message, token, since)) = self.outbound.poll_unacknowledged(is_renewing) {
                self.send_unacknowledged(message, token, since, now);
            } else if let Some(id) = self.outbound.poll_unsent(is_renewing) {
                self.send(id, now);
            } else {
                return;
            }
        }
    }

    /// Puts a QoS 0 PUBLISH into the output. Its command began at `since`.
    pub(super) fn send_unacknowledged(
        &mut self,
        message: Outgoing,
        token: T,
        since: Instant,
        now: Instant,
    ) {
        if let Some(reason) = self.reason_not_to_send(&message, now) {
            return self.events.resolve(token, Outcome::NeverSent(reason));
        }
        let begin = self.output.position();
        let number = self.number_of(&token);
        self.outbound
            .send_unacknowledged(message, token, &mut self.output, since, now);
        self.note_published(begin, now);
        if let Some(number) = number {
            let packet = PacketKind::Publish;
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
    }

    /// With MQTT 5: why a message that was never sent must not be, if anything forbids it.
    pub(super) fn reason_not_to_send(&self, message: &Outgoing, now: Instant) -> Option<Reason> {
        if !self.server.is_version_5() {
            return None;
        }
        let limit = self.server.refuses(message).map(Reason::BrokerLimit);
        let has_expired = message.expires().is_some_and(|expires| expires <= now);
        limit.or(has_expired.then_some(Reason::Expired))
    }

    /// Puts the packet under this identifier into the output.
    pub(super) fn send(&mut self, id: PacketId, now: Instant) {
        if self.server.is_version_5() && self.ends_unsent(id, now) {
            return;
        }
        let clock = self.liveness.clock(now);
        let begin = self.output.position();
        let before = self.before_sending(id);
        let packet = match self.outbound.send(id, &mut self.output, now, clock) {
            Some(Body::Publish(_)) => {
                self.note_published(begin, now);
                PacketKind::Publish
            }
            Some(Body::Subscribe(asked)) => {
                if asked.renewal {
                    self.filters.handle_renewal_sent();
                }
                PacketKind::Subscribe
            }
            Some(Body::Unsubscribe(_)) => {
                self.forget_filters(id);
                PacketKind::Unsubscribe
            }
            Some(Body::Release { .. } | Body::GivenUp { .. }) => PacketKind::PubRel,
            None => return,
        };
        if let Some((number, again)) = before {
            let id = id.value();
            self.note_encoded(Noted { packet, number, id }, again, begin);
        }
        self.liveness.handle_sent(now);
    }

    /// This UNSUBSCRIBE leaves. Nothing of it is renewed before its last packet, or behind that, if it was granted meanwhile.
    fn forget_filters(&mut self, id: PacketId) {
        if let Some(left) = self.outbound.unsubscribe(id) {
            let filters = left.left().iter();
            let served: Vec<_> = filters
                .filter_map(|filter| self.filters.remove(filter))
                .collect();
            left.keep(served);
        }
    }

    /// Ends the command under this identifier if the broker takes no such packet, or if the message has expired before it
    /// was sent. A message that was sent once goes on after its expiry [MQTT-4.3.3-7].
    fn ends_unsent(&mut self, id: PacketId, now: Instant) -> bool {
        if let Some(left) = self.outbound.unsubscribe(id) {
            // They may have been granted meanwhile.
            for filter in left.leave_out(|filter| self.server.refuses_unsubscribe(filter)) {
                self.filters.remove(&filter);
            }
            // Filters that were subscribed one by one may be too long for one packet.
            if self.server.refuses_together(left.packet()) {
                left.send_one_by_one();
            }
        }
        let Some(entry) = self.outbound.entry(id) else {
            return false;
        };
        let is_new = !entry.ever_sent;
        let reason = match &entry.body {
            Body::Publish(message) if is_new => self.reason_not_to_send(message, now),
            // All of its filters stay subscribed, or none.
            Body::Unsubscribe(left) if is_new => {
                let limit = self.server.refuses_unsubscribe(left.left());
                limit.map(Reason::BrokerLimit)
            }
            body => self.server.refuses_packet(body).map(Reason::BrokerLimit),
        };
        let Some(reason) = reason else {
            return false;
        };
        let mut owed = Vec::new();
        if is_new && let Some(left) = self.outbound.unsubscribe(id) {
            if let Some(kept) = left.take_kept() {
                // The last one of a filter is the newest.
                let kept = kept.into_iter().rev();
                owed.extend(kept.filter_map(|served| self.filters.put_back(served)));
            } else {
                for filter in left.left() {
                    // It may have been granted meanwhile.
                    self.filters.remove(filter);
                }
            }
        }
        for filter in self.outbound.end_unsent(id, reason, &mut self.events) {
            self.filters.remove(&filter);
            self.end_renewal(filter);
        }
        if self.outbound.is_trying() {
            // It may have been the last suspect.
            self.outbound.end_trials();
            self.await_those_that_stood(now);
        }
        if !owed.is_empty() {
            let owed = self.end_refused(owed);
            self.send_renewals(&owed, now);
        }
        true
    }

    /// A message stands in the output from this position on.
    pub(super) fn note_published(&mut self, begin: u64, now: Instant) {
        let bytes = self.output.position() - begin;
        self.rate.handle_published(bytes, now);
    }

    pub(super) fn send_acks(&mut self) {
        if self.link != LinkState::Up {
            return;
        }
        while let Some((ack, id, delivery)) = self.inbound.poll_ack() {
            let begin = self.output.position();
            self.output.acknowledge(ack, id, ReasonCode::SUCCESS);
            let (packet, number, id) = (ack.into(), delivery.number(), id.value());
            self.note_encoded(Noted { packet, number, id }, false, begin);
        }
    }

    /// Asks for a new link, on which the broker sends the messages again that were left with it: once half of
    /// what the thread had not read is read, and nothing waits to be sent. Until then this link is of use to
    /// every other thread.
    pub(super) fn fetch_what_was_left(&mut self) {
        if self.link == LinkState::Up && self.inbound.has_room_again() && self.output.is_empty() {
            self.close();
            self.events.push(Event::Close(LinkLoss::LeftWithBroker));
        }
    }

    /// Nothing more is sent on this link, and nothing more is awaited.
    pub(super) fn close(&mut self) {
        self.link = LinkState::Closing;
        self.liveness.stop();
    }

    pub(super) fn ignore_unsolicited(&mut self, name: &str, id: Option<PacketId>) {
        self.note_unsolicited(name, id, "ignored");
    }

    /// More messages have come than CONNECT allows, and this one is taken.
    fn note_excess(&mut self, Excess { come, stated }: Excess) {
        self.beyond_maximum += 1;
        // Ever more rarely, as below. One warning is enough: nobody has to do anything.
        let level = match self.beyond_maximum {
            1 => log::Level::Warn,
            _ => log::Level::Debug,
        };
        if self.beyond_maximum.is_power_of_two() {
            log::log!(
                level,
                "the broker has sent {come} messages without an end to their exchange, and the receive maximum in \
                 CONNECT is {stated}: such a message is taken while there is room for it; {} so far",
                self.beyond_maximum
            );
        }
    }

    pub(super) fn note_unsolicited(&mut self, name: &str, id: Option<PacketId>, done: &str) {
        self.unsolicited += 1;
        // Ever more rarely: a broker must not be able to flood the log.
        if self.unsolicited.is_power_of_two() {
            let what = match id.is_some_and(|id| self.outbound.is_given_up(id)) {
                true => "a late",
                false => "an unsolicited",
            };
            let id = id.map_or(0, PacketId::value);
            log::warn!(
                "{what} {name} (packet identifier {id}) was {done}; {} so far",
                self.unsolicited
            );
        }
    }
}
