//! \[0\] Which messages are on their way to the subscriber: the publishers wait where they are too many.
//!
//! Mosquitto keeps so many for a subscriber and drops the rest. A publisher takes a place for each message. The place is
//! given back when the message has come, and where the broker does not have it. All threads of an iteration share this.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use mqtt_connection_sharing::Outcome;

use crate::app::traffic::{Account, Begun, Plan};

/// The messages that were begun, and the places of those that have not come.
#[derive(Clone)]
pub(super) struct OnTheirWay {
    begun: Arc<Begun>,
    places: Option<DemoPlaces>,
}

#[derive(Clone)]
struct DemoPlaces {
    take: Sender<()>,
    give_back: Receiver<()>,
}

impl OnTheirWay {
    /// So many places; `None` for any number.
    pub(super) fn new(plan: &Plan, places: Option<usize>) -> Self {
        OnTheirWay {
            begun: Arc::new(Begun::new(plan)),
            places: places.map(|places| {
                let (take, give_back) = bounded(places);
                DemoPlaces { take, give_back }
            }),
        }
    }

    /// An account of those that come back.
    pub(super) fn account(&self, plan: &Plan) -> Account {
        Account::of_begun(plan, Arc::clone(&self.begun))
    }

    /// A message is to be pushed. Waits for a place, unless the iteration is over.
    pub(super) fn begin(&self, publisher: usize, number: u64, over: &Receiver<()>) {
        if let Some(places) = &self.places {
            select! {
                send(places.take, ()) -> _ => {}
                // Nothing is ever sent on it.
                recv(over) -> _ => {}
            }
        }
        self.begun.begin(publisher, number);
    }

    /// A message has ended for its publisher. It comes unless the broker does not have it.
    pub(super) fn ended(&self, publisher: usize, number: u64, outcome: &Outcome) {
        if matches!(
            outcome,
            Outcome::NeverSent(_) | Outcome::Refused { .. } | Outcome::Cancelled(_)
        ) {
            self.cannot_come(publisher, number);
        }
    }

    /// The broker does not have a message that was begun.
    pub(super) fn cannot_come(&self, publisher: usize, number: u64) {
        self.begun.cannot_come(publisher, number);
        self.has_come();
    }

    /// A message has come, for the first time. One that was refused as well gives back one place too many, which does no
    /// harm.
    pub(super) fn has_come(&self) {
        if let Some(places) = &self.places {
            let _ = places.give_back.try_recv();
        }
    }
}
