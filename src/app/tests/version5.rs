//! Settings of MQTT 5.

use super::resolve::flags;

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
