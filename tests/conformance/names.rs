//! Topic names and topic filters: those that are sent, and those that are handed back instead.

use mqtt_connection_sharing::{Filter, InvalidName, Publish, QoS};
use mqtt_connection_sharing::{Inbox, RejectReason, WhenFull};

use crate::harness::{CONNECT, Submit, message, online, terminate, text};
use crate::support::running::{Running, next, told};
use crate::support::{Connection, ScriptedBroker};

/// Checks that PUBLISH with this topic is handed back, at each QoS.
#[track_caller]
pub fn expect_topic_refused(running: &Running, topic: &str, problem: InvalidName) {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let publish = Publish::new(topic, qos, "payload");
        let rejected = running.handle().publish(publish.clone());
        let rejected = rejected.expect_err("a topic that is refused");
        assert_eq!(rejected.command, publish);
        expect_reason(&rejected.reason, topic, problem);
    }
}

/// Checks that SUBSCRIBE and UNSUBSCRIBE with this filter are handed back, also together with good ones.
#[track_caller]
pub fn expect_filter_refused(running: &Running, inbox: &Inbox, filter: &str, problem: InvalidName) {
    for filters in [vec![filter], vec!["good", filter], vec![filter, "good"]] {
        let asked: Vec<_> = filters
            .iter()
            .map(|filter| Filter::new(*filter, QoS::AtLeastOnce))
            .collect();
        let rejected = running.handle().subscribe(inbox, asked.clone());
        let rejected = rejected.expect_err("a filter that is refused");
        assert_eq!(rejected.command, asked);
        expect_reason(&rejected.reason, filter, problem);
        let leaving: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        let rejected = running.handle().unsubscribe(inbox, leaving.clone());
        let rejected = rejected.expect_err("a filter that is refused");
        assert_eq!(rejected.command, leaving);
        expect_reason(&rejected.reason, filter, problem);
    }
}

#[track_caller]
fn expect_reason(reason: &RejectReason, name: &str, problem: InvalidName) {
    match reason {
        RejectReason::Invalid {
            name: named,
            problem: told,
        } => assert_eq!((named.as_str(), *told), (name, problem)),
        other => panic!("{name:?}: {other:?}"),
    }
}

/// Checks that only CONNECT and DISCONNECT were sent on this connection.
#[track_caller]
fn expect_nothing_sent(running: Running, link: Connection, broker: ScriptedBroker) {
    terminate(running, link);
    assert_eq!(broker.shutdown(), [[CONNECT, b"\xe0\x00"].concat()]);
}

/// Checks that SUBSCRIBE and then UNSUBSCRIBE with this filter reach the broker unchanged.
#[track_caller]
fn expect_filter_sent(running: &Running, link: &mut Connection, inbox: &Inbox, filter: &str) {
    let filters = vec![Filter::new(filter, QoS::AtLeastOnce)];
    let ticket = running.handle().subscribe(inbox, filters).unwrap();
    let subscribe = link.read_bytes();
    assert_eq!(subscribe[0], 0x82);
    let field = [&text(filter)[..], &[1]].concat();
    assert!(subscribe.ends_with(&field), "{filter:?}: {subscribe:02x?}");
    let at = subscribe.len() - field.len() - 2;
    link.send(&[b"\x90\x03", &subscribe[at..at + 2], b"\x01"].concat());
    assert!(told(ticket).is_delivered());
    let leaving = vec![filter.to_owned()];
    let ticket = running.handle().unsubscribe(inbox, leaving).unwrap();
    let unsubscribe = link.read_bytes();
    assert_eq!(unsubscribe[0], 0xa2);
    assert!(unsubscribe.ends_with(&text(filter)), "{unsubscribe:02x?}");
    let at = unsubscribe.len() - text(filter).len() - 2;
    link.send(&[b"\xb0\x02", &unsubscribe[at..at + 2]].concat());
    assert!(told(ticket).is_delivered());
}

#[test]
fn mqtt_3_3_2_1_the_topic_name_is_the_first_field_of_publish() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    drop(running.send(QoS::AtMostOnce, "a", "payload"));
    link.expect_bytes(b"\x30\x0a\x00\x01apayload");
    drop(running.send(QoS::AtLeastOnce, "a/b", "payload"));
    link.expect_bytes(b"\x32\x0e\x00\x03a/b\x00\x01payload");
    drop(running.send(QoS::ExactlyOnce, "/", ""));
    link.expect_bytes(b"\x34\x05\x00\x01/\x00\x02");
    terminate(running, link);
}

#[test]
fn mqtt_3_3_2_2_send_a_topic_with_a_wildcard_is_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = online(&mut broker);
    for topic in [
        "+", "#", "a/+", "+/a", "a/#", "a/+/b", "a+", "a#b", "/#", "$x/#",
    ] {
        expect_topic_refused(&running, topic, InvalidName::WildcardInTopic);
    }
    expect_nothing_sent(running, link, broker);
}

#[test]
fn mqtt_4_7_1_1_wildcards_are_sent_in_filters_only() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    for name in ["#", "+", "a/#", "+/a", "a/+/b/#", "/+"] {
        expect_filter_sent(&running, &mut link, &inbox, name);
        expect_topic_refused(&running, name, InvalidName::WildcardInTopic);
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_7_1_2_a_number_sign_that_is_not_the_whole_last_level_is_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    for good in ["#", "/#", "a/#", "a/b/#", "+/#", "a//#", "$share/g/#"] {
        expect_filter_sent(&running, &mut link, &inbox, good);
    }
    for bad in [
        "a#",
        "#a",
        "##",
        "a/b#",
        "a/#/b",
        "#/",
        "#/a",
        "a/#/",
        "$share/g/a#",
    ] {
        expect_filter_refused(&running, &inbox, bad, InvalidName::MisplacedMultiLevel);
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_7_1_3_a_plus_sign_that_is_not_a_whole_level_is_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    for good in [
        "+",
        "/+",
        "+/",
        "a/+",
        "+/a",
        "+/+/+",
        "a/+/b",
        "+/#",
        "$share/g/+",
    ] {
        expect_filter_sent(&running, &mut link, &inbox, good);
    }
    for bad in [
        "a+",
        "+a",
        "++",
        "a/b+",
        "+a/b",
        "a/+b/c",
        "a+/#",
        "$share/g/a+",
    ] {
        expect_filter_refused(&running, &inbox, bad, InvalidName::MisplacedSingleLevel);
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_7_3_1_an_empty_topic_and_an_empty_filter_are_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    expect_topic_refused(&running, "", InvalidName::Empty);
    expect_filter_refused(&running, &inbox, "", InvalidName::Empty);
    // One character is enough, and levels may be empty.
    for topic in ["a", "/", " ", "//"] {
        drop(running.send(QoS::AtMostOnce, topic, ""));
        let packet = link.read_bytes();
        assert_eq!(packet[2..], text(topic), "{topic:?}");
        expect_filter_sent(&running, &mut link, &inbox, topic);
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_7_3_2_a_topic_or_filter_with_u_0000_is_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let excluded = |position, character| InvalidName::Character {
        character,
        position,
    };
    for (name, position) in [
        ("\0", 1),
        ("a\0", 2),
        ("\0a", 1),
        ("a/\0/b", 3),
        ("a\0b", 2),
        ("ä\0", 2),
    ] {
        expect_topic_refused(&running, name, excluded(position, '\0'));
        expect_filter_refused(&running, &inbox, name, excluded(position, '\0'));
    }
    expect_filter_refused(&running, &inbox, "a/\0/#", excluded(3, '\0'));
    // Others that a server may close the connection on [1.5.3].
    for character in [
        '\n',
        '\r',
        '\t',
        '\u{1f}',
        '\u{7f}',
        '\u{9f}',
        '\u{fdd0}',
        '\u{fffe}',
        '\u{10ffff}',
    ] {
        let name = format!("ä/{character}");
        expect_topic_refused(&running, &name, excluded(3, character));
        expect_filter_refused(&running, &inbox, &name, excluded(3, character));
    }
    expect_nothing_sent(running, link, broker);
}

#[test]
fn mqtt_4_7_3_3_up_to_65535_bytes_are_sent_and_65536_are_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    // In one level, and in as many as there can be. The limit counts bytes, not characters.
    let longest = ["x".repeat(65_535), "/".repeat(65_535), "ää/".repeat(13_107)];
    for topic in longest {
        assert_eq!(topic.len(), 65_535);
        drop(running.send(QoS::AtMostOnce, &topic, "!"));
        let expected = [b"\x30\x82\x80\x04\xff\xff", topic.as_bytes(), b"!"].concat();
        assert!(link.read_bytes() == expected);
        expect_filter_sent(&running, &mut link, &inbox, &topic);
        let longer = topic + "y";
        expect_topic_refused(&running, &longer, InvalidName::TooLong);
        expect_filter_refused(&running, &inbox, &longer, InvalidName::TooLong);
    }
    let much_longer = "x".repeat(1_000_000);
    expect_topic_refused(&running, &much_longer, InvalidName::TooLong);
    expect_filter_refused(&running, &inbox, &much_longer, InvalidName::TooLong);
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

/// Checks rows of a filter, topics that match it, and topics that do not. The inbox of the filter
/// receives the former, the default inbox the latter.
fn expect_matches(rows: &[(&str, &[&str], &[&str])]) {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    for (filter, matching, others) in rows {
        let inbox = running.handle().inbox(1, WhenFull::WaitAside);
        running.subscribe(&mut link, &inbox, filter);
        for topic in *matching {
            link.send(&message(0x32, topic, 1, topic.as_bytes()));
            link.expect_bytes(b"\x40\x02\x00\x01");
            assert_eq!(next(&inbox), *topic, "{filter:?}");
        }
        for topic in *others {
            link.send(&message(0x32, topic, 1, topic.as_bytes()));
            link.expect_bytes(b"\x40\x02\x00\x01");
            let unmatched = running.handle().unmatched().try_recv();
            let unmatched = unmatched.map(|message| message.topic().to_owned());
            assert_eq!(unmatched.as_deref(), Ok(*topic), "{filter:?}");
            assert!(inbox.try_recv().is_err(), "{filter:?} {topic:?}");
        }
        let leaving = vec![(*filter).to_owned()];
        let ticket = running.handle().unsubscribe(&inbox, leaving).unwrap();
        let id = crate::harness::identifier(&link.read_bytes());
        link.send(&crate::harness::ack(0xb0, id));
        assert!(told(ticket).is_delivered());
    }
    terminate(running, link);
}

#[test]
fn mqtt_4_7_2_1_a_leading_wildcard_does_not_match_a_topic_that_begins_with_a_dollar_sign() {
    expect_matches(&[
        (
            "#",
            &["a", "/", "a/$b", "ä"],
            &["$", "$SYS", "$SYS/a", "$a/b/c"],
        ),
        ("+", &["a", "ä"], &["$", "$SYS"]),
        ("+/a", &["b/a", "/a"], &["$SYS/a"]),
        ("+/#", &["a", "a/b", "/"], &["$SYS", "$SYS/a"]),
        ("+/+", &["a/b", "/"], &["$SYS/a"]),
        ("$share/g/#", &["a/b"], &["$SYS/a"]),
        ("$share/g/+/a", &["b/a"], &["$SYS/a"]),
        // Such a topic matches if the filter spells out the first level.
        ("$SYS/#", &["$SYS", "$SYS/a", "$SYS/$b"], &["$SYSa"]),
        ("$SYS/+", &["$SYS/a", "$SYS/$b"], &["$SYS", "$SYS/a/b"]),
        // Only the first character of a topic counts.
        ("/#", &["/$SYS"], &["$SYS"]),
        ("a/+", &["a/$SYS"], &["$SYS/a"]),
    ]);
}

#[test]
fn mqtt_4_7_3_4_topics_match_byte_for_byte() {
    expect_matches(&[
        // Upper and lower case, and spaces.
        (
            "ACCOUNTS",
            &["ACCOUNTS"],
            &["Accounts", "accounts", "ACCOUNTS ", " ACCOUNTS"],
        ),
        // A separator at the beginning or the end makes one more level.
        ("a", &["a"], &["/a", "a/", "/a/"]),
        ("a/b", &["a/b"], &["a//b", "a/b/", "a\\b", "a%2Fb"]),
        // One character or two that look the same, and characters that some programs take for equal.
        ("\u{e4}", &["\u{e4}"], &["a\u{308}"]),
        ("a\u{308}", &["a\u{308}"], &["\u{e4}"]),
        ("\u{212b}", &["\u{212b}"], &["\u{c5}", "A\u{30a}"]),
        ("\u{fb01}", &["\u{fb01}"], &["fi"]),
        ("stra\u{df}e", &["stra\u{df}e"], &["strasse", "STRASSE"]),
        ("i", &["i"], &["I", "\u{131}", "\u{130}"]),
        // A byte order mark and characters without width are characters.
        ("x", &["x"], &["\u{feff}x", "x\u{200b}", "\u{200d}x"]),
        ("\u{feff}x", &["\u{feff}x"], &["x"]),
        // Patterns of other matchers.
        ("a*", &["a*"], &["ab", "a"]),
        (".", &["."], &["x"]),
    ]);
}
