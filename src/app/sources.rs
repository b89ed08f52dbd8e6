//! Where settings come from: command line over environment over file over defaults.
//!
//! Each source is a TOML table, and the tables are laid over each other. A value is judged by its type
//! while its source is known, so that an error names it. The lowest table is `config/demo.toml` itself.
//! Pure: text and a lookup come in. The main thread uses it.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Args, FromArgMatches};
use mqtt_connection_sharing::error::Error;
use toml::{Table, Value};

use super::files;
use super::settings::{Settings, Task};
use super::values::{self, FilePath, Given, Refusal, Rule, wrong};

/// Every setting that has a default, with its reason.
const DEFAULTS: &str = include_str!("../../config/demo.toml");

/// The bench's own defaults in place of the demo's.
const DEFAULTS_OF_BENCH: &str = "payload-size = 64\nclean-session = true";

/// The defaults of a task.
pub(super) fn defaults(task: Task) -> Table {
    // A test holds both texts to be TOML.
    let table = |text: &str| text.parse::<Table>().unwrap_or_default();
    let mut defaults = table(DEFAULTS);
    if task == Task::Bench {
        defaults.extend(table(DEFAULTS_OF_BENCH));
    }
    defaults
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    CommandLine,
    Environment,
    File(PathBuf),
}

impl Source {
    /// The setting as a person finds it again in this source.
    pub(super) fn name(&self, key: &str) -> String {
        match self {
            Source::CommandLine => format!("--{key}"),
            Source::Environment => variable(key),
            Source::File(path) => format!("{key} in {}", path.display()),
        }
    }

    /// Where relative paths in this source start: nowhere but in a file.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Source::File(path) => path.parent().unwrap_or(Path::new("")),
            Source::CommandLine | Source::Environment => Path::new(""),
        }
    }
}

/// The settings that one source gives: valid values under their keys.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) source: Source,
    pub(super) table: Table,
}

impl Layer {
    /// A layer of settings that are valid each for itself.
    pub(super) fn new(source: Source, settings: &Settings) -> Result<Self, Error> {
        let table = Table::try_from(settings).map_err(|error| {
            let tried = "reading the settings";
            wrong(tried, error.to_string(), "report it as a bug")
        })?;
        Ok(Layer { source, table })
    }

    /// The value of a setting, if this layer gives it.
    pub(super) fn value<R: Rule>(&self, key: &str) -> Option<R::Value> {
        let value = self.table.get(key)?.clone();
        let given = value.try_into::<Given<R>>().ok()?;
        Some(given.value)
    }
}

/// The sources, the strongest first. Defaults are none of them.
#[derive(Debug)]
pub(super) struct Layers(pub(super) Vec<Layer>);

impl Layers {
    /// All layers as one, over the defaults of the task. A certificate and key in PEM and a PKCS#12
    /// archive are two ways to say the same, so that the one in a stronger layer replaces the other.
    pub(super) fn over_defaults(&self, task: Task) -> Result<Settings, Error> {
        let mut merged = defaults(task);
        for layer in self.0.iter().rev() {
            let gives = |key: &str| layer.table.contains_key(key);
            let replaced: &[&str] = match (gives("pkcs12"), gives("cert") || gives("key")) {
                (true, _) => &["cert", "key"],
                (false, true) => &["pkcs12", "pkcs12-password-file"],
                (false, false) => &[],
            };
            for key in replaced {
                merged.remove(*key);
            }
            merged.extend(layer.table.clone());
        }
        merged.try_into().map_err(|error: toml::de::Error| {
            let tried = "reading the settings";
            wrong(tried, error.message(), "report it as a bug")
        })
    }

    /// The strongest layer that gives a setting, with its rank: 0 is the strongest.
    pub(super) fn giving(&self, key: &str) -> Option<(usize, &Layer)> {
        let mut layers = self.0.iter().enumerate();
        layers.find(|(_, layer)| layer.table.contains_key(key))
    }

    /// The name of a setting where it was given; the flag where nobody gave it.
    pub(super) fn name(&self, key: &str) -> String {
        self.giving(key)
            .map_or(&Source::CommandLine, |(_, layer)| &layer.source)
            .name(key)
    }

    /// A path that a setting gives: in a file it starts from the file's folder.
    pub(super) fn path(&self, key: &str, path: &Path) -> PathBuf {
        let folder = self.giving(key).map(|(_, layer)| layer.source.folder());
        folder.unwrap_or(Path::new("")).join(path)
    }

    /// The port: that of the strongest source that names one, on its own or in the endpoint.
    pub(super) fn port(&self) -> Result<Option<u16>, Error> {
        let alone = self.giving("port").and_then(|(rank, layer)| {
            let port = layer.value::<values::Port>("port")?;
            Some((rank, port, layer.source.name("port")))
        });
        let within = self.giving("endpoint").and_then(|(rank, layer)| {
            let port = layer.value::<values::Address>("endpoint")?.port?;
            Some((rank, port, layer.source.name("endpoint")))
        });
        match (alone, within) {
            (Some((rank, port, name)), Some((within_rank, within_port, within_name)))
                if rank == within_rank && port != within_port =>
            {
                Err(wrong(
                    "choosing the port",
                    format!("{within_name} says {within_port}, {name} says {port}"),
                    "give one of them",
                ))
            }
            (Some((rank, port, _)), Some((within_rank, within_port, _))) => {
                Ok(Some(if rank < within_rank {
                    port
                } else {
                    within_port
                }))
            }
            (alone, within) => Ok(alone.or(within).map(|(_, port, _)| port)),
        }
    }
}

/// The name in the environment of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("MQTT_{}", key.replace('-', "_").to_ascii_uppercase())
}

/// All settings as flags: they know the keys, in order, and how to read a text.
fn flags() -> clap::Command {
    Settings::augment_args(clap::Command::new("settings"))
        .no_binary_name(true)
        .disable_help_flag(true)
}

/// The keys of all settings.
pub(super) fn keys() -> Vec<String> {
    flags()
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect()
}

/// The settings in the environment. Each variable is read exactly as its flag would be.
pub(super) fn from_environment(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Layer, Error> {
    let source = Source::Environment;
    let mut table = Table::new();
    for key in keys() {
        let name = source.name(&key);
        let Some(text) = lookup(&name).filter(|text| !text.is_empty()) else {
            continue;
        };
        let mut argument = OsString::from(format!("--{key}="));
        argument.push(&text);
        let one = flags()
            .try_get_matches_from([argument])
            .and_then(|matches| Settings::from_arg_matches(&matches))
            .map_err(|error| {
                let shown = shown(&key, &format!("{text:?}"));
                refused(&name, &shown, refusal(&error, &key), "")
            })?;
        table.extend(Layer::new(source.clone(), &one)?.table);
    }
    Ok(Layer { source, table })
}

/// The settings in a file.
pub(super) fn from_toml(text: &str, path: &Path) -> Result<Layer, Error> {
    let file = path.display();
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
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

    let source = Source::File(path.to_owned());
    let known = keys();
    for (key, value) in &table {
        if !known.contains(key) {
            return Err(wrong(
                format!("reading the settings file {file}"),
                format!("the key {key} is not known"),
                advice_for_unknown(key, &known),
            ));
        }
        judge(key, value).map_err(|refusal| {
            let value = match value {
                Value::Table(_) => "a table".to_owned(),
                other => other.to_string(),
            };
            refused(&source.name(key), &shown(key, &value), refusal, "")
        })?;
    }
    Ok(Layer { source, table })
}

/// Judges the value of a setting in a file.
fn judge(key: &str, value: &Value) -> Result<(), Refusal> {
    let form = || Refusal::form(&allowed(key));
    // A table stands for a value that TOML cannot hold, but between layers only.
    let has_table = match value {
        Value::Array(values) => values.iter().any(Value::is_table),
        value => value.is_table(),
    };
    if has_table {
        return Err(form());
    }
    if value.as_str() == Some("") && allowed(key) == FilePath::FORM {
        return Err(Refusal::value("it is empty", "the path of a file"));
    }
    let one = Table::from_iter([(key.to_owned(), value.clone())]);
    let judged = one.try_into::<Settings>();
    let refused = |error: toml::de::Error| Refusal::from_serde(error.message());
    judged
        .map(drop)
        .map_err(|error| refused(error).unwrap_or_else(form))
}

/// The error for a value that was refused; `name` is its setting where it was given.
pub(super) fn refused(name: &str, shown: &str, refusal: Refusal, see: &str) -> Error {
    // The help has no more to say of a value that was read and cannot be.
    let see = match &refusal.problem {
        Some(_) => "",
        None => see,
    };
    wrong(
        format!("reading {name}"),
        refusal.problem(shown),
        format!("use {}{see}", refusal.allowed),
    )
}

/// Why clap refused a value.
pub(super) fn refusal(error: &clap::Error, key: &str) -> Refusal {
    of_type(error).unwrap_or_else(|| Refusal::form(&allowed(key)))
}

/// The refusal by the value's type, if that was asked.
fn of_type(error: &clap::Error) -> Option<Refusal> {
    error.source()?.downcast_ref().cloned()
}

/// A value as an error shows it. A slip may have put a password into an endpoint, as in URLs, or where the
/// name of its file should be: such a value is not repeated.
pub(super) fn shown(key: &str, value: &str) -> String {
    match key == "endpoint" || key.ends_with("password-file") {
        true => "the value".to_owned(),
        false => value.to_owned(),
    }
}

/// The form of a setting in words, for a value that is missing or that its type could not judge: as the
/// type says it of an empty text.
fn allowed(key: &str) -> String {
    if key == "alpn" {
        return values::Protocol::FORM.to_owned();
    }
    let empty = flags().try_get_matches_from([format!("--{key}=")]);
    let refusal = empty.err().as_ref().and_then(of_type);
    match refusal.filter(|refusal| refusal.problem.is_none()) {
        Some(refusal) => refusal.allowed,
        None => values::TEXT.to_owned(),
    }
}

fn advice_for_unknown(key: &str, known: &[String]) -> String {
    let plain = key.to_lowercase().replace('_', "-");
    if matches!(plain.as_str(), "password" | "pkcs12-password") {
        return format!(
            "a password does not belong here: use {plain}-file, or {} in the environment",
            variable(&plain)
        );
    }
    if plain == "root-ca" {
        return "it is called ca-file here".into();
    }
    let nearest = known
        .iter()
        .map(|candidate| (distance(&plain, candidate), candidate))
        .min();
    match nearest {
        Some((distance, candidate)) if distance <= 1 + plain.len() / 5 => {
            format!("did you mean {candidate}?")
        }
        _ => "remove it; config/demo.toml shows every key".into(),
    }
}

/// Letters to insert, remove or replace to make one word the other (Levenshtein).
pub(super) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// The part of the configuration that comes from the process around it.
pub(crate) struct Surroundings<'a> {
    /// Looks up a variable of the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// This computer's name, as far as it is known.
    pub(crate) host_name: Option<String>,
    /// Number of this process.
    pub(crate) process: u32,
}

impl Surroundings<'static> {
    /// Those of this process.
    pub(crate) fn of_this_process() -> Self {
        let named = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Surroundings {
            variable: &|name| std::env::var_os(name),
            host_name: files::host_name()
                .or_else(|| named("HOSTNAME"))
                .or_else(|| named("COMPUTERNAME")),
            process: std::process::id(),
        }
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("host_name", &self.host_name)
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{command_line, help};

    fn toml(text: &str) -> Result<Table, Error> {
        from_toml(text, Path::new("conf/demo.toml")).map(|layer| layer.table)
    }

    fn environment(name: &str, value: &str) -> Result<Table, Error> {
        let lookup = |wanted: &str| (wanted == name).then(|| value.into());
        from_environment(&lookup).map(|layer| layer.table)
    }

    #[test]
    fn each_key_is_a_flag_a_variable_and_a_key_of_the_file() {
        const ONLY_FLAGS: [&str; 5] = ["config", "verbose", "quiet", "help", "version"];
        let mut command = help::command_of(Task::Demo);
        command.build();
        let flags: Vec<String> = command
            .get_arguments()
            .filter_map(|arg| arg.get_long().map(str::to_owned))
            .collect();
        let settings: Vec<_> = flags
            .iter()
            .filter(|flag| !ONLY_FLAGS.contains(&flag.as_str()))
            .cloned()
            .collect();
        assert_eq!(settings, keys());
        assert_eq!(flags.len(), keys().len() + ONLY_FLAGS.len());
        let defaults = defaults(Task::Demo);
        for key in settings {
            // Where there is a default it is as good as any value.
            let toml_text = match (defaults.get(&key), key.as_str()) {
                (Some(default), _) => default.to_string(),
                (None, "will-retain") => "true".to_owned(),
                (None, "alpn") => "[\"1\"]".to_owned(),
                (None, "port" | "will-qos" | "window") => "1".to_owned(),
                (None, "retry-for") => "\"1s\"".to_owned(),
                (None, _) => "\"a\"".to_owned(),
            };
            let text = toml_text.trim_matches(['[', ']', '"']);
            let flag =
                command_line::parse_from(["program".into(), format!("--{key}={text}")]).unwrap();
            let variable = format!("MQTT_{}", key.replace('-', "_").to_uppercase());
            let settings = |table: Table| table.try_into::<Settings>().unwrap();
            let layer = Layer::new(Source::CommandLine, &flag.settings).unwrap();
            assert_eq!(layer.table.keys().collect::<Vec<_>>(), [&key]);
            let table = environment(&variable, text).unwrap();
            assert_eq!(settings(table), flag.settings, "{key}");
            let table = toml(&format!("{key} = {toml_text}")).unwrap();
            assert_eq!(settings(table), flag.settings, "{key}");
        }
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        assert_eq!(environment("MQTT_QOS", "").unwrap(), Table::new());
        assert_eq!(environment("MQTT_LOCAL", "").unwrap(), Table::new());
        assert_eq!(
            environment("MQTT_QOS", "2").unwrap()["qos"].as_integer(),
            Some(2)
        );
    }

    #[test]
    fn a_wrong_variable_is_named_with_what_is_allowed() {
        for (name, value, expected) in [
            ("MQTT_QOS", "3", "use 0, 1 or 2"),
            ("MQTT_QOS", "high", "use 0, 1 or 2"),
            ("MQTT_PUBLISH_COUNT", "0", "use 1 to 1000000000"),
            ("MQTT_PUBLISH_DELAY", "5", "100ms"),
            ("MQTT_PUBLISH_DELAY", "400days", "more than a year"),
            ("MQTT_LOCAL", "yes", "true or false"),
            ("MQTT_OUTPUT", "xml", "text or json"),
            ("MQTT_PORT", "tcp://172.17.0.2:1883", "1 to 65535"),
            ("MQTT_MAX_PACKET_SIZE", "1MB", "256KiB"),
            ("MQTT_ENDPOINT", "https://a", "mqtts://"),
        ] {
            let error = environment(name, value).expect_err(value).to_string();
            assert!(error.starts_with(&format!("reading {name}: ")), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_wrong_value_in_the_file_is_named_with_file_key_and_what_is_allowed() {
        for (key, value, expected) in [
            ("qos", "3", "use 0, 1 or 2"),
            ("qos", "\"1\"", "use 0, 1 or 2"),
            ("publish-count", "\"8\"", "a whole number"),
            ("publish-count", "-1", "a whole number"),
            ("publish-count", "0", "1 to 1000000000"),
            ("publish-delay", "5", "100ms"),
            ("publish-delay", "\"soon\"", "100ms"),
            ("publish-delay", "true", "100ms"),
            ("publish-delay", "\"400days\"", "more than a year"),
            ("port", "70000", "1 to 65535"),
            ("local", "\"true\"", "true or false"),
            ("output", "\"xml\"", "text or json"),
            ("cert", "5", "path"),
            ("cert", "\"\"", "path"),
            ("alpn", "5", "list"),
            (
                "alpn",
                "\"x; use y#\"",
                "\"x; use y#\" is not possible; use a list of names",
            ),
            ("alpn", "[\"\"]", "1 to 255"),
            ("max-packet-size", "[1]", "256KiB"),
            ("max-packet-size", "1", "at least 128"),
        ] {
            let error = toml(&format!("{key} = {value}"))
                .expect_err(value)
                .to_string();
            let start = format!("reading {key} in conf/demo.toml: ");
            assert!(error.starts_with(&start), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_empty_path_in_the_file_is_refused_whichever_key_it_has() {
        let paths = keys()
            .into_iter()
            .filter(|key| allowed(key) == FilePath::FORM);
        let paths: Vec<String> = paths.collect();
        assert_eq!(paths.len(), 7);
        for key in paths {
            let error = toml(&format!("{key} = \"\"")).unwrap_err();
            let line =
                format!("reading {key} in conf/demo.toml: it is empty; use the path of a file");
            assert_eq!(error.to_string(), line);
        }
    }

    #[test]
    fn a_wrong_value_that_may_hold_a_password_is_not_repeated() {
        for key in ["endpoint", "password-file", "pkcs12-password-file"] {
            for value in ["77123", "[\"77123\"]"] {
                let error = toml(&format!("{key} = {value}")).unwrap_err().to_string();
                assert!(error.contains("the value is not possible; use "), "{error}");
                assert!(!error.contains("77123"), "{error}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_no_text_and_may_hold_a_password_is_not_repeated() {
        use std::os::unix::ffi::OsStringExt;
        let read = |name: &str, text: &[u8]| {
            let value = OsString::from_vec(text.to_vec());
            let lookup = |wanted: &str| (wanted == name).then(|| value.clone());
            from_environment(&lookup).expect_err(name).to_string()
        };
        let error = read("MQTT_ENDPOINT", b"mqtts://me:hunter2@host\xff");
        assert!(error.starts_with("reading MQTT_ENDPOINT: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let error = read("MQTT_CLIENT_ID", b"me\xff");
        assert!(error.contains("me"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_known_one() {
        for (key, expected) in [
            ("publish_count", "did you mean publish-count?"),
            ("Endpoint", "did you mean endpoint?"),
            ("retry-atempts", "did you mean retry-attempts?"),
            ("root-ca", "ca-file"),
            ("password", "password-file, or MQTT_PASSWORD"),
            ("pkcs12-password", "MQTT_PKCS12_PASSWORD"),
            ("colour", "remove it"),
            ("config", "remove it"),
        ] {
            let error = toml(&format!("{key} = \"hunter2\""))
                .expect_err(key)
                .to_string();
            assert!(
                error.contains(&format!("the key {key} is not known")),
                "{error}"
            );
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(toml("[tls]\ncert = \"a\"").is_err());
    }

    #[test]
    fn a_malformed_file_is_named_with_the_line_and_nothing_of_its_text() {
        let error = toml("qos = 1\npassword = \"hunter2\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("conf/demo.toml: line 2: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let twice = toml("qos = 1\nqos = 2\n").unwrap_err().to_string();
        assert!(twice.contains("line 2"), "{twice}");
    }

    #[test]
    fn zero_and_numbers_are_read_where_they_have_a_meaning() {
        let table = toml("publish-delay = 0\nmax-packet-size = 1024").unwrap();
        let settings: Settings = table.try_into().unwrap();
        assert!(settings.publish_delay.unwrap().value.is_zero());
        assert_eq!(settings.max_packet_size.unwrap().value, 1024);
    }

    /// TOML's integers end at [`i64::MAX`].
    #[test]
    fn the_largest_number_comes_through_the_layers() {
        let text = u64::MAX.to_string();
        let table = environment("MQTT_ITERATIONS", &text).unwrap();
        let layers = Layers(vec![Layer {
            source: Source::Environment,
            table,
        }]);
        let settings = layers.over_defaults(Task::Demo).unwrap();
        assert_eq!(settings.iterations.unwrap().value, u64::MAX);
    }

    #[test]
    fn no_file_gives_a_value_as_a_table() {
        for value in ["{ Unix = [49] }", "[{ Unix = [49] }]"] {
            for key in keys() {
                let error = toml(&format!("{key} = {value}")).expect_err(&key);
                let start = format!("reading {key} in conf/demo.toml: ");
                assert!(error.to_string().starts_with(&start), "{error}");
            }
        }
    }

    #[test]
    fn relative_paths_in_the_file_start_from_its_folder() {
        let text = "cert = \"a\"\nkey = \"/abs\"";
        let layers = Layers(vec![
            environment("MQTT_CA_FILE", "b").map_or_else(
                |_| panic!(),
                |table| Layer {
                    source: Source::Environment,
                    table,
                },
            ),
            from_toml(text, Path::new("conf/demo.toml")).unwrap(),
        ]);
        let path = |key, given: &str| layers.path(key, Path::new(given));
        assert_eq!(path("cert", "a"), Path::new("conf/a"));
        assert_eq!(path("key", "/abs"), Path::new("/abs"));
        assert_eq!(path("ca-file", "b"), Path::new("b"));
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("qos", "qos"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
