//! Pictures that were made up, and what becomes of them.

mod made_up;
mod pages;
mod svgs;
mod traces;
