//! The program with MQTT 5: against a broker that behaves like AWS IoT Core, each refusal is one line with the code, its
//! name, the broker's words and the remedy; against Mosquitto, properties and options reach the other side.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

mod broker;
mod closing;
mod limits;

use serde_json::Value;

use self::broker::Aws5;
use crate::support::{Finished, Mosquitto, Program, ScriptedBroker};

/// A command of the program with MQTT 5 against this endpoint.
fn program(command: &str, endpoint: &str) -> Program {
    Program::new().args([command, "--endpoint", endpoint, "--mqtt", "5"])
}

/// The one object on standard output.
fn json(done: &Finished) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"))
}

/// The only line with `error: ` on standard error.
fn error_line(done: &Finished) -> String {
    let lines: Vec<&str> = done
        .stderr
        .lines()
        .filter(|it| it.contains("error: "))
        .collect();
    assert_eq!(lines.len(), 1, "{done}");
    lines[0].to_owned()
}

const NOT_ALLOWED: &str = "refused by the broker, 0x87 (not authorized): \"no policy allows it\"";

#[test]
fn a_topic_that_is_not_allowed_is_told_by_each_command() {
    let broker = Aws5::start(1_000);
    let at = broker.endpoint();
    let done = program("pub", &at)
        .args(["--topic", "forbidden/a", "--message", "x"])
        .args(["--output", "json"])
        .run();
    done.expect_code(4);
    let line = error_line(&done);
    assert!(
        line.contains(NOT_ALLOWED)
            && line.contains("; have the broker's rules allow this client to publish"),
        "{done}"
    );
    let report = json(&done);
    assert_eq!(
        (&report["reason_code"], &report["published"]),
        (&0x87.into(), &1.into())
    );

    let done = program("sub", &at).arg("forbidden/#").run();
    done.expect_code(4);
    let line = error_line(&done);
    assert!(
        line.contains("refuses the subscription to \"forbidden/#\" with 0x87 (not authorized); have the broker's rules"),
        "{done}"
    );

    let done = program("bench", &at)
        .args([
            "--topic-prefix",
            "forbidden/a",
            "--messages",
            "10",
            "--output",
            "json",
        ])
        .run();
    done.expect_code(1);
    let report = json(&done);
    assert_eq!(
        (&report["reason_code"], &report["acknowledged"]),
        (&0x87.into(), &0.into())
    );
    let told = report["error"].as_str().unwrap_or_default();
    assert!(
        told.contains(NOT_ALLOWED) && told.contains("iot:Publish"),
        "{done}"
    );

    for (prefix, told) in [
        (
            "forbidden/a",
            "SUBSCRIBE: refused by the broker (1 of 1 filters), 0x87 (not authorized); have the broker's rules",
        ),
        (
            "readonly/a",
            "synchronous message 1 of 4: refused by the broker, 0x87 (not authorized): \"no policy",
        ),
    ] {
        let done = program("demo", &at)
            .args(["--topic-prefix", prefix, "--iterations", "1"])
            .args(["--ack-timeout", "1s", "--output", "json"])
            .run();
        done.expect_code(1);
        let run = &json(&done)["runs"][0];
        let error = run["error"].as_str().unwrap_or_default();
        assert!(error.starts_with(told), "{done}");
        assert_eq!(run["reason_code"], 0x87, "{done}");
    }

    for (topic, stopped_at, right) in [
        ("forbidden/a", "SUBSCRIBE", "subscribe to"),
        ("readonly/a", "PUBLISH", "publish to"),
    ] {
        let done = program("check", &at)
            .args(["--topic", topic, "--output", "json"])
            .run();
        done.expect_code(4);
        let report = json(&done);
        assert_eq!(report["stopped_at"], stopped_at, "{done}");
        let steps = report["steps"].as_array().cloned().unwrap_or_default();
        let step = steps.last().cloned().unwrap_or_default();
        assert_eq!(step["reason_code"], 0x87, "{done}");
        let cause = step["causes"][0]["cause"].as_str().unwrap_or_default();
        assert!(cause.contains(right), "{done}");
    }
}

#[test]
fn a_quota_is_told_with_the_count_of_what_the_broker_took() {
    let broker = Aws5::start(3);
    let done = program("pub", &broker.endpoint())
        .args([
            "--topic",
            "a",
            "--lines",
            "--max-inflight",
            "1",
            "--output",
            "json",
        ])
        .input(b"1\n2\n3\n4\n5\n6\n")
        .run();
    done.expect_code(4);
    let report = json(&done);
    assert_eq!(
        (&report["reason_code"], &report["acknowledged"]),
        (&0x97.into(), &3.into())
    );
    let line = error_line(&done);
    assert!(
        line.contains(
            "0x97 (quota exceeded): \"too many publishes\"; stay below the broker's quota"
        ),
        "{done}"
    );
}

#[test]
fn a_client_that_is_taken_over_ends_with_one_line() {
    let broker = Aws5::start(10);
    let sub = || program("sub", &broker.endpoint()).args(["a", "--client-id", "me"]);
    let mut older = sub().args(["--output", "jsonl"]).spawn();
    older.wait_for_line("connected to ");
    let mut newer = sub().spawn();
    newer.wait_for_line("connected to ");
    let done = older.finish();
    done.expect_code(3);
    let line = error_line(&done);
    for part in [
        "0x8E (session taken over)",
        "; give each program a client identifier",
    ] {
        assert!(line.contains(part), "{part}: {done}");
    }
    let events = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_default());
    let mut events = events.filter(|event: &Value| event["event"] == "lost");
    let lost = events.next().unwrap_or_default();
    assert_eq!(
        (&lost["reason_code"], &lost["retry_in_ms"]),
        (&0x8e.into(), &Value::Null),
        "{done}"
    );
    assert!(newer.is_running());
    newer.signal("INT");
    newer.finish().expect_code(130);
}

#[test]
fn no_more_topic_aliases_are_used_than_the_broker_takes() {
    let broker = Aws5::start(10_000);
    let done = program("bench", &broker.endpoint())
        .args([
            "--threads",
            "12",
            "--messages",
            "240",
            "--topic-aliases",
            "100",
        ])
        .run();
    done.expect_code(0);
    assert!(broker.aliased() > 0, "{done}");
}

#[test]
fn a_session_that_the_broker_keeps_for_a_shorter_time_is_told_in_one_line() {
    let broker = Aws5::start(10);
    let done = program("pub", &broker.endpoint())
        .args(["--topic", "a", "--message", "x", "--client-id", "me"])
        .args(["--session-expiry", "720h"])
        .run();
    done.expect_code(0);
    let told = "the broker keeps the session for 604800 s, and 2592000 s were asked for";
    assert_eq!(done.stderr.matches(told).count(), 1, "{done}");
}

#[test]
fn a_qos_that_the_broker_does_not_take_is_not_sent() {
    let broker = Aws5::start(10);
    let done = program("pub", &broker.endpoint())
        .args(["--topic", "a", "--message", "x", "--qos", "2"])
        .run();
    done.expect_code(4);
    let line = error_line(&done);
    assert!(
        line.contains("never sent: a QoS above the broker's maximum; use a lower --qos"),
        "{done}"
    );
}

#[test]
fn a_check_says_which_versions_there_are_and_what_the_broker_allows() {
    let broker = Aws5::start(10);
    let check = |version: &str| {
        let done = Program::new()
            .args(["check", "--endpoint", &broker.endpoint(), "--mqtt", version])
            .args(["--output", "json"])
            .run();
        let report = json(&done);
        (report, done)
    };
    let (report, done) = check("3.1.1");
    done.expect_code(4);
    let causes = &report["steps"]
        .as_array()
        .and_then(|it| it.last())
        .cloned()
        .unwrap_or_default()["causes"];
    assert!(
        causes[0]["remedy"]
            .as_str()
            .is_some_and(|it| it.contains("MQTT 5 (--mqtt)")),
        "{done}"
    );
    // It keeps no session, which is the last step that a check tries.
    let (report, done) = check("5");
    done.expect_code(1);
    assert_eq!(report["stopped_at"], "session", "{done}");

    let mosquitto = Mosquitto::start();
    for (version, tries) in [("3.1.1", "MQTT 5"), ("5", "MQTT 3.1.1")] {
        let done = Program::new()
            .args(["check", "--mqtt", version, "--output", "json"])
            .args(mosquitto.arguments())
            .run();
        done.expect_code(0);
        let report = json(&done);
        let steps = report["steps"].as_array().cloned().unwrap_or_default();
        let of = |name: &str| {
            steps
                .iter()
                .find(|step| step["step"] == name)
                .cloned()
                .unwrap_or_default()
        };
        assert!(of(tries)["ms"].is_number(), "{done}");
        let limits = &of("MQTT 5")["limits"];
        assert_eq!(
            (&limits["receive_maximum"], &limits["topic_alias_maximum"]),
            (&100.into(), &10.into()),
            "{done}"
        );
        assert_eq!(limits["aws_iot_differs"][0], "QoS up to 1", "{done}");
        assert_eq!(of("MQTT 3.1.1")["status"], "ok", "{done}");
    }
}

#[test]
fn a_limit_that_mosquitto_sets_is_shown_by_a_check() {
    let mut mosquitto = Mosquitto::start();
    mosquitto.restart_with("max_keepalive 30");
    let done = Program::new()
        .args(["check", "--keep-alive", "60s"])
        .args(mosquitto.arguments())
        .run();
    done.expect_code(0);
    assert!(done.stdout.contains("keep alive 30 s"), "{done}");
}

/// The check goes back to the version that the broker speaks to end its own session.
#[test]
fn a_version_that_the_broker_does_not_speak_is_no_failure() {
    let broker = ScriptedBroker::bind();
    let endpoint = broker.endpoint();
    let script = broker.in_thread(|mut broker| {
        for session_present in [false, true] {
            let (mut link, _) = broker.accept_client(session_present);
            link.read_until_closed();
            link.close();
        }
        let mut link = broker.accept();
        let connect = link.read_bytes();
        link.send(b"\x20\x02\x00\x01");
        link.close();
        let (mut link, last) = broker.accept_client(false);
        link.expect_pingreq();
        link.send(b"\xd0\x00");
        link.read_until_closed();
        (connect[8], last.clean_session)
    });
    let done = Program::new()
        .args(["check", "--endpoint", &endpoint])
        .run();
    done.expect_code(0);
    let told = " --  MQTT 5     not spoken: the broker answered as one of MQTT 3.1.1";
    assert!(done.stdout.contains(told), "{done}");
    assert!(
        done.stdout
            .contains(" ok  MQTT 3.1.1 spoken by the steps above"),
        "{done}"
    );
    assert_eq!(done.stderr, "");
    let tried = script.join().expect("the broker's script");
    assert_eq!(
        tried,
        (5, true),
        "the version that was tried, and how the session ended"
    );
}

/// The messages are retained, so that nothing has to wait for the subscription.
#[test]
fn properties_and_options_reach_the_other_side_with_mosquitto() {
    let broker = Mosquitto::start();
    let run = |arguments: &[&str]| {
        let done = Program::new()
            .args(arguments)
            .args(["--mqtt", "5"])
            .args(broker.arguments())
            .run();
        done.expect_code(0);
        done
    };
    let publish = ["pub", "--message", "{}", "--retain", "--topic"];
    run(&[&publish[..], &["a/plain"]].concat());
    let more = [
        "a/more",
        "--content-type",
        "application/json",
        "--message-expiry",
        "1h",
        "--response-topic",
        "answers/me",
        "--user-property",
        "site=7",
        "--user-property",
        "site=a=b",
    ];
    run(&[&publish[..], &more].concat());
    let done = run(&["sub", "a/+", "--count", "2", "--format", "jsonl"]);
    let lines: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_default())
        .collect();
    let of = |topic: &str| {
        let found = lines.iter().find(|line| line["topic"] == topic);
        found.cloned().unwrap_or_else(|| panic!("{topic}: {done}"))
    };
    assert_eq!(of("a/plain").get("properties"), None, "{done}");
    let came = &of("a/more")["properties"];
    assert_eq!(came["content_type"], "application/json", "{done}");
    assert_eq!(came["response_topic"], "answers/me", "{done}");
    let left = came["expiry_seconds"].as_u64().unwrap_or_default();
    assert!((3_000..=3_600).contains(&left), "{done}");
    let pairs = serde_json::json!([["site", "7"], ["site", "a=b"]]);
    assert_eq!(came["user_properties"], pairs, "{done}");
    // No retained message is wanted, and nothing else comes.
    let done = run(&[
        "sub",
        "a/+",
        "--retain-handling",
        "never",
        "--within",
        "300ms",
    ]);
    assert_eq!(done.stdout, "");
}

#[test]
fn what_belongs_to_mqtt_5_is_refused_without_it_and_left_out_of_the_environment() {
    let done = Program::new()
        .args([
            "pub",
            "--endpoint",
            "broker.invalid",
            "--topic",
            "a",
            "--message",
            "x",
        ])
        .args(["--content-type", "text/plain"])
        .run();
    done.expect_code(2);
    assert!(
        error_line(&done)
            .contains("it belongs to MQTT 5, and MQTT 3.1.1 is to be spoken; add --mqtt 5"),
        "{done}"
    );
    let broker = Mosquitto::start();
    let done = Program::new()
        .args(["pub", "--topic", "a", "--message", "x"])
        .args(broker.arguments())
        .env("MQTT_CONTENT_TYPE", "text/plain")
        .run();
    done.expect_code(0);
    assert!(
        done.stderr
            .contains("MQTT_CONTENT_TYPE is not used: it belongs to MQTT 5"),
        "{done}"
    );
}

#[test]
fn the_limits_of_aws_iot_are_checked_before_connecting() {
    let aws = "abc-ats.iot.eu-central-1.amazonaws.com";
    for (more, told) in [
        (
            ["--message-expiry", "169h"],
            "a message expiry of 608400s, and AWS IoT allows 1s to 604800s",
        ),
        (
            ["--session-expiry", "169h"],
            "a session expiry of 608400s, and AWS IoT allows at most 604800s",
        ),
        (
            ["--topic-aliases", "9"],
            "9 topic aliases, and AWS IoT allows at most 8",
        ),
        (
            ["--will-delay", "5s"],
            "a will delay of 5s, and AWS IoT allows none",
        ),
        (
            ["--qos", "2"],
            "quality of service 2, and AWS IoT allows at most 1",
        ),
    ] {
        let done = program("pub", aws)
            .args([
                "--topic",
                "a",
                "--message",
                "x",
                "--client-id",
                "me",
                "--will-topic",
                "w",
            ])
            .args(more)
            .run();
        done.expect_code(2);
        assert!(error_line(&done).contains(told), "{told}: {done}");
    }
}
