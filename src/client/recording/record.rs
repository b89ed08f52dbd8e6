//! One record: an event of a command, a message, the loop or the connection, with its time and its thread. Pure data.

use std::time::Duration;

use crate::mqtt::packet::QoS;
use crate::mqtt::session::{LinkLoss, Outcome, PacketKind};

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Since the recording began. The loop reads the clock a few times a turn at most, so its records may be up to a turn
    /// too early, and never too late: a command is pushed before it is taken, and ends before its thread is told.
    pub at: Duration,
    /// The number of the thread that wrote the record: see [`RecordedThread`](super::RecordedThread).
    pub thread: u32,
    /// The event.
    pub what: What,
}

/// The event that was recorded. The fields have the same meaning everywhere:
///
/// - `command`: the number of a PUBLISH, SUBSCRIBE, UNSUBSCRIBE or PING that a thread pushed. It joins the records of
///   one command over all threads. Numbers are not in order, never 0, and begin again after 4,294,967,295.
/// - `message`: the number of a message that came, never 0. It joins the records of one message. Those of QoS 1 and 2 are
///   odd, those of QoS 0 even. A message of QoS 1 that the broker sends again has another number, unless its
///   acknowledgment was still owed.
/// - `inbox`: [`Inbox::number`](crate::Inbox::number), or [`DEFAULT_INBOX`](super::DEFAULT_INBOX).
/// - `packet_id`: the packet identifier on the wire, 0 for a packet without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A thread pushes a command. Until it is taken, it waits for room in the queue, and then in the queue.
    Pushed {
        /// Its number.
        command: u64,
        /// PUBLISH, SUBSCRIBE, UNSUBSCRIBE or PINGREQ.
        packet: PacketKind,
        /// Of a PUBLISH.
        qos: Option<QoS>,
        /// Topic and payload of a PUBLISH, filters of the others.
        bytes: u64,
    },
    /// The command is in the queue, and its thread goes on. It had to wait for room since [`What::Pushed`]; where there is
    /// room at once, and of a task, there is no such record. The loop may have taken the command before.
    LetIn {
        /// Its number.
        command: u64,
    },
    /// The thread has the command back: it was not queued.
    HandedBack {
        /// Its number.
        command: u64,
    },
    /// A thread begins to wait for the end of a command ([`Ticket::wait`](crate::Ticket::wait)). A task makes no such
    /// record.
    Waits {
        /// Its number.
        command: u64,
    },
    /// A thread or a task has the outcome of a command from its ticket. A command whose ticket is dropped or not asked,
    /// and one with a callback, has no such record.
    Told {
        /// Its number.
        command: u64,
    },
    /// A thread begins to wait for all messages that it has pushed in a batch.
    WaitsForBatch {
        /// Messages pushed in it since it was made.
        messages: u64,
    },
    /// They have all ended, and the thread or task knows.
    BatchTold {
        /// Messages pushed in it since it was made.
        messages: u64,
    },
    /// A thread begins to wait for a message: the inbox is empty.
    WaitsForMessage {
        /// The inbox.
        inbox: u64,
    },
    /// A thread or a task took a message out of an inbox.
    TakenOut {
        /// Its number.
        message: u64,
        /// The inbox.
        inbox: u64,
    },
    /// The loop took a command out of the queue.
    Taken {
        /// Its number.
        command: u64,
    },
    /// A packet stands in the output. It was not written before, and may get lost with the link.
    Encoded {
        /// Its type.
        packet: PacketKind,
        /// The packet identifier.
        packet_id: u16,
        /// The command that it carries out; the message that a PUBACK or PUBREC acknowledges. 0 for a packet that belongs
        /// to none, such as CONNECT, PUBCOMP, or a renewed subscription.
        number: u64,
        /// Whether it was sent before. A command that is sent again has more than one record of this kind.
        again: bool,
        /// Bytes of the packet.
        bytes: u64,
    },
    /// The link took the last byte of a packet.
    Written {
        /// Its type.
        packet: PacketKind,
        /// The packet identifier.
        packet_id: u16,
        /// As in [`What::Encoded`].
        number: u64,
    },
    /// A packet came that is no message of QoS 0.
    Received {
        /// Its type.
        packet: PacketKind,
        /// The packet identifier.
        packet_id: u16,
        /// The command that it acknowledges, or the message that it brings. 0 where there is none, and for a message that
        /// is known already.
        number: u64,
    },
    /// A command has ended. The loop tells its thread right after this, or calls back. Each command that was queued ends
    /// once, except for those that [`Stats::cancelled`](crate::Stats::cancelled) does not count.
    Ended {
        /// Its number.
        command: u64,
        /// How it ended.
        end: CommandEnd,
        /// Whether an acknowledgment of the broker ended it.
        answered: bool,
    },
    /// A message came that is to be delivered.
    Arrived {
        /// Its number.
        message: u64,
        /// Its quality of service.
        qos: QoS,
        /// Topic and payload.
        bytes: u64,
    },
    /// The loop put a message into an inbox.
    Offered {
        /// Its number.
        message: u64,
        /// The inbox.
        inbox: u64,
    },
    /// A message waits aside for room in an inbox.
    Aside {
        /// Its number.
        message: u64,
        /// The inbox.
        inbox: u64,
    },
    /// A message was dropped because an inbox had no room.
    Dropped {
        /// Its number.
        message: u64,
        /// The inbox.
        inbox: u64,
    },
    /// PROCESSLOOP was taken: of the readiness thread, or of a thread.
    ProcessLoop,
    /// The loop is about to sleep or to pause.
    Sleeps,
    /// It goes on.
    Woke,
    /// The link gave bytes: at most 16 KiB, which is one TLS record as a rule.
    Read {
        /// How many.
        bytes: u64,
    },
    /// The link took bytes at once: one TLS record, or one for each 16 KiB.
    Write {
        /// How many.
        bytes: u64,
    },
    /// A connection attempt begins.
    Attempt {
        /// Its number, from 1 after each connection.
        number: u64,
    },
    /// A link is there, and CONNECT is on its way.
    LinkUp,
    /// CONNACK came.
    Connected {
        /// Whether the broker had kept the session.
        session_present: bool,
    },
    /// A connection is lost that the broker had accepted.
    Lost {
        /// The cause. [`EventKind::Lost`](crate::EventKind::Lost) has the text.
        loss: Loss,
    },
    /// There will be another attempt.
    Retrying {
        /// After this time.
        delay: Duration,
    },
    /// The link is closed on purpose, and no attempt is made.
    Offline,
    /// The loop ends. This is the last record that it writes, apart from callbacks.
    LoopEnded,
}

/// How a command ended: an [`Outcome`] without its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CommandEnd {
    /// [`Outcome::Delivered`].
    Delivered,
    /// [`Outcome::NeverSent`].
    NeverSent,
    /// [`Outcome::PerhapsDelivered`].
    PerhapsDelivered,
    /// [`Outcome::Refused`].
    Refused,
    /// [`Outcome::Cancelled`].
    Cancelled,
}

/// Why a connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// The broker closed it.
    PeerClosed,
    /// The broker reset it, or TLS broke.
    Reset,
    /// The network gave it up.
    Network,
    /// The broker did not answer a PINGREQ.
    KeepAliveExpired,
    /// An acknowledgment did not come in time.
    AckTimeout,
    /// The link took next to nothing for too long.
    Stuck,
    /// It was closed so that the broker sends what was left with it.
    LeftWithBroker,
    /// The broker broke the protocol.
    Protocol,
    /// A thread asked for RECONNECT.
    Reconnect,
}

impl From<&Outcome> for CommandEnd {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Delivered { .. } => CommandEnd::Delivered,
            Outcome::NeverSent(_) => CommandEnd::NeverSent,
            Outcome::PerhapsDelivered(_) => CommandEnd::PerhapsDelivered,
            Outcome::Refused { .. } => CommandEnd::Refused,
            Outcome::Cancelled(_) => CommandEnd::Cancelled,
        }
    }
}

impl From<&LinkLoss> for Loss {
    fn from(loss: &LinkLoss) -> Self {
        match loss {
            LinkLoss::PeerClosed | LinkLoss::Disconnected(_) => Loss::PeerClosed,
            LinkLoss::Reset(_) => Loss::Reset,
            LinkLoss::Network(_) => Loss::Network,
            LinkLoss::KeepAliveExpired => Loss::KeepAliveExpired,
            LinkLoss::AckTimeout(_) => Loss::AckTimeout,
            LinkLoss::Stuck => Loss::Stuck,
            LinkLoss::LeftWithBroker => Loss::LeftWithBroker,
            LinkLoss::Protocol(_) => Loss::Protocol,
        }
    }
}
