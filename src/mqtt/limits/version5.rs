//! The limits of what MQTT 5 adds. With MQTT 3.1.1 nothing of it is sent.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Limit, LimitExceeded, Limits};
use crate::mqtt::packet::Protocol;

impl Limits {
    /// Those that count on a connection of this version. One of MQTT 3.1.1 leaves out all that these here are about.
    pub(crate) fn of_version(&self, protocol: Protocol) -> Limits {
        let mqtt = Limits::mqtt();
        match protocol {
            Protocol::V5 => self.clone(),
            Protocol::V3_1_1 => Limits {
                message_expiry_seconds: mqtt.message_expiry_seconds,
                session_expiry_seconds: mqtt.session_expiry_seconds,
                topic_aliases: mqtt.topic_aliases,
                receive_maximum: mqtt.receive_maximum,
                subscription_identifiers: mqtt.subscription_identifiers,
                will_delay: mqtt.will_delay,
                ..self.clone()
            },
        }
    }

    /// Checks the expiry of a message, in seconds.
    ///
    /// # Errors
    /// [`Limit::MessageExpiry`].
    pub fn check_message_expiry(&self, expiry: Option<u32>) -> Result<(), LimitExceeded> {
        let Some(seconds) = expiry else {
            return Ok(());
        };
        let range = &self.message_expiry_seconds;
        if range.contains(&seconds) {
            return Ok(());
        }
        self.exceeded(
            Limit::MessageExpiry,
            format!("a message expiry of {seconds}s"),
            format!("{}s to {}s", range.start(), range.end()),
        )
    }

    /// Checks how long a session is to outlive its connection.
    ///
    /// # Errors
    /// [`Limit::SessionExpiry`].
    pub fn check_session_expiry(&self, expiry: Duration) -> Result<(), LimitExceeded> {
        let (seconds, most) = (expiry.as_secs(), self.session_expiry_seconds);
        if seconds <= u64::from(most) {
            return Ok(());
        }
        self.exceeded(
            Limit::SessionExpiry,
            format!("a session expiry of {seconds}s"),
            format!("at most {most}s"),
        )
    }

    /// Checks a number of topic aliases.
    ///
    /// # Errors
    /// [`Limit::TopicAliases`].
    pub fn check_topic_aliases(&self, aliases: u16) -> Result<(), LimitExceeded> {
        if aliases <= self.topic_aliases {
            return Ok(());
        }
        let most = format!("at most {}", self.topic_aliases);
        self.exceeded(
            Limit::TopicAliases,
            format!("{aliases} topic aliases"),
            most,
        )
    }

    /// Checks a receive maximum of a client.
    ///
    /// # Errors
    /// [`Limit::ReceiveMaximum`].
    pub fn check_receive_maximum(&self, maximum: u16) -> Result<(), LimitExceeded> {
        if maximum <= self.receive_maximum {
            return Ok(());
        }
        let most = format!("at most {}", self.receive_maximum);
        self.exceeded(
            Limit::ReceiveMaximum,
            format!("{maximum} messages in flight"),
            most,
        )
    }

    /// Checks the identifier of a subscription.
    ///
    /// # Errors
    /// [`Limit::SubscriptionIdentifiers`].
    pub fn check_subscription_identifier(
        &self,
        identifier: Option<NonZeroU32>,
    ) -> Result<(), LimitExceeded> {
        if self.subscription_identifiers || identifier.is_none() {
            return Ok(());
        }
        let none = "none".to_owned();
        self.exceeded(
            Limit::SubscriptionIdentifiers,
            "a subscription identifier".to_owned(),
            none,
        )
    }

    /// Checks the delay of a will, in seconds.
    ///
    /// # Errors
    /// [`Limit::WillDelay`].
    pub fn check_will_delay(&self, seconds: u32) -> Result<(), LimitExceeded> {
        if self.will_delay || seconds == 0 {
            return Ok(());
        }
        let none = "none".to_owned();
        self.exceeded(
            Limit::WillDelay,
            format!("a will delay of {seconds}s"),
            none,
        )
    }
}
