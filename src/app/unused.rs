//! Values that a run does not use: left out before they are judged, with a line for each.
//!
//! A variable may be set for another program, or for another run of this one. So one that nothing here has a use for
//! breaks nothing. A flag was given to this run: there it contradicts the others and is refused, and so is what one
//! file says twice. Pure; the main thread uses it, once.

use mqtt_connection_sharing::Protocol;
use mqtt_connection_sharing::error::Error;

use super::chosen::{Chosen, value};
use super::remote;
use super::settings::{OF_VERSION_5, Task};
use super::sources::{Layer, Source};
use super::surroundings::Surroundings;
use super::values::wrong;

/// Settings that reach a broker elsewhere, and mean nothing to an embedded one.
pub(super) fn remote_only() -> impl Iterator<Item = &'static str> {
    let others = ["endpoint", "port", "username", "password-file"];
    others.into_iter().chain(remote::TLS_ONLY)
}

/// With an embedded broker, settings for another one are refused on the command line, where they
/// contradict it, and left out of account elsewhere.
pub(super) fn leave_out_remote(
    chosen: &mut Chosen,
    surroundings: &Surroundings,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    let local = chosen.name("local");
    for key in remote_only() {
        let name = chosen.name(key);
        match chosen.source(key) {
            None => continue,
            Some(Source::CommandLine) => {
                return Err(wrong(
                    format!("preparing the embedded broker ({local})"),
                    format!("{name} is for a broker elsewhere"),
                    "leave it out, or give --local=false",
                ));
            }
            Some(_) => chosen.leave_out(key),
        }
        notices.push(format!(
            "{name} is not used: {local} uses an embedded broker"
        ));
    }
    for name in [remote::PASSWORD, remote::PKCS12_PASSWORD] {
        if surroundings.variable(name).is_some() {
            notices.push(format!(
                "{name} is not used: {local} uses an embedded broker"
            ));
        }
    }
    Ok(())
}

/// A variable that has half of a certificate and its key, while no source has the other half. It goes before the
/// layers are laid over each other, so that it takes no archive of a file away.
pub(super) fn leave_out_half_a_certificate(
    layers: &mut [Layer],
    task: Task,
    notices: &mut Vec<String>,
) {
    let counts =
        |layer: &&Layer| task == Task::Bench || !matches!(layer.source, Source::BenchOfFile(_));
    for (half, other) in [("cert", "key"), ("key", "cert")] {
        let mut counting = layers.iter().filter(counts);
        if counting.any(|layer| layer.values.contains_key(other)) {
            continue;
        }
        let environment = |layer: &&mut Layer| layer.source == Source::Environment;
        let given = layers.iter_mut().find(environment);
        if given.is_some_and(|layer| layer.values.remove(half).is_some()) {
            notices.push(without(&Source::Environment.name(half), other));
        }
    }
}

/// Settings for TLS beside `mqtt://`, and variables with a password for which there is no user name or no archive.
pub(super) fn leave_out_for_broker(
    chosen: &mut Chosen,
    surroundings: &Surroundings,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    let endpoint = chosen.judge("endpoint")?.endpoint;
    if endpoint.is_some_and(|endpoint| endpoint.value.plain) {
        for key in remote::TLS_ONLY {
            let is_weaker = chosen.source(key) > chosen.source("endpoint");
            if is_variable(chosen, key) || is_weaker {
                let name = chosen.name(key);
                notices.push(format!(
                    "{name} is not used: the endpoint says mqtt://, which is without TLS"
                ));
                chosen.leave_out(key);
            }
        }
    }
    leave_out_variables(chosen, "pkcs12", &["pkcs12-password-file"], notices);
    if chosen.source("username").is_none() {
        let unused = |name: &str| format!("{name} is not used: no user name is given (--username)");
        if surroundings.variable(remote::PASSWORD).is_some() {
            notices.push(unused(remote::PASSWORD));
        }
        if is_variable(chosen, "password-file") {
            notices.push(unused(&chosen.name("password-file")));
            chosen.leave_out("password-file");
        }
    }
    Ok(())
}

/// Variables for a will that has no topic.
pub(super) fn leave_out_will(chosen: &mut Chosen, notices: &mut Vec<String>) {
    let details = ["will-payload-file", "will-qos", "will-retain", "will-delay"];
    leave_out_variables(chosen, "will-topic", &details, notices);
}

/// Settings of MQTT 5 where another version is spoken.
pub(super) fn leave_out_version_5(
    chosen: &mut Chosen,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    let version: Protocol = value(&chosen.judge("mqtt")?.mqtt)?;
    if version == Protocol::V5 {
        return Ok(());
    }
    for key in OF_VERSION_5 {
        let name = chosen.name(key);
        match chosen.source(key) {
            None => continue,
            Some(Source::CommandLine) => {
                return Err(wrong(
                    format!("reading {name}"),
                    format!("it belongs to MQTT 5, and MQTT {version} is to be spoken"),
                    "add --mqtt 5, or leave it out",
                ));
            }
            Some(_) if chosen.is_default(key) => {}
            Some(_) => notices.push(format!(
                "{name} is not used: it belongs to MQTT 5, and there is no --mqtt 5"
            )),
        }
        chosen.leave_out(key);
    }
    Ok(())
}

/// Leaves out the variables for these settings, unless some source has the one that they need.
fn leave_out_variables(
    chosen: &mut Chosen,
    needed: &str,
    keys: &[&str],
    notices: &mut Vec<String>,
) {
    for key in keys {
        if chosen.source(needed).is_none() && is_variable(chosen, key) {
            notices.push(without(&chosen.name(key), needed));
            chosen.leave_out(key);
        }
    }
}

fn is_variable(chosen: &Chosen, key: &str) -> bool {
    chosen.source(key) == Some(&Source::Environment)
}

fn without(name: &str, needed: &str) -> String {
    format!("{name} is not used: there is no --{needed}")
}
