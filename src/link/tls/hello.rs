//! The version of TLS and the cipher suite that a server chose, from the first bytes that it sends.
//!
//! The TLS library tells neither. Both stand in the ServerHello, which is never encrypted. The bytes are only looked at:
//! they decide nothing, and the TLS library reads them itself. A HelloRetryRequest has the form of a ServerHello and
//! chooses both as finally as the one that follows (RFC 8446, 4.1.4). Pure.

use std::fmt;

/// A ServerHello has some hundred bytes, with the key of a large group less than two thousand.
const MOST: usize = 4096;

/// Record types and the handshake message (RFC 8446, 5.1 and 4).
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;

/// The extension in which TLS 1.3 says its version (RFC 8446, 4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsVersion(u16);

impl TlsVersion {
    /// TLS 1.2, the lowest version that is used here.
    pub const TLS_1_2: TlsVersion = TlsVersion(0x0303);
    /// TLS 1.3.
    pub const TLS_1_3: TlsVersion = TlsVersion(0x0304);

    /// The number that stands for it on the wire.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// A cipher suite, by its number in IANA's registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cipher(u16);

impl Cipher {
    /// Its number in IANA's registry.
    pub fn number(self) -> u16 {
        self.0
    }

    /// Its name in IANA's registry, for the suites that brokers use today.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x1301 => "TLS_AES_128_GCM_SHA256",
            0x1302 => "TLS_AES_256_GCM_SHA384",
            0x1303 => "TLS_CHACHA20_POLY1305_SHA256",
            0x1304 => "TLS_AES_128_CCM_SHA256",
            0x009c => "TLS_RSA_WITH_AES_128_GCM_SHA256",
            0x009d => "TLS_RSA_WITH_AES_256_GCM_SHA384",
            0x009e => "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
            0x009f => "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
            0xc013 => "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
            0xc014 => "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
            0xc023 => "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
            0xc027 => "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
            0xc02b => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            0xc02c => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            0xc02f => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            0xc030 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            0xcca8 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            0xcca9 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            _ => return None,
        })
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TlsVersion::TLS_1_2 => f.write_str("TLS 1.2"),
            TlsVersion::TLS_1_3 => f.write_str("TLS 1.3"),
            TlsVersion(other) => write!(f, "TLS version {other:#06x}"),
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "cipher suite {:#06x}", self.0),
        }
    }
}

/// Looks at the bytes of a server until it has seen the ServerHello, or knows that it will not.
#[derive(Debug, Default)]
pub(crate) struct HelloReader {
    /// The bytes so far, while more are needed.
    seen: Vec<u8>,
    is_done: bool,
    chosen: Option<(TlsVersion, Cipher)>,
}

impl HelloReader {
    /// The server sent these bytes.
    pub(crate) fn look(&mut self, bytes: &[u8]) {
        if self.is_done {
            return;
        }
        let room = MOST - self.seen.len();
        self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match server_hello(&self.seen) {
            Hello::Unfinished if bytes.len() < room => return,
            Hello::Unfinished | Hello::Other => {}
            Hello::Chosen(version, cipher) => self.chosen = Some((version, cipher)),
        }
        self.is_done = true;
        self.seen = Vec::new();
    }

    /// The version and the cipher suite that the server chose, once they were seen.
    pub(crate) fn chosen(&self) -> Option<(TlsVersion, Cipher)> {
        self.chosen
    }
}

/// The meaning of the first bytes of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hello {
    /// More bytes are needed.
    Unfinished,
    Chosen(TlsVersion, Cipher),
    /// They are no ServerHello.
    Other,
}

fn server_hello(bytes: &[u8]) -> Hello {
    let (message, all_records) = handshake_bytes(bytes);
    match read(&message) {
        Some(Some((version, cipher))) => Hello::Chosen(version, cipher),
        Some(None) => Hello::Other,
        None if all_records => Hello::Unfinished,
        None => Hello::Other,
    }
}

/// The handshake messages in the records so far, one of which may be cut off, and whether more of them may follow.
fn handshake_bytes(mut records: &[u8]) -> (Vec<u8>, bool) {
    let mut message = Vec::new();
    while let [kind, rest @ ..] = records {
        if *kind != HANDSHAKE {
            return (message, false);
        }
        let [major, _, high, low, rest @ ..] = rest else {
            break;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *major != 3 || length == 0 {
            return (message, false);
        }
        message.extend_from_slice(&rest[..length.min(rest.len())]);
        records = rest.get(length..).unwrap_or_default();
    }
    (message, true)
}

/// Reads a ServerHello. Returns `None` if the message is not whole, and `Some(None)` if it is another one.
fn read(message: &[u8]) -> Option<Option<(TlsVersion, Cipher)>> {
    // RFC 8446, 4.1.3: type, length of 3 bytes, version, random of 32 bytes, session identifier behind its length,
    // cipher suite, compression, extensions behind their length.
    let (kind, rest) = message.split_first()?;
    if *kind != SERVER_HELLO {
        return Some(None);
    }
    let (length, rest) = rest.split_at_checked(3)?;
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    if length > MOST {
        return Some(None);
    }
    let mut body = Bytes(rest.get(..length)?);
    Some(body.server_hello())
}

/// The bytes that are left to read. Each step returns `None` if it is not there.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn server_hello(&mut self) -> Option<(TlsVersion, Cipher)> {
        let mut version = self.number()?;
        self.take(32)?;
        let session = self.take(1)?[0];
        self.take(usize::from(session))?;
        let cipher = Cipher(self.number()?);
        self.take(1)?;
        // Without extensions, their length may be missing (RFC 5246, 7.4.1.3).
        let length = self.number().unwrap_or(0);
        let mut extensions = Bytes(self.take(usize::from(length))?);
        while !extensions.0.is_empty() {
            let kind = extensions.number()?;
            let length = extensions.number()?;
            let mut content = Bytes(extensions.take(usize::from(length))?);
            if kind == SUPPORTED_VERSIONS {
                version = content.number()?;
            }
        }
        Some((TlsVersion(version), cipher))
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GCM: Cipher = Cipher(0x1301);

    /// A ServerHello with these extensions.
    fn hello(cipher: u16, extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(32);
        body.extend([8; 32]);
        body.extend(cipher.to_be_bytes());
        body.push(0);
        let mut all = Vec::new();
        for (kind, content) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((content.len() as u16).to_be_bytes());
            all.extend_from_slice(content);
        }
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let length = (body.len() as u32).to_be_bytes();
        [&[SERVER_HELLO], &length[1..], &body].concat()
    }

    /// The bytes in records of this size.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |piece: &[u8]| {
            let length = (piece.len() as u16).to_be_bytes();
            [&[HANDSHAKE, 3, 3], &length[..], piece].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    fn seen(bytes: &[u8], piece: usize) -> Option<(TlsVersion, Cipher)> {
        let mut reader = HelloReader::default();
        bytes.chunks(piece).for_each(|piece| reader.look(piece));
        reader.chosen()
    }

    /// With a key share before the version, as OpenSSL sends it.
    fn tls_1_3() -> Vec<u8> {
        hello(0x1301, &[(51, &[0; 36]), (SUPPORTED_VERSIONS, &[3, 4])])
    }

    #[test]
    fn version_and_cipher_are_seen_however_the_bytes_come() {
        let old = hello(0xc02f, &[(0xff01, &[0])]);
        for (message, version, cipher) in [
            (tls_1_3(), TlsVersion::TLS_1_3, GCM),
            (old, TlsVersion::TLS_1_2, Cipher(0xc02f)),
        ] {
            for size in [1, 40, 16_384] {
                let mut bytes = records(&message, size);
                bytes.extend([23, 3, 3, 0, 1, 0]);
                for piece in [1, 5, 40, 100_000] {
                    assert_eq!(
                        seen(&bytes, piece),
                        Some((version, cipher)),
                        "{size}, {piece}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_hello_of_tls_1_2_may_end_before_its_extensions() {
        let mut message = hello(0x009c, &[]);
        message.truncate(message.len() - 2);
        message[3] -= 2;
        let expected = Some((TlsVersion::TLS_1_2, Cipher(0x009c)));
        assert_eq!(seen(&records(&message, 16_384), 7), expected);
    }

    #[test]
    fn other_bytes_are_no_hello_and_are_not_kept() {
        let alert = vec![21, 3, 3, 0, 2, 2, 40];
        let certificate = records(&[11, 0, 0, 1, 0], 100);
        let too_long = records(&[SERVER_HELLO, 0xff, 0xff, 0xff], 100);
        let endless = records(
            &[&[SERVER_HELLO, 0, 0x0f, 0xff][..], &[0; 9_000]].concat(),
            16_384,
        );
        for bytes in [
            alert,
            certificate,
            too_long,
            endless,
            b"HTTP/1.1 400".to_vec(),
        ] {
            let mut reader = HelloReader::default();
            bytes.chunks(3).for_each(|piece| reader.look(piece));
            assert_eq!(reader.chosen(), None);
            assert!(reader.is_done && reader.seen.capacity() == 0, "{bytes:?}");
        }
    }

    #[test]
    fn a_part_of_a_hello_says_nothing_yet() {
        let whole = records(&tls_1_3(), 40);
        for length in 0..whole.len() {
            assert_eq!(
                server_hello(&whole[..length]),
                Hello::Unfinished,
                "{length}"
            );
        }
    }

    #[test]
    fn names_are_those_of_the_registry() {
        assert_eq!(GCM.to_string(), "TLS_AES_128_GCM_SHA256");
        assert_eq!(Cipher(0x1234).to_string(), "cipher suite 0x1234");
        assert_eq!(TlsVersion::TLS_1_3.to_string(), "TLS 1.3");
        assert_eq!(TlsVersion(0x7f1c).to_string(), "TLS version 0x7f1c");
    }

    proptest! {
        /// Any bytes, in any pieces: no panic, no more memory than the bound, and the same answer.
        #[test]
        fn bytes_from_an_enemy_do_no_harm(bytes: Vec<u8>, piece in 1..20_usize) {
            let mut reader = HelloReader::default();
            for piece in bytes.chunks(piece) {
                reader.look(piece);
                prop_assert!(reader.seen.len() <= MOST);
            }
            prop_assert_eq!(reader.chosen(), seen(&bytes, bytes.len().max(1)));
        }

        /// A ServerHello with one byte changed.
        #[test]
        fn a_damaged_hello_does_no_harm(at in 0..140_usize, byte: u8, piece in 1..200_usize) {
            let mut bytes = records(&tls_1_3(), 16_384);
            let length = bytes.len();
            bytes[at % length] = byte;
            prop_assert_eq!(seen(&bytes, piece), seen(&bytes, length));
        }
    }
}
