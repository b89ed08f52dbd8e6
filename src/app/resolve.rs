//! Sources in, a valid [`Config`] out: one line for each setting.
//!
//! [`resolve`] has the sources laid over each other (`choice.rs`), takes each setting over, and has those
//! checked that concern each other. `remote.rs` has the way to a broker, `will.rs` the last will, and
//! `checks.rs` the sizes of messages. Types have judged each value for itself (`values.rs`).
//!
//! No thread, socket or clock; what comes from the process is in [`Surroundings`], and files are
//! read in `files.rs` alone: settings and passwords, never certificates. The main thread runs it,
//! once, before anything else.

use std::time::Duration;

use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::limits::Limits;
use mqtt_connection_sharing::mqtt::topic::filter_without_share;
use mqtt_connection_sharing::options::{Options, ranges};
use mqtt_connection_sharing::{MessageProperties, Protocol, QoS, SubscribeOptions};

use super::bench::settings::BenchSettings;
use super::check::settings::CheckSettings;
use super::choice::Choice;
use super::chosen::{Chosen, value};
use super::cli::{Cli, Verbosity};
use super::demo::settings::DemoSettings;
use super::lines::Many;
use super::names::Names;
use super::picture::PicturePaths;
use super::pub_sub::form::MessageForm;
use super::pub_sub::settings::{MessageSource, PubSettings, SubSettings};
use super::settings::{Settings, Task};
use super::surroundings::Surroundings;
use super::values::{Format, Given, Rule, ViewMode, wrong};
use super::{checks, remote, will};

/// Everything the program needs to know, valid.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// How to reach the broker. With [`Config::local`] the host, port and security are stand-ins, to
    /// be replaced by the embedded broker's.
    pub(crate) options: Options,
    /// The work to do.
    pub(crate) job: Job,
    /// Form of the result.
    pub(crate) output: Format,
    /// Files to draw the run into.
    pub(crate) pictures: PicturePaths,
    /// Whether there may be a live view.
    pub(crate) view: ViewMode,
    /// How much to log.
    pub(crate) verbosity: Verbosity,
    /// Whether to start an embedded broker and to connect to that.
    pub(crate) local: bool,
    /// Remarks for the log, one line each: settings that were left out of account, and likely slips.
    pub(crate) notices: Vec<String>,
    /// Where the settings that count were given.
    pub(crate) names: Names,
}

/// The work of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    Demo(DemoSettings),
    Bench(BenchSettings),
    Check(CheckSettings),
    Pub(PubSettings),
    Sub(SubSettings),
}

impl Job {
    /// A few words for above a picture.
    pub(crate) fn title(&self) -> String {
        let name = env!("CARGO_PKG_NAME");
        match self {
            Job::Demo(demo) => format!(
                "{name}: {} from two publishers, QoS {}",
                Many(demo.publish_count, "message"),
                demo.qos as u8
            ),
            Job::Check(_) => format!("{name} check"),
            Job::Pub(_) => format!("{name} pub"),
            Job::Sub(_) => format!("{name} sub"),
            Job::Bench(bench) => format!(
                "{name} bench: {} of {} from {}, {}, QoS {}",
                Many(bench.messages, "message"),
                Many(bench.payload_size as u64, "byte"),
                Many(bench.threads as u64, "thread"),
                bench.mode.name(),
                bench.qos as u8
            ),
        }
    }
}

/// Makes a valid configuration of the command line and what surrounds it. Reads the `--config` file
/// and the password files; nothing is connected or started.
///
/// # Errors
/// [`Blame::Configuration`], naming the setting and where it was given.
pub(crate) fn resolve(cli: Cli, surroundings: &Surroundings) -> Result<Config, Error> {
    configure(&Choice::new(cli, surroundings)?, surroundings)
}

/// Makes a valid configuration of settings that are each valid for itself.
pub(super) fn configure(choice: &Choice, surroundings: &Surroundings) -> Result<Config, Error> {
    let Choice {
        task,
        verbosity,
        local,
        chosen,
        settings,
        ..
    } = choice;
    let (task, verbosity, local) = (*task, *verbosity, *local);
    let mut notices = choice.notices.clone();
    let mut names = Names::default();
    for key in chosen.keys() {
        names.insert(&key, chosen.name(&key));
    }
    let given = settings.client_id.as_ref().map(|id| id.value.clone());
    let made_up_id = given.is_none();
    let client_id = given.unwrap_or_else(|| default_client_id(surroundings));
    let mut options = if local {
        Options::new("localhost", client_id)
    } else {
        let remarks = remote::Remarks {
            notices: &mut notices,
            names: &mut names,
        };
        remote::options(chosen, settings, client_id, surroundings, remarks)?
    };
    options.protocol = value(&settings.mqtt)?;
    options.version5.session_expiry = value(&settings.session_expiry)?;
    options.version5.topic_aliases = value(&settings.topic_aliases)?;
    options.last_will = will::last_will(chosen, settings)?;
    options.keep_alive = value(&settings.keep_alive)?;
    options.clean_session = value(&settings.clean_session)?;
    options.on_session_lost = value(&settings.on_session_lost)?;
    options.unmatched_hold = value(&settings.unmatched_hold)?;
    options.max_inflight = value(&settings.max_inflight)?;
    options.max_inflight_qos2 = value(&settings.max_inflight_qos2)?;
    let rate = &mut options.limits.rate;
    rate.publishes = limit(&settings.message_rate, rate.publishes);
    rate.bytes = limit(&settings.byte_rate, rate.bytes);
    options.command_queue = value(&settings.command_queue)?;
    options.ack_timeout = value(&settings.ack_timeout)?;
    options.connect_timeout = value(&settings.connect_timeout)?;
    options.connect_interval = value(&settings.connect_interval)?;
    options.max_packet_size = value(&settings.max_packet_size)?;
    options.on_too_large = value(&settings.on_too_large)?;
    let patience = settings.retry_for.as_ref().map(|given| given.value);
    let retry = &mut options.retry;
    retry.base = value(&settings.retry_base)?;
    retry.max = value(&settings.retry_max)?;
    retry.connect_for = patience.unwrap_or(retry.connect_for);
    retry.reconnect_for = patience.unwrap_or(retry.reconnect_for);
    retry.attempts = value(&settings.retry_attempts)?;
    let job = match task {
        Task::Demo => {
            let demo = demo(chosen, settings, made_up_id)?;
            checks::together(&options, &demo.sent(), &names)?;
            notices.extend(aws_notices(&options));
            notices.extend(rate_notices(&options));
            Job::Demo(demo)
        }
        Task::Bench => {
            let run = (surroundings.run.clone(), made_up_id);
            let bench = bench(chosen, settings, run, &mut options)?;
            checks::together(&options, &bench.sent(), &names)?;
            notices.extend(bench.aws_notice(&options));
            notices.extend(rate_notices(&options));
            notices.extend(bench.memory_notice());
            Job::Bench(bench)
        }
        Task::Check => {
            if chosen.is_default("connect-interval") && options.aws_host().is_none() {
                options.connect_interval = Duration::ZERO;
            }
            let mut check = CheckSettings {
                topic: settings.topic.as_ref().map(|topic| topic.value.clone()),
                qos: value(&settings.qos)?,
                wait: value(&settings.wait)?,
                run: surroundings.run.clone(),
                made_up_id,
                remarks: Vec::new(),
            };
            checks::limits(&options, &check.sent(), &names)?;
            // They stand in its report.
            check.remarks = std::mem::take(&mut notices);
            Job::Check(check)
        }
        Task::Pub => {
            let publish = publish(chosen, settings, made_up_id)?;
            keep_what_others_have(chosen, &mut options, made_up_id);
            // A message that waits for another client with this identifier stays with the broker.
            options.unmatched_hold = *ranges::DURATION.end();
            options.command_queue = usize::from(options.max_inflight);
            checks::limits(&options, &publish.sent(), &names)?;
            notices.extend(aws_notices(&options));
            notices.extend(rate_notices(&options));
            Job::Pub(publish)
        }
        Task::Sub => {
            keep_what_others_have(chosen, &mut options, made_up_id);
            let sub = subscribe(chosen, settings, made_up_id)?;
            checks::subscription(&options, (&sub.filters, sub.qos), &names)?;
            Job::Sub(sub)
        }
    };
    notices.extend(session_notice(task, &options, made_up_id));
    notices.extend(expiry_notice(chosen, &options));
    notices.extend(will_notice(chosen, &options));
    let pictures = pictures(chosen, settings);
    options.recording = match &job {
        Job::Demo(demo) => pictures.recording(demo.publish_count, 3),
        Job::Bench(bench) => pictures.recording(bench.messages, bench.threads as u64),
        Job::Check(_) | Job::Pub(_) | Job::Sub(_) => None,
    };
    Ok(Config {
        options,
        job,
        output: value(&settings.output)?,
        pictures,
        view: value(&settings.view)?,
        verbosity,
        local,
        notices,
        names,
    })
}

/// The files to draw the run into.
fn pictures(chosen: &Chosen, settings: &Settings) -> PicturePaths {
    let timelines = settings.timeline.iter().flatten();
    let trace = settings.trace.as_ref();
    PicturePaths {
        timelines: timelines
            .map(|path| chosen.path("timeline", &path.value))
            .collect(),
        trace: trace.map(|path| chosen.path("trace", &path.value)),
    }
}

/// The settings of the demo.
fn demo(chosen: &Chosen, settings: &Settings, made_up_id: bool) -> Result<DemoSettings, Error> {
    let mut demo = DemoSettings {
        made_up_id,
        iterations: value(&settings.iterations)?,
        publish_count: value(&settings.publish_count)?,
        publish_delay: value(&settings.publish_delay)?,
        iteration_delay: value(&settings.iteration_delay)?,
        payload_size: value(&settings.payload_size)?,
        qos: value(&settings.qos)?,
        topic_prefix: value(&settings.topic_prefix)?,
        inbox: value(&settings.inbox)?,
    };
    if chosen.is_default("inbox") {
        demo.inbox = demo.inbox.max(demo.room_for_qos_0());
    }
    Ok(demo)
}

/// Stands for standard input where a file could be.
pub(super) const STANDARD_INPUT: &str = "-";

/// The settings of pub.
fn publish(chosen: &Chosen, settings: &Settings, made_up_id: bool) -> Result<PubSettings, Error> {
    let Some(topic) = &settings.topic else {
        return Err(wrong(
            "preparing to publish",
            "no topic is given",
            "give --topic TOPIC",
        ));
    };
    let file = settings.file.as_ref();
    let lines = value(&settings.lines)?;
    let messages = match (&settings.message, file) {
        (Some(_), Some(_)) => {
            let (message, file) = (chosen.name("message"), chosen.name("file"));
            return Err(wrong(
                "looking for the message",
                format!("both {message} and {file} are given"),
                "give one of them",
            ));
        }
        (Some(_), None) if lines => {
            let (message, lines) = (chosen.name("message"), chosen.name("lines"));
            return Err(wrong(
                "looking for the messages",
                format!("both {message} and {lines} are given"),
                "leave one of them out: lines are read from --file or from standard input",
            ));
        }
        (Some(message), None) => MessageSource::Text(message.value.clone()),
        (None, file) => MessageSource::Read {
            file: file
                .filter(|file| file.value.as_os_str() != STANDARD_INPUT)
                .map(|file| chosen.path("file", &file.value)),
            lines,
        },
    };
    Ok(PubSettings {
        topic: topic.value.clone(),
        qos: value(&settings.qos)?,
        retain: value(&settings.retain)?,
        properties: properties(settings),
        messages,
        threads: value(&settings.threads)?,
        made_up_id,
    })
}

/// The additions of MQTT 5 to each message of pub.
fn properties(settings: &Settings) -> MessageProperties {
    let pairs = settings.user_property.iter().flatten();
    // The range of durations is far below.
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    MessageProperties {
        expiry: settings
            .message_expiry
            .as_ref()
            .map(|expiry| seconds(expiry.value)),
        content_type: settings.content_type.as_ref().map(|it| it.value.clone()),
        response_topic: settings.response_topic.as_ref().map(|it| it.value.clone()),
        user_properties: pairs.map(|pair| pair.value.clone()).collect(),
        ..MessageProperties::default()
    }
}

/// The settings of sub.
fn subscribe(chosen: &Chosen, settings: &Settings, made_up_id: bool) -> Result<SubSettings, Error> {
    let filters = settings.filter.iter().flatten();
    let filters: Vec<String> = filters.map(|filter| filter.value.clone()).collect();
    if filters.is_empty() {
        return Err(wrong(
            "preparing to subscribe",
            "no filter is given",
            "write one behind the word sub, in quotation marks where it has # or +",
        ));
    }
    let (output, format) = (chosen.name("output"), chosen.name("format"));
    let form = match (value(&settings.output)?, value(&settings.format)?) {
        (Format::Text, form) => form,
        (Format::Jsonl, form) => {
            let other = match form {
                MessageForm::Raw => Some("raw"),
                MessageForm::Text if !chosen.is_default("format") => Some("text"),
                MessageForm::Text | MessageForm::Jsonl => None,
            };
            if let Some(other) = other {
                return Err(wrong(
                    "choosing the form of messages",
                    format!("{output} says jsonl, {format} says {other}"),
                    "leave one of them out",
                ));
            }
            MessageForm::Jsonl
        }
        (Format::Json, _) => {
            return Err(wrong(
                "choosing the form of messages",
                format!("{output} says json, which is one object at the end"),
                "use jsonl, an object for each message and each event",
            ));
        }
    };
    let no_local = value(&settings.no_local)?;
    let is_shared = |filter: &&String| filter_without_share(filter) != filter.as_str();
    if let Some(shared) = filters.iter().find(is_shared).filter(|_| no_local) {
        let name = chosen.name("no-local");
        return Err(wrong(
            "preparing to subscribe",
            format!(
                "{name} is not possible with the shared subscription {shared:?} [MQTT-3.8.3-4]"
            ),
            format!("leave {name} out, or subscribe without $share"),
        ));
    }
    Ok(SubSettings {
        filters,
        qos: value(&settings.qos)?,
        options: SubscribeOptions {
            no_local,
            retain_as_published: value(&settings.retain_as_published)?,
            retain_handling: value(&settings.retain_handling)?,
            ..SubscribeOptions::default()
        },
        count: value(&settings.count)?,
        within: value(&settings.within)?,
        form,
        made_up_id,
    })
}

/// A session is a clean one where nobody could come back to it. One with a name of its own is resumed, and stays.
fn keep_what_others_have(chosen: &Chosen, options: &mut Options, made_up_id: bool) {
    if chosen.is_default("clean-session") {
        options.clean_session = made_up_id;
    }
    // Threads wait as long as the loop tries to connect.
    options.block_time = *ranges::DURATION.end();
}

/// The settings of the bench. The library's options change with them.
fn bench(
    chosen: &Chosen,
    settings: &Settings,
    (run, made_up_id): (String, bool),
    options: &mut Options,
) -> Result<BenchSettings, Error> {
    let qos = value(&settings.qos)?;
    let window = value(&settings.window)?;
    let bench = BenchSettings {
        mode: value(&settings.mode)?,
        threads: value(&settings.threads)?,
        messages: value(&settings.messages)?,
        payload_size: value(&settings.payload_size)?,
        window: match qos {
            QoS::ExactlyOnce => window.min(options.max_inflight_qos2),
            _ => window,
        },
        qos,
        topic_prefix: value(&settings.topic_prefix)?,
        receive: value(&settings.receive)?,
        run,
        made_up_id,
    };
    options.max_inflight = bench.window;
    options.command_queue = bench.command_queue();
    if chosen.is_default("max-packet-size") {
        options.max_packet_size = options.max_packet_size.max(bench.largest_packet());
    }
    Ok(bench)
}

/// A limit that the broker sets if nothing else does.
fn limit<R: Rule>(given: &Option<Given<R>>, of_broker: R::Value) -> R::Value {
    let given = given.as_ref().map(|given| given.value.clone());
    given.unwrap_or(of_broker)
}

/// A program that does not know the session of its identifier ends it [MQTT-3.2.2-4], whereas sub and pub resume that of
/// MQTT 3.1.1. The check says so in its report.
fn session_notice(task: Task, options: &Options, made_up_id: bool) -> Option<String> {
    let is_ended = options.protocol == Protocol::V5 && !options.clean_session && !made_up_id;
    let lost = match task {
        Task::Sub => "messages that come between two runs are lost".to_owned(),
        Task::Pub => format!(
            "what the broker has kept for {:?} is lost, subscriptions and messages",
            options.client_id
        ),
        Task::Demo | Task::Bench | Task::Check => return None,
    };
    is_ended.then(|| {
        format!(
            "MQTT 5 begins a new session with each program, so that {lost}; --mqtt 3.1.1 resumes it"
        )
    })
}

/// CONNECT of a clean session has no session expiry.
fn expiry_notice(chosen: &Chosen, options: &Options) -> Option<String> {
    let is_given =
        !chosen.is_default("session-expiry") && !options.version5.session_expiry.is_zero();
    (is_given && options.clean_session).then(|| {
        format!(
            "{} is not used: a clean session ends with its connection, and --clean-session=false asks for another one",
            chosen.name("session-expiry")
        )
    })
}

/// A will leaves after its delay or with the end of the session, whichever is first [MQTT 5, 3.1.3.2.2].
fn will_notice(chosen: &Chosen, options: &Options) -> Option<String> {
    let delay = options.last_will.as_ref()?.properties.delay;
    let (end, remedy) = match options.clean_session {
        true => (
            Duration::ZERO,
            "a clean session ends with its connection, and --clean-session=false asks for another one",
        ),
        false => (options.version5.session_expiry, "raise --session-expiry"),
    };
    (Duration::from_secs(delay.into()) > end).then(|| {
        format!(
            "{} is longer than the session lasts, and the will leaves with its end: {remedy}",
            chosen.name("will-delay")
        )
    })
}

/// A pace that AWS IoT answers with silence, or by closing the connection without a reason.
fn aws_notices(options: &Options) -> Vec<String> {
    let remarks = [
        (
            options.max_inflight > 100 && options.protocol == Protocol::V3_1_1,
            "AWS IoT takes 100 publishes in flight on one connection and does not acknowledge what \
             exceeds that: lower --max-inflight",
        ),
        (
            options.connect_interval < Duration::from_secs(1),
            "AWS IoT takes one CONNECT a second for each client identifier: give \
             --connect-interval 1s or more",
        ),
    ];
    remarks_of_aws(options, remarks)
}

/// A rate that AWS IoT answers with silence.
fn rate_notices(options: &Options) -> Vec<String> {
    let (rate, of_aws) = (&options.limits.rate, Limits::aws_iot().rate);
    let remarks = [
        (
            rate.publishes
                .is_none_or(|rate| Some(rate) > of_aws.publishes),
            "AWS IoT takes 100 publishes a second on one connection and does not acknowledge what \
             exceeds that: lower --message-rate, or leave it out",
        ),
        (
            rate.bytes.is_none_or(|rate| Some(rate) > of_aws.bytes),
            "AWS IoT takes 512 KiB a second on one connection: lower --byte-rate, or leave it out",
        ),
    ];
    remarks_of_aws(options, remarks)
}

/// The remarks that hold, where the broker is AWS IoT.
fn remarks_of_aws(options: &Options, remarks: [(bool, &str); 2]) -> Vec<String> {
    let holds = |(holds, _): &(bool, &str)| *holds && options.is_aws_iot();
    let remarks = remarks.into_iter().filter(holds);
    remarks.map(|(_, remark)| remark.to_owned()).collect()
}

/// The client identifier where none is given: `mqtt-connection-sharing-<host>-<run>`, at most 100 bytes.
///
/// A broker drops the older of two connections with one identifier, so two programs must not share
/// it by accident, on one computer or on two. The persistent session that belongs to it must outlive
/// a link but not the program, which clears it at its end: a random word for each run is the right scope.
/// An identifier that is to stay the same from run to run is given with `--client-id`.
pub(super) fn default_client_id(surroundings: &Surroundings) -> String {
    let host: String = surroundings
        .host_name
        .as_deref()
        .unwrap_or_default()
        .trim()
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .take(63)
        .collect();
    let run = &surroundings.run;
    match host.as_str() {
        "" => format!("mqtt-connection-sharing-{run}"),
        host => format!("mqtt-connection-sharing-{host}-{run}"),
    }
}
