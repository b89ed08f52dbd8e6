//! The picture as one SVG for papers: static, light or dark as the reader's system is.
//!
//! The whole run, and below it the time worth a closer look, if that is a small part of it. Where single intervals have
//! no room, each column shows their shares of the time, and the legend says so. So the file stays small whatever the
//! number of messages. Pure; any thread.

mod moments;
mod strips;
mod style;

use std::collections::BTreeSet;
use std::fmt::Write;

use super::look::{Doing, Filling, Glyph, Outline, Sign};
use super::model::{Interval, LaneKind, Picture, clock_text, time_text};
use super::text::markup;
use strips::{Strip, shown_lanes};
use style::definitions;

const WIDTH: f64 = 1200.0;
const GUTTER: f64 = 216.0;
const RIGHT: f64 = WIDTH - 14.0;
/// The messages are enlarged if they take less than this part of the whole.
const FOCUS_PART: u64 = 3;
/// Pixels that shares are drawn for.
const COLUMN: f64 = 3.0;
const ROW: f64 = 14.0;
const BAND: f64 = 40.0;
const PAD: f64 = 6.0;
const LEAST_LANE: f64 = 40.0;
/// Pixels that a sign takes at this size of text, on average.
const SIGN_WIDTH: f64 = 7.0;
/// The same of the smaller text in bars.
const SMALL_WIDTH: f64 = 6.3;

/// The whole file.
pub(crate) fn svg(picture: &Picture) -> String {
    let lanes = shown_lanes(picture);
    let mut paper = Paper::default();
    let mut y = 26.0;
    paper.text(14.0, y, "t", &picture.title);
    for line in wrapped(&picture.facts) {
        y += 17.0;
        paper.text(14.0, y, "d", &line);
    }
    let used = Used::of(picture, &lanes);
    y = paper.legend(&used, y + 12.0);
    paper.panel(picture, &lanes, (0, picture.span), &mut y);
    let is_small = |focus: &(u64, u64)| focus.1 - focus.0 < picture.span / FOCUS_PART;
    if let Some((from, to)) = picture.focus.filter(is_small) {
        let edge = (to - from) / 25;
        let view = (from.saturating_sub(edge), (to + edge).min(picture.span));
        y += 26.0;
        let last = picture.real(view.1);
        let begin = clock_text(picture.real(view.0), (view.1 - view.0) / 100, last);
        let title = format!(
            "The messages, enlarged: {} from {begin} on",
            time_text(view.1 - view.0)
        );
        paper.text(14.0, y, "l", &title);
        y += 4.0;
        paper.panel(picture, &lanes, view, &mut y);
    }
    if paper.is_dense {
        y += 20.0;
        let words = "Where single bars have no room, each column shows the shares of what goes on in it, in the order of the legend from below.";
        paper.text(14.0, y, "d", words);
    }
    let crowded = [
        (
            paper.is_crowded,
            "Where signs have no room, one stands for several of its kind.",
        ),
        (
            paper.has_numbers,
            "A number beside a sign says for how many.",
        ),
        (
            paper.leaves_words_out,
            "Words that have no room are left out; the page has them all.",
        ),
    ];
    let told = crowded.into_iter().filter(|(is_true, _)| *is_true);
    let told: Vec<&str> = told.map(|(_, words)| words).collect();
    if !told.is_empty() {
        y += 17.0;
        paper.text(14.0, y, "d", &told.join(" "));
    }
    let height = y + 16.0;
    let title = markup(&picture.title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\">\n<title>{title}</title>\n{}<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n{}</svg>\n",
        definitions(&used),
        paper.out
    )
}

/// The facts in lines that fit.
fn wrapped(facts: &[String]) -> Vec<String> {
    let most = ((WIDTH - 28.0) / SIGN_WIDTH) as usize;
    let mut lines: Vec<String> = Vec::new();
    for fact in facts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + fact.chars().count() + 3 < most => {
                line.push_str(" · ");
                line.push_str(fact);
            }
            _ => lines.push(fact.clone()),
        }
    }
    lines
}

/// A place on the time axis.
#[derive(Clone, Copy)]
struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    fn x(self, at: u64) -> f64 {
        let part = (at as f64 - self.from as f64) / (self.to - self.from).max(1) as f64;
        (GUTTER + part * (RIGHT - GUTTER)).clamp(GUTTER, RIGHT)
    }

    fn at(self, x: f64) -> u64 {
        let part = (x - GUTTER) / (RIGHT - GUTTER);
        self.from + (part.clamp(0.0, 1.0) * (self.to - self.from) as f64) as u64
    }
}

/// The elements so far.
#[derive(Default)]
struct Paper {
    out: String,
    /// Whether bars became shares.
    is_dense: bool,
    /// Whether a sign stands for several.
    is_crowded: bool,
    /// Whether one of these has a number.
    has_numbers: bool,
    leaves_words_out: bool,
}

/// The looks that the file has to explain.
struct Used {
    doings: BTreeSet<Doing>,
    signs: BTreeSet<Sign>,
}

impl Used {
    fn of(picture: &Picture, strips: &[Strip]) -> Self {
        let moments = strips.iter().flat_map(|strip| &*strip.moments);
        Used {
            doings: picture.intervals.iter().map(|one| one.doing).collect(),
            signs: moments.map(|one| one.sign).collect(),
        }
    }
}

impl Paper {
    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = markup(text);
        let _ = writeln!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"
        );
    }

    /// A text that is cut to fit.
    fn text_within(&mut self, x: f64, y: f64, class: &str, text: &str, most: f64) {
        if text.is_empty() {
            return;
        }
        let signs = (most / SIGN_WIDTH) as usize;
        match text.chars().count() > signs {
            true => {
                let cut: String = text.chars().take(signs.saturating_sub(1)).collect();
                self.text(x, y, class, &format!("{cut}…"));
            }
            false => self.text(x, y, class, text),
        }
    }

    fn bar(&mut self, doing: Doing, (x, y): (f64, f64), width: f64, height: f64) {
        let tall = match doing.appearance().outline {
            Outline::Full => height,
            Outline::Half => height * 0.55,
            Outline::Thin => 3.0,
        };
        let y = y + (height - tall) / 2.0;
        // Patterns need some room to be seen.
        let class = if width < 3.0 { 'c' } else { 's' };
        let number = doing as u8;
        let _ = writeln!(
            self.out,
            "<rect class=\"{class}{number}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{tall:.1}\"/>",
            width.max(1.0)
        );
    }

    fn glyph(&mut self, sign: Sign, x: f64, y: f64, height: f64) {
        let (number, middle) = (sign as u8, y + height / 2.0);
        let Glyph { shape, .. } = sign.glyph();
        let path = match shape {
            "tick" => format!("M{x:.1} {y:.1}v{height:.1}"),
            "cross" => format!("M{:.1} {:.1}l8 8m0 -8l-8 8", x - 4.0, middle - 4.0),
            "up" => format!("M{x:.1} {:.1}l4 8h-8z", middle - 4.0),
            _ => format!("M{x:.1} {:.1}l4 -8h-8z", middle + 4.0),
        };
        let _ = writeln!(self.out, "<path class=\"g{number}\" d=\"{path}\"/>");
    }

    fn legend(&mut self, used: &Used, mut y: f64) -> f64 {
        let mut x = 14.0;
        let mut place = |words: &str| {
            let width = 40.0 + words.chars().count() as f64 * SIGN_WIDTH;
            if x + width > RIGHT {
                (x, y) = (14.0, y + 18.0);
            }
            let here = (x, y);
            x += width;
            here
        };
        for doing in used.doings.iter().copied() {
            let words = doing.appearance().words;
            let (x, y) = place(words);
            self.bar(doing, (x, y), 22.0, 12.0);
            self.text(x + 28.0, y + 10.0, "d", words);
        }
        for sign in used.signs.iter().copied() {
            let words = sign.glyph().words;
            let (x, y) = place(words);
            self.glyph(sign, x + 11.0, y + 1.0, 10.0);
            self.text(x + 28.0, y + 10.0, "d", words);
        }
        y + 22.0
    }

    /// All lanes over a stretch of time; `y` is where it begins, then where it ends.
    fn panel(&mut self, picture: &Picture, strips: &[Strip], (from, to): (u64, u64), y: &mut f64) {
        let scale = Scale { from, to };
        let height: f64 = strips.iter().map(Strip::height).sum();
        let top = *y + 20.0;
        self.axis(picture, scale, *y + 13.0, height + 7.0);
        for pause in &picture.pauses {
            let (left, right) = (scale.x(pause.from), scale.x(pause.to));
            if right - left < 1.0 {
                continue;
            }
            let width = right - left;
            let _ = writeln!(
                self.out,
                "<rect class=\"pause\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
            );
            let (x, y) = ((left + right) / 2.0 + 4.0, top + 8.0);
            let lasted = time_text(pause.lasted);
            let _ = writeln!(
                self.out,
                "<text class=\"d\" transform=\"translate({x:.1} {y:.1}) rotate(90)\">pause {lasted}</text>"
            );
        }
        let mut at = top;
        for strip in strips {
            self.strip(picture, strip, scale, at);
            at += strip.height();
        }
        *y = at;
    }

    fn axis(&mut self, picture: &Picture, scale: Scale, y: f64, height: f64) {
        let step = nice_step((scale.to - scale.from) / 8);
        // Behind a pause no line is at a round time.
        let exact = if picture.pauses.is_empty() {
            step
        } else {
            step / 10
        };
        let mut at = scale.from.div_ceil(step) * step;
        while at <= scale.to {
            let is_pause = picture
                .pauses
                .iter()
                .any(|pause| at > pause.from && at < pause.to);
            if !is_pause {
                let last = picture.real(scale.to);
                let (x, text) = (scale.x(at), clock_text(picture.real(at), exact, last));
                let _ = writeln!(
                    self.out,
                    "<path class=\"edge\" d=\"M{x:.1} {:.1}v{height:.1}\"/>",
                    y - 9.0
                );
                if x < RIGHT - 50.0 {
                    self.text(x + 3.0, y, "d", &text);
                }
            }
            at += step;
        }
    }

    fn strip(&mut self, picture: &Picture, strip: &Strip, scale: Scale, top: f64) {
        let height = strip.height();
        let _ = writeln!(
            self.out,
            "<g class=\"lane\"><path class=\"edge\" d=\"M0 {:.1}H{WIDTH}\"/>",
            top + height
        );
        self.text_within(
            14.0,
            top + PAD + 11.0,
            "l",
            &strip.name,
            (GUTTER - 20.0) * 0.9,
        );
        self.text_within(14.0, top + PAD + 26.0, "d", &strip.note, GUTTER - 20.0);
        let mut y = top + PAD;
        for (number, row) in strip.rows.iter().enumerate() {
            let is_state = number == 0 && strip.kind == LaneKind::Thread;
            self.row(picture, row, scale, y, is_state);
            y += ROW;
        }
        if !strip.band.is_empty() {
            self.band(strip, scale, y, BAND - 4.0);
            let place = strip.rows.is_empty();
            let at = match (place, strip.note.is_empty()) {
                (true, true) => top + PAD + 26.0,
                (true, false) => top + PAD + 41.0,
                (false, _) => y + BAND / 2.0,
            };
            let more = if place { "" } else { " more" };
            let text = format!("at most {}{more}", strip.most);
            self.text_within(14.0, at.min(top + height - 3.0), "d", &text, GUTTER - 20.0);
        }
        let tall = if strip.has_moments_only() {
            height - 2.0 * PAD
        } else {
            ROW - 3.0
        };
        self.moments(picture, strip, scale, y, tall);
        self.out.push_str("</g>\n");
    }

    /// One row of intervals that do not overlap.
    fn row(&mut self, picture: &Picture, row: &[Interval], scale: Scale, y: f64, is_state: bool) {
        let height = ROW - 3.0;
        let mut next = row.partition_point(|one| one.to <= scale.from);
        // The shares of all columns, by what goes on: one element for each.
        let mut dense: Vec<(Doing, String)> = Vec::new();
        while let Some(one) = row.get(next).filter(|one| one.from < scale.to) {
            let (left, right) = (scale.x(one.from), scale.x(one.to));
            if right - left >= COLUMN {
                self.bar(one.doing, (left, y), right - left, height);
                self.words(picture, one, (left, right), y, is_state);
                next += 1;
                continue;
            }
            let until = scale.at(left + COLUMN).max(one.from + 1);
            let mut here = row[next..].partition_point(|one| one.from < until);
            // The last one may have room behind this column.
            if here > 1 && scale.x(row[next + here - 1].to) - left >= 2.0 * COLUMN {
                here -= 1;
            }
            let column = &row[next..next + here];
            next += here;
            match column {
                [one] => self.bar(one.doing, (left, y), (right - left).max(1.5), height),
                _ => self.shares(column, &mut dense, (left, y), height),
            }
        }
        for (doing, path) in dense {
            let _ = writeln!(self.out, "<path class=\"c{}\" d=\"{path}\"/>", doing as u8);
        }
    }

    fn shares(
        &mut self,
        column: &[Interval],
        dense: &mut Vec<(Doing, String)>,
        (x, y): (f64, f64),
        height: f64,
    ) {
        self.is_dense = true;
        let all: u64 = column.iter().map(|one| one.to - one.from).sum();
        let mut bottom = y + height;
        for doing in Doing::ALL {
            let own = column.iter().filter(|one| one.doing == doing);
            let own: u64 = own.map(|one| one.to - one.from).sum();
            let tall = own as f64 / all.max(1) as f64 * height;
            if tall < 0.1 {
                continue;
            }
            bottom -= tall;
            let place = match dense.iter().position(|(known, _)| *known == doing) {
                Some(place) => place,
                None => {
                    dense.push((doing, String::new()));
                    dense.len() - 1
                }
            };
            let _ = write!(
                dense[place].1,
                "M{x:.1} {bottom:.1}h{COLUMN}v{tall:.1}h-{COLUMN}z"
            );
        }
    }

    /// The name inside of a bar, if it has room.
    fn words(
        &mut self,
        picture: &Picture,
        one: &Interval,
        (left, right): (f64, f64),
        y: f64,
        is_state: bool,
    ) {
        let look = one.doing.appearance();
        let words = match picture.lives.get(one.life as usize) {
            Some(life) if life.packet_id > 0 && is_state => {
                format!("waits for {} {}", life.what, life.packet_id)
            }
            Some(life) if life.packet_id > 0 => format!("{} {}", life.what, life.packet_id),
            Some(life) => life.what.to_owned(),
            None => look.words.to_owned(),
        };
        let width = words.chars().count() as f64 * SMALL_WIDTH;
        if look.outline != Outline::Full || right - left < width + 8.0 {
            return;
        }
        let class = match look.filling {
            Filling::Solid => "on",
            _ => {
                let _ = writeln!(
                    self.out,
                    "<rect class=\"paper\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                    left + 3.0,
                    y + 0.8,
                    ROW - 4.6
                );
                "in"
            }
        };
        self.text(left + 5.0, y + 9.4, class, &words);
    }

    /// How many there are at a time, one area above the other.
    fn band(&mut self, strip: &Strip, scale: Scale, y: f64, height: f64) {
        let columns = ((RIGHT - GUTTER) / COLUMN) as usize;
        let mut floor = vec![0.0; columns];
        for (doing, levels) in &strip.band {
            let mut upper = String::new();
            let mut lower = String::new();
            for (column, floor) in floor.iter_mut().enumerate() {
                let x = GUTTER + column as f64 * COLUMN;
                let from = scale.at(x);
                let count = levels.average(from, scale.at(x + COLUMN).max(from + 1));
                let tall =
                    |count: f64| y + height - (count / f64::from(strip.most)).min(1.0) * height;
                let below = tall(*floor);
                *floor += count;
                let _ = write!(
                    upper,
                    "{}{x:.0} {:.1}h{COLUMN}",
                    if column == 0 { 'M' } else { 'L' },
                    tall(*floor)
                );
                lower.insert_str(0, &format!("L{:.0} {below:.1}h-{COLUMN}", x + COLUMN));
            }
            let _ = writeln!(
                self.out,
                "<path class=\"s{}\" style=\"stroke:none\" d=\"{upper}{lower}z\"/>",
                *doing as u8
            );
        }
    }
}

fn nice_step(rough: u64) -> u64 {
    let power = 10_u64.pow(rough.max(1).ilog10());
    [1, 2, 5, 10]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough)
        .max(1)
}
