//! Computes ResNet's bottleneck (1x1, 3x3, 1x1) in one launch where the planner prefers that, and
//! compares it with three launches.
//!
//! `cargo run --release --example 05_fused_bottleneck`

use half::f16;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::graph::{FuseOptions, Graph, GraphBuffers, Weights};
use warpconv::ops::Bottleneck;
use warpconv::{DType, Error, Layout};

pub fn main() -> Result<(), Error> {
    let gpu = Gpu::open(&DeviceChoice::from_env()?)?;
    // 252 -> 63 -> 63 -> 252 channels. No channel count is a multiple of 16 bytes.
    let job = Bottleneck {
        dtype: DType::F16,
        layout: Layout::Nhwc,
        ..Bottleneck::main_job(1, 14, 14)
    };

    // The decision with its reason: one launch or three.
    let (graph, decision) = job.choose(&FuseOptions::new(gpu.capability()))?;
    println!("{decision}");

    let three = run(&gpu, &job.separate()?)?;
    let best = run(&gpu, &graph)?;
    let largest = three.iter().zip(&best).map(|(a, b)| (a - b).abs());
    let largest = largest.fold(0.0, f32::max);
    println!("largest difference between both forms: {largest}");
    // The fused kernel rounds the two intermediate tensors to f16, as three launches do; sums may
    // be taken in another order.
    assert!(largest <= 1e-2 * three[0].abs());
    Ok(())
}

/// Prepares and launches a graph, all of whose values are constants.
fn run(gpu: &Gpu, graph: &Graph) -> Result<Vec<f32>, Error> {
    let prepared = graph.prepare(gpu)?;
    println!("{} launches", prepared.launches());

    let constant = |value: f32, len: usize| gpu.upload(&vec![f16::from_f32(value); len]);
    let x = constant(0.5, graph.input_len())?;
    let mut y = constant(0.0, graph.output_len())?;
    // One filter and one bias per convolution, the same for every form of the bottleneck.
    let convolutions = graph.weights();
    let parameters = convolutions.iter().map(|conv| {
        let w = constant(1.0 / 64.0, conv.filter().len())?;
        Ok((w, constant(0.125, conv.output().c())?))
    });
    let parameters = parameters.collect::<Result<Vec<_>, Error>>()?;
    let weights: Vec<Weights<'_, f16>> = parameters
        .iter()
        .map(|(w, bias)| Weights {
            w,
            bias: Some(bias),
        })
        .collect();

    let mut intermediates = graph.allocate_intermediates(gpu.stream())?;
    let mut workspace = prepared.allocate_workspace(gpu.stream())?;
    let buffers = GraphBuffers {
        x: &x,
        weights: &weights,
        intermediates: &mut intermediates,
        y: &mut y,
        workspace: workspace.as_mut(),
    };
    prepared.launch(gpu.stream(), buffers)?;
    Ok(gpu.download(&y)?.iter().map(|v| v.to_f32()).collect())
}
