//! A callback of `publish_then` that waits for its own loop, or for another one: an error at once, and the
//! loop goes on. The real loop against a scripted broker.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::support::lines::LINES;
use crate::support::running::{NEVER, Running, message, next, send_at_once, told};
use crate::support::{Connection, HANG, ScriptedBroker, wait_until};
use mqtt_connection_sharing::{Batch, Handle, InboxError, Outcome, Reason, Ticket, WhenFull};
use mqtt_connection_sharing::{Publish, QoS};

fn qos1(payload: &'static str) -> Publish {
    Publish::new("a", QoS::AtLeastOnce, payload)
}

/// Runs this inside a callback. `None` if it panicked.
fn in_callback<T: Send + 'static>(
    running: &Running,
    link: &mut Connection,
    what: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, result) = channel();
    let callback = move |_| {
        let sender = sender;
        sender.send(what()).unwrap();
    };
    running.handle().publish_then(qos1("x"), callback).unwrap();
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    match result.recv_timeout(HANG) {
        Ok(result) => Some(result),
        Err(error) => {
            // It was dropped when the callback unwound.
            assert_eq!(error, std::sync::mpsc::RecvTimeoutError::Disconnected);
            None
        }
    }
}

/// A message that is not acknowledged before the link is: its ticket.
fn open_ticket(handle: &Handle, link: &mut Connection) -> (Ticket, u16) {
    let ticket = handle.publish(qos1("open")).unwrap();
    (ticket, link.expect_publish().pkid)
}

/// The panic of a callback was logged with the remedy, and the loop goes on.
#[track_caller]
fn expect_logged_and_going_on(from: usize, running: &Running, link: &mut Connection) {
    wait_until("the panic to be logged", || {
        let lines = LINES.with(from, "the callback of a command panicked", "`publish_then`");
        !lines.is_empty()
    });
    let (ticket, id) = open_ticket(running.handle(), link);
    link.send_puback(id);
    assert!(told(ticket).is_delivered());
}

#[test]
fn a_command_that_is_waited_for_in_a_callback_panics_there_and_nowhere_else() {
    LINES.start();
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let mut other_broker = ScriptedBroker::bind();
    let (other, mut other_link) = Running::online(&mut other_broker);
    for number in 0..5 {
        let from = LINES.count();
        // The fifth is for another loop, which could wait for this one at the same time.
        let (handle, to) = match number {
            4 => (other.handle().clone(), &mut other_link),
            _ => (running.handle().clone(), &mut link),
        };
        let (mut ticket, id) = open_ticket(&handle, to);
        let mut batch = Batch::new();
        handle.publish_in(qos1("open"), &mut batch).unwrap();
        let second = to.expect_publish().pkid;
        let waited = in_callback(&running, &mut link, move || match number {
            0 | 4 => drop(ticket.wait()),
            1 => drop(ticket.wait_timeout(NEVER)),
            2 => drop(batch.wait()),
            _ => drop(batch.wait_timeout(NEVER)),
        });
        assert_eq!(waited, None, "{number}");
        let to = if number == 4 {
            &mut other_link
        } else {
            &mut link
        };
        to.send_puback(id);
        to.send_puback(second);
        expect_logged_and_going_on(from, &running, &mut link);
    }
    other.terminate(other_link);
    running.terminate(link);
}

#[test]
fn a_callback_learns_what_is_there_already() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let (ended, id) = open_ticket(running.handle(), &mut link);
    let mut batch = Batch::new();
    running.handle().publish_in(qos1("x"), &mut batch).unwrap();
    let second = link.expect_publish().pkid;
    let (mut open, third) = open_ticket(running.handle(), &mut link);
    link.send_puback(id);
    link.send_puback(second);
    let learned = in_callback(&running, &mut link, move || {
        // Nothing waits for no time at all.
        let open = open.wait_timeout(Duration::ZERO);
        (ended.wait(), batch.wait(), batch.wait_timeout(NEVER), open)
    });
    let (ended, batch, again, open) = learned.unwrap();
    assert!(ended.is_delivered());
    assert_eq!((batch, again, open), (vec![], Some(vec![]), None));
    link.send_puback(third);
    running.terminate(link);
}

#[test]
fn an_inbox_in_a_callback_gives_what_it_has_and_then_an_error() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(5, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    send_at_once(&mut link, (1..=3).map(|id| message("in", id, "m")));
    for id in 1..=3 {
        assert_eq!(link.expect_puback().pkid, id);
    }
    let handle = running.handle().clone();
    let received = in_callback(&running, &mut link, move || {
        let unmatched = handle.unmatched();
        assert_eq!(unmatched.recv(), Err(InboxError::OnLoopThread));
        let unmatched = unmatched.recv_timeout(NEVER);
        assert_eq!(unmatched, Err(InboxError::OnLoopThread));
        let first = [inbox.recv(), inbox.recv_timeout(NEVER), inbox.try_recv()];
        assert!(first.iter().all(Result::is_ok));
        let then = [
            inbox.recv(),
            inbox.recv_timeout(NEVER),
            inbox.recv_timeout(Duration::ZERO),
            inbox.try_recv(),
        ];
        (inbox, then.map(Result::unwrap_err))
    });
    let (inbox, errors) = received.unwrap();
    use InboxError::{OnLoopThread, Timeout};
    assert_eq!(errors, [OnLoopThread, OnLoopThread, Timeout, Timeout]);
    send_at_once(&mut link, [message("in", 4, "later")]);
    assert_eq!(next(&inbox), "later", "on another thread it waits");
    assert_eq!(link.expect_puback().pkid, 4);
    drop(inbox);
    let unsubscribe = link.expect_unsubscribe();
    crate::support::running::send_unsuback(&mut link, unsubscribe.pkid);
    running.terminate(link);
}

/// Waits for its ticket when it is dropped.
struct WaitsWhenDropped(Option<Ticket>, Sender<Outcome>);

impl Drop for WaitsWhenDropped {
    fn drop(&mut self) {
        let outcome = self.0.take().unwrap().wait();
        self.1.send(outcome).unwrap();
    }
}

#[test]
fn a_callback_that_panics_and_waits_while_it_unwinds_does_not_end_the_process() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let (ticket, id) = open_ticket(running.handle(), &mut link);
    let (sender, outcome): (_, Receiver<Outcome>) = channel();
    let waits = WaitsWhenDropped(Some(ticket), sender);
    let panicked = in_callback(&running, &mut link, move || {
        let _waits = waits;
        panic!("a bug of the caller, meant");
    });
    assert_eq!(panicked, None::<()>);
    let unknown = Outcome::PerhapsDelivered(Reason::OnLoopThread);
    assert_eq!(outcome.recv_timeout(HANG), Ok(unknown));
    link.send_puback(id);
    running.terminate(link);
}
