//! The moments of a lane: signs, and texts where there is room. Pure; any thread.

use std::fmt::Write;

use super::{GUTTER, Paper, RIGHT, ROW, SIGN_WIDTH, Scale, Strip};
use crate::app::picture::look::Sign;
use crate::app::picture::model::{Moment, Picture};

impl Paper {
    /// At most one of each sign for each column, and texts where there is room.
    pub(super) fn moments(
        &mut self,
        picture: &Picture,
        strip: &Strip,
        scale: Scale,
        y: f64,
        height: f64,
    ) {
        let mut last: [f64; Sign::ALL.len()] = [0.0; Sign::ALL.len()];
        let mut free = 0.0;
        let inside = |one: &&Moment| (scale.from..=scale.to).contains(&one.at);
        let mut ticks = String::new();
        for (index, moment) in strip.moments.iter().enumerate() {
            if !inside(&moment) {
                continue;
            }
            let x = scale.x(moment.at);
            let place = &mut last[moment.sign as usize];
            let least = if moment.sign.glyph().shape == "tick" {
                1.5
            } else {
                8.0
            };
            if x >= *place + least {
                *place = x;
                match moment.sign {
                    Sign::TlsRecord => drop(write!(ticks, "M{x:.1} {y:.1}v{height:.1}")),
                    sign => self.glyph(sign, x, y, height),
                }
            }
            let text = moment
                .text
                .and_then(|text| picture.texts.get(text as usize));
            if let Some(text) = text.filter(|_| x >= free) {
                let (width, y) = (
                    text.chars().count() as f64 * SIGN_WIDTH,
                    y + height / 2.0 + ROW + 3.0,
                );
                // A failed attempt leaves its room to what became of them all.
                let says_more = |one: &&Moment| one.text.is_some() && one.sign != moment.sign;
                let next = strip.moments[index..].iter().find(says_more);
                if moment.sign == Sign::AttemptFailed
                    && next.is_some_and(|next| scale.x(next.at) < x + width + 8.0)
                {
                    continue;
                }
                // At the edge it stands on the other side.
                if x + width > RIGHT && x - width > free.max(GUTTER) {
                    self.text(x + 4.0, y, "d end", text);
                    free = x + 12.0;
                } else {
                    self.text_within(x - 4.0, y, "d", text, (RIGHT - x).max(30.0));
                    free = x + width + 8.0;
                }
            }
        }
        if !ticks.is_empty() {
            let _ = writeln!(
                self.out,
                "<path class=\"g{}\" d=\"{ticks}\"/>",
                Sign::TlsRecord as u8
            );
        }
    }
}
