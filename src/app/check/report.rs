//! The result of the check: a ladder of steps for people, line by line, and one JSON object for programs.
//!
//! No line has more than 100 columns, unless a single word has. A command that is longer is broken as a shell allows.
//! Pure data; the main thread writes it to standard output.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::aws::{ACCOUNT, TELLS_ACCOUNT};
use super::limits::StatedLimits;
use crate::app::lines::Many;

/// The columns of a line.
const COLUMNS: usize = 100;

/// The columns before the detail of a step.
const INDENT: usize = 16;

/// The columns before a cause, behind its number.
const CAUSE_INDENT: usize = 8;

/// The steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CheckStep {
    Files,
    Name,
    Tcp,
    Tls,
    Connect,
    Subscribe,
    Publish,
    Session,
    Disconnect,
    Version5,
    Version311,
}

impl CheckStep {
    /// Those that a check tries until one fails. The versions are told after all of them.
    pub(crate) const ALL: [CheckStep; 9] = [
        CheckStep::Files,
        CheckStep::Name,
        CheckStep::Tcp,
        CheckStep::Tls,
        CheckStep::Connect,
        CheckStep::Subscribe,
        CheckStep::Publish,
        CheckStep::Session,
        CheckStep::Disconnect,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            CheckStep::Files => "files",
            CheckStep::Name => "name",
            CheckStep::Tcp => "TCP",
            CheckStep::Tls => "TLS",
            CheckStep::Connect => "CONNECT",
            CheckStep::Subscribe => "SUBSCRIBE",
            CheckStep::Publish => "PUBLISH",
            CheckStep::Session => "session",
            CheckStep::Disconnect => "DISCONNECT",
            CheckStep::Version5 => "MQTT 5",
            CheckStep::Version311 => "MQTT 3.1.1",
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    Failed,
    /// Not tried, for the reason in the detail.
    Skipped,
}

/// A possible cause of a failure, and what tells or mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cause {
    /// The cause.
    pub(crate) cause: String,
    /// The remedy, in words.
    pub(crate) remedy: String,
    /// A command that tells or mends it.
    pub(crate) command: Option<String>,
}

/// A step that was tried, or passed over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CheckLine {
    /// Its name.
    pub(crate) step: &'static str,
    pub(crate) status: Status,
    /// The observation in words.
    pub(crate) detail: String,
    /// How long it took, in milliseconds.
    pub(crate) ms: Option<f64>,
    /// Facts that are well and worth a look.
    pub(crate) remarks: Vec<String>,
    /// Where it failed: the causes, the likeliest first.
    pub(crate) causes: Vec<Cause>,
    /// Where it failed: the broker's reason code, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_code: Option<u8>,
    /// The limits that the broker states with MQTT 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<StatedLimits>,
}

/// The result of the whole check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CheckReport {
    /// The version of this form.
    pub(crate) schema: u32,
    pub(crate) endpoint: String,
    pub(crate) client_id: String,
    /// Every step that was tried is well.
    pub(crate) success: bool,
    /// The step that failed.
    pub(crate) stopped_at: Option<&'static str>,
    /// Remarks on the settings, and what the check does to others.
    pub(crate) remarks: Vec<String>,
    /// Those that were tried or passed over, in order.
    pub(crate) steps: Vec<CheckLine>,
    /// How long all of it took, in milliseconds.
    pub(crate) elapsed_ms: f64,
    /// The exit status of the program.
    pub(crate) exit_status: u8,
}

impl CheckLine {
    pub(crate) fn new(step: CheckStep, status: Status, detail: impl Into<String>) -> Self {
        CheckLine {
            step: step.name(),
            status,
            detail: detail.into(),
            ms: None,
            remarks: Vec::new(),
            causes: Vec::new(),
            reason_code: None,
            limits: None,
        }
    }

    /// The same line, with how long the step took.
    #[must_use]
    pub(crate) fn within(mut self, time: Option<Duration>) -> Self {
        self.ms = time.map(milliseconds);
        self
    }
}

/// Milliseconds with one digit behind the point.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// A time in milliseconds as the ladder shows it.
pub(super) fn time_text(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// One remark above the ladder.
pub(crate) struct Remark<'a>(pub(crate) &'a str);

impl fmt::Display for Remark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&marked(self.0, 0))
    }
}

/// A remark with its mark, which begins in this column.
fn marked(text: &str, column: usize) -> String {
    format!("{:column$} !!  {}", "", wrapped(text, column + 5))
}

impl fmt::Display for CheckLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.status {
            Status::Ok => " ok",
            Status::Failed => "BAD",
            Status::Skipped => " --",
        };
        let text = wrapped(&self.detail, INDENT);
        let mut line = format!("{mark}  {:<11}{text}", self.step);
        if let Some(ms) = self.ms {
            let time = time_text(ms);
            let last = line.rsplit('\n').next().unwrap_or_default();
            let used = last.chars().count();
            match COLUMNS.checked_sub(used + 2 + time.len()) {
                Some(room) => line = format!("{line}  {}{time}", " ".repeat(room)),
                None => line = format!("{line}\n{time:>COLUMNS$}"),
            }
        }
        f.write_str(&line)?;
        for remark in &self.remarks {
            write!(f, "\n{}", marked(remark, INDENT - 5))?;
        }
        for (number, cause) in (1..).zip(&self.causes) {
            // The line above has said it already.
            let text = match self.detail.contains(&cause.cause) {
                true => cause.remedy.clone(),
                false if cause.remedy.is_empty() => cause.cause.clone(),
                false => format!("{}: {}", cause.cause, cause.remedy),
            };
            write!(f, "\n{number:>6}. {}", wrapped(&text, CAUSE_INDENT))?;
            if let Some(command) = &cause.command {
                write!(f, "\n{:CAUSE_INDENT$}{}", "", command_lines(command))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commands = self.steps.iter().flat_map(|line| &line.causes);
        let mut texts =
            commands.flat_map(|cause| [&cause.remedy].into_iter().chain(&cause.command));
        if texts.any(|text| text.contains(ACCOUNT)) {
            writeln!(f, "{ACCOUNT} is what this prints: {TELLS_ACCOUNT}")?;
        }
        let Some(stopped_at) = self.stopped_at else {
            let tried = self.steps.iter().filter(|line| line.status == Status::Ok);
            let (tried, seconds) = (tried.count(), self.elapsed_ms / 1000.0);
            return write!(f, "ok: {} in {seconds:.1} s", Many(tried as u64, "step"));
        };
        let known = |step: &&CheckStep| self.steps.iter().all(|line| line.step != step.name());
        let left: Vec<_> = CheckStep::ALL
            .iter()
            .filter(known)
            .map(|step| step.name())
            .collect();
        match &left[..] {
            [] => write!(f, "stopped at {stopped_at}"),
            left => f.write_str(&wrapped(
                &format!("stopped at {stopped_at}; not tried: {}", left.join(", ")),
                0,
            )),
        }
    }
}

/// The text in lines that begin in this column, the first of them without the blanks before it.
fn wrapped(text: &str, indent: usize) -> String {
    lines(text, indent, COLUMNS, "")
}

/// A command in lines that a shell reads as one.
fn command_lines(command: &str) -> String {
    lines(command, CAUSE_INDENT, COLUMNS - 2, " \\")
}

fn lines(text: &str, indent: usize, columns: usize, broken: &str) -> String {
    let mut out = String::new();
    let mut used = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if out.is_empty() {
            used += length;
        } else if used + 1 + length > columns {
            out.push_str(broken);
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = indent + length;
        } else {
            out.push(' ');
            used += 1 + length;
        }
        out.push_str(word);
    }
    out
}

/// A report of each field, for tests.
#[cfg(test)]
pub(crate) fn example() -> CheckReport {
    tests::report(vec![tests::failed()], Some("CONNECT"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::json::SCHEMA;

    pub(super) fn failed() -> CheckLine {
        let mut line = CheckLine::new(
            CheckStep::Connect,
            Status::Failed,
            "the broker closed the connection",
        );
        line.ms = Some(48.2);
        let aws = "aws iot describe-certificate --certificate-id 3f9c3f9c3f9c3f9c3f9c3f9c3f9c3f9c3f9c3f9c3f9c3f9c \
                   --query certificateDescription.status --output text --region eu-central-1";
        line.causes = vec![
            Cause {
                cause: "the policy does not allow this client identifier".to_owned(),
                remedy: format!(
                    "allow iot:Connect on arn:aws:iot:eu-central-1:ACCOUNT:client/{}",
                    "x".repeat(30)
                ),
                command: None,
            },
            Cause {
                cause: "the certificate is not active".to_owned(),
                remedy: "see its status".to_owned(),
                command: Some(aws.to_owned()),
            },
        ];
        line
    }

    pub(super) fn report(steps: Vec<CheckLine>, stopped_at: Option<&'static str>) -> CheckReport {
        CheckReport {
            schema: SCHEMA,
            endpoint: "a:1".to_owned(),
            client_id: "me".to_owned(),
            success: stopped_at.is_none(),
            stopped_at,
            remarks: Vec::new(),
            steps,
            elapsed_ms: 312.4,
            exit_status: 0,
        }
    }

    #[test]
    fn no_line_is_longer_than_100_columns_and_commands_stay_commands() {
        let mut line = failed();
        line.detail = "a few words ".repeat(30);
        line.remarks = vec!["the certificate expires soon ".repeat(6)];
        for text in [
            line.to_string(),
            failed().to_string(),
            marked(&"word ".repeat(50), 0),
        ] {
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(COLUMNS), "{longest:?}\n{text}");
        }
        let text = failed().to_string();
        let (_, command) = text.split_once("aws iot describe").unwrap();
        let lines: Vec<&str> = command.lines().collect();
        let (last, before) = lines.split_last().unwrap();
        assert!(
            !before.is_empty() && before.iter().all(|line| line.ends_with(" \\")),
            "{text}"
        );
        assert!(last.ends_with("--region eu-central-1"), "{text}");
    }

    #[test]
    fn the_time_stands_at_the_right_edge() {
        let line = CheckLine::new(CheckStep::Tcp, Status::Ok, "127.0.0.1:8883");
        let line = line.within(Some(Duration::from_micros(21_400))).to_string();
        assert!(
            line.starts_with(" ok  TCP        127.0.0.1:8883 "),
            "{line}"
        );
        assert!(
            line.ends_with(" 21 ms") && line.chars().count() == COLUMNS,
            "{line}"
        );
    }

    #[test]
    fn the_end_says_what_was_not_tried() {
        let text = report(vec![failed()], Some("CONNECT")).to_string();
        assert!(
            text.starts_with("ACCOUNT is what this prints: aws sts"),
            "{text}"
        );
        let end = "stopped at CONNECT; not tried: files, name, TCP, TLS, SUBSCRIBE, PUBLISH, session, DISCONNECT";
        assert!(text.ends_with(end), "{text}");
        let fine = report(vec![CheckLine::new(CheckStep::Tcp, Status::Ok, "")], None);
        assert_eq!(fine.to_string(), "ok: 1 step in 0.3 s");
    }

    #[test]
    fn a_cause_that_the_line_has_said_is_not_said_again() {
        let mut line = failed();
        line.causes.truncate(1);
        line.causes[0].cause = line.detail.clone();
        line.causes[0].remedy = "do this".to_owned();
        assert!(line.to_string().ends_with("\n     1. do this"), "{line}");
    }
}
