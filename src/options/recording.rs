//! How much a recording keeps. Pure data.

/// How much a [recording](crate::recording) keeps. Each thread has a ring of records, in which the oldest are overwritten.
/// A record takes 32 bytes; the sizes are rounded up to powers of two. Start from the default:
///
/// ```
/// # use mqtt_connection_sharing::options::{Options, RecordingSize};
/// # let mut options = Options::new("broker.example", "my-client");
/// let mut size = RecordingSize::default();
/// size.of_loop = 1_000_000;
/// options.recording = Some(size);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordingSize {
    /// Records of the loop's thread, 1 to 16,777,216. A message that is published takes five of them, one that comes four
    /// to six. 131,072 (4 MiB) by default.
    pub of_loop: usize,
    /// Records of each other thread that uses the connection, 1 to 16,777,216. A message takes one to three. 4,096 (128
    /// KiB) by default.
    pub of_thread: usize,
    /// Threads that have ended and whose records are kept, up to 16,777,216. Those that began last stay. 256 by default.
    pub ended_threads: usize,
}

impl Default for RecordingSize {
    fn default() -> Self {
        RecordingSize {
            of_loop: 131_072,
            of_thread: 4_096,
            ended_threads: 256,
        }
    }
}
