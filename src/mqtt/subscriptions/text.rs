//! The text of a filter, kept where the filter is.
//!
//! Most filters are short. Text of its own in memory would be one more place for a message to wait
//! for; the few long ones have that. Pure; the loop's thread.

/// With its length and its kind, as much as fills a slot of `filters.rs`.
const SHORT: usize = 70;

/// Bytes that were a `str`.
#[derive(Debug)]
pub(super) enum Text {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

impl Default for Text {
    fn default() -> Self {
        Text::from("")
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(short), Ok(length)) => {
                short.copy_from_slice(text.as_bytes());
                Text::Short { length, bytes }
            }
            _ => Text::Long(text.as_bytes().into()),
        }
    }
}

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Short { length, bytes } => &bytes[..usize::from(*length)],
            Text::Long(bytes) => bytes,
        }
    }

    pub(super) fn to_text(&self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_comes_out() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 255, 256, 65_535] {
            let text = "x".repeat(length);
            let kept = Text::from(text.as_str());
            assert_eq!(kept.as_bytes(), text.as_bytes());
            assert_eq!(kept.to_text(), text);
            assert_eq!(matches!(kept, Text::Short { .. }), length <= SHORT);
        }
        let wide = "😀".repeat(SHORT / 4);
        assert_eq!(Text::from(wide.as_str()).to_text(), wide);
    }
}
