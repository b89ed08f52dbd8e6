//! The threads' side and the loop's: what threads hold, and what the loop's thread owns.

pub(crate) mod agent;
pub(crate) mod batch;
pub(crate) mod command;
pub(crate) mod doorbell;
pub(crate) mod ends;
pub(crate) mod fanout;
pub(crate) mod handle;
pub(crate) mod inbox;
pub(crate) mod lane;
pub(crate) mod outlet;
pub(crate) mod queue;
pub(crate) mod ticket;
