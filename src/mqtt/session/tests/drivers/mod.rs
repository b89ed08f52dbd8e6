//! Three drivers of a session through the rule book: every interleaving in a small world, random stories in a
//! larger one, and bytes from an enemy. Pure; built for tests and fuzzing only.

pub(in crate::mqtt) mod bytes;
pub(in crate::mqtt) mod bytes5;
#[cfg(test)]
mod exhaustive;
#[cfg(test)]
mod random;
mod story;
#[cfg(test)]
mod world;
