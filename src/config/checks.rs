//! Which values are possible: each on its own, and together.
//!
//! Complements [`Options::check`], which knows the library's part. Pure; the main thread uses it.

use std::path::Path;

use super::{DemoSettings, LARGEST_QUEUE, TEXT_ROOM, endpoint, value, wrong};
use crate::cli::Settings;
use crate::error::Error;
use crate::options::Options;
use crate::packet::{MAX_REMAINING_LENGTH, QoS, check_string, check_topic};

/// Limits of AWS IoT Core.
mod aws {
    pub(super) const KEEP_ALIVE_SECONDS: std::ops::RangeInclusive<u64> = 30..=1200;
    pub(super) const CLIENT_ID_BYTES: usize = 128;
    pub(super) const PAYLOAD_BYTES: usize = 128 * 1024;
    pub(super) const TOPIC_BYTES: usize = 256;
    pub(super) const TOPIC_SLASHES: usize = 7;
}

/// A fixed header at its longest: one byte, and four that state the length.
const FIXED_HEADER: usize = 5;

/// A value that is wrong whatever the others are.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) key: &'static str,
    pub(super) problem: String,
    pub(super) allowed: String,
}

fn flaw(key: &'static str, problem: impl Into<String>, allowed: impl Into<String>) -> Flaw {
    Flaw {
        key,
        problem: problem.into(),
        allowed: allowed.into(),
    }
}

/// Checks each value on its own.
pub(super) fn values(settings: &Settings) -> Result<(), Flaw> {
    connection_values(settings)?;
    demo_values(settings)?;
    tuning_values(settings)
}

fn connection_values(settings: &Settings) -> Result<(), Flaw> {
    if let Some(text) = &settings.endpoint {
        endpoint::parse(text).map_err(|problem| {
            flaw(
                "endpoint",
                problem,
                "for example broker.example:8883 or mqtts://broker.example",
            )
        })?;
    }
    if settings.port == Some(0) {
        return Err(flaw("port", "0 is not a port", "1 to 65535"));
    }
    if let Some(Err(problem)) = settings.client_id.as_deref().map(check_string) {
        return Err(flaw("client-id", problem.to_string(), "another one"));
    }
    if let Some(name) = &settings.username {
        if name.is_empty() {
            return Err(flaw("username", "it is empty", "a name, or leave it out"));
        }
        if let Err(problem) = check_string(name) {
            return Err(flaw("username", problem.to_string(), "another one"));
        }
    }
    for (key, path) in [
        ("cert", &settings.cert),
        ("key", &settings.key),
        ("ca-file", &settings.ca_file),
        ("pkcs12", &settings.pkcs12),
        ("pkcs12-password-file", &settings.pkcs12_password_file),
        ("password-file", &settings.password_file),
        ("will-payload-file", &settings.will_payload_file),
    ] {
        if path.as_deref() == Some(Path::new("")) {
            return Err(flaw(key, "it is empty", "the path of a file"));
        }
    }
    if let Some(topic) = &settings.will_topic
        && let Err(problem) = check_topic(topic)
    {
        let problem = format!("{topic:?}: {problem}");
        return Err(flaw("will-topic", problem, "a topic such as status/me"));
    }
    quality("will-qos", settings.will_qos)?;
    if settings.tls_server_name.as_deref() == Some("") {
        let advice = "the name in the broker's certificate, or leave it out";
        return Err(flaw("tls-server-name", "it is empty", advice));
    }
    let names = settings.alpn.iter().flatten();
    if let Some(name) = names.into_iter().find(|n| !(1..=255).contains(&n.len())) {
        let problem = format!("a name has {} bytes", name.len());
        return Err(flaw(
            "alpn",
            problem,
            "names of 1 to 255 bytes [RFC 7301, 3.1]",
        ));
    }
    Ok(())
}

/// Messages in one iteration: two bits of memory for each.
const MOST_MESSAGES: u64 = 1_000_000_000;
const MESSAGES: &str = "1 to 1000000000";

fn demo_values(settings: &Settings) -> Result<(), Flaw> {
    if settings.publish_count == Some(0) {
        let problem = "0 leaves nothing to do";
        return Err(flaw("publish-count", problem, MESSAGES));
    }
    if settings
        .publish_count
        .is_some_and(|count| count > MOST_MESSAGES)
    {
        let problem = "what was received could not be kept in memory";
        return Err(flaw("publish-count", problem, MESSAGES));
    }
    quality("qos", settings.qos)?;
    if let Some(prefix) = &settings.topic_prefix {
        let wrong = |problem: String| {
            let allowed = "one or more levels such as filter or team/demo";
            Err(flaw(
                "topic-prefix",
                format!("{prefix:?}: {problem}"),
                allowed,
            ))
        };
        if let Err(problem) = check_topic(prefix) {
            return wrong(problem.to_string());
        }
        if prefix.starts_with('$') {
            return wrong("topics that begin with $ belong to the broker [MQTT 4.7.2]".into());
        }
        if prefix.ends_with('/') {
            return wrong("the slash at its end would make an empty level".into());
        }
    }
    Ok(())
}

fn quality(key: &'static str, level: Option<u8>) -> Result<(), Flaw> {
    match level.map(QoS::try_from) {
        Some(Err(level)) => {
            let problem = format!("{level} is not a quality of service");
            Err(flaw(key, problem, "0, 1 or 2"))
        }
        _ => Ok(()),
    }
}

fn tuning_values(settings: &Settings) -> Result<(), Flaw> {
    if let Some(span) = settings.keep_alive
        && (span.0.subsec_nanos() != 0 || span.0.as_secs() > u64::from(u16::MAX))
    {
        let problem = format!("{span} is not a whole number of seconds up to 65535");
        return Err(flaw("keep-alive", problem, "for example 60s, or 0"));
    }
    if settings.max_inflight == Some(0) {
        return Err(flaw("max-inflight", "0 lets nothing out", "1 to 65535"));
    }
    for (key, queue) in [
        ("command-queue", settings.command_queue),
        ("response-queue", settings.response_queue),
    ] {
        if let Some(size) = queue.filter(|size| !(1..=LARGEST_QUEUE).contains(size)) {
            let problem = format!("{size} is not possible");
            return Err(flaw(key, problem, format!("1 to {LARGEST_QUEUE}")));
        }
    }
    for (key, span) in [
        ("ack-timeout", settings.ack_timeout),
        ("connect-timeout", settings.connect_timeout),
    ] {
        if span.is_some_and(|span| span.0.is_zero()) {
            let problem = "with 0 nothing could ever succeed";
            return Err(flaw(
                key,
                problem,
                value::DURATION_FORM.replace(", or 0", ""),
            ));
        }
    }
    if let Some(size) = settings.max_packet_size {
        if size.0 < 128 {
            let problem = format!("{size} leaves no room for a message");
            return Err(flaw("max-packet-size", problem, "at least 128"));
        }
        if size.0 > MAX_REMAINING_LENGTH + FIXED_HEADER {
            let problem = format!("{size} is more than a packet can have [MQTT 3.1.1, 2.2.3]");
            return Err(flaw("max-packet-size", problem, "at most 256MiB"));
        }
    }
    Ok(())
}

/// Checks what the demo will send against the packet size and, on AWS IoT, against its limits.
pub(super) fn together(options: &Options, demo: &DemoSettings) -> Result<(), Error> {
    options.check()?;
    let topic = longest_topic(demo);
    check_topic(&topic).map_err(|problem| {
        wrong(
            "checking --topic-prefix",
            format!("the topic below it is not possible: {problem}"),
            "shorten it",
        )
    })?;
    let payload = demo.payload_size.max(TEXT_ROOM);
    let packet = (FIXED_HEADER + 2 + topic.len() + 2).saturating_add(payload);
    if packet > options.max_packet_size {
        return Err(wrong(
            "checking --payload-size",
            format!(
                "messages would take {packet} bytes, --max-packet-size allows {}, \
                 and the program receives its own messages",
                options.max_packet_size
            ),
            "lower --payload-size or raise --max-packet-size",
        ));
    }
    if options.is_aws_iot() {
        aws_iot(options, demo, &topic)?;
    }
    Ok(())
}

fn aws_iot(options: &Options, demo: &DemoSettings, topic: &str) -> Result<(), Error> {
    let refuse = |flag: &str, problem: String, advice: &str| {
        Err(wrong(
            format!("checking --{flag} against the limits of AWS IoT"),
            problem,
            advice,
        ))
    };
    if demo.qos == QoS::ExactlyOnce {
        return refuse(
            "qos",
            "AWS IoT does not answer to quality of service 2".into(),
            "use 0 or 1",
        );
    }
    let will_qos = options.last_will.as_ref().map(|will| will.qos);
    if will_qos == Some(QoS::ExactlyOnce) {
        return refuse(
            "will-qos",
            "AWS IoT does not answer to quality of service 2".into(),
            "use 0 or 1",
        );
    }
    let keep_alive = options.keep_alive.as_secs();
    if keep_alive != 0 && !aws::KEEP_ALIVE_SECONDS.contains(&keep_alive) {
        return refuse(
            "keep-alive",
            format!("{keep_alive}s is outside of what it keeps to"),
            "use 30s to 1200s, or 0",
        );
    }
    if options.client_id.len() > aws::CLIENT_ID_BYTES {
        return refuse(
            "client-id",
            format!(
                "it has {} bytes, {} are possible",
                options.client_id.len(),
                aws::CLIENT_ID_BYTES
            ),
            "shorten it",
        );
    }
    if demo.payload_size > aws::PAYLOAD_BYTES {
        return refuse(
            "payload-size",
            format!("{} bytes are more than its 128KiB", demo.payload_size),
            "use at most 128KiB",
        );
    }
    let slashes = topic.matches('/').count();
    if slashes > aws::TOPIC_SLASHES {
        return refuse(
            "topic-prefix",
            format!("topics would have {slashes} slashes, 7 are possible"),
            "use fewer levels",
        );
    }
    if topic.len() > aws::TOPIC_BYTES {
        return refuse(
            "topic-prefix",
            format!("topics would have {} bytes, 256 are possible", topic.len()),
            "shorten it",
        );
    }
    Ok(())
}

/// The longest topic that the demo publishes to.
fn longest_topic(demo: &DemoSettings) -> String {
    format!("{}/async/{}", demo.topic_prefix, demo.publish_count)
}
