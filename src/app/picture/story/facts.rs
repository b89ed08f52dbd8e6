//! Sentences and notes about the whole: how many commands each thread had, how many at once, and how long they took.

use super::{Doing, LaneKind, Life, Sign, Story, time_text};

/// Threads that have a sentence of their own.
const TOLD_THREADS: usize = 4;

/// Commands that a thread has to have for one.
const WORTH_A_SENTENCE: usize = 3;

/// The lives in one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LaneLives {
    /// Begins and ends.
    spans: Vec<(u64, u64)>,
}

impl Story {
    pub(super) fn facts(&mut self) {
        let lives = self.lives.iter().map(|one| &one.life);
        let published = lives.clone().filter(|life| life.what == "PUBLISH").count();
        let received = lives.filter(|life| life.what == "message").count();
        let made = self
            .picture
            .moments
            .iter()
            .filter(|one| one.sign == Sign::Made);
        let over = match made.count() {
            0 => ": no connection was made".to_owned(),
            1 => " over one connection".to_owned(),
            other => format!(" over {other} connections, one after the other"),
        };
        let mut facts = vec![format!(
            "{published} messages published and {received} received{over}"
        )];
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
            if is_worth_it && told < TOLD_THREADS && self.picture.pauses.is_empty() {
                told += 1;
                facts.push(lives.sentence(&self.picture.lanes[number].name, self.waited(number)));
            }
        }
        if self.losses > 0 {
            let times = match self.losses {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            };
            let down = self
                .picture
                .intervals
                .iter()
                .filter(|one| one.doing == Doing::Down);
            let down = time_text(down.map(|one| one.to - one.from).sum());
            facts.push(format!(
                "the connection was lost {times}, and the loop waited {down} for its attempts"
            ));
        }
        if self.overwritten > 0 {
            facts.push(format!(
                "{} older records were overwritten and are missing",
                self.overwritten
            ));
        }
        if self.forgotten_threads > 0 {
            facts.push(format!("{} threads are missing", self.forgotten_threads));
        }
        if self.left_out > 0 {
            facts.push(format!("{} earlier iterations are left out", self.left_out));
        }
        self.picture.facts = facts;
        self.picture.focus = self.focus();
    }

    fn by_lane(&self) -> Vec<LaneLives> {
        let mut lanes = vec![LaneLives::default(); self.picture.lanes.len()];
        for unplaced in &self.lives {
            for intervals in unplaced.by_lane() {
                let span = (unplaced.life.from, unplaced.life.to);
                lanes[intervals[0].lane as usize].spans.push(span);
            }
        }
        lanes.iter_mut().for_each(|lane| lane.spans.sort_unstable());
        lanes
    }

    /// The time that a thread waited.
    fn waited(&self, lane: usize) -> u64 {
        let own = self
            .picture
            .intervals
            .iter()
            .filter(|one| one.lane as usize == lane && one.row == 0);
        let waits = own.filter(|one| one.doing != Doing::Missing);
        waits.map(|one| one.to - one.from).sum()
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

impl LaneLives {
    /// For below the lane's name.
    fn note(&self, what: &str) -> String {
        match self.spans.len() {
            0 => String::new(),
            1 => format!("1 {what}"),
            count => format!("{count} {what}s, {} at once", self.most()),
        }
    }

    fn sentence(&self, name: &str, waited: u64) -> String {
        let begin = self.spans.first().map_or(0, |span| span.0);
        let end = self.spans.iter().map(|span| span.1).max().unwrap_or(begin);
        let at_once = match self.most() {
            1 => "one after the other".to_owned(),
            most => format!("up to {most} at once"),
        };
        let waited = match waited {
            0 => "waiting for no single one".to_owned(),
            waited => format!("waiting {} in all", time_text(waited)),
        };
        let (count, took) = (self.spans.len(), time_text(end - begin));
        format!("{name}: {count} commands in {took}, {at_once}, {waited}")
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
