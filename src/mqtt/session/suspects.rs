//! Commands that links may be lost because of: each is suspected, tried alone, and given up.
//!
//! A broker may close the connection because of one packet (AWS IoT does so for a topic that its policy does not
//! allow), or answer everything but that one. Sending it again would go on for ever, hidden behind everything else
//! that is acknowledged. So:
//!
//! 1. A loss counts against a command if the broker closed or reset the link while bytes of the command had left
//!    unanswered, or if its own acknowledgment was late. No other ending counts. An answer sets the count to 0.
//! 2. After three such losses in a row the command is suspected. The next links are trials: what is unanswered goes
//!    out one at a time in its old order [MQTT-4.6.0-1], renewed filters first, and nothing else is sent.
//! 3. A trial link first stands idle until PINGRESP has come, and half as long again as any of these links lived. A
//!    link that ends on its own ends in that time. So each loss that still counts makes the next wait half as long
//!    again, and links whose lives differ less than sevenfold never give an innocent command up. A link on which a
//!    command was answered says nothing about how long links live: after it the wait is the shortest again. A renewed
//!    filter does not count there, because it is answered on each link. No link stands idle for longer than a minute.
//!    A trial link that the broker ended and that counts against no command ended as links do on their own, most of
//!    all one that still stood idle. The link after it is an ordinary one on which everything leaves, so that others
//!    have every second link at least. A broker that closes because of a command ends none while it stands idle.
//! 4. A command is given up when five links in a row were closed with it alone, sooner than the link had stood idle.
//!    A close later than a second, with the packet still on its way out, does not count: a broker that refuses a
//!    packet by its header does so at once. Nor does a close count on a link that took anything else: a QoS 0 message
//!    (point 5), or a PUBREL, which answers PUBREC at any time.
//! 5. A command whose acknowledgment is late on a trial link is let stand, and the next one has its turn; if there
//!    is none, new commands are taken until one awaits an answer. The first answer to another command gives up all
//!    that stand. Without one, the broker is at fault, and the link is made anew. QoS 0 messages leave meanwhile, and
//!    show nothing. Nor does PINGRESP, because a broker that drops messages for a while still answers PINGREQ; nor
//!    PUBCOMP, which answers any PUBREL; nor an answer to what an earlier link took.
//! 6. With MQTT 5, a message that stands still counts against the broker's receive maximum. Messages that stand may take
//!    all of it. Then no other message can show on this link whether the broker answers messages [MQTT-3.3.4-7], nor on
//!    the next one: they have to be sent again on it, in their old order and ahead of every later message
//!    [MQTT-4.4.0-1] [MQTT-4.6.0-1]. A link that is made anew because of that counts against the first of them that is
//!    suspected, because the broker answered PINGREQ and not that message. If the clock of answers has stood still
//!    meanwhile, because bytes of other packets came, the link lasts one acknowledgment time-out more, and counts
//!    against none if by that clock not even one is over then. With the fifth link that counts the message is given up. No more than one is,
//!    because the next link has room for a witness against the others. So eight links, three of them with point 2, find
//!    out one message at least, however many are never answered.
//!
//! Point 6 is the weaker rule: a broker that takes few messages at one time, and acknowledges none for an hour, loses one
//! of them for each five links. Such a link takes the acknowledgment time-out as often as the broker's receive maximum
//! says, and once more. Where the broker ends each link sooner, none counts, and no other message leaves: nothing tells
//! such a broker from links that are too short for its answers.
//!
//! Without that, a command that stands with nothing but QoS 0 messages behind it is never given up. Each link carries
//! some of these messages, and is then made anew. (With MQTT 5 they leave only while the broker takes one more message of
//! QoS 1 or 2, because no message overtakes another.) A witness of our own would not be sound. An UNSUBSCRIBE from a filter that
//! nobody has changes nothing, but its answer does not show that the broker acknowledges messages: a broker whose store
//! fails for an hour answers requests and acknowledges no PUBLISH, and every message of that hour would be given up.
//! (A request of the application counts, although it shows no more: some programs send little else.) A PUBLISH of our
//! own would reach subscribers. A QoS 0 message that left with QoS 1 would be kept for subscribers that are away, and
//! might come twice.
//!
//! A link may also be cut after so many bytes, whatever they are. A message that is larger than that ends there as
//! "closed with it alone", and is given up. No rule was found that tells such a link from a broker with a limit for
//! the size of a packet: both close while the packet is on its way, and small packets pass on both. A PINGREQ directly
//! behind the packet does not help. A broker that closes because of the packet reads nothing behind it, so PINGRESP
//! fails to come in both cases. PINGRESP and a close after it do speak of the packet, but to count only such closes
//! would let all brokers go that close at once. To measure a link in bytes, as the idle time measures it in time, it
//! would have to carry as many bytes before each trial as the packet has. So it stays: a message that
//! never passes is better told than sent for ever. The price is that, where the number of bytes varies, a message is
//! given up that might have passed on a later link.
//!
//! The commands themselves, and the order in which they are sent, are not known here. Pure; the loop's thread.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::event::SessionOptions;
use crate::mqtt::packet::PacketId;

/// The shortest time for which a trial link stands idle.
const SHORTEST_IDLE: Duration = Duration::from_millis(250);

/// The longest time. A link that lives that long is of use whatever ends it.
const LONGEST_IDLE: Duration = Duration::from_secs(60);

/// A broker that refuses a packet by its header closes the link that soon.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The counts against a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Suspicion {
    /// Losses in a row.
    losses: u32,
    /// Links in a row that were closed with it alone.
    alone: u32,
    /// Links on which it stood, and messages that stood took all that the broker takes at one time.
    filled: u32,
}

/// The trials, and the counts against the filters that are to be renewed. Renewals are made anew on each link.
#[derive(Debug, Clone)]
pub(super) struct Suspects {
    suspected_after: u32,
    given_up_after: u32,
    ack_timeout: Duration,
    phase: TrialPhase,
    up_since: Instant,
    /// The longest life of the trial links, of those between them, and of the link before them, since a trial link on
    /// which a command was answered.
    longest_life: Duration,
    /// Whether one was answered on this link.
    has_answer: bool,
    /// Whether anything left on this trial link beside what is tried.
    has_company: bool,
    /// Whether the last trial link ended on its own: the next link is an ordinary one.
    lets_pass: bool,
    /// The reading of the clock of answers when the last command began to stand.
    stands_since: Instant,
    renewals: BTreeMap<String, Suspicion>,
}

/// How far a trial link is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum TrialPhase {
    /// Nothing is tried.
    Off,
    /// Nothing is tried on this link, although something is suspected.
    Passed,
    /// The link stands idle.
    Idle { until: Instant, has_pong: bool },
    /// One packet after the other is tried.
    Trial(Trial),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Trial {
    /// For how long the link has stood idle.
    idle: Duration,
    /// The one that is tried, and since when.
    current: Option<(PacketId, Instant)>,
    /// Those that are let stand without an answer.
    standing: Vec<PacketId>,
    /// Whether the broker has answered another command since they were looked at last.
    has_witness: bool,
    /// Since when the last of them does, or there is time once more.
    since: Instant,
    /// Whether there is.
    was_put_off: bool,
}

impl Suspicion {
    pub(super) fn count_loss(&mut self) {
        self.losses = self.losses.saturating_add(1);
    }
}

impl Suspects {
    pub(super) fn new(options: &SessionOptions, now: Instant) -> Self {
        Suspects {
            suspected_after: options.suspected_after,
            given_up_after: options.given_up_after,
            ack_timeout: options.ack_timeout,
            phase: TrialPhase::Off,
            up_since: now,
            longest_life: Duration::ZERO,
            has_answer: false,
            has_company: false,
            lets_pass: false,
            stands_since: now,
            renewals: BTreeMap::new(),
        }
    }

    /// The broker accepted CONNECT.
    pub(super) fn handle_connected(&mut self, now: Instant) {
        self.phase = TrialPhase::Off;
        self.up_since = now;
        self.has_answer = false;
        self.has_company = false;
    }

    /// Something is suspected: the present link is a trial link unless the last one ended on its own. PINGREQ goes out
    /// now on a trial link. Returns for how long the link stands idle.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Duration> {
        if std::mem::take(&mut self.lets_pass) {
            self.phase = TrialPhase::Passed;
            return None;
        }
        let idle = self.longest_life + self.longest_life / 2;
        let idle = idle.clamp(SHORTEST_IDLE, LONGEST_IDLE);
        self.phase = TrialPhase::Idle {
            until: now + idle,
            has_pong: false,
        };
        Some(idle)
    }

    /// Nothing suspect is left: the link goes on like any other.
    pub(super) fn end(&mut self) {
        self.phase = TrialPhase::Off;
    }

    /// PINGRESP came.
    pub(super) fn handle_pingresp(&mut self) {
        if let TrialPhase::Idle { has_pong, .. } = &mut self.phase {
            *has_pong = true;
        }
    }

    /// Whether the link has stood idle for long enough since the last call.
    pub(super) fn becomes_ready(&mut self, now: Instant) -> bool {
        match self.phase {
            TrialPhase::Idle {
                until,
                has_pong: true,
            } if until <= now => {
                self.phase = TrialPhase::Trial(Trial {
                    idle: until.saturating_duration_since(self.up_since),
                    current: None,
                    standing: Vec::new(),
                    has_witness: false,
                    since: now,
                    was_put_off: false,
                });
                true
            }
            _ => false,
        }
    }

    /// A packet was put into the output.
    pub(super) fn handle_sent(&mut self, id: PacketId, now: Instant) {
        if let TrialPhase::Trial(trial) = &mut self.phase {
            // PUBREL for a message that is not known leaves at any time.
            trial.current.get_or_insert((id, now));
        }
    }

    /// A packet leaves that is not the one that is tried.
    pub(super) fn note_company(&mut self) {
        self.has_company |= !self.is_off();
    }

    /// The broker answered a command.
    pub(super) fn note_answer(&mut self) {
        self.has_answer = true;
    }

    /// The packet under this identifier was answered, or is not sent any more. Whether it is a witness: the broker
    /// has looked at a command that was sent on this link.
    pub(super) fn handle_answered(&mut self, id: PacketId, is_witness: bool) {
        if let TrialPhase::Trial(trial) = &mut self.phase {
            trial.has_witness |= is_witness;
            trial.current.take_if(|(current, _)| *current == id);
            trial.standing.retain(|standing| *standing != id);
        }
    }

    /// Whether there was a witness since the last call.
    pub(super) fn take_witness(&mut self) -> bool {
        match &mut self.phase {
            TrialPhase::Trial(trial) => std::mem::take(&mut trial.has_witness),
            _ => false,
        }
    }

    /// The acknowledgment under this identifier is late, and the clock of answers shows `clock`. Returns whether it is
    /// let stand.
    pub(super) fn lets_stand(&mut self, id: PacketId, now: Instant, clock: Instant) -> bool {
        let TrialPhase::Trial(trial) = &mut self.phase else {
            return false;
        };
        let is_current = trial
            .current
            .take_if(|(current, _)| *current == id)
            .is_some();
        if is_current {
            trial.standing.push(id);
            trial.since = now;
            self.stands_since = clock;
        }
        is_current
    }

    /// The link is gone on which CONNACK had come. Returns the packet that was tried, if it was alone and the broker
    /// closed the link, and whether that counts against it, given whether it had left as a whole.
    pub(super) fn handle_link_lost(
        &mut self,
        by_broker: bool,
        now: Instant,
    ) -> Option<(PacketId, impl Fn(bool) -> bool + use<>)> {
        let life = now.saturating_duration_since(self.up_since);
        self.lets_pass = by_broker && !self.is_off();
        let phase = std::mem::replace(&mut self.phase, TrialPhase::Off);
        self.longest_life = match (&phase, by_broker) {
            // Others were answered, and the trials go on.
            (TrialPhase::Passed, true) => self.longest_life.max(life),
            (_, true) if self.has_answer => Duration::ZERO,
            (TrialPhase::Off, true) => life,
            (TrialPhase::Off, false) => Duration::ZERO,
            (_, true) => self.longest_life.max(life),
            (_, false) => self.longest_life,
        };
        let TrialPhase::Trial(Trial { idle, current, .. }) = phase else {
            return None;
        };
        let (id, since) = current.filter(|_| by_broker && !self.has_company)?;
        let took = now.saturating_duration_since(since);
        Some((id, move |has_left| {
            took < idle && (has_left || took < AT_ONCE)
        }))
    }

    /// Counts whether a link was closed with it alone. Returns whether it is given up.
    pub(super) fn judges(&mut self, suspicion: &mut Suspicion, counts: bool) -> bool {
        self.lets_pass &= !counts;
        suspicion.alone = if counts { suspicion.alone + 1 } else { 0 };
        suspicion.alone >= self.given_up_after
    }

    /// Counts a link that had no room for a witness, because it and others stood. Returns whether it is given up.
    pub(super) fn judges_filled(&self, suspicion: &mut Suspicion) -> bool {
        suspicion.filled += 1;
        suspicion.filled >= self.given_up_after
    }

    /// The command that has stood without an answer for the longest time, once no other command has shown in time
    /// that the broker answers. If none could, because those that stand are `all` that the broker takes, and by the clock
    /// of answers, which shows `clock`, the time is not over, there is as much time once more. Returns with the command
    /// whether it is over by that clock.
    pub(super) fn late_without_witness(
        &mut self,
        all: bool,
        now: Instant,
        clock: Instant,
    ) -> Option<(PacketId, bool)> {
        let is_late = self.next_timer().is_some_and(|at| at <= now);
        let TrialPhase::Trial(trial) = &mut self.phase else {
            return None;
        };
        if !is_late {
            return None;
        }
        let is_over = clock - self.stands_since >= self.ack_timeout;
        trial.since = now;
        if all && !is_over && !std::mem::replace(&mut trial.was_put_off, true) {
            return None;
        }
        self.stands_since = clock;
        let first = trial.standing.first()?;
        Some((*first, is_over))
    }
}

/// Questions.
impl Suspects {
    /// Whether the link is no trial link.
    pub(super) fn is_off(&self) -> bool {
        matches!(self.phase, TrialPhase::Off | TrialPhase::Passed)
    }

    /// Whether a packet may be sent now: on a trial link the next one.
    pub(super) fn lets_send(&self) -> bool {
        match &self.phase {
            TrialPhase::Off | TrialPhase::Passed => true,
            TrialPhase::Idle { .. } => false,
            TrialPhase::Trial(trial) => trial.current.is_none(),
        }
    }

    /// Whether the packet under this identifier is the one that is tried.
    pub(super) fn tries(&self, id: PacketId) -> bool {
        match &self.phase {
            TrialPhase::Trial(trial) => trial.current.is_some_and(|(current, _)| current == id),
            _ => false,
        }
    }

    /// Those that are let stand without an answer.
    pub(super) fn standing(&self) -> &[PacketId] {
        match &self.phase {
            TrialPhase::Trial(trial) => &trial.standing,
            _ => &[],
        }
    }

    /// Whether another command has to show that the broker answers.
    pub(super) fn wants_witness(&self) -> bool {
        self.lets_send() && !self.standing().is_empty()
    }

    /// When the phase ends.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        match &self.phase {
            TrialPhase::Idle {
                until,
                has_pong: true,
            } => Some(*until),
            TrialPhase::Trial(trial) if self.wants_witness() => {
                Some(trial.since + self.ack_timeout)
            }
            _ => None,
        }
    }

    /// Whether a command is suspected against which this counts.
    pub(super) fn suspects(&self, suspicion: Suspicion) -> bool {
        suspicion.losses >= self.suspected_after
    }
}

#[cfg(test)]
impl Suspects {
    pub(super) fn break_suspicion(&mut self) {
        self.suspected_after = u32::MAX;
    }

    pub(super) fn break_threshold(&mut self, links: u32) {
        self.given_up_after = links;
    }

    pub(super) fn break_company(&mut self) {
        self.has_company = false;
    }

    pub(super) fn break_witness(&mut self) {
        if let TrialPhase::Trial(trial) = &mut self.phase {
            trial.has_witness = true;
        }
    }

    pub(super) fn break_idle(&mut self, now: Instant) {
        if let TrialPhase::Idle { until, .. } = &mut self.phase {
            *until = now;
        }
    }

    /// Hashes what decides which packet is sent next.
    pub(super) fn hash_state(&self, state: &mut impl std::hash::Hasher) {
        let told = (self.longest_life, self.has_company, self.lets_pass);
        std::hash::Hash::hash(&(&self.phase, &self.renewals, told), state);
    }
}

/// Filters that are to be renewed.
impl Suspects {
    /// These are to be renewed, and no others.
    pub(super) fn keep_renewals<'a>(&mut self, owed: impl Iterator<Item = &'a str>) {
        let mut before = std::mem::take(&mut self.renewals);
        for filter in owed {
            if let Some((filter, suspicion)) = before.remove_entry(filter) {
                self.renewals.insert(filter, suspicion);
            }
        }
    }

    /// The counts against a renewal that is sent alone.
    pub(super) fn of_renewal(&self, filter: &str) -> Suspicion {
        self.renewals.get(filter).copied().unwrap_or_default()
    }

    /// A renewal went with its link. Its losses count against each of its filters.
    pub(super) fn keep_renewal<'a>(
        &mut self,
        mut filters: impl Iterator<Item = &'a str>,
        suspicion: Suspicion,
    ) {
        let (Some(first), second) = (filters.next(), filters.next()) else {
            return;
        };
        let Some(second) = second else {
            self.renewals.insert(first.to_owned(), suspicion);
            return;
        };
        for filter in [first, second].into_iter().chain(filters) {
            self.renewals.entry(filter.to_owned()).or_default().losses += suspicion.losses;
        }
    }

    /// The broker answered the renewal of this filter, or it is given up.
    pub(super) fn forget_renewal(&mut self, filter: &str) {
        self.renewals.remove(filter);
    }

    /// The first filter that is suspected.
    pub(super) fn suspected_renewal(&self) -> Option<&str> {
        let mut all = self.renewals.iter();
        let found = all.find(|(_, suspicion)| self.suspects(**suspicion));
        found.map(|(filter, _)| filter.as_str())
    }
}
