//! Threads of the demo that panic. The others do not hang, every command ends, and the report says what
//! happened.
//!
//! Nothing in the demo is made to panic: the log is. This logger panics, once, in the thread that logs a
//! certain line.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use mqtt_connection_sharing::options::{IdentityFiles, Options, Security, TlsOptions};

use crate::app::demo::settings::DemoSettings;
use crate::app::demo::{self, Interrupt, Report};
use crate::app::tests::demo_settings;
use crate::support::Mosquitto;
use crate::support::running::promptly;

/// Panics at the line that begins with these words, once.
struct PanickingLog(Mutex<Option<&'static str>>);

static LOG: PanickingLog = PanickingLog(Mutex::new(None));

impl Log for PanickingLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        let due = lock(&self.0).take_if(|words| line.starts_with(*words));
        if let Some(words) = due {
            panic!("meant: {words}");
        }
    }

    fn flush(&self) {}
}

/// A test that failed in its turn is not the next one's concern.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on, until the value is dropped, the log panics at these words. One test at a time.
fn panic_at(words: &'static str) -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    let turn = lock(&ONE_AT_A_TIME);
    *lock(&LOG.0) = Some(words);
    turn
}

/// The words were logged.
#[track_caller]
fn expect_panicked() {
    assert_eq!(*lock(&LOG.0), None, "nobody logged these words");
}

const COUNT: u64 = 40;

/// One iteration of the demo; its subscriber would wait for 20 seconds before it gives up.
fn demo() -> Report {
    let broker = Mosquitto::start_fast();
    let certs = broker.certs();
    let mut options = Options::new("127.0.0.1", "panics");
    options.port = broker.port();
    options.security = Security::Tls(TlsOptions {
        ca_file: Some(certs.ca().to_owned()),
        identity: Some(IdentityFiles::Pem {
            cert: certs.client().cert.clone(),
            key: certs.client().key.clone(),
        }),
        ..TlsOptions::default()
    });
    options.connect_interval = Duration::ZERO;
    let settings = DemoSettings {
        iterations: 1,
        publish_count: COUNT,
        publish_delay: Duration::from_millis(1),
        ..demo_settings()
    };
    let interrupt = Interrupt::default();
    promptly(|| demo::run(options, &settings, &interrupt, |_| {})).unwrap()
}

/// The report of a run that failed for this reason, which exit status 1 stands for.
#[track_caller]
fn expect_failed(report: &Report, reason: &str) {
    expect_panicked();
    assert!(!report.success, "{report:?}");
    let [run] = &report.runs[..] else {
        panic!("expected one run: {report:?}")
    };
    assert!(!run.success, "{run:?}");
    let error = run.error.as_deref();
    assert_eq!(error, Some(reason), "{run:?}");
}

#[test]
fn a_publisher_of_the_demo() {
    let _turn = panic_at("sync publisher: message 5 ");
    let report = demo();
    expect_failed(&report, "the sync publisher panicked");
    // The other one finished its messages in flight.
    let run = &report.runs[0];
    assert!(run.acknowledged > 0 && run.lost > 0, "{run:?}");
    assert!(run.received >= run.acknowledged, "{run:?}");
}

#[test]
fn a_callback_of_the_demo() {
    let _turn = panic_at("async publisher: message 5 ");
    let report = demo();
    expect_failed(&report, "a callback panicked");
    let run = &report.runs[0];
    assert_eq!((run.received, run.lost), (COUNT, 0), "{run:?}");
    assert_eq!(run.acknowledged, COUNT - 1, "{run:?}");
}

#[test]
fn the_subscriber_of_the_demo() {
    let _turn = panic_at("subscriber: received filter/sync/5");
    let report = demo();
    let Some(run) = report.runs.first() else {
        panic!("expected a run: {report:?}")
    };
    // The publishers may be the first to say that the loop has ended.
    assert!(run.error.is_some(), "{run:?}");
    let reason = run.error.clone().unwrap();
    expect_failed(&report, &reason);
    assert_eq!(
        (run.received, run.lost),
        (0, COUNT),
        "nobody counted: {run:?}"
    );
}
