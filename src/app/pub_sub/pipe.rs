//! Notices that nobody reads standard output any more, also while there is nothing to write: `sub … | head -1` ends with
//! its first message.
//!
//! A thread of its own waits, and the end of the program ends it.

/// Calls `act` once when the reader of standard output has gone. Never for a file.
#[cfg(unix)]
pub(super) fn when_closed(act: impl FnOnce() + Send + 'static) {
    use std::os::fd::AsFd;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let wait = move || {
        let out = std::io::stdout();
        // Errors are told without being asked for.
        let mut watched = [PollFd::new(out.as_fd(), PollFlags::empty())];
        loop {
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return act(),
                Err(error) => return log::debug!("standard output cannot be watched: {error}"),
            }
        }
    };
    // Without it the next write notices.
    drop(super::spawn("output", wait));
}

/// Elsewhere the next write notices.
#[cfg(not(unix))]
pub(super) fn when_closed(_: impl FnOnce() + Send + 'static) {}
