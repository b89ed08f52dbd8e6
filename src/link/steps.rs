//! The steps of one attempt to connect, for observers. Pure data; the loop's thread makes it, any thread reads it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::Error;
use crate::link::tls::TlsDetails;

/// A step of an attempt to connect, in the order in which they happen. After any failure before CONNACK the attempt goes
/// on with the next address, so the steps from TCP on may come several times.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AttemptStep {
    /// The system is asked for the addresses of the host.
    Resolving {
        /// The host of the options.
        host: String,
    },
    /// The system has answered.
    Resolved {
        /// The addresses in the order in which they are tried, eight at most.
        addresses: Vec<SocketAddr>,
    },
    /// A TCP connection to this address is begun. The next address is tried beside it after 250 ms (RFC 8305).
    TcpBegan {
        /// The address.
        to: SocketAddr,
    },
    /// The TCP connection to this address is there. Those that were tried beside it are given up.
    TcpDone {
        /// The address.
        to: SocketAddr,
    },
    /// The TLS handshake has ended well: the broker's certificate has passed. With TLS 1.3 the broker may still refuse
    /// the client's certificate.
    TlsDone {
        /// The agreement with the broker.
        tls: Arc<TlsDetails>,
    },
    /// CONNECT goes out. CONNACK is the end of the attempt.
    ConnectSent,
    /// An address was of no use: TCP, TLS or what came in place of CONNACK. The attempt goes on if addresses are left.
    AddressFailed {
        /// The address.
        to: Option<SocketAddr>,
        /// The cause.
        error: Error,
    },
}

impl fmt::Display for AttemptStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptStep::Resolving { host } => write!(f, "looking up {host}"),
            AttemptStep::Resolved { addresses } => {
                f.write_str("addresses:")?;
                addresses.iter().try_for_each(|to| write!(f, " {to}"))
            }
            AttemptStep::TcpBegan { to } => write!(f, "TCP to {to}"),
            AttemptStep::TcpDone { to } => write!(f, "TCP to {to} is there"),
            AttemptStep::TlsDone { tls } => write!(f, "TLS handshake done: {tls}"),
            AttemptStep::ConnectSent => f.write_str("CONNECT sent"),
            AttemptStep::AddressFailed { error, .. } => error.fmt(f),
        }
    }
}
