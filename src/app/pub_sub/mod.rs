//! The commands `pub` and `sub`: messages of a script, over one shared connection.
//!
//! In both the main thread runs the loop. `publish.rs` has the threads of `pub`, and `input.rs` the one that reads its
//! messages. `subscribe.rs` has the thread of `sub`, `form.rs` the forms in which it writes, and `pipe.rs` notices that its
//! reader has gone. `report.rs` tells the results.

pub(crate) mod form;
mod input;
mod pipe;
mod publish;
mod report;
pub(crate) mod settings;
mod subscribe;

pub(crate) use publish::publish;
pub(crate) use subscribe::subscribe;

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mqtt_connection_sharing::Outcome;
use mqtt_connection_sharing::error::{Blame, Error, exhaustion};

use crate::app::answers::{self, Attempted};
use crate::app::names::as_given;
use crate::app::problems::{explained, is_given_up};

/// Time for what is in flight to finish after an interrupt or a failure.
const GRACE: Duration = Duration::from_secs(5);

const FAILED: u8 = 1;
const WRONG: u8 = 2;
const REFUSED: u8 = 4;
const TOO_LATE: u8 = 5;

/// The reason why a run ends early: a line for people, the exit status, and the broker's reason code if it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EarlyEnd {
    text: String,
    /// The remedy for a command that was given up, unless the broker says why it ends connections.
    remedy: &'static str,
    exit_status: u8,
    reason_code: Option<u8>,
}

impl EarlyEnd {
    fn new(exit_status: u8, text: impl Into<String>) -> Self {
        let text = as_given(&text.into()).into_owned();
        EarlyEnd {
            text,
            remedy: "",
            exit_status,
            reason_code: None,
        }
    }

    /// A command that was not delivered, by its name.
    fn of_outcome(command: &str, asked: Attempted, outcome: &Outcome) -> Self {
        let told = answers::told(asked, outcome);
        let (exit_status, remedy) = match asked {
            // Brokers that do not allow a command close the connection, or do not answer.
            Attempted::Publish(_) if is_given_up(outcome) => (
                REFUSED,
                "compare its topic and its size with what the broker allows",
            ),
            Attempted::Subscribe(_) if is_given_up(outcome) => {
                (REFUSED, "compare the filters with what the broker allows")
            }
            _ if answers::is_refused(outcome) => (REFUSED, ""),
            _ => (FAILED, ""),
        };
        EarlyEnd {
            remedy,
            reason_code: answers::reason_code(outcome),
            ..EarlyEnd::new(exit_status, format!("{command} was {told}"))
        }
    }

    /// The whole line. A command that was given up ends with what the broker said when it ended the last connection.
    fn told(mut self, last_loss: Option<&Error>) -> Self {
        if self.remedy.is_empty() {
            return self;
        }
        let remedy = std::mem::take(&mut self.remedy);
        self.text.push_str("; ");
        match last_loss.and_then(|loss| explained(loss, remedy)) {
            Some((loss, code)) => {
                self.text.push_str(&loss);
                self.reason_code = Some(code);
            }
            None => self.text.push_str(remedy),
        }
        self
    }

    fn of_error(error: &Error) -> Self {
        EarlyEnd {
            reason_code: error.reason_code(),
            ..EarlyEnd::new(error.exit_status(), error.to_string())
        }
    }
}

/// Starts a thread.
fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|error: io::Error| {
        Error::new(
            Blame::Configuration,
            format!("starting the thread {name}"),
            error.to_string(),
            exhaustion(&error).unwrap_or("free some of the system's threads or memory"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::answers::MadeBy;
    use mqtt_connection_sharing::Reason;

    #[test]
    fn a_command_that_is_given_up_has_a_remedy() {
        for reason in [Reason::Parked, Reason::Unanswered] {
            let outcome = Outcome::PerhapsDelivered(reason);
            for (asked, remedy) in [
                (Attempted::Publish(MadeBy::Caller), "its topic and its size"),
                (Attempted::Subscribe(MadeBy::Caller), "the filters"),
            ] {
                let end = EarlyEnd::of_outcome("it", asked, &outcome).told(None);
                let text =
                    format!("it was {outcome}; compare {remedy} with what the broker allows");
                assert_eq!(end, EarlyEnd::new(REFUSED, text));
            }
        }
        let lost = Outcome::PerhapsDelivered(Reason::LinkLost);
        let end = EarlyEnd::of_outcome("it", Attempted::Publish(MadeBy::Caller), &lost);
        assert_eq!(end, EarlyEnd::new(FAILED, format!("it was {lost}")));
    }
}
