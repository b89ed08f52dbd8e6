//! How results are laid out for people: a column of names, texts within 80 columns, times in a unit that suits them, and
//! zeros in words.
//!
//! Pure; the main thread uses it.

use std::fmt;
use std::time::Duration;

use mqtt_connection_sharing::Ended;
use mqtt_connection_sharing::options::Security;

use super::traffic::ReceivedCounts;

/// Columns of a terminal that nobody has made wider.
const WIDTH: usize = 80;

/// A space at which no line ends: between a number and its unit.
pub(crate) const JOINT: char = '\u{a0}';

/// The text behind a name, folded at spaces. The text begins at this column. Only a word that is longer than a line makes
/// a longer line. The lines have no break at their end.
pub(crate) fn entry(name: &str, column: usize, text: &str) -> String {
    let mut lines = format!("{name:column$}");
    let mut at = column;
    for (number, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if number > 0 {
            if at + 1 + width > WIDTH {
                lines.push('\n');
                lines.push_str(&" ".repeat(column));
                at = column;
            } else {
                lines.push(' ');
                at += 1;
            }
        }
        lines.push_str(&word.replace(JOINT, " "));
        at += width;
    }
    lines
}

/// Microseconds, in a unit that suits them. For [`entry`].
pub(crate) struct Micros(pub(crate) f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No time reads as 1000 of its unit.
        match self.0 {
            us if us >= 999_995.0 => write!(f, "{:.2}{JOINT}s", us / 1e6),
            us if us >= 999.95 => write!(f, "{:.2}{JOINT}ms", us / 1e3),
            us => write!(f, "{us:.1}{JOINT}µs"),
        }
    }
}

/// A time for people, in whole seconds.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ ..60 => write!(f, "{seconds} s"),
            seconds @ ..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

/// So many of a thing: `1 connection`, `2 connections`.
pub(crate) struct Many(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

/// The messages that came back, in words.
pub(crate) struct CameBack {
    /// Messages that should have come.
    pub(crate) expected: u64,
    /// Those that came, and others.
    pub(crate) received: ReceivedCounts,
    /// Those that were acknowledged and did not, without those that were dropped.
    pub(crate) lost: u64,
    /// Those that did not and were not acknowledged; perhaps they were not even published.
    pub(crate) unacknowledged: u64,
    /// Those that found the inbox full.
    pub(crate) dropped: u64,
}

impl fmt::Display for CameBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReceivedCounts {
            distinct,
            duplicated,
            reordered,
            unexpected,
        } = self.received;
        write!(f, "{distinct} of {} received", self.expected)?;
        let counts = [
            (self.lost, "lost", ""),
            (duplicated, "repeated", ""),
            (reordered, "out of order", ""),
            (self.unacknowledged, "not acknowledged", ""),
            (self.dropped, "dropped", " (the inbox was full)"),
            (
                unexpected,
                "unexpected",
                " (another program uses these topics: change --topic-prefix)",
            ),
        ];
        let zeros: Vec<&str> = counts[..3]
            .iter()
            .filter(|(count, ..)| *count == 0)
            .map(|(_, what, _)| *what)
            .collect();
        let mut told: Vec<String> = counts
            .iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, what, why)| format!("{count} {what}{why}"))
            .collect();
        match &zeros[..] {
            [] => {}
            [one] => told.push(format!("nothing {one}")),
            [first @ .., last] => told.push(format!("nothing {} or {last}", first.join(", "))),
        }
        write!(f, "; {}", told.join(", "))
    }
}

/// Figures of all that the threads shared: the command queue and the connection. Drawn from the library's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Shared {
    /// The most commands that awaited their acknowledgment at one time.
    pub(crate) in_flight_most: u64,
    /// The most commands that were in the queue, as far as the loop saw it.
    pub(crate) queued_most: u64,
    /// MQTT packets of all kinds to the broker.
    pub(crate) packets_sent: u64,
    /// MQTT packets of all kinds from the broker.
    pub(crate) packets_received: u64,
    /// Their bytes, before TLS.
    pub(crate) bytes_sent: u64,
    /// Their bytes, after TLS.
    pub(crate) bytes_received: u64,
    /// Writes to the connection; with TLS each is a record.
    pub(crate) writes: u64,
    /// Whether the connection was with TLS.
    #[serde(skip)]
    pub(crate) tls: bool,
}

impl Shared {
    /// The figures of a loop that has ended.
    pub(crate) fn of(ended: &Ended) -> Self {
        let stats = &ended.stats;
        Shared {
            in_flight_most: stats.in_flight_most,
            queued_most: stats.queued_most,
            packets_sent: stats.packets_sent,
            packets_received: stats.packets_received,
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
            writes: stats.writes,
            tls: matches!(ended.client.options().security, Security::Tls(_)),
        }
    }

    /// How much waited at most, in words.
    pub(crate) fn waited(&self) -> String {
        format!(
            "at most {} in flight, {} queued",
            self.in_flight_most, self.queued_most
        )
    }

    /// How much the connection carried, in words.
    pub(crate) fn carried(&self) -> String {
        format!(
            "{} out in {}, {} in",
            Many(self.packets_sent, "packet"),
            Many(self.writes, if self.tls { "TLS record" } else { "write" }),
            self.packets_received
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(received: ReceivedCounts, lost: u64, dropped: u64) -> String {
        let expected = received.distinct + lost + dropped;
        let came = CameBack {
            expected,
            received,
            lost,
            unacknowledged: 0,
            dropped,
        };
        came.to_string()
    }

    #[test]
    fn a_text_is_folded_at_spaces_and_stays_below_its_beginning() {
        let word = "x".repeat(19);
        let text = [word.as_str(); 5].join(" ");
        let lines = entry("  name", 10, &text);
        let expected = format!("  name    {word} {word} {word}\n          {word} {word}",);
        assert_eq!(lines, expected);
        assert_eq!(entry("a", 4, ""), "a   ");
        let joined = format!("b {}{JOINT}%", "9".repeat(70));
        assert_eq!(
            entry("a", 10, &joined),
            format!("a         b\n          {} %", "9".repeat(70))
        );
        let fits = "y".repeat(76);
        assert_eq!(entry("a", 4, &fits).chars().count(), 80);
        let long = "z".repeat(100);
        assert_eq!(
            entry("a", 4, &format!("b {long} c")),
            format!("a   b\n    {long}\n    c")
        );
    }

    #[test]
    fn a_time_is_rounded_before_its_unit_is_chosen() {
        for (micros, told) in [
            (0.0, "0.0 µs"),
            (999.94, "999.9 µs"),
            (999.96, "1.00 ms"),
            (999_994.0, "999.99 ms"),
            (999_996.0, "1.00 s"),
            (2_500_000.0, "2.50 s"),
        ] {
            assert_eq!(Micros(micros).to_string().replace(JOINT, " "), told);
        }
    }

    #[test]
    fn zeros_are_words_and_other_counts_are_numbers() {
        let all = ReceivedCounts {
            distinct: 8,
            ..ReceivedCounts::default()
        };
        assert_eq!(
            came(all, 0, 0),
            "8 of 8 received; nothing lost, repeated or out of order"
        );
        assert_eq!(
            came(
                ReceivedCounts {
                    duplicated: 2,
                    ..all
                },
                0,
                0
            ),
            "8 of 8 received; 2 repeated, nothing lost or out of order"
        );
        let some = ReceivedCounts {
            distinct: 5,
            duplicated: 1,
            reordered: 2,
            unexpected: 3,
        };
        assert_eq!(
            came(some, 1, 2),
            "5 of 8 received; 1 lost, 1 repeated, 2 out of order, 2 dropped (the inbox was full), \
             3 unexpected (another program uses these topics: change --topic-prefix)"
        );
        assert_eq!(
            came(
                ReceivedCounts {
                    reordered: 0,
                    ..some
                },
                1,
                0
            ),
            "5 of 6 received; 1 lost, 1 repeated, 3 unexpected (another program uses these topics: \
             change --topic-prefix), nothing out of order"
        );
    }
}
