//! Types, modifiers and operations of arithmetic.

/// Width of an untyped value in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 16 bits, with zeros in the upper half of the row.
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

/// A floating-point type of 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fp8 {
    /// Four bits of exponent, three of fraction: up to 448, no infinity.
    E4m3,
    /// Five bits of exponent, two of fraction: up to 57344.
    E5m2,
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
    /// `.relu` (fma of f16 and bf16, cvt): negative results and -0 become 0; NaN becomes the
    /// canonical NaN.
    pub relu: bool,
    /// `.satfinite` (cvt): the largest finite number of its sign instead of an infinity.
    pub finite: bool,
}

impl FloatMode {
    /// Nearest-even without modifiers.
    pub const RN: FloatMode = FloatMode {
        rounding: Rounding::None,
        ftz: false,
        sat: false,
        relu: false,
        finite: false,
    };

    /// Returns whether the mode is this rounding without modifiers.
    pub const fn is_plain_in(self, rounding: Rounding) -> bool {
        let modified = self.ftz || self.sat || self.relu || self.finite;
        self.rounding as u8 == rounding as u8 && !modified
    }
}

/// Two-operand integer operations. Shift amounts (`b` of `Shl`, `Shr`) are one 32-bit row for every
/// type.
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
    /// `mul.wide`: the type is the operands', the result is twice as wide (S16, U16, S32, U32
    /// only).
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
    /// Amounts of at least the width give 0.
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
    /// The result is one 32-bit row, even for a 64-bit operand.
    Popc,
    /// The result is one 32-bit row.
    Clz,
    Brev,
    /// The result is one 32-bit row; all ones if there is no bit.
    Bfind,
    /// `bfind.shiftamt`.
    BfindShift,
}

/// Half of a product that `mad` adds to.
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

/// Additions with carry. `U32` and `U64` only (signed additions carry in the same way).
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
    /// `.xorsign.abs`: of magnitudes; the sign is the product of the signs.
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

/// One-operand floating-point operations. The approximate ones are computed in f64 and rounded once
/// to f32, so they are closer to the exact value than the hardware's.
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

/// A comparison. The unsigned integer ones (`lo`, `ls`, `hi`, `hs`) are `Lt` ... `Ge` of an
/// unsigned type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `equ` and similar ones: also true if an operand is NaN.
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

/// Type of the operands of `setp` and `set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CmpTy {
    Int(IntTy),
    Float(FloatTy),
}

/// Combination of predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BoolOp {
    And,
    Or,
    Xor,
}

/// Value that `set` writes for true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetTy {
    /// All ones in 16 bits.
    Int16,
    /// 0xffffffff.
    Int32,
    /// 1.0 as f32.
    F32,
    /// 1.0 as f16, in one half or both, depending on the compared type.
    F16,
    /// 1.0 as bf16, in one half or both, depending on the compared type.
    Bf16,
}

/// Packing and unpacking of vectors by `mov`.
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
