//! The limits, each at its edge.

use super::*;

#[test]
fn the_old_names_of_aws_iot_have_a_present_form() {
    for (host, expected) in [
        (
            "a1b2.iot.eu-west-1.amazonaws.com",
            Some("a1b2-ats.iot.eu-west-1.amazonaws.com"),
        ),
        (
            "A1B2.iot.us-east-1.amazonaws.com.",
            Some("A1B2-ats.iot.us-east-1.amazonaws.com"),
        ),
        ("a1b2-ats.iot.eu-west-1.amazonaws.com", None),
        ("a1b2.ats.iot.cn-north-1.amazonaws.com.cn", None),
        ("data.iot.eu-west-1.amazonaws.com", None),
        ("a1b2.iot.example.com", None),
        ("localhost", None),
    ] {
        assert_eq!(ats_host(host).as_deref(), expected, "{host}");
    }
}

fn aws_publish(topic: &str, qos: QoS, bytes: usize) -> Result<(), Limit> {
    let publish = Publish::new(topic, qos, vec![0; bytes]);
    let result = Limits::aws_iot().check_publish(&publish);
    result.map_err(|exceeded| exceeded.limit())
}

fn aws_filter(filter: &str, qos: QoS) -> Result<(), Limit> {
    let result = Limits::aws_iot().check_filter(&Filter::new(filter, qos));
    result.map_err(|exceeded| exceeded.limit())
}

const QOS_1: QoS = QoS::AtLeastOnce;

#[test]
fn publishes_up_to_each_limit_of_aws_iot_pass_and_not_beyond() {
    assert_eq!(aws_publish("a", QOS_1, 128 * 1024), Ok(()));
    assert_eq!(
        aws_publish("a", QOS_1, 128 * 1024 + 1),
        Err(Limit::PayloadBytes)
    );
    assert_eq!(aws_publish("a", QoS::ExactlyOnce, 0), Err(Limit::QoS));
    assert_eq!(aws_publish(&"a".repeat(256), QOS_1, 0), Ok(()));
    assert_eq!(
        aws_publish(&"a".repeat(257), QOS_1, 0),
        Err(Limit::TopicBytes)
    );
    // The limit counts bytes, not characters.
    assert_eq!(
        aws_publish(&"ä".repeat(129), QOS_1, 0),
        Err(Limit::TopicBytes)
    );
    assert_eq!(aws_publish("0/1/2/3/4/5/6/7", QOS_1, 0), Ok(()));
    assert_eq!(
        aws_publish("0/1/2/3/4/5/6/7/8", QOS_1, 0),
        Err(Limit::TopicSlashes)
    );
    assert_eq!(aws_publish("////////", QOS_1, 0), Err(Limit::TopicSlashes));
}

#[test]
fn reserved_topics_of_aws_iot_are_its_own() {
    assert_eq!(aws_publish("$SYS/x", QOS_1, 0), Err(Limit::ReservedTopic));
    assert_eq!(
        aws_publish("$share/g/x", QOS_1, 0),
        Err(Limit::ReservedTopic)
    );
    assert_eq!(aws_publish("$awsome", QOS_1, 0), Err(Limit::ReservedTopic));
    assert_eq!(aws_publish("$aws/things/t/shadow/get", QOS_1, 0), Ok(()));
    assert_eq!(aws_publish("a/$b", QOS_1, 0), Ok(()));
    // Clients of AWS's services subscribe to reserved topics.
    assert_eq!(aws_filter("$aws/things/t/shadow/#", QOS_1), Ok(()));
}

#[test]
fn the_prefix_of_a_rule_or_of_a_shared_filter_does_not_count() {
    let eight_levels = "0/1/2/3/4/5/6/7";
    let rule = |topic: &str| aws_publish(&format!("$aws/rules/r/{topic}"), QOS_1, 0);
    assert_eq!(rule(eight_levels), Ok(()));
    assert_eq!(rule(&format!("{eight_levels}/8")), Err(Limit::TopicSlashes));
    assert_eq!(rule(&"a".repeat(256)), Ok(()));
    let share = |filter: &str| aws_filter(&format!("$share/group/{filter}"), QOS_1);
    assert_eq!(share(eight_levels), Ok(()));
    assert_eq!(
        share(&format!("{eight_levels}/#")),
        Err(Limit::TopicSlashes)
    );
    assert_eq!(aws_filter(eight_levels, QOS_1), Ok(()));
    assert_eq!(
        aws_filter("+/+/+/+/+/+/+/+/#", QOS_1),
        Err(Limit::TopicSlashes)
    );
    assert_eq!(aws_filter("a", QoS::ExactlyOnce), Err(Limit::QoS));
}

#[test]
fn a_connection_to_aws_iot_has_its_limits_too() {
    let limits = Limits::aws_iot();
    assert!(limits.check_client_id(&"c".repeat(128)).is_ok());
    assert!(limits.check_client_id(&"c".repeat(129)).is_err());
    for (seconds, possible) in [
        (0, true),
        (29, false),
        (30, true),
        (1200, true),
        (1201, false),
    ] {
        let result = limits.check_keep_alive(Duration::from_secs(seconds));
        assert_eq!(result.is_ok(), possible, "{seconds}");
    }
    assert!(limits.check_subscriptions(50).is_ok());
    let exceeded = limits.check_subscriptions(51).unwrap_err();
    assert_eq!(exceeded.limit(), Limit::Subscriptions);
    let will = Will::new("a", QoS::ExactlyOnce, "");
    assert_eq!(limits.check_will(&will).unwrap_err().limit(), Limit::QoS);
    let will = Will::new("$a", QOS_1, "");
    assert!(limits.check_will(&will).is_err());
}

#[test]
fn the_limits_of_mqtt_let_everything_pass_that_mqtt_allows() {
    let limits = Limits::mqtt();
    let topic = "/".repeat(65_535);
    let publish = Publish::new(topic.clone(), QoS::ExactlyOnce, vec![0; 300_000]);
    assert_eq!(limits.check_publish(&publish), Ok(()));
    let filter = Filter::new(topic.clone(), QoS::ExactlyOnce);
    assert_eq!(limits.check_filter(&filter), Ok(()));
    assert_eq!(limits.check_topic("$SYS/x"), Ok(()));
    assert_eq!(limits.check_client_id(&topic), Ok(()));
    assert_eq!(limits.check_keep_alive(Duration::from_secs(1)), Ok(()));
    assert_eq!(limits.check_subscriptions(1_000_000), Ok(()));
}

#[test]
fn a_refusal_says_the_value_the_limit_and_its_owner() {
    let limits = Limits::aws_iot();
    let text = |result: Result<(), LimitExceeded>| result.unwrap_err().to_string();
    assert_eq!(
        text(limits.check_topic("0/1/2/3/4/5/6/7/8")),
        "it has 8 slashes, and AWS IoT allows 7"
    );
    assert_eq!(
        text(limits.check_qos(QoS::ExactlyOnce)),
        "quality of service 2, and AWS IoT allows at most 1"
    );
    assert_eq!(
        text(limits.check_keep_alive(Duration::from_secs(5))),
        "it is 5s, and AWS IoT allows 30s to 1200s, or 0"
    );
    assert_eq!(
        text(limits.check_subscriptions(51)),
        "51 filters, and AWS IoT allows 50 on a connection"
    );
    let mut own = Limits::mqtt();
    own.of = "broker.example";
    own.payload_bytes = 10;
    assert_eq!(
        text(own.check_payload(11)),
        "a payload of 11 bytes, and broker.example allows 10"
    );
}

#[test]
fn hosts_of_aws_iot_are_known_by_their_name() {
    let limits = |host: &str| Limits::of_host(host).of;
    assert_eq!(limits("abc-ats.iot.eu-central-1.amazonaws.com"), "AWS IoT");
    assert_eq!(
        limits("ABC.ats.iot.cn-north-1.amazonaws.com.cn."),
        "AWS IoT"
    );
    assert_eq!(limits("data.iot-fips.us-east-1.amazonaws.com"), "AWS IoT");
    assert_eq!(
        limits("abc-ats.iot-fips.us-gov-west-1.amazonaws.com"),
        "AWS IoT"
    );
    assert_eq!(limits("abc-ats.iot.eu-central-1.api.aws"), "AWS IoT");
    assert_eq!(limits("iot.example.com"), "MQTT 3.1.1");
    assert_eq!(limits("my-iot-fips.us-east-1.amazonaws.com"), "MQTT 3.1.1");
    assert_eq!(limits("a.iot.api.aws.example"), "MQTT 3.1.1");
    assert_eq!(limits("s3.amazonaws.com"), "MQTT 3.1.1");
    assert_eq!(limits("abc.iot.amazonaws.com.example"), "MQTT 3.1.1");
}

#[test]
fn aws_iot_has_limits_of_its_own_for_what_mqtt_5_adds() {
    use crate::mqtt::packet::{MessageProperties, SubscribeOptions};
    let limits = Limits::aws_iot();
    let expires = |expiry| {
        let user = ("site".to_owned(), "7".to_owned());
        MessageProperties {
            expiry,
            user_properties: vec![user],
            ..MessageProperties::default()
        }
    };
    let publish = |expiry| {
        let publish = Publish::new("a", QOS_1, "").with_properties(expires(expiry));
        limits.check_publish(&publish).map_err(|it| it.limit())
    };
    let will = |delay, expiry| {
        let mut will = Will::new("a", QOS_1, "");
        will.properties.delay = delay;
        will.properties.message = expires(expiry);
        limits.check_will(&will).map_err(|it| it.limit())
    };
    for (expiry, possible) in [
        (None, true),
        (Some(0), false),
        (Some(1), true),
        (Some(604_800), true),
        (Some(604_801), false),
    ] {
        let expected = if possible {
            Ok(())
        } else {
            Err(Limit::MessageExpiry)
        };
        assert_eq!(
            (publish(expiry), will(0, expiry)),
            (expected, expected),
            "{expiry:?}"
        );
    }
    assert_eq!(will(1, None), Err(Limit::WillDelay));
    let filter = |identifier| {
        let options = SubscribeOptions {
            no_local: true,
            identifier: NonZeroU32::new(identifier),
            ..SubscribeOptions::default()
        };
        let filter = Filter::new("a", QOS_1).with_options(options);
        limits.check_filter(&filter).map_err(|it| it.limit())
    };
    assert_eq!(
        (filter(0), filter(1)),
        (Ok(()), Err(Limit::SubscriptionIdentifiers))
    );
    let week = Duration::from_secs(604_800);
    assert_eq!(limits.check_session_expiry(week), Ok(()));
    let exceeded = limits.check_session_expiry(week + Duration::from_secs(1));
    assert_eq!(
        exceeded.unwrap_err().to_string(),
        "a session expiry of 604801s, and AWS IoT allows at most 604800s"
    );
    assert_eq!(limits.check_topic_aliases(8), Ok(()));
    let exceeded = limits.check_topic_aliases(9).unwrap_err();
    assert_eq!(
        exceeded.to_string(),
        "9 topic aliases, and AWS IoT allows at most 8"
    );
    assert_eq!(limits.check_receive_maximum(100), Ok(()));
    assert_eq!(
        limits.check_receive_maximum(101).map_err(|it| it.limit()),
        Err(Limit::ReceiveMaximum)
    );
}
