//! Packing of filters into the layout that kernels on tensor cores read.

use cudarc::driver::{CudaStream, sys};

use super::buffer::{DeviceBuffer, DeviceBufferMut};
use super::check::{self, Span};
use super::element::Element;
use super::kernel::launch_kernel;
use super::uses;
use crate::device::PreparedPack;
use crate::error::Error;
use crate::kernels::args::Arguments;
use crate::problem::Conv2d;

impl PreparedPack {
    /// The same problem with packed filters.
    pub fn packed(&self) -> &Conv2d {
        &self.packed
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
        check::dtype(self.problem.dtype(), T::DTYPE)?;
        check::stream(context, stream)?;
        check::buffer(context, "w", w, self.problem.filter().len())?;
        check::buffer(context, "packed", packed, self.packed.filter().len())?;
        let (w, _w) = uses::read(w, stream);
        let (packed, _packed) = uses::write(packed, stream);
        check::ordering(context)?;
        // SAFETY: both pointers are buffers of this context, as long as the problems say, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives (`uses`
        // says why). The stream is of this context.
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
        // SAFETY: the caller's promise is this function's own, and these are the arguments of the
        // packing kernel.
        unsafe { launch_kernel(&self.kernel, stream, grid, arguments) }
    }
}
