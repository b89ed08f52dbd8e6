//! The values that settings may have: how each is read, and what is allowed.
//!
//! A [`Rule`] stands for one kind of value, and [`Given`] holds a value that its rule let pass, whichever
//! source it came from: it is read from a text (`TryFrom`) and from TOML (`Deserialize`); `refusal.rs` says what is
//! wrong with any other. Where the library has a rule, that one is asked.
//! Pure; the main thread uses it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TryMapValueParser, TypedValueParser, ValueParserFactory};
use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::mqtt::topic::{check_filter, check_string, check_topic, shortened};
use mqtt_connection_sharing::options::ranges;
use mqtt_connection_sharing::{InvalidName, Protocol, QoS, RetainHandling};
use serde::{Deserialize, Deserializer};

use super::endpoint::{self, Endpoint};
use super::refusal::Refusal;

/// A configuration error.
pub(crate) fn wrong(
    tried: impl Into<String>,
    problem: impl Into<String>,
    advice: impl Into<String>,
) -> Error {
    Error::new(Blame::Configuration, tried, problem, advice)
}

/// A kind of value.
pub(crate) trait Rule {
    /// The type that a text becomes.
    type Value: Clone;
    /// The kind of the value in TOML.
    const TOML: Toml;
    /// The form of such a text, for people who wrote something else.
    const FORM: &'static str;

    /// Reads the value.
    fn read(text: &str) -> Result<Self::Value, Refusal>;

    /// Reads the value of a text that may not be UTF-8.
    fn read_os(text: &OsStr) -> Result<Self::Value, Refusal> {
        let text = text.to_str().ok_or_else(Self::other_kind)?;
        Self::read(text)
    }

    /// For values of another kind in TOML, and for texts that are not UTF-8.
    fn other_kind() -> Refusal {
        Refusal::form(Self::FORM)
    }
}

/// Kinds of values in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toml {
    /// A string.
    Text,
    /// An integer.
    Number,
    /// A string or an integer.
    TextOrNumber,
    /// `true` or `false`.
    Switch,
}

/// A value that its rule let pass.
pub(crate) struct Given<R: Rule> {
    pub(crate) value: R::Value,
    /// The text as it was written.
    text: OsString,
    rule: PhantomData<fn() -> R>,
}

impl<R: Rule> Clone for Given<R> {
    fn clone(&self) -> Self {
        Given {
            value: self.value.clone(),
            text: self.text.clone(),
            rule: PhantomData,
        }
    }
}

impl<R: Rule> PartialEq for Given<R> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<R: Rule> fmt::Debug for Given<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<R: Rule> TryFrom<OsString> for Given<R> {
    type Error = Refusal;

    fn try_from(text: OsString) -> Result<Self, Refusal> {
        Ok(Given {
            value: R::read_os(&text)?,
            text,
            rule: PhantomData,
        })
    }
}

impl<'de, R: Rule> Deserialize<'de> for Given<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match (toml::Value::deserialize(deserializer)?, R::TOML) {
            (toml::Value::String(text), Toml::Text | Toml::TextOrNumber) => text,
            (toml::Value::Integer(number), Toml::Number | Toml::TextOrNumber) => number.to_string(),
            (toml::Value::Boolean(switch), Toml::Switch) => switch.to_string(),
            _ => return Err(R::other_kind().into_serde()),
        };
        Given::try_from(OsString::from(text)).map_err(Refusal::into_serde)
    }
}

/// Lets clap read flags that are not UTF-8.
impl<R: Rule + 'static> ValueParserFactory for Given<R>
where
    R::Value: Send + Sync,
{
    type Parser = TryMapValueParser<OsStringValueParser, fn(OsString) -> Result<Self, Refusal>>;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Given::try_from)
    }
}

/// `true` or `false`.
pub(crate) struct Switch;

impl Rule for Switch {
    type Value = bool;
    const TOML: Toml = Toml::Switch;
    const FORM: &'static str = "true or false";

    fn read(text: &str) -> Result<bool, Refusal> {
        text.parse().map_err(|_| Refusal::form(Self::FORM))
    }
}

/// Declares whole numbers in a range: name, type, range, form, and the problem with a number outside of the
/// range. Options of the library have its ranges.
macro_rules! whole_numbers {
    ($($(#[$doc:meta])* $name:ident: $int:ty, $range:expr, $form:expr, $problem:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Rule for $name {
            type Value = $int;
            const TOML: Toml = Toml::Number;
            const FORM: &'static str = $form;

            fn read(text: &str) -> Result<$int, Refusal> {
                let number: $int = text.parse().map_err(|_| Refusal::form($form))?;
                if $range.contains(&number) {
                    return Ok(number);
                }
                let problem: fn($int) -> String = $problem;
                let (least, most) = $range.into_inner();
                Err(Refusal::value(problem(number), format!("{least} to {most}")))
            }
        }
    )*};
}

/// The form of most numbers.
const WHOLE: &str = "a whole number that is not negative";
/// The form of numbers of 16 bits.
const WHOLE_16: &str = "a whole number from 1 to 65535";

/// Messages in one run: the account of what came back takes a bit or two for each.
const MESSAGES: RangeInclusive<u64> = 1..=1_000_000_000;

whole_numbers! {
    /// Any number; zero has a meaning of its own.
    Number: u64, (0..=u64::MAX), WHOLE, |n| format!("{n} is not possible");
    /// Attempts after a failed one.
    Attempts: u32, (0..=u32::MAX), WHOLE, |n| format!("{n} is not possible");
    /// A number of a TCP port.
    PortNumber: u16, ranges::PORT, WHOLE_16, |n| format!("{n} is not a port");
    /// Messages in one iteration of the demo.
    PublishCount: u64, MESSAGES, WHOLE, |n| match n {
        0 => "0 leaves nothing to do".to_owned(),
        _ => "what was received could not be kept in memory".to_owned(),
    };
    /// Messages of a bench.
    Messages: u64, MESSAGES, WHOLE, |n| format!("{n} is not possible");
    /// Threads of a bench: more are more than a system gives to one program.
    Threads: usize, (1..=10_000), WHOLE, |n| format!("{n} is not possible");
    /// Commands or messages that may await their acknowledgment.
    InFlight: u16, ranges::MAX_INFLIGHT, WHOLE_16, |n| format!("{n} lets nothing out");
    /// Topic aliases, perhaps none.
    Aliases: u16, (0..=u16::MAX), "a whole number from 0 to 65535", |n| format!("{n} is not possible");
    /// Entries of a queue.
    QueueSize: usize, ranges::QUEUE, WHOLE, |n| format!("{n} is not possible");
}

/// A TCP port.
pub(crate) struct Port;

impl Rule for Port {
    type Value = u16;
    const TOML: Toml = Toml::Number;
    const FORM: &'static str = WHOLE_16;

    fn read(text: &str) -> Result<u16, Refusal> {
        PortNumber::read(text).map_err(|refusal| match text.contains("://") {
            true => Refusal::almost(
                "Kubernetes sets such a text in NAME_PORT for a Service called NAME",
                "a whole number from 1 to 65535, or give --port, or set enableServiceLinks: false for the Pod",
            ),
            false => refusal,
        })
    }
}

/// A version of MQTT.
pub(crate) struct MqttVersion;

impl Rule for MqttVersion {
    type Value = Protocol;
    const TOML: Toml = Toml::TextOrNumber;
    const FORM: &'static str = "3.1.1 or 5";

    fn read(text: &str) -> Result<Protocol, Refusal> {
        text.parse().map_err(|_| Refusal::form(Self::FORM))
    }
}

/// A quality of service.
pub(crate) struct Quality;

impl Rule for Quality {
    type Value = QoS;
    const TOML: Toml = Toml::Number;
    const FORM: &'static str = "0, 1 or 2";

    fn read(text: &str) -> Result<QoS, Refusal> {
        let level: u8 = text.parse().map_err(|_| Refusal::form(Self::FORM))?;
        QoS::try_from(level).map_err(|level| {
            let problem = format!("{level} is not a quality of service");
            Refusal::value(problem, Self::FORM)
        })
    }
}

/// Declares texts: name, type, form, and how they are read.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $value:ty, $form:expr, $read:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Rule for $name {
            type Value = $value;
            const TOML: Toml = Toml::Text;
            const FORM: &'static str = $form;

            fn read(text: &str) -> Result<$value, Refusal> {
                let read: fn(&str) -> Result<$value, Refusal> = $read;
                read(text)
            }
        }
    )*};
}

pub(super) const TEXT: &str = "a text";

texts! {
    /// `HOST` or `HOST:PORT`, perhaps behind `mqtts://` or `mqtt://`.
    Address: Endpoint, "HOST or HOST:PORT, such as broker.example:8883", |text| endpoint::parse(text).map_err(|problem| {
        Refusal::value(problem, "for example broker.example:8883 or mqtts://broker.example")
    });
    /// A client identifier, which may be empty.
    ClientId: String, "a client identifier, as a text", |text| string(text, "another one");
    /// A user name.
    UserName: String, "a user name, as a text", |text| match text {
        "" => Err(Refusal::value("it is empty", "a name, or leave it out")),
        _ => string(text, "another one"),
    };
    /// The text of a message, which may be anything.
    MessageText: String, "a text; --file takes any bytes", |text| Ok(text.to_owned());
    /// A topic to publish to.
    TopicName: String, "a topic, as a text, such as status/me", |text| topic(text, "a topic such as status/me");
    /// A text that goes with a message.
    PropertyText: String, "a text", |text| string(text, "another one");
    /// A name and a value that go with a message.
    UserProperty: (String, String), "NAME=VALUE", |text| {
        let (name, value) = text.split_once('=').ok_or_else(|| Refusal::form("NAME=VALUE"))?;
        Ok((string(name, "another name")?, string(value, "another value")?))
    };
    /// The retained messages that come with a subscription.
    RetainWord: RetainHandling, "always, new or never", |text| match text {
        "always" => Ok(RetainHandling::Always),
        "new" => Ok(RetainHandling::IfNew),
        "never" => Ok(RetainHandling::Never),
        _ => Err(Refusal::form("always, new or never")),
    };
    /// A filter to subscribe to.
    TopicFilter: String, "a filter, as a text, such as rooms/+/light", |text| match check_filter(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(problem) => Err(topic_refused(text, problem, "a filter such as rooms/+/light or rooms/#")),
    };
    /// The first levels of topics.
    TopicPrefix: String, "one or more levels, as a text, such as filter or team/demo", |text| {
        const ALLOWED: &str = "one or more levels such as filter or team/demo";
        let refuse = |problem| Err(topic_refused(text, problem, ALLOWED));
        let prefix = topic(text, ALLOWED)?;
        if text.starts_with('$') {
            return refuse("topics that begin with $ belong to the broker [MQTT 4.7.2]");
        }
        if text.ends_with('/') {
            return refuse("the slash at its end would make an empty level");
        }
        Ok(prefix)
    };
    /// The name in the broker's certificate.
    ServerName: String, "the name in the broker's certificate, as a text", |text| match text {
        "" => Err(Refusal::value(
            "it is empty",
            "the name in the broker's certificate, or leave it out",
        )),
        _ => Ok(text.to_owned()),
    };
    /// An application protocol.
    AlpnName: String, "a list of names", |text| match text.len() {
        1..=255 => Ok(text.to_owned()),
        bytes => Err(Refusal::value(
            format!("a name has {bytes} bytes"),
            "names of 1 to 255 bytes [RFC 7301, 3.1]",
        )),
    };
}

/// The path of a file, which need not be UTF-8.
pub(crate) struct FilePath;

impl Rule for FilePath {
    type Value = PathBuf;
    const TOML: Toml = Toml::Text;
    const FORM: &'static str = "the path of a file, as a text";

    fn read(text: &str) -> Result<PathBuf, Refusal> {
        Self::read_os(text.as_ref())
    }

    fn read_os(text: &OsStr) -> Result<PathBuf, Refusal> {
        match text.as_encoded_bytes() {
            [] => Err(Refusal::form(Self::FORM)),
            [b'~', ..] => Err(Refusal::value(
                "it begins with ~, which a shell replaces and this program does not",
                "the whole path, or ./~ for a file of that name",
            )),
            _ => Ok(text.into()),
        }
    }
}

/// Declares paths of files that this program writes: name, endings, form.
macro_rules! written_path {
    ($name:ident, $endings:expr, $form:literal) => {
        #[doc = concat!("`", $form, "`.")]
        pub(crate) struct $name;

        impl Rule for $name {
            type Value = PathBuf;
            const TOML: Toml = Toml::Text;
            const FORM: &'static str = $form;

            fn read(text: &str) -> Result<PathBuf, Refusal> {
                Self::read_os(text.as_ref())
            }

            fn read_os(text: &OsStr) -> Result<PathBuf, Refusal> {
                let path = FilePath::read_os(text)?;
                let ending = path.extension().unwrap_or_default();
                match $endings
                    .iter()
                    .any(|known| ending.eq_ignore_ascii_case(known))
                {
                    true => Ok(path),
                    false => Err(Refusal::form(Self::FORM)),
                }
            }
        }
    };
}

written_path!(
    TimelinePath,
    ["svg", "html"],
    "the path of a file that ends in .svg or .html"
);
written_path!(TracePath, ["json"], "the path of a file that ends in .json");

/// How the threads of the bench publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BenchMode {
    /// Without waiting, as long as the window has room.
    Async,
    /// One message after the other, each once the one before is acknowledged.
    Sync,
}

impl FromStr for BenchMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "async" => Ok(BenchMode::Async),
            "sync" => Ok(BenchMode::Sync),
            _ => Err("async or sync"),
        }
    }
}

impl BenchMode {
    /// As settings and results name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BenchMode::Async => "async",
            BenchMode::Sync => "sync",
        }
    }
}

/// Form of the result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
    /// A JSON object on a line for each event.
    Jsonl,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            "jsonl" => Ok(Format::Jsonl),
            _ => Err("text, json or jsonl"),
        }
    }
}

/// The live view on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewMode {
    /// On a terminal; lines in the log elsewhere.
    Auto,
    /// Lines in the log.
    Off,
}

impl FromStr for ViewMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(ViewMode::Auto),
            "off" => Ok(ViewMode::Off),
            _ => Err("auto or off"),
        }
    }
}

/// A type of ours or of the library that reads its own words; its error lists them.
pub(crate) struct Word<T>(PhantomData<T>);

impl<T> Rule for Word<T>
where
    T: FromStr + Clone,
    T::Err: fmt::Display,
{
    type Value = T;
    const TOML: Toml = Toml::Text;
    const FORM: &'static str = TEXT;

    fn read(text: &str) -> Result<T, Refusal> {
        text.parse()
            .map_err(|words: T::Err| Refusal::form(&words.to_string()))
    }

    fn other_kind() -> Refusal {
        Self::read("").err().unwrap_or_else(|| Refusal::form(TEXT))
    }
}

fn string(text: &str, allowed: &str) -> Result<String, Refusal> {
    match check_string(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(problem) => Err(Refusal::value(problem.to_string(), allowed)),
    }
}

fn topic(text: &str, allowed: &str) -> Result<String, Refusal> {
    let refused = |problem: InvalidName| topic_refused(text, problem, allowed);
    check_topic(text).map_err(refused)?;
    Ok(text.to_owned())
}

fn topic_refused(text: &str, problem: impl fmt::Display, allowed: &str) -> Refusal {
    // Characters of it that an error shows.
    let shown = shortened(text, 100);
    Refusal::value(format!("{shown}: {problem}"), allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::units::Size;

    #[test]
    fn ranges_in_words_are_those_of_the_library() {
        for range in [ranges::PORT, ranges::MAX_INFLIGHT] {
            let (least, most) = range.into_inner();
            assert_eq!(WHOLE_16, format!("a whole number from {least} to {most}"));
        }
        let port = Port::read("tcp://10.0.0.1:1883").unwrap_err();
        assert!(port.allowed.starts_with(WHOLE_16), "{port}");
        let most = Size::read("256MiB").unwrap();
        assert!(ranges::PACKET_SIZE.contains(&most));
        assert!(!ranges::PACKET_SIZE.contains(&(most + 10)));
    }

    #[test]
    fn words_are_listed_whatever_stands_in_their_place() {
        type Mode = Given<Word<BenchMode>>;
        for text in ["mode = \"fast\"", "mode = 5", "mode = [1]"] {
            let table: toml::Table = text.parse().unwrap();
            let error = table["mode"].clone().try_into::<Mode>().unwrap_err();
            let refusal = Refusal::from_serde(error.message()).unwrap();
            assert_eq!(refusal.allowed, "async or sync", "{text}");
        }
    }
}
