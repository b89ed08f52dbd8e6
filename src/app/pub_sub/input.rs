//! The messages of pub, read from a text, a file or standard input.
//!
//! A thread of its own opens and reads, since standard input may give nothing for hours, and nobody may write to a named
//! pipe: neither the loop nor the end of the run waits for it. Memory is bounded by the messages that a channel holds and by the largest message of MQTT.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::mqtt::packet::MAX_REMAINING_LENGTH;

use super::settings::MessageSource;
use super::{EarlyEnd, WRONG, spawn};
use crate::app::demo::Interrupt;
use crate::app::streams;
use crate::app::values::wrong;

/// Messages that are read ahead.
const AHEAD: usize = 16;

/// A message, or the reason why there are no more.
pub(super) type Read1 = Result<Vec<u8>, EarlyEnd>;

/// An open source of messages.
pub(super) struct Input {
    bytes: Box<dyn BufRead + Send>,
    lines: bool,
    /// The place that is read, for people.
    from: String,
}

impl Input {
    /// Opens the source.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(source: &MessageSource) -> Result<Self, Error> {
        let (bytes, lines, from): (Box<dyn BufRead + Send>, _, _) = match source {
            MessageSource::Text(text) => (
                Box::new(io::Cursor::new(text.clone())),
                false,
                "--message".to_owned(),
            ),
            MessageSource::Read { file: None, lines } => {
                if io::stdin().is_terminal() {
                    log::info!("reading from the terminal; Ctrl-D on a line of its own ends it");
                }
                (
                    Box::new(BufReader::new(streams::StandardInput::new())),
                    *lines,
                    "standard input".to_owned(),
                )
            }
            MessageSource::Read {
                file: Some(path),
                lines,
            } => {
                log::debug!("opening {}", path.display());
                let opened = open_file(path).map_err(|error| {
                    wrong(
                        format!("opening the message {}", path.display()),
                        error.to_string(),
                        "give the path of a file that you may read with --file",
                    )
                })?;
                (
                    Box::new(BufReader::new(opened)),
                    *lines,
                    path.display().to_string(),
                )
            }
        };
        Ok(Input { bytes, lines, from })
    }

    /// Starts the thread that opens the source and reads. It ends when everything was read, or soon after the receiver is
    /// dropped. While nothing comes it stays, and the end of the program ends it.
    ///
    /// Returns once the source is open, or the end of the run was asked for.
    ///
    /// # Errors
    /// When the source cannot be opened.
    pub(super) fn start(
        open: impl FnOnce() -> Result<Input, Error> + Send + 'static,
        interrupt: &Interrupt,
    ) -> Result<Receiver<Read1>, Error> {
        let (sender, messages) = bounded(AHEAD);
        let (tell, opened) = bounded(1);
        spawn("input", move || match open() {
            Ok(input) => {
                let _ = tell.send(Ok(()));
                input.read(&sender);
            }
            Err(error) => drop(tell.send(Err(error))),
        })?;
        select! {
            recv(opened) -> opened => opened.unwrap_or(Ok(()))?,
            recv(interrupt.requests()) -> _ => {}
        }
        Ok(messages)
    }

    fn read(mut self, messages: &Sender<Read1>) {
        for number in 1_u64.. {
            let next = self.next(number);
            let is_last = !self.lines || next.is_err();
            let Some(next) = next.transpose() else {
                break;
            };
            // Nobody publishes any more.
            if messages.send(next).is_err() || is_last {
                break;
            }
        }
    }

    /// The next message; `None` at the end. A whole source that is empty is an empty message.
    fn next(&mut self, number: u64) -> Result<Option<Vec<u8>>, EarlyEnd> {
        let mut message = Vec::new();
        let mut bytes = self.bytes.by_ref().take(MAX_REMAINING_LENGTH as u64 + 1);
        let read = match self.lines {
            true => bytes.read_until(b'\n', &mut message),
            false => bytes.read_to_end(&mut message),
        };
        let which = match self.lines {
            true => format!("line {number}"),
            false => "the message".to_owned(),
        };
        let read = read.map_err(|error| {
            let from = &self.from;
            let remedy = "give what can be read with --file or on standard input";
            EarlyEnd::new(
                WRONG,
                format!("{which} cannot be read from {from}: {error}; {remedy}"),
            )
        })?;
        if self.lines && read == 0 {
            return Ok(None);
        }
        if self.lines && message.last() == Some(&b'\n') {
            message.pop();
        }
        if message.len() > MAX_REMAINING_LENGTH {
            let problem = format!(
                "{which} has more than {MAX_REMAINING_LENGTH} bytes, which no packet of MQTT can have; publish it in parts"
            );
            return Err(EarlyEnd::new(WRONG, problem));
        }
        Ok(Some(message))
    }
}

/// Opens a file that has bytes. On Linux a folder can be opened, and not be read.
fn open_file(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(input: Input) -> Receiver<Read1> {
        Input::start(move || Ok(input), &Interrupt::default()).unwrap()
    }

    fn read(bytes: &'static [u8], lines: bool) -> Vec<Vec<u8>> {
        let input = Input {
            // Comes in pieces, as from a pipe.
            bytes: Box::new(BufReader::with_capacity(2, bytes)),
            lines,
            from: String::new(),
        };
        let messages = started(input);
        messages.iter().map(Result::unwrap).collect()
    }

    #[test]
    fn each_line_is_a_message_and_the_last_one_needs_no_end() {
        assert_eq!(
            read(b"one\n\ntwo\r\nlast", true),
            [&b"one"[..], b"", b"two\r", b"last"]
        );
        assert_eq!(read(b"one\n", true), [b"one"]);
        assert_eq!(read(b"\n", true), [b""]);
        assert_eq!(read(b"", true), [b""; 0]);
        assert_eq!(read(b"\xff\0\n\xfe", true), [&b"\xff\0"[..], b"\xfe"]);
    }

    #[test]
    fn the_whole_is_one_message_also_an_empty_one() {
        assert_eq!(read(b"one\ntwo\n", false), [b"one\ntwo\n"]);
        assert_eq!(read(b"", false), [b""]);
    }

    #[test]
    fn an_endless_source_is_read_no_further_than_needed() {
        let input = Input {
            bytes: Box::new(BufReader::new(io::repeat(b'\n'))),
            lines: true,
            from: "a pipe".to_owned(),
        };
        let messages = started(input);
        assert_eq!(messages.iter().take(1_000).count(), 1_000);
        assert!(messages.len() <= AHEAD);
    }

    #[test]
    fn a_source_that_fails_says_which_line() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let input = Input {
            bytes: Box::new(BufReader::new((&b"one\n"[..]).chain(Broken))),
            lines: true,
            from: "a pipe".to_owned(),
        };
        let messages: Vec<Read1> = started(input).iter().collect();
        assert_eq!(messages[0], Ok(b"one".to_vec()));
        let problem = messages[1].clone().unwrap_err();
        assert_eq!(
            problem.text,
            "line 2 cannot be read from a pipe: broken; give what can be read with --file or on standard input"
        );
        assert_eq!((messages.len(), problem.exit_status), (2, WRONG));
    }
}
