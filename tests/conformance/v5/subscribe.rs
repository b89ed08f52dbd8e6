//! SUBSCRIBE and UNSUBSCRIBE: their options.

use mqtt_connection_sharing::{Filter, QoS, RetainHandling, SubscribeOptions, WhenFull};

use crate::harness::text;
use crate::support::ScriptedBroker;
use crate::support::running::{Running, told};
use crate::support::scripted5::{ACCEPTED5, answers5, packet5};

/// All 36 options, with the reserved bits 0 [MQTT-3.8.3-5], in SUBSCRIBE with flags 0010 [MQTT-3.8.1-1]. A renewal has the
/// same options, but for retained messages, which the broker is not to send again.
#[test]
fn subscribe_has_the_options_of_each_filter_and_no_reserved_bit() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let handlings = [
        RetainHandling::Always,
        RetainHandling::IfNew,
        RetainHandling::Never,
    ];
    let mut all = Vec::new();
    for level in 0..3_u8 {
        for (retain_handling, handling) in handlings.into_iter().zip(0..) {
            for flags in 0..4_u8 {
                let options = SubscribeOptions {
                    no_local: flags & 1 == 1,
                    retain_as_published: flags & 2 == 2,
                    retain_handling,
                    identifier: None,
                };
                let byte = level | flags << 2 | handling << 4;
                let qos = QoS::try_from(level).unwrap();
                let filter = format!("f{byte:02}");
                all.push((Filter::new(filter, qos).with_options(options), byte));
            }
        }
    }
    assert_eq!(all.len(), 36);
    for (filter, byte) in &all {
        let filters = vec![filter.clone()];
        let ticket = running.handle().subscribe(&inbox, filters).unwrap();
        let packet = link.read_bytes();
        let body = [&packet[2..4], b"\x00", &text(&filter.filter), &[*byte]].concat();
        assert_eq!(packet, packet5(0x82, &body));
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        link.send(&answers5(0x90, id, &[byte & 3]));
        assert!(told(ticket).is_delivered());
    }
    link.close();
    let (mut link, _) = running.greet5(&mut broker, ACCEPTED5);
    let mut renewed = Vec::new();
    while renewed.len() < all.len() {
        let packet = link.read_bytes();
        assert_eq!((packet[0], packet[4]), (0x82, 0));
        let filters: Vec<_> = packet[5..].chunks(6).map(<[u8]>::to_vec).collect();
        let granted: Vec<_> = filters.iter().map(|filter| filter[5] & 3).collect();
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        link.send(&answers5(0x90, id, &granted));
        renewed.extend(filters);
    }
    for (filter, byte) in &all {
        let asked = renewed
            .iter()
            .find(|renewed| renewed[2..5] == *filter.filter.as_bytes());
        let asked = asked.expect("a renewal")[5];
        assert_eq!(asked & 0xc0, 0, "reserved");
        assert_eq!(asked & 0x0f, byte & 0x0f, "{filter:?}");
        // IfNew, or less.
        assert!(asked >> 4 == 1 || asked >> 4 == 2, "{asked:02x}");
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
