//! Encoding of counters for the C interface: as words in a fixed order.

use std::ffi::CStr;

use crate::Counters;
use crate::counters::{GlobalTraffic, MatrixWork, SharedTraffic};

/// The crate's version. Library and client must have the same version, since the order of words
/// depends on it.
pub const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"unknown",
    };

/// A launch's shape and time.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct LaunchHeader {
    /// Grid: blocks along x, y, z.
    pub grid: [u32; 3],
    /// Block: threads along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory per block, in bytes.
    pub shared_bytes: u32,
    /// The device's ordinal.
    pub ordinal: u32,
    /// Run time of the emulator, in nanoseconds.
    pub nanoseconds: u64,
}

/// Calls `visit` for each counter, always in the same order.
fn each(counters: &mut Counters, visit: &mut dyn FnMut(&mut u64)) {
    let Counters {
        classes,
        matrix,
        global_loads,
        global_stores,
        shared_loads,
        shared_stores,
        device_bytes_read,
        device_bytes_written,
        global_atomics,
        shared_atomics,
        barriers,
        divergent_branches,
        blocks,
        warps,
        threads,
        distributed,
    } = counters;
    for executed in classes {
        visit(&mut executed.warp);
        visit(&mut executed.thread);
    }
    for MatrixWork {
        instructions,
        multiply_adds,
    } in matrix
    {
        visit(instructions);
        visit(multiply_adds);
    }
    for GlobalTraffic {
        requests,
        sectors,
        bytes,
    } in [global_loads, global_stores]
    {
        [requests, sectors, bytes].into_iter().for_each(&mut *visit);
    }
    for SharedTraffic {
        requests,
        wavefronts,
        conflicts,
    } in [shared_loads, shared_stores]
    {
        [requests, wavefronts, conflicts]
            .into_iter()
            .for_each(&mut *visit);
    }
    [
        device_bytes_read,
        device_bytes_written,
        global_atomics,
        shared_atomics,
    ]
    .into_iter()
    .for_each(&mut *visit);
    [barriers, divergent_branches, blocks, warps, threads]
        .into_iter()
        .for_each(&mut *visit);
    visit(&mut distributed.requests);
    visit(&mut distributed.bytes);
}

/// The counters as words.
pub fn to_words(counters: &Counters) -> Vec<u64> {
    let mut words = Vec::new();
    each(&mut counters.clone(), &mut |word| words.push(*word));
    words
}

/// Counters from words; missing words are zero.
pub fn from_words(words: &[u64]) -> Counters {
    let mut counters = Counters::default();
    let mut words = words.iter();
    each(&mut counters, &mut |counter| {
        *counter = words.next().copied().unwrap_or(0)
    });
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        let count = to_words(&Counters::default()).len() as u64;
        let words: Vec<u64> = (1..=count).collect();
        assert_eq!(to_words(&from_words(&words)), words);
    }
}
