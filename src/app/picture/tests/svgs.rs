//! The SVG: it is well-formed, has each lane and bar, stays small, and nothing from outside breaks out of its place.

use super::made_up::{MS, NASTY, lane, many, moment, small};
use crate::app::picture::look::{Doing, Sign};
use crate::app::picture::model::{LaneKind, Picture};
use crate::app::picture::svg;

/// Whether each tag that begins ends, in order. Knows as much of XML as the file uses.
fn unbalanced(text: &str) -> Option<String> {
    let mut open = Vec::new();
    for part in text.split('<').skip(1) {
        let (tag, after) = part.split_once('>')?;
        if after.contains('>') && !after.contains("<") {
            return Some(format!("a > in the text: {after}"));
        }
        let name = tag.split([' ', '/']).find(|word| !word.is_empty())?;
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return Some(format!("</{name}>"));
            }
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    open.pop().map(|name| format!("<{name}> is not ended"))
}

#[test]
fn the_file_is_well_formed_and_has_every_lane() {
    for picture in [small(), many(3_000)] {
        let file = svg(&picture);
        assert_eq!(unbalanced(&file), None);
        let panels = if picture.focus.is_some() { 2 } else { 1 };
        assert_eq!(
            file.matches("<g class=\"lane\">").count(),
            picture.lanes.len() * panels
        );
        assert!(!file.contains("NaN") && !file.contains("inf"));
    }
}

#[test]
fn every_interval_that_has_room_is_a_bar_of_its_own() {
    let mut picture = small();
    picture.focus = None;
    let file = svg(&picture);
    let count = |doing: Doing| {
        let bars = file
            .matches(&format!("<rect class=\"s{}\"", doing as u8))
            .count();
        // The legend has one more.
        bars - 1
    };
    for doing in [
        Doing::Connecting,
        Doing::Connected,
        Doing::Down,
        Doing::WaitsForOutcome,
        Doing::WaitsForBatch,
    ] {
        let own = picture.intervals.iter().filter(|one| one.doing == doing);
        assert_eq!(count(doing), own.count(), "{doing:?}");
    }
}

/// The lane of the connection has attempts that fail at these milliseconds, for these reasons.
fn with_failures(failures: &[(u64, &str)]) -> Picture {
    let mut picture = small();
    picture.focus = None;
    for (at, words) in failures {
        let text = picture.text((*words).to_owned());
        let failed = moment(6, at * MS, Sign::AttemptFailed, 0, Some(text));
        picture.moments.push(failed);
    }
    picture.moments.sort_by_key(|one| (one.lane, one.at));
    picture
}

/// The height at which a text stands.
fn line_of(file: &str, words: &str) -> f64 {
    let (before, _) = file
        .split_once(&format!(">{words}<"))
        .unwrap_or_else(|| panic!("no {words}: {file}"));
    let (_, y) = before.rsplit_once(" y=\"").unwrap();
    y.split('"').next().unwrap().parse().unwrap()
}

#[test]
fn the_words_of_a_failed_attempt_leave_their_line_to_what_follows() {
    let file = svg(&with_failures(&[
        (52, "a failure"),
        (63, "another failure"),
    ]));
    let resumed = line_of(&file, "session resumed");
    assert!(line_of(&file, "a failure") > resumed);
    assert_eq!(
        line_of(&file, "a failure"),
        line_of(&file, "another failure")
    );
    assert!(file.contains("the broker closed it"));
    assert!(!file.contains("are left out"));
}

#[test]
fn failures_that_have_no_room_are_counted() {
    let at = [52, 55, 58, 61].map(|at| (at, "always the same"));
    let file = svg(&with_failures(&at));
    line_of(&file, "always the same (4 times)");
    // Six in a tenth of a millisecond lie on each other.
    let mut picture = with_failures(&[]);
    let text = picture.text("on each other".to_owned());
    let near = (0..6).map(|n| moment(6, 55 * MS + n * MS / 60, Sign::AttemptFailed, 0, Some(text)));
    picture.moments.extend(near);
    picture.moments.sort_by_key(|one| (one.lane, one.at));
    let file = svg(&picture);
    assert!(file.contains(">6</text>"), "{file}");
    assert!(file.contains("one stands for several of its kind. A number beside"));
    line_of(&file, "on each other (6 times)");
    // Words that differ have one line.
    let file = svg(&with_failures(&[
        (55, "one reason of several words"),
        (56, "another reason"),
    ]));
    assert!(
        !file.contains("another reason") && file.contains("Words that have no room are left out")
    );
}

#[test]
fn nothing_from_outside_breaks_out_of_its_place() {
    let file = svg(&small());
    assert!(!file.contains(NASTY));
    assert!(!file.contains("<b>") && !file.contains("<script") && !file.contains("<!--"));
    assert!(!file.chars().any(|c| c.is_control() && c != '\n'));
}

#[test]
fn a_hundred_thousand_messages_are_drawn_by_their_shares_and_the_file_says_so() {
    let said = "Where single bars have no room";
    let small = svg(&small());
    assert!(!small.contains(said) || small.contains("h3v"));
    let (some, more) = (svg(&many(30_000)), svg(&many(100_000)));
    assert!(more.contains(said));
    // Pixels bound it, and not messages.
    assert!(more.len() < 2_000_000, "{} bytes", more.len());
    assert!(
        more.len() < 2 * some.len(),
        "{} and {} bytes",
        some.len(),
        more.len()
    );
}

#[test]
fn it_is_light_or_dark_and_loads_nothing() {
    let file = svg(&small());
    assert!(file.contains("@media (prefers-color-scheme:dark)"));
    let outside = file.replace("http://www.w3.org/2000/svg", "");
    for word in ["http", "href", "@import", "<image"] {
        assert!(!outside.contains(word), "{word}");
    }
}

#[test]
fn a_failure_of_a_thread_that_has_no_lane_of_its_own_is_drawn() {
    let mut picture = small();
    picture.focus = None;
    for number in 0..20 {
        let name = format!("thread-{number}");
        picture.lanes.push(lane(LaneKind::Thread, &name, 1));
    }
    // Lanes of a kind lie side by side.
    let others = picture.lanes.len() - 20;
    picture.lanes[..others]
        .iter_mut()
        .for_each(|lane| lane.kind = LaneKind::Inbox);
    for (lane, at, words) in [
        (others + 19, 20, "the last one"),
        (others + 18, 50, "another one"),
    ] {
        let text = picture.text(words.to_owned());
        let failed = moment(lane as u32, at * MS, Sign::Failure, 0, Some(text));
        picture.moments.push(failed);
    }
    let file = svg(&picture);
    assert!(file.contains(">the last one<") && file.contains(">another one<"));
    assert!(file.contains(Sign::Failure.glyph().words), "in the legend");
}

#[test]
fn the_file_has_no_pattern_that_it_does_not_use_and_no_empty_text() {
    let file = svg(&many(3_000));
    let patterns: Vec<&str> = file
        .split("<pattern id=\"")
        .skip(1)
        .map(|part| part.split('"').next().unwrap())
        .collect();
    assert!(!patterns.is_empty());
    for pattern in patterns {
        let class = format!("class=\"s{}\"", &pattern[1..]);
        assert!(file.contains(&class), "{class}");
    }
    assert!(!file.contains("></text>"));
}
