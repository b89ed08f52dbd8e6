//! The signals that ask the program to end: Ctrl-C (SIGINT), SIGTERM and, unless it was started to
//! ignore that, SIGHUP.
//!
//! Decides nothing about the end itself: it calls what it was given, once for each signal, from a
//! thread of its own.

use std::io;

/// From now on each such signal calls `act` instead of ending the program.
#[cfg(unix)]
pub fn on_each(mut act: impl FnMut() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // What nohup was asked for.
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
pub fn on_each(act: impl FnMut() + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(act).map_err(io::Error::other)
}

/// What Linux tells of this process; empty on other systems, where nothing counts as ignored.
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

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
