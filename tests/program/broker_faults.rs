//! The demo while its broker fails: killed, forgetful, silent, gone for good, or with its session taken
//! over. A real Mosquitto over mutual TLS that saves at each change. Each fault falls into the middle of
//! a run, because the test waits for a message by its number before it acts.
//!
//! With MQTT 5: `SUITE_MQTT=5 cargo test --test program broker_faults::`

use std::ffi::OsString;
use std::time::{Duration, Instant};

use crate::support::report::Run;
use crate::support::versions::{self, suite};
use crate::support::{
    ClosedPort, Connection, Finished, Mosquitto, Program, Report, Running, ScriptedBroker,
    wait_until,
};
use mqtt_connection_sharing::Protocol;
use rumqttc::mqttbytes::v4;

/// Messages of a run, which lasts at least a second because of the delay between them.
const COUNT: u64 = 300;

/// A message far from the first and far from the last one of its publisher.
const MIDDLE: &str = "received filter/sync/30";

/// One iteration of [`COUNT`] messages that can be followed in the log, with quick retries.
fn program(broker: &Mosquitto) -> Program {
    Program::new().args(arguments(broker))
}

fn arguments(broker: &Mosquitto) -> Vec<OsString> {
    let count = COUNT.to_string();
    let more = [
        &["--client-id", "demo", "-v", "--output", "json"][..],
        &["--iterations", "1", "--connect-interval", "0"],
        &["--publish-count", &count, "--publish-delay", "10ms"],
        &["--retry-base", "20ms", "--retry-max", "100ms"],
    ]
    .concat();
    let more = more.into_iter().map(OsString::from);
    broker.arguments().into_iter().chain(more).collect()
}

/// [`arguments`] without a client identifier.
fn anonymous(broker: &Mosquitto) -> Vec<OsString> {
    let mut arguments = arguments(broker);
    let places = arguments.iter().position(|it| it == "--client-id");
    arguments.drain(places.map_or(0..0, |place| place..place + 2));
    arguments
}

fn reach_the_middle(running: &mut Running) {
    running.wait_for_line(MIDDLE);
}

/// Checks that the run succeeded and nothing is lost; repetitions are allowed with QoS 1.
#[track_caller]
fn came_through(running: Running) -> (Run, String) {
    let done = running.finish();
    done.expect_code(0);
    let mut report = Report::of(&done);
    report.only_run().expect_complete(COUNT);
    let run = report.runs.remove(0);
    assert!(run.reconnects >= 1, "{run:?}");
    (run, done.stderr)
}

/// In MQTT 5 the first kill costs the session: Mosquitto saves none whose connection began with a clean start, as the first
/// one does here, although CONNECT has a session expiry. Nothing is lost all the same, and the second kill costs nothing.
#[test]
fn a_broker_killed_and_started_again_costs_nothing() {
    let mut broker = Mosquitto::start();
    let unlimited = ["--retry-for", "0"];
    let mut running = program(&broker).args(unlimited).spawn();
    let kills = match suite() {
        Protocol::V5 => &[30, 60][..],
        _ => &[30],
    };
    for number in kills {
        running.wait_for_line(&format!("received filter/sync/{number}"));
        broker.kill();
        running.wait_for_line(" lost after ");
        broker.start_again();
        running.wait_for_line("reconnected to ");
    }
    let (run, log) = came_through(running);
    let forgotten = kills.len() as u64 - 1;
    let came_back = (run.reconnects, run.resumed, run.resubscribed);
    assert_eq!(came_back, (forgotten + 1, 1, forgotten), "{run:?}");
    assert!(log.contains("session resumed"), "{log}");
}

#[test]
fn with_quality_of_service_2_no_message_comes_twice_either() {
    let broker = Mosquitto::start();
    let unlimited = ["--retry-for", "0", "--qos", "2"];
    let mut running = program(&broker).args(unlimited).spawn();
    reach_the_middle(&mut running);
    // Mosquitto may acknowledge a message before it has saved it, so a kill could break the promise of
    // QoS 2. Only the link is cut here, by a client that takes the session over and lets go of it.
    let other_client = broker.client("demo", false);
    running.wait_for_line(" lost after ");
    other_client.close();
    let (run, _) = came_through(running);
    assert_eq!(run.duplicated, 0, "{run:?}");
}

#[test]
fn a_broker_that_forgot_everything_is_subscribed_to_again() {
    let mut broker = Mosquitto::start();
    let unlimited = ["--retry-for", "0"];
    let mut running = program(&broker).args(unlimited).spawn();
    reach_the_middle(&mut running);
    broker.kill();
    broker.remove_database();
    running.wait_for_line(" lost after ");
    broker.start_again();
    let (run, log) = came_through(running);
    assert!(run.resubscribed >= 1, "{run:?}");
    assert_eq!(run.resumed, 0, "{run:?}");
    assert!(
        log.contains("session new, renewing 1 subscription\n"),
        "{log}"
    );
}

#[test]
fn a_broker_killed_again_and_again_costs_nothing() {
    let mut broker = Mosquitto::start();
    let unlimited = ["--retry-for", "0"];
    let mut running = program(&broker).args(unlimited).spawn();
    for (number, forgets) in [(20, false), (40, true), (60, false)] {
        running.wait_for_line(&format!("received filter/sync/{number}"));
        broker.kill();
        if forgets {
            broker.remove_database();
        }
        running.wait_for_line(" lost after ");
        broker.start_again();
        running.wait_for_line("reconnected to ");
    }
    let (run, _) = came_through(running);
    assert!(run.reconnects >= 3, "{run:?}");
    assert!(run.resubscribed >= 1, "{run:?}");
}

#[test]
fn a_broker_that_falls_silent_is_connected_to_anew() {
    let broker = Mosquitto::start();
    let mut running = program(&broker)
        .args(["--ack-timeout", "2s", "--connect-timeout", "500ms"])
        .args(["--retry-for", "0"])
        .spawn();
    reach_the_middle(&mut running);
    broker.pause();
    let line = running.wait_for_line(" lost after ");
    assert!(line.contains("acknowledg"), "{line}");
    // The system accepts connections for the stopped broker, which says nothing.
    let line = running.wait_for_line("trying again in");
    assert!(line.contains("within 500ms"), "{line}");
    broker.resume();
    came_through(running);
}

#[test]
fn a_broker_gone_for_good_ends_the_demo_as_failed() {
    let mut broker = Mosquitto::start();
    let patience = ["--retry-for", "1s"];
    let mut running = program(&broker).args(patience).spawn();
    reach_the_middle(&mut running);
    broker.kill();
    let done = running.finish();
    done.expect_code(1);
    let report = Report::of(&done);
    assert!(!report.success);
    let run = report.only_run();
    assert!(!run.success);
    assert!(run.received > 30 && run.unacknowledged > 0, "{run:?}");
    let told = run.received + run.lost + run.unacknowledged;
    assert_eq!(told, COUNT, "{run:?}");
    assert_eq!(run.reconnects, 0, "{run:?}");
    let error = run.error.as_deref().expect("an error");
    let told = " s, the last one: nothing listens on that port";
    assert!(error.contains(told), "{error}");
    assert!(!done.stderr.contains("panicked"), "{done}");
}

#[test]
fn a_session_taken_over_is_taken_back_and_the_log_names_the_cause() {
    let broker = Mosquitto::start();
    let mut running = program(&broker).spawn();
    reach_the_middle(&mut running);
    let mut other = broker.client("demo", false);
    let line = running.wait_for_line(" lost after ");
    let cause = "another program uses the same client identifier";
    assert!(line.contains(cause), "{line}");
    running.wait_for_line("reconnected to ");
    // Now the broker closes the other client's connection. The messages it was sent before do not
    // matter.
    let event = loop {
        match other.read_event(crate::support::HANG) {
            crate::support::Event::Packet(v4::Packet::Publish(_), _) => {}
            event => break event,
        }
    };
    assert_eq!(event, crate::support::Event::Closed);
    let (run, _) = came_through(running);
    assert!(run.resumed >= 1, "{run:?}");
}

/// Stops the demo with a signal in the middle of a run.
fn stopped_once(signal: &str, program: fn(&Mosquitto) -> Program) {
    let broker = Mosquitto::start();
    let mut running = program(&broker).spawn();
    reach_the_middle(&mut running);
    running.signal(signal);
    let done = running.finish();
    done.expect_code(130);
    expect_two_disconnects(&broker);
    let report = Report::of(&done);
    let run = report.only_run();
    assert!(!report.success && !run.success, "{run:?}");
    assert!(run.received > 30 && run.unacknowledged > 0, "{run:?}");
    let told = run.received + run.lost + run.unacknowledged;
    assert_eq!(told, COUNT, "{run:?}");
    // Messages in flight were finished; queued ones may be cancelled.
    assert!(!done.stderr.contains("perhaps delivered"), "{done}");
    assert_eq!(run.error.as_deref(), Some("interrupted"));
    assert!(done.stderr.contains("again to leave at once"), "{done}");
}

/// Checks that the broker saw DISCONNECT on both connections: on that for clearing the session, and on
/// the run's.
#[track_caller]
fn expect_two_disconnects(broker: &Mosquitto) {
    wait_until("the broker to log two orderly ends", || {
        broker.log().matches("Client demo disconnected.").count() == 2
    });
    let log = broker.log();
    assert_eq!(log.matches(" as demo (").count(), 2, "{log}");
}

/// Nobody would find the session of an identifier that was made up for this run.
#[test]
fn the_session_of_a_made_up_identifier_is_cleared_at_the_end_also_after_ctrl_c() {
    let mut broker = Mosquitto::start();
    for (publishes, interrupted) in [("300", true), ("31", false), ("300", true)] {
        let program = Program::new().args(anonymous(&broker));
        let mut running = program.args(["--publish-count", publishes]).spawn();
        let line = running.wait_for_line("connected to ");
        let id = line.split('"').nth(1).expect("an identifier").to_owned();
        assert!(id.starts_with("mqtt-connection-sharing-"), "{line}");
        if interrupted {
            reach_the_middle(&mut running);
            running.signal("INT");
        }
        let done = running.finish();
        done.expect_code(if interrupted { 130 } else { 0 });
        let cleared = done.stderr.matches("clearing the session").count();
        assert_eq!(cleared, 2, "at the beginning and at the end: {done}");
        let mut connect = v4::Connect::new(&id);
        connect.clean_session = false;
        let (_, answer) = broker.client_with(connect);
        assert!(!answer.session_present, "{id}");
    }
    // Without a broker the end does not wait for long.
    let mut running = Program::new().args(anonymous(&broker)).spawn();
    reach_the_middle(&mut running);
    broker.kill();
    running.signal("INT");
    running.finish().expect_code(130);
}

#[test]
fn ctrl_c_finishes_what_is_in_flight_and_reports_what_there_is() {
    stopped_once("INT", program);
}

#[test]
fn sigterm_is_like_ctrl_c() {
    stopped_once("TERM", program);
}

#[test]
fn a_terminal_that_goes_away_is_like_ctrl_c() {
    stopped_once("HUP", with_a_terminal);
}

/// The same program with SIGHUP at its default, as a shell in a terminal leaves it, even if the tests
/// themselves run under nohup.
fn with_a_terminal(broker: &Mosquitto) -> Program {
    Program::other("env")
        .arg("--default-signal=HUP")
        .arg(env!("CARGO_BIN_EXE_mqtt-connection-sharing"))
        .args(arguments(broker))
}

/// The same program with SIGHUP ignored, as nohup starts it.
fn under_nohup(broker: &Mosquitto) -> Program {
    Program::other("nohup")
        .arg(env!("CARGO_BIN_EXE_mqtt-connection-sharing"))
        .args(arguments(broker))
}

#[test]
fn under_nohup_a_terminal_that_goes_away_does_not_matter() {
    let broker = Mosquitto::start();
    let mut running = under_nohup(&broker).spawn();
    reach_the_middle(&mut running);
    running.signal("HUP");
    let done = running.finish();
    done.expect_code(0);
    Report::of(&done).only_run().expect_complete(COUNT);
    assert!(!done.stderr.contains("interrupted"), "{done}");
}

#[test]
fn under_nohup_the_other_signals_stop_it_as_ever() {
    for signal in ["INT", "TERM"] {
        let broker = Mosquitto::start();
        let mut running = under_nohup(&broker).spawn();
        reach_the_middle(&mut running);
        // SIGHUP does not count as the first of two signals.
        running.signal("HUP");
        running.signal(signal);
        let done = running.finish();
        done.expect_code(130);
        expect_two_disconnects(&broker);
        let report = Report::of(&done);
        assert_eq!(report.only_run().error.as_deref(), Some("interrupted"));
    }
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let broker = Mosquitto::start();
    let mut running = program(&broker).spawn();
    reach_the_middle(&mut running);
    // From now on, nothing in flight can be finished.
    broker.pause();
    running.signal("INT");
    running.wait_for_line("again to leave at once");
    ask_until_it_ends(&mut running);
    let done = running.finish();
    broker.resume();
    done.expect_code(130);
    // There is no report, because the program waited for nothing.
    assert_eq!(done.stdout, "");
}

#[test]
fn ctrl_c_does_not_wait_for_a_broker_that_does_not_answer() {
    let broker = Mosquitto::start();
    let mut running = program(&broker).spawn();
    reach_the_middle(&mut running);
    broker.pause();
    running.signal("INT");
    let done = running.finish();
    broker.resume();
    done.expect_code(130);
    let report = Report::of(&done);
    let error = report.only_run().error.as_deref();
    assert_eq!(error, Some("interrupted"));
}

#[test]
fn ctrl_c_ends_the_wait_for_the_next_attempt() {
    let closed = ClosedPort::hold();
    // The delay is random, up to an hour.
    let delays = ["--retry-base", "1h", "--retry-max", "1h"];
    let mut running = Program::new()
        .args(["--endpoint", &closed.endpoint(), "--retry-for", "0"])
        .args(delays)
        .args(versions::arguments())
        .spawn();
    running.wait_for_line("trying again in");
    let begin = Instant::now();
    running.signal("INT");
    let done = running.finish();
    done.expect_code(130);
    // There is nothing to finish, so the 5 seconds that are granted for that must not pass.
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}: {done}");
    let told = ": 1 attempt in ";
    expect_error(
        &done,
        &[told, " s, the last one: nothing listens on that port"],
    );
}

/// Checks that standard error has an error line with these phrases, among lines of the log.
#[track_caller]
fn expect_error(done: &Finished, phrases: &[&str]) {
    let mut errors = done
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "));
    let error = errors.next().unwrap_or_else(|| panic!("no error: {done}"));
    assert!(
        phrases.iter().all(|phrase| error.contains(phrase)),
        "{done}"
    );
    assert_eq!(errors.next(), None, "{done}");
}

#[test]
fn ctrl_c_ends_the_wait_for_the_next_attempt_also_in_the_middle_of_a_run() {
    let mut broker = Mosquitto::start();
    // The delay is random, up to an hour.
    let delays = ["--retry-base", "1h", "--retry-max", "1h"];
    let arguments = broker.arguments();
    let mut running = Program::new()
        .args(arguments)
        .args(["--client-id", "demo", "-v", "--output", "json"])
        .args(["--publish-count", &COUNT.to_string()])
        .args(["--publish-delay", "10ms", "--connect-interval", "0"])
        .args(delays)
        .spawn();
    reach_the_middle(&mut running);
    broker.kill();
    running.wait_for_line("trying again in");
    running.signal("INT");
    let done = running.finish();
    done.expect_code(130);
    let report = Report::of(&done);
    let run = report.only_run();
    assert_eq!(run.error.as_deref(), Some("interrupted"));
    assert!(run.received > 30 && run.unacknowledged > 0, "{run:?}");
    expect_error(&done, &["connection to ", " lost after "]);
}

/// Lets the demo clear its session, and returns the connection of its first run.
fn second_connection(broker: &mut ScriptedBroker) -> Connection {
    let (mut first, _) = broker.accept_client(false);
    first.expect_pingreq();
    first.send_packet(v4::Packet::PingResp);
    first.expect_disconnect();
    first.close();
    broker.accept()
}

/// The demo without TLS, for this broker.
fn scripted(broker: &ScriptedBroker) -> Program {
    Program::new()
        .args(["--endpoint", &broker.endpoint(), "--output", "json"])
        .args(["--connect-interval", "0", "--connect-timeout", "1h"])
        .args(versions::arguments())
}

#[test]
fn ctrl_c_once_or_twice_while_connack_is_awaited() {
    for times in [1, 2] {
        // For the connection that clears the session, and for the connection of the run.
        let mut broker = ScriptedBroker::speaking(suite());
        let running = scripted(&broker).spawn();
        let mut first = broker.accept();
        first.expect_connect();
        interrupt(running, times == 2).expect_code(130);
        first.expect_closed();

        let mut broker = ScriptedBroker::speaking(suite());
        let running = scripted(&broker).spawn();
        let mut second = second_connection(&mut broker);
        second.expect_connect();
        interrupt(running, times == 2).expect_code(130);
        second.expect_closed();
    }
}

#[test]
fn ctrl_c_once_or_twice_while_subscribe_is_not_answered() {
    for times in [1, 2] {
        let mut broker = ScriptedBroker::speaking(suite());
        let running = scripted(&broker).spawn();
        let mut link = second_connection(&mut broker);
        link.expect_connect();
        link.send_connack(v4::ConnectReturnCode::Success, false);
        link.expect_subscribe();
        let done = interrupt(running, times == 2);
        done.expect_code(130);
        if times == 1 {
            // SUBSCRIBE had its grace; DISCONNECT and a report follow.
            link.expect_disconnect();
            let report = Report::of(&done);
            let error = report.only_run().error.as_deref();
            assert_eq!(error, Some("interrupted"));
        } else {
            assert_eq!(done.stdout, "");
        }
        link.expect_closed();
    }
}

/// Sends Ctrl-C once or, `again`, until the program ends; checks that it ends.
fn interrupt(mut running: Running, again: bool) -> Finished {
    running.signal("INT");
    if again {
        running.wait_for_line("again to leave at once");
        ask_until_it_ends(&mut running);
    }
    running.finish()
}

/// A Ctrl-C right after the first one is the same request, so one more may be needed.
fn ask_until_it_ends(running: &mut Running) {
    wait_until("the end of the program", || {
        let runs = running.is_running();
        if runs {
            running.signal("INT");
        }
        !runs
    });
}

#[test]
fn ctrl_c_ends_the_pause_between_two_iterations() {
    let broker = Mosquitto::start();
    let running = Program::new()
        .args(broker.arguments())
        .args(["--iteration-delay", "1h", "--publish-delay", "0"])
        .spawn();
    wait_until("the first iteration's result", || {
        running.stdout().contains("iteration 1: ok")
    });
    running.signal("INT");
    let done = running.finish();
    done.expect_code(130);
    assert!(done.stdout.ends_with("\nsuccess\n"), "{done}");
}
