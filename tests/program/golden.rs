//! Texts that people and scripts read, word for word: help, error lines, results, the log, exit
//! statuses, and the bytes on the wire. Each is compared with a file in `tests/program/golden_files`.
//!
//! `UPDATE_GOLDEN=1 cargo test --test program golden` writes the files anew after an intended change,
//! which the diff then shows. Ports, times and folders differ from run to run: a word in angle brackets
//! stands for each.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod errors;

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use crate::support::wire::split;
use crate::support::{Finished, Mosquitto, Program, ScriptedBroker};
use rumqttc::mqttbytes::v4;

/// Compares `text` with the file of this name, or writes the file if `UPDATE_GOLDEN` is set.
#[track_caller]
pub fn expect_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/program/golden_files")
        .join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("a golden file");
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    for (number, (expected, came)) in golden.lines().zip(text.lines()).enumerate() {
        assert_eq!(
            came,
            expected,
            "tests/program/golden_files/{name}, line {}",
            number + 1
        );
    }
    assert_eq!(text, golden, "tests/program/golden_files/{name}");
}

/// Figures that depend on how threads and broker meet.
const SHARED: [&str; 10] = [
    "median_us",
    "longest_us",
    "queued_us",
    "in_flight_most",
    "queued_most",
    "packets_sent",
    "packets_received",
    "bytes_sent",
    "bytes_received",
    "writes",
];

/// A result without its figures, and with no line folded: both depend on what was measured.
fn without_times(text: &str) -> String {
    let lines = without_numbers(text);
    let mut text = String::new();
    for (number, line) in lines.lines().enumerate() {
        match line.strip_prefix("              ") {
            Some(rest) => {
                text.push(' ');
                text.push_str(rest.trim_start());
            }
            None => {
                text.push_str(if number > 0 { "\n" } else { "" });
                text.push_str(line);
            }
        }
    }
    text.push('\n');
    for unit in ["µs", "ms", "s"] {
        text = text.replace(&format!("<n>.<n> {unit}"), "<time>");
    }
    text
}

/// Replaces each run of digits by `<n>`.
pub fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    let mut digits = false;
    for c in text.chars() {
        if c.is_ascii_digit() {
            if !digits {
                plain.push_str("<n>");
            }
        } else {
            plain.push(c);
        }
        digits = c.is_ascii_digit();
    }
    plain
}

/// JSON over several lines, with a word in place of each measured figure.
fn without_measures(json: &str, measures: &[&str]) -> String {
    let mut value: serde_json::Value = serde_json::from_str(json).expect("JSON");
    blank(&mut value, measures);
    serde_json::to_string_pretty(&value).expect("JSON") + "\n"
}

fn blank(value: &mut serde_json::Value, measures: &[&str]) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                if measures.contains(&name.as_str()) && !field.is_null() {
                    *field = "<measured>".into();
                } else {
                    blank(field, measures);
                }
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(|v| blank(v, measures)),
        _ => {}
    }
}

/// The log without times and without the certificates' folder.
fn log_of(done: &Finished, port: u16) -> String {
    let mut text = String::new();
    for line in done.stderr.lines() {
        let (_, rest) = line.split_once("Z ").unwrap_or(("", line));
        let rest = rest.replace(&port.to_string(), "<port>");
        let rest = match rest.split_once("trying again in ") {
            Some((before, _)) => format!("{before}trying again in <n> ms"),
            None => rest,
        };
        let rest = match rest.split_once("lost after ") {
            Some((before, after)) => {
                let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{before}lost after <n>{after}")
            }
            None => rest,
        };
        writeln!(text, "{rest}").unwrap();
    }
    text
}

#[test]
fn help() {
    for (name, arguments) in [
        ("help.txt", &["--help"][..]),
        ("help-demo.txt", &["demo", "--help"]),
        ("help-bench.txt", &["bench", "--help"]),
        ("help-check.txt", &["check", "--help"]),
        ("help-pub.txt", &["pub", "--help"]),
        ("help-sub.txt", &["sub", "--help"]),
        ("help-settings.txt", &["settings", "--help"]),
        ("help-completions.txt", &["completions", "--help"]),
        ("help-man.txt", &["man", "--help"]),
        ("version.txt", &["--version"]),
    ] {
        let done = Program::new().args(arguments).run();
        done.expect_code(0);
        assert_eq!(done.stderr, "", "{arguments:?}");
        expect_golden(name, &done.stdout);
    }
}

#[test]
fn settings_in_force() {
    let arguments = ["settings", "--endpoint", "broker.example", "--qos", "2"];
    let program = Program::new().args(arguments);
    let done = program
        .args(["--client-id", "golden"])
        .env("MQTT_PUBLISH_COUNT", "100")
        .env("MQTT_ITERATION", "7")
        .run();
    done.expect_code(0);
    assert!(
        done.stderr.contains("did you mean MQTT_ITERATIONS?"),
        "{done}"
    );
    expect_golden("settings.txt", &done.stdout);
    // Settings that nothing can run with are printed as well.
    let done = Program::new()
        .args(["settings", "bench", "--qos", "2"])
        .run();
    done.expect_code(2);
    assert!(done.stdout.contains("\nqos = 2 "), "{done}");
    assert!(done.stderr.contains("no endpoint is given"), "{done}");
}

#[test]
fn results_and_logs_of_a_good_run() {
    let broker = Mosquitto::start();
    let quick = [
        "--iterations",
        "2",
        "--iteration-delay",
        "0",
        "--connect-interval",
        "0",
        "--publish-delay",
        "1ms",
        "--client-id",
        "golden",
    ];
    let program = || Program::new().args(broker.arguments()).args(quick);
    let done = program().run();
    done.expect_code(0);
    expect_golden("demo.txt", &without_times(&done.stdout));
    expect_golden("demo-log.txt", &log_of(&done, broker.port()));
    let done = program().args(["--output", "json"]).run();
    done.expect_code(0);
    expect_golden(
        "demo.json",
        &without_measures(&done.stdout, &[&SHARED[..], &["elapsed_ms"]].concat()),
    );

    let measures = [
        &SHARED[..],
        &[
            "seconds",
            "messages_per_second",
            "p50",
            "p90",
            "p99",
            "p999",
            "max",
            "cpu_seconds",
            "peak_rss_bytes",
        ],
    ]
    .concat();
    let bench = || {
        Program::new().arg("bench").args(broker.arguments()).args([
            "--messages",
            "100",
            "--receive",
            "--window",
            "20",
            "-q",
        ])
    };
    let done = bench().args(["--output", "json"]).run();
    done.expect_code(0);
    expect_golden("bench.json", &without_measures(&done.stdout, &measures));
    let done = bench().run();
    done.expect_code(0);
    expect_golden("bench.txt", &without_times(&done.stdout));
}

#[test]
fn bytes_on_the_wire() {
    let mut broker = ScriptedBroker::bind();
    let endpoint = broker.endpoint();
    let arguments = [
        "--client-id",
        "golden",
        "--iterations",
        "1",
        "--publish-count",
        "1",
        "--connect-interval",
        "0",
        "-q",
    ];
    let program = Program::new().args(["--endpoint", &endpoint]);
    let running = program.args(arguments).spawn();
    let clearing = |broker: &mut ScriptedBroker| {
        let (mut link, _) = broker.accept_client(false);
        link.expect_pingreq();
        link.send_packet(v4::Packet::PingResp);
        link.expect_disconnect();
    };
    clearing(&mut broker);
    let (mut link, _) = broker.accept_client(false);
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
    let publish = link.expect_publish();
    link.send_packet(v4::Packet::PubAck(v4::PubAck::new(publish.pkid)));
    link.send_packet(v4::Packet::Publish(publish));
    let unsubscribe = loop {
        match link.read_packet() {
            v4::Packet::Unsubscribe(unsubscribe) => break unsubscribe,
            v4::Packet::PubAck(_) => {}
            other => panic!("{other:?}"),
        }
    };
    link.send_packet(v4::Packet::UnsubAck(v4::UnsubAck::new(unsubscribe.pkid)));
    link.expect_disconnect();
    clearing(&mut broker);
    let done = running.finish();
    done.expect_code(0);
    let mut text = String::new();
    for link in broker.received() {
        for mut packet in split(&link) {
            count_identifiers_from(subscribe.pkid, &mut packet);
            for byte in &packet {
                write!(text, "{byte:02x}").unwrap();
            }
        }
        text.push('\n');
    }
    expect_golden("wire.txt", &text);
}

/// Rewrites the identifier of a packet shorter than 128 bytes: `first`, where the program began, becomes 1.
fn count_identifiers_from(first: u16, packet: &mut [u8]) {
    let at = match packet[0] >> 4 {
        3 => 4 + usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        4 | 8 | 10 => 2,
        _ => return,
    };
    let id = u32::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let counted = (id + 65_535 - u32::from(first)) % 65_535 + 1;
    packet[at..at + 2].copy_from_slice(&u16::try_from(counted).unwrap().to_be_bytes());
}
