//! Short stories of records, and the lives, states and moments that come of them.

mod facts;
mod loops;

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::recording::{CommandEnd, PacketKind};

use super::*;

const PUBLISH: PacketKind = PacketKind::Publish;

fn thread(number: u32, name: &str) -> LoopThread {
    LoopThread {
        number,
        name: name.to_owned(),
        overwritten: 0,
    }
}

fn records(threads: &[&str], all: Vec<(u64, u32, What)>) -> LoopRecords {
    LoopRecords {
        began: Instant::now(),
        all,
        threads: (0..)
            .zip(threads)
            .map(|(number, name)| thread(number, name))
            .collect(),
        forgotten_threads: 0,
        causes: Vec::new(),
        counts: MessageCounts::default(),
    }
}

fn told(loops: &[LoopRecords]) -> Picture {
    let mut story = Story::new("a story", true);
    for (index, records) in loops.iter().enumerate() {
        if index > 0 {
            story.pause(Duration::from_secs(5), 10);
        }
        story.part(records);
    }
    story.finish()
}

fn pushed(command: u64) -> What {
    What::Pushed {
        command,
        packet: PUBLISH,
        qos: Some(QoS::AtLeastOnce),
        bytes: 9,
    }
}

fn written(number: u64) -> What {
    What::Written {
        packet: PUBLISH,
        packet_id: 7,
        number,
    }
}

fn ended(command: u64, end: CommandEnd) -> What {
    What::Ended {
        command,
        end,
        answered: end == CommandEnd::Delivered,
    }
}

fn lane(picture: &Picture, name: &str) -> usize {
    let found = picture.lanes.iter().position(|lane| lane.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", picture.lanes))
}

/// The intervals of a row: begin, end, doing.
fn row(picture: &Picture, name: &str, row: usize) -> Vec<(u64, u64, Doing)> {
    let row = picture.row(lane(picture, name), row).iter();
    row.map(|one| (one.from, one.to, one.doing)).collect()
}

/// The life of one PUBLISH that is waited for.
fn one_publish() -> Vec<(u64, u32, What)> {
    vec![
        (100, 1, pushed(5)),
        (110, 1, What::Waits { command: 5 }),
        (200, 0, What::Taken { command: 5 }),
        (
            210,
            0,
            What::Encoded {
                packet: PUBLISH,
                packet_id: 7,
                number: 5,
                again: false,
                bytes: 20,
            },
        ),
        (300, 0, written(5)),
        (900, 0, ended(5, CommandEnd::Delivered)),
        (1000, 1, What::Told { command: 5 }),
    ]
}

#[test]
fn a_publish_is_queued_with_the_loop_on_its_way_and_told() {
    let picture = told(&[records(&["main", "publisher"], one_publish())]);
    assert_eq!(
        row(&picture, "publisher", 0),
        [(110, 1000, Doing::WaitsForOutcome)]
    );
    let life = [
        (100, 200, Doing::Queued),
        (200, 300, Doing::Unsent),
        (300, 900, Doing::OnItsWay),
        (900, 1000, Doing::Untold),
    ];
    assert_eq!(row(&picture, "publisher", 1), life);
    let [own] = &picture.lives[..] else {
        panic!("{:?}", picture.lives)
    };
    assert_eq!(
        (own.what, own.packet_id, own.qos, own.bytes),
        ("PUBLISH", 7, 1, 9)
    );
    assert_eq!(
        (own.end, own.acknowledged, own.sent),
        ("delivered", Some(900), 1)
    );
    assert_eq!(picture.lanes[lane(&picture, "publisher")].note, "1 command");
    assert_eq!(picture.counted(lane(&picture, "in flight")).len(), 1);
}

#[test]
fn a_callback_ends_a_life_and_what_it_pushes_has_a_lane() {
    let mut all = one_publish();
    all.truncate(6);
    all.push((910, 0, pushed(6)));
    let picture = told(&[records(&["main", "publisher"], all)]);
    assert_eq!(
        row(&picture, "publisher", 1).last(),
        Some(&(300, 900, Doing::OnItsWay))
    );
    // It was not taken: it lives until the end.
    assert_eq!(picture.lives.last().unwrap().end, "not ended");
    assert_eq!(picture.lanes[lane(&picture, "callbacks")].note, "1 command");
}

#[test]
fn a_lost_connection_leaves_what_was_on_its_way_unsent_until_it_is_sent_again() {
    let mut all = vec![
        (0, 0, What::Attempt { number: 1 }),
        (
            50,
            0,
            What::Connected {
                session_present: false,
            },
        ),
    ];
    all.extend(one_publish().into_iter().take(5));
    all.extend([
        (
            400,
            0,
            What::Lost {
                loss: Loss::PeerClosed,
            },
        ),
        (
            400,
            0,
            What::Retrying {
                delay: Duration::from_nanos(100),
            },
        ),
        (500, 0, What::Attempt { number: 1 }),
        (
            550,
            0,
            What::Retrying {
                delay: Duration::from_nanos(50),
            },
        ),
        (600, 0, What::Attempt { number: 2 }),
        (
            700,
            0,
            What::Connected {
                session_present: true,
            },
        ),
        (750, 0, written(5)),
        (900, 0, ended(5, CommandEnd::Delivered)),
        (950, 0, What::LoopEnded),
    ]);
    let mut part = records(&["main", "publisher"], all);
    part.causes = vec![None, Some("nothing listens on that port".to_owned()), None];
    let picture = told(&[part]);
    let life = [
        (100, 200, Doing::Queued),
        (200, 300, Doing::Unsent),
        (300, 400, Doing::OnItsWay),
        (400, 750, Doing::Unsent),
        (750, 900, Doing::OnItsWay),
    ];
    assert_eq!(row(&picture, "publisher", 1), life);
    assert_eq!(picture.lives[0].sent, 2);
    let link = [
        (0, 50, Doing::Connecting),
        (50, 400, Doing::Connected),
        (400, 500, Doing::Down),
        (500, 550, Doing::Connecting),
        (550, 600, Doing::Down),
        (600, 700, Doing::Connecting),
        (700, 950, Doing::Connected),
    ];
    assert_eq!(row(&picture, "connection", 0), link);
    let moments = picture.moments_of(lane(&picture, "connection")).iter();
    let texts: Vec<_> = moments
        .map(|one| (one.sign, &*picture.texts[one.text.unwrap() as usize]))
        .collect();
    assert_eq!(
        texts,
        [
            (Sign::Made, "session new"),
            (Sign::Broken, "lost: the broker closed it"),
            (Sign::AttemptFailed, "failed: nothing listens on that port"),
            (Sign::Made, "session resumed"),
        ]
    );
    let said = "the connection was lost once and was away for 300 ns";
    assert!(
        picture.facts.iter().any(|fact| fact == said),
        "{:?}",
        picture.facts
    );
}

#[test]
fn a_message_for_two_inboxes_has_a_life_in_each() {
    let message = 3;
    let all = vec![
        (10, 1, What::WaitsForMessage { inbox: 4 }),
        (
            100,
            0,
            What::Received {
                packet: PUBLISH,
                packet_id: 12,
                number: message,
            },
        ),
        (
            100,
            0,
            What::Arrived {
                message,
                qos: QoS::AtLeastOnce,
                bytes: 33,
            },
        ),
        (110, 0, What::Offered { message, inbox: 4 }),
        (110, 0, What::Aside { message, inbox: 9 }),
        (150, 1, What::TakenOut { message, inbox: 4 }),
        (300, 0, What::Offered { message, inbox: 9 }),
        (
            320,
            0,
            What::Written {
                packet: PacketKind::PubAck,
                packet_id: 12,
                number: message,
            },
        ),
        (400, 2, What::TakenOut { message, inbox: 9 }),
        (
            500,
            0,
            What::Offered {
                message: 5,
                inbox: 9,
            },
        ),
        (
            600,
            0,
            What::Dropped {
                message: 5,
                inbox: 9,
            },
        ),
    ];
    let picture = told(&[records(&["main", "quick", "slow"], all)]);
    assert_eq!(
        row(&picture, "quick", 0),
        [(10, 150, Doing::WaitsForMessage)]
    );
    assert_eq!(
        row(&picture, "inbox of quick", 0),
        [(110, 150, Doing::InInbox)]
    );
    let slow = [
        (110, 300, Doing::MessageAside),
        (300, 400, Doing::InInbox),
        (500, 600, Doing::InInbox),
    ];
    assert_eq!(row(&picture, "inbox of slow", 0), slow);
    let own = &picture.lives[0];
    assert_eq!(
        (own.packet_id, own.from, own.to, own.acknowledged),
        (12, 100, 400, Some(320))
    );
    assert_eq!(picture.lives[1].end, "dropped");
    assert_eq!(picture.moments_of(lane(&picture, "inbox of slow")).len(), 1);
}

#[test]
fn the_loop_works_and_sleeps() {
    let all = vec![
        (100, 0, What::Sleeps),
        (200, 0, What::Woke),
        (200, 0, What::ProcessLoop),
        (210, 0, What::Read { bytes: 5 }),
        (220, 0, What::Write { bytes: 6 }),
        (300, 0, What::LoopEnded),
    ];
    let picture = told(&[records(&["main"], all)]);
    let states = [
        (0, 100, Doing::Works),
        (100, 200, Doing::Sleeps),
        (200, 300, Doing::Works),
    ];
    assert_eq!(row(&picture, "loop, in main", 0), states);
    for (name, sign, bytes) in [
        ("loop, in main", Sign::ProcessLoop, 0),
        ("records out", Sign::TlsRecord, 6),
        ("records in", Sign::TlsRecord, 5),
    ] {
        let [own] = picture.moments_of(lane(&picture, name)) else {
            panic!("{name}")
        };
        assert_eq!((own.sign, own.bytes), (sign, bytes));
    }
}

#[test]
fn a_command_that_was_not_delivered_is_marked() {
    let all = vec![
        (100, 1, pushed(5)),
        (200, 1, What::HandedBack { command: 5 }),
        (300, 1, pushed(6)),
        (400, 0, ended(6, CommandEnd::NeverSent)),
    ];
    let picture = told(&[records(&["main", "publisher"], all)]);
    let ends: Vec<&str> = picture.lives.iter().map(|life| life.end).collect();
    assert_eq!(ends, ["handed back", "never sent"]);
    let marks = picture.moments_of(lane(&picture, "publisher")).iter();
    assert_eq!(
        marks.map(|one| (one.at, one.sign)).collect::<Vec<_>>(),
        [(200, Sign::Failure), (400, Sign::Failure)]
    );
}

#[test]
fn threads_are_in_the_order_of_their_numbers() {
    let names = ["main", "publisher-10", "publisher-9", "publisher-9"];
    let all = (1..4)
        .map(|number| (10, number, pushed(number.into())))
        .collect();
    let picture = told(&[records(&names, all)]);
    let names: Vec<&str> = picture
        .lanes
        .iter()
        .take(3)
        .map(|lane| &*lane.name)
        .collect();
    assert_eq!(names, ["publisher-9", "publisher-10", "publisher-9 (2)"]);
}

#[test]
fn commands_and_messages_of_one_time_are_in_the_order_of_their_numbers() {
    let mut all = Vec::new();
    for number in 1..=40 {
        all.push((10, 1, pushed(number)));
        all.push((
            20,
            0,
            What::Encoded {
                packet: PUBLISH,
                packet_id: number as u16,
                number,
                again: false,
                bytes: 20,
            },
        ));
        all.push((
            30,
            0,
            What::Received {
                packet: PUBLISH,
                packet_id: 100 + number as u16,
                number: 100 + number,
            },
        ));
        all.push((
            30,
            0,
            What::Offered {
                message: 100 + number,
                inbox: 1,
            },
        ));
    }
    all.sort_by_key(|record| record.0);
    let picture = told(&[records(&["main", "publisher"], all)]);
    let identifiers: Vec<u16> = picture.lives.iter().map(|life| life.packet_id).collect();
    let expected: Vec<u16> = (1..=40).chain(101..=140).collect();
    assert_eq!(identifiers, expected);
}

#[test]
fn a_loop_that_never_connected_has_its_attempts_with_their_causes() {
    let retrying = What::Retrying {
        delay: Duration::from_nanos(50),
    };
    let all = vec![
        (0, 0, What::Attempt { number: 1 }),
        (10, 0, retrying),
        (60, 0, What::Attempt { number: 2 }),
        (90, 0, retrying),
        (140, 0, What::Attempt { number: 3 }),
        (150, 0, What::LoopEnded),
    ];
    let mut part = records(&["main", "main"], all);
    part.causes = vec![
        None,
        Some("the name is unknown".to_owned()),
        Some("the port is closed".to_owned()),
    ];
    let picture = told(&[part]);
    let link = [
        (0, 10, Doing::Connecting),
        (10, 60, Doing::Down),
        (60, 90, Doing::Connecting),
        (90, 140, Doing::Down),
        (140, 150, Doing::Connecting),
    ];
    assert_eq!(row(&picture, "connection", 0), link);
    // The thread that runs the loop has pushed as well.
    assert_eq!(picture.lanes[0].name, "main");
    assert_eq!(
        picture.texts,
        [
            "failed",
            "failed: the name is unknown",
            "failed: the port is closed"
        ]
    );
    let said = "3 attempts to connect failed, the last one: the port is closed";
    assert_eq!(picture.facts[1..], [said]);
}

#[test]
fn an_attempt_that_was_cut_short_has_not_failed() {
    let all = vec![
        (0, 0, What::Attempt { number: 1 }),
        (10, 0, What::LoopEnded),
    ];
    let mut part = records(&["main"], all);
    part.causes = vec![None];
    assert!(told(&[part]).moments.is_empty());
}

#[test]
fn without_tls_there_are_no_records() {
    let all = vec![
        (10, 0, What::Read { bytes: 5 }),
        (20, 0, What::Write { bytes: 6 }),
    ];
    let mut recordings = Recordings::default();
    recordings.keep_records(records(&["main"], all), usize::MAX);
    let picture = picture("a story", &recordings);
    for (name, bytes) in [("writes", 6), ("reads", 5)] {
        let [own] = picture.moments_of(lane(&picture, name)) else {
            panic!("{name}")
        };
        assert_eq!((own.sign, own.bytes), (Sign::LinkBytes, bytes));
    }
    let names = picture.lanes.iter().map(|lane| &lane.name);
    assert!(names.into_iter().all(|name| !name.contains("record")));
}

#[test]
fn a_thread_that_waits_for_room_is_shown_waiting() {
    let mut all = one_publish();
    all.insert(2, (150, 1, What::LetIn { command: 5 }));
    // Its next command finds no room, and another thread's finds some at once.
    all.extend([
        (1_100, 1, pushed(6)),
        (1_100, 2, pushed(7)),
        (1_400, 1, What::HandedBack { command: 6 }),
    ]);
    all.swap(1, 2);
    all[1].0 = 105;
    let picture = told(&[records(&["main", "publisher", "quick"], all)]);
    let waits = [
        (100, 105, Doing::WaitsForRoom),
        (110, 1_000, Doing::WaitsForOutcome),
        (1_100, 1_400, Doing::WaitsForRoom),
    ];
    assert_eq!(row(&picture, "publisher", 0), waits);
    assert_eq!(row(&picture, "quick", 0), []);
    // The command is queued, or waits for it, until the loop takes it.
    assert_eq!(row(&picture, "publisher", 1)[0], (100, 200, Doing::Queued));
}
