//! \[5\] What SUBSCRIBE asks for. Pure data.

use std::num::NonZeroU32;

use super::QoS;
use crate::mqtt::topic::{InvalidName, check_filter, is_shared};

/// The largest subscription identifier [MQTT 5, 3.8.2.1.2].
const LARGEST_IDENTIFIER: u32 = 268_435_455;

/// A topic filter and the quality of service that SUBSCRIBE asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Topic filter, possibly with wildcards, possibly with a prefix that the broker reads as a request. A message
    /// belongs to `$share/<name>/<filter>` if its topic matches `<filter>`, and to `$queue/<filter>`,
    /// `$exclusive/<filter>` or `$q/<filter>` if its topic matches that text or `<filter>`. For other prefixes
    /// there is [`Filter::matching`].
    pub filter: String,
    /// Highest quality of service at which messages are to arrive.
    pub qos: QoS,
    /// What MQTT 5 adds. A connection of MQTT 3.1.1 leaves it out.
    pub options: SubscribeOptions,
    /// The filter that topics are matched with, if it is not `filter`.
    pub(in crate::mqtt) matching: Option<String>,
}

impl Filter {
    /// A filter with a requested quality of service.
    pub fn new(filter: impl Into<String>, qos: QoS) -> Self {
        Filter {
            filter: filter.into(),
            qos,
            options: SubscribeOptions::default(),
            matching: None,
        }
    }

    /// The same filter, for a broker that sends its messages on other topics than the filter's text says: those
    /// that match `filter`, literally. Without this, messages that come on such topics go to the default inbox.
    ///
    /// ```
    /// use mqtt_connection_sharing::{Filter, QoS};
    /// // Messages come on `alarms/1` and the like.
    /// let filter = Filter::new("$myqueue/alarms/+", QoS::AtLeastOnce).matching("alarms/+");
    /// ```
    #[must_use]
    pub fn matching(mut self, filter: impl Into<String>) -> Self {
        self.matching = Some(filter.into());
        self
    }

    /// The same filter with these options, which only MQTT 5 carries.
    #[must_use]
    pub fn with_options(mut self, options: SubscribeOptions) -> Self {
        self.options = options;
        self
    }

    /// Says what makes it impossible to subscribe to, if anything: the text, and the rule that it breaks.
    pub(crate) fn check(&self) -> Result<(), (&str, InvalidName)> {
        let texts = [Some(&self.filter), self.matching.as_ref()];
        let mut texts = texts.into_iter().flatten();
        texts
            .try_for_each(|text| check_filter(text).map_err(|problem| (text.as_str(), problem)))?;
        let problem = match self.options {
            SubscribeOptions { no_local: true, .. } if is_shared(&self.filter) => {
                InvalidName::NoLocalOnShare
            }
            SubscribeOptions {
                identifier: Some(identifier),
                ..
            } if identifier.get() > LARGEST_IDENTIFIER => InvalidName::IdentifierTooLarge,
            _ => return Ok(()),
        };
        Err((&self.filter, problem))
    }
}

/// What MQTT 5 adds to a subscription [MQTT 5, 3.8.3.1].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// Whether messages of this client itself are left out. Not for shared subscriptions [MQTT-3.8.3-4].
    pub no_local: bool,
    /// Whether messages keep the retain flag with which they were published.
    pub retain_as_published: bool,
    /// Which retained messages come.
    pub retain_handling: RetainHandling,
    /// A number that comes with each message for this subscription ([`Received::subscription_identifiers`]), 1 to
    /// 268,435,455. It is left out where the broker takes none.
    ///
    /// [`Received::subscription_identifiers`]: super::Received::subscription_identifiers
    pub identifier: Option<NonZeroU32>,
}

/// Which retained messages come when a filter is subscribed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RetainHandling {
    /// 0: all that match.
    #[default]
    Always,
    /// 1: all that match, unless the server has this subscription already.
    IfNew,
    /// 2: none.
    Never,
}
