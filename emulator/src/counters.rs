//! Counters of a launch, like those of a profiler.
pub use crate::ir::Class;

use crate::ir::MatrixTy;
use std::ops::AddAssign;

/// Numbers of executed instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Warp instructions issued, including those whose guard was false in every lane.
    pub warp: u64,
    /// Thread instructions: warp instructions times the lanes whose guard was true.
    pub thread: u64,
}

impl AddAssign for Executed {
    fn add_assign(&mut self, other: Executed) {
        self.warp += other.warp;
        self.thread += other.thread;
    }
}

/// Element type of a matrix product's factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatrixKind {
    /// f16.
    F16,
    /// bfloat16.
    Bf16,
    /// tf32.
    Tf32,
    /// Integers of 8 bits.
    Int8,
    /// Integers of 4 bits.
    Int4,
    /// Floating-point numbers of 8 bits.
    Fp8,
}

impl MatrixKind {
    /// Every kind, in the order of [`Counters::matrix`].
    pub const ALL: [MatrixKind; 6] = [
        MatrixKind::F16,
        MatrixKind::Bf16,
        MatrixKind::Tf32,
        MatrixKind::Int8,
        MatrixKind::Int4,
        MatrixKind::Fp8,
    ];

    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            MatrixKind::F16 => "f16",
            MatrixKind::Bf16 => "bf16",
            MatrixKind::Tf32 => "tf32",
            MatrixKind::Fp8 => "fp8",
            MatrixKind::Int8 => "int8",
            MatrixKind::Int4 => "int4",
        }
    }

    /// The kind of an element type.
    pub const fn of(ty: MatrixTy) -> MatrixKind {
        match ty {
            MatrixTy::F16 => MatrixKind::F16,
            MatrixTy::Bf16 => MatrixKind::Bf16,
            MatrixTy::Tf32 => MatrixKind::Tf32,
            MatrixTy::E4m3 | MatrixTy::E5m2 => MatrixKind::Fp8,
            MatrixTy::S8 | MatrixTy::U8 => MatrixKind::Int8,
            MatrixTy::S4 | MatrixTy::U4 => MatrixKind::Int4,
        }
    }
}

/// Matrix products of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatrixWork {
    /// Number of warp instructions.
    pub instructions: u64,
    /// Multiply-adds: rows times columns times depth per instruction.
    pub multiply_adds: u64,
}

impl AddAssign for MatrixWork {
    fn add_assign(&mut self, other: MatrixWork) {
        self.instructions += other.instructions;
        self.multiply_adds += other.multiply_adds;
    }
}

/// Traffic between the warps and device memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalTraffic {
    /// Warp-level instructions with at least one active lane.
    pub requests: u64,
    /// 32-byte sectors that the requests touched, each counted once per request.
    pub sectors: u64,
    /// Bytes accessed by the lanes.
    pub bytes: u64,
}

/// Traffic of shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedTraffic {
    /// Warp-level instructions with at least one active lane.
    pub requests: u64,
    /// Passes through the 32 banks of 4 bytes. A 64-bit access takes at least one per half warp, a
    /// 128-bit one at least one per quarter, `ldmatrix` and `stmatrix` at least one per matrix.
    /// Lanes that access the same word share its pass.
    pub wavefronts: u64,
    /// Passes in excess of those without bank conflicts.
    pub conflicts: u64,
}

/// Traffic between the blocks of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DistributedTraffic {
    /// Warp-level loads, stores and atomics, and copies, to the shared memory of another block of
    /// the cluster. A copy to several blocks counts once for each other block.
    pub requests: u64,
    /// Bytes of those requests.
    pub bytes: u64,
}

/// Counters of a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Instructions by class, in the order of [`Class::ALL`].
    pub classes: [Executed; Class::ALL.len()],
    /// Matrix products by kind, in the order of [`MatrixKind::ALL`].
    pub matrix: [MatrixWork; MatrixKind::ALL.len()],
    /// Loads from device memory (`cp.async` included).
    pub global_loads: GlobalTraffic,
    /// Stores to device memory.
    pub global_stores: GlobalTraffic,
    /// Loads from shared memory.
    pub shared_loads: SharedTraffic,
    /// Stores to shared memory (`cp.async` included).
    pub shared_stores: SharedTraffic,
    /// Bytes of device memory read: each 32-byte sector once per launch, atomics included. Where
    /// kernels of different streams overlap, a sector that both touch may count several times.
    pub device_bytes_read: u64,
    /// Bytes of device memory written, likewise.
    pub device_bytes_written: u64,
    /// Atomic operations of lanes on device memory.
    pub global_atomics: u64,
    /// Atomic operations of lanes on shared memory.
    pub shared_atomics: u64,
    /// Block barriers that completed.
    pub barriers: u64,
    /// Branches whose lanes diverged.
    pub divergent_branches: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Number of warps.
    pub warps: u64,
    /// Number of threads.
    pub threads: u64,
    /// Accesses to shared memory of other blocks of a cluster, which also count as accesses to
    /// shared memory.
    pub distributed: DistributedTraffic,
}

impl Counters {
    /// Number of executed instructions of a class.
    pub fn class(&self, class: Class) -> Executed {
        self.classes[class as usize]
    }

    /// Executed instructions of all classes.
    pub fn instructions(&self) -> Executed {
        let mut sum = Executed::default();
        for executed in self.classes {
            sum += executed;
        }
        sum
    }

    /// Matrix products of a kind.
    pub fn matrix(&self, kind: MatrixKind) -> MatrixWork {
        self.matrix[kind as usize]
    }

    /// Bytes of device memory read and written.
    pub fn device_bytes(&self) -> u64 {
        self.device_bytes_read + self.device_bytes_written
    }
}

impl AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, other: &Counters) {
        for (sum, executed) in self.classes.iter_mut().zip(other.classes) {
            *sum += executed;
        }
        for (sum, work) in self.matrix.iter_mut().zip(other.matrix) {
            *sum += work;
        }
        self.global_loads += other.global_loads;
        self.global_stores += other.global_stores;
        self.shared_loads += other.shared_loads;
        self.shared_stores += other.shared_stores;
        self.device_bytes_read += other.device_bytes_read;
        self.device_bytes_written += other.device_bytes_written;
        self.global_atomics += other.global_atomics;
        self.shared_atomics += other.shared_atomics;
        self.barriers += other.barriers;
        self.divergent_branches += other.divergent_branches;
        self.blocks += other.blocks;
        self.warps += other.warps;
        self.threads += other.threads;
        self.distributed.requests += other.distributed.requests;
        self.distributed.bytes += other.distributed.bytes;
    }
}

impl AddAssign for GlobalTraffic {
    fn add_assign(&mut self, other: GlobalTraffic) {
        self.requests += other.requests;
        self.sectors += other.sectors;
        self.bytes += other.bytes;
    }
}

impl AddAssign for SharedTraffic {
    fn add_assign(&mut self, other: SharedTraffic) {
        self.requests += other.requests;
        self.wavefronts += other.wavefronts;
        self.conflicts += other.conflicts;
    }
}
