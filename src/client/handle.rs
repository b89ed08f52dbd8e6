//! \[1\] The handle that threads hold: it pushes commands to the loop, from any number of threads.
//!
//! A handle is cheap to clone and never touches the connection. It checks commands on the caller's
//! thread and queues them; a full queue makes the caller wait up to the block time, behind the threads that
//! wait already. DISCONNECT, RECONNECT, TERMINATE and PROCESSLOOP take the urgent lane, so that neither a full
//! queue nor a lost link keeps them waiting. `handle/publish.rs` has the ways to publish, `handle/request.rs`
//! requests that have a response, `handle/subscribe.rs` SUBSCRIBE and UNSUBSCRIBE.

mod publish;
mod request;
mod subscribe;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::client::by_hand::Unacknowledged;
use crate::client::command::{Command, RejectReason, Rejected, Request};
use crate::client::default_inbox::DefaultInbox;
use crate::client::events::ConnectionState;
use crate::client::inbox::Inbox;
use crate::client::lane::{LaneSender, Leave, LinkRequest};
use crate::client::meter::MeterReader;
use crate::client::outlet::{ByHand, InboxId, InboxPolicy};
use crate::client::push::Pushing;
use crate::client::queue::{CommandSender, NotQueued, QueueEntry};
use crate::client::recording::{Recorder, Recording, What};
use crate::client::request_mark::RequestMark;
use crate::client::stats::Stats;
use crate::client::ticket::{Completion, Ticket};
use crate::client::watch::{ConnectionEvents, NotReached, Watch};
use crate::mqtt::limits::Limits;
use crate::mqtt::packet::ConnAck5;
use crate::options::Options;

pub use request::RequestError;

/// Inboxes are numbered over all loops, so that one loop's is never taken for another's.
static NEXT_INBOX: AtomicU64 = AtomicU64::new(0);

/// Pushes commands to the loop that owns the connection. Any thread may call any method, at any time; clones push to the
/// same loop.
///
/// When the last handle is dropped the loop finishes what is queued and in flight and ends, as
/// after [`Handle::terminate`] with the acknowledgment time-out as grace.
#[derive(Clone)]
pub struct Handle {
    commands: CommandSender,
    lane: LaneSender,
    block_time: Duration,
    limits: Arc<Limits>,
    unmatched: DefaultInbox,
    meter: MeterReader,
    watch: Watch,
    recorder: Option<Recorder>,
    /// Whether the broker is asked to keep the session.
    keeps_session: bool,
    /// Where responses to requests come, or why there can be none.
    response_topic: Arc<Result<String, RejectReason>>,
    /// Notices when the last handle is dropped.
    _last: Arc<LastHandle>,
}

/// Asks for TERMINATE when it is dropped: no thread is left that could ask for anything.
struct LastHandle {
    lane: LaneSender,
    grace: Duration,
}

impl Handle {
    pub(crate) fn new(
        commands: CommandSender,
        lane: LaneSender,
        unmatched: DefaultInbox,
        (meter, watch): (MeterReader, Watch),
        recorder: Option<Recorder>,
        options: &Options,
        keeps_session: bool,
    ) -> Self {
        let last = LastHandle {
            lane: lane.clone(),
            grace: options.ack_timeout,
        };
        Handle {
            commands,
            lane,
            block_time: options.block_time,
            limits: Arc::new(options.limits.of_version(options.protocol)),
            unmatched,
            meter,
            watch,
            recorder,
            keeps_session,
            response_topic: Arc::new(request::response_topic(options)),
            _last: Arc::new(last),
        }
    }

    /// PINGREQ. The ticket resolves with the PINGRESP; its latency is the way there and back.
    ///
    /// # Errors
    /// When the queue stays full for the block time, and when the loop has ended.
    pub fn ping(&self) -> Result<Ticket, Rejected<()>> {
        let (ticket, completion) = Ticket::new();
        let request = Request::Ping(RequestMark::default());
        self.queue(request, completion, self.block_time)
            .map_err(|rejected| rejected.map(|_| ()))?;
        Ok(ticket)
    }

    /// As [`Handle::ping`], for a task of any executor: a future that waits for room in the queue, and then gives the
    /// ticket.
    pub fn ping_async(&self) -> Pushing<'_, ()> {
        let request = Request::Ping(RequestMark::default());
        Pushing::new(&self.commands, Ok(request), |_| ()).recorded(self.recorder.as_ref())
    }

    /// DISCONNECT, after the commands that are queued now have been sent. The loop stays, offline:
    /// commands wait until [`Handle::reconnect`]. The ticket resolves as delivered once the link is closed, and at once where
    /// there is none.
    pub fn disconnect(&self) -> Ticket {
        self.disconnect_so(Leave::Quietly)
    }

    /// As [`Handle::disconnect`], but the broker publishes the last will
    /// ([`Options::last_will`](crate::options::Options::last_will)): with MQTT 5, DISCONNECT says so with reason code 0x04
    /// [MQTT-3.14.4-3], and a delay of the will counts from then on. MQTT 3.1.1 has no way to say it: the link is closed
    /// without DISCONNECT, which has the same effect [MQTT-3.1.2-8], and which no broker can tell from a lost link. Where
    /// several threads ask for DISCONNECT together, one that asks so is enough.
    pub fn disconnect_with_will(&self) -> Ticket {
        self.disconnect_so(Leave::WithWill)
    }

    fn disconnect_so(&self, leave: Leave) -> Ticket {
        let (ticket, completion) = Ticket::new();
        let request = LinkRequest::Disconnect(leave);
        self.lane.change_link(request, completion);
        ticket
    }

    /// RECONNECT, ahead of everything queued: closes the link if there is one, connects with
    /// backoff, resumes the session. The ticket resolves as delivered once the broker has accepted the connection, and as
    /// never sent when the patience of [`Options::retry`] is over, or when a thread asks for DISCONNECT meanwhile.
    pub fn reconnect(&self) -> Ticket {
        let (ticket, completion) = Ticket::new();
        self.lane.change_link(LinkRequest::Reconnect, completion);
        ticket
    }

    /// PROCESSLOOP: reads and handles what the link has, as the readiness thread asks for on its
    /// own whenever the socket has data. The ticket resolves as delivered once that is done.
    pub fn process_loop(&self) -> Ticket {
        let (ticket, completion) = Ticket::new();
        self.lane.process_loop(completion);
        ticket
    }

    /// TERMINATE: commands that are queued and in flight now may take `grace` to finish, and so may requests whose responses
    /// are awaited. Then the loop sends
    /// DISCONNECT, the rest ends as cancelled (or perhaps delivered, where it had been sent), and the
    /// loop ends, at most a second after the grace, whatever the broker sends or does not take. Asking again
    /// can only shorten the grace. Once the loop has ended, the tickets of TERMINATE, DISCONNECT, RECONNECT and
    /// PROCESSLOOP resolve as cancelled.
    pub fn terminate(&self, grace: Duration) -> Ticket {
        self.terminate_so(grace, Leave::Quietly)
    }

    /// As [`Handle::terminate`], but the broker publishes the last will, as after [`Handle::disconnect_with_will`].
    pub fn terminate_with_will(&self, grace: Duration) -> Ticket {
        self.terminate_so(grace, Leave::WithWill)
    }

    fn terminate_so(&self, grace: Duration, leave: Leave) -> Ticket {
        let (ticket, completion) = Ticket::new();
        self.lane.terminate(grace, leave, completion);
        ticket
    }

    /// An inbox for `capacity` messages (1 to 1,000,000; the nearest of these for any other number), to subscribe with.
    /// `policy` is a [`WhenFull`](crate::WhenFull), or an [`Accept`](crate::Accept) where it matters when messages are
    /// acknowledged.
    pub fn inbox(&self, capacity: usize, policy: impl Into<InboxPolicy>) -> Inbox {
        let (inbox, outlet) = Inbox::new(
            next_inbox(),
            capacity,
            policy.into(),
            self.lane.clone(),
            self.recorder.clone(),
        );
        self.lane.open_inbox(outlet);
        inbox
    }

    /// An inbox for `capacity` messages (1 to 1,000,000) whose threads say when the work on a message is done
    /// ([`Unacknowledged::done`]). Before that the loop acknowledges no message of QoS 1 or 2, so a process that is killed
    /// in the middle of its work gets it again. [The first page](crate#acknowledge-when-it-is-done) says how, and at what
    /// price for other inboxes. [`Handle::subscribe`] refuses such an inbox where the broker does not keep the session.
    pub fn inbox_by_hand(&self, capacity: usize, by_hand: ByHand) -> Inbox<Unacknowledged> {
        let (inbox, outlet) = Inbox::by_hand(
            next_inbox(),
            capacity,
            by_hand,
            self.lane.clone(),
            self.recorder.clone(),
        );
        self.lane.open_inbox(outlet);
        inbox
    }

    /// The default inbox: messages that matched no subscription. It is bounded; a message that finds no
    /// room is dropped and counted.
    pub fn unmatched(&self) -> &DefaultInbox {
        &self.unmatched
    }

    /// Where the connection is now. Any thread may ask.
    pub fn connection(&self) -> ConnectionState {
        self.watch.state()
    }

    /// Waits until the connection is in a state for which `is_reached` returns `true`, at most this long, and returns that
    /// state. The calling thread calls `is_reached` with the present state, and again after each change; it may miss a
    /// state that lasts for a moment only. A zero `timeout` looks once.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use mqtt_connection_sharing::{ConnectionState, Handle, NotReached};
    /// # fn wait(handle: &Handle) -> Result<(), NotReached> {
    /// handle.wait_for_connection(Duration::from_secs(30), ConnectionState::is_online)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotReached::Timeout`] with the state at that time, [`NotReached::Ended`] at once when the loop ends in another
    /// state, and [`NotReached::OnLoopThread`] at once where the thread would have to wait and must not, as inside a callback
    /// of [`Handle::publish_then`].
    pub fn wait_for_connection(
        &self,
        timeout: Duration,
        is_reached: impl FnMut(&ConnectionState) -> bool,
    ) -> Result<ConnectionState, NotReached> {
        self.watch.wait_for(timeout, is_reached)
    }

    /// The last CONNACK of a broker of MQTT 5: it says what the broker allows on this connection. `None` with MQTT 3.1.1, and
    /// while there is no connection.
    pub fn negotiated(&self) -> Option<Arc<ConnAck5>> {
        match self.connection() {
            ConnectionState::Online { negotiated, .. } => negotiated,
            _ => None,
        }
    }

    /// A new observer of the connection: what happens to it from now on, step by step. There may be any number of them, and
    /// none has to keep up: of events that it has not taken, an observer keeps the last 256, and is told how many it
    /// missed. Messages make no event. To miss nothing before the state that [`Handle::connection`] gives, make the
    /// observer first.
    ///
    /// ```no_run
    /// # fn print(handle: &mqtt_connection_sharing::Handle) {
    /// let events = handle.events();
    /// std::thread::spawn(move || {
    ///     for event in events {
    ///         println!("{event}");
    ///     }
    /// });
    /// # }
    /// ```
    pub fn events(&self) -> ConnectionEvents {
        self.watch.events()
    }

    /// Counts of what happened since the loop was opened, and how much waits now. After the loop's end they stay as they
    /// were then.
    ///
    /// This takes no lock, and the loop does not notice: it reads some 250 numbers. Any thread may call it, also inside a
    /// callback.
    pub fn stats(&self) -> Stats {
        self.meter.read(self.commands.len())
    }

    /// Reads the [recording](crate::recording) of this loop, from the oldest record that is still there. Returns `None`
    /// unless [`Options::recording`](crate::options::Options::recording) asks for one. Each loop has a recording of its own,
    /// which can be read for as long as anybody holds it.
    pub fn recording(&self) -> Option<Recording> {
        self.recorder.as_ref().map(Recording::new)
    }

    /// Puts a command into the bounded queue, waiting for room at most this long.
    fn queue(
        &self,
        request: Request,
        completion: Completion,
        patience: Duration,
    ) -> Result<(), Box<Rejected<Request>>> {
        let mut command = Command {
            request,
            completion,
        };
        command.request.mark(|| self.commands.mark_request());
        let mut number = 0;
        if let Some(recorder) = &self.recorder {
            command.record_push(recorder);
            number = command.completion.recorded().into();
        }
        match self.commands.send(command, patience) {
            Ok(QueueEntry::AfterWaiting) => {
                if let (Some(recorder), command @ 1..) = (&self.recorder, number) {
                    recorder.on_thread(What::LetIn { command });
                }
                Ok(())
            }
            Ok(QueueEntry::AtOnce) => Ok(()),
            Err(not_queued) => {
                let (command, reason) = match not_queued {
                    NotQueued::Full { command, waited } => {
                        (command, RejectReason::QueueFull { waited })
                    }
                    NotQueued::Ended(command) => (command, RejectReason::Terminated),
                };
                if let Some(recorder) = &self.recorder {
                    command.record_hand_back(recorder);
                }
                Err(command.into_rejected(reason))
            }
        }
    }
}

#[cfg(test)]
impl Handle {
    /// Threads and tasks that wait for room in the queue.
    pub(crate) fn waiting_for_room(&self) -> usize {
        self.commands.waiting()
    }
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.lane
            .terminate(self.grace, Leave::Quietly, Completion::nobody());
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("queued", &self.commands.len())
            .finish_non_exhaustive()
    }
}

fn next_inbox() -> InboxId {
    InboxId(NEXT_INBOX.fetch_add(1, Ordering::Relaxed))
}
