//! A TCP proxy that fails as a test says: it cuts, stalls, delays, slows down, refuses, and drops. It stands in
//! front of a broker on 127.0.0.1, passes bytes, and knows neither TLS nor MQTT.
//!
//! One thread, `mqtt-proxy`, does everything; dropping the value ends it and closes its sockets. The proxy asks for
//! the [`Fate`] (`fate.rs`) of a connection when it accepts it. A call returns when the proxy has carried out
//! the order.
//!
//! `proxy/relay.rs` passes the bytes of a connection.
//!
//! This crate's tests compile this file without the feature, too (`tests/support/mod.rs`). So of the crate it uses
//! only what its parent brings in: `fate.rs`, and the errors.

// The path stands here for the tests, which include this file from elsewhere.
#[path = "proxy/relay.rs"]
mod relay;

use std::io::{self, ErrorKind};
use std::iter;
use std::net::{self, Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

pub use self::relay::LinkCounts;
use self::relay::{LOOK_AGAIN, Relay, add};
use super::fate::{End, Fate};
use super::{Blame, Error};

const WAKE: Token = Token(0);
const LISTEN: Token = Token(1);

/// How long the proxy tries to listen on its port again. A process that was started meanwhile may hold the old
/// listener for a moment.
const LISTEN_TIME: Duration = Duration::from_secs(5);

/// An order that takes longer than this fails.
const ORDER_TIME: Duration = Duration::from_secs(30);

/// The fates of the connections to come, in turn.
type Fates = Box<dyn Iterator<Item = Fate> + Send>;

enum Order {
    Decide(Fates),
    CutAll,
    StallAll,
    Refuse,
    Listen,
    Stop,
}

/// A TCP proxy on 127.0.0.1 in front of a broker on the same machine. Its links fail as a test says.
///
/// Each call is an order to the proxy's thread and returns when that has carried it out. Any thread may call. Dropping
/// the value cuts every connection and closes the port.
///
/// # Errors
/// Every order fails with [`Blame::Configuration`] once the proxy's thread has ended: because the system refused it a
/// socket (the error says why), or because the fates panicked.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    orders: Sender<(Order, Sender<Result<(), Error>>)>,
    waker: Waker,
    counts: Arc<LinkCounts>,
    /// The reason why the thread has ended, if it ended by itself.
    failure: Arc<OnceLock<Error>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of this port of 127.0.0.1, on a port that the system chooses. It passes everything. While
    /// nothing listens on the broker's port, the proxy accepts connections and drops them.
    ///
    /// # Errors
    /// [`Blame::Configuration`] if the system has no socket or no thread for it.
    pub fn start(broker_port: u16) -> Result<Proxy, Error> {
        const TRIED: &str = "starting the proxy";
        let poll = Poll::new().map_err(|error| failed(TRIED, error))?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(|error| failed(TRIED, error))?;
        let counts = Arc::new(LinkCounts::default());
        let failure = Arc::new(OnceLock::new());
        let (orders, taken) = channel();
        let mut worker = Worker {
            poll,
            orders: taken,
            port: 0,
            broker_port,
            listener: None,
            fates: Box::new(iter::empty()),
            relays: Vec::new(),
            counts: Arc::clone(&counts),
            failure: Arc::clone(&failure),
        };
        worker.listen()?;
        let port = worker.port;
        let thread = thread::Builder::new()
            .name("mqtt-proxy".into())
            .spawn(move || worker.run())
            .map_err(|error| failed(TRIED, error))?;
        Ok(Proxy {
            port,
            orders,
            waker,
            counts,
            failure,
            thread: Some(thread),
        })
    }

    /// The next connections have these fates in turn; all later ones pass everything. Connections that exist keep
    /// theirs. The proxy's thread takes each fate from the iterator when it accepts the connection, so the iterator
    /// must neither wait nor panic.
    ///
    /// # Errors
    /// See [`Proxy`].
    pub fn decide<F>(&self, fates: F) -> Result<(), Error>
    where
        F: IntoIterator<Item = Fate>,
        F::IntoIter: Send + 'static,
    {
        self.order(Order::Decide(Box::new(fates.into_iter())))
    }

    /// Cuts every connection that exists. New ones are accepted.
    ///
    /// # Errors
    /// See [`Proxy`].
    pub fn cut_all(&self) -> Result<(), Error> {
        self.order(Order::CutAll)
    }

    /// Stalls every connection that exists: it stays open and passes nothing more. New ones pass what they should.
    ///
    /// # Errors
    /// See [`Proxy`].
    pub fn stall_all(&self) -> Result<(), Error> {
        self.order(Order::StallAll)
    }

    /// Closes the listener: the system refuses new connections. Those that exist stay.
    ///
    /// # Errors
    /// See [`Proxy`].
    pub fn refuse(&self) -> Result<(), Error> {
        self.order(Order::Refuse)
    }

    /// Accepts connections again, on the same port.
    ///
    /// # Errors
    /// [`Blame::Configuration`] if another program took the port meanwhile; otherwise see [`Proxy`].
    pub fn listen(&self) -> Result<(), Error> {
        self.order(Order::Listen)
    }

    /// The TCP port on 127.0.0.1; it stays the same.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address and port, for programs that take both in one word.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Counts of the work so far. They can be read on any thread, also when the proxy is gone.
    pub fn counts(&self) -> &Arc<LinkCounts> {
        &self.counts
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        let (tell, done) = channel();
        // Both fail only if the thread has ended, which the answer shows.
        let _ = self.orders.send((order, tell));
        let _ = self.waker.wake();
        match done.recv_timeout(ORDER_TIME) {
            Ok(result) => result,
            Err(_) => Err(self.failure.get().cloned().unwrap_or_else(|| {
                let problem = "its thread has ended, or does not answer";
                failed_with(
                    "giving the proxy an order",
                    problem,
                    "see whether the fates panicked or wait",
                )
            })),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A thread that has ended needs no order, and its panic was reported when it happened.
        let _ = self.orders.send((Order::Stop, channel().0));
        let _ = self.waker.wake();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The state of the proxy's thread.
struct Worker {
    poll: Poll,
    orders: Receiver<(Order, Sender<Result<(), Error>>)>,
    port: u16,
    broker_port: u16,
    listener: Option<TcpListener>,
    fates: Fates,
    relays: Vec<Relay>,
    counts: Arc<LinkCounts>,
    failure: Arc<OnceLock<Error>>,
}

impl Worker {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            log::error!("{error}");
            // Before the queue of orders goes: a caller that finds it gone finds the reason.
            let _ = self.failure.set(error);
        }
    }

    /// Returns after the order to stop.
    fn serve(&mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(64);
        loop {
            match self.poll.poll(&mut events, self.pause()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => {
                    result.map_err(|error| failed("waiting for the proxy's sockets", error))?
                }
            }
            while let Ok((order, done)) = self.orders.try_recv() {
                if let Order::Stop = order {
                    return Ok(());
                }
                let result = self.carry_out(order);
                // The receiver is gone only if the caller has given up waiting.
                let _ = done.send(result);
            }
            self.accept()?;
            let (counts, registry) = (&self.counts, self.poll.registry());
            self.relays.retain_mut(|relay| {
                let stays = relay.pass(counts);
                if !stays {
                    relay.forget(registry);
                }
                stays
            });
        }
    }

    /// How long to wait for an event: links that are slow or delayed pass more when time goes by, which gives none.
    fn pause(&self) -> Option<Duration> {
        let now = Instant::now();
        self.relays
            .iter()
            .filter_map(|relay| relay.pause(now))
            .min()
    }

    fn carry_out(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Decide(fates) => self.fates = fates,
            Order::CutAll => {
                // A stalled connection was counted when it stalled.
                let alive = self.relays.iter().filter(|relay| !relay.stalled).count();
                add(&self.counts.cuts, alive);
                self.relays.clear();
            }
            Order::StallAll => {
                for relay in &mut self.relays {
                    relay.stall(&self.counts);
                }
            }
            Order::Refuse => self.listener = None,
            Order::Listen => self.listen()?,
            Order::Stop => {}
        }
        Ok(())
    }

    /// Listens, the first time on any port, later on the same one.
    fn listen(&mut self) -> Result<(), Error> {
        if self.listener.is_some() {
            return Ok(());
        }
        let deadline = Instant::now() + LISTEN_TIME;
        let listener = loop {
            match net::TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)) {
                Err(_) if Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
                result => {
                    break result.and_then(|listener| {
                        listener.set_nonblocking(true)?;
                        self.port = listener.local_addr()?.port();
                        let mut listener = TcpListener::from_std(listener);
                        let registry = self.poll.registry();
                        registry.register(&mut listener, LISTEN, Interest::READABLE)?;
                        Ok(listener)
                    });
                }
            }
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let tried = format!("listening on {address} for the proxy");
        self.listener = Some(listener.map_err(|error| failed(&tried, error))?);
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Error> {
        const TRIED: &str = "accepting a connection for the proxy";
        while let Some(listener) = &self.listener {
            let client = match listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client was gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(failed(TRIED, error)),
            };
            let fate = self.fates.next().unwrap_or_else(Fate::pass);
            // Counted behind the choice: a test that sees this count also sees what the choice counts.
            add(&self.counts.connections, 1);
            if fate.after == Some(0) && fate.end == End::Cut {
                add(&self.counts.cuts, 1);
                continue;
            }
            // The system of this machine settles this at once. Without a broker the client is dropped.
            let Ok(broker) = net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.broker_port))
            else {
                continue;
            };
            let relay = broker.set_nonblocking(true).and_then(|()| {
                let broker = TcpStream::from_std(broker);
                Relay::new(client, broker, fate, self.poll.registry())
            });
            self.relays
                .push(relay.map_err(|error| failed(TRIED, error))?);
        }
        Ok(())
    }
}

fn failed(tried: &str, error: io::Error) -> Error {
    let advice =
        "check that 127.0.0.1 is up, and that this process may open more sockets and threads";
    failed_with(tried, &error.to_string(), advice).with_source(error)
}

fn failed_with(tried: &str, problem: &str, advice: &str) -> Error {
    Error::new(Blame::Configuration, tried, problem, advice)
}
