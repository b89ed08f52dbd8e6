//! `--local`: a broker inside the program, where it was built in, and the options that reach it.
//!
//! Runs on the main thread, once; the broker has threads of its own.

use mqtt_connection_sharing::error::Error;

use super::resolve::Config;

/// Starts the embedded broker if that is asked for. It runs as long as the value lives.
#[cfg(feature = "local-broker")]
pub(crate) fn start(
    config: &mut Config,
) -> Result<Option<mqtt_connection_sharing::local::LocalBroker>, Error> {
    use mqtt_connection_sharing::local::LocalBroker;

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
    config.options.security = broker.security();
    Ok(Some(broker))
}

/// Says that the embedded broker is not there if it is asked for.
#[cfg(not(feature = "local-broker"))]
pub(crate) fn start(config: &mut Config) -> Result<Option<()>, Error> {
    if !config.local {
        return Ok(None);
    }
    Err(super::values::wrong(
        "starting the embedded broker for --local",
        "this program was built without it",
        "build it in with: cargo run --release --features local-broker -- --local (or scripts/demo.sh)",
    ))
}
