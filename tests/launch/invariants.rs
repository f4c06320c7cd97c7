//! Equalities between launches, bit for bit: on small integers every sum is exact, whatever its
//! order.

use crate::common::{gpu, integers, zeros};
use cudarc::driver::{CudaSlice, DevicePtr};
use half::f16;
use warpconv::ops;
use warpconv::plan::Plan;
use warpconv::problem::{Conv2d, Padding, Pool2d, PoolKind, Relu, TensorDesc};
use warpconv::{DType, Layout};

/// The bits of the numbers: zeros of both signs differ.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn upload(len: usize, seed: u64) -> CudaSlice<f32> {
    gpu().upload(&integers(len, seed)).unwrap()
}

#[test]
fn a_grouped_convolution_is_its_groups_side_by_side() {
    let gpu = gpu();
    for (groups, c, k, layout) in [
        (3, 12, 15, Layout::Nchw),
        (3, 12, 15, Layout::Nhwc),
        (2, 32, 64, Layout::Nchw),
        (8, 32, 32, Layout::Nhwc),
        (6, 6, 6, Layout::Nchw),
    ] {
        let builder = Conv2d::builder()
            .input(2, c, 9, 7)
            .kernel(3, 3)
            .stride(2, 1)
            .padding(Padding::same(1))
            .layout(layout);
        let grouped = builder.clone().filters(k).groups(groups).build().unwrap();
        let x = upload(grouped.input().len(), 1);
        let w = upload(grouped.filter().len(), 2);
        let y = ops::conv2d(gpu, &grouped, &x, &w).run().unwrap();

        let (group_c, group_k) = (grouped.filter().c, grouped.output().c() / groups);
        let mut side_by_side = zeros::<f32>(grouped.output().len());
        for group in 0..groups {
            let one = builder
                .clone()
                .input(2, group_c, 9, 7)
                .filters(group_k)
                .input_slice(c, group * group_c)
                .output_slice(k, group * group_k)
                .build()
                .unwrap();
            let len = one.filter().len();
            let filters = w.slice(group * len..(group + 1) * len);
            ops::conv2d(gpu, &one, &x, &filters)
                .run_into(&mut side_by_side)
                .unwrap();
        }
        assert_eq!(
            bits(&gpu.download(&y).unwrap()),
            bits(&gpu.download(&side_by_side).unwrap()),
            "{grouped}"
        );
    }
}

#[test]
fn a_fused_epilogue_is_its_steps_one_by_one() {
    let gpu = gpu();
    for notation in [
        "mb2ic9ih8oc20kh3ph1",
        "mb2ic9ih8oc20kh3ph1+nhwc",
        "mb1ic16ih10oc24kh1ph0",
        "mb1g8ic8ih9oc8kh3ph1",
        "mb1g2ic8ih9oc12kh3ph1",
    ] {
        let plain: Conv2d = notation.parse().unwrap();
        let fused = plain
            .to_builder()
            .bias(true)
            .residual(true)
            .relu(true)
            .build()
            .unwrap();
        let x = upload(plain.input().len(), 1);
        let w = upload(plain.filter().len(), 2);
        let bias = integers(plain.output().c(), 3);
        let residual = integers(plain.output().len(), 4);
        let (on_device, added) = (gpu.upload(&bias).unwrap(), gpu.upload(&residual).unwrap());
        let y = ops::conv2d(gpu, &fused, &x, &w)
            .bias(&on_device)
            .residual(&added)
            .run()
            .unwrap();

        let sums = ops::conv2d(gpu, &plain, &x, &w).run().unwrap();
        let mut sums = gpu.download(&sums).unwrap();
        let output = plain.output();
        for n in 0..output.n() {
            for (k, bias) in bias.iter().enumerate() {
                for pixel in 0..output.h() * output.w() {
                    let at = output.index(n, k, pixel / output.w(), pixel % output.w());
                    sums[at] = (sums[at] + bias) + residual[at];
                }
            }
        }
        let [n, k, p, q] = [output.n(), output.c(), output.h(), output.w()];
        let relu = TensorDesc::new([n, k, p, q], plain.input().layout(), DType::F32)
            .and_then(|x| Relu::new(&x, &x))
            .unwrap();
        let sums = gpu.upload(&sums).unwrap();
        let stepwise = ops::unary(gpu, &relu, &sums).unwrap();
        assert_eq!(
            bits(&gpu.download(&y).unwrap()),
            bits(&gpu.download(&stepwise).unwrap()),
            "{notation}"
        );
    }
}

#[test]
fn a_mean_of_f16_may_have_a_sum_beyond_f16() {
    let gpu = gpu();
    let average = PoolKind::Average {
        count_include_pad: true,
        divisor_override: None,
    };
    for layout in [Layout::Nchw, Layout::Nhwc] {
        for kind in [
            PoolKind::GlobalAverage,
            PoolKind::AdaptiveAverage { p: 1, q: 1 },
            average,
        ] {
            let builder = Pool2d::builder()
                .input(1, 8, 96, 96)
                .kind(kind)
                .layout(layout)
                .dtype(DType::F16);
            let builder = if kind == average {
                builder.kernel(96, 96)
            } else {
                builder
            };
            let pool = builder.build().unwrap();
            // The mean is 9 and the sum 82 944; the largest f16 is 65 504.
            let x: Vec<f16> = (0..pool.input().len())
                .map(|i| f16::from_f32(if i / 8 % 2 == 0 { 6.0 } else { 12.0 }))
                .collect();
            let x = gpu.upload(&x).unwrap();
            let (y, _) = ops::pool2d(gpu, &pool, &x).unwrap();
            let y = gpu.download(&y).unwrap();
            assert_eq!(y, [f16::from_f32(9.0); 8], "{pool}");
        }
    }
}

#[test]
fn an_empty_batch_has_buffers_of_no_elements_on_memory_of_their_own() {
    let gpu = gpu();
    let nothing = gpu.upload::<f32>(&[]).unwrap();
    let address = |buffer: &CudaSlice<f32>| buffer.device_ptr(gpu.stream()).0;
    assert_eq!(nothing.len(), 0);
    assert_ne!(
        address(&nothing),
        0,
        "a driver may refuse to allocate 0 bytes"
    );
    assert_eq!(gpu.download(&nothing).unwrap(), Vec::<f32>::new());

    for notation in ["mb0ic3ih5oc4kh3ph1", "mb0ic3ih5oc4kh1ph0+nhwc"] {
        let conv: Conv2d = notation.parse().unwrap();
        let w = upload(conv.filter().len(), 1);
        let y = ops::conv2d(gpu, &conv, &nothing, &w).run().unwrap();
        assert_eq!(y.len(), 0);
        assert_ne!(address(&y), 0);
        assert_eq!(gpu.download(&y).unwrap(), Vec::<f32>::new());
        let plan = Plan::new(&conv, gpu.capability()).unwrap();
        assert!(gpu.prepare(&plan).is_ok());
    }
    let pool: Pool2d = "mb0ic3ih4kh2+indices".parse().unwrap();
    let (y, indices) = ops::pool2d(gpu, &pool, &nothing).unwrap();
    assert_eq!((y.len(), indices.unwrap().len()), (0, 0));
    let relu = TensorDesc::new([0, 3, 4, 4], Layout::Nchw, DType::F32)
        .and_then(|x| Relu::new(&x, &x))
        .unwrap();
    assert_eq!(ops::unary(gpu, &relu, &nothing).unwrap().len(), 0);
}
