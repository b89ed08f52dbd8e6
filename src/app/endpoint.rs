//! Reads an endpoint: `host`, `host:port`, `mqtts://host`, `mqtt://[::1]:1883`, `[fe80::1%eth0]`.
//!
//! Pure; looks nothing up. The main thread uses it.

use std::net::Ipv6Addr;

/// An endpoint in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host name or address, without brackets. An IPv6 address may have a zone behind a %.
    pub(crate) host: String,
    /// Port, if it names one.
    pub(crate) port: Option<u16>,
    /// Whether `mqtt://` asks for a connection without TLS.
    pub(crate) plain: bool,
}

/// Reads an endpoint.
///
/// # Errors
/// The problem and the remedy. Nothing is repeated that may be a password.
pub(crate) fn parse(text: &str) -> Result<Endpoint, String> {
    if text.contains('@') {
        // Not repeated: what precedes the @ may be a password.
        return Err("it contains @; a user name goes to --username, \
                    its password to --password-file or MQTT_PASSWORD"
            .into());
    }
    let is_uri = text.contains("://");
    let (plain, rest) = match text.split_once("://") {
        None => (false, text),
        Some((scheme, rest)) => {
            let plain = match scheme.to_ascii_lowercase().as_str() {
                "mqtts" | "ssl" => false,
                "mqtt" => true,
                _ => {
                    return Err(format!(
                        "{scheme}:// is not known; use mqtts:// (TLS, as without it) or mqtt:// (no TLS)"
                    ));
                }
            };
            (plain, rest.strip_suffix('/').unwrap_or(rest))
        }
    };
    if rest.is_empty() {
        return Err("it names no host".into());
    }
    if rest.contains('/') {
        return Err("it has a path, which MQTT has not".into());
    }

    let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
        let (address, after) = bracketed
            .split_once(']')
            .ok_or("it lacks the closing bracket; write [ADDRESS]:PORT")?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => {
                return Err("it goes on after the bracket; write [ADDRESS]:PORT".into());
            }
        };
        (ipv6(address, is_uri)?, port)
    } else {
        match rest.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(
                    "it has several colons; write IPv6 addresses in brackets, [ADDRESS]:PORT"
                        .into(),
                );
            }
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (rest.to_owned(), None),
        }
    };
    if !rest.starts_with('[') {
        check_host(&host)?;
    }
    let port = port.map(parse_port).transpose()?;
    Ok(Endpoint { host, port, plain })
}

/// Reads an IPv6 address, perhaps with the zone of a link-local one: `fe80::1%eth0`, `fe80::1%2` or, as in a URI
/// (RFC 6874), `fe80::1%25eth0`.
fn ipv6(text: &str, is_uri: bool) -> Result<String, &'static str> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    if address.parse::<Ipv6Addr>().is_err() {
        return Err("what is in brackets is not an IPv6 address");
    }
    let Some(zone) = zone else {
        return Ok(address.to_owned());
    };
    // Without a scheme %251 is the zone 251; no interface has a name that begins with 25 and is no number.
    let encoded = zone.strip_prefix("25").filter(|rest| !rest.is_empty());
    let is_number = zone.bytes().all(|b| b.is_ascii_digit());
    let zone = encoded.filter(|_| is_uri || !is_number).unwrap_or(zone);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:+".contains(c);
    if zone.is_empty() || !zone.chars().all(allowed) {
        return Err("what follows the % is not the name or number of a network interface");
    }
    Ok(format!("{address}%{zone}"))
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.len() > 253 {
        return Err("the host is longer than 253 characters");
    }
    if !host.is_ascii() {
        return Err("the host has characters beyond ASCII; use its xn-- form");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !host.chars().all(allowed) {
        return Err("a host has letters, digits, dots and hyphens only");
    }
    if host.starts_with('.') || host.contains("..") {
        return Err("the host has an empty part");
    }
    Ok(())
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        // A longer text is not repeated: where somebody forgot the @, it is a password.
        _ if digits && text.len() <= 5 => Err(format!("{text} is not a port; use 1 to 65535")),
        _ => Err("what follows the colon is not a port; use 1 to 65535".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        for (text, host, port, plain) in [
            ("broker.example", "broker.example", None, false),
            ("broker.example:8884", "broker.example", Some(8884), false),
            ("mqtts://broker.example", "broker.example", None, false),
            ("MQTTS://broker.example/", "broker.example", None, false),
            ("ssl://broker.example:1", "broker.example", Some(1), false),
            ("mqtt://localhost", "localhost", None, true),
            ("mqtt://localhost:1883", "localhost", Some(1883), true),
            ("192.0.2.1:65535", "192.0.2.1", Some(65535), false),
            ("[::1]", "::1", None, false),
            ("[2001:db8::1]:8883", "2001:db8::1", Some(8883), false),
            ("mqtt://[::1]:1883/", "::1", Some(1883), true),
            ("my_broker.", "my_broker.", None, false),
            ("[fe80::1%eth0]:8883", "fe80::1%eth0", Some(8883), false),
            ("[fe80::1%2]", "fe80::1%2", None, false),
            ("[fe80::1%25]", "fe80::1%25", None, false),
            ("[fe80::1%251]:1", "fe80::1%251", Some(1), false),
            ("[fe80::1%25eth0]", "fe80::1%eth0", None, false),
            ("[::1%lo]", "::1%lo", None, false),
            (
                "mqtts://[fe80::1%25wlan0.7]:1",
                "fe80::1%wlan0.7",
                Some(1),
                false,
            ),
            ("mqtt://[fe80::1%252]/", "fe80::1%2", None, true),
            ("mqtt://[fe80::1%eth0]", "fe80::1%eth0", None, true),
        ] {
            let expected = Endpoint {
                host: host.into(),
                port,
                plain,
            };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("", "names no host"),
            ("mqtts://", "names no host"),
            (":8883", "host is missing"),
            ("host:", "not a port"),
            ("host:0", "not a port"),
            ("host:65536", "not a port"),
            ("host:+80", "not a port"),
            ("host:mqtt", "not a port"),
            ("::1", "brackets"),
            ("2001:db8::1", "brackets"),
            ("[::1", "closing bracket"),
            ("[host]:1", "not an IPv6 address"),
            ("[::1]1", "after the bracket"),
            ("fe80::1%eth0", "brackets"),
            (
                "[fe80::1%]:1",
                "not the name or number of a network interface",
            ),
            ("[fe80::1%eth 0]", "network interface"),
            ("[fe80::1%eth0%1]", "network interface"),
            ("[broker%eth0]", "not an IPv6 address"),
            ("[192.0.2.1%eth0]", "not an IPv6 address"),
            ("broker%eth0", "letters, digits"),
            ("[::1]:", "not a port"),
            ("https://host", "https:// is not known"),
            ("tcp://host", "tcp:// is not known"),
            ("host/path", "path"),
            ("mqtts://host/a", "path"),
            ("host name", "letters, digits"),
            ("bröker", "xn--"),
            ("a..b", "empty part"),
            (".a", "empty part"),
        ] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(expected), "{text}: {problem}");
        }
        assert!(parse(&"a".repeat(254)).is_err());
    }

    #[test]
    fn a_password_in_the_endpoint_is_refused_and_not_repeated() {
        let problem = parse("mqtts://user:hunter2@host").unwrap_err();
        assert!(problem.contains("--username"));
        // Without the @, or with another spelling of it, it looks like a port, a path or a host.
        for text in [
            "mqtts://user:hunter2@host",
            "mqtts://user:hunter2%40host:8883",
            "mqtts://user:hunter2/host",
            "user:hunter2",
            "user:hunter2:host:8883",
            "hunter2 host",
            "[hunter2]",
            "[hunter2",
            "[::1]hunter2",
            "[hunter2%eth0]",
            "[::1%hunter2!]",
        ] {
            let problem = parse(text).expect_err(text);
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
