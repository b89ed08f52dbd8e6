//! The verdicts: small experiments with two or three clients, each told in a word or two. Here are those on connections,
//! messages and sessions; `subscriptions.rs` and `wills.rs` have the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;

use crate::party::{Party, code, message};
use crate::peers::{FORBIDDEN, Peer};
use crate::support::running::told;
use crate::support::{HANG, look_for};
use crate::{subscriptions, wills};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{
    ByHand, ConnAck5, EventKind, Filter, MessageProperties, Publish, QoS, Stats,
};

/// A question to a broker.
pub struct Verdict {
    pub subject: &'static str,
    /// The answer of a broker that has the feature and keeps to the standard.
    pub standard: &'static str,
    judge: fn(&Peer) -> String,
}

impl Verdict {
    /// The answer of this broker.
    pub fn of(&self, peer: &Peer) -> String {
        // The verdicts behind one that panics are worth having.
        let judged = catch_unwind(AssertUnwindSafe(|| (self.judge)(peer)));
        judged.unwrap_or_else(|_| "it panicked: see above".to_owned())
    }
}

const fn verdict(
    subject: &'static str,
    standard: &'static str,
    judge: fn(&Peer) -> String,
) -> Verdict {
    Verdict {
        subject,
        standard,
        judge,
    }
}

pub const ALL: &[Verdict] = &[
    verdict("CONNACK", "no limits", connack),
    verdict("empty client identifier", "assigned, and kept", assigned),
    verdict("QoS 0", "whole, once", |peer| {
        messages(peer, QoS::AtMostOnce)
    }),
    verdict("QoS 1", "whole, once", |peer| {
        messages(peer, QoS::AtLeastOnce)
    }),
    verdict("QoS 2", "whole, once", |peer| {
        messages(peer, QoS::ExactlyOnce)
    }),
    verdict("nobody subscribed", "0x10", nobody),
    verdict("a topic of the broker's own", "0x87", forbidden),
    verdict("message expiry", "counted, dropped at its end", expiry),
    verdict("topic aliases", "whole topics", aliases),
    verdict("our receive maximum", "one at a time", receive_maximum),
    verdict("our packet size", "too large left out", packet_size),
    verdict("session kept", "resumed, once", resumed),
    verdict("session of 0 s", "ended", ended),
    verdict("take-over", "0x8E", take_over),
    verdict("unsubscribed from nothing", "0x11", subscriptions::nothing),
    verdict("no local", "those of others", subscriptions::no_local),
    verdict(
        "retain as published",
        "kept, cleared without",
        subscriptions::as_published,
    ),
    verdict(
        "retain handling",
        "0: kept, kept; 1: kept, none; 2: none, none",
        subscriptions::handling,
    ),
    verdict("subscription identifier", "7", subscriptions::identifier),
    verdict(
        "overlapping filters",
        "told apart",
        subscriptions::overlapping,
    ),
    verdict("shared subscription", "each to one", subscriptions::shared),
    verdict("will", "whole", wills::whole),
    verdict("will with a delay", "published", wills::delayed),
    verdict("will taken back", "none", wills::taken_back),
];

/// The limits that it states.
fn connack(peer: &Peer) -> String {
    let party = Party::join(peer.options("connack"));
    let said = party.handle().negotiated().expect("CONNACK of MQTT 5");
    party.leave();
    let ConnAck5 {
        session_expiry,
        receive_maximum,
        maximum_qos,
        retain_available,
        maximum_packet_size,
        topic_alias_maximum,
        wildcard_available,
        identifiers_available,
        shared_available,
        server_keep_alive,
        ..
    } = *said;
    let number = |name: &str, value: Option<u32>| value.map(|value| format!("{name} {value}"));
    let missing = |name: &str, is_there: bool| (!is_there).then(|| format!("no {name}"));
    let below = |value: u16, all: u16| (value < all).then_some(u32::from(value));
    let limits = [
        number("session expiry", session_expiry),
        number("receive maximum", below(receive_maximum, u16::MAX)),
        number("QoS", below(maximum_qos as u16, 2)),
        missing("retain", retain_available),
        number("packet size", maximum_packet_size),
        number("topic aliases", below(topic_alias_maximum, u16::MAX)),
        missing("wildcards", wildcard_available),
        missing("identifiers", identifiers_available),
        missing("shared", shared_available),
        number("keep alive", server_keep_alive.map(u32::from)),
    ];
    match limits.into_iter().flatten().collect::<Vec<_>>() {
        limits if limits.is_empty() => "no limits".to_owned(),
        limits => limits.join(", "),
    }
}

fn assigned(peer: &Peer) -> String {
    let party = Party::join(peer.options(""));
    let assigned = || {
        let said = party.handle().negotiated().expect("CONNACK of MQTT 5");
        said.assigned_client_id.clone()
    };
    let Some(first) = assigned() else {
        return "not told".to_owned();
    };
    assert!(told(party.handle().reconnect()).is_delivered());
    // The second CONNECT has the identifier, so there is nothing to assign.
    let (again, present) = (assigned(), party.session_present());
    party.leave();
    match (again, present) {
        (None, true) => "assigned, and kept".to_owned(),
        (None, false) => "assigned, session lost".to_owned(),
        (Some(again), _) => format!("assigned {first:?}, then {again:?}"),
    }
}

/// The additions of a message that is to come whole.
pub fn properties() -> MessageProperties {
    MessageProperties {
        payload_is_text: true,
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("answers/1".to_owned()),
        correlation_data: Some(Bytes::from_static(&[0, 1, 0xff])),
        user_properties: vec![
            ("a".to_owned(), "1".to_owned()),
            ("a".to_owned(), "2".to_owned()),
            (String::new(), "é".to_owned()),
        ],
        expiry: None,
    }
}

/// "whole", or what is missing of [`properties`] or was added.
pub fn compare(came: Option<&MessageProperties>) -> String {
    let (sent, none) = (properties(), MessageProperties::default());
    let came = came.unwrap_or(&none);
    let mut differs: Vec<String> = [
        (
            "payload format",
            came.payload_is_text == sent.payload_is_text,
        ),
        ("content type", came.content_type == sent.content_type),
        ("response topic", came.response_topic == sent.response_topic),
        (
            "correlation data",
            came.correlation_data == sent.correlation_data,
        ),
    ]
    .into_iter()
    .filter(|(_, is_same)| !is_same)
    .map(|(name, _)| format!("without {name}"))
    .collect();
    let own = |pair: &&(String, String)| sent.user_properties.contains(pair);
    let (kept, added): (Vec<_>, Vec<_>) = came.user_properties.iter().partition(own);
    if !kept.into_iter().eq(&sent.user_properties) {
        differs.push("without user properties".to_owned());
    }
    differs.extend(added.iter().map(|(name, _)| format!("with {name}")));
    match differs.is_empty() {
        true => "whole".to_owned(),
        false => differs.join(", "),
    }
}

fn messages(peer: &Peer, qos: QoS) -> String {
    let party = Party::join(peer.options("messages"));
    party.subscribe("messages/+");
    let publish = Publish::new("messages/1", qos, "a payload");
    let outcome = party.send(publish.with_properties(properties()));
    if !outcome.is_delivered() {
        party.leave();
        return outcome.to_string();
    }
    let came = party.until_mark(&party, "messages/1", qos);
    party.leave();
    let Some((first, more)) = came.split_first() else {
        return "lost".to_owned();
    };
    if (first.topic(), first.payload()) != ("messages/1", b"a payload") {
        return format!("another message: {first:?}");
    }
    let mut word = compare(first.received().map(|received| &received.properties));
    if first.qos() != qos {
        word.push_str(&format!(", at QoS {}", first.qos() as u8));
    }
    match more.len() {
        0 => word + ", once",
        more => format!("{word}, {} times", more + 1),
    }
}

fn nobody(peer: &Peer) -> String {
    let party = Party::join(peer.options("nobody"));
    let outcome = party.send(message("nobody/1", "x"));
    party.leave();
    code(&outcome)
}

fn forbidden(peer: &Peer) -> String {
    let party = Party::join(peer.options("forbidden"));
    let outcome = party.send(message(FORBIDDEN, "x"));
    party.leave();
    code(&outcome)
}

/// A retained message has to go when its time is over, and says until then how much of it is left.
fn expiry(peer: &Peer) -> String {
    let party = Party::join(peer.options("expiry"));
    let lasting = |seconds| MessageProperties {
        expiry: Some(seconds),
        ..MessageProperties::default()
    };
    party.retain("expiry/long", "long", lasting(600));
    party.retain("expiry/short", "short", lasting(1));
    party.subscribe("expiry/long");
    let Some(long) = party.next() else {
        return "nothing retained".to_owned();
    };
    let left = long
        .received()
        .and_then(|received| received.properties.expiry);
    let told = match left {
        Some(1..=600) => "counted",
        Some(_) => "wrong",
        None => "not told",
    };
    // Each subscription asks anew.
    let is_gone = || {
        party.subscribe("expiry/short");
        (party.texts_until_mark(&party, "expiry/short") == "none").then_some(())
    };
    let ends = look_for(HANG, is_gone).is_some();
    party.retain("expiry/long", "", MessageProperties::default());
    party.leave();
    format!(
        "{told}, {}",
        if ends {
            "dropped at its end"
        } else {
            "kept for ever"
        }
    )
}

fn aliases(peer: &Peer) -> String {
    let mut options = peer.options("aliases");
    options.version5.topic_aliases = 2;
    let party = Party::join(options);
    party.subscribe("aliases/#");
    // Three topics for two numbers: each is given anew.
    let topics = [
        "aliases/1",
        "aliases/2",
        "aliases/1",
        "aliases/3",
        "aliases/2",
        "aliases/3",
    ];
    for topic in topics {
        party.publish(topic, topic);
    }
    let came = party.until_mark(&party, "aliases/mark", QoS::AtLeastOnce);
    party.leave();
    let is_whole = came
        .iter()
        .all(|message| message.topic().as_bytes() == message.payload());
    match (is_whole, came.len() == topics.len()) {
        (true, true) => "whole topics".to_owned(),
        (true, false) => format!("{} of {} messages", came.len(), topics.len()),
        (false, _) => "mixed up".to_owned(),
    }
}

/// The broker may send one message, and the next one after its acknowledgment.
fn receive_maximum(peer: &Peer) -> String {
    let mut options = peer.options("one");
    options.version5.receive_maximum = Some(1);
    let party = Party::join(options);
    let inbox = party.handle().inbox_by_hand(10, ByHand::default());
    let filter = Filter::new("one/+", QoS::AtLeastOnce);
    let granted = told(party.handle().subscribe(&inbox, vec![filter]).unwrap());
    assert!(granted.is_delivered(), "{granted}");
    for number in ["1", "2", "3"] {
        party.publish("one/1", number);
    }
    for number in 1..=3 {
        let Ok(message) = inbox.recv_timeout(HANG) else {
            return format!("{} of 3", number - 1);
        };
        // PINGRESP comes behind all that the broker has sent.
        assert!(told(party.handle().ping().unwrap()).is_delivered());
        let received = party.handle().stats().messages_received;
        if received != number {
            return "several at a time".to_owned();
        }
        message.done();
    }
    match party.leave().losses {
        0 => "one at a time".to_owned(),
        losses => format!("{losses} connections lost"),
    }
}

fn packet_size(peer: &Peer) -> String {
    let mut options = peer.options("small");
    options.max_packet_size = 500;
    let small = Party::join(options);
    small.subscribe("small/1");
    let publisher = Party::join(peer.options("large"));
    let _ = publisher.send(message("small/1", &"x".repeat(1000)));
    let came = small.texts_until_mark(&publisher, "small/1");
    publisher.leave();
    let Stats {
        too_large, losses, ..
    } = small.leave();
    match (came.as_str(), too_large, losses) {
        ("none", 0, 0) => "too large left out".to_owned(),
        ("none", 1.., 0) => "sent although too large".to_owned(),
        (came, ..) => format!("{came}; {too_large} too large, {losses} losses"),
    }
}

/// Whether the session was there again after a time without a connection, and the message of that time.
fn offline(options: Options, publisher: &Party) -> (bool, String) {
    let party = Party::join(options);
    party.subscribe("kept/1");
    assert!(told(party.handle().disconnect()).is_delivered());
    publisher.publish("kept/1", "meanwhile");
    assert!(told(party.handle().reconnect()).is_delivered());
    let present = party.session_present();
    // Behind the renewal of a subscription that the broker has forgotten.
    party.subscribe("kept/1");
    let came = party.texts_until_mark(publisher, "kept/1");
    party.leave();
    (present, came)
}

fn resumed(peer: &Peer) -> String {
    let publisher = Party::join(peer.options("publisher"));
    let result = offline(peer.options("resumed"), &publisher);
    publisher.leave();
    match (result.0, result.1.as_str()) {
        (true, "meanwhile") => "resumed, once".to_owned(),
        (false, "none") => "lost".to_owned(),
        (present, came) => format!("session {present}, came: {came}"),
    }
}

/// Clean Start 0 and a session expiry of 0: the session ends with the connection.
fn ended(peer: &Peer) -> String {
    let publisher = Party::join(peer.options("publisher"));
    let mut options = peer.options("ended");
    options.version5.session_expiry = Duration::ZERO;
    let result = offline(options, &publisher);
    publisher.leave();
    match (result.0, result.1.as_str()) {
        (false, "none") => "ended".to_owned(),
        (present, came) => format!("session {present}, came: {came}"),
    }
}

/// The reason that the first client is told when a second one connects with its identifier.
fn take_over(peer: &Peer) -> String {
    let first = Party::join(peer.options("taken"));
    let events = first.handle().events();
    let second = Party::join(peer.options("taken"));
    let lost = events.into_iter().find_map(|event| match &event.kind {
        EventKind::Lost { error, .. } => Some(error.to_string()),
        EventKind::Ended { error } => Some(format!("{error:?}")),
        _ => None,
    });
    let lost = lost.unwrap_or_default();
    let word = if lost.contains("0x8E") {
        let ended = first.expect_end();
        assert!(
            ended.result.is_err(),
            "it has to leave the identifier to the other"
        );
        second.leave();
        return "0x8E".to_owned();
    } else if lost.contains("closed") {
        "closed without a word".to_owned()
    } else {
        lost
    };
    // They take the identifier from one another until one of them leaves.
    let ticket = first.handle().terminate(Duration::ZERO);
    let _ = first.expect_end();
    assert!(told(ticket).is_delivered());
    second.leave();
    word
}
