//! Ends the loop when a thread of the program is gone. Any thread may hold it.

use std::time::Duration;

use mqtt_connection_sharing::Handle;

/// Ends the loop when the thread that holds it is gone, also by a panic or because it could not be
/// started: without the subscriber nobody else would, and without a publisher the subscriber would
/// wait for messages that never come.
pub(crate) struct EndsLoop {
    pub(crate) handle: Handle,
    pub(crate) grace: Duration,
    /// Cleared by a thread that has done its work while others go on.
    pub(crate) needed: bool,
}

impl Drop for EndsLoop {
    fn drop(&mut self) {
        if self.needed {
            drop(self.handle.terminate(self.grace));
        }
    }
}
