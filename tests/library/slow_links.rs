//! A large message over a slow link, with the system's buffers between: bytes pass, so nothing is late.

use std::io::Read;
use std::time::Duration;

use crate::support::running::{Running, attempts, options, told};
use crate::support::{Connection, HANG, ScriptedBroker};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Publish, QoS};

/// The other side moves the next piece when this time is over.
const PAUSE: Duration = Duration::from_millis(50);

/// PINGRESP may take half a second, and longer while bytes pass; so a loaded machine does no harm.
fn impatient(broker: &ScriptedBroker) -> Options {
    let mut options = options(broker);
    options.keep_alive = Duration::from_secs(1);
    options.ack_timeout = HANG;
    options
}

/// Ends a loop whose broker has read what it has read, and had this one link.
fn end(running: Running, link: Connection) {
    let ticket = running.handle().terminate(Duration::ZERO);
    link.close();
    assert_eq!(running.join().stats.connects, 1);
    assert!(told(ticket).is_delivered());
}

#[test]
fn a_large_message_that_leaves_slowly_does_not_end_the_link() {
    const SIZE: usize = 700_000;
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online_with(impatient(&broker), &mut broker);
    let publish = Publish::new("big", QoS::AtLeastOnce, vec![7; SIZE]);
    let ticket = running.handle().publish(publish).unwrap();
    // Read by hand: the script would read all that is there.
    let mut read = Vec::new();
    let mut piece = vec![0; SIZE / 60];
    link.stream().set_read_timeout(Some(HANG)).unwrap();
    // Type, length in three bytes, topic, identifier; a PINGREQ may stand before it.
    let begin = |read: &[u8]| read.iter().position(|byte| *byte == 0x32);
    while begin(&read).is_none_or(|begin| read.len() < begin + 1 + 3 + 2 + 3 + 2 + SIZE) {
        let another = broker.accept_within(PAUSE);
        assert!(another.is_none(), "given up while it was being read");
        let length = link.stream().read(&mut piece).unwrap();
        assert!(length > 0, "closed while it was being read");
        read.extend_from_slice(&piece[..length]);
    }
    let id = &read[begin(&read).unwrap() + 1 + 3 + 2 + 3..][..2];
    link.send_puback(u16::from_be_bytes([id[0], id[1]]));
    assert_eq!(attempts(told(ticket)), 1);
    end(running, link);
}

#[test]
fn a_large_message_that_arrives_slowly_does_not_end_the_link() {
    const SIZE: usize = 200_000;
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online_with(impatient(&broker), &mut broker);
    let length = SIZE + 3;
    let mut packet = vec![0x30];
    packet.extend((0..2).map(|n| (length >> (7 * n)) as u8 | 0x80));
    packet.extend([(length >> 14) as u8, 0, 1, b'x']);
    packet.resize(packet.len() + SIZE, 7);
    for piece in packet.chunks(SIZE / 60) {
        let another = broker.accept_within(PAUSE);
        assert!(another.is_none(), "given up while it was being sent");
        link.send(piece);
    }
    let message = running.handle().unmatched().recv_timeout(HANG).unwrap();
    assert_eq!(message.payload().len(), SIZE);
    end(running, link);
}
