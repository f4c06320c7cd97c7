//! Positions of the elements of `wmma`'s matrices: in registers as for `mma`, in memory as the
//! instruction specifies.

use crate::ir::{MatrixTy, Reg};

/// Shapes: rows, columns, elements along the summed dimension.
pub(crate) const SHAPES: [(&str, [u32; 3]); 4] = [
    ("m16n16k16", [16, 16, 16]),
    ("m32n8k16", [32, 8, 16]),
    ("m8n32k16", [8, 32, 16]),
    ("m16n16k8", [16, 16, 8]),
];

/// Operand of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    A,
    B,
    Sums,
}

/// A matrix in fragments and in memory.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub(crate) role: Role,
    /// Rows and columns of the product, elements along the summed dimension.
    pub(crate) shape: [u32; 3],
    /// Bits of an element.
    pub(crate) bits: u32,
    /// True if the elements of a row are contiguous in memory.
    pub(crate) row_major: bool,
}

/// A position in a matrix for lane `4 * g + t`: lane-dependent numbers plus constants.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Constant added to `g`.
    pub(crate) line: u32,
    /// Constant added to `t * each`, the position of the element within a line.
    pub(crate) at: u32,
    pub(crate) each: u32,
}

impl Matrix {
    /// Returns whether the product is computed from the transposed matrices: an `mma` has more rows
    /// than columns.
    pub(crate) fn transposed(&self) -> bool {
        self.shape[0] == 8
    }

    /// Number of elements per register.
    pub(crate) fn packed(&self) -> u32 {
        32 / self.bits
    }

    /// Returns whether the matrix is the left operand of each `mma`, with 16 rows; the right one
    /// has 8 columns.
    pub(crate) fn is_left(&self) -> bool {
        (self.role == Role::A) != self.transposed()
    }

    /// Number of registers per `mma`.
    pub(crate) fn registers_of_mma(&self) -> usize {
        match self.role {
            Role::Sums => 4 / self.packed() as usize,
            _ => {
                let words = (self.shape[2] * self.bits / 32) as usize;
                if self.is_left() { words / 2 } else { words / 4 }
            }
        }
    }

    /// Number of registers with distinct elements.
    pub(crate) fn registers(&self) -> usize {
        let [m, n, _] = self.shape;
        let blocks = match self.role {
            Role::Sums => 2,
            Role::A => m / if self.is_left() { 16 } else { 8 },
            Role::B => n / if self.is_left() { 16 } else { 8 },
        };
        blocks as usize * self.registers_of_mma()
    }

    /// Number of registers of the operand. f16 fragments repeat their elements up to eight
    /// registers.
    pub(crate) fn operand_registers(&self, ty: Option<MatrixTy>) -> usize {
        match ty {
            Some(MatrixTy::F16) => 8,
            _ => self.registers(),
        }
    }

    /// Position of a register's first element; the others follow along the line.
    pub(crate) fn place(&self, register: usize) -> Place {
        let (block, within) = (
            (register / self.registers_of_mma()) as u32,
            (register % self.registers_of_mma()) as u32,
        );
        let each = self.packed();
        if self.role == Role::Sums {
            let each = 2;
            let (upper, odd) = match self.packed() {
                1 => (within / 2, within % 2),
                _ => (within, 0),
            };
            // The two products are stacked vertically if the left matrix has 32 rows, otherwise
            // horizontally.
            let below = self.shape[0] != self.shape[1];
            let (down, right) = if below { (block, 0) } else { (0, block) };
            return Place {
                line: 16 * down + 8 * upper,
                at: 8 * right + odd,
                each,
            };
        }
        let (line, word) = if self.is_left() {
            (16 * block + within % 2 * 8, within / 2)
        } else {
            (8 * block, within)
        };
        Place {
            line,
            at: 4 * word * each,
            each,
        }
    }

    /// Returns whether the elements of a line are contiguous in memory. A line is a row of `A` or
    /// of the accumulators, a column of `B`, and of transposed accumulators a column.
    pub(crate) fn lines_are_dense(&self) -> bool {
        match self.role {
            Role::A => self.row_major,
            Role::B => !self.row_major,
            Role::Sums => self.row_major != self.transposed(),
        }
    }

    /// Default distance in elements between rows (or columns).
    pub(crate) fn default_stride(&self) -> u32 {
        let [m, n, k] = self.shape;
        let (rows, columns) = match self.role {
            Role::A => (m, k),
            Role::B => (k, n),
            Role::Sums => (m, n),
        };
        if self.row_major { columns } else { rows }
    }
}

/// The registers of one `mma`: those of its own block, or of the only one.
pub(crate) fn fragment<const N: usize>(regs: &[Reg], matrix: Matrix, block: usize) -> [Reg; N] {
    let each = matrix.registers_of_mma();
    let block = block % (matrix.registers() / each);
    let mut out = [Reg::NONE; N];
    out[..each].copy_from_slice(&regs[block * each..][..each]);
    out
}
