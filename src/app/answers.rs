//! \[0\] What a broker of MQTT 5 says to a command: its code and the code's name, its own reason, and the remedy.
//!
//! A broker of MQTT 3.1.1 gives no code; it refuses filters, and closes the connection for the rest. Pure; the threads of
//! a run use it.

use mqtt_connection_sharing::{Answer, BrokerLimit, Outcome, Reason, ReasonCode};

use super::names::as_given;

/// The command that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempted {
    Publish(MadeBy),
    Subscribe(MadeBy),
}

/// The maker of the message or the filter: each makes it smaller in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MadeBy {
    /// The caller of `pub` or `sub`.
    Caller,
    /// The demo or the bench.
    Plan,
    Check,
}

/// How a command ended that was not done, and the remedy if one is known.
pub(crate) fn told(asked: Attempted, outcome: &Outcome) -> String {
    let told = match remedy(asked, outcome) {
        Some(remedy) => format!("{outcome}; {remedy}"),
        None => outcome.to_string(),
    };
    as_given(&told).into_owned()
}

/// The reason code with which the broker refused a command.
pub(crate) fn reason_code(outcome: &Outcome) -> Option<u8> {
    let code = outcome.answer()?.code;
    code.is_failure().then_some(code.value())
}

/// Whether the broker has refused it, or would have.
pub(crate) fn is_refused(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Refused { .. } | Outcome::NeverSent(Reason::BrokerLimit(_))
    )
}

/// The remedy where the broker said why, or has stated a limit.
fn remedy(asked: Attempted, outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Refused {
            answer: Some(answer),
            ..
        } => Some(of_answer(asked, answer)),
        Outcome::NeverSent(Reason::BrokerLimit(limit)) => of_limit(asked, *limit),
        Outcome::NeverSent(Reason::Expired) => {
            Some("raise --message-expiry, or see why there was no connection in that time")
        }
        _ => None,
    }
}

/// The remedy for what a broker answers.
pub(crate) fn of_answer(asked: Attempted, answer: &Answer) -> &'static str {
    of_code(asked, answer.code)
}

/// The remedy for a code.
pub(crate) fn of_code(asked: Attempted, code: ReasonCode) -> &'static str {
    match (code.value(), asked) {
        (0x87, Attempted::Publish(_)) => {
            "have the broker's rules allow this client to publish to that topic (AWS IoT: iot:Publish in the policy)"
        }
        (0x87, Attempted::Subscribe(_)) => {
            "have the broker's rules allow this client to subscribe to it (AWS IoT: iot:Subscribe in the policy)"
        }
        (0x8f, _) => "use another filter: the broker does not take this one",
        (0x90, _) => "use another topic: the broker does not take this one",
        (0x91, _) => {
            "give --clean-session or another --client-id: the broker still holds an earlier message under that number"
        }
        (0x95, _) => of_size(asked),
        (0x96, _) => "publish less often, for example with --message-rate",
        (0x97, Attempted::Publish(_)) => {
            "stay below the broker's quota, for example with a lower --message-rate, or have it raised"
        }
        (0x97, Attempted::Subscribe(_)) => {
            "subscribe to fewer filters, or have the broker's quota raised"
        }
        (0x9a, _) => "leave --retain out: the broker keeps no messages",
        (0x9b, _) => "use a lower `qos`",
        (0x9e, _) => "subscribe without $share",
        (0xa2, _) => "subscribe without + and #",
        _ => "see what the broker's log says of it",
    }
}

/// The remedy for a limit that the broker has stated.
pub(crate) fn of_limit(asked: Attempted, limit: BrokerLimit) -> Option<&'static str> {
    Some(match (limit, asked) {
        (BrokerLimit::MaximumQos, _) => "use a lower `qos`",
        (BrokerLimit::RetainAvailable, _) => "leave --retain out",
        (BrokerLimit::MaximumPacketSize, _) => of_size(asked),
        (BrokerLimit::WildcardAvailable, _) => "subscribe without + and #",
        (BrokerLimit::SharedAvailable, _) => "subscribe without $share",
        _ => return None,
    })
}

/// The remedy for a packet that is too large.
fn of_size(asked: Attempted) -> &'static str {
    match asked {
        Attempted::Publish(MadeBy::Caller) => {
            "make the message smaller, or have the broker allow larger packets"
        }
        Attempted::Subscribe(MadeBy::Caller) => {
            "subscribe to a shorter filter, or have the broker allow larger packets"
        }
        Attempted::Publish(MadeBy::Plan) => {
            "lower --payload-size or shorten --topic-prefix, or have the broker allow larger packets"
        }
        Attempted::Subscribe(MadeBy::Plan) => {
            "shorten --topic-prefix, or have the broker allow larger packets"
        }
        Attempted::Publish(MadeBy::Check) | Attempted::Subscribe(MadeBy::Check) => {
            "give a shorter --topic, or have the broker allow larger packets"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_connection_sharing::Details;

    #[test]
    fn a_refusal_is_told_with_code_name_reason_and_remedy() {
        let details = Details {
            reason: Some("no rule for it".to_owned()),
            ..Details::default()
        };
        let answer = Answer::new(ReasonCode::new(0x87), details);
        let refused = Outcome::Refused {
            granted: Vec::new(),
            answer: Some(Box::new(answer)),
        };
        assert_eq!(
            told(Attempted::Publish(MadeBy::Caller), &refused),
            "refused by the broker, 0x87 (not authorized): \"no rule for it\"; have the broker's rules allow this \
             client to publish to that topic (AWS IoT: iot:Publish in the policy)"
        );
        assert_eq!(reason_code(&refused), Some(0x87));
        assert!(is_refused(&refused));
        let limit = Outcome::NeverSent(Reason::BrokerLimit(BrokerLimit::MaximumQos));
        assert_eq!(
            told(Attempted::Publish(MadeBy::Caller), &limit),
            "never sent: a QoS above the broker's maximum; use a lower --qos"
        );
        assert_eq!((reason_code(&limit), is_refused(&limit)), (None, true));
        let lost = Outcome::PerhapsDelivered(Reason::LinkLost);
        assert_eq!(
            told(Attempted::Publish(MadeBy::Caller), &lost),
            lost.to_string()
        );
        assert!(!is_refused(&lost));
    }

    #[test]
    fn a_packet_that_is_too_large_is_made_smaller_where_it_comes_from() {
        let limit = Outcome::NeverSent(Reason::BrokerLimit(BrokerLimit::MaximumPacketSize));
        for (asked, remedy) in [
            (
                Attempted::Publish(MadeBy::Caller),
                "make the message smaller",
            ),
            (
                Attempted::Subscribe(MadeBy::Caller),
                "subscribe to a shorter filter",
            ),
            (
                Attempted::Publish(MadeBy::Plan),
                "lower --payload-size or shorten --topic-prefix",
            ),
            (Attempted::Subscribe(MadeBy::Plan), "shorten --topic-prefix"),
            (Attempted::Publish(MadeBy::Check), "give a shorter --topic"),
            (
                Attempted::Subscribe(MadeBy::Check),
                "give a shorter --topic",
            ),
        ] {
            let remedy = format!("; {remedy}, or have the broker allow larger packets");
            assert!(told(asked, &limit).ends_with(&remedy), "{asked:?}");
            let code = of_code(asked, ReasonCode::new(0x95));
            assert_eq!(format!("; {code}"), remedy, "{asked:?}");
        }
    }

    #[test]
    fn each_code_of_aws_iot_has_a_remedy_of_its_own() {
        let unknown = of_code(Attempted::Publish(MadeBy::Caller), ReasonCode::new(0x80));
        for (asked, codes) in [
            (Attempted::Publish(MadeBy::Caller), [0x87, 0x90, 0x91, 0x97]),
            (
                Attempted::Subscribe(MadeBy::Caller),
                [0x87, 0x8f, 0x91, 0x97],
            ),
        ] {
            for code in codes {
                let remedy = of_code(asked, ReasonCode::new(code));
                assert_ne!(remedy, unknown, "{code:x}");
            }
        }
    }
}
