//! The command check on broken set-ups: it stops at the right step and names the cause first. Against a real Mosquitto,
//! and a stand-in that behaves like AWS IoT. `good.rs` has the good ones.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

mod good;
mod stand_in;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use rcgen::{DnType, date_time_ymd};
use serde_json::Value;

use crate::support::certs::Pair;
use crate::support::{BlackHole, Certs, ClosedPort, Finished, Mosquitto, Program};
use stand_in::{Dislike, StandIn};

const AWS: &str = "abc123-ats.iot.eu-central-1.amazonaws.com";

/// The result of a check, as JSON, and how the program ended.
fn check<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> (Value, Finished) {
    let arguments = arguments.into_iter().map(Into::into);
    let done = Program::new()
        .arg("check")
        .args(arguments)
        .args(["--output", "json"])
        .run();
    let value = serde_json::from_str(&done.stdout);
    (
        value.unwrap_or_else(|error| panic!("{error}: {done}")),
        done,
    )
}

/// Checks that it stops at this step with this exit status, and that the first cause has these words: its text, its
/// remedy, its command.
#[track_caller]
fn expect_first<A: Into<OsString>>(
    what: &str,
    arguments: impl IntoIterator<Item = A>,
    (step, status): (&str, i32),
    words: &[&str],
) {
    let (report, done) = check(arguments);
    let steps = report["steps"].as_array().expect("steps");
    let last = steps.last().expect("a step");
    eprintln!(
        "{what}: {}",
        serde_json::to_string_pretty(last).expect("JSON")
    );
    assert_eq!(report["stopped_at"], step, "{what}: {done}");
    assert_eq!(report["success"], false, "{what}");
    assert_eq!(report["exit_status"], status, "{what}: {done}");
    done.expect_code(status);
    assert_eq!(
        (&last["step"], &last["status"]),
        (&step.into(), &"failed".into()),
        "{what}"
    );
    let text = |name: &str| last["causes"][0][name].as_str().unwrap_or_default();
    let first = format!("{}: {} {}", text("cause"), text("remedy"), text("command"));
    for words in words {
        assert!(
            first.contains(words),
            "{what}: no {words:?} in {first:?}: {done}"
        );
    }
}

fn words(texts: &[&str]) -> Vec<OsString> {
    texts.iter().map(OsString::from).collect()
}

fn files(endpoint: &str, ca: &Path, pair: &Pair) -> Vec<OsString> {
    let mut arguments = words(&["--endpoint", endpoint, "--ca-file"]);
    arguments.push(ca.into());
    arguments.push("--cert".into());
    arguments.push(pair.cert.clone().into());
    arguments.push("--key".into());
    arguments.push(pair.key.clone().into());
    arguments
}

fn and(mut arguments: Vec<OsString>, more: &[&str]) -> Vec<OsString> {
    arguments.extend(words(more));
    arguments
}

fn openssl(arguments: &[&dyn AsRef<OsStr>]) {
    let arguments = arguments.iter().map(|argument| argument.as_ref());
    let done = Command::new("openssl").args(arguments).output();
    let done = done.expect("openssl");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn what_is_wrong_with_files_is_named_first() {
    let certs = Certs::generate();
    let (client, stranger) = (certs.client().clone(), certs.other_client().clone());
    let at = "127.0.0.1:1";
    let pair = |cert: &Path, key: &Path| Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
    };
    let encrypted = certs.file("encrypted.key");
    openssl(&[
        &"pkcs8",
        &"-topk8",
        &"-in",
        &client.key,
        &"-out",
        &encrypted,
        &"-passout",
        &"pass:x",
    ]);
    let der = certs.file("client.der");
    openssl(&[
        &"x509",
        &"-in",
        &client.cert,
        &"-outform",
        &"der",
        &"-out",
        &der,
    ]);
    let bundle = certs.file("bundle.pem");
    let ca = fs::read_to_string(certs.ca()).expect("a CA");
    let (cut, _) = ca.split_once("-----END").expect("its end");
    fs::write(&bundle, format!("{ca}{cut}")).expect("a bundle");
    let archive = certs.pkcs12_client("right");
    let without_mac = certs.file("nomac.p12");
    openssl(&[
        &"pkcs12",
        &"-export",
        &"-nomac",
        &"-in",
        &client.cert,
        &"-inkey",
        &client.key,
        &"-out",
        &without_mac,
        &"-passout",
        &"pass:right",
    ]);
    let password = certs.file("password");
    fs::write(&password, "guess").expect("a password");
    let right = certs.file("right");
    fs::write(&right, "right").expect("a password");
    let right = right.to_str().expect("a path");
    let archived = |archive: &Path, more: &[&str]| {
        let mut arguments = words(&["--endpoint", at, "--pkcs12"]);
        arguments.push(archive.into());
        and(arguments, more)
    };
    let missing = Path::new("/nowhere/cert.pem");
    for (what, arguments, expected) in [
        (
            "no such file",
            files(at, certs.ca(), &pair(missing, &client.key)),
            &["no such file"][..],
        ),
        (
            "the key of another certificate",
            files(at, certs.ca(), &pair(&client.cert, &stranger.key)),
            &["does not belong to the certificate", "made together"],
        ),
        (
            "certificate and key swapped",
            files(at, certs.ca(), &pair(&client.key, &client.cert)),
            &["holds a private key and no certificate", "swapped"],
        ),
        (
            "an encrypted key",
            files(at, certs.ca(), &pair(&client.cert, &encrypted)),
            &["encrypted with a pass phrase", "openssl pkey -in"],
        ),
        (
            "a certificate in DER",
            files(at, certs.ca(), &pair(&der, &client.key)),
            &["binary form (DER)", "openssl x509 -inform der"],
        ),
        (
            "a CA bundle that is cut off",
            files(at, &bundle, &client),
            &["block 2 is cut off"],
        ),
        (
            "a wrong password of the archive",
            archived(
                &archive,
                &["--pkcs12-password-file", password.to_str().expect("a path")],
            ),
            &["the password is wrong"],
        ),
        (
            "an archive without a checksum",
            archived(&without_mac, &["--pkcs12-password-file", right]),
            &["it has no checksum (MAC)", "openssl pkcs12 -nomacver"],
        ),
    ] {
        expect_first(what, arguments, ("files", 2), expected);
    }
}

#[test]
fn what_is_wrong_on_the_way_is_named_first() {
    let closed = ClosedPort::hold();
    let hole = BlackHole::open(Ipv4Addr::LOCALHOST);
    let port = closed.port();
    let at = format!("127.0.0.1:{port}");
    // Without a network the system reaches no name server, and says so.
    expect_first(
        "an unknown name",
        words(&["--endpoint", "nowhere.invalid"]),
        ("name", 3),
        &["name", "getent hosts"],
    );
    expect_first(
        "a closed port",
        words(&["--endpoint", &at]),
        ("TCP", 3),
        &[
            &format!("nothing listens on port {port}"),
            &format!("ss -ltn 'sport = :{port}'"),
        ],
    );
    let swallowed = |more: &[&str]| {
        let endpoint = format!("mqtt://{}", hole.address());
        and(
            words(&["--endpoint", &endpoint, "--connect-timeout", "300ms"]),
            more,
        )
    };
    expect_first(
        "a port that swallows SYNs",
        swallowed(&[]),
        ("TCP", 3),
        &[
            "a firewall on the way",
            &format!("nc -vz -w 5 127.0.0.1 {}", hole.address().port()),
        ],
    );
}

#[test]
fn what_is_wrong_with_tls_is_named_first() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let namesake = Certs::generate();
    let at = format!("127.0.0.1:{}", broker.port());
    let good = || broker.arguments();
    expect_first(
        "another CA",
        files(&at, certs.other_ca(), certs.client()),
        ("TLS", 3),
        &[
            "does not contain the CA that signed the broker's certificate",
            "give --ca-file",
            "openssl s_client",
        ],
    );
    expect_first(
        "no CA",
        words(&["--endpoint", &at]),
        ("TLS", 3),
        &["not signed by a CA that this system trusts", "--ca-file"],
    );
    expect_first(
        "another CA of the same name",
        files(&at, namesake.ca(), certs.client()),
        ("TLS", 3),
        &["another CA of the same name"],
    );
    expect_first(
        "another name",
        and(good(), &["--tls-server-name", "wrong.example"]),
        ("TLS", 3),
        &[
            "not for the name wrong.example, but for localhost",
            "-servername wrong.example",
        ],
    );
    for (what, pair, expected) in [
        (
            "a broker's certificate that has expired",
            certs.signed("old", &["localhost", "127.0.0.1"], |params| {
                params.not_after = date_time_ymd(2020, 1, 1);
            }),
            "the broker's certificate has expired",
        ),
        (
            "a broker's certificate of another name",
            certs.signed("elsewhere", &["elsewhere.example"], |_| {}),
            "not for the name 127.0.0.1, but for elsewhere.example",
        ),
    ] {
        let server = StandIn::start(Some(&pair), Dislike::Nothing);
        let arguments = files(&server.address(), certs.ca(), certs.client());
        expect_first(what, arguments, ("TLS", 3), &[expected]);
    }
    let plain = StandIn::start(None, Dislike::Everything);
    expect_first(
        "a port without TLS",
        words(&["--endpoint", &plain.address()]),
        ("TLS", 3),
        &["check the port"],
    );
}

#[test]
fn what_the_broker_does_not_accept_is_named_first() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let at = format!("127.0.0.1:{}", broker.port());
    let plain = format!("mqtt://{at}");
    let expired = certs.signed("expired", &[], |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let of_server = certs.signed("of-server", &["a.example"], |_| {});
    for (what, arguments, expected) in [
        (
            "no client certificate",
            broker.arguments()[..4].to_vec(),
            &["demands a client certificate", "--cert and --key"][..],
        ),
        (
            "a client of another CA",
            broker.arguments_as(certs.other_client()),
            &["does not know the CA that signed it"],
        ),
        (
            "a client certificate that has expired",
            broker.arguments_as(&expired),
            &["the client certificate expired on 2020-01-01"],
        ),
        (
            "a certificate for servers",
            broker.arguments_as(&of_server),
            &["not made for clients: its extended key usage lacks clientAuth"],
        ),
        (
            "a TLS port without TLS",
            words(&["--endpoint", &plain]),
            &["expects TLS", "leave mqtt:// out"],
        ),
    ] {
        expect_first(what, arguments, ("CONNECT", 3), expected);
    }
    let guarded = Mosquitto::start_with_user("alice", "right");
    let password = guarded.certs().file("password");
    fs::write(&password, "wrong").expect("a password");
    let password = password.to_str().expect("a path");
    expect_first(
        "a wrong password",
        and(
            guarded.arguments(),
            &["--username", "alice", "--password-file", password],
        ),
        ("CONNECT", 4),
        &["the broker refused", "check --username and --password-file"],
    );
}

#[test]
fn what_a_strange_broker_means_is_named_first() {
    for (what, dislike, status, expected) in [
        (
            "a web server",
            Dislike::Web,
            3,
            "a web server answers on that port",
        ),
        (
            "a client identifier that is refused",
            Dislike::Code(2),
            4,
            "give another one with --client-id",
        ),
        (
            "no user name where one is needed",
            Dislike::Code(4),
            4,
            "and none was given",
        ),
        (
            "a service that is down",
            Dislike::Code(3),
            4,
            "the broker is there, its service is not",
        ),
        (
            "a broker without MQTT 3.1.1",
            Dislike::Code(1),
            4,
            "does not speak MQTT 3.1.1",
        ),
        (
            "a port that says nothing",
            Dislike::Silence,
            3,
            "is one for TLS, or another service's",
        ),
    ] {
        let server = StandIn::start(None, dislike);
        let endpoint = format!("mqtt://{}", server.address());
        let arguments = words(&["--endpoint", &endpoint, "--connect-timeout", "2s"]);
        expect_first(what, arguments, ("CONNECT", status), &[expected]);
    }
}

/// AWS IoT closes the connection in place of each refusal.
#[test]
fn at_aws_iot_the_missing_right_is_named_with_its_resource() {
    let certs = Certs::generate();
    let server = certs.signed("aws", &[AWS], |params| {
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Amazon");
    });
    let arn = "arn:aws:iot:eu-central-1:ACCOUNT";
    for (dislike, step, status, right) in [
        (
            Dislike::Connect,
            "CONNECT",
            3,
            format!("iot:Connect on {arn}:client/my-thing"),
        ),
        (
            Dislike::Subscribe,
            "SUBSCRIBE",
            3,
            format!("iot:Subscribe on {arn}:topicfilter/my-thing/test"),
        ),
        (
            Dislike::Publish,
            "PUBLISH",
            3,
            format!("iot:Publish on {arn}:topic/my-thing/test"),
        ),
        (
            Dislike::Receive,
            "PUBLISH",
            1,
            format!("iot:Receive on {arn}:topic/my-thing/test"),
        ),
        (
            Dislike::Session,
            "session",
            1,
            format!("iot:Connect on {arn}:client/my-thing"),
        ),
    ] {
        let aws = StandIn::start(Some(&server), dislike);
        let arguments = and(
            files(&aws.address(), certs.ca(), certs.client()),
            &[
                "--tls-server-name",
                AWS,
                "--client-id",
                "my-thing",
                "--topic",
                "my-thing/test",
            ],
        );
        expect_first(&right, arguments.clone(), (step, status), &[&right]);
        if step == "CONNECT" {
            let (report, done) = check(arguments);
            let causes = &report["steps"]
                .as_array()
                .expect("steps")
                .last()
                .expect("a step")["causes"];
            let command = causes[1]["command"]
                .as_str()
                .unwrap_or_else(|| panic!("{done}"));
            let fingerprint = fingerprint(&certs.client().cert);
            let expected = format!(
                "aws iot describe-certificate --certificate-id {fingerprint} --query \
                 certificateDescription.status --region eu-central-1"
            );
            assert_eq!(command, expected, "{done}");
        }
    }
}

/// The SHA-256 of a certificate as openssl tells it.
fn fingerprint(cert: &Path) -> String {
    let done = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(cert)
        .output()
        .expect("openssl");
    let text = String::from_utf8(done.stdout).expect("text");
    let (_, hexadecimal) = text.trim().split_once('=').expect("a fingerprint");
    hexadecimal.replace(':', "").to_lowercase()
}

#[test]
fn what_a_broker_s_rules_forbid_is_named_first() {
    let mut broker = Mosquitto::start();
    let rules = broker.certs().file("rules");
    fs::write(&rules, "topic read a/read\ntopic write a/write\n").expect("rules");
    broker.restart_with(&format!("acl_file {}", rules.display()));
    for topic in ["a/read", "a/write", "a/none"] {
        let (report, done) = check(and(broker.arguments(), &["--topic", topic]));
        let stopped_at = report["stopped_at"]
            .as_str()
            .unwrap_or_else(|| panic!("{done}"));
        assert!(
            ["SUBSCRIBE", "PUBLISH"].contains(&stopped_at),
            "{topic}: {done}"
        );
        let last = report["steps"]
            .as_array()
            .expect("steps")
            .last()
            .expect("a step");
        let first = last["causes"][0]["cause"].as_str().unwrap_or_default();
        assert!(
            first.contains("access rules do not let this client"),
            "{topic}: {done}"
        );
        assert!(first.contains(topic), "{topic}: {done}");
        // Versions of Mosquitto close the connection at such a message, or acknowledge and drop it.
        let statuses: &[i32] = if stopped_at == "PUBLISH" {
            &[1, 3]
        } else {
            &[4]
        };
        assert!(statuses.contains(&done.code()), "{topic}: {done}");
        assert_eq!(report["exit_status"], done.code(), "{done}");
    }
    let refusing = StandIn::start(None, Dislike::Filter);
    let endpoint = format!("mqtt://{}", refusing.address());
    expect_first(
        "a filter that is refused",
        words(&["--endpoint", &endpoint, "--topic", "a/b"]),
        ("SUBSCRIBE", 4),
        &["access rules do not let this client subscribe to \"a/b\""],
    );
    let older = StandIn::start(None, Dislike::Nothing);
    let endpoint = format!("mqtt://{}", older.address());
    expect_first(
        "a broker that answers QoS 2 as QoS 1",
        words(&["--endpoint", &endpoint, "--topic", "a/b", "--qos", "2"]),
        ("PUBLISH", 1),
        &["the broker has no QoS 2", "use --qos 1"],
    );
    let plain = StandIn::start(None, Dislike::Receive);
    let endpoint = format!("mqtt://{}", plain.address());
    expect_first(
        "a topic of the broker",
        words(&["--endpoint", &endpoint, "--topic", "$SYS/x"]),
        ("PUBLISH", 1),
        &["topics that begin with $ belong to the broker"],
    );
    let forgetful = StandIn::start(None, Dislike::Session);
    let endpoint = format!("mqtt://{}", forgetful.address());
    expect_first(
        "a session that is not kept",
        words(&["--endpoint", &endpoint]),
        ("session", 1),
        &["keeps no sessions"],
    );
}
