//! Completions for bash, zsh and fish: each command with its flags, and the words and files that a flag takes.
//!
//! Made of the same declarations as the help. Pure; the main thread uses it.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::{Shell, generate};
use mqtt_connection_sharing::error::Error;

use super::help::{PROGRAM, command_of};
use super::settings::Task;
use super::sources::{Raw, allowed};
use super::values::wrong;
use super::verbs::Verb;

pub(super) const COMPLETIONS_HELP: &str = "\
Prints a script that completes commands, flags, words and files of this program in a shell.

Usage: mqtt-connection-sharing completions bash|zsh|fish

Each script goes where its shell looks for it. scripts/shell-files.sh writes all of them.

Examples:
  For bash, with the package bash-completion:
    mqtt-connection-sharing completions bash \\
      > ~/.local/share/bash-completion/completions/mqtt-connection-sharing

  For zsh, in a folder that is in $fpath before compinit runs:
    mqtt-connection-sharing completions zsh > ~/.zfunc/_mqtt-connection-sharing

  For fish:
    mqtt-connection-sharing completions fish \\
      > ~/.config/fish/completions/mqtt-connection-sharing.fish";

/// The shells that there is a script for.
pub(super) const SHELLS: [(&str, Shell); 3] = [
    ("bash", Shell::Bash),
    ("zsh", Shell::Zsh),
    ("fish", Shell::Fish),
];

/// The script for a shell.
///
/// # Errors
/// There is no such shell, or none is named.
pub(super) fn script(words: &[&str]) -> Result<String, Error> {
    let found = match words {
        [word] => SHELLS.into_iter().find(|(name, _)| name == word),
        _ => None,
    };
    let Some((_, shell)) = found else {
        return Err(wrong(
            "reading the command line",
            "the command completions takes the name of one shell",
            "write: mqtt-connection-sharing completions bash, zsh or fish; see completions --help",
        ));
    };
    let mut script = Vec::new();
    generate(shell, &mut all_commands(), PROGRAM, &mut script);
    let script = String::from_utf8_lossy(&script);
    // clap_complete 4.6 gives the parts of bash's script two names where a program's name has hyphens, so that no
    // command would be found.
    let (wrong, right) = (
        PROGRAM.replace('-', "__subcmd__"),
        PROGRAM.replace('-', "__"),
    );
    Ok(script.trim_end().replace(&wrong, &right))
}

/// The program as the shells see it: its commands below it, each with the flags that its help shows.
fn all_commands() -> Command {
    with_flags(Command::new(PROGRAM), Task::Demo).subcommands(Verb::ALL.map(|verb| {
        let command = Command::new(verb.word()).about(verb.about());
        match verb {
            Verb::Run(task) => with_flags(command, task),
            Verb::Settings => with_flags(command, Task::Demo)
                .subcommands(Task::ALL.map(|task| with_flags(Command::new(task.word()), task))),
            Verb::Completions => {
                let names = SHELLS.map(|(name, _)| name);
                command.arg(Arg::new("shell").value_parser(PossibleValuesParser::new(names)))
            }
            Verb::Help | Verb::Man => {
                let words = Verb::ALL.map(Verb::word);
                command.arg(Arg::new("command").value_parser(PossibleValuesParser::new(words)))
            }
            Verb::Version => command,
        }
    }))
}

/// The command with the flags of a task, and no other.
fn with_flags(command: Command, task: Task) -> Command {
    let flags = command_of(task);
    let shown = flags.get_arguments().filter(|arg| !arg.is_hide_set());
    command
        .disable_help_subcommand(true)
        .args(shown.cloned().map(|arg| with_values(arg, task)))
}

/// The flag with the values that a shell offers for it.
fn with_values(arg: Arg, task: Task) -> Arg {
    if arg.is_require_equals_set() {
        // A switch takes its value in the same word, as in --local=false, and is given without one.
        return arg
            .num_args(0)
            .require_equals(false)
            .action(ArgAction::SetTrue);
    }
    let key = arg.get_long().unwrap_or_default();
    let mut words = words(key);
    if (task, key) == (Task::Sub, "output") {
        // That is one object at the end.
        words.retain(|word| word != "json");
    }
    let is_file = arg
        .get_value_names()
        .is_some_and(|names| names[0] == "FILE");
    match (is_file, words.is_empty()) {
        (true, _) => arg.value_hint(ValueHint::FilePath),
        (false, true) if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        (false, true) => arg,
        (false, false) => arg.value_parser(PossibleValuesParser::new(words)),
    }
}

/// The words that a setting can be, as its type lists them; none if it can be more than words.
fn words(key: &str) -> Vec<String> {
    let form = allowed(key);
    let words: Vec<&str> = form
        .split(", ")
        .flat_map(|part| part.split(" or "))
        .collect();
    let is_value = |word: &&str| {
        let raw = Raw::Texts(vec![word.into()]);
        !word.contains(' ') && raw.judge(key).is_ok()
    };
    match words.len() > 1 && words.iter().all(is_value) {
        true => words.into_iter().map(str::to_owned).collect(),
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::settings::keys;

    #[test]
    fn settings_that_are_words_have_them_offered() {
        let with_words = keys().into_iter().filter(|key| !words(key).is_empty());
        let with_words: Vec<String> = with_words.collect();
        for (key, expected) in [
            ("mode", "async sync"),
            ("qos", "0 1 2"),
            ("will-qos", "0 1 2"),
            ("view", "auto off"),
            ("output", "text json jsonl"),
            ("on-session-lost", "republish fail"),
            ("on-too-large", "skip close"),
        ] {
            assert_eq!(words(key).join(" "), expected, "{key}");
            assert!(with_words.iter().any(|known| known == key), "{key}");
        }
        for key in [
            "endpoint",
            "topic-prefix",
            "keep-alive",
            "message-rate",
            "threads",
            "alpn",
        ] {
            assert_eq!(words(key), [""; 0], "{key}");
        }
    }

    /// The part of a script between two texts.
    fn between<'a>(script: &'a str, from: &str, to: &str) -> &'a str {
        let (_, after) = script.split_once(from).unwrap_or_else(|| panic!("{from}"));
        after.split(to).next().unwrap()
    }

    #[test]
    fn each_script_offers_each_flag_of_each_command_and_no_other() {
        let (bash, zsh, fish) = (script(&["bash"]), script(&["zsh"]), script(&["fish"]));
        let (bash, zsh, fish) = (bash.unwrap(), zsh.unwrap(), fish.unwrap());
        let mut offered = 0;
        for task in Task::ALL {
            let word = task.word();
            // Each command's own part of the script.
            let of_bash = between(
                &bash,
                &format!("\n        mqtt__connection__sharing__subcmd__{word})"),
                ";;",
            );
            let of_zsh = between(&zsh, &format!("({word})\n"), ";;");
            let own = format!("__fish_mqtt_connection_sharing_using_subcommand {word}\"");
            let of_fish: Vec<&str> = fish.lines().filter(|line| line.contains(&own)).collect();
            let of_fish = of_fish.join("\n");
            for key in keys() {
                let takes = task.takes(&key);
                let flag = format!("--{key}");
                let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
                let names = |text: &str| text.split(is_end).any(|part| part == flag);
                assert_eq!(names(of_bash), takes, "bash {word} {flag}");
                assert_eq!(names(of_zsh), takes, "zsh {word} {flag}");
                let long = format!(" -l {key} ");
                assert_eq!(of_fish.contains(&long), takes, "fish {word} {flag}");
                offered += usize::from(takes);
            }
        }
        assert!(offered > 100, "{offered}");
        for verb in Verb::ALL {
            for text in [&bash, &zsh, &fish] {
                assert!(text.contains(verb.word()), "{}", verb.word());
            }
        }
    }

    #[test]
    fn a_shell_that_is_none_of_them_is_refused() {
        for words in [&[][..], &["tcsh"], &["bash", "zsh"]] {
            let error = script(words).unwrap_err().to_string();
            assert!(error.contains("completions bash, zsh or fish"), "{error}");
        }
    }
}
