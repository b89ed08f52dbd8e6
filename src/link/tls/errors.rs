//! Explains TLS failures: turns the TLS library's text into an error that says who has to do what.
//!
//! The library's errors differ only in their text. This file knows the texts of OpenSSL (1.1.1 to 3.x) and
//! reports those of other libraries as unknown failures. Pure: it reads errors and does nothing else. Runs
//! on the loop's thread.

use std::error::Error as _;
use std::io;

use crate::error::{Blame, Error};
use crate::options::TlsOptions;

/// OpenSSL adds this text to every error that reports an alert of the peer (RFC 8446, 6).
const ALERT: &str = "SSL alert number ";

/// Explains a failed handshake. `address` is `host:port`.
///
/// An error is permanent if certificates, names or protocol versions cause it. A handshake that broke off
/// or failed for an unknown reason may succeed next time.
pub fn handshake_error(
    error: &native_tls::Error,
    address: &str,
    options: &TlsOptions,
    host: &str,
) -> Error {
    let tried = format!("TLS handshake with {address}");
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return broken_off(tried, io);
        }
        source = cause.source();
    }
    explain(
        &error.to_string(),
        tried,
        options,
        super::server_name(options, host),
    )
}

/// Explains an I/O error on an established TLS link before CONNACK, if the error is an alert of the broker.
/// With TLS 1.3 a broker rejects a client certificate only there. `address` is `host:port`.
///
/// Returns `None` if the error is no TLS alert.
pub fn alert_error(error: &io::Error, address: &str, options: &TlsOptions) -> Option<Error> {
    // An error of the operating system has no inner error, so this returns `None` for it.
    let text = error.get_ref()?.to_string();
    let number = alert_number(&text)?;
    Some(on_alert(number, format!("TLS with {address}"), options))
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

fn explain(text: &str, tried: String, options: &TlsOptions, name: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if let Some(number) = alert_number(text) {
        on_alert(number, tried, options)
    } else if has(&["certificate verify failed"]) {
        let reason = text
            .rsplit_once(" (")
            .map_or("", |(_, rest)| rest.trim_end_matches(')'));
        on_unverified(reason, tried, options, name)
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
        too_old(tried)
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

fn broken_off(tried: String, error: &io::Error) -> Error {
    Error::new(
        Blame::Network,
        tried,
        format!("the connection broke off ({error})"),
        PORT_ADVICE,
    )
}

fn too_old(tried: String) -> Error {
    Error::new(
        Blame::Tls,
        tried,
        "the broker offers no TLS version from 1.2 on",
        "have the broker updated or configured for TLS 1.2 or 1.3",
    )
    .permanent()
}

/// Explains why the broker's certificate was refused. `reason` is OpenSSL's text, from
/// `X509_verify_cert_error_string`.
fn on_unverified(reason: &str, tried: String, options: &TlsOptions, name: &str) -> Error {
    let reason = reason.to_ascii_lowercase();
    // OpenSSL up to 1.1.1 writes "self signed", later versions "self-signed".
    let plain = reason.replace("self-signed", "self signed");
    let (problem, advice) = match plain.as_str() {
        "self signed certificate" => (
            "the broker's certificate is self-signed and not trusted".to_owned(),
            "if this is the right broker, give its certificate with `ca_file`".to_owned(),
        ),
        "self signed certificate in certificate chain"
        | "unable to get local issuer certificate"
        | "unable to get issuer certificate"
        | "unable to verify the first certificate" => match &options.ca_file {
            Some(path) => (
                format!("{} does not contain the CA that signed the broker's certificate", path.display()),
                "give `ca_file` the broker's root CA, and intermediate ones that the broker does not send"
                    .to_owned(),
            ),
            None => (
                "the broker's certificate is not signed by a CA that this system trusts".to_owned(),
                "give the CA's certificate with `ca_file`".to_owned(),
            ),
        },
        "certificate has expired" => (
            "the certificate of the broker or of its CA has expired".to_owned(),
            "have it renewed, and check this machine's clock too".to_owned(),
        ),
        "certificate is not yet valid" => (
            "the certificate of the broker or of its CA is not valid yet".to_owned(),
            "check this machine's clock".to_owned(),
        ),
        "hostname mismatch" | "ip address mismatch" => (
            format!("the broker's certificate is not for the name {name}"),
            "check `host`, or give the name that is in the certificate with `server_name`"
                .to_owned(),
        ),
        other => (
            format!("the broker's certificate was refused ({other})"),
            "ask whoever runs the broker for a proper certificate".to_owned(),
        ),
    };
    Error::new(Blame::Tls, tried, problem, advice).permanent()
}

fn alert_number(text: &str) -> Option<u8> {
    let (_, rest) = text.split_once(ALERT)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Explains an alert with which the broker gave up. The numbers are those of RFC 8446, 6.2.
fn on_alert(number: u8, tried: String, options: &TlsOptions) -> Error {
    let given = options.identity.is_some();
    let error =
        |problem: &str, advice: &str| Error::new(Blame::Tls, tried.clone(), problem, advice);
    let without = || {
        error(
            "the broker demands a client certificate and none was given",
            "give `cert` and `key`, or `pkcs12`",
        )
    };
    let error = match number {
        // With TLS 1.2 a broker answers a missing client certificate with the most general alert.
        40 if !given => error(
            "the broker broke off the handshake; it may demand a client certificate and none was given",
            "give `cert` and `key`, or `pkcs12`",
        ),
        40 | 71 => error(
            "the broker and this client have no cipher or curve in common, or the broker did not accept the client certificate",
            "compare the broker's TLS settings with this client's, and its log",
        ),
        // Certificate alerts, and access denied.
        41..=44 | 46 | 48 | 49 | 113..=116 if !given => without(),
        44 => error(
            "the broker says that the client certificate is revoked",
            "get a new certificate and give it with `cert`",
        ),
        45 if given => error(
            "the broker says that the client certificate has expired",
            "get a new certificate and give it with `cert`, or check the broker's clock",
        ),
        45 => error(
            "the broker says that a certificate has expired",
            "check its clock",
        ),
        41 | 116 => error(
            "the broker demands a client certificate and got none",
            "check that its kind (RSA, elliptic curve) and issuer are among those the broker takes",
        ),
        48 => error(
            "the broker rejected the client certificate: it does not know the CA that signed it",
            "give `cert` one of a CA that the broker knows, with its intermediates",
        ),
        42 | 43 | 46 | 49 | 51 | 113..=115 => error(
            "the broker rejected the client certificate",
            "give `cert` one that is registered, active and signed by a CA that the broker knows",
        ),
        70 => too_old(tried.clone()),
        112 => error(
            "the broker does not know the name that this client sent (SNI)",
            "check `host`, or give the right name with `server_name`",
        ),
        120 => error(
            "the broker takes none of the ALPN protocols it was offered",
            "check `alpn` (AWS IoT on port 443: x-amzn-mqtt-ca)",
        ),
        _ => {
            return error(
                &format!("the broker broke off with TLS alert {number}"),
                "try again; if it happens again, look into the broker's log",
            );
        }
    };
    error.permanent()
}
