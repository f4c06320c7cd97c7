//! The program that warps execute: what the PTX text is lowered to, once, when a module is loaded.
//!
//! # Registers
//!
//! A warp's register file is a list of *rows*; a row is one 32-bit word for each of the 32 lanes. Every operand is a
//! row, named by [`Reg`]:
//!
//! * A 32-bit register is one row.
//! * A 64-bit register is two adjacent rows `r` and `r + 1`, read together as `[u64; 32]` (256 bytes, lane by lane);
//!   it is named by its first row. Any row may be the first.
//! * A 16-bit register is one row, with the value in the low half of each lane. **The upper half is always zero**:
//!   every handler that writes a 16-bit result writes zeros above it, also for signed types and `.f16`. 8-bit values
//!   only exist in 16-, 32- or 64-bit registers, extended as their load or conversion says.
//! * Immediates, the addresses of variables and the special registers that do not change while a warp runs are rows
//!   too: [`Kernel::constants`] and [`Kernel::specials`] say which, and they are filled before the warp's first
//!   instruction. The program must never write them.
//!
//! Predicates live in an array of their own, one 32-bit lane mask each, named by [`Pred`]. [`Pred::TRUE`] is all ones
//! and must not be written. The carry flag of `add.cc` and the like is one more lane mask that no operand names.
//!
//! Rows and predicates that no instruction has written hold zero, which real hardware does not promise.
//!
//! # Control flow
//!
//! A program counter ([`Pc`]) is an index into [`Kernel::code`]. Every branch carries the place where its lanes meet
//! again: the first instruction of the block that is its immediate post-dominator, or [`NO_PC`] where lanes meet
//! only by exiting. Device functions are inlined before this form; `ret` of a kernel is [`Op::Exit`].
//!
//! # Address spaces
//!
//! | space | what an address is |
//! |---|---|
//! | global, const | the device address, the same as the generic one (`cvta` keeps it) |
//! | shared | byte offset in the block's shared memory: static variables first, then the dynamic part |
//! | local | byte offset in the thread's local memory |
//! | param | byte offset in the kernel's parameter buffer |
//! | generic | device address, or [`SHARED_WINDOW`], [`LOCAL_WINDOW`], [`PARAM_WINDOW`] plus the offset |
//!
//! So `mov.u64 %rd1, shared_variable` is a constant row with its offset, and `mov.b64 %rd1, kernel_param_0` one with
//! the parameter's offset.

/// Generic address of byte 0 of the block's shared memory.
pub const SHARED_WINDOW: u64 = 0x7100_0000_0000;
/// Generic address of byte 0 of the thread's local memory.
pub const LOCAL_WINDOW: u64 = 0x7200_0000_0000;
/// Generic address of byte 0 of the kernel's parameters.
pub const PARAM_WINDOW: u64 = 0x7300_0000_0000;
/// Bytes of each of the three windows.
pub const WINDOW_BYTES: u64 = 1 << 24;

/// Index of an instruction in [`Kernel::code`].
pub type Pc = u32;
/// No program counter: the lanes of a branch meet only by exiting.
pub const NO_PC: Pc = u32::MAX;

/// A register: its first row in the warp's register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u16);

impl Reg {
    /// No register: an unused source, or a destination that is thrown away (`_`).
    pub const NONE: Reg = Reg(u16::MAX);

    /// Whether this names no register.
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

    /// Whether this names no predicate.
    pub const fn is_none(self) -> bool {
        self.0 == u16::MAX
    }
}

/// A predicate that is read, perhaps negated. `PredSrc::TRUE` where the PTX has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PredSrc {
    /// The predicate.
    pub pred: Pred,
    /// Whether its complement is meant (`@!p`, `!p`).
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
    /// Its `.global` and `.const` variables, in the order in which [`ConstantValue::Symbol`] counts them.
    pub globals: Vec<Global>,
    /// `.target`: 75 for `sm_75`, 90 for `sm_90` and `sm_90a`.
    pub target: u32,
    /// `.version` as (major, minor).
    pub version: (u32, u32),
}

/// A variable in device memory. Loading the module places it and marks all its bytes initialised (PTX: zero unless
/// an initialiser says otherwise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Its name, by which the driver finds it.
    pub name: String,
    /// `.const` rather than `.global`: kernels cannot write it.
    pub constant: bool,
    /// Alignment in bytes, a power of two.
    pub align: u32,
    /// Bytes.
    pub size: u64,
    /// The first bytes of its value; the rest is zero.
    pub init: Vec<u8>,
    /// Places in its value that hold the address of another variable.
    pub relocations: Vec<Relocation>,
}

/// Eight bytes of a variable's initial value that hold the address of another.
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
    /// Its name.
    pub name: String,
    /// Its instructions. Every path ends in [`Op::Exit`] or [`Op::Trap`]; falling off the end is an exit.
    pub code: Vec<Inst>,
    /// The PTX line of each instruction (counted from 1), as long as `code`.
    pub lines: Vec<u32>,
    /// Rows of the register file, constants and special registers included.
    pub rows: u32,
    /// Predicates, [`Pred::TRUE`] included.
    pub preds: u32,
    /// Rows filled with the same value in every lane.
    pub constants: Vec<Constant>,
    /// Rows filled with a special register.
    pub specials: Vec<(Reg, Special)>,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// Bytes of the parameter buffer.
    pub param_bytes: u32,
    /// Its static shared variables, for reports; their bytes are counted in `static_shared`.
    pub shared_vars: Vec<SharedVar>,
    /// Bytes of static shared memory. The dynamic part begins at this offset, rounded up to `dynamic_shared_align`.
    pub static_shared: u32,
    /// Alignment of the dynamic part (1 if there is none): the largest of its `extern` variables, at least 16.
    pub dynamic_shared_align: u32,
    /// Bytes of local memory a thread.
    pub local_bytes: u32,
    /// `.maxntid`: the largest block, as a product.
    pub max_threads: Option<u32>,
    /// `.reqntid`: the only block that may be launched.
    pub required_block: Option<[u32; 3]>,
    /// Targets of [`Op::BrxIdx`].
    pub branch_tables: Vec<Vec<Pc>>,
    /// Registers that a real compiler might use: what `cuFuncGetAttribute` reports. An estimate.
    pub registers: u32,
}

impl Kernel {
    /// Byte offset of the dynamic shared memory.
    pub fn dynamic_shared_offset(&self) -> u32 {
        let align = self.dynamic_shared_align.max(1);
        self.static_shared.div_ceil(align) * align
    }
}

/// A static shared variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedVar {
    /// Its PTX name.
    pub name: String,
    /// Byte offset in the block's shared memory.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// A kernel parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Byte offset in the parameter buffer.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// A row, or two, with the same value in every lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// The (first) row.
    pub reg: Reg,
    /// What it holds.
    pub value: ConstantValue,
}

/// The value of a constant register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConstantValue {
    /// One row. A 16-bit constant has zeros in its upper half.
    Word(u32),
    /// Two rows.
    Double(u64),
    /// Two rows: the device address of a variable of [`Program::globals`], plus an addend.
    Symbol {
        /// Index of the variable.
        symbol: u32,
        /// Added to its address.
        addend: i64,
    },
}

/// A special register that stays the same while a warp runs. One row, two where said. The changing ones are
/// [`Op::ReadClock`] and [`Op::ActiveMask`].
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
    /// `%clusterid.{x,y,z}` and `%cluster_ctaid`, `%cluster_ctarank`: no clusters, so zero.
    Zero,
    /// `%cluster_nctaid.{x,y,z}` and `%cluster_nctarank`: no clusters, so one.
    One,
}

/// An instruction with its guard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inst {
    /// What it does.
    pub op: Op,
    /// The lanes that do it: `@p`, `@!p` or [`PredSrc::TRUE`].
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

/// Width of an untyped value in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 16 bits, zero above.
    W16,
    /// One row.
    W32,
    /// Two rows.
    W64,
}

/// An integer type. Bitwise operations take the unsigned ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum IntTy {
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
}

/// A floating-point type of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FloatTy {
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

/// A type that `cvt` converts from or to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CvtTy {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F16,
    Bf16,
    F32,
    F64,
    /// A destination only: f32 with ten bits after the point.
    Tf32,
}

/// A rounding mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// No modifier: exact, or nearest-even for arithmetic.
    None,
    /// `.rn`: nearest, ties to even.
    Rn,
    /// `.rna`: nearest, ties away from zero.
    Rna,
    /// `.rz`: towards zero.
    Rz,
    /// `.rm`: down.
    Rm,
    /// `.rp`: up.
    Rp,
    /// `.rni`: to an integral value, nearest even.
    Rni,
    /// `.rzi`: to an integral value, towards zero.
    Rzi,
    /// `.rmi`: to an integral value, down.
    Rmi,
    /// `.rpi`: to an integral value, up.
    Rpi,
}

/// Modifiers of floating-point arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FloatMode {
    /// Rounding; `None` is nearest-even.
    pub rounding: Rounding,
    /// `.ftz`: subnormal f32 inputs and results become zero of the same sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to 0..1, NaN becomes 0.
    pub sat: bool,
    /// `.relu` (fma of f16 and bf16, cvt): negative results and -0 become 0; NaN becomes the canonical NaN.
    pub relu: bool,
}

impl FloatMode {
    /// Nearest-even, nothing else.
    pub const RN: FloatMode = FloatMode {
        rounding: Rounding::None,
        ftz: false,
        sat: false,
        relu: false,
    };
}

/// Two-operand integer operations. Shift amounts (`b` of `Shl`, `Shr`) are one 32-bit row for every type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum IntBinary {
    Add,
    /// `add.sat.s32`.
    AddSat,
    Sub,
    /// `sub.sat.s32`.
    SubSat,
    MulLo,
    MulHi,
    /// `mul.wide`: the type is the operands', the result is twice as wide (S16, U16, S32, U32 only).
    MulWide,
    /// `mul24.lo`.
    Mul24Lo,
    /// `mul24.hi`.
    Mul24Hi,
    /// Division by zero gives all ones (PTX leaves it unspecified).
    Div,
    /// Remainder by zero gives the dividend (PTX leaves it unspecified).
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    /// Amounts past the width shift everything out.
    Shl,
    /// Arithmetic for signed types.
    Shr,
}

/// One-operand integer operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum IntUnary {
    Neg,
    Abs,
    Not,
    /// `cnot`: 1 if zero, else 0.
    Cnot,
    /// The result is one 32-bit row, also of a 64-bit operand.
    Popc,
    /// The result is one 32-bit row.
    Clz,
    Brev,
    /// The result is one 32-bit row; all ones if there is no bit.
    Bfind,
    /// `bfind.shiftamt`.
    BfindShift,
}

/// Which part of a product `mad` adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MadPart {
    Lo,
    Hi,
    /// `c` and `d` are twice as wide as `a` and `b`.
    Wide,
    /// `mad.hi.sat.s32`.
    HiSat,
    /// `mad24.lo`.
    Lo24,
    /// `mad24.hi`.
    Hi24,
    /// `mad24.hi.sat.s32`.
    Hi24Sat,
}

/// Additions with carry. `U32` and `U64` only (signed adds carry alike).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CarryOp {
    Add,
    Sub,
    /// `c + lo(a * b)`.
    MadLo,
    /// `c + hi(a * b)`, unsigned.
    MadHi,
    /// `c + hi(a * b)`, signed.
    MadHiSigned,
}

/// Two-operand floating-point operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FloatBinary {
    Add,
    Sub,
    Mul,
    /// The number if one operand is NaN; -0 is less than +0.
    Min,
    Max,
    /// `.NaN`: canonical NaN if either operand is.
    MinNan,
    MaxNan,
    /// `.xorsign.abs`: of magnitudes, sign = product of signs.
    MinXorsign,
    MaxXorsign,
    /// `.NaN.xorsign.abs`.
    MinNanXorsign,
    MaxNanXorsign,
    /// IEEE division (`div.rn` and the other roundings).
    Div,
    /// `div.approx` and `div.full`: computed in f64 and rounded once.
    DivApprox,
    /// `copysign d, a, b`: magnitude of `b`, sign of `a`.
    Copysign,
}

/// One-operand floating-point operations. The approximate ones are computed in f64 and rounded once to f32, so they
/// are nearer to the true value than the hardware's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FloatUnary {
    Neg,
    Abs,
    /// `rcp`, approximate or rounded.
    Rcp,
    Sqrt,
    /// `rsqrt.approx`.
    Rsqrt,
    Ex2,
    Lg2,
    Sin,
    Cos,
    Tanh,
}

/// `testp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TestP {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}

/// A comparison. The unsigned integer ones (`lo`, `ls`, `hi`, `hs`) are `Lt` ... `Ge` of an unsigned type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `equ` and its like: also true if an operand is NaN.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    /// Neither is NaN.
    Num,
    /// One is NaN.
    Nan,
}

/// What `setp`, `set` compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CmpTy {
    Int(IntTy),
    Float(FloatTy),
}

/// How predicates combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BoolOp {
    And,
    Or,
    Xor,
}

/// What `set` writes for true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetTy {
    /// All ones in 16 bits.
    Int16,
    /// 0xffffffff.
    Int32,
    /// 1.0 as f32.
    F32,
    /// 1.0 as f16, in one half or both as the compared type says.
    F16,
    /// 1.0 as bf16, likewise.
    Bf16,
}

/// How `mov` packs and unpacks vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Packing {
    /// 32 bits, two 16-bit parts.
    B32By16,
    /// 64 bits, two 32-bit parts.
    B64By32,
    /// 64 bits, four 16-bit parts.
    B64By16,
    /// 16 bits, two 8-bit parts (in 16-bit registers).
    B16By8,
    /// 32 bits, four 8-bit parts (in 16-bit registers).
    B32By8,
}

/// `prmt` modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PrmtMode {
    Index,
    F4e,
    B4e,
    Rc8,
    Ecl,
    Ecr,
    Rc16,
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// An address: a register, or none, plus a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Base register; [`Reg::NONE`] for zero.
    pub base: Reg,
    /// Whether the base is a 64-bit register. A 32-bit one is zero-extended.
    pub wide: bool,
    /// Added to the base. Larger offsets go into a constant register.
    pub offset: i32,
}

/// The elements that a load or store moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// The state space.
    pub space: Space,
    /// Bytes of an element in memory: 1, 2, 4 or 8.
    pub bytes: u8,
    /// Elements: 1, 2 or 4.
    pub count: u8,
    /// Loads: whether an element narrower than its register is sign-extended.
    pub signed: bool,
    /// Width of each register. Stores write its low bytes.
    pub reg: Width,
    /// `.volatile`, `.relaxed`, `.acquire`, `.release`, `.mmio`: a synchronising access; racing with another of the
    /// kind is not reported.
    pub strong: bool,
}

/// What an atomic does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// The type of an atomic. Untyped 32 and 64 bits are `U32` and `U64`, 16 bits `B16` (`cas` and `exch` only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AtomTy {
    B16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

/// What a block barrier does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BarrierKind {
    /// Waits.
    Sync,
    /// Arrives and goes on.
    Arrive,
    /// Waits and gives the number of threads whose predicate is true.
    RedPopc,
    /// Waits and gives whether all predicates are true.
    RedAnd,
    /// Waits and gives whether any predicate is true.
    RedOr,
}

/// Shuffle modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

/// Vote modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum VoteMode {
    All,
    Any,
    Uni,
    /// Writes a register, not a predicate.
    Ballot,
}

/// `redux.sync` operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ReduxOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
}

/// Which clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// `%clock`, `%clock_lo`: one row, instructions issued by the warp.
    Clock32,
    /// `%clock_hi`: one row.
    ClockHi,
    /// `%clock64`: two rows.
    Clock64,
    /// `%globaltimer`: two rows, nanoseconds.
    GlobalTimer,
    /// `%globaltimer_lo`: one row.
    GlobalTimerLo,
    /// `%globaltimer_hi`: one row.
    GlobalTimerHi,
}

/// What an instruction does. `d` is the destination, `a b c` the sources, `p` and `q` predicates.
///
/// Matrix instructions, `ldmatrix`, `mbarrier` and bulk copies are not here yet: they are added as variants, with a
/// handler, a counter class and a check each.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Op {
    // ---- moves ----
    /// Copies a register.
    Mov {
        w: Width,
        d: Reg,
        a: Reg,
    },
    /// `mov.b64 d, {parts}`; `parts` past the count are `NONE`.
    Pack {
        kind: Packing,
        d: Reg,
        parts: [Reg; 4],
    },
    /// `mov.b64 {parts}, a`; a `NONE` part is thrown away.
    Unpack {
        kind: Packing,
        parts: [Reg; 4],
        a: Reg,
    },
    /// `p ? a : b`.
    Selp {
        w: Width,
        d: Reg,
        a: Reg,
        b: Reg,
        p: PredSrc,
    },
    /// `c >= 0 ? a : b`, `c` signed.
    SlctS32 {
        w: Width,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// `c >= 0 ? a : b`, `c` f32; NaN selects `b`, -0 selects `a`.
    SlctF32 {
        w: Width,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
        ftz: bool,
    },
    /// `cvta.space` (to generic) or `cvta.to.space`; `wide` for 64-bit addresses.
    Cvta {
        space: Space,
        to_space: bool,
        wide: bool,
        d: Reg,
        a: Reg,
    },
    /// `isspacep`.
    IsSpace {
        space: Space,
        p: Pred,
        a: Reg,
    },
    ReadClock {
        clock: Clock,
        d: Reg,
    },

    // ---- integers ----
    IntBinary {
        op: IntBinary,
        ty: IntTy,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    IntUnary {
        op: IntUnary,
        ty: IntTy,
        d: Reg,
        a: Reg,
    },
    /// `mad`: a part of `a * b`, plus `c`.
    Mad {
        part: MadPart,
        ty: IntTy,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// `sad`: `c + |a - b|`.
    Sad {
        ty: IntTy,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Extended precision: `carry_in` reads the flag, `carry_out` writes it. `c` is `NONE` for `Add` and `Sub`.
    Carry {
        op: CarryOp,
        ty: IntTy,
        carry_in: bool,
        carry_out: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Lop3 {
        lut: u8,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Funnel shift of the 64 bits `{b, a}` by `c`; `clamp` limits the amount to 32, else it wraps.
    Shf {
        left: bool,
        clamp: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Prmt {
        mode: PrmtMode,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Bit field of `a` at `b`, `c` bits long. `U32`, `S32`, `U64`, `S64`; `b`, `c` 32-bit.
    Bfe {
        ty: IntTy,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Inserts the low `len` bits of `a` into `b` at `pos`. `W32` or `W64`; `pos`, `len` 32-bit.
    Bfi {
        w: Width,
        d: Reg,
        a: Reg,
        b: Reg,
        pos: Reg,
        len: Reg,
    },
    /// Bit mask of `b` bits at `a`.
    Bmsk {
        clamp: bool,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// Extends `a` from its low `b` bits.
    Szext {
        signed: bool,
        clamp: bool,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// `fns.b32 d, mask, base, offset`.
    Fns {
        d: Reg,
        mask: Reg,
        base: Reg,
        offset: Reg,
    },
    /// Four-way byte dot product plus `c`.
    Dp4a {
        a_signed: bool,
        b_signed: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// Two-way dot product of 16-bit halves of `a` with two bytes of `b` (upper two if `hi`), plus `c`.
    Dp2a {
        a_signed: bool,
        b_signed: bool,
        hi: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },

    // ---- floating point ----
    /// `fma` (and `mad.f32`): one rounding.
    Fma {
        ty: FloatTy,
        mode: FloatMode,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    FloatBinary {
        op: FloatBinary,
        ty: FloatTy,
        mode: FloatMode,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    FloatUnary {
        op: FloatUnary,
        ty: FloatTy,
        mode: FloatMode,
        d: Reg,
        a: Reg,
    },
    TestP {
        test: TestP,
        ty: FloatTy,
        p: Pred,
        a: Reg,
    },
    /// `cvt` between two scalar types. Integer to integer: `mode.sat` clamps to the destination's range, else the low
    /// bits remain. Float to integer clamps always, NaN gives 0. Destinations narrower than their register
    /// (`reg` is the destination register's width) are sign- or zero-extended as the destination type says.
    Cvt {
        to: CvtTy,
        from: CvtTy,
        mode: FloatMode,
        reg: Width,
        d: Reg,
        a: Reg,
    },
    /// `cvt.f16x2.f32 d, a, b` and `cvt.bf16x2.f32`: `a` goes to the upper half.
    CvtPack {
        bf16: bool,
        mode: FloatMode,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// `cvt.pack.sat.{u16,s16,u8,s8}.s32 d, a, b`: for 16-bit types `a` goes to the upper half, `b` to the lower; for
    /// 8-bit types `d = (c << 16) | (a << 8) | b` with `c` the third operand.
    CvtPackInt {
        to: CvtTy,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },

    // ---- predicates ----
    /// `p = (a cmp b) bool c`, `q = !(a cmp b) bool c`; without a combination `c` is `TRUE` and `bool` is `And`.
    /// Of `F16x2` and `Bf16x2`, `p` is the low half's and `q` the high half's comparison.
    Setp {
        cmp: Cmp,
        ty: CmpTy,
        ftz: bool,
        combine: BoolOp,
        c: PredSrc,
        p: Pred,
        q: Pred,
        a: Reg,
        b: Reg,
    },
    /// `set`: as `setp`, into a register.
    Set {
        cmp: Cmp,
        ty: CmpTy,
        ftz: bool,
        combine: BoolOp,
        c: PredSrc,
        to: SetTy,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    /// `d = a op b` of predicates; `mov.pred` is `a And TRUE`, `not.pred` has a negated source.
    PredLogic {
        op: BoolOp,
        d: Pred,
        a: PredSrc,
        b: PredSrc,
    },

    // ---- memory ----
    Ld {
        access: Access,
        d: [Reg; 4],
        addr: Address,
    },
    St {
        access: Access,
        src: [Reg; 4],
        addr: Address,
    },
    /// `atom`, and `red` with `d = NONE`. `c` is the new value of `cas` (then `b` is the compared one).
    Atom {
        space: Space,
        op: AtomOp,
        ty: AtomTy,
        d: Reg,
        addr: Address,
        b: Reg,
        c: Reg,
    },
    /// `cp.async.{ca,cg}.shared.global [dst], [src], bytes{, src_size}`; `src_size` is `NONE` for all bytes, else a
    /// 32-bit row; bytes past it are zeroed.
    CpAsync {
        bytes: u8,
        dst: Address,
        src: Address,
        src_size: Reg,
    },
    CpAsyncCommit,
    /// Waits until at most `pending` of the latest groups are under way.
    CpAsyncWait {
        pending: u8,
    },
    /// Waits for all, committed or not.
    CpAsyncWaitAll,
    /// `membar`, `fence`: the emulator's memory is always coherent. Counted only.
    Fence,
    /// `prefetch`, `discard`, `nanosleep`, `pmevent`, `griddepcontrol` and other hints.
    Nop,

    // ---- control ----
    /// Lanes of the guard go to `target`; all meet again at `reconverge`.
    Bra {
        target: Pc,
        reconverge: Pc,
    },
    /// Each lane goes to entry `index` of [`Kernel::branch_tables`]`[table]`.
    BrxIdx {
        index: Reg,
        table: u16,
        reconverge: Pc,
    },
    Exit,
    /// Ends the launch with a fault.
    Trap,
    /// `__assertfail(message, file, line, function)`: all pointers generic, 64-bit; `line` 32-bit.
    AssertFail {
        message: Reg,
        file: Reg,
        line: Reg,
        function: Reg,
    },
    /// `vprintf(format, arguments)`: both generic, 64-bit. `d` gets the count of arguments.
    Printf {
        d: Reg,
        format: Reg,
        args: Reg,
    },

    // ---- threads together ----
    /// Block barrier. `id` a 32-bit row; `count` a 32-bit row or `NONE` for the whole block. `aligned`: all lanes of
    /// a warp must be there (`bar`, `barrier.aligned`). `src` is the predicate of a reduction, `d` its result
    /// (`RedPopc`), `p` its result (`RedAnd`, `RedOr`).
    Barrier {
        kind: BarrierKind,
        aligned: bool,
        id: Reg,
        count: Reg,
        src: PredSrc,
        d: Reg,
        p: Pred,
    },
    /// `bar.warp.sync mask`.
    WarpSync {
        mask: Reg,
    },
    /// `mask` is `NONE` for the form without `.sync`. `p` may be `NONE`.
    Shfl {
        mode: ShflMode,
        d: Reg,
        p: Pred,
        a: Reg,
        b: Reg,
        c: Reg,
        mask: Reg,
    },
    /// `d` for `Ballot`, `p` for the others.
    Vote {
        mode: VoteMode,
        d: Reg,
        p: Pred,
        src: PredSrc,
        mask: Reg,
    },
    /// `match.any` / `match.all`; `p` only for `all`, may be `NONE`.
    Match {
        all: bool,
        w: Width,
        d: Reg,
        p: Pred,
        a: Reg,
        mask: Reg,
    },
    Redux {
        op: ReduxOp,
        signed: bool,
        d: Reg,
        a: Reg,
        mask: Reg,
    },
    ActiveMask {
        d: Reg,
    },
    /// `elect.sync d|p, mask`: the lowest lane of `mask`.
    Elect {
        d: Reg,
        p: Pred,
        mask: Reg,
    },
}

const _: () = assert!(
    std::mem::size_of::<Inst>() <= 32,
    "an instruction is half a cache line"
);
