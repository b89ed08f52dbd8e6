//! Tests of the program that need its inside.

mod panics;
mod readme;
mod secrets;
