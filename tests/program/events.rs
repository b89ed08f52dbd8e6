//! `--output jsonl`: an object on a line for each event, against a real Mosquitto. Each line is held to the schema
//! ([`Running::finish`](crate::support::Running::finish)).

// Clippy knows tests by their attribute only, but this is test code all the same.
#![allow(clippy::unwrap_used)]

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4;
use serde_json::Value;

use crate::support::{ClosedPort, Finished, Mosquitto, Program, wait_until};

fn lines(done: &Finished) -> Vec<Value> {
    let lines = done.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect()
}

const QUICK: [&str; 8] = [
    "--connect-interval",
    "0",
    "--publish-delay",
    "1ms",
    "--iteration-delay",
    "0",
    "--client-id",
    "me",
];

#[test]
fn each_iteration_of_the_demo_is_told_and_none_is_kept_for_the_end() {
    let broker = Mosquitto::start();
    let done = Program::new()
        .args(["--output", "jsonl", "--iterations", "2"])
        .args(QUICK)
        .args(broker.arguments())
        .run();
    done.expect_code(0);
    let lines = lines(&done);
    assert_eq!(
        names(&lines),
        [
            // For the clearing of the session.
            "connected",
            "connected",
            "iteration",
            "connected",
            "iteration",
            "end"
        ]
    );
    assert_eq!(lines[2]["run"]["acknowledged"], 8);
    assert_eq!(lines[4]["run"]["iteration"], 2);
    let end = &lines[5];
    assert_eq!(
        (&end["exit_status"], &end["error"]),
        (&0.into(), &Value::Null)
    );
    assert_eq!(
        (&end["result"]["iterations"], &end["result"].get("runs")),
        (&2.into(), &None)
    );
    assert!(
        lines
            .iter()
            .all(|line| line["client_id"] == "me" && line["schema"] == 1)
    );
    let endpoint = format!("127.0.0.1:{}", broker.port());
    assert!(
        lines
            .iter()
            .all(|line| line["endpoint"] == endpoint.as_str())
    );
}

#[test]
fn a_loss_is_told_with_its_reason_and_the_next_attempt_and_messages_stand_between() {
    let mut broker = Mosquitto::start();
    let mut running = Program::new()
        .args(["sub", "a", "--output", "jsonl", "--count", "2", "-vv"])
        .args([
            "--client-id",
            "me",
            "--retry-for",
            "0",
            "--connect-interval",
            "0",
        ])
        .args(["--retry-base", "20ms", "--retry-max", "100ms"])
        .args(broker.arguments())
        .spawn();
    running.wait_for_line("received SUBACK");
    let publish = |broker: &Mosquitto| {
        let mut publisher = broker.client("publisher", true);
        let mut publish = v4::Publish::new("a", QoS::AtLeastOnce, "x");
        publish.pkid = 1;
        publisher.send_packet(v4::Packet::Publish(publish));
        publisher.expect_puback();
    };
    publish(&broker);
    wait_until("the first message", || {
        running.stdout().contains("\"message\"")
    });
    broker.kill();
    running.wait_for_line(" lost after ");
    broker.start_again();
    running.wait_for_line("reconnected");
    publish(&broker);
    let done = running.finish();
    done.expect_code(0);
    let lines = lines(&done);
    let mut told = names(&lines);
    // As often as it takes the broker to be there again.
    told.retain(|name| *name != "attempt_failed");
    assert_eq!(
        told,
        [
            "connected",
            "message",
            "lost",
            "connected",
            "message",
            "end"
        ]
    );
    let lost = lines.iter().find(|line| line["event"] == "lost").unwrap();
    assert!(
        lost["retry_in_ms"].is_u64() && lost["reason"].is_string(),
        "{lost}"
    );
    let end = lines.last().unwrap();
    assert_eq!(
        (&end["result"]["received"], &end["result"]["connects"]),
        (&2.into(), &2.into())
    );
}

#[test]
fn a_run_without_a_connection_tells_each_attempt_and_ends_with_its_status() {
    let closed = ClosedPort::hold();
    let endpoint = closed.endpoint();
    for command in ["demo", "bench", "pub", "sub"] {
        let own: &[&str] = match command {
            "pub" => &["--topic=a", "--message=x"],
            "sub" => &["a"],
            _ => &[],
        };
        let done = Program::new()
            .args([command, "--output", "jsonl", "-q", "--endpoint", &endpoint])
            .args(crate::support::refusal::QUICK)
            .args(own)
            .run();
        done.expect_code(3);
        let lines = lines(&done);
        let end = lines.last().unwrap();
        assert_eq!(
            (&end["event"], &end["exit_status"]),
            (&"end".into(), &3.into()),
            "{command}"
        );
        assert!(
            end["error"].as_str().unwrap().contains("nothing listens"),
            "{end}"
        );
        assert_eq!(
            names(&lines),
            ["attempt_failed", "attempt_failed", "end"],
            "{command}"
        );
        assert!(lines[0]["retry_in_ms"].is_u64(), "{done}");
        assert_eq!(lines[1]["retry_in_ms"], Value::Null);
    }
}

#[test]
fn pub_check_and_bench_end_with_their_result() {
    let broker = Mosquitto::start();
    for (arguments, field) in [
        (
            &["pub", "--topic", "a", "--message", "x"][..],
            "acknowledged",
        ),
        (&["check", "--topic", "a"], "steps"),
        (&["bench", "--messages", "10"], "messages_per_second"),
    ] {
        let done = Program::new()
            .args(arguments)
            .args(["--output", "jsonl"])
            .args(broker.arguments())
            .run();
        done.expect_code(0);
        let lines = lines(&done);
        assert_eq!(lines[0]["event"], "connected", "{done}");
        let end = lines.last().unwrap();
        assert!(!end["result"][field].is_null(), "{end}");
    }
}

#[test]
fn a_probe_whose_reader_has_gone_ends_after_the_iteration() {
    let broker = Mosquitto::start();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut running = Program::new()
        .args(["--output", "jsonl", "--iterations", "0"])
        .args(QUICK)
        .args(broker.arguments())
        .stdout(writer)
        .spawn();
    running.wait_for_line("connected to ");
    drop(reader);
    running.finish().expect_code(0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_first_error_of_writing_ends_probe_and_sub_and_is_told() {
    let broker = Mosquitto::start();
    let probe = ["--iterations", "0", "--output", "jsonl", "-q"];
    for arguments in [&probe[..], &["sub", "a", "--output", "jsonl", "-q"]] {
        let done = Program::new()
            .args(arguments)
            .args(broker.arguments())
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .run();
        done.expect_code(1);
        assert_eq!(
            done.stderr.matches("error: ").count(),
            1,
            "{arguments:?}: {done}"
        );
        assert!(
            done.stderr.contains("No space left"),
            "{arguments:?}: {done}"
        );
    }
}

/// A standard output that has no room and that nobody reads, and its other end.
fn full_output() -> (OwnedFd, UnixStream) {
    let (mut output, reader) = UnixStream::pair().unwrap();
    output.set_nonblocking(true).unwrap();
    let error = loop {
        if let Err(error) = output.write(&[b'x'; 1_000]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    output.set_nonblocking(false).unwrap();
    (output.into(), reader)
}

#[test]
fn one_signal_ends_a_program_whose_output_nobody_reads() {
    let broker = Mosquitto::start();
    for (arguments, line) in [
        (
            &["demo", "--output", "jsonl", "--iterations", "0"][..],
            "connected to ",
        ),
        (
            &["pub", "--topic", "a", "--message", "x"],
            "sending DISCONNECT",
        ),
        (&["sub", "a", "--output", "jsonl"], "received SUBACK"),
    ] {
        let (output, reader) = full_output();
        let mut running = Program::new()
            .args(arguments)
            .arg("-vv")
            .args(broker.arguments())
            .stdout(output)
            .spawn();
        running.wait_for_line(line);
        running.signal("TERM");
        running.finish().expect_code(130);
        drop(reader);
    }
}

#[test]
fn the_result_of_an_interrupted_run_has_the_status_and_the_reason_of_its_end() {
    let broker = Mosquitto::start();
    for (arguments, line) in [
        (&["pub", "--topic", "a", "--lines"][..], "connected to "),
        (&["sub", "a"], "received SUBACK"),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut running = Program::new()
            .args(arguments)
            .args(["--output", "jsonl", "-vv"])
            .args(broker.arguments())
            .stdin(reader)
            .spawn();
        running.wait_for_line(line);
        running.signal("TERM");
        let done = running.finish();
        done.expect_code(130);
        let lines = lines(&done);
        let end = lines.last().unwrap();
        for told in [end, &end["result"]] {
            assert_eq!(
                (&told["exit_status"], &told["error"]),
                (&130.into(), &"interrupted".into()),
                "{end}"
            );
        }
        drop(writer);
    }
}

#[test]
fn the_end_names_the_error_of_the_result() {
    let broker = Mosquitto::start();
    let done = Program::new()
        .args(["sub", "a", "--count", "2", "--within", "1ms"])
        .args(["--output", "jsonl"])
        .args(broker.arguments())
        .run();
    done.expect_code(5);
    let lines = lines(&done);
    let end = lines.last().unwrap();
    let error = end["error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("0 of 2 messages came within 1ms; raise --within"),
        "{end}"
    );
    assert_eq!(end["error"], end["result"]["error"], "{end}");
}
