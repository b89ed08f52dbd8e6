//! The program against brokers that refuse CONNECT, say nothing, hang up, or are no brokers at all: the
//! error line, the exit status, and whether the program tries again. A scripted broker counts the
//! connections.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::io::Read;
use std::time::Duration;

use crate::support::refusal::expect_one_line;
use crate::support::running::{message, send_at_once, send_unsuback};
use crate::support::scripted::Event;
use crate::support::{Connection, Finished, HANG, Program, Report, ScriptedBroker};
use rumqttc::mqttbytes::v4::{self, ConnectReturnCode};

/// Runs the program against a broker that treats each connection the same way. Returns how the program
/// ended and how many connections it made.
fn against(
    arguments: &[&str],
    plain: bool,
    treat: impl Fn(Connection) + Send + 'static,
) -> (Finished, usize) {
    let broker = ScriptedBroker::bind();
    let prefix = if plain { "mqtt://" } else { "" };
    let endpoint = format!("{prefix}127.0.0.1:{}", broker.port());
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let script = broker.in_thread(move |mut broker| {
        // Accepts until the program has ended, and then the connections that still wait.
        loop {
            let is_over = end.try_recv().is_ok();
            match broker.accept_within(Duration::from_millis(20)) {
                Some(connection) => treat(connection),
                None if is_over => return broker.shutdown().len(),
                None => {}
            }
        }
    });
    let program = Program::new().args(arguments);
    let done = program.args(["--endpoint", &endpoint]).run();
    ended.send(()).expect("a script that runs");
    (done, script.join().expect("the script"))
}

/// Arguments for two more attempts.
const TWICE_MORE: [&str; 8] = [
    "--retry-attempts",
    "2",
    "--retry-base",
    "1ms",
    "--retry-max",
    "1ms",
    "--connect-interval",
    "0",
];

/// A broker that grants this QoS and answers a PUBLISH with PUBACK, or closes the link where one of QoS 2 comes.
fn without_qos_2(mut link: Connection, granted: u8, closes: bool) {
    while let Event::Packet(packet, _) = link.read_event(HANG) {
        match packet {
            v4::Packet::Connect(connect) => {
                link.send(&[0x20, 2, u8::from(!connect.clean_session), 0]);
            }
            v4::Packet::PingReq => link.send_packet(v4::Packet::PingResp),
            v4::Packet::Subscribe(subscribe) => {
                let [high, low] = subscribe.pkid.to_be_bytes();
                link.send(&[0x90, 3, high, low, granted]);
            }
            v4::Packet::Unsubscribe(unsubscribe) => send_unsuback(&mut link, unsubscribe.pkid),
            v4::Packet::PubRel(release) => {
                link.send_packet(v4::Packet::PubComp(v4::PubComp::new(release.pkid)));
            }
            v4::Packet::Publish(_) if closes => return,
            v4::Packet::Publish(message) => link.send_puback(message.pkid),
            _ => {}
        }
    }
}

/// RabbitMQ answers QoS 2 with PUBACK, and grants QoS 1 where 2 was asked for.
#[test]
fn a_broker_that_answers_qos_2_as_qos_1_is_told_at_once_with_the_remedy() {
    let ended = "the broker answered QoS 2 with PUBACK, as for QoS 1; use --qos 1 with it";
    let granted = "the broker granted QoS 1, and QoS 2 was asked for: use --qos 1";
    let bench = ["bench", "--qos", "2", "--messages", "10"];
    let demo = ["--qos", "2", "--iterations", "1", "--publish-delay", "0"];
    for (arguments, qos, expected) in [
        (&bench[..], 2, ended),
        (&demo, 2, ended),
        (&[&bench[..], &["--receive"]].concat(), 1, granted),
        (&demo, 1, granted),
    ] {
        let arguments = [arguments, &["--connect-interval", "0"]].concat();
        let treat = move |link: Connection| without_qos_2(link, qos, false);
        let (done, _) = against(&arguments, true, treat);
        done.expect_code(1);
        assert!(done.unfolded().contains(expected), "{expected}: {done}");
        assert!(
            done.stdout.lines().all(|line| line.chars().count() <= 80),
            "{done}"
        );
        assert!(!done.stderr.contains(" lost after "), "{done}");
    }
}

/// NATS closes the link.
#[test]
fn a_broker_that_closes_the_link_on_qos_2_is_told_with_the_remedy() {
    let bench = ["bench", "--qos", "2", "--messages", "10"];
    let demo = ["--qos", "2", "--publish-count", "1", "--iterations", "1"];
    for arguments in [&bench[..], &demo] {
        let treat = |link: Connection| without_qos_2(link, 2, true);
        let quickly = &TWICE_MORE[2..];
        let (done, _) = against(&[arguments, quickly].concat(), true, treat);
        done.expect_code(1);
        let seen = "no message of QoS 2 was ever answered; use --qos 1 if the broker has no QoS 2";
        assert!(done.stderr.contains(seen), "{done}");
        assert!(done.unfolded().contains("use --qos 1"), "{done}");
        assert!(!done.stderr.contains("likely"), "{done}");
    }
}

/// Runs the program once quietly for the error line, and once with the log for the retries in it.
#[track_caller]
fn check_attempts<T: Fn(Connection) + Clone + Send + 'static>(
    cause: &str,
    more: &[&str],
    plain: bool,
    treat: T,
    (status, attempts): (i32, usize),
    phrases: &[&str],
) {
    let quiet = [&TWICE_MORE, more, &["-q"]].concat();
    let (done, connections) = against(&quiet, plain, treat.clone());
    assert_eq!(done.status.code(), Some(status), "{cause}: {done}");
    expect_one_line(cause, &done, phrases);
    assert_eq!(connections, attempts, "{cause}: {done}");

    // Each attempt is told.
    let (done, connections) = against(&[&TWICE_MORE, more, &["-v"]].concat(), plain, treat);
    assert_eq!(done.status.code(), Some(status), "{cause}: {done}");
    assert_eq!(connections, attempts, "{cause}: {done}");
    let announced = done.stderr.matches("; trying again in ").count();
    assert_eq!(announced, attempts - 1, "{cause}: {done}");
}

#[test]
fn each_refusal_of_connect_has_its_words_and_only_the_passing_one_is_tried_again() {
    use ConnectReturnCode::{
        BadClientId, BadUserNamePassword, NotAuthorized, RefusedProtocolVersion, ServiceUnavailable,
    };
    for (code, attempts, phrases) in [
        (
            RefusedProtocolVersion,
            1,
            [
                "does not speak MQTT 3.1.1 (return code 1)",
                "; use MQTT 5 (--mqtt)",
            ],
        ),
        (
            BadClientId,
            1,
            [
                "client identifier \"me\" (return code 2)",
                "; give another one with --client-id",
            ],
        ),
        (
            ServiceUnavailable,
            3,
            ["its service is not (return code 3)", "; try again later"],
        ),
        (
            BadUserNamePassword,
            1,
            [
                "user name or password (return code 4), and none was given",
                "; give --username and --password-file",
            ],
        ),
        (
            NotAuthorized,
            1,
            [
                "refused access (return code 5)",
                "; give --username and --password-file if the broker wants them; else see what it allows",
            ],
        ),
    ] {
        let treat = move |mut connection: Connection| {
            connection.expect_connect();
            connection.send_connack(code, false);
            connection.expect_closed();
        };
        let cause = format!("{code:?}");
        let me = ["--client-id", "me"];
        let phrases = [&["connecting to 127.0.0.1:"], &phrases[..]].concat();
        check_attempts(&cause, &me, true, treat, (4, attempts), &phrases);
    }
}

#[test]
fn a_broker_that_says_nothing_is_tried_again() {
    let treat = |mut connection: Connection| {
        connection.expect_connect();
        connection.expect_closed();
    };
    let limit = ["--connect-timeout", "500ms"];
    let phrases = [
        "connecting to 127.0.0.1:",
        "did not answer CONNECT in time",
        "; check",
        "--connect-timeout",
    ];
    check_attempts("silence", &limit, true, treat, (3, 3), &phrases);
    // With TLS the handshake does not end.
    let hello = |mut connection: Connection| {
        let mut all = Vec::new();
        // Ends when the program gives up, however it closes the connection.
        let _ = connection.stream().read_to_end(&mut all);
        assert!(!all.is_empty());
    };
    let phrases = [
        "TLS handshake with 127.0.0.1:",
        "no end within 500ms",
        "; check",
        "--connect-timeout",
    ];
    check_attempts("silence, TLS", &limit, false, hello, (3, 3), &phrases);
}

#[test]
fn a_broker_that_hangs_up_is_tried_again() {
    let phrases = [
        "connecting to 127.0.0.1:",
        "before answering CONNECT",
        "; see the broker's log",
    ];
    let at_once = |connection: Connection| connection.close();
    check_attempts("accept, then close", &[], true, at_once, (3, 3), &phrases);
    let after_connect = |mut connection: Connection| {
        connection.expect_connect();
        connection.close();
    };
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    std::fs::write(&password, "hunter2").expect("a password file");
    let password = password.to_str().expect("a path");
    for (given, told) in [
        (
            &["--username", "me", "--password-file", password][..],
            "it may not accept --username and --password-file, or the port may expect TLS",
        ),
        (
            &["--username", "me"],
            "it may not accept --username without a password, or the port may expect TLS",
        ),
        (&[], "see the broker's log: the port may expect TLS"),
    ] {
        let phrases = [&phrases[..2], &["; ", told]].concat();
        let cause = format!("close at CONNECT, {given:?}");
        check_attempts(&cause, given, true, after_connect, (3, 3), &phrases);
    }
    check_attempts(
        "close at CONNECT",
        &[],
        true,
        after_connect,
        (3, 3),
        &phrases,
    );
    let phrases = [
        "TLS handshake with 127.0.0.1:",
        "; check the port",
        "(usually 8883 with TLS, 1883 without)",
    ];
    check_attempts("close at once, TLS", &[], false, at_once, (3, 3), &phrases);
}

#[test]
fn a_server_that_is_no_broker_has_its_error() {
    let http = |mut connection: Connection| {
        connection.expect_connect();
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        connection.expect_closed();
    };
    let phrases = [
        "connecting to 127.0.0.1:",
        "in answer to CONNECT",
        "; check that the port is an MQTT broker's",
    ];
    check_attempts("another protocol", &[], true, http, (3, 3), &phrases);
    let named = [
        "a web server answers on that port (it sent \"HTTP/1.1 400 Bad\")",
        "; check that the port is an MQTT broker's",
    ];
    check_attempts("a web server", &[], true, http, (3, 3), &named);
    let tls = |mut connection: Connection| {
        connection.expect_connect();
        // A TLS server answers bytes that are no handshake with this fatal alert.
        connection.send(&[0x15, 3, 3, 0, 2, 2, 70]);
        connection.expect_closed();
    };
    let named = [
        "the port speaks TLS, in answer to CONNECT",
        "; change mqtt:// in --endpoint, which is without TLS",
    ];
    check_attempts("a TLS port", &[], true, tls, (3, 3), &named);
    let early = |mut connection: Connection| {
        connection.expect_connect();
        connection.send(&[0x40, 2, 0, 1]);
        connection.expect_closed();
    };
    check_attempts("another packet", &[], true, early, (3, 3), &phrases);
    // The first connection clears the session, so the broker cannot have one.
    let present = |mut connection: Connection| {
        assert!(connection.expect_connect().clean_session);
        connection.send_connack(ConnectReturnCode::Success, true);
        connection.expect_closed();
    };
    let phrases = [
        "connecting to 127.0.0.1:",
        "session present",
        "in answer to CONNECT",
    ];
    check_attempts(
        "a session after clean session",
        &[],
        true,
        present,
        (3, 3),
        &phrases,
    );
    // A server that does not speak TLS will not do so a moment later, so the program does not try again.
    let plain = |mut connection: Connection| {
        // The first message of the handshake was read, so that closing cannot overtake the answer.
        let read = connection.stream().read(&mut [0; 512]);
        assert!(read.expect("the handshake") > 0);
        connection.send(b"no TLS here, and this is more than one record header\r\n");
        connection.close();
    };
    let phrases = [
        "TLS handshake with 127.0.0.1:",
        "does not speak TLS",
        "; check the port",
        "(usually 8883 with TLS, 1883 without)",
    ];
    check_attempts("no TLS", &[], false, plain, (3, 1), &phrases);
}

/// Echoes each publish until DISCONNECT. Sends `bad` in place of the first acknowledgment.
fn echo(link: &mut Connection, bad: Option<&[u8]>) {
    let mut id = 0;
    loop {
        match link.read_packet() {
            v4::Packet::Subscribe(subscribe) => link.grant(&subscribe),
            v4::Packet::Unsubscribe(unsubscribe) => {
                send_unsuback(link, unsubscribe.pkid);
            }
            v4::Packet::Publish(publish) => {
                if let Some(bad) = bad {
                    link.send(bad);
                    return;
                }
                link.send_puback(publish.pkid);
                id += 1;
                let payload = std::str::from_utf8(&publish.payload).expect("a text");
                send_at_once(link, [message(&publish.topic, id, payload)]);
            }
            v4::Packet::PingReq => link.send_packet(v4::Packet::PingResp),
            v4::Packet::Disconnect => return,
            _ => {}
        }
    }
}

#[test]
fn the_program_survives_a_violation_and_says_so_in_one_line() {
    let mut broker = ScriptedBroker::bind();
    let running = Program::new()
        .args(["--endpoint", &broker.endpoint(), "--output", "json"])
        .args(["--iterations", "1", "--publish-count", "8"])
        .args(["--publish-delay", "0", "--connect-interval", "0"])
        .args(["--retry-base", "1ms", "--retry-max", "1ms"])
        .spawn();
    let clear = |broker: &mut ScriptedBroker| {
        let (mut link, connect) = broker.accept_client(false);
        assert!(connect.clean_session);
        echo(&mut link, None);
    };
    clear(&mut broker);
    let (mut link, _) = broker.accept_client(false);
    echo(&mut link, Some(b"\x40\x02\x00\x00"));
    // The messages published meanwhile are still to be read.
    link.read_until_closed();
    let (mut link, _) = broker.accept_client(true);
    echo(&mut link, None);
    drop(link);
    clear(&mut broker);
    let done = running.finish();
    done.expect_code(0);
    let report = Report::of(&done);
    let run = report.only_run();
    run.expect_complete(8);
    assert_eq!(run.reconnects, 1, "{done}");
    let lines: Vec<_> = done.stderr.lines().collect();
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("lost after"))
        .collect();
    assert_eq!(told.len(), 1, "{done}");
    let expected = "PUBACK: packet identifier 0 [MQTT-2.3.1-1], beginning 40 02 00 00; ";
    assert!(told[0].contains(expected), "{done}");
    assert!(!done.stderr.contains("panicked"), "{done}");
}
