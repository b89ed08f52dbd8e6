//! Settings of MQTT 5.

use super::resolve::{flags, refused};

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
