//! Prepares a connection attempt: asks the provider, reads files again, and if anything has changed makes the TLS
//! connector anew.
//!
//! All of it may block, so a short-lived thread does it ([`Errand`]). The loop's thread hands over what it needs and
//! takes the result; the two share no state. A fault of new values is a problem for the log: the last good ones
//! stay in force (`client.rs`).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::error::{Blame, Error, exhaustion};
use crate::link::errand::Errand;
use crate::link::tls::{self, Connector};
use crate::options::{
    Credentials, Failure, NextAttempt, Options, Protocol, Provider, TlsOptions, check_credentials,
};

/// Prepares attempts, one at a time. It outlives the loop, so that a provider that hangs costs one thread in all. A loop that
/// waits for what an earlier loop began is not called at the end: it looks at its time limit.
pub(super) type Preparer = Errand<Prepared>;

/// An answer of the provider that came after its attempt had gone on counts for one that follows so soon. Otherwise a
/// provider that takes a little longer than an attempt waits would be asked again and again in vain.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(60);

/// The work of a thread that prepares an attempt.
pub(super) struct Preparation {
    provider: Option<Provider>,
    next: NextAttempt,
    protocol: Protocol,
    /// The phrase for what is tried.
    tried: String,
    /// The options and the digest that the connector in force was made with.
    tls: Option<(TlsOptions, u64)>,
}

/// The result: what has changed, and why something has not.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) credentials: Option<Credentials>,
    pub(super) connector: Option<Connector>,
    pub(super) problems: Vec<Error>,
}

impl Preparation {
    /// Returns `None` if there is nobody to ask and no file to read again.
    pub(super) fn of(
        options: &Options,
        connector: Option<&Connector>,
        next: NextAttempt,
    ) -> Option<Self> {
        let provider = options.provider.clone();
        if provider.is_none() && !connector.is_some_and(Connector::has_files) {
            return None;
        }
        Some(Preparation {
            provider,
            next,
            protocol: options.protocol,
            tried: tried(options),
            tls: connector.map(Connector::made_with),
        })
    }

    /// Asks, reads and makes.
    pub(super) fn run(self) -> Prepared {
        let mut prepared = Prepared::default();
        let mut wanted = self.tls.as_ref().map(|(options, _)| options.clone());
        let asked = self.provider.as_ref().map(|provider| {
            // The text of its error is the application's code, too.
            let told = |error: Failure| (error.to_string(), error);
            catch_unwind(AssertUnwindSafe(|| provider.ask(&self.next).map_err(told)))
        });
        match asked {
            None => {}
            Some(Ok(Ok(fresh))) => {
                if let Some(tls) = &mut wanted {
                    tls.ca = fresh.ca.or(tls.ca.take());
                    tls.identity = fresh.identity.or(tls.identity.take());
                }
                let protocol = self.protocol;
                let check = |credentials| check_credentials(credentials, protocol);
                match fresh.credentials.as_ref().map_or(Ok(()), check) {
                    Ok(()) => prepared.credentials = fresh.credentials,
                    Err(error) => prepared.problems.push(error),
                }
            }
            Some(Ok(Err((text, error)))) => {
                let problem = format!("the provider failed: {text}");
                let told = self.problem(problem, "see to what the provider needs");
                prepared.problems.push(told.caused_by(error));
            }
            Some(Err(payload)) => {
                // Its drop may panic, too.
                std::mem::forget(payload);
                let advice = "have the provider return an error in place of a panic";
                let told = self.problem("the provider panicked", advice);
                prepared.problems.push(told);
            }
        }
        if let (Some(wanted), Some((in_force, digest))) = (wanted, &self.tls) {
            match tls::renewed(&wanted, in_force, *digest) {
                Ok(connector) => prepared.connector = connector,
                Err(error) => prepared.problems.push(error),
            }
        }
        prepared
    }

    fn problem(&self, problem: impl Into<String>, advice: &str) -> Error {
        Error::new(Blame::Configuration, &self.tried, problem, advice)
    }
}

impl Prepared {
    /// The thread has panicked beside the provider.
    pub(super) fn panicked(options: &Options) -> Self {
        let told = Error::new(
            Blame::Configuration,
            tried(options),
            "the thread that prepares it panicked",
            "see the message of the panic",
        );
        Prepared {
            problems: vec![told],
            ..Prepared::default()
        }
    }

    /// The thread has not ended in time.
    pub(super) fn late(options: &Options) -> Self {
        Prepared {
            problems: vec![slow(
                options,
                format!("within {:?}", options.connect_timeout),
            )],
            ..Prepared::default()
        }
    }
}

/// The system has no thread left.
pub(super) fn no_thread(options: &Options, error: io::Error) -> Error {
    let told = Error::new(
        Blame::Network,
        tried(options),
        format!("no thread for it: {error}"),
        exhaustion(&error).unwrap_or("free some of the system's threads or memory"),
    );
    told.with_source(error)
}

/// The thread is still at work, so long after the first attempt began.
pub(super) fn under_way(options: &Options, elapsed: Duration) -> Error {
    let elapsed = elapsed.as_secs_f64();
    slow(
        options,
        format!("{elapsed:.1} s after the first attempt began"),
    )
}

fn slow(options: &Options, time: String) -> Error {
    let (problem, advice) = match options.provider {
        Some(_) => (
            "the provider has not answered",
            "have it give up sooner, or raise `connect_timeout`",
        ),
        None => (
            "the certificates and keys were not read",
            "check the file system that they are on, or raise `connect_timeout`",
        ),
    };
    Error::new(
        Blame::Configuration,
        tried(options),
        format!("{problem} {time}"),
        advice,
    )
}

fn tried(options: &Options) -> String {
    format!("preparing a connection to {}", options.address())
}
