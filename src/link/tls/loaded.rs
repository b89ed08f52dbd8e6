//! Reads the files for TLS, and recognises the form of a wrong file.
//!
//! This file knows containers (PEM, DER, PKCS#12), not their contents. It must not put contents into an
//! error, not even through the PEM parser's messages, which quote lines. Runs once, on the thread that
//! makes the client.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pem::Pem;

use super::blocks;
use crate::error::{Blame, Error, exhaustion, shell_word};

/// The largest file, in bytes. A system's bundle of authorities has some 200 KiB.
const LARGEST: u64 = 8 * 1024 * 1024;

/// A file that an option names, read whole. It has no `Debug`, so that no output can show its contents.
pub(super) struct NamedFile<'a> {
    /// The expected contents, as messages name them.
    what: &'static str,
    /// The option that names it.
    pub(super) option: &'static str,
    /// The path, as it was given.
    pub(super) path: &'a Path,
    /// The contents; never empty.
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
            let problem = "the value is not the path of a file; it may be the content of one";
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
        let mut reader = File::open(path).map_err(|error| file.io_error(error))?;
        let metadata = reader.metadata().map_err(|error| file.io_error(error))?;
        if metadata.is_dir() {
            return Err(file.error("it is a directory", format!("give `{option}` a file")));
        }
        file.mode = mode(&metadata);
        let read = (&mut reader).take(LARGEST + 1).read_to_end(&mut file.bytes);
        read.map_err(|error| file.io_error(error))?;
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

    /// The PEM blocks in the file, at least one and each whole. The file may hold other text around them, a
    /// byte order mark and any kind of line end.
    pub(super) fn blocks(&self) -> Result<Vec<Pem>, Error> {
        let found = blocks::find(&self.bytes).map_err(|problem| {
            self.error(
                problem,
                "get the file again; each block goes from -----BEGIN to -----END",
            )
        })?;
        if !found.is_empty() {
            return Ok(found);
        }
        let path = self.word();
        let out = self.word_with(".pem");
        let kind = if self.option == "key" { "pkey" } else { "x509" };
        Err(match Form::of(&self.bytes) {
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
            Form::Pem | Form::Other => self.error(
                "it is not PEM: it has no line that begins with -----BEGIN",
                format!("check the path after `{}`", self.option),
            ),
        })
    }

    /// Returns an error if the file is PEM text, for callers that need a binary archive.
    pub(super) fn refuse_pem(&self) -> Result<(), Error> {
        match Form::of(&self.bytes) {
            Form::Pem => Err(self.error(
                "it is PEM text, not a PKCS#12 archive",
                "give PEM files with `cert` and `key`",
            )),
            _ => Ok(()),
        }
    }

    /// Logs a warning if other users of this machine may read or change the file.
    pub(super) fn warn_if_exposed(&self) {
        if self.is_exposed() {
            let (what, path, word) = (self.what, self.path.display(), self.word());
            log::warn!("others may read the {what} {path}: chmod 600 {word}");
        }
    }

    /// The path as a word of a shell command that a person can copy.
    pub(super) fn word(&self) -> String {
        shell_word(self.path)
    }

    /// The path with `ending` appended, as such a word: the file that the command writes.
    pub(super) fn word_with(&self, ending: &str) -> String {
        let mut path = self.path.as_os_str().to_owned();
        path.push(ending);
        shell_word(Path::new(&path))
    }

    /// Whether other users of this machine may read or change the file.
    pub(super) fn is_exposed(&self) -> bool {
        self.mode & 0o077 != 0
    }

    fn io_error(&self, error: io::Error) -> Error {
        self.explain(&error).with_source(error)
    }

    fn explain(&self, error: &io::Error) -> Error {
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

/// Whether the value may be the text of a key in place of its file. Environment variables make this mistake
/// easy. Such a text has line breaks, or the first line of PEM, or is one long word of base64.
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
    // The permissions of a pipe from a shell, or of any other special file, mean nothing.
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

/// The form of a file, as its first bytes or a PEM line show it.
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
                    // The byte 0x30 is also the text "0", so the next byte has to fit as well.
                    Some([0x02 | 0x30, ..]) => Form::Der,
                    _ => Form::Other,
                }
            }
            _ => Form::Other,
        }
    }
}
