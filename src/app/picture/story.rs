//! Makes a picture of recordings of the library: lanes for threads, queue, loop, connection and inboxes, and the life of
//! each command and message.
//!
//! A run may have several loops, one after the other; each has a recording. Lanes of one name are one lane. The time
//! between two loops is left out but for a strip. Knows nothing of how a picture is drawn. Runs on the main thread, after
//! the loops.

mod causes;
mod commands;
mod facts;
mod messages;
mod recordings;
mod states;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::recording::{DEFAULT_INBOX, Loss, What};

use super::look::{Doing, Sign};
use super::model::{Interval, LaneKind, Life, Moment, Picture, Swimlane, Unplaced, time_text};
use commands::Commands;
use messages::Messages;
use recordings::{LoopRecords, LoopThread};
pub(crate) use recordings::{MessageCounts, Recordings};
use states::States;

/// The part of the whole that a pause takes at most.
const PAUSE_PART: u64 = 40;

/// The part of the whole that all pauses take at most.
const PAUSES_PART: u64 = 6;

/// The picture of these loops.
pub(crate) fn picture(title: &str, recordings: &Recordings) -> Picture {
    let mut story = Story::new(title, recordings.has_tls);
    story.left_out = recordings.left_out;
    let loops = &recordings.loops;
    let length: u64 = loops.iter().map(LoopRecords::length).sum();
    let of_all = length / PAUSES_PART / loops.len().max(1) as u64;
    let strip = (length / PAUSE_PART).min(of_all).max(1);
    let mut ended: Option<Instant> = None;
    for records in loops {
        if let Some(ended) = ended {
            story.pause(records.began.saturating_duration_since(ended), strip);
        }
        story.part(records);
        ended = Some(records.began + Duration::from_nanos(records.length()));
    }
    story.finish()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A picture that grows.
struct Story {
    picture: Picture,
    lives: Vec<Unplaced>,
    /// Where the current loop's time begins.
    offset: u64,
    overwritten: u64,
    forgotten_threads: u64,
    counts: MessageCounts,
    losses: u64,
    /// Older loops that are missing.
    left_out: u64,
    /// The sign of bytes on the link.
    bytes: Sign,
    /// The lanes of those that go out, and of those that come.
    bytes_out: u32,
    bytes_in: u32,
}

/// The lanes of one loop's threads and inboxes.
struct LoopLanes {
    threads: BTreeMap<u32, u32>,
    inboxes: BTreeMap<u64, u32>,
    /// Of commands that callbacks push.
    callbacks: Option<u32>,
}

impl Story {
    fn new(title: &str, has_tls: bool) -> Self {
        let (bytes, names) = match has_tls {
            true => (Sign::TlsRecord, ["records out", "records in"]),
            false => (Sign::LinkBytes, ["writes", "reads"]),
        };
        let mut story = Story {
            picture: Picture {
                title: title.to_owned(),
                ..Picture::default()
            },
            lives: Vec::new(),
            offset: 0,
            overwritten: 0,
            forgotten_threads: 0,
            counts: MessageCounts::default(),
            losses: 0,
            left_out: 0,
            bytes,
            bytes_out: 0,
            bytes_in: 0,
        };
        for (kind, name) in [
            (LaneKind::Queue, "command queue"),
            (LaneKind::InFlight, "in flight"),
            (LaneKind::Link, "connection"),
        ] {
            story.lane(kind, name);
        }
        story.bytes_out = story.lane(LaneKind::BytesOut, names[0]);
        story.bytes_in = story.lane(LaneKind::BytesIn, names[1]);
        story
    }

    /// The lane of this kind and name, made if need be.
    fn lane(&mut self, kind: LaneKind, name: &str) -> u32 {
        let lanes = &mut self.picture.lanes;
        let known = lanes
            .iter()
            .position(|lane| lane.kind == kind && lane.name == name);
        let place = known.unwrap_or_else(|| {
            let rows = matches!(kind, LaneKind::Thread | LaneKind::Loop | LaneKind::Link);
            lanes.push(Swimlane {
                kind,
                name: name.to_owned(),
                note: String::new(),
                rows: usize::from(rows),
                has_crowd: false,
            });
            lanes.len() - 1
        });
        place as u32
    }

    /// A strip of at most this length stands for a pause.
    fn pause(&mut self, lasted: Duration, most: u64) {
        let lasted = nanos(lasted);
        let from = self.offset;
        self.offset += most.min(lasted).max(1);
        self.picture.pause(from, self.offset, lasted);
    }

    /// Adds the records of one loop.
    fn part(&mut self, records: &LoopRecords) {
        self.overwritten += records
            .threads
            .iter()
            .map(|thread| thread.overwritten)
            .sum::<u64>();
        self.forgotten_threads += u64::from(records.forgotten_threads);
        self.counts.add(records.counts);
        let mut places = self.places(records);
        let mut commands = Commands::default();
        let mut messages = Messages::default();
        let mut states = States::new(self, records, &places);
        for (at, thread, what) in &records.all {
            let at = self.offset + at;
            let lane = match thread {
                0 => places.callbacks,
                other => places.threads.get(other).copied(),
            };
            commands.record(at, lane, what);
            messages.record(self, &mut places, at, what);
            states.record(self, at, *thread, what);
        }
        let end = self.offset + records.length();
        states.finish(self, end);
        commands.finish(self, end);
        messages.finish(self, end);
        self.offset = end;
        self.picture.span = end;
    }

    /// Makes the lanes of a loop's threads and of the inboxes that they read.
    fn places(&mut self, records: &LoopRecords) -> LoopLanes {
        let mut places = LoopLanes {
            threads: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            callbacks: None,
        };
        let mut names = LaneNames::default();
        for thread in &records.threads {
            let name = &thread.name;
            let lane = match thread.number {
                0 => self.lane(LaneKind::Loop, &format!("loop, in {name}")),
                _ => self.lane(LaneKind::Thread, &names.own(name)),
            };
            places.threads.insert(thread.number, lane);
        }
        for (_, thread, what) in &records.all {
            let inbox = match what {
                What::Pushed { .. } if *thread == 0 => {
                    places.callbacks = Some(self.lane(LaneKind::Thread, "callbacks"));
                    continue;
                }
                What::WaitsForMessage { inbox } | What::TakenOut { inbox, .. } => *inbox,
                _ => continue,
            };
            if inbox != DEFAULT_INBOX && !places.inboxes.contains_key(&inbox) {
                let reader = records.threads.iter().find(|one| one.number == *thread);
                let reader = reader.map_or("a thread", |reader| &reader.name);
                let name = names.own(&format!("inbox of {reader}"));
                places
                    .inboxes
                    .insert(inbox, self.lane(LaneKind::Inbox, &name));
            }
        }
        places
    }

    fn inbox(&mut self, places: &mut LoopLanes, number: u64) -> u32 {
        *places.inboxes.entry(number).or_insert_with(|| {
            let name = match number {
                DEFAULT_INBOX => "default inbox".to_owned(),
                number => format!("inbox {number}, which nobody read"),
            };
            self.lane(LaneKind::Inbox, &name)
        })
    }

    fn moment(&mut self, lane: u32, at: u64, sign: Sign, bytes: u64) {
        self.picture.moments.push(Moment {
            lane,
            at,
            sign,
            bytes,
            text: None,
        });
    }

    fn told(&mut self, lane: u32, at: u64, sign: Sign, text: String) {
        let text = Some(self.picture.text(text));
        self.picture.moments.push(Moment {
            lane,
            at,
            sign,
            bytes: 0,
            text,
        });
    }

    /// An interval in the first row of a lane.
    fn state(&mut self, lane: u32, from: u64, to: u64, doing: Doing) {
        if from < to {
            self.picture
                .intervals
                .push(Interval::new(lane, from, to, doing));
        }
    }

    fn finish(mut self) -> Picture {
        self.sort_lanes();
        self.facts();
        self.picture.place(self.lives);
        self.picture
    }

    /// Puts the lanes into the order of their kinds.
    fn sort_lanes(&mut self) {
        let lanes = std::mem::take(&mut self.picture.lanes);
        let mut order: Vec<usize> = (0..lanes.len()).collect();
        order.sort_by_key(|lane| (lanes[*lane].kind, by_number(&lanes[*lane].name)));
        let mut place = vec![0; lanes.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new as u32;
        }
        self.picture.lanes = order.into_iter().map(|old| lanes[old].clone()).collect();
        let new = |lane: &mut u32| *lane = place[*lane as usize];
        self.picture
            .intervals
            .iter_mut()
            .for_each(|one| new(&mut one.lane));
        self.picture
            .moments
            .iter_mut()
            .for_each(|one| new(&mut one.lane));
        for unplaced in &mut self.lives {
            new(&mut unplaced.life.lane);
            unplaced
                .intervals
                .iter_mut()
                .for_each(|one| new(&mut one.lane));
        }
    }
}

/// Names that were given in one loop.
#[derive(Default)]
struct LaneNames {
    times: BTreeMap<String, u32>,
}

impl LaneNames {
    /// The name, with a number behind it if it was given before.
    fn own(&mut self, name: &str) -> String {
        let times = self.times.entry(name.to_owned()).or_default();
        *times += 1;
        match *times {
            1 => name.to_owned(),
            times => format!("{name} ({times})"),
        }
    }
}

/// Sorts names that end in a number by it.
fn by_number(name: &str) -> (&str, u64) {
    let text = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (text, name[text.len()..].parse().unwrap_or(0))
}

/// A cause in words.
fn cause(loss: Loss) -> &'static str {
    match loss {
        Loss::PeerClosed => "the broker closed it",
        Loss::Reset => "the broker reset it, or TLS broke",
        Loss::Network => "the network gave it up",
        Loss::KeepAliveExpired => "a PINGREQ was not answered in time",
        Loss::AckTimeout => "an acknowledgment did not come in time",
        Loss::Stuck => "it took hardly a byte for too long",
        Loss::LeftWithBroker => "closed, so that the broker sends what was left with it",
        Loss::Protocol => "the broker broke the protocol",
        Loss::Reconnect => "a thread asked for RECONNECT",
        _ => "another cause",
    }
}

#[cfg(test)]
mod tests;
