//! Results on standard output: lines for people, one JSON object, or one for each event. Errors on standard error.
//!
//! Runs on the main thread.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use mqtt_connection_sharing::error::{Blame, Error};
use serde::Serialize;
use serde_json::Value;

use super::events::{EventOutput, OutputEvent, write};
use super::json::to_json;
use super::names::as_given;
use super::stuck::on_main_thread;
use super::values::Format;

/// Writes results in the form that was asked for.
pub(crate) struct Results {
    output: Format,
    events: Arc<EventOutput>,
    /// The report, for the last event.
    result: Option<Value>,
    /// The first error of writing.
    written: Result<(), Error>,
}

impl Results {
    pub(crate) fn new(output: Format, events: Arc<EventOutput>) -> Self {
        Results {
            output,
            events,
            result: None,
            written: Ok(()),
        }
    }

    /// A line for people while the program runs. JSON has it in the report.
    pub(crate) fn line(&mut self, line: &impl Display) {
        if self.output == Format::Text {
            self.print(&line.to_string());
        }
    }

    /// An iteration of the demo is over. Returns whether the next one can be told of.
    pub(crate) fn iteration(&mut self, run: &(impl Display + Serialize)) -> bool {
        if self.output != Format::Jsonl {
            self.line(run);
            return true;
        }
        // Its error is kept.
        if let Ok(run) = serde_json::to_value(run) {
            let _ = on_main_thread(|| self.events.tell(&OutputEvent::Iteration { run }));
        }
        self.events.broken().is_none()
    }

    /// The report at the end. Returns whether it tells of success.
    pub(crate) fn report(&mut self, report: &(impl Display + Serialize), success: bool) -> bool {
        match self.output {
            Format::Text => self.print(&report.to_string()),
            Format::Json => self.print(&to_json(report)),
            Format::Jsonl => self.keep(report),
        }
        success
    }

    /// A report that stands in the last event alone.
    pub(crate) fn keep(&mut self, report: &impl Serialize) {
        self.result = serde_json::to_value(report).ok();
    }

    /// The run is over. Returns whether everything could be written.
    pub(crate) fn end(mut self, exit_status: u8, error: Option<&Error>) -> Result<(), Error> {
        if self.output == Format::Jsonl {
            let result = self.result.take();
            let error = match error {
                Some(error) => Some(as_given(&error.to_string()).into_owned()),
                None => error_of(result.as_ref()),
            };
            let end = OutputEvent::End {
                exit_status,
                error,
                result,
            };
            // Its error is kept.
            let _ = on_main_thread(|| self.events.tell(&end));
            self.written = judged(self.events.broken().map_or(Ok(()), Err));
        }
        self.written
    }

    fn print(&mut self, line: &str) {
        let result = print_line(line);
        if self.written.is_ok() {
            self.written = result;
        }
    }
}

/// The reason that a report gives for its failure.
fn error_of(report: Option<&Value>) -> Option<String> {
    report?.get("error")?.as_str().map(str::to_owned)
}

/// Writes a line. A reader that goes away early is no error of ours; output that cannot be stored is one.
pub(crate) fn print_line(line: &str) -> Result<(), Error> {
    let line = format!("{line}\n");
    judged(on_main_thread(|| write(line.as_bytes())))
}

/// Writes help or version, with the colours of a terminal there.
pub(crate) fn print_help(help: &clap::Error) -> Result<(), Error> {
    judged(help.print())
}

/// The result of writing as an error of the program.
fn judged(written: io::Result<()>) -> Result<(), Error> {
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            log::debug!("standard output is closed: {error}");
            Ok(())
        }
        Err(error) => Err(Error::new(
            Blame::Configuration,
            "writing the result to standard output",
            error.to_string(),
            "check where it is redirected to",
        )),
    }
}

/// Writes an error under the names that the person knows.
pub(crate) fn print_error(error: &impl Display) {
    // Without a standard error there is only the exit status.
    let _ = writeln!(io::stderr(), "error: {}", as_given(&error.to_string()));
}
