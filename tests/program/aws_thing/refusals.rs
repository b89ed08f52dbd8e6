//! The faults that stop `scripts/aws-thing.sh` or that the check at its end finds: each error says what to do.

use std::fs;
use std::os::unix::fs::symlink;

use super::{World, change};

#[test]
fn each_failure_of_the_aws_command_says_what_to_do() {
    let world = World::new();
    world.lead_to(1);
    for (action, status, text, words) in [
        (
            "*",
            253,
            "Unable to locate credentials. You can configure credentials by running \"aws configure\".",
            &[
                "asking for the account: ",
                "has no credentials",
                "--profile",
            ][..],
        ),
        (
            "*",
            255,
            "The config profile (nobody) could not be found",
            &["aws configure list-profiles"],
        ),
        (
            "describe-endpoint",
            253,
            "You must specify a region. You can also configure your region by running \"aws configure\".",
            &["asking for the account's endpoint: ", "give --region"],
        ),
        (
            "get-caller-identity",
            254,
            "An error occurred (ExpiredToken) when calling the GetCallerIdentity operation: The security token is expired",
            &["renew them"],
        ),
        (
            "create-thing",
            254,
            "An error occurred (AccessDeniedException) when calling the CreateThing operation: User: me is not authorized",
            &[
                "making the thing: ",
                "have the permission iot:CreateThing given",
            ],
        ),
        (
            "create-keys-and-certificate",
            254,
            "An error occurred (LimitExceededException) when calling the CreateKeysAndCertificate operation: no more",
            &["making a certificate: ", "as many as it may"],
        ),
        (
            "attach-policy",
            254,
            "An error occurred (UnauthorizedException) when calling the AttachPolicy operation: None",
            &[
                "attaching the policy: ",
                "have the permission iot:AttachPolicy given",
            ],
        ),
        (
            "describe-thing",
            255,
            "Could not connect to the endpoint URL: \"https://iot.nowhere-9.amazonaws.com/things/my-thing\"",
            &["the network and the spelling of the region"],
        ),
        (
            "get-policy",
            254,
            "An error occurred (ThrottlingException) when calling the GetPolicy operation: Rate exceeded",
            &["looking for the policy: ", "in a minute"],
        ),
        (
            "describe-endpoint",
            254,
            "An error occurred (InternalFailureException) when calling the DescribeEndpoint operation: None",
            &["InternalFailureException", "it goes on where it stopped"],
        ),
    ] {
        world.write("account/failures", &format!("{action} {status} {text}\n"));
        let done = world.run(&["my-thing"]);
        done.expect_code(1);
        assert_eq!(done.stderr.lines().count(), 1, "{done}");
        assert!(done.stderr.contains(text), "{done}");
        for words in words {
            assert!(done.stderr.contains(words), "{words}: {done}");
        }
        // A run that stops leaves no half of a key behind.
        let left = fs::read_dir(world.file("certs/my-thing"))
            .into_iter()
            .flatten();
        let left: Vec<_> = left
            .filter_map(Result::ok)
            .map(|it| it.file_name())
            .collect();
        assert!(
            left.iter()
                .all(|name| !name.to_string_lossy().starts_with('.')),
            "{left:?}"
        );
    }
    fs::remove_file(world.file("account/failures")).expect("a file");
    let done = world
        .command("bash")
        .arg(world.file("scripts/aws-thing.sh"))
        .arg("my-thing")
        .env("AWS_REGION", "")
        .run();
    done.expect_code(1);
    assert!(done.stderr.contains("give --region"), "{done}");
    // A folder with the few tools that the script needs until then, and no aws.
    let tools = world.file("tools");
    fs::create_dir(&tools).expect("a folder");
    let path = std::env::var_os("PATH").expect("a path");
    for tool in ["basename", "dirname", "head"] {
        let mut files = std::env::split_paths(&path).map(|folder| folder.join(tool));
        let found = files.find(|file| file.exists());
        symlink(found.expect("a tool"), tools.join(tool)).expect("a link");
    }
    let done = world
        .command("/bin/bash")
        .arg(world.file("scripts/aws-thing.sh"))
        .arg("my-thing")
        .env("PATH", tools)
        .env("CARGO_HOME", "/nowhere")
        .run();
    done.expect_code(127);
    assert!(
        done.stderr.contains("install AWS's command line: https://"),
        "{done}"
    );
}

#[test]
fn names_and_files_that_cannot_be_are_refused_before_any_call() {
    let world = World::new();
    world.lead_to(1);
    let long = "x".repeat(101);
    for name in ["a:b", "a/b", "..", "_a", "a b", "a\"b", "ä", "", &long] {
        let done = world.run(&[name]);
        done.expect_code(2);
        assert_eq!(done.stderr.lines().count(), 1, "{name}: {done}");
    }
    for arguments in [
        &[][..],
        &["a", "b"],
        &["--port", "1883", "a"],
        &["--region"],
        &["-x", "a"],
    ] {
        world.run(arguments).expect_code(2);
    }
    // The program's own file of settings has such a name.
    world.write("config/demo.toml", "# Every setting\n");
    for arguments in [&["demo"][..], &["--delete", "--yes", "demo"]] {
        let done = world.run(arguments);
        done.expect_code(2);
        assert!(done.stderr.contains("choose another name"), "{done}");
    }
    assert_eq!(world.read("config/demo.toml"), "# Every setting\n");
    assert_eq!(world.calls(), "");
    assert_eq!(world.names("certs"), [""; 0]);
    world.run(&["--help"]).expect_code(0);
}

#[test]
fn what_is_there_and_differs_is_named_and_left_alone() {
    let world = World::new();
    let broker = world.broker(false);
    world.lead_to(broker.port());
    world.run(&["my-thing"]).expect_code(0);

    // Another account, another region: the files belong to a certificate that still exists.
    world.calls();
    world.write("account/account", "210987654321\n");
    for arguments in [&["my-thing"][..], &["--delete", "--yes", "my-thing"]] {
        let done = world.run(arguments);
        done.expect_code(1);
        assert!(
            done.stderr
                .contains("has a key for arn:aws:iot:eu-central-1:123456789012,"),
            "{done}"
        );
    }
    fs::remove_file(world.file("account/account")).expect("a file");
    let done = world.run(&["--delete", "--yes", "--region", "us-east-1", "my-thing"]);
    done.expect_code(1);
    assert!(!change(&world.calls()), "{done}");
    assert!(world.exists("certs/my-thing/private.pem.key"));

    // A policy with another text keeps it.
    let policy = "account/policies/mqtt-connection-sharing-my-thing/1";
    let other = world
        .read(policy)
        .replace("PersistentConnect\"", "PersistentConnect\", \"LastWill\"");
    world.write(policy, &other);
    let done = world.run(&["my-thing"]);
    done.expect_code(0);
    assert!(
        done.stdout.contains("this policy has another text"),
        "{done}"
    );
    assert!(
        done.stdout
            .contains(" iot create-policy-version --policy-name "),
        "{done}"
    );
    assert_eq!(world.read(policy), other);

    // So does a certificate that somebody has deactivated.
    let id = world.certificates().remove(0);
    let status = format!("account/certificates/{id}/status");
    world.write(&status, "INACTIVE\n");
    let done = world.run(&["my-thing"]);
    done.expect_code(1);
    assert!(
        done.stderr
            .contains(&format!("--certificate-id {id} --new-status ACTIVE")),
        "{done}"
    );
    assert_eq!(world.read(&status), "INACTIVE\n");

    // The other way out that it names ends with a set-up that can be undone.
    assert!(
        done.stderr
            .contains("remove 'certs/my-thing/private.pem.key'"),
        "{done}"
    );
    fs::remove_file(world.file("certs/my-thing/private.pem.key")).expect("a file");
    world.run(&["my-thing"]).expect_code(0);
    assert_eq!(world.certificates().len(), 2);
    let done = world.run(&["--delete", "--yes", "my-thing"]);
    done.expect_code(0);
    assert_eq!(world.certificates(), [""; 0], "{done}");
    assert_eq!(world.names("account/things"), [""; 0], "{done}");
}

/// AWS gives a key once, and nobody else has it.
#[test]
fn a_key_or_certificate_that_was_not_made_here_is_left_alone() {
    let world = World::new();
    world.lead_to(1);
    fs::create_dir(world.file("account/things")).expect("a folder");
    for file in ["private.pem.key", "certificate.pem.crt"] {
        let folder = format!("certs/by-hand-{}", file.len());
        let name = &folder["certs/".len()..];
        fs::create_dir(world.file(&folder)).expect("a folder");
        world.write(&format!("{folder}/{file}"), "by hand\n");
        world.write(&format!("account/things/{name}"), "");
        let done = world.run(&[name]);
        done.expect_code(2);
        assert!(
            done.stderr.contains(&format!("'{folder}/{file}' is there")),
            "{done}"
        );
        for arguments in [&["--delete", "--dry-run"], &["--delete", "--yes"]] {
            let done = world.run(&[&arguments[..], &[name]].concat());
            done.expect_code(0);
            assert!(
                done.stdout.contains("was made by this script here"),
                "{done}"
            );
            assert_eq!(done.stdout.lines().count(), 1, "{done}");
        }
        assert_eq!(world.names(&folder), [file]);
        assert_eq!(world.read(&format!("{folder}/{file}")), "by hand\n");
        assert!(world.exists(&format!("account/things/{name}")));
    }
    assert!(!change(&world.calls()));
}

/// They may have attributes, a shadow or another text, which nobody could make again.
#[test]
fn a_thing_and_a_policy_that_were_there_before_outlast_the_deletion() {
    let world = World::new();
    let broker = world.broker(false);
    world.lead_to(broker.port());
    world.run(&["my-thing"]).expect_code(0);
    // As if another computer had made them.
    fs::rename(world.file("certs/my-thing"), world.file("certs/other")).expect("a folder");
    let done = world.run(&["--delete", "--yes", "my-thing"]);
    done.expect_code(0);
    assert_eq!(world.certificates().len(), 1, "{done}");
    fs::remove_dir_all(world.file("account/certificates")).expect("a folder");

    world.run(&["my-thing"]).expect_code(0);
    let done = world.run(&["--delete", "--yes", "my-thing"]);
    done.expect_code(0);
    assert_eq!(world.certificates(), [""; 0], "{done}");
    for (folder, name, command) in [
        ("things", "my-thing", "delete-thing --thing-name my-thing"),
        (
            "policies",
            "mqtt-connection-sharing-my-thing",
            "delete-policy --policy-name mqtt-connection-sharing-my-thing",
        ),
    ] {
        assert_eq!(world.names(&format!("account/{folder}")), [name], "{done}");
        assert!(
            done.stdout.contains(&format!("aws iot {command}\n")),
            "{done}"
        );
    }
    assert!(!world.exists("certs/my-thing"), "{done}");
}

/// AWS has made a certificate then, and only its list tells which.
#[test]
fn an_interruption_while_a_certificate_is_made_says_where_to_look_for_it() {
    let world = World::new();
    world.lead_to(1);
    world.write("account/interrupting", "");
    // The stand-in interrupts its process group, as Ctrl-C does: one of its own here.
    let done = world
        .command("setsid")
        .args(["--wait", "bash"])
        .arg(world.file("scripts/aws-thing.sh"))
        .arg("my-thing")
        .run();
    done.expect_code(130);
    assert!(
        done.stderr.contains("see 'aws iot list-certificates'"),
        "{done}"
    );
    assert_eq!(world.certificates().len(), 1);
    assert!(!world.exists("certs/my-thing/private.pem.key"));
}

/// The broker closes the connection before CONNACK, or on the packet; it says nothing. The check names the right.
#[test]
fn the_check_at_the_end_names_the_right_that_is_missing() {
    let world = World::new();
    let broker = world.broker(false);
    world.lead_to(broker.port());
    world.run(&["my-thing"]).expect_code(0);
    let policy = "account/policies/mqtt-connection-sharing-my-thing/1";
    let whole = world.read(policy);
    let arn = "arn:aws:iot:eu-central-1:ACCOUNT";
    for (present, absent, step, words) in [
        (
            ":topicfilter/filter/sync/check",
            ":topicfilter/other",
            "SUBSCRIBE",
            "iot:Subscribe on",
        ),
        ("\"iot:Publish\", ", "", "PUBLISH", "iot:Publish on"),
        (", \"iot:Receive\"", "", "PUBLISH", "iot:Receive on"),
        (
            "PersistentConnect\"",
            "LastWill\"",
            "CONNECT",
            "iot:Connect on",
        ),
        (
            ":client/my-thing",
            ":client/other",
            "CONNECT",
            "iot:Connect on",
        ),
    ] {
        assert!(whole.contains(present), "{present}: {whole}");
        world.write(policy, &whole.replace(present, absent));
        // A session that an earlier connection has left would not be subscribed in.
        let broker = world.broker(false);
        world.lead_to(broker.port());
        // `check` alone: the script would let it try for half a minute.
        let done = world
            .command(world.file("program"))
            .env("MQTT_CLIENT_ID", "my-thing")
            .args([
                "check",
                "--topic",
                "filter/sync/check",
                "--output",
                "text",
                "--config",
            ])
            .arg(world.file("config/my-thing.toml"))
            .run();
        assert_ne!(done.code(), 0, "{done}");
        assert!(
            done.stdout.contains(&format!("stopped at {step}")),
            "{present}: {done}"
        );
        assert!(
            done.unfolded().contains(&format!("{words} {arn}:")),
            "{present}: {done}"
        );
        let closings = broker.closings();
        let is_told = |why: &String| why.contains(words.trim_end_matches(" on"));
        assert!(
            words.contains("Receive") || closings.iter().any(is_told),
            "{present}: {closings:?}"
        );
    }
}
