//! Variables that were set for another purpose, or with another tool's ways: none breaks the program silently.

use mqtt_connection_sharing::options::{Identity, Security};

use super::resolve::*;
use crate::app::resolve::Config;

fn identity(config: &Config) -> Option<&Identity> {
    match &config.options.security {
        Security::Tls(tls) => tls.identity.as_ref(),
        _ => None,
    }
}

#[test]
fn a_variable_for_tls_does_no_harm_beside_an_endpoint_without_it() {
    for (name, value) in [
        ("MQTT_CA_FILE", "/etc/ca.pem"),
        ("MQTT_PKCS12", "/etc/me.p12"),
        ("MQTT_PKCS12_PASSWORD_FILE", "/nowhere"),
        ("MQTT_ALPN", "x"),
        ("MQTT_TLS_SERVER_NAME", "a"),
    ] {
        for config in [
            with(&["--endpoint=mqtt://a"], &[(name, value)]),
            with(&[], &[("MQTT_ENDPOINT", "mqtt://a"), (name, value)]),
        ] {
            let config = config.expect(name);
            assert!(matches!(config.options.security, Security::Plain));
            let notice =
                format!("{name} is not used: the endpoint says mqtt://, which is without TLS");
            assert_eq!(config.notices, [notice]);
        }
    }
    let pair = [("MQTT_CERT", "/etc/cert.pem"), ("MQTT_KEY", "~/key.pem")];
    let config = with(&["--endpoint=mqtt://a"], &pair).unwrap();
    assert_eq!(config.notices.len(), 2, "{:?}", config.notices);
    // So does a weaker file, but one file that says both, or a flag, contradicts itself.
    let (_folder, file) = files(&[("a.toml", "ca-file = \"ca.pem\"\n")]);
    let config = flags(&["--endpoint=mqtt://a", "--config", &file]).unwrap();
    assert!(
        config.notices[0].starts_with("ca-file in "),
        "{:?}",
        config.notices
    );
    let (_folder, file) = files(&[("a.toml", "endpoint = \"mqtt://a\"\nca-file = \"ca.pem\"\n")]);
    refused(
        flags(&["--config", &file]),
        &["mqtt://", "ca-file in ", " is for TLS"],
    );
    refused(
        to("mqtt://a", &["--cert=c"]),
        &["mqtt://", "--cert is for TLS"],
    );
}

#[test]
fn a_password_without_a_user_name_does_no_harm_in_the_environment() {
    for (name, value) in [
        ("MQTT_PASSWORD", "hunter2"),
        ("MQTT_PASSWORD_FILE", "/nowhere/hunter2"),
    ] {
        let config = with(&["--endpoint=a"], &[(name, value)]).expect(name);
        assert_eq!(config.options.credentials, None);
        let notice = format!("{name} is not used: no user name is given (--username)");
        assert_eq!(config.notices, [notice]);
    }
    let both = [
        ("MQTT_PASSWORD", "hunter2"),
        ("MQTT_PASSWORD_FILE", "/nowhere/hunter2"),
    ];
    assert_eq!(with(&["--endpoint=a"], &both).unwrap().notices.len(), 2);
    let (_folder, file) = files(&[("a.toml", "endpoint = \"a\"\npassword-file = \"pw\"\n")]);
    refused(
        flags(&["--config", &file]),
        &["password-file in ", "without a user name", "--username"],
    );
    refused(
        to("a", &["--password-file=pw"]),
        &["--password-file is given without a user name"],
    );
}

#[test]
fn half_a_certificate_in_the_environment_does_no_harm() {
    for (name, other) in [("MQTT_KEY", "--cert"), ("MQTT_CERT", "--key")] {
        let config = with(&["--endpoint=a"], &[(name, "~/x")]).expect(name);
        assert!(identity(&config).is_none());
        assert_eq!(
            config.notices,
            [format!("{name} is not used: there is no {other}")]
        );
        // It takes no archive of a weaker source away either.
        let (_folder, file) = files(&[("a.toml", "endpoint = \"a\"\npkcs12 = \"/p\"\n")]);
        let config = with(&["--config", &file], &[(name, "x")]).expect(name);
        assert!(matches!(
            identity(&config),
            Some(Identity::Pkcs12 { archive, .. }) if *archive == "/p".into()
        ));
    }
    let config = with(
        &["--endpoint=a"],
        &[("MQTT_PKCS12_PASSWORD_FILE", "/nowhere")],
    )
    .unwrap();
    assert_eq!(
        config.notices,
        ["MQTT_PKCS12_PASSWORD_FILE is not used: there is no --pkcs12"]
    );
    // The other half may come from any source.
    let config = with(&["--endpoint=a", "--cert=c"], &[("MQTT_KEY", "k")]).unwrap();
    assert!(matches!(identity(&config), Some(Identity::Pem { .. })));
    let (_folder, file) = files(&[("a.toml", "endpoint = \"a\"\nkey = \"k\"\n")]);
    let config = with(&["--config", &file], &[("MQTT_CERT", "c")]).unwrap();
    assert!(matches!(identity(&config), Some(Identity::Pem { .. })));
}

#[test]
fn a_will_without_a_topic_does_no_harm_in_the_environment() {
    for (name, value) in [
        ("MQTT_WILL_QOS", "7"),
        ("MQTT_WILL_RETAIN", "true"),
        ("MQTT_WILL_PAYLOAD_FILE", "/nowhere"),
    ] {
        for args in [&["--endpoint=a"][..], &["--local"]] {
            let config = with(args, &[(name, value)]).expect(name);
            assert_eq!(config.options.last_will, None);
            assert_eq!(
                config.notices,
                [format!("{name} is not used: there is no --will-topic")]
            );
        }
    }
}

/// Docker and others take such files line by line, and leave the carriage return in the value.
#[test]
fn a_line_break_at_the_end_of_a_value_is_named() {
    for (name, value, place) in [
        ("MQTT_ENDPOINT", "broker.example\r", 15),
        ("MQTT_PORT", "8883\r", 5),
        ("MQTT_QOS", "1\r", 2),
        ("MQTT_LOCAL", "true\r", 5),
        ("MQTT_USERNAME", "me\r", 3),
        ("MQTT_CLIENT_ID", "me\r", 3),
        ("MQTT_TOPIC_PREFIX", "t\r", 2),
        ("MQTT_CA_FILE", "/ca.pem\r", 8),
        ("MQTT_ALPN", "mqtt\r", 5),
        ("MQTT_OUTPUT", "json\r", 5),
        ("MQTT_PUBLISH_DELAY", "5s\r\n", 3),
        ("MQTT_QOS", "\"1\"\r", 4),
        ("MQTT_QOS", "\r", 1),
    ] {
        let given = [("MQTT_ENDPOINT", "a"), (name, value)];
        let given = &given[usize::from(name == "MQTT_ENDPOINT")..];
        refused(
            with(&[], given),
            &[
                &format!(
                    "reading {name}: its character {place} is U+000D, a carriage return, as lines of"
                ),
                "a file with Windows line ends leave one",
                "; use ",
            ],
        );
    }
    refused(
        with(&[], &[("MQTT_ENDPOINT", "a\n")]),
        &["reading MQTT_ENDPOINT: its character 2 is U+000A, a line feed"],
    );
    refused(
        to("a", &["--username=me\r"]),
        &["reading --username: its character 3 is U+000D, a carriage return"],
    );
    // Any byte may be part of a password.
    for name in ["MQTT_PASSWORD", "MQTT_PKCS12_PASSWORD"] {
        let args = ["--endpoint=a", "--username=u", "--pkcs12=p"];
        let config = with(&args, &[(name, "hunter2\r")]).unwrap();
        assert_eq!(config.notices.len(), 1, "{:?}", config.notices);
        let notice = &config.notices[0];
        assert!(
            notice.starts_with(&format!("{name} ends in U+000D, a carriage return, ")),
            "{notice}"
        );
        assert!(!notice.contains("hunter2"), "{notice}");
        let config = with(&args, &[(name, "hunter2\r\n")]).unwrap();
        assert_eq!(config.notices, [""; 0]);
    }
}

/// Kubernetes sets NAME_PORT in each Pod beside a Service called NAME.
#[test]
fn a_port_of_kubernetes_is_no_slip() {
    let args = ["--endpoint=a"];
    let given = [("MQTT_BROKER_PORT", "tcp://10.96.12.7:1883")];
    assert_eq!(
        with(&args, &given).unwrap().notices,
        [
            "MQTT_BROKER_PORT is no setting and not used: Kubernetes sets it for a Service called mqtt-broker"
        ]
    );
    let given = [("MQTT_BROKER_PORT", "1883")];
    assert_eq!(
        with(&args, &given).unwrap().notices,
        ["MQTT_BROKER_PORT is no setting and not used; did you mean MQTT_PORT?"]
    );
}

#[test]
fn a_variable_that_only_a_flag_can_be_is_remarked_upon() {
    let notices = |args: &[&str], name| with(args, &[(name, "1")]).unwrap().notices;
    for (name, flag) in [
        ("MQTT_CONFIG", "--config FILE"),
        ("MQTT_VERBOSE", "-v, or set RUST_LOG"),
        ("MQTT_DEBUG", "-v, or set RUST_LOG"),
        ("MQTT_LOG_LEVEL", "-v, or set RUST_LOG"),
        ("MQTT_QUIET", "-q, or set RUST_LOG"),
    ] {
        let notice = format!("{name} is no setting and not used; give {flag}");
        assert_eq!(notices(&["--endpoint=a"], name), [notice]);
    }
    let (_folder, file) = files(&[("a.toml", "endpoint = \"a\"\n")]);
    assert_eq!(notices(&["--config", &file], "MQTT_CONFIG"), [""; 0]);
    assert_eq!(notices(&["--endpoint=a", "-v"], "MQTT_VERBOSE"), [""; 0]);
    assert_eq!(
        notices(&["--endpoint=a"], "MQTT_TLS_CA"),
        ["MQTT_TLS_CA is no setting and not used; did you mean MQTT_CA_FILE?"]
    );
}
