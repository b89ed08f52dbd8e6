//! Any number of OS threads share one TLS connection to an MQTT broker.

pub mod cli;
pub mod config;
pub mod error;
pub mod options;
pub mod packet;
pub mod tls;
