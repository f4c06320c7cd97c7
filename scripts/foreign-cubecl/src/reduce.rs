//! Reductions of cubek-reduce: by threads, warps and blocks.

use cubecl::cuda::CudaRuntime;
use cubek_reduce::components::instructions::ReduceOperationConfig;
use cubek_reduce::launch::{RoutineStrategy, VectorizationStrategy};
use cubek_reduce::routines::{
    BlueprintStrategy, cube::CubeStrategy, plane::PlaneStrategy, unit::UnitStrategy,
};
use cubek_reduce::{ReduceDtypes, ReduceStrategy, reduce};

use crate::tensors::{Element, Expected, compare, poisoned, random};
use crate::{Client, Tally};

/// Sums and maxima over either axis, by each routine.
pub fn run(client: &Client, _capability: u32, tally: &mut Tally) {
    let routines = [
        (
            "thread",
            RoutineStrategy::Unit(BlueprintStrategy::Inferred(UnitStrategy)),
        ),
        (
            "warp",
            RoutineStrategy::Plane(BlueprintStrategy::Inferred(PlaneStrategy {
                independent: true,
            })),
        ),
        (
            "warp, together",
            RoutineStrategy::Plane(BlueprintStrategy::Inferred(PlaneStrategy {
                independent: false,
            })),
        ),
        (
            "block",
            RoutineStrategy::Cube(BlueprintStrategy::Inferred(CubeStrategy {
                use_planes: false,
            })),
        ),
        (
            "block of warps",
            RoutineStrategy::Cube(BlueprintStrategy::Inferred(CubeStrategy {
                use_planes: true,
            })),
        ),
    ];
    for (name, routine) in routines {
        for axis in 0..2 {
            for (what, operation) in [
                ("sum", ReduceOperationConfig::Sum),
                ("max", ReduceOperationConfig::Max),
            ] {
                let body = || one(client, routine.clone(), axis, operation);
                tally.add(&format!("{what} over axis {axis} by {name}"), body);
            }
        }
    }
}

fn one(
    client: &Client,
    routine: RoutineStrategy,
    axis: usize,
    operation: ReduceOperationConfig,
) -> Result<f64, String> {
    let (rows, columns) = (72, 260);
    let mut reduced = [rows, columns];
    reduced[axis] = 1;
    let (input, output) = (
        random::<f32>(client, &[rows, columns], 4),
        poisoned::<f32>(client, &reduced),
    );
    let (from, to) = (
        input.handle.clone().binding(),
        output.handle.clone().binding(),
    );
    let strategy = ReduceStrategy {
        routine,
        vectorization: VectorizationStrategy {
            parallel_output_vectorization: true,
        },
    };
    let types = ReduceDtypes {
        input: f32::storage(),
        output: f32::storage(),
        accumulation: f32::storage(),
    };
    reduce::<CudaRuntime>(client, from, to, axis, strategy, operation, types)
        .map_err(|error| format!("{error:?}"))?;
    let expected: Vec<_> = (0..reduced[0] * reduced[1])
        .map(|at| {
            let along: Vec<f64> = match axis {
                0 => (0..rows)
                    .map(|row| input.values[row * columns + at])
                    .collect(),
                _ => input.values[at * columns..][..columns].to_vec(),
            };
            match operation {
                // Each of the additions rounds once, to half a unit in the last place of a sum
                // below that of the magnitudes.
                ReduceOperationConfig::Sum => {
                    let magnitude: f64 = along.iter().map(|value| value.abs()).sum();
                    let tolerance = magnitude * along.len() as f64 * 2f64.powi(-24);
                    Expected {
                        value: along.iter().sum(),
                        tolerance,
                    }
                }
                _ => Expected {
                    value: along.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    tolerance: 0.0,
                },
            }
        })
        .collect();
    compare::<f32>(client, &output, &expected)
}
