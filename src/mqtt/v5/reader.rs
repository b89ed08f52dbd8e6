//! Reads the parts of a packet: numbers, texts and bytes with a length [MQTT 5, 1.5]. Pure.

use crate::mqtt::topic::shortened;
use crate::mqtt::v5::problem::Problem;
use crate::mqtt::v5::varint;

/// How many characters of a bad text an error shows.
const SHOWN_CHARACTERS: usize = 40;

/// Reads the parts of a packet one after the other. No part crosses the end.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    /// How much of it was read.
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let part = self.bytes.get(self.at..self.at + count);
        let part = part.ok_or_else(Problem::misfit)?;
        self.at += count;
        Ok(part)
    }

    pub(super) fn two(&mut self) -> Result<u16, Problem> {
        let two = self.take(2)?;
        Ok(u16::from_be_bytes([two[0], two[1]]))
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8], Problem> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    /// A string [MQTT 5, 1.5.4]. `name` is for the error.
    pub(super) fn text(&mut self, name: &str) -> Result<&'a str, Problem> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| {
            let shown = shortened(&String::from_utf8_lossy(bytes), SHOWN_CHARACTERS);
            Problem::malformed(format!("{name} {shown} is not UTF-8"), "MQTT-1.5.4-1")
        })?;
        if text.contains('\0') {
            let shown = shortened(text, SHOWN_CHARACTERS);
            let problem = format!("{name} {shown} has the character U+0000");
            return Err(Problem::malformed(problem, "MQTT-1.5.4-2"));
        }
        Ok(text)
    }

    pub(super) fn varint(&mut self, name: &str) -> Result<usize, Problem> {
        match varint::read(&self.bytes[self.at..]) {
            Ok(Some((value, length))) => {
                self.at += length;
                Ok(value)
            }
            Ok(None) => Err(Problem::misfit()),
            Err(bad) => Err(Problem::varint(name, bad)),
        }
    }
}
