//! The command line, parsed: which command is asked for, with which flags.
//!
//! `settings.rs` says which flags there are, `help.rs` what is around them, `usage.rs` what is wrong with a command
//! line. The main thread uses it, once.

use std::ffi::OsString;

use clap::FromArgMatches;
use mqtt_connection_sharing::error::Error;

use super::help::command_of;
use super::settings::{BENCH_WORD, Cli, Task};
use super::usage::usage_error;

/// Parses the program's arguments. Prints help or version, and ends the program with status 0, where
/// they are asked for.
///
/// # Errors
/// A usage error, as one line.
pub(crate) fn parse() -> Result<Cli, Error> {
    let command_line: Vec<OsString> = std::env::args_os().collect();
    match parse_from(&command_line) {
        Ok(cli) => Ok(cli),
        Err(error) if error.use_stderr() => Err(usage_error(&error, &command_line)),
        Err(wanted) => wanted.exit(),
    }
}

/// Parses arguments, the program's name first. `bench` as the first of them asks for that task; a
/// command line without such a word is the demo's.
///
/// # Errors
/// A usage error, or what was asked for in place of a run: help, version.
pub(crate) fn parse_from<I, T>(args: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let task = match args.get(1) {
        Some(word) if word == BENCH_WORD => Task::Bench,
        _ => Task::Demo,
    };
    if task == Task::Bench {
        args.remove(1);
    }
    let mut command = command_of(task);
    let matches = command.try_get_matches_from_mut(args)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Cli { task, ..cli })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::app::settings::{Settings, Verbosity};

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        parse_from([&["mqtt-connection-sharing"], args].concat())
    }

    #[test]
    fn switches_can_be_given_alone_or_with_a_value() {
        let local = |args| {
            parsed(args)
                .unwrap()
                .settings
                .local
                .map(|given| given.value)
        };
        assert_eq!(local(&[]), None);
        assert_eq!(local(&["--local"]), Some(true));
        assert_eq!(local(&["--local=true"]), Some(true));
        assert_eq!(local(&["--local=false"]), Some(false));
        assert!(parsed(&["--local", "false"]).is_err());
        assert!(parsed(&["--clean-session=maybe"]).is_err());
        let cli = parsed(&["--clean-session", "--iterations", "1"]).unwrap();
        let Settings {
            clean_session,
            iterations,
            ..
        } = cli.settings;
        assert!(clean_session.unwrap().value);
        assert_eq!(iterations.unwrap().value, 1);
    }

    #[test]
    fn alpn_is_repeatable_or_a_list() {
        let names = |args| {
            let names = parsed(args).unwrap().settings.alpn.unwrap();
            names.into_iter().map(|name| name.value).collect::<Vec<_>>()
        };
        assert_eq!(names(&["--alpn", "a,b"]), ["a", "b"]);
        assert_eq!(names(&["--alpn", "a", "--alpn", "b"]), ["a", "b"]);
    }

    #[test]
    fn root_ca_is_another_name_for_ca_file() {
        let cli = parsed(&["--root-ca", "ca.crt"]).unwrap();
        let path = cli.settings.ca_file.unwrap().value;
        assert_eq!(path, PathBuf::from("ca.crt"));
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
    fn usage_errors_end_with_status_2_and_say_what_is_allowed() {
        for (args, text) in [
            (&["--publish-delay", "5"][..], "100ms"),
            (&["--max-packet-size", "1MB"], "256KiB"),
            (&["--qos", "x"], "use 0, 1 or 2"),
            (&["--output", "xml"], "json"),
            (&["--password", "x"], "--password-file"),
            (&["extra"], "unexpected"),
        ] {
            let error = parsed(args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
        assert_eq!(parsed(&["--version"]).unwrap_err().exit_code(), 0);
        assert_eq!(parsed(&["--help"]).unwrap_err().exit_code(), 0);
    }
}
