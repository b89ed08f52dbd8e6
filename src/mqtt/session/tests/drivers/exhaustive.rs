//! Every interleaving in a small world. For tests only.
//!
//! A [`Budget`] bounds what may happen, so the distinct states are finite and this driver visits all of them.
//! The rules hold after every step, and from every state (one in sixteen in the largest world) the world runs on
//! to the end without further trouble: then everything has ended and nothing is left. The session gives up no
//! link to leave a message with the server once the receivers have read everything.

mod exploration;

use super::super::rules::{FAULTS, Fault, needs_suspects, needs_version5};
use super::world::Offer;
use exploration::{Budget, explore};

/// Fewer bytes than any two messages of the server have.
const ROOM_FOR_ONE: Option<usize> = Some(3);

/// With a quarter more there is room for two messages of QoS 2, which have 258 bytes, and for no larger two. One of
/// them may count as accepted while it waits.
const ROOM_FOR_TWO_SMALL: Option<usize> = Some(416);

/// Explores a world that has more than so many states.
fn no_violation(name: &str, budget: Budget, ends: u64, more_than: usize) {
    match explore(budget, Fault::None, ends) {
        Ok(states) => {
            println!("{name}: {states} distinct states, no violation");
            assert!(states > more_than, "{states}");
        }
        Err(transcript) => panic!("{name}:\n{transcript}"),
    }
}

#[test]
fn every_interleaving_of_publishes_and_losses() {
    let budget = Budget {
        publishes: [1, 1, 1],
        losses: 2,
        forgets: 1,
        ..Budget::default()
    };
    no_violation("publishes and losses", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_publishes_and_stray_acknowledgments() {
    let budget = Budget {
        publishes: [0, 1, 1],
        subscribes: 1,
        losses: 1,
        strays: 1,
        ..Budget::default()
    };
    no_violation("stray acknowledgments", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_subscriptions_and_losses() {
    let budget = Budget {
        publishes: [0, 1, 0],
        subscribes: 2,
        unsubscribes: 1,
        losses: 2,
        forgets: 2,
        ..Budget::default()
    };
    no_violation("subscriptions and losses", budget, 1, 10_000);
}

#[test]
fn every_interleaving_while_identifiers_are_passed_over() {
    let budget = Budget {
        publishes: [0, 2, 2],
        subscribes: 1,
        losses: 1,
        few_identifiers: true,
        ..Budget::default()
    };
    no_violation("identifiers passed over", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_messages_and_losses() {
    let budget = Budget {
        subscribes: 1,
        pings: 1,
        messages: [1, 1],
        losses: 2,
        forgets: 1,
        ..Budget::default()
    };
    no_violation("messages and losses", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_messages_that_are_left_with_the_server_and_losses() {
    let budget = Budget {
        subscribes: 1,
        messages: [2, 1],
        early: 1,
        losses: 2,
        room: ROOM_FOR_ONE,
        ..Budget::default()
    };
    no_violation("messages left with the server", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_messages_behind_one_that_is_left_and_losses() {
    let budget = Budget {
        subscribes: 1,
        messages: [1, 2],
        early: 1,
        losses: 2,
        room: ROOM_FOR_TWO_SMALL,
        ..Budget::default()
    };
    no_violation("messages behind one that is left", budget, 1, 10_000);
}

/// All that waits is on one account, also when the server has forgotten the session.
#[test]
fn every_interleaving_of_messages_that_count_as_accepted_while_they_wait() {
    let budget = Budget {
        subscribes: 1,
        messages: [1, 2],
        early: 2,
        losses: 1,
        forgets: 1,
        room: ROOM_FOR_TWO_SMALL,
        ..Budget::default()
    };
    no_violation("messages accepted early", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_commands_that_links_are_lost_with() {
    let budget = Budget {
        publishes: [0, 1, 1],
        losses: 3,
        suspects: Some((1, 2)),
        waits: 3,
        ..Budget::default()
    };
    no_violation("commands that are suspected", budget, 1, 10_000);
}

/// A SUBSCRIBE, and an UNSUBSCRIBE that takes it back, may stand without an answer beside a PUBLISH.
#[test]
fn every_interleaving_of_requests_that_stand_without_an_answer() {
    let budget = Budget {
        publishes: [0, 1, 0],
        subscribes: 1,
        unsubscribes: 1,
        losses: 2,
        suspects: Some((2, 2)),
        waits: 5,
        ..Budget::default()
    };
    no_violation("requests that stand", budget, 1, 10_000);
}

/// The rest of one of them leaves after its answer, where the other may have overtaken it.
#[test]
fn every_interleaving_of_requests_in_two_packets_that_stand_without_an_answer() {
    for filters in [[9, 1], [1, 9]] {
        let budget = Budget {
            publishes: [0, 0, 0],
            losses: 2,
            ..in_two_packets(filters)
        };
        no_violation(&format!("{filters:?} filters"), budget, 1, 5_000);
    }
}

/// Requests with so many filters, and a PUBLISH beside them, one of which is late.
fn in_two_packets(filters: [u8; 2]) -> Budget {
    Budget {
        publishes: [0, 1, 0],
        subscribes: 1,
        unsubscribes: 1,
        filters: Some(filters),
        losses: 1,
        suspects: Some((1, 2)),
        waits: 4,
        ..Budget::default()
    }
}

#[test]
fn every_interleaving_of_requests_that_links_are_lost_with() {
    let budget = Budget {
        subscribes: 1,
        unsubscribes: 1,
        losses: 3,
        forgets: 1,
        suspects: Some((1, 2)),
        waits: 3,
        ..Budget::default()
    };
    no_violation("requests that are suspected", budget, 1, 10_000);
}

/// A broker of MQTT 5 that takes so many messages at one time, on the first link and on the others.
const fn takes(receive_maximum: [u16; 2]) -> Option<Offer> {
    Some(Offer {
        receive_maximum,
        maximum_qos: [2, 2],
    })
}

#[test]
fn every_interleaving_of_publishes_within_a_quota_and_losses() {
    let budget = Budget {
        publishes: [1, 1, 1],
        losses: 2,
        forgets: 1,
        refusals: 1,
        offer: takes([2, 1]),
        ..Budget::default()
    };
    no_violation("MQTT 5: a quota and losses", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_requests_that_pass_messages() {
    let budget = Budget {
        publishes: [0, 2, 0],
        subscribes: 1,
        unsubscribes: 1,
        losses: 1,
        refusals: 1,
        offer: takes([1, 1]),
        ..Budget::default()
    };
    no_violation("MQTT 5: requests that pass messages", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_refusals() {
    let budget = Budget {
        publishes: [0, 2, 1],
        losses: 1,
        refusals: 2,
        disconnects: 1,
        offer: takes([1, 2]),
        ..Budget::default()
    };
    no_violation("MQTT 5: refusals", budget, 1, 10_000);
}

/// The broker of the second link takes less.
#[test]
fn every_interleaving_of_limits_that_change_with_the_link() {
    let budget = Budget {
        publishes: [1, 1, 2],
        losses: 2,
        forgets: 1,
        offer: Some(Offer {
            receive_maximum: [2, 2],
            maximum_qos: [2, 1],
        }),
        ..Budget::default()
    };
    no_violation("MQTT 5: limits that change", budget, 1, 10_000);
}

/// One that stands without an answer takes all of the quota, and no other can be the witness.
#[test]
fn every_interleaving_of_messages_that_stand_and_take_the_quota() {
    let budget = Budget {
        publishes: [0, 1, 1],
        losses: 1,
        suspects: Some((1, 1)),
        waits: 8,
        offer: takes([1, 1]),
        ..Budget::default()
    };
    no_violation("MQTT 5: messages that take the quota", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_stray_acknowledgments_of_mqtt_5() {
    let budget = Budget {
        publishes: [0, 1, 1],
        subscribes: 1,
        losses: 1,
        strays: 1,
        offer: takes([1, 1]),
        ..Budget::default()
    };
    no_violation("MQTT 5: stray acknowledgments", budget, 1, 5_000);
}

/// The largest worlds. They take minutes in a build that is not optimised, so only an optimised one without debug
/// assertions has them: `scripts/test.sh` makes it in its step `exploration`.
#[cfg(not(debug_assertions))]
mod large {
    use super::{Budget, Offer, ROOM_FOR_ONE, in_two_packets, no_violation, takes};

    /// One that stands without an answer takes all of the quota, and only a request can be the witness. Without one, two
    /// such links give it up.
    #[test]
    fn every_interleaving_of_suspects_that_take_the_quota() {
        let budget = Budget {
            publishes: [0, 2, 0],
            subscribes: 1,
            losses: 1,
            suspects: Some((1, 2)),
            waits: 8,
            disconnects: 1,
            offer: takes([1, 1]),
            ..Budget::default()
        };
        no_violation("MQTT 5: suspects and the quota", budget, 16, 100_000);
    }

    #[test]
    fn every_interleaving_of_messages_of_mqtt_5() {
        let budget = Budget {
            subscribes: 1,
            messages: [1, 1],
            early: 1,
            losses: 2,
            forgets: 1,
            disconnects: 1,
            offer: takes([1, 1]),
            room: ROOM_FOR_ONE,
            ..Budget::default()
        };
        no_violation("MQTT 5: messages", budget, 1, 10_000);
    }

    #[test]
    fn every_interleaving_of_more_publishes_within_a_quota_and_losses() {
        let budget = Budget {
            publishes: [1, 2, 1],
            subscribes: 1,
            losses: 2,
            forgets: 1,
            refusals: 1,
            offer: takes([2, 1]),
            ..Budget::default()
        };
        no_violation("MQTT 5: more within a quota", budget, 16, 100_000);
    }

    #[test]
    fn every_interleaving_of_everything_in_mqtt_5() {
        let budget = Budget {
            publishes: [0, 1, 2],
            subscribes: 1,
            messages: [1, 0],
            losses: 2,
            refusals: 1,
            disconnects: 1,
            offer: Some(Offer {
                receive_maximum: [1, 2],
                maximum_qos: [2, 1],
            }),
            ..Budget::default()
        };
        no_violation("MQTT 5: everything", budget, 16, 100_000);
    }

    #[test]
    fn every_interleaving_of_requests_in_two_packets_that_stand_beside_a_publish() {
        for filters in [[9, 1], [1, 9], [9, 9]] {
            let name = format!("{filters:?} filters and a PUBLISH");
            no_violation(&name, in_two_packets(filters), 1, 10_000);
        }
    }

    #[test]
    fn every_interleaving_of_requests_in_two_packets_that_stand_and_new_sessions() {
        for filters in [[9, 1], [1, 9]] {
            let budget = Budget {
                publishes: [0, 0, 0],
                losses: 2,
                forgets: 1,
                ..in_two_packets(filters)
            };
            let name = format!("{filters:?} filters and new sessions");
            no_violation(&name, budget, 1, 10_000);
        }
    }

    #[test]
    fn every_interleaving_of_more_publishes_and_losses() {
        let budget = Budget {
            publishes: [1, 2, 1],
            losses: 2,
            forgets: 1,
            ..Budget::default()
        };
        no_violation("more publishes and losses", budget, 1, 100_000);
    }

    #[test]
    fn every_interleaving_of_publishes_losses_and_stray_acknowledgments() {
        let budget = Budget {
            publishes: [1, 1, 1],
            losses: 2,
            forgets: 1,
            strays: 1,
            ..Budget::default()
        };
        no_violation("losses and stray acknowledgments", budget, 1, 100_000);
    }

    #[test]
    fn every_interleaving_of_more_messages_that_are_left_with_the_server_and_losses() {
        let budget = Budget {
            subscribes: 1,
            messages: [2, 1],
            losses: 3,
            forgets: 1,
            room: ROOM_FOR_ONE,
            ..Budget::default()
        };
        no_violation("more messages left with the server", budget, 1, 100_000);
    }

    /// Every QoS, a subscription and messages in both directions.
    #[test]
    fn every_interleaving_of_everything() {
        let budget = Budget {
            publishes: [0, 1, 1],
            subscribes: 1,
            messages: [1, 1],
            losses: 2,
            forgets: 1,
            ..Budget::default()
        };
        no_violation("everything", budget, 16, 1_000_000);
    }
}

#[test]
fn every_fault_is_noticed() {
    let everything = Budget {
        publishes: [0, 1, 1],
        subscribes: 1,
        messages: [0, 1],
        losses: 2,
        forgets: 1,
        ..Budget::default()
    };
    let left_with_the_server = Budget {
        subscribes: 1,
        messages: [2, 1],
        losses: 2,
        room: ROOM_FOR_ONE,
        ..Budget::default()
    };
    let an_unknown_pubrec = Budget {
        publishes: [0, 1, 0],
        strays: 1,
        ..Budget::default()
    };
    let identifiers_go_round = Budget {
        publishes: [0, 4, 0],
        losses: 1,
        few_identifiers: true,
        ..Budget::default()
    };
    let two_of_qos_2 = Budget {
        publishes: [0, 0, 2],
        ..Budget::default()
    };
    let accepted_early = Budget {
        early: 2,
        forgets: 1,
        room: ROOM_FOR_TWO_SMALL,
        messages: [0, 3],
        ..left_with_the_server
    };
    let suspected = Budget {
        publishes: [0, 3, 1],
        losses: 2,
        suspects: Some((1, 1)),
        waits: 2,
        few_identifiers: true,
        ..Budget::default()
    };
    let suspected_twice = Budget {
        publishes: [0, 1, 0],
        losses: 2,
        suspects: Some((1, 2)),
        waits: 1,
        ..Budget::default()
    };
    let suspected_with_company = Budget {
        strays: 1,
        suspects: Some((1, 1)),
        ..suspected_twice
    };
    let standing_while_pinged = Budget {
        pings: 1,
        losses: 1,
        strays: 0,
        waits: 4,
        ..suspected_with_company
    };
    let suspected_request = Budget {
        subscribes: 1,
        losses: 1,
        strays: 1,
        suspects: Some((1, 1)),
        ..Budget::default()
    };
    let requests = Budget {
        subscribes: 1,
        unsubscribes: 1,
        ..Budget::default()
    };
    let within_a_quota = Budget {
        publishes: [0, 2, 0],
        losses: 1,
        refusals: 1,
        offer: takes([1, 1]),
        ..Budget::default()
    };
    for (fault, words) in FAULTS {
        let budget = match fault {
            Fault::QuotaOfEarlierLink => Budget {
                offer: takes([2, 1]),
                ..within_a_quota
            },
            Fault::QuotaFreedAtPubrec | Fault::RefusalIsReleased => Budget {
                publishes: [0, 1, 1],
                ..within_a_quota
            },
            Fault::FillsForEver => Budget {
                publishes: [0, 1, 0],
                suspects: Some((1, 1)),
                waits: 4,
                offer: takes([1, 1]),
                refusals: 0,
                ..within_a_quota
            },
            Fault::RequestHeld => Budget {
                publishes: [0, 0, 2],
                subscribes: 1,
                ..within_a_quota
            },
            Fault::LimitIgnored => Budget {
                publishes: [0, 0, 1],
                offer: Some(Offer {
                    receive_maximum: [1, 1],
                    maximum_qos: [1, 1],
                }),
                ..within_a_quota
            },
            Fault::SentAndNeverSent => Budget {
                publishes: [0, 0, 1],
                forgets: 1,
                ..within_a_quota
            },
            _ if needs_version5(fault) => within_a_quota,
            Fault::GivenUpAtOnce | Fault::IdleCut => suspected_twice,
            Fault::CompanyForgotten => suspected_with_company,
            Fault::GivenUpWithoutWitness => standing_while_pinged,
            Fault::EarlierLinkAnswers => suspected_request,
            Fault::RequestOvertakes => requests,
            Fault::OvertakenForgotten => in_two_packets([9, 1]),
            Fault::RestIsSentAtOnce => Budget {
                unsubscribes: 0,
                ..in_two_packets([9, 1])
            },
            _ if needs_suspects(fault) => suspected,
            Fault::Qos2Unbounded => two_of_qos_2,
            Fault::UnknownIsFree => an_unknown_pubrec,
            Fault::SentByIdentifier => identifiers_go_round,
            // This server commits no violation.
            Fault::ViolationIgnored => continue,
            Fault::WrongAnswer
            | Fault::LeftIsKnown
            | Fault::LeftIsAcknowledged
            | Fault::MakesWay => left_with_the_server,
            Fault::EarlyIgnored | Fault::EarlyBeyondTheLimit | Fault::AccountForgotten => {
                accepted_early
            }
            _ => everything,
        };
        let transcript = explore(budget, fault, 1).expect_err(&format!("{fault:?}"));
        let broken = transcript.lines().last().unwrap_or_default();
        println!("{fault:?}: {broken}");
        assert!(broken.contains(words), "{fault:?}:\n{transcript}");
    }
}
