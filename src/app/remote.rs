//! The way to a broker elsewhere: endpoint, TLS, user name and passwords.
//!
//! Decides which settings go together. Opens no certificate or key: their paths go on to `tls.rs`.
//! Password files are read through `files.rs`. Runs on the main thread.

use std::path::Path;

use super::chosen::Chosen;
use super::files;
use super::sources::Source;
use super::surroundings::Surroundings;
use super::values::{FilePath, Given, wrong};
use crate::app::names::Names;
use crate::app::settings::Settings;
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::{
    Credentials, Identity, Options, Secret, Security, TlsOptions,
};

/// Port of MQTT over TLS.
const PORT_TLS: u16 = 8883;
/// Port of plain MQTT.
const PORT_PLAIN: u16 = 1883;
/// Password for `--username`, in the environment.
pub(super) const PASSWORD: &str = "MQTT_PASSWORD";
/// Password of the `--pkcs12` archive, in the environment.
pub(super) const PKCS12_PASSWORD: &str = "MQTT_PKCS12_PASSWORD";

/// Settings that only TLS has a use for.
pub(super) const TLS_ONLY: [&str; 7] = [
    "cert",
    "key",
    "ca-file",
    "pkcs12",
    "pkcs12-password-file",
    "alpn",
    "tls-server-name",
];

/// Things that become known beside the options.
pub(super) struct Remarks<'a> {
    pub(super) notices: &'a mut Vec<String>,
    pub(super) names: &'a mut Names,
}

/// Host, port, security and credentials of a broker elsewhere.
pub(super) fn options(
    chosen: &Chosen,
    settings: &Settings,
    client_id: String,
    surroundings: &Surroundings,
    remarks: Remarks<'_>,
) -> Result<Options, Error> {
    let Some(endpoint) = &settings.endpoint else {
        let mut near = surroundings.nearly_settings();
        let problem = match near.find(|(_, key)| key == "endpoint") {
            Some((name, _)) => {
                format!("no endpoint is given: {name} is no setting, MQTT_ENDPOINT is")
            }
            None => "no endpoint is given".to_owned(),
        };
        return Err(wrong(
            "looking for the broker",
            problem,
            "give --endpoint HOST[:PORT], or use --local for an embedded broker",
        ));
    };
    let endpoint = &endpoint.value;
    let Remarks { notices, names } = remarks;
    let mut options = Options::new(&endpoint.host, client_id);
    options.port = port(chosen, settings)?.unwrap_or(match endpoint.plain {
        true => PORT_PLAIN,
        false => PORT_TLS,
    });
    options.security = if endpoint.plain {
        no_tls_settings(chosen)?;
        Security::Plain
    } else {
        Security::Tls(tls(chosen, settings, surroundings, names)?)
    };
    options.credentials = credentials(chosen, settings, surroundings, names)?;
    if endpoint.plain && options.credentials.is_some() {
        notices.push(
            "without TLS, user name and password can be read on the way: use mqtts:// if the broker has it"
                .into(),
        );
    }
    if settings.pkcs12.is_none() && surroundings.variable(PKCS12_PASSWORD).is_some() {
        notices.push(format!(
            "{PKCS12_PASSWORD} is not used: there is no --pkcs12"
        ));
    }
    if options.is_aws_iot() {
        notices.extend(aws_notice(&options).map(str::to_owned));
    }
    Ok(options)
}

/// The port, if one is given. `Chosen::settle_port` has left out one that a stronger endpoint replaces.
fn port(chosen: &Chosen, settings: &Settings) -> Result<Option<u16>, Error> {
    let alone = settings.port.as_ref().map(|port| port.value);
    let within = settings.endpoint.as_ref().and_then(|it| it.value.port);
    if let (Some(alone), Some(within)) = (alone, within)
        && alone != within
        && chosen.source("port") == chosen.source("endpoint")
    {
        let (port, endpoint) = (chosen.name("port"), chosen.name("endpoint"));
        return Err(wrong(
            "choosing the port",
            format!("{endpoint} says {within}, {port} says {alone}"),
            "give one of them",
        ));
    }
    Ok(alone.or(within))
}

/// A password directly in the environment ranks with the other variables: it replaces that of a settings
/// file, and that of a flag replaces it.
pub(super) fn settle_password_file(
    chosen: &mut Chosen,
    surroundings: &Surroundings,
) -> Result<(), Error> {
    for (key, variable) in [
        ("password-file", PASSWORD),
        ("pkcs12-password-file", PKCS12_PASSWORD),
    ] {
        let Some(source) = chosen.source(key) else {
            continue;
        };
        if surroundings.variable(variable).is_none() || *source < Source::Environment {
            continue;
        }
        if *source == Source::Environment {
            let name = chosen.name(key);
            return Err(wrong(
                "looking for a password",
                format!("both {variable} and {name} are set"),
                "unset one of them",
            ));
        }
        chosen.leave_out(key);
    }
    Ok(())
}

/// `mqtt://` and a setting for TLS that is as strong contradict each other: one of them is a slip, and guessing
/// which could send secrets in the clear. `unused.rs` has left out the others.
fn no_tls_settings(chosen: &Chosen) -> Result<(), Error> {
    for key in TLS_ONLY {
        if chosen.source(key).is_some() {
            let name = chosen.name(key);
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
    chosen: &Chosen,
    settings: &Settings,
    surroundings: &Surroundings,
    names: &mut Names,
) -> Result<TlsOptions, Error> {
    let name = |key: &str| chosen.name(key);
    let refuse = |problem: String, advice: &str| {
        Err(wrong("choosing the client certificate", problem, advice))
    };
    let identity = match (&settings.cert, &settings.key, &settings.pkcs12) {
        (None, None, None) => None,
        (Some(cert), Some(key), None) => Some(Identity::pem(
            chosen.path("cert", &cert.value),
            chosen.path("key", &key.value),
        )),
        (None, None, Some(file)) => Some(Identity::Pkcs12 {
            archive: chosen.path("pkcs12", &file.value).into(),
            password: secret(
                chosen,
                "pkcs12-password-file",
                path(&settings.pkcs12_password_file),
                PKCS12_PASSWORD,
                surroundings,
            )?
            .map_or_else(Secret::default, |(password, name)| {
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
    let server_name = settings.tls_server_name.as_ref();
    let mut tls = TlsOptions::default();
    tls.ca = ca_file.map(|path| chosen.path("ca-file", &path.value).into());
    tls.identity = identity;
    tls.alpn = alpn.map(|name| name.value.clone()).collect();
    tls.server_name = server_name.map(|name| name.value.clone());
    Ok(tls)
}

fn path(given: &Option<Given<FilePath>>) -> Option<&Path> {
    given.as_ref().map(|given| given.value.as_path())
}

fn credentials(
    chosen: &Chosen,
    settings: &Settings,
    surroundings: &Surroundings,
    names: &mut Names,
) -> Result<Option<Credentials>, Error> {
    let file = path(&settings.password_file);
    let Some(username) = &settings.username else {
        return match file {
            None => Ok(None),
            Some(_) => Err(wrong(
                "preparing user name and password",
                format!(
                    "{} is given without a user name",
                    chosen.name("password-file")
                ),
                "add --username NAME, or leave the password out",
            )),
        };
    };
    let password = secret(chosen, "password-file", file, PASSWORD, surroundings)?;
    Ok(Some(Credentials {
        username: username.value.clone(),
        password: password.map_or_else(Secret::default, |(password, name)| {
            names.insert("password-file", name);
            password
        }),
    }))
}

/// A password and where it was given: directly in the environment, or in a file.
fn secret(
    chosen: &Chosen,
    key: &str,
    file: Option<&Path>,
    variable: &str,
    surroundings: &Surroundings,
) -> Result<Option<(Secret, String)>, Error> {
    let Some(file) = file else {
        let direct = surroundings.password(variable)?;
        return Ok(direct.map(|password| (password, variable.to_owned())));
    };
    let name = chosen.name(key);
    let folder = chosen.source(key).map(Source::folder);
    let folder = folder.unwrap_or(Path::new(""));
    let password = files::read_password(&folder.join(file), &name, folder)?;
    Ok(Some((password, name)))
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
