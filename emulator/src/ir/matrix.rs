//! Matrix instructions of a warp.

/// The type of the elements of a matrix operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MatrixTy {
    F16,
    Bf16,
    /// f32 of which the low 13 bits are ignored.
    Tf32,
    /// Eight bits, four of them the exponent; no infinity.
    E4m3,
    /// Eight bits, five of them the exponent.
    E5m2,
    S8,
    U8,
    S4,
    U4,
}

impl MatrixTy {
    /// Bits of an element.
    pub const fn bits(self) -> u32 {
        match self {
            MatrixTy::F16 | MatrixTy::Bf16 => 16,
            MatrixTy::Tf32 => 32,
            MatrixTy::E4m3 | MatrixTy::E5m2 | MatrixTy::S8 | MatrixTy::U8 => 8,
            MatrixTy::S4 | MatrixTy::U4 => 4,
        }
    }
}

/// The type of a matrix product's accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatrixSum {
    /// f32.
    F32,
    /// f16: accumulated in f32 and rounded once per instruction.
    F16,
    /// Integers that wrap around.
    S32,
    /// Integers that saturate (`.satfinite`).
    S32Sat,
}

/// An `mma.sync` of 16 rows and 8 columns. Its fragments are the same for every type, counted in
/// words of 32 bits. For lane `4 * g + t`:
///
/// | register | word |
/// |---|---|
/// | `a[0]`, `a[1]` | row `g` and `g + 8`, word `t` of the row |
/// | `a[2]`, `a[3]` | likewise, word `t + 4` |
/// | `b[0]`, `b[1]` | column `g`, words `t` and `t + 4` of the column |
/// | `d[0]`, `d[1]` | row `g`, columns `2 * t` and `2 * t + 1` |
/// | `d[2]`, `d[3]` | likewise, row `g + 8` |
///
/// Accumulators of 16 bits are in pairs: `d[0]` has the contents of `d[0]` and `d[1]` above, `d[1]`
/// those of `d[2]` and `d[3]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mma {
    /// Rows of the left matrix: 16, or 8, in which case the upper eight are zero.
    pub rows: u8,
    /// Type of the left matrix.
    pub a: MatrixTy,
    /// Type of the right matrix: that of the left one, except for the signedness of integers.
    pub b: MatrixTy,
    /// Type of the accumulators.
    pub sum: MatrixSum,
    /// Words along the summed dimension: 4 or 8.
    pub words: u8,
}

impl Mma {
    /// Elements along the summed dimension.
    pub const fn depth(self) -> u32 {
        self.words as u32 * 32 / self.a.bits()
    }

    /// Multiply-adds of one instruction.
    pub const fn multiply_adds(self) -> u64 {
        self.rows as u64 * 8 * self.depth() as u64
    }
}
