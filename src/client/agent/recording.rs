//! The records that the loop writes: see `client/recording/`. Without a recording, each of these is one branch. The
//! loop's thread; it does not wait here. A command whose thread could not number it any more has no record.

use std::time::Instant;

use super::Agent;
use crate::client::command::Command;
use crate::client::recording::{CommandEnd, What};
use crate::mqtt::session::{Note, Noted, Outcome};

impl Agent {
    /// Something happened.
    #[inline]
    pub(super) fn record(&self, what: What) {
        if let Some(recorder) = &self.recorder {
            recorder.on_loop(what);
        }
    }

    /// A turn, or a portion of one, begins.
    pub(super) fn record_turn(&self, now: Instant) {
        if let Some(recorder) = &self.recorder {
            recorder.set_turn(now);
        }
    }

    /// A command was taken. If it was fetched just now, with others, the clock is read: they were pushed before.
    #[inline]
    pub(super) fn record_taken(&self, command: &Command, was_fetched: bool) {
        if let Some(recorder) = &self.recorder {
            if was_fetched {
                recorder.read_clock();
            }
            let command = command.completion.recorded().into();
            if command > 0 {
                recorder.on_loop(What::Taken { command });
            }
        }
    }

    /// A command has ended.
    #[inline]
    pub(super) fn record_end(&self, command: u64, outcome: &Outcome, answered: bool) {
        if let Some(recorder) = &self.recorder
            && command > 0
        {
            let end = CommandEnd::from(outcome);
            recorder.on_loop(What::Ended {
                command,
                end,
                answered,
            });
        }
    }

    /// Records the session's notes.
    #[inline]
    pub(super) fn record_packets(&mut self) {
        if self.recorder.is_some() {
            self.record_notes();
        }
    }

    fn record_notes(&mut self) {
        while let Some(note) = self.session.poll_note() {
            let (Note::Encoded { noted, .. } | Note::Written(noted) | Note::Received(noted)) = note;
            let Noted { packet, number, id } = noted;
            let packet_id = id;
            self.record(match note {
                Note::Encoded { again, bytes, .. } => What::Encoded {
                    packet,
                    packet_id,
                    number,
                    again,
                    bytes,
                },
                Note::Written(_) => What::Written {
                    packet,
                    packet_id,
                    number,
                },
                Note::Received(_) => What::Received {
                    packet,
                    packet_id,
                    number,
                },
            });
        }
    }

    /// The link gave so many bytes.
    pub(super) fn record_read(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.record(What::Read { bytes });
    }

    /// The link took so many bytes.
    pub(super) fn record_write(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.record(What::Write { bytes });
    }

    /// The loop is about to sleep.
    pub(super) fn record_sleep(&self) {
        self.record_now(What::Sleeps);
    }

    /// The loop goes on.
    pub(super) fn record_wake_up(&self) {
        self.record_now(What::Woke);
    }

    fn record_now(&self, what: What) {
        if let Some(recorder) = &self.recorder {
            recorder.read_clock();
            recorder.on_loop(what);
        }
    }
}

#[cfg(test)]
mod tests;
