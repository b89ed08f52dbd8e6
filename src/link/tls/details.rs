//! The agreement of a TLS handshake, and the certificates of both sides, for observers. Pure data: nothing here decides about trust.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::certificate::{Certificate, Name};
use super::hello::{Cipher, TlsVersion};

/// The agreement of a TLS handshake. A part that could not be read is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TlsDetails {
    /// The version, from the ServerHello.
    pub version: Option<TlsVersion>,
    /// The cipher suite, from the ServerHello.
    pub cipher: Option<Cipher>,
    /// The protocol that the broker chose by ALPN (RFC 7301). `None` also if none was offered.
    pub alpn: Option<String>,
    /// The broker's own certificate.
    pub certificate: Option<BrokerCertificate>,
}

/// The certificate that a broker presented, as far as a person wants to see it. The names come from the broker: treat them as
/// any text from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerCertificate {
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// The common name of its issuer.
    pub issuer: Option<String>,
    /// The host names and addresses for which it was made.
    pub names: Vec<String>,
    /// The first moment at which it is valid.
    pub not_before: Option<SystemTime>,
    /// The last moment at which it is valid.
    pub not_after: Option<SystemTime>,
}

/// The certificate that a client presents: see [`Client::certificate`](crate::Client::certificate). A part that could
/// not be read is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// The common name of its issuer.
    pub issuer: Option<String>,
    /// The first moment at which it is valid.
    pub not_before: Option<SystemTime>,
    /// The last moment at which it is valid.
    pub not_after: Option<SystemTime>,
    /// The kind of its key: `RSA 2048`, `EC P-256`, `Ed25519`.
    pub key: Option<String>,
    /// SHA-256 of the certificate in DER. In hexadecimal it is the certificate's identifier in AWS IoT Core. `None` where
    /// the system's TLS library is not OpenSSL.
    pub sha256: Option<[u8; 32]>,
    /// Clauses that say for what a broker may refuse it, or one above it in the chain: dates by this machine's clock,
    /// purposes, length.
    pub flaws: Vec<String>,
}

impl ClientCertificate {
    pub(super) fn new(certificate: &Certificate, flaws: Vec<String>) -> Self {
        let (start, end) = certificate.validity();
        ClientCertificate {
            common_name: certificate.common_name.clone(),
            issuer: certificate.issuer_name(),
            not_before: start.map(|since| UNIX_EPOCH + since),
            not_after: end.map(|since| UNIX_EPOCH + since),
            key: certificate.key_kind.clone(),
            sha256: sha256(&certificate.der),
            flaws,
        }
    }
}

#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
fn sha256(der: &[u8]) -> Option<[u8; 32]> {
    Some(openssl::sha::sha256(der))
}

/// The libraries of these systems have no call for it.
#[cfg(any(target_os = "windows", target_vendor = "apple"))]
fn sha256(_: &[u8]) -> Option<[u8; 32]> {
    None
}

impl TlsDetails {
    /// From the choice in the ServerHello, the protocol that ALPN chose, and the broker's certificate in DER.
    pub(crate) fn new(
        chosen: Option<(TlsVersion, Cipher)>,
        alpn: Option<&[u8]>,
        certificate: Option<&[u8]>,
    ) -> Self {
        let certificate = certificate.and_then(Certificate::read);
        TlsDetails {
            version: chosen.map(|(version, _)| version),
            cipher: chosen.map(|(_, cipher)| cipher),
            alpn: alpn.map(|name| String::from_utf8_lossy(name).into_owned()),
            certificate: certificate.map(|certificate| BrokerCertificate::new(&certificate)),
        }
    }
}

impl BrokerCertificate {
    fn new(certificate: &Certificate) -> Self {
        let (start, end) = certificate.validity();
        let names = certificate.names.iter();
        let text = |name: &Name| match name {
            Name::Dns(name) | Name::Address(name) => name.clone(),
        };
        BrokerCertificate {
            common_name: certificate.common_name.clone(),
            issuer: certificate.issuer_name(),
            names: names.map(text).collect(),
            not_before: start.map(|since| UNIX_EPOCH + since),
            not_after: end.map(|since| UNIX_EPOCH + since),
        }
    }
}

/// Version and cipher suite.
impl fmt::Display for TlsDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.version, self.cipher) {
            (Some(version), Some(cipher)) => write!(f, "{version}, {cipher}"),
            _ => f.write_str("TLS"),
        }
    }
}
