//! All faults, and those inside the session, which are committed through `inspect.rs`. For tests only.

use std::sync::Arc;

use super::version5::plain;
use super::{Fault, Harness, Verdict};
use crate::mqtt::packet::{Incoming, PacketId};
use crate::mqtt::session::{Outcome, Reason};

/// Every fault, with words of the rule that notices it.
pub(crate) const FAULTS: [(Fault, &str); 46] = [
    (Fault::ViolationIgnored, "the link is still there"),
    (Fault::OutcomeLost, "have not ended, the session has"),
    (Fault::OutcomeTwice, "ends a second time"),
    (Fault::ToldTwice, "because of LinkLost"),
    (Fault::AcceptedByItself, "before it was accepted"),
    (Fault::MessageTwice, "was delivered 2 times"),
    (Fault::WrongFlags, "the client sends a malformed packet"),
    (Fault::NoDup, "DUP is wrong"),
    (Fault::WrongAnswer, ", due: []"),
    (Fault::ByteLost, "the client sends"),
    (Fault::LossUntold, "the session goes on without a link"),
    (Fault::FreedAtPubrec, "twice on this link, or out of order"),
    (Fault::Qos2Unbounded, "more QoS 2 messages in flight than"),
    (Fault::UnknownIsFree, "is used by Released(None)"),
    (
        Fault::SentByIdentifier,
        "twice on this link, or out of order",
    ),
    (Fault::RenewalForgotten, "subscri"),
    (Fault::DroppedWithSession, "have not ended, the session has"),
    (Fault::UnreleasedForgotten, "was delivered 1 times"),
    (Fault::LeftIsKnown, "was delivered 0 times"),
    (Fault::LeftIsAcknowledged, "acknowledged out of order"),
    (Fault::MakesWay, "should have been taken"),
    (Fault::EarlyIgnored, "was accepted and is not acknowledged"),
    (Fault::EarlyBeyondTheLimit, "before it was accepted"),
    (Fault::AccountForgotten, "bytes wait, the session counts"),
    (Fault::TriedTogether, "before the trial link has stood idle"),
    (Fault::GivenUpAtOnce, "is given up as Parked"),
    (Fault::GivenUpUntold, "nobody said that this"),
    (Fault::GivenUpWithoutWitness, "is given up as Unanswered"),
    (Fault::CompanyForgotten, "is given up as Parked"),
    (Fault::IdleCut, "the trial link has stood idle for"),
    (Fault::EarlierLinkAnswers, "because of Other"),
    (Fault::RequestOvertakes, "was unsubscribed, and"),
    (
        Fault::RestIsSentAtOnce,
        "it is sent beside one that is tried",
    ),
    (Fault::OvertakenForgotten, "was unsubscribed, and"),
    (Fault::GivenUpIsFree, "is used by GivenUp"),
    (Fault::QuotaIgnored, "that the broker takes"),
    (Fault::QuotaOfEarlierLink, "that the broker takes"),
    (Fault::QuotaFreedAtPubrec, "that the broker takes"),
    (
        Fault::QuotaKeptByRefused,
        "the session takes no further command",
    ),
    (
        Fault::FillsForEver,
        "leaves no room for another message, and is not given up",
    ),
    (Fault::RequestHeld, "is held back"),
    (Fault::RefusalIsReleased, ", due: []"),
    (Fault::RefusalUnheard, "was answered, and has not ended"),
    (Fault::RefusalUntold, "ends as Delivered"),
    (Fault::LimitIgnored, "is above the maximum QoS"),
    (Fault::SentAndNeverSent, "ends as NeverSent"),
];

/// Whether the fault shows only where commands are suspected.
pub(crate) fn needs_suspects(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::TriedTogether
            | Fault::GivenUpAtOnce
            | Fault::GivenUpUntold
            | Fault::GivenUpWithoutWitness
            | Fault::CompanyForgotten
            | Fault::IdleCut
            | Fault::EarlierLinkAnswers
            | Fault::RestIsSentAtOnce
            | Fault::OvertakenForgotten
            | Fault::GivenUpIsFree
    )
}

/// Whether the fault shows only where links speak MQTT 5.
pub(crate) fn needs_version5(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::QuotaIgnored
            | Fault::QuotaOfEarlierLink
            | Fault::QuotaFreedAtPubrec
            | Fault::QuotaKeptByRefused
            | Fault::FillsForEver
            | Fault::RequestHeld
            | Fault::RefusalIsReleased
            | Fault::RefusalUnheard
            | Fault::RefusalUntold
            | Fault::LimitIgnored
            | Fault::SentAndNeverSent
    )
}

impl Harness {
    pub(super) fn break_at_beginning(&mut self) {
        match self.fault {
            Fault::Qos2Unbounded => self.session.break_window_qos2(),
            Fault::TriedTogether => self.session.break_suspicion(),
            Fault::GivenUpAtOnce => self.session.break_threshold(1),
            Fault::FillsForEver => self.session.break_threshold(u32::MAX),
            _ => {}
        }
    }

    pub(super) fn break_at_loss(&mut self) {
        match self.fault {
            Fault::UnreleasedForgotten => self.session.break_inbound(),
            Fault::SentByIdentifier => self.session.break_sending_order(),
            Fault::GivenUpIsFree => self.session.break_given_up(),
            Fault::ToldTwice => {
                let outcome = Outcome::PerhapsDelivered(Reason::LinkLost);
                self.session.break_ending(outcome);
            }
            _ => {}
        }
    }

    pub(super) fn break_before(&mut self, packet: &Incoming) {
        if let (Fault::QuotaKeptByRefused, (Incoming::PubAck(id), true)) =
            (self.fault, plain(packet))
        {
            self.session.break_counting(id);
        }
        let is_new_session = matches!(
            packet,
            Incoming::ConnAck {
                session_present: false,
                ..
            }
        );
        match (self.fault, packet) {
            (Fault::RenewalForgotten, _) if is_new_session => self.session.break_filters(),
            (Fault::DroppedWithSession, _) if is_new_session => self.session.break_in_flight(),
            (Fault::EarlierLinkAnswers, Incoming::SubAck { id, .. }) => {
                self.session.break_link_of(*id);
            }
            (Fault::OvertakenForgotten, Incoming::UnsubAck(id)) => {
                self.session.break_overtaken(*id);
            }
            (Fault::FreedAtPubrec, Incoming::PubRec(id)) => {
                self.session.break_identifier(*id);
            }
            (Fault::MakesWay, Incoming::Publish { id, message })
                if self.record.arrivals.verdict(*id, message) == Verdict::Deliver =>
            {
                let ids: Vec<_> = self.record.arrivals.accepted_before().collect();
                for id in ids.into_iter().filter_map(PacketId::new) {
                    self.session.break_arrival(id);
                }
            }
            _ => {}
        }
    }

    pub(super) fn break_after(&mut self, packet: &Incoming) {
        if let (Fault::UnknownIsFree, Incoming::PubRec(id)) = (self.fault, packet) {
            self.session.break_unknown(*id);
        }
        match (self.fault, packet) {
            (Fault::QuotaIgnored, Incoming::ConnAck5(_)) => {
                self.session.break_quota(Some(u16::MAX));
            }
            (Fault::QuotaOfEarlierLink, Incoming::ConnAck5(_)) => {
                let first = *self.first_quota.get_or_insert(self.session.quota());
                self.session.break_quota(first);
            }
            (Fault::QuotaFreedAtPubrec, Incoming::PubRec(id)) => self.session.break_place(*id),
            (Fault::LimitIgnored, Incoming::ConnAck5(_)) => self.session.break_limits(),
            _ => {}
        }
        match (self.fault, packet) {
            (Fault::GivenUpWithoutWitness, Incoming::PingResp) => {
                self.session.break_witness(self.now);
            }
            (Fault::IdleCut, Incoming::PingResp) => self.session.break_idle(self.now),
            (Fault::RestIsSentAtOnce, Incoming::SubAck { .. }) => self.session.break_turn(self.now),
            _ => {}
        }
        if let Incoming::ConnAck {
            session_present: false,
            ..
        } = packet
            && self.fault == Fault::AccountForgotten
        {
            self.session.break_account();
        }
        let Incoming::Publish {
            id: Some(id),
            message,
        } = packet
        else {
            return;
        };
        if self.record.arrivals.verdict(Some(*id), message) != Verdict::Leave {
            return;
        }
        match self.fault {
            Fault::LeftIsKnown => self.session.break_left(*id, Arc::clone(message)),
            Fault::LeftIsAcknowledged => self.session.break_order(*id),
            _ => {}
        }
    }
}
