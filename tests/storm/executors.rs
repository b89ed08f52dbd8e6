//! Threads and the tasks of three executors share one loop, its small queue and a link that is cut again and again:
//! a `block_on` written by hand, tokio and smol. Everything that can be awaited is also dropped, given up or asked once
//! at random.
//!
//! Each message is held to what was told of it. A message that was delivered, or whose ticket was dropped, reaches every
//! subscriber; one that was handed back reaches none; one whose future was dropped in the line may or may not. Each
//! publisher learns one outcome of each message that it awaits, and subscribers see a publisher's messages in order.
//! Nothing hangs: the publishers end, and after TERMINATE the subscribers do.
//!
//! The long form has a tenth of so many messages: `STORM_MESSAGES=1000000 cargo test --release --test storm executors`

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::Select;
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Batch, Filter, Handle, Inbox, Message, Protocol, Publish, QoS};
use mqtt_connection_sharing::{
    InboxError, Outcome, RejectReason, Rejected, Ticket, WhenFull, wait_any,
};
use smol::future::{poll_once, yield_now};

use crate::support::running::{NEVER, Running, security, told};
use crate::support::{HANG, Mosquitto, Proxy, Random, RandomFates, SpareWhenStuck, look_for};
use crate::watchers::Watchers;

const THREADS: usize = 200;
const TASKS_BY_HAND: usize = 20;
const TASKS_OF_TOKIO: usize = 100;
const TASKS_OF_SMOL: usize = 100;
const PUBLISHERS: usize = THREADS + TASKS_BY_HAND + TASKS_OF_TOKIO + TASKS_OF_SMOL;

/// Threads of tokio and of smol, each.
const WORKERS: usize = 2;

/// Messages of each publisher in the short form.
const SHORT: u64 = 25;

const LIMIT: Duration = Duration::from_secs(600);

const SUBSCRIBERS: usize = 3;

/// A flag for each subscriber that saw the message comes below these.
const SEEN: u8 = (1 << SUBSCRIBERS) - 1;
/// Every subscriber has to see it.
const DUE: u8 = 1 << 5;
/// None may.
const HANDED_BACK: u8 = 1 << 6;
/// Its publisher was told an outcome.
const TOLD: u8 = 1 << 7;

/// The knowledge of each message.
struct Ledger {
    messages: u64,
    flags: Vec<AtomicU8>,
    told: AtomicU64,
    given_up: AtomicU64,
    dropped_in_line: AtomicU64,
    tickets_dropped: AtomicU64,
    /// Outcomes that were given twice, and first receptions out of order.
    untrue: AtomicU64,
}

impl Ledger {
    fn new(messages: u64) -> Ledger {
        let count = messages * PUBLISHERS as u64;
        Ledger {
            messages,
            flags: (0..count).map(|_| AtomicU8::new(0)).collect(),
            told: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            dropped_in_line: AtomicU64::new(0),
            tickets_dropped: AtomicU64::new(0),
            untrue: AtomicU64::new(0),
        }
    }

    fn message(&self, publisher: usize, index: u64) -> Publish {
        let topic = format!("executors/{publisher}");
        Publish::new(topic, QoS::AtLeastOnce, index.to_string())
    }

    /// Sets a flag and returns whether it was set before.
    fn set(&self, publisher: usize, index: u64, flag: u8) -> bool {
        let place = publisher as u64 * self.messages + index;
        self.flags[place as usize].fetch_or(flag, Ordering::SeqCst) & flag > 0
    }

    fn tell(&self, publisher: usize, index: u64, outcome: &Outcome) {
        assert!(
            outcome.is_delivered(),
            "message {index} of {publisher}: {outcome}"
        );
        self.deliver(publisher, index);
    }

    fn deliver(&self, publisher: usize, index: u64) {
        self.set(publisher, index, DUE);
        if self.set(publisher, index, TOLD) {
            println!("message {index} of {publisher} was told twice");
            count(&self.untrue);
        }
        count(&self.told);
    }

    fn hand_back(&self, publisher: usize, index: u64, rejected: &Rejected<Publish>) {
        assert!(matches!(rejected.reason, RejectReason::QueueFull { .. }));
        assert_eq!(rejected.command, self.message(publisher, index));
        self.set(publisher, index, HANDED_BACK);
        count(&self.given_up);
    }

    fn drop_ticket(&self, publisher: usize, index: u64, ticket: Ticket) {
        drop(ticket);
        self.set(publisher, index, DUE);
        count(&self.tickets_dropped);
    }

    fn see(&self, subscriber: usize, message: &Message, last: &mut [Option<u64>]) {
        let (_, publisher) = message
            .topic()
            .split_once('/')
            .expect("a topic of this test");
        let publisher: usize = publisher.parse().expect("a publisher");
        let index = std::str::from_utf8(message.payload()).expect("text");
        let index = index.parse().expect("an index");
        if !self.set(publisher, index, 1 << subscriber) {
            if last[publisher].is_some_and(|last| last > index) {
                println!("subscriber {subscriber}: message {index} of {publisher} is out of order");
                count(&self.untrue);
            }
            last[publisher] = Some(index);
        }
    }

    /// Messages that a subscriber should have seen and has not.
    fn missing(&self) -> usize {
        let missing = |flags: &&AtomicU8| {
            let flags = flags.load(Ordering::SeqCst);
            flags & DUE > 0 && flags & SEEN != SEEN
        };
        self.flags.iter().filter(missing).count()
    }

    /// Messages that were handed back and seen all the same.
    fn seen_and_handed_back(&self) -> usize {
        let both = |flags: &&AtomicU8| {
            let flags = flags.load(Ordering::SeqCst);
            flags & HANDED_BACK > 0 && flags & SEEN > 0
        };
        self.flags.iter().filter(both).count()
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn threads_and_the_tasks_of_three_executors_share_a_loop_and_nothing_is_lost() {
    share(Protocol::V3_1_1);
}

#[test]
fn threads_and_the_tasks_of_three_executors_share_a_loop_of_mqtt_5_and_nothing_is_lost() {
    share(Protocol::V5);
}

fn share(protocol: Protocol) {
    let _alone = crate::alone();
    let messages = std::env::var("STORM_MESSAGES").map_or(SHORT, |text| {
        let all: u64 = text.parse().expect("a number of messages");
        all.div_ceil(10 * PUBLISHERS as u64)
    });
    let ledger = Arc::new(Ledger::new(messages));
    let broker = Mosquitto::start_fast();
    let proxy = Proxy::start(broker.port()).unwrap();
    let progress = Arc::clone(&ledger);
    let spare = SpareWhenStuck::new(move || progress.told.load(Ordering::SeqCst));
    proxy
        .decide(RandomFates::new(23, 1..150_000, None, spare))
        .unwrap();
    let mut options = options(&broker, &proxy);
    options.protocol = protocol;
    let running = Running::start(options);
    let handle = running.handle();
    let watchers = Watchers::start(handle);

    let subscribers = [receive_in_a_task, receive_in_a_loop, receive_by_select];
    let subscribers = (0..).zip(subscribers).map(|(number, receive)| {
        let inbox = subscribe(handle);
        let ledger = Arc::clone(&ledger);
        thread::spawn(move || receive(number, &inbox, &ledger))
    });
    let subscribers: Vec<_> = subscribers.collect();
    for ended in publish_everywhere(handle, &ledger) {
        ended.recv_timeout(LIMIT).expect("the publishers to end");
    }
    let all_seen = || (ledger.missing() == 0).then_some(());
    let seen = look_for(HANG, all_seen);
    let figures = figures(&ledger, &proxy);
    println!("MQTT {protocol}: {figures}");
    assert!(
        seen.is_some(),
        "{} are missing; {figures}",
        ledger.missing()
    );

    let end = running.handle().terminate(HANG);
    let ended = running.join();
    assert!(told(end).is_delivered());
    assert!(ended.result.is_ok(), "{ended:?}");
    assert_eq!(ended.left, 0);
    watchers.join(&ended.stats);
    for subscriber in subscribers {
        subscriber.join().expect("no panic in a subscriber");
    }
    assert_eq!(ledger.seen_and_handed_back(), 0, "{figures}");
    assert_eq!(ledger.untrue.load(Ordering::SeqCst), 0, "{figures}");
    for kind in [
        &ledger.given_up,
        &ledger.dropped_in_line,
        &ledger.tickets_dropped,
    ] {
        assert!(kind.load(Ordering::SeqCst) > 0, "{figures}");
    }
    assert!(proxy.counts().cuts() > 0, "{figures}");
}

fn figures(ledger: &Ledger, proxy: &Proxy) -> String {
    let of = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    format!(
        "{} messages: told {}, tickets dropped {}, handed back {}, dropped in the line {}; cuts {}, stalls {}",
        ledger.flags.len(),
        of(&ledger.told),
        of(&ledger.tickets_dropped),
        of(&ledger.given_up),
        of(&ledger.dropped_in_line),
        proxy.counts().cuts(),
        proxy.counts().stalls(),
    )
}

fn options(broker: &Mosquitto, proxy: &Proxy) -> Options {
    let mut options = Options::new("127.0.0.1", "executors");
    options.port = proxy.port();
    options.security = security(broker.certs());
    options.connect_interval = Duration::ZERO;
    options.block_time = NEVER;
    // Most publishers wait in the line.
    options.command_queue = 64;
    options.ack_timeout = Duration::from_secs(1);
    options.keep_alive = Duration::from_secs(2);
    options.connect_timeout = Duration::from_secs(1);
    options.retry.base = Duration::from_millis(1);
    options.retry.max = Duration::from_millis(5);
    options.retry.connect_for = Duration::ZERO;
    options.retry.reconnect_for = Duration::ZERO;
    options
}

/// Starts all publishers. Each receiver hears once from those of its kind.
fn publish_everywhere(handle: &Handle, ledger: &Arc<Ledger>) -> Vec<std::sync::mpsc::Receiver<()>> {
    let publisher = |number: usize| publish_in_a_task(handle.clone(), Arc::clone(ledger), number);
    let mut numbers = 0..PUBLISHERS;
    let mut take = |count| -> Vec<usize> { numbers.by_ref().take(count).collect() };
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for number in take(THREADS) {
        let (handle, ledger) = (handle.clone(), Arc::clone(ledger));
        threads.push(thread::spawn(move || {
            publish_in_a_thread(&handle, &ledger, number)
        }));
    }
    for number in take(TASKS_BY_HAND) {
        let publisher = publisher(number);
        threads.push(thread::spawn(move || block_on(publisher)));
    }
    let of_tokio: Vec<_> = take(TASKS_OF_TOKIO).into_iter().map(publisher).collect();
    let of_smol: Vec<_> = take(TASKS_OF_SMOL).into_iter().map(publisher).collect();
    let by_threads = move || {
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no panic in a publisher"));
    };
    let by_tokio = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .build();
        runtime.expect("a runtime").block_on(async {
            let tasks: Vec<_> = of_tokio.into_iter().map(tokio::spawn).collect();
            for task in tasks {
                task.await.expect("no panic in a publisher");
            }
        });
    };
    let by_smol = move || {
        let executor = smol::Executor::new();
        let tasks: Vec<_> = of_smol
            .into_iter()
            .map(|task| executor.spawn(task))
            .collect();
        let all = executor.spawn(async {
            for task in tasks {
                task.await;
            }
        });
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        thread::scope(|scope| {
            for _ in 1..WORKERS {
                scope.spawn(|| smol::block_on(executor.run(stopped.recv())));
            }
            smol::block_on(executor.run(all));
            drop(stop);
        });
    };
    let kinds: [Box<dyn FnOnce() + Send>; 3] =
        [Box::new(by_threads), Box::new(by_tokio), Box::new(by_smol)];
    let start = |kind: Box<dyn FnOnce() + Send>| {
        let (tell, ended) = channel();
        thread::spawn(move || {
            kind();
            tell.send(()).expect("the test to wait");
        });
        ended
    };
    kinds.into_iter().map(start).collect()
}

/// Waits for each ticket, or for the first of several.
fn publish_in_a_thread(handle: &Handle, ledger: &Ledger, number: usize) {
    let mut chance = Random::new(number as u64);
    let mut open: Vec<(u64, Ticket)> = Vec::new();
    for index in 0..ledger.messages {
        let ticket = handle.publish(ledger.message(number, index)).expect("room");
        match chance.within(&(0..8)) {
            0 => ledger.drop_ticket(number, index, ticket),
            1..4 => ledger.tell(number, index, &ticket.wait()),
            _ => open.push((index, ticket)),
        }
        if open.len() > 4 {
            tell_one(ledger, number, &mut open);
        }
    }
    while !open.is_empty() {
        tell_one(ledger, number, &mut open);
    }
}

fn tell_one(ledger: &Ledger, number: usize, open: &mut Vec<(u64, Ticket)>) {
    let tickets = open.iter_mut().map(|(_, ticket)| ticket);
    let place = wait_any(tickets, LIMIT).expect("one to end");
    let (index, ticket) = open.swap_remove(place);
    ledger.tell(number, index, &ticket.outcome().expect("an outcome"));
}

/// Awaits everything, or gives it up, or drops it.
async fn publish_in_a_task(handle: Handle, ledger: Arc<Ledger>, number: usize) {
    let mut chance = Random::new(number as u64);
    let mut index = 0;
    while index < ledger.messages {
        let message = ledger.message(number, index);
        match chance.within(&(0..8)) {
            0 => {
                let mut pushing = handle.publish_async(message);
                match poll_once(&mut pushing).await {
                    Some(ticket) => ledger.drop_ticket(number, index, ticket.expect("queued")),
                    None => {
                        yield_now().await;
                        drop(pushing);
                        count(&ledger.dropped_in_line);
                    }
                }
            }
            1 => {
                let mut pushing = handle.publish_async(message);
                let pushed = match poll_once(&mut pushing).await {
                    Some(pushed) => pushed,
                    None => {
                        yield_now().await;
                        pushing.give_up()
                    }
                };
                match pushed {
                    Ok(ticket) => ledger.tell(number, index, &ticket.await),
                    Err(rejected) => ledger.hand_back(number, index, &rejected),
                }
            }
            2 => {
                let ticket = handle.publish_async(message).await.expect("queued");
                ledger.drop_ticket(number, index, ticket);
            }
            3 => {
                let mut ticket = handle.publish_async(message).await.expect("queued");
                // Two wakers that nobody needs: the last one counts.
                for _ in 0..2 {
                    let waker = Waker::noop();
                    let _ = pin!(&mut ticket).poll(&mut Context::from_waker(waker));
                }
                ledger.tell(number, index, &ticket.await);
            }
            4 => index = publish_in_a_batch(&handle, &ledger, number, index, &mut chance).await,
            _ => {
                let ticket = handle.publish_async(message).await.expect("queued");
                ledger.tell(number, index, &ticket.await);
            }
        }
        index += 1;
    }
}

/// Publishes up to four messages together. Returns the index of the last one.
async fn publish_in_a_batch(
    handle: &Handle,
    ledger: &Ledger,
    number: usize,
    from: u64,
    chance: &mut Random,
) -> u64 {
    let mut batch = Batch::new();
    let mut pushed = Vec::new();
    let to = ledger.messages.min(from + 4);
    for index in from..to {
        let mut pushing = handle.publish_in_async(ledger.message(number, index), &mut batch);
        let gives_up = chance.within(&(0..4)) == 0;
        let result = match gives_up {
            true => match poll_once(&mut pushing).await {
                Some(result) => result,
                None => pushing.give_up(),
            },
            false => pushing.await,
        };
        match result {
            Ok(()) => pushed.push(index),
            Err(rejected) => ledger.hand_back(number, index, &rejected),
        }
    }
    assert_eq!(batch.pushed(), pushed.len() as u64);
    assert_eq!(batch.await, []);
    for index in pushed {
        ledger.deliver(number, index);
    }
    to - 1
}

fn subscribe(handle: &Handle) -> Inbox {
    let inbox = handle.inbox(50, WhenFull::WaitAside);
    let filters = vec![Filter::new("executors/#", QoS::AtLeastOnce)];
    assert!(told(handle.subscribe(&inbox, filters).expect("room")).is_delivered());
    inbox
}

/// Drops every third future of a message after it has asked once.
fn receive_in_a_task(number: usize, inbox: &Inbox, ledger: &Ledger) {
    let mut last = vec![None; PUBLISHERS];
    let mut asked = 0;
    block_on(async {
        loop {
            asked += 1;
            let received = match asked % 3 {
                0 => poll_once(inbox.recv_async()).await,
                _ => Some(inbox.recv_async().await),
            };
            match received {
                Some(Ok(message)) => ledger.see(number, &message, &mut last),
                Some(Err(end)) => return assert_eq!(end, InboxError::Closed),
                None => {}
            }
        }
    });
}

fn receive_in_a_loop(number: usize, inbox: &Inbox, ledger: &Ledger) {
    let mut last = vec![None; PUBLISHERS];
    for message in inbox {
        ledger.see(number, &message.expect("a message"), &mut last);
    }
}

fn receive_by_select(number: usize, inbox: &Inbox, ledger: &Ledger) {
    let mut last = vec![None; PUBLISHERS];
    let (_never, quiet) = crossbeam_channel::bounded::<()>(1);
    let mut select = Select::new();
    select.recv(&quiet);
    let messages = inbox.add_to(&mut select);
    loop {
        assert_eq!(select.ready(), messages);
        match inbox.try_recv() {
            Ok(message) => ledger.see(number, &message, &mut last),
            Err(InboxError::Timeout) => {}
            Err(end) => return assert_eq!(end, InboxError::Closed),
        }
    }
}

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Sleeper(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
