//! The moments of a lane: signs, and texts where there is room. Pure; any thread.

use std::fmt::Write;

use super::{GUTTER, Paper, RIGHT, ROW, SIGN_WIDTH, SMALL_WIDTH, Scale, Strip};
use crate::app::picture::look::Sign;
use crate::app::picture::model::{Moment, Picture, text_lines};

/// Pixels from one sign to the next one of its kind. Nearer ones cannot be told apart.
const APART: f64 = 8.0;
/// The same of ticks.
const TICKS_APART: f64 = 1.5;

/// A sign that stands for so many moments.
struct SignGroup {
    sign: Sign,
    x: f64,
    count: usize,
}

/// A text of so many moments, one after the other.
struct TextGroup<'p> {
    sign: Sign,
    x: f64,
    text: &'p str,
    count: usize,
}

impl Paper {
    /// The moments of a strip in this stretch of time.
    pub(super) fn moments(
        &mut self,
        picture: &Picture,
        strip: &Strip,
        scale: Scale,
        y: f64,
        height: f64,
    ) {
        let is_inside = |one: &&Moment| (scale.from..=scale.to).contains(&one.at);
        let inside: Vec<&Moment> = strip.moments.iter().filter(is_inside).collect();
        let (ticks, others): (Vec<&Moment>, Vec<&Moment>) = inside
            .iter()
            .partition(|one| one.sign.glyph().shape == "tick");
        self.ticks(&ticks, scale, y, height);
        self.signs(&others, scale, y, height);
        self.texts(picture, strip, &others, scale, y + height / 2.0 + ROW + 3.0);
    }

    /// Ticks, all in one element.
    fn ticks(&mut self, ticks: &[&Moment], scale: Scale, y: f64, height: f64) {
        let Some(first) = ticks.first() else {
            return;
        };
        let mut path = String::new();
        let mut last = f64::MIN;
        for x in ticks.iter().map(|one| scale.x(one.at)) {
            if x >= last + TICKS_APART {
                last = x;
                let _ = write!(path, "M{x:.1} {y:.1}v{height:.1}");
            } else {
                self.is_crowded = true;
            }
        }
        let class = first.sign as u8;
        let _ = writeln!(self.out, "<path class=\"g{class}\" d=\"{path}\"/>");
    }

    /// Signs. One that stands for several has a number, where there is room for it.
    fn signs(&mut self, moments: &[&Moment], scale: Scale, y: f64, height: f64) {
        let mut drawn: Vec<SignGroup> = Vec::new();
        let mut last: [Option<usize>; Sign::ALL.len()] = [None; Sign::ALL.len()];
        for moment in moments {
            let (sign, x) = (moment.sign, scale.x(moment.at));
            let last = &mut last[sign as usize];
            match *last {
                Some(near) if x < drawn[near].x + APART => {
                    drawn[near].count += 1;
                    self.is_crowded = true;
                }
                _ => {
                    *last = Some(drawn.len());
                    drawn.push(SignGroup { sign, x, count: 1 });
                }
            }
        }
        for (index, SignGroup { sign, x, count }) in drawn.iter().enumerate() {
            self.glyph(*sign, *x, y, height);
            // Nobody counts these.
            if *count < 2 || *sign == Sign::ProcessLoop {
                continue;
            }
            let number = count.to_string();
            let until = drawn.get(index + 1).map_or(RIGHT, |next| next.x - APART);
            if x + APART + number.len() as f64 * SMALL_WIDTH < until {
                self.text(x + 6.0, y + height, "in", &number);
                self.has_numbers = true;
            }
        }
    }

    /// Texts. `y` is that of the first line.
    fn texts(
        &mut self,
        picture: &Picture,
        strip: &Strip,
        moments: &[&Moment],
        scale: Scale,
        y: f64,
    ) {
        let mut free = vec![0.0; text_lines(&strip.moments)];
        for TextGroup {
            sign,
            x,
            text,
            count,
        } in said(picture, moments, scale)
        {
            let text = match count {
                1 => text.to_owned(),
                count => format!("{text} ({count} times)"),
            };
            let width = text.chars().count() as f64 * SIGN_WIDTH;
            // Failed attempts leave the first line to what became of them.
            let first = match sign.glyph().low {
                true => free.len() - 1,
                false => 0,
            };
            let Some(line) = (first..free.len()).find(|line| x >= free[*line]) else {
                self.leaves_words_out = true;
                continue;
            };
            let y = y + line as f64 * ROW;
            // At the edge it stands on the other side.
            if x + width > RIGHT && x - width > free[line].max(GUTTER) {
                self.text(x + 4.0, y, "d end", &text);
                free[line] = x + 12.0;
            } else {
                self.text_within(x - 4.0, y, "d", &text, (RIGHT - x).max(30.0));
                free[line] = x + width + 8.0;
            }
        }
    }
}

impl TextGroup<'_> {
    /// Whether this is the same failure once more.
    fn is_again(&self, sign: Sign, text: &str) -> bool {
        let is_failure = matches!(
            sign,
            Sign::AttemptFailed | Sign::Failure | Sign::MessageDropped
        );
        is_failure && (self.sign, self.text) == (sign, text)
    }
}

/// The texts of these moments; the same failure several times in a row once.
fn said<'p>(picture: &'p Picture, moments: &[&Moment], scale: Scale) -> Vec<TextGroup<'p>> {
    let mut all: Vec<TextGroup> = Vec::new();
    for moment in moments {
        let number = moment.text.map(|number| number as usize);
        let Some(text) = number.and_then(|number| picture.texts.get(number)) else {
            continue;
        };
        match all.last_mut() {
            Some(last) if last.is_again(moment.sign, text) => last.count += 1,
            _ => all.push(TextGroup {
                sign: moment.sign,
                x: scale.x(moment.at),
                text,
                count: 1,
            }),
        }
    }
    all
}
