//! A TCP proxy that fails as a test says: it cuts, stalls, delays, slows down, refuses, and drops. It stands in
//! front of a broker on 127.0.0.1, passes bytes, and knows neither TLS nor MQTT.
//!
//! One thread, `mqtt-proxy`, does everything; dropping the value ends it and closes its sockets. The proxy asks for
//! the [`Fate`] (`fate.rs`) of a connection when it accepts it. A call returns when the proxy has carried out
//! the order.
//!
//! This crate's tests compile this file without the feature, too (`tests/support/mod.rs`). So of the crate it uses
//! only what its parent brings in: `fate.rs`, and the errors.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::iter;
use std::net::{self, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use socket2::SockRef;

use super::fate::{Counting, End, Fate, PIECE};
use super::{Blame, Error};

const WAKE: Token = Token(0);
const LISTEN: Token = Token(1);
/// The sockets of all connections: an event for any of them makes the proxy look at each.
const PASS: Token = Token(2);

/// A slow link passes what it may pass in a second in at least so many pieces.
const BURSTS: u64 = 8;

/// The bytes that the system may keep for a slow link: few, so that the sender feels how slow it is. With less than
/// a few of this machine's own segments it would stop for whole seconds.
const SLOW_BUFFER: usize = 32 * 1024;

/// The most bytes of a delayed link that wait in one direction. The proxy reads no more until some have gone on.
const MOST_DELAYED: usize = 1024 * 1024;

/// The pause between two looks at what gives no event.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long the proxy tries to listen on its port again. A process that was started meanwhile may hold the old
/// listener for a moment.
const LISTEN_TIME: Duration = Duration::from_secs(5);

/// An order that takes longer than this fails.
const ORDER_TIME: Duration = Duration::from_secs(30);

/// Counts of the proxy's work so far.
#[derive(Debug, Default)]
pub struct LinkCounts {
    connections: AtomicU64,
    cuts: AtomicU64,
    stalls: AtomicU64,
    slowed: AtomicU64,
    bytes: AtomicU64,
}

impl LinkCounts {
    /// Accepted connections.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections that the proxy closed by itself.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// Connections that it stalled.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::SeqCst)
    }

    /// Connections of which it passed bytes one at a time.
    pub fn slowed(&self) -> u64 {
        self.slowed.load(Ordering::SeqCst)
    }

    /// Bytes passed on, both directions together.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

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

/// A client, the broker, and the bytes on the way between them.
struct Relay {
    client: TcpStream,
    broker: TcpStream,
    from_client: Way,
    from_broker: Way,
    fate: Fate,
    begin: Instant,
    /// When a slow link was last allowed to pass more.
    earned: Instant,
    /// Bytes taken, both directions together.
    passed: u64,
    stalled: bool,
}

impl Relay {
    fn new(
        mut client: TcpStream,
        mut broker: TcpStream,
        fate: Fate,
        registry: &Registry,
    ) -> io::Result<Relay> {
        for stream in [&mut client, &mut broker] {
            // Fails only for a peer that is gone, which the first read shows.
            let _ = stream.set_nodelay(true);
            if fate.rate.is_some() {
                let _ = SockRef::from(&*stream).set_recv_buffer_size(SLOW_BUFFER);
            }
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(stream, PASS, both)?;
        }
        let way = |counting| Way {
            counts: fate.counting == Counting::Both || fate.counting == counting,
            ..Way::default()
        };
        Ok(Relay {
            client,
            broker,
            from_client: way(Counting::FromClient),
            from_broker: way(Counting::FromBroker),
            fate,
            begin: Instant::now(),
            earned: Instant::now(),
            passed: 0,
            stalled: false,
        })
    }

    /// How long it is until this link may pass more, if that gives no event.
    fn pause(&self, now: Instant) -> Option<Duration> {
        if self.stalled {
            return None;
        }
        let slow = self.fate.rate.is_some().then_some(LOOK_AGAIN);
        let ways = [&self.from_client, &self.from_broker];
        let due = ways.into_iter().filter_map(|way| way.due(now));
        due.chain(slow).min()
    }

    /// Passes the bytes that there are; returns whether the connection stays.
    fn pass(&mut self, counts: &LinkCounts) -> bool {
        let Relay { client, broker, .. } = self;
        loop {
            if self.stalled {
                return true;
            }
            let before = self.passed;
            let (fate, passed) = (&mut self.fate, &mut self.passed);
            if let Some(rate) = fate.rate {
                let due = self.earned.elapsed().as_secs_f64() * rate as f64;
                if due >= 1.0 {
                    self.earned = Instant::now();
                    // A link that had nothing to pass does not make up for it later.
                    let most = (rate / BURSTS).max(1);
                    self.from_client.earn(due as u64, most);
                    self.from_broker.earn(due as u64, most);
                }
                // It lives as long whether it has something to pass or not.
                let age = self.begin.elapsed().as_secs_f64() * rate as f64;
                if fate.after.is_some_and(|after| age >= after as f64) {
                    fate.after = Some(0);
                }
            }
            let up = self.from_client.pass(client, broker, fate, passed, counts);
            let down = self.from_broker.pass(broker, client, fate, passed, counts);
            let (Ok(up), Ok(down)) = (up, down) else {
                return false;
            };
            let begin = self.fate.single.start;
            if !self.fate.single.is_empty() && (before..*passed).contains(&begin) {
                add(&counts.slowed, 1);
            }
            let delayed = self.from_client.is_delayed() || self.from_broker.is_delayed();
            if self.fate.after == Some(0) && !delayed {
                match self.fate.end {
                    End::Cut => {
                        add(&counts.cuts, 1);
                        return false;
                    }
                    End::Stall => {
                        add(&counts.stalls, 1);
                        self.stalled = true;
                    }
                }
            } else if self.from_client.closed && self.from_broker.closed {
                return false;
            } else if !up && !down {
                return true;
            }
        }
    }

    fn stall(&mut self, counts: &LinkCounts) {
        if !self.stalled {
            self.stalled = true;
            add(&counts.stalls, 1);
        }
    }

    fn forget(&mut self, registry: &Registry) {
        for stream in [&mut self.client, &mut self.broker] {
            // A failure does not matter: closing the stream, which comes next, does the same.
            let _ = registry.deregister(stream);
        }
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    counts: bool,
    /// Bytes that a slow link may take.
    credit: u64,
    /// Pieces that a delayed link passes on later, each with its time. An empty piece is the end.
    delayed: VecDeque<(Instant, Vec<u8>)>,
    delayed_bytes: usize,
    waiting: VecDeque<u8>,
    /// The end was read.
    ended: bool,
    /// Nothing comes behind what waits.
    last: bool,
    closed: bool,
}

impl Way {
    /// A slow link may take `more` bytes, and at most `most` at once.
    fn earn(&mut self, more: u64, most: u64) {
        self.credit = self.credit.saturating_add(more).min(most);
    }

    fn is_delayed(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// How long the next piece is still delayed. Returns `None` if there is none, or if one before it still waits.
    fn due(&self, now: Instant) -> Option<Duration> {
        let (due, _) = self.delayed.front()?;
        let is_next = self.waiting.is_empty();
        is_next.then(|| due.saturating_duration_since(now))
    }

    /// Takes one step; returns whether anything moved.
    fn pass(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        fate: &mut Fate,
        passed: &mut u64,
        counts: &LinkCounts,
    ) -> io::Result<bool> {
        let mut moved = false;
        let credit = match fate.rate {
            Some(_) => self.credit,
            None => u64::MAX,
        };
        let room = match fate.delay {
            Some(_) => self.delayed_bytes < MOST_DELAYED,
            None => self.waiting.is_empty(),
        };
        if room && !self.ended && fate.after != Some(0) && credit > 0 {
            let mut piece = [0; PIECE];
            let mut most = fate.piece(*passed);
            most = most.min(usize::try_from(credit).unwrap_or(PIECE));
            if let (true, Some(left)) = (self.counts, fate.after) {
                most = most.min(usize::try_from(left).unwrap_or(PIECE));
            }
            if let Some(length) = unless_blocked(from.read(&mut piece[..most]))? {
                moved = true;
                self.credit = credit - length as u64;
                *passed += length as u64;
                self.ended = length == 0;
                match fate.delay {
                    Some(delay) => {
                        let piece = piece[..length].to_vec();
                        self.delayed.push_back((Instant::now() + delay, piece));
                        self.delayed_bytes += length;
                    }
                    None => self.add(&piece[..length]),
                }
                if let (true, Some(left), None) = (self.counts, &mut fate.after, fate.rate) {
                    *left -= length as u64;
                }
            }
        }
        // One piece at a time, so that a peer that does not read bounds what waits.
        if self.due(Instant::now()) == Some(Duration::ZERO)
            && let Some((_, piece)) = self.delayed.pop_front()
        {
            moved = true;
            self.delayed_bytes -= piece.len();
            self.add(&piece);
        }
        while !self.waiting.is_empty() {
            let Some(length) = unless_blocked(to.write(self.waiting.as_slices().0))? else {
                return Ok(moved);
            };
            moved = true;
            add(&counts.bytes, length);
            self.waiting.drain(..length);
        }
        if self.last && !self.closed {
            self.closed = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(moved)
    }

    /// The next bytes, or the end, go on now.
    fn add(&mut self, piece: &[u8]) {
        self.last = piece.is_empty();
        self.waiting.extend(piece);
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::SeqCst);
}

fn failed(tried: &str, error: io::Error) -> Error {
    let advice =
        "check that 127.0.0.1 is up, and that this process may open more sockets and threads";
    failed_with(tried, &error.to_string(), advice).with_source(error)
}

fn failed_with(tried: &str, problem: &str, advice: &str) -> Error {
    Error::new(Blame::Configuration, tried, problem, advice)
}
