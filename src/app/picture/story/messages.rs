//! The lives of messages that came: arrived, offered to each inbox or aside for it, taken, acknowledged.

use std::collections::BTreeMap;

use mqtt_connection_sharing::recording::{PacketKind, What};

use super::{Doing, Interval, Life, LoopLanes, Sign, Story, Unplaced};

/// The messages of one loop, by number.
#[derive(Default)]
pub(super) struct Messages {
    all: BTreeMap<u64, Came>,
}

/// One message, as far as it is known.
#[derive(Default)]
struct Came {
    packet_id: u16,
    qos: Option<u8>,
    bytes: u64,
    arrived: Option<u64>,
    acknowledged: Option<u64>,
    /// For each lane of an inbox what goes on there, and since when.
    now: Vec<(u32, Doing, u64)>,
    intervals: Vec<Interval>,
    end: &'static str,
    last: u64,
}

impl Messages {
    /// Takes a record over that is one of a message.
    pub(super) fn record(
        &mut self,
        story: &mut Story,
        places: &mut LoopLanes,
        at: u64,
        what: &What,
    ) {
        match *what {
            What::Received {
                packet: PacketKind::Publish,
                packet_id,
                number,
            } if number > 0 => self.own(number).packet_id = packet_id,
            What::Arrived {
                message,
                qos,
                bytes,
            } => {
                let own = self.own(message);
                (own.arrived, own.qos, own.bytes) = (Some(at), Some(qos as u8), bytes);
            }
            What::Aside { message, inbox } => {
                let lane = story.inbox(places, inbox);
                self.own(message)
                    .go(lane, at, Some(Doing::MessageAside), "");
            }
            What::Offered { message, inbox } => {
                let lane = story.inbox(places, inbox);
                self.own(message).go(lane, at, Some(Doing::InInbox), "");
            }
            What::TakenOut { message, inbox } => {
                let lane = story.inbox(places, inbox);
                self.own(message).go(lane, at, None, "taken");
            }
            What::Dropped { message, inbox } => {
                let lane = story.inbox(places, inbox);
                self.own(message).go(lane, at, None, "dropped");
                story.moment(lane, at, Sign::MessageDropped, 0);
            }
            What::Written {
                packet: PacketKind::PubAck | PacketKind::PubRec,
                number,
                ..
            } if number > 0 => {
                self.own(number).acknowledged = Some(at);
            }
            _ => {}
        }
    }

    fn own(&mut self, message: u64) -> &mut Came {
        self.all.entry(message).or_default()
    }

    /// Gives their lives to the story. Messages that no inbox got have none.
    pub(super) fn finish(self, story: &mut Story, end: u64) {
        for mut came in self.all.into_values() {
            for (lane, ..) in came.now.clone() {
                came.go(lane, end, None, "left in the inbox");
            }
            came.intervals.sort_unstable();
            let Some(Interval {
                lane, from: first, ..
            }) = came.intervals.first().copied()
            else {
                continue;
            };
            let from = came.arrived.unwrap_or(first).min(first);
            let life = Life {
                lane,
                what: "message",
                packet_id: came.packet_id,
                qos: came.qos.unwrap_or(3),
                bytes: came.bytes,
                end: came.end,
                from,
                to: came.last.max(from),
                acknowledged: came.acknowledged,
                sent: 1,
            };
            let intervals = came.intervals;
            story.lives.push(Unplaced { life, intervals });
        }
    }
}

impl Came {
    /// Something changes in the lane of one inbox.
    fn go(&mut self, lane: u32, at: u64, next: Option<Doing>, end: &'static str) {
        if let Some(place) = self.now.iter().position(|now| now.0 == lane) {
            let (_, doing, since) = self.now.swap_remove(place);
            self.intervals.push(Interval::new(lane, since, at, doing));
        }
        self.last = self.last.max(at);
        match next {
            Some(next) => self.now.push((lane, next, at)),
            None => self.end = end,
        }
    }
}
