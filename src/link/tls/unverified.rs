//! Explains why the broker's certificate did not pass: with the names and dates that it has.
//!
//! The certificate was seen on a second connection and is not verified: it serves the text alone. No advice
//! leads around the verification. Runs on the loop's thread.

use std::net::IpAddr;

use super::Connector;
use super::certificate::{Certificate, Invalid, Name, path};
use super::flaws::now;
use crate::options::{Material, Options};

/// Returns the problem and the remedy. `reason` is OpenSSL's text, from `X509_verify_cert_error_string`.
pub(super) fn explain(
    reason: &str,
    options: &Options,
    connector: &Connector,
    seen: &[Certificate],
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
            another_name(connector.name(&options.host), options, seen.first())
        }
        // The words of OpenSSL 3 and of earlier versions.
        "unsuitable certificate purpose" | "unsupported certificate purpose" => match seen.first() {
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

impl Connector {
    /// Where the authorities are, if they are not the system's.
    fn ca_place(&self) -> Option<String> {
        Some(match self.options.ca.as_ref()? {
            Material::File(path) => path.display().to_string(),
            Material::Memory(_) => "the CA text in memory".to_owned(),
        })
    }
}

/// Nobody who is trusted has signed it.
fn untrusted(reason: &str, connector: &Connector, seen: &[Certificate]) -> (String, String) {
    let Some(ca_file) = connector.ca_place() else {
        return match reason {
            "self signed certificate" => self_signed(),
            _ => (
                "the broker's certificate is not signed by a CA that this system trusts".to_owned(),
                "give the CA's certificate with `ca`".to_owned(),
            ),
        };
    };
    // The uppermost of those that the broker sends is signed by one that it does not send, or by itself.
    let top = path(seen).last().map(|(_, top)| *top);
    let signer = top.and_then(|top| {
        let mut authorities = connector.authorities.iter();
        authorities.find(|authority| authority.subject == top.issuer)
    });
    if reason == "unable to get issuer certificate" {
        let above = signer.and_then(Certificate::shown_issuer);
        let above = above.map_or(String::new(), |name| format!(", {name}"));
        return (
            format!(
                "{} holds an intermediate CA without the CA that signed it{above}",
                ca_file
            ),
            "add that CA's certificate to `ca`, and those above it up to the root".to_owned(),
        );
    }
    if reason == "certificate signature failure" || signer.is_some() {
        return namesake(&ca_file, connector, signer);
    }
    if reason == "self signed certificate" {
        return self_signed();
    }
    let signer = top.and_then(Certificate::shown_issuer);
    let signer = signer.map_or(String::new(), |name| format!(", {name}"));
    (
        format!(
            "{} does not contain the CA that signed the broker's certificate{signer}",
            ca_file
        ),
        "give `ca` the broker's root CA, and intermediate ones that the broker does not send"
            .to_owned(),
    )
}

fn self_signed() -> (String, String) {
    (
        "the broker's certificate is self-signed and not trusted".to_owned(),
        "if this is the right broker, give its certificate with `ca`".to_owned(),
    )
}

/// A CA has the right name and did not sign it.
fn namesake(ca_file: &str, connector: &Connector, found: Option<&Certificate>) -> (String, String) {
    let namesake = found.or(match connector.authorities.as_slice() {
        [only] => Some(only),
        _ => None,
    });
    let name = namesake.and_then(Certificate::shown_common_name);
    let name = name.map_or(String::new(), |name| format!(", {name}"));
    (
        format!(
            "{} does not contain the CA that signed the broker's certificate: it holds another CA of the \
             same name{name}, with another key",
            ca_file
        ),
        "give `ca` the one that signed the broker's present certificate, if the CA was made anew; or \
         have the broker use the certificate that this CA signed"
            .to_owned(),
    )
}

/// A date has passed, or has not come: of the broker's certificate, or of one above it. OpenSSL does not say of which,
/// so one is named only if it is invalid in the way that OpenSSL says.
fn not_now(reason: &str, connector: &Connector, seen: &[Certificate]) -> (String, String) {
    let now = now();
    let has_expired = reason == "certificate has expired";
    let (state, advice) = match has_expired {
        true => (
            "has expired",
            "have it renewed, and check this machine's clock too",
        ),
        false => ("is not valid yet", "check this machine's clock"),
    };
    let told = |which: &str, certificate: &Certificate| {
        let invalid = certificate.invalid_at(now);
        let invalid =
            invalid.filter(|invalid| matches!(invalid, Invalid::Expired(_)) == has_expired)?;
        Some(format!("{which} {state}: it {invalid}"))
    };
    let ca = |place: &str, certificate: &Certificate| {
        let name = certificate.shown_common_name().unwrap_or_default();
        told(&format!("the CA {name} {place}"), certificate)
    };
    let path = path(seen);
    let sent = path.iter().map(|(place, certificate)| match place {
        1 => told("the broker's certificate", certificate),
        _ => ca("that the broker sends", certificate),
    });
    // Another CA in the file may have expired without doing any harm.
    let has_signed =
        |authority: &&Certificate| path.iter().any(|(_, one)| one.issuer == authority.subject);
    let held = connector.authorities.iter().filter(has_signed);
    let held = held.map(|authority| {
        let file = connector.ca_place().unwrap_or_default();
        ca(&format!("in {file}"), authority)
    });
    let problem = sent.chain(held).flatten().next();
    let problem = problem.unwrap_or_else(|| {
        let whose = match seen {
            [] => "the certificate of the broker or of its CA",
            _ => "the certificate of the broker's CA",
        };
        format!("{whose} {state}")
    });
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
