//! The settings in force: what is printed, and that it can be read back.

use std::fs;
use std::path::Path;

use super::resolve::{around, files, with};
use crate::app::command_line::parse_from;
use crate::app::help::command_of;
use crate::app::in_force::{InForce, in_force};
use crate::app::names::Names;
use crate::app::settings::{OF_VERSION_5, Task, keys};
use crate::app::sources::{Raw, defaults};

pub(super) fn shown(args: &[&str], environment: &[(&str, &str)]) -> InForce {
    let cli = parse_from([&["mqtt-connection-sharing", "settings"], args].concat()).unwrap();
    in_force(cli, &around(environment)).unwrap()
}

/// The line of a setting.
fn line<'a>(text: &'a str, key: &str) -> &'a str {
    let is_own = |line: &&str| {
        let line = line.trim_start_matches('#');
        line.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(' '))
    };
    text.lines()
        .find(is_own)
        .unwrap_or_else(|| panic!("{key}: {text}"))
}

#[test]
fn each_value_has_the_place_that_it_comes_from() {
    let file_text = "publish-delay = \"1ms\"\nca-file = \"ca.pem\"\n[bench]\nthreads = 2\n";
    let (folder, file) = files(&[("a.toml", file_text)]);
    let ca = folder.path().join("ca.pem").display().to_string();
    let args = ["--endpoint=a:1", "--qos=0", "--config", &file, "--alpn=x,y"];
    let environment = [("MQTT_PUBLISH_COUNT", "200"), ("MQTT_RESPONSE_QUEUE", "5")];
    let InForce {
        text,
        notices,
        problem,
    } = shown(&args, &environment);
    assert!(problem.is_none() && notices.is_empty());
    for (key, value, place) in [
        ("endpoint", "\"a:1\"", "--endpoint"),
        ("qos", "0", "--qos"),
        ("alpn", "[\"x\", \"y\"]", "--alpn"),
        ("publish-count", "200", "MQTT_PUBLISH_COUNT"),
        ("inbox", "5", "MQTT_RESPONSE_QUEUE"),
        ("publish-delay", "\"1ms\"", file.as_str()),
        ("ca-file", &format!("\"{ca}\""), &file),
        ("iterations", "3", "default"),
    ] {
        let line = line(&text, key);
        assert!(line.starts_with(&format!("{key} = {value} ")), "{line}");
        assert!(line.ends_with(&format!("  # {place}")), "{line}");
    }
    assert!(line(&text, "port").starts_with("#port = 1 "), "{text}");
    assert!(
        line(&text, "client-id").starts_with("#client-id = \"mqtt-"),
        "{text}"
    );
    assert!(
        text.contains("# not set: username, password-file, will-topic"),
        "{text}"
    );
    // Those of another command are not among them.
    assert!(!text.contains("threads"), "{text}");
    let bench = shown(&[&["bench"][..], &args].concat(), &environment).text;
    let place = format!("  # [bench] in {file}");
    assert!(line(&bench, "threads").ends_with(&place), "{bench}");
    assert!(!bench.contains("iterations"), "{bench}");
}

#[test]
fn the_word_for_standard_input_is_no_path() {
    let text = shown(&["pub", "--endpoint=a", "--topic=b", "--file=-"], &[]).text;
    let line = line(&text, "file");
    assert!(line.starts_with("file = \"-\" "), "{line}");
}

#[test]
fn values_that_follow_from_others_are_comments() {
    let text = |args: &[&str]| shown(args, &[]).text;
    let aws = "--endpoint=abc-ats.iot.eu-central-1.amazonaws.com";
    for (args, key, value, reason) in [
        (&["--endpoint=a"][..], "port", "8883", "endpoint"),
        (&["--endpoint=mqtt://a"], "port", "1883", "endpoint"),
        (&["--endpoint=a"], "message-rate", "\"off\"", "broker"),
        (&[aws], "message-rate", "\"100/s\"", "broker"),
        (&[aws], "byte-rate", "\"512KiB/s\"", "broker"),
        (
            &["--endpoint=a", "--qos=0", "--publish-count=99"],
            "inbox",
            "99",
            "publish-count",
        ),
        (
            &["bench", "--endpoint=a", "--qos=2"],
            "window",
            "20",
            "max-inflight-qos2",
        ),
        (
            &["bench", "--endpoint=a", "--payload-size=1MiB"],
            "max-packet-size",
            "\"1152KiB\"",
            "payload-size",
        ),
        (
            &["check", "--endpoint=a"],
            "connect-interval",
            "\"0s\"",
            "broker",
        ),
        (&["check", aws], "connect-interval", "\"1s\"", "broker"),
        (
            &["pub", "--endpoint=a", "--topic=b"],
            "clean-session",
            "true",
            "client-id",
        ),
        (
            &["sub", "--endpoint=a", "b/#"],
            "clean-session",
            "true",
            "client-id",
        ),
        (
            &["sub", "--endpoint=a", "b/#", "--output=jsonl"],
            "format",
            "\"jsonl\"",
            "output",
        ),
    ] {
        let text = text(args);
        let line = line(&text, key);
        assert!(line.starts_with(&format!("#{key} = {value} ")), "{line}");
        assert!(
            line.contains("  # follows from ") && line.ends_with(reason),
            "{line}"
        );
    }
}

#[test]
fn nothing_secret_is_printed() {
    let (folder, file) = files(&[
        ("a.toml", "password-file = \"password\""),
        ("password", "hunter2\n"),
    ]);
    let password = folder.path().join("password").display().to_string();
    let base = ["--endpoint=a", "--username=me"];
    let InForce { text, problem, .. } = shown(&base, &[("MQTT_PASSWORD", "hunter2")]);
    assert!(problem.is_none());
    assert!(
        text.contains("# The password is in MQTT_PASSWORD"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let args = [&base[..], &["--config", &file]].concat();
    let text = shown(&args, &[]).text;
    assert!(
        text.contains(&format!("password-file = \"{password}\"")),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    // The password in place of its file.
    let InForce { text, problem, .. } = shown(&base, &[("MQTT_PASSWORD_FILE", "hunter2")]);
    assert!(
        text.contains("  # MQTT_PASSWORD_FILE; not shown: "),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!problem.unwrap().to_string().contains("hunter2"));
}

#[test]
fn settings_that_nothing_can_run_with_are_printed_with_the_reason() {
    let InForce { text, problem, .. } = shown(&["--qos=2"], &[]);
    assert!(line(&text, "qos").starts_with("qos = 2 "), "{text}");
    assert!(
        problem
            .unwrap()
            .to_string()
            .contains("no endpoint is given")
    );
}

/// A value of a setting other than its default, as a flag has it.
fn sample(task: Task, key: &str, is_file: bool, folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let default = defaults(task).get(key).cloned();
    let default = default.map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    let (svg, json) = (path("a.svg"), path("a.json"));
    let texts = [
        "true", "false", "2", "7", "3s", "300", "1/s", "sync", "jsonl", "off", "fail", "close",
        "x,y", "a=b", "never", "5",
    ];
    let files = [svg.as_str(), &json];
    let any = path("file");
    let candidates: Vec<&str> = match is_file {
        true => [&files[..], &[any.as_str()]].concat(),
        false => texts.to_vec(),
    };
    let fits = |text: &&&str| {
        let raw = Raw::Texts(vec![(**text).into()]);
        Some((**text).to_owned()) != default && raw.judge(key).is_ok()
    };
    let found = candidates.iter().find(fits);
    (*found.unwrap_or_else(|| panic!("{key}"))).to_owned()
}

fn keys_of_files() -> Vec<String> {
    let command = command_of(Task::Demo);
    let files = command.get_arguments().filter(|arg| {
        let names = arg.get_value_names();
        names.is_some_and(|names| names[0] == "FILE")
    });
    files
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect()
}

/// The text of each setting for each task, read back, gives the same configuration.
#[test]
fn each_setting_can_be_read_back() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["file", "a.svg", "a.json"] {
        fs::write(folder.path().join(name), "text").unwrap();
    }
    let printed = folder.path().join("printed.toml").display().to_string();
    let config = |args: &[&str]| {
        let mut config = with(args, &[]).unwrap();
        // They tell the place that a value comes from, which is another one now.
        config.names = Names::default();
        config.notices.clear();
        format!("{config:?}")
    };
    let files = keys_of_files();
    let sample = |task, key: &str| {
        let is_file = files.iter().any(|file| file == key);
        sample(task, key, is_file, folder.path())
    };
    let mut read_back = 0;
    for task in Task::ALL {
        for key in keys().iter().filter(|key| task.takes(key)) {
            let value = sample(task, key);
            let always: &[&str] = match task {
                Task::Pub if key != "topic" => &["topic"],
                Task::Sub if key != "filter" => &["filter"],
                _ => &[],
            };
            let beside: &[&str] = match key.as_str() {
                "endpoint" | "local" => &[],
                "cert" => &["endpoint", "key"],
                "key" => &["endpoint", "cert"],
                "password-file" => &["endpoint", "username"],
                "pkcs12-password-file" => &["endpoint", "pkcs12"],
                "will-payload-file" | "will-qos" | "will-retain" => &["endpoint", "will-topic"],
                "will-delay" => &["endpoint", "will-topic", "mqtt"],
                key if OF_VERSION_5.contains(&key) => &["endpoint", "mqtt"],
                _ => &["endpoint"],
            };
            let beside = always
                .iter()
                .chain(beside)
                .map(|key| (*key, sample(task, key)));
            let given: Vec<(&str, String)> = beside.chain([(key.as_str(), value)]).collect();
            let flags: Vec<String> = given
                .iter()
                .map(|(key, value)| format!("--{key}={value}"))
                .collect();
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let args = [&[task.word()][..], &flags].concat();
            let shown = shown(&args, &[]);
            assert!(shown.problem.is_none(), "{key}: {:?}", shown.problem);
            fs::write(&printed, &shown.text).unwrap();
            let own = line(&shown.text, key);
            assert!(own.starts_with(key.as_str()), "{own}");
            let again = config(&[task.word(), "--config", &printed]);
            assert_eq!(again, config(&args), "{key}: {}", shown.text);
            read_back += 1;
        }
    }
    assert!(read_back > 90, "{read_back}");
}
