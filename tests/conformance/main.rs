//! MQTT 3.1.1, statement by statement: what the standard binds a client to, and the tests that hold
//! this one to it. `TABLE.md` in this folder lists them.
//!
//! A test names its statement: `mqtt_2_3_1_3_…` is about [MQTT-2.3.1-3]. Where a statement binds both
//! what is sent and what is received, `send` or `receive` follows. What is on the wire is judged as
//! bytes between the real loop (or program) and a broker that does as it is told; expected bytes are
//! written out by hand.
//!
//! `cargo test --test conformance`

// Clippy knows tests by their attribute only; the helpers here are test code all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod connack;
mod connect;
mod disconnect;
mod flags;
mod harness;
mod identifiers;
mod keep_alive;
mod names;
mod publish;
mod qos2;
mod receive;
mod session;
mod strings;
mod subscribe;
mod table;
mod violations;
mod will;
