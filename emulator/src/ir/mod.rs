//! The program that warps execute. The PTX text is lowered to it once, when a module is loaded.
//!
//! # Registers
//!
//! A warp's register file is a list of *rows*; a row is one 32-bit word per lane. Every operand is
//! a row, identified by [`Reg`]:
//!
//! * A 32-bit register is one row.
//! * A 64-bit register is two adjacent rows `r` and `r + 1`, read together as `[u64; 32]` (256
//!   bytes, lane by lane); it is named by its first row. Any row may be the first.
//! * A 16-bit register is one row, with the value in the low half of each lane. **The upper half is
//!   always zero**: every handler that writes a 16-bit result writes zeros above it, also for
//!   signed types and `.f16`. 8-bit values only exist in 16-, 32- or 64-bit registers, extended as
//!   their load or conversion specifies.
//! * Immediates, the addresses of variables and the special registers that do not change while a
//!   warp runs are rows too: [`Kernel::constants`] and [`Kernel::specials`] list them, and they are
//!   filled before the warp's first instruction. The program must never write them.
//!
//! Predicates are in a separate array, one 32-bit lane mask each, identified by [`Pred`].
//! [`Pred::TRUE`] is all ones and must not be written. The carry flag of `add.cc` and the like is
//! another lane mask, which is never an operand.
//!
//! Rows and predicates that no instruction has written are zero, which hardware does not guarantee.
//!
//! # Control flow
//!
//! A program counter ([`Pc`]) is an index into [`Kernel::code`]. Every branch has a point of
//! reconvergence: the first instruction of the block that is its immediate post-dominator, or
//! [`NO_PC`] if lanes reconverge only by exiting. Device functions are inlined before this form;
//! `ret` of a kernel is [`Op::Exit`].
//!
//! # Address spaces
//!
//! | space | what an address is |
//! |---|---|
//! | global, const | the device address, the same as the generic one (`cvta` keeps it) |
//! | shared | byte offset in the block's shared memory: static variables, then the dynamic part |
//! | shared::cluster | the offset, plus rank + 1 shifted by [`CLUSTER_SHIFT`]; else its own block |
//! | local | byte offset in the thread's local memory |
//! | param | byte offset in the kernel's parameter buffer |
//! | generic | device address, or offset in `SHARED_WINDOW`, `LOCAL_WINDOW`, `PARAM_WINDOW` |
//!
//! So `mov.u64 %rd1, shared_variable` is a constant row with the variable's offset, and `mov.b64
//! %rd1, kernel_param_0` one with the parameter's offset.

mod access;
mod arithmetic;
mod asynchronous;
mod class;
mod matrix;
pub(crate) mod operations;
pub(crate) mod table;

pub use access::*;
pub use arithmetic::*;
pub use asynchronous::*;
pub use class::Class;
pub use matrix::*;
pub use operations::Op;

/// Generic address of byte 0 of the block's shared memory.
pub const SHARED_WINDOW: u64 = 0x7100_0000_0000;
/// Generic address of byte 0 of the thread's local memory.
pub const LOCAL_WINDOW: u64 = 0x7200_0000_0000;
/// Generic address of byte 0 of the kernel's parameters.
pub const PARAM_WINDOW: u64 = 0x7300_0000_0000;
/// Size in bytes of the windows of local memory and parameters.
pub const WINDOW_BYTES: u64 = 1 << 24;
/// Size in bytes of the window of shared memory: the block's own part, and one per possible rank in
/// a cluster.
pub const CLUSTER_WINDOW_BYTES: u64 = 256 << CLUSTER_SHIFT;
/// Position of the block's rank, plus one, in an address of `.shared::cluster`: the lower bits are
/// the offset.
pub const CLUSTER_SHIFT: u32 = 24;
/// Maximum number of blocks in a cluster.
pub const MAX_CLUSTER: u32 = 16;

/// Index of an instruction in [`Kernel::code`].
pub type Pc = u32;
/// No program counter: the lanes of a branch reconverge only by exiting.
pub const NO_PC: Pc = u32::MAX;

/// A register: its first row in the warp's register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u16);

impl Reg {
    /// No register: an unused source, or a discarded destination (`_`).
    pub const NONE: Reg = Reg(u16::MAX);

    /// Returns whether this is no register.
    pub const fn is_none(self) -> bool {
        self.0 == u16::MAX
    }
}

/// A predicate: its index in the warp's array of lane masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pred(pub u16);

impl Pred {
    /// The predicate that is always true. Never a destination.
    pub const TRUE: Pred = Pred(0);
    /// No predicate: an unused destination.
    pub const NONE: Pred = Pred(u16::MAX);

    /// Returns whether this is no predicate.
    pub const fn is_none(self) -> bool {
        self.0 == u16::MAX
    }
}

/// A predicate source, possibly negated. `PredSrc::TRUE` where the PTX has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PredSrc {
    /// The predicate that is read.
    pub pred: Pred,
    /// True for the complement (`@!p`, `!p`).
    pub negated: bool,
}

impl PredSrc {
    /// Always true.
    pub const TRUE: PredSrc = PredSrc {
        pred: Pred::TRUE,
        negated: false,
    };
    /// Always false.
    pub const FALSE: PredSrc = PredSrc {
        pred: Pred::TRUE,
        negated: true,
    };
}

/// A whole module.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Its entry points.
    pub kernels: Vec<Kernel>,
    /// Its `.global` and `.const` variables, in the order in which [`ConstantValue::Symbol`] counts
    /// them.
    pub globals: Vec<Global>,
    /// `.target`: 75 for `sm_75`, 90 for `sm_90` and `sm_90a`.
    pub target: u32,
    /// `.version` as (major, minor).
    pub version: (u32, u32),
}

/// A variable in device memory. Loading the module allocates it and marks all its bytes initialised
/// (PTX: zero without an initialiser).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Its name for the driver.
    pub name: String,
    /// True for `.const`, which kernels cannot write; false for `.global`.
    pub constant: bool,
    /// Alignment in bytes, a power of two.
    pub align: u32,
    /// Size in bytes.
    pub size: u64,
    /// The first bytes of its value; the rest is zero.
    pub init: Vec<u8>,
    /// Positions in its value that contain the address of another variable.
    pub relocations: Vec<Relocation>,
}

/// Eight bytes of a variable's initial value that contain the address of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Byte offset of the eight bytes.
    pub offset: u64,
    /// Index in [`Program::globals`].
    pub symbol: u32,
    /// Added to the symbol's address.
    pub addend: i64,
}

/// An entry point.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Name of the entry point.
    pub name: String,
    /// Its instructions. Every path ends in [`Op::Exit`] or [`Op::Trap`]; the end of the code is an
    /// exit.
    pub code: Vec<Inst>,
    /// The PTX line of each instruction (counted from 1), as long as `code`.
    pub lines: Vec<u32>,
    /// Number of rows in the register file, constants and special registers included.
    pub rows: u32,
    /// Number of predicates, [`Pred::TRUE`] included.
    pub preds: u32,
    /// Rows filled with the same value in every lane.
    pub constants: Vec<Constant>,
    /// Rows filled with a special register.
    pub specials: Vec<(Reg, Special)>,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// Size of the parameter buffer in bytes.
    pub param_bytes: u32,
    /// Its static shared variables, for reports; their bytes are counted in `static_shared`.
    pub shared_vars: Vec<SharedVar>,
    /// Bytes of static shared memory. The dynamic part begins at this offset, rounded up to
    /// `dynamic_shared_align`.
    pub static_shared: u32,
    /// Alignment of the dynamic part (1 if there is none): the largest of its `extern` variables,
    /// at least 16.
    pub dynamic_shared_align: u32,
    /// Local memory per thread, in bytes.
    pub local_bytes: u32,
    /// `.maxntid`: the maximum block size, as a product.
    pub max_threads: Option<u32>,
    /// `.maxnreg`: registers per thread at the start.
    pub max_registers: Option<u32>,
    /// `.minnctapersm`.
    pub min_blocks: Option<u32>,
    /// `.reqntid`: the required block size.
    pub required_block: Option<[u32; 3]>,
    /// `.reqnctapercluster`: the required cluster size.
    pub required_cluster: Option<[u32; 3]>,
    /// `.explicitcluster`: the launch or `.reqnctapercluster` must give the cluster's size.
    pub explicit_cluster: bool,
    /// `.maxclusterrank`: the maximum number of blocks in a cluster.
    pub max_cluster: Option<u32>,
    /// Register lists of operations with more registers than fit, by list number.
    pub lists: Vec<Vec<Reg>>,
    /// Accesses of each instruction to registers of a warpgroup's matrix products; as long as
    /// `code`, or empty if there are no products.
    pub watched: Vec<Option<Box<Watch>>>,
    /// Targets of [`Op::BrxIdx`].
    pub branch_tables: Vec<Vec<Pc>>,
    /// Estimated registers of a real compiler, for `cuFuncGetAttribute`.
    pub registers: u32,
}

impl Kernel {
    /// Byte offset of the dynamic shared memory.
    pub fn dynamic_shared_offset(&self) -> u32 {
        let align = self.dynamic_shared_align.max(1);
        self.static_shared.div_ceil(align) * align
    }

    /// The registers of an operation's list.
    pub(crate) fn list(&self, list: u16) -> &[Reg] {
        &self.lists[usize::from(list)]
    }
}

/// A static shared variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedVar {
    /// Its PTX name.
    pub name: String,
    /// Byte offset in the block's shared memory.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
}

/// A kernel parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Byte offset in the parameter buffer.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// A row, or two, with the same value in every lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// The (first) row.
    pub reg: Reg,
    /// Value of the row or rows.
    pub value: ConstantValue,
}

/// The value of a constant register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConstantValue {
    /// One row. A 16-bit constant has zeros in its upper half.
    Word(u32),
    /// Two rows with a 64-bit value.
    Double(u64),
    /// Two rows: the device address of a variable of [`Program::globals`], plus an addend.
    Symbol {
        /// Index of the variable.
        symbol: u32,
        /// Added to its address.
        addend: i64,
    },
}

/// A special register that is constant while a warp runs. One row, except where noted. The others
/// are [`Op::ReadClock`] and [`Op::ActiveMask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `%tid.x`, `.y`, `.z`.
    Tid(u8),
    /// `%ntid`.
    Ntid(u8),
    /// `%ctaid`.
    Ctaid(u8),
    /// `%nctaid`.
    Nctaid(u8),
    /// `%laneid`.
    LaneId,
    /// `%warpid`: index of the warp in its block.
    WarpId,
    /// `%nwarpid`.
    NwarpId,
    /// `%smid`: linear block index modulo `%nsmid`.
    SmId,
    /// `%nsmid`.
    NsmId,
    /// `%gridid` (two rows).
    GridId,
    /// `%lanemask_eq`.
    LaneMaskEq,
    /// `%lanemask_le`.
    LaneMaskLe,
    /// `%lanemask_lt`.
    LaneMaskLt,
    /// `%lanemask_ge`.
    LaneMaskGe,
    /// `%lanemask_gt`.
    LaneMaskGt,
    /// `%dynamic_smem_size`.
    DynamicSharedBytes,
    /// `%total_smem_size`.
    TotalSharedBytes,
    /// `%clusterid`. Without clusters every block is its own cluster.
    ClusterId(u8),
    /// `%nclusterid`.
    NclusterId(u8),
    /// `%cluster_ctaid`.
    ClusterCtaId(u8),
    /// `%cluster_nctaid`.
    ClusterNctaId(u8),
    /// `%cluster_ctarank`.
    ClusterRank,
    /// `%cluster_nctarank`.
    ClusterBlocks,
    /// `%is_explicit_cluster`: 1 or 0.
    IsExplicitCluster,
}

/// An instruction with its guard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inst {
    /// Operation.
    pub op: Op,
    /// The lanes that execute it: `@p`, `@!p` or [`PredSrc::TRUE`].
    pub guard: PredSrc,
}

impl Inst {
    /// An instruction without a guard.
    pub const fn new(op: Op) -> Inst {
        Inst {
            op,
            guard: PredSrc::TRUE,
        }
    }

    /// An instruction with a guard.
    pub const fn guarded(op: Op, pred: Pred, negated: bool) -> Inst {
        Inst {
            op,
            guard: PredSrc { pred, negated },
        }
    }
}

const _: () = assert!(
    std::mem::size_of::<Inst>() <= 32,
    "an instruction is half a cache line"
);
