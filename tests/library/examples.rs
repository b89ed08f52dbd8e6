//! The examples, run as they are: against the embedded broker with the feature `local-broker`, else against a Mosquitto,
//! and one against a scripted broker.

// Each example has its copy of the module that finds the broker.
#![allow(clippy::duplicate_mod)]
// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod place;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::support::acknowledger::acknowledge;
use crate::support::running::options;
use crate::support::{ClosedPort, HANG, Program, ScriptedBroker, wait_until};
use place::Place;
use rumqttc::mqttbytes::v4;

#[path = "../../examples/async_tasks.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod async_tasks;
#[path = "../../examples/batch.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod batch;
#[path = "../../examples/by_hand.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod by_hand;
#[path = "../../examples/callbacks.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod callbacks;
#[path = "../../examples/health.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod health;
#[path = "../../examples/inboxes.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod inboxes;
#[path = "../../examples/offline.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod offline;
#[path = "../../examples/request_response.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod request_response;
#[path = "../../examples/two_threads.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod two_threads;

/// Sends on each line that is written.
struct Lines {
    line: Vec<u8>,
    sender: Sender<String>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    let _ = self
                        .sender
                        .send(String::from_utf8_lossy(&line).into_owned());
                }
                other => self.line.push(*other),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn health_prints_its_lines_and_the_events_between_them() {
    const WITHOUT_END: u32 = u32::MAX;
    let mut broker = ScriptedBroker::bind();
    let options = options(&broker);
    let (sender, lines) = channel();
    let out = Lines {
        line: Vec::new(),
        sender,
    };
    let interval = Duration::from_millis(50);
    let running = thread::spawn(move || health::run(options, interval, WITHOUT_END, out));
    // Lines until this one has come.
    let mut all = Vec::new();
    let read_until = |all: &mut Vec<String>, is_it: fn(&str) -> bool| {
        loop {
            let line = lines.recv_timeout(HANG).expect("a line");
            all.push(line);
            if all.last().is_some_and(|line| is_it(line)) {
                return;
            }
        }
    };
    // The first link is lost after a message.
    let (mut link, _) = broker.accept_client(false);
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    link.close();
    let (mut link, _) = broker.accept_client(true);
    let server = acknowledge(&mut link);
    read_until(&mut all, |line| line.ends_with("session resumed"));
    read_until(&mut all, |line| {
        line.starts_with("online, 127.0.0.1:")
            && line.contains(" acknowledged, p99 ")
            && line.ends_with(" in flight")
            && !line.contains(" 0 acknowledged")
    });
    // A refusal is the end.
    link.close();
    server.join().expect("no panic in the server");
    let mut link = broker.accept();
    link.expect_connect();
    link.send_connack(v4::ConnectReturnCode::NotAuthorized, false);
    read_until(&mut all, |line| line.contains("the loop has ended: "));
    let error = running.join().expect("no panic").expect_err("a refusal");
    assert!(
        all.last()
            .is_some_and(|line| line.ends_with(&error.to_string()))
    );
    let has = |text: &str| {
        all.iter()
            .any(|line| line.starts_with("    ") && line.contains(text))
    };
    assert!(
        has("attempt 1 begins") && has("connected, session new"),
        "{all:?}"
    );
    assert!(has("the broker closed the connection"), "{all:?}");
}

#[test]
fn async_tasks_publish_and_receive() {
    let place = Place::start();
    let options = place.options("async-tasks");
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let run = async { tokio::time::timeout(HANG, async_tasks::run(options)).await };
    let result = executor.unwrap().block_on(run);
    result.expect("an end in time").expect("no error");
}

/// Runs an example that writes to `out`, and returns the lines.
fn lines<E: std::fmt::Display>(run: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<String> {
    let mut out = Vec::new();
    let result = run(&mut out);
    let text = String::from_utf8(out).unwrap();
    if let Err(error) = result {
        panic!("{error}, behind:\n{text}");
    }
    text.lines().map(str::to_owned).collect()
}

#[test]
fn two_threads_publish_and_receive() {
    let place = Place::start();
    two_threads::run(place.options("two-threads")).unwrap();
}

#[test]
fn inboxes_keep_to_their_policies() {
    let place = Place::start();
    let lines = lines(|out| inboxes::run(place.options("inboxes"), out));
    let doors = (1..=10).map(|door| format!("door {door} opened"));
    let expected: Vec<String> = std::iter::once("alarm: smoke in the kitchen".to_owned())
        .chain(doors)
        .chain(["temperature: 21 degrees; 6 older ones made room".to_owned()])
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_batch_is_delivered_although_its_links_are_cut() {
    let place = Place::start();
    place.cut_after(vec![0, 10_000, 15_000, 20_000]);
    let lines = lines(|out| batch::run(place.options("batch"), out));
    assert_eq!(place.cuts(), 4);
    let last = lines.last().unwrap();
    assert!(last.starts_with("1000 of 1000 delivered: "), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("was not delivered")));
}

#[test]
fn jobs_are_done_by_hand_and_one_that_failed_comes_again() {
    let place = Place::start();
    let lines = lines(|out| by_hand::run(place.options("by-hand"), 10, out));
    let count = |line: &str| lines.iter().filter(|one| *one == line).count();
    for job in 1..=10 {
        let begun = if job == 3 { 2 } else { 1 };
        assert_eq!(count(&format!("job {job} begun")), begun, "{lines:?}");
        assert_eq!(count(&format!("job {job} done")), 1, "{lines:?}");
    }
    assert_eq!(count("job 3 failed"), 1);
}

#[test]
fn callbacks_count_each_message() {
    let place = Place::start();
    let lines = lines(|out| callbacks::run(place.options("callbacks"), out));
    assert_eq!(lines, ["100 of 100 delivered"]);
}

#[test]
fn each_request_has_its_response() {
    let place = Place::start();
    let mut lines = lines(|out| request_response::run(place.options("requests"), out));
    lines.sort();
    let expected: Vec<String> = (0..10)
        .map(|id| format!("the square of {id} is {}", id * id))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn what_is_published_offline_is_delivered_online() {
    let place = Place::start();
    let lines = lines(|out| offline::run(place.options("offline"), out));
    let (events, lines): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.starts_with("    "));
    let starts = |text: &str| lines.iter().filter(|line| line.starts_with(text)).count();
    assert_eq!(starts("round "), 3, "{lines:?}");
    assert_eq!(starts("online again: 0 failed"), 3, "{lines:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.ends_with("wait, one found no room"))
    );
    let connected = events
        .iter()
        .filter(|event| event.contains("connected, session"));
    assert_eq!(connected.count(), 4, "{events:?}");
}

/// Has cargo build an example as the tests were built, and returns where it is.
pub(crate) fn build(example: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args([
        "build",
        "--locked",
        "--message-format",
        "json",
        "--example",
        example,
    ]);
    // The tests' own variables of cargo do not concern this one: build scripts would run anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let about = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"];
        if about.iter().any(|about| text.starts_with(about)) {
            cargo.env_remove(&name);
        }
    }
    if !cfg!(feature = "cli") {
        cargo.arg("--no-default-features");
    }
    if cfg!(feature = "local-broker") {
        cargo.args(["--features", "local-broker"]);
    }
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output().expect("cargo");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let found = messages.find_map(|message| {
        let is_it = message["target"]["name"] == example;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    found.unwrap_or_else(|| panic!("no example {example}: {errors}"))
}

/// As a process of its own, which finds the broker in its surroundings.
#[test]
fn ctrl_c_ends_with_an_outcome_for_each_message() {
    let place = Place::start();
    let mut program = Program::other(build("ctrl_c"));
    for (name, value) in place.variables() {
        program = program.env(name, value);
    }
    let running = program.spawn();
    wait_until("the first message", || {
        running.stdout().contains("publishing until Ctrl-C")
    });
    running.signal("INT");
    let done = running.finish();
    done.expect_code(0);
    // The first line says that it publishes, the last one counts.
    let mut lines = done.stdout.lines();
    let (_, last) = (lines.next(), lines.next_back());
    let counts = last.and_then(|line| line.strip_suffix(" delivered"));
    let (delivered, published) = counts.unwrap().split_once(" of ").unwrap();
    let [delivered, published]: [usize; 2] = [delivered, published].map(|n| n.parse().unwrap());
    // The first one was queued before Ctrl-C. Those behind it have an outcome as well.
    assert!(delivered >= 1, "{done}");
    let cancelled: Vec<_> = lines.collect();
    assert_eq!(delivered + cancelled.len(), published, "{done}");
    let expected = "not delivered: cancelled";
    assert!(
        cancelled.iter().all(|line| line.starts_with(expected)),
        "{done}"
    );
}

#[test]
fn a_whole_program_has_sixty_lines_and_ends_on_ctrl_c() {
    let text = include_str!("../../examples/whole_program.rs");
    let lines = text.lines().count();
    assert!(lines <= 60, "{lines} lines");
    let place = Place::start();
    let mut program = Program::other(build("whole_program"));
    for (name, value) in place.variables() {
        program = program.env(name, value);
    }
    let running = program.spawn();
    let expected = [
        "rooms/1/light: b\"on\"\n",
        "rooms/2/light: b\"on\"\n",
        " delivered, p99 ",
    ];
    wait_until("messages and a health line", || {
        let shown = running.stdout();
        expected.iter().all(|text| shown.contains(text))
    });
    running.signal("INT");
    let done = running.finish();
    done.expect_code(0);
    assert!(done.stdout.contains("subscribed: delivered"), "{done}");
}

#[test]
fn an_example_that_finds_no_broker_says_so_for_people() {
    let example = build("two_threads");
    let done = Program::other(&example).run();
    done.expect_code(1);
    let expected = "error: no broker: give HOST[:PORT] or set MQTT_ENDPOINT\n";
    assert_eq!(done.stderr, expected);
    let none = ClosedPort::hold();
    let done = Program::other(&example).arg(none.endpoint()).run();
    done.expect_code(1);
    let expected = format!("error: connecting to 127.0.0.1:{}: ", none.port());
    assert!(done.stderr.starts_with(&expected), "{done}");
}
