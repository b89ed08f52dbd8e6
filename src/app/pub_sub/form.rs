//! The forms in which sub writes a message to standard output.
//!
//! Pure; the printing thread uses it.

use std::fmt::Write;
use std::str::FromStr;

use mqtt_connection_sharing::Message;

/// The form of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageForm {
    /// A line: topic, tab, payload; a backslash and what is no text or moves a cursor are escaped.
    Text,
    /// A JSON object on a line.
    Jsonl,
    /// The bytes of the payload and nothing else.
    Raw,
}

impl FromStr for MessageForm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(MessageForm::Text),
            "jsonl" => Ok(MessageForm::Jsonl),
            "raw" => Ok(MessageForm::Raw),
            _ => Err("text, jsonl or raw"),
        }
    }
}

/// A message as one line of text.
pub(super) fn text(message: &Message) -> String {
    let mut line = String::new();
    push(&mut line, message.topic().as_bytes());
    line.push('\t');
    push(&mut line, message.payload());
    line.push('\n');
    line
}

/// Adds bytes of which none ends the line, moves the cursor or changes the order of what is shown.
fn push(line: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for sign in chunk.valid().chars() {
            match sign {
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                // So that what is escaped can be told from what came with a backslash.
                '\\' => line.push_str("\\\\"),
                sign if is_harmful(sign) => line.extend(sign.escape_unicode()),
                sign => line.push(sign),
            }
        }
        for byte in chunk.invalid() {
            // A text takes everything.
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
}

/// Control signs, line and paragraph separators, and the signs that turn the direction of writing.
fn is_harmful(sign: char) -> bool {
    sign.is_control()
        || matches!(
            sign,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}'
        )
        || matches!(sign, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_connection_sharing::QoS;

    #[test]
    fn a_line_of_text_has_one_tab_and_one_line_end_and_no_control_sign() {
        for (topic, payload, line) in [
            ("a/b", &b"on"[..], "a/b\ton\n"),
            ("a b", b"", "a b\t\n"),
            ("a", "é \"x\" \\n".as_bytes(), "a\té \"x\" \\\\n\n"),
            (
                "a",
                b"one\ntwo\r\n\t\x1b[2J\0",
                "a\tone\\ntwo\\r\\n\\t\\u{1b}[2J\\u{0}\n",
            ),
            ("a", b"\xff\xfeok\xc3", "a\t\\xff\\xfeok\\xc3\n"),
            ("a", "\u{202e}x\u{85}".as_bytes(), "a\t\\u{202e}x\\u{85}\n"),
        ] {
            let message = Message::new(topic, QoS::AtMostOnce, payload.to_vec());
            assert_eq!(text(&message), line);
        }
    }
}
