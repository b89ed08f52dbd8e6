//! Verdicts on subscriptions and their options.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::party::{Party, SOON, code, message, texts};
use crate::peers::Peer;
use mqtt_connection_sharing::{
    Filter, Message, MessageProperties, QoS, RetainHandling, SubscribeOptions,
};

fn filter(name: &str, options: SubscribeOptions) -> Filter {
    Filter::new(name, QoS::AtLeastOnce).with_options(options)
}

pub fn nothing(peer: &Peer) -> String {
    let party = Party::join(peer.options("nothing"));
    let names = vec!["nothing/1".to_owned()];
    let mut ticket = party.handle().unsubscribe(&party.inbox, names).unwrap();
    let word = match ticket.wait_timeout(SOON) {
        Some(outcome) => code(&outcome),
        None => "no answer".to_owned(),
    };
    let _ = party.end(Duration::ZERO);
    word
}

pub fn no_local(peer: &Peer) -> String {
    let party = Party::join(peer.options("local"));
    let other = Party::join(peer.options("other"));
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::default()
    };
    let granted = party.ask(filter("local/1", options));
    party.publish("local/1", "own");
    other.publish("local/1", "other");
    let came = party.texts_until_mark(&other, "local/1");
    other.leave();
    party.leave();
    match (granted.is_delivered(), came.as_str()) {
        (true, "other") => "those of others".to_owned(),
        (true, came) => came.to_owned(),
        (false, _) => granted.to_string(),
    }
}

/// Whether a message that is published with the retain flag still has it.
pub fn as_published(peer: &Peer) -> String {
    let publisher = Party::join(peer.options("publisher"));
    let flag = |retain_as_published| {
        let party = Party::join(peer.options("published"));
        let options = SubscribeOptions {
            retain_as_published,
            ..SubscribeOptions::default()
        };
        let granted = party.ask(filter("published/1", options));
        assert!(granted.is_delivered(), "{granted}");
        publisher.retain("published/1", "x", MessageProperties::default());
        let came = party.next();
        party.leave();
        publisher.retain("published/1", "", MessageProperties::default());
        match came {
            Some(message) if message.retain() => "kept",
            Some(_) => "cleared",
            None => "lost",
        }
    };
    let word = format!("{}, {} without", flag(true), flag(false));
    publisher.leave();
    word
}

/// The messages that come at the first SUBSCRIBE, and at a second one with the same filter.
pub fn handling(peer: &Peer) -> String {
    let publisher = Party::join(peer.options("publisher"));
    publisher.retain("handling/1", "kept", MessageProperties::default());
    let words = [
        (0, RetainHandling::Always),
        (1, RetainHandling::IfNew),
        (2, RetainHandling::Never),
    ]
    .map(|(number, retain_handling)| {
        let party = Party::join(peer.options("handling"));
        let options = SubscribeOptions {
            retain_handling,
            ..SubscribeOptions::default()
        };
        let [first, second] = [(); 2].map(|()| {
            let granted = party.ask(filter("handling/+", options));
            assert!(granted.is_delivered(), "{granted}");
            party.texts_until_mark(&publisher, "handling/mark")
        });
        party.leave();
        format!("{number}: {first}, {second}")
    });
    publisher.retain("handling/1", "", MessageProperties::default());
    publisher.leave();
    words.join("; ")
}

pub fn identifier(peer: &Peer) -> String {
    let party = Party::join(peer.options("identifier"));
    let options = SubscribeOptions {
        identifier: NonZeroU32::new(7),
        ..SubscribeOptions::default()
    };
    let granted = party.ask(filter("identifier/+", options));
    assert!(granted.is_delivered(), "{granted}");
    party.publish("identifier/1", "x");
    let came = party.next();
    party.leave();
    let identifiers = came.map(|message| {
        let received = message.received();
        let numbers = received.map(|received| received.subscription_identifiers.clone());
        let numbers = numbers.unwrap_or_default();
        let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        numbers.join(", ")
    });
    match identifiers {
        Some(numbers) if numbers.is_empty() => "none".to_owned(),
        Some(numbers) => numbers,
        None => "no message".to_owned(),
    }
}

/// One message for two filters. A broker sends it once, or once for each; either way a thread can tell which is its own.
pub fn overlapping(peer: &Peer) -> String {
    let party = Party::join(peer.options("overlapping"));
    for (number, name) in [(1, "overlapping/#"), (2, "overlapping/+")] {
        let options = SubscribeOptions {
            identifier: NonZeroU32::new(number),
            ..SubscribeOptions::default()
        };
        let granted = party.ask(filter(name, options));
        assert!(granted.is_delivered(), "{granted}");
    }
    party.subscribe("mark");
    party.publish("overlapping/1", "x");
    let came = party.until_mark(&party, "mark", QoS::AtLeastOnce);
    party.leave();
    let numbers = |message: &Arc<Message>| {
        let received = message.received();
        received.map(|received| received.subscription_identifiers.clone())
    };
    let mut all: Vec<_> = came.iter().flat_map(numbers).flatten().collect();
    all.sort_unstable();
    match all[..] {
        [1, 2] => "told apart".to_owned(),
        _ => format!("{} copies, for {all:?}", came.len()),
    }
}

/// Ten messages for two that share a subscription.
pub fn shared(peer: &Peer) -> String {
    let members = ["one", "two"].map(|name| Party::join(peer.options(name)));
    for member in &members {
        let granted = member.ask(Filter::new("$share/group/shared/1", QoS::AtLeastOnce));
        if !granted.is_delivered() {
            let word = code(&granted);
            members.into_iter().for_each(|member| drop(member.leave()));
            return word;
        }
        let granted = member.ask(Filter::new("shared/mark", QoS::AtLeastOnce));
        assert!(granted.is_delivered(), "{granted}");
    }
    let publisher = Party::join(peer.options("publisher"));
    for number in 0..10 {
        publisher
            .send(message("shared/1", &number.to_string()))
            .into_result()
            .unwrap();
    }
    let came = members
        .iter()
        .map(|member| member.until_mark(&publisher, "shared/mark", QoS::AtLeastOnce));
    // The mark of the second member reaches the first one, too, which has ended by then.
    let mut all: Vec<_> = came.flatten().collect();
    all.sort_by(|a, b| a.payload().cmp(b.payload()));
    publisher.leave();
    members.into_iter().for_each(|member| drop(member.leave()));
    match texts(&all).as_str() {
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" => "each to one".to_owned(),
        came => came.to_owned(),
    }
}
