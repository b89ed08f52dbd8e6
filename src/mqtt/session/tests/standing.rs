//! Commands that the broker never answers: let stand on a trial link, and given up once it answers another one.

use rumqttc::mqttbytes::v4::Packet;

use super::Transcript;
use super::packets::{puback, pubcomp, pubrec, suback};
use super::suspects::CLOSES_AFTER;
use crate::mqtt::packet::Incoming;
use crate::mqtt::session::LinkEnd;

#[test]
fn a_publish_that_the_broker_never_acknowledges_is_given_up_once_it_answers_another() {
    let mut t = Transcript::connected();
    let poison = t.publish("poison", 1, "x");
    let again = "PUBLISH id=1 qos=1 dup poison \"x\"";
    t.sent.clear();
    for _ in 0..3 {
        t.is_late(1).ends_link(LinkEnd::Otherwise);
        t.links_up().connack(true);
        t.connected = None;
        let sent = t.sent.pop_front();
        assert!(sent.is_some(), "it is sent again, or PINGREQ is");
    }
    t.receives(Incoming::PingResp)
        .later(250)
        .sends(again)
        .silent();
    assert!(!t.wants_commands());
    // Its time is over: the link stays, and the next command may show whether the broker answers.
    t.lets_stand();
    assert!(t.wants_commands());
    let other = t.publish("t", 1, "y");
    t.sends("PUBLISH id=2 qos=1 t \"y\"").silent();
    assert!(!t.wants_commands());
    t.receives(puback(2)).resolved(other, "delivered x1");
    t.resolved(poison, "perhaps Unanswered").silent();
    assert!(t.wants_commands());
    // It may still be answered on this link: its identifier is not used for anything else.
    t.receives(puback(1)).finish();
}

impl Transcript {
    /// Lets time pass until the session closes the link because this acknowledgment is late. PINGREQ is answered.
    pub(super) fn is_late(&mut self, id: u16) -> &mut Self {
        self.waits_for_answers();
        self.sent.clear();
        self.notes(&format!("close AckTimeout {id}"))
    }

    /// Lets time pass until an acknowledgment is late, and the link goes on.
    pub(super) fn lets_stand(&mut self) -> &mut Self {
        let before = self.session.in_flight();
        while self.session.in_flight() == before {
            self.passes_one_timer();
        }
        assert!(self.notes.is_empty(), "{:?}", self.notes);
        self
    }

    pub(super) fn waits_for_answers(&mut self) {
        while self.notes.is_empty() {
            self.passes_one_timer();
        }
    }

    /// Lets the next timer ring; PINGREQ is answered at once.
    pub(super) fn passes_one_timer(&mut self) {
        let due = self.next_timer().expect("a timer");
        self.at(due);
        while let Some(at) = self.sent.iter().position(|sent| *sent == Packet::PingReq) {
            self.sent.remove(at);
            self.receives(Incoming::PingResp);
        }
        while let Some(at) = self.sent5.iter().position(|sent| sent == "PINGREQ") {
            self.sent5.remove(at);
            self.receives(Incoming::PingResp);
        }
    }
}

/// A message without an acknowledgment shows nothing, and nothing holds it back for ever.
#[test]
fn with_qos_0_alone_behind_it_nothing_is_given_up_and_each_link_takes_some() {
    let mut t = Transcript::in_flight(1);
    t.is_late_three_times(1);
    for _ in 0..6 {
        t.sends("PUBLISH id=1 qos=1 dup t \"1\"").lets_stand();
        let alone = t.publish("t", 0, "x");
        t.sends("PUBLISH qos=0 t \"x\"")
            .resolved(alone, "delivered x1");
        assert!(t.wants_commands());
        t.is_late(1).ends_link(LinkEnd::Otherwise);
        t.links_up().connack(true).connected = None;
        t.sends("PINGREQ").receives(Incoming::PingResp);
        t.later(250);
    }
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
    t.receives(puback(1)).resolved(0, "delivered x10");
    t.finish();
}

/// The broker is at fault that answers nothing else either.
#[test]
fn without_a_witness_nothing_is_given_up() {
    let mut t = Transcript::in_flight(1);
    for _ in 0..20 {
        t.is_late(1).ends_link(LinkEnd::Otherwise);
        t.links_up().connack(true).connected = None;
        t.receives_pingresp();
    }
    // The witness is not answered either.
    while !t.wants_commands() {
        t.passes_one_timer();
    }
    let witness = t.publish("t", 1, "y");
    t.is_late(1);
    t.ends_link(LinkEnd::Otherwise)
        .links_up()
        .connack(true)
        .connected = None;
    t.receives_pingresp().later(250);
    t.sent.clear();
    t.receives(puback(1)).resolved(0, "delivered x22");
    t.sent.clear();
    t.receives(puback(2)).resolved(witness, "delivered x2");
    t.finish();
}

impl Transcript {
    /// PINGREQ is out, or not; it is answered.
    fn receives_pingresp(&mut self) -> &mut Self {
        if self.sent.back() == Some(&Packet::PingReq) {
            self.receives(Incoming::PingResp);
        }
        self.sent.clear();
        self
    }
}

impl Transcript {
    /// Three links are lost because the broker answers nothing but PINGREQ. The next one is a trial link, and has
    /// stood idle.
    pub(super) fn is_late_three_times(&mut self, id: u16) -> &mut Self {
        for _ in 0..3 {
            self.is_late(id).ends_link(LinkEnd::Otherwise);
            self.links_up().connack(true).connected = None;
        }
        self.sends("PINGREQ").receives(Incoming::PingResp);
        self.later(250)
    }
}

#[test]
fn an_end_in_the_middle_of_a_trial_leaves_nothing() {
    let mut t = Transcript::connected();
    let tokens = [t.publish("a", 1, "x"), t.publish("b", 1, "x")];
    t.is_late_three_times(1);
    t.sent.clear();
    t.lets_stand().abandon();
    for token in tokens {
        t.resolved(token, "perhaps Terminated");
    }
    assert_eq!((t.session.unresolved(), t.session.in_flight()), (0, 0));
}

#[test]
fn nothing_follows_a_disconnect_on_a_trial_link_3_14_4_2() {
    let mut t = Transcript::connected();
    let tokens = [t.publish("a", 1, "x"), t.publish("b", 1, "x")];
    t.is_late_three_times(1);
    t.sends("PUBLISH id=1 qos=1 dup a \"x\"").silent();
    t.disconnect().sends("DISCONNECT").silent();
    t.receives(puback(1)).resolved(tokens[0], "delivered x4");
    assert_eq!(t.next_timer(), None);
    t.later(600_000).finish();
}

/// One that stands without an answer is no witness for the other, and holds up none behind it.
#[test]
fn two_that_are_never_acknowledged_are_both_given_up() {
    let mut t = Transcript::connected();
    let poisons = [t.publish("poison/1", 1, "x"), t.publish("poison/2", 1, "x")];
    t.is_late_three_times(1);
    t.sends("PUBLISH id=1 qos=1 dup poison/1 \"x\"").silent();
    t.lets_stand()
        .sends("PUBLISH id=2 qos=1 dup poison/2 \"x\"");
    t.silent().lets_stand();
    let other = t.publish("t", 1, "y");
    t.sends("PUBLISH id=3 qos=1 t \"y\"");
    t.receives(puback(3)).resolved(other, "delivered x1");
    t.resolved(poisons[0], "perhaps Unanswered");
    // This one was never late before: it is sent again, and suspected if it is late again.
    for _ in 0..2 {
        t.is_late(2).ends_link(LinkEnd::Otherwise);
        t.links_up().connack(true).connected = None;
    }
    t.sends("PINGREQ").receives(Incoming::PingResp);
    t.later(250).sends("PUBLISH id=2 qos=1 dup poison/2 \"x\"");
    t.lets_stand();
    let other = t.publish("t", 1, "y");
    t.sends("PUBLISH id=4 qos=1 t \"y\"");
    t.receives(puback(4)).resolved(other, "delivered x1");
    t.resolved(poisons[1], "perhaps Unanswered").finish();
}

/// A broker answers PUBREL without looking at any message: PUBCOMP tells no more than PINGRESP does.
#[test]
fn a_pubcomp_is_no_witness() {
    let mut t = Transcript::in_flight(1);
    t.is_late_three_times(1);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").lets_stand();
    // The message is one of an earlier life.
    t.receives(pubrec(7)).sends("PUBREL 7");
    t.receives(pubcomp(7)).silent();
    let witness = t.publish("t", 2, "x");
    t.sends("PUBLISH id=2 qos=2 t \"x\"").silent();
    t.receives(pubrec(2)).sends("PUBREL 2");
    t.resolved(0, "perhaps Unanswered").silent();
    t.receives(pubcomp(2)).resolved(witness, "delivered x1");
    t.finish();
}

/// The broker may have written the answer before anything was sent on this link.
#[test]
fn an_answer_to_a_message_that_was_not_sent_on_this_link_is_no_witness() {
    let mut t = Transcript::connected();
    let silent = t.publish("silent", 1, "x");
    let tried = t.publish("t", 1, "x");
    let known = [t.publish("t", 2, "x"), t.publish("t", 1, "x")];
    t.is_late_three_times(1);
    t.sends("PUBLISH id=1 qos=1 dup silent \"x\"").lets_stand();
    t.sends("PUBLISH id=2 qos=1 dup t \"x\"").silent();
    t.receives(pubrec(3)).sends("PUBREL 3").silent();
    t.receives(pubcomp(3)).resolved(known[0], "delivered x3");
    t.receives(puback(4)).resolved(known[1], "delivered x3");
    t.silent();
    t.receives(puback(2)).resolved(tried, "delivered x4");
    t.resolved(silent, "perhaps Unanswered").finish();
}

#[test]
fn a_witness_has_room_in_a_window_of_one() {
    let mut t = Transcript::connected_with(|o| o.max_inflight = 1);
    let poison = t.publish("poison", 1, "x");
    t.is_late_three_times(1);
    t.sends("PUBLISH id=1 qos=1 dup poison \"x\"").lets_stand();
    assert!(t.wants_commands());
    let witness = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=2 a:1");
    t.receives(suback(2, &[Some(1)]));
    t.resolved(witness, "delivered x1 [1]");
    t.resolved(poison, "perhaps Unanswered").finish();
}

/// It stands behind one that is never acknowledged, and each link is closed with it.
#[test]
fn one_that_is_never_acknowledged_does_not_hide_one_on_which_the_broker_closes() {
    let mut t = Transcript::connected();
    let silent = t.publish("silent", 1, "x");
    let closing = t.publish("closing", 1, "x");
    for _ in 0..3 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
    }
    let mut trials = 0;
    while !t.outcomes.contains_key(&closing) {
        trials += 1;
        assert!(trials < 10, "it is never given up");
        t.sends("PINGREQ").receives(Incoming::PingResp);
        while t.sent.is_empty() {
            t.passes_one_timer();
        }
        t.sends("PUBLISH id=1 qos=1 dup silent \"x\"").lets_stand();
        t.sends("PUBLISH id=2 qos=1 dup closing \"x\"").silent();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.resolved(closing, "perhaps Parked");
    t.sends("PINGREQ").receives(Incoming::PingResp);
    while t.sent.is_empty() {
        t.passes_one_timer();
    }
    t.sends("PUBLISH id=1 qos=1 dup silent \"x\"").lets_stand();
    let other = t.publish("t", 1, "y");
    t.sends("PUBLISH id=3 qos=1 t \"y\"");
    t.receives(puback(3)).resolved(other, "delivered x1");
    t.resolved(silent, "perhaps Unanswered").finish();
}
