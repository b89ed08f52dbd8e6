//! All models, and those of what threads ring, end and announce; those of inboxes and of the command queue are in
//! `inboxes.rs`, `by_hand.rs` and `queues.rs`. `main.rs` prints how many executions each has.
//!
//! Left out in all of them: wake-ups without a reason, threads that panic, the last drop of an `Arc`, and the
//! callbacks of publishes. A task is a future that a thread asks, whose waker wakes that thread.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Thread, spawn};
use std::time::{Duration, Instant};

use stand_in::loom::model::Builder;
use stand_in::loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::by_hand::inbox_by_hand;
use crate::client::batch::{Batch, Uncounted};
use crate::client::command::Command;
use crate::client::doorbell::Doorbell;
use crate::client::ends::Ends;
use crate::client::lane::{Announcement, LinkRequest, urgent_lane};
use crate::client::outlet::InboxId;
use crate::client::queue::command_queue;
use crate::client::ring::RecordRing;
use crate::client::ticket::{Completion, Ticket};
use crate::mqtt::session::{Outcome, Reason};
use crate::{inboxes, queues};

pub(crate) struct Model {
    pub(crate) name: &'static str,
    bound: usize,
    run: fn(),
}

pub(crate) const ALL: &[Model] = &[
    model(
        "doorbell: two threads queue commands",
        3,
        doorbell_for_commands,
    ),
    model(
        "doorbell: only the urgent lane wakes",
        3,
        doorbell_for_urgent,
    ),
    model(
        "doorbell: a loop that takes no PUBLISH",
        3,
        doorbell_for_requests,
    ),
    model("ends: two commands end, a thread waits", 3, ends),
    model("ticket: told after a time-out, and dropped", 3, ticket),
    model("batch: two messages end", 3, batch),
    model("batch: two are counted together", 3, batch_together),
    model("ticket: awaited with two wakers", 3, ticket_awaited),
    model("batch: awaited, and awaited again", 3, batch_awaited),
    model("lane: PROCESSLOOP and a request", 2, lane),
    model("lane: an announced SUBSCRIBE", 3, lane_announces),
    model("lane: the loop ends", 3, lane_ends),
    model("inbox: a message waits aside", 3, inboxes::waits_aside),
    model("inbox: as many as have room", 3, inboxes::handed_over),
    model("inbox: accepted once taken", 3, inboxes::once_taken),
    model("inbox: accepted by hand", 3, inbox_by_hand),
    model("inbox: the loop ends", 3, inboxes::ends),
    model("inbox: two messages are awaited", 3, inboxes::awaited),
    model("inbox: two tasks await, one gives up", 2, inboxes::given_up),
    model("inbox: its end is awaited", 3, inboxes::end_awaited),
    model("queue: a thread at a full queue", 3, queues::with_one),
    model("queue: two threads at a full queue", 2, queues::with_two),
    model("queue: the loop ends", 3, queues::ends),
    model("queue: a task at a full queue", 3, queues::with_a_task),
    model(
        "queue: the loop ends before a task",
        3,
        queues::ends_before_a_task,
    ),
    model(
        "queue: the loop ends before a thread",
        3,
        queues::ends_before_a_thread,
    ),
    model("queue: a task gives up", 3, queues::given_up),
    model("queue: time is over", 3, queues::times_out),
    model(
        "queue: a request at a full queue",
        3,
        queues::with_a_request,
    ),
    model("ring: records are overwritten while read", 3, ring),
];

const fn model(name: &'static str, bound: usize, run: fn()) -> Model {
    Model { name, bound, run }
}

impl Model {
    pub(crate) fn bound(&self) -> usize {
        let bound = std::env::var("MODELS_BOUND");
        bound.map_or(self.bound, |bound| {
            bound.parse().expect("a number in MODELS_BOUND")
        })
    }

    /// Runs all executions, and says how many there were. Panics in the first one that is wrong.
    pub(crate) fn check(&self) -> usize {
        use stand_in::sync::Arc;
        let executions = Arc::new(stand_in::faults::Counter::default());
        let mut builder = Builder::new();
        builder.preemption_bound = Some(self.bound());
        builder.max_branches = 10_000;
        let run = self.run;
        let counter = Arc::clone(&executions);
        builder.check(move || {
            counter.add_one();
            run();
        });
        executions.count()
    }
}

/// Threads: the loop, which takes commands and sleeps; two that queue one each. Each command wakes the loop.
fn doorbell_for_commands() {
    let bell = Arc::new(Doorbell::default());
    let queued: Arc<[AtomicUsize; 2]> = Arc::default();
    for number in 0..2 {
        let (bell, queued) = (Arc::clone(&bell), Arc::clone(&queued));
        spawn(move || {
            queued[number].swap(1, Relaxed);
            bell.ring_for_command();
        });
    }
    bell.set_thread();
    let mut taken = 0;
    while taken < 2 {
        bell.sleep(true, None, || {
            queued.iter().any(|one| one.load(Relaxed) == 1)
        });
        for one in queued.iter() {
            taken += usize::from(one.compare_exchange(1, 2, Relaxed, Relaxed).is_ok());
        }
    }
}

/// Threads: the loop, which pauses and then sleeps without taking commands; one that queues a command; one that puts
/// something into the urgent lane. The latter wakes the loop.
fn doorbell_for_urgent() {
    let bell = Arc::new(Doorbell::default());
    let urgent = Arc::new(AtomicUsize::new(0));
    {
        let bell = Arc::clone(&bell);
        spawn(move || bell.ring_for_command());
    }
    {
        let (bell, urgent) = (Arc::clone(&bell), Arc::clone(&urgent));
        spawn(move || {
            urgent.swap(1, Relaxed);
            bell.ring();
        });
    }
    bell.set_thread();
    let is_there = || urgent.load(Relaxed) == 1;
    bell.pause(Instant::now() + Duration::from_secs(1), is_there);
    while urgent.compare_exchange(1, 2, Relaxed, Relaxed).is_err() {
        bell.sleep(false, None, is_there);
    }
}

/// Threads: the loop, which sleeps and takes no PUBLISH; one that queues a PUBLISH; one that queues another command. The
/// latter wakes the loop.
fn doorbell_for_requests() {
    let bell = Arc::new(Doorbell::default());
    let requests = Arc::new(AtomicUsize::new(0));
    for is_request in [false, true] {
        let (bell, requests) = (Arc::clone(&bell), Arc::clone(&requests));
        spawn(move || {
            if is_request {
                requests.swap(1, Relaxed);
            }
            bell.ring_for_command();
            if requests.load(Relaxed) == 1 {
                bell.ring_for_request();
            }
        });
    }
    bell.set_thread();
    while requests.compare_exchange(1, 2, Relaxed, Relaxed).is_err() {
        bell.sleep_for_requests(None, || requests.load(Relaxed) == 1);
    }
}

/// Threads: two that end a command each; one that waits for the first, with a time-out, and then for both, and reads
/// what the others wrote before.
fn ends() {
    let ends = Arc::new(Ends::default());
    let written: Arc<[AtomicUsize; 2]> = Arc::default();
    for number in 0..2 {
        let (ends, written) = (Arc::clone(&ends), Arc::clone(&written));
        spawn(move || {
            written[number].store(1, Relaxed);
            ends.add(1);
        });
    }
    ends.wait_for(1, Some(Instant::now() + Duration::from_secs(1)));
    assert!(ends.wait_for(2, None));
    assert_eq!(ends.count(), 2);
    assert!(written.iter().all(|one| one.load(Relaxed) == 1));
}

/// Threads: one that tells one outcome and drops a second completion; one that waits for both.
fn ticket() {
    let (mut told, telling) = Ticket::new();
    let (dropped, dropping) = Ticket::new();
    spawn(move || {
        telling.tell(Outcome::Delivered);
        drop(dropping);
    });
    let early = told.wait_timeout(Duration::from_secs(1));
    assert!(early.is_none_or(|early| early == Outcome::Delivered));
    assert_eq!(told.wait(), Outcome::Delivered);
    assert_eq!(dropped.wait(), Outcome::Cancelled(Reason::LoopEnded));
}

/// Threads: the loop, which ends two messages, one of them undelivered; one that waits with a time-out and then
/// without. It learns of the undelivered one exactly once.
fn batch() {
    let mut batch = Batch::new();
    let mut next = || {
        let completion = Completion::batch(&mut batch);
        batch.was_pushed();
        completion
    };
    let (first, second) = (next(), next());
    spawn(move || {
        drop(first);
        second.tell(Outcome::Delivered);
    });
    let early = batch.wait_timeout(Duration::from_secs(1));
    let mut undelivered = early.unwrap_or_default();
    undelivered.extend(batch.wait());
    assert_eq!(undelivered, [(0, Outcome::Cancelled(Reason::LoopEnded))]);
}

/// Threads: the loop, which ends a message of one batch, and then two of another, which it counts together; one that waits
/// for the other batch with a time-out and then without. It sees the earlier end then.
fn batch_together() {
    let (mut first, mut others) = (Batch::new(), Batch::new());
    let next = |batch: &mut Batch| {
        let completion = Completion::batch(batch);
        batch.was_pushed();
        completion
    };
    let all = [next(&mut first), next(&mut others), next(&mut others)];
    spawn(move || {
        let mut uncounted = Uncounted::default();
        for completion in all {
            completion.tell_uncounted(Outcome::Delivered, &mut uncounted);
        }
        uncounted.count();
    });
    let early = others.wait_timeout(Duration::from_secs(1));
    assert!(early.is_none_or(|early| early.is_empty()));
    assert_eq!(others.wait(), []);
    assert_eq!(first.outstanding(), 0);
}

/// Threads: the loop; two that write something and inject PROCESSLOOP, as the readiness thread does; the second also
/// asks for RECONNECT. The loop sees all of it, and sleeps in between.
fn lane() {
    let bell = Arc::new(Doorbell::default());
    let (sender, lane) = urgent_lane(Arc::clone(&bell));
    let written: Arc<[AtomicUsize; 2]> = Arc::default();
    for number in 0..2 {
        let (sender, written) = (sender.clone(), Arc::clone(&written));
        spawn(move || {
            written[number].swap(1, Relaxed);
            sender.inject_process_loop();
            if number == 1 {
                sender.change_link(LinkRequest::Reconnect, Completion::nobody());
            }
        });
    }
    bell.set_thread();
    let (mut seen, mut reconnects) = (0, 0);
    while seen < 2 || reconnects < 1 {
        if lane.take_process_loop() {
            // Only after an injection does the loop read from the socket.
            for one in written.iter() {
                seen += usize::from(one.compare_exchange(1, 2, Relaxed, Relaxed).is_ok());
            }
        }
        if let Some(urgent) = lane.take() {
            reconnects += urgent.link_requests.len();
        }
        if seen < 2 || reconnects < 1 {
            bell.sleep(false, None, || !lane.is_empty());
        }
    }
}

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Sleeper(std::thread::current())))
}

pub(crate) fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Runs a task on this thread, which sleeps until it is woken.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll(future.as_mut(), &waker()) {
            return output;
        }
        std::thread::park();
    }
}

/// Threads: the loop, which tells one outcome and drops a second completion; a task that asks for the first with a
/// waker that wakes nobody, awaits it with its own, and then awaits the second.
fn ticket_awaited() {
    let (mut told, telling) = Ticket::new();
    let (dropped, dropping) = Ticket::new();
    spawn(move || {
        telling.tell(Outcome::Delivered);
        drop(dropping);
    });
    let early = poll(Pin::new(&mut told), Waker::noop());
    assert!(early.is_pending() || early == Poll::Ready(Outcome::Delivered));
    assert_eq!(block_on(&mut told), Outcome::Delivered);
    drop(told);
    assert_eq!(block_on(dropped), Outcome::Cancelled(Reason::LoopEnded));
}

/// Threads: the loop, which ends two messages, one of them undelivered; a task that awaits the first, and pushes the
/// second only then.
fn batch_awaited() {
    let mut batch = Batch::new();
    let first = Completion::batch(&mut batch);
    batch.was_pushed();
    let second = Completion::batch(&mut batch);
    let (give, take) = crossbeam_channel::bounded(2);
    spawn(move || {
        first.tell(Outcome::Cancelled(Reason::Terminated));
        let second: Completion = take.recv().expect("the second message");
        second.tell(Outcome::Delivered);
    });
    let undelivered = block_on(&mut batch);
    assert_eq!(undelivered, [(0, Outcome::Cancelled(Reason::Terminated))]);
    batch.was_pushed();
    assert!(give.try_send(second).is_ok());
    assert_eq!(block_on(batch), []);
}

/// Threads: the loop, which takes a command; one that announces a SUBSCRIBE and then queues it. A loop that has the
/// command sees its announcement.
fn lane_announces() {
    let bell = Arc::new(Doorbell::default());
    let (sender, lane) = urgent_lane(Arc::clone(&bell));
    let (commands, mut queue) = command_queue(1, Arc::clone(&bell));
    spawn(move || {
        sender.announce(Announcement {
            number: 0,
            inbox: InboxId(0),
            filters: Vec::new(),
        });
        let completion = Completion::nobody();
        let subscribe = Command {
            number: 0,
            completion,
        };
        assert!(commands.send(subscribe, Duration::ZERO).is_ok());
    });
    bell.set_thread();
    while queue.take(1, Instant::now()).is_none() {
        bell.sleep(true, None, || !queue.is_empty());
    }
    let news = lane.take_news().expect("the announcement");
    assert_eq!(news.announced.len(), 1);
    assert!(lane.take_news().is_none());
}

/// Threads: the loop, which takes once and ends; one that asks for PROCESSLOOP and waits. It gets an outcome.
fn lane_ends() {
    let bell = Arc::new(Doorbell::default());
    let (sender, lane) = urgent_lane(Arc::clone(&bell));
    let asking = spawn(move || {
        let (ticket, completion) = Ticket::new();
        sender.process_loop(completion);
        ticket.wait()
    });
    bell.set_thread();
    if let Some(urgent) = lane.take() {
        urgent.process_loops.tell(&Outcome::Delivered);
    }
    drop(lane);
    let outcome = asking.join().unwrap();
    assert!(outcome == Outcome::Delivered || outcome == Outcome::Cancelled(Reason::LoopEnded));
}

/// Threads: one that writes three records into a ring for one; one that reads, and reads again. Each record that it gets
/// is whole, and the others are counted.
fn ring() {
    const RECORDS: u64 = 3;
    let ring = Arc::new(RecordRing::new(1));
    let writing = Arc::clone(&ring);
    let writer = spawn(move || {
        for number in 1..=RECORDS {
            writing.write([number; 4]);
        }
    });
    let (mut next, mut seen) = (0, Vec::new());
    let mut read = || {
        let reading = ring.read(next, &mut seen);
        let first = next + reading.overwritten + 1;
        for (number, record) in (first..).zip(seen.drain(..)) {
            assert_eq!(record, [number; 4], "it is torn");
        }
        next = reading.next;
        next
    };
    read();
    writer.join().unwrap();
    assert_eq!(read(), RECORDS);
}
