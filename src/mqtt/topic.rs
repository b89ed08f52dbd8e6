//! Topic names and topic filters: the type [`Topic`], the strings that MQTT allows, and the texts that the topics
//! of a filter's messages match.
//!
//! Pure functions, for any thread. They check single names; `subscriptions/` matches topics with filters.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A topic name. Its clones share one text: a thread that publishes to one topic repeatedly makes the
/// name once and clones it for each message, which allocates nothing.
///
/// A `Topic` may hold any text. [`Publish::check`](crate::mqtt::packet::Publish::check) refuses a text that
/// MQTT forbids.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Topic {
    fn from(name: &str) -> Self {
        Topic(name.into())
    }
}

impl From<String> for Topic {
    fn from(name: String) -> Self {
        Topic(name.into())
    }
}

impl From<&String> for Topic {
    fn from(name: &String) -> Self {
        Topic(name.as_str().into())
    }
}

impl From<&Topic> for Topic {
    fn from(topic: &Topic) -> Self {
        topic.clone()
    }
}

impl PartialEq<str> for Topic {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Topic {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The bytes that the length field of a string can state.
const LONGEST: usize = u16::MAX as usize;

/// The reason why MQTT cannot carry a string, a topic, a filter, a message or a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// Topics and filters have at least one character.
    #[error("it is empty [MQTT-4.7.3-1]")]
    Empty,
    /// A string longer than its length field of 16 bits can state.
    #[error("it is longer than 65,535 bytes, the most that its two bytes of length can state")]
    TooLong,
    /// A character that no string may have, U+0000, or that none should have: the other control characters, U+0001
    /// to U+001F and U+007F to U+009F, and those that Unicode calls non-characters, such as U+FFFE. A server may
    /// close the connection on these too, without a reason, so the client sends none of them.
    #[error("its character {position} is U+{:04X}{}", u32::from(*.character), rule_of(*.character))]
    Character {
        /// The character.
        character: char,
        /// Its place among the characters of the string, from 1.
        position: usize,
    },
    /// `+` or `#` in a topic name.
    #[error("it contains a wildcard, + or #, which only filters may have [MQTT-3.3.2-2]")]
    WildcardInTopic,
    /// `#` that is not the whole last level.
    #[error("# must be the whole last level [MQTT-4.7.1-2]")]
    MisplacedMultiLevel,
    /// `+` beside other characters in a level.
    #[error("+ must be a whole level [MQTT-4.7.1-3]")]
    MisplacedSingleLevel,
    /// `$share` without a name or without a filter.
    #[error("a shared subscription reads $share/<name>/<filter>, the name without wildcards")]
    MalformedShare,
    /// A shared subscription that is to leave out messages of its own client: MQTT 5 forbids it.
    #[error("a shared subscription cannot have no_local [MQTT-3.8.3-4]")]
    NoLocalOnShare,
    /// A subscription identifier above 268,435,455.
    #[error("a subscription identifier is at most 268,435,455 [MQTT 5, 3.8.2.1.2]")]
    IdentifierTooLarge,
    /// A packet longer than its length field can state.
    #[error("the packet would be larger than MQTT's 268,435,455 bytes [MQTT 3.1.1, 2.2.3]")]
    PacketTooLarge,
    /// A will's payload longer than its two bytes of length in CONNECT can state.
    #[error("the payload of a will has at most 65,535 bytes [MQTT 3.1.1, 3.1.3.3]")]
    WillTooLarge,
    /// A payload that is not UTF-8, with properties that call it text.
    #[error("the payload is not UTF-8, and `payload_is_text` says that it is [MQTT 5, 3.3.2.3.2]")]
    PayloadNotText,
}

/// The reason against a character.
fn rule_of(character: char) -> &'static str {
    match character {
        '\0' => " [MQTT-1.5.3-2]",
        _ => ", which no text should have [MQTT 3.1.1, 1.5.3]",
    }
}

/// Whether a string should not have this character: control characters and non-characters.
fn is_excluded(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Checks any string that goes into a packet.
///
/// # Errors
/// [`InvalidName::TooLong`] or [`InvalidName::Character`].
pub fn check_string(text: &str) -> Result<(), InvalidName> {
    check_length(text)?;
    first_of(text, is_excluded)
}

fn check_length(text: &str) -> Result<(), InvalidName> {
    match text.len() > LONGEST {
        true => Err(InvalidName::TooLong),
        false => Ok(()),
    }
}

/// Refuses a text that has such a character.
fn first_of(text: &str, is_excluded: impl Fn(char) -> bool) -> Result<(), InvalidName> {
    let mut characters = text.chars().zip(1..);
    match characters.find(|(character, _)| is_excluded(*character)) {
        None => Ok(()),
        Some((character, position)) => Err(InvalidName::Character {
            character,
            position,
        }),
    }
}

/// Whether a byte is printable ASCII and no wildcard.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = !matches!(byte, b'+' | b'#');
        byte += 1;
    }
    plain
};

/// Whether a topic name has nothing but plain characters. Nearly all have, and need no other check.
pub(crate) fn is_plain_topic(topic: &[u8]) -> bool {
    let plain = |all, byte: &u8| all & PLAIN[usize::from(*byte)];
    matches!(topic.len(), 1..=LONGEST) && topic.iter().fold(true, plain)
}

/// Checks a topic name to publish to.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_topic(topic: &str) -> Result<(), InvalidName> {
    if is_plain_topic(topic.as_bytes()) {
        return Ok(());
    }
    check_string(topic)?;
    check_received_topic(topic)
}

/// Checks a topic name that has arrived, for what the standard demands and no more: another client may have sent
/// control characters, and the broker let them through.
///
/// # Errors
/// The rule that the name breaks.
pub(crate) fn check_received_topic(topic: &str) -> Result<(), InvalidName> {
    if topic.is_empty() {
        return Err(InvalidName::Empty);
    }
    check_length(topic)?;
    if topic.contains('\0') {
        return first_of(topic, |character| character == '\0');
    }
    if topic.contains(['+', '#']) {
        return Err(InvalidName::WildcardInTopic);
    }
    Ok(())
}

/// Checks a topic filter, shared ones included.
///
/// # Errors
/// The rule that the filter breaks.
pub fn check_filter(filter: &str) -> Result<(), InvalidName> {
    if filter.is_empty() {
        return Err(InvalidName::Empty);
    }
    check_string(filter)?;
    if let Some(rest) = filter.strip_prefix("$share/") {
        let (name, shared) = rest.split_once('/').ok_or(InvalidName::MalformedShare)?;
        if name.is_empty() || name.contains(['+', '#']) || shared.is_empty() {
            return Err(InvalidName::MalformedShare);
        }
    }
    let levels = filter_without_share(filter);
    let last = levels.split('/').count() - 1;
    for (index, level) in levels.split('/').enumerate() {
        if level.contains('#') && (level != "#" || index != last) {
            return Err(InvalidName::MisplacedMultiLevel);
        }
        if level.contains('+') && level != "+" {
            return Err(InvalidName::MisplacedSingleLevel);
        }
    }
    Ok(())
}

/// Prefixes that a broker may read as a request, such as for a queue of its own, and take off a filter. On another
/// broker they are levels like any other.
const PREFIXES: [&str; 3] = ["$queue/", "$exclusive/", "$q/"];

/// The filters that topics are matched with. `$share/<name>/<filter>` matches as `<filter>` alone. A filter that
/// begins with `$queue/`, `$exclusive/` or `$q/` matches literally, and also as the filter behind that prefix:
/// it depends on the broker which topics its messages have. Every other filter matches literally.
pub fn matched_filters(filter: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(filter_without_share(filter)), |filter| {
        behind_prefix(filter)
    })
}

/// The filter behind one of the [`PREFIXES`].
fn behind_prefix(filter: &str) -> Option<&str> {
    let mut prefixes = PREFIXES.iter();
    let behind = prefixes.find_map(|prefix| filter.strip_prefix(prefix))?;
    (!behind.is_empty()).then_some(behind)
}

/// Whether the filter has a wildcard.
pub(crate) fn has_wildcards(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether it is a shared subscription.
pub(crate) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// `<filter>` of `$share/<name>/<filter>`; any other filter as it is.
pub fn filter_without_share(filter: &str) -> &str {
    filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(filter, |(_, shared)| shared)
}

/// A name in quotes for a log line or an error. At most `most` of its characters are shown, so that a
/// long name does not fill the line.
pub fn shortened(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        Some((end, _)) => format!("{:?} and so on", &name[..end]),
        None => format!("{name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: usize, character: char) -> InvalidName {
        InvalidName::Character {
            character,
            position,
        }
    }

    #[test]
    fn no_string_that_is_sent_has_control_characters_or_non_characters() {
        let excluded = |code: u32| {
            let plane_end = [0xFFFE, 0xFFFF].contains(&(code & 0xFFFF));
            matches!(code, 0..=0x1F | 0x7F..=0x9F | 0xFDD0..=0xFDEF) || plane_end
        };
        let mut count = 0;
        for character in '\0'..=char::MAX {
            let expected = match excluded(u32::from(character)) {
                true => Err(at(3, character)),
                false => Ok(()),
            };
            count += u32::from(expected.is_err());
            let text = format!("a\u{e4}{character}\n");
            let found = check_string(text.trim_end_matches('\n'));
            if character != '\n' {
                assert_eq!(found, expected, "{character:?}");
            }
        }
        // C0, DEL and C1, the block of non-characters, the last two of 17 planes.
        assert_eq!(count, 32 + 33 + 32 + 34);
        assert_eq!(check_string("a\n"), Err(at(2, '\n')));
        assert_eq!(
            at(2, '\n').to_string(),
            "its character 2 is U+000A, which no text should have [MQTT 3.1.1, 1.5.3]"
        );
        assert_eq!(
            at(1, '\0').to_string(),
            "its character 1 is U+0000 [MQTT-1.5.3-2]"
        );
        assert_eq!(check_filter("\t/#"), Err(at(1, '\t')));
    }

    #[test]
    fn a_topic_that_has_arrived_may_have_all_characters_but_one() {
        for topic in ["a\n", "\u{7f}", "\u{85}/\u{fdd0}", "\u{10ffff}"] {
            assert!(check_topic(topic).is_err(), "{topic:?}");
            assert_eq!(check_received_topic(topic), Ok(()), "{topic:?}");
        }
        assert_eq!(check_received_topic("\n\0"), Err(at(2, '\0')));
        assert_eq!(check_received_topic(""), Err(InvalidName::Empty));
        let wildcard = check_received_topic("\n+");
        assert_eq!(wildcard, Err(InvalidName::WildcardInTopic));
    }

    #[test]
    fn only_topics_of_the_standard_are_allowed() {
        for topic in ["a", "/", "a/b", "/a", "a/", "a//b", "$SYS/x", "ä/ö", " "] {
            assert_eq!(check_topic(topic), Ok(()), "{topic}");
        }
        assert_eq!(check_topic(""), Err(InvalidName::Empty));
        assert_eq!(check_topic("a\0"), Err(at(2, '\0')));
        assert_eq!(check_topic("a/+"), Err(InvalidName::WildcardInTopic));
        assert_eq!(check_topic("a/#"), Err(InvalidName::WildcardInTopic));
        assert_eq!(check_topic(&"x".repeat(65_535)), Ok(()));
        assert_eq!(check_topic(&"x".repeat(65_536)), Err(InvalidName::TooLong));
    }

    #[test]
    fn only_filters_of_the_standard_are_allowed() {
        for filter in [
            "#",
            "+",
            "a/#",
            "+/a/#",
            "/+",
            "+/+",
            "a//#",
            "$share/g/a/+",
            "$share/g/#",
        ] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for filter in ["a#", "a/#/b", "#/", "$share/g/#/a"] {
            assert_eq!(
                check_filter(filter),
                Err(InvalidName::MisplacedMultiLevel),
                "{filter}"
            );
        }
        for filter in ["a+", "+a/b", "a/++"] {
            assert_eq!(
                check_filter(filter),
                Err(InvalidName::MisplacedSingleLevel),
                "{filter}"
            );
        }
        for filter in ["$share/g", "$share//a", "$share/+/a", "$share/g/"] {
            assert_eq!(
                check_filter(filter),
                Err(InvalidName::MalformedShare),
                "{filter}"
            );
        }
        assert_eq!(check_filter(""), Err(InvalidName::Empty));
        assert_eq!(check_filter("a/\0"), Err(at(3, '\0')));
    }

    #[test]
    fn a_shared_filter_matches_as_its_filter() {
        assert_eq!(filter_without_share("$share/g/a/b"), "a/b");
        assert_eq!(filter_without_share("$shared/g/a"), "$shared/g/a");
        assert_eq!(filter_without_share("a/b"), "a/b");
    }

    #[test]
    fn a_prefix_that_a_broker_may_take_off_matches_with_and_without_it() {
        fn matched(filter: &str) -> Vec<String> {
            matched_filters(filter).map(str::to_owned).collect()
        }
        assert_eq!(matched("a/+"), ["a/+"]);
        assert_eq!(matched("$share/g/a/#"), ["a/#"]);
        for prefix in ["$queue", "$exclusive", "$q"] {
            let with = |rest: &str| format!("{prefix}/{rest}");
            for rest in ["x/#", "$SYS/x", "/"] {
                let both = [with(rest), rest.to_owned()];
                assert_eq!(matched(&with(rest)), both);
                assert_eq!(matched(&format!("$share/g/{}", with(rest))), both);
            }
            // Nothing stands behind the prefix, or it is another word.
            for literal in [with(""), prefix.to_owned(), format!("a/{prefix}/x")] {
                assert!(matched(&literal).iter().eq([&literal]), "{literal}");
            }
        }
        for literal in ["$queues/x", "$delayed/5/x", "$SYS/x", "$QUEUE/x", "queue/x"] {
            assert_eq!(matched(literal), [literal]);
        }
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        assert_eq!(shortened("a/b", 3), "\"a/b\"");
        assert_eq!(shortened("ä/\0b", 3), "\"ä/\\0\" and so on");
        assert_eq!(shortened("", 3), "\"\"");
    }
}
