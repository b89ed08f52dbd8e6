//! A thread that does not read its inbox while the broker sends on: what waits for it is bounded in
//! bytes, and nothing is lost. The real loop against a broker that does as it is told.

mod support;

use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use mqtt_connection_sharing::WhenFull;
use rumqttc::mqttbytes::{self, v4};
use support::running::{Running, told};
use support::{Connection, HANG, ScriptedBroker};

const PAYLOAD: usize = 255 * 1024;

/// Messages that may wait: 64 MiB, since the largest packet is not that large.
const FIT: u16 = (64 * 1024 * 1024 / (PAYLOAD + 1)) as u16;

/// Keeps the lines of the log.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn send(link: &mut Connection, ids: impl IntoIterator<Item = u16>, dup: bool) {
    for id in ids {
        let payload = vec![(id % 251) as u8; PAYLOAD];
        let mut publish = v4::Publish::new("a", mqttbytes::QoS::AtLeastOnce, payload);
        publish.pkid = id;
        publish.dup = dup;
        link.send_packet(v4::Packet::Publish(publish));
    }
}

#[test]
fn what_nobody_reads_is_bounded_in_bytes_and_arrives_in_the_end() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "a");
    // The first one finds room in the inbox, the last one none anywhere.
    let last = FIT + 2;
    send(&mut link, 1..=last, false);
    assert_eq!(link.expect_puback().pkid, 1);
    link.expect_closed();
    let (mut link, _) = broker.accept_client(true);
    // Other threads go on meanwhile.
    let ticket = running.publish("out", "x");
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    assert!(told(ticket).is_delivered());
    // What waits already costs nothing when it comes again, and is not acknowledged.
    send(&mut link, 2..last, true);
    running.take_a_turn();
    send(&mut link, [last], true);
    link.expect_closed();
    let (mut link, _) = broker.accept_client(true);
    for id in 1..last {
        let message = inbox.recv_timeout(HANG).unwrap();
        assert_eq!(message.payload.len(), PAYLOAD);
        assert_eq!(u16::from(message.payload[0]), id % 251);
    }
    // All of them before any is acknowledged again.
    running.take_a_turn();
    for id in 2..=last {
        send(&mut link, [id], true);
        assert_eq!(link.expect_puback().pkid, id);
    }
    let message = inbox.recv_timeout(HANG).unwrap();
    assert_eq!(u16::from(message.payload[0]), last % 251);
    assert!(inbox.try_recv().is_err());
    assert_eq!(inbox.dropped(), 0);
    let lines = LINES.0.lock().unwrap().clone();
    let limit = "a thread does not read its inbox, and with the next message more than 67108864 bytes \
                 would wait unacknowledged; read every inbox in time, drop it, ";
    let said = lines.iter().filter(|line| line.contains(limit));
    assert_eq!(said.count(), 2, "{lines:?}");
    assert_eq!(running.terminate(link).1.resumed, 2);
}
