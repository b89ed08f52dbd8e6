//! Shared by the black-box tests: certificates, a real Mosquitto, a scripted broker and the program
//! itself. Each of them cleans up after itself, also when the test panics.
//!
//! Nothing here knows the library's inside. rumqttc's codec decodes the packets, so that a mistake in
//! our codec is not repeated in its judge. Helpers panic with what they expected and what came: in a
//! test that is the report.

// Each test binary compiles this module anew and uses a part of it.
#![allow(dead_code, unused_imports)]
// Clippy knows tests by their attribute only, but this is test code all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Real brokers and processes live in real time.
#![allow(clippy::disallowed_methods)]

pub mod account;
pub mod acknowledger;
pub mod black_hole;
pub mod certs;
pub mod chance;
pub mod lines;
pub mod mosquitto;
pub mod panicking_log;
pub mod program;
pub mod publishers;
pub mod refusal;
pub mod report;
pub mod running;
pub mod schema;
pub mod scripted;
pub mod scripted5;
pub mod secrets;
pub mod storm;
pub mod tmux;
pub mod translated;
pub mod versions;
pub mod wire;
pub mod witness;

// The library's own files: these tests use them without the feature `local-broker`, too. They find their errors
// here.
#[path = "../../src/local/fate.rs"]
pub mod fate;
#[path = "../../src/local/proxy.rs"]
pub mod proxy;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::error::{Blame, Error};

pub use black_hole::BlackHole;
pub use certs::Certs;
pub use chance::{Random, RandomFates, SpareWhenStuck};
pub use fate::{Counting, Fate};
pub use mosquitto::Mosquitto;
pub use program::{Finished, Program, Running};
pub use proxy::Proxy;
pub use report::Report;
pub use scripted::{Connection, Event, ScriptedBroker};
pub(crate) use versions::in_both_versions;

/// A test fails after it has waited this long in vain. Generous, because a loaded machine must not fail
/// a correct program.
pub const HANG: Duration = Duration::from_secs(30);

/// A payload of more bytes than the system buffers for a peer that does not read, and fewer than a script can
/// decode.
pub const LARGE: usize = 15 * 1024 * 1024;

/// The pause between two looks at a condition that gives no event.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits for a condition that gives no event.
///
/// # Panics
/// When it does not hold within [`HANG`].
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, HANG, || holds().then_some(()));
}

/// Waits until this port of 127.0.0.1 refuses connections. A process that another test is starting may
/// hold a closed listener open for a moment.
///
/// # Panics
/// When it still accepts after [`HANG`].
#[track_caller]
pub fn wait_until_refused(port: u16) {
    wait_until("connections to be refused", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
    });
}

/// A port of 127.0.0.1 that refuses connections and that nobody else can get: the local port of a
/// connection, which has no listener.
pub struct ClosedPort {
    port: u16,
    _both_ends: (TcpStream, TcpStream),
}

impl ClosedPort {
    /// Holds such a port as long as the value lives.
    pub fn hold() -> ClosedPort {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let to = listener.local_addr().expect("its address");
        let holder = TcpStream::connect(to).expect("a connection");
        let (other, from) = listener.accept().expect("its other end");
        ClosedPort {
            port: from.port(),
            _both_ends: (holder, other),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The `--endpoint` argument that tries this port without TLS.
    pub fn endpoint(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it found nothing within `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    look_for(limit, look).unwrap_or_else(|| panic!("waited {limit:?} in vain for: {what}"))
}

/// Waits until `look` finds something, or `limit` is over.
pub fn look_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK_AGAIN);
    }
}
