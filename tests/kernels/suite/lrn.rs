//! Local response normalisation: windows of even and odd size, tensors around vectors and segments,
//! slices, special values.

use super::{Coverage, Device};
use warpconv::kernels::Algorithm;
use warpconv::launch::Unary;
use warpconv::plan::Operation;
use warpconv::plan::Plan;
use warpconv::problem::{Lrn, LrnParameters, TensorDesc};
use warpconv::{DType, Layout};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Guards, Tolerance};

const STRONG: LrnParameters = LrnParameters {
    alpha: 1.0,
    ..warpconv_nets::GOOGLENET_LRN
};

/// Sizes and constants: those of the networks, one that makes the window count, and powers other
/// than 3/4.
const PARAMETERS: [LrnParameters; 8] = [
    warpconv_nets::ALEXNET_LRN,
    STRONG,
    LrnParameters {
        size: 4,
        alpha: 2.0,
        beta: 0.5,
        k: 0.5,
    },
    LrnParameters {
        size: 1,
        alpha: 3.0,
        beta: 1.0,
        k: 1.0,
    },
    LrnParameters { size: 2, ..STRONG },
    LrnParameters {
        size: 5,
        beta: -0.3,
        ..STRONG
    },
    LrnParameters { size: 11, ..STRONG },
    // Wider than any tensor here.
    LrnParameters {
        size: 300,
        alpha: 300.0,
        ..STRONG
    },
];

/// Extents: planes of one pixel, odd ones and whole vectors; channels around a vector and around a
/// segment.
const EXTENTS: [[usize; 4]; 7] = [
    [1, 1, 1, 1],
    [2, 3, 1, 1],
    [1, 16, 2, 4],
    [2, 9, 3, 5],
    [2, 40, 4, 4],
    [1, 33, 5, 5],
    [3, 64, 2, 8],
];

/// Every kernel over all of these, dense and between slices, with buffers of any alignment.
pub fn all(device: &Device) {
    let mut coverage = Coverage::default();
    for (index, extents) in EXTENTS.into_iter().enumerate() {
        for layout in Layout::ALL {
            for dtype in DType::ALL {
                // Every pair of a shape and a set of constants comes in one type and layout at
                // least.
                for (number, parameters) in PARAMETERS.into_iter().enumerate() {
                    if number > 1 && (number + index) % 3 != dtype as usize {
                        continue;
                    }
                    let plain = TensorDesc::new(extents, layout, dtype)
                        .and_then(|x| Lrn::new(&x, &x, parameters))
                        .expect("valid");
                    let [input, output] =
                        [(extents[1] + 5, 2), (extents[1] + 3, 3)].map(|(pitch, offset)| {
                            plain.input().slice(pitch, offset).expect("a valid slice")
                        });
                    let sliced = Lrn::new(&input, &output, parameters).expect("valid");
                    one(device, &mut coverage, &plain, 0);
                    one(device, &mut coverage, &sliced, 1 + number % 2);
                }
            }
        }
    }
    coverage.expect_all(device, &[Algorithm::Lrn]);
}

/// Infinities and NaN reach the windows that they are in and nothing else; an infinite value itself
/// becomes NaN, its neighbours 0.
pub fn special_values(device: &Device) {
    let mut coverage = Coverage::default();
    for layout in Layout::ALL {
        for parameters in [PARAMETERS[0], PARAMETERS[2]] {
            let lrn = TensorDesc::new([2, 24, 2, 8], layout, DType::F32)
                .and_then(|x| Lrn::new(&x, &x, parameters))
                .expect("valid");
            let mut x = check::reals(lrn.input().elements(), DType::F32, 3);
            check::sprinkle_special(&mut x, 19, 4);
            run(device, &mut coverage, &lrn, 0, &x);
        }
    }
}

fn one(device: &Device, coverage: &mut Coverage, lrn: &Lrn, shift: usize) {
    let x: Vec<f64> = check::reals(lrn.input().elements(), lrn.input().dtype(), 21)
        .into_iter()
        .map(|x| 8.0 * x)
        .collect();
    run(device, coverage, lrn, shift, &x);
}

fn run(device: &Device, coverage: &mut Coverage, lrn: &Lrn, shift: usize, x: &[f64]) {
    let want = reference::lrn(lrn, x).expect("a reference");
    let bounds = reference::lrn_bound(lrn, x).expect("bounds");
    let guards = Guards {
        shift,
        ..Guards::of(&device.gpu)
    };
    coverage.each_kernel(device, lrn, &format!("{lrn:?}"), |plan: &Plan<Lrn>| {
        let got = check::run_unary_with_guards(&device.gpu, plan, guards, x)?;
        let extents = check::extents(lrn.output());
        check::compare(
            &got,
            &want,
            extents,
            lrn.input().dtype(),
            Tolerance::Off { sums: &bounds },
        )?;
        Ok(())
    });
}
