//! Tables of causes for which the program cannot work. Each row is checked for the error line that a
//! person sees, for the exit status, and for whether the program tries again.

use std::ffi::OsString;

use super::{Finished, Program};

/// The program makes one attempt only; the exit status comes first in the pair.
pub const ONCE: bool = false;

/// The program tries again.
pub const AGAIN: bool = true;

/// Arguments for one more attempt, without a pause.
pub const QUICK: [&str; 8] = [
    "--retry-attempts",
    "1",
    "--retry-base",
    "1ms",
    "--retry-max",
    "1ms",
    "--connect-interval",
    "0",
];

/// Arguments with which the program cannot work, and the result that must follow.
pub struct Row {
    pub cause: &'static str,
    pub arguments: Vec<OsString>,
    pub status: i32,
    /// Whether the program tries again.
    pub retried: bool,
    /// Parts of the error in their order: what was tried, what went wrong, what to do.
    pub phrases: Vec<String>,
}

/// A row; the exit status is paired with whether the program tries again.
pub fn row<A: Into<OsString>>(
    cause: &'static str,
    arguments: impl IntoIterator<Item = A>,
    (status, retried): (i32, bool),
    phrases: &[&str],
) -> Row {
    Row {
        cause,
        arguments: arguments.into_iter().map(Into::into).collect(),
        status,
        retried,
        phrases: phrases.iter().map(|&phrase| phrase.to_owned()).collect(),
    }
}

/// Runs each row twice: quietly for the error line, then with the log for the retries in it.
#[track_caller]
pub fn check(rows: impl IntoIterator<Item = Row>) {
    for row in rows {
        let Row { cause, status, .. } = row;
        let program = || Program::new().args(&row.arguments).args(QUICK);
        let done = program().arg("-q").run();
        assert_eq!(done.status.code(), Some(status), "{cause}: {done}");
        expect_one_line(cause, &done, &row.phrases);

        let done = program().run();
        assert_eq!(done.status.code(), Some(status), "{cause}: {done}");
        let retries = done.stderr.matches("; trying again in ").count();
        assert_eq!(retries, usize::from(row.retried), "{cause}: {done}");
    }
}

/// Checks that standard output is empty and that one line of error has the phrases in their order.
#[track_caller]
pub fn expect_one_line<P: AsRef<str>>(cause: &str, done: &Finished, phrases: &[P]) {
    assert_eq!(done.stdout, "", "{cause}");
    let one_line = done.stderr.ends_with('\n') && done.stderr.lines().count() == 1;
    assert!(one_line, "{cause}: expected one line: {done}");
    let mut rest = done.stderr.strip_prefix("error: ").unwrap_or_else(|| {
        panic!("{cause}: no error line: {done}");
    });
    assert!(!rest.contains("panicked"), "{cause}: {done}");
    for phrase in phrases {
        let phrase = phrase.as_ref();
        let found = rest.split_once(phrase);
        (_, rest) = found.unwrap_or_else(|| panic!("{cause}: no {phrase:?} in its place: {done}"));
    }
    // The advice follows the semicolon.
    assert!(done.stderr.contains("; "), "{cause}: no advice: {done}");
}
