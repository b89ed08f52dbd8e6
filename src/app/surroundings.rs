//! The part of the configuration that comes from the process around it: environment, host name, a random word.
//!
//! Pure but for [`Surroundings::of_this_process`], which asks the system once. The main thread uses it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::Secret;

use super::files;
use super::foreign::{flag_alone, meant_by};
use super::settings::variable;
use super::values::wrong;

/// The beginning of all variables that may be settings.
const PREFIX: &str = "MQTT_";

/// The surroundings of this process.
pub(crate) struct Surroundings {
    /// The variables of the environment that begin with `MQTT_`.
    pub(crate) variables: BTreeMap<String, OsString>,
    /// This computer's name, as far as it is known.
    pub(crate) host_name: Option<String>,
    /// A word that no other run has, on this computer or on another: 12 letters and digits. The process number would
    /// not do, since it is 1 in each container.
    pub(crate) run: String,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_this_process() -> Self {
        let named = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            // Windows takes names in any case.
            let name = match cfg!(windows) {
                true => name.to_ascii_uppercase(),
                false => name,
            };
            name.starts_with(PREFIX).then_some((name, value))
        });
        // The system seeds the hasher.
        let random = RandomState::new().hash_one(());
        Surroundings {
            variables: variables.collect(),
            host_name: files::host_name()
                .or_else(|| named("HOSTNAME"))
                .or_else(|| named("COMPUTERNAME")),
            run: format!("{:012x}", random >> 16),
        }
    }

    /// The text of a variable, unless it is empty: that counts as not set.
    pub(super) fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name).filter(|text| !text.is_empty())
    }

    /// The variables that are no settings but have nearly the name of one, each with the key of that setting.
    pub(super) fn nearly_settings(&self) -> impl Iterator<Item = (&str, String)> {
        self.variables.keys().filter_map(|name| {
            let key = meant_by(name.strip_prefix(PREFIX)?)?;
            (variable(&key) != *name).then_some((name.as_str(), key))
        })
    }

    /// The variables that this program knows as flags only, each with what to give.
    pub(super) fn flags_only(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.variables.keys().filter_map(|name| {
            let flag = flag_alone(name.strip_prefix(PREFIX)?)?;
            Some((name.as_str(), flag))
        })
    }

    /// The Service for which Kubernetes has set this variable, if it looks like that: `NAME_PORT=tcp://…`.
    pub(super) fn service_of(&self, name: &str) -> Option<String> {
        let service = name.strip_suffix("_PORT")?;
        let is_set = is_port_of_kubernetes(self.variable(name)?);
        is_set.then(|| service.to_ascii_lowercase().replace('_', "-"))
    }

    /// A password in the environment, without the line break at its end; an empty one counts as not set.
    pub(super) fn password(&self, name: &str) -> Result<Option<Secret>, Error> {
        let Some(text) = self.variable(name) else {
            return Ok(None);
        };
        let Some(text) = text.to_str() else {
            return Err(wrong(
                format!("reading {name}"),
                "it is not UTF-8",
                "set it anew",
            ));
        };
        let password = files::without_line_break(text);
        Ok((!password.is_empty()).then(|| password.into()))
    }
}

/// Whether a port is what Kubernetes sets beside a Service: `tcp://10.96.12.7:8883`.
pub(super) fn is_port_of_kubernetes(text: &OsStr) -> bool {
    text.to_string_lossy().contains("://")
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.variables.keys().collect();
        f.debug_struct("Surroundings")
            .field("variables", &names)
            .field("host_name", &self.host_name)
            .field("run", &self.run)
            .finish()
    }
}
