//! `run-all`: environment, canaries, kernel matrix, ceilings and rows of a device in stated
//! minutes, each kernel in a process of its own, everything in one archive.

pub mod archive;
mod canaries;
mod clock;
mod environment;
mod interrupt;
mod matrix;
mod process;
mod record;
mod report;
mod rows;
mod smoke;
mod state;
mod suites;
mod tools;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use warpconv::device::DeviceChoice;

use crate::args::{Global, RunAllArgs};
use crate::exit::Failure;
use crate::output::{JsonFile, say};
use clock::Clock;
use record::Record;
use state::State;

/// Time of a kernel's checks on a GPU.
const GPU_LIMIT: Duration = Duration::from_secs(20);

/// Time of a kernel's checks on the emulator.
const EMULATOR_LIMIT: Duration = Duration::from_secs(60);

/// Processes at a time on a GPU.
const GPU_JOBS: usize = 4;

/// Settings that every stage reads.
struct Context {
    /// This program.
    program: PathBuf,
    /// Folder of the other programs: that of the unpacked bundle.
    programs: PathBuf,
    /// Folder of the files that are packed.
    folder: PathBuf,
    /// Folder of files that are not kept.
    scratch: PathBuf,
    device: DeviceChoice,
    emulated: bool,
    clock: Clock,
    /// Time of a kernel's checks.
    limit: Duration,
    /// Processes at a time.
    jobs: usize,
    /// Variables of every process.
    env: Vec<(&'static str, OsString)>,
    only: Vec<String>,
    exclude: Vec<String>,
    no_cudnn: bool,
}

impl Context {
    fn new(global: &Global, args: &RunAllArgs) -> Result<Context, Failure> {
        let program = env::current_exe().map_err(|error| {
            Failure::Input(format!("the path of this program is not known: {error}"))
        })?;
        let device = device(global.device)?;
        let emulated = matches!(device, DeviceChoice::Emulator { .. });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let programs = match &args.programs {
            Some(folder) => folder.clone(),
            // As in a bundle: bin/warpconv.
            None => program
                .ancestors()
                .nth(2)
                .unwrap_or(Path::new("."))
                .to_owned(),
        };
        if !programs.is_dir() {
            let shown = programs.display();
            return Err(Failure::Input(format!("--programs {shown} is no folder")));
        }
        let limit = if emulated { EMULATOR_LIMIT } else { GPU_LIMIT };
        Ok(Context {
            env: variables(&programs),
            program,
            programs,
            folder: args.output.join(state::WORKING),
            scratch: args.output.join(state::SCRATCH),
            device,
            emulated,
            clock: Clock::start(args.minutes()),
            limit: args.limit.map_or(limit, Duration::from_secs),
            jobs: if emulated { cores } else { GPU_JOBS },
            only: args.only.clone(),
            exclude: args.exclude.clone(),
            no_cudnn: args.no_cudnn,
        })
    }

    /// Arguments of this program that select the device.
    fn own_args(&self) -> Vec<OsString> {
        let device = self.device.to_string();
        ["--quiet", "--device", &device].map(OsString::from).into()
    }

    /// Variables of programs that take the device from the environment.
    fn device_env(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = self.env.clone();
        variables.push(("WARPCONV_DEVICE", self.device.to_string().into()));
        variables.push(("WARPCONV_BIN", self.program.clone().into()));
        variables
    }

    /// Returns whether the options let a kernel run.
    fn takes(&self, kernel: &str) -> bool {
        let contains = |text: &String| kernel.contains(text.as_str());
        let named = self.only.is_empty() || self.only.iter().any(contains);
        named && !self.exclude.iter().any(|excluded| excluded == kernel)
    }

    /// A file of the archive.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A log of the archive.
    fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(name)
    }

    /// A file that is not kept.
    fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }
}

/// The device of the option, else of `WARPCONV_DEVICE`, else the first GPU: a run that takes the
/// emulator by accident would look like one of a GPU.
fn device(option: DeviceChoice) -> Result<DeviceChoice, Failure> {
    let choice = match option {
        DeviceChoice::Auto => DeviceChoice::from_env().map_err(Failure::input)?,
        named => named,
    };
    Ok(match choice {
        DeviceChoice::Auto => DeviceChoice::Cuda(0),
        named => named,
    })
}

/// Variables by which the programs of a bundle find its files, where the user names none.
fn variables(programs: &Path) -> Vec<(&'static str, OsString)> {
    let places = [
        ("WARPCONV_PTX", "ptx"),
        ("WARPCONV_CUBINS", "cubins"),
        ("WARPCONV_TEST_DATA", "data"),
    ];
    let named = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let places = places.into_iter().filter(|(name, _)| !named(name));
    let places = places.map(|(name, folder)| (name, programs.join(folder)));
    let mut found: Vec<(&str, OsString)> = places
        .filter(|(_, folder)| folder.is_dir())
        .map(|(name, folder)| (name, folder.into()))
        .collect();
    let emulator = programs.join("bin/libptx_emulator.so");
    if !named("PTX_EMULATOR_LIB") && emulator.is_file() {
        found.push(("PTX_EMULATOR_LIB", emulator.into()));
    }
    // A tuning file of the user would change what is run.
    found.push(("WARPCONV_TUNING", OsString::new()));
    found
}

/// The commit: named by the environment at run time, else at build time.
fn commit() -> String {
    let named = env::var("WARPCONV_COMMIT").ok();
    let named = named.or_else(|| option_env!("WARPCONV_COMMIT").map(str::to_owned));
    named.unwrap_or_else(|| "unknown".to_owned())
}

/// A name as part of a file's name.
fn file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

/// Runs the command.
pub fn command(global: &Global, args: &RunAllArgs) -> Result<(), Failure> {
    let mut context = Context::new(global, args)?;
    let json = JsonFile::create(global.json.as_deref())?;
    interrupt::install();
    let mut state = State::create(&context, &args.output, args.resume)?;
    if environment::is_exclusive(&context) {
        context.jobs = 1;
        state
            .notes
            .push("the card takes one process at a time".to_owned());
    }
    let outcome = stages(&context, args, &mut state);
    // Whatever has ended the stages, what there is is written.
    state
        .notes
        .extend(outcome.as_ref().err().map(ToString::to_string));
    state.finish(&context)?;
    if let Some(file) = json {
        file.write(&state.to_json())?;
    }
    say(report::essence(&context, &state))?;
    say(format_args!("all of it: {}", state.archive().display()))?;
    outcome?;
    if let Some(signal) = interrupt::arrived() {
        return Err(Failure::Signal(signal));
    }
    match state.failures() {
        0 => Ok(()),
        failed => Err(Failure::Checks { failed }),
    }
}

/// Runs the stages in order.
fn stages(context: &Context, args: &RunAllArgs, state: &mut State) -> Result<(), Failure> {
    let sampler = environment::sampler(context);
    if let Err(why) = &sampler {
        state.notes.push(format!("clocks and temperatures: {why}"));
    }
    state.environment = environment::describe(context);
    state.save(context)?;
    let list = smoke::list(context).map_err(|why| {
        Failure::Device(format!(
            "the device {} does not answer: {why}",
            context.device
        ))
    })?;
    state.open(context, &list)?;
    say(format_args!(
        "device {}: {} checks of {} kernels",
        list.device["name"].as_str().unwrap_or("unknown"),
        list.entries.len(),
        list.kernels(),
    ))?;

    let mut records = std::mem::take(&mut state.canaries);
    canaries::run(context, &list, &mut records, |records| {
        state.canaries = records.to_vec();
        state.store(context);
    })?;
    state.canaries = records;
    state.save(context)?;

    let known = std::mem::take(&mut state.matrix);
    let canaries = state.canaries.clone();
    let matrix = matrix::run(context, &list, &canaries, known, |records: &[Record]| {
        state.matrix = records.to_vec();
        state.store(context);
    });
    state.matrix = matrix;
    state.save(context)?;

    state.missing = rows::ceilings(context);
    let known = std::mem::take(&mut state.rows);
    let excluded = state.excluded(context);
    state.rows = rows::run(context, &known, &excluded, |rows| {
        state.rows = rows.to_vec();
        state.store(context);
    })?;
    state.save(context)?;
    suites::report(context);
    state.tools = tools::run(context, &args.sanitize, &args.profile)?;
    if args.full {
        state.save(context)?;
        state.tools.extend(suites::full(context)?);
        suites::report(context);
    }
    Ok(())
}
