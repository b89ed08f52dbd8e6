//! The library's log, line by line, for tests that run the library in their own process.

use std::sync::{Mutex, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

/// Keeps the lines of the log.
pub struct Lines(Mutex<Vec<String>>);

/// The lines of this process.
pub static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Lines {
    /// Starts keeping the warnings and errors of all threads.
    pub fn start(&self) {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            log::set_logger(&LINES).unwrap();
            log::set_max_level(LevelFilter::Warn);
        });
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The lines from `from` on that contain both texts. The port of a broker tells the lines of its
    /// loop from others, but only while the broker lives: the system gives ports out again.
    pub fn with(&self, from: usize, one: &str, other: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let both = |line: &&String| line.contains(one) && line.contains(other);
        lines[from..].iter().filter(both).cloned().collect()
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(record.args().to_string());
    }

    fn flush(&self) {}
}
