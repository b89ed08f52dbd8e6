//! The bytes for the link and their positions: every packet of the session goes into this buffer, and the caller
//! writes the buffer out.
//!
//! A position counts bytes since the session began. It tells later whether a packet has left the buffer. The
//! meaning of the packets, and which of them await an answer, is not known here. Pure; the loop's thread.

use bytes::{Buf, BytesMut};
use zeroize::Zeroize;

use crate::mqtt::codec::Encoder;
use crate::mqtt::outgoing::{Outgoing, SMALL_PACKET};
use crate::mqtt::packet::{Ack, ConnAck5, Connect, Filter, Logged, PacketId, ReasonCode};
use crate::mqtt::v4;

/// Bytes waiting for the link above which no further command is taken.
pub(super) const HIGH_WATER: usize = 256 * 1024;

/// Memory that an empty buffer keeps. A buffer that grew beyond it for large messages is given back.
const KEPT: usize = 1024 * 1024;

/// Bytes of acknowledgments, a repeated PUBREL included, that may wait for the link before nothing more is read.
/// A broker that keeps to 65,535 packet identifiers never awaits so many.
const ACKNOWLEDGING_LIMIT: usize = 1024 * 1024;

/// Bytes that wait for the link.
#[derive(Debug, Clone, Default)]
pub(super) struct Output {
    bytes: BytesMut,
    encoder: Encoder,
    /// Whether `bytes` has grown beyond what is kept.
    is_large: bool,
    /// Bytes that ever left the buffer: the link took them, or they were dropped with a link.
    written: u64,
    /// Bytes of acknowledgments in the buffer, counted until the last of them has left.
    acknowledging: usize,
    /// Position behind the last acknowledgment.
    acknowledging_end: u64,
    /// Position behind the last CONNECT, which may hold a password.
    secret_end: u64,
    /// Packets that were put into the buffer.
    packets: u64,
    /// Memory for the topic of a large message that is being encoded.
    scratch: String,
}

impl Output {
    /// CONNECT, the first packet on a link [MQTT-3.1.0-1].
    pub(super) fn connect(&mut self, connect: &Connect<'_>) {
        self.bytes.clear();
        self.encoder = Encoder::connect(connect, &mut self.bytes);
        self.secret_end = self.position();
        self.count("CONNECT", None, 0);
    }

    /// CONNACK of MQTT 5 has stated what the broker takes. Of topic aliases no more than `most_aliases` are used.
    pub(super) fn agree(&mut self, connack: &ConnAck5, most_aliases: u16) {
        let largest = connack.maximum_packet_size.unwrap_or(u32::MAX);
        self.encoder.agree(
            connack.topic_alias_maximum.min(most_aliases),
            usize::try_from(largest).unwrap_or(usize::MAX),
            connack.identifiers_available,
        );
    }

    /// PUBLISH, with an identifier unless it is QoS 0. The broker drops it after `expiry` seconds.
    pub(super) fn publish(
        &mut self,
        message: &mut Outgoing,
        id: Option<PacketId>,
        dup: bool,
        expiry: Option<u32>,
    ) {
        let before = self.bytes.len();
        let (scratch, out) = (&mut self.scratch, &mut self.bytes);
        self.encoder.publish(message, id, dup, expiry, scratch, out);
        self.count("PUBLISH", id, before);
    }

    /// PUBREL.
    pub(super) fn release(&mut self, id: PacketId) {
        let before = self.bytes.len();
        let done = ReasonCode::SUCCESS;
        self.encoder
            .acknowledge(Ack::PubRel, id, done, &mut self.bytes);
        self.count("PUBREL", Some(id), before);
    }

    /// SUBSCRIBE with at least one filter.
    pub(super) fn subscribe(&mut self, id: PacketId, filters: &[Filter]) {
        let before = self.bytes.len();
        self.encoder.subscribe(id, filters, &mut self.bytes);
        self.count("SUBSCRIBE", Some(id), before);
    }

    /// UNSUBSCRIBE with at least one filter.
    pub(super) fn unsubscribe(&mut self, id: PacketId, filters: &[String]) {
        let before = self.bytes.len();
        self.encoder.unsubscribe(id, filters, &mut self.bytes);
        self.count("UNSUBSCRIBE", Some(id), before);
    }

    /// PINGREQ.
    pub(super) fn ping(&mut self) {
        let before = self.bytes.len();
        v4::encode_ping(&mut self.bytes);
        self.count("PINGREQ", None, before);
    }

    /// DISCONNECT, the last packet on a link [MQTT-3.14.4-2]. MQTT 3.1.1 has no code in it.
    pub(super) fn disconnect(&mut self, code: ReasonCode) {
        let before = self.bytes.len();
        self.encoder.disconnect(code, &mut self.bytes);
        self.count("DISCONNECT", None, before);
    }

    /// The answer to a packet of the broker. See [`Output::is_behind_with_acks`].
    pub(super) fn acknowledge(&mut self, ack: Ack, id: PacketId, code: ReasonCode) {
        let before = self.bytes.len();
        self.encoder.acknowledge(ack, id, code, &mut self.bytes);
        self.acknowledging += self.bytes.len() - before;
        self.acknowledging_end = self.position();
        self.count(ack.name(), Some(id), before);
    }

    /// A packet was put into the buffer, behind so many bytes.
    fn count(&mut self, name: &'static str, id: Option<PacketId>, before: usize) {
        self.packets += 1;
        let bytes = self.bytes.len() - before;
        log::trace!("sending {}", Logged { name, id, bytes });
    }

    /// The link took this many bytes.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.is_large |= self.bytes.len() > KEPT;
        self.wipe(bytes);
        self.bytes.advance(bytes);
        self.written += bytes as u64;
        if self.written >= self.acknowledging_end {
            self.acknowledging = 0;
        }
        if self.bytes.is_empty() {
            self.clear();
        }
    }

    /// The link is gone: the bytes that it did not take are dropped. Returns the position of the first of them.
    pub(super) fn handle_link_lost(&mut self) -> u64 {
        let taken = self.written;
        self.wipe(self.bytes.len());
        self.written = self.position();
        self.acknowledging = 0;
        self.clear();
        taken
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many packets were ever put into the buffer.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether so much waits that no further command is to be taken.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= HIGH_WATER
    }

    /// How many small packets may be put into it, one after the other, before it is full.
    pub(super) fn room(&self) -> usize {
        HIGH_WATER.saturating_sub(self.bytes.len()) / SMALL_PACKET
    }

    /// Where the next packet will begin.
    pub(super) fn position(&self) -> u64 {
        self.written + self.bytes.len() as u64
    }

    /// Where the first byte stands that has not left.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether to stop reading until the broker has taken some of our acknowledgments. Other packets do not count:
    /// with reading stopped for them, both sides could wait for each other.
    pub(super) fn is_behind_with_acks(&self) -> bool {
        self.acknowledging > ACKNOWLEDGING_LIMIT
    }

    /// Overwrites what is CONNECT's of so many bytes, before they leave the buffer.
    fn wipe(&mut self, bytes: usize) {
        let secret = self.secret_end.saturating_sub(self.written);
        let secret = usize::try_from(secret).map_or(bytes, |secret| secret.min(bytes));
        self.bytes[..secret].zeroize();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_large) || self.bytes.len() > KEPT {
            self.bytes = BytesMut::new();
        } else {
            self.bytes.clear();
        }
    }

    /// Memory that the buffer keeps.
    #[cfg(test)]
    pub(super) fn kept(&mut self) -> usize {
        // A part that was handed out would be taken back here, if it were still there.
        self.bytes.reserve(1);
        self.bytes.capacity()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.wipe(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::{Credentials, Publish, QoS};

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    fn publish(output: &mut Output, bytes: usize) {
        let message = Publish::new("t", QoS::AtMostOnce, vec![1; bytes]);
        output.publish(&mut message.into(), None, false, None);
    }

    #[test]
    fn positions_go_on_when_bytes_are_taken_and_when_they_are_dropped() {
        let mut output = Output::default();
        output.ping();
        output.release(id(1));
        assert_eq!((output.written(), output.position()), (0, 6));
        output.advance(3);
        assert_eq!((output.written(), output.position()), (3, 6));
        assert_eq!(output.handle_link_lost(), 3);
        assert_eq!((output.written(), output.position()), (6, 6));
        assert!(output.is_empty());
        output.ping();
        assert_eq!(output.packets(), 3, "dropped ones count");
        assert_eq!(output.bytes(), [0xc0, 0]);
        assert_eq!((output.written(), output.position()), (6, 8));
    }

    /// The bytes that have left cannot be read any more. So this looks at them at the moment before.
    #[test]
    fn connect_is_wiped_as_it_leaves_and_nothing_else_is() {
        let credentials = Credentials {
            username: "user".into(),
            password: "hunter2".into(),
        };
        let connect = Connect {
            client_id: "me",
            clean_session: true,
            keep_alive: 60,
            last_will: None,
            credentials: Some(&credentials),
            terms: None,
        };
        let mut output = Output::default();
        output.ping();
        output.advance(2);
        output.connect(&connect);
        output.disconnect(ReasonCode::SUCCESS);
        let disconnect = [0xe0, 0];
        let length = output.bytes().len() - disconnect.len();
        assert!(output.bytes().ends_with(b"hunter2\xe0\x00"));
        output.advance(5);
        output.wipe(3);
        assert_eq!(output.bytes()[..3], [0; 3]);
        assert!(output.bytes().ends_with(b"hunter2\xe0\x00"));
        output.wipe(output.bytes().len());
        assert_eq!(output.bytes()[..length - 5], vec![0; length - 5]);
        assert_eq!(output.bytes()[length - 5..], disconnect);
        output.advance(length - 5);
        output.wipe(disconnect.len());
        assert_eq!(output.bytes(), disconnect);
    }

    #[test]
    fn acknowledgments_count_until_the_last_of_them_has_left() {
        let mut output = Output::default();
        while !output.is_behind_with_acks() {
            output.acknowledge(Ack::PubAck, id(1), ReasonCode::SUCCESS);
        }
        let acknowledgments = output.bytes().len();
        output.ping();
        output.advance(acknowledgments - 1);
        assert!(output.is_behind_with_acks());
        output.advance(1);
        assert!(!output.is_behind_with_acks() && !output.is_empty());
    }

    #[test]
    fn acknowledgments_that_a_lost_link_did_not_take_count_no_more() {
        let mut output = Output::default();
        while !output.is_behind_with_acks() {
            output.acknowledge(Ack::PubRec, id(1), ReasonCode::SUCCESS);
        }
        output.handle_link_lost();
        assert!(!output.is_behind_with_acks());
    }

    #[test]
    fn packets_that_await_nothing_of_ours_do_not_stop_the_reading() {
        let mut output = Output::default();
        publish(&mut output, 2 * ACKNOWLEDGING_LIMIT);
        assert!(output.is_full() && !output.is_behind_with_acks());
    }

    #[test]
    fn large_memory_is_given_back_and_small_memory_is_kept() {
        for (bytes, kept) in [(KEPT / 2, true), (2 * KEPT, false)] {
            for lost in [false, true] {
                let mut output = Output::default();
                publish(&mut output, bytes);
                match lost {
                    true => drop(output.handle_link_lost()),
                    // In parts, so that the last part is small.
                    false => {
                        output.advance(bytes);
                        output.advance(output.bytes().len());
                    }
                }
                assert_eq!(output.kept() >= bytes, kept, "{bytes} bytes, lost: {lost}");
            }
        }
    }
}
