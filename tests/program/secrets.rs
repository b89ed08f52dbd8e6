//! Passwords and keys appear in no log, no error, no result and no debug output. The program runs at its
//! highest log level, with every crate's log on, in success and in failure. The tests search its output
//! for each secret as it is and in the forms in which it might be printed.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::refusal::QUICK;
use crate::support::secrets::{ARCHIVE_PASSWORD, Secrets, USER_PASSWORD, WRONG_PASSWORD};
use crate::support::{Finished, Mosquitto, Program};

/// The demo with all logs on.
fn loud(arguments: impl IntoIterator<Item = OsString>) -> Program {
    loudly(Program::new().args(arguments).args(DEMO))
}

/// Arguments that make the demo short.
const DEMO: [&str; 4] = ["--iterations", "1", "--publish-delay", "0"];

/// The command bench with all logs on, receiving everything back.
fn loud_bench(arguments: impl IntoIterator<Item = OsString>) -> Program {
    let short = ["--messages", "20", "--window", "5", "--receive"];
    loudly(Program::new().arg("bench").args(arguments).args(short))
}

fn loudly(program: Program) -> Program {
    program
        .args(QUICK)
        .args(["-vv", "--client-id", "me", "--output", "json"])
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "full")
}

#[track_caller]
fn check(secrets: &Secrets, cause: &str, status: i32, done: &Finished) {
    assert_eq!(done.status.code(), Some(status), "{cause}: {done}");
    assert!(!done.stderr.is_empty(), "{cause}: {done}");
    secrets.expect_absent(cause, &format!("{}\n{}", done.stdout, done.stderr));
}

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).to_vec()
}

fn given(parts: [&[OsString]; 2]) -> Vec<OsString> {
    parts.concat()
}

#[test]
fn the_search_finds_each_secret_that_is_there() {
    let mut secrets = Secrets::new();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    let inside: Vec<u8> = (0..90).collect();
    fs::write(
        &key,
        pem::encode(&pem::Pem::new("PRIVATE KEY", inside.clone())),
    )
    .unwrap();
    secrets.add_key(&key);
    let found = |text: &str| {
        let found = secrets.0.iter().any(|(_, secret)| text.contains(secret));
        assert!(found, "{text}");
    };
    found(&format!("password={USER_PASSWORD}."));
    found("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5");
    found("636f72726563742d686f7273652d62617474657279");
    found(&format!("{:?}", USER_PASSWORD.as_bytes()));
    found(&fs::read_to_string(&key).unwrap());
    found(&format!("{inside:02x?}"));
    found(&format!("{inside:?}"));
    secrets.expect_absent("an innocent text", "connected to 127.0.0.1:1 as \"me\"");
}

#[test]
fn a_password_and_keys_in_files_are_not_shown() {
    let broker = Mosquitto::start_with_user("alice", USER_PASSWORD);
    let certs = broker.certs();
    let mut secrets = Secrets::new();
    secrets.add_key(&certs.client().key);
    secrets.add_key(&certs.other_client().key);
    let file = |name: &str, content: &[u8]| {
        let path = certs.file(name);
        fs::write(&path, content).unwrap();
        path.into_os_string()
    };
    let right = file("right-password", format!("{USER_PASSWORD}\n").as_bytes());
    let wrong = file("wrong-password", WRONG_PASSWORD.as_bytes());
    let damaged = file(
        "damaged-password",
        &[USER_PASSWORD.as_bytes(), b"\xff"].concat(),
    );
    let alice = || given([&broker.arguments(), &words(["--username", "alice"])]);
    let with_file = |path: &OsString| given([&alice(), &["--password-file".into(), path.clone()]]);

    let done = loud(with_file(&right)).run();
    check(&secrets, "success", 0, &done);
    // This line shows that every crate's log was on.
    assert!(done.stderr.contains("TRACE"), "{done}");
    let done = loud(alice()).env("MQTT_PASSWORD", USER_PASSWORD).run();
    check(&secrets, "success, from the environment", 0, &done);
    let done = loud(with_file(&wrong)).run();
    check(&secrets, "a wrong password", 4, &done);
    let done = loud(with_file(&damaged)).run();
    check(&secrets, "a password that is no text", 2, &done);
    let bytes = [USER_PASSWORD.as_bytes(), b"\xff"].concat();
    let done = loud(alice())
        .env("MQTT_PASSWORD", OsString::from_vec(bytes))
        .run();
    check(&secrets, "a variable that is no text", 2, &done);
    let done = loud(broker.arguments())
        .env("MQTT_PASSWORD", USER_PASSWORD)
        .run();
    check(&secrets, "a password without a user name", 0, &done);
    assert!(done.stderr.contains("MQTT_PASSWORD is not used"), "{done}");

    // Keys that are wrong.
    let key = |name: &str, change: &dyn Fn(String) -> String| {
        let text = fs::read_to_string(&certs.client().key).unwrap();
        file(name, change(text).as_bytes())
    };
    let cut = key("cut.pem", &|text| text[..text.len() / 2].to_owned());
    let body = key("body.pem", &|text| text.lines().skip(1).collect());
    let other = key("other.pem", &|text| text.replacen("A", "B", 9));
    let swapped = certs.client().key.clone().into_os_string();
    let foreign = certs.other_client().key.clone().into_os_string();
    for (cause, flag, path) in [
        ("a key cut in half", "--key", &cut),
        ("a key without its first line", "--key", &body),
        ("a damaged key", "--key", &other),
        ("the key of another certificate", "--key", &foreign),
        ("a key in place of the certificate", "--cert", &swapped),
        ("a key in place of the authorities", "--ca-file", &swapped),
        ("a key in place of the settings", "--config", &swapped),
    ] {
        let more = [OsString::from(flag), path.clone()];
        let done = loud(given([&with_file(&right), &more])).run();
        check(&secrets, cause, 2, &done);
    }

    // Passwords in places where none should be.
    for at in ["@", "%40", "/", ":", "", " at ", "]@["] {
        let endpoint = format!("mqtts://alice:{USER_PASSWORD}{at}127.0.0.1");
        let done = loud(words(["--endpoint", &endpoint])).run();
        check(&secrets, "a password in the endpoint", 2, &done);
        let done = loud(vec![]).env("MQTT_ENDPOINT", &endpoint).run();
        check(&secrets, "a password in the endpoint's variable", 2, &done);
    }
    for (cause, text) in [
        ("in the file", format!("password = \"{USER_PASSWORD}\"\n")),
        (
            "in a broken line",
            format!("password = \"{USER_PASSWORD}\n"),
        ),
        (
            "in the file's endpoint",
            format!("endpoint = \"a:{USER_PASSWORD}@b\"\n"),
        ),
        (
            "in place of its file",
            format!("endpoint = \"a\"\nusername = \"me\"\npassword-file = \"{USER_PASSWORD}\"\n"),
        ),
        (
            "in place of the archive's",
            format!(
                "endpoint = \"a\"\npkcs12 = \"a\"\npkcs12-password-file = \"{USER_PASSWORD}\"\n"
            ),
        ),
        ("without quotes", format!("password = {USER_PASSWORD}\n")),
        (
            "in a list",
            format!("endpoint = [\"a:{USER_PASSWORD}@b\"]\n"),
        ),
    ] {
        let settings = file("settings.toml", text.as_bytes());
        let done = loud(vec!["--config".into(), settings]).run();
        check(&secrets, cause, 2, &done);
    }
}

#[test]
fn a_misplaced_password_on_the_command_line_is_not_shown() {
    let secrets = Secrets::new();
    let with = |flag: &str| format!("{flag}{USER_PASSWORD}");
    for given in [
        vec![with("--password=")],
        vec!["--password".to_owned(), with("")],
        vec![with("--pkcs12-password=")],
        vec![with("--pasword=")],
        vec!["--pasword".to_owned(), with("")],
        vec![with("--secret=")],
        vec![with("-p")],
        vec![with("--password")],
        vec![with("--pkcs12-password-")],
        vec![with("")],
        vec!["--username".to_owned(), "me".to_owned(), with("")],
        vec![with("--quiet=")],
        vec!["--verbose".to_owned(), with("")],
        vec!["--local".to_owned(), with("")],
        vec!["--".to_owned(), with("")],
        // The password in place of the file that holds it.
        [
            ["--endpoint", "a", "--username", "me"]
                .map(str::to_owned)
                .to_vec(),
            vec![with("--password-file=")],
        ]
        .concat(),
        [
            ["--endpoint", "a", "--pkcs12", "a.p12"]
                .map(str::to_owned)
                .to_vec(),
            vec!["--pkcs12-password-file".to_owned(), with("")],
        ]
        .concat(),
    ] {
        for task in [&["-q"][..], &["bench", "-q"]] {
            let done = Program::new().args(task).args(&given).run();
            check(&secrets, "a usage error", 2, &done);
            assert_eq!(done.stderr.lines().count(), 1, "{done}");
            assert!(done.stderr.starts_with("error: reading "), "{done}");
            assert_eq!(done.stdout, "", "{done}");
        }
    }
}

/// The text of a key in place of its file: in a flag, a variable of the environment, the settings.
#[test]
fn keys_in_place_of_their_files_are_not_shown() {
    let certs = crate::support::Certs::generate();
    let mut secrets = Secrets::new();
    let key = &certs.client().key;
    secrets.add_key(key);
    let pem = fs::read_to_string(key).unwrap();
    let lines: Vec<_> = pem.lines().filter(|line| !line.contains("-----")).collect();
    let settings = certs.file("settings.toml");
    for (form, text) in [
        ("PEM", pem.clone()),
        ("PEM in one line", pem.replace('\n', " ")),
        (
            "PEM with its line breaks spelt out",
            pem.replace('\n', "\\n"),
        ),
        ("lines of base64", lines.join("\n")),
        ("base64", lines.concat()),
    ] {
        for name in ["cert", "key", "ca-file", "pkcs12"] {
            let others: &[&str] = match name {
                "cert" => &["--key=a"],
                "key" => &["--cert", certs.client().cert.to_str().unwrap()],
                _ => &[],
            };
            let cause = format!("{form} for {name}");
            let common = [&["--endpoint", "127.0.0.1"], others].concat();
            let common = || loud(common.iter().map(OsString::from));
            let flag = common().arg(format!("--{name}={text}"));
            let variable = format!("MQTT_{}", name.to_uppercase().replace('-', "_"));
            let variable = common().env(&variable, &text);
            fs::write(&settings, format!("{name} = '''{text}'''\n")).unwrap();
            let file = common().arg("--config").arg(&settings);
            let word = common().arg(format!("--{name}")).arg(&text).run();
            check(&secrets, &cause, 2, &word);
            for program in [flag, variable, file] {
                let done = program.run();
                check(&secrets, &cause, 2, &done);
                assert!(
                    done.stderr.contains("what was given is not shown"),
                    "{done}"
                );
            }
        }
    }
}

/// The client's archive, and the secrets in it.
fn archive(certs: &crate::support::Certs) -> (Secrets, PathBuf) {
    let mut secrets = Secrets::new();
    secrets.add_key(&certs.client().key);
    let archive = certs.pkcs12_client(ARCHIVE_PASSWORD);
    secrets.add("the archive", &fs::read(&archive).unwrap()[40..60]);
    (secrets, archive)
}

#[test]
fn an_archive_and_its_password_are_not_shown() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let (secrets, archive) = archive(certs);
    let with = |more: Vec<OsString>| {
        let archive = [OsString::from("--pkcs12"), archive.clone().into()];
        given([&given([&broker.arguments()[..4], &archive]), &more])
    };
    let file = |name: &str, text: &str| {
        let path = certs.file(name);
        fs::write(&path, text).unwrap();
        vec!["--pkcs12-password-file".into(), path.into_os_string()]
    };
    let done = loud(with(file("right", ARCHIVE_PASSWORD))).run();
    check(&secrets, "success", 0, &done);
    let by_variable = loud(with(vec![])).env("MQTT_PKCS12_PASSWORD", ARCHIVE_PASSWORD);
    check(
        &secrets,
        "success, from the environment",
        0,
        &by_variable.run(),
    );
    let done = loud(with(file("wrong", WRONG_PASSWORD))).run();
    check(&secrets, "a wrong password", 2, &done);
    let done = loud(with(vec![])).run();
    check(&secrets, "no password", 2, &done);
    assert!(
        done.stderr
            .contains("protected by a password and none was given"),
        "{done}"
    );
    let unused = loud(broker.arguments()).env("MQTT_PKCS12_PASSWORD", ARCHIVE_PASSWORD);
    check(&secrets, "a password for nothing", 0, &unused.run());
}

/// Runs the program with files that only their owner can read, and then with files that others can read.
/// In the second run each file has its warning, and a shell that runs the command in the warning ends
/// it.
fn expect_warnings(arguments: &[OsString], exposed: &[&Path]) {
    let chmod = |mode| {
        for path in exposed {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let run = || {
        let one = ["--iterations", "1", "--connect-interval", "0"];
        let program = Program::new().args(arguments).args(one);
        let done = program.args(["--publish-delay", "0"]).run();
        done.expect_code(0);
        done.stderr
    };
    let warnings = |log: &str| -> Vec<String> {
        let about = |line: &&str| line.contains("others may read");
        log.lines().filter(about).map(str::to_owned).collect()
    };
    chmod(0o600);
    let log = run();
    assert_eq!(warnings(&log).len(), 0, "{log}");
    for mode in [0o640, 0o604] {
        chmod(mode);
        let log = run();
        let found = warnings(&log);
        assert_eq!(found.len(), exposed.len(), "{log}");
        for path in exposed {
            let path = path.to_str().unwrap();
            assert!(found.iter().any(|line| line.contains(path)), "{log}");
        }
        for line in found {
            let (_, advice) = line.rsplit_once(": chmod").unwrap();
            let command = format!("chmod{advice}");
            let done = Program::other("sh").args(["-c", &command]).run();
            done.expect_code(0);
        }
        let log = run();
        assert_eq!(warnings(&log).len(), 0, "{log}");
    }
}

#[test]
fn files_that_others_may_read_are_warned_about() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let password = certs.file("password");
    fs::write(&password, USER_PASSWORD).unwrap();
    let user = words(["--username", "anybody", "--password-file"]);
    let arguments = given([
        &given([&broker.arguments(), &user]),
        &[password.clone().into()],
    ]);
    expect_warnings(&arguments, &[&certs.client().key, &password]);
    // The warning does not quote a plain path.
    let key = &certs.client().key;
    fs::set_permissions(key, fs::Permissions::from_mode(0o640)).unwrap();
    let done = loud(arguments).run();
    let advice = format!("chmod 600 {}\n", key.display());
    assert!(done.stderr.contains(&advice), "no {advice:?}: {done}");
}

#[test]
fn an_archive_that_others_may_read_is_warned_about_wherever_it_is() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let folder = certs.file("it's $HOME; or not");
    fs::create_dir(&folder).unwrap();
    let archive = folder.join("my key.p12");
    fs::rename(certs.pkcs12_client(ARCHIVE_PASSWORD), &archive).unwrap();
    let password = folder.join("my password");
    fs::write(&password, ARCHIVE_PASSWORD).unwrap();
    let arguments = [
        &broker.arguments()[..4],
        &["--pkcs12".into(), archive.clone().into()],
        &["--pkcs12-password-file".into(), password.clone().into()],
    ]
    .concat();
    expect_warnings(&arguments, &[&archive, &password]);
}

#[test]
fn the_bench_does_not_show_a_password_and_keys_in_files() {
    let mut broker = Mosquitto::start_with_user("alice", USER_PASSWORD);
    let mut secrets = Secrets::new();
    secrets.add_key(&broker.certs().client().key);
    secrets.add_key(&broker.certs().other_client().key);
    let password = |name: &str, content: &str| {
        let path = broker.certs().file(name);
        fs::write(&path, content).unwrap();
        vec!["--password-file".into(), path.into_os_string()]
    };
    let right = password("right-password", USER_PASSWORD);
    let wrong = password("wrong-password", WRONG_PASSWORD);
    let key = broker.certs().client().key.clone().into_os_string();
    let foreign = broker.certs().other_client().key.clone().into_os_string();
    let alice = given([&broker.arguments(), &words(["--username", "alice"])]);
    let with = |more: &[OsString]| loud_bench(given([&alice, more]));

    let done = with(&right).run();
    check(&secrets, "success", 0, &done);
    assert!(done.stderr.contains("TRACE"), "{done}");
    assert!(done.stdout.contains("\"received\":20,"), "{done}");
    let done = with(&[]).env("MQTT_PASSWORD", USER_PASSWORD).run();
    check(&secrets, "success, from the environment", 0, &done);
    let done = with(&right).args(["--mode", "sync", "--qos", "2"]).run();
    check(&secrets, "success, one by one", 0, &done);
    let done = with(&wrong).run();
    check(&secrets, "a wrong password", 4, &done);
    for (cause, flag, path) in [
        ("the key of another certificate", "--key", &foreign),
        ("a key in place of the certificate", "--cert", &key),
        ("a key in place of the settings", "--config", &key),
    ] {
        let more = [OsString::from(flag), path.clone()];
        check(&secrets, cause, 2, &with(&given([&right, &more])).run());
    }
    let at = format!("mqtts://alice:{USER_PASSWORD}@127.0.0.1");
    let done = loud_bench(words(["--endpoint", &at])).run();
    check(&secrets, "a password in the endpoint", 2, &done);
    let settings = broker.certs().file("settings.toml");
    let text = format!("threads = 2\npassword = \"{USER_PASSWORD}\"\n");
    fs::write(&settings, text).unwrap();
    let done = with(&["--config".into(), settings.into()]).run();
    check(&secrets, "a password in the settings", 2, &done);

    // The error is in the result, too.
    let endless = ["--messages", "1000000000", "--mode", "sync"];
    let mut running = with(&right).args(endless).spawn();
    running.wait_for_line("received PUBACK");
    broker.kill();
    let done = running.finish();
    check(&secrets, "a broker that goes away", 1, &done);
    assert!(done.stdout.contains("\"error\":\""), "{done}");
    let done = with(&right).run();
    check(&secrets, "no broker", 3, &done);
}

#[test]
fn the_bench_does_not_show_an_archive_and_its_password() {
    let broker = Mosquitto::start();
    let certs = broker.certs();
    let (secrets, archive) = archive(certs);
    let archive = [OsString::from("--pkcs12"), archive.into()];
    let with = |password: &str| {
        let arguments = given([&broker.arguments()[..4], &archive]);
        loud_bench(arguments).env("MQTT_PKCS12_PASSWORD", password)
    };
    check(&secrets, "success", 0, &with(ARCHIVE_PASSWORD).run());
    check(&secrets, "a wrong password", 2, &with(WRONG_PASSWORD).run());
    let file = certs.file("wrong");
    fs::write(&file, WRONG_PASSWORD).unwrap();
    let by_file = with("").arg("--pkcs12-password-file").arg(&file);
    check(&secrets, "a wrong password in a file", 2, &by_file.run());
}

/// The embedded broker does not use passwords for another broker. They must not be shown because of
/// that.
#[test]
fn passwords_beside_the_embedded_broker_are_not_shown() {
    let secrets = Secrets::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, ARCHIVE_PASSWORD).unwrap();
    // Without the feature there is no embedded broker.
    let status = if cfg!(feature = "local-broker") { 0 } else { 2 };
    for program in [loud, loud_bench] as [fn(Vec<OsString>) -> Program; 2] {
        let done = program(words(["--local"]))
            .env("MQTT_PASSWORD", USER_PASSWORD)
            .env("MQTT_PKCS12_PASSWORD", WRONG_PASSWORD)
            .env("MQTT_PASSWORD_FILE", &file)
            .run();
        check(&secrets, "variables", status, &done);
        assert!(done.stderr.contains("MQTT_PASSWORD is not used"), "{done}");
        let done = program(words(["--local", "--username", "me", "--password-file"]))
            .arg(&file)
            .run();
        check(&secrets, "a file", 2, &done);
    }
}

#[cfg(feature = "local-broker")]
#[test]
fn the_keys_of_the_embedded_broker_are_not_shown() {
    let file_of = |folder: &Path, name: &str| {
        let inside = fs::read_dir(folder).unwrap().next()?.unwrap().path();
        let file = inside.join(name);
        // The file is complete once it has its last line.
        let text = fs::read_to_string(&file).ok()?;
        text.contains("-----END").then_some(file)
    };
    let endless = ["--iterations", "0", "--iteration-delay", "0"];
    let long = ["--messages", "1000000000"];
    for (program, more) in [
        (loud as fn(Vec<OsString>) -> Program, &endless[..]),
        (loud_bench, &long),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut running = program(words(["--local"]))
            .args(more)
            .env("TMPDIR", folder.path())
            .spawn();
        running.wait_for_line("received PUBACK");
        let mut secrets = Secrets::new();
        for name in ["client-key.pem", "server-key.pem"] {
            let found = crate::support::wait_for(name, crate::support::HANG, || {
                file_of(folder.path(), name)
            });
            secrets.add_key(&found);
        }
        running.signal("INT");
        let done = running.finish();
        check(&secrets, "the embedded broker", 130, &done);
        assert!(
            done.stderr.contains("embedded broker on 127.0.0.1"),
            "{done}"
        );
    }
}
