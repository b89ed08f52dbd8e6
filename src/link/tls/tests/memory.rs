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
