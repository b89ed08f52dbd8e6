//! The loop must not be held up or brought down by large writes, slow links, callbacks and threads that
//! repeat themselves, or brokers that accept and hang up. The real loop against a scripted broker.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::support::running::{Running, attempts, message, next, options, serve, told};
use crate::support::{Connection, HANG, LARGE, ScriptedBroker, wait_for, wait_until};
use bytes::BytesMut;
use mqtt_connection_sharing::error::Blame;
use mqtt_connection_sharing::{Client, Handle, Outcome, Reason, WhenFull};
use mqtt_connection_sharing::{Filter, Publish, QoS};
use rumqttc::mqttbytes::v4;

const MIB: usize = 1024 * 1024;

fn large(qos: QoS) -> Publish {
    Publish::new("large", qos, vec![7; LARGE])
}

/// Waits until bytes have come that were not read yet.
#[track_caller]
fn expect_unread(link: &mut Connection) {
    let stream = link.stream();
    let limit = stream.set_read_timeout(Some(HANG));
    let unread = limit.and_then(|()| stream.peek(&mut [0]));
    assert!(matches!(unread, Ok(1)), "expected a byte, came: {unread:?}");
}

/// Reads a PUBLISH that is too large for a panic message.
#[track_caller]
fn read_large(link: &mut Connection) -> u16 {
    link.read_until("PUBLISH", |packet| match packet {
        v4::Packet::Publish(publish) => {
            assert_eq!(publish.payload.len(), LARGE);
            Some(publish.pkid)
        }
        _ => None,
    })
}

#[test]
fn reading_goes_on_while_a_large_write_blocks() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "last");
    let ticket = running.handle().publish(large(QoS::AtLeastOnce)).unwrap();
    expect_unread(&mut link);
    // The broker writes before it reads, and more than the system buffers: if the loop did not read
    // meanwhile, both sides would wait for each other.
    let mut packet = BytesMut::new();
    let incoming = message("in", None, &"x".repeat(60_000));
    incoming.write(&mut packet, usize::MAX).unwrap();
    for _ in 0..550 {
        // Not through the script: its panic would show the packet.
        let sent = link.stream().write_all(&packet);
        assert!(sent.is_ok(), "the loop reads no more: {sent:?}");
    }
    link.send_packet(message("last", None, "all read"));
    assert_eq!(next(&inbox), "all read");
    assert_eq!(ticket.outcome(), None);
    let id = read_large(&mut link);
    link.send_puback(id);
    assert_eq!(attempts(told(ticket)), 1);
    running.terminate(link);
}

/// Publishes, and again each time that message ends without delivery; counts how often. Gives up long
/// after it should have been stopped.
fn publish_again_and_again(handle: Handle, count: Arc<AtomicU64>) {
    let publish = Publish::new("a", QoS::AtLeastOnce, "x");
    let next = (handle.clone(), Arc::clone(&count));
    // A rejected message drops the callback, and so ends the repetition.
    let _ = handle.publish_then(publish, move |outcome| {
        let (handle, count) = next;
        if !outcome.is_delivered() && count.fetch_add(1, Ordering::Relaxed) < 10_000 {
            publish_again_and_again(handle, count);
        }
    });
}

#[test]
fn a_callback_that_repeats_does_not_keep_the_loop_from_ending() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.max_inflight = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let count = Arc::new(AtomicU64::new(0));
    // One message is in flight, one in the queue.
    for _ in 0..2 {
        publish_again_and_again(running.handle().clone(), Arc::clone(&count));
    }
    link.expect_publish();
    let (left, _) = running.terminate(link);
    assert_eq!(left, 2);
    assert_eq!(count.load(Ordering::Relaxed), 2, "each was told once");
}

#[test]
fn disconnect_sends_queued_messages_first() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let publish = running.handle().publish(large(QoS::AtMostOnce)).unwrap();
    let mut disconnect = running.handle().disconnect();
    // The broker does not read for a while.
    let told_early = disconnect.wait_timeout(Duration::from_millis(1500));
    assert_eq!(told_early, None, "the PUBLISH is still on its way");
    read_large(&mut link);
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    assert!(told(publish).is_delivered());
    assert!(told(disconnect).is_delivered());
    running.drop_all_and_join();
}

#[test]
fn disconnect_waits_for_packets_that_the_session_holds_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = (0..20).map(|n| Filter::new(format!("f/{n}"), QoS::AtLeastOnce));
    let subscribe = running.handle().subscribe(&inbox, filters.collect());
    let mut disconnect = running.handle().disconnect();
    // One packet at a time: the next one leaves after the answer to the one before it.
    for filters in [8, 8] {
        let part = link.expect_subscribe();
        assert_eq!(part.filters.len(), filters);
        assert_eq!(disconnect.wait_timeout(Duration::from_millis(20)), None);
        link.grant(&part);
    }
    assert_eq!(link.expect_subscribe().filters.len(), 4);
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    assert!(told(disconnect).is_delivered());
    // The answer to the last part comes on the next link.
    let reconnect = running.handle().reconnect();
    let (mut link, _) = broker.accept_client(true);
    assert!(told(reconnect).is_delivered());
    let part = link.expect_subscribe();
    assert_eq!(part.filters.len(), 4);
    link.grant(&part);
    assert!(told(subscribe.unwrap()).is_delivered());
    assert_eq!(running.terminate(link).0, 0);
}

#[test]
fn a_ping_that_is_never_answered_ends() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.ack_timeout = Duration::from_millis(500);
    let (running, mut link) = Running::online_with(options, &mut broker);
    let mut ticket = running.handle().ping().unwrap();
    link.expect_pingreq();
    let mut packet = BytesMut::new();
    let incoming = message("in", None, "x");
    incoming.write(&mut packet, usize::MAX).unwrap();
    // The link is alive, but nobody answers the PING.
    let outcome = wait_for("the end of the PING", HANG, || {
        // Fails once the loop has closed the link, which it does in the end.
        let _ = link.stream().write_all(&packet);
        ticket.wait_timeout(Duration::from_millis(20))
    });
    assert!(!outcome.is_delivered(), "{outcome:?}");
    link.close();
    let (link, _) = broker.accept_client(true);
    running.take_a_turn();
    running.terminate(link);
}

#[test]
fn a_second_loop_of_a_broker_does_not_reuse_an_identifier_in_its_session() {
    let mut broker = ScriptedBroker::bind();
    let options = options(&broker);
    let (give, take) = channel();
    let (tell, ended) = channel();
    let loops = thread::spawn(move || {
        let mut client = Client::new(options).expect("valid options");
        for _ in 0..2 {
            let (agent, handle) = client.open();
            give.send(handle).expect("the test to wait");
            let ended = agent.run();
            client = ended.client;
            let told = tell.send((ended.result, ended.left));
            told.expect("the test to wait");
        }
    });
    let publish = |handle: &Handle, payload: &'static str| {
        let publish = Publish::new("a", QoS::ExactlyOnce, payload);
        handle.publish(publish).expect("room in the queue")
    };
    let end = |handle: Handle, mut link: Connection| {
        let terminate = handle.terminate(Duration::ZERO);
        link.expect_disconnect();
        link.expect_closed();
        link.close();
        let (result, left) = ended.recv_timeout(HANG).expect("the loop to end");
        assert!(told(terminate).is_delivered());
        assert_eq!(result, Ok(()));
        left
    };

    let handle = take.recv_timeout(HANG).expect("a handle");
    let (mut link, _) = broker.accept_client(false);
    let ticket = publish(&handle, "first");
    let first = link.expect_publish();
    assert_eq!(end(handle, link), 1);
    let outcome = told(ticket);
    assert!(!outcome.is_delivered(), "{outcome:?}");

    // The broker may still hold the first message under its identifier [MQTT-4.3.3-2].
    let handle = take.recv_timeout(HANG).expect("a handle");
    let (mut link, _) = broker.accept_client(true);
    let ticket = publish(&handle, "second");
    let second = link.expect_publish();
    assert_eq!((&second.payload[..], second.dup), (&b"second"[..], false));
    assert_ne!(second.pkid, first.pkid, "it would be taken for the first");
    link.send_packet(v4::Packet::PubRec(v4::PubRec::new(second.pkid)));
    assert_eq!(link.expect_pubrel().pkid, second.pkid);
    link.send_packet(v4::Packet::PubComp(v4::PubComp::new(second.pkid)));
    assert!(matches!(told(ticket), Outcome::Delivered { .. }));
    assert_eq!(end(handle, link), 0);
    loops.join().unwrap();
}

#[test]
fn threads_that_repeat_process_loop_do_not_keep_a_publish_from_the_wire() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let count = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    // Three threads together are faster than the loop.
    let threads = [(); 3].map(|()| {
        let handle = running.handle().clone();
        let (count, stop) = (Arc::clone(&count), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                drop(handle.process_loop());
                // Commands that the loop does not take stay in memory, so this count is bounded.
                if count.fetch_add(1, Ordering::Relaxed) > 5_000_000 {
                    return false;
                }
            }
            true
        })
    });
    wait_until("the threads to repeat it", || {
        count.load(Ordering::Relaxed) > 10_000
    });
    let ticket = running.publish("a", "x");
    let id = link.expect_publish().pkid;
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        assert!(thread.join().unwrap(), "only after the threads gave up");
    }
    link.send_puback(id);
    assert_eq!(attempts(told(ticket)), 1);
    running.terminate(link);
}

#[test]
fn a_slow_link_that_makes_progress_is_not_given_up() {
    const SIZE: usize = 32 * MIB;
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.ack_timeout = Duration::from_secs(2);
    let (running, mut link) = Running::online_with(options, &mut broker);
    let publish = Publish::new("big", QoS::AtLeastOnce, vec![7; SIZE]);
    let ticket = running.handle().publish(publish).unwrap();
    // Type, length, topic, identifier. Read by hand, because the script cannot decode so large a packet.
    let mut header = [0; 1 + 4 + 2 + 3 + 2];
    link.stream().set_read_timeout(Some(HANG)).unwrap();
    link.stream().read_exact(&mut header).unwrap();
    let id = u16::from_be_bytes([header[10], header[11]]);
    let mut part = vec![0; MIB];
    // This takes longer than the acknowledgment may, and is slower than the system would read by itself.
    for _ in 0..14 {
        link.stream().read_exact(&mut part).unwrap();
        let another = broker.accept_within(Duration::from_millis(200));
        assert!(another.is_none(), "given up while it was being written");
    }
    for _ in 14..SIZE / MIB {
        link.stream().read_exact(&mut part).unwrap();
    }
    link.send_puback(id);
    assert_eq!(attempts(told(ticket)), 1);
    assert_eq!(running.terminate(link).1.connects, 1);
}

#[test]
fn links_lost_in_a_row_without_progress_count_as_failed_attempts() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.retry.attempts = 2;
    let running = Running::start(options);
    for _ in 0..3 {
        let (link, _) = broker.accept_client(true);
        running.take_a_turn();
        link.close();
    }
    let ended = running.join();
    assert_eq!(ended.stats.connects, 3, "CONNACK was read each time");
    let error = ended.result.unwrap_err();
    assert_eq!(error.blame(), Blame::Network);
    assert!(error.problem().starts_with("3 attempts in "), "{error}");
    assert!(broker.accept_within(Duration::ZERO).is_none());
}

#[test]
fn a_link_with_progress_ends_the_count_of_failed_attempts() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.retry.attempts = 1;
    let running = Running::start(options);
    for progress in [false, true, false, true, false, false] {
        let (mut link, _) = broker.accept_client(true);
        running.take_a_turn();
        if progress {
            let ticket = running.publish("a", "x");
            let id = link.expect_publish().pkid;
            link.send_puback(id);
            assert!(told(ticket).is_delivered());
        }
        link.close();
    }
    let ended = running.join();
    assert_eq!(ended.stats.connects, 6);
    assert_eq!(ended.result.unwrap_err().blame(), Blame::Network);
}

#[test]
fn requests_that_go_ahead_of_the_queue_all_end_and_terminate_is_taken() {
    const MANY: usize = 70_000;
    let broker = ScriptedBroker::bind();
    let client = Client::new(options(&broker)).unwrap();
    let (agent, handle) = client.open();
    let process_loops: Vec<_> = (0..MANY).map(|_| handle.process_loop()).collect();
    let disconnects: Vec<_> = (0..MANY).map(|_| handle.disconnect()).collect();
    let reconnects: Vec<_> = (0..MANY).map(|_| handle.reconnect()).collect();
    let ended = handle.terminate(Duration::ZERO);
    let too_late = handle.reconnect();
    assert!(agent.run().result.is_ok());
    assert!(told(ended).is_delivered());
    let cancelled = Outcome::Cancelled(Reason::Terminated);
    for ticket in process_loops.into_iter().chain(disconnects) {
        assert!(told(ticket).is_delivered());
    }
    for ticket in reconnects.into_iter().chain([too_late]) {
        assert_eq!(told(ticket), cancelled);
    }
    assert_eq!(
        told(handle.disconnect()),
        Outcome::Cancelled(Reason::LoopEnded)
    );
}

#[test]
fn inboxes_dropped_before_the_loop_ran_do_no_harm() {
    let mut broker = ScriptedBroker::bind();
    let client = Client::new(options(&broker)).unwrap();
    let (agent, handle) = client.open();
    let filters = || vec![Filter::new("a", QoS::AtLeastOnce)];
    let dropped = handle.inbox(1, WhenFull::WaitAside);
    let refused = handle.subscribe(&dropped, filters()).unwrap();
    let leaving = handle.unsubscribe(&dropped, vec!["a".into()]).unwrap();
    drop(dropped);
    for _ in 0..70_000 {
        drop(handle.inbox(1, WhenFull::WaitAside));
    }
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let script = thread::spawn(move || {
        let (mut link, _) = broker.accept_client(false);
        serve(&mut link);
        link.close();
    });
    let user = thread::spawn(move || {
        assert_eq!(told(refused), Outcome::NeverSent(Reason::InboxClosed));
        assert!(told(leaving).is_delivered());
        let granted = told(handle.subscribe(&inbox, filters()).unwrap());
        assert!(granted.is_delivered(), "{granted}");
        drop(handle);
    });
    assert!(agent.run().result.is_ok());
    user.join().unwrap();
    script.join().unwrap();
}
