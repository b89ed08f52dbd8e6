//! The command line, parsed: which command is asked for, with which flags.
//!
//! `settings.rs` says which flags there are, `help.rs` what is around them, `usage.rs` what is wrong with a command
//! line. The main thread uses it, once.

use std::ffi::{OsStr, OsString};

use clap::FromArgMatches;
use mqtt_connection_sharing::error::Error;

use super::cli::Cli;
use super::completions::{self, COMPLETIONS_HELP};
use super::help::{FILTERS, command_of, front_command, settings_command};
use super::man::{self, MAN_HELP};
use super::settings::Task;
use super::usage::{not_help, usage_error};
use super::verbs::{Beginning, Verb};

/// A command line that was understood.
pub(crate) enum CommandLine {
    /// To run a task.
    Run(Cli),
    /// To print the settings that it would run with.
    Settings(Cli),
    /// To print a text.
    Page(String),
    /// To print help or version.
    Help(clap::Error),
}

/// Parses the program's arguments.
///
/// # Errors
/// A usage error, as one line.
pub(crate) fn parse() -> Result<CommandLine, Error> {
    let command_line: Vec<OsString> = std::env::args_os().collect();
    if let Some(error) = not_help(&command_line) {
        return Err(error);
    }
    if let Some(page) = page(&command_line) {
        return page.map(CommandLine::Page);
    }
    match parse_from(&command_line) {
        Ok(cli) => Ok(match Beginning::of(&command_line).verb {
            Some(Verb::Settings) => CommandLine::Settings(cli),
            _ => CommandLine::Run(cli),
        }),
        Err(error) if error.use_stderr() => Err(usage_error(&error, &command_line)),
        Err(wanted) => Ok(CommandLine::Help(wanted)),
    }
}

/// The text that a command line asks for with a command that knows no flag but --help; `None` if it asks for something
/// else.
pub(crate) fn page(command_line: &[OsString]) -> Option<Result<String, Error>> {
    let words = command_line.iter().skip(2);
    let words: Vec<&str> = words
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    let is_help = words.iter().any(|word| ["-h", "--help"].contains(word));
    match Beginning::of(command_line).verb {
        Some(Verb::Completions) if !is_help => Some(completions::script(&words)),
        Some(Verb::Man) if !is_help => Some(man::page(&words)),
        _ => None,
    }
}

/// Parses arguments, the program's name first. A word at their beginning says what is asked for; a command line without
/// one is the demo's.
///
/// # Errors
/// A usage error, or what was asked for in place of a run: help, version.
pub(crate) fn parse_from<I, T>(args: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let beginning = Beginning::of(&args);
    let (flag, rest) = match beginning.verb {
        Some(Verb::Help) => (Some("--help"), &args[1 + beginning.length()..]),
        Some(Verb::Version) => (Some("--version"), &args[2..]),
        Some(Verb::Completions | Verb::Man) => (Some("--help"), &args[..0]),
        _ => (None, args.get(1 + beginning.length()..).unwrap_or_default()),
    };
    let name = args.iter().take(1).cloned();
    let rest = rest.iter().cloned();
    // The flag comes last: what stands before it is read, so that a word that means nothing is refused.
    let args = name.chain(rest).chain(flag.map(OsString::from));
    let mut command = match beginning.explained() {
        Some(Verb::Run(task)) => command_of(task),
        Some(Verb::Settings) => settings_command(beginning.flags_of()),
        Some(Verb::Completions) => front_command().override_help(COMPLETIONS_HELP),
        Some(Verb::Man) => front_command().override_help(MAN_HELP),
        Some(Verb::Help | Verb::Version) | None => front_command(),
    };
    let matches = command.try_get_matches_from_mut(args)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let task = beginning.flags_of();
    if task == Task::Sub
        && let Some(words) = matches.get_raw(FILTERS)
    {
        cli.given.add("filter", words.map(OsStr::to_owned));
    }
    Ok(Cli { task, ..cli })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::cli::Verbosity;
    use crate::app::sources::Raw;

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        parse_from([&["mqtt-connection-sharing"], args].concat())
    }

    /// The texts of a flag.
    fn texts(args: &[&str], key: &str) -> Option<Vec<String>> {
        let cli = parsed(args).unwrap();
        match cli.given.values.get(key)? {
            Raw::Texts(texts) => Some(texts.iter().map(|it| it.to_str().unwrap().into()).collect()),
            Raw::Toml(value) => panic!("{value}"),
        }
    }

    #[test]
    fn switches_can_be_given_alone_or_with_a_value() {
        assert_eq!(texts(&[], "local"), None);
        for (arg, text) in [
            ("--local", "true"),
            ("--local=true", "true"),
            ("--local=false", "false"),
            ("--local=maybe", "maybe"),
        ] {
            assert_eq!(texts(&[arg], "local").unwrap(), [text]);
        }
        assert!(parsed(&["--local", "false"]).is_err());
    }

    #[test]
    fn the_last_of_two_flags_stands_but_alpn_is_a_list() {
        assert_eq!(texts(&["--qos", "7", "--qos=1"], "qos").unwrap(), ["1"]);
        assert_eq!(texts(&["--alpn", "a,b"], "alpn").unwrap(), ["a", "b"]);
        let twice = ["--alpn", "a", "--alpn", "b"];
        assert_eq!(texts(&twice, "alpn").unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_message_may_begin_with_hyphens_and_hyphens_alone() {
        for text in [
            "-hello",
            "- item",
            "--- x ---",
            "-5",
            "-5x",
            "-v",
            "-q",
            "-h",
            "-h x",
            "--",
            "--topic",
            "-p",
        ] {
            let words = ["program", "pub", "--message", text, "--topic", "a"];
            assert_eq!(texts(&words[1..], "message").unwrap(), [text]);
            assert_eq!(texts(&words[1..], "topic").unwrap(), ["a"]);
            assert_eq!(not_help(&words.map(OsString::from)), None, "{text}");
        }
        let words = ["program", "pub", "--message", "-h", "x", "-h", "y"].map(OsString::from);
        assert!(not_help(&words).is_some());
    }

    #[test]
    fn root_ca_is_another_name_for_ca_file() {
        assert_eq!(
            texts(&["--root-ca", "ca.crt"], "ca-file").unwrap(),
            ["ca.crt"]
        );
    }

    #[test]
    fn verbosity_counts_and_quiet_excludes_it() {
        let verbosity = |args| parsed(args).unwrap().verbosity();
        assert_eq!(verbosity(&[]), Verbosity::Normal);
        assert_eq!(verbosity(&["-q"]), Verbosity::Quiet);
        assert_eq!(verbosity(&["-v"]), Verbosity::Verbose);
        assert_eq!(verbosity(&["-vv"]), Verbosity::Everything);
        assert_eq!(verbosity(&["-v", "--verbose", "-v"]), Verbosity::Everything);
        assert!(parsed(&["-q", "-v"]).is_err());
    }

    #[test]
    fn usage_errors_end_with_status_2() {
        for (args, text) in [
            (&["--password", "x"][..], "--password-file"),
            (&["extra"], "unexpected"),
        ] {
            let error = parsed(args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    /// The text that a command line asks for.
    fn text(args: &[&str]) -> String {
        let error = parsed(args).unwrap_err();
        assert_eq!(error.exit_code(), 0, "{args:?}");
        error.to_string()
    }

    #[test]
    fn help_and_version_are_words_and_flags() {
        for word in ["demo", "bench", "check"] {
            let help = text(&[word, "--help"]);
            let usage = format!("Usage: mqtt-connection-sharing {word} [OPTIONS]");
            assert!(help.contains(&usage), "{help}");
            for same in [
                &[word, "-h"][..],
                &["help", word],
                &[word, "--local", "--help"],
            ] {
                assert_eq!(text(same), help, "{same:?}");
            }
        }
        let front = text(&["--help"]);
        for same in [
            &["-h"][..],
            &["help"],
            &["help", "help"],
            &["--local", "-h"],
        ] {
            assert_eq!(text(same), front, "{same:?}");
        }
        assert_eq!(text(&["version"]), text(&["--version"]));
        assert_eq!(text(&["bench", "-V"]), text(&["--version"]));
    }

    #[test]
    fn the_demo_runs_with_its_word_and_without() {
        for (args, task) in [
            (&[][..], Task::Demo),
            (&["--local"], Task::Demo),
            (&["demo", "--local"], Task::Demo),
            (&["bench"], Task::Bench),
            (&["check"], Task::Check),
        ] {
            assert_eq!(parsed(args).unwrap().task, task, "{args:?}");
        }
    }
}
