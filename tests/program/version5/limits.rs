//! Limits that Mosquitto states with MQTT 5, as its operator has set them: each command names the limit, and a remedy for
//! that.

use serde_json::Value;

use super::{error_line, json};
use crate::support::{Finished, Mosquitto, Program};

/// A broker with these limits.
fn limited(limits: &[&str]) -> Mosquitto {
    let mut broker = Mosquitto::start();
    broker.restart_with(&limits.join("\n"));
    broker
}

/// A command with MQTT 5 against this broker.
fn run(broker: &Mosquitto, command: &[&str]) -> Finished {
    Program::new()
        .args(command)
        .args(["--mqtt", "5"])
        .args(broker.arguments())
        .run()
}

/// The step at which a check has stopped.
fn last_step(done: &Finished) -> Value {
    let steps = json(done)["steps"].as_array().cloned().unwrap_or_default();
    steps.last().cloned().unwrap_or_default()
}

/// The check tells what `pub` tells: no access rule was asked, since the message was not sent.
#[test]
fn a_limit_is_the_cause_that_a_check_names() {
    let broker = limited(&["max_qos 1"]);
    let check = ["check", "--topic", "a", "--qos", "2", "--output", "json"];
    let done = run(&broker, &check);
    done.expect_code(4);
    let step = last_step(&done);
    assert_eq!(
        step["detail"], "the message to \"a\" was never sent: a QoS above the broker's maximum",
        "{done}"
    );
    assert_eq!(
        step["causes"],
        serde_json::json!([{
            "cause": "a QoS above the broker's maximum",
            "remedy": "use a lower --qos",
            "command": null,
        }]),
        "{done}"
    );
    let publish = ["pub", "--topic", "a", "--qos", "2", "--message", "x"];
    let done = run(&broker, &publish);
    assert!(
        error_line(&done).ends_with("a QoS above the broker's maximum; use a lower --qos"),
        "{done}"
    );

    let broker = limited(&["max_packet_size 200"]);
    let topic = "a".repeat(250);
    let done = run(&broker, &["check", "--topic", &topic, "--output", "json"]);
    done.expect_code(4);
    let step = last_step(&done);
    let cause = &step["causes"][0];
    assert_eq!(
        cause["cause"], "a packet above the broker's maximum packet size",
        "{done}"
    );
    let remedy = cause["remedy"].as_str().unwrap_or_default();
    assert!(
        remedy.ends_with("or have the broker allow larger packets"),
        "{done}"
    );
}

/// Nothing that was not sent, or was refused, is waited for; the subscriber's patience is 28 s.
#[test]
fn a_demo_ends_soon_after_none_of_its_messages_was_taken() {
    let mut broker = limited(&["max_packet_size 200"]);
    let demo = ["demo", "--iterations", "1", "--output", "json"];
    let ends_soon = |broker: &Mosquitto, more: &[&str], error: &str| {
        let done = run(broker, &[&demo[..], more].concat());
        done.expect_code(1);
        let run = json(&done)["runs"][0].clone();
        let told = run["error"].as_str().unwrap_or_default();
        assert!(told.starts_with(error), "{done}");
        let took = run["elapsed_ms"].as_u64().unwrap_or(u64::MAX);
        assert!(took < 15_000, "{done}");
        run
    };
    ends_soon(
        &broker,
        &["--payload-size", "500"],
        "synchronous message 1 of 4: never sent: a packet above the broker's maximum",
    );
    broker.restart_with_rules("topic read filter/#\ntopic write filter/sync/#\n");
    let run = ends_soon(
        &broker,
        &[],
        "asynchronous message 1 of 4: refused by the broker, 0x87",
    );
    // The others are waited for.
    for (count, expected) in [("acknowledged", 4), ("received", 4), ("lost", 0)] {
        assert_eq!(run[count], expected, "{count}: {run}");
    }
}

#[test]
fn a_subscription_with_a_lower_qos_is_told_once() {
    let broker = limited(&["max_qos 1"]);
    let done = run(&broker, &["sub", "a", "--qos", "2", "--within", "100ms"]);
    done.expect_code(0);
    let told: Vec<&str> = done
        .stderr
        .lines()
        .filter(|it| it.contains("QoS 2"))
        .collect();
    assert_eq!(told.len(), 1, "{done}");
    let expected = "the broker granted QoS 1 for \"a\", and QoS 2 was asked for";
    assert!(told[0].contains(expected), "{done}");
}

/// The broker keeps sessions; this one was not to last.
#[test]
fn a_session_that_is_not_to_last_is_not_looked_for_by_a_check() {
    let broker = Mosquitto::start();
    let check = ["check", "--session-expiry", "0", "--output", "json"];
    let done = run(&broker, &check);
    done.expect_code(0);
    let steps = json(&done)["steps"].as_array().cloned().unwrap_or_default();
    let session = steps.iter().find(|step| step["step"] == "session");
    let session = session.cloned().unwrap_or_default();
    assert_eq!(session["status"], "skipped", "{done}");
    let detail = session["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("--session-expiry 0"), "{done}");
}
