//! Folds repeated attempts to connect into one line with count and time.
//!
//! The first warning of each kind is shown. When it comes again while nothing else happens, it is counted. The count
//! comes before the next line that is shown, and once in each [`PERIOD`] while the attempts go on. Pure; the time is
//! passed in. The logger calls it, under its lock.

use std::time::{Duration, Instant};

use log::Level;

use crate::app::lines::Many;

/// The end of a line about an attempt that failed; a delay follows, which is another one each time.
const AGAIN: &str = "; trying again in ";

/// A person wants to know that the program still tries.
const PERIOD: Duration = Duration::from_secs(30);

/// Warnings that are remembered: those of one attempt, over some addresses, and of a few causes.
const REMEMBERED: usize = 32;

/// The warnings since something else happened.
#[derive(Debug, Default)]
pub(super) struct Fold {
    kinds: Vec<Warning>,
    /// The place of the kind that was shown last.
    last: Option<usize>,
    /// When an attempt was shown, or the count was told. `None` before the first attempt.
    since: Option<Instant>,
    /// Attempts so far.
    attempts: u64,
}

/// A warning that was shown, without its delay.
#[derive(Debug)]
struct Warning {
    text: String,
    /// How many attempts of this kind came again and are not told yet.
    times: u64,
    /// How many attempts there had been when it came last.
    attempts: u64,
}

/// The part of it that is to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Take {
    /// A warning that comes first.
    pub(super) before: Option<String>,
    /// Whether the line itself is shown.
    pub(super) itself: bool,
}

/// Whether the line says that there is a connection.
pub(super) fn is_connection(text: &str) -> bool {
    text.starts_with("connected to ") || text.starts_with("reconnected to ")
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
        let (text, is_attempt) = match text.split_once(AGAIN) {
            Some((text, _)) => (text, true),
            None => (text, false),
        };
        let place = self.kinds.iter().position(|kind| kind.text == text);
        let before = match place {
            Some(place) if self.says_nothing_new(place, is_attempt) => {
                self.count(place, is_attempt);
                let is_late = |since| now.saturating_duration_since(since) >= PERIOD;
                let before = self.since.is_some_and(is_late).then(|| self.told(now));
                return Take {
                    before: before.flatten(),
                    itself: false,
                };
            }
            _ => self.told(now),
        };
        self.last = place.or_else(|| {
            let text = text.to_owned();
            let has_room = self.kinds.len() < REMEMBERED;
            has_room.then(|| {
                self.kinds.push(Warning {
                    text,
                    times: 0,
                    attempts: 0,
                });
                self.kinds.len() - 1
            })
        });
        if let Some(place) = self.last {
            self.kinds[place].attempts = self.attempts;
        }
        if is_attempt {
            self.attempts += 1;
            self.since = Some(now);
        }
        Take {
            before,
            itself: true,
        }
    }

    /// Whether a warning that came before comes as it does with each attempt: not twice between two of them.
    fn says_nothing_new(&self, place: usize, is_attempt: bool) -> bool {
        let is_of_attempt = is_attempt || self.kinds[place].attempts != self.attempts;
        self.since.is_some() && is_of_attempt
    }

    /// A warning comes again, and is not shown.
    fn count(&mut self, place: usize, is_attempt: bool) {
        self.kinds[place].attempts = self.attempts;
        if is_attempt {
            self.kinds[place].times += 1;
            self.attempts += 1;
        }
    }

    /// The count, in words; then it starts over.
    fn told(&mut self, now: Instant) -> Option<String> {
        let since = self.since?;
        let all: u64 = self.kinds.iter().map(|kind| kind.times).sum();
        let of_last = self.last.map_or(0, |place| self.kinds[place].times);
        if all == 0 {
            return None;
        }
        self.kinds.iter_mut().for_each(|kind| kind.times = 0);
        self.since = Some(now);
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        Some(match all {
            // It stands right above.
            1 if of_last == all => format!("the same again after {seconds:.1} s"),
            _ if of_last == all => format!("the same {all} times more in {seconds:.1} s"),
            _ => format!("as above, {} more in {seconds:.1} s", Many(all, "attempt")),
        })
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
    fn attempts_of_more_than_one_kind_are_not_told_as_the_same() {
        use Level::{Info, Warn};
        let told = |steps: &[(u64, Level, &str)]| lines(steps).pop().unwrap();
        let turns = [
            (0, Warn, FIRST),
            (100, Warn, OTHER),
            (200, Warn, SECOND),
            (300, Warn, OTHER),
            (1100, Info, ""),
        ];
        let before = lines(&turns);
        assert_eq!(
            before,
            [FIRST, OTHER, "as above, 2 attempts more in 1.0 s", ""]
        );
        // The last line is of another kind than those that came again.
        let back = [(0, Warn, FIRST), (100, Warn, OTHER), (600, Warn, FIRST)];
        assert_eq!(told(&back), OTHER);
        let back = [&back[..], &[(1100, Info, "")]].concat();
        assert_eq!(lines(&back)[2], "as above, 1 attempt more in 1.0 s");
        let same = [(0, Warn, FIRST), (100, Warn, OTHER), (600, Warn, OTHER)];
        let same = [&same[..], &[(1100, Info, "")]].concat();
        assert_eq!(lines(&same)[2], "the same again after 1.0 s");
    }

    #[test]
    fn a_warning_that_comes_twice_between_two_attempts_is_none_of_them() {
        use Level::Warn;
        let slow = "a thread is slow";
        let steps = [
            (0, Warn, FIRST),
            (1, Warn, slow),
            (2, Warn, slow),
            (3, Warn, SECOND),
            (4, Warn, slow),
            (5, Warn, slow),
        ];
        let expected = [FIRST, slow, slow, "as above, 1 attempt more in 0.0 s", slow];
        assert_eq!(lines(&steps), expected);
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
