//! Many threads on one loop, a link that is cut again and again, a broker that is killed: and an
//! account of every single message. Eight publishers in three forms, a fast and a slow subscriber,
//! QoS 1, mutual TLS to a real Mosquitto through the proxy.
//!
//! The messages go in rounds, so that the account does not grow. At the end of a round every
//! outcome is known and everything delivered has been seen by both subscribers. Only then may the
//! broker be killed: one that saves once a second forgets what it acknowledged since, so at any
//! other moment a loss would be its own. What the kill does meet is messages in flight: the proxy
//! stalls, the next round begins, and the broker dies before any of it reaches it.
//!
//! TERMINATE without grace ends it in the middle of a last round. What was acknowledged must then
//! have been received or be left in the broker's session, what was cancelled must be in neither.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mqtt_connection_sharing::options::{IdentityFiles, Options, Security, TlsOptions};
use mqtt_connection_sharing::packet::{Filter, Publish, QoS};
use mqtt_connection_sharing::{Handle, RejectReason, Rejected, Stats, Ticket, WhenFull};
use rumqttc::mqttbytes::{self, v4};

use super::account::{Account, PUBLISHERS, Subscriber};
use super::proxy::Counts;
use super::running::{NEVER, Running, told};
use super::{HANG, Mosquitto, Proxy, Random, wait_for, wait_until};

const CLIENT_ID: &str = "storm";

/// A round that takes longer hangs.
const ROUND_LIMIT: Duration = Duration::from_secs(120);

/// Tickets that a publisher of that form holds before it waits for the oldest.
const TICKETS: usize = 64;

/// The number of the round that TERMINATE ends: above all others.
const LAST_ROUND: u64 = 1 << 40;

/// In flight when the broker is killed.
const IN_FLIGHT: u64 = 50;

/// Messages that the broker may hold before the publishers wait. After each reconnect Mosquitto 2.0
/// sends all it holds, whatever its window: were that more than passes between two cuts, it would
/// begin with the same ones again and again.
const BACKLOG: u64 = 300;

/// Room in the inbox of the slow subscriber, which stops for a while after so many messages.
const SLOW_INBOX: usize = 4;
const SLOW_AFTER: u64 = 500;
const SLOW_PAUSE: Duration = Duration::from_millis(5);

/// What the storm is to be like.
#[derive(Debug, Clone)]
pub struct Storm {
    /// Messages of a round, all publishers together.
    pub round: u64,
    /// Rounds after which it ends.
    pub rounds: u64,
    /// Or it ends with the round in which this time is over.
    pub time: Duration,
    /// The broker is killed at the begin of every so many-th round.
    pub kill_every: u64,
    /// Each connection is cut after a random number of bytes in this range.
    pub cut_after: Range<u64>,
    /// The source of all chance.
    pub seed: u64,
}

/// What can be watched while it rages.
#[derive(Clone)]
pub struct Progress {
    account: Arc<Account>,
    counts: Arc<Counts>,
    kills: Arc<AtomicU64>,
}

impl Progress {
    /// Messages acknowledged.
    pub fn delivered(&self) -> u64 {
        self.account.delivered()
    }

    /// First receptions by the slower of both subscribers.
    pub fn seen(&self) -> u64 {
        self.account.seen_by_both()
    }

    /// Links cut.
    pub fn cuts(&self) -> u64 {
        self.counts.cuts()
    }

    /// Connections made.
    pub fn connections(&self) -> u64 {
        self.counts.connections()
    }

    /// Broker kills.
    pub fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Figures {
    pub messages: u64,
    pub delivered: u64,
    pub cuts: u64,
    pub kills: u64,
    /// Acknowledged, and missed by a subscriber.
    pub lost: u64,
    /// Accepted commands without an outcome.
    pub unresolved: u64,
    /// Outcomes that were not true, told twice, or messages that nobody had sent.
    pub untrue: u64,
    /// First receptions out of their publisher's order.
    pub reordered: u64,
    pub duplicates: u64,
    /// Not delivered, though nobody ended the loop.
    pub failed: u64,
    /// Not delivered because TERMINATE ended the loop.
    pub ended: u64,
    pub stats: Stats,
    pub elapsed: Duration,
    /// Resident memory in KiB at the end of the round in which the first tenth, or the 10,000th
    /// message, was done; and at the end.
    pub memory_early: u64,
    pub memory_late: u64,
}

impl Figures {
    /// Whether every promise was kept.
    pub fn is_faultless(&self) -> bool {
        [
            self.lost,
            self.unresolved,
            self.untrue,
            self.reordered,
            self.failed,
        ] == [0; 5]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "messages {}, cuts {}, broker kills {}, lost {}, unresolved {}, untrue {}, reordered {}, \
             failed {}, ended by TERMINATE {}, duplicates {}, reconnects {} (resumed {}), seconds {:.1}, \
             resident memory {} KiB early, {} KiB at the end",
            self.messages,
            self.cuts,
            self.kills,
            self.lost,
            self.unresolved,
            self.untrue,
            self.reordered,
            self.failed,
            self.ended,
            self.duplicates,
            self.stats.reconnects,
            self.stats.resumed,
            self.elapsed.as_secs_f64(),
            self.memory_early,
            self.memory_late,
        )
    }
}

impl Storm {
    /// Lets it rage; `watch` gets a view of it at the begin.
    ///
    /// # Panics
    /// When something hangs.
    pub fn rage(&self, watch: impl FnOnce(Progress)) -> Figures {
        let begin = Instant::now();
        let mut broker = Mosquitto::start_fast();
        let proxy = Proxy::start(broker.port());
        proxy.cut_at_random(self.seed, self.cut_after.clone());
        let per_publisher = self.round / PUBLISHERS as u64;
        let account = Arc::new(Account::new(per_publisher));
        let loops = Running::start(options(&broker, &proxy));
        let subscribers = [Subscriber::Fast, Subscriber::Slow]
            .map(|who| subscribe(loops.handle(), &account, who));
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| Worker::start(loops.handle().clone(), &account, number))
            .collect();
        let kills = Arc::new(AtomicU64::new(0));
        watch(Progress {
            account: Arc::clone(&account),
            counts: Arc::clone(proxy.counts()),
            kills: Arc::clone(&kills),
        });
        let mut chance = Random::new(self.seed ^ 0x5eed);
        // Of a storm that only time ends, its first messages.
        let early = match self.rounds.checked_mul(self.round) {
            Some(all) => (all / 10).max(10_000),
            None => 10_000,
        };
        let (mut memory_early, mut done) = (0, 0);
        let mut lost = 0;
        for round in 0..self.rounds {
            account.begin_round(round);
            let kill = round % self.kill_every == self.kill_every - 1;
            if kill {
                proxy.stall_all();
            }
            for publisher in &publishers {
                publisher.begin.send(per_publisher).expect("a publisher");
            }
            if kill {
                let enough = IN_FLIGHT + chance.within(&(0..IN_FLIGHT));
                wait_until("messages in flight", || account.submitted() >= enough);
                broker.kill();
                proxy.cut_all();
                broker.start_again();
                kills.fetch_add(1, Ordering::Relaxed);
            }
            let deadline = Instant::now() + ROUND_LIMIT;
            for publisher in &publishers {
                let left = deadline.saturating_duration_since(Instant::now());
                let ended = publisher.ended.recv_timeout(left);
                ended.expect("a publisher to end its round: a command was not resolved");
            }
            let all_seen = || account.all_delivered_seen().then_some(());
            if super::look_for(ROUND_LIMIT, all_seen).is_none() {
                lost += account.missing();
            }
            account.end_round();
            done += self.round;
            if memory_early == 0 && done >= early {
                memory_early = resident_memory();
            }
            if lost > 0 || begin.elapsed() >= self.time {
                break;
            }
        }
        let memory_late = resident_memory();
        let (delivered, failed) = (account.delivered(), account.failed());

        // The end comes in the middle of a round that nobody waits for.
        account.begin_round(LAST_ROUND);
        for publisher in &publishers {
            publisher.begin.send(per_publisher).expect("a publisher");
        }
        let enough = chance.within(&(IN_FLIGHT..self.round / 2));
        wait_until("messages on their way", || account.submitted() >= enough);
        let ticket = loops.handle().terminate(Duration::ZERO);
        let ended = loops.join();
        assert!(ended.result.is_ok(), "{ended:?}");
        assert!(told(ticket).is_delivered());
        for publisher in publishers {
            let all = publisher.ended.recv_timeout(HANG);
            all.expect("every command resolved when the loop has ended");
            publisher.join();
        }
        for subscriber in subscribers {
            subscriber.join().expect("no panic in a subscriber");
        }
        read_what_is_left(&broker, &account);
        lost += account.missing();
        account.end_round();
        Figures {
            messages: done,
            delivered,
            cuts: proxy.counts().cuts(),
            kills: kills.load(Ordering::Relaxed),
            lost,
            unresolved: account.unresolved(),
            ended: account.failed() - failed,
            untrue: account.untrue(),
            reordered: account.reordered(),
            duplicates: account.duplicates(),
            failed,
            stats: ended.stats,
            elapsed: begin.elapsed(),
            memory_early,
            memory_late,
        }
    }
}

fn options(broker: &Mosquitto, proxy: &Proxy) -> Options {
    let mut options = Options::new("127.0.0.1", CLIENT_ID);
    options.port = proxy.port();
    let certs = broker.certs();
    options.security = Security::Tls(TlsOptions {
        ca_file: Some(certs.ca().to_owned()),
        identity: Some(IdentityFiles::Pem {
            cert: certs.client().cert.clone(),
            key: certs.client().key.clone(),
        }),
        ..TlsOptions::default()
    });
    options.connect_interval = Duration::ZERO;
    options.block_time = NEVER;
    options.retry.base = Duration::from_millis(1);
    options.retry.max = Duration::from_millis(5);
    options.retry.attempts = 0;
    options
}

/// What the broker had not passed on when the loop ended, it still has in the loop's session.
fn read_what_is_left(broker: &Mosquitto, account: &Account) {
    let mut client = broker.client(CLIENT_ID, false);
    let qos = mqttbytes::QoS::AtLeastOnce;
    let mut last = v4::Publish::new("storm/last", qos, "");
    last.pkid = 1;
    client.send_packet(v4::Packet::Publish(last));
    loop {
        let next = client.read_until("a message", |packet| match packet {
            v4::Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        });
        client.send_puback(next.pkid);
        if next.topic == "storm/last" {
            return;
        }
        for who in [Subscriber::Fast, Subscriber::Slow] {
            account.see(who, &next.topic, &next.payload, &mut Default::default());
        }
    }
}

/// Receives until the loop ends.
fn subscribe(handle: &Handle, account: &Arc<Account>, who: Subscriber) -> JoinHandle<()> {
    let room = match who {
        Subscriber::Fast => 100,
        Subscriber::Slow => SLOW_INBOX,
    };
    let inbox = handle.inbox(room, WhenFull::WaitAside);
    let filters = vec![Filter::new("storm/#", QoS::AtLeastOnce)];
    let granted = told(handle.subscribe(&inbox, filters).expect("room"));
    assert!(granted.is_delivered(), "{granted}");
    let account = Arc::clone(account);
    let receive = move || {
        let mut count = 0;
        let mut last = Default::default();
        while let Ok(message) = inbox.recv() {
            account.see(who, &message.topic, &message.payload, &mut last);
            count += 1;
            if who == Subscriber::Slow && count % SLOW_AFTER == 0 {
                thread::sleep(SLOW_PAUSE);
            }
        }
    };
    thread::Builder::new().spawn(receive).expect("a thread")
}

/// A publisher thread: publishes a round's messages each time it is told to.
struct Worker {
    begin: Sender<u64>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(handle: Handle, account: &Arc<Account>, number: usize) -> Worker {
        let account = Arc::clone(account);
        let (begin, rounds) = channel::<u64>();
        let (tell, ended) = channel();
        let run = move || {
            for count in rounds {
                match number % 3 {
                    0 => publish_and_wait(&handle, &account, number, count),
                    1 => publish_with_callbacks(&handle, &account, number, count),
                    _ => publish_with_tickets(&handle, &account, number, count),
                }
                tell.send(()).expect("somebody who waits");
            }
        };
        let thread = thread::Builder::new().spawn(run).expect("a thread");
        Worker {
            begin,
            ended,
            thread,
        }
    }

    fn join(self) {
        drop(self.begin);
        self.thread.join().expect("no panic in a publisher");
    }
}

fn publish_and_wait(handle: &Handle, account: &Account, number: usize, count: u64) {
    for index in 0..count {
        let ticket = publish(handle, account, number, index);
        if let Some(ticket) = ticket {
            account.resolve(number, index, &ticket.wait());
        }
    }
}

fn publish_with_tickets(handle: &Handle, account: &Account, number: usize, count: u64) {
    let mut open = std::collections::VecDeque::new();
    for index in 0..count {
        if let Some(ticket) = publish(handle, account, number, index) {
            open.push_back((index, ticket));
        }
        if open.len() > TICKETS
            && let Some((index, ticket)) = open.pop_front()
        {
            account.resolve(number, index, &ticket.wait());
        }
    }
    for (index, ticket) in open {
        account.resolve(number, index, &ticket.wait());
    }
}

fn publish_with_callbacks(handle: &Handle, account: &Arc<Account>, number: usize, count: u64) {
    // Each callback holds the sender: when all of them are gone, each was called or dropped.
    let (held, all_gone) = channel::<()>();
    for index in 0..count {
        let (held, ours) = (held.clone(), Arc::clone(account));
        submit(account, number, index);
        let message = message(account, number, index);
        let callback = move |outcome| {
            ours.resolve(number, index, &outcome);
            drop(held);
        };
        if let Err(rejected) = handle.publish_then(message, callback) {
            handed_back(account, number, index, &rejected);
        }
    }
    drop(held);
    assert!(all_gone.recv_timeout(ROUND_LIMIT).is_err());
}

fn publish(handle: &Handle, account: &Account, number: usize, index: u64) -> Option<Ticket> {
    submit(account, number, index);
    let accepted = handle.publish(message(account, number, index));
    accepted
        .map_err(|rejected| handed_back(account, number, index, &rejected))
        .ok()
}

/// Waits until the broker's backlog is small, but for the last round, then enters it as submitted.
fn submit(account: &Account, number: usize, index: u64) {
    if account.backlog() > BACKLOG {
        let small = || account.backlog() <= BACKLOG || account.round() == LAST_ROUND;
        let waited = super::look_for(ROUND_LIMIT, || small().then_some(()));
        waited.expect("the subscribers to receive");
    }
    account.submit(number, index);
}

/// Nothing but the loop's end may hand a message back.
fn handed_back(account: &Account, number: usize, index: u64, rejected: &Rejected<Publish>) {
    assert_eq!(rejected.reason, RejectReason::Terminated);
    account.hand_back(number, index);
}

fn message(account: &Account, number: usize, index: u64) -> Publish {
    let topic = format!("storm/{number}");
    Publish::new(topic, QoS::AtLeastOnce, account.payload(number, index))
}

/// In KiB; 0 where the system does not say.
pub fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}
