//! TCP to the addresses of one name: the next address is tried beside the ones before it after 250 ms (RFC 8305),
//! and at once when one of them failed.
//!
//! The first connection wins, and the others are given up. Where the winner turns out to be of no use, the race
//! goes on among the addresses that have not failed. Non-blocking; the loop's thread.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::error::exhaustion;
use crate::link::plain;
use crate::link::readiness::Readiness;

/// How long an address is tried alone (RFC 8305, 8: the recommended value).
const HEAD_START: Duration = Duration::from_millis(250);

/// Advice for an address that is valid on one network interface only.
const ZONE: &str = "name the network interface behind the address in `host`, as in fe80::1%eth0";

/// How many addresses of a name are tried.
const MOST_ADDRESSES: usize = 8;

/// The addresses that have not failed.
pub(crate) struct Race {
    /// Those that are not being tried, in order.
    rest: VecDeque<SocketAddr>,
    running: Vec<Runner>,
    /// Those that were begun since [`Race::take_begun`] was called last.
    begun: Vec<(Instant, SocketAddr)>,
    /// When the next one is tried beside those.
    next_at: Option<Instant>,
}

struct Runner {
    socket: TcpStream,
    to: SocketAddr,
    deadline: Instant,
}

/// One event of a race.
pub(crate) enum RaceEvent {
    /// Nothing for now.
    Pending,
    /// TCP is there. The readiness thread watches the socket.
    Connected(TcpStream, SocketAddr),
    /// An address failed.
    Failed {
        to: SocketAddr,
        problem: String,
        advice: &'static str,
        /// The system's error, if there was one.
        cause: Option<io::Error>,
    },
    /// No address is left.
    Over,
}

impl Race {
    /// A race among these addresses, each once and eight at most, IPv6 and IPv4 in turn (RFC 8305, 4). If `first`
    /// is among them, it goes first.
    pub(crate) fn new(found: Vec<SocketAddr>, first: Option<SocketAddr>) -> Self {
        let mut once = Vec::new();
        for address in found {
            if !once.contains(&address) {
                once.push(address);
            }
        }
        let leading = once.first().is_some_and(SocketAddr::is_ipv6);
        let of_family = |leads: bool| {
            once.iter()
                .filter(move |a| (a.is_ipv6() == leading) == leads)
        };
        let (mut leaders, mut others) = (of_family(true), of_family(false));
        let mut rest = VecDeque::with_capacity(once.len());
        while rest.len() < once.len() {
            rest.extend(leaders.next());
            rest.extend(others.next());
        }
        if let Some(place) = rest.iter().position(|address| Some(*address) == first)
            && let Some(first) = rest.remove(place)
        {
            rest.push_front(first);
        }
        rest.truncate(MOST_ADDRESSES);
        Race {
            rest,
            running: Vec::new(),
            begun: Vec::new(),
            next_at: None,
        }
    }

    /// How many addresses have not failed.
    pub(crate) fn left(&self) -> usize {
        self.rest.len() + self.running.len()
    }

    /// The addresses that TCP was begun with since the last call, and when.
    pub(crate) fn take_begun(&mut self) -> Vec<(Instant, SocketAddr)> {
        std::mem::take(&mut self.begun)
    }

    /// The addresses that have not failed, in the order in which they are tried.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let running = self.running.iter().map(|runner| runner.to);
        running.chain(self.rest.iter().copied()).collect()
    }

    /// The addresses that are being tried, separated by commas.
    pub(crate) fn tried(&self) -> String {
        let tried = self.running.iter().map(|runner| runner.to.to_string());
        tried.collect::<Vec<_>>().join(", ")
    }

    /// Goes on without blocking, up to the next event. Each address may take `time_limit`.
    pub(crate) fn poll(
        &mut self,
        time_limit: Duration,
        readiness: &Readiness,
        now: Instant,
    ) -> RaceEvent {
        loop {
            for place in 0..self.running.len() {
                let runner = &self.running[place];
                let (problem, cause) = match is_connected(&runner.socket) {
                    Ok(true) => return self.won_by(place, readiness),
                    Ok(false) if now < runner.deadline => continue,
                    Ok(false) => (format!("no answer within {time_limit:?}"), None),
                    Err(error) => (plain(&error), Some(error)),
                };
                let mut runner = self.running.remove(place);
                readiness.unwatch(&mut runner.socket);
                self.next_at = None;
                return RaceEvent::Failed {
                    to: runner.to,
                    problem,
                    advice: "check that the broker runs, the port, and any firewall between",
                    cause,
                };
            }
            let is_due = self.next_at.is_none_or(|at| at <= now);
            let next = match is_due {
                true => self.rest.pop_front(),
                false => None,
            };
            match next {
                Some(to) => {
                    if let Err(error) = self.start(to, time_limit, readiness, now) {
                        let advice = match to {
                            SocketAddr::V6(to) if to.ip().is_unicast_link_local() => ZONE,
                            _ => "check the network of this machine",
                        };
                        return RaceEvent::Failed {
                            to,
                            problem: plain(&error),
                            advice: exhaustion(&error).unwrap_or(advice),
                            cause: Some(error),
                        };
                    }
                }
                None if self.running.is_empty() => return RaceEvent::Over,
                None => return RaceEvent::Pending,
            }
        }
    }

    /// When [`Race::poll`] has to be called again at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let next = self.next_at.filter(|_| !self.rest.is_empty());
        let deadlines = self.running.iter().map(|runner| runner.deadline);
        deadlines.chain(next).min()
    }

    fn start(
        &mut self,
        to: SocketAddr,
        time_limit: Duration,
        readiness: &Readiness,
        now: Instant,
    ) -> io::Result<()> {
        let mut socket = TcpStream::connect(to)?;
        readiness.watch(&mut socket, true, true)?;
        if let Some(runner) = self.running.last() {
            let first = runner.to;
            log::info!("{first} has not answered within {HEAD_START:?}; trying {to} beside it");
        }
        self.begun.push((Instant::now(), to));
        self.running.push(Runner {
            socket,
            to,
            deadline: now + time_limit,
        });
        self.next_at = Some(now + HEAD_START);
        Ok(())
    }

    /// Gives the others up: they may be tried again.
    fn won_by(&mut self, place: usize, readiness: &Readiness) -> RaceEvent {
        let winner = self.running.remove(place);
        for mut runner in self.running.drain(..).rev() {
            readiness.unwatch(&mut runner.socket);
            self.rest.push_front(runner.to);
        }
        self.next_at = None;
        RaceEvent::Connected(winner.socket, winner.to)
    }
}

/// Returns whether a non-blocking connect has ended well, or an error if it has failed.
pub(super) fn is_connected(socket: &TcpStream) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::link::black_hole::BlackHole;

    const LIMIT: Duration = Duration::from_secs(10);
    const MOMENT: Duration = Duration::from_millis(1);

    fn readiness() -> Readiness {
        let mut readiness = Readiness::default();
        readiness.start(|| {}, |error| panic!("{error}")).unwrap();
        readiness
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The next event at this time. The system has some time to tell of it.
    fn next(race: &mut Race, readiness: &Readiness, now: Instant) -> RaceEvent {
        let begin = Instant::now();
        loop {
            match race.poll(LIMIT, readiness, now) {
                RaceEvent::Pending => assert!(begin.elapsed() < Duration::from_secs(60)),
                event => return event,
            }
            thread::yield_now();
        }
    }

    #[test]
    fn families_take_turns_and_each_address_is_tried_once_and_eight_at_most() {
        for (found, first, expected) in [
            (
                &[
                    "1.1.1.1:1",
                    "[::1]:1",
                    "1.1.1.2:1",
                    "1.1.1.1:1",
                    "1.1.1.3:1",
                ][..],
                None,
                &["1.1.1.1:1", "[::1]:1", "1.1.1.2:1", "1.1.1.3:1"][..],
            ),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"],
                None,
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"],
            ),
            // The one that goes first, if the name still has it.
            (
                &["[::1]:1", "[::2]:1", "1.1.1.1:1"],
                Some("[::2]:1"),
                &["[::2]:1", "[::1]:1", "1.1.1.1:1"],
            ),
            (
                &["[::1]:1", "1.1.1.1:1"],
                Some("1.1.1.2:1"),
                &["[::1]:1", "1.1.1.1:1"],
            ),
            (
                &[
                    "1.1.1.1:1",
                    "1.1.1.1:2",
                    "1.1.1.1:3",
                    "1.1.1.1:4",
                    "1.1.1.1:5",
                    "1.1.1.1:6",
                    "1.1.1.1:7",
                    "1.1.1.1:8",
                    "1.1.1.1:9",
                    "[::1]:1",
                ],
                Some("1.1.1.1:9"),
                &[
                    "1.1.1.1:9",
                    "1.1.1.1:1",
                    "[::1]:1",
                    "1.1.1.1:2",
                    "1.1.1.1:3",
                    "1.1.1.1:4",
                    "1.1.1.1:5",
                    "1.1.1.1:6",
                ],
            ),
            (&[], None, &[]),
        ] {
            let first = first.map(|text| text.parse().unwrap());
            let race = Race::new(addresses(found), first);
            assert_eq!(Vec::from(race.rest), addresses(expected));
        }
    }

    #[test]
    fn an_address_that_does_not_answer_has_a_head_start_and_then_company() {
        let readiness = readiness();
        let hole = BlackHole::open([127, 0, 0, 1]);
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let good_address = good.local_addr().unwrap();
        let mut race = Race::new(vec![hole.address(), good_address], None);
        let begin = Instant::now();
        let mut poll = |at| race.poll(LIMIT, &readiness, begin + at);
        assert!(matches!(poll(Duration::ZERO), RaceEvent::Pending));
        let polled = Instant::now();
        assert!(matches!(poll(HEAD_START - MOMENT), RaceEvent::Pending));
        assert_eq!(race.deadline(), Some(begin + HEAD_START));
        let begun = race.take_begun();
        assert!(
            begun[..]
                .iter()
                .all(|(at, to)| *at <= polled && *to == hole.address()),
            "{begun:?}"
        );
        assert_eq!(begun.len(), 1);
        let RaceEvent::Connected(_, to) = next(&mut race, &readiness, begin + HEAD_START) else {
            panic!("not connected");
        };
        assert_eq!(to, good_address);
        // The other one was given up, and may be tried again.
        assert_eq!((race.left(), race.running.len()), (1, 0));
        assert!(matches!(
            race.poll(LIMIT, &readiness, begin),
            RaceEvent::Pending
        ));
        assert_eq!(race.deadline(), Some(begin + LIMIT));
        let RaceEvent::Failed { to, problem, .. } = next(&mut race, &readiness, begin + LIMIT)
        else {
            panic!("no failure");
        };
        assert_eq!((to, &problem[..]), (hole.address(), "no answer within 10s"));
        assert!(matches!(
            next(&mut race, &readiness, begin),
            RaceEvent::Over
        ));
    }

    #[test]
    fn the_next_address_does_not_wait_for_one_that_failed() {
        let readiness = readiness();
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let good_address = good.local_addr().unwrap();
        // Nothing listens on this port of the other address.
        let closed = SocketAddr::from(([127, 0, 0, 2], good_address.port()));
        let mut race = Race::new(vec![closed, good_address], None);
        let now = Instant::now();
        let RaceEvent::Failed { to, problem, .. } = next(&mut race, &readiness, now) else {
            panic!("no failure");
        };
        assert_eq!((to, &problem[..]), (closed, "nothing listens on that port"));
        let RaceEvent::Connected(_, to) = next(&mut race, &readiness, now) else {
            panic!("not connected");
        };
        assert_eq!(to, good_address);
        assert!(matches!(next(&mut race, &readiness, now), RaceEvent::Over));
    }

    #[test]
    fn an_address_that_is_late_may_still_be_the_first_to_answer() {
        let readiness = readiness();
        let holes = [1, 2, 3].map(|last| BlackHole::open([127, 0, 0, last]));
        let late = TcpListener::bind("127.0.0.4:0").unwrap();
        let mut all: Vec<_> = holes.iter().map(BlackHole::address).collect();
        all.push(late.local_addr().unwrap());
        let mut race = Race::new(all, None);
        let begin = Instant::now();
        for others in 0..3 {
            let now = begin + HEAD_START * others;
            assert!(matches!(
                race.poll(LIMIT, &readiness, now),
                RaceEvent::Pending
            ));
            assert_eq!(race.running.len() as u32, others + 1);
        }
        let now = begin + HEAD_START * 3;
        let RaceEvent::Connected(_, to) = next(&mut race, &readiness, now) else {
            panic!("not connected");
        };
        assert_eq!(to, late.local_addr().unwrap());
        assert_eq!(race.left(), 3);
    }
}
