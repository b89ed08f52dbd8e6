//! The words that a command line can begin with, and what each asks for.
//!
//! Pure; the main thread uses it.

use std::ffi::OsString;

use super::settings::Task;

/// The first word of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// To run something.
    Run(Task),
    /// To print the settings of a task.
    Settings,
    /// To print the completions of a shell.
    Completions,
    /// To print the manual page of another verb.
    Man,
    /// To print the help of another verb.
    Help,
    /// To print the version.
    Version,
}

impl Verb {
    /// All verbs, as the help lists them.
    pub(super) const ALL: [Verb; 10] = [
        Verb::Run(Task::Demo),
        Verb::Run(Task::Bench),
        Verb::Run(Task::Check),
        Verb::Run(Task::Pub),
        Verb::Run(Task::Sub),
        Verb::Settings,
        Verb::Completions,
        Verb::Man,
        Verb::Help,
        Verb::Version,
    ];

    /// The verb that a word stands for.
    pub(super) fn of_word(word: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.word() == word)
    }

    /// The word that asks for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Verb::Run(task) => task.word(),
            Verb::Settings => "settings",
            Verb::Completions => "completions",
            Verb::Man => "man",
            Verb::Help => "help",
            Verb::Version => "version",
        }
    }

    /// A few words for the list of all verbs.
    pub(super) fn about(self) -> &'static str {
        match self {
            Verb::Run(Task::Demo) => {
                "three threads share one connection, every message is checked; the default"
            }
            Verb::Run(Task::Bench) => "publishes as fast as it can, and measures that",
            Verb::Run(Task::Check) => "tries each step of connecting, and says what is wrong",
            Verb::Run(Task::Pub) => "publishes a text, a file or lines, and waits for the broker",
            Verb::Run(Task::Sub) => "prints messages as they come",
            Verb::Settings => "prints the settings in force, and where each comes from",
            Verb::Completions => "prints a script that completes flags in bash, zsh or fish",
            Verb::Man => "prints the manual page of the program or of a command",
            Verb::Help => "prints the help of a command, as its flags -h and --help do",
            Verb::Version => "prints the version, as -V and --version do",
        }
    }
}

/// The words at the beginning of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The first word; `None` if it is no verb.
    pub(super) verb: Option<Verb>,
    /// The verb behind it that it is about: `help bench`, `settings bench`.
    object: Option<Verb>,
}

impl Beginning {
    /// Reads a command line, the program's name at its beginning.
    pub(super) fn of(command_line: &[OsString]) -> Self {
        let verb_at = |place: usize| command_line.get(place)?.to_str().and_then(Verb::of_word);
        let verb = verb_at(1);
        let object = verb_at(2).filter(|object| match verb {
            Some(Verb::Help) => true,
            Some(Verb::Settings) => matches!(object, Verb::Run(_)),
            _ => false,
        });
        Beginning { verb, object }
    }

    /// The verb whose help is meant, if help is asked for.
    pub(super) fn explained(self) -> Option<Verb> {
        match self.verb {
            Some(Verb::Help) => self.object,
            verb => verb,
        }
    }

    /// The task that is named.
    pub(super) fn task(self) -> Option<Task> {
        match self.object.or(self.verb) {
            Some(Verb::Run(task)) => Some(task),
            _ => None,
        }
    }

    /// The task whose flags may follow.
    pub(super) fn flags_of(self) -> Task {
        self.task().unwrap_or_default()
    }

    /// The number of its words.
    pub(super) fn length(self) -> usize {
        usize::from(self.verb.is_some()) + usize::from(self.object.is_some())
    }
}
