//! Brokers whose certificate no trusted authority signed: the error names the one that is missing or another.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tempfile::TempDir;

use crate::support::refusal::QUICK;
use crate::support::{Finished, Program};

/// A running `openssl s_server`. The process ends when this is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts it in a folder with `leaf.pem` and `leaf.key`.
    fn start(folder: &Path, more: &str) -> Server {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-rev"])
            .args(["-cert", "leaf.pem", "-key", "leaf.key"])
            .args(more.split_whitespace())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need the program openssl");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            line.strip_prefix("ACCEPT 127.0.0.1:")?.trim().parse().ok()
        });
        // The server would stop if nobody read its later output.
        thread::spawn(move || lines.for_each(drop));
        let port = port.expect("the server says where it listens");
        Server { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(folder: &Path, name: &str, text: String) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path
}

/// A folder with a certificate that this CA has signed, and the CA's own.
fn with_leaf(middle: &CertifiedIssuer<'_, KeyPair>) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, middle).expect("a certificate");
    for (name, text) in [
        ("leaf.pem", leaf.pem()),
        ("leaf.key", key.serialize_pem()),
        ("middle.pem", middle.pem()),
    ] {
        write(folder.path(), name, text);
    }
    folder
}

/// Runs the program, which cannot connect.
fn run(broker: &Server, ca_file: &Path) -> Finished {
    let endpoint = format!("localhost:{}", broker.port);
    let program = Program::new().args(["--endpoint", &endpoint]);
    let done = program.arg("--ca-file").arg(ca_file).args(QUICK).run();
    done.expect_code(3);
    done
}

/// Parameters and key of a CA that knows its signer by the key.
fn ca(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.use_authority_key_identifier_extension = true;
    (params, KeyPair::generate().expect("a key"))
}

/// The broker sends an intermediate CA that the right root has signed, and the CA file has a root of the same name.
/// With the identifier of the right root's key in it, OpenSSL does not even try the signature.
#[test]
fn another_root_above_an_intermediate_that_the_broker_sends_is_told_as_such() {
    let root = || {
        let (params, key) = ca("root CA");
        CertifiedIssuer::self_signed(params, key).expect("a root")
    };
    let (right, namesake) = (root(), root());
    let (params, key) = ca("middle CA");
    let middle = CertifiedIssuer::signed_by(params, key, &right).expect("an intermediate");
    let folder = with_leaf(&middle);
    write(folder.path(), "long.pem", middle.pem() + &right.pem());
    let (params, key) = ca("another CA");
    let other = params.self_signed(&key).expect("a CA").pem();
    let ca_file = write(folder.path(), "ca.pem", other + &namesake.pem());

    let same = "it holds another CA of the same name, \"root CA\", with another key; ";
    for (server, phrase) in [
        ("-cert_chain middle.pem", same),
        ("-cert_chain middle.pem -tls1_2", same),
        ("-cert_chain long.pem", same),
        // TLS 1.3 shows the broker's own certificate alone.
        (
            "-cert_chain middle.pem -tls1_3",
            "that signed the broker's certificate, \"middle CA\"; ",
        ),
    ] {
        let broker = Server::start(folder.path(), server);
        let done = run(&broker, &ca_file);
        assert!(done.stderr.contains(phrase), "{server}: {done}");
    }
}

#[test]
fn an_expired_intermediate_that_the_broker_sends_is_named_with_its_date() {
    let (params, key) = ca("root CA");
    let root = CertifiedIssuer::self_signed(params, key).expect("a root");
    let (mut params, key) = ca("middle CA");
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let middle = CertifiedIssuer::signed_by(params, key, &root).expect("an intermediate");
    let folder = with_leaf(&middle);
    let ca_file = write(folder.path(), "ca.pem", root.pem());
    let named = "the CA \"middle CA\" that the broker sends has expired: it expired on 2021-01-01";
    for (server, phrase) in [
        ("-cert_chain middle.pem", named),
        ("-cert_chain middle.pem -tls1_2", named),
        (
            "-cert_chain middle.pem -tls1_3",
            "the certificate of the broker's CA has expired; ",
        ),
    ] {
        let broker = Server::start(folder.path(), server);
        let done = run(&broker, &ca_file);
        assert!(done.stderr.contains(phrase), "{server}: {done}");
    }
}
