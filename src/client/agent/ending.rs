//! DISCONNECT and TERMINATE: what was queued before them is done before them.
//!
//! Both go ahead of the queue; the commands that stood in it at that moment go before them all the same
//! (`requests.rs` counts them). Afterwards DISCONNECT leaves the loop offline until RECONNECT, and
//! TERMINATE ends it. The loop's thread; it does not wait here.

use std::time::{Duration, Instant};

use super::connection::Phase;
use super::{Agent, BATCH, Ended};
use crate::client::lane::Leave;
use crate::client::recording::What;
use crate::client::ticket::Completions;
use crate::mqtt::packet::{Protocol, ReasonCode};
use crate::mqtt::session::{Outcome, Reason};

/// After the grace of TERMINATE, or once nothing is left to do: how long everything may take that leaving needs,
/// which is to read what has come, to send DISCONNECT and to wait for the broker to close its side. With the turn
/// of the loop in which it is over that is a second.
const LEAVING_TIME: Duration = Duration::from_millis(900);

impl Agent {
    /// DISCONNECT.
    pub(super) fn disconnect(&mut self, leave: Leave, done: Completions, now: Instant) {
        let Some(done) = self.requests.join_disconnect(leave, done) else {
            return;
        };
        if self.connection.is_online() {
            let before = self.commands.len();
            self.requests.disconnect_after(before, leave, done);
        } else if let Some(done) = self.connection.join_closing(done) {
            log::info!("DISCONNECT while not connected: staying offline until RECONNECT");
            self.drop_link(now);
            self.connection.go_offline();
            self.tell_offline();
            done.tell(&Outcome::delivered(0, Duration::ZERO));
            let no_connection = Outcome::NeverSent(Reason::NoConnection);
            self.requests.end_reconnects(&no_connection);
        }
    }

    /// TERMINATE. Asking again can only bring the end nearer.
    pub(super) fn terminate(&mut self, end_of_grace: Instant, leave: Leave, done: Completions) {
        self.connection.close_by(end_of_grace + LEAVING_TIME);
        let before = self.commands.len();
        self.requests
            .terminate_after(before, end_of_grace, leave, done);
    }

    /// From when on TERMINATE leaves no time to read what a broker sends without end. The rest of the time is for
    /// leaving.
    pub(super) fn reads_until(&self) -> Option<Instant> {
        let end_of_grace = self.requests.ending_deadline()?;
        Some(end_of_grace + LEAVING_TIME / 2)
    }

    /// Whether commands may be taken out of the queue now.
    pub(super) fn takes_commands(&self) -> bool {
        let is_wanted = self.session.wants_commands() && self.pace.window_is_open();
        is_wanted && self.requests.let_commands_pass()
            || self.takes_requests() && self.commands.has_requests()
    }

    /// How many plain messages may be taken one after the other, without asking again.
    pub(super) fn takes_messages(&self) -> usize {
        match self.pace.window_is_open() {
            true => (self.session.wants_messages()).min(self.requests.commands_that_pass()),
            false => 0,
        }
    }

    /// Whether commands other than PUBLISH may be taken now, with those that stand before them.
    pub(super) fn takes_requests(&self) -> bool {
        self.session.wants_requests() && self.requests.let_commands_pass()
    }

    /// Sends DISCONNECT once what goes before it is sent, or stays offline if the link went first.
    pub(super) fn go_offline_if_due(&mut self, now: Instant) {
        let Some(before) = self.requests.before_disconnect() else {
            return;
        };
        let online = self.connection.is_online();
        // After DISCONNECT the session takes hardly any packet: it handles first what was read already.
        let unsent = || self.session.has_unsent() || self.wire.has_unhandled();
        if online && (before > 0 || unsent()) {
            return;
        }
        if let Some((leave, done)) = self.requests.take_disconnect() {
            self.close(leave, done, now);
        }
    }

    pub(super) fn ending_deadline(&self) -> Option<Instant> {
        match self.connection.is_closing() {
            // It has a deadline of its own.
            true => None,
            false => self.requests.ending_deadline(),
        }
    }

    /// Sends DISCONNECT once TERMINATE is due, if the broker is there.
    pub(super) fn end_if_due(&mut self, now: Instant) -> bool {
        let due = self.connection.is_online() && self.is_due_to_end(now);
        if due {
            self.read_the_rest(now);
            if self.connection.is_online() {
                let leave = self.requests.ending_leave();
                self.close(leave, Completions::default(), now);
            }
        }
        due
    }

    /// Whether the loop is to end now.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.failure.is_some()
            || match *self.connection.phase() {
                Phase::Online { .. } | Phase::Closing { .. } => false,
                Phase::Offline => self.requests.is_ending(),
                // An attempt that comes after the grace time is none.
                Phase::Waiting { until, .. } if self.requests.grace_is_over(until) => true,
                _ => self.is_due_to_end(now),
            }
    }

    /// Whether TERMINATE was asked for, and its grace is over or nothing is left before it.
    fn is_due_to_end(&self, now: Instant) -> bool {
        let nothing_left = || {
            self.requests.end_is_next()
                && !self.session.has_unresolved()
                && self.session.output().is_empty()
                && !self.fanout.awaits_response()
        };
        self.requests.grace_is_over(now) || nothing_left()
    }

    /// Tells every thread that still waits, and ends.
    pub(super) fn end(mut self) -> Ended {
        // From here on nothing is queued any more, not even by a callback that is told of its end.
        self.commands.close();
        self.client.next_identifier = self.session.next_identifier();
        let (reason, unconnected) = match self.failure {
            Some(_) => (Reason::NoConnection, None),
            None => {
                let trouble = self.connection.trouble(&self.client, Instant::now());
                (Reason::Terminated, trouble)
            }
        };
        let now = Instant::now();
        self.record_turn(now);
        self.drop_link(now);
        let mut left = self.session.unresolved();
        self.session.abandon(reason);
        self.handle_events(now);
        let session = &self.session;
        self.fanout.end_hold(|delivery| session.is_owed(delivery));
        while let Some(command) = self.commands.take(BATCH, now) {
            left += 1;
            self.tell(command.completion, Outcome::Cancelled(reason));
        }
        self.fanout.responses().end(reason);
        self.requests.end(reason);
        self.read_gauges();
        self.record(What::LoopEnded);
        self.reporter.end(self.failure.clone());
        log::debug!("the loop ends; commands left unfinished: {left}");
        Ended {
            client: self.client,
            result: self.failure.take().map_or(Ok(()), Err),
            stats: self.meter.read(),
            left,
            unconnected,
        }
    }

    /// Sends DISCONNECT and closes the link once it is out.
    fn close(&mut self, leave: Leave, done: Completions, now: Instant) {
        if self.connection.is_online() {
            match (leave, self.client.options.protocol) {
                (Leave::Quietly, _) => self.session.disconnect(ReasonCode::SUCCESS),
                (Leave::WithWill, Protocol::V5) => {
                    self.session.disconnect(ReasonCode::DISCONNECT_WITH_WILL);
                }
                // To the broker it is a lost link [MQTT-3.1.2-8].
                (Leave::WithWill, _) => self.session.close_unsaid(),
            }
            // Earlier bytes go out first, however slowly the link takes them.
            let deadline = match self.requests.ending_deadline() {
                Some(end_of_grace) => end_of_grace.min(now) + LEAVING_TIME,
                None => now + self.client.options.ack_timeout,
            };
            let unsent = self.session.output().len();
            self.connection.close(deadline, unsent, done);
        } else {
            self.drop_link(now);
            self.connection.go_offline();
            self.tell_offline();
            done.tell(&Outcome::delivered(0, Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::memory::{
        Peer, WINDOW, acknowledge, client, client_with, connected, memory_link, turn,
    };
    use super::*;
    use crate::client::batch::Batch;
    use crate::client::handle::Handle;
    use crate::client::inbox::Inbox;
    use crate::client::outlet::WhenFull;
    use crate::client::ticket::Ticket;
    use crate::mqtt::packet::{Filter, Publish, QoS};

    /// For the identifier 1. The session does not take it after DISCONNECT.
    const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 1];

    /// A loop that has sent SUBSCRIBE under the identifier 1.
    fn subscribing() -> (Agent, Handle, Inbox, Ticket, Arc<Mutex<Peer>>) {
        let (mut agent, handle, _batch, peer) = connected(client(), 0);
        let inbox = handle.inbox(1, WhenFull::WaitAside);
        let filters = vec![Filter::new("x", QoS::AtLeastOnce)];
        let subscribed = handle.subscribe(&inbox, filters).unwrap();
        turn(&mut agent);
        assert_eq!(agent.session.in_flight(), 1);
        (agent, handle, inbox, subscribed, peer)
    }

    #[test]
    fn terminate_does_not_wait_longer_for_a_disconnect_that_is_stuck() {
        let client = client_with(|options| options.ack_timeout = Duration::from_secs(60));
        let (mut agent, handle, _batch, peer) = connected(client, 0);
        peer.lock().unwrap().is_full = true;
        let now = Instant::now();
        let offline = handle.disconnect();
        agent.take_urgent(now);
        agent.exchange(now);
        assert!(agent.connection.is_closing());
        let grace = Duration::from_secs(5);
        let end = handle.terminate(grace);
        agent.take_urgent(now);
        let late = agent.connection.deadline().unwrap();
        assert!((now + grace + LEAVING_TIME..).contains(&late), "{late:?}");
        assert!(late <= Instant::now() + grace + LEAVING_TIME);
        for (time, has_ended) in [(late - Duration::from_millis(1), false), (late, true)] {
            agent.advance_connection(time);
            assert_eq!(agent.has_ended(time), has_ended);
        }
        drop((handle, offline, end));
    }

    #[test]
    fn a_broker_that_sends_without_end_cannot_put_off_the_end() {
        /// More than a turn reads, and far less than what came at once in the end.
        const LITTLE: usize = 10 * 1024 * 1024;
        let (mut agent, handle, _batch, peer) = connected(client(), 0);
        let message = [[0x30, 103, 0, 1, b'x'].as_slice(), &[7; 100]].concat();
        peer.lock().unwrap().flood = Some(message.repeat(156));
        let grace = Duration::from_secs(5);
        let end = handle.terminate(grace);
        let now = Instant::now();
        agent.take_urgent(now);
        let read = || std::mem::take(&mut peer.lock().unwrap().bytes_read);
        read();
        // The grace is over, and the time to leave is over: what it has to read at these moments is bounded.
        assert!(agent.end_if_due(now + grace));
        let first = read();
        assert!(agent.connection.is_closing());
        agent.advance_connection(now + grace + LEAVING_TIME);
        let second = read();
        assert!(agent.has_ended(now + grace + LEAVING_TIME));
        println!("{first} bytes were read before leaving, and {second} before closing");
        assert!(first.max(second) < LITTLE, "{first} bytes, then {second}");
        drop((handle, end));
    }

    #[test]
    fn leaving_and_closing_have_one_deadline() {
        for grace in [Duration::ZERO, Duration::from_secs(5)] {
            let (mut agent, handle, _batch, peer) = connected(client(), 1);
            turn(&mut agent);
            peer.lock().unwrap().is_full = true;
            let end = handle.terminate(grace);
            let now = Instant::now();
            agent.take_urgent(now);
            assert!(agent.end_if_due(now + grace));
            agent.exchange(now + grace);
            // The link takes DISCONNECT at the last moment, and the broker does not close its side.
            let latest = now + grace + LEAVING_TIME;
            let nearly = latest - Duration::from_millis(100);
            peer.lock().unwrap().is_full = false;
            agent.wire.look();
            agent.exchange(nearly);
            agent.advance_connection(nearly);
            let deadline = agent.connection.deadline().unwrap();
            assert!(deadline <= latest, "{:?} too late", deadline - latest);
            agent.advance_connection(latest);
            assert!(agent.has_ended(latest));
            drop((handle, end));
        }
    }

    /// A kept session sends two messages that nobody subscribed to. Then the link is made anew.
    #[test]
    fn what_waits_for_a_subscription_at_the_end_is_delivered_or_comes_again() {
        for (keeps_session, topics, dropped) in [(false, &["a"][..], 1), (true, &[], 0)] {
            let client = client_with(|options| options.unmatched_queue = 1);
            let (mut agent, handle) = client.open();
            let now = Instant::now();
            let stored = [
                [0x32, 6, 0, 1, b'a', 0, 1, b'x'],
                [0x32, 6, 0, 1, b'b', 0, 2, b'x'],
            ];
            for (session_present, messages) in [(true, &stored[..]), (keeps_session, &[])] {
                let (link, peer) = memory_link();
                agent.greet(link, now + Duration::from_secs(60), now);
                let connack = [0x20, 2, u8::from(session_present), 0];
                let bytes = [&connack[..], messages.as_flattened()].concat();
                peer.lock().unwrap().to_read.push_back(bytes);
                agent.exchange(now);
                assert!(agent.connection.is_online());
                agent.drop_link(now);
            }
            let ended = agent.end();
            let told: Vec<_> = handle.unmatched().try_iter().collect();
            let told: Vec<_> = told.iter().map(|message| message.topic()).collect();
            assert_eq!(told, topics, "{keeps_session}");
            assert_eq!(ended.stats.unmatched_dropped, dropped, "{keeps_session}");
        }
    }

    #[test]
    fn a_disconnect_ends_a_reconnect_that_waits_for_its_connection() {
        let (mut agent, handle) = client().open();
        let again = handle.reconnect();
        agent.take_urgent(Instant::now());
        assert_eq!(again.outcome(), None);
        let offline = handle.disconnect();
        agent.take_urgent(Instant::now());
        let never_sent = Outcome::NeverSent(Reason::NoConnection);
        assert_eq!(again.outcome(), Some(never_sent));
        assert!(matches!(agent.connection.phase(), Phase::Offline));
        drop((handle, offline));
    }

    #[test]
    fn a_suback_that_was_read_before_disconnect_counts() {
        let (mut agent, handle, inbox, subscribed, peer) = subscribing();
        let mut batch = Batch::new();
        for _ in 0..WINDOW {
            let message = Publish::new("t", QoS::AtLeastOnce, "x");
            handle.publish_in(message, &mut batch).unwrap();
        }
        turn(&mut agent);
        // More than one portion; SUBACK is in the last one.
        acknowledge(&peer, 2..=WINDOW);
        peer.lock().unwrap().to_read[0].extend(SUBACK);
        let offline = handle.disconnect();
        agent.take_urgent(Instant::now());
        turn(&mut agent);
        assert!(subscribed.outcome().unwrap().is_delivered());
        turn(&mut agent);
        assert!(agent.connection.is_closing());
        drop((handle, inbox, offline));
    }

    /// Although the window has room for all of them at once.
    #[test]
    fn commands_that_were_queued_after_disconnect_wait_until_reconnect() {
        const EACH: u64 = 5;
        let (mut agent, handle, _batch, peer) = connected(client(), 0);
        peer.lock().unwrap().written.clear();
        let mut batch = Batch::new();
        let mut publish = |payload: &'static str| {
            for _ in 0..EACH {
                let message = Publish::new("t", QoS::AtLeastOnce, payload);
                handle.publish_in(message, &mut batch).unwrap();
            }
        };
        publish("before");
        let offline = handle.disconnect();
        agent.take_urgent(Instant::now());
        publish("behind");
        turn(&mut agent);
        let written = peer.lock().unwrap().written.concat();
        let count = |payload: &[u8]| {
            let all = written.windows(payload.len());
            all.filter(|bytes| *bytes == payload).count() as u64
        };
        assert_eq!((count(b"before"), count(b"behind")), (EACH, 0));
        assert_eq!(batch.outstanding(), 2 * EACH);
        drop((agent, handle, offline));
    }

    #[test]
    fn a_suback_that_has_come_when_the_grace_is_over_counts() {
        let (mut agent, handle, inbox, subscribed, peer) = subscribing();
        let grace = Duration::from_secs(5);
        let end = handle.terminate(grace);
        let now = Instant::now();
        agent.take_urgent(now);
        assert!(!agent.end_if_due(now));
        peer.lock().unwrap().to_read.push_back(SUBACK.to_vec());
        assert!(agent.end_if_due(now + grace));
        assert!(subscribed.outcome().unwrap().is_delivered());
        assert!(agent.connection.is_closing());
        drop((handle, inbox, end));
    }
}
