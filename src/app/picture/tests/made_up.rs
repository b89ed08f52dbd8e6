//! Pictures that nobody ran: a small one in which everything happens, and one of many messages.

use crate::app::picture::look::{Doing, Sign};
use crate::app::picture::model::{Interval, LaneKind, Life, Moment, Picture, Swimlane, Unplaced};

/// Names that would break out of HTML, XML, JSON and scripts.
pub(super) const NASTY: &str = "</script><b>\"'&\u{1}\u{202e}{{data}}<!--]]>";

const US: u64 = 1_000;
pub(super) const MS: u64 = 1_000_000;

pub(super) fn lane(kind: LaneKind, name: &str, rows: usize) -> Swimlane {
    Swimlane {
        kind,
        name: name.to_owned(),
        note: String::new(),
        rows,
        has_crowd: false,
    }
}

pub(super) fn life(lane: u32, packet_id: u16, from: u64, to: u64) -> Life {
    Life {
        lane,
        what: "PUBLISH",
        packet_id,
        qos: 1,
        bytes: 64,
        end: "delivered",
        from,
        to,
        acknowledged: Some(to - 10 * US),
        sent: 1,
    }
}

/// A PUBLISH that takes so long for each part of its way.
fn command(lane: u32, packet_id: u16, from: u64, parts: [u64; 4]) -> Unplaced {
    let doings = [Doing::Queued, Doing::Unsent, Doing::OnItsWay, Doing::Untold];
    let mut at = from;
    let intervals = doings.into_iter().zip(parts).map(|(doing, part)| {
        at += part;
        Interval::new(lane, at - part, at, doing)
    });
    let intervals = intervals.collect();
    Unplaced {
        life: life(lane, packet_id, from, at),
        intervals,
    }
}

fn message(lane: u32, packet_id: u16, from: u64, aside: u64, inside: u64) -> Unplaced {
    let mut own = life(lane, packet_id, from, from + aside + inside);
    (own.what, own.end) = ("message", "taken");
    Unplaced {
        life: own,
        intervals: vec![
            Interval::new(lane, from, from + aside, Doing::MessageAside),
            Interval::new(lane, from + aside, from + aside + inside, Doing::InInbox),
        ],
    }
}

pub(super) fn moment(lane: u32, at: u64, sign: Sign, bytes: u64, text: Option<u32>) -> Moment {
    Moment {
        lane,
        at,
        sign,
        bytes,
        text,
    }
}

/// Three threads, a link that is lost and comes back, a pause, and names from outside.
pub(super) fn small() -> Picture {
    let mut picture = Picture {
        title: format!("demo {NASTY}"),
        facts: vec![
            "12 messages over one TLS connection".to_owned(),
            NASTY.to_owned(),
        ],
        lanes: vec![
            lane(LaneKind::Thread, "sync-publisher", 1),
            lane(LaneKind::Thread, "async-publisher", 1),
            lane(LaneKind::Thread, &format!("subscriber {NASTY}"), 1),
            lane(LaneKind::Queue, "command queue", 0),
            lane(LaneKind::InFlight, "in flight", 0),
            lane(LaneKind::Loop, "loop (main)", 1),
            lane(LaneKind::Link, "connection", 1),
            lane(LaneKind::BytesOut, "records out", 0),
            lane(LaneKind::BytesIn, "records in", 0),
            lane(LaneKind::Inbox, "inbox 1", 0),
        ],
        ..Picture::default()
    };
    picture.lanes[0].note = "6 commands, 1 at a time".to_owned();
    let mut lives = Vec::new();
    for number in 0..6 {
        let from = 40 * MS + number * 2 * MS;
        let is_cut = number == 5;
        let parts = [
            30 * US,
            if is_cut { 14 * MS } else { 10 * US },
            1_500 * US,
            20 * US,
        ];
        lives.push(command(0, number as u16 + 100, from, parts));
        let to = from + parts.iter().sum::<u64>();
        picture
            .intervals
            .push(Interval::new(0, from + US, to, Doing::WaitsForOutcome));
        let from = 40 * MS + number * 90 * US;
        lives.push(command(
            1,
            number as u16 + 200,
            from,
            [400 * US, 20 * US, 1_500 * US, 300 * US],
        ));
    }
    picture.intervals.push(Interval::new(
        1,
        40 * MS + 600 * US,
        43 * MS,
        Doing::WaitsForBatch,
    ));
    for number in 0..12u64 {
        let from = 41 * MS + number * 700 * US;
        lives.push(message(
            9,
            number as u16 + 1,
            from,
            50 * US * (number % 3),
            200 * US,
        ));
    }
    picture
        .intervals
        .push(Interval::new(2, 30 * MS, 41 * MS, Doing::WaitsForMessage));
    for step in 0..60 {
        let at = step * MS;
        picture
            .intervals
            .push(Interval::new(5, at, at + 300 * US, Doing::Works));
        picture
            .intervals
            .push(Interval::new(5, at + 300 * US, at + MS, Doing::Sleeps));
        picture
            .moments
            .push(moment(5, at, Sign::ProcessLoop, 0, None));
        picture
            .moments
            .push(moment(7, at + 100 * US, Sign::TlsRecord, 120, None));
        picture
            .moments
            .push(moment(8, at + 900 * US, Sign::TlsRecord, 64, None));
    }
    picture.intervals.extend([
        Interval::new(6, 0, 30 * MS, Doing::Connecting),
        Interval::new(6, 30 * MS, 51 * MS, Doing::Connected),
        Interval::new(6, 51 * MS, 58 * MS, Doing::Down),
        Interval::new(6, 58 * MS, 64 * MS, Doing::Connecting),
        Interval::new(6, 64 * MS, 70 * MS, Doing::Connected),
    ]);
    let lost = picture.text(format!("the broker closed it {NASTY}"));
    let made = picture.text("session resumed".to_owned());
    picture
        .moments
        .push(moment(6, 51 * MS, Sign::Broken, 0, Some(lost)));
    picture
        .moments
        .push(moment(6, 64 * MS, Sign::Made, 0, Some(made)));
    picture.pause(70 * MS, 73 * MS, 5_000 * MS);
    picture.place(lives);
    picture.focus = Some((40 * MS, 54 * MS));
    picture
}

/// So many messages from four threads, each back in an inbox: as the bench has them.
pub(super) fn many(messages: u64) -> Picture {
    let mut picture = Picture {
        title: "bench".to_owned(),
        facts: vec![format!("{messages} messages from 4 threads")],
        ..Picture::default()
    };
    for thread in 0..4 {
        picture
            .lanes
            .push(lane(LaneKind::Thread, &format!("publisher-{thread}"), 1));
    }
    picture.lanes.extend([
        lane(LaneKind::Queue, "command queue", 0),
        lane(LaneKind::InFlight, "in flight", 0),
        lane(LaneKind::Loop, "loop (main)", 1),
        lane(LaneKind::Link, "connection", 1),
        lane(LaneKind::BytesOut, "records out", 0),
        lane(LaneKind::BytesIn, "records in", 0),
        lane(LaneKind::Inbox, "inbox 1", 0),
    ]);
    let mut lives = Vec::new();
    for number in 0..messages {
        // Uneven, and the same each time.
        let uneven = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        let from = 30 * MS + number * 20 * US;
        let parts = [
            2 * MS + uneven * US,
            100 * US,
            3 * MS + uneven * 10 * US,
            40 * US,
        ];
        lives.push(command(
            (number % 4) as u32,
            (number % 65_535) as u16 + 1,
            from,
            parts,
        ));
        lives.push(message(
            10,
            (number % 65_535) as u16 + 1,
            from + 6 * MS,
            0,
            300 * US + uneven * US,
        ));
        if number % 50 == 0 {
            let (at, end) = (from, from + 1_000 * US);
            picture
                .intervals
                .push(Interval::new(6, at, at + 900 * US, Doing::Works));
            picture
                .intervals
                .push(Interval::new(6, at + 900 * US, end, Doing::Sleeps));
            let thread = (number / 50 % 4) as u32;
            picture
                .intervals
                .push(Interval::new(thread, at, end, Doing::WaitsForBatch));
        }
        if number % 20 == 0 {
            picture
                .moments
                .push(moment(8, from, Sign::TlsRecord, 1_500, None));
            picture
                .moments
                .push(moment(9, from + 200 * US, Sign::TlsRecord, 900, None));
            picture
                .moments
                .push(moment(6, from + 200 * US, Sign::ProcessLoop, 0, None));
        }
    }
    let end = 40 * MS + messages * 20 * US;
    picture
        .intervals
        .push(Interval::new(7, 0, 30 * MS, Doing::Connecting));
    picture
        .intervals
        .push(Interval::new(7, 30 * MS, end, Doing::Connected));
    picture.place(lives);
    picture
}
