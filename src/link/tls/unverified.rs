//! Explains why the broker's certificate did not pass: with the names and dates that it has.
//!
//! The certificate was seen on a second connection and is not verified: it serves the text alone. No advice
//! leads around the verification. Runs on the loop's thread.

use std::net::IpAddr;
use std::path::Path;

use super::Connector;
use super::certificate::{Certificate, Invalid, Name};
use super::flaws::now;
use crate::options::Options;

/// Returns the problem and the remedy. `reason` is OpenSSL's text, from `X509_verify_cert_error_string`.
pub(super) fn explain(
    reason: &str,
    options: &Options,
    connector: &Connector,
    seen: Option<&Certificate>,
) -> (String, String) {
    // OpenSSL up to 1.1.1 writes "self signed", later versions "self-signed".
    let plain = reason
        .to_ascii_lowercase()
        .replace("self-signed", "self signed");
    match plain.as_str() {
        "self signed certificate"
        | "self signed certificate in certificate chain"
        | "unable to get local issuer certificate"
        | "unable to get issuer certificate"
        | "unable to verify the first certificate"
        | "certificate signature failure" => {
            let (problem, advice) = untrusted(&plain, connector, seen);
            let advice = options.ats_host().map_or(advice, |ats| {
                format!(
                    "this is an old name of AWS IoT, with a certificate of a CA that systems do not trust \
                     any more: give `host` {ats}"
                )
            });
            (problem, advice)
        }
        "certificate has expired" | "certificate is not yet valid" => not_now(&plain, connector, seen),
        "hostname mismatch" | "ip address mismatch" => {
            another_name(connector.name(&options.host), options, seen)
        }
        // The words of OpenSSL 3 and of earlier versions.
        "unsuitable certificate purpose" | "unsupported certificate purpose" => match seen {
            Some(seen) if !seen.serves_servers => (
                "the broker's certificate is not made for servers: its extended key usage lacks serverAuth"
                    .to_owned(),
                "have it made with extendedKeyUsage=serverAuth".to_owned(),
            ),
            _ => (
                format!("the broker's certificate or one of its CAs is not made for this ({plain})"),
                "have the certificates made for a server and its CA: keyUsage and extendedKeyUsage"
                    .to_owned(),
            ),
        },
        "invalid ca certificate" => (
            "the broker's certificate is signed by a certificate that is not a CA's".to_owned(),
            "have that one made with basicConstraints=CA:TRUE, or the broker's signed by a CA".to_owned(),
        ),
        other => (
            format!("the broker's certificate was refused ({other})"),
            "have the broker's certificate made anew without that".to_owned(),
        ),
    }
}

/// Nobody who is trusted has signed it.
fn untrusted(reason: &str, connector: &Connector, seen: Option<&Certificate>) -> (String, String) {
    let Some(path) = &connector.ca_file else {
        return match reason {
            "self signed certificate" => self_signed(),
            _ => (
                "the broker's certificate is not signed by a CA that this system trusts".to_owned(),
                "give the CA's certificate with `ca_file`".to_owned(),
            ),
        };
    };
    let of_that_name = |issuer: &Certificate| {
        let mut authorities = connector.authorities.iter();
        authorities.any(|authority| authority.subject == issuer.issuer)
    };
    let signed =
        |authority: &&Certificate| seen.is_some_and(|seen| seen.issuer == authority.subject);
    if reason == "unable to get issuer certificate" {
        let above = connector.authorities.iter().find(signed);
        let above = above.and_then(Certificate::shown_issuer);
        let above = above.map_or(String::new(), |name| format!(", {name}"));
        return (
            format!(
                "{} holds an intermediate CA without the CA that signed it{above}",
                path.display()
            ),
            "add that CA's certificate to `ca_file`, and those above it up to the root".to_owned(),
        );
    }
    if reason == "certificate signature failure" || seen.is_some_and(of_that_name) {
        return namesake(path, connector, seen);
    }
    if reason == "self signed certificate" {
        return self_signed();
    }
    let signer = seen.and_then(Certificate::shown_issuer);
    let signer = signer.map_or(String::new(), |name| format!(", {name}"));
    (
        format!(
            "{} does not contain the CA that signed the broker's certificate{signer}",
            path.display()
        ),
        "give `ca_file` the broker's root CA, and intermediate ones that the broker does not send"
            .to_owned(),
    )
}

fn self_signed() -> (String, String) {
    (
        "the broker's certificate is self-signed and not trusted".to_owned(),
        "if this is the right broker, give its certificate with `ca_file`".to_owned(),
    )
}

/// A CA has the right name and did not sign it.
fn namesake(path: &Path, connector: &Connector, seen: Option<&Certificate>) -> (String, String) {
    // The one that has signed the broker's certificate, or an intermediate one that the broker sends.
    let authorities = connector.authorities.as_slice();
    let namesake = authorities
        .iter()
        .find(|authority| seen.is_some_and(|seen| seen.issuer == authority.subject))
        .or(match authorities {
            [only] => Some(only),
            _ => None,
        });
    let name = namesake.and_then(Certificate::shown_common_name);
    let name = name.map_or(String::new(), |name| format!(", {name}"));
    (
        format!(
            "{} does not contain the CA that signed the broker's certificate: it holds another CA of the \
             same name{name}, with another key",
            path.display()
        ),
        "give `ca_file` the one that signed the broker's present certificate, if the CA was made anew; or \
         have the broker use the certificate that this CA signed"
            .to_owned(),
    )
}

/// A date has passed, or has not come: of the broker's certificate, or of one above it. OpenSSL does not say of which,
/// so one is named only if it is invalid in the way that OpenSSL says.
fn not_now(reason: &str, connector: &Connector, seen: Option<&Certificate>) -> (String, String) {
    let now = now();
    let has_expired = reason == "certificate has expired";
    let invalid = |certificate: &Certificate| {
        let invalid = certificate.invalid_at(now);
        invalid.filter(|invalid| matches!(invalid, Invalid::Expired(_)) == has_expired)
    };
    let invalid_ca = connector
        .authorities
        .iter()
        // Another CA in the file may have expired without doing any harm.
        .filter(|authority| seen.is_some_and(|seen| seen.issuer == authority.subject))
        .find_map(|authority| Some((authority, invalid(authority)?)));
    let (state, advice) = match has_expired {
        true => (
            "has expired",
            "have it renewed, and check this machine's clock too",
        ),
        false => ("is not valid yet", "check this machine's clock"),
    };
    let problem = match (seen.map(invalid), invalid_ca, &connector.ca_file) {
        (Some(Some(own)), _, _) => format!("the broker's certificate {state}: it {own}"),
        (Some(None), Some((authority, ca_s)), Some(path)) => {
            let name = authority.shown_common_name().unwrap_or_default();
            format!("the CA {name} in {} {state}: it {ca_s}", path.display())
        }
        (Some(None), _, _) => format!("the certificate of the broker's CA {state}"),
        (None, _, _) => format!("the certificate of the broker or of its CA {state}"),
    };
    (problem, advice.to_owned())
}

/// It is for other names.
fn another_name(name: &str, options: &Options, seen: Option<&Certificate>) -> (String, String) {
    let problem = format!("the broker's certificate is not for the name {name}");
    let Some(seen) = seen else {
        let address = options.address();
        return (
            problem,
            format!(
                "check `host`, or give the name that is in the certificate with `server_name`; openssl \
                 s_client -connect {address} | openssl x509 -noout -text shows it"
            ),
        );
    };
    let is_address = |name: &str| name.parse::<IpAddr>().is_ok();
    let common_name = seen.shown_common_name();
    let problem = match (&common_name, seen.names.is_empty()) {
        (_, false) => format!("{problem}, but for {}", seen.shown_names()),
        (Some(common_name), true) => {
            format!("{problem}: it has no alternative names, only the common name {common_name}")
        }
        (None, true) => format!("{problem}: it has no name at all"),
    };
    // It is there all the same, in a place where it does not count.
    let same = |said: &str| said.parse::<IpAddr>() == name.parse();
    let said = seen
        .names
        .iter()
        .any(|one| matches!(one, Name::Dns(dns) if same(dns)));
    if is_address(name) && (said || seen.common_name.as_deref().is_some_and(same)) {
        return (
            problem,
            format!(
                "an address counts only as an alternative name: have the certificate made with \
                 subjectAltName=IP:{name}"
            ),
        );
    }
    // The common name counts only where there is no alternative name, and never as an address.
    let usable = seen.names.iter().any(|one| match one {
        Name::Dns(dns) => !dns.contains('*') && !is_address(dns),
        Name::Address(_) => true,
    });
    let common = seen.common_name.as_deref().filter(|common| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        seen.names.is_empty() && common.chars().all(plain) && !is_address(common)
    });
    let kind = if is_address(name) { "IP" } else { "DNS" };
    let anew = format!("have the certificate made with subjectAltName={kind}:{name}");
    let advice = if usable || common.is_some() {
        format!("check `host`, or give a name that is in it with `server_name`, or {anew}")
    } else {
        format!("check `host`, or {anew}")
    };
    (problem, advice)
}
