//! Commands and packets in, packets out: one portion of it at a time.
//!
//! A quick broker acknowledges a whole window with one write. If the loop handled all of that before it
//! takes the next command, the broker would be idle meanwhile, and the loop would be idle while the
//! broker answers. So commands have their turn again, and go out, as soon as there is room for a portion
//! of them: both sides work at the same time.
//!
//! Between portions, packets may have been read and not handled, and more may be there to be read. So
//! two rules hold. Code that gives the link up handles first what was read, except where that broke the
//! protocol (RECONNECT has its turn when nothing is left). Code that judges that something did not come
//! (an acknowledgment, CONNACK, the end of a grace) reads the rest first. The loop's thread; it does not
//! wait here.

use std::time::Instant;

use super::Agent;
use super::connection::Phase;
use super::pace::portion;
use super::wire::ReceivedPacket;
use crate::mqtt::packet::ProtocolError;
use crate::mqtt::session::LinkLoss;

/// Events that may come together before they are handled: a few, so that they stay in the cache.
const EVENTS: usize = 32;

/// Reads before what goes ahead of the commands has its turn again; fewer if they bring a portion.
const READS: usize = 64;

/// Bytes that a link may have when nothing more is awaited from it: more than a socket holds, unless the system is
/// told otherwise.
const REST: u64 = 8 * 1024 * 1024;

impl Agent {
    /// Takes commands, reads and handles what the link has, and writes what the session wants sent. Call it
    /// again at once while something is left unhandled.
    pub(super) fn exchange(&mut self, now: Instant) -> bool {
        self.record_turn(now);
        let mut busy = self.take_commands(now);
        busy |= self.receive(now);
        self.offer_again(now);
        if self.session.next_timer().is_some_and(|at| at <= now) {
            // Nothing is overdue whose acknowledgment has come.
            self.read_the_rest(now);
            self.count_rate(now);
            self.session.handle_timeout(now);
            // An acknowledgment of the last moment may have made room: the next turn takes commands for it.
            busy = true;
        }
        busy |= self.handle_events(now);
        busy |= self.transmit(now);
        busy |= self.handle_events(now);
        self.read_gauges();
        busy
    }

    /// Counts that other parts keep anyway: read once a turn, not once a message.
    pub(super) fn read_gauges(&self) {
        let meter = &self.meter;
        meter.in_flight.set(self.session.in_flight() as u64);
        meter.waiting_messages.set(self.fanout.waiting() as u64);
        meter.waiting_bytes.set(self.session.bytes_waiting() as u64);
        meter.unmatched_dropped.set(self.fanout.unmatched_dropped());
        let (responses, late, unknown) = self.fanout.response_counts();
        meter.responses.set(responses);
        meter.late_responses.set(late);
        meter.unknown_responses.set(unknown);
        meter.bytes_received.set(self.wire.bytes_read());
        meter.bytes_sent.set(self.wire.bytes_written());
        meter.packets_received.set(self.wire.packets_read());
        meter.packets_sent.set(self.session.packets_sent());
        meter.writes.set(self.wire.writes());
    }

    /// Counts the time in which the rate let no message leave, if one waits now that it does.
    fn count_rate(&self, now: Instant) {
        if let Phase::Online { since } = *self.connection.phase()
            && let Some(closed) = self.session.rate_was_closed(now)
            && (self.session.has_unsent() || !self.commands.is_empty())
        {
            let begin = closed.start.max(since);
            let held = closed.end.saturating_duration_since(begin);
            self.meter.rate_limited.add_time(held);
        }
    }

    /// Handles a portion of what is left. If nothing is, reads until the link is drained, or has brought a
    /// portion, and hands each packet to the session.
    fn receive(&mut self, now: Instant) -> bool {
        if self.wire.has_unhandled() {
            self.handle_received(now);
            return true;
        }
        let mut busy = false;
        for _ in 0..READS {
            let reads = self.wire.is_readable() && !self.wire.has_unhandled();
            if !reads || self.session.is_behind_with_acks() {
                return busy;
            }
            match self.wire.read() {
                Ok(Some(0)) => {
                    self.link_lost(LinkLoss::PeerClosed, now);
                    return true;
                }
                Ok(Some(bytes)) => {
                    busy = true;
                    self.record_read(bytes);
                    self.handle_received(now);
                }
                Ok(None) => self.note_unfinished(now),
                Err(error) => {
                    self.link_failed(error, now);
                    return true;
                }
            }
        }
        busy
    }

    /// Tells the session of a packet that has come in part.
    fn note_unfinished(&mut self, now: Instant) {
        match self.wire.unfinished() {
            0 => {}
            bytes => self.session.handle_unfinished(bytes, now),
        }
    }

    /// Handles a portion of what was received, and ends the link if it breaks the protocol.
    fn handle_received(&mut self, now: Instant) {
        let result = self.handle_packets(now);
        if result.is_err() {
            // Nothing that comes behind a violation counts.
            self.wire.discard();
        }
        // Packets before the violation count, CONNACK for one.
        self.handle_events(now);
        if let Err(error) = result
            && self.wire.is_up()
        {
            if self.session.break_off(error.answer()) {
                self.write_last_words(now);
            }
            self.link_lost(LinkLoss::Protocol(error), now);
        }
    }

    fn handle_packets(&mut self, now: Instant) -> Result<(), ProtocolError> {
        let portion = portion(self.session.window());
        let in_flight = self.session.in_flight();
        // Until none is left: an event may be that the link has to go.
        while let Some(ReceivedPacket { packet, shown }) = self.wire.next_packet()? {
            let handled = self.session.handle_packet(packet, now);
            // A packet that is wrong only in its place shows its bytes, too.
            handled.map_err(|error| error.with_beginning(shown.bytes()))?;
            if self.session.events() >= EVENTS {
                self.handle_some_events(now);
            }
            if self.session.in_flight() + portion <= in_flight {
                return Ok(());
            }
        }
        self.note_unfinished(now);
        Ok(())
    }

    /// Writes what the session wants sent as far as the link takes it at once. A failure changes nothing: the link goes
    /// for another reason, and nothing more is read from it.
    fn write_last_words(&mut self, now: Instant) {
        while self.wire.is_writable() && !self.session.output().is_empty() {
            match self.wire.write(self.session.output()) {
                Ok(Some(length)) if length > 0 => {
                    self.record_write(length);
                    self.session.handle_written(length, now);
                }
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }

    /// Writes what the session wants sent until the link takes no more.
    fn transmit(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while self.wire.is_writable() && !self.session.output().is_empty() {
            match self.wire.write(self.session.output()) {
                Ok(Some(0)) => {
                    self.read_the_rest(now);
                    if self.wire.is_up() {
                        self.link_lost(LinkLoss::PeerClosed, now);
                    }
                    return true;
                }
                Ok(Some(length)) => {
                    busy = true;
                    self.record_write(length);
                    self.session.handle_written(length, now);
                }
                Ok(None) => {}
                Err(error) => {
                    self.read_the_rest(now);
                    if self.wire.is_up() {
                        self.link_failed(error, now);
                    }
                    return true;
                }
            }
        }
        busy
    }

    /// Reads on until the link is drained, up to more than a socket holds, and not for longer than TERMINATE
    /// allows. Call it before judging that something did not come, and before giving up a link that takes
    /// nothing any more: what came over it counts, and perhaps the broker said why.
    pub(super) fn read_the_rest(&mut self, now: Instant) {
        self.handle_what_is_left(now);
        self.wire.look_for_input();
        let most = self.wire.bytes_read() + REST;
        for _ in 0..READS {
            if !self.wire.is_readable() {
                return;
            }
            self.receive(now);
            self.handle_what_is_left(now);
            if self.wire.bytes_read() >= most || self.has_to_leave() {
                return;
            }
        }
    }

    /// Call it before giving a link up: what was read counts.
    pub(super) fn handle_what_is_left(&mut self, now: Instant) {
        while self.wire.has_unhandled() {
            self.handle_received(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::super::memory::{
        Peer, WINDOW, acknowledge, client, client_with, connected, memory_link, turn,
    };
    use super::*;
    use crate::client::batch::Batch;
    use crate::client::outlet::WhenFull;
    use crate::mqtt::packet::{Filter, Protocol, Publish, QoS};
    use crate::mqtt::v4;

    const PINGRESP: [u8; 2] = [0xd0, 0];

    /// How many PUBLISHes each write since the last look had.
    fn published(peer: &Arc<Mutex<Peer>>) -> Vec<usize> {
        let written = std::mem::take(&mut peer.lock().unwrap().written);
        let published = written.iter().filter(|bytes| bytes[0] == 0x32);
        let counted = published.map(|bytes| {
            let mut bytes = bytes::BytesMut::from(bytes.as_slice());
            std::iter::from_fn(|| v4::decode(&mut bytes, 1_000).unwrap()).count()
        });
        counted.collect()
    }

    #[test]
    fn commands_go_out_between_acknowledgments_that_came_together() {
        let (mut agent, handle, batch, peer) = connected(client(), 300);
        turn(&mut agent);
        assert_eq!(published(&peer), [100], "the window");
        acknowledge(&peer, 1..=100);
        assert_eq!(
            turn(&mut agent),
            5,
            "the last one looks whether there is more"
        );
        assert_eq!(published(&peer), [25, 25, 25, 25]);
        assert_eq!(batch.outstanding(), 200);
        assert!(!agent.wire.has_unhandled());
        drop((agent, handle));
    }

    #[test]
    fn what_came_before_the_link_broke_has_happened() {
        for pieces in [vec![1..=100], vec![1..=50, 51..=100]] {
            let (mut agent, handle, batch, peer) = connected(client(), 300);
            let first = agent.session.next_identifier();
            turn(&mut agent);
            for piece in pieces {
                acknowledge(&peer, piece.map(|id| first + id));
            }
            peer.lock().unwrap().is_broken = true;
            turn(&mut agent);
            assert!(!agent.wire.is_up());
            assert_eq!(batch.outstanding(), 200, "all that were acknowledged");
            drop((agent, handle));
        }
    }

    #[test]
    fn nothing_is_overdue_whose_acknowledgment_has_come() {
        // In one piece, in two, and in so many that they are not read in one turn.
        for size in [100, 50, 1] {
            let (mut agent, handle, batch, peer) = connected(client(), 150);
            let first = agent.session.next_identifier() + 1;
            turn(&mut agent);
            for begin in (0..WINDOW).step_by(size) {
                acknowledge(&peer, (0..size as u16).map(|id| first + begin + id));
            }
            let late = Instant::now() + agent.client.options.ack_timeout;
            while !peer.lock().unwrap().to_read.is_empty() || agent.wire.has_unhandled() {
                agent.wire.look_for_input();
                agent.exchange(late);
            }
            assert!(agent.wire.is_up());
            assert_eq!(batch.outstanding(), 50);
            agent.exchange(late);
            agent.exchange(late + agent.client.options.ack_timeout);
            peer.lock().unwrap().to_read.push_back(PINGRESP.to_vec());
            agent.wire.look_for_input();
            agent.exchange(late + agent.client.options.ack_timeout);
            assert!(!agent.wire.is_up(), "the others are overdue then");
            drop((agent, handle));
        }
    }

    #[test]
    fn room_that_is_made_at_the_last_moment_is_used_in_another_turn() {
        for window in [1, WINDOW] {
            let client = client_with(|options| options.max_inflight = window);
            let count = u64::from(window) + 1;
            let (mut agent, handle, batch, peer) = connected(client, count);
            let first = agent.session.next_identifier() + 1;
            turn(&mut agent);
            published(&peer);
            // Nothing is there when the loop reads; a moment later, when the timer has rung, it is.
            peer.lock().unwrap().to_read.push_back(Vec::new());
            acknowledge(&peer, (0..window).map(|id| first + id));
            let late = Instant::now() + agent.client.options.ack_timeout;
            agent.wire.look_for_input();
            assert!(agent.exchange(late), "there is more to do");
            assert_eq!(batch.outstanding(), 1);
            agent.exchange(late);
            assert_eq!(published(&peer), [1]);
            drop((agent, handle));
        }
    }

    #[test]
    fn a_broker_that_goes_on_sending_cannot_put_off_what_is_overdue() {
        let (mut agent, handle, _batch, peer) = connected(client(), 100);
        turn(&mut agent);
        let late = Instant::now() + agent.client.options.ack_timeout;
        let unsolicited = vec![0x40, 2, 0xff, 0xff];
        let more = std::iter::repeat_n(unsolicited, 4 * READS * READS);
        peer.lock().unwrap().to_read.extend(more);
        agent.wire.look_for_input();
        agent.exchange(late);
        assert!(agent.wire.is_up(), "the broker is asked");
        peer.lock().unwrap().to_read.push_front(PINGRESP.to_vec());
        agent.wire.look_for_input();
        agent.exchange(late);
        assert!(!agent.wire.is_up());
        assert!(!peer.lock().unwrap().to_read.is_empty());
        drop((agent, handle));
    }

    #[test]
    fn what_comes_behind_a_violation_does_not_count() {
        let (mut agent, handle, batch, peer) = connected(client(), 100);
        turn(&mut agent);
        acknowledge(&peer, 1..=10);
        {
            let piece = &mut peer.lock().unwrap().to_read[0];
            piece.extend([0x20, 2, 0, 0]);
            piece.extend((11..=20).flat_map(|id| [0x40, 2, 0, id]));
        }
        turn(&mut agent);
        assert!(!agent.wire.is_up());
        assert_eq!(batch.outstanding(), 90);
        drop((agent, handle));
    }

    #[test]
    fn a_connack_that_has_come_is_not_late() {
        let client = client();
        let (mut agent, handle) = client.open();
        let (link, peer) = memory_link();
        let now = Instant::now();
        let deadline = now + Duration::from_secs(1);
        agent.greet(link, deadline, now);
        agent.exchange(now);
        peer.lock().unwrap().to_read.push_back(vec![0x20, 2, 0, 0]);
        agent.advance_connection(deadline);
        assert!(matches!(agent.connection.phase(), Phase::Online { .. }));
        drop((agent, handle));
    }

    #[test]
    fn what_was_read_before_disconnect_has_happened() {
        let (mut agent, handle, batch, peer) = connected(client(), 125);
        turn(&mut agent);
        acknowledge(&peer, 1..=100);
        let ticket = handle.disconnect();
        agent.take_urgent(Instant::now());
        turn(&mut agent);
        assert_eq!(batch.outstanding(), 25);
        turn(&mut agent);
        assert!(peer.lock().unwrap().written.concat().ends_with(&[0xe0, 0]));
        drop((agent, handle, ticket));
    }

    #[test]
    fn what_was_read_before_a_link_is_left_for_another_has_happened() {
        const MESSAGE: usize = 1_000_000;
        let client = client_with(|options| options.max_packet_size = 2 * MESSAGE);
        let (mut agent, handle, mut batch, peer) = connected(client, 0);
        let inbox = handle.inbox(1, WhenFull::WaitAside);
        agent.take_urgent(Instant::now());
        let filters = vec![Filter::new("x", QoS::AtLeastOnce)];
        let subscribed = handle.subscribe(&inbox, filters).unwrap();
        turn(&mut agent);
        let granted = vec![0x90, 3, 0, 1, 1];
        peer.lock().unwrap().to_read.push_back(granted);
        turn(&mut agent);
        assert!(subscribed.outcome().is_some());
        // More than may wait for a thread that does not read its inbox.
        for id in 1..=100 {
            let mut bytes = bytes::BytesMut::new();
            let mut message = Publish::new("x", QoS::AtLeastOnce, vec![7; MESSAGE]);
            let id = crate::mqtt::packet::PacketId::new(id);
            v4::encode_publish(&mut message, id, false, &mut String::new(), &mut bytes);
            let pieces = bytes.chunks(16_000).map(<[u8]>::to_vec);
            peer.lock().unwrap().to_read.extend(pieces);
        }
        while !peer.lock().unwrap().to_read.is_empty() {
            turn(&mut agent);
        }
        for number in 0..WINDOW {
            let message = Publish::new("t", QoS::AtLeastOnce, number.to_string());
            handle.publish_in(message, &mut batch).unwrap();
        }
        turn(&mut agent);
        assert_eq!(batch.outstanding(), 100);
        drop(inbox);
        acknowledge(&peer, 2..=101);
        agent.take_urgent(Instant::now());
        turn(&mut agent);
        assert!(!agent.wire.is_up());
        assert_eq!(batch.outstanding(), 0);
        drop((agent, handle));
    }

    #[test]
    fn large_messages_wait_in_the_queue() {
        const CAPACITY: usize = 10;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let client = client_with(|options| {
                options.max_inflight = 1_000;
                options.command_queue = CAPACITY;
                options.block_time = Duration::ZERO;
            });
            let (mut agent, handle, mut batch, peer) = connected(client, 0);
            turn(&mut agent);
            let payload = bytes::Bytes::from(vec![0; 300_000]);
            for _ in 0..100 {
                let message = || Publish::new("t", qos, payload.clone());
                while handle.publish_in(message(), &mut batch).is_ok() {}
                let written = std::mem::take(&mut peer.lock().unwrap().written);
                let sent = written.iter().filter(|bytes| bytes.len() > payload.len());
                assert!(sent.count() <= 1);
                assert!(agent.commands.len() <= 2 * CAPACITY);
                turn(&mut agent);
            }
            drop((agent, handle));
        }
    }

    /// With MQTT 5 a broker that takes no further message delays no other packet [MQTT-3.3.4-8].
    #[test]
    fn the_filters_of_a_dropped_inbox_and_requests_behind_them_wait_for_no_message() {
        let client = client_with(|options| options.protocol = Protocol::V5);
        let (mut agent, handle) = client.open();
        let (link, peer) = memory_link();
        let now = Instant::now();
        agent.greet(link, now + Duration::from_secs(60), now);
        // The broker takes one message at a time.
        let connack = vec![0x20, 6, 0, 0, 3, 0x21, 0, 1];
        peer.lock().unwrap().to_read.push_back(connack);
        agent.exchange(now);
        let inbox = handle.inbox(1, WhenFull::WaitAside);
        let filters = |name: &str| vec![Filter::new(name, QoS::AtLeastOnce)];
        let subscribed = handle.subscribe(&inbox, filters("x")).unwrap();
        turn(&mut agent);
        let granted = vec![0x90, 4, 0, 1, 0, 1];
        peer.lock().unwrap().to_read.push_back(granted);
        turn(&mut agent);
        assert!(subscribed.outcome().unwrap().is_delivered());
        let mut batch = Batch::new();
        for _ in 0..3 {
            let message = Publish::new("t", QoS::AtLeastOnce, "x");
            handle.publish_in(message, &mut batch).unwrap();
        }
        turn(&mut agent);
        peer.lock().unwrap().written.clear();
        drop(inbox);
        let other = handle.inbox(1, WhenFull::WaitAside);
        let asked = handle.subscribe(&other, filters("y")).unwrap();
        let ping = handle.ping().unwrap();
        agent.take_urgent(Instant::now());
        turn(&mut agent);
        let unsubscribe = [0xa2, 6, 0, 3, 0, 0, 1, b'x'].as_slice();
        let subscribe = [0x82, 7, 0, 4, 0, 0, 1, b'y', 1].as_slice();
        let expected = [unsubscribe, subscribe, &[0xc0, 0]].concat();
        assert_eq!(peer.lock().unwrap().written.concat(), expected);
        assert_eq!(batch.outstanding(), 3);
        drop((agent, handle, other, asked, ping));
    }

    /// A thread drops an inbox and subscribes with another one to the same filter, after the loop has looked for dropped
    /// inboxes and before it takes the SUBSCRIBE.
    #[test]
    fn a_filter_of_a_dropped_inbox_is_left_before_another_one_subscribes_to_it() {
        let (mut agent, handle, batch, peer) = connected(client(), 0);
        let old = handle.inbox(1, WhenFull::WaitAside);
        agent.take_urgent(Instant::now());
        let filter = || vec![Filter::new("x", QoS::AtLeastOnce)];
        let subscribed = handle.subscribe(&old, filter()).unwrap();
        turn(&mut agent);
        let answer = |bytes: &[u8]| peer.lock().unwrap().to_read.push_back(bytes.to_vec());
        answer(&[0x90, 3, 0, 1, 1]);
        turn(&mut agent);
        assert!(subscribed.outcome().unwrap().is_delivered());
        agent.take_urgent(Instant::now());
        peer.lock().unwrap().written.clear();
        drop(old);
        let new = handle.inbox(1, WhenFull::WaitAside);
        let asked = handle.subscribe(&new, filter()).unwrap();
        turn(&mut agent);
        answer(&[0xb0, 2, 0, 2]);
        turn(&mut agent);
        answer(&[0x90, 3, 0, 3, 1]);
        for _ in 0..3 {
            agent.take_urgent(Instant::now());
            turn(&mut agent);
        }
        let unsubscribe = [0xa2, 5, 0, 2, 0, 1, b'x'].as_slice();
        let subscribe = [0x82, 6, 0, 3, 0, 1, b'x', 1].as_slice();
        let written = peer.lock().unwrap().written.concat();
        assert_eq!(written, [unsubscribe, subscribe].concat());
        assert!(asked.outcome().unwrap().is_delivered());
        assert!(agent.session.is_subscribed("x"));
        drop((agent, handle, batch, new));
    }

    /// Ends of a batch are kept aside for a moment, and counted before another end is told.
    #[test]
    fn a_callback_finds_all_counted_that_was_acknowledged_before() {
        let (mut agent, handle, batch, peer) = connected(client(), 3);
        let batch = Arc::new(batch);
        let seen = Arc::new(Mutex::new(None));
        let (looks_at, sees) = (Arc::clone(&batch), Arc::clone(&seen));
        let message = Publish::new("t", QoS::AtLeastOnce, "x");
        let look = move |_| *sees.lock().unwrap() = Some(looks_at.outstanding());
        handle.publish_then(message, look).unwrap();
        turn(&mut agent);
        acknowledge(&peer, 1..=4);
        turn(&mut agent);
        assert_eq!(*seen.lock().unwrap(), Some(0));
        drop((agent, handle, batch));
    }

    /// A broker that sends a bad packet and closes with something unread resets the link.
    #[test]
    fn a_violation_is_told_and_nothing_behind_it_counts_where_the_link_takes_no_disconnect() {
        let client = client_with(|options| options.protocol = Protocol::V5);
        let (mut agent, handle) = client.open();
        let (link, peer) = memory_link();
        let now = Instant::now();
        agent.greet(link, now + Duration::from_secs(60), now);
        let connack = vec![0x20, 3, 0, 0, 0];
        peer.lock().unwrap().to_read.push_back(connack.clone());
        agent.exchange(now);
        let mut batch = Batch::new();
        let message = Publish::new("t", QoS::AtLeastOnce, "x");
        handle.publish_in(message, &mut batch).unwrap();
        let first = agent.session.next_identifier() + 1;
        turn(&mut agent);
        peer.lock().unwrap().is_broken = true;
        peer.lock().unwrap().to_read.push_back(connack);
        acknowledge(&peer, first..=first);
        turn(&mut agent);
        assert!(!agent.wire.is_up());
        assert_eq!(batch.outstanding(), 1);
        let trouble = agent.connection.trouble(&agent.client, Instant::now());
        let trouble = trouble.map(|error| error.to_string()).unwrap_or_default();
        assert!(trouble.contains("MQTT-3.2.0-2"), "{trouble}");
        drop((agent, handle));
    }
}
