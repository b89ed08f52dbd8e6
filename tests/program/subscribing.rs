//! `sub` against a real Mosquitto over mutual TLS: its forms, its ends, and what its reader does.

// Clippy knows tests by their attribute only, but this is test code all the same.
#![allow(clippy::unwrap_used)]

use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;

use native_tls::TlsStream;
use rumqttc::mqttbytes::{QoS, v4};
use serde_json::Value;

use crate::support::{
    Connection, Event, HANG, Mosquitto, Program, Running, ScriptedBroker, wait_until,
};

type Publisher = Connection<TlsStream<TcpStream>>;

fn publish(client: &mut Publisher, topic: &str, qos: QoS, payload: &[u8]) {
    let mut publish = v4::Publish::new(topic, qos, payload);
    publish.pkid = u16::from(qos != QoS::AtMostOnce);
    client.send_packet(v4::Packet::Publish(publish));
    if qos == QoS::AtLeastOnce {
        client.expect_puback();
    }
}

fn subscribing(broker: &Mosquitto) -> Program {
    Program::new().args(["sub", "-vv"]).args(broker.arguments())
}

#[test]
fn each_form_is_as_the_help_says() {
    let broker = Mosquitto::start();
    let mut publisher = broker.client("publisher", true);
    let payloads: [&[u8]; 3] = [b"on", b"two\nlines\x1b", b"\xff\0"];
    for (form, expected) in [
        (
            "text",
            &b"a/b\ton\na/b\ttwo\\nlines\\u{1b}\na/b\t\\xff\\u{0}\n"[..],
        ),
        ("raw", b"ontwo\nlines\x1b\xff\0"),
    ] {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut running = subscribing(&broker)
            .args(["a/+", "--count", "3", "--client-id", form, "--format", form])
            .stdout(writer)
            .spawn();
        running.wait_for_line("received SUBACK");
        for payload in payloads {
            publish(&mut publisher, "a/b", QoS::AtLeastOnce, payload);
        }
        let mut came = Vec::new();
        reader.read_to_end(&mut came).unwrap();
        let done = running.finish();
        done.expect_code(0);
        assert_eq!(came, expected, "{form}");
        assert!(
            done.stderr
                .contains("3 messages received over 1 connection"),
            "{done}"
        );
    }
    let mut running = subscribing(&broker)
        .args([
            "a/+",
            "c",
            "--count",
            "4",
            "--client-id",
            "json",
            "--format",
            "jsonl",
        ])
        .spawn();
    running.wait_for_line("received SUBACK");
    for payload in payloads {
        publish(&mut publisher, "a/b", QoS::AtLeastOnce, payload);
    }
    publish(&mut publisher, "c", QoS::AtMostOnce, b"");
    // Each line is held to the schema.
    let done = running.finish();
    done.expect_code(0);
    let lines: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{done}");
    assert_eq!(
        (&lines[1]["payload"], &lines[1]["qos"]),
        (&"two\nlines\u{1b}".into(), &1.into())
    );
    assert_eq!(lines[2]["payload_base64"], "/wA=");
    assert_eq!(
        (&lines[3]["topic"], &lines[3]["qos"]),
        (&"c".into(), &0.into())
    );
    assert_eq!(lines[3]["client_id"], "json");
}

#[test]
fn with_a_count_the_next_message_stays_for_the_next_run() {
    let broker = Mosquitto::start();
    let mut publisher = broker.client("publisher", true);
    for (qos, id) in [(QoS::AtLeastOnce, "one"), (QoS::ExactlyOnce, "two")] {
        let level = (qos as u8).to_string();
        let sub = |count: &str| {
            let own = ["a", "--format", "raw", "--client-id", id, "--qos", &level];
            subscribing(&broker).args(own).args(["--count", count])
        };
        // The session begins, and stays as it is.
        sub("0").args(["--within", "1ms"]).run().expect_code(0);
        for number in 1..=5 {
            let mut publish = v4::Publish::new("a", qos, number.to_string());
            publish.pkid = number;
            publisher.send_packet(v4::Packet::Publish(publish));
            if qos == QoS::ExactlyOnce {
                publisher.expect_pubrec();
                publisher.send_packet(v4::Packet::PubRel(v4::PubRel::new(number)));
                publisher.expect_pubcomp();
            } else {
                publisher.expect_puback();
            }
        }
        assert_eq!(sub("1").run().expect_code(0).stdout, "1");
        assert_eq!(sub("2").run().expect_code(0).stdout, "23");
        assert_eq!(sub("2").run().expect_code(0).stdout, "45");
        let nothing = sub("1").args(["--within", "300ms"]).run();
        nothing.expect_code(5);
        let told = "0 of 1 message came within 300ms; raise --within, or see whether anybody";
        assert!(nothing.stderr.contains(told), "{nothing}");
        sub("0")
            .args(["--clean-session", "--within", "10ms"])
            .run()
            .expect_code(0);
    }
}

/// The lines of a run that the test reads itself.
fn reading(program: Program) -> (Running, BufReader<io::PipeReader>) {
    let (reader, writer) = io::pipe().unwrap();
    (program.stdout(writer).spawn(), BufReader::new(reader))
}

#[test]
fn a_reader_that_goes_away_ends_it_well_also_while_nothing_comes() {
    let broker = Mosquitto::start();
    let mut publisher = broker.client("publisher", true);
    let (mut running, mut reader) =
        reading(subscribing(&broker).args(["a", "--client-id", "head"]));
    running.wait_for_line("received SUBACK");
    publish(&mut publisher, "a", QoS::AtLeastOnce, b"first");
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "a\tfirst\n");
    drop(reader);
    let done = running.finish();
    done.expect_code(0);
    assert!(!done.stderr.contains("error"), "{done}");
    assert!(done.stderr.contains("sending DISCONNECT"), "{done}");
}

#[test]
fn a_reader_that_is_slow_loses_nothing_and_the_connection_stays() {
    let broker = Mosquitto::start();
    let mut publisher = broker.client("publisher", true);
    let (running, reader) = reading(slow(&broker));
    read_slowly(running, reader, &mut publisher);
}

#[cfg(unix)]
#[test]
fn a_reader_that_is_slow_loses_nothing_behind_a_stream_that_does_not_block() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    let broker = Mosquitto::start();
    let mut publisher = broker.client("publisher", true);
    let (writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let running = slow(&broker).stdout(OwnedFd::from(writer)).spawn();
    read_slowly(running, BufReader::new(reader), &mut publisher);
}

fn slow(broker: &Mosquitto) -> Program {
    let own = ["a", "--client-id", "slow"];
    subscribing(broker)
        .args(own)
        .args(["--count", "200", "--keep-alive", "1s"])
}

fn read_slowly(mut running: Running, mut reader: impl BufRead, publisher: &mut Publisher) {
    running.wait_for_line("received SUBACK");
    // More than the pipe holds and than the broker sends unacknowledged.
    let payload = |number: usize| format!("{number} {}", "x".repeat(2_000));
    for number in 0..200 {
        publish(publisher, "a", QoS::AtLeastOnce, payload(number).as_bytes());
    }
    // The loop lives while the printing thread cannot write.
    let pings = || running.stderr().matches("received PINGRESP").count();
    wait_until("two pings", || pings() >= 2);
    let acknowledged = running.stderr().matches("sending PUBACK").count();
    assert!(acknowledged < 150, "{acknowledged}");
    for number in 0..200 {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, format!("a\t{}\n", payload(number)));
    }
    let done = running.finish();
    done.expect_code(0);
    assert!(
        done.stderr
            .contains("200 messages received over 1 connection"),
        "{done}"
    );
}

#[test]
fn the_time_is_over_also_where_the_reader_does_not_read() {
    let broker = Mosquitto::start();
    let mut publisher = broker.client("publisher", true);
    for (count, status) in [("0", 0), ("2", 5)] {
        let (mut running, reader) =
            reading(subscribing(&broker).args(["a", "--within", "500ms", "--count", count]));
        running.wait_for_line("received SUBACK");
        // More than the pipe holds.
        publish(&mut publisher, "a", QoS::AtLeastOnce, &[b'x'; 200_000]);
        let done = running.finish();
        done.expect_code(status);
        assert!(done.stderr.contains("sending DISCONNECT"), "{done}");
        let told = "0 of 2 messages came within 500ms; raise --within";
        assert_eq!(done.stderr.contains(told), status == 5, "{done}");
        drop(reader);
    }
}

#[test]
fn a_signal_ends_it_also_where_its_reader_does_not_read() {
    let broker = Mosquitto::start();
    let mut publisher = broker.client("publisher", true);
    let (mut running, reader) = reading(subscribing(&broker).args(["a", "--client-id", "stuck"]));
    running.wait_for_line("received SUBACK");
    for _ in 0..100 {
        publish(&mut publisher, "a", QoS::AtLeastOnce, &[b'x'; 2_000]);
    }
    let acknowledged = || running.stderr().matches("sending PUBACK").count();
    wait_until("a full pipe", || acknowledged() >= 20);
    running.signal("TERM");
    let done = running.finish();
    done.expect_code(130);
    assert!(done.stderr.contains("sending DISCONNECT"), "{done}");
    drop(reader);
}

#[test]
fn a_program_that_is_killed_has_acknowledged_nothing_that_it_has_not_written() {
    let broker = Mosquitto::start();
    let mut publisher = broker.client("publisher", true);
    let sub = || subscribing(&broker).args(["a", "--client-id", "killed"]);
    let (mut running, mut reader) = reading(sub());
    running.wait_for_line("received SUBACK");
    let payload = |number: usize| format!("{number:03}{}", "x".repeat(2_000));
    for number in 0..200 {
        publish(
            &mut publisher,
            "a",
            QoS::AtLeastOnce,
            payload(number).as_bytes(),
        );
    }
    let acknowledged = || running.stderr().matches("sending PUBACK").count();
    wait_until("a full pipe", || acknowledged() >= 20);
    running.signal("KILL");
    // The bytes in the pipe were written; a line may be cut off.
    let mut written = Vec::new();
    reader.read_to_end(&mut written).unwrap();
    let whole = String::from_utf8(written).unwrap();
    let whole = whole
        .lines()
        .filter(|line| line.len() == "a\t".len() + 2_003)
        .count();
    drop(running);
    let rest = sub().args(["--count", "20", "--within", "30s"]).run();
    rest.expect_code(0);
    let first: usize = rest.stdout["a\t".len()..][..3].parse().unwrap();
    assert!(
        first <= whole,
        "message {whole} is lost: {first} came first"
    );
}

#[test]
fn a_subscription_that_the_broker_refuses_ends_with_status_4() {
    let broker = ScriptedBroker::bind();
    let endpoint = broker.endpoint();
    let script = broker.in_thread(|mut broker| {
        let (mut link, _) = broker.accept_client(false);
        let subscribe = link.expect_subscribe();
        let codes = vec![
            v4::SubscribeReasonCode::Success(QoS::AtMostOnce),
            v4::SubscribeReasonCode::Failure,
        ];
        link.send_packet(v4::Packet::SubAck(v4::SubAck::new(subscribe.pkid, codes)));
        loop {
            match link.read_event(HANG) {
                Event::Packet(v4::Packet::Disconnect, _) | Event::Closed => break,
                _ => {}
            }
        }
    });
    let done = Program::new()
        .args(["sub", "a", "b/#", "--endpoint", &endpoint])
        .run();
    done.expect_code(4);
    assert_eq!(done.stdout, "");
    assert!(
        done.stderr.contains("refuses the subscription to \"b/#\""),
        "{done}"
    );
    script.join().unwrap();
}

#[test]
fn what_cannot_be_subscribed_is_told_before_anything_is_connected() {
    for (arguments, parts) in [
        (&[][..], &["no filter is given", "behind the word sub"][..]),
        (&["a/#/b"], &["a/#/b", "--filter"]),
        (
            &["a", "--output", "json"],
            &["--output says json", "use jsonl"],
        ),
        (
            &["a", "--output", "jsonl", "--format", "raw"],
            &["--output says jsonl, --format says raw"],
        ),
        (
            &["--topic", "a"],
            &["--topic", "write the filter behind the word sub"],
        ),
        (
            &["a", "--output", "jsonl", "--format", "text"],
            &["--output says jsonl, --format says text"],
        ),
        (&["a", "--format", "xml"], &["text, jsonl or raw"]),
    ] {
        let done = Program::new()
            .args(["sub", "--endpoint", "broker.invalid", "-q"])
            .args(arguments)
            .run();
        done.expect_code(2);
        for part in parts {
            assert!(done.stderr.contains(part), "{arguments:?}: {part}: {done}");
        }
    }
}
