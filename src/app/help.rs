//! The help of all commands: examples, exit status, and the default of each flag.
//!
//! Texts only; the help of a flag stands at its field, in `settings.rs`, and defaults come from `config/demo.toml`. Runs
//! on the main thread, once.

use clap::builder::OsStringValueParser;
use clap::{Arg, CommandFactory};
use toml::Table;

use super::cli::Cli;
use super::settings::{BENCH, CHECK, DEMO, PUB, SUB, Task};
use super::sources::defaults;
use super::verbs::Verb;

/// Settings of both commands that mean something else for the bench.
const BENCH_MEANINGS: [(&str, &str); 4] = [
    (
        "verbose",
        "Log more: -v what the connection does, -vv also each packet that comes",
    ),
    ("payload-size", "Bytes in each message"),
    (
        "qos",
        "Quality of service of messages and subscription: 0, 1 or 2",
    ),
    (
        "topic-prefix",
        "First level or levels of all topics: PREFIX/async/RANDOM/1 and so on",
    ),
];

/// The name of the program.
pub(super) const PROGRAM: &str = env!("CARGO_PKG_NAME");

const AFTER_HELP: &str = "\
Settings:
  Each setting can come from four places; the first that has it wins:
    1. a flag                 --publish-count 8
    2. the environment        MQTT_PUBLISH_COUNT=8     (an empty variable counts as not set)
    3. the --config file      publish-count = 8        (TOML; see config/demo.toml)
    4. the default shown above
  Durations read like 100ms, 5s or 2m, or 0. Sizes read like 262144, 256KiB or 1MiB.
  Passwords come from a file or from MQTT_PASSWORD and MQTT_PKCS12_PASSWORD, never from a flag.

Examples:
  Everything on this computer, with a broker and certificates made on the spot:
    mqtt-connection-sharing --local

  AWS IoT Core, with the files as AWS issues them:
    mqtt-connection-sharing --endpoint abc123-ats.iot.eu-central-1.amazonaws.com \\
      --cert device-certificate.pem.crt --key device-private.pem.key

  AWS IoT Core through a firewall that lets only port 443 out:
    mqtt-connection-sharing --endpoint abc123-ats.iot.eu-central-1.amazonaws.com:443 \\
      --alpn x-amzn-mqtt-ca --cert device-certificate.pem.crt --key device-private.pem.key

  Your own Mosquitto with your own certificate authority:
    mqtt-connection-sharing --endpoint broker.example --ca-file certs/ca.pem \\
      --cert certs/client.pem --key certs/client.key

  A broker without TLS, which anyone on the way can read:
    mqtt-connection-sharing --endpoint mqtt://localhost

  One long run, its result as JSON:
    mqtt-connection-sharing --config demo.toml --iterations 1 --publish-count 100000 \\
      --publish-delay 0 --output json

Exit status:
  0    success: more than half of the iterations succeeded
  1    the demo failed
  2    wrong usage or configuration, also unreadable or mismatched certificates
  3    no connection: network or TLS
  4    refused by the broker
  130  interrupted: Ctrl-C, SIGTERM, SIGHUP (on Linux not under nohup); a second one leaves at once";

const BENCH_AFTER_HELP: &str = "\
Settings:
  As for the demo: a flag, the environment (MQTT_THREADS=8), the --config file (threads = 8), or the
  default. Connection, TLS, tuning and output are the same settings for both commands.

  The session is a clean one, unless --clean-session=false asks for one that survives a lost link.
  With --window comes a command queue of the size that the threads need, and --max-packet-size grows
  with --payload-size unless it is given.

Examples:
  A million messages of 64 bytes from 4 threads, 1000 of them in flight:
    mqtt-connection-sharing bench --endpoint broker.example --ca-file certs/ca.pem \\
      --cert certs/client.pem --key certs/client.key --messages 1000000

  How long one message takes that is waited for:
    mqtt-connection-sharing bench --endpoint broker.example --mode sync --threads 1

  Does everything come back, whole and in order?
    mqtt-connection-sharing bench --endpoint broker.example --qos 2 --window 20 --receive

  AWS IoT Core, within its limits:
    mqtt-connection-sharing bench --endpoint abc123-ats.iot.eu-central-1.amazonaws.com \\
      --cert device-certificate.pem.crt --key device-private.pem.key \\
      --client-id my-thing --mode sync --threads 1 --messages 1000

What is measured:
  Latency is the time from the call to the acknowledgment; with QoS 0 to the moment when the
  message was handed to the link. Asynchronous threads have up to twice the window outstanding,
  each at least 128 messages, and the time in which a message waits for the window counts: for the
  latency of one message use --mode sync. Of asynchronous threads the clock is read once for up to
  16 messages that follow each other at once, before the first of them, and once for those that
  are acknowledged together, after the last: a latency may be some microseconds too long, and none
  is too short. Processor time and memory are those of the whole program. The first message that
  fails ends the run.

Exit status:
  0    every message was acknowledged (with --receive also received back)
  1    something was lost or failed
  2    wrong usage or configuration, also unreadable or mismatched certificates
  3    no connection: network or TLS
  4    refused by the broker
  130  interrupted; the result so far is printed";

const CHECK_AFTER_HELP: &str = "\
Settings:
  As for the demo: a flag, the environment (MQTT_WAIT=60s), the --config file (wait = \"60s\"), or
  the default. Connection, TLS and output are the same settings for all commands.

Steps:
  files, name, TCP, TLS, CONNECT, SUBSCRIBE, PUBLISH, session, DISCONNECT. The check stops at the
  first one that fails, and lists possible causes, the likeliest first, each with what tells or
  mends it. PUBLISH includes that the message comes back, session that a second connection finds the
  session. Then it says which versions of MQTT the broker speaks, with the limits that it states
  with MQTT 5.

What it leaves alone:
  It cleans no session that it has not made. Under a --client-id that has a session already it
  subscribes to nothing and acknowledges no message. A client that runs under that name loses its
  connection, which the check says first. With --mqtt 5 such a session ends, which it says as well.

Examples:
  A new thing of AWS IoT:
    mqtt-connection-sharing check --endpoint abc123-ats.iot.eu-central-1.amazonaws.com \\
      --cert device-certificate.pem.crt --key device-private.pem.key \\
      --client-id my-thing --topic my-thing/test

  In a script, once the broker is up, with the result as JSON:
    mqtt-connection-sharing check --endpoint mqtt://localhost --wait 60s --output json

Exit status:
  0    every step that was tried is well
  1    the message did not come back, or the broker does not keep the session
  2    wrong usage or configuration, also unreadable or mismatched certificates
  3    no connection, or it was lost: network or TLS
  4    refused by the broker
  130  interrupted";

const CHECK_ABOUT: &str = "\
Tries one step of connecting after the other, and says under the first that fails what the cause is and \
which command tells or mends it";

/// Settings that mean something else for the check.
const CHECK_MEANINGS: [(&str, &str); 3] = [
    (
        "qos",
        "Quality of service of the message and the subscription: 0, 1 or 2",
    ),
    (
        "connect-interval",
        "Least time between two connections [default: 1s on AWS IoT, else 0]",
    ),
    (
        "verbose",
        "Log more: -v what the connection does, -vv also each packet that comes",
    ),
];

const PUB_AFTER_HELP: &str = "\
Settings:
  As for the demo: a flag, the environment (MQTT_TOPIC=a/b), the --config file (topic = \"a/b\"), or
  the default. Connection, TLS, tuning and output are the same settings for all commands.

Messages:
  One of --message, --file and standard input, which is also --file -. The whole of it is one
  message, as it is: a line feed at its end is part of it. With --lines each line is a message,
  without its line feed; an empty line is an empty message, and the last line needs no line feed.
  Lines are published as they come and are never all in memory. With --threads above 1 they keep no
  order.

Session:
  Without --client-id the session is a clean one. With it the session is resumed and stays, so that
  QoS 2 holds across lost links; what the broker keeps there for a subscriber is left alone. With
  --mqtt 5 each run begins a new session: what the broker has kept there is lost.

Examples:
  One message, waiting for its acknowledgment:
    mqtt-connection-sharing pub --endpoint broker.example --topic rooms/1/light --message on

  With MQTT 5, a message that no subscriber gets after a minute:
    mqtt-connection-sharing pub --endpoint broker.example --topic rooms/1/light --message on \\
      --mqtt 5 --message-expiry 60s --user-property site=7

  A file as one retained message:
    mqtt-connection-sharing pub --endpoint broker.example --topic maps/1 --file map.png --retain

  Each line of a log, from four threads over one connection:
    tail -f app.log | mqtt-connection-sharing pub --endpoint broker.example --topic logs/app \\
      --lines --threads 4

Exit status:
  0    every message was acknowledged (with QoS 0: went out, and the broker answered after it)
  1    a message failed, or with QoS 0 a link was lost on the way, so that some may be missing
  2    wrong usage or configuration, also a message that is too large or cannot be read
  3    no connection, or it was lost for too long: network or TLS
  4    refused by the broker, also a message because of which it closes each connection
  130  interrupted; the result so far is printed";

/// The words behind `sub`.
pub(super) const FILTERS: &str = "FILTER";

const SUB_AFTER_HELP: &str = "\
Settings:
  As for the demo: a flag, the environment (MQTT_COUNT=1), the --config file (count = 1), or the
  default. Connection, TLS, tuning and output are the same settings for all commands.

Messages:
  text   a line with topic, tab and payload; line ends, control signs, backslashes and bytes
         that are no text are escaped, so that each message is one line and none changes the
         terminal
  jsonl  a JSON object on a line, with time, topic, payload (or payload_base64 where it is no text),
         qos, retain and duplicate, and with MQTT 5 the properties that it came with
  raw    the bytes of the payload, with nothing added before, behind or between
  With --client-id each is written before it is acknowledged (QoS 1 and 2); without, it is
  acknowledged when its turn comes to be written. A reader that is slow holds the broker back, which
  keeps what it has room for: Mosquitto 1,000 messages. Of QoS 0 what finds 1,000 waiting is
  dropped, and told. A reader that goes away ends the run with status 0.

Session:
  Without --client-id the session is a clean one, and ends with the run. With it the session is
  resumed and stays: a message that was not written comes again with the next run, as does one that
  was written by a run that was killed in that moment. With --count message N+1 is not acknowledged.
  To end such a session, run sub once more with --clean-session and --within 1s. With --mqtt 5 each
  run begins a new session: messages that come between two runs are lost.

Examples:
  The next message, or status 5 after ten seconds:
    mqtt-connection-sharing sub --endpoint broker.example rooms/1/light --count 1 --within 10s

  Everything below two topics as JSON, for jq or a log:
    mqtt-connection-sharing sub --endpoint broker.example rooms/# halls/# --format jsonl

  A retained file, byte by byte:
    mqtt-connection-sharing sub --endpoint broker.example maps/1 --count 1 --format raw > map.png

Exit status:
  0    --count messages came, --within is over without --count, or nobody reads any more
  1    a message could not be written
  2    wrong usage or configuration, also unreadable or mismatched certificates
  3    no connection, or it was lost for too long: network or TLS
  4    refused by the broker, also a subscription
  5    --within was over before --count messages came
  130  interrupted";

const SUB_ABOUT: &str = "\
Subscribes over one TLS connection and writes each message to standard output";

/// Settings that mean something else for sub.
const SUB_MEANINGS: [(&str, &str); 4] = [
    ("qos", "Quality of service of the subscriptions: 0, 1 or 2"),
    (
        "clean-session",
        "Make the broker forget the session at each connection [default: true without --client-id]",
    ),
    (
        "output",
        "Form of standard output: text, the messages alone; or jsonl, also an object for each event",
    ),
    (
        "verbose",
        "Log more: -v what the connection does, -vv also each packet that comes",
    ),
];

const PUB_ABOUT: &str = "\
Publishes a text, a file or lines over one shared TLS connection, ends when all is acknowledged, and says how many \
there were";

/// Settings that mean something else for pub.
const PUB_MEANINGS: [(&str, &str); 5] = [
    ("topic", "Topic to publish to"),
    (
        "threads",
        "Threads that publish; with more than 1 lines keep no order",
    ),
    ("qos", "Quality of service of the messages: 0, 1 or 2"),
    (
        "clean-session",
        "Make the broker forget the session at each connection [default: true without --client-id]",
    ),
    (
        "verbose",
        "Log more: -v what the connection does, -vv also each packet that comes",
    ),
];

const BENCH_ABOUT: &str = "\
Publishes over one shared TLS connection as fast as the broker and the window allow, and measures \
throughput, latency, processor time and memory";

const FRONT_BEFORE: &str = "\
Many threads share one TLS connection to an MQTT broker.

Usage: mqtt-connection-sharing [COMMAND] [OPTIONS]

Commands, each with a --help of its own that shows all flags:
";

const FRONT_AFTER: &str = "
Examples:
  Everything on this computer, with a broker and certificates made on the spot:
    mqtt-connection-sharing --local
  AWS IoT Core, with the files as AWS issues them:
    mqtt-connection-sharing check --endpoint abc123-ats.iot.eu-central-1.amazonaws.com \\
      --cert device-certificate.pem.crt --key device-private.pem.key
  Your own Mosquitto with your own certificate authority:
    mqtt-connection-sharing --endpoint broker.example --ca-file certs/ca.pem \\
      --cert certs/client.pem --key certs/client.key
  The most that a broker without TLS takes, as JSON:
    mqtt-connection-sharing bench --endpoint mqtt://localhost --output json
  One short run with the settings of a file:
    mqtt-connection-sharing demo --config demo.toml --iterations 1

Settings come from flags, variables (MQTT_QOS=1), a --config file, or defaults, in this order.
Exit status: 0 success, 1 failed, 2 wrong usage, 3 no connection, 4 refused, 5 late, 130 stopped.
";

/// The command of a command line without a word: the flags are the demo's, and its help is the program's front page.
pub(super) fn front_command() -> clap::Command {
    command_of(Task::Demo)
        .bin_name("mqtt-connection-sharing")
        .override_help(front_page())
}

pub(super) const SETTINGS_HELP: &str = "\
Prints the settings in force, as TOML: each value with the place it comes from, a flag, a variable,
the file or the defaults. Nothing is connected.

Usage: mqtt-connection-sharing settings [COMMAND] [OPTIONS]

COMMAND is the one that the settings are for, the demo if there is none. OPTIONS are its flags:
see demo --help, bench --help and so on.

The output can be read back with --config, and gives the same settings. Paths are written in
full. No password is printed: there is the path of its file, or the name of its variable.
Values that follow from others are in comments, such as a port that follows from the endpoint.

Examples:
  Where does each setting come from?
    mqtt-connection-sharing settings --config demo.toml --publish-count 100

  Keep the settings of a bench:
    mqtt-connection-sharing settings bench --endpoint broker.example --qos 2 > bench.toml

Exit status:
  0    the settings can be run with
  2    they cannot, or are no settings; standard error says why";

/// The command that prints the settings of a task.
pub(super) fn settings_command(task: Task) -> clap::Command {
    command_of(task).override_help(SETTINGS_HELP)
}

/// The help of the program: all commands in a list, and examples.
pub(super) fn front_page() -> String {
    let list = Verb::ALL.map(|verb| format!("  {:<13}{}\n", verb.word(), verb.about()));
    [FRONT_BEFORE, &list.concat(), FRONT_AFTER].concat()
}

/// The command of a task with its help, defaults included. It knows the settings of the other tasks
/// as well, hidden, so that who gives one of those can be told where it belongs.
pub(crate) fn command_of(task: Task) -> clap::Command {
    let command = match task {
        Task::Demo => Cli::command().after_help(AFTER_HELP),
        Task::Bench => Cli::command()
            .about(BENCH_ABOUT)
            .long_about(None)
            .after_help(BENCH_AFTER_HELP),
        Task::Check => Cli::command()
            .about(CHECK_ABOUT)
            .long_about(None)
            .after_help(CHECK_AFTER_HELP),
        Task::Pub => Cli::command()
            .about(PUB_ABOUT)
            .long_about(None)
            .after_help(PUB_AFTER_HELP),
        Task::Sub => Cli::command()
            .about(SUB_ABOUT)
            .long_about(None)
            .after_help(SUB_AFTER_HELP)
            .arg(
                Arg::new(FILTERS)
                    .help("Filters to subscribe to, one or several; quote # and + for the shell")
                    .num_args(0..)
                    .value_parser(OsStringValueParser::new()),
            ),
    };
    let command = command.bin_name(format!("mqtt-connection-sharing {}", task.word()));
    let (meanings, heading): (&[_], _) = match task {
        Task::Demo => (&[], DEMO),
        Task::Bench => (&BENCH_MEANINGS, BENCH),
        Task::Check => (&CHECK_MEANINGS, CHECK),
        Task::Pub => (&PUB_MEANINGS, PUB),
        Task::Sub => (&SUB_MEANINGS, SUB),
    };
    let defaults = defaults(task);
    command.mut_args(|arg| {
        let key = arg.get_long().map(str::to_owned).unwrap_or_default();
        if !task.takes(&key) {
            return arg.hide(true);
        }
        let meaning = meanings.iter().find(|(known, _)| *known == key);
        let arg = match meaning {
            Some((_, help)) => arg.help(help),
            None => arg,
        };
        let arg = match arg.get_help_heading() {
            Some(DEMO | BENCH | CHECK) => arg.help_heading(heading),
            _ => arg,
        };
        match (default_text(&defaults, task, &key), arg.get_help()) {
            (Some(default), Some(help)) => {
                let help = format!("{help} [default: {default}]");
                arg.help(help)
            }
            _ => arg,
        }
    })
}

/// The default of a setting as the help shows it; `None` where there is none, and for switches that are
/// off.
fn default_text(defaults: &Table, task: Task, key: &str) -> Option<String> {
    match defaults.get(key)? {
        // It follows from the payload's size.
        _ if task == Task::Bench && key == "max-packet-size" => None,
        // It follows from the broker.
        _ if task == Task::Check && key == "connect-interval" => None,
        // It follows from the client identifier.
        _ if matches!(task, Task::Pub | Task::Sub) && key == "clean-session" => None,
        toml::Value::Boolean(false) => None,
        toml::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
