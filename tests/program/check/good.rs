//! The command check where nothing is wrong, or nothing yet: every step is well, and nothing of anybody else is changed.

use std::net::Ipv4Addr;
use std::sync::mpsc;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4;
use serde_json::Value;

use super::{and, check, expect_first, fingerprint, words};
use crate::support::{BlackHole, ClosedPort, HANG, Mosquitto, Program, ScriptedBroker, wait_until};

#[test]
fn on_a_good_set_up_every_step_is_well_and_nothing_is_left() {
    let broker = Mosquitto::start();
    let pairs = [broker.certs().client(), broker.certs().pkcs1_client()];
    for (pair, key) in pairs.into_iter().zip(["EC P-256", "RSA 2048"]) {
        let arguments = || {
            and(
                broker.arguments_as(pair),
                &["--client-id", "me", "--topic", "a/b"],
            )
        };
        let (report, done) = check(arguments());
        done.expect_code(0);
        assert_eq!(
            (&report["success"], &report["stopped_at"]),
            (&true.into(), &Value::Null),
            "{done}"
        );
        let steps = report["steps"].as_array().expect("steps");
        let names: Vec<&str> = steps
            .iter()
            .filter_map(|step| step["step"].as_str())
            .collect();
        let all = [
            "files",
            "name",
            "TCP",
            "TLS",
            "CONNECT",
            "SUBSCRIBE",
            "PUBLISH",
            "session",
            "DISCONNECT",
            "MQTT 5",
            "MQTT 3.1.1",
        ];
        assert_eq!(names, all, "{done}");
        assert!(steps.iter().all(|step| step["status"] == "ok"), "{done}");
        let detail = steps[0]["detail"].as_str().expect("a detail");
        for part in [key, "CN=", "key fits", &fingerprint(&pair.cert)] {
            assert!(detail.contains(part), "{part}: {detail}");
        }
        let told = report["remarks"][0].as_str().unwrap_or_default();
        assert!(
            told.contains("connected as \"me\" loses its connection"),
            "{done}"
        );
        eprintln!("{} ms", report["elapsed_ms"]);

        let text = Program::new().arg("check").args(arguments()).run();
        text.expect_code(0);
        assert_eq!(text.stderr, "");
        assert!(text.stdout.contains("\nok: 11 steps in "), "{text}");
        let mut connect = v4::Connect::new("me");
        connect.clean_session = false;
        let (mut client, answer) = broker.client_with(connect);
        assert!(!answer.session_present, "a session is left: {done}");
        client.send_packet(v4::Packet::Disconnect);
        client.expect_closed();
        // The one that this client has made.
        broker
            .client("me", true)
            .send_packet(v4::Packet::Disconnect);
    }
    let (report, done) = check(broker.arguments());
    done.expect_code(0);
    let skipped = |step: &Value| step["status"] == "skipped";
    let steps = report["steps"].as_array().expect("steps");
    let left: Vec<&Value> = steps.iter().filter(|step| skipped(step)).collect();
    assert_eq!(left.len(), 2, "{done}");
    assert!(
        left.iter()
            .all(|step| step["detail"] == "not tried: no --topic is given"),
        "{done}"
    );
}

/// Somebody else's: its subscription stays, and a message that waits for it is not acknowledged.
#[test]
fn a_session_that_was_there_keeps_what_it_has() {
    let broker = Mosquitto::start();
    let mut owner = broker.client("owner", false);
    let mut subscribe = v4::Subscribe::new("a/+", QoS::AtLeastOnce);
    subscribe.pkid = 1;
    owner.send_packet(v4::Packet::Subscribe(subscribe));
    owner.expect_suback();
    owner.send_packet(v4::Packet::Disconnect);
    owner.expect_closed();
    let mut other = broker.client("other", true);
    let mut message = v4::Publish::new("a/kept", QoS::AtLeastOnce, "kept");
    message.pkid = 1;
    other.send_packet(v4::Packet::Publish(message));
    other.expect_puback();

    let (report, done) = check(and(
        broker.arguments(),
        &["--client-id", "owner", "--topic", "b/c"],
    ));
    done.expect_code(0);
    let steps = report["steps"].as_array().expect("steps");
    let of = |name: &str| {
        steps
            .iter()
            .find(|step| step["step"] == name)
            .expect("a step")
    };
    assert_eq!(of("SUBSCRIBE")["status"], "skipped", "{done}");
    assert_eq!(of("PUBLISH")["status"], "ok", "{done}");
    assert_eq!(of("session")["status"], "ok", "{done}");

    let mut connect = v4::Connect::new("owner");
    connect.clean_session = false;
    let (mut owner, answer) = broker.client_with(connect);
    assert!(answer.session_present, "{done}");
    assert_eq!(&owner.expect_publish().payload[..], b"kept");
}

#[test]
fn with_wait_it_waits_for_the_broker() {
    let mut broker = Mosquitto::start();
    broker.kill();
    let mut check = Program::new()
        .arg("check")
        .args(broker.arguments())
        .args(["--wait", "60s"])
        .spawn();
    wait_until("it to wait", || {
        check
            .stdout()
            .contains("waiting up to 1m for the broker: nothing listens")
    });
    assert!(check.is_running());
    broker.start_again();
    let done = check.finish();
    done.expect_code(0);
    assert!(done.stdout.contains(", attempt "), "{done}");
    let closed = ClosedPort::hold();
    expect_first(
        "a broker that does not come",
        words(&["--endpoint", &closed.endpoint(), "--wait", "300ms"]),
        ("TCP", 3),
        &["nothing listens on port"],
    );
}

#[test]
fn an_interrupt_ends_it() {
    let hole = BlackHole::open(Ipv4Addr::LOCALHOST);
    let check = Program::new()
        .args([
            "check",
            "--endpoint",
            &format!("mqtt://{}", hole.address()),
            "--wait",
            "60s",
        ])
        .spawn();
    wait_until("it to begin", || check.stdout().contains(" --  files"));
    check.signal("INT");
    check.finish().expect_code(130);
}

#[test]
fn the_result_of_an_interrupted_check_has_the_status_of_the_program() {
    let hole = BlackHole::open(Ipv4Addr::LOCALHOST);
    let endpoint = format!("mqtt://{}", hole.address());
    let mut check = Program::new()
        .args(["check", "--endpoint", &endpoint, "--wait", "60s"])
        .args(["--output", "json", "-vv"])
        .spawn();
    check.wait_for_line("connecting to ");
    check.signal("INT");
    let done = check.finish();
    done.expect_code(130);
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["exit_status"], 130, "{report}");
    expect_interrupted(&report);
}

/// The last step has nothing to mend.
#[track_caller]
fn expect_interrupted(report: &Value) {
    let last = report["steps"].as_array().and_then(|steps| steps.last());
    let last = last.unwrap_or_else(|| panic!("no step: {report}"));
    assert_eq!(
        (&last["detail"], &last["causes"]),
        (&"interrupted".into(), &serde_json::json!([])),
        "{report}"
    );
}

#[test]
fn an_interrupt_while_a_command_waits_for_its_answer_is_no_fault_of_the_broker() {
    let broker = ScriptedBroker::bind();
    let endpoint = broker.endpoint();
    let (asked, was_asked) = mpsc::channel();
    let script = broker.in_thread(move |mut broker| {
        let (mut link, _) = broker.accept_client(false);
        link.expect_subscribe();
        asked.send(()).unwrap();
        link.read_until_closed();
        // The session is cleared.
        if let Some(mut link) = broker.accept_within(HANG) {
            link.expect_connect();
        }
    });
    let check = Program::new()
        .args(["check", "--endpoint", &endpoint, "--topic", "a"])
        .args(["--output", "json"])
        .spawn();
    was_asked.recv_timeout(HANG).unwrap();
    check.signal("INT");
    let done = check.finish();
    done.expect_code(130);
    expect_interrupted(&serde_json::from_str(&done.stdout).unwrap());
    script.join().unwrap();
}
