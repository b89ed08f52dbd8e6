//! The target `decode5`: see src/mqtt/v5/tests of the crate.
#![no_main]

use mqtt_connection_sharing::mqtt::fuzz;
// For its allocator.
use mqtt_connection_sharing_fuzz as _;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::decode5_stream(input));
