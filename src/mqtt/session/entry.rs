//! One command on its way to its acknowledgment: its packet and how far it is.
//!
//! Nothing here knows the output, the link or another command. Pure; the loop's thread.

use std::slice;
use std::time::Instant;

use super::event::OnSessionLost;
use super::filters::{Served, Standing};
use super::outcome::{Outcome, Reason};
use super::suspects::Suspicion;
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::{Answer, Details, Filter, ProtocolError, QoS, ReasonCode};
use crate::mqtt::topic::shortened;

/// How many characters of a topic or filter a line shows.
const SHOWN_CHARACTERS: usize = 40;

/// Filters in one SUBSCRIBE or UNSUBSCRIBE (AWS IoT disconnects above 8).
pub(super) const FILTERS_PER_PACKET: usize = 8;

/// The filters of each SUBSCRIBE that asks for these: so many at most, and all with the same subscription identifier.
pub(super) fn packets(
    filters: &[Filter],
    most: usize,
) -> impl DoubleEndedIterator<Item = &[Filter]> {
    let same = |one: &Filter, other: &Filter| one.options.identifier == other.options.identifier;
    let same = filters.chunk_by(same);
    same.flat_map(move |same| same.chunks(most))
}

/// A command (or a renewed subscription) that awaits an acknowledgment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry<T> {
    /// `None` for a packet that the session sends on its own.
    pub(super) token: Option<T>,
    pub(super) body: Body,
    /// How often its packet was sent, all links together.
    pub(super) attempts: u32,
    /// Whether anything of it ever went out, or is about to: see `leaving.rs`.
    pub(super) ever_sent: bool,
    /// Whether the broker's present session may have seen it: then DUP is due [MQTT-3.3.1-1].
    pub(super) sent_in_session: bool,
    /// Whether it was sent on the present link.
    pub(super) on_this_link: bool,
    /// Whether the broker holds a QoS 2 message of an earlier life of this client under the same identifier, and
    /// PUBCOMP is awaited for it on the present link, too.
    pub(super) shares_identifier: bool,
    /// It is sent behind such a PUBREL on this link: once is enough, or both sides would go round for ever.
    pub(super) follows_release: bool,
    /// Whether it is a request that left although an older one for one of its filters was unanswered: that one was
    /// suspected, and stood without an answer.
    pub(super) has_overtaken: bool,
    /// Whether it counts among the PUBLISHes that the broker takes at one time: MQTT 5 only.
    pub(super) in_quota: bool,
    pub(super) since: Instant,
    /// When its packet left, or was encoded if it has not left yet, by the clock of answers.
    pub(super) sent: Instant,
    /// Where its packet ends in the output.
    pub(super) end: u64,
    pub(super) suspicion: Suspicion,
}

/// The packet that was sent, or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Body {
    /// Awaits PUBACK or, with QoS 2, PUBREC.
    Publish(Outgoing),
    /// PUBREC came and PUBREL was sent: awaits PUBCOMP. PUBRELs keep the order of their PUBRECs
    /// [MQTT-4.6.0-4].
    Release {
        order: u64,
        /// The broker's words in PUBREC.
        answer: Option<Box<Answer>>,
    },
    Subscribe(Box<Subscribing>),
    Unsubscribe(Box<Unsubscribing>),
    /// Nothing more is sent, and no answer counts: the command was given up, and the broker may still answer it.
    /// The identifier is free with the link, or with the session if the broker may hold it that long.
    GivenUp {
        until_session_ends: bool,
    },
}

/// Awaits SUBACK for the filters behind those that `granted` has the answers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subscribing {
    filters: Vec<Filter>,
    granted: Vec<Option<QoS>>,
    /// The broker's words on them so far.
    answer: Option<Box<Answer>>,
    pub(super) renewal: bool,
}

/// Awaits UNSUBACK for the filters from `done` on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Unsubscribing {
    filters: Vec<String>,
    done: usize,
    /// How many filters go into one packet.
    most: usize,
    /// Those that are subscribed if it is never sent. `None` with MQTT 3.1.1, and if nobody wants them any more.
    kept: Option<Vec<Served>>,
    /// The broker's words on those that are done.
    answer: Option<Box<Answer>>,
}

impl<T> Entry<T> {
    // An entry is large: it is made in its place.
    #[inline(always)]
    pub(super) fn new(token: Option<T>, body: Body, now: Instant) -> Self {
        Entry {
            token,
            body,
            attempts: 0,
            ever_sent: false,
            sent_in_session: false,
            on_this_link: false,
            shares_identifier: false,
            follows_release: false,
            has_overtaken: false,
            in_quota: false,
            since: now,
            sent: now,
            end: 0,
            suspicion: Suspicion::default(),
        }
    }

    /// A release of a QoS 2 message of an earlier life: nobody waits for its end.
    pub(super) fn release(next: &mut u64, now: Instant) -> Self {
        let order = *next;
        *next += 1;
        let answer = None;
        Entry::new(None, Body::Release { order, answer }, now)
    }

    /// How the command ends, now that the broker has answered all of it, the last time like this. Takes the answers of a
    /// SUBSCRIBE.
    #[inline(always)]
    pub(super) fn outcome(&mut self, answer: Option<Box<Answer>>, now: Instant) -> Outcome {
        let mut granted = Vec::new();
        let answer = match &mut self.body {
            Body::Publish(_) | Body::GivenUp { .. } => answer,
            Body::Release { answer: before, .. } => before.take().or(answer),
            Body::Subscribe(asked) => {
                let answer = asked.answer.take().or(answer);
                let answers = std::mem::take(&mut asked.granted);
                match answers.iter().copied().collect() {
                    Some(all) => granted = all,
                    None => {
                        let granted = answers;
                        return Outcome::Refused { granted, answer };
                    }
                }
                answer
            }
            Body::Unsubscribe(left) => left.answer.take().or(answer),
        };
        if let Some(words) = &answer
            && words.code.is_failure()
            && !matches!(self.body, Body::Release { .. } | Body::Subscribe(_))
        {
            let granted = Vec::new();
            return Outcome::Refused { granted, answer };
        }
        if self.body.is_publish(QoS::ExactlyOnce) {
            // PUBACK came, and PUBREC will not.
            return Outcome::PerhapsDelivered(Reason::AnsweredAsQos1);
        }
        Outcome::Delivered {
            attempts: self.attempts,
            latency: now.saturating_duration_since(self.since),
            granted,
            answer,
        }
    }

    /// The broker has lost the session.
    pub(super) fn handle_session_lost(&mut self) {
        self.sent_in_session = false;
        self.on_this_link = false;
        self.owe_filters();
    }

    /// The broker may have forgotten every filter.
    pub(super) fn owe_filters(&mut self) {
        if let Body::Unsubscribe(left) = &mut self.body {
            let kept = left.kept.iter_mut().flatten();
            kept.for_each(|(_, standing)| *standing = Standing::Owed);
        }
    }

    /// Whether it is a long request with further packets to come.
    pub(super) fn has_rest(&self) -> bool {
        let (left, next) = match &self.body {
            Body::Subscribe(asked) => (asked.left().len(), asked.packet().len()),
            Body::Unsubscribe(left) => (left.left().len(), left.packet().len()),
            Body::Publish(_) | Body::Release { .. } | Body::GivenUp { .. } => (0, 0),
        };
        left > next
    }

    /// Whether it is a long request of which a packet was answered, and more is to come.
    pub(super) fn is_rest(&self) -> bool {
        self.answered() > 0 && !self.is_answered()
    }

    /// Forgets the answers to a request, which is made once more.
    pub(super) fn forget_answers(&mut self) {
        match &mut self.body {
            Body::Subscribe(asked) => {
                asked.granted.clear();
                asked.answer = None;
            }
            Body::Unsubscribe(left) => {
                left.done = 0;
                left.answer = None;
            }
            Body::Publish(_) | Body::Release { .. } | Body::GivenUp { .. } => {}
        }
    }

    /// Whether it is a request whose filters were all answered.
    pub(super) fn is_answered(&self) -> bool {
        self.filters_left() == 0
    }

    /// Whether it is a message of QoS 0, which awaits nothing.
    pub(super) fn is_unacknowledged(&self) -> bool {
        self.body.is_publish(QoS::AtMostOnce)
    }

    /// Whether it is a message that awaits its first acknowledgment, if it has one.
    pub(super) fn is_publish(&self) -> bool {
        #[cfg(test)]
        count_look();
        matches!(self.body, Body::Publish(_))
    }

    /// Whether it is a SUBSCRIBE or an UNSUBSCRIBE.
    pub(super) fn is_request(&self) -> bool {
        #[cfg(test)]
        count_look();
        matches!(self.body, Body::Subscribe(_) | Body::Unsubscribe(_))
    }

    /// The bytes that it counts while it waits, if it is a message.
    pub(super) fn message_bytes(&self) -> usize {
        match &self.body {
            Body::Publish(message) => message.waiting_bytes(),
            _ => 0,
        }
    }

    /// Whether it is a QoS 2 message between PUBLISH and PUBCOMP.
    pub(super) fn is_exactly_once(&self) -> bool {
        self.is_release() || self.body.is_publish(QoS::ExactlyOnce)
    }

    pub(super) fn is_release(&self) -> bool {
        matches!(self.body, Body::Release { .. })
    }

    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.body, Body::GivenUp { .. })
    }

    pub(super) fn is_renewal(&self) -> bool {
        matches!(&self.body, Body::Subscribe(asked) if asked.renewal)
    }

    /// Whether its fate is unknown for good once the broker lost the session.
    pub(super) fn ends_with_session(&self, on_session_lost: OnSessionLost) -> bool {
        match &self.body {
            Body::Release { .. } => true,
            Body::Publish(message) => {
                self.sent_in_session
                    && (message.qos() == QoS::ExactlyOnce || on_session_lost == OnSessionLost::Fail)
            }
            Body::GivenUp { .. } => true,
            Body::Subscribe(_) | Body::Unsubscribe(_) => false,
        }
    }

    /// The filters of a SUBSCRIBE or an UNSUBSCRIBE.
    pub(super) fn filters(&self) -> impl Iterator<Item = &str> {
        #[cfg(test)]
        count_look();
        let (asked, left): (&[Filter], &[String]) = match &self.body {
            Body::Subscribe(asked) => (&asked.filters, &[]),
            Body::Unsubscribe(left) => (&[], &left.filters),
            Body::Publish(_) | Body::Release { .. } | Body::GivenUp { .. } => (&[], &[]),
        };
        let asked = asked.iter().map(|asked| asked.filter.as_str());
        asked.chain(left.iter().map(String::as_str))
    }

    /// The filters that decide whether it may be sent: all of a new request, and those of the next packet of a rest.
    pub(super) fn filters_to_send(&self) -> impl Iterator<Item = &str> {
        let most = match self.is_rest() {
            true => FILTERS_PER_PACKET,
            false => usize::MAX,
        };
        self.filters().skip(self.answered()).take(most)
    }

    /// How many of its filters were answered.
    fn answered(&self) -> usize {
        match &self.body {
            Body::Subscribe(asked) => asked.granted.len(),
            Body::Unsubscribe(left) => left.done,
            Body::Publish(_) | Body::Release { .. } | Body::GivenUp { .. } => 0,
        }
    }

    fn filters_left(&self) -> usize {
        match &self.body {
            Body::Subscribe(asked) => asked.left().len(),
            Body::Unsubscribe(left) => left.left().len(),
            Body::Publish(_) | Body::Release { .. } | Body::GivenUp { .. } => 0,
        }
    }
}

impl Body {
    /// PUBREC came: the message is dropped, and its release takes the next place in the order of PUBRELs.
    pub(super) fn release(&mut self, next: &mut u64, answer: Option<Box<Answer>>) {
        let order = *next;
        *self = Body::Release { order, answer };
        *next += 1;
    }

    /// Whether it is a message of this quality of service that awaits its first acknowledgment.
    pub(super) fn is_publish(&self, qos: QoS) -> bool {
        matches!(self, Body::Publish(message) if message.qos() == qos)
    }

    /// For people: the packet and its topic, or the first of its filters that are not answered.
    pub(super) fn name(&self) -> String {
        let first = |name: &str, count: usize| match count {
            1 => shortened(name, SHOWN_CHARACTERS),
            more => format!(
                "{} and {} more",
                shortened(name, SHOWN_CHARACTERS),
                more - 1
            ),
        };
        match self {
            Body::Publish(message) => format!("PUBLISH to {}", first(message.topic(), 1)),
            Body::Release { .. } => "PUBREL".to_owned(),
            Body::Subscribe(asked) => {
                let left = asked.left();
                let name = left.first().map_or("", |asked| asked.filter.as_str());
                format!("SUBSCRIBE to {}", first(name, left.len()))
            }
            Body::Unsubscribe(left) => {
                let left = left.left();
                let name = left.first().map_or("", String::as_str);
                format!("UNSUBSCRIBE from {}", first(name, left.len()))
            }
            Body::GivenUp { .. } => "a command that was given up".to_owned(),
        }
    }
}

impl Subscribing {
    pub(super) fn new(filters: Vec<Filter>, renewal: bool) -> Box<Self> {
        Box::new(Subscribing {
            filters,
            granted: Vec::new(),
            answer: None,
            renewal,
        })
    }

    /// Whether there is an answer to each filter of the present packet.
    pub(super) fn check(&self, answers: &[Option<QoS>]) -> Result<(), ProtocolError> {
        let expected = self.packet().len();
        if answers.len() == expected {
            return Ok(());
        }
        Err(ProtocolError::unexpected(
            "SUBACK",
            format!("{} return codes for {expected} filters", answers.len()),
            "MQTT-3.9.3-1",
        ))
    }

    /// The answers to the filters of the present packet.
    pub(super) fn answer(&mut self, answers: &[Option<QoS>], words: Option<Box<Answer>>) {
        let before = self.granted.len();
        self.granted.extend_from_slice(answers);
        if words.is_none() && self.answer.is_none() {
            return;
        }
        // With MQTT 5 a packet may have said no more than yes: each filter has its code all the same.
        let mut all = match self.answer.take() {
            Some(all) => all,
            None => Box::new(granting(&self.granted[..before])),
        };
        all.append(words.map_or_else(|| granting(answers), |words| *words));
        self.answer = Some(all);
    }

    /// The broker has lost this filter, and does not grant it again.
    pub(super) fn withdraw(&mut self, filter: &str) {
        for (place, granted) in self.granted.iter_mut().enumerate() {
            if self.filters[place].filter != filter || granted.take().is_none() {
                continue;
            }
            if let Some(answer) = &mut self.answer {
                answer.codes[place] = ReasonCode::new(0x80);
                let codes = std::mem::take(&mut answer.codes);
                **answer = Answer::of_each(codes, std::mem::take(&mut answer.details));
            }
        }
    }

    /// The filters of the present packet: all have the same subscription identifier.
    pub(super) fn packet(&self) -> &[Filter] {
        let left = self.left();
        let next = &left[..left.len().min(FILTERS_PER_PACKET)];
        packets(next, FILTERS_PER_PACKET).next().unwrap_or_default()
    }

    /// The filters that are not answered.
    fn left(&self) -> &[Filter] {
        &self.filters[self.granted.len()..]
    }
}

impl Unsubscribing {
    /// The filters in `kept` are subscribed if it is never sent.
    pub(super) fn new(filters: Vec<String>, kept: Option<Vec<Served>>) -> Box<Self> {
        Box::new(Unsubscribing {
            filters,
            done: 0,
            most: FILTERS_PER_PACKET,
            kept,
            answer: None,
        })
    }

    /// These, too, are subscribed if it is never sent, unless nobody wants them any more.
    pub(super) fn keep(&mut self, served: Vec<Served>) {
        if let Some(kept) = &mut self.kept {
            kept.extend(served);
        }
    }

    /// It is never sent. Returns what stays subscribed, or `None` where nobody wants its filters any more.
    pub(super) fn take_kept(&mut self) -> Option<Vec<Served>> {
        self.kept.take()
    }

    /// Leaves out the filters that are too large for any packet, if nobody wants them any more and others are left. Returns
    /// them.
    pub(super) fn leave_out<L>(&mut self, limit: impl Fn(&[String]) -> Option<L>) -> Vec<String> {
        let is_too_large = |filter: &String| limit(slice::from_ref(filter)).is_some();
        if self.kept.is_some() || self.left().iter().all(&is_too_large) {
            return Vec::new();
        }
        let left = self.filters.split_off(self.done);
        let (out, rest): (_, Vec<_>) = left.into_iter().partition(is_too_large);
        self.filters.extend(rest);
        out
    }

    /// The broker does not take the present packet: each filter that is left gets a packet of its own.
    pub(super) fn send_one_by_one(&mut self) {
        self.most = 1;
    }

    /// Whether there is an answer to each filter of the present packet [MQTT-3.11.3-1].
    pub(super) fn check(&self, words: &Answer) -> Result<(), ProtocolError> {
        let expected = self.packet().len();
        if words.codes.len() == expected {
            return Ok(());
        }
        Err(ProtocolError::unexpected(
            "UNSUBACK",
            format!("{} reason codes for {expected} filters", words.codes.len()),
            "MQTT-3.11.3-1",
        ))
    }

    /// The present packet was answered.
    pub(super) fn answer(&mut self, words: Option<Box<Answer>>) {
        self.done += self.packet().len();
        add_words(&mut self.answer, words);
    }

    /// The filters of the present packet.
    pub(super) fn packet(&self) -> &[String] {
        let left = self.left();
        &left[..left.len().min(self.most)]
    }

    /// The filters that are not answered.
    pub(super) fn left(&self) -> &[String] {
        &self.filters[self.done..]
    }
}

/// The answer of a packet that says no more than this.
fn granting(granted: &[Option<QoS>]) -> Answer {
    let code = |qos: &Option<QoS>| qos.map_or(0x80, |qos| qos as u8);
    let codes = granted.iter().map(|qos| ReasonCode::new(code(qos)));
    Answer::of_each(codes.collect(), Details::default())
}

fn add_words(all: &mut Option<Box<Answer>>, more: Option<Box<Answer>>) {
    match (all, more) {
        (Some(all), Some(more)) => all.append(*more),
        (all, more) => *all = more.or(all.take()),
    }
}

#[cfg(test)]
thread_local! {
    static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
fn count_look() {
    LOOKS.set(LOOKS.get() + 1);
}

/// How often a command was looked at by the thread of this test, to see what it is.
#[cfg(test)]
pub(super) fn looks() -> usize {
    LOOKS.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| number.to_string()).collect()
    }

    #[test]
    fn a_long_subscribe_is_answered_packet_by_packet() {
        let filters = names(10).into_iter();
        let filters = filters.map(|name| Filter::new(name, QoS::AtLeastOnce));
        let body = Body::Subscribe(Subscribing::new(filters.collect(), false));
        let mut entry = Entry::new(Some(1), body, Instant::now());
        assert!(entry.is_request() && entry.has_rest());
        for (answers, answered) in [(8, false), (2, true)] {
            let Body::Subscribe(asked) = &mut entry.body else {
                panic!("a SUBSCRIBE");
            };
            assert_eq!(asked.packet().len(), answers);
            asked.answer(&vec![Some(QoS::AtMostOnce); answers], None);
            assert!(!entry.has_rest());
            assert_eq!(entry.is_answered(), answered);
        }
        let Outcome::Delivered { granted, .. } = entry.outcome(None, entry.since) else {
            panic!("all were granted");
        };
        assert_eq!(granted, [QoS::AtMostOnce; 10]);
    }

    #[test]
    fn a_long_unsubscribe_is_answered_packet_by_packet() {
        let body = Body::Unsubscribe(Unsubscribing::new(names(9), None));
        let mut entry = Entry::new(Some(1), body, Instant::now());
        for (answers, answered) in [(8, false), (1, true)] {
            let Body::Unsubscribe(left) = &mut entry.body else {
                panic!("an UNSUBSCRIBE");
            };
            assert_eq!(left.packet().len(), answers);
            left.answer(None);
            assert_eq!(entry.is_answered(), answered);
        }
    }

    #[test]
    fn one_refused_filter_refuses_the_command() {
        let filters = vec![Filter::new("a", QoS::AtLeastOnce); 2];
        let mut asked = Subscribing::new(filters, false);
        let answers = vec![Some(QoS::AtLeastOnce), None];
        asked.answer(&answers, None);
        let mut entry = Entry::new(Some(1), Body::Subscribe(asked), Instant::now());
        let refused = Outcome::Refused {
            granted: answers,
            answer: None,
        };
        assert_eq!(entry.outcome(None, entry.since), refused);
    }
}
