//! Tasks of an executor in place of threads: tickets, room in the queue and messages are awaited, and nothing blocks.
//! The real loop against a scripted broker; executors with one thread, so that a blocked one would hang.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::support::lines::LINES;
use crate::support::running::{NEVER, Running, message, options, promptly, send_at_once, told};
use crate::support::{HANG, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{
    Batch, InboxError, Outcome, Protocol, Reason, RejectReason, WhenFull,
};
use mqtt_connection_sharing::{Filter, Publish, QoS, wait_any};
use smol::LocalExecutor;

in_both_versions! {
    tasks_that_wait_for_room_leave_their_thread_to_others,
    each_command_has_a_form_for_tasks,
    a_time_out_drops_a_message_that_waits_for_room_and_never_sends_it,
    the_end_of_the_loop_ends_everything_that_is_awaited,
    a_waker_that_panics_is_logged_and_the_loop_goes_on,
    a_callback_awaits_without_waiting,
}

fn qos1(payload: &str) -> Publish {
    Publish::new("a", QoS::AtLeastOnce, payload.to_owned())
}

/// Runs a future on this thread, within the limit of a test.
#[track_caller]
fn run<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        smol::Timer::after(HANG).await;
        None
    };
    let in_time = async { Some(future.await) };
    smol::block_on(smol::future::or(in_time, late)).expect("the task to end in time")
}

/// Options with a window and a queue for one command.
fn narrow(broker: &ScriptedBroker) -> Options {
    let mut options = options(broker);
    options.max_inflight = 1;
    options.command_queue = 1;
    options.block_time = NEVER;
    options
}

fn tasks_that_wait_for_room_leave_their_thread_to_others(protocol: Protocol) {
    const TASKS: usize = 20;
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online_with(narrow(&broker), &mut broker);
    let handle = running.handle().clone();
    let executor = LocalExecutor::new();
    let tasks = (0..TASKS).map(|number| {
        let handle = handle.clone();
        executor.spawn(async move {
            let ticket = handle.publish_async(qos1(&number.to_string())).await;
            ticket.unwrap().await
        })
    });
    let tasks: Vec<_> = tasks.collect();
    // It comes behind all of them. It answers, so it must run while they wait.
    let answering = executor.spawn(async move {
        let mut order = Vec::new();
        while order.len() < TASKS {
            let publish = link.expect_publish();
            link.send_puback(publish.pkid);
            order.push(String::from_utf8(publish.payload.to_vec()).unwrap());
            smol::future::yield_now().await;
        }
        (order, link)
    });
    let all = async {
        for task in tasks {
            assert!(task.await.is_delivered());
        }
        answering.await
    };
    let (order, link) = run(executor.run(all));
    let in_turn: Vec<_> = (0..TASKS).map(|number| number.to_string()).collect();
    assert_eq!(order, in_turn, "the one that has waited longest goes first");
    running.terminate(link);
}

fn each_command_has_a_form_for_tasks(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle().clone();
    let (tell, told_all) = channel();
    let task = thread::spawn(move || {
        run(async {
            let inbox = handle.inbox(2, WhenFull::WaitAside);
            let filters = vec![Filter::new("in", QoS::AtLeastOnce)];
            let ticket = handle.subscribe_async(&inbox, filters).await.unwrap();
            let granted = ticket.await;
            assert!(
                matches!(granted, Outcome::Delivered { granted, .. } if granted == [QoS::AtLeastOnce])
            );
            let received = inbox.recv_async().await.unwrap();
            assert_eq!(received.topic(), "in");
            assert!(handle.ping_async().await.unwrap().await.is_delivered());
            let mut batch = Batch::new();
            for payload in ["1", "2"] {
                let pushed = handle.publish_in_async(qos1(payload), &mut batch).await;
                pushed.unwrap();
            }
            assert_eq!((&mut batch).await, []);
            assert_eq!(batch.pushed(), 2);
            let left = handle.unsubscribe_async(&inbox, vec!["in".into()]).await;
            assert!(left.unwrap().await.is_delivered());

            let wrong = Publish::new("a/#", QoS::AtLeastOnce, "x");
            let rejected = handle.publish_async(wrong.clone()).await.unwrap_err();
            assert_eq!(rejected.command, wrong);
            let rejected = handle.publish_in_async(wrong.clone(), &mut batch).await;
            assert_eq!(rejected.unwrap_err().command, wrong);
            assert_eq!((batch.pushed(), batch.outstanding()), (2, 0));
            let none = handle
                .subscribe_async(&inbox, Vec::new())
                .await
                .unwrap_err();
            assert_eq!(none.reason, RejectReason::NoFilter);
            let none = handle.unsubscribe_async(&inbox, Vec::new()).await;
            assert_eq!(none.unwrap_err().reason, RejectReason::NoFilter);
            tell.send(()).unwrap();
        });
    });
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
    send_at_once(&mut link, [message("in", 1, "m")]);
    assert_eq!(link.expect_puback().pkid, 1);
    link.expect_pingreq();
    link.send_packet(rumqttc::mqttbytes::v4::Packet::PingResp);
    for _ in 0..2 {
        let id = link.expect_publish().pkid;
        link.send_puback(id);
    }
    let id = link.expect_unsubscribe().pkid;
    crate::support::running::send_unsuback(&mut link, id);
    told_all.recv_timeout(HANG).unwrap();
    task.join().unwrap();
    running.terminate(link);
}

fn a_time_out_drops_a_message_that_waits_for_room_and_never_sends_it(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online_with(narrow(&broker), &mut broker);
    let handle = running.handle();
    let first = running.publish("a", "first");
    let id = link.expect_publish().pkid;
    let second = running.publish("a", "second");
    run(async {
        let soon = async {
            smol::Timer::after(Duration::from_millis(20)).await;
            false
        };
        let pushed = async { handle.publish_async(qos1("dropped")).await.is_ok() };
        assert!(!smol::future::or(pushed, soon).await);
        let mut given_up = handle.publish_async(qos1("given up"));
        assert!(smol::future::poll_once(&mut given_up).await.is_none());
        let rejected = given_up.give_up().unwrap_err();
        assert_eq!(rejected.command, qos1("given up"));
        assert!(matches!(rejected.reason, RejectReason::QueueFull { .. }));
    });
    link.send_puback(id);
    let publish = link.expect_publish();
    assert_eq!(publish.payload, "second");
    link.send_puback(publish.pkid);
    for ticket in [first, second] {
        assert!(told(ticket).is_delivered());
    }
    link.expect_silence(Duration::from_millis(30));
    running.terminate(link);
}

fn the_end_of_the_loop_ends_everything_that_is_awaited(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online_with(narrow(&broker), &mut broker);
    let handle = running.handle().clone();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let sent = running.publish("a", "sent");
    link.expect_publish();
    let queued = running.publish("a", "queued");
    let (tell, waits) = channel();
    let task = thread::spawn(move || {
        let executor = LocalExecutor::new();
        let room = executor.spawn(async { handle.publish_async(qos1("waits")).await });
        let next = executor.spawn(async { inbox.recv_async().await });
        let sent = executor.spawn(sent);
        let queued = executor.spawn(queued);
        run(executor.run(async {
            smol::future::yield_now().await;
            tell.send(()).unwrap();
            let rejected = room.await.unwrap_err();
            assert_eq!(rejected.command, qos1("waits"));
            assert_eq!(rejected.reason, RejectReason::Terminated);
            assert_eq!(next.await.map(drop), Err(InboxError::Closed));
            (sent.await, queued.await)
        }))
    });
    waits.recv_timeout(HANG).unwrap();
    let (left, _) = running.terminate(link);
    assert_eq!(left, 2);
    let outcomes = promptly(|| task.join().unwrap());
    let sent = Outcome::PerhapsDelivered(Reason::Terminated);
    assert_eq!(outcomes, (sent, Outcome::Cancelled(Reason::Terminated)));
}

/// A task whose executor has a bug.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("a bug in an executor");
    }
}

fn poll_with_a_bomb<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::new(Bomb));
    future.poll(&mut Context::from_waker(&waker))
}

fn a_waker_that_panics_is_logged_and_the_loop_goes_on(protocol: Protocol) {
    LINES.start();
    let from = LINES.count();
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online_with(narrow(&broker), &mut broker);
    let handle = running.handle().clone();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let mut next = pin!(inbox.recv_async());
    assert!(poll_with_a_bomb(next.as_mut()).is_pending());
    let mut ticket = pin!(running.publish("a", "1"));
    assert!(poll_with_a_bomb(ticket.as_mut()).is_pending());
    let first = link.expect_publish().pkid;
    let mut batch = Batch::new();
    handle.publish_in(qos1("2"), &mut batch).unwrap();
    assert!(poll_with_a_bomb(pin!(&mut batch)).is_pending());
    let mut room = pin!(handle.publish_async(qos1("3")));
    assert!(poll_with_a_bomb(room.as_mut()).is_pending());

    send_at_once(&mut link, [message("in", 1, "m")]);
    assert_eq!(link.expect_puback().pkid, 1);
    link.send_puback(first);
    for _ in 0..2 {
        let id = link.expect_publish().pkid;
        link.send_puback(id);
    }
    assert!(run(ticket).is_delivered());
    assert_eq!(run(batch), []);
    assert!(run(run(room).unwrap()).is_delivered());
    assert!(run(next).is_ok());
    let line = "the waker of a task panicked, and the loop goes on";
    let lines = LINES.with(from, line, "a bug in an executor");
    assert!(lines.len() >= 4, "{lines:?}");
    running.terminate(link);
}

fn a_callback_awaits_without_waiting(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online_with(narrow(&broker), &mut broker);
    let handle = running.handle().clone();
    let (tell, learned) = channel();
    let callback = move |_| {
        let mut open = handle.publish(qos1("open")).unwrap();
        let waited = catch_unwind(AssertUnwindSafe(|| wait_any([&mut open], NEVER)));
        let mut context = Context::from_waker(Waker::noop());
        let polled = pin!(&mut open).poll(&mut context).is_pending();
        let waits = pin!(handle.publish_async(qos1("waits")));
        let room = waits.poll(&mut context).is_pending();
        tell.send((waited.is_err(), polled, room, open)).unwrap();
    };
    running.handle().publish_then(qos1("x"), callback).unwrap();
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    let (refused, polled, room, mut open) = learned.recv_timeout(HANG).unwrap();
    assert!(refused && polled && room);
    let publish = link.expect_publish();
    assert_eq!(publish.payload, "open");
    link.send_puback(publish.pkid);
    assert_eq!(wait_any([&mut open], HANG), Some(0));
    running.terminate(link);
}

#[test]
fn nothing_awaited_wakes_an_idle_loop() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let mut next = pin!(inbox.recv_async());
    let asked = next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(asked.is_pending());
    running.expect_asleep("while a task awaits a message");
    running.terminate(link);
}
