//! An allocator that counts what a thread holds, and how often it asks.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

/// Counts what this thread allocates; the tests run side by side.
struct Counting;

std::thread_local! {
    static BYTES: Cell<i64> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // While a thread ends its counters are gone, and nobody asks for them any more.
    let _ = BYTES.try_with(|total| total.set(total.get() + bytes));
    if bytes > 0 {
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call is passed to the system's allocator as it is; counting neither allocates nor
// unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: as above, and the block came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Reallocation is an allocation even when it shrinks or stays where it is.
        count(signed(size).max(1));
        count(-signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that this thread holds.
pub(crate) fn held() -> i64 {
    BYTES.get()
}

/// How often `work` allocates.
pub(crate) fn allocations(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

/// Without this, a test that nothing is allocated would pass with a broken allocator.
#[test]
fn the_counter_counts() {
    let before = held();
    let mut kept = Vec::new();
    assert_eq!(allocations(|| kept = vec![0_u8; 1000]), 1);
    assert_eq!(held() - before, 1000);
    assert_eq!(allocations(|| kept.reserve_exact(5000)), 1);
    drop(kept);
    assert_eq!(held(), before);
}
