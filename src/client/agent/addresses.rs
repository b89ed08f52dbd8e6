//! Tests of a name with several addresses: the loop over real sockets, and a resolver that answers what the test
//! says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::connection::{Connection, Phase};
use super::{Agent, Client, Ended};
use crate::client::handle::Handle;
use crate::error::{Blame, Error};
use crate::link::black_hole::BlackHole;
use crate::link::resolve::Resolver;
use crate::mqtt::session::LinkLoss;
use crate::options::{Options, Security, TlsOptions};

const ACCEPTED: &[u8] = &[0x20, 2, 0, 0];
const NOT_AUTHORIZED: &[u8] = &[0x20, 2, 0, 5];
const PINGRESP: &[u8] = &[0xd0, 0];

/// How a peer treats each connection.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Answers CONNECT with this and each PINGREQ, until the client closes.
    Answers(&'static [u8]),
    /// Closes without reading.
    Closes,
    /// Reads a packet and closes.
    ReadsAndCloses,
    /// Reads until the client closes.
    SaysNothing,
    /// Answers everything with a text.
    SpeaksNoTls,
}

/// The other side of one address, and how many links and CONNECTs it got. Its thread ends with the test program.
struct Peer {
    address: SocketAddr,
    connects: Arc<AtomicUsize>,
    links: Arc<AtomicUsize>,
}

impl Peer {
    fn start(manner: Manner) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer {
            address: listener.local_addr().unwrap(),
            connects: Arc::default(),
            links: Arc::default(),
        };
        let (connects, links) = (Arc::clone(&peer.connects), Arc::clone(&peer.links));
        thread::spawn(move || {
            for link in listener.incoming() {
                links.fetch_add(1, Ordering::SeqCst);
                let _ = serve(link.unwrap(), manner, &connects);
            }
        });
        peer
    }

    fn links(&self) -> usize {
        self.links.load(Ordering::SeqCst)
    }

    fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }
}

fn serve(mut link: TcpStream, manner: Manner, connects: &AtomicUsize) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    if let Manner::Closes = manner {
        return link.shutdown(Shutdown::Both);
    }
    while let length @ 1.. = link.read(&mut bytes)? {
        if bytes[0] == 0x10 {
            connects.fetch_add(1, Ordering::SeqCst);
        }
        match manner {
            Manner::Answers(answer) if bytes[0] == 0x10 => link.write_all(answer)?,
            // Here and there PINGREQ comes together with other packets.
            Manner::Answers(_) if bytes[..length].contains(&0xc0) => link.write_all(PINGRESP)?,
            Manner::ReadsAndCloses => return Ok(()),
            Manner::SpeaksNoTls => link.write_all(b"no TLS here, and more than a header\r\n")?,
            _ => {}
        }
    }
    Ok(())
}

/// An address on which nothing listens, as long as the test keeps the listener on the other one.
fn closed(listener: &TcpListener) -> SocketAddr {
    let port = listener.local_addr().unwrap().port();
    SocketAddr::from(([127, 0, 0, 2], port))
}

fn options() -> Options {
    let mut options = Options::new("broker.example", "addresses");
    options.security = Security::Plain;
    options.connect_interval = Duration::ZERO;
    options.retry.base = Duration::from_millis(1);
    options.retry.max = Duration::from_millis(1);
    options.retry.attempts = 1;
    options
}

/// A loop for this client, whose broker has these addresses.
fn open(client: Client, addresses: &[SocketAddr]) -> (Agent, Handle) {
    let clean_session = client.options.clean_session;
    let (mut agent, handle) = client.open();
    let sender = agent.lane.sender();
    let mut resolver = Resolver::new(move || sender.inject_process_loop());
    let addresses = addresses.to_vec();
    resolver.look_up_by(move |_, _| Ok(addresses.clone()));
    agent.connection = Connection::new(&agent.client, clean_session, resolver, Instant::now());
    (agent, handle)
}

/// Runs such a loop until `act` has ended it.
fn run(
    client: Client,
    addresses: &[SocketAddr],
    act: impl FnOnce(Handle) + Send + 'static,
) -> Ended {
    let (agent, handle) = open(client, addresses);
    let actor = thread::spawn(move || act(handle));
    let ended = agent.run();
    actor.join().unwrap();
    ended
}

/// Waits until the broker answers, and ends the loop. It may have ended by itself before.
fn ping_and_leave(handle: Handle) {
    if let Ok(ping) = handle.ping() {
        let _ = ping.wait();
    }
    let _ = handle.terminate(Duration::ZERO).wait();
}

fn client(change: impl FnOnce(&mut Options)) -> Client {
    let mut options = options();
    change(&mut options);
    Client::new(options).unwrap()
}

#[track_caller]
fn reached(ended: Ended) -> Client {
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    assert_eq!(ended.stats.connects, 1);
    ended.client
}

fn failed(addresses: &[SocketAddr], options: Options) -> Error {
    let ended = run(Client::new(options).unwrap(), addresses, ping_and_leave);
    ended.result.unwrap_err()
}

#[test]
fn any_failure_before_connack_leads_to_the_next_address() {
    let good = Peer::start(Manner::Answers(ACCEPTED));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hole = BlackHole::open([127, 0, 0, 1]);
    let peers = [
        Manner::Closes,
        Manner::ReadsAndCloses,
        Manner::SaysNothing,
        Manner::Answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Manner::Answers(&[0x20, 2, 1, 0]),
    ]
    .map(|manner| (format!("{manner:?}"), Peer::start(manner)));
    let mut firsts: Vec<_> = peers
        .iter()
        .map(|(manner, peer)| (manner.as_str(), peer.address))
        .collect();
    firsts.push(("closed", closed(&listener)));
    firsts.push(("hole", hole.address()));
    for (manner, first) in firsts {
        let client = client(|options| {
            options.clean_session = true;
            // Silence alone takes that long. All others would be given up, were they to take time.
            options.connect_timeout = match manner {
                "SaysNothing" => Duration::from_secs(3),
                _ => Duration::from_secs(3600),
            };
        });
        let ended = run(client, &[first, good.address], ping_and_leave);
        assert!(ended.result.is_ok(), "{manner}: {:?}", ended.result);
    }
    assert_eq!(good.connects(), 7);
}

/// TCP alone races: one address gets CONNECT.
#[test]
fn an_address_that_swallows_everything_costs_no_time_limit() {
    let hole = BlackHole::open([127, 0, 0, 1]);
    for others in 1..3 {
        let peers: Vec<_> = (0..others)
            .map(|_| Peer::start(Manner::Answers(ACCEPTED)))
            .collect();
        let mut addresses = vec![hole.address()];
        addresses.extend(peers.iter().map(|peer| peer.address));
        let client = client(|options| options.connect_timeout = Duration::from_secs(3600));
        let client = reached_again(client, &addresses);
        assert_eq!(client.last_address, Some(peers[0].address));
        let connects: usize = peers.iter().map(|peer| peer.connects()).sum();
        assert_eq!((peers[0].connects(), connects), (2, 2));
    }
}

#[test]
fn an_end_without_a_connection_tells_the_last_failure_or_what_is_under_way() {
    let hole = BlackHole::open([127, 0, 0, 1]);
    let silent = Peer::start(Manner::SaysNothing);
    let told = |address: SocketAddr, failure: Option<Error>, is_far: fn(&Agent) -> bool| {
        let (mut agent, handle) = open(client(|_| {}), &[address]);
        agent.start_readiness().unwrap();
        let begin = Instant::now();
        while !is_far(&agent) {
            assert!(begin.elapsed() < Duration::from_secs(60), "no progress");
            agent.advance_connection(begin);
            thread::yield_now();
        }
        if let Some(error) = failure {
            agent.attempt_failed(error, begin);
        }
        drop(handle);
        agent.end().unconnected.map(|error| error.to_string())
    };
    let failure = || Error::new(Blame::Network, "connecting", "no luck", "");
    // There was none to tell yet.
    assert_eq!(told(hole.address(), None, |_| true), None);
    let races = |agent: &Agent| match agent.connection.phase() {
        Phase::Connecting(attempt) => format!("{attempt:?}").contains("racing"),
        _ => false,
    };
    let text = told(hole.address(), None, races).unwrap();
    let at_hole = format!("no answer from {}, ", hole.address());
    assert!(
        text.contains(&at_hole)
            && text.contains(" s after the first attempt began; check that the broker runs"),
        "{text}"
    );
    let text = told(silent.address, None, |agent| agent.connection.is_greeting()).unwrap();
    assert!(text.contains("no answer to CONNECT, "), "{text}");
    let text = told(hole.address(), Some(failure()), races).unwrap();
    assert!(text.starts_with("connecting: 1 attempt in "), "{text}");
    assert!(text.ends_with(" s, the last one: no luck"), "{text}");
}

#[test]
fn a_refusal_is_an_answer_and_ends_the_attempt() {
    let refusing = Peer::start(Manner::Answers(NOT_AUTHORIZED));
    let good = Peer::start(Manner::Answers(ACCEPTED));
    let error = failed(&[refusing.address, good.address], options());
    assert_eq!(error.blame(), Blame::Refused);
    assert!(
        error.problem().contains(&refusing.address.to_string()),
        "{error}"
    );
    assert_eq!((refusing.links(), good.links()), (1, 0));
}

#[test]
fn a_failure_is_permanent_only_if_the_last_address_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = closed(&listener);
    let closes = Peer::start(Manner::ReadsAndCloses);
    let other = closes.address.to_string();
    for (order, told, attempts) in [
        // An address that was not reached says nothing about the other one.
        ([None, Some(closed)], "does not speak TLS", 2),
        ([Some(closed), None], "does not speak TLS", 1),
        ([None, Some(closes.address)], other.as_str(), 2),
        ([Some(closes.address), None], "does not speak TLS", 1),
    ] {
        // A port that does not speak TLS will not do so a moment later.
        let no_tls = Peer::start(Manner::SpeaksNoTls);
        let order = order.map(|other| other.unwrap_or(no_tls.address));
        let mut options = options();
        options.security = Security::Tls(TlsOptions::default());
        let error = failed(&order, options);
        assert!(error.problem().contains(told), "{order:?}: {error}");
        assert_eq!(no_tls.links(), attempts, "{order:?}: {error}");
        assert_eq!(error.is_permanent(), attempts == 1, "{order:?}: {error}");
    }
}

#[test]
fn eight_addresses_are_tried_and_each_failure_names_its_own() {
    let peers: Vec<_> = (0..10)
        .map(|_| Peer::start(Manner::ReadsAndCloses))
        .collect();
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
    let error = failed(&addresses, options());
    let links: Vec<_> = peers.iter().map(Peer::links).collect();
    assert_eq!(links, [2, 2, 2, 2, 2, 2, 2, 2, 0, 0], "two attempts");
    let last = format!("({})", addresses[7]);
    assert!(error.problem().ends_with(&last), "{error}");
    assert!(error.problem().starts_with("2 attempts in "), "{error}");
}

#[test]
fn connects_keep_their_distance_from_one_address_to_the_next() {
    const INTERVAL: Duration = Duration::from_secs(300);
    let peers = [1, 2].map(|_| Peer::start(Manner::SaysNothing));
    let client = client(|options| options.connect_interval = INTERVAL);
    let (mut agent, handle) = open(client, &peers.each_ref().map(|peer| peer.address));
    agent.start_readiness().unwrap();
    let begin = Instant::now();
    let greet = |agent: &mut Agent, now| {
        while !agent.connection.is_greeting() {
            assert!(begin.elapsed() < Duration::from_secs(60), "no link");
            agent.advance_connection(now);
            thread::yield_now();
        }
    };
    greet(&mut agent, begin);
    let lost = begin + Duration::from_secs(1);
    agent.link_lost(LinkLoss::PeerClosed, lost);
    let next = begin + INTERVAL;
    assert_eq!(agent.connection.deadline(), Some(next));
    assert!(!agent.advance_connection(next - Duration::from_millis(1)));
    greet(&mut agent, next);
    let attempt = agent.connection.attempt().unwrap();
    assert_eq!(attempt.reached(), Some(peers[1].address));
    drop(handle);
}

#[test]
fn the_address_that_gave_connack_is_first_next_time() {
    let useless = Peer::start(Manner::ReadsAndCloses);
    let good = Peer::start(Manner::Answers(ACCEPTED));
    let addresses = [useless.address, good.address];
    // The same loop, and the next loop of the same client.
    let client = reached_again(client(|_| {}), &addresses);
    assert_eq!((useless.links(), good.links()), (1, 2));
    let client = reached(run(client, &addresses, ping_and_leave));
    assert_eq!((useless.links(), good.links()), (1, 3));
    // It has gone: the others are tried, too.
    let next = Peer::start(Manner::Answers(ACCEPTED));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    drop((good, listener));
    let client = reached(run(client, &[next.address], ping_and_leave));
    let addresses = [useless.address, next.address];
    reached(run(client, &addresses, ping_and_leave));
    assert_eq!((useless.links(), next.links()), (1, 2));
}

/// Where links are accepted and lost again and again, another address may do better.
#[test]
fn an_address_is_not_first_any_more_after_two_failures_in_a_row() {
    let peers = [1, 2].map(|_| Peer::start(Manner::SaysNothing));
    let addresses = peers.each_ref().map(|peer| peer.address);
    for (failures, reached) in [(0, addresses[1]), (1, addresses[1]), (2, addresses[0])] {
        let mut client = client(|options| options.retry.attempts = 0);
        client.accepted(Some(addresses[1]));
        let (mut agent, handle) = open(client, &addresses);
        agent.start_readiness().unwrap();
        let begin = Instant::now();
        for _ in 0..failures {
            let failure = Error::new(Blame::Network, "connecting", "no luck", "");
            agent.attempt_failed(failure, begin);
        }
        let later = begin + Duration::from_secs(1);
        while !agent.connection.is_greeting() {
            assert!(begin.elapsed() < Duration::from_secs(60), "no link");
            agent.advance_connection(later);
            thread::yield_now();
        }
        let attempt = agent.connection.attempt().unwrap();
        assert_eq!(attempt.reached(), Some(reached), "{failures} failures");
        drop(handle);
    }
}

fn reached_again(client: Client, addresses: &[SocketAddr]) -> Client {
    let ended = run(client, addresses, |handle| {
        assert!(handle.ping().unwrap().wait().is_delivered());
        assert!(handle.reconnect().wait().is_delivered());
        ping_and_leave(handle);
    });
    assert!(ended.result.is_ok(), "{:?}", ended.result);
    assert_eq!(ended.stats.connects, 2);
    ended.client
}
