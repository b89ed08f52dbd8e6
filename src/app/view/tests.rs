//! The view's text at five widths, word for word: `src/app/view/expected.txt`, which
//! `UPDATE_GOLDEN=1 cargo test --bins view::tests` writes anew.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use mqtt_connection_sharing::{Client, ConnectionState, Stats, options::Options};

use super::text::{Countdown, LatencyText, LinkNow, Number, Row, Snapshot, in_one_line, lines};
use super::work::{Bounds, Work};
use super::{Activity, Now, SharedInbox};
use crate::app::lines::Seconds;
use crate::app::values::ViewMode;
use mqtt_connection_sharing::QoS;
use std::sync::Arc;

const WIDTHS: [usize; 5] = [60, 80, 100, 120, 200];

fn row(name: &str, now: &str, done: u64, total: u64) -> Row {
    Row {
        name: name.to_owned(),
        now: now.to_owned(),
        room: 26,
        short: now.to_owned(),
        short_room: 16,
        ended: (now == "done").then_some(true),
        done,
        total,
        last: None,
    }
}

fn iteration() -> Snapshot {
    let last = |value: &str| Some(("last", value.to_owned()));
    Snapshot {
        title: "iteration 2 of 3".to_owned(),
        link: LinkNow::Up {
            tls: true,
            since: Duration::from_secs(6),
            resumed: true,
        },
        rows: vec![
            Row {
                last: last("0.31 ms"),
                short: "waits for PUBACK".to_owned(),
                ..row("sync publisher", "message 4 waits for PUBACK", 3, 4)
            },
            Row {
                last: last("0.28 ms"),
                ..row("async publisher", "done", 4, 4)
            },
            Row {
                last: Some(("inbox", "0 of 10".to_owned())),
                ..row("subscriber", "receiving", 7, 8)
            },
        ],
        queue: (2, 12),
        window: (1, 100),
        notes: Vec::new(),
    }
}

/// With as many messages as a long run has.
fn long_iteration() -> Snapshot {
    let mut seen = iteration();
    let done = [248, 49_999, 50_246];
    let totals = [50_000, 50_000, 100_000];
    for (row, (done, total)) in seen.rows.iter_mut().zip(done.into_iter().zip(totals)) {
        (row.done, row.total, row.ended) = (done, total, None);
        row.room = "message 50,000 waits for PUBACK".len();
    }
    seen.rows[0].now = "message 249 waits for PUBACK".to_owned();
    seen.rows[1].now = "1 message waits for PUBACK".to_owned();
    seen.rows[1].short = "waits for PUBACK".to_owned();
    seen.rows[2].last = Some(("inbox", "0 of 1,000".to_owned()));
    (seen.queue, seen.window) = ((100, 100), (100, 100));
    seen
}

fn pause() -> Snapshot {
    let mut seen = iteration();
    seen.link = LinkNow::Closed;
    for row in &mut seen.rows {
        *row = Row {
            last: row.last.take(),
            ..self::row(&row.name, "done", row.total, row.total)
        };
    }
    (seen.queue.0, seen.window.0) = (0, 0);
    seen.notes.push("next iteration in 3.0 s".to_owned());
    seen
}

fn cut() -> Snapshot {
    let mut seen = iteration();
    seen.link = LinkNow::Waiting {
        attempt: 3,
        left: Duration::from_millis(1_240),
    };
    seen.notes = vec![
        "nobody listens on port 8883 of broker.example.com, a name that is rather long".to_owned(),
        "meanwhile 2 commands wait in the queue, 1 for an answer".to_owned(),
    ];
    seen
}

fn clearing() -> Snapshot {
    Snapshot {
        title: "clearing the session".to_owned(),
        link: LinkNow::Connecting { attempt: 1 },
        rows: Vec::new(),
        queue: (0, 0),
        window: (0, 100),
        notes: Vec::new(),
    }
}

fn bench() -> Snapshot {
    let round_trip = Some(("round trip", "12.40 ms".to_owned()));
    Snapshot {
        title: "bench, async".to_owned(),
        link: LinkNow::Up {
            tls: false,
            since: Duration::from_secs(3_725),
            resumed: false,
        },
        rows: vec![
            Row {
                last: round_trip,
                room: 16,
                ..row("4 publishers", "21,512/s", 43_210, 100_000)
            },
            Row {
                room: 16,
                ..row("receiver", "nothing for 3 s", 42_900, 100_000)
            },
        ],
        queue: (1_204, 8_000),
        window: (1_000, 1_000),
        notes: vec!["about 3 s left".to_owned()],
    }
}

#[test]
fn the_text_at_each_width_is_as_expected() {
    let mut text = String::new();
    let snapshots = [
        ("an iteration", iteration()),
        ("an iteration of 100,000 messages", long_iteration()),
        ("the pause before the next one", pause()),
        ("a link that was cut", cut()),
        ("the beginning", clearing()),
        ("a bench", bench()),
    ];
    for (name, seen) in snapshots {
        for width in WIDTHS {
            text.push_str(&format!("== {name}, {width} columns\n"));
            for line in lines(&seen, width, false) {
                assert!(line.width < width, "{line:?}");
                assert_eq!(line.text.len(), line.width, "{line:?}");
                text.push_str(line.text.trim_end());
                text.push('\n');
            }
        }
        text.push_str(&format!("== {name}, for a log\n{}\n", in_one_line(&seen)));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/app/view/expected.txt");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap_or_default());
}

#[test]
fn no_width_breaks_a_line_and_none_panics() {
    for seen in [
        iteration(),
        long_iteration(),
        pause(),
        cut(),
        clearing(),
        bench(),
    ] {
        for width in 0..250 {
            for line in lines(&seen, width, true) {
                assert!(line.width < width.max(1), "{width}: {line:?}");
            }
        }
    }
}

#[test]
fn from_60_columns_on_a_row_says_what_its_thread_does_and_the_last_latency() {
    for seen in [iteration(), long_iteration(), pause(), cut()] {
        for width in 60..=200 {
            let lines = lines(&seen, width, false).into_iter().skip(1);
            for (line, row) in lines.zip(&seen.rows) {
                let (name, value) = row.last.as_ref().unwrap();
                let value = value.split(" of ").next().unwrap();
                let last = format!("  {name} {value}");
                let done = Number(row.done).to_string();
                for text in [&row.short, &done, &last] {
                    assert!(line.text.contains(text), "{width}: {text:?} in {line:?}");
                }
            }
        }
    }
}

#[test]
fn a_terminal_that_is_too_narrow_for_the_columns_has_the_counts_first() {
    let rows = |columns| -> Vec<String> {
        let lines = lines(&iteration(), columns, false).into_iter();
        lines.skip(1).take(3).map(|line| line.text).collect()
    };
    let expected = [
        " sync publisher  3 of 4  waits for PU...",
        " async publisher 4 of 4  done",
        " subscriber      7 of 8  receiving",
    ];
    assert_eq!(rows(41), expected);
}

#[test]
fn colours_change_the_bytes_and_not_the_text() {
    let plain = |text: &str| {
        let mut parts = text.split('\x1b');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |plain, part| {
            plain + part.split_once('m').map_or("", |(_, rest)| rest)
        })
    };
    let coloured = lines(&cut(), 80, true);
    let without = lines(&cut(), 80, false);
    assert!(
        coloured[0].text.contains("\x1b[33mno connection"),
        "{coloured:?}"
    );
    for (coloured, without) in coloured.iter().zip(&without) {
        assert_eq!(plain(&coloured.text), without.text);
        assert_eq!(coloured.width, without.width);
        assert!(!without.text.contains('\x1b'));
    }
}

#[test]
fn foreign_characters_take_one_column_and_change_nothing_on_the_terminal() {
    let mut seen = clearing();
    seen.notes.push("a\x1b[2Jb\u{4e2d}\tc".to_owned());
    assert_eq!(lines(&seen, 80, true)[1].text, " a?[2Jb??c");
}

#[test]
fn figures_have_the_form_that_people_read() {
    let spans =
        [0, 59, 60, 3_599, 3_600, 90_061].map(|s| Seconds(Duration::from_secs(s)).to_string());
    let expected = [
        "0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
        "25 h 1 min",
    ];
    assert_eq!(spans, expected);
    let countdowns = [9_940, 9_960, 10_000, 61_000];
    let countdowns = countdowns.map(|ms| Countdown(Duration::from_millis(ms)).to_string());
    assert_eq!(countdowns, ["9.9 s", "10 s", "10 s", "1 min 1 s"]);
    let numbers = [0, 999, 1_000, 1_234_567].map(|n| Number(n).to_string());
    assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
    let latencies = [0, 310, 99_994, 99_996, 250_000, 999_600, 2_500_000];
    let latencies = latencies.map(|us| LatencyText(Duration::from_micros(us)).to_string());
    assert_eq!(
        latencies,
        [
            "0.00 ms", "0.31 ms", "99.99 ms", "100 ms", "250 ms", "1.00 s", "2.50 s"
        ]
    );
}

/// The work of a loop that never runs.
fn work(build: impl FnOnce(Work) -> Work) -> Work {
    let options = Options::new("localhost", "view");
    let bounds = Bounds::of(&options);
    let (_, handle) = Client::new(options).unwrap().open();
    build(Work::new("work", &handle, bounds))
}

fn online(now: Instant) -> ConnectionState {
    ConnectionState::Online {
        session_present: true,
        address: None,
        tls: None,
        since: now,
        negotiated: None,
    }
}

#[test]
fn a_row_says_what_its_thread_says() {
    let doing = Arc::new(Activity::default());
    let mut work = work(|work| work.publisher("one", 4, &doing, QoS::ExactlyOnce));
    let now = Instant::now();
    let mut look = |what| {
        doing.is(what);
        work.seen(&online(now), &Stats::default(), now).rows[0].clone()
    };
    let row = look(Now::Awaiting(17));
    assert_eq!(row.now, "message 17 waits for PUBCOMP");
    assert_eq!(row.short, "waits for PUBCOMP");
    let row = look(Now::Queuing(1_234));
    assert_eq!(
        (&*row.now, &*row.short),
        ("queuing message 1,234", "queuing")
    );
    // Its last message has one digit.
    assert_eq!(row.room, "message 4 waits for PUBCOMP".len());
    assert_eq!(row.short_room, "waits for PUBCOMP".len());
    assert_eq!(look(Now::AwaitingAll(3)).now, "3 messages wait for PUBCOMP");
    assert_eq!(look(Now::Failed).ended, Some(false));
    doing.one_done(Duration::from_micros(310));
    let row = look(Now::AwaitingAll(2));
    assert_eq!(row.now, "1 message waits for PUBCOMP");
    assert_eq!(row.last, Some(("last", "0.31 ms".to_owned())));
    assert_eq!((row.done, row.total), (1, 4));
}

#[test]
fn an_inbox_is_shown_while_its_thread_has_it() {
    let doing = Arc::new(Activity::default());
    let shared = SharedInbox::default();
    let options = Options::new("localhost", "view");
    let bounds = Bounds::of(&options);
    let (_agent, handle) = Client::new(options).unwrap().open();
    let mut work = Work::new("", &handle, bounds).subscriber("s", 8, &doing, (&shared, 10));
    let now = Instant::now();
    let mut look = || {
        work.seen(&online(now), &Stats::default(), now).rows[0]
            .last
            .clone()
    };
    assert_eq!(look(), None);
    let inbox = Arc::new(handle.inbox(10, mqtt_connection_sharing::WhenFull::WaitAside));
    shared.set(Arc::downgrade(&inbox)).unwrap();
    assert_eq!(look(), Some(("inbox", "0 of 10".to_owned())));
    drop(inbox);
    assert_eq!(look(), None);
}

#[test]
fn work_tells_what_waits_while_there_is_no_connection() {
    let doing = Arc::new(Activity::default());
    let shared = SharedInbox::default();
    let mut work = work(|work| work.subscriber("one", 4, &doing, (&shared, 10)));
    let now = Instant::now();
    let mut stats = Stats::default();
    (stats.queued, stats.in_flight, stats.waiting_messages) = (2, 1, 3);
    let mut notes = |state: ConnectionState| work.seen(&state, &stats, now).notes;
    let aside = "3 messages wait aside for room in an inbox";
    assert_eq!(notes(online(now)), [aside]);
    let waiting = ConnectionState::Connecting {
        attempt: 3,
        next_try: Some(now + Duration::from_millis(1200)),
    };
    let both = "meanwhile 2 commands wait in the queue, 1 for an answer";
    assert_eq!(notes(waiting.clone()), [both, aside]);
    let link = work.seen(&waiting, &stats, now).link;
    assert_eq!(link.to_string(), "no connection, attempt 3 in 1.2 s");
    // The pause before the first attempt is no failure.
    let first = ConnectionState::Connecting {
        attempt: 1,
        next_try: Some(now + Duration::from_millis(1200)),
    };
    let link = work.seen(&first, &stats, now).link;
    assert_eq!(link.to_string(), "connecting in 1.2 s");
    work.set_next("next iteration", now + Duration::from_secs(3));
    let closed = work.seen(&ConnectionState::Ended, &Stats::default(), now);
    assert_eq!(closed.link, LinkNow::Closed);
    assert_eq!(closed.notes, ["next iteration in 3.0 s"]);
}

#[test]
fn a_bench_that_waits_for_its_messages_says_so_and_no_time_is_left() {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let count = |place: usize| {
        let counts = Arc::clone(&counts);
        move || counts[place].load(Relaxed)
    };
    let at_least_once = QoS::AtLeastOnce;
    let mut work = work(|work| {
        work.publishers("p", 1000, at_least_once, count(0))
            .receiver("r", 1000, count(1))
    });
    let start = Instant::now();
    let mut look = |tenth: u64, published, received| {
        counts[0].store(published, Relaxed);
        counts[1].store(received, Relaxed);
        let now = start + Duration::from_millis(100 * tenth);
        work.seen(&online(start), &Stats::default(), now)
    };
    let first = look(0, 0, 0);
    assert_eq!((first.rows[0].now.as_str(), first.notes.len()), ("", 0));
    for tenth in 1..10 {
        let seen = look(tenth, 50 * tenth, 40 * tenth);
        assert_eq!(seen.rows[0].now, "500/s");
        // The slower one decides: 640 messages with 400 a second.
        let is_near = |note: &String| note == "about 2 s left";
        assert!(tenth != 9 || seen.notes.iter().all(is_near), "{seen:?}");
    }
    for tenth in 10..60 {
        look(tenth, 1000, 900);
    }
    let seen = look(60, 1000, 900);
    assert_eq!(seen.rows[0].now, "done");
    assert_eq!(seen.rows[1].now, "nothing for 5 s");
    let waits = "everything is acknowledged, and 100 messages have yet to come back";
    assert_eq!(seen.notes, [waits]);
    assert_eq!(look(61, 1000, 1000).notes, Vec::<String>::new());
}

#[test]
fn nobody_acknowledges_the_messages_of_a_bench_with_qos_0() {
    for (qos, told) in [
        (
            QoS::AtMostOnce,
            "everything is sent, and 1 message has yet to come back",
        ),
        (
            QoS::ExactlyOnce,
            "everything is acknowledged, and 1 message has yet to come back",
        ),
    ] {
        let mut work = work(|work| work.publishers("p", 3, qos, || 3).receiver("r", 3, || 2));
        let now = Instant::now();
        let seen = work.seen(&online(now), &Stats::default(), now);
        assert_eq!(seen.notes, [told]);
    }
}

#[test]
fn the_words_of_the_setting_are_read() {
    assert_eq!("auto".parse(), Ok(ViewMode::Auto));
    assert_eq!("off".parse(), Ok(ViewMode::Off));
    assert_eq!("on".parse::<ViewMode>(), Err("auto or off"));
}
