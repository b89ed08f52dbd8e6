//! The sentences below the title, and the notes of lanes.

use super::*;

#[test]
fn overwritten_records_leave_a_gap_that_is_told() {
    let mut part = records(&["main", "publisher"], one_publish().split_off(2));
    part.threads[0].overwritten = 40;
    part.threads[1].overwritten = 2;
    let picture = told(&[part]);
    assert_eq!(row(&picture, "publisher", 0), [(0, 1000, Doing::Missing)]);
    assert_eq!(
        row(&picture, "loop, in main", 0)[0],
        (0, 200, Doing::Missing)
    );
    // Nobody knows any more which thread pushed the command.
    assert!(picture.lives.is_empty());
    assert!(
        picture.facts[1].starts_with("42 older records"),
        "{:?}",
        picture.facts
    );
}

#[test]
fn the_first_sentence_has_the_counts_of_the_result() {
    let counts = [
        MessageCounts {
            published: 3,
            acknowledged: 1,
            received: Some(1),
            duplicated: 1,
            dropped: 0,
            qos: 1,
        },
        MessageCounts {
            published: 1,
            acknowledged: 1,
            received: Some(0),
            duplicated: 0,
            dropped: 1,
            qos: 1,
        },
    ];
    let told_of = |all: &[MessageCounts]| {
        let loops = all.iter().map(|counts| LoopRecords {
            counts: *counts,
            ..records(&["main"], Vec::new())
        });
        told(&loops.collect::<Vec<_>>()).facts
    };
    let none = ": no connection was made";
    assert_eq!(
        told_of(&counts)[..2],
        [
            format!("4 messages published and 1 received{none}"),
            "of the messages, 2 were not acknowledged, 1 came twice, 1 found the inbox full and was dropped"
                .to_owned(),
        ]
    );
    let one = MessageCounts {
        published: 1,
        acknowledged: 1,
        received: None,
        ..MessageCounts::default()
    };
    assert_eq!(told_of(&[one]), [format!("1 message published{none}")]);
    // Nobody acknowledges QoS 0.
    let missing = |qos| {
        let counts = MessageCounts {
            acknowledged: 0,
            qos,
            ..one
        };
        told_of(&[MessageCounts::default(), counts]).swap_remove(1)
    };
    assert_eq!(
        [0, 1, 2].map(missing),
        ["sent", "acknowledged", "acknowledged"]
            .map(|end| format!("of the messages, 1 was not {end}"))
    );
}

#[test]
fn one_of_a_kind_is_told_as_one() {
    let mut part = records(&["main", "publisher"], Vec::new());
    part.threads[1].overwritten = 1;
    part.forgotten_threads = 1;
    let mut recordings = Recordings::default();
    recordings.loops.push_back(part);
    recordings.left_out = 1;
    assert_eq!(
        picture("a story", &recordings).facts[1..],
        [
            "1 older record was overwritten and is missing",
            "1 thread is missing",
            "1 earlier iteration is left out",
        ]
    );
}

#[test]
fn a_connection_is_away_until_the_next_one_or_the_end_of_the_loop() {
    let lost = What::Lost {
        loss: Loss::PeerClosed,
    };
    let made = What::Connected {
        session_present: true,
    };
    let loops = [
        vec![
            (100, 0, made),
            (200, 0, lost),
            (230, 0, made),
            (300, 0, lost),
            (350, 0, What::LoopEnded),
        ],
        vec![(500, 0, made), (600, 0, lost), (700, 0, What::LoopEnded)],
    ];
    let picture = told(&loops.map(|all| records(&["main"], all)));
    let said = "the connection was lost 3 times and was away for 180 ns in all";
    assert!(
        picture.facts.iter().any(|fact| fact == said),
        "{:?}",
        picture.facts
    );
}

#[test]
fn commands_that_nobody_acknowledges_are_waited_for_until_they_are_sent() {
    let mut all = Vec::new();
    for number in 1..=3 {
        let at = 100 * number;
        all.extend([
            (at, 1, pushed(number)),
            (at + 10, 1, What::Waits { command: number }),
            (at + 60, 0, written(number)),
            (
                at + 60,
                0,
                What::Ended {
                    command: number,
                    end: CommandEnd::Delivered,
                    answered: false,
                },
            ),
            (at + 70, 1, What::Told { command: number }),
        ]);
    }
    let picture = told(&[records(&["main", "publisher"], all)]);
    let said = "publisher: 3 commands in 270 ns, one after the other; it waited 180 ns for them to be sent";
    assert_eq!(picture.facts[1..], [said]);
}

#[test]
fn the_sentence_of_a_thread_is_about_all_iterations_without_their_pauses() {
    let one = || records(&["main", "publisher"], one_publish());
    let picture = told(&[one(), one(), one()]);
    let said = "publisher: 3 commands in 2.70 µs, one after the other; it waited 2.67 µs for acknowledgments";
    assert!(
        picture.facts.iter().any(|fact| fact == said),
        "{:?}",
        picture.facts
    );
}

#[test]
fn a_command_that_was_handed_back_and_pushed_again_counts_once() {
    let mut all = vec![(50, 1, pushed(4)), (90, 1, What::HandedBack { command: 4 })];
    all.extend(one_publish());
    let picture = told(&[records(&["main", "publisher"], all)]);
    assert_eq!(picture.lives.len(), 2);
    assert_eq!(picture.lanes[lane(&picture, "publisher")].note, "1 command");
}
