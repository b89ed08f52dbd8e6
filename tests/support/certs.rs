//! Certificates for one test: an authority with a server and a client, and a second authority with a
//! client that nobody trusts. The files are in a private temporary folder, which is removed with the
//! value.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use native_tls::{Certificate, Identity, TlsConnector, TlsStream};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// A certificate and its private key, two PEM files.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

pub struct Certs {
    folder: TempDir,
    ca: Authority,
    other_ca: Authority,
    server: Pair,
    client: Pair,
    other_client: Pair,
    rsa_client: OnceCell<RsaPair>,
}

struct Authority {
    file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

struct RsaPair {
    pkcs1: Pair,
    pkcs8: Pair,
}

impl Certs {
    /// Makes all certificates with elliptic-curve keys (PKCS#8); takes milliseconds.
    pub fn generate() -> Certs {
        let folder = tempfile::Builder::new()
            .prefix("certs-")
            .tempdir()
            .expect("a temporary folder");
        let path = folder.path();
        let ca = Authority::new(path, "ca");
        let other_ca = Authority::new(path, "other-ca");
        let server = ca.sign_server(path, "server");
        let client = ca.sign_client(path, "client", &new_key());
        let other_client = other_ca.sign_client(path, "other-client", &new_key());
        Certs {
            folder,
            ca,
            other_ca,
            server,
            client,
            other_client,
            rsa_client: OnceCell::new(),
        }
    }

    /// The authority that signed the server and the client.
    pub fn ca(&self) -> &Path {
        &self.ca.file
    }

    /// An authority that signed neither server nor client.
    pub fn other_ca(&self) -> &Path {
        &self.other_ca.file
    }

    /// The broker's certificate, valid for `localhost` and `127.0.0.1`.
    pub fn server(&self) -> &Pair {
        &self.server
    }

    /// The client's certificate, with a PKCS#8 key.
    pub fn client(&self) -> &Pair {
        &self.client
    }

    /// A client of the other authority, which a broker must refuse.
    pub fn other_client(&self) -> &Pair {
        &self.other_client
    }

    /// A broker of the other authority, with the same names.
    pub fn other_server(&self) -> Pair {
        let folder = self.folder.path();
        self.other_ca.sign_server(folder, "other-server")
    }

    /// A client whose certificate has no name at all.
    pub fn nameless_client(&self) -> Pair {
        let mut params = parameters("nameless", Vec::new());
        params.distinguished_name = DistinguishedName::new();
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let key = new_key();
        self.ca
            .sign(self.folder.path(), "nameless", params, usage, &key)
    }

    /// A client with an RSA key as AWS IoT issues them (PKCS#1). The first call makes it.
    pub fn pkcs1_client(&self) -> &Pair {
        &self.rsa_client().pkcs1
    }

    /// The same client with its RSA key as PKCS#8.
    pub fn rsa_pkcs8_client(&self) -> &Pair {
        &self.rsa_client().pkcs8
    }

    /// The client's certificate with the same key as SEC1 (`EC PRIVATE KEY`).
    pub fn sec1_client(&self) -> Pair {
        let key = self.file("client-sec1-key.pem");
        let from = self.client.key.as_os_str();
        openssl(&[&"ec", &"-in", &from, &"-out", &key.as_os_str()]);
        expect_start(&key, "-----BEGIN EC PRIVATE KEY-----");
        Pair {
            cert: self.client.cert.clone(),
            key,
        }
    }

    /// The client's certificate and key as one PKCS#12 archive.
    pub fn pkcs12_client(&self, password: &str) -> PathBuf {
        let archive = self.file("client.p12");
        let Pair { cert, key } = &self.client;
        let password = format!("pass:{password}");
        openssl(&[
            &"pkcs12",
            &"-export",
            &"-in",
            &cert.as_os_str(),
            &"-inkey",
            &key.as_os_str(),
            &"-out",
            &archive.as_os_str(),
            &"-passout",
            &password,
        ]);
        archive
    }

    /// A certificate of the authority for a broker with these names, or for a client without any, changed before it
    /// is signed.
    pub fn signed(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let mut params = parameters(file, names.iter().map(|&name| name.to_owned()).collect());
        change(&mut params);
        let usage = match names {
            [] => ExtendedKeyUsagePurpose::ClientAuth,
            _ => ExtendedKeyUsagePurpose::ServerAuth,
        };
        let folder = self.folder.path();
        self.ca.sign(folder, file, params, usage, &new_key())
    }

    /// A path in the private folder, for a file that the test writes itself.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rsa_client(&self) -> &RsaPair {
        self.rsa_client.get_or_init(|| {
            let pkcs1 = self.file("rsa-pkcs1-key.pem");
            let pkcs8 = self.file("rsa-client-key.pem");
            let (from, to) = (pkcs1.as_os_str(), pkcs8.as_os_str());
            openssl(&[&"genrsa", &"-traditional", &"-out", &from, &"2048"]);
            expect_start(&pkcs1, "-----BEGIN RSA PRIVATE KEY-----");
            openssl(&[
                &"pkcs8",
                &"-topk8",
                &"-nocrypt",
                &"-in",
                &from,
                &"-out",
                &to,
            ]);
            let key = fs::read_to_string(&pkcs8).expect("the converted key");
            let key = KeyPair::from_pem(&key).expect("an RSA key in PKCS#8");
            let pkcs8 = self.ca.sign_client(self.folder.path(), "rsa-client", &key);
            RsaPair {
                pkcs1: Pair {
                    cert: pkcs8.cert.clone(),
                    key: pkcs1,
                },
                pkcs8,
            }
        })
    }
}

/// Connects to a broker on 127.0.0.1 over TLS, without the library under test.
///
/// # Panics
/// When the files are no PEM, or the broker refuses the handshake. With TLS 1.3 a refused certificate
/// shows only at the first read.
#[track_caller]
pub fn dial(port: u16, ca: &Path, identity: &Pair) -> TlsStream<TcpStream> {
    let pem = |file: &Path| fs::read(file).expect("a PEM file");
    let (cert, key) = (pem(&identity.cert), pem(&identity.key));
    let connector = TlsConnector::builder()
        .disable_built_in_roots(true)
        .add_root_certificate(Certificate::from_pem(&pem(ca)).expect("an authority"))
        .identity(Identity::from_pkcs8(&cert, &key).expect("an identity"))
        .build()
        .expect("a TLS connector");
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    connector.connect("127.0.0.1", tcp).expect("a handshake")
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let mut params = parameters(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key();
        let cert = params.self_signed(&key).expect("an authority");
        let file = folder.join(format!("{name}.pem"));
        write(&file, &cert.pem());
        Authority {
            file,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign_server(&self, folder: &Path, file: &str) -> Pair {
        let names = vec!["localhost".into(), "127.0.0.1".into()];
        let params = parameters("localhost", names);
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        self.sign(folder, file, params, usage, &new_key())
    }

    fn sign_client(&self, folder: &Path, name: &str, key: &KeyPair) -> Pair {
        let params = parameters(name, Vec::new());
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.sign(folder, name, params, usage, key)
    }

    fn sign(
        &self,
        folder: &Path,
        name: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
        key: &KeyPair,
    ) -> Pair {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(key, &self.issuer).expect("a certificate");
        let pair = Pair {
            cert: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}-key.pem")),
        };
        write(&pair.cert, &signed.pem());
        write(&pair.key, &key.serialize_pem());
        pair
    }
}

fn parameters(common_name: &str, names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("valid names");
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// Writes a file that only its owner can read: programs may rightly refuse a key that others can read.
fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("permissions");
    }
}

fn openssl(arguments: &[&dyn AsRef<OsStr>]) {
    let output = Command::new("openssl")
        .args(arguments.iter().map(|argument| argument.as_ref()))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("openssl is missing: apt-get install openssl ({error})"));
    assert!(
        output.status.success(),
        "openssl failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn expect_start(file: &Path, start: &str) {
    let text = fs::read_to_string(file).expect("a key file");
    assert!(
        text.starts_with(start),
        "{} does not start with {start}",
        file.display()
    );
}
