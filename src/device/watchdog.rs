//! The watchdog: kernels whose waits are bounded report a wait that does not end.
//!
//! A module of a build with `WARPCONV_WATCHDOG=1` has the variable [`VARIABLE`], the address of its
//! records: one per warp of a block. They lie in host memory, which stays readable after the trap
//! that follows a record has ended the context's work. `kernels/common/watchdog.cuh` writes them.

use std::ffi::CString;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::{CudaContext, result, sys};

use super::driver::driver_error;
use crate::error::Error;

/// Name of the module's variable for the address of its records.
pub(super) const VARIABLE: &str = "warpconv_watchdog";

/// Warps of a block, at most.
const WARPS: usize = 32;

/// What a warp writes: kind, role and parity; block; index; value.
type Record = [u32; 4];

/// Kinds of records, `WATCHDOG_*` of the device code; 0 where nothing was written.
const WAIT: u32 = 1;
/// As [`WAIT`].
const ALIGNMENT: u32 = 2;

/// Roles of barriers, in the order of the device code's `BarrierRole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Full,
    Empty,
    Residual,
    MidFull,
    MidEmpty,
}

const ROLES: [Role; 5] = [
    Role::Full,
    Role::Empty,
    Role::Residual,
    Role::MidFull,
    Role::MidEmpty,
];

impl Role {
    /// Name of the role's barrier of an index, as the kernels' sources have it.
    fn barrier(self, index: u32) -> String {
        match self {
            Role::Full => format!("full[{index}]"),
            Role::Empty => format!("empty[{index}]"),
            Role::Residual => format!("residual[{}][{}]", index / 2, index % 2),
            Role::MidFull => format!("mid{index}_full"),
            Role::MidEmpty => format!("mid{index}_empty"),
        }
    }
}

/// The records of a module.
struct Watched {
    /// The records are readable as long as the context lives.
    context: Weak<CudaContext>,
    kernel: String,
    records: *mut [Record; WARPS],
}

// SAFETY: the records are host memory that any thread may read.
unsafe impl Send for Watched {}

/// The watchdog modules of all contexts.
static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

/// Gives a watchdog module its records.
///
/// # Errors
/// [`Error::Driver`] or [`Error::OutOfMemory`] if the driver has no memory for them.
pub(super) fn attach(
    context: &Arc<CudaContext>,
    kernel: &str,
    module: sys::CUmodule,
) -> Result<(), Error> {
    let name = CString::new(VARIABLE).unwrap_or_default();
    // SAFETY: the module was just loaded into the context that is bound to this thread.
    let (variable, _) = unsafe { result::module::get_global(module, name) }
        .map_err(|e| driver_error("cuModuleGetGlobal", e))?;
    let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
    let bytes = size_of::<[Record; WARPS]>();
    // SAFETY: the context is bound. The memory stays until the context ends.
    let records = unsafe { result::malloc_host(bytes, flags) }
        .map_err(|e| driver_error("allocating the watchdog's records", e))?
        .cast::<[Record; WARPS]>();
    // SAFETY: the allocation has room for the records, at least on a page's boundary.
    unsafe { records.write([[0; 4]; WARPS]) };
    let mut address: sys::CUdeviceptr = 0;
    // SAFETY: the pointers are to an address and to mapped host memory.
    unsafe { sys::cuMemHostGetDevicePointer_v2(&mut address, records.cast(), 0) }
        .result()
        .map_err(|e| driver_error("cuMemHostGetDevicePointer", e))?;
    // SAFETY: the variable is one address of 64 bits.
    unsafe { result::memcpy_htod_sync(variable, &[address]) }
        .map_err(|e| driver_error("setting the watchdog's variable", e))?;
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.retain(|old| old.context.strong_count() > 0);
    watched.push(Watched {
        context: Arc::downgrade(context),
        kernel: kernel.to_owned(),
        records,
    });
    Ok(())
}

/// The error that the records of a kernel stand for, if one has written any; takes them.
pub(super) fn report() -> Option<Error> {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    // Dropping a context's last owner calls the driver, so not before the lock is released.
    let mut contexts = Vec::new();
    let found = watched.iter_mut().find_map(|watched| {
        contexts.push(watched.context.upgrade()?);
        let records = watched.take();
        error(&watched.kernel, &records)
    });
    drop(watched);
    found
}

impl Watched {
    /// Reads the records and clears them. The context is alive.
    fn take(&mut self) -> [Record; WARPS] {
        // SAFETY: the memory is allocated as long as the context lives. The device may write it
        // meanwhile, so it is read as volatile.
        unsafe {
            let records = self.records.read_volatile();
            if records.iter().any(|record| record[0] != 0) {
                ptr::write_volatile(self.records, [[0; 4]; WARPS]);
            }
            records
        }
    }
}

/// A warp's wait that did not end.
struct Wait {
    warp: u32,
    block: u32,
    /// `None` for a role that this version does not have.
    role: Option<Role>,
    index: u32,
    phase: u32,
    /// Nanoseconds at which it began, less a multiple of 2^32.
    began: u32,
}

impl Wait {
    fn new(warp: u32, &[kind, block, index, began]: &Record) -> Option<Wait> {
        (kind & 0xff == WAIT).then_some(Wait {
            warp,
            block,
            role: ROLES.get((kind >> 8 & 0xff) as usize).copied(),
            index,
            phase: kind >> 16,
            began,
        })
    }

    fn barrier(&self) -> String {
        match self.role {
            Some(role) => role.barrier(self.index),
            None => format!("{} of an unknown role", self.index),
        }
    }

    /// Returns whether the warp of this wait is one whose arrival `other` lacks, by the kernels'
    /// pipelines: stages, then both intermediates of a bottleneck.
    fn delays(&self, other: &Wait) -> bool {
        use Role::{Empty, Full, MidEmpty, MidFull, Residual};
        let (Some(waits), Some(lacks)) = (self.role, other.role) else {
            return false;
        };
        match (lacks, other.index) {
            (Full, _) => waits == Empty,
            (Empty, _) => matches!((waits, self.index), (Full | Residual, _) | (MidEmpty, 1)),
            (MidFull, 1) => matches!((waits, self.index), (Full, _) | (MidEmpty, 1)),
            (MidFull, _) => matches!((waits, self.index), (MidFull, 1) | (MidEmpty, 2)),
            (MidEmpty, 1) => matches!((waits, self.index), (MidFull, 1) | (MidEmpty, 2)),
            (MidEmpty, _) => (waits, self.index) == (MidFull, 2),
            (Residual, _) => false,
        }
    }
}

/// Index of the wait that the others follow from: one that no other delays, or the first of those
/// that delay each other. `waits` are in the order in which they began.
fn cause(waits: &[Wait]) -> usize {
    let delayed_by = |wait: &Wait| waits.iter().position(|other| other.delays(wait));
    if let Some(cause) = waits.iter().position(|wait| delayed_by(wait).is_none()) {
        return cause;
    }
    // Every wait has one that delays it, so as many steps lead into a circle.
    let next = |&at: &usize| waits.get(at).and_then(delayed_by);
    let mut path = std::iter::successors(Some(0), next).skip(waits.len());
    path.by_ref().take(waits.len()).min().unwrap_or(0)
}

/// The error of a kernel that has written records. First comes the wait that no other one explains;
/// of waits for each other, the one that began first.
fn error(kernel: &str, records: &[Record; WARPS]) -> Option<Error> {
    let misaligned = |record: &&Record| record[0] & 0xff == ALIGNMENT;
    if let Some(&[_, block, needs, base]) = records.iter().find(misaligned) {
        return Some(Error::SharedAlignment {
            kernel: kernel.to_owned(),
            block,
            base,
            needs,
        });
    }
    let waits = (0..).zip(records);
    let mut waits: Vec<Wait> = waits.filter_map(|(warp, r)| Wait::new(warp, r)).collect();
    let any = waits.first()?.began;
    // They are fractions of a second apart.
    waits.sort_by_key(|wait| wait.began.wrapping_sub(any) as i32);
    let first = waits.remove(cause(&waits));
    let other = |wait: &Wait| {
        format!(
            "warp {}, phase {} of {}",
            wait.warp,
            wait.phase,
            wait.barrier()
        )
    };
    Some(Error::Watchdog {
        kernel: kernel.to_owned(),
        block: first.block,
        warp: first.warp,
        barrier: first.barrier(),
        phase: first.phase,
        others: waits.iter().map(other).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the constants between `begin` and `end`, without comments.
    fn names<'a>(text: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
        let (_, rest) = text.split_once(begin).unwrap();
        let (body, _) = rest.split_once(end).unwrap();
        let words = body.lines().map(|line| line.split("//").next().unwrap());
        words
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect()
    }

    #[test]
    fn roles_and_kinds_are_those_of_the_device_code() {
        let text = include_str!("../../kernels/common/watchdog.cuh");
        let theirs: Vec<String> = names(text, "enum class BarrierRole {", "}")
            .iter()
            .map(|name| name.replace('_', "").to_lowercase())
            .collect();
        let ours: Vec<String> = ROLES
            .iter()
            .map(|role| format!("{role:?}").to_lowercase())
            .collect();
        assert_eq!(theirs, ours);
        for (index, role) in ROLES.into_iter().enumerate() {
            assert_eq!(role as usize, index);
        }
        let kinds = format!("WATCHDOG_WAIT = {WAIT}, WATCHDOG_ALIGNMENT = {ALIGNMENT};");
        assert!(text.contains(&kinds), "{kinds}");
        let variable = format!("unsigned long long {VARIABLE};");
        assert!(include_str!("../../kernels/config.cuh").contains(&variable));
    }

    #[test]
    fn of_waits_for_each_other_the_first_comes_first() {
        let mut records = [[0; 4]; WARPS];
        assert_eq!(error("k", &records), None);
        // The clock's low half passes 0 between them.
        records[0] = [WAIT, 3, 0, 9];
        records[2] = [WAIT, 3, 1, 7];
        records[8] = [WAIT | 1 << 8 | 1 << 16, 3, 2, u32::MAX];
        let expected = Error::Watchdog {
            kernel: String::from("k"),
            block: 3,
            warp: 8,
            barrier: String::from("empty[2]"),
            phase: 1,
            others: vec![
                String::from("warp 2, phase 0 of full[1]"),
                String::from("warp 0, phase 0 of full[0]"),
            ],
        };
        assert_eq!(error("k", &records), Some(expected));
    }

    #[test]
    fn a_wait_that_nothing_explains_comes_before_its_consequences() {
        let cause = |waits: &[(Role, u32)]| {
            let mut records = [[0; 4]; WARPS];
            for ((record, &(role, index)), began) in records.iter_mut().zip(waits).zip(1..) {
                *record = [WAIT | (role as u32) << 8, 0, index, began];
            }
            match error("k", &records) {
                Some(Error::Watchdog { barrier, .. }) => barrier,
                other => panic!("{other:?}"),
            }
        };
        let waits = [(Role::MidFull, 2), (Role::MidFull, 1)];
        assert_eq!(cause(&waits), "mid1_full");
        let waits = [(Role::Full, 0), (Role::Empty, 1), (Role::Residual, 3)];
        assert_eq!(cause(&waits), "residual[1][1]");
        let waits = [(Role::MidFull, 1), (Role::Full, 2), (Role::MidEmpty, 2)];
        assert_eq!(cause(&waits), "full[2]");
        let waits = [(Role::MidEmpty, 1), (Role::MidEmpty, 2), (Role::MidFull, 2)];
        assert_eq!(cause(&waits), "mid2_empty");
    }

    #[test]
    fn misaligned_shared_memory_comes_before_waits() {
        let mut records = [[0; 4]; WARPS];
        records[0] = [WAIT, 3, 2, 1];
        records[1] = [ALIGNMENT, 4, 1024, 0x410];
        let expected = Error::SharedAlignment {
            kernel: String::from("k"),
            block: 4,
            base: 0x410,
            needs: 1024,
        };
        assert_eq!(error("k", &records), Some(expected));
    }
}
