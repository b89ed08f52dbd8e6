//! The files that TLS is set up from: reads them, and says what they are when they are wrong.
//!
//! Knows containers (PEM, DER, PKCS#12) and not their contents. Contents never get into an error,
//! not even through the PEM parser's own messages, which quote lines. Runs once, at the start.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pem::Pem;

use crate::error::{Blame, Error, exhaustion, shell_word};

/// The bundles of authorities that systems ship have some 200 KiB.
const LARGEST: u64 = 8 * 1024 * 1024;

/// A file that an option names, read whole. Deliberately without `Debug`.
pub(super) struct NamedFile<'a> {
    /// Its name in messages.
    what: &'static str,
    /// The option that names it.
    pub(super) option: &'static str,
    /// Where it is.
    pub(super) path: &'a Path,
    /// Its contents; never empty.
    pub(super) bytes: Vec<u8>,
    /// Unix permission bits; 0 elsewhere.
    mode: u32,
}

impl<'a> NamedFile<'a> {
    /// Reads the file; an empty one is an error.
    pub(super) fn read(
        what: &'static str,
        option: &'static str,
        path: &'a Path,
    ) -> Result<Self, Error> {
        if may_be_content(path) {
            let tried = format!("reading the {what} (`{option}`)");
            let problem = "what was given is no path of a file, it may be the content of one";
            let advice = "give the path of the file; what was given is not shown";
            return Err(Error::new(Blame::Configuration, tried, problem, advice));
        }
        let mut file = NamedFile {
            what,
            option,
            path,
            bytes: Vec::new(),
            mode: 0,
        };
        let mut reader = File::open(path).map_err(|error| file.io_error(&error))?;
        let metadata = reader.metadata().map_err(|error| file.io_error(&error))?;
        if metadata.is_dir() {
            return Err(file.error("it is a directory", format!("give `{option}` a file")));
        }
        file.mode = mode(&metadata);
        let read = (&mut reader).take(LARGEST + 1).read_to_end(&mut file.bytes);
        read.map_err(|error| file.io_error(&error))?;
        if file.bytes.is_empty() {
            return Err(file.error("the file is empty", "get the file again"));
        }
        if file.bytes.len() as u64 > LARGEST {
            return Err(file.error(
                "it is larger than 8 MiB",
                format!("check the path after `{option}`"),
            ));
        }
        Ok(file)
    }

    /// A configuration error about this file.
    pub(super) fn error(&self, problem: impl Into<String>, advice: impl Into<String>) -> Error {
        let tried = format!(
            "reading the {} {} (`{}`)",
            self.what,
            self.path.display(),
            self.option
        );
        Error::new(Blame::Configuration, tried, problem, advice)
    }

    /// The PEM blocks in the file, at least one. Text around them, a byte order mark and any kind
    /// of line end do no harm.
    pub(super) fn blocks(&self) -> Result<Vec<Pem>, Error> {
        if let Some(blocks) = pem::parse_many(&self.bytes)
            .ok()
            .filter(|found| !found.is_empty())
        {
            return Ok(blocks);
        }
        let path = self.word();
        let out = self.word_with(".pem");
        let kind = if self.option == "key" { "pkey" } else { "x509" };
        Err(match Form::of(&self.bytes) {
            Form::Pem => self.error(
                "the PEM text in it is damaged or cut off",
                "get the file again, from -----BEGIN to -----END",
            ),
            Form::Pkcs12 => self.error(
                "it is a PKCS#12 archive, not PEM",
                "give it with `pkcs12` instead of `cert` and `key`",
            ),
            Form::Der => self.error(
                "it is in binary form (DER), not PEM",
                format!("convert it: openssl {kind} -inform der -in {path} -out {out}"),
            ),
            Form::Utf16 => self.error(
                "it is UTF-16 text",
                "save it as plain text (ASCII or UTF-8)",
            ),
            Form::Other => self.error(
                "it is not PEM: it has no line that begins with -----BEGIN",
                format!("check the path after `{}`", self.option),
            ),
        })
    }

    /// Errs when the file is PEM text where a binary archive is expected.
    pub(super) fn refuse_pem(&self) -> Result<(), Error> {
        match Form::of(&self.bytes) {
            Form::Pem => Err(self.error(
                "it is PEM text, not a PKCS#12 archive",
                "give PEM files with `cert` and `key`",
            )),
            _ => Ok(()),
        }
    }

    /// Logs a warning when others on this machine may read the file.
    pub(super) fn warn_if_exposed(&self) {
        if self.is_exposed() {
            let (what, path, word) = (self.what, self.path.display(), self.word());
            log::warn!("others may read the {what} {path}: chmod 600 {word}");
        }
    }

    /// Its path as a word of a command to copy.
    pub(super) fn word(&self) -> String {
        shell_word(self.path)
    }

    /// The same with something at its end, for the file that the command makes.
    pub(super) fn word_with(&self, ending: &str) -> String {
        let mut path = self.path.as_os_str().to_owned();
        path.push(ending);
        shell_word(Path::new(&path))
    }

    /// Whether others on this machine may read or change the file.
    pub(super) fn is_exposed(&self) -> bool {
        self.mode & 0o077 != 0
    }

    fn io_error(&self, error: &io::Error) -> Error {
        let option = self.option;
        if let Some(advice) = exhaustion(error) {
            return self.error(error.to_string(), advice);
        }
        match error.kind() {
            io::ErrorKind::NotFound => self.error(
                "there is no such file",
                format!("check the path after `{option}`"),
            ),
            io::ErrorKind::PermissionDenied => self.error(
                "permission denied",
                "let the user who runs this program read it",
            ),
            io::ErrorKind::IsADirectory => {
                self.error("it is a directory", format!("give `{option}` a file"))
            }
            _ => self.error(
                error.to_string(),
                format!("check the path after `{option}`"),
            ),
        }
    }
}

/// Whether somebody may have given the text of a key in place of its file, as variables in the
/// environment make easy: with line breaks, with the first line of PEM, or as one long word of base64.
fn may_be_content(path: &Path) -> bool {
    const LONG: usize = 100;
    let text = path.to_string_lossy();
    let is_word = || path.file_name().is_some_and(|name| name.len() > LONG);
    let is_long = || text.len() > LONG && (is_word() || !path.parent().is_some_and(Path::is_dir));
    !path.exists() && (text.contains("-----") || text.contains(['\n', '\r']) || is_long())
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    // A pipe from a shell, which is no regular file, has no meaningful permissions.
    if metadata.is_file() {
        metadata.permissions().mode()
    } else {
        0
    }
}

#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> u32 {
    0
}

/// The form that some bytes have from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Pem,
    Pkcs12,
    Der,
    Utf16,
    Other,
}

impl Form {
    fn of(bytes: &[u8]) -> Form {
        if bytes.windows(10).any(|part| part == b"-----BEGIN") {
            return Form::Pem;
        }
        match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Form::Utf16,
            // A DER sequence; the version that comes first in a PKCS#12 archive is always 3.
            [0x30, length, rest @ ..] => {
                let skip = if *length < 0x80 {
                    0
                } else {
                    usize::from(length & 0x7f)
                };
                match rest.get(skip..) {
                    Some([0x02, 0x01, 0x03, ..]) => Form::Pkcs12,
                    // "0" followed by text is no DER.
                    Some([0x02 | 0x30, ..]) => Form::Der,
                    _ => Form::Other,
                }
            }
            _ => Form::Other,
        }
    }
}
