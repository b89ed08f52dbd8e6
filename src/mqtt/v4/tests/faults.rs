//! Decoders with a deliberate fault each. The corpus has to find every fault.

use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::{Decode, LIMITS, check, check_link};
use crate::mqtt::fuzz::corpus;
use crate::mqtt::packet::Incoming;
use crate::mqtt::v4;

#[test]
fn the_corpus_and_its_mutations_find_no_fault() {
    corpus::run("decode", super::decode, 60_000);
}

/// Checks that the corpus finds a fault in this decoder, with an error that contains `words`.
#[track_caller]
fn is_noticed<D: Decode>(decoder: impl Fn() -> D, words: &str) {
    let results = corpus::inputs("decode");
    let results = results.iter().map(|input| check(input, decoder()));
    let broken: Vec<_> = results.filter_map(Result::err).collect();
    let noticed = broken.iter().any(|broken| broken.contains(words));
    assert!(noticed, "not {words:?}, but {:?}", broken.first());
}

#[test]
fn a_link_without_the_limit_is_noticed() {
    let corpus = corpus::inputs("decode");
    let results = |limits| corpus.iter().map(move |input| check_link(input, limits));
    assert!(results(LIMITS).all(|result| result.is_ok()));
    let broken = results([usize::MAX; 4]).find_map(Result::err);
    assert!(broken.is_some_and(|broken| broken.contains("where this stands: ")));
}

#[test]
fn a_decoder_that_takes_what_is_forbidden_is_noticed() {
    let tolerant = || {
        |buffer: &mut BytesMut, limit| {
            // Takes QoS 0 with DUP as if DUP were not set.
            if let Some(first) = buffer.first_mut()
                && *first & 0xfe == 0x38
            {
                *first &= !8;
            }
            v4::decode(buffer, limit)
        }
    };
    is_noticed(tolerant, "where this stands: Err");
}

#[test]
fn a_decoder_without_the_limit_is_noticed() {
    let unlimited = || |buffer: &mut BytesMut, _| v4::decode(buffer, usize::MAX);
    is_noticed(unlimited, "where this stands: Err");
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
    is_noticed(blind, "where this stands: Err");
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
                Arc::make_mut(message).retain = false;
            }
            packet
        }
    };
    is_noticed(careless, "was decoded as");
}

#[test]
fn a_decoder_that_depends_on_the_pieces_is_noticed() {
    // This decoder is right if the whole stream comes at once.
    let late = || {
        let mut at_once = None;
        move |buffer: &mut BytesMut, limit| {
            let before = buffer.len();
            let at_once = at_once.get_or_insert(before);
            match v4::decode(&mut buffer.clone(), limit) {
                // The buffer is used up, so the second pass begins.
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
