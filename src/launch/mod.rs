//! Buffers checked against a plan, one argument struct, and the one unsafe launch.
//!
//! [`Gpu::prepare_conv`](crate::gpu::Gpu::prepare_conv) and its siblings give a [`PreparedConv`], [`PreparedPool`] or
//! [`PreparedRelu`]: `Send + Sync`, to be shared by threads and launched as often as wanted. A launch allocates nothing
//! and looks nothing up; it checks the buffers, fills a struct on the stack and calls the driver.
//!
//! # Buffers
//! Safe launches take cudarc's slices and views, as [`DeviceBuffer`] and [`DeviceBufferMut`]. A buffer holds the *whole*
//! tensor: for a slice of channels that is the wider tensor, [`TensorDesc::len`](crate::problem::TensorDesc::len)
//! elements, exactly. Kernels on CUDA cores take any alignment that the element type allows and read four elements at a time
//! where the addresses permit; those on tensor cores are planned for what the problem promises of its buffers, and a launch
//! holds the buffers to what the plan's kernel needs ([`Error::Misaligned`]).
//!
//! Some plans compute in a [`Workspace`] besides, of [`ConvPlan::workspace_bytes`](crate::plan::Plan::workspace_bytes).
//!
//! What is written may not overlap what is read, with three exceptions, which only [`launch_raw`](PreparedConv::launch_raw)
//! can express: the residual may be the output itself (the same channels of the same buffer), so may the input of a
//! ReLU, and any two tensors may be different channels of the same wider tensor.
//!
//! # Streams, events and graphs
//! Work goes to the stream of the call and to no other. cudarc makes a stream wait for the events of its slices once a
//! context has a stream of its own (`CudaContext::new_stream`); launches here take part in that, so slices may be
//! used from several streams and dropped while work is under way.
//!
//! A launch can be captured into a graph and replayed. Waiting for events from before the capture is what a capture
//! cannot contain, so turn event tracking off first (`unsafe { context.disable_event_tracking() }`), keep all uses of
//! the buffers in one stream or order them yourself, and keep buffers, workspace and prepared plan alive as long as the graph. A
//! captured launch with tracking on is refused ([`Error::CaptureWithEventTracking`]) and leaves the capture intact.

pub mod args;
pub mod bottleneck;
pub mod branches;
mod buffer;
pub mod channel_args;
mod check;
mod conv;
mod element;
mod fill;
mod map;
mod pack;
mod pool;
mod prepared;
pub mod squash_args;
mod subsample;
pub mod tensor;
mod wgmma;
mod work;
mod workspace;

pub use bottleneck::{BottleneckBuffers, BottleneckPointers, PreparedBottleneck};
pub use branches::{BranchesBuffers, BranchesPointers, PreparedBranches};
pub use buffer::{DeviceBuffer, DeviceBufferMut};
pub use conv::{ConvBuffers, ConvPointers, PreparedConv};
pub use element::Element;
pub(crate) use fill::Arguments;
pub use map::{
    Map, MapBuffers, MapPointers, PreparedLrn, PreparedMap, PreparedRelu, PreparedSoftmax,
    PreparedTanh, ReluBuffers, ReluPointers,
};
pub use pack::PreparedPack;
pub use pool::{PoolBuffers, PoolPointers, PreparedPool};
pub use prepared::{FunctionAttributes, Prepared};
pub use subsample::{PreparedSubsample, SubsampleBuffers, SubsamplePointers};
pub use work::ConvWork;
pub use workspace::Workspace;

#[cfg(doc)]
use crate::error::Error;
