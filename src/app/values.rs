//! The two kinds of values that have a notation of their own: durations and sizes.
//!
//! One notation for flags, environment and file. Pure; the main thread uses it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What people may write for a duration.
pub(super) const DURATION_FORM: &str = "a duration such as 100ms, 5s or 2m, or 0";
/// What people may write for a size.
pub(super) const SIZE_FORM: &str = "a number of bytes such as 262144, 256KiB or 1MiB";

/// A year and a day: longer ones are slips, and adding them to a clock may overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A duration as people write it: `100ms`, `5s`, `2m`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan(pub Duration);

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "0" {
            return Ok(TimeSpan(Duration::ZERO));
        }
        match humantime::parse_duration(text) {
            Ok(duration) if duration <= LONGEST => Ok(TimeSpan(duration)),
            Ok(_) => Err("more than a year".into()),
            Err(_) => Err(format!("not {DURATION_FORM}")),
        }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_nanos()) {
            (0, 0) => f.write_str("0"),
            (seconds, 0) => write!(f, "{seconds}s"),
            (_, nanos) if nanos.is_multiple_of(1_000_000) => write!(f, "{}ms", self.0.as_millis()),
            _ => write!(f, "{}", humantime::format_duration(self.0)),
        }
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_number(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A number of bytes as people write it: `262144`, `256KiB`, `1MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub usize);

const UNITS: [(&str, usize); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not {SIZE_FORM}");
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let factor = if unit.is_empty() {
            1
        } else {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, factor)| *factor)
                .ok_or_else(wrong)?
        };
        if number.is_empty() {
            return Err(wrong());
        }
        number
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .map(ByteSize)
            .ok_or_else(|| "more than this computer can address".into())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in &UNITS[..3] {
            if self.0 >= *factor && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{name}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_number(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A string, or an integer as its digits; the notation itself refuses what it cannot read.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!(
            "not a text but a {}",
            other.type_str()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Result<Duration, String> {
        text.parse::<TimeSpan>().map(|span| span.0)
    }

    fn size(text: &str) -> Result<usize, String> {
        text.parse::<ByteSize>().map(|size| size.0)
    }

    #[test]
    fn durations_have_a_unit_or_are_zero() {
        assert_eq!(span("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(span("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(span("1s 500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("0"), Ok(Duration::ZERO));
        for text in ["", "5", "-1s", "1.5.s", "s", "5 parsecs", "00"] {
            assert!(span(text).is_err(), "{text:?}");
        }
        assert!(span("366days").is_ok());
        assert!(span("367days").is_err());
        assert!(span("18446744073709551615s").is_err());
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("262144"), Ok(262_144));
        assert_eq!(size("256KiB"), Ok(262_144));
        assert_eq!(size("1 mib"), Ok(1 << 20));
        assert_eq!(size("7B"), Ok(7));
        for text in [
            "",
            "KiB",
            "1MB",
            "1k",
            "-1",
            "1.5KiB",
            "99999999999999999999",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
        assert!(size(&format!("{}GiB", usize::MAX)).is_err());
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        for text in ["0", "1ms", "100ms", "1500ms", "60s", "3600s", "1us"] {
            assert_eq!(text.parse::<TimeSpan>().unwrap().to_string(), text);
        }
        for text in ["0", "100", "1KiB", "256KiB", "1MiB", "1025", "2GiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
    }
}
