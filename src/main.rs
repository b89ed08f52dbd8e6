//! The program: parse, resolve, log, run, print, exit status.
//!
//! Results go to standard output, logs and the error to standard error. Exit status: 0 success,
//! 1 the command failed, 2 usage or configuration, 3 no connection, 4 refused by the broker, 5 messages did not come in
//! time, 130 interrupted. The main thread owns the connection and runs the command loop.

mod app;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;

use mqtt_connection_sharing::error::Error;

use app::cli::Cli;
use app::command_line::CommandLine;
use app::demo::{DemoReport, Interrupt, Run};
use app::events::EventOutput;
use app::in_force::in_force;
use app::picture::Recordings;
use app::print::{Results, print_error, print_help, print_line};
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
        CommandLine::Help(help) => print_help(&help).map(|()| 0),
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
    print_line(text).map(|()| 0)
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

    let events = EventOutput::new(
        config.output == Format::Jsonl,
        config.options.address(),
        config.options.client_id.clone(),
    );
    let mut results = Results::new(config.output, Arc::clone(&events));
    let view = View::start(config.view, config.verbosity);
    let options = config.options;
    let mut recordings = Recordings::of(&options);
    // The reader of standard output does not read, and nothing more can be written.
    let mut is_stuck = false;
    let status = match &config.job {
        Job::Demo(demo) => {
            // JSON has them all in one object. Elsewhere a run may last for months.
            let mut runs = (config.output == Format::Json).then(Vec::new);
            let on_run = |run: Run| {
                let is_read = results.iteration(&run);
                if let Some(runs) = &mut runs {
                    runs.push(run);
                }
                is_read
            };
            let watched = (&view, &events);
            let report = demo::run(options, demo, &interrupt, &mut recordings, watched, on_run);
            drop(view);
            report.map(|report| {
                let report = DemoReport { runs, ..report };
                status_of(results.report(&report, report.success))
            })
        }
        Job::Bench(bench) => {
            let report = bench::run(
                options,
                bench,
                &interrupt,
                &mut recordings,
                (&view, &events),
            );
            drop(view);
            report.map(|report| status_of(results.report(&report, report.success)))
        }
        Job::Check(settings) => {
            let report = check::run(
                options,
                settings,
                &interrupt,
                (&view, &events),
                &mut |line| {
                    results.line(&line);
                },
            );
            drop(view);
            report.map(|report| {
                results.report(&report, report.success);
                report.exit_status
            })
        }
        Job::Pub(settings) => {
            let report = pub_sub::publish(options, settings, &interrupt, (&view, &events));
            drop(view);
            report.map(|report| {
                results.report(&report, report.success);
                if let Some(error) = report.error.as_ref().filter(|_| !report.interrupted) {
                    print_error(error);
                }
                report.exit_status
            })
        }
        Job::Sub(settings) => {
            let report = pub_sub::subscribe(options, settings, &interrupt, (&view, &events));
            drop(view);
            report.map(|report| {
                log::info!("{report}");
                if let Some(error) = report.error.as_ref().filter(|_| !report.interrupted) {
                    print_error(error);
                }
                is_stuck = report.is_stuck;
                results.keep(&report);
                report.exit_status
            })
        }
    };
    // The run is over: an interrupt that comes while the pictures are written ends nothing of it.
    let is_interrupted = interrupt.is_requested();
    let drawn = pictures.write(&config.job.title(), &recordings);
    let (status, error) = match status {
        _ if is_interrupted => (
            signals::INTERRUPTED,
            status.err().or(interrupt.unconnected()),
        ),
        Ok(status) => (status, None),
        Err(error) => (error.exit_status(), Some(error)),
    };
    let written = match is_stuck {
        true => Ok(()),
        false => results.end(status, error.as_ref()),
    };
    let mut is_written = true;
    for error in [written.err(), drawn.err()].iter().flatten() {
        print_error(error);
        is_written = false;
    }
    if let Some(error) = &error {
        print_error(error);
    }
    let is_fine = is_written || is_interrupted || error.is_some();
    Ok(if is_fine { status } else { FAILED })
}

fn status_of(success: bool) -> u8 {
    if success { 0 } else { FAILED }
}
