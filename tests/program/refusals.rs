//! Causes for which the program cannot work. Each has an exit status and one line on standard error that
//! says what was tried, what went wrong and what to do; there is never a panic, and nothing on standard
//! output. Against a real Mosquitto; `bad_brokers.rs` covers the answers that Mosquitto cannot be made
//! to give.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::ffi::OsString;
use std::fs;

use crate::support::refusal::{AGAIN, ONCE, QUICK, check, expect_one_line, row};
use crate::support::{Certs, ClosedPort, Mosquitto, Program};

/// `arguments` with the value after `flag` replaced.
fn with(mut arguments: Vec<OsString>, flag: &str, value: impl Into<OsString>) -> Vec<OsString> {
    let place = arguments.iter().position(|argument| argument == flag);
    let place = place.expect("the flag to replace");
    arguments[place + 1] = value.into();
    arguments
}

/// `arguments` with more behind them.
fn and<A: Into<OsString>>(mut arguments: Vec<OsString>, more: Vec<A>) -> Vec<OsString> {
    arguments.extend(more.into_iter().map(Into::into));
    arguments
}

#[test]
fn each_fault_of_certificates_has_its_error() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let good = || broker.arguments();
    let (client, stranger) = (certs.client(), certs.other_client());
    let port = broker.port();
    let at = format!("127.0.0.1:{port}");
    let handshake = format!("TLS handshake with {at}: ");
    let tls = format!("TLS with {at}: ");
    let swapped = with(with(good(), "--cert", &client.key), "--key", &client.cert);
    check([
        row(
            "wrong CA",
            with(good(), "--ca-file", certs.other_ca()),
            (3, ONCE),
            &[
                &handshake,
                "other-ca.pem",
                "does not contain the CA that signed the broker's certificate",
                "; give --ca-file",
            ],
        ),
        row(
            "no CA",
            [&good()[..2], &good()[4..]].concat(),
            (3, ONCE),
            &[&handshake, "certificate", "--ca-file"],
        ),
        row(
            "no client certificate",
            good()[..4].to_vec(),
            (3, ONCE),
            &[
                &tls,
                "demands a client certificate",
                "; give --cert and --key",
            ],
        ),
        row(
            "a client certificate of another CA",
            broker.arguments_as(stranger),
            (3, ONCE),
            &[&tls, "rejected the client certificate", "; give --cert"],
        ),
        row(
            "wrong server name",
            and(good(), vec!["--tls-server-name", "wrong.example"]),
            (3, ONCE),
            &[&handshake, "wrong.example", "; ", "--tls-server-name"],
        ),
        row(
            "the key of another certificate",
            with(good(), "--key", &stranger.key),
            (2, ONCE),
            &[
                "(--cert) and its key (--key): ",
                "other-client-key.pem does not belong to the certificate",
                "client.pem",
                "; give the two",
            ],
        ),
        row(
            "certificate and key swapped",
            swapped,
            (2, ONCE),
            &[
                "client-key.pem (--cert): ",
                "holds a private key and no certificate",
                "; ",
                "swapped",
            ],
        ),
        row(
            "a certificate that is not there",
            with(good(), "--cert", "/nowhere/cert.pem"),
            (2, ONCE),
            &["/nowhere/cert.pem (--cert): ", "no such file", "; check"],
        ),
        row(
            "a key that is not there",
            with(good(), "--key", "/nowhere/key.pem"),
            (2, ONCE),
            &["/nowhere/key.pem (--key): ", "no such file", "; check"],
        ),
        row(
            "a CA file that is not there",
            with(good(), "--ca-file", "/nowhere/ca.pem"),
            (2, ONCE),
            &["/nowhere/ca.pem (--ca-file): ", "no such file", "; check"],
        ),
        row(
            "a certificate without its key",
            good()[..6].to_vec(),
            (2, ONCE),
            &["--cert is given without its private key", "; add --key"],
        ),
        row(
            "a TLS port spoken to without TLS",
            ["--endpoint".to_owned(), format!("mqtt://{at}")],
            (3, AGAIN),
            &[
                &format!("connecting to {at}: "),
                "before answering CONNECT",
                "; ",
                "TLS",
            ],
        ),
    ]);
    // None of these programs became a client.
    assert!(
        !broker.log().contains(" as mqtt-connection"),
        "{}",
        broker.log()
    );
}

/// The program looks at the certificate a second time, without its own, which this broker demands.
#[test]
fn the_certificate_that_did_not_pass_is_shown() {
    let namesake = Certs::generate();
    for version in ["tlsv1.3", "tlsv1.2"] {
        let mut broker = Mosquitto::start();
        broker.restart_with(&format!("tls_version {version}"));
        let good = || broker.arguments();
        check([
            row(
                "wrong server name",
                and(good(), vec!["--tls-server-name", "wrong.example"]),
                (3, ONCE),
                &[
                    "not for the name wrong.example, but for localhost, 127.0.0.1; ",
                    "--tls-server-name",
                ],
            ),
            row(
                "another CA of the same name",
                with(good(), "--ca-file", namesake.ca()),
                (3, ONCE),
                &[
                    "ca.pem does not contain the CA that signed the broker's certificate",
                    "it holds another CA of the same name, \"ca\", with another key; ",
                    "--ca-file",
                ],
            ),
        ]);
        let log = broker.log();
        assert!(!log.contains(" as mqtt-connection"), "{log}");
    }
}

#[test]
fn without_a_user_name_the_certificate_is_named_that_has_none_either() {
    let mut broker = Mosquitto::start();
    broker.restart_with("use_identity_as_username true");
    let nameless = broker.certs().nameless_client();
    check([row(
        "a certificate without a common name",
        broker.arguments_as(&nameless),
        (4, ONCE),
        &[
            "(return code 4), and none was given; the client certificate has no common name; ",
            "--cert",
        ],
    )]);
    let program = Program::new().args(broker.arguments());
    let one = ["--iterations", "1", "--connect-interval", "0"];
    program.args(one).run().expect_code(0);
}

#[test]
fn each_fault_of_an_archive_has_its_error() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let archive = certs.pkcs12_client("right");
    let start = || broker.arguments()[..4].to_vec();
    let password = certs.file("wrong-password");
    fs::write(&password, "guess").expect("a password file");
    let with_archive: Vec<OsString> = vec!["--pkcs12".into(), archive.into()];
    let with_password = vec!["--pkcs12-password-file".into(), password.into_os_string()];
    let pem: Vec<OsString> = vec!["--pkcs12".into(), certs.client().cert.clone().into()];
    check([
        row(
            "a wrong password of the archive",
            and(and(start(), with_archive.clone()), with_password),
            (2, ONCE),
            &["client.p12 (--pkcs12): ", "the password is wrong", "; give"],
        ),
        row(
            "no password of the archive",
            and(start(), with_archive),
            (2, ONCE),
            &[
                "client.p12 (--pkcs12): ",
                "it is protected by a password and none was given",
                "; give it with --pkcs12-password-file, or in MQTT_PKCS12_PASSWORD",
            ],
        ),
        row(
            "PEM in place of an archive",
            and(start(), pem),
            (2, ONCE),
            &["client.pem (--pkcs12): ", "PEM", "; ", "--cert and --key"],
        ),
    ]);
}

/// OpenSSL then refuses keys, archives and passwords that are right, each with words of its own.
#[test]
fn a_tls_library_without_its_ciphers_is_named_and_no_file_is_blamed() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let archive = certs.pkcs12_client("right");
    let configuration = certs.file("openssl.cnf");
    let text = "openssl_conf = init\n[init]\nproviders = providers\n\
        [providers]\nlegacy = legacy\n[legacy]\nactivate = 1\n";
    fs::write(&configuration, text).expect("a configuration of OpenSSL");
    let good = broker.arguments();
    for (what, arguments) in [
        ("certificate and key", good.clone()),
        ("authority", good[..4].to_vec()),
        ("nothing", good[..2].to_vec()),
        ("RSA key", broker.arguments_as(certs.pkcs1_client())),
        (
            "archive",
            and(
                good[..4].to_vec(),
                vec!["--pkcs12".into(), archive.into_os_string()],
            ),
        ),
    ] {
        let done = Program::new()
            .args(arguments)
            .args(["-q", "--iterations", "1"])
            .env("OPENSSL_CONF", &configuration)
            .env("MQTT_PKCS12_PASSWORD", "right")
            .run();
        eprintln!("{what}: {}", done.stderr);
        done.expect_code(2);
        let line = "error: preparing TLS: OpenSSL has no ciphers: its default provider is not on";
        assert!(done.stderr.starts_with(line), "{what}: {done}");
        assert!(
            done.stderr.contains("; have openssl.cnf activate it"),
            "{what}: {done}"
        );
    }
}

#[test]
fn a_refused_client_has_its_error() {
    let broker = Mosquitto::start_with_user("alice", "right");
    let file = broker.certs().file("password");
    fs::write(&file, "wrong\n").expect("a password file");
    let password = || vec![OsString::from("--password-file"), file.clone().into()];
    let name = |name: &str| and(broker.arguments(), vec!["--username", name]);
    let tried = format!("connecting to 127.0.0.1:{}: ", broker.port());
    let phrases = [
        &tried,
        "the broker refused",
        "; check --username and --password-file",
    ];
    check([
        row(
            "wrong password",
            and(name("alice"), password()),
            (4, ONCE),
            &phrases,
        ),
        row(
            "unknown user name",
            and(name("bob"), password()),
            (4, ONCE),
            &phrases,
        ),
    ]);
    fs::write(&file, "right\n").expect("a password file");
    let program = Program::new().args(and(name("alice"), password()));
    let one = ["--iterations", "1", "--connect-interval", "0"];
    program.args(one).run().expect_code(0);
}

#[test]
fn an_unreachable_broker_has_its_error() {
    let closed = ClosedPort::hold();
    let tried = format!("connecting to 127.0.0.1:{}: ", closed.port());
    let host_and_port = format!("127.0.0.1:{}", closed.port());
    let nothing = [
        &tried,
        "2 attempts in ",
        " s, the last one: nothing listens on that port",
        "; check that the broker runs",
    ];
    let unknown = [
        "connecting to nowhere.invalid:8883: ",
        "resolved",
        "; check",
    ];
    check([
        row(
            "closed port",
            ["--endpoint", &closed.endpoint()],
            (3, AGAIN),
            &nothing,
        ),
        row(
            "closed port, TLS",
            ["--endpoint", &host_and_port],
            (3, AGAIN),
            &nothing,
        ),
        row(
            "unknown host",
            ["--endpoint", "nowhere.invalid"],
            (3, AGAIN),
            &unknown,
        ),
    ]);
}

/// `--retry-for` alone decides: attempts go on until then, and the error tells how many there were.
#[test]
fn patience_is_a_time_and_the_error_tells_it() {
    let closed = ClosedPort::hold();
    for arguments in [&[][..], &["bench"]] {
        let done = Program::new()
            .args(arguments)
            .args(["--endpoint", &closed.endpoint(), "--retry-for", "500ms"])
            .args(["--retry-base", "1ms", "--retry-max", "10ms", "-q"])
            .run();
        done.expect_code(3);
        expect_one_line("patience", &done, &["connecting to ", ": ", "; check"]);
        let told = done.stderr.split_once(": ").and_then(|(_, rest)| {
            let (_, rest) = rest.split_once(": ")?;
            let (attempts, rest) = rest.split_once(" attempts in ")?;
            let (seconds, last) = rest.split_once(" s, the last one: ")?;
            Some((attempts.parse().ok()?, seconds.parse().ok()?, last))
        });
        let (attempts, seconds, last): (u32, f64, &str) =
            told.unwrap_or_else(|| panic!("no attempts: {done}"));
        assert!(attempts > 5 && seconds >= 0.5, "{done}");
        assert!(last.starts_with("nothing listens on that port"), "{done}");
    }
}

#[test]
fn too_few_file_descriptors_end_the_program_with_an_error() {
    let broker = Mosquitto::start();
    let mut refused = 0;
    let mut enough = false;
    // Each limit stops the program at another place, until the limit is large enough.
    for limit in 4..40 {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let done = Program::other("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_mqtt-connection-sharing")])
            .args(broker.arguments())
            .args(["-q", "--iterations", "1", "--publish-delay", "0"])
            .args(QUICK)
            .run();
        assert!(!done.stderr.contains("panicked"), "{limit}: {done}");
        match done.status.code() {
            Some(0) => {
                enough = true;
                break;
            }
            // The system's loader had too few to start the program.
            Some(127) => continue,
            _ => {}
        }
        refused += 1;
        assert_eq!(done.stderr.lines().count(), 1, "{limit}: {done}");
        // A library may only say which operation failed, not that descriptors were missing.
        if done.stderr.contains("Too many open files") {
            let advice = "; raise the limit of open files of this process (ulimit -n)";
            assert!(done.stderr.contains(advice), "{limit}: {done}");
        }
        eprint!("{limit}: {}", done.stderr);
    }
    assert!(
        enough && refused > 0,
        "{refused} refused, then enough: {enough}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full");
    for arguments in [
        &["--help"][..],
        &["pub", "--help"],
        &["version"],
        &["man"],
        &["settings", "--endpoint", "a"],
    ] {
        let done = Program::new()
            .args(arguments)
            .stdout(full().expect("a full disk"))
            .run();
        done.expect_code(2);
        assert!(
            done.stderr
                .contains("error: writing the result to standard output: No space left"),
            "{arguments:?}: {done}"
        );
    }
}
