//! Processor time and memory of this process, where the system tells.
//!
//! Any thread.

/// Use of resources since the process began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Seconds of processor time, of all threads, in the program and in the system.
    pub(super) cpu_seconds: f64,
    /// Bytes of memory that were resident at the most.
    pub(super) peak_rss_bytes: u64,
}

/// The use up to now; `None` where the system does not tell.
#[cfg(unix)]
pub(super) fn usage() -> Option<Usage> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeVal;

    // Apple counts in bytes, the others in KiB.
    const UNIT: u64 = if cfg!(target_vendor = "apple") {
        1
    } else {
        1024
    };

    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let since_exec = peak_since_exec();
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(Usage {
        cpu_seconds: seconds(usage.user_time()) + seconds(usage.system_time()),
        peak_rss_bytes: match since_exec {
            Some(bytes) => bytes,
            None => u64::try_from(usage.max_rss()).ok()?.saturating_mul(UNIT),
        },
    })
}

/// On Linux: the memory of this program alone. `getrusage` includes the program that was in this process
/// before: `cargo run`, for one.
#[cfg(unix)]
fn peak_since_exec() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The use up to now, which is not known on this system.
#[cfg(not(unix))]
pub(super) fn usage() -> Option<Usage> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_is_that_of_this_program_alone() {
        let own = peak_since_exec().unwrap();
        assert!(usage().unwrap().peak_rss_bytes >= own);
        // Of all that ever was in this process.
        let who = nix::sys::resource::UsageWho::RUSAGE_SELF;
        let all = nix::sys::resource::getrusage(who).unwrap().max_rss();
        assert!(own <= 1024 * u64::try_from(all).unwrap() + (1 << 20));
    }

    #[test]
    fn a_process_uses_time_and_between_a_mebibyte_and_a_tebibyte() {
        let first = usage().unwrap();
        assert!((1 << 20..1 << 40).contains(&first.peak_rss_bytes));
        let mut sum = 0_u64;
        while usage().unwrap().cpu_seconds <= first.cpu_seconds {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
