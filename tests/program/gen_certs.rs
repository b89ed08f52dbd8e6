//! `scripts/gen-certs.sh`: its certificates suit every broker that was tried.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::path::Path;

use crate::support::Program;

/// rumqttd takes the organization for a tenant, and refuses all but letters and digits in it.
#[test]
fn the_organization_has_letters_and_digits_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gen-certs.sh");
    let script = script.to_str().expect("a path");
    Program::other("bash")
        .arg(script)
        .arg(folder.path())
        .run()
        .expect_code(0);
    for name in ["ca", "server", "client", "other-ca", "other-client"] {
        let done = Program::other("openssl")
            .args(["x509", "-noout", "-subject", "-nameopt", "multiline", "-in"])
            .arg(folder.path().join(format!("{name}.pem")))
            .run();
        done.expect_code(0);
        let line = done
            .stdout
            .lines()
            .find(|line| line.contains("organizationName"));
        let (_, organization) = line
            .and_then(|line| line.split_once('='))
            .expect("its organization");
        let organization = organization.trim();
        let fits =
            !organization.is_empty() && organization.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(fits, "{name}: {organization:?}");
    }
}
