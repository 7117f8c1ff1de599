//! An allocator that counts the bytes that a thread holds.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

/// Counts what this thread allocates.
struct Counting;

std::thread_local! {
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // While a thread ends its counter is gone, and nobody asks for it any more.
    let _ = BYTES.try_with(|total| total.set(total.get() + bytes));
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
        count(signed(size) - signed(layout.size()));
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

/// Without this, a broken allocator would make any amount of memory look bounded.
#[test]
fn the_counter_counts() {
    let before = held();
    let mut kept = vec![0_u8; 1000];
    assert_eq!(held() - before, 1000);
    kept.reserve_exact(5000);
    assert_eq!(held() - before, 6000);
    drop(kept);
    assert_eq!(held(), before);
}
