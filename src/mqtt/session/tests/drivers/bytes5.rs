//! The fuzz target `session5`: a story from bytes (`story.rs`) on links that speak MQTT 5.
//!
//! An input has three bytes of options. Here the decoder is not compared with another reader: the target `decode5` does
//! that.

use bytes::BytesMut;

use super::super::rules::server::{answer, refusal, version5};
use super::super::rules::{Fault, Harness, Rule};
use super::story::{Answers, Decoded, LIMIT, Story, Version, play, tell};
use crate::mqtt::packet::{ConnAck5, ConnectTerms, Incoming, QoS, ReasonCode};
use crate::mqtt::session::SessionOptions;
use crate::mqtt::v4::OnTooLarge;
use crate::mqtt::v4::tests::wire::FromClient;
use crate::mqtt::v5::Decoder5;
use crate::mqtt::v5::tests::wire::{from_client5, server_bytes5};

/// The highest topic alias that is taken.
const ALIASES: u16 = 3;

/// How many messages either side takes at one time.
const QUOTAS: [u16; 4] = [u16::MAX, 1, 2, 5];

/// Reason codes that some acknowledgment may have.
const CODES: [u8; 8] = [0x00, 0x10, 0x97, 0x87, 0x92, 0x91, 0x80, 0x11];

struct Version5 {
    decoder: Decoder5,
}

/// Plays a story with a session.
///
/// # Panics
/// When the session breaks a rule: that is a finding.
pub fn session5(input: &[u8]) {
    if let Err(broken) = play::<Version5>(input, Fault::None) {
        let told = tell::<Version5>(input, Fault::None);
        panic!("{broken}\nthe story:\n{told}");
    }
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
        ..ConnAck5::default()
    }
}

impl Version for Version5 {
    const OPTIONS: usize = 3;

    fn new(chosen: &[u8], options: &SessionOptions, harness: Harness) -> (Self, Harness) {
        let terms = ConnectTerms {
            session_expiry: 100,
            receive_maximum: QUOTAS[usize::from(chosen[2] & 3)],
            maximum_packet_size: Some(LIMIT as u32),
            topic_alias_maximum: ALIASES,
            ..ConnectTerms::default()
        };
        let version = Version5 {
            decoder: Decoder5::new(
                LIMIT,
                ALIASES,
                match chosen[2] & 8 {
                    0 => OnTooLarge::Close,
                    _ => OnTooLarge::Skip,
                },
            ),
        };
        (version, harness.speaks_version5(terms, options))
    }

    fn reset(&mut self) {
        self.decoder.reset();
    }

    fn arrived(&mut self, _: &[u8]) {}

    fn decode(&mut self, received: &mut BytesMut) -> Result<Decoded, String> {
        match self.decoder.decode(received) {
            Ok(None) => self.unfinished(received.len()),
            Ok(Some(packet)) => Ok(Decoded::Packet(packet)),
            Err(_) => Ok(Decoded::Violation),
        }
    }

    fn read(sent: &[u8]) -> Result<FromClient<'_>, String> {
        from_client5(sent).map(|(sent, _)| sent.packet)
    }

    fn answer(packet: &FromClient<'_>) -> Option<Answers> {
        let yes = version5(&answer(packet)?, packet, u16::MAX, QoS::ExactlyOnce);
        Some((yes, refusal(packet)))
    }

    fn bytes(packet: &Incoming) -> Vec<u8> {
        server_bytes5(packet)
    }

    fn connack(story: &mut Story<'_, Self>, how: u8) -> Rule {
        // It is the answer to CONNECT: there is no other.
        story.harness.sent.retain(|sent| sent[0] != 0x10);
        let connack = ConnAck5 {
            session_present: how & 1 != 0,
            code: ReasonCode::new(if how < 14 { 0 } else { 0x80 + how }),
            ..limited(story.take())
        };
        story.serve(&Incoming::ConnAck5(Box::new(connack)))
    }

    /// The code may be one that the packet does not have.
    fn acknowledgment(how: u8, byte: u8) -> Vec<u8> {
        let id = byte & 0x1f;
        let code = CODES[usize::from(byte >> 5)];
        match how {
            0 => vec![0x40, 2, 0, id],
            1 => vec![0x50, 2, 0, id],
            2 => vec![0x62, 2, 0, id],
            3 => vec![0x70, 2, 0, id],
            4 => vec![0xb0, 4, 0, id, 0, code],
            5 => vec![0x90, 4, 0, id, 0, code],
            6 => vec![0x90, 5, 0, id, 0, 1, 0x87],
            7 => vec![0xd0, 0],
            8 => vec![0x40, 3, 0, id, code],
            9 => vec![0x50, 3, 0, id, code],
            10 => vec![0x62, 3, 0, id, code],
            11 => vec![0x70, 3, 0, id, code],
            12 => vec![0xb0, 5, 0, id, 0, 0, 0x87],
            13 => vec![0x40, 8, 0, id, code, 4, 0x1f, 0, 1, b'x'],
            14 => vec![0x50, 8, 0, id, code, 4, 0x1f, 0, 1, b'x'],
            _ => vec![0xf0, 0],
        }
    }

    fn end(story: &mut Story<'_, Self>, how: u8) -> Rule {
        let code = [0x8e, 0x97][usize::from(how & 1)];
        story.arrive(&[0xe0, 1, code], usize::MAX)
    }
}

impl Version5 {
    /// A packet has not ended; so many of its bytes are kept. None are of one that is read away.
    fn unfinished(&self, kept: usize) -> Result<Decoded, String> {
        let skipped = self.decoder.skipped();
        match kept <= LIMIT && (kept == 0 || skipped == 0) {
            true => Ok(Decoded::Unfinished(kept + skipped)),
            false => Err(format!(
                "{kept} bytes are kept, and {skipped} are read away"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::rules::{FAULTS, needs_version5};
    use super::super::story::has_too_large;
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
    fn a_story_is_told_up_to_the_rule_that_is_broken() {
        let fault = Fault::OutcomeTwice;
        let corpus = corpus::inputs("session5").into_iter();
        let mut broken =
            corpus.filter_map(|input| Some((play::<Version5>(&input, fault).err()?, input)));
        let (broken, input) = broken.next().unwrap();
        let told = tell::<Version5>(&input, fault);
        let lines: Vec<_> = told.lines().collect();
        let place = |begin: &str| lines.iter().position(|line| line.starts_with(begin));
        assert!(place("link up") < place("  client: Connect"), "{told}");
        assert!(place("broker: ConnAck5") < place("  Resolved"), "{told}");
        assert!(place("link up").is_some() && place("broker: ConnAck5").is_some());
        assert_eq!(lines.last(), Some(&broken.as_str()));
    }

    #[test]
    fn the_corpus_has_messages_that_are_read_away() {
        let inputs = corpus::inputs("session5").into_iter();
        assert!(
            inputs
                .filter(|input| has_too_large::<Version5>(input))
                .count()
                >= 3
        );
    }

    #[test]
    fn every_fault_is_noticed() {
        let corpus = corpus::inputs("session5");
        // A new link, on which the quota is whole again, is the last one of each story. A request is held where the
        // window for QoS 2 is full, too. No story waits for so many links.
        let elsewhere = [
            Fault::QuotaKeptByRefused,
            Fault::RequestHeld,
            Fault::FillsForEver,
        ];
        let is_here = |fault: &Fault| needs_version5(*fault) && !elsewhere.contains(fault);
        for (fault, words) in FAULTS.into_iter().filter(|(fault, _)| is_here(fault)) {
            let results = corpus.iter().map(|input| play::<Version5>(input, fault));
            let broken: Vec<_> = results.filter_map(Result::err).collect();
            let noticed = broken.iter().any(|broken| broken.contains(words));
            assert!(noticed, "{fault:?}: {words:?}, {:?}", broken.first());
        }
    }
}
