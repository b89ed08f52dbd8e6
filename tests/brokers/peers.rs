//! The brokers, each private to one test: on a free port of 127.0.0.1, in a temporary folder, ended with the value.
//! Each has the list of verdicts in which it differs from the standard, or says more than it has to.

use std::any::Any;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::mosquitto::free_port;
use crate::support::running::security;
use crate::support::{HANG, Mosquitto, wait_for};
use crate::verdicts::Verdict;
use mqtt_connection_sharing::options::{Options, Security};
use mqtt_connection_sharing::{Credentials, Protocol};

/// A topic that is the broker's own, for brokers that know which are.
pub const FORBIDDEN: &str = "$SYS/forbidden";

/// Subjects, and the words that this broker has for them in place of the standard's.
type Differences = &'static [(&'static str, &'static str)];

pub struct Peer {
    pub name: &'static str,
    pub differs: Differences,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    /// It ends with the value.
    _server: Box<dyn Any>,
}

impl Peer {
    /// Mosquitto 2.0 over mutual TLS, with its own window of 20.
    pub fn mosquitto() -> Peer {
        let broker = Mosquitto::start_stock();
        Peer {
            name: "Mosquitto",
            differs: &[
                ("CONNACK", "receive maximum 20, topic aliases 10"),
                ("take-over", "closed without a word"),
            ],
            port: broker.port(),
            security: security(broker.certs()),
            credentials: None,
            _server: Box::new(broker),
        }
    }

    /// The embedded broker, over mutual TLS.
    #[cfg(feature = "local-broker")]
    pub fn embedded() -> Peer {
        let broker = mqtt_connection_sharing::local::LocalBroker::start().expect("a broker");
        Peer {
            name: "embedded",
            differs: &[
                ("CONNACK", "packet size 268435456"),
                // It names the publisher in each message.
                ("QoS 0", "with x-mqtt-client-id, once"),
                ("QoS 1", "with x-mqtt-client-id, once"),
                ("QoS 2", "with x-mqtt-client-id, once"),
                ("will", "with x-mqtt-client-id"),
                ("nobody subscribed", "0x00"),
                ("a topic of the broker's own", "0x00"),
            ],
            port: broker.port(),
            security: broker.security(),
            credentials: None,
            _server: Box::new(broker),
        }
    }

    /// ejabberd with its MQTT module alone, without TLS. It runs outside of its usual folders, and without the port
    /// mapper of Erlang.
    pub fn ejabberd() -> Peer {
        // It takes connections before that, and closes them.
        let server = Server::start("Start accepting TCP connections", |port, folder| {
            let configuration = EJABBERD.replace("PORT", &port.to_string());
            let file = folder.join("ejabberd.yml");
            fs::write(&file, configuration).expect("a configuration file");
            let mut erl = Command::new("erl");
            erl.args(["-noinput", "-mnesia", "dir"])
                .arg(format!("{:?}", folder.join("spool")))
                .args(["-s", "ejabberd"])
                .env("ERL_LIBS", erlang_libraries())
                .env("ERL_CRASH_DUMP", folder.join("crash"))
                .env("EJABBERD_CONFIG_PATH", file)
                .env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"))
                .env("HOME", folder);
            erl
        });
        // It takes any user with any password, and nobody without them.
        let credentials = Credentials {
            username: "somebody@localhost".to_owned(),
            password: "something".into(),
        };
        Peer {
            credentials: Some(credentials),
            ..server.peer("ejabberd", EJABBERD_DIFFERS)
        }
    }

    /// rumqttd, without TLS. `RUMQTTD` is its program.
    pub fn rumqttd() -> Peer {
        let program = std::env::var_os("RUMQTTD")
            .expect("RUMQTTD, the program of rumqttd: scripts/brokers.sh builds it");
        let server = Server::start("", |port, folder| {
            let file = folder.join("rumqttd.toml");
            let configuration = RUMQTTD.replace("PORT", &port.to_string());
            fs::write(&file, configuration).expect("a configuration file");
            let mut rumqttd = Command::new(&program);
            rumqttd.arg("--config").arg(file);
            rumqttd
        });
        server.peer("rumqttd", RUMQTTD_DIFFERS)
    }

    /// MQTT 5 with this broker as this client.
    pub fn options(&self, client_id: &str) -> Options {
        self.options_through(self.port, client_id)
    }

    /// As [`Peer::options`], through a proxy on this port.
    pub fn options_through(&self, port: u16, client_id: &str) -> Options {
        let mut options = Options::new("127.0.0.1", client_id);
        options.port = port;
        options.security = self.security.clone();
        options.credentials = self.credentials.clone();
        options.protocol = Protocol::V5;
        options.connect_interval = Duration::ZERO;
        options.unmatched_hold = Duration::ZERO;
        options.retry.base = Duration::from_millis(10);
        options.retry.max = Duration::from_millis(100);
        options
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The word that is documented for it.
    pub fn expected(&self, verdict: &Verdict) -> &'static str {
        let differs = self
            .differs
            .iter()
            .find(|(subject, _)| *subject == verdict.subject);
        differs.map_or(verdict.standard, |(_, word)| word)
    }
}

/// A process that serves a port.
struct Server {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Server {
    /// Starts a program that is to serve the port, with this folder for its files. Waits until it does, and until it
    /// has written this text.
    ///
    /// # Panics
    /// When it cannot be started, or ends.
    fn start(ready: &str, command: impl FnOnce(u16, &Path) -> Command) -> Server {
        let folder = tempfile::Builder::new().prefix("broker-").tempdir();
        let folder = folder.expect("a temporary folder");
        let port = free_port();
        let log = folder.path().join("output");
        let output = File::create(&log).expect("a log file");
        let mut command = command(port, folder.path());
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the log file twice"))
            .stderr(output)
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!(
                "cannot start {:?}: {error}: run scripts/brokers.sh",
                command.get_program()
            )
        });
        let mut server = Server {
            port,
            child,
            _folder: folder,
        };
        wait_for("the broker to listen", 4 * HANG, || {
            let ended = server.child.try_wait().expect("the state of the broker");
            let output = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "it ended:\n{}", output());
            let is_ready = output().contains(ready);
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .ok()
                .filter(|_| is_ready)
        });
        server
    }

    fn peer(self, name: &'static str, differs: Differences) -> Peer {
        Peer {
            name,
            differs,
            port: self.port,
            security: Security::Plain,
            credentials: None,
            _server: Box::new(self),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and a panic would hide the test's own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder that holds ejabberd's own, as Debian installs it.
fn erlang_libraries() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib");
    let holds = |folder: &PathBuf| {
        let below = fs::read_dir(folder).into_iter().flatten().flatten();
        below
            .map(|entry| entry.file_name())
            .any(|name| name.to_string_lossy().starts_with("ejabberd-"))
    };
    let mut folders = folders.flatten().map(|entry| entry.path());
    folders
        .find(holds)
        .expect("ejabberd below /usr/lib: scripts/brokers.sh installs it")
}

const EJABBERD_DIFFERS: Differences = &[
    (
        "CONNACK",
        "session expiry 300, topic aliases 100, no shared, keep alive 60",
    ),
    ("a topic of the broker's own", "0x90"),
    // It sends each message whatever its size, and those that are too large are read away.
    ("our packet size", "sent although too large"),
    ("unsubscribed from nothing", "0x00"),
    (
        "shared subscription",
        "never sent: the broker takes no shared subscriptions",
    ),
];

const EJABBERD: &str = r#"
hosts: [localhost]
loglevel: info
auth_method: anonymous
allow_multiple_connections: true
anonymous_protocol: login_anon
listen:
  - port: PORT
    ip: "127.0.0.1"
    module: mod_mqtt
modules:
  mod_mqtt: {}
"#;

const RUMQTTD_DIFFERS: Differences = &[
    ("CONNACK", "topic aliases 4096"),
    // A session that began with a clean start ends with its connection, whatever its expiry.
    ("empty client identifier", "assigned, session lost"),
    ("session kept", "lost"),
    // It sends with the QoS of the subscription, also where the message has a lower one.
    ("QoS 0", "whole, at QoS 2, once"),
    ("QoS 1", "whole, at QoS 2, once"),
    ("nobody subscribed", "0x00"),
    ("a topic of the broker's own", "0x00"),
    // A number that is given to another topic keeps its first one. This library uses none unless told to.
    ("topic aliases", "mixed up"),
    ("our receive maximum", "several at a time"),
    ("our packet size", "sent although too large"),
    ("take-over", "closed without a word"),
    ("unsubscribed from nothing", "no answer"),
    ("no local", "own, other"),
    ("retain as published", "cleared, cleared without"),
    (
        "retain handling",
        "0: kept, none; 1: kept, none; 2: kept, none",
    ),
];

const RUMQTTD: &str = r#"
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "127.0.0.1:PORT"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
"#;
