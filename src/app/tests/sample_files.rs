//! The files in `config/` for AWS IoT Core and for Mosquitto: they resolve as they are, with their commented lines too.

use std::fs;

use mqtt_connection_sharing::options::{Identity, Material, Security, TlsOptions};

use super::papers::{file, repository};
use super::resolve::with;
use crate::app::resolve::Config;

const AWS: &str = "config/aws-iot.toml";
const MOSQUITTO: &str = "config/mosquitto.toml";

fn resolved(task: &str, path: &str) -> Config {
    let path = repository().join(path);
    with(&[task, "--config", path.to_str().unwrap()], &[]).unwrap()
}

fn tls(config: &Config) -> &TlsOptions {
    match &config.options.security {
        Security::Tls(tls) => tls,
        other => panic!("{other:?}"),
    }
}

/// A path from the top of the repository, as the settings of a file in `config/` give it.
fn in_certs(name: &str) -> Material {
    Material::File(repository().join("config/../certs").join(name))
}

#[test]
fn the_file_for_aws_iot_reaches_it_with_a_certificate() {
    for task in ["demo", "bench", "check"] {
        let config = resolved(task, AWS);
        let options = &config.options;
        assert!(options.is_aws_iot());
        assert_eq!(
            (options.port, options.client_id.as_str()),
            (8883, "my-thing")
        );
        let tls = tls(&config);
        assert!(tls.ca.is_none() && tls.alpn.is_empty(), "{tls:?}");
        let identity = Identity::pem(
            in_certs("my-thing/certificate.pem.crt"),
            in_certs("my-thing/private.pem.key"),
        );
        assert_eq!(tls.identity, Some(identity));
    }
}

#[test]
fn the_file_for_mosquitto_reaches_one_with_mutual_tls() {
    for task in ["demo", "bench", "check"] {
        let config = resolved(task, MOSQUITTO);
        assert_eq!(
            (config.options.host.as_str(), config.options.port),
            ("localhost", 8883)
        );
        let tls = tls(&config);
        assert_eq!(tls.ca, Some(in_certs("ca.pem")));
        let identity = Identity::pem(in_certs("client.pem"), in_certs("client.key"));
        assert_eq!(tls.identity, Some(identity));
        assert_eq!(config.notices, [""; 0]);
    }
}

/// Resolves a file with some of its commented lines switched on, and without some of the others.
fn changed(path: &str, on: &[&str], off: &[&str]) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let lines = file(path);
    let key_of = |line: &str| {
        line.trim_start_matches('#')
            .split(" = ")
            .next()
            .unwrap()
            .to_owned()
    };
    let lines = lines
        .lines()
        .filter_map(|line| match line.starts_with('#') {
            true => on.contains(&line).then(|| line.trim_start_matches('#')),
            false => (!off.contains(&key_of(line).as_str())).then_some(line),
        });
    let text: Vec<&str> = lines.collect();
    let copy = folder.path().join("copy.toml");
    fs::write(
        &copy,
        text.join("\n").replace("../certs/password", "copy.toml"),
    )
    .unwrap();
    with(&["demo", "--config", copy.to_str().unwrap()], &[]).unwrap()
}

#[test]
fn their_commented_lines_are_settings_as_well() {
    let on = ["#port = 443", "#alpn = [\"x-amzn-mqtt-ca\"]"];
    let config = changed(AWS, &on, &[]);
    assert_eq!(config.options.port, 443);
    assert_eq!(tls(&config).alpn, ["x-amzn-mqtt-ca"]);
    let on = [
        "#username = \"demo\"",
        "#password-file = \"../certs/password\"",
    ];
    assert!(changed(MOSQUITTO, &on, &[]).options.credentials.is_some());
    let on = ["#endpoint = \"mqtt://localhost\""];
    let off = ["endpoint", "ca-file", "cert", "key"];
    let config = changed(MOSQUITTO, &on, &off);
    assert!(matches!(config.options.security, Security::Plain));
    assert_eq!(config.options.port, 1883);
}
