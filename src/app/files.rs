//! The one place of the configuration that reads files: settings, passwords, the will, the host's name.
//!
//! Reads only, each file once, and never more than a sensible length. Certificates and keys are not
//! read here: the library is told their paths. Runs on the main thread.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::values::wrong;
use mqtt_connection_sharing::Will;
use mqtt_connection_sharing::error::{Error, exhaustion, shell_word};
use mqtt_connection_sharing::options::Secret;

const LONGEST_SETTINGS: u64 = 1024 * 1024;
/// MQTT's limit for a password [MQTT 3.1.1, 3.1.3.5], a line break, and a byte order mark.
const LONGEST_PASSWORD: u64 = 65_535 + 2 + 3;

/// The text of a settings file.
pub(super) fn read_settings(path: &Path) -> Result<String, Error> {
    let tried = || format!("reading the settings file {}", path.display());
    let bytes = read_at_most(path, LONGEST_SETTINGS)
        .map_err(|error| unreadable(tried(), &error, "check the path after --config"))?;
    String::from_utf8(bytes).map_err(|_| wrong(tried(), "it is not UTF-8 text", "save it as UTF-8"))
}

/// The password in a file, without a byte order mark and the line break at its end. `setting` names the file's setting; a
/// relative path was given as one from `folder`.
pub(super) fn read_password(path: &Path, setting: &str, folder: &Path) -> Result<Secret, Error> {
    let tried = || format!("reading the password file {} ({setting})", path.display());
    let advice = "put the password alone into the file";
    let bytes = read_at_most(path, LONGEST_PASSWORD).map(Secret::from);
    let bytes = bytes.map_err(|error| match is_path(path, folder) {
        true => unreadable(tried(), &error, "check the path"),
        false => unreadable(
            format!("reading the password file ({setting})"),
            &error,
            "give a file that holds the password, not the password; what was given is not shown",
        ),
    })?;
    if is_exposed(path) {
        let word = shell_word(path);
        let path = path.display();
        log::warn!("others may read the password file {path}: chmod 600 {word}");
    }
    // The decoding error is not passed on: it may hold the bytes.
    let text = std::str::from_utf8(bytes.expose());
    let text = text.map_err(|_| wrong(tried(), "it is not UTF-8", advice))?;
    // Some editors begin each file with a byte order mark.
    let password = without_line_break(text.strip_prefix('\u{feff}').unwrap_or(text));
    if password.is_empty() {
        return Err(wrong(tried(), "it is empty", advice));
    }
    Ok(password.into())
}

/// A password without the line break at its end: one, and nothing else.
pub(super) fn without_line_break(text: &str) -> &str {
    text.strip_suffix("\r\n")
        .or_else(|| text.strip_suffix('\n'))
        .unwrap_or(text)
}

/// Whether the text is surely a path although no file is there. A single word may be the password itself,
/// given in place of its file, and so may a word with slashes in it. The folder that a relative path
/// starts from does not count.
fn is_path(path: &Path, folder: &Path) -> bool {
    let given = path.strip_prefix(folder).unwrap_or(path);
    let named = given
        .parent()
        .is_some_and(|own| !own.as_os_str().is_empty());
    given.is_absolute()
        || given.starts_with(".")
        || (named && path.parent().is_some_and(Path::is_dir))
        || path.exists()
}

fn unreadable(tried: String, error: &io::Error, advice: &str) -> Error {
    wrong(
        tried,
        error.to_string(),
        exhaustion(error).unwrap_or(advice),
    )
}

/// Whether others on this machine may read or change a file. A pipe from a shell, which is no regular
/// file, has no meaningful permissions.
#[cfg(unix)]
fn is_exposed(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path);
    metadata.is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_: &Path) -> bool {
    false
}

/// The payload of a will, byte for byte. `setting` names the file's setting.
pub(super) fn read_will(path: &Path, setting: &str) -> Result<Vec<u8>, Error> {
    read_at_most(path, Will::LARGEST_PAYLOAD as u64).map_err(|error| {
        unreadable(
            format!("reading the will's payload {} ({setting})", path.display()),
            &error,
            "check the path; a will has at most 65535 bytes",
        )
    })
}

/// A path from the root, so that it means the same from any folder.
pub(super) fn in_full(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// This computer's name as the system keeps it in a file, where it does (Linux).
pub(super) fn host_name() -> Option<String> {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| String::from_utf8(read_at_most(Path::new(path), 1024).ok()?).ok())
}

fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Room for all, so that no part of a password stays in memory that was given back.
    let mut bytes = Vec::with_capacity(usize::try_from(limit).map_or(0, |limit| limit + 64));
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_password(path: &Path, setting: &str) -> Result<String, Error> {
        let password = super::read_password(path, setting, Path::new(""))?;
        Ok(String::from_utf8(password.expose().to_vec()).unwrap())
    }

    fn password(content: &[u8]) -> Result<String, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, content).unwrap();
        read_password(&path, "--password-file")
    }

    #[test]
    fn one_line_break_is_stripped_from_a_password_and_nothing_else() {
        assert_eq!(password(b"secret").unwrap(), "secret");
        assert_eq!(password(b"secret\n").unwrap(), "secret");
        assert_eq!(password(b"secret\r\n").unwrap(), "secret");
        assert_eq!(password(b" secret \n\n").unwrap(), " secret \n");
        // A byte order mark at the beginning is none of it; control characters may be.
        assert_eq!(password(b"\xef\xbb\xbfsecret\n").unwrap(), "secret");
        assert_eq!(
            password(b"a\t\x01\xef\xbb\xbf").unwrap(),
            "a\t\u{1}\u{feff}"
        );
    }

    #[test]
    fn unusable_password_files_are_named_and_not_shown() {
        for content in [
            &b""[..],
            b"\n",
            b"\r\n",
            b"\xef\xbb\xbf\n",
            b"hunter2\xff",
            &[b'x'; 70_000],
        ] {
            let error = password(content).unwrap_err();
            assert_eq!(error.exit_status(), 2);
            assert!(error.tried().contains("--password-file"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let error = read_password(Path::new("/nowhere/password"), "MQTT_PASSWORD_FILE");
        assert!(error.unwrap_err().to_string().contains("/nowhere/password"));
    }

    #[test]
    fn a_password_in_place_of_its_file_is_not_shown() {
        for text in ["hunter2", "hunter2/x", "hunter2=="] {
            let error = read_password(Path::new(text), "--password-file").unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(error.tried().contains("--password-file"), "{error}");
            assert!(error.to_string().contains("not the password"), "{error}");
            assert_eq!(error.exit_status(), 2);
        }
        let long = "hunter2".repeat(100);
        let error = read_password(Path::new(&long), "--password-file").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        for path in ["./nothing", "../nothing", "src/nothing", "/nothing"] {
            let error = read_password(Path::new(path), "--password-file").unwrap_err();
            assert!(error.tried().contains(path), "{error}");
        }
    }

    /// A path in a settings file starts from the file's folder, which makes no path of a password.
    #[test]
    fn a_password_in_place_of_its_file_is_not_shown_with_the_folder_either() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        let read = |given: &str| {
            let path = folder.path().join(given);
            let error = super::read_password(&path, "password-file in demo.toml", folder.path());
            error.unwrap_err().to_string()
        };
        for text in ["hunter2", "hunter2/x", "hunter2=="] {
            let error = read(text);
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("(password-file in demo.toml)"), "{error}");
        }
        for path in ["secrets/nothing", "/nothing"] {
            let error = read(path);
            assert!(error.contains("/nothing (password-file"), "{error}");
        }
    }

    #[test]
    fn a_wills_payload_is_taken_as_it_is_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("will");
        for content in [&b""[..], b"gone\n", b"\0\xff", &[b'x'; 65_535]] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read_will(&path, "--will-payload-file").unwrap(), content);
        }
        std::fs::write(&path, [b'x'; 65_536]).unwrap();
        let error = read_will(&path, "--will-payload-file").unwrap_err();
        assert!(error.tried().contains("(--will-payload-file)"), "{error}");
        assert!(error.problem().contains("65535"), "{error}");
        let error = read_will(Path::new("/nowhere/will"), "--will-payload-file").unwrap_err();
        assert!(error.to_string().contains("/nowhere/will"), "{error}");
        assert_eq!(error.exit_status(), 2);
    }

    #[test]
    fn a_settings_file_that_cannot_be_read_is_named() {
        let error = read_settings(Path::new("/nowhere/demo.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/demo.toml"), "{error}");
        assert_eq!(error.exit_status(), 2);
    }
}
