//! Looks for what a broker may not like about the client's own certificates: dates, purposes, length.
//!
//! Reads what the connector keeps of them, and the clock to compare dates. Decides nothing: only the broker
//! verifies them. Runs on the loop's thread.

use std::time::{Duration, SystemTime};

use super::Connector;
use super::certificate::Certificate;

/// The bytes of a certificate chain that OpenSSL takes unless told otherwise.
const LONGEST_CHAIN: usize = 100 * 1024;

impl Connector {
    /// If the client's certificate and those sent with it have more bytes than most brokers take: a clause
    /// that says so, and a remedy.
    fn chain_length(&self) -> Option<(String, &'static str)> {
        // Three bytes state the length of each.
        let bytes: usize = self.chain.iter().map(|one| one.der.len() + 3).sum();
        (bytes > LONGEST_CHAIN).then(|| {
            let count = self.chain.len();
            (
                format!(
                    "{} holds a chain of {count} certificates, {bytes} bytes, and a broker with \
                     OpenSSL takes {LONGEST_CHAIN} unless told otherwise",
                    self.identity_option()
                ),
                "leave in it the client's certificate and the ones between it and its root CA",
            )
        })
    }

    /// The name of the CA that signed the last certificate of the chain, to follow "the CA that signed it".
    pub(super) fn signer(&self) -> String {
        let name = self.chain.last().and_then(Certificate::shown_issuer);
        match (name, self.chain.len()) {
            (Some(name), 1) => format!(", {name}"),
            (Some(name), count) => {
                let option = self.identity_option();
                format!(", {name} above the {count} certificates in {option}")
            }
            (None, _) => String::new(),
        }
    }

    /// The first thing about the client's certificates for which a broker may refuse them: a clause that
    /// says it, and a remedy. `None` if there is no such thing, or no certificate.
    pub(crate) fn flaw(&self) -> Option<(String, String)> {
        let now = now();
        let option = self.identity_option();
        for (number, certificate) in (1..).zip(&self.chain) {
            if let Some(invalid) = certificate.invalid_at(now) {
                let which = match number {
                    1 => "the client certificate".to_owned(),
                    _ => format!("certificate {number} of the chain in {option}"),
                };
                return Some((
                    format!("{which} {invalid} by this machine's clock"),
                    format!(
                        "give {option} one that is valid now, or set the clock of this machine"
                    ),
                ));
            }
        }
        let first = self.chain.first()?;
        if !first.serves_clients {
            return Some((
                "the client certificate is not made for clients: its extended key usage lacks clientAuth"
                    .to_owned(),
                format!("give {option} one with extendedKeyUsage=clientAuth"),
            ));
        }
        if !first.signs {
            return Some((
                "the client certificate is not made for TLS: its key usage lacks digitalSignature"
                    .to_owned(),
                format!("give {option} one with keyUsage=digitalSignature"),
            ));
        }
        let (problem, advice) = self.chain_length()?;
        Some((problem, advice.to_owned()))
    }

    /// The option that names the client's certificate.
    fn identity_option(&self) -> &'static str {
        match self.is_archive {
            true => "`pkcs12`",
            false => "`cert`",
        }
    }
}

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
