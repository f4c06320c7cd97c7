//! State of a warpgroup's products: operands as numbers, registers in use.
use crate::ir::Wgmma;

/// The factors of a product as numbers, in the layout that the accumulation reads.
#[derive(Default)]
pub(crate) struct Factors {
    pub depth: usize,
    /// For warp `w`, half `i` of its rows, position `k`: the element of each lane's row.
    /// Index `(2 * w + i) * depth + k`.
    pub left: Vec<[f32; 32]>,
    /// For columns `8 * j + 2 * t + e` at position `k`: the elements of lanes `t` and `4 + t`.
    /// Index `(2 * j + e) * depth + k`.
    pub right: Vec<[f32; 8]>,
}

impl Factors {
    pub fn start(&mut self, wgmma: Wgmma) {
        self.depth = wgmma.depth() as usize;
        self.left.resize(8 * self.depth, [0.0; 32]);
        let columns = usize::from(wgmma.columns);
        self.right.resize(columns / 4 * self.depth, [0.0; 8]);
    }

    #[inline(always)]
    pub fn set_left(&mut self, row: usize, k: usize, value: f32) {
        let lanes = &mut self.left[row / 8 * self.depth + k];
        lanes[row % 8 * 4..row % 8 * 4 + 4].fill(value);
    }

    #[inline(always)]
    pub fn set_right(&mut self, column: usize, k: usize, value: f32) {
        let (j, t, e) = (column / 8, column % 8 / 2, column % 2);
        let lanes = &mut self.right[(2 * j + e) * self.depth + k];
        (lanes[t], lanes[t + 4]) = (value, value);
    }
}

/// Role of a register row in a product in flight.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Use {
    #[default]
    None,
    Sum,
    Factor,
}

/// State of a register row that products use.
#[derive(Clone, Copy, Default)]
pub(crate) struct RowState {
    /// Its role in the latest product in flight.
    pub used: Use,
    /// Instruction of that product.
    pub by: u32,
    /// Index plus one of the instruction that accessed the row since the last `wgmma.fence`.
    pub touched: u32,
}

/// A product in flight.
pub(crate) struct Product {
    pub group: u32,
    pub time: u32,
    pub pc: u32,
    pub list: u16,
    pub wgmma: Wgmma,
}

/// The products of a warp.
#[derive(Default)]
pub(crate) struct Products {
    pub list: Vec<Product>,
    pub committed: u32,
    /// The time of the latest product.
    pub latest: u32,
    /// True after the first `wgmma.fence`.
    pub fenced: bool,
    /// State by row; empty if the kernel has no products.
    pub rows: Vec<RowState>,
}

impl Products {
    pub fn start(&mut self, rows: usize) {
        self.list.clear();
        self.committed = 0;
        self.latest = 0;
        self.fenced = false;
        self.rows.clear();
        self.rows.resize(rows, RowState::default());
    }
}
