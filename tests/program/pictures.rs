//! The files of `--timeline` and `--trace`: they tell of a run what its report tells, and one that cannot be written ends
//! the run before it begins. `tests/browser/` looks at them with a browser.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::report::Run;
use crate::support::{ClosedPort, Fate, Finished, Mosquitto, Program, Proxy, Report};

/// The files of a run: page, SVG and trace.
struct Files {
    _folder: TempDir,
    paths: [PathBuf; 3],
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["run.html", "run.svg", "run.json"].map(|name| folder.path().join(name));
        Files {
            _folder: folder,
            paths,
        }
    }

    /// The program draws into them.
    fn asked_of(&self, program: Program) -> Program {
        let [page, svg, trace] = &self.paths;
        let program = program.arg("--timeline").arg(page);
        let program = program.arg("--timeline").arg(svg).arg("--trace").arg(trace);
        program.args(["--output", "json", "--connect-interval", "0"])
    }

    fn read(&self) -> [String; 3] {
        self.paths
            .each_ref()
            .map(|file| fs::read_to_string(file).unwrap())
    }
}

/// Runs the program with all three files. Returns page, SVG and trace.
fn draw(program: Program) -> (Finished, [String; 3]) {
    let files = Files::new();
    let done = files.asked_of(program).run();
    (done, files.read())
}

/// Lives in a trace, by the beginning of their names.
fn lives(trace: &str, what: &str) -> u64 {
    ends(trace, what).values().sum()
}

/// The same by how they ended.
fn ends(trace: &str, what: &str) -> BTreeMap<String, u64> {
    let trace: Value = serde_json::from_str(trace).unwrap();
    let mut ends = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        if event["ph"] == "b" && event["name"].as_str().unwrap().starts_with(what) {
            let end = event["args"]["end"].as_str().unwrap().to_owned();
            *ends.entry(end).or_default() += 1;
        }
    }
    ends
}

/// Checks that a picture of the demo counts what its report counts.
#[track_caller]
fn expect_counts(done: &Finished, [page, svg, trace]: &[String; 3]) -> Run {
    let mut report = Report::of(done);
    let run = report.runs.pop().unwrap();
    let mut published = ends(trace, "PUBLISH");
    published.remove("handed back");
    assert_eq!(
        published.values().sum::<u64>(),
        run.published,
        "{published:?} {run:?}"
    );
    let acknowledged = published.get("delivered").copied().unwrap_or(0);
    assert_eq!(acknowledged, run.acknowledged, "{published:?} {run:?}");
    let came = ends(trace, "message");
    let taken = came.get("taken").copied().unwrap_or(0);
    assert_eq!(
        taken,
        run.received + run.duplicated + run.unexpected,
        "{came:?} {run:?}"
    );
    let said = format!(
        "{} messages published and {} received",
        run.published, run.received
    );
    assert!(page.contains(&said) && svg.contains(&said), "{said}");
    for (count, one, many) in [
        (
            run.published - run.acknowledged,
            "was not acknowledged",
            "were not acknowledged",
        ),
        (run.duplicated, "came twice", "came twice"),
        (
            run.dropped,
            "found the inbox full and was dropped",
            "found the inbox full and were dropped",
        ),
    ] {
        let said = match count {
            0 => {
                assert!(!page.contains(one) && !page.contains(many), "{run:?}");
                continue;
            }
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        };
        assert!(page.contains(&said), "{said}: {run:?}");
    }
    run
}

#[test]
fn demo_and_bench_draw_what_they_report() {
    let broker = Mosquitto::start();
    let program = || Program::new().args(broker.arguments());
    let demo = program().args([
        "--iterations",
        "2",
        "--iteration-delay",
        "1ms",
        "--publish-delay",
        "0",
    ]);
    let (done, [page, svg, trace]) = draw(demo);
    done.expect_code(0);
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let runs = report["runs"].as_array().unwrap();
    let sum = |field: &str| {
        runs.iter()
            .map(|run| run[field].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(lives(&trace, "PUBLISH"), sum("published"));
    assert_eq!(lives(&trace, "message"), sum("received"));
    for name in [
        "sync-publisher",
        "async-publisher",
        "inbox of subscriber",
        "loop, in main",
    ] {
        for file in [&page, &svg, &trace] {
            assert!(file.contains(name), "{name}");
        }
    }
    assert!(done.stderr.contains("run.html"), "{done}");

    let bench = Program::new().arg("bench").args(broker.arguments());
    let (done, [page, _, trace]) =
        draw(bench.args(["--messages", "3000", "--receive", "--threads", "3"]));
    done.expect_code(0);
    assert_eq!(
        (lives(&trace, "PUBLISH"), lives(&trace, "message")),
        (3000, 3000)
    );
    assert!(page.contains("publisher-2") && page.contains("inbox of receiver"));
    assert!(!page.contains("are missing"), "records were overwritten");
}

/// The picture tells what became of a connection that was cut.
#[test]
fn a_lost_connection_is_drawn_with_its_cause() {
    let broker = Mosquitto::start_fast();
    let proxy = Proxy::start(broker.port()).unwrap();
    let endpoint = proxy.address().to_string();
    let program = Program::new()
        .args(broker.arguments_through(&endpoint))
        .args([
            "--iterations",
            "1",
            "--publish-count",
            "200",
            "--publish-delay",
            "5ms",
        ])
        .args(["--retry-base", "1ms", "--retry-max", "5ms"]);
    // The connections that clear the session are whole.
    let whole = Fate::cut_after(u64::MAX);
    proxy.decide([whole, Fate::cut_after(9_000)]).unwrap();
    let (done, [page, svg, trace]) = draw(program);
    done.expect_code(0);
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["runs"][0]["reconnects"], 1, "{done}");
    for file in [&page, &svg, &trace] {
        assert!(file.contains("lost: the broker "), "{done}");
    }
    assert!(page.contains("the connection was lost once"));
    assert_eq!(lives(&trace, "PUBLISH"), 200);
}

#[test]
fn messages_that_come_again_count_as_in_the_report() {
    let broker = Mosquitto::start_fast();
    let proxy = Proxy::start(broker.port()).unwrap();
    let endpoint = proxy.address().to_string();
    let program = Program::new()
        .args(broker.arguments_through(&endpoint))
        .args([
            "--iterations",
            "1",
            "--publish-count",
            "1000",
            "--publish-delay",
            "0",
        ])
        .args([
            "--retry-base",
            "1ms",
            "--retry-max",
            "5ms",
            "--retry-for",
            "0",
        ]);
    let cuts = (1..8).map(|number| Fate::cut_after(7_000 + 3_000 * number));
    let whole = Fate::cut_after(u64::MAX);
    proxy.decide([whole].into_iter().chain(cuts)).unwrap();
    let (done, files) = draw(program);
    done.expect_code(0);
    let run = expect_counts(&done, &files);
    assert!(run.reconnects > 0, "{run:?}");
}

#[test]
fn messages_that_find_no_room_count_as_in_the_report() {
    let broker = Mosquitto::start_fast();
    let program = Program::new()
        .args(broker.arguments())
        .args([
            "--iterations",
            "1",
            "--publish-count",
            "2000",
            "--publish-delay",
            "0",
        ])
        .args(["--qos", "0", "--response-queue", "1"]);
    let (done, files) = draw(program);
    expect_counts(&done, &files);
}

#[test]
fn where_the_broker_stays_away_the_counts_are_those_of_the_report() {
    let broker = Mosquitto::start_fast();
    let proxy = Proxy::start(broker.port()).unwrap();
    let endpoint = proxy.address().to_string();
    let files = Files::new();
    let program = Program::new()
        .args(broker.arguments_through(&endpoint))
        .args([
            "--iterations",
            "1",
            "--publish-count",
            "600",
            "--publish-delay",
            "1ms",
        ])
        .args([
            "--max-inflight",
            "5",
            "--command-queue",
            "5",
            "--retry-for",
            "2s",
            "-v",
        ]);
    let mut running = files.asked_of(program).spawn();
    running.wait_for_line("received filter/sync/10");
    proxy.refuse().unwrap();
    proxy.cut_all().unwrap();
    let done = running.finish();
    done.expect_code(1);
    let files = files.read();
    let run = expect_counts(&done, &files);
    let [_, _, trace] = &files;
    assert!(run.published > run.acknowledged, "{run:?}");
    let ends = ends(trace, "PUBLISH");
    assert!(ends.contains_key("handed back"), "{ends:?}");
    // It had waited for room until then.
    assert!(
        trace.contains("thread waits for room in the queue"),
        "{trace}"
    );
    assert!(
        trace.contains("failed: nothing listens on that port"),
        "{trace}"
    );
}

/// Nothing of the broker is known to whoever gets the picture.
#[test]
fn a_picture_holds_no_names_of_hosts_and_topics() {
    let broker = Mosquitto::start();
    let arguments = [
        "--iterations",
        "1",
        "--publish-delay",
        "0",
        "--topic-prefix",
        "kept-to-us",
    ];
    let program = Program::new().args(broker.arguments()).args(arguments);
    let (done, files) = draw(program.args(["--client-id", "mine-alone"]));
    done.expect_code(0);
    for file in files {
        for word in ["kept-to-us", "mine-alone", "localhost", "127.0.0.1"] {
            assert!(!file.contains(word), "{word}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_ends_the_run_before_it_begins() {
    let port = ClosedPort::hold();
    let endpoint = port.endpoint();
    for (flag, file, told) in [
        (
            "--timeline",
            "/nowhere/run.svg",
            "opening /nowhere/run.svg to write to it (--timeline)",
        ),
        (
            "--trace",
            "/nowhere/run.json",
            "opening /nowhere/run.json to write to it (--trace)",
        ),
        ("--timeline", "run.png", "that ends in .svg or .html"),
        ("--trace", "run.txt", "that ends in .json"),
    ] {
        let done = Program::new()
            .args(["--endpoint", &endpoint, flag, file])
            .run();
        done.expect_code(2);
        assert!(done.stderr.contains(told), "{done}");
        assert!(!done.stderr.contains("connect"), "{done}");
    }
}

#[test]
fn a_run_that_fails_leaves_a_picture_too() {
    let port = ClosedPort::hold();
    let endpoint = port.endpoint();
    let program = Program::new().args(["bench", "--endpoint", &endpoint, "--retry-for", "1ms"]);
    let (done, [page, svg, trace]) = draw(program);
    done.expect_code(3);
    assert!(page.contains("no connection was made"), "{page}");
    for file in [&page, &svg, &trace] {
        assert!(
            file.contains("failed: nothing listens on that port"),
            "{file}"
        );
    }
    assert_eq!(lives(&trace, "PUBLISH"), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_that_fails_and_a_picture_that_cannot_be_written_are_both_told() {
    let (port, folder) = (ClosedPort::hold(), tempfile::tempdir().unwrap());
    let (endpoint, path) = (port.endpoint(), folder.path().join("run.json"));
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let done = Program::new()
        .args(["bench", "--endpoint", &endpoint, "--retry-for", "1ms"])
        .args(["--trace", path.to_str().unwrap()])
        .run();
    // The status is that of the run.
    done.expect_code(3);
    for told in ["error: writing ", "error: connecting to "] {
        assert_eq!(done.stderr.matches(told).count(), 1, "{told}: {done}");
    }
}

/// The demo clears its session first, and that fails.
#[test]
fn a_demo_that_never_connected_draws_its_attempts() {
    let port = ClosedPort::hold();
    let endpoint = port.endpoint();
    let attempts = [
        "--retry-attempts",
        "2",
        "--retry-base",
        "1ms",
        "--retry-max",
        "1ms",
    ];
    let program = Program::new()
        .args(["--endpoint", &endpoint])
        .args(attempts);
    let (done, [page, svg, trace]) = draw(program);
    done.expect_code(3);
    let told = "3 attempts to connect failed, the last one: nothing listens on that port";
    assert!(page.contains(told), "{page}");
    assert!(
        svg.contains("failed: nothing listens on that port"),
        "{svg}"
    );
    let causes = trace
        .matches("failed: nothing listens on that port")
        .count();
    assert_eq!(causes, 3, "{trace}");
    for file in [&page, &svg, &trace] {
        assert!(!file.contains("127.0.0.1"), "{file}");
    }
}
