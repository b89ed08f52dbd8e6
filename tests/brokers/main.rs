//! MQTT 5 with real brokers: one set of verdicts for each of them, and each limit that a Mosquitto can set.
//!
//! `cargo test --test brokers` judges Mosquitto over mutual TLS; with `--features local-broker` the embedded broker, too.
//! `scripts/brokers.sh` installs two brokers more, judges all of them, and shows the verdicts side by side. A verdict that
//! differs from the standard's has to stand in that broker's list (`peers.rs`); any other one is a failure.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod negotiated;
mod party;
mod peers;
mod subscriptions;
mod verdicts;
mod wills;

use peers::Peer;

#[test]
fn mosquitto() {
    judge(&Peer::mosquitto());
}

#[cfg(feature = "local-broker")]
#[test]
fn embedded() {
    judge(&Peer::embedded());
}

#[test]
#[ignore = "scripts/brokers.sh installs it and runs this"]
fn ejabberd() {
    judge(&Peer::ejabberd());
}

#[test]
#[ignore = "scripts/brokers.sh builds it and runs this"]
fn rumqttd() {
    judge(&Peer::rumqttd());
}

/// Prints each verdict on this broker.
///
/// # Panics
/// When one is not as documented.
#[track_caller]
fn judge(peer: &Peer) {
    let mut wrong = Vec::new();
    for verdict in verdicts::ALL {
        let word = verdict.of(peer);
        let expected = peer.expected(verdict);
        println!("{}\t{}\t{word}", peer.name, verdict.subject);
        if word != expected {
            wrong.push(format!(
                "{}: {word:?} in place of {expected:?}",
                verdict.subject
            ));
        }
    }
    let known = |subject: &str| {
        verdicts::ALL
            .iter()
            .any(|verdict| verdict.subject == subject)
    };
    let stale = peer.differs.iter().filter(|(subject, _)| !known(subject));
    wrong.extend(stale.map(|(subject, _)| format!("there is no verdict on {subject:?}")));
    assert!(wrong.is_empty(), "{}:\n{}", peer.name, wrong.join("\n"));
}
