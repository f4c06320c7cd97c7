//! Convolutions of buffers that are aligned to their elements only, as the problem says or against
//! its word.

use super::conv::{Operands, parse, run_and_compare, variants};
use super::{Coverage, Device, Failure};
use warpconv::Error;
use warpconv::kernels::{Algorithm, kernels};
use warpconv::plan::{Operation, Plan};
use warpconv::problem::Conv2d;
use warpconv_testing as check;
use warpconv_testing::{Guards, RunError, Tolerance};

/// Bytes that the kernel reads of x or of the filters at a time, both where they lie.
fn reads(plan: &Plan<Conv2d>) -> u64 {
    let kernel = plan.kernel();
    let filters = kernel.algorithm.tensor() && plan.launches() < 2;
    match filters || kernel.algorithm == Algorithm::Wgmma {
        true => 16,
        false => u64::from(kernel.vector),
    }
}

/// Buffers one element off: a kernel that cannot read them is not launched, and all others are
/// right.
pub fn broken_promises(device: &Device) {
    let mut coverage = Coverage::default();
    let mut refused = 0;
    let guards = Guards {
        bytes: 64,
        shift: 1,
    };
    for line in [
        "mb1ic8ih8oc16kh3ph1+bias+residual",
        "mb1ic16ih8oc32kh1+bias",
        "g2mb1ic32ih5oc32kh3ph1",
        "mb1ic3ih12oc8kh5sh2",
    ] {
        for conv in variants(&parse(line), 2) {
            let operands = Operands::integers(&conv);
            let want = operands.want(&conv);
            coverage.each_kernel(device, &conv, &conv.to_string(), |plan| {
                let (size, needs) = (conv.dtype().size() as u64, reads(plan));
                if needs <= size {
                    return run_and_compare(
                        device,
                        plan,
                        guards,
                        &operands,
                        &want,
                        Tolerance::Exact,
                    )
                    .map(|_| ());
                }
                refused += 1;
                let run = check::run_conv_with_guards(&device.gpu, plan, guards, operands.slices());
                match run {
                    Err(RunError::Device(Error::Misaligned { has, .. })) if has == size => Ok(()),
                    other => Err(Failure(format!("not refused as misaligned: {other:?}"))),
                }
            });
        }
    }
    let any = kernels().iter().any(|kernel| {
        let planned = Conv2d::computed_by(kernel.algorithm) && device.capability.runs(kernel.arch);
        kernel.algorithm.tensor() && planned
    });
    assert_eq!(any, refused > 0, "kernels that read vectors refuse others");
}

/// Buffers that are aligned to their elements and no more.
pub fn alignment(device: &Device) {
    let shapes = [
        "mb1ic8ih8oc16kh3ph1+bias+residual",
        "mb1ic16ih8oc32kh1+bias",
        "g2mb1ic8ih8oc16kh3ph1",
        "g4mb1ic8ih8oc8kh3ph1",
        "g8mb1ic8ih8oc8kh3ph1+bias",
        "mb1ic3ih12oc8kh5sh2",
    ];
    let mut coverage = Coverage::default();
    for line in shapes {
        for conv in variants(&parse(line), 2) {
            let conv = conv.to_builder().alignment(conv.dtype().size()).build();
            let conv = conv.expect("a variant of a valid problem");
            let operands = Operands::integers(&conv);
            let want = operands.want(&conv);
            coverage.each_kernel(device, &conv, &conv.to_string(), |plan| {
                for shift in 1..4 {
                    let guards = Guards { bytes: 64, shift };
                    run_and_compare(device, plan, guards, &operands, &want, Tolerance::Exact)?;
                }
                Ok(())
            });
        }
    }
}
