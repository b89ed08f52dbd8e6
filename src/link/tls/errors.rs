//! Explains TLS failures: turns the TLS library's text into an error that says who has to do what.
//!
//! The library's errors differ only in their text. This file knows the texts of OpenSSL (1.1.1 to 3.x) and
//! reports those of other libraries as unknown failures. It reads errors, and the clock to compare dates. Runs
//! on the loop's thread.

use std::error::Error as _;
use std::io;

use super::certificate::Certificate;
use super::{Connector, alerts, unverified};
use crate::error::{Blame, Error};
use crate::options::Options;

/// OpenSSL's words for a certificate that did not pass.
const UNVERIFIED: &str = "certificate verify failed";

/// OpenSSL adds this text to every error that reports an alert of the peer (RFC 8446, 6).
const ALERT: &str = "SSL alert number ";

/// Whether the error is that the broker's certificate did not pass.
pub(crate) fn is_unverified(error: &native_tls::Error) -> bool {
    error.to_string().contains(UNVERIFIED)
}

/// Whether a certificate did not pass because of one above it, as far as OpenSSL tells.
pub(crate) fn is_about_issuers(error: &native_tls::Error) -> bool {
    let text = error.to_string();
    let words = [
        "issuer certificate",
        "in certificate chain",
        "verify the first certificate",
        "certificate signature failure",
        "certificate has expired",
        "certificate is not yet valid",
    ];
    is_unverified(error) && words.iter().any(|words| text.contains(words))
}

/// Explains a failed handshake. `seen` has the broker's certificate in DER, and behind it those that the broker sends
/// with it, as far as a look at them was possible.
///
/// An error is permanent if certificates, names or protocol versions cause it. A handshake that broke off
/// or failed for an unknown reason may succeed next time.
pub(crate) fn handshake_error(
    error: &native_tls::Error,
    options: &Options,
    connector: &Connector,
    seen: &[Vec<u8>],
) -> Error {
    let tried = format!("TLS handshake with {}", options.address());
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return options.with_missing_alpn(broken_off(tried, io, connector));
        }
        source = cause.source();
    }
    let text = error.to_string();
    if text.contains(UNVERIFIED) {
        // The reason is in parentheses at the end.
        let reason = text.rsplit_once(" (").map_or("", |(_, rest)| rest);
        let seen: Vec<_> = seen
            .iter()
            .map_while(|der| Certificate::read(der))
            .collect();
        let (problem, advice) =
            unverified::explain(reason.trim_end_matches(')'), options, connector, &seen);
        return Error::new(Blame::Tls, tried, problem, advice).permanent();
    }
    options.with_missing_alpn(explain(&text, tried, connector))
}

/// Explains an I/O error on an established TLS link before CONNACK, if the error is an alert of the broker.
/// With TLS 1.3 a broker rejects a client certificate only there.
///
/// Returns `None` if the error is no TLS alert.
pub(crate) fn alert_error(
    error: &io::Error,
    options: &Options,
    connector: &Connector,
) -> Option<Error> {
    // An error of the operating system has no inner error, so this returns `None` for it.
    let text = error.get_ref()?.to_string();
    let number = alert_number(&text)?;
    let tried = format!("TLS with {}", options.address());
    Some(options.with_missing_alpn(alerts::explain(number, tried, connector)))
}

/// The certificates, in DER, that the other side of a handshake up to TLS 1.2 has sent. Empty as long as not all of
/// them were read.
pub(crate) fn certificates(records: &[u8]) -> Vec<Vec<u8>> {
    sent_certificates(records).unwrap_or_default()
}

fn sent_certificates(records: &[u8]) -> Option<Vec<Vec<u8>>> {
    const HANDSHAKE: u8 = 22;
    const CERTIFICATE: u8 = 11;
    // RFC 5246, 6.2.1: type, version (2), length (2), content. A message may lie in several records.
    let mut rest = records;
    let mut messages = Vec::new();
    while let [HANDSHAKE, _, _, high, low, content @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (part, behind) = content.split_at(length.min(content.len()));
        messages.extend_from_slice(part);
        rest = behind;
    }
    // 7.4: type, length (3), body. That of a certificate: length (3) of all, then of each before it.
    let mut rest = messages.as_slice();
    loop {
        let (kind, after) = rest.split_first()?;
        let (body, after) = vector(after)?;
        if *kind == CERTIFICATE {
            let (all, _) = vector(body)?;
            let mut found = Vec::new();
            let mut left = all;
            while !left.is_empty() {
                let (one, behind) = vector(left)?;
                found.push(one.to_vec());
                left = behind;
            }
            return Some(found);
        }
        rest = after;
    }
}

/// The bytes behind a length of three bytes, and the rest.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [high, middle, low, rest @ ..] = bytes else {
        return None;
    };
    let length = u32::from_be_bytes([0, *high, *middle, *low]);
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// The reasons in OpenSSL's error text, without its codes, functions and source lines. Returns text of
/// another form unchanged.
pub(super) fn reasons(text: &str) -> String {
    // error:CODE:library:function:reason:file:line:data, error:...
    let Some(entries) = text.strip_prefix("error:") else {
        return text.to_owned();
    };
    let mut found: Vec<&str> = Vec::new();
    for entry in entries.split(", error:") {
        match entry.split(':').nth(3) {
            Some(reason) if !found.contains(&reason) => found.push(reason),
            _ => {}
        }
    }
    found.join(", ")
}

fn explain(text: &str, tried: String, connector: &Connector) -> Error {
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if let Some(number) = alert_number(text) {
        alerts::explain(number, tried, connector)
    } else if has(&["excessive message size"]) {
        Error::new(
            Blame::Tls,
            tried,
            "the broker's certificate chain is longer than OpenSSL takes (100 KiB)",
            "have the broker send no more than its certificate and the ones between it and its root CA",
        )
        .permanent()
    } else if has(&["unexpected eof", "unexpected EOF"]) {
        Error::new(
            Blame::Tls,
            tried,
            "the other side closed the connection in the middle of the handshake",
            format!("{PORT_ADVICE}; otherwise ask whoever runs the broker"),
        )
    } else if has(&[
        "wrong version number",
        "packet length too long",
        "record layer failure",
        "bad record type",
        "unknown protocol",
    ]) {
        Error::new(
            Blame::Tls,
            tried,
            "the port does not speak TLS",
            PORT_ADVICE,
        )
        .permanent()
    } else if has(&["unsupported protocol", "no protocols available"]) {
        alerts::too_old(tried)
    } else {
        Error::new(
            Blame::Tls,
            tried,
            reasons(text),
            "try again; if it happens again, ask whoever runs the broker",
        )
    }
}

const PORT_ADVICE: &str = "check the port (usually 8883 with TLS, 1883 without)";

fn broken_off(tried: String, error: &io::Error, connector: &Connector) -> Error {
    let broke_off = format!("the connection broke off ({error})");
    match connector.flaw() {
        Some(flaw) => Error::new(Blame::Network, tried, flaw.beside(&broke_off), flaw.advice),
        None => Error::new(Blame::Network, tried, broke_off, PORT_ADVICE),
    }
}

fn alert_number(text: &str) -> Option<u8> {
    let (_, rest) = text.split_once(ALERT)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}
