//! The embedded broker of `--local`: an MQTT broker inside this process, with certificates made at
//! its start, so that the demo runs without anything installed or configured.
//!
//! It listens on 127.0.0.1 only, on a port that the system chooses, over TLS only, and accepts no
//! client without a certificate of its own authority. It keeps everything in memory or in a
//! private temporary folder, which is removed with it. It must never open a plain listener and never
//! write into the working directory; the defaults of the crate `mqtt5` do both.
//!
//! It runs on a worker thread of its own, `local-broker`. The rest of the program reaches it only
//! through the socket, like any other broker. It speaks ALPN `mqtt` or none: a client that offers
//! only other protocol names fails in the handshake.
//!
//! Compiled with the cargo feature `local-broker`.

mod files;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use mqtt5::broker::config::{
    AuthConfig, BrokerConfig, RateLimitConfig, StorageBackend, StorageConfig, TlsConfig,
};
use mqtt5::broker::server::MqttBroker;
use tokio::runtime::Runtime;

use files::Files;

use crate::error::{Blame, Error};

/// Name of the broker's thread.
const THREAD_NAME: &str = "local-broker";

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

/// A running broker. It stops, and its folder is removed, when this is dropped.
#[derive(Debug)]
pub struct LocalBroker {
    // `drop` takes it out. It must end before the folder goes, so it comes first.
    runtime: Option<Runtime>,
    port: u16,
    files: Files,
}

impl LocalBroker {
    /// Makes the certificates and starts the broker. It accepts connections when this returns.
    ///
    /// # Errors
    /// [`Blame::Configuration`] if the temporary folder, the certificates, the thread or the
    /// listening socket cannot be made.
    ///
    /// # Panics
    /// When called from inside an async runtime, which must not be blocked.
    pub fn start() -> Result<LocalBroker, Error> {
        let files = Files::create()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(THREAD_NAME)
            .enable_all()
            .build()
            .map_err(|error| failed("starting the local broker's thread", &error))?;
        let port = runtime.block_on(serve(settings(&files)))?;
        log::debug!("local broker on 127.0.0.1:{port}");
        Ok(LocalBroker {
            runtime: Some(runtime),
            port,
            files,
        })
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// PEM file with the certificate authority that signed the broker's certificate, which is
    /// valid for `localhost` and `127.0.0.1`.
    pub fn ca_file(&self) -> &Path {
        &self.files.ca
    }

    /// PEM file with the client's certificate.
    pub fn cert(&self) -> &Path {
        &self.files.cert
    }

    /// PEM file with the client's private key (PKCS#8).
    pub fn key(&self) -> &Path {
        &self.files.key
    }
}

impl Drop for LocalBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(SHUTDOWN_TIME);
        }
    }
}

/// Binds the broker, leaves it running on the runtime's worker and returns its port.
async fn serve(config: BrokerConfig) -> Result<u16, Error> {
    const TRIED: &str = "starting the local broker";
    let mut broker = MqttBroker::with_config(config)
        .await
        .map_err(|error| failed(TRIED, &error))?;
    let Some(address) = broker.tls_local_addr() else {
        return Err(failed(TRIED, &"it has no listening socket"));
    };
    let mut ready = broker.ready_receiver();
    let running = tokio::spawn(async move { broker.run().await });
    if ready.wait_for(|ready| *ready).await.is_ok() {
        return Ok(address.port());
    }
    // `run` dropped the sender before it reported that the broker is ready, so it has ended.
    Err(match running.await {
        Ok(Ok(())) => failed(TRIED, &"it stopped at once"),
        Ok(Err(error)) => failed(TRIED, &error),
        Err(error) => failed(TRIED, &error),
    })
}

/// The settings that differ from the defaults of `mqtt5`, each for a reason.
fn settings(files: &Files) -> BrokerConfig {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let tls = TlsConfig::new(files.server_cert.clone(), files.server_key.clone())
        .with_ca_file(files.ca.clone())
        .with_require_client_cert(true)
        .with_bind_address(any_port);
    // Persistence in memory keeps a session, and messages for it, while its client is away. This backend
    // does not use the folder; it is named so that no default path remains.
    let storage = StorageConfig::new()
        .with_backend(StorageBackend::Memory)
        .with_persistence(true)
        .with_base_dir(files.folder.path().join("storage"))
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
        // No plain listener at all; the default is port 1883 on every address.
        .with_bind_addresses(Vec::new())
        .with_tls(tls)
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
    config
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
    use std::io::{self, Read, Write};
    use std::net::TcpStream;

    const HANG: Duration = Duration::from_secs(30);

    /// A client that sends and expects bytes.
    struct Client(TlsStream<TcpStream>);

    impl Client {
        /// The TLS connection, with the client's certificate or without one.
        fn dial(broker: &LocalBroker, with_certificate: bool) -> io::Result<Client> {
            let pem = |file: &Path| std::fs::read(file).unwrap();
            let mut builder = TlsConnector::builder();
            builder
                .disable_built_in_roots(true)
                .add_root_certificate(Certificate::from_pem(&pem(broker.ca_file())).unwrap());
            if with_certificate {
                let identity = Identity::from_pkcs8(&pem(broker.cert()), &pem(broker.key()));
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
        let folder = broker.ca_file().parent().unwrap().to_owned();
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
