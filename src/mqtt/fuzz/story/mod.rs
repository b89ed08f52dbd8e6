//! The target `session`: a story of a link, a server that may do anything, and a session between.
//!
//! An input is two bytes of options and then steps: the low half of a byte says what happens, the high
//! half how, and some steps take more bytes. The session is driven as the loop drives it: bytes arrive
//! in pieces and are decoded, a violation or a `Close` closes the link, the link takes what it likes of
//! the output. After each step `record.rs` has seen every packet and event. In the end either
//! everything is abandoned, or a server that does what the standard says takes over, and everything
//! comes to rest. Pure.

mod look;
mod server;

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::Rule;
use super::record::{Cause, Kind, Record, Token};
use super::wire::{self, FromServer};
use crate::mqtt::packet::{Connect, Filter, Incoming, Publish, QoS};
use crate::mqtt::session::{DeliveryId, OnSessionLost, Reason, Session, SessionOptions};
use crate::mqtt::v4;
use server::Question;

/// Largest packet that is taken: small, so that inputs are above it soon.
const LIMIT: usize = 512;

const INFLIGHT: [u16; 4] = [1, 3, 8, 20];

/// Numbers of identifiers; the smallest have to do for `INFLIGHT` as well.
const IDENTIFIERS: [u16; 4] = [4, 8, 24, u16::MAX];

/// Payloads to publish, the two bytes of the token included.
const PAYLOADS: [usize; 6] = [2, 2, 2, 10, 300, 40_000];

const TOPICS: [&str; 4] = ["t", "a/b", "$x/y", "\u{e4}"];

const FILTERS: [&str; 24] = [
    "f0",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "f6",
    "f7",
    "f8",
    "f9",
    "a/+",
    "a/#",
    "+",
    "#",
    "$share/g/a",
    "b/c",
    "b/+/d",
    "/",
    "//",
    "g0",
    "g1",
    "g2",
    "g3",
    "g4",
];

const WAITS: [u64; 16] = [
    0, 1, 10, 100, 500, 1_000, 2_000, 4_900, 5_000, 9_000, 10_000, 20_000, 30_000, 60_000, 90_000,
    600_000,
];

/// Output that is waited for, beyond what is in flight and what acknowledges.
const OUTPUT: usize = 256 * 1024 + 50_000;

/// A deliberate fault between the session and the rules, which have to notice it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(fuzzing, expect(dead_code, reason = "the tests commit them"))]
pub(super) enum Fault {
    None,
    /// What the decoder or the session refuses is passed over, and the link stays.
    ViolationIgnored,
    /// An outcome gets lost on its way.
    OutcomeLost,
    /// An outcome is told twice.
    OutcomeTwice,
    /// Messages are accepted as soon as they are delivered.
    AcceptedByItself,
    /// A message is handed over twice.
    MessageTwice,
    /// PUBREL is sent without its flags.
    WrongFlags,
    /// DUP is never set.
    NoDup,
    /// PUBACK leaves as PUBCOMP.
    WrongAnswer,
    /// The first byte of each packet is lost.
    ByteLost,
    /// A lost link is told to the session too late.
    LossUntold,
}

struct Story<'a> {
    input: &'a [u8],
    fault: Fault,
    session: Session<Token>,
    record: Record,
    now: Instant,
    clean_session: bool,
    linked: bool,
    /// The session wants the link closed.
    closing: bool,
    /// What arrived and is not decoded yet.
    received: BytesMut,
    /// How much of the session's output has been looked at.
    looked_at: usize,
    questions: Vec<Question>,
    unaccepted: Vec<DeliveryId>,
    /// Messages handed over by the packet that is handled.
    messages: usize,
    packets: usize,
    in_flight: usize,
    scratch: Vec<u8>,
}

/// Plays the story that the input stands for.
///
/// # Errors
/// The rule that was broken.
pub(super) fn play(input: &[u8], fault: Fault) -> Rule {
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
    story.abandon()
}

impl<'a> Story<'a> {
    fn new(first: u8, second: u8, input: &'a [u8], fault: Fault) -> Self {
        let now = Instant::now();
        let options = SessionOptions {
            max_inflight: INFLIGHT[usize::from(first & 3)],
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
            max_owed_bytes: usize::MAX,
            fruitless_links: match second & 3 {
                0 => u32::MAX,
                few => u32::from(few),
            },
            first_identifier: match second & 0x0c {
                0 => 0,
                other => u16::MAX - u16::from(other),
            },
        };
        Story {
            input,
            fault,
            session: Session::new(options, now),
            record: Record::new(),
            now,
            clean_session: first & 0x20 != 0,
            linked: false,
            closing: false,
            received: BytesMut::new(),
            looked_at: 0,
            questions: Vec::new(),
            unaccepted: Vec::new(),
            messages: 0,
            packets: 0,
            in_flight: 0,
            scratch: Vec::new(),
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

    fn step(&mut self) -> Rule {
        let byte = self.take();
        let how = byte >> 4;
        match byte & 0x0f {
            0 => self.publish(how),
            1 | 2 => {
                let which = self.take();
                self.change_subscriptions(byte & 0x0f == 1, how, which)
            }
            3 => self.transmit(match how {
                15 => usize::MAX,
                few => 1 + 3 * usize::from(few),
            }),
            4 => self.accept(usize::from(how)),
            5 => self.link_up(),
            6 => self.lose_link(),
            7 => self.wait(Duration::from_millis(WAITS[usize::from(how)])),
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
                self.serve_acknowledgment(how, u16::from(id))
            }
            14 => self.other(how),
            _ => {
                self.transmit(usize::MAX)?;
                self.answer(0, false, true)
            }
        }
    }

    fn take_slice(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.input.split_at(length.min(self.input.len()));
        self.input = rest;
        taken
    }

    fn publish(&mut self, how: u8) -> Rule {
        if !self.session.wants_commands() {
            return Ok(());
        }
        let (qos, payload) = (how % 3, PAYLOADS[usize::from(how / 3)]);
        let token = self.record.new_command(Kind::Publish { qos, payload });
        let mut bytes = vec![0; payload];
        bytes[..2].copy_from_slice(&token.to_be_bytes());
        let topic = TOPICS[usize::from(token % 4)];
        let publish = Publish::new(topic, level(qos), bytes);
        self.in_flight += payload + 20;
        self.session.publish(publish.into(), token, self.now);
        self.look(&Cause::Other)
    }

    fn change_subscriptions(&mut self, subscribe: bool, how: u8, which: u8) -> Rule {
        if !self.session.wants_commands() {
            return Ok(());
        }
        let first = usize::from(which & 31);
        let names = (0..=usize::from(how)).map(|n| FILTERS[(first + n) % FILTERS.len()]);
        self.in_flight += 20 * (usize::from(how) + 1);
        if subscribe {
            let qos = level(which / 32 % 3);
            let filters = names.map(|name| Filter::new(name, qos)).collect();
            let token = self.record.new_command(Kind::Subscribe);
            self.session.subscribe(filters, token, self.now);
        } else {
            let filters = names.map(str::to_owned).collect();
            let token = self.record.new_command(Kind::Unsubscribe);
            self.session.unsubscribe(filters, token, self.now);
        }
        self.look(&Cause::Other)
    }

    /// The link takes this much of the output.
    fn transmit(&mut self, most: usize) -> Rule {
        let bytes = self.session.output().len().min(most);
        if !self.linked || bytes == 0 {
            return Ok(());
        }
        self.record.written(bytes);
        self.looked_at -= bytes;
        self.session.handle_written(bytes, self.now);
        self.look(&Cause::Written)
    }

    fn accept(&mut self, which: usize) -> Rule {
        if self.unaccepted.is_empty() {
            return Ok(());
        }
        let delivery = self.unaccepted.remove(which % self.unaccepted.len());
        self.record.accepts(delivery);
        self.session.accept(delivery);
        self.look(&Cause::Other)
    }

    fn link_up(&mut self) -> Rule {
        if self.linked {
            return Ok(());
        }
        self.linked = true;
        self.record.link_up(self.clean_session);
        let connect = Connect {
            client_id: "c",
            clean_session: self.clean_session,
            keep_alive: 10,
            credentials: None,
            last_will: None,
        };
        self.session.handle_link_up(&connect, self.now);
        self.look(&Cause::Other)
    }

    /// The link is lost or closed; as the loop does it.
    fn lose_link(&mut self) -> Rule {
        if !self.linked {
            return Ok(());
        }
        self.linked = false;
        self.closing = false;
        self.record.link_lost();
        self.received.clear();
        self.questions.clear();
        self.looked_at = 0;
        if self.fault != Fault::LossUntold {
            self.session.handle_link_lost();
        }
        if !self.session.output().is_empty() || self.session.wants_commands() {
            return Err("the session goes on without a link".to_owned());
        }
        if self.fault == Fault::LossUntold {
            self.session.handle_link_lost();
        }
        self.look(&Cause::LinkLost)
    }

    fn wait(&mut self, time: Duration) -> Rule {
        let end = self.now + time;
        while let Some(due) = self.session.next_timer().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            self.look(&Cause::Timeout)?;
            if self.session.next_timer().is_some_and(|t| t <= self.now) {
                return Err("a timer that spins".to_owned());
            }
        }
        self.now = end;
        Ok(())
    }

    /// Bytes come from the server, in pieces of this length.
    fn arrive(&mut self, bytes: &[u8], piece: usize) -> Rule {
        for piece in bytes.chunks(piece) {
            if !self.linked || self.session.is_behind_with_acks() {
                return Ok(());
            }
            self.received.extend_from_slice(piece);
            self.read()?;
        }
        Ok(())
    }

    /// Decodes what is there and hands it to the session, until the link is closed or more is needed.
    fn read(&mut self) -> Rule {
        while self.linked {
            let expected = wire::from_server(&self.received, LIMIT);
            let violation = match (expected, v4::decode(&mut self.received, LIMIT)) {
                (FromServer::Incomplete, Ok(None)) => {
                    return match self.received.len() < LIMIT {
                        true => Ok(()),
                        false => Err(format!("{} bytes are kept", self.received.len())),
                    };
                }
                (FromServer::Bad, Err(_)) => true,
                (FromServer::Packet(..), Ok(Some(packet))) => self.handle(packet)?,
                (expected, got) => return Err(format!("{got:?} where this stands: {expected:?}")),
            };
            if violation && self.fault != Fault::ViolationIgnored {
                self.lose_link()?;
            }
            if violation && self.linked {
                return Err("a violation, and the link is still there".to_owned());
            }
        }
        Ok(())
    }

    /// Hands a packet to the session; says whether it was a violation.
    fn handle(&mut self, packet: Incoming) -> Result<bool, String> {
        let cause = self.record.receives(&packet);
        let name = packet.name();
        self.messages = 0;
        self.packets += 1;
        let result = self.session.handle_packet(packet, self.now);
        match (cause, result) {
            (None, Err(_)) => {
                self.look(&Cause::Other)?;
                Ok(true)
            }
            (Some(cause), Ok(())) => {
                self.look(&cause)?;
                self.record.handled(&cause, self.messages)?;
                Ok(false)
            }
            (Some(_), Err(error)) => Err(format!("{name} was refused: {error}")),
            (None, Ok(())) => Err(format!("{name} was not refused")),
        }
    }

    fn other(&mut self, how: u8) -> Rule {
        match how {
            0..4 => {
                if self.session.wants_commands() {
                    let token = self.record.new_command(Kind::Ping);
                    self.session.ping(token, self.now);
                }
                self.look(&Cause::Other)
            }
            4..8 => {
                self.record.disconnect();
                self.session.disconnect();
                self.look(&Cause::Other)
            }
            8..12 => {
                // Exactly when the next timer rings.
                let due = self.session.next_timer().unwrap_or(self.now);
                self.wait(due.saturating_duration_since(self.now))
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
        while !self.unaccepted.is_empty() {
            self.accept(0)?;
        }
        Ok(())
    }

    /// From here on nothing goes wrong: it comes to rest, with everything ended and acknowledged.
    fn settle(&mut self, session_present: bool) -> Rule {
        self.lose_link()?;
        self.link_up()?;
        for _ in 0..100_000 {
            self.transmit(usize::MAX)?;
            self.accept_all()?;
            if !self.questions.is_empty() {
                self.answer(0, false, session_present)?;
            } else if self.session.output().is_empty() {
                self.record.is_settled()?;
                return match self.session.wants_commands() {
                    true => Ok(()),
                    false => Err("it is at rest and takes no command".to_owned()),
                };
            }
        }
        Err("it does not come to rest".to_owned())
    }

    /// The loop ends: so does every command.
    fn abandon(&mut self) -> Rule {
        self.session.abandon(Reason::Terminated);
        self.look(&Cause::Abandoned)?;
        match self.record.open {
            0 => Ok(()),
            open => Err(format!("{open} commands never ended")),
        }
    }
}

fn level(qos: u8) -> QoS {
    QoS::try_from(qos).unwrap_or(QoS::AtMostOnce)
}
