//! A workspace that the device has no memory for: `ops` plan again within what is left, and say
//! both sizes if nothing does. Results are compared with the f64 reference, exactly: all operands
//! are small integers.

use crate::common::process::own_process;
use crate::common::{gpu, integers};
use half::f16;
use warpconv::Error;
use warpconv::graph::{Graph, Node, Step, TensorId};
use warpconv::ops;
use warpconv::plan::{Limits, Plan, Tuning};
use warpconv::problem::Conv2d;
use warpconv_testing::GraphOnDevice;
use warpconv_testing::reference;

/// Of the free memory, leaves so many bytes (the allocator's granularity aside).
fn fill_but(bytes: u64) -> cudarc::driver::CudaSlice<u8> {
    let len = (free() - bytes) as usize;
    // SAFETY: nothing reads it.
    unsafe { gpu().stream().alloc(len) }.unwrap()
}

/// Free memory once the stream has come to all that it is to free.
fn free() -> u64 {
    gpu().stream().synchronize().unwrap();
    gpu().stream().context().mem_get_info().unwrap().0 as u64
}

/// One test, since it takes all of the device's memory.
#[test]
fn plans_are_made_within_what_is_left() {
    own_process(|| {
        let (gpu, capability) = (gpu(), gpu().capability());
        let conv: Conv2d = "mb1ic512ih4oc256kh3ph1+f16+nhwc".parse().unwrap();
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let xs = integers(conv.input().len(), 1);
        let ws = integers(conv.filter().len(), 2);
        let want =
            reference::conv2d(&conv, &nchw(&conv, &wide(&xs)), &wide(&ws), None, None).unwrap();
        let half = |values: &[f32]| {
            values
                .iter()
                .map(|&v| f16::from_f32(v))
                .collect::<Vec<f16>>()
        };
        let x = gpu.upload(&half(&xs)).unwrap();
        let w = gpu.upload(&half(&ws)).unwrap();
        let compare = |y: &cudarc::driver::CudaSlice<f16>, how: &str| {
            let got: Vec<f64> = gpu
                .download(y)
                .unwrap()
                .iter()
                .map(|v| v.to_f64())
                .collect();
            let rounded: Vec<f64> = want.iter().map(|&v| f16::from_f64(v).to_f64()).collect();
            assert_eq!(nchw_output(&conv, &got), rounded, "{how}");
        };
        let plan = Plan::new(&conv, capability).unwrap();
        let needs = plan.workspace_bytes();
        assert!(
            needs > 1 << 20,
            "the plan that is ranked first takes a workspace: {needs}"
        );
        compare(
            &ops::conv2d(gpu, &conv, &x, &w).run().unwrap(),
            "with room for all",
        );
        // Kernels are loaded and outputs allocated first; what remains is less than the workspace.
        let mut y = gpu.upload(&vec![f16::ZERO; conv.output().len()]).unwrap();
        for left in [needs - 1, needs / 2, 64 << 10] {
            let filler = fill_but(left);
            assert!(free() < needs);
            ops::conv2d(gpu, &conv, &x, &w).run_into(&mut y).unwrap();
            compare(&y, &format!("with {left} bytes left"));
            // A kernel that was asked for, and takes no less: both sizes are said.
            let only = Limits {
                kernel: Some(plan.kernel_id()),
                split_k: Some(plan.score().split_k),
                ..Limits::default()
            };
            let refused = ops::conv2d(gpu, &conv, &x, &w)
                .limits(only)
                .run_into(&mut y)
                .unwrap_err();
            let Error::NoWorkspace {
                needs: said,
                free: has,
            } = refused
            else {
                panic!("{refused}");
            };
            assert_eq!((said, has), (needs, free()), "{refused}");
            assert!(
                refused.to_string().contains(&needs.to_string()),
                "{refused}"
            );
            drop(filler);
        }
        let frugal = Limits {
            workspace: 0,
            ..Limits::default()
        };
        ops::conv2d(gpu, &conv, &x, &w)
            .limits(frugal)
            .run_into(&mut y)
            .unwrap();
        compare(&y, "within no workspace");
        modules(&conv, needs);
    });
}

/// A module's launches share a workspace, and are planned again as well.
fn modules(conv: &Conv2d, needs: u64) {
    let gpu = gpu();
    let node = Node::new(
        "conv",
        Step::Conv(conv.clone()),
        TensorId::Input,
        TensorId::Output,
    );
    let module = Graph::new(vec![node], conv.input().dtype()).unwrap();
    let tuning = Tuning::new(gpu.card());
    let prepare =
        |limits: &Limits| module.prepare_with_workspace(gpu, gpu.stream(), &tuning, limits);
    let (first, workspace) = prepare(&Limits::default()).unwrap();
    assert_eq!(first.workspace_bytes(), needs);
    drop(workspace);
    let filler = fill_but(needs / 2);
    let (second, workspace) = prepare(&Limits::default()).unwrap();
    assert!(second.workspace_bytes() <= needs / 2);
    assert_eq!(
        workspace.map_or(0, |workspace| workspace.bytes()),
        second.workspace_bytes()
    );
    drop(filler);
    let zeros = vec![0.0; conv.input().len()];
    let weights = vec![warpconv_testing::Operands {
        w: vec![0.0; conv.filter().elements()],
        bias: None,
    }];
    GraphOnDevice::<f16>::with(gpu, gpu.stream(), &module, &tuning, &zeros, weights).unwrap();
}

/// NHWC numbers in the reference's order.
fn nchw(conv: &Conv2d, x: &[f64]) -> Vec<f64> {
    reorder(
        x,
        conv.input().n(),
        conv.input().c(),
        conv.input().h() * conv.input().w(),
    )
}

fn nchw_output(conv: &Conv2d, y: &[f64]) -> Vec<f64> {
    reorder(
        y,
        conv.input().n(),
        conv.output().c(),
        conv.output().h() * conv.output().w(),
    )
}

fn reorder(values: &[f64], n: usize, c: usize, pixels: usize) -> Vec<f64> {
    let at =
        |image: usize, channel: usize, pixel: usize| values[(image * pixels + pixel) * c + channel];
    (0..n)
        .flat_map(|image| {
            (0..c).flat_map(move |channel| (0..pixels).map(move |pixel| at(image, channel, pixel)))
        })
        .collect()
}
