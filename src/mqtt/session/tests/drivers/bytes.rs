//! The fuzz target `session`: a story from bytes (`story.rs`) on links that speak MQTT 3.1.1.
//!
//! An input has two bytes of options. Each packet of the decoder is compared with that of another reader.

use bytes::BytesMut;

use super::super::rules::server::answer;
use super::super::rules::{Fault, Harness, Rule};
use super::story::{Answers, Decoded, LIMIT, Story, Version, play, tell};
use crate::mqtt::packet::Incoming;
use crate::mqtt::session::SessionOptions;
use crate::mqtt::v4::tests::wire::{self, FromClient};
use crate::mqtt::v4::{Decoder, OnTooLarge};

struct Version4 {
    decoder: Decoder,
    /// Bytes that arrived since the last packet ended, those that were read away included.
    raw: Vec<u8>,
    /// Whether a packet came on this link.
    has_begun: bool,
}

/// Plays a story with a session.
///
/// # Panics
/// When the session breaks a rule: that is a finding.
pub fn session(input: &[u8]) {
    if let Err(broken) = play::<Version4>(input, Fault::None) {
        let told = tell::<Version4>(input, Fault::None);
        panic!("{broken}\nthe story:\n{told}");
    }
}

impl Version for Version4 {
    const OPTIONS: usize = 2;

    fn new(_: &[u8], _: &SessionOptions, harness: Harness) -> (Self, Harness) {
        let version = Version4 {
            decoder: Decoder::new(LIMIT, OnTooLarge::Skip),
            raw: Vec::new(),
            has_begun: false,
        };
        (version, harness)
    }

    fn reset(&mut self) {
        self.decoder.reset();
        self.raw.clear();
        self.has_begun = false;
    }

    fn arrived(&mut self, piece: &[u8]) {
        self.raw.extend_from_slice(piece);
    }

    fn decode(&mut self, received: &mut BytesMut) -> Result<Decoded, String> {
        let expected = match self.has_begun {
            true => wire::from_server_without_payload(&self.raw, LIMIT),
            false => wire::from_server(&self.raw, LIMIT),
        };
        match (expected, self.decoder.decode(received)) {
            (Ok(None), Ok(None)) => self.unfinished(received.len()),
            (Err(_), Err(_)) => Ok(Decoded::Violation),
            (Ok(Some((_, length))), Ok(Some(packet))) => {
                self.has_begun = true;
                self.raw.drain(..length);
                Ok(Decoded::Packet(packet))
            }
            (expected, got) => Err(format!("{got:?} where this stands: {expected:?}")),
        }
    }

    fn read(sent: &[u8]) -> Result<FromClient<'_>, String> {
        wire::from_client(sent).map(|(packet, _)| packet)
    }

    fn answer(packet: &FromClient<'_>) -> Option<Answers> {
        let yes = answer(packet)?;
        let no = match &yes {
            Incoming::SubAck { id, granted } => Some(Incoming::SubAck {
                id: *id,
                granted: vec![None; granted.len()],
            }),
            _ => None,
        };
        Some((yes, no))
    }

    fn bytes(packet: &Incoming) -> Vec<u8> {
        wire::server_bytes(packet)
    }

    fn connack(story: &mut Story<'_, Self>, how: u8) -> Rule {
        let code = if how < 10 { 0 } else { how - 9 };
        story.arrive(&[0x20, 2, how & 1, code], usize::MAX)
    }

    fn acknowledgment(how: u8, id: u8) -> Vec<u8> {
        match how & 7 {
            0 => vec![0x40, 2, 0, id],
            1 => vec![0x50, 2, 0, id],
            2 => vec![0x62, 2, 0, id],
            3 => vec![0x70, 2, 0, id],
            4 => vec![0xb0, 2, 0, id],
            5 => vec![0x90, 3, 0, id, how >> 3],
            6 => vec![0x90, 4, 0, id, 1, 0x80],
            _ => vec![0xd0, 0],
        }
    }

    fn end(story: &mut Story<'_, Self>, _: u8) -> Rule {
        story.harness.disconnect()
    }
}

impl Version4 {
    /// A packet has not ended; so many of its bytes are kept.
    fn unfinished(&self, kept: usize) -> Result<Decoded, String> {
        let unfinished = self.raw.len();
        if self.decoder.skipped() + kept != unfinished {
            return Err(format!("{kept} bytes are kept of {unfinished}"));
        }
        // The longest topic, and what stands around it.
        let most = match self.raw.first() {
            Some(0x30..=0x3f) if self.has_begun => usize::from(u16::MAX) + 9,
            _ => LIMIT,
        };
        match kept < most && (self.decoder.skipped() == 0 || kept == 0) {
            true => Ok(Decoded::Unfinished(unfinished)),
            false => Err(format!("{kept} bytes are kept")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::rules::{FAULTS, needs_suspects, needs_version5};
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
        corpus::run("session", session, mutations);
    }

    #[test]
    fn the_corpus_has_messages_that_are_read_away() {
        let inputs = corpus::inputs("session").into_iter();
        assert!(
            inputs
                .filter(|input| has_too_large::<Version4>(input))
                .count()
                >= 3
        );
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
            let results = corpus.iter().map(|input| play::<Version4>(input, fault));
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
