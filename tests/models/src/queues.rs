//! The models of the command queue and of the line in front of it: see `models.rs`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::thread::spawn;
use std::time::{Duration, Instant};

use crate::client::command::Command;
use crate::client::doorbell::Doorbell;
use crate::client::queue::{CommandSender, Entering, NotQueued, command_queue};
use crate::client::ticket::Ticket;
use crate::models::block_on;
use crate::mqtt::session::Outcome;

fn command(number: u64) -> (Ticket, Command) {
    let (ticket, completion) = Ticket::new();
    (ticket, Command { number, completion })
}

const LONG: Duration = Duration::MAX;

pub(crate) fn with_one() {
    with(1);
}

/// With three preemptions it has more executions than a minute is enough for.
pub(crate) fn with_two() {
    with(2);
}

/// Threads: the loop, which takes commands, lets in those that wait, and sleeps; some that queue one command each in
/// a queue for one, which is full already. All are taken.
fn with(threads: u64) {
    let bell = Arc::new(Doorbell::default());
    let (sender, mut queue) = command_queue(1, Arc::clone(&bell));
    let (_first, filling) = command(0);
    assert!(sender.send(filling, Duration::ZERO).is_ok());
    for number in 1..=threads {
        let sender = sender.clone();
        spawn(move || {
            let (ticket, command) = command(number);
            assert!(sender.send(command, LONG).is_ok());
            drop(ticket);
        });
    }
    bell.set_thread();
    let mut taken = 0;
    while taken <= threads {
        // One at a time, as if the window had room for no more.
        if let Some(command) = queue.take(1, Instant::now()) {
            taken += 1;
            command.completion.withdraw();
        }
        queue.admit_waiting(Instant::now());
        if taken <= threads {
            bell.sleep(true, None, || !queue.is_empty());
        }
    }
}

/// Threads: the loop, which takes one command at the most and ends; one that queues two commands in a queue for one.
/// Each command that was queued has an end; each other one comes back.
pub(crate) fn ends() {
    let bell = Arc::new(Doorbell::default());
    let (sender, mut queue) = command_queue(1, Arc::clone(&bell));
    let sending = spawn(move || {
        for number in 0..2 {
            let (ticket, command) = command(number);
            match sender.send(command, LONG) {
                Ok(_) => drop(ticket.wait()),
                Err(NotQueued::Ended(command)) => command.completion.withdraw(),
                Err(NotQueued::Full { .. }) => panic!("it waits without end"),
            }
        }
    });
    bell.set_thread();
    drop(queue.take(1, Instant::now()));
    drop(queue);
    sending.join().unwrap();
}

/// Asks with a waker that wakes nobody, and then brings a command into the queue as a task does.
fn push(sender: &CommandSender, entering: &mut Entering) -> Result<(), Box<Command>> {
    let early = sender.poll_send(entering, Waker::noop());
    match early {
        Poll::Ready(sent) => sent,
        Poll::Pending => block_on(poll_fn(|context| {
            sender.poll_send(entering, context.waker())
        })),
    }
}

/// Threads: the loop, which takes commands only while a request is marked, and sleeps; one that brings a request into a
/// queue for one, which is full already. Both commands are taken.
pub(crate) fn with_a_request() {
    let bell = Arc::new(Doorbell::default());
    let (sender, mut queue) = command_queue(1, Arc::clone(&bell));
    let (_first, filling) = command(0);
    assert!(sender.send(filling, Duration::ZERO).is_ok());
    let sending = spawn(move || {
        let mark = sender.mark_request();
        let (ticket, command) = command(1);
        assert!(sender.send(command, LONG).is_ok());
        drop(ticket);
        mark
    });
    bell.set_thread();
    let mut taken = 0;
    while taken < 2 {
        if queue.has_requests()
            && let Some(command) = queue.take(1, Instant::now())
        {
            taken += 1;
            command.completion.withdraw();
        }
        queue.admit_waiting(Instant::now());
        if taken < 2 {
            bell.sleep_for_requests(None, || !queue.is_empty() && queue.has_requests());
        }
    }
    drop(sending.join().unwrap());
}

/// Threads: the loop, which takes commands, lets in a task that waits, and sleeps; a task that brings a command into a
/// queue for one, which is full already. Both are taken.
pub(crate) fn with_a_task() {
    let bell = Arc::new(Doorbell::default());
    let (sender, mut queue) = command_queue(1, Arc::clone(&bell));
    let (_first, filling) = command(0);
    assert!(sender.send(filling, Duration::ZERO).is_ok());
    let task = spawn(move || {
        let (ticket, command) = command(1);
        assert!(push(&sender, &mut Entering::Command(command)).is_ok());
        assert_eq!(block_on(ticket), Outcome::Delivered);
    });
    bell.set_thread();
    let mut taken = 0;
    while taken < 2 {
        if let Some(command) = queue.take(1, Instant::now()) {
            taken += 1;
            command.completion.tell(Outcome::Delivered);
        }
        queue.admit_waiting(Instant::now());
        if taken < 2 {
            bell.sleep(true, None, || !queue.is_empty());
        }
    }
    task.join().unwrap();
}

pub(crate) fn ends_before_a_task() {
    ends_before(|sender, command| {
        push(sender, &mut Entering::Command(command)).map_err(|command| *command)
    });
}

pub(crate) fn ends_before_a_thread() {
    ends_before(|sender, command| {
        let sent = sender.send(command, LONG).map(|_| ());
        sent.map_err(|(NotQueued::Ended(command) | NotQueued::Full { command, .. })| *command)
    });
}

/// Threads: the loop, which ends; a task or a thread that brings a command into a queue for one, which is full already.
/// It has an end, or comes back.
fn ends_before(push: fn(&CommandSender, Command) -> Result<(), Command>) {
    let (sender, queue) = command_queue(1, Arc::default());
    let (_first, filling) = command(0);
    assert!(sender.send(filling, Duration::ZERO).is_ok());
    let pushing = spawn(move || {
        let (ticket, command) = command(1);
        match push(&sender, command) {
            Ok(()) => drop(ticket.wait()),
            Err(command) => command.completion.withdraw(),
        }
    });
    drop(queue);
    pushing.join().unwrap();
}

/// Threads: the loop, which takes what it sees and ends; a task that asks once for room in a full queue and gives up.
/// Its command is queued or comes back, and never both.
pub(crate) fn given_up() {
    let bell = Arc::new(Doorbell::default());
    let (sender, mut queue) = command_queue(1, Arc::clone(&bell));
    let (_first, filling) = command(0);
    assert!(sender.send(filling, Duration::ZERO).is_ok());
    let task = spawn(move || {
        let (ticket, command) = command(1);
        let mut entering = Entering::Command(command);
        let back = match sender.poll_send(&mut entering, Waker::noop()) {
            Poll::Pending => sender.give_up(&mut entering),
            Poll::Ready(sent) => sent.err().map(|command| *command),
        };
        match back {
            None => drop(block_on(ticket)),
            Some(command) => {
                command.completion.withdraw();
                assert_eq!(ticket.outcome(), None);
            }
        }
    });
    bell.set_thread();
    drop(queue.take(1, Instant::now()));
    queue.admit_waiting(Instant::now());
    drop(queue.take(1, Instant::now()));
    drop(queue);
    task.join().unwrap();
}

/// Threads: the loop, which takes what it sees and ends; one whose time is over while it waits at a full queue. Its
/// command is queued or comes back, and never both.
pub(crate) fn times_out() {
    let bell = Arc::new(Doorbell::default());
    let (sender, mut queue) = command_queue(1, Arc::clone(&bell));
    let (_first, filling) = command(0);
    assert!(sender.send(filling, Duration::ZERO).is_ok());
    let sending = spawn(move || {
        let (ticket, command) = command(1);
        match sender.send(command, Duration::from_secs(1)) {
            Ok(_) => drop(ticket.wait()),
            Err(NotQueued::Full { command, .. } | NotQueued::Ended(command)) => {
                command.completion.withdraw();
                assert_eq!(ticket.outcome(), None);
            }
        }
    });
    bell.set_thread();
    drop(queue.take(1, Instant::now()));
    queue.admit_waiting(Instant::now());
    drop(queue.take(1, Instant::now()));
    drop(queue);
    sending.join().unwrap();
}
