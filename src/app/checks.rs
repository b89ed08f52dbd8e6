//! Which values are possible: each on its own, and together.
//!
//! Complements [`Options::check`], which knows the library's part. Pure; the main thread uses it.

use std::path::Path;

use super::resolve::{DemoSettings, LARGEST_QUEUE, TEXT_ROOM, wrong};
use super::{endpoint, values as value};
use crate::app::settings::Settings;
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::mqtt::packet::MAX_REMAINING_LENGTH;
use mqtt_connection_sharing::mqtt::topic::{check_string, check_topic, shortened};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{QoS, Will};

/// A fixed header at its longest: one byte, and four that state the length.
const FIXED_HEADER: usize = 5;

/// Characters of a topic that an error shows.
const SHOWN_CHARACTERS: usize = 100;

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
    bench_values(settings)?;
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
        let problem = format!("{}: {problem}", shortened(topic, SHOWN_CHARACTERS));
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
                format!("{}: {problem}", shortened(prefix, SHOWN_CHARACTERS)),
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

/// Threads beyond this are more than a system gives to one program.
const MOST_THREADS: usize = 10_000;

fn bench_values(settings: &Settings) -> Result<(), Flaw> {
    if let Some(threads) = settings.threads
        && !(1..=MOST_THREADS).contains(&threads)
    {
        let problem = format!("{threads} is not possible");
        return Err(flaw("threads", problem, format!("1 to {MOST_THREADS}")));
    }
    if let Some(messages) = settings.messages
        && !(1..=MOST_MESSAGES).contains(&messages)
    {
        let problem = format!("{messages} is not possible");
        return Err(flaw("messages", problem, MESSAGES));
    }
    if settings.window == Some(0) {
        return Err(flaw("window", "0 lets nothing out", "1 to 65535"));
    }
    Ok(())
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

/// What will be sent, at its largest.
pub(super) struct Sent {
    pub(super) topic: String,
    pub(super) payload_size: usize,
    pub(super) qos: QoS,
    /// Whether the program also receives it.
    pub(super) comes_back: bool,
}

impl Sent {
    pub(super) fn by_demo(demo: &DemoSettings) -> Self {
        Sent {
            topic: longest_topic(demo),
            payload_size: demo.payload_size.max(TEXT_ROOM),
            qos: demo.qos,
            comes_back: true,
        }
    }
}

/// Checks what will be sent against the limits of the broker and against the packet size.
pub(super) fn together(options: &Options, sent: &Sent) -> Result<(), Error> {
    limits(options, sent)?;
    options.check()?;
    let topic = &sent.topic;
    check_topic(topic).map_err(|problem| {
        wrong(
            "checking --topic-prefix",
            format!("the topic below it is not possible: {problem}"),
            "shorten it",
        )
    })?;
    let packet = (FIXED_HEADER + 2 + topic.len() + 2).saturating_add(sent.payload_size);
    if packet > MAX_REMAINING_LENGTH {
        return Err(wrong(
            "checking --payload-size",
            format!(
                "messages would take {packet} bytes, more than a packet can have [MQTT 3.1.1, 2.2.3]"
            ),
            "lower it",
        ));
    }
    if sent.comes_back && packet > options.max_packet_size {
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
    Ok(())
}

/// Checks what has to do with the broker's limits, and names the flag.
fn limits(options: &Options, sent: &Sent) -> Result<(), Error> {
    let topic = &sent.topic;
    let limits = &options.limits;
    let will = options.last_will.as_ref();
    let will = |check: &dyn Fn(&Will) -> _| will.map_or(Ok(()), check);
    for (flag, checked, advice) in [
        ("qos", limits.check_qos(sent.qos), "use 0 or 1"),
        (
            "will-qos",
            will(&|will| limits.check_qos(will.qos)),
            "use 0 or 1",
        ),
        (
            "will-topic",
            will(&|will| limits.check_topic(&will.topic)),
            "choose another one",
        ),
        (
            "will-payload-file",
            will(&|will| limits.check_will(will)),
            "choose a smaller one",
        ),
        (
            "keep-alive",
            limits.check_keep_alive(options.keep_alive),
            "change it",
        ),
        (
            "client-id",
            limits.check_client_id(&options.client_id),
            "shorten it",
        ),
        (
            "payload-size",
            limits.check_payload(sent.payload_size),
            "lower it",
        ),
        (
            "topic-prefix",
            limits.check_topic(topic),
            "shorten it, or use fewer levels",
        ),
    ] {
        checked.map_err(|exceeded| {
            let problem = match flag {
                "topic-prefix" => format!("of the longest topic below it: {exceeded}"),
                _ => exceeded.to_string(),
            };
            let tried = format!("checking --{flag} against the limits of {}", limits.of);
            wrong(tried, problem, advice)
        })?;
    }
    Ok(())
}

/// The longest topic that the demo publishes to.
fn longest_topic(demo: &DemoSettings) -> String {
    format!("{}/async/{}", demo.topic_prefix, demo.publish_count)
}
