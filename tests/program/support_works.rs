//! Tests of the support code of the other tests: if these fail, no other result can be believed.

use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::support::schema::Schema;
use crate::support::translated::Translator;
use crate::support::wire::hex;
use crate::support::{
    Connection, Event, Mosquitto, Program, ScriptedBroker, wait_until, wait_until_refused,
};
use rumqttc::mqttbytes::{QoS, v4};

fn publish(topic: &str, packet_identifier: u16) -> v4::Packet {
    let mut publish = v4::Publish::new(topic, QoS::AtLeastOnce, "payload");
    publish.pkid = packet_identifier;
    v4::Packet::Publish(publish)
}

fn subscribe(filter: &str, packet_identifier: u16) -> v4::Packet {
    let mut subscribe = v4::Subscribe::new(filter, QoS::AtLeastOnce);
    subscribe.pkid = packet_identifier;
    v4::Packet::Subscribe(subscribe)
}

fn connect(id: &str, clean_session: bool) -> v4::Connect {
    let mut connect = v4::Connect::new(id);
    connect.clean_session = clean_session;
    connect
}

#[test]
fn mosquitto_keeps_a_session_over_a_kill_unless_its_database_is_removed() {
    let mut broker = Mosquitto::start();
    let port = broker.port();
    let (mut client, answer) = broker.client_with(connect("keeper", false));
    assert!(!answer.session_present);
    client.send_packet(subscribe("kept/#", 1));
    assert_eq!(client.expect_suback().pkid, 1);
    // Mosquitto's own clock decides when it saves, at most a second after the change.
    wait_until("the database", || broker.has_database());

    broker.kill();
    wait_until_refused(port);
    broker.start_again();
    assert_eq!(broker.port(), port);
    let (_client, answer) = broker.client_with(connect("keeper", false));
    assert!(answer.session_present, "{}", broker.log());

    broker.kill();
    broker.remove_database();
    broker.start_again();
    let (_client, answer) = broker.client_with(connect("keeper", false));
    assert!(!answer.session_present);
}

#[test]
fn a_paused_mosquitto_is_silent_until_it_is_resumed() {
    let broker = Mosquitto::start();
    let mut client = broker.client("waiter", true);
    broker.pause();
    client.send_packet(v4::Packet::PingReq);
    client.expect_silence(Duration::from_millis(200));
    broker.resume();
    client.expect_pingresp();
}

#[test]
fn mosquitto_takes_each_kind_of_key_and_refuses_strangers() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let reaches = |identity: Option<native_tls::Identity>| {
        let ca = std::fs::read(certs.ca()).expect("the CA");
        let mut builder = native_tls::TlsConnector::builder();
        builder.add_root_certificate(native_tls::Certificate::from_pem(&ca).expect("the CA"));
        identity.map(|identity| builder.identity(identity));
        let tcp = TcpStream::connect(("127.0.0.1", broker.port())).expect("a connection");
        let connector = builder.build().expect("a connector");
        let Ok(tls) = connector.connect("127.0.0.1", tcp) else {
            return false;
        };
        // With TLS 1.3 a refusal comes after the client's side of the handshake is over.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let mut client = Connection::over(tls);
            client.send_packet(v4::Packet::Connect(connect("caller", true)));
            client.expect_connack().code
        }));
        matches!(answer, Ok(v4::ConnectReturnCode::Success))
    };
    let identity = |pair: &crate::support::certs::Pair| {
        let read = |file| std::fs::read(file).expect("a PEM file");
        native_tls::Identity::from_pkcs8(&read(&pair.cert), &read(&pair.key)).ok()
    };
    let archive = std::fs::read(certs.pkcs12_client("secret")).expect("the archive");
    let archive = native_tls::Identity::from_pkcs12(&archive, "secret");
    assert!(reaches(identity(certs.client())));
    assert!(reaches(identity(certs.rsa_pkcs8_client())));
    assert!(reaches(Some(archive.expect("a PKCS#12 identity"))));
    assert!(!reaches(identity(certs.other_client())));
    assert!(!reaches(None));
    // TLS cannot use these keys before the library has converted them.
    assert!(identity(certs.pkcs1_client()).is_none());
    assert!(identity(&certs.sec1_client()).is_none());
}

#[test]
fn mosquitto_refuses_a_wrong_password() {
    let broker = Mosquitto::start_with_user("alice", "right");
    let answer = |password: &str| {
        let mut connect = connect("caller", true);
        connect.set_login("alice", password);
        broker.client_with(connect).1.code
    };
    assert_eq!(answer("right"), v4::ConnectReturnCode::Success);
    assert_eq!(answer("wrong"), v4::ConnectReturnCode::NotAuthorized);
}

#[test]
fn mosquitto_passes_messages_between_clients() {
    let broker = Mosquitto::start_fast();
    let mut reader = broker.client("reader", true);
    reader.send_packet(subscribe("a/+", 1));
    reader.expect_suback();
    let mut writer = broker.client("writer", true);
    writer.send_packet(publish("a/b", 7));
    assert_eq!(writer.expect_puback().pkid, 7);
    assert_eq!(reader.expect_publish().topic, "a/b");
    assert!(broker.log().contains("writer"));
}

#[test]
fn a_mosquitto_does_not_outlive_its_test() {
    let port = catch_unwind(|| {
        let broker = Mosquitto::start();
        std::panic::panic_any(broker.port());
    })
    .expect_err("a panic");
    let port = *port.downcast::<u16>().expect("the port");
    wait_until_refused(port);
}

#[test]
fn a_scripted_broker_reads_sends_and_records() {
    let mut broker = ScriptedBroker::bind();
    let port = broker.port();
    assert_eq!(broker.endpoint(), format!("mqtt://127.0.0.1:{port}"));
    let client = std::thread::spawn(move || {
        let mut client = Connection::over(TcpStream::connect(("127.0.0.1", port)).expect("tcp"));
        client.send_packet(v4::Packet::Connect(connect("me", true)));
        assert!(client.expect_connack().session_present);
        client.send_packet(subscribe("#", 1));
        client.expect_suback();
        // Two packets and the beginning of a third in one piece, then the rest of the third.
        client.send(&[0xc0, 0, 0xe0, 0, 0x40]);
        client.send(&[2, 0, 9]);
        client.expect_closed();
    });
    let (mut connection, connect) = broker.accept_client(true);
    assert_eq!(connect.client_id, "me");
    assert_eq!(connection.last_raw()[0], 0x10);
    let subscribe = connection.expect_subscribe();
    connection.grant(&subscribe);
    connection.expect_pingreq();
    connection.expect_disconnect();
    assert_eq!(connection.last_raw(), [0xe0, 0]);
    assert_eq!(connection.expect_puback().pkid, 9);
    connection.expect_silence(Duration::from_millis(20));
    connection.close();
    client.join().expect("the client");
    let received = broker.shutdown();
    assert_eq!(received.len(), 1);
    assert!(received[0].ends_with(&[0xc0, 0, 0xe0, 0, 0x40, 2, 0, 9]));
    wait_until_refused(port);
}

#[test]
fn a_scripted_broker_says_what_it_expected_and_what_came() {
    let script = ScriptedBroker::bind();
    let port = script.port();
    let script = script.in_thread(|mut broker| broker.accept().expect_publish());
    let mut client = Connection::over(TcpStream::connect(("127.0.0.1", port)).expect("tcp"));
    client.send_packet(v4::Packet::PingReq);
    let panic = script.join().expect_err("a panic");
    let text = panic.downcast::<String>().expect("a message");
    assert_eq!(*text, "expected Publish, came: PingReq = [c0, 00]");
    assert_eq!(client.read_event(crate::support::HANG), Event::Closed);
}

#[test]
fn a_program_runs_in_a_clean_environment() {
    let done = Program::other("sh")
        .args(["-c", "echo out; echo err >&2; env; exit 3"])
        .env("GIVEN", "yes")
        .run();
    done.expect_code(3);
    assert!(done.stdout.starts_with("out\n"));
    assert_eq!(done.stderr, "err\n");
    assert!(done.stdout.contains("GIVEN=yes"));
    assert!(!done.stdout.contains("CARGO"), "{done}");
    Program::new().arg("--help").run().expect_code(0);
}

#[test]
fn a_running_program_is_followed_line_by_line_and_does_not_outlive_its_test() {
    let wait = "trap 'echo told >&2; exit 5' TERM; echo tick 1 >&2; echo tick 2 >&2; \
                while :; do sleep 0.02; done";
    let mut running = Program::other("sh").args(["-c", wait]).spawn();
    assert_eq!(running.wait_for_line("tick"), "tick 1");
    assert_eq!(running.wait_for_line("tick"), "tick 2");
    assert!(running.is_running());
    running.signal("TERM");
    running.wait_for_line("told");
    running.finish().expect_code(5);

    let hanging = Program::other("tail").args(["-f", "/dev/null"]);
    let hanging = hanging.limit(Duration::from_millis(100)).spawn();
    let id = hanging.id();
    assert!(catch_unwind(AssertUnwindSafe(|| hanging.finish())).is_err());
    let alive = Program::other("kill").args(["-0", &id.to_string()]).run();
    assert!(!alive.status.success());
}

#[test]
fn the_schema_of_the_output_catches_each_offence() {
    use serde_json::{Value, json};
    let publisher = json!({"messages": 1, "published": 1, "acknowledged": 1, "median_us": 1.5,
        "longest_us": null, "queued_us": 2});
    let run = json!({"iteration": 1, "success": true, "published": 2, "acknowledged": 2,
        "received": 2, "lost": 0, "unacknowledged": 0, "dropped": 0, "duplicated": 0, "unexpected": 0, "reordered": 0,
        "connects": 1, "session": "new", "reconnects": 0, "resumed": 0, "resubscribed": 0, "rate_limited_ms": 0,
        "sync_publisher": publisher, "async_publisher": publisher, "in_flight_most": 2,
        "queued_most": 1, "packets_sent": 9, "packets_received": 9, "bytes_sent": 99,
        "bytes_received": 99, "writes": 5, "elapsed_ms": 12, "error": null});
    let good = json!({"schema": 1, "iterations": 1, "succeeded": 1, "success": true,
        "runs": [run]});
    let schema = Schema::of_the_output();
    assert_eq!(schema.offences(&good), [""; 0]);
    type Spoils = fn(&mut Value);
    let spoils: [(&str, Spoils); 11] = [
        ("schema", |it| it["schema"] = json!(2)),
        ("a count as text", |it| it["iterations"] = json!("1")),
        ("a fraction", |it| it["succeeded"] = json!(0.5)),
        ("a negative count", |it| it["runs"][0]["lost"] = json!(-1)),
        ("the first iteration is 1", |it| {
            it["runs"][0]["iteration"] = json!(0)
        }),
        ("another session", |it| {
            it["runs"][0]["session"] = json!("old")
        }),
        ("no list", |it| it["runs"] = json!({})),
        ("null", |it| it["runs"][0]["error"] = json!(false)),
        ("a field too many", |it| it["runs"][0]["more"] = json!(1)),
        ("a field too few", |it| {
            it["runs"][0].as_object_mut().unwrap().remove("writes");
        }),
        ("inside a publisher", |it| {
            it["runs"][0]["sync_publisher"]["median_us"] = json!("fast");
        }),
    ];
    for (what, spoil) in spoils {
        let mut spoiled = good.clone();
        spoil(&mut spoiled);
        assert!(!schema.offences(&spoiled).is_empty(), "{what}");
    }
    for other in [json!(null), json!([]), json!({}), json!({"error": "text"})] {
        assert!(!schema.offences(&other).is_empty(), "{other}");
    }
    let both = Schema::new(json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}));
    assert!(both.offences(&json!(0.5)).is_empty());
    assert!(!both.offences(&json!(1)).is_empty(), "it fits two forms");
    let unknown = Schema::new(json!({"maxLength": 1}));
    assert!(catch_unwind(AssertUnwindSafe(|| unknown.offences(&json!("a")))).is_err());
}

/// A script in packets of MQTT 3.1.1 says the same on a connection of MQTT 5, and understands the same.
#[test]
fn packets_are_translated_from_one_version_to_the_other() {
    let mut translator = Translator::default();
    let same: [&[u8]; 3] = [b"\x40\x02\x00\x07", b"\xc0\x00", b"\xe0\x00"];
    let pairs: [(&[u8], &[u8]); 11] = [
        (
            b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c",
            b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c",
        ),
        // A session that is kept, and a will.
        (
            b"\x10\x13\x00\x04MQTT\x04\x04\x00\x3c\x00\x01c\x00\x01w\x00\x01x",
            b"\x10\x1a\x00\x04MQTT\x05\x04\x00\x3c\x05\x11\xff\xff\xff\xff\x00\x01c\x00\x00\x01w\x00\x01x",
        ),
        (b"\x20\x02\x01\x00", b"\x20\x03\x01\x00\x00"),
        (b"\x20\x02\x00\x05", b"\x20\x03\x00\x87\x00"),
        (b"\x30\x04\x00\x01tx", b"\x30\x05\x00\x01t\x00x"),
        (
            b"\x3a\x06\x00\x01t\x00\x07x",
            b"\x3a\x07\x00\x01t\x00\x07\x00x",
        ),
        (
            b"\x82\x06\x00\x01\x00\x01f\x01",
            b"\x82\x07\x00\x01\x00\x00\x01f\x01",
        ),
        (b"\x90\x04\x00\x01\x01\x80", b"\x90\x05\x00\x01\x00\x01\x80"),
        (
            b"\xa2\x08\x00\x01\x00\x01f\x00\x01g",
            b"\xa2\x09\x00\x01\x00\x00\x01f\x00\x01g",
        ),
        // A code for each filter of the UNSUBSCRIBE above.
        (b"\xb0\x02\x00\x01", b"\xb0\x05\x00\x01\x00\x00\x00"),
        // One that nobody has asked for.
        (b"\xb0\x02\x00\x09", b"\xb0\x04\x00\x09\x00\x00"),
    ];
    let pairs = pairs.into_iter().chain(same.map(|packet| (packet, packet)));
    for (of_3, of_5) in pairs {
        assert_eq!(hex(&translator.outgoing(of_3)), hex(of_5));
        assert_eq!(hex(&translator.incoming(of_5)), hex(of_3));
    }
    // MQTT 3.1.1 has no word for the rest of these.
    for (of_5, of_3) in [
        (
            &b"\x30\x0a\x00\x01t\x05\x02\x00\x00\x00\x3cx"[..],
            &b"\x30\x04\x00\x01tx"[..],
        ),
        (
            b"\x82\x09\x00\x01\x02\x0b\x01\x00\x01f\x2d",
            b"\x82\x06\x00\x01\x00\x01f\x01",
        ),
        (b"\x40\x04\x00\x07\x10\x00", b"\x40\x02\x00\x07"),
        (b"\x70\x04\x00\x07\x92\x00", b"\x70\x02\x00\x07"),
        (b"\xe0\x02\x00\x00", b"\xe0\x00"),
    ] {
        assert_eq!(hex(&translator.incoming(of_5)), hex(of_3));
    }
    for refusal in [&b"\x40\x03\x00\x07\x87"[..], b"\xe0\x01\x82"] {
        let translated = catch_unwind(|| Translator::default().incoming(refusal));
        assert!(translated.is_err(), "{}", hex(refusal));
    }
}
