//! `verify`: runs cases and shapes on the device, with every kernel that accepts them.

mod activation;
mod case;
mod cases;
mod discover;
mod execute;
mod layers;
mod lower;
#[cfg(test)]
mod lower_tests;
mod network;
mod parallel;
mod real;
mod report;
mod shapes;
mod smoke;

use std::cell::RefCell;

use warpconv::device::{DeviceChoice, Gpu};
use warpconv::kernels::{KernelId, Math, kernels};
use warpconv::plan::Capability;
use warpconv::problem::FilterLayout;
use warpconv::{DType, Layout};

pub use discover::{file_and_line, shape_lines};
pub use real::best;
pub use report::Steps;

use crate::args::{Global, VerifyArgs};
use crate::device;
use crate::exit::Failure;
use crate::output::{JsonFile, Progress};
use discover::{Source, discover};
use report::{Report, Variation};

/// Selection by the options.
#[derive(Clone)]
struct Selection {
    dtypes: Vec<DType>,
    /// True if the user named types.
    named_dtypes: bool,
    maths: Vec<Math>,
    /// True if the user named modes.
    named_maths: bool,
    layouts: Vec<Layout>,
    filter_layout: Option<FilterLayout>,
    steps: Option<Steps>,
    kernel: Option<KernelId>,
    every_kernel: bool,
    split_k: Option<u32>,
    batch: usize,
    max_macs: u64,
    max_elements: u64,
    images: usize,
}

impl Selection {
    /// Returns whether problems of shape files, which name neither types nor modes, run with every
    /// kernel in all types. Options that name types, modes or kernels imply it. For cases see
    /// [`Selection::takes_every_kernel`].
    fn is_thorough(&self) -> bool {
        self.every_kernel || self.named_dtypes || self.named_maths || self.kernel.is_some()
    }

    /// Returns whether every kernel that accepts a case, and that the options permit, runs it,
    /// however expensive it is.
    fn takes_every_kernel(&self) -> bool {
        self.every_kernel || self.kernel.is_some()
    }

    /// Returns whether the options permit the kernel for a problem in mode `math`. Unless a kernel
    /// is named, only kernels made for that mode run; more exact ones run in their own mode.
    fn takes(&self, kernel: KernelId, math: Math) -> bool {
        match self.kernel {
            Some(only) => only == kernel,
            None => kernel.kernel().math == math,
        }
    }

    /// The modes for `dtype` that the options permit.
    fn maths(&self, dtype: DType) -> impl Iterator<Item = Math> + '_ {
        let modes = match dtype {
            DType::F32 => &Math::ALL[..],
            DType::F16 | DType::Bf16 => &[Math::Strict],
        };
        modes
            .iter()
            .copied()
            .filter(|math| self.maths.contains(math))
    }
}

/// Inputs of every check.
struct Context {
    /// Device choice, to reopen the device after a fault.
    choice: DeviceChoice,
    /// The device; `None` only while it is reopened.
    gpu: RefCell<Option<Gpu>>,
    capability: Capability,
    select: Selection,
    /// Number of runs per kernel in its family's rotation, for expensive cases.
    round_robin: RefCell<cases::RoundRobin>,
}

/// Runs the command.
pub fn command(global: &Global, args: &VerifyArgs) -> Result<(), Failure> {
    if args.smoke {
        return smoke::command(global, args);
    }
    let kernel = match &args.kernel[..] {
        [] => None,
        [id] => Some(kernel_of(id)?),
        several => {
            return Err(Failure::Input(format!(
                "--kernel {}: one kernel at a time, except with --smoke",
                several.join(" --kernel ")
            )));
        }
    };
    let sources = selected(args)?;
    let json = JsonFile::create(global.json.as_deref())?;
    let gpu = device::open(global.device)?;
    let context = Context {
        choice: device::opened(&gpu, global.device),
        capability: *gpu.capability(),
        select: selection(args, kernel),
        gpu: RefCell::new(None),
        round_robin: RefCell::default(),
    };

    let progress = Progress::new(sources.len(), global.quiet);
    let mut report = Report::new(&progress, repeating(&context, args), json.is_some());
    let described = device::to_json(&gpu);
    context.gpu.replace(Some(gpu));
    let jobs = parallel::jobs(&context, args.jobs);
    let mut left = &sources[..];
    while let Some(source) = left.first() {
        // The rotation of kernels requires cases to run one after another.
        let shapes = parallel::shapes(left);
        if shapes > 1 && jobs > 1 {
            parallel::run(&context, &left[..shapes], jobs, &mut report)?;
            left = &left[shapes..];
        } else {
            context.run_noted(source, &mut report)?;
            left = &left[1..];
        }
    }
    if report.is_empty() {
        return Err(Failure::Input(
            "the options leave nothing to check".to_owned(),
        ));
    }
    let document = report.json(described);
    if let Some(file) = json {
        file.write(&document)?;
    }
    progress.finish();
    report.finish(args.list_skipped)
}

impl Context {
    /// The device, or a message if it was lost.
    fn gpu(&self) -> Result<Gpu, String> {
        self.gpu
            .borrow()
            .clone()
            .ok_or_else(|| "the device is gone".to_owned())
    }

    /// Reports a failure, and reopens the device if the failure broke its context.
    fn fail(
        &self,
        report: &mut Report<'_>,
        label: &str,
        op: &str,
        variation: &Variation,
        why: &str,
    ) -> Result<(), Failure> {
        report.fail(label, op, variation, why)?;
        if report.is_draft() {
            // Other threads use the device too, and the whole problem runs again.
            return Ok(());
        }
        self.revive()
    }

    /// Returns whether a fault broke the device's context, so that everything after it fails too.
    fn is_lost(&self) -> bool {
        let gpu = self.gpu.borrow();
        gpu.as_ref().is_some_and(|gpu| gpu.synchronize().is_err())
    }

    /// Reopens the device if its context is broken.
    fn revive(&self) -> Result<(), Failure> {
        if self.is_lost() {
            // The old context must be destroyed before a new one is created.
            drop(self.gpu.replace(None));
            let gpu = Gpu::open(&self.choice).and_then(|gpu| gpu.synchronize().map(|()| gpu));
            let gpu = gpu.map_err(|error| {
                Failure::Device(format!(
                    "the device does not come back after a fault, so nothing more is run: {error}"
                ))
            })?;
            self.gpu.replace(Some(gpu));
        }
        Ok(())
    }

    /// Runs one source and reports its progress.
    fn run_noted(&self, source: &Source, report: &mut Report<'_>) -> Result<(), Failure> {
        report.progress().doing(source.label());
        self.run(source, report)?;
        report.progress().step();
        Ok(())
    }

    /// Runs one source.
    fn run(&self, source: &Source, report: &mut Report<'_>) -> Result<(), Failure> {
        let label = source.label();
        match source {
            Source::Case(folder) if folder.join("images.npy").exists() => {
                match real::trained(folder, self.select.images) {
                    Ok(network) => cases::classified(self, &label, &network, report),
                    Err(why) => report.unreadable(&label, &why),
                }
            }
            Source::Case(folder) => match case::read(folder) {
                Ok(case::Read::Case(case)) => cases::case(self, &label, &case, report),
                Ok(case::Read::Skip(why)) => {
                    report.skip(&label, why);
                    Ok(())
                }
                Err(why) => report.unreadable(&label, &why),
            },
            Source::Picture(picture) => match real::squeezenet(picture) {
                Ok(network) => cases::classified(self, &label, &network, report),
                Err(why) => report.unreadable(&label, &why),
            },
            Source::Generated(_) => {
                report.skip(&label, "networks of full size with generated weights");
                Ok(())
            }
            Source::Shape(shape) => shapes::shape(self, &label, shape, report),
        }
    }
}

/// The sources that the paths contain and the filter matches.
fn selected(args: &VerifyArgs) -> Result<Vec<Source>, Failure> {
    let mut sources = discover(&args.paths)?;
    if let Some(filter) = &args.filter {
        sources.retain(|source| source.matches(filter));
        if sources.is_empty() {
            return Err(Failure::Input(format!("no case matches `{filter}`")));
        }
    }
    Ok(sources)
}

/// Selection by the options.
fn selection(args: &VerifyArgs, kernel: Option<KernelId>) -> Selection {
    let dtypes = match args.dtype[..] {
        [] => DType::ALL.to_vec(),
        _ => DType::ALL
            .into_iter()
            .filter(|&dtype| args.dtype.iter().any(|&arg| DType::from(arg) == dtype))
            .collect(),
    };
    Selection {
        dtypes,
        named_dtypes: !args.dtype.is_empty(),
        maths: match args.math[..] {
            [] => Math::ALL.to_vec(),
            _ => args.math.iter().map(|&math| math.into()).collect(),
        },
        named_maths: !args.math.is_empty(),
        layouts: args
            .layout
            .map_or(Layout::ALL.to_vec(), |layout| vec![layout.into()]),
        filter_layout: args.filter_layout.map(Into::into),
        steps: args.steps.map(Into::into),
        kernel,
        every_kernel: args.every_kernel,
        split_k: args.split_k,
        batch: args.batch,
        max_macs: args.max_macs,
        max_elements: args.max_elements,
        images: args.images.unwrap_or(usize::MAX),
    }
}

/// The options, beside those of a check, of a command that repeats it.
fn repeating(context: &Context, args: &VerifyArgs) -> String {
    let mut text = format!(" --device {}", context.choice);
    if args.batch != 1 {
        text.push_str(&format!(" --batch {}", args.batch));
    }
    if args.max_macs != 20_000_000 {
        text.push_str(&format!(" --max-macs {}", args.max_macs));
    }
    if args.max_elements != 100_000_000 {
        text.push_str(&format!(" --max-elements {}", args.max_elements));
    }
    if args.every_kernel {
        text.push_str(" --every-kernel");
    }
    if let Some(images) = args.images {
        text.push_str(&format!(" --images {images}"));
    }
    text
}

/// The kernel with an id.
pub fn kernel_of(id: &str) -> Result<KernelId, Failure> {
    let found = kernels().iter().position(|kernel| kernel.name() == id);
    found.map(KernelId).ok_or_else(|| {
        let near: Vec<String> = kernels()
            .iter()
            .map(|k| k.name())
            .filter(|name| name.contains(id))
            .take(5)
            .collect();
        let hint = if near.is_empty() {
            String::new()
        } else {
            format!("; kernels like it: {}", near.join(", "))
        };
        Failure::Input(format!("no kernel is called `{id}`{hint}"))
    })
}
