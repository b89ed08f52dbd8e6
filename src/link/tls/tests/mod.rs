//! Tests of TLS: files of every kind, and real handshakes on the loopback interface.
//!
//! They call the `openssl` program. It writes key forms that the crates here cannot write, and it is
//! the server that demands a client certificate.

mod blocks;
mod certificates;
mod files;
mod forms;
mod handshakes;
mod memory;
mod own;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use native_tls::{HandshakeError, Identity, TlsAcceptor, TlsStream};
use pem::Pem;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use super::loaded::Loaded;
use super::*;
use crate::options::{self, Material, Options};
use crate::secret::Secret;

/// A new directory with the certificates of an authority, a broker and a client.
struct Lab {
    dir: TempDir,
    authority: Authority,
}

impl Lab {
    fn new() -> Lab {
        let lab = Lab {
            dir: tempfile::tempdir().unwrap(),
            authority: authority("lab CA"),
        };
        lab.write("ca.pem", lab.authority.pem());
        for (name, host) in [("broker", "localhost"), ("client", "client")] {
            let key = KeyPair::generate().unwrap();
            lab.write(&format!("{name}.key"), key.serialize_pem());
            lab.write(
                &format!("{name}.pem"),
                lab.sign(params(host, &[host]), &key),
            );
        }
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn sign(&self, params: CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &self.authority).unwrap().pem()
    }

    /// Runs `openssl` in the directory.
    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .expect("these tests need the program openssl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    fn trusting(&self) -> TlsOptions {
        self.trusting_only("ca.pem")
    }

    fn trusting_only(&self, ca: &str) -> TlsOptions {
        TlsOptions {
            ca: Some(self.path(ca).into()),
            ..TlsOptions::default()
        }
    }

    fn with(&self, cert: &str, key: &str) -> TlsOptions {
        TlsOptions {
            identity: Some(options::Identity::pem(self.path(cert), self.path(key))),
            ..self.trusting()
        }
    }

    fn with_pkcs12(&self, file: &str, password: &str) -> TlsOptions {
        TlsOptions {
            identity: Some(options::Identity::pkcs12(self.path(file), password)),
            ..self.trusting()
        }
    }

    /// A broker with this certificate, for `broker.key`.
    fn broker(&self, cert: &str, more: &str) -> Broker {
        let arguments =
            format!("s_server -accept 127.0.0.1:0 -cert {cert} -key broker.key -rev {more}");
        Broker::start(self, &arguments)
    }

    /// A broker that demands a client certificate of the lab's authority.
    fn strict_broker(&self, more: &str) -> Broker {
        let demand = "-CAfile ca.pem -Verify 3 -verify_return_error";
        self.broker("broker.pem", &format!("{demand} {more}"))
    }

    /// Accepts one connection with the given certificate and key.
    fn accept(&self, cert: &str, key: &str) -> (SocketAddr, JoinHandle<()>) {
        let identity =
            Identity::from_pkcs8(self.text(cert).as_bytes(), self.text(key).as_bytes()).unwrap();
        let acceptor = TlsAcceptor::new(identity).unwrap();
        once(move |stream| {
            if let Ok(mut stream) = acceptor.accept(stream) {
                stream.write_all(b"hello").unwrap();
            }
        })
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, name.to_owned());
    params
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    changed_authority(name, |_| {})
}

fn changed_authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Authority {
    let (params, key) = ca(name, change);
    CertifiedIssuer::self_signed(params, key).unwrap()
}

/// An authority called `intermediate CA`.
fn intermediate(above: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Authority {
    let (params, key) = ca("intermediate CA", change);
    CertifiedIssuer::signed_by(params, key, above).unwrap()
}

fn ca(name: &str, change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

/// Has a certificate end with the year before this one.
fn until(year: i32) -> impl Fn(&mut CertificateParams) {
    move |params| params.not_after = rcgen::date_time_ymd(year, 1, 1)
}

/// A running `openssl s_server`, which sends each line back reversed. The process ends when this is dropped.
struct Broker {
    child: Child,
    address: SocketAddr,
}

impl Broker {
    fn start(lab: &Lab, arguments: &str) -> Broker {
        let mut child = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(lab.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need the program openssl");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.trim().parse().ok())
            .expect("the server says where it listens");
        // The server would stop if nobody read its later output.
        thread::spawn(move || lines.for_each(drop));
        Broker { child, address }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks that no connector can be built, and returns the error.
fn refusal(options: &TlsOptions) -> Error {
    let error = connector(options).expect_err("the connector must not be built");
    assert_eq!(error.blame(), Blame::Configuration, "{error}");
    assert!(error.is_permanent());
    assert!(!error.advice().is_empty(), "{error}");
    assert!(!error.to_string().contains('\n'));
    error
}

/// Makes a handshake. If the broker's certificate does not pass, looks at it as the loop does.
fn connect(
    options: &TlsOptions,
    address: SocketAddr,
    host: &str,
) -> Result<TlsStream<TcpStream>, Error> {
    let open = || {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        std::io::Result::Ok(stream)
    };
    let connector = connector(options)?;
    match connector.connect(host, open().unwrap()) {
        Ok(stream) => Ok(stream),
        Err(HandshakeError::Failure(error)) => {
            eprintln!("library: {error}");
            let look = open().ok().filter(|_| is_unverified(&error));
            let stream = look.and_then(|stream| connector.look(host, stream, false).ok());
            let seen = stream.and_then(|stream| stream.peer_certificate().unwrap());
            let seen: Vec<_> = seen.iter().map(|seen| seen.to_der().unwrap()).collect();
            let all = Options::new(host, "me");
            Err(handshake_error(&error, &all, &connector, &seen))
        }
        Err(HandshakeError::WouldBlock(_)) => panic!("the handshake timed out"),
    }
}

/// Connects and has the server reverse one line. A failure of either becomes the error for people.
fn talk(options: &TlsOptions, address: SocketAddr) -> Result<(), Error> {
    let mut stream = connect(options, address, "localhost")?;
    let mut answer = [0; 4];
    stream
        .write_all(b"abc\n")
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| {
            eprintln!("library: {error}");
            let all = Options::new("localhost", "me");
            alert_error(&error, &all, &connector(options).unwrap()).expect("an alert")
        })?;
    assert_eq!(&answer, b"cba\n");
    Ok(())
}

/// Accepts one connection and gives it to `serve`, on a thread of its own.
fn once(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || serve(listener.accept().unwrap().0));
    (address, thread)
}
