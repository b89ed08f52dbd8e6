//! The provider: the application's own source of credentials, certificates and keys, asked for each connection attempt.
//!
//! Holds the closure and what passes through it. Pure: a thread that prepares an attempt calls it, never the loop's.

use std::error;
use std::fmt;
use std::sync::Arc;

use super::{Credentials, Identity, Material};
use crate::error::Error;

/// The application's own error.
pub(crate) type Failure = Box<dyn error::Error + Send + Sync>;

type Provide = dyn Fn(&NextAttempt) -> Result<Fresh, Failure> + Send + Sync;

/// Gives credentials, certificates and keys for each connection attempt: a token that expires, a key from a vault.
///
/// A thread of its own calls it before each attempt, one call at a time, and the attempt waits for it for up to
/// [`Options::connect_timeout`](super::Options::connect_timeout). The loop goes on meanwhile. A call cannot be broken
/// off: the next attempt waits for the same call, so that a provider that never returns costs one thread for each
/// client.
///
/// If it fails, panics or takes too long, or if something that it gave cannot be used, then a warning in the log says so
/// and the attempt goes on with the last good one. Until all that it gave could be used for the first time there is no
/// good one: then the attempt fails and is repeated like any other. An authority, key or password that the broker does
/// not accept is not final with a provider, because the next one may be accepted.
///
/// The text of its error is logged, and its `Debug` stands in that of [`Error`](crate::error::Error): neither may hold a
/// secret.
///
/// ```
/// # use mqtt_connection_sharing::options::{Credentials, Options, Provider, Secret};
/// # fn token() -> Result<String, std::io::Error> { Ok("a.b.c".into()) }
/// let mut options = Options::new("broker.example", "me");
/// options.provider = Some(Provider::new(|_| {
///     let credentials = Credentials {
///         username: "me".into(),
///         password: Secret::from(token()?),
///     };
///     Ok(credentials.into())
/// }));
/// ```
#[derive(Clone)]
pub struct Provider(Arc<Provide>);

impl Provider {
    /// A provider that calls this closure.
    pub fn new(
        provide: impl Fn(&NextAttempt) -> Result<Fresh, Box<dyn error::Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Provider(Arc::new(provide))
    }

    /// Calls it.
    pub(crate) fn ask(&self, next: &NextAttempt) -> Result<Fresh, Failure> {
        (self.0)(next)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider(..)")
    }
}

/// The attempt that a [`Provider`] is asked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NextAttempt {
    /// Attempts that failed in a row before it.
    pub failures: u32,
    /// Why there is no connection: the last failed attempt, or the loss of the link.
    pub last_failure: Option<Error>,
}

impl NextAttempt {
    /// An attempt after these failures.
    pub(crate) fn new(failures: u32, last_failure: Option<Error>) -> Self {
        NextAttempt {
            failures,
            last_failure,
        }
    }
}

/// The answer of a [`Provider`]. Where it holds `None`, the last value stays in force, at first that of the options.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Fresh {
    /// User name and password for CONNECT.
    pub credentials: Option<Credentials>,
    /// The client's certificate and key. Without TLS nobody needs it.
    pub identity: Option<Identity>,
    /// The certificate authorities to trust. Without TLS nobody needs them.
    pub ca: Option<Material>,
}

impl From<Credentials> for Fresh {
    fn from(credentials: Credentials) -> Self {
        Fresh {
            credentials: Some(credentials),
            ..Fresh::default()
        }
    }
}

impl From<Identity> for Fresh {
    fn from(identity: Identity) -> Self {
        Fresh {
            identity: Some(identity),
            ..Fresh::default()
        }
    }
}
