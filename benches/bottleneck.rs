//! Bottlenecks against the naive 3x3 that they replace: one launch, three launches, and cuDNN's
//! launches of either.
//!
//! `cargo bench --bench bottleneck -- bottleneck/252.*bf16`

use std::process::ExitCode;

use warpconv::Error;
use warpconv::ops::Bottleneck;
use warpconv::plan::Plan;
use warpconv_bench::graphs::{self, Config, Forms};
use warpconv_bench::problems::BOTTLENECKS;
use warpconv_bench::session::{Session, run};
use warpconv_bench::targets::BOTTLENECK;

fn main() -> ExitCode {
    run("bottleneck", |session, criterion| {
        for (channels, mid_channels) in BOTTLENECKS {
            let name = format!("bottleneck/{channels}");
            graphs::benchmark(session, criterion, &name, &BOTTLENECK, |session, config| {
                forms(session, config, channels, mid_channels)
            });
        }
    })
}

fn forms(
    session: &Session,
    config: Config,
    channels: usize,
    mid_channels: usize,
) -> Result<Vec<Forms>, Error> {
    // The emulator runs fewer pixels; everything else is the same.
    let side = if session.is_emulated() { 7 } else { 56 };
    let bottleneck = Bottleneck {
        channels,
        mid_channels,
        k: channels,
        dtype: config.kind.dtype(),
        layout: config.layout,
        math: config.kind.math(),
        ..Bottleneck::main_job(config.batch, side, side)
    };
    let naive = Forms {
        ours: vec![("naive", bottleneck.naive()?)],
        cudnn: ("cudnn_naive", bottleneck.naive()?),
    };
    let mut ours = vec![("separate", bottleneck.separate()?)];
    // Skipped where no kernel computes a whole bottleneck.
    if Plan::new(&bottleneck.problem()?, session.gpu.capability()).is_ok() {
        ours.push(("fused", bottleneck.fused()?));
    }
    let cudnn = ("cudnn", bottleneck.separate()?);
    Ok(vec![naive, Forms { ours, cudnn }])
}
