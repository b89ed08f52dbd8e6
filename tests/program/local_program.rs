//! The program with the embedded broker inside of it: `--local` needs neither an endpoint nor certificates.
//!
//! `cargo test --features local-broker --test program local_program`

#![cfg(feature = "local-broker")]
// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used)]

use crate::support::{Finished, Program, Report, in_both_versions};
use mqtt_connection_sharing::Protocol;
use serde_json::Value;

in_both_versions! {
    each_command_works,
}

fn each_command_works(protocol: Protocol) {
    let version = protocol.to_string();
    let run = |arguments: &[&str]| -> Finished {
        let program = Program::new().args(arguments).args(["--local", "--mqtt"]);
        let done = program.arg(&version).run();
        done.expect_code(0);
        done
    };
    let quick = ["--iteration-delay", "0", "--connect-interval", "0"];
    let twice = ["--iterations", "2", "--output", "json"];
    let done = run(&[&["demo"], &quick[..], &twice].concat());
    let report = Report::of(&done);
    assert_eq!(report.runs.len(), 2, "{done}");
    for run in &report.runs {
        run.expect_smooth(8);
    }
    let many = ["bench", "--receive", "--messages", "2000", "--qos", "2"];
    let done = run(&[&many[..], &["--output", "json"]].concat());
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let counts = ["received", "lost", "reconnects"].map(|name| &report[name]);
    assert_eq!(counts, [2_000, 0, 0], "{done}");
    let done = run(&["check", "--topic", "a/b"]);
    assert!(done.stdout.contains("\nok: 11 steps in "), "{done}");
    let done = run(&["pub", "--topic", "a", "--message", "x"]);
    let told = "ok: 1 message acknowledged ";
    assert!(done.stdout.starts_with(told), "{done}");
    let done = run(&["sub", "a/#", "--within", "100ms"]);
    assert_eq!(done.stdout, "");
}
