//! Certificates and keys: in files, or in memory.
//!
//! Says where they are and reads nothing. Debug output shows paths and no contents, nor a path that may be the contents
//! by mistake. Pure.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// A certificate, a key or an archive: in a file, or in memory.
///
/// A text or a path that becomes one is the path of a file; a [`Secret`] is the contents themselves:
///
/// ```
/// use mqtt_connection_sharing::options::{Material, Secret};
///
/// let file = Material::from("client.pem");
/// let memory = Material::from(Secret::from("-----BEGIN CERTIFICATE-----\n..."));
/// # assert_eq!(file, Material::File("client.pem".into()));
/// # assert!(matches!(memory, Material::Memory(_)));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Material {
    /// The path of a file. The loop reads the file again for each connection attempt, so that it takes a renewed
    /// certificate at the next connection. A pipe is read once.
    File(PathBuf),
    /// The contents: PEM text, or the bytes of a PKCS#12 archive.
    Memory(Secret),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Material::File(path) if looks_like_contents(path) => {
                f.write_str("File(not shown: it looks like contents, not a path)")
            }
            Material::File(path) => f.debug_tuple("File").field(path).finish(),
            Material::Memory(contents) => f.debug_tuple("Memory").field(contents).finish(),
        }
    }
}

/// PEM text has its label and lines, and what stands in its lines has no dot, which nearly every path has.
fn looks_like_contents(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    text.contains("-----BEGIN")
        || text.contains(['\n', '\r'])
        || text.len() >= 40 && text.bytes().all(is_base64) && !text.starts_with('/')
}

impl From<PathBuf> for Material {
    fn from(path: PathBuf) -> Self {
        Material::File(path)
    }
}

impl From<&Path> for Material {
    fn from(path: &Path) -> Self {
        Material::File(path.to_owned())
    }
}

impl From<&str> for Material {
    fn from(path: &str) -> Self {
        Material::File(path.into())
    }
}

impl From<String> for Material {
    fn from(path: String) -> Self {
        Material::File(path.into())
    }
}

impl From<Secret> for Material {
    fn from(contents: Secret) -> Self {
        Material::Memory(contents)
    }
}

/// The client's certificate and private key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// Two PEM files or texts. The key may be PKCS#8, PKCS#1 (as AWS IoT issues them) or SEC1.
    Pem {
        /// Certificate, followed by its intermediate certificates if there are any.
        cert: Material,
        /// Private key, not encrypted.
        key: Material,
    },
    /// One PKCS#12 archive.
    Pkcs12 {
        /// The archive.
        archive: Material,
        /// Its password, as UTF-8 text.
        password: Secret,
    },
}

impl Material {
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Material::File(_))
    }
}

impl Identity {
    /// A certificate and its key, both PEM.
    pub fn pem(cert: impl Into<Material>, key: impl Into<Material>) -> Self {
        Identity::Pem {
            cert: cert.into(),
            key: key.into(),
        }
    }

    pub(super) fn has_files(&self) -> bool {
        match self {
            Identity::Pem { cert, key } => cert.is_file() || key.is_file(),
            Identity::Pkcs12 { archive, .. } => archive.is_file(),
        }
    }

    /// A PKCS#12 archive and its password.
    pub fn pkcs12(archive: impl Into<Material>, password: impl Into<Secret>) -> Self {
        Identity::Pkcs12 {
            archive: archive.into(),
            password: password.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_a_path_and_no_contents_that_were_taken_for_one() {
        let key = "MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
        for contents in [key, &pem] {
            let shown = format!("{:?}", Identity::pem("client.pem", contents));
            assert!(shown.contains("client.pem"), "{shown}");
            assert!(!shown.contains(key), "{shown}");
        }
        let path = "/etc/very-long-name-of-a-folder/with-certificates/client-key.pem";
        assert!(format!("{:?}", Material::from(path)).contains(path));
    }
}
