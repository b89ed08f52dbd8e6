//! The threads' side and the loop's: the handles, tickets and inboxes that threads hold, and the state
//! that the loop's thread owns (`agent/`).
//!
//! The law of this room: threads meet here and nowhere else in the library, and only this room reads the
//! clock for the connection. It uses `mqtt`, `link`, `options`, `secret` and `error`, crossbeam's channels
//! and native-tls's connector, and never `app`.

pub(crate) mod agent;
pub(crate) mod batch;
pub(crate) mod by_hand;
pub mod coming_from;
pub(crate) mod command;
pub(crate) mod default_inbox;
pub(crate) mod doorbell;
pub(crate) mod ends;
pub(crate) mod events;
pub(crate) mod fanout;
pub(crate) mod handle;
pub(crate) mod inbox;
pub(crate) mod inbox_error;
pub(crate) mod lane;
pub(crate) mod latencies;
pub(crate) mod line;
pub(crate) mod loop_thread;
pub(crate) mod meter;
pub(crate) mod next_event;
pub(crate) mod next_message;
pub(crate) mod outlet;
pub(crate) mod push;
pub(crate) mod queue;
pub mod recording;
pub(crate) mod request_mark;
pub(crate) mod response;
mod responses;
pub(crate) mod stats;
pub(crate) mod tasks;
pub(crate) mod ticket;
mod unmatched;
pub(crate) mod waiter;
pub(crate) mod watch;
