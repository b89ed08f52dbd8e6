//! The program from outside: its exit status, its two streams and its bytes on the wire, against a real
//! Mosquitto, a scripted broker, and nobody at all.

#[path = "../support/mod.rs"]
mod support;

// Its broker looks at certificates with the crate openssl.
#[cfg(target_os = "linux")]
mod aws_thing;
mod bad_brokers;
mod bench;
mod broker_faults;
mod check;
mod demo;
mod events;
mod faults;
mod gen_certs;
mod golden;
mod last_will;
mod local_broker;
mod local_links;
mod local_program;
mod panics;
mod pictures;
mod publishing;
mod refusals;
mod screen;
mod secrets;
mod settings;
mod stopped;
mod subscribing;
mod support_works;
mod untrusted;
mod version5;
mod view;
