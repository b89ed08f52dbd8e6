//! The loop's session, and the token that it hands back when a command has ended.
//!
//! Dropping it ends every command of the session with the truth, so that each waiting thread learns it
//! even after a panic in the loop. A completion alone would say "cancelled", also of what was sent. The
//! loop's thread.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use crate::client::outlet::InboxId;
use crate::client::ticket::Completion;
use crate::mqtt::session::{Event, Reason, Session, SessionOptions};
use crate::mqtt::subscriptions::InterestId;

/// The session of one loop.
pub(super) struct LoopSession(pub(super) Session<Pending>);

/// The token that the session hands back when a command has ended.
#[derive(Debug)]
pub(super) enum Pending {
    Plain(Completion),
    /// A request of the loop itself.
    Own,
    /// With the interests that were added for it.
    Subscribe(Box<(Completion, Vec<InterestId<InboxId>>)>),
    /// SUBSCRIBE of the loop itself, to the responses: with the interests that were added for it.
    Responses(Vec<InterestId<InboxId>>),
    /// With the interests that are leaving, and the filters that the broker is told of.
    Unsubscribe(Box<(Completion, Vec<InterestId<InboxId>>, Vec<String>)>),
}

impl LoopSession {
    pub(super) fn new(options: SessionOptions, takes_notes: bool, now: Instant) -> Self {
        let mut session = Session::new(options, now);
        if takes_notes {
            session.take_notes(Pending::recorded);
        }
        LoopSession(session)
    }
}

impl Deref for LoopSession {
    type Target = Session<Pending>;

    fn deref(&self) -> &Session<Pending> {
        &self.0
    }
}

impl DerefMut for LoopSession {
    fn deref_mut(&mut self) -> &mut Session<Pending> {
        &mut self.0
    }
}

impl Drop for LoopSession {
    fn drop(&mut self) {
        self.0.abandon(Reason::LoopEnded);
        while let Some(event) = self.0.poll_event() {
            if let Event::Resolved { token, outcome, .. } = event {
                token.into_completion().tell(outcome);
            }
        }
    }
}

impl Pending {
    /// The number of the command in the recording, 0 for none.
    pub(super) fn recorded(&self) -> u64 {
        let number = match self {
            Pending::Plain(completion) => completion.recorded(),
            Pending::Own | Pending::Responses(_) => 0,
            Pending::Subscribe(more) => more.0.recorded(),
            Pending::Unsubscribe(more) => more.0.recorded(),
        };
        number.into()
    }

    fn into_completion(self) -> Completion {
        match self {
            Pending::Plain(completion) => completion,
            Pending::Own | Pending::Responses(_) => Completion::nobody(),
            Pending::Subscribe(more) => more.0,
            Pending::Unsubscribe(more) => more.0,
        }
    }
}
