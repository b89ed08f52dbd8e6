//! The library's own files, and a command of which the queue needs to know nothing.

#[path = "../../../src/client/batch.rs"]
pub(crate) mod batch;
#[path = "../../../src/client/by_hand.rs"]
pub(crate) mod by_hand;
#[path = "../../../src/client/doorbell.rs"]
pub(crate) mod doorbell;
#[path = "../../../src/client/ends.rs"]
pub(crate) mod ends;
#[path = "../../../src/client/inbox.rs"]
pub(crate) mod inbox;
#[path = "../../../src/client/inbox_error.rs"]
pub(crate) mod inbox_error;
#[path = "../../../src/client/lane.rs"]
pub(crate) mod lane;
#[path = "../../../src/client/line.rs"]
pub(crate) mod line;
#[path = "../../../src/client/loop_thread.rs"]
pub(crate) mod loop_thread;
#[path = "../../../src/client/next_message.rs"]
pub(crate) mod next_message;
#[path = "../../../src/client/outlet.rs"]
pub(crate) mod outlet;
#[path = "../../../src/client/queue.rs"]
pub(crate) mod queue;
#[path = "../../../src/client/request_mark.rs"]
pub(crate) mod request_mark;
#[path = "../../../src/client/recording/ring.rs"]
pub(crate) mod ring;
#[path = "../../../src/client/tasks.rs"]
pub(crate) mod tasks;
#[path = "../../../src/client/ticket.rs"]
pub(crate) mod ticket;
#[path = "../../../src/client/waiter.rs"]
pub(crate) mod waiter;

pub(crate) mod command {
    use crate::client::ticket::Completion;

    pub(crate) struct Command {
        pub(crate) number: u64,
        pub(crate) completion: Completion,
    }
}

/// No model has a recording: of these types there are no values.
pub(crate) mod recording {
    #[derive(Debug, Clone)]
    pub(crate) enum Recorder {}

    pub(crate) enum CommandMark {}

    pub(crate) enum What {
        Offered { message: u64, inbox: u64 },
        Aside { message: u64, inbox: u64 },
        Dropped { message: u64, inbox: u64 },
        TakenOut { message: u64, inbox: u64 },
        WaitsForMessage { inbox: u64 },
    }

    impl Recorder {
        pub(crate) fn on_loop(&self, _: What) {
            match *self {}
        }

        pub(crate) fn on_thread(&self, _: What) {
            match *self {}
        }
    }

    impl CommandMark {
        pub(crate) fn command(&self) -> u32 {
            match *self {}
        }

        pub(crate) fn waits(&self) {
            match *self {}
        }

        pub(crate) fn told(&self) {
            match *self {}
        }

        pub(crate) fn waits_for_batch(&self, _: u64) {
            match *self {}
        }

        pub(crate) fn batch_told(&self, _: u64) {
            match *self {}
        }
    }
}
