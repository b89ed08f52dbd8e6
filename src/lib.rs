//! Any number of OS threads share one TLS connection to an MQTT broker.

pub mod cli;
pub mod config;
pub mod demo;
pub mod error;
#[cfg(feature = "local-broker")]
pub mod local;
pub mod options;
pub mod packet;
pub mod tls;

mod agent;
mod backoff;
mod command;
mod connect;
mod fanout;
mod handle;
mod inbox;
mod link;
mod readiness;
mod session;
mod subscriptions;
mod ticket;

pub use agent::{Agent, Broker, Ended, Stats};
pub use command::{Outcome, Reason, RejectReason, Rejected};
pub use handle::Handle;
pub use inbox::{Inbox, InboxError, WhenFull};
pub use ticket::Ticket;
