//! The options of the library: how to reach a broker and how to run the loop.
//!
//! Plain data with defaults. [`Options::check`] is the only place that says which values are valid. An
//! application fills in the options directly; `app/resolve.rs` makes them from the program's settings (flags,
//! environment, file). Pure: no thread, socket or clock.

mod aws;
mod check;
mod material;
mod provider;
mod recording;
mod version5;

use std::time::Duration;

use crate::mqtt::limits::{Limits, is_aws_iot};
use crate::mqtt::packet::Will;
pub use crate::mqtt::packet::{Credentials, Protocol};
pub use crate::mqtt::session::OnSessionLost;
pub use crate::mqtt::v4::OnTooLarge;
pub use crate::secret::Secret;
pub(crate) use check::check_credentials;
pub use material::{Identity, Material};
pub(crate) use provider::Failure;
pub use provider::{Fresh, NextAttempt, Provider};
pub use recording::RecordingSize;
pub use version5::Version5;

/// The options that the library's errors and log lines name, in backticks: fields of [`Options`],
/// [`TlsOptions`], [`Identity`] and [`Credentials`]. `pkcs12` is an archive and `pkcs12_password`
/// its password. `qos` is the quality of service of messages and filters, `last_will.qos` that of the will. A program
/// whose settings have other names can replace these names by its own.
pub const NAMED_IN_TEXTS: [&str; 17] = [
    "alpn",
    "ca",
    "cert",
    "client_id",
    "connect_timeout",
    "host",
    "key",
    "last_will.qos",
    "max_packet_size",
    "password",
    "pkcs12",
    "pkcs12_password",
    "protocol",
    "qos",
    "security",
    "server_name",
    "username",
];

/// The ranges of the numbers and durations in [`Options`]. [`Options::check`] refuses all others, and a program can
/// refuse them by the same ranges where it reads its settings.
pub mod ranges {
    use std::ops::RangeInclusive;
    use std::time::Duration;

    use crate::mqtt::packet::LARGEST_PACKET;

    /// [`Options::port`](super::Options::port).
    pub const PORT: RangeInclusive<u16> = 1..=u16::MAX;
    /// [`Options::max_inflight`](super::Options::max_inflight) and
    /// [`Options::max_inflight_qos2`](super::Options::max_inflight_qos2).
    pub const MAX_INFLIGHT: RangeInclusive<u16> = 1..=u16::MAX;
    /// Entries of a queue or an inbox. Their memory is allocated at once.
    pub const QUEUE: RangeInclusive<usize> = 1..=1_000_000;
    /// [`RecordingSize`](super::RecordingSize).
    pub const RECORDS: RangeInclusive<usize> = 1..=1 << 24;
    /// [`Options::max_packet_size`](super::Options::max_packet_size): room for a small message at least.
    pub const PACKET_SIZE: RangeInclusive<usize> = 128..=LARGEST_PACKET;
    /// [`Options::keep_alive`](super::Options::keep_alive), which has whole seconds.
    pub const KEEP_ALIVE: RangeInclusive<Duration> =
        Duration::ZERO..=Duration::from_secs(u16::MAX as u64);
    /// Durations that may be zero. The longest is longer than any sensible value, and every clock can add it.
    pub const DURATION: RangeInclusive<Duration> =
        Duration::ZERO..=Duration::from_secs(366 * 24 * 60 * 60);
    /// Time limits: with zero nothing could ever succeed.
    pub const TIME_LIMIT: RangeInclusive<Duration> = Duration::from_nanos(1)..=*DURATION.end();
}

/// Bytes of incoming messages that may wait for receivers, unless the largest packet asks for more.
const LEAST_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// How to reach a broker and how to run the loop. Start from [`Options::new`], which has the defaults, and change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Host name or address of the broker, without a port. An IPv6 address has no brackets, and a link-local one its
    /// zone: `fe80::1%eth0`.
    pub host: String,
    /// TCP port, 1 to 65,535; 8883 is MQTT over TLS, 1883 plain MQTT.
    pub port: u16,
    /// TLS (the default) or plain TCP.
    pub security: Security,
    /// The version of MQTT. The broker has to speak it: no other one is tried.
    pub protocol: Protocol,
    /// What MQTT 5 adds. A connection of MQTT 3.1.1 leaves it out.
    pub version5: Version5,
    /// MQTT client identifier, at most 65,535 bytes (128 on AWS IoT).
    pub client_id: String,
    /// User name and password for CONNECT.
    pub credentials: Option<Credentials>,
    /// Gives credentials, certificates and keys for each connection attempt, in place of those that stand here.
    pub provider: Option<Provider>,
    /// The message that the broker publishes when a link ends without DISCONNECT. That includes a link that
    /// RECONNECT, a protocol error or a missing answer closes, but not one that the loop ends in order.
    pub last_will: Option<Will>,
    /// The longest time in which the client sends nothing on the link, in whole seconds up to 65,535. Zero
    /// turns keep alive off [MQTT-3.1.2-23].
    pub keep_alive: Duration,
    /// Whether each CONNECT asks the broker to forget the session.
    pub clean_session: bool,
    /// Size of the window: the commands that may await their acknowledgment at one time, 1 to 65,535. A number
    /// above 65,519 counts as 65,519, because some packet identifiers are reserved for renewing subscriptions.
    pub max_inflight: u16,
    /// Messages of QoS 2 among them, each counted from PUBLISH to PUBCOMP, 1 to 65,535. Mosquitto takes no more than
    /// 20 unless it is told otherwise; beyond that it drops some or closes the connection. While so many are in
    /// flight the next one waits, and what was pushed behind it waits with it.
    pub max_inflight_qos2: u16,
    /// Commands that may wait in the queue before callers have to wait, 1 to 1,000,000. Each takes 128 bytes, and a large
    /// message its own memory besides. As many again, but at most 512, may be on their way out of the queue.
    ///
    /// With MQTT 5, a SUBSCRIBE, an UNSUBSCRIBE or a ping passes messages for which the broker has no room. The loop takes
    /// those that stand in front of it out of the queue, and they wait in the loop: as many as the queue holds, and
    /// 65,535 at least, of 64 MiB together, or of four times [`Options::max_packet_size`] if that is more. Beyond that it
    /// waits for the broker to take messages. So 65 such commands in a row pass a queue for 1,000 that threads keep full of
    /// small messages. A DISCONNECT behind them passes none: it leaves when all of them were sent.
    pub command_queue: usize,
    /// How long a caller waits for room in the command queue before it gets the command back.
    pub block_time: Duration,
    /// The longest wait for an acknowledgment. Time does not count while at least 1 KiB in each such time passes, of
    /// a packet that comes in or of packets that leave. After it the loop asks the broker with a PINGREQ. If the
    /// broker answers that first, or sends nothing for as long again, the loop treats the link as lost, connects
    /// again and sends everything again.
    pub ack_timeout: Duration,
    /// Time limit for each address (TCP), and again for TLS, CONNECT and CONNACK together. Before that, for the provider
    /// and for reading files again.
    pub connect_timeout: Duration,
    /// The least time between two CONNECTs. AWS IoT allows one a second for each client identifier.
    pub connect_interval: Duration,
    /// When and how long failed connection attempts are repeated.
    pub retry: Retry,
    /// The largest packet accepted from the broker, in bytes, fixed header included; 128 to 268,435,460.
    ///
    /// It also bounds the incoming messages that may wait for threads that do not read their inboxes: four times as
    /// many bytes, and never less than 64 MiB. All that waits is on one account, acknowledged or not, also when the
    /// broker has lost the session. Each message counts its topic, its payload, the memory of what MQTT 5
    /// adds to it, and 256 bytes for each inbox. So many
    /// bytes may be acknowledged although they wait. Beyond that a message waits unacknowledged, and other inboxes
    /// may have to wait for theirs, since the broker sends no more than its window. That may come to a quarter
    /// more. The next message, and all behind it, stay with the broker while everything else goes on. Once the
    /// threads have read half of the waiting bytes, the loop makes a new link, and the broker sends the rest again
    /// (with `clean_session` it forgets the rest).
    pub max_packet_size: usize,
    /// The reaction to a message above `max_packet_size`, also with MQTT 5, where CONNECT states that size and some brokers
    /// do not keep to it. By default it is read away and acknowledged, and the
    /// inboxes that it was for are told ([`InboxError::TooLarge`](crate::InboxError::TooLarge)). A broker sends a
    /// message of QoS 1 and 2 again on each link until it is acknowledged.
    pub on_too_large: OnTooLarge,
    /// Filters that may be subscribed at one time. The client refuses one more before it sends anything.
    pub max_subscriptions: usize,
    /// The limits of the broker within those of MQTT. The client refuses a request above them before it sends
    /// anything. [`Options::new`] recognises AWS IoT Core by its host name and sets its limits; for other
    /// brokers it sets none.
    pub limits: Limits,
    /// Size of the default inbox, which keeps messages that matched no subscription, up to 1,000,000; 0 counts as 1. More are
    /// dropped and counted.
    pub unmatched_queue: usize,
    /// How long messages of QoS 1 and 2 that match no subscription wait for one, unacknowledged, after a loop's first
    /// connection if the broker had kept the session. The broker sends what it had stored at once, and the threads of
    /// a new process may not have subscribed yet. The same holds after an inbox of
    /// [`Handle::inbox_by_hand`](crate::Handle::inbox_by_hand) was dropped with messages that are not done: another inbox may
    /// be about to take its place. Then the default inbox takes them. It takes them at the end of the
    /// loop, too, unless the broker has kept the session and sends them again. Zero turns it off.
    pub unmatched_hold: Duration,
    /// The fate of QoS 1 publishes in flight when the broker has lost the session.
    pub on_session_lost: OnSessionLost,
    /// Whether each loop makes a [recording](crate::recording), and how much it keeps. Off by default.
    pub recording: Option<RecordingSize>,
}

/// The protection of the link.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Security {
    /// TLS 1.2 or later, the broker's certificate always verified.
    Tls(TlsOptions),
    /// Plain TCP: anyone on the way can read and change everything.
    Plain,
}

/// Certificates and names for TLS. Files are read by [`Client::new`](crate::Client::new), and again before each connection
/// attempt, by a thread of its own. If their contents have changed, the attempt uses the new ones. If these cannot be used,
/// as a certificate whose key was not replaced yet, a warning in the log says so and the last good ones stay in force.
/// The authorities of the system are read again only together with a change of a file.
///
/// Start from the default:
///
/// ```
/// # use mqtt_connection_sharing::options::{Identity, Security, TlsOptions};
/// let mut tls = TlsOptions::default();
/// tls.ca = Some("ca.pem".into());
/// tls.identity = Some(Identity::pem("client.pem", "client.key"));
/// let security = Security::Tls(tls);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// The certificate authorities to trust, PEM. `None` means those of the system.
    pub ca: Option<Material>,
    /// The client's certificate and key.
    pub identity: Option<Identity>,
    /// ALPN protocol names, in order of preference.
    pub alpn: Vec<String>,
    /// Name expected in the broker's certificate and sent as SNI. `None` means the host.
    pub server_name: Option<String>,
}

/// When and how long failed connection attempts are repeated. Each delay is random, between zero and a
/// ceiling that doubles (full jitter). The last attempt begins when the time is over, so that a broker which
/// is back by then is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// Ceiling of the first delay.
    pub base: Duration,
    /// Highest ceiling.
    pub max: Duration,
    /// How long the loop tries until a broker has accepted this [`Client`](crate::Client) for the first time:
    /// from the beginning of the first attempt. Zero means no limit.
    pub connect_for: Duration,
    /// How long the loop tries after that: from the first attempt after the loss of a link. Zero means no limit.
    pub reconnect_for: Duration,
    /// Attempts after the first failed one; 0 means no limit. With a limit of time as well, the first of both
    /// to be reached counts. A link that is lost soon and without any acknowledgment counts as a failed
    /// attempt, unless it helps to find a command that links are lost because of
    /// ([`Reason::Parked`](crate::Reason::Parked)).
    pub attempts: u32,
}

impl TlsOptions {
    /// Whether any of it is in a file.
    pub(crate) fn has_files(&self) -> bool {
        let identity = self.identity.as_ref();
        self.ca.as_ref().is_some_and(Material::is_file) || identity.is_some_and(Identity::has_files)
    }
}

impl Retry {
    /// Whether the loop goes on for ever once it was connected.
    pub fn has_no_limit(&self) -> bool {
        self.attempts == 0 && self.reconnect_for.is_zero()
    }
}

impl Options {
    /// Options for a broker over TLS on port 8883, with the limits of AWS IoT Core if the host is one of its endpoints.
    /// Everything else is at its default:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use mqtt_connection_sharing::options::{OnSessionLost, OnTooLarge, Options};
    /// let options = Options::new("broker.example", "me");
    /// let seconds = Duration::from_secs;
    /// assert_eq!(options.keep_alive, seconds(60));
    /// assert!(!options.clean_session);
    /// assert_eq!((options.max_inflight, options.max_inflight_qos2), (100, 20));
    /// assert_eq!((options.command_queue, options.block_time), (1_000, seconds(30)));
    /// assert_eq!((options.ack_timeout, options.connect_timeout), (seconds(20), seconds(10)));
    /// assert_eq!(options.connect_interval, seconds(1));
    /// assert_eq!((options.retry.base, options.retry.max), (seconds(1) / 2, seconds(5)));
    /// assert_eq!(options.retry.connect_for, seconds(10));
    /// assert_eq!((options.retry.reconnect_for, options.retry.attempts), (seconds(60), 0));
    /// assert_eq!(options.max_packet_size, 256 * 1024);
    /// assert_eq!(options.on_too_large, OnTooLarge::Skip);
    /// assert_eq!(options.max_subscriptions, 65_536);
    /// assert_eq!((options.unmatched_queue, options.unmatched_hold), (10, seconds(5)));
    /// assert_eq!(options.on_session_lost, OnSessionLost::Republish);
    /// assert!(options.provider.is_none() && options.credentials.is_none());
    /// ```
    pub fn new(host: impl Into<String>, client_id: impl Into<String>) -> Self {
        let host = host.into();
        Options {
            limits: Limits::of_host(&host),
            host,
            port: 8883,
            security: Security::Tls(TlsOptions::default()),
            protocol: Protocol::default(),
            version5: Version5::default(),
            client_id: client_id.into(),
            credentials: None,
            provider: None,
            last_will: None,
            keep_alive: Duration::from_secs(60),
            clean_session: false,
            max_inflight: 100,
            max_inflight_qos2: 20,
            command_queue: 1_000,
            block_time: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            connect_interval: Duration::from_secs(1),
            retry: Retry {
                base: Duration::from_millis(500),
                max: Duration::from_secs(5),
                // A wrong port must not cost a minute; a broker that starts again may take one.
                connect_for: Duration::from_secs(10),
                reconnect_for: Duration::from_secs(60),
                attempts: 0,
            },
            max_packet_size: 256 * 1024,
            on_too_large: OnTooLarge::Skip,
            max_subscriptions: 65_536,
            unmatched_queue: 10,
            unmatched_hold: Duration::from_secs(5),
            on_session_lost: OnSessionLost::Republish,
            recording: None,
        }
    }

    /// Bytes of incoming messages that may be acknowledged while they wait for receivers. See
    /// [`Options::max_packet_size`].
    pub(crate) fn max_waiting_bytes(&self) -> usize {
        LEAST_WAITING_BYTES.max(self.max_packet_size.saturating_mul(4))
    }

    /// The broker's address as people write it: `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the host is an endpoint of AWS IoT Core, whose limits are known.
    pub fn is_aws_iot(&self) -> bool {
        is_aws_iot(&self.host)
    }
}

#[cfg(test)]
mod tests;
