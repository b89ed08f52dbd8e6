//! No debug output of settings and errors holds a password. `tests/program/secrets.rs` says so of all that the
//! running program writes.

use std::fs;

use crate::app::command_line;
use crate::app::resolve;
use crate::app::tests::resolve::around;
use crate::support::secrets::{Secrets, USER_PASSWORD};

#[test]
fn debug_output() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, USER_PASSWORD).unwrap();
    let secrets = Secrets::new();
    let path = password.to_str().unwrap();
    let pkcs12 = format!("--pkcs12-password-file={path}");
    let arguments = [
        "program",
        "--endpoint",
        "a",
        "--username=me",
        "--pkcs12=a.p12",
    ];
    let arguments = [&arguments[..], &["--password-file", path, &pkcs12]].concat();
    let cli = command_line::parse_from(arguments).unwrap();
    secrets.expect_absent("Cli", &format!("{cli:?}"));
    let surroundings = around(&[]);
    let config = resolve::resolve(cli, &surroundings).unwrap();
    let credentials = config.options.credentials.as_ref().unwrap();
    assert_eq!(credentials.password.expose(), USER_PASSWORD.as_bytes());
    secrets.expect_absent("Config", &format!("{config:?} {config:#?}"));
    secrets.expect_absent("Options", &format!("{:#?}", config.options));
    // Also where it should not have been.
    for at in ["@", "%40", "/"] {
        let endpoint = format!("--endpoint=mqtts://me:{USER_PASSWORD}{at}host");
        let cli = command_line::parse_from(["program", &endpoint]).unwrap();
        secrets.expect_absent("Cli", &format!("{cli:?} {cli:#?}"));
        let error = resolve::resolve(cli, &surroundings).unwrap_err();
        assert!(error.tried().contains("--endpoint"), "{error}");
        secrets.expect_absent("Error", &format!("{error} {error:?}"));
    }
}
