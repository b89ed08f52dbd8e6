//! Requests that await a response: the loop adds where the response is to come, and subscribes to that before the first
//! one. The loop's thread; it does not wait here.

use std::time::{Duration, Instant};

use super::Agent;
use super::pending::Pending;
use crate::client::command::Asking;
use crate::client::outlet::RESPONSES;
use crate::client::ticket::Completion;
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::{ConnAck5, Filter};
use crate::mqtt::session::{Outcome, Reason};
use crate::mqtt::topic::check_topic;

impl Agent {
    /// PUBLISH of a request. `completion` ends the request where the end of PUBLISH does.
    pub(super) fn ask(&mut self, asking: Asking, completion: Completion, now: Instant) {
        let Asking {
            publish,
            state,
            pushed,
            deadline,
        } = asking;
        // The thread may have given up just now.
        if deadline <= now || !state.take() {
            self.tell(completion, Outcome::NeverSent(Reason::Expired));
            return;
        }
        let options = &self.client.options.version5;
        let (topic, filter) = options.response_names(self.client.client_id());
        if check_topic(&topic).is_err() {
            self.tell(completion, Outcome::NeverSent(Reason::NoResponseTopic));
            return;
        }
        let has_wildcards = |it: &ConnAck5| it.wildcard_available;
        let filter = match self.session.negotiated().is_none_or(has_wildcards) {
            true => filter,
            // One topic is enough.
            false => Filter::new(&topic, filter.qos).with_options(filter.options),
        };
        if !self.fanout.responses().is_subscribed() && !self.subscribe_to_responses(filter, now) {
            self.tell(completion, Outcome::NeverSent(Reason::SubscriptionLimit));
            return;
        }
        let correlation = self.fanout.responses().open(state, deadline);
        let expiry_begins = match publish.properties().and_then(|all| all.expiry) {
            Some(_) => pushed,
            None => now,
        };
        // The loop's time may be behind that of the thread.
        let awaited = deadline - now.max(pushed);
        let request = publish.into_request(topic, correlation, expiry(awaited));
        let outgoing = Outgoing::pushed(request, expiry_begins);
        self.session
            .publish(outgoing, Pending::Plain(completion), now);
    }

    /// SUBSCRIBE goes out ahead of the first request. Returns `false` if there is no room for a subscription.
    fn subscribe_to_responses(&mut self, filter: Filter, now: Instant) -> bool {
        let filters = [filter];
        if !self.has_room_for(&filters) {
            return false;
        }
        let (wanted, added) = self.subscriptions.add(RESPONSES, &filters);
        self.fanout.responses().subscribing();
        self.session
            .subscribe(wanted, Pending::Responses(added), now);
        true
    }
}

/// The expiry of a request that is awaited for so long, in seconds: up to the next whole one, because the broker must not
/// drop what is still awaited. Less than a millisecond makes no second more: the loop's time may be a moment behind.
fn expiry(awaited: Duration) -> u32 {
    let seconds = awaited.as_millis().div_ceil(1000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::memory::{client_with, memory_link};
    use super::*;
    use crate::client::response::NoResponse;
    use crate::mqtt::packet::{MessageProperties, Protocol, Publish, QoS};

    /// As that of any other message.
    #[test]
    fn the_expiry_of_a_request_counts_from_when_it_was_pushed() {
        const WAITED: u32 = 1_000;
        for own in [1, 10_000] {
            let client = client_with(|options| options.protocol = Protocol::V5);
            let (mut agent, handle) = client.open();
            let properties = MessageProperties {
                expiry: Some(own),
                ..MessageProperties::default()
            };
            let request = Publish::new("t", QoS::AtLeastOnce, "x").with_properties(properties);
            let timeout = Duration::from_secs(100_000);
            let pending = handle.start_request(request, timeout).unwrap();
            let (link, peer) = memory_link();
            let now = Instant::now() + Duration::from_secs(WAITED.into());
            agent.greet(link, now + Duration::from_secs(60), now);
            let connack = vec![0x20, 3, 0, 0, 0];
            peer.lock().unwrap().to_read.push_back(connack);
            agent.exchange(now);
            agent.exchange(now);
            let written = peer.lock().unwrap().written.concat();
            if own < WAITED {
                let expired = NoResponse::NeverSent(Reason::Expired);
                assert_eq!(pending.outcome(), Some(Err(expired)));
                continue;
            }
            let topic = written.windows(3).position(|bytes| bytes == [0, 1, b't']);
            // Behind the topic, the identifier and the length of the properties.
            let left = &written[topic.unwrap() + 6..][..5];
            let seconds = u32::from_be_bytes(left[1..].try_into().unwrap());
            assert_eq!(left[0], 2);
            assert!((1..=own - WAITED).contains(&seconds), "{seconds}");
        }
    }

    /// The loop takes a command that was pushed after its turn began.
    #[test]
    fn a_request_is_sent_with_no_more_seconds_than_its_time_has() {
        let before = Instant::now() - Duration::from_millis(100);
        let client = client_with(|options| options.protocol = Protocol::V5);
        let (mut agent, handle) = client.open();
        let request = Publish::new("t", QoS::AtLeastOnce, "x");
        let pending = handle.start_request(request, Duration::from_secs(60));
        let (link, peer) = memory_link();
        agent.greet(link, before + Duration::from_secs(60), before);
        let connack = vec![0x20, 3, 0, 0, 0];
        peer.lock().unwrap().to_read.push_back(connack);
        agent.exchange(before);
        agent.exchange(before);
        let written = peer.lock().unwrap().written.concat();
        let topic = written.windows(3).position(|bytes| bytes == [0, 1, b't']);
        // Behind the topic, the identifier and the length of the properties.
        assert_eq!(written[topic.unwrap() + 6..][..5], [2, 0, 0, 0, 60]);
        drop(pending);
    }

    /// With 0 the request would be over before it is sent.
    #[test]
    fn a_request_expires_no_sooner_than_its_time_is_over() {
        for (awaited, seconds) in [
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(999), 1),
            (Duration::from_secs(1), 1),
            (Duration::from_nanos(1_000_000_001), 1),
            (Duration::from_millis(1_001), 2),
            (Duration::MAX, u32::MAX),
        ] {
            assert_eq!(expiry(awaited), seconds, "{awaited:?}");
        }
    }

    /// The response topic and the correlation data of the request to "t" among these packets.
    fn asked(written: &[u8]) -> (&[u8], &[u8]) {
        let topic = written.windows(3).position(|bytes| bytes == [0, 1, b't']);
        // Behind the topic and the length of the properties.
        let mut properties = &written[topic.unwrap() + 4..];
        let (mut response_topic, mut data) = (None, None);
        while response_topic.is_none() || data.is_none() {
            let (kind, rest) = properties.split_first().unwrap();
            properties = match kind {
                2 => &rest[4..],
                _ => {
                    let (value, rest) = rest[2..].split_at(usize::from(rest[1]));
                    let place = if *kind == 8 {
                        &mut response_topic
                    } else {
                        &mut data
                    };
                    *place = Some(value);
                    rest
                }
            };
        }
        (response_topic.unwrap(), data.unwrap())
    }

    /// The loop was stopped for a while, or is busy with other messages.
    #[test]
    fn a_response_that_came_in_time_behind_many_messages_is_not_missed() {
        let client = client_with(|options| options.protocol = Protocol::V5);
        let (mut agent, handle) = client.open();
        let now = Instant::now();
        let request = Publish::new("t", QoS::AtMostOnce, "x");
        let pending = handle.start_request(request, Duration::from_secs(1));
        let (link, peer) = memory_link();
        agent.greet(link, now + Duration::from_secs(60), now);
        let connack = vec![0x20, 3, 0, 0, 0];
        peer.lock().unwrap().to_read.push_back(connack);
        agent.exchange(now);
        agent.exchange(now);
        let written = peer.lock().unwrap().written.concat();
        let (topic, data) = asked(&written);
        let length = (2 + topic.len() + 1 + 3 + data.len()) as u8;
        let mut response = vec![0x30, length, 0, topic.len() as u8];
        response.extend(topic);
        response.extend([3 + data.len() as u8, 9, 0, data.len() as u8]);
        response.extend(data);
        let mut piece = [0x30, 4, 0, 1, b'a', 0].repeat(1_000);
        piece.extend(response);
        peer.lock().unwrap().to_read.push_back(piece);
        agent.wire.look_for_input();
        agent.exchange(now + Duration::from_secs(2));
        assert!(pending.unwrap().outcome().unwrap().is_ok());
    }
}
