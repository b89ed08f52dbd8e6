//! The program: parse, resolve, log, run, print, exit status.
//!
//! Results go to standard output, logs and the error to standard error. Exit status: 0 success,
//! 1 the demo, the bench, the check or pub failed, 2 usage or configuration, 3 no connection, 4 refused by the broker,
//! 130 interrupted. The main thread owns the connection and runs the command loop.

mod app;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;

use mqtt_connection_sharing::error::Error;

use app::cli::Cli;
use app::command_line::CommandLine;
use app::demo::Interrupt;
use app::in_force::in_force;
use app::picture::Recordings;
use app::print::{Results, print_error};
use app::resolve::{Job, resolve};
use app::surroundings::Surroundings;
use app::values::Format;
use app::view::View;
use app::{bench, check, command_line, demo, local, logging, names, pub_sub, signals};

const FAILED: u8 = 1;

fn main() -> ExitCode {
    let result = command_line::parse().and_then(|asked| match asked {
        CommandLine::Run(cli) => {
            logging::start(cli.logged());
            run(cli)
        }
        CommandLine::Page(text) => print_page(&text),
        CommandLine::Settings(cli) => {
            logging::start(cli.verbosity());
            show_settings(cli)
        }
    });
    let status = result.unwrap_or_else(|error| {
        print_error(&error);
        error.exit_status()
    });
    ExitCode::from(status)
}

fn print_page(text: &str) -> Result<u8, Error> {
    let mut results = Results::new(Format::Text);
    results.line(&text);
    results.written().map(|()| 0)
}

fn show_settings(cli: Cli) -> Result<u8, Error> {
    let shown = in_force(cli, &Surroundings::of_this_process())?;
    for notice in &shown.notices {
        log::warn!("{notice}");
    }
    let status = print_page(&shown.text)?;
    shown.problem.map_or(Ok(status), Err)
}

fn run(cli: Cli) -> Result<u8, Error> {
    let mut config = resolve(cli, &Surroundings::of_this_process())?;
    names::remember(std::mem::take(&mut config.names));
    for notice in &config.notices {
        log::warn!("{notice}");
    }
    let interrupt = Arc::new(Interrupt::default());
    signals::stop(Arc::clone(&interrupt))?;
    let pictures = config.pictures.open()?;
    // The embedded broker runs as long as this value lives.
    let _local = local::start(&mut config)?;
    log::info!("connecting to {}", config.options.address());

    let mut results = Results::new(config.output);
    let view = View::start(config.view, config.verbosity);
    let options = config.options;
    let mut recordings = Recordings::of(&options);
    let status = match &config.job {
        Job::Demo(demo) => {
            let report = demo::run(options, demo, &interrupt, &mut recordings, &view, |run| {
                results.line(run);
            });
            drop(view);
            report.map(|report| status_of(results.report(&report, report.success)))
        }
        Job::Bench(bench) => {
            let report = bench::run(options, bench, &interrupt, &mut recordings, &view);
            drop(view);
            report.map(|report| status_of(results.report(&report, report.success)))
        }
        Job::Check(settings) => {
            let report = check::run(options, settings, &interrupt, &view, &mut |line| {
                results.line(&line);
            });
            drop(view);
            report.map(|report| {
                results.report(&report, report.success);
                report.exit_status
            })
        }
        Job::Pub(settings) => {
            let report = pub_sub::publish(options, settings, &interrupt, &view);
            drop(view);
            report.map(|report| {
                results.report(&report, report.success);
                report.exit_status
            })
        }
    };
    // The run is over: an interrupt that comes while the pictures are written ends nothing of it.
    let is_interrupted = interrupt.is_requested();
    let drawn = pictures.write(&config.job.title(), &recordings);
    let mut is_written = true;
    for error in [results.written().err(), drawn.err()].iter().flatten() {
        print_error(error);
        is_written = false;
    }
    if is_interrupted {
        if let Some(error) = status.err().or(interrupt.unconnected()) {
            print_error(&error);
        }
        return Ok(signals::INTERRUPTED);
    }
    let status = status?;
    Ok(if is_written { status } else { FAILED })
}

fn status_of(success: bool) -> u8 {
    if success { 0 } else { FAILED }
}
