//! What is wrong with a command line, in one line: clap's own report has several.
//!
//! Pure; the main thread uses it before the log starts.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::layers::{allowed, telling, variable};
use super::wrong;
use crate::cli::BENCH_WORD;
use crate::error::Error;

const SEE_HELP: &str = "see --help";

/// Turns a usage error of the command line into one for people.
pub fn usage_error(error: &clap::Error) -> Error {
    let argument = text(error, ContextKind::InvalidArg);
    // As the help writes it, `--publish-delay <DURATION>`; only the flag is of interest.
    let flag = argument.as_deref().and_then(|text| {
        let flag = text.split([' ', '[', '=', '.']).next()?;
        flag.starts_with('-').then(|| flag.to_owned())
    });
    match (error.kind(), flag) {
        (ErrorKind::InvalidValue | ErrorKind::ValueValidation, Some(flag)) => {
            let problem = match text(error, ContextKind::InvalidValue) {
                Some(value) if !value.is_empty() => {
                    let reason = error.source().map(ToString::to_string).unwrap_or_default();
                    format!("{value:?} is not possible{}", telling(&reason))
                }
                _ => "its value is missing".to_owned(),
            };
            let allowed = allowed(flag.trim_start_matches('-'));
            wrong(
                format!("reading {flag}"),
                problem,
                format!("use {allowed}; {SEE_HELP}"),
            )
        }
        (ErrorKind::UnknownArgument, Some(flag)) => {
            let advice = match (flag.as_str(), text(error, ContextKind::SuggestedArg)) {
                // A password among the arguments is seen by everybody on the machine.
                ("--password" | "--pkcs12-password", _) => format!(
                    "give the password with {flag}-file, or in {}; {SEE_HELP}",
                    variable(flag.trim_start_matches('-'))
                ),
                (_, Some(similar)) => format!("did you mean {similar}? Otherwise {SEE_HELP}"),
                _ => SEE_HELP.to_owned(),
            };
            wrong(
                "reading the command line",
                format!("{flag} is not known"),
                advice,
            )
        }
        (ErrorKind::UnknownArgument, None) if argument.as_deref() == Some(BENCH_WORD) => wrong(
            "reading the command line",
            "the word bench has to come first",
            "write: mqtt-connection-sharing bench, and then the flags",
        ),
        (ErrorKind::UnknownArgument, None) => wrong(
            "reading the command line",
            format!("{:?} is no flag", argument.unwrap_or_default()),
            format!("flags begin with --; {SEE_HELP}"),
        ),
        (ErrorKind::ArgumentConflict, Some(flag)) => {
            let other = text(error, ContextKind::PriorArg).unwrap_or_default();
            let other = other.split([' ', '.']).next().unwrap_or_default();
            wrong(
                "reading the command line",
                format!("{flag} and {other} exclude each other"),
                format!("give one of them; {SEE_HELP}"),
            )
        }
        _ => {
            let report = error.to_string();
            let first = report.lines().next().unwrap_or_default();
            let problem = first.strip_prefix("error: ").unwrap_or(first);
            wrong("reading the command line", problem, SEE_HELP)
        }
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn line(args: &[&str]) -> String {
        let error = cli::parse_from([&["program"], args].concat()).unwrap_err();
        let error = usage_error(&error);
        assert_eq!(error.exit_status(), 2);
        let line = error.to_string();
        assert!(!line.contains('\n') && line.contains("--help"), "{line}");
        line
    }

    #[test]
    fn each_mistake_is_one_line() {
        for (args, expected) in [
            (
                &["--publish-delay", "5"][..],
                "reading --publish-delay: \"5\" is not possible; use a duration such as \
                 100ms, 5s or 2m, or 0; see --help",
            ),
            (
                &["--publish-delay=400days"],
                "reading --publish-delay: \"400days\" is not possible: more than a year; use",
            ),
            (
                &["--publish-count", "many"],
                "reading --publish-count: \"many\" is not possible; use a whole number that is not \
                 negative; see --help",
            ),
            (
                &["--output", "xml"],
                "reading --output: \"xml\" is not possible; use text or json; see --help",
            ),
            (
                &["--clean-session=maybe"],
                "reading --clean-session: \"maybe\" is not possible; use true or false; see --help",
            ),
            (
                &["--cert"],
                "reading --cert: its value is missing; use the path of a file, as a text; see --help",
            ),
            (
                &["--pasword-file", "x"],
                "reading the command line: --pasword-file is not known; did you mean \
                 --password-file? Otherwise see --help",
            ),
            (
                &["--colour=red"],
                "reading the command line: --colour is not known; ",
            ),
            (
                &["--password=hunter2"],
                "reading the command line: --password is not known; give the password with \
                 --password-file, or in MQTT_PASSWORD; see --help",
            ),
            (
                &["-x"],
                "reading the command line: -x is not known; see --help",
            ),
            (
                &["filter"],
                "reading the command line: \"filter\" is no flag; flags begin with --; see --help",
            ),
            (
                &["-q", "-v"],
                "reading the command line: --quiet and --verbose exclude each other; give one of \
                 them; see --help",
            ),
            (&["--quiet=1"], "reading the command line: "),
        ] {
            let line = line(args);
            assert!(line.starts_with(expected), "{args:?}: {line}");
        }
    }
}
