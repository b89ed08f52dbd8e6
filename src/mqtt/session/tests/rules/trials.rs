//! The counts against each PUBLISH, and the packets that may be sent while one is tried alone. Pure.
//!
//! The record counts as the session has to: a command may be given up only if the broker closed so many links while
//! it was unanswered, and the last of them with nothing but it on its way, or if it stood unanswered while the broker answered others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Rule;
use super::record::Token;
use crate::mqtt::session::SessionOptions;

/// The counts against a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Against {
    losses: u32,
    alone: u32,
}

/// A packet that awaits its answer on this link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Awaited {
    /// Its command, if that is a PUBLISH.
    token: Option<Token>,
    begin: usize,
    /// Whether the link took any byte of it.
    touched: bool,
    /// Whether it left in its turn, and not because PUBREC came.
    is_tried: bool,
    since: Instant,
}

/// The record of the trials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Trials {
    suspected_after: u32,
    given_up_after: u32,
    ack_timeout: Duration,
    pub(super) now: Instant,
    /// Whether the session says that the link is a trial link. The record knows of PUBLISHes only.
    pub(super) is_trying: bool,
    /// The same before what has just happened.
    was_trying: bool,
    up_since: Instant,
    has_pong: bool,
    /// Whether anything left on this trial link out of turn.
    has_company: bool,
    /// The first PUBREC came for this one: PUBREL goes on for it. Whether its PUBLISH was tried.
    goes_on: Option<(u16, bool)>,
    against: BTreeMap<Token, Against>,
    awaited: BTreeMap<u16, Awaited>,
}

impl Trials {
    pub(super) fn new(options: &SessionOptions, now: Instant) -> Self {
        Trials {
            suspected_after: options.suspected_after,
            given_up_after: options.given_up_after,
            ack_timeout: options.ack_timeout,
            now,
            is_trying: false,
            was_trying: false,
            up_since: now,
            has_pong: false,
            has_company: false,
            goes_on: None,
            against: BTreeMap::new(),
            awaited: BTreeMap::new(),
        }
    }

    /// Whether nothing is ever suspected.
    pub(super) fn are_off(&self) -> bool {
        self.suspected_after == u32::MAX
    }

    /// Whether the session says that the link is a trial link, now that something has happened.
    pub(super) fn looks(&mut self, is_trying: bool) {
        self.was_trying = std::mem::replace(&mut self.is_trying, is_trying);
    }

    /// Whether others may be given up because the broker has answered one. That may end the trial.
    pub(super) fn may_give_up(&self) -> bool {
        self.is_trying || self.was_trying
    }

    /// CONNACK came.
    pub(super) fn connected(&mut self) {
        self.up_since = self.now;
        self.has_pong = false;
        self.has_company = false;
        self.goes_on = None;
    }

    /// PINGRESP came.
    pub(super) fn pong(&mut self) {
        self.has_pong = true;
    }

    /// A packet that is answered under this identifier is put into the output.
    ///
    /// # Errors
    /// If a PUBLISH is suspected, and the link does not stand idle or another packet is tried.
    pub(super) fn sends(&mut self, id: u16, token: Option<Token>, begin: usize) -> Rule {
        self.may_send()?;
        self.awaits(id, token, begin, true);
        Ok(())
    }

    /// As [`Trials::sends`], for PUBREL that answers PUBREC at once. One that answers a repeated PUBREC does not count:
    /// it is on its way in its turn already, or will be.
    pub(super) fn answers(&mut self, id: u16, token: Option<Token>, begin: usize) {
        if let Some((_, is_tried)) = self.goes_on.take_if(|(first, _)| *first == id) {
            self.awaits(id, token, begin, is_tried);
        }
    }

    /// A QoS 0 PUBLISH is put into the output.
    ///
    /// # Errors
    /// As [`Trials::sends`].
    pub(super) fn sends_unacknowledged(&mut self) -> Rule {
        self.has_company |= self.is_trying;
        self.may_send()
    }

    /// PUBREC came, and PUBREL answers it. `token` is the command whose PUBLISH it answers.
    pub(super) fn releases(&mut self, id: u16, token: Option<Token>, is_known: bool) {
        let is_tried = |awaited: &Awaited| awaited.is_tried;
        let is_tried = is_known && self.awaited.get(&id).is_some_and(is_tried);
        self.has_company |= self.is_trying && !is_tried;
        if let Some(token) = token {
            // Its PUBLISH may be one of an earlier link.
            self.answered(id);
            self.against.remove(&token);
            self.goes_on = Some((id, is_tried));
        }
    }

    fn awaits(&mut self, id: u16, token: Option<Token>, begin: usize, is_tried: bool) {
        let awaited = Awaited {
            token,
            begin,
            touched: false,
            is_tried,
            since: self.now,
        };
        self.awaited.entry(id).or_insert(awaited);
    }

    /// Whether anything may be sent that is not an answer.
    pub(super) fn may_send(&self) -> Rule {
        let is_suspect = |against: &Against| against.losses >= self.suspected_after;
        if !self.against.values().any(is_suspect) {
            return Ok(());
        }
        if !self.has_pong {
            return Err("it is sent before the trial link has stood idle".to_owned());
        }
        match self.current() {
            Some(current) => Err(format!("it is sent beside one that is tried: {current:?}")),
            None => Ok(()),
        }
    }

    /// The packet that is tried: those that have stood for long without an answer do not count.
    fn current(&self) -> Option<&Awaited> {
        let mut awaited = self.awaited.values();
        let is_late = |awaited: &&Awaited| awaited.since + self.ack_timeout <= self.now;
        awaited.find(|awaited| awaited.is_tried && !is_late(awaited))
    }

    /// The link took bytes up to this position.
    pub(super) fn written(&mut self, written: usize) {
        for awaited in self.awaited.values_mut() {
            awaited.touched |= awaited.begin < written;
        }
    }

    /// The packet under this identifier was answered.
    pub(super) fn answered(&mut self, id: u16) {
        if let Some(token) = self.awaited.remove(&id).and_then(|awaited| awaited.token) {
            self.against.remove(&token);
        }
    }

    /// The acknowledgment under this identifier was late.
    pub(super) fn late(&mut self, id: u16) {
        if let Some(token) = self.awaited.get(&id).and_then(|awaited| awaited.token) {
            self.against.entry(token).or_default().losses += 1;
        }
    }

    /// The link is gone.
    pub(super) fn link_lost(&mut self, by_broker: bool) {
        let tried = self.current().and_then(|current| current.token);
        let took = self.current().map(|current| {
            let before = current.since.saturating_duration_since(self.up_since);
            (self.now.saturating_duration_since(current.since), before)
        });
        for awaited in std::mem::take(&mut self.awaited).into_values() {
            let Some(token) = awaited.token.filter(|_| awaited.touched && by_broker) else {
                continue;
            };
            let against = self.against.entry(token).or_default();
            against.losses += 1;
            if tried == Some(token) && self.is_trying && !self.has_company {
                let counts = took.is_some_and(|(took, before)| took < before);
                against.alone = if counts { against.alone + 1 } else { 0 };
            }
        }
    }

    /// A command has ended.
    pub(super) fn ended(&mut self, token: Token) {
        self.against.remove(&token);
        for awaited in self.awaited.values_mut() {
            awaited.token.take_if(|awaited| *awaited == token);
        }
    }

    /// The broker has no session: a PUBREL for a command that has ended is sent no more.
    pub(super) fn session_lost(&mut self, is_open: impl Fn(Token) -> bool) {
        self.against.retain(|token, _| is_open(*token));
    }

    /// Whether it may be given up because links were closed with it alone.
    pub(super) fn was_closed_on(&self, token: Token) -> bool {
        let against = self.against.get(&token).copied().unwrap_or_default();
        against.alone >= self.given_up_after
    }

    /// Whether it may be given up because it was not answered while the broker answered another command.
    pub(super) fn stands(&self, token: Token) -> bool {
        let mut awaited = self.awaited.values();
        let awaited = awaited.find(|awaited| awaited.token == Some(token));
        self.has_pong && awaited.is_some_and(|a| a.since + self.ack_timeout <= self.now)
    }
}
