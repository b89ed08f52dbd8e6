//! A broker that ends connections and says why: each command passes on its words, its code and the remedy.

use mqtt_connection_sharing::Protocol;
use serde_json::Value;

use super::broker::Aws5;
use super::{error_line, json, program};
use crate::support::{Finished, ScriptedBroker};

/// The last step of a check: the one at which it stopped.
#[track_caller]
fn stopped(done: &Finished, status: i32) -> Value {
    done.expect_code(status);
    let steps = json(done)["steps"].as_array().cloned().unwrap_or_default();
    let last = steps.last().cloned().unwrap_or_default();
    assert_eq!(last["status"], "failed", "{done}");
    last
}

#[test]
fn a_check_names_the_cause_that_the_broker_names() {
    let broker = Aws5::start(10);
    for (topic, step, code, first, causes) in [
        (
            "ends/97/a",
            "PUBLISH",
            0x97,
            "stay below the broker's quota",
            1,
        ),
        (
            "ends/8e/a",
            "PUBLISH",
            0x8e,
            "give each program a client identifier of its own",
            1,
        ),
        (
            "ends/87/a",
            "PUBLISH",
            0x87,
            "allow it (Mosquitto: a line topic readwrite ends/87/a",
            2,
        ),
        (
            "ended/87/a",
            "SUBSCRIBE",
            0x87,
            "allow it (Mosquitto: a line topic readwrite ended/87/a",
            2,
        ),
        ("ended/8b/a", "SUBSCRIBE", 0x8b, "try again later", 1),
        // It says nothing by this code.
        (
            "ends/80/a",
            "PUBLISH",
            0x80,
            "allow it (Mosquitto: a line topic readwrite ends/80/a",
            3,
        ),
    ] {
        let done = program("check", &broker.endpoint())
            .args(["--topic", topic, "--output", "json"])
            .run();
        let last = stopped(&done, 3);
        assert_eq!(
            (&last["step"], &last["reason_code"]),
            (&step.into(), &code.into()),
            "{done}"
        );
        let remedy = last["causes"][0]["remedy"].as_str().unwrap_or_default();
        assert!(remedy.starts_with(first), "{remedy}: {done}");
        let named = last["causes"].as_array().map(Vec::len);
        assert_eq!(named, Some(causes), "{done}");
    }
}

#[test]
fn a_check_that_is_cut_off_before_its_first_command_names_the_broker_s_reason() {
    let broker = Aws5::start(10);
    let done = program("check", &broker.endpoint())
        .args([
            "--client-id",
            "ended-8b",
            "--topic",
            "a",
            "--output",
            "json",
        ])
        .run();
    let last = stopped(&done, 3);
    assert_eq!(last["reason_code"], 0x8b, "{done}");
    let detail = last["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("0x8B (server shutting down): \"not now\""),
        "{done}"
    );
}

/// A command is tried again on connections that follow each other at once.
const QUICK: [&str; 6] = [
    "--retry-base=1ms",
    "--retry-max=1ms",
    "--connect-interval=0",
    "-q",
    "--output",
    "json",
];

const QUOTA: &str =
    "the broker closed the connection with DISCONNECT 0x97 (quota exceeded): \"no more of these\"";

#[test]
fn a_command_that_is_given_up_ends_with_the_broker_s_reason() {
    let broker = Aws5::start(10);
    let done = program("pub", &broker.endpoint())
        .args(["--topic", "ends/97/a", "--message", "x"])
        .args(QUICK)
        .run();
    done.expect_code(4);
    let line = error_line(&done);
    for part in [
        "also where it was sent alone; the connection was lost after ",
        QUOTA,
        "; stay below the broker's quota",
    ] {
        assert!(line.contains(part), "{part}: {done}");
    }
    assert!(!line.contains("compare"), "{done}");
    let report = json(&done);
    assert_eq!(
        (&report["reason_code"], &report["exit_status"]),
        (&0x97.into(), &4.into()),
        "{done}"
    );

    let done = program("sub", &broker.endpoint())
        .arg("ended/97/a")
        .args(&QUICK[..4])
        .args(["--output", "jsonl"])
        .run();
    done.expect_code(4);
    let line = error_line(&done);
    assert!(line.contains(QUOTA) && !line.contains("compare"), "{done}");
    let end: Value = done
        .stdout
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_default();
    assert_eq!(end["result"]["reason_code"], 0x97, "{done}");
}

#[test]
fn a_command_that_is_given_up_keeps_its_remedy_where_the_broker_s_code_names_no_reason() {
    let broker = Aws5::start(10);
    for (args, status, remedy) in [
        (
            &["pub", "--topic", "ends/80/a", "--message", "x"][..],
            4,
            "compare its topic and its size",
        ),
        (
            &["pub", "--topic", "ends/00/a", "--message", "x"],
            4,
            "compare its topic and its size",
        ),
        (&["sub", "ended/83/a"], 4, "compare the filters"),
        (
            &["bench", "--topic-prefix", "ends/80/a", "--messages", "1"],
            1,
            "compare --topic-prefix",
        ),
    ] {
        let done = program(args[0], &broker.endpoint())
            .args(&args[1..])
            .args(&QUICK[..4])
            .run();
        done.expect_code(status);
        let said = format!("{}{}", done.stdout, done.stderr);
        for part in [remedy, "with DISCONNECT 0x"] {
            assert!(said.contains(part), "{part}: {done}");
        }
        assert!(!said.contains("nothing has to be done"), "{done}");
    }
}

#[test]
fn a_run_in_which_a_message_is_given_up_ends_with_the_broker_s_reason() {
    let broker = Aws5::start(10);
    let prefix = ["--topic-prefix", "ends/97/a"];
    let done = program("demo", &broker.endpoint())
        .args(prefix)
        .args([
            "--iterations",
            "1",
            "--publish-count",
            "1",
            "--ack-timeout",
            "1s",
        ])
        .args(QUICK)
        .run();
    done.expect_code(1);
    let run = &json(&done)["runs"][0];
    let error = run["error"].as_str().unwrap_or_default();
    assert!(error.contains(QUOTA), "{done}");
    assert_eq!(run["reason_code"], 0x97, "{done}");

    let done = program("bench", &broker.endpoint())
        .args(prefix)
        .args(["--threads", "1", "--messages", "1"])
        .args(QUICK)
        .run();
    done.expect_code(1);
    let report = json(&done);
    let error = report["error"].as_str().unwrap_or_default();
    assert!(
        error.contains(QUOTA) && !error.contains("compare"),
        "{done}"
    );
    assert_eq!(report["reason_code"], 0x97, "{done}");
}

#[test]
fn a_demo_that_cannot_begin_ends_with_the_broker_s_reason() {
    let broker = ScriptedBroker::speaking(Protocol::V5);
    let endpoint = broker.endpoint();
    let script = broker.in_thread(|mut broker| {
        for _ in 0..2 {
            let (mut link, _) = broker.accept_client(false);
            link.expect_pingreq();
            link.send(b"\xe0\x02\x98\x00");
            link.close();
        }
    });
    let done = program("demo", &endpoint)
        .args(["--retry-attempts", "1"])
        .args(QUICK)
        .run();
    done.expect_code(3);
    let line = error_line(&done);
    for part in [
        "a PINGREQ is not answered on it (2 attempts in ",
        "the broker closed the connection with DISCONNECT 0x98 (administrative action)",
        "; ask who runs the broker",
    ] {
        assert!(line.contains(part), "{part}: {done}");
    }
    assert!(!line.contains("same client identifier"), "{done}");
    script.join().expect("the broker's script");
}
