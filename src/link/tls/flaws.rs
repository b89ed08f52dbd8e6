//! Looks for what a broker may not like about the client's own certificates: dates, purposes, length.
//!
//! Reads what the connector keeps of them, and the clock to compare dates. Decides nothing: only the broker
//! verifies them. Runs on the loop's thread.

use std::time::{Duration, SystemTime};

use super::Connector;
use super::certificate::{Certificate, Invalid, path};
use super::details::ClientCertificate;
use crate::options::Identity;

/// The bytes of a certificate chain that OpenSSL takes unless told otherwise.
const LONGEST_CHAIN: usize = 100 * 1024;

/// Something about the client's certificates for which a broker may refuse them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(super) kind: FlawKind,
    /// A clause that says it.
    pub(super) problem: String,
    /// The remedy.
    pub(crate) advice: String,
}

/// The kinds of flaws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlawKind {
    NotYetValid,
    Expired,
    Purpose,
    Length,
}

impl Flaw {
    /// Names the flaw beside what the broker did, where the broker did not say that it is the reason.
    pub(crate) fn beside(&self, fact: &str) -> String {
        format!("{fact}; {}, which may be the reason", self.problem)
    }
}

impl Connector {
    /// The first flaw of the client's certificates; `None` if they have none, or if there is no certificate.
    pub(crate) fn flaw(&self) -> Option<Flaw> {
        self.flaws().into_iter().next()
    }

    /// The client's own certificate, with its flaws.
    pub(crate) fn own_certificate(&self) -> Option<ClientCertificate> {
        let flaws = self.flaws().into_iter().map(|flaw| flaw.problem);
        Some(ClientCertificate::new(self.chain.first()?, flaws.collect()))
    }

    /// All flaws of the client's certificates.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = self.dates();
        flaws.extend(self.purposes());
        flaws.extend(self.length());
        flaws
    }

    fn dates(&self) -> Vec<Flaw> {
        let now = now();
        let option = self.identity_option();
        let flaw = |(number, certificate): (usize, &Certificate)| {
            let invalid = certificate.invalid_at(now)?;
            let which = match number {
                1 => "the client certificate".to_owned(),
                _ => format!("certificate {number} of the chain in {option}"),
            };
            Some(Flaw {
                kind: match invalid {
                    Invalid::NotYet(_) => FlawKind::NotYetValid,
                    Invalid::Expired(_) => FlawKind::Expired,
                },
                problem: format!("{which} {invalid} by this machine's clock"),
                advice: format!(
                    "give {option} one that is valid now, or set the clock of this machine"
                ),
            })
        };
        path(&self.chain).into_iter().filter_map(flaw).collect()
    }

    fn purposes(&self) -> Option<Flaw> {
        let first = self.chain.first()?;
        let (problem, needed) = if !first.serves_clients {
            (
                "made for clients: its extended key usage lacks clientAuth",
                "extendedKeyUsage=clientAuth",
            )
        } else if !first.signs {
            (
                "made for TLS: its key usage lacks digitalSignature",
                "keyUsage=digitalSignature",
            )
        } else {
            return None;
        };
        Some(Flaw {
            kind: FlawKind::Purpose,
            problem: format!("the client certificate is not {problem}"),
            advice: format!("give {} one with {needed}", self.identity_option()),
        })
    }

    /// All certificates in the file are sent; together they may have more bytes than most brokers take.
    fn length(&self) -> Option<Flaw> {
        // Three bytes state the length of each.
        let bytes: usize = self.chain.iter().map(|one| one.der.len() + 3).sum();
        (bytes > LONGEST_CHAIN).then(|| Flaw {
            kind: FlawKind::Length,
            problem: format!(
                "{} holds a chain of {} certificates, {bytes} bytes, and a broker with OpenSSL takes \
                 {LONGEST_CHAIN} unless told otherwise",
                self.identity_option(),
                self.chain.len(),
            ),
            advice: "leave in it the client's certificate and the ones between it and its root CA"
                .to_owned(),
        })
    }

    /// The name of the CA that signed the last certificate up from the client's, to follow "the CA that signed it".
    pub(super) fn signer(&self) -> String {
        let path = path(&self.chain);
        let name = path.last().and_then(|(_, last)| last.shown_issuer());
        match (name, path.len()) {
            (Some(name), 1) => format!(", {name}"),
            (Some(name), count) => {
                let option = self.identity_option();
                format!(", {name} above the {count} certificates in {option}")
            }
            (None, _) => String::new(),
        }
    }

    /// The option that names the client's certificate.
    fn identity_option(&self) -> &'static str {
        match self.options.identity {
            Some(Identity::Pkcs12 { .. }) => "`pkcs12`",
            _ => "`cert`",
        }
    }
}

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
