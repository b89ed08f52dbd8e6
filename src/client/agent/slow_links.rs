//! Links on which bytes pass slowly, in simulated time: nothing is late while they do.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::Agent;
use super::memory::{Peer, client_with, connected};
use crate::client::handle::Handle;
use crate::client::ticket::Ticket;
use crate::mqtt::packet::{PacketId, Publish, QoS};
use crate::mqtt::v4;

const SECOND: Duration = Duration::from_secs(1);

/// A loop that is connected, its clock, and the other side of its link. Time-outs are the defaults.
struct Slow {
    agent: Agent,
    handle: Handle,
    peer: Arc<Mutex<Peer>>,
    now: Instant,
}

impl Slow {
    fn new(keep_alive: Duration, max_packet_size: usize) -> Self {
        let client = client_with(|options| {
            options.keep_alive = keep_alive;
            options.max_packet_size = max_packet_size;
        });
        let (agent, handle, _batch, peer) = connected(client, 0);
        Slow {
            agent,
            handle,
            peer,
            now: Instant::now(),
        }
    }

    /// A second goes by, with ten turns of the loop. In each the broker does this.
    fn second(&mut self, mut broker: impl FnMut(&mut Peer)) {
        for _ in 0..10 {
            self.now += SECOND / 10;
            broker(&mut self.peer.lock().unwrap());
            self.agent.wire.look();
            self.agent.exchange(self.now);
            self.agent.advance_connection(self.now);
            while self.agent.wire.has_unhandled() {
                self.agent.exchange(self.now);
            }
            assert!(self.agent.wire.is_up(), "the link was given up");
        }
    }

    /// The other side sends these bytes at this rate, and reads nothing meanwhile.
    fn arrives(&mut self, bytes: &[u8], bytes_per_second: usize) {
        let mut pieces = bytes.chunks(bytes_per_second / 10);
        while pieces.len() > 0 {
            self.second(|peer| peer.to_read.extend(pieces.next().map(<[u8]>::to_vec)));
        }
    }

    fn publish(&mut self, bytes: usize) -> Ticket {
        let publish = Publish::new("t", QoS::AtLeastOnce, vec![7; bytes]);
        let ticket = self.handle.publish(publish).unwrap();
        self.agent.exchange(self.now);
        ticket
    }

    /// The bytes that the link took since the last look.
    fn wrote(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.peer.lock().unwrap().written).concat()
    }
}

fn message(bytes: usize) -> BytesMut {
    let mut encoded = BytesMut::new();
    let mut message = Publish::new("x", QoS::AtLeastOnce, vec![7; bytes]);
    let id = PacketId::new(9);
    v4::encode_publish(&mut message, id, false, &mut String::new(), &mut encoded);
    encoded
}

#[test]
fn nothing_is_late_while_a_large_packet_comes_in() {
    for (keep_alive, bytes, rate, limit) in [
        (60, 260_000, 10_000, 1_000_000),
        (10, 400_000, 16_000, 1_000_000),
        // Read away.
        (10, 400_000, 16_000, 256 * 1024),
        (3, 100_000, 1_200, 128),
    ] {
        let mut t = Slow::new(keep_alive * SECOND, limit);
        let ticket = t.publish(1);
        let written = t.wrote();
        let id = [written[written.len() - 3], written[written.len() - 2]];
        t.arrives(&message(bytes), rate);
        let asked = t.wrote().windows(2).filter(|w| *w == [0xc0, 0]).count();
        let answers = [[0x40, 2].as_slice(), &id, &[0xd0, 0].repeat(asked)].concat();
        t.arrives(&answers, 1_000);
        assert!(
            ticket
                .outcome()
                .is_some_and(|outcome| outcome.is_delivered())
        );
    }
}

#[test]
fn nothing_is_late_while_a_large_packet_leaves() {
    let mut t = Slow::new(10 * SECOND, 1_000_000);
    t.peer.lock().unwrap().takes = Some(0);
    let ticket = t.publish(1_500_000);
    while !t.agent.session.output().is_empty() {
        t.second(|peer| peer.takes = Some(6_000));
    }
    let written = t.wrote();
    let publish = written.iter().position(|byte| *byte == 0x32).unwrap();
    // Type, length in three bytes, topic.
    let id = &written[publish + 1 + 3 + 3..][..2];
    t.arrives(&[[0x40, 2].as_slice(), id].concat(), 1_000);
    assert!(
        ticket
            .outcome()
            .is_some_and(|outcome| outcome.is_delivered())
    );
}

#[test]
fn nothing_is_late_while_a_tls_record_comes_in() {
    let mut t = Slow::new(10 * SECOND, 1_000_000);
    let ticket = t.publish(1);
    // 100 bytes a second, so that a record takes more than two minutes.
    for _ in 0..150 {
        t.second(|peer| peer.held += 10);
    }
    assert_eq!(ticket.outcome(), None);
}

#[test]
fn disconnect_has_time_while_the_bytes_before_it_leave() {
    let mut t = Slow::new(60 * SECOND, 1_000_000);
    t.peer.lock().unwrap().takes = Some(0);
    let ticket = t.publish(1_500_000);
    let offline = t.handle.disconnect();
    t.agent.take_urgent(t.now);
    while !t.agent.session.output().is_empty() {
        t.second(|peer| peer.takes = Some(3_000));
    }
    assert!(t.wrote().ends_with(&[0xe0, 0]));
    assert_eq!((ticket.outcome(), offline.outcome()), (None, None));
}
