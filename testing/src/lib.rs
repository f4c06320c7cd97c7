//! The f64 reference of [`warpconv`], and the harness that tests, benchmarks and `warpconv verify`
//! share: run a plan on a device between guard bytes and compare the result.
//!
//! Inputs and outputs are dense tensors, in f64 and in logical order (activations NCHW, filters
//! KCRS), as for [`mod@reference`]; layouts, slices and storage types are the plan's. [`run_conv`],
//! [`run_pool`] and [`run_unary`] poison the output before the launch. Afterwards they check that
//! every element was written, and nothing else. [`compare`] checks the result against a
//! [`Tolerance`]. [`run_graph`] does the same for a prepared graph, after each of its launches.
//! [`GraphOnDevice`] keeps a graph on the device, without guards, compares it and times it.
//!
//! ```no_run
//! use warpconv::device::{DeviceChoice, Gpu};
//! use warpconv::plan::Plan;
//! use warpconv::problem::Conv2d;
//! use warpconv_testing::{self as check, Tolerance, reference};
//!
//! let gpu = Gpu::open(&DeviceChoice::Auto)?;
//! let conv: Conv2d = "mb2ic64ih28oc32kh3ph1+relu".parse()?;
//! let plan = Plan::new(&conv, gpu.capability())?;
//! let x = check::integers(conv.input().elements(), 4, 1);
//! let w = check::integers(conv.filter().elements(), 4, 2);
//! let y = check::run_conv(&gpu, &plan, &x, &w, None, None)?;
//! let want = reference::conv2d(&conv, &x, &w, None, None)?;
//! let output = conv.output();
//! check::compare(&y, &want, check::extents(output), output.dtype(), Tolerance::Exact)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(missing_docs)]

mod bottleneck;
pub mod case_files;
mod check_result;
mod compare;
mod convert;
mod fill;
mod graph_on_device;
mod guard;
mod norm_error;
mod pack;
pub mod paths;
pub mod reference;
mod run;
mod run_graph;
pub mod smoke;
mod step;
mod time;

pub use bottleneck::{ExpectedBottleneck, run_bottleneck, run_bottleneck_with_guards};
pub use check_result::CheckResult;
pub use compare::{Mismatch, Stats, Tolerance, compare, compare_indices};
pub use convert::{Stored, round, round_to_tf32};
pub use fill::{Random, integers, reals, sprinkle_special};
pub use graph_on_device::{GraphOnDevice, Operands};
pub use guard::Guards;
pub use norm_error::{NormError, network_tolerance};
pub use pack::{disturbed_gap, pack, pack_filter, unpack};
pub use run::{
    RunError, run_conv, run_conv_with_guards, run_pool, run_pool_with_guards, run_relu,
    run_relu_in_place, run_relu_with_guards, run_subsample, run_unary, run_unary_in_place,
    run_unary_with_guards,
};
pub use run_graph::{run_graph, run_graph_with_guards};
pub use step::compare_step;
pub use time::PassTime;
use warpconv::problem::TensorDesc;

/// A tensor's images, channels, rows and columns, as [`compare`] takes them.
pub fn extents(desc: &TensorDesc) -> [usize; 4] {
    [desc.n(), desc.c(), desc.h(), desc.w()]
}
