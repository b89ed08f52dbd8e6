//! Each limit that a Mosquitto can state, and each refusal that it can be told to make, over mutual TLS. What exceeds a
//! limit ends with an outcome that names it, and costs nobody the connection.

use std::time::{Duration, Instant};

use crate::party::{Party, code, message};
use crate::support::running::{Running, security, told};
use crate::support::{Mosquitto, wait_until};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{
    BrokerLimit, ConnAck5, Filter, MessageProperties, Outcome, Protocol, Publish, QoS, Reason, Will,
};
use rumqttc::mqttbytes::v4;

/// A Mosquitto with this setting more.
fn broker(setting: &str) -> Mosquitto {
    let mut broker = Mosquitto::start();
    broker.restart_with(setting);
    broker
}

fn options(broker: &Mosquitto, client_id: &str) -> Options {
    let mut options = Options::new("127.0.0.1", client_id);
    options.port = broker.port();
    options.security = security(broker.certs());
    options.protocol = Protocol::V5;
    options.connect_interval = Duration::ZERO;
    options.retry.base = Duration::from_millis(10);
    options.retry.max = Duration::from_millis(100);
    options
}

fn join(broker: &Mosquitto) -> Party {
    Party::join(options(broker, "negotiated"))
}

fn negotiated(party: &Party) -> ConnAck5 {
    let said = party.handle().negotiated().expect("CONNACK of MQTT 5");
    said.as_ref().clone()
}

#[track_caller]
fn expect_limit(outcome: Outcome, limit: BrokerLimit) {
    assert_eq!(outcome, Outcome::NeverSent(Reason::BrokerLimit(limit)));
}

#[track_caller]
fn expect_one_connection(party: Party) {
    let stats = party.leave();
    assert_eq!((stats.connects, stats.losses), (1, 0));
}

#[test]
fn a_message_above_the_maximum_qos_is_not_sent() {
    let broker = broker("max_qos 1");
    let party = join(&broker);
    assert_eq!(negotiated(&party).maximum_qos, QoS::AtLeastOnce);
    party.subscribe("t");
    let twice = party.send(Publish::new("t", QoS::ExactlyOnce, "2"));
    expect_limit(twice, BrokerLimit::MaximumQos);
    party.publish("t", "1");
    assert_eq!(party.next().expect("a message").payload(), b"1");
    expect_one_connection(party);
}

#[test]
fn a_retained_message_is_not_sent_where_none_is_kept() {
    let broker = broker("retain_available false");
    let party = join(&broker);
    assert!(!negotiated(&party).retain_available);
    let retained = party.send(message("t", "x").with_retain(true));
    expect_limit(retained, BrokerLimit::RetainAvailable);
    party.publish("t", "x");
    expect_one_connection(party);
}

#[test]
fn a_packet_above_the_maximum_size_is_not_sent() {
    let broker = broker("max_packet_size 300");
    let party = join(&broker);
    assert_eq!(negotiated(&party).maximum_packet_size, Some(300));
    // Fixed header, topic, identifier, no properties: the largest payload, and one byte more.
    let most = 300 - (3 + 2 + 1 + 2 + 1);
    party.publish("t", &"x".repeat(most));
    let large = party.send(message("t", &"x".repeat(most + 1)));
    expect_limit(large, BrokerLimit::MaximumPacketSize);
    let long = Filter::new("f/".repeat(200) + "g", QoS::AtLeastOnce);
    expect_limit(party.ask(long), BrokerLimit::MaximumPacketSize);
    party.subscribe("t");
    expect_one_connection(party);
}

#[test]
fn the_keep_alive_of_the_broker_replaces_ours() {
    let mut broker = broker("max_keepalive 10");
    broker.restart_with("log_type all");
    let party = join(&broker);
    assert_eq!(negotiated(&party).server_keep_alive, Some(10));
    let pinged = || broker.log().contains("Received PINGREQ from negotiated");
    wait_until("a PINGREQ, for which ours would be too long", pinged);
    expect_one_connection(party);
}

#[test]
fn no_more_than_the_receive_maximum_is_under_way() {
    let broker = Mosquitto::start_stock();
    let mut options = options(&broker, "quota");
    options.ack_timeout = Duration::from_secs(600);
    let party = Party::join(options);
    assert_eq!(negotiated(&party).receive_maximum, 20);
    broker.pause();
    let tickets: Vec<_> = (0..50)
        .map(|number| message("t", &number.to_string()))
        .map(|message| party.handle().publish(message).expect("room"))
        .collect();
    // They need no quota [MQTT-3.3.4-7].
    let unquoted = party
        .handle()
        .subscribe(&party.inbox, vec![Filter::new("u", QoS::AtLeastOnce)]);
    let ping = party.handle().ping();
    let in_flight = || party.handle().stats().in_flight;
    wait_until("twenty, SUBSCRIBE and PINGREQ to be under way", || {
        in_flight() >= 21
    });
    broker.resume();
    for ticket in tickets
        .into_iter()
        .chain([unquoted.expect("room"), ping.expect("room")])
    {
        let outcome = told(ticket);
        assert!(outcome.is_delivered(), "{outcome}");
    }
    let most = party.handle().stats().in_flight_most;
    assert!(most <= 22, "{most} were in flight");
    expect_one_connection(party);
}

#[test]
fn as_many_topic_aliases_are_used_as_the_broker_takes() {
    for (setting, most) in [(0, 0), (3, 3)] {
        let broker = broker(&format!("max_topic_alias {setting}"));
        let mut options = options(&broker, "aliases");
        options.version5.topic_aliases = 100;
        let party = Party::join(options);
        assert_eq!(negotiated(&party).topic_alias_maximum, most);
        party.subscribe("#");
        let topics = [1, 2, 3, 1, 2, 3].map(|number| "long/".repeat(100) + &number.to_string());
        let bytes = topics.map(|topic| {
            let before = party.handle().stats().bytes_sent;
            party.publish(&topic, "x");
            let came = party.next().expect("a message");
            assert_eq!(came.topic(), topic);
            party.handle().stats().bytes_sent - before
        });
        let [first, .., last] = bytes;
        let saved = first.saturating_sub(last);
        assert_eq!(saved > 400, most > 0, "{bytes:?}");
        expect_one_connection(party);
    }
}

#[test]
fn a_session_ends_when_its_time_is_over() {
    let broker = Mosquitto::start();
    for (seconds, kept) in [(600, true), (1, false)] {
        let mut options = options(&broker, "expiring");
        options.version5.session_expiry = Duration::from_secs(seconds);
        let party = Party::join(options);
        party.subscribe("t");
        expect_one_connection(party);
        if !kept {
            // It looks every few seconds.
            wait_until("the broker to end the session", || {
                broker.log().contains("Expiring client expiring")
            });
        }
        let mut connect = v4::Connect::new("expiring");
        connect.clean_session = false;
        let (client, answer) = broker.client_with(connect);
        assert_eq!(answer.session_present, kept);
        client.close();
    }
}

#[test]
fn a_message_that_waits_too_long_is_not_sent() {
    let broker = Mosquitto::start();
    let party = join(&broker);
    assert!(told(party.handle().disconnect()).is_delivered());
    let short = MessageProperties {
        expiry: Some(1),
        ..MessageProperties::default()
    };
    let long = MessageProperties {
        expiry: Some(600),
        ..short.clone()
    };
    let short = message("t", "short").with_properties(short);
    let long = message("t", "long").with_properties(long);
    let begin = Instant::now();
    let [short, long] = [short, long].map(|message| party.handle().publish(message).expect("room"));
    wait_until("the expiry", || begin.elapsed() > Duration::from_secs(2));
    assert!(told(party.handle().reconnect()).is_delivered());
    assert_eq!(told(short), Outcome::NeverSent(Reason::Expired));
    assert!(told(long).is_delivered());
    party.leave();
}

#[test]
fn what_the_broker_forbids_is_refused_with_its_code() {
    // With `max_queued_messages 0`, as the others have it, Mosquitto 2.0.11 closes the link after each refusal.
    let mut broker = Mosquitto::start_stock();
    broker.restart_with_rules("topic readwrite t/#\ntopic read forbidden/#\n");
    let party = join(&broker);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let outcome = party.send(Publish::new("forbidden/1", qos, "x"));
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome}");
        assert_eq!(code(&outcome), "0x87");
    }
    party.publish("t/1", "x");
    expect_one_connection(party);
}

#[test]
fn a_will_that_the_broker_cannot_keep_is_refused_with_its_code() {
    let mut will = Will::new("t", QoS::ExactlyOnce, "x");
    will.retain = true;
    for (setting, code) in [("retain_available false", "0x9A"), ("max_qos 1", "0x9B")] {
        let broker = broker(setting);
        let mut options = options(&broker, "will");
        options.last_will = Some(will.clone());
        let ended = Running::start(options).join();
        let error = ended.result.expect_err("a refusal").to_string();
        assert!(error.contains(code), "{setting}: {error}");
    }
}

#[test]
fn a_wrong_password_is_refused_with_its_code() {
    let broker = Mosquitto::start_with_user("me", "right");
    let mut options = options(&broker, "me");
    options.credentials = Some(mqtt_connection_sharing::Credentials {
        username: "me".to_owned(),
        password: "wrong".into(),
    });
    let ended = Running::start(options).join();
    let error = ended.result.expect_err("a refusal").to_string();
    assert!(error.contains("0x87"), "{error}");
}
