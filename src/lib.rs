//! Hand-written CUDA kernels for convolution, pooling and the layers around them, with safe
//! launchers over [cudarc](cudarc::driver).
//!
//! # One call
//!
//! ```no_run
//! use warpconv::device::{DeviceChoice, Gpu};
//! use warpconv::ops;
//! use warpconv::problem::Conv2d;
//!
//! let gpu = Gpu::open(&DeviceChoice::Auto)?; // an NVIDIA GPU if there is one, else the emulator
//! let conv: Conv2d = "mb1ic63ih14oc8kh3ph1".parse()?; // benchdnn's notation
//! let x = gpu.upload(&vec![1.0f32; conv.input().len()])?;
//! let w = gpu.upload(&vec![0.5f32; conv.filter().len()])?;
//! let y = gpu.download(&ops::conv2d(&gpu, &conv, &x, &w).run()?)?;
//! # Ok::<(), warpconv::Error>(())
//! ```
//!
//! # One plan, many launches
//!
//! ```no_run
//! use warpconv::device::{DeviceChoice, Gpu};
//! use warpconv::launch::ConvBuffers;
//! use warpconv::plan::Plan;
//! use warpconv::problem::{Conv2d, Padding};
//!
//! let conv = Conv2d::builder()
//!     .input(8, 63, 56, 56)
//!     .filters(63)
//!     .kernel(3, 3)
//!     .padding(Padding::same(1))
//!     .build()?;
//! let gpu = Gpu::open(&DeviceChoice::Auto)?;
//! let plan = gpu.prepare(&Plan::new(&conv, gpu.capability())?)?; // `Send + Sync`
//! let x = gpu.upload(&vec![1.0f32; conv.input().len()])?;
//! let w = gpu.upload(&vec![0.1f32; conv.filter().len()])?;
//! let mut y = gpu.upload(&vec![0.0f32; conv.output().len()])?;
//! plan.launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y))?; // no allocation, no lookup
//! # Ok::<(), warpconv::Error>(())
//! ```
//!
//! The folder `examples` has six programs to copy: host data, plan reuse, a program's own stream
//! and context, a captured graph, a fused bottleneck, and counters on the emulator.
//!
//! # Modules
//!
//! Data flows in one direction, and no module imports one below it in this table.
//!
//! | module | content |
//! |---|---|
//! | [`problem`] | validated descriptions of what to compute, and their notation |
//! | [`kernels`] | the compiled kernels with tiles and constraints; [`ptx`] has their code |
//! | [`plan`] | problem and capability become a kernel and a grid; refusals are typed |
//! | [`device`] | NVIDIA's driver or the emulator, and the modules loaded into a context |
//! | [`launch`] | buffers checked against a plan, and the launch |
//! | [`graph`] | several operations with a memory plan, launched in order or captured |
//! | [`ops`] | one call per operation; bottleneck and Inception module |
//!
//! [`error`] stands outside of the chain.
//!
//! # Semantics
//!
//! Accumulators are f32 and are rounded once to the stored type ([`DType`]). NaN passes through
//! ReLU and max pooling. Padding is zero in a convolution and in a mean, minus infinity in a
//! maximum. The first maximum wins a tie. PyTorch and ONNX do the same.
//!
//! # Features
//!
//! - `emulator` (default): [`device::Gpu::open`] can load ptx-emulator in place of the driver.
//! - `nvtx`: an NVTX range per launch with kernel and problem, where a profiler listens.
//! - `cuda-11040` (default): the version of the driver API that cudarc binds. Turn it off to select
//!   another one of cudarc's features, or cudarc's detection of the installed toolkit.
#![deny(missing_docs)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod device;
pub mod error;
#[doc(hidden)] // for the workspace's own crates, which read files under the same limits
pub mod files;
pub mod graph;
pub mod kernels;
pub mod launch;
pub mod ops;
pub mod plan;
pub mod problem;
pub mod ptx;

pub use error::Error;
pub use problem::{DType, Layout};
