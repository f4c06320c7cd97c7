//! A convolution for the kernels on tensor cores, with its operands on the device.

use super::gpu;
use cudarc::driver::CudaSlice;
use half::f16;
use warpconv::kernels::Algorithm;
use warpconv::launch::{ConvBuffers, Prepared, Workspace};
use warpconv::plan::{Limits, Plan};
use warpconv::problem::{Conv2d, FilterLayout};
use warpconv_testing as check;
use warpconv_testing::reference;

/// A convolution that kernels on tensor cores take on every tier, with sums of nine steps or more
/// and filters that have to be packed.
pub const LINE: &str = "mb2ic64ih7oc40kh3ph1+f16+nhwc+bias+relu";

/// A convolution on the device with its operands and the result.
pub struct Job {
    pub conv: Conv2d,
    pub x: CudaSlice<f16>,
    pub w: CudaSlice<f16>,
    pub bias: CudaSlice<f16>,
    pub want: Vec<f16>,
}

impl Job {
    pub fn new(conv: Conv2d) -> Job {
        let gpu = gpu();
        let dense = |len, seed| check::integers(len, 3, seed);
        let x = dense(conv.input().elements(), 1);
        let w = dense(conv.filter().elements(), 2);
        let bias = dense(conv.output().c(), 3);
        let want = reference::conv2d(&conv, &x, &w, Some(&bias), None).unwrap();
        let upload = |values: Vec<f16>| gpu.upload(&values).unwrap();
        Job {
            x: upload(check::pack(conv.input(), &x, f16::NAN).unwrap()),
            w: upload(check::pack_filter(&conv, &w).unwrap()),
            bias: upload(bias.iter().map(|&value| f16::from_f64(value)).collect()),
            want: check::pack(conv.output(), &want, f16::NAN).unwrap(),
            conv,
        }
    }

    pub fn y(&self) -> CudaSlice<f16> {
        gpu().upload(&vec![f16::NAN; self.want.len()]).unwrap()
    }

    pub fn buffers<'a>(&'a self, y: &'a mut CudaSlice<f16>) -> ConvBuffers<'a, f16> {
        ConvBuffers::new(&self.x, &self.w, y).bias(&self.bias)
    }

    /// Launches and compares.
    pub fn run(&self, prepared: &Prepared<Conv2d>, workspace: &mut Workspace) {
        let mut y = self.y();
        let buffers = self.buffers(&mut y).workspace(workspace);
        prepared.launch(gpu().stream(), buffers).unwrap();
        assert_eq!(gpu().download(&y).unwrap(), self.want, "{}", self.conv);
    }
}

pub fn job() -> Job {
    Job::new(LINE.parse().unwrap())
}

pub fn packed_job() -> Job {
    let conv: Conv2d = LINE.parse().unwrap();
    Job::new(
        conv.to_builder()
            .filter_layout(FilterLayout::Packed)
            .build()
            .unwrap(),
    )
}

/// A plan of the first kernel of `mma.sync` that takes the problem in so many splits.
pub fn plan(conv: &Conv2d, split_k: u32) -> Plan<Conv2d> {
    let capability = gpu().capability();
    let limits = |kernel| Limits {
        kernel: Some(kernel),
        split_k: Some(split_k),
        ..Limits::default()
    };
    let candidates = Plan::candidates(conv, capability).into_iter();
    candidates
        .filter(|c| c.id.kernel().algorithm == Algorithm::Mma)
        .find_map(|c| Plan::within(conv, capability, &limits(c.id)).ok())
        .expect("a kernel on tensor cores takes the problem")
}
