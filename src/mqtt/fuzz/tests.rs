//! The corpus, a short run of mutations, and deliberate faults that the targets have to notice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::{env, fs};

use bytes::{Buf, BytesMut};

use super::decoding::{self, Decode};
use super::mutation::Mutator;
use super::story::{self, Fault};
use crate::mqtt::packet::Incoming;
use crate::mqtt::v4;

/// Inputs of libFuzzer's targets, and those that once were findings.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{}: hardly any", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Tries the input; a finding is written to a file, to be replayed.
fn try_input(target: &str, body: fn(&[u8]), input: &[u8]) {
    let tried = catch_unwind(AssertUnwindSafe(|| body(input)));
    if tried.is_err() {
        let file = env::temp_dir().join(format!("fuzz-finding-{target}-{}", std::process::id()));
        fs::write(&file, input).unwrap();
        let file = file.display();
        panic!("a finding: {file}; again: scripts/fuzz.sh {target} --replay {file}");
    }
}

fn run(target: &str, body: fn(&[u8]), longest: usize, mutations: usize) {
    let mut corpus = corpus(target);
    for input in &corpus {
        try_input(target, body, input);
    }
    corpus.push(Vec::new());
    let mut mutator = Mutator::new(0x6d71_7474, longest);
    for _ in 0..mutations {
        try_input(target, body, &mutator.next(&corpus));
    }
}

#[test]
fn streams_of_the_corpus_and_what_resembles_them() {
    run("decode", super::decode, 1024, 60_000);
}

#[test]
fn stories_of_the_corpus_and_what_resembles_them() {
    // More of them where the build is optimised: `scripts/test.sh`, step `exploration`.
    let mutations = if cfg!(debug_assertions) {
        5_000
    } else {
        30_000
    };
    run("session", super::session, 1024, mutations);
}

/// The corpus shows that this decoder is wrong; says with which words.
#[track_caller]
fn is_noticed<D: Decode>(decoder: impl Fn() -> D, words: &str) {
    let results = corpus("decode");
    let results = results
        .iter()
        .map(|input| decoding::check(input, decoder()));
    let broken: Vec<_> = results.filter_map(Result::err).collect();
    let noticed = broken.iter().any(|broken| broken.contains(words));
    assert!(noticed, "not {words:?}, but {:?}", broken.first());
}

#[test]
fn a_decoder_that_takes_what_is_forbidden_is_noticed() {
    let tolerant = || {
        |buffer: &mut BytesMut, limit| {
            // QoS 0 with DUP, as if without.
            if let Some(first) = buffer.first_mut()
                && *first & 0xfe == 0x38
            {
                *first &= !8;
            }
            v4::decode(buffer, limit)
        }
    };
    is_noticed(tolerant, "where this stands: Bad");
}

#[test]
fn a_decoder_without_the_limit_is_noticed() {
    let unlimited = || |buffer: &mut BytesMut, _| v4::decode(buffer, usize::MAX);
    is_noticed(unlimited, "where this stands: Bad");
}

#[test]
fn a_decoder_that_passes_over_errors_is_noticed() {
    let blind = || {
        |buffer: &mut BytesMut, limit| match v4::decode(buffer, limit) {
            Err(_) => {
                buffer.clear();
                Ok(None)
            }
            other => other,
        }
    };
    is_noticed(blind, "where this stands: Bad");
}

#[test]
fn a_decoder_that_takes_a_byte_too_many_is_noticed() {
    let greedy = || {
        |buffer: &mut BytesMut, limit| {
            let packet = v4::decode(buffer, limit);
            if matches!(packet, Ok(Some(Incoming::PingResp))) && !buffer.is_empty() {
                buffer.advance(1);
            }
            packet
        }
    };
    is_noticed(greedy, "did not take its");
}

#[test]
fn a_decoder_that_alters_a_message_is_noticed() {
    let careless = || {
        |buffer: &mut BytesMut, limit| {
            let mut packet = v4::decode(buffer, limit);
            if let Ok(Some(Incoming::Publish { message, .. })) = &mut packet {
                message.retain = false;
            }
            packet
        }
    };
    is_noticed(careless, "was decoded as");
}

#[test]
fn a_decoder_that_depends_on_the_pieces_is_noticed() {
    // When all is there at once, nothing is wrong.
    let late = || {
        let mut at_once = None;
        move |buffer: &mut BytesMut, limit| {
            let before = buffer.len();
            let at_once = at_once.get_or_insert(before);
            match v4::decode(&mut buffer.clone(), limit) {
                // Used up: the second time begins.
                Ok(None) if before == 0 => *at_once = 0,
                Ok(Some(_)) if *at_once == 0 && before == 4 => return Ok(None),
                _ => {}
            }
            v4::decode(buffer, limit)
        }
    };
    is_noticed(late, "did not come");
    let forgetful = || {
        let mut errors = 0;
        move |buffer: &mut BytesMut, limit| match v4::decode(buffer, limit) {
            Err(error) => {
                errors += 1;
                if errors == 1 { Err(error) } else { Ok(None) }
            }
            other => other,
        }
    };
    is_noticed(forgetful, "in pieces this went unnoticed");
}

#[test]
fn a_session_with_a_fault_is_noticed() {
    let corpus = corpus("session");
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
