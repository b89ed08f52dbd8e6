//! The embedded broker: an MQTT broker inside this process, for the program's `--local` and for tests of applications.
//! Nothing has to be installed or configured.
//!
//! A test starts a [`LocalBroker`], makes a client of its [`options`](LocalBroker::options), and lets the links fail by its
//! [`proxy`](LocalBroker::proxy):
//!
//! ```
//! use mqtt_connection_sharing::local::LocalBroker;
//! use mqtt_connection_sharing::{Client, Publish, QoS};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = LocalBroker::start()?;
//! let client = Client::new(broker.options("me"))?;
//! let (agent, handle) = client.open();
//!
//! let running = std::thread::spawn(move || agent.run());
//! handle.publish(Publish::new("a", QoS::AtLeastOnce, "before"))?.wait().into_result()?;
//! broker.proxy().cut_all()?;
//! // The loop connects again.
//! handle.publish(Publish::new("a", QoS::AtLeastOnce, "behind"))?.wait().into_result()?;
//! drop(handle);
//! let ended = running.join().map_err(|_| "a panic")?;
//! ended.result?;
//! assert_eq!(ended.stats.reconnects, 1);
//! # Ok(())
//! # }
//! ```
//!
//! The broker listens on 127.0.0.1 only, on a port that the system chooses. [`LocalBroker::start`] makes certificates,
//! listens over TLS only, and accepts no client without a certificate of its own authority.
//! [`LocalBroker::start_plain`] listens without TLS instead. Everything is kept in memory or in a private temporary
//! folder, which is removed with the broker. It must never open a plain listener unasked, never listen on another
//! address, and never write into the working directory; the defaults of the crate `mqtt5` do all three.
//!
//! It runs on a worker thread of its own, `local-broker`, and the proxy on another one. The rest of the process
//! reaches it only through the socket, like any other broker. It speaks ALPN `mqtt` or none: a client that offers
//! only other protocol names fails in the handshake.
//!
//! A test may see that it differs from other brokers:
//!
//! - With MQTT 5 it adds the user property `x-mqtt-client-id` to each message, behind those of the publisher.
//! - It never says that nobody has subscribed to a topic (reason code 0x10). A request that nobody answers ends as
//!   `NoResponse::TimedOut`, and with Mosquitto at once as `NoResponse::NoSubscribers`.
//! - It sends a message once for each filter that matches, with MQTT 3.1.1 as well.
//!
//! Compiled with the cargo feature `local-broker`, some 110 crates. An application names it in its
//! `[dev-dependencies]`.

mod fate;
mod files;
mod proxy;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use mqtt5::broker::config::{
    AuthConfig, BrokerConfig, RateLimitConfig, StorageBackend, StorageConfig, TlsConfig,
};
use mqtt5::broker::server::MqttBroker;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use files::{Files, private_folder};

pub use fate::{Counting, Fate};
pub use proxy::{LinkCounts, Proxy};

use crate::error::{Blame, Error};
use crate::options::{Identity, Options, Security, TlsOptions};

/// Name of the broker's thread.
const THREAD_NAME: &str = "local-broker";

const STARTING: &str = "starting the local broker";

/// How long dropping the broker waits for its thread.
const SHUTDOWN_TIME: Duration = Duration::from_secs(2);

/// The broker's window: messages that it may have sent to one client without an acknowledgment. It equals
/// the client's default `max_inflight`, so that both directions have the same room.
const OUTBOUND_WINDOW: u16 = 100;

/// Messages that may be on their way to one client's connection. Beyond this number the broker drops
/// QoS 0 messages.
const DELIVERY_LANE: usize = 200_000;

/// Bytes that may wait for one client. Beyond this number the broker drops the oldest messages, although
/// it has acknowledged them to their publisher. It is far more than a demo run can leave behind.
const QUEUED_BYTES: usize = 1024 * 1024 * 1024;

/// A running broker with a [`Proxy`] in front of it. Both stop, and the folder is removed, when this is dropped.
#[derive(Debug)]
pub struct LocalBroker {
    // `drop` takes it out. It must end before the folder goes, so it comes first.
    runtime: Option<Runtime>,
    port: u16,
    proxy: Proxy,
    /// `None` without TLS.
    files: Option<Files>,
    /// Removed with the value.
    _folder: TempDir,
}

impl LocalBroker {
    /// Makes the certificates and starts the broker, over TLS only. It accepts connections when this returns.
    ///
    /// # Errors
    /// [`Blame::Configuration`] if the temporary folder, the certificates, the threads or the
    /// listening sockets cannot be made.
    pub fn start() -> Result<LocalBroker, Error> {
        let folder = private_folder()?;
        let files = Files::create(folder.path())?;
        LocalBroker::start_with(folder, Some(files))
    }

    /// Starts the broker without TLS and without certificates. Every program of this machine can reach it.
    ///
    /// # Errors
    /// [`Blame::Configuration`] if the temporary folder, the threads or the listening sockets cannot be made.
    pub fn start_plain() -> Result<LocalBroker, Error> {
        LocalBroker::start_with(private_folder()?, None)
    }

    fn start_with(folder: TempDir, files: Option<Files>) -> Result<LocalBroker, Error> {
        let settings = settings(folder.path(), files.as_ref());
        let (runtime, port, proxy) = beside(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name(THREAD_NAME)
                .enable_all()
                .build()
                .map_err(|error| failed(STARTING, &error))?;
            let port = runtime.block_on(serve(settings))?;
            Ok((runtime, port, Proxy::start(port)?))
        })
        .unwrap_or_else(|error| Err(failed(STARTING, &error)))?;
        log::debug!("local broker on 127.0.0.1:{port}");
        Ok(LocalBroker {
            runtime: Some(runtime),
            port,
            proxy,
            files,
            _folder: folder,
        })
    }

    /// Options for a client in a test. The client reaches the broker through the [`proxy`](LocalBroker::proxy) and has the
    /// certificates, if there are any. Clients that run at the same time need different identifiers.
    ///
    /// The waits are short, so that a test need not wait for a fault to be noticed:
    ///
    /// | option | value | so that |
    /// |---|---|---|
    /// | `connect_interval`, `retry.base`, `retry.max` | 0, 10 ms, 100 ms | a link that was cut is back at once |
    /// | `ack_timeout` | 1 s | a stalled link with something in flight is given up within about 2 s |
    /// | `keep_alive` | 2 s | a stalled link with nothing in flight is given up within a few seconds |
    /// | `connect_timeout` | 3 s | so is one that stalls in the handshake |
    /// | `unmatched_hold` | 500 ms | messages that nobody subscribed to soon reach the default inbox |
    ///
    /// Everything else is at its default. So the session survives the links, and the loop ends with an error if it cannot
    /// connect for 10 s at its start, or for 60 s later.
    pub fn options(&self, client_id: impl Into<String>) -> Options {
        let mut options = Options::new(Ipv4Addr::LOCALHOST.to_string(), client_id);
        options.port = self.proxy.port();
        options.security = self.security();
        options.connect_interval = Duration::ZERO;
        options.retry.base = Duration::from_millis(10);
        options.retry.max = Duration::from_millis(100);
        options.ack_timeout = Duration::from_secs(1);
        options.keep_alive = Duration::from_secs(2);
        options.connect_timeout = Duration::from_secs(3);
        options.unmatched_hold = Duration::from_millis(500);
        options
    }

    /// The security of a client: TLS with the certificates, or none.
    pub fn security(&self) -> Security {
        let Some(files) = &self.files else {
            return Security::Plain;
        };
        Security::Tls(TlsOptions {
            ca: Some(files.ca.as_path().into()),
            identity: Some(Identity::pem(files.cert.as_path(), files.key.as_path())),
            ..TlsOptions::default()
        })
    }

    /// The proxy that clients with these [`options`](LocalBroker::options) go through: it cuts, stalls and refuses their
    /// links.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The broker's own TCP port on 127.0.0.1, for a client whose links the proxy must not touch.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// PEM file with the certificate authority that signed the broker's certificate, which is
    /// valid for `localhost` and `127.0.0.1`. `None` without TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.files.as_ref().map(|files| &*files.ca)
    }

    /// PEM file with the client's certificate. `None` without TLS.
    pub fn cert(&self) -> Option<&Path> {
        self.files.as_ref().map(|files| &*files.cert)
    }

    /// PEM file with the client's private key (PKCS#8). `None` without TLS.
    pub fn key(&self) -> Option<&Path> {
        self.files.as_ref().map(|files| &*files.key)
    }
}

impl Drop for LocalBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // If the system has no thread for it, this thread drops the runtime.
            let _ = beside(|| runtime.shutdown_timeout(SHUTDOWN_TIME));
        }
    }
}

/// Runs this on a thread of its own and waits for it. A thread that runs a task of an async program may wait for
/// nothing inside tokio.
fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned());
        let ended = thread.spawn_scoped(scope, work)?.join();
        ended.map_err(|_| io::Error::other("its thread panicked"))
    })
}

/// Binds the broker, leaves it running on the runtime's worker and returns its port.
async fn serve(config: BrokerConfig) -> Result<u16, Error> {
    let mut broker = MqttBroker::with_config(config)
        .await
        .map_err(|error| failed(STARTING, &error))?;
    let Some(address) = broker.tls_local_addr().or(broker.local_addr()) else {
        return Err(failed(STARTING, &"it has no listening socket"));
    };
    let mut ready = broker.ready_receiver();
    let running = tokio::spawn(async move { broker.run().await });
    if ready.wait_for(|ready| *ready).await.is_ok() {
        return Ok(address.port());
    }
    // `run` dropped the sender before it reported that the broker is ready, so it has ended.
    Err(match running.await {
        Ok(Ok(())) => failed(STARTING, &"it stopped at once"),
        Ok(Err(error)) => failed(STARTING, &error),
        Err(error) => failed(STARTING, &error),
    })
}

/// The settings that differ from the defaults of `mqtt5`, each for a reason.
fn settings(folder: &Path, files: Option<&Files>) -> BrokerConfig {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    // Persistence in memory keeps a session, and messages for it, while its client is away. This backend
    // does not use the folder; it is named so that no default path remains.
    let storage = StorageConfig::new()
        .with_backend(StorageBackend::Memory)
        .with_persistence(true)
        .with_base_dir(folder.join("storage"))
        .with_max_queued_messages_per_client(usize::MAX)
        .with_max_queued_bytes_per_client(QUEUED_BYTES);
    // The certificate is the authentication. The limit on failed attempts would lock out 127.0.0.1, and
    // every client comes from there.
    let auth = AuthConfig {
        allow_anonymous: true,
        rate_limit: RateLimitConfig {
            enabled: false,
            ..RateLimitConfig::default()
        },
        ..AuthConfig::default()
    };
    let mut config = BrokerConfig::new()
        .with_storage(storage)
        .with_auth(auth)
        // A subscriber to `#` must not see messages that nobody published.
        .with_sys_topics_enabled(false)
        .with_max_outbound_inflight(OUTBOUND_WINDOW)
        .with_client_channel_capacity(DELIVERY_LANE);
    // No limit on rates: the broker would acknowledge a message above it and then drop it.
    config.max_message_rate_per_client = 0;
    config.max_bandwidth_per_client = 0;
    config.max_outbound_rate_per_client = 0;
    let Some(files) = files else {
        return config.with_bind_addresses(vec![any_port]);
    };
    let tls = TlsConfig::new(files.server_cert.clone(), files.server_key.clone())
        .with_ca_file(files.ca.clone())
        .with_require_client_cert(true)
        .with_bind_address(any_port);
    // No plain listener at all; the default is port 1883 on every address.
    config.with_bind_addresses(Vec::new()).with_tls(tls)
}

fn failed(tried: &str, problem: &dyn std::fmt::Display) -> Error {
    Error::new(
        Blame::Configuration,
        tried,
        problem.to_string(),
        "check that the temporary folder (TMPDIR) is writable and 127.0.0.1 is up, or give `host`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use native_tls::{Certificate, Identity, TlsConnector, TlsStream};
    use std::collections::BTreeSet;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    const HANG: Duration = Duration::from_secs(30);

    /// A client that sends and expects bytes.
    struct Client(TlsStream<TcpStream>);

    impl Client {
        /// The TLS connection, with the client's certificate or without one.
        fn dial(broker: &LocalBroker, with_certificate: bool) -> io::Result<Client> {
            let pem = |file: &Path| std::fs::read(file).unwrap();
            let mut builder = TlsConnector::builder();
            builder.disable_built_in_roots(true).add_root_certificate(
                Certificate::from_pem(&pem(broker.ca_file().unwrap())).unwrap(),
            );
            if with_certificate {
                let identity =
                    Identity::from_pkcs8(&pem(broker.cert().unwrap()), &pem(broker.key().unwrap()));
                builder.identity(identity.unwrap());
            }
            let tcp = TcpStream::connect(("127.0.0.1", broker.port()))?;
            tcp.set_read_timeout(Some(HANG))?;
            tcp.set_nodelay(true)?;
            let connector = builder.build().unwrap();
            let tls = connector.connect("127.0.0.1", tcp);
            Ok(Client(tls.map_err(|e| io::Error::other(e.to_string()))?))
        }

        /// Sends CONNECT of MQTT 3.1.1 as client `me`, and expects this CONNACK.
        fn connect(broker: &LocalBroker, flags: u8, connack: [u8; 4]) -> Client {
            let mut client = Client::dial(broker, true).unwrap();
            client.send(&[
                0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 60, 0, 2, b'm', b'e',
            ]);
            client.expect(&connack);
            client
        }

        fn send(&mut self, bytes: &[u8]) {
            self.0.write_all(bytes).unwrap();
        }

        fn expect(&mut self, bytes: &[u8]) {
            let mut read = vec![0; bytes.len()];
            self.0.read_exact(&mut read).unwrap();
            assert_eq!(read, bytes);
        }
    }

    const CLEAN: u8 = 0x02;
    const KEEP: u8 = 0x00;
    const NEW_SESSION: [u8; 4] = [0x20, 2, 0, 0];
    const OLD_SESSION: [u8; 4] = [0x20, 2, 1, 0];

    #[test]
    fn a_client_with_its_certificate_is_accepted() {
        let broker = LocalBroker::start().unwrap();
        Client::connect(&broker, CLEAN, NEW_SESSION);
    }

    #[test]
    fn a_client_without_a_certificate_is_refused() {
        let broker = LocalBroker::start().unwrap();
        // With TLS 1.3 the client has completed its handshake before the broker refuses.
        let answered = Client::dial(&broker, false).and_then(|mut client| {
            client.0.write_all(&[
                0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 4, CLEAN, 0, 60, 0, 2, b'm', b'e',
            ])?;
            client.0.read_exact(&mut [0])
        });
        let error = answered.unwrap_err();
        assert!(
            !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
            "refused in silence: {error}"
        );
        Client::connect(&broker, CLEAN, NEW_SESSION);
    }

    #[test]
    fn a_session_and_its_unacknowledged_message_survive_a_lost_connection() {
        let broker = LocalBroker::start().unwrap();
        let mut client = Client::connect(&broker, KEEP, NEW_SESSION);
        client.send(&[0x82, 6, 0, 1, 0, 1, b'#', 1]);
        client.expect(&[0x90, 3, 0, 1, 1]);
        client.send(&[0x32, 6, 0, 1, b't', 0, 2, b'p']);
        // The acknowledgment and the message itself come in either order.
        let (ack, message) = ([0x40, 2, 0, 2], [0x32, 6, 0, 1, b't', 0, 1, b'p']);
        let mut first = [0];
        client.0.read_exact(&mut first).unwrap();
        if first[0] == ack[0] {
            client.expect(&ack[1..]);
            client.expect(&message);
        } else {
            client.expect(&message[1..]);
            client.expect(&ack);
        }
        drop(client);

        let mut client = Client::connect(&broker, KEEP, OLD_SESSION);
        client.expect(&[0x3a, 6, 0, 1, b't', 0, 1, b'p']);
        client.send(&[0x40, 2, 0, 1]);
        client.send(&[0xc0, 0]);
        client.expect(&[0xd0, 0]);
        drop(client);

        Client::connect(&broker, CLEAN, NEW_SESSION);
        Client::connect(&broker, KEEP, NEW_SESSION);
    }

    #[test]
    fn a_dropped_broker_leaves_nothing_behind() {
        let listing = || -> BTreeSet<_> {
            let entries = std::fs::read_dir(".").unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        let before = listing();
        let broker = LocalBroker::start().unwrap();
        Client::connect(&broker, KEEP, NEW_SESSION);
        let folder = broker.ca_file().unwrap().parent().unwrap().to_owned();
        let port = broker.port();
        assert!(folder.is_dir());
        drop(broker);
        assert!(!folder.exists());
        // While another test starts a process, that process may hold the listener for a moment.
        let deadline = std::time::Instant::now() + HANG;
        while TcpStream::connect(("127.0.0.1", port)).is_ok() {
            assert!(std::time::Instant::now() < deadline, "it still listens");
        }
        assert_eq!(listing(), before);
    }
}
