//! Results on standard output: lines for people or one JSON object. Errors on standard error.
//!
//! Runs on the main thread.

use std::fmt::Display;
use std::io::{self, Write};

use mqtt_connection_sharing::error::{Blame, Error};
use serde::Serialize;

use super::names::as_given;
use super::values::Format;
use super::view::screen::above;

/// The version of the JSON's form. A change that is no addition raises it. See `config/output.schema.json`.
pub(crate) const SCHEMA: u32 = 1;

/// Writes results in the form that was asked for.
pub(crate) struct Results {
    output: Format,
    /// The first error of writing.
    written: Result<(), Error>,
}

impl Results {
    pub(crate) fn new(output: Format) -> Self {
        Results {
            output,
            written: Ok(()),
        }
    }

    /// A line for people while the program runs. JSON has it in the report.
    pub(crate) fn line(&mut self, line: &impl Display) {
        if self.output == Format::Text {
            self.print(&line.to_string());
        }
    }

    /// The report at the end. Returns whether it tells of success.
    pub(crate) fn report(&mut self, report: &(impl Display + Serialize), success: bool) -> bool {
        self.print(&match self.output {
            Format::Text => report.to_string(),
            Format::Json => to_json(report),
        });
        success
    }

    /// Whether everything could be written.
    pub(crate) fn written(self) -> Result<(), Error> {
        self.written
    }

    fn print(&mut self, line: &str) {
        let result = print_line(line);
        if self.written.is_ok() {
            self.written = result;
        }
    }
}

/// One JSON object on one line.
pub(crate) fn to_json(report: &impl Serialize) -> String {
    // Finite numbers, booleans and strings under string keys cannot fail to become JSON.
    serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

/// Writes a line. A reader that goes away early is no error of ours; output that cannot be stored is one.
fn print_line(line: &str) -> Result<(), Error> {
    let written = above(|| {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    });
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
pub(crate) fn print_error(error: &Error) {
    // Without a standard error there is only the exit status.
    let _ = writeln!(io::stderr(), "error: {}", as_given(&error.to_string()));
}
