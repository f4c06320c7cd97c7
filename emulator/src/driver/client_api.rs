//! Exported C functions beyond the driver API, `ptx_emulator_…`, which [`crate::client`] calls.

use std::ffi::{c_char, c_int};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::client::wire::{self, LaunchHeader};
use crate::driver::config::{SILENT, set_limits};
use crate::driver::contain::contained;
use crate::driver::journal::JOURNAL;
use crate::driver::queue;
use crate::driver::registry::lock;
use crate::driver::state::driver_raw;
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, In, Out, check, copy_text, text};

/// Runs the body of an exported function; after a panic, reports it and returns `otherwise`.
fn guard<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    contained("a function of the client", body).unwrap_or(otherwise)
}

/// Waits for all submitted work, so that results include it.
fn settle() {
    // An error means that the process is ending.
    let _ = queue::wait(queue::Target::All);
}

fn code(result: Result) -> u32 {
    match result {
        Ok(()) => 0,
        Err(code) => code.0,
    }
}

/// Copies up to `room` of the words to `out`; returns their total number.
fn give_words(words: &[u64], out: Out<u64>, room: usize) -> usize {
    for (index, &word) in words.iter().take(room).enumerate() {
        Out(out.0.wrapping_add(index)).set_if_wanted(word);
    }
    words.len()
}

/// The version of the crate that the library was built from, as a C string.
#[unsafe(no_mangle)]
pub extern "C" fn ptx_emulator_version() -> *const c_char {
    wire::VERSION.as_ptr()
}

/// Ensures that there are `count` devices of a capability and writes their ordinals. Returns a
/// `CUresult`.
///
/// # Safety
/// `ordinals` must have room for `count` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptx_emulator_devices(
    capability: u32,
    count: usize,
    ordinals: Out<c_int>,
) -> u32 {
    guard(CUresult::UNKNOWN.0, || {
        code(driver_raw().ensure(capability, count).and_then(|found| {
            found.iter().enumerate().try_for_each(|(index, &ordinal)| {
                Out(ordinals.0.wrapping_add(index)).set(ordinal as c_int)
            })
        }))
    })
}

/// Discards all launches and the last report.
#[unsafe(no_mangle)]
pub extern "C" fn ptx_emulator_reset() {
    guard((), || {
        settle();
        let mut journal = lock(&JOURNAL);
        journal.launches = 0;
        journal.total = None;
        journal.records.clear();
        journal.report = None;
        journal.code = 0;
    });
}

/// Number of launches since the last reset.
#[unsafe(no_mangle)]
pub extern "C" fn ptx_emulator_launches() -> u64 {
    guard(0, || {
        settle();
        lock(&JOURNAL).launches
    })
}

/// Writes the sum of all counters since the last reset: up to `room` words. Returns the number of
/// words.
///
/// # Safety
/// `words` must have room for `room` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptx_emulator_totals(words: Out<u64>, room: usize) -> usize {
    guard(0, || {
        settle();
        let total = lock(&JOURNAL).total.clone().unwrap_or_default();
        give_words(&wire::to_words(&total), words, room)
    })
}

/// Writes one launch, by its number since the last reset, from 0. Returns the number of words of
/// its counters, or 0 if the launch is not stored.
///
/// # Safety
/// `header` must be writable, `name` have `name_bytes` bytes (at least 1) and `words` room for
/// `room` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptx_emulator_launch(
    number: u64,
    header: Out<LaunchHeader>,
    name: Out<c_char>,
    name_bytes: c_int,
    words: Out<u64>,
    room: usize,
) -> usize {
    guard(0, || {
        settle();
        let journal = lock(&JOURNAL);
        let forgotten = journal.launches - journal.records.len() as u64;
        let Some(record) = number
            .checked_sub(forgotten)
            .and_then(|index| journal.records.get(index as usize))
        else {
            return 0;
        };
        header.set_if_wanted(LaunchHeader {
            grid: record.config.grid,
            block: record.config.block,
            shared_bytes: record.config.shared_bytes,
            ordinal: record.ordinal as u32,
            nanoseconds: record.nanoseconds,
        });
        let _ = copy_text(&record.kernel, name, name_bytes);
        give_words(&wire::to_words(&record.counters), words, room)
    })
}

/// Writes the report of the last fault since the last reset: up to `room` bytes with a NUL, and its
/// code to `code`. Returns the length of the whole report, 0 if there is none.
///
/// # Safety
/// `text` must have `room` bytes and `code` be null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptx_emulator_last_report(
    text: Out<c_char>,
    room: c_int,
    code: Out<u32>,
) -> usize {
    guard(0, || {
        settle();
        let journal = lock(&JOURNAL);
        let Some(report) = &journal.report else {
            return 0;
        };
        code.set_if_wanted(journal.code);
        if room > 0 {
            let _ = copy_text(report, text, room);
        }
        report.len()
    })
}

/// Sets the limits of later launches: instructions of one warp, and milliseconds (0 for no limit).
#[unsafe(no_mangle)]
pub extern "C" fn ptx_emulator_limits(instructions: u64, milliseconds: u64) {
    guard((), || {
        let time = (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
        settle();
        set_limits(instructions, time);
    });
}

/// Suppresses reports on standard error (1) or enables them (0).
#[unsafe(no_mangle)]
pub extern "C" fn ptx_emulator_silence(silent: c_int) {
    SILENT.store(silent != 0, Ordering::Relaxed);
}

/// Names the allocation that begins at an address, for reports. Returns a `CUresult`.
///
/// # Safety
/// `label` must be a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ptx_emulator_label(address: DevicePtr, label: In<c_char>) -> u32 {
    guard(CUresult::UNKNOWN.0, || {
        code(text(label).and_then(|label| {
            let (device, base, _) = driver_raw().find(address).ok_or(CUresult::INVALID_VALUE)?;
            check(base == address)?;
            device.backend.label(base, &label)
        }))
    })
}
