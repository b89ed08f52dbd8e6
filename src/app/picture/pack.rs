//! The numbers of a picture in few bytes: differences, seven bits a byte, the lowest first, then base64.
//!
//! For each lane its rows, then its moments; behind the lanes the lives. `data.js` reads it. Pure; any thread.

use super::model::{NO_LIFE, Picture};
use crate::app::base64::base64;

/// The numbers as base64, and the words that they refer to.
pub(crate) fn pack(picture: &Picture) -> (String, Vec<&'static str>) {
    let mut packed = Packed::default();
    for (number, lane) in picture.lanes.iter().enumerate() {
        for row in 0..lane.rows + usize::from(lane.has_crowd) {
            let row = picture.row(number, row);
            packed.number(row.len() as u64);
            let (mut before, mut life_before) = (0, 0);
            for interval in row {
                packed.number(interval.from - before);
                packed.number(interval.to - interval.from);
                packed.number(interval.doing as u64);
                let life = match interval.life {
                    NO_LIFE => 0,
                    life => i64::from(life) + 1,
                };
                packed.signed(life - life_before);
                (before, life_before) = (interval.from, life);
            }
        }
        let moments = picture.moments_of(number);
        packed.number(moments.len() as u64);
        let mut before = 0;
        for moment in moments {
            packed.number(moment.at - before);
            packed.number(moment.sign as u64);
            packed.number(moment.bytes);
            packed.number(moment.text.map_or(0, |text| u64::from(text) + 1));
            before = moment.at;
        }
    }
    let mut words: Vec<&'static str> = Vec::new();
    let mut word = |text: &'static str| {
        let known = words.iter().position(|word| *word == text);
        known.unwrap_or_else(|| {
            words.push(text);
            words.len() - 1
        }) as u64
    };
    packed.number(picture.lives.len() as u64);
    let mut before = 0;
    for life in &picture.lives {
        packed.number(life.lane.into());
        packed.number(word(life.what));
        packed.number(life.packet_id.into());
        packed.number(life.qos.into());
        packed.number(life.bytes);
        packed.number(word(life.end));
        packed.signed(life.from as i64 - before);
        packed.number(life.to - life.from);
        let acknowledged = life.acknowledged.map(|at| at.saturating_sub(life.from) + 1);
        packed.number(acknowledged.unwrap_or(0));
        packed.number(life.sent.into());
        before = life.from as i64;
    }
    (base64(&packed.bytes), words)
}

#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
}

impl Packed {
    fn number(&mut self, mut value: u64) {
        while value > 127 {
            self.bytes.push(value as u8 & 127 | 128);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Small ones of either sign take few bytes.
    fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        let mut packed = Packed::default();
        packed.number(300);
        packed.signed(-1);
        packed.signed(1);
        packed.number(u64::MAX);
        let largest = [[255; 9].as_slice(), &[1]].concat();
        assert_eq!(packed.bytes, [&[172, 2, 1, 2][..], &largest].concat());
    }
}
