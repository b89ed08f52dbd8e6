//! Which value of a setting counts: command line over environment over file over defaults.
//!
//! Values are laid over each other as they were written. Those that nothing in this run would read are left out,
//! and only the rest is judged. An error names the source of its value. Pure; the main thread uses it, once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::FromArgMatches;
use mqtt_connection_sharing::error::Error;
use toml::{Table, Value};

use super::settings::{Settings, Task, flags, former_name};
use super::sources::{Layer, Raw, Source, defaults};
use super::surroundings::is_port_of_kubernetes;
use super::values::{Given, Rule, wrong};

/// The values that count, and the defaults below them.
#[derive(Debug)]
pub(super) struct Chosen {
    values: BTreeMap<String, (Source, Raw)>,
    /// The keys whose values were given under their former names.
    formerly: BTreeSet<String>,
    defaults: Table,
    task: Task,
}

impl Chosen {
    /// The values of these layers that count for a task. A certificate and key in PEM and a PKCS#12 archive
    /// are two ways to say the same, so that the one in a stronger layer replaces the other. So are the text and the
    /// file of a message, and a text in a stronger layer has no lines.
    pub(super) fn new(mut layers: Vec<Layer>, task: Task) -> Self {
        let mut values = BTreeMap::new();
        let mut formerly = BTreeSet::new();
        layers.sort_by(|one, other| other.source.cmp(&one.source));
        for layer in layers {
            if task != Task::Bench && matches!(layer.source, Source::BenchOfFile(_)) {
                continue;
            }
            let gives = |key: &str| layer.values.contains_key(key);
            let replaced: &[&str] = match (gives("pkcs12"), gives("cert") || gives("key")) {
                (true, _) => &["cert", "key"],
                (false, true) => &["pkcs12", "pkcs12-password-file"],
                (false, false) => &[],
            };
            for key in replaced {
                values.remove(*key);
            }
            for (given, other) in [
                ("message", "file"),
                ("file", "message"),
                ("message", "lines"),
            ] {
                if gives(given) && !gives(other) {
                    values.remove(other);
                }
            }
            for (key, raw) in layer.values {
                if task.takes(&key) {
                    match layer.formerly.contains(&key) {
                        true => formerly.insert(key.clone()),
                        false => formerly.remove(&key),
                    };
                    values.insert(key, (layer.source.clone(), raw));
                }
            }
        }
        Chosen {
            values,
            formerly,
            defaults: defaults(task),
            task,
        }
    }

    /// The source of the value that counts; `None` for a default, or if there is none.
    pub(super) fn source(&self, key: &str) -> Option<&Source> {
        self.values.get(key).map(|(source, _)| source)
    }

    /// The value that some source gives.
    pub(super) fn given(&self, key: &str) -> Option<(&Source, &Raw)> {
        self.values.get(key).map(|(source, raw)| (source, raw))
    }

    /// The default.
    pub(super) fn default(&self, key: &str) -> Option<&Value> {
        self.defaults.get(key)
    }

    /// Whether nobody gives another value than the default. A copy of the file of defaults gives the same ones.
    pub(super) fn is_default(&self, key: &str) -> bool {
        match self.values.get(key) {
            None => true,
            Some((_, Raw::Toml(value))) => self.defaults.get(key) == Some(value),
            Some((_, Raw::Texts(_))) => false,
        }
    }

    /// The keys that some source gives.
    pub(super) fn keys(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }

    /// The value is not used in this run.
    pub(super) fn leave_out(&mut self, key: &str) {
        self.values.remove(key);
    }

    /// The name of a setting where it was given; the flag where nobody gave it.
    pub(super) fn name(&self, key: &str) -> String {
        let source = self.source(key).unwrap_or(&Source::CommandLine);
        source.name(self.spelt(key))
    }

    /// The key as it was given.
    fn spelt<'a>(&self, key: &'a str) -> &'a str {
        match self.formerly.contains(key) {
            true => former_name(key).unwrap_or(key),
            false => key,
        }
    }

    /// A path that a setting gives: in a file it starts from the file's folder.
    pub(super) fn path(&self, key: &str, path: &Path) -> PathBuf {
        let folder = self.source(key).map(Source::folder);
        folder.unwrap_or(Path::new("")).join(path)
    }

    /// The settings with the value of `key`, or its default, and no other.
    pub(super) fn judge(&self, key: &str) -> Result<Settings, Error> {
        let Some((source, raw)) = self.values.get(key) else {
            let default = self.defaults.get(key).cloned();
            return whole(Table::from_iter(
                default.map(|default| (key.to_owned(), default)),
            ));
        };
        raw.judge(key)
            .map_err(|refusal| raw.refused(self.spelt(key), source, refusal, self.task))
    }

    /// All settings.
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        let mut table = self.defaults.clone();
        let mut arguments = Vec::new();
        for (key, (_, raw)) in &self.values {
            self.judge(key)?;
            if let Raw::Toml(value) = raw {
                table.insert(key.clone(), value.clone());
            }
            arguments.extend(raw.arguments(key));
        }
        let mut settings = whole(table)?;
        let over = flags().try_get_matches_from(arguments);
        over.and_then(|matches| settings.update_from_arg_matches(&matches))
            .map_err(|error| bug(error.kind().to_string()))?;
        Ok(settings)
    }

    /// Leaves the port out if a stronger source names one in its endpoint, or if it is one that Kubernetes sets
    /// beside an endpoint that names one.
    pub(super) fn settle_port(&mut self) -> Result<(), Error> {
        let endpoint = self.judge("endpoint")?.endpoint;
        let names_one = endpoint.is_some_and(|endpoint| endpoint.value.port.is_some());
        let is_stronger = self.source("endpoint") < self.source("port");
        let is_of_kubernetes = match self.values.get("port") {
            Some((Source::Environment, Raw::Texts(texts))) => {
                texts.iter().any(|text| is_port_of_kubernetes(text))
            }
            _ => false,
        };
        if names_one && (is_stronger || is_of_kubernetes) {
            self.leave_out("port");
        }
        Ok(())
    }
}

/// The value of a setting that has a default.
pub(super) fn value<R: Rule>(given: &Option<Given<R>>) -> Result<R::Value, Error> {
    let given = given.as_ref().map(|given| given.value.clone());
    // A test holds that the file has them all.
    given.ok_or_else(|| bug("config/demo.toml lacks a default".to_owned()))
}

/// Settings of a table whose values have been judged.
fn whole(table: Table) -> Result<Settings, Error> {
    let settings = table.try_into();
    settings.map_err(|error: toml::de::Error| bug(error.message().to_owned()))
}

fn bug(problem: String) -> Error {
    wrong("reading the settings", problem, "report it as a bug")
}
