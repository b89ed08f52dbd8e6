//! The threads against a scripted broker.

use std::thread;

use super::*;
use crate::app::demo::settings::DemoSettings;
use crate::app::tests::demo_settings;
use crate::support::running::{Running, options};
use crate::support::scripted5::{ack5, answers5, message5};
use crate::support::{HANG, ScriptedBroker, wait_until};

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

/// The broker acknowledges the messages of one publisher, and says of those of the other that they are not allowed.
#[test]
fn a_message_that_was_refused_is_not_waited_for_by_anybody() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let (shared, iteration) = shared(&running, 8, Some(2));
    let (start, started) = bounded(2);
    let (publishes, published) = bounded::<()>(0);
    let receiving = Receiving {
        inbox: 10,
        patience: HANG,
        grace: Duration::ZERO,
        published,
    };
    let received = thread::scope(|scope| {
        let receives = scope.spawn(|| subscriber(&shared, start, &receiving));
        let asks = link.read_bytes();
        let id = u16::from_be_bytes([asks[2], asks[3]]);
        link.send(&answers5(0x90, id, &[1]));
        let publishers = [
            scope.spawn(|| sync_publisher(&shared, &started)),
            scope.spawn(|| async_publisher(&shared, &started)),
        ];
        let mut acknowledged = Vec::new();
        for _ in 0..8 {
            let publish = link.read_bytes();
            let length = usize::from(publish[3]);
            let topic = String::from_utf8(publish[4..4 + length].to_vec()).unwrap();
            let id = u16::from_be_bytes([publish[4 + length], publish[5 + length]]);
            let is_allowed = topic.contains("/sync/");
            link.send(&ack5(0x40, id, if is_allowed { 0 } else { 0x87 }));
            if is_allowed {
                // The last one comes when nobody publishes any more.
                acknowledged.push(message5(0x30, &topic, 0, b"", &publish[7 + length..]));
                if acknowledged.len() < 4 {
                    link.send(acknowledged.last().unwrap());
                }
            }
        }
        for publisher in publishers {
            publisher.join().unwrap();
        }
        drop(publishes);
        link.send(acknowledged.last().unwrap());
        link.read_to_end();
        link.close();
        receives.join().unwrap()
    });
    drop(iteration);
    assert_eq!(received.received.distinct, 4);
    assert_eq!(
        received.problem.as_deref(),
        Some("no more can come: 4 of 8 received")
    );
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
