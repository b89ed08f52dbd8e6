//! The link, and what was read from it and not handled yet.
//!
//! The readiness thread watches the socket only while the loop sleeps. Awake, the loop looks for
//! itself. So the wire remembers whether another read or write may succeed. It decides nothing about
//! packets and never waits. The loop's thread owns it.

use std::io;

use bytes::BytesMut;

use crate::link::Link;
use crate::link::readiness::Readiness;
use crate::mqtt::codec::LinkDecoder;
use crate::mqtt::packet::{Incoming, Logged, ProtocolError, SHOWN_BYTES};
use crate::mqtt::taken::{READ_SIZE, beginning};

/// The link, if there is one, and the bytes that came over it.
pub(super) struct Wire {
    link: Option<Box<dyn Link>>,
    readiness: Readiness,
    /// Whether the readiness thread watches the link.
    watched: bool,
    /// Whether another read may bring something.
    readable: bool,
    /// Whether another write may be taken.
    writable: bool,
    decoder: LinkDecoder,
    received: BytesMut,
    /// How many bytes had come over the socket when the link last handed some out.
    handed_out: u64,
    /// Packets may be left in `received` that the session has not seen yet. Never so at the end of a turn.
    unhandled: bool,
    bytes_read: u64,
    bytes_written: u64,
    packets_read: u64,
    writes: u64,
    chunk: Box<[u8]>,
}

/// A packet that was received.
pub(super) struct ReceivedPacket {
    pub(super) packet: Incoming,
    pub(super) shown: Shown,
}

/// The first bytes of a packet, for an error that shows them.
pub(super) struct Shown {
    bytes: [u8; SHOWN_BYTES],
    length: usize,
}

impl Wire {
    pub(super) fn new(decoder: LinkDecoder) -> Self {
        Wire {
            link: None,
            readiness: Readiness::default(),
            watched: false,
            readable: false,
            writable: false,
            decoder,
            received: BytesMut::new(),
            handed_out: 0,
            unhandled: false,
            bytes_read: 0,
            bytes_written: 0,
            packets_read: 0,
            writes: 0,
            chunk: vec![0; READ_SIZE].into_boxed_slice(),
        }
    }

    /// Starts the readiness thread.
    ///
    /// # Errors
    /// As [`Readiness::start`].
    pub(super) fn start(
        &mut self,
        on_ready: impl Fn() + Send + 'static,
        on_failure: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<()> {
        self.readiness.start(on_ready, on_failure)
    }

    /// Takes a new link, which the readiness thread watches since its socket was opened.
    pub(super) fn attach(&mut self, mut link: Box<dyn Link>) {
        self.readiness.unwatch(link.socket());
        link.trust_short_reads();
        self.handed_out = link.received();
        self.link = Some(link);
        self.look();
    }

    /// Closes the link without a word, and forgets what was not handled.
    pub(super) fn drop_link(&mut self) {
        self.unwatch();
        self.link = None;
        self.discard();
        self.look();
    }

    /// The next reads and writes try the link, if there is one.
    pub(super) fn look(&mut self) {
        self.readable = self.is_up();
        self.writable = self.is_up();
    }

    /// The next reads try the link, if there is one.
    pub(super) fn look_for_input(&mut self) {
        self.readable = self.is_up();
    }

    /// Reads once. Returns how many bytes came, 0 when the broker has closed the link, or `None` when
    /// nothing came for now.
    ///
    /// # Errors
    /// The link broke.
    pub(super) fn read(&mut self) -> io::Result<Option<usize>> {
        let Some(link) = &mut self.link else {
            self.readable = false;
            return Ok(None);
        };
        let length = would_block(link.read(&mut self.chunk), &mut self.readable)?;
        if let Some(length) = length {
            self.received.extend_from_slice(&self.chunk[..length]);
            self.handed_out = link.received();
            self.bytes_read += length as u64;
        }
        Ok(length)
    }

    /// How many bytes came over all links.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Writes once. Returns how many bytes the link took, 0 when the broker has closed it, or `None` when
    /// it takes nothing for now.
    ///
    /// # Errors
    /// The link broke.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(link) = &mut self.link else {
            self.writable = false;
            return Ok(None);
        };
        let length = would_block(link.write(bytes), &mut self.writable)?;
        if let Some(length) = length {
            self.bytes_written += length as u64;
            self.writes += link.pieces(length);
        }
        Ok(length)
    }

    /// How many writes all links took, or records if they had TLS.
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    /// How many packets came over all links.
    pub(super) fn packets_read(&self) -> u64 {
        self.packets_read
    }

    /// How many bytes all links took.
    pub(super) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Writes what may get lost, before the link is closed on purpose.
    pub(super) fn write_last(&mut self, bytes: &[u8]) {
        // It is all the same whether the link takes it.
        let _ = self.write(bytes);
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&mut self) {
        if let Some(link) = &mut self.link {
            link.finish();
        }
    }

    /// The next packet of what was received, if it is complete. Until there is none, something is left
    /// unhandled.
    ///
    /// # Errors
    /// As [`LinkDecoder::decode`].
    pub(super) fn next_packet(&mut self) -> Result<Option<ReceivedPacket>, ProtocolError> {
        self.unhandled = true;
        let length = self.received.len();
        let bytes = beginning(&self.received);
        let Some(packet) = self.decoder.decode(&mut self.received)? else {
            self.unhandled = false;
            return Ok(None);
        };
        let length = length - self.received.len();
        self.packets_read += 1;
        log::trace!(
            "received {}",
            Logged {
                name: packet.name(),
                id: packet.id(),
                bytes: length,
            }
        );
        let shown = Shown { bytes, length };
        Ok(Some(ReceivedPacket { packet, shown }))
    }

    /// How many bytes have come of a packet that has not ended, once every other packet was taken. Those of a TLS
    /// record that is not whole count, too.
    pub(super) fn unfinished(&self) -> usize {
        let link = self.link.as_ref();
        let held = link.map_or(0, |link| link.received() - self.handed_out);
        self.decoder.skipped() + self.received.len() + held as usize
    }

    /// Forgets what was received and not handled.
    pub(super) fn discard(&mut self) {
        // Room was made perhaps for a packet that did not end.
        self.received = BytesMut::new();
        self.decoder.reset();
        self.unhandled = false;
    }

    /// Has the readiness thread tell when the link takes something again, or, if `reads`, has something.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn watch(&mut self, reads: bool) -> io::Result<()> {
        if let Some(link) = &mut self.link
            && !self.watched
        {
            let writes = !self.writable;
            self.readiness.watch(link.socket(), reads, writes)?;
            self.watched = true;
        }
        Ok(())
    }

    /// From here on the loop looks for itself.
    pub(super) fn unwatch(&mut self) {
        if let Some(link) = &mut self.link
            && std::mem::take(&mut self.watched)
        {
            self.readiness.unwatch(link.socket());
        }
    }

    /// Watches the sockets that are to become links.
    pub(super) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.is_some()
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether packets may be left that were read and not handled.
    pub(super) fn has_unhandled(&self) -> bool {
        self.unhandled
    }
}

impl Shown {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length.min(SHOWN_BYTES)]
    }
}

fn would_block(result: io::Result<usize>, may_succeed: &mut bool) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            *may_succeed = false;
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::memory_link;
    use super::*;
    use crate::mqtt::v4::{self, OnTooLarge};

    const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
    const LIMIT: usize = 2 * 1024 * 1024;

    fn decoder() -> LinkDecoder {
        LinkDecoder::V4(v4::Decoder::new(LIMIT, OnTooLarge::Close))
    }

    #[test]
    fn a_link_is_read_until_it_would_block_and_again_after_a_look() {
        let mut wire = Wire::new(decoder());
        assert_eq!(wire.read().unwrap(), None, "without a link");
        let (link, peer) = memory_link();
        wire.attach(link);
        assert!(wire.is_up() && wire.is_readable() && wire.is_writable());
        peer.lock()
            .unwrap()
            .to_read
            .push_back(CONNACK[..3].to_vec());
        assert_eq!(wire.read().unwrap(), Some(3));
        assert!(wire.next_packet().unwrap().is_none(), "not complete");
        assert_eq!(wire.read().unwrap(), None);
        assert!(!wire.is_readable());
        peer.lock()
            .unwrap()
            .to_read
            .push_back(CONNACK[3..].to_vec());
        wire.look_for_input();
        assert_eq!(wire.read().unwrap(), Some(1));
        let received = wire.next_packet().unwrap().unwrap();
        assert_eq!(received.packet.name(), "CONNACK");
        assert_eq!(received.shown.bytes(), CONNACK);
        assert!(wire.has_unhandled());
        assert!(wire.next_packet().unwrap().is_none());
        assert!(!wire.has_unhandled());
    }

    #[test]
    fn a_dropped_link_takes_what_was_not_handled_with_it() {
        let mut wire = Wire::new(decoder());
        let (link, peer) = memory_link();
        wire.attach(link);
        peer.lock().unwrap().to_read.push_back(CONNACK.repeat(2));
        wire.read().unwrap();
        wire.next_packet().unwrap().unwrap();
        assert!(wire.has_unhandled());
        wire.drop_link();
        assert!(!wire.is_up() && !wire.is_readable() && !wire.is_writable());
        assert!(!wire.has_unhandled());
        assert!(wire.next_packet().unwrap().is_none());
    }

    #[test]
    fn what_a_large_packet_needed_goes_with_its_message() {
        let mut wire = Wire::new(decoder());
        let (link, peer) = memory_link();
        wire.attach(link);
        // 1 MiB and the topic.
        let mut packet = b"\x30\x83\x80\x40\x00\x01x".to_vec();
        packet.resize(packet.len() + (1 << 20), 7);
        packet.extend(CONNACK);
        let pieces = packet.chunks(READ_SIZE).map(<[u8]>::to_vec);
        peer.lock().unwrap().to_read.extend(pieces);
        let mut names = Vec::new();
        while let Some(1..) = wire.read().unwrap() {
            while let Some(received) = wire.next_packet().unwrap() {
                names.push(received.packet.name());
            }
        }
        assert_eq!(names, ["PUBLISH", "CONNACK"]);
        assert!(wire.received.capacity() <= 2 * READ_SIZE);
    }

    #[test]
    fn what_a_packet_needed_goes_with_the_link_on_which_it_did_not_end() {
        let mut wire = Wire::new(decoder());
        let (link, peer) = memory_link();
        wire.attach(link);
        let beginning = [0x30, 0xff, 0xff, 0x3f];
        peer.lock().unwrap().to_read.push_back(beginning.to_vec());
        wire.read().unwrap();
        assert!(wire.next_packet().unwrap().is_none());
        assert!(wire.received.capacity() > LIMIT / 2);
        wire.drop_link();
        assert_eq!(wire.received.capacity(), 0);
    }
}
