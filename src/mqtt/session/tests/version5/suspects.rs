//! Messages that are never answered and take all that the broker takes at one time: no other message can show that the
//! broker answers messages. They are found out all the same, so that nothing starves behind them.

use std::collections::BTreeSet;

use super::super::Transcript;
use super::super::packets::{message, puback, pubcomp, pubrec, suback};
use crate::mqtt::packet::Incoming;
use crate::mqtt::session::LinkEnd;

/// The payload of messages that the broker never answers.
const POISON: &str = "x";

/// Losses after which a command is suspected, and such links after which it is given up: as the program has them.
const LOSSES: u32 = 3;
const LINKS: u32 = 5;

impl Transcript {
    /// The broker does not answer a message. The session gives the link up because of that, and the next one comes.
    fn is_late5(&mut self, id: u16, quota: u16) -> &mut Self {
        self.waits_for_answers();
        self.notes(&format!("close AckTimeout {id}")).silent();
        self.ends_link(LinkEnd::Otherwise).links_up();
        self.accepted(true, |c| c.receive_maximum = quota).connected = None;
        self
    }

    /// The link is a trial link, and stands idle no more.
    fn tries(&mut self) -> &mut Self {
        self.sends("PINGREQ").receives(Incoming::PingResp).silent();
        self.later(250)
    }

    /// The broker answers everything but poisoned messages, and takes so many at one time. A witness is published where
    /// there is room for one. Returns how many links it takes until each command has ended.
    fn links_until_all_has_ended(&mut self, quota: u16) -> u32 {
        let mut links = 1;
        let mut under_way = BTreeSet::new();
        loop {
            while let Some(sent) = self.sent5.pop_front() {
                let words: Vec<_> = sent.split([' ', '=']).collect();
                let id = |place: usize| words[place].parse::<u16>().unwrap();
                let answer = match words[0] {
                    "PINGREQ" => Some(Incoming::PingResp),
                    "PUBREL" => {
                        under_way.remove(&id(1));
                        Some(pubcomp(id(1)))
                    }
                    "PUBLISH" if words[1] == "qos" => None,
                    "PUBLISH" => {
                        under_way.insert(id(2));
                        assert!(under_way.len() <= usize::from(quota), "{under_way:?}");
                        match (sent.ends_with(&format!("{POISON:?}")), words[4]) {
                            (true, _) => None,
                            (_, "1") => {
                                under_way.remove(&id(2));
                                Some(puback(id(2)))
                            }
                            _ => Some(pubrec(id(2))),
                        }
                    }
                    other => panic!("{other}"),
                };
                if let Some(answer) = answer {
                    self.receives(answer);
                }
            }
            if self.open.is_empty() {
                return links;
            }
            if self.session.is_trying() && self.wants_commands() {
                self.publish("t", 1, "witness");
                continue;
            }
            if self.notes.is_empty() {
                self.passes_one_timer();
                continue;
            }
            self.notes.clear();
            under_way.clear();
            links += 1;
            assert!(links < 1_000, "{:?} starve", self.open);
            self.ends_link(LinkEnd::Otherwise).links_up();
            self.accepted(true, |c| c.receive_maximum = quota).connected = None;
        }
    }
}

#[test]
fn a_message_that_takes_all_of_the_quota_is_given_up_and_the_next_one_leaves() {
    let mut t = Transcript::with_quota(1);
    let poison = t.publish("poison", 1, POISON);
    let waits = t.publish("t", 1, "y");
    t.sends("PUBLISH id=1 qos=1 poison \"x\"");
    let again = "PUBLISH id=1 qos=1 dup poison \"x\"";
    for _ in 1..LOSSES {
        t.is_late5(1, 1).sends(again);
    }
    t.is_late5(1, 1);
    for _ in 1..LINKS {
        t.tries().sends(again).is_late5(1, 1);
        assert!(t.given_up.is_empty());
    }
    t.tries().sends(again).waits_for_answers();
    t.resolved(poison, "perhaps Unanswered");
    assert_eq!(t.given_up, ["PUBLISH to \"poison\""]);
    // It still counts on this link.
    t.notes("close AckTimeout 1").silent();
    t.ends_link(LinkEnd::Otherwise).links_up();
    t.accepted(true, |c| c.receive_maximum = 1);
    t.sends("PUBLISH id=2 qos=1 t \"y\"").silent();
    t.receives(puback(2)).resolved(waits, "delivered x1");
    assert!(t.wants_commands());
    t.finish();
}

/// PUBREL makes its identifier free on both sides.
#[test]
fn a_message_of_qos_2_that_takes_all_of_the_quota_is_given_up_and_released() {
    let mut t = Transcript::with_quota(1);
    let poison = t.publish("poison", 2, POISON);
    let waits = t.publish("t", 1, "y");
    for _ in 0..LOSSES {
        t.sent5.clear();
        t.is_late5(1, 1);
    }
    for _ in 1..LINKS {
        t.tries().sent5.clear();
        t.is_late5(1, 1);
    }
    t.tries().sent5.clear();
    t.waits_for_answers();
    t.resolved(poison, "perhaps Unanswered");
    t.notes("close AckTimeout 1").silent();
    t.ends_link(LinkEnd::Otherwise).links_up();
    t.accepted(true, |c| c.receive_maximum = 1);
    t.sends("PUBREL 1")
        .sends("PUBLISH id=2 qos=1 t \"y\"")
        .silent();
    t.receives(pubcomp(1)).receives(puback(2));
    t.resolved(waits, "delivered x1").finish();
}

/// The count is of the message, and its answer ends both.
#[test]
fn a_message_that_is_answered_on_the_last_link_is_delivered() {
    let mut t = Transcript::with_quota(1);
    let slow = t.publish("t", 1, "slow");
    let waits = t.publish("t", 1, "y");
    for _ in 0..LOSSES {
        t.sent5.clear();
        t.is_late5(1, 1);
    }
    for _ in 1..LINKS {
        t.tries().sent5.clear();
        t.is_late5(1, 1);
    }
    t.tries().sent5.clear();
    t.lets_stand().silent();
    t.receives(puback(1)).resolved(slow, "delivered x8");
    t.sends("PUBLISH id=2 qos=1 t \"y\"");
    t.receives(puback(2))
        .resolved(waits, "delivered x1")
        .finish();
}

/// A broker that answers no PINGREQ is at fault itself.
#[test]
fn a_message_that_takes_all_of_the_quota_of_a_silent_broker_is_kept() {
    let mut t = Transcript::with_quota(1);
    t.publish("t", 1, "1");
    t.publish("t", 1, "2");
    for _ in 0..LOSSES {
        t.sent5.clear();
        t.is_late5(1, 1);
    }
    for _ in 0..3 * LINKS {
        t.tries().sends("PUBLISH id=1 qos=1 dup t \"1\"");
        while t.notes.is_empty() {
            let due = t.next_timer().unwrap();
            t.at(due);
        }
        t.notes.clear();
        t.sent5.clear();
        t.silent().ends_link(LinkEnd::Otherwise).links_up();
        t.accepted(true, |c| c.receive_maximum = 1).connected = None;
    }
    assert!(t.given_up.is_empty());
    t.tries().sends("PUBLISH id=1 qos=1 dup t \"1\"");
    t.receives(puback(1)).outcomes.clear();
    t.sends("PUBLISH id=2 qos=1 t \"2\"").receives(puback(2));
    t.outcomes.clear();
    t.finish();
}

/// The first suspect, and no other: the next link has room for a witness against that.
#[test]
fn of_messages_that_take_all_of_the_quota_the_first_is_given_up() {
    let mut t = Transcript::with_quota(2);
    let first = t.publish("a", 1, POISON);
    t.publish("b", 1, POISON);
    for _ in 0..LOSSES {
        t.sent5.clear();
        t.is_late5(1, 2);
    }
    for _ in 1..LINKS {
        t.tries().lets_stand().lets_stand().sent5.clear();
        t.is_late5(1, 2);
        assert!(t.given_up.is_empty());
    }
    t.tries().lets_stand().lets_stand().sent5.clear();
    t.waits_for_answers();
    t.resolved(first, "perhaps Unanswered")
        .notes("close AckTimeout 1");
    assert_eq!(t.given_up, ["PUBLISH to \"a\""]);
    t.finish();
}

/// The answer may stand behind a large packet on a slow link. The link has time for it, though not for ever.
#[test]
fn a_message_that_takes_all_of_the_quota_is_kept_while_a_packet_comes_in() {
    let mut t = Transcript::with_quota(1);
    let slow = t.publish("t", 1, "slow");
    for _ in 0..LOSSES {
        t.sent5.clear();
        t.is_late5(1, 1);
    }
    for _ in 0..3 * LINKS {
        t.tries().sends("PUBLISH id=1 qos=1 dup t \"slow\"");
        t.lets_stand();
        for seconds in 1..=40 {
            t.silent().receives_part(seconds * 10_000).later(1_000);
        }
        t.notes("close AckTimeout 1").silent();
        t.ends_link(LinkEnd::Otherwise).links_up();
        t.accepted(true, |c| c.receive_maximum = 1).connected = None;
    }
    t.tries().sends("PUBLISH id=1 qos=1 dup t \"slow\"");
    t.lets_stand();
    for seconds in 1..=39 {
        t.receives_part(seconds * 10_000).later(1_000);
    }
    t.silent().receives(puback(1));
    t.resolved(slow, "delivered x19").finish();
}

/// A packet that comes in two parts stops the clock of answers for a moment. That changes nothing for long.
#[test]
fn a_message_that_takes_all_of_the_quota_is_given_up_while_small_packets_come_in() {
    let mut t = Transcript::with_quota(1);
    let poison = t.publish("poison", 1, POISON);
    for _ in 0..LOSSES {
        t.sent5.clear();
        t.is_late5(1, 1);
    }
    for _ in 0..LINKS {
        assert!(t.given_up.is_empty());
        t.tries().sent5.clear();
        t.lets_stand();
        while t.notes.is_empty() {
            t.receives_part(2_000).later(1);
            t.receives(message(0, 0, "m")).messages.clear();
            while let Some(sent) = t.sent5.pop_front() {
                if sent == "PINGREQ" {
                    t.receives(Incoming::PingResp);
                }
            }
            t.later(4_000);
        }
        t.notes.clear();
        t.ends_link(LinkEnd::Otherwise).links_up();
        t.accepted(true, |c| c.receive_maximum = 1).connected = None;
        t.notes.clear();
    }
    assert_eq!(t.given_up.len(), 1);
    t.resolved(poison, "perhaps Unanswered");
}

/// Where the broker takes one message more, that one shows whether it answers.
#[test]
fn with_room_for_one_more_nothing_is_given_up_without_a_witness() {
    let mut t = Transcript::with_quota(2);
    t.publish("t", 1, "1");
    for _ in 0..LOSSES {
        t.sent5.clear();
        t.is_late5(1, 2);
    }
    for _ in 0..3 * LINKS {
        t.tries().sends("PUBLISH id=1 qos=1 dup t \"1\"");
        t.is_late5(1, 2);
    }
    assert!(t.given_up.is_empty());
    t.tries().sent5.clear();
    t.finish();
}

/// Those that stand leave no room for a message, but a request needs none [MQTT-3.3.4-8].
#[test]
fn a_request_that_is_answered_gives_up_all_that_take_the_quota() {
    let mut t = Transcript::with_quota(2);
    let poisons = [t.publish("a", 1, POISON), t.publish("b", 2, POISON)];
    for _ in 0..LOSSES {
        t.sent5.clear();
        t.is_late5(1, 2);
    }
    for _ in 0..LOSSES {
        t.tries().lets_stand().lets_stand().sent5.clear();
        t.is_late5(1, 2);
    }
    t.tries().lets_stand().lets_stand().sent5.clear();
    let asked = t.subscribe(&[("f", 1)]);
    t.sends("SUBSCRIBE id=3 f:1").silent();
    t.receives(suback(3, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1]");
    for poison in poisons {
        t.resolved(poison, "perhaps Unanswered");
    }
    assert_eq!(t.given_up.len(), 2);
    t.sends("PUBREL 2").receives(pubcomp(2)).silent();
    t.finish();
}

/// The broker's number may be smaller than that of the messages that are sent again.
#[test]
fn each_message_that_is_never_answered_is_found_out_in_so_many_links() {
    for quota in [1, 2, 3, 20] {
        for poisons in 1..=4 {
            let mut t = Transcript::connected5_with(|o| o.max_inflight = 100, |_| {});
            let mut tokens = BTreeSet::new();
            for number in 0..poisons {
                tokens.insert(t.publish("poison", 1 + number % 2, POISON));
            }
            for number in 0..8 {
                t.publish("t", number % 3, "y");
            }
            t.sent5.clear();
            t.outcomes.clear();
            t.ends_link(LinkEnd::Otherwise).links_up();
            t.accepted(true, |c| c.receive_maximum = quota).connected = None;
            for _ in 0..4 {
                t.publish("t", 1, "z");
            }
            let links = t.links_until_all_has_ended(quota);
            println!("{poisons} messages never answered, quota {quota}: {links} links");
            assert!(links <= (LOSSES + LINKS) * poisons as u32 + 1, "{links}");
            for (token, outcome) in &t.outcomes {
                assert_eq!(
                    outcome.is_delivered(),
                    !tokens.contains(token),
                    "{token}: {outcome}"
                );
            }
            assert_eq!(t.given_up.len(), poisons);
            t.outcomes.clear();
            t.finish();
        }
    }
}

/// They keep their place behind a message that waits, and end with the link meanwhile.
#[test]
fn qos_0_waits_behind_messages_that_take_all_of_the_quota() {
    let mut t = Transcript::with_quota(1);
    let poison = t.publish("poison", 1, POISON);
    let waits = t.publish("t", 1, "y");
    let behind = t.publish("t", 0, "z");
    let links = t.links_until_all_has_ended(1);
    assert_eq!(links, LOSSES + LINKS + 1);
    t.resolved(behind, "never sent LinkLost")
        .resolved(poison, "perhaps Unanswered")
        .resolved(waits, "delivered x1");
    let last = t.publish("t", 0, "z");
    t.sends("PUBLISH qos=0 t \"z\"")
        .resolved(last, "delivered x1")
        .finish();
}
