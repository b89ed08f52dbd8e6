//! The models of inboxes: see `models.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::thread::{spawn, yield_now};

use crate::client::doorbell::Doorbell;
use crate::client::inbox::Inbox;
use crate::client::inbox_error::InboxError;
use crate::client::lane::urgent_lane;
use crate::client::outlet::{Accept, InboxId, InboxPolicy, Item, Offer, WhenFull};
use crate::models::{block_on, poll};
use crate::mqtt::packet::Message;

fn item(number: u64) -> Item {
    Item::Message(Arc::new(Message(number)), 0)
}

/// Receives so many messages and checks their order.
fn receive(inbox: &Inbox, numbers: std::ops::Range<u64>) {
    for number in numbers {
        loop {
            match inbox.try_recv() {
                Ok(message) => break assert_eq!(message.0, number),
                Err(InboxError::Timeout) => yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Threads: the loop, which delivers two messages to an inbox for one and sleeps while one waits aside; one that
/// receives both. The loop waits aside as `fanout` does: it asks to be woken, and then offers once more.
pub(crate) fn waits_aside() {
    let bell = Arc::new(Doorbell::default());
    let (sender, lane) = urgent_lane(Arc::clone(&bell));
    let (inbox, outlet) = Inbox::new(InboxId(0), 1, WhenFull::WaitAside.into(), sender, None);
    let receiving = spawn(move || receive(&inbox, 0..2));
    bell.set_thread();
    let mut number = 0;
    let mut is_waiting = false;
    while number < 2 {
        match outlet.offer(item(number)) {
            Offer::Accepted => {
                number += 1;
                if is_waiting {
                    outlet.wait_no_more();
                    is_waiting = false;
                }
            }
            Offer::Full(_) if !is_waiting => {
                outlet.wait_for_room();
                is_waiting = true;
            }
            Offer::Full(_) => {
                bell.sleep(true, None, || !lane.is_empty());
                lane.take_process_loop();
            }
            Offer::Gone => break,
        }
    }
    receiving.join().unwrap();
}

/// Threads: the loop, which delivers one message, hands over as many as there is room for then, and ends; one that
/// receives all of them.
pub(crate) fn handed_over() {
    let (sender, lane) = urgent_lane(Arc::default());
    let (inbox, outlet) = Inbox::new(InboxId(0), 2, WhenFull::WaitAside.into(), sender, None);
    let receiving = spawn(move || {
        let received = std::iter::from_fn(|| inbox.recv().ok());
        let numbered = received.zip(0..).map(|(message, number)| {
            assert_eq!(message.0, number);
        });
        numbered.count()
    });
    assert!(matches!(outlet.offer(item(0)), Offer::Accepted));
    let room = outlet.room();
    outlet.hand_over((1..=room as u64).map(item));
    drop(outlet);
    assert_eq!(receiving.join().unwrap(), 1 + room);
    drop(lane);
}

/// Threads: the loop, which delivers two messages and sleeps until both are taken; one that receives both.
pub(crate) fn once_taken() {
    let bell = Arc::new(Doorbell::default());
    let (sender, lane) = urgent_lane(Arc::clone(&bell));
    let policy = InboxPolicy::from(Accept::OnceTaken);
    let (inbox, outlet) = Inbox::new(InboxId(0), 2, policy, sender, None);
    let receiving = spawn(move || {
        receive(&inbox, 0..2);
        inbox
    });
    bell.set_thread();
    assert!(matches!(outlet.offer(item(0)), Offer::Accepted));
    assert!(matches!(outlet.offer(item(1)), Offer::Accepted));
    while outlet.taken() < 2 {
        bell.sleep(true, None, || !lane.is_empty());
        lane.take_process_loop();
    }
    drop(receiving.join().unwrap());
}

/// Threads: the loop, which delivers one message, leaves another that waits aside, and ends; one that receives until
/// the end. It gets both, and then `Closed`.
pub(crate) fn ends() {
    let (sender, lane) = urgent_lane(Arc::default());
    let (inbox, outlet) = Inbox::new(InboxId(0), 1, WhenFull::WaitAside.into(), sender, None);
    let receiving = spawn(move || {
        receive(&inbox, 0..2);
        assert_eq!(inbox.recv().unwrap_err(), InboxError::Closed);
    });
    assert!(matches!(outlet.offer(item(0)), Offer::Accepted));
    outlet.leave(std::iter::once(item(1)));
    drop(outlet);
    receiving.join().unwrap();
    drop(lane);
}

/// Threads: the loop, which delivers two messages; a task that awaits both.
pub(crate) fn awaited() {
    let (sender, lane) = urgent_lane(Arc::default());
    let (inbox, outlet) = Inbox::new(InboxId(0), 2, WhenFull::WaitAside.into(), sender, None);
    let delivering = spawn(move || {
        assert!(matches!(outlet.offer(item(0)), Offer::Accepted));
        assert!(matches!(outlet.offer(item(1)), Offer::Accepted));
        outlet
    });
    for number in 0..2 {
        assert_eq!(block_on(inbox.recv_async()).unwrap().0, number);
    }
    drop(delivering.join().unwrap());
    drop(lane);
}

/// Threads: the loop, which delivers one message; a task that awaits it; another that asks for it once and gives up.
/// One of them has it in the end.
pub(crate) fn given_up() {
    let (sender, lane) = urgent_lane(Arc::default());
    let (inbox, outlet) = Inbox::new(InboxId(0), 1, WhenFull::WaitAside.into(), sender, None);
    let inbox = Arc::new(inbox);
    let delivering = spawn(move || {
        assert!(matches!(outlet.offer(item(0)), Offer::Accepted));
        outlet
    });
    let awaiting = {
        let inbox = Arc::clone(&inbox);
        spawn(move || block_on(inbox.recv_async()).is_ok())
    };
    let mut given_up = inbox.recv_async();
    let has_it = poll(Pin::new(&mut given_up), Waker::noop()).is_ready();
    drop(given_up);
    // The loop's end tells the task that there is none for it.
    drop(delivering.join().unwrap());
    assert!(awaiting.join().unwrap() != has_it);
    drop(lane);
}

/// Threads: the loop, which leaves a message that waits aside, and ends; a task that awaits the message and the end.
pub(crate) fn end_awaited() {
    let (sender, lane) = urgent_lane(Arc::default());
    let (inbox, outlet) = Inbox::new(InboxId(0), 1, WhenFull::WaitAside.into(), sender, None);
    let ending = spawn(move || {
        outlet.leave(std::iter::once(item(0)));
        drop(outlet);
    });
    assert_eq!(block_on(inbox.recv_async()).unwrap().0, 0);
    let end = block_on(inbox.recv_async());
    assert_eq!(end.unwrap_err(), InboxError::Closed);
    ending.join().unwrap();
    drop(lane);
}
