//! TLS: makes a connector from files, and turns the TLS library's failures into errors for people.
//!
//! [`connector`] reads the certificates and keys, and reports problems with them before anything is
//! connected. [`handshake_error`] and [`alert_error`] explain failures of a link.
//!
//! This folder opens no socket, does not retry and does not wait. No error, log line or debug output
//! carries a password or key. The thread that makes the client builds the connector once, at the start.
//! The loop's thread makes the errors when a connection attempt fails.

mod blocks;
mod certificate;
mod der;
mod errors;
mod file;
mod key;

use std::path::Path;

use native_tls::{Certificate, Identity, Protocol, TlsConnector};
use pem::Pem;
use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::AnyRef;
use pkcs8::der::{Decode, Reader, SliceReader};
use pkcs8::spki::AlgorithmIdentifierRef;

use crate::error::{Blame, Error};
use crate::options::{IdentityFiles, TlsOptions};

use errors::reasons;
pub use errors::{alert_error, handshake_error};
use file::NamedFile;

/// Builds the connector: TLS 1.2 or later, certificate and host name of the broker verified.
///
/// With a CA file the connector trusts only the authorities in it, otherwise those of the system. It can
/// be used for any number of links. The files are read once, here.
///
/// # Errors
/// [`Blame::Configuration`] for every problem with a file or value, naming the file and the option.
pub fn connector(options: &TlsOptions) -> Result<TlsConnector, Error> {
    check_names(options)?;
    // A library that does not work at all refuses files and passwords, too.
    with_files(options).map_err(|error| library_failure().unwrap_or(error))
}

/// The error of a TLS library that makes no connector even without any file.
fn library_failure() -> Option<Error> {
    let text = TlsConnector::builder().build().err()?.to_string();
    let reasons = reasons(&text);
    let (problem, advice) = if text.contains("no ciphers") || text.contains("unsupported") {
        (
            format!("OpenSSL has no ciphers: its default provider is not on ({reasons})"),
            "have openssl.cnf activate it: `activate = 1` in the section of `default` below \
             `providers`; openssl list -providers shows what is on, openssl version -d the folder of \
             openssl.cnf, unless OPENSSL_CONF names another file",
        )
    } else {
        (
            format!("the TLS library does not work, whatever the settings ({reasons})"),
            "check the installation of OpenSSL and its openssl.cnf",
        )
    };
    Some(Error::new(
        Blame::Configuration,
        "preparing TLS",
        problem,
        advice,
    ))
}

fn with_files(options: &TlsOptions) -> Result<TlsConnector, Error> {
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    if let Some(path) = &options.ca_file {
        builder.disable_built_in_roots(true);
        for authority in authorities(path)? {
            builder.add_root_certificate(authority);
        }
    }
    match &options.identity {
        Some(IdentityFiles::Pem { cert, key }) => {
            builder.identity(pem_identity(cert, key)?);
        }
        Some(IdentityFiles::Pkcs12 { file, password }) => {
            builder.identity(pkcs12_identity(file, password)?);
        }
        None => {}
    }
    let alpn: Vec<&str> = options.alpn.iter().map(String::as_str).collect();
    builder.request_alpns(&alpn);
    builder
        .build()
        .map_err(|error| build_error(&error.to_string(), options))
}

/// The name to verify and to send as SNI: the configured name or else the host. A dot at the end of a
/// full domain name is removed, because certificates and SNI never have it.
pub fn server_name<'a>(options: &'a TlsOptions, host: &'a str) -> &'a str {
    let name = match options.server_name.as_deref() {
        Some(name) if !name.is_empty() => name,
        _ => host,
    };
    match name.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest,
        _ => name,
    }
}

/// Refuses names that would switch a check off. With an empty name OpenSSL verifies no host name at all,
/// and with a dot at the beginning it accepts any subdomain.
fn check_names(options: &TlsOptions) -> Result<(), Error> {
    if let Some(name) = &options.server_name {
        let strange = |c: char| c.is_whitespace() || c.is_control();
        if name.is_empty() || name.starts_with('.') || name.contains(strange) {
            return Err(Error::new(
                Blame::Configuration,
                "checking the TLS server name (`server_name`)",
                format!("{name:?} is not a host name"),
                "give the name that is in the broker's certificate, or leave it out",
            ));
        }
    }
    // RFC 7301: a protocol name has 1 to 255 bytes.
    match options
        .alpn
        .iter()
        .find(|name| !(1..=255).contains(&name.len()))
    {
        Some(name) => Err(Error::new(
            Blame::Configuration,
            "checking the ALPN protocol names (`alpn`)",
            format!("a name has {} bytes", name.len()),
            "use 1 to 255 bytes, for example x-amzn-mqtt-ca",
        )),
        None => Ok(()),
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, Error> {
    let file = NamedFile::read("CA file", "ca_file", path)?;
    let mut found = Vec::new();
    for (index, block) in certificates(&file)?.iter().enumerate() {
        let (der, settings) = certificate(&file, index, block)?;
        // The TLS library sees the certificate alone.
        if !certificate::excludes_servers(settings) {
            found.push(parsed(&file, index, der)?);
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

fn pem_identity(cert: &Path, key: &Path) -> Result<Identity, Error> {
    let cert_file = NamedFile::read("client certificate", "cert", cert)?;
    let key_file = NamedFile::read("private key", "key", key)?;
    let blocks = certificates(&cert_file)?;
    let mut chain = String::new();
    for (index, block) in blocks.iter().enumerate() {
        let (der, _) = certificate(&cert_file, index, block)?;
        parsed(&cert_file, index, der)?;
        chain.push_str(&pem::encode(&Pem::new("CERTIFICATE", der)));
    }
    let key = key::read(&key_file)?;
    key_file.warn_if_exposed();
    let identity =
        Identity::from_pkcs8(chain.as_bytes(), key.pkcs8_pem.as_bytes()).map_err(|error| {
            let reasons = reasons(&error.to_string());
            key_file.error(
                format!("the key is damaged or of an unknown kind ({reasons})"),
                "give an RSA or elliptic curve key in PEM form",
            )
        })?;
    // OpenSSL compares key and certificate only if both are of the same type. Otherwise it accepts the
    // pair and then sends no certificate.
    let of_cert = blocks
        .first()
        .and_then(|block| public_key_type(block.contents()));
    match (of_cert, key.algorithm) {
        (Some(of_cert), Some(of_key)) if of_cert != of_key => Err(mismatch(cert, key_file.path)),
        _ => Ok(identity),
    }
}

/// The certificates in a PEM file, at least one. Keys, parameters and revocation lists may be in it besides,
/// and nothing else: it may have been meant as a certificate.
fn certificates(file: &NamedFile<'_>) -> Result<Vec<Pem>, Error> {
    let mut found = Vec::new();
    let mut has_key = false;
    for (number, block) in (1..).zip(file.blocks()?) {
        match block.tag() {
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
fn no_certificate(file: &NamedFile<'_>, number: usize, label: &str) -> Error {
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
fn certificate<'a>(
    file: &NamedFile<'_>,
    index: usize,
    block: &'a Pem,
) -> Result<(&'a [u8], &'a [u8]), Error> {
    der::split(block.contents()).ok_or_else(|| damaged(file, index))
}

fn parsed(file: &NamedFile<'_>, index: usize, der: &[u8]) -> Result<Certificate, Error> {
    Certificate::from_der(der).map_err(|_| damaged(file, index))
}

fn damaged(file: &NamedFile<'_>, index: usize) -> Error {
    file.error(
        format!("certificate number {} in it is damaged", index + 1),
        "get the file again; each certificate must be complete",
    )
}

fn pkcs12_identity(path: &Path, password: &str) -> Result<Identity, Error> {
    let file = NamedFile::read("PKCS#12 archive", "pkcs12", path)?;
    file.refuse_pem()?;
    // The TLS library would panic.
    if password.contains('\0') {
        return Err(file.error(
            "the password has a NUL character in it",
            "give the password the archive was made with",
        ));
    }
    file.warn_if_exposed();
    // RFC 7292, 4: PFX ::= SEQUENCE { version, contents, MAC OPTIONAL }
    let has_mac = der::values(&file.bytes)
        .first()
        .map(|pfx| der::values(pfx.value()).len() > 2);
    Identity::from_pkcs12(&file.bytes, password).map_err(|error| {
        let text = error.to_string();
        let (path, out) = (file.word(), file.word_with(".pem"));
        let convert = |how: &str| {
            format!(
                "convert it: openssl pkcs12 {how} -in {path} -nodes -out {out} \
                 && chmod 600 {out}, and give {out} with `cert` and with `key`"
            )
        };
        // Each of these ends with "mac verify failure" as well, which alone is about the password.
        if text.contains("mac absent") || has_mac == Some(false) {
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
        }
    })
}

/// The algorithm of the public key in a certificate, or `None` if the certificate cannot be read.
fn public_key_type(certificate: &[u8]) -> Option<ObjectIdentifier> {
    // RFC 5280, 4.1: Certificate ::= { { [0] version, serial, signature, issuer, validity, subject,
    // { { OID ... In a TRUSTED CERTIFICATE, more bytes may follow.
    let mut reader = SliceReader::new(certificate).ok()?;
    let outer = AnyRef::decode(&mut reader).ok()?;
    let mut reader = SliceReader::new(outer.value()).ok()?;
    let body = AnyRef::decode(&mut reader).ok()?;
    let mut reader = SliceReader::new(body.value()).ok()?;
    let has_version = reader.peek_tag().ok()?.is_context_specific();
    for _ in 0..5 + usize::from(has_version) {
        AnyRef::decode(&mut reader).ok()?;
    }
    let key_info = AnyRef::decode(&mut reader).ok()?;
    let mut reader = SliceReader::new(key_info.value()).ok()?;
    Some(AlgorithmIdentifierRef::decode(&mut reader).ok()?.oid)
}

fn mismatch(cert: &Path, key: &Path) -> Error {
    let (cert, key) = (cert.display(), key.display());
    Error::new(
        Blame::Configuration,
        "loading the client certificate (`cert`) and its key (`key`)",
        format!("the private key {key} does not belong to the certificate {cert}"),
        "give the two that were made together; the client's certificate comes first in its file",
    )
}

fn build_error(text: &str, options: &TlsOptions) -> Error {
    let mismatched = [
        "key values mismatch",
        "key type mismatch",
        "different key types",
    ];
    if let Some(IdentityFiles::Pem { cert, key }) = &options.identity
        && mismatched.iter().any(|words| text.contains(words))
    {
        return mismatch(cert, key);
    }
    let advice = if text.contains("too small") || text.contains("too weak") {
        "the client certificate is too weak for this system: get one with a longer key and SHA-256"
    } else {
        "check the files given with `cert`, `key`, `pkcs12` and `ca_file`"
    };
    Error::new(
        Blame::Configuration,
        "preparing TLS",
        format!("the TLS library refuses the settings ({})", reasons(text)),
        advice,
    )
}

#[cfg(test)]
mod tests;
