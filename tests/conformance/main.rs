//! MQTT 3.1.1, statement by statement: the duties of a client by the standard, and the tests that hold
//! this client to them. `TABLE.md` in this folder lists them.
//!
//! The name of a test begins with its statement: `mqtt_2_3_1_3_…` is about [MQTT-2.3.1-3]. If a
//! statement binds both the sender and the receiver, `send` or `receive` follows. The tests compare
//! bytes on the wire between the real loop (or program) and a scripted broker; expected bytes are
//! written out by hand.
//!
//! MQTT 5 has its own table and its own tests, in the folder `v5`.
//!
//! `cargo test --test conformance`

// Clippy knows tests by their attribute only, but the helpers are test code as well.
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
mod v5;
mod violations;
mod will;
