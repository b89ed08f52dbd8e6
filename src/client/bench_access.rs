//! What `benches/micro.rs` measures and the library keeps to itself: a session at work, and the
//! table of subscriptions. Built with the feature `bench-internals` only, and no part of the
//! library's interface.
//!
//! Pure but for the clock that the callers' measurements need; runs on the benchmark's thread.

use std::time::Instant;

use bytes::BytesMut;

use crate::client::ticket::{Completion, Ticket};
use crate::mqtt::packet::{Connect, ConnectReturnCode, Filter, Incoming, ProtocolError};
use crate::mqtt::packet::{Publish, QoS};
use crate::mqtt::session::{Event, Session, SessionOptions};
use crate::mqtt::subscriptions::{Matches, Subscriptions};
use crate::mqtt::v4;
use crate::options::{OnSessionLost, Options};

/// A session whose link is up and takes everything at once.
#[derive(Debug)]
pub struct Online {
    session: Session<Completion>,
    now: Instant,
}

impl Online {
    /// CONNACK has come.
    ///
    /// # Errors
    /// None is expected: the broker behaves.
    pub fn new() -> Result<Self, ProtocolError> {
        let now = Instant::now();
        let defaults = Options::new("localhost", "bench");
        let options = SessionOptions {
            max_inflight: u16::MAX,
            ack_timeout: defaults.ack_timeout,
            keep_alive: defaults.keep_alive,
            on_session_lost: OnSessionLost::default(),
            identifiers: u16::MAX,
            first_identifier: 0,
            max_owed_bytes: usize::MAX,
            fruitless_links: u32::MAX,
        };
        let mut session = Session::new(options, now);
        let connect = Connect {
            client_id: &defaults.client_id,
            clean_session: true,
            keep_alive: 60,
            last_will: None,
            credentials: None,
        };
        session.handle_link_up(&connect, now);
        let mut online = Online { session, now };
        online.flush();
        let accepted = Incoming::ConnAck {
            session_present: false,
            code: ConnectReturnCode::Accepted,
        };
        online.session.handle_packet(accepted, now)?;
        online.tell();
        Ok(online)
    }

    /// PUBLISH: its bytes are in the output when this returns.
    pub fn publish(&mut self, publish: Publish) -> Ticket {
        let (ticket, completion) = Ticket::new();
        self.session.publish(publish.into(), completion, self.now);
        ticket
    }

    /// The bytes for the link.
    pub fn output(&self) -> &[u8] {
        self.session.output()
    }

    /// The link takes all of the output.
    pub fn flush(&mut self) {
        self.session
            .handle_written(self.session.output().len(), self.now);
    }

    /// What the loop does with bytes from the broker: decodes each packet, hands it to the session,
    /// and tells the tickets what came of it.
    ///
    /// # Errors
    /// When the bytes are not what a broker may send.
    pub fn receive(&mut self, bytes: &mut BytesMut) -> Result<(), ProtocolError> {
        while let Some(packet) = v4::decode(bytes, usize::MAX)? {
            self.session.handle_packet(packet, self.now)?;
        }
        self.tell();
        Ok(())
    }

    /// How many packets await their acknowledgment.
    pub fn in_flight(&self) -> usize {
        self.session.in_flight()
    }

    fn tell(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if let Event::Resolved { token, outcome } = event {
                token.tell(outcome);
            }
        }
    }
}

/// The table of subscriptions.
#[derive(Debug, Default)]
pub struct Table {
    subscriptions: Subscriptions<u64>,
    matches: Matches<u64>,
}

impl Table {
    /// Adds a filter of response queue `inbox`.
    pub fn subscribe(&mut self, inbox: u64, filter: &str) {
        let filters = [Filter::new(filter, QoS::AtLeastOnce)];
        self.subscriptions.add(inbox, &filters);
    }

    /// How many response queues want this topic.
    pub fn matching(&mut self, topic: &str) -> usize {
        self.subscriptions.matching(topic, &mut self.matches);
        self.matches.subscribers.len()
    }
}
