//! Explains the alerts with which a broker gives up, above all those about the client's certificate.
//!
//! An alert is one number, and brokers differ in which one they send. So the client's own certificate is
//! looked at for what a broker may not like, and what is found is said. Runs on the loop's thread.

use super::Connector;
use super::flaws::FlawKind;
use crate::error::{Blame, Error};

/// Explains an alert. The numbers are those of RFC 8446, 6.2.
pub(super) fn explain(number: u8, tried: String, connector: &Connector) -> Error {
    let error =
        |problem: &str, advice: &str| Error::new(Blame::Tls, tried.clone(), problem, advice);
    let flaws = connector.flaws();
    if let Some(flaw) = flaws.iter().find(|flaw| is_cause(flaw.kind, number)) {
        let said = match number {
            45 => "says that the client certificate has expired",
            43 => "says that the client certificate is of an unsupported kind",
            _ => "rejected the client certificate",
        };
        let problem = format!("the broker {said} (TLS alert {number}); {}", flaw.problem);
        return error(&problem, &flaw.advice).permanent();
    }
    let plain = without_flaws(number, tried.clone(), connector);
    let Some(flaw) = flaws.first() else {
        return plain;
    };
    let (problem, advice) = (plain.problem(), plain.advice());
    let told = match number {
        // The broker says what it dislikes, and that is another thing.
        42..=46 | 48 | 49 | 116 => error(
            &format!("{problem}; besides, {}", flaw.problem),
            &format!("{advice}; and {}", flaw.advice),
        ),
        // These say nothing of a certificate, and are sent because of one all the same.
        40 | 47 | 50 | 51 | 80 | 113..=115 => error(
            &flaw.beside(&fact(number)),
            &format!("{}; else {advice}", flaw.advice),
        ),
        _ => return plain,
    };
    match plain.is_permanent() {
        true => told.permanent(),
        false => told,
    }
}

/// Whether the alert says that this kind of flaw is the reason, or says of the certificate only that it is refused.
fn is_cause(kind: FlawKind, number: u8) -> bool {
    match number {
        42 | 46 => kind != FlawKind::Length,
        43 => kind == FlawKind::Purpose,
        45 => kind == FlawKind::Expired,
        _ => false,
    }
}

/// The alert alone, which says little of a cause.
fn fact(number: u8) -> String {
    let name = match number {
        40 => ", handshake failure",
        47 => ", illegal parameter",
        50 => ", decode error",
        51 => ", decrypt error",
        80 => ", internal error",
        _ => "",
    };
    format!("the broker broke off with TLS alert {number}{name}")
}

/// Explains an alert by its number alone.
fn without_flaws(number: u8, tried: String, connector: &Connector) -> Error {
    if number == 70 {
        return too_old(tried);
    }
    let of_the_certificate = match connector.options.identity {
        Some(_) => with_certificate(number, connector),
        None => without_certificate(number),
    };
    let error = |problem: String, advice| Error::new(Blame::Tls, tried, problem, advice);
    match of_the_certificate.or_else(|| of_the_handshake(number)) {
        Some((problem, advice)) => error(problem, advice).permanent(),
        None => error(
            fact(number),
            "try again; if it happens again, look into the broker's log",
        ),
    }
}

/// Problem and advice of an alert that has to do with the client certificate, or may have.
fn with_certificate(number: u8, connector: &Connector) -> Option<(String, &'static str)> {
    let (problem, advice) = match number {
        44 => (
            "the broker says that the client certificate is revoked".to_owned(),
            "get a new certificate and give it with `cert`",
        ),
        45 => {
            let end = connector.chain.first().and_then(|first| first.end());
            let own = end.map_or(String::new(), |end| {
                format!(", and it is valid until {end} by this machine's clock")
            });
            (
                format!("the broker says that the client certificate has expired{own}"),
                "check the broker's clock, and whether the CA of the certificate has expired; else get a \
                 new certificate and give it with `cert`",
            )
        }
        41 | 116 => (
            "the broker demands a client certificate and got none".to_owned(),
            "check that its kind (RSA, elliptic curve) and issuer are among those the broker takes",
        ),
        48 => (
            format!(
                "the broker rejected the client certificate: it does not know the CA that signed it{}",
                connector.signer()
            ),
            "give `cert` one of a CA that the broker knows, with its intermediates",
        ),
        43 => (
            "the broker says that the client certificate is of an unsupported kind (TLS alert 43)"
                .to_owned(),
            "compare its kind (RSA, elliptic curve) and its purposes with those that the broker takes",
        ),
        49 => (
            "the broker denies access to the client certificate (TLS alert 49)".to_owned(),
            "give `cert` one that the broker's access rules allow, or change the rules",
        ),
        42 | 46 => (
            format!("the broker rejected the client certificate (TLS alert {number})"),
            "give `cert` one that is registered, active and signed by a CA that the broker knows",
        ),
        // These name a calculation or an extension, and brokers send them because of a certificate, too.
        51 | 113..=115 => (
            format!("{}; it may not accept the client certificate", fact(number)),
            "see the broker's log; if it names the certificate, give `cert` one that is registered, active and signed by a \
             CA that the broker knows",
        ),
        _ => return None,
    };
    Some((problem, advice))
}

/// The same where no certificate was given. With TLS 1.2 brokers answer a missing one with any of several alerts.
fn without_certificate(number: u8) -> Option<(String, &'static str)> {
    match number {
        41 | 116 => Some((
            "the broker demands a client certificate and none was given".to_owned(),
            "give `cert` and `key`, or `pkcs12`",
        )),
        45 => Some((
            "the broker says that a certificate has expired".to_owned(),
            "check its clock",
        )),
        40 | 42..=44 | 46 | 48 | 49 | 113..=115 => Some((
            format!(
                "{}; it may demand a client certificate and none was given",
                fact(number)
            ),
            "give `cert` and `key`, or `pkcs12`; else compare the broker's TLS settings with this client's, and its log",
        )),
        _ => None,
    }
}

/// The same of an alert that has to do with other things.
fn of_the_handshake(number: u8) -> Option<(String, &'static str)> {
    let (problem, advice) = match number {
        40 | 71 => (
            "the broker and this client have no cipher or curve in common, or the broker did not accept the client certificate"
                .to_owned(),
            "compare the broker's TLS settings with this client's, and its log",
        ),
        51 => (
            fact(number),
            "compare the broker's TLS settings with this client's, and its log",
        ),
        112 => (
            "the broker does not know the name that this client sent (SNI)".to_owned(),
            "check `host`, or give the right name with `server_name`",
        ),
        120 => (
            "the broker takes none of the ALPN protocols it was offered".to_owned(),
            "check `alpn` (AWS IoT on port 443: x-amzn-mqtt-ca)",
        ),
        _ => return None,
    };
    Some((problem, advice))
}

pub(super) fn too_old(tried: String) -> Error {
    Error::new(
        Blame::Tls,
        tried,
        "the broker offers no TLS version from 1.2 on",
        "have the broker updated or configured for TLS 1.2 or 1.3",
    )
    .permanent()
}
