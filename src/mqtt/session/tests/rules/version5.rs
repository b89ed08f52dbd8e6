//! The rules that MQTT 5 adds: what each side takes at one time, reason codes, and what nothing may delay. Pure.

use std::collections::{BTreeSet, VecDeque};

use super::Rule;
use super::record::{Cause, Command, InUse, Kind, Record, Stage, Token};
use crate::mqtt::packet::{Answering, BrokerLimit, ConnAck5, Incoming, PacketId};
use crate::mqtt::session::{Outcome, Reason, SessionOptions};
use crate::mqtt::topic::{has_wildcards, is_shared};
use crate::mqtt::v4::tests::wire::FromClient;
use crate::mqtt::v5::tests::wire::FromClient5;

/// The code of PUBREL and PUBCOMP for an identifier that is not known.
const NOT_FOUND: u8 = 0x92;

/// The bytes of the longest topic that the drivers publish to.
const LONGEST_TOPIC: usize = 4;

/// The retain handling of renewals, in the options of a filter: the drivers' commands ask for another one.
const IF_NEW: u8 = 0x10;

/// Fewer bytes leave the clock of answers going.
const LEAST_MOVED: usize = 1024;

/// Output beyond which the session may hold requests back.
const MUCH_OUTPUT: usize = 200_000;

/// The record of a link of MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Link5 {
    /// How many messages the broker may send at one time.
    receive_maximum: u16,
    /// How many identifiers the session has.
    identifiers: usize,
    /// So many commands, and bytes of their messages, may wait so that a request behind them is reached.
    max_waiting: (usize, usize),
    /// The broker's limits on this link.
    limits: Option<Box<ConnAck5>>,
    /// PUBLISHes that the broker counts.
    in_quota: BTreeSet<u16>,
    /// Messages of the broker that we count.
    unfinished: BTreeSet<u16>,
    /// PUBRELs and PUBCOMPs that have to say that an identifier is not known.
    not_found_due: VecDeque<(&'static str, u16)>,
    /// PINGREQs that are not answered.
    pings: usize,
    /// Bytes of packets that came in part, and of output that left in part.
    moved: usize,
    /// Filters that are to be renewed before any other request, and the SUBSCRIBEs that ask for them.
    pub(super) renewals_left: usize,
    renewals: BTreeSet<u16>,
    /// Whether the link was a trial link at its beginning.
    pub(super) began_with_trials: bool,
    /// The command that the last packet answers.
    answered: Option<Token>,
}

impl Link5 {
    pub(super) fn new(receive_maximum: u16, options: &SessionOptions) -> Self {
        Link5 {
            receive_maximum,
            identifiers: usize::from(options.identifiers),
            max_waiting: (options.max_waiting, options.max_waiting_bytes),
            limits: None,
            in_quota: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            not_found_due: VecDeque::new(),
            pings: 0,
            moved: 0,
            renewals_left: 0,
            renewals: BTreeSet::new(),
            began_with_trials: false,
            answered: None,
        }
    }

    /// The link is gone.
    pub(super) fn link_lost(&mut self) {
        self.limits = None;
        self.in_quota.clear();
        self.unfinished.clear();
        self.not_found_due.clear();
        self.pings = 0;
        self.moved = 0;
        self.renewals_left = 0;
        self.renewals.clear();
        self.began_with_trials = false;
        self.answered = None;
    }

    /// Whether every PUBLISH that the broker counts was given up.
    fn is_full_of(&self, is_given_up: impl Fn(u16) -> bool) -> bool {
        let given_up = self.in_quota.iter().filter(|id| is_given_up(**id));
        let quota = self.takes_at_one_time();
        quota.is_some_and(|quota| given_up.count() >= quota)
    }

    /// How many messages the broker takes at one time.
    fn takes_at_one_time(&self) -> Option<usize> {
        let limits = self.limits.as_ref();
        limits.map(|limits| usize::from(limits.receive_maximum))
    }
}

/// A packet as MQTT 3.1.1 has it, and whether it says no.
pub(super) fn plain(packet: &Incoming) -> (Incoming, bool) {
    let Incoming::Answered { packet, id, answer } = packet else {
        return (packet.clone(), false);
    };
    let plain: fn(PacketId) -> Incoming = match packet {
        Answering::PubAck => Incoming::PubAck,
        Answering::PubRec => Incoming::PubRec,
        Answering::PubRel => Incoming::PubRel,
        Answering::PubComp => Incoming::PubComp,
        Answering::UnsubAck => Incoming::UnsubAck,
        Answering::SubAck => {
            let granted = answer.codes.iter().map(|code| code.granted()).collect();
            let is_refused = answer.code.is_failure();
            return (Incoming::SubAck { id: *id, granted }, is_refused);
        }
    };
    (plain(*id), answer.code.is_failure())
}

impl Record {
    /// As [`Record::receives`], on a link of MQTT 5.
    pub(super) fn receives5(&mut self, packet: &Incoming) -> Option<Cause> {
        let (plain, is_refused) = plain(packet);
        let ends = match (self.stage, &plain) {
            (Stage::Down, _) | (Stage::Up, Incoming::ConnAck { .. } | Incoming::ConnAck5(_)) => {
                return None;
            }
            (Stage::Told | Stage::Unwelcome(_), _) => return Some(Cause::Other),
            (Stage::Greeting { clean_session, .. }, Incoming::ConnAck5(connack)) => {
                if connack.session_present && clean_session {
                    return None;
                }
                if !connack.code.is_failure() {
                    self.accepted(connack.session_present);
                    self.version5.as_mut()?.limits = Some(connack.clone());
                }
                None
            }
            (Stage::Greeting { .. }, _) => return None,
            (Stage::Up | Stage::Closing { .. }, Incoming::PubRec(id)) if is_refused => {
                let token = self.awaits(id.value(), 2);
                self.answers_publish(id.value(), token)
            }
            (Stage::Up | Stage::Closing { .. }, Incoming::PubAck(id)) => {
                let token = self.awaits(id.value(), 1);
                let token = token.or_else(|| self.awaits(id.value(), 2));
                self.answers_publish(id.value(), token)
            }
            (Stage::Up | Stage::Closing { .. }, Incoming::PubComp(id)) => {
                let is_known = matches!(
                    self.in_use.get(&id.value()),
                    Some(InUse::Released(_) | InUse::GivenUp { .. })
                );
                if is_known {
                    self.version5.as_mut()?.in_quota.remove(&id.value());
                }
                self.completes(id.value())
            }
            (Stage::Up | Stage::Closing { .. }, Incoming::PingResp) => {
                self.trials.pong();
                let version5 = self.version5.as_mut()?;
                version5.pings = version5.pings.saturating_sub(1);
                None
            }
            (Stage::Closing { .. }, _) => return Some(Cause::Other),
            (Stage::Up, Incoming::Disconnect(_)) => {
                self.stage = Stage::Told;
                None
            }
            (Stage::Up, Incoming::PubRec(id)) => {
                self.releases5(id.value());
                None
            }
            (Stage::Up, Incoming::SubAck { id, granted }) => {
                if !self.is_subscribing(id.value()) {
                    return Some(Cause::Other);
                }
                if !self.is_answered(id.value(), granted) {
                    return None;
                }
                self.version5.as_mut()?.renewals.remove(&id.value());
                None
            }
            (Stage::Up, Incoming::UnsubAck(id)) => {
                let Some(InUse::Unsubscribe(filters)) = self.in_use.get(&id.value()) else {
                    return Some(Cause::Other);
                };
                if let Incoming::Answered { answer, .. } = packet
                    && answer.codes.len() != filters.len()
                {
                    return None;
                }
                self.frees(id.value());
                None
            }
            (Stage::Up, Incoming::PubRel(id)) => {
                if self.arrivals.awaits_our_pubrec(id.value()) {
                    return None;
                }
                let version5 = self.version5.as_mut()?;
                if self.arrivals.is_unreleased(id.value()) {
                    version5.unfinished.remove(&id.value());
                    self.completions_due.push_back(id.value());
                    self.arrivals.releases(id.value());
                } else {
                    version5.not_found_due.push_back(("PUBCOMP", id.value()));
                }
                None
            }
            (Stage::Up, Incoming::Publish { id, message }) => {
                let version5 = self.version5.as_mut()?;
                let is_again = id.is_some_and(|id| !version5.unfinished.insert(id.value()));
                let is_beyond = version5.unfinished.len() > usize::from(version5.receive_maximum);
                // An identifier in use counts once, and must not let messages wait without end.
                if (is_again || is_beyond) && !self.arrivals.has_room_for(*id, message) {
                    return None;
                }
                self.arrivals.arrives(*id, message);
                None
            }
            (_, Incoming::Answered { .. }) => unreachable!("it was made plain"),
        };
        self.version5.as_mut()?.answered = ends;
        Some(Cause::Packet(packet.clone(), ends))
    }

    /// PUBACK, or PUBREC that refuses, which is the end of a message.
    fn answers_publish(&mut self, id: u16, token: Option<Token>) -> Option<Token> {
        let is_given_up = matches!(self.in_use.get(&id), Some(InUse::GivenUp { .. }));
        if let Some(version5) = &mut self.version5
            && (is_given_up || token.is_some())
        {
            version5.in_quota.remove(&id);
        }
        if token.is_some() {
            self.frees(id);
        }
        token
    }

    /// PUBREC that does not refuse: an identifier that is not known is not in use afterwards either.
    fn releases5(&mut self, id: u16) {
        let is_given_up = matches!(
            self.in_use.get(&id),
            Some(InUse::GivenUp {
                until_session_ends: true
            })
        );
        let is_released = matches!(self.in_use.get(&id), Some(InUse::Released(_)));
        if is_given_up || is_released || self.awaits(id, 2).is_some() {
            return self.releases(id, false);
        }
        self.trials.releases(id, None, false);
        if let Some(version5) = &mut self.version5 {
            version5.not_found_due.push_back(("PUBREL", id));
        }
    }

    /// The session put a packet of `length` bytes into its output.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn sends5(&mut self, sent: &FromClient5<'_>, length: usize) -> Rule {
        let FromClient5 { packet, more } = sent;
        let is_up = self.stage == Stage::Up;
        if let Some(version5) = self.version5.as_mut().filter(|_| is_up) {
            version5.takes(packet, length)?;
            match packet {
                FromClient::Publish { id, qos: 1.., .. } => version5.counts(*id)?,
                FromClient::PubAck(id) => drop(version5.unfinished.remove(id)),
                FromClient::PingReq => version5.pings += 1,
                FromClient::Subscribe { id, filters }
                    if more.options.iter().any(|bits| bits & IF_NEW != 0) =>
                {
                    version5.renewals_left = version5.renewals_left.saturating_sub(filters.len());
                    version5.renewals.insert(*id);
                }
                FromClient::PubRel(id) | FromClient::PubComp(id) if more.code == NOT_FOUND => {
                    let name = match packet {
                        FromClient::PubRel(_) => "PUBREL",
                        _ => "PUBCOMP",
                    };
                    self.encoded += length;
                    let due = version5.not_found_due.pop_front();
                    return match due == Some((name, *id)) {
                        true => Ok(()),
                        false => Err(format!("{name} {id} is not known, due: {due:?}")),
                    };
                }
                _ => {}
            }
        }
        let may_have_code = matches!(packet, FromClient::Disconnect);
        if more.code != 0 && !may_have_code {
            return Err(format!("{packet:.200?} has the code {:#04x}", more.code));
        }
        self.sends(packet, length)
    }

    /// After the session handled a packet.
    ///
    /// # Errors
    /// The command that was answered and did not end, or the answer that did not come at once.
    pub(super) fn handled5(&mut self) -> Rule {
        let Some(version5) = &mut self.version5 else {
            return Ok(());
        };
        if let Some(token) = version5.answered.take()
            && self.commands.contains_key(&token)
        {
            return Err(format!("{token} was answered, and has not ended"));
        }
        match version5.not_found_due.front() {
            Some(due) if self.stage == Stage::Up => Err(format!("{due:?} is due")),
            _ => Ok(()),
        }
    }

    /// Nothing but other requests and the lack of identifiers delays a request [MQTT-3.3.4-8]; on a link on which
    /// subscriptions are renewed, their renewals; and on a trial link, the time for which it stands idle, and then the
    /// packet that is tried. The messages that stand without an answer do not. So many commands are awaited, those that
    /// stand apart.
    ///
    /// # Errors
    /// The request that is held back.
    pub(super) fn requests_are_out(
        &self,
        wants_requests: bool,
        output: usize,
        in_flight: usize,
    ) -> Rule {
        let Some(version5) = &self.version5 else {
            return Ok(());
        };
        let is_request =
            |command: &&Command| matches!(command.kind, Kind::Subscribe | Kind::Unsubscribe);
        let requests = || self.commands.values().filter(is_request);
        let is_out = |id: &u16| matches!(self.in_use.get(id), Some(InUse::Subscribe(_)));
        let may_wait = self.stage != Stage::Up
            || version5.renewals_left > 0
            || version5.renewals.iter().any(is_out)
            || self.trials.is_trying && (self.trials.stands_idle() || in_flight > 0)
            // PUBREC may have ended the trials, also while the link stood idle. The session goes on when PUBREL has left.
            || version5.began_with_trials && output > 0
            || output > MUCH_OUTPUT
            || self.in_use.len() >= version5.identifiers
            || requests().any(|own| own.filters.len() > 8);
        if may_wait {
            return Ok(());
        }
        let mut out: Vec<_> = self.in_use.values().collect();
        let mut busy = BTreeSet::new();
        for own in requests() {
            let is_of_it = |what: &&InUse| match what {
                InUse::Subscribe(filters) => own.kind == Kind::Subscribe && *filters == own.filters,
                InUse::Unsubscribe(filters) => {
                    let is_own = |filter| own.filters.contains(filter);
                    own.kind == Kind::Unsubscribe && filters.iter().all(is_own)
                }
                _ => false,
            };
            // Another one may ask for the same.
            let place = out.iter().position(is_of_it);
            let is_out = place.map(|place| out.swap_remove(place)).is_some();
            let is_free = own.filters.iter().all(|filter| !busy.contains(filter));
            match (is_out, is_free) {
                (true, _) => {}
                (false, true) => return Err(format!("{own:?} is held back")),
                // Requests keep their order.
                (false, false) => break,
            }
            busy.extend(&own.filters);
        }
        let has_ping = self.commands.values().any(|own| own.kind == Kind::Ping);
        match wants_requests || has_ping || self.much_waits(version5.max_waiting) {
            true => Ok(()),
            false => Err("the session takes no request".to_owned()),
        }
    }

    /// Whether so many commands may wait, or messages of so many bytes.
    fn much_waits(&self, (most, most_bytes): (usize, usize)) -> bool {
        let bytes = |command: &Command| match command.kind {
            Kind::Publish { payload, .. } => payload + LONGEST_TOPIC,
            _ => 0,
        };
        let all = self.commands.values();
        all.len() >= most || all.map(bytes).sum::<usize>() >= most_bytes
    }

    /// A command ended because of a limit of the broker, or because it has expired. Returns whether that is true.
    pub(super) fn ends_at_limit(&mut self, command: &Command, outcome: &Outcome) -> bool {
        let Some(limits) = self.version5.as_ref().and_then(|v| v.limits.as_ref()) else {
            return false;
        };
        let (Outcome::NeverSent(reason) | Outcome::PerhapsDelivered(reason)) = outcome else {
            return false;
        };
        let was_sent = matches!(outcome, Outcome::PerhapsDelivered(_));
        let qos = match command.kind {
            Kind::Publish { qos, .. } => Some(qos),
            _ => None,
        };
        let mut filters = command.filters.iter();
        let exceeds = match reason {
            Reason::BrokerLimit(BrokerLimit::MaximumQos) => {
                qos.is_some_and(|qos| qos > limits.maximum_qos as u8)
            }
            Reason::BrokerLimit(BrokerLimit::MaximumPacketSize) => {
                limits.maximum_packet_size.is_some()
            }
            Reason::BrokerLimit(BrokerLimit::WildcardAvailable) => {
                !limits.wildcard_available && filters.any(|filter| has_wildcards(filter))
            }
            Reason::BrokerLimit(BrokerLimit::SharedAvailable) => {
                !limits.shared_available && filters.any(|filter| is_shared(filter))
            }
            _ => false,
        };
        if qos == Some(2) && was_sent && command.sent_in_session {
            self.in_use.insert(command.id, InUse::Released(None));
            self.releases.push(command.id);
            self.releases_later.push_back(command.id);
        } else if let Some(InUse::Publish(_)) = self.in_use.get(&command.id) {
            // One of which no link took a byte had its identifier, too.
            self.in_use.remove(&command.id);
        }
        exceeds && (qos.is_none() || was_sent == command.sent)
    }

    /// The messages that stand on a trial link, in their order, if they are all that the broker takes at one time.
    pub(super) fn filling(&self) -> Vec<u16> {
        let Some(version5) = &self.version5 else {
            return Vec::new();
        };
        let is_counted = |id: &u16| {
            let is_publish = matches!(self.in_use.get(id), Some(InUse::Publish(_)));
            is_publish && version5.in_quota.contains(id)
        };
        let mut standing = self.trials.standing_messages();
        standing.retain(is_counted);
        match version5.takes_at_one_time() {
            Some(quota) if standing.len() >= quota => standing,
            _ => Vec::new(),
        }
    }

    /// So many bytes of a packet or of output moved, and others did not.
    pub(super) fn moves(&mut self, bytes: usize) {
        if let Some(version5) = &mut self.version5 {
            version5.moved += bytes;
        }
    }

    /// The link has to go, because the answer under this identifier is late.
    ///
    /// # Errors
    /// If a message leaves no room for another one for the last time, and is not given up.
    pub(super) fn fills(&mut self, id: u16) -> Rule {
        let filling = self.filling();
        // The clock of answers may have stood still.
        let answers = |v: &Link5| v.pings == 0 && v.moved < LEAST_MOVED;
        let answered = self.version5.as_ref().is_some_and(answers);
        self.trials.fill(&filling, id, answered)
    }

    /// Whether the link has to go, because messages that were given up are all that the broker takes at one time.
    pub(super) fn is_blocked(&self) -> bool {
        let is_given_up = |id: u16| matches!(self.in_use.get(&id), Some(InUse::GivenUp { .. }));
        let version5 = self.version5.as_ref();
        version5.is_some_and(|version5| version5.is_full_of(is_given_up))
    }

    /// Whether a filter that is renewed may be beyond the broker's limits.
    pub(super) fn may_refuse_renewals(&self) -> bool {
        let limits = self.version5.as_ref().and_then(|v| v.limits.as_ref());
        limits.is_some_and(|limits| {
            !limits.wildcard_available
                || !limits.shared_available
                || limits.maximum_packet_size.is_some()
        })
    }
}

impl Link5 {
    /// Whether the broker takes such a packet.
    fn takes(&self, packet: &FromClient<'_>, length: usize) -> Rule {
        let Some(limits) = &self.limits else {
            return Ok(());
        };
        let beyond = |limit: &str| Err(format!("{packet:.200?} is above {limit}"));
        match packet {
            FromClient::Publish { qos, .. } if *qos > limits.maximum_qos as u8 => {
                return beyond("the maximum QoS");
            }
            FromClient::Publish { retain: true, .. } if !limits.retain_available => {
                return beyond("what the broker retains");
            }
            FromClient::Subscribe { filters, .. } => {
                let mut names = filters.iter().map(|(name, _)| *name);
                if !limits.wildcard_available && names.clone().any(has_wildcards)
                    || !limits.shared_available && names.any(is_shared)
                {
                    return beyond("what the broker lets subscribe");
                }
            }
            FromClient::Publish { .. } | FromClient::Unsubscribe { .. } => {}
            _ => return Ok(()),
        }
        let largest = limits.maximum_packet_size.unwrap_or(u32::MAX);
        match length > largest as usize {
            true => beyond("the maximum packet size"),
            false => Ok(()),
        }
    }

    /// A PUBLISH of QoS 1 or 2 leaves.
    fn counts(&mut self, id: u16) -> Rule {
        self.in_quota.insert(id);
        let quota = self
            .limits
            .as_ref()
            .map_or(0, |limits| limits.receive_maximum);
        match self.in_quota.len() > usize::from(quota) {
            true => Err(format!(
                "{:?} are more than the {quota} that the broker takes",
                self.in_quota
            )),
            false => Ok(()),
        }
    }
}
