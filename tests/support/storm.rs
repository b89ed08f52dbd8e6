//! A stress test with an account of every single message: many threads on one loop, a link that is cut
//! again and again, a broker that is killed. Eight publishers in three forms, a fast and a slow
//! subscriber, mutual TLS to a real Mosquitto through the proxy. Most messages have QoS 1, some 0, some
//! 2; `account.rs` has the checks.
//!
//! The links do not only break. Some fall silent: the proxy keeps them open and passes nothing, so that
//! only the acknowledgment time-out or the keep alive can end them. Some pass their bytes one by one. If
//! the loop does not notice, the round does not end. When cuts alone prevent all progress, the proxy
//! spares one link (`chance.rs`, `SpareWhenStuck`) and counts it.
//!
//! The messages go in rounds, so that the account does not grow. At the end of a round every outcome is
//! known and both subscribers have seen every delivered message. Only then may the broker be killed:
//! Mosquitto saves once a second here and forgets what it acknowledged since, so that at any other
//! moment the loss would be the broker's. The broker also saves just before the kill: otherwise it could
//! fall back into the middle of a QoS 2 exchange and take the identifier's next message for the one
//! before. The kill meets messages in flight all the same: the proxy stalls and lets nobody in, the next
//! round begins, and the broker dies before any of that round reaches it.
//!
//! TERMINATE without grace ends the storm in the middle of a last round. Every acknowledged message must
//! then have been received or be left in the broker's session; no cancelled message may be in either.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Filter, Protocol, QoS};
use mqtt_connection_sharing::{Handle, Stats, WhenFull};
use rumqttc::mqttbytes::{self, v4};

use super::account::{self, Account, PUBLISHERS, Subscriber};
use super::proxy::LinkCounts;
use super::publishers::Worker;
use super::running::{NEVER, Running, security, told};
use super::witness::Witness;
use super::{HANG, Mosquitto, Proxy, Random, RandomFates, SpareWhenStuck, wait_until};

/// The resident memory at this many messages of QoS 1 is compared with the memory at the end.
pub const EARLY: u64 = 10_000;

const CLIENT_ID: &str = "storm";

/// A round that takes longer hangs.
pub(super) const ROUND_LIMIT: Duration = Duration::from_secs(600);

/// The number of the round that TERMINATE ends, above all others.
pub(super) const LAST_ROUND: u64 = 1 << 40;

/// The least number of messages in flight when the broker is killed. The command queue has room for
/// twice that, in case the link is gone already.
const IN_FLIGHT: u64 = 32;

/// The slow subscriber has room for this many messages in its inbox, and pauses after so many messages.
const SLOW_INBOX: usize = 4;
const SLOW_AFTER: u64 = 500;
const SLOW_PAUSE: Duration = Duration::from_millis(5);

/// Now and then it pauses for longer than a second, so that its messages count as accepted while they wait: for the
/// first time at this message, and then after so many more.
const FIRST_LONG_PAUSE: u64 = 1_000;
const LONG_PAUSE_AFTER: u64 = 50_000;
const LONG_PAUSE: Duration = Duration::from_millis(1_500);

/// The parameters of a storm.
#[derive(Debug, Clone)]
pub struct Storm {
    /// The version that the loop speaks. Witness and heir of the session speak 3.1.1.
    pub protocol: Protocol,
    /// QoS 1 messages of a round, all publishers together; messages of other QoS come on top.
    pub round: u64,
    /// The storm ends after this many rounds,
    pub rounds: u64,
    /// or with the round in which this time is over.
    pub time: Duration,
    /// The storm kills the broker when a round begins whose number this divides.
    pub kill_every: u64,
    /// The broker comes back without any session.
    pub forgets: bool,
    /// The proxy cuts or stalls each connection after a random number of bytes in this range.
    pub cut_after: Range<u64>,
    /// Some payloads have up to so many bytes.
    pub largest: u64,
    /// The most bytes that a link passes in a second in each direction.
    pub rate: Option<u64>,
    /// The seed of all random choices.
    pub seed: u64,
}

/// Counts that can be read while a storm runs.
#[derive(Clone)]
pub struct Progress {
    account: Arc<Account>,
    counts: Arc<LinkCounts>,
    spared: Arc<AtomicU64>,
    kills: Arc<AtomicU64>,
}

impl Progress {
    /// Messages of QoS 1 acknowledged.
    pub fn delivered(&self) -> u64 {
        self.account.delivered.of(QoS::AtLeastOnce)
    }

    /// First receptions by the slower of both subscribers, of QoS 1 and 2.
    pub fn seen(&self) -> u64 {
        self.account.seen_by_both()
    }

    /// Links cut.
    pub fn cuts(&self) -> u64 {
        self.counts.cuts()
    }

    /// Links that fell silent.
    pub fn stalls(&self) -> u64 {
        self.counts.stalls()
    }

    /// Connections made.
    pub fn connections(&self) -> u64 {
        self.counts.connections()
    }

    /// Links that could live longer.
    pub fn spared(&self) -> u64 {
        self.spared.load(Ordering::SeqCst)
    }

    /// Broker kills.
    pub fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }
}

/// The results of a storm.
#[derive(Debug, Clone)]
pub struct Figures {
    /// By QoS, without the round that TERMINATE ended; so is the next.
    pub messages: [u64; 3],
    pub delivered: [u64; 3],
    /// By QoS, received at least once by the fast subscriber.
    pub arrived: [u64; 3],
    /// By QoS, received once more.
    pub repeated: [u64; 3],
    pub cuts: u64,
    /// Links that fell silent, without those at a kill.
    pub stalls: u64,
    /// Links that passed bytes one at a time.
    pub slowed: u64,
    /// Links that could live longer, because cuts alone prevented all progress.
    pub spared: u64,
    pub kills: u64,
    /// Acknowledged messages that a subscriber, or with QoS 2 the witness, never saw.
    pub lost: u64,
    /// Accepted commands without an outcome.
    pub unresolved: u64,
    /// Outcomes that were not true or given twice, messages that nobody had sent, QoS 0 messages that
    /// came twice, QoS 2 messages that the broker passed on twice.
    pub untrue: u64,
    /// First receptions out of their publisher's order.
    pub reordered: u64,
    /// Messages not delivered, though nobody ended the loop.
    pub failed: u64,
    /// QoS 2 messages perhaps delivered because the broker had lost the session. Each reconnect at which
    /// it said so can explain as many as the window holds; further ones count as failed, too.
    pub with_session: u64,
    /// Messages not delivered because TERMINATE ended the loop.
    pub ended: u64,
    pub stats: Stats,
    pub elapsed: Duration,
    /// Resident memory in KiB at the end of the round with message [`EARLY`], and at the end of the last
    /// one. Nothing is under way at those moments, and the size of the account never changes.
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
        let [zero, one, two] = self.repeated;
        write!(
            f,
            "messages {} of QoS 1 (and {} of QoS 0, {} of QoS 2), cuts {}, stalls {}, slowed {}, \
             spared {}, broker kills {}, lost {}, unresolved {}, untrue {}, reordered {}, failed {}, lost with \
             the session {}, ended by \
             TERMINATE {}, repeated {zero} / {one} / {two}, QoS 0 arrived {}, reconnects {} (resumed \
             {}), seconds {:.1}, resident memory {} KiB early, {} KiB at the end",
            self.messages[1],
            self.messages[0],
            self.messages[2],
            self.cuts,
            self.stalls,
            self.slowed,
            self.spared,
            self.kills,
            self.lost,
            self.unresolved,
            self.untrue,
            self.reordered,
            self.failed,
            self.with_session,
            self.ended,
            self.arrived[0],
            self.stats.reconnects,
            self.stats.resumed,
            self.elapsed.as_secs_f64(),
            self.memory_early,
            self.memory_late,
        )
    }
}

impl Storm {
    /// Runs the storm; `watch` gets a view of it at the beginning.
    ///
    /// # Panics
    /// When something hangs.
    pub fn run(&self, watch: impl FnOnce(Progress)) -> Figures {
        let begin = Instant::now();
        let mut broker = Mosquitto::start_fast();
        let proxy = Proxy::start(broker.port()).unwrap();
        let per_publisher = account::all_with(self.round / PUBLISHERS as u64);
        let account = Arc::new(Account::new(per_publisher, self.largest));
        let watched = Arc::clone(&account);
        let spare = SpareWhenStuck::new(move || watched.progress());
        let spared = spare.count();
        let bytes = self.cut_after.clone();
        proxy
            .decide(RandomFates::new(self.seed, bytes, self.rate, spare))
            .unwrap();
        let mut witness = Witness::start(&broker, &account, Default::default());
        let mut options = options(&broker, &proxy);
        options.protocol = self.protocol;
        options.max_packet_size = options.max_packet_size.max(2 * self.largest as usize);
        if self.rate.is_some() {
            // The bytes that the system keeps of a slow link take a while.
            options.ack_timeout = 5 * options.ack_timeout;
            options.keep_alive = 5 * options.keep_alive;
            options.connect_timeout = 5 * options.connect_timeout;
        }
        let max_inflight = options.max_inflight;
        let loops = Running::start(options);
        let subscribers = [Subscriber::Fast, Subscriber::Slow]
            .map(|who| subscribe(loops.handle(), &account, who));
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| Worker::start(loops.handle().clone(), &account, number))
            .collect();
        let kills = Arc::new(AtomicU64::new(0));
        watch(Progress {
            account: Arc::clone(&account),
            counts: Arc::clone(proxy.counts()),
            spared: Arc::clone(&spared),
            kills: Arc::clone(&kills),
        });
        let mut chance = Random::new(self.seed ^ 0x5eed);
        let (mut memory_early, mut memory_late) = (0, 0);
        let (mut rounds, mut lost, mut stalled_by_us) = (0, 0, 0);
        for round in 0..self.rounds {
            account.begin_round(round);
            let kill = round % self.kill_every == self.kill_every - 1;
            if kill {
                proxy.refuse().unwrap();
                let stalls = proxy.counts().stalls();
                proxy.stall_all().unwrap();
                stalled_by_us += proxy.counts().stalls() - stalls;
                broker.save();
            }
            publishers.iter().for_each(|p| p.begin(per_publisher));
            if kill {
                let enough = IN_FLIGHT + chance.within(&(0..IN_FLIGHT));
                wait_until("messages in flight", || account.submitted() >= enough);
                witness.expect_looking();
                broker.kill();
                if self.forgets {
                    broker.remove_database();
                }
                let seen = witness.join();
                proxy.cut_all().unwrap();
                broker.start_again();
                witness = Witness::start(&broker, &account, seen);
                proxy.listen().unwrap();
                kills.fetch_add(1, Ordering::Relaxed);
            }
            let deadline = Instant::now() + ROUND_LIMIT;
            for publisher in &publishers {
                publisher.expect_end(deadline.saturating_duration_since(Instant::now()));
            }
            let all_seen = || account.all_delivered_seen().then_some(());
            if super::look_for(ROUND_LIMIT, all_seen).is_none() {
                lost += account.missing();
            }
            account.end_round();
            rounds += 1;
            memory_late = resident_memory();
            if memory_early == 0 && rounds * self.round >= EARLY {
                memory_early = memory_late;
            }
            if lost > 0 || begin.elapsed() >= self.time {
                break;
            }
        }
        let of_each = |count: &account::ByQos| {
            [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| count.of(qos))
        };
        let (delivered, failed) = (of_each(&account.delivered), account.failed());
        let with_session = account.with_session();

        // The end comes in the middle of a round that nobody waits for.
        account.begin_round(LAST_ROUND);
        publishers.iter().for_each(|p| p.begin(per_publisher));
        let enough = chance.within(&(IN_FLIGHT..self.round / 2));
        wait_until("messages on their way", || account.submitted() >= enough);
        let ticket = loops.handle().terminate(Duration::ZERO);
        let ended = loops.join();
        assert!(ended.result.is_ok(), "{ended:?}");
        assert!(told(ticket).is_delivered());
        for publisher in publishers {
            publisher.expect_end(HANG);
            publisher.join();
        }
        for subscriber in subscribers {
            subscriber.join().expect("no panic in a subscriber");
        }
        read_what_is_left(&broker, &account);
        let all_seen = || (account.missing() == 0).then_some(());
        if super::look_for(HANG, all_seen).is_none() {
            lost += account.missing();
        }
        witness.expect_looking();
        account.end_round();
        broker.kill();
        witness.join();
        // A lost session costs at most the messages that were in flight.
        let forgotten = ended.stats.reconnects - ended.stats.resumed;
        let explained = forgotten * u64::from(max_inflight);
        let unexplained = account.with_session().saturating_sub(explained);
        Figures {
            messages: account.in_a_round().map(|count| rounds * count),
            delivered,
            arrived: of_each(&account.arrived),
            repeated: of_each(&account.repeated),
            cuts: proxy.counts().cuts(),
            stalls: proxy.counts().stalls() - stalled_by_us,
            slowed: proxy.counts().slowed(),
            spared: spared.load(Ordering::SeqCst),
            kills: kills.load(Ordering::Relaxed),
            lost,
            unresolved: account.unresolved(),
            ended: account.failed() - failed,
            with_session,
            untrue: account.untrue(),
            reordered: account.reordered(),
            failed: failed + unexplained,
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
    options.security = security(broker.certs());
    options.connect_interval = Duration::ZERO;
    options.block_time = NEVER;
    options.command_queue = 2 * IN_FLIGHT as usize;
    // The loop must soon notice a silent link: with something in flight, without, and before CONNACK.
    options.ack_timeout = Duration::from_secs(1);
    options.keep_alive = Duration::from_secs(2);
    options.connect_timeout = Duration::from_secs(1);
    options.retry.base = Duration::from_millis(1);
    options.retry.max = Duration::from_millis(5);
    options.retry.connect_for = Duration::ZERO;
    options.retry.reconnect_for = Duration::ZERO;
    options
}

/// Reads the messages that the broker still has in the loop's session after the loop's end.
fn read_what_is_left(broker: &Mosquitto, account: &Account) {
    let mut client = broker.client(CLIENT_ID, false);
    let qos = mqttbytes::QoS::AtLeastOnce;
    let mut last = v4::Publish::new("storm/last", qos, "");
    last.pkid = 1;
    client.send_packet(v4::Packet::Publish(last));
    loop {
        let next = client.read_until("a message", |packet| match packet {
            v4::Packet::Publish(_) | v4::Packet::PubRel(_) => Some(packet.clone()),
            _ => None,
        });
        let next = match next {
            v4::Packet::Publish(publish) => publish,
            v4::Packet::PubRel(release) => {
                client.send_packet(v4::Packet::PubComp(v4::PubComp::new(release.pkid)));
                continue;
            }
            other => panic!("it was not waited for: {other:?}"),
        };
        match next.qos {
            mqttbytes::QoS::AtMostOnce => {}
            mqttbytes::QoS::AtLeastOnce => client.send_puback(next.pkid),
            mqttbytes::QoS::ExactlyOnce => {
                client.send_packet(v4::Packet::PubRec(v4::PubRec::new(next.pkid)));
            }
        }
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
        _ => SLOW_INBOX,
    };
    let inbox = handle.inbox(room, WhenFull::WaitAside);
    let filters = vec![Filter::new("storm/#", QoS::ExactlyOnce)];
    let granted = told(handle.subscribe(&inbox, filters).expect("room"));
    assert!(granted.is_delivered(), "{granted}");
    let account = Arc::clone(account);
    let receive = move || {
        let mut count = 0;
        let mut last = Default::default();
        while let Ok(message) = inbox.recv() {
            account.see(who, message.topic(), message.payload(), &mut last);
            count += 1;
            if who == Subscriber::Slow && count % LONG_PAUSE_AFTER == FIRST_LONG_PAUSE {
                thread::sleep(LONG_PAUSE);
            } else if who == Subscriber::Slow && count % SLOW_AFTER == 0 {
                thread::sleep(SLOW_PAUSE);
            }
        }
    };
    thread::Builder::new().spawn(receive).expect("a thread")
}

/// The resident memory in KiB; 0 on systems that do not say it.
pub fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}
