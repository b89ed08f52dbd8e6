//! Resolves whole configurations.
//!
//! The environment of these tests is a list of pairs; that of the process is left alone.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::time::Duration;

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::Will;
use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::options::{
    Credentials, Identity, Material, OnSessionLost, OnTooLarge, Options, Secret, Security,
    TlsOptions,
};

use super::demo_settings;
use crate::app::cli::Verbosity;
use crate::app::command_line;
use crate::app::demo::settings::DemoSettings;
use crate::app::resolve::*;
use crate::app::settings::variable;
use crate::app::surroundings::Surroundings;
use crate::app::unused::remote_only;
use crate::app::usage::usage_error;
use crate::app::values::Format;

pub(super) const AWS: &str = "abc-ats.iot.eu-central-1.amazonaws.com";

pub(in crate::app) fn around(environment: &[(&str, &str)]) -> Surroundings {
    let variables = environment.iter();
    Surroundings {
        variables: variables
            .map(|(name, value)| ((*name).to_owned(), value.into()))
            .collect(),
        host_name: Some("workbench.example\n".into()),
        run: "0123456789ab".into(),
    }
}

pub(super) fn with(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, Error> {
    let command_line = [&["mqtt-connection-sharing"], args].concat();
    let cli = command_line::parse_from(&command_line).map_err(|error| {
        let command_line: Vec<OsString> = command_line.iter().map(OsString::from).collect();
        usage_error(&error, &command_line)
    })?;
    resolve(cli, &around(environment))
}

pub(in crate::app) fn flags(args: &[&str]) -> Result<Config, Error> {
    with(args, &[])
}

pub(super) fn to(endpoint: &str, args: &[&str]) -> Result<Config, Error> {
    flags(&[&["--endpoint", endpoint], args].concat())
}

pub(super) fn refused(result: Result<Config, Error>, parts: &[&str]) {
    let error = result.expect_err(parts[0]);
    assert_eq!(error.blame(), Blame::Configuration);
    let line = error.to_string();
    assert!(!line.contains('\n') && !error.advice().is_empty(), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

/// A folder with the given files; the path of the first.
pub(super) fn files(content: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in content {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let first = folder.path().join(content[0].0);
    (folder, first.to_str().unwrap().to_owned())
}

/// A secret as text.
pub(super) fn text(secret: &Secret) -> &str {
    std::str::from_utf8(secret.expose()).unwrap()
}

pub(super) fn password(config: &Config) -> &str {
    text(&config.options.credentials.as_ref().unwrap().password)
}

pub(super) fn demo(config: &Config) -> &DemoSettings {
    match &config.job {
        Job::Demo(demo) => demo,
        _ => panic!("not the demo"),
    }
}

#[test]
fn an_endpoint_is_enough() {
    let config = to("broker.example", &[]).unwrap();
    assert_eq!(*demo(&config), demo_settings());
    assert_eq!(config.output, Format::Text);
    assert_eq!(config.verbosity, Verbosity::Normal);
    assert!(!config.local);
    assert!(config.notices.is_empty());
}

#[test]
fn without_endpoint_both_ways_out_are_named() {
    refused(flags(&[]), &["endpoint", "--endpoint HOST", "--local"]);
}

#[test]
fn each_setting_arrives() {
    let config = to(
        "mqtts://broker.example",
        &[
            "--client-id=me",
            "--username=u",
            "--cert=c",
            "--key=k",
            "--ca-file=ca",
            "--alpn=x,y",
            "--tls-server-name=other",
            "--port=1",
            "--will-topic=gone/me",
            "--will-qos=0",
            "--will-retain",
            "--iterations=2",
            "--publish-count=3",
            "--publish-delay=4ms",
            "--iteration-delay=5ms",
            "--payload-size=1KiB",
            "--qos=2",
            "--topic-prefix=a/b",
            "--keep-alive=7s",
            "--clean-session",
            "--on-session-lost=fail",
            "--unmatched-hold=18ms",
            "--max-inflight=8",
            "--command-queue=9",
            "--inbox=11",
            "--ack-timeout=12ms",
            "--connect-timeout=13ms",
            "--retry-base=14ms",
            "--retry-max=15ms",
            "--retry-for=18ms",
            "--retry-attempts=16",
            "--connect-interval=17ms",
            "--max-packet-size=4096",
            "--on-too-large=close",
            "--output=json",
            "-vv",
        ],
    )
    .unwrap();
    let ms = Duration::from_millis;
    let mut expected = Options::new("broker.example", "me");
    expected.port = 1;
    let mut tls = TlsOptions::default();
    tls.ca = Some("ca".into());
    tls.identity = Some(Identity::Pem {
        cert: "c".into(),
        key: "k".into(),
    });
    tls.alpn = vec!["x".into(), "y".into()];
    tls.server_name = Some("other".into());
    expected.security = Security::Tls(tls);
    expected.credentials = Some(Credentials {
        username: "u".into(),
        password: Secret::default(),
    });
    let mut will = Will::new("gone/me", QoS::AtMostOnce, "");
    will.retain = true;
    expected.last_will = Some(will);
    expected.keep_alive = Duration::from_secs(7);
    expected.clean_session = true;
    expected.on_session_lost = OnSessionLost::Fail;
    expected.unmatched_hold = ms(18);
    expected.max_inflight = 8;
    expected.command_queue = 9;
    expected.ack_timeout = ms(12);
    expected.connect_timeout = ms(13);
    expected.retry.base = ms(14);
    expected.retry.max = ms(15);
    expected.retry.connect_for = ms(18);
    expected.retry.reconnect_for = ms(18);
    expected.retry.attempts = 16;
    expected.connect_interval = ms(17);
    expected.max_packet_size = 4096;
    expected.on_too_large = OnTooLarge::Close;
    assert_eq!(format!("{:?}", config.options), format!("{expected:?}"));
    let expected_demo = DemoSettings {
        iterations: 2,
        publish_count: 3,
        publish_delay: ms(4),
        iteration_delay: ms(5),
        payload_size: 1024,
        qos: QoS::ExactlyOnce,
        topic_prefix: "a/b".into(),
        inbox: 11,
        made_up_id: false,
    };
    assert_eq!(*demo(&config), expected_demo);
    assert_eq!(config.output, Format::Json);
    assert_eq!(config.verbosity.level(), log::LevelFilter::Trace);
}

#[test]
fn command_line_over_environment_over_file_over_defaults() {
    let (_folder, file) = files(&[(
        "a.toml",
        "endpoint = \"file\"\niterations = 11\npublish-count = 12\nqos = 0\nclean-session = true\n",
    )]);
    let environment = [
        ("MQTT_ITERATIONS", "21"),
        ("MQTT_PUBLISH_COUNT", "22"),
        ("MQTT_QOS", ""),
    ];
    let args = ["--config", &file, "--iterations", "31"];
    let config = with(&args, &environment).unwrap();
    assert_eq!(demo(&config).iterations, 31);
    assert_eq!(demo(&config).publish_count, 22);
    assert_eq!(demo(&config).qos, QoS::AtMostOnce);
    assert_eq!(config.options.host, "file");
    // With QoS 0 it follows from the publish count.
    assert_eq!(demo(&config).inbox, 22);
    assert!(config.options.clean_session);
    let off = [&args[..], &["--clean-session=false"]].concat();
    assert!(!with(&off, &environment).unwrap().options.clean_session);
    let environment = [("MQTT_CLEAN_SESSION", "false")];
    assert!(!with(&args, &environment).unwrap().options.clean_session);
}

#[test]
fn the_demo_makes_room_for_all_messages_of_qos_0_unless_told_otherwise() {
    for (args, places) in [
        (&["--qos=0", "--publish-count=2000"][..], 2_000),
        (&["--qos=0"], 10),
        (&["--qos=0", "--publish-count=1000000000"], 100_000),
        (&["--qos=1", "--publish-count=2000"], 10),
        (&["--qos=0", "--publish-count=2000", "--inbox=7"], 7),
    ] {
        assert_eq!(demo(&to("a", args).unwrap()).inbox, places, "{args:?}");
    }
    // A copy of the file of defaults changes nothing.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo.toml");
    let args = ["--config", file, "--qos=0", "--publish-count=2000"];
    assert_eq!(demo(&to("a", &args).unwrap()).inbox, 2_000);
}

#[test]
fn ports_follow_the_scheme_unless_given() {
    let port = |endpoint, args: &[&str]| to(endpoint, args).unwrap().options.port;
    assert_eq!(port("a", &[]), 8883);
    assert_eq!(port("mqtt://a", &[]), 1883);
    assert_eq!(port("a:1", &[]), 1);
    assert_eq!(port("a", &["--port=2"]), 2);
    assert_eq!(port("mqtt://a", &["--port=2"]), 2);
    assert_eq!(port("a:2", &["--port=2"]), 2);
    refused(
        to("a:1", &["--port=2"]),
        &["--endpoint says 1", "--port says 2"],
    );
}

#[test]
fn the_port_of_the_stronger_source_wins() {
    let (_folder, file) = files(&[("a.toml", "endpoint = \"a:1\"\n")]);
    let port = |args: &[&str], environment: &[(&str, &str)]| {
        let args = [&["--config", file.as_str()], args].concat();
        with(&args, environment).unwrap().options.port
    };
    assert_eq!(port(&[], &[]), 1);
    assert_eq!(port(&["--port=2"], &[]), 2);
    assert_eq!(port(&["--endpoint=b:3"], &[("MQTT_PORT", "2")]), 3);
    assert_eq!(port(&["--endpoint=b"], &[("MQTT_PORT", "2")]), 2);
    assert_eq!(
        port(&["--endpoint=b"], &[]),
        8883,
        "1 belongs to the other broker"
    );
}

#[test]
fn plain_tcp_only_when_written_out_and_not_with_tls_settings() {
    let config = to("mqtt://a", &[]).unwrap();
    assert!(matches!(config.options.security, Security::Plain));
    for (args, name) in [
        (&["--cert=c", "--key=k"][..], "--cert"),
        (&["--ca-file=c"], "--ca-file"),
        (&["--pkcs12=c"], "--pkcs12"),
        (&["--alpn=c"], "--alpn"),
        (&["--tls-server-name=c"], "--tls-server-name"),
    ] {
        refused(to("mqtt://a", args), &["mqtt://", name, "mqtts://"]);
    }
    for endpoint in ["a", "mqtts://a", "ssl://a", "a:1883"] {
        let config = to(endpoint, &[]).unwrap();
        assert!(
            matches!(config.options.security, Security::Tls(_)),
            "{endpoint}"
        );
    }
}

#[test]
fn paths_in_the_file_start_from_its_folder() {
    let (folder, file) = files(&[
        (
            "a.toml",
            "endpoint = \"a\"\nusername = \"u\"\npassword-file = \"pw\"\nca-file = \"ca\"\n",
        ),
        ("pw", "secret\n"),
    ]);
    let config = flags(&["--config", &file]).unwrap();
    assert_eq!(password(&config), "secret");
    let Security::Tls(tls) = &config.options.security else {
        panic!("not TLS");
    };
    assert_eq!(tls.ca, Some(folder.path().join("ca").into()));
}

#[cfg(unix)]
#[test]
fn a_path_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::write(&path, "secret").unwrap();
    let given = |keys: &[&str], by_flag: bool| {
        let mut args: Vec<OsString> = ["program", "--endpoint=a", "--username=u", "--will-topic=t"]
            .map(OsString::from)
            .to_vec();
        for key in keys.iter().filter(|_| by_flag) {
            args.push(format!("--{key}").into());
            args.push(path.clone().into());
        }
        let variables = keys.iter().filter(|_| !by_flag).map(|key| variable(key));
        let mut surroundings = around(&[]);
        surroundings.variables = variables
            .map(|name| (name, path.clone().into_os_string()))
            .collect();
        resolve(command_line::parse_from(args).unwrap(), &surroundings).unwrap()
    };
    let file = Material::from(path.clone());
    for by_flag in [true, false] {
        let rest = ["ca-file", "password-file", "will-payload-file"];
        let config = given(&[&rest[..], &["cert", "key"]].concat(), by_flag);
        assert_eq!(password(&config), "secret");
        assert_eq!(config.options.last_will.as_ref().unwrap().payload, "secret");
        let Security::Tls(tls) = &config.options.security else {
            panic!("not TLS");
        };
        assert_eq!(tls.ca.as_ref(), Some(&file));
        let Some(Identity::Pem { cert, key }) = &tls.identity else {
            panic!("not PEM");
        };
        assert_eq!((cert, key), (&file, &file));

        let config = given(&["pkcs12", "pkcs12-password-file"], by_flag);
        let Security::Tls(tls) = &config.options.security else {
            panic!("not TLS");
        };
        let Some(Identity::Pkcs12 { archive, password }) = &tls.identity else {
            panic!("not PKCS#12");
        };
        assert_eq!((archive, text(password)), (&file, "secret"));
    }
}

#[cfg(unix)]
#[test]
fn a_flag_that_is_no_path_has_to_be_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    for (flag, advice) in [
        ("--client-id", "use a client identifier, as a text"),
        ("--qos", "use 0, 1 or 2"),
        ("--alpn", "use a list of names"),
        ("--output", "use text, json or jsonl"),
    ] {
        let args = [
            OsStr::new("program"),
            flag.as_ref(),
            OsStr::from_bytes(b"caf\xe9"),
        ];
        let args = args.map(OsStr::to_owned);
        let cli = command_line::parse_from(args).unwrap();
        let line = resolve(cli, &around(&[])).unwrap_err().to_string();
        assert!(line.starts_with(&format!("reading {flag}: ")), "{line}");
        assert!(line.contains(advice), "{line}");
    }
}

#[test]
fn the_default_client_id_names_the_host_and_is_new_in_each_run() {
    let id = to("a", &[]).unwrap().options.client_id;
    assert_eq!(id, "mqtt-connection-sharing-workbench-0123456789ab");
    let id = |name: Option<&str>| {
        default_client_id(&Surroundings {
            host_name: name.map(str::to_owned),
            ..around(&[])
        })
    };
    let longest = id(Some(&"x".repeat(1000)));
    assert_eq!(longest.len(), 100, "AWS IoT takes 128 bytes: {longest}");
    assert_eq!(
        id(Some("a b+#/")),
        "mqtt-connection-sharing-ab-0123456789ab"
    );
    for nothing in [None, Some("."), Some("+")] {
        assert_eq!(id(nothing), "mqtt-connection-sharing-0123456789ab");
    }
    // As in two containers with one host name, in which each program is process 1.
    let run = || Surroundings::of_this_process().run;
    let (one, other) = (run(), run());
    assert_ne!(one, other);
    for run in [one, other] {
        let is_plain = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
        assert!(run.len() == 12 && run.chars().all(is_plain), "{run}");
    }
}

#[test]
fn an_empty_client_id_needs_a_clean_session() {
    refused(to("a", &["--client-id="]), &["client identifier"]);
    assert!(to("a", &["--client-id=", "--clean-session"]).is_ok());
}

#[test]
fn local_needs_no_endpoint_and_refuses_one_on_the_command_line() {
    let config = flags(&["--local"]).unwrap();
    assert!(config.local && config.notices.is_empty());
    for key in remote_only() {
        let flag = format!("--{key}={}", if key == "port" { "1" } else { "a" });
        refused(
            flags(&["--local", &flag]),
            &["--local", &format!("--{key}")],
        );
    }
}

#[test]
fn local_leaves_other_sources_out_of_account_and_says_so() {
    let (_folder, file) = files(&[(
        "a.toml",
        "endpoint = \"a:1\"\npassword-file = \"nowhere\"\n",
    )]);
    let environment = [
        ("MQTT_PORT", "2"),
        ("MQTT_PASSWORD", "p"),
        ("MQTT_QOS", "0"),
    ];
    let config = with(&["--local", "--config", &file], &environment).unwrap();
    assert_eq!(demo(&config).qos, QoS::AtMostOnce);
    for name in [
        "MQTT_PORT",
        "MQTT_PASSWORD",
        "endpoint in ",
        "password-file in ",
    ] {
        let named = config
            .notices
            .iter()
            .filter(|n| n.starts_with(name))
            .count();
        assert_eq!(named, 1, "{name}: {:?}", config.notices);
    }
    assert_eq!(config.notices.len(), 4);
    let environment = [("MQTT_LOCAL", "true")];
    refused(
        with(&["--endpoint=a"], &environment),
        &["MQTT_LOCAL", "--local=false"],
    );
    let config = with(&["--endpoint=a", "--local=false"], &environment).unwrap();
    assert!(!config.local);
}

#[test]
fn each_bad_value_on_the_command_line_is_named_with_what_is_allowed() {
    for (flag, expected) in [
        ("--qos=3", "0, 1 or 2"),
        ("--publish-count=0", "1 to 1000000000"),
        ("--publish-count=1000000001", "1 to 1000000000"),
        ("--port=0", "1 to 65535"),
        ("--max-inflight=0", "1 to 65535"),
        ("--command-queue=0", "1 to 1000000"),
        ("--command-queue=99999999999", "1 to 1000000"),
        ("--inbox=0", "1 to 1000000"),
        ("--inbox=1000001", "1 to 1000000"),
        ("--ack-timeout=0", "100ms"),
        ("--connect-timeout=0", "100ms"),
        ("--keep-alive=1500ms", "60s"),
        ("--keep-alive=65536s", "65535"),
        ("--max-packet-size=127", "at least 128"),
        ("--max-packet-size=257MiB", "256MiB"),
        ("--alpn=a,,b", "1 to 255"),
        ("--tls-server-name=", "leave it out"),
        ("--topic-prefix=", "filter"),
        ("--topic-prefix=a/+", "wildcard"),
        ("--topic-prefix=#", "wildcard"),
        ("--topic-prefix=$SYS", "broker"),
        ("--topic-prefix=a/", "slash"),
        ("--client-id=a\0", "U+0000"),
        ("--endpoint=a:b", "65535"),
    ] {
        let name = flag.split('=').next().unwrap();
        refused(flags(&[flag]), &[&format!("reading {name}: "), expected]);
    }
    refused(
        to("a", &["--retry-base=6s"]),
        &["retry", "raise the maximum"],
    );
}

#[test]
fn the_demo_s_own_messages_have_to_fit() {
    // 5 fixed header, 2 + 14 topic filter/async/8, 2 packet identifier, 1001 payload.
    let fits = ["--payload-size=1001", "--max-packet-size=1024"];
    assert!(to("a", &fits).is_ok());
    refused(
        to("a", &["--payload-size=1002", "--max-packet-size=1024"]),
        &["--payload-size", "1025 bytes", "--max-packet-size"],
    );
    refused(to("a", &["--payload-size=256KiB"]), &["--payload-size"]);
    assert!(to("a", &["--payload-size=200KiB"]).is_ok());
    let prefix = format!("--topic-prefix={}", "x".repeat(65_535));
    refused(to("a", &[&prefix]), &["--topic-prefix", "shorten"]);
}

#[test]
fn messages_that_do_not_fit_are_blamed_on_the_source_of_the_setting() {
    let (_folder, file) = files(&[("a.toml", "max-packet-size = 1024\n")]);
    let (name, value) = ("MQTT_PAYLOAD_SIZE", "1002");
    refused(
        with(&["--endpoint=a", "--config", &file], &[(name, value)]),
        &[
            "checking MQTT_PAYLOAD_SIZE: ",
            ", max-packet-size in ",
            "lower MQTT_PAYLOAD_SIZE or raise max-packet-size in ",
        ],
    );
    refused(
        with(&["--endpoint=a"], &[(name, "256MiB")]),
        &["checking MQTT_PAYLOAD_SIZE: ", "2.2.3"],
    );
    refused(
        with(
            &["--endpoint", AWS, "--cert=c", "--key=k"],
            &[("MQTT_QOS", "2")],
        ),
        &["checking MQTT_QOS against the limits of AWS IoT: "],
    );
    let prefix = "x".repeat(65_535);
    let prefix = with(&["--endpoint=a"], &[("MQTT_TOPIC_PREFIX", &prefix)]);
    refused(prefix, &["checking MQTT_TOPIC_PREFIX: ", "shorten it"]);
}

#[test]
fn a_settings_file_that_is_not_there_is_named() {
    refused(
        flags(&["--config=/nowhere/a.toml"]),
        &["/nowhere/a.toml", "--config"],
    );
}
