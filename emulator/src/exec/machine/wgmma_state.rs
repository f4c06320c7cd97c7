//! State of the products of a warpgroup: operands as numbers, registers in use.
use crate::ir::Wgmma;

/// The factors of a product as numbers, laid out as the sums want them.
#[derive(Default)]
pub(crate) struct Factors {
    pub depth: usize,
    /// Of warp `w`, half `i` of its rows, place `k`: for each lane its row's. Index
    /// `(2 * w + i) * depth + k`.
    pub left: Vec<[f32; 32]>,
    /// Of columns `8 * j + 2 * t + e` at place `k`: for lanes `t` and `4 + t`. Index
    /// `(2 * j + e) * depth + k`.
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

/// Role of a row in a product that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Use {
    #[default]
    None,
    Sum,
    Factor,
}

/// State of a row that products use.
#[derive(Clone, Copy, Default)]
pub(crate) struct RowState {
    /// By the latest product that is under way.
    pub used: Use,
    /// Instruction of the product.
    pub by: u32,
    /// The instruction, plus one, that touched the row since the last `wgmma.fence`.
    pub touched: u32,
}

/// A product that is under way.
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
    /// The time of the latest.
    pub latest: u32,
    /// True if there has been a `wgmma.fence`.
    pub fenced: bool,
    /// By row; empty where the kernel has no products.
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
