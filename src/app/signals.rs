//! The signals that ask the program to end: Ctrl-C (SIGINT), SIGTERM and, unless it was started to
//! ignore that, SIGHUP.
//!
//! The first signal asks for an orderly end, the second one leaves at once; so does the first where nobody reads
//! standard output. `timeout` and managers of services signal the program and then its group, so a signal right after the
//! first is the same request. A thread of its own waits for them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::error::{Blame, Error, exhaustion};

use super::demo::Interrupt;
use super::stuck::leave_when_stuck;
use super::view::screen::step_aside;

/// The exit status of an interrupted program.
pub(crate) const INTERRUPTED: u8 = 130;

/// No person asks twice in this time.
const ONE_REQUEST: Duration = Duration::from_millis(100);

/// From now on a signal ends what runs.
pub(crate) fn stop(interrupt: Arc<Interrupt>) -> Result<(), Error> {
    let mut first = None;
    on_each(move || {
        let now = Instant::now();
        if interrupt.is_requested() {
            if is_same_request(first, now) {
                return;
            }
            leave();
        }
        first = Some(now);
        leave_when_stuck(|| leave());
        // First, because the program may end as soon as it is asked to.
        log::info!("interrupted: finishing what is in flight; again to leave at once");
        interrupt.request();
    })
    .map_err(|error| {
        Error::new(
            Blame::Configuration,
            "setting up Ctrl-C",
            error.to_string(),
            exhaustion(&error).unwrap_or("free some of the system's threads or memory"),
        )
    })
}

/// Whether a signal only repeats the first one.
fn is_same_request(first: Option<Instant>, now: Instant) -> bool {
    first.is_some_and(|first| now.saturating_duration_since(first) < ONE_REQUEST)
}

/// Ends the program at once.
fn leave() -> ! {
    step_aside();
    std::process::exit(i32::from(INTERRUPTED));
}

/// From now on each such signal calls `act` instead of ending the program.
#[cfg(unix)]
fn on_each(mut act: impl FnMut() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // nohup was asked to keep the program alive.
    if !is_ignored(SIGHUP, &own_status()) {
        signals.add_signal(SIGHUP)?;
    }
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().for_each(|_| act()))?;
    Ok(())
}

/// From now on Ctrl-C calls `act` instead of ending the program.
#[cfg(not(unix))]
fn on_each(act: impl FnMut() + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(act).map_err(io::Error::other)
}

/// The status of this process as Linux tells it; empty on other systems, where nothing counts as ignored.
#[cfg(unix)]
fn own_status() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// Whether a signal is ignored according to the process's status: bit 0 of `SigIgn` is signal 1.
#[cfg(unix)]
fn is_ignored(signal: i32, status: &str) -> bool {
    let mut lines = status.lines();
    let mask = lines
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_right_after_the_first_is_the_same_request() {
        let first = Instant::now();
        let repeats = |ms| is_same_request(Some(first), first + Duration::from_millis(ms));
        assert_eq!(
            [0, 1, 99, 100, 5_000].map(repeats),
            [true, true, true, false, false]
        );
        // The end was asked for in another way: this signal is no repetition.
        assert!(!is_same_request(None, first));
    }

    #[cfg(unix)]
    #[test]
    fn the_mask_of_ignored_signals_is_read_bit_by_bit() {
        let status =
            |mask: &str| format!("Name:\tx\nSigBlk:\tffff\nSigIgn:\t{mask}\nSigCgt:\tff\n");
        for (mask, ignored) in [
            ("0000000000000001", &[1][..]),
            ("0000000000001000", &[13]),
            ("8000000000004003", &[1, 2, 15, 64]),
            ("0000000000000000", &[]),
            ("", &[]),
            ("x", &[]),
        ] {
            let found: Vec<i32> = (1..=64)
                .filter(|signal| is_ignored(*signal, &status(mask)))
                .collect();
            assert_eq!(found, ignored, "{mask}");
        }
        assert!(!is_ignored(1, ""));
    }
}
