//! Faults of a run in words, each with its remedy: for demo and bench alike.
//!
//! Pure; the threads of a run and the main thread use it.

use std::fmt::Display;
use std::io;

use mqtt_connection_sharing::error::exhaustion;

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
