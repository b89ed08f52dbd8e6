//! TLS: makes a connector from certificates and keys, and turns the TLS library's failures into errors for people.
//!
//! [`connector`] reads the certificates and keys, and reports problems with them before anything is
//! connected. [`handshake_error`] and [`alert_error`] explain failures of a link.
//!
//! [`Connector::look`] sees a certificate that did not pass, and verifies nothing.
//!
//! This folder opens no socket, does not retry and does not wait. No error, log line or debug output
//! carries a password or key. Its own buffers are wiped when they are dropped; those of the TLS library and of the PEM
//! parser are not. The thread that makes the client builds the first connector, and the one that prepares a
//! connection attempt builds others. The loop's thread makes the errors when a connection attempt fails.

mod alerts;
mod blocks;
mod certificate;
mod chain;
mod contents;
mod der;
mod details;
mod errors;
mod flaws;
pub(crate) mod hello;
mod identity;
mod key;
mod loaded;
mod unverified;

use std::io::{Read, Write};

use native_tls::{HandshakeError, Protocol, TlsConnector, TlsConnectorBuilder, TlsStream};

use crate::error::{Blame, Error};
use crate::link::resolve::zoned;
use crate::options::TlsOptions;

use certificate::Certificate;
use chain::authorities;
use contents::{Contents, LoadedIdentity};
pub use details::{BrokerCertificate, ClientCertificate, TlsDetails};
use errors::reasons;
pub(crate) use errors::{
    alert_error, certificates, handshake_error, is_about_issuers, is_unverified,
};
use identity::{mismatch, pem_identity, pkcs12_identity};

/// Makes TLS links, and keeps what explains their failures.
#[derive(Debug)]
pub(crate) struct Connector {
    tls: TlsConnector,
    /// The options that it was made with. Contents that cannot be read again are in memory there.
    options: TlsOptions,
    /// Of the contents that it was made with.
    digest: u64,
    /// The authorities in the CA file.
    authorities: Vec<Certificate>,
    /// The client's certificate, and those above it that are sent with it. Empty if there is none or it
    /// cannot be read.
    chain: Vec<Certificate>,
}

impl Connector {
    /// Begins a handshake.
    pub(crate) fn connect<S: Read + Write>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<TlsStream<S>, HandshakeError<S>> {
        self.tls.connect(self.name(host), stream)
    }

    /// Begins a handshake in which the broker's certificate is not verified, to see it; with TLS 1.2 at most if
    /// `in_the_open`. The stream must be used for nothing else.
    pub(crate) fn look<S: Read + Write>(
        &self,
        host: &str,
        stream: S,
        in_the_open: bool,
    ) -> Result<TlsStream<S>, HandshakeError<S>> {
        let newest = in_the_open.then_some(Protocol::Tlsv12);
        let viewer = viewer(&self.options.alpn, newest).map_err(HandshakeError::Failure)?;
        viewer.connect(self.name(host), stream)
    }

    /// The name to verify and to send as SNI: the configured name or else the host. A dot at the end of a
    /// full domain name is removed, and so is the zone of an IPv6 address, because certificates and SNI never have
    /// them.
    fn name<'a>(&'a self, host: &'a str) -> &'a str {
        let name = self.options.server_name.as_deref().unwrap_or(host);
        if let Some((address, _)) = name.split_once('%').filter(|_| zoned(name).is_some()) {
            return address;
        }
        match name.strip_suffix('.') {
            Some(rest) if !rest.is_empty() => rest,
            _ => name,
        }
    }

    /// The options that it was made with, and the digest of the contents that they named then.
    pub(crate) fn made_with(&self) -> (TlsOptions, u64) {
        (self.options.clone(), self.digest)
    }

    /// Whether it was made with a file that may change.
    pub(crate) fn has_files(&self) -> bool {
        self.options.has_files()
    }

    /// The common name of the client's certificate, quoted, if that could be read: the inner `None` is a
    /// certificate without one.
    pub(crate) fn common_name(&self) -> Option<Option<String>> {
        Some(self.chain.first()?.shown_common_name())
    }
}

/// Builds the connector: TLS 1.2 or later, certificate and host name of the broker verified.
///
/// With CA certificates of its own the connector trusts only these authorities, otherwise those of the system. It
/// can be used for any number of links. The files are read here.
///
/// # Errors
/// [`Blame::Configuration`] for every problem with a file or value, naming the file and the option.
pub(crate) fn connector(options: &TlsOptions) -> Result<Connector, Error> {
    check_names(options)?;
    // A library that does not work at all refuses files and passwords, too.
    let made = Contents::read(options).and_then(|contents| with_contents(options, &contents));
    made.map_err(|error| library_failure().unwrap_or(error))
}

/// Builds the connector for the options that are wanted now. Returns `None` if the one in force, with its digest, would
/// be the same.
///
/// # Errors
/// As [`connector`].
pub(crate) fn renewed(
    wanted: &TlsOptions,
    in_force: &TlsOptions,
    digest: u64,
) -> Result<Option<Connector>, Error> {
    let contents = Contents::read(wanted)?;
    if wanted == in_force && contents.digest() == digest {
        return Ok(None);
    }
    with_contents(wanted, &contents).map(Some)
}

/// The error of a TLS library that makes no connector even without any file.
fn library_failure() -> Option<Error> {
    let text = TlsConnector::builder().build().err()?.to_string();
    let reasons = reasons(&text);
    let (problem, advice) = if text.contains("no ciphers") || text.contains("unsupported") {
        (
            format!("OpenSSL has no ciphers: its default provider is not on ({reasons})"),
            "have openssl.cnf activate it: activate = 1 in the section of \"default\" below \
             \"providers\"; openssl list -providers shows what is on, openssl version -d the folder of \
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

fn with_contents(options: &TlsOptions, contents: &Contents) -> Result<Connector, Error> {
    let mut builder = builder(&options.alpn);
    let mut trusted = Vec::new();
    if let Some(ca) = &contents.ca {
        builder.disable_built_in_roots(true);
        trusted = authorities(ca)?;
    }
    for (authority, _) in &trusted {
        builder.add_root_certificate(authority.clone());
    }
    let (identity, chain) = match &contents.identity {
        Some(LoadedIdentity::Pem { cert, key }) => Some(pem_identity(cert, key)?),
        Some(LoadedIdentity::Pkcs12 { archive, password }) => {
            Some(pkcs12_identity(archive, password)?)
        }
        None => None,
    }
    .unzip();
    if let Some(identity) = identity {
        builder.identity(identity);
    }
    let failed =
        |error: native_tls::Error| build_error(&error.to_string(), contents).with_source(error);
    Ok(Connector {
        tls: builder.build().map_err(failed)?,
        options: contents.lasting(options),
        digest: contents.digest(),
        authorities: trusted.into_iter().filter_map(|(_, it)| it).collect(),
        chain: chain.unwrap_or_default(),
    })
}

/// A connector that verifies nothing and presents no certificate. It is made when it is needed: the TLS library
/// reads all authorities of the system for each one.
fn viewer(alpn: &[String], newest: Option<Protocol>) -> Result<TlsConnector, native_tls::Error> {
    builder(alpn)
        .max_protocol_version(newest)
        .disable_built_in_roots(true)
        .danger_accept_invalid_certs(true)
        .danger_accept_invalid_hostnames(true)
        .build()
}

fn builder(alpn: &[String]) -> TlsConnectorBuilder {
    let alpn: Vec<&str> = alpn.iter().map(String::as_str).collect();
    let mut builder = TlsConnector::builder();
    builder
        .min_protocol_version(Some(Protocol::Tlsv12))
        .request_alpns(&alpn);
    builder
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

fn build_error(text: &str, contents: &Contents) -> Error {
    let mismatched = [
        "key values mismatch",
        "key type mismatch",
        "different key types",
    ];
    if let Some(LoadedIdentity::Pem { cert, key }) = &contents.identity
        && mismatched.iter().any(|words| text.contains(words))
    {
        return mismatch(cert, key);
    }
    let advice = if text.contains("too small") || text.contains("too weak") {
        "the client certificate is too weak for this system: get one with a longer key and SHA-256"
    } else {
        "check what is given with `cert`, `key`, `pkcs12` and `ca`"
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
