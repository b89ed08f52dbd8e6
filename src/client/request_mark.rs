//! \[2\] How the loop learns that a command other than PUBLISH is queued, or waits for room: with MQTT 5 such a command must
//! not wait until the broker takes another PUBLISH [MQTT-3.3.4-8]. Any thread makes and drops marks; the loop's reads the
//! count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts as long as it lives: each such command has one, from when it is pushed until the loop takes it or the thread gets
/// it back. The default one counts nothing: that of a command which is not pushed yet.
#[derive(Debug, Default)]
pub(crate) struct RequestMark(Option<Arc<AtomicU64>>);

impl RequestMark {
    /// One more of these.
    pub(crate) fn new(requests: &Arc<AtomicU64>) -> Self {
        // The bell is rung behind the command, so the loop that looks for it sees this.
        requests.fetch_add(1, Ordering::Relaxed);
        RequestMark(Some(Arc::clone(requests)))
    }
}

impl Drop for RequestMark {
    fn drop(&mut self) {
        if let Some(requests) = &self.0 {
            requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
