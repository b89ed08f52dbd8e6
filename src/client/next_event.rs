//! The future of the next event of a connection, for tasks.
//!
//! A task waits on the board of `watch.rs` where a thread would, and blocks none of its executor's threads. Any thread
//! polls; the loop's thread wakes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::client::events::ConnectionEvent;
use crate::client::watch::{ConnectionEvents, NoEvent};

/// The next event of a connection: see [`ConnectionEvents::recv_async`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct NextEvent<'a> {
    events: &'a mut ConnectionEvents,
    /// Under which the task waits.
    number: Option<u64>,
}

impl ConnectionEvents {
    /// A future of the next event, as [`ConnectionEvents::recv`] gives it, for any executor. The loop's thread wakes the
    /// task. A future that is dropped takes no event with it.
    ///
    /// ```no_run
    /// # use mqtt_connection_sharing::ConnectionEvents;
    /// # async fn print(mut events: ConnectionEvents) {
    /// while let Ok(event) = events.recv_async().await {
    ///     println!("{event}");
    /// }
    /// # }
    /// ```
    pub fn recv_async(&mut self) -> NextEvent<'_> {
        NextEvent {
            events: self,
            number: None,
        }
    }
}

impl Future for NextEvent<'_> {
    /// Errs with [`NoEvent::Ended`] alone.
    type Output = Result<Arc<ConnectionEvent>, NoEvent>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let received = match this.events.try_recv() {
            Err(NoEvent::Timeout) => {
                let tasks = this.events.tasks();
                tasks.enter(&mut this.number, context.waker());
                this.events.try_recv()
            }
            received => received,
        };
        match received {
            Err(NoEvent::Timeout) => Poll::Pending,
            received => {
                this.wait_no_more();
                Poll::Ready(received)
            }
        }
    }
}

impl NextEvent<'_> {
    fn wait_no_more(&mut self) {
        if let Some(number) = self.number.take() {
            self.events.tasks().leave(number);
        }
    }
}

impl Drop for NextEvent<'_> {
    fn drop(&mut self) {
        self.wait_no_more();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::client::events::EventKind;
    use crate::client::waiter::tests::{Task, block_on};
    use crate::client::watch::watch;

    fn attempt(number: u32) -> EventKind {
        EventKind::Attempt { number }
    }

    #[test]
    fn a_task_is_woken_by_each_event_and_by_the_end() {
        let (reporter, watch) = watch();
        let mut events = watch.events();
        let task = Arc::new(Task::default());
        let mut next = events.recv_async();
        assert!(task.poll(&mut next).is_pending());
        reporter.tell(|| attempt(1));
        assert_eq!(task.woken(), 1);
        let Poll::Ready(Ok(event)) = task.poll(&mut next) else {
            panic!("the task was woken for nothing")
        };
        assert_eq!(event.kind, attempt(1));
        drop(next);
        let mut last = events.recv_async();
        assert!(task.poll(&mut last).is_pending());
        drop(reporter);
        assert_eq!(task.woken(), 2);
        let Poll::Ready(Ok(event)) = task.poll(&mut last) else {
            panic!("the end is an event")
        };
        assert_eq!(event.kind, EventKind::Ended { error: None });
        drop(last);
        assert_eq!(block_on(events.recv_async()), Err(NoEvent::Ended));
    }

    #[test]
    fn a_future_that_is_dropped_takes_no_event_and_is_not_woken() {
        let (reporter, watch) = watch();
        let mut events = watch.events();
        let task = Arc::new(Task::default());
        assert!(task.poll(&mut events.recv_async()).is_pending());
        assert!(!events.ready());
        reporter.tell(|| attempt(1));
        assert_eq!(task.woken(), 0);
        assert!(events.ready());
        assert_eq!(events.try_recv().unwrap().kind, attempt(1));
    }

    #[test]
    fn tasks_and_threads_see_all_events_together() {
        const EVENTS: u32 = 100;
        let (reporter, watch) = watch();
        let (mut of_task, mut of_thread) = (watch.events(), watch.events());
        let thread = thread::spawn(move || (&mut of_thread).take(EVENTS as usize).count());
        let task = thread::spawn(move || {
            block_on(async {
                for number in 1..=EVENTS {
                    assert_eq!(of_task.recv_async().await.unwrap().kind, attempt(number));
                }
            });
        });
        for number in 1..=EVENTS {
            reporter.tell(|| attempt(number));
        }
        task.join().unwrap();
        assert_eq!(thread.join().unwrap(), EVENTS as usize);
    }
}
