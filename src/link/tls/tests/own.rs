//! Certificates of the client that a broker refuses: the error names what a broker may not like about them.

use super::*;

#[test]
fn a_flaw_of_the_clients_certificate_is_named_when_the_broker_refuses_it() {
    let lab = Lab::new();
    let key = KeyPair::generate().unwrap();
    lab.write("any.key", key.serialize_pem());
    let purposes = |purpose| {
        let mut params = params("client", &[]);
        params.extended_key_usages = vec![purpose];
        lab.sign(params, &key)
    };
    let middle = intermediate(&lab.authority, until(2020));
    let deep = params("deep", &[]).signed_by(&key, &middle).unwrap();
    lab.write("early.pem", dated(&lab, &key, 2999, 3000));
    lab.write("late.pem", dated(&lab, &key, 1990, 2020));
    lab.write(
        "server.pem",
        purposes(rcgen::ExtendedKeyUsagePurpose::ServerAuth),
    );
    lab.write("old-middle.pem", deep.pem() + &middle.pem());
    for name in ["early", "old-middle"] {
        lab.openssl(&format!(
            "pkcs12 -export -in {name}.pem -inkey any.key -passout pass:secret -out {name}.p12"
        ));
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let broker = lab.strict_broker(version);
        for (file, phrases) in [
            (
                "early.p12",
                [
                    "the client certificate is not valid before 2999-01-01T00:00:00Z",
                    "give `pkcs12` one that is valid now",
                ],
            ),
            (
                "old-middle.p12",
                [
                    "certificate 2 of the chain in `pkcs12` expired on 2020",
                    "give `pkcs12`",
                ],
            ),
            (
                "early.pem",
                [
                    "the client certificate is not valid before 2999-01-01T00:00:00Z",
                    "`cert`",
                ],
            ),
            (
                "late.pem",
                [
                    "the client certificate expired on 2020-01-01T00:00:00Z",
                    "`cert`",
                ],
            ),
            (
                "server.pem",
                [
                    "its extended key usage lacks clientAuth",
                    "extendedKeyUsage=clientAuth",
                ],
            ),
            (
                "old-middle.pem",
                [
                    "certificate 2 of the chain in `cert` expired on 2020",
                    "`cert`",
                ],
            ),
        ] {
            let options = match file.ends_with(".p12") {
                true => lab.with_pkcs12(file, "secret"),
                false => lab.with(file, "any.key"),
            };
            let error = talk(&options, broker.address).expect_err(file);
            eprintln!("{version} {error}");
            assert!(error.is_permanent(), "{error}");
            for phrase in phrases {
                assert!(
                    error.to_string().contains(phrase),
                    "{version} {file}: {error}"
                );
            }
        }
    }
}

/// The explanation of an alert that comes after the handshake, as with TLS 1.3.
fn alert(number: u8, options: &TlsOptions) -> Error {
    let text = format!("error:0A000410:SSL routines:f:an alert:f.c:1:SSL alert number {number}");
    let error = std::io::Error::other(text);
    let all = Options::new("localhost", "me");
    alert_error(&error, &all, &connector(options).unwrap()).expect("an alert")
}

/// A client's certificate with these dates, for `any.key`.
fn dated(lab: &Lab, key: &KeyPair, start: i32, end: i32) -> String {
    let mut params = params("client", &[]);
    params.not_before = rcgen::date_time_ymd(start, 1, 1);
    params.not_after = rcgen::date_time_ymd(end, 1, 1);
    lab.sign(params, key)
}

#[test]
fn an_alert_that_gives_no_reason_leaves_a_flaw_a_possible_one() {
    let lab = Lab::new();
    let key = KeyPair::generate().unwrap();
    lab.write("any.key", key.serialize_pem());
    lab.write("late.pem", dated(&lab, &key, 1990, 2020));
    let options = lab.with("late.pem", "any.key");
    let unflawed = lab.with("client.pem", "client.key");
    for number in [40, 47, 50, 51, 80, 113, 115] {
        let error = alert(number, &options);
        eprintln!("{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("TLS alert {number}")), "{text}");
        let flaw = "the client certificate expired on 2020-01-01T00:00:00Z by this machine's \
                    clock, which may be the reason";
        assert!(text.contains(flaw), "{text}");
        assert!(text.contains("give `cert` one that is valid now"), "{text}");
        // The alert alone says whether trying again can help.
        let without = alert(number, &unflawed);
        assert_eq!(error.is_permanent(), without.is_permanent(), "{text}");
    }
    for number in [47, 50, 80] {
        assert!(!alert(number, &options).is_permanent(), "{number}");
    }
}

#[test]
fn an_alert_that_does_not_name_the_certificate_makes_it_a_possible_cause_only() {
    let lab = Lab::new();
    let (given, without) = (lab.with("client.pem", "client.key"), lab.trusting());
    let may_demand =
        "; it may demand a client certificate and none was given; give `cert` and `key`";
    let may_reject = "; it may not accept the client certificate; see the broker's log";
    for (number, options, phrase) in [
        (40, &without, may_demand),
        (42, &without, may_demand),
        (43, &without, may_demand),
        (46, &without, may_demand),
        (48, &without, may_demand),
        (49, &without, may_demand),
        (51, &given, may_reject),
        (113, &given, may_reject),
        (
            51,
            &without,
            ", decrypt error; compare the broker's TLS settings",
        ),
    ] {
        let error = alert(number, options);
        let text = error.to_string();
        let fact = format!("the broker broke off with TLS alert {number}");
        assert!(text.contains(&fact) && text.contains(phrase), "{text}");
        assert!(error.is_permanent(), "{text}");
    }
    for number in [41, 116] {
        let text = alert(number, &without).to_string();
        assert!(
            text.contains("demands a client certificate and none was given"),
            "{text}"
        );
    }
    for number in [42, 46] {
        let text = alert(number, &given).to_string();
        assert!(text.contains("rejected the client certificate"), "{text}");
    }
}

#[test]
fn a_flaw_is_the_cause_only_of_an_alert_that_says_so() {
    let lab = Lab::new();
    let key = KeyPair::generate().unwrap();
    lab.write("any.key", key.serialize_pem());
    lab.write("late.pem", dated(&lab, &key, 1990, 2020));
    lab.write("early.pem", dated(&lab, &key, 2999, 3000));
    let mut purpose = params("client", &[]);
    purpose.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    lab.write("server.pem", lab.sign(purpose, &key));
    let (date, no_purpose) = ("expired on 2020-01-01", "lacks clientAuth");
    for (number, file, is_cause, phrases) in [
        (
            42,
            "late.pem",
            true,
            ["rejected the client certificate", date],
        ),
        (
            46,
            "late.pem",
            true,
            ["rejected the client certificate", date],
        ),
        (45, "late.pem", true, ["has expired (TLS alert 45)", date]),
        (43, "server.pem", true, ["unsupported", no_purpose]),
        (43, "late.pem", false, ["unsupported", date]),
        (44, "late.pem", false, ["is revoked", date]),
        (45, "server.pem", false, ["has expired", no_purpose]),
        (
            45,
            "early.pem",
            false,
            ["has expired", "not valid before 2999"],
        ),
        (
            48,
            "late.pem",
            false,
            ["it does not know the CA that signed it, \"lab CA\"", date],
        ),
        (49, "late.pem", false, ["denies access", date]),
        (
            116,
            "late.pem",
            false,
            ["demands a client certificate and got none", date],
        ),
    ] {
        let error = alert(number, &lab.with(file, "any.key"));
        eprintln!("{error}");
        let text = error.to_string();
        for phrase in phrases {
            assert!(text.contains(phrase), "{number} {file}: {text}");
        }
        assert_eq!(
            text.contains("; besides, the client certificate"),
            !is_cause,
            "{text}"
        );
        assert!(error.is_permanent(), "{text}");
    }
}

/// A broker passes over a certificate in the file that has signed none of those before it, and so does the error.
#[test]
fn a_stray_certificate_in_the_file_is_not_blamed() {
    let lab = Lab::new();
    let key = KeyPair::generate().unwrap();
    lab.write("any.key", key.serialize_pem());
    let old = changed_authority("old CA", until(2020));
    let strange = authority("strange CA");
    let middle = intermediate(&strange, |_| {});
    let stranger = params("stranger", &[]).signed_by(&key, &strange).unwrap();
    let deep = params("deep", &[]).signed_by(&key, &middle).unwrap();
    lab.write("stray.pem", stranger.pem() + &old.pem());
    lab.write("deep.pem", deep.pem() + &old.pem() + &middle.pem());
    for version in ["-tls1_2", "-tls1_3"] {
        let broker = lab.strict_broker(version);
        for (file, signer) in [
            ("stray.pem", "the CA that signed it, \"strange CA\";"),
            (
                "deep.pem",
                "the CA that signed it, \"strange CA\" above the 2 certificates in `cert`;",
            ),
        ] {
            let error = talk(&lab.with(file, "any.key"), broker.address).expect_err(file);
            eprintln!("{version} {error}");
            let text = error.to_string();
            assert!(text.contains(signer), "{text}");
            assert!(!text.contains("2020"), "{text}");
        }
    }
}

#[test]
fn a_chain_that_is_too_long_is_named_with_its_length() {
    let lab = Lab::new();
    let chain = lab.text("client.pem") + &lab.text("ca.pem").repeat(300);
    lab.write("long.pem", chain);
    for version in ["-tls1_2", "-tls1_3"] {
        let broker = lab.strict_broker(version);
        let error = talk(&lab.with("long.pem", "client.key"), broker.address).expect_err(version);
        eprintln!("{version} {error}");
        let text = error.to_string();
        assert!(text.contains("a chain of 301 certificates"), "{text}");
        assert!(
            text.contains("; leave in it the client's certificate"),
            "{text}"
        );
    }
}

/// A client shows its own certificate before it connects.
#[test]
fn the_clients_own_certificate_is_shown_with_its_key_its_dates_and_its_fingerprint() {
    let lab = Lab::new();
    let new = "req -x509 -nodes -days 30 -subj /CN=me";
    for (file, key, kind) in [
        ("rsa", "rsa:2048", "RSA 2048"),
        ("odd", "rsa:2047", "RSA 2047"),
        ("p256", "ec -pkeyopt ec_paramgen_curve:P-256", "EC P-256"),
        ("p384", "ec -pkeyopt ec_paramgen_curve:P-384", "EC P-384"),
        ("ed", "ed25519", "Ed25519"),
    ] {
        lab.openssl(&format!(
            "{new} -newkey {key} -keyout {file}.key -out {file}.pem"
        ));
        let made = connector(&TlsOptions {
            identity: Some(options::Identity::pem(
                lab.path(&format!("{file}.pem")),
                lab.path(&format!("{file}.key")),
            )),
            ..TlsOptions::default()
        });
        let shown = made.unwrap().own_certificate().unwrap();
        assert_eq!(shown.key.as_deref(), Some(kind), "{shown:?}");
        assert_eq!(shown.common_name.as_deref(), Some("me"));
        assert_eq!(shown.issuer.as_deref(), Some("me"));
        let valid = shown
            .not_after
            .unwrap()
            .duration_since(shown.not_before.unwrap());
        assert_eq!(valid.unwrap(), Duration::from_secs(30 * 24 * 3600));
        assert_eq!(shown.flaws, Vec::<String>::new());
        lab.openssl(&format!(
            "x509 -in {file}.pem -noout -fingerprint -sha256 -out {file}.print"
        ));
        let bytes = shown.sha256.unwrap();
        let hexadecimal = bytes.map(|byte| format!("{byte:02X}")).join(":");
        assert!(
            lab.text(&format!("{file}.print"))
                .trim()
                .ends_with(&hexadecimal)
        );
    }
    let without = connector(&TlsOptions::default());
    assert_eq!(without.unwrap().own_certificate(), None);
}
