//! The names under which values were given: `--ca-file`, `MQTT_CA_FILE`, `ca-file in demo.toml`.
//!
//! The library's errors and log lines name its options, in backticks; here, and nowhere else, each
//! becomes the name that the person knows. Main remembers the names once the settings are known;
//! before that, and where nobody gave a value, the name is the flag. Any thread.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Each option that the library names with the setting that holds its value.
const SETTINGS: [(&str, &str); 17] = [
    ("alpn", "alpn"),
    ("ca", "ca-file"),
    ("cert", "cert"),
    ("client_id", "client-id"),
    ("connect_timeout", "connect-timeout"),
    ("host", "endpoint"),
    ("key", "key"),
    ("last_will.qos", "will-qos"),
    ("max_packet_size", "max-packet-size"),
    ("password", "password-file"),
    ("pkcs12", "pkcs12"),
    ("pkcs12_password", "pkcs12-password-file"),
    ("protocol", "mqtt"),
    ("qos", "qos"),
    ("security", "endpoint"),
    ("server_name", "tls-server-name"),
    ("username", "username"),
];

static NAMES: OnceLock<Names> = OnceLock::new();

/// Where each setting was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// Notes the name under which the value of a setting was given.
    pub(super) fn insert(&mut self, key: &str, name: String) {
        self.0.insert(key.to_owned(), name);
    }

    /// The text with these names in place of the library's.
    fn put_into<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (option, key) in SETTINGS {
            let quoted = format!("`{option}`");
            if text.contains(&quoted) {
                let name = match option {
                    // The library names it where a connection is without TLS.
                    "security" => format!("mqtt:// in {}", self.name(key)),
                    _ => self.name(key),
                };
                text = text.replace(&quoted, &name).into();
            }
        }
        text
    }

    /// The name under which the value of a setting was given; the flag where nobody gave it.
    pub(super) fn name(&self, key: &str) -> String {
        match (self.0.get(key), key) {
            (Some(name), _) => name.clone(),
            (None, "pkcs12-password-file") => format!("--{key}, or in MQTT_PKCS12_PASSWORD"),
            (None, _) => format!("--{key}"),
        }
    }
}

/// From now on [`as_given`] puts in these names.
pub(crate) fn remember(names: Names) {
    // There is one configuration in a run.
    let _ = NAMES.set(names);
}

/// The text of an error or a log line with the names under which the values were given.
pub(crate) fn as_given(text: &str) -> Cow<'_, str> {
    static FLAGS: Names = Names(BTreeMap::new());
    NAMES.get().unwrap_or(&FLAGS).put_into(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::settings::keys;
    use mqtt_connection_sharing::options::NAMED_IN_TEXTS;

    #[test]
    fn each_option_that_the_library_names_has_a_setting() {
        assert_eq!(SETTINGS.map(|(option, _)| option), NAMED_IN_TEXTS);
        for (_, key) in SETTINGS {
            assert!(keys().iter().any(|known| known == key), "{key}");
        }
    }

    #[test]
    fn each_name_is_the_given_one_or_else_the_flag() {
        let mut names = Names::default();
        names.insert("cert", "MQTT_CERT".to_owned());
        let text = "give `cert` and `key`, or in `other` `key`: 1 ` 2";
        let expected = "give MQTT_CERT and --key, or in `other` --key: 1 ` 2";
        assert_eq!(names.put_into(text), expected);
        names.insert("endpoint", "MQTT_ENDPOINT".to_owned());
        assert_eq!(
            names.put_into("check `host`, change `security`"),
            "check MQTT_ENDPOINT, change mqtt:// in MQTT_ENDPOINT"
        );
        assert_eq!(
            names.put_into("give it with `pkcs12_password`"),
            "give it with --pkcs12-password-file, or in MQTT_PKCS12_PASSWORD"
        );
    }
}
