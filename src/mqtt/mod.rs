//! The protocol. Pure: no thread, socket, channel or clock; bytes in, bytes out, the time is passed in.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod limits;
pub(crate) mod names;
pub mod packet;
pub(crate) mod session;
pub(crate) mod subscriptions;
pub(crate) mod topic;
pub mod v4;
