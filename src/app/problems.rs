//! Faults of a run in words, each with its remedy: for all commands alike.
//!
//! Pure; the threads of a run and the main thread use it.

use std::fmt::Display;
use std::io;

use mqtt_connection_sharing::error::{Error, exhaustion};
use mqtt_connection_sharing::{ConnectionEvents, EventKind, Outcome, Reason};

use super::names::as_given;

/// A number and the words for it: `1 message was lost`, `2 messages were lost`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A thread or a callback of the program panicked.
pub(crate) fn panicked(who: impl Display) -> String {
    format!("{who} panicked, which is a defect of this program; report it with the log")
}

/// The system refused a thread.
pub(crate) fn not_started(who: impl Display, error: &io::Error) -> String {
    let advice = exhaustion(error).unwrap_or("let the system give this program more threads");
    format!("{who} could not be started: {error}; {advice}")
}

/// The loop ended before so many commands did.
pub(crate) fn left_unfinished(count: u64) -> String {
    let told = counted(
        count,
        "command was left unfinished",
        "commands were left unfinished",
    );
    format!("{told}; raise --ack-timeout, which the end waits for")
}

/// So many messages of QoS 2 came more than once.
pub(crate) fn came_twice(count: u64) -> String {
    let told = counted(count, "message came twice", "messages came twice");
    format!(
        "{told} with QoS 2, which the broker must not do [MQTT-4.3.3-2]; tell whoever runs it, or use \
         --qos 1"
    )
}

/// So many messages of QoS 0 found no room in the program's own inbox.
pub(crate) fn were_dropped(count: u64) -> String {
    counted(
        count,
        "message of QoS 0 was dropped",
        "messages of QoS 0 were dropped",
    )
}

/// Whether a command was given up that connections did not outlive, or that got no answer.
pub(crate) fn is_given_up(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::PerhapsDelivered(Reason::Parked | Reason::Unanswered)
    )
}

/// The line about the connection that was lost last. The loop has ended.
pub(crate) fn last_loss(mut events: ConnectionEvents) -> Option<Error> {
    let mut last = None;
    while let Ok(event) = events.try_recv() {
        if let EventKind::Lost { error, .. } = &event.kind {
            last = Some(error.clone());
        }
    }
    last
}

/// Whether the broker has said why it ends the connection: by a code of MQTT 5 that names a reason.
pub(crate) fn names_reason(loss: &Error) -> bool {
    !matches!(loss.reason_code(), None | Some(0x00 | 0x80 | 0x83))
}

/// How a connection was lost, and what to do about it, with the reason code: the `remedy` where that names no reason.
/// `None` where the broker gave no code.
pub(crate) fn explained(loss: &Error, remedy: &str) -> Option<(String, u8)> {
    let code = loss.reason_code()?;
    let advice = match names_reason(loss) {
        true => loss.advice(),
        false => remedy,
    };
    let told = format!("the connection was {}; {advice}", loss.problem());
    Some((as_given(&told).into_owned(), code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_many_have_their_words_and_each_fault_has_a_remedy() {
        assert_eq!(
            [0, 1, 2].map(were_dropped),
            [
                "0 messages of QoS 0 were dropped",
                "1 message of QoS 0 was dropped",
                "2 messages of QoS 0 were dropped"
            ]
        );
        let starts = |text: String, told: &str| {
            assert!(text.starts_with(&format!("{told}; ")), "{text}");
        };
        starts(left_unfinished(1), "1 command was left unfinished");
        let twice = "3 messages came twice with QoS 2, which the broker must not do [MQTT-4.3.3-2]";
        starts(came_twice(3), twice);
        starts(
            panicked("a thread"),
            "a thread panicked, which is a defect of this program",
        );
        let error = io::Error::other("no room");
        starts(
            not_started("it", &error),
            "it could not be started: no room",
        );
    }
}
