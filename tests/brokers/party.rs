//! One client of a verdict: its loop, and an inbox for its subscriptions.

use std::sync::Arc;
use std::time::Duration;

use crate::support::HANG;
use crate::support::running::{Running, told};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{
    ConnectionState, Ended, Filter, Handle, Inbox, InboxError, Message, MessageProperties, Outcome,
    Publish, QoS, ReasonCode, Stats, WhenFull,
};

/// A message that does not come within this time does not come at all.
pub const SOON: Duration = Duration::from_secs(10);

/// The payload of the last message.
const MARK: &str = "mark";

pub struct Party {
    running: Running,
    pub inbox: Inbox,
}

impl Party {
    /// Connects with these options.
    #[track_caller]
    pub fn join(options: Options) -> Party {
        let running = Running::start(options);
        let inbox = running.handle().inbox(100, WhenFull::WaitAside);
        let online = running
            .handle()
            .wait_for_connection(HANG, ConnectionState::is_online);
        if online.is_err() {
            let ticket = running.handle().terminate(Duration::ZERO);
            let ended = running.join();
            drop(ticket);
            panic!("no connection: {:?}, {:?}", ended.result, ended.unconnected);
        }
        Party { running, inbox }
    }

    pub fn handle(&self) -> &Handle {
        self.running.handle()
    }

    /// Whether the broker had kept the session of the present connection.
    #[track_caller]
    pub fn session_present(&self) -> bool {
        match self.handle().connection() {
            ConnectionState::Online {
                session_present, ..
            } => session_present,
            other => panic!("not online: {other:?}"),
        }
    }

    /// Subscribes the party's inbox.
    #[track_caller]
    pub fn ask(&self, filter: Filter) -> Outcome {
        told(self.handle().subscribe(&self.inbox, vec![filter]).unwrap())
    }

    /// Subscribes with the highest QoS; the broker has to grant it.
    #[track_caller]
    pub fn subscribe(&self, filter: &str) {
        let outcome = self.ask(Filter::new(filter, QoS::ExactlyOnce));
        assert!(outcome.is_delivered(), "{outcome}");
    }

    #[track_caller]
    pub fn send(&self, message: Publish) -> Outcome {
        told(self.handle().publish(message).expect("room"))
    }

    /// Publishes with QoS 1.
    #[track_caller]
    pub fn publish(&self, topic: &str, payload: &str) {
        let outcome = self.send(message(topic, payload));
        assert!(outcome.is_delivered(), "{outcome}");
    }

    /// Publishes a retained message with QoS 1.
    #[track_caller]
    pub fn retain(&self, topic: &str, payload: &str, properties: MessageProperties) {
        let message = message(topic, payload)
            .with_properties(properties)
            .with_retain(true);
        let outcome = self.send(message);
        assert!(outcome.is_delivered(), "{outcome}");
    }

    /// The next message; `None` if none comes. The word of one that was too large is passed over.
    pub fn next(&self) -> Option<Arc<Message>> {
        loop {
            match self.inbox.recv_timeout(SOON) {
                Err(InboxError::TooLarge { .. }) => {}
                next => return next.ok(),
            }
        }
    }

    /// The messages of this QoS before one that this publisher sends to the topic now: no order holds between those of
    /// different ones [MQTT-4.6.0-6]. The last one is "no mark" if that does not come.
    #[track_caller]
    pub fn until_mark(&self, publisher: &Party, topic: &str, qos: QoS) -> Vec<Arc<Message>> {
        let outcome = publisher.send(Publish::new(topic, qos, MARK));
        assert!(outcome.is_delivered(), "{outcome}");
        let mut came = Vec::new();
        loop {
            match self.next() {
                Some(message) if message.payload() == MARK.as_bytes() => return came,
                Some(message) => came.push(message),
                None => {
                    came.push(Arc::new(Message::new("", QoS::AtMostOnce, "no mark")));
                    return came;
                }
            }
        }
    }

    /// As [`Party::until_mark`] with QoS 1, their payloads in one line.
    #[track_caller]
    pub fn texts_until_mark(&self, publisher: &Party, topic: &str) -> String {
        texts(&self.until_mark(publisher, topic, QoS::AtLeastOnce))
    }

    /// Leaves with DISCONNECT, and returns the counts of the loop.
    #[track_caller]
    pub fn leave(self) -> Stats {
        let ended = self.end(HANG);
        assert!(ended.result.is_ok(), "{ended:?}");
        ended.stats
    }

    /// Ends the loop, unless it has ended by itself.
    #[track_caller]
    pub fn end(self, grace: Duration) -> Ended {
        // The result says what this ticket would.
        drop(self.handle().terminate(grace));
        self.running.join()
    }

    /// Waits for the end of a loop that ends by itself.
    #[track_caller]
    pub fn expect_end(self) -> Ended {
        self.running.join()
    }
}

/// QoS 1.
pub fn message(topic: &str, payload: &str) -> Publish {
    Publish::new(topic, QoS::AtLeastOnce, payload.to_owned())
}

/// The payloads in one line, "none" without any.
pub fn texts(messages: &[Arc<Message>]) -> String {
    let text = |message: &Arc<Message>| String::from_utf8_lossy(message.payload()).into_owned();
    match messages {
        [] => "none".to_owned(),
        messages => messages.iter().map(text).collect::<Vec<_>>().join(", "),
    }
}

/// The reason code of an outcome, or what else became of it.
pub fn code(outcome: &Outcome) -> String {
    let code = outcome.answer().map(|answer| answer.code);
    match (outcome, code) {
        (Outcome::Delivered { .. }, code) => hex(code.unwrap_or_default()),
        (_, Some(code)) => hex(code),
        (other, None) => other.to_string(),
    }
}

fn hex(code: ReasonCode) -> String {
    format!("0x{:02X}", code.value())
}
