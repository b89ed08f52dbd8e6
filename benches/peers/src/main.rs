//! Compares this project's library with other MQTT clients, and with the limit that TLS sets.
//!
//! `peers run NAME` does one task in a process of its own, so that processor time and memory are the
//! contender's alone. `peers sink` is a server that acknowledges everything, and sends
//! messages to subscribers. `peers suite` runs all
//! tasks in several rounds, and writes the table and the chart. `scripts/peers.sh` does the rest.

mod chart;
mod contenders;
mod packets;
mod servers;
mod sink;
mod source;
mod suite;
mod table;
mod tls;
mod work;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Parser, Subcommand};

use work::Work;

#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Does one piece of work and prints its figures as JSON.
    Run {
        /// The contender that does it.
        #[arg(value_parser = PossibleValuesParser::new(contenders::ALL.map(|c| {
            PossibleValue::new(c.name).help(c.what)
        })))]
        contender: String,
        /// Folder with certificates, as scripts/gen-certs.sh makes them.
        #[arg(long)]
        certs: PathBuf,
        #[command(flatten)]
        work: Work,
    },
    /// Everything: all contenders in turn, several rounds, then the table.
    Suite {
        /// Folder with certificates, as scripts/gen-certs.sh makes them.
        #[arg(long)]
        certs: PathBuf,
        /// Rounds; the medians over them count.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// How long each contender publishes in a round.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// This project's program. Without it, `bench` is left out.
        #[arg(long)]
        program: Option<PathBuf>,
        /// Write the figures here, as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Draw the chart here, as SVG.
        #[arg(long)]
        chart: Option<PathBuf>,
    },
    /// A server that acknowledges everything; prints its port.
    Sink {
        /// Folder with certificates, as scripts/gen-certs.sh makes them.
        #[arg(long)]
        certs: PathBuf,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run {
            contender,
            certs,
            work,
        } => {
            let certs = tls::check(&certs)?;
            let contender = contenders::ALL
                .into_iter()
                .find(|known| known.name == contender)
                .context("no such contender")?;
            let figures = (contender.run)(&work, &certs)?;
            println!("{}", serde_json::to_string(&figures)?);
            Ok(())
        }
        Command::Suite {
            certs,
            rounds,
            seconds,
            program,
            json,
            chart,
        } => {
            let suite = suite::run(&tls::check(&certs)?, program.as_deref(), rounds, seconds)?;
            print!("{}", table::text(&suite, seconds)?);
            if let Some(path) = json {
                suite::write(&path, &table::json(&suite, seconds)?)?;
            }
            if let Some(path) = chart {
                suite::write(&path, &chart::svg(&suite.tasks)?)?;
            }
            Ok(())
        }
        Command::Sink { certs } => sink::serve(&tls::check(&certs)?),
    }
}
