//! The requests that the loop has taken and not done yet.
//!
//! DISCONNECT and TERMINATE go ahead of the queue, so that a full one cannot keep them out. The commands
//! that stood in it at that moment go before them all the same, so they are counted. The loop's thread
//! owns the requests; `ending.rs`, `reconnect.rs` and `dispatch.rs` carry them out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::client::lane::Leave;
use crate::client::ticket::Completions;
use crate::mqtt::session::{Outcome, Reason};

/// Requests that are not done yet.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Filters that no thread wants any more. They go before every command: a later SUBSCRIBE may be for
    /// one of them.
    abandoned_filters: VecDeque<Vec<String>>,
    process_loops: Completions,
    reconnects: Completions,
    /// Never set together with `ending`.
    going_offline: Option<GoingOffline>,
    ending: Option<Ending>,
}

/// DISCONNECT was asked for, and this many commands go before it.
#[derive(Debug)]
struct GoingOffline {
    commands_before: usize,
    leave: Leave,
    done: Completions,
}

/// TERMINATE was asked for, and this many commands go before it.
#[derive(Debug)]
struct Ending {
    commands_before: usize,
    deadline: Instant,
    leave: Leave,
    done: Completions,
}

impl Requests {
    /// No thread wants these filters any more.
    pub(super) fn abandon(&mut self, filters: Vec<String>) {
        if !filters.is_empty() {
            self.abandoned_filters.push_back(filters);
        }
    }

    /// The next filters that the broker has to be told of.
    pub(super) fn take_abandoned(&mut self) -> Option<Vec<String>> {
        self.abandoned_filters.pop_front()
    }

    pub(super) fn process_loop(&mut self, done: Completions) {
        self.process_loops.append(done);
    }

    pub(super) fn has_process_loops(&self) -> bool {
        !self.process_loops.is_empty()
    }

    /// Tells all PROCESSLOOPs how they ended.
    pub(super) fn end_process_loops(&mut self, outcome: &Outcome) {
        self.process_loops.take().tell(outcome);
    }

    pub(super) fn reconnect(&mut self, done: Completions) {
        self.reconnects.append(done);
    }

    /// Tells all RECONNECTs how they ended.
    pub(super) fn end_reconnects(&mut self, outcome: &Outcome) {
        self.reconnects.take().tell(outcome);
    }

    /// Has DISCONNECT come with TERMINATE, or with an earlier DISCONNECT that still waits. Gives it back
    /// if there is neither.
    pub(super) fn join_disconnect(
        &mut self,
        leave: Leave,
        done: Completions,
    ) -> Option<Completions> {
        match (&mut self.ending, &mut self.going_offline) {
            // TERMINATE disconnects as soon as it can.
            (
                Some(Ending {
                    leave: how,
                    done: all,
                    ..
                }),
                _,
            )
            | (
                _,
                Some(GoingOffline {
                    leave: how,
                    done: all,
                    ..
                }),
            ) => {
                *how = leave.max(*how);
                all.append(done);
                None
            }
            (None, None) => Some(done),
        }
    }

    /// DISCONNECT, once so many commands are taken.
    pub(super) fn disconnect_after(
        &mut self,
        commands_before: usize,
        leave: Leave,
        done: Completions,
    ) {
        self.going_offline = Some(GoingOffline {
            commands_before,
            leave,
            done,
        });
    }

    /// TERMINATE, once so many commands have ended, but at this time at the latest. Asking again can only
    /// bring the end nearer.
    pub(super) fn terminate_after(
        &mut self,
        commands_before: usize,
        deadline: Instant,
        mut leave: Leave,
        mut done: Completions,
    ) {
        if let Some(ending) = &mut self.ending {
            ending.deadline = ending.deadline.min(deadline);
            ending.leave = ending.leave.max(leave);
            ending.done.append(done);
            return;
        }
        // A DISCONNECT that still waits for commands before it comes with the end.
        if let Some(going) = self.going_offline.take() {
            leave = leave.max(going.leave);
            done.append(going.done);
        }
        self.ending = Some(Ending {
            commands_before,
            deadline,
            leave,
            done,
        });
    }

    /// Whether the next command goes before everything that waits here.
    pub(super) fn let_commands_pass(&self) -> bool {
        let going = self.going_offline.as_ref().map(|g| g.commands_before);
        let ending = self.ending.as_ref().map(|e| e.commands_before);
        self.abandoned_filters.is_empty() && going != Some(0) && ending != Some(0)
    }

    /// How many commands go before DISCONNECT or TERMINATE, whichever comes first.
    pub(super) fn commands_that_pass(&self) -> usize {
        let going = self.going_offline.as_ref().map(|g| g.commands_before);
        let ending = self.ending.as_ref().map(|e| e.commands_before);
        going.into_iter().chain(ending).min().unwrap_or(usize::MAX)
    }

    /// One command less goes before DISCONNECT or TERMINATE.
    pub(super) fn command_taken(&mut self) {
        if let Some(before) = self.commands_before() {
            *before = before.saturating_sub(1);
        }
    }

    /// No command goes before DISCONNECT or TERMINATE any more.
    pub(super) fn queue_is_empty(&mut self) {
        if let Some(before) = self.commands_before() {
            *before = 0;
        }
    }

    fn commands_before(&mut self) -> Option<&mut usize> {
        let going = self.going_offline.as_mut().map(|g| &mut g.commands_before);
        going.or(self.ending.as_mut().map(|e| &mut e.commands_before))
    }

    /// How many commands go before a DISCONNECT, if one waits.
    pub(super) fn before_disconnect(&self) -> Option<usize> {
        self.going_offline.as_ref().map(|g| g.commands_before)
    }

    /// Takes the DISCONNECT that waits, to carry it out.
    pub(super) fn take_disconnect(&mut self) -> Option<(Leave, Completions)> {
        let going = self.going_offline.take()?;
        Some((going.leave, going.done))
    }

    /// How TERMINATE leaves the broker.
    pub(super) fn ending_leave(&self) -> Leave {
        self.ending
            .as_ref()
            .map_or(Leave::Quietly, |ending| ending.leave)
    }

    /// Whether TERMINATE was asked for.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// When the grace of TERMINATE is over.
    pub(super) fn ending_deadline(&self) -> Option<Instant> {
        self.ending.as_ref().map(|ending| ending.deadline)
    }

    /// Whether TERMINATE was asked for and its grace is over at this time.
    pub(super) fn grace_is_over(&self, time: Instant) -> bool {
        self.ending_deadline().is_some_and(|at| at <= time)
    }

    /// Whether TERMINATE was asked for and every command before it was taken.
    pub(super) fn end_is_next(&self) -> bool {
        let ending = self.ending.as_ref();
        ending.is_some_and(|ending| ending.commands_before == 0)
    }

    /// The loop has ended: tells every thread that still waits.
    pub(super) fn end(&mut self, reason: Reason) {
        if let Some((_, done)) = self.take_disconnect() {
            done.tell(&Outcome::Cancelled(reason));
        }
        self.end_reconnects(&Outcome::Cancelled(reason));
        if let Some(ending) = self.ending.take() {
            ending.done.tell(&Outcome::delivered(1, Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ticket::Ticket;

    fn request() -> (Ticket, Completions) {
        let (ticket, completion) = Ticket::new();
        let mut done = Completions::default();
        done.push(completion);
        (ticket, done)
    }

    #[test]
    fn commands_pass_until_those_before_disconnect_are_taken() {
        let mut requests = Requests::default();
        assert!(requests.let_commands_pass());
        requests.disconnect_after(2, Leave::Quietly, request().1);
        requests.command_taken();
        assert!(requests.let_commands_pass());
        requests.command_taken();
        assert!(!requests.let_commands_pass());
        assert_eq!(requests.before_disconnect(), Some(0));
        assert!(requests.take_disconnect().is_some());
        assert!(requests.let_commands_pass());
        requests.terminate_after(7, Instant::now(), Leave::Quietly, request().1);
        requests.queue_is_empty();
        assert!(!requests.let_commands_pass());
        assert!(requests.end_is_next());
    }

    #[test]
    fn abandoned_filters_go_before_commands() {
        let mut requests = Requests::default();
        requests.abandon(Vec::new());
        assert!(requests.let_commands_pass());
        requests.abandon(vec!["a".into()]);
        assert!(!requests.let_commands_pass());
        assert_eq!(requests.take_abandoned(), Some(vec!["a".into()]));
        assert!(requests.let_commands_pass());
    }

    #[test]
    fn a_disconnect_joins_an_earlier_one_and_both_come_with_terminate() {
        let now = Instant::now();
        let mut requests = Requests::default();
        let (first, done) = request();
        let done = requests.join_disconnect(Leave::Quietly, done).unwrap();
        requests.disconnect_after(5, Leave::Quietly, done);
        let (second, done) = request();
        assert!(requests.join_disconnect(Leave::WithWill, done).is_none());
        let (terminate, done) = request();
        requests.terminate_after(3, now + Duration::from_secs(2), Leave::Quietly, done);
        assert_eq!(requests.before_disconnect(), None);
        let (third, done) = request();
        assert!(requests.join_disconnect(Leave::Quietly, done).is_none());
        let (sooner, done) = request();
        requests.terminate_after(100, now + Duration::from_secs(1), Leave::Quietly, done);
        assert_eq!(requests.ending_leave(), Leave::WithWill, "one asked so");
        assert!(requests.grace_is_over(now + Duration::from_secs(1)));
        assert!(!requests.grace_is_over(now));
        let (reconnect, done) = request();
        requests.reconnect(done);
        requests.end(Reason::Terminated);
        let delivered = Outcome::delivered(1, Duration::ZERO);
        for ticket in [first, second, third, terminate, sooner] {
            assert_eq!(ticket.outcome().as_ref(), Some(&delivered));
        }
        let cancelled = Outcome::Cancelled(Reason::Terminated);
        assert_eq!(reconnect.outcome(), Some(cancelled));
    }
}
