//! Where settings come from: command line over environment over file.
//!
//! Reads each source into [`Settings`], checks each value where its source is still known, so that
//! an error names it, and lays the sources over each other. Pure: text and a lookup come in. The main
//! thread uses it.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, FromArgMatches};

use super::resolve::wrong;
use super::{checks, endpoint, values as value};
use crate::app::settings::Settings;
use mqtt_connection_sharing::error::Error;

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

/// What one source gives.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) source: Source,
    pub(super) settings: Settings,
}

impl Layer {
    /// A layer whose single values are known to be valid.
    pub(super) fn new(source: Source, settings: Settings) -> Result<Self, Error> {
        checks::values(&settings).map_err(|flaw| {
            wrong(
                format!("reading {}", source.name(flaw.key)),
                flaw.problem,
                format!("use {}", flaw.allowed),
            )
        })?;
        Ok(Layer { source, settings })
    }
}

/// The sources, the strongest first.
#[derive(Debug)]
pub(super) struct Layers(pub(super) Vec<Layer>);

impl Layers {
    /// The name, where it was given, of a setting; the strongest if several gave it.
    pub(super) fn name(&self, key: &str) -> Option<String> {
        self.giving(key).map(|(_, layer)| layer.source.name(key))
    }

    /// The strongest layer that gives a setting, with its rank: 0 is the strongest.
    pub(super) fn giving(&self, key: &str) -> Option<(usize, &Layer)> {
        self.0
            .iter()
            .enumerate()
            .find(|(_, layer)| given(&layer.settings).iter().any(|k| k == key))
    }

    /// All layers as one.
    pub(super) fn merged(&self) -> Settings {
        self.0.iter().fold(Settings::default(), |above, layer| {
            over(above, layer.settings.clone())
        })
    }

    /// The port: that of the strongest source that names one, on its own or in the endpoint.
    pub(super) fn port(&self) -> Result<Option<u16>, Error> {
        let alone = self.giving("port").and_then(|(rank, layer)| {
            layer
                .settings
                .port
                .map(|port| (rank, port, layer.source.name("port")))
        });
        let within = self.giving("endpoint").and_then(|(rank, layer)| {
            let text = layer.settings.endpoint.as_deref()?;
            let port = endpoint::parse(text).ok()?.port?;
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

/// Spells the fields of [`Settings`] once, for what has to be done with each of them. A field that
/// is missing here does not compile.
macro_rules! each_setting {
    ($($field:ident)*) => {
        /// `above` where it says something, else `below`.
        fn lay_over(above: Settings, below: Settings) -> Settings {
            Settings { $($field: above.$field.or(below.$field),)* }
        }

        /// The keys of the settings that have a value.
        pub(super) fn given(settings: &Settings) -> Vec<String> {
            let mut keys = Vec::new();
            $(if settings.$field.is_some() { keys.push(stringify!($field).replace('_', "-")); })*
            keys
        }
    };
}

each_setting! {
    endpoint port client_id username password_file
    will_topic will_payload_file will_qos will_retain local
    cert key ca_file pkcs12 pkcs12_password_file alpn tls_server_name
    iterations publish_count publish_delay iteration_delay payload_size qos topic_prefix
    mode threads messages window receive
    keep_alive clean_session max_inflight command_queue response_queue ack_timeout connect_timeout
    retry_base retry_max retry_attempts connect_interval max_packet_size
    output
}

/// `above` over `below`. A certificate and key in PEM and a PKCS#12 archive are two ways to say the
/// same, so that the one that `above` uses replaces the other.
fn over(above: Settings, mut below: Settings) -> Settings {
    if above.pkcs12.is_some() {
        below.cert = None;
        below.key = None;
    }
    if above.cert.is_some() || above.key.is_some() {
        below.pkcs12 = None;
        below.pkcs12_password_file = None;
    }
    lay_over(above, below)
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
pub(crate) fn keys() -> Vec<String> {
    flags()
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect()
}

/// What the environment gives, each variable read exactly as its flag would be.
pub(super) fn from_environment(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Layer, Error> {
    let mut all = Settings::default();
    for key in keys() {
        let name = variable(&key);
        let Some(text) = lookup(&name).filter(|text| !text.is_empty()) else {
            continue;
        };
        let mut argument = OsString::from(format!("--{key}="));
        argument.push(&text);
        let one = flags()
            .try_get_matches_from([argument])
            .and_then(|matches| Settings::from_arg_matches(&matches))
            .map_err(|error| {
                let reason = error.source().map(ToString::to_string).unwrap_or_default();
                let shown = match may_hold_a_secret(&key) {
                    true => "the value".to_owned(),
                    false => format!("{text:?}"),
                };
                wrong(
                    format!("reading {name}"),
                    format!("{shown} is not possible{}", telling(&reason)),
                    format!("use {}", allowed(&key)),
                )
            })?;
        all = lay_over(one, all);
    }
    Layer::new(Source::Environment, all)
}

/// What a settings file gives. Relative paths in it start from its folder.
pub(super) fn from_toml(text: &str, path: &Path) -> Result<Layer, Error> {
    let file = path.display();
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
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

    let known = keys();
    let mut all = Settings::default();
    for (key, value) in table {
        if !known.contains(&key) {
            return Err(wrong(
                format!("reading the settings file {file}"),
                format!("the key {key} is not known"),
                advice_for_unknown(&key, &known),
            ));
        }
        let shown = match &value {
            _ if may_hold_a_secret(&key) => "the value".to_owned(),
            toml::Value::Table(_) => "a table".to_owned(),
            other => other.to_string(),
        };
        let one = toml::Table::from_iter([(key.clone(), value)])
            .try_into::<Settings>()
            .map_err(|error| {
                wrong(
                    format!("reading {key} in {file}"),
                    format!("{shown} is not possible{}", telling(error.message())),
                    format!("use {}", allowed(&key)),
                )
            })?;
        all = lay_over(one, all);
    }

    let source = Source::File(path.to_owned());
    let folder = source.folder();
    for own in [
        &mut all.cert,
        &mut all.key,
        &mut all.ca_file,
        &mut all.pkcs12,
        &mut all.pkcs12_password_file,
        &mut all.password_file,
        &mut all.will_payload_file,
    ] {
        if let Some(relative) = own.as_ref().filter(|own| !own.as_os_str().is_empty()) {
            *own = Some(folder.join(relative));
        }
    }
    Layer::new(source, all)
}

/// Whether a slip may have put a password into the value: into an endpoint, as in URLs, or where the
/// name of its file should be. Such a value is not repeated.
fn may_hold_a_secret(key: &str) -> bool {
    key == "endpoint" || key.ends_with("password-file")
}

/// A reason, where it says more than [`allowed`] does: what libraries say of types and digits is for
/// programmers.
pub(super) fn telling(reason: &str) -> String {
    if reason.starts_with("more than") {
        format!(": {reason}")
    } else {
        String::new()
    }
}

/// What a setting may be, in words.
pub(super) fn allowed(key: &str) -> String {
    let kind = flags()
        .get_arguments()
        .find(|arg| arg.get_long() == Some(key))
        .and_then(|arg| arg.get_value_names()?.first().cloned())
        .unwrap_or_default();
    match (key, kind.as_str()) {
        ("max-inflight" | "window", _) | (_, "PORT") => "a whole number from 1 to 65535",
        ("alpn", _) => "a list of names",
        (_, "LEVEL") => "0, 1 or 2",
        (_, "N") => "a whole number that is not negative",
        (_, "BOOL") => "true or false",
        (_, "DURATION") => value::DURATION_FORM,
        (_, "SIZE") => value::SIZE_FORM,
        (_, "FILE") => "the path of a file, as a text",
        (_, "FORMAT") => "text or json",
        (_, "MODE") => "async or sync",
        _ => "a text",
    }
    .to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::settings as cli;

    fn toml(text: &str) -> Result<Settings, Error> {
        from_toml(text, Path::new("conf/demo.toml")).map(|layer| layer.settings)
    }

    fn environment(name: &str, value: &str) -> Result<Settings, Error> {
        let lookup = |wanted: &str| (wanted == name).then(|| value.into());
        from_environment(&lookup).map(|layer| layer.settings)
    }

    #[test]
    fn each_key_is_a_flag_a_variable_and_a_key_of_the_file() {
        const ONLY_FLAGS: [&str; 5] = ["config", "verbose", "quiet", "help", "version"];
        let mut command = cli::command_of(cli::Task::Demo);
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
        for key in settings {
            let (text, toml_text) = match key.as_str() {
                "local" | "clean-session" | "will-retain" | "receive" => ("true", "true"),
                "output" => ("json", "\"json\""),
                "mode" => ("sync", "\"sync\""),
                "alpn" => ("1", "[\"1\"]"),
                "port" | "iterations" | "publish-count" | "qos" | "will-qos" | "max-inflight"
                | "threads" | "messages" | "window" | "command-queue" | "response-queue"
                | "retry-attempts" => ("1", "1"),
                "max-packet-size" | "payload-size" => ("1KiB", "\"1KiB\""),
                "endpoint" | "client-id" | "username" | "will-topic" | "tls-server-name"
                | "topic-prefix" => ("a", "\"a\""),
                name if name.ends_with("file") || ["cert", "key", "pkcs12"].contains(&name) => {
                    ("/a", "\"/a\"")
                }
                _ => ("1s", "\"1s\""),
            };
            let flag = cli::parse_from(["program".into(), format!("--{key}={text}")]).unwrap();
            let variable = format!("MQTT_{}", key.replace('-', "_").to_uppercase());
            assert_eq!(given(&flag.settings), [key.as_str()]);
            assert_eq!(
                environment(&variable, text).unwrap(),
                flag.settings,
                "{key}"
            );
            assert_eq!(
                toml(&format!("{key} = {toml_text}")).unwrap(),
                flag.settings,
                "{key}"
            );
        }
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        assert_eq!(environment("MQTT_QOS", "").unwrap(), Settings::default());
        assert_eq!(environment("MQTT_LOCAL", "").unwrap(), Settings::default());
        assert_eq!(environment("MQTT_QOS", "2").unwrap().qos, Some(2));
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
        let settings = toml("publish-delay = 0\nmax-packet-size = 1024").unwrap();
        assert_eq!(settings.publish_delay.unwrap().to_string(), "0");
        assert_eq!(settings.max_packet_size, Some(value::ByteSize(1024)));
    }

    #[test]
    fn relative_paths_in_the_file_start_from_its_folder() {
        let keys = [
            "cert",
            "key",
            "ca-file",
            "pkcs12",
            "password-file",
            "will-payload-file",
        ];
        let text: String =
            keys.map(|key| format!("{key} = \"a\"\n")).concat() + "pkcs12-password-file = \"/abs\"";
        let settings = toml(&text).unwrap();
        let a = Some(PathBuf::from("conf/a"));
        assert_eq!(settings.cert, a);
        assert_eq!(settings.key, a);
        assert_eq!(settings.ca_file, a);
        assert_eq!(settings.pkcs12, a);
        assert_eq!(settings.password_file, a);
        assert_eq!(settings.will_payload_file, a);
        assert_eq!(settings.pkcs12_password_file, Some("/abs".into()));
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("qos", "qos"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
