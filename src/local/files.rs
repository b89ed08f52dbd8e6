//! The embedded broker's private temporary folder, and the certificates and keys in it. Nothing is written elsewhere.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

use super::failed;
use crate::error::Error;

/// The files with the certificates and keys.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) ca: PathBuf,
    pub(super) server_cert: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Files {
    pub(super) fn create(folder: &Path) -> Result<Files, Error> {
        let path = |name: &str| folder.join(name);
        let files = Files {
            ca: path("ca.pem"),
            server_cert: path("server.pem"),
            server_key: path("server-key.pem"),
            cert: path("client.pem"),
            key: path("client-key.pem"),
        };
        let certificates = Certificates::generate()
            .map_err(|error| failed("making the local broker's certificates", &error))?;
        for (file, text) in [
            (&files.ca, &certificates.ca),
            (&files.server_cert, &certificates.server.0),
            (&files.server_key, &certificates.server.1),
            (&files.cert, &certificates.client.0),
            (&files.key, &certificates.client.1),
        ] {
            write_private(file, text)?;
        }
        Ok(files)
    }
}

/// The texts of the files, in PEM. The authority's key is not among them, so that nothing else can be signed.
struct Certificates {
    ca: String,
    server: (String, String),
    client: (String, String),
}

impl Certificates {
    fn generate() -> Result<Certificates, rcgen::Error> {
        let mut params = parameters("mqtt-connection-sharing local CA", Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
        Ok(Certificates {
            ca,
            server: leaf(
                parameters("localhost", names)?,
                ExtendedKeyUsagePurpose::ServerAuth,
                &issuer,
            )?,
            client: leaf(
                parameters("mqtt-connection-sharing local client", Vec::new())?,
                ExtendedKeyUsagePurpose::ClientAuth,
                &issuer,
            )?,
        })
    }
}

/// Makes a key and a certificate for it that `issuer` signs. Returns certificate and key, both in PEM.
fn leaf(
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// Parameters of a certificate that is valid from yesterday, for clocks that disagree a little, to a week
/// from now. A week is longer than any run, and short enough that a forgotten copy is soon worthless.
fn parameters(common_name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = (now - DAY).into();
    params.not_after = (now + 7 * DAY).into();
    Ok(params)
}

/// A folder that nobody else can enter. It is removed with the value.
pub(super) fn private_folder() -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("mqtt-connection-sharing-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder
        .tempdir()
        .map_err(|error| failed("making a temporary folder for the local broker", &error))
}

fn write_private(file: &Path, text: &str) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(file)
        .and_then(|mut open| open.write_all(text.as_bytes()))
        .map_err(|error| failed(&format!("writing {}", file.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_folder_and_the_keys_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = private_folder().unwrap();
        let files = Files::create(folder.path()).unwrap();
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&files.key), 0o600);
        assert_eq!(mode(&files.server_key), 0o600);
    }
}
