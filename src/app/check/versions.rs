//! The versions of MQTT that the broker speaks, and the limits that it states with MQTT 5.
//!
//! One version is known from the steps before. For the other one the connection that clears the check's own session
//! speaks it: so a check costs no connection more than without this. The main thread runs the loop, and a thread of its
//! own waits for the broker's answer.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, ConnAck5, ConnectionState, EventKind, Protocol};

use super::limits::StatedLimits;
use super::report::{CheckLine, CheckStep, Status};
use crate::app::demo::Interrupt;
use crate::app::names::as_given;

/// The step of a version.
fn step(version: Protocol) -> CheckStep {
    match version {
        Protocol::V5 => CheckStep::Version5,
        _ => CheckStep::Version311,
    }
}

/// The line of the version that the steps before have spoken.
pub(super) fn spoken(version: Protocol, connack: Option<&ConnAck5>) -> CheckLine {
    match connack {
        Some(connack) => of_connack(connack),
        None => CheckLine::new(step(version), Status::Ok, "spoken by the steps above"),
    }
}

/// The line of a CONNACK of MQTT 5.
fn of_connack(connack: &ConnAck5) -> CheckLine {
    let limits = StatedLimits::of(connack);
    let mut line = CheckLine::new(CheckStep::Version5, Status::Ok, limits.told());
    if !limits.aws_iot_differs.is_empty() {
        let differences = limits.aws_iot_differs.join(", ");
        line.remarks
            .push(format!("AWS IoT has here: {differences}"));
    }
    line.limits = Some(limits);
    line
}

/// The line of the other version where nothing was tried, for this reason.
pub(super) fn not_tried(version: Protocol, reason: &str) -> CheckLine {
    CheckLine::new(
        step(version),
        Status::Skipped,
        format!("not tried: {reason}"),
    )
}

/// The version that the steps have not spoken.
pub(super) fn other(version: Protocol) -> Protocol {
    match version {
        Protocol::V5 => Protocol::V3_1_1,
        _ => Protocol::V5,
    }
}

/// Connects once with this version, which ends the session of the check, and leaves. Returns the line of it, and whether
/// the broker has accepted the connection. A broker that does not speak a version is no fault.
///
/// # Errors
/// When the system has no thread left.
pub(super) fn try_other(
    options: &Options,
    version: Protocol,
    not_before: Instant,
    interrupt: &Interrupt,
) -> Result<(CheckLine, bool), Error> {
    interrupt.wait(not_before.saturating_duration_since(Instant::now()));
    let mut options = options.clone();
    options.protocol = version;
    options.clean_session = true;
    options.last_will = None;
    options.retry.connect_for = Duration::from_millis(1);
    let began = Instant::now();
    let (agent, handle) = Client::new(options)?.open();
    interrupt.watch(handle.clone(), Duration::ZERO);
    let mut events = handle.events();
    let waits = thread::Builder::new()
        .name("version".to_owned())
        .spawn(move || {
            let reached = handle.wait_for_connection(Duration::MAX, ConnectionState::is_online);
            let took = began.elapsed();
            drop(handle.disconnect());
            drop(handle.terminate(Duration::ZERO));
            reached.ok().map(|state| (state, took))
        });
    let waits = waits.map_err(super::connected::no_thread)?;
    let ended = agent.run();
    interrupt.loop_ended(&ended);
    let reached = waits.join().ok().flatten();
    Ok(match (reached, ended.result) {
        (Some((ConnectionState::Online { negotiated, .. }, took)), _) => {
            let negotiated: Option<Arc<ConnAck5>> = negotiated;
            let line = match negotiated {
                Some(connack) => of_connack(&connack),
                None => CheckLine::new(step(version), Status::Ok, "spoken as well"),
            };
            (line.within(Some(took)), true)
        }
        (_, Err(ended)) => {
            let mut error = ended;
            while let Ok(event) = events.try_recv() {
                if let EventKind::AttemptFailed { error: attempt } = &event.kind {
                    error = attempt.clone();
                }
            }
            // More is not known where the broker gave no answer.
            let what = match error.blame() {
                Blame::Refused => "not spoken",
                _ => "no answer",
            };
            let told = format!("{what}: {}", as_given(error.problem()));
            let mut line = CheckLine::new(step(version), Status::Skipped, told);
            line.reason_code = error.reason_code();
            (line, false)
        }
        (_, Ok(())) => (not_tried(version, "interrupted"), false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_connection_sharing::QoS;

    #[test]
    fn limits_and_what_aws_iot_has_in_their_place_are_told() {
        let line = of_connack(&ConnAck5::default());
        assert_eq!(
            line.detail,
            "65535 in flight, QoS up to 2, packets of any size, no topic aliases"
        );
        assert_eq!(
            line.remarks,
            [
                "AWS IoT has here: 100 in flight, QoS up to 1, payloads up to 131072 bytes, 8 topic aliases, \
                 no subscription identifiers"
            ]
        );
        let as_aws = ConnAck5 {
            receive_maximum: 100,
            maximum_qos: QoS::AtLeastOnce,
            topic_alias_maximum: 8,
            identifiers_available: false,
            maximum_packet_size: Some(149_504),
            server_keep_alive: Some(1200),
            session_expiry: Some(604_800),
            ..ConnAck5::default()
        };
        let line = of_connack(&as_aws);
        assert_eq!(
            line.detail,
            "100 in flight, QoS up to 1, packets up to 149504 bytes, 8 topic aliases, no subscription identifiers, \
             keep alive 1200 s, sessions kept for 604800 s"
        );
        assert_eq!(line.remarks, [""; 0]);
    }
}
