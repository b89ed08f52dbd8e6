//! The protocol. Pure: no thread, socket, channel or clock. Bytes come in, bytes go out, the caller passes the time.
//!
//! # Not yet stable
//!
//! This module is public for tests, fuzzing and benchmarks. Any release may change it. Applications use
//! the types at the crate's root, and [`limits`].

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub(crate) mod codec;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod kept;
pub mod limits;
pub mod outgoing;
pub mod packet;
mod rate;
pub mod session;
pub mod subscriptions;
pub(crate) mod taken;
pub mod topic;
pub mod v4;
pub mod v5;
