//! Certificates in PEM text: the authorities to trust, and the client's own with those above it.
//!
//! Says what a file holds in place of certificates. Runs on the thread that makes the client, and on the
//! one that prepares a connection attempt.

use super::blocks::Block;
use super::certificate::{Certificate, excludes_servers};
use super::der;
use super::loaded::Loaded;
use crate::error::Error;

/// The authorities in a file that are trusted for servers, at least one.
pub(super) fn authorities(
    file: &Loaded,
) -> Result<Vec<(native_tls::Certificate, Option<Certificate>)>, Error> {
    let mut found = Vec::new();
    for (index, block) in certificates(file)?.iter().enumerate() {
        let (der, settings) = certificate(file, index, block)?;
        // The TLS library sees the certificate alone.
        if !excludes_servers(settings) {
            found.push((parsed(file, index, der)?, Certificate::read(der)));
        }
    }
    if found.is_empty() {
        return Err(file.error(
            "no certificate in it is trusted for servers: so say the trust settings in it",
            "give one that is: openssl x509 -trustout -addtrust serverAuth, or without -trustout",
        ));
    }
    Ok(found)
}

/// The certificates in a PEM file, at least one. Keys, parameters and revocation lists may be in it besides,
/// and nothing else: it may have been meant as a certificate.
pub(super) fn certificates(file: &Loaded) -> Result<Vec<Block>, Error> {
    let mut found = Vec::new();
    let mut has_key = false;
    for (number, block) in (1..).zip(file.blocks()?) {
        match block.label() {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => found.push(block),
            "X509 CRL" => {}
            tag if tag.ends_with("PRIVATE KEY") => has_key = true,
            tag if tag.ends_with("PUBLIC KEY") || tag.ends_with(" PARAMETERS") => {}
            tag => return Err(no_certificate(file, number, tag)),
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    if !has_key {
        return Err(file.error(
            "it holds no certificate",
            "give a PEM file with -----BEGIN CERTIFICATE-----",
        ));
    }
    let advice = match file.option {
        "cert" => {
            "give the certificate with `cert` and the key with `key`: perhaps they are swapped"
        }
        _ => "give the certificate of the CA that signed the broker's certificate",
    };
    Err(file.error("it holds a private key and no certificate", advice))
}

/// The error for a block that stands in place of a certificate.
fn no_certificate(file: &Loaded, number: usize, label: &str) -> Error {
    if label.ends_with("CERTIFICATE REQUEST") {
        return file.error(
            format!("its PEM block {number} is a signing request, not a certificate"),
            "give the certificate that the CA made from it",
        );
    }
    if label == "PKCS7" || label == "CMS" {
        let (path, out) = (file.word(), file.word_with(".pem"));
        return file.error(
            format!("its PEM block {number} is a PKCS#7 bundle"),
            format!("convert it: openssl pkcs7 -print_certs -in {path} -out {out}"),
        );
    }
    file.error(
        format!("its PEM block {number} is no certificate by the label in its first line"),
        "take the block out, or correct the label: -----BEGIN CERTIFICATE-----",
    )
}

/// A certificate in DER, and the trust settings that follow it in a `TRUSTED CERTIFICATE`.
pub(super) fn certificate<'a>(
    file: &Loaded,
    index: usize,
    block: &'a Block,
) -> Result<(&'a [u8], &'a [u8]), Error> {
    der::split(block.contents()).ok_or_else(|| damaged(file, index))
}

pub(super) fn parsed(
    file: &Loaded,
    index: usize,
    der: &[u8],
) -> Result<native_tls::Certificate, Error> {
    native_tls::Certificate::from_der(der).map_err(|_| damaged(file, index))
}

fn damaged(file: &Loaded, index: usize) -> Error {
    file.error(
        format!("certificate number {} in it is damaged", index + 1),
        file.again("; each certificate must be complete"),
    )
}
