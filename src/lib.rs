//! Hand-written CUDA kernels for convolution, pooling and ReLU, with safe launchers over
//! [cudarc](cudarc::driver).
//!
//! ```no_run
//! use warpconv::device::{DeviceChoice, Gpu};
//! use warpconv::launch::ConvBuffers;
//! use warpconv::plan::ConvPlan;
//! use warpconv::problem::{Conv2d, Padding};
//!
//! let conv = Conv2d::builder().input(8, 63, 56, 56).filters(63).kernel(3, 3).padding(Padding::same(1)).build()?;
//! let gpu = Gpu::open(&DeviceChoice::Auto)?; // an NVIDIA GPU if there is one, else the emulator
//! let plan = gpu.prepare_conv(&ConvPlan::new(&conv, gpu.capability())?)?; // keep it, share it
//! let x = gpu.upload(&vec![1.0f32; conv.input().len()])?;
//! let w = gpu.upload(&vec![0.1f32; conv.filter_len()])?;
//! let mut y = gpu.upload(&vec![0.0f32; conv.output().len()])?;
//! plan.launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y))?; // as often as wanted, no allocation
//! println!("{:?} from {}", &gpu.download(&y)?[..4], gpu.name());
//! # Ok::<(), warpconv::Error>(())
//! ```
//!
//! # The rooms
//! Data flows one way, problem -> plan -> module -> launch, and no room calls back.
//!
//! | room | what it holds |
//! |---|---|
//! | [`problem`] | what is to be computed: validated on construction, read and printed in benchdnn's notation |
//! | [`plan`] | a problem and a device's capability become a kernel, a tile, a grid; every refusal has its reason |
//! | [`kernels`] | the kernels that were compiled, the one source of their tiles and constraints; [`ptx`] their code |
//! | [`device`] | a device: NVIDIA's driver or the emulator, the modules loaded into it |
//! | [`launch`] | buffers checked against the plan, and the launch |
//! | [`ops`] | one-call wrappers; bottleneck and inception |
//! | [`error`] | everything that can go wrong |
//!
//! # Semantics
//! Sums are in f32, rounded once to the stored type ([`DType`]). NaN passes through ReLU and max
//! pooling; padding is zero for a convolution and for a mean, minus infinity for a maximum; the
//! first maximum wins a tie. These are PyTorch's and ONNX's.
//!
//! # Features
//! `emulator` (on by default): [`device::Gpu::open`] can put ptx-emulator in the driver's place. `cuda-11040` (on by default): the
//! version of the driver API that cudarc binds; turn it off to choose another of cudarc's own, or
//! to let cudarc ask the toolkit at hand.
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
