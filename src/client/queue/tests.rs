//! The queue and the line before it: real threads and tasks, and the loop's end in the test's hands. The time is passed in.

use std::future::poll_fn;
use std::thread;

use super::*;
use crate::client::command::Request;
use crate::client::ticket::{Completion, Ticket};
use crate::client::waiter::tests::block_on;
use crate::mqtt::packet::{Publish, QoS};
use crate::mqtt::session::{Outcome, Reason};

const HANG: Duration = Duration::from_secs(60);

fn ping() -> Command {
    Command {
        request: Request::Ping(RequestMark::default()),
        completion: Completion::nobody(),
    }
}

/// Waits until it is so.
fn wait_for(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < HANG, "it never came to that");
        thread::yield_now();
    }
}

fn publish(number: u8) -> Command {
    Command {
        request: Request::Publish(Publish::new("t", QoS::AtMostOnce, vec![number]).into()),
        completion: Completion::nobody(),
    }
}

fn number(command: Command) -> u8 {
    match command.request {
        Request::Publish(message) => Publish::from(message).payload()[0],
        other => panic!("{other:?}"),
    }
}

/// The numbers of the commands that the loop takes, each fetched alone.
fn numbers(queue: &mut CommandQueue) -> Vec<u8> {
    let now = Instant::now();
    std::iter::from_fn(|| queue.take(1, now))
        .map(number)
        .collect()
}

fn numbers_of_fetched(queue: &mut CommandQueue) -> Vec<u8> {
    queue.fetched.drain(..).map(number).collect()
}

/// A full queue of this capacity, and threads that wait for room in it, in the order of their numbers.
fn full_queue(
    capacity: u8,
    waiting: u8,
) -> (CommandSender, CommandQueue, Vec<thread::JoinHandle<bool>>) {
    let (sender, queue) = command_queue(usize::from(capacity), Arc::default());
    for number in 0..capacity {
        assert!(sender.send(publish(number), Duration::ZERO).is_ok());
    }
    let threads = (capacity..capacity + waiting).map(|number| {
        let sender = sender.clone();
        let before = usize::from(number - capacity);
        let run = move || sender.send(publish(number), HANG * 2).is_ok();
        let thread = thread::spawn(run);
        wait_for(|| queue.shared.line.length() > before);
        thread
    });
    let threads = threads.collect();
    (sender, queue, threads)
}

fn is_full<T>(sent: Result<T, NotQueued>) -> bool {
    matches!(sent, Err(NotQueued::Full { waited, .. }) if waited.is_zero())
}

#[test]
fn room_belongs_to_the_thread_that_has_waited_longest() {
    let (sender, mut queue, threads) = full_queue(4, 20);
    for number in 0..4 {
        // A later comer tries for as long as there is room, and gets none of it.
        queue.fetch(1, Instant::now());
        assert!(is_full(sender.send(publish(100), Duration::ZERO)));
        assert_eq!(numbers_of_fetched(&mut queue), [number]);
    }
    let rest: Vec<u8> = (4..24).collect();
    assert_eq!(numbers(&mut queue), rest);
    for thread in threads {
        assert!(thread.join().unwrap());
    }
    assert!(sender.send(publish(100), Duration::ZERO).is_ok());
}

/// A full queue of 64 commands, one thread that publishes so many more, and nine others behind it.
fn full_queue_with_an_eager_thread(
    more: usize,
) -> (CommandSender, CommandQueue, Vec<thread::JoinHandle<bool>>) {
    let (sender, queue, _) = full_queue(64, 0);
    let threads = (0..10_u8).map(|number| {
        let sender = sender.clone();
        let commands = if number == 0 { more } else { 1 };
        let mut send = move |_| sender.send(publish(100 + number), HANG * 2).is_ok();
        let thread = thread::spawn(move || (0..commands).all(&mut send));
        wait_for(|| queue.shared.line.length() > usize::from(number));
        thread
    });
    let threads = threads.collect();
    (sender, queue, threads)
}

#[test]
fn a_thread_that_was_let_into_a_large_queue_has_a_share_of_its_room() {
    let begin = Instant::now();
    let (sender, mut queue, threads) = full_queue_with_an_eager_thread(33);
    // Room for a share and a quarter lets two threads in. The last command of the eager one is one too many.
    queue.fetch(40, begin);
    wait_for(|| queue.shared.commands.len() == 24 + 32 + 1);
    wait_for(|| queue.shared.line.length() == 10 - 2 + 1);
    assert!(is_full(sender.send(publish(200), Duration::ZERO)));
    let taken = numbers(&mut queue);
    assert_eq!(taken.len(), 64 + 33 + 9);
    assert_eq!(taken[64], 100);
    let others_in_turn = taken.iter().filter(|number| **number > 100);
    assert!(others_in_turn.is_sorted());
    assert_eq!(taken.last(), Some(&100), "one too many");
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn others_wait_for_the_shares_of_those_that_were_let_in_until_little_is_queued() {
    let begin = Instant::now();
    // It does not use its share.
    let (_sender, mut queue, threads) = full_queue_with_an_eager_thread(2);
    queue.fetch(32, begin);
    wait_for(|| queue.shared.commands.len() == 32 + 2);
    queue.fetch(2 + 15, begin);
    assert_eq!(queue.shared.line.length(), 9);
    assert_eq!(queue.shared.commands.len(), 17);
    queue.fetch(1, begin);
    assert_eq!(queue.shared.line.length(), 9, "a quarter is left");
    queue.fetch(1, begin);
    assert_eq!(queue.shared.line.length(), 7, "room for two shares");
    assert_eq!(numbers(&mut queue).len(), 64 + 2 + 9);
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn others_are_let_in_once_those_before_them_are_back_in_the_line() {
    let begin = Instant::now();
    let (_sender, mut queue, threads) = full_queue_with_an_eager_thread(33);
    queue.fetch(32, begin);
    wait_for(|| queue.shared.line.length() == 10);
    queue.fetch(32, begin);
    assert_eq!(queue.shared.line.length(), 9);
    assert_eq!(numbers(&mut queue).len(), 64 + 33 + 9);
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn a_sleeping_loop_leaves_the_room_of_a_turn_to_others_after_a_moment() {
    let begin = Instant::now();
    let (_sender, mut queue, threads) = full_queue_with_an_eager_thread(2);
    queue.fetch(20, begin);
    let moment = queue.admit_waiting(begin);
    assert_eq!(queue.shared.line.length(), 9);
    wait_for(|| queue.shared.commands.len() == 44 + 2);
    assert!(moment.is_some_and(|at| at > begin && at < begin + OVERDUE));
    assert_eq!(queue.admit_waiting(begin), moment);
    assert_eq!(queue.shared.line.length(), 9);
    // Each time with half the share, so that more threads fill the room.
    let mut left = Vec::new();
    let mut next = moment;
    while let Some(moment) = next {
        next = queue.admit_waiting(moment);
        left.push(queue.shared.line.length());
    }
    assert_eq!(left, [7, 5, 1, 0]);
    assert_eq!(numbers(&mut queue).len(), 64 + 2 + 9);
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn a_thread_that_uses_its_share_makes_the_next_one_as_large_as_before() {
    let begin = Instant::now();
    let (sender, mut queue, mut threads) = full_queue_with_an_eager_thread(100);
    queue.fetch(20, begin);
    queue.admit_waiting(begin);
    wait_for(|| queue.shared.commands.len() == 64 && queue.shared.line.length() == 10);
    let last = thread::spawn(move || sender.send(publish(110), HANG * 2).is_ok());
    threads.push(last);
    wait_for(|| queue.shared.line.length() == 11);
    assert_eq!(queue.shared.line.next_share(), 32, "the queue was full");
    // Nine threads before the eager one have one command each.
    queue.fetch(20, begin);
    let mut next = queue.admit_waiting(begin);
    let mut left = Vec::new();
    for _ in 0..3 {
        left.push(queue.shared.line.length());
        next = next.and_then(|moment| queue.admit_waiting(moment));
    }
    assert_eq!(left, [10, 8, 5]);
    // The eager one is let in with the last four. It has a share of four, doubles it, and waits again.
    wait_for(|| queue.shared.line.length() == 2);
    assert_eq!(queue.shared.commands.len(), 44 + 9 + 4);
    assert_eq!(queue.shared.line.next_share(), 8);
    drop(queue);
    for thread in threads {
        let _ = thread.join().unwrap();
    }
}

#[test]
fn a_task_that_was_let_in_does_not_overtake_what_it_pushed_before() {
    let begin = Instant::now();
    let (sender, mut queue, _) = full_queue(64, 0);
    let waker = std::task::Waker::noop();
    let mut entering: Vec<_> = (100..140)
        .map(|number| Entering::Command(publish(number)))
        .collect();
    let mut poll = |entering: &mut Entering| sender.poll_send(entering, waker).is_ready();
    assert!(!entering.iter_mut().any(&mut poll));
    // Each takes one place, because tasks have no shares.
    queue.fetch(32, begin);
    let ready: Vec<_> = entering.iter_mut().map(&mut poll).collect();
    assert_eq!(ready, [[true; 32].as_slice(), &[false; 8]].concat());
    let mut next = Entering::Command(publish(140));
    assert!(!poll(&mut next));
    assert_eq!(numbers(&mut queue)[64..], (100..141).collect::<Vec<u8>>());
}

#[test]
fn nobody_has_a_share_while_a_thread_is_overdue() {
    let (_sender, mut queue, threads) = full_queue_with_an_eager_thread(2);
    queue.fetch(40, Instant::now() + OVERDUE);
    // All ten are in, and the eager one waits behind them again, or has found the line empty.
    wait_for(|| queue.shared.commands.len() + queue.shared.line.length() == 24 + 11);
    let taken = numbers(&mut queue);
    let of_threads = (100..110).chain([100]);
    assert_eq!(taken[64..], of_threads.collect::<Vec<u8>>());
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn a_sleeping_loop_leaves_no_room_unused_while_a_thread_waits() {
    let (_sender, mut queue, threads) = full_queue(8, 3);
    // More than half of the queue stays taken.
    queue.fetch(3, Instant::now());
    assert_eq!(numbers_of_fetched(&mut queue), [0, 1, 2]);
    assert_eq!(queue.admit_waiting(Instant::now()), None);
    for thread in threads {
        assert!(thread.join().unwrap());
    }
    assert_eq!(queue.len(), 8);
}

#[test]
fn a_loops_thread_takes_any_room_and_never_waits() {
    let (sender, mut queue, threads) = full_queue(8, 3);
    let _loop = loop_thread::enter();
    assert!(is_full(sender.send(publish(100), HANG)));
    queue.fetch(1, Instant::now());
    assert!(sender.send(publish(100), HANG).is_ok());
    assert!(is_full(sender.send(publish(101), HANG)));
    assert_eq!(numbers_of_fetched(&mut queue), [0]);
    let rest = [1, 2, 3, 4, 5, 6, 7, 100, 8, 9, 10];
    assert_eq!(numbers(&mut queue), rest);
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn a_thread_whose_time_is_over_leaves_the_line_and_its_room_to_others() {
    let (sender, mut queue, threads) = full_queue(2, 1);
    let waited = Duration::from_millis(1);
    let refused = sender.send(publish(100), waited);
    assert!(matches!(refused, Err(NotQueued::Full { waited: w, .. }) if w == waited));
    assert_eq!(queue.shared.line.length(), 1);
    assert_eq!(numbers(&mut queue), [0, 1, 2]);
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn a_thread_is_not_refused_while_there_is_room_for_it() {
    let (sender, mut queue, threads) = full_queue(8, 1);
    // More than half of the queue stays taken, so the loop lets in no thread.
    queue.fetch(2, Instant::now());
    assert!(sender.send(publish(9), Duration::from_millis(1)).is_ok());
    assert_eq!(numbers(&mut queue), (0..10).collect::<Vec<u8>>());
    for thread in threads {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn a_thread_has_not_waited_if_there_is_room_once_it_would_stand_in_line() {
    let (sender, mut queue) = command_queue(1, Arc::default());
    // As if the loop had made room meanwhile.
    let entry = sender.wait_for_room(publish(0), HANG);
    assert!(matches!(entry, Ok(QueueEntry::AtOnce)));
    assert_eq!(numbers(&mut queue), [0]);
}

#[test]
fn threads_in_the_line_get_their_commands_back_when_the_loop_ends() {
    let (sender, mut queue, threads) = full_queue(2, 3);
    queue.close();
    for thread in threads {
        assert!(!thread.join().unwrap());
    }
    assert_eq!(numbers(&mut queue), [0, 1]);
    let refused = sender.send(publish(100), HANG);
    assert!(matches!(refused, Err(NotQueued::Ended(_))));
}

#[test]
fn what_was_fetched_stays_in_its_order_and_counts() {
    let (sender, mut queue) = command_queue(4, Arc::new(Doorbell::default()));
    for number in 0..3 {
        assert!(sender.send(publish(number), Duration::ZERO).is_ok());
    }
    queue.fetch(2, Instant::now());
    assert_eq!((queue.len(), sender.len()), (3, 1));
    assert!(sender.send(publish(3), Duration::ZERO).is_ok());
    assert_eq!(numbers(&mut queue), [0, 1, 2, 3]);
    assert!(queue.is_empty());
}

#[test]
fn no_more_is_fetched_than_the_queue_holds_while_it_is_filled_again() {
    const CAPACITY: usize = 10;
    let (sender, mut queue) = command_queue(CAPACITY, Arc::new(Doorbell::default()));
    let filling: Vec<_> = (0..2)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || while sender.send(ping(), HANG).is_ok() {})
        })
        .collect();
    for _ in 0..2_000 {
        queue.fetch(512, Instant::now());
        assert!(queue.fetched.len() <= CAPACITY);
        queue.fetched.clear();
    }
    drop(queue);
    for thread in filling {
        thread.join().unwrap();
    }
}

#[test]
fn what_was_fetched_is_cancelled_when_the_queue_goes_away() {
    let (sender, mut queue) = command_queue(4, Arc::new(Doorbell::default()));
    let (ticket, completion) = Ticket::new();
    let command = Command {
        request: Request::Ping(RequestMark::default()),
        completion,
    };
    assert!(sender.send(command, Duration::ZERO).is_ok());
    queue.fetch(1, Instant::now());
    assert_eq!(ticket.outcome(), None);
    drop(queue);
    let cancelled = Outcome::Cancelled(Reason::LoopEnded);
    assert_eq!(ticket.outcome(), Some(cancelled));
}

/// A thread and a task that find the queue full of PUBLISHes, of which the loop takes none.
#[test]
fn a_request_that_waits_for_room_wakes_a_loop_that_takes_no_publish() {
    for is_task in [false, true] {
        let bell = Arc::new(Doorbell::default());
        let (sender, queue) = command_queue(1, Arc::clone(&bell));
        assert!(sender.send(publish(0), Duration::ZERO).is_ok());
        let has_looked = Arc::new(AtomicBool::new(false));
        let sleeping = thread::spawn({
            let has_looked = Arc::clone(&has_looked);
            move || {
                bell.set_thread();
                let start = Instant::now();
                bell.sleep_for_requests(Some(start + HANG), || {
                    let is_needed = queue.has_requests();
                    has_looked.store(true, Ordering::Release);
                    is_needed
                });
                assert!(start.elapsed() < HANG, "nothing has woken the loop");
                queue
            }
        });
        wait_for(|| has_looked.load(Ordering::Acquire));
        let pushing = thread::spawn(move || {
            let request = Command {
                request: Request::Ping(sender.mark_request()),
                completion: Completion::nobody(),
            };
            if is_task {
                let mut entering = Entering::Command(request);
                let push = poll_fn(|context| sender.poll_send(&mut entering, context.waker()));
                block_on(push).is_ok()
            } else {
                sender.send(request, HANG * 2).is_ok()
            }
        });
        let mut queue = sleeping.join().unwrap();
        assert_eq!(queue.take(1, Instant::now()).map(number), Some(0));
        let next = queue.take(1, Instant::now()).unwrap();
        assert!(matches!(next.request, Request::Ping(_)));
        assert!(pushing.join().unwrap());
    }
}
