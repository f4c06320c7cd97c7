//! An allocator that counts the bytes of the process and ends it before the machine's memory runs
//! out; and the processor time of the process, which does not depend on other work of the machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The process ends here.
const FATAL: usize = 6 << 30;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static TEXT: AtomicU64 = AtomicU64::new(0);

/// A text begins: its number, for the message of an end.
pub fn begin(text: u64) {
    TEXT.store(text, Ordering::Relaxed);
    PEAK.store(HELD.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// The most bytes that were held since.
pub fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Processor time of this process; nothing where that cannot be found out.
pub fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the program's name in parentheses: user and system time are the 12th and 13th fields,
    // in hundredths of a second.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

struct Limited;

impl Limited {
    fn more(&self, bytes: usize) {
        let held = HELD
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        PEAK.fetch_max(held, Ordering::Relaxed);
        if held > FATAL {
            // Nothing may be allocated any more.
            HELD.store(0, Ordering::Relaxed);
            eprintln!(
                "text {} takes more than {FATAL} bytes",
                TEXT.load(Ordering::Relaxed)
            );
            std::process::abort();
        }
    }
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.more(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.more(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.more(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;
