//! MQTT 5, statement by statement. `TABLE.md` in this folder lists the statements with their tests.
//!
//! The doc comment of a test names the statements that it proves: `[MQTT-3.1.2-1]`, or `[MQTT-1.5.4-1 send]` if the
//! statement stands in `statements.tsv` for more than one side. As for MQTT 3.1.1, the tests compare bytes on the wire
//! between the real loop and a scripted broker; expected bytes are written out by hand.
//!
//! `cargo test --test conformance v5`

mod acknowledgments;
mod aliases;
mod answers;
mod codes;
mod connack;
mod connect;
mod disconnected;
mod keep_alive;
mod leaving;
mod limits;
mod malformed;
mod names;
mod pieces;
mod properties;
mod publish;
mod qos2;
mod quota;
mod received;
mod session;
mod subscribe;
mod table;
mod violations;
