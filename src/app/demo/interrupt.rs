//! Stopping the demo from outside: Ctrl-C, SIGTERM, or the caller.
//!
//! The first request ends the loop that runs (TERMINATE) and wakes the main thread from its waiting. The
//! program answers the second one by leaving at once. Any thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::{Ended, Handle};

/// Set once, seen by everybody.
#[derive(Debug)]
pub(crate) struct Interrupt {
    requested: AtomicBool,
    /// The handle of the loop that runs, if one does, and how long it may take to finish.
    running: Mutex<Option<(Handle, Duration)>>,
    /// Why the last loop had no connection at its end.
    unconnected: Mutex<Option<Error>>,
    sender: Mutex<Option<Sender<()>>>,
    /// Disconnected by the request.
    requests: Receiver<()>,
}

impl Default for Interrupt {
    fn default() -> Self {
        let (sender, requests) = bounded(0);
        Interrupt {
            requested: AtomicBool::new(false),
            running: Mutex::new(None),
            unconnected: Mutex::new(None),
            sender: Mutex::new(Some(sender)),
            requests,
        }
    }
}

impl Interrupt {
    /// Asks for the end.
    pub(crate) fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
        lock(&self.sender).take();
        if let Some((handle, grace)) = lock(&self.running).as_ref() {
            drop(handle.terminate(*grace));
        }
    }

    /// Whether the end was asked for.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// From now on a request ends the loop behind this handle; at once, if it came before. Messages in
    /// flight may take `grace` to finish.
    pub(crate) fn watch(&self, handle: Handle, grace: Duration) {
        let mut running = lock(&self.running);
        if self.is_requested() {
            drop(handle.terminate(grace));
        }
        *running = Some((handle, grace));
    }

    /// The loop has ended.
    pub(crate) fn loop_ended(&self, ended: &Ended) {
        lock(&self.running).take();
        lock(&self.unconnected).clone_from(&ended.unconnected);
    }

    /// Why there was no connection when the end was asked for, if there was none.
    pub(crate) fn unconnected(&self) -> Option<Error> {
        lock(&self.unconnected).clone()
    }

    /// Disconnected once the end is asked for.
    pub(crate) fn requests(&self) -> &Receiver<()> {
        &self.requests
    }

    /// Waits this long, or until the end is asked for.
    pub(crate) fn wait(&self, time: Duration) {
        // Nothing is ever sent: it ends by time, or by the request.
        let _ = self.requests.recv_timeout(time);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
