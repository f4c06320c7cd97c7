//! Host memory of the driver, and memory pools.

use std::alloc::Layout;
use std::collections::HashMap;
use std::sync::Mutex;

use crate::driver::types::Handle;

/// Host memory known to the driver.
pub struct HostRange {
    /// Unique number, which distinguishes it from later memory at the same address.
    pub number: Handle,
    pub bytes: usize,
    pub flags: u32,
    /// Pages of an allocation by the driver; `None` for registered memory.
    pub layout: Option<Pages>,
    pub context: Handle,
}

/// Pages that the driver allocated: their start, and the allocation that contains them.
#[derive(Clone, Copy)]
pub struct Pages {
    pub start: usize,
    pub layout: Layout,
}

/// A memory pool.
pub struct Pool {
    pub handle: Handle,
    pub ordinal: usize,
    pub is_default: bool,
    /// Attributes that were set, by number.
    pub attributes: Mutex<HashMap<u32, u64>>,
    pub used: Mutex<PoolUse>,
}

/// Bytes allocated from a pool.
#[derive(Clone, Copy, Default)]
pub struct PoolUse {
    pub current: u64,
    pub high: u64,
}

impl Pool {
    pub fn new(handle: Handle, ordinal: usize, is_default: bool) -> Pool {
        Pool {
            handle,
            ordinal,
            is_default,
            attributes: Mutex::default(),
            used: Mutex::default(),
        }
    }
}
