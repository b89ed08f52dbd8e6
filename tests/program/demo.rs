//! The demo from outside, without faults: against a real Mosquitto over mutual TLS. The tests look at
//! its exit status, its two streams, and its messages as the broker and a second client see them.
//!
//! With MQTT 5: `SUITE_MQTT=5 cargo test --test program demo::`

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;

use crate::support::versions::{arguments, suite};
use crate::support::{
    Connection, Event, Finished, HANG, Mosquitto, Program, Report, ScriptedBroker, wait_for,
};
use mqtt_connection_sharing::Protocol;
use rumqttc::mqttbytes::{QoS, v4};

/// Arguments for two quick iterations and a report as JSON.
const QUICK: [&str; 10] = [
    "--iterations",
    "2",
    "--iteration-delay",
    "0",
    "--connect-interval",
    "0",
    "--publish-delay",
    "1ms",
    "--output",
    "json",
];

/// The program with the client's certificate and [`QUICK`]; tests add further arguments.
fn quick(broker: &Mosquitto) -> Program {
    Program::new().args(broker.arguments()).args(QUICK)
}

/// The same with a single iteration: clap takes a setting once.
fn once(broker: &Mosquitto) -> Program {
    let rest = &QUICK[2..];
    let program = Program::new().args(broker.arguments()).args(rest);
    program.args(["--iterations", "1"])
}

/// Checks that every line on standard error is a line of the log.
#[track_caller]
fn expect_only_logs(finished: &Finished) {
    assert!(!finished.stderr.is_empty(), "no log: {finished}");
    for line in finished.stderr.lines() {
        let logged = line.starts_with("20")
            && ["Z ERROR ", "Z WARN  ", "Z INFO  ", "Z DEBUG "]
                .iter()
                .any(|level| line.contains(level));
        assert!(logged, "not of the log: {line:?}");
    }
}

/// A second client that sees every message.
fn observer(broker: &Mosquitto) -> Connection<impl crate::support::scripted::Stream> {
    let mut observer = broker.client("observer", true);
    let mut subscribe = v4::Subscribe::new("#", QoS::ExactlyOnce);
    subscribe.pkid = 1;
    observer.send_packet(v4::Packet::Subscribe(subscribe));
    observer.expect_suback();
    observer
}

/// Topics and payloads of the next messages, and their quality of service, which must be the same for
/// all.
fn seen<S: crate::support::scripted::Stream>(
    observer: &mut Connection<S>,
    count: usize,
) -> (BTreeMap<String, String>, QoS) {
    let messages: Vec<v4::Publish> = (0..count).map(|_| observer.expect_publish()).collect();
    let qos = messages[0].qos;
    assert!(messages.iter().all(|m| m.qos == qos), "{messages:?}");
    let text = |m: v4::Publish| (m.topic, String::from_utf8_lossy(&m.payload).into_owned());
    (messages.into_iter().map(text).collect(), qos)
}

/// The clean session flag of each CONNECT, in order, by the broker's log.
fn clean_flags(broker: &Mosquitto, id: &str) -> Vec<bool> {
    let log = broker.log();
    let connects = log
        .lines()
        .filter(|line| line.contains("New client connected") && line.contains(&format!(" {id} ")));
    connects.map(|line| line.contains(", c1,")).collect()
}

#[test]
fn the_default_run_shortened_succeeds_and_reports_it() {
    let broker = Mosquitto::start();
    let done = quick(&broker).args(["--client-id", "demo"]).run();
    done.expect_code(0);
    expect_only_logs(&done);
    let report = Report::of(&done);
    assert!(report.success);
    assert_eq!(report.iterations, 2);
    for (run, number) in report.runs.iter().zip(1..) {
        run.expect_smooth(8);
        assert_eq!(run.iteration, number);
        // Each publisher sends four messages, with pauses between them.
        assert!(run.elapsed_ms >= 3, "{run:?}");
    }
    // The session is cleared at the beginning and at the end, and persistent in between: in MQTT 5 on later links of the
    // same iteration alone, because the next one has no state of it [MQTT-3.1.2-4] [MQTT-3.2.2-4].
    let between = suite() == Protocol::V5;
    assert_eq!(clean_flags(&broker, "demo"), [true, between, between, true]);
}

#[test]
fn text_has_a_block_for_each_iteration_and_a_summary() {
    let broker = Mosquitto::start();
    let arguments = &QUICK[..QUICK.len() - 2];
    let done = Program::new().args(broker.arguments()).args(arguments);
    let done = done.run();
    done.expect_code(0);
    expect_only_logs(&done);
    let lines: Vec<&str> = done.stdout.lines().collect();
    let (summary, blocks) = lines.split_last().expect("a line");
    assert_eq!(*summary, "success: all 2 iterations succeeded");
    let (first, second) = blocks.split_at(6);
    assert!(first[0].starts_with("iteration 1: ok in "), "{done}");
    assert!(
        first[0].ends_with(" over 1 connection (session new)"),
        "{done}"
    );
    assert!(second[0].starts_with("iteration 2: ok in "), "{done}");
    let session = match suite() {
        // It has no state of the first one [MQTT-3.2.2-4].
        Protocol::V5 => "(session new)",
        _ => "(session resumed)",
    };
    assert!(second[0].ends_with(session), "{done}");
    for block in [first, second] {
        let [_, sync, asynchronous, subscriber, shared, connection] = *block else {
            panic!("expected six lines: {done}")
        };
        assert!(
            sync.starts_with("  sync publisher    4 acknowledged, median "),
            "{done}"
        );
        let own = "  async publisher   4 acknowledged, median ";
        assert!(asynchronous.starts_with(own), "{done}");
        let all = "  subscriber        8 of 8 received; nothing lost, repeated or out of order";
        assert_eq!(subscriber, all, "{done}");
        assert!(shared.starts_with("  shared            at most "), "{done}");
        assert!(connection.contains(" packets out in "), "{done}");
        assert!(connection.contains(" TLS records, "), "{done}");
    }
    for line in lines {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn topics_payloads_and_each_quality_of_service_are_as_documented() {
    let broker = Mosquitto::start();
    for (level, qos) in [
        ("0", QoS::AtMostOnce),
        ("1", QoS::AtLeastOnce),
        ("2", QoS::ExactlyOnce),
    ] {
        let mut observer = observer(&broker);
        let done = once(&broker).args(["--qos", level]).run();
        done.expect_code(0);
        Report::of(&done).only_run().expect_smooth(8);
        let (messages, of_all) = seen(&mut observer, 8);
        assert_eq!(of_all, qos);
        let mut expected = BTreeMap::new();
        for index in 0..4 {
            for (topic, name) in [("sync", "Sync"), ("async", "Async")] {
                let payload = format!("Hello World! {name}: {index}");
                expected.insert(format!("filter/{topic}/{index}"), payload);
            }
        }
        assert_eq!(messages, expected);
    }
}

#[test]
fn each_kind_of_key_works() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    for (kind, identity) in [
        ("PKCS#8, elliptic curve", certs.client().clone()),
        ("PKCS#8, RSA", certs.rsa_pkcs8_client().clone()),
        ("PKCS#1", certs.pkcs1_client().clone()),
        ("SEC1", certs.sec1_client()),
    ] {
        let program = Program::new().args(broker.arguments_as(&identity));
        let done = program.args(QUICK).run();
        assert_eq!(done.status.code(), Some(0), "{kind}: {done}");
        Report::of(&done).runs[0].expect_smooth(8);
    }
}

#[test]
fn an_archive_works_with_its_password_in_a_file_or_in_the_environment() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let password = certs.file("archive-password");
    fs::write(&password, "open sesame\n").expect("a password file");
    let archive = certs.pkcs12_client("open sesame");
    let with_archive = || {
        let without_pair = &broker.arguments()[..4];
        let program = Program::new().args(without_pair).args(arguments());
        program.args(QUICK).arg("--pkcs12").arg(&archive)
    };
    let by_file = with_archive().arg("--pkcs12-password-file").arg(&password);
    let by_variable = with_archive().env("MQTT_PKCS12_PASSWORD", "open sesame");
    for program in [by_file, by_variable] {
        let done = program.run();
        done.expect_code(0);
        Report::of(&done).runs[1].expect_smooth(8);
        assert!(!done.stderr.contains("sesame"), "{done}");
    }
}

/// A Mosquitto without settings of its own takes 20 messages of QoS 2 at a time, and closes the connection or is
/// silent on more.
#[test]
fn qos_2_passes_with_defaults_on_both_sides() {
    let mut broker = Mosquitto::start_fast();
    for queued in ["max_queued_messages 1000", "max_queued_messages 0"] {
        broker.restart_with(&format!("max_inflight_messages 20\n{queued}"));
        let run = Program::new().args(broker.arguments()).args(["--qos", "2"]);
        let run = run.args(["--publish-count", "600", "--publish-delay", "0"]);
        let done = run.args(["--iterations", "1", "--output", "json"]).run();
        done.expect_code(0);
        Report::of(&done).only_run().expect_smooth(600);
    }
}

#[test]
fn messages_are_padded_to_the_payload_size() {
    let broker = Mosquitto::start();
    let mut observer = observer(&broker);
    // Larger than a TLS record, so that reading it takes several reads.
    let done = once(&broker).args(["--payload-size", "40000"]).run();
    done.expect_code(0);
    Report::of(&done).only_run().expect_smooth(8);
    let (messages, _) = seen(&mut observer, 8);
    for (topic, payload) in messages {
        assert_eq!(payload.len(), 40_000, "{topic}");
        assert!(payload.starts_with("Hello World! "), "{topic}");
        assert!(payload.ends_with("..."), "{topic}");
    }
}

#[test]
fn a_retained_message_that_is_too_large_does_no_harm() {
    let broker = Mosquitto::start();
    let mut other = broker.client("other", true);
    let mut large = v4::Publish::new("mine/other/large", QoS::AtLeastOnce, vec![b'x'; 300_000]);
    (large.pkid, large.retain) = (1, true);
    other.send_packet(v4::Packet::Publish(large));
    other.expect_puback();
    let done = quick(&broker).args(["--topic-prefix", "mine"]).run();
    done.expect_code(0);
    let report = Report::of(&done);
    for run in &report.runs {
        run.expect_smooth(8);
    }
    if suite() == Protocol::V5 {
        // CONNECT states the limit, and the broker leaves out what is above it [MQTT-3.1.2-25].
        assert!(!done.stderr.contains("mine/other/large"), "{done}");
        return;
    }
    for part in ["mine/other/large", "--max-packet-size", "262144"] {
        assert!(done.stderr.contains(part), "no {part:?} in {done}");
    }
    // As before, where that is asked for.
    let close = ["--on-too-large", "close", "--retry-attempts", "1"];
    let done = quick(&broker).args(["--topic-prefix", "mine"]).args(close);
    let done = done.run();
    assert!(done.stderr.contains("max-packet-size"), "{done}");
    assert!(done.code() != 0, "{done}");
}

#[test]
fn the_synchronous_publisher_has_the_odd_message() {
    let broker = Mosquitto::start();
    for (count, synchronous) in [(1, 1), (2, 1), (7, 4)] {
        let mut observer = observer(&broker);
        let done = once(&broker).args(["--publish-count", &count.to_string()]);
        let done = done.args(["--topic-prefix", "team/odd"]).run();
        done.expect_code(0);
        Report::of(&done).only_run().expect_smooth(count as u64);
        let (messages, _) = seen(&mut observer, count);
        let of_sync = |topic: &&String| topic.starts_with("team/odd/sync/");
        assert_eq!(messages.keys().filter(of_sync).count(), synchronous);
        let of_both = |topic: &String| topic.starts_with("team/odd/");
        assert!(messages.keys().all(of_both), "{messages:?}");
    }
}

#[test]
fn clean_session_is_asked_for_at_each_connection() {
    let broker = Mosquitto::start();
    let done = quick(&broker).args(["--client-id", "clean", "--clean-session"]);
    let done = done.run();
    done.expect_code(0);
    Report::of(&done).runs[1].expect_smooth(8);
    let flags = clean_flags(&broker, "clean");
    // There is nothing to clear at the end.
    assert_eq!(flags, [true; 3], "{}", broker.log());
}

#[test]
fn quiet_says_nothing_on_standard_error() {
    let broker = Mosquitto::start();
    let done = quick(&broker).arg("-q").run();
    done.expect_code(0);
    assert_eq!(done.stderr, "");
    Report::of(&done).runs[0].expect_smooth(8);
}

#[test]
fn nobody_reading_the_output_is_no_error() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let gone = certs.file("gone");
    // The right side closes its end of the pipe and says so; only then the left side begins.
    let script = "mkfifo \"$GONE\" && \
        { read -r _ < \"$GONE\"; \"$@\"; echo \"status $?\" >&2; } | \
        { exec 0<&-; echo closed > \"$GONE\"; }";
    for output in ["text", "json"] {
        let shell = Program::other("sh").args(["-c", script, "sh"]);
        let program = shell.arg(env!("CARGO_BIN_EXE_mqtt-connection-sharing"));
        let arguments = &QUICK[..QUICK.len() - 2];
        let program = program.args(broker.arguments()).args(arguments);
        let done = program.args(["--output", output, "-v"]).env("GONE", &gone);
        let done = done.run();
        done.expect_code(0);
        assert!(!done.stderr.contains("panicked"), "{done}");
        assert!(done.stderr.contains("standard output is closed"), "{done}");
        assert!(done.stderr.ends_with("status 0\n"), "{done}");
        fs::remove_file(&gone).expect("the named pipe");
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let name = |file: &std::path::Path| {
        let name = file.file_name().expect("a file name");
        name.to_string_lossy().into_owned()
    };
    let pair = certs.client();
    // Paths in the file are relative to its folder.
    let text = format!(
        "endpoint = \"127.0.0.1:{}\"\nca-file = {:?}\ncert = {:?}\nkey = {:?}\n\
         client-id = \"of-the-file\"\ntopic-prefix = \"of-the-file\"\n\
         publish-count = 3\niterations = 3\npublish-delay = \"1ms\"\n\
         iteration-delay = 0\nconnect-interval = \"0\"\noutput = \"text\"\n",
        broker.port(),
        name(certs.ca()),
        name(&pair.cert),
        name(&pair.key),
    );
    let file = certs.file("settings.toml");
    fs::write(&file, text).expect("a settings file");
    let mut observer = observer(&broker);
    let program = Program::new().arg("--config").arg(&file).args(arguments());
    let program = program
        .env("MQTT_PUBLISH_COUNT", "5")
        .env("MQTT_ITERATIONS", "2")
        .env("MQTT_TOPIC_PREFIX", "of-the-environment")
        .env("MQTT_OUTPUT", "json");
    let done = program
        .args(["--iterations", "1", "--topic-prefix", "of-the-flag"])
        .run();
    done.expect_code(0);
    // One iteration comes from a flag, five messages and JSON from the environment, the rest from the
    // file.
    Report::of(&done).only_run().expect_smooth(5);
    let (messages, _) = seen(&mut observer, 5);
    assert!(
        messages.keys().all(|t| t.starts_with("of-the-flag/")),
        "{messages:?}"
    );
    assert_eq!(
        clean_flags(&broker, "of-the-file").len(),
        3,
        "{}",
        broker.log()
    );
}

#[cfg(target_os = "linux")]
#[test]
fn twenty_thousand_messages_come_back_in_the_memory_of_five_hundred() {
    // It drops messages for a subscriber that is 1,020 behind.
    let broker = Mosquitto::start_stock();
    let few = peak_kibibytes(&broker, 500);
    let many = peak_kibibytes(&broker, 20_000);
    eprintln!("{few} KiB for 500 messages, {many} KiB for 20,000");
    // Some hundred messages are on their way at one time. Kept payloads would be 20 MB more.
    let growth = many.saturating_sub(few);
    assert!(growth < 8 * 1024, "{growth} KiB more");
}

/// The most memory that the program ever held, as Linux tells it, once all messages are through.
#[cfg(target_os = "linux")]
fn peak_kibibytes(broker: &Mosquitto, count: u64) -> u64 {
    let program = Program::new().args(broker.arguments()).arg("-q");
    let program = program.args(["--publish-count", &count.to_string()]);
    // The pause after the first iteration is the moment to read it.
    let waiting = ["--iterations", "2", "--iteration-delay", "1h"];
    let program = program.args(waiting).args(["--publish-delay", "0"]);
    let program = program.args(["--payload-size", "1000"]);
    // Seconds on an idle machine, but perhaps minutes on a busy one.
    let limit = 20 * HANG;
    let running = program.limit(limit).spawn();
    // The block is written at once.
    let block = wait_for("the first iteration's result", limit, || {
        let so_far = running.stdout();
        so_far.contains("\n  connection ").then_some(so_far)
    });
    assert!(block.starts_with("iteration 1: ok in "), "{block}");
    let all = format!(" {count} of {count} received; nothing lost, ");
    assert!(block.contains(&all), "{block}");
    let status = fs::read_to_string(format!("/proc/{}/status", running.id()));
    let status = status.expect("the process's status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse().ok());
    running.signal("INT");
    let done = running.finish();
    done.expect_code(130);
    assert!(done.stdout.ends_with("\nsuccess\n"), "{done}");
    peak.unwrap_or_else(|| panic!("no VmHWM in {status}"))
}

/// Messages of QoS 0 without a pause.
const AT_FULL_SPEED: [&str; 6] = [
    "--qos",
    "0",
    "--publish-delay",
    "0s",
    "--publish-count",
    "2000",
];

/// No message of QoS 0 is sent again, so the program makes room for all of them.
#[test]
fn quality_of_service_0_at_full_speed_finds_room() {
    let broker = Mosquitto::start_fast();
    let done = once(&broker).args(AT_FULL_SPEED).run();
    done.expect_code(0);
    let report = Report::of(&done);
    let run = report.only_run();
    assert_eq!(
        (run.received, run.lost, run.dropped),
        (2000, 0, 0),
        "{run:?}"
    );
}

/// An inbox of one place: it depends on the speed of two threads how much is dropped, and on nothing how it is told.
#[test]
fn messages_that_find_no_room_in_the_inbox_are_dropped_and_not_lost() {
    let broker = Mosquitto::start_fast();
    let done = once(&broker)
        .args(AT_FULL_SPEED)
        .args(["--inbox", "1"])
        .run();
    let report = Report::of(&done);
    let run = report.only_run();
    assert_eq!((run.received + run.dropped, run.lost), (2000, 0), "{run:?}");
    assert_eq!(run.success, run.dropped == 0, "{run:?}");
    if run.dropped > 0 {
        let told = match run.dropped {
            1 => "1 message of QoS 0 was dropped".to_owned(),
            many => format!("{many} messages of QoS 0 were dropped"),
        };
        let dropped = format!(
            "no message for 3 s: {} of 2000 received; the inbox was full and {told}, ",
            run.received
        );
        let error = run.error.as_deref().expect("a reason");
        assert!(error.starts_with(&dropped), "{error}");
    }
}

/// A broker that passes nothing on: the verdict does not wait as long as for an acknowledgment.
#[test]
fn quality_of_service_0_is_judged_soon_after_the_last_message() {
    let broker = ScriptedBroker::speaking(suite());
    let endpoint = broker.endpoint();
    let script = broker.in_thread(|mut broker| {
        while let Some(mut link) = broker.accept_within(HANG) {
            link.expect_connect();
            link.send_connack(v4::ConnectReturnCode::Success, false);
            let mut runs = false;
            loop {
                match link.read_event(HANG) {
                    Event::Packet(v4::Packet::Subscribe(subscribe), _) => {
                        runs = true;
                        link.grant(&subscribe);
                    }
                    Event::Packet(v4::Packet::PingReq, _) => link.send_packet(v4::Packet::PingResp),
                    Event::Packet(v4::Packet::Disconnect, _) | Event::Closed => break,
                    _ => {}
                }
            }
            if runs {
                break;
            }
        }
    });
    let flags = ["--endpoint", &endpoint, "--qos", "0", "--clean-session"];
    let done = Program::new()
        .args(&QUICK[2..])
        .args(flags)
        .args(arguments())
        .args(["--iterations", "1"])
        .run();
    done.expect_code(1);
    let report = Report::of(&done);
    let run = report.only_run();
    assert_eq!(
        (run.acknowledged, run.lost, run.dropped),
        (8, 8, 0),
        "{run:?}"
    );
    assert_eq!(
        run.error.as_deref(),
        Some(
            "no message for 3 s: 0 of 8 received; QoS 0 may be lost, use --qos 1 or raise \
             --publish-delay"
        )
    );
    script.join().expect("the broker's script");
}
