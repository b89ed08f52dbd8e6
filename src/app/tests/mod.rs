//! Tests of the program that need its inside.

mod credentials;
mod demo_file;
mod panics;
mod readme;
mod resolve;
mod secrets;
mod will;
