//! Many threads, many subscriptions, payloads of every size: none of it is special, and nothing gets
//! lost. The real loop, plain TCP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::acknowledger::acknowledge;
use crate::support::running::{
    Running, expect_delivered, message, next, options, send_at_once, told,
};
use crate::support::{HANG, ScriptedBroker};
use mqtt_connection_sharing::WhenFull;
use mqtt_connection_sharing::{Filter, Publish, QoS};
use rumqttc::mqttbytes::v4;

#[test]
fn a_message_of_each_of_1024_threads_is_delivered_and_a_second_one() {
    const THREADS: usize = 1_024;
    const STACK: usize = 64 * 1024;
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let server = acknowledge(&mut link);
    let delivered = Arc::new(AtomicUsize::new(0));
    let publishers: Vec<_> = (0..THREADS)
        .map(|number| {
            let handle = running.handle().clone();
            let delivered = Arc::clone(&delivered);
            let run = move || {
                for round in 0..2 {
                    let topic = format!("scale/{number}/{round}");
                    let message = Publish::new(topic, QoS::AtLeastOnce, number.to_string());
                    let ticket = handle.publish(message).expect("room in the queue");
                    assert!(told(ticket).is_delivered());
                    delivered.fetch_add(1, Ordering::Relaxed);
                }
            };
            let builder = thread::Builder::new().stack_size(STACK);
            builder.spawn(run).expect("a thread")
        })
        .collect();
    for publisher in publishers {
        publisher.join().expect("no panic in a publisher");
    }
    assert_eq!(delivered.load(Ordering::Relaxed), 2 * THREADS);
    running.drop_all_and_join();
    drop(link);
    let seen = server.join().expect("no panic in the server");
    assert_eq!(seen.publishes, 2 * THREADS as u64);
}

#[test]
fn a_message_for_each_of_10_000_subscriptions_reaches_its_inbox() {
    const SUBSCRIPTIONS: usize = 10_000;
    const FILTERS_IN_A_COMMAND: usize = 8;
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let names: Vec<_> = (0..SUBSCRIPTIONS)
        .map(|number| format!("scale/{}/{number}", number % 100))
        .collect();
    let subscribing = thread::spawn({
        let (handle, names) = (running.handle().clone(), names.clone());
        move || {
            let mut tickets = Vec::new();
            let mut inboxes = Vec::new();
            for some in names.chunks(FILTERS_IN_A_COMMAND) {
                let inbox = handle.inbox(FILTERS_IN_A_COMMAND, WhenFull::WaitAside);
                let filters = some.iter().map(|name| Filter::new(name, QoS::AtLeastOnce));
                tickets.push(handle.subscribe(&inbox, filters.collect()).expect("room"));
                inboxes.push(inbox);
            }
            expect_delivered(tickets);
            inboxes
        }
    });
    for some in names.chunks(FILTERS_IN_A_COMMAND) {
        let subscribe = link.expect_subscribe();
        let asked = subscribe.filters.iter().map(|filter| &filter.path);
        assert!(asked.eq(some), "{subscribe:?}");
        link.grant(&subscribe);
    }
    let inboxes = subscribing.join().expect("no panic in the subscriber");
    // The broker sends identifiers of its own, in portions that it may have in flight.
    for some in names.chunks(1_000) {
        let messages = (1..).zip(some).map(|(id, name)| message(name, id, name));
        send_at_once(&mut link, messages);
        for id in 1..=some.len() {
            assert_eq!(usize::from(link.expect_puback().pkid), id);
        }
    }
    for (inbox, some) in inboxes.iter().zip(names.chunks(FILTERS_IN_A_COMMAND)) {
        for name in some {
            assert_eq!(next(inbox), *name);
        }
        assert!(inbox.try_recv().is_err(), "one message each");
    }
    assert!(running.handle().unmatched().is_empty());
    running.terminate(link);
}

#[test]
fn payloads_of_every_size_go_there_and_back() {
    const MIB: usize = 1024 * 1024;
    // Sizes around the length up to which a payload is copied out of the read buffer.
    let sizes = [0, 1, 4_096, 4_097, 256 * 1024, MIB];
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.max_packet_size = 2 * MIB;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let inbox = running.handle().inbox(sizes.len(), WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "scale");
    for (size, id) in sizes.into_iter().zip(1..) {
        let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let publish = Publish::new("scale", QoS::AtLeastOnce, payload.clone());
        let ticket = running.handle().publish(publish).expect("room");
        let mut publish = link.expect_publish();
        assert!(publish.payload == payload, "{size} bytes there");
        link.send_puback(publish.pkid);
        assert!(told(ticket).is_delivered());
        publish.pkid = id;
        link.send_packet(v4::Packet::Publish(publish));
        let message = inbox.recv_timeout(HANG).expect("a message");
        assert!(message.payload() == payload, "{size} bytes back");
        assert_eq!(link.expect_puback().pkid, id);
    }
    running.terminate(link);
}
