//! Buffers checked against a plan, one argument struct, and the one unsafe launch.
//!
//! [`Gpu::prepare`](crate::device::Gpu::prepare) gives a [`Prepared`]: `Send + Sync`, shared by
//! threads and launched as often as needed. A launch allocates nothing and looks nothing up. It
//! checks the buffers, fills a struct on the stack and calls the driver.
//!
//! # Buffers
//! Safe launches take cudarc's slices and views, as [`DeviceBuffer`] and [`DeviceBufferMut`]. A
//! buffer holds the *whole* tensor: for a slice of channels that is the wider tensor,
//! [`TensorDesc::len`](crate::problem::TensorDesc::len) elements, exactly. Kernels on CUDA cores
//! take any alignment that the element type allows and read four elements at a time where the
//! addresses permit; those on tensor cores are planned for what the problem promises of its
//! buffers, and a launch holds the buffers to what the plan's kernel needs ([`Error::Misaligned`]).
//!
//! Some plans compute in a [`Workspace`] besides, of
//! [`Plan::workspace_bytes`](crate::plan::Plan::workspace_bytes).
//!
//! Outputs may not overlap inputs, with three exceptions, which only
//! [`launch_raw`](Prepared::launch_raw) can express: the residual may be the output itself (the
//! same channels of the same buffer), so may the input of a ReLU, and any two tensors may be
//! different channels of the same wider tensor.
//!
//! # Streams, events and graphs
//! Work goes to the stream of the call and to no other. A launch waits for the earlier uses of its
//! buffers in whatever streams of the context, and later uses wait for the launch, so slices may be
//! used from several streams, and they, their streams and the [`Gpu`] may be
//! dropped while work is under way. That rests on cudarc's events: each slice has one for its last
//! read and one for its last write, which copies, launches and the freeing of the slice wait for.
//! cudarc works with them while it counts a stream in the context; a [`Gpu`]
//! makes it count one for good. This takes three or four calls of the driver per buffer and launch.
//! If that is too much, turn event tracking off (`unsafe { context.disable_event_tracking() }`),
//! which is a promise to order all uses yourself, as by one stream.
//!
//! One thing is cudarc's own and stays: its copies *from* a slice (`clone_dtoh`, `memcpy_dtod` and
//! the like) record the slice's read without regard to an earlier one in another stream. If a
//! launch reads a slice in one stream, do not read the same slice by cudarc's copies in another one
//! and then write or drop it, without waiting for the first.
//! [`Gpu::download`](crate::device::Gpu::download) has the regard.
//!
//! A launch can be captured into a graph and replayed. Waiting for events from before the capture
//! is what a capture cannot contain, so turn event tracking off first. Part of that promise is then
//! to keep all uses of the buffers in one stream or order them yourself, and to keep buffers and
//! workspace alive as long as the graph, whose launches nothing records. (Kernels stay loaded as
//! long as the context, which the graph keeps.) A captured launch with tracking on is refused
//! ([`Error::CaptureWithEventTracking`]) and leaves the capture intact.

mod attributes;
mod bottleneck;
mod branches;
pub(crate) mod buffer;
mod conv;
mod pack;
mod pool;
pub(crate) mod prepared;
mod subsample;
mod unary;

use std::fmt;

use cudarc::driver::{CudaStream, sys};

pub use crate::kernels::Unary;
pub use attributes::FunctionAttributes;
pub use bottleneck::{BottleneckBuffers, BottleneckPointers};
pub use branches::{BranchesBuffers, BranchesPointers};
pub use buffer::{Element, Workspace};
pub use conv::{ConvBuffers, ConvPointers};
pub use pack::PreparedPack;
pub use pool::{PoolBuffers, PoolPointers};
pub use prepared::{DeviceBuffer, DeviceBufferMut, Prepared};
pub use subsample::{SubsampleBuffers, SubsamplePointers};
pub use unary::{UnaryBuffers, UnaryPointers};

use crate::device::Gpu;
use crate::error::Error;
use crate::plan::{Operation, Plan};

/// Operations that can be launched, with the types of their operands.
pub trait Launch: Operation {
    /// The operands as cudarc's slices or views.
    type Buffers<'a, T: Element>;
    /// The operands as device addresses.
    type Pointers;
    /// The kernel's arguments without the pointers, and what else its launches need.
    #[doc(hidden)]
    type Arguments: Clone + fmt::Debug + Send + Sync;

    /// Fills in the arguments.
    #[doc(hidden)]
    fn arguments(gpu: &Gpu, plan: &Plan<Self>) -> Result<Self::Arguments, Error>;

    /// Checks the buffers and launches.
    #[doc(hidden)]
    fn launch<T: Element>(
        prepared: &Prepared<Self>,
        stream: &CudaStream,
        buffers: Self::Buffers<'_, T>,
    ) -> Result<(), Error>;

    /// Checks what addresses show and launches.
    ///
    /// # Safety
    /// As [`Prepared::launch_raw`].
    #[doc(hidden)]
    unsafe fn launch_raw(
        prepared: &Prepared<Self>,
        stream: sys::CUstream,
        pointers: Self::Pointers,
    ) -> Result<(), Error>;
}
