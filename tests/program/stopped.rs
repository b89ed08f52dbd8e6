//! A script that stops the program learns why there was no connection, also with `-q`: standard error has one line for
//! the last failed attempt, or for what the first one was waiting for.

use crate::support::refusal::expect_one_line;
use std::fs;
use std::io::Read;
use std::net::TcpListener;

use native_tls::{Identity, TlsAcceptor};

use crate::support::{BlackHole, Certs, Program, Running, ScriptedBroker};

/// Arguments for attempts without end or pause.
const WITHOUT_END: [&str; 8] = [
    "--retry-for",
    "0",
    "--retry-base",
    "1ms",
    "--retry-max",
    "1ms",
    "--connect-interval",
    "0",
];

/// Stops the program as `timeout` does. Its standard error must be one line with these phrases.
#[track_caller]
fn stopped(running: Running, phrases: &[&str]) {
    running.signal("TERM");
    let mut done = running.finish();
    done.expect_code(130);
    // The result, which has nothing to tell.
    done.stdout.clear();
    expect_one_line("stopped", &done, phrases);
}

#[test]
fn the_last_failed_attempt_is_told() {
    for command in [&[][..], &["bench"]] {
        let mut broker = ScriptedBroker::bind();
        let running = Program::new()
            .args(command)
            .args(["--endpoint", &broker.endpoint(), "-q"])
            .args(WITHOUT_END)
            .spawn();
        // The third attempt shows that two have failed.
        for _ in 0..3 {
            broker.accept().close();
        }
        let phrases = [
            "connecting to 127.0.0.1:",
            " attempts in ",
            " s, the last one: ",
            "before answering CONNECT",
        ];
        stopped(running, &phrases);
    }
}

#[test]
fn what_the_first_attempt_waits_for_is_told() {
    let mut broker = ScriptedBroker::bind();
    let running = Program::new()
        .args(["--endpoint", &broker.endpoint(), "-q"])
        .spawn();
    let mut link = broker.accept();
    link.expect_connect();
    let phrases = [
        "connecting to 127.0.0.1:",
        "no answer to CONNECT, ",
        " s after the first attempt began",
    ];
    stopped(running, &phrases);

    let mut broker = ScriptedBroker::bind();
    let running = Program::new()
        .args(["--endpoint", &format!("127.0.0.1:{}", broker.port()), "-q"])
        .spawn();
    let mut link = broker.accept();
    assert_eq!(link.read_bytes()[0], 0x16, "the beginning of TLS");
    let phrases = [
        "TLS handshake with 127.0.0.1:",
        "no end, ",
        " s after the first attempt began",
    ];
    stopped(running, &phrases);
}

/// A certificate that did not pass is looked at on a second connection. If the program is stopped meanwhile, it tells
/// as much as the first one has shown.
#[test]
fn a_certificate_that_did_not_pass_is_told_in_words_while_it_is_looked_at() {
    let certs = Certs::generate();
    let pair = certs.server();
    let read = |path| fs::read(path).expect("a PEM file");
    let identity = Identity::from_pkcs8(&read(&pair.cert), &read(&pair.key));
    let acceptor = TlsAcceptor::new(identity.expect("an identity")).expect("an acceptor");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let running = Program::new()
        .args(["--endpoint", &address.to_string(), "-q", "--ca-file"])
        .arg(certs.other_ca())
        .spawn();
    let (link, _) = listener.accept().expect("the first connection");
    assert!(acceptor.accept(link).is_err(), "the certificate passes");
    let (mut look, _) = listener.accept().expect("the second connection");
    look.read_exact(&mut [0; 5]).expect("the beginning of TLS");
    running.signal("TERM");
    let done = running.finish();
    done.expect_code(130);
    let phrases = [
        "TLS handshake with 127.0.0.1:",
        "does not contain the CA that signed the broker's certificate",
        "; give --ca-file ",
    ];
    for phrase in phrases {
        assert!(done.stderr.contains(phrase), "{done}");
    }
    assert!(!done.stderr.contains("routines"), "{done}");
}

#[test]
fn a_port_that_swallows_everything_is_told() {
    let hole = BlackHole::open([127, 0, 0, 1]);
    let mut running = Program::new()
        .args(["--endpoint", &format!("mqtt://{}", hole.address())])
        .args(["--connect-timeout", "100ms"])
        .args(WITHOUT_END)
        .spawn();
    running.wait_for_line("trying again in");
    running.signal("TERM");
    let done = running.finish();
    done.expect_code(130);
    let mut lines = done.stderr.lines();
    let error = lines.find(|line| line.starts_with("error: "));
    let error = error.unwrap_or_else(|| panic!("no error: {done}"));
    let told = format!("no answer within 100ms ({})", hole.address());
    assert!(error.contains(&told), "{done}");
}
