//! The settings of one command line: its sources read, what the run does not use left out, each value judged.
//!
//! `chosen.rs` lays the sources over each other, `unused.rs` says what a run does not use, and `resolve.rs` makes a
//! configuration of the rest. Files are read in `files.rs` alone. The main thread runs it, once.

use mqtt_connection_sharing::error::Error;

use super::chosen::{Chosen, value};
use super::cli::{Cli, Verbosity};
use super::settings::{Settings, Task, variable};
use super::sources::{Layer, LineBreak, is_quoted, line_break};
use super::surroundings::Surroundings;
use super::usage::refuse_misplaced;
use super::values::{FilePath, Rule, wrong};
use super::{files, remote, unused};

/// The settings that count for a run, each valid for itself.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) task: Task,
    /// How much to log.
    pub(super) verbosity: Verbosity,
    /// Whether there is an embedded broker.
    pub(super) local: bool,
    pub(super) chosen: Chosen,
    pub(super) settings: Settings,
    /// Remarks for the log, one line each.
    pub(super) notices: Vec<String>,
}

impl Choice {
    /// Reads the sources, the `--config` file among them.
    pub(super) fn new(cli: Cli, surroundings: &Surroundings) -> Result<Self, Error> {
        let verbosity = cli.logged();
        let task = cli.task;
        refuse_misplaced(&cli.given, task)?;
        let mut notices = flags_only(&cli, surroundings);
        let mut layers = vec![cli.given, Layer::of_environment(surroundings)];
        if let Some(path) = &cli.config {
            FilePath::read_os(path.as_os_str()).map_err(|refusal| {
                let advice = format!("use {}", refusal.allowed);
                wrong("reading --config", refusal.problem("\"\""), advice)
            })?;
            layers.extend(Layer::of_file(&files::read_settings(path)?, path)?);
        }
        unused::leave_out_half_a_certificate(&mut layers, task, &mut notices);
        let mut chosen = Chosen::new(layers, task);
        let local = value(&chosen.judge("local")?.local)?;
        if local {
            unused::leave_out_remote(&mut chosen, surroundings, &mut notices)?;
        } else {
            chosen.settle_port()?;
            unused::leave_out_for_broker(&mut chosen, surroundings, &mut notices)?;
            remote::settle_password_file(&mut chosen, surroundings)?;
        }
        unused::leave_out_version_5(&mut chosen, &mut notices)?;
        unused::leave_out_will(&mut chosen, &mut notices);
        let settings = chosen.settings()?;
        notices.extend(likely_slips(&chosen, task, local, surroundings));
        Ok(Choice {
            task,
            verbosity,
            local,
            chosen,
            settings,
            notices,
        })
    }
}

/// Variables that this program knows as flags only, unless such a flag is given.
fn flags_only(cli: &Cli, surroundings: &Surroundings) -> Vec<String> {
    let is_given = |flag: &str| match flag.starts_with("--config") {
        true => cli.config.is_some(),
        false => cli.verbosity() != Verbosity::Normal,
    };
    surroundings
        .flags_only()
        .filter(|(_, flag)| !is_given(flag))
        .map(|(name, flag)| format!("{name} is no setting and not used; give {flag}"))
        .collect()
}

/// Variables whose names are nearly those of settings that nobody gives, and a password that has more around it.
fn likely_slips(
    chosen: &Chosen,
    task: Task,
    local: bool,
    surroundings: &Surroundings,
) -> Vec<String> {
    let is_used = |key: &String| {
        let unused = !task.takes(key) || (local && unused::remote_only().any(|only| only == key));
        chosen.source(key).is_none() && !unused
    };
    let near = surroundings
        .nearly_settings()
        .filter(|(_, key)| is_used(key));
    let mut slips: Vec<String> = near
        .map(|(name, key)| {
            let unused = format!("{name} is no setting and not used");
            match surroundings.service_of(name) {
                Some(service) => {
                    format!("{unused}: Kubernetes sets it for a Service called {service}")
                }
                None => format!("{unused}; did you mean {}?", variable(&key)),
            }
        })
        .collect();
    for name in [remote::PASSWORD, remote::PKCS12_PASSWORD] {
        let Some(text) = surroundings.variable(name) else {
            continue;
        };
        if is_quoted(text) {
            slips.push(format!(
                "the quotation marks around {name} count as part of the password"
            ));
        }
        let text = text.to_string_lossy();
        if let Some(found) = line_break(files::without_line_break(&text)) {
            let LineBreak {
                character, cause, ..
            } = found;
            slips.push(format!(
                "{name} ends in {character}{cause}; it counts as part of the password"
            ));
        }
    }
    slips
}
