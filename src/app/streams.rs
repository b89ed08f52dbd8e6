//! Standard input and output that wait, also where a call on them does not.
//!
//! Another program that holds the same end of a pipe may have made it one that does not block: a call then fails in place
//! of waiting. The threads that read and write use them.

use std::io::{self, ErrorKind, Read, Stdin, StdoutLock, Write};

/// Standard input.
pub(crate) struct StandardInput(Stdin);

impl StandardInput {
    pub(crate) fn new() -> Self {
        StandardInput(io::stdin())
    }
}

impl Read for StandardInput {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        waiting(Standard::In, || self.0.read(bytes))
    }
}

/// Standard output, locked.
pub(crate) struct StandardOutput(StdoutLock<'static>);

impl StandardOutput {
    pub(crate) fn new() -> Self {
        StandardOutput(io::stdout().lock())
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        waiting(Standard::Out, || self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        waiting(Standard::Out, || self.0.flush())
    }
}

#[derive(Clone, Copy)]
enum Standard {
    In,
    Out,
}

/// Calls until it need not wait.
fn waiting<T>(stream: Standard, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(stream, error)?,
            done => return done,
        }
    }
}

/// Waits until a call can do something.
#[cfg(unix)]
fn wait(stream: Standard, _: io::Error) -> io::Result<()> {
    use std::os::fd::AsFd;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let (input, out) = (io::stdin(), io::stdout());
    let mut watched = match stream {
        Standard::In => [PollFd::new(input.as_fd(), PollFlags::POLLIN)],
        Standard::Out => [PollFd::new(out.as_fd(), PollFlags::POLLOUT)],
    };
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Elsewhere all calls wait by themselves.
#[cfg(not(unix))]
fn wait(_: Standard, error: io::Error) -> io::Result<()> {
    Err(error)
}
