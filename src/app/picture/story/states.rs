//! The states of threads, loop and connection: one at a time each.

use std::collections::BTreeMap;

use mqtt_connection_sharing::recording::What;

use super::{Doing, LaneKind, LoopLanes, LoopRecords, LoopThread, Sign, Story, cause};

/// The states of one loop and its threads.
pub(super) struct States<'r> {
    /// Each thread's wait: its kind, since when, and for what.
    waits: BTreeMap<u32, (Doing, u64, Awaited)>,
    /// When each thread pushed last.
    pushes: BTreeMap<u32, u64>,
    lanes: BTreeMap<u32, u32>,
    loop_lane: u32,
    loop_state: (Doing, u64),
    link_lane: u32,
    link_state: Option<(Doing, u64)>,
    /// Attempts to connect so far.
    attempts: usize,
    /// Why they failed, and those that follow.
    causes: &'r [Option<String>],
}

/// The thing that a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Command(u64),
    Batch,
    Message(u64),
}

impl<'r> States<'r> {
    pub(super) fn new(story: &mut Story, records: &'r LoopRecords, places: &LoopLanes) -> Self {
        let begin = story.offset;
        let mut states = States {
            waits: BTreeMap::new(),
            pushes: BTreeMap::new(),
            lanes: places.threads.clone(),
            loop_lane: places
                .threads
                .get(&0)
                .copied()
                .unwrap_or_else(|| story.lane(LaneKind::Loop, "loop")),
            loop_state: (Doing::Works, begin),
            link_lane: story.lane(LaneKind::Link, "connection"),
            link_state: Some((Doing::Disconnected, begin)),
            attempts: 0,
            causes: &records.causes,
        };
        let begins_late = |thread: &&LoopThread| thread.overwritten > 0;
        for thread in records.threads.iter().filter(begins_late) {
            let own = records.all.iter().find(|record| record.1 == thread.number);
            let first = own.map_or(begin, |record| begin + record.0);
            let lane = places.threads[&thread.number];
            story.state(lane, begin, first, Doing::Missing);
            if thread.number == 0 {
                states.loop_state.1 = first;
                states.link_state = None;
            }
        }
        states
    }

    pub(super) fn record(&mut self, story: &mut Story, at: u64, thread: u32, what: &What) {
        match *what {
            What::Waits { command } => self.begin(
                story,
                at,
                thread,
                Doing::WaitsForOutcome,
                Awaited::Command(command),
            ),
            What::WaitsForBatch { .. } => {
                self.begin(story, at, thread, Doing::WaitsForBatch, Awaited::Batch)
            }
            What::WaitsForMessage { inbox } => {
                self.begin(
                    story,
                    at,
                    thread,
                    Doing::WaitsForMessage,
                    Awaited::Message(inbox),
                );
            }
            What::Told { .. } | What::BatchTold { .. } | What::TakenOut { .. } => {
                self.end(story, at, thread);
            }
            What::Pushed { .. } => {
                self.end(story, at, thread);
                self.pushes.insert(thread, at);
            }
            What::LetIn { .. } | What::HandedBack { .. } => self.goes_on(story, at, thread),
            What::ProcessLoop => story.moment(self.loop_lane, at, Sign::ProcessLoop, 0),
            What::Sleeps => self.loop_does(story, at, Doing::Sleeps),
            What::Woke => self.loop_does(story, at, Doing::Works),
            What::Write { bytes } => story.moment(story.bytes_out, at, story.bytes, bytes),
            What::Read { bytes } => story.moment(story.bytes_in, at, story.bytes, bytes),
            What::Attempt { .. } => {
                self.attempts += 1;
                self.link_is(story, at, Some(Doing::Connecting));
            }
            What::Connected { session_present } => {
                self.link_is(story, at, Some(Doing::Connected));
                let session = if session_present {
                    "session resumed"
                } else {
                    "session new"
                };
                story.told(self.link_lane, at, Sign::Made, session.to_owned());
            }
            What::Lost { loss } => {
                self.link_is(story, at, Some(Doing::Down));
                story.losses += 1;
                story.told(
                    self.link_lane,
                    at,
                    Sign::Broken,
                    format!("lost: {}", cause(loss)),
                );
            }
            What::Retrying { .. } => {
                if let Some((Doing::Connecting, _)) = self.link_state {
                    let text = match self.cause() {
                        Some(cause) => format!("failed: {cause}"),
                        None => "failed".to_owned(),
                    };
                    story.told(self.link_lane, at, Sign::AttemptFailed, text);
                }
                self.link_is(story, at, Some(Doing::Down));
            }
            What::Offline => self.link_is(story, at, Some(Doing::Disconnected)),
            What::LoopEnded => {
                // The last attempt may be one that has failed for good, or that was cut short.
                if let (Some((Doing::Connecting, _)), Some(cause)) = (self.link_state, self.cause())
                {
                    let text = format!("failed: {cause}");
                    story.told(self.link_lane, at, Sign::AttemptFailed, text);
                }
                self.link_is(story, at, None);
                self.loop_ends(story, at);
            }
            _ => {}
        }
    }

    pub(super) fn finish(&mut self, story: &mut Story, end: u64) {
        let threads: Vec<u32> = self.waits.keys().copied().collect();
        for thread in threads {
            self.end(story, end, thread);
        }
        self.loop_ends(story, end);
        self.link_is(story, end, None);
    }

    /// Why the current attempt failed, as far as that is known.
    fn cause(&self) -> Option<&'r String> {
        let current = self.attempts.checked_sub(1)?;
        self.causes.get(current)?.as_ref()
    }

    /// A thread waits. If it has waited for the same thing before, without an end, the first wait goes on: it looked up
    /// after a time-out.
    fn begin(&mut self, story: &mut Story, at: u64, thread: u32, doing: Doing, awaited: Awaited) {
        if self
            .waits
            .get(&thread)
            .is_some_and(|wait| wait.2 == awaited)
        {
            return;
        }
        self.end(story, at, thread);
        if thread != 0 {
            self.waits.insert(thread, (doing, at, awaited));
        }
    }

    /// A thread goes on.
    fn end(&mut self, story: &mut Story, at: u64, thread: u32) {
        if let Some((doing, since, _)) = self.waits.remove(&thread)
            && let Some(lane) = self.lanes.get(&thread)
        {
            story.state(*lane, since, at, doing);
        }
    }

    /// A thread has waited for room since it pushed.
    fn goes_on(&mut self, story: &mut Story, at: u64, thread: u32) {
        // The loop's thread never waits.
        if thread != 0
            && let Some(since) = self.pushes.remove(&thread)
            && let Some(lane) = self.lanes.get(&thread)
        {
            story.state(*lane, since, at, Doing::WaitsForRoom);
        }
    }

    fn loop_does(&mut self, story: &mut Story, at: u64, doing: Doing) {
        let (before, since) = self.loop_state;
        if before != doing {
            story.state(self.loop_lane, since, at, before);
            self.loop_state = (doing, at);
        }
    }

    /// The loop does nothing any more.
    fn loop_ends(&mut self, story: &mut Story, at: u64) {
        let (before, since) = self.loop_state;
        story.state(self.loop_lane, since, at, before);
        self.loop_state = (before, at.max(since));
    }

    fn link_is(&mut self, story: &mut Story, at: u64, doing: Option<Doing>) {
        if let Some((before, since)) = self.link_state {
            if Some(before) == doing {
                return;
            }
            story.state(self.link_lane, since, at, before);
        }
        self.link_state = doing.map(|doing| (doing, at));
    }
}
