//! The limits of a broker within those of MQTT. The limits of AWS IoT Core are known here; an
//! application can set them for any other broker.
//!
//! A broker answers a request above its limits with silence, or closes the connection without a reason.
//! So these checks refuse the request before anything is sent, and the refusal names the limit. Pure
//! functions, for any thread.

mod version5;

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::mqtt::packet::{Filter, Publish, QoS, Will};
pub use crate::mqtt::rate::RateLimits;
use crate::mqtt::topic::filter_without_share;

/// The limits of a broker. By default they are those of MQTT itself or, for an endpoint of AWS IoT Core,
/// the quotas that Amazon publishes for its message broker ("AWS IoT Core endpoints and quotas", quotas of
/// message broker and protocols). Amazon raises some of these quotas on request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The name of the limits' owner, for refusals.
    pub of: &'static str,
    /// Highest quality of service of publishes, filters and the will. AWS IoT: 1; it does not answer
    /// a request with 2.
    pub highest_qos: QoS,
    /// Longest topic or filter, in bytes of UTF-8. The part before the filter in
    /// `$share/<name>/<filter>` does not count, nor, on AWS IoT, the part before the topic in
    /// `$aws/rules/<name>/<topic>`. AWS IoT: 256.
    pub topic_bytes: usize,
    /// Most slashes in a topic or filter, counted in the same part of it. AWS IoT: 7.
    pub topic_slashes: usize,
    /// Largest payload of a publish, in bytes. AWS IoT: 131,072 (128 KiB).
    pub payload_bytes: usize,
    /// Longest client identifier, in bytes of UTF-8. AWS IoT: 128.
    pub client_id_bytes: usize,
    /// Keep alive, in whole seconds; 0 is always allowed. AWS IoT: 30 to 1,200, and 0 counts as
    /// 1,200.
    pub keep_alive_seconds: RangeInclusive<u64>,
    /// Different filters subscribed at one time on one connection. AWS IoT: 50.
    pub subscriptions: usize,
    /// Whether the broker reserves topics that begin with `$`, except those that begin with `$aws/`.
    /// Clients must not publish to a reserved topic. AWS IoT: yes.
    pub reserved_topics: bool,
    /// Messages, and bytes of their packets, that leave in one second at most. Further ones wait in the command queue,
    /// and publishers with them once it is full. AWS IoT: 100 messages, of which it acknowledges no more, and
    /// 524,288 bytes (512 KiB).
    pub rate: RateLimits,
    /// MQTT 5: seconds that a message may state as its expiry. AWS IoT: 1 to 604,800 (7 days).
    pub message_expiry_seconds: RangeInclusive<u32>,
    /// MQTT 5: seconds that a session may outlive its connection. AWS IoT: at most 604,800 (7 days); it cuts a larger wish.
    pub session_expiry_seconds: u32,
    /// MQTT 5: most topic aliases that a client uses. AWS IoT: 8.
    pub topic_aliases: u16,
    /// MQTT 5: most messages of QoS 1 and 2 that a client may let wait for its acknowledgment. AWS IoT: 100.
    pub receive_maximum: u16,
    /// MQTT 5: whether filters may have subscription identifiers. AWS IoT: no.
    pub subscription_identifiers: bool,
    /// MQTT 5: whether a will may have a delay. AWS IoT: no.
    pub will_delay: bool,
}

/// Names one of the [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::highest_qos`].
    QoS,
    /// [`Limits::topic_bytes`].
    TopicBytes,
    /// [`Limits::topic_slashes`].
    TopicSlashes,
    /// [`Limits::payload_bytes`].
    PayloadBytes,
    /// [`Limits::client_id_bytes`].
    ClientIdBytes,
    /// [`Limits::keep_alive_seconds`].
    KeepAlive,
    /// [`Limits::subscriptions`].
    Subscriptions,
    /// [`Limits::reserved_topics`].
    ReservedTopic,
    /// [`Limits::message_expiry_seconds`].
    MessageExpiry,
    /// [`Limits::session_expiry_seconds`].
    SessionExpiry,
    /// [`Limits::topic_aliases`].
    TopicAliases,
    /// [`Limits::receive_maximum`].
    ReceiveMaximum,
    /// [`Limits::subscription_identifiers`].
    SubscriptionIdentifiers,
    /// [`Limits::will_delay`].
    WillDelay,
}

/// A request exceeds a limit of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitExceeded {
    limit: Limit,
    text: String,
}

impl LimitExceeded {
    /// The limit that the request exceeds.
    pub fn limit(&self) -> Limit {
        self.limit
    }
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for LimitExceeded {}

impl Limits {
    /// No limits beyond those of MQTT. Other code checks most of those.
    pub fn mqtt() -> Self {
        Limits {
            of: "MQTT 3.1.1",
            highest_qos: QoS::ExactlyOnce,
            topic_bytes: usize::MAX,
            topic_slashes: usize::MAX,
            payload_bytes: usize::MAX,
            client_id_bytes: usize::MAX,
            keep_alive_seconds: 0..=u64::from(u16::MAX),
            subscriptions: usize::MAX,
            reserved_topics: false,
            rate: RateLimits::default(),
            message_expiry_seconds: 0..=u32::MAX,
            session_expiry_seconds: u32::MAX,
            topic_aliases: u16::MAX,
            receive_maximum: u16::MAX,
            subscription_identifiers: true,
            will_delay: true,
        }
    }

    /// The limits of AWS IoT Core.
    pub fn aws_iot() -> Self {
        Limits {
            of: "AWS IoT",
            highest_qos: QoS::AtLeastOnce,
            topic_bytes: 256,
            topic_slashes: 7,
            payload_bytes: 128 * 1024,
            client_id_bytes: 128,
            keep_alive_seconds: 30..=1200,
            subscriptions: 50,
            reserved_topics: true,
            rate: RateLimits {
                publishes: NonZeroU32::new(100),
                bytes: NonZeroU64::new(512 * 1024),
            },
            message_expiry_seconds: 1..=604_800,
            session_expiry_seconds: 604_800,
            topic_aliases: 8,
            receive_maximum: 100,
            subscription_identifiers: false,
            will_delay: false,
        }
    }

    /// The limits of the broker with this host name: those of AWS IoT Core if the name is one of its
    /// endpoints, else those of MQTT.
    pub fn of_host(host: &str) -> Self {
        if is_aws_iot(host) {
            Limits::aws_iot()
        } else {
            Limits::mqtt()
        }
    }

    /// Checks a publish.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check_publish(&self, publish: &Publish) -> Result<(), LimitExceeded> {
        self.check_qos(publish.qos)?;
        self.check_topic(&publish.topic)?;
        if let Some(properties) = publish.properties() {
            self.check_message_expiry(properties.expiry)?;
        }
        self.check_payload(publish.payload.len())
    }

    /// Checks a last will.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check_will(&self, will: &Will) -> Result<(), LimitExceeded> {
        self.check_qos(will.qos)?;
        self.check_topic(&will.topic)?;
        self.check_will_delay(will.properties.delay)?;
        self.check_message_expiry(will.properties.message.expiry)?;
        self.check_payload(will.payload.len())
    }

    /// Checks a filter to subscribe to.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check_filter(&self, filter: &Filter) -> Result<(), LimitExceeded> {
        self.check_qos(filter.qos)?;
        self.check_subscription_identifier(filter.options.identifier)?;
        self.check_filter_name(&filter.filter)
    }

    /// Checks a filter to unsubscribe from.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check_filter_name(&self, filter: &str) -> Result<(), LimitExceeded> {
        self.check_name(filter_without_share(filter))
    }

    /// Checks the number of filters that the connection would have.
    ///
    /// # Errors
    /// [`Limit::Subscriptions`].
    pub fn check_subscriptions(&self, count: usize) -> Result<(), LimitExceeded> {
        if count <= self.subscriptions {
            return Ok(());
        }
        self.exceeded(
            Limit::Subscriptions,
            format!("{count} filters"),
            format!("{} on a connection", self.subscriptions),
        )
    }

    /// Checks a client identifier.
    ///
    /// # Errors
    /// [`Limit::ClientIdBytes`].
    pub fn check_client_id(&self, client_id: &str) -> Result<(), LimitExceeded> {
        if client_id.len() <= self.client_id_bytes {
            return Ok(());
        }
        self.exceeded(
            Limit::ClientIdBytes,
            format!("it has {} bytes", client_id.len()),
            self.client_id_bytes.to_string(),
        )
    }

    /// Checks a keep alive; zero is always allowed.
    ///
    /// # Errors
    /// [`Limit::KeepAlive`].
    pub fn check_keep_alive(&self, keep_alive: Duration) -> Result<(), LimitExceeded> {
        let seconds = keep_alive.as_secs();
        if keep_alive.is_zero() || self.keep_alive_seconds.contains(&seconds) {
            return Ok(());
        }
        let (least, most) = (
            self.keep_alive_seconds.start(),
            self.keep_alive_seconds.end(),
        );
        self.exceeded(
            Limit::KeepAlive,
            format!("it is {seconds}s"),
            format!("{least}s to {most}s, or 0"),
        )
    }

    /// Checks a quality of service.
    ///
    /// # Errors
    /// [`Limit::QoS`].
    pub fn check_qos(&self, qos: QoS) -> Result<(), LimitExceeded> {
        if qos <= self.highest_qos {
            return Ok(());
        }
        self.exceeded(
            Limit::QoS,
            format!("quality of service {qos}"),
            format!("at most {}", self.highest_qos),
        )
    }

    /// Checks a topic to publish to.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check_topic(&self, topic: &str) -> Result<(), LimitExceeded> {
        if self.reserved_topics && topic.starts_with('$') && !topic.starts_with("$aws/") {
            let text = format!(
                "topics that begin with $ are reserved on {}, except for $aws/",
                self.of
            );
            let limit = Limit::ReservedTopic;
            return Err(LimitExceeded { limit, text });
        }
        self.check_name(self.without_rule(topic))
    }

    /// Checks the size of a payload.
    ///
    /// # Errors
    /// [`Limit::PayloadBytes`].
    pub fn check_payload(&self, bytes: usize) -> Result<(), LimitExceeded> {
        if bytes <= self.payload_bytes {
            return Ok(());
        }
        self.exceeded(
            Limit::PayloadBytes,
            format!("a payload of {bytes} bytes"),
            self.payload_bytes.to_string(),
        )
    }

    /// Checks the part of a topic or filter that counts.
    fn check_name(&self, counted: &str) -> Result<(), LimitExceeded> {
        if counted.len() > self.topic_bytes {
            return self.exceeded(
                Limit::TopicBytes,
                format!("it has {} bytes", counted.len()),
                self.topic_bytes.to_string(),
            );
        }
        // A text has no more slashes than bytes, so counting them can be left out.
        if self.topic_slashes >= counted.len() {
            return Ok(());
        }
        let slashes = counted.bytes().filter(|byte| *byte == b'/').count();
        if slashes > self.topic_slashes {
            return self.exceeded(
                Limit::TopicSlashes,
                format!("it has {slashes} slashes"),
                self.topic_slashes.to_string(),
            );
        }
        Ok(())
    }

    /// Removes `$aws/rules/<name>/`, which sends a message directly to a rule of AWS IoT (Basic Ingest).
    /// AWS IoT counts only the rest as the topic.
    fn without_rule<'a>(&self, topic: &'a str) -> &'a str {
        let rest = match self.reserved_topics {
            true => topic.strip_prefix("$aws/rules/"),
            false => None,
        };
        let topic_of_rule = rest.and_then(|rest| rest.split_once('/'));
        topic_of_rule.map_or(topic, |(_, counted)| counted)
    }

    fn exceeded(&self, limit: Limit, what: String, possible: String) -> Result<(), LimitExceeded> {
        let text = format!("{what}, and {} allows {possible}", self.of);
        Err(LimitExceeded { limit, text })
    }
}

/// Whether a host name is an endpoint of AWS IoT Core, in any region and partition. Endpoints for FIPS
/// and for IPv6 count as well.
pub(crate) fn is_aws_iot(host: &str) -> bool {
    const DOMAINS: [&str; 4] = [
        ".amazonaws.com",
        ".amazonaws.com.cn",
        ".api.aws",
        ".api.amazonwebservices.com.cn",
    ];
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (host.contains(".iot.") || host.contains(".iot-fips."))
        && DOMAINS.iter().any(|domain| host.ends_with(domain))
}

/// The endpoint of AWS IoT Core with a certificate of Amazon Trust Services, in place of an account's old
/// one: `<prefix>.iot.<region>...` has a certificate of VeriSign, which systems do not trust any more.
/// `None` for any other host.
pub(crate) fn ats_host(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.');
    let (prefix, rest) = host.split_once('.')?;
    let is_old = is_aws_iot(host)
        && rest.to_ascii_lowercase().starts_with("iot.")
        && rest.ends_with(".amazonaws.com")
        && !prefix.to_ascii_lowercase().ends_with("-ats")
        // Endpoints of the service itself.
        && !matches!(prefix, "data" | "credentials" | "api");
    is_old.then(|| format!("{prefix}-ats.{rest}"))
}

#[cfg(test)]
mod tests;
