//! Certificates, keys, archives and passwords: where they come from and what they exclude.

use super::resolve::*;
use crate::app::resolve::*;
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::{Identity, Security};

fn identity(config: &Config) -> Option<&Identity> {
    match &config.options.security {
        Security::Tls(tls) => tls.identity.as_ref(),
        _ => None,
    }
}

#[test]
fn certificate_and_key_go_together_and_not_with_an_archive() {
    refused(to("a", &["--cert=c"]), &["--cert is given", "add --key"]);
    refused(to("a", &["--key=c"]), &["--key is given", "add --cert"]);
    refused(
        to("a", &["--pkcs12=p", "--cert=c", "--key=k"]),
        &["both --pkcs12 and --cert"],
    );
    refused(
        to("a", &["--pkcs12=p", "--key=k"]),
        &["both --pkcs12 and --key"],
    );
    refused(to("a", &["--pkcs12-password-file=p"]), &["add --pkcs12"]);
    let config = with(&["--endpoint=a", "--cert=c"], &[("MQTT_KEY", "k")]);
    assert!(matches!(
        identity(&config.unwrap()),
        Some(Identity::Pem { key, .. }) if *key == "k".into()
    ));
}

#[test]
fn an_archive_in_a_stronger_source_replaces_certificate_and_key_and_the_reverse() {
    let (_folder, file) = files(&[("a.toml", "endpoint = \"a\"\ncert = \"c\"\nkey = \"k\"\n")]);
    let config = flags(&["--config", &file, "--pkcs12=p"]).unwrap();
    assert!(matches!(
        identity(&config),
        Some(Identity::Pkcs12 { archive, password }) if *archive == "p".into() && password.is_empty()
    ));
    let (_folder, file) = files(&[(
        "a.toml",
        "endpoint = \"a\"\npkcs12 = \"p\"\npkcs12-password-file = \"nowhere\"\n",
    )]);
    let config = flags(&["--config", &file, "--cert=c", "--key=k"]).unwrap();
    assert!(matches!(identity(&config), Some(Identity::Pem { .. })));
}

#[test]
fn passwords_rank_with_their_source() {
    let (folder, file) = files(&[
        (
            "a.toml",
            "endpoint = \"a\"\nusername = \"u\"\npassword-file = \"pw\"\n",
        ),
        ("pw", "from the file"),
        ("other", "from the flag"),
    ]);
    let other = folder.path().join("other");
    let flag = format!("--password-file={}", other.display());
    let environment = [("MQTT_PASSWORD", "from the environment")];
    let base = ["--config", file.as_str()];
    let overridden = ["--config", file.as_str(), flag.as_str()];
    assert_eq!(password(&flags(&base).unwrap()), "from the file");
    assert_eq!(
        password(&with(&base, &environment).unwrap()),
        "from the environment"
    );
    assert_eq!(
        password(&with(&overridden, &environment).unwrap()),
        "from the flag"
    );
    let path = other.to_str().unwrap();
    let both = [environment[0], ("MQTT_PASSWORD_FILE", path)];
    refused(
        with(&base, &both),
        &["MQTT_PASSWORD", "MQTT_PASSWORD_FILE", "unset"],
    );
    let empty = [("MQTT_PASSWORD", ""), ("MQTT_PASSWORD_FILE", path)];
    assert_eq!(password(&with(&base, &empty).unwrap()), "from the flag");
}

#[test]
fn a_password_needs_a_user_name_and_is_never_shown() {
    let (_folder, file) = files(&[("pw", "hunter2")]);
    let result = to("a", &["--password-file", &file]);
    assert!(!format!("{result:?}").contains("hunter2"));
    refused(result, &["--password-file", "--username"]);
    let environment = [("MQTT_PASSWORD", "hunter2")];
    let unused = with(&["--endpoint=a"], &environment);
    assert!(!format!("{unused:?}").contains("hunter2"));
    let config = with(&["--endpoint=a", "--username=u"], &environment).unwrap();
    assert_eq!(password(&config), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    let config = to("a", &["--username=u"]).unwrap();
    assert_eq!(password(&config), "");
    refused(to("a", &["--username="]), &["--username", "empty"]);
}

#[test]
fn an_archive_password_comes_from_environment_or_file() {
    let (_folder, file) = files(&[("pw", "from the file\n")]);
    let flag = format!("--pkcs12-password-file={file}");
    let archive = |result: Result<Config, Error>| match identity(&result.unwrap()) {
        Some(Identity::Pkcs12 { password, .. }) => text(password).to_owned(),
        other => panic!("{other:?}"),
    };
    let environment = [("MQTT_PKCS12_PASSWORD", "from the environment")];
    let base = ["--endpoint=a", "--pkcs12=p"];
    assert_eq!(archive(with(&base, &environment)), "from the environment");
    let args = [&base[..], &[flag.as_str()]].concat();
    assert_eq!(archive(with(&args, &environment)), "from the file");
    let unused = with(&["--endpoint=a"], &environment).unwrap();
    assert!(unused.notices[0].contains("MQTT_PKCS12_PASSWORD"));
}

#[test]
fn one_line_break_at_the_end_of_a_variable_is_no_part_of_the_password() {
    for (text, expected) in [
        ("secret\n", "secret"),
        ("secret\r\n", "secret"),
        ("secret\n\n", "secret\n"),
        (" a\tb", " a\tb"),
    ] {
        let config = with(
            &["--endpoint=a", "--username=u"],
            &[("MQTT_PASSWORD", text)],
        );
        assert_eq!(password(&config.unwrap()), expected);
    }
}

#[test]
fn a_control_character_in_a_text_is_named_with_its_place() {
    for (name, value) in [
        ("MQTT_CLIENT_ID", "me\n"),
        ("MQTT_USERNAME", "me\r"),
        ("MQTT_TOPIC_PREFIX", "me\t"),
        ("MQTT_WILL_TOPIC", "me\u{7f}"),
    ] {
        let code = format!("U+{:04X}", u32::from(value.chars().last().unwrap()));
        let start = format!("reading {name}: ");
        let found = with(&["--endpoint=a"], &[(name, value)]);
        refused(found, &[&start, "its character 3 is ", &code]);
    }
    let (_folder, file) = files(&[("a.toml", "endpoint = \"a\"\nusername = \"a\\u0085\"\n")]);
    refused(
        flags(&["--config", &file]),
        &["username in ", "character 2 is U+0085"],
    );
}
