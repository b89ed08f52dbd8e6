//! The way to a broker elsewhere: endpoint, TLS, user name and passwords.
//!
//! Decides which settings go together. Opens no certificate or key: their paths go on to `tls.rs`.
//! Password files are read through `files.rs`. Runs on the main thread.

use std::ffi::OsString;

use super::files;
use super::sources::{Layers, Source, Surroundings};
use super::values::{FilePath, wrong};
use crate::app::names::Names;
use crate::app::settings::Settings;
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::{Credentials, IdentityFiles, Options, Security, TlsOptions};

/// Port of MQTT over TLS.
const PORT_TLS: u16 = 8883;
/// Port of plain MQTT.
const PORT_PLAIN: u16 = 1883;
/// Password for `--username`, in the environment.
pub(super) const PASSWORD: &str = "MQTT_PASSWORD";
/// Password of the `--pkcs12` archive, in the environment.
pub(super) const PKCS12_PASSWORD: &str = "MQTT_PKCS12_PASSWORD";

/// Things that become known beside the options.
pub(super) struct Remarks<'a> {
    pub(super) notices: &'a mut Vec<String>,
    pub(super) names: &'a mut Names,
}

/// Host, port, security and credentials of a broker elsewhere.
pub(super) fn options(
    layers: &Layers,
    settings: &Settings,
    client_id: String,
    surroundings: &Surroundings<'_>,
    remarks: Remarks<'_>,
) -> Result<Options, Error> {
    let Some(endpoint) = &settings.endpoint else {
        return Err(wrong(
            "looking for the broker",
            "no endpoint is given",
            "give --endpoint HOST[:PORT], or use --local for an embedded broker",
        ));
    };
    let endpoint = &endpoint.value;
    let Remarks { notices, names } = remarks;
    let mut options = Options::new(&endpoint.host, client_id);
    options.port = layers
        .port()?
        .unwrap_or(if endpoint.plain { PORT_PLAIN } else { PORT_TLS });
    options.security = if endpoint.plain {
        no_tls_settings(layers)?;
        Security::Plain
    } else {
        Security::Tls(tls(layers, settings, surroundings, names)?)
    };
    options.credentials = credentials(layers, settings, surroundings, names)?;
    if endpoint.plain && options.credentials.is_some() {
        notices.push("without TLS, user name and password can be read on the way".into());
    }
    if settings.pkcs12.is_none() && secret_variable(PKCS12_PASSWORD, surroundings)?.is_some() {
        notices.push(format!(
            "{PKCS12_PASSWORD} is not used: there is no --pkcs12"
        ));
    }
    if options.is_aws_iot() {
        notices.extend(aws_notice(&options).map(str::to_owned));
    }
    Ok(options)
}

/// `mqtt://` and a setting for TLS contradict each other: one of them is a slip, and guessing which
/// could send secrets in the clear.
fn no_tls_settings(layers: &Layers) -> Result<(), Error> {
    const TLS_ONLY: [&str; 7] = [
        "cert",
        "key",
        "ca-file",
        "pkcs12",
        "pkcs12-password-file",
        "alpn",
        "tls-server-name",
    ];
    for key in TLS_ONLY {
        if layers.giving(key).is_some() {
            let name = layers.name(key);
            return Err(wrong(
                "choosing between TLS and plain TCP",
                format!("the endpoint says mqtt://, which is without TLS, but {name} is for TLS"),
                "write mqtts:// in the endpoint, or leave the TLS settings out",
            ));
        }
    }
    Ok(())
}

fn tls(
    layers: &Layers,
    settings: &Settings,
    surroundings: &Surroundings<'_>,
    names: &mut Names,
) -> Result<TlsOptions, Error> {
    let name = |key: &str| layers.name(key);
    let refuse = |problem: String, advice: &str| {
        Err(wrong("choosing the client certificate", problem, advice))
    };
    let identity = match (&settings.cert, &settings.key, &settings.pkcs12) {
        (None, None, None) => None,
        (Some(cert), Some(key), None) => Some(IdentityFiles::Pem {
            cert: layers.path("cert", &cert.value),
            key: layers.path("key", &key.value),
        }),
        (None, None, Some(file)) => Some(IdentityFiles::Pkcs12 {
            file: layers.path("pkcs12", &file.value),
            password: secret(
                layers,
                "pkcs12-password-file",
                PKCS12_PASSWORD,
                surroundings,
            )?
            .map_or_else(String::new, |(password, name)| {
                names.insert("pkcs12-password-file", name);
                password
            }),
        }),
        (cert, _, Some(_)) => {
            let pem = name(if cert.is_some() { "cert" } else { "key" });
            return refuse(
                format!("both {} and {pem} are given", name("pkcs12")),
                "give the archive, or certificate and key",
            );
        }
        (Some(_), None, None) => {
            return refuse(
                format!("{} is given without its private key", name("cert")),
                "add --key FILE",
            );
        }
        (None, Some(_), None) => {
            return refuse(
                format!("{} is given without its certificate", name("key")),
                "add --cert FILE",
            );
        }
    };
    if settings.pkcs12_password_file.is_some() && settings.pkcs12.is_none() {
        return refuse(
            format!(
                "{} is given without an archive",
                name("pkcs12-password-file")
            ),
            "add --pkcs12 FILE, or leave it out",
        );
    }
    let ca_file = settings.ca_file.as_ref();
    let alpn = settings.alpn.iter().flatten();
    Ok(TlsOptions {
        ca_file: ca_file.map(|path| layers.path("ca-file", &path.value)),
        identity,
        alpn: alpn.map(|name| name.value.clone()).collect(),
        server_name: settings
            .tls_server_name
            .as_ref()
            .map(|name| name.value.clone()),
    })
}

fn credentials(
    layers: &Layers,
    settings: &Settings,
    surroundings: &Surroundings<'_>,
    names: &mut Names,
) -> Result<Option<Credentials>, Error> {
    let password = secret(layers, "password-file", PASSWORD, surroundings)?;
    let username = settings.username.as_ref().map(|name| name.value.clone());
    match (username, password) {
        (None, None) => Ok(None),
        (None, Some((_, name))) => Err(wrong(
            "preparing user name and password",
            format!("{name} is given without a user name"),
            "add --username NAME, or leave the password out",
        )),
        (Some(username), password) => Ok(Some(Credentials {
            username,
            password: password.map_or_else(String::new, |(password, name)| {
                names.insert("password-file", name);
                password
            }),
        })),
    }
}

/// A password and where it was given: a file, or directly in the environment, which ranks with the
/// other variables: below the command line and above the settings file.
fn secret(
    layers: &Layers,
    key: &str,
    variable: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Option<(String, String)>, Error> {
    let direct = secret_variable(variable, surroundings)?;
    for layer in &layers.0 {
        let given = layer.value::<FilePath>(key);
        let name = layer.source.name(key);
        match (&given, &direct) {
            (Some(_), Some(_)) if layer.source == Source::Environment => {
                return Err(wrong(
                    "looking for a password",
                    format!("both {variable} and {name} are set"),
                    "unset one of them",
                ));
            }
            (Some(given), _) => {
                let folder = layer.source.folder();
                let path = folder.join(given);
                return Ok(Some((files::read_password(&path, &name, folder)?, name)));
            }
            (None, Some(password)) if layer.source == Source::Environment => {
                return Ok(Some((password.clone(), variable.to_owned())));
            }
            (None, _) => {}
        }
    }
    Ok(None)
}

/// A password in the environment; an empty one counts as not set.
pub(super) fn secret_variable(
    name: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Option<String>, Error> {
    (surroundings.variable)(name)
        .filter(|text| !text.is_empty())
        .map(OsString::into_string)
        .transpose()
        .map_err(|_| wrong(format!("reading {name}"), "it is not UTF-8", "set it anew"))
}

/// A slip that AWS IoT answers by closing the connection without a reason.
fn aws_notice(options: &Options) -> Option<&'static str> {
    let Security::Tls(tls) = &options.security else {
        return Some("AWS IoT accepts no connection without TLS");
    };
    if tls.identity.is_none() && options.credentials.is_none() {
        return Some("AWS IoT asks for a client certificate: give --cert and --key");
    }
    if options.port == 443 && tls.alpn.is_empty() {
        return Some(match tls.identity {
            Some(_) => "AWS IoT asks for --alpn x-amzn-mqtt-ca on port 443",
            None => "AWS IoT asks for --alpn mqtt where it is told a user name on port 443",
        });
    }
    None
}
