//! The error behind an error: what the system or the TLS library said, for programs that ask for it.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used)]

use std::error::Error as _;
use std::io;
use std::time::Duration;

use crate::support::running::{Running, options, told};
use crate::support::{ClosedPort, ScriptedBroker};
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::{Security, TlsOptions};
use mqtt_connection_sharing::{Client, Publish, QoS, Reason};

/// The kind of the system's error behind this one.
#[track_caller]
fn kind(error: &Error) -> io::ErrorKind {
    let source = error.source().unwrap();
    let error = source.downcast_ref::<io::Error>();
    error.unwrap().kind()
}

#[test]
fn a_file_that_cannot_be_read_has_the_systems_error_behind_it() {
    let broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    let mut tls = TlsOptions::default();
    tls.ca = Some("/nowhere/ca.pem".into());
    options.security = Security::Tls(tls);
    let error = Client::new(options).unwrap_err();
    assert_eq!(kind(&error), io::ErrorKind::NotFound);
}

#[test]
fn a_port_that_refuses_has_the_systems_error_behind_it() {
    let broker = ScriptedBroker::bind();
    let closed = ClosedPort::hold();
    let mut options = options(&broker);
    options.port = closed.port();
    options.retry.attempts = 1;
    let error = Running::start(options).join().result.unwrap_err();
    assert_eq!(kind(&error), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_handshake_that_fails_has_the_tls_librarys_error_behind_it() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.security = Security::Tls(TlsOptions::default());
    let running = Running::start(options);
    // Such a broker is not tried again.
    let mut link = broker.accept();
    link.send(b"this is no TLS at all");
    let error = running.join().result.unwrap_err();
    let source = error.source().unwrap();
    assert!(source.is::<native_tls::Error>(), "{source:?}");
}

#[test]
fn an_outcome_can_be_raised_as_an_error() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let message = Publish::new("a", QoS::AtLeastOnce, "x");
    let ticket = running.handle().publish(message).unwrap();
    link.expect_publish();
    let end = running.handle().terminate(Duration::ZERO);
    let error = told(ticket).into_result().unwrap_err();
    let text = "the command was not delivered: perhaps delivered: the loop was told to end";
    assert_eq!(error.to_string(), text);
    let reason = mqtt_connection_sharing::Outcome::PerhapsDelivered(Reason::Terminated);
    assert_eq!(error.outcome(), &reason);
    assert_eq!(told(end).into_result(), Ok(()));
    drop(link);
    assert!(running.join().result.is_ok());
}
