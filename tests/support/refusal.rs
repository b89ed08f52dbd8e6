//! What cannot work: the line of error that a person sees, its exit status, and whether the program
//! tries again. Tables of causes, checked row by row.

use std::ffi::OsString;

use super::{Finished, Program};

/// Worth no second attempt, for the exit status that comes first.
pub const ONCE: bool = false;

/// Worth another attempt.
pub const AGAIN: bool = true;

/// One attempt more, without a pause.
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

/// Arguments that cannot work, and what has to come of them.
pub struct Row {
    pub cause: &'static str,
    pub arguments: Vec<OsString>,
    pub status: i32,
    /// Whether it is tried again.
    pub retried: bool,
    /// Parts of the error, in their order: what was tried, what went wrong, what to do.
    pub phrases: Vec<String>,
}

/// A row; the status comes with whether it is tried again.
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

/// Tries each row quietly for its error line, and again with the log for the retries in it.
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

/// Nothing on standard output, one line of error that has the phrases in their order.
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
    // Advice is what comes after the semicolon.
    assert!(done.stderr.contains("; "), "{cause}: no advice: {done}");
}
