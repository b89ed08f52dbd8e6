//! The settings in force as TOML: each value with the place that it comes from. A `--config` file of this text gives the
//! same settings.
//!
//! Nothing secret is in it. Opens and connects nothing: `choice.rs` reads the sources. The main thread runs it, once.

use std::path::Path;

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::Options;
use toml::Value;

use super::choice::Choice;
use super::chosen::Chosen;
use super::cli::Cli;
use super::files;
use super::help::command_of;
use super::pub_sub::form::MessageForm;
use super::remote;
use super::resolve::{Config, Job, STANDARD_INPUT, configure};
use super::settings::{Task, keys};
use super::sources::{Raw, Source};
use super::surroundings::Surroundings;
use super::units::{duration_text, size_text};

/// The settings in force.
pub(crate) struct InForce {
    /// The text, TOML.
    pub(crate) text: String,
    /// Remarks for the log, one line each.
    pub(crate) notices: Vec<String>,
    /// The reason why nothing can run with them, if there is one.
    pub(crate) problem: Option<Error>,
}

/// Says with which settings a command line would run.
///
/// # Errors
/// A value is none of its setting, or the settings contradict each other, so that none is in force.
pub(crate) fn in_force(cli: Cli, surroundings: &Surroundings) -> Result<InForce, Error> {
    let choice = Choice::new(cli, surroundings)?;
    let (config, problem) = match configure(&choice, surroundings) {
        Ok(config) => (Some(config), None),
        Err(problem) => (None, Some(problem)),
    };
    let text = text(&choice, config.as_ref(), surroundings);
    let notices = match config {
        Some(config) => match config.job {
            Job::Check(check) => check.remarks,
            _ => config.notices,
        },
        None => choice.notices,
    };
    Ok(InForce {
        text,
        notices,
        problem,
    })
}

fn text(choice: &Choice, config: Option<&Config>, surroundings: &Surroundings) -> String {
    let word = choice.task.word();
    let mut lines = vec![
        "# The settings in force, each with the place that it comes from. To run with this file:"
            .to_owned(),
        format!("#   mqtt-connection-sharing {word} --config FILE"),
    ];
    let mut section = None;
    let mut unset = Vec::new();
    let (command, settings) = (command_of(choice.task), keys());
    for arg in command.get_arguments() {
        let key = arg.get_long().unwrap_or_default();
        if arg.is_hide_set() || !settings.iter().any(|setting| setting == key) {
            continue;
        }
        let heading = arg.get_help_heading();
        if heading != section {
            lines.extend(not_set(&mut unset));
            section = heading;
            lines.extend(heading.map(|heading| format!("\n# {heading}")));
        }
        let is_path = arg
            .get_value_names()
            .is_some_and(|names| names[0] == "FILE");
        match line(key, is_path, choice, config) {
            Some(line) => lines.push(line),
            None => unset.push(key.to_owned()),
        }
        if key == "password-file" || key == "pkcs12-password-file" {
            lines.extend(password(key, &choice.chosen, surroundings));
        }
    }
    lines.extend(not_set(&mut unset));
    lines.join("\n")
}

/// The line for settings that have no value.
fn not_set(keys: &mut Vec<String>) -> Option<String> {
    let line = (!keys.is_empty()).then(|| format!("# not set: {}", keys.join(", ")));
    keys.clear();
    line
}

/// The line for a setting; `None` if it has no value.
fn line(key: &str, is_path: bool, choice: &Choice, config: Option<&Config>) -> Option<String> {
    let chosen = &choice.chosen;
    if chosen.is_default(key)
        && let Some((value, reason)) = config.and_then(|config| follows(key, choice.task, config))
    {
        let value = value.map_or(String::new(), |value| format!(" = {value}"));
        return Some(commented(&format!("#{key}{value}"), &reason));
    }
    let Some((source, raw)) = chosen.given(key) else {
        let default = chosen.default(key)?;
        return Some(commented(&format!("{key} = {default}"), "default"));
    };
    let place = match source {
        Source::CommandLine | Source::Environment => chosen.name(key),
        Source::BenchOfFile(path) => format!("[bench] in {}", path.display()),
        Source::File(path) => path.display().to_string(),
    };
    let written = match is_path {
        false => plain(key, raw),
        true => in_full(key, raw, chosen),
    };
    Some(match written {
        Ok(value) => commented(&format!("{key} = {value}"), &place),
        Err(reason) => commented(&format!("#{key}"), &format!("{place}; not shown: {reason}")),
    })
}

/// A line with a comment behind it, in a column of its own.
fn commented(line: &str, comment: &str) -> String {
    let comment: String = comment
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    format!("{line:<40}  # {comment}")
}

/// The value that a setting has because of others, where nobody gives it one, and the reason.
fn follows(key: &str, task: Task, config: &Config) -> Option<(Option<Value>, String)> {
    let options = &config.options;
    let default = Options::new("", "");
    let value = |value: Value, reason: &str| Some((Some(value), reason.to_owned()));
    match (key, &config.job) {
        // Those of an embedded broker become known when it starts.
        ("port" | "message-rate" | "byte-rate", _) if config.local => None,
        ("port", _) => value(i64::from(options.port).into(), "follows from the endpoint"),
        ("client-id", _) => value(options.client_id.clone().into(), "made up for each run"),
        ("message-rate", _) => {
            let rate = options.limits.rate.publishes;
            let text = rate.map_or("off".to_owned(), |rate| format!("{rate}/s"));
            value(text.into(), "follows from the broker")
        }
        ("byte-rate", _) => {
            let rate = options.limits.rate.bytes;
            let bytes = rate.and_then(|rate| usize::try_from(rate.get()).ok());
            let text = bytes.map_or("off".to_owned(), |rate| format!("{}/s", size_text(rate)));
            value(text.into(), "follows from the broker")
        }
        ("retry-for", _) if task.takes("retry-for") => {
            let (first, then) = (options.retry.connect_for, options.retry.reconnect_for);
            let (first, then) = (duration_text(first), duration_text(then));
            Some((
                None,
                format!("{first} until the first connection, then {then}"),
            ))
        }
        ("inbox", Job::Demo(demo)) if demo.qos == QoS::AtMostOnce => value(
            whole(demo.inbox),
            "follows from --qos 0 and --publish-count",
        ),
        ("window", Job::Bench(bench)) if bench.qos == QoS::ExactlyOnce => value(
            i64::from(bench.window).into(),
            "follows from --max-inflight-qos2",
        ),
        ("max-packet-size", Job::Bench(_))
            if options.max_packet_size != default.max_packet_size =>
        {
            let size = size_text(options.max_packet_size);
            value(size.into(), "follows from --payload-size")
        }
        ("clean-session", Job::Pub(_) | Job::Sub(_)) => {
            let clean = options.clean_session.into();
            value(clean, "follows from whether there is a --client-id")
        }
        ("format", Job::Sub(sub)) if sub.form == MessageForm::Jsonl => {
            value("jsonl".into(), "follows from --output")
        }
        ("connect-interval", Job::Check(_)) => {
            let interval = duration_text(options.connect_interval);
            value(interval.into(), "follows from the broker")
        }
        _ => None,
    }
}

fn whole(number: usize) -> Value {
    // The ranges of all settings of this type are within this one.
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// A value as TOML.
fn plain(key: &str, raw: &Raw) -> Result<Value, &'static str> {
    let texts = match raw {
        Raw::Toml(value) => return Ok(value.clone()),
        Raw::Texts(texts) => texts,
    };
    let texts: Option<Vec<&str>> = texts.iter().map(|text| text.to_str()).collect();
    let texts = texts.ok_or(NO_UTF_8)?;
    let list = Value::Array(texts.iter().map(|text| Value::from(*text)).collect());
    let one = texts.last().copied().unwrap_or_default();
    let kinds = [
        Some(Value::from(one)),
        one.parse().ok().map(Value::Integer),
        one.parse().ok().map(Value::Boolean),
        Some(list),
    ];
    let mut kinds = kinds.into_iter().flatten();
    kinds
        .find(|value| Raw::Toml(value.clone()).judge(key).is_ok())
        .ok_or("TOML has no such number")
}

const NO_UTF_8: &str = "its path is not UTF-8";

/// A path, or a list of them, as TOML: from the root, so that it means the same in any file.
fn in_full(key: &str, raw: &Raw, chosen: &Chosen) -> Result<Value, &'static str> {
    let full = |text: &str| {
        if key == "file" && text == STANDARD_INPUT {
            return Ok(Value::from(text));
        }
        let path = files::in_full(&chosen.path(key, Path::new(text)));
        if key.ends_with("password-file") && !path.exists() {
            return Err("there is no such file, and it may be the password itself");
        }
        path.to_str().map(Value::from).ok_or(NO_UTF_8)
    };
    match plain(key, raw)? {
        Value::String(text) => full(&text),
        Value::Array(list) => {
            let texts = list.iter().filter_map(Value::as_str);
            texts.map(full).collect::<Result<_, _>>().map(Value::Array)
        }
        other => Ok(other),
    }
}

/// The line for a password that a variable holds.
fn password(key: &str, chosen: &Chosen, surroundings: &Surroundings) -> Option<String> {
    let (variable, needs) = match key {
        "password-file" => (remote::PASSWORD, "username"),
        _ => (remote::PKCS12_PASSWORD, "pkcs12"),
    };
    let is_used = surroundings.variable(variable).is_some()
        && chosen.given(key).is_none()
        && chosen.given(needs).is_some();
    is_used.then(|| format!("# The password is in {variable}, which no file replaces; not shown."))
}
