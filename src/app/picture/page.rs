//! The picture as one HTML page that loads nothing: zoom, pan, hover, search by packet identifier, keyboard, print.
//!
//! The page has the picture's texts as JSON and its numbers packed (`pack.rs`); `data.js` reads both, `draw.js` draws them on a
//! canvas, `act.js` acts on mouse and keys. Pure; any thread.

use serde_json::json;

use super::levels::Levels;
use super::look::{Doing, Sign};
use super::model::{LaneKind, Picture, text_lines};
use super::pack::pack;
use super::text::{json_in_script, markup, plain};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: [&str; 3] = [
    include_str!("data.js"),
    include_str!("draw.js"),
    include_str!("act.js"),
];

/// The whole page.
pub(crate) fn page(picture: &Picture) -> String {
    let (packed, words) = pack(picture);
    let facts = picture
        .facts
        .iter()
        .map(|fact| format!("<li>{}</li>", markup(fact)));
    let facts: String = facts.collect();
    let script = SCRIPT.concat();
    let data = json_in_script(&data(picture, &words).to_string());
    let title = markup(&picture.title);
    // In one pass: what fills one gap is not searched for the next one.
    let mut page =
        String::with_capacity(PAGE.len() + STYLE.len() + script.len() + data.len() + packed.len());
    for part in PAGE.split("{{") {
        let Some((gap, text)) = part.split_once("}}") else {
            page.push_str(part);
            continue;
        };
        page.push_str(match gap {
            "title" => &title,
            "facts" => &facts,
            "style" => STYLE,
            "data" => &data,
            "packed" => &packed,
            _ => &script,
        });
        page.push_str(text);
    }
    page
}

fn data(picture: &Picture, words: &[&str]) -> serde_json::Value {
    let lanes = (0..picture.lanes.len()).map(|number| {
        let lane = &picture.lanes[number];
        let most = match picture.has_band(number) {
            true => Levels::new(&picture.counted(number)).most.max(1),
            false => 0,
        };
        let mut signs: Vec<u8> = picture
            .moments_of(number)
            .iter()
            .map(|moment| moment.sign as u8)
            .collect();
        signs.sort_unstable();
        signs.dedup();
        json!({
            "kind": kind(lane.kind),
            "name": plain(&lane.name),
            "note": plain(&lane.note),
            "rows": lane.rows,
            "crowd": lane.has_crowd,
            "band": picture.has_band(number),
            "counts": match lane.kind {
                LaneKind::Queue => Doing::Queued as i32,
                LaneKind::InFlight => Doing::OnItsWay as i32,
                _ => -1,
            },
            "most": most,
            "signs": signs,
            "lines": text_lines(picture.moments_of(number)),
        })
    });
    let pauses = picture
        .pauses
        .iter()
        .map(|pause| json!([pause.from, pause.to, pause.lasted, pause.real]));
    let texts = picture.texts.iter().map(|text| plain(text));
    json!({
        "span": picture.span,
        "focus": picture.focus.map(|(from, to)| [from, to]),
        "lanes": lanes.collect::<Vec<_>>(),
        "looks": Doing::ALL.map(Doing::appearance),
        "signs": Sign::ALL.map(Sign::glyph),
        "pauses": pauses.collect::<Vec<_>>(),
        "texts": texts.collect::<Vec<_>>(),
        "words": words,
    })
}

fn kind(kind: LaneKind) -> &'static str {
    match kind {
        LaneKind::Thread => "thread",
        LaneKind::Queue => "queue",
        LaneKind::InFlight => "in flight",
        LaneKind::Loop => "loop",
        LaneKind::Link => "link",
        LaneKind::BytesOut => "out",
        LaneKind::BytesIn => "in",
        LaneKind::Inbox => "inbox",
    }
}
