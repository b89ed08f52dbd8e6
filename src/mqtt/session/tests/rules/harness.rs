//! A session under the rules: each thing that is done to it goes through here. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::arrivals::Verdict;
use super::record::{Cause, Kind, Record, Token};
use super::server::level;
use super::version5::Link5;
use super::{Fault, Rule};
use crate::mqtt::packet::{
    Answering, Connect, ConnectTerms, Filter, Incoming, Message, Publish, ReasonCode,
};
use crate::mqtt::session::{DeliveryId, Event, LinkEnd, Outcome, Reason, Session, SessionOptions};
use crate::mqtt::v4::tests::wire::{self, FromClient};
use crate::mqtt::v5::tests::wire::from_client5;

/// Output that may wait for the link, beyond what commands and acknowledgments allow.
const OUTPUT: usize = 256 * 1024 + 50_000;

/// Characters of a line of the story.
const LONGEST_LINE: usize = 300;

fn tell(told: &mut Option<Vec<String>>, line: impl FnOnce() -> String) {
    if let Some(told) = told {
        told.push(line().chars().take(LONGEST_LINE).collect());
    }
}

/// The session, its record, its link and its clock.
#[derive(Debug, Clone)]
pub(crate) struct Harness {
    pub(crate) session: Session<Token>,
    pub(crate) record: Record,
    pub(super) fault: Fault,
    pub(crate) now: Instant,
    clean_session: bool,
    /// Where the links speak MQTT 5.
    terms: Option<ConnectTerms>,
    pub(crate) linked: bool,
    /// The session wants the link closed.
    pub(crate) closing: bool,
    /// The side that ends the link then.
    closing_end: LinkEnd,
    /// Whether the link stays until the driver closes it.
    pub(crate) lingers: bool,
    /// How much of the session's output was looked at.
    looked_at: usize,
    /// Packets that the session put into its output on this link, until the driver takes them.
    pub(crate) sent: VecDeque<Bytes>,
    pub(crate) unaccepted: Vec<DeliveryId>,
    /// Messages that were delivered because of the packet that came last.
    pub(crate) messages: Vec<Arc<Message>>,
    /// Filters whose renewal was refused or given up, until the driver takes them.
    pub(crate) refused: Vec<String>,
    /// Commands that ended, until the driver takes them.
    pub(crate) ended: Vec<(Token, Kind, Outcome)>,
    /// For a fault: what the broker of the first link takes.
    #[cfg(test)]
    pub(super) first_quota: Option<Option<u16>>,
    /// Bytes that may wait for the link because of commands and packets.
    allowance: usize,
    /// The story so far, line by line, if it is to be told.
    pub(crate) told: Option<Vec<String>>,
}

/// Everything that can be done to the session.
impl Harness {
    pub(crate) fn new(
        options: SessionOptions,
        clean_session: bool,
        fault: Fault,
        now: Instant,
    ) -> Self {
        Harness {
            record: Record::new(&options, now),
            session: Session::new(options, now),
            fault,
            now,
            clean_session,
            terms: None,
            linked: false,
            closing: false,
            closing_end: LinkEnd::Otherwise,
            lingers: false,
            looked_at: 0,
            sent: VecDeque::new(),
            unaccepted: Vec::new(),
            messages: Vec::new(),
            refused: Vec::new(),
            ended: Vec::new(),
            #[cfg(test)]
            first_quota: None,
            allowance: OUTPUT,
            told: None,
        }
    }

    /// Keeps a line of the story, if it is to be told.
    fn tell(&mut self, line: impl FnOnce() -> String) {
        tell(&mut self.told, line);
    }

    /// The links speak MQTT 5, and the session has these options.
    pub(crate) fn speaks_version5(mut self, terms: ConnectTerms, options: &SessionOptions) -> Self {
        let version5 = Link5::new(terms.receive_maximum, options);
        self.record.version5 = Some(version5);
        self.record.arrivals.takes_all = true;
        self.terms = Some(terms);
        self
    }

    /// Whether the session takes commands. With MQTT 5 the loop hands in those in front of a request, too.
    pub(crate) fn takes_commands(&self) -> bool {
        self.session.wants_commands() || self.terms.is_some() && self.session.wants_requests()
    }

    /// A message of that many bytes, the two of its token included.
    pub(crate) fn publish(&mut self, topic: &str, qos: u8, payload: usize) -> Rule {
        let kind = Kind::Publish { qos, payload };
        let Some(token) = self.new_command(kind, payload + 20) else {
            return Ok(());
        };
        let mut bytes = vec![0; payload];
        bytes[..2].copy_from_slice(&token.to_be_bytes());
        let publish = Publish::new(topic, level(qos), bytes);
        self.session.publish(publish.into(), token, self.now);
        self.look(&Cause::Other)
    }

    pub(crate) fn subscribe(&mut self, filters: Vec<Filter>) -> Rule {
        let Some(token) = self.new_command(Kind::Subscribe, 20 * filters.len()) else {
            return Ok(());
        };
        self.tell(|| format!("  it asks for {filters:?}"));
        self.record.asks_for(token, &filters);
        #[cfg(test)]
        if self.fault == Fault::RequestHeld {
            self.session
                .break_passing(|session| session.subscribe(filters, token, self.now));
            return self.look(&Cause::Other);
        }
        self.session.subscribe(filters, token, self.now);
        self.look(&Cause::Other)
    }

    pub(crate) fn unsubscribe(&mut self, filters: Vec<String>) -> Rule {
        let Some(token) = self.new_command(Kind::Unsubscribe, 20 * filters.len()) else {
            return Ok(());
        };
        self.tell(|| format!("  it renounces {filters:?}"));
        self.record.renounces(token, &filters);
        self.session.unsubscribe(filters, token, self.now);
        #[cfg(test)]
        if self.fault == Fault::RequestOvertakes {
            self.session.break_turn(self.now);
        }
        self.look(&Cause::Other)
    }

    pub(crate) fn ping(&mut self) -> Rule {
        if let Some(token) = self.new_command(Kind::Ping, 2) {
            self.session.ping(token, self.now);
        }
        self.look(&Cause::Other)
    }

    /// Names a command that allows so many bytes of output; `None` while the session takes none.
    fn new_command(&mut self, kind: Kind, length: usize) -> Option<Token> {
        if !self.takes_commands() {
            return None;
        }
        self.allowance += length;
        let token = self.record.new_command(kind);
        self.tell(|| format!("command {token}: {kind:?}"));
        Some(token)
    }

    pub(crate) fn disconnect(&mut self) -> Rule {
        self.tell(|| "disconnect".to_owned());
        self.record.disconnect();
        self.session.disconnect(ReasonCode::SUCCESS);
        self.look(&Cause::Other)
    }

    /// A receiver accepts the delivery at this place of those that wait.
    pub(crate) fn accept(&mut self, place: usize) -> Rule {
        let delivery = self.unaccepted.remove(place);
        self.tell(|| format!("accepted: {delivery:?}"));
        self.record.arrivals.accepts(delivery);
        self.session.accept(delivery);
        self.look(&Cause::Other)
    }

    /// The delivery at this place counts as accepted, and waits on.
    pub(crate) fn accept_early(&mut self, place: usize) -> Rule {
        let delivery = self.unaccepted[place];
        self.tell(|| format!("accepted early: {delivery:?}"));
        let expected = self.record.arrivals.accepts_early(delivery);
        let mut accepted = expected;
        if self.fault != Fault::EarlyIgnored {
            accepted = self.session.accept_early(delivery, 1);
        }
        #[cfg(test)]
        if self.fault == Fault::EarlyBeyondTheLimit && !accepted {
            self.session.break_limit(delivery);
        }
        self.look(&Cause::Other)?;
        match accepted == expected {
            true => Ok(()),
            false => Err(format!("{delivery:?} counts as accepted: {accepted}")),
        }
    }

    /// Whether the delivery at this place is to count as accepted already.
    #[cfg(test)]
    pub(crate) fn is_early(&self, place: usize) -> bool {
        self.record.arrivals.is_early(self.unaccepted[place])
    }

    pub(crate) fn link_up(&mut self) -> Rule {
        self.linked = true;
        #[cfg(test)]
        self.break_at_beginning();
        let has_session = self.terms.is_none() || self.session.keeps_session(self.now);
        let clean_session = self.clean_session || !has_session;
        self.tell(|| "link up".to_owned());
        self.record.link_up(clean_session);
        let connect = Connect {
            client_id: "c",
            clean_session,
            keep_alive: 10,
            credentials: None,
            last_will: None,
            terms: self.terms.as_ref(),
        };
        self.session.handle_link_up(&connect, self.now);
        self.look(&Cause::Other)
    }

    /// The link is lost or closed.
    pub(crate) fn lose_link(&mut self) -> Rule {
        if !self.linked {
            return Ok(());
        }
        self.linked = false;
        let end = match std::mem::take(&mut self.closing) {
            true => self.closing_end,
            false => LinkEnd::ByBroker,
        };
        self.tell(|| format!("link lost: {end:?}"));
        self.record.link_lost(end == LinkEnd::ByBroker);
        self.sent.clear();
        self.looked_at = 0;
        #[cfg(test)]
        if self.fault == Fault::CompanyForgotten {
            self.session.break_company();
        }
        if self.fault != Fault::LossUntold {
            self.session.handle_link_lost(end, self.now);
        }
        if !self.session.output().is_empty() || self.session.wants_commands() {
            return Err("the session goes on without a link".to_owned());
        }
        if self.fault == Fault::LossUntold {
            self.session.handle_link_lost(end, self.now);
        }
        #[cfg(test)]
        self.break_at_loss();
        self.look(&Cause::LinkLost)
    }

    /// The link takes at most this much of the output.
    pub(crate) fn transmit(&mut self, most: usize) -> Rule {
        let bytes = self.session.output().len().min(most);
        if !self.linked || bytes == 0 {
            return Ok(());
        }
        self.tell(|| format!("the link takes {bytes} bytes"));
        self.record.written(bytes);
        if bytes < self.session.output().len() {
            self.record.moves(bytes);
        }
        self.looked_at -= bytes;
        self.session.handle_written(bytes, self.now);
        self.look(&Cause::Written)
    }

    /// Time goes on; each timer that falls due on the way rings.
    pub(crate) fn wait(&mut self, time: Duration) -> Rule {
        let end = self.now + time;
        self.tell(|| format!("{time:?} pass"));
        while let Some(due) = self.session.next_timer().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.record.trials.now = self.now;
            self.tell(|| "a timer rings".to_owned());
            self.session.handle_timeout(self.now);
            self.look(&Cause::Timeout)?;
            if self.closing {
                // The link is about to go, and with it every timer.
                break;
            }
            if self.session.next_timer().is_some_and(|t| t <= self.now) {
                return Err("a timer that spins".to_owned());
            }
        }
        self.now = end;
        self.record.trials.now = end;
        Ok(())
    }

    /// Lets time pass until the next timer rings; says whether there is one.
    pub(crate) fn pass_timer(&mut self) -> Result<bool, String> {
        let Some(due) = self.session.next_timer() else {
            return Ok(false);
        };
        self.wait(due.saturating_duration_since(self.now))?;
        Ok(true)
    }

    /// Hands a packet to the session; says whether the session took it for a violation.
    pub(crate) fn receive(&mut self, packet: Incoming) -> Result<bool, String> {
        self.messages.clear();
        self.tell(|| format!("broker: {packet:?}"));
        // An acknowledgment, with its code.
        self.allowance += 5;
        let deliveries = match &packet {
            Incoming::Publish { id, message } => {
                usize::from(self.record.arrivals.verdict(*id, message) == Verdict::Deliver)
            }
            _ => 0,
        };
        #[cfg(test)]
        self.break_before(&packet);
        let is_free = match &packet {
            Incoming::PubRec(id) => self.session.is_free(*id),
            _ => false,
        };
        let cause = self.record.receives(&packet, is_free);
        let name = packet.name();
        let heard = match self.fault {
            Fault::RefusalIsReleased | Fault::RefusalUnheard => self.mishear(&packet),
            _ => packet.clone(),
        };
        let result = self.session.handle_packet(heard, self.now);
        #[cfg(test)]
        self.break_after(&packet);
        let is_connack = matches!(packet, Incoming::ConnAck { .. } | Incoming::ConnAck5(_));
        if is_connack && self.session.is_trying() {
            self.record.begins_trials();
        }
        match (cause, result) {
            (None, Err(_)) => {
                self.look(&Cause::Other)?;
                Ok(true)
            }
            (Some(cause), Ok(())) => {
                self.look(&cause)?;
                if let Cause::Packet(Incoming::Publish { message, .. }, _) = &cause
                    && self.messages.len() != deliveries
                {
                    let times = self.messages.len();
                    return Err(format!("{message:?} was delivered {times} times"));
                }
                self.record.handled()?;
                Ok(false)
            }
            (Some(_), Err(error)) => Err(format!("{name} was refused: {error}")),
            (None, Ok(())) => Err(format!("{name} was not refused")),
        }
    }

    /// The packet as a session hears it that does not listen to reason codes.
    fn mishear(&self, packet: &Incoming) -> Incoming {
        match packet {
            Incoming::Answered { packet, id, answer } if answer.code.is_failure() => match packet {
                Answering::PubRec if self.fault == Fault::RefusalIsReleased => {
                    Incoming::PubRec(*id)
                }
                Answering::PubAck if self.fault == Fault::RefusalUnheard => Incoming::PingResp,
                _ => Incoming::Answered {
                    packet: *packet,
                    id: *id,
                    answer: answer.clone(),
                },
            },
            other => other.clone(),
        }
    }

    /// So many bytes of a packet have come, and more are to come.
    pub(crate) fn receive_part(&mut self, bytes: usize) {
        self.record.moves(bytes);
        self.session.handle_unfinished(bytes, self.now);
    }

    /// The broker sent what it must not send: the link is closed.
    pub(crate) fn close_after_violation(&mut self) -> Rule {
        if self.session.break_off(ReasonCode::PROTOCOL_ERROR) {
            self.record.breaks_off();
            self.look(&Cause::Other)?;
            self.record.has_left()?;
        }
        if self.fault != Fault::ViolationIgnored {
            self.lose_link()?;
        }
        match self.linked {
            true => Err("a violation, and the link is still there".to_owned()),
            false => Ok(()),
        }
    }

    /// The loop ends, and so does every command.
    pub(crate) fn abandon(&mut self) -> Rule {
        self.session.abandon(Reason::Terminated);
        self.look(&Cause::Abandoned)?;
        match self.record.commands.len() {
            0 => Ok(()),
            open => Err(format!("{open} commands never ended")),
        }
    }
}

/// The rules see what follows. Faults between the session and the rules are committed here.
impl Harness {
    /// Looks at every event and at what is new in the output.
    fn look(&mut self, cause: &Cause) -> Rule {
        self.record.trials.is_trying = self.session.is_trying();
        while let Some(event) = self.session.poll_event() {
            self.look_at_event(event, cause)?;
        }
        self.record.has_said(cause)?;
        while self.session.output().len() > self.looked_at {
            self.look_at_packet()?;
        }
        self.record.nothing_is_due()?;
        let mut left = self.record.left.iter();
        if let Some(left) = left.find(|filter| self.session.is_subscribed(filter)) {
            return Err(format!(
                "{left} was unsubscribed, and the session goes on with it"
            ));
        }
        let (owed, identifiers) = self.session.acknowledgments_owed();
        if owed != identifiers {
            return Err(format!(
                "{identifiers} identifiers for {owed} acknowledgments owed"
            ));
        }
        if self.session.output().len() > self.allowance {
            return Err(format!(
                "more than {} bytes wait for the link",
                self.allowance
            ));
        }
        let waiting = self.record.arrivals.bytes_waiting();
        let counted = self.session.bytes_waiting();
        if waiting != counted {
            return Err(format!(
                "{waiting} bytes wait, the session counts {counted}"
            ));
        }
        let (open, unresolved) = (self.record.commands.len(), self.session.unresolved());
        if unresolved != open || (open > 0) != self.session.has_unresolved() {
            return Err(format!(
                "{open} have not ended, the session has {unresolved}"
            ));
        }
        let wants_requests = self.closing || self.takes_commands();
        let output = self.session.output().len();
        let in_flight = self.session.in_flight();
        self.record
            .requests_are_out(wants_requests, output, in_flight)?;
        match self.closing && !self.lingers {
            true => self.lose_link(),
            false => Ok(()),
        }
    }

    fn look_at_event(&mut self, mut event: Event<Token>, cause: &Cause) -> Rule {
        if let Event::Resolved { outcome, .. } = &mut event {
            match (self.fault, &outcome) {
                (Fault::RefusalUntold, Outcome::Refused { .. }) => {
                    *outcome = Outcome::delivered(1, Duration::ZERO);
                }
                (Fault::SentAndNeverSent, Outcome::PerhapsDelivered(reason)) => {
                    *outcome = Outcome::NeverSent(*reason);
                }
                _ => {}
            }
        }
        self.tell(|| format!("  {event:?}"));
        let kind = match &event {
            Event::Resolved { .. } if self.fault == Fault::OutcomeLost => return Ok(()),
            Event::GivenUp { .. } if self.fault == Fault::GivenUpUntold => return Ok(()),
            Event::Resolved { token, .. } => self.record.commands.get(token).map(|c| c.kind),
            _ => None,
        };
        self.record.says(&event, cause)?;
        match event {
            Event::Resolved { .. } if self.fault == Fault::OutcomeTwice => {
                self.record.says(&event, cause)?;
            }
            Event::Resolved { token, outcome, .. } => {
                self.ended.extend(kind.map(|kind| (token, kind, outcome)));
            }
            Event::Message { message, delivery } => {
                if self.fault == Fault::MessageTwice {
                    self.messages.push(Arc::clone(&message));
                }
                self.messages.push(message);
                match delivery {
                    Some(delivery) if self.fault == Fault::AcceptedByItself => {
                        self.session.accept(delivery);
                    }
                    delivery => self.unaccepted.extend(delivery),
                }
            }
            Event::Close(loss) => {
                self.closing = true;
                self.closing_end = loss.end();
            }
            Event::ConnectRefused(_) | Event::ConnectRefused5(_) => {
                self.closing = true;
                self.closing_end = LinkEnd::Otherwise;
            }
            Event::SubscriptionRefused { filter } => self.refused.push(filter),
            Event::Connected { .. }
            | Event::GivenUp { .. }
            | Event::Renewed { .. }
            | Event::Unread => {}
        }
        Ok(())
    }

    fn look_at_packet(&mut self) -> Rule {
        let output = &self.session.output()[self.looked_at..];
        if self.terms.is_some() {
            let (sent, length) = from_client5(output)?;
            tell(&mut self.told, || format!("  client: {:?}", sent.packet));
            self.record.sends5(&sent, length)?;
            self.sent
                .push_back(Bytes::copy_from_slice(&output[..length]));
            self.looked_at += length;
            return Ok(());
        }
        let (mut packet, length) = wire::from_client(output)?;
        tell(&mut self.told, || format!("  client: {packet:?}"));
        match (self.fault, &mut packet) {
            (Fault::NoDup, FromClient::Publish { dup, .. }) => *dup = false,
            (Fault::WrongAnswer, FromClient::PubAck(id)) => packet = FromClient::PubComp(*id),
            (Fault::ByteLost, _) => drop(wire::from_client(&output[1..])?),
            (Fault::WrongFlags, FromClient::PubRel(_)) => {
                wire::from_client(&[0x60, 2, output[2], output[3]])?;
            }
            _ => {}
        }
        self.record.sends(&packet, length)?;
        self.sent
            .push_back(Bytes::copy_from_slice(&output[..length]));
        self.looked_at += length;
        Ok(())
    }
}

#[cfg(test)]
impl Harness {
    /// Hashes everything that decides what happens next.
    pub(crate) fn hash_state(&self, state: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        self.session.hash_state(state);
        (&self.record, self.linked, self.closing).hash(state);
        self.closing_end.hash(state);
        (&self.sent, &self.unaccepted).hash(state);
    }
}
