//! \[3\] The command loop: the thread that calls [`Agent::run`] owns the connection until it returns.
//!
//! Each turn takes what goes ahead of the queue, moves the connection on, takes a batch of commands,
//! reads and handles what the link has, and writes what the session wants sent, these three in portions
//! if there is much of it; then it sleeps until somebody rings (`doorbell.rs`) or the next timer. Only
//! for that sleep the readiness thread watches the socket: awake, the loop looks for itself. Of all that
//! carries the connection only this module reads the clock. It never waits for a consumer, never sends
//! into its own bounded queue, and while it sleeps every stop request wakes it. What MQTT requires is
//! decided in `session/`; here is only the wiring.
//!
//! - `connection.rs`: from offline to online and back, with backoff
//! - `dispatch.rs`: commands into the session, events out of it
//! - `exchange.rs`: commands and packets in, packets out
//! - `ending.rs`: DISCONNECT and TERMINATE
//! - `pace.rs`: when to wait for more, and when to look again before sleeping

mod advice;
mod connection;
mod dispatch;
mod ending;
mod exchange;
#[cfg(test)]
mod memory;
mod pace;
mod reconnect;
mod requests;
mod wire;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use native_tls::TlsConnector;

use crate::client::doorbell::Doorbell;
use crate::client::fanout::Fanout;
use crate::client::handle::Handle;
use crate::client::lane::{LaneSender, UrgentLane, urgent_lane};
use crate::client::outlet::InboxId;
use crate::client::queue::{CommandQueue, command_queue};
use crate::client::ticket::Completion;
use crate::error::{Blame, Error, exhaustion};
use crate::link::backoff::Backoff;
use crate::link::resolve::Resolver;
use crate::link::tls;
use crate::mqtt::session::{DeliveryId, Event, Outcome, Reason, Session, SessionOptions};
use crate::mqtt::subscriptions::{InterestId, Subscriptions};
use crate::options::{Options, Security};

use connection::Connection;
use pace::Pace;
use requests::Requests;
use wire::Wire;

/// Commands taken before the link, or what is left of what it brought, is looked at again.
const BATCH: usize = 512;

/// Links lost in a row without any acknowledgment before what stands first in flight is given up.
const FRUITLESS_LINKS: u32 = 5;

/// A client of one broker, not connected: options checked, certificates loaded.
///
/// It outlives the loops that it opens, so that CONNECTs keep their distance
/// ([`Options::connect_interval`]) also from one loop to the next.
#[derive(Debug)]
pub struct Client {
    options: Options,
    connector: Option<TlsConnector>,
    last_connect: Option<Instant>,
    /// Where the next loop's packet identifiers begin: the broker may hold those of the last one.
    next_identifier: u16,
}

/// The command loop, not yet running. See [`Agent::run`].
pub struct Agent {
    client: Client,
    commands: CommandQueue,
    lane: UrgentLane,
    /// For the readiness thread and the resolver.
    waker: LaneSender,
    doorbell: Arc<Doorbell>,
    session: Session<Pending>,
    subscriptions: Subscriptions<InboxId>,
    fanout: Fanout,
    connection: Connection,
    wire: Wire,
    accepted: Vec<DeliveryId>,
    requests: Requests,
    pace: Pace,
    failure: Option<Error>,
    stats: Stats,
}

/// What the session hands back when a command has ended.
#[derive(Debug)]
enum Pending {
    Plain(Completion),
    /// Also with what was added for it.
    Subscribe(Box<(Completion, Vec<InterestId<InboxId>>)>),
    /// Also with what is leaving.
    Unsubscribe(Box<(Completion, Vec<InterestId<InboxId>>)>),
}

/// What happened while the loop ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// How often the broker accepted a connection.
    pub connects: u64,
    /// How many of these followed the loss of an earlier one, or a RECONNECT.
    pub reconnects: u64,
    /// How often a connection was lost that the broker had accepted, whether there was another or not.
    pub losses: u64,
    /// How often the broker still had the session at a reconnect.
    pub resumed: u64,
    /// How many subscriptions were renewed because the broker had forgotten them.
    pub resubscribed: u64,
    /// Messages dropped because they matched no subscription and the default queue was full.
    pub unmatched_dropped: u64,
}

/// How the loop ended.
#[derive(Debug)]
#[must_use]
pub struct Ended {
    /// What the loop was opened from, for another one: it knows when the last CONNECT was and which packet
    /// identifiers the broker may still hold.
    pub client: Client,
    /// Well, after TERMINATE or the last handle; or because no connection could be had.
    pub result: Result<(), Error>,
    /// What happened on the way.
    pub stats: Stats,
    /// Commands that had not ended by then: they ended as cancelled or perhaps delivered.
    pub left: usize,
}

impl Client {
    /// Checks the options and loads the certificates. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Blame::Configuration`], saying which value or file is wrong and how to mend it.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let connector = match &options.security {
            Security::Tls(tls) => Some(tls::connector(tls)?),
            Security::Plain => None,
        };
        Ok(Client {
            options,
            connector,
            last_connect: None,
            next_identifier: 0,
        })
    }

    /// A loop for this client, and the handle that threads push commands with. The client comes back in
    /// [`Ended::client`].
    pub fn open(self) -> (Agent, Handle) {
        let clean_session = self.options.clean_session;
        self.open_with(clean_session)
    }

    /// As [`Client::open`], but asks the broker to forget the earlier session, whatever the options
    /// say [MQTT-3.1.2-6].
    pub fn open_clean(self) -> (Agent, Handle) {
        self.open_with(true)
    }

    /// The options that it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The delays between failed attempts as the loop waits for them: random ones below a doubling
    /// ceiling, and as many as [`Options::retry`](crate::options::Options::retry) allows attempts.
    pub fn retry_delays(&self) -> impl Iterator<Item = Duration> + use<> {
        let mut backoff = Backoff::new(self.options.retry);
        std::iter::from_fn(move || backoff.after_failure())
    }

    /// When the next CONNECT may go out, at this time at the earliest: CONNECTs keep their distance.
    fn next_connect(&self, at: Instant) -> Instant {
        let allowed = self
            .last_connect
            .map(|last| last + self.options.connect_interval);
        allowed.map_or(at, |allowed| allowed.max(at))
    }

    /// CONNECT goes out.
    fn connected_at(&mut self, now: Instant) {
        self.last_connect = Some(now);
    }

    /// For [`Ended::client`].
    fn hand_back(&self) -> Client {
        Client {
            options: self.options.clone(),
            connector: self.connector.clone(),
            last_connect: self.last_connect,
            next_identifier: self.next_identifier,
        }
    }

    fn open_with(self, clean_session: bool) -> (Agent, Handle) {
        let now = Instant::now();
        let doorbell = Arc::new(Doorbell::default());
        let (command_sender, commands) =
            command_queue(self.options.command_queue, Arc::clone(&doorbell));
        let (waker, lane) = urgent_lane(Arc::clone(&doorbell));
        let max_owed_bytes = self.options.max_owed_bytes();
        let (fanout, unmatched) = Fanout::new(self.options.unmatched_queue, max_owed_bytes);
        let session_options = SessionOptions {
            max_inflight: self.options.max_inflight,
            ack_timeout: self.options.ack_timeout,
            keep_alive: self.options.keep_alive,
            on_session_lost: self.options.on_session_lost,
            identifiers: u16::MAX,
            fruitless_links: match self.options.retry.attempts {
                // Whoever wants to try for ever means it.
                0 => u32::MAX,
                _ => FRUITLESS_LINKS,
            },
            first_identifier: self.next_identifier,
            max_owed_bytes,
        };
        let handle = Handle::new(command_sender, waker.clone(), unmatched, &self.options);
        let single_core = thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
        let resolver = Resolver::new({
            let waker = waker.clone();
            move || waker.inject_process_loop()
        });
        let agent = Agent {
            commands,
            lane,
            connection: Connection::new(&self, clean_session, resolver, now),
            waker,
            doorbell,
            session: Session::new(session_options, now),
            subscriptions: Subscriptions::default(),
            fanout,
            wire: Wire::new(),
            accepted: Vec::new(),
            requests: Requests::default(),
            pace: Pace::new(single_core, now),
            failure: None,
            stats: Stats::default(),
            client: self,
        };
        (agent, handle)
    }
}

fn no_readiness_thread(error: &io::Error) -> Error {
    Error::new(
        Blame::Network,
        "starting the readiness thread",
        error.to_string(),
        exhaustion(error).unwrap_or("free some of the system's threads or memory"),
    )
}

impl Drop for Agent {
    /// After a panic in the loop everybody who waits still learns the truth.
    fn drop(&mut self) {
        self.session.abandon(Reason::LoopEnded);
        while let Some(event) = self.session.poll_event() {
            if let Event::Resolved { token, outcome } = event {
                token.into_completion().tell(outcome);
            }
        }
    }
}

impl Pending {
    fn into_completion(self) -> Completion {
        match self {
            Pending::Plain(completion) => completion,
            Pending::Subscribe(more) | Pending::Unsubscribe(more) => more.0,
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("phase", self.connection.phase())
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Connects and runs until TERMINATE, until the last handle is gone, or until no connection can
    /// be had any more. Every command has ended when it returns.
    pub fn run(mut self) -> Ended {
        self.doorbell.move_in();
        if let Err(error) = self.start_readiness() {
            self.failure = Some(no_readiness_thread(&error));
            return self.end();
        }
        loop {
            let mut now = Instant::now();
            if self.wire.is_up() && !self.wire.is_watched() {
                // No other thread tells, so it looks.
                self.wire.look();
            }
            let mut busy = self.take_urgent(now);
            busy |= self.advance_connection(now);
            busy |= self.exchange(now);
            while self.wire.has_unhandled() {
                now = Instant::now();
                busy |= self.exchange(now);
            }
            self.finish_process_loops(now);
            busy |= self.end_if_due(now);
            if self.has_ended(now) {
                return self.end();
            }
            if let Some(pause) = self.pause(now) {
                self.doorbell.rest(now + pause, || !self.lane.is_empty());
            } else if busy {
                self.pace.was_busy(now);
            } else if self.looks_again(now) {
                thread::yield_now();
            } else {
                self.sleep(now);
            }
        }
    }

    /// PROCESSLOOP is done once all that the link has is handled.
    fn finish_process_loops(&mut self, now: Instant) {
        if self.requests.has_process_loops() {
            self.read_the_rest(now);
            let done = Outcome::delivered(1, Duration::ZERO);
            self.requests.end_process_loops(&done);
        }
    }

    fn looks_again(&mut self, now: Instant) -> bool {
        self.pace.looks_again(self.session.in_flight(), now)
    }

    /// How long to let acknowledgments come together, if nothing else can be done meanwhile.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let pause = self.pace.pause(self.session.in_flight(), now)?;
        let idle = self.session.output().is_empty()
            && (self.commands.is_empty() || !self.takes_commands());
        idle.then_some(pause)
    }

    /// Sleeps until something goes ahead of the queue, a command comes that can be taken, or the
    /// next timer. There is no polling tick.
    fn sleep(&mut self, now: Instant) {
        let reads = !self.session.is_behind_with_acks();
        if let Err(error) = self.wire.watch(reads) {
            self.link_failed(&error, now);
            return;
        }
        let takes_commands = self.takes_commands();
        self.pace.will_sleep(self.commands.keeps_waiting(), now);
        let deadlines = [
            self.connection.deadline(),
            self.session.next_timer(),
            self.ending_deadline(),
            self.pace.deadline(self.session.wants_commands()),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        self.doorbell.sleep(takes_commands, deadline, || {
            if self.pace.lets_a_thread_in() {
                // Not before: the thread that is let in has to see that the loop sleeps.
                self.commands.open_for_any();
            }
            !self.lane.is_empty() || takes_commands && !self.commands.is_empty()
        });
        self.pace.slept(now.elapsed());
        self.wire.unwatch();
    }

    fn start_readiness(&mut self) -> io::Result<()> {
        let (ready, failed) = (self.waker.clone(), self.waker.clone());
        let on_failure = move |error| failed.watch_failed(error);
        self.wire
            .start(move || ready.inject_process_loop(), on_failure)
    }
}
