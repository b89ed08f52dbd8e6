//! A broker that ends connections and says why: each command passes on its words, its code and the remedy.

use serde_json::Value;

use super::broker::Aws5;
use super::{json, program};
use crate::support::Finished;

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
