//! Bringing filters into the order that the kernels on tensor cores read.

use std::sync::Arc;

use cudarc::driver::{CudaStream, sys};

use super::args::FastDiv;
use super::buffer::{DeviceBuffer, DeviceBufferMut};
use super::check::{self, Span};
use super::element::Element;
use super::fill::{Arguments, int};
use super::prepared::launch_kernel;
use super::uses;
use crate::catalog::{Algorithm, DType, Kernel, KernelId, kernels};
use crate::error::Error;
use crate::gpu::{Gpu, LoadedKernel};
use crate::plan::FilterRows;
use crate::problem::{Conv2d, FilterLayout};

/// The arguments of the kernel that packs filters. The comments of `kernels/pack_args.cuh` say what
/// each field holds.
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
                let pitch = problem.filter_pitch();
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
pub(super) fn kernel(dtype: DType) -> Option<KernelId> {
    let packs = |kernel: &Kernel| {
        kernel.algorithm == Algorithm::PackFilter && kernel.dtype.size() == dtype.size()
    };
    kernels().iter().position(packs).map(KernelId)
}

/// The packing of a convolution's filters, ready to launch; made by [`Gpu::prepare_pack_filter`].
#[derive(Clone, Debug)]
pub struct PreparedPack {
    kernel: Arc<LoadedKernel>,
    arguments: PackArgs,
    problem: Conv2d,
    packed: Conv2d,
}

impl Gpu {
    /// Loads the kernel that brings a convolution's filters into [`FilterLayout::Packed`], if this
    /// is its first use.
    ///
    /// Plans with kernels on tensor cores read such filters as they are; from others their launch
    /// makes them, every time. So whoever convolves with the same filters again and again packs
    /// them once, and plans [`PreparedPack::packed`].
    ///
    /// # Errors
    /// As [`Gpu::prepare_conv`], and [`Error::TooLarge`] if the packed filters are more elements
    /// than a problem may have.
    pub fn prepare_pack_filter(&self, problem: &Conv2d) -> Result<PreparedPack, Error> {
        let packed = problem.with_filter_layout(FilterLayout::Packed)?;
        let id = kernel(problem.dtype()).ok_or(Error::UnknownKernel {
            index: kernels().len(),
            kernels: kernels().len(),
        })?;
        Ok(PreparedPack {
            kernel: self.load(id)?,
            arguments: PackArgs::new(problem, &FilterRows::packed(problem)),
            problem: problem.clone(),
            packed,
        })
    }
}

impl PreparedPack {
    /// The problem whose filters are packed.
    pub fn problem(&self) -> &Conv2d {
        &self.problem
    }

    /// The same problem with packed filters.
    pub fn packed(&self) -> &Conv2d {
        &self.packed
    }

    /// Packs the filters `w` in the stream: [`Conv2d::filter_len`] elements of
    /// [`PreparedPack::problem`] become as many as [`PreparedPack::packed`] has. Returns when the
    /// work is queued, not when it is done.
    ///
    /// # Errors
    /// As [`PreparedConv::launch`](super::PreparedConv::launch).
    pub fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        w: &dyn DeviceBuffer<T>,
        packed: &mut dyn DeviceBufferMut<T>,
    ) -> Result<(), Error> {
        let context = self.kernel.context();
        check::dtype(self.problem.dtype(), T::DTYPE)?;
        check::stream(context, stream)?;
        check::buffer(context, "w", w, self.problem.filter_len())?;
        check::buffer(context, "packed", packed, self.packed.filter_len())?;
        let (w, _w) = uses::read(w, stream);
        let (packed, _packed) = uses::write(packed, stream);
        check::ordering(context)?;
        // SAFETY: both pointers are buffers of this context, as long as the problems say, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives (`uses`
        // says why). The stream is of this context.
        unsafe { self.launch_raw(stream.cu_stream(), w, packed) }
    }

    /// Packs the filters in a stream of anyone's, on memory of anyone's.
    ///
    /// # Safety
    /// As [`PreparedConv::launch_raw`](super::PreparedConv::launch_raw), of the filters and of the
    /// packed ones, which are written.
    ///
    /// # Errors
    /// As [`PreparedConv::launch_raw`](super::PreparedConv::launch_raw).
    pub unsafe fn launch_raw(
        &self,
        stream: sys::CUstream,
        w: sys::CUdeviceptr,
        packed: sys::CUdeviceptr,
    ) -> Result<(), Error> {
        let element = self.problem.dtype().size();
        let from = Span::new("w", w, self.problem.filter_len(), element);
        let to = Span::new("packed", packed, self.packed.filter_len(), element);
        from.check(element as u64)?;
        to.check(element as u64)?;
        to.apart_from(&from)?;
        let mut arguments = self.arguments;
        (arguments.from, arguments.to) = (w, packed);
        let grid = arguments.set_grid(self.kernel.kernel());
        // SAFETY: the caller's promise is this function's own, and these are the arguments of the
        // packing kernel.
        unsafe { launch_kernel(&self.kernel, stream, grid, arguments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does, element by element, on the host.
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
                    let mut from = vec![u32::MAX; conv.filter_len()];
                    let mut want = vec![Some(0); rows.rows * rows.pitch];
                    let (taps, channels) = (conv.r() * conv.s(), conv.group_c());
                    for k in 0..conv.k() {
                        for (tap, c) in
                            (0..taps).flat_map(|tap| (0..channels).map(move |c| (tap, c)))
                        {
                            let value = (1 + (k * taps + tap) * channels + c) as u32;
                            from[conv.filter_index(k, c, tap / conv.s(), tap % conv.s())] = value;
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
