//! \[7\] The readiness thread: it calls back when the socket can be read or written.
//!
//! The thread knows nothing of MQTT or TLS and never touches the socket's data. A socket is watched
//! only while its owner waits for it. If the socket is ready when watching begins, that is an event,
//! too. Readiness is edge-triggered and may be spurious: the owner repeats reading and writing until
//! that would block.

use std::io;
use std::thread::{self, JoinHandle};

use mio::event::Source;
use mio::{Events, Interest, Poll, Registry, Token};

const SOCKET: Token = Token(0);
const STOP: Token = Token(1);

/// The readiness thread and the sockets that it watches. Dropping it ends the thread.
#[derive(Default)]
pub(crate) struct Readiness {
    /// `None` until the thread is started.
    watcher: Option<Watcher>,
}

struct Watcher {
    registry: Registry,
    stop: mio::Waker,
    thread: Option<JoinHandle<()>>,
}

impl Readiness {
    /// Starts the thread. It calls `on_ready` when a watched socket is ready, and `on_failure` once if
    /// the system's event queue fails: no socket is watched from then on.
    ///
    /// # Errors
    /// The system has no thread or no event queue left.
    pub(crate) fn start(
        &mut self,
        on_ready: impl Fn() + Send + 'static,
        on_failure: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<()> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let stop = mio::Waker::new(poll.registry(), STOP)?;
        let thread = thread::Builder::new()
            .name("readiness".to_owned())
            .spawn(move || watch(poll, on_ready, on_failure))?;
        self.watcher = Some(Watcher {
            registry,
            stop,
            thread: Some(thread),
        });
        Ok(())
    }

    /// Watches a socket from now on: whether it can be read, written, or either. If it is ready
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

fn watch(mut poll: Poll, on_ready: impl Fn(), on_failure: impl FnOnce(io::Error)) {
    let mut events = Events::with_capacity(16);
    loop {
        match poll.poll(&mut events, None) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                on_failure(error);
                return;
            }
        }
        if events.iter().any(|event| event.token() == STOP) {
            return;
        }
        if !events.is_empty() {
            on_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    #[test]
    fn a_socket_that_is_ready_when_watching_begins_calls_back() {
        let (ready, is_ready) = channel();
        let mut readiness = Readiness::default();
        let on_failure = |error| panic!("{error}");
        readiness
            .start(move || ready.send(()).unwrap(), on_failure)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let mut socket = mio::net::TcpStream::from_std(stream);
        peer.write_all(b"there before it is watched").unwrap();
        readiness.watch(&mut socket, true, false).unwrap();
        is_ready.recv_timeout(HANG).unwrap();
        readiness.unwatch(&mut socket);
        is_ready.try_iter().for_each(drop);
        peer.write_all(b"not watched").unwrap();
        readiness.watch(&mut socket, true, true).unwrap();
        is_ready.recv_timeout(HANG).unwrap();
        drop(readiness);
        is_ready.try_iter().for_each(drop);
        assert!(is_ready.recv().is_err(), "the thread has ended");
    }

    #[test]
    fn nothing_is_watched_before_the_thread_runs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut socket = mio::net::TcpStream::connect(address).unwrap();
        let refused = Readiness::default().watch(&mut socket, true, true);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}
