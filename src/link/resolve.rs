//! Resolves the broker's name on a short-lived thread, one name at a time.
//!
//! A resolution cannot be broken off. When its attempt was given up meanwhile, the next attempt waits
//! for the same resolution, so that a name server that does not answer costs one thread. The loop's
//! thread starts and asks; a thread of its own looks up and calls back.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

/// The addresses of a name, or why there are none.
type Addresses = io::Result<Vec<SocketAddr>>;

type LookUp = Arc<dyn Fn(&str, u16) -> Addresses + Send + Sync>;

/// Resolves one name at a time, however often it is asked.
pub(crate) struct Resolver {
    look_up: LookUp,
    on_done: Arc<dyn Fn() + Send + Sync>,
    /// The running resolution, or the last one if its result was never taken.
    running: Option<Receiver<Addresses>>,
}

impl Resolver {
    /// A resolver that calls `on_done`, on its own thread, when [`Resolver::poll`] has a result.
    pub(crate) fn new(on_done: impl Fn() + Send + Sync + 'static) -> Self {
        let look_up = |host: &str, port| (host, port).to_socket_addrs().map(Iterator::collect);
        Resolver {
            look_up: Arc::new(look_up),
            on_done: Arc::new(on_done),
            running: None,
        }
    }

    /// Has each name looked up in this way.
    #[cfg(test)]
    pub(crate) fn look_up_by(
        &mut self,
        look_up: impl Fn(&str, u16) -> Addresses + Send + Sync + 'static,
    ) {
        self.look_up = Arc::new(look_up);
    }

    /// Starts a resolution unless one is running. A result that an earlier attempt never took is too
    /// old, and is dropped.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(&mut self, host: &str, port: u16) -> io::Result<()> {
        let is_running =
            |result: &Receiver<_>| matches!(result.try_recv(), Err(TryRecvError::Empty));
        if self.running.as_ref().is_some_and(is_running) {
            return Ok(());
        }
        let (sender, result) = bounded(1);
        let host = host.to_owned();
        let (look_up, on_done) = (Arc::clone(&self.look_up), Arc::clone(&self.on_done));
        let run = move || {
            // If the loop has ended nobody receives it.
            let _ = sender.send(look_up(&host, port));
            on_done();
        };
        let thread = thread::Builder::new().name("resolver".to_owned());
        thread.spawn(run)?;
        self.running = Some(result);
        Ok(())
    }

    /// Takes the result, once it is there.
    pub(crate) fn poll(&mut self) -> Option<Addresses> {
        let result = self.running.as_ref()?.try_recv().ok()?;
        self.running = None;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use crossbeam_channel::{Sender, unbounded};

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    static LOOK_UPS: AtomicUsize = AtomicUsize::new(0);
    /// The look-ups wait for this.
    static GATE: Mutex<Option<Receiver<()>>> = Mutex::new(None);

    fn close_the_gate() -> Sender<()> {
        let (open, gate) = bounded(0);
        *GATE.lock().unwrap() = Some(gate);
        open
    }

    /// RECONNECT again and again gives each attempt up: a name server that does not answer must not
    /// cost a thread each time.
    #[test]
    fn one_name_is_resolved_at_a_time_for_whichever_attempt_is_the_last() {
        let (done, is_done) = unbounded();
        let mut resolver = Resolver::new(move || done.send(()).unwrap());
        resolver.look_up_by(|_, port| {
            let number = LOOK_UPS.fetch_add(1, Ordering::SeqCst);
            let gate = GATE.lock().unwrap().clone();
            let _ = gate.unwrap().recv();
            let port = port + u16::try_from(number).unwrap();
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        });
        let start = |resolver: &mut Resolver| resolver.start("broker.example", 1000).unwrap();
        let open = close_the_gate();
        (0..100).for_each(|_| start(&mut resolver));
        assert!(resolver.poll().is_none());
        drop(open);
        is_done.recv_timeout(HANG).unwrap();
        let found = resolver.poll().unwrap().unwrap();
        assert_eq!(
            (found[0].port(), LOOK_UPS.load(Ordering::SeqCst)),
            (1000, 1)
        );
        assert!(resolver.poll().is_none(), "once");
        // A result that was never taken does not answer a later question.
        start(&mut resolver);
        is_done.recv_timeout(HANG).unwrap();
        start(&mut resolver);
        is_done.recv_timeout(HANG).unwrap();
        let found = resolver.poll().unwrap().unwrap();
        assert_eq!(
            (found[0].port(), LOOK_UPS.load(Ordering::SeqCst)),
            (1002, 3)
        );
    }
}
