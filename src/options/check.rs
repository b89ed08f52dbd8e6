//! Checks options: which values cannot be, alone or together.
//!
//! Pure. The thread that makes the client calls it, and the one that prepares a connection attempt.

use std::ops::RangeInclusive;

use super::{Credentials, Options, Protocol, ranges};
use crate::error::{Blame, Error};
use crate::mqtt::packet::Will;

impl Options {
    /// Checks all values.
    ///
    /// # Errors
    /// [`Blame::Configuration`], naming the value and its valid range.
    pub fn check(&self) -> Result<(), Error> {
        if self.host.is_empty() {
            return wrong(
                "`host`",
                "it is empty".into(),
                "give the broker's host name",
            );
        }
        // With a dot at its beginning, OpenSSL would accept the certificate of any subdomain. The error does
        // not repeat the host, because the text before an @ may be a password.
        let strange = |c: char| matches!(c, '@' | '/') || c.is_whitespace() || c.is_control();
        if self.host.starts_with('.') || self.host.contains(strange) {
            return wrong(
                "`host`",
                "it is neither a host name nor an address".into(),
                "give the host alone, without a scheme, user name or path",
            );
        }
        if let Err(problem) = crate::mqtt::topic::check_string(&self.client_id) {
            return wrong(
                "the client identifier",
                problem.to_string(),
                "choose another one",
            );
        }
        // With MQTT 5 the broker chooses one, and says which.
        if self.client_id.is_empty() && !self.clean_session && self.protocol == Protocol::V3_1_1 {
            return wrong(
                "the client identifier",
                "it is empty, which a broker accepts only with a clean session [MQTT-3.1.3-7]"
                    .into(),
                "give one, or ask for a clean session",
            );
        }
        if let Some(credentials) = &self.credentials {
            check_credentials(credentials, self.protocol)?;
        }
        self.version5.check()?;
        let properties = self.last_will.as_ref().map(|will| &will.properties.message);
        if let Some(Err((field, problem))) = properties.map(|it| it.check_fields()) {
            return wrong("the last will", format!("{field}: {problem}"), "change it");
        }
        if let Some(Err(problem)) = self.last_will.as_ref().map(Will::check) {
            return wrong("the last will", problem.to_string(), "change it");
        }
        let will = self.last_will.as_ref();
        let asked = &self.version5;
        let expiry = (!self.clean_session).then_some(asked.session_expiry);
        let limits = self.limits.of_version(self.protocol);
        for (what, result) in [
            (
                "the session expiry",
                expiry.map_or(Ok(()), |expiry| limits.check_session_expiry(expiry)),
            ),
            (
                "the topic aliases",
                limits.check_topic_aliases(asked.topic_aliases),
            ),
            (
                "the receive maximum",
                asked
                    .receive_maximum
                    .map_or(Ok(()), |most| limits.check_receive_maximum(most)),
            ),
            (
                "the client identifier",
                limits.check_client_id(&self.client_id),
            ),
            (
                "the last will",
                will.map_or(Ok(()), |will| limits.check_will(will)),
            ),
            ("the keep alive", limits.check_keep_alive(self.keep_alive)),
        ] {
            if let Err(exceeded) = result {
                return wrong(what, exceeded.to_string(), "change it");
            }
        }
        if !ranges::KEEP_ALIVE.contains(&self.keep_alive) || self.keep_alive.subsec_nanos() != 0 {
            return wrong(
                "the keep alive",
                format!(
                    "{:?} is not a whole number of seconds up to {}",
                    self.keep_alive,
                    ranges::KEEP_ALIVE.end().as_secs()
                ),
                "use for example 60s; 0 turns it off",
            );
        }
        let of_16_bits = |range: RangeInclusive<u16>| {
            RangeInclusive::new(usize::from(*range.start()), usize::from(*range.end()))
        };
        let size = self.recording.unwrap_or_default();
        for (what, number, range) in [
            ("the port", self.port.into(), of_16_bits(ranges::PORT)),
            (
                "the window",
                self.max_inflight.into(),
                of_16_bits(ranges::MAX_INFLIGHT),
            ),
            (
                "the window of QoS 2",
                self.max_inflight_qos2.into(),
                of_16_bits(ranges::MAX_INFLIGHT),
            ),
            ("the command queue", self.command_queue, ranges::QUEUE),
            // An inbox has room for one message at least.
            (
                "the default inbox",
                self.unmatched_queue.max(1),
                ranges::QUEUE,
            ),
            (
                "the largest packet",
                self.max_packet_size,
                ranges::PACKET_SIZE,
            ),
            ("the loop's records", size.of_loop, ranges::RECORDS),
            ("each thread's records", size.of_thread, ranges::RECORDS),
            // None may be kept.
            (
                "the threads that are kept",
                size.ended_threads.max(1),
                ranges::RECORDS,
            ),
        ] {
            if !range.contains(&number) {
                let advice = format!("use {} to {}", range.start(), range.end());
                return wrong(what, format!("it is {number}"), &advice);
            }
        }
        for (what, duration, range) in [
            ("the block time", self.block_time, ranges::DURATION),
            (
                "the acknowledgment time-out",
                self.ack_timeout,
                ranges::TIME_LIMIT,
            ),
            (
                "the connect time-out",
                self.connect_timeout,
                ranges::TIME_LIMIT,
            ),
            (
                "the connect interval",
                self.connect_interval,
                ranges::DURATION,
            ),
            ("the longest retry delay", self.retry.max, ranges::DURATION),
            (
                "the time for the first connection",
                self.retry.connect_for,
                ranges::DURATION,
            ),
            (
                "the time for connecting again",
                self.retry.reconnect_for,
                ranges::DURATION,
            ),
            (
                "the hold of unmatched messages",
                self.unmatched_hold,
                ranges::DURATION,
            ),
        ] {
            if duration < *range.start() {
                let problem = "it is 0, so nothing could ever succeed";
                return wrong(what, problem.into(), "use for example 20s");
            }
            if duration > *range.end() {
                let problem = format!("{duration:?} is longer than a year");
                return wrong(what, problem, "use at most 366 days");
            }
        }
        if self.retry.base > self.retry.max {
            return wrong(
                "the retry delays",
                format!(
                    "the base {:?} is above the maximum {:?}",
                    self.retry.base, self.retry.max
                ),
                "lower the base or raise the maximum",
            );
        }
        Ok(())
    }
}

/// Checks user name and password.
pub(crate) fn check_credentials(
    credentials: &Credentials,
    protocol: Protocol,
) -> Result<(), Error> {
    // MQTT 5 allows a password alone [MQTT-3.1.2-19].
    if credentials.username.is_empty() && protocol == Protocol::V3_1_1 {
        return wrong(
            "the user name",
            "a password needs a user name [MQTT-3.1.2-22]".into(),
            "give one",
        );
    }
    if let Err(problem) = crate::mqtt::topic::check_string(&credentials.username) {
        return wrong("the user name", problem.to_string(), "choose another one");
    }
    if credentials.password.len() > usize::from(u16::MAX) {
        return wrong(
            "the password",
            "it is longer than 65,535 bytes".into(),
            "shorten it",
        );
    }
    Ok(())
}

pub(super) fn wrong(what: &str, problem: String, advice: &str) -> Result<(), Error> {
    Err(Error::new(
        Blame::Configuration,
        format!("checking {what}"),
        problem,
        advice,
    ))
}
