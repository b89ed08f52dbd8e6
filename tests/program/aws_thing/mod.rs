//! `scripts/aws-thing.sh` against a stand-in for the aws command (`aws.sh`), and the set-up that it makes against a broker
//! that behaves like AWS IoT Core (`broker.rs`, `policy.rs`).
//!
//! The program connects to a port of 127.0.0.1 here, by variables that a script in its place sets. The test
//! `on_the_real_names_and_ports` does without, in namespaces of its own.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

mod broker;
mod policy;
mod real_names;
mod refusals;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Certs, Finished, Program};
use broker::AwsBroker;

const HOST: &str = "abc123-ats.iot.eu-central-1.amazonaws.com";

/// A copy of what the script needs of the repository, and an account of the stand-in for the aws command.
struct World {
    folder: TempDir,
    certs: Certs,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World {
            folder,
            certs: Certs::generate(),
        };
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in [
            "scripts/aws-thing.sh",
            "scripts/common.sh",
            "config/aws-iot-policy.json",
        ] {
            let to = world.file(file);
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            fs::copy(own.join(file), to).expect("a copy");
        }
        for folder in ["certs", "bin", "account"] {
            fs::create_dir(world.file(folder)).expect("a folder");
        }
        let stand_in = own.join("tests/program/aws_thing/aws.sh");
        fs::copy(stand_in, world.file("bin/aws")).expect("a copy");
        world
    }

    /// A path in the copy of the repository.
    fn file(&self, name: &str) -> PathBuf {
        // A folder with a blank in its name finds what is not quoted.
        self.folder.path().join("a repository").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn exists(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    fn mode(&self, name: &str) -> u32 {
        let metadata = fs::metadata(self.file(name)).expect("a file");
        metadata.permissions().mode() & 0o777
    }

    fn broker(&self, needs_alpn: bool) -> AwsBroker {
        let server = self.certs.signed("aws", &[HOST], |_| {});
        AwsBroker::start(0, needs_alpn, &server, &self.file("account"))
    }

    /// Puts a script in the program's place, which sends it to this port of 127.0.0.1.
    fn lead_to(&self, port: u16) {
        let text = format!(
            "#!/bin/sh\nexport MQTT_ENDPOINT=127.0.0.1:{port} MQTT_TLS_SERVER_NAME={HOST} MQTT_CA_FILE='{}'\n\
             exec '{}' \"$@\"\n",
            self.certs.ca().display(),
            env!("CARGO_BIN_EXE_mqtt-connection-sharing"),
        );
        self.write("program", &text);
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(self.file("program"), mode).expect("permissions");
    }

    fn command(&self, command: impl AsRef<std::ffi::OsStr>) -> Program {
        let path = std::env::var("PATH").expect("a path");
        let bin = self.file("bin");
        let bin = bin.to_str().expect("text");
        Program::other(command)
            .env("PATH", format!("{bin}:{path}"))
            .env("AWS_STAND_IN", self.file("account"))
            .env("AWS_REGION", "eu-central-1")
            .env("MQTT_CONNECTION_SHARING_BIN", self.file("program"))
            // The script must not pass these on.
            .env("MQTT_CLIENT_ID", "somebody-else")
    }

    /// Runs the script with these arguments.
    fn run(&self, arguments: &[&str]) -> Finished {
        let script = self.file("scripts/aws-thing.sh");
        self.command("bash").arg(script).args(arguments).run()
    }

    /// The calls of the aws command since the last call of this.
    fn calls(&self) -> String {
        let calls = fs::read_to_string(self.file("account/calls")).unwrap_or_default();
        drop(fs::remove_file(self.file("account/calls")));
        calls
    }

    /// The certificates of the account.
    fn certificates(&self) -> Vec<String> {
        self.names("account/certificates")
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.file(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .map(|name| name.into_string().expect("text"))
            .collect()
    }
}

/// Whether these calls change anything.
fn change(calls: &str) -> bool {
    calls.lines().any(|call| {
        // Options of the aws command itself may stand before the service.
        let mut words = call
            .split(' ')
            .skip_while(|word| !["iot", "sts"].contains(word));
        let action = words.nth(1).unwrap_or_default();
        !["get-", "describe-", "list-"]
            .iter()
            .any(|reading| action.starts_with(reading))
    })
}

/// Checks that `certs/README.md` names the permission for each of these calls.
fn expect_explained(calls: &str) {
    let paper = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/README.md");
    let paper = fs::read_to_string(paper).expect("a paper");
    let mut seen = 0;
    for call in calls.lines().filter_map(|call| call.strip_prefix("iot ")) {
        let action = call.split(' ').next().expect("an action");
        let words = action
            .split('-')
            .map(|word| word[..1].to_uppercase() + &word[1..]);
        let permission = format!("`{}`", words.collect::<String>());
        assert!(
            paper.contains(&permission),
            "certs/README.md lacks {permission}"
        );
        seen += 1;
    }
    assert!(seen > 8, "{calls}");
}

#[test]
fn a_thing_is_made_and_checked_and_taken_up_and_undone() {
    let world = World::new();
    let broker = world.broker(false);
    world.lead_to(broker.port());

    let done = world.run(&["--dry-run", "my-thing"]);
    done.expect_code(0);
    assert!(!change(&world.calls()), "{done}");
    assert_eq!(
        done.stdout.matches("would run: aws iot ").count(),
        5,
        "{done}"
    );
    assert!(!world.exists("certs/my-thing"), "{done}");

    let done = world.run(&["my-thing"]);
    done.expect_code(0);
    assert!(done.stdout.contains("\nok: 10 steps in "), "{done}");
    assert!(done.stdout.contains("accepted as \"my-thing\""), "{done}");
    assert_eq!(broker.closings(), [""; 0], "{done}");
    let [certificate] = &world.certificates()[..] else {
        panic!("not one certificate: {done}");
    };
    // The key was for its owner alone in the moment in which it was written, and is now.
    assert_eq!(world.read("account/key-modes"), "600\n700\n");
    assert_eq!(world.mode("certs/my-thing"), 0o700);
    for file in world.names("certs/my-thing") {
        assert_eq!(
            world.mode(&format!("certs/my-thing/{file}")),
            0o600,
            "{file}"
        );
    }
    let key = world.read("certs/my-thing/private.pem.key");
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    let line = key.lines().nth(1).expect("a line");
    assert!(!done.stdout.contains(line) && !done.stderr.contains(line));
    let policy: Value =
        serde_json::from_str(&world.read("certs/my-thing/policy.json")).expect("JSON");
    assert_eq!(
        policy["Statement"][0]["Resource"],
        "arn:aws:iot:eu-central-1:123456789012:client/my-thing"
    );
    expect_explained(&world.calls());

    // The policy allows the demo and the bench, too.
    let program = || {
        world
            .command(world.file("program"))
            .env("MQTT_CLIENT_ID", "my-thing")
    };
    let config = world.file("config/my-thing.toml");
    for words in [
        &["--iterations=1", "--publish-delay=0"][..],
        &["bench", "--receive", "--messages=20", "--window=10"],
    ] {
        let done = program().args(words).arg("--config").arg(&config).run();
        done.expect_code(0);
        assert_eq!(broker.closings(), [""; 0], "{done}");
    }

    let done = world.run(&["my-thing"]);
    done.expect_code(0);
    assert_eq!(done.stdout.matches("\nkept  ").count() + 1, 4, "{done}");
    assert!(!done.stdout.contains("note: "), "{done}");
    assert_eq!(world.certificates(), [certificate.as_str()], "{done}");
    assert_eq!(world.read("certs/my-thing/private.pem.key"), key);
    assert!(!world.calls().contains(" iot create-"), "{done}");

    let done = world.run(&["--delete", "my-thing"]);
    done.expect_code(2);
    assert!(done.stderr.contains("needs a terminal to ask on, or --yes"));
    let done = world
        .command("bash")
        .arg("-c")
        .arg("echo n | script -qec \"bash '$0' --delete my-thing\" /dev/null")
        .arg(world.file("scripts/aws-thing.sh"))
        .run();
    done.expect_code(1);
    let asked = done.stdout.split_once("Delete these? [y/N]");
    let (listed, answer) = asked.unwrap_or_else(|| panic!("{done}"));
    assert!(listed.contains(&format!(":cert/{certificate}")), "{done}");
    assert!(answer.contains("nothing is deleted"), "{done}");
    let done = world.run(&["--delete", "--dry-run", "my-thing"]);
    done.expect_code(0);
    assert!(!change(&world.calls()), "{done}");
    assert_eq!(
        done.stdout.matches("would run: aws iot ").count(),
        6,
        "{done}"
    );

    // AWS refuses the first deletion, since it detaches in the background.
    world.write("account/lagging", "");
    world.run(&["--delete", "--yes", "my-thing"]).expect_code(0);
    assert!(!world.exists("account/lagging"));
    expect_explained(&world.calls());
    for folder in ["things", "policies", "certificates"] {
        assert_eq!(world.names(&format!("account/{folder}")), [""; 0]);
    }
    assert_eq!(world.names("certs"), [""; 0]);
    assert_eq!(world.names("config"), ["aws-iot-policy.json"]);
    world.calls();
    world.run(&["--delete", "--yes", "my-thing"]).expect_code(0);
    assert!(!change(&world.calls()));
}

#[test]
fn on_port_443_the_application_protocol_is_in_the_configuration() {
    let world = World::new();
    let broker = world.broker(true);
    world.lead_to(broker.port());
    let done = world.run(&["--port", "443", "my-thing"]);
    done.expect_code(0);
    assert_eq!(broker.closings(), [""; 0], "{done}");
    let config = world.read("config/my-thing.toml");
    let table: toml::Table = config.parse().expect("TOML");
    assert_eq!(table["port"].as_integer(), Some(443));

    // Without it the broker closes the connection.
    let (before, _) = config.split_once("alpn = ").expect("the protocol");
    world.write("config/my-thing.toml", before);
    let without = world
        .command(world.file("program"))
        .env("MQTT_CLIENT_ID", "my-thing")
        .args(["check", "--config"])
        .arg(world.file("config/my-thing.toml"))
        .run();
    without.expect_code(3);
    assert_eq!(broker.closings(), ["no x-amzn-mqtt-ca in the handshake"]);

    let done = world.run(&["--port", "443", "my-thing"]);
    done.expect_code(0);
    // The former one is kept: somebody may have changed it.
    assert_eq!(world.read("config/my-thing.toml.old"), before);
    world.run(&["--delete", "--yes", "my-thing"]).expect_code(0);
    assert_eq!(world.names("config"), ["aws-iot-policy.json"]);
}

#[test]
fn a_lost_key_gets_another_certificate_and_the_old_one_is_named() {
    let world = World::new();
    let broker = world.broker(false);
    world.lead_to(broker.port());
    world.run(&["my-thing"]).expect_code(0);
    let old = world.certificates().remove(0);

    // A certificate alone can be fetched again.
    fs::remove_file(world.file("certs/my-thing/certificate.pem.crt")).expect("a file");
    world.run(&["my-thing"]).expect_code(0);
    assert_eq!(world.certificates(), [old.as_str()]);

    fs::remove_file(world.file("certs/my-thing/private.pem.key")).expect("a file");
    let done = world.run(&["my-thing"]);
    done.expect_code(0);
    assert!(
        done.stdout.contains(&format!(
            "whose key is not here: arn:aws:iot:eu-central-1:123456789012:cert/{old}"
        )),
        "{done}"
    );
    assert!(done.stdout.contains("\nok: 10 steps in "), "{done}");
    assert_eq!(world.certificates().len(), 2);
    // Both were made here.
    world.run(&["--delete", "--yes", "my-thing"]).expect_code(0);
    assert_eq!(world.certificates(), [""; 0]);

    // One that is deleted at AWS is replaced, too.
    world.run(&["my-thing"]).expect_code(0);
    let gone = world.certificates().remove(0);
    fs::remove_dir_all(world.file("account/certificates").join(&gone)).expect("a folder");
    let done = world.run(&["my-thing"]);
    done.expect_code(0);
    assert!(
        done.stdout.contains(&format!("{gone} is no longer at AWS")),
        "{done}"
    );
}

#[test]
fn what_others_use_is_kept() {
    let world = World::new();
    let broker = world.broker(false);
    world.lead_to(broker.port());
    world.run(&["my-thing"]).expect_code(0);
    let mine = world.certificates().remove(0);
    // A certificate that was not made here has the policy and the thing.
    for folder in ["policies", "things"] {
        fs::create_dir_all(world.file("account/certificates/other").join(folder))
            .expect("a folder");
    }
    world.write(
        "account/certificates/other/policies/mqtt-connection-sharing-my-thing",
        "",
    );
    world.write("account/certificates/other/things/my-thing", "");
    // Another thing uses the certificate that was made here.
    let other_thing = format!("account/certificates/{mine}/things/other-thing");
    world.write(&other_thing, "");

    let done = world.run(&["--delete", "--yes", "my-thing"]);
    done.expect_code(0);
    assert_eq!(done.stdout.matches("kept  ").count(), 4, "{done}");
    assert_eq!(world.certificates().len(), 2, "{done}");
    assert!(world.exists("certs/my-thing/private.pem.key"), "{done}");

    fs::remove_file(world.file(&other_thing)).expect("a file");
    let done = world.run(&["--delete", "--yes", "my-thing"]);
    done.expect_code(0);
    assert_eq!(world.certificates(), ["other"], "{done}");
    assert_eq!(done.stdout.matches(":cert/other").count(), 2, "{done}");
    assert_eq!(world.names("account/things"), ["my-thing"]);
    assert_eq!(world.names("account/policies").len(), 1);

    // Both were made here, and go when they are free.
    assert_eq!(world.names("certs/my-thing"), ["made-here"], "{done}");
    fs::remove_dir_all(world.file("account/certificates/other")).expect("a folder");
    let done = world.run(&["--delete", "--yes", "my-thing"]);
    done.expect_code(0);
    assert_eq!(world.names("account/things"), [""; 0], "{done}");
    assert_eq!(world.names("account/policies"), [""; 0], "{done}");
    assert!(!world.exists("certs/my-thing"), "{done}");
}

#[test]
fn a_deletion_may_be_repeated_while_several_others_use_the_certificate() {
    let world = World::new();
    let broker = world.broker(false);
    world.lead_to(broker.port());
    world.run(&["my-thing"]).expect_code(0);
    let mine = world.certificates().remove(0);
    for other in ["one", "two"] {
        world.write(&format!("account/certificates/{mine}/things/{other}"), "");
    }
    for _ in 0..2 {
        let done = world.run(&["--delete", "--yes", "my-thing"]);
        done.expect_code(0);
        assert!(done.stdout.contains("other things use: one, two"), "{done}");
        assert_eq!(world.names("account/things"), [""; 0]);
    }
    fs::remove_dir_all(world.file(&format!("account/certificates/{mine}/things"))).expect("one");
    world.run(&["--delete", "--yes", "my-thing"]).expect_code(0);
    assert_eq!(world.certificates(), [""; 0]);
    assert_eq!(world.names("certs"), [""; 0]);
    // Nothing was there to remove, and so the script tells of nothing.
    let done = world.run(&["--delete", "--yes", "my-thing"]);
    done.expect_code(0);
    assert!(!done.stdout.contains("gone  "), "{done}");
}
