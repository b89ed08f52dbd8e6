//! The manual pages: one for the program, and one for each command.
//!
//! Made of the texts of the help. Pure; the main thread uses it.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use mqtt_connection_sharing::error::Error;

use super::completions::COMPLETIONS_HELP;
use super::help::{PROGRAM, SETTINGS_HELP, command_of, front_page};
use super::values::wrong;
use super::verbs::Verb;

pub(super) const MAN_HELP: &str = "\
Prints the manual page of the program, or of one of its commands, in the form that man reads.

Usage: mqtt-connection-sharing man [COMMAND]

The pages are called mqtt-connection-sharing, mqtt-connection-sharing-bench and so on.
scripts/shell-files.sh writes all of them to where man looks.

Examples:
  Read a page that is not installed:
    mqtt-connection-sharing man bench | man -l -";

const HELP_HELP: &str = "\
Prints the help of a command, or the list of all commands.

Usage: mqtt-connection-sharing help [COMMAND]";

const VERSION_HELP: &str = "\
Prints the name of the program and its version.

Usage: mqtt-connection-sharing version";

/// The day of the last change of these pages, which the form asks for.
const DATE: &str = "2026-11-28";

/// The page for these words: of the program, or of the command that is named.
///
/// # Errors
/// The words are no command.
pub(super) fn page(words: &[&str]) -> Result<String, Error> {
    match words {
        [] => Ok(program_page()),
        [word] if let Some(verb) = Verb::of_word(word) => Ok(command_page(verb)),
        _ => Err(wrong(
            "reading the command line",
            "the command man takes the name of one command, or nothing",
            "see --help for the commands",
        )),
    }
}

fn program_page() -> String {
    let command =
        Command::new(PROGRAM).about("many threads share one TLS connection to an MQTT broker");
    let others = Verb::ALL.map(name_of);
    page_of(command, &front_page(), &others)
}

fn command_page(verb: Verb) -> String {
    let name = name_of(verb);
    let others = [PROGRAM.to_owned()];
    let text = match verb {
        Verb::Run(task) => {
            let command = command_of(task);
            let usage = command.clone().render_usage().to_string();
            let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
            let about = command.get_about().map(ToString::to_string);
            let after = command.get_after_help().map(ToString::to_string);
            let text = format!(
                "{}\n\n{usage}\n\n{}",
                about.unwrap_or_default(),
                after.unwrap_or_default()
            );
            let options = Command::new(name).about(verb.about()).args(shown.cloned());
            return page_of(options, &text, &others);
        }
        Verb::Settings => SETTINGS_HELP,
        Verb::Completions => COMPLETIONS_HELP,
        Verb::Man => MAN_HELP,
        Verb::Help => HELP_HELP,
        Verb::Version => VERSION_HELP,
    };
    let command = Command::new(name)
        .about(verb.about())
        .disable_help_flag(true);
    page_of(command, text, &others)
}

/// The name of a command's page.
fn name_of(verb: Verb) -> String {
    format!("{PROGRAM}-{}", verb.word())
}

/// A page: the options of the command, and around them the sections of a help text.
fn page_of(command: Command, text: &str, others: &[String]) -> String {
    let has_options = command.get_arguments().next().is_some();
    let man = Man::new(command)
        .date(DATE)
        .source(format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let mut page = Vec::new();
    let (usage, description, sections) = take_apart(text);
    let mut written = man.render_title(&mut page);
    written = written.and_then(|()| man.render_name_section(&mut page));
    let mut before = Roff::new();
    before.control("SH", ["SYNOPSIS"]);
    before.text([bold(PROGRAM), roman(usage.trim_start_matches(PROGRAM))]);
    before.control("SH", ["DESCRIPTION"]);
    for (number, paragraph) in description.iter().enumerate() {
        if number > 0 {
            before.control("PP", []);
        }
        before.text([roman(paragraph)]);
    }
    written = written.and_then(|()| before.to_writer(&mut page));
    if has_options {
        written = written.and_then(|()| man.render_options_section(&mut page));
    }
    let mut after = Roff::new();
    for (heading, lines) in sections {
        after.control("SH", [heading.to_uppercase().as_str()]);
        after.control("EX", []);
        for line in lines {
            after.text([roman(line)]);
        }
        after.control("EE", []);
    }
    after.control("SH", ["SEE ALSO"]);
    for (number, other) in others.iter().enumerate() {
        let end = if number + 1 < others.len() { "," } else { "" };
        after.text([bold(other), roman(format!("(1){end}"))]);
    }
    written = written.and_then(|()| after.to_writer(&mut page));
    // Writing into memory does not fail.
    debug_assert!(written.is_ok());
    String::from_utf8_lossy(&page).trim_end().to_owned()
}

type Section<'a> = (&'a str, Vec<&'a str>);

/// The parts of a help text: the usage, the paragraphs before the first heading, each on one line, and the sections.
fn take_apart(text: &str) -> (&str, Vec<String>, Vec<Section<'_>>) {
    let mut usage = "";
    let mut paragraphs = vec![String::new()];
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines() {
        let heading = line.strip_suffix(':').filter(|line| !line.starts_with(' '));
        if let Some(given) = line.strip_prefix("Usage: ") {
            usage = given;
        } else if let Some(heading) = heading {
            // The rest says what its command line is about.
            let heading = heading.split(',').next().unwrap_or(heading);
            sections.push((heading, Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line.strip_prefix("  ").unwrap_or(line));
        } else if line.is_empty() {
            paragraphs.push(String::new());
        } else if let Some(paragraph) = paragraphs.last_mut() {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(line);
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    for (_, lines) in &mut sections {
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
    }
    (usage, paragraphs, sections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::settings::{Task, keys};

    #[test]
    fn each_command_has_a_page_with_its_flags_and_the_sections_of_its_help() {
        for task in Task::ALL {
            let page = page(&[task.word()]).unwrap();
            for key in keys() {
                let flag = format!("\n\\fB\\-\\-{}\\fR", key.replace('-', "\\-"));
                let names = page.matches(&flag).count();
                assert_eq!(
                    names,
                    usize::from(task.takes(&key)),
                    "{} {key}",
                    task.word()
                );
            }
            for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "CONNECTION", "EXAMPLES"] {
                assert!(
                    page.contains(&format!("\n.SH {section}\n")),
                    "{section}: {page}"
                );
            }
            assert!(page.contains("\n.SH \"EXIT STATUS\"\n"), "{page}");
            let synopsis = format!("\\fR {} [OPTIONS]", task.word());
            assert!(page.contains(&synopsis), "{page}");
        }
        for verb in Verb::ALL {
            let page = page(&[verb.word()]).unwrap();
            assert!(page.contains("\n.SH \"SEE ALSO\"\n"), "{page}");
        }
    }

    #[test]
    fn the_page_of_the_program_names_each_command_and_its_page() {
        let page = page(&[]).unwrap();
        for verb in Verb::ALL {
            assert!(page.contains(&format!("\n{} ", verb.word())), "{page}");
            let other = name_of(verb).replace('-', "\\-");
            assert!(page.contains(&other), "{page}");
        }
    }

    #[test]
    fn a_word_that_is_no_command_is_refused() {
        for words in [&["bensh"][..], &["bench", "check"]] {
            let error = page(words).unwrap_err().to_string();
            assert!(error.contains("one command, or nothing"), "{error}");
        }
    }
}
