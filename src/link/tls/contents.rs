//! All that the options for TLS name, read and not looked into yet.
//!
//! Tells whether the contents are those of an earlier connector, so that one is made only if something changed. No
//! contents may get into an error. Runs on the thread that makes the client, and on the one that prepares a
//! connection attempt.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use super::loaded::Loaded;
use crate::error::Error;
use crate::options::{Identity, Material, TlsOptions};
use crate::secret::Secret;

/// Keys the digests. They are of this process alone, so nobody outside learns anything from one.
static DIGESTS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The contents. It has no `Debug`, so that no output can show them.
pub(super) struct Contents {
    pub(super) ca: Option<Loaded>,
    pub(super) identity: Option<LoadedIdentity>,
}

/// The contents of the client's certificate and key.
pub(super) enum LoadedIdentity {
    Pem { cert: Loaded, key: Loaded },
    Pkcs12 { archive: Loaded, password: Secret },
}

impl Contents {
    pub(super) fn read(options: &TlsOptions) -> Result<Self, Error> {
        let ca = options.ca.as_ref().map(|ca| {
            let what = match ca {
                Material::Memory(_) => "CA certificates",
                _ => "CA file",
            };
            Loaded::read(what, "ca", ca)
        });
        let ca = ca.transpose()?;
        let identity = match &options.identity {
            None => None,
            Some(Identity::Pem { cert, key }) => Some(LoadedIdentity::Pem {
                cert: Loaded::read("client certificate", "cert", cert)?,
                key: Loaded::read("private key", "key", key)?,
            }),
            Some(Identity::Pkcs12 { archive, password }) => Some(LoadedIdentity::Pkcs12 {
                archive: Loaded::read("PKCS#12 archive", "pkcs12", archive)?,
                password: password.clone(),
            }),
        };
        Ok(Contents { ca, identity })
    }

    /// A number that other contents have with a probability of one in 2^64.
    pub(super) fn digest(&self) -> u64 {
        // The length goes before the bytes of each, so that two of them never read as one.
        let ca = self.ca.as_ref().map(Loaded::bytes);
        let (cert, key) = match &self.identity {
            None => (None, None),
            Some(LoadedIdentity::Pem { cert, key }) => (Some(cert.bytes()), Some(key.bytes())),
            Some(LoadedIdentity::Pkcs12 { archive, password }) => {
                (Some(archive.bytes()), Some(password.expose()))
            }
        };
        DIGESTS.hash_one((ca, cert, key))
    }

    /// The options for the next time: what cannot be read again is in memory.
    pub(super) fn lasting(&self, options: &TlsOptions) -> TlsOptions {
        let identity = self.identity.as_ref().map(|identity| match identity {
            LoadedIdentity::Pem { cert, key } => Identity::Pem {
                cert: cert.material(),
                key: key.material(),
            },
            LoadedIdentity::Pkcs12 { archive, password } => Identity::Pkcs12 {
                archive: archive.material(),
                password: password.clone(),
            },
        });
        TlsOptions {
            ca: self.ca.as_ref().map(Loaded::material),
            identity,
            ..options.clone()
        }
    }
}
