//! Which value of a setting counts, and that no other is judged.

use mqtt_connection_sharing::QoS;

use super::resolve::*;
use crate::app::resolve::Job;

/// Kubernetes sets `MQTT_PORT` in each Pod beside a Service named `mqtt`.
const KUBERNETES: (&str, &str) = ("MQTT_PORT", "tcp://10.96.12.7:8883");

#[test]
fn a_value_that_another_one_replaces_may_be_anything() {
    let (_folder, file) = files(&[(
        "a.toml",
        "endpoint = \"https://\"\nport = \"x\"\nqos = 7\npassword-file = 5\npkcs12 = 5\n\
         publish-count = \"many\"\n",
    )]);
    let args = |more: &[&'static str]| {
        let base = ["--config", file.as_str(), "--qos=7", "--qos=1"];
        [&base[..], more].concat()
    };
    let environment = [
        ("MQTT_PUBLISH_COUNT", "5"),
        ("MQTT_USERNAME", "me"),
        ("MQTT_PASSWORD", "secret"),
        KUBERNETES,
    ];
    let flags = args(&["--endpoint=a", "--port=1", "--cert=c", "--key=k"]);
    let config = with(&flags, &environment).unwrap();
    assert_eq!((config.options.port, password(&config)), (1, "secret"));
    assert_eq!(demo(&config).qos, QoS::AtLeastOnce);
    assert_eq!(demo(&config).publish_count, 5);
    // The port within a stronger endpoint.
    let flags = args(&["--endpoint=a:2", "--cert=c", "--key=k"]);
    assert_eq!(with(&flags, &environment).unwrap().options.port, 2);
    // The weaker values do count without the stronger ones.
    let environment = &environment[1..];
    refused(with(&flags, environment), &["publish-count in ", "many"]);
}

#[test]
fn a_value_that_this_run_does_not_use_may_be_anything() {
    let (_folder, file) = files(&[(
        "a.toml",
        "threads = \"x\"\npublish-delay = \"x\"\n[bench]\nmessages = \"x\"\n",
    )]);
    let config = ["--config", file.as_str()];
    let environment = [
        KUBERNETES,
        ("MQTT_ENDPOINT", "https://a"),
        ("MQTT_WINDOW", "x"),
    ];
    let local = ["--local", "--publish-delay=0"];
    let local = with(&[&config[..], &local].concat(), &environment).unwrap();
    assert!(local.local);
    assert_eq!(local.notices.len(), 2, "{:?}", local.notices);
    let environment = [("MQTT_ITERATIONS", "x"), ("MQTT_MESSAGES", "5")];
    let bench = ["bench", "--endpoint=a", "--threads=2"];
    assert!(with(&[&bench[..], &config].concat(), &environment).is_ok());
    // On the command line they are slips.
    refused(flags(&["--local", "--port=x"]), &["--port is for a broker"]);
    refused(
        flags(&["--threads=x"]),
        &["a flag of the commands bench and pub"],
    );
}

#[test]
fn a_port_of_kubernetes_is_named_where_it_counts() {
    let args = ["--endpoint=a"];
    for text in [
        "tcp://10.96.12.7:8883",
        "udp://10.0.0.1:1883",
        "tcp://[fd00::1]:8883",
    ] {
        let found = with(&args, &[("MQTT_PORT", text)]);
        let parts = [
            "reading MQTT_PORT: ",
            text,
            "Kubernetes",
            "--port",
            "enableServiceLinks",
        ];
        refused(found, &parts);
    }
    // An endpoint of the same source that names a port needs no other.
    let both = [("MQTT_ENDPOINT", "a:1"), KUBERNETES];
    assert_eq!(with(&[], &both).unwrap().options.port, 1);
    let neither = [("MQTT_ENDPOINT", "a"), KUBERNETES];
    refused(with(&[], &neither), &["MQTT_PORT", "Kubernetes"]);
}

#[test]
fn the_table_bench_of_a_file_counts_for_that_command() {
    let (_folder, file) = files(&[(
        "a.toml",
        "endpoint = \"a\"\nqos = 0\npayload-size = 1\nmessages = 2\n\
         [bench]\nqos = 2\nmessages = 3\ncert = \"c\"\nkey = \"k\"\n",
    )]);
    let config = ["--config", file.as_str()];
    let run = flags(&config).unwrap();
    assert_eq!(
        (demo(&run).qos, demo(&run).payload_size),
        (QoS::AtMostOnce, 1)
    );
    let run = flags(&[&["bench"], &config[..]].concat()).unwrap();
    let Job::Bench(bench) = &run.job else {
        panic!("not the bench")
    };
    assert_eq!((bench.qos, bench.messages), (QoS::ExactlyOnce, 3));
    assert_eq!((bench.payload_size, bench.window), (1, 20));
    for (text, parts) in [
        ("bench = 1", ["bench is not a table", "[bench]"]),
        (
            "[bench]\nthread = 1",
            ["the key thread is not known", "did you mean threads?"],
        ),
        (
            "[bench]\ninterval = 1",
            ["the key interval is not known", "remove it"],
        ),
        (
            "[bench]\nmax-inflihgt = 1",
            ["the key max-inflihgt is not known", "remove it"],
        ),
        (
            "[bench]\niterations = 1",
            ["iterations below [bench]", "of the demo"],
        ),
        (
            "[bench]\nthreads = 0",
            ["reading bench.threads in ", "1 to 10000"],
        ),
    ] {
        let (_folder, file) = files(&[("a.toml", text)]);
        refused(flags(&["bench", "--config", &file]), &parts);
    }
}

#[test]
fn quotation_marks_around_a_value_are_named() {
    for (name, value) in [
        ("MQTT_ENDPOINT", "\"broker.example\""),
        ("MQTT_QOS", "'1'"),
        ("MQTT_CA_FILE", "\"/certs/ca.pem\""),
        ("MQTT_CLIENT_ID", "\"me\""),
        ("MQTT_LOCAL", "\"true\""),
    ] {
        let found = with(&[], &[(name, value)]);
        refused(found, &[&format!("reading {name}: "), "quotation marks"]);
    }
    refused(
        flags(&["--qos", "\"1\""]),
        &["reading --qos: ", "quotation"],
    );
    let (_folder, file) = files(&[("a.toml", "endpoint = \"a\"\nclient-id = \"'me'\"\n")]);
    let config = flags(&["--config", &file]).unwrap();
    assert_eq!(config.options.client_id, "'me'");
}

#[test]
fn a_tilde_is_named_in_each_source() {
    let (_folder, file) = files(&[("a.toml", "endpoint = \"a\"\nca-file = \"~/ca.pem\"\n")]);
    refused(
        flags(&["--config", &file]),
        &["ca-file in ", "begins with ~"],
    );
    refused(
        to("a", &["--cert=~/c", "--key=k"]),
        &["reading --cert: ", "begins with ~"],
    );
    let variable = [("MQTT_PASSWORD_FILE", "~me/hunter2")];
    let found = with(&["--endpoint=a", "--username=u"], &variable);
    assert!(!found.as_ref().unwrap_err().to_string().contains("hunter2"));
    refused(found, &["reading MQTT_PASSWORD_FILE: ", "begins with ~"]);
    refused(
        flags(&["--config=~/demo.toml"]),
        &["reading --config: ", "begins with ~"],
    );
    assert!(to("a", &["--ca-file=./~"]).is_ok());
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_remarked_upon() {
    let notices = |args: &[&str], name| with(args, &[(name, "1")]).unwrap().notices;
    let to_a = &["--endpoint=a"][..];
    let remarks = notices(to_a, "MQTT_PUBLISHCOUNT");
    let remark = "MQTT_PUBLISHCOUNT is no setting and not used; did you mean MQTT_PUBLISH_COUNT?";
    assert_eq!(remarks, [remark]);
    assert!(notices(to_a, "MQTT_PASS")[0].contains("MQTT_PASSWORD"));
    // The setting that it seems to mean is given, or this run does not use it.
    assert_eq!(
        notices(&["--endpoint=a", "--publish-count=3"], "MQTT_PUBLISHCOUNT"),
        [""; 0]
    );
    assert_eq!(
        notices(&["bench", "--endpoint=a"], "MQTT_PUBLISHCOUNT"),
        [""; 0]
    );
    assert_eq!(notices(&["--local"], "MQTT_HOST"), [""; 0]);
    assert_eq!(notices(to_a, "MQTT_HOST"), [""; 0]);
    assert_eq!(notices(to_a, "MQTT_SERVICE_HOST"), [""; 0]);
    refused(
        with(&[], &[("MQTT_HOST", "a")]),
        &["MQTT_HOST is no setting, MQTT_ENDPOINT is"],
    );
    let quoted = [("MQTT_PASSWORD", "\"secret\"")];
    let config = with(&["--endpoint=a", "--username=u"], &quoted).unwrap();
    assert_eq!(password(&config), "\"secret\"");
    assert!(config.notices[0].contains("quotation marks around MQTT_PASSWORD"));
}
