//! Options that are refused, and what follows from those that are not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::mqtt::packet::{LARGEST_PACKET, QoS};

/// The library's lines of code, each with the name of its file.
fn lines_of_code() -> Vec<(String, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut lines = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["app", "fuzz", "tests"].contains(&name) {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "main.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.lines().filter(|line| !line.trim().starts_with("//"));
                lines.extend(code.map(|line| (path.display().to_string(), line.to_owned())));
            }
        }
    }
    lines
}

#[test]
fn texts_name_options_of_the_list_in_no_notation_of_the_program() {
    let mut named = BTreeSet::new();
    for (file, line) in lines_of_code() {
        let flag = line
            .match_indices("--")
            .any(|(at, _)| line[at + 2..].starts_with(|c: char| c.is_ascii_lowercase()));
        // Such texts are in two parts here, so that these lines do not count.
        let variable = line.contains(concat!("MQTT", "_"));
        let other = line.contains(concat!(":", "//")) || line.contains(concat!("end", "point"));
        assert!(!flag && !variable && !other, "{file}: {line}");
        for word in line.split('\u{60}').skip(1).step_by(2) {
            // A placeholder, or a method: of a callback, or in an attribute.
            if !["{option}", "{}", "publish_then"].contains(&word) && !line.contains("#[") {
                assert!(NAMED_IN_TEXTS.contains(&word), "{file}: {line}");
                named.insert(word.to_owned());
            }
        }
    }
    assert!(named.iter().eq(NAMED_IN_TEXTS), "{named:?}");
}

#[test]
fn the_defaults_are_valid() {
    assert!(Options::new("broker.example", "me").check().is_ok());
}

#[test]
fn each_bad_value_is_named() {
    type Change = fn(&mut Options);
    let cases: [(&str, Change); 33] = [
        ("the longest retry delay", |o| o.retry.max = Duration::MAX),
        ("the largest packet", |o| {
            o.max_packet_size = LARGEST_PACKET + 1;
        }),
        ("the command queue", |o| o.command_queue = usize::MAX),
        ("the loop's records", |o| {
            o.recording.get_or_insert_default().of_loop = 0;
        }),
        ("each thread's records", |o| {
            o.recording.get_or_insert_default().of_thread = usize::MAX;
        }),
        ("the default inbox", |o| o.unmatched_queue = usize::MAX),
        ("the acknowledgment time-out", |o| {
            o.ack_timeout = Duration::MAX
        }),
        ("the connect time-out", |o| {
            o.connect_timeout = Duration::MAX
        }),
        ("the connect interval", |o| {
            o.connect_interval = Duration::MAX
        }),
        ("the time for the first connection", |o| {
            o.retry.connect_for = Duration::MAX
        }),
        ("the time for connecting again", |o| {
            o.retry.reconnect_for = Duration::MAX
        }),
        ("the hold of unmatched messages", |o| {
            o.unmatched_hold = Duration::MAX
        }),
        ("`host`", |o| o.host.clear()),
        ("the port", |o| o.port = 0),
        ("the client identifier", |o| o.client_id.clear()),
        ("the client identifier", |o| o.client_id = "a\0b".into()),
        ("the user name", |o| {
            o.credentials = Some(Credentials {
                username: String::new(),
                password: "p".into(),
            });
        }),
        ("the client identifier", |o| {
            o.client_id = "c".repeat(65_536)
        }),
        ("the user name", |o| {
            o.credentials = Some(Credentials {
                username: "a\0b".into(),
                password: Secret::default(),
            });
        }),
        ("the user name", |o| {
            o.credentials = Some(Credentials {
                username: "u".repeat(65_536),
                password: Secret::default(),
            });
        }),
        ("the password", |o| {
            o.credentials = Some(Credentials {
                username: "u".into(),
                password: "p".repeat(65_536).into(),
            });
        }),
        ("the keep alive", |o| {
            o.keep_alive = Duration::from_millis(1500)
        }),
        ("the largest packet", |o| o.max_packet_size = 127),
        ("the acknowledgment time-out", |o| {
            o.ack_timeout = Duration::ZERO
        }),
        ("the connect time-out", |o| {
            o.connect_timeout = Duration::ZERO
        }),
        ("the last will", |o| {
            o.last_will = Some(Will::new("", QoS::AtMostOnce, ""));
        }),
        ("the last will", |o| {
            o.last_will = Some(Will::new("a/+", QoS::AtMostOnce, ""));
        }),
        ("the last will", |o| {
            o.last_will = Some(Will::new("a", QoS::AtMostOnce, vec![0; 65_536]));
        }),
        ("the keep alive", |o| {
            o.keep_alive = Duration::from_secs(65_536)
        }),
        ("the window", |o| o.max_inflight = 0),
        ("the window of QoS 2", |o| o.max_inflight_qos2 = 0),
        ("the command queue", |o| o.command_queue = 0),
        ("the retry delays", |o| {
            o.retry.base = Duration::from_secs(9)
        }),
    ];
    for (what, change) in cases {
        let mut options = Options::new("broker.example", "me");
        change(&mut options);
        let error = options.check().expect_err(what);
        assert_eq!(error.tried(), format!("checking {what}"));
        assert_eq!(error.exit_status(), 2);
        // The error repeats neither a password nor a long value.
        assert!(error.to_string().len() < 300, "{error}");
    }
}

#[test]
fn debug_output_holds_no_secret() {
    let mut options = Options::new("broker.example", "me");
    options.credentials = Some(Credentials {
        username: "user".into(),
        password: "hunter2".into(),
    });
    options.security = Security::Tls(TlsOptions {
        ca: Some(Secret::from("hunter2").into()),
        identity: Some(Identity::pkcs12(Secret::from("hunter2"), "hunter2")),
        ..TlsOptions::default()
    });
    assert!(!format!("{options:?}").contains("hunter2"));
}

#[test]
fn the_limits_of_the_broker_hold_for_the_options_of_connect() {
    type Change = fn(&mut Options);
    let cases: [(&str, Change); 4] = [
        ("the client identifier", |o| o.client_id = "c".repeat(129)),
        ("the keep alive", |o| o.keep_alive = Duration::from_secs(5)),
        ("the last will", |o| {
            o.last_will = Some(Will::new("w", QoS::ExactlyOnce, ""));
        }),
        ("the last will", |o| {
            o.last_will = Some(Will::new("$w", QoS::AtMostOnce, ""));
        }),
    ];
    for (what, change) in cases {
        let mut aws = Options::new("abc-ats.iot.eu-central-1.amazonaws.com", "me");
        assert!(aws.is_aws_iot() && aws.check().is_ok());
        change(&mut aws);
        let error = aws.check().expect_err(what);
        assert_eq!(error.tried(), format!("checking {what}"));
        assert!(error.problem().contains("AWS IoT"), "{error}");
        let mut other = Options::new("broker.example", "me");
        change(&mut other);
        assert!(!other.is_aws_iot() && other.check().is_ok(), "{what}");
        // An application may set them for any broker.
        other.limits = Limits::aws_iot();
        assert!(other.check().is_err(), "{what}");
    }
}
