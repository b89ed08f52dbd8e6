//! The causes of a failure, the likeliest first for what was seen, each with what tells or mends it.
//!
//! The library's errors know the cause where it is certain, with its remedy; this file adds the candidates where it is
//! not, and the commands, filled in. Pure; the main thread uses it.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use mqtt_connection_sharing::error::{Blame, Error, shell_word};
use mqtt_connection_sharing::options::{Options, Security};
use mqtt_connection_sharing::{ClientCertificate, Outcome, Protocol, QoS, Reason, ReasonCode};

use super::aws::Aws;
use super::connected::is_interruption;
use super::report::Cause;
use crate::app::answers::{self, Attempted};
use crate::app::problems::names_reason;

/// A failure, as far as it was seen.
#[derive(Debug, Clone, Copy)]
pub(super) enum FailureSeen<'a> {
    /// A file or a value is wrong.
    Files(&'a Error),
    /// The name was not resolved.
    Name(&'a Error),
    /// No address took the connection.
    Tcp(&'a Error),
    /// The handshake failed.
    Tls(&'a Error),
    /// CONNECT went out, and no CONNACK that accepts it came.
    Connect(&'a Error),
    /// The broker refuses the filter or the message, or a limit that it has stated kept the command from being sent.
    Refused(Attempted, &'a Outcome),
    /// The connection was lost after SUBSCRIBE.
    LostSubscribing(&'a Error),
    /// The connection was lost after PUBLISH, or PUBLISH was not acknowledged.
    LostPublishing(&'a Error),
    /// The broker answered a message of QoS 2 as one of QoS 1.
    AnsweredAsQos1,
    /// The message was acknowledged and did not come back.
    NoEcho,
    /// The second connection did not find the session.
    NoSession,
    /// The connection was lost, or was not had again, at another moment.
    Lost(&'a Error),
}

/// The names and values with which the causes are filled in.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) options: &'a Options,
    pub(super) certificate: Option<&'a ClientCertificate>,
    /// The topic, where one was given.
    pub(super) topic: &'a str,
    pub(super) qos: QoS,
}

fn cause(cause: impl Into<String>, remedy: impl Into<String>) -> Cause {
    Cause {
        cause: cause.into(),
        remedy: remedy.into(),
        command: None,
    }
}

impl Cause {
    fn with(mut self, command: impl Into<String>) -> Cause {
        self.command = Some(command.into());
        self
    }
}

/// The cause that the library names.
fn named(error: &Error) -> Cause {
    cause(error.problem(), error.advice())
}

fn no_qos_2() -> Cause {
    cause("the broker has no QoS 2", "use --qos 1")
}

/// The cause that the broker has named.
fn explained(error: &Error) -> Cause {
    match error.reason_code() {
        // The library would connect again by itself, and a check does not.
        Some(0x89 | 0x8b) => cause(error.problem(), "try again later"),
        _ => named(error),
    }
}

/// The kind of the system's error behind it.
fn kind(error: &Error) -> Option<io::ErrorKind> {
    let source = error.source()?;
    Some(source.downcast_ref::<io::Error>()?.kind())
}

impl<'a> FailureSeen<'a> {
    /// The error in it.
    pub(super) fn error(self) -> Option<&'a Error> {
        match self {
            FailureSeen::Files(error)
            | FailureSeen::Name(error)
            | FailureSeen::Tcp(error)
            | FailureSeen::Tls(error)
            | FailureSeen::Connect(error)
            | FailureSeen::LostSubscribing(error)
            | FailureSeen::LostPublishing(error)
            | FailureSeen::Lost(error) => Some(error),
            FailureSeen::Refused(..)
            | FailureSeen::AnsweredAsQos1
            | FailureSeen::NoEcho
            | FailureSeen::NoSession => None,
        }
    }
}

/// The causes of a failure, at least one. An interruption has none.
pub(super) fn causes(seen: FailureSeen<'_>, facts: &Facts<'_>) -> Vec<Cause> {
    if seen.error().is_some_and(is_interruption) {
        return Vec::new();
    }
    match seen {
        FailureSeen::Files(error) => vec![named(error)],
        FailureSeen::Name(error) => facts.unresolved(error),
        FailureSeen::Tcp(error) => facts.unreachable(error),
        FailureSeen::Tls(error) => facts.handshake(error),
        FailureSeen::Connect(error) => facts.not_accepted(error),
        FailureSeen::Refused(asked, outcome) => facts.refused(asked, outcome),
        FailureSeen::LostSubscribing(error) => facts.lost(error, "iot:Subscribe", "topicfilter"),
        FailureSeen::LostPublishing(error) => facts.lost(error, "iot:Publish", "topic"),
        FailureSeen::AnsweredAsQos1 => vec![no_qos_2()],
        FailureSeen::NoEcho => facts.no_echo(),
        FailureSeen::NoSession => facts.no_session(),
        FailureSeen::Lost(error) if names_reason(error) => vec![explained(error)],
        FailureSeen::Lost(error) => vec![facts.same_client_id(), named(error)],
    }
}

impl Facts<'_> {
    fn aws(&self) -> Option<Aws> {
        Aws::of(self.options)
    }

    fn has_tls(&self) -> bool {
        matches!(self.options.security, Security::Tls(_))
    }

    fn unresolved(&self, error: &Error) -> Vec<Cause> {
        let host = shell_word(Path::new(&self.options.host));
        let slip = cause(
            "the name is misspelt",
            "compare it with the broker's, or with the account's",
        );
        let slip = match self.aws() {
            Some(aws) => slip
                .with(aws.command("describe-endpoint --endpoint-type iot:Data-ATS --output text")),
            None => slip.with(format!("getent hosts {host}")),
        };
        // The system's own words say whether a name server was asked.
        let away = cause(
            "this machine reaches no name server",
            "see whether it knows any other name, and what /etc/resolv.conf says",
        );
        let away = away.with("getent hosts example.com; cat /etc/resolv.conf");
        let text = error.problem();
        match text.contains("Temporary failure") || text.contains("not resolved within") {
            true => vec![away, slip],
            false => vec![slip, away],
        }
    }

    /// Whether the endpoint is an address or the name of this machine for itself.
    fn is_this_machine(&self) -> bool {
        let host = &self.options.host;
        let address = host.parse::<IpAddr>();
        address.map_or(host == "localhost", |address| address.is_loopback())
    }

    fn unreachable(&self, error: &Error) -> Vec<Cause> {
        let port = self.options.port;
        let host = shell_word(Path::new(&self.options.host));
        let firewall = || match self.aws() {
            Some(_) if port != 443 => cause(
                format!("a firewall lets port {port} not out"),
                format!(
                    "go through port 443: --endpoint {}:443 --alpn x-amzn-mqtt-ca",
                    self.options.host
                ),
            ),
            _ => cause(
                "a firewall on the way swallows or refuses the packets",
                format!("have it let TCP to port {port} through"),
            ),
        };
        match kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => {
                let mut causes = vec![
                    cause(
                        format!("nothing listens on port {port}: the broker does not run"),
                        "start it, or wait for it with --wait 60s; on the broker's machine this lists what listens",
                    )
                    .with(format!("ss -ltn 'sport = :{port}'")),
                    cause(
                        format!("the broker listens on another port than {port}"),
                        "usual are 8883 with TLS and 1883 without: --port PORT",
                    ),
                ];
                if !self.is_this_machine() {
                    causes.push(cause(
                        "the broker listens on 127.0.0.1 alone, as Mosquitto does without a listener",
                        format!("have it listen on every address (mosquitto.conf: listener {port})"),
                    ));
                }
                causes
            }
            Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => vec![
                cause("this machine has no way to that network", "see its routes").with("ip route"),
                firewall(),
            ],
            // Silence has no error of the system behind it.
            None | Some(io::ErrorKind::TimedOut) => vec![
                firewall().with(format!("nc -vz -w 5 {host} {port}")),
                cause(
                    "the host is down, or the address is another one's",
                    "ask whoever runs the broker",
                ),
            ],
            Some(_) => vec![named(error)],
        }
    }

    /// A command that shows the certificate of the broker.
    fn shows_certificate(&self) -> String {
        let Security::Tls(tls) = &self.options.security else {
            return String::new();
        };
        let name = tls.server_name.as_deref().unwrap_or(&self.options.host);
        format!(
            "openssl s_client -connect {} -servername {} </dev/null | openssl x509 -noout -subject -issuer -dates \
             -ext subjectAltName",
            shell_word(Path::new(&self.options.address())),
            shell_word(Path::new(name)),
        )
    }

    fn handshake(&self, error: &Error) -> Vec<Cause> {
        let first = named(error);
        // The TLS library's verdict on what the broker sent is certain.
        if error.is_permanent() {
            return vec![first.with(self.shows_certificate())];
        }
        vec![
            first,
            cause(
                "the port is not one for TLS",
                "usual are 8883 with TLS and 1883 without; this shows what answers there",
            )
            .with(format!(
                "openssl s_client -connect {} </dev/null",
                shell_word(Path::new(&self.options.address()))
            )),
        ]
    }

    fn not_accepted(&self, error: &Error) -> Vec<Cause> {
        // More than that is not known.
        let closed = matches!(
            kind(error),
            Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
        );
        let silent = kind(error) == Some(io::ErrorKind::TimedOut);
        match (self.aws(), error.blame()) {
            (Some(aws), Blame::Network) if closed => self.aws_closed(&aws),
            (Some(aws), Blame::Tls) => {
                let mut causes = vec![named(error)];
                causes.extend(self.aws_certificate(&aws));
                causes
            }
            (None, Blame::Network) if closed => self.closed(),
            (_, Blame::Network) if silent => self.silent(error),
            (None, Blame::Refused) => {
                let mut first = named(error);
                if self.options.credentials.is_some() {
                    first.command =
                        Some("mosquitto_passwd -b PASSWORD_FILE NAME PASSWORD".to_owned());
                }
                vec![first]
            }
            _ => vec![named(error)],
        }
    }

    /// AWS IoT closes the connection in place of a refusal.
    fn aws_closed(&self, aws: &Aws) -> Vec<Cause> {
        let client = aws.arn("client", &self.options.client_id);
        let mut causes = vec![cause(
            "the policy does not allow this client identifier",
            format!("allow iot:Connect on {client}"),
        )];
        if self.options.credentials.is_some() {
            causes.insert(
                0,
                cause(
                    "the authorizer does not accept user name and password",
                    format!("see its log; it has to allow iot:Connect on {client}"),
                )
                .with(aws.command("list-authorizers")),
            );
        }
        causes.extend(self.aws_certificate(aws));
        causes
    }

    /// The faults that a certificate may have at AWS IoT.
    fn aws_certificate(&self, aws: &Aws) -> Vec<Cause> {
        let Some(certificate) = self.certificate else {
            return Vec::new();
        };
        let id = certificate.sha256.map_or("ID".to_owned(), hexadecimal);
        let command = |rest: String| aws.command(&rest);
        vec![
            cause(
                "the certificate is not active, or is not registered in this account and region",
                "see its status; it has to be ACTIVE",
            )
            .with(command(format!(
                "describe-certificate --certificate-id {id} --query certificateDescription.status"
            ))),
            cause(
                "no policy is attached to the certificate",
                "see which ones are",
            )
            .with(command(format!(
                "list-attached-policies --target {}",
                aws.arn("cert", &id)
            ))),
        ]
    }

    fn closed(&self) -> Vec<Cause> {
        let mut causes = Vec::new();
        let log = "see the broker's log";
        let Security::Tls(tls) = &self.options.security else {
            causes.push(cause(
                format!("port {} expects TLS", self.options.port),
                "leave mqtt:// out, and give --ca-file where the broker has an authority of its own",
            ));
            if self.options.credentials.is_some() {
                causes.push(cause(
                    "the broker does not accept user name and password",
                    log,
                ));
            }
            causes.extend(self.will());
            causes.push(cause(
                "the broker does not accept this client identifier",
                log,
            ));
            causes.extend(self.version());
            return causes;
        };
        if self.options.credentials.is_some() {
            causes.push(cause(
                "the broker does not accept user name and password",
                "check --username and --password-file, and see the broker's log",
            ));
        }
        if tls.identity.is_some() {
            causes.push(cause("the broker does not accept this certificate", log));
        } else {
            causes.push(cause(
                "the broker demands a client certificate",
                "give --cert and --key",
            ));
        }
        causes.extend(self.will());
        causes.push(cause(
            format!(
                "the broker does not accept the client identifier {:?}",
                self.options.client_id
            ),
            "give one that its rules allow: --client-id ID",
        ));
        causes.extend(self.version());
        causes
    }

    /// A broker of MQTT 3.1.1 has no other way to refuse a will.
    fn will(&self) -> Option<Cause> {
        let will = self.options.last_will.as_ref()?;
        let mut changes = vec!["leave --will-topic out"];
        if will.qos > QoS::AtMostOnce {
            changes.push("give a lower --will-qos");
        }
        if will.retain {
            changes.push("leave --will-retain out");
        }
        let remedy = format!(
            "to see whether that is the cause, {}",
            changes.join(", or ")
        );
        Some(cause("the broker does not accept the last will", remedy))
    }

    /// A broker that does not know a version may close the connection in place of an answer.
    fn version(&self) -> Option<Cause> {
        let is_new = self.options.protocol == Protocol::V5;
        is_new.then(|| cause("the broker does not speak MQTT 5", "try --mqtt 3.1.1"))
    }

    fn silent(&self, error: &Error) -> Vec<Cause> {
        let mut causes = Vec::new();
        if !self.has_tls() {
            causes.push(cause(
                format!(
                    "port {} is one for TLS, or another service's",
                    self.options.port
                ),
                "leave mqtt:// out, or give the broker's port",
            ));
        }
        causes.push(named(error));
        causes.push(cause(
            "the broker hangs or is overloaded",
            "see its log and its load",
        ));
        causes
    }

    fn same_client_id(&self) -> Cause {
        cause(
            format!("another client connected as {:?}", self.options.client_id),
            "stop that one, or give --client-id another identifier",
        )
    }

    /// An access rule of a broker that is not AWS IoT.
    fn rule(&self, access: &str) -> Cause {
        let topic = self.topic;
        cause(
            format!("the broker's access rules do not let this client {access} {topic:?}"),
            format!("allow it (Mosquitto: a line topic readwrite {topic} in the acl_file)"),
        )
    }

    /// The rights that a topic needs at AWS IoT.
    fn aws_right(&self, aws: &Aws, action: &str, kind: &str) -> Cause {
        cause(
            format!("the policy does not allow {action} on this topic"),
            format!("allow {action} on {}", aws.arn(kind, self.topic)),
        )
    }

    /// The broker refuses a command. Unless it says otherwise, its rules do not allow it.
    fn refused(&self, asked: Attempted, outcome: &Outcome) -> Vec<Cause> {
        if let Outcome::NeverSent(Reason::BrokerLimit(limit)) = outcome {
            let remedy = answers::of_limit(asked, *limit).unwrap_or_default();
            return vec![cause(limit.to_string(), remedy)];
        }
        let code = outcome.answer().map(|answer| answer.code);
        let (doing, action, kind) = match asked {
            Attempted::Subscribe(_) => ("subscribe to", "iot:Subscribe", "topicfilter"),
            Attempted::Publish(_) => ("publish to", "iot:Publish", "topic"),
        };
        match (code.map(ReasonCode::value), self.aws()) {
            (None | Some(0x80 | 0x87), Some(aws)) => vec![self.aws_right(&aws, action, kind)],
            (None | Some(0x80 | 0x87), None) => vec![self.rule(doing)],
            (Some(code), _) => {
                let code = ReasonCode::new(code);
                vec![cause(code.to_string(), answers::of_code(asked, code))]
            }
        }
    }

    fn lost(&self, error: &Error, action: &str, resource: &str) -> Vec<Cause> {
        let doing = match action {
            "iot:Publish" => "publish to",
            _ => "subscribe to",
        };
        let right = match self.aws() {
            Some(aws) => self.aws_right(&aws, action, resource),
            None => self.rule(doing),
        };
        if error.reason_code() == Some(0x87) {
            return vec![right, explained(error)];
        }
        if names_reason(error) {
            return vec![explained(error)];
        }
        let mut causes = vec![right, self.same_client_id()];
        if self.qos == QoS::ExactlyOnce {
            causes.insert(0, no_qos_2());
        }
        causes.push(named(error));
        causes
    }

    fn no_echo(&self) -> Vec<Cause> {
        if self.topic.starts_with('$') {
            return vec![cause(
                "topics that begin with $ belong to the broker, which passes no message on there",
                "give --topic one without it",
            )];
        }
        let slow = cause(
            "the broker is slow, or its queue for this client is full",
            "see its log",
        );
        match self.aws() {
            Some(aws) => vec![
                self.aws_right(&aws, "iot:Receive", "topic"),
                cause("the broker is slow", "try again"),
            ],
            // A broker of MQTT 5 can say that a rule forbids a message, and has acknowledged this one.
            None if self.options.protocol == Protocol::V5 && self.qos > QoS::AtMostOnce => vec![
                self.rule("read"),
                slow,
                cause(
                    "the broker acknowledges messages that its rules forbid, and drops them",
                    format!("allow this client to publish to {:?}", self.topic),
                ),
            ],
            // Mosquitto acknowledges a message of MQTT 3.1.1 that a rule forbids, and drops it.
            None => vec![self.rule("publish to or read"), slow],
        }
    }

    fn no_session(&self) -> Vec<Cause> {
        let mut causes = Vec::new();
        if let Some(aws) = self.aws() {
            causes.push(cause(
                "the policy does not allow persistent sessions",
                format!(
                    "allow iot:Connect on {} without a condition on iot:ConnectAttributes, or with PersistentConnect \
                     in it",
                    aws.arn("client", &self.options.client_id)
                ),
            ));
        } else {
            causes.push(cause(
                "the broker keeps no sessions, or ends them at once",
                "allow it in its settings (Mosquitto: persistent_client_expiration; others: session expiry)",
            ));
            causes.push(cause(
                "a cluster: the second connection reached a machine that does not know the session",
                "have the machines share their sessions",
            ));
        }
        causes.push(cause(
            "another client with the same identifier cleaned it in between",
            "stop that one, or give --client-id another identifier",
        ));
        causes
    }
}

/// The identifier of a certificate in AWS IoT.
pub(super) fn hexadecimal(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
