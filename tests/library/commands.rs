//! Promises to threads that push commands: true outcomes, tickets, callbacks, refusals of wrong
//! commands, and the end of a loop that goes away. The real loop against a scripted broker.
//!
//! `row_NN` names the defect of the original program, in the project's table, that must not come back.

// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::running::{
    LOOP_THREAD, Running, all_told, attempts, expect_refused, options, serve, told,
};
use crate::support::{HANG, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::{Batch, Client, Outcome, Protocol, Reason, RejectReason, WhenFull};
use mqtt_connection_sharing::{Filter, InvalidName, Publish, QoS, Topic};
use rumqttc::mqttbytes::v4;

in_both_versions! {
    all_eight_commands_work_from_several_threads,
    a_batch_names_the_messages_that_were_not_delivered,
    a_delivered_outcome_has_the_attempts_and_the_latency,
    row_18_and_row_07_every_command_ends_with_a_true_outcome,
    a_ticket_is_waited_on_again_after_a_time_out_or_dropped,
    a_callback_is_called_once_on_the_loops_thread_and_its_panic_does_not_end_the_loop,
    row_03_a_thread_that_times_out_and_goes_away_leaves_its_command_whole,
    row_13_an_invalid_command_fails_alone,
}

fn qos1(topic: &str, payload: &str) -> Publish {
    Publish::new(topic, QoS::AtLeastOnce, payload.to_owned())
}

fn all_eight_commands_work_from_several_threads(protocol: Protocol) {
    let broker = ScriptedBroker::speaking(protocol);
    let running = Running::start(options(&broker));
    let broker = broker.in_thread(|mut broker| {
        let (mut link, _) = broker.accept_client(false);
        let before = serve(&mut link);
        link.expect_closed();
        link.close();
        let (mut link, _) = broker.accept_client(true);
        let after = serve(&mut link);
        link.expect_closed();
        (before, after)
    });
    let work = |name: usize| {
        let handle = running.handle().clone();
        move || {
            let inbox = handle.inbox(4, WhenFull::WaitAside);
            let filters = vec![Filter::new(format!("{name}/#"), QoS::ExactlyOnce)];
            let granted = told(handle.subscribe(&inbox, filters).unwrap());
            assert!(
                matches!(&granted, Outcome::Delivered { granted, .. } if *granted == [QoS::ExactlyOnce])
            );
            for round in 0..10 {
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    let topic = format!("{name}/{round}");
                    let ticket = handle.publish(Publish::new(topic, qos, "x")).unwrap();
                    assert_eq!(attempts(told(ticket)), 1);
                }
                assert!(told(handle.ping().unwrap()).is_delivered());
                assert!(told(handle.process_loop()).is_delivered());
            }
            let left = handle.unsubscribe(&inbox, vec![format!("{name}/#")]);
            assert!(told(left.unwrap()).is_delivered());
        }
    };
    let threads: Vec<_> = (0..4).map(|name| thread::spawn(work(name))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(told(running.handle().disconnect()).is_delivered());
    let late = running.publish("late", "x");
    assert!(told(running.handle().reconnect()).is_delivered());
    assert_eq!(attempts(told(late)), 1);
    let end = running.handle().terminate(HANG);
    let ended = running.join();
    assert!(told(end).is_delivered());
    assert!(ended.result.is_ok());
    assert_eq!(ended.left, 0);
    assert_eq!((ended.stats.connects, ended.stats.reconnects), (2, 1));
    let (before, after) = broker.join().unwrap();
    let publishes = |packets: &[v4::Packet]| {
        let is_publish = |p: &&v4::Packet| matches!(p, v4::Packet::Publish(_));
        packets.iter().filter(is_publish).count()
    };
    assert_eq!((publishes(&before), publishes(&after)), (4 * 30, 1));
}

fn a_batch_names_the_messages_that_were_not_delivered(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let mut batch = Batch::new();
    let topic = Topic::from("a");
    let push = |topic: &Topic, qos, batch: &mut Batch| {
        let publish = Publish::new(topic, qos, "x");
        running.handle().publish_in(publish, batch)
    };
    push(&topic, QoS::AtLeastOnce, &mut batch).unwrap();
    push(&topic, QoS::AtMostOnce, &mut batch).unwrap();
    let wrong = push(&"a/#".into(), QoS::AtLeastOnce, &mut batch).unwrap_err();
    assert_eq!(wrong.command.topic(), "a/#");
    let first = link.expect_publish().pkid;
    link.expect_publish();
    assert_eq!(batch.wait_timeout(Duration::from_millis(20)), None);
    assert_eq!((batch.pushed(), batch.outstanding()), (2, 1));
    link.send_puback(first);
    assert_eq!(batch.wait_timeout(HANG), Some(Vec::new()));

    push(&topic, QoS::AtLeastOnce, &mut batch).unwrap();
    push(&topic, QoS::AtLeastOnce, &mut batch).unwrap();
    link.expect_publish();
    let last = link.expect_publish().pkid;
    link.send_puback(last);
    let end = running.handle().terminate(Duration::from_millis(100));
    assert!(told(end).is_delivered());
    let undelivered = (2, Outcome::PerhapsDelivered(Reason::Terminated));
    assert_eq!(batch.wait_timeout(HANG), Some(vec![undelivered]));
    drop(link);
    running.join().result.unwrap();
}

fn a_delivered_outcome_has_the_attempts_and_the_latency(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let start = Instant::now();
    let ticket = running.publish("a", "1");
    let id = link.expect_publish().pkid;
    let since_it_was_out = Instant::now();
    link.expect_silence(Duration::from_millis(20));
    // Measured no later than here: the loop reads the clock before it reads the link.
    let least = since_it_was_out.elapsed();
    link.close();
    let (mut link, _) = broker.accept_client(true);
    let again = link.expect_publish();
    assert!(again.dup);
    assert_eq!(again.pkid, id);
    link.send_puback(id);
    match told(ticket) {
        Outcome::Delivered {
            attempts: 2,
            latency,
            granted,
            answer: None,
        } => {
            assert!(latency >= least && latency <= start.elapsed());
            assert!(granted.is_empty());
        }
        other => panic!("{other:?}"),
    }
    running.terminate(link);
}

fn row_18_and_row_07_every_command_ends_with_a_true_outcome(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_inflight = 2;
    options.max_subscriptions = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let subscribe = |filters: &[&str]| {
        let filters = filters.iter().map(|f| Filter::new(*f, QoS::AtLeastOnce));
        handle.subscribe(&inbox, filters.collect()).unwrap()
    };
    // Never sent: the library refuses it before anything goes out.
    let too_many = told(subscribe(&["a", "b"]));
    assert_eq!(too_many, Outcome::NeverSent(Reason::SubscriptionLimit));
    // Refused by the broker.
    let refused = subscribe(&["a"]);
    let id = link.expect_subscribe().pkid;
    let codes = vec![v4::SubscribeReasonCode::Failure];
    link.send_packet(v4::Packet::SubAck(v4::SubAck::new(id, codes)));
    expect_refused(told(refused), protocol, &[None]);
    // Some commands are sent and not answered, others wait behind a full window.
    let sent = [running.publish("t", "1"), subscribe(&["a"])];
    link.expect_publish();
    link.expect_subscribe();
    let mut queued: Vec<_> = (0..3).map(|_| running.publish("t", "2")).collect();
    let closed_inbox = handle.inbox(1, WhenFull::WaitAside);
    let filters = vec![Filter::new("c", QoS::AtLeastOnce)];
    let behind = handle.subscribe(&closed_inbox, filters).unwrap();
    match protocol {
        // There a full window holds back nothing but PUBLISH [MQTT-3.3.4-8].
        Protocol::V5 => assert_eq!(told(behind), Outcome::NeverSent(Reason::SubscriptionLimit)),
        _ => queued.push(behind),
    }
    let (left, _) = running.terminate(link);
    assert_eq!(left, sent.len() + queued.len());
    for outcome in all_told(sent) {
        assert_eq!(outcome, Outcome::PerhapsDelivered(Reason::Terminated));
    }
    for outcome in all_told(queued) {
        assert_eq!(outcome, Outcome::Cancelled(Reason::Terminated));
    }
}

fn a_ticket_is_waited_on_again_after_a_time_out_or_dropped(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let mut ticket = running.publish("a", "1");
    drop(running.publish("a", "2"));
    assert_eq!(ticket.wait_timeout(Duration::ZERO), None);
    assert_eq!(ticket.wait_timeout(Duration::from_millis(20)), None);
    assert_eq!(ticket.outcome(), None);
    // Waits on another thread than the first time.
    let waiter = thread::spawn(move || {
        assert!(ticket.wait_timeout(HANG).unwrap().is_delivered());
        assert!(ticket.outcome().unwrap().is_delivered());
        ticket
    });
    for expected in ["1", "2"] {
        let publish = link.expect_publish();
        assert_eq!(publish.payload, expected);
        link.send_puback(publish.pkid);
    }
    let mut ticket = waiter.join().unwrap();
    assert!(ticket.wait_timeout(Duration::ZERO).unwrap().is_delivered());
    assert!(told(ticket).is_delivered());
    running.terminate(link);
}

fn a_callback_is_called_once_on_the_loops_thread_and_its_panic_does_not_end_the_loop(
    protocol: Protocol,
) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let (sender, called) = channel();
    let publish = qos1("a", "1");
    let callback = move |outcome: Outcome| {
        let thread = thread::current().name().map(str::to_owned);
        sender.send((outcome, thread)).unwrap();
        panic!("a bug of the caller, meant");
    };
    running.handle().publish_then(publish, callback).unwrap();
    let id = link.expect_publish().pkid;
    assert!(called.try_recv().is_err());
    link.send_puback(id);
    let (outcome, thread) = called.recv_timeout(HANG).unwrap();
    assert!(outcome.is_delivered());
    assert_eq!(thread.as_deref(), Some(LOOP_THREAD));
    // The sender is dropped with the callback.
    assert!(called.recv_timeout(HANG).is_err());
    let ticket = running.publish("a", "2");
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    assert!(told(ticket).is_delivered());
    running.terminate(link);
}

fn row_03_a_thread_that_times_out_and_goes_away_leaves_its_command_whole(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle().clone();
    let impatient = thread::spawn(move || {
        let topic = "from/a/thread".to_owned();
        let payload = "p".repeat(1000);
        let mut ticket = handle.publish(qos1(&topic, &payload)).unwrap();
        assert_eq!(ticket.wait_timeout(Duration::from_millis(1)), None);
    });
    impatient.join().unwrap();
    let first = link.expect_publish();
    // At this point the original read the memory of a thread that had ended.
    link.close();
    let (mut link, _) = broker.accept_client(true);
    let again = link.expect_publish();
    assert_eq!(again.topic, "from/a/thread");
    assert_eq!(again.payload, "p".repeat(1000));
    assert_eq!(again.pkid, first.pkid);
    link.send_puback(again.pkid);
    running.take_a_turn();
    let (left, _) = running.terminate(link);
    assert_eq!(left, 0);
}

fn row_13_an_invalid_command_fails_alone(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    for topic in ["", "a/#", "a/+/b", "a\0"] {
        let rejected = handle.publish(qos1(topic, "x")).unwrap_err();
        assert_eq!(rejected.command, qos1(topic, "x"));
        assert!(matches!(rejected.reason, RejectReason::Invalid { name, .. } if name == topic));
    }
    let filters = vec![Filter::new("a/#/b", QoS::AtLeastOnce)];
    assert!(handle.subscribe(&inbox, filters).is_err());
    let nothing = handle.unsubscribe(&inbox, Vec::new()).unwrap_err();
    assert_eq!(nothing.reason, RejectReason::NoFilter);
    let huge = Publish::new("a", QoS::AtLeastOnce, vec![0; 268_435_455]);
    let rejected = handle.publish(huge).unwrap_err();
    assert!(matches!(
        rejected.reason,
        RejectReason::Invalid {
            problem: InvalidName::PacketTooLarge,
            ..
        }
    ));
    // The connection stays, and nothing of the invalid commands went out.
    let ticket = running.publish("a", "valid");
    let publish = link.expect_publish();
    assert_eq!(publish.payload, "valid");
    link.send_puback(publish.pkid);
    assert!(told(ticket).is_delivered());
    assert_eq!(running.terminate(link).1.connects, 1);
}

#[test]
fn a_loop_dropped_before_it_ran_cancels_everything() {
    let broker = ScriptedBroker::bind();
    let client = Client::new(options(&broker)).unwrap();
    let (agent, handle) = client.open();
    let tickets = [
        handle.publish(qos1("a", "1")).unwrap(),
        handle.ping().unwrap(),
        handle.disconnect(),
        handle.terminate(HANG),
    ];
    drop(agent);
    for outcome in all_told(tickets) {
        assert_eq!(outcome, Outcome::Cancelled(Reason::LoopEnded));
    }
    let rejected = handle.publish(qos1("a", "1")).unwrap_err();
    assert_eq!(rejected.reason, RejectReason::Terminated);
    let late = told(handle.reconnect());
    assert_eq!(late, Outcome::Cancelled(Reason::LoopEnded));
}

#[test]
fn commands_queued_while_the_loop_ends_are_not_forgotten() {
    let broker = ScriptedBroker::bind();
    for _ in 0..100 {
        let mut options = options(&broker);
        options.command_queue = 4;
        let running = Running::start(options);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let handle = running.handle().clone();
                // Each thread holds a handle until its last ticket has resolved.
                thread::spawn(move || {
                    while let Ok(ticket) = handle.ping() {
                        assert!(matches!(told(ticket), Outcome::Cancelled(_)));
                    }
                })
            })
            .collect();
        assert!(told(running.handle().terminate(Duration::ZERO)).is_delivered());
        assert!(running.join().result.is_ok());
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
