//! The embedded broker under load, with a client that is not ours: each message that it acknowledged
//! arrives, also over lost connections.
//!
//! `cargo test --features local-broker --test program local_broker`, with MQTT 5 behind `SUITE_MQTT=5`

#![cfg(feature = "local-broker")]
// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Shutdown, TcpStream};

use crate::support::certs::{self, Pair};
use crate::support::versions::suite;
use crate::support::{Connection, Event, HANG};
use mqtt_connection_sharing::local::LocalBroker;
use native_tls::TlsStream;
use rumqttc::mqttbytes::{QoS, v4};

const WINDOW: usize = 100;
const COUNT: u32 = 5_000;

/// A client that publishes to itself with [`WINDOW`] messages on their way in each direction.
struct Echo {
    broker: LocalBroker,
    link: Connection<TlsStream<TcpStream>>,
    qos: QoS,
    next: u32,
    /// Messages not acknowledged, by packet identifier; `true` after PUBREC.
    in_flight: BTreeMap<u16, (u32, bool)>,
    /// Packet identifiers of QoS 2 messages received and not released.
    unreleased: BTreeSet<u16>,
    received: BTreeSet<u32>,
    repeated: u32,
    reordered: u32,
    losses: u32,
}

impl Echo {
    fn start(qos: QoS) -> Echo {
        let broker = LocalBroker::start().expect("a broker");
        let (mut link, present) = connect(&broker, "echo");
        assert!(!present);
        let mut subscribe = v4::Subscribe::new("#", qos);
        subscribe.pkid = u16::MAX;
        link.send_packet(v4::Packet::Subscribe(subscribe));
        link.expect_suback();
        Echo {
            broker,
            link,
            qos,
            next: 0,
            in_flight: BTreeMap::new(),
            unreleased: BTreeSet::new(),
            received: BTreeSet::new(),
            repeated: 0,
            reordered: 0,
            losses: 0,
        }
    }

    /// Runs until `count` messages were published and have all come back. Loses the connection each time
    /// `lose_after` more messages have come.
    fn run(&mut self, count: u32, lose_after: usize) {
        let mut lose_at = lose_after;
        while self.received.len() < count as usize || !self.in_flight.is_empty() {
            while self.next < count && self.in_flight.len() < WINDOW {
                let identifier = (self.next % 60_000 + 1) as u16;
                self.in_flight.insert(identifier, (self.next, false));
                self.publish(identifier, self.next, false);
                self.next += 1;
                if self.qos == QoS::AtMostOnce {
                    self.in_flight.clear();
                    break;
                }
            }
            match self.link.read_event(HANG) {
                Event::Packet(packet, _) => self.handle(packet),
                other => panic!("{other:?} with {} received", self.received.len()),
            }
            if self.received.len() >= lose_at {
                lose_at += lose_after;
                self.lose_link();
            }
        }
    }

    fn publish(&mut self, identifier: u16, number: u32, dup: bool) {
        let mut publish = v4::Publish::new("echo", self.qos, number.to_be_bytes());
        publish.dup = dup;
        if self.qos != QoS::AtMostOnce {
            publish.pkid = identifier;
        }
        self.link.send_packet(v4::Packet::Publish(publish));
    }

    fn handle(&mut self, packet: v4::Packet) {
        use v4::Packet::{PubAck, PubComp, PubRec, PubRel, Publish};
        match packet {
            Publish(publish) => {
                let number =
                    u32::from_be_bytes(publish.payload[..].try_into().expect("four bytes"));
                let latest = self.received.last().copied();
                let fresh = publish.qos != QoS::ExactlyOnce || self.unreleased.insert(publish.pkid);
                if fresh && !self.received.insert(number) {
                    self.repeated += 1;
                } else if fresh && latest > Some(number) {
                    self.reordered += 1;
                }
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.link.send_puback(publish.pkid),
                    QoS::ExactlyOnce => {
                        let ack = v4::PubRec::new(publish.pkid);
                        self.link.send_packet(PubRec(ack));
                    }
                }
            }
            PubRel(release) => {
                self.unreleased.remove(&release.pkid);
                self.link
                    .send_packet(PubComp(v4::PubComp::new(release.pkid)));
            }
            PubRec(ack) => {
                if let Some(entry) = self.in_flight.get_mut(&ack.pkid) {
                    entry.1 = true;
                }
                self.link.send_packet(PubRel(v4::PubRel::new(ack.pkid)));
            }
            PubAck(v4::PubAck { pkid }) | PubComp(v4::PubComp { pkid }) => {
                self.in_flight.remove(&pkid);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Closes without DISCONNECT, resumes the session and sends again the messages that were not
    /// acknowledged.
    fn lose_link(&mut self) {
        self.losses += 1;
        // In turn, the broker first sees the loss, or the new connection.
        if self.losses.is_multiple_of(2) {
            self.link
                .stream()
                .get_ref()
                .shutdown(Shutdown::Both)
                .expect("a lost link");
        }
        let (link, present) = connect(&self.broker, "echo");
        std::mem::replace(&mut self.link, link).close();
        assert!(present, "the session is gone");
        for (identifier, (number, received)) in self.in_flight.clone() {
            if received {
                let release = v4::PubRel::new(identifier);
                self.link.send_packet(v4::Packet::PubRel(release));
            } else {
                self.publish(identifier, number, true);
            }
        }
    }
}

fn connect(broker: &LocalBroker, id: &str) -> (Connection<TlsStream<TcpStream>>, bool) {
    let identity = Pair {
        cert: broker.cert().expect("a certificate").to_owned(),
        key: broker.key().expect("a key").to_owned(),
    };
    let tls = certs::dial(broker.port(), broker.ca_file().expect("a CA"), &identity);
    let mut link = Connection::speaking(suite(), tls);
    let mut connect = v4::Connect::new(id);
    connect.clean_session = false;
    link.send_packet(v4::Packet::Connect(connect));
    let answer = link.expect_connack();
    assert_eq!(answer.code, v4::ConnectReturnCode::Success);
    (link, answer.session_present)
}

#[test]
fn nothing_is_lost_at_full_speed() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut echo = Echo::start(qos);
        echo.run(COUNT, usize::MAX);
        assert_eq!((echo.repeated, echo.reordered), (0, 0), "{qos:?}");
    }
}

#[test]
fn nothing_is_lost_over_lost_connections() {
    let mut echo = Echo::start(QoS::AtLeastOnce);
    echo.run(COUNT, 500);
    assert!(echo.losses >= 9);
    let mut echo = Echo::start(QoS::ExactlyOnce);
    echo.run(COUNT, 500);
    assert!(echo.losses >= 9);
    assert_eq!(echo.repeated, 0);
}

/// More messages than the crate keeps for a client by default.
#[test]
fn a_client_that_was_away_misses_nothing() {
    const WAITING: u16 = 12_000;
    let broker = LocalBroker::start().expect("a broker");
    let (mut away, _) = connect(&broker, "away");
    let mut subscribe = v4::Subscribe::new("#", QoS::AtLeastOnce);
    subscribe.pkid = 1;
    away.send_packet(v4::Packet::Subscribe(subscribe));
    away.expect_suback();
    away.close();
    let (mut writer, _) = connect(&broker, "writer");
    for number in 1..=WAITING {
        let mut publish = v4::Publish::new("t", QoS::AtLeastOnce, number.to_be_bytes());
        publish.pkid = number;
        writer.send_packet(v4::Packet::Publish(publish));
        // Acknowledgments that nobody reads would stop the broker in the end.
        if number % 100 == 0 {
            for acknowledged in number - 99..=number {
                assert_eq!(writer.expect_puback().pkid, acknowledged);
            }
        }
    }
    let (mut away, present) = connect(&broker, "away");
    assert!(present);
    for number in 1..=WAITING {
        let publish = away.expect_publish();
        assert_eq!(publish.payload[..], number.to_be_bytes());
        away.send_puback(publish.pkid);
    }
}
