//! The policies of a certificate, as AWS IoT Core judges by them.
//!
//! Knows what `config/aws-iot-policy.json` uses: statements that allow, `*` and `?` in resources, and one condition.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The policies in force for one certificate.
pub(super) struct Policies {
    /// The beginning of a resource's name: partition, region and account.
    prefix: String,
    statements: Vec<Value>,
}

impl Policies {
    /// Those that the stand-in for the aws command has attached to this certificate.
    ///
    /// # Errors
    /// If it knows no such certificate, or the certificate is not active.
    pub(super) fn of(account: &Path, certificate: &str) -> Result<Policies, String> {
        let folder = account.join("certificates").join(certificate);
        let status = fs::read_to_string(folder.join("status"))
            .map_err(|_| format!("certificate {certificate} is unknown"))?;
        if status.trim() != "ACTIVE" {
            return Err(format!("the certificate is {}", status.trim()));
        }
        let mut statements = Vec::new();
        for policy in fs::read_dir(folder.join("policies")).expect("a folder") {
            let policy = account
                .join("policies")
                .join(policy.expect("an entry").file_name());
            let version = fs::read_to_string(policy.join("default")).expect("a version");
            let text = fs::read_to_string(policy.join(version.trim())).expect("a policy");
            let document: Value = serde_json::from_str(&text).expect("JSON");
            statements.extend(document["Statement"].as_array().expect("a list").clone());
        }
        Ok(Policies {
            prefix: "arn:aws:iot:eu-central-1:123456789012:".to_owned(),
            statements,
        })
    }

    /// Whether a statement allows this action on this resource, with these attributes of CONNECT.
    ///
    /// # Errors
    /// If none does.
    pub(super) fn allow(
        &self,
        action: &str,
        resource: &str,
        attributes: &[&str],
    ) -> Result<(), String> {
        let name = format!("{}{resource}", self.prefix);
        let allows = |statement: &Value| {
            statement["Effect"] == "Allow"
                && words(&statement["Action"]).any(|allowed| allowed == action)
                && words(&statement["Resource"]).any(|pattern| is_like(&name, pattern))
                && fulfils(&statement["Condition"], attributes)
        };
        if self.statements.iter().any(allows) {
            return Ok(());
        }
        Err(format!(
            "no policy allows {action} on {resource}, {attributes:?}"
        ))
    }
}

/// A text, or the texts of a list.
fn words(value: &Value) -> impl Iterator<Item = &str> {
    let list = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    list.iter().filter_map(Value::as_str)
}

fn fulfils(condition: &Value, attributes: &[&str]) -> bool {
    let Some(condition) = condition.as_object() else {
        return true;
    };
    condition.iter().all(|(operator, keys)| {
        assert_eq!(operator, "ForAllValues:StringEquals");
        let keys = keys.as_object().expect("keys");
        keys.iter().all(|(key, allowed)| {
            assert_eq!(key, "iot:ConnectAttributes");
            let is_allowed = |attribute: &&str| words(allowed).any(|word| word == *attribute);
            attributes.iter().all(is_allowed)
        })
    })
}

/// Whether the text is like the pattern, in which `*` stands for any text and `?` for one byte.
fn is_like(text: &str, pattern: &str) -> bool {
    fn like(text: &[u8], pattern: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|skipped| like(&text[skipped..], rest)),
            [b'?', rest @ ..] => !text.is_empty() && like(&text[1..], rest),
            [byte, rest @ ..] => text.first() == Some(byte) && like(&text[1..], rest),
        }
    }
    like(text.as_bytes(), pattern.as_bytes())
}

#[test]
fn a_star_stands_for_any_text_and_a_plus_for_itself() {
    for (text, pattern, expected) in [
        ("topic/filter/sync/1", "topic/filter/sync/*", true),
        ("topic/filter/sync/a/b", "topic/filter/sync/*", true),
        ("topic/filter/other/1", "topic/filter/sync/*", false),
        ("topicfilter/filter/+/+", "topicfilter/filter/+/+", true),
        ("topicfilter/filter/a/b", "topicfilter/filter/+/+", false),
        (
            "topicfilter/filter/sync/ab/+",
            "topicfilter/filter/sync/*/+",
            true,
        ),
        ("client/me", "client/m?", true),
        ("client/you", "client/m?", false),
    ] {
        assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
    }
}
