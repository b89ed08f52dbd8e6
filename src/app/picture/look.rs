//! How each thing in a picture looks, and what it is called. Drawing and page have it from here, and nowhere else.
//!
//! The colours are those of Okabe and Ito, which colour-blind readers tell apart; each look also has a shape or a pattern
//! of its own. Pure data; any thread.

use serde::Serialize;

/// The things that go on for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doing {
    /// A command waits for room in the command queue, or in it.
    Queued,
    /// The loop has a command and has not sent it, or not again: no room in the window, or no link.
    Unsent,
    /// A command was sent and waits for its acknowledgment.
    OnItsWay,
    /// A command has ended, and its thread has not asked yet.
    Untold,
    /// A thread waits for room in the command queue.
    WaitsForRoom,
    /// A thread waits for the outcome of one command.
    WaitsForOutcome,
    /// A thread waits for all messages of a batch.
    WaitsForBatch,
    /// A thread waits for a message.
    WaitsForMessage,
    /// The loop works.
    Works,
    /// The loop sleeps.
    Sleeps,
    /// A connection attempt.
    Connecting,
    /// The connection is there.
    Connected,
    /// There is no connection, and there will be an attempt.
    Down,
    /// There is no connection and no attempt: not yet, or on purpose.
    Disconnected,
    /// A message waits aside, because its inbox has no room.
    MessageAside,
    /// A message waits in its inbox.
    InInbox,
    /// The records of this time were overwritten.
    Missing,
}

/// The things that happen at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sign {
    /// PROCESSLOOP was taken.
    ProcessLoop,
    /// A TLS record, either way.
    TlsRecord,
    /// Without TLS: bytes that were written to the link, or read from it.
    LinkBytes,
    /// A connection was made.
    Made,
    /// A connection was lost.
    Broken,
    /// An attempt failed.
    AttemptFailed,
    /// A command ended otherwise than delivered, or was handed back.
    Failure,
    /// A message was dropped.
    MessageDropped,
}

/// The outline of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outline {
    Full,
    Half,
    Thin,
}

/// The filling of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filling {
    Solid,
    Rising,
    Falling,
    Crossed,
    Dotted,
    Hollow,
}

/// How something looks, and its words.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Appearance {
    /// For the legend.
    pub(crate) words: &'static str,
    /// On white.
    pub(crate) light: &'static str,
    /// On black.
    pub(crate) dark: &'static str,
    pub(crate) outline: Outline,
    pub(crate) filling: Filling,
}

/// How a moment looks, and its words.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Glyph {
    /// For the legend.
    pub(crate) words: &'static str,
    /// On white.
    pub(crate) light: &'static str,
    /// On black.
    pub(crate) dark: &'static str,
    /// One of `tick`, `up`, `down`, `cross`.
    pub(crate) shape: &'static str,
    /// Whether its texts leave the first line to others.
    pub(crate) low: bool,
}

const BLUE: [&str; 2] = ["#0072b2", "#56b4e9"];
const SKY: [&str; 2] = ["#3d93c8", "#8fcdf2"];
const ORANGE: [&str; 2] = ["#c98500", "#e69f00"];
const GREEN: [&str; 2] = ["#007d5a", "#1bbf91"];
const VERMILLION: [&str; 2] = ["#c14f00", "#f07a35"];
const PURPLE: [&str; 2] = ["#b0578a", "#dc93ba"];
const GREY: [&str; 2] = ["#6b6f76", "#9aa0a8"];

impl Doing {
    pub(crate) const ALL: [Doing; 17] = [
        Doing::Queued,
        Doing::Unsent,
        Doing::OnItsWay,
        Doing::Untold,
        Doing::WaitsForRoom,
        Doing::WaitsForOutcome,
        Doing::WaitsForBatch,
        Doing::WaitsForMessage,
        Doing::Works,
        Doing::Sleeps,
        Doing::Connecting,
        Doing::Connected,
        Doing::Down,
        Doing::Disconnected,
        Doing::MessageAside,
        Doing::InInbox,
        Doing::Missing,
    ];

    pub(crate) fn appearance(self) -> Appearance {
        use Filling::*;
        use Outline::*;
        let (words, [light, dark], outline, filling) = match self {
            Doing::Queued => ("command queued, or waiting for room", ORANGE, Half, Hollow),
            Doing::Unsent => (
                "with the loop: no room in the window, or no link",
                PURPLE,
                Full,
                Falling,
            ),
            Doing::OnItsWay => ("sent, waits for its acknowledgment", BLUE, Full, Solid),
            Doing::Untold => ("ended, its thread has not asked yet", GREY, Thin, Solid),
            Doing::WaitsForRoom => ("thread waits for room in the queue", ORANGE, Full, Hollow),
            Doing::WaitsForOutcome => ("thread waits for one acknowledgment", SKY, Full, Rising),
            Doing::WaitsForBatch => ("thread waits for a batch", SKY, Full, Crossed),
            Doing::WaitsForMessage => ("thread waits for a message", GREEN, Full, Dotted),
            Doing::Works => ("loop works", GREY, Full, Solid),
            Doing::Sleeps => ("loop sleeps", GREY, Thin, Solid),
            Doing::Connecting => ("connecting", ORANGE, Full, Rising),
            Doing::Connected => ("connected", GREEN, Full, Solid),
            Doing::Down => ("no connection", VERMILLION, Full, Crossed),
            Doing::Disconnected => ("not connected, and no attempt now", GREY, Half, Hollow),
            Doing::MessageAside => (
                "message waits aside: no room in the inbox",
                VERMILLION,
                Full,
                Falling,
            ),
            Doing::InInbox => ("message in the inbox", GREEN, Half, Solid),
            Doing::Missing => (
                "not kept: older records were overwritten",
                GREY,
                Full,
                Dotted,
            ),
        };
        Appearance {
            words,
            light,
            dark,
            outline,
            filling,
        }
    }
}

impl Sign {
    pub(crate) const ALL: [Sign; 8] = [
        Sign::ProcessLoop,
        Sign::TlsRecord,
        Sign::LinkBytes,
        Sign::Made,
        Sign::Broken,
        Sign::AttemptFailed,
        Sign::Failure,
        Sign::MessageDropped,
    ];

    pub(crate) fn glyph(self) -> Glyph {
        let (words, [light, dark], shape) = match self {
            Sign::ProcessLoop => ("PROCESSLOOP: the socket has data", GREY, "up"),
            Sign::TlsRecord => ("TLS record", BLUE, "tick"),
            Sign::LinkBytes => ("write or read", BLUE, "tick"),
            Sign::Made => ("connected", GREEN, "up"),
            Sign::Broken => ("connection lost", VERMILLION, "cross"),
            Sign::AttemptFailed => ("attempt failed", VERMILLION, "down"),
            Sign::Failure => ("command not delivered", VERMILLION, "cross"),
            Sign::MessageDropped => ("message dropped", VERMILLION, "down"),
        };
        Glyph {
            words,
            light,
            dark,
            shape,
            low: self == Sign::AttemptFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two things that may lie in one lane, neither is told by its colour alone.
    #[test]
    fn no_two_things_of_one_lane_differ_by_colour_alone() {
        let lanes = [
            &Doing::ALL[..8],
            &Doing::ALL[8..10],
            &Doing::ALL[10..14],
            &Doing::ALL[14..16],
        ];
        for lane in lanes {
            for (index, one) in lane.iter().enumerate() {
                for other in &lane[index + 1..] {
                    let shape = |doing: &Doing| {
                        let look = doing.appearance();
                        (look.outline, look.filling)
                    };
                    assert_ne!(shape(one), shape(other), "{one:?} and {other:?}");
                }
            }
        }
        let link = [Sign::Made, Sign::Broken, Sign::AttemptFailed].map(|sign| sign.glyph().shape);
        assert!(link[0] != link[1] && link[1] != link[2] && link[0] != link[2]);
    }

    #[test]
    fn the_lists_are_in_the_order_of_their_numbers() {
        for (index, doing) in Doing::ALL.into_iter().enumerate() {
            assert_eq!(doing as usize, index);
        }
        for (index, sign) in Sign::ALL.into_iter().enumerate() {
            assert_eq!(sign as usize, index);
        }
    }
}
