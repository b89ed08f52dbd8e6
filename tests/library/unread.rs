//! A thread that does not read its inbox while the broker sends on: the bytes that wait for it are
//! bounded, publishing goes on, and nothing is lost. The real loop against a scripted broker.

use crate::support::lines::LINES;
use crate::support::running::{Running, told};
use crate::support::{Connection, Event, HANG, ScriptedBroker};
use mqtt_connection_sharing::WhenFull;
use rumqttc::mqttbytes::{self, v4};

/// No other test of this process has an inbox of that name in its log lines.
const TOPIC: &str = "unread";

const PAYLOAD: usize = 255 * 1024;

/// So many bytes a message counts: topic, payload and 256 beside them.
const COUNTED: usize = PAYLOAD + TOPIC.len() + 256;

/// So many messages may count as accepted while they wait: 64 MiB, since the largest packet is smaller than that.
const LIMIT: u16 = (64 * 1024 * 1024 / COUNTED) as u16;

/// So many may wait at all.
const BOUND: u16 = (80 * 1024 * 1024 / COUNTED) as u16;

fn send(link: &mut Connection, ids: impl IntoIterator<Item = u16>, dup: bool) {
    for id in ids {
        let payload = vec![(id % 251) as u8; PAYLOAD];
        let mut publish = v4::Publish::new(TOPIC, mqttbytes::QoS::AtLeastOnce, payload);
        publish.pkid = id;
        publish.dup = dup;
        link.send_packet(v4::Packet::Publish(publish));
    }
}

#[test]
fn unread_messages_are_bounded_in_bytes_and_arrive_in_the_end() {
    LINES.start();
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, TOPIC);
    // The first message has room in the inbox, the last ones have room nowhere.
    let last = 1 + BOUND + 3;
    send(&mut link, 1..=last, false);
    // After a second the inbox is slow, and its messages count as accepted up to the limit.
    for id in 1..=1 + LIMIT {
        assert_eq!(link.expect_puback().pkid, id);
    }
    publishing_goes_on(&running, &mut link);
    link.close();
    let (mut link, _) = broker.accept_client(true);
    // Messages that wait already need no room when they come again, and are not acknowledged. As brokers
    // do, this one sends all of them before it answers anything else.
    send(&mut link, 2 + LIMIT..=last, true);
    publishing_goes_on(&running, &mut link);
    for id in 1..=1 + BOUND {
        let message = inbox.recv_timeout(HANG).unwrap();
        assert_eq!(message.payload().len(), PAYLOAD);
        assert_eq!(u16::from(message.payload()[0]), id % 251);
    }
    // The loop makes the new link once there is room for half of the limit again.
    let acknowledged = pubacks_until_closed(&mut link, 2 + LIMIT);
    assert!(acknowledged <= 1 + BOUND, "{acknowledged}");
    let (mut link, _) = broker.accept_client(true);
    send(&mut link, acknowledged + 1..=last, true);
    for id in 2 + BOUND..=last {
        let message = inbox.recv_timeout(HANG).unwrap();
        assert_eq!(u16::from(message.payload()[0]), id % 251);
    }
    for id in acknowledged + 1..=last {
        assert_eq!(link.expect_puback().pkid, id);
    }
    assert!(inbox.try_recv().is_err());
    assert_eq!(inbox.dropped(), 0);
    let said = |text: &str| {
        LINES
            .with(0, " messages wait for the inbox of \"unread\"", text)
            .len()
    };
    assert_eq!(said("the broker until half of that is read"), 2);
    assert!(said("further ones wait unacknowledged") > 0);
    let own = format!(":{}", broker.port());
    assert_eq!(
        LINES.with(0, &own, "a thread reads its inbox again").len(),
        1
    );
    let (_, stats) = running.terminate(link);
    assert_eq!(
        (stats.resumed, stats.held_back),
        (2, u64::from(BOUND - LIMIT))
    );
}

#[track_caller]
fn publishing_goes_on(running: &Running, link: &mut Connection) {
    let ticket = running.publish("out", "x");
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    assert!(told(ticket).is_delivered());
}

/// Checks that PUBACKs come in order, beginning with `from`; returns the last identifier.
#[track_caller]
fn pubacks_until_closed(link: &mut Connection, from: u16) -> u16 {
    let (mut next, mut left) = (from, false);
    loop {
        match link.read_event(HANG) {
            Event::Packet(v4::Packet::PubAck(ack), _) => {
                assert_eq!(ack.pkid, next);
                next += 1;
            }
            Event::Packet(v4::Packet::Disconnect, _) => left = true,
            Event::Closed => {
                assert!(left, "the broker would publish the last will");
                return next - 1;
            }
            other => panic!("{other:?}"),
        }
    }
}
