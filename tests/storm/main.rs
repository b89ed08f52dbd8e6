//! The storm: every message accounted for while links are cut and the broker is killed.

#[path = "../support/mod.rs"]
mod support;

mod forgetting;
mod torture;
