//! Errors for people: one line that says what was tried, what went wrong and what to do.
//!
//! Every error that reaches a person is an [`Error`]. [`Blame`] says whose fault it is and decides the
//! reaction mechanically. The loop reconnects after a fault of the network or of the broker, and gives up
//! at once if trying again cannot help. The program turns the blame into its exit status.
//!
//! Pure data: no thread, socket or clock. An error must not contain a secret.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// Whose fault an error is, and so who has to act for it to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// The caller's settings: files, certificates, values. Such an error is found before connecting.
    Configuration,
    /// The way to the broker: name resolution, TCP, a link that went away.
    Network,
    /// The TLS handshake, or the certificates that either side rejected.
    Tls,
    /// The broker understood the request and refused it (CONNACK return code, SUBACK failure).
    Refused,
    /// The broker broke the protocol.
    Broker,
    /// The caller used the library in a way that cannot work.
    Misuse,
}

/// An error for people: what was tried, what went wrong, what to do.
///
/// The text says all that a person needs. [`source`](std::error::Error::source) is for programs: the error of the
/// system or of the TLS library behind it, where there was one. Two errors are equal if they say the same.
#[derive(Debug, Clone)]
pub struct Error {
    blame: Blame,
    permanent: bool,
    tried: String,
    problem: String,
    advice: String,
    reason_code: Option<u8>,
    /// Shared, because errors of the system cannot be cloned.
    source: Option<Arc<Behind>>,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The error behind an error. Its drop may be the application's code, and runs on whichever thread drops it last, the
/// loop's for one: a panic in it goes no further.
#[derive(Debug)]
struct Behind(Option<AnyError>);

impl Drop for Behind {
    fn drop(&mut self) {
        let cause = self.0.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(cause))) {
            // Its drop may panic, too.
            std::mem::forget(payload);
        }
    }
}

impl Error {
    /// An error that a later attempt may not meet again.
    pub fn new(
        blame: Blame,
        tried: impl Into<String>,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let permanent = matches!(blame, Blame::Configuration | Blame::Misuse);
        Error {
            blame,
            permanent,
            tried: one_line(tried.into()),
            problem: one_line(problem.into()),
            advice: one_line(advice.into()),
            reason_code: None,
            source: None,
        }
    }

    /// The same error, with the one that caused it.
    #[must_use]
    pub fn with_source(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.caused_by(Box::new(source))
    }

    /// The same error, with the application's own that caused it.
    #[must_use]
    pub(crate) fn caused_by(mut self, source: AnyError) -> Self {
        self.source = Some(Arc::new(Behind(Some(source))));
        self
    }

    /// The same error, of a broker that gave this reason code.
    #[must_use]
    pub(crate) fn with_reason_code(mut self, code: u8) -> Self {
        self.reason_code = Some(code);
        self
    }

    /// Both errors in one, with the blame and the cause of the first.
    #[must_use]
    pub(crate) fn and(mut self, other: Error) -> Self {
        self.problem = format!("{}; {}: {}", self.problem, other.tried, other.problem);
        self.advice = format!("{}; {}", self.advice, other.advice);
        self
    }

    /// The same error, marked as permanent: trying again cannot help.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The same error as the last one of several attempts: `9 attempts in 10.0 s`.
    #[must_use]
    pub(crate) fn last_of(mut self, attempts: &str) -> Self {
        self.problem = format!("{attempts}, the last one: {}", self.problem);
        self
    }

    /// The same error, if trying again can help after all.
    #[must_use]
    pub(crate) fn passing(mut self) -> Self {
        self.permanent = false;
        self
    }

    /// The same error about one address of several.
    #[must_use]
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.problem = format!("{} ({address})", self.problem);
        self
    }

    /// Whose fault the error is.
    pub fn blame(&self) -> Blame {
        self.blame
    }

    /// Whether trying again is pointless.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The action that failed, as a phrase: `connecting to broker.example:8883`.
    pub fn tried(&self) -> &str {
        &self.tried
    }

    /// The reason why the action failed.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The remedy; empty if there is none.
    pub fn advice(&self) -> &str {
        &self.advice
    }

    /// The reason code of MQTT 5 with which the broker refused or closed the connection, where it gave one
    /// [MQTT 5, 2.4].
    pub fn reason_code(&self) -> Option<u8> {
        self.reason_code
    }

    /// The exit status of the program for this error: 2 configuration or misuse, 3 no connection,
    /// 4 refused by the broker.
    pub fn exit_status(&self) -> u8 {
        match self.blame {
            Blame::Configuration | Blame::Misuse => 2,
            Blame::Network | Blame::Tls | Blame::Broker => 3,
            Blame::Refused => 4,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tried, self.problem)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref()?.0.as_deref()?;
        Some(source)
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.blame == other.blame
            && self.permanent == other.permanent
            && self.tried == other.tried
            && self.problem == other.problem
            && self.advice == other.advice
            && self.reason_code == other.reason_code
    }
}

impl Eq for Error {}

/// Returns advice if the system has run out of something, whatever the action was. Returns `None` for every
/// other failure.
pub fn exhaustion(error: &io::Error) -> Option<&'static str> {
    // EMFILE and ENFILE have no kind of their own; both numbers are the same on every Unix.
    match error.raw_os_error() {
        Some(24) if cfg!(unix) => Some("raise the limit of open files of this process (ulimit -n)"),
        Some(23) if cfg!(unix) => Some("close programs that hold files open on this system"),
        _ if error.kind() == io::ErrorKind::OutOfMemory => Some("free some memory"),
        _ => None,
    }
}

/// A path as one word of a POSIX shell's command, for advice that a person copies.
///
/// A usual path stays as it is; any other is quoted. The shell reads the word as this path and as nothing
/// else.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    // A command would read a leading dash as the start of an option.
    let start = if text.starts_with('-') { "./" } else { "" };
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return format!("{start}{text}");
    }
    // Between single quotes only the closing quote is special.
    format!("'{start}{}'", text.replace('\'', r"'\''"))
}

/// Joins lines with spaces, because text from a file or a library may have several and an error has one.
fn one_line(text: String) -> String {
    if text.contains(['\n', '\r']) {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_three_parts() {
        let error = Error::new(
            Blame::Network,
            "connecting to a:1",
            "refused\nby the host",
            "check the port",
        );
        assert_eq!(
            error.to_string(),
            "connecting to a:1: refused by the host; check the port"
        );
        assert!(!error.is_permanent());
        assert!(error.permanent().is_permanent());
    }

    #[test]
    fn an_error_keeps_its_cause_and_says_the_same_without_it() {
        use std::error::Error as _;
        let error = Error::new(Blame::Network, "connecting", "no answer", "");
        assert!(error.source().is_none());
        let caused = error.clone().with_source(io::Error::from_raw_os_error(110));
        let cause = caused.source().unwrap().downcast_ref::<io::Error>();
        assert_eq!(cause.unwrap().raw_os_error(), Some(110));
        assert_eq!(caused, error);
        assert_eq!(caused.to_string(), error.to_string());
        assert_ne!(caused, error.permanent());
    }

    #[test]
    fn a_cause_that_panics_when_it_is_dropped_does_no_harm() {
        #[derive(Debug, thiserror::Error)]
        #[error("a cause")]
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("the drop of this test panics");
            }
        }
        let error = Error::new(Blame::Network, "connecting", "no answer", "").with_source(Panics);
        drop((error.clone(), error));
    }

    #[test]
    fn two_errors_in_one_say_both() {
        let first = Error::new(Blame::Configuration, "asking", "no answer", "ask again");
        let second = Error::new(Blame::Tls, "reading key.pem", "it is empty", "write it");
        let both = first.and(second);
        assert_eq!(
            both.to_string(),
            "asking: no answer; reading key.pem: it is empty; ask again; write it"
        );
        assert_eq!(both.blame(), Blame::Configuration);
    }

    #[test]
    fn blame_decides_the_exit_status() {
        let status = |blame| Error::new(blame, "", "", "").exit_status();
        assert_eq!(status(Blame::Configuration), 2);
        assert_eq!(status(Blame::Misuse), 2);
        assert_eq!(status(Blame::Network), 3);
        assert_eq!(status(Blame::Tls), 3);
        assert_eq!(status(Blame::Broker), 3);
        assert_eq!(status(Blame::Refused), 4);
    }

    #[test]
    fn an_ordinary_path_is_left_as_it_is() {
        for path in [
            "key.pem",
            "/home/me/certs/a-b_c.key",
            "../x",
            "a+b,c:d@e%f=g",
            "schlüssel",
        ] {
            assert_eq!(shell_word(Path::new(path)), path);
        }
    }

    #[test]
    fn a_path_that_a_shell_would_take_apart_is_quoted() {
        for (path, expected) in [
            ("my key.pem", "'my key.pem'"),
            ("it's", r"'it'\''s'"),
            ("a;b", "'a;b'"),
            ("~/key", "'~/key'"),
            ("", "''"),
            ("-rf", "./-rf"),
            ("-r f", "'./-r f'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), expected);
        }
    }

    #[test]
    fn a_shell_reads_the_word_as_the_path() {
        let every: String = (' '..='~').collect();
        for path in [
            every.as_str(),
            "'",
            "''",
            r"\",
            "a\tb",
            "$HOME \u{60}id\u{60} \"x\"",
            "!1 é",
        ] {
            let command = format!("printf %s {}", shell_word(Path::new(path)));
            let output = Command::new("sh").args(["-c", &command]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), path, "{command}");
        }
    }
}
