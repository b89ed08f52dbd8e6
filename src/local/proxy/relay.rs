//! A connection through the proxy: two sockets, the bytes on the way between them, and how its fate treats them.
//!
//! The proxy's thread passes bytes, and does not wait here. Any thread may read the counts.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::super::fate::{Counting, End, Fate, PIECE};

/// The sockets of all connections: an event for any of them makes the proxy look at each. The proxy has two more tokens.
const PASS: Token = Token(2);

/// A slow link passes what it may pass in a second in at least so many pieces.
const BURSTS: u64 = 8;

/// The bytes that the system may keep for a slow link: few, so that the sender feels how slow it is. With less than
/// a few of this machine's own segments it would stop for whole seconds.
const SLOW_BUFFER: usize = 32 * 1024;

/// The most bytes of a delayed link that wait in one direction. The proxy reads no more until some have gone on.
const MOST_DELAYED: usize = 1024 * 1024;

/// The pause between two looks at what gives no event.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Counts of the proxy's work so far.
#[derive(Debug, Default)]
pub struct LinkCounts {
    pub(super) connections: AtomicU64,
    pub(super) cuts: AtomicU64,
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

/// A client, the broker, and the bytes on the way between them.
pub(super) struct Relay {
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
    pub(super) stalled: bool,
}

impl Relay {
    pub(super) fn new(
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
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        if self.stalled {
            return None;
        }
        let slow = self.fate.rate.is_some().then_some(LOOK_AGAIN);
        let ways = [&self.from_client, &self.from_broker];
        let due = ways.into_iter().filter_map(|way| way.due(now));
        due.chain(slow).min()
    }

    /// Passes the bytes that there are; returns whether the connection stays.
    pub(super) fn pass(&mut self, counts: &LinkCounts) -> bool {
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

    pub(super) fn stall(&mut self, counts: &LinkCounts) {
        if !self.stalled {
            self.stalled = true;
            add(&counts.stalls, 1);
        }
    }

    pub(super) fn forget(&mut self, registry: &Registry) {
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

pub(super) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::SeqCst);
}
