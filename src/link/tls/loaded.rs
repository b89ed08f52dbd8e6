//! Loads what TLS needs from files and from memory, and recognises the form of wrong contents.
//!
//! This file knows containers (PEM, DER, PKCS#12), not their contents. It must not put contents into an
//! error, not even through the PEM parser's messages, which quote lines. Its buffers are wiped. Runs on the
//! thread that makes the client, and on the one that prepares a connection attempt.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::blocks::{self, Block};
use crate::error::{Blame, Error, exhaustion, shell_word};
use crate::options::Material;
use crate::secret::Secret;

/// The largest contents, in bytes. A system's bundle of authorities has some 200 KiB.
const LARGEST: usize = 8 * 1024 * 1024;

/// The contents that an option names, read whole. It has no `Debug`, so that no output can show them.
pub(super) struct Loaded {
    /// The expected contents, as messages name them.
    what: &'static str,
    /// The option that names it.
    pub(super) option: &'static str,
    /// The path, as it was given; `None` if the contents were given.
    path: Option<PathBuf>,
    /// The contents; never empty.
    bytes: Secret,
    /// Unix permission bits; 0 elsewhere.
    mode: u32,
    /// Whether it can be read again: a file can, a pipe cannot.
    is_file: bool,
}

impl Loaded {
    /// Reads the material. It is an error if it is empty.
    pub(super) fn read(
        what: &'static str,
        option: &'static str,
        material: &Material,
    ) -> Result<Self, Error> {
        let mut loaded = Loaded {
            what,
            option,
            path: None,
            bytes: Secret::default(),
            mode: 0,
            is_file: false,
        };
        match material {
            Material::File(path) => {
                loaded.path = Some(path.clone());
                loaded.read_file(path)?;
            }
            Material::Memory(contents) => loaded.bytes = contents.clone(),
        }
        if loaded.bytes.is_empty() {
            let problem = match loaded.path {
                Some(_) => "the file is empty",
                None => "it is empty",
            };
            return Err(loaded.error(problem, loaded.again("")));
        }
        if loaded.bytes.len() > LARGEST {
            return Err(loaded.error("it is larger than 8 MiB", loaded.check()));
        }
        Ok(loaded)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), Error> {
        if may_be_content(path) {
            let tried = format!("reading the {} (`{}`)", self.what, self.option);
            let problem = "the value is not the path of a file; it may be the content of one";
            let advice = "give the path of the file; what was given is not shown";
            return Err(Error::new(Blame::Configuration, tried, problem, advice));
        }
        let mut reader = File::open(path).map_err(|error| self.io_error(error))?;
        let metadata = reader.metadata().map_err(|error| self.io_error(error))?;
        if metadata.is_dir() {
            let advice = format!("give `{}` a file", self.option);
            return Err(self.error("it is a directory", advice));
        }
        self.mode = mode(&metadata);
        self.is_file = metadata.is_file();
        let expected = usize::try_from(metadata.len()).unwrap_or(LARGEST);
        let read = read_whole(&mut reader, expected);
        self.bytes = read.map_err(|error| self.io_error(error))?;
        Ok(())
    }

    /// The contents.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// The material for the next time: where it cannot be read again, the contents.
    pub(super) fn material(&self) -> Material {
        match &self.path {
            Some(path) if self.is_file => Material::File(path.clone()),
            _ => Material::Memory(self.bytes.clone()),
        }
    }

    /// A configuration error about this material.
    pub(super) fn error(&self, problem: impl Into<String>, advice: impl Into<String>) -> Error {
        let tried = format!(
            "reading the {} {} (`{}`)",
            self.what,
            self.place(),
            self.option
        );
        Error::new(Blame::Configuration, tried, problem, advice)
    }

    /// Its path, or the words for contents without one.
    pub(super) fn place(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "in memory".to_owned(),
        }
    }

    /// The advice to take the contents from where they come from once more.
    pub(super) fn again(&self, more: &str) -> String {
        match &self.path {
            Some(_) => format!("get the file again{more}"),
            None => format!(
                "give `{}` the contents of the file that was issued{more}",
                self.option
            ),
        }
    }

    /// The advice to look at the option's value.
    fn check(&self) -> String {
        match &self.path {
            Some(_) => format!("check the path after `{}`", self.option),
            None => format!("check what is given with `{}`", self.option),
        }
    }

    /// The PEM blocks in it, at least one and each whole. It may hold other text around them, a
    /// byte order mark and any kind of line end.
    pub(super) fn blocks(&self) -> Result<Vec<Block>, Error> {
        let found = blocks::find(self.bytes.expose()).map_err(|problem| {
            let more = "; each block goes from -----BEGIN to -----END";
            self.error(problem, self.again(more))
        })?;
        if !found.is_empty() {
            return Ok(found);
        }
        let path = self.word();
        let out = self.word_with(".pem");
        let kind = if self.option == "key" { "pkey" } else { "x509" };
        Err(match Form::of(self.bytes.expose()) {
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
                self.check(),
            ),
        })
    }

    /// Returns an error if it is PEM text, for callers that need a binary archive.
    pub(super) fn refuse_pem(&self) -> Result<(), Error> {
        match Form::of(self.bytes.expose()) {
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
            let (what, path, word) = (self.what, self.place(), self.word());
            log::warn!("others may read the {what} {path}: chmod 600 {word}");
        }
    }

    /// The path as a word of a shell command that a person can copy. Contents without one have the name `FILE`.
    pub(super) fn word(&self) -> String {
        self.word_with("")
    }

    /// The path with `ending` appended, as such a word: the file that the command writes.
    pub(super) fn word_with(&self, ending: &str) -> String {
        let path = self.path.as_deref().unwrap_or(Path::new("FILE"));
        let mut path = path.as_os_str().to_owned();
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
            io::ErrorKind::NotFound => self.error("there is no such file", self.check()),
            io::ErrorKind::PermissionDenied => self.error(
                "permission denied",
                "let the user who runs this program read it",
            ),
            io::ErrorKind::IsADirectory => {
                self.error("it is a directory", format!("give `{option}` a file"))
            }
            _ => self.error(error.to_string(), self.check()),
        }
    }
}

/// Reads to the end, or to more than [`LARGEST`]. A buffer that becomes too small is wiped, not moved.
fn read_whole(reader: &mut impl Read, expected: usize) -> io::Result<Secret> {
    // One byte more, so that the end shows without a larger buffer.
    let capacity = expected.clamp(4096, LARGEST) + 1;
    let mut bytes = Zeroizing::new(vec![0; capacity]);
    let mut length = 0;
    loop {
        match reader.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if length > LARGEST {
            break;
        }
        if length == bytes.len() {
            let mut larger = Zeroizing::new(vec![0; 2 * length]);
            larger[..length].copy_from_slice(&bytes);
            bytes = larger;
        }
    }
    bytes.truncate(length);
    Ok(std::mem::take(&mut *bytes).into())
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
