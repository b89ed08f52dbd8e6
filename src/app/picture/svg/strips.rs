//! The lanes as the SVG draws them: one by one, and the others of a kind together. Pure; any thread.

use std::borrow::Cow;

use super::{BAND, LEAST_LANE, PAD, ROW};
use crate::app::picture::levels::Levels;
use crate::app::picture::look::Doing;
use crate::app::picture::model::{Interval, LaneKind, Moment, Picture, text_lines};

/// Lanes of one kind that are drawn one by one; the others become one band.
const MOST_LANES: usize = 12;

/// A lane as it is drawn.
pub(super) struct Strip<'p> {
    pub(super) kind: LaneKind,
    pub(super) name: String,
    pub(super) note: String,
    pub(super) rows: Vec<&'p [Interval]>,
    /// By what goes on in them.
    pub(super) band: Vec<(Doing, Levels)>,
    pub(super) most: u32,
    pub(super) moments: Cow<'p, [Moment]>,
}

pub(super) fn shown_lanes(picture: &Picture) -> Vec<Strip<'_>> {
    let mut strips = Vec::new();
    let mut of_kind: (Option<LaneKind>, usize) = (None, 0);
    for (number, lane) in picture.lanes.iter().enumerate() {
        of_kind = match of_kind.0 == Some(lane.kind) {
            true => (of_kind.0, of_kind.1 + 1),
            false => (Some(lane.kind), 1),
        };
        if of_kind.1 > MOST_LANES {
            if of_kind.1 == MOST_LANES + 1 {
                strips.push(others(picture, number));
            }
            continue;
        }
        let band = match picture.has_band(number) {
            true => picture.counted(number),
            false => Vec::new(),
        };
        let (band, most) = by_doing(&band);
        strips.push(Strip {
            kind: lane.kind,
            name: lane.name.clone(),
            note: lane.note.clone(),
            rows: (0..lane.rows).map(|row| picture.row(number, row)).collect(),
            band,
            most,
            moments: picture.moments_of(number).into(),
        });
    }
    strips
}

/// One strip for this lane and all of its kind behind it.
fn others(picture: &Picture, first: usize) -> Strip<'_> {
    let kind = picture.lanes[first].kind;
    let is_other = |lane: usize| lane >= first && picture.lanes[lane].kind == kind;
    let count = (0..picture.lanes.len())
        .filter(|lane| is_other(*lane))
        .count();
    let own = Doing::Queued..=Doing::Untold;
    let counts = |one: &&Interval| match kind {
        LaneKind::Thread => own.contains(&one.doing),
        _ => true,
    };
    let intervals = picture
        .intervals
        .iter()
        .filter(|one| is_other(one.lane as usize));
    let intervals: Vec<Interval> = intervals.filter(counts).copied().collect();
    let (band, most) = by_doing(&intervals);
    let moments = picture.moments.iter().copied();
    let mut moments: Vec<Moment> = moments.filter(|one| is_other(one.lane as usize)).collect();
    moments.sort_unstable_by_key(|one| one.at);
    Strip {
        kind,
        name: format!("{count} more"),
        note: match kind {
            LaneKind::Thread => "threads, their commands".to_owned(),
            _ => "inboxes, their messages".to_owned(),
        },
        rows: Vec::new(),
        band,
        most,
        moments: moments.into(),
    }
}

fn by_doing(intervals: &[Interval]) -> (Vec<(Doing, Levels)>, u32) {
    let most = Levels::new(intervals).most.max(1);
    let band = Doing::ALL.into_iter().filter_map(|doing| {
        let own: Vec<Interval> = intervals
            .iter()
            .filter(|one| one.doing == doing)
            .copied()
            .collect();
        (!own.is_empty()).then(|| (doing, Levels::new(&own)))
    });
    (band.collect(), most)
}

impl Strip<'_> {
    pub(super) fn has_moments_only(&self) -> bool {
        self.rows.is_empty() && self.band.is_empty()
    }

    pub(super) fn height(&self) -> f64 {
        let rows = self.rows.len() as f64 * ROW;
        let band = if self.band.is_empty() { 0.0 } else { BAND };
        let moments = if self.moments.is_empty() { 0.0 } else { ROW };
        // Below them.
        let texts = text_lines(&self.moments) as f64 * ROW;
        LEAST_LANE.max(rows + band + moments + texts + 2.0 * PAD)
    }
}
