//! A picture as data: lanes, intervals, moments, and the lives that they belong to.
//!
//! Times are nanoseconds since the picture's beginning, without the pauses that it leaves out. Knows nothing of how it
//! came about, nor of how it is drawn. Pure data; any thread.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::look::{Doing, Sign};

/// Rows of single lives in a lane that has room for all of them.
const MOST_ROWS: usize = 8;

/// Rows of single lives in a lane of more. The others are drawn as a crowd below them.
const ROWS_WITH_CROWD: usize = 4;

/// The number of no life.
pub(crate) const NO_LIFE: u32 = u32::MAX;

/// A run of the program, to be drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Picture {
    pub(crate) title: String,
    /// Sentences for below the title.
    pub(crate) facts: Vec<String>,
    /// Where the last thing ends.
    pub(crate) span: u64,
    pub(crate) lanes: Vec<Swimlane>,
    /// By lane, row and begin. Those of one row do not overlap, except for those of a crowd.
    pub(crate) intervals: Vec<Interval>,
    /// By lane and time.
    pub(crate) moments: Vec<Moment>,
    /// Texts of moments.
    pub(crate) texts: Vec<String>,
    pub(crate) lives: Vec<Life>,
    /// In order.
    pub(crate) pauses: Vec<Pause>,
    /// The time of the messages, worth a closer look.
    pub(crate) focus: Option<(u64, u64)>,
}

/// The kinds of lanes, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneKind {
    /// A thread: what it waits for, and its commands.
    Thread,
    /// How many commands wait in the queue.
    Queue,
    /// How many commands await their acknowledgment.
    InFlight,
    Loop,
    Link,
    /// Bytes that go out on the link.
    BytesOut,
    /// Bytes that come in on it.
    BytesIn,
    Inbox,
}

/// One lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Swimlane {
    pub(crate) kind: LaneKind,
    pub(crate) name: String,
    /// A few words below the name.
    pub(crate) note: String,
    /// Rows of single intervals.
    pub(crate) rows: usize,
    /// Whether there is a crowd below them: intervals whose row is `rows`.
    pub(crate) has_crowd: bool,
}

/// Something that took time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval {
    pub(crate) lane: u32,
    pub(crate) row: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) doing: Doing,
    /// Or [`NO_LIFE`].
    pub(crate) life: u32,
}

/// Something that happened at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) lane: u32,
    pub(crate) at: u64,
    pub(crate) sign: Sign,
    /// Of a TLS record, or of a write or read.
    pub(crate) bytes: u64,
    /// The number of its text in [`Picture::texts`].
    pub(crate) text: Option<u32>,
}

/// A command, or a message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    /// The lane of its intervals, the first one if there are several.
    pub(crate) lane: u32,
    /// A packet's name, or `message`.
    pub(crate) what: &'static str,
    /// 0 for none.
    pub(crate) packet_id: u16,
    /// 3 for none.
    pub(crate) qos: u8,
    pub(crate) bytes: u64,
    /// How it ended: a word, or empty.
    pub(crate) end: &'static str,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// When the broker's last acknowledgment came, or ours of a message left.
    pub(crate) acknowledged: Option<u64>,
    /// Times that it was sent.
    pub(crate) sent: u32,
}

/// A time in which no loop ran. It takes no more room than it lasted, and at least a nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Nanoseconds that it lasted.
    pub(crate) lasted: u64,
    /// The time since the beginning of the run at which it begins, earlier pauses included.
    pub(crate) real: u64,
}

/// A life with its intervals, before it has a row.
#[derive(Debug, Clone)]
pub(crate) struct Unplaced {
    pub(crate) life: Life,
    /// By lane and begin. Their rows and lives are not known yet.
    pub(crate) intervals: Vec<Interval>,
}

impl Interval {
    /// One that has no life, or not yet, in the first row.
    pub(crate) fn new(lane: u32, from: u64, to: u64, doing: Doing) -> Self {
        Interval {
            lane,
            row: 0,
            from,
            to,
            doing,
            life: NO_LIFE,
        }
    }
}

impl Unplaced {
    /// Its intervals lane by lane.
    pub(crate) fn by_lane(&self) -> impl Iterator<Item = &[Interval]> {
        self.intervals.chunk_by(|one, next| one.lane == next.lane)
    }
}

impl Picture {
    /// Gives each life its row in each of its lanes, and sorts everything.
    pub(crate) fn place(&mut self, mut lives: Vec<Unplaced>) {
        lives.sort_by_key(|one| (one.life.from, one.life.lane));
        let most = rows_for(&lives, self.lanes.len());
        // When each row of each lane is free again.
        let mut free: Vec<Vec<u64>> = vec![Vec::new(); self.lanes.len()];
        // The rows that a lane has before the first life.
        let own: Vec<usize> = self.lanes.iter().map(|lane| lane.rows).collect();
        for unplaced in lives {
            let number = self.lives.len() as u32;
            for intervals in unplaced.by_lane() {
                let (lane, from, to) = span(intervals);
                let rows = &mut free[lane];
                let row = rows.iter().position(|free| *free <= from);
                let row = row.unwrap_or(rows.len());
                if row == most[lane] {
                    self.lanes[lane].has_crowd = true;
                } else {
                    rows.resize(rows.len().max(row + 1), 0);
                    rows[row] = to.max(from + 1);
                }
                let row = (own[lane] + row) as u32;
                let lasting = intervals.iter().filter(|one| one.from < one.to);
                self.intervals.extend(lasting.map(|one| Interval {
                    row,
                    life: number,
                    ..*one
                }));
            }
            self.lives.push(unplaced.life);
        }
        for ((lane, own), rows) in self.lanes.iter_mut().zip(own).zip(&free) {
            lane.rows = own + rows.len();
        }
        self.intervals.sort_unstable();
        self.moments.sort_unstable();
        let ends = self.intervals.iter().map(|interval| interval.to);
        let moments = self.moments.iter().map(|moment| moment.at);
        let pauses = self.pauses.iter().map(|pause| pause.to);
        let last = ends.chain(moments).chain(pauses).max();
        self.span = last.unwrap_or(0).max(self.span).max(1);
    }

    /// The number of a text.
    pub(crate) fn text(&mut self, text: String) -> u32 {
        self.texts.push(text);
        self.texts.len() as u32 - 1
    }

    /// Adds a pause behind all others.
    pub(crate) fn pause(&mut self, from: u64, to: u64, lasted: u64) {
        let real = self.real(from);
        self.pauses.push(Pause {
            from,
            to,
            lasted,
            real,
        });
    }

    /// The time since the beginning of the run, pauses included. Inside of a pause it runs as fast as that lasted.
    pub(crate) fn real(&self, at: u64) -> u64 {
        let begun = self.pauses.partition_point(|pause| pause.from <= at);
        let Some(pause) = begun.checked_sub(1).map(|last| self.pauses[last]) else {
            return at;
        };
        if at >= pause.to {
            return pause.real + pause.lasted + (at - pause.to);
        }
        let inside = u128::from(at - pause.from) * u128::from(pause.lasted);
        let part = inside / u128::from(pause.to - pause.from);
        pause.real + u64::try_from(part).unwrap_or(pause.lasted)
    }

    /// The intervals of one row, by begin.
    pub(crate) fn row(&self, lane: usize, row: usize) -> &[Interval] {
        let key = (lane as u32, row as u32);
        let begin = self
            .intervals
            .partition_point(|one| (one.lane, one.row) < key);
        let end = self
            .intervals
            .partition_point(|one| (one.lane, one.row) <= key);
        &self.intervals[begin..end]
    }

    /// The moments of one lane, by time.
    pub(crate) fn moments_of(&self, lane: usize) -> &[Moment] {
        let lane = lane as u32;
        let begin = self.moments.partition_point(|one| one.lane < lane);
        let end = self.moments.partition_point(|one| one.lane <= lane);
        &self.moments[begin..end]
    }

    /// The intervals whose number at a time a lane shows, if it shows one: those of its crowd, or of all threads.
    pub(crate) fn counted(&self, lane: usize) -> Vec<Interval> {
        let counts = |doing: Doing| {
            let all = self.intervals.iter().filter(|one| one.doing == doing);
            all.copied().collect()
        };
        match self.lanes[lane].kind {
            LaneKind::Queue => counts(Doing::Queued),
            LaneKind::InFlight => counts(Doing::OnItsWay),
            _ => self.row(lane, self.lanes[lane].rows).to_vec(),
        }
    }

    /// Whether a lane has a band that shows a number.
    pub(crate) fn has_band(&self, lane: usize) -> bool {
        let lane = &self.lanes[lane];
        lane.has_crowd || matches!(lane.kind, LaneKind::Queue | LaneKind::InFlight)
    }
}

/// Lines for the texts of these moments: two where a connection comes and goes.
pub(crate) fn text_lines(moments: &[Moment]) -> usize {
    let has = |wanted: fn(&Moment) -> bool| moments.iter().any(wanted);
    let made = has(|one| one.sign == Sign::Made);
    match made && has(|one| matches!(one.sign, Sign::Broken | Sign::AttemptFailed)) {
        true => 2,
        false => usize::from(has(|one| one.text.is_some())),
    }
}

/// The lane of these, and where they begin and end.
fn span(intervals: &[Interval]) -> (usize, u64, u64) {
    let end = intervals.iter().map(|one| one.to).max().unwrap_or(0);
    (intervals[0].lane as usize, intervals[0].from, end)
}

/// The rows for the lives of each lane: one for each that there are at a time, if these are few.
fn rows_for(lives: &[Unplaced], lanes: usize) -> Vec<usize> {
    let mut ends: Vec<BinaryHeap<Reverse<u64>>> = vec![BinaryHeap::new(); lanes];
    let mut most = vec![0; lanes];
    for unplaced in lives {
        for intervals in unplaced.by_lane() {
            let (lane, from, to) = span(intervals);
            let ends = &mut ends[lane];
            while ends.peek().is_some_and(|Reverse(end)| *end <= from) {
                ends.pop();
            }
            ends.push(Reverse(to.max(from + 1)));
            most[lane] = most[lane].max(ends.len());
        }
    }
    let rows = most.into_iter().map(|most| match most > MOST_ROWS {
        true => ROWS_WITH_CROWD,
        false => MOST_ROWS,
    });
    rows.collect()
}

/// A point in time, exact enough for steps of this size, where `last` is the latest one that is shown.
pub(crate) fn clock_text(at: u64, step: u64, last: u64) -> String {
    let (size, unit) = match last {
        ..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let decimals = (size / step.max(1) as f64).log10() - 1e-9;
    let decimals = decimals.ceil().clamp(0.0, 9.0) as usize;
    format!("{:.decimals$} {unit}", at as f64 / size)
}

/// A time in words: three significant digits, and its unit.
pub(crate) fn time_text(nanos: u64) -> String {
    // Each unit begins where the one below it would be rounded up to it.
    let (value, unit) = match nanos {
        0 => return "0".to_owned(),
        1..1_000 => return format!("{nanos} ns"),
        1_000..999_500 => (nanos as f64 / 1e3, "µs"),
        999_500..999_500_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let decimals = match value {
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_digits_also_at_the_edge_of_a_unit() {
        for (nanos, expected) in [
            (0, "0"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_994, "9.99 µs"),
            (9_996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (999_499_999, "999 ms"),
            (999_500_000, "1.00 s"),
            (61_000_000_000, "61.0 s"),
        ] {
            assert_eq!(time_text(nanos), expected, "{nanos}");
        }
    }
}
