//! Certificates of the broker that the client refuses: the error names what is in them.

use super::*;

/// A broker with a certificate that OpenSSL makes. It takes any number of connections.
fn broker(lab: &Lab, version: &str, extensions: &str, subject: &str) -> Broker {
    sign(lab, "server", extensions, subject);
    let arguments =
        format!("s_server -accept 127.0.0.1:0 -cert server.pem -key server.key -rev {version}");
    Broker::start(lab, &arguments)
}

/// Makes a key and a certificate of the lab's authority.
fn sign(lab: &Lab, name: &str, extensions: &str, subject: &str) {
    lab.write("ca.key", lab.authority.key().serialize_pem());
    lab.write("extensions", format!("[all]\n{extensions}\n"));
    lab.openssl(&format!(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj {subject}"
    ));
    lab.openssl(&format!(
        "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 9 -out {name}.pem \
         -extfile extensions -extensions all"
    ));
}

#[test]
fn the_names_of_a_certificate_for_another_name_are_shown() {
    let lab = Lab::new();
    for version in ["-tls1_2", "-tls1_3"] {
        for (extensions, subject, host, phrases) in [
            (
                "basicConstraints=CA:FALSE",
                "/CN=127.0.0.1",
                "127.0.0.1",
                [
                    "only the common name \"127.0.0.1\"",
                    "made with subjectAltName=IP:127.0.0.1",
                ],
            ),
            (
                "subjectAltName=DNS:127.0.0.1",
                "/CN=127.0.0.1",
                "127.0.0.1",
                ["but for 127.0.0.1", "made with subjectAltName=IP:127.0.0.1"],
            ),
            (
                "subjectAltName=DNS:mqtt.example,IP:10.1.2.3,IP:::1",
                "/CN=127.0.0.1",
                "127.0.0.1",
                [
                    "but for mqtt.example, 10.1.2.3, ::1;",
                    "made with subjectAltName=IP:127.0.0.1",
                ],
            ),
            (
                "subjectAltName=DNS:mqtt.example,DNS:*.b.example",
                "/CN=x",
                "localhost",
                [
                    "but for mqtt.example, *.b.example;",
                    "give a name that is in it with `server_name`",
                ],
            ),
            (
                "subjectAltName=DNS:*.b.example",
                "/CN=localhost",
                "localhost",
                [
                    "but for *.b.example;",
                    "have the certificate made with subjectAltName=DNS:localhost",
                ],
            ),
            (
                "basicConstraints=CA:FALSE",
                "/CN=mqtt.example",
                "localhost",
                [
                    "only the common name \"mqtt.example\"",
                    "give a name that is in it with `server_name`",
                ],
            ),
            (
                "basicConstraints=CA:FALSE",
                "/CN=0:0:0:0:0:0:0:1",
                "::1",
                [
                    "only the common name \"0:0:0:0:0:0:0:1\"",
                    "made with subjectAltName=IP:::1",
                ],
            ),
            (
                "subjectAltName=email:me@example",
                "/O=nobody",
                "localhost",
                [
                    "it has no name at all",
                    "have the certificate made with subjectAltName=DNS:localhost",
                ],
            ),
        ] {
            let broker = broker(&lab, version, extensions, subject);
            let error = connect(&lab.trusting(), broker.address, host).expect_err(subject);
            let text = error.to_string();
            eprintln!("{version} {text}");
            assert!(error.is_permanent() && error.exit_status() == 3, "{text}");
            assert!(text.contains(&format!("not for the name {host}")), "{text}");
            for phrase in phrases {
                assert!(text.contains(phrase), "{phrase}: {text}");
            }
        }
    }
}

/// The advice about names works.
#[test]
fn a_name_that_is_in_the_certificate_is_taken_as_server_name() {
    let lab = Lab::new();
    for (extensions, subject, name) in [
        (
            "subjectAltName=DNS:mqtt.example,IP:10.1.2.3",
            "/CN=x",
            "mqtt.example",
        ),
        (
            "subjectAltName=DNS:mqtt.example,IP:10.1.2.3",
            "/CN=x",
            "10.1.2.3",
        ),
        (
            "basicConstraints=CA:FALSE",
            "/CN=mqtt.example",
            "mqtt.example",
        ),
    ] {
        let broker = broker(&lab, "-tls1_3", extensions, subject);
        let options = TlsOptions {
            server_name: Some(name.into()),
            ..lab.trusting()
        };
        connect(&options, broker.address, "127.0.0.1").expect(name);
    }
}

#[test]
fn another_ca_of_the_same_name_is_told_as_such() {
    let lab = Lab::new();
    for extensions in [
        "subjectAltName=DNS:localhost",
        // With the identifier of the key OpenSSL does not even try the signature.
        "subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid:always",
    ] {
        let broker = broker(&lab, "-tls1_3", extensions, "/CN=localhost");
        let again = authority("lab CA");
        lab.write("namesake.pem", again.pem());
        lab.write("stranger.pem", authority("strange CA").pem());
        lab.write("both.pem", authority("strange CA").pem() + &again.pem());
        for (file, phrase) in [
            (
                "namesake.pem",
                "it holds another CA of the same name, \"lab CA\", with another key",
            ),
            (
                "both.pem",
                "it holds another CA of the same name, \"lab CA\", with another key",
            ),
            (
                "stranger.pem",
                "the CA that signed the broker's certificate, \"lab CA\"; give",
            ),
        ] {
            let options = lab.trusting_only(file);
            let error = connect(&options, broker.address, "localhost").expect_err(file);
            eprintln!("{error}");
            let text = error.to_string();
            assert!(text.contains(phrase) && text.contains(file), "{text}");
        }
    }
}

#[test]
fn dates_and_purposes_of_the_brokers_certificate_are_shown() {
    let lab = Lab::new();
    for (extensions, phrase) in [
        (
            "subjectAltName=DNS:localhost\nextendedKeyUsage=clientAuth",
            "it is not made for servers: its extended key usage lacks serverAuth",
        ),
        (
            "subjectAltName=DNS:localhost\nextendedKeyUsage=codeSigning,emailProtection",
            "it is not made for servers",
        ),
    ] {
        let broker = broker(&lab, "-tls1_3", extensions, "/CN=localhost");
        let error = connect(&lab.trusting(), broker.address, "localhost").expect_err(phrase);
        eprintln!("{error}");
        assert!(
            error.to_string().contains(phrase.trim_start_matches("it ")),
            "{error}"
        );
    }
    let key = KeyPair::from_pem(&lab.text("broker.key")).unwrap();
    for (start, end, phrase) in [
        (
            1990,
            2020,
            "has expired: it expired on 2020-01-01T00:00:00Z",
        ),
        (
            2999,
            3000,
            "is not valid yet: it is not valid before 2999-01-01T00:00:00Z",
        ),
    ] {
        let mut params = params("localhost", &["localhost"]);
        params.not_before = rcgen::date_time_ymd(start, 1, 1);
        params.not_after = rcgen::date_time_ymd(end, 1, 1);
        lab.write("dated.pem", lab.sign(params, &key));
        let broker = lab.broker("dated.pem", "");
        let error = connect(&lab.trusting(), broker.address, "localhost").expect_err(phrase);
        eprintln!("{error}");
        assert!(error.to_string().contains(phrase), "{error}");
    }
    // The broker's certificate is valid, and its CA is not.
    let old = changed_authority("old CA", until(2020));
    let leaf = super::params("localhost", &["localhost"]);
    lab.write("leaf.pem", leaf.signed_by(&key, &old).unwrap().pem());
    lab.write("old-ca.pem", old.pem());
    let broker = lab.broker("leaf.pem", "");
    let options = lab.trusting_only("old-ca.pem");
    let error = connect(&options, broker.address, "localhost").expect_err("an old CA");
    eprintln!("{error}");
    let phrase = "the CA \"old CA\" in";
    assert!(error.to_string().contains(phrase), "{error}");
    assert!(
        error.to_string().contains("it expired on 2020-01-01"),
        "{error}"
    );
}

/// The date belongs to the certificate that the library refused, and to the reason that it gave.
#[test]
fn a_state_and_its_date_are_of_one_certificate() {
    let lab = Lab::new();
    let key = KeyPair::from_pem(&lab.text("broker.key")).unwrap();
    for (ca_file, phrases) in [
        (
            "old CA",
            [
                "the CA \"old CA\" in ",
                " has expired: it expired on 2020-01-01",
            ],
        ),
        (
            "new CA",
            [
                "the CA \"new CA\" in ",
                " is not valid yet: it is not valid before 2999-01-01",
            ],
        ),
    ] {
        let mut params = params(ca_file, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut leaf = super::params("localhost", &["localhost"]);
        // The broker's certificate is invalid, too, in the other way.
        if ca_file == "old CA" {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            leaf.not_before = rcgen::date_time_ymd(2998, 1, 1);
        } else {
            params.not_before = rcgen::date_time_ymd(2999, 1, 1);
            leaf.not_after = rcgen::date_time_ymd(2019, 1, 1);
        }
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        lab.write("leaf.pem", leaf.signed_by(&key, &ca).unwrap().pem());
        lab.write("dated-ca.pem", ca.pem());
        let broker = lab.broker("leaf.pem", "");
        let options = lab.trusting_only("dated-ca.pem");
        let error = connect(&options, broker.address, "localhost").expect_err(ca_file);
        eprintln!("{error}");
        for phrase in phrases {
            assert!(error.to_string().contains(phrase), "{error}");
        }
    }
}

/// Until TLS 1.2 the certificate comes unencrypted, and before the broker asks for the client's.
#[test]
fn a_certificate_is_found_in_a_handshake_that_goes_no_further() {
    let certificate = [7; 300];
    let body = |length: usize| u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
    let list = [
        body(certificate.len()),
        certificate.to_vec(),
        body(1),
        vec![0],
    ]
    .concat();
    let list = [body(list.len()), list].concat();
    let hello = [vec![2], body(5), vec![0; 5]].concat();
    let messages = [hello, vec![11], body(list.len()), list].concat();
    for size in [1, 50, 1000] {
        let mut records: Vec<u8> = Vec::new();
        for part in messages.chunks(size) {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            records.extend([22, 3, 3].iter().chain(&length).chain(part));
        }
        assert_eq!(certificates(&records), [certificate.to_vec(), vec![0]]);
        for end in 0..records.len() - 2 {
            let found = certificates(&records[..end]);
            assert!(found.is_empty() || found == [certificate.to_vec(), vec![0]]);
        }
    }
    assert!(certificates(b"").is_empty());
    assert!(certificates(b"HTTP/1.1 400").is_empty());
    assert!(certificates(&[22, 3, 3, 0, 1, 11]).is_empty());
}

/// Above an intermediate CA that the broker sends stands one of the same name, with another key.
#[test]
fn another_root_of_the_same_name_is_told_as_such() {
    let lab = Lab::new();
    let middle = intermediate(&lab.authority, |_| {});
    let key = KeyPair::from_pem(&lab.text("broker.key")).unwrap();
    let deep = params("deep", &["localhost"])
        .signed_by(&key, &middle)
        .unwrap();
    lab.write("deep.pem", deep.pem());
    lab.write("middle.pem", middle.pem());
    lab.write("namesake.pem", authority("lab CA").pem());
    let broker = lab.broker("deep.pem", "-cert_chain middle.pem");
    let options = lab.trusting_only("namesake.pem");
    let error = connect(&options, broker.address, "localhost").expect_err("a namesake");
    eprintln!("{error}");
    let phrase = "it holds another CA of the same name, \"lab CA\", with another key";
    assert!(error.to_string().contains(phrase), "{error}");
    // The intermediate CA alone is the right one, and not enough.
    let options = lab.trusting_only("middle.pem");
    let error = connect(&options, broker.address, "localhost").expect_err("no root");
    let phrase = "middle.pem holds an intermediate CA without the CA that signed it, \"lab CA\"";
    assert!(error.to_string().contains(phrase), "{error}");
}

#[test]
fn an_expired_ca_that_signed_nothing_here_is_not_blamed() {
    let lab = Lab::new();
    let middle = intermediate(&lab.authority, until(2021));
    let key = KeyPair::from_pem(&lab.text("broker.key")).unwrap();
    let deep = params("deep", &["localhost"])
        .signed_by(&key, &middle)
        .unwrap();
    let old = changed_authority("old CA", until(2020));
    lab.write("deep.pem", deep.pem());
    lab.write("middle.pem", middle.pem());
    lab.write("authorities.pem", old.pem() + &lab.authority.pem());
    let broker = lab.broker("deep.pem", "-cert_chain middle.pem");
    let options = lab.trusting_only("authorities.pem");
    let error = connect(&options, broker.address, "localhost").expect_err("expired");
    let phrase = "the certificate of the broker's CA has expired";
    assert!(error.to_string().contains(phrase), "{error}");
}

/// An old name of AWS IoT fails at the certificate, and another CA file would not help.
#[test]
fn an_old_name_of_aws_iot_is_named_with_the_present_one() {
    let lab = Lab::new();
    let broker = broker(&lab, "-tls1_3", "subjectAltName=DNS:x", "/CN=x");
    let old = "abc123.iot.eu-central-1.amazonaws.com";
    let new = "abc123-ats.iot.eu-central-1.amazonaws.com";
    lab.write("stranger.pem", authority("strange CA").pem());
    for ca_file in [None, Some(lab.path("stranger.pem"))] {
        for (host, server_name, is_named) in [
            (old, None, true),
            ("localhost", Some(old.to_owned()), true),
            (new, None, false),
            ("localhost", None, false),
        ] {
            let tls = TlsOptions {
                ca: ca_file.clone().map(Material::from),
                server_name,
                ..TlsOptions::default()
            };
            let connector = connector(&tls).unwrap();
            let stream = TcpStream::connect(broker.address).unwrap();
            let Err(HandshakeError::Failure(error)) = connector.connect(host, stream) else {
                panic!("{host} passes");
            };
            let mut options = Options::new(host, "me");
            options.security = crate::options::Security::Tls(tls);
            eprintln!("library: {error}");
            let error = handshake_error(&error, &options, &connector, &[]);
            eprintln!("{error}");
            let advice = error.advice();
            assert_eq!(
                advice.contains(&format!("give `host` {new}")),
                is_named,
                "{error}"
            );
            assert_eq!(advice.contains("`ca`"), !is_named, "{error}");
        }
    }
}
