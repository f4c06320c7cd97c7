//! `verify --smoke`: one small problem per kernel of the device, and one per option of the kernel.
//!
//! Made for the first minutes on a GPU: every check is a record of its own, and the JSON file is
//! complete after each, whatever happens next. `warpconv run-all` starts a process per kernel.

mod document;
mod record;

use std::time::Instant;

use warpconv::device::Gpu;
use warpconv::kernels::KernelId;
use warpconv_testing::smoke::{self, SmokeCase};

use super::kernel_of;
use crate::args::{Global, VerifyArgs};
use crate::device;
use crate::exit::Failure;
use crate::output::say;
use record::{Check, Outcome, Records};

/// Runs the command.
pub fn command(global: &Global, args: &VerifyArgs) -> Result<(), Failure> {
    let kernels: Vec<KernelId> = args
        .kernel
        .iter()
        .map(|id| kernel_of(id))
        .collect::<Result<_, _>>()?;
    let gpu = device::open(global.device)?;
    let cases = selected(&gpu, &kernels, args.filter.as_deref())?;
    let mut records = Records::new(global.json.as_deref(), &gpu)?;
    if args.list {
        for case in &cases {
            let (kernel, family) = names(case);
            let (label, problem) = (&case.label, &case.problem);
            say(format_args!("{kernel}\t{family}\t{label}\t{problem}"))?;
            records.list(case);
        }
        return records.close();
    }
    for case in &cases {
        records.start(case)?;
        let check = run(&gpu, case);
        say(&check)?;
        let is_lost = check.outcome != Outcome::Ok && gpu.synchronize().is_err();
        records.finish(&check)?;
        if is_lost {
            records.close()?;
            let left = cases.len() - records.count();
            return Err(Failure::Device(format!(
                "{} `{}` broke the device's context ({}); {left} checks were not run",
                case.kernel.kernel().name(),
                case.label,
                check
                    .cuda_error
                    .as_deref()
                    .unwrap_or("no error was reported"),
            )));
        }
    }
    records.close()?;
    records.outcome()
}

/// The kernel's id, and its family: the algorithm's name.
fn names(case: &SmokeCase) -> (String, &'static str) {
    let kernel = case.kernel.kernel();
    (kernel.name(), kernel.algorithm.name())
}

/// The cases of these kernels, or of all, that contain the text.
fn selected(
    gpu: &Gpu,
    kernels: &[KernelId],
    filter: Option<&str>,
) -> Result<Vec<SmokeCase>, Failure> {
    let capability = gpu.capability();
    let mut cases = match kernels {
        [] => smoke::list(capability),
        named => named
            .iter()
            .flat_map(|&kernel| smoke::of_kernel(capability, kernel))
            .collect(),
    };
    let missing = kernels
        .iter()
        .find(|&&kernel| cases.iter().all(|case| case.kernel != kernel));
    if let Some(kernel) = missing {
        return Err(Failure::Input(format!(
            "{} does not run on compute capability {}.{} with {} bytes of shared memory per block",
            kernel.kernel().name(),
            capability.major,
            capability.minor,
            capability.shared_per_block_optin,
        )));
    }
    if let Some(filter) = filter {
        cases.retain(|case| {
            let (kernel, family) = names(case);
            let problem = case.problem.to_string();
            let texts = [&kernel, family, &case.label, &problem];
            texts.iter().any(|text| text.contains(filter))
        });
        if cases.is_empty() {
            return Err(Failure::Input(format!(
                "no check of the smoke list contains `{filter}`"
            )));
        }
    }
    Ok(cases)
}

/// Runs one case.
fn run(gpu: &Gpu, case: &SmokeCase) -> Check {
    let start = Instant::now();
    let loaded = smoke::load(gpu, case);
    let image = loaded.as_ref().ok().cloned();
    let result = loaded.and_then(|_| smoke::run(gpu, case));
    Check::new(gpu, case, image, result, start.elapsed())
}
