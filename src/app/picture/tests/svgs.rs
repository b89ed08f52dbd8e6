//! The SVG: it is well-formed, has each lane and bar, stays small, and nothing from outside breaks out of its place.

use super::made_up::{MS, NASTY, many, moment, small};
use crate::app::picture::look::{Doing, Sign};
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

#[test]
fn the_words_of_a_failed_attempt_leave_their_room_to_the_connection_that_follows() {
    let mut picture = small();
    picture.focus = None;
    picture.moments.retain(|one| one.sign != Sign::Broken);
    for (at, words) in [(1, "failed at first"), (63, "failed just before")] {
        let text = picture.text(words.to_owned());
        let failed = moment(6, at * MS, Sign::AttemptFailed, 0, Some(text));
        picture.moments.push(failed);
    }
    picture.moments.sort_by_key(|one| (one.lane, one.at));
    let file = svg(&picture);
    assert!(file.contains(">failed at first<") && file.contains(">session resumed<"));
    assert!(!file.contains("failed just before"), "{file}");
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
