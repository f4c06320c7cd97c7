//! Matrix products of cubek-matmul: by threads, by `wmma` and `mma`, with `cp.async`, with TMA.
//!
//! Left out of cubek 0.2:
//!
//! - `mma` before 9.0, and with f32 results: lanes read from shared memory what others of the warp
//!   have written, with no `bar.warp.sync` between, which the emulator reports as a race;
//! - `SpecializedTma`: lanes exit while the elected one waits for them in `elect.sync`, which PTX
//!   allows and the emulator reports.
//!
//! Stages that are loaded asynchronously in part are right only where they divide the summed
//! dimension.

use cubecl::cuda::CudaRuntime;
use cubek_matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek_matmul::launch::{Strategy, launch_ref};
use cubek_std::InputBinding;
use half::f16;

use crate::tensors::{Element, Expected, compare, poisoned, random};
use crate::{Client, Tally};

/// The strategies that use tensor cores: from the capability on that each needs, with the size of
/// the summed dimension.
fn strategies() -> Vec<(u32, usize, Strategy)> {
    use Strategy::*;
    vec![
        (75, 160, SimpleCyclicCmma(Default::default())),
        (75, 160, SimpleTilewiseCmma(Default::default())),
        (75, 160, DoubleCyclicCmma(Default::default())),
        (75, 160, OrderedDoubleCmma(Default::default())),
        (80, 160, SimpleAsyncStridedCmma(Default::default())),
        (80, 160, SimpleAsyncCyclicCmma(Default::default())),
        (80, 128, DoubleAsyncStridedCmma(Default::default())),
        (80, 128, SpecializedCyclicCmma(Default::default())),
        (90, 160, SimpleCyclicMma(Default::default())),
        (90, 160, SimpleTilewiseMma(Default::default())),
        (90, 160, DoubleHybridMma(Default::default())),
        (90, 160, SimpleAsyncCyclicMma(Default::default())),
        (90, 128, SpecializedStridedMma(Default::default())),
        (90, 160, SimpleTmaCmma(Default::default())),
        (90, 160, SimpleTmaMma(Default::default())),
        (90, 160, DoubleTmaMma(Default::default())),
    ]
}

/// Products of f32 and f16.
pub fn run(client: &Client, capability: u32, tally: &mut Tally) {
    // Sums of k products, each rounded to f32.
    let exact = |k: usize| k as f64 * 2f64.powi(-24);
    for strategy in [
        Strategy::Naive,
        Strategy::SimpleUnit(Default::default()),
        Strategy::DoubleUnit(Default::default()),
    ] {
        let name = format!("f32 {strategy}");
        tally.add(&name, || {
            product::<f32>(client, &strategy, [70, 45, 33], exact)
        });
    }
    for (least, depth, strategy) in strategies() {
        if capability >= least {
            let name = format!("f16 {strategy}");
            // The result is rounded to f16 as well.
            let tolerance = |k| exact(k) + 2f64.powi(-11);
            tally.add(&name, || {
                product::<f16>(client, &strategy, [136, 72, depth], tolerance)
            });
        }
    }
    if capability >= 80 {
        // The factors are rounded to tf32 or to f16, which have eleven bits.
        let strategy = Strategy::SimpleCyclicCmma(Default::default());
        let name = format!("tf32 {strategy}");
        tally.add(&name, || {
            product::<f32>(client, &strategy, [136, 72, 160], |_| 2f64.powi(-10))
        });
    }
}

/// Multiplies an m x k by a k x n matrix. The tolerance is a share of the sum of the products'
/// magnitudes.
fn product<E: Element>(
    client: &Client,
    strategy: &Strategy,
    [m, n, k]: [usize; 3],
    tolerance: impl Fn(usize) -> f64,
) -> Result<f64, String> {
    let (left, right) = (
        random::<E>(client, &[1, m, k], 5),
        random::<E>(client, &[1, k, n], 6),
    );
    let output = poisoned::<E>(client, &[1, m, n]);
    let elements = MatmulGlobalElems {
        lhs: E::storage(),
        rhs: E::storage(),
        out: E::storage(),
    };
    launch_ref::<CudaRuntime>(
        strategy,
        client,
        InputBinding::new(left.handle.clone().binding(), E::storage()),
        InputBinding::new(right.handle.clone().binding(), E::storage()),
        output.handle.clone().binding(),
        &mut MatmulElems::from_globals(&elements),
    )
    .map_err(|error| format!("{error:?}"))?;
    let expected: Vec<_> = (0..m * n)
        .map(|at| {
            let terms =
                (0..k).map(|k_| left.values[at / n * k + k_] * right.values[k_ * n + at % n]);
            let magnitude: f64 = terms.clone().map(f64::abs).sum();
            Expected {
                value: terms.sum(),
                tolerance: magnitude * tolerance(k),
            }
        })
        .collect();
    compare::<E>(client, &output, &expected)
}
