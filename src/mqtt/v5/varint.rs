//! The variable byte integer: one to four bytes, seven bits in each, the lowest first [MQTT 5, 1.5.5]. Pure.

use bytes::{BufMut, BytesMut};

/// The largest number that it can state.
pub(super) const LARGEST: usize = 268_435_455;

/// Why it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadVarint {
    /// More bytes than the number needs [MQTT-1.5.5-1].
    NotMinimal,
    /// More than four bytes.
    TooLong,
}

/// Reads the number at the beginning of `bytes`, and how many bytes it has. Returns `None` while bytes are missing.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(usize, usize)>, BadVarint> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return match byte {
                0 if index > 0 => Err(BadVarint::NotMinimal),
                _ => Ok(Some((value, index + 1))),
            };
        }
    }
    match bytes.len() {
        ..4 => Ok(None),
        _ => Err(BadVarint::TooLong),
    }
}

/// Appends the number, which is at most [`LARGEST`], in the fewest bytes.
pub(super) fn write(mut value: usize, out: &mut BytesMut) {
    debug_assert!(value <= LARGEST);
    loop {
        // Seven bits.
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.put_u8(byte);
            return;
        }
        out.put_u8(byte | 0x80);
    }
}

/// How many bytes the number takes, which is at most [`LARGEST`].
pub(super) fn length(value: usize) -> usize {
    match value {
        ..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_has_its_numbers() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[0x7f], 127),
            (&[0x80, 1], 128),
            (&[0xff, 0x7f], 16_383),
            (&[0x80, 0x80, 1], 16_384),
            (&[0xff, 0xff, 0x7f], 2_097_151),
            (&[0x80, 0x80, 0x80, 1], 2_097_152),
            (&[0xff, 0xff, 0xff, 0x7f], LARGEST),
        ] {
            assert_eq!(read(bytes), Ok(Some((value, bytes.len()))));
            let mut written = BytesMut::new();
            write(value, &mut written);
            assert_eq!(written, bytes);
            let mut longer = bytes.to_vec();
            longer.push(0xaa);
            assert_eq!(read(&longer), Ok(Some((value, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        assert_eq!(read(&[0x80, 0]), Err(BadVarint::NotMinimal));
        assert_eq!(read(&[0xff, 0x80, 0]), Err(BadVarint::NotMinimal));
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80]), Err(BadVarint::TooLong));
    }
}
