//! Private keys: turns every usual PEM form into the one that the TLS library takes.
//!
//! The library takes only PKCS#8, in PEM text with nothing before its first line. AWS IoT issues PKCS#1, and
//! `openssl ecparam` writes SEC1. This file wraps both in PKCS#8, in memory, and leaves the secret itself
//! alone. It must not put key material into an error. Its copies are wiped. Runs on the thread that makes the client, and on
//! the one that prepares a connection attempt.

use pkcs8::der::asn1::AnyRef;
use pkcs8::der::pem::{LineEnding, encode_string};
use pkcs8::der::{Decode, Encode, Tag, Tagged};
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{ObjectIdentifier, PrivateKeyInfo};
use zeroize::Zeroizing;

use super::blocks::Block;
use super::der;
use super::loaded::Loaded;
use crate::error::Error;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A private key in the form that the TLS library takes. It has no `Debug`, so that no output can show it.
pub(super) struct Key {
    /// `-----BEGIN PRIVATE KEY-----` and the rest.
    pub(super) pkcs8_pem: Zeroizing<String>,
    /// The kind of key, if it is known.
    pub(super) algorithm: Option<ObjectIdentifier>,
}

/// Takes the first private key of a file.
pub(super) fn read(file: &Loaded) -> Result<Key, Error> {
    let blocks = file.blocks()?;
    let Some(block) = blocks
        .iter()
        .find(|block| block.label().ends_with("PRIVATE KEY"))
    else {
        return Err(no_key(file, &blocks));
    };
    if block.is_encrypted || block.label() == "ENCRYPTED PRIVATE KEY" {
        let (path, out) = (file.word(), file.word_with(".plain"));
        return Err(file.error(
            "the key is encrypted with a pass phrase",
            format!("decrypt it: openssl pkey -in {path} -out {out} && chmod 600 {out}"),
        ));
    }
    let wrapped = match block.label() {
        "PRIVATE KEY" => Key::from_pkcs8(block.contents()),
        "RSA PRIVATE KEY" => wrap(RSA, AnyRef::NULL, block.contents()),
        "EC PRIVATE KEY" => match curve(block, &blocks) {
            Some(curve) => wrap(ELLIPTIC_CURVE, curve, block.contents()),
            None => {
                return Err(file.error(
                    "the elliptic curve key is damaged or does not name its curve",
                    "make a key on a named curve: openssl ecparam -name prime256v1 -genkey -out KEY",
                ));
            }
        },
        "OPENSSH PRIVATE KEY" => {
            return Err(file.error(
                "it is an OpenSSH key, which serves logins",
                "give the key that was made for the client certificate",
            ));
        }
        _ => {
            return Err(file.error(
                "it is a kind of private key that TLS does not use",
                "give an RSA or elliptic curve key",
            ));
        }
    };
    wrapped.ok_or_else(|| file.error("the key is damaged", file.again("")))
}

/// The error for a file without a private key. It names what the file holds instead.
fn no_key(file: &Loaded, blocks: &[Block]) -> Error {
    let has = |part: &str| blocks.iter().any(|block| block.label().ends_with(part));
    if has("CERTIFICATE") {
        file.error(
            "it holds a certificate and no private key",
            "give the certificate with `cert` and the key with `key`: perhaps they are swapped",
        )
    } else if has("PUBLIC KEY") {
        file.error(
            "it holds a public key",
            "give the private key (AWS IoT names it *-private.pem.key)",
        )
    } else {
        file.error(
            "it holds no private key",
            "give a PEM file with -----BEGIN PRIVATE KEY-----",
        )
    }
}

/// The curve of a SEC1 key: its name, or all that makes the curve. Either the key holds it, or the block of
/// parameters that openssl writes before the key does.
fn curve<'a>(key: &'a Block, blocks: &'a [Block]) -> Option<AnyRef<'a>> {
    // RFC 5915, 3: { version, OCTET STRING, [0] parameters OPTIONAL, [1] public key OPTIONAL }
    let whole = AnyRef::from_der(key.contents()).ok()?;
    let fields = der::values(whole.value());
    let [version, secret, rest @ ..] = &fields[..] else {
        return None;
    };
    if (version.tag(), secret.tag()) != (Tag::Integer, Tag::OctetString) {
        return None;
    }
    let parameters = match rest.first() {
        Some(field) if der::is_context(*field, 0) => field.value(),
        _ => blocks
            .iter()
            .find(|block| block.label() == "EC PARAMETERS")?
            .contents(),
    };
    let curve = AnyRef::from_der(parameters).ok()?;
    matches!(curve.tag(), Tag::ObjectIdentifier | Tag::Sequence).then_some(curve)
}

/// Wraps another form of key in PKCS#8: the algorithm, then the unchanged key.
fn wrap(oid: ObjectIdentifier, parameters: AnyRef<'_>, key: &[u8]) -> Option<Key> {
    let algorithm = AlgorithmIdentifierRef {
        oid,
        parameters: Some(parameters),
    };
    let der = PrivateKeyInfo::new(algorithm, key).to_der().ok()?;
    Key::from_pkcs8(&Zeroizing::new(der))
}

impl Key {
    /// Returns `None` if it is too large to be written as text.
    fn from_pkcs8(der: &[u8]) -> Option<Key> {
        let pem = encode_string("PRIVATE KEY", LineEnding::LF, der).ok()?;
        Some(Key {
            algorithm: PrivateKeyInfo::from_der(der)
                .ok()
                .map(|info| info.algorithm.oid),
            pkcs8_pem: Zeroizing::new(pem),
        })
    }
}
