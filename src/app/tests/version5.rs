//! Settings of MQTT 5.

use super::in_force::shown;
use super::resolve::{flags, refused, with};
use crate::app::resolve::Job;

#[test]
fn a_session_expiry_beside_a_clean_session_is_remarked_upon() {
    let publish = ["pub", "--endpoint=a", "--topic=b", "--mqtt=5"];
    let told = |args: &[&str], environment: &[(&str, &str)]| {
        let config = with(&[&publish[..], args].concat(), environment);
        config.unwrap().notices
    };
    let notice = |name: &str| {
        format!(
            "{name} is not used: a clean session ends with its connection, and --clean-session=false asks for another \
             one"
        )
    };
    let given = "--session-expiry=1h";
    assert_eq!(told(&[given], &[]), [notice("--session-expiry")]);
    assert_eq!(
        told(
            &["--client-id=me", "--clean-session"],
            &[("MQTT_SESSION_EXPIRY", "2h")]
        ),
        [notice("MQTT_SESSION_EXPIRY")]
    );
    for args in [
        &[][..],
        &["--session-expiry=0"],
        &[given, "--clean-session=false"],
    ] {
        assert_eq!(told(args, &[]), [""; 0], "{args:?}");
    }
    let in_force = shown(&[&publish[..], &[given]].concat(), &[]);
    assert_eq!(in_force.notices, [notice("--session-expiry")]);
}

#[test]
fn pub_and_sub_say_that_they_end_the_session_of_an_identifier() {
    let told = |command: &[&str], args: &[&str]| {
        let config = flags(&[command, &["--endpoint=a"], args].concat());
        config.unwrap().notices
    };
    let (publish, subscribe) = (["pub", "--topic=b"], ["sub", "b"]);
    let id = "--client-id=me";
    assert_eq!(
        told(&publish, &["--mqtt=5", id]),
        [
            "MQTT 5 begins a new session with each program, so that what the broker has kept for \"me\" is lost, \
             subscriptions and messages; --mqtt 3.1.1 resumes it"
        ]
    );
    assert_eq!(
        told(&subscribe, &["--mqtt=5", id]),
        [
            "MQTT 5 begins a new session with each program, so that messages that come between two runs are lost; \
             --mqtt 3.1.1 resumes it"
        ]
    );
    for command in [publish, subscribe] {
        for args in [
            &[id][..],
            &["--mqtt=5", id, "--clean-session"],
            // Nobody knows the identifier.
            &["--mqtt=5", "--clean-session=false"],
        ] {
            assert_eq!(told(&command, args), [""; 0], "{command:?} {args:?}");
        }
    }
}

#[test]
fn no_local_and_a_shared_subscription_are_refused_together() {
    let subscribe = ["sub", "--endpoint=a", "--mqtt=5", "b"];
    let both = |args: &[&str]| flags(&[&subscribe[..], args].concat());
    refused(
        both(&["$share/g/p/1", "--no-local"]),
        &[
            "--no-local is not possible with the shared subscription \"$share/g/p/1\"",
            "leave --no-local out",
        ],
    );
    assert!(both(&["$share/g/p/1"]).is_ok());
    assert!(both(&["$shared/p/1", "--no-local"]).is_ok());
}

#[test]
fn no_advice_about_a_time_is_refused_itself() {
    let expiry = |flag: &str| {
        let publish = ["pub", "--endpoint=a", "--topic=b", "--mqtt=5", flag];
        flags(&publish).unwrap_err().advice().to_owned()
    };
    let half = expiry("--message-expiry=500ms");
    assert_eq!(half, "use for example 60s");
    assert_eq!(expiry("--message-expiry=0"), half);
    assert_eq!(
        expiry("--session-expiry=500ms"),
        "use for example 60s, or 0"
    );
}

/// A value may have any character, so that none separates two of them.
#[test]
fn a_variable_has_one_user_property() {
    let args = ["pub", "--endpoint=a", "--topic=b", "--mqtt=5"];
    let config = with(&args, &[("MQTT_USER_PROPERTY", "a=b,c=d")]).unwrap();
    let Job::Pub(publish) = config.job else {
        panic!("not pub");
    };
    let pair = ("a".to_owned(), "b,c=d".to_owned());
    assert_eq!(publish.properties.user_properties, [pair]);
}
