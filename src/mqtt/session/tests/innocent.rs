//! Commands that look suspect and are not: networks and brokers that fail by themselves, in simulated time. None is
//! ever given up, whatever the seed.

use std::collections::VecDeque;
use std::ops::Range;

use rumqttc::mqttbytes::v4::Packet;

use super::packets::{puback, pubcomp, pubrec, suback};
use super::{QOS, Transcript};
use crate::mqtt::packet::Incoming;
use crate::mqtt::session::{LinkEnd, SessionOptions};

/// Time goes on in steps of so many milliseconds.
const STEP: u64 = 10;

/// From a lost link to the next one, in milliseconds.
const PAUSE: u64 = 1_000;

/// A session, and a network and a broker that fail.
struct World {
    t: Transcript,
    random: u64,
    /// Bytes that a link takes in a millisecond.
    rate: u64,
    /// How long a link lives, in milliseconds.
    life: Range<u64>,
    /// PUBLISHes that the broker acknowledges in a second; it drops the others without a word.
    acknowledged: u64,
    /// When the present link is lost, or the next one comes up.
    until: u64,
    is_up: bool,
    keeps_session: bool,
    /// Those that reached the broker, and are not answered yet.
    arrived: VecDeque<Packet>,
    /// The broker takes so many milliseconds to answer PUBLISHes with the payload `slow`.
    slow: u64,
    /// When it answers them, on this link.
    later: VecDeque<(u64, Packet)>,
    /// PUBLISHes that the broker has acknowledged in the present second.
    counted: u64,
    links: u32,
    trials: u32,
}

impl World {
    fn new(seed: u64, change: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut t = Transcript::with(change);
        t.stalled = true;
        World {
            t,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            rate: u64::MAX / STEP,
            life: 1_000_000_000..1_000_000_001,
            acknowledged: u64::MAX,
            until: 0,
            is_up: false,
            keeps_session: true,
            arrived: VecDeque::new(),
            slow: 0,
            later: VecDeque::new(),
            counted: 0,
            links: 0,
            trials: 0,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % limit
    }

    /// Lets one step of time pass.
    fn step(&mut self) {
        let time = self.t.time() + STEP;
        if time.is_multiple_of(1_000) {
            self.counted = 0;
        }
        self.t.at(time);
        if !self.is_up && self.until <= time {
            self.connects();
        }
        if !self.is_up {
            return;
        }
        let bytes = usize::try_from(self.rate * STEP).unwrap_or(usize::MAX);
        self.t.stalls_after(bytes);
        // Answers take one step at least.
        for packet in std::mem::take(&mut self.arrived) {
            match &packet {
                Packet::Publish(publish) if publish.payload == "slow" && self.slow > 0 => {
                    self.later.push_back((time + self.slow, packet));
                }
                _ => self.answers(&packet),
            }
        }
        while self.later.front().is_some_and(|(at, _)| *at <= time)
            && let Some((_, packet)) = self.later.pop_front()
        {
            self.answers(&packet);
        }
        self.arrived.extend(self.t.sent.drain(..));
        let is_given_up = self.t.notes.drain(..).next().is_some();
        if is_given_up || self.until <= time {
            let end = match is_given_up {
                true => LinkEnd::Otherwise,
                false => LinkEnd::ByBroker,
            };
            self.t.ends_link(end);
            self.is_up = false;
            self.arrived.clear();
            self.later.clear();
            self.until = time + PAUSE;
        }
        for (token, outcome) in &self.t.outcomes {
            assert!(outcome.is_delivered(), "{token}: {outcome}, at {time} ms");
        }
    }

    fn connects(&mut self) {
        let session_present = self.links > 0 && self.keeps_session;
        self.links += 1;
        self.t.flows().links_up();
        self.t.stalled = true;
        self.t.connack(session_present).connected = None;
        self.trials += u32::from(!self.t.wants_commands() && self.t.session.next_timer().is_some());
        self.arrived.extend(self.t.sent.drain(..));
        self.is_up = true;
        let life = self.life.clone();
        let life = life.start + self.below(life.end - life.start);
        self.until = self.t.time() + life;
    }

    fn answers(&mut self, packet: &Packet) {
        match packet {
            Packet::Publish(publish) => {
                self.counted += 1;
                match publish.qos as usize {
                    _ if self.counted > self.acknowledged => &mut self.t,
                    0 => &mut self.t,
                    1 => self.t.receives(puback(publish.pkid)),
                    _ => self.t.receives(pubrec(publish.pkid)),
                }
            }
            Packet::PubRel(release) => self.t.receives(pubcomp(release.pkid)),
            Packet::PingReq => self.t.receives(Incoming::PingResp),
            Packet::Subscribe(asked) => self.t.receives(suback(asked.pkid, &[Some(1)])),
            other => panic!("{other:?}"),
        };
    }

    /// Keeps the window full until so many are delivered.
    fn publishes(&mut self, count: usize, hours: u64) {
        let mut delivered = 0;
        let mut published = 0;
        let limit = self.t.time() + hours * 3_600_000;
        while delivered < count {
            assert!(
                self.t.time() < limit,
                "{delivered} of {count} are delivered"
            );
            while self.is_up && published < count && self.t.wants_commands() {
                self.t.publish("t", 1 + published % (QOS.len() - 1), "x");
                published += 1;
            }
            self.step();
            delivered += std::mem::take(&mut self.t.outcomes).len();
        }
    }
}

/// The message takes 19 seconds, and no link lives that long.
#[test]
fn a_message_that_no_link_lives_long_enough_for_is_sent_for_ever() {
    let payload = "x".repeat(300_000);
    for seed in 0..8 {
        let mut world = World::new(seed, |_| {});
        (world.rate, world.life) = (16, 2_000..10_000);
        // A filter that is renewed on each link is answered on each link.
        world.keeps_session = seed % 2 == 0;
        world.step();
        world.t.subscribe(&[("a", 1)]);
        while world.t.outcomes.is_empty() {
            world.step();
        }
        world.t.outcomes.clear();
        while !world.is_up {
            world.step();
        }
        world.t.publish("t", 1, &payload);
        let mut most = 0;
        while world.t.time() < 20 * 60 * 1_000 {
            world.step();
            if world.t.time() > 15 * 60 * 1_000 {
                most = most.max(world.t.partial.len());
            }
        }
        assert!(world.trials > 20, "seed {seed}: {}", world.trials);
        // A link takes all that it can of it.
        assert!(most > 100_000, "seed {seed}: {most} bytes are sent at most");
        world.life = 1_000_000..1_000_001;
        while world.t.outcomes.is_empty() {
            world.step();
            assert!(world.t.time() < 30 * 60 * 1_000, "seed {seed}: it ends");
        }
    }
}

/// No link lives as long as the broker takes to answer one message. It costs another thread no more than every second
/// link.
#[test]
fn a_message_that_no_link_lives_long_enough_for_lets_others_pass() {
    const MINUTES: u64 = 10;
    for seed in 0..4 {
        let mut world = World::new(seed, |_| {});
        (world.slow, world.life) = (3_000, 500..3_000);
        world.keeps_session = seed % 2 == 0;
        world.step();
        world.t.publish("t", 1, "slow");
        let mut passed = 0;
        let mut last = 0;
        while world.t.time() < MINUTES * 60 * 1_000 {
            if world.is_up && world.t.session.wants_commands() {
                world.t.publish("t", 1, "x");
            }
            world.step();
            let outcomes = std::mem::take(&mut world.t.outcomes).len();
            passed += outcomes;
            if outcomes > 0 {
                last = world.t.time();
            }
            let silent = world.t.time() - last;
            assert!(silent < 60_000, "seed {seed}: none passes for a minute");
        }
        assert!(world.trials > 20, "seed {seed}: {}", world.trials);
        println!(
            "seed {seed}: {passed} messages, {} trials of {} links",
            world.trials, world.links
        );
        world.life = 1_000_000..1_000_001;
        while !world.t.open.is_empty() {
            world.step();
            assert!(world.t.time() < 30 * 60 * 1_000, "seed {seed}: it ends");
        }
    }
}

/// AWS IoT does so with more than 100 in a second.
#[test]
fn messages_that_a_broker_drops_above_its_rate_are_all_delivered() {
    for seed in 0..4 {
        let mut world = World::new(seed, |o| o.max_inflight = 100);
        (world.acknowledged, world.life) = (100, 60_000..300_000);
        world.publishes(3_000, 24);
        assert!(world.links > 3, "seed {seed}: {}", world.links);
    }
}

#[test]
fn messages_on_links_that_hardly_live_are_all_delivered() {
    for seed in 0..20 {
        let mut world = World::new(seed, |o| o.max_inflight = 32);
        (world.rate, world.life) = (1, 50..3_000);
        world.publishes(2_000, 24);
        assert!(world.trials > 0, "seed {seed}");
    }
}
