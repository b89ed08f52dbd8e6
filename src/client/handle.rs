//! \[1\] The handle that threads hold: it pushes commands to the loop, from any number of threads.
//!
//! A handle is cheap to clone and never touches the connection. It checks commands on the caller's
//! thread and queues them; a full queue makes the caller wait up to the block time, behind the threads that
//! wait already. DISCONNECT, RECONNECT, TERMINATE and PROCESSLOOP take the urgent lane, so that neither a full
//! queue nor a lost link keeps them waiting.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::client::batch::Batch;
use crate::client::by_hand::{InboxMessage, Unacknowledged};
use crate::client::command::{Command, RejectReason, Rejected, Request};
use crate::client::default_inbox::DefaultInbox;
use crate::client::events::ConnectionState;
use crate::client::inbox::Inbox;
use crate::client::lane::{Announcement, LaneSender, LinkRequest};
use crate::client::meter::MeterReader;
use crate::client::outlet::{ByHand, InboxId, InboxPolicy};
use crate::client::push::{Pushing, PushingIn};
use crate::client::queue::{CommandSender, NotQueued, QueueEntry};
use crate::client::recording::{Recorder, Recording, What};
use crate::client::stats::Stats;
use crate::client::ticket::{Completion, Ticket};
use crate::client::watch::{ConnectionEvents, NotReached, Watch};
use crate::mqtt::limits::{LimitExceeded, Limits};
use crate::mqtt::packet::{Filter, Publish};
use crate::mqtt::session::Outcome;
use crate::mqtt::topic::{InvalidName, check_filter};
use crate::options::Options;

/// Inboxes are numbered over all loops, so that one loop's is never taken for another's.
static NEXT_INBOX: AtomicU64 = AtomicU64::new(0);

/// SUBSCRIBEs are numbered over all loops, too.
static NEXT_SUBSCRIBE: AtomicU64 = AtomicU64::new(0);

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
            limits: Arc::new(options.limits.clone()),
            unmatched,
            meter,
            watch,
            recorder,
            keeps_session,
            _last: Arc::new(last),
        }
    }

    /// PUBLISH. The ticket resolves when the broker has acknowledged the message (QoS 1 and 2), or
    /// when it was handed to the link (QoS 0).
    ///
    /// # Errors
    /// The message is handed back when its topic is no valid topic name, when it exceeds what MQTT or
    /// the broker allows, when the queue stays full for the block time, and when the loop has ended.
    pub fn publish(&self, publish: Publish) -> Result<Ticket, Rejected<Publish>> {
        self.publish_timeout(publish, self.block_time)
    }

    /// As [`Handle::publish`], but waits for room in the queue at most this long, whatever the block time is.
    ///
    /// # Errors
    /// As [`Handle::publish`], with `timeout` in place of the block time.
    pub fn publish_timeout(
        &self,
        publish: Publish,
        timeout: Duration,
    ) -> Result<Ticket, Rejected<Publish>> {
        let (ticket, completion) = Ticket::new();
        self.queue_publish(publish, completion, timeout)?;
        Ok(ticket)
    }

    /// As [`Handle::publish`], but never waits. Room that other threads wait for is not taken from them.
    ///
    /// # Errors
    /// As [`Handle::publish`], but [`RejectReason::QueueFull`] comes at once.
    pub fn try_publish(&self, publish: Publish) -> Result<Ticket, Rejected<Publish>> {
        self.publish_timeout(publish, Duration::ZERO)
    }

    /// As [`Handle::publish`], for a task of any executor: a future that waits for room in the queue, in the same line as
    /// the threads that wait, and then gives the ticket, which is a future of its own. The block time does not end it:
    /// see [`Pushing`] for how it ends early. Messages are queued in the order in which their futures are first awaited.
    ///
    /// ```no_run
    /// # use mqtt_connection_sharing::{Handle, Publish, QoS, Rejected};
    /// # async fn f(handle: Handle) -> Result<(), Rejected<Publish>> {
    /// let message = Publish::new("rooms/1/light", QoS::AtLeastOnce, "on");
    /// let ticket = handle.publish_async(message).await?;
    /// println!("{:?}", ticket.await);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_async(&self, publish: Publish) -> Pushing<'_, Publish> {
        let request = self.publish_request(publish);
        Pushing::new(&self.commands, request, Request::into_publish)
            .recorded(self.recorder.as_ref())
    }

    /// PUBLISH with a callback instead of a ticket. The callback is called once, on the loop's thread. (At
    /// the moment when the loop ends, it may be called on another thread that pushes a command.) So it
    /// must be quick, and must not wait for a lock that is held while commands are pushed. Waiting for a ticket, a
    /// batch or an inbox inside it is an error at once ([`Ticket::wait`], [`InboxError::OnLoopThread`](crate::InboxError::OnLoopThread)).
    /// Inside it, a full queue rejects at once. A handle that it captures counts as one that is held: if it
    /// is the last one and DISCONNECT came before its command left the queue, no thread is left to ask for
    /// RECONNECT or TERMINATE, and the loop stays offline for ever.
    ///
    /// # Errors
    /// As [`Handle::publish`]; the callback is then dropped uncalled.
    pub fn publish_then(
        &self,
        publish: Publish,
        callback: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), Rejected<Publish>> {
        self.queue_publish(publish, Completion::callback(callback), self.block_time)
    }

    /// PUBLISH as one of many that the thread waits for together ([`Batch::wait`]). This costs a thread
    /// that publishes a lot the least.
    ///
    /// # Errors
    /// As [`Handle::publish`]; the message is then not part of the batch.
    pub fn publish_in(&self, publish: Publish, batch: &mut Batch) -> Result<(), Rejected<Publish>> {
        self.publish_in_timeout(publish, batch, self.block_time)
    }

    /// As [`Handle::publish_in`], but waits for room in the queue at most this long, whatever the block time is.
    ///
    /// # Errors
    /// As [`Handle::publish_timeout`]; the message is then not part of the batch.
    pub fn publish_in_timeout(
        &self,
        publish: Publish,
        batch: &mut Batch,
        timeout: Duration,
    ) -> Result<(), Rejected<Publish>> {
        self.queue_publish(publish, Completion::batch(batch), timeout)?;
        batch.was_pushed();
        Ok(())
    }

    /// As [`Handle::publish_in`], but never waits. Room that other threads wait for is not taken from them.
    ///
    /// # Errors
    /// As [`Handle::try_publish`]; the message is then not part of the batch.
    pub fn try_publish_in(
        &self,
        publish: Publish,
        batch: &mut Batch,
    ) -> Result<(), Rejected<Publish>> {
        self.publish_in_timeout(publish, batch, Duration::ZERO)
    }

    /// As [`Handle::publish_in`], for a task of any executor: a future that waits for room in the queue as
    /// [`Handle::publish_async`] does. The batch is a future, too.
    pub fn publish_in_async<'a>(&'a self, publish: Publish, batch: &'a mut Batch) -> PushingIn<'a> {
        let request = self.publish_request(publish);
        PushingIn::new(&self.commands, request, batch).recorded(self.recorder.as_ref())
    }

    /// SUBSCRIBE: messages that match one of `filters` go to `inbox` from now on, also before the ticket
    /// resolves with what was granted, filter by filter. So messages that the broker's session had stored are not
    /// lost on a loop that subscribes before it runs.
    ///
    /// The broker answers with the retained messages that match. They reach each inbox with a matching filter, also one
    /// that has them already: [`Message::retain`](crate::Message::retain) tells them from new ones.
    ///
    /// # Errors
    /// The filters are handed back when one is invalid or beyond the broker's limits, when there is
    /// none or more than the broker allows, when the queue stays full for the block time, and when
    /// the loop has ended. [`RejectReason::CleanSession`] for an inbox that accepts by hand.
    pub fn subscribe<M: InboxMessage>(
        &self,
        inbox: &Inbox<M>,
        filters: Vec<Filter>,
    ) -> Result<Ticket, Rejected<Vec<Filter>>> {
        if let Err(reason) = self.check_subscribe(inbox, &filters) {
            return Err(Rejected {
                command: filters,
                reason,
            });
        }
        let (ticket, completion) = Ticket::new();
        let (request, number) = self.announce(inbox.id(), filters);
        self.queue(request, completion, self.block_time)
            .map_err(|rejected| {
                self.lane.withdraw(number);
                rejected.map(Request::into_filters)
            })?;
        Ok(ticket)
    }

    /// As [`Handle::subscribe`], for a task of any executor: a future that waits for room in the queue, and then gives the
    /// ticket. The subscription counts from this call on, and no more if the future is dropped before it is in the queue.
    pub fn subscribe_async<M: InboxMessage>(
        &self,
        inbox: &Inbox<M>,
        filters: Vec<Filter>,
    ) -> Pushing<'_, Vec<Filter>> {
        let take_back = Request::into_filters;
        if let Err(reason) = self.check_subscribe(inbox, &filters) {
            let command = filters;
            let rejected = Rejected { command, reason };
            return Pushing::new(&self.commands, Err(rejected), take_back);
        }
        let (request, number) = self.announce(inbox.id(), filters);
        Pushing::new(&self.commands, Ok(request), take_back)
            .announced(&self.lane, number)
            .recorded(self.recorder.as_ref())
    }

    /// UNSUBSCRIBE: `inbox` leaves these filters. The broker is told when no other inbox stays.
    ///
    /// # Errors
    /// As [`Handle::subscribe`], except that the broker does not limit their number.
    pub fn unsubscribe<M>(
        &self,
        inbox: &Inbox<M>,
        filters: Vec<String>,
    ) -> Result<Ticket, Rejected<Vec<String>>> {
        if let Err(reason) = self.check_unsubscribe(&filters) {
            return Err(Rejected {
                command: filters,
                reason,
            });
        }
        let (ticket, completion) = Ticket::new();
        let request = Request::Unsubscribe {
            inbox: inbox.id(),
            filters,
        };
        self.queue(request, completion, self.block_time)
            .map_err(|rejected| rejected.map(Request::into_names))?;
        Ok(ticket)
    }

    /// As [`Handle::unsubscribe`], for a task of any executor: a future that waits for room in the queue, and then gives
    /// the ticket.
    pub fn unsubscribe_async<M>(
        &self,
        inbox: &Inbox<M>,
        filters: Vec<String>,
    ) -> Pushing<'_, Vec<String>> {
        let request = match self.check_unsubscribe(&filters) {
            Ok(()) => Ok(Request::Unsubscribe {
                inbox: inbox.id(),
                filters,
            }),
            Err(reason) => Err(Rejected {
                command: filters,
                reason,
            }),
        };
        Pushing::new(&self.commands, request, Request::into_names).recorded(self.recorder.as_ref())
    }

    /// PINGREQ. The ticket resolves with the PINGRESP; its latency is the way there and back.
    ///
    /// # Errors
    /// When the queue stays full for the block time, and when the loop has ended.
    pub fn ping(&self) -> Result<Ticket, Rejected<()>> {
        let (ticket, completion) = Ticket::new();
        self.queue(Request::Ping, completion, self.block_time)
            .map_err(|rejected| rejected.map(|_| ()))?;
        Ok(ticket)
    }

    /// As [`Handle::ping`], for a task of any executor: a future that waits for room in the queue, and then gives the
    /// ticket.
    pub fn ping_async(&self) -> Pushing<'_, ()> {
        Pushing::new(&self.commands, Ok(Request::Ping), |_| ()).recorded(self.recorder.as_ref())
    }

    /// DISCONNECT, after the commands that are queued now have been sent. The loop stays, offline:
    /// commands wait until [`Handle::reconnect`]. The ticket resolves as delivered once the link is closed, and at once where
    /// there is none.
    pub fn disconnect(&self) -> Ticket {
        let (ticket, completion) = Ticket::new();
        self.lane.change_link(LinkRequest::Disconnect, completion);
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

    /// TERMINATE: commands that are queued and in flight now may take `grace` to finish. Then the loop sends
    /// DISCONNECT, the rest ends as cancelled (or perhaps delivered, where it had been sent), and the
    /// loop ends, at most a second after the grace, whatever the broker sends or does not take. Asking again
    /// can only shorten the grace. Once the loop has ended, the tickets of TERMINATE, DISCONNECT, RECONNECT and
    /// PROCESSLOOP resolve as cancelled.
    pub fn terminate(&self, grace: Duration) -> Ticket {
        let (ticket, completion) = Ticket::new();
        self.lane.terminate(grace, completion);
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

    fn queue_publish(
        &self,
        publish: Publish,
        completion: Completion,
        patience: Duration,
    ) -> Result<(), Rejected<Publish>> {
        let request = match self.publish_request(publish) {
            Ok(request) => request,
            Err(rejected) => {
                completion.withdraw();
                return Err(rejected);
            }
        };
        self.queue(request, completion, patience)
            .map_err(|rejected| rejected.map(Request::into_publish))
    }

    fn publish_request(&self, publish: Publish) -> Result<Request, Rejected<Publish>> {
        match self.check_publish(&publish) {
            Ok(()) => Ok(Request::Publish(publish.into())),
            Err(reason) => Err(Rejected {
                command: publish,
                reason,
            }),
        }
    }

    fn check_publish(&self, publish: &Publish) -> Result<(), RejectReason> {
        let name = || publish.topic().to_string();
        publish.check().map_err(|problem| RejectReason::Invalid {
            name: name(),
            problem,
        })?;
        let checked = self.limits.check_publish(publish);
        checked.map_err(|exceeded| RejectReason::Limit {
            name: name(),
            exceeded,
        })
    }

    fn check_subscribe<M: InboxMessage>(
        &self,
        _: &Inbox<M>,
        filters: &[Filter],
    ) -> Result<(), RejectReason> {
        if M::IS_BY_HAND && !self.keeps_session {
            return Err(RejectReason::CleanSession);
        }
        check_each(filters, Filter::check)?;
        self.check_limits(filters)
    }

    fn check_unsubscribe(&self, filters: &[String]) -> Result<(), RejectReason> {
        check_each(filters, |filter| {
            check_filter(filter).map_err(|problem| (filter.as_str(), problem))
        })?;
        filters.iter().try_for_each(|name| {
            let checked = self.limits.check_filter_name(name);
            checked.map_err(|exceeded| beyond(name, exceeded))
        })
    }

    /// Has a subscription count from now on, before its SUBSCRIBE is queued. Returns that one, and its number.
    fn announce(&self, inbox: InboxId, filters: Vec<Filter>) -> (Request, u64) {
        let number = NEXT_SUBSCRIBE.fetch_add(1, Ordering::Relaxed);
        self.lane.announce(Announcement {
            number,
            inbox,
            filters: filters.clone(),
        });
        let request = Request::Subscribe {
            number,
            inbox,
            filters,
        };
        (request, number)
    }

    fn check_limits(&self, filters: &[Filter]) -> Result<(), RejectReason> {
        let limits = &self.limits;
        for filter in filters {
            let checked = limits.check_filter(filter);
            checked.map_err(|exceeded| beyond(&filter.filter, exceeded))?;
        }
        // The loop knows how many there are already.
        let mut names: Vec<_> = filters.iter().map(|f| f.filter.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let checked = limits.check_subscriptions(names.len());
        checked.map_err(|exceeded| beyond("SUBSCRIBE", exceeded))
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
        self.lane.terminate(self.grace, Completion::nobody());
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

fn beyond(name: &str, exceeded: LimitExceeded) -> RejectReason {
    RejectReason::Limit {
        name: name.to_owned(),
        exceeded,
    }
}

/// Checks each filter; `check` says which text breaks which rule.
fn check_each<T>(
    filters: &[T],
    check: impl Fn(&T) -> Result<(), (&str, InvalidName)>,
) -> Result<(), RejectReason> {
    if filters.is_empty() {
        return Err(RejectReason::NoFilter);
    }
    let checked = filters.iter().try_for_each(check);
    checked.map_err(|(name, problem)| RejectReason::Invalid {
        name: name.to_owned(),
        problem,
    })
}
