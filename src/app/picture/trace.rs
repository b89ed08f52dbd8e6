//! The picture in Chrome's trace event format, for Perfetto and `chrome://tracing`.
//!
//! One track for each lane. States of threads, loop and link are slices (`B` and `E`), lives are asynchronous slices (`b`
//! and `e`), and an arrow (`s` and `f`) leads from each push to its acknowledgment on the loop's track. Numbers are
//! counters, moments instants. Times are microseconds of the run, pauses included. Pure; any thread.

use std::fmt::Write;

use super::look::Doing;
use super::model::{Interval, LaneKind, Life, NO_LIFE, Picture};
use super::text::plain;

/// The whole file: one event a line.
pub(crate) fn trace(picture: &Picture) -> String {
    let mut events = TraceEvents {
        picture,
        names: Vec::new(),
        all: Vec::new(),
    };
    for number in 0..picture.lanes.len() {
        events.lane(number);
    }
    let steps = steps(picture);
    let loop_lane = picture
        .lanes
        .iter()
        .position(|lane| lane.kind == LaneKind::Loop);
    for (number, (life, steps)) in picture.lives.iter().zip(&steps).enumerate() {
        events.life(number + 1, life, steps, loop_lane);
    }
    events.file()
}

/// How long each life did what.
fn steps(picture: &Picture) -> Vec<Vec<(Doing, u64)>> {
    let mut steps: Vec<Vec<(Doing, u64)>> = vec![Vec::new(); picture.lives.len()];
    for one in picture.intervals.iter().filter(|one| one.life != NO_LIFE) {
        let own = &mut steps[one.life as usize];
        match own.iter_mut().find(|(doing, _)| *doing == one.doing) {
            Some((_, nanos)) => *nanos += one.to - one.from,
            None => own.push((one.doing, one.to - one.from)),
        }
    }
    steps
}

/// Events as JSON, with their times in nanoseconds and their ranks. Those of one time and rank stay in the order in which
/// they were added.
struct TraceEvents<'p> {
    picture: &'p Picture,
    /// Of tracks.
    names: Vec<String>,
    all: Vec<(u64, Rank, String)>,
}

/// The order of events of one time: slices end before others begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    End,
    Begin,
    Within,
}

impl TraceEvents<'_> {
    /// The name of a lane's track, its states or numbers, and its moments.
    fn lane(&mut self, number: usize) {
        let lane = &self.picture.lanes[number];
        let (tid, name) = (track(number), quoted(&lane.name));
        for (what, args) in [
            ("thread_name", format!("\"name\":{name}")),
            ("thread_sort_index", format!("\"sort_index\":{number}")),
        ] {
            let event = format!(
                "{{\"ph\":\"M\",\"pid\":1,\"tid\":{tid},\"name\":\"{what}\",\"args\":{{{args}}}}}"
            );
            self.names.push(event);
        }
        match lane.kind {
            LaneKind::Queue | LaneKind::InFlight => self.counter(number),
            LaneKind::Thread | LaneKind::Loop | LaneKind::Link => self.states(number),
            LaneKind::BytesOut | LaneKind::BytesIn | LaneKind::Inbox => {}
        }
        for moment in self.picture.moments_of(number) {
            let text = moment
                .text
                .and_then(|text| self.picture.texts.get(text as usize));
            let args = match text {
                Some(text) => format!(",\"args\":{{\"cause\":{}}}", quoted(text)),
                None if moment.bytes > 0 => format!(",\"args\":{{\"bytes\":{}}}", moment.bytes),
                None => String::new(),
            };
            let rest = format!(",\"cat\":\"moment\",\"s\":\"t\"{args}");
            self.add(
                number,
                moment.at,
                Rank::Within,
                'i',
                moment.sign.glyph().words,
                &rest,
            );
        }
    }

    /// A command or a message. An arrow leads from a push to the acknowledgment, in the loop's track.
    fn life(&mut self, id: usize, life: &Life, steps: &[(Doing, u64)], loop_lane: Option<usize>) {
        let lane = life.lane as usize;
        let name = match life.packet_id {
            0 => life.what.to_owned(),
            packet_id => format!("{} {packet_id}", life.what),
        };
        let is_command = self.picture.lanes[lane].kind == LaneKind::Thread;
        let cat = if is_command { "command" } else { "message" };
        let mut args = format!(
            "\"bytes\":{},\"end\":\"{}\",\"sent\":{}",
            life.bytes, life.end, life.sent
        );
        if life.qos < 3 {
            let _ = write!(args, ",\"qos\":{}", life.qos);
        }
        for (doing, nanos) in steps {
            let words = doing.appearance().words;
            let _ = write!(args, ",\"{words} (µs)\":{}", micros(*nanos));
        }
        let own = format!(",\"cat\":\"{cat}\",\"id\":{id}");
        let rest = format!("{own},\"args\":{{{args}}}");
        self.add(lane, life.from, Rank::Within, 'b', &name, &rest);
        self.add(lane, life.to, Rank::Within, 'e', &name, &own);
        if let (true, Some(loop_lane), Some(acknowledged)) =
            (is_command, loop_lane, life.acknowledged)
        {
            let push = format!("push {name}");
            self.end_of_arrow(lane, life.from, &push, ('s', ""), id);
            let acknowledgment = format!("acknowledgment of {name}");
            let at = acknowledged.max(life.from);
            self.end_of_arrow(loop_lane, at, &acknowledgment, ('f', "\"bp\":\"e\","), id);
        }
    }

    /// An arrow begins and ends in a slice, so each end has one of its own, which takes no time.
    fn end_of_arrow(
        &mut self,
        lane: usize,
        at: u64,
        name: &str,
        (ph, binds): (char, &str),
        id: usize,
    ) {
        self.add(lane, at, Rank::Within, 'B', name, ",\"cat\":\"moment\"");
        let rest = format!(",\"cat\":\"arrow\",{binds}\"id\":{id}");
        self.add(lane, at, Rank::Within, ph, "push to acknowledgment", &rest);
        self.add(lane, at, Rank::Within, 'E', name, ",\"cat\":\"moment\"");
    }

    /// The first row of a lane: states, one after the other.
    fn states(&mut self, lane: usize) {
        let cat = ",\"cat\":\"state\"";
        for Interval {
            from, to, doing, ..
        } in self.picture.row(lane, 0)
        {
            let words = doing.appearance().words;
            self.add(lane, *from, Rank::Begin, 'B', words, cat);
            self.add(lane, *to, Rank::End, 'E', words, cat);
        }
    }

    fn counter(&mut self, lane: usize) {
        let name = &self.picture.lanes[lane].name;
        let counted = self.picture.counted(lane);
        let begins = counted.iter().map(|one| (one.from, 1));
        let ends = counted.iter().map(|one| (one.to, -1));
        let mut changes: Vec<(u64, i64)> = begins.chain(ends).collect();
        changes.sort_unstable();
        let mut count = 0;
        for at_once in changes.chunk_by(|one, next| one.0 == next.0) {
            count += at_once.iter().map(|change| change.1).sum::<i64>();
            let rest = format!(",\"args\":{{\"commands\":{count}}}");
            self.add(lane, at_once[0].0, Rank::Within, 'C', name, &rest);
        }
    }

    fn add(&mut self, lane: usize, at: u64, rank: Rank, ph: char, name: &str, rest: &str) {
        let real = self.picture.real(at);
        let (tid, ts, name) = (track(lane), micros(real), quoted(name));
        let event = format!(
            "{{\"ph\":\"{ph}\",\"pid\":1,\"tid\":{tid},\"ts\":{ts},\"name\":{name}{rest}}}"
        );
        self.all.push((real, rank, event));
    }

    fn file(mut self) -> String {
        self.all.sort_by_key(|(at, rank, _)| (*at, *rank));
        let title = quoted(&self.picture.title);
        let mut file = format!(
            "{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"title\":{title}}},\"traceEvents\":[\n"
        );
        let program = quoted(env!("CARGO_PKG_NAME"));
        let _ = write!(
            file,
            "{{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"process_name\",\"args\":{{\"name\":{program}}}}}"
        );
        let events = self.all.iter().map(|(_, _, event)| event);
        for event in self.names.iter().chain(events) {
            file.push_str(",\n");
            file.push_str(event);
        }
        file.push_str("\n]}\n");
        file
    }
}

/// A text in JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::String(plain(text)).to_string()
}

fn track(lane: usize) -> u64 {
    lane as u64 + 1
}

/// Microseconds, exact to the nanosecond.
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}
