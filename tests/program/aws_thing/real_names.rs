//! `scripts/aws-thing.sh` and the demo on the endpoint's real name and ports, 8883 and 443, with the authorities that the
//! system trusts: nothing leads the program elsewhere. The test runs itself again in a network and a mount namespace.
//! There that name is 127.0.0.1's, and the system trusts the test's authority alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::broker::AwsBroker;
use super::{HOST, World};
use crate::support::{Finished, Program};

/// Tells the test that it runs inside.
const INSIDE: &str = "INSIDE_NAMESPACES";

const TEST: &str = "aws_thing::real_names::on_the_real_names_and_ports";

#[test]
#[ignore = "it needs namespaces; scripts/test.sh --all runs it"]
fn on_the_real_names_and_ports() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let done = Program::other("unshare")
        .args(["-rmn", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", TEST, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .run();
    done.expect_code(0);
    assert!(done.stdout.contains("1 passed"), "{done}");
}

fn run(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Finished {
    let arguments = arguments.iter().map(|argument| argument.as_ref());
    let done = Program::other(program).args(arguments).run();
    done.expect_code(0);
    done
}

/// Lays a file or a folder over another one, in this namespace.
fn lay(over: &Path, it: &Path) {
    run("mount", &[&"--bind", &it, &over]);
}

fn inside() {
    let world = World::new();
    let hosts = world.file("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost {HOST}\n")).expect("a file");
    lay(Path::new("/etc/hosts"), &hosts);
    let trusted = world.file("trusted");
    fs::create_dir(&trusted).expect("a folder");
    fs::copy(world.certs.ca(), trusted.join("ca.pem")).expect("a copy");
    run("openssl", &[&"rehash", &trusted]);
    let folder = run("openssl", &[&"version", &"-d"]).stdout;
    let folder = folder.split('"').nth(1).expect("OpenSSL's folder");
    lay(&Path::new(folder).join("certs"), &trusted);
    let program = env!("CARGO_BIN_EXE_mqtt-connection-sharing");
    symlink(program, world.file("program")).expect("a link");

    let server = world.certs.signed("aws", &[HOST], |_| {});
    let account = world.file("account");
    let brokers = [
        AwsBroker::start(8883, false, &server, &account),
        AwsBroker::start(443, true, &server, &account),
    ];
    for (port, broker) in ["8883", "443"].into_iter().zip(&brokers) {
        let done = world.run(&["--port", port, "my-thing"]);
        done.expect_code(0);
        assert!(done.stdout.contains("\nok: 10 steps in "), "{done}");
        assert!(done.stdout.contains(&format!("127.0.0.1:{port}")), "{done}");
        let demo = Program::new()
            .args(["--iterations=1", "--publish-delay=0", "--config"])
            .arg(world.file("config/my-thing.toml"))
            .run();
        demo.expect_code(0);
        assert_eq!(broker.closings(), [""; 0], "{demo}");
    }
    assert_eq!(world.certificates().len(), 1);
    world.run(&["--delete", "--yes", "my-thing"]).expect_code(0);
    assert_eq!(world.certificates(), [""; 0]);
}
