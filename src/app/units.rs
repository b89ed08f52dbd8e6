//! Durations, sizes and rates, the kinds of values that have a notation of their own.
//!
//! One notation for flags, environment and file. Pure; the main thread uses it.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use mqtt_connection_sharing::options::ranges;

use super::refusal::{Refusal, TOO_LARGE, TOO_LONG};
use super::values::{Rule, Toml};

/// The form of a duration.
const DURATION: &str = "a duration such as 100ms, 5s or 2m, or 0";
const DURATION_BUT_0: &str = "a duration such as 100ms, 5s or 2m";

/// A duration: `100ms`, `5s`, `2m`, `0`.
pub(crate) struct Span;

/// A duration that is not zero.
pub(crate) struct Wait;

/// A keep alive: whole seconds.
pub(crate) struct KeepAlive;

impl Rule for Span {
    type Value = Duration;
    const TOML: Toml = Toml::TextOrNumber;
    const FORM: &'static str = DURATION;

    fn read(text: &str) -> Result<Duration, Refusal> {
        let text = text.trim();
        if text == "0" {
            return Ok(Duration::ZERO);
        }
        match humantime::parse_duration(text) {
            Ok(duration) if ranges::DURATION.contains(&duration) => Ok(duration),
            Ok(_) => Err(Refusal::almost(TOO_LONG, DURATION)),
            Err(_) => Err(Refusal::form(DURATION)),
        }
    }
}

impl Rule for Wait {
    type Value = Duration;
    const TOML: Toml = Span::TOML;
    const FORM: &'static str = DURATION;

    fn read(text: &str) -> Result<Duration, Refusal> {
        match Span::read(text)? {
            duration if ranges::TIME_LIMIT.contains(&duration) => Ok(duration),
            _ => Err(Refusal::value(
                "with 0 nothing could ever succeed",
                DURATION_BUT_0,
            )),
        }
    }
}

impl Rule for KeepAlive {
    type Value = Duration;
    const TOML: Toml = Span::TOML;
    const FORM: &'static str = DURATION;

    fn read(text: &str) -> Result<Duration, Refusal> {
        let duration = Span::read(text)?;
        if duration.subsec_nanos() != 0 || !ranges::KEEP_ALIVE.contains(&duration) {
            let (shown, most) = (duration_text(duration), ranges::KEEP_ALIVE.end().as_secs());
            let problem = format!("{shown} is not a whole number of seconds up to {most}");
            return Err(Refusal::value(problem, "for example 60s, or 0"));
        }
        Ok(duration)
    }
}

/// A time in whole seconds, perhaps none.
pub(crate) struct WholeSeconds;

/// A time in whole seconds, at least one.
pub(crate) struct Lifetime;

impl Rule for WholeSeconds {
    type Value = Duration;
    const TOML: Toml = Span::TOML;
    const FORM: &'static str = DURATION;

    fn read(text: &str) -> Result<Duration, Refusal> {
        whole_seconds(text, "for example 60s, or 0")
    }
}

impl Rule for Lifetime {
    type Value = Duration;
    const TOML: Toml = Span::TOML;
    const FORM: &'static str = DURATION;

    fn read(text: &str) -> Result<Duration, Refusal> {
        let allowed = "for example 60s";
        match whole_seconds(text, allowed)? {
            Duration::ZERO => {
                let problem = "with 0 no subscriber could ever get it";
                Err(Refusal::value(problem, allowed))
            }
            duration => Ok(duration),
        }
    }
}

fn whole_seconds(text: &str, allowed: &str) -> Result<Duration, Refusal> {
    let duration = Span::read(text)?;
    if duration.subsec_nanos() != 0 {
        let shown = duration_text(duration);
        let problem = format!("{shown} is not a whole number of seconds");
        return Err(Refusal::value(problem, allowed));
    }
    Ok(duration)
}

/// A duration as it may be written.
pub(super) fn duration_text(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_nanos()) {
        (seconds, 0) => format!("{seconds}s"),
        (_, nanos) if nanos.is_multiple_of(1_000_000) => format!("{}ms", duration.as_millis()),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// The form of a size.
const SIZE: &str = "a number of bytes such as 262144, 256KiB or 1MiB";

/// A number of bytes: `262144`, `256KiB`, `1MiB`.
pub(crate) struct Size;

/// A size that a packet can have.
pub(crate) struct PacketSize;

const UNITS: [(&str, usize); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Rule for Size {
    type Value = usize;
    const TOML: Toml = Toml::TextOrNumber;
    const FORM: &'static str = SIZE;

    fn read(text: &str) -> Result<usize, Refusal> {
        let wrong = || Refusal::form(SIZE);
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let mut units = UNITS.iter();
        let factor = match unit {
            "" => 1,
            _ => units
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, factor)| *factor)
                .ok_or_else(wrong)?,
        };
        if number.is_empty() {
            return Err(wrong());
        }
        let number: Option<usize> = number.parse().ok();
        number
            .and_then(|number| number.checked_mul(factor))
            .ok_or_else(|| Refusal::almost(TOO_LARGE, SIZE))
    }
}

impl Rule for PacketSize {
    type Value = usize;
    const TOML: Toml = Size::TOML;
    const FORM: &'static str = SIZE;

    fn read(text: &str) -> Result<usize, Refusal> {
        let (least, most) = ranges::PACKET_SIZE.into_inner();
        let size = Size::read(text)?;
        let shown = size_text(size);
        if size < least {
            let problem = format!("{shown} leaves no room for a message");
            return Err(Refusal::value(problem, format!("at least {least}")));
        }
        if size > most {
            let problem = format!("{shown} is more than a packet can have [MQTT 3.1.1, 2.2.3]");
            return Err(Refusal::value(problem, "at most 256MiB"));
        }
        Ok(size)
    }
}

/// The word for no limit.
const OFF: &str = "off";
const MESSAGE_RATE: &str = "messages a second such as 100/s, or off";
const BYTE_RATE: &str = "bytes a second such as 512KiB/s, or off";

/// Messages in one second: `100/s`, or `off`.
pub(crate) struct MessageRate;

/// Bytes in one second: `512KiB/s`, or `off`.
pub(crate) struct ByteRate;

impl Rule for MessageRate {
    type Value = Option<NonZeroU32>;
    const TOML: Toml = Toml::Text;
    const FORM: &'static str = MESSAGE_RATE;

    fn read(text: &str) -> Result<Option<NonZeroU32>, Refusal> {
        let Some(number) = in_one_second(text, MESSAGE_RATE)? else {
            return Ok(None);
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::form(MESSAGE_RATE));
        }
        let number: u32 = number
            .parse()
            .map_err(|_| Refusal::almost(TOO_LARGE, MESSAGE_RATE))?;
        NonZeroU32::new(number)
            .map(Some)
            .ok_or_else(|| lets_nothing_out(MESSAGE_RATE))
    }
}

impl Rule for ByteRate {
    type Value = Option<NonZeroU64>;
    const TOML: Toml = Toml::Text;
    const FORM: &'static str = BYTE_RATE;

    fn read(text: &str) -> Result<Option<NonZeroU64>, Refusal> {
        let Some(size) = in_one_second(text, BYTE_RATE)? else {
            return Ok(None);
        };
        let size = Size::read(size).map_err(|mut refusal| {
            refusal.allowed = BYTE_RATE.to_owned();
            refusal
        })?;
        NonZeroU64::new(size as u64)
            .map(Some)
            .ok_or_else(|| lets_nothing_out(BYTE_RATE))
    }
}

/// The text before `/s`, or `None` for no limit.
fn in_one_second<'a>(text: &'a str, form: &'static str) -> Result<Option<&'a str>, Refusal> {
    let text = text.trim();
    match text.strip_suffix("/s") {
        Some(amount) => Ok(Some(amount.trim_end())),
        None if text == OFF => Ok(None),
        None => Err(Refusal::form(form)),
    }
}

fn lets_nothing_out(form: &'static str) -> Refusal {
    Refusal::value("0 lets nothing out", form)
}

/// A size as it may be written.
pub(super) fn size_text(size: usize) -> String {
    let fits = |(_, factor): &&(&str, usize)| size >= *factor && size.is_multiple_of(*factor);
    match UNITS[..3].iter().find(fits) {
        Some((name, factor)) => format!("{}{name}", size / factor),
        None => size.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_zero() {
        let span = Span::read;
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
        let size = Size::read;
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
    fn rates_are_amounts_in_one_second_or_off() {
        let messages = |text| MessageRate::read(text).map(|rate| rate.map(NonZeroU32::get));
        assert_eq!(messages("100/s"), Ok(Some(100)));
        assert_eq!(messages("1 /s"), Ok(Some(1)));
        assert_eq!(messages("off"), Ok(None));
        let bytes = |text| ByteRate::read(text).map(|rate| rate.map(NonZeroU64::get));
        assert_eq!(bytes("512KiB/s"), Ok(Some(524_288)));
        assert_eq!(bytes("1000/s"), Ok(Some(1_000)));
        assert_eq!(bytes("off"), Ok(None));
        for text in [
            "",
            "100",
            "/s",
            "0/s",
            "-1/s",
            "+1/s",
            "1KiB/s",
            "1/m",
            "OFF",
            "4294967296/s",
        ] {
            let error = messages(text).unwrap_err();
            assert_eq!(error.allowed, MESSAGE_RATE, "{text:?}: {error}");
        }
        for text in [
            "",
            "100",
            "/s",
            "0/s",
            "-1/s",
            "1MB/s",
            "1KiB/min",
            "no",
            "99999999999GiB/s",
        ] {
            let error = bytes(text).unwrap_err();
            assert_eq!(error.allowed, BYTE_RATE, "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        for text in ["0s", "1ms", "100ms", "1500ms", "60s", "3600s", "1us"] {
            assert_eq!(duration_text(Span::read(text).unwrap()), text);
        }
        for text in ["0", "100", "1KiB", "256KiB", "1MiB", "1025", "2GiB"] {
            assert_eq!(size_text(Size::read(text).unwrap()), text);
        }
    }
}
