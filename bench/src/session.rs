//! A benchmark's run: device, criterion, options, and the records so far.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkGroup, SamplingMode};
use cudarc::driver::CudaStream;
use warpconv::device::{DeviceChoice, DeviceKind, Gpu};
use warpconv::plan::{Limits, Tuning};

use super::clocks::Clocks;
use super::cudnn_baseline::CudnnBaseline;
use super::date;
use super::exclude;
use super::expected::References;
use super::graphs::Config;
use super::measurement::{DeviceMeasurement, DeviceTime};
use super::options::{JSON_VARIABLE, Options};
use super::peak_rates::Card;
use super::record::{Row, Run, Skipped};
use super::report;
use super::rows::Chosen;
use super::timed_graph::{self, Length, text};

/// Limit of multiplications of a convolution or pooling on the emulator without `--max-macs`.
pub const EMULATED_MACS: u64 = 20_000_000;

/// The same for rows that are chosen by name: a few seconds each.
const EMULATED_CHOSEN_MACS: u64 = 130_000_000;

/// Limit of device memory for one record's operands, in bytes.
const ROOM: u64 = 24 << 30;

/// criterion with the measurement of a device.
pub type Criterion = criterion::Criterion<DeviceMeasurement>;

/// A criterion group with the measurement of a device.
pub type Group<'c> = BenchmarkGroup<'c, DeviceMeasurement>;

/// Runs a benchmark program: the `main` of each file in `benches/`.
///
/// Opens the GPU, or the emulator where `WARPCONV_DEVICE` names it. Without either it prints one
/// sentence and succeeds. The emulator is never timed: its benchmarks measure instructions.
pub fn run(bench: &str, body: impl FnOnce(&mut Session, &mut Criterion)) -> ExitCode {
    let mut session = match Session::open(bench, Options::from_env()) {
        Ok(session) => session,
        Err(Unopened::NoDevice(why)) => {
            println!("{bench}: nothing is measured: {why}.");
            return ExitCode::SUCCESS;
        }
        Err(Unopened::Wrong(why)) => {
            eprintln!("{bench}: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut criterion = session.criterion();
    body(&mut session, &mut criterion);
    criterion.final_summary();
    session.finish()
}

/// The reason why a run cannot begin.
enum Unopened {
    /// There is no device here: no failure of the program.
    NoDevice(String),
    /// Wrong options, or a file that cannot be written.
    Wrong(String),
}

/// Opens a group.
pub fn group<'c>(criterion: &'c mut Criterion, name: &str) -> Group<'c> {
    let mut group = criterion.benchmark_group(name);
    // Each sample is already a mean over a chain: a regression over growing samples adds no
    // precision.
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// State of a benchmark's run.
pub struct Session {
    /// The options of the benchmarks.
    pub options: Options,
    /// The GPU or the emulator.
    pub gpu: Gpu,
    /// Stream of all work; not the default stream, which cannot be captured.
    pub stream: Arc<CudaStream>,
    /// The card's peak rates.
    pub card: Card,
    /// The cuDNN baseline.
    pub cudnn: CudnnBaseline,
    /// Expected results of the last shape.
    pub references: References,
    /// Limits of every plan: the excluded kernels.
    pub limits: Limits,
    chosen: Chosen,
    clocks: Option<Clocks>,
    run: Run,
    rows: Vec<Row>,
    failures: usize,
    file: Option<File>,
}

impl Session {
    fn open(bench: &str, options: Options) -> Result<Session, Unopened> {
        let chosen = Chosen::of(bench, &options).map_err(Unopened::Wrong)?;
        let limits = exclude::limits(&options.exclude).map_err(Unopened::Wrong)?;
        let (gpu, stream) = open_device().map_err(Unopened::NoDevice)?;
        let card = Card::of(&gpu);
        let cudnn = CudnnBaseline::open(&gpu, &stream, &options);
        let run = describe(bench, &gpu, &card, &cudnn, &options);
        let mut file = json_file().map_err(Unopened::Wrong)?;
        append(&mut file, &run.to_json()).map_err(Unopened::Wrong)?;
        let clocks = Clocks::open(&gpu);
        // Printed to stderr: `--list` and criterion's output formats use stdout.
        report::text::heading(&run, clocks.as_ref().map(Clocks::most_mhz));
        Ok(Session {
            clocks,
            options,
            gpu,
            stream,
            card,
            cudnn,
            references: References::default(),
            limits,
            chosen,
            run,
            rows: Vec::new(),
            failures: 0,
            file,
        })
    }

    /// Returns whether the device is the emulator.
    pub fn is_emulated(&self) -> bool {
        self.run.emulated
    }

    /// criterion with the device's measurement; its own command line overrides the settings.
    fn criterion(&self) -> Criterion {
        let settings = criterion::Criterion::default();
        let (settings, measurement) = if self.is_emulated() {
            // Counts do not vary: criterion's minimum of samples suffices. Its plots need a
            // variance and are off. Any difference is reported as a change.
            let settings = settings
                .without_plots()
                .sample_size(10)
                .nresamples(1_001)
                .noise_threshold(0.0)
                .warm_up_time(Duration::from_nanos(1))
                .measurement_time(Duration::from_millis(1));
            let measurement = DeviceMeasurement::Instructions(self.gpu.clone());
            (settings, measurement)
        } else {
            let (samples, ms) = if self.options.quick {
                (10, 50)
            } else {
                (20, 500)
            };
            let settings = settings
                .sample_size(samples)
                .warm_up_time(Duration::from_millis(ms / 5))
                .measurement_time(Duration::from_millis(ms));
            let measurement = DeviceMeasurement::Time(DeviceTime::new(&self.stream));
            (settings, measurement)
        };
        settings.with_measurement(measurement).configure_from_args()
    }

    /// Returns whether the row `id` of `macs` multiplications is measured: on the emulator those up
    /// to `emulated`, unless `--max-macs` sets a limit. A chosen row that is not is reported as
    /// skipped.
    pub fn takes(&mut self, id: &str, macs: u64, emulated: u64) -> bool {
        let usual = match self.is_emulated() {
            true if self.chosen.any() => emulated.max(EMULATED_CHOSEN_MACS),
            true => emulated,
            false => u64::MAX,
        };
        let most = self.options.max_macs.unwrap_or(usual);
        if macs > most && self.chosen.any() {
            self.skip(
                id,
                &format!("{macs} multiplications, the limit is {most} (--max-macs)"),
            );
        }
        macs <= most
    }

    /// Returns whether rows are chosen by name (`--row`, `--rows`).
    pub fn chooses_rows(&self) -> bool {
        self.chosen.any()
    }

    /// Returns whether a group is measured: if rows are chosen by name, those that hold one.
    pub fn has_group(&self, group: &str) -> bool {
        !self.chosen.any() || self.chosen.has(group)
    }

    /// The points of a group: those chosen by name, else `usual`. On the emulator a chosen one has
    /// a batch of 1.
    pub fn configs(&self, group: &str, usual: impl FnOnce() -> Vec<Config>) -> Vec<Config> {
        if !self.chosen.any() {
            return usual();
        }
        let mut configs = self.chosen.configs(group);
        if self.is_emulated() {
            configs.iter_mut().for_each(|config| config.batch = 1);
        }
        configs
    }

    /// Name of a point in criterion. Counts include the device's name: they compare with nothing
    /// else.
    pub fn point<'p>(&self, name: &'p str) -> Cow<'p, str> {
        if !self.is_emulated() {
            return Cow::Borrowed(name);
        }
        let capability = self.gpu.capability();
        let (major, minor) = (capability.major, capability.minor);
        Cow::Owned(format!("{name}/emulator:{major}{minor}"))
    }

    /// Number of copies for operands of `bytes` bytes, and the length of a sample.
    pub fn length(&self, bytes: u64) -> Length {
        let copies = if self.options.warm || self.is_emulated() {
            1
        } else {
            timed_graph::copies(bytes, self.card.l2, ROOM)
        };
        Length {
            copies,
            target_us: if self.options.quick { 300.0 } else { 1_000.0 },
        }
    }

    /// The current SM clock, MHz.
    pub fn sm_mhz(&self) -> Option<u64> {
        let reading = self.clocks.as_ref()?.read();
        (reading.sm_mhz > 0).then_some(u64::from(reading.sm_mhz))
    }

    /// Adds a record, if its benchmark was selected. An error counts as a failure of the run.
    pub fn take(&mut self, id: &str, row: Result<Option<Row>, String>) {
        let row = match row {
            Ok(Some(row)) => row,
            Ok(None) => return,
            Err(why) => {
                println!("{id}: FAILED: {why}");
                self.failures += 1;
                return;
            }
        };
        println!("{}", report::text::detail(&row));
        self.write(&row.to_json());
        self.rows.push(row);
    }

    /// Reports a record that is skipped, with the reason.
    pub fn skip(&mut self, id: &str, why: &str) {
        println!("{id}: skipped: {why}");
        let (id, why) = (id.to_owned(), why.to_owned());
        self.write(&Skipped { id, why }.to_json());
    }

    /// Writes a line to the file of rows, if there is one. An error counts as a failure of the run.
    fn write(&mut self, line: &serde_json::Value) {
        if let Err(why) = append(&mut self.file, line) {
            println!("{why}");
            self.failures += 1;
        }
    }

    /// The records so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Prints the summary by families and returns the exit code: a failure if a record failed.
    fn finish(mut self) -> ExitCode {
        report::text::families(&self.rows, self.run.emulated);
        for row in self.chosen.missing() {
            println!("{row}: FAILED: {} has no such row", self.run.bench);
            self.failures += 1;
        }
        if self.failures == 0 {
            return ExitCode::SUCCESS;
        }
        println!("{} rows failed", self.failures);
        ExitCode::FAILURE
    }
}

/// Opens the GPU, or the device that `WARPCONV_DEVICE` names, and a stream.
pub(crate) fn open_device() -> Result<(Gpu, Arc<CudaStream>), String> {
    let choice = match DeviceChoice::from_env().map_err(text)? {
        DeviceChoice::Auto => DeviceChoice::Cuda(0),
        chosen => chosen,
    };
    let gpu = Gpu::open(&choice).map_err(|error| format!("there is no GPU here ({error})"))?;
    // SAFETY: all work is queued in the single stream created here, which orders it; the events
    // that cudarc would record cannot be captured.
    unsafe { gpu.context().disable_event_tracking() };
    let stream = gpu.context().new_stream().map_err(text)?;
    Ok((gpu, stream))
}

/// Opens the file that `WARPCONV_BENCH_JSON` names, if it does.
pub(crate) fn json_file() -> Result<Option<File>, String> {
    let named = std::env::var_os(JSON_VARIABLE).filter(|path| !path.is_empty());
    let Some(path) = named.map(PathBuf::from) else {
        return Ok(None);
    };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.map(Some)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn describe(bench: &str, gpu: &Gpu, card: &Card, cudnn: &CudnnBaseline, options: &Options) -> Run {
    Run {
        bench: bench.to_owned(),
        device: gpu.card().name,
        emulated: gpu.kind() == DeviceKind::Emulator,
        driver: u64::from(gpu.card().driver),
        capability: Some(*gpu.capability()),
        build: Tuning::build().to_owned(),
        commit: commit(),
        date: date::now(),
        cudnn: cudnn.words.clone(),
        peak_rates: card.source.to_owned(),
        cache: if options.warm {
            String::from("warm: one copy of the operands")
        } else {
            String::from("cold: copies of the operands in turn, twice the L2 cache together")
        },
    }
}

/// The commit: named by the environment at run time, else at build time.
fn commit() -> String {
    let named = std::env::var("WARPCONV_COMMIT").ok();
    let named = named.or_else(|| option_env!("WARPCONV_COMMIT").map(str::to_owned));
    named.unwrap_or_else(|| String::from("unknown"))
}

/// Appends a line to the file of rows, if there is one.
pub(crate) fn append(file: &mut Option<File>, line: &serde_json::Value) -> Result<(), String> {
    match file {
        Some(file) => writeln!(file, "{line}")
            .and_then(|()| file.flush())
            .map_err(|error| format!("the file of rows cannot be written: {error}")),
        None => Ok(()),
    }
}
