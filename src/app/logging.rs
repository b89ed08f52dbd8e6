//! The log on standard error, in which options have the names under which they were given.
//!
//! A terminal gets the local time of day, everything else the date and time of RFC 3339. Unless more was asked for,
//! repeated attempts to connect are folded into one line (`fold.rs`). Started once, on the main thread; any thread logs.

mod fold;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use env_logger::fmt::Formatter;
use jiff::{Timestamp, Zoned};
use log::{Level, LevelFilter, Log, Record};

use super::cli::Verbosity;
use super::names::as_given;
use super::view::screen::above;
use fold::Fold;

/// Whether the library's lines of level INFO are left out.
static LIBRARY_IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Starts the log. `RUST_LOG` can say more precisely what is wanted.
pub(crate) fn start(verbosity: Verbosity) {
    let is_terminal = io::stderr().is_terminal();
    let logger = env_logger::Builder::new()
        .filter_level(LevelFilter::Warn)
        .filter_module("mqtt_connection_sharing", verbosity.level())
        .parse_default_env()
        .format(move |out, record| write_line(out, record, is_terminal))
        .build();
    let logger = Logger::new(logger);
    log::set_max_level(sees(logger.asked));
    // This is the only logger.
    let _ = log::set_boxed_logger(Box::new(logger));
}

/// While it lives, the library tells warnings and errors only, unless more than usual was asked for.
pub(crate) struct QuietLibrary(());

/// See [`QuietLibrary`]. One at a time.
pub(crate) fn quiet_library() -> QuietLibrary {
    LIBRARY_IS_QUIET.store(true, Ordering::Relaxed);
    QuietLibrary(())
}

impl Drop for QuietLibrary {
    fn drop(&mut self) {
        LIBRARY_IS_QUIET.store(false, Ordering::Relaxed);
    }
}

fn write_line(out: &mut Formatter, record: &Record<'_>, is_terminal: bool) -> io::Result<()> {
    match is_terminal {
        true => write!(out, "{} ", Zoned::now().strftime("%H:%M:%S%.3f"))?,
        false => write!(out, "{:.3} ", Timestamp::now())?,
    }
    let style = out.default_level_style(record.level());
    write!(out, "{style}{:<5}{style:#} ", record.level())?;
    if log::max_level() == LevelFilter::Trace {
        let thread = thread::current();
        write!(out, "[{}] ", thread.name().unwrap_or("unnamed thread"))?;
    }
    writeln!(out, "{}", record.args())
}

/// Puts the person's names into each line, and leaves out what nobody wants to read.
struct Logger {
    logger: env_logger::Logger,
    /// The most that is written of any module.
    asked: LevelFilter,
    fold: Mutex<Fold>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let is_written = self.logger.matches(record);
        if !is_written && record.level() != Level::Info {
            return;
        }
        let text = record.args().to_string();
        if !is_written && !fold::is_connection(&text) {
            return;
        }
        let text = as_given(&text);
        // Everything was asked for.
        if self.asked > LevelFilter::Info {
            self.write(record, record.level(), &text);
            return;
        }
        let is_library = |module: &str| !module.starts_with("mqtt_connection_sharing::app");
        let is_left_out = !is_written
            || record.level() == Level::Info
                && record.module_path().is_some_and(is_library)
                && LIBRARY_IS_QUIET.load(Ordering::Relaxed);
        // While one thread writes what came before its line, no other writes in between.
        let mut fold = self.fold.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = fold.take(record.level(), &text, Instant::now());
        if let Some(before) = shown.before {
            self.write(record, Level::Warn, &before);
        }
        if shown.itself && !is_left_out {
            self.write(record, record.level(), &text);
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}

/// The most that the logger has to see. A connection ends a row of attempts, and is told with level INFO.
fn sees(asked: LevelFilter) -> LevelFilter {
    match asked {
        LevelFilter::Warn => LevelFilter::Info,
        asked => asked,
    }
}

impl Logger {
    fn new(logger: env_logger::Logger) -> Self {
        Logger {
            asked: logger.filter(),
            logger,
            fold: Mutex::new(Fold::default()),
        }
    }

    fn write(&self, record: &Record<'_>, level: Level, text: &str) {
        above(|| {
            let mut named = Record::builder();
            named
                .metadata(record.metadata().clone())
                .level(level)
                .module_path(record.module_path());
            self.logger.log(&named.args(format_args!("{text}")).build());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, MutexGuard};

    use super::*;

    /// Where a logger writes in place of standard error.
    #[derive(Default, Clone)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_connection_ends_a_row_of_attempts_also_where_it_is_not_written() {
        let written = Written::default();
        let logger = env_logger::Builder::new()
            .filter_level(LevelFilter::Warn)
            .format(|out, record| writeln!(out, "{}", record.args()))
            .target(env_logger::Target::Pipe(Box::new(written.clone())))
            .build();
        let logger = Logger::new(logger);
        let log = |level, text: &str| {
            let mut record = Record::builder();
            record.level(level).target("mqtt_connection_sharing");
            logger.log(&record.args(format_args!("{text}")).build());
        };
        let failed = "a: nobody listens; trying again in 100 ms";
        log(Level::Warn, failed);
        log(Level::Info, "the next one in a moment");
        log(Level::Warn, failed);
        assert_eq!(
            String::from_utf8_lossy(&written.lock()),
            format!("{failed}\n")
        );
        for connected in [
            "connected to a as b, session new",
            "reconnected to a as b, session resumed",
        ] {
            written.lock().clear();
            log(Level::Info, connected);
            log(Level::Warn, failed);
            let seen = String::from_utf8_lossy(&written.lock()).into_owned();
            assert!(
                !seen.contains("connected") && seen.ends_with(&format!("{failed}\n")),
                "{seen}"
            );
        }
    }

    #[test]
    fn the_log_sees_connections_wherever_it_folds() {
        use LevelFilter::{Error, Info, Off, Trace, Warn};
        let seen = [Off, Error, Warn, Info, Trace].map(sees);
        assert_eq!(seen, [Off, Error, Info, Info, Trace]);
    }
}
