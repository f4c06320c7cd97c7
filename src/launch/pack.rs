//! Packing of filters into the layout that kernels on tensor cores read.

use std::sync::Arc;

use cudarc::driver::{CudaStream, sys};

use super::buffer::Element;
use super::prepared::{self, DeviceBuffer, DeviceBufferMut, Span, check_buffer, check_dtype};
#[cfg(feature = "nvtx")]
use crate::device::Label;
use crate::device::{Gpu, LoadedKernel, check_ordering, check_stream};
use crate::error::Error;
use crate::kernels::operation::Arguments;
use crate::kernels::pack_args::{self, PackArgs};
use crate::kernels::{FilterRows, KernelId, kernels};
use crate::problem::{Conv2d, FilterLayout};

/// The packing of a convolution's filters, ready to launch; made by [`Gpu::prepare_pack_filter`].
#[derive(Clone, Debug)]
pub struct PreparedPack {
    kernel: Arc<LoadedKernel>,
    arguments: PackArgs,
    problem: Conv2d,
    packed: Conv2d,
    /// Name of its launches in a profiler.
    #[cfg(feature = "nvtx")]
    label: Label,
}

impl Gpu {
    /// Loads the kernel that packs a convolution's filters ([`FilterLayout::Packed`]), if this is
    /// its first use.
    ///
    /// Kernels on tensor cores read packed filters. Their launches pack filters of another layout
    /// every time. A caller that reuses filters packs them once, and plans
    /// [`PreparedPack::packed`].
    ///
    /// # Errors
    /// As [`Gpu::prepare`], and [`Error::TooLarge`] if the packed filters are more elements
    /// than a problem may have.
    pub fn prepare_pack_filter(&self, problem: &Conv2d) -> Result<PreparedPack, Error> {
        let packed = problem
            .to_builder()
            .filter_layout(FilterLayout::Packed)
            .build()?;
        let kernel = self.load(pack_kernel(problem)?)?;
        Ok(PreparedPack {
            #[cfg(feature = "nvtx")]
            label: Label::new(|| format!("{}: {problem}", kernel.kernel().name())),
            kernel,
            arguments: PackArgs::new(problem, &FilterRows::packed(problem)),
            problem: problem.clone(),
            packed,
        })
    }
}

/// The kernel that packs the filters of a convolution.
pub(super) fn pack_kernel(problem: &Conv2d) -> Result<KernelId, Error> {
    pack_args::kernel(problem.dtype()).ok_or(Error::UnknownKernel {
        index: kernels().len(),
        kernels: kernels().len(),
    })
}

impl PreparedPack {
    /// The same problem with packed filters.
    pub fn packed(&self) -> &Conv2d {
        &self.packed
    }

    /// The kernel, loaded.
    pub(super) fn loaded_kernel(&self) -> &LoadedKernel {
        &self.kernel
    }

    /// Packs the filters `w`, those of the problem, in the stream; `packed` is as long as the
    /// filters of [`PreparedPack::packed`]. Returns when the work is queued, not when it is done.
    ///
    /// # Errors
    /// As [`Prepared::launch`](super::Prepared::launch).
    pub fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        w: &dyn DeviceBuffer<T>,
        packed: &mut dyn DeviceBufferMut<T>,
    ) -> Result<(), Error> {
        let context = self.kernel.context();
        check_dtype(self.problem.dtype(), T::DTYPE)?;
        check_stream(context, stream)?;
        check_buffer(context, "w", w, self.problem.filter().len())?;
        check_buffer(context, "packed", packed, self.packed.filter().len())?;
        let (w, _w) = prepared::read(w, stream);
        let (packed, _packed) = prepared::write(packed, stream);
        check_ordering(context)?;
        // SAFETY: both pointers are buffers of this context, as long as the problems say, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives
        // (see `prepared::Use`). The stream is of this context.
        unsafe { self.launch_raw(stream.cu_stream(), w, packed) }
    }

    /// Packs the filters in a raw stream, on raw device pointers.
    ///
    /// # Safety
    /// As [`Prepared::launch_raw`](super::Prepared::launch_raw), of the filters and of the
    /// packed ones, which are written.
    ///
    /// # Errors
    /// As [`Prepared::launch_raw`](super::Prepared::launch_raw).
    pub unsafe fn launch_raw(
        &self,
        stream: sys::CUstream,
        w: sys::CUdeviceptr,
        packed: sys::CUdeviceptr,
    ) -> Result<(), Error> {
        let element = self.problem.dtype().size();
        let from = Span::new("w", w, self.problem.filter().len(), element);
        let to = Span::new("packed", packed, self.packed.filter().len(), element);
        from.check(element as u64)?;
        to.check(element as u64)?;
        to.apart_from(&from)?;
        let mut arguments = self.arguments;
        (arguments.from, arguments.to) = (w, packed);
        let grid = arguments.set_grid(self.kernel.kernel());
        #[cfg(feature = "nvtx")]
        let _range = self.label.range();
        // SAFETY: the caller's promise is this function's own, and these are the arguments of the
        // packing kernel.
        unsafe { self.kernel.launch(stream, grid, arguments) }
    }
}
