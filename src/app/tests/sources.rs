//! Each source, read and judged: what is allowed, and how an error names the value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use mqtt_connection_sharing::error::Error;

use super::resolve::around;
use crate::app::chosen::Chosen;
use crate::app::settings::{Settings, Task, keys, variable};
use crate::app::sources::{Layer, allowed, defaults};
use crate::app::surroundings::Surroundings;
use crate::app::values::{FilePath, Rule};
use crate::app::{command_line, help};

/// The settings of one source, for the task that uses them.
fn judged(layers: Vec<Layer>) -> Result<Settings, Error> {
    let given = layers.iter().flat_map(|layer| layer.values.keys());
    let keys: Vec<&String> = given.collect();
    let takes_all = |task: &Task| keys.iter().all(|key| task.takes(key));
    let task = Task::ALL.into_iter().find(takes_all);
    Chosen::new(layers, task.unwrap_or_default()).settings()
}

fn toml(text: &str) -> Result<Settings, Error> {
    let layers = Layer::of_file(text, Path::new("conf/demo.toml"))?;
    judged(layers.into())
}

fn surroundings(name: &str, value: impl Into<OsString>) -> Surroundings {
    Surroundings {
        variables: BTreeMap::from([(name.to_owned(), value.into())]),
        ..around(&[])
    }
}

fn environment(name: &str, value: &str) -> Result<Settings, Error> {
    judged(vec![Layer::of_environment(&surroundings(name, value))])
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
    let defaults = defaults(Task::Bench);
    for key in settings {
        // Where there is a default it is as good as any value.
        let toml_text = match (defaults.get(&key), key.as_str()) {
            (Some(default), _) => default.to_string(),
            (None, "will-retain") => "true".to_owned(),
            (None, "alpn") => "[\"1\"]".to_owned(),
            (None, "timeline") => "[\"a.svg\"]".to_owned(),
            (None, "filter") => "[\"a\"]".to_owned(),
            (None, "user-property") => "[\"a=b\"]".to_owned(),
            (None, "message-expiry" | "will-delay") => "\"1s\"".to_owned(),
            (None, "trace") => "\"a.json\"".to_owned(),
            (None, "port" | "will-qos") => "1".to_owned(),
            (None, "retry-for") => "\"1s\"".to_owned(),
            (None, "message-rate" | "byte-rate") => "\"1/s\"".to_owned(),
            (None, _) => "\"a\"".to_owned(),
        };
        let text = toml_text.trim_matches(['[', ']', '"']);
        let flag = command_line::parse_from(["program".into(), format!("--{key}={text}")]).unwrap();
        assert_eq!(flag.given.values.keys().collect::<Vec<_>>(), [&key]);
        let flag = judged(vec![flag.given]).unwrap();
        assert_eq!(environment(&variable(&key), text).unwrap(), flag, "{key}");
        let file = toml(&format!("{key} = {toml_text}")).unwrap();
        assert_eq!(file, flag, "{key}");
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    for name in ["MQTT_QOS", "MQTT_LOCAL"] {
        let layer = Layer::of_environment(&surroundings(name, ""));
        assert_eq!(layer.values, BTreeMap::new());
    }
    let settings = environment("MQTT_QOS", "2").unwrap();
    assert_eq!(settings.qos.unwrap().value as u8, 2);
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
        ("MQTT_OUTPUT", "xml", "text, json or jsonl"),
        ("MQTT_PORT", "tcp://172.17.0.2:1883", "1 to 65535"),
        ("MQTT_MAX_PACKET_SIZE", "1MB", "256KiB"),
        ("MQTT_ENDPOINT", "https://a", "mqtts://"),
        ("MQTT_ALPN", "a,,b", "1 to 255"),
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
        ("output", "\"xml\"", "text, json or jsonl"),
        ("cert", "5", "path"),
        ("cert", "\"\"", "path"),
        ("alpn", "5", "list"),
        (
            "alpn",
            "\"x; use y#\"",
            "\"x; use y#\" is not possible: it is no list; use a list: [\"x; use y#\"]",
        ),
        (
            "user-property",
            "\"a=b\"",
            "\"a=b\" is not possible: it is no list; use a list: [\"a=b\"]",
        ),
        (
            "user-property",
            "\"ab\"",
            "use a list in brackets, with NAME=VALUE",
        ),
        (
            "timeline",
            "\"x.pdf\"",
            "\"x.pdf\" is not possible; use a list in brackets, with the path of a file that ends in .svg or .html",
        ),
        (
            "filter",
            "3",
            "3 is not possible; use a list in brackets, with",
        ),
        ("filter", "\"a/#/b\"", "#"),
        ("filter", "\"a/#/b\"", "use a list in brackets, with"),
        ("filter", "[\"a/#/b\"]", "#"),
        ("filter", "\"a/+\"", "use a list: [\"a/+\"]"),
        ("timeline", "\"a.svg\"", "use a list: [\"a.svg\"]"),
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
    assert_eq!(paths.len(), 8);
    for key in paths {
        let error = toml(&format!("{key} = \"\"")).unwrap_err();
        let line = format!("reading {key} in conf/demo.toml: it is empty; use the path of a file");
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
        let layer = Layer::of_environment(&surroundings(name, value));
        judged(vec![layer]).expect_err(name).to_string()
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
        ("host", "did you mean endpoint?"),
        ("clientId", "did you mean client-id?"),
        ("user", "did you mean username?"),
        ("config", "give --config FILE"),
        ("verbose", "give -v, or set RUST_LOG"),
        ("MQTT_QOS", "did you mean qos?"),
        ("MQTT_PUBLISH_COUNT", "did you mean publish-count?"),
        ("mqtt-host", "did you mean endpoint?"),
        ("MQTT_PASSWORD", "use password-file, or MQTT_PASSWORD in"),
        ("tls-ca", "did you mean ca-file?"),
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
    assert!(settings.publish_delay.unwrap().value.is_zero());
    assert_eq!(settings.max_packet_size.unwrap().value, 1024);
}

/// TOML's integers end at [`i64::MAX`].
#[test]
fn the_largest_number_comes_through_the_layers() {
    let settings = environment("MQTT_ITERATIONS", &u64::MAX.to_string()).unwrap();
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
fn the_former_name_of_a_setting_is_read_in_each_source() {
    let inbox = |settings: Settings| settings.inbox.unwrap().value;
    assert_eq!(inbox(toml("response-queue = 7").unwrap()), 7);
    assert_eq!(inbox(environment("MQTT_RESPONSE_QUEUE", "7").unwrap()), 7);
    let flag = command_line::parse_from(["program", "--response-queue=7"]).unwrap();
    assert_eq!(inbox(judged(vec![flag.given]).unwrap()), 7);
    // Errors name it as it was given.
    let error = toml("response-queue = 0").unwrap_err().to_string();
    assert!(error.starts_with("reading response-queue in "), "{error}");
    let error = environment("MQTT_RESPONSE_QUEUE", "0").unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("reading MQTT_RESPONSE_QUEUE: "),
        "{error}"
    );
    // Where both are given, that of now counts, and a file has one of them.
    let variables = [("MQTT_RESPONSE_QUEUE", "0"), ("MQTT_INBOX", "8")];
    let both = vec![Layer::of_environment(&around(&variables))];
    assert_eq!(inbox(judged(both).unwrap()), 8);
    let error = toml("inbox = 8\nresponse-queue = 7").unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("response-queue is the former name of inbox"),
        "{error}"
    );
    // A stronger source counts under either name.
    let mut layers = vec![Layer::of_environment(&around(&variables[..1]))];
    layers.extend(Layer::of_file("inbox = 9", Path::new("a.toml")).unwrap());
    let error = judged(layers).unwrap_err().to_string();
    assert!(
        error.starts_with("reading MQTT_RESPONSE_QUEUE: "),
        "{error}"
    );
    let below_bench = toml("[bench]\nresponse-queue = 7").unwrap_err();
    assert!(below_bench.to_string().contains("is a setting of the demo"));
}

#[test]
fn relative_paths_in_the_file_start_from_its_folder() {
    let mut layers = vec![Layer::of_environment(&surroundings("MQTT_CA_FILE", "b"))];
    let text = "cert = \"a\"\nkey = \"/abs\"";
    layers.extend(Layer::of_file(text, Path::new("conf/demo.toml")).unwrap());
    let chosen = Chosen::new(layers, Task::Demo);
    let path = |key, given: &str| chosen.path(key, Path::new(given));
    assert_eq!(path("cert", "a"), Path::new("conf/a"));
    assert_eq!(path("key", "/abs"), Path::new("/abs"));
    assert_eq!(path("ca-file", "b"), Path::new("b"));
}
