//! The problem with a command line, in one line: clap's own report has several.
//!
//! Repeats no more of it than helps: a word that stands alone, the value of an unknown flag, and one that
//! a flag has no use for may be a password that went astray, and this line a log's.
//!
//! Pure; the main thread uses it before the log starts.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::foreign::{WITH_VALUE, distance, on_command_line};
use super::settings::Task;
use super::sources::{Layer, Source, allowed};
use super::values::wrong;
use super::verbs::{Beginning, Verb};
use mqtt_connection_sharing::error::Error;

/// Turns a usage error of the command line, the program's name at its beginning, into one for people.
pub(super) fn usage_error(error: &clap::Error, command_line: &[OsString]) -> Error {
    let is_foreign = matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::ArgumentConflict
    );
    let foreign = on_command_line(command_line);
    if is_foreign && !foreign.is_empty() {
        return foreign_flags(&foreign, command_line);
    }
    let beginning = Beginning::of(command_line);
    let task = beginning.flags_of();
    let see_help = task.see_help();
    let argument = text(error, ContextKind::InvalidArg);
    // As the help writes it, `--publish-delay <DURATION>`; only the flag is of interest.
    let flag = argument.as_deref().and_then(|text| {
        let flag = text.split([' ', '[', '=', '.']).next()?;
        flag.starts_with('-').then(|| flag.to_owned())
    });
    match (error.kind(), flag) {
        // Values are judged later, by `chosen.rs`: here one can only be missing.
        (ErrorKind::InvalidValue, Some(flag)) => wrong(
            format!("reading {flag}"),
            "its value is missing",
            format!("use {}; {see_help}", allowed(flag.trim_start_matches('-'))),
        ),
        (ErrorKind::UnknownArgument, Some(flag)) => {
            let advice = match text(error, ContextKind::SuggestedArg) {
                Some(similar) => suggestion(&similar, task),
                None => see_help,
            };
            let shown = match looks_like_a_flag(&flag) {
                true => flag,
                false => "a flag".to_owned(),
            };
            wrong(
                "reading the command line",
                format!("{shown} is not known"),
                advice,
            )
        }
        (ErrorKind::UnknownArgument, None) => {
            let word = argument.unwrap_or_default();
            match Verb::of_word(&word) {
                Some(_) => wrong(
                    "reading the command line",
                    format!("the word {word} has to come first"),
                    format!(
                        "write: mqtt-connection-sharing {word}, and then the flags; see {word} --help"
                    ),
                ),
                None => stray_word(&word, command_line),
            }
        }
        (ErrorKind::ArgumentConflict, Some(flag)) => {
            let other = text(error, ContextKind::PriorArg).unwrap_or_default();
            let other = other.split([' ', '.']).next().unwrap_or_default();
            wrong(
                "reading the command line",
                format!("{flag} and {other} exclude each other"),
                format!("give one of them; {see_help}"),
            )
        }
        (ErrorKind::TooManyValues, Some(flag)) => wrong(
            "reading the command line",
            format!("{flag} takes no value"),
            format!("give it without one; {see_help}"),
        ),
        (kind, flag) => {
            // The report's own words may repeat what was given.
            let problem = kind.as_str().unwrap_or("something is wrong with it");
            let tried = match flag {
                Some(flag) => format!("reading {flag}"),
                None => "reading the command line".to_owned(),
            };
            wrong(tried, problem, see_help)
        }
    }
}

/// The error for a value behind `-h` or `-V`, which other tools take there: no help and no version is wanted.
pub(super) fn not_help(command_line: &[OsString]) -> Option<Error> {
    let found = on_command_line(command_line);
    let is_value = |(name, _): &(String, String)| name.ends_with(WITH_VALUE);
    found
        .iter()
        .any(is_value)
        .then(|| foreign_flags(&found, command_line))
}

/// The advice where a flag of this program is near to an unknown one.
fn suggestion(similar: &str, task: Task) -> String {
    let key = similar.trim_start_matches('-');
    let see_help = task.see_help();
    match !task.takes(key) {
        true => {
            let (problem, advice) = of_other_task(key, task);
            format!("did you mean {similar}? It {problem}: {advice}; {see_help}")
        }
        false => format!("did you mean {similar}? Otherwise {see_help}"),
    }
}

/// The error for flags of other tools: each, with what to do.
fn foreign_flags(found: &[(String, String)], command_line: &[OsString]) -> Error {
    let see_help = Beginning::of(command_line).flags_of().see_help();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let problem = match &names[..] {
        [before @ .., last] if !before.is_empty() => {
            format!("{} and {last} are not known", before.join(", "))
        }
        names => format!("{} is not known", names.concat()),
    };
    let advice: Vec<&str> = found.iter().map(|(_, advice)| advice.as_str()).collect();
    let advice = format!("{}; {see_help}", advice.join(", "));
    wrong("reading the command line", problem, advice)
}

/// Flags of another task are refused: they would do nothing. In the environment and in the file they may
/// stand: those are for all.
pub(super) fn refuse_misplaced(flags: &Layer, task: Task) -> Result<(), Error> {
    for key in flags.values.keys() {
        if !task.takes(key) {
            return Err(misplaced(key, task));
        }
    }
    Ok(())
}

fn misplaced(key: &str, task: Task) -> Error {
    let name = Source::CommandLine.name(key);
    let (problem, advice) = of_other_task(key, task);
    wrong(format!("reading {name}"), format!("it {problem}"), advice)
}

/// The problem with a flag of another task, to follow "it", and the remedy.
fn of_other_task(key: &str, task: Task) -> (String, String) {
    let word = task.word();
    let problem = match Task::of_setting(key) {
        [owner] => format!("is a flag of {}, not of {}", called(*owner), not_of(task)),
        [Task::Demo, other] => format!(
            "is a flag of the demo and of {}, not of {}",
            other.word(),
            not_of(task)
        ),
        [one, other] => format!(
            "is a flag of the commands {} and {}, not of {}",
            one.word(),
            other.word(),
            not_of(task)
        ),
        _ => format!("is no flag of {}", called(task)),
    };
    let instead = match (task, key) {
        (Task::Demo | Task::Bench, "topic") => Some("use --topic-prefix"),
        (Task::Check | Task::Pub, "topic-prefix") => Some("use --topic"),
        (Task::Check, "retry-for" | "retry-attempts") => Some("use --wait"),
        (Task::Check, "clean-session") => {
            Some("leave it out: a check cleans only a session that it has made")
        }
        (Task::Bench, "max-inflight") => Some("use --window"),
        (Task::Bench, "publish-count") => Some("use --messages"),
        (Task::Bench, "command-queue" | "inbox") => Some("leave it out: it follows from --window"),
        (Task::Sub, "topic" | "topic-prefix") => Some("write the filter behind the word sub"),
        (Task::Demo, "count") => Some("use --publish-count"),
        (Task::Bench, "count") => Some("use --messages"),
        (Task::Pub, "command-queue") => Some("leave it out: it follows from --max-inflight"),
        _ => None,
    };
    let there = match Task::of_setting(key) {
        [owner] | [owner, _] if *owner != Task::Demo => Some(format!(
            "write: mqtt-connection-sharing {} --{key} …",
            owner.word()
        )),
        _ => None,
    };
    let advice = match (instead, there) {
        (Some(instead), _) => instead.to_owned(),
        (None, Some(there)) => there,
        (None, None) => format!("leave it out; {word} --help shows what there is"),
    };
    (problem, advice)
}

/// A task as a sentence names it.
fn called(task: Task) -> String {
    match task {
        Task::Demo => "the demo".to_owned(),
        _ => format!("the command {}", task.word()),
    }
}

/// As [`called`], shorter.
fn not_of(task: Task) -> &'static str {
    match task {
        Task::Demo => "the demo",
        _ => task.word(),
    }
}

/// A word that belongs to no flag: told by its place. Only what can be no secret is repeated.
fn stray_word(word: &str, command_line: &[OsString]) -> Error {
    let see_help = match Beginning::of(command_line).task() {
        Some(task) => task.see_help(),
        None => "see --help".to_owned(),
    };
    let mut places = command_line.iter().skip(1).zip(1..);
    let place = places.find(|(given, _)| *given == word).map(|(_, n)| n);
    // The same word may stand before it as the value of a flag.
    let place = match (place, places.any(|(given, _)| given == word)) {
        (Some(number), false) => format!("argument {number}"),
        _ => "one of the arguments".to_owned(),
    };
    let (shown, advice) = if matches!(word, "true" | "false") {
        (
            format!(", {word},"),
            format!("a switch takes its value with =, as in --local={word}"),
        )
    } else if let Some(near) = near_verb(word) {
        (
            String::new(),
            format!("did you mean {near}? Otherwise leave it out"),
        )
    } else {
        let is_first = command_line.get(1).is_some_and(|first| *first == word);
        let advice = match is_first {
            true => format!("flags begin with --, and commands are {}", all_verbs()),
            false => "flags begin with --".to_owned(),
        };
        (" (not shown: it may be a password)".to_owned(), advice)
    };
    wrong(
        "reading the command line",
        format!("{place}{shown} is a word that belongs to no flag"),
        format!("{advice}; {see_help}"),
    )
}

/// The words of all verbs, for a sentence.
fn all_verbs() -> String {
    let words = Verb::ALL.map(Verb::word);
    let (last, others) = words.split_last().unwrap_or((&"", &[]));
    format!("{} and {last}", others.join(", "))
}

/// The verb that a word is nearly, so that it is a slip and no password.
fn near_verb(word: &str) -> Option<&'static str> {
    let words = Verb::ALL.into_iter().map(Verb::word);
    let distances = words.map(|known| (distance(word, known), known));
    let (distance, known) = distances.min()?;
    (distance <= 2.min(known.len() / 2)).then_some(known)
}

/// Whether it is spelt as flags are, so that it is no password that begins with dashes.
fn looks_like_a_flag(text: &str) -> bool {
    let name = text.trim_start_matches('-');
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let digits = name.chars().filter(char::is_ascii_digit).count();
    name.chars().all(usual) && digits <= 2 && name.len() <= 30
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
    use crate::app::command_line as cli;
    use crate::app::resolve::resolve;
    use crate::app::tests::resolve::{around, flags};

    fn line(args: &[&str]) -> String {
        let error = flags(args).unwrap_err();
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
                 100ms, 5s or 2m, or 0; see demo --help",
            ),
            (
                &["--publish-delay=400days"],
                "reading --publish-delay: \"400days\" is not possible: more than a year; use",
            ),
            (
                &["--publish-count", "many"],
                "reading --publish-count: \"many\" is not possible; use a whole number that is not \
                 negative; see demo --help",
            ),
            (
                &["--output", "xml"],
                "reading --output: \"xml\" is not possible; use text, json or jsonl; see demo --help",
            ),
            (
                &["--clean-session=maybe"],
                "reading --clean-session: \"maybe\" is not possible; use true or false; see demo --help",
            ),
            (
                &["--cert"],
                "reading --cert: its value is missing; use the path of a file, as a text; see demo --help",
            ),
            (
                &["--pasword-file", "x"],
                "reading the command line: --pasword-file is not known; did you mean \
                 --password-file? Otherwise see demo --help",
            ),
            (
                &["--colour=red"],
                "reading the command line: --colour is not known; ",
            ),
            (
                &["--password=hunter2"],
                "reading the command line: --password is not known; give the password with \
                 --password-file, or in MQTT_PASSWORD; see demo --help",
            ),
            (
                &["--passwordhunter2"],
                "reading the command line: --password is not known; give the password with ",
            ),
            (
                &["--pkcs12-password-hunter2"],
                "reading the command line: --pkcs12-password is not known; give the password with ",
            ),
            (
                &["-y"],
                "reading the command line: -y is not known; see demo --help",
            ),
            (
                &["hunter2"],
                "reading the command line: argument 1 (not shown: it may be a password) is a word that belongs to no \
                 flag; flags begin with --, and commands are demo, bench, check, pub, sub, settings, completions, man, \
                 help and version; see --help",
            ),
            (
                &["help", "hunter2"],
                "reading the command line: argument 2 (not shown: it may be a password) is a word that belongs to no \
                 flag; flags begin with --; see --help",
            ),
            (
                &["--quiet", "hunter2"],
                "reading the command line: argument 2 (not shown: it may be a password) is a word \
                 that belongs to no flag; flags begin with --; see --help",
            ),
            (
                &["--username", "hunter2", "hunter2"],
                "reading the command line: one of the arguments (not shown: it may be a password) \
                 is a word that belongs to no flag; flags begin",
            ),
            (
                &["--local", "true"],
                "reading the command line: argument 2, true, is a word that belongs to no flag; a \
                 switch takes its value with =, as in --local=true; see --help",
            ),
            (
                &["bensh", "--qos=1"],
                "reading the command line: argument 1 is a word that belongs to no flag; did you \
                 mean bench? Otherwise leave it out; see --help",
            ),
            (
                &["--qos=1", "bench"],
                "reading the command line: the word bench has to come first; write: ",
            ),
            (
                &["bench", "hunter2"],
                "reading the command line: argument 2 (not shown: it may be a password) is a word",
            ),
            (
                &["-q", "-v"],
                "reading the command line: --quiet and --verbose exclude each other; give one of \
                 them; see demo --help",
            ),
            (
                &["--quiet=hunter2"],
                "reading the command line: --quiet takes no value; give it without one; see demo --help",
            ),
            (
                &["--pasword=hunter2"],
                "reading the command line: --pasword is not known; ",
            ),
            (
                &["--pasword", "hunter2"],
                "reading the command line: --pasword is not known; ",
            ),
            (
                &["--hunter2/Qx"],
                "reading the command line: a flag is not known; see demo --help",
            ),
            (
                &["-phunter2"],
                "reading the command line: -p is not known; for -p use --port PORT; see demo --help",
            ),
            (
                &["--repeat", "3"],
                "reading the command line: --repeat is not known; for --repeat use --count N with the command sub, \
                 --messages N with bench, and else --publish-count N; see demo --help",
            ),
            (
                &["--tls-version", "tlsv1.2"],
                "reading the command line: --tls-version is not known; leave --tls-version out: TLS 1.2 or 1.3 is used",
            ),
            (
                &["--interval", "1"],
                "reading the command line: --interval is not known; for --interval use --publish-delay DURATION; see",
            ),
            (
                &["bench", "--interval", "1"],
                "reading the command line: --interval is not known; leave --interval out: a bench publishes without \
                 pauses; see bench --help",
            ),
            (
                &["bench", "--max-inflihgt=3"],
                "reading the command line: --max-inflihgt is not known; did you mean --max-inflight? It is a flag of \
                 the demo and of pub, not of bench: use --window; see bench --help",
            ),
            (
                &["--thread=3"],
                "reading the command line: --thread is not known; did you mean --threads? It is a flag of the commands \
                 bench and pub, not of the demo: write: ",
            ),
            (
                &["--mqtt-host=hunter2"],
                "reading the command line: --mqtt-host is not known; for --mqtt-host use --endpoint HOST[:PORT]; see",
            ),
            (
                &["--config="],
                "reading --config: its value is missing; use the path of a file, as a text; see demo --help",
            ),
            (
                &["--endpoint", "--local"],
                "reading --endpoint: its value is missing; use HOST or HOST:PORT, such as broker.example:8883; see",
            ),
            (
                &["--username"],
                "reading --username: its value is missing; use a user name, as a text; see demo --help",
            ),
            (
                &["-q", "1", "--insecure"],
                "reading the command line: -q 1 and --insecure are not known; for it use --qos 1, leave --insecure \
                 out: the broker's certificate is always verified",
            ),
            (
                &["-i", "me", "-u", "me", "-Phunter2"],
                "reading the command line: -i, -u and -P are not known; for -i use --client-id ID, for -u use",
            ),
            (
                &["pub", "-m", "hunter2", "-l"],
                "reading the command line: -m and -l are not known; for -m use --message TEXT with the command pub, for \
                 -l use --lines with the command pub; see pub --help",
            ),
            (
                &["sub", "a", "-J", "-F", "%p"],
                "reading the command line: -J and -F are not known; for -J use --output json, or with the command sub \
                 --format jsonl, for -F use --format text, jsonl or raw with the command sub; see sub --help",
            ),
            (
                &["--", "hunter2"],
                "reading the command line: argument 2 (not shown: ",
            ),
        ] {
            let line = line(args);
            assert!(line.starts_with(expected), "{args:?}: {line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn a_host_behind_h_is_no_wish_for_help() {
        let line = |args: &[&str]| {
            let words = [&["program"], args].concat();
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            not_help(&words).map(|error| error.to_string())
        };
        for args in [
            &["-h", "broker.example", "-p", "1883"][..],
            &["-hbroker.example", "-p", "1883"],
            &["-p1883", "-h", "hunter2"],
        ] {
            let line = line(args).unwrap();
            assert!(line.contains("-h with a value"), "{line}");
            assert!(line.contains("for -h use --endpoint HOST[:PORT]"), "{line}");
            assert!(line.contains("for -p use --port PORT"), "{line}");
            assert!(
                !line.contains("broker.example") && !line.contains("hunter2"),
                "{line}"
            );
        }
        let version = line(&["-V", "mqttv5"]).unwrap();
        assert!(
            version.contains("use --mqtt VERSION, 3.1.1 or 5"),
            "{version}"
        );
        for args in [
            &["-h"][..],
            &["bench", "-h"],
            &["-h", "bench"],
            &["-h", "--local"],
            &["-V"],
            &["-p", "1"],
        ] {
            assert_eq!(line(args), None, "{args:?}");
        }
    }

    #[test]
    fn an_argument_that_is_no_text_is_not_shown_either() {
        use std::os::unix::ffi::OsStringExt;
        for bytes in [
            &b"hunter2\xff"[..],
            b"--endpoint=hunter2\xff",
            b"--hunter2\xff=1",
        ] {
            let command_line = ["program".into(), OsString::from_vec(bytes.to_vec())];
            let parsed = cli::parse_from(command_line.clone());
            let parsed = parsed.map_err(|error| usage_error(&error, &command_line));
            let found = parsed.and_then(|cli| resolve(cli, &around(&[])));
            let line = found.unwrap_err().to_string();
            assert!(
                line.starts_with("reading ") && line.ends_with("--help"),
                "{line}"
            );
            assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
        }
    }
}
