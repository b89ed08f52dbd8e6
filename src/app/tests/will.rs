//! The last will and what it is made of.

use super::resolve::*;
use mqtt_connection_sharing::{QoS, Will};

#[test]
fn a_last_will_is_made_of_its_settings() {
    let (_folder, payload) = files(&[("will", "gone\n")]);
    let will = |args: &[&str]| to("a", args).unwrap().options.last_will;
    assert_eq!(will(&[]), None);
    assert_eq!(
        will(&["--will-topic", "w"]),
        Some(Will::new("w", QoS::AtLeastOnce, ""))
    );
    let expected = Will::new("w", QoS::ExactlyOnce, "gone\n");
    let args = ["--will-payload-file", &payload, "--will-qos=2"];
    assert_eq!(
        will(&[&args[..], &["--will-topic=w"]].concat()),
        Some(expected)
    );
    // The parts of it may come from several places; it goes with the embedded broker, too.
    let config = with(
        &["--local", "--will-topic=w"],
        &[("MQTT_WILL_RETAIN", "true")],
    )
    .unwrap();
    assert!(config.options.last_will.unwrap().retain);
}

#[test]
fn a_will_delay_beyond_the_session_is_remarked_upon() {
    let publish = [
        "pub",
        "--endpoint=a",
        "--topic=b",
        "--mqtt=5",
        "--will-topic=w",
    ];
    let told =
        |args: &[&str]| with(&[&publish[..], args].concat(), &[]).map(|config| config.notices);
    let delay = "--will-delay=10s";
    let remark = |remedy: &str| {
        Ok(vec![format!(
            "--will-delay is longer than the session lasts, and the will leaves with its end: {remedy}"
        )])
    };
    assert_eq!(
        told(&[delay]),
        remark(
            "a clean session ends with its connection, and --clean-session=false asks for another one"
        )
    );
    let kept = "--clean-session=false";
    for (expiry, expected) in [
        ("--session-expiry=9s", remark("raise --session-expiry")),
        ("--session-expiry=10s", Ok(Vec::new())),
    ] {
        assert_eq!(told(&[delay, kept, expiry]), expected, "{expiry}");
    }
    assert_eq!(told(&[delay, kept]), Ok(Vec::new()));
    assert_eq!(told(&[]), Ok(Vec::new()));
}

#[test]
fn a_last_will_that_cannot_be_is_refused() {
    for (args, parts) in [
        (
            &["--will-qos", "1"][..],
            ["--will-qos is given without a topic", "--will-topic TOPIC"],
        ),
        (
            &["--will-retain"],
            [
                "--will-retain is given without a topic",
                "--will-topic TOPIC",
            ],
        ),
        (
            &["--will-payload-file", "/nowhere/will"],
            [
                "--will-payload-file is given without a topic",
                "--will-topic TOPIC",
            ],
        ),
        (
            &["--will-topic", "w", "--will-payload-file", "/nowhere/will"],
            ["/nowhere/will (--will-payload-file)", "No such file"],
        ),
        (&["--will-topic", ""], ["reading --will-topic", "empty"]),
        (
            &["--will-topic", "a/#"],
            ["reading --will-topic", "wildcard"],
        ),
        (
            &["--will-topic", "w", "--will-qos", "3"],
            ["reading --will-qos", "use 0, 1 or 2"],
        ),
    ] {
        refused(to("a", args), &parts);
    }
    for flag in ["--will-topic", "--topic-prefix"] {
        let error = to("a", &[flag, &"x".repeat(65_536)]).unwrap_err();
        assert!(error.to_string().contains("65,535"), "{flag}");
        assert!(error.to_string().len() < 300, "{flag}");
    }
    assert_eq!(
        to("a", &["--will-retain=false"]).unwrap().options.last_will,
        None
    );
    let aws = |qos| {
        to(
            AWS,
            &["--cert=c", "--key=k", "--will-topic=w", "--will-qos", qos],
        )
    };
    refused(aws("2"), &["--will-qos", "AWS IoT"]);
    assert!(aws("1").is_ok());
}
