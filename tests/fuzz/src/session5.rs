//! The target `session5`: see src/mqtt/session/tests/drivers/bytes5.rs of the crate.
#![no_main]

use mqtt_connection_sharing::mqtt::fuzz;
// For its allocator.
use mqtt_connection_sharing_fuzz as _;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::session5(input));
