//! The corpus, a short run of mutations, and deliberate faults that the target `session` has to notice.

use super::corpus;
use super::story::{self, Fault};

#[test]
fn stories_of_the_corpus_and_what_resembles_them() {
    // More of them where the build is optimised: `scripts/test.sh`, step `exploration`.
    let mutations = if cfg!(debug_assertions) {
        5_000
    } else {
        30_000
    };
    corpus::run("session", super::session, mutations);
}

#[test]
fn a_session_with_a_fault_is_noticed() {
    let corpus = corpus::inputs("session");
    let faults = [
        (Fault::ViolationIgnored, "the link is still there"),
        (Fault::OutcomeLost, "have not ended, the session has"),
        (Fault::OutcomeTwice, "ends a second time"),
        (Fault::AcceptedByItself, "acknowledged, not accepted"),
        (Fault::MessageTwice, "was delivered 2 times"),
        (Fault::WrongFlags, "the client sends a malformed packet"),
        (Fault::NoDup, "DUP is wrong"),
        (Fault::WrongAnswer, ", due: []"),
        (Fault::ByteLost, "the client sends"),
        (Fault::LossUntold, "the session goes on without a link"),
    ];
    for (fault, words) in faults {
        let results = corpus.iter().map(|input| story::play(input, fault));
        let broken: Vec<_> = results.filter_map(Result::err).collect();
        let noticed = broken.iter().any(|broken| broken.contains(words));
        assert!(
            noticed,
            "{fault:?}: not {words:?}, but {:?}",
            broken.first()
        );
    }
}
