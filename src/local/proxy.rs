//! A TCP proxy that fails as the test says: it cuts, stalls, slows down, refuses, and drops. It stands
//! in front of a broker on 127.0.0.1, passes bytes, and knows neither TLS nor MQTT.
//!
//! One thread does everything; dropping the value ends it and closes its sockets. The proxy asks for the
//! [`Fate`] (`fate.rs`) of a connection when it accepts it. A call returns when the proxy has carried
//! out the order.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::iter;
use std::net::{self, Ipv4Addr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use socket2::SockRef;

use super::fate::{Counting, End, Fate, PIECE};
use super::{HANG, LOOK_AGAIN, wait_for};

const WAKE: Token = Token(0);
const LISTEN: Token = Token(1);
/// The sockets of all connections: an event for any of them makes the proxy look at each.
const PASS: Token = Token(2);

/// A slow link passes what it may pass in a second in at least so many pieces.
const BURSTS: u64 = 8;

/// The bytes that the system may keep for a slow link: few, so that the sender feels how slow it is. With less than
/// a few of this machine's own segments it would stop for whole seconds.
const SLOW_BUFFER: usize = 32 * 1024;

/// LinkCounts of the proxy's work so far.
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

pub struct Proxy {
    port: u16,
    orders: Sender<(Order, Sender<()>)>,
    waker: Waker,
    counts: Arc<LinkCounts>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of this port of 127.0.0.1; it passes everything.
    pub fn start(broker_port: u16) -> Proxy {
        let poll = Poll::new().expect("an event queue");
        let waker = Waker::new(poll.registry(), WAKE).expect("a waker");
        let counts = Arc::new(LinkCounts::default());
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
        };
        worker.listen();
        let port = worker.port;
        let thread = thread::Builder::new().name("proxy".into());
        Proxy {
            port,
            orders,
            waker,
            counts,
            thread: Some(thread.spawn(move || worker.run()).expect("a thread")),
        }
    }

    /// The next connections have these fates in turn; all later ones pass everything. The proxy's thread
    /// takes each fate when it accepts the connection.
    pub fn decide<F>(&self, fates: F)
    where
        F: IntoIterator<Item = Fate>,
        F::IntoIter: Send + 'static,
    {
        self.order(Order::Decide(Box::new(fates.into_iter())));
    }

    /// Cuts every connection that exists.
    pub fn cut_all(&self) {
        self.order(Order::CutAll);
    }

    /// Stalls every connection that exists.
    pub fn stall_all(&self) {
        self.order(Order::StallAll);
    }

    /// Closes the listener, so that connections are refused.
    pub fn refuse(&self) {
        self.order(Order::Refuse);
    }

    /// Accepts connections again, on the same port.
    pub fn listen(&self) {
        self.order(Order::Listen);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The `--endpoint` argument that reaches it.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn counts(&self) -> &Arc<LinkCounts> {
        &self.counts
    }

    fn order(&self, order: Order) {
        let (tell, done) = channel();
        self.orders.send((order, tell)).expect("the proxy to run");
        self.waker.wake().expect("the proxy to wake up");
        done.recv_timeout(HANG).expect("the order carried out");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A panic here would hide the test's own.
        let _ = self.orders.send((Order::Stop, channel().0));
        let _ = self.waker.wake();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The state of the proxy's thread.
struct Worker {
    poll: Poll,
    orders: Receiver<(Order, Sender<()>)>,
    port: u16,
    broker_port: u16,
    listener: Option<TcpListener>,
    fates: Fates,
    relays: Vec<Relay>,
    counts: Arc<LinkCounts>,
}

impl Worker {
    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            // A slow link passes more when time goes by, which gives no event.
            let is_slow = |relay: &Relay| relay.fate.rate.is_some();
            let slow = self.relays.iter().any(is_slow).then_some(LOOK_AGAIN);
            match self.poll.poll(&mut events, slow) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.expect("events"),
            }
            while let Ok((order, done)) = self.orders.try_recv() {
                if let Order::Stop = order {
                    return;
                }
                self.carry_out(order);
                // The receiver is gone only if the test has given up waiting and failed.
                let _ = done.send(());
            }
            self.accept();
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

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Decide(fates) => self.fates = fates,
            Order::CutAll => {
                // A stalled connection was counted when it stalled.
                let alive = self.relays.iter().filter(|c| !c.stalled).count();
                add(&self.counts.cuts, alive);
                self.relays.clear();
            }
            Order::StallAll => {
                for relay in &mut self.relays {
                    relay.stall(&self.counts);
                }
            }
            Order::Refuse => self.listener = None,
            Order::Listen => self.listen(),
            Order::Stop => {}
        }
    }

    /// Listens, the first time on any port, later on the same one.
    fn listen(&mut self) {
        let listener = wait_for("the proxy's port", HANG, || {
            net::TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
        listener.set_nonblocking(true).expect("a listener to poll");
        self.port = listener.local_addr().expect("its address").port();
        let mut listener = TcpListener::from_std(listener);
        let registry = self.poll.registry();
        let watched = registry.register(&mut listener, LISTEN, Interest::READABLE);
        watched.expect("a listener to watch");
        self.listener = Some(listener);
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            let client = match listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client was gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => panic!("cannot accept: {error}"),
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
            broker.set_nonblocking(true).expect("a stream to poll");
            let broker = TcpStream::from_std(broker);
            let relay = Relay::new(client, broker, fate, self.poll.registry());
            self.relays.push(relay);
        }
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
    fn new(mut client: TcpStream, mut broker: TcpStream, fate: Fate, registry: &Registry) -> Relay {
        for stream in [&mut client, &mut broker] {
            // Fails only for a peer that is gone, which the first read shows.
            let _ = stream.set_nodelay(true);
            if fate.rate.is_some() {
                let _ = SockRef::from(&*stream).set_recv_buffer_size(SLOW_BUFFER);
            }
            let both = Interest::READABLE | Interest::WRITABLE;
            let watched = registry.register(stream, PASS, both);
            watched.expect("a stream to watch");
        }
        let way = |counting| Way {
            counts: fate.counting == Counting::Both || fate.counting == counting,
            ..Way::default()
        };
        Relay {
            client,
            broker,
            from_client: way(Counting::FromClient),
            from_broker: way(Counting::FromBroker),
            fate,
            begin: Instant::now(),
            earned: Instant::now(),
            passed: 0,
            stalled: false,
        }
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
                    let most = rate / BURSTS;
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
            if self.fate.after == Some(0) {
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
    waiting: VecDeque<u8>,
    ended: bool,
    closed: bool,
}

impl Way {
    /// A slow link may take `more` bytes, and at most `most` at once.
    fn earn(&mut self, more: u64, most: u64) {
        self.credit = (self.credit + more).min(most);
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
        if self.waiting.is_empty() && !self.ended && fate.after != Some(0) && credit > 0 {
            let mut piece = [0; PIECE];
            let mut room = fate.piece(*passed);
            room = room.min(usize::try_from(credit).unwrap_or(PIECE));
            if let (true, Some(left)) = (self.counts, fate.after) {
                room = room.min(usize::try_from(left).unwrap_or(PIECE));
            }
            if let Some(length) = unless_blocked(from.read(&mut piece[..room]))? {
                moved = true;
                self.credit = credit - length as u64;
                *passed += length as u64;
                self.ended = length == 0;
                self.waiting.extend(&piece[..length]);
                if let (true, Some(left), None) = (self.counts, &mut fate.after, fate.rate) {
                    *left -= length as u64;
                }
            }
        }
        while !self.waiting.is_empty() {
            let Some(length) = unless_blocked(to.write(self.waiting.as_slices().0))? else {
                return Ok(moved);
            };
            moved = true;
            add(&counts.bytes, length);
            self.waiting.drain(..length);
        }
        if self.ended && !self.closed {
            self.closed = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(moved)
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
