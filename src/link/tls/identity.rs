//! The client's certificate and private key, from PEM text or a PKCS#12 archive.
//!
//! No error may carry a password or key. Runs on the thread that makes the client, and on the one that prepares a
//! connection attempt.

use native_tls::Identity;
#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
use openssl::pkcs12::Pkcs12;
use pem::Pem;

use super::certificate::Certificate;
use super::chain::{certificate, certificates, parsed};
use super::errors::reasons;
use super::loaded::Loaded;
use super::{der, key};
use crate::error::{Blame, Error};
use crate::secret::Secret;

/// The identity in PEM files, and its certificates as far as they can be read.
pub(super) fn pem_identity(
    cert_file: &Loaded,
    key_file: &Loaded,
) -> Result<(Identity, Vec<Certificate>), Error> {
    let blocks = certificates(cert_file)?;
    let mut chain = String::new();
    let mut read = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let (der, _) = certificate(cert_file, index, block)?;
        parsed(cert_file, index, der)?;
        chain.push_str(&pem::encode(&Pem::new("CERTIFICATE", der)));
        read.extend(Certificate::read(der));
    }
    let key = key::read(key_file)?;
    key_file.warn_if_exposed();
    let identity =
        Identity::from_pkcs8(chain.as_bytes(), key.pkcs8_pem.as_bytes()).map_err(|error| {
            let reasons = reasons(&error.to_string());
            let told = key_file.error(
                format!("the key is damaged or of an unknown kind ({reasons})"),
                "give an RSA or elliptic curve key in PEM form",
            );
            told.with_source(error)
        })?;
    // OpenSSL compares key and certificate only if both are of the same type. Otherwise it accepts the
    // pair and then sends no certificate.
    let of_cert = read.first().map(|certificate| certificate.key_type);
    match (of_cert, key.algorithm) {
        (Some(of_cert), Some(of_key)) if of_cert != of_key => Err(mismatch(cert_file, key_file)),
        _ => Ok((identity, read)),
    }
}

/// The identity in an archive, and its certificates as far as they can be read.
pub(super) fn pkcs12_identity(
    file: &Loaded,
    password: &Secret,
) -> Result<(Identity, Vec<Certificate>), Error> {
    file.refuse_pem()?;
    let Ok(password) = std::str::from_utf8(password.expose()) else {
        return Err(file.error(
            "the password is no UTF-8 text",
            "give the password the archive was made with",
        ));
    };
    // The TLS library would panic.
    if password.contains('\0') {
        return Err(file.error(
            "the password has a NUL character in it",
            "give the password the archive was made with",
        ));
    }
    file.warn_if_exposed();
    // RFC 7292, 4: PFX ::= SEQUENCE { version, contents, MAC OPTIONAL }
    let has_mac = der::values(file.bytes())
        .first()
        .map(|pfx| der::values(pfx.value()).len() > 2);
    let identity = Identity::from_pkcs12(file.bytes(), password).map_err(|error| {
        let text = error.to_string();
        let (path, out) = (file.word(), file.word_with(".pem"));
        let convert = |how: &str| {
            format!(
                "convert it: openssl pkcs12 {how} -in {path} -nodes -out {out} \
                 && chmod 600 {out}, and give {out} with `cert` and with `key`"
            )
        };
        // Each of these ends with "mac verify failure" as well, which alone is about the password.
        let told = if text.contains("mac absent") || has_mac == Some(false) {
            file.error(
                "it has no checksum (MAC), without which OpenSSL does not open it",
                convert("-nomacver"),
            )
        } else if text.contains("unsupported") {
            file.error(
                "it is encrypted in an old way that OpenSSL 3 does not support (RC2 or the like)",
                convert("-legacy"),
            )
        } else if reasons(&text) == "mac verify failure" && password.is_empty() {
            file.error(
                "it is protected by a password and none was given",
                "give it with `pkcs12_password`",
            )
        } else if reasons(&text) == "mac verify failure" {
            file.error(
                "the password is wrong",
                "give the password the archive was made with",
            )
        } else if text.contains("at least one certificate") {
            file.error(
                "it lacks the private key, or the certificate that belongs to the key",
                "export both: openssl pkcs12 -export -in CERT -inkey KEY -out FILE",
            )
        } else {
            file.error(
                format!("it is damaged or no PKCS#12 archive ({})", reasons(&text)),
                "give a .p12 or .pfx file, or PEM files with `cert` and `key`",
            )
        };
        told.with_source(error)
    })?;
    Ok((identity, certificates_in(file.bytes(), password)))
}

/// The certificates in an archive that was opened already, the client's first: the TLS library does not
/// show them.
#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
fn certificates_in(archive: &[u8], password: &str) -> Vec<Certificate> {
    let opened = Pkcs12::from_der(archive).and_then(|archive| archive.parse2(password));
    let Ok(opened) = opened else {
        return Vec::new();
    };
    // OpenSSL gives those above it in the reverse order.
    let above = opened.ca.into_iter().flatten().rev();
    let all = opened.cert.into_iter().chain(above);
    all.filter_map(|one| Certificate::read(&one.to_der().ok()?))
        .collect()
}

/// The libraries of these systems have no call for it.
#[cfg(any(target_os = "windows", target_vendor = "apple"))]
fn certificates_in(_: &[u8], _: &str) -> Vec<Certificate> {
    Vec::new()
}

pub(super) fn mismatch(cert: &Loaded, key: &Loaded) -> Error {
    let (cert, key) = (cert.place(), key.place());
    Error::new(
        Blame::Configuration,
        "loading the client certificate (`cert`) and its key (`key`)",
        format!("the private key {key} does not belong to the certificate {cert}"),
        "give the two that were made together; the client's certificate comes first in its file",
    )
}
