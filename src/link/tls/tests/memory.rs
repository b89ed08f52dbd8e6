//! Certificates and keys from memory, and from what can be read only once.

use super::*;

fn memory(text: impl Into<Secret>) -> Material {
    Material::from(text.into())
}

#[test]
fn certificate_key_and_authority_from_memory_connect() {
    let lab = Lab::new();
    lab.openssl("pkcs12 -export -passout pass:secret -in client.pem -inkey client.key -out c.p12");
    let archive = fs::read(lab.path("c.p12")).unwrap();
    let broker = lab.strict_broker("");
    let identities = [
        options::Identity::pem(
            memory(lab.text("client.pem")),
            memory(lab.text("client.key")),
        ),
        options::Identity::pem(lab.path("client.pem"), memory(lab.text("client.key"))),
        options::Identity::pkcs12(memory(archive), "secret"),
    ];
    let authority = lab.text("ca.pem");
    for identity in identities {
        let options = TlsOptions {
            ca: Some(memory(authority.as_str())),
            identity: Some(identity),
            ..TlsOptions::default()
        };
        if let Err(error) = talk(&options, broker.address) {
            panic!("{error}");
        }
    }
}

#[test]
fn wrong_contents_in_memory_are_named_by_their_option_and_not_shown() {
    let lab = Lab::new();
    let (cert, key) = (lab.text("client.pem"), lab.text("client.key"));
    let other = KeyPair::generate().unwrap().serialize_pem();
    let pem = |cert: &str, key: &str| TlsOptions {
        identity: Some(options::Identity::pem(memory(cert), memory(key))),
        ..TlsOptions::default()
    };
    let ca = |ca: &str| TlsOptions {
        ca: Some(memory(ca)),
        ..TlsOptions::default()
    };
    let archive = |archive: &str, password: Vec<u8>| TlsOptions {
        identity: Some(options::Identity::pkcs12(memory(archive), password)),
        ..TlsOptions::default()
    };
    for (options, phrases) in [
        (
            pem(&cert, ""),
            ["private key in memory (`key`)", "it is empty"],
        ),
        (
            pem(&cert, &key[..80]),
            ["private key in memory (`key`)", "is cut off"],
        ),
        (
            pem(&cert, &cert),
            ["private key in memory (`key`)", "perhaps they are swapped"],
        ),
        (
            pem(&cert, "hunter2"),
            ["in memory (`key`)", "check what is given with `key`"],
        ),
        (
            pem("hunter2", &key),
            ["client certificate in memory (`cert`)", "it is not PEM"],
        ),
        (
            pem(&cert, &other),
            ["the private key in memory", "the certificate in memory"],
        ),
        (
            ca("hunter2"),
            ["CA certificates in memory (`ca`)", "it is not PEM"],
        ),
        (
            archive("hunter2", vec![]),
            ["PKCS#12 archive in memory (`pkcs12`)", "it is damaged"],
        ),
        (
            archive("hunter2", vec![0xff]),
            ["in memory (`pkcs12`)", "no UTF-8 text"],
        ),
    ] {
        let text = refusal(&options).to_string();
        eprintln!("{text}");
        for phrase in phrases {
            assert!(text.contains(phrase), "{phrase}: {text}");
        }
        assert!(
            !text.contains("hunter2") && !text.contains("after `"),
            "{text}"
        );
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!text.contains(line), "{text}");
        }
    }
}

#[test]
fn a_broker_that_is_not_trusted_is_explained_without_a_file() {
    let lab = Lab::new();
    let (address, _) = lab.accept("broker.pem", "broker.key");
    let options = TlsOptions {
        ca: Some(memory(authority("strange CA").pem())),
        ..TlsOptions::default()
    };
    let error = connect(&options, address, "localhost").expect_err("an unknown CA");
    let expected = "the CA text in memory does not contain the CA that signed";
    assert!(error.to_string().contains(expected), "{error}");
}

/// A shell gives a key through a pipe: `--key <(pass show key)`. A later connection needs it again.
#[cfg(unix)]
#[test]
fn the_contents_of_a_pipe_are_kept_because_they_come_once() {
    let lab = Lab::new();
    let pipes = ["ca", "key"].map(|name| lab.path(&format!("{name}.pipe")));
    let made = Command::new("mkfifo").args(&pipes).status().unwrap();
    assert!(made.success());
    // More than the first buffer for a file without a length takes.
    let authorities = lab.text("ca.pem") + &format!("# {}\n", "x".repeat(60)).repeat(1000);
    let contents = [authorities, lab.text("client.key")];
    let writers: Vec<_> = pipes.clone().into_iter().zip(contents.clone()).collect();
    let writer = thread::spawn(move || {
        for (pipe, contents) in writers {
            fs::write(pipe, contents).unwrap();
        }
    });
    let [ca, key] = pipes;
    let options = TlsOptions {
        ca: Some(ca.into()),
        identity: Some(options::Identity::pem(lab.path("client.pem"), key)),
        ..TlsOptions::default()
    };
    let first = connector(&options).unwrap();
    writer.join().unwrap();
    let [authorities, key] = contents;
    assert_eq!(first.options.ca, Some(memory(authorities)));
    let kept = options::Identity::pem(lab.path("client.pem"), memory(key));
    assert_eq!(first.options.identity, Some(kept));
    let broker = lab.strict_broker("");
    if let Err(error) = talk(&first.options, broker.address) {
        panic!("{error}");
    }
}

#[test]
fn a_connector_is_made_anew_only_if_contents_have_changed_and_can_be_used() {
    let lab = Lab::new();
    lab.openssl("pkcs12 -export -passout pass:secret -in client.pem -inkey client.key -out c.p12");
    let key = KeyPair::generate().unwrap();
    let other = lab.sign(params("other", &["other"]), &key);
    let options = lab.with("client.pem", "client.key");
    let first = connector(&options).unwrap();
    let (in_force, digest) = first.made_with();
    let again = |wanted: &TlsOptions| renewed(wanted, &in_force, digest);
    assert!(again(&options).unwrap().is_none());
    lab.write("client.key", lab.text("client.key"));
    assert!(again(&options).unwrap().is_none(), "the same contents");
    // The same certificate from elsewhere is the one to read from now on.
    lab.write("copy.pem", lab.text("client.pem"));
    let moved = again(&lab.with("copy.pem", "client.key")).unwrap().unwrap();
    assert_eq!(moved.made_with().1, digest);
    assert_eq!(moved.options, lab.with("copy.pem", "client.key"));

    // One of a pair comes after the other.
    lab.write("client.pem", &other);
    let error = again(&options).unwrap_err();
    assert!(error.problem().contains("does not belong"), "{error}");
    lab.write("client.key", key.serialize_pem());
    let second = again(&options).unwrap().unwrap();
    assert_eq!(second.common_name(), Some(Some("\"other\"".to_owned())));
    assert_ne!(second.made_with().1, digest);

    // Each part counts by itself: an authority alone, and an archive with another password.
    lab.write(
        "ca.pem",
        lab.authority.pem() + &authority("second CA").pem(),
    );
    let third = again(&options).unwrap().unwrap();
    assert_ne!(third.made_with().1, second.made_with().1);
    let archive = |password| Contents::read(&lab.with_pkcs12("c.p12", password)).unwrap();
    assert_eq!(archive("secret").digest(), archive("secret").digest());
    assert_ne!(archive("secret").digest(), archive("secre").digest());
    let without = Contents::read(&TlsOptions::default()).unwrap();
    assert_ne!(without.digest(), archive("").digest());
}
