//! [`Client`]: what outlives one loop. It is not connected, and runs on no thread.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Agent;
use super::prepare::{FRESH_FOR, Prepared, Preparer};
use crate::client::handle::Handle;
use crate::error::Error;
use crate::link::backoff::Backoff;
use crate::link::tls::{self, ClientCertificate, Connector};
use crate::mqtt::session::SessionOptions;
use crate::options::{Options, Security};

/// Losses in a row that count against a command before it is tried alone, and links that the broker closes with it
/// alone before the loop gives it up.
const SUSPECTED_AFTER: u32 = 3;
const GIVEN_UP_AFTER: u32 = 5;

/// Commands that may be taken out of the queue to reach requests of MQTT 5 behind them: the queue fills again meanwhile.
const LEAST_WAITING: usize = 65_535;

/// A client of one broker, not connected: options checked, certificates loaded.
///
/// A client moves into the loop that it opens and comes back in [`Ended::client`](crate::Ended::client).
/// So CONNECTs keep their distance ([`Options::connect_interval`]) from one loop to the next, too.
#[derive(Debug)]
pub struct Client {
    pub(super) options: Options,
    pub(super) connector: Option<Connector>,
    pub(super) preparer: Preparer,
    /// Whether all that the provider gave could be used at some time.
    has_provided: bool,
    last_connect: Option<Instant>,
    /// Whether a broker has accepted the client.
    was_connected: bool,
    /// The address from which it did the last time.
    pub(super) last_address: Option<SocketAddr>,
    /// Where the next loop's packet identifiers begin on the circle: behind those of the last one, which the broker
    /// may hold. The first loop's begin at a random place, because the broker may hold those of an earlier process.
    pub(super) next_identifier: u16,
    /// The client identifier that a broker has chosen, because the options have none: MQTT 5 only.
    assigned_client_id: Option<String>,
}

impl Client {
    /// Checks the options and loads the certificates. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Blame::Configuration`](crate::error::Blame::Configuration), saying which value or file is wrong and how to mend it.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let connector = match &options.security {
            Security::Tls(tls) => Some(tls::connector(tls)?),
            Security::Plain => None,
        };
        Ok(Client {
            options,
            connector,
            preparer: Preparer::new("preparer", FRESH_FOR),
            has_provided: false,
            last_connect: None,
            was_connected: false,
            last_address: None,
            next_identifier: random_identifier(),
            assigned_client_id: None,
        })
    }

    /// For tests that know each byte: the first packet identifier, in place of a random one.
    #[doc(hidden)]
    #[must_use]
    pub fn with_first_identifier(mut self, identifier: u16) -> Self {
        self.next_identifier = identifier.saturating_sub(1);
        self
    }

    /// A loop for this client, and the handle that threads push commands with. The client comes back in
    /// [`Ended::client`](crate::Ended::client).
    ///
    /// A process that died may have left QoS 2 messages unfinished, which the broker holds with the session. When the
    /// broker sends PUBREC for one of them, it is released with PUBREL, and its packet identifier is used again after
    /// PUBCOMP. A broker that sends nothing for it, and knows messages by their identifiers alone, swallows a QoS 2
    /// message of this client under the same identifier, and acknowledges it. Identifiers begin at a random place of
    /// the circle of 65,535, so this is unlikely at first, and likely once the circle came round.
    /// [`Client::open_clean`] rules it out.
    pub fn open(self) -> (Agent, Handle) {
        let clean_session = self.options.clean_session;
        Agent::new(self, clean_session)
    }

    /// As [`Client::open`], but asks the broker to forget the earlier session, whatever the options
    /// say [MQTT-3.1.2-6].
    pub fn open_clean(self) -> (Agent, Handle) {
        Agent::new(self, true)
    }

    /// The options that the client was made with, or what its provider gave last in place of some of them.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The client's own certificate, as it is presented at the next connection. `None` without one, and where it cannot be
    /// read. The clock is read, to compare dates; nothing is connected.
    pub fn certificate(&self) -> Option<ClientCertificate> {
        self.connector.as_ref()?.own_certificate()
    }

    /// The delays between failed attempts as the loop waits for them: random ones below a doubling
    /// ceiling, until the limits of [`Options::retry`](crate::options::Options::retry) are reached. Each call of
    /// `next` stands for an attempt that failed just now; the first attempt begins with this call.
    pub fn retry_delays(&self) -> impl Iterator<Item = Duration> + use<> {
        let mut backoff = self.backoff();
        backoff.begin(Instant::now());
        std::iter::from_fn(move || backoff.after_failure(Instant::now()))
    }

    /// The preparation of an attempt is over. From now on the new values are in force. Returns the problems because of
    /// which some of the last ones stay in force.
    ///
    /// # Errors
    /// The provider has given nothing yet that could be used.
    pub(super) fn take(&mut self, prepared: Prepared) -> Result<Vec<Error>, Error> {
        if prepared.credentials.is_some() {
            self.options.credentials = prepared.credentials;
        }
        if let Some(connector) = prepared.connector {
            log::info!("using new certificates or keys from now on");
            self.options.security = Security::Tls(connector.made_with().0);
            self.connector = Some(connector);
        }
        if self.options.provider.is_some() && !self.has_provided {
            if let Some(all) = prepared.problems.into_iter().reduce(Error::and) {
                return Err(all.passing());
            }
            self.has_provided = true;
            return Ok(Vec::new());
        }
        Ok(prepared.problems)
    }

    /// The delays of a loop.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.options.retry, self.was_connected)
    }

    /// When the next CONNECT may go out, at this time at the earliest: CONNECTs keep their distance.
    pub(super) fn next_connect(&self, at: Instant) -> Instant {
        let allowed = self
            .last_connect
            .map(|last| last + self.options.connect_interval);
        allowed.map_or(at, |allowed| allowed.max(at))
    }

    /// CONNECT goes out.
    pub(super) fn connected_at(&mut self, now: Instant) {
        self.last_connect = Some(now);
    }

    /// The broker accepted the client, from this address.
    pub(super) fn accepted(&mut self, from: Option<SocketAddr>) {
        self.was_connected = true;
        self.last_address = from;
    }

    /// The client identifier: that of the options or, if it is empty, the one that the broker has chosen [MQTT-3.2.2-16].
    pub(super) fn client_id(&self) -> &str {
        match &self.assigned_client_id {
            Some(assigned) if self.options.client_id.is_empty() => assigned,
            _ => &self.options.client_id,
        }
    }

    /// The broker has chosen the client identifier, or has not.
    pub(super) fn assign_client_id(&mut self, assigned: Option<String>) {
        if assigned.is_some() {
            self.assigned_client_id = assigned;
        }
    }

    /// The options of a session of this client.
    pub(super) fn session_options(&self) -> SessionOptions {
        SessionOptions {
            max_inflight: self.options.max_inflight,
            max_inflight_qos2: self.options.max_inflight_qos2,
            ack_timeout: self.options.ack_timeout,
            keep_alive: self.options.keep_alive,
            on_session_lost: self.options.on_session_lost,
            identifiers: u16::MAX,
            suspected_after: SUSPECTED_AFTER,
            given_up_after: GIVEN_UP_AFTER,
            first_identifier: self.next_identifier,
            max_waiting_bytes: self.options.max_waiting_bytes(),
            // Requests soon stand behind more than a queue holds: threads wait for room in front of them.
            max_waiting: self.options.command_queue.max(LEAST_WAITING),
            rate: self.options.limits.rate,
        }
    }
}

/// A position on the circle of packet identifiers. The keys of hash maps are the standard library's random numbers.
fn random_identifier() -> u16 {
    (RandomState::new().hash_one(()) % u64::from(u16::MAX)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Blame;
    use crate::options::{Fresh, Provider};

    #[test]
    fn as_many_commands_may_wait_for_the_broker_as_the_queue_holds_and_some_at_least() {
        for (queue, expected) in [(1, LEAST_WAITING), (1_000, LEAST_WAITING), (70_000, 70_000)] {
            let mut options = Options::new("localhost", "me");
            options.security = Security::Plain;
            options.command_queue = queue;
            let client = Client::new(options).unwrap();
            assert_eq!(client.session_options().max_waiting, expected);
        }
    }

    #[test]
    fn both_problems_of_a_first_preparation_are_told() {
        let mut options = Options::new("localhost", "me");
        options.security = Security::Plain;
        options.provider = Some(Provider::new(|_| Ok(Fresh::default())));
        let mut client = Client::new(options).unwrap();
        let problem = |what: &str| Error::new(Blame::Configuration, "preparing", what, "mend it");
        let prepared = Prepared {
            problems: vec![problem("no user name"), problem("no key")],
            ..Prepared::default()
        };
        let error = client.take(prepared).unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("no user name") && told.contains("no key"),
            "{told}"
        );
        assert!(!error.is_permanent(), "the provider may give others");
    }
}
