//! TLS over TCP: the records of a large write leave with few system calls.
//!
//! TLS writes each record by itself. So a link has it write several records into the socket's memory, and the socket
//! sends them with one system call. A record counts as taken once the system has all of it, whether it was alone or
//! not, so the bytes that a lost link took are known as exactly as without that memory. Knows nothing of MQTT. The
//! loop's thread.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use native_tls::TlsStream;

use super::{Link, Socket, ignore_lost};

/// The most bytes that TLS puts into one record.
const RECORD: usize = 16 * 1024;

/// Bytes that a call encrypts at most before it sends them.
const AT_ONCE: usize = 8 * RECORD;

/// A link with TLS. As with TLS itself, a write that was not taken has to be repeated with the same bytes: some of
/// them may be encrypted already.
pub(super) struct SecuredLink {
    stream: TlsStream<Socket>,
    /// The records in the socket's memory that the system has not taken whole, in their order.
    records: VecDeque<GatheredRecord>,
}

/// A record in the socket's memory.
struct GatheredRecord {
    /// How many bytes were encrypted.
    length: usize,
    /// Where it ends in that memory.
    end: usize,
}

impl SecuredLink {
    pub(super) fn new(stream: TlsStream<Socket>) -> Self {
        SecuredLink {
            stream,
            records: VecDeque::new(),
        }
    }

    /// Encrypts these bytes into the socket's memory, or as many of them as leave at once. Returns 0 if the other
    /// side has closed the link.
    fn encrypt(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(AT_ONCE)];
        let mut encrypted = 0;
        while encrypted < bytes.len() {
            let length = self.stream.write(&bytes[encrypted..])?;
            if length == 0 {
                break;
            }
            encrypted += length;
            let end = self.stream.get_ref().gathered();
            self.records.push_back(GatheredRecord { length, end });
        }
        Ok(encrypted)
    }

    /// Sends what the socket gathered, as far as the system takes it. Returns how many of the encrypted bytes are in
    /// records of which it has taken the last byte.
    fn send(&mut self) -> io::Result<usize> {
        let sent = self.stream.get_mut().send_gathered()?;
        let mut taken = 0;
        while let Some(record) = self.records.front()
            && record.end <= sent
        {
            taken += record.length;
            self.records.pop_front();
        }
        match taken {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }
}

impl Read for SecuredLink {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }
}

impl Write for SecuredLink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.records.is_empty() {
            if bytes.len() <= RECORD {
                return self.stream.write(bytes);
            }
            self.stream.get_mut().gather();
            let encrypted = self.encrypt(bytes);
            self.stream.get_mut().end_gathering();
            if encrypted? == 0 {
                return Ok(0);
            }
        }
        self.send()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Link for SecuredLink {
    fn socket(&mut self) -> &mut TcpStream {
        self.stream.get_mut().socket()
    }

    fn received(&self) -> u64 {
        self.stream.get_ref().received()
    }

    fn trust_short_reads(&mut self) {
        self.stream.get_mut().trust_short_reads();
    }

    fn pieces(&self, bytes: usize) -> u64 {
        bytes.div_ceil(RECORD) as u64
    }

    fn finish(&mut self) {
        ignore_lost(self.stream.shutdown());
        ignore_lost(self.socket().shutdown(Shutdown::Write));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Blocking};
    use std::thread;
    use std::time::{Duration, Instant};

    use native_tls::{Identity, TlsAcceptor, TlsConnector};

    use super::*;

    const HANG: Duration = Duration::from_secs(30);

    /// A link and the other side's end of it. The system takes what it has room for, as where the other side reads
    /// nothing.
    fn pair() -> (SecuredLink, TlsStream<Blocking>) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let identity = Identity::from_pkcs8(certificate.as_bytes(), key.as_bytes()).unwrap();
        let acceptor = TlsAcceptor::new(identity).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Blocking::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_read_timeout(Some(HANG)).unwrap();
        let accepting = thread::spawn(move || acceptor.accept(server).unwrap());
        let mut connector = TlsConnector::builder();
        connector.danger_accept_invalid_certs(true);
        let socket = Socket::for_tls(TcpStream::from_std(client.try_clone().unwrap()));
        let stream = connector.build().unwrap().connect("localhost", socket);
        client.set_nonblocking(true).unwrap();
        (SecuredLink::new(stream.unwrap()), accepting.join().unwrap())
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|i| (i % 251) as u8).collect()
    }

    /// Writes pieces of at most this length, each again until it is taken. Ends when the system takes nothing, and not
    /// before it has taken something. Returns how many bytes the link took.
    fn fill(link: &mut SecuredLink, bytes: &[u8], piece: usize) -> usize {
        let (mut taken, start) = (0_usize, Instant::now());
        loop {
            let end = bytes.len().min(taken.saturating_add(piece));
            match link.write(&bytes[taken..end]) {
                Ok(length) => taken += length,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    if taken > 0 {
                        return taken;
                    }
                    assert!(start.elapsed() < HANG, "the system takes nothing more");
                    thread::yield_now();
                }
            }
            assert!(taken < bytes.len(), "the system takes all of it");
        }
    }

    #[test]
    fn several_records_are_taken_at_once_and_arrive_in_order() {
        for count in [1, RECORD, RECORD + 1, AT_ONCE, 40 * AT_ONCE + 17] {
            let (mut link, mut peer) = pair();
            let sent = bytes(count);
            let expected = sent.clone();
            let reader = thread::spawn(move || {
                let mut received = vec![0; expected.len()];
                peer.read_exact(&mut received).unwrap();
                assert!(received == expected);
            });
            let (mut taken, mut most) = (0, 0);
            let start = Instant::now();
            while taken < count {
                match link.write(&sent[taken..]) {
                    Ok(length) => {
                        taken += length;
                        most = most.max(length);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        assert!(start.elapsed() < HANG, "{taken} of {count} bytes");
                        thread::yield_now();
                    }
                }
            }
            reader.join().unwrap();
            assert_eq!(most, count.min(AT_ONCE));
        }
    }

    #[test]
    fn a_link_that_is_lost_took_the_bytes_that_the_other_side_can_read() {
        let sent = bytes(64 * 1024 * 1024);
        // TLS itself keeps a small record that the system does not take.
        for pieces in [[usize::MAX; 2], [RECORD / 2, usize::MAX]] {
            let (mut link, mut peer) = pair();
            let mut received = vec![0; 1024 * 1024];
            let mut taken = fill(&mut link, &sent, pieces[0]);
            peer.read_exact(&mut received).unwrap();
            taken += fill(&mut link, &sent[taken..], pieces[1]);
            drop(link);
            // The link ends without a word, so the other side reads its end or an error.
            let _ = peer.read_to_end(&mut received);
            assert_eq!(received.len(), taken, "{pieces:?}");
            assert!(received == sent[..taken]);
        }
    }

    #[test]
    fn a_link_that_takes_nothing_is_still_read() {
        let (mut link, mut peer) = pair();
        fill(&mut link, &bytes(64 * 1024 * 1024), usize::MAX);
        peer.write_all(b"x").unwrap();
        let (mut byte, start) = ([0], Instant::now());
        while link.read(&mut byte).is_err() {
            assert!(start.elapsed() < HANG, "nothing comes");
            thread::yield_now();
        }
        assert_eq!(byte, *b"x");
    }
}
