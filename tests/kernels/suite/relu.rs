//! ReLU: sizes around vectors and blocks, slices, in place.

use super::{Coverage, Device};
use warpconv::kernels::Algorithm;
use warpconv::launch::Unary;
use warpconv::plan::Operation;
use warpconv::plan::Plan;
use warpconv::problem::{Relu, TensorDesc};
use warpconv::{DType, Layout};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Guards, Tolerance};

/// Everything, on numbers of both signs with NaN, infinities and zeros among them.
pub fn all(device: &Device) {
    let mut coverage = Coverage::default();
    let sizes = [
        (1, 1, 1, 1),
        (1, 3, 1, 1),
        (1, 1, 5, 205),
        (2, 7, 3, 5),
        (3, 8, 4, 4),
        (2, 65, 16, 17),
    ];
    for (n, c, h, w) in sizes {
        for layout in Layout::ALL {
            for dtype in DType::ALL {
                let plain = TensorDesc::new([n, c, h, w], layout, dtype)
                    .and_then(|x| Relu::new(&x, &x))
                    .expect("a valid problem");
                let slice =
                    |pitch, offset| plain.input().slice(pitch, offset).expect("a valid slice");
                let sliced = Relu::new(&slice(c + 5, 2), &slice(c + 3, 3));
                let same_slice = Relu::new(&slice(c + 3, 1), &slice(c + 3, 1));
                for (relu, in_place) in [
                    (plain, true),
                    (sliced.expect("a valid problem"), false),
                    (same_slice.expect("a valid problem"), true),
                ] {
                    one(device, &mut coverage, &relu, in_place);
                }
            }
        }
    }
    coverage.expect_all(device, &[Algorithm::Relu]);
}

fn one(device: &Device, coverage: &mut Coverage, relu: &Relu, in_place: bool) {
    let mut x = check::reals(relu.input().elements(), relu.input().dtype(), 11);
    check::sprinkle_special(&mut x, 9, 12);
    let want = reference::relu(&x);
    let extents = check::extents(relu.output());
    let line = format!("{relu:?}");
    coverage.each_kernel(device, relu, &line, |plan: &Plan<Relu>| {
        for shift in 0..3 {
            let guards = Guards {
                bytes: if shift == 0 {
                    Guards::of(&device.gpu).bytes
                } else {
                    64
                },
                shift,
            };
            let got = check::run_relu_with_guards(&device.gpu, plan, guards, &x)?;
            check::compare(&got, &want, extents, relu.input().dtype(), Tolerance::Exact)?;
        }
        if in_place {
            let got = check::run_relu_in_place(&device.gpu, plan, &x)?;
            check::compare(&got, &want, extents, relu.input().dtype(), Tolerance::Exact)?;
        }
        Ok(())
    });
}
