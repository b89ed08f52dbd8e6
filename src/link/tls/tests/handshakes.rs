//! Real handshakes: the successful ones, and each failure with its explanation.

use std::io::Read;

use super::*;

/// Checks a failed connection: its blame, whether it is permanent, and a phrase.
fn assert_failed(error: &Error, permanent: bool, phrase: &str) {
    let text = error.to_string();
    assert!(text.contains(phrase), "{phrase:?} is not in: {text}");
    assert!(text.contains(":8883"), "{text}");
    assert_eq!(error.is_permanent(), permanent, "{text}");
    assert_eq!(error.exit_status(), 3);
    assert!(!error.advice().is_empty(), "{text}");
}

#[test]
fn a_broker_certificate_that_does_not_pass_is_explained() {
    let lab = Lab::new();
    let mut expired = params("localhost", &["localhost"]);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut early = params("localhost", &["localhost"]);
    early.not_before = rcgen::date_time_ymd(2999, 1, 1);
    let key = KeyPair::from_pem(&lab.text("broker.key")).unwrap();
    lab.write("expired.pem", lab.sign(expired, &key));
    lab.write("early.pem", lab.sign(early, &key));
    let alone = params("alone", &["localhost"]).self_signed(&key).unwrap();
    lab.write("alone.pem", alone.pem());
    lab.write("chain.pem", lab.text("broker.pem") + &lab.text("ca.pem"));
    lab.write("strange-ca.pem", authority("strange CA").pem());
    let middle = intermediate(&lab.authority, |_| {});
    let deep = params("deep", &["localhost"])
        .signed_by(&key, &middle)
        .unwrap();
    lab.write("deep.pem", deep.pem());
    lab.write("middle.pem", middle.pem());

    let strange = lab.trusting_only("strange-ca.pem");
    let half = lab.trusting_only("middle.pem");
    let renamed = TlsOptions {
        server_name: Some("renamed.example".into()),
        ..lab.trusting()
    };
    let system = TlsOptions::default();
    let trusting = lab.trusting();
    for (cert, options, host, phrase) in [
        (
            "broker.pem",
            &strange,
            "localhost",
            "strange-ca.pem does not contain the CA that signed",
        ),
        (
            "chain.pem",
            &strange,
            "localhost",
            "strange-ca.pem does not contain the CA that signed",
        ),
        (
            "broker.pem",
            &system,
            "localhost",
            "give the CA's certificate with `ca`",
        ),
        (
            "chain.pem",
            &system,
            "localhost",
            "give the CA's certificate with `ca`",
        ),
        (
            "deep.pem",
            &half,
            "localhost",
            "middle.pem holds an intermediate CA without the CA that signed it",
        ),
        ("alone.pem", &trusting, "localhost", "self-signed"),
        ("expired.pem", &trusting, "localhost", "has expired"),
        ("expired.pem", &trusting, "localhost", "clock"),
        ("early.pem", &trusting, "localhost", "not valid yet"),
        (
            "broker.pem",
            &trusting,
            "broker.example",
            "not for the name broker.example",
        ),
        (
            "broker.pem",
            &trusting,
            "127.0.0.1",
            "not for the name 127.0.0.1",
        ),
        (
            "broker.pem",
            &renamed,
            "localhost",
            "not for the name renamed.example",
        ),
        ("broker.pem", &renamed, "localhost", "`server_name`"),
    ] {
        let (address, thread) = lab.accept(cert, "broker.key");
        let error = connect(options, address, host).expect_err(phrase);
        eprintln!("{error}");
        assert_failed(&error, true, phrase);
        assert_eq!(error.blame(), Blame::Tls);
        thread.join().unwrap();
    }
}

#[test]
fn a_broker_certificate_that_passes_is_taken() {
    let lab = Lab::new();
    let key = KeyPair::from_pem(&lab.text("broker.key")).unwrap();
    let by_address = params("address", &["127.0.0.1"]);
    lab.write("address.pem", lab.sign(by_address, &key));
    let alone = params("alone", &["localhost"]).self_signed(&key).unwrap();
    lab.write("alone.pem", alone.pem());
    let renamed = TlsOptions {
        server_name: Some("localhost".into()),
        ..lab.trusting()
    };
    let pinned = lab.trusting_only("alone.pem");
    let trusting = lab.trusting();
    for (cert, options, host) in [
        ("broker.pem", &trusting, "localhost"),
        ("broker.pem", &trusting, "localhost."),
        ("broker.pem", &renamed, "10.0.0.1"),
        ("address.pem", &trusting, "127.0.0.1"),
        ("alone.pem", &pinned, "localhost"),
    ] {
        let (address, thread) = lab.accept(cert, "broker.key");
        let mut stream = connect(options, address, host).unwrap();
        let mut hello = String::new();
        stream.read_to_string(&mut hello).unwrap();
        assert_eq!(hello, "hello");
        thread.join().unwrap();
    }
}

#[test]
fn a_client_certificate_that_the_broker_rejects_is_explained() {
    let lab = Lab::new();
    let key = KeyPair::generate().unwrap();
    let stranger = params("stranger", &[]);
    let stranger = stranger.signed_by(&key, &authority("strange CA")).unwrap();
    lab.write("stranger.pem", stranger.pem());
    lab.write("any.key", key.serialize_pem());
    let mut expired = params("expired", &[]);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    lab.write("expired.pem", lab.sign(expired, &key));

    for version in ["-tls1_2", "-tls1_3"] {
        let broker = lab.strict_broker(version);
        for (options, phrase) in [
            (lab.trusting(), "give `cert` and `key`"),
            (
                lab.with("stranger.pem", "any.key"),
                "does not know the CA that signed it, \"strange CA\"",
            ),
            (
                lab.with("expired.pem", "any.key"),
                "the client certificate has expired",
            ),
        ] {
            let error = talk(&options, broker.address).expect_err(phrase);
            eprintln!("{version} {error}");
            assert_failed(&error, true, phrase);
            assert_eq!(error.blame(), Blame::Tls);
        }
        talk(&lab.with("client.pem", "client.key"), broker.address).unwrap();
    }
}

#[test]
fn names_and_protocols_that_the_broker_rejects_are_explained() {
    let lab = Lab::new();
    let server = "s_server -accept 127.0.0.1:0 -cert broker.pem -key broker.key -rev";
    let cases = [
        (
            "-alpn mqtt",
            "other",
            "the broker takes none of the ALPN protocols",
        ),
        (
            "-servername elsewhere -servername_fatal -cert2 broker.pem -key2 broker.key",
            "mqtt",
            "the broker does not know the name",
        ),
        (
            "-tls1_1 -cipher DEFAULT@SECLEVEL=0",
            "mqtt",
            "no TLS version from 1.2 on",
        ),
        (
            "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256",
            "mqtt",
            "it may demand a client certificate",
        ),
    ];
    for (more, alpn, phrase) in cases {
        let broker = Broker::start(&lab, &format!("{server} {more}"));
        let options = TlsOptions {
            alpn: vec![alpn.into()],
            ..lab.trusting()
        };
        let error = talk(&options, broker.address).expect_err(phrase);
        eprintln!("{error}");
        assert_failed(&error, true, phrase);
    }
    let broker = Broker::start(&lab, &format!("{server} -alpn mqtt,x-amzn-mqtt-ca"));
    let options = TlsOptions {
        alpn: vec!["x-amzn-mqtt-ca".into()],
        ..lab.trusting()
    };
    let stream = connect(&options, broker.address, "localhost").unwrap();
    assert_eq!(
        stream.negotiated_alpn().unwrap().unwrap(),
        b"x-amzn-mqtt-ca"
    );
}

#[test]
fn a_port_that_does_not_speak_tls_is_explained() {
    let lab = Lab::new();
    type Serve = fn(TcpStream);
    let answer: Serve = |mut stream| {
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        // Reads until the client leaves, because an early end could overtake the answer.
        let _ = stream.read_to_end(&mut Vec::new());
    };
    // A broker without TLS reads the handshake as a malformed packet and closes.
    let close: Serve = |mut stream| {
        let mut header = [0; 5];
        stream.read_exact(&mut header).unwrap();
        let length = u16::from_be_bytes([header[3], header[4]]);
        let mut rest = vec![0; usize::from(length)];
        stream.read_exact(&mut rest).unwrap();
    };
    let reset: Serve = |stream| {
        // Closing with unread data makes the system answer with a reset.
        let _ = stream.peek(&mut [0]);
    };
    for (serve, permanent, phrases) in [
        (
            answer,
            true,
            ["the port does not speak TLS", "check the port"],
        ),
        (
            close,
            false,
            ["closed the connection in the middle", "8883"],
        ),
        (reset, false, ["the connection broke off", "8883"]),
    ] {
        let (address, thread) = once(serve);
        let error = connect(&lab.trusting(), address, "localhost").expect_err("no TLS");
        eprintln!("{error}");
        for phrase in phrases {
            assert_failed(&error, permanent, phrase);
        }
        thread.join().unwrap();
    }
}

#[test]
fn only_an_alert_is_explained_as_an_alert() {
    let tls = connector(&TlsOptions::default()).unwrap();
    let options = Options::new("a", "me");
    let none = |error: std::io::Error| alert_error(&error, &options, &tls).is_none();
    assert!(none(std::io::ErrorKind::ConnectionReset.into()));
    assert!(none(std::io::Error::from_raw_os_error(11)));
    assert!(none(std::io::Error::other("unexpected EOF")));
    // The wording of OpenSSL 3.2 and later.
    let text = "error:0A000415:SSL routines:ssl3_read_bytes:ssl/tls alert certificate expired:\
                ../ssl/record/rec_layer_s3.c:907:SSL alert number 45";
    let error = alert_error(&std::io::Error::other(text), &options, &tls).unwrap();
    assert_eq!(error.blame(), Blame::Tls);
    // An alert that is not about this client's settings may not come again.
    let text = "error:0A000438:SSL routines:ssl3_read_bytes:tlsv1 alert internal error:f.c:1:SSL alert number 80";
    let error = alert_error(&std::io::Error::other(text), &options, &tls).unwrap();
    assert!(!error.is_permanent());
    assert!(error.to_string().contains("TLS alert 80"));
}

#[test]
fn reasons_are_cut_out_of_the_library_text() {
    let text = "error:0A000086:SSL routines:f:certificate verify failed:f.c:1:, error:0D:asn1:g:nested asn1 error:f.c:2:";
    assert_eq!(
        reasons(text),
        "certificate verify failed, nested asn1 error"
    );
    assert_eq!(reasons("unexpected EOF"), "unexpected EOF");
}
