//! Commands that links are lost because of: suspected, tried alone, given up. And those that only look like it.

use rumqttc::mqttbytes::v4::Packet;

use super::Transcript;
use super::packets::{puback, pubcomp, pubrec, suback, unsuback};
use crate::mqtt::packet::Incoming;
use crate::mqtt::session::LinkEnd;

/// How long the broker takes to close a link on which a packet came that it does not like.
pub(super) const CLOSES_AFTER: u64 = 100;

impl Transcript {
    /// Milliseconds after the beginning.
    pub(super) fn time(&self) -> u64 {
        self.now.duration_since(self.base).as_millis() as u64
    }

    pub(super) fn later(&mut self, milliseconds: u64) -> &mut Self {
        self.at(self.time() + milliseconds)
    }

    /// The broker closes the link after this time, and the next one is made a second later.
    pub(super) fn closed_after(&mut self, milliseconds: u64, session_present: bool) -> &mut Self {
        self.later(milliseconds).loses_link();
        self.later(1_000).links_up().connack(session_present);
        self.connected = None;
        self
    }

    /// A trial link: PINGREQ, and nothing else for this time, in which the broker answers it.
    pub(super) fn stands_idle(&mut self, milliseconds: u64) -> &mut Self {
        self.sends("PINGREQ").silent();
        assert!(
            !self.wants_commands(),
            "no command is taken on a trial link"
        );
        self.later(10).receives(Incoming::PingResp).silent();
        self.later(milliseconds - 11).silent();
        self.later(1)
    }

    /// Three links are lost with what is sent as `packet` on each of them.
    pub(super) fn loses_three(&mut self, packet: &str) -> &mut Self {
        for _ in 0..2 {
            self.closed_after(CLOSES_AFTER, true).sends(packet);
        }
        self.closed_after(CLOSES_AFTER, true)
    }
}

/// For how long trial links stand idle whose broker closes them so soon after each trial: a quarter of a second at
/// least, and then half as long again as the longest of them lived.
pub(super) const IDLE: [u64; 5] = [250, 525, 938, 1_557, 2_486];

#[test]
fn a_publish_on_which_the_broker_closes_is_tried_alone_on_five_links_and_given_up() {
    let mut t = Transcript::connected();
    let poison = t.publish("poison", 1, "x");
    t.sends("PUBLISH id=1 qos=1 poison \"x\"");
    let again = "PUBLISH id=1 qos=1 dup poison \"x\"";
    // Everything else is acknowledged, on each link.
    for id in [2, 3] {
        let other = t.publish("t", 1, "y");
        t.sends(&format!("PUBLISH id={id} qos=1 t \"y\""));
        t.receives(puback(id)).resolved(other, "delivered x1");
        t.closed_after(CLOSES_AFTER, true).sends(again);
    }
    t.closed_after(CLOSES_AFTER, true);
    for (number, idle) in IDLE.into_iter().enumerate() {
        assert!(t.outcomes.is_empty(), "given up after {number} trials");
        t.stands_idle(idle).sends(again).silent();
        assert!(!t.wants_commands());
        t.closed_after(CLOSES_AFTER, true);
    }
    t.resolved(poison, "perhaps Parked").silent();
    assert_eq!(t.given_up, ["PUBLISH to \"poison\""]);
    assert!(t.wants_commands());
    t.publish("t", 1, "z");
    t.sends("PUBLISH id=4 qos=1 t \"z\"").finish();
}

/// A command is sent, tried alone five times, and given up.
fn closed_on(submit: impl FnOnce(&mut Transcript) -> u32, first: &str, again: &str) -> Transcript {
    let mut t = Transcript::connected();
    let token = submit(&mut t);
    t.sends(first);
    t.loses_three(again);
    for idle in IDLE {
        t.stands_idle(idle).sends(again).silent();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.resolved(token, "perhaps Parked");
    t
}

#[test]
fn a_qos_2_publish_that_is_given_up_frees_its_identifier_at_the_broker_too() {
    let (first, again) = (
        "PUBLISH id=1 qos=2 poison \"x\"",
        "PUBLISH id=1 qos=2 dup poison \"x\"",
    );
    let mut t = closed_on(|t| t.publish("poison", 2, "x"), first, again);
    t.sends("PUBREL 1").silent();
    t.receives(pubcomp(1)).silent();
    assert!(t.session.is_at_rest());
    t.finish();
}

#[test]
fn a_subscribe_and_an_unsubscribe_are_given_up_like_a_publish() {
    let asked = "SUBSCRIBE id=1 poison:1 fine:1";
    let subscribe = |t: &mut Transcript| t.subscribe(&[("poison", 1), ("fine", 1)]);
    closed_on(subscribe, asked, asked).finish();
    let left = "UNSUBSCRIBE id=1 poison";
    closed_on(|t| t.unsubscribe(&["poison"]), left, left).finish();
}

#[test]
fn a_pubrel_that_is_given_up_is_sent_no_more_and_its_identifier_stays_in_use() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 8);
    let token = t.publish("poison", 2, "x");
    t.receives(pubrec(1));
    t.sends_all(&["PUBLISH id=1 qos=2 poison \"x\"", "PUBREL 1"]);
    t.loses_three("PUBREL 1");
    for idle in IDLE {
        t.stands_idle(idle).sends("PUBREL 1").silent();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.resolved(token, "perhaps Parked").silent();
    t.receives(pubcomp(1)).receives(pubrec(1)).silent();
    for _ in 0..3 {
        t.reconnects(true).renewing(0).silent();
    }
    for id in [2, 3, 4, 5, 6, 7, 8].into_iter().cycle().take(20) {
        let other = t.publish("t", 1, "x");
        t.sends(&format!("PUBLISH id={id} qos=1 t \"x\""));
        t.receives(puback(id)).resolved(other, "delivered x1");
    }
    // The broker forgets it with the session.
    t.reconnects(false).renewing(0).silent();
    let ids: Vec<_> = (0..8).map(|_| t.acknowledged_publish()).collect();
    assert!(ids.contains(&1), "{ids:?}");
    t.finish();
}

impl Transcript {
    /// Publishes a message and acknowledges it; gives its identifier.
    pub(super) fn acknowledged_publish(&mut self) -> u16 {
        let token = self.publish("t", 1, "x");
        let Some(Packet::Publish(sent)) = self.sent.pop_front() else {
            panic!("no PUBLISH");
        };
        self.receives(puback(sent.pkid));
        self.resolved(token, "delivered x1");
        sent.pkid
    }
}

#[test]
fn a_renewal_that_is_given_up_is_refused_and_the_others_are_granted() {
    for session_kept in [true, false] {
        let mut t = Transcript::subscribed(&[("a", 1), ("poison", 1), ("z", 1)]);
        t.closed_after(CLOSES_AFTER, false);
        for _ in 0..2 {
            t.sent.clear();
            t.closed_after(CLOSES_AFTER, session_kept);
        }
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, session_kept);
        // One filter to a packet, each answered before the next one goes out.
        t.stands_idle(IDLE[0]).renews("a", true);
        // A renewal that is answered on each link makes no wait shorter.
        for idle in &IDLE[1..] {
            t.renews("poison", false);
            t.closed_after(CLOSES_AFTER, session_kept);
            t.stands_idle(*idle);
            if !session_kept {
                t.renews("a", true);
            }
        }
        t.renews("poison", false);
        t.closed_after(CLOSES_AFTER, true);
        t.notes("not renewed poison");
        assert_eq!(t.given_up.len(), 1);
        assert!(!t.renewed.contains(&"poison".to_owned()));
        // This one stood behind it each time.
        t.stands_idle(3_879).renews("z", true);
        assert!(t.wants_commands() && t.session.is_subscribed("a"));
        assert!(!t.session.is_subscribed("poison"));
        t.sent.clear();
        t.finish();
    }
}

impl Transcript {
    /// A SUBSCRIBE for this filter alone goes out, and is granted or not answered.
    fn renews(&mut self, filter: &str, is_granted: bool) -> &mut Self {
        let Some(Packet::Subscribe(sent)) = self.sent.pop_front() else {
            panic!("no SUBSCRIBE for {filter}");
        };
        let names: Vec<_> = sent.filters.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(names, [filter]);
        self.silent();
        if is_granted {
            self.receives(suback(sent.pkid, &[Some(1)]));
        }
        self
    }
}

/// Endings that are not the broker's say nothing about what was in flight.
#[test]
fn no_other_ending_counts_and_none_ends_the_row() {
    let mut t = Transcript::in_flight(1);
    for links in 1..40 {
        t.later(CLOSES_AFTER);
        let counts = links == 10 || links == 30;
        t.ends_link(match counts {
            true => LinkEnd::ByBroker,
            false => LinkEnd::Otherwise,
        });
        t.later(1_000).links_up().connack(true).renewing(0);
        t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
        assert!(t.wants_commands());
    }
    t.closed_after(CLOSES_AFTER, true).sends("PINGREQ");
    t.finish();
}

#[test]
fn a_link_that_took_nothing_of_a_command_does_not_count_against_it() {
    let mut t = Transcript::in_flight(1);
    for _ in 0..10 {
        t.loses_link().links_up();
        t.stalled = true;
        t.connack(true);
        t.stalled = false;
    }
    t.loses_link().links_up().connack(true);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"");
    t.receives(puback(1)).resolved(0, "delivered x2");
    t.finish();
}

#[test]
fn a_link_that_carried_a_command_makes_the_next_one_wait_no_longer() {
    const COUNT: u16 = 10;
    let mut t = Transcript::connected();
    let tokens: Vec<_> = (0..COUNT).map(|_| t.publish("t", 1, "x")).collect();
    for _ in 0..3 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
    }
    // Each link carries one command, and breaks with the next one.
    for (id, token) in (1..COUNT).zip(&tokens) {
        let publish = |id| format!("PUBLISH id={id} qos=1 dup t \"x\"");
        t.stands_idle(IDLE[0]).sends(&publish(id)).silent();
        let sent = if id == 1 { 4 } else { 5 };
        t.receives(puback(id))
            .resolved(*token, &format!("delivered x{sent}"));
        t.sends(&publish(id + 1)).silent();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.sent.clear();
    t.finish();
}

#[test]
fn an_answer_ends_the_row() {
    let mut t = Transcript::connected();
    let token = t.publish("t", 2, "x");
    for _ in 0..2 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.receives(pubrec(1));
    for _ in 0..2 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
        assert!(t.wants_commands());
    }
    t.sent.clear();
    t.receives(pubcomp(1)).resolved(token, "delivered x3");
    t.finish();
}

#[test]
fn what_is_unanswered_is_tried_in_its_old_order_and_nothing_new_meanwhile() {
    let mut t = Transcript::connected();
    let tokens = [t.publish("a", 1, "1"), t.publish("b", 2, "2")];
    let asked = t.subscribe(&[("c", 1)]);
    let released = t.publish("d", 2, "3");
    t.receives(pubrec(4));
    t.sent.clear();
    for _ in 0..3 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.stands_idle(IDLE[0]).sends("PUBREL 4").silent();
    t.receives(pubcomp(4)).resolved(released, "delivered x1");
    t.sends("PUBLISH id=1 qos=1 dup a \"1\"").silent();
    assert!(!t.wants_commands());
    t.receives(puback(1)).resolved(tokens[0], "delivered x4");
    t.sends("PUBLISH id=2 qos=2 dup b \"2\"").silent();
    t.receives(pubrec(2)).sends("PUBREL 2").silent();
    t.receives(pubcomp(2)).resolved(tokens[1], "delivered x4");
    // Nothing suspect is behind it, and so the link is one like any other from then on.
    t.sends("SUBSCRIBE id=3 c:1").silent();
    assert!(!t.wants_commands());
    t.receives(suback(3, &[Some(1)]));
    t.resolved(asked, "delivered x4 [1]");
    assert!(t.wants_commands());
    t.finish();
}

/// Requests are not part of the session that a broker keeps, so it has nothing to answer before they are sent again.
#[test]
fn an_answer_to_a_request_that_was_not_sent_on_this_link_is_none() {
    let mut t = Transcript::connected();
    let asked = t.subscribe(&[("a", 1), ("b", 1)]);
    let left = t.unsubscribe(&["c"]);
    for _ in 0..3 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.sends("PINGREQ").receives(Incoming::PingResp);
    t.receives(suback(1, &[Some(1)]))
        .receives(suback(1, &[Some(1); 2]));
    t.receives(unsuback(2)).silent();
    assert!(!t.session.is_subscribed("a"));
    t.later(IDLE[0]).sends("SUBSCRIBE id=1 a:1 b:1").silent();
    t.receives(suback(1, &[Some(1); 2]));
    t.resolved(asked, "delivered x4 [1 1]");
    t.sends("UNSUBSCRIBE id=2 c").silent();
    t.receives(unsuback(2)).resolved(left, "delivered x4");
    t.finish();
}

/// A command whose link is closed is given up at the first trial.
fn given_up_at_once() -> Transcript {
    let mut t = Transcript::connected_with(|o| (o.suspected_after, o.given_up_after) = (1, 1));
    t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"");
    t.closed_after(CLOSES_AFTER, true);
    t
}

#[test]
fn a_close_behind_a_qos_0_message_counts_against_no_other() {
    let mut t = given_up_at_once();
    t.stands_idle(IDLE[0])
        .sends("PUBLISH id=1 qos=1 dup t \"x\"");
    t.lets_stand();
    let poison = t.publish("poison", 0, "x");
    t.sends("PUBLISH qos=0 poison \"x\"");
    t.resolved(poison, "delivered x1");
    let other = t.publish("t", 1, "y");
    t.sends("PUBLISH id=2 qos=1 t \"y\"").silent();
    t.closed_after(CLOSES_AFTER, true);
    assert!(t.outcomes.is_empty(), "{:?}", t.outcomes);
    // The link after one that shows nothing is an ordinary one.
    t.sends_all(&[
        "PUBLISH id=1 qos=1 dup t \"x\"",
        "PUBLISH id=2 qos=1 dup t \"y\"",
    ]);
    t.closed_after(CLOSES_AFTER, true);
    t.sends("PINGREQ").receives(Incoming::PingResp);
    while t.sent.is_empty() {
        t.passes_one_timer();
    }
    t.sends("PUBLISH id=1 qos=1 dup t \"x\"").lets_stand();
    t.sends("PUBLISH id=2 qos=1 dup t \"y\"").silent();
    t.receives(puback(2)).resolved(other, "delivered x3");
    t.resolved(0, "perhaps Unanswered").finish();
}

#[test]
fn a_close_behind_a_pubrel_that_answers_counts_against_no_other() {
    for comes_first in [true, false] {
        let mut t = given_up_at_once();
        t.sends("PINGREQ").receives(Incoming::PingResp).silent();
        if comes_first {
            t.receives(pubrec(7)).sends("PUBREL 7").silent();
        }
        t.later(IDLE[0]).sends("PUBLISH id=1 qos=1 dup t \"x\"");
        if !comes_first {
            t.receives(pubrec(7)).sends("PUBREL 7").silent();
        }
        t.closed_after(CLOSES_AFTER, true);
        assert!(t.outcomes.is_empty(), "{:?}", t.outcomes);
        t.sends_all(&["PUBREL 7", "PUBLISH id=1 qos=1 dup t \"x\""]);
        t.closed_after(CLOSES_AFTER, true);
        t.stands_idle(525).sends("PUBREL 7").receives(pubcomp(7));
        t.sends("PUBLISH id=1 qos=1 dup t \"x\"").silent();
        t.closed_after(CLOSES_AFTER, true);
        t.resolved(0, "perhaps Parked").finish();
    }
}

/// PUBREL answers a repeated PUBREC at once, also where it would have its turn later.
#[test]
fn a_pubcomp_that_comes_before_the_turn_of_its_pubrel_counts() {
    let mut t = Transcript::in_flight(1);
    for _ in 0..2 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.sent.clear();
    // The link takes nothing of this PUBREL.
    t.stalled = true;
    t.receives(pubrec(7)).later(CLOSES_AFTER).loses_link();
    t.flows().links_up().connack(true).connected = None;
    t.sends("PINGREQ").receives(Incoming::PingResp).silent();
    t.receives(pubrec(7)).sends("PUBREL 7").silent();
    t.receives(pubcomp(7)).silent();
    t.later(IDLE[0])
        .sends("PUBLISH id=1 qos=1 dup t \"1\"")
        .silent();
    t.receives(puback(1)).resolved(0, "delivered x4");
    assert!(t.session.is_at_rest());
    t.finish();
}

#[test]
fn counts_survive_a_lost_session() {
    let mut t = Transcript::connected();
    let token = t.publish("poison", 1, "x");
    for _ in 0..3 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, false);
    }
    for (number, idle) in IDLE.into_iter().enumerate() {
        let id = number + 2;
        t.stands_idle(idle);
        t.sent.clear();
        assert!(t.outcomes.is_empty(), "trial {id}");
        t.closed_after(CLOSES_AFTER, false);
    }
    t.resolved(token, "perhaps Parked").finish();
}
