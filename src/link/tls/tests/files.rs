//! Files and values from which no connector can be built. The error names each, and quotes none.

use super::*;

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
        let as_ca = lab.trusting_only(file);
        for (options, option) in [(lab.with(file, "client.key"), "`cert`"), (as_ca, "`ca`")] {
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
        let file = Loaded::read("private key", "key", &path.as_path().into()).unwrap();
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
    ] {
        let options = with_name(name);
        assert_eq!(
            connector(&options).unwrap().name("broker.example."),
            expected
        );
    }
    // The zone of an address means nothing to the other side.
    for (host, expected) in [
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1", "fe80::1"),
        ("not%address", "not%address"),
    ] {
        let connector = connector(&with_name(None)).unwrap();
        assert_eq!(connector.name(host), expected);
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
