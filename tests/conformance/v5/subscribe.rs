//! SUBSCRIBE and UNSUBSCRIBE: their options.

use std::num::NonZeroU32;

use mqtt_connection_sharing::{
    BrokerLimit, Filter, Outcome, QoS, Reason, RetainHandling, SubscribeOptions, WhenFull,
};

use crate::harness::text;
use crate::support::ScriptedBroker;
use crate::support::running::{Running, told};
use crate::support::scripted5::{ACCEPTED5, answers5, connack5, packet5};

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

/// SUBSCRIBE with flags 0010 [MQTT-3.8.1-1] has the identifier of its filters, in the fewest bytes [MQTT-1.5.5-1 send], also
/// when they are renewed. Filters with another one have a packet of their own. A server that takes no identifiers gets
/// none, and neither a wildcard nor a shared subscription where it takes no such filter.
#[test]
fn subscribe_has_the_identifier_of_its_filters_and_nothing_that_the_server_does_not_take() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filter = |name: &str, identifier| {
        let options = SubscribeOptions {
            identifier: NonZeroU32::new(identifier),
            ..SubscribeOptions::default()
        };
        Filter::new(name, QoS::AtMostOnce).with_options(options)
    };
    let packets = [
        (&["a"][..], 1, &b"\x02\x0b\x01"[..]),
        (&["b", "c"], 128, b"\x03\x0b\x80\x01"),
        (&["d"], 268_435_455, b"\x05\x0b\xff\xff\xff\x7f"),
        (&["e"], 0, b"\x00"),
    ];
    let all = packets.iter().flat_map(|(names, identifier, _)| {
        let filters = names.iter().map(|name| filter(name, *identifier));
        filters.collect::<Vec<_>>()
    });
    let ticket = running.handle().subscribe(&inbox, all.collect()).unwrap();
    // Renewals do not ask for retained messages that the server has sent.
    for (options, takes_identifiers) in [(0, true), (0x10, true), (0x10, false)] {
        if options != 0 {
            link.close();
            let limits: &[u8] = match takes_identifiers {
                true => b"",
                false => b"\x28\x00\x29\x00\x2a\x00",
            };
            (link, _) = running.greet5(&mut broker, &connack5(false, limits));
        }
        for (names, _, properties) in packets {
            let packet = link.read_bytes();
            let properties = if takes_identifiers {
                properties
            } else {
                b"\x00"
            };
            let filters = names
                .iter()
                .map(|name| [&text(name)[..], &[options]].concat());
            let filters = filters.collect::<Vec<_>>().concat();
            let body = [&packet[2..4], properties, &filters].concat();
            assert_eq!(packet, packet5(0x82, &body));
            let id = u16::from_be_bytes([packet[2], packet[3]]);
            link.send(&answers5(0x90, id, &vec![0; names.len()]));
        }
    }
    assert!(told(ticket).is_delivered());
    for (name, limit) in [
        ("f/+", BrokerLimit::WildcardAvailable),
        ("#", BrokerLimit::WildcardAvailable),
        ("$share/s/f", BrokerLimit::SharedAvailable),
    ] {
        let filters = vec![filter(name, 1)];
        let ticket = running.handle().subscribe(&inbox, filters).unwrap();
        assert_eq!(told(ticket), Outcome::NeverSent(Reason::BrokerLimit(limit)));
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
