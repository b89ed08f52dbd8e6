//! Where settings come from: command line, environment, settings file, defaults.
//!
//! Each source is a [`Layer`] of values as they were written. `chosen.rs` lays the layers over each other, and only
//! what is left is judged, by [`Raw::judge`]: a value that another one replaces may be anything.
//! Pure: texts come in. The main thread uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::OsStringValueParser;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use mqtt_connection_sharing::error::Error;
use toml::{Table, Value};

use super::foreign::{flag_alone, meant_by};
use super::refusal::Refusal;
use super::settings::{BENCH_WORD, Settings, Task, flags, former_name, keys, now_called, variable};
use super::surroundings::Surroundings;
use super::values::{self, FilePath, Rule, wrong};

/// Every setting that has a default, with its reason.
const DEFAULTS: &str = include_str!("../../config/demo.toml");

/// The defaults of a task.
pub(super) fn defaults(task: Task) -> Table {
    // A test holds the text to be TOML.
    let mut defaults: Table = DEFAULTS.parse().unwrap_or_default();
    let bench = defaults.remove(BENCH_WORD);
    if let (Task::Bench, Some(Value::Table(own))) = (task, bench) {
        defaults.extend(own);
    }
    defaults
}

/// Where a value was given, the strongest first. Defaults are given nowhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    CommandLine,
    Environment,
    /// The table `[bench]` of a file, which counts for that command only.
    BenchOfFile(PathBuf),
    File(PathBuf),
}

impl Source {
    /// The setting as a person finds it again in this source.
    pub(super) fn name(&self, key: &str) -> String {
        match self {
            Source::CommandLine => format!("--{key}"),
            Source::Environment => variable(key),
            Source::BenchOfFile(path) => format!("{BENCH_WORD}.{key} in {}", path.display()),
            Source::File(path) => format!("{key} in {}", path.display()),
        }
    }

    /// Where relative paths in this source start: nowhere but in a file.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Source::BenchOfFile(path) | Source::File(path) => {
                path.parent().unwrap_or(Path::new(""))
            }
            Source::CommandLine | Source::Environment => Path::new(""),
        }
    }
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    /// Of a flag or a variable; several where a flag was given several times and keeps them all.
    Texts(Vec<OsString>),
    /// Of a file.
    Toml(Value),
}

impl Raw {
    /// The settings with this value of `key` and no other.
    pub(super) fn judge(&self, key: &str) -> Result<Settings, Refusal> {
        match self {
            // Line breaks and quotation marks may be what a message is to be made of.
            Raw::Texts(_) if key == "message" => {
                Raw::parse(&self.arguments(key)).map_err(|error| refusal(&error, key))
            }
            Raw::Texts(texts) => {
                let broken = texts.iter().find_map(|text| line_break(text.to_str()?));
                if let Some(LineBreak {
                    place,
                    character,
                    cause,
                }) = broken
                {
                    return Err(Refusal::value(
                        format!("its character {place} is {character}{cause}"),
                        "the value without it",
                    ));
                }
                if texts.iter().any(|text| is_quoted(text)) {
                    return Err(Refusal::value(
                        "the quotation marks around it count as part of it",
                        "the text without them; a --config file can hold a text that has them",
                    ));
                }
                let one = Raw::parse(&self.arguments(key));
                one.map_err(|error| refusal(&error, key))
            }
            Raw::Toml(value) => judge(key, value),
        }
    }

    /// A command line that says the same; nothing for a value of a file.
    pub(super) fn arguments(&self, key: &str) -> Vec<OsString> {
        let texts = match self {
            Raw::Texts(texts) => &texts[..],
            Raw::Toml(_) => &[],
        };
        let argument = |text: &OsString| {
            let mut argument = OsString::from(format!("--{key}="));
            argument.push(text);
            argument
        };
        texts.iter().map(argument).collect()
    }

    fn parse(arguments: &[OsString]) -> Result<Settings, clap::Error> {
        let matches = flags().try_get_matches_from(arguments)?;
        Settings::from_arg_matches(&matches)
    }

    /// The value as an error shows it. A slip may have put a password into an endpoint, as in URLs, or where the
    /// name of its file should be: such a value is not repeated.
    fn shown(&self, key: &str) -> String {
        if key == "endpoint" || key.ends_with("password-file") {
            return "the value".to_owned();
        }
        match self {
            Raw::Texts(texts) => match &texts[..] {
                [one] => format!("{one:?}"),
                several => format!("{several:?}"),
            },
            Raw::Toml(Value::Table(_)) => "a table".to_owned(),
            Raw::Toml(value) => value.to_string(),
        }
    }

    /// The error for this value, which was refused to a task.
    pub(super) fn refused(
        &self,
        key: &str,
        source: &Source,
        refusal: Refusal,
        task: Task,
    ) -> Error {
        let on_command_line = *source == Source::CommandLine && refusal.problem.is_none();
        // The help has no more to say of a value that was read and cannot be.
        let see = match on_command_line {
            true => format!("; {}", task.see_help()),
            false => String::new(),
        };
        let problem = match self {
            Raw::Texts(texts) if on_command_line && texts.iter().all(|text| text.is_empty()) => {
                "its value is missing".to_owned()
            }
            _ => refusal.problem(&self.shown(key)),
        };
        wrong(
            format!("reading {}", source.name(key)),
            problem,
            format!("use {}{see}", refusal.allowed),
        )
    }
}

/// A line break at the end of a text of one line.
pub(super) struct LineBreak {
    /// The place of its first character, from 1.
    pub(super) place: usize,
    /// That character.
    pub(super) character: &'static str,
    /// The way in which it may have come there, to follow the rest of a sentence.
    pub(super) cause: &'static str,
}

/// The line break at the end of a text, if it has one there and no other.
pub(super) fn line_break(text: &str) -> Option<LineBreak> {
    let line = text.trim_end_matches(['\r', '\n']);
    let (character, cause) = match text[line.len()..].chars().next()? {
        '\r' => (
            "U+000D, a carriage return",
            ", as lines of a file with Windows line ends leave one",
        ),
        _ => ("U+000A, a line feed", ""),
    };
    let place = line.chars().count() + 1;
    (!line.contains(['\r', '\n'])).then_some(LineBreak {
        place,
        character,
        cause,
    })
}

/// Whether a text stands in quotation marks. Shells take them away; env files and lists of arguments do not.
pub(super) fn is_quoted(text: &OsStr) -> bool {
    let bytes = text.as_encoded_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => bytes.len() > 1 && first == last && b"\"'".contains(first),
        _ => false,
    }
}

/// Judges the value of a setting in a file.
fn judge(key: &str, value: &Value) -> Result<Settings, Refusal> {
    if value.as_str() == Some("") && allowed(key) == FilePath::FORM {
        return Err(Refusal::value("it is empty", "the path of a file"));
    }
    let read = |value: Value| -> Result<Settings, toml::de::Error> {
        Table::from_iter([(key.to_owned(), value)]).try_into()
    };
    let refusal = |error: toml::de::Error| {
        Refusal::from_serde(error.message()).unwrap_or_else(|| Refusal::form(&allowed(key)))
    };
    let is_of_several = read(Value::Array(Vec::new())).is_ok();
    if value.is_array() || !is_of_several {
        return read(value.clone()).map_err(refusal);
    }
    let list = Value::Array(vec![value.clone()]);
    Err(match read(list.clone()).map_err(refusal) {
        Ok(_) => Refusal::almost("it is no list", &format!("a list: {list}")),
        Err(mut of_item) => {
            of_item.allowed = format!("a list in brackets, with {}", of_item.allowed);
            of_item
        }
    })
}

/// Why clap refused a value.
fn refusal(error: &clap::Error, key: &str) -> Refusal {
    of_type(error).unwrap_or_else(|| Refusal::form(&allowed(key)))
}

/// The refusal by the value's type, if that was asked.
fn of_type(error: &clap::Error) -> Option<Refusal> {
    error.source()?.downcast_ref().cloned()
}

/// The form of a setting in words, for a value that is missing or that its type could not judge: as the
/// type says it of a value of another kind.
pub(super) fn allowed(key: &str) -> String {
    match key {
        "alpn" => return values::AlpnName::FORM.to_owned(),
        "filter" => return values::TopicFilter::FORM.to_owned(),
        "timeline" => return values::TimelinePath::FORM.to_owned(),
        "user-property" => return values::UserProperty::FORM.to_owned(),
        // No setting, but read as one.
        "config" => return FilePath::FORM.to_owned(),
        _ => {}
    }
    let table = Table::from_iter([(key.to_owned(), Value::Table(Table::new()))]);
    let refused = table.try_into::<Settings>().err();
    let refusal = refused.and_then(|error: toml::de::Error| Refusal::from_serde(error.message()));
    refusal.map_or_else(|| values::TEXT.to_owned(), |refusal| refusal.allowed)
}

/// The values that one source gives, as they were written, under their keys.
#[derive(Clone, PartialEq)]
pub(crate) struct Layer {
    pub(super) source: Source,
    pub(super) values: BTreeMap<String, Raw>,
    /// The keys whose values were given under their former names.
    pub(super) formerly: BTreeSet<String>,
}

impl Layer {
    /// The variables in the environment that are settings.
    pub(super) fn of_environment(surroundings: &Surroundings) -> Self {
        Layer::of(Source::Environment, |key| {
            let text = surroundings.variable(&variable(key))?;
            Some(Raw::Texts(vec![text.clone()]))
        })
    }

    /// The values that a source has under the names of settings, or else under their former ones.
    fn of(source: Source, find: impl Fn(&str) -> Option<Raw>) -> Self {
        let mut layer = Layer {
            source,
            values: BTreeMap::new(),
            formerly: BTreeSet::new(),
        };
        for key in keys() {
            if let Some(raw) = find(&key) {
                layer.values.insert(key, raw);
            } else if let Some(raw) = former_name(&key).and_then(&find) {
                layer.formerly.insert(key.clone());
                layer.values.insert(key, raw);
            }
        }
        layer
    }

    /// Adds texts to those of a setting.
    pub(super) fn add(&mut self, key: &str, more: impl Iterator<Item = OsString>) {
        let given = self.values.entry(key.to_owned());
        if let Raw::Texts(texts) = given.or_insert_with(|| Raw::Texts(Vec::new())) {
            texts.extend(more);
        }
    }

    /// The settings in a file: its table `[bench]`, and all others.
    pub(super) fn of_file(text: &str, path: &Path) -> Result<[Self; 2], Error> {
        let file = path.display();
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
            // Only the message: the error's full text repeats the line, which may hold a secret.
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            wrong(
                format!("reading the settings file {file}"),
                format!("line {line}: {}", error.message()),
                "correct it; config/demo.toml shows every key",
            )
        })?;
        let bench = match table.remove(BENCH_WORD) {
            None => Table::new(),
            Some(Value::Table(bench)) => bench,
            Some(_) => {
                return Err(wrong(
                    format!("reading the settings file {file}"),
                    format!("{BENCH_WORD} is not a table"),
                    format!(
                        "write [{BENCH_WORD}] at the end, and below it settings for that command"
                    ),
                ));
            }
        };
        let demo_s = |key: &&String| {
            let key = now_called(key);
            Task::Demo.takes(key) && !Task::Bench.takes(key)
        };
        if let Some(key) = bench.keys().find(demo_s) {
            return Err(wrong(
                format!("reading the settings file {file}"),
                format!("{key} below [{BENCH_WORD}] is a setting of the demo"),
                format!("write it above [{BENCH_WORD}]"),
            ));
        }
        let known = keys();
        let of_bench = bench.keys().map(|key| (key, true));
        let of_both = table.keys().map(|key| (key, false));
        for (key, is_below_bench) in of_bench.chain(of_both) {
            if now_called(key) != key && table.contains_key(now_called(key)) {
                return Err(wrong(
                    format!("reading the settings file {file}"),
                    format!(
                        "{key} is the former name of {}, which is there, too",
                        now_called(key)
                    ),
                    "remove it",
                ));
            }
            if !known.iter().any(|known| known == now_called(key)) {
                return Err(wrong(
                    format!("reading the settings file {file}"),
                    format!("the key {key} is not known"),
                    advice_for_unknown(key, is_below_bench),
                ));
            }
        }
        let layer =
            |source, table: Table| Layer::of(source, |key| table.get(key).cloned().map(Raw::Toml));
        Ok([
            layer(Source::BenchOfFile(path.to_owned()), bench),
            layer(Source::File(path.to_owned()), table),
        ])
    }
}

/// Only the keys: a value may hold a secret.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.values.keys().collect();
        f.debug_struct("Layer")
            .field("source", &self.source)
            .field("keys", &keys)
            .finish()
    }
}

/// The flags of all settings, whatever their values.
impl Args for Layer {
    fn augment_args(command: Command) -> Command {
        let mut command = Settings::augment_args(command);
        for arg in flags().get_arguments() {
            let any = |arg: clap::Arg| arg.value_parser(OsStringValueParser::new());
            command = command.mut_arg(arg.get_id(), any);
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The settings on the command line. Where one was given twice, the last one stands.
impl FromArgMatches for Layer {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut layer = Layer::of(Source::CommandLine, |_| None);
        layer.update_from_arg_matches(matches)?;
        Ok(layer)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for arg in flags().get_arguments() {
            let texts = matches.get_raw(arg.get_id().as_str());
            if let (Some(key), Some(texts)) = (arg.get_long(), texts) {
                let texts = texts.map(OsStr::to_owned).collect();
                self.values.insert(key.to_owned(), Raw::Texts(texts));
            }
        }
        Ok(())
    }
}

fn advice_for_unknown(key: &str, is_below_bench: bool) -> String {
    let plain = key.to_lowercase().replace('_', "-");
    // As it is called in the environment.
    let plain = plain.strip_prefix("mqtt-").unwrap_or(&plain);
    if matches!(plain, "password" | "pkcs12-password") {
        return format!(
            "a password does not belong here: use {plain}-file, or {} in the environment",
            variable(plain)
        );
    }
    if let Some(flag) = flag_alone(plain) {
        return format!("remove it, and give {flag}");
    }
    let known = meant_by(plain);
    match known.filter(|key| !is_below_bench || Task::Bench.takes(key)) {
        Some(known) => format!("did you mean {known}?"),
        None => "remove it; config/demo.toml shows every key".into(),
    }
}
