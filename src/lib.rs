//! Any number of OS threads share one TLS connection to an MQTT broker.

pub mod error;
#[cfg(feature = "local-broker")]
pub mod local;
pub mod options;
pub mod packet;
