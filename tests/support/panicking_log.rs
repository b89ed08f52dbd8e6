//! A logger that panics once, in the thread that logs a certain line: the way in which tests make a thread
//! panic without changing its code.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

/// Panics once, at the line that begins with these words.
struct PanickingLog(Mutex<Option<&'static str>>);

static LOG: PanickingLog = PanickingLog(Mutex::new(None));

impl Log for PanickingLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        let due = lock(&self.0).take_if(|words| line.starts_with(*words));
        if let Some(words) = due {
            panic!("meant: {words}");
        }
    }

    fn flush(&self) {}
}

/// Another test that failed with the lock must not fail this one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the log panic at these words until the value is dropped. One test at a time.
pub fn panic_at(words: &'static str) -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    let turn = lock(&ONE_AT_A_TIME);
    *lock(&LOG.0) = Some(words);
    turn
}

/// Checks that the words were logged.
#[track_caller]
pub fn expect_panicked() {
    assert_eq!(*lock(&LOG.0), None, "nobody logged these words");
}
