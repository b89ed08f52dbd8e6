//! The command bench from outside, against a real Mosquitto over mutual TLS: its exit status, its
//! result, and its answers to wrong flags.
//!
//! With MQTT 5: `SUITE_MQTT=5 cargo test --test program bench::`

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::time::Duration;

use crate::support::versions::{arguments, suite};
use crate::support::{
    ClosedPort, Connection, Event, Finished, HANG, Mosquitto, Program, Running, ScriptedBroker,
};
use mqtt_connection_sharing::Protocol;
use serde_json::Value;

use rumqttc::mqttbytes::{QoS, v4};

const FIELDS: [&str; 32] = [
    "schema",
    "mode",
    "threads",
    "messages",
    "payload_bytes",
    "window",
    "qos",
    "success",
    "published",
    "acknowledged",
    "seconds",
    "messages_per_second",
    "latency_us",
    "cpu_seconds",
    "peak_rss_bytes",
    "received",
    "lost",
    "dropped",
    "duplicated",
    "reordered",
    "unexpected",
    "reconnects",
    "rate_limited_seconds",
    "in_flight_most",
    "queued_most",
    "packets_sent",
    "packets_received",
    "bytes_sent",
    "bytes_received",
    "writes",
    "interrupted",
    "error",
];

fn bench(broker: &Mosquitto, arguments: &[&str]) -> Program {
    let program = Program::new().arg("bench").args(broker.arguments());
    program.args(arguments)
}

fn json(broker: &Mosquitto, arguments: &[&str]) -> Program {
    bench(broker, arguments).args(["--output", "json"])
}

#[track_caller]
fn report(done: &Finished) -> Value {
    let lines: Vec<&str> = done.stdout.lines().collect();
    let [line] = lines[..] else {
        panic!("expected one line: {done}")
    };
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {done}"))
}

#[track_caller]
fn expect_all(done: &Finished, messages: u64) -> Value {
    done.expect_code(0);
    let report = report(done);
    for (field, expected) in [
        ("messages", messages),
        ("published", messages),
        ("acknowledged", messages),
        ("reconnects", 0),
    ] {
        assert_eq!(report[field], expected, "{field}: {done}");
    }
    assert_eq!(report["success"], true, "{done}");
    assert!(report["error"].is_null(), "{done}");
    report
}

#[track_caller]
fn expect_all_back(done: &Finished, messages: u64) -> Value {
    let report = expect_all(done, messages);
    for (field, expected) in [
        ("received", messages),
        ("lost", 0),
        ("dropped", 0),
        ("duplicated", 0),
        ("reordered", 0),
        ("unexpected", 0),
    ] {
        assert_eq!(report[field], expected, "{field}: {done}");
    }
    report
}

#[test]
fn each_quality_of_service_in_both_modes_receives_everything_back() {
    let broker = Mosquitto::start_fast();
    for qos in ["0", "1", "2"] {
        for (mode, messages) in [("async", 2_000), ("sync", 200)] {
            let count = messages.to_string();
            let done = json(&broker, &["--receive", "--window", "100"])
                .args(["--mode", mode, "--qos", qos, "--messages", &count])
                .run();
            let report = expect_all_back(&done, messages);
            assert_eq!(report["mode"], mode);
            assert_eq!(report["qos"].to_string(), qos);
        }
    }
}

#[test]
fn the_result_says_how_long_the_rate_held_messages_back() {
    let broker = Mosquitto::start_fast();
    let done = json(&broker, &["--messages", "75", "--message-rate", "50/s"]).run();
    let held = &expect_all(&done, 75)["rate_limited_seconds"];
    assert!(held.as_f64().expect("a number") > 0.0, "{done}");
    let done = bench(&broker, &["--messages", "75", "--byte-rate", "4KiB/s"]).run();
    done.expect_code(0);
    assert!(
        done.stdout
            .contains("\nrate          held messages back for "),
        "{done}"
    );
}

/// Also where both are process 1 on one host name, as in containers: the topics have a random level.
#[test]
fn two_that_use_one_broker_receive_only_their_own() {
    let broker = Mosquitto::start_fast();
    let program = || {
        json(
            &broker,
            &["--receive", "--window", "100", "--messages", "20000"],
        )
    };
    let both = [program().spawn(), program().spawn()];
    for running in both {
        expect_all_back(&running.finish(), 20_000);
    }
}

#[test]
fn the_result_has_the_documented_fields_and_sensible_values() {
    let broker = Mosquitto::start_fast();
    let more = ["--messages", "1000", "--threads", "3", "--window", "50"];
    let done = json(&broker, &more).args(["--payload-size", "100"]).run();
    let report = expect_all(&done, 1000);
    let line = done.stdout.trim_end();
    // The names in the order of the line, which a map would sort. The latency has fields of its own.
    let names = line.split('"').skip(1).step_by(2);
    let own = ["p50", "p90", "p99", "p999", "max"];
    let (nested, top): (Vec<&str>, Vec<&str>) = names
        .filter(|name| *name != "async")
        .partition(|name| own.contains(name));
    assert_eq!(top, FIELDS, "{done}");
    assert_eq!(nested, own, "{done}");
    assert_eq!(report["threads"], 3);
    assert_eq!(report["window"], 50);
    assert_eq!(report["payload_bytes"], 100);
    assert!(report["received"].is_null() && report["lost"].is_null());
    let number = |value: &Value| value.as_f64().expect("a number");
    let latency = own.map(|name| number(&report["latency_us"][name]));
    assert!(latency[0] > 0.0 && latency.is_sorted(), "{done}");
    let rate = number(&report["messages_per_second"]) * number(&report["seconds"]);
    assert!((rate - 1000.0).abs() < 1.0, "{done}");
    assert!(number(&report["cpu_seconds"]) > 0.0, "{done}");
    assert!(number(&report["peak_rss_bytes"]) > 1e6, "{done}");
}

/// A message takes time while it is outstanding, and the threads have so many outstanding at most. At least half of the
/// messages took as long as the median says, so it is at most twice as long as they would have taken all together.
#[test]
fn half_of_the_messages_took_no_longer_than_those_outstanding_allow() {
    const MESSAGES: f64 = 20_000.0;
    const OUTSTANDING: f64 = 128.0;
    let broker = Mosquitto::start_fast();
    for (threads, payload) in [(1, "64"), (4, "64"), (4, "2000")] {
        let (messages, count) = (MESSAGES.to_string(), threads.to_string());
        let more = ["--messages", &messages, "--threads", &count];
        let done = json(&broker, &more)
            .args(["--window", "50", "--payload-size", payload])
            .run();
        let report = expect_all(&done, MESSAGES as u64);
        let number = |value: &Value| value.as_f64().expect("a number");
        let outstanding = OUTSTANDING * f64::from(threads);
        let share = number(&report["seconds"]) * outstanding / MESSAGES * 1e6;
        let median = number(&report["latency_us"]["p50"]);
        // The histogram keeps three digits.
        assert!(median < 2.0 * share * 1.002, "{share}: {done}");
        assert!(median > 0.0, "{done}");
    }
}

#[test]
fn people_get_lines_and_no_bar_where_there_is_no_terminal() {
    let broker = Mosquitto::start_fast();
    let done = bench(&broker, &["--messages", "500", "--receive"]).run();
    done.expect_code(0);
    let first = "ok: 500 messages of 64 bytes, QoS 1, async, 4 threads, window 1000\n";
    assert!(done.stdout.starts_with(first), "{done}");
    for part in [
        "\nacknowledged  500 of 500 in ",
        "\nlatency       half within ",
        "\nsubscriber    500 of 500 received; nothing lost, repeated or out of order\n",
        "\nshared        at most ",
        " TLS records, ",
    ] {
        assert!(done.stdout.contains(part), "no {part:?}: {done}");
    }
    for line in done.stderr.lines() {
        assert!(line.starts_with("20"), "not of the log: {line:?}");
    }
    // Nothing is left at the broker, because the session is a clean one.
    assert!(broker.log().contains(", c1,"), "{}", broker.log());
}

#[test]
fn payloads_of_any_size_come_back_whole() {
    let broker = Mosquitto::start_fast();
    for (size, messages) in [("0", 300), ("5", 300), ("8", 300), ("1MiB", 12)] {
        let count = messages.to_string();
        let more = ["--receive", "--payload-size", size, "--messages", &count];
        let done = json(&broker, &more).run();
        expect_all_back(&done, messages);
    }
}

#[test]
fn a_thousand_threads_work_and_so_do_threads_without_a_message() {
    let broker = Mosquitto::start_fast();
    let more = ["--threads", "1024", "--messages", "4000", "--receive"];
    expect_all_back(&json(&broker, &more).run(), 4000);
    let more = ["--threads", "10", "--messages", "3", "--mode", "sync"];
    expect_all(&json(&broker, &more).run(), 3);
}

#[test]
fn settings_come_from_the_same_layers_as_the_demos() {
    let broker = Mosquitto::start_fast();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bench.toml");
    let text = "threads = 2\nmessages = 30\nwindow = 7\niterations = 5\n";
    std::fs::write(&file, text).expect("a settings file");
    let done = json(&broker, &["--messages", "40"])
        .arg("--config")
        .arg(&file)
        .env("MQTT_WINDOW", "9")
        .env("MQTT_PUBLISH_COUNT", "5")
        .run();
    let report = expect_all(&done, 40);
    assert_eq!(
        (&report["threads"], &report["window"]),
        (&2.into(), &9.into())
    );
}

#[test]
fn a_persistent_session_is_left_empty() {
    let broker = Mosquitto::start_fast();
    let more = ["--clean-session=false", "--connect-interval", "0"];
    let done = json(&broker, &more).args(["--receive", "--messages", "100"]);
    expect_all_back(&done.args(["--client-id", "bench"]).run(), 100);
    let log = broker.log();
    let connects = log.lines().filter(|line| line.contains(" as bench ("));
    let clean: Vec<bool> = connects.map(|line| line.contains("c1,")).collect();
    // In MQTT 5 each loop begins a new session, which then outlives its links [MQTT-3.1.2-4] [MQTT-3.2.2-4].
    let between = suite() == Protocol::V5;
    assert_eq!(clean, [true, between, true], "{log}");
}

/// Starts a bench that would run for hours; returns once the broker has received a message of it.
fn under_way(broker: &Mosquitto, arguments: &[&str]) -> Running {
    let mut observer = broker.client("observer", true);
    let mut subscribe = v4::Subscribe::new("#", QoS::AtMostOnce);
    subscribe.pkid = 1;
    observer.send_packet(v4::Packet::Subscribe(subscribe));
    observer.expect_suback();
    let endless = ["--messages", "1000000000", "--mode", "sync"];
    let running = json(broker, &endless).args(arguments).spawn();
    observer.expect_publish();
    running
}

#[test]
fn an_interrupt_ends_it_with_the_result_so_far() {
    let broker = Mosquitto::start_fast();
    for signal in ["INT", "TERM"] {
        let running = under_way(&broker, &[]);
        running.signal(signal);
        let done = running.finish();
        done.expect_code(130);
        let report = report(&done);
        assert_eq!(report["interrupted"], true, "{done}");
        assert_eq!(report["success"], false, "{done}");
        assert_eq!(report["error"], "interrupted", "{done}");
        let acknowledged = report["acknowledged"].as_u64().expect("a number");
        assert!((1..1_000_000_000).contains(&acknowledged), "{done}");
    }
}

#[test]
fn a_broker_that_goes_away_is_a_failure_with_the_result_so_far() {
    let mut broker = Mosquitto::start_fast();
    let quick = ["--retry-attempts", "1", "--retry-base", "1ms"];
    let running = under_way(&broker, &quick);
    broker.kill();
    let done = running.finish();
    done.expect_code(1);
    let report = report(&done);
    assert_eq!(report["success"], false, "{done}");
    assert_eq!(report["interrupted"], false, "{done}");
    let error = report["error"].as_str().expect("a reason");
    assert!(error.contains("nothing listens on that port"), "{done}");
    assert!(!error.contains("--window"), "{done}");
}

#[test]
fn an_interrupt_before_there_is_a_connection_ends_it_at_once() {
    let closed = ClosedPort::hold();
    let mut running = Program::new()
        .args(["bench", "-v", "--endpoint", &closed.endpoint()])
        .args(["--retry-for", "0", "--connect-interval", "0"])
        .args(["--retry-base", "1ms", "--retry-max", "1ms"])
        .args(arguments())
        .spawn();
    running.wait_for_line("trying again");
    running.signal("INT");
    running.wait_for_line("interrupted");
    let done = running.finish();
    done.expect_code(130);
    let (_, after) = done.stderr.split_once("interrupted").expect("that line");
    let attempts = after.matches("trying again").count();
    assert!(attempts < 100, "{attempts} more attempts in five seconds");
}

#[test]
fn a_broker_that_drops_what_it_acknowledged_is_told_with_a_remedy() {
    let mut broker = Mosquitto::start_fast();
    broker.restart_with("max_queued_messages 1\nmax_inflight_messages 1");
    let more = ["--receive", "--messages", "3000", "--ack-timeout", "1s"];
    let done = json(&broker, &more).run();
    let report = report(&done);
    assert_eq!(report["acknowledged"], 3_000, "{done}");
    // In MQTT 5 it states a receive maximum of 1, so that no more than one message is on its way to it [MQTT-3.3.4-7].
    // It depends on the speed of both sides whether it drops any.
    if suite() == Protocol::V5 && report["lost"] == 0 {
        expect_all_back(&done, 3_000);
        return;
    }
    done.expect_code(1);
    assert!(report["lost"].as_u64() > Some(0), "{done}");
    let error = report["error"].as_str().expect("a reason");
    assert!(error.contains("the broker acknowledged each"), "{done}");
    assert!(error.contains("max_queued_messages"), "{done}");
    assert!(!error.contains("--window"), "it was at its default: {done}");
}

#[test]
fn a_stock_mosquitto_loses_nothing_with_the_defaults() {
    let broker = Mosquitto::start_stock();
    let done = json(&broker, &["--receive", "--messages", "20000"]).run();
    expect_all_back(&done, 20_000);
}

/// Reads so many PUBLISHes and acknowledges each. PUBACKs may come between them.
#[track_caller]
fn acknowledge(link: &mut Connection, count: usize) -> Vec<v4::Publish> {
    let mut published = Vec::new();
    while published.len() < count {
        match link.read_event(HANG) {
            Event::Packet(v4::Packet::Publish(publish), _) => {
                link.send_puback(publish.pkid);
                published.push(publish);
            }
            Event::Packet(v4::Packet::PubAck(_), _) => {}
            other => panic!("{other:?} after {} messages", published.len()),
        }
    }
    published
}

#[test]
fn only_some_hundred_messages_are_acknowledged_and_not_received_unless_asked_for() {
    for (window, most) in [(None, 500), (Some("10"), 500), (Some("1200"), 1200)] {
        let mut broker = ScriptedBroker::speaking(suite());
        let program = Program::new().args(["bench", "--receive", "--messages", "3000"]);
        let program = program.args(["--endpoint", &broker.endpoint()]);
        let program = program.args(arguments());
        let window = window.into_iter().flat_map(|window| ["--window", window]);
        let program = program.args(window).spawn();
        let (mut link, _) = broker.accept_client(false);
        let subscribe = link.expect_subscribe();
        link.grant(&subscribe);
        let published = acknowledge(&mut link, most);
        link.expect_silence(Duration::from_millis(200));
        // For each that arrives, another one goes out.
        for (id, mut publish) in (1..=10).zip(published) {
            publish.pkid = id;
            link.send_packet(v4::Packet::Publish(publish));
        }
        acknowledge(&mut link, 10);
        program.signal("INT");
        link.read_until("DISCONNECT", |packet| {
            (*packet == v4::Packet::Disconnect).then_some(())
        });
        link.close();
        program.finish().expect_code(130);
    }
}

#[test]
fn qos_0_on_a_connection_that_is_lost_is_no_success() {
    let mut broker = Mosquitto::start_fast();
    // The broker resets a connection on which a larger packet comes. Nothing tells which messages it has
    // received.
    broker.restart_with("max_packet_size 1000");
    let more = ["--qos", "0", "--payload-size", "2000", "--messages", "100"];
    let done = json(&broker, &more).run();
    done.expect_code(1);
    let report = report(&done);
    assert_eq!(report["success"], false, "{done}");
    assert!(report["error"].is_string(), "{done}");
}

#[test]
fn the_first_message_that_fails_ends_it() {
    let mut broker = Mosquitto::start_fast();
    broker.restart_with("max_packet_size 1000");
    // The broker closes each link. A message ends before the loop runs out of attempts, however few there are: of
    // QoS 2 with the session, which is a clean one, and of QoS 1 once it was tried alone.
    let cases = [
        ("2", "50", "the broker lost the session"),
        ("2", "1", "the broker lost the session"),
        ("1", "1", "also where it was sent alone"),
    ];
    for (qos, attempts, told) in cases {
        let more = [
            "--qos",
            qos,
            "--payload-size",
            "2000",
            "--connect-interval",
            "0",
            "--retry-base",
            "1ms",
            "--retry-max",
            "1ms",
            "--retry-attempts",
            attempts,
        ];
        let done = json(&broker, &more).run();
        done.expect_code(1);
        let report = report(&done);
        if qos == "2" {
            assert_eq!(report["window"], 20, "Mosquitto takes no more: {done}");
        }
        assert_eq!(report["acknowledged"], 0, "{done}");
        let published = report["published"].as_u64().expect("a number");
        assert!(published < 5_000, "{done}");
        let error = report["error"].as_str().expect("a reason");
        if suite() == Protocol::V5 {
            // Its CONNACK states the limit, so nothing above it is sent [MQTT-3.2.2-15].
            let told = "a message was never sent: a packet above the broker's maximum packet size; \
                lower --payload-size or shorten --topic-prefix, or have the broker allow larger packets";
            assert_eq!(error, told, "{done}");
            continue;
        }
        assert!(error.contains(told), "{done}");
        assert!(error.contains("lower --payload-size"), "{done}");
        // The library's line about the last connection.
        assert!(error.contains("the connection was lost after "), "{done}");
        let lacks_qos_2 = error.contains("use --qos 1 if the broker has no QoS 2");
        assert_eq!(lacks_qos_2, qos == "2", "{done}");
    }
}

#[test]
fn no_connection_and_a_refusal_end_it_as_they_end_the_demo() {
    let closed = ClosedPort::hold();
    let done = Program::new()
        .args(["bench", "--endpoint", &closed.endpoint()])
        .args(["--retry-attempts", "1", "--retry-base", "1ms", "-q"])
        .args(arguments())
        .run();
    done.expect_code(3);
    assert_eq!(done.stdout, "", "{done}");
    assert!(done.stderr.contains("nothing listens on"), "{done}");

    let broker = Mosquitto::start_with_user("somebody", "secret");
    let done = bench(&broker, &["--username", "nobody", "-q"]).run();
    done.expect_code(4);
    assert_eq!(done.stdout, "", "{done}");
}

#[test]
fn wrong_flags_say_where_they_belong() {
    let demo = ["--endpoint", "mqtt://127.0.0.1:1"];
    for (arguments, phrases) in [
        (
            &["bench", "--iterations", "1"][..],
            &[
                "--iterations",
                "a flag of the demo, not of bench",
                "bench --help",
            ][..],
        ),
        (
            &["bench", "--max-inflight", "10"],
            &["--max-inflight", "of the demo", "use --window"],
        ),
        (
            &["bench", "--publish-count", "10"],
            &["--publish-count", "use --messages"],
        ),
        (
            &["--threads", "4"],
            &["--threads", "the commands bench and pub", "bench --threads"],
        ),
        (
            &["--receive"],
            &["--receive", "the command bench, not of the demo"],
        ),
        (&["-v", "bench"], &["bench has to come first"]),
        (
            &["bench", "--threads", "0"],
            &["--threads", "use 1 to 10000"],
        ),
        (&["bench", "--window", "0"], &["--window", "use 1 to 65535"]),
        (&["bench", "--window", "65536"], &["--window", "65535"]),
        (
            &["bench", "--messages", "0"],
            &["--messages", "use 1 to 1000000000"],
        ),
        (&["bench", "--mode", "fast"], &["--mode", "async", "sync"]),
        (&["bench", "--qos", "3"], &["--qos", "use 0, 1 or 2"]),
        (
            &["bench", "--payload-size", "256MiB"],
            &["--payload-size", "more than a packet can have"],
        ),
        (
            &[
                "bench",
                "--receive",
                "--payload-size",
                "1MiB",
                "--max-packet-size",
                "1MiB",
            ],
            &["--payload-size", "raise --max-packet-size"],
        ),
        (&["bench", "extra"], &["argument 2", "belongs to no flag"]),
    ] {
        let done = Program::new().args(arguments).args(demo).run();
        done.expect_code(2);
        assert_eq!(done.stdout, "", "{done}");
        for phrase in phrases {
            assert!(done.stderr.contains(phrase), "no {phrase:?}: {done}");
        }
    }
}

#[test]
fn each_help_shows_its_own_flags() {
    let help = |arguments: &[&str]| {
        let done = Program::new().args(arguments).run();
        done.expect_code(0);
        done.stdout
    };
    let (demo, bench) = (help(&["demo", "--help"]), help(&["bench", "--help"]));
    for flag in ["--mode", "--threads", "--messages", "--window", "--receive"] {
        assert!(bench.contains(&format!("  {flag}")), "{flag}: {bench}");
        assert!(!demo.contains(&format!("  {flag}")), "{flag}: {demo}");
    }
    for flag in ["--iterations", "--publish-count", "--max-inflight <"] {
        assert!(demo.contains(&format!("  {flag}")), "{flag}: {demo}");
        assert!(!bench.contains(&format!("  {flag}")), "{flag}: {bench}");
    }
    for text in [
        "--endpoint",
        "--cert",
        "--ack-timeout",
        "--output",
        "Exit status:",
    ] {
        assert!(bench.contains(text), "{text}: {bench}");
    }
    assert!(
        bench.contains("Usage: mqtt-connection-sharing bench "),
        "{bench}"
    );
}
