//! Micro-benchmarks of the steps that each message takes, without threads and sockets:
//!
//!     cargo bench --bench micro
//!
//! A word behind `--` selects the benchmarks with that word in their name: `... -- match`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mqtt_connection_sharing::limits::RateLimits;
use mqtt_connection_sharing::mqtt::packet::{Connect, ConnectReturnCode, Filter, Incoming};
use mqtt_connection_sharing::mqtt::packet::{PacketId, Publish, QoS};
use mqtt_connection_sharing::mqtt::session::{Event, OnSessionLost, Session, SessionOptions};
use mqtt_connection_sharing::mqtt::subscriptions::{Matches, Subscriptions};
use mqtt_connection_sharing::mqtt::v4;

/// Messages in flight at a time; the loop takes as many in one batch.
const BATCH: usize = 512;

const PAYLOAD: &[u8] = &[b'x'; 64];

/// Numbers of filters among which a topic is looked up.
const FILTERS: [usize; 3] = [10, 1_000, 100_000];

fn message(number: usize) -> Publish {
    let topic = format!("plant/line-{:02}/sensor-{:03}", number % 50, number % 512);
    Publish::new(topic, QoS::AtLeastOnce, PAYLOAD.to_vec())
}

/// PUBACKs for this many messages, beginning with the identifier `first`, in the session's order.
fn acknowledgments(first: &mut u16, count: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(4 * count);
    for _ in 0..count {
        bytes.extend_from_slice(&[0x40, 2]);
        bytes.extend_from_slice(&first.to_be_bytes());
        *first = first.checked_add(1).unwrap_or(1);
    }
    bytes
}

/// A session whose link is up. Its commands are numbers.
fn online(now: Instant) -> Session<u32> {
    let options = SessionOptions {
        max_inflight: u16::MAX,
        max_inflight_qos2: u16::MAX,
        ack_timeout: Duration::from_secs(10),
        keep_alive: Duration::from_secs(60),
        on_session_lost: OnSessionLost::default(),
        identifiers: u16::MAX,
        first_identifier: 0,
        max_waiting_bytes: usize::MAX,
        max_waiting: 1_000,
        rate: RateLimits::default(),
        suspected_after: u32::MAX,
        given_up_after: 5,
    };
    let mut session = Session::new(options, now);
    let connect = Connect {
        client_id: "bench",
        clean_session: true,
        keep_alive: 60,
        last_will: None,
        credentials: None,
        terms: None,
    };
    session.handle_link_up(&connect, now);
    session.handle_written(session.output().len(), now);
    let accepted = Incoming::ConnAck {
        session_present: false,
        code: ConnectReturnCode::Accepted,
    };
    session.handle_packet(accepted, now).unwrap();
    assert!(matches!(
        session.poll_event(),
        Some(Event::Connected { .. })
    ));
    session
}

/// Sends messages in batches through one session. Returns the time from command to wire, and from
/// acknowledgment to outcome.
fn run_session(messages: u64) -> (Duration, Duration) {
    let (mut sending, mut acknowledging) = (Duration::ZERO, Duration::ZERO);
    let now = Instant::now();
    let mut session = online(now);
    let mut identifier = 1;
    let mut left = usize::try_from(messages).unwrap();
    while left > 0 {
        let count = left.min(BATCH);
        left -= count;
        let batch: Vec<_> = (0..count).map(message).collect();
        let start = Instant::now();
        for (number, publish) in (0..).zip(batch) {
            session.publish(publish.into(), number, now);
        }
        session.handle_written(black_box(session.output()).len(), now);
        sending += start.elapsed();
        let mut bytes = acknowledgments(&mut identifier, count);
        let mut resolved = 0;
        let start = Instant::now();
        while let Some(packet) = v4::decode(&mut bytes, usize::MAX).unwrap() {
            session.handle_packet(packet, now).unwrap();
        }
        while let Some(event) = session.poll_event() {
            resolved += usize::from(matches!(black_box(event), Event::Resolved { .. }));
        }
        acknowledging += start.elapsed();
        assert_eq!((session.in_flight(), resolved), (0, count));
    }
    (sending, acknowledging)
}

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(1));
    group.bench_function("command to wire", |bencher| {
        bencher.iter_custom(|messages| run_session(messages).0);
    });
    group.bench_function("acknowledgment to outcome", |bencher| {
        bencher.iter_custom(|messages| run_session(messages).1);
    });
    group.finish();
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    let id = PacketId::new(7);
    let mut publish = message(3);
    let mut topic = String::new();
    let mut out = BytesMut::with_capacity(1024);
    group.bench_function("encode PUBLISH", |bencher| {
        bencher.iter(|| {
            out.clear();
            v4::encode_publish(&mut publish, id, false, &mut topic, &mut out);
            black_box(out.len())
        });
    });
    // In place, copied, and shared with the read buffer.
    for size in [64, 16 * 1024, 64 * 1024] {
        let mut publish = Publish::new("plant/line-07/sensor-003", QoS::AtLeastOnce, vec![1; size]);
        let mut bytes = BytesMut::new();
        v4::encode_publish(&mut publish, id, false, &mut String::new(), &mut bytes);
        let name = BenchmarkId::new("decode PUBLISH with checks", format!("{size} bytes"));
        group.bench_function(name, |bencher| {
            decode_batches(bencher, &bytes);
        });
    }
    let puback = acknowledgments(&mut 7, 1);
    group.bench_function("decode PUBACK with checks", |bencher| {
        decode_batches(bencher, &puback);
    });
    group.finish();
}

/// Decodes the packet many times, from buffers that hold several packets, as reads bring them.
fn decode_batches(bencher: &mut criterion::Bencher<'_>, packet: &[u8]) {
    let in_a_read = (16 * 1024 / packet.len()).max(1);
    let read = packet.repeat(in_a_read);
    let mut buffer = BytesMut::with_capacity(read.len());
    bencher.iter_custom(|packets| {
        let mut left = packets;
        let mut taken = Duration::ZERO;
        while left > 0 {
            buffer.clear();
            buffer.extend_from_slice(&read);
            let count = left.min(in_a_read as u64);
            left -= count;
            let start = Instant::now();
            for _ in 0..count {
                let decoded = v4::decode(&mut buffer, usize::MAX).unwrap();
                assert!(black_box(decoded).is_some());
            }
            taken += start.elapsed();
        }
        taken
    });
}

/// A filter and a topic that it matches. There are 100,000 different pairs, three to five levels deep.
/// The first ten look like the first thousand and like all.
fn subscription(number: usize, wildcards: bool) -> (String, String) {
    let (site, line, device) = (number % 10, number / 10 % 100, number / 1_000);
    let line = format!("site-{site}/line-{line:02}");
    // Each device has a number of its own, so that each topic matches one filter, even without its line.
    let device = format!("device-{device:02}-{:05}", number % 1_000);
    let below = match number / 10 % 3 {
        0 => "",
        1 => "/state",
        _ => "/state/temperature",
    };
    let topic = format!("{line}/{device}{below}");
    let filter = match (wildcards, number % 5, below) {
        (true, 0, _) => format!("{line}/{device}/#"),
        (true, 1, _) => format!("site-{site}/+/{device}{below}"),
        (true, 2, "/state/temperature") => format!("{line}/{device}/+/temperature"),
        (true, 2, "/state") => format!("{line}/{device}/+"),
        _ => topic.clone(),
    };
    (filter, topic)
}

/// The numbers below `count`, each once, in no order.
fn shuffled(count: usize) -> Vec<usize> {
    let mut numbers: Vec<_> = (0..count).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..count).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = usize::try_from(random % (at as u64 + 1)).unwrap();
        numbers.swap(at, other);
    }
    numbers
}

/// Topics one after the other in memory, in the order of their use, like packets in the read buffer. So
/// only the table can cause cache misses.
struct Topics {
    text: String,
    lengths: Vec<u8>,
}

impl Topics {
    fn new(numbers: Vec<usize>, wildcards: bool) -> Self {
        let mut topics = Topics {
            text: String::new(),
            lengths: Vec::new(),
        };
        for number in numbers {
            let (_, topic) = subscription(number, wildcards);
            topics.lengths.push(topic.len().try_into().unwrap());
            topics.text += &topic;
        }
        topics
    }

    fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        let mut rest = self.text.as_str();
        self.lengths.iter().map(move |length| {
            let (topic, after) = rest.split_at(usize::from(*length));
            rest = after;
            topic
        })
    }
}

/// Two questions. The same ten topics among more and more filters show how the work grows. Topics drawn
/// from all filters, as many as there are, also touch more and more memory.
fn matching(criterion: &mut Criterion) {
    for (kind, wildcards) in [("exact", false), ("wildcards", true)] {
        for (drawn, name) in [(false, "the same topics"), (true, "all topics")] {
            let mut group = criterion.benchmark_group(format!("match/{kind}/{name}"));
            group.throughput(Throughput::Elements(1));
            for count in FILTERS {
                let mut table = Subscriptions::default();
                for number in 0..count {
                    let (filter, _) = subscription(number, wildcards);
                    let filter = Filter::new(filter, QoS::AtLeastOnce);
                    table.add(number as u64 % 64, &[filter]);
                }
                let mut matches = Matches::default();
                let mut matching = |topic: &str| {
                    table.matching(topic, &mut matches);
                    matches.subscribers.len()
                };
                let of = if drawn { count } else { FILTERS[0] };
                let topics = Topics::new(shuffled(of), wildcards);
                for topic in topics.iter() {
                    assert_eq!(matching(topic), 1, "{topic}");
                }
                let mut next = topics.iter().cycle();
                group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                    bencher.iter(|| matching(black_box(next.next().unwrap())));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, session, codec, matching);
criterion_main!(benches);
