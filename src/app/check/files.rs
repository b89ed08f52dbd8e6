//! The step `files`, in words: the client's own certificate and key.
//!
//! The library has read and judged them. This asks the system for the mode of the key file, and nothing else. The main
//! thread runs it.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mqtt_connection_sharing::error::shell_word;
use mqtt_connection_sharing::options::{Identity, Material, Options, Security};
use mqtt_connection_sharing::{BrokerCertificate, ClientCertificate};

use super::aws::Aws;
use super::causes::hexadecimal;
use super::report::{CheckLine, CheckStep, Status};
use crate::app::lines::Many;
use crate::app::names::as_given;

/// A certificate that ends sooner is worth a remark.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The step where everything could be read.
pub(super) fn line(options: &Options, certificate: Option<&ClientCertificate>) -> CheckLine {
    let Security::Tls(tls) = &options.security else {
        return CheckLine::new(
            CheckStep::Files,
            Status::Skipped,
            "none are needed: mqtt:// is without TLS, and anyone on the way can read and change what is sent",
        );
    };
    let ca = match &tls.ca {
        Some(ca) => format!("authorities {}", place(ca)),
        None => "the system's authorities".to_owned(),
    };
    let (cert, secret) = match &tls.identity {
        Some(Identity::Pem { cert, key }) => (cert, key),
        Some(Identity::Pkcs12 { archive, .. }) => (archive, archive),
        _ => {
            let detail = format!("no client certificate; {ca}");
            return CheckLine::new(CheckStep::Files, Status::Ok, detail);
        }
    };
    let place = place(cert);
    let Some(own) = certificate else {
        return CheckLine::new(
            CheckStep::Files,
            Status::Ok,
            format!("{place}: key fits; {ca}"),
        );
    };
    let mut parts = vec![match &own.common_name {
        Some(name) => format!("CN={}", name.escape_debug()),
        None => "no common name".to_owned(),
    }];
    let issuer = own
        .issuer
        .as_ref()
        .filter(|issuer| Some(*issuer) != own.common_name.as_ref());
    parts.extend(issuer.map(|issuer| format!("issued by {}", issuer.escape_debug())));
    parts.extend(own.not_after.map(until));
    parts.push("key fits".to_owned());
    parts.extend(own.key.clone());
    // Its identifier in AWS IoT.
    let kind = match Aws::of(options) {
        Some(_) => "AWS certificate",
        None => "SHA-256",
    };
    let id = own
        .sha256
        .map(|sha256| format!("; {kind} {}", hexadecimal(sha256)));
    let detail = format!(
        "{place}: {}; {ca}{}",
        parts.join(", "),
        id.unwrap_or_default()
    );
    let mut line = CheckLine::new(CheckStep::Files, Status::Ok, detail);
    line.remarks = own
        .flaws
        .iter()
        .map(|flaw| format!("{}: a broker may refuse it", as_given(flaw)))
        .collect();
    if own.flaws.is_empty() && own.not_after.is_some_and(ends_soon) {
        line.remarks
            .push("the certificate ends soon: have it renewed".to_owned());
    }
    if let Material::File(path) = secret {
        line.remarks.extend(exposed(path));
    }
    line
}

/// Where contents come from.
fn place(material: &Material) -> String {
    match material {
        Material::File(path) => path.display().to_string(),
        _ => "in memory".to_owned(),
    }
}

/// The end of a certificate, in words: `until 2027-03-01 (93 days)`.
fn until(end: SystemTime) -> String {
    let date = humantime::format_rfc3339_seconds(end).to_string();
    let date = &date[..date.find('T').unwrap_or(date.len())];
    match end.duration_since(SystemTime::now()) {
        Ok(left) => format!(
            "until {date} ({})",
            Many(left.as_secs() / (24 * 3600), "day")
        ),
        Err(_) => format!("ended on {date}"),
    }
}

fn ends_soon(end: SystemTime) -> bool {
    end.duration_since(SystemTime::now())
        .is_ok_and(|left| left < SOON)
}

/// A remark if others may read a secret.
#[cfg(unix)]
fn exposed(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        let (mode, word) = (mode & 0o777, shell_word(path));
        format!("others may read the key (mode {mode:04o}): chmod 600 {word}")
    })
}

#[cfg(not(unix))]
fn exposed(_: &Path) -> Option<String> {
    None
}

/// The broker's certificate in words: who issued it, and how long it is valid.
pub(super) fn of_broker(certificate: &BrokerCertificate) -> String {
    let issuer = certificate
        .issuer
        .as_deref()
        .unwrap_or("an authority without a name");
    let until = certificate
        .not_after
        .map_or(String::new(), |end| format!(", {}", until(end)));
    format!("issued by {}{until}, name fits", issuer.escape_debug())
}
