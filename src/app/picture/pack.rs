//! The numbers of a picture in few bytes: differences, seven bits a byte, the lowest first, then base64.
//!
//! For each lane its rows, then its moments; behind the lanes the lives. `data.js` reads it. Pure; any thread.

use super::model::{NO_LIFE, Picture};

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

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let all = byte(0) << 16 | byte(1) << 8 | byte(2);
        for sign in 0..4 {
            match sign <= three.len() {
                true => text.push(SIGNS[(all >> (18 - 6 * sign)) as usize & 63].into()),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_rfc_4648_has_it() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

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
