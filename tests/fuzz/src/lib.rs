//! Shared by the fuzz targets: an allocator that ends the process when one request, or the sum of all
//! memory, is larger than any input can call for. libFuzzer takes that end for a finding.
//!
//! libFuzzer itself is C++ and allocates elsewhere.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Largest single request: the room that a decoder makes for a packet of which a part has come, 2 MiB and one read.
const ONE_REQUEST: usize = (2 << 20) + (16 << 10);

/// Largest sum of the memory allocated at one time.
const TOGETHER: usize = 16 << 20;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

struct Bounded;

// SAFETY: each call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        grow(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn grow(size: usize) {
    let before = ALLOCATED.fetch_add(size, Relaxed);
    let above = size > ONE_REQUEST || before + size > TOGETHER;
    // After a panic the backtrace needs much memory.
    if above && !std::thread::panicking() {
        // No formatting: that could allocate.
        let _ = std::io::stderr().write_all(b"an allocation above the limit\n");
        std::process::abort();
    }
}
