//! The embedded broker as an application's tests use it: options for a client, and a proxy that lets the links fail.
//!
//! `cargo test --features local-broker --test program local_links`, with MQTT 5 behind `SUITE_MQTT=5`

#![cfg(feature = "local-broker")]
// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::iter;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mqtt_connection_sharing::local::{Counting, Fate, LocalBroker};
use mqtt_connection_sharing::options::{Options, Security};
use mqtt_connection_sharing::{Client, Ended, Filter, Handle, Inbox, Publish, QoS, WhenFull};

use crate::support::HANG;
use crate::support::versions::suite;

/// Options for a client, which speaks the version of MQTT of the suite.
fn options(broker: &LocalBroker) -> Options {
    let mut options = broker.options("me");
    options.protocol = suite();
    options
}

/// A client whose loop runs on a thread of its own.
fn run(broker: &LocalBroker) -> (Handle, JoinHandle<Ended>) {
    let client = Client::new(options(broker)).unwrap();
    let (agent, handle) = client.open();
    (handle, thread::spawn(move || agent.run()))
}

fn subscribe(handle: &Handle) -> Inbox {
    let inbox = handle.inbox(10, WhenFull::WaitAside);
    let filters = vec![Filter::new("#", QoS::AtLeastOnce)];
    let ticket = handle.subscribe(&inbox, filters).unwrap();
    ticket.wait().into_result().unwrap();
    inbox
}

/// Publishes this text and waits until it is acknowledged and has come back.
fn echo(handle: &Handle, inbox: &Inbox, text: &str) {
    let message = Publish::new("a/b", QoS::AtLeastOnce, text.to_owned());
    handle
        .publish(message)
        .unwrap()
        .wait()
        .into_result()
        .unwrap();
    let deadline = Instant::now() + HANG;
    // A message that was in flight when a link ended can come twice.
    while inbox
        .recv_timeout(deadline - Instant::now())
        .unwrap()
        .payload()
        != text.as_bytes()
    {}
}

fn end(handle: Handle, running: JoinHandle<Ended>) -> Ended {
    drop(handle);
    let ended = running.join().unwrap();
    assert!(ended.result.is_ok(), "{ended:?}");
    ended
}

#[test]
fn a_client_comes_to_the_broker_over_tls_or_plain() {
    for (broker, plain) in [
        (LocalBroker::start().unwrap(), false),
        (LocalBroker::start_plain().unwrap(), true),
    ] {
        let security = options(&broker).security;
        assert_eq!(matches!(security, Security::Plain), plain);
        let files = [broker.ca_file(), broker.cert(), broker.key()];
        assert!(files.iter().all(|file| file.is_none() == plain));
        let (handle, running) = run(&broker);
        echo(&handle, &subscribe(&handle), "on");
        assert_eq!(end(handle, running).stats.reconnects, 0);
        assert_eq!(broker.proxy().counts().connections(), 1);
    }
}

#[test]
fn a_link_that_is_cut_comes_back_with_its_session() {
    let broker = LocalBroker::start().unwrap();
    let (handle, running) = run(&broker);
    let inbox = subscribe(&handle);
    for round in 0..5 {
        echo(&handle, &inbox, &format!("before {round}"));
        broker.proxy().cut_all().unwrap();
        echo(&handle, &inbox, &format!("behind {round}"));
    }
    let stats = end(handle, running).stats;
    assert_eq!((stats.reconnects, stats.resumed), (5, 5));
    assert_eq!(broker.proxy().counts().cuts(), 5);
}

#[test]
fn a_link_that_stalls_is_given_up() {
    let broker = LocalBroker::start_plain().unwrap();
    let (handle, running) = run(&broker);
    let inbox = subscribe(&handle);
    broker.proxy().stall_all().unwrap();
    echo(&handle, &inbox, "behind");
    let stats = end(handle, running).stats;
    assert_eq!((stats.reconnects, stats.resumed), (1, 1));
}

#[test]
fn a_broker_that_refuses_is_tried_until_it_listens() {
    let broker = LocalBroker::start_plain().unwrap();
    let (handle, running) = run(&broker);
    let inbox = subscribe(&handle);
    broker.proxy().refuse().unwrap();
    broker.proxy().cut_all().unwrap();
    let message = Publish::new("a/b", QoS::AtLeastOnce, "meanwhile");
    let mut ticket = handle.publish(message).unwrap();
    assert!(ticket.wait_timeout(Duration::from_millis(50)).is_none());
    broker.proxy().listen().unwrap();
    ticket.wait().into_result().unwrap();
    assert_eq!(inbox.recv_timeout(HANG).unwrap().payload(), b"meanwhile");
    assert_eq!(end(handle, running).stats.reconnects, 1);
}

#[test]
fn each_link_has_the_fate_that_the_script_gives_it() {
    const DELAY: Duration = Duration::from_millis(30);
    let broker = LocalBroker::start().unwrap();
    let cuts = [0, 1, 200, 500].map(|bytes| Fate::cut_after(bytes).counting(Counting::FromBroker));
    let rest = iter::repeat(Fate::pass().delay(DELAY));
    broker.proxy().decide(cuts.into_iter().chain(rest)).unwrap();
    let (handle, running) = run(&broker);
    let inbox = subscribe(&handle);
    let start = Instant::now();
    echo(&handle, &inbox, "late");
    assert!(start.elapsed() >= 2 * DELAY, "{:?}", start.elapsed());
    let stats = end(handle, running).stats;
    assert_eq!((stats.connects, stats.reconnects), (1, 0));
    let counts = broker.proxy().counts();
    assert_eq!((counts.cuts(), counts.connections()), (4, 5));
}

#[test]
fn a_client_beside_the_proxy_keeps_its_link() {
    let broker = LocalBroker::start_plain().unwrap();
    let mut options = options(&broker);
    options.port = broker.port();
    let (agent, handle) = Client::new(options).unwrap().open();
    let running = thread::spawn(move || agent.run());
    let inbox = subscribe(&handle);
    broker.proxy().cut_all().unwrap();
    echo(&handle, &inbox, "on");
    assert_eq!(end(handle, running).stats.reconnects, 0);
}

/// Starting and dropping the broker waits, which tokio allows no task to do on its own thread.
#[test]
fn a_task_of_an_async_program_starts_and_drops_the_broker() {
    let mut executor = tokio::runtime::Builder::new_current_thread();
    executor.build().unwrap().block_on(async {
        let broker = LocalBroker::start_plain().unwrap();
        let (handle, running) = run(&broker);
        let message = Publish::new("a/b", QoS::AtLeastOnce, "on");
        let ticket = handle.publish_async(message).await.unwrap();
        ticket.await.into_result().unwrap();
        let _ = end(handle, running);
    });
}
