//! A thread that does not read its inbox: it delays no other one, and loses nothing, also when the session or the loop
//! ends. An inbox may ask for more, at the price of the others.

use std::time::Duration;

use crate::support::running::{Running, message, next, security, send_at_once, told};
use crate::support::{HANG, Mosquitto, ScriptedBroker};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Accept, Filter, InboxError, Publish, QoS, WhenFull};

/// Short enough to wait for, long enough for a wrong packet to come.
const A_MOMENT: Duration = Duration::from_millis(30);

/// As many messages as a stock Mosquitto lets one client have unacknowledged, and one more.
const WINDOW_AND_ONE: u64 = 21;

#[test]
fn behind_a_stock_mosquitto_a_thread_that_does_not_read_delays_no_other() {
    let broker = Mosquitto::start_stock();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut options = Options::new("127.0.0.1", format!("slow-{qos}"));
        options.port = broker.port();
        options.connect_interval = Duration::ZERO;
        options.security = security(broker.certs());
        let running = Running::start(options);
        let handle = running.handle();
        let subscribe = |inbox, filter: &str| {
            let filters = vec![Filter::new(filter, qos)];
            assert!(told(handle.subscribe(inbox, filters).unwrap()).is_delivered());
        };
        let (slow, quick) = (
            handle.inbox(1, WhenFull::WaitAside),
            handle.inbox(10, WhenFull::WaitAside),
        );
        subscribe(&slow, "slow");
        subscribe(&quick, "quick");
        let publish = |topic: &str, number: u64| {
            let message = Publish::new(topic, qos, number.to_string());
            assert!(told(handle.publish(message).unwrap()).is_delivered());
        };
        for number in 0..2 * WINDOW_AND_ONE {
            publish("slow", number);
        }
        publish("quick", 0);
        let arrived = quick
            .recv_timeout(HANG)
            .map(|message| message.payload().to_vec());
        assert_eq!(arrived, Ok(b"0".to_vec()), "the other thread waits as well");
        for number in 0..2 * WINDOW_AND_ONE {
            let message = slow.recv_timeout(HANG).unwrap();
            assert_eq!(message.payload(), number.to_string().as_bytes());
        }
        assert_eq!((slow.dropped(), quick.dropped()), (0, 0));
        assert!(told(handle.terminate(HANG)).is_delivered());
        assert!(running.join().result.is_ok());
    }
}

#[test]
fn what_counted_as_accepted_is_given_out_also_after_a_lost_session_and_after_the_end() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let slow = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &slow, "a");
    let send = |link: &mut _, ids: std::ops::RangeInclusive<u16>| {
        send_at_once(link, ids.map(|id| message("a", id, &id.to_string())));
    };
    send(&mut link, 1..=10);
    for id in 1..=10 {
        assert_eq!(link.expect_puback().pkid, id);
    }
    // The broker forgets everything, and begins with its identifiers anew.
    link.close();
    let (mut link, _) = broker.accept_client(false);
    let renewal = link.expect_subscribe();
    link.grant(&renewal);
    send_at_once(
        &mut link,
        (1..=5).map(|id| message("a", id, &(10 + id).to_string())),
    );
    for id in 1..=5 {
        assert_eq!(link.expect_puback().pkid, id, "it has not caught up");
    }
    running.terminate(link);
    for number in 1..=15 {
        assert_eq!(next(&slow), number.to_string());
    }
    assert_eq!(slow.recv(), Err(InboxError::Closed));
    assert_eq!(slow.dropped(), 0);
}

#[test]
fn an_inbox_may_ask_that_only_what_was_taken_is_acknowledged() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let careful = running.handle().inbox(2, Accept::OnceTaken);
    let other = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &careful, "a");
    running.subscribe(&mut link, &other, "b");
    let messages = (1..=4).map(|id| message("a", id, &id.to_string()));
    send_at_once(&mut link, messages.chain([message("b", 5, "5")]));
    assert_eq!(next(&other), "5");
    // Longer than an inbox may have something aside before it is slow.
    link.expect_silence(Duration::from_millis(1_200));
    for id in 1..=4 {
        assert_eq!(next(&careful), id.to_string());
        assert_eq!(link.expect_puback().pkid, id);
    }
    assert_eq!(link.expect_puback().pkid, 5);
    send_at_once(&mut link, [message("a", 6, "6")]);
    link.expect_silence(A_MOMENT);
    // A thread that goes away counts as having taken it.
    drop(careful);
    assert_eq!(link.expect_puback().pkid, 6);
    running.terminate(link);
}
