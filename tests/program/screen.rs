//! The log as a person sees it: repeated attempts are told once, each message has its thread, each packet its size, and a
//! healthy end leaves no error behind.

use crate::support::{ClosedPort, Mosquitto, Program, ScriptedBroker};

/// Arguments for so many attempts without a pause.
fn attempts(more: &str) -> [&str; 8] {
    [
        "--retry-attempts",
        more,
        "--retry-base",
        "1ms",
        "--retry-max",
        "1ms",
        "--connect-interval",
        "0",
    ]
}

#[test]
fn attempts_that_fail_alike_are_told_once_and_each_with_v() {
    let closed = ClosedPort::hold();
    let program = || Program::new().args(["--endpoint", &closed.endpoint()]);
    let done = program().args(attempts("3")).run();
    done.expect_code(3);
    let lines: Vec<&str> = done.stderr.lines().collect();
    let [begin, attempt, error] = lines[..] else {
        panic!("expected three lines: {done}")
    };
    assert!(begin.contains("Z INFO  connecting to 127.0.0.1:"), "{done}");
    assert!(attempt.contains("Z WARN  connecting to "), "{done}");
    assert!(attempt.contains("; trying again in "), "{done}");
    assert!(error.contains(": 4 attempts in "), "{done}");

    let done = program().args(attempts("3")).arg("-v").run();
    done.expect_code(3);
    assert_eq!(
        done.stderr.matches("; trying again in ").count(),
        3,
        "{done}"
    );
}

#[test]
fn attempts_are_counted_before_what_comes_after_them() {
    let mut broker = ScriptedBroker::bind();
    let mut running = Program::new()
        .args(["--endpoint", &broker.endpoint()])
        .args(attempts("9"))
        .spawn();
    for _ in 0..4 {
        broker.accept().close();
    }
    let link = broker.accept_client(false);
    running.wait_for_line("; trying again in ");
    let told = running.wait_for_line("the same ");
    assert!(told.contains("Z WARN  the same 3 times more in "), "{told}");
    running.signal("INT");
    drop(link);
    running.finish().expect_code(130);
}

#[test]
fn packets_have_identifier_and_size_and_lines_have_their_thread() {
    let broker = Mosquitto::start();
    let done = Program::new()
        .args(broker.arguments())
        .args(["--iterations", "1", "--publish-count", "2", "-vv"])
        .args(["--publish-delay", "0", "--connect-interval", "0"])
        .run();
    done.expect_code(0);
    let ends = |begin: &str, end: &str| {
        let line = |line: &str| line.contains(begin) && line.ends_with(end);
        assert!(done.stderr.lines().any(line), "no {begin}… {end}: {done}");
    };
    ends("Z TRACE [main] sending CONNECT, ", " bytes");
    ends("Z TRACE [main] sending PUBLISH ", ", 39 bytes");
    ends("Z TRACE [main] received PUBACK ", ", 4 bytes");
    ends("Z TRACE [main] received PUBLISH ", ", 41 bytes");
    let sync = "[sync-publisher] sync publisher: publishing message 1 of 1: filter/sync/0";
    ends(sync, ", 20 bytes");
    let asynchronous =
        "[async-publisher] async publisher: publishing message 1 of 1: filter/async/0";
    ends(asynchronous, ", 21 bytes");
    let received = "[subscriber] subscriber: received filter/async/0";
    ends(received, ", 21 bytes");
    // Both ends of the connection were closed in order.
    assert!(!done.stderr.contains("os error"), "{done}");
}

#[test]
fn credentials_without_tls_are_a_warning() {
    let closed = ClosedPort::hold();
    let done = Program::new()
        .args(["--endpoint", &closed.endpoint(), "--username", "me"])
        .env("MQTT_PASSWORD", "hunter2")
        .args(attempts("1"))
        .run();
    done.expect_code(3);
    let warning =
        "Z WARN  without TLS, user name and password can be read on the way: use mqtts://";
    assert!(done.stderr.contains(warning), "{done}");
}
