//! A broker for the examples, with a proxy in front of it: the embedded one where it is compiled in, else a Mosquitto.

// Clippy knows tests by their attribute only, but this is test code all the same.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use mqtt_connection_sharing::options::Options;

#[cfg(feature = "local-broker")]
pub(super) use embedded::Place;
#[cfg(not(feature = "local-broker"))]
pub(super) use mosquitto::Place;

/// The variables of the examples for such a broker.
pub(super) type Variables = [(&'static str, String); 4];

fn variables(port: u16, ca: &Path, cert: &Path, key: &Path) -> Variables {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    [
        ("MQTT_ENDPOINT", format!("localhost:{port}")),
        ("MQTT_CA_FILE", path(ca)),
        ("MQTT_CERT", path(cert)),
        ("MQTT_KEY", path(key)),
    ]
}

#[cfg(feature = "local-broker")]
mod embedded {
    use mqtt_connection_sharing::local::{Fate, LocalBroker};

    use super::{Options, Variables, variables};

    pub(crate) struct Place(LocalBroker);

    impl Place {
        pub(crate) fn start() -> Place {
            Place(LocalBroker::start().unwrap())
        }

        pub(crate) fn options(&self, client_id: &str) -> Options {
            self.0.options(client_id)
        }

        pub(crate) fn variables(&self) -> Variables {
            let [ca, cert, key] = [self.0.ca_file(), self.0.cert(), self.0.key()];
            variables(self.0.port(), ca.unwrap(), cert.unwrap(), key.unwrap())
        }

        /// The next links are cut after so many bytes.
        pub(crate) fn cut_after(&self, bytes: Vec<u64>) {
            let fates = bytes.into_iter().map(Fate::cut_after);
            self.0.proxy().decide(fates).unwrap();
        }

        pub(crate) fn cuts(&self) -> u64 {
            self.0.proxy().counts().cuts()
        }
    }
}

#[cfg(not(feature = "local-broker"))]
mod mosquitto {
    use std::time::Duration;

    use super::{Options, Variables, variables};
    use crate::support::running::security;
    use crate::support::{Fate, Mosquitto, Proxy};

    pub(crate) struct Place {
        broker: Mosquitto,
        proxy: Proxy,
    }

    impl Place {
        pub(crate) fn start() -> Place {
            let broker = Mosquitto::start_fast();
            let proxy = Proxy::start(broker.port()).unwrap();
            Place { broker, proxy }
        }

        pub(crate) fn options(&self, client_id: &str) -> Options {
            let mut options = Options::new("localhost", client_id);
            options.port = self.proxy.port();
            options.security = security(self.broker.certs());
            options.connect_interval = Duration::ZERO;
            options.retry.base = Duration::from_millis(10);
            options
        }

        pub(crate) fn variables(&self) -> Variables {
            let certs = self.broker.certs();
            let client = certs.client();
            variables(self.broker.port(), certs.ca(), &client.cert, &client.key)
        }

        /// The next links are cut after so many bytes.
        pub(crate) fn cut_after(&self, bytes: Vec<u64>) {
            let fates = bytes.into_iter().map(Fate::cut_after);
            self.proxy.decide(fates).unwrap();
        }

        pub(crate) fn cuts(&self) -> u64 {
            self.proxy.counts().cuts()
        }
    }
}
