//! Texts that people and scripts read, word for word: help, error lines, results, the log, exit
//! statuses, and the bytes on the wire. Each is compared with a file in `tests/program/golden_files`.
//!
//! `UPDATE_GOLDEN=1 cargo test --test program golden` writes the files anew after an intended change,
//! which the diff then shows. Ports, times and folders differ from run to run: a word in angle brackets
//! stands for each.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use crate::support::refusal::QUICK;
use crate::support::wire::split;
use crate::support::{Certs, ClosedPort, Finished, Mosquitto, Program, ScriptedBroker};
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

/// The text without how long attempts took.
fn without_attempt_time(text: &str) -> String {
    let Some((before, after)) = text.split_once(" attempts in ") else {
        return text.to_owned();
    };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    format!("{before} attempts in <n>{}", without_attempt_time(rest))
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
fn error_lines() {
    let closed = ClosedPort::hold();
    let closed_plain = closed.endpoint();
    let closed_tls = format!("127.0.0.1:{}", closed.port());
    let certs = Certs::generate();
    let folder = certs.file("").to_str().expect("a folder").to_owned();
    let file = |name: &str| certs.file(name).to_str().expect("a name").to_owned();
    let (cert, key) = (certs.client().cert.clone(), certs.client().key.clone());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let other_key = certs.other_client().key.to_str().unwrap().to_owned();
    fs::write(file("empty"), "").unwrap();
    fs::write(file("broken.toml"), "qos = 1\nqos = 2\n").unwrap();
    fs::write(file("unknown.toml"), "publish-cout = 3\n").unwrap();
    fs::write(file("wrong.toml"), "publish-count = \"x\"\n").unwrap();
    fs::write(file("paths.toml"), "cert = \"no.pem\"\nkey = \"no.key\"\n").unwrap();
    fs::write(file("no-path.toml"), "cert = \"\"\n").unwrap();
    let no_path = file("no-path.toml");
    let (empty, broken) = (file("empty"), file("broken.toml"));
    let (unknown, wrong, paths) = (file("unknown.toml"), file("wrong.toml"), file("paths.toml"));
    let no_variable: &[(&str, &str)] = &[];
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);
    let aws = "abc-ats.iot.eu-central-1.amazonaws.com";
    let cases: &[Case<'_>] = &[
        (&[], no_variable),
        (&["--endpoint", "https://broker.example"], no_variable),
        (&["--endpoint", "a:1", "--port", "2"], no_variable),
        (
            &["--endpoint", "mqtt://a", "--ca-file", "ca.pem"],
            no_variable,
        ),
        (&["--endpoint", "a", "--qos", "3"], no_variable),
        (&["--endpoint", "a", "--qos", "-1"], no_variable),
        (&["--endpoint", "a", "--port", "0"], no_variable),
        (&["--endpoint", "a", "--publish-count", "0"], no_variable),
        (&["--endpoint", "a", "--publish-count", "many"], no_variable),
        (&["--endpoint", "a", "--publish-delay", "5"], no_variable),
        (&["--endpoint", "a", "--payload-size", "1MB"], no_variable),
        (&["--endpoint", "a", "--payload-size", "1MiB"], no_variable),
        (&["--endpoint", "a", "--topic-prefix", "a/+"], no_variable),
        (&["--endpoint", "a", "--topic-prefix", "$a"], no_variable),
        (&["--endpoint", "a", "--topic-prefix", "a/"], no_variable),
        (&["--endpoint", "a", "--keep-alive", "1500ms"], no_variable),
        (&["--endpoint", "a", "--max-inflight", "0"], no_variable),
        (&["--endpoint", "a", "--command-queue", "0"], no_variable),
        (
            &["--endpoint", "a", "--command-queue", "1000001"],
            no_variable,
        ),
        (&["--endpoint", "a", "--inbox", "0"], no_variable),
        (&["--endpoint", "a", "--ack-timeout", "0"], no_variable),
        (&["--endpoint", "a", "--connect-timeout", "0"], no_variable),
        (
            &["--endpoint", "a", "--retry-base", "9s", "-q"],
            no_variable,
        ),
        (&["--endpoint", "a", "--max-packet-size", "1"], no_variable),
        (
            &["--endpoint", "a", "--max-packet-size", "1GiB"],
            no_variable,
        ),
        (&["--endpoint", "a", "--client-id", ""], no_variable),
        (&["--endpoint", "a", "--username", ""], no_variable),
        (&["--endpoint", "a", "--alpn", ""], no_variable),
        (&["--endpoint", "a", "--tls-server-name", ""], no_variable),
        (&["--endpoint", "a", "--cert", ""], no_variable),
        (&["--endpoint", "a", "--cert", "c"], no_variable),
        (&["--endpoint", "a", "--key", "k"], no_variable),
        (
            &["--endpoint", "a", "--pkcs12", "p", "--cert", "c"],
            no_variable,
        ),
        (
            &["--endpoint", "a", "--pkcs12-password-file", "p"],
            no_variable,
        ),
        (
            &["--endpoint", "a", "--password-file", "/nowhere/p"],
            no_variable,
        ),
        (
            &[
                "--endpoint",
                "a",
                "--username",
                "u",
                "--password-file",
                "/nowhere/p",
            ],
            no_variable,
        ),
        (&["--endpoint", "a", "--will-qos", "1"], no_variable),
        (&["--endpoint", "a", "--will-topic", "a/+"], no_variable),
        (
            &[
                "--endpoint",
                "a",
                "--will-topic",
                "a",
                "--will-payload-file",
                "/nowhere/w",
            ],
            no_variable,
        ),
        (&["--endpoint", aws, "--qos", "2"], no_variable),
        (&["--endpoint", aws, "--keep-alive", "5s"], no_variable),
        (
            &["--endpoint", aws, "--topic-prefix", "a/b/c/d/e/f/g/h"],
            no_variable,
        ),
        (
            &["--endpoint", aws, "--payload-size", "200KiB"],
            no_variable,
        ),
        (&["--endpoint", aws, "--will-topic", "$w"], no_variable),
        (&["--local", "--endpoint", "a"], no_variable),
        (&["--local=maybe"], no_variable),
        (&["--local", "false"], no_variable),
        (&["--pasword-file", "x"], no_variable),
        (&["--password", "hunter2"], no_variable),
        (
            &["-h", "a", "-p", "1", "-u", "me", "-P", "hunter2"],
            no_variable,
        ),
        (&["--insecure"], no_variable),
        (&["--endpoint", "a", "--cert", "~/c"], no_variable),
        (&["-q", "-v"], no_variable),
        (&["filter"], no_variable),
        (&["bnch"], no_variable),
        (&["-q", "bench"], no_variable),
        (&["--output", "xml"], no_variable),
        (&["--threads", "4"], no_variable),
        (&["bench", "--iterations", "1"], no_variable),
        (&["bench", "--max-inflight", "1"], no_variable),
        (&["bench", "--mode", "fast"], no_variable),
        (&["bench", "--threads", "0"], no_variable),
        (&["bench", "--messages", "0"], no_variable),
        (&["bench", "--window", "0"], no_variable),
        (&["--config", "/nowhere/demo.toml"], no_variable),
        (&["--config", &broken], no_variable),
        (&["--config", &unknown], no_variable),
        (&["--config", &wrong], no_variable),
        (&["--config", &no_path], no_variable),
        (
            &["--endpoint", &closed_tls, "--config", &paths],
            no_variable,
        ),
        (&[], &[("MQTT_ACK_TIMEOUT", "soon")]),
        (&[], &[("MQTT_PORT", "tcp://10.96.12.7:8883")]),
        (
            &["--endpoint", "a", "--username", "u"],
            &[
                ("MQTT_PASSWORD", "hunter2"),
                ("MQTT_PASSWORD_FILE", "/nowhere"),
            ],
        ),
        (
            &["--endpoint", "a", "--password-file", "/nowhere"],
            no_variable,
        ),
        (&[], &[("MQTT_QOS", "1\r")]),
        (&["--config="], no_variable),
        (&["--endpoint", "--local"], no_variable),
        (&["bench", "--interval", "1"], no_variable),
        (&[], &[("MQTT_ENDPOINT", "\"broker.example\"")]),
        (&[], &[("MQTT_HOST", "broker.example")]),
        (
            &["--endpoint", &closed_tls],
            &[("MQTT_CA_FILE", "/nowhere/ca.pem")],
        ),
        (
            &["--endpoint", &closed_tls, "--ca-file", "/nowhere/ca.pem"],
            no_variable,
        ),
        (
            &["--endpoint", &closed_tls, "--ca-file", &empty],
            no_variable,
        ),
        (
            &[
                "--endpoint",
                &closed_tls,
                "--cert",
                "/nowhere/c",
                "--key",
                key,
            ],
            no_variable,
        ),
        (
            &[
                "--endpoint",
                &closed_tls,
                "--cert",
                cert,
                "--key",
                "/nowhere/k",
            ],
            no_variable,
        ),
        (
            &["--endpoint", &closed_tls, "--cert", key, "--key", cert],
            no_variable,
        ),
        (
            &[
                "--endpoint",
                &closed_tls,
                "--cert",
                cert,
                "--key",
                &other_key,
            ],
            no_variable,
        ),
        (&["--endpoint", &closed_tls, "--pkcs12", cert], no_variable),
        (
            &["--endpoint", &closed_tls, "--pkcs12", &empty],
            no_variable,
        ),
        (&["--endpoint", &closed_plain], no_variable),
        (&["--endpoint", "nowhere.invalid"], no_variable),
        (&["bench", "--endpoint", &closed_plain], no_variable),
    ];
    let mut text = String::new();
    for (arguments, variables) in cases {
        let mut program = Program::new().args(*arguments);
        for (name, value) in *variables {
            write!(text, "{name}={value} ").unwrap();
            program = program.env(name, value);
        }
        writeln!(text, "{}", arguments.join(" ")).unwrap();
        // `-q` is added except where the row itself gives it.
        let quiet = arguments.contains(&"-q");
        if !quiet {
            program = program.args(QUICK).arg("-q");
        }
        let done = program.run();
        assert_eq!(done.stdout, "", "{arguments:?}: {done}");
        let error = without_attempt_time(&done.stderr);
        write!(text, "  {}: {error}", done.code()).unwrap();
    }
    let text = text.replace(&folder, "<folder>/");
    let text = text.replace(&closed.port().to_string(), "<port>");
    expect_golden("errors.txt", &text);
}

#[test]
fn refusals_of_a_broker() {
    let mut text = String::new();
    for code in [
        v4::ConnectReturnCode::RefusedProtocolVersion,
        v4::ConnectReturnCode::BadClientId,
        v4::ConnectReturnCode::ServiceUnavailable,
        v4::ConnectReturnCode::BadUserNamePassword,
        v4::ConnectReturnCode::NotAuthorized,
    ] {
        let broker = ScriptedBroker::bind();
        let (endpoint, port) = (broker.endpoint(), broker.port());
        let script = broker.in_thread(move |mut broker| {
            let mut link = Some(broker.accept());
            while let Some(mut greeted) = link {
                greeted.expect_connect();
                greeted.send_connack(code, false);
                link = match code {
                    v4::ConnectReturnCode::ServiceUnavailable => {
                        broker.accept_within(std::time::Duration::from_secs(1))
                    }
                    _ => None,
                };
            }
        });
        let program = Program::new().args(["--endpoint", &endpoint, "-q", "--client-id", "me"]);
        let done = program.args(QUICK).run();
        let error = without_attempt_time(&done.stderr);
        write!(text, "{code:?}\n  {}: {error}", done.code()).unwrap();
        text = text.replace(&port.to_string(), "<port>");
        script.join().expect("the broker's script");
    }
    expect_golden("refusals.txt", &text);
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
