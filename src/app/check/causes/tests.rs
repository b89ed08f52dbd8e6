//! The causes, by what was seen.

use mqtt_connection_sharing::options::TlsOptions;
use mqtt_connection_sharing::{BrokerLimit, Will};

use super::*;
use crate::app::answers::MadeBy;

const AWS: &str = "abc-ats.iot.eu-central-1.amazonaws.com";

fn found(options: &Options, seen: FailureSeen<'_>) -> Vec<Cause> {
    let facts = Facts {
        options,
        certificate: None,
        topic: "my/topic",
        qos: QoS::AtLeastOnce,
    };
    causes(seen, &facts)
}

fn first(host: &str, port: u16, seen: FailureSeen<'_>) -> String {
    let mut options = Options::new(host, "my-client");
    options.port = port;
    let found = found(&options, seen);
    let Cause {
        cause,
        remedy,
        command,
    } = &found[0];
    format!(
        "{cause}: {remedy} {}",
        command.as_deref().unwrap_or_default()
    )
}

fn network(kind: io::ErrorKind) -> Error {
    let error = Error::new(
        Blame::Network,
        "connecting to a:1",
        "something",
        "do something",
    );
    error.with_source(io::Error::from(kind))
}

#[test]
fn at_aws_iot_the_right_that_is_missing_is_named_in_full() {
    let closed = network(io::ErrorKind::UnexpectedEof);
    let refused = Outcome::Refused {
        granted: vec![None],
        answer: None,
    };
    let arn = "arn:aws:iot:eu-central-1:ACCOUNT";
    for (seen, expected) in [
        (
            FailureSeen::Connect(&closed),
            format!("iot:Connect on {arn}:client/my-client "),
        ),
        (
            FailureSeen::Refused(Attempted::Subscribe(MadeBy::Check), &refused),
            format!("iot:Subscribe on {arn}:topicfilter/my/topic "),
        ),
        (
            FailureSeen::LostSubscribing(&closed),
            format!("iot:Subscribe on {arn}:topicfilter/my/topic "),
        ),
        (
            FailureSeen::LostPublishing(&closed),
            format!("iot:Publish on {arn}:topic/my/topic "),
        ),
        (
            FailureSeen::NoEcho,
            format!("iot:Receive on {arn}:topic/my/topic "),
        ),
        (
            FailureSeen::NoSession,
            format!("iot:Connect on {arn}:client/my-client without"),
        ),
    ] {
        let text = first(AWS, 8883, seen);
        assert!(text.contains(&expected), "{seen:?}: {text}");
    }
}

#[test]
fn a_will_and_the_version_may_be_why_a_broker_closes_without_an_answer() {
    let closed = network(io::ErrorKind::UnexpectedEof);
    let told = |options: &Options| {
        let found = found(options, FailureSeen::Connect(&closed));
        let texts = found
            .iter()
            .map(|it| format!("{}: {}", it.cause, it.remedy));
        texts.collect::<Vec<_>>().join("\n")
    };
    let mut will = Will::new("w", QoS::ExactlyOnce, "");
    will.retain = true;
    for security in [Security::Plain, Security::Tls(TlsOptions::default())] {
        let mut options = Options::new("a", "my-client");
        options.security = security;
        let text = told(&options);
        assert!(!text.contains("will") && !text.contains("MQTT 5"), "{text}");
        options.protocol = Protocol::V5;
        options.last_will = Some(will.clone());
        let text = told(&options);
        let expected = "the broker does not accept the last will: to see whether that is the cause, leave --will-topic \
             out, or give a lower --will-qos, or leave --will-retain out\n";
        assert!(text.contains(expected), "{text}");
        let expected = "the broker does not speak MQTT 5: try --mqtt 3.1.1";
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn a_message_that_mqtt_5_acknowledges_without_a_word_was_not_seen_to_be_forbidden() {
    let mut options = Options::new("a", "my-client");
    let rule = |options: &Options| found(options, FailureSeen::NoEcho)[0].cause.clone();
    assert_eq!(
        rule(&options),
        "the broker's access rules do not let this client publish to or read \"my/topic\""
    );
    options.protocol = Protocol::V5;
    assert_eq!(
        rule(&options),
        "the broker's access rules do not let this client read \"my/topic\""
    );
}

/// No rule was asked.
#[test]
fn a_limit_that_the_broker_has_stated_is_the_cause_with_its_remedy() {
    for (asked, limit, remedy) in [
        (
            Attempted::Publish(MadeBy::Check),
            BrokerLimit::MaximumQos,
            "use a lower `qos`",
        ),
        (
            Attempted::Publish(MadeBy::Check),
            BrokerLimit::RetainAvailable,
            "leave --retain out",
        ),
        (
            Attempted::Publish(MadeBy::Check),
            BrokerLimit::MaximumPacketSize,
            "give a shorter --topic, or",
        ),
        (
            Attempted::Subscribe(MadeBy::Check),
            BrokerLimit::MaximumPacketSize,
            "give a shorter --topic, or",
        ),
        (
            Attempted::Subscribe(MadeBy::Check),
            BrokerLimit::WildcardAvailable,
            "subscribe without + and #",
        ),
        (
            Attempted::Subscribe(MadeBy::Check),
            BrokerLimit::SharedAvailable,
            "subscribe without $share",
        ),
    ] {
        let outcome = Outcome::NeverSent(Reason::BrokerLimit(limit));
        for host in ["a", AWS] {
            let text = first(host, 8883, FailureSeen::Refused(asked, &outcome));
            assert!(text.starts_with(&format!("{limit}: {remedy}")), "{text}");
            let told = answers::told(asked, &outcome);
            assert!(told.contains(&remedy.replace("`qos`", "--qos")), "{told}");
        }
    }
}

#[test]
fn a_broker_on_this_machine_is_not_hidden_by_the_address_it_listens_on() {
    let refused = network(io::ErrorKind::ConnectionRefused);
    let hidden = |host: &str| {
        let facts = Facts {
            options: &Options::new(host, "my-client"),
            certificate: None,
            topic: "",
            qos: QoS::AtLeastOnce,
        };
        let found = causes(FailureSeen::Tcp(&refused), &facts);
        found.iter().any(|it| it.cause.contains("127.0.0.1 alone"))
    };
    assert!(hidden("broker.example") && hidden("192.0.2.7"));
    assert!(!hidden("localhost") && !hidden("127.0.0.1") && !hidden("::1"));
}

#[test]
fn the_order_follows_what_was_seen() {
    let error = |text: &str| Error::new(Blame::Network, "connecting to a:1", text, "check it");
    let (refused, silent) = (
        network(io::ErrorKind::ConnectionRefused),
        error("no answer within 10s"),
    );
    let (unknown, no_server) = (
        error("the host name cannot be resolved (Name or service not known)"),
        error("the host name cannot be resolved (Temporary failure in name resolution)"),
    );
    let late = network(io::ErrorKind::TimedOut);
    for (host, port, seen, expected) in [
        (
            "a",
            8883,
            FailureSeen::Tcp(&refused),
            "nothing listens on port 8883",
        ),
        (
            "a",
            8883,
            FailureSeen::Tcp(&silent),
            "a firewall on the way",
        ),
        (
            AWS,
            8883,
            FailureSeen::Tcp(&silent),
            ":443 --alpn x-amzn-mqtt-ca nc -vz -w 5 abc-ats",
        ),
        (AWS, 443, FailureSeen::Tcp(&silent), "a firewall on the way"),
        (
            "a",
            8883,
            FailureSeen::Name(&unknown),
            "the name is misspelt",
        ),
        (
            AWS,
            8883,
            FailureSeen::Name(&unknown),
            "aws iot describe-endpoint --endpoint-type iot:Data-ATS",
        ),
        (
            "a",
            8883,
            FailureSeen::Name(&no_server),
            "this machine reaches no name server",
        ),
        (
            "a",
            8883,
            FailureSeen::Connect(&late),
            "something: do something",
        ),
        (
            "a",
            8883,
            FailureSeen::Lost(&late),
            "another client connected as \"my-client\"",
        ),
    ] {
        let text = first(host, port, seen);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}
