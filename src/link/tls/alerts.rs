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
        40 | 47 | 50 | 51 | 80 | 113..=115 => {
            let fact = format!(
                "the broker broke off with TLS alert {number}{}",
                name(number)
            );
            error(
                &flaw.beside(&fact),
                &format!("{}; else {advice}", flaw.advice),
            )
        }
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

/// The name of an alert behind its number, for some that need it.
fn name(number: u8) -> &'static str {
    match number {
        40 => ", handshake failure",
        47 => ", illegal parameter",
        50 => ", decode error",
        51 => ", decrypt error",
        80 => ", internal error",
        _ => "",
    }
}

/// Explains an alert by its number alone.
fn without_flaws(number: u8, tried: String, connector: &Connector) -> Error {
    let given = connector.options.identity.is_some();
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
        45 if given => {
            let end = connector.chain.first().and_then(|first| first.end());
            let own = end.map_or(String::new(), |end| {
                format!(", and it is valid until {end} by this machine's clock")
            });
            error(
                &format!("the broker says that the client certificate has expired{own}"),
                "check the broker's clock, and whether the CA of the certificate has expired; else get a \
                 new certificate and give it with `cert`",
            )
        }
        45 => error(
            "the broker says that a certificate has expired",
            "check its clock",
        ),
        41 | 116 => error(
            "the broker demands a client certificate and got none",
            "check that its kind (RSA, elliptic curve) and issuer are among those the broker takes",
        ),
        48 => error(
            &format!(
                "the broker rejected the client certificate: it does not know the CA that signed it{}",
                connector.signer()
            ),
            "give `cert` one of a CA that the broker knows, with its intermediates",
        ),
        43 => error(
            "the broker says that the client certificate is of an unsupported kind (TLS alert 43)",
            "compare its kind (RSA, elliptic curve) and its purposes with those that the broker takes",
        ),
        49 => error(
            "the broker denies access to the client certificate (TLS alert 49)",
            "give `cert` one that the broker's access rules allow, or change the rules",
        ),
        42 | 46 | 51 | 113..=115 => error(
            &format!("the broker rejected the client certificate (TLS alert {number})"),
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
                &format!(
                    "the broker broke off with TLS alert {number}{}",
                    name(number)
                ),
                "try again; if it happens again, look into the broker's log",
            );
        }
    };
    error.permanent()
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
