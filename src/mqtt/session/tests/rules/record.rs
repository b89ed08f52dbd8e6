//! The record of everything that the session was told and sent. Pure.

mod output;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::Rule;
use super::arrivals::{Arrivals, Verdict};
use super::trials::{Trials, Tried};
use super::version5::Link5;
use crate::mqtt::packet::{ConnectReturnCode, Filter, Incoming, QoS};
use crate::mqtt::session::{OnSessionLost, SessionOptions};

/// Names a command, in the order in which they were handed in. The payload of a PUBLISH begins with it.
pub(crate) type Token = u16;

/// The reason for which the session says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// This packet, and the command that it may end.
    Packet(Incoming, Option<Token>),
    Written,
    LinkLost,
    Timeout,
    Abandoned,
    /// A command was handed in, or a message accepted: nothing ends by that.
    Other,
}

/// The kinds of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Publish { qos: u8, payload: usize },
    Subscribe,
    Unsubscribe,
    Ping,
}

/// A command that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Command {
    pub(super) kind: Kind,
    /// Of a SUBSCRIBE or an UNSUBSCRIBE.
    pub(super) filters: Vec<String>,
    pub(super) id: u16,
    /// Whether its PUBLISH was put into the output; not where a link was lost that took no byte of it.
    pub(super) sent: bool,
    /// The same, in the broker's present session.
    pub(super) sent_in_session: bool,
    /// Whether any byte of it was taken by a link.
    pub(super) touched: bool,
    /// Whether it may be sent once more on this link: the broker said that it held another message under its
    /// identifier.
    once_more: bool,
    /// Whether it was, or is sent behind that message's PUBREL anyway.
    follows_release: bool,
}

/// A PUBLISH in the output that did not leave as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Leaving {
    pub(super) token: Token,
    begin: usize,
    end: usize,
    /// `sent` and `sent_in_session` of its command before.
    before: (bool, bool),
}

/// The meaning of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum InUse {
    Publish(Token),
    /// PUBREC came, PUBREL is due or out. Without a token it came for a message that is not known.
    Released(Option<Token>),
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
    /// Given up: nothing more may be sent under it.
    GivenUp {
        until_session_ends: bool,
    },
}

/// How far the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Stage {
    #[default]
    Down,
    Greeting {
        clean_session: bool,
        sent: bool,
    },
    Up,
    Closing {
        sent: bool,
    },
    /// DISCONNECT of the broker came.
    Told,
    /// DISCONNECT answers what came in the place of CONNACK: whether it is sent.
    Unwelcome(bool),
}

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    on_session_lost: OnSessionLost,
    window_qos2: usize,
    pub(super) commands: BTreeMap<Token, Command>,
    next_token: Token,
    pub(super) stage: Stage,
    /// Bytes put into the output, and bytes taken out of it, since it was empty last.
    pub(super) encoded: usize,
    written: usize,
    pub(super) leaving: VecDeque<Leaving>,
    /// The PUBLISH that was put into the output last on this link.
    latest: Option<Token>,
    pub(super) in_use: BTreeMap<u16, InUse>,
    /// Identifiers that are released until PUBCOMP comes, in the order of the PUBRECs.
    pub(super) releases: Vec<u16>,
    /// PUBRELs and PUBCOMPs that have to be sent at once.
    releases_due: VecDeque<u16>,
    /// Identifiers in use under which the broker holds an unknown message, too: PUBREL is due or out on this link.
    shared: BTreeSet<u16>,
    pub(super) completions_due: VecDeque<u16>,
    /// PUBRELs that wait for their turn, because the link that came up is a trial link.
    pub(super) releases_later: VecDeque<u16>,
    pub(super) trials: Trials,
    /// Filters that the last command asked for.
    pub(super) wanted: BTreeSet<String>,
    /// Filters whose UNSUBSCRIBE has ended, because the broker answered it, and that no command has asked for since.
    pub(super) left: BTreeSet<String>,
    /// Filters whose SUBSCRIBE has ended, because the broker granted it, and that no command has renounced since.
    pub(super) joined: BTreeSet<String>,
    pub(super) granted: BTreeSet<String>,
    /// The broker lost these subscriptions: they come before every PUBLISH.
    pub(super) renewals_due: BTreeSet<String>,
    pub(crate) arrivals: Arrivals,
    /// The session has to say that it leaves messages with the broker.
    pub(super) unread_due: bool,
    /// Where the links speak MQTT 5.
    pub(super) version5: Option<Link5>,
}

impl Record {
    pub(super) fn new(options: &SessionOptions, now: Instant) -> Self {
        Record {
            on_session_lost: options.on_session_lost,
            window_qos2: usize::from(options.max_inflight_qos2),
            commands: BTreeMap::new(),
            next_token: 0,
            stage: Stage::Down,
            encoded: 0,
            written: 0,
            leaving: VecDeque::new(),
            latest: None,
            in_use: BTreeMap::new(),
            releases: Vec::new(),
            releases_due: VecDeque::new(),
            shared: BTreeSet::new(),
            completions_due: VecDeque::new(),
            releases_later: VecDeque::new(),
            trials: Trials::new(options, now),
            wanted: BTreeSet::new(),
            left: BTreeSet::new(),
            joined: BTreeSet::new(),
            granted: BTreeSet::new(),
            renewals_due: BTreeSet::new(),
            arrivals: Arrivals::new(options.max_waiting_bytes),
            unread_due: false,
            version5: None,
        }
    }

    pub(crate) fn next_token(&self) -> Token {
        self.next_token
    }

    pub(super) fn new_command(&mut self, kind: Kind) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        let command = Command {
            kind,
            filters: Vec::new(),
            id: 0,
            sent: false,
            sent_in_session: false,
            touched: false,
            once_more: false,
            follows_release: false,
        };
        self.commands.insert(token, command);
        token
    }

    pub(super) fn asks_for(&mut self, token: Token, filters: &[Filter]) {
        let names: Vec<_> = filters.iter().map(|asked| asked.filter.clone()).collect();
        self.left.retain(|filter| !names.contains(filter));
        self.wanted.extend(names.iter().cloned());
        if let Some(command) = self.commands.get_mut(&token) {
            command.filters = names;
        }
    }

    pub(super) fn renounces(&mut self, token: Token, filters: &[String]) {
        if let Some(command) = self.commands.get_mut(&token) {
            command.filters = filters.to_vec();
        }
        for filter in filters {
            self.wanted.remove(filter);
            self.joined.remove(filter);
            self.granted.remove(filter);
            self.renewals_due.remove(filter);
        }
    }

    /// The broker has answered all of a SUBSCRIBE or UNSUBSCRIBE. A filter counts only if no later command for the opposite
    /// is open: that one is still to be sent, and another that stands behind it, too.
    pub(super) fn request_ends(&mut self, token: Token, command: &Command) {
        let is_subscribe = command.kind == Kind::Subscribe;
        let opposite = match is_subscribe {
            true => Kind::Unsubscribe,
            false => Kind::Subscribe,
        };
        let is_latest = |filter: &&String| {
            let mut later = self.commands.range(token + 1..).map(|(_, later)| later);
            self.wanted.contains(*filter) == is_subscribe
                && !later.any(|later| later.kind == opposite && later.filters.contains(filter))
        };
        let latest = command.filters.iter().filter(is_latest).cloned();
        match is_subscribe {
            true => self.joined.extend(latest),
            false => self.left.extend(latest),
        }
    }

    pub(super) fn link_up(&mut self, clean_session: bool) {
        self.stage = Stage::Greeting {
            clean_session,
            sent: false,
        };
    }

    pub(super) fn disconnect(&mut self) {
        if self.stage == Stage::Up {
            self.stage = Stage::Closing { sent: false };
        }
    }

    /// The broker broke the protocol, and DISCONNECT says so.
    pub(super) fn breaks_off(&mut self) {
        self.stage = match self.stage {
            Stage::Greeting { .. } => Stage::Unwelcome(false),
            _ => Stage::Closing { sent: false },
        };
    }

    /// DISCONNECT is due.
    ///
    /// # Errors
    /// If it is not out.
    pub(super) fn has_left(&self) -> Rule {
        match self.stage {
            Stage::Closing { sent: true } | Stage::Unwelcome(true) => Ok(()),
            _ => Err("no DISCONNECT says why the link is closed".to_owned()),
        }
    }

    /// The link is gone; call it before the session is told.
    pub(super) fn link_lost(&mut self, by_broker: bool) {
        match self.stage {
            Stage::Up | Stage::Told => self.trials.link_lost(by_broker),
            Stage::Closing { .. } => self.trials.link_lost(false),
            Stage::Greeting { .. } | Stage::Unwelcome(_) | Stage::Down => {}
        }
        self.releases_later.clear();
        self.stage = Stage::Down;
        self.in_use.retain(|_, what| match what {
            InUse::Publish(_) | InUse::Released(_) => true,
            // They may be sent again under another identifier.
            InUse::Subscribe(_) | InUse::Unsubscribe(_) => false,
            InUse::GivenUp { until_session_ends } => *until_session_ends,
        });
        for leaving in std::mem::take(&mut self.leaving) {
            if let Some(command) = self.commands.get_mut(&leaving.token)
                && leaving.begin >= self.written
                // A broker that says PUBREC to what it cannot have is taken at its word.
                && self.in_use.get(&command.id) != Some(&InUse::Released(Some(leaving.token)))
            {
                (command.sent, command.sent_in_session) = leaving.before;
            }
        }
        (self.encoded, self.written) = (0, 0);
        self.latest = None;
        for command in self.commands.values_mut() {
            command.once_more = false;
            command.follows_release = false;
        }
        self.shared.clear();
        self.releases_due.clear();
        self.completions_due.clear();
        self.renewals_due.clear();
        self.arrivals.link_lost();
        if let Some(version5) = &mut self.version5 {
            version5.link_lost();
        }
    }

    /// The link took so many bytes; call it before the session is told.
    pub(super) fn written(&mut self, bytes: usize) {
        self.written += bytes;
        self.trials.written(self.written);
        for leaving in &self.leaving {
            if let Some(command) = self.commands.get_mut(&leaving.token) {
                command.touched |= leaving.begin < self.written;
            }
        }
        self.leaving.retain(|leaving| leaving.end > self.written);
        if self.written == self.encoded {
            (self.encoded, self.written) = (0, 0);
        }
    }

    /// A packet is about to be given to the session: what it may cause, or `None` when the session has
    /// to take it for a violation. `is_free` says whether the identifier of a PUBREC is not in use.
    pub(super) fn receives(&mut self, packet: &Incoming, is_free: bool) -> Option<Cause> {
        let mut ends = None;
        self.trials.has_witness = false;
        if self.version5.is_some() {
            return self.receives5(packet);
        }
        match (self.stage, packet) {
            (Stage::Down | Stage::Told | Stage::Unwelcome(_), _) => return None,
            (
                Stage::Greeting { clean_session, .. },
                Incoming::ConnAck {
                    session_present,
                    code,
                },
            ) => {
                if *code == ConnectReturnCode::Accepted {
                    if *session_present && clean_session {
                        return None;
                    }
                    self.accepted(*session_present);
                }
            }
            (Stage::Greeting { .. }, _) | (Stage::Up, Incoming::ConnAck { .. }) => return None,
            (Stage::Up | Stage::Closing { .. }, Incoming::PubAck(id)) => {
                // A broker without QoS 2 answers it in the same way.
                let token = self.awaits(id.value(), 1);
                if let Some(token) = token.or_else(|| self.awaits(id.value(), 2)) {
                    ends = Some(token);
                    self.frees(id.value());
                }
            }
            (Stage::Up | Stage::Closing { .. }, Incoming::PubComp(id)) => {
                ends = self.completes(id.value());
            }
            (Stage::Up | Stage::Closing { .. }, Incoming::PingResp) => self.trials.pong(),
            // Nothing else counts.
            (Stage::Closing { .. }, _) => return Some(Cause::Other),
            (
                Stage::Up,
                Incoming::ConnAck5(_) | Incoming::Answered { .. } | Incoming::Disconnect(_),
            ) => {
                unreachable!("a packet of MQTT 5")
            }
            (Stage::Up, Incoming::PubRec(id)) => self.releases(id.value(), is_free),
            // An answer to a request that was not sent on this link ends nothing.
            (Stage::Up, Incoming::SubAck { id, granted }) => {
                if !self.is_subscribing(id.value()) {
                    return Some(Cause::Other);
                }
                if !self.is_answered(id.value(), granted) {
                    return None;
                }
            }
            (Stage::Up, Incoming::UnsubAck(id)) => {
                let Some(InUse::Unsubscribe(_)) = self.in_use.get(&id.value()) else {
                    return Some(Cause::Other);
                };
                self.frees(id.value());
            }
            (Stage::Up, Incoming::PubRel(id)) => {
                self.completions_due.push_back(id.value());
                self.arrivals.releases(id.value());
            }
            (Stage::Up, Incoming::Publish { id, message }) => {
                let first = !self.arrivals.has_left_some();
                let verdict = self.arrivals.arrives(*id, message);
                self.unread_due = first && verdict == Verdict::Leave;
            }
        }
        Some(Cause::Packet(packet.clone(), ends))
    }

    /// CONNACK came, and accepts.
    pub(super) fn accepted(&mut self, session_present: bool) {
        self.stage = Stage::Up;
        if !session_present {
            self.session_lost();
        }
        self.trials.connected();
        for id in &self.releases {
            if let Some(InUse::Released(token)) = self.in_use.get(id) {
                let tried = token.map_or(Tried::Release, Tried::Message);
                self.trials.resumes(*id, tried);
                self.releases_due.push_back(*id);
            }
        }
    }

    /// Whether a SUBSCRIBE awaits its answer under this identifier.
    pub(super) fn is_subscribing(&self, id: u16) -> bool {
        matches!(self.in_use.get(&id), Some(InUse::Subscribe(_)))
    }

    /// SUBACK came for it. Returns whether it answers each filter.
    pub(super) fn is_answered(&mut self, id: u16, granted: &[Option<QoS>]) -> bool {
        let Some(InUse::Subscribe(filters)) = self.in_use.get(&id) else {
            return false;
        };
        if filters.len() != granted.len() {
            return false;
        }
        for (filter, granted) in filters.iter().zip(granted) {
            self.renewals_due.remove(filter);
            if granted.is_some() && self.wanted.contains(filter) {
                self.granted.insert(filter.clone());
            }
        }
        self.frees(id);
        true
    }

    /// PUBREC came, which PUBREL has to answer at once. The identifier is in use until PUBCOMP.
    pub(super) fn releases(&mut self, id: u16, is_free: bool) {
        let given_up = match self.in_use.get(&id) {
            Some(InUse::GivenUp { until_session_ends }) => Some(*until_session_ends),
            _ => None,
        };
        if given_up == Some(true) {
            return;
        }
        let is_free = is_free || given_up == Some(false);
        self.releases_due.push_back(id);
        let token = self.awaits(id, 2);
        let is_first = is_free || token.is_some();
        let is_known = token.is_some() || matches!(self.in_use.get(&id), Some(InUse::Released(_)));
        let first = is_first.then(|| token.map_or(Tried::Release, Tried::Message));
        self.trials.releases(id, first, is_known);
        if is_first {
            self.in_use.insert(id, InUse::Released(token));
            self.releases.push(id);
        } else if !is_known {
            // Nothing may be sent under it yet, if it is that of a request of an earlier link.
            self.shared.insert(id);
            let is_unsent = !self.trials.awaits_answer(id);
            if let Some(command) = self.published(id) {
                command.follows_release |= is_unsent;
            }
        }
    }

    /// The command whose PUBLISH has this identifier.
    fn published(&mut self, id: u16) -> Option<&mut Command> {
        match self.in_use.get(&id) {
            Some(InUse::Publish(token)) => self.commands.get_mut(token),
            _ => None,
        }
    }

    /// PUBCOMP came. Returns the command that it ends, if any.
    pub(super) fn completes(&mut self, id: u16) -> Option<Token> {
        if self.shared.remove(&id) {
            if self.awaits(id, 1).is_some()
                && let Some(command) = self.published(id)
                && !std::mem::replace(&mut command.follows_release, true)
            {
                command.once_more = true;
                self.trials.takes_back(id);
            }
            return None;
        }
        let Some(InUse::Released(token)) = self.in_use.get(&id) else {
            return None;
        };
        let token = *token;
        self.trials.answered(id);
        self.in_use.remove(&id);
        self.releases.retain(|release| *release != id);
        self.releases_later.retain(|release| *release != id);
        token
    }

    /// The packet under this identifier was answered.
    pub(super) fn frees(&mut self, id: u16) {
        self.trials.ends(id);
        // A SUBSCRIBE that stood without an answer may have been granted behind the UNSUBSCRIBE that is answered.
        if let Some(InUse::Unsubscribe(filters)) = self.in_use.get(&id) {
            for filter in filters {
                self.granted.remove(filter);
                self.renewals_due.remove(filter);
            }
        }
        if self.shared.remove(&id) {
            self.trials.remains(id);
            self.in_use.insert(id, InUse::Released(None));
            self.releases.push(id);
        } else {
            self.in_use.remove(&id);
        }
    }

    /// The broker has no session: nothing of the earlier one is left.
    fn session_lost(&mut self) {
        for command in self.commands.values_mut() {
            command.sent_in_session = false;
            command.id = 0;
        }
        let commands = &self.commands;
        self.trials
            .session_lost(|token| commands.contains_key(&token));
        self.in_use.clear();
        self.releases.clear();
        self.renewals_due = self.granted.clone();
        self.arrivals.session_lost();
    }

    /// The link that came up is a trial link: PUBRELs wait for their turn.
    pub(super) fn begins_trials(&mut self) {
        self.releases_later = std::mem::take(&mut self.releases_due);
        self.trials.begins();
        if let Some(version5) = &mut self.version5 {
            version5.began_with_trials = true;
        }
    }

    /// After the session handled a packet and its events and output were taken.
    ///
    /// # Errors
    /// The packet or event that had to come at once and did not.
    pub(super) fn handled(&mut self) -> Rule {
        if std::mem::take(&mut self.unread_due) {
            return Err("a message was taken for which there is no room".to_owned());
        }
        self.handled5()?;
        let (releases, completions) = (&self.releases_due, &self.completions_due);
        match self.stage {
            Stage::Up if !releases.is_empty() || !completions.is_empty() => Err(format!(
                "PUBREL, PUBCOMP are due for {releases:?}, {completions:?}"
            )),
            _ => Ok(()),
        }
    }

    /// Whether each message that was accepted, and whose turn has come, is acknowledged.
    ///
    /// # Errors
    /// The message that is not.
    pub(super) fn nothing_is_due(&self) -> Rule {
        match self.stage {
            Stage::Up => self.arrivals.nothing_is_due(),
            _ => Ok(()),
        }
    }

    /// Whether a PUBLISH that was sent ends with the broker's session.
    pub(super) fn may_not_come_twice(&self, qos: u8) -> bool {
        qos == 2 || qos == 1 && self.on_session_lost == OnSessionLost::Fail
    }

    /// Whether a command was given up whose identifier is in use until the session ends.
    #[cfg(test)]
    pub(crate) fn is_given_up(&self, id: u16) -> bool {
        matches!(self.in_use.get(&id), Some(InUse::GivenUp { .. }))
    }

    /// The PUBLISH of this quality of service that awaits its first acknowledgment under the identifier.
    pub(super) fn awaits(&self, id: u16, level: u8) -> Option<Token> {
        let Some(InUse::Publish(token)) = self.in_use.get(&id) else {
            return None;
        };
        let command = self.commands.get(token).filter(|command| command.sent)?;
        matches!(command.kind, Kind::Publish { qos, .. } if qos == level).then_some(*token)
    }

    /// Whether an acknowledgment answers something, a repeated PUBREC included.
    #[cfg(test)]
    pub(crate) fn expects(&self, packet: &Incoming) -> bool {
        let (packet, _) = &super::version5::plain(packet);
        let is_released = |id| matches!(self.in_use.get(&id), Some(InUse::Released(_)));
        match packet {
            Incoming::PubAck(id) => [1, 2]
                .into_iter()
                .any(|qos| self.awaits(id.value(), qos).is_some()),
            Incoming::PubRec(id) => self.awaits(id.value(), 2).is_some() || is_released(id.value()),
            Incoming::PubComp(id) => is_released(id.value()),
            Incoming::SubAck { id, .. } => {
                matches!(self.in_use.get(&id.value()), Some(InUse::Subscribe(_)))
            }
            _ => true,
        }
    }
}
