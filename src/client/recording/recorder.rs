//! Writes records: the loop through [`Recorder::on_loop`], every other thread through [`Recorder::on_thread`].
//!
//! Each thread writes into a track of its own, which is made at its first record: this takes two locks and allocates, and
//! nothing after it does. A thread finds its track in its thread-local memory. Tracks outlive their threads, so that they
//! can be read afterwards; of those whose thread has ended only the last ones are kept.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Instant;

use super::packing::nanos_of;
use super::record::What;
use super::ring::RecordRing;
use crate::mqtt::session::DeliveryId;
use crate::options::RecordingSize;

/// Recordings are numbered over all loops.
static NEXT_RECORDING: AtomicU64 = AtomicU64::new(0);

/// Commands that a thread numbers before it asks for more numbers.
const NUMBERS: u32 = 64;

thread_local! {
    /// The tracks of this thread, one for each recording.
    static OWN: RefCell<Vec<OwnTrack>> = const { RefCell::new(Vec::new()) };
}

/// The writing end of a recording. All threads of one loop share it.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<RecordingState>);

/// The state of a recording.
pub(crate) struct RecordingState {
    /// Over all recordings.
    number: u64,
    pub(super) began: Instant,
    size: RecordingSize,
    /// Messages of QoS 0 that came. The loop alone writes.
    unacknowledged: AtomicU64,
    next_numbers: AtomicU32,
    loop_track: Arc<Track>,
    tracks: Mutex<Tracks>,
}

/// The tracks, in the order in which they were made.
struct Tracks {
    all: Vec<Arc<Track>>,
    /// How many were made.
    made: u32,
}

/// The records of one thread.
pub(crate) struct Track {
    pub(super) ring: RecordRing,
    pub(super) thread: u32,
    pub(super) name: OnceLock<String>,
    pub(super) has_ended: AtomicBool,
    /// When the recording began.
    began: Instant,
    /// Nanoseconds since then at which its thread last looked at the clock. This thread alone writes.
    time: AtomicU64,
    /// The number of its recording.
    recording: u64,
}

/// A track that the current thread writes.
struct OwnTrack {
    track: Arc<Track>,
    /// The numbers that the thread may give to commands.
    numbers: std::ops::Range<u32>,
}

/// A ticket's or a batch's knowledge of the recording. It has numbers only, so that no two threads write to one place for it.
pub(crate) struct CommandMark {
    recording: u64,
    command: u32,
    is_told: AtomicBool,
}

/// Held while the thread runs the loop.
pub(crate) struct LoopTrack(Recorder);

impl Recorder {
    /// A recording that begins now.
    pub(crate) fn new(size: RecordingSize) -> Self {
        let began = Instant::now();
        let number = NEXT_RECORDING.fetch_add(1, Ordering::Relaxed);
        let loop_track = Arc::new(Track {
            ring: RecordRing::new(size.of_loop),
            thread: 0,
            name: OnceLock::new(),
            has_ended: AtomicBool::new(false),
            began,
            time: AtomicU64::new(0),
            recording: number,
        });
        let state = Arc::new(RecordingState {
            number,
            began,
            size,
            unacknowledged: AtomicU64::new(0),
            next_numbers: AtomicU32::new(NUMBERS),
            tracks: Mutex::new(Tracks {
                all: vec![Arc::clone(&loop_track)],
                made: 1,
            }),
            loop_track,
        });
        let mut all = recordings();
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&state));
        drop(all);
        Recorder(state)
    }

    pub(super) fn state(&self) -> Arc<RecordingState> {
        Arc::clone(&self.0)
    }

    /// The current thread runs the loop from now on.
    pub(crate) fn enter_loop(&self) -> LoopTrack {
        let track = Arc::clone(&self.0.loop_track);
        let name = thread::current().name().unwrap_or("loop").to_owned();
        // The cell is empty: running a loop consumes it.
        let _ = track.name.set(name);
        let own = OwnTrack {
            track,
            numbers: 0..0,
        };
        // Without its memory the thread is about to end.
        let _ = OWN.try_with(|all| all.borrow_mut().push(own));
        LoopTrack(self.clone())
    }

    /// The loop's turn began at this time.
    pub(crate) fn set_turn(&self, now: Instant) {
        self.0.loop_track.set_time(now);
    }

    /// The loop looks at the clock: what it does next comes after all that threads did before.
    pub(crate) fn read_clock(&self) {
        self.set_turn(Instant::now());
    }

    /// Something happened on the loop's thread.
    #[inline]
    pub(crate) fn on_loop(&self, what: What) {
        self.0.loop_track.write(what);
    }

    /// The number of a message that came.
    pub(crate) fn number_message(&self, delivery: Option<DeliveryId>) -> u64 {
        match delivery {
            Some(delivery) => delivery.number(),
            None => {
                let count = self.0.unacknowledged.load(Ordering::Relaxed) + 1;
                self.0.unacknowledged.store(count, Ordering::Relaxed);
                2 * count
            }
        }
    }

    /// Something happened on the current thread, just now.
    pub(crate) fn on_thread(&self, what: What) {
        with_own(self.0.number, |own| own.write(what));
    }

    /// The number of a command that this thread is about to push, and the mark of its ticket.
    pub(crate) fn number_command(&self) -> Option<CommandMark> {
        with_own(self.0.number, |own| CommandMark {
            recording: self.0.number,
            command: own.number_command(&self.0.next_numbers),
            is_told: AtomicBool::new(false),
        })
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl CommandMark {
    pub(crate) fn command(&self) -> u32 {
        self.command
    }

    /// The current thread begins to wait for the command.
    pub(crate) fn waits(&self) {
        self.record(What::Waits {
            command: self.command.into(),
        });
    }

    /// The current thread has the outcome. The first thread to have it is recorded.
    pub(crate) fn told(&self) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            self.record(What::Told {
                command: self.command.into(),
            });
        }
    }

    /// The current thread begins to wait for all messages of a batch.
    pub(crate) fn waits_for_batch(&self, messages: u64) {
        self.record(What::WaitsForBatch { messages });
    }

    /// They have ended, and the current thread knows.
    pub(crate) fn batch_told(&self, messages: u64) {
        self.record(What::BatchTold { messages });
    }

    /// Something that has to do with the command happened on the current thread.
    fn record(&self, what: What) {
        with_own(self.recording, |own| own.write(what));
    }
}

/// Calls `with` with this thread's track in the recording of this number. It is made if need be, and cannot be if the
/// recording is gone.
fn with_own<T>(recording: u64, with: impl FnOnce(&mut OwnTrack) -> T) -> Option<T> {
    let found = |own: &mut Vec<OwnTrack>| {
        let is_it = |own: &OwnTrack| own.track.recording == recording;
        let place = match own.iter().position(is_it) {
            Some(place) => place,
            None => {
                // The recording has dropped its end.
                own.retain(|own| Arc::strong_count(&own.track) > 1);
                own.push(RecordingState::find(recording)?.make_track());
                own.len() - 1
            }
        };
        Some(with(&mut own[place]))
    };
    // A thread that is about to end may have freed its memory already.
    OWN.try_with(|own| found(&mut own.borrow_mut())).ok()?
}

/// All recordings that are still there.
fn recordings() -> MutexGuard<'static, Vec<Weak<RecordingState>>> {
    static ALL: Mutex<Vec<Weak<RecordingState>>> = Mutex::new(Vec::new());
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OwnTrack {
    fn write(&self, what: What) {
        self.track.set_time(Instant::now());
        self.track.write(what);
    }

    fn number_command(&mut self, next_numbers: &AtomicU32) -> u32 {
        loop {
            // 0 comes once all numbers were used.
            match self.numbers.next() {
                Some(number) if number > 0 => return number,
                Some(_) => {}
                None => {
                    let first = next_numbers.fetch_add(NUMBERS, Ordering::Relaxed);
                    self.numbers = first..first.saturating_add(NUMBERS);
                }
            }
        }
    }
}

impl Track {
    fn set_time(&self, now: Instant) {
        let nanos = nanos_of(now.saturating_duration_since(self.began));
        if self.time.load(Ordering::Relaxed) < nanos {
            self.time.store(nanos, Ordering::Relaxed);
        }
    }

    fn write(&self, what: What) {
        self.ring
            .write(what.pack(self.time.load(Ordering::Relaxed)));
    }
}

impl Drop for OwnTrack {
    fn drop(&mut self) {
        self.track.has_ended.store(true, Ordering::Release);
    }
}

impl Drop for LoopTrack {
    fn drop(&mut self) {
        let _ = OWN.try_with(|all| {
            let own = &self.0.0.loop_track;
            all.borrow_mut().retain(|one| !Arc::ptr_eq(&one.track, own));
        });
    }
}

impl RecordingState {
    /// The recording of this number.
    fn find(number: u64) -> Option<Arc<Self>> {
        let all = recordings();
        let mut there = all.iter().filter_map(Weak::upgrade);
        there.find(|one| one.number == number)
    }

    /// A track for the current thread.
    fn make_track(&self) -> OwnTrack {
        let ring = RecordRing::new(self.size.of_thread);
        let mut tracks = self.tracks();
        let thread = tracks.made;
        tracks.made += 1;
        let name = match thread::current().name() {
            Some(name) => name.to_owned(),
            None => format!("thread {thread}"),
        };
        let track = Arc::new(Track {
            ring,
            thread,
            name: name.into(),
            has_ended: AtomicBool::new(false),
            began: self.began,
            time: AtomicU64::new(0),
            recording: self.number,
        });
        tracks.forget_ended(self.size.ended_threads);
        tracks.all.push(Arc::clone(&track));
        OwnTrack {
            track,
            numbers: 0..0,
        }
    }

    fn tracks(&self) -> MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tracks that are kept, in order, and how many threads there were.
    pub(super) fn all_tracks(&self) -> (Vec<Arc<Track>>, u32) {
        let tracks = self.tracks();
        (tracks.all.clone(), tracks.made)
    }
}

impl Tracks {
    /// Keeps so many tracks of threads that have ended: the last ones. The loop's stays.
    fn forget_ended(&mut self, kept: usize) {
        let has_ended =
            |track: &Arc<Track>| track.thread > 0 && track.has_ended.load(Ordering::Relaxed);
        let ended = self.all.iter().filter(|track| has_ended(track)).count();
        let mut too_many = ended.saturating_sub(kept);
        self.all.retain(|track| {
            let goes = too_many > 0 && has_ended(track);
            too_many -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn threads_number_commands_differently_and_never_0() {
        let recorder = Recorder::new(RecordingSize::default());
        // The numbers begin again meanwhile.
        let first = u32::MAX - 3 * NUMBERS + 1;
        recorder.0.next_numbers.store(first, Ordering::Relaxed);
        let number = || {
            let mark = recorder.number_command();
            mark.map_or(0, |mark| mark.command())
        };
        let many = || (0..100).map(|_| number()).collect::<Vec<_>>();
        let numbers = thread::scope(|scope| {
            let others = [(); 3].map(|()| scope.spawn(many));
            let mut numbers = many();
            for one in others {
                numbers.extend(one.join().unwrap());
            }
            numbers
        });
        let different: HashSet<_> = numbers.iter().collect();
        assert_eq!(different.len(), 400);
        assert!(!numbers.contains(&0));
        assert!(numbers.contains(&1), "they began again");
    }

    #[test]
    fn the_loops_thread_has_one_track_also_for_its_callbacks() {
        let recorder = Recorder::new(RecordingSize::default());
        let in_loop = recorder.enter_loop();
        recorder.on_thread(What::ProcessLoop);
        assert_eq!(recorder.0.all_tracks().0.len(), 1);
        assert!(!recorder.0.loop_track.has_ended.load(Ordering::Relaxed));
        drop(in_loop);
        assert!(recorder.0.loop_track.has_ended.load(Ordering::Relaxed));
        recorder.on_thread(What::ProcessLoop);
        assert_eq!(recorder.0.all_tracks().0.len(), 2);
    }

    #[test]
    fn a_recording_that_is_gone_takes_its_memory_with_it() {
        let gone = Recorder::new(RecordingSize::default());
        let mark = gone.number_command().unwrap();
        let state = Arc::downgrade(&gone.0);
        drop(gone);
        assert_eq!(state.strong_count(), 0);
        // Nobody reads it.
        mark.told();
        Recorder::new(RecordingSize::default()).on_thread(What::ProcessLoop);
        OWN.with(|own| assert_eq!(own.borrow().len(), 1));
    }
}
