//! Reads from a certificate what explains a failure: its names, dates and purposes.
//!
//! Decides nothing about trust: only the TLS library verifies. Parts that cannot be read are left out. Names come
//! from files and from brokers whose certificate did not pass, so they are shown escaped and shortened. Pure.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use pkcs8::der::{DateTime, Decode, Tag, Tagged};
use pkcs8::spki::AlgorithmIdentifierRef;

use super::der::{elements, is_context, oid, split, values};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P_521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const SERVER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// The names of a certificate that an error shows.
const SHOWN_NAMES: usize = 8;

/// The characters of a name that an error shows.
const SHOWN_CHARACTERS: usize = 100;

/// A certificate in DER, and what was read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) der: Vec<u8>,
    /// Names of subject and issuer, in DER.
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    /// The last common name of the subject.
    pub(super) common_name: Option<String>,
    pub(super) key_type: ObjectIdentifier,
    /// Its key as people call it: `RSA 2048`.
    pub(super) key_kind: Option<String>,
    not_before: Option<DateTime>,
    not_after: Option<DateTime>,
    /// The host names, addresses and other names for which it was made.
    pub(super) names: Vec<Name>,
    /// Whether it may be used for signing, by a client and by a server.
    pub(super) signs: bool,
    pub(super) serves_clients: bool,
    pub(super) serves_servers: bool,
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Dns(String),
    Address(String),
}

/// Why a certificate is not valid at some time: the date, and on which side of it that time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    NotYet(DateTime),
    Expired(DateTime),
}

/// The end of a clause that says so with the date.
impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::NotYet(start) => write!(f, "is not valid before {start}"),
            Invalid::Expired(end) => write!(f, "expired on {end}"),
        }
    }
}

/// The first certificate of a chain, and those that have signed each other up from it, each with its place from 1.
/// Others in the chain stand there in vain.
pub(super) fn path(chain: &[Certificate]) -> Vec<(usize, &Certificate)> {
    let numbered = || (1..).zip(chain);
    let mut path: Vec<_> = numbered().take(1).collect();
    while let Some((_, last)) = path.last().filter(|(_, last)| last.subject != last.issuer) {
        let above = numbered().find(|(place, one)| {
            one.subject == last.issuer && path.iter().all(|(known, _)| known != place)
        });
        match above {
            Some(above) => path.push(above),
            None => break,
        }
    }
    path
}

/// Whether the trust settings that follow the certificate in a `TRUSTED CERTIFICATE` exclude servers.
pub(super) fn excludes_servers(settings: &[u8]) -> bool {
    // X509_CERT_AUX of OpenSSL: SEQUENCE { trust SEQUENCE OF OID OPTIONAL, reject [0] IMPLICIT SEQUENCE OF
    // OID OPTIONAL, ... }. A list of trusted purposes excludes all others.
    let Ok(settings) = AnyRef::from_der(settings) else {
        return false;
    };
    let names_servers = |list: AnyRef<'_>| {
        let mut listed = values(list.value()).into_iter().filter_map(oid);
        listed.any(|oid| oid == SERVER || oid == ANY_PURPOSE)
    };
    for part in values(settings.value()) {
        let excluded = match part.tag() {
            Tag::Sequence => !names_servers(part),
            _ if is_context(part, 0) => names_servers(part),
            _ => false,
        };
        if excluded {
            return true;
        }
    }
    false
}

impl Certificate {
    /// Reads a certificate. `None` if it has another form.
    pub(super) fn read(der: &[u8]) -> Option<Certificate> {
        // RFC 5280, 4.1: Certificate ::= { { [0] version, serial, signature, issuer, validity, subject,
        // public key, [1], [2], [3] extensions }, ... }
        let (der, _) = split(der)?;
        let whole = AnyRef::from_der(der).ok()?;
        let body = AnyRef::from_der(elements(whole.value()).first()?).ok()?;
        let fields = elements(body.value());
        let has_version = is_context(AnyRef::from_der(fields.first()?).ok()?, 0);
        let field = |index: usize| fields.get(index + usize::from(has_version)).copied();
        let (issuer, subject) = (field(2)?, field(4)?);
        let validity = AnyRef::from_der(field(3)?).ok()?;
        let dates: Vec<_> = values(validity.value()).into_iter().map(date).collect();
        let key = AnyRef::from_der(field(5)?).ok()?;
        let key = elements(key.value());
        let algorithm = AlgorithmIdentifierRef::from_der(key.first()?).ok()?;
        let mut certificate = Certificate {
            der: der.to_vec(),
            subject: subject.to_vec(),
            issuer: issuer.to_vec(),
            common_name: common_name(subject),
            key_type: algorithm.oid,
            key_kind: key_kind(algorithm, key.get(1).copied()),
            not_before: dates.first().copied().flatten(),
            not_after: dates.get(1).copied().flatten(),
            names: Vec::new(),
            signs: true,
            serves_clients: true,
            serves_servers: true,
        };
        for field in fields
            .iter()
            .filter_map(|field| AnyRef::from_der(field).ok())
        {
            if is_context(field, 3) {
                certificate.read_extensions(field.value());
            }
        }
        Some(certificate)
    }

    fn read_extensions(&mut self, list: &[u8]) {
        let Ok(list) = AnyRef::from_der(list) else {
            return;
        };
        for extension in values(list.value()) {
            // Extension ::= { OID, critical OPTIONAL, OCTET STRING }
            let parts = values(extension.value());
            let (Some(kind), Some(value)) = (parts.first().and_then(|id| oid(*id)), parts.last())
            else {
                continue;
            };
            let Ok(value) = AnyRef::from_der(value.value()) else {
                continue;
            };
            match kind {
                KEY_USAGE => {
                    // The unused bits, then the bits: digitalSignature is the first.
                    self.signs = value.value().get(1).is_some_and(|bits| bits & 0x80 != 0);
                }
                EXTENDED_KEY_USAGE => {
                    let purposes: Vec<_> =
                        values(value.value()).into_iter().filter_map(oid).collect();
                    let has =
                        |purpose| purposes.contains(&purpose) || purposes.contains(&ANY_PURPOSE);
                    self.serves_clients = has(CLIENT);
                    self.serves_servers = has(SERVER);
                }
                ALTERNATIVE_NAMES => {
                    self.names = values(value.value()).into_iter().filter_map(name).collect();
                }
                _ => {}
            }
        }
    }

    /// Why it is not valid at this time, counted from 1970; `None` if it is.
    pub(super) fn invalid_at(&self, now: Duration) -> Option<Invalid> {
        match (self.not_before, self.not_after) {
            (Some(start), _) if now < start.unix_duration() => Some(Invalid::NotYet(start)),
            (_, Some(end)) if end.unix_duration() < now => Some(Invalid::Expired(end)),
            _ => None,
        }
    }

    /// The first and the last moment at which it is valid, counted from 1970.
    pub(super) fn validity(&self) -> (Option<Duration>, Option<Duration>) {
        let since = |date: DateTime| date.unix_duration();
        (self.not_before.map(since), self.not_after.map(since))
    }

    /// The common name of its issuer.
    pub(super) fn issuer_name(&self) -> Option<String> {
        common_name(&self.issuer)
    }

    /// The last moment at which it is valid.
    pub(super) fn end(&self) -> Option<DateTime> {
        self.not_after
    }

    /// Its alternative names, as an error shows them.
    pub(super) fn shown_names(&self) -> String {
        let mut text = String::new();
        for name in self.names.iter().take(SHOWN_NAMES) {
            let separator = if text.is_empty() { "" } else { ", " };
            let (Name::Dns(name) | Name::Address(name)) = name;
            let _ = write!(text, "{separator}{}", shortened(name));
        }
        match self.names.len().saturating_sub(SHOWN_NAMES) {
            0 => text,
            more => format!("{text} and {more} more"),
        }
    }

    /// The common name of its issuer, as an error shows it.
    pub(super) fn shown_issuer(&self) -> Option<String> {
        Some(format!("{:?}", shortened(&common_name(&self.issuer)?)))
    }

    /// Its common name, as an error shows it.
    pub(super) fn shown_common_name(&self) -> Option<String> {
        let name = self.common_name.as_deref()?;
        Some(format!("{:?}", shortened(name)))
    }
}

/// The kind of a public key, for people. `key` is its BIT STRING in DER.
fn key_kind(algorithm: AlgorithmIdentifierRef<'_>, key: Option<&[u8]>) -> Option<String> {
    match algorithm.oid {
        RSA => {
            // The unused bits, of which there are none, then RSAPublicKey ::= { modulus, exponent } (RFC 8017, A.1.1).
            let (_, key) = AnyRef::from_der(key?).ok()?.value().split_first()?;
            let modulus = *values(AnyRef::from_der(key).ok()?.value()).first()?;
            let zeros = |bytes: &[u8]| bytes.iter().take_while(|byte| **byte == 0).count();
            let digits = &modulus.value()[zeros(modulus.value())..];
            let bits = digits.len() * 8 - digits.first()?.leading_zeros() as usize;
            Some(format!("RSA {bits}"))
        }
        ELLIPTIC_CURVE => {
            let curve = algorithm.parameters?.decode_as::<ObjectIdentifier>().ok();
            Some(match curve {
                Some(P_256) => "EC P-256".to_owned(),
                Some(P_384) => "EC P-384".to_owned(),
                Some(P_521) => "EC P-521".to_owned(),
                _ => "EC".to_owned(),
            })
        }
        ED25519 => Some("Ed25519".to_owned()),
        _ => None,
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARACTERS) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}

fn date(item: AnyRef<'_>) -> Option<DateTime> {
    match item.tag() {
        Tag::UtcTime => Some(item.decode_as::<UtcTime>().ok()?.to_date_time()),
        _ => Some(item.decode_as::<GeneralizedTime>().ok()?.to_date_time()),
    }
}

/// The last common name in a Name: SEQUENCE OF SET OF SEQUENCE { OID, string }.
fn common_name(name: &[u8]) -> Option<String> {
    let name = AnyRef::from_der(name).ok()?;
    let mut found = None;
    for attribute in values(name.value())
        .iter()
        .flat_map(|set| values(set.value()))
    {
        if let [kind, value] = values(attribute.value())[..]
            && oid(kind) == Some(COMMON_NAME)
        {
            found = Some(text(value));
        }
    }
    found
}

fn text(value: AnyRef<'_>) -> String {
    let bytes = value.value();
    match value.tag() {
        Tag::BmpString => {
            let units: Vec<u16> = bytes
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// GeneralName: host names and addresses only.
fn name(item: AnyRef<'_>) -> Option<Name> {
    let bytes = item.value();
    if is_context(item, 2) {
        let plain = |byte: &u8| match byte {
            b'!'..=b'~' => char::from(*byte),
            _ => '?',
        };
        return Some(Name::Dns(bytes.iter().map(plain).collect()));
    }
    if !is_context(item, 7) {
        return None;
    }
    if let Ok(address) = <[u8; 4]>::try_from(bytes) {
        return Some(Name::Address(Ipv4Addr::from(address).to_string()));
    }
    let address = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Name::Address(Ipv6Addr::from(address).to_string()))
}
