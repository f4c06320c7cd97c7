//! Traffic of device memory: the sectors of 32 bytes that a request touches, and those that the
//! launch touches for the first time.
use crate::counters::GlobalTraffic;
use crate::exec::machine::context::Context;
use crate::exec::machine::lanes::lanes;
use crate::memory::Allocation;
use crate::report::AccessKind;
use std::sync::atomic::{AtomicU16, Ordering};

/// Counts the sectors of a request, and those that the launch touches for the first time.
#[inline(always)]
pub(crate) fn count(
    cx: &mut Context,
    allocation: &Allocation,
    m: u32,
    kind: AccessKind,
    address: &[u64; 32],
    bytes: u32,
    row: bool,
) {
    let epoch = cx.grid.epoch;
    let write = kind == AccessKind::Write;
    let mut request = GlobalTraffic {
        requests: 1,
        sectors: 0,
        bytes: 0,
    };
    request.bytes = u64::from(m.count_ones()) * u64::from(bytes);
    let mut new = 0;
    if row {
        let start = address[0] - allocation.base;
        let (first, last) = (start / 32, (start + request.bytes - 1) / 32);
        request.sectors = last - first + 1;
        new += touch_run(allocation, first, request.sectors, epoch, write);
    } else {
        let mut seen = [0u64; 32];
        let (mut count, mut newest, mut highest) = (0usize, u64::MAX, 0);
        for lane in lanes(m) {
            let sector = (address[lane] - allocation.base) / 32;
            if sector == newest {
                continue;
            }
            newest = sector;
            // Ascending addresses need no search.
            if count > 0 && sector <= highest && seen[..count].contains(&sector) {
                continue;
            }
            highest = highest.max(sector);
            seen[count] = sector;
            count += 1;
            new += u64::from(allocation.touch_sector(sector * 32, epoch, write));
        }
        request.sectors = count as u64;
    }
    if write {
        cx.counters.device_bytes_written += new * 32;
    } else {
        cx.counters.device_bytes_read += new * 32;
    }
    cx.count_global(kind, request);
}

/// Counts the bytes of a bulk copy, but not the copy itself.
pub(crate) fn count_run(
    cx: &mut Context,
    allocation: &Allocation,
    kind: AccessKind,
    at: u64,
    bytes: u64,
) {
    let write = kind == AccessKind::Write;
    let (first, last) = (at / 32, (at + bytes.max(1) - 1) / 32);
    let sectors = last - first + 1;
    let new = touch_run(allocation, first, sectors, cx.grid.epoch, write) * 32;
    if write {
        cx.counters.device_bytes_written += new;
    } else {
        cx.counters.device_bytes_read += new;
    }
    cx.count_global(
        kind,
        GlobalTraffic {
            requests: 0,
            sectors,
            bytes,
        },
    );
}

/// Touches contiguous sectors; returns the number that the launch touches for the first time.
#[inline(always)]
fn touch_run(allocation: &Allocation, first: u64, count: u64, epoch: u16, write: bool) -> u64 {
    let mut old = true;
    for sector in first..first + count {
        let cell = allocation
            .sector(sector * 32)
            .wrapping_add(usize::from(write));
        // SAFETY: the sector lies inside the allocation; its cells are only accessed atomically.
        old &= unsafe { AtomicU16::from_ptr(cell) }.load(Ordering::Relaxed) == epoch;
    }
    if old {
        return 0;
    }
    (first..first + count)
        .map(|sector| u64::from(allocation.touch_sector(sector * 32, epoch, write)))
        .sum()
}
