//! When the loop connects, pings and gives up: brokers that drop it, refuse it or fall silent. The real
//! loop against a scripted broker. Times have lower bounds only, so that no test fails on a loaded
//! machine.
//!
//! `row_NN` names the defect of the original program, in the project's table, that must not come back.

// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use crate::support::running::{Running, all_told, attempts, options, promptly, serve, told};
use crate::support::{Connection, Event, HANG, ScriptedBroker, in_both_versions, look_for};
use mqtt_connection_sharing::{Client, Outcome, Protocol, Reason};
use rumqttc::mqttbytes::v4;

in_both_versions! {
    row_14_refusals_are_tried_again_up_to_the_limit_unless_they_are_permanent,
    row_14_a_broker_that_never_answers_connect_is_tried_again,
    row_19_an_idle_link_is_pinged_and_given_up_without_an_answer,
    without_an_acknowledgment_in_time_the_link_is_made_anew,
}

const SUCCESS: v4::ConnectReturnCode = v4::ConnectReturnCode::Success;

/// The time in which the loop comes back `times` times to a broker that drops it.
fn drop_it(broker: &mut ScriptedBroker, times: u32, drop_one: impl Fn(Connection)) -> Duration {
    let start = Instant::now();
    for _ in 0..times {
        drop_one(broker.accept());
    }
    start.elapsed()
}

fn before_connack(mut link: Connection) {
    link.expect_connect();
    link.close();
}

fn after_connack(mut link: Connection) {
    link.expect_connect();
    link.send_connack(SUCCESS, false);
    link.close();
}

#[test]
fn row_14_links_that_do_not_last_are_made_anew_at_a_growing_distance() {
    for drop_one in [before_connack as fn(Connection), after_connack, |link| {
        link.close()
    }] {
        let mut broker = ScriptedBroker::bind();
        let mut options = options(&broker);
        options.retry.base = Duration::from_millis(1);
        options.retry.max = Duration::from_millis(200);
        options.retry.attempts = 0;
        let running = Running::start(options);
        // The ceilings are 1, 2, 4, ... 128 ms. The first waits are too short to be measured.
        drop_it(&mut broker, 9, drop_one);
        // Now they are 200 ms. The sum of ten delays is below a tenth of the highest possible sum once
        // in three million times; without growth it would be 5 ms.
        let took = drop_it(&mut broker, 10, drop_one);
        assert!(took >= Duration::from_millis(200), "{took:?}");
        let end = running.handle().terminate(Duration::ZERO);
        let _ = promptly(|| running.join());
        assert!(told(end).is_delivered());
    }
}

fn row_14_refusals_are_tried_again_up_to_the_limit_unless_they_are_permanent(protocol: Protocol) {
    use v4::ConnectReturnCode::{NotAuthorized, ServiceUnavailable};
    for (code, connections) in [(ServiceUnavailable, 4), (NotAuthorized, 1)] {
        let mut broker = ScriptedBroker::speaking(protocol);
        let mut options = options(&broker);
        options.retry.attempts = 3;
        let running = Running::start(options);
        let waiting = running.publish("a", "x");
        for _ in 0..connections {
            let mut link = broker.accept();
            link.expect_connect();
            link.send_connack(code, false);
            link.expect_closed();
        }
        let ended = promptly(|| running.join());
        let error = ended.result.unwrap_err();
        assert_eq!(error.exit_status(), 4, "{error}");
        assert_eq!(ended.left, 1);
        let waiting = all_told([waiting]).remove(0);
        assert_eq!(waiting, Outcome::Cancelled(Reason::NoConnection));
        assert!(broker.accept_within(Duration::from_millis(50)).is_none());
    }
}

fn row_14_a_broker_that_never_answers_connect_is_tried_again(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.connect_timeout = Duration::from_millis(300);
    let running = Running::start(options);
    let start = Instant::now();
    let mut silent = broker.accept();
    silent.expect_connect();
    silent.expect_closed();
    assert!(start.elapsed() < HANG);
    // Under load an attempt may fail for the same reason although the broker answers it.
    loop {
        let mut link = broker.accept();
        link.expect_connect();
        link.send_connack(SUCCESS, false);
        let ticket = running.publish("a", "x");
        if let Event::Packet(v4::Packet::Publish(publish), _) = link.read_event(HANG) {
            link.send_puback(publish.pkid);
            assert!(told(ticket).is_delivered());
            running.terminate(link);
            return;
        }
    }
}

#[test]
fn row_15_connects_keep_their_distance_also_from_one_loop_to_the_next() {
    const INTERVAL: Duration = Duration::from_millis(300);
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.connect_interval = INTERVAL;
    let start = Instant::now();
    let (running, link) = Running::online_with(options.clone(), &mut broker);
    link.close();
    let (link, _) = broker.accept_client(false);
    assert!(start.elapsed() >= INTERVAL);
    running.take_a_turn();
    let reconnect = running.handle().reconnect();
    let (other, _) = broker.accept_client(false);
    assert!(start.elapsed() >= INTERVAL * 2);
    assert!(told(reconnect).is_delivered());
    drop(link);
    running.terminate(other);

    let port = broker.port();
    let script = broker.in_thread(|mut broker| {
        for _ in 0..3 {
            let (mut link, _) = broker.accept_client(false);
            serve(&mut link);
            link.close();
        }
    });
    options.port = port;
    let mut client = Client::new(options).unwrap();
    let start = Instant::now();
    for before in 0..3 {
        let (agent, handle) = client.open();
        let ticket = handle.ping().unwrap();
        let end = handle.terminate(HANG);
        let ended = agent.run();
        assert!(ended.result.is_ok());
        client = ended.client;
        assert!(told(ticket).is_delivered() && told(end).is_delivered());
        assert!(start.elapsed() >= INTERVAL * before);
    }
    script.join().unwrap();
}

fn row_19_an_idle_link_is_pinged_and_given_up_without_an_answer(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.keep_alive = Duration::from_secs(1);
    let (running, mut link) = Running::online_with(options, &mut broker);
    for _ in 0..2 {
        link.expect_pingreq();
        link.send_packet(v4::Packet::PingResp);
    }
    link.expect_pingreq();
    link.expect_closed();
    let (link, connect) = broker.accept_client(true);
    assert_eq!(connect.keep_alive, 1);
    running.terminate(link);
}

fn without_an_acknowledgment_in_time_the_link_is_made_anew(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.ack_timeout = Duration::from_millis(300);
    let (running, mut link) = Running::online_with(options, &mut broker);
    let ticket = running.publish("a", "x");
    let id = link.expect_publish().pkid;
    link.expect_pingreq();
    link.send_packet(v4::Packet::PingResp);
    link.expect_closed();
    let mut sent = 1;
    loop {
        let (mut link, _) = broker.accept_client(true);
        let again = link.expect_publish();
        assert_eq!((again.pkid, again.dup), (id, true));
        sent += 1;
        link.send_puback(id);
        if let Some(outcome) = look_for(HANG / 10, || ticket.outcome()) {
            // The command is sent once more if it was overdue again because the machine is loaded.
            assert!(attempts(outcome) >= sent);
            running.terminate(link);
            return;
        }
    }
}
