//! Impossible settings from flags, the environment and a file: exit status 2, and a line that names the
//! setting as it was given, before the program connects.

use std::fs;
use std::path::Path;

use crate::support::refusal::{ONCE, QUICK, check, expect_one_line, row};
use crate::support::{Certs, ClosedPort, Program, ScriptedBroker};

#[test]
fn impossible_settings_are_refused() {
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
fn flags_that_cannot_be_read_name_the_possible_values() {
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
        // As mosquitto_pub and others have them; -h alone is the help.
        (
            &["-h", "broker.example", "-p", "1883"],
            &[
                "for -h use --endpoint HOST[:PORT]",
                "for -p use --port PORT",
            ],
        ),
        (&["--host", "a"], &["for --host use --endpoint HOST[:PORT]"]),
        (&["-t", "a", "--endpoint", "a"], &["--topic-prefix PREFIX"]),
        (&["--clientId=me"], &["for --clientId use --client-id"]),
    ] {
        let done = Program::new().args(arguments).run();
        done.expect_code(2);
        let phrases = [phrases, &["--help"]].concat();
        expect_one_line(&format!("{arguments:?}"), &done, &phrases);
    }
    // A flag of another command is no riddle: the line says where it belongs.
    let done = Program::new().args(["--count", "3"]).run();
    done.expect_code(2);
    let phrases = ["it is a flag of the command sub, not of the demo; use --publish-count"];
    expect_one_line("--count", &done, &phrases);
}

#[cfg(not(feature = "local-broker"))]
#[test]
fn the_embedded_broker_is_refused_when_it_was_not_built_in() {
    let phrases = [
        "starting the embedded broker for --local: ",
        "built without it",
        "; build it in with: cargo run --release --features local-broker -- --local",
    ];
    check([row("no embedded broker", ["--local"], (2, ONCE), &phrases)]);
}

/// The error names the setting that was given, and where it was given, not the library's option.
#[test]
fn a_file_that_cannot_be_read_is_named_with_where_it_was_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("demo.toml");
    let config = file.to_str().expect("a text").to_owned();
    for key in ["ca-file", "cert", "key", "pkcs12"] {
        let certs = Certs::generate();
        let others: &[(&str, &Path)] = match key {
            "cert" => &[("key", &certs.client().key)],
            "key" => &[("cert", &certs.client().cert)],
            _ => &[],
        };
        let program = || {
            let others = others
                .iter()
                .map(|(key, path)| format!("--{key}={}", path.display()));
            Program::new()
                .args(["--endpoint", "127.0.0.1:1", "-q"])
                .args(others)
        };
        let expect = |program: Program, name: &str| {
            let done = program.run();
            done.expect_code(2);
            let (given, advice) = (format!(" /nowhere ({name}): "), format!("after {name}\n"));
            assert!(done.stderr.contains(&given), "{done}");
            assert!(done.stderr.ends_with(&advice), "{done}");
        };
        expect(
            program().arg(format!("--{key}=/nowhere")),
            &format!("--{key}"),
        );
        let variable = format!("MQTT_{}", key.to_uppercase().replace('-', "_"));
        expect(program().env(&variable, "/nowhere"), &variable);
        fs::write(&file, format!("{key} = \"/nowhere\"\n")).expect("a file");
        expect(
            program().args(["--config", &config]),
            &format!("{key} in {config}"),
        );
    }
}

/// Logs and results name options in the same way as errors.
#[test]
fn logs_and_results_name_options_as_they_were_given() {
    let silent = ScriptedBroker::bind();
    let endpoint = silent.endpoint();
    let program = Program::new().args(["--endpoint", &endpoint, "--retry-attempts=1"]);
    let program = program.args(["--retry-base=10ms", "--connect-interval=0"]);
    let done = program.env("MQTT_CONNECT_TIMEOUT", "100ms").run();
    done.expect_code(3);
    let lines: Vec<&str> = done.stderr.lines().collect();
    let named = |line: &&&str| line.contains("or raise MQTT_CONNECT_TIMEOUT");
    assert_eq!(lines.iter().filter(named).count(), 2, "{done}");
    assert!(!done.stderr.contains('`'), "{done}");
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_warned_of() {
    let closed = ClosedPort::hold();
    let program = Program::new().args(["--endpoint", &closed.endpoint()]);
    let done = program.args(QUICK).env("MQTT_PUBLISHCOUNT", "3").run();
    done.expect_code(3);
    let warning =
        "WARN  MQTT_PUBLISHCOUNT is no setting and not used; did you mean MQTT_PUBLISH_COUNT?";
    assert!(done.stderr.contains(warning), "{done}");
}
