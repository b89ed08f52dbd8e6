//! The four numbers that a ring keeps of a record: time, head, number, value. Pure.

use std::time::Duration;

use super::record::{CommandEnd, Loss, Record, What};
use super::ring::Words;
use crate::mqtt::packet::QoS;
use crate::mqtt::session::PacketKind;

const ENDS: [CommandEnd; 5] = [
    CommandEnd::Delivered,
    CommandEnd::NeverSent,
    CommandEnd::PerhapsDelivered,
    CommandEnd::Refused,
    CommandEnd::Cancelled,
];

const LOSSES: [Loss; 9] = [
    Loss::PeerClosed,
    Loss::Reset,
    Loss::Network,
    Loss::KeepAliveExpired,
    Loss::AckTimeout,
    Loss::Stuck,
    Loss::LeftWithBroker,
    Loss::Protocol,
    Loss::Reconnect,
];

/// The word of a record that is in parts: the kind of record, two small numbers, and a packet identifier.
struct Head {
    kind: u8,
    first: u8,
    second: u8,
    packet_id: u16,
}

impl Head {
    const fn of(kind: u8) -> Self {
        Head::with(kind, 0, 0, 0)
    }

    const fn with(kind: u8, first: u8, second: u8, packet_id: u16) -> Self {
        Head {
            kind,
            first,
            second,
            packet_id,
        }
    }

    fn pack(self) -> u64 {
        let bytes = [self.kind, self.first, self.second, 0];
        u64::from(u32::from_le_bytes(bytes)) | u64::from(self.packet_id) << 32
    }

    fn unpack(word: u64) -> Self {
        let [kind, first, second, _, low, high, ..] = word.to_le_bytes();
        Head {
            kind,
            first,
            second,
            packet_id: u16::from_le_bytes([low, high]),
        }
    }
}

impl What {
    /// The record as a ring keeps it.
    #[inline]
    pub(super) fn pack(self, nanos: u64) -> Words {
        let (head, number, value) = match self {
            What::Pushed {
                command,
                packet,
                qos,
                bytes,
            } => {
                let qos = qos.map_or(u8::MAX, |qos| qos as u8);
                (Head::with(1, packet as u8, qos, 0), command, bytes)
            }
            What::HandedBack { command } => (Head::of(2), command, 0),
            What::Waits { command } => (Head::of(3), command, 0),
            What::Told { command } => (Head::of(4), command, 0),
            What::WaitsForBatch { messages } => (Head::of(5), 0, messages),
            What::BatchTold { messages } => (Head::of(6), 0, messages),
            What::WaitsForMessage { inbox } => (Head::of(7), 0, inbox),
            What::TakenOut { message, inbox } => (Head::of(8), message, inbox),
            What::Taken { command } => (Head::of(9), command, 0),
            What::Encoded {
                packet,
                packet_id,
                number,
                again,
                bytes,
            } => {
                let head = Head::with(10, packet as u8, u8::from(again), packet_id);
                (head, number, bytes)
            }
            What::Written {
                packet,
                packet_id,
                number,
            } => (Head::with(11, packet as u8, 0, packet_id), number, 0),
            What::Received {
                packet,
                packet_id,
                number,
            } => (Head::with(12, packet as u8, 0, packet_id), number, 0),
            What::Ended {
                command,
                end,
                answered,
            } => (Head::with(13, end as u8, u8::from(answered), 0), command, 0),
            What::Arrived {
                message,
                qos,
                bytes,
            } => (Head::with(14, qos as u8, 0, 0), message, bytes),
            What::Offered { message, inbox } => (Head::of(15), message, inbox),
            What::Aside { message, inbox } => (Head::of(16), message, inbox),
            What::Dropped { message, inbox } => (Head::of(17), message, inbox),
            What::ProcessLoop => (Head::of(18), 0, 0),
            What::Sleeps => (Head::of(19), 0, 0),
            What::Woke => (Head::of(20), 0, 0),
            What::Read { bytes } => (Head::of(21), 0, bytes),
            What::Write { bytes } => (Head::of(22), 0, bytes),
            What::Attempt { number } => (Head::of(23), number, 0),
            What::LinkUp => (Head::of(24), 0, 0),
            What::Connected { session_present } => {
                (Head::with(25, u8::from(session_present), 0, 0), 0, 0)
            }
            What::Lost { loss } => (Head::with(26, loss as u8, 0, 0), 0, 0),
            What::Retrying { delay } => (Head::of(27), 0, nanos_of(delay)),
            What::Offline => (Head::of(28), 0, 0),
            What::LoopEnded => (Head::of(29), 0, 0),
            What::LetIn { command } => (Head::of(30), command, 0),
        };
        [nanos, head.pack(), number, value]
    }
}

impl Record {
    /// The record that a ring of this thread has kept. `None` for numbers that no record has.
    pub(super) fn unpack(thread: u32, words: Words) -> Option<Self> {
        let [nanos, head, number, value] = words;
        let Head {
            kind,
            first,
            second,
            packet_id,
        } = Head::unpack(head);
        let (command, message, inbox) = (number, number, value);
        let (bytes, messages) = (value, value);
        let packet = || PacketKind::of_number(first);
        let what = match kind {
            1 => What::Pushed {
                command,
                packet: packet()?,
                qos: QoS::try_from(second).ok(),
                bytes,
            },
            2 => What::HandedBack { command },
            3 => What::Waits { command },
            4 => What::Told { command },
            5 => What::WaitsForBatch { messages },
            6 => What::BatchTold { messages },
            7 => What::WaitsForMessage { inbox },
            8 => What::TakenOut { message, inbox },
            9 => What::Taken { command },
            10 => What::Encoded {
                packet: packet()?,
                packet_id,
                number,
                again: second > 0,
                bytes,
            },
            11 => What::Written {
                packet: packet()?,
                packet_id,
                number,
            },
            12 => What::Received {
                packet: packet()?,
                packet_id,
                number,
            },
            13 => What::Ended {
                command,
                end: *ENDS.get(usize::from(first))?,
                answered: second > 0,
            },
            14 => What::Arrived {
                message,
                qos: QoS::try_from(first).ok()?,
                bytes,
            },
            15 => What::Offered { message, inbox },
            16 => What::Aside { message, inbox },
            17 => What::Dropped { message, inbox },
            18 => What::ProcessLoop,
            19 => What::Sleeps,
            20 => What::Woke,
            21 => What::Read { bytes },
            22 => What::Write { bytes },
            23 => What::Attempt { number },
            24 => What::LinkUp,
            25 => What::Connected {
                session_present: first > 0,
            },
            26 => What::Lost {
                loss: *LOSSES.get(usize::from(first))?,
            },
            27 => What::Retrying {
                delay: Duration::from_nanos(value),
            },
            28 => What::Offline,
            29 => What::LoopEnded,
            30 => What::LetIn { command },
            _ => return None,
        };
        Some(Record {
            at: Duration::from_nanos(nanos),
            thread,
            what,
        })
    }
}

/// Nanoseconds, up to 584 years.
#[inline]
pub(super) fn nanos_of(time: Duration) -> u64 {
    let nanos = u64::from(time.subsec_nanos());
    time.as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_comes_back_as_it_was_written() {
        let (command, message, inbox, number) = (u64::MAX, u64::MAX - 1, u64::MAX - 2, 77);
        let (packet_id, bytes, messages) = (u16::MAX, 1 << 40, 3);
        let mut all = vec![
            What::LetIn { command },
            What::HandedBack { command },
            What::Waits { command },
            What::Told { command },
            What::WaitsForBatch { messages },
            What::BatchTold { messages },
            What::WaitsForMessage { inbox },
            What::TakenOut { message, inbox },
            What::Taken { command },
            What::Offered { message, inbox },
            What::Aside { message, inbox },
            What::Dropped { message, inbox },
            What::ProcessLoop,
            What::Sleeps,
            What::Woke,
            What::Read { bytes },
            What::Write { bytes },
            What::Attempt { number },
            What::LinkUp,
            What::Retrying {
                delay: Duration::from_millis(1_500),
            },
            What::Offline,
            What::LoopEnded,
        ];
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            all.push(What::Arrived {
                message,
                qos,
                bytes,
            });
            for (qos, packet) in [
                (Some(qos), PacketKind::Publish),
                (None, PacketKind::PingReq),
            ] {
                all.push(What::Pushed {
                    command,
                    packet,
                    qos,
                    bytes,
                });
            }
        }
        for packet in (1..=14).map(|number| PacketKind::of_number(number).unwrap()) {
            all.push(What::Written {
                packet,
                packet_id,
                number,
            });
            all.push(What::Received {
                packet,
                packet_id,
                number,
            });
        }
        for flag in [false, true] {
            all.push(What::Encoded {
                packet: PacketKind::PubRel,
                packet_id,
                number,
                again: flag,
                bytes,
            });
            all.push(What::Connected {
                session_present: flag,
            });
            all.extend(ENDS.map(|end| What::Ended {
                command,
                end,
                answered: flag,
            }));
        }
        all.extend(LOSSES.map(|loss| What::Lost { loss }));
        for what in all {
            let at = Duration::new(3, 7);
            let record = Record {
                at,
                thread: 5,
                what,
            };
            assert_eq!(Record::unpack(5, what.pack(nanos_of(at))), Some(record));
        }
        for strange in [0, 31, 255, 1, 13 | 9 << 8, 26 | 9 << 8, 14 | 3 << 8] {
            assert_eq!(Record::unpack(0, [0, strange, 0, 0]), None, "{strange}");
        }
    }
}
