//! Bottleneck and inception against the naive modules that they replace, and against the same from
//! cuDNN.

use std::process::ExitCode;

use clap::ValueEnum;
use half::{bf16, f16};
use warpconv::graph::Graph;
use warpconv::ops::{Bottleneck, Inception};
use warpconv::plan::BottleneckPlan;
use warpconv::{DType, Error, Layout};
use warpconv_bench::module::{Named, row};
use warpconv_bench::options::Kind;
use warpconv_bench::record::{CudnnRecord, Row};
use warpconv_bench::session::Session;
use warpconv_bench::targets::{BOTTLENECK, Family, INCEPTION};

/// GoogLeNet's modules: name, input channels, pixels a side, 1x1, 3x3 (from), 5x5 (from), pool
/// projection.
const INCEPTIONS: [(&str, [usize; 8]); 9] = [
    ("3a", [192, 28, 64, 96, 128, 16, 32, 32]),
    ("3b", [256, 28, 128, 128, 192, 32, 96, 64]),
    ("4a", [480, 14, 192, 96, 208, 16, 48, 64]),
    ("4b", [512, 14, 160, 112, 224, 24, 64, 64]),
    ("4c", [512, 14, 128, 128, 256, 24, 64, 64]),
    ("4d", [512, 14, 112, 144, 288, 32, 64, 64]),
    ("4e", [528, 14, 256, 160, 320, 32, 128, 128]),
    ("5a", [832, 7, 256, 160, 320, 32, 128, 128]),
    ("5b", [832, 7, 384, 192, 384, 48, 128, 128]),
];

/// A module to measure.
struct Job {
    name: String,
    family: &'static Family,
    module: Graph,
    /// Problem for cuDNN, where it differs launch by launch.
    cudnn: Option<Graph>,
}

fn main() -> ExitCode {
    let Some(mut session) = Session::open("bottleneck") else {
        return ExitCode::SUCCESS;
    };
    const BATCHES: &[usize] = &[1, 32, 128];
    let few = session.is_emulated() || session.options.quick;
    let usual = if session.is_emulated() {
        &BATCHES[..1]
    } else {
        BATCHES
    };
    let batches = session.options.batches(usual, BATCHES);
    let kinds = match few {
        true => session.options.kinds(&[Kind::F32, Kind::Bf16]),
        false => session.options.kinds(Kind::value_variants()),
    };
    for &batch in &batches {
        for &kind in &kinds {
            for layout in layouts(&session, kind) {
                match jobs(&session, batch, kind, layout) {
                    Ok(jobs) => measure(&mut session, &jobs, batch, kind, layout),
                    Err(why) => session.take("modules", Err(why.to_string())),
                }
            }
        }
    }
    session.finish()
}

/// The layouts asked for, all if all is; else the one that goes with the type.
fn layouts(session: &Session, kind: Kind) -> Vec<Layout> {
    match (&session.options.layout[..], kind) {
        ([], _) if session.options.full => Layout::ALL.to_vec(),
        ([], Kind::F32) => vec![Layout::Nchw],
        ([], _) => vec![Layout::Nhwc],
        (named, _) => named.to_vec(),
    }
}

fn measure(session: &mut Session, jobs: &[Job], batch: usize, kind: Kind, layout: Layout) {
    let ending = format!("/n{batch}/{}/{}", kind.name(), layout.name());
    let from = session.rows().len();
    for job in jobs {
        let id = format!("{}{ending}", job.name);
        if !session.wants(&id, job.module.macs()) {
            continue;
        }
        let named = Named {
            id: &id,
            family: job.family,
            kind,
            batch,
            layout,
        };
        let row = match kind.dtype() {
            DType::F32 => row::<f32>(session, &named, &job.module, job.cudnn.as_ref()),
            DType::F16 => row::<f16>(session, &named, &job.module, job.cudnn.as_ref()),
            DType::Bf16 => row::<bf16>(session, &named, &job.module, job.cudnn.as_ref()),
        };
        session.take(&id, row);
    }
    for way in ["naive", "separate", "fused"] {
        let modules: Vec<Row> = session.rows()[from..]
            .iter()
            .filter(|row| row.id.starts_with("inception/") && row.id.contains(&format!("/{way}/")))
            .cloned()
            .collect();
        if modules.len() == INCEPTIONS.len() {
            let id = format!("inception/3a-5b/{way}{ending}");
            session.take(&id, Ok(sum(id.clone(), &modules)));
        }
    }
}

/// All of GoogLeNet's modules one after the other: the sum of their rows.
fn sum(id: String, rows: &[Row]) -> Row {
    let total = |of: fn(&Row) -> Option<f64>| rows.iter().map(of).sum::<Option<f64>>();
    let first = rows[0].clone();
    Row {
        id,
        kernel: String::from("the sum of the nine modules"),
        macs: rows.iter().map(|row| row.macs).sum(),
        bytes: rows.iter().map(|row| row.bytes).sum(),
        floor_us: rows.iter().map(|row| row.floor_us).sum(),
        us: total(|row| row.us),
        instructions: rows.iter().map(|row| row.instructions).sum(),
        cudnn: CudnnRecord {
            us: total(|row| row.cudnn.us),
            plan: String::from("the sum of the nine modules"),
            fused: rows.iter().all(|row| row.cudnn.fused),
            timed: rows.iter().map(|row| row.cudnn.timed).sum(),
            note: first.cudnn.note.clone(),
            ..CudnnRecord::default()
        },
        ..first
    }
}

/// The modules. The emulator takes fewer pixels: everything else is the same.
fn jobs(session: &Session, batch: usize, kind: Kind, layout: Layout) -> Result<Vec<Job>, Error> {
    let (dtype, small) = (kind.dtype(), session.is_emulated());
    let side = |pixels: usize| if small { pixels.min(7) } else { pixels };
    let (mut jobs, mut fused) = (Vec::new(), Vec::new());
    let mut push = |name: String, family, module| {
        jobs.push(Job {
            name,
            family,
            module,
            cudnn: None,
        });
    };
    for (channels, mid_channels) in [(252, 63), (256, 64)] {
        let bottleneck = Bottleneck {
            channels,
            mid_channels,
            k: channels,
            dtype,
            layout,
            math: kind.math(),
            ..Bottleneck::main_job(batch, side(56), side(56))
        };
        push(
            format!("bottleneck{channels}/naive"),
            &BOTTLENECK,
            bottleneck.naive()?,
        );
        push(
            format!("bottleneck{channels}/separate"),
            &BOTTLENECK,
            bottleneck.separate()?,
        );
        // Where no kernel takes all of it there is no such row.
        if BottleneckPlan::new(&bottleneck.problem()?, session.gpu.capability()).is_ok() {
            fused.push(Job {
                name: format!("bottleneck{channels}/fused"),
                family: &BOTTLENECK,
                module: bottleneck.fused()?,
                cudnn: Some(bottleneck.separate()?),
            });
        }
    }
    for (name, [c, pixels, k1, reduce3, k3, reduce5, k5, pool_projection]) in INCEPTIONS {
        let inception = Inception {
            n: batch,
            c,
            h: side(pixels),
            w: side(pixels),
            k1,
            reduce3,
            k3,
            reduce5,
            k5,
            pool_projection,
            dtype,
            layout,
            math: kind.math(),
        };
        push(
            format!("inception/{name}/naive"),
            &INCEPTION,
            inception.naive()?,
        );
        push(
            format!("inception/{name}/separate"),
            &INCEPTION,
            inception.separate()?,
        );
        // Measured wherever there are kernels, whichever form the model ranks first.
        let two = inception.fused()?;
        if two.estimate(session.gpu.capability()).is_ok() {
            fused.push(Job {
                name: format!("inception/{name}/fused"),
                family: &INCEPTION,
                module: two,
                cudnn: Some(inception.separate()?),
            });
        }
    }
    jobs.extend(fused);
    Ok(jobs)
}
