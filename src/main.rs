//! The program: parse, resolve, log, run, one printed error, exit status.
//!
//! Results go to standard output, logs and the error to standard error. Exit status: 0 success,
//! 1 the demo or the bench failed, 2 usage or configuration, 3 no connection, 4 refused by the broker,
//! 130 interrupted. The main thread owns the connection and runs the command loop.

mod app;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use app::bench::{self, Progress};
use app::demo::{self, Interrupt};
use app::names::{self, as_given};
use app::resolve::{self as config, BenchSettings, Config, Output, Surroundings, Verbosity};
use app::settings as cli;
use app::signals;
use mqtt_connection_sharing::error::{Blame, Error, exhaustion};

const FAILED: u8 = 1;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let result = cli::parse().and_then(|cli| {
        start_log(cli.verbosity());
        run(cli)
    });
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            print_error(&error);
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(cli: cli::Cli) -> Result<u8, Error> {
    let mut config = config::resolve(cli, &Surroundings::of_this_process())?;
    names::remember(std::mem::take(&mut config.names));
    for notice in &config.notices {
        log::info!("{notice}");
    }
    let interrupt = Arc::new(Interrupt::default());
    stop_on_signals(Arc::clone(&interrupt))?;
    // The embedded broker runs as long as this value lives.
    let _local = local_broker(&mut config)?;
    match config.bench.take() {
        Some(settings) => run_bench(config, &settings, &interrupt),
        None => run_demo(config, &interrupt),
    }
}

fn run_demo(config: Config, interrupt: &Interrupt) -> Result<u8, Error> {
    let output = config.output;
    let mut written = Ok(());
    let result = demo::run(config.options, &config.demo, interrupt, |run| {
        if output == Output::Text {
            keep_first(&mut written, print_line(&run.to_string()));
        }
    });
    let interrupted = interrupt.is_requested();
    let report = match result {
        Err(_) if interrupted => return Ok(INTERRUPTED),
        other => other?,
    };
    let text = match output {
        Output::Text => report.to_string(),
        Output::Json => report.to_json(),
    };
    keep_first(&mut written, print_line(&text));
    if interrupted {
        return Ok(INTERRUPTED);
    }
    if let Err(error) = written {
        print_error(&error);
        return Ok(FAILED);
    }
    Ok(if report.success { 0 } else { FAILED })
}

fn run_bench(
    config: Config,
    settings: &BenchSettings,
    interrupt: &Arc<Interrupt>,
) -> Result<u8, Error> {
    let progress = match config.verbosity {
        Verbosity::Quiet => Progress::Hidden,
        _ => Progress::on_terminal(),
    };
    let result = bench::run(config.options, settings, interrupt, progress);
    let interrupted = interrupt.is_requested();
    let report = match result {
        Err(_) if interrupted => return Ok(INTERRUPTED),
        other => other?,
    };
    let written = print_line(&match config.output {
        Output::Text => report.to_string(),
        Output::Json => report.to_json(),
    });
    if interrupted {
        return Ok(INTERRUPTED);
    }
    if let Err(error) = written {
        print_error(&error);
        return Ok(FAILED);
    }
    Ok(if report.success { 0 } else { FAILED })
}

/// Logs go to standard error; `RUST_LOG` can say more precisely what is wanted.
fn start_log(verbosity: Verbosity) {
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

/// Writes what it is given under the names that the person knows.
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

/// The first signal asks for an orderly end, the second one leaves at once.
fn stop_on_signals(interrupt: Arc<Interrupt>) -> Result<(), Error> {
    signals::on_each(move || {
        if !interrupt.request() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        log::info!("interrupted: finishing what is in flight; again to leave at once");
    })
    .map_err(|error| {
        Error::new(
            Blame::Configuration,
            "setting up Ctrl-C",
            error.to_string(),
            exhaustion(&error).unwrap_or("free some of the system's threads or memory"),
        )
    })
}

#[cfg(feature = "local-broker")]
fn local_broker(
    config: &mut Config,
) -> Result<Option<mqtt_connection_sharing::local::LocalBroker>, Error> {
    use mqtt_connection_sharing::local::LocalBroker;
    use mqtt_connection_sharing::options::{IdentityFiles, Security, TlsOptions};

    if !config.local {
        return Ok(None);
    }
    let broker = LocalBroker::start()?;
    log::info!(
        "embedded broker on 127.0.0.1:{} with mutual TLS",
        broker.port()
    );
    config.options.host = "localhost".to_owned();
    config.options.port = broker.port();
    config.options.security = Security::Tls(TlsOptions {
        ca_file: Some(broker.ca_file().to_owned()),
        identity: Some(IdentityFiles::Pem {
            cert: broker.cert().to_owned(),
            key: broker.key().to_owned(),
        }),
        ..TlsOptions::default()
    });
    Ok(Some(broker))
}

#[cfg(not(feature = "local-broker"))]
fn local_broker(config: &mut Config) -> Result<Option<()>, Error> {
    if !config.local {
        return Ok(None);
    }
    Err(Error::new(
        Blame::Configuration,
        "starting the embedded broker for --local",
        "this program was built without it",
        "build it in with: cargo run --release --features local-broker -- --local (or scripts/demo.sh)",
    ))
}

/// Writes a line of the result. Whoever reads it may go away early, which is no error of ours; that
/// it cannot be stored is one.
fn print_line(line: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            log::debug!("standard output is closed: {error}");
            Ok(())
        }
        Err(error) => Err(Error::new(
            Blame::Configuration,
            "writing the result to standard output",
            error.to_string(),
            "check where it is redirected to",
        )),
    }
}

fn print_error(error: &Error) {
    // Without a standard error there is only the exit status.
    let _ = writeln!(io::stderr(), "error: {}", as_given(&error.to_string()));
}

fn keep_first(kept: &mut Result<(), Error>, result: Result<(), Error>) {
    if kept.is_ok() {
        *kept = result;
    }
}
