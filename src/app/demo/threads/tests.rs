//! The times that the publishers tell the view, against those of their results.

use std::thread;

use super::*;
use crate::app::tests::demo_settings;
use crate::support::running::{Running, options};
use crate::support::{ScriptedBroker, wait_until};

#[test]
fn the_last_time_on_the_screen_is_that_of_the_result() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options(&broker));
    let settings = crate::app::demo::settings::DemoSettings {
        publish_count: 2,
        ..demo_settings()
    };
    let plan = Plan::of_demo(&settings);
    let (_iteration, over) = bounded(0);
    let shared = DemoShared {
        handle: running.handle().clone(),
        begun: Arc::new(Begun::new(&plan)),
        plan,
        qos: settings.qos,
        publish_delay: Duration::ZERO,
        on_their_way: None,
        over,
        said: Said::default(),
    };
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
