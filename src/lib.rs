//! Any number of OS threads share one TLS connection to an MQTT broker.

pub mod error;
pub mod options;
pub mod packet;
pub mod tls;
