//! A picture of a run: what each thread waits for, each command from its push to its end, each message from arrival to taken.
//!
//! `story.rs` makes it of the library's recording, and `model.rs` has it as data; `look.rs` says how each thing looks;
//! `svg.rs`, `page.rs` and `trace.rs` write it for papers, for a browser, and for Perfetto. All of that is pure data and
//! text. `files.rs` opens the files before the run and writes them after it. The main thread runs it.

mod files;
mod levels;
mod look;
mod model;
mod pack;
mod page;
mod story;
mod svg;
#[cfg(test)]
mod tests;
mod text;
mod trace;

pub(crate) use files::PicturePaths;
pub(crate) use story::{MessageCounts, Recordings};

use page::page;
use story::picture;
use svg::svg;
use trace::trace;
