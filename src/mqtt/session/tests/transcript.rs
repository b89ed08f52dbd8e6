//! The harness of the transcripts: commands, packets on the wire and events, line by line. Pure; for tests only.
//!
//! Time is simulated: `at(5)` is five milliseconds after the beginning, and a timer that falls due on the way
//! rings on the way. The bytes of the output show which packets the session sends. Every step checks that no
//! token comes back twice. [`Transcript::finish`] checks that each came back once.
//!
//! | row of defects of the original | where it is held off |
//! |---|---|
//! | 1, 2, 10, 11 | `client/fanout/tests.rs`, with the real inboxes and table |
//! | 3, 4, 14 to 18 | tests of the loop, of the backoff and of the demo; 18 (the session's part) `ending.rs` |
//! | 5, 12, 13 | `publishing.rs` |
//! | 6 | `subscribing.rs` |
//! | 7 | `resuming.rs` |
//! | 8, 9 | `renewing.rs` |
//! | 19 | `timing.rs` |
//!
//! The names of the tests contain the conformance clauses that they prove, as `3_8_3_3`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::v4;

use super::packets::{connack, outcome_text, packet_text, packet_text5, puback, suback};
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::{
    Connect, ConnectReturnCode, ConnectTerms, Filter, Incoming, Publish, QoS, ReasonCode,
};
use crate::mqtt::rate::RateLimits;
use crate::mqtt::session::{
    DeliveryId, Event, LinkEnd, LinkLoss, OnSessionLost, Outcome, Reason, Session, SessionOptions,
};
use crate::mqtt::v5::tests::wire::from_client5;

/// A test that takes longer does more work than it should.
pub(super) const HANG: Duration = Duration::from_secs(30);

pub(super) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Names a command that was handed in, in the order in which they were.
pub(super) type Token = u32;

/// A session, its link and its clock.
pub(crate) struct Transcript {
    pub(super) session: Session<Token>,
    pub(super) clean_session: bool,
    /// The terms of CONNECT of MQTT 5; without them the link speaks MQTT 3.1.1.
    pub(super) terms: Option<ConnectTerms>,
    pub(super) base: Instant,
    pub(super) now: Instant,
    /// Whether the link takes no bytes.
    pub(super) stalled: bool,
    /// Bytes that the link took and that are not a whole packet yet.
    pub(super) partial: BytesMut,
    pub(super) sent: VecDeque<v4::Packet>,
    /// As text, in place of `sent` where the link speaks MQTT 5.
    pub(super) sent5: VecDeque<String>,
    pub(super) next_token: Token,
    pub(super) open: BTreeSet<Token>,
    pub(super) outcomes: BTreeMap<Token, Outcome>,
    pub(super) connected: Option<(bool, usize)>,
    pub(super) messages: VecDeque<(String, Option<DeliveryId>)>,
    /// Renewals refused, refusals of CONNECT and reasons to close the link.
    pub(super) notes: VecDeque<String>,
    /// Filters whose renewal was granted.
    pub(super) renewed: Vec<String>,
    /// Commands that were given up.
    pub(super) given_up: Vec<String>,
}

/// Small time-outs, and as many identifiers as the standard has.
pub(super) fn options() -> SessionOptions {
    SessionOptions {
        max_inflight: 10,
        max_inflight_qos2: 10,
        ack_timeout: Duration::from_secs(20),
        keep_alive: Duration::from_secs(60),
        on_session_lost: OnSessionLost::Republish,
        identifiers: u16::MAX,
        max_waiting_bytes: usize::MAX,
        max_waiting: usize::MAX,
        rate: RateLimits::default(),
        suspected_after: 3,
        given_up_after: 5,
        first_identifier: 0,
    }
}

/// Builders: each reaches a state in one line, with nothing left to claim.
impl Transcript {
    /// No link yet.
    pub(super) fn with(change: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut options = options();
        change(&mut options);
        let now = Instant::now();
        Transcript {
            session: Session::new(options, now),
            clean_session: false,
            terms: None,
            base: now,
            now,
            stalled: false,
            partial: BytesMut::new(),
            sent: VecDeque::new(),
            sent5: VecDeque::new(),
            next_token: 0,
            open: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            connected: None,
            messages: VecDeque::new(),
            notes: VecDeque::new(),
            renewed: Vec::new(),
            given_up: Vec::new(),
        }
    }

    pub(super) fn connected_with(change: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut t = Transcript::with(change);
        t.links_up().connack(false).renewing(0);
        t
    }

    pub(crate) fn connected() -> Self {
        Transcript::connected_with(|_| {})
    }

    /// QoS 1 publishes to `t` with payloads 1 to `n` are out, under the identifiers 1 to `n`.
    pub(super) fn in_flight(n: u16) -> Self {
        let mut t = Transcript::connected();
        for id in 1..=n {
            t.publish("t", 1, &id.to_string());
            t.sends(&format!("PUBLISH id={id} qos=1 t {:?}", id.to_string()));
        }
        t
    }

    /// These filters are granted as asked for.
    pub(crate) fn subscribed(filters: &[(&str, u8)]) -> Self {
        Transcript::connected().and_subscribed(filters)
    }

    pub(super) fn and_subscribed(mut self, filters: &[(&str, u8)]) -> Self {
        let token = self.subscribe(filters);
        for packet in filters.chunks(8) {
            let Some(v4::Packet::Subscribe(sent)) = self.sent.pop_front() else {
                panic!("no SUBSCRIBE");
            };
            let granted: Vec<_> = packet.iter().map(|(_, qos)| Some(*qos)).collect();
            self.receives(suback(sent.pkid, &granted));
        }
        assert!(self.outcomes.remove(&token).unwrap().is_delivered());
        self
    }
}

/// Everything that can be done to the session.
impl Transcript {
    /// Lets time pass until this many milliseconds after the beginning.
    pub(super) fn at(&mut self, milliseconds: u64) -> &mut Self {
        let target = self.base + Duration::from_millis(milliseconds);
        assert!(self.now <= target, "time goes on");
        while let Some(due) = self.session.next_timer().filter(|due| *due <= target) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            let closing = self.step();
            let again = self.session.next_timer();
            assert!(
                closing || again.is_none_or(|again| again > self.now),
                "a timer that spins"
            );
            if closing {
                break;
            }
        }
        self.now = target;
        self
    }

    /// A link is there; CONNECT goes out and nothing else.
    pub(super) fn links_up(&mut self) -> &mut Self {
        let has_session = self.terms.is_none() || self.session.keeps_session(self.now);
        let connect = Connect {
            client_id: "me",
            clean_session: self.clean_session || !has_session,
            keep_alive: 60,
            last_will: None,
            credentials: None,
            terms: self.terms.as_ref(),
        };
        self.session.handle_link_up(&connect, self.now);
        let clean = u8::from(connect.clean_session);
        self.step();
        self.sends(&format!("CONNECT clean={clean} keep=60"))
    }

    pub(super) fn connack(&mut self, session_present: bool) -> &mut Self {
        self.receives(connack(session_present, ConnectReturnCode::Accepted));
        assert_eq!(
            self.connected.map(|(present, _)| present),
            Some(session_present)
        );
        self
    }

    /// The broker closes the link.
    pub(super) fn loses_link(&mut self) -> &mut Self {
        self.ends_link(LinkEnd::ByBroker)
    }

    pub(super) fn ends_link(&mut self, end: LinkEnd) -> &mut Self {
        self.session.handle_link_lost(end, self.now);
        self.partial.clear();
        self.step();
        self
    }

    /// The link is lost and made anew.
    pub(super) fn reconnects(&mut self, session_present: bool) -> &mut Self {
        self.loses_link().links_up().connack(session_present)
    }

    pub(super) fn publish(&mut self, topic: &str, qos: usize, payload: &str) -> Token {
        let publish = Publish::new(topic, QOS[qos], payload.to_owned());
        self.command(|session, token, now| session.publish(publish.into(), token, now))
    }

    /// A message whose expiry counts from now.
    pub(super) fn publish_all(&mut self, publish: Publish) -> Token {
        let outgoing = Outgoing::pushed(publish, self.now);
        self.command(|session, token, now| session.publish(outgoing, token, now))
    }

    pub(super) fn subscribe_with(&mut self, filters: Vec<Filter>) -> Token {
        self.command(|session, token, now| session.subscribe(filters, token, now))
    }

    pub(super) fn subscribe(&mut self, filters: &[(&str, u8)]) -> Token {
        let filters = filters
            .iter()
            .map(|(filter, qos)| Filter::new(*filter, QOS[usize::from(*qos)]))
            .collect();
        self.command(|session, token, now| session.subscribe(filters, token, now))
    }

    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Token {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        self.command(|session, token, now| session.unsubscribe(filters, token, now))
    }

    pub(super) fn leave(&mut self, filters: &[&str]) -> Token {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        self.command(|session, token, now| session.leave(filters, token, now))
    }

    pub(super) fn ping(&mut self) -> Token {
        self.command(Session::ping)
    }

    pub(super) fn disconnect(&mut self) -> &mut Self {
        self.session.disconnect(ReasonCode::SUCCESS);
        self.step();
        self
    }

    pub(super) fn abandon(&mut self) -> &mut Self {
        self.session.abandon(Reason::Terminated);
        self.step();
        self
    }

    pub(super) fn accept(&mut self, delivery: DeliveryId) -> &mut Self {
        self.session.accept(delivery);
        self.step();
        self
    }

    /// The message waits on, and is to count as accepted. Says whether it does.
    pub(super) fn accept_early(&mut self, delivery: DeliveryId) -> bool {
        let accepted = self.session.accept_early(delivery, 1);
        self.step();
        accepted
    }

    pub(crate) fn receives(&mut self, packet: Incoming) -> &mut Self {
        let name = packet.name();
        let result = self.session.handle_packet(packet, self.now);
        assert_eq!(result, Ok(()), "{name}");
        self.step();
        self
    }

    /// So many bytes of a packet have come, and more are to come.
    pub(super) fn receives_part(&mut self, bytes: usize) -> &mut Self {
        self.session.handle_unfinished(bytes, self.now);
        self.step();
        self
    }

    /// The broker sends what it must not send; gives the violated clause.
    pub(super) fn refuses(&mut self, packet: Incoming) -> &'static str {
        let error = self.session.handle_packet(packet, self.now).unwrap_err();
        self.step();
        error.rule()
    }

    /// The broker sends what it must not send. The session says so, and the link is to be closed. Gives the violated
    /// clause.
    pub(super) fn breaks_off(&mut self, packet: Incoming) -> &'static str {
        let error = self.session.handle_packet(packet, self.now).unwrap_err();
        assert!(self.session.break_off(error.answer()));
        self.step();
        error.rule()
    }

    /// The link takes this many bytes and then no more until [`Transcript::flows`].
    pub(super) fn stalls_after(&mut self, bytes: usize) -> &mut Self {
        self.stalled = false;
        self.take(bytes);
        self.stalled = true;
        self.step();
        self
    }

    pub(super) fn flows(&mut self) -> &mut Self {
        self.stalled = false;
        self.step();
        self
    }

    fn command(&mut self, submit: impl FnOnce(&mut Session<Token>, Token, Instant)) -> Token {
        let wants_requests = self.terms.is_some() && self.session.wants_requests();
        assert!(
            self.session.wants_commands() || wants_requests,
            "the session takes no command now"
        );
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(token);
        submit(&mut self.session, token, self.now);
        self.step();
        token
    }
}

/// Claims about what follows.
impl Transcript {
    /// The next packet on the wire.
    pub(crate) fn sends(&mut self, packet: &str) -> &mut Self {
        let sent = self.sent.pop_front().as_ref().map(packet_text);
        let sent = sent.or_else(|| self.sent5.pop_front());
        assert_eq!(sent.as_deref(), Some(packet));
        self
    }

    pub(super) fn sends_all(&mut self, packets: &[&str]) -> &mut Self {
        for packet in packets {
            self.sends(packet);
        }
        self
    }

    pub(super) fn resolved(&mut self, token: Token, outcome: &str) -> &mut Self {
        let told = self.outcomes.remove(&token);
        assert_eq!(
            told.as_ref().map(outcome_text).as_deref(),
            Some(outcome),
            "command {token}"
        );
        self
    }

    /// The message that is next to be delivered, and what is to be accepted.
    pub(crate) fn delivers(&mut self, message: &str) -> Option<DeliveryId> {
        let (text, delivery) = self.messages.pop_front().expect("a message");
        assert_eq!(text, message);
        delivery
    }

    pub(super) fn notes(&mut self, note: &str) -> &mut Self {
        assert_eq!(self.notes.pop_front().as_deref(), Some(note));
        self
    }

    /// CONNACK was taken, and so many subscriptions are being renewed.
    pub(super) fn renewing(&mut self, filters: usize) -> &mut Self {
        assert_eq!(
            self.connected.take().map(|(_, renewing)| renewing),
            Some(filters)
        );
        self
    }

    /// Nothing more is sent or told.
    pub(crate) fn silent(&mut self) -> &mut Self {
        let sent: Vec<_> = self.sent.iter().map(packet_text).collect();
        assert_eq!(sent, [""; 0]);
        assert_eq!(self.sent5, [""; 0]);
        assert_eq!(self.outcomes, BTreeMap::new());
        assert!(self.messages.is_empty(), "{:?}", self.messages);
        assert!(self.notes.is_empty(), "{:?}", self.notes);
        self
    }

    pub(super) fn wants_commands(&self) -> bool {
        self.session.wants_commands()
    }

    /// Milliseconds after the beginning.
    pub(super) fn next_timer(&self) -> Option<u64> {
        let due = self.session.next_timer()?;
        Some(due.duration_since(self.base).as_millis() as u64)
    }

    /// Nothing is left to claim, and when everything is given up each command has ended once.
    pub(crate) fn finish(&mut self) {
        self.silent();
        self.loses_link().abandon();
        assert_eq!(self.open, BTreeSet::new(), "commands that never ended");
        assert_eq!(self.session.unresolved(), 0);
        assert!(!self.session.has_unresolved());
    }

    /// Moves bytes over the link and takes all events. Says whether the link is to be closed.
    pub(super) fn step(&mut self) -> bool {
        let mut closing = false;
        loop {
            let mut busy = false;
            if !self.stalled && !self.session.output().is_empty() {
                self.take(usize::MAX);
                busy = true;
            }
            while let Some(event) = self.session.poll_event() {
                busy = true;
                closing |= matches!(event, Event::Close(_));
                self.on_event(event);
            }
            if !busy {
                return closing;
            }
        }
    }

    /// The link takes at most so many bytes.
    fn take(&mut self, bytes: usize) {
        let output = self.session.output();
        let taken = output.len().min(bytes);
        self.partial.extend_from_slice(&output[..taken]);
        if taken > 0 {
            self.session.handle_written(taken, self.now);
        }
        while self.terms.is_some() && !self.partial.is_empty() {
            match from_client5(&self.partial) {
                Ok((packet, length)) => {
                    self.sent5.push_back(packet_text5(&packet));
                    self.partial.advance(length);
                }
                Err(error) if error.contains("sends half a") => return,
                Err(error) => panic!("{error}"),
            }
        }
        while !self.partial.is_empty() {
            match v4::Packet::read(&mut self.partial, 1 << 20) {
                Ok(packet) => self.sent.push_back(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => return,
                Err(error) => panic!("bytes that are no packet: {error:?}"),
            }
        }
    }

    fn on_event(&mut self, event: Event<Token>) {
        match event {
            Event::Connected {
                session_present,
                resubscribing,
            } => self.connected = Some((session_present, resubscribing)),
            Event::ConnectRefused(code) => self.notes.push_back(format!("refused {code:?}")),
            Event::ConnectRefused5(connack) => {
                self.notes.push_back(format!("refused {}", connack.code));
            }
            Event::Resolved { token, outcome, .. } => {
                assert!(self.open.remove(&token), "{token} ended twice: {outcome}");
                self.outcomes.insert(token, outcome);
            }
            Event::Message { message, delivery } => {
                let payload = String::from_utf8_lossy(message.payload());
                let text = format!("{} {payload:?}", message.topic());
                self.messages.push_back((text, delivery));
            }
            Event::SubscriptionRefused { filter } => {
                self.notes.push_back(format!("not renewed {filter}"));
            }
            Event::Renewed { filters } => self.renewed.extend(filters),
            Event::GivenUp { command, .. } => self.given_up.push(command),
            Event::Unread => self.notes.push_back("unread".to_owned()),
            Event::Close(LinkLoss::Protocol(error)) => panic!("{error}"),
            Event::Close(LinkLoss::AckTimeout(id)) => {
                self.notes.push_back(format!("close AckTimeout {id}"));
            }
            Event::Close(LinkLoss::Disconnected(said)) => {
                let code = said.code.value();
                self.notes
                    .push_back(format!("close DISCONNECT 0x{code:02X}"));
            }
            Event::Close(loss) => self.notes.push_back(format!("close {loss:?}")),
        }
    }
}

/// The harness itself: a publish that is acknowledged, packet by packet.
#[test]
fn a_transcript_reads_like_a_capture() {
    let mut t = Transcript::with(|_| {});
    t.silent();
    t.links_up().silent();
    t.connack(false).renewing(0).silent();
    let token = t.at(5).publish("a", 1, "x");
    t.sends("PUBLISH id=1 qos=1 a \"x\"").silent();
    t.at(12).receives(puback(1));
    t.resolved(token, "delivered x1").silent();
    t.finish();
}
