//! The last will of five settings: topic, payload file, quality of service, retain, delay.
//!
//! Decides which of them go together. The payload is read through `files.rs`. Runs on the main
//! thread.

use bytes::Bytes;
use mqtt_connection_sharing::Will;
use mqtt_connection_sharing::error::Error;

use super::chosen::Chosen;
use super::files;
use super::settings::Settings;
use super::values::wrong;

/// The will, if a topic is given. Without one the other settings mean nothing and are taken for a
/// slip, unless they only say what holds anyway.
pub(super) fn last_will(chosen: &Chosen, settings: &Settings) -> Result<Option<Will>, Error> {
    let Some(topic) = &settings.will_topic else {
        return without_topic(chosen, settings).map(|()| None);
    };
    let payload = match &settings.will_payload_file {
        Some(path) => {
            let key = "will-payload-file";
            let path = chosen.path(key, &path.value);
            Bytes::from(files::read_will(&path, &chosen.name(key))?)
        }
        None => Bytes::new(),
    };
    let qos = settings.will_qos.as_ref().map(|qos| qos.value);
    let mut will = Will::new(&topic.value, qos.unwrap_or_default(), payload);
    will.retain = retain(settings);
    // The range of durations is far below.
    let delay = settings
        .will_delay
        .as_ref()
        .map(|delay| delay.value.as_secs());
    will.properties.delay = u32::try_from(delay.unwrap_or_default()).unwrap_or(u32::MAX);
    Ok(Some(will))
}

fn without_topic(chosen: &Chosen, settings: &Settings) -> Result<(), Error> {
    for (key, given) in [
        ("will-payload-file", settings.will_payload_file.is_some()),
        ("will-qos", settings.will_qos.is_some()),
        ("will-retain", retain(settings)),
        ("will-delay", settings.will_delay.is_some()),
    ] {
        if given {
            return Err(wrong(
                "preparing the last will",
                format!("{} is given without a topic", chosen.name(key)),
                "add --will-topic TOPIC, or leave it out",
            ));
        }
    }
    Ok(())
}

fn retain(settings: &Settings) -> bool {
    settings
        .will_retain
        .as_ref()
        .is_some_and(|retain| retain.value)
}
