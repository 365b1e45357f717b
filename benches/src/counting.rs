//! An allocator that counts, for each thread, the bytes asked for, and how many were held at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
pub struct Counting;

fn note(size: usize) {
    ALLOCATED.set(ALLOCATED.get() + size as u64);
    HELD.set(HELD.get() + size as i64);
    PEAK.set(PEAK.get().max(HELD.get()));
}

// SAFETY: every call is passed on to the system's allocator unchanged; the counters are plain cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How many bytes `work` asks for, in all.
pub fn allocated<T>(work: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATED.get();
    drop(work());
    ALLOCATED.get() - before
}

/// How many bytes `work` holds at once, at most, beyond those that were held before.
pub fn peak<T>(work: impl FnOnce() -> T) -> i64 {
    let before = HELD.get();
    PEAK.set(before);
    drop(work());
    PEAK.get() - before
}
