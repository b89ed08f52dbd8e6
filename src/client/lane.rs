//! What goes ahead of the command queue, and wakes the loop.
//!
//! The lane is unbounded, so that neither a full queue nor the loop itself can ever keep a stop request
//! or a wake-up waiting. Any thread sends, the loop's alone receives.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;

use crate::client::command::{Command, Request};
use crate::client::doorbell::Doorbell;
use crate::client::outlet::{InboxId, Outlet};
use crate::client::ticket::Completion;

/// What goes ahead of the command queue: it is unbounded, so that neither a full queue nor the loop
/// itself can ever keep a stop request or a wake-up waiting.
#[derive(Debug)]
pub(crate) enum Urgent {
    /// PROCESSLOOP, DISCONNECT, RECONNECT or TERMINATE.
    Command(Command),
    /// A thread made itself a response queue.
    OpenInbox(Outlet),
    /// A response queue went away.
    CloseInbox(InboxId),
    /// The readiness thread has ended: the loop would never hear of the socket again.
    WatchFailed(io::Error),
}

/// Wakes the loop by injecting PROCESSLOOP, from any thread. Never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Waker {
    urgent: Sender<Urgent>,
    doorbell: Arc<Doorbell>,
    /// A PROCESSLOOP is on its way that the loop has not taken yet.
    injected: Arc<AtomicBool>,
}

impl Waker {
    pub(crate) fn new(urgent: Sender<Urgent>, doorbell: Arc<Doorbell>) -> Self {
        Waker {
            urgent,
            doorbell,
            injected: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Injects PROCESSLOOP, unless one is on its way already.
    pub(crate) fn wake(&self) {
        if !self.injected.swap(true, Ordering::AcqRel) {
            self.tell(Urgent::Command(Command {
                request: Request::ProcessLoop,
                completion: Completion::nobody(),
            }));
        }
    }

    /// Tells the loop something that goes ahead of the command queue. Once the loop has ended there
    /// is nobody left to tell, which is no error.
    pub(crate) fn tell(&self, urgent: Urgent) {
        if self.urgent.send(urgent).is_ok() {
            self.doorbell.ring();
        }
    }

    /// How much goes ahead of the command queue and was not taken yet.
    pub(crate) fn ahead(&self) -> usize {
        self.urgent.len()
    }

    /// The loop took the PROCESSLOOP: what happens from now on needs a new one.
    pub(crate) fn taken(&self) {
        // Not a mere store: whoever found one on its way has to be seen with what it came for.
        self.injected.swap(false, Ordering::AcqRel);
    }
}
