//! The last will of four settings: topic, payload file, quality of service, retain.
//!
//! Decides which of them go together. The payload is read through `files.rs`. Runs on the main
//! thread.

use bytes::Bytes;

use super::files;
use super::resolve::{quality, wrong};
use super::sources::Layers;
use crate::app::settings::Settings;
use mqtt_connection_sharing::Will;
use mqtt_connection_sharing::error::Error;

/// The will, if a topic is given; without one the other settings mean nothing and are taken for a
/// slip, unless they only say what holds anyway.
pub(super) fn last_will(layers: &Layers, settings: &Settings) -> Result<Option<Will>, Error> {
    let Some(topic) = &settings.will_topic else {
        return without_topic(layers, settings).map(|()| None);
    };
    let payload = match &settings.will_payload_file {
        Some(path) => {
            let name = layers.name("will-payload-file").unwrap_or_default();
            Bytes::from(files::read_will(path, &name)?)
        }
        None => Bytes::new(),
    };
    let qos = quality("will-qos", settings.will_qos)?.unwrap_or_default();
    let mut will = Will::new(topic, qos, payload);
    will.retain = settings.will_retain.unwrap_or(false);
    Ok(Some(will))
}

fn without_topic(layers: &Layers, settings: &Settings) -> Result<(), Error> {
    for (key, given) in [
        ("will-payload-file", settings.will_payload_file.is_some()),
        ("will-qos", settings.will_qos.is_some()),
        ("will-retain", settings.will_retain == Some(true)),
    ] {
        if given {
            let name = layers.name(key).unwrap_or_else(|| format!("--{key}"));
            return Err(wrong(
                "preparing the last will",
                format!("{name} is given without a topic"),
                "add --will-topic TOPIC, or leave it out",
            ));
        }
    }
    Ok(())
}
