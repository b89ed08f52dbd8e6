//! The fuzz target `session5`: as `session` (`bytes.rs`), on links that speak MQTT 5.
//!
//! An input is three bytes of options and then steps: the low half of a byte says what happens, the high half how, and
//! some steps take more bytes. Here the decoder is not compared with another reader: the target `decode5` does that.
//! In the end either everything is abandoned, or a server that does what the standard says takes over, and everything
//! comes to rest.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::super::rules::server::{accepting, answer, level, refusal, version5};
use super::super::rules::{Fault, Harness, Rule};
use crate::mqtt::packet::{
    ConnAck5, ConnectTerms, Filter, Incoming, Message, PacketId, QoS, ReasonCode,
};
use crate::mqtt::rate::RateLimits;
use crate::mqtt::session::{OnSessionLost, SessionOptions};
use crate::mqtt::v4::OnTooLarge;
use crate::mqtt::v4::tests::wire::FromClient;
use crate::mqtt::v5::Decoder5;
use crate::mqtt::v5::tests::wire::{from_client5, server_bytes5};

/// Largest packet that is taken.
const LIMIT: usize = 512;

/// The highest topic alias that is taken.
const ALIASES: u16 = 3;

const INFLIGHT: [u16; 4] = [1, 3, 8, 20];

/// Numbers of identifiers; the smallest have to do for `INFLIGHT` as well.
const IDENTIFIERS: [u16; 4] = [4, 8, 24, u16::MAX];

/// How many messages either side takes at one time.
const QUOTAS: [u16; 4] = [u16::MAX, 1, 2, 5];

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

/// Reason codes that some acknowledgment may have.
const CODES: [u8; 8] = [0x00, 0x10, 0x97, 0x87, 0x92, 0x91, 0x80, 0x11];

struct Story<'a> {
    input: &'a [u8],
    harness: Harness,
    decoder: Decoder5,
    /// Bytes that arrived and are not decoded yet.
    received: BytesMut,
    /// Whether the CONNECT of this link asks for a clean start.
    is_clean: bool,
    /// The answers that a well-behaved server still owes, each with the one that says no.
    answers: Vec<(Incoming, Option<Incoming>)>,
}

/// Plays a story with a session.
///
/// # Panics
/// When the session breaks a rule: that is a finding.
pub fn session5(input: &[u8]) {
    if let Err(broken) = play(input, Fault::None) {
        panic!("{broken}");
    }
}

/// Plays the story that the input stands for.
///
/// # Errors
/// The rule that was broken.
fn play(input: &[u8], fault: Fault) -> Rule {
    let [first, second, third, steps @ ..] = input else {
        return Ok(());
    };
    let mut story = Story::new([*first, *second, *third], steps, fault);
    while !story.input.is_empty() {
        story.step()?;
    }
    if first & 0x80 != 0 {
        story.settle(second & 0x80 != 0)?;
    }
    story.harness.abandon()
}

/// CONNACK with limits that one byte stands for.
fn limited(byte: u8) -> ConnAck5 {
    ConnAck5 {
        receive_maximum: QUOTAS[usize::from(byte & 3)],
        maximum_qos: match byte & 0x0c {
            0x04 => QoS::AtLeastOnce,
            0x08 => QoS::AtMostOnce,
            _ => QoS::ExactlyOnce,
        },
        maximum_packet_size: (byte & 0x10 != 0).then_some(60),
        wildcard_available: byte & 0x20 == 0,
        shared_available: byte & 0x20 == 0,
        server_keep_alive: (byte & 0x40 != 0).then_some(5),
        session_expiry: (byte & 0x80 != 0).then_some(30),
        ..accepting()
    }
}

impl<'a> Story<'a> {
    fn new([first, second, third]: [u8; 3], input: &'a [u8], fault: Fault) -> Self {
        let identifiers = IDENTIFIERS[usize::from(first >> 2 & 3)];
        let options = SessionOptions {
            max_inflight: INFLIGHT[usize::from(first & 3)],
            max_inflight_qos2: INFLIGHT[usize::from(first & 3)].div_ceil(2),
            identifiers,
            on_session_lost: match first & 0x10 {
                0 => OnSessionLost::Republish,
                _ => OnSessionLost::Fail,
            },
            keep_alive: match first & 0x40 {
                0 => Duration::from_secs(10),
                _ => Duration::ZERO,
            },
            ack_timeout: Duration::from_secs(20),
            max_waiting_bytes: if third & 4 == 0 { usize::MAX } else { 600 },
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
        let terms = ConnectTerms {
            session_expiry: 100,
            receive_maximum: QUOTAS[usize::from(third & 3)],
            maximum_packet_size: Some(LIMIT as u32),
            topic_alias_maximum: ALIASES,
            ..ConnectTerms::default()
        };
        let harness = Harness::new(options, first & 0x20 != 0, fault, Instant::now());
        Story {
            input,
            harness: harness.speaks_version5(terms, identifiers),
            decoder: Decoder5::new(LIMIT, ALIASES, OnTooLarge::Close),
            received: BytesMut::new(),
            is_clean: false,
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
                // It is the answer to CONNECT: there is no other.
                self.harness.sent.retain(|sent| sent[0] != 0x10);
                let connack = ConnAck5 {
                    session_present: how & 1 != 0,
                    code: ReasonCode::new(if how < 14 { 0 } else { 0x80 + how }),
                    ..limited(self.take())
                };
                self.serve(&Incoming::ConnAck5(Box::new(connack)))
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
                self.answer(0, how & 8 != 0, true)
            }
        }
    }

    fn other(&mut self, how: u8) -> Rule {
        match how {
            0..4 => self.harness.ping(),
            4 | 5 => self.harness.disconnect(),
            6 | 7 => {
                let code = [0x8e, 0x97][usize::from(how & 1)];
                self.arrive(&[0xe0, 1, code], usize::MAX)
            }
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
            self.read()?;
        }
        Ok(())
    }

    /// Decodes what is there and hands it to the session, until the link is closed or more is needed.
    fn read(&mut self) -> Rule {
        while self.harness.linked {
            let violation = match self.decoder.decode(&mut self.received) {
                Ok(None) if self.received.is_empty() => return Ok(()),
                Ok(None) if self.received.len() > LIMIT => {
                    return Err(format!("{} bytes are kept", self.received.len()));
                }
                Ok(None) => {
                    self.harness.receive_part(self.received.len());
                    return Ok(());
                }
                Ok(Some(packet)) => self.harness.receive(packet)?,
                Err(_) => true,
            };
            if violation {
                self.harness.close_after_violation()?;
            }
        }
        Ok(())
    }

    /// Answers what the client sent, as a server should; with `refuse` it says no where it may.
    fn answer(&mut self, which: usize, refuse: bool, session_present: bool) -> Rule {
        for sent in self.harness.sent.drain(..) {
            let (sent, _) = from_client5(&sent)?;
            let packet = sent.packet;
            if let FromClient::Connect { clean_session } = packet {
                self.is_clean = clean_session;
            }
            let yes = answer(&packet);
            let yes = yes.map(|yes| version5(&yes, &packet, u16::MAX, QoS::ExactlyOnce));
            self.answers.extend(yes.map(|yes| (yes, refusal(&packet))));
        }
        if !self.harness.linked || self.answers.is_empty() {
            return Ok(());
        }
        let (mut answer, no) = self.answers.remove(which % self.answers.len());
        if let Incoming::ConnAck5(connack) = &mut answer {
            connack.session_present = session_present && !refuse && !self.is_clean;
        }
        let answer = no.filter(|_| refuse).unwrap_or(answer);
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
        self.serve(&Incoming::Publish {
            id,
            message: message.into(),
        })
    }

    fn serve(&mut self, packet: &Incoming) -> Rule {
        self.arrive(&server_bytes5(packet), usize::MAX)
    }

    /// An acknowledgment that may answer nothing, have the identifier 0, or a code that is not one of its own.
    fn serve_acknowledgment(&mut self, how: u8, byte: u8) -> Rule {
        let id = byte & 0x1f;
        let code = CODES[usize::from(byte >> 5)];
        let bytes: &[u8] = match how {
            0 => &[0x40, 2, 0, id],
            1 => &[0x50, 2, 0, id],
            2 => &[0x62, 2, 0, id],
            3 => &[0x70, 2, 0, id],
            4 => &[0xb0, 4, 0, id, 0, code],
            5 => &[0x90, 4, 0, id, 0, code],
            6 => &[0x90, 5, 0, id, 0, 1, 0x87],
            7 => &[0xd0, 0],
            8 => &[0x40, 3, 0, id, code],
            9 => &[0x50, 3, 0, id, code],
            10 => &[0x62, 3, 0, id, code],
            11 => &[0x70, 3, 0, id, code],
            12 => &[0xb0, 5, 0, id, 0, 0, 0x87],
            13 => &[0x40, 8, 0, id, code, 4, 0x1f, 0, 1, b'x'],
            14 => &[0x50, 8, 0, id, code, 4, 0x1f, 0, 1, b'x'],
            _ => &[0xf0, 0],
        };
        self.arrive(bytes, usize::MAX)
    }

    /// From here on nothing goes wrong: it comes to rest, with everything ended and acknowledged.
    fn settle(&mut self, session_present: bool) -> Rule {
        self.harness.lose_link()?;
        self.link_up()?;
        for _ in 0..100_000 {
            if !self.harness.linked {
                // The session gave the link up, because of what was given up on it.
                self.link_up()?;
            }
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
    use super::super::super::rules::{FAULTS, needs_version5};
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
        corpus::run("session5", session5, mutations);
    }

    #[test]
    fn every_fault_is_noticed() {
        let corpus = corpus::inputs("session5");
        // A new link, on which the quota is whole again, is the last one of each story. A request is held where the
        // window for QoS 2 is full, too.
        let elsewhere = [Fault::QuotaKeptByRefused, Fault::RequestHeld];
        let is_here = |fault: &Fault| needs_version5(*fault) && !elsewhere.contains(fault);
        for (fault, words) in FAULTS.into_iter().filter(|(fault, _)| is_here(fault)) {
            let results = corpus.iter().map(|input| play(input, fault));
            let broken: Vec<_> = results.filter_map(Result::err).collect();
            let noticed = broken.iter().any(|broken| broken.contains(words));
            assert!(noticed, "{fault:?}: {words:?}, {:?}", broken.first());
        }
    }
}
