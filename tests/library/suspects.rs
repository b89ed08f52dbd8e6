//! A command because of which the broker closes each link, or that it never answers, while it answers everything
//! else: it is found, tried alone and given up, and nothing else is. The real loop against a scripted broker.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::running::{Running, options, send_unsuback, told};
use crate::support::{Connection, Event, ScriptedBroker};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Handle, Outcome, Publish, QoS, Reason};
use rumqttc::mqttbytes::{self, v4};

/// Another thread publishes that often.
const RATE: Duration = Duration::from_millis(20);

/// The topic that the broker does not like.
const POISON: &str = "poison";

/// The broker's reaction to a message for [`POISON`]. It answers everything else.
#[derive(Debug, Clone, Copy)]
enum Dislike {
    NeverAcknowledges,
    ClosesAfter(Duration),
}

/// Serves connections until the sender is gone. Returns how many there were.
fn serve(mut broker: ScriptedBroker, dislike: Dislike, end: &Receiver<()>) -> usize {
    let mut links = 0;
    while end.try_recv() == Err(TryRecvError::Empty) {
        if let Some(link) = broker.accept_within(Duration::from_millis(20)) {
            links += 1;
            serve_one(link, links > 1, dislike, end);
        }
    }
    links
}

fn serve_one(mut link: Connection, session_present: bool, dislike: Dislike, end: &Receiver<()>) {
    let mut close_at = None;
    loop {
        if end.try_recv() == Err(TryRecvError::Disconnected)
            || close_at.is_some_and(|at| at <= Instant::now())
        {
            return link.close();
        }
        match link.read_event(Duration::from_millis(5)) {
            Event::Packet(packet, _) => match (packet, dislike) {
                (v4::Packet::Publish(publish), _) if publish.topic == POISON => {
                    if let Dislike::ClosesAfter(time) = dislike {
                        close_at.get_or_insert(Instant::now() + time);
                    }
                }
                (packet, _) => answer(&mut link, &packet, session_present),
            },
            Event::Closed => return,
            Event::Silence => {}
        }
    }
}

fn answer(link: &mut Connection, packet: &v4::Packet, session_present: bool) {
    let answer = match packet {
        v4::Packet::Connect(_) => {
            let code = v4::ConnectReturnCode::Success;
            v4::Packet::ConnAck(v4::ConnAck::new(code, session_present))
        }
        v4::Packet::Publish(publish) => match publish.qos {
            mqttbytes::QoS::AtMostOnce => return,
            mqttbytes::QoS::AtLeastOnce => v4::Packet::PubAck(v4::PubAck::new(publish.pkid)),
            mqttbytes::QoS::ExactlyOnce => v4::Packet::PubRec(v4::PubRec::new(publish.pkid)),
        },
        v4::Packet::PubRel(release) => v4::Packet::PubComp(v4::PubComp::new(release.pkid)),
        v4::Packet::PingReq => v4::Packet::PingResp,
        v4::Packet::Subscribe(subscribe) => return link.grant(subscribe),
        v4::Packet::Unsubscribe(unsubscribe) => return send_unsuback(link, unsubscribe.pkid),
        _ => return,
    };
    let mut bytes = bytes::BytesMut::new();
    answer.write(&mut bytes, usize::MAX).expect("a packet");
    // It may be gone: the loop gives a link up on which an acknowledgment is late.
    let _ = std::io::Write::write_all(link.stream(), &bytes);
}

/// Publishes one message after the other until it is stopped; each has to be delivered. Returns how many.
fn others(handle: Handle, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut delivered = 0;
        while !stop.load(Ordering::Relaxed) {
            let message = Publish::new("fine", QoS::AtLeastOnce, "x");
            let outcome = told(handle.publish(message).expect("room in the queue"));
            assert!(outcome.is_delivered(), "{outcome:?}");
            delivered += 1;
            thread::sleep(RATE);
        }
        delivered
    })
}

/// How a message for [`POISON`] ends, and how many links that takes.
fn publish_poison(
    dislike: Dislike,
    qos: QoS,
    change: impl FnOnce(&mut Options),
) -> (Outcome, usize) {
    let broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    change(&mut options);
    let (end, ended): (Sender<()>, _) = channel();
    let script = broker.in_thread(move |broker| serve(broker, dislike, &ended));
    let running = Running::start(options);
    let stop = Arc::new(AtomicBool::new(false));
    let others = others(running.handle().clone(), Arc::clone(&stop));
    let message = Publish::new(POISON, qos, "x");
    let outcome = told(running.handle().publish(message).expect("room"));
    stop.store(true, Ordering::Relaxed);
    assert!(others.join().expect("the other thread") > 0);
    drop(running.handle().terminate(Duration::ZERO));
    assert_eq!(running.join().left, 0);
    drop(end);
    (outcome, script.join().expect("the script"))
}

#[test]
fn a_publish_on_which_the_broker_closes_is_given_up_beside_others() {
    let dislike = Dislike::ClosesAfter(Duration::from_millis(100));
    let (outcome, links) = publish_poison(dislike, QoS::AtLeastOnce, |_| {});
    assert_eq!(outcome, Outcome::PerhapsDelivered(Reason::Parked));
    assert!(links <= 10, "{links}");
}

#[test]
fn a_publish_that_the_broker_never_acknowledges_is_given_up_beside_others() {
    let (outcome, links) = publish_poison(Dislike::NeverAcknowledges, QoS::AtLeastOnce, |o| {
        o.ack_timeout = Duration::from_millis(500);
    });
    assert!(matches!(outcome, Outcome::PerhapsDelivered(_)), "{outcome}");
    assert!(links <= 6, "{links}");
}
