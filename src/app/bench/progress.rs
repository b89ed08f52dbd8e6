//! A bar that shows how far the bench is, on standard error if that is a terminal.
//!
//! A thread of its own draws the bar, a few times a second, so that the bench is not slowed.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::publisher::Tally;

/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(100);

/// Whether progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A bar on standard error.
    Bar,
    /// Nothing.
    Hidden,
}

/// Shows progress as long as it lives.
pub(super) struct Bar {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// A bar, if standard error is a terminal.
    pub(crate) fn on_terminal() -> Self {
        match io::stderr().is_terminal() {
            true => Progress::Bar,
            false => Progress::Hidden,
        }
    }

    /// Starts to show how many of `total` messages are acknowledged.
    pub(super) fn start(self, tally: &Arc<Tally>, total: u64) -> Bar {
        let (stop, stopped) = bounded(0);
        let tally = Arc::clone(tally);
        let show = move || {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = "{wide_bar} {human_pos} of {human_len}, {per_sec:.0}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(tally.acknowledged());
            }
            bar.finish_and_clear();
        };
        let thread = match self {
            // Without a thread for it there is no bar.
            Progress::Bar => thread::Builder::new()
                .name("progress".to_owned())
                .spawn(show)
                .ok(),
            Progress::Hidden => None,
        };
        Bar {
            stop: Some(stop),
            thread,
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A failure of the bar is no concern of the result.
            let _ = thread.join();
        }
    }
}
