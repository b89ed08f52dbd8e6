//! The trace, judged by what the description of the trace event format asks: the fields of each phase, slices that nest
//! and end, arrows that begin and end in a slice, names of tracks.

use std::collections::BTreeMap;

use serde_json::Value;

use super::made_up::{many, small};
use crate::app::picture::look::Doing;
use crate::app::picture::model::{LaneKind, NO_LIFE, Picture};
use crate::app::picture::trace;

/// Every offence of a trace against the format, in words.
fn offences(text: &str) -> Vec<String> {
    let mut judge = Judge::default();
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(file)) => {
            let unit = file.get("displayTimeUnit");
            if unit.is_some_and(|unit| unit != "ns" && unit != "ms") {
                judge.offend(format!("the unit {unit:?}"));
            }
            match file.get("traceEvents").and_then(Value::as_array) {
                Some(events) => events.iter().for_each(|event| judge.event(event)),
                None => judge.offend("no traceEvents".to_owned()),
            }
        }
        other => judge.offend(
            format!("no JSON object: {other:?}")
                .chars()
                .take(100)
                .collect(),
        ),
    }
    judge.end();
    judge.offences
}

type Track = (u64, u64);

#[derive(Default)]
struct Judge {
    offences: Vec<String>,
    last: BTreeMap<Track, f64>,
    /// Names of the open slices.
    open: BTreeMap<Track, Vec<String>>,
    /// Open asynchronous slices, by category and number.
    lives: BTreeMap<(String, String), Vec<String>>,
    /// When each arrow began.
    arrows: BTreeMap<(String, String, String), f64>,
    ended_arrows: u64,
    named: Vec<Track>,
}

impl Judge {
    fn offend(&mut self, offence: String) {
        self.offences.push(offence);
    }

    fn event(&mut self, event: &Value) {
        let Some(ph) = event["ph"].as_str() else {
            return self.offend(format!("no phase: {event}"));
        };
        let (Some(pid), Some(tid)) = (event["pid"].as_u64(), event["tid"].as_u64()) else {
            return self.offend(format!("no process or thread: {event}"));
        };
        let track = (pid, tid);
        let Some(name) = event["name"]
            .as_str()
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
        else {
            return self.offend(format!("no name: {event}"));
        };
        if event.get("args").is_some_and(|args| !args.is_object()) {
            self.offend(format!("args is no object: {event}"));
        }
        if ph == "M" {
            let arg = match name.as_str() {
                "process_name" | "thread_name" => event["args"]["name"].is_string(),
                "thread_sort_index" => event["args"]["sort_index"].is_i64(),
                _ => false,
            };
            if !arg {
                self.offend(format!("unknown metadata: {event}"));
            }
            return if name == "thread_name" {
                self.named.push(track)
            };
        }
        let ts = event["ts"].as_f64().unwrap_or(f64::NAN);
        if !(ts.is_finite() && ts >= 0.0) {
            self.offend(format!("no time: {event}"));
        }
        let last = self.last.insert(track, ts).unwrap_or(0.0);
        // The description asks for it of B and E; in all others it does no harm.
        if ts < last {
            self.offend(format!("before {last}: {event}"));
        }
        if !self.named.contains(&track) {
            self.offend(format!("a track without a name: {event}"));
        }
        let text = |key: &str| {
            event[key]
                .as_str()
                .map(str::to_owned)
                .or(event[key].as_u64().map(|id| id.to_string()))
        };
        match ph {
            "B" => self.open.entry(track).or_default().push(name),
            "E" => {
                if self.open.entry(track).or_default().pop() != Some(name) {
                    self.offend(format!("ends what did not begin last: {event}"));
                }
            }
            "i" => {
                if !["g", "p", "t"].iter().any(|scope| event["s"] == *scope) {
                    self.offend(format!("an instant without a scope: {event}"));
                }
            }
            "C" => {
                let args = event["args"].as_object();
                if !args.is_some_and(|args| !args.is_empty() && args.values().all(Value::is_number))
                {
                    self.offend(format!("a counter without numbers: {event}"));
                }
            }
            "b" | "e" | "s" | "f" => {
                let (Some(cat), Some(id)) = (text("cat"), text("id")) else {
                    return self.offend(format!("no category or number: {event}"));
                };
                match ph {
                    "b" => self.lives.entry((cat, id)).or_default().push(name),
                    "e" => {
                        if self.lives.entry((cat, id)).or_default().pop() != Some(name) {
                            self.offend(format!("ends a life that did not begin: {event}"));
                        }
                    }
                    _ => self.arrow(ph, (cat, id, name), ts, track, event),
                }
            }
            _ => self.offend(format!("an unknown phase: {event}")),
        }
    }

    fn arrow(
        &mut self,
        ph: &str,
        key: (String, String, String),
        ts: f64,
        track: Track,
        event: &Value,
    ) {
        if self.open.get(&track).is_none_or(Vec::is_empty) {
            self.offend(format!("an arrow outside of any slice: {event}"));
        }
        if ph == "s" {
            if self.arrows.insert(key, ts).is_some() {
                self.offend(format!("an arrow begins twice: {event}"));
            }
            return;
        }
        if event["bp"] != "e" {
            self.offend(format!("an arrow that does not end in its slice: {event}"));
        }
        match self.arrows.remove(&key) {
            Some(begin) if begin <= ts => self.ended_arrows += 1,
            _ => self.offend(format!("an arrow that did not begin before: {event}")),
        }
    }

    fn end(&mut self) {
        let slices = self.open.values().flatten().count();
        let lives = self.lives.values().flatten().count();
        if (slices, lives, self.arrows.len()) != (0, 0, 0) {
            self.offend(format!(
                "left open: {slices} slices, {lives} lives, {} arrows",
                self.arrows.len()
            ));
        }
    }
}

fn count(text: &str, ph: &str) -> usize {
    text.matches(&format!("\"ph\":\"{ph}\"")).count()
}

#[track_caller]
fn expect_right(picture: &Picture) {
    let text = trace(picture);
    assert_eq!(offences(&text), [""; 0]);
    assert_eq!(
        (count(&text, "b"), count(&text, "e")),
        (picture.lives.len(), picture.lives.len())
    );
    let is_command = |lane: u32| picture.lanes[lane as usize].kind == LaneKind::Thread;
    let arrows = picture
        .lives
        .iter()
        .filter(|life| is_command(life.lane) && life.acknowledged.is_some());
    let arrows = arrows.count();
    assert_eq!((count(&text, "s"), count(&text, "f")), (arrows, arrows));
    let states = picture
        .intervals
        .iter()
        .filter(|one| one.life == NO_LIFE)
        .count();
    assert_eq!(count(&text, "B"), states + 2 * arrows);
    assert_eq!(count(&text, "i"), picture.moments.len());
}

#[test]
fn a_trace_is_as_the_format_asks_and_has_every_life_with_its_arrow() {
    expect_right(&small());
    expect_right(&many(2_000));
}

/// The judge notices each kind of offence.
#[test]
fn an_offence_against_the_format_is_found() {
    let text = trace(&small());
    let broken = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        offences(&text.replacen(from, to, 1))
    };
    for (from, to, offence) in [
        (
            "\"ph\":\"B\"",
            "\"ph\":\"E\"",
            "ends what did not begin last",
        ),
        (
            "\"ph\":\"b\"",
            "\"ph\":\"e\"",
            "ends a life that did not begin",
        ),
        (
            "\"ph\":\"s\"",
            "\"ph\":\"f\"",
            "an arrow that did not begin before",
        ),
        ("\"ph\":\"f\"", "\"ph\":\"s\"", "an arrow begins twice"),
        (
            "\"bp\":\"e\",",
            "",
            "an arrow that does not end in its slice",
        ),
        ("\"ph\":\"i\"", "\"ph\":\"?\"", "an unknown phase"),
        ("\"s\":\"t\"", "\"s\":\"?\"", "an instant without a scope"),
        (
            "\"displayTimeUnit\":\"ns\"",
            "\"displayTimeUnit\":\"h\"",
            "the unit",
        ),
        (
            "\"args\":{\"commands\":1}",
            "\"args\":{}",
            "a counter without numbers",
        ),
        (
            "\"name\":\"thread_name\"",
            "\"name\":\"thread_nome\"",
            "unknown metadata",
        ),
        ("\"traceEvents\"", "\"events\"", "no traceEvents"),
        ("]}", "]", "no JSON object"),
    ] {
        let found = broken(from, to);
        assert!(
            found.iter().any(|found| found.starts_with(offence)),
            "{from}: {found:?}"
        );
    }
}

#[test]
fn the_parts_of_a_life_have_the_words_of_the_legend() {
    let text = trace(&small());
    for doing in Doing::ALL {
        assert!(!text.contains(&format!("\"{doing:?} ")), "{doing:?}");
    }
    let words = format!("\"{} (µs)\":1500", Doing::OnItsWay.appearance().words);
    assert!(text.contains(&words), "{words}");
}
