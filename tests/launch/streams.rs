//! Launching: from threads that share a plan, into streams of the caller's, through the raw door.

use std::thread;

use crate::common::{Case, gpu, integers, small_conv, zeros};
use cudarc::driver::{DevicePtr, DevicePtrMut};
use warpconv::graph::{Graph, GraphBuffers, Weights};
use warpconv::launch::Unary;
use warpconv::launch::{ConvBuffers, ConvPointers, PoolBuffers, UnaryBuffers, UnaryPointers};
use warpconv::ops::{self, Bottleneck, Inception};
use warpconv::plan::{Operation, Plan};
use warpconv::problem::{Conv2d, Pool2d, PoolKind, Relu, TensorDesc};
use warpconv::{DType, Layout};

#[test]
fn the_first_convolution() {
    let case = Case::new(small_conv(), 1);
    let gpu = gpu();
    let plan = gpu
        .prepare(&Plan::new(&case.problem, gpu.capability()).unwrap())
        .unwrap();
    let (x, w) = (gpu.upload(&case.x).unwrap(), gpu.upload(&case.w).unwrap());
    let bias = gpu.upload(&case.bias).unwrap();
    let mut y = zeros::<f32>(case.y.len());
    plan.launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y).bias(&bias))
        .unwrap();
    assert_eq!(gpu.download(&y).unwrap(), case.y);
    let attributes = plan.attributes().unwrap();
    assert!(attributes.registers > 0 && attributes.registers <= 255);
    assert_eq!(attributes.shared_bytes, plan.plan().shared_bytes());
}

#[test]
fn threads_share_a_plan_each_with_a_stream_of_its_own() {
    let gpu = gpu();
    let problem = small_conv();
    let plan = &gpu
        .prepare(&Plan::new(&problem, gpu.capability()).unwrap())
        .unwrap();
    thread::scope(|scope| {
        for seed in 0..4 {
            let problem = problem.clone();
            scope.spawn(move || {
                let stream = gpu.context().new_stream().unwrap();
                let case = Case::new(problem, 10 * seed);
                let (x, w) = (
                    stream.clone_htod(&case.x).unwrap(),
                    stream.clone_htod(&case.w).unwrap(),
                );
                let bias = stream.clone_htod(&case.bias).unwrap();
                for _ in 0..3 {
                    let mut y = stream.alloc_zeros::<f32>(case.y.len()).unwrap();
                    plan.launch(&stream, ConvBuffers::new(&x, &w, &mut y).bias(&bias))
                        .unwrap();
                    assert_eq!(stream.clone_dtoh(&y).unwrap(), case.y);
                }
            });
        }
    });
}

#[test]
fn work_in_one_stream_waits_for_its_operands_from_another() {
    let gpu = gpu();
    let case = Case::new(small_conv(), 5);
    let plan = gpu
        .prepare(&Plan::new(&case.problem, gpu.capability()).unwrap())
        .unwrap();
    let (upload, compute) = (
        gpu.context().new_stream().unwrap(),
        gpu.context().new_stream().unwrap(),
    );
    let (x, w) = (
        upload.clone_htod(&case.x).unwrap(),
        upload.clone_htod(&case.w).unwrap(),
    );
    let bias = upload.clone_htod(&case.bias).unwrap();
    let mut y = upload.alloc_zeros::<f32>(case.y.len()).unwrap();
    plan.launch(&compute, ConvBuffers::new(&x, &w, &mut y).bias(&bias))
        .unwrap();
    // Dropped while the work may be under way: freed in stream order, behind it.
    drop((x, w, bias));
    assert_eq!(upload.clone_dtoh(&y).unwrap(), case.y);
}

#[test]
fn the_raw_door_takes_pointers_and_a_foreign_stream() {
    let gpu = gpu();
    let case = Case::new(small_conv(), 7);
    let plan = gpu
        .prepare(&Plan::new(&case.problem, gpu.capability()).unwrap())
        .unwrap();
    let stream = gpu.context().new_stream().unwrap();
    let (x, w) = (
        stream.clone_htod(&case.x).unwrap(),
        stream.clone_htod(&case.w).unwrap(),
    );
    let bias = stream.clone_htod(&case.bias).unwrap();
    let mut y = stream.alloc_zeros::<f32>(case.y.len()).unwrap();
    {
        let (x, _x) = x.device_ptr(&stream);
        let (w, _w) = w.device_ptr(&stream);
        let (bias, _bias) = bias.device_ptr(&stream);
        let (y, _y) = y.device_ptr_mut(&stream);
        let pointers = ConvPointers {
            x,
            w,
            bias,
            residual: 0,
            y,
            workspace: 0,
        };
        // SAFETY: the pointers are to buffers of the problem's lengths, alive beyond the
        // synchronisation below.
        unsafe { plan.launch_raw(stream.cu_stream(), pointers) }.unwrap();
    }
    stream.synchronize().unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), case.y);
}

/// A thread that has made no call of the driver has no current context; a launch makes its own the
/// current one.
#[test]
fn a_raw_launch_needs_no_current_context() {
    let gpu = gpu();
    let case = Case::new(small_conv(), 8);
    let plan = gpu
        .prepare(&Plan::new(&case.problem, gpu.capability()).unwrap())
        .unwrap();
    let stream = gpu.stream();
    let [x, w, bias] = [&case.x, &case.w, &case.bias].map(|values| gpu.upload(values).unwrap());
    let mut y = zeros::<f32>(case.y.len());
    let pointers = ConvPointers {
        x: x.device_ptr(stream).0,
        w: w.device_ptr(stream).0,
        bias: bias.device_ptr(stream).0,
        residual: 0,
        y: y.device_ptr_mut(stream).0,
        workspace: 0,
    };
    gpu.synchronize().unwrap();
    let (plan, raw) = (&plan, stream.cu_stream() as usize);
    thread::scope(|scope| {
        // SAFETY: the pointers are to buffers of the problem's lengths, alive beyond the download
        // below.
        let launch = move || unsafe { plan.launch_raw(raw as _, pointers) };
        scope.spawn(launch).join().expect("no panic")
    })
    .unwrap();
    assert_eq!(gpu.download(&y).unwrap(), case.y);
}

#[test]
fn the_residual_may_be_the_output_itself() {
    let gpu = gpu();
    let problem = small_conv().to_builder().residual(true).build().unwrap();
    let case = Case::new(small_conv().to_builder().relu(false).build().unwrap(), 9);
    let before = integers(problem.output().len(), 99);
    let expected: Vec<f32> = case
        .y
        .iter()
        .zip(&before)
        .map(|(y, r)| (y + r).max(0.0))
        .collect();
    let plan = gpu
        .prepare(&Plan::new(&problem, gpu.capability()).unwrap())
        .unwrap();
    let stream = gpu.stream();
    let (x, w) = (gpu.upload(&case.x).unwrap(), gpu.upload(&case.w).unwrap());
    let bias = gpu.upload(&case.bias).unwrap();
    let mut y = gpu.upload(&before).unwrap();
    {
        let (x, _x) = x.device_ptr(stream);
        let (w, _w) = w.device_ptr(stream);
        let (bias, _bias) = bias.device_ptr(stream);
        let (y, _y) = y.device_ptr_mut(stream);
        // SAFETY: the pointers are to buffers of the problem's lengths, alive until the download.
        unsafe {
            plan.launch_raw(
                stream.cu_stream(),
                ConvPointers {
                    x,
                    w,
                    bias,
                    residual: y,
                    y,
                    workspace: 0,
                },
            )
        }
        .unwrap();
    }
    assert_eq!(gpu.download(&y).unwrap(), expected);
}

#[test]
fn relu_in_place_and_out_of_place_and_between_slices() {
    let gpu = gpu();
    let x = integers(2 * 6 * 4 * 5, 3);
    let expected: Vec<f32> = x.iter().map(|v| v.max(0.0)).collect();
    let problem = TensorDesc::new([2, 6, 4, 5], Layout::Nchw, DType::F32)
        .and_then(|x| Relu::new(&x, &x))
        .unwrap();
    let device = gpu.upload(&x).unwrap();
    let y = ops::unary(gpu, &problem, &device).unwrap();
    assert_eq!(gpu.download(&y).unwrap(), expected);
    let mut same = gpu.upload(&x).unwrap();
    ops::unary_in_place(gpu, &problem, &mut same).unwrap();
    assert_eq!(gpu.download(&same).unwrap(), expected);

    // Channels 0..3 of a wider tensor into its channels 3..6: nothing in common, though the bytes
    // interleave.
    let slices = TensorDesc::new([2, 3, 4, 5], Layout::Nhwc, DType::F32)
        .and_then(|x| Relu::new(&x, &x))
        .unwrap();
    let [input, output] = [0, 3].map(|offset| slices.input().slice(6, offset).unwrap());
    let slices = Relu::new(&input, &output).unwrap();
    let plan = gpu
        .prepare(&Plan::new(&slices, gpu.capability()).unwrap())
        .unwrap();
    let mut wide = gpu.upload(&x).unwrap();
    {
        let (x, _x) = wide.device_ptr_mut(gpu.stream());
        // SAFETY: the pointer is to a buffer of the problem's length, alive until the download.
        unsafe { plan.launch_raw(gpu.stream().cu_stream(), UnaryPointers { x, y: x }) }.unwrap();
    }
    let halves: Vec<f32> = x
        .chunks(6)
        .flat_map(|p| [p[0], p[1], p[2], p[0], p[1], p[2]])
        .collect();
    let halves: Vec<f32> = halves
        .iter()
        .enumerate()
        .map(|(i, v)| if i % 6 < 3 { *v } else { v.max(0.0) })
        .collect();
    assert_eq!(gpu.download(&wide).unwrap(), halves);
}

#[test]
fn an_empty_batch_is_nothing_to_do() {
    let gpu = gpu();
    let empty = zeros::<f32>(1);
    let mut written = zeros::<f32>(1);
    let problem = small_conv()
        .to_builder()
        .bias(false)
        .build()
        .unwrap()
        .with_batch(0)
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&problem, gpu.capability()).unwrap())
        .unwrap();
    let w = zeros::<f32>(problem.filter().len());
    let buffers = ConvBuffers {
        x: &empty.slice(0..0),
        w: &w,
        bias: None,
        residual: None,
        y: &mut written.slice_mut(0..0),
        workspace: None,
    };
    plan.launch(gpu.stream(), buffers).unwrap();

    let pool = Pool2d::builder()
        .input(0, 3, 8, 8)
        .kernel(2, 2)
        .kind(PoolKind::Max { indices: true })
        .build()
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&pool, gpu.capability()).unwrap())
        .unwrap();
    let mut indices = zeros_u8(1);
    let (x, mut y, mut at) = (
        empty.slice(0..0),
        written.slice_mut(0..0),
        indices.slice_mut(0..0),
    );
    plan.launch(
        gpu.stream(),
        PoolBuffers {
            x: &x,
            y: &mut y,
            indices: Some(&mut at),
        },
    )
    .unwrap();

    let relu = TensorDesc::new([0, 3, 8, 8], Layout::Nhwc, DType::F32)
        .and_then(|x| Relu::new(&x, &x))
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&relu, gpu.capability()).unwrap())
        .unwrap();
    plan.launch(
        gpu.stream(),
        UnaryBuffers {
            x: &empty.slice(0..0),
            y: &mut written.slice_mut(0..0),
        },
    )
    .unwrap();
    gpu.synchronize().unwrap();
}

fn zeros_u8(len: usize) -> cudarc::driver::CudaSlice<u8> {
    gpu().stream().alloc_zeros(len).unwrap()
}

/// Runs a module on the device and returns its output.
fn run(module: &Graph, x: &[f32], weights: &[(Vec<f32>, Vec<f32>)]) -> Vec<f32> {
    let gpu = gpu();
    let prepared = module.prepare(gpu).unwrap();
    let device: Vec<_> = weights
        .iter()
        .map(|(w, b)| (gpu.upload(w).unwrap(), gpu.upload(b).unwrap()))
        .collect();
    let weights: Vec<_> = device
        .iter()
        .map(|(w, bias)| Weights {
            w: w as _,
            bias: Some(bias as _),
        })
        .collect();
    let mut intermediates = module.allocate_intermediates::<f32>(gpu.stream()).unwrap();
    let x = gpu.upload(x).unwrap();
    let mut y = zeros::<f32>(module.output_len());
    let mut launched = 0;
    let buffers = GraphBuffers {
        x: &x,
        weights: &weights,
        intermediates: &mut intermediates,
        y: &mut y,
        workspace: None,
    };
    let count = |index, _: &[_]| {
        assert_eq!(index, launched);
        launched += 1;
        Ok(())
    };
    prepared.launch_each(gpu.stream(), buffers, count).unwrap();
    assert_eq!(launched, module.launches());
    gpu.download(&y).unwrap()
}

/// The reference of a convolution without its slice, on small integers.
fn expected(conv: &Conv2d, x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f32> {
    let dense = conv
        .to_builder()
        .output_slice(conv.output().c(), 0)
        .build()
        .unwrap();
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let y =
        warpconv_testing::reference::conv2d(&dense, &wide(x), &wide(w), Some(&wide(bias)), None)
            .unwrap();
    y.into_iter().map(|v| v as f32).collect()
}

#[test]
fn a_bottleneck_is_its_three_convolutions() {
    let job = Bottleneck {
        channels: 12,
        mid_channels: 3,
        ..Bottleneck::main_job(2, 6, 5)
    };
    let module = job.separate().unwrap();
    let weights: Vec<_> = (0..3)
        .zip(job.problem().unwrap().convolutions())
        .map(|(i, conv)| {
            (
                integers(conv.filter().len(), i),
                integers(conv.output().c(), 50 + i),
            )
        })
        .collect();
    let x = integers(module.input_len(), 77);
    let layer =
        |x: Vec<f32>, (conv, (w, b)): (&Conv2d, &(Vec<f32>, Vec<f32>))| expected(conv, &x, w, b);
    let want = job
        .problem()
        .unwrap()
        .convolutions()
        .iter()
        .zip(&weights)
        .fold(x.clone(), layer);
    assert_eq!(run(&module, &x, &weights), want);
}

#[test]
fn inception_branches_write_their_slices() {
    let job = Inception {
        c: 5,
        k1: 3,
        reduce3: 2,
        k3: 4,
        reduce5: 2,
        k5: 3,
        pool_projection: 2,
        ..Inception::inception_3a(2, 6, 5)
    };
    let module = job.naive().unwrap();
    let convs: Vec<Conv2d> = module.weights();
    let weights: Vec<_> = (0..)
        .zip(&convs)
        .map(|(i, conv)| {
            (
                integers(conv.filter().len(), i),
                integers(conv.output().c(), 60 + i),
            )
        })
        .collect();
    let x = integers(module.input_len(), 78);
    let got = run(&module, &x, &weights);
    let pixels = 6 * 5;
    let channels = 3 + 4 + 3 + 5;
    for (conv, (w, bias)) in convs.iter().zip(&weights) {
        let want = expected(conv, &x, w, bias);
        let (offset, k) = (conv.output().channel_offset(), conv.output().c());
        for n in 0..2 {
            let start = (n * channels + offset) * pixels;
            assert_eq!(
                got[start..start + k * pixels],
                want[n * k * pixels..(n + 1) * k * pixels]
            );
        }
    }
    // The pooled branch: the maximum of nine neighbours, checked at one interior pixel of each
    // channel.
    for (n, c) in [(0, 0), (1, 4)] {
        let plane = &x[(n * 5 + c) * pixels..][..pixels];
        let window = (1..4).flat_map(|h| plane[h * 5 + 1..h * 5 + 4].iter().copied());
        let want = window.fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(got[(n * channels + 10 + c) * pixels + 2 * 5 + 2], want);
    }
    let reduced = run(&job.separate().unwrap(), &x, &{
        let module = job.separate().unwrap();
        module
            .weights()
            .iter()
            .map(|conv| {
                (
                    vec![0.0; conv.filter().len()],
                    integers(conv.output().c(), 3),
                )
            })
            .collect::<Vec<_>>()
    });
    // With filters of zero every output is its bias behind a ReLU.
    assert_eq!(reduced[0], integers(3, 3)[0].max(0.0));
}
