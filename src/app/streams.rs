//! Standard input and output that wait, also where a call on them does not.
//!
//! Another program that holds the same end of a pipe may have made it one that does not block: a call then fails in place
//! of waiting. The threads that read and write use them.

use std::io::{self, ErrorKind, Read, Stdin, StdoutLock, Write};

/// Standard input.
pub(crate) struct Input(Stdin);

impl Input {
    pub(crate) fn new() -> Self {
        Input(io::stdin())
    }
}

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        waiting(Way::In, || self.0.read(bytes))
    }
}

/// Standard output, locked.
pub(crate) struct Output(StdoutLock<'static>);

impl Output {
    pub(crate) fn new() -> Self {
        Output(io::stdout().lock())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        waiting(Way::Out, || self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        waiting(Way::Out, || self.0.flush())
    }
}

#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// Calls until it need not wait.
fn waiting<T>(way: Way, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(way, error)?,
            done => return done,
        }
    }
}

/// Waits until a call can do something.
#[cfg(unix)]
fn wait(way: Way, _: io::Error) -> io::Result<()> {
    use std::os::fd::AsFd;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let (input, out) = (io::stdin(), io::stdout());
    let mut watched = match way {
        Way::In => [PollFd::new(input.as_fd(), PollFlags::POLLIN)],
        Way::Out => [PollFd::new(out.as_fd(), PollFlags::POLLOUT)],
    };
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Elsewhere all calls wait by themselves.
#[cfg(not(unix))]
fn wait(_: Way, error: io::Error) -> io::Result<()> {
    Err(error)
}
