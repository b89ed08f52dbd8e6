//! Threads of the demo that panic. The others do not hang, every command ends, and the report says what
//! happened.
//!
//! No code of the demo is made to panic, only the log. See `tests/support/panicking_log.rs`.

use std::time::Duration;

use mqtt_connection_sharing::options::Options;

use crate::app::cli::Verbosity;
use crate::app::demo::settings::DemoSettings;
use crate::app::demo::{self, DemoReport, Interrupt};
use crate::app::events::EventOutput;
use crate::app::picture::Recordings;
use crate::app::tests::demo_settings;
use crate::app::values::ViewMode;
use crate::app::view::View;
use crate::support::Mosquitto;
use crate::support::panicking_log::{expect_panicked, panic_at};
use crate::support::running::{promptly, security};

const COUNT: u64 = 40;

/// One iteration of the demo; its subscriber would wait for 20 seconds before it gives up.
fn demo() -> DemoReport {
    let broker = Mosquitto::start_fast();
    let mut options = Options::new("127.0.0.1", "panics");
    options.port = broker.port();
    options.security = security(broker.certs());
    options.connect_interval = Duration::ZERO;
    let settings = DemoSettings {
        iterations: 1,
        publish_count: COUNT,
        publish_delay: Duration::from_millis(1),
        ..demo_settings()
    };
    let interrupt = Interrupt::default();
    let view = View::start(ViewMode::Off, Verbosity::Quiet);
    let mut recordings = Recordings::default();
    let events = EventOutput::new(false, String::new(), String::new());
    let mut runs = Vec::new();
    promptly(|| {
        demo::run(
            options,
            &settings,
            &interrupt,
            &mut recordings,
            (&view, &events),
            |run| {
                runs.push(run);
                true
            },
        )
    })
    .unwrap();
    DemoReport::new(runs)
}

/// The report of a run that failed for this reason, which exit status 1 stands for.
#[track_caller]
fn expect_failed(report: &DemoReport, reason: &str) {
    expect_panicked();
    assert!(!report.success, "{report:?}");
    let Some([run]) = report.runs.as_deref() else {
        panic!("expected one run: {report:?}")
    };
    assert!(!run.success, "{run:?}");
    let error = run.error.as_deref().unwrap_or_default();
    assert!(error.starts_with(reason), "{run:?}");
}

#[test]
fn a_publisher_of_the_demo() {
    let _turn = panic_at("sync publisher: message 5 ");
    let report = demo();
    expect_failed(&report, "the sync publisher panicked");
    // The other one finished its messages in flight.
    let run = &report.runs.unwrap()[0];
    assert!(run.acknowledged > 0 && run.unacknowledged > 0, "{run:?}");
    assert!(run.received >= run.acknowledged, "{run:?}");
}

#[test]
fn a_callback_of_the_demo() {
    let _turn = panic_at("async publisher: message 5 ");
    let report = demo();
    expect_failed(&report, "a callback panicked");
    let run = &report.runs.unwrap()[0];
    assert_eq!((run.received, run.lost), (COUNT, 0), "{run:?}");
    assert_eq!(run.acknowledged, COUNT - 1, "{run:?}");
}

#[test]
fn the_subscriber_of_the_demo() {
    let _turn = panic_at("subscriber: received filter/sync/5");
    let report = demo();
    let Some(run) = report.runs.as_deref().and_then(<[_]>::first) else {
        panic!("expected a run: {report:?}")
    };
    // The publishers may be the first to say that the loop has ended.
    assert!(run.error.is_some(), "{run:?}");
    let reason = run.error.clone().unwrap();
    expect_failed(&report, &reason);
    assert_eq!(
        (run.received, run.lost + run.unacknowledged),
        (0, COUNT),
        "nobody counted: {run:?}"
    );
}
