//! The options of MQTT 5. Pure.

use std::time::Duration;

use super::check::wrong;
use super::{Options, ranges};
use crate::error::Error;
use crate::mqtt::packet::{ConnectTerms, Filter, Protocol, QoS, RetainHandling, SubscribeOptions};
use crate::mqtt::topic::{check_string, check_topic};

/// What CONNECT of MQTT 5 asks for beyond that of MQTT 3.1.1, which leaves all of it out. Start from the default:
///
/// ```
/// # use std::time::Duration;
/// # use mqtt_connection_sharing::options::Version5;
/// let mut version5 = Version5::default();
/// assert_eq!(version5.session_expiry, Duration::from_secs(3600));
/// assert_eq!((version5.receive_maximum, version5.topic_alias_maximum), (None, 8));
/// assert_eq!(version5.topic_aliases, 0);
/// assert_eq!(version5.response_prefix, "responses");
/// version5.user_properties.push(("site".to_owned(), "7".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Version5 {
    /// How long the broker is to keep the session after a connection, in whole seconds, at most 366 days. The broker may
    /// choose another time. With [`Options::clean_session`] it is zero. Offline for longer than that, a loop begins a new
    /// session. AWS IoT Core allows 7 days ([`Limits`](crate::limits::Limits)). [MQTT 5, 3.1.2.11.2]
    pub session_expiry: Duration,
    /// How many messages of QoS 1 and 2 the broker may send before one of them is acknowledged, 1 to 65,535. `None`: as
    /// many as may wait for threads that do not read their inboxes, if each is as large as `max_packet_size` allows, and
    /// no more than [`Options::limits`] allow. [MQTT 5, 3.1.2.11.3]
    ///
    /// Some brokers send more under load. Such a message is taken as long as the messages that wait have room for it (see
    /// [`Options::max_packet_size`]), and the log says so. Without room the link ends with 0x93 [MQTT-3.3.4-9].
    pub receive_maximum: Option<u16>,
    /// Topic aliases that the broker may use. Each may keep 65,535 bytes. 0 allows none. [MQTT 5, 3.1.2.11.5]
    pub topic_alias_maximum: u16,
    /// Topic aliases that we use, if the broker allows as many: a topic is sent once on each connection, and its number
    /// after that. The topic that was not used for the longest time makes way. 0, the default, uses none: some brokers
    /// have faults with them. [MQTT 5, 3.3.2.3.4]
    pub topic_aliases: u16,
    /// Where responses to requests of [`Handle::request`](crate::Handle::request) come: on topics below
    /// `PREFIX/CLIENT-ID`. A topic name without wildcards, which the broker has to allow this client to subscribe to, and
    /// the side that answers to publish to.
    pub response_prefix: String,
    /// Pairs of a name and a value in CONNECT. [MQTT 5, 3.1.2.11.8]
    pub user_properties: Vec<(String, String)>,
}

impl Default for Version5 {
    fn default() -> Self {
        Version5 {
            session_expiry: Duration::from_secs(60 * 60),
            receive_maximum: None,
            topic_alias_maximum: 8,
            topic_aliases: 0,
            response_prefix: "responses".to_owned(),
            user_properties: Vec::new(),
        }
    }
}

impl Version5 {
    /// Says which value cannot be, if any.
    pub(super) fn check(&self) -> Result<(), Error> {
        let expiry = self.session_expiry;
        if !ranges::DURATION.contains(&expiry) || expiry.subsec_nanos() != 0 {
            return wrong(
                "the session expiry",
                format!("{expiry:?} is not a whole number of seconds up to 366 days"),
                "use for example 1h",
            );
        }
        if self.receive_maximum == Some(0) {
            let problem = "it is 0, so the broker could send nothing [MQTT 5, 3.1.2.11.3]";
            return wrong("the receive maximum", problem.into(), "use at least 1");
        }
        if let Err(problem) = check_topic(&self.response_prefix) {
            let advice = "use for example the word responses";
            return wrong("the prefix of response topics", problem.to_string(), advice);
        }
        for (name, value) in &self.user_properties {
            for text in [name, value] {
                if let Err(problem) = check_string(text) {
                    return wrong("a user property", problem.to_string(), "change it");
                }
            }
        }
        Ok(())
    }
}

impl Version5 {
    /// The topic on which responses come to the client with this identifier, and the filter that it subscribes to.
    pub(crate) fn response_names(&self, client_id: &str) -> (String, Filter) {
        let begin = format!("{}/{client_id}/", self.response_prefix);
        let options = SubscribeOptions {
            // A retained response would be one of an earlier request.
            retain_handling: RetainHandling::Never,
            ..SubscribeOptions::default()
        };
        let filter = Filter::new(format!("{begin}#"), QoS::AtLeastOnce).with_options(options);
        (begin + "response", filter)
    }
}

impl Options {
    /// What CONNECT of MQTT 5 says. `None` with MQTT 3.1.1. A clean session ends with its connection, as it does in
    /// MQTT 3.1.1 [MQTT 5, 3.1.2.11.2].
    pub(crate) fn connect_terms(&self, clean_session: bool) -> Option<ConnectTerms> {
        if self.protocol != Protocol::V5 {
            return None;
        }
        let Version5 {
            session_expiry,
            receive_maximum,
            topic_alias_maximum,
            topic_aliases,
            response_prefix: _,
            user_properties,
        } = &self.version5;
        let session_expiry = match clean_session {
            true => 0,
            // `Options::check` keeps it in range.
            false => u32::try_from(session_expiry.as_secs()).unwrap_or(u32::MAX),
        };
        let that_fit = self.max_waiting_bytes() / self.max_packet_size.max(1);
        let that_fit = u16::try_from(that_fit).unwrap_or(u16::MAX);
        let that_fit = that_fit.min(self.limits.receive_maximum).max(1);
        Some(ConnectTerms {
            session_expiry,
            receive_maximum: receive_maximum.unwrap_or(that_fit),
            maximum_packet_size: u32::try_from(self.max_packet_size).ok(),
            topic_alias_maximum: *topic_alias_maximum,
            topic_aliases: *topic_aliases,
            user_properties: user_properties.clone(),
        })
    }
}
