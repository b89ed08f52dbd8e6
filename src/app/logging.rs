//! The log on standard error, in which options have the names under which they were given.
//!
//! Started once, on the main thread; any thread logs.

use super::cli::Verbosity;
use super::names::as_given;

/// Starts the log. `RUST_LOG` can say more precisely what is wanted.
pub(crate) fn start(verbosity: Verbosity) {
    let logger = env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .filter_module("mqtt_connection_sharing", verbosity.level())
        .parse_default_env()
        .format_target(false)
        .format_timestamp_millis()
        .build();
    log::set_max_level(logger.filter());
    // This is the only logger.
    let _ = log::set_boxed_logger(Box::new(Logger(logger)));
}

/// Puts the person's names into each line.
struct Logger(env_logger::Logger);

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.0.matches(record) {
            let text = record.args().to_string();
            let text = as_given(&text);
            let mut named = log::Record::builder();
            named
                .metadata(record.metadata().clone())
                .module_path(record.module_path());
            self.0.log(&named.args(format_args!("{text}")).build());
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}
