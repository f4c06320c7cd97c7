//! The argument struct of the kernel that packs filters: a mirror of
//! `kernels/elementwise/pack_filter_args.cuh`, field by field.

use super::operation::FastDiv;
use super::operation::{Arguments, int};
use super::{Algorithm, DType, FilterRows, Kernel, KernelId, kernels};
use crate::problem::{Conv2d, FilterLayout};

/// The arguments of the kernel that packs filters. The comments of
/// `kernels/elementwise/pack_filter_args.cuh` say what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackArgs {
    pub from: u64,
    pub to: u64,
    pub from_k: i64,
    pub to_k: i64,
    pub from_tap: i32,
    pub from_c: i32,
    pub to_tap: i32,
    pub channels: i32,
    pub taps: i32,
    pub tail: i32,
    pub by_channel_tiles: FastDiv,
    pub by_tap_tiles: FastDiv,
    pub by_taps: FastDiv,
    filters: u32,
}

const _: () = assert!(size_of::<PackArgs>() == 4 * 8 + 6 * 4 + 3 * 12 + 4);

impl PackArgs {
    /// From the problem's filters to `rows`.
    pub(crate) fn new(problem: &Conv2d, rows: &FilterRows) -> PackArgs {
        if let Some(from) = rows.source(problem) {
            // As if one filter had all rows as its taps.
            return PackArgs {
                from_c: 1,
                from_tap: int(from),
                to_tap: int(rows.pitch),
                channels: int(rows.columns),
                taps: int(rows.rows),
                filters: 1,
                ..PackArgs::default()
            };
        }
        let (taps, channels) = (problem.r() * problem.s(), problem.group_c());
        let [from_k, from_tap, from_c] = match problem.filter_layout() {
            FilterLayout::Kcrs => [channels * taps, 1, taps],
            FilterLayout::Krsc | FilterLayout::Packed => {
                let pitch = problem.filter().pitch();
                [taps * pitch, pitch, 1]
            }
        };
        // In rows of all taps' channels each tap's follow the last one's without a gap.
        let (to_k, to_tap) = match rows.rows == problem.k() {
            true => (rows.pitch, channels),
            false => (taps * rows.pitch, rows.pitch),
        };
        PackArgs {
            from_k: from_k as i64,
            from_tap: int(from_tap),
            from_c: int(from_c),
            to_k: to_k as i64,
            to_tap: int(to_tap),
            channels: int(channels),
            taps: int(taps),
            tail: int(to_k - taps * to_tap),
            filters: problem.k() as u32,
            ..PackArgs::default()
        }
    }
}

impl Arguments for PackArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        let channel_tiles = (self.to_tap as u32).div_ceil(kernel.tile_n);
        let tap_tiles = (self.taps as u32).div_ceil(kernel.tile_k);
        self.by_channel_tiles = FastDiv::new(channel_tiles);
        self.by_tap_tiles = FastDiv::new(tap_tiles);
        self.by_taps = FastDiv::new((self.taps as u32).min(kernel.tile_k));
        u64::from(self.filters) * u64::from(tap_tiles) * u64::from(channel_tiles)
    }
}

/// The kernel that packs filters of this type.
pub(crate) fn kernel(dtype: DType) -> Option<KernelId> {
    let packs = |kernel: &Kernel| {
        kernel.algorithm == Algorithm::PackFilter && kernel.dtype.size() == dtype.size()
    };
    kernels().iter().position(packs).map(KernelId)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computation of the kernel, element by element, on the host.
    fn packed(arguments: &PackArgs, from: &[u32], len: usize) -> Vec<Option<u32>> {
        let a = arguments;
        let mut to = vec![None; len];
        let mut put = |at: i64, value| {
            let place: &mut Option<u32> = &mut to[at as usize];
            assert_eq!(place.replace(value), None, "written twice");
        };
        for k in 0..i64::from(a.filters) {
            for tap in 0..i64::from(a.taps) {
                for c in 0..i64::from(a.to_tap) {
                    let at = k * a.from_k + tap * i64::from(a.from_tap) + c * i64::from(a.from_c);
                    let value = if c < i64::from(a.channels) {
                        from[at as usize]
                    } else {
                        0
                    };
                    put(k * a.to_k + tap * i64::from(a.to_tap) + c, value);
                }
            }
            for rest in 0..i64::from(a.tail) {
                put(
                    k * a.to_k + i64::from(a.taps) * i64::from(a.to_tap) + rest,
                    0,
                );
            }
        }
        to
    }

    #[test]
    fn every_layout_is_packed_for_every_kind_of_kernel() {
        for line in [
            "ic5ih9oc7kh3",
            "g2ic16ih9oc6kh2",
            "ic3ih5oc4kh1",
            "g3ic3ih9oc6kh3",
            "ic8ih3oc2kh1",
        ] {
            for (dtype, layout) in DType::ALL
                .into_iter()
                .flat_map(|d| FilterLayout::ALL.map(|l| (d, l)))
            {
                let conv: Conv2d = line.parse().unwrap();
                let conv = conv
                    .to_builder()
                    .dtype(dtype)
                    .filter_layout(layout)
                    .build()
                    .unwrap();
                for one_row in [false, true] {
                    let rows = FilterRows::new(&conv, one_row);
                    let mut from = vec![u32::MAX; conv.filter().len()];
                    let mut want = vec![Some(0); rows.rows * rows.pitch];
                    let (taps, channels) = (conv.r() * conv.s(), conv.group_c());
                    for k in 0..conv.k() {
                        for (tap, c) in
                            (0..taps).flat_map(|tap| (0..channels).map(move |c| (tap, c)))
                        {
                            let value = (1 + (k * taps + tap) * channels + c) as u32;
                            from[conv.filter().index(k, c, tap / conv.s(), tap % conv.s())] = value;
                            let at = match one_row {
                                true => k * rows.pitch + tap * channels + c,
                                false => (k * taps + tap) * rows.pitch + c,
                            };
                            want[at] = Some(value);
                        }
                    }
                    let arguments = PackArgs::new(&conv, &rows);
                    assert_eq!(
                        packed(&arguments, &from, want.len()),
                        want,
                        "{conv} one_row {one_row}"
                    );
                }
            }
        }
    }
}
