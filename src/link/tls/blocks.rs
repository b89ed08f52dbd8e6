//! Finds the blocks of PEM text, and says which one is damaged.
//!
//! A block that is passed over in silence takes a certificate with it, and the error comes later and
//! elsewhere. So every begin and end has to fit. Other text may stand around the blocks. A problem names
//! the number of the block and must not quote contents. The copies that are made here are wiped. Pure.

use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The labels that a problem may quote. Any other text in their place may be part of a key.
const LABELS: [&str; 16] = [
    "CERTIFICATE",
    "CERTIFICATE REQUEST",
    "DH PARAMETERS",
    "DSA PRIVATE KEY",
    "EC PARAMETERS",
    "EC PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "NEW CERTIFICATE REQUEST",
    "OPENSSH PRIVATE KEY",
    "PKCS7",
    "PRIVATE KEY",
    "PUBLIC KEY",
    "RSA PRIVATE KEY",
    "TRUSTED CERTIFICATE",
    "X509 CERTIFICATE",
    "X509 CRL",
];

/// A block. It has no `Debug`, so that no output can show its contents.
pub(super) struct Block {
    label: String,
    /// Whether a header says that the contents are encrypted.
    pub(super) is_encrypted: bool,
    contents: Zeroizing<Vec<u8>>,
}

impl Block {
    /// The words in its first line: `PRIVATE KEY`.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The decoded bytes.
    pub(super) fn contents(&self) -> &[u8] {
        &self.contents
    }

    /// Parses a block by itself. Returns `None` if it is damaged: the parser's own error is not passed on, because it
    /// quotes contents.
    fn parse(label: &str, body: &str) -> Option<Block> {
        let parts = [
            BEGIN, label, DASHES, "\n", body, "\n", END, label, DASHES, "\n",
        ];
        let length = parts.iter().map(|part| part.len()).sum();
        let mut whole = Zeroizing::new(String::with_capacity(length));
        parts.iter().for_each(|part| whole.push_str(part));
        let parsed = pem::parse(whole.as_bytes()).ok()?;
        let kind = parsed.headers().get("Proc-Type");
        Some(Block {
            label: parsed.tag().to_owned(),
            is_encrypted: kind.is_some_and(|kind| kind.contains("ENCRYPTED")),
            contents: Zeroizing::new(parsed.into_contents()),
        })
    }
}

/// The blocks in the text, in order; none if the text is no PEM.
///
/// # Errors
/// The fault of the first damaged block, as a clause that names its number, counted from 1.
pub(super) fn find(bytes: &[u8]) -> Result<Vec<Block>, String> {
    let text = text_of(bytes);
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some(mark) = Mark::next(rest) {
        let number = found.len() + 1;
        expect_no_damaged_mark(mark.before, number)?;
        if !mark.is_begin {
            return Err(format!(
                "its PEM block {number} has no line -----BEGIN before its line -----END"
            ));
        }
        let Some(label) = mark.label else {
            return Err(damaged_mark(number));
        };
        let Some(end) = Mark::next(mark.after).filter(|next| !next.is_begin) else {
            return Err(format!(
                "its PEM block {number} is cut off: it has no line {}",
                shown(END, label)
            ));
        };
        match end.label {
            Some(same) if same == label => {}
            Some(other) => {
                return Err(format!(
                    "its PEM block {number} is damaged: it begins with {} and ends with {}",
                    shown(BEGIN, label),
                    shown(END, other)
                ));
            }
            None => return Err(damaged_mark(number)),
        }
        found.push(Block::parse(label, end.before.trim()).ok_or_else(|| {
            format!("its PEM block {number} is damaged: its lines are not base64 text")
        })?);
        rest = end.after;
    }
    expect_no_damaged_mark(rest, found.len() + 1)?;
    Ok(found)
}

/// The bytes as text with line ends of one kind, in memory that is never moved. Text in any encoding may stand around
/// the blocks.
fn text_of(bytes: &[u8]) -> Zeroizing<String> {
    // Bytes that are no UTF-8 become a character of three each.
    let most = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(_) => 3 * bytes.len(),
    };
    let mut text = Zeroizing::new(String::with_capacity(most));
    for chunk in bytes.utf8_chunks() {
        let mut after_return = false;
        for character in chunk.valid().chars() {
            match character {
                '\n' if after_return => {}
                '\r' => text.push('\n'),
                other => text.push(other),
            }
            after_return = character == '\r';
        }
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// A begin or an end in the text.
struct Mark<'a> {
    is_begin: bool,
    /// `None` if five dashes do not follow on the same line.
    label: Option<&'a str>,
    before: &'a str,
    after: &'a str,
}

impl<'a> Mark<'a> {
    /// The first one in the text.
    fn next(text: &'a str) -> Option<Mark<'a>> {
        // A line that begins with # is a comment, whatever it shows.
        let counts = |at: &usize| {
            let line = text[..*at].rsplit('\n').next().unwrap_or_default();
            !line.trim_start().starts_with('#')
        };
        let first = |mark| text.match_indices(mark).map(|(at, _)| at).find(counts);
        let (begin, end) = (first(BEGIN), first(END));
        let (at, is_begin) = match (begin, end) {
            (Some(begin), Some(end)) => (begin.min(end), begin < end),
            (Some(begin), None) => (begin, true),
            (None, Some(end)) => (end, false),
            (None, None) => return None,
        };
        let behind = &text[at + if is_begin { BEGIN.len() } else { END.len() }..];
        let line = behind.split('\n').next().unwrap_or_default();
        let label = line.find(DASHES).map(|length| &line[..length]);
        let after = match label {
            Some(label) => &behind[label.len() + DASHES.len()..],
            None => behind,
        };
        Some(Mark {
            is_begin,
            label,
            before: &text[..at],
            after,
        })
    }
}

/// A begin or end with its dashes damaged looks like other text, and the block would be missing.
fn expect_no_damaged_mark(text: &str, number: usize) -> Result<(), String> {
    let dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let damaged = text.lines().any(|line| {
        let line = line.trim();
        let word = line.trim_start_matches(dash);
        let word = word.split([' ', '-']).next().unwrap_or_default();
        line.starts_with(dash)
            && (word.eq_ignore_ascii_case("BEGIN") || word.eq_ignore_ascii_case("END"))
    });
    match damaged {
        true => Err(damaged_mark(number)),
        false => Ok(()),
    }
}

fn damaged_mark(number: usize) -> String {
    format!(
        "its PEM block {number} is damaged: its line BEGIN or END lacks some of the five dashes on each side"
    )
}

/// A line of the block, with the label if it is safe to show.
fn shown(mark: &str, label: &str) -> String {
    match LABELS.contains(&label) {
        true => format!("{mark}{label}{DASHES}"),
        false => format!("{mark}…"),
    }
}
