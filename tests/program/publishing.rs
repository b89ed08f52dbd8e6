//! `pub` against a real Mosquitto over mutual TLS, and against brokers that refuse.

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::process::Command;

use native_tls::TlsStream;
use rumqttc::mqttbytes::{QoS, v4};

use crate::support::{Connection, Mosquitto, Program, ScriptedBroker};

/// Subscribes to everything, beside the program.
fn watch(broker: &Mosquitto, qos: QoS) -> Connection<TlsStream<TcpStream>> {
    let mut client = broker.client("watch", true);
    let mut subscribe = v4::Subscribe::new("#", qos);
    subscribe.pkid = 1;
    client.send_packet(v4::Packet::Subscribe(subscribe));
    client.expect_suback();
    client
}

/// The next message: topic, payload, and whether it is a retained one.
fn next(client: &mut Connection<TlsStream<TcpStream>>) -> (String, Vec<u8>) {
    let publish = client.expect_publish();
    if publish.qos == QoS::AtLeastOnce {
        client.send_puback(publish.pkid);
    }
    (publish.topic, publish.payload.to_vec())
}

fn publishing(broker: &Mosquitto) -> Program {
    Program::new()
        .args(["pub", "--topic", "a/b", "-q"])
        .args(broker.arguments())
}

#[test]
fn a_text_a_file_and_standard_input_arrive_byte_by_byte() {
    let broker = Mosquitto::start();
    let mut watch = watch(&broker, QoS::AtMostOnce);
    let bytes: Vec<u8> = (0..=255).chain(*b"\r\n\n").collect();
    let path = broker.certs().file("message");
    fs::write(&path, &bytes).unwrap();
    for (program, expected) in [
        (
            publishing(&broker).args(["--message", "\"on\"\n"]),
            &b"\"on\"\n"[..],
        ),
        (publishing(&broker).args(["--message", ""]), b""),
        (publishing(&broker).arg("--file").arg(&path), &bytes),
        (publishing(&broker).input(&bytes), &bytes),
        (
            publishing(&broker).args(["--file", "-"]).input(&bytes),
            &bytes,
        ),
        (publishing(&broker), b""),
        (
            publishing(&broker).args(["--qos", "0", "--message=x"]),
            b"x",
        ),
        (
            publishing(&broker).args(["--qos", "2", "--message=y"]),
            b"y",
        ),
        // A stronger source replaces the other one.
        (
            publishing(&broker)
                .env("MQTT_FILE", "/nowhere")
                .env("MQTT_LINES", "true")
                .arg("--message=z"),
            b"z",
        ),
    ] {
        let done = program.run();
        done.expect_code(0);
        assert!(
            done.stdout.starts_with("ok: 1 message ")
                && done.stdout.contains(" over 1 connection in "),
            "{done}"
        );
        assert_eq!(next(&mut watch), ("a/b".to_owned(), expected.to_vec()));
    }
}

#[test]
fn lines_arrive_in_order_and_from_several_threads_all_arrive() {
    let broker = Mosquitto::start();
    let mut watch = watch(&broker, QoS::AtLeastOnce);
    let lines: Vec<String> = (0..300).map(|number| format!("line {number}")).collect();
    let text = lines.join("\n");
    let done = publishing(&broker)
        .arg("--lines")
        .input(text.as_bytes())
        .run();
    done.expect_code(0);
    assert!(
        done.stdout
            .starts_with("ok: 300 messages acknowledged over 1 connection"),
        "{done}"
    );
    for line in &lines {
        assert_eq!(next(&mut watch).1, line.as_bytes());
    }
    let done = publishing(&broker)
        .args(["--lines", "--threads", "4", "--output", "json"])
        .input(text.as_bytes())
        .run();
    done.expect_code(0);
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["acknowledged"], 300, "{report}");
    assert_eq!(
        (&report["threads"], &report["connects"]),
        (&4.into(), &1.into())
    );
    let mut came: Vec<Vec<u8>> = lines.iter().map(|_| next(&mut watch).1).collect();
    let mut expected: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
    came.sort();
    expected.sort();
    assert_eq!(came, expected);
}

#[test]
fn each_line_leaves_before_the_next_one_is_there_and_a_signal_ends_the_wait() {
    let broker = Mosquitto::start();
    let mut watch = watch(&broker, QoS::AtMostOnce);
    let (reader, mut writer) = io::pipe().unwrap();
    let running = publishing(&broker).args(["--lines"]).stdin(reader).spawn();
    for line in ["one", "", "three"] {
        writeln!(writer, "{line}").unwrap();
        assert_eq!(next(&mut watch).1, line.as_bytes());
    }
    // Standard input stays open, and nothing comes any more.
    running.signal("TERM");
    let done = running.finish();
    done.expect_code(130);
    assert!(
        done.stdout
            .starts_with("FAILED: 3 of 3 messages acknowledged"),
        "{done}"
    );
    drop(writer);
}

#[cfg(unix)]
#[test]
fn standard_input_may_be_one_that_does_not_block() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    let broker = Mosquitto::start();
    let mut watch = watch(&broker, QoS::AtMostOnce);
    let (mut writer, reader) = UnixStream::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let running = publishing(&broker)
        .args(["--lines"])
        .stdin(OwnedFd::from(reader))
        .spawn();
    for line in ["one", "two"] {
        writeln!(writer, "{line}").unwrap();
        assert_eq!(next(&mut watch).1, line.as_bytes());
    }
    drop(writer);
    running.finish().expect_code(0);
}

#[test]
fn a_retained_message_stays_and_an_empty_one_clears_it() {
    let broker = Mosquitto::start();
    publishing(&broker)
        .args(["--retain", "--message=on"])
        .run()
        .expect_code(0);
    let mut first = watch(&broker, QoS::AtMostOnce);
    let kept = first.expect_publish();
    assert!(kept.retain && kept.payload.as_ref() == b"on", "{kept:?}");
    publishing(&broker)
        .args(["--retain", "--message="])
        .run()
        .expect_code(0);
    assert_eq!(next(&mut first).1, b"");
    drop(first);
    for (input, status) in [(&b"new"[..], false), (b"", true)] {
        let done = Program::new()
            .args(["pub", "--topic", "a/b", "--retain"])
            .args(broker.arguments())
            .input(input)
            .run();
        done.expect_code(0);
        assert_eq!(
            done.stderr.contains("the message is empty"),
            status,
            "{done}"
        );
    }
    publishing(&broker)
        .arg("--message=new")
        .run()
        .expect_code(0);
    let mut second = watch(&broker, QoS::AtMostOnce);
    publishing(&broker)
        .arg("--message=newer")
        .run()
        .expect_code(0);
    assert_eq!(next(&mut second).1, b"newer");
}

#[test]
fn the_messages_of_another_client_with_this_identifier_stay_with_the_broker() {
    let broker = Mosquitto::start();
    let mut subscriber = broker.client("both", false);
    let mut subscribe = v4::Subscribe::new("stored", QoS::AtLeastOnce);
    subscribe.pkid = 1;
    subscriber.send_packet(v4::Packet::Subscribe(subscribe));
    subscriber.expect_suback();
    subscriber.send_packet(v4::Packet::Disconnect);
    subscriber.expect_closed();
    let stored = ["--topic", "stored", "--message", "kept"];
    publishing(&broker).args(stored).run().expect_code(0);
    let done = publishing(&broker)
        .args(["--client-id", "both", "--message", "x"])
        .run();
    done.expect_code(0);
    let mut subscriber = broker.client("both", false);
    assert_eq!(
        next(&mut subscriber),
        ("stored".to_owned(), b"kept".to_vec())
    );
}

#[test]
fn a_broker_that_closes_on_a_message_refuses_it_and_the_result_counts_the_others() {
    let broker = ScriptedBroker::bind();
    let endpoint = broker.endpoint();
    let script = broker.in_thread(|mut broker| {
        // Three links in the company of others and five alone: that is how often a message is tried.
        for number in 0..8 {
            let (mut link, _) = broker.accept_client(false);
            if number == 0 {
                let good = link.expect_publish();
                assert_eq!(good.payload.as_ref(), b"good");
                link.send_puback(good.pkid);
            }
            // Before a message is tried alone, the program asks whether the broker is there.
            let mut packet = link.read_packet();
            if packet == v4::Packet::PingReq {
                link.send_packet(v4::Packet::PingResp);
                packet = link.read_packet();
            }
            let v4::Packet::Publish(bad) = packet else {
                panic!("{packet:?}");
            };
            assert_eq!(bad.payload.as_ref(), b"bad");
            link.close();
        }
    });
    let (reader, mut writer) = io::pipe().unwrap();
    let mut running = Program::new()
        .args([
            "pub",
            "--topic",
            "a",
            "--lines",
            "-vv",
            "--endpoint",
            &endpoint,
        ])
        .args(QUICK)
        .stdin(reader)
        .spawn();
    writeln!(writer, "good").unwrap();
    running.wait_for_line("PUBACK");
    write!(writer, "bad").unwrap();
    drop(writer);
    let done = running.finish();
    done.expect_code(4);
    assert!(
        done.stdout
            .starts_with("FAILED: 1 of 2 messages acknowledged over "),
        "{done}"
    );
    script.join().unwrap();
}

/// Brings the program quickly to a broker that has closed the connection.
const QUICK: [&str; 6] = [
    "--connect-interval",
    "0",
    "--retry-base",
    "1ms",
    "--retry-max",
    "1ms",
];

#[test]
fn messages_of_qos_0_are_no_success_where_a_link_was_lost() {
    let mut broker = ScriptedBroker::bind();
    let endpoint = broker.endpoint();
    let (reader, mut writer) = io::pipe().unwrap();
    let running = Program::new()
        .args(["pub", "--topic", "a", "--lines", "--qos", "0"])
        .args(["--endpoint", &endpoint])
        .args(QUICK)
        .stdin(reader)
        .spawn();
    let (mut link, _) = broker.accept_client(false);
    writeln!(writer, "one").unwrap();
    assert_eq!(link.expect_publish().payload.as_ref(), b"one");
    link.close();
    let (mut link, _) = broker.accept_client(false);
    writeln!(writer, "two").unwrap();
    assert_eq!(link.expect_publish().payload.as_ref(), b"two");
    drop(writer);
    assert_eq!(link.read_packet(), v4::Packet::PingReq);
    link.send_packet(v4::Packet::PingResp);
    let done = running.finish();
    done.expect_code(1);
    assert!(
        done.stdout
            .starts_with("FAILED: 2 of 2 messages sent over 2 connections"),
        "{done}"
    );
    assert!(done.stderr.contains("error: a link was lost"), "{done}");
}

#[cfg(unix)]
#[test]
fn one_signal_ends_the_wait_for_somebody_who_writes_a_named_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success(), "{made}");
    let mut running = Program::new()
        .args(["pub", "-v", "--topic", "a", "--endpoint", "broker.invalid"])
        .arg("--file")
        .arg(&path)
        .spawn();
    running.wait_for_line("opening ");
    running.signal("TERM");
    let done = running.finish();
    done.expect_code(130);
    assert!(done.stdout.starts_with("FAILED: 0 of 0 messages"), "{done}");
}

/// It can be opened, and reading its first byte fails.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_read_is_an_error_on_standard_error() {
    let broker = Mosquitto::start();
    let file = "/proc/self/mem";
    let done = publishing(&broker).args(["--file", file]).run();
    done.expect_code(2);
    for part in [
        "error: the message cannot be read from /proc/self/mem: ",
        "; give what can be read",
    ] {
        assert!(done.stderr.contains(part), "{part}: {done}");
    }
    assert!(done.stdout.starts_with("FAILED: "), "{done}");
}

#[test]
fn what_cannot_be_published_is_told_before_anything_is_connected() {
    for (arguments, parts) in [
        (
            &["--message", "x"][..],
            &["no topic is given", "--topic TOPIC"][..],
        ),
        (
            &["--topic", "a", "--message", "x", "--file", "y"],
            &["both --message and --file are given", "give one of them"],
        ),
        (
            &["--topic", "a", "--message", "x", "--lines"],
            &["both --message and --lines are given"],
        ),
        (
            &["--topic", "a", "--file", "/nowhere/m"],
            &["opening the message /nowhere/m", "No such file"],
        ),
        (
            &["--topic", "a", "--file", "/"],
            &[
                "opening the message /: ",
                "is a directory",
                "give the path of a file",
            ],
        ),
        (&["--topic", "a/+", "--message", "x"], &["a/+", "--topic"]),
        (
            &["--topic", "a", "--iterations", "3"],
            &["--iterations", "a flag of the demo, not of pub"],
        ),
    ] {
        let done = Program::new()
            .args(["pub", "--endpoint", "broker.invalid", "-q"])
            .args(arguments)
            .run();
        done.expect_code(2);
        assert_eq!(done.stdout, "");
        for part in parts {
            assert!(done.stderr.contains(part), "{arguments:?}: {part}: {done}");
        }
    }
}
