//! Sites in the library's sources, and the one fault that is put into one of them.
//!
//! A site is found by the place of the call, so that the sources need no mark. A fault is meant for a
//! whole process: see `main.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A fault: at this place this operation is omitted, or orders nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub file: String,
    pub line: u32,
    /// The fault, and the operation that has it.
    pub what: String,
}

/// Counts executions, without being part of them.
#[derive(Debug, Default)]
pub struct Counter(AtomicUsize);

impl Counter {
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

static FAULT: OnceLock<Fault> = OnceLock::new();
static POSSIBLE: Mutex<BTreeSet<Fault>> = Mutex::new(BTreeSet::new());

/// From now on this fault is in the sources.
pub fn put_in(fault: Fault) {
    FAULT.set(fault).expect("one fault in a process");
}

/// The faults that are possible where the models came by since the last call.
pub fn take_possible() -> BTreeSet<Fault> {
    std::mem::take(&mut POSSIBLE.lock().unwrap_or_else(PoisonError::into_inner))
}

#[track_caller]
fn is_put_in(deed: &str, operation: &str) -> bool {
    let place = Location::caller();
    // Waiting passes its caller's place on (`track_caller`), up to a model.
    let file = match place.file().rsplit_once("src/client/") {
        Some((_, file)) => file,
        None if place.file().ends_with("src/models.rs") => "models.rs",
        None => return false,
    };
    let is_it = |fault: &Fault| {
        fault.line == place.line()
            && fault.file == file
            && fault.what.split_once('-') == Some((deed, operation))
    };
    if let Some(fault) = FAULT.get() {
        return is_it(fault);
    }
    let mut possible = POSSIBLE.lock().unwrap_or_else(PoisonError::into_inner);
    if !possible.iter().any(is_it) {
        possible.insert(Fault {
            file: file.to_owned(),
            line: place.line(),
            what: format!("{deed}-{operation}"),
        });
    }
    false
}

#[track_caller]
pub(crate) fn is_omitted(operation: &str) -> bool {
    is_put_in("omit", operation)
}

#[track_caller]
pub(crate) fn ordering(operation: &str, order: Ordering) -> Ordering {
    if order != Ordering::Relaxed && is_put_in("relax", operation) {
        return Ordering::Relaxed;
    }
    order
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.what)
    }
}

impl FromStr for Fault {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or("FILE:LINE:WHAT");
        Ok(Fault {
            file: part()?.to_owned(),
            line: part()?.parse().map_err(|_| "LINE is a number")?,
            what: part()?.to_owned(),
        })
    }
}
