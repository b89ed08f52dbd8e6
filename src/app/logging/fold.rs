//! Folds repeated attempts to connect into one line with count and time.
//!
//! The first warning of each kind is shown. When it comes again while nothing else happens, it is counted. The count
//! comes before the next line that is shown, and once in each [`PERIOD`] while the attempts go on. Pure; the time is
//! passed in. The logger calls it, under its lock.

use std::time::{Duration, Instant};

use log::Level;

/// The end of a line about an attempt that failed; a delay follows, which is another one each time.
const AGAIN: &str = "; trying again in ";

/// A person wants to know that the program still tries.
const PERIOD: Duration = Duration::from_secs(30);

/// Warnings that are remembered: those of one attempt, over some addresses, and of a few causes.
const REMEMBERED: usize = 32;

/// The warnings since something else happened.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// Those that were shown, without their delays.
    shown: Vec<String>,
    /// When an attempt was last told, and how many came since.
    attempts: Option<(Instant, u64)>,
}

/// The part of it that is to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Take {
    /// A warning that comes first.
    pub(super) before: Option<String>,
    /// Whether the line itself is shown.
    pub(super) itself: bool,
}

impl Fold {
    /// A line is to be logged.
    pub(super) fn take(&mut self, level: Level, text: &str, now: Instant) -> Take {
        if level != Level::Warn {
            let before = self.told(now);
            *self = Fold::default();
            return Take {
                before,
                itself: true,
            };
        }
        let (kind, is_attempt) = match text.split_once(AGAIN) {
            Some((kind, _)) => (kind, true),
            None => (text, false),
        };
        // Only between attempts a line that comes again says nothing new.
        let is_known = self.attempts.is_some() && self.shown.iter().any(|shown| shown == kind);
        if !is_known {
            let before = self.told(now);
            if self.shown.len() < REMEMBERED {
                self.shown.push(kind.to_owned());
            }
            if is_attempt {
                self.attempts = Some((now, 0));
            }
            return Take {
                before,
                itself: true,
            };
        }
        let mut before = None;
        if let Some((since, times)) = &mut self.attempts {
            *times += u64::from(is_attempt);
            if now.saturating_duration_since(*since) >= PERIOD {
                before = self.told(now);
                self.attempts = Some((now, 0));
            }
        }
        Take {
            before,
            itself: false,
        }
    }

    /// The count, in words; then it starts over.
    fn told(&mut self, now: Instant) -> Option<String> {
        let (since, times) = self.attempts.as_mut()?;
        let seconds = now.saturating_duration_since(*since).as_secs_f64();
        match std::mem::take(times) {
            0 => None,
            1 => Some(format!("the same again after {seconds:.1} s")),
            times => Some(format!("the same {times} times more in {seconds:.1} s")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(steps: &[(u64, Level, &str)]) -> Vec<String> {
        let (mut fold, start) = (Fold::default(), Instant::now());
        let mut lines = Vec::new();
        for (at, level, text) in steps {
            let shown = fold.take(*level, text, start + Duration::from_millis(*at));
            lines.extend(shown.before);
            lines.extend(shown.itself.then(|| (*text).to_owned()));
        }
        lines
    }

    const FIRST: &str = "a: nobody listens; trying again in 100 ms";
    const SECOND: &str = "a: nobody listens; trying again in 170 ms";
    const OTHER: &str = "a: no answer; trying again in 5 ms";

    #[test]
    fn attempts_are_counted_until_something_else_happens() {
        use Level::{Info, Warn};
        let steps = [
            (0, Info, "connecting"),
            (10, Warn, FIRST),
            (110, Warn, SECOND),
            (300, Warn, FIRST),
            (1010, Info, "connected"),
            (5000, Warn, FIRST),
            (5100, Warn, FIRST),
            (5200, Warn, OTHER),
            (5300, Info, "interrupted"),
        ];
        let expected = [
            "connecting",
            FIRST,
            "the same 2 times more in 1.0 s",
            "connected",
            FIRST,
            "the same again after 0.2 s",
            OTHER,
            "interrupted",
        ];
        assert_eq!(lines(&steps), expected);
    }

    #[test]
    fn warnings_of_each_address_are_folded_with_their_attempt_and_others_are_not() {
        use Level::Warn;
        let address = "[::1]:1: nobody listens; addresses left: 1";
        let steps = [
            (0, Warn, address),
            (1, Warn, FIRST),
            (100, Warn, address),
            (101, Warn, SECOND),
            (200, Warn, "the password file can be read by others"),
            (300, Warn, address),
            (301, Warn, SECOND),
        ];
        let expected = [
            address,
            FIRST,
            "the same again after 0.2 s",
            "the password file can be read by others",
        ];
        assert_eq!(lines(&steps), expected);
        let twice = [(0, Warn, "a thread is slow"), (1, Warn, "a thread is slow")];
        assert_eq!(lines(&twice).len(), 2, "no attempt came before");
    }

    #[test]
    fn a_long_outage_is_told_from_time_to_time() {
        let steps: Vec<_> = (0..=70)
            .map(|second| (second * 1000, Level::Warn, FIRST))
            .collect();
        let told = lines(&steps);
        assert_eq!(told[0], FIRST);
        assert_eq!(told[1..], ["the same 30 times more in 30.0 s"; 2]);
    }
}
