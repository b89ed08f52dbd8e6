//! The live view in a terminal: at four widths, with a link that is cut and comes back, resized, interrupted, and not at
//! all.
//!
//! The tests with a terminal need tmux and take their time, so only `scripts/test.sh --all` runs them:
//! `cargo test --test program view:: -- --include-ignored`

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::thread;

use rumqttc::mqttbytes::v4;

use super::golden::{expect_golden, without_numbers};
use crate::support::tmux::Terminal;
use crate::support::{Connection, Mosquitto, Program, ScriptedBroker};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mqtt-connection-sharing");

const WIDTHS: [usize; 4] = [60, 80, 120, 200];

/// The program in a terminal, against this broker: four messages as fast as possible.
fn demo(columns: usize, broker: &ScriptedBroker, more: &[&str]) -> Terminal {
    let endpoint = broker.endpoint();
    let mut arguments = vec!["--endpoint", &endpoint, "--publish-count", "4"];
    arguments.extend(["--publish-delay", "0", "--iterations", "1"]);
    arguments.extend(more);
    Terminal::run(columns, &[], PROGRAM, &arguments)
}

/// Plays the broker while the program clears its session.
fn let_it_clear(broker: &mut ScriptedBroker) {
    let (mut link, _) = broker.accept_client(false);
    link.expect_pingreq();
    link.send_packet(v4::Packet::PingResp);
    link.expect_disconnect();
}

/// Plays the broker until the program has sent all that it can without an acknowledgment.
fn take_messages(broker: &mut ScriptedBroker, session_present: bool) -> Connection {
    let (mut link, _) = broker.accept_client(session_present);
    if !session_present {
        let subscribe = link.expect_subscribe();
        link.grant(&subscribe);
    }
    // One of the publisher that waits, two of the other one.
    for _ in 0..3 {
        link.expect_publish();
    }
    link
}

/// The lines of the view on a screen, with a sign in place of each number.
///
/// # Panics
/// When the view is there twice, or something else is below it.
#[track_caller]
fn view(screen: &[String]) -> Vec<String> {
    let begins = |line: &&String| line.starts_with("iteration 1 of 1");
    assert_eq!(screen.iter().filter(begins).count(), 1, "{screen:#?}");
    let lines = screen.iter().skip_while(|line| !begins(line));
    let mut lines: Vec<String> = lines.map(|line| without_numbers(line)).collect();
    // The text to the right moves with the digits of its numbers.
    if let Some((title, link)) = lines[0].split_once("  ") {
        lines[0] = format!("{title}  {}", link.trim_start());
    }
    let length = lines.iter().rposition(|line| !line.is_empty());
    lines.truncate(length.map_or(0, |last| last + 1));
    lines
}

fn has(screen: &[String], text: &str) -> bool {
    screen.iter().any(|line| line.contains(text))
}

/// Everything was sent, and nothing acknowledged.
fn all_wait(screen: &[String], link: &str) -> bool {
    let is_link = |line: &String| line.starts_with("iteration 1 of 1") && line.ends_with(link);
    // A narrow terminal gets no numbers of messages.
    let waiting = screen.iter().filter(|line| line.contains(" for PUBACK"));
    screen.iter().any(is_link) && has(screen, " 3 of 100") && waiting.count() == 2
}

#[test]
#[ignore = "needs tmux; scripts/test.sh --all runs it"]
fn the_view_at_each_width_while_a_link_is_cut_and_comes_back() {
    let at = |columns| {
        move || {
            let mut broker = ScriptedBroker::bind();
            // Time to look at what waits for the next attempt.
            let terminal = demo(columns, &broker, &["--connect-interval", "10s"]);
            let_it_clear(&mut broker);
            let link = take_messages(&mut broker, false);
            let up = terminal.wait_until("all is sent", |screen| all_wait(screen, "session new"));
            link.close();
            let is_cut = |screen: &[String]| {
                has(screen, "no connection, attempt ") && has(screen, "3 commands wait")
            };
            let cut = terminal.wait_until("the link is cut", is_cut);
            let _link = take_messages(&mut broker, true);
            let is_back = |screen: &[String]| all_wait(screen, "session resumed");
            let back = terminal.wait_until("the link is back", is_back);
            assert!(!has(&back, "meanwhile"), "{back:#?}");
            let mut text = String::new();
            for (what, screen) in [("up", up), ("cut", cut), ("back", back)] {
                text.push_str(&format!("== {what}, {columns} columns\n"));
                text.push_str(&(view(&screen).join("\n") + "\n"));
            }
            text
        }
    };
    let all = WIDTHS.map(|columns| thread::spawn(at(columns)));
    // All have ended, and their terminals with them, before one of them fails the test.
    let all = all.map(|one| one.join());
    let text: String = all.into_iter().map(|one| one.unwrap()).collect();
    expect_golden("view.txt", &text);
}

#[test]
#[ignore = "needs tmux; scripts/test.sh --all runs it"]
fn a_terminal_that_changes_its_width_has_the_view_once() {
    let mut broker = ScriptedBroker::bind();
    let terminal = demo(120, &broker, &["--connect-interval", "0"]);
    let_it_clear(&mut broker);
    let _link = take_messages(&mut broker, false);
    let is_there = |screen: &[String]| all_wait(screen, "session new");
    terminal.wait_until("all is sent", is_there);
    for columns in [60, 200, 40, 80, 61, 120] {
        terminal.resize(columns);
        // The line of the bars fits in each but the narrowest, and its width tells that it is drawn anew.
        let width = |screen: &[String]| {
            let line = screen.iter().find(|line| line.starts_with("iteration 1"));
            line.map_or(0, |line| line.len())
        };
        let expected = (columns - 1).min(119);
        let is_drawn = |screen: &[String]| width(screen) == expected;
        let screen = terminal.wait_until("a view of this width", is_drawn);
        let lines = view(&screen);
        assert_eq!(lines.len(), 5, "{columns}: {screen:#?}");
    }
}

#[test]
#[ignore = "needs tmux; scripts/test.sh --all runs it"]
fn an_interrupt_leaves_the_terminal_whole() {
    let mut broker = ScriptedBroker::bind();
    let terminal = demo(80, &broker, &["--connect-interval", "0"]);
    let_it_clear(&mut broker);
    let _link = take_messages(&mut broker, false);
    terminal.wait_until("all is sent", |screen| all_wait(screen, "session new"));
    terminal.press("C-c");
    let screen = terminal.wait_for("interrupted: ");
    assert_eq!(view(&screen).len(), 5, "{screen:#?}");
    // The seconds of the connection go on twice: this is no repetition of the same request.
    let link = |screen: &[String]| screen.iter().find(|line| line.contains(", up ")).cloned();
    let mut seen = link(&screen);
    for _ in 0..2 {
        seen = link(&terminal.wait_until("the next second", |screen| link(screen) != seen));
    }
    // The messages in flight have their time; this ends it at once.
    terminal.press("C-c");
    let screen = terminal.wait_for("status 130");
    assert!(!has(&screen, "sync publisher"), "{screen:#?}");
    let status = screen.iter().position(|line| line == "status 130").unwrap();
    assert!(
        screen[status + 1..].iter().all(String::is_empty),
        "{screen:#?}"
    );
    assert_eq!(terminal.cursor(), format!("0 {} 1", status + 1));
}

#[test]
#[ignore = "needs tmux; scripts/test.sh --all runs it"]
fn a_program_that_was_stopped_draws_below_the_lines_of_the_shell() {
    let mut broker = ScriptedBroker::bind();
    let terminal = Terminal::run(100, &["PS1=ready "], "bash", &["--norc", "-i"]);
    terminal.wait_for("ready");
    let endpoint = broker.endpoint();
    terminal.press(&format!(
        "{PROGRAM} --endpoint {endpoint} --publish-count 4 --publish-delay 0 --iterations 1"
    ));
    terminal.press("Enter");
    let_it_clear(&mut broker);
    let _link = take_messages(&mut broker, false);
    terminal.wait_until("all is sent", |screen| all_wait(screen, "session new"));
    terminal.press("C-z");
    terminal.wait_for("Stopped");
    terminal.press("fg");
    terminal.press("Enter");
    // The old view and the shell's lines stay, and the new view is below them.
    let twice = |screen: &[String]| {
        let is_title = |line: &&String| line.starts_with("iteration 1 of 1");
        screen.iter().filter(is_title).count() == 2
    };
    let screen = terminal.wait_until("the view is there again", twice);
    assert!(
        has(&screen, "Stopped") && has(&screen, "ready fg"),
        "{screen:#?}"
    );
    terminal.press("C-c");
    terminal.wait_for("interrupted: ");
    terminal.press("C-c");
}

#[test]
#[ignore = "needs tmux; scripts/test.sh --all runs it"]
fn lines_of_the_log_and_results_stay_above_the_view_and_it_goes_at_the_end() {
    let broker = Mosquitto::start();
    let mut arguments = broker.arguments();
    let more = "-v --iterations 2 --publish-count 4 --iteration-delay 2s --connect-interval 0";
    arguments.extend(more.split(' ').map(Into::into));
    let terminal = Terminal::run(100, &[], PROGRAM, &arguments);
    let screen = terminal.wait_for("next iteration in ");
    let result = screen
        .iter()
        .position(|line| line.starts_with("iteration 1: ok"));
    let title = screen
        .iter()
        .position(|line| line.starts_with("iteration 1 of 2"));
    assert!(result.unwrap() < title.unwrap(), "{screen:#?}");
    assert!(has(&screen, "connection closed"), "{screen:#?}");
    assert!(terminal.coloured().contains("\x1b[32mdone"), "{screen:#?}");
    let screen = terminal.wait_for("status 0");
    for part in [
        " command queue ",
        " subscriber      done",
        "clearing the session  ",
    ] {
        let is_left = |line: &String| line.starts_with(part);
        assert!(!screen.iter().any(is_left), "{part}: {screen:#?}");
    }
}

#[test]
#[ignore = "needs tmux; scripts/test.sh --all runs it"]
fn no_color_takes_the_colours_away_and_off_the_view() {
    for (variable, more, shown) in [
        ("NO_COLOR=1", "auto", true),
        ("NO_COLOR=", "off", false),
        ("TERM=dumb", "auto", false),
    ] {
        let mut broker = ScriptedBroker::bind();
        let endpoint = broker.endpoint();
        let arguments = [
            "--endpoint",
            &endpoint,
            "--view",
            more,
            "--connect-interval",
            "0",
        ];
        let terminal = Terminal::run(80, &[variable], PROGRAM, &arguments);
        let_it_clear(&mut broker);
        let (mut link, _) = broker.accept_client(false);
        let subscribe = link.expect_subscribe();
        link.grant(&subscribe);
        link.expect_publish();
        if shown {
            terminal.wait_for("message 1 waits for PUBACK");
            assert!(
                !terminal.coloured().contains("\x1b[32m"),
                "{}",
                terminal.coloured()
            );
        }
        terminal.press("C-c");
        let screen = terminal.wait_for("interrupted: ");
        assert_eq!(
            has(&screen, "sync publisher  "),
            shown,
            "{variable}: {screen:#?}"
        );
    }
}

#[test]
#[ignore = "needs tmux; scripts/test.sh --all runs it"]
fn a_bench_that_waits_for_its_messages_says_so() {
    let mut broker = ScriptedBroker::bind();
    let endpoint = broker.endpoint();
    let arguments = [
        "bench",
        "--endpoint",
        &endpoint,
        "--receive",
        "--threads",
        "1",
    ];
    let arguments = arguments.into_iter().chain(["--messages", "3"]);
    let arguments: Vec<&str> = arguments.collect();
    let terminal = Terminal::run(80, &[], PROGRAM, &arguments);
    let (mut link, _) = broker.accept_client(false);
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
    for _ in 0..3 {
        let publish = link.expect_publish();
        link.send_puback(publish.pkid);
    }
    let waits = "everything is acknowledged, and 3 messages have yet to come back";
    let screen = terminal.wait_for(waits);
    assert!(has(&screen, " 1 publisher "), "{screen:#?}");
    let screen = terminal.wait_for(" nothing for ");
    assert!(!has(&screen, " left"), "{screen:#?}");
    drop(link);
}

#[test]
fn without_a_terminal_nothing_is_drawn() {
    let broker = Mosquitto::start();
    let done = Program::new()
        .args(broker.arguments())
        .args(["--iterations", "1", "--publish-count", "2", "-v"])
        .args(["--publish-delay", "0", "--connect-interval", "0"])
        .run();
    done.expect_code(0);
    assert!(!done.stderr.contains('\x1b'), "{done}");
    assert!(!done.stderr.contains("command queue"), "{done}");
}

#[test]
#[ignore = "takes ten seconds; scripts/test.sh --all runs it"]
fn without_a_terminal_the_log_has_a_line_every_ten_seconds_and_none_with_q() {
    let quiet = |quiet: &[&str]| {
        let mut broker = ScriptedBroker::bind();
        let running = Program::new()
            .args(["--endpoint", &broker.endpoint(), "--connect-interval", "0"])
            .args(["--publish-count", "4", "--publish-delay", "0"])
            .args(["--iterations", "1"])
            .args(quiet)
            .spawn();
        let_it_clear(&mut broker);
        let link = take_messages(&mut broker, false);
        (running, link)
    };
    let (mut loud, _link) = quiet(&[]);
    let (silent, _other) = quiet(&["-q"]);
    let line = loud.wait_for_line("iteration 1 of 1: ");
    let (_, line) = line.split_once("iteration ").unwrap();
    assert_eq!(
        without_numbers(line),
        "<n> of <n>: TCP up <n> s, session new; sync publisher: <n> of <n>, message <n> waits for PUBACK; async \
         publisher: <n> of <n>, <n> messages wait for PUBACK; subscriber: <n> of <n>, receiving; <n> queued, <n> in \
         flight"
    );
    assert_eq!(silent.stderr(), "");
}
