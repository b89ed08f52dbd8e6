//! The publishers of a storm (`storm.rs`): threads that publish the messages of a round each time the
//! storm begins one. They do so in three forms: waiting for each message, with tickets, and with
//! callbacks. They enter into the account each message that they hand in and each outcome.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mqtt_connection_sharing::Publish;
use mqtt_connection_sharing::{Handle, RejectReason, Rejected, Ticket};

use super::account::{self, Account};
use super::storm::{LAST_ROUND, ROUND_LIMIT};

/// Tickets that the publisher with tickets holds before it waits for the oldest.
const TICKETS: usize = 64;

/// Messages that the broker may hold before the publishers wait. After each reconnect Mosquitto 2.0
/// sends all messages it holds, whatever its window. If they were more than passes between two cuts, it
/// would begin with the same ones again and again.
const BACKLOG: u64 = 300;

pub(super) struct Worker {
    begin: Sender<u64>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(handle: Handle, account: &Arc<Account>, number: usize) -> Worker {
        let account = Arc::clone(account);
        let (begin, rounds) = channel::<u64>();
        let (tell, ended) = channel();
        let run = move || {
            for count in rounds {
                match number % 3 {
                    0 => publish_and_wait(&handle, &account, number, count),
                    1 => publish_with_callbacks(&handle, &account, number, count),
                    _ => publish_with_tickets(&handle, &account, number, count),
                }
                tell.send(()).expect("somebody who waits");
            }
        };
        let thread = thread::Builder::new().spawn(run).expect("a thread");
        Worker {
            begin,
            ended,
            thread,
        }
    }

    /// Publishes this many messages.
    pub(super) fn begin(&self, count: u64) {
        self.begin.send(count).expect("a publisher");
    }

    /// Waits until each of them has its outcome.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub(super) fn expect_end(&self, limit: Duration) {
        let ended = self.ended.recv_timeout(limit);
        ended.expect("a publisher to end its round: a command was not resolved");
    }

    pub(super) fn join(self) {
        drop(self.begin);
        self.thread.join().expect("no panic in a publisher");
    }
}

fn publish_and_wait(handle: &Handle, account: &Account, number: usize, count: u64) {
    for index in 0..count {
        let ticket = publish(handle, account, number, index);
        if let Some(ticket) = ticket {
            account.resolve(number, index, &ticket.wait());
        }
    }
}

fn publish_with_tickets(handle: &Handle, account: &Account, number: usize, count: u64) {
    let mut open = VecDeque::new();
    for index in 0..count {
        if let Some(ticket) = publish(handle, account, number, index) {
            open.push_back((index, ticket));
        }
        if open.len() > TICKETS
            && let Some((index, ticket)) = open.pop_front()
        {
            account.resolve(number, index, &ticket.wait());
        }
    }
    for (index, ticket) in open {
        account.resolve(number, index, &ticket.wait());
    }
}

fn publish_with_callbacks(handle: &Handle, account: &Arc<Account>, number: usize, count: u64) {
    // Each callback holds the sender: when all of them are gone, the loop has called or dropped each
    // one.
    let (held, all_gone) = channel::<()>();
    for index in 0..count {
        let (held, ours) = (held.clone(), Arc::clone(account));
        submit(account, number, index);
        let message = message(account, number, index);
        let callback = move |outcome| {
            ours.resolve(number, index, &outcome);
            drop(held);
        };
        if let Err(rejected) = handle.publish_then(message, callback) {
            handed_back(account, number, index, &rejected);
        }
    }
    drop(held);
    assert!(all_gone.recv_timeout(ROUND_LIMIT).is_err());
}

fn publish(handle: &Handle, account: &Account, number: usize, index: u64) -> Option<Ticket> {
    submit(account, number, index);
    let accepted = handle.publish(message(account, number, index));
    accepted
        .map_err(|rejected| handed_back(account, number, index, &rejected))
        .ok()
}

/// Waits until the broker's backlog is small (not in the last round), then enters the message as
/// submitted.
fn submit(account: &Account, number: usize, index: u64) {
    if account.backlog() > BACKLOG {
        let small = || account.backlog() <= BACKLOG || account.round() == LAST_ROUND;
        let waited = super::look_for(ROUND_LIMIT, || small().then_some(()));
        waited.expect("the subscribers to receive");
    }
    account.submit(number, index);
}

/// Enters that a message was handed back. Only the loop's end may do that.
fn handed_back(account: &Account, number: usize, index: u64, rejected: &Rejected<Publish>) {
    assert_eq!(rejected.reason, RejectReason::Terminated);
    account.hand_back(number, index);
}

fn message(account: &Account, number: usize, index: u64) -> Publish {
    let qos = account::qos(index);
    let topic = format!("storm/{number}/{}", qos as u8);
    Publish::new(topic, qos, account.payload(number, index))
}
