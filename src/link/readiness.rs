//! \[7\] The readiness thread: when the socket can be read or written, it injects PROCESSLOOP.
//!
//! It knows nothing of MQTT or TLS and never touches the socket's data. A socket is watched only while
//! somebody waits for it; what is there already when that begins is an event, too. Readiness is
//! edge-triggered and may be spurious: whoever is woken repeats reading and writing until that would
//! block. Several events before the loop gets to them are one PROCESSLOOP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;
use mio::event::Source;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::client::command::{Command, Request, Urgent};
use crate::client::doorbell::Doorbell;
use crate::client::ticket::Completion;

const SOCKET: Token = Token(0);
const STOP: Token = Token(1);

/// Wakes the loop by injecting PROCESSLOOP, from any thread. Never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Waker {
    urgent: Sender<Urgent>,
    doorbell: Arc<Doorbell>,
    /// A PROCESSLOOP is on its way that the loop has not taken yet.
    injected: Arc<AtomicBool>,
}

/// The readiness thread and the sockets that it watches. Dropping it ends the thread.
#[derive(Default)]
pub(crate) struct Readiness {
    /// `None` until the loop runs.
    watcher: Option<Watcher>,
}

struct Watcher {
    registry: Registry,
    stop: mio::Waker,
    thread: Option<JoinHandle<()>>,
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

impl Readiness {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread or no event queue left.
    pub(crate) fn start(&mut self, waker: Waker) -> io::Result<()> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let stop = mio::Waker::new(poll.registry(), STOP)?;
        let thread = thread::Builder::new()
            .name("readiness".to_owned())
            .spawn(move || watch(poll, &waker))?;
        self.watcher = Some(Watcher {
            registry,
            stop,
            thread: Some(thread),
        });
        Ok(())
    }

    /// Watches a socket from now on, for whether it can be read, written, or both. If it is ready
    /// already, that is an event.
    ///
    /// # Errors
    /// As the system says; [`io::ErrorKind::NotConnected`] before the thread runs.
    pub(crate) fn watch(
        &self,
        socket: &mut impl Source,
        reads: bool,
        writes: bool,
    ) -> io::Result<()> {
        let interest = match (reads, writes) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            (_, false) => Interest::READABLE,
        };
        match &self.watcher {
            Some(watcher) => watcher.registry.register(socket, SOCKET, interest),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Stops watching a socket; to be called before it is closed.
    pub(crate) fn unwatch(&self, socket: &mut impl Source) {
        if let Some(watcher) = &self.watcher
            && let Err(error) = watcher.registry.deregister(socket)
        {
            log::debug!("a socket was not watched any more: {error}");
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Err(error) = self.stop.wake() {
            log::error!("the readiness thread cannot be stopped: {error}");
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the readiness thread panicked");
        }
    }
}

fn watch(mut poll: Poll, waker: &Waker) {
    let mut events = Events::with_capacity(16);
    loop {
        match poll.poll(&mut events, None) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                waker.tell(Urgent::Deaf(error));
                return;
            }
        }
        if events.iter().any(|event| event.token() == STOP) {
            return;
        }
        if !events.is_empty() {
            waker.wake();
        }
    }
}
