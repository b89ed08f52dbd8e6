//! Stands in for `std` and for `crossbeam_channel`, so that the library's sources compile for loom as they are.
//!
//! - Atomics, fences and mutexes are loom's. loom takes a sequentially consistent access for one that acquires and
//!   releases; here each such load and read-modify-write has a fence before it. So the models may miss that an access
//!   which is not of this kind relies on one that is. loom may put a plain store between a read-modify-write and the
//!   store that this one read, and reports faults then that cannot be; so a store is a swap here.
//! - Parking is a token under a mutex. It never wakes without a reason. `park_timeout` stands for the time-out
//!   alone: it returns at once, with the thread's clock at the end of the time-out. Clocks are each thread's own.
//! - `Arc` is std's: the order of its last drops is not explored. `OnceLock` is std's behind a flag of loom's.
//! - Wakers are std's, and so are futures. `catch_unwind`, through which the library calls a waker, is a site.
//! - Each access, fence and wake-up of the library's sources is a site, at which `faults` can weaken or omit it.

pub use std::*;

mod channel;
pub mod faults;
pub mod panic;
pub mod sync;
pub mod thread;
pub mod time;

pub use channel::{
    Receiver, RecvTimeoutError, Select, SendError, Sender, TryRecvError, TrySendError, bounded,
    unbounded,
};

#[doc(hidden)]
pub use loom;

/// As std's, for the threads of a model.
#[macro_export]
macro_rules! thread_local_stand_in {
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = const $init:block;) => {
        $(#[$attr])*
        $vis static $name: $crate::thread::LocalKey<$t> = {
            $crate::loom::thread_local! {
                static INNER: $t = $init;
            }
            $crate::thread::LocalKey::new(&INNER)
        };
    };
}
