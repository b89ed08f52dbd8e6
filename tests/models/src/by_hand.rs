//! The model of messages that a thread acknowledges: see `models.rs`.

use std::sync::Arc;
use std::thread::{spawn, yield_now};

use crate::client::by_hand::Unacknowledged;
use crate::client::doorbell::Doorbell;
use crate::client::inbox::Inbox;
use crate::client::inbox_error::InboxError;
use crate::client::lane::{HandEnd, urgent_lane};
use crate::client::outlet::{ByHand, Held, InboxId, Item, Offer};
use crate::mqtt::packet::Message;
use crate::mqtt::session::DeliveryId;

fn take(inbox: &Inbox<Unacknowledged>) -> Unacknowledged {
    loop {
        match inbox.try_recv() {
            Ok(message) => return message,
            Err(InboxError::Timeout) => yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Threads: the loop, which delivers two messages and sleeps until it has heard of both; one that takes both, and says
/// that the second one is done before it drops the first one undone.
pub(crate) fn inbox_by_hand() {
    let bell = Arc::new(Doorbell::default());
    let (sender, lane) = urgent_lane(Arc::clone(&bell));
    let (inbox, outlet) = Inbox::by_hand(InboxId(0), 2, ByHand::default(), sender, None);
    let receiving = spawn(move || {
        let undone = take(&inbox);
        take(&inbox).done();
        drop(undone);
        inbox
    });
    bell.set_thread();
    for number in 0..2 {
        let held = Held {
            message: Arc::new(Message(number)),
            delivery: DeliveryId(number),
            attempts: 1,
            number: 0,
        };
        assert!(matches!(outlet.offer(Item::ByHand(held)), Offer::Accepted));
    }
    let mut ends = Vec::new();
    while ends.len() < 2 {
        bell.sleep(true, None, || !lane.is_empty());
        if lane.take_process_loop() {
            ends.extend(lane.take_hand_ends());
        }
    }
    let end = |number, is_done| HandEnd {
        inbox: InboxId(0),
        delivery: DeliveryId(number),
        is_done,
    };
    assert_eq!(ends, [end(1, true), end(0, false)]);
    drop(receiving.join().unwrap());
}
