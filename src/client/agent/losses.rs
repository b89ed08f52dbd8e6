//! The links that were lost, one after the other: lines that say what was seen of them, and name first what it speaks
//! for. Pure; the loop's thread.

use std::time::Duration;

use super::words5;
use crate::error::{Blame, Error};
use crate::mqtt::session::{FirstUnanswered, LinkEnd, LinkLoss};

/// A link that was up for this long shows that connecting works: the delays start over.
pub(super) const LASTING: Duration = Duration::from_secs(10);

/// The links that were lost in a row, each soon.
#[derive(Debug, Default)]
pub(super) struct Losses {
    in_a_row: u32,
    /// The command that stood first unanswered on the last of them, and on how many of them in a row.
    first: Option<(String, u32)>,
}

impl Losses {
    /// A link is lost that lasted so long. Returns the line about it.
    pub(super) fn lost(
        &mut self,
        address: &str,
        loss: &LinkLoss,
        lasted: Duration,
        unanswered: Option<FirstUnanswered>,
    ) -> Error {
        if lasted >= LASTING {
            *self = Losses::default();
        } else {
            self.in_a_row += 1;
        }
        let count = unanswered.as_ref().map_or(0, |unanswered| unanswered.count);
        // A broker that says why is believed.
        let is_said = matches!(loss, LinkLoss::Disconnected(_));
        let is_late =
            matches!(loss, LinkLoss::AckTimeout(_)) || loss.end() == LinkEnd::ByBroker && !is_said;
        let lacks_qos2 = is_late && unanswered.as_ref().is_some_and(|first| first.lacks_qos2);
        self.first = unanswered.map(|unanswered| {
            let before = self.first.take();
            let before = before.filter(|(name, _)| *name == unanswered.name);
            (unanswered.name, before.map_or(0, |(_, times)| times) + 1)
        });
        let mut problem = format!("lost after {} ms: {loss}", lasted.as_millis());
        match &self.first {
            None if loss.end() == LinkEnd::ByBroker && !is_said => {
                problem += "; nothing was unanswered"
            }
            None => {}
            Some((name, times)) => {
                problem += &format!("; {name} was the first of {count} unanswered");
                if *times > 1 {
                    problem += &format!(", as on {} before", links(times - 1));
                }
            }
        }
        if self.in_a_row > 1 {
            let seconds = LASTING.as_secs();
            problem += &format!(
                "; {} in a row lived less than {seconds} s",
                links(self.in_a_row)
            );
        }
        if lacks_qos2 {
            problem += "; no message of QoS 2 was ever answered";
        }
        let blame = match loss {
            LinkLoss::Protocol(_) => Blame::Broker,
            _ => Blame::Network,
        };
        let advice = match lacks_qos2 {
            true => "use `qos` 1 if the broker has no QoS 2; else see what its log says",
            false => self.advice(loss, lasted),
        };
        let error = Error::new(blame, format!("connection to {address}"), problem, advice);
        match loss {
            LinkLoss::Disconnected(said) => error.with_reason_code(said.code.value()),
            _ => error,
        }
    }

    /// The causes to look at, in the order of their likelihood after what was seen.
    fn advice(&self, loss: &LinkLoss, lasted: Duration) -> &'static str {
        let is_first_again = self.first.as_ref().is_some_and(|(_, times)| *times > 1);
        match (loss, &self.first) {
            (LinkLoss::Protocol(error), _) if error.packet() == "PUBLISH" => {
                "mend the program that publishes it"
            }
            (LinkLoss::Protocol(_), _) => {
                "mend the broker, or whatever stands between it and this client"
            }
            (LinkLoss::Disconnected(said), _) => words5::advice(said.code),
            (LinkLoss::PeerClosed | LinkLoss::Reset(_), first) if lasted < LASTING => match first {
                // Two clients with one identifier take turns in throwing each other out.
                None if self.in_a_row > 1 => {
                    "see whether another program uses the same client identifier, and what the broker's log says"
                }
                Some(_) if is_first_again => {
                    "see what the broker's log says of it: whether the broker allows it and its size, and then \
                     whether another program uses the same client identifier"
                }
                None => {
                    "if it happens again, see what the broker's log says: whether it was stopped, and whether another \
                     program uses the same client identifier"
                }
                Some(_) => {
                    "if it happens again, see what the broker's log says: whether it was stopped, whether another \
                     program uses the same client identifier, and whether it allows what was unanswered"
                }
            },
            _ => "",
        }
    }
}

fn links(count: u32) -> String {
    match count {
        1 => "1 link".to_owned(),
        more => format!("{more} links"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::{BrokerDisconnect, Details, ReasonCode};

    const SOON: Duration = Duration::from_millis(104);

    fn first(name: &str, count: usize) -> Option<FirstUnanswered> {
        Some(FirstUnanswered {
            name: name.to_owned(),
            count,
            lacks_qos2: false,
        })
    }

    #[test]
    fn where_no_message_of_qos_2_was_ever_answered_qos_1_is_named_unless_the_end_was_ours() {
        let told = |loss: LinkLoss| {
            let unanswered = FirstUnanswered {
                name: "PUBLISH to \"p\"".to_owned(),
                count: 1,
                lacks_qos2: true,
            };
            let line = Losses::default().lost("a:1", &loss, SOON, Some(unanswered));
            line.to_string()
        };
        assert_eq!(
            told(LinkLoss::PeerClosed),
            "connection to a:1: lost after 104 ms: the broker closed the connection; PUBLISH to \"p\" was the first of \
             1 unanswered; no message of QoS 2 was ever answered; use `qos` 1 if the broker has no QoS 2; else see what \
             its log says"
        );
        let late = LinkLoss::AckTimeout(crate::mqtt::packet::PacketId::new(1).unwrap());
        assert!(told(late).contains("use `qos` 1"));
        assert!(!told(LinkLoss::LeftWithBroker).contains("QoS"));
    }

    #[test]
    fn the_line_says_what_stood_first_how_long_the_link_lived_and_how_often_that_was_seen() {
        let mut losses = Losses::default();
        let mut lost = |name, count| {
            let loss = LinkLoss::PeerClosed;
            losses
                .lost("a:1", &loss, SOON, first(name, count))
                .to_string()
        };
        assert_eq!(
            lost("PUBLISH to \"p\"", 3),
            "connection to a:1: lost after 104 ms: the broker closed the connection; PUBLISH to \"p\" was the first of \
             3 unanswered; if it happens again, see what the broker's log says: whether it was stopped, whether \
             another program uses the same client identifier, and whether it allows what was unanswered"
        );
        assert_eq!(
            lost("PUBLISH to \"p\"", 1),
            "connection to a:1: lost after 104 ms: the broker closed the connection; PUBLISH to \"p\" was the first of \
             1 unanswered, as on 1 link before; 2 links in a row lived less than 10 s; see what the broker's log says \
             of it: whether the broker allows it and its size, and then whether another program uses the same client \
             identifier"
        );
        let other = lost("PUBREL", 1);
        assert!(
            other.contains("PUBREL was the first of 1 unanswered; 3 links in a row"),
            "{other}"
        );
    }

    #[test]
    fn with_nothing_unanswered_again_and_again_the_client_identifier_is_looked_at_first() {
        let mut losses = Losses::default();
        let mut lost = |lasted| losses.lost("a:1", &LinkLoss::PeerClosed, lasted, None);
        let once = lost(SOON);
        assert!(
            once.problem().ends_with("; nothing was unanswered"),
            "{once}"
        );
        assert!(once.advice().starts_with("if it happens again"), "{once}");
        // There is nothing that the broker might not allow.
        assert!(!once.advice().contains("unanswered"), "{once}");
        let twice = lost(SOON);
        assert!(
            twice.advice().starts_with("see whether another program"),
            "{twice}"
        );
        // A link that lasted begins a new row, and says nothing of a cause.
        assert_eq!(lost(LASTING).advice(), "");
        assert!(lost(SOON).advice().starts_with("if it happens again"));
    }

    #[test]
    fn a_broker_that_says_why_is_believed() {
        let unanswered = FirstUnanswered {
            name: "PUBLISH to \"p\"".to_owned(),
            count: 1,
            lacks_qos2: true,
        };
        let said = |code, server: Option<&str>| {
            let disconnect = BrokerDisconnect {
                code: ReasonCode::new(code),
                server_reference: server.map(str::to_owned),
                details: Details {
                    reason: Some("so it is".to_owned()),
                    ..Details::default()
                },
            };
            LinkLoss::Disconnected(Box::new(disconnect))
        };
        let mut losses = Losses::default();
        let line = losses.lost("a:1", &said(0x97, None), SOON, Some(unanswered));
        assert_eq!(
            line.to_string(),
            "connection to a:1: lost after 104 ms: the broker closed the connection with DISCONNECT 0x97 (quota \
             exceeded): \"so it is\"; PUBLISH to \"p\" was the first of 1 unanswered; stay below the broker's quota, \
             or have it raised"
        );
        let moved = said(0x9d, Some("b.example"));
        let line = Losses::default().lost("a:1", &moved, SOON, None);
        assert_eq!(
            line.to_string(),
            "connection to a:1: lost after 104 ms: the broker closed the connection with DISCONNECT 0x9D (server \
             moved): \"so it is\", server reference \"b.example\"; give the server that the broker names as `host`, or \
             ask who runs the broker which one to use"
        );
    }

    #[test]
    fn an_ending_of_our_own_names_no_cause_at_the_broker() {
        let mut losses = Losses::default();
        for loss in [
            LinkLoss::KeepAliveExpired,
            LinkLoss::Network("timed out".into()),
        ] {
            let told = losses.lost("a:1", &loss, SOON, first("PUBREL", 1));
            assert_eq!(told.advice(), "", "{told}");
            assert!(told.problem().contains("PUBREL was the first"), "{told}");
        }
    }
}
