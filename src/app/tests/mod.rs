//! Tests of the program that need its inside.

mod aws;
mod chosen;
mod credentials;
mod demo_file;
mod environment;
mod in_force;
mod links;
mod panics;
mod papers;
mod pictures;
mod readme;
pub(super) mod resolve;
mod sample_files;
mod secrets;
mod sources;
mod version5;
mod will;

use super::bench::settings::BenchSettings;
use super::demo::settings::DemoSettings;
use super::resolve::Job;

/// The demo's default settings.
pub(super) fn demo_settings() -> DemoSettings {
    match resolve::flags(&["--local"]).unwrap().job {
        Job::Demo(demo) => demo,
        _ => panic!("not the demo"),
    }
}

/// The bench's default settings.
pub(super) fn bench_settings() -> BenchSettings {
    match resolve::flags(&["bench", "--local"]).unwrap().job {
        Job::Bench(bench) => bench,
        _ => panic!("not the bench"),
    }
}
