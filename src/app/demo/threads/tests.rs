//! The threads against a scripted broker.

use std::io::Write as _;
use std::sync::Weak;
use std::thread;

use super::*;
use crate::app::demo::settings::DemoSettings;
use crate::app::tests::demo_settings;
use crate::support::running::{Running, options};
use crate::support::scripted5::{ack5, answers5, message5};
use crate::support::{Connection, HANG, ScriptedBroker, wait_until};

/// So many messages, of which so many may be on their way. The sender ends the iteration.
fn shared(
    running: &Running,
    publish_count: u64,
    places: Option<usize>,
) -> (DemoShared, Sender<()>) {
    let settings = DemoSettings {
        publish_count,
        ..demo_settings()
    };
    let plan = Plan::of_demo(&settings);
    let (iteration, over) = bounded(0);
    let shared = DemoShared {
        handle: running.handle().clone(),
        qos: settings.qos,
        publish_delay: Duration::ZERO,
        on_their_way: OnTheirWay::new(&plan, places),
        plan,
        over,
        said: Said::default(),
    };
    (shared, iteration)
}

/// Waits until both publishers have ended.
type PublishersEnd<'a> = Box<dyn FnOnce() + 'a>;

/// Runs the three threads of an iteration. The broker grants the subscription and goes on by this script.
fn run(
    shared: &DemoShared,
    mut link: Connection,
    patience: Duration,
    script: impl FnOnce(Connection, PublishersEnd<'_>),
) -> SubscriberResult {
    let (start, started) = bounded(2);
    let (publishes, published) = bounded::<()>(0);
    let receiving = Receiving {
        // Room for every message of QoS 0 that a test sends.
        inbox: 10_000,
        patience,
        grace: Duration::ZERO,
        published,
    };
    thread::scope(|scope| {
        let receives = scope.spawn(|| subscriber(shared, start, &receiving));
        answer(&mut link, 0x90, 1);
        let publishers = [
            scope.spawn(|| sync_publisher(shared, &started)),
            scope.spawn(|| async_publisher(shared, &started)),
        ];
        let end = || {
            for publisher in publishers {
                publisher.join().unwrap();
            }
            drop(publishes);
        };
        script(link, Box::new(end));
        receives.join().unwrap()
    })
}

/// The broker answers SUBSCRIBE or UNSUBSCRIBE.
fn answer(link: &mut Connection, first: u8, code: u8) {
    let asks = link.read_bytes();
    let id = u16::from_be_bytes([asks[2], asks[3]]);
    link.send(&answers5(first, id, &[code]));
}

/// The broker reads a message. Returns whether it is synchronous, its identifier, and the message for the subscriber.
fn read_message(link: &mut Connection) -> (bool, u16, Vec<u8>) {
    let publish = link.read_bytes();
    let length = usize::from(publish[3]);
    let topic = String::from_utf8(publish[4..4 + length].to_vec()).unwrap();
    let id = u16::from_be_bytes([publish[4 + length], publish[5 + length]]);
    let message = message5(0x30, &topic, 0, b"", &publish[7 + length..]);
    (topic.contains("/sync/"), id, message)
}

/// A message of somebody else.
fn of_a_stranger(shared: &DemoShared) -> Vec<u8> {
    let topic = shared.plan.filter().replace('+', "stranger");
    message5(0x30, &topic, 0, b"", b"")
}

/// Sends a message of somebody else, and waits until the subscriber has taken it, as the last one of so many.
fn send_a_stranger(shared: &DemoShared, link: &mut Connection, all: u64) {
    link.send(&of_a_stranger(shared));
    wait_until("a stranger's message to be taken", || {
        let inbox = shared.said.inbox.get().and_then(Weak::upgrade);
        shared.handle.stats().messages_received == all
            && inbox.is_none_or(|inbox| inbox.waiting() == 0)
    });
}

/// The broker acknowledges the messages of one publisher, and says of those of the other that they are not allowed.
#[test]
fn a_message_that_was_refused_is_not_waited_for_by_anybody() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online5(&mut broker, b"");
    let (shared, iteration) = shared(&running, 8, Some(2));
    let received = run(&shared, link, HANG, |mut link, publishers_end| {
        let mut acknowledged = Vec::new();
        for _ in 0..8 {
            let (is_allowed, id, message) = read_message(&mut link);
            link.send(&ack5(0x40, id, if is_allowed { 0 } else { 0x87 }));
            if is_allowed {
                acknowledged.push(message);
                if acknowledged.len() < 4 {
                    link.send(acknowledged.last().unwrap());
                }
            }
        }
        publishers_end();
        // The subscriber looks whether something can still come.
        send_a_stranger(&shared, &mut link, 4);
        link.send(acknowledged.last().unwrap());
        link.read_to_end();
        link.close();
    });
    drop(iteration);
    assert_eq!(received.received.distinct, 4);
    assert_eq!(
        received.problem.map(|problem| problem.text).as_deref(),
        Some("no more can come: 4 of 8 received")
    );
    drop(shared);
    running.drop_all_and_join();
}

/// The broker takes two messages and loses the link. When they come again, it refuses one, and delivers it.
#[test]
fn a_message_that_was_refused_and_comes_stands_for_no_other() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online5(&mut broker, b"");
    let (shared, iteration) = shared(&running, 2, Some(2));
    let received = run(&shared, link, HANG, |mut link, publishers_end| {
        read_message(&mut link);
        read_message(&mut link);
        let mut link = running.resume5(&mut broker, link);
        let mut acknowledged = None;
        for _ in 0..2 {
            let (is_allowed, id, message) = read_message(&mut link);
            link.send(&ack5(0x40, id, if is_allowed { 0 } else { 0x97 }));
            match is_allowed {
                true => acknowledged = Some(message),
                false => link.send(&message),
            }
        }
        publishers_end();
        send_a_stranger(&shared, &mut link, 2);
        link.send(&acknowledged.unwrap());
        answer(&mut link, 0xb0, 0);
        link.read_to_end();
        link.close();
    });
    drop(iteration);
    assert!(received.problem.is_none());
    assert_eq!(received.received.distinct, 2);
    drop(shared);
    running.drop_all_and_join();
}

/// The broker acknowledges two messages, delivers one, and goes on with those of somebody else.
#[test]
fn messages_of_others_do_not_prolong_the_wait() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online5(&mut broker, b"");
    let (shared, iteration) = shared(&running, 2, None);
    let patience = Duration::from_secs(5);
    let received = run(&shared, link, patience, |mut link, publishers_end| {
        for _ in 0..2 {
            let (is_delivered, id, message) = read_message(&mut link);
            link.send(&ack5(0x40, id, 0));
            if is_delivered {
                link.send(&message);
            }
        }
        publishers_end();
        wait_until("the subscriber to give up", || {
            // The loop may have ended the link by then.
            let _ = link.stream().write_all(&of_a_stranger(&shared));
            shared.said.subscriber.now() == Now::Ending
        });
        link.close();
    });
    drop(iteration);
    let problem = received.problem.unwrap().text;
    let told = "no message for 5 s: 1 of 2 received; if all are acknowledged, the broker does not deliver them: have its \
                rules allow this client to publish and to read them ";
    assert!(problem.starts_with(told), "{problem}");
    assert_eq!(received.received.distinct, 1);
    drop(shared);
    running.drop_all_and_join();
}

#[test]
fn the_last_time_on_the_screen_is_that_of_the_result() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options(&broker));
    let (shared, _iteration) = shared(&running, 2, None);
    let (start, started) = bounded(2);
    start.send(()).unwrap();
    start.send(()).unwrap();
    let (sync, asynchronous) = thread::scope(|scope| {
        let sync = scope.spawn(|| sync_publisher(&shared, &started));
        let asynchronous = scope.spawn(|| async_publisher(&shared, &started));
        // Both messages wait in the queue before the broker takes the connection.
        let handle = running.handle();
        wait_until("both are queued", || handle.stats().queued == 2);
        let (mut link, _) = broker.accept_client(false);
        for _ in 0..2 {
            let publish = link.expect_publish();
            link.send_puback(publish.pkid);
        }
        (sync.join().unwrap(), asynchronous.join().unwrap())
    });
    for (result, said) in [
        (sync, &shared.said.sync_publisher),
        (asynchronous, &shared.said.async_publisher),
    ] {
        assert_eq!(said.done(), 1);
        let (told, shown) = (result.times.longest_us(), said.last());
        let (told, shown) = (told.unwrap(), shown.unwrap().as_secs_f64() * 1e6);
        // The result has three digits.
        assert!((told - shown).abs() <= told / 500.0, "{told} and {shown}");
    }
    drop(shared);
    running.drop_all_and_join();
}
