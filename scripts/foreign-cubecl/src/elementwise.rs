//! Kernels written with cubecl's macro: element by element, through shared memory, within a warp,
//! atomics.

use cubecl::cuda::CudaRuntime;
use cubecl::prelude::*;

use crate::tensors::{Element, Expected, compare, poisoned, random};
use crate::{Client, Tally};

#[cube(launch_unchecked)]
fn gelu<F: Float>(input: &Array<F>, output: &mut Array<F>) {
    if ABSOLUTE_POS < input.len() {
        let x = input[ABSOLUTE_POS];
        output[ABSOLUTE_POS] = x * ((x / F::new(1.4142135)).erf() + F::new(1.0)) / F::new(2.0);
    }
}

#[cube(launch_unchecked)]
fn neighbours<F: Float>(input: &Array<F>, output: &mut Array<F>, #[comptime] size: usize) {
    let mut tile = SharedMemory::<F>::new(size);
    let here = UNIT_POS as usize;
    tile[here] = input[ABSOLUTE_POS];
    sync_cube();
    let opposite = tile[size - 1 - here];
    output[ABSOLUTE_POS] = plane_sum(opposite) - plane_max(opposite);
}

#[cube(launch_unchecked)]
fn histogram(input: &Array<f32>, counts: &mut Array<Atomic<u32>>) {
    if ABSOLUTE_POS < input.len() {
        let bin = u32::cast_from((input[ABSOLUTE_POS] + 1.0) * 4.0);
        counts[bin as usize].fetch_add(1u32);
    }
}

/// The kernels of this file; the capability does not matter to them.
pub fn run(client: &Client, _capability: u32, tally: &mut Tally) {
    tally.add("gelu of f32", || gelu_of::<f32>(client, 1e-6));
    tally.add("gelu of f16", || gelu_of::<half::f16>(client, 4e-3));
    tally.add("shared memory and warp", || neighbours_of(client));
    tally.add("histogram by atomics", || histogram_of(client));
}

fn gelu_of<E: Element + Float>(client: &Client, tolerance: f64) -> Result<f64, String> {
    let length = 1000;
    let (input, output) = (
        random::<E>(client, &[length], 1),
        poisoned::<E>(client, &[length]),
    );
    // SAFETY: both arrays have `length` elements, and the kernel stays below it.
    unsafe {
        gelu::launch_unchecked::<E, CudaRuntime>(
            client,
            CubeCount::Static(4, 1, 1),
            CubeDim::new_1d(256),
            ArrayArg::from_raw_parts(input.handle.handle.clone(), length),
            ArrayArg::from_raw_parts(output.handle.handle.clone(), length),
        );
    }
    let expected: Vec<_> = input
        .values
        .iter()
        .map(|x| Expected {
            value: x * (erf(x / 2f64.sqrt()) + 1.0) / 2.0,
            tolerance,
        })
        .collect();
    compare::<E>(client, &output, &expected)
}

/// The error function by its series, which converges quickly for arguments in -1..1.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..40 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn neighbours_of(client: &Client) -> Result<f64, String> {
    let (size, cubes) = (128, 3);
    let length = size * cubes;
    let (input, output) = (
        random::<f32>(client, &[length], 2),
        poisoned::<f32>(client, &[length]),
    );
    // SAFETY: both arrays have as many elements as there are threads.
    unsafe {
        neighbours::launch_unchecked::<f32, CudaRuntime>(
            client,
            CubeCount::Static(cubes as u32, 1, 1),
            CubeDim::new_1d(size as u32),
            ArrayArg::from_raw_parts(input.handle.handle.clone(), length),
            ArrayArg::from_raw_parts(output.handle.handle.clone(), length),
            size,
        );
    }
    let expected: Vec<_> = (0..length)
        .map(|at| {
            let (cube, warp) = (at / size * size, at % size / 32 * 32);
            let lanes = (warp..warp + 32).map(|lane| input.values[cube + size - 1 - lane]);
            let value = lanes.clone().sum::<f64>() - lanes.fold(f64::NEG_INFINITY, f64::max);
            Expected {
                value,
                tolerance: 1e-5,
            }
        })
        .collect();
    compare::<f32>(client, &output, &expected)
}

fn histogram_of(client: &Client) -> Result<f64, String> {
    let length = 5000;
    let input = random::<f32>(client, &[length], 3);
    let counts = client.create_from_slice(u32::as_bytes(&[0; 8]));
    // SAFETY: the kernel reads below the array's length, and values below 1 have bins below 8.
    unsafe {
        histogram::launch_unchecked::<CudaRuntime>(
            client,
            CubeCount::Static(20, 1, 1),
            CubeDim::new_1d(256),
            ArrayArg::from_raw_parts(input.handle.handle.clone(), length),
            ArrayArg::from_raw_parts(counts.clone(), 8),
        );
    }
    let mut expected = [0u32; 8];
    for value in &input.values {
        expected[((value + 1.0) * 4.0) as usize] += 1;
    }
    let bytes = client
        .read_one(counts)
        .map_err(|error| format!("{error:?}"))?;
    let found = u32::from_bytes(&bytes);
    if found == expected {
        Ok(0.0)
    } else {
        Err(format!("{found:?}, not {expected:?}"))
    }
}
