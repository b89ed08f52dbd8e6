//! Checks with loom the parts of the library in which threads meet: every interleaving of a few threads, and every
//! value that the memory order lets them read, within a bound of preemptions.
//!
//! The library's own sources are compiled here, unchanged: `std` and `crossbeam_channel` are the names of this
//! package's stand-ins (`stand_in/`), and the nouns of MQTT are a few lines below. Each model states what its threads
//! do (`models.rs` and the files that it names).
//!
//! usage: models [--faults | WORD]
//!
//! Runs the models whose names contain the word, or all. With `--faults` they also run with one fault at a time, in a
//! process of its own, in each place of the sources that they came by: a fence, a store or a wake-up is omitted, or an
//! ordered access is relaxed. A fault that no model notices must stand in `unnoticed.txt` with its reason, and each that
//! stands there must go unnoticed. `MODELS_BOUND=4` allows so many preemptions in place of each model's own bound.

#![allow(dead_code)]

extern crate stand_in as crossbeam_channel;
extern crate stand_in as std;

/// The library's files use the macro by this name.
macro_rules! thread_local {
    ($($all:tt)*) => {
        stand_in::thread_local_stand_in! { $($all)* }
    };
}

mod client;

/// As much of the pure room as the files above name.
mod mqtt {
    pub(crate) mod packet {
        #[derive(Debug)]
        pub(crate) struct Filter;

        #[derive(Debug)]
        pub struct Message(pub(crate) u64);

        impl Message {
            pub(crate) fn too_large(&self) -> Option<usize> {
                None
            }

            pub(crate) fn topic(&self) -> &str {
                "t"
            }
        }
    }

    pub(crate) mod session {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct DeliveryId(pub(crate) u64);

        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            LoopEnded,
            OnLoopThread,
            Terminated,
        }

        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Outcome {
            Delivered,
            PerhapsDelivered(Reason),
            Cancelled(Reason),
        }

        impl Outcome {
            pub(crate) fn is_delivered(&self) -> bool {
                *self == Outcome::Delivered
            }
        }
    }
}

mod options {
    pub(crate) mod ranges {
        pub(crate) const QUEUE: std::ops::RangeInclusive<usize> = 1..=1_000_000;
    }
}

mod by_hand;
mod faults;
mod inboxes;
mod models;
mod queues;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, fault, name] = &arguments[..]
        && flag == "--with-fault"
    {
        stand_in::faults::put_in(fault.parse().expect("a fault"));
        let model = models::ALL.iter().find(|model| model.name == name);
        model.expect("a model of this name").check();
        return ExitCode::SUCCESS;
    }
    let word = arguments.first().map_or("", String::as_str);
    let with_faults = word == "--faults";
    let word = if with_faults { "" } else { word };
    let chosen = models::ALL.iter().filter(|model| model.name.contains(word));
    let chosen: Vec<_> = chosen.collect();
    if chosen.is_empty() || arguments.len() > 1 {
        eprintln!("usage: models [--faults] [WORD]; no model has {word:?} in its name");
        return ExitCode::from(2);
    }
    let mut possible = Vec::new();
    for model in chosen {
        println!(
            "{}: {} executions, at most {} preemptions",
            model.name,
            model.check(),
            model.bound()
        );
        possible.push((model, stand_in::faults::take_possible()));
    }
    if with_faults && !faults::are_noticed(&possible) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
