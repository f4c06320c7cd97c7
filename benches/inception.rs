//! GoogLeNet's Inception modules: naive (3x3 and 5x5 on the module's input), one launch per layer,
//! fused launches, and cuDNN's launches of the same.
//!
//! `cargo bench --bench inception -- inception/4`

use std::process::ExitCode;

use warpconv::Error;
use warpconv::graph::FuseOptions;
use warpconv::ops::Inception;
use warpconv_bench::graphs::{self, Config, Forms};
use warpconv_bench::problems::INCEPTIONS;
use warpconv_bench::record::{CudnnRecord, Row};
use warpconv_bench::session::{Session, run};
use warpconv_bench::targets::INCEPTION;

fn main() -> ExitCode {
    run("inception", |session, criterion| {
        for (name, module) in INCEPTIONS {
            let name = format!("inception/{name}");
            graphs::benchmark(session, criterion, &name, &INCEPTION, |session, config| {
                forms(session, config, module)
            });
        }
        totals(session);
    })
}

fn forms(session: &Session, config: Config, module: [usize; 8]) -> Result<Vec<Forms>, Error> {
    let [c, pixels, k1, reduce3, k3, reduce5, k5, pool_projection] = module;
    // The emulator runs fewer pixels; everything else is the same.
    let side = if session.is_emulated() { 7 } else { pixels };
    let inception = Inception {
        n: config.batch,
        c,
        h: side,
        w: side,
        k1,
        reduce3,
        k3,
        reduce5,
        k5,
        pool_projection,
        dtype: config.kind.dtype(),
        layout: config.layout,
        math: config.kind.math(),
    };
    let naive = Forms {
        ours: vec![("naive", inception.naive()?)],
        cudnn: ("cudnn_naive", inception.naive()?),
    };
    let mut ours = vec![("separate", inception.separate()?)];
    // Measured wherever there are kernels, whichever form the model ranks first.
    let fused = inception.fused()?;
    let options = FuseOptions::new(session.gpu.capability());
    if fused.estimate(&options).is_ok() {
        ours.push(("fused", fused));
    }
    let cudnn = ("cudnn", inception.separate()?);
    Ok(vec![naive, Forms { ours, cudnn }])
}

/// Adds up the records of all modules, if all of them were measured.
fn totals(session: &mut Session) {
    let mut totals: Vec<(String, Vec<Row>)> = Vec::new();
    for row in session.rows() {
        let Some((_module, rest)) = row.id.trim_start_matches("inception/").split_once('/') else {
            continue;
        };
        match totals.iter_mut().find(|(known, _)| known == rest) {
            Some((_, rows)) => rows.push(row.clone()),
            None => totals.push((rest.to_owned(), vec![row.clone()])),
        }
    }
    for (rest, rows) in totals {
        if rows.len() == INCEPTIONS.len() {
            let id = format!("inception/3a-5b/{rest}");
            session.take(&id, Ok(Some(sum(id.clone(), &rows))));
        }
    }
}

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
