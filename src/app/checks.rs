//! Checks that messages and subscriptions fit: the broker's limits, and the largest packet.
//!
//! Complements [`Options::check`], which knows the library's part. Pure; the main thread uses it.

use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::limits::{LimitExceeded, Limits};
use mqtt_connection_sharing::mqtt::packet::MAX_REMAINING_LENGTH;
use mqtt_connection_sharing::mqtt::topic::check_topic;
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Protocol, QoS, Will};

use super::names::Names;
use super::values::wrong;

/// A fixed header at its longest: one byte, and four that state the length.
const FIXED_HEADER: usize = 5;

/// The largest message that will be sent.
pub(crate) struct Sent {
    pub(crate) topic: String,
    /// The settings that its topic and its payload follow from.
    pub(crate) named: (&'static str, &'static str),
    pub(crate) payload_size: usize,
    pub(crate) qos: QoS,
    /// Its expiry in seconds, if it has one.
    pub(crate) expiry: Option<u32>,
    /// Whether the program also receives it.
    pub(crate) comes_back: bool,
}

/// Checks the messages against the limits of the broker and against the packet size.
pub(crate) fn together(options: &Options, sent: &Sent, names: &Names) -> Result<(), Error> {
    limits(options, sent, names)?;
    options.check()?;
    let topic = &sent.topic;
    let checking = |key: &str| format!("checking {}", names.name(key));
    check_topic(topic).map_err(|problem| {
        wrong(
            checking("topic-prefix"),
            format!("the topic below it is not possible: {problem}"),
            "shorten it",
        )
    })?;
    let packet = (FIXED_HEADER + 2 + topic.len() + 2).saturating_add(sent.payload_size);
    if packet > MAX_REMAINING_LENGTH {
        return Err(wrong(
            checking("payload-size"),
            format!(
                "messages would take {packet} bytes, more than a packet can have [MQTT 3.1.1, 2.2.3]"
            ),
            "lower it",
        ));
    }
    if sent.comes_back && packet > options.max_packet_size {
        let (payload_size, max_packet_size) =
            (names.name("payload-size"), names.name("max-packet-size"));
        return Err(wrong(
            checking("payload-size"),
            format!(
                "messages would take {packet} bytes, {max_packet_size} allows {}, \
                 and the program receives its own messages",
                options.max_packet_size
            ),
            format!("lower {payload_size} or raise {max_packet_size}"),
        ));
    }
    Ok(())
}

/// Checks the broker's limits for what a message needs, and names the setting.
pub(crate) fn limits(options: &Options, sent: &Sent, names: &Names) -> Result<(), Error> {
    of_connection(options, names)?;
    let (topic_key, payload_key) = sent.named;
    let limits = &options.limits;
    each(
        limits,
        names,
        [
            (
                "message-expiry",
                limits.check_message_expiry(sent.expiry),
                "change it",
            ),
            ("qos", limits.check_qos(sent.qos), "use 0 or 1"),
            (
                payload_key,
                limits.check_payload(sent.payload_size),
                "lower it",
            ),
            (
                topic_key,
                limits.check_topic(&sent.topic),
                "shorten it, or use fewer levels",
            ),
        ],
    )
}

/// Checks the broker's limits for what a subscription needs, and names the setting.
pub(crate) fn subscription(
    options: &Options,
    (filters, qos): (&[String], QoS),
    names: &Names,
) -> Result<(), Error> {
    of_connection(options, names)?;
    let limits = &options.limits;
    each(
        limits,
        names,
        [
            ("qos", limits.check_qos(qos), "use 0 or 1"),
            (
                "filter",
                limits.check_subscriptions(filters.len()),
                "give fewer",
            ),
        ],
    )?;
    for filter in filters {
        limits.check_filter_name(filter).map_err(|exceeded| {
            let problem = format!("{filter:?}: {exceeded}");
            wrong(
                against(limits, names, "filter"),
                problem,
                "shorten it, or use fewer levels",
            )
        })?;
    }
    Ok(())
}

/// Checks the broker's limits for the connection.
fn of_connection(options: &Options, names: &Names) -> Result<(), Error> {
    let limits = &options.limits;
    let will = options.last_will.as_ref();
    let will = |check: &dyn Fn(&Will) -> _| will.map_or(Ok(()), check);
    let version5 = (options.protocol == Protocol::V5).then_some(&options.version5);
    let session_expiry = version5.filter(|_| !options.clean_session);
    each(
        limits,
        names,
        [
            (
                "session-expiry",
                session_expiry.map_or(Ok(()), |asked| {
                    limits.check_session_expiry(asked.session_expiry)
                }),
                "lower it",
            ),
            (
                "topic-aliases",
                version5.map_or(Ok(()), |asked| {
                    limits.check_topic_aliases(asked.topic_aliases)
                }),
                "lower it",
            ),
            (
                "will-delay",
                will(&|will| limits.check_will_delay(will.properties.delay)),
                "leave it out",
            ),
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
        ],
    )
}

/// Names the first setting that exceeds a limit, with what to do.
fn each<'a>(
    limits: &Limits,
    names: &Names,
    checks: impl IntoIterator<Item = (&'a str, Result<(), LimitExceeded>, &'a str)>,
) -> Result<(), Error> {
    for (key, checked, advice) in checks {
        checked.map_err(|exceeded| {
            let problem = match key {
                "topic-prefix" => format!("of the longest topic below it: {exceeded}"),
                _ => exceeded.to_string(),
            };
            wrong(against(limits, names, key), problem, advice)
        })?;
    }
    Ok(())
}

/// The words for holding a setting against a limit.
fn against(limits: &Limits, names: &Names, key: &str) -> String {
    format!(
        "checking {} against the limits of {}",
        names.name(key),
        limits.of
    )
}
