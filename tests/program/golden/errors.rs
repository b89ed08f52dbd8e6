//! The error lines of the program, word for word: settings that it refuses, and a broker that refuses it.

use std::fmt::Write;
use std::fs;

use rumqttc::mqttbytes::v4;

use super::expect_golden;
use crate::support::refusal::QUICK;
use crate::support::{Certs, ClosedPort, Program, ScriptedBroker};

/// The text without how long attempts took.
fn without_attempt_time(text: &str) -> String {
    let Some((before, after)) = text.split_once(" attempts in ") else {
        return text.to_owned();
    };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    format!("{before} attempts in <n>{}", without_attempt_time(rest))
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
