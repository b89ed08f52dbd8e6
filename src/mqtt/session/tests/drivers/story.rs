//! Bytes from an enemy stand for a story of a link, a server that may do anything, and a session between: what the fuzz
//! targets `session` (`bytes.rs`) and `session5` (`bytes5.rs`) share. Pure.
//!
//! An input is some bytes of options and then steps: the low half of a byte says what happens, the high half how, and
//! some steps take more bytes. The driver does as the loop does: bytes arrive in pieces and are decoded, a violation or
//! a `Close` closes the link, the link takes what it likes of the output. In the end either everything is abandoned, or
//! a server that does what the standard says takes over, and everything comes to rest.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::super::rules::server::level;
use super::super::rules::{Fault, Harness, Rule};
use crate::mqtt::packet::{Filter, Incoming, Message, PacketId, QoS};
use crate::mqtt::rate::RateLimits;
use crate::mqtt::session::{OnSessionLost, SessionOptions};
use crate::mqtt::v4::tests::wire::FromClient;

/// Largest packet that is taken: small, so that inputs are above it soon.
pub(super) const LIMIT: usize = 512;

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

/// The parts that differ with the version of MQTT: the decoder, and what the server says.
pub(super) trait Version: Sized {
    /// How many bytes of options an input begins with.
    const OPTIONS: usize;

    /// A link as the chosen options say, and the session, which has these, with what the version adds to it.
    fn new(chosen: &[u8], options: &SessionOptions, harness: Harness) -> (Self, Harness);

    /// A new link begins.
    fn reset(&mut self);

    /// These bytes came.
    fn arrived(&mut self, piece: &[u8]);

    /// Decodes the next packet of what came.
    ///
    /// # Errors
    /// A rule that the decoder breaks.
    fn decode(&mut self, received: &mut BytesMut) -> Result<Decoded, String>;

    /// Reads a packet of the client.
    ///
    /// # Errors
    /// A packet that the standard forbids a client to send.
    fn read(sent: &[u8]) -> Result<FromClient<'_>, String>;

    /// The answer of a server that does as it should, and how it says no, if it can.
    fn answer(packet: &FromClient<'_>) -> Option<Answers>;

    /// The bytes of a server's packet.
    fn bytes(packet: &Incoming) -> Vec<u8>;

    /// The server sends a CONNACK of its choice.
    fn connack(story: &mut Story<'_, Self>, how: u8) -> Rule;

    /// Acknowledgments that may answer nothing, or be wrong.
    fn acknowledgment(how: u8, byte: u8) -> Vec<u8>;

    /// One side ends the connection.
    fn end(story: &mut Story<'_, Self>, how: u8) -> Rule;
}

/// An answer, and the one that says no.
pub(super) type Answers = (Incoming, Option<Incoming>);

/// The result of a decoder.
pub(super) enum Decoded {
    Packet(Incoming),
    Violation,
    /// So many bytes of a packet have come.
    Unfinished(usize),
}

pub(super) struct Story<'a, V> {
    input: &'a [u8],
    options: SessionOptions,
    pub(super) harness: Harness,
    version: V,
    /// Bytes that arrived and are not decoded yet.
    received: BytesMut,
    /// Whether the CONNECT of this link asks for a clean start.
    is_clean: bool,
    /// The answers that a server that does as it should still owes.
    answers: Vec<Answers>,
}

/// Plays the story that the input stands for.
///
/// # Errors
/// The rule that was broken.
pub(super) fn play<V: Version>(input: &[u8], fault: Fault) -> Rule {
    match Story::<V>::new(input, fault) {
        Some(mut story) => story.play(input),
        None => Ok(()),
    }
}

/// Tells the story of an input as people read it, as far as it goes.
pub(super) fn tell<V: Version>(input: &[u8], fault: Fault) -> String {
    let Some(mut story) = Story::<V>::new(input, fault) else {
        return String::new();
    };
    story.harness.told = Some(vec![format!("{:?}", story.options)]);
    let end = match story.play(input) {
        Ok(()) => "it ends well".to_owned(),
        Err(broken) => broken,
    };
    let mut told = story.harness.told.unwrap_or_default();
    told.push(end);
    told.join("\n")
}

/// Whether a message that is read away comes in the story.
#[cfg(test)]
pub(super) fn has_too_large<V: Version>(input: &[u8]) -> bool {
    let Some(mut story) = Story::<V>::new(input, Fault::None) else {
        return false;
    };
    let mut told = false;
    while !story.input.is_empty() {
        if let Err(broken) = story.step() {
            panic!("{broken}");
        }
        let mut messages = story.harness.messages.iter();
        told |= messages.any(|message| message.too_large().is_some());
    }
    told
}

impl<'a, V: Version> Story<'a, V> {
    /// Returns `None` for an input without all of its options.
    fn new(input: &'a [u8], fault: Fault) -> Option<Self> {
        let (chosen, input) = input.split_at_checked(V::OPTIONS)?;
        let (first, second) = (chosen[0], chosen[1]);
        let has_little_room = chosen.get(2).is_some_and(|third| third & 4 != 0);
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
            max_waiting_bytes: if has_little_room { 600 } else { usize::MAX },
            max_waiting: if has_little_room { 6 } else { usize::MAX },
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
        let harness = Harness::new(options.clone(), first & 0x20 != 0, fault, Instant::now());
        let (version, harness) = V::new(chosen, &options, harness);
        Some(Story {
            input,
            options,
            harness,
            version,
            received: BytesMut::new(),
            is_clean: false,
            answers: Vec::new(),
        })
    }

    fn play(&mut self, input: &[u8]) -> Rule {
        while !self.input.is_empty() {
            self.step()?;
        }
        if input[0] & 0x80 != 0 {
            self.settle(input[1] & 0x80 != 0)?;
        }
        self.harness.abandon()
    }

    /// The next byte of the input; 0 behind its end.
    pub(super) fn take(&mut self) -> u8 {
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
            11 => V::connack(self, how),
            12 => {
                let which = self.take();
                self.serve_message(how, which)
            }
            13 => {
                let byte = self.take();
                self.arrive(&V::acknowledgment(how, byte), usize::MAX)
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
            6 | 7 => V::end(self, how),
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
        self.version.reset();
        self.received.clear();
        self.answers.clear();
        self.harness.link_up()
    }

    /// Bytes come from the server, in pieces of this length.
    pub(super) fn arrive(&mut self, bytes: &[u8], piece: usize) -> Rule {
        for piece in bytes.chunks(piece) {
            if !self.harness.linked || self.harness.session.is_behind_with_acks() {
                return Ok(());
            }
            self.received.extend_from_slice(piece);
            self.version.arrived(piece);
            self.read()?;
        }
        Ok(())
    }

    /// Decodes what is there and hands it to the session, until the link is closed or more is needed.
    fn read(&mut self) -> Rule {
        while self.harness.linked {
            let violation = match self.version.decode(&mut self.received)? {
                Decoded::Packet(packet) => self.harness.receive(packet)?,
                Decoded::Violation => true,
                Decoded::Unfinished(0) => return Ok(()),
                Decoded::Unfinished(length) => {
                    self.harness.receive_part(length);
                    return Ok(());
                }
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
            let packet = V::read(&sent)?;
            if let FromClient::Connect { clean_session } = packet {
                self.is_clean = clean_session;
            }
            self.answers.extend(V::answer(&packet));
        }
        if !self.harness.linked || self.answers.is_empty() {
            return Ok(());
        }
        let (mut answer, no) = self.answers.remove(which % self.answers.len());
        let present = session_present && !refuse && !self.is_clean;
        match &mut answer {
            Incoming::ConnAck {
                session_present, ..
            } => *session_present = present,
            Incoming::ConnAck5(connack) => connack.session_present = present,
            _ => {}
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

    pub(super) fn serve(&mut self, packet: &Incoming) -> Rule {
        self.arrive(&V::bytes(packet), usize::MAX)
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
