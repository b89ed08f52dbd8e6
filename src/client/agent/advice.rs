//! Errors that say what a failed attempt or a lost link means, and what to do about it.
//!
//! Pure: it makes errors from what is known, and decides nothing. The loop's thread.

use std::io;

use super::Client;
use crate::error::{Blame, Error};
use crate::link::tls::Connector;
use crate::mqtt::packet::{ConnectReturnCode, Protocol};
use crate::mqtt::session::LinkLoss;
use crate::options::Security;

/// The phrase for what the loop tries before CONNACK.
pub(super) fn connecting(client: &Client) -> String {
    format!("connecting to {}", client.options.address())
}

/// CONNACK did not come. The source says that no more is known.
pub(super) fn unanswered(client: &Client) -> Error {
    let error = Error::new(
        Blame::Network,
        connecting(client),
        "the broker did not answer CONNECT in time",
        "check that it is an MQTT broker and not overloaded, or raise `connect_timeout`",
    );
    let source = io::Error::from(io::ErrorKind::TimedOut);
    client.options.with_missing_alpn(error.with_source(source))
}

/// The broker answered CONNECT with this code.
pub(super) fn refusal(client: &Client, code: ConnectReturnCode) -> Error {
    let client_id = &client.options.client_id;
    let (problem, advice, permanent) = match code {
        ConnectReturnCode::Accepted => ("the broker accepted".to_owned(), "", false),
        ConnectReturnCode::UnacceptableProtocolVersion => (
            "the broker does not speak MQTT 3.1.1 (return code 1)".to_owned(),
            "use MQTT 5 (`protocol`) if the broker speaks that, else another broker",
            true,
        ),
        ConnectReturnCode::IdentifierRejected => (
            format!("the broker refused the client identifier {client_id:?} (return code 2)"),
            "give another one with `client_id`",
            true,
        ),
        ConnectReturnCode::ServerUnavailable => (
            "the broker is there, its service is not (return code 3)".to_owned(),
            "try again later",
            false,
        ),
        ConnectReturnCode::BadUserNameOrPassword if client.options.credentials.is_none() => {
            let (seen, advice) = without_user_name(client);
            (
                format!(
                    "the broker refused the user name or password (return code 4), and none was given{seen}"
                ),
                advice,
                true,
            )
        }
        ConnectReturnCode::BadUserNameOrPassword => (
            "the broker refused the user name or password (return code 4)".to_owned(),
            "check `username` and `password`",
            true,
        ),
        ConnectReturnCode::NotAuthorized => (
            "the broker refused access (return code 5)".to_owned(),
            with_no_access(client),
            true,
        ),
    };
    let error = Error::new(Blame::Refused, connecting(client), problem, advice);
    if permanent { error.permanent() } else { error }
}

/// The advice where the broker refuses access.
pub(super) fn with_no_access(client: &Client) -> &'static str {
    let certificate = client.connector.as_ref().and_then(Connector::common_name);
    match (&client.options.credentials, certificate) {
        (Some(_), Some(_)) => {
            "check `username` and `password`, the client certificate, and what the broker \
             allows this client identifier"
        }
        (Some(_), None) => {
            "check `username` and `password`, and what the broker allows this client identifier"
        }
        (None, Some(_)) => {
            "give `username` and `password` if the broker wants them; else check the client certificate, \
             and what the broker allows this client identifier"
        }
        (None, None) => {
            "give `username` and `password` if the broker wants them; else see what it allows this client identifier"
        }
    }
}

/// A broker may take the user name from the client's certificate: what that has, and what to do.
pub(super) fn without_user_name(client: &Client) -> (String, &'static str) {
    let connector = client.connector.as_ref();
    match connector.and_then(Connector::common_name) {
        Some(Some(name)) => (
            format!("; the common name of the client certificate is {name}"),
            "have the broker know that name, if it takes the common name as the user name; else give \
             `username` and `password`",
        ),
        Some(None) => (
            "; the client certificate has no common name".to_owned(),
            "give `cert` one with a common name, if the broker takes that as the user name (Mosquitto: \
             use_identity_as_username); else give `username` and `password`",
        ),
        None => (String::new(), "give `username` and `password`"),
    }
}

/// A link that ended where CONNACK was expected.
pub(super) fn lost_before_connack(client: &Client, loss: &LinkLoss) -> Error {
    client.options.with_missing_alpn(lost_early(client, loss))
}

fn lost_early(client: &Client, loss: &LinkLoss) -> Error {
    let tried = connecting(client);
    let (blame, moment) = match loss {
        LinkLoss::Protocol(_) => (Blame::Broker, "in answer to CONNECT"),
        _ => (Blame::Network, "before answering CONNECT"),
    };
    if let LinkLoss::Protocol(error) = loss
        && let Some((problem, advice)) = no_mqtt(error.beginning())
    {
        let problem = format!("{problem}, {moment}");
        return Error::new(blame, tried, problem, advice);
    }
    // A broker may close the link in place of a refusal with a return code.
    let credentials = client.options.credentials.as_ref();
    let credentials = credentials.map(|given| match given.password.is_empty() {
        true => "`username` without a password",
        false => "`username` and `password`",
    });
    let advice = match (loss, &client.options.security, credentials) {
        (LinkLoss::Protocol(_), ..) => {
            "check that the port is an MQTT broker's, or ask whoever runs the broker".to_owned()
        }
        (_, _, None) if client.options.is_aws_iot() => {
            "check that the certificate is active and attached to a policy that allows \
             iot:Connect for this client identifier"
                .to_owned()
        }
        (_, _, Some(credentials)) if client.options.is_aws_iot() => format!(
            "check that the authorizer accepts {credentials} and allows iot:Connect for this \
             client identifier"
        ),
        (_, security, credentials) => {
            let log = "see the broker's log: ".to_owned();
            log + &possible_causes(client, security, credentials).join(", or ")
        }
    };
    let problem = format!("{loss}, {moment}");
    // With some brokers this is all the answer that a certificate gets.
    let flaw = client.connector.as_ref().and_then(Connector::flaw);
    // The source tells programs that no more than this is known.
    match (loss, flaw) {
        (LinkLoss::Reset(_) | LinkLoss::PeerClosed, Some(flaw)) => {
            let advice = format!("{}; else {advice}", flaw.advice);
            Error::new(blame, tried, flaw.beside(&problem), advice)
        }
        (LinkLoss::PeerClosed, None) => Error::new(blame, tried, problem, advice)
            .with_source(io::Error::from(io::ErrorKind::UnexpectedEof)),
        (LinkLoss::Reset(_), None) => Error::new(blame, tried, problem, advice)
            .with_source(io::Error::from(io::ErrorKind::ConnectionReset)),
        _ => Error::new(blame, tried, problem, advice),
    }
}

/// Possible causes where a broker closed the connection without a word.
fn possible_causes(
    client: &Client,
    security: &Security,
    credentials: Option<&'static str>,
) -> Vec<String> {
    let (certificate, client_id) = match security {
        Security::Tls(tls) => (
            tls.identity.as_ref().map(|_| "this certificate"),
            Some("this client identifier"),
        ),
        // Nothing shows that the broker has read so far.
        Security::Plain => (None, None),
    };
    let will = client.options.last_will.as_ref();
    let will = will.map(|_| "the last will");
    let given = [credentials, certificate, will, client_id].into_iter();
    let given: Vec<_> = given.flatten().collect();
    let mut causes = Vec::new();
    if !given.is_empty() {
        causes.push(format!("it may not accept {}", given.join(", or ")));
    }
    if matches!(security, Security::Plain) {
        causes.push("the port may expect TLS".to_owned());
    }
    if client.options.protocol == Protocol::V5 {
        causes.push("it may not speak MQTT 5, so try MQTT 3.1.1 (`protocol`)".to_owned());
    }
    causes
}

/// Names the other side if it is something well known that does not speak MQTT.
fn no_mqtt(beginning: &[u8]) -> Option<(String, &'static str)> {
    if beginning.starts_with(b"HTTP/") {
        let line = beginning.split(|byte| *byte < b' ').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
        return Some((
            format!("a web server answers on that port (it sent {line:?})"),
            "check that the port is an MQTT broker's; MQTT over WebSocket is not possible here",
        ));
    }
    // A TLS record that holds an alert.
    if beginning.starts_with(&[0x15, 3]) {
        return Some((
            "the port speaks TLS".to_owned(),
            "change `security`, which is without TLS",
        ));
    }
    None
}

/// The same error, after so many links that ended in the same protocol error: another link would, too.
pub(super) fn on_so_many_links(error: &Error, loss: &LinkLoss, times: u32) -> Error {
    let problem = format!("{}; {times} links ended in this error", error.problem());
    let advice = match loss {
        LinkLoss::Protocol(error) if error.packet() == "PUBLISH" => {
            "mend the program that publishes it, and clear the message where the broker retains it or keeps it for \
             this client identifier"
        }
        _ => "mend the broker, or whatever stands between it and this client",
    };
    Error::new(error.blame(), error.tried(), problem, advice)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::memory::client_with;
    use super::*;
    use crate::mqtt::packet::{QoS, Will};
    use crate::options::{Credentials, Identity, Options, TlsOptions};

    const AWS: &str = "abc-ats.iot.eu-central-1.amazonaws.com";

    /// The options of a client with a certificate of this common name, or none.
    fn with_certificate(folder: &TempDir, name: Option<&str>) -> TlsOptions {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            let kind = rcgen::DnType::CommonName;
            params.distinguished_name.push(kind, name.to_owned());
        }
        let (cert, key_file) = (folder.path().join("cert"), folder.path().join("key"));
        fs::write(&cert, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        TlsOptions {
            identity: Some(Identity::pem(cert, key_file)),
            ..TlsOptions::default()
        }
    }

    /// The advice where the broker closed before CONNACK.
    fn advice(change: impl FnOnce(&mut Options)) -> String {
        // Files would be read, so the options change after that.
        let mut client = client_with(|_| {});
        change(&mut client.options);
        let error = lost_before_connack(&client, &LinkLoss::PeerClosed);
        error.advice().to_owned()
    }

    fn credentials(password: &str) -> Option<Credentials> {
        Some(Credentials {
            username: "me".into(),
            password: password.into(),
        })
    }

    #[test]
    fn a_broker_that_closes_before_connack_may_not_accept_what_was_given() {
        let tls = |options: &mut Options, has_certificate: bool| {
            let identity = has_certificate.then(|| Identity::pkcs12("a.p12", ""));
            options.security = Security::Tls(TlsOptions {
                identity,
                ..TlsOptions::default()
            });
        };
        for (told, not_told, advice) in [
            ("TLS", "`username`", advice(|_| {})),
            (
                "`username` and `password`, or the port may expect TLS",
                "without",
                advice(|o| o.credentials = credentials("p")),
            ),
            (
                "`username` without a password, or the port",
                "`password`",
                advice(|o| o.credentials = credentials("")),
            ),
            (
                "it may not accept the last will, or the port may expect TLS",
                "MQTT",
                advice(|o| o.last_will = Some(Will::new("w", QoS::ExactlyOnce, ""))),
            ),
            (
                "the port may expect TLS, or it may not speak MQTT 5, so try MQTT 3.1.1 (`protocol`)",
                "will",
                advice(|o| o.protocol = Protocol::V5),
            ),
            (
                "this certificate, or the last will, or this client identifier, or it may not speak MQTT 5",
                "TLS",
                advice(|o| {
                    tls(o, true);
                    o.protocol = Protocol::V5;
                    o.last_will = Some(Will::new("w", QoS::AtMostOnce, ""));
                }),
            ),
            (
                "accept this client identifier",
                "certificate",
                advice(|o| tls(o, false)),
            ),
            (
                "accept this certificate, or this client identifier",
                "`username`",
                advice(|o| tls(o, true)),
            ),
            (
                "`username` and `password`, or this certificate, or this client",
                "without",
                advice(|o| {
                    tls(o, true);
                    o.credentials = credentials("p");
                }),
            ),
            (
                "policy that allows iot:Connect",
                "`username`",
                advice(|o| {
                    tls(o, true);
                    o.host = "abc-ats.iot.eu-central-1.amazonaws.com".into();
                    o.protocol = Protocol::V5;
                }),
            ),
            (
                "authorizer accepts `username` and `password`",
                "certificate",
                advice(|o| {
                    tls(o, false);
                    o.host = "abc-ats.iot.eu-central-1.amazonaws.com".into();
                    o.credentials = credentials("p");
                }),
            ),
        ] {
            assert!(advice.contains(told), "{told}: {advice}");
            assert!(!advice.contains(not_told), "{told}: {advice}");
        }
    }

    /// A program tells by the kind of the source that the error names only candidates.
    #[test]
    fn only_an_end_without_a_known_cause_has_a_source() {
        use std::error::Error as _;

        let kind = |error: &Error| {
            let source = error.source()?;
            Some(source.downcast_ref::<io::Error>()?.kind())
        };
        let client = client_with(|_| {});
        let closed = lost_before_connack(&client, &LinkLoss::PeerClosed);
        assert_eq!(kind(&closed), Some(io::ErrorKind::UnexpectedEof));
        let reset = lost_before_connack(&client, &LinkLoss::Reset("reset".to_owned()));
        assert_eq!(kind(&reset), Some(io::ErrorKind::ConnectionReset));
        assert_eq!(kind(&unanswered(&client)), Some(io::ErrorKind::TimedOut));
        let folder = tempfile::tempdir().unwrap();
        let tls = with_certificate(&folder, Some("me"));
        let without_alpn = client_with(|options| {
            options.host = AWS.into();
            options.port = 443;
            options.security = Security::Tls(tls);
        });
        let known = lost_before_connack(&without_alpn, &LinkLoss::PeerClosed);
        assert_eq!(kind(&known), None, "{known}");
    }

    #[test]
    fn a_missing_or_another_alpn_name_is_named_on_port_443_of_aws_iot() {
        let folder = tempfile::tempdir().unwrap();
        let identity = with_certificate(&folder, Some("me"));
        let client = |host: &str, port, alpn: &[&str], with_user: bool| {
            client_with(|options: &mut Options| {
                options.host = host.into();
                options.port = port;
                options.credentials = credentials("").filter(|_| with_user);
                options.security = Security::Tls(TlsOptions {
                    alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
                    ..match with_user {
                        true => TlsOptions::default(),
                        false => identity.clone(),
                    }
                });
            })
        };
        let web = LinkLoss::PeerClosed;
        for (alpn, with_user, problem) in [
            (&[][..], false, "x-amzn-mqtt-ca, and none was given"),
            (
                &["mqtt"],
                false,
                "x-amzn-mqtt-ca, and the one given is mqtt",
            ),
            (
                &["h2", "http/1.1"],
                false,
                "and the one given is h2,http/1.1",
            ),
            (
                &["x-amzn-http-ca"],
                false,
                "and the one given is x-amzn-http-ca",
            ),
            (&[], true, "ALPN name mqtt, and none was given"),
            (
                &["x-amzn-mqtt-ca"],
                true,
                "ALPN name mqtt, and the one given is x-amzn-mqtt-ca",
            ),
        ] {
            let client = client(AWS, 443, alpn, with_user);
            for error in [lost_before_connack(&client, &web), unanswered(&client)] {
                let text = error.to_string();
                eprintln!("{text}");
                assert!(error.problem().contains(problem), "{text}");
                assert!(error.advice().starts_with("give `alpn` "), "{text}");
                assert!(!text.contains("policy") && !text.contains("`ca`"), "{text}");
            }
        }
        for (host, port, alpn, with_user) in [
            (AWS, 8883, &[][..], false),
            (AWS, 443, &["x-amzn-mqtt-ca"], false),
            (AWS, 443, &["h2", "x-amzn-mqtt-ca"], false),
            (AWS, 443, &["mqtt"], true),
            ("broker.example", 443, &[], false),
        ] {
            let client = client(host, port, alpn, with_user);
            let text = lost_before_connack(&client, &web).to_string();
            assert!(!text.contains("ALPN"), "{text}");
        }
    }

    /// The certificate is missing then.
    #[test]
    fn an_alpn_name_for_certificates_is_right_where_nothing_was_given() {
        let client = |alpn: Vec<String>| {
            client_with(|options| {
                options.host = AWS.into();
                options.port = 443;
                let tls = TlsOptions::default();
                options.security = Security::Tls(TlsOptions { alpn, ..tls });
            })
        };
        let with = client(vec!["x-amzn-mqtt-ca".into()]);
        let error = lost_before_connack(&with, &LinkLoss::PeerClosed);
        assert!(!error.to_string().contains("ALPN"), "{error}");
        let error = lost_before_connack(&client(Vec::new()), &LinkLoss::PeerClosed);
        assert_eq!(
            error.advice(),
            "give `alpn` x-amzn-mqtt-ca, and `cert` and `key`"
        );
    }

    #[test]
    fn without_a_user_name_a_refused_one_is_the_certificates_common_name() {
        let folder = tempfile::tempdir().unwrap();
        let code = ConnectReturnCode::BadUserNameOrPassword;
        for (identity, given, problem, advice) in [
            (
                None,
                None,
                "(return code 4), and none was given",
                "give `username`",
            ),
            (
                Some(Some("sensor \u{202e}7")),
                None,
                "the common name of the client certificate is \"sensor \\u{202e}7\"",
                "have the broker know that name",
            ),
            (
                Some(None),
                None,
                "the client certificate has no common name",
                "give `cert` one with a common name",
            ),
            (
                Some(Some("x")),
                credentials(""),
                "the broker refused the user name or password (return code 4)",
                "check `username` and `password`",
            ),
        ] {
            let client = client_with(|options| {
                options.credentials = given;
                if let Some(name) = identity {
                    options.security = Security::Tls(with_certificate(&folder, name));
                }
            });
            let error = refusal(&client, code);
            eprintln!("{error}");
            assert!(error.problem().ends_with(problem), "{error}");
            assert!(error.advice().starts_with(advice), "{error}");
            assert!(error.is_permanent() && error.exit_status() == 4, "{error}");
        }
    }

    #[test]
    fn a_certificate_is_named_for_a_refused_access_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        for (has_certificate, has_password) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let client = client_with(|options| {
                options.credentials = credentials("").filter(|_| has_password);
                if has_certificate {
                    options.security = Security::Tls(with_certificate(&folder, None));
                }
            });
            let error = refusal(&client, ConnectReturnCode::NotAuthorized);
            let advice = error.advice();
            assert_eq!(advice.contains("certificate"), has_certificate, "{error}");
            assert_eq!(advice.starts_with("check"), has_password, "{error}");
            assert!(advice.contains("this client identifier"), "{error}");
        }
    }

    #[test]
    fn a_flaw_of_the_certificate_is_named_where_the_broker_only_closes() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let tls = with_certificate(&folder, None);
        fs::write(
            folder.path().join("cert"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        fs::write(folder.path().join("key"), key.serialize_pem()).unwrap();
        let mut client = client_with(|options| options.security = Security::Tls(tls));
        for (host, otherwise) in [
            ("broker.example", "; else see the broker's log"),
            (
                AWS,
                "; else check that the certificate is active and attached to a policy",
            ),
        ] {
            client.options.host = host.into();
            for loss in [LinkLoss::PeerClosed, LinkLoss::Reset("reset".into())] {
                let error = lost_before_connack(&client, &loss);
                eprintln!("{error}");
                let problem = "the client certificate expired on 2020-01-01T00:00:00Z";
                assert!(error.problem().contains(problem), "{error}");
                assert!(error.advice().starts_with("give `cert` one"), "{error}");
                // The flaw was seen, and not that it is the cause.
                assert!(error.advice().contains(otherwise), "{error}");
            }
        }
    }
}
