//! \[3\] The command loop: the thread that calls [`Agent::run`] owns the connection until it returns.
//!
//! Each turn takes what goes ahead of the queue, moves the connection on, takes a batch of commands,
//! reads and handles what the link has, and writes what the session wants sent, these three in portions
//! if there is much of it. Then the loop sleeps until a thread rings (`doorbell.rs`) or the next timer is
//! due. The readiness thread watches the socket for that sleep only: awake, the loop looks for itself.
//! Of all that carries the connection only the agent reads the clock. The loop never waits for a
//! consumer, never sends into its own bounded queue, and every stop request wakes it. The session decides
//! what MQTT requires (`mqtt/session/`).
//!
//! Each of these owns a part of the loop's state:
//!
//! - `client.rs`: what outlives one loop
//! - `connection.rs`: where the connection is, and when it goes on
//! - `prepare.rs`: what a thread does before each attempt: ask the provider, read files again
//! - `wire.rs`: the link, and what was read from it
//! - `requests.rs`: requests that the loop has taken and not done yet
//! - `pace.rs`: when to wait for more, and when to look again before sleeping
//! - `pending.rs`: the session, and what it hands back
//!
//! These connect the parts:
//!
//! - `dispatch.rs`: requests and commands into the session, events out of it
//! - `exchange.rs`: one portion of commands and packets in, packets out
//! - `reconnect.rs`: from offline to online and back, RECONNECT; `advice.rs`, `losses.rs`,
//!   `words5.rs`: what its errors say
//! - `responding.rs`: requests that await a response
//! - `ending.rs`: DISCONNECT and TERMINATE
//! - `reporting.rs`: the state and the events of the connection, for threads that watch it
//! - `recording.rs`: the records of all of this, if there is a recording

#[cfg(test)]
mod addresses;
mod advice;
mod client;
mod connection;
#[cfg(test)]
mod counting;
mod dispatch;
mod ending;
mod exchange;
mod losses;
#[cfg(test)]
mod memory;
mod pace;
mod pending;
mod prepare;
mod reconnect;
mod recording;
#[cfg(test)]
mod replaced;
mod reporting;
mod requests;
mod responding;
#[cfg(test)]
mod slow_links;
#[cfg(test)]
mod unwanted;
mod violations;
mod wire;
mod words5;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::batch::Uncounted;
use crate::client::doorbell::Doorbell;
use crate::client::fanout::Fanout;
use crate::client::handle::Handle;
use crate::client::lane::{UrgentLane, urgent_lane};
use crate::client::loop_thread;
use crate::client::meter::{Meter, meter};
use crate::client::outlet::InboxId;
use crate::client::queue::{CommandQueue, command_queue};
use crate::client::recording::Recorder;
use crate::client::stats::Stats;
use crate::client::watch::{Reporter, watch};
use crate::error::{Blame, Error, exhaustion};
use crate::link::resolve::Resolver;
use crate::mqtt::codec::LinkDecoder;
use crate::mqtt::packet::Protocol;
use crate::mqtt::session::Outcome;
use crate::mqtt::subscriptions::Subscriptions;
use crate::mqtt::{v4, v5};

pub use client::Client;
use connection::Connection;
use pace::Pace;
use pending::LoopSession;
use requests::Requests;
use wire::Wire;

/// Commands taken before the link, or what is left of what it brought, is looked at again.
const BATCH: usize = 512;

/// The command loop, not yet running. See [`Agent::run`].
pub struct Agent {
    /// Dropped first: a panic tells the truth of what was sent before anything else is cancelled.
    session: LoopSession,
    client: Client,
    commands: CommandQueue,
    lane: UrgentLane,
    subscriptions: Subscriptions<InboxId>,
    fanout: Fanout,
    connection: Connection,
    wire: Wire,
    requests: Requests,
    pace: Pace,
    /// None while no event is handled.
    uncounted: Uncounted,
    failure: Option<Error>,
    meter: Meter,
    reporter: Reporter,
    recorder: Option<Recorder>,
}

/// How the loop ended.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub struct Ended {
    /// The client that the loop was opened from, for another loop. It knows when the last CONNECT was and
    /// which packet identifiers the broker may still hold. A loop that panics, or that is dropped before it ran,
    /// takes the client with it.
    pub client: Client,
    /// `Ok` after TERMINATE or the last handle, or the error because of which there was no connection.
    pub result: Result<(), Error>,
    /// Counts of what happened.
    pub stats: Stats,
    /// How many commands had not ended by then. They ended as cancelled or perhaps delivered.
    pub left: usize,
    /// If TERMINATE ended the loop while there was no connection: the last failed attempt, or what the first one was
    /// waiting for.
    pub unconnected: Option<Error>,
}

impl Agent {
    /// A loop that did not run yet, and the first handle to it.
    fn new(client: Client, clean_session: bool) -> (Agent, Handle) {
        let now = Instant::now();
        let doorbell = Arc::new(Doorbell::default());
        let (command_sender, commands) =
            command_queue(client.options.command_queue, Arc::clone(&doorbell));
        let (sender, lane) = urgent_lane(doorbell);
        let options = &client.options;
        let recorder = options.recording.map(Recorder::new);
        let (fanout, unmatched) = Fanout::new(options.unmatched_queue, recorder.clone());
        let (meter, reader) = meter();
        let (reporter, watch) = watch();
        let handle = Handle::new(
            command_sender,
            sender.clone(),
            unmatched,
            (reader, watch),
            recorder.clone(),
            &client.options,
            !clean_session,
        );
        let single_core = thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
        let resolver = Resolver::new(move || sender.inject_process_loop());
        let decoder = match options.protocol {
            Protocol::V3_1_1 => {
                let limit = options.max_packet_size;
                LinkDecoder::V4(v4::Decoder::new(limit, options.on_too_large))
            }
            Protocol::V5 => {
                let aliases = options.version5.topic_alias_maximum;
                let limit = options.max_packet_size;
                LinkDecoder::V5(v5::Decoder5::new(limit, aliases, options.on_too_large))
            }
        };
        let agent = Agent {
            session: LoopSession::new(client.session_options(), recorder.is_some(), now),
            commands,
            lane,
            connection: Connection::new(&client, clean_session, resolver, now),
            subscriptions: Subscriptions::default(),
            fanout,
            wire: Wire::new(decoder),
            requests: Requests::default(),
            pace: Pace::new(single_core, now),
            uncounted: Uncounted::default(),
            failure: None,
            meter,
            reporter,
            recorder,
            client,
        };
        (agent, handle)
    }
}

fn no_readiness_thread(error: io::Error) -> Error {
    let told = Error::new(
        Blame::Network,
        "starting the readiness thread",
        error.to_string(),
        exhaustion(&error).unwrap_or("free some of the system's threads or memory"),
    );
    told.with_source(error)
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
    ///
    /// The calling thread owns the connection until then, and may be any thread. It must not be one of an executor: the call
    /// blocks. Work that blocks has threads of the library's own: the watch over the socket, the resolver of names, and the
    /// preparation of each attempt (provider, files).
    pub fn run(mut self) -> Ended {
        let _waits_for_nothing = loop_thread::enter();
        let _track = self.recorder.as_ref().map(Recorder::enter_loop);
        self.lane.doorbell().set_thread();
        if let Err(error) = self.start_readiness() {
            self.failure = Some(no_readiness_thread(error));
            return self.end();
        }
        loop {
            let mut now = Instant::now();
            if self.wire.is_up() && !self.wire.is_watched() {
                // No other thread tells, so it looks.
                self.wire.look();
            }
            self.record_turn(now);
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
                self.sleep_for(now + pause);
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

    /// Whether TERMINATE leaves no time to read on. It reads the clock, because reading may have taken long.
    fn has_to_leave(&self) -> bool {
        let until = self.reads_until();
        until.is_some_and(|until| until <= Instant::now())
    }

    fn looks_again(&mut self, now: Instant) -> bool {
        self.pace.looks_again(self.session.in_flight(), now)
    }

    /// How long to let acknowledgments come together, if nothing else can be done meanwhile.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        if self.wire.is_readable() {
            // Reading can.
            return None;
        }
        let pause = self.pace.pause(self.session.in_flight(), now)?;
        let idle = self.session.output().is_empty()
            && (self.commands.is_empty() || !self.takes_commands());
        idle.then_some(pause)
    }

    /// Pauses until then, or until something goes ahead of the queue.
    fn sleep_for(&mut self, until: Instant) {
        self.record_sleep();
        (self.lane.doorbell()).pause(until, || !self.lane.is_empty());
        self.record_wake_up();
    }

    /// Sleeps until something goes ahead of the queue, a command comes that can be taken, or the
    /// next timer. There is no polling tick.
    fn sleep(&mut self, now: Instant) {
        let reads = !self.session.is_behind_with_acks();
        if let Err(error) = self.wire.watch(reads) {
            self.link_failed(error, now);
            return;
        }
        debug_assert!(self.state_is_told(), "{:?}", self.connection.phase());
        let takes_commands = self.takes_commands();
        let rest_of_turn = self.commands.admit_waiting(now);
        let deadlines = [
            rest_of_turn,
            self.connection.deadline(),
            self.session.next_timer(),
            self.ending_deadline(),
            self.pace.deadline(self.session.wants_commands()),
            self.fanout.next_timer(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        self.record_sleep();
        let doorbell = self.lane.doorbell();
        if !takes_commands && self.takes_requests() {
            // One may have come since `takes_commands` was asked.
            doorbell.sleep_for_requests(deadline, || {
                let has_some = !self.commands.is_empty() && self.commands.has_requests();
                has_some || !self.lane.is_empty()
            });
        } else {
            doorbell.sleep(takes_commands, deadline, || {
                !self.lane.is_empty() || takes_commands && !self.commands.is_empty()
            });
        }
        self.record_wake_up();
        self.pace.slept(now.elapsed());
        self.wire.unwatch();
    }

    fn start_readiness(&mut self) -> io::Result<()> {
        self.tell_waiting();
        let (ready, failed) = (self.lane.sender(), self.lane.sender());
        let on_failure = move |error| failed.watch_failed(error);
        self.wire
            .start(move || ready.inject_process_loop(), on_failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_can_run_on_any_thread() {
        fn assert_can_move<T: Send + 'static>() {}
        assert_can_move::<Agent>();
        assert_can_move::<Ended>();
    }
}
