//! Why attempts to connect failed, in words that name no host, certificate or user: pictures are shown around. The log has
//! the full text. Pure; the main thread, once the loop has ended.

use std::error::Error as _;
use std::io;

use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::{AttemptStep, ConnectionEvents, EventKind};

/// How far an attempt has come with one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ReachedStep {
    Begun,
    /// The system is asked for the addresses.
    Name,
    Tcp,
    /// TCP is there.
    Tls,
    /// CONNECT is on its way.
    Mqtt,
}

/// One attempt, as far as it is known.
struct ToldAttempt {
    stage: ReachedStep,
    /// The failure of the address that came furthest, or of the last one of several.
    of_an_address: Option<(ReachedStep, String)>,
    /// The return code of CONNACK.
    code: Option<u8>,
    cause: Option<String>,
}

/// The causes of so many attempts, in their order. `None` for one that did not fail, or whose events were not kept: where
/// there are more attempts than events of them, the last ones belong together.
pub(super) fn causes(events: ConnectionEvents, attempts: usize) -> Vec<Option<String>> {
    of_the_last(attempts, told(events))
}

/// The causes of the attempts for which there are events.
fn told(mut events: ConnectionEvents) -> Vec<Option<String>> {
    let mut attempts: Vec<ToldAttempt> = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let EventKind::Attempt { .. } = event.kind {
            attempts.push(ToldAttempt::new());
            continue;
        }
        // The beginning of the first one may have been pushed out.
        if attempts.is_empty() && matches!(event.kind, EventKind::AttemptFailed { .. }) {
            attempts.push(ToldAttempt::new());
        }
        if let Some(attempt) = attempts.last_mut() {
            attempt.take(&event.kind);
        }
    }
    attempts.into_iter().map(|attempt| attempt.cause).collect()
}

fn of_the_last(attempts: usize, causes: Vec<Option<String>>) -> Vec<Option<String>> {
    let unknown = vec![None; attempts.saturating_sub(causes.len())];
    let too_many = causes.len().saturating_sub(attempts);
    let known = causes.into_iter().skip(too_many);
    unknown.into_iter().chain(known).collect()
}

impl ToldAttempt {
    fn new() -> Self {
        ToldAttempt {
            stage: ReachedStep::Begun,
            of_an_address: None,
            code: None,
            cause: None,
        }
    }

    fn take(&mut self, event: &EventKind) {
        match event {
            EventKind::Step(AttemptStep::AddressFailed { error, .. }) => {
                let stage = self.stage;
                let best = self.of_an_address.as_ref().map(|(best, _)| *best);
                if best.is_none_or(|best| best <= stage) {
                    self.of_an_address = Some((stage, words(stage, error, self.code)));
                }
                self.stage = ReachedStep::Tcp;
            }
            EventKind::Step(step) => {
                self.stage = match step {
                    AttemptStep::Resolving { .. } => ReachedStep::Name,
                    AttemptStep::Resolved { .. } | AttemptStep::TcpBegan { .. } => ReachedStep::Tcp,
                    AttemptStep::TcpDone { .. } => ReachedStep::Tls,
                    AttemptStep::TlsDone { .. } | AttemptStep::ConnectSent => ReachedStep::Mqtt,
                    _ => self.stage,
                }
            }
            EventKind::Refused { code } => self.code = Some(*code),
            EventKind::AttemptFailed { error } => {
                // CONNACK may refuse at the address that follows one of no use.
                let of_an_address = self.of_an_address.take();
                let of_an_address = of_an_address.filter(|_| self.stage <= ReachedStep::Tcp);
                self.cause = Some(match of_an_address {
                    Some((_, words)) => words,
                    None => words(self.stage, error, self.code),
                });
            }
            _ => {}
        }
    }
}

/// The cause of a failure at this stage.
fn words(stage: ReachedStep, error: &Error, code: Option<u8>) -> String {
    if let Some(code) = code {
        let refused = match code {
            1 => "the broker does not speak MQTT 3.1.1",
            2 => "the broker refused the client identifier",
            3 => "the broker's service is not available",
            4 => "the broker refused user name or password",
            _ => "the broker refused access",
        };
        return format!("{refused} (return code {code})");
    }
    let source = error.source().and_then(|source| source.downcast_ref());
    let kind = source.map(io::Error::kind);
    let words = match (stage, kind) {
        (ReachedStep::Begun, _) => "it could not begin",
        (ReachedStep::Name, _) => "the broker's name was not found",
        (ReachedStep::Tcp, Some(io::ErrorKind::ConnectionRefused)) => {
            "nothing listens on that port"
        }
        (ReachedStep::Tcp, None | Some(io::ErrorKind::TimedOut)) => "no answer to TCP",
        (ReachedStep::Tcp, _) => "TCP did not get there",
        (ReachedStep::Tls, _) => "the TLS handshake failed",
        (ReachedStep::Mqtt, Some(io::ErrorKind::TimedOut)) => "CONNECT was not answered in time",
        (ReachedStep::Mqtt, _) if error.blame() == Blame::Tls => "the broker broke TLS off",
        (ReachedStep::Mqtt, _) => "the broker closed it in place of CONNACK",
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(blame: Blame, kind: Option<io::ErrorKind>) -> Error {
        let error = Error::new(blame, "connecting to broker.example", "secret words", "");
        match kind {
            Some(kind) => error.with_source(io::Error::from(kind)),
            None => error,
        }
    }

    /// The cause of an attempt of which these events came.
    fn cause_of(events: &[EventKind]) -> Option<String> {
        let mut attempt = ToldAttempt::new();
        events.iter().for_each(|event| attempt.take(event));
        attempt.cause
    }

    fn address_failed(kind: io::ErrorKind) -> EventKind {
        EventKind::Step(AttemptStep::AddressFailed {
            to: None,
            error: failure(Blame::Network, Some(kind)),
        })
    }

    #[test]
    fn a_cause_says_how_far_the_attempt_came() {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, TimedOut, UnexpectedEof};
        let to = "127.0.0.1:1".parse().unwrap();
        let steps = || {
            [
                AttemptStep::Resolving {
                    host: "broker.example".to_owned(),
                },
                AttemptStep::TcpBegan { to },
                AttemptStep::TcpDone { to },
                AttemptStep::ConnectSent,
            ]
            .map(EventKind::Step)
        };
        for (taken, kind, blame, expected) in [
            (0, None, Blame::Network, "it could not begin"),
            (1, None, Blame::Network, "the broker's name was not found"),
            (
                2,
                Some(ConnectionRefused),
                Blame::Network,
                "nothing listens on that port",
            ),
            (2, None, Blame::Network, "no answer to TCP"),
            (
                2,
                Some(HostUnreachable),
                Blame::Network,
                "TCP did not get there",
            ),
            (3, None, Blame::Tls, "the TLS handshake failed"),
            (
                4,
                Some(TimedOut),
                Blame::Network,
                "CONNECT was not answered in time",
            ),
            (4, None, Blame::Tls, "the broker broke TLS off"),
            (
                4,
                Some(UnexpectedEof),
                Blame::Network,
                "the broker closed it in place of CONNACK",
            ),
        ] {
            let mut events = steps()[..taken].to_vec();
            let error = failure(blame, kind);
            events.push(EventKind::AttemptFailed { error });
            assert_eq!(cause_of(&events).as_deref(), Some(expected));
        }
        assert_eq!(cause_of(&steps()), None, "it goes on");
    }

    #[test]
    fn a_refusal_says_its_return_code() {
        let error = failure(Blame::Refused, None);
        let events = [
            EventKind::Refused { code: 5 },
            EventKind::AttemptFailed { error },
        ];
        let told = cause_of(&events);
        assert_eq!(
            told.as_deref(),
            Some("the broker refused access (return code 5)")
        );
    }

    #[test]
    fn of_several_addresses_the_one_that_came_furthest_is_told() {
        let to = "127.0.0.1:1".parse().unwrap();
        let events = [
            EventKind::Step(AttemptStep::TcpBegan { to }),
            EventKind::Step(AttemptStep::TcpDone { to }),
            address_failed(io::ErrorKind::UnexpectedEof),
            EventKind::Step(AttemptStep::TcpBegan { to }),
            address_failed(io::ErrorKind::ConnectionRefused),
            EventKind::AttemptFailed {
                error: failure(Blame::Network, None),
            },
        ];
        assert_eq!(
            cause_of(&events).as_deref(),
            Some("the TLS handshake failed")
        );
    }

    #[test]
    fn a_refusal_counts_more_than_an_address_before_it() {
        let to = "127.0.0.1:1".parse().unwrap();
        let events = [
            EventKind::Step(AttemptStep::TcpBegan { to }),
            address_failed(io::ErrorKind::ConnectionRefused),
            EventKind::Step(AttemptStep::TcpBegan { to }),
            EventKind::Step(AttemptStep::TcpDone { to }),
            EventKind::Step(AttemptStep::ConnectSent),
            EventKind::Refused { code: 2 },
            EventKind::AttemptFailed {
                error: failure(Blame::Refused, None),
            },
        ];
        let expected = "the broker refused the client identifier (return code 2)";
        assert_eq!(cause_of(&events).as_deref(), Some(expected));
    }

    #[test]
    fn causes_belong_to_the_last_attempts() {
        let cause = |text: &str| Some(text.to_owned());
        let causes = || vec![cause("a"), None];
        assert_eq!(of_the_last(2, causes()), causes());
        assert_eq!(of_the_last(3, causes()), [None, cause("a"), None]);
        assert_eq!(of_the_last(1, causes()), [None]);
    }
}
