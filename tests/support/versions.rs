//! Tests in both versions of MQTT.
//!
//! Tests of the library are functions of the version, of which [`in_both_versions`] makes two tests each. The suites of
//! the program run as a whole in the version that the variable `SUITE_MQTT` names: `SUITE_MQTT=5 cargo test --test program
//! demo::`. A test that expects something else in MQTT 5 says so with [`suite`].

use mqtt_connection_sharing::Protocol;

/// The variable of the test's own environment that names the version.
const VARIABLE: &str = "SUITE_MQTT";

/// The version that the program is to speak: MQTT 3.1.1, or that of the variable.
pub fn suite() -> Protocol {
    let named = std::env::var(VARIABLE).ok();
    named.map_or(Protocol::V3_1_1, |version| {
        version.parse().expect("SUITE_MQTT: 3.1.1 or 5")
    })
}

/// The program's arguments for that. Without the variable there are none, and the program chooses.
pub fn arguments() -> Vec<String> {
    let named = std::env::var(VARIABLE).ok();
    named.map_or(Vec::new(), |version| vec!["--mqtt".to_owned(), version])
}

/// Makes two tests of each of these functions, which take the version: `v3_1_1::NAME` and `v5::NAME`.
// Each test binary compiles this anew, and not each has such tests.
#[allow(unused_macros)]
macro_rules! in_both_versions {
    ($($name:ident,)+) => {
        mod v3_1_1 {
            $(#[test] fn $name() { super::$name(mqtt_connection_sharing::Protocol::V3_1_1); })+
        }
        mod v5 {
            $(#[test] fn $name() { super::$name(mqtt_connection_sharing::Protocol::V5); })+
        }
    };
}
pub(crate) use in_both_versions;
