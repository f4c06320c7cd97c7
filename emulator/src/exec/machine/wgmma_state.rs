//! State of a warpgroup's products: operands as numbers, registers in use.
use crate::ir::Wgmma;

/// Properties of eight rows of the left matrix, or eight columns of the right one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Summary {
    /// Every element is 0 or -0.
    pub zero: bool,
    /// No element is infinite or a NaN.
    pub finite: bool,
}

/// Groups of eight rows in the left matrix.
const LEFT: usize = 8;
/// Groups of eight columns in the largest right matrix.
const RIGHT: usize = 32;

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
    /// Properties of each group of eight rows or columns.
    rows: [Summary; LEFT],
    columns: [Summary; RIGHT],
    /// Masks of the groups whose elements are stored as 0, with no bit set: they need not be stored
    /// again.
    clear_left: u32,
    clear_right: u32,
}

impl Factors {
    pub fn start(&mut self, wgmma: Wgmma) {
        let depth = wgmma.depth() as usize;
        if depth != self.depth {
            (self.clear_left, self.clear_right) = (0, 0);
        }
        self.depth = depth;
        self.left.resize(8 * self.depth, [0.0; 32]);
        let columns = usize::from(wgmma.columns);
        self.right.resize(columns / 4 * self.depth, [0.0; 8]);
    }

    /// Starts to store eight rows of the left matrix. `clear`: all elements are 0. Returns whether
    /// they have to be stored.
    #[inline(always)]
    pub fn begin_left(&mut self, octet: usize, summary: Summary, clear: bool) -> bool {
        self.rows[octet] = summary;
        let was = self.clear_left >> octet & 1 != 0;
        self.clear_left = self.clear_left & !(1 << octet) | u32::from(clear) << octet;
        !(was && clear)
    }

    /// The same for eight columns of the right matrix.
    #[inline(always)]
    pub fn begin_right(&mut self, octet: usize, summary: Summary, clear: bool) -> bool {
        self.columns[octet] = summary;
        let was = self.clear_right >> octet & 1 != 0;
        self.clear_right = self.clear_right & !(1 << octet) | u32::from(clear) << octet;
        !(was && clear)
    }

    /// Returns whether every product of some eight rows and eight columns is 0 or -0: one factor is
    /// zero and the other finite.
    #[inline(always)]
    pub fn adds_nothing(&self, (rows, columns): (usize, usize)) -> bool {
        let (left, right) = (self.rows[rows], self.columns[columns]);
        left.zero && right.finite || right.zero && left.finite
    }

    /// Number of groups that are stored as 0.
    #[cfg(test)]
    pub fn clear_groups(&self) -> usize {
        (self.clear_left.count_ones() + self.clear_right.count_ones()) as usize
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
