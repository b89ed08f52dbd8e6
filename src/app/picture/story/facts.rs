//! Sentences and notes about the whole: how many commands each thread had, how many at once, and how long they took.

use super::{Doing, Interval, LaneKind, Life, MessageCounts, Sign, Story, time_text};
use crate::app::lines::Many;
use crate::app::picture::model::Pause;

/// Threads that have a sentence of their own.
const TOLD_THREADS: usize = 4;

/// Commands that a thread has to have for one.
const WORTH_A_SENTENCE: usize = 3;

/// The end of a command that was not queued. Its thread may push it again, as another one.
const HANDED_BACK: &str = "handed back";

/// The lives in one lane, without commands that were handed back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LaneLives {
    /// Begins and ends.
    spans: Vec<(u64, u64)>,
    /// Whether one was acknowledged. Commands of QoS 0 are not.
    is_acknowledged: bool,
}

impl Story {
    pub(super) fn facts(&mut self) {
        let connections = match self.signs(Sign::Made) {
            0 => ": no connection was made".to_owned(),
            1 => " over one connection".to_owned(),
            other => format!(" over {other} connections, one after the other"),
        };
        let mut facts = vec![format!("{}{connections}", self.counts.came_through())];
        facts.extend(self.counts.went_wrong());
        if let Some(iterations) = self.iterations() {
            facts.push(iterations);
        }
        let mut told = 0;
        for (number, lives) in self.by_lane().iter().enumerate() {
            let lane = &mut self.picture.lanes[number];
            let what = match lane.kind {
                LaneKind::Thread => "command",
                LaneKind::Inbox => "message",
                _ => continue,
            };
            lane.note = lives.note(what);
            let is_worth_it =
                lane.kind == LaneKind::Thread && lives.spans.len() >= WORTH_A_SENTENCE;
            if is_worth_it && told < TOLD_THREADS {
                told += 1;
                let name = &self.picture.lanes[number].name;
                let did = lives.did(&self.picture.pauses);
                let waited = self.waited(number, lives.is_acknowledged);
                facts.push(format!("{name}: {did}; {waited}"));
            }
        }
        facts.extend(self.lost());
        facts.extend(self.failed_attempts());
        if self.overwritten > 0 {
            let missing = match self.overwritten {
                1 => "was overwritten and is missing",
                _ => "were overwritten and are missing",
            };
            facts.push(format!(
                "{} {missing}",
                Many(self.overwritten, "older record")
            ));
        }
        if self.forgotten_threads > 0 {
            let are = if self.forgotten_threads == 1 {
                "is"
            } else {
                "are"
            };
            let threads = Many(self.forgotten_threads, "thread");
            facts.push(format!("{threads} {are} missing"));
        }
        if self.left_out > 0 {
            let are = if self.left_out == 1 { "is" } else { "are" };
            let iterations = Many(self.left_out, "earlier iteration");
            facts.push(format!("{iterations} {are} left out"));
        }
        self.picture.facts = facts;
        self.picture.focus = self.focus();
    }

    /// How many signs of this kind there are.
    fn signs(&self, sign: Sign) -> usize {
        let moments = self.picture.moments.iter();
        moments.filter(|one| one.sign == sign).count()
    }

    /// How often the connection was lost, and how long there was none.
    fn lost(&self) -> Option<String> {
        let away = time_text(self.away());
        Some(match self.losses {
            0 => return None,
            1 => format!("the connection was lost once and was away for {away}"),
            times => {
                format!("the connection was lost {times} times and was away for {away} in all")
            }
        })
    }

    /// The time from each loss to the next connection, or to the end of the loop.
    fn away(&self) -> u64 {
        let pauses = &self.picture.pauses;
        let end_of_loop = |at: u64| {
            let next = pauses.partition_point(|pause| pause.from < at);
            pauses.get(next).map_or(self.offset, |pause| pause.from)
        };
        let mut away = 0;
        let mut lost: Option<u64> = None;
        let mut ends = |lost: &mut Option<u64>, at: u64| {
            if let Some(lost) = lost.take() {
                away += at.min(end_of_loop(lost)) - lost;
            }
        };
        for moment in &self.picture.moments {
            match moment.sign {
                Sign::Broken => {
                    ends(&mut lost, moment.at);
                    lost = Some(moment.at);
                }
                Sign::Made => ends(&mut lost, moment.at),
                _ => {}
            }
        }
        ends(&mut lost, u64::MAX);
        away
    }

    /// The attempts to connect that failed, and what became of the last one.
    fn failed_attempts(&self) -> Option<String> {
        let mut moments = self.picture.moments.iter();
        let last = moments.rfind(|one| one.sign == Sign::AttemptFailed)?;
        let text = self.picture.texts.get(last.text? as usize)?;
        let cause = text.strip_prefix("failed: ");
        Some(match (self.signs(Sign::AttemptFailed), cause) {
            (1, _) => format!("one attempt to connect {text}"),
            (many, Some(cause)) => {
                format!("{many} attempts to connect failed, the last one: {cause}")
            }
            (many, None) => format!("{many} attempts to connect failed"),
        })
    }

    /// The iterations, and the time between them.
    fn iterations(&self) -> Option<String> {
        let pauses = &self.picture.pauses;
        let between = time_text(pauses.iter().map(|pause| pause.lasted).sum());
        let drawn = match pauses.len() {
            0 => return None,
            1 => "is drawn as a strip".to_owned(),
            several => format!("is drawn as {several} strips"),
        };
        let count = pauses.len() + 1;
        Some(format!(
            "{count} iterations; the time between them, {between}, {drawn}"
        ))
    }

    fn by_lane(&self) -> Vec<LaneLives> {
        let mut lanes = vec![LaneLives::default(); self.picture.lanes.len()];
        let lives = self.lives.iter();
        for unplaced in lives.filter(|one| one.life.end != HANDED_BACK) {
            for intervals in unplaced.by_lane() {
                let lane = &mut lanes[intervals[0].lane as usize];
                lane.spans.push((unplaced.life.from, unplaced.life.to));
                lane.is_acknowledged |= unplaced.life.acknowledged.is_some();
            }
        }
        lanes.iter_mut().for_each(|lane| lane.spans.sort_unstable());
        lanes
    }

    /// How long a thread waited, and for what.
    fn waited(&self, lane: usize, is_acknowledged: bool) -> String {
        let ends = match is_acknowledged {
            true => "acknowledgments",
            false => "them to be sent",
        };
        let waits = [
            (&[Doing::WaitsForOutcome, Doing::WaitsForBatch][..], ends),
            (&[Doing::WaitsForMessage][..], "messages"),
            (&[Doing::WaitsForRoom][..], "room in the queue"),
        ];
        let mut told = Vec::new();
        for (doings, what) in waits {
            let took = self.took(|one| one.lane as usize == lane && doings.contains(&one.doing));
            if took > 0 {
                told.push(format!("{} for {what}", time_text(took)));
            }
        }
        match told.is_empty() {
            true => "it waited for none of them".to_owned(),
            false => format!("it waited {}", told.join(" and ")),
        }
    }

    /// The time that these intervals take.
    fn took(&self, which: impl Fn(&Interval) -> bool) -> u64 {
        let intervals = self.picture.intervals.iter().filter(|one| which(one));
        intervals.map(|one| one.to - one.from).sum()
    }

    /// The time of the first loop's messages.
    fn focus(&self) -> Option<(u64, u64)> {
        let first_pause = self
            .picture
            .pauses
            .first()
            .map_or(u64::MAX, |pause| pause.from);
        let lives = self.lives.iter().map(|one| &one.life);
        let own = |life: &&Life| life.what == "PUBLISH" && life.from < first_pause;
        let from = lives.clone().filter(own).map(|life| life.from).min()?;
        let to = lives.filter(own).map(|life| life.to).max()?;
        (to > from).then_some((from, to))
    }
}

impl MessageCounts {
    /// The messages that were published and received.
    fn came_through(&self) -> String {
        let published = Many(self.published, "message");
        match self.received {
            Some(received) => format!("{published} published and {received} received"),
            None => format!("{published} published"),
        }
    }

    /// The other ones.
    fn went_wrong(&self) -> Option<String> {
        let missing = self.published.saturating_sub(self.acknowledged);
        let (one, many) = match self.qos {
            0 => ("was not sent", "were not sent"),
            _ => ("was not acknowledged", "were not acknowledged"),
        };
        let counts = [
            (missing, one, many),
            (self.duplicated, "came twice", "came twice"),
            (
                self.dropped,
                "found the inbox full and was dropped",
                "found the inbox full and were dropped",
            ),
        ];
        let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
        let told = counts.map(|(count, one, many)| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| format!("of the messages, {}", told.join(", ")))
    }
}

impl LaneLives {
    /// For below the lane's name.
    fn note(&self, what: &str) -> String {
        match self.spans.len() {
            0 => String::new(),
            1 => format!("1 {what}"),
            count => format!("{count} {what}s, {} at once", self.most()),
        }
    }

    /// How many there were, how long they took without the pauses, and how many there were at once.
    fn did(&self, pauses: &[Pause]) -> String {
        let iteration = |begin: u64| pauses.partition_point(|pause| pause.to <= begin);
        let of_one = |one: &(u64, u64), next: &(u64, u64)| iteration(one.0) == iteration(next.0);
        let took = self.spans.chunk_by(of_one).map(|spans| {
            let end = spans.iter().map(|span| span.1).max();
            end.map_or(0, |end| end - spans[0].0)
        });
        let took = time_text(took.sum());
        let at_once = match self.most() {
            1 => "one after the other".to_owned(),
            most => format!("up to {most} at once"),
        };
        format!("{} commands in {took}, {at_once}", self.spans.len())
    }

    /// How many there are at most at a time.
    fn most(&self) -> usize {
        let mut ends: Vec<u64> = self
            .spans
            .iter()
            .map(|span| span.1.max(span.0 + 1))
            .collect();
        ends.sort_unstable();
        let (mut most, mut ended) = (0, 0);
        for (begun, (begin, _)) in self.spans.iter().enumerate() {
            while ends[ended] <= *begin {
                ended += 1;
            }
            most = most.max(begun + 1 - ended);
        }
        most
    }
}
