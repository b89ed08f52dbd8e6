//! The live view: what each thread does now, and how the one connection is, on standard error.
//!
//! The main thread says what runs (`work.rs`), the threads say what they do (`activity.rs`), and a thread of its own looks
//! at it ten times a second, makes lines of it (`text.rs`) and draws them (`screen.rs`). Without a terminal, or with
//! `--view off`, the log gets one line every ten seconds in place of that. The view changes nothing: nobody waits for it.

mod activity;
mod growth;
pub(crate) mod screen;
#[cfg(test)]
mod tests;
mod text;
mod work;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::cli::Verbosity;
use super::values::ViewMode;

pub(crate) use activity::{Activity, Now};
pub(crate) use work::{Bounds, SharedInbox, Work};

/// Between two drawings.
const FRAME: Duration = Duration::from_millis(100);

/// Between two lines in the log.
const LINE: Duration = Duration::from_secs(10);

/// Shows what runs as long as it lives. Dropping it takes the view off the terminal.
pub(crate) struct View {
    work: Arc<Mutex<Option<Work>>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl View {
    /// Starts the view's thread.
    pub(crate) fn start(mode: ViewMode, verbosity: Verbosity) -> Self {
        let work = Arc::new(Mutex::new(None));
        let (stop, stopped) = bounded::<()>(0);
        let shown = Arc::clone(&work);
        let is_live = mode == ViewMode::Auto && screen::is_there();
        let show = move || {
            let interval = if is_live { FRAME } else { LINE };
            let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let seen = lock(&shown).as_mut().map(|work| work.look(Instant::now()));
                match seen {
                    Some(seen) if is_live => {
                        let (columns, rows) = screen::size();
                        let mut lines = text::lines(&seen, columns, colours);
                        // The line of the cursor is below them.
                        lines.truncate(rows.saturating_sub(1));
                        screen::draw(lines, columns);
                    }
                    Some(seen) => log::info!("{}", text::in_one_line(&seen)),
                    None => {}
                }
            }
            if is_live {
                screen::clear();
            }
        };
        let thread = match verbosity {
            Verbosity::Quiet => None,
            // Without a thread for it there is no view.
            _ => thread::Builder::new()
                .name("view".to_owned())
                .spawn(show)
                .ok(),
        };
        if is_live && thread.is_some() {
            #[cfg(unix)]
            screen::watch_stops();
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                screen::step_aside();
                before(panic);
            }));
        }
        View {
            work,
            stop: Some(stop),
            thread,
        }
    }

    /// From now on this runs.
    pub(crate) fn show(&self, work: Work) {
        *lock(&self.work) = Some(work);
    }

    /// This happens after so much time, and nothing else until then.
    pub(crate) fn count_down(&self, what: &'static str, time: Duration) {
        let at = Instant::now().checked_add(time);
        if let (Some(work), Some(at)) = (lock(&self.work).as_mut(), at) {
            work.set_next(what, at);
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A failure of the view is no concern of the result.
            let _ = thread.join();
        }
    }
}

fn lock(work: &Mutex<Option<Work>>) -> MutexGuard<'_, Option<Work>> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}
