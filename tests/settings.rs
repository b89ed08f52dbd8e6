//! Settings that cannot be, from flags, the environment and a file: exit status 2 and a line that
//! names the setting where it was given, before anything is connected.

mod support;

use std::fs;

use support::Program;
use support::refusal::{ONCE, check, expect_one_line, row};

#[test]
fn settings_that_cannot_be() {
    let local = ["--endpoint", "mqtt://127.0.0.1:1"];
    let also = |more: &[&'static str]| [&local, more].concat();
    check([
        row(
            "no endpoint",
            [""; 0],
            (2, ONCE),
            &["no endpoint is given", "; give --endpoint", "--local"],
        ),
        row(
            "an endpoint with another protocol",
            ["--endpoint", "https://broker.example"],
            (2, ONCE),
            &[
                "reading --endpoint: ",
                "https",
                "; use for example broker.example:8883",
            ],
        ),
        row(
            "a setting for TLS without TLS",
            also(&["--ca-file", "ca.pem"]),
            (2, ONCE),
            &["mqtt://", "--ca-file is for TLS", "; write mqtts://"],
        ),
        row(
            "a quality of service that is none",
            also(&["--qos", "3"]),
            (2, ONCE),
            &[
                "reading --qos: ",
                "3 is not a quality of service",
                "; use 0, 1 or 2",
            ],
        ),
        row(
            "nothing to publish",
            also(&["--publish-count", "0"]),
            (2, ONCE),
            &[
                "reading --publish-count: ",
                "nothing to do",
                "; use 1 to 1000000000",
            ],
        ),
        row(
            "a wildcard in a topic",
            also(&["--topic-prefix", "a/+"]),
            (2, ONCE),
            &["reading --topic-prefix: ", "a/+", "; use "],
        ),
        row(
            "messages larger than packets",
            also(&["--payload-size", "1MiB"]),
            (2, ONCE),
            &[
                "checking --payload-size: ",
                "; lower --payload-size or raise --max-packet-size",
            ],
        ),
        row(
            "no settings file",
            also(&["--config", "/nowhere/demo.toml"]),
            (2, ONCE),
            &[
                "/nowhere/demo.toml",
                "No such file",
                "; check the path after --config",
            ],
        ),
    ]);
}

#[test]
fn settings_files_and_variables_are_named_where_they_are_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("demo.toml");
    let read = |text: &str| {
        fs::write(&file, text).expect("a settings file");
        let program = Program::new().arg("--config").arg(&file);
        program.arg("-q").run()
    };
    for (text, phrases) in [
        ("publish-cout = 3\n", ["demo.toml", "publish-cout", "; "]),
        (
            "publish-count = \"x\"\n",
            ["publish-count in ", "demo.toml: ", "; use a whole number"],
        ),
        ("qos = 3\n", ["qos in ", "demo.toml: ", "; use 0, 1 or 2"]),
        ("= what\n", ["demo.toml", ": ", "; "]),
    ] {
        let done = read(text);
        done.expect_code(2);
        expect_one_line(text, &done, &phrases);
    }
    let program = Program::new().env("MQTT_ACK_TIMEOUT", "soon").arg("-q");
    let done = program.run();
    done.expect_code(2);
    let phrases = ["reading MQTT_ACK_TIMEOUT: ", "\"soon\"", "; use "];
    expect_one_line("a variable", &done, &phrases);
}

#[test]
fn flags_that_cannot_be_read_say_what_is_possible() {
    for (arguments, phrases) in [
        (
            &["--publish-delay", "5"][..],
            &["--publish-delay", "100ms"][..],
        ),
        (&["--publish-count", "many"], &["--publish-count", "many"]),
        (&["--output", "xml"], &["--output", "text", "json"]),
        (&["--qos", "-1"], &["--qos", "-1", "0, 1 or 2"]),
        (
            &["--pasword-file", "x"],
            &["--pasword-file", "--password-file"],
        ),
        (&["-q", "-v"], &["--quiet", "--verbose"]),
        (&["filter"], &["argument 1", "belongs to no flag"]),
    ] {
        let done = Program::new().args(arguments).run();
        done.expect_code(2);
        let phrases = [phrases, &["--help"]].concat();
        expect_one_line(&format!("{arguments:?}"), &done, &phrases);
    }
}

#[cfg(not(feature = "local-broker"))]
#[test]
fn the_embedded_broker_when_it_was_not_built_in() {
    let phrases = [
        "starting the embedded broker for --local: ",
        "built without it",
        "; build it in with: cargo run --release --features local-broker -- --local",
    ];
    check([row("no embedded broker", ["--local"], (2, ONCE), &phrases)]);
}
