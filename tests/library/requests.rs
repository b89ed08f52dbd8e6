//! Requests and their responses [MQTT 5, 4.10], with a scripted broker that sees each byte.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::running::{Running, options, told};
use crate::support::scripted5::{ACCEPTED5, RESUMED5, ack5, answers5, connack5};
use crate::support::scripted5::{message5, options5, with_length};
use crate::support::{Connection, HANG, ScriptedBroker, wait_until};
use mqtt_connection_sharing::limits::{Limit, Limits};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{
    Client, Message, MessageProperties, NoResponse, Outcome, PendingResponse, Publish, QoS, Reason,
    ReasonCode, RejectReason, RequestError,
};

/// SUBSCRIBE of the client `loop`, without its identifier: QoS 1, no retained messages.
const SUBSCRIBED: &[u8] = b"\x00\x00\x10responses/loop/#\x21";

fn request(topic: &str) -> Publish {
    Publish::new(topic, QoS::AtLeastOnce, "7")
}

/// SUBSCRIBE comes, with this packet identifier, and is answered with this code.
#[track_caller]
fn expect_subscribe(link: &mut Connection, code: u8) {
    let packet = link.read_bytes();
    assert_eq!((packet[0], &packet[4..]), (0x82, SUBSCRIBED));
    let id = u16::from_be_bytes([packet[2], packet[3]]);
    link.send(&answers5(0x90, id, &[code]));
}

/// A request as the broker sees it.
struct Asked {
    id: u16,
    correlation: Vec<u8>,
}

/// PUBLISH of QoS 1 to `q` comes, with a response topic, correlation data, and an expiry of so many seconds at most, or of
/// one more, if the request came while the loop was busy.
#[track_caller]
fn expect_request(link: &mut Connection, most_seconds: u8) -> Asked {
    let packet = link.read_bytes();
    assert_eq!(
        (&packet[..1], &packet[2..5]),
        (&b"\x32"[..], &b"\x00\x01q"[..])
    );
    let (expiry, rest) = packet[8..packet.len() - 1].split_at(5);
    assert_eq!(expiry[..4], *b"\x02\x00\x00\x00");
    assert!((1..=most_seconds + 1).contains(&expiry[4]), "{expiry:?}");
    let head = b"\x08\x00\x17responses/loop/response\x09\x00\x10";
    assert_eq!(rest[..head.len()], *head);
    Asked {
        id: u16::from_be_bytes([packet[5], packet[6]]),
        correlation: rest[head.len()..].to_vec(),
    }
}

/// A response with this correlation data, as QoS 0.
fn response(correlation: &[u8], payload: &[u8]) -> Vec<u8> {
    let properties = [b"\x09\x00\x10", correlation].concat();
    message5(0x30, "responses/loop/response", 0, &properties, payload)
}

fn start(running: &Running, topic: &str) -> PendingResponse {
    let handle = running.handle();
    handle.start_request(request(topic), HANG).unwrap()
}

fn payload(end: Result<Arc<Message>, NoResponse>) -> Vec<u8> {
    end.unwrap().payload().to_vec()
}

#[test]
fn many_threads_have_requests_under_way_and_each_has_its_own_response() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let handle = running.handle().clone();
            thread::spawn(move || handle.request(request("q"), HANG))
        })
        .collect();
    expect_subscribe(&mut link, 1);
    let asked: Vec<_> = (0..4).map(|_| expect_request(&mut link, 30)).collect();
    // The other way round, half of them ahead of the acknowledgment, and each with its correlation data as payload.
    for one in asked.iter().rev() {
        let answer = response(&one.correlation, &one.correlation);
        let ack = ack5(0x40, one.id, 0);
        match one.id % 2 {
            0 => link.send(&[&answer[..], &ack].concat()),
            _ => link.send(&[&ack[..], &answer].concat()),
        }
    }
    let mut payloads: Vec<_> = threads
        .into_iter()
        .map(|thread| {
            let message = thread.join().unwrap().unwrap();
            let received = message.received().unwrap();
            let correlation = received.properties.correlation_data.clone().unwrap();
            assert_eq!(message.payload(), correlation);
            correlation.to_vec()
        })
        .collect();
    payloads.sort();
    let mut expected: Vec<_> = asked.iter().map(|one| one.correlation.clone()).collect();
    expected.sort();
    assert_eq!(payloads, expected);
    // A second time, and of nobody's request. The subscription is kept: the next request has none before it.
    link.send(&response(&asked[0].correlation, b"again"));
    link.send(&response(&[7; 16], b"unknown"));
    let next = start(&running, "q");
    let one = expect_request(&mut link, 30);
    link.send(&response(&one.correlation, b"8"));
    assert_eq!(payload(next.wait()), b"8");
    wait_until("the counts", || {
        let stats = running.handle().stats();
        let counts = (
            stats.responses,
            stats.late_responses,
            stats.unknown_responses,
        );
        counts == (5, 1, 1)
    });
    running.terminate5(link);
}

#[test]
fn the_ends_without_a_response_are_told_apart() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let refused = start(&running, "q");
    let without_subscribers = start(&running, "q");
    expect_subscribe(&mut link, 1);
    let one = expect_request(&mut link, 30);
    let two = expect_request(&mut link, 30);
    let reason = b"\x1f\x00\x02no";
    let body = [&one.id.to_be_bytes()[..], b"\x87", &with_length(reason)].concat();
    link.send(&[&[0x40, body.len() as u8], &body[..]].concat());
    link.send(&ack5(0x40, two.id, 0x10));
    let Err(NoResponse::Refused(answer)) = refused.wait() else {
        panic!("refused");
    };
    assert_eq!(answer.code, ReasonCode::new(0x87));
    assert_eq!(answer.details.reason.as_deref(), Some("no"));
    let told = without_subscribers.wait().unwrap_err();
    assert!(matches!(told, NoResponse::NoSubscribers(_)), "{told}");
    // The message expires with its time, in whole seconds.
    let timeout = Duration::from_millis(2_100);
    let late = running.handle().start_request(request("q"), timeout);
    let one = expect_request(&mut link, 3);
    link.send(&ack5(0x40, one.id, 0));
    assert_eq!(late.unwrap().wait(), Err(NoResponse::TimedOut));
    link.send(&response(&one.correlation, b"late"));
    wait_until("the late response", || {
        running.handle().stats().late_responses == 1
    });
    // The loop ends while one is awaited, another one not acknowledged.
    let awaited = start(&running, "q");
    let one = expect_request(&mut link, 30);
    link.send(&ack5(0x40, one.id, 0));
    let unacknowledged = start(&running, "q");
    expect_request(&mut link, 30);
    running.terminate5(link);
    for pending in [awaited, unacknowledged] {
        let ended = NoResponse::PerhapsDelivered(Reason::Terminated);
        assert_eq!(pending.wait(), Err(ended));
    }
}

#[test]
fn without_its_subscription_no_request_waits_and_the_next_one_subscribes_again() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let pending = start(&running, "q");
    expect_subscribe(&mut link, 0x87);
    let one = expect_request(&mut link, 30);
    link.send(&ack5(0x40, one.id, 0));
    let Err(NoResponse::NotSubscribed(outcome)) = pending.wait() else {
        panic!("not subscribed");
    };
    assert!(matches!(*outcome, Outcome::Refused { .. }), "{outcome}");
    let pending = start(&running, "q");
    expect_subscribe(&mut link, 1);
    let one = expect_request(&mut link, 30);
    link.send(&response(&one.correlation, b"1"));
    assert_eq!(payload(pending.wait()), b"1");
    running.terminate5(link);
}

#[test]
fn a_response_on_the_next_link_finds_its_request() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let pending = start(&running, "q");
    expect_subscribe(&mut link, 1);
    let one = expect_request(&mut link, 30);
    link.send(&ack5(0x40, one.id, 0));
    assert!(told(running.handle().process_loop()).is_delivered());
    let mut link = running.resume5(&mut broker, link);
    link.send(&response(&one.correlation, b"1"));
    assert_eq!(payload(pending.wait()), b"1");
    running.terminate5(link);
}

#[test]
fn the_client_identifier_that_the_broker_has_chosen_is_that_of_the_topic() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.client_id = String::new();
    options.version5.response_prefix = "a/b".to_owned();
    let running = Running::start(options);
    let pending = start(&running, "q");
    let connack = connack5(false, b"\x12\x00\x02it");
    let (mut link, _) = running.greet5(&mut broker, &connack);
    let subscribe = link.read_bytes();
    assert_eq!(&subscribe[4..], b"\x00\x00\x08a/b/it/#\x21");
    link.send(&answers5(0x90, 1, &[1]));
    let packet = link.read_bytes();
    let topic = b"\x08\x00\x0fa/b/it/response";
    assert!(packet.windows(topic.len()).any(|part| part == topic));
    drop(pending);
    running.terminate5(link);
}

#[test]
fn a_request_that_is_not_sent_in_time_is_never_sent() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options5(&broker));
    let begin = Instant::now();
    let timeout = Duration::from_millis(10);
    // There is no connection yet: the thread looks at the clock itself.
    let end = running.handle().request(request("q"), timeout);
    let never = RequestError::NoResponse(NoResponse::NeverSent(Reason::Expired));
    assert_eq!(end, Err(never));
    assert!(begin.elapsed() >= timeout);
    let (mut link, _) = running.greet5(&mut broker, &connack5(false, &[]));
    // Neither it nor its subscription is sent.
    drop(running.handle().publish(request("next")).unwrap());
    let packet = link.read_bytes();
    assert_eq!(&packet[2..8], b"\x00\x04next");
    wait_until("its end", || running.handle().stats().never_sent == 1);
    running.terminate5(link);
}

/// The broker takes one message at a time, and has one. The request outlives the wait for its response.
#[test]
fn a_request_that_still_waits_for_the_broker_is_not_told_as_sent() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"\x21\x00\x01");
    let handle = running.handle();
    drop(handle.publish(request("first")).unwrap());
    assert_eq!(link.read_bytes()[0], 0x32);
    let lasting = request("q").with_properties(MessageProperties {
        expiry: Some(600),
        ..MessageProperties::default()
    });
    // PING has the loop take the request, too [MQTT-3.3.4-8].
    let pending = handle.start_request(lasting, Duration::from_secs(2));
    let ping = handle.ping().unwrap();
    expect_subscribe(&mut link, 1);
    assert_eq!(link.read_bytes(), b"\xc0\x00");
    link.send(b"\xd0\x00");
    assert!(told(ping).is_delivered());
    let end = pending.unwrap().wait().unwrap_err();
    assert_eq!(end, NoResponse::TimedOut);
    assert_eq!(
        end.to_string(),
        "no response came in time; the request was perhaps sent, or still will be"
    );
    let rest = running.terminate5(link);
    assert!(rest.iter().all(|packet| packet[0] != 0x32), "{rest:?}");
}

#[test]
fn what_cannot_be_a_request_comes_back_at_once() {
    let broker = ScriptedBroker::bind();
    let reject = |options: Options, publish: Publish| {
        let (agent, handle) = Client::new(options).unwrap().open();
        let error = handle.request(publish.clone(), HANG).unwrap_err();
        drop(agent);
        let RequestError::Rejected(rejected) = error else {
            panic!("{error}");
        };
        assert_eq!(rejected.command, publish, "unchanged");
        rejected
    };
    let rejected = reject(options(&broker), request("q"));
    assert_eq!(rejected.reason, RejectReason::NeedsVersion5);
    assert_eq!(
        rejected.to_string(),
        "the command was not accepted: a request needs MQTT 5, and this connection speaks MQTT 3.1.1"
    );
    let mut wild = options5(&broker);
    wild.client_id = "a+b".to_owned();
    let rejected = reject(wild, request("q"));
    let RejectReason::Invalid { name, .. } = &rejected.reason else {
        panic!("{rejected}");
    };
    assert_eq!(name, "responses/a+b/response");
    let mut limited = options5(&broker);
    limited.limits.topic_slashes = 1;
    let rejected = reject(limited, request("q"));
    let RejectReason::Limit { name, .. } = &rejected.reason else {
        panic!("{rejected}");
    };
    assert_eq!(name, "responses/loop/#");
    let rejected = reject(options5(&broker), request("q/+"));
    assert!(matches!(rejected.reason, RejectReason::Invalid { .. }));
}

#[test]
fn a_request_is_made_with_the_limits_of_aws_and_comes_back_only_where_it_would_expire_too_late() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.limits = Limits::aws_iot();
    let (running, mut link) = Running::online5_with(options, &mut broker, &[]);
    let handle = running.handle();
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let rejected = handle.start_request(request("q"), days(8)).unwrap_err();
    let RejectReason::Limit { exceeded, .. } = &rejected.reason else {
        panic!("{rejected}");
    };
    assert_eq!(exceeded.limit(), Limit::MessageExpiry);
    drop(handle.start_request(request("r"), days(7)).unwrap());
    expect_subscribe(&mut link, 1);
    // The seven days, or less if the loop was busy.
    let expiry = link.read_bytes()[9..13].try_into().unwrap();
    assert!((604_000..=604_800).contains(&u32::from_be_bytes(expiry)));
    let pending = start(&running, "q");
    let one = expect_request(&mut link, 30);
    link.send(&response(&one.correlation, b"8"));
    assert_eq!(payload(pending.wait()), b"8");
    running.terminate5(link);
}

#[test]
fn terminate_waits_for_a_response_that_is_awaited_as_long_as_its_grace() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let dropped = start(&running, "q");
    let pending = start(&running, "q");
    expect_subscribe(&mut link, 1);
    for _ in 0..2 {
        let one = expect_request(&mut link, 30);
        link.send(&ack5(0x40, one.id, 0));
    }
    wait_until("both to be acknowledged", || {
        running.handle().stats().delivered == 2
    });
    drop(dropped);
    let ended = running.handle().terminate(HANG);
    assert!(told(running.handle().process_loop()).is_delivered());
    assert_eq!(ended.outcome(), None);
    drop(pending);
    // Nobody awaits anything any more. The loop looks when it is awake.
    assert!(told(running.handle().process_loop()).is_delivered());
    assert_eq!(link.read_to_end(), [b"\xe0\x00"]);
    link.close();
    assert!(told(ended).is_delivered());
    assert!(running.join().result.is_ok());
}

/// Nobody waits, so the loop's own timer ends it; also while there is no connection.
#[test]
fn the_loop_ends_a_request_in_time() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let timeout = Duration::from_secs(3);
    let pending = running.handle().start_request(request("q"), timeout);
    expect_subscribe(&mut link, 1);
    let one = expect_request(&mut link, 3);
    link.send(&ack5(0x40, one.id, 0));
    wait_until("the acknowledgment", || {
        running.handle().stats().delivered == 1
    });
    link.close();
    let pending = pending.unwrap();
    wait_until("the end of its time", || pending.outcome().is_some());
    assert_eq!(pending.outcome(), Some(Err(NoResponse::TimedOut)));
    let (link, _) = running.greet5(&mut broker, RESUMED5);
    running.terminate5(link);
}

#[test]
fn a_task_awaits_its_response() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let handle = running.handle().clone();
    let task = thread::spawn(move || {
        let executor = tokio::runtime::Builder::new_current_thread().build();
        executor.unwrap().block_on(async move {
            let response = handle.request_async(request("q"), HANG).await?.await?;
            Ok::<_, RequestError>(response.payload().to_vec())
        })
    });
    expect_subscribe(&mut link, 1);
    let one = expect_request(&mut link, 30);
    link.send(&response(&one.correlation, b"49"));
    assert_eq!(task.join().unwrap(), Ok(b"49".to_vec()));
    running.terminate5(link);
}

/// The broker has forgotten the subscription and does not grant it again: what is awaited ends, and what comes later
/// subscribes anew.
#[test]
fn a_subscription_that_is_not_renewed_ends_the_requests() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let pending = start(&running, "q");
    expect_subscribe(&mut link, 1);
    let one = expect_request(&mut link, 30);
    link.send(&ack5(0x40, one.id, 0));
    wait_until("the acknowledgment", || {
        running.handle().stats().delivered == 1
    });
    link.close();
    let (mut link, _) = running.greet5(&mut broker, ACCEPTED5);
    let renewal = link.read_bytes();
    assert_eq!((renewal[0], &renewal[4..]), (0x82, SUBSCRIBED));
    let id = u16::from_be_bytes([renewal[2], renewal[3]]);
    link.send(&answers5(0x90, id, &[0x87]));
    let told = pending.wait().unwrap_err();
    assert!(matches!(told, NoResponse::NotRenewed), "{told}");
    let pending = start(&running, "q");
    expect_subscribe(&mut link, 1);
    let one = expect_request(&mut link, 30);
    link.send(&response(&one.correlation, b"1"));
    assert_eq!(payload(pending.wait()), b"1");
    running.terminate5(link);
}

/// Wildcard subscription available: 0, from a broker that has forgotten the session. Nothing asks it for the filter with a
/// wildcard, so it has refused nothing.
#[test]
fn a_subscription_that_the_next_broker_cannot_take_is_not_told_as_refused() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let pending = start(&running, "q");
    expect_subscribe(&mut link, 1);
    let one = expect_request(&mut link, 30);
    link.send(&ack5(0x40, one.id, 0));
    wait_until("the acknowledgment", || {
        running.handle().stats().delivered == 1
    });
    link.close();
    let (link, _) = running.greet5(&mut broker, &connack5(false, b"\x28\x00"));
    let told = pending.wait().unwrap_err();
    assert_eq!(told, NoResponse::NotRenewed);
    assert!(!told.to_string().contains("refused"), "{told}");
    running.terminate5(link);
}

/// Wildcard subscription available: 0.
#[test]
fn a_broker_without_wildcards_is_asked_for_the_one_topic() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"\x28\x00");
    let pending = start(&running, "q");
    let subscribe = link.read_bytes();
    assert_eq!(subscribe[4..], *b"\x00\x00\x17responses/loop/response\x21");
    let id = u16::from_be_bytes([subscribe[2], subscribe[3]]);
    link.send(&answers5(0x90, id, &[1]));
    let one = expect_request(&mut link, 30);
    link.send(&response(&one.correlation, b"1"));
    assert_eq!(payload(pending.wait()), b"1");
    running.terminate5(link);
}
