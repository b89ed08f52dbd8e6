//! How the examples find their broker: the first argument, or MQTT_ENDPOINT, is `HOST[:PORT]` with TLS or
//! `mqtt://HOST[:PORT]` without. MQTT_CA_FILE, MQTT_CERT and MQTT_KEY name the files for TLS.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use mqtt_connection_sharing::options::{Identity, Options, Security, TlsOptions};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Runs an example with options for this broker. Prints an error as people read it; the exit status is 1 then.
pub fn run(client_id: &str, example: impl FnOnce(Options) -> Result<()>) -> ExitCode {
    match options(client_id).and_then(example) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Programs that run at the same time need different identifiers.
fn options(client_id: &str) -> Result<Options> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let file = |name| variable(name).map(PathBuf::from);
    let endpoint = env::args().nth(1).or_else(|| variable("MQTT_ENDPOINT"));
    let endpoint = endpoint.ok_or("no broker: give HOST[:PORT] or set MQTT_ENDPOINT")?;
    let plain = endpoint.strip_prefix("mqtt://");
    let address = plain.unwrap_or(&endpoint);
    let standard = if plain.is_some() { "1883" } else { "8883" };
    let (host, port) = address.rsplit_once(':').unwrap_or((address, standard));
    let mut options = Options::new(host, client_id);
    options.port = port.parse()?;
    options.security = Security::Plain;
    if plain.is_none() {
        let mut tls = TlsOptions::default();
        tls.ca = file("MQTT_CA_FILE").map(Into::into);
        let files = file("MQTT_CERT").zip(file("MQTT_KEY"));
        tls.identity = files.map(|(cert, key)| Identity::pem(cert, key));
        options.security = Security::Tls(tls);
    }
    Ok(options)
}
