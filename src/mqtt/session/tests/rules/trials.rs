//! The counts against each command, and the packets that may be sent while one is tried alone. Pure.
//!
//! The record counts as the session has to: a command may be given up only if the broker closed so many links while
//! it was unanswered, and the last of them with nothing but it on its way, or if it stood unanswered while the broker
//! answered another one. Where the record cannot know what the session counts, it counts for giving up, and against a
//! trial that is due.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Rule;
use super::record::Token;
use crate::mqtt::session::{Reason, SessionOptions};

/// Every trial link stands idle for so long at least, so a close that is sooner counts.
const SHORTEST_IDLE: Duration = Duration::from_millis(250);

/// No trial link stands idle for longer.
const LONGEST_IDLE: Duration = Duration::from_secs(60);

/// A close that comes later counts only where the packet had left.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A packet that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Tried {
    /// A PUBLISH, or PUBREL for it.
    Message(Token),
    /// PUBREL that no command waits for.
    Release,
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
}

/// Something that is counted against. The losses with a renewal go on with its filter, and one command follows the
/// other with the same filter, so nothing sets the counts of a filter to 0 but a link that does not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Message(Token),
    Release(u16),
    Subscribe(String),
    Unsubscribe(String),
}

/// The counts against a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Against {
    /// Losses that count for sure.
    losses: u32,
    /// The same, and each link on which its answer was late.
    at_most: u32,
    alone: u32,
    /// Links on which it and others stood, and took all that the broker takes at one time: at most, and for sure.
    filled: u32,
    filled_for_sure: u32,
}

/// A packet that awaits its answer on this link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Awaited {
    /// `None` if its command has ended.
    tried: Option<Tried>,
    begin: usize,
    end: usize,
    /// Whether the link took any byte of it, and all.
    touched: bool,
    has_left: bool,
    /// Whether it left in its turn, and not because PUBREC came.
    is_tried: bool,
    /// Whether it may be tried although it left because PUBREC came: nothing else was.
    may_be_tried: bool,
    since: Instant,
}

/// The record of the trials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Trials {
    suspected_after: u32,
    given_up_after: u32,
    ack_timeout: Duration,
    pub(super) now: Instant,
    /// Whether the session says that the link is a trial link.
    pub(super) is_trying: bool,
    up_since: Instant,
    /// When the first packet was tried on this link.
    idle_until: Option<Instant>,
    /// How long trial links have lived at least, since one on which a command was answered.
    longest_life: Duration,
    has_pong: bool,
    /// Whether a command was answered on this link.
    has_answer: bool,
    /// Whether anything left on this trial link out of turn, and whether anything may have.
    has_company: bool,
    may_have_company: bool,
    /// Whether the last trial link may have ended on its own, and whether the one before this one may have: then this
    /// one may be an ordinary one.
    lets_pass: bool,
    is_passed: bool,
    /// The packet that has just come answers a command that was sent on this link. PUBCOMP does not count.
    pub(super) has_witness: bool,
    /// The packet that was tried on the link that has just been lost, if it may be given up because of that.
    guilty: Option<(u16, Tried)>,
    /// Commands that the session has just given up, by their names. Their outcomes are still to be told.
    given_up: Vec<String>,
    /// PUBRELs that are due at once and await PUBCOMP from then on, and whether the PUBLISH before it was tried. One that
    /// answers a repeated PUBREC is none of them: it is on its way in its turn already, or will be.
    releases_due: BTreeMap<u16, (Tried, bool)>,
    against: BTreeMap<Key, Against>,
    awaited: BTreeMap<u16, Awaited>,
}

impl Tried {
    fn keys(&self, id: u16) -> Vec<Key> {
        match self {
            Tried::Message(token) => vec![Key::Message(*token)],
            Tried::Release => vec![Key::Release(id)],
            Tried::Subscribe(filters) => filters.iter().cloned().map(Key::Subscribe).collect(),
            Tried::Unsubscribe(filters) => filters.iter().cloned().map(Key::Unsubscribe).collect(),
        }
    }
}

impl Trials {
    pub(super) fn new(options: &SessionOptions, now: Instant) -> Self {
        Trials {
            suspected_after: options.suspected_after,
            given_up_after: options.given_up_after,
            ack_timeout: options.ack_timeout,
            now,
            is_trying: false,
            up_since: now,
            idle_until: None,
            longest_life: Duration::ZERO,
            has_pong: false,
            has_answer: false,
            has_company: false,
            may_have_company: false,
            lets_pass: false,
            is_passed: false,
            has_witness: false,
            guilty: None,
            given_up: Vec::new(),
            releases_due: BTreeMap::new(),
            against: BTreeMap::new(),
            awaited: BTreeMap::new(),
        }
    }

    /// CONNACK came.
    pub(super) fn connected(&mut self) {
        self.up_since = self.now;
        self.idle_until = None;
        self.has_pong = false;
        self.has_answer = false;
        self.has_company = false;
        self.may_have_company = false;
        self.is_passed = std::mem::take(&mut self.lets_pass);
        self.releases_due.clear();
    }

    /// The broker kept the session: this PUBREL is to be sent again.
    pub(super) fn resumes(&mut self, id: u16, tried: Tried) {
        self.releases_due.insert(id, (tried, false));
    }

    /// The link is a trial link: PUBRELs wait for their turn.
    pub(super) fn begins(&mut self) {
        self.releases_due.clear();
    }

    /// Whether it is a trial link on which nothing was tried yet.
    pub(super) fn stands_idle(&self) -> bool {
        self.is_trying && self.idle_until.is_none()
    }

    /// PINGRESP came.
    pub(super) fn pong(&mut self) {
        self.has_pong = true;
    }

    /// A packet that is answered under this identifier is put into the output, in these places.
    ///
    /// # Errors
    /// If a PUBLISH is suspected, and the link does not stand idle or another packet is tried.
    pub(super) fn sends(&mut self, id: u16, tried: Tried, begin: usize, end: usize) -> Rule {
        self.may_send()?;
        if self.is_trying && self.idle_until.is_none() {
            let idle = self.now.saturating_duration_since(self.up_since);
            let least = (self.longest_life + self.longest_life / 2).min(LONGEST_IDLE);
            if idle < least.max(SHORTEST_IDLE) {
                return Err(format!("the trial link has stood idle for {idle:?} only"));
            }
            self.idle_until = Some(self.now);
        }
        self.awaits(id, tried, (begin, end), true);
        Ok(())
    }

    /// As [`Trials::sends`], for PUBREL that is sent at once.
    pub(super) fn answers(&mut self, id: u16, begin: usize, end: usize) {
        if let Some((tried, is_tried)) = self.releases_due.remove(&id) {
            self.awaits(id, tried, (begin, end), is_tried);
        }
    }

    /// A QoS 0 PUBLISH is put into the output.
    ///
    /// # Errors
    /// As [`Trials::sends`].
    pub(super) fn sends_unacknowledged(&mut self) -> Rule {
        self.has_company |= self.is_trying;
        self.may_have_company |= self.is_trying;
        self.may_send()
    }

    /// PUBREC came, and PUBREL answers it. `first` says what awaits PUBCOMP from then on; `None` if it is a repeated
    /// PUBREC, or one for an identifier that another packet has.
    pub(super) fn releases(&mut self, id: u16, first: Option<Tried>, is_known: bool) {
        // One that stands, and has another behind it, is tried no more.
        let tried = self.awaited.iter().filter(|(_, awaited)| awaited.is_tried);
        let latest = tried.max_by_key(|(_, awaited)| awaited.since);
        let is_tried = is_known && latest.is_some_and(|(latest, _)| *latest == id);
        self.has_company |= self.is_trying && !is_tried;
        self.may_have_company |= self.is_trying;
        let Some(first) = first else {
            return;
        };
        if let Tried::Message(token) = first {
            // Its PUBLISH may be one of an earlier link.
            self.has_witness = self.awaited.contains_key(&id);
            self.answered(id);
            self.against.remove(&Key::Message(token));
        }
        self.releases_due.insert(id, (first, is_tried));
    }

    /// The command under this identifier was answered, and PUBCOMP is awaited for a PUBREL that has left beside it.
    pub(super) fn remains(&mut self, id: u16) {
        self.awaits(id, Tried::Release, (0, 0), false);
        if let Some(awaited) = self.awaited.get_mut(&id) {
            (awaited.touched, awaited.has_left) = (true, true);
        }
    }

    /// Whether a packet awaits its answer under this identifier on this link.
    pub(super) fn awaits_answer(&self, id: u16) -> bool {
        self.awaited.contains_key(&id)
    }

    /// The packet under this identifier is to be sent once more on this link.
    pub(super) fn takes_back(&mut self, id: u16) {
        self.awaited.remove(&id);
    }

    fn awaits(&mut self, id: u16, tried: Tried, (begin, end): (usize, usize), is_tried: bool) {
        let awaited = Awaited {
            tried: Some(tried),
            begin,
            end,
            touched: false,
            has_left: false,
            is_tried,
            may_be_tried: is_tried || self.idle_until.is_some() && self.tries_nothing(),
            since: self.now,
        };
        self.awaited.entry(id).or_insert(awaited);
    }

    /// Whether anything may be sent that is not an answer.
    pub(super) fn may_send(&self) -> Rule {
        let is_suspect = |(key, against): (&Key, &Against)| {
            matches!(key, Key::Message(_)) && against.losses >= self.suspected_after
        };
        if self.is_passed && !self.is_trying || !self.against.iter().any(is_suspect) {
            return Ok(());
        }
        if !self.has_pong {
            return Err("it is sent before the trial link has stood idle".to_owned());
        }
        let mut awaited = self.awaited.values();
        match awaited.find(|awaited| awaited.is_tried && !self.is_late(awaited)) {
            Some(current) => Err(format!("it is sent beside one that is tried: {current:?}")),
            None => Ok(()),
        }
    }

    /// Whether each packet that was tried has stood for so long that the next one has its turn.
    fn tries_nothing(&self) -> bool {
        let mut awaited = self.awaited.values();
        awaited.all(|awaited| !awaited.may_be_tried || self.is_late(awaited))
    }

    /// Whether it has stood without an answer for so long that others may be tried.
    fn is_late(&self, awaited: &Awaited) -> bool {
        awaited.since + self.ack_timeout <= self.now
    }

    /// The link took bytes up to this position.
    pub(super) fn written(&mut self, written: usize) {
        for awaited in self.awaited.values_mut() {
            awaited.touched |= awaited.begin < written;
            awaited.has_left |= awaited.end <= written;
        }
    }

    /// The packet under this identifier was answered.
    pub(super) fn answered(&mut self, id: u16) {
        match self.awaited.remove(&id).and_then(|awaited| awaited.tried) {
            Some(Tried::Message(token)) => drop(self.against.remove(&Key::Message(token))),
            Some(Tried::Release) => drop(self.against.remove(&Key::Release(id))),
            _ => {}
        }
    }

    /// The answer that ends what was sent under this identifier came.
    pub(super) fn ends(&mut self, id: u16) {
        self.has_witness = self.awaited.contains_key(&id);
        self.answered(id);
    }

    /// The acknowledgment under this identifier was late.
    pub(super) fn late(&mut self, id: u16) {
        let tried = self
            .awaited
            .get(&id)
            .and_then(|awaited| awaited.tried.as_ref());
        for key in tried.map(|tried| tried.keys(id)).unwrap_or_default() {
            let against = self.against.entry(key).or_default();
            against.losses += 1;
            against.at_most += 1;
        }
    }

    /// The messages that have stood on this trial link without an answer, in the order in which they were sent.
    pub(super) fn standing_messages(&self) -> Vec<u16> {
        let is_message = |awaited: &Awaited| matches!(awaited.tried, Some(Tried::Message(_)));
        let standing = self.awaited.iter().filter(|(_, awaited)| {
            self.is_trying && awaited.is_tried && is_message(awaited) && self.is_late(awaited)
        });
        let mut standing: Vec<_> = standing.map(|(id, awaited)| (awaited.since, *id)).collect();
        standing.sort_unstable();
        standing.into_iter().map(|(_, id)| id).collect()
    }

    /// Those of these messages, which stand, that may be the first suspect among them, and whether it is one for sure.
    fn may_be_first(&self, standing: &[u16]) -> Vec<(u16, Key, bool)> {
        let mut all = Vec::new();
        for id in standing {
            let awaited = self.awaited.get(id);
            let Some(Tried::Message(token)) = awaited.and_then(|one| one.tried.as_ref()) else {
                continue;
            };
            let key = Key::Message(*token);
            let losses = self.against.get(&key).map_or(0, |against| against.losses);
            let is_sure = losses >= self.suspected_after;
            all.push((*id, key, is_sure));
            if is_sure {
                break;
            }
        }
        all
    }

    /// The link has to go, because these messages stand and leave no room for another one. The session names this one. It
    /// counts the link for sure if the broker has `answered` each PINGREQ, and the clock of answers has not stood still.
    ///
    /// # Errors
    /// If it has to give one of them up, and has not.
    pub(super) fn fill(&mut self, standing: &[u16], named: u16, answered: bool) -> Rule {
        for (id, key, is_sure) in self.may_be_first(standing) {
            let against = self.against.entry(key).or_default();
            against.filled += 1;
            if is_sure && answered && standing.first() == Some(&id) && id == named {
                against.filled_for_sure += 1;
                if against.filled_for_sure >= self.given_up_after {
                    return Err(format!(
                        "{named} leaves no room for another message, and is not given up"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The link is gone.
    pub(super) fn link_lost(&mut self, by_broker: bool) {
        let life = self.now.saturating_duration_since(self.up_since);
        let awaited = std::mem::take(&mut self.awaited);
        // Those before it have stood without an answer, or were answered.
        let tried = awaited.iter().filter(|(_, awaited)| awaited.is_tried);
        let last = tried
            .max_by_key(|(_, awaited)| awaited.since)
            .map(|(id, _)| *id);
        let is_sure = awaited.len() == 1 && !self.may_have_company;
        self.guilty = None;
        self.lets_pass = by_broker && self.is_trying;
        for (id, awaited) in awaited {
            let took = self.now.saturating_duration_since(awaited.since);
            let Some(tried) = &awaited.tried else {
                continue;
            };
            let counts = awaited.touched && by_broker;
            let is_last = last == Some(id) && self.is_trying && !self.has_company && counts;
            let before = self.idle_until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(self.up_since)
            });
            let alone = took < before && (awaited.has_left || took < AT_ONCE);
            for key in tried.keys(id) {
                let against = self.against.entry(key).or_default();
                against.losses += u32::from(counts);
                against.at_most += u32::from(counts || self.is_trying && took >= self.ack_timeout);
                if is_last {
                    against.alone = if alone { against.alone + 1 } else { 0 };
                }
                if is_last && alone && against.alone >= self.given_up_after {
                    self.guilty = Some((id, tried.clone()));
                }
            }
            let counts_for_sure = is_last && awaited.has_left && took < SHORTEST_IDLE;
            self.lets_pass &= !(is_sure && counts_for_sure);
        }
        self.longest_life = match self.is_trying {
            _ if by_broker && self.has_answer => Duration::ZERO,
            true if by_broker => self.longest_life.max(life),
            true => self.longest_life,
            // It may be one between two trial links, or none of them.
            false if by_broker => life,
            false => Duration::ZERO,
        };
    }

    /// A command has ended. The broker has answered it, or not.
    pub(super) fn ended(&mut self, token: Token, is_answered: bool) {
        self.has_answer |= is_answered;
        self.against.remove(&Key::Message(token));
        for awaited in self.awaited.values_mut() {
            awaited
                .tried
                .take_if(|tried| *tried == Tried::Message(token));
        }
    }

    /// The broker has no session: a PUBREL for a command that has ended is sent no more.
    pub(super) fn session_lost(&mut self, is_open: impl Fn(Token) -> bool) {
        self.against.retain(|key, _| match key {
            Key::Message(token) => is_open(*token),
            Key::Release(_) => false,
            Key::Subscribe(_) | Key::Unsubscribe(_) => true,
        });
    }
}

/// Commands that are given up.
impl Trials {
    /// The session says that it gives up a command of this name.
    pub(super) fn gives_up(&mut self, command: &str) {
        self.given_up.push(command.to_owned());
    }

    /// Whether the session has just said so of a command whose name begins so.
    pub(super) fn has_given_up(&self, name: &str) -> bool {
        self.given_up
            .iter()
            .any(|command| command.starts_with(name))
    }

    /// It is one that matches, and its name begins so: returns its identifier. `filling` are messages that stand and leave
    /// no room for another one, if it is given up because of that.
    ///
    /// # Errors
    /// If none may be given up for this reason.
    pub(super) fn takes_given_up(
        &mut self,
        name: &str,
        reason: Reason,
        filling: Option<&[u16]>,
        matches: impl Fn(u16, &Tried) -> bool,
    ) -> Result<u16, String> {
        let told = self.given_up.iter().position(|told| told.starts_with(name));
        let told = told.ok_or_else(|| format!("nobody said that this {name} is given up"))?;
        let told = self.given_up.remove(told);
        let found = match (reason, filling) {
            (Reason::Unanswered, Some(filling)) => {
                let mut first = self.may_be_first(filling).into_iter();
                let first = first.find_map(|(id, key, _)| {
                    let tried = self.awaited.get(&id)?.tried.clone()?;
                    let links = self.against.get(&key).map_or(0, |against| against.filled);
                    // This one counts, too.
                    let is_it = matches(id, &tried)
                        && links + 1 >= self.given_up_after
                        && self.may_be_suspect(id, &tried);
                    is_it.then_some((id, tried))
                });
                first.filter(|_| self.has_pong)
            }
            (Reason::Parked, _) => self.guilty.take_if(|(id, tried)| matches(*id, tried)),
            (Reason::Unanswered, None) if self.has_witness && self.has_pong => {
                let mut standing: Vec<_> = self.awaited.iter().collect();
                standing.retain(|(_, awaited)| awaited.may_be_tried && self.is_late(awaited));
                standing.sort_by_key(|(_, awaited)| awaited.since);
                let standing = standing.into_iter().rev();
                let standing =
                    standing.filter_map(|(id, awaited)| Some((*id, awaited.tried.clone()?)));
                let may_be = standing
                    .filter(|(id, tried)| matches(*id, tried) && self.may_be_suspect(*id, tried));
                // The last packet of a long SUBSCRIBE may look like a renewal, its others do not.
                may_be.max_by_key(|(id, tried)| tried.keys(*id).len())
            }
            _ => None,
        };
        let Some((id, _)) = found else {
            return Err(format!("{told} is given up as {reason:?}"));
        };
        self.answered(id);
        Ok(id)
    }

    fn may_be_suspect(&self, id: u16, tried: &Tried) -> bool {
        let counts = tried.keys(id).into_iter();
        let counts = counts.map(|key| self.against.get(&key).map_or(0, |against| against.at_most));
        // It is late on this link, too.
        counts.max().unwrap_or(0) + 1 >= self.suspected_after
    }
}
