//! AWS IoT Core: limits that the program refuses before it connects, and slips that it remarks upon.

use super::resolve::*;

#[test]
fn the_limits_of_aws_iot_hold_there_and_only_there() {
    let identity = ["--cert=c", "--key=k"];
    let at = |flag: &str| to(AWS, &[&identity[..], &[flag]].concat());
    for (good, bad) in [
        ("--qos=1".to_owned(), "--qos=2".to_owned()),
        ("--keep-alive=30s".into(), "--keep-alive=29s".into()),
        ("--keep-alive=1200s".into(), "--keep-alive=1201s".into()),
        ("--keep-alive=0".into(), "--keep-alive=1s".into()),
        (
            format!("--client-id={}", "x".repeat(128)),
            format!("--client-id={}", "x".repeat(129)),
        ),
        (
            "--payload-size=128KiB".into(),
            "--payload-size=131073".into(),
        ),
        (
            "--topic-prefix=a/b/c/d/e/f".into(),
            "--topic-prefix=a/b/c/d/e/f/g".into(),
        ),
        (
            format!("--topic-prefix={}", "x".repeat(248)),
            format!("--topic-prefix={}", "x".repeat(249)),
        ),
    ] {
        let config = at(&good).unwrap_or_else(|error| panic!("{good}: {error}"));
        assert!(config.notices.is_empty(), "{good}: {:?}", config.notices);
        let name = bad.split('=').next().unwrap();
        refused(at(&bad), &[name, "AWS IoT"]);
        assert!(to("broker.example", &[&bad]).is_ok(), "{bad}");
    }
}

/// As for the messages of the other commands, the setting is named and nothing is connected.
#[test]
fn a_subscription_is_held_against_the_limits_of_aws_iot() {
    let sub = |host: &str, args: &[&str]| {
        let fixed = ["sub", "--endpoint", host, "--cert=c", "--key=k"];
        with(&[&fixed[..], args].concat(), &[])
    };
    let many: Vec<String> = (0..51).map(|number| format!("a/{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (bad, parts) in [
        (&["a", "--qos=2"][..], &["--qos", "use 0 or 1"][..]),
        (
            &["b", "a/b/c/d/e/f/g/h/i"],
            &["filter", "\"a/b/c/d/e/f/g/h/i\": it has 8 slashes"],
        ),
        (&many, &["filter", "51 filters", "give fewer"]),
        (&["a", "--keep-alive=10s"], &["--keep-alive"]),
        (
            &["a", "--mqtt=5", "--client-id=me", "--session-expiry=200h"],
            &["--session-expiry", "lower it"],
        ),
    ] {
        refused(sub(AWS, bad), &[&["AWS IoT"], parts].concat());
        assert!(sub("broker.example", bad).is_ok(), "{bad:?}");
    }
    assert!(sub(AWS, &["$aws/things/me/#", "$share/g/a/b/c/d/e/f/g/h"]).is_ok());
}

#[test]
fn likely_slips_on_aws_iot_are_remarked_upon() {
    let notices = |args: &[&str]| to(AWS, args).unwrap().notices;
    assert!(notices(&[])[0].contains("--cert"));
    let identity = ["--cert=c", "--key=k", "--port=443"];
    assert!(notices(&identity)[0].contains("x-amzn-mqtt-ca"));
    assert!(notices(&[&identity[..], &["--alpn=x-amzn-mqtt-ca"]].concat()).is_empty());
    let user = ["--username=me", "--port=443"];
    assert!(notices(&user)[0].contains("--alpn mqtt "));
    assert!(notices(&[&user[..], &["--alpn=mqtt"]].concat()).is_empty());
    assert!(to(&format!("mqtt://{AWS}"), &[]).unwrap().notices[0].contains("TLS"));
}

#[test]
fn the_rate_is_that_of_aws_iot_there_and_none_elsewhere_unless_it_is_given() {
    let rate = |host: &str, args: &[&str]| {
        let rate = to(host, args).unwrap().options.limits.rate;
        let publishes = rate.publishes.map(|rate| u64::from(rate.get()));
        (publishes, rate.bytes.map(|rate| rate.get()))
    };
    let aws = (Some(100), Some(512 * 1024));
    assert_eq!(rate(AWS, &[]), aws);
    assert_eq!(rate("broker.example", &[]), (None, None));
    let given = ["--message-rate=20/s", "--byte-rate=1MiB/s"];
    for host in [AWS, "broker.example"] {
        assert_eq!(rate(host, &given), (Some(20), Some(1 << 20)));
    }
    let off = ["--message-rate=off"];
    assert_eq!(rate(AWS, &off), (None, aws.1));
}

/// AWS IoT does not answer such a pace, or closes the connection; the settings still allow it.
#[test]
fn a_pace_that_aws_iot_does_not_take_is_remarked_upon() {
    let notices = |host: &str, flags: &[&str]| {
        let fixed = ["program", "--endpoint", host, "--cert=c", "--key=k"];
        with(&[&fixed[1..], flags].concat(), &[]).unwrap().notices
    };
    for (good, bad, words) in [
        (
            &["--max-inflight=100"][..],
            &["--max-inflight=101"][..],
            "lower --max-inflight",
        ),
        (
            &["--connect-interval=1s"],
            &["--connect-interval=999ms"],
            "--connect-interval 1s",
        ),
        (
            &["--message-rate=100/s"],
            &["--message-rate=101/s"],
            "lower --message-rate",
        ),
        (
            &["--byte-rate=512KiB/s"],
            &["--byte-rate=off"],
            "--byte-rate",
        ),
    ] {
        let aws = "abc-ats.iot-fips.us-east-1.amazonaws.com";
        assert_eq!(notices(aws, good), [""; 0]);
        let remarks = notices(aws, bad);
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(remarks[0].starts_with("AWS IoT takes "), "{remarks:?}");
        assert!(remarks[0].contains(words), "{remarks:?}");
        assert_eq!(notices("broker.example", bad), [""; 0]);
    }
}
