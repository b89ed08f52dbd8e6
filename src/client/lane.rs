//! The urgent lane: requests that go ahead of the command queue, and wake the loop.
//!
//! A full queue cannot keep a request out of the lane, and the loop takes all that is in the lane at
//! once. Requests of one kind become one, so a thread that repeats them makes the lane no larger: the
//! lane keeps one of each kind, the completions whose tickets a thread still holds, the inboxes
//! that threads hold, and the SUBSCRIBEs that they are pushing. The lock is held for moments only. Waking the loop, as
//! the readiness thread does for every PROCESSLOOP, takes no lock, nor does telling it that a message is done: there are
//! no more of these ends than messages that the loop has given out. Any thread sends; the loop's alone takes.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::client::doorbell::Doorbell;
use crate::client::outlet::{InboxId, Outlet};
use crate::client::ticket::{Completion, Completions};
use crate::mqtt::packet::Filter;
use crate::mqtt::session::{DeliveryId, Outcome, Reason};

/// A longer grace is cut: the clock cannot tell every time.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The threads' end of the lane.
#[derive(Clone)]
pub(crate) struct LaneSender {
    shared: Arc<LaneState>,
}

/// The loop's end of the lane. Dropping it cancels what is in the lane, and what threads send later.
pub(crate) struct UrgentLane {
    shared: Arc<LaneState>,
    hand_ends: Receiver<HandEnd>,
}

struct LaneState {
    doorbell: Arc<Doorbell>,
    /// PROCESSLOOP was injected, and the loop has not taken it yet.
    injected: AtomicBool,
    /// `urgent` holds something. Changes under the lock only.
    filled: AtomicBool,
    /// `urgent` has announcements. Changes under the lock only.
    announced: AtomicBool,
    /// `None` once the loop has ended.
    urgent: Mutex<Option<Urgent>>,
    hand_ends: Sender<HandEnd>,
}

/// A thread has a message of an inbox that accepts by hand no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandEnd {
    pub(crate) inbox: InboxId,
    pub(crate) delivery: DeliveryId,
    /// The message was not dropped undone.
    pub(crate) is_done: bool,
}

/// The requests that the loop has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Urgent {
    /// Subscribers and subscriptions.
    pub(crate) news: News,
    /// Numbers of announced SUBSCRIBEs that will not come.
    pub(crate) withdrawn: Vec<u64>,
    /// At most one of each kind. The last one decides where the connection ends up.
    pub(crate) link_requests: Vec<(LinkRequest, Completions)>,
    /// Comes after the link requests: with the earliest end of grace that a thread asked for.
    pub(crate) terminate: Option<(Instant, Leave, Completions)>,
    /// PROCESSLOOPs of threads that wait for the end of it.
    pub(crate) process_loops: Completions,
    /// The readiness thread has ended: the loop would never hear of the socket again.
    pub(crate) watch_failure: Option<io::Error>,
}

/// News of subscribers and subscriptions, which the loop does not know yet.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Inboxes that threads opened and still hold.
    pub(crate) opened: BTreeMap<InboxId, Outlet>,
    /// Inboxes that the loop knows and whose threads dropped them.
    pub(crate) closed: Vec<InboxId>,
    /// SUBSCRIBEs that threads are pushing, or have pushed.
    pub(crate) announced: Vec<Announcement>,
}

/// A SUBSCRIBE on its way through the queue: its subscription counts from now on.
#[derive(Debug)]
pub(crate) struct Announcement {
    /// Names the SUBSCRIBE.
    pub(crate) number: u64,
    pub(crate) inbox: InboxId,
    pub(crate) filters: Vec<Filter>,
}

/// A request that changes what becomes of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkRequest {
    Disconnect(Leave),
    Reconnect,
}

/// Whether the broker publishes the last will of a client that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leave {
    /// It forgets the will.
    Quietly,
    WithWill,
}

impl LinkRequest {
    /// A request for both in one, if they are of one kind.
    fn join(self, other: LinkRequest) -> Option<LinkRequest> {
        match (self, other) {
            (LinkRequest::Disconnect(one), LinkRequest::Disconnect(other)) => {
                Some(LinkRequest::Disconnect(one.max(other)))
            }
            (LinkRequest::Reconnect, LinkRequest::Reconnect) => Some(self),
            _ => None,
        }
    }
}

/// A lane to the loop that sleeps at this doorbell.
pub(crate) fn urgent_lane(doorbell: Arc<Doorbell>) -> (LaneSender, UrgentLane) {
    let (hand_ends, taken) = unbounded();
    let shared = Arc::new(LaneState {
        doorbell,
        injected: AtomicBool::new(false),
        filled: AtomicBool::new(false),
        announced: AtomicBool::new(false),
        urgent: Mutex::new(Some(Urgent::default())),
        hand_ends,
    });
    let sender = LaneSender {
        shared: Arc::clone(&shared),
    };
    let lane = UrgentLane {
        shared,
        hand_ends: taken,
    };
    (sender, lane)
}

impl LaneSender {
    /// Injects PROCESSLOOP. Takes no lock.
    pub(crate) fn inject_process_loop(&self) {
        self.shared.injected.swap(true, Ordering::AcqRel);
        // Also if one is on its way already: the system may have stopped its thread before this step.
        self.shared.doorbell.ring();
    }

    /// A thread has a message no more. Takes no lock, and does nothing once the loop has ended.
    pub(crate) fn end_hand(&self, end: HandEnd) {
        if self.shared.hand_ends.send(end).is_ok() {
            self.inject_process_loop();
        }
    }

    /// PROCESSLOOP, for a thread that wants to know when it is done.
    pub(crate) fn process_loop(&self, completion: Completion) {
        self.send(|urgent| urgent.process_loops.push(completion));
    }

    /// DISCONNECT or RECONNECT.
    pub(crate) fn change_link(&self, request: LinkRequest, completion: Completion) {
        self.send(|urgent| urgent.change_link(request, completion));
    }

    /// TERMINATE. The grace begins now, however busy the loop is.
    pub(crate) fn terminate(&self, grace: Duration, leave: Leave, completion: Completion) {
        let end = Instant::now() + grace.min(LONGEST_GRACE);
        self.send(|urgent| {
            let none_yet = || (end, leave, Completions::default());
            let (earliest, how, done) = urgent.terminate.get_or_insert_with(none_yet);
            *earliest = end.min(*earliest);
            *how = leave.max(*how);
            done.push(completion);
        });
    }

    /// A thread made itself an inbox.
    pub(crate) fn open_inbox(&self, outlet: Outlet) {
        self.send(|urgent| {
            urgent.news.opened.insert(outlet.id, outlet);
        });
    }

    /// A thread is about to queue a SUBSCRIBE.
    pub(crate) fn announce(&self, announcement: Announcement) {
        let announced = &self.shared.announced;
        self.send(|urgent| {
            urgent.news.announced.push(announcement);
            announced.store(true, Ordering::Release);
        });
    }

    /// The SUBSCRIBE with this number, which was announced, was not queued.
    pub(crate) fn withdraw(&self, number: u64) {
        self.send(|urgent| {
            let announced = &mut urgent.news.announced;
            match announced.iter().position(|one| one.number == number) {
                Some(place) => drop(announced.remove(place)),
                None => urgent.withdrawn.push(number),
            }
        });
    }

    /// A thread dropped its inbox. The loop never hears of one that it does not know yet.
    pub(crate) fn close_inbox(&self, inbox: InboxId) {
        self.send(|urgent| {
            let news = &mut urgent.news;
            news.announced.retain(|one| one.inbox != inbox);
            if news.opened.remove(&inbox).is_none() {
                news.closed.push(inbox);
            }
        });
    }

    /// The system's event queue failed.
    pub(crate) fn watch_failed(&self, error: io::Error) {
        self.send(|urgent| urgent.watch_failure = Some(error));
    }

    /// Adds to what the loop will take. If the loop has ended, drops the request, which cancels it.
    fn send(&self, add: impl FnOnce(&mut Urgent)) {
        {
            let mut urgent = self.shared.lock();
            let Some(urgent) = &mut *urgent else {
                return;
            };
            add(urgent);
            self.shared.filled.store(true, Ordering::Release);
        }
        self.shared.doorbell.ring();
    }
}

impl UrgentLane {
    /// Another end for threads.
    pub(crate) fn sender(&self) -> LaneSender {
        LaneSender {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The bell that the loop sleeps at.
    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.shared.doorbell
    }

    /// Takes an injected PROCESSLOOP. An event after this call needs a new one.
    pub(crate) fn take_process_loop(&self) -> bool {
        // It swaps instead of storing: a thread that found one on its way wrote before that what the loop
        // is to see now.
        self.shared.injected.load(Ordering::Relaxed)
            && self.shared.injected.swap(false, Ordering::AcqRel)
    }

    /// Takes the ends that threads have told until this call. A thread that tells ever more of them cannot keep the
    /// loop here. One told after this call comes with a new PROCESSLOOP.
    pub(crate) fn take_hand_ends(&self) -> impl Iterator<Item = HandEnd> {
        let told = self.hand_ends.len();
        self.hand_ends.try_iter().take(told)
    }

    /// Takes everything else that is in the lane.
    pub(crate) fn take(&self) -> Option<Urgent> {
        if !self.shared.filled.load(Ordering::Acquire) {
            return None;
        }
        let mut urgent = self.shared.lock();
        self.shared.filled.store(false, Ordering::Relaxed);
        self.shared.announced.store(false, Ordering::Relaxed);
        urgent.as_mut().map(std::mem::take)
    }

    /// Takes the news if a SUBSCRIBE was announced, and leaves everything else. Otherwise takes no lock.
    pub(crate) fn take_news(&self) -> Option<News> {
        if !self.shared.announced.load(Ordering::Acquire) {
            return None;
        }
        let mut urgent = self.shared.lock();
        self.shared.announced.store(false, Ordering::Relaxed);
        urgent
            .as_mut()
            .map(|urgent| std::mem::take(&mut urgent.news))
    }

    /// Whether the loop has nothing to take.
    pub(crate) fn is_empty(&self) -> bool {
        !self.shared.injected.load(Ordering::Relaxed) && !self.shared.filled.load(Ordering::Relaxed)
    }
}

impl Drop for UrgentLane {
    fn drop(&mut self) {
        let urgent = self.shared.lock().take();
        // Not under the lock: this wakes threads.
        drop(urgent);
    }
}

impl LaneState {
    fn lock(&self) -> MutexGuard<'_, Option<Urgent>> {
        self.urgent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Urgent {
    /// Joins an earlier request of the same kind. Of these only the last one counts: a DISCONNECT that
    /// a RECONNECT follows has no time to leave, and a RECONNECT before a DISCONNECT only drops the link.
    fn change_link(&mut self, request: LinkRequest, completion: Completion) {
        if let Some((_, how, done)) = &mut self.terminate {
            match request {
                // TERMINATE disconnects as soon as it can.
                LinkRequest::Disconnect(leave) => {
                    *how = leave.max(*how);
                    done.push(completion);
                }
                LinkRequest::Reconnect => completion.tell(Outcome::Cancelled(Reason::Terminated)),
            }
            return;
        }
        let mut all = self.link_requests.iter().enumerate();
        let earlier = all.find_map(|(place, (earlier, _))| Some((place, earlier.join(request)?)));
        let (request, mut done) = match earlier {
            Some((place, joined)) => (joined, self.link_requests.remove(place).1),
            None => (request, Completions::default()),
        };
        done.push(completion);
        self.link_requests.push((request, done));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::client::outlet::WhenFull;
    use crate::client::ticket::Ticket;

    const GRACE: Duration = Duration::from_secs(60);

    fn lane() -> (LaneSender, UrgentLane) {
        urgent_lane(Arc::default())
    }

    fn change_link(sender: &LaneSender, request: LinkRequest) -> Ticket {
        let (ticket, completion) = Ticket::new();
        sender.change_link(request, completion);
        ticket
    }

    fn terminate(sender: &LaneSender, grace: Duration) -> Ticket {
        let (ticket, completion) = Ticket::new();
        sender.terminate(grace, Leave::Quietly, completion);
        ticket
    }

    #[test]
    fn requests_of_one_kind_become_one_that_every_ticket_learns_of() {
        use LinkRequest::{Disconnect, Reconnect};
        let (sender, lane) = lane();
        let tickets = [
            Reconnect,
            Disconnect(Leave::WithWill),
            Reconnect,
            Disconnect(Leave::Quietly),
        ];
        let tickets = tickets.map(|request| change_link(&sender, request));
        let requests = lane.take().unwrap().link_requests;
        assert_eq!(requests.len(), 2, "the last one of each kind, in order");
        assert_eq!(
            (requests[0].0, requests[1].0),
            (Reconnect, Disconnect(Leave::WithWill))
        );
        for ((_, done), attempts) in requests.into_iter().zip(1..) {
            done.tell(&Outcome::delivered(attempts, Duration::ZERO));
        }
        let told = [1, 2, 1, 2].map(|n| Some(Outcome::delivered(n, Duration::ZERO)));
        assert_eq!(tickets.map(|ticket| ticket.outcome()), told);
        assert!(lane.take().is_none());
    }

    #[test]
    fn after_terminate_a_link_is_not_changed_any_more() {
        let (sender, lane) = lane();
        let first = terminate(&sender, GRACE);
        let reconnect = change_link(&sender, LinkRequest::Reconnect);
        let disconnect = change_link(&sender, LinkRequest::Disconnect(Leave::Quietly));
        let second = terminate(&sender, GRACE * 2);
        let third = terminate(&sender, GRACE / 2);
        let cancelled = Outcome::Cancelled(Reason::Terminated);
        assert_eq!(reconnect.outcome(), Some(cancelled));
        let urgent = lane.take().unwrap();
        assert!(urgent.link_requests.is_empty());
        let (end, _, done) = urgent.terminate.unwrap();
        assert!(end <= Instant::now() + GRACE / 2, "the shortest grace");
        let outcome = Outcome::delivered(1, Duration::ZERO);
        done.tell(&outcome);
        for ticket in [first, disconnect, second, third] {
            assert_eq!(ticket.outcome().as_ref(), Some(&outcome));
        }
    }

    #[test]
    fn an_inbox_that_is_dropped_before_the_loop_knows_it_leaves_nothing_behind() {
        let (sender, lane) = lane();
        let open =
            |id| sender.open_inbox(Outlet::new(InboxId(id), 1, WhenFull::WaitAside.into(), None).0);
        for id in 0..10 {
            open(id);
            sender.close_inbox(InboxId(id));
        }
        open(10);
        assert!(lane.take_news().is_none(), "no SUBSCRIBE needs it");
        assert_eq!(lane.take().unwrap().news.opened.len(), 1);
        sender.close_inbox(InboxId(10));
        open(11);
        let urgent = lane.take().unwrap();
        assert_eq!(urgent.news.closed, [InboxId(10)]);
        let opened = urgent.news.opened.into_keys();
        assert_eq!(opened.collect::<Vec<_>>(), [InboxId(11)]);
    }

    #[test]
    fn a_subscribe_is_announced_with_its_inbox_until_it_is_withdrawn() {
        let (sender, lane) = lane();
        let announce = |number, inbox| {
            sender.announce(Announcement {
                number,
                inbox: InboxId(inbox),
                filters: Vec::new(),
            });
        };
        let numbers = |news: &News| {
            news.announced
                .iter()
                .map(|one| one.number)
                .collect::<Vec<_>>()
        };
        sender.open_inbox(Outlet::new(InboxId(1), 1, WhenFull::WaitAside.into(), None).0);
        for (number, inbox) in [(1, 1), (2, 2), (3, 1), (4, 1)] {
            announce(number, inbox);
        }
        sender.withdraw(3);
        sender.close_inbox(InboxId(2));
        let news = lane.take_news().unwrap();
        assert_eq!((news.opened.len(), numbers(&news)), (1, vec![1, 4]));
        assert!(lane.take_news().is_none());
        sender.withdraw(4);
        announce(5, 1);
        let urgent = lane.take().unwrap();
        assert_eq!(
            (urgent.withdrawn, numbers(&urgent.news)),
            (vec![4], vec![5])
        );
        assert!(lane.take_news().is_none());
    }

    #[test]
    fn several_injected_process_loops_are_one() {
        let (sender, lane) = lane();
        assert!(lane.is_empty());
        sender.inject_process_loop();
        sender.inject_process_loop();
        assert!(!lane.is_empty());
        assert!(lane.take_process_loop());
        assert!(!lane.take_process_loop());
        assert!(lane.is_empty());
    }

    #[test]
    fn a_thread_that_is_stopped_while_it_injects_does_not_keep_others_from_waking_the_loop() {
        let bell = Arc::new(Doorbell::default());
        let (sender, lane) = urgent_lane(Arc::clone(&bell));
        // The first half of injecting; the other half never comes.
        sender.shared.injected.store(true, Ordering::SeqCst);
        let until = Instant::now() + 2 * GRACE;
        let (tell, woken) = channel();
        let sleeping = thread::spawn(move || {
            bell.set_thread();
            // It went to sleep before that: there was nothing in the lane.
            bell.sleep(true, Some(until), || {
                tell.send(()).unwrap();
                false
            });
        });
        woken.recv_timeout(GRACE).unwrap();
        sender.inject_process_loop();
        sleeping.join().unwrap();
        assert!(Instant::now() < until, "it slept on");
        assert!(lane.take_process_loop());
    }

    #[test]
    fn once_the_loop_has_ended_everything_is_cancelled() {
        let (sender, lane) = lane();
        let before = terminate(&sender, GRACE);
        drop(lane);
        let after = change_link(&sender, LinkRequest::Reconnect);
        let cancelled = Outcome::Cancelled(Reason::LoopEnded);
        assert_eq!(before.outcome().as_ref(), Some(&cancelled));
        assert_eq!(after.outcome().as_ref(), Some(&cancelled));
    }
}
