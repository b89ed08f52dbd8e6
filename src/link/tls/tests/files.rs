//! Files and values from which no connector can be built. The error names each, and quotes none.

use super::*;

/// Checks that no connector can be built, and returns the error.
fn refusal(options: &TlsOptions) -> Error {
    let error = connector(options).expect_err("the connector must not be built");
    assert_eq!(error.blame(), Blame::Configuration, "{error}");
    assert!(error.is_permanent());
    assert!(!error.advice().is_empty(), "{error}");
    assert!(!error.to_string().contains('\n'));
    error
}

#[test]
fn a_bad_key_file_is_named() {
    let lab = Lab::new();
    let key = lab.text("client.key");
    lab.openssl("ec -in client.key -out sec1.key");
    lab.openssl("pkey -in client.key -pubout -out public.key");
    lab.openssl("pkey -in client.key -outform der -out binary.key");
    lab.openssl("pkcs8 -topk8 -in client.key -passout pass:secret -out encrypted.key");
    lab.openssl("ec -in client.key -aes128 -passout pass:secret -out old-encrypted.key");
    lab.openssl("pkcs12 -export -in client.pem -inkey client.key -passout pass: -out key.p12");
    lab.openssl("genpkey -algorithm rsa -out rsa.key");
    lab.write("empty.key", "");
    lab.write("noise.key", "0ld notes\n");
    lab.write(
        "ssh.key",
        pem::encode(&Pem::new("OPENSSH PRIVATE KEY", b"openssh-key-v1\0")),
    );
    lab.write(
        "dsa.key",
        pem::encode(&Pem::new("DSA PRIVATE KEY", b"0\x03\x02\x01\0")),
    );
    lab.write("cut.key", &key[..key.len() / 2]);
    lab.write("letters.key", key.replacen('M', "\u{e4}", 1));
    lab.write(
        "bytes.key",
        pem::encode(&Pem::new("PRIVATE KEY", b"0123456789")),
    );
    lab.write(
        "curve.key",
        pem::encode(&Pem::new("EC PRIVATE KEY", b"0123456789")),
    );
    lab.write(
        "pkcs1.key",
        pem::encode(&Pem::new("RSA PRIVATE KEY", b"0123456789")),
    );
    lab.write("utf16.key", b"\xff\xfe-\0-\0");
    fs::create_dir(lab.path("folder.key")).unwrap();
    let other = KeyPair::generate().unwrap();
    lab.write("other.key", other.serialize_pem());

    // The advice about encrypted and binary keys works.
    lab.openssl("pkey -in encrypted.key -out plain.key -passin pass:secret");
    lab.openssl("pkey -inform der -in binary.key -out converted.key");
    for file in ["plain.key", "converted.key"] {
        assert!(connector(&lab.with("client.pem", file)).is_ok(), "{file}");
    }

    for (file, phrase) in [
        ("missing.key", "there is no such file"),
        ("folder.key", "it is a directory"),
        ("empty.key", "the file is empty"),
        ("noise.key", "it is not PEM"),
        ("utf16.key", "UTF-16"),
        ("binary.key", "openssl pkey -inform der"),
        ("key.p12", "give it with `pkcs12`"),
        ("client.pem", "perhaps they are swapped"),
        ("public.key", "it holds a public key"),
        ("ssh.key", "it is an OpenSSH key"),
        ("dsa.key", "a kind of private key that TLS does not use"),
        (
            "encrypted.key",
            "encrypted with a pass phrase; decrypt it: openssl pkey",
        ),
        (
            "old-encrypted.key",
            "encrypted with a pass phrase; decrypt it: openssl pkey",
        ),
        ("cut.key", "its PEM block 1 is cut off"),
        ("letters.key", "its PEM block 1 is damaged"),
        ("bytes.key", "the key is damaged"),
        ("pkcs1.key", "the key is damaged"),
        ("curve.key", "does not name its curve"),
        ("other.key", "other.key does not belong to the certificate"),
        ("rsa.key", "rsa.key does not belong to the certificate"),
    ] {
        let text = refusal(&lab.with("client.pem", file)).to_string();
        eprintln!("{text}");
        assert!(text.contains(phrase), "{file}: {text}");
        assert!(text.contains(file), "{file}: {text}");
        assert!(text.contains("`key`"), "{file}: {text}");
        assert!(!text.contains("secret"), "{file}: {text}");
        // No line of a key may be quoted.
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!text.contains(line), "{file}: {text}");
        }
    }
}

#[test]
fn a_bad_certificate_or_ca_file_is_named() {
    let lab = Lab::new();
    lab.openssl("x509 -in client.pem -outform der -out binary.pem");
    lab.openssl("req -new -key client.key -subj /CN=me -out request.pem");
    lab.openssl("crl2pkcs7 -nocrl -certfile client.pem -out bundle.pem");
    lab.write("empty.pem", "");
    lab.write("noise.pem", "no certificate here");
    lab.write(
        "bytes.pem",
        pem::encode(&Pem::new("CERTIFICATE", b"0123456789")),
    );
    let second = lab.text("client.pem") + &lab.text("bytes.pem");
    lab.write("second.pem", second);
    fs::create_dir(lab.path("folder.pem")).unwrap();

    for (file, phrase) in [
        ("missing.pem", "there is no such file"),
        ("folder.pem", "it is a directory"),
        ("empty.pem", "the file is empty"),
        ("noise.pem", "it is not PEM"),
        ("binary.pem", "openssl x509 -inform der"),
        ("client.key", "it holds a private key and no certificate"),
        ("request.pem", "block 1 is a signing request"),
        ("bundle.pem", "openssl pkcs7 -print_certs"),
        ("bytes.pem", "certificate number 1 in it is damaged"),
        ("second.pem", "certificate number 2 in it is damaged"),
    ] {
        let as_ca = TlsOptions {
            ca_file: Some(lab.path(file)),
            ..TlsOptions::default()
        };
        for (options, option) in [
            (lab.with(file, "client.key"), "`cert`"),
            (as_ca, "`ca_file`"),
        ] {
            let text = refusal(&options).to_string();
            eprintln!("{text}");
            assert!(text.contains(phrase), "{file}: {text}");
            assert!(text.contains(file), "{file}: {text}");
            assert!(text.contains(option), "{file}: {text}");
        }
    }
    let swapped = refusal(&lab.with("client.key", "client.pem")).to_string();
    assert!(swapped.contains("perhaps they are swapped"), "{swapped}");
}

/// A block that is passed over would show only after connecting, as a CA or a certificate that is missing.
#[test]
fn a_damaged_block_beside_a_good_one_is_named() {
    let lab = Lab::new();
    let (good, key) = (lab.text("ca.pem"), lab.text("client.key"));
    let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} CERTIFICATE-----"));
    let body = good
        .trim()
        .trim_start_matches(&begin)
        .trim_end_matches(&end);
    let half = &body[..body.len() / 2];
    let damaged = [
        ("no end", format!("{begin}{body}"), "is cut off"),
        ("cut in the middle", format!("{begin}{half}"), "is cut off"),
        (
            "cut, and an end",
            format!("{begin}{half}{end}"),
            "is damaged",
        ),
        ("only its begin", begin.clone(), "is cut off"),
        (
            "cut within its end",
            format!("{begin}{body}-----END CERTIF"),
            "is damaged",
        ),
        (
            "no begin",
            format!("{}{end}", &body[1..]),
            "has no line -----BEGIN",
        ),
        ("only its end", end.clone(), "has no line -----BEGIN"),
        (
            "bad base64",
            format!("{begin}{}{end}", body.replacen('M', "*", 1)),
            "is damaged",
        ),
        (
            "a letter of another alphabet",
            format!("{begin}{}{end}", body.replacen('M', "М", 1)),
            "is damaged",
        ),
        (
            "one letter less",
            format!("{begin}{}{end}", body.replacen('M', "", 1)),
            "is damaged",
        ),
        ("nothing in it", format!("{begin}\n{end}"), "is damaged"),
        (
            "another end",
            format!("{begin}{body}-----END PRIVATE KEY-----"),
            "is damaged",
        ),
        (
            "an unknown label",
            format!("{begin}{body}{end}").replace("CERTIFICATE", "CERTIFCATE"),
            "is no certificate",
        ),
        (
            "four dashes before begin",
            format!("----BEGIN CERTIFICATE-----{body}{end}"),
            "is damaged",
        ),
        (
            "four dashes after begin",
            format!("-----BEGIN CERTIFICATE----{body}{end}"),
            "is damaged",
        ),
        (
            "four dashes before end",
            format!("{begin}{body}----END CERTIFICATE-----"),
            "is cut off",
        ),
        (
            "four dashes after end",
            format!("{begin}{body}-----END CERTIFICATE----"),
            "is damaged",
        ),
        (
            "other dashes",
            format!("{begin}{body}{end}").replace("-----", "\u{2014}"),
            "is damaged",
        ),
        (
            "small letters",
            format!("{begin}{body}{end}").replace("BEGIN", "begin"),
            "is damaged",
        ),
        (
            "a request",
            format!("{begin}{body}{end}").replace("CERTIFICATE", "CERTIFICATE REQUEST"),
            "signing request",
        ),
        (
            "a PKCS#7 bundle",
            format!("{begin}{body}{end}").replace("CERTIFICATE", "PKCS7"),
            "PKCS#7",
        ),
    ];
    for (what, block, phrase) in damaged {
        // Behind a good one, and between two.
        for (file, text) in [
            ("behind.pem", format!("{good}{block}\n")),
            ("between.pem", format!("{good}\n{block}\n{good}")),
            (
                "crlf.pem",
                format!("{good}\n{block}\n{good}").replace('\n', "\r\n"),
            ),
        ] {
            lab.write(file, &text);
            let as_ca = TlsOptions {
                ca_file: Some(lab.path(file)),
                ..TlsOptions::default()
            };
            for (options, option) in [
                (lab.with(file, "client.key"), "`cert`"),
                (as_ca, "`ca_file`"),
            ] {
                let text = refusal(&options).to_string();
                eprintln!("{what}, {file}: {text}");
                assert!(
                    text.contains(phrase) && text.contains(" 2 "),
                    "{what}, {file}: {text}"
                );
                assert!(
                    text.contains(file) && text.contains(option),
                    "{what}, {file}: {text}"
                );
            }
        }
    }
    // Beside the key as well, and none of its lines may be quoted.
    let secret: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let label = secret[0];
    for (what, text, phrase) in [
        (
            "a certificate cut off behind the key",
            format!("{key}{begin}{half}"),
            "block 2 is cut off",
        ),
        (
            "the key cut off behind a certificate",
            format!("{good}{}", &key[..key.len() / 2]),
            "block 2 is cut off",
        ),
        (
            "the key without its begin",
            format!("{good}{}", key.replace("-----BEGIN PRIVATE KEY-----", "")),
            "block 2 has no line -----BEGIN",
        ),
        (
            "the key on the line of its begin",
            format!("{good}-----BEGIN {label}-----\n{label}\n-----END"),
            "block 2 is",
        ),
        (
            "the key with another end",
            format!("{good}{}", key.replace("END PRIVATE KEY", label)),
            "block 2 is",
        ),
    ] {
        lab.write("two.key", &text);
        let error = refusal(&lab.with("client.pem", "two.key")).to_string();
        eprintln!("{what}: {error}");
        assert!(error.contains(phrase), "{what}: {error}");
        assert!(
            !secret.iter().any(|line| error.contains(line)),
            "{what}: {error}"
        );
    }
}

/// People and tools write all this around the blocks.
#[test]
fn other_text_around_the_blocks_is_allowed() {
    let lab = Lab::new();
    let (ca, client, key) = (
        lab.text("ca.pem"),
        lab.text("client.pem"),
        lab.text("client.key"),
    );
    for (what, text) in [
        (
            "comments",
            format!("# first\n{ca}\n# second: the END\n{client}\n# -----\n"),
        ),
        (
            "lines of dashes",
            format!("-----\nlab CA\n=====\n{ca}----------\n---- BEGIN here\n--\n{ca}"),
        ),
        (
            "as openssl prints them",
            format!("subject=CN = x\nissuer=CN = y\n{ca}---\nServer certificate\n{ca}"),
        ),
        ("no line break between", format!("{}{}", ca.trim(), client)),
        ("blanks behind the lines", ca.replace('\n', "  \n")),
        ("CRLF", ca.replace('\n', "\r\n")),
        ("CR", ca.replace('\n', "\r")),
        ("no line break at the end", ca.trim().to_owned()),
        ("the key behind", format!("{ca}{key}")),
        ("Latin-1", format!("# Z\u{fffd}rich\n{ca}")),
    ] {
        let bytes: Vec<u8> = match what {
            "Latin-1" => text
                .chars()
                .map(|c| if c.is_ascii() { c as u8 } else { 0xfc })
                .collect(),
            _ => text.into_bytes(),
        };
        lab.write("around.pem", bytes);
        let options = TlsOptions {
            ca_file: Some(lab.path("around.pem")),
            ..TlsOptions::default()
        };
        if let Err(error) = connector(&options) {
            panic!("{what}: {error}");
        }
    }
}

#[test]
fn a_bad_pkcs12_archive_is_named() {
    let lab = Lab::new();
    let export = "pkcs12 -export -passout pass:secret";
    lab.openssl(&format!(
        "{export} -in client.pem -inkey client.key -out good.p12"
    ));
    lab.openssl(&format!("{export} -in client.pem -nokeys -out no-key.p12"));
    lab.openssl(&format!(
        "{export} -inkey client.key -nocerts -in client.key -out no-cert.p12"
    ));
    for (name, more) in [
        ("no-mac", "-nomac"),
        ("open", "-nomac -keypbe NONE -certpbe NONE"),
        (
            "old-no-mac",
            "-nomac -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES",
        ),
    ] {
        lab.openssl(&format!(
            "{export} -in client.pem -inkey client.key {more} -out {name}.p12"
        ));
        // The advice works.
        lab.openssl(&format!(
            "pkcs12 -nomacver -in {name}.p12 -nodes -out {name}.p12.pem -passin pass:secret"
        ));
        let file = format!("{name}.p12.pem");
        assert!(connector(&lab.with(&file, &file)).is_ok(), "{name}");
    }
    let whole = fs::read(lab.path("good.p12")).unwrap();
    lab.write("cut.p12", &whole[..whole.len() / 2]);
    lab.write("noise.p12", "0123456789");
    lab.write("empty.p12", "");
    let mut cases = vec![
        ("good.p12", "wrong-password", "the password is wrong"),
        ("good.p12", "wrong\0password", "a NUL character"),
        (
            "good.p12",
            "",
            "it is protected by a password and none was given",
        ),
        ("no-mac.p12", "secret", "openssl pkcs12 -nomacver -in"),
        ("no-mac.p12", "", "it has no checksum (MAC)"),
        ("no-mac.p12", "wrong-password", "it has no checksum (MAC)"),
        ("open.p12", "wrong-password", "it has no checksum (MAC)"),
        ("old-no-mac.p12", "secret", "it has no checksum (MAC)"),
        ("cut.p12", "secret", "damaged or no PKCS#12 archive"),
        ("no-key.p12", "secret", "it lacks the private key"),
        (
            "no-cert.p12",
            "secret",
            "it lacks the private key, or the certificate",
        ),
        ("noise.p12", "secret", "damaged or no PKCS#12 archive"),
        ("empty.p12", "secret", "the file is empty"),
        ("missing.p12", "secret", "there is no such file"),
        (
            "client.pem",
            "secret",
            "give PEM files with `cert` and `key`",
        ),
    ];
    // Only OpenSSL 3 has the option -legacy. Earlier versions can read every archive, so they need no case here.
    let legacy = Command::new("openssl")
        .args(["pkcs12", "-export", "-legacy", "-passout", "pass:secret"])
        .args([
            "-in",
            "client.pem",
            "-inkey",
            "client.key",
            "-out",
            "legacy.p12",
        ])
        .current_dir(lab.dir.path())
        .output()
        .expect("these tests need the program openssl");
    if legacy.status.success() {
        cases.push(("legacy.p12", "secret", "openssl pkcs12 -legacy -in"));
        // The advice works.
        lab.openssl("pkcs12 -legacy -in legacy.p12 -nodes -out legacy.p12.pem -passin pass:secret");
        assert!(connector(&lab.with("legacy.p12.pem", "legacy.p12.pem")).is_ok());
    }
    for (file, password, phrase) in cases {
        let options = lab.with_pkcs12(file, password);
        let error = refusal(&options);
        let text = error.to_string();
        eprintln!("{text}");
        assert!(text.contains(phrase), "{file}: {text}");
        assert!(text.contains(file), "{file}: {text}");
        for shown in [text, format!("{error:?} {options:?}")] {
            assert!(!shown.contains("secret"), "{shown}");
            assert!(!shown.contains("wrong-password"), "{shown}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_read_is_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let path = lab.path("client.key");
    for (mode, exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let file = NamedFile::read("private key", "key", &path).unwrap();
        assert_eq!(file.is_exposed(), exposed, "{mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root can read every file, so there is no error to check then.
    if fs::read(&path).is_err() {
        let text = refusal(&lab.with("client.pem", "client.key")).to_string();
        assert!(text.contains("permission denied"), "{text}");
    }
}

#[test]
fn names_are_checked_and_chosen() {
    let with_name = |name: Option<&str>| TlsOptions {
        server_name: name.map(str::to_owned),
        ..TlsOptions::default()
    };
    for (name, expected) in [
        (None, "broker.example"),
        (Some("other.example"), "other.example"),
        (Some("other.example."), "other.example"),
        (Some(""), "broker.example"),
    ] {
        let options = with_name(name);
        assert_eq!(server_name(&options, "broker.example."), expected);
    }
    // OpenSSL would read some of these as "do not verify" and "any subdomain".
    for name in ["", ".example.com", "a b", "."] {
        let text = refusal(&with_name(Some(name))).to_string();
        assert!(text.contains("`server_name`"), "{text}");
    }
    for name in [String::new(), "a".repeat(256)] {
        let options = TlsOptions {
            alpn: vec!["mqtt".into(), name],
            ..TlsOptions::default()
        };
        let text = refusal(&options).to_string();
        assert!(text.contains("`alpn`"), "{text}");
    }
}
