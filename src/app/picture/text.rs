//! Makes names from outside harmless: thread names, topics, causes.
//!
//! Pure; any thread.

/// The text with a visible sign for each control character, and without signs that turn the direction of writing, or that
/// nobody sees.
pub(crate) fn plain(text: &str) -> String {
    let visible = |c: char| match c {
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}'
        | '\u{fffe}'..='\u{ffff}' => '\u{fffd}',
        other => other,
    };
    text.chars().map(visible).collect()
}

/// The text for between tags and in attributes, of HTML and XML.
pub(crate) fn markup(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// JSON for inside of a `<script>`: nothing in it can end that, or begin a comment.
pub(crate) fn json_in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sign_of_markup_and_no_control_character_remains() {
        let text = "</script>'\"&\0\n\u{7f}\u{85}\u{202e}\u{ffff}\u{61c}\u{200b}\u{feff}ä";
        assert_eq!(
            markup(text),
            "&lt;/script&gt;&#39;&quot;&amp;\u{2400}\u{240a}\u{2421}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}ä"
        );
        assert_eq!(
            json_in_script("\"</script><!--\""),
            "\"\\u003c/script>\\u003c!--\""
        );
    }
}
