//! A picture of a run: what each thread waits for, each command from push to told, each message from arrival to taken.
//!
//! `model.rs` has the picture as data, `look.rs` how each thing looks; `svg.rs`, `page.rs` and `trace.rs` write it for
//! papers, for a browser, and for Perfetto. All of it is pure data and text, made after the run on the main thread.

mod levels;
mod look;
mod model;
mod pack;
mod page;
mod svg;
#[cfg(test)]
mod tests;
mod text;
mod trace;

use page::page;
use svg::svg;
use trace::trace;
