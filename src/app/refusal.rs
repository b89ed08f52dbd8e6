//! Why a value cannot be a setting, and what can.
//!
//! Pure; the main thread uses it.

use std::fmt;

/// Why a value cannot be, and what can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The problem with the value; `None` if the text is not of the form at all.
    pub(super) problem: Option<String>,
    /// The problem with a text that is almost of the form.
    reason: Option<&'static str>,
    pub(super) allowed: String,
}

/// Stands in front of each refusal that goes through serde, and of no message of serde's own.
const REFUSED: &str = "refused: ";
/// Stands in front of what is allowed.
const USE: &str = "; use ";
const NOT_POSSIBLE: &str = "is not possible";
pub(super) const TOO_LONG: &str = "more than a year";
pub(super) const TOO_LARGE: &str = "more than this computer can address";

impl Refusal {
    /// The text is not of the form.
    pub(super) fn form(allowed: &str) -> Self {
        Refusal {
            problem: None,
            reason: None,
            allowed: allowed.to_owned(),
        }
    }

    /// The text is of the form, but for this.
    pub(super) fn almost(reason: &'static str, allowed: &str) -> Self {
        Refusal {
            reason: Some(reason),
            ..Refusal::form(allowed)
        }
    }

    /// The value was read and cannot be.
    pub(super) fn value(problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        Refusal {
            problem: Some(problem.into()),
            reason: None,
            allowed: allowed.into(),
        }
    }

    /// The problem in words. `shown` stands for the text.
    pub(super) fn problem(&self, shown: &str) -> String {
        match (&self.problem, self.reason) {
            (Some(problem), _) => problem.clone(),
            (None, None) => format!("{shown} {NOT_POSSIBLE}"),
            (None, Some(reason)) => format!("{shown} {NOT_POSSIBLE}: {reason}"),
        }
    }

    /// The refusal as an error of serde, which keeps texts only.
    pub(super) fn into_serde<E: serde::de::Error>(self) -> E {
        E::custom(format!("{REFUSED}{self}"))
    }

    /// The refusal that became this message of serde; `None` if the message is serde's own, which may
    /// repeat any value.
    pub(super) fn from_serde(message: &str) -> Option<Self> {
        let (problem, allowed) = message.strip_prefix(REFUSED)?.rsplit_once(USE)?;
        Some(match problem.strip_prefix("it is not possible") {
            None => Refusal::value(problem, allowed),
            Some(rest) => Refusal {
                reason: [TOO_LONG, TOO_LARGE]
                    .into_iter()
                    .find(|reason| rest.ends_with(reason)),
                ..Refusal::form(allowed)
            },
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{USE}{}", self.problem("it"), self.allowed)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::values::{Address, Quality, Rule};

    #[test]
    fn a_refusal_comes_through_serde() {
        for refusal in [
            Refusal::form("a form"),
            Refusal::almost(TOO_LONG, "a form"),
            Refusal::almost(TOO_LARGE, "a form"),
            Quality::read("3").unwrap_err(),
            Address::read("https://a").unwrap_err(),
        ] {
            let error: toml::de::Error = refusal.clone().into_serde();
            let message = error.message();
            assert_eq!(Refusal::from_serde(message), Some(refusal), "{message}");
        }
        for message in ["expected a sequence", "found x; use y, expected a sequence"] {
            assert_eq!(Refusal::from_serde(message), None, "{message}");
        }
    }
}
