//! Filters as the kernels on tensor cores read them, and the constants of a workspace.

use super::Kernel;
use crate::problem::{Conv2d, FilterLayout, PACKED_BYTES};

/// Bytes at the start of every workspace that count the blocks that have finished a tile, 4 per
/// tile; zero before and after every launch.
pub const WORKSPACE_COUNTERS: u64 = 64 << 10;

/// Alignment of a workspace, and of each part of it.
pub const WORKSPACE_ALIGNMENT: u64 = 256;

/// The filters as a kernel on tensor cores reads them: rows of channels, each padded with zeros to
/// whole 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterRows {
    /// Rows: one per filter and tap, or one per filter.
    pub rows: usize,
    /// Elements of a row: the channels of a group, or those of all taps.
    pub columns: usize,
    /// Elements from one row to the next.
    pub pitch: usize,
}

impl FilterRows {
    pub(crate) fn of(problem: &Conv2d, kernel: &Kernel) -> FilterRows {
        FilterRows::new(problem, kernel.tensor_traits().all_taps)
    }

    /// The rows of [`FilterLayout::Packed`].
    pub(crate) fn packed(problem: &Conv2d) -> FilterRows {
        FilterRows::new(problem, false)
    }

    /// A row per filter if `one_row`, else one per filter and tap.
    pub(crate) fn new(problem: &Conv2d, one_row: bool) -> FilterRows {
        let taps = problem.r() * problem.s();
        let (rows, columns) = match one_row {
            true => (problem.k(), problem.gemm_k()),
            false => (problem.k() * taps, problem.group_c()),
        };
        let vector = PACKED_BYTES / problem.dtype().size();
        FilterRows {
            rows,
            columns,
            pitch: columns.next_multiple_of(vector),
        }
    }

    /// Bytes of all rows, padding included.
    pub(crate) fn bytes(&self, problem: &Conv2d) -> u64 {
        self.rows as u64 * self.pitch as u64 * problem.dtype().size() as u64
    }

    /// From one row to the next in the problem's own filters, in elements; `None` if a row is no
    /// run of memory there.
    pub(crate) fn source(&self, problem: &Conv2d) -> Option<usize> {
        let taps = problem.r() * problem.s();
        let (channels, pitch) = (problem.group_c(), problem.filter().pitch());
        let neighbours = match problem.filter_layout() {
            FilterLayout::Kcrs => taps == 1 || channels == 1,
            FilterLayout::Krsc | FilterLayout::Packed => true,
        };
        let a_tap_a_row = self.rows == problem.k() * taps;
        (neighbours && (a_tap_a_row || pitch == channels)).then_some(match a_tap_a_row {
            true => pitch,
            false => self.columns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that are runs of memory in the problem's own filters, and how far apart those begin: of
    /// a tap each, and of all taps.
    #[test]
    fn rows_are_found_where_they_are_runs() {
        for (text, tap, one_row) in [
            ("ic6ih5oc4kh3", None, None),
            ("ic6ih5oc4kh1", Some(6), Some(6)),
            ("g6ic6ih5oc6kh3", Some(1), Some(9)),
            ("ic6ih5oc4kh3+krsc", Some(6), Some(54)),
            // Rows of 6 floats are padded to 8, so that taps do not follow each other.
            ("ic6ih5oc4kh3+packed", Some(8), None),
            ("ic8ih5oc4kh3+packed", Some(8), Some(72)),
        ] {
            let problem: Conv2d = text.parse().expect("a valid problem");
            let [by_tap, all] = [false, true].map(|one_row| FilterRows::new(&problem, one_row));
            assert_eq!(by_tap.source(&problem), tap, "{text}");
            assert_eq!(all.source(&problem), one_row, "{text}");
        }
    }
}
