//! The fuzz target `session`: bytes from an enemy stand for a story of a link, a server that may do anything, and
//! a session between.
//!
//! An input is two bytes of options and then steps: the low half of a byte says what happens, the high half how,
//! and some steps take more bytes. The driver does as the loop does: bytes arrive in pieces and are decoded, a
//! violation or a `Close` closes the link, the link takes what it likes of the output. In the end either
//! everything is abandoned, or a server that does what the standard says takes over, and everything comes to
//! rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::super::rules::server::{answer, level};
use super::super::rules::{Fault, Harness, Rule};
use crate::mqtt::packet::{Filter, Incoming, Message, PacketId, QoS};
use crate::mqtt::rate::RateLimits;
use crate::mqtt::session::{OnSessionLost, SessionOptions};
use crate::mqtt::v4::tests::wire;
use crate::mqtt::v4::{Decoder, OnTooLarge};

/// Largest packet that is taken: small, so that inputs are above it soon.
const LIMIT: usize = 512;

const INFLIGHT: [u16; 4] = [1, 3, 8, 20];

/// Numbers of identifiers; the smallest have to do for `INFLIGHT` as well.
const IDENTIFIERS: [u16; 4] = [4, 8, 24, u16::MAX];

/// Payloads to publish, the two bytes of the token included.
const PAYLOADS: [usize; 6] = [2, 2, 2, 10, 300, 40_000];

const TOPICS: [&str; 4] = ["t", "a/b", "$x/y", "\u{e4}"];

#[rustfmt::skip]
const FILTERS: [&str; 24] = [
    "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "a/+", "a/#", "+", "#", "$share/g/a",
    "b/c", "b/+/d", "/", "//", "g0", "g1", "g2", "g3", "g4",
];

const WAITS: [u64; 16] = [
    0, 1, 10, 100, 500, 1_000, 2_000, 4_900, 5_000, 9_000, 10_000, 20_000, 30_000, 60_000, 90_000,
    600_000,
];

struct Story<'a> {
    input: &'a [u8],
    clean_session: bool,
    harness: Harness,
    decoder: Decoder,
    /// Bytes that arrived and are not decoded yet.
    received: BytesMut,
    /// Bytes that arrived since the last packet ended, those that were read away included.
    raw: Vec<u8>,
    /// Whether a packet came on this link.
    has_begun: bool,
    /// Answers that a server that does as it should still owes.
    answers: Vec<Incoming>,
}

/// Plays a story with a session.
///
/// # Panics
/// When the session breaks a rule: that is a finding.
pub fn session(input: &[u8]) {
    if let Err(broken) = play(input, Fault::None) {
        panic!("{broken}");
    }
}

/// Plays the story that the input stands for.
///
/// # Errors
/// The rule that was broken.
fn play(input: &[u8], fault: Fault) -> Rule {
    let [first, second, steps @ ..] = input else {
        return Ok(());
    };
    let mut story = Story::new(*first, *second, steps, fault);
    while !story.input.is_empty() {
        story.step()?;
    }
    if first & 0x80 != 0 {
        story.settle(second & 0x80 != 0)?;
    }
    story.harness.abandon()
}

impl<'a> Story<'a> {
    fn new(first: u8, second: u8, input: &'a [u8], fault: Fault) -> Self {
        let options = SessionOptions {
            max_inflight: INFLIGHT[usize::from(first & 3)],
            max_inflight_qos2: INFLIGHT[usize::from(first & 3)].div_ceil(2),
            identifiers: IDENTIFIERS[usize::from(first >> 2 & 3)],
            on_session_lost: match first & 0x10 {
                0 => OnSessionLost::Republish,
                _ => OnSessionLost::Fail,
            },
            keep_alive: match first & 0x40 {
                0 => Duration::from_secs(10),
                _ => Duration::ZERO,
            },
            ack_timeout: Duration::from_secs(20),
            max_waiting_bytes: usize::MAX,
            rate: RateLimits::default(),
            suspected_after: match second & 3 {
                0 => u32::MAX,
                few => u32::from(few),
            },
            given_up_after: 2,
            first_identifier: match second & 0x0c {
                0 => 0,
                other => u16::MAX - u16::from(other),
            },
        };
        let clean_session = first & 0x20 != 0;
        Story {
            input,
            clean_session,
            harness: Harness::new(options, clean_session, fault, Instant::now()),
            decoder: Decoder::new(LIMIT, OnTooLarge::Skip),
            received: BytesMut::new(),
            raw: Vec::new(),
            has_begun: false,
            answers: Vec::new(),
        }
    }

    /// The next byte of the input; 0 behind its end.
    fn take(&mut self) -> u8 {
        let Some((first, rest)) = self.input.split_first() else {
            return 0;
        };
        self.input = rest;
        *first
    }

    fn take_slice(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.input.split_at(length.min(self.input.len()));
        self.input = rest;
        taken
    }

    fn step(&mut self) -> Rule {
        let byte = self.take();
        let how = byte >> 4;
        match byte & 0x0f {
            0 => {
                let topic = TOPICS[usize::from(self.harness.record.next_token() % 4)];
                self.harness
                    .publish(topic, how % 3, PAYLOADS[usize::from(how / 3)])
            }
            1 | 2 => {
                let which = self.take();
                let first = usize::from(which & 31);
                let names = (0..=usize::from(how)).map(|n| FILTERS[(first + n) % FILTERS.len()]);
                if byte & 0x0f == 1 {
                    let qos = level(which / 32 % 3);
                    self.harness
                        .subscribe(names.map(|name| Filter::new(name, qos)).collect())
                } else {
                    self.harness.unsubscribe(names.map(str::to_owned).collect())
                }
            }
            3 => self.harness.transmit(match how {
                15 => usize::MAX,
                few => 1 + 3 * usize::from(few),
            }),
            4 => match self.harness.unaccepted.len() {
                0 => Ok(()),
                some if how < 8 => self.harness.accept(usize::from(how) % some),
                some => self.harness.accept_early(usize::from(how) % some),
            },
            5 => self.link_up(),
            6 => self.harness.lose_link(),
            7 => self
                .harness
                .wait(Duration::from_millis(WAITS[usize::from(how)])),
            8 => {
                let bytes = self.take_slice(usize::from(how) + 1);
                self.arrive(bytes, usize::MAX)
            }
            9 => {
                let length = usize::from(self.take());
                let bytes = self.take_slice(length);
                self.arrive(bytes, usize::from(how) + 1)
            }
            10 => self.answer(usize::from(how & 7), how & 8 != 0, true),
            11 => {
                let code = if how < 10 { 0 } else { how - 9 };
                self.arrive(&[0x20, 2, how & 1, code], usize::MAX)
            }
            12 => {
                let which = self.take();
                self.serve_message(how, which)
            }
            13 => {
                let id = self.take();
                self.serve_acknowledgment(how, id)
            }
            14 => self.other(how),
            _ => {
                self.harness.transmit(usize::MAX)?;
                self.answer(0, false, true)
            }
        }
    }

    fn other(&mut self, how: u8) -> Rule {
        match how {
            0..4 => self.harness.ping(),
            4..8 => self.harness.disconnect(),
            8..12 => {
                // Exactly when the next timer rings.
                let now = self.harness.now;
                let due = self.harness.session.next_timer().unwrap_or(now);
                self.harness.wait(due.saturating_duration_since(now))
            }
            _ => {
                for _ in 0..32 {
                    self.answer(0, false, true)?;
                }
                self.accept_all()
            }
        }
    }

    fn accept_all(&mut self) -> Rule {
        while !self.harness.unaccepted.is_empty() {
            self.harness.accept(0)?;
        }
        Ok(())
    }

    fn link_up(&mut self) -> Rule {
        if self.harness.linked {
            return Ok(());
        }
        self.decoder.reset();
        self.received.clear();
        self.raw.clear();
        self.has_begun = false;
        self.answers.clear();
        self.harness.link_up()
    }

    /// Bytes come from the server, in pieces of this length.
    fn arrive(&mut self, bytes: &[u8], piece: usize) -> Rule {
        for piece in bytes.chunks(piece) {
            if !self.harness.linked || self.harness.session.is_behind_with_acks() {
                return Ok(());
            }
            self.received.extend_from_slice(piece);
            self.raw.extend_from_slice(piece);
            self.read()?;
        }
        Ok(())
    }

    /// Decodes what is there and hands it to the session, until the link is closed or more is needed.
    fn read(&mut self) -> Rule {
        while self.harness.linked {
            let expected = match self.has_begun {
                true => wire::from_server_without_payload(&self.raw, LIMIT),
                false => wire::from_server(&self.raw, LIMIT),
            };
            let violation = match (expected, self.decoder.decode(&mut self.received)) {
                (Ok(None), Ok(None)) => return self.wait_for_more(),
                (Err(_), Err(_)) => true,
                (Ok(Some((_, length))), Ok(Some(packet))) => {
                    self.has_begun = true;
                    self.raw.drain(..length);
                    self.harness.receive(packet)?
                }
                (expected, got) => return Err(format!("{got:?} where this stands: {expected:?}")),
            };
            if violation {
                self.harness.close_after_violation()?;
            }
        }
        Ok(())
    }

    /// A packet has not ended.
    fn wait_for_more(&mut self) -> Rule {
        let (unfinished, kept) = (self.raw.len(), self.received.len());
        if self.decoder.skipped() + kept != unfinished {
            return Err(format!("{kept} bytes are kept of {unfinished}"));
        }
        if unfinished > 0 {
            self.harness.receive_part(unfinished);
        }
        // The longest topic, and what stands around it.
        let most = match self.raw.first() {
            Some(0x30..=0x3f) if self.has_begun => usize::from(u16::MAX) + 9,
            _ => LIMIT,
        };
        match kept < most && (self.decoder.skipped() == 0 || kept == 0) {
            true => Ok(()),
            false => Err(format!("{kept} bytes are kept")),
        }
    }

    /// Answers what the client sent, as a server should; `refuse` where it may.
    fn answer(&mut self, which: usize, refuse: bool, session_present: bool) -> Rule {
        for sent in self.harness.sent.drain(..) {
            let (packet, _) = wire::from_client(&sent)?;
            self.answers.extend(answer(&packet));
        }
        if !self.harness.linked || self.answers.is_empty() {
            return Ok(());
        }
        let mut answer = self.answers.remove(which % self.answers.len());
        match &mut answer {
            Incoming::ConnAck {
                session_present: present,
                ..
            } => *present = session_present && !refuse && !self.clean_session,
            Incoming::SubAck { granted, .. } if refuse => granted.fill(None),
            _ => {}
        }
        self.serve(&answer)
    }

    fn serve_message(&mut self, how: u8, which: u8) -> Rule {
        let qos = level(how % 3);
        let payload = vec![which >> 4 & 3; usize::from(which >> 4 & 3)];
        let message = Message {
            retain: how & 4 != 0,
            dup: how & 8 != 0 && qos != QoS::AtMostOnce,
            ..Message::new(TOPICS[usize::from(which >> 6)], qos, payload)
        };
        let id = match qos {
            QoS::AtMostOnce => None,
            _ => PacketId::new(u16::from(which & 0x0f) + 1),
        };
        let message = Arc::new(message);
        self.serve(&Incoming::Publish { id, message })
    }

    fn serve(&mut self, packet: &Incoming) -> Rule {
        self.arrive(&wire::server_bytes(packet), usize::MAX)
    }

    /// An acknowledgment that may answer nothing, or have the identifier 0.
    fn serve_acknowledgment(&mut self, how: u8, id: u8) -> Rule {
        let bytes: &[u8] = match how & 7 {
            0 => &[0x40, 2, 0, id],
            1 => &[0x50, 2, 0, id],
            2 => &[0x62, 2, 0, id],
            3 => &[0x70, 2, 0, id],
            4 => &[0xb0, 2, 0, id],
            5 => &[0x90, 3, 0, id, how >> 3],
            6 => &[0x90, 4, 0, id, 1, 0x80],
            _ => &[0xd0, 0],
        };
        self.arrive(bytes, usize::MAX)
    }

    /// From here on nothing goes wrong: it comes to rest, with everything ended and acknowledged.
    fn settle(&mut self, session_present: bool) -> Rule {
        self.harness.lose_link()?;
        self.link_up()?;
        for _ in 0..100_000 {
            self.harness.transmit(usize::MAX)?;
            self.accept_all()?;
            if !self.harness.sent.is_empty() || !self.answers.is_empty() {
                self.answer(0, false, session_present)?;
            } else if self.harness.session.is_trying() && self.harness.pass_timer()? {
                // A trial link stands idle for some time.
            } else if self.harness.session.output().is_empty() {
                self.harness.record.is_settled()?;
                return match self.harness.session.wants_commands() {
                    true => Ok(()),
                    false => Err("it is at rest and takes no command".to_owned()),
                };
            }
        }
        Err("it does not come to rest".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::rules::{FAULTS, needs_suspects, needs_version5};
    use super::*;
    use crate::mqtt::fuzz::corpus;

    #[test]
    fn stories_of_the_corpus_and_mutations_of_them() {
        // More of them where the build is optimised: `scripts/test.sh`, step `exploration`.
        let mutations = if cfg!(debug_assertions) {
            5_000
        } else {
            30_000
        };
        corpus::run("session", session, mutations);
    }

    #[test]
    fn the_corpus_has_messages_that_are_read_away() {
        let told = corpus::inputs("session").into_iter().filter(|input| {
            let [first, second, steps @ ..] = &input[..] else {
                return false;
            };
            let mut story = Story::new(*first, *second, steps, Fault::None);
            let mut told = false;
            while !story.input.is_empty() {
                story.step().unwrap();
                let mut messages = story.harness.messages.iter();
                told |= messages.any(|message| message.too_large().is_some());
            }
            told
        });
        assert!(told.count() >= 3);
    }

    #[test]
    fn every_fault_is_noticed() {
        let corpus = corpus::inputs("session");
        let faults = FAULTS.into_iter();
        for (fault, words) in
            faults.filter(|(fault, _)| !needs_suspects(*fault) && !needs_version5(*fault))
        {
            // There is always room, so no message is left with the broker.
            let needs_little_room = [
                Fault::LeftIsKnown,
                Fault::LeftIsAcknowledged,
                Fault::MakesWay,
                Fault::EarlyBeyondTheLimit,
            ];
            let results = corpus.iter().map(|input| play(input, fault));
            let broken: Vec<_> = results.filter_map(Result::err).collect();
            let noticed = broken.iter().any(|broken| broken.contains(words));
            assert_eq!(
                noticed,
                !needs_little_room.contains(&fault),
                "{fault:?}: {words:?}, {:?}",
                broken.first()
            );
        }
    }
}
