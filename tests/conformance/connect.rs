//! CONNECT: when it is sent, and the contents of its fields.

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::options::{Credentials, Options};

use crate::harness::{
    ACCEPTED, CONNECT, RESUMED, Submit, ack, connect_with, greet, online, recorded, terminate,
};
use crate::support::running::{Running, options, told};
use crate::support::{Program, ScriptedBroker};

pub fn credentials(username: &str, password: &str) -> Option<Credentials> {
    Some(Credentials {
        username: username.into(),
        password: password.into(),
    })
}

/// The error for these options, with which nothing is connected.
#[track_caller]
pub fn refused(change: impl FnOnce(&mut Options)) -> String {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    change(&mut options);
    let error = mqtt_connection_sharing::Client::new(options);
    let error = error.expect_err("options that are refused");
    assert_eq!(error.exit_status(), 2);
    let none = broker.accept_within(std::time::Duration::ZERO);
    assert!(none.is_none(), "a connection");
    error.to_string()
}

#[test]
fn mqtt_3_1_0_1_connect_is_the_first_packet_on_every_connection() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options(&broker));
    // All these commands are there before the first connection.
    let tickets = [
        running.send(QoS::AtMostOnce, "a", "0"),
        running.send(QoS::AtLeastOnce, "a", "1"),
        running.send(QoS::ExactlyOnce, "a", "2"),
        running.handle().ping().unwrap(),
    ];
    for connack in [ACCEPTED, RESUMED, ACCEPTED, RESUMED] {
        let mut link = greet(&mut broker, connack);
        link.read_bytes();
        link.close();
    }
    let link = greet(&mut broker, RESUMED);
    terminate(running, link);
    assert!(tickets.iter().all(|ticket| ticket.outcome().is_some()));
    for (index, connection) in recorded(&broker).iter().enumerate() {
        assert_eq!(connection[0], CONNECT, "connection {index}");
    }
}

/// Packets must not follow before CONNACK, either: the broker might refuse.
#[test]
fn mqtt_3_1_0_1_nothing_follows_connect_before_its_answer() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options(&broker));
    let waits = running.send(QoS::AtLeastOnce, "a", "x");
    let mut link = broker.accept();
    link.expect_bytes(CONNECT);
    for _ in 0..3 {
        running.take_a_turn();
    }
    assert_eq!(link.received(), CONNECT);
    link.send(ACCEPTED);
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x01x");
    link.send(&ack(0x40, 1));
    assert!(told(waits).is_delivered());
    terminate(running, link);
}

#[test]
fn mqtt_3_1_0_2_connect_is_sent_once_on_each_connection() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    for connack in [RESUMED, ACCEPTED, RESUMED] {
        let ticket = running.send(QoS::AtLeastOnce, "a", "x");
        let id = crate::harness::identifier(&link.read_bytes());
        link.send(&ack(0x40, id));
        assert!(told(ticket).is_delivered());
        // RECONNECT makes a new connection; it sends no second CONNECT on this one.
        let reconnected = running.handle().reconnect();
        assert!(link.read_to_end().is_empty());
        link = greet(&mut broker, connack);
        assert!(told(reconnected).is_delivered());
    }
    let offline = running.handle().disconnect();
    link.expect_bytes(b"\xe0\x00");
    assert!(link.read_to_end().is_empty());
    link.close();
    assert!(told(offline).is_delivered());
    let reconnected = running.handle().reconnect();
    let link = greet(&mut broker, RESUMED);
    assert!(told(reconnected).is_delivered());
    terminate(running, link);
    let connections = recorded(&broker);
    assert_eq!(connections.len(), 5);
    for connection in connections {
        let connects = connection.iter().filter(|packet| packet[0] >> 4 == 1);
        assert_eq!(connects.count(), 1, "{connection:02x?}");
    }
}

#[test]
fn mqtt_3_1_2_11_without_a_will_connect_has_no_will_flag_and_no_will_fields() {
    // Flags and keep alive are followed by the client identifier only.
    assert_eq!(connect_with(|_| {}), CONNECT);
    assert_eq!(CONNECT[9] & 0b0011_1100, 0);
    let with_user = connect_with(|o| o.credentials = credentials("user", "word"));
    assert_eq!(
        with_user,
        b"\x10\x1c\x00\x04MQTT\x04\xc0\x00\x3c\x00\x04loop\x00\x04user\x00\x04word"
    );
}

#[test]
fn mqtt_3_1_2_13_without_a_will_its_qos_is_0() {
    for connect in various_without_will() {
        assert_eq!(connect[9] & 0b0000_0100, 0, "the will flag: {connect:02x?}");
        assert_eq!(connect[9] & 0b0001_1000, 0, "the will QoS: {connect:02x?}");
    }
}

#[test]
fn mqtt_3_1_2_15_without_a_will_its_retain_is_0() {
    for connect in various_without_will() {
        assert_eq!(connect[9] & 0b0000_0100, 0, "the will flag: {connect:02x?}");
        assert_eq!(
            connect[9] & 0b0010_0000,
            0,
            "the will retain: {connect:02x?}"
        );
    }
}

fn various_without_will() -> [Vec<u8>; 4] {
    [
        connect_with(|_| {}),
        connect_with(|o| o.clean_session = true),
        connect_with(|o| o.credentials = credentials("user", "")),
        connect_with(|o| {
            o.clean_session = true;
            o.credentials = credentials("user", "word");
        }),
    ]
}

#[test]
fn mqtt_3_1_2_18_without_a_user_name_there_is_no_flag_and_no_field() {
    let connect = connect_with(|_| {});
    assert_eq!(connect[9] & 0b1000_0000, 0);
    assert_eq!(connect, CONNECT);
}

#[test]
fn mqtt_3_1_2_19_a_user_name_stands_behind_its_flag() {
    let connect = connect_with(|o| o.credentials = credentials("u", ""));
    assert_eq!(connect[9], 0b1000_0000);
    assert_eq!(
        connect,
        b"\x10\x13\x00\x04MQTT\x04\x80\x00\x3c\x00\x04loop\x00\x01u"
    );
}

#[test]
fn mqtt_3_1_2_20_without_a_password_there_is_no_flag_and_no_field() {
    for change in [None, credentials("u", "")] {
        let connect = connect_with(|o| o.credentials = change.clone());
        assert_eq!(connect[9] & 0b0100_0000, 0, "{change:?}");
        let user: &[u8] = if change.is_some() { b"\x00\x01u" } else { b"" };
        assert_eq!(connect[12..], [b"\x00\x04loop", user].concat());
    }
}

#[test]
fn mqtt_3_1_2_21_a_password_stands_behind_its_flag() {
    let connect = connect_with(|o| o.credentials = credentials("u", "p w"));
    assert_eq!(connect[9], 0b1100_0000);
    assert_eq!(
        connect,
        b"\x10\x18\x00\x04MQTT\x04\xc0\x00\x3c\x00\x04loop\x00\x01u\x00\x03p w"
    );
}

#[test]
fn mqtt_3_1_2_22_a_password_without_a_user_name_is_refused() {
    let error = refused(|o| o.credentials = credentials("", "secret"));
    assert!(error.contains("[MQTT-3.1.2-22]"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    // The program refuses a flag like that before it connects.
    let mut broker = ScriptedBroker::bind();
    let program = || Program::new().args(["--endpoint", &broker.endpoint(), "--client-id", "loop"]);
    let done = program().args(["--password-file", "/nowhere/secret"]).run();
    done.expect_code(2);
    assert!(!done.stderr.contains("secret"), "{done}");
    // A variable may be there for another program: none of it goes out.
    let running = program()
        .args(["--retry-attempts", "1", "--retry-base", "0"])
        .env("MQTT_PASSWORD", "secret")
        .spawn();
    for _ in 0..2 {
        let mut link = broker.accept();
        link.expect_connect();
        let connect = link.last_raw();
        assert_eq!(connect[9] & 0b1100_0000, 0, "{connect:02x?}");
        assert_eq!(connect.len(), CONNECT.len(), "{connect:02x?}");
        link.close();
    }
    let done = running.finish();
    done.expect_code(3);
    assert!(done.stderr.contains("MQTT_PASSWORD is not used"), "{done}");
    assert!(!done.stderr.contains("secret"), "{done}");
}

#[test]
fn mqtt_3_1_3_3_the_client_identifier_is_the_first_field_of_the_payload() {
    // The variable header of ten bytes follows the fixed header of two.
    for (id, credentials) in [
        ("a", None),
        ("0123456789abcdefghijklmnopqrstuvwxyzABCD", None),
        ("a", credentials("user", "")),
        ("a", credentials("user", "word")),
    ] {
        let connect = connect_with(|o| {
            o.client_id = id.into();
            o.credentials = credentials;
        });
        let field = [&[0, u8::try_from(id.len()).unwrap()], id.as_bytes()].concat();
        assert_eq!(connect[12..12 + field.len()], field, "{connect:02x?}");
    }
    // The field is there also if the identifier is empty.
    let connect = connect_with(|o| {
        o.client_id.clear();
        o.clean_session = true;
        o.credentials = credentials("u", "");
    });
    assert_eq!(
        connect,
        b"\x10\x0f\x00\x04MQTT\x04\x82\x00\x3c\x00\x00\x00\x01u"
    );
}

#[test]
fn mqtt_3_1_3_7_an_empty_client_identifier_goes_with_clean_session_1_only() {
    let connect = connect_with(|o| {
        o.client_id.clear();
        o.clean_session = true;
    });
    assert_eq!(connect, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00");
    let error = refused(|o| o.client_id.clear());
    assert!(error.contains("[MQTT-3.1.3-7]"), "{error}");
}
