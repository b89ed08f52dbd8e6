//! Certificates and keys that change while the loop runs: the real loop over mutual TLS, and a broker that sees which
//! certificate comes.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use openssl::nid::Nid;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream, SslVerifyMode};
use tempfile::TempDir;

use crate::support::certs::Pair;
use crate::support::running::{Running, options};
use crate::support::{Certs, Connection, Event, HANG, ScriptedBroker};
use mqtt_connection_sharing::options::{
    Fresh, Identity, Material, Options, Provider, Secret, Security, TlsOptions,
};
use mqtt_connection_sharing::{ConnectionEvents, EventKind};
use rumqttc::mqttbytes::v4::ConnectReturnCode;

type Link = Connection<SslStream<TcpStream>>;

/// Accepts a link with this certificate, whatever the client's is. Returns the common name of that.
#[track_caller]
fn accept(broker: &mut ScriptedBroker, server: &Pair) -> (Link, String) {
    let tcp = broker.accept().stream().try_clone().unwrap();
    let tls = acceptor(server).accept(tcp).unwrap();
    let client = tls.ssl().peer_certificate().unwrap();
    let name = client.subject_name().entries_by_nid(Nid::COMMONNAME).next();
    let name = name.unwrap().data().to_string().unwrap();
    let mut link = Connection::over(tls);
    link.expect_connect();
    link.send_connack(ConnectReturnCode::Success, false);
    (link, name)
}

/// As [`accept`], but links that end before CONNECT are passed over.
#[track_caller]
fn accept_at_last(broker: &mut ScriptedBroker, server: &Pair) -> Link {
    loop {
        if let Some(link) = shake_hands(broker, server) {
            return link;
        }
    }
}

fn shake_hands(broker: &mut ScriptedBroker, server: &Pair) -> Option<Link> {
    let tcp = broker.accept().stream().try_clone().unwrap();
    let mut link = Connection::over(acceptor(server).accept(tcp).ok()?);
    let Event::Packet(..) = link.read_event(HANG) else {
        return None;
    };
    link.send_connack(ConnectReturnCode::Success, false);
    Some(link)
}

fn acceptor(server: &Pair) -> SslAcceptor {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    let pem = SslFiletype::PEM;
    acceptor.set_certificate_file(&server.cert, pem).unwrap();
    acceptor.set_private_key_file(&server.key, pem).unwrap();
    let demand = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    acceptor.set_verify_callback(demand, |_, _| true);
    acceptor.build()
}

/// The files of a client, which can be replaced.
struct Files {
    folder: TempDir,
}

impl Files {
    fn of(certs: &Certs) -> Files {
        let files = Files {
            folder: tempfile::tempdir().unwrap(),
        };
        files.replace("ca", certs.ca());
        files.replace("cert", &certs.client().cert);
        files.replace("key", &certs.client().key);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    /// In one step, as a program that renews certificates does.
    fn replace(&self, name: &str, with: &Path) {
        let beside = self.folder.path().join("new");
        fs::copy(with, &beside).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    fn options(&self, broker: &ScriptedBroker) -> Options {
        let mut tls = TlsOptions::default();
        tls.ca = Some(self.path("ca").into());
        tls.identity = Some(Identity::pem(self.path("cert"), self.path("key")));
        let mut options = options(broker);
        options.security = Security::Tls(tls);
        options
    }
}

/// The reasons why new values were not taken.
fn not_renewed(events: &mut ConnectionEvents) -> Vec<String> {
    let kinds = std::iter::from_fn(|| events.try_recv().ok());
    let reasons = kinds.filter_map(|event| match &event.kind {
        EventKind::NotRenewed { error } => Some(error.to_string()),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn certificate_key_and_authority_that_were_replaced_count_from_the_next_link_on() {
    let certs = Certs::generate();
    let files = Files::of(&certs);
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(files.options(&broker));
    let mut events = running.handle().events();
    let (link, name) = accept(&mut broker, certs.server());
    assert_eq!(name, "client");
    running.take_a_turn();
    // A file with other contents and with the same ones.
    files.replace("cert", &certs.other_client().cert);
    files.replace("key", &certs.other_client().key);
    files.replace("ca", certs.ca());
    link.close();
    let (link, name) = accept(&mut broker, certs.server());
    assert_eq!(name, "other-client");
    running.take_a_turn();
    files.replace("ca", certs.other_ca());
    link.close();
    let (link, name) = accept(&mut broker, &certs.other_server());
    assert_eq!(name, "other-client");
    running.take_a_turn();
    assert_eq!(not_renewed(&mut events), [""; 0]);
    drop((link, running));
}

#[test]
fn what_cannot_be_used_leaves_the_last_good_certificate_in_force_until_it_can() {
    let certs = Certs::generate();
    let files = Files::of(&certs);
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(files.options(&broker));
    let mut events = running.handle().events();
    let (mut link, _) = accept(&mut broker, certs.server());
    running.take_a_turn();
    let key = fs::read(files.path("key")).unwrap();
    let half = certs.file("half.pem");
    fs::write(&half, &key[..key.len() / 2]).unwrap();
    let steps: [(&dyn Fn(), &str, &str); 5] = [
        (&|| files.replace("key", &half), "key.pem", "is cut off"),
        (
            &|| fs::write(files.path("key"), "rubbish").unwrap(),
            "key.pem",
            "it is not PEM",
        ),
        (
            &|| fs::write(files.path("ca"), "").unwrap(),
            "ca.pem",
            "the file is empty",
        ),
        (
            &|| {
                files.replace("ca", certs.ca());
                files.replace("key", &certs.other_client().key);
            },
            "key.pem",
            "does not belong to the certificate",
        ),
        (
            &|| fs::remove_file(files.path("cert")).unwrap(),
            "cert.pem",
            "there is no such file",
        ),
    ];
    for (change, file, problem) in steps {
        change();
        link.close();
        let (next, name) = accept(&mut broker, certs.server());
        link = next;
        running.take_a_turn();
        assert_eq!(name, "client", "{problem}");
        let reasons = not_renewed(&mut events);
        let [reason] = &reasons[..] else {
            panic!("{problem}: {reasons:?}");
        };
        assert!(
            reason.contains(file) && reason.contains(problem),
            "{problem}: {reason}"
        );
    }
    files.replace("cert", &certs.other_client().cert);
    link.close();
    let (link, name) = accept(&mut broker, certs.server());
    running.take_a_turn();
    assert_eq!(name, "other-client");
    assert_eq!(not_renewed(&mut events), [""; 0]);
    drop((link, running));
}

#[test]
fn a_provider_gives_certificates_from_memory_for_each_link() {
    let certs = Certs::generate();
    let memory = |path: &Path| Material::from(Secret::from(fs::read(path).unwrap()));
    let identity = |pair: &Pair| Identity::pem(memory(&pair.cert), memory(&pair.key));
    let (first, second) = (identity(certs.client()), identity(certs.other_client()));
    let authorities = [certs.ca(), certs.other_ca()].map(memory);
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    // Neither certificate nor authority is known beforehand.
    options.security = Security::Tls(TlsOptions::default());
    let calls = AtomicU32::new(0);
    options.provider = Some(Provider::new(move |_| {
        let mut fresh = Fresh::default();
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 => {
                fresh.identity = Some(first.clone());
                fresh.ca = Some(authorities[0].clone());
            }
            1 => fresh.identity = Some(Identity::pem(Secret::from("hunter2"), "nowhere.pem")),
            2 => {}
            3 => fresh.identity = Some(second.clone()),
            _ => fresh.ca = Some(authorities[1].clone()),
        }
        Ok(fresh)
    }));
    let running = Running::start(options);
    let mut events = running.handle().events();
    let other_server = certs.other_server();
    for (number, expected) in
        (1..).zip(["client", "client", "client", "other-client", "other-client"])
    {
        let server = if number == 5 {
            &other_server
        } else {
            certs.server()
        };
        let (link, name) = accept(&mut broker, server);
        running.take_a_turn();
        assert_eq!(name, expected, "link {number}");
        let reasons = not_renewed(&mut events);
        assert_eq!(reasons.len(), usize::from(number == 2), "{reasons:?}");
        assert!(
            reasons
                .iter()
                .all(|reason| reason.contains("nowhere.pem (`key`)")),
            "{reasons:?}"
        );
        link.close();
    }
    drop(running);
}

/// Without a provider the same error ends the loop: the file that is there will not do either.
#[test]
fn an_authority_that_does_not_fit_is_not_final_with_a_provider() {
    let certs = Certs::generate();
    let files = Files::of(&certs);
    files.replace("ca", certs.other_ca());
    let mut broker = ScriptedBroker::bind();
    let mut options = files.options(&broker);
    let (wrong, right) = (certs.other_ca().to_owned(), certs.ca().to_owned());
    options.provider = Some(Provider::new(move |next| {
        let mut fresh = Fresh::default();
        let is_wrong = next.failures == 0;
        fresh.ca = Some(
            if is_wrong {
                wrong.clone()
            } else {
                right.clone()
            }
            .into(),
        );
        Ok(fresh)
    }));
    let running = Running::start(options);
    let link = accept_at_last(&mut broker, certs.server());
    running.take_a_turn();
    drop((link, running));
}

/// Such as a file on a network that does not answer.
#[test]
fn a_file_whose_reading_hangs_holds_up_one_attempt_and_not_the_loop() {
    let certs = Certs::generate();
    let files = Files::of(&certs);
    let mut broker = ScriptedBroker::bind();
    let mut options = files.options(&broker);
    options.connect_timeout = Duration::from_secs(2);
    let running = Running::start(options);
    let mut events = running.handle().events();
    let link = accept_at_last(&mut broker, certs.server());
    running.take_a_turn();
    // Opening a pipe blocks until somebody writes.
    let pipe = files.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    fs::rename(&pipe, files.path("key")).unwrap();
    link.close();
    running.take_a_turn();
    let link = accept_at_last(&mut broker, certs.server());
    let reasons = not_renewed(&mut events);
    let expected = "the certificates and keys were not read within 2s; check the file system";
    assert!(reasons[0].contains(expected), "{reasons:?}");
    // The thread goes on.
    fs::write(files.path("key"), "").unwrap();
    drop((link, running));
}
