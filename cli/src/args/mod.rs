//! The command line's arguments.

mod run_all;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use warpconv::device::DeviceChoice;

pub use run_all::RunAllArgs;
pub use values::{ByArg, DTypeArg, FilterLayoutArg, LayoutArg, MathArg, StepsArg};
use values::{at_least_one, count, device};

/// Hand-written CUDA convolution kernels: run, checked and explained on a GPU or on the emulator.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = false,
    after_help = "Exit codes: 0 success, 1 a check failed, 2 wrong usage or unreadable input, 3 no \
        device or a device error, of `run-all` 128 and the number of a \
        signal.\nWithout a command, `bottleneck` runs."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// auto (a GPU if there is one, else the emulator), gpu, gpu:N, emulator, or emulator:75, :80,
    /// :90
    #[arg(
        long,
        global = true,
        value_name = "DEVICE",
        default_value = "auto",
        value_parser = device
    )]
    pub device: DeviceChoice,
    /// Also write the results to FILE as JSON
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Show no progress bar
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Tuning file written by `tune`, or `none` [default: what WARPCONV_TUNING names, else
    /// warpconv/tuning.txt in the user's cache folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub tuning: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a bottleneck saves: count, run, check and compare it with the layers that it
    /// replaces (the default)
    Bottleneck(BottleneckArgs),
    /// Run cases on the device and compare with their stored results or with the f64 reference
    Verify(VerifyArgs),
    /// Show the plan for a problem, the refused kernels with reasons, and the roofline's bound
    Explain(ExplainArgs),
    /// Run plans on the emulator and compare their counters with the least that the problem needs
    Counters(CountersArgs),
    /// Measure every accepted kernel with every split-K, and store the fastest ones for plans
    Tune(TuneArgs),
    /// Compare measured rows with the cost model, and store a factor per kernel family for plans
    Calibrate(CalibrateArgs),
    /// Compute whole networks, naive and bottlenecked, check them, and draw accuracy against
    /// operations
    Nets(NetsArgs),
    /// Name the five most probable classes of an image by SqueezeNet 1.1
    Classify(ClassifyArgs),
    /// Time AlexNet's layers, and compare with this machine's processor, as in 2012
    Era(EraArgs),
    /// Run every kernel and the first rows of a device in stated minutes, a process per kernel, and
    /// pack the results into one archive
    RunAll(RunAllArgs),
}

impl Default for Command {
    fn default() -> Command {
        Command::Bottleneck(BottleneckArgs::default())
    }
}

/// Options of `bottleneck`.
#[derive(Args, Debug, Default)]
pub struct BottleneckArgs {
    /// Types to run, comma-separated [default: f32,bf16]
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub dtype: Vec<DTypeArg>,
    /// Images per batch [default: 128 on a GPU, 1 on the emulator]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub batch: Option<usize>,
    /// Rows and columns of the image of every module [default: 56 and 28]
    #[arg(long, value_name = "PIXELS", value_parser = at_least_one)]
    pub size: Option<usize>,
    /// Order of the activations in memory [default: nchw for f32; nhwc for f16 and bf16, the
    /// fastest layout on tensor cores]
    #[arg(long, value_enum)]
    pub layout: Option<LayoutArg>,
}

/// Options of `era`.
#[derive(Args, Debug)]
pub struct EraArgs {
    /// Images per batch
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one)]
    pub batch: usize,
    /// Threads on the processor, up to 1024 [default: as many as it has cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

/// Options of `verify` that `--smoke` leaves no choice.
const NOT_WITH_SMOKE: [&str; 14] = [
    "paths",
    "dtype",
    "math",
    "layout",
    "filter_layout",
    "every_kernel",
    "split_k",
    "batch",
    "max_macs",
    "max_elements",
    "steps",
    "images",
    "list_skipped",
    "jobs",
];

/// Options of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Folders of cases (searched for case.json and for trained networks), benchdnn shape files, or
    /// FILE:LINE
    ///
    /// Operations of a case: conv2d, linear, relu, maxpool2d, avgpool2d, adaptive_avgpool2d,
    /// global_avgpool2d, global_maxpool2d, lrn, softmax, tanh (amplitude, slope), subsample
    /// (kernel, stride, mean, activation), concat, flatten, add
    #[arg(required_unless_present = "smoke", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Run one small problem per kernel of the device and option of the kernel, instead of PATHs
    #[arg(long, conflicts_with_all = NOT_WITH_SMOKE)]
    pub smoke: bool,
    /// With --smoke: print kernel, family, label and problem of each check, and run none
    #[arg(long, requires = "smoke")]
    pub list: bool,
    /// Only cases whose path or problem contains this text; with --smoke, checks whose kernel,
    /// family, label or problem does
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only these types, comma-separated
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub dtype: Vec<DTypeArg>,
    /// Modes of f32 multiplication, comma-separated [default: every mode, each with the kernels
    /// made for it]
    #[arg(long, value_name = "MODES", value_delimiter = ',')]
    pub math: Vec<MathArg>,
    /// Only this order of the activations
    #[arg(long, value_enum)]
    pub layout: Option<LayoutArg>,
    /// Only this order of the filters
    #[arg(long, value_enum)]
    pub filter_layout: Option<FilterLayoutArg>,
    /// Only this kernel (an id, as `explain` prints it); network layers that it does not accept use
    /// the kernel of their plan. With --smoke several times
    #[arg(long, value_name = "ID")]
    pub kernel: Vec<String>,
    /// Force every kernel that accepts [default: kernels that need more than a million
    /// multiplications for a case run in rotation: the plan's kernel and, within --max-macs, one of
    /// each other family; in shape files every kernel within --max-macs in strict f32, the plan's
    /// in other modes]
    #[arg(long)]
    pub every_kernel: bool,
    /// Only this split-K, the number of partial sums per output tile [default: in cases 1, 2 and 3
    /// where the kernel accepts, 1 and 2 where the case is expensive for it; in shape files the
    /// plan's, unless types, modes or kernels are named]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub split_k: Option<u32>,
    /// Images per batch in problems of shape files
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub batch: usize,
    /// Skip problems of shape files with more multiplications than this, cases with a layer of more
    /// than a thousand times as many, and kernels (except the plan's) whose multiplications, tile
    /// padding included, exceed it (suffixes K, M, G)
    #[arg(long, value_name = "COUNT", default_value = "20M", value_parser = count)]
    pub max_macs: u64,
    /// Skip problems of shape files and cases whose tensors together have more elements than this
    /// (suffixes K, M, G)
    #[arg(long, value_name = "COUNT", default_value = "100M", value_parser = count)]
    pub max_elements: u64,
    /// Cut graphs into launches only this way [default: every way that applies]
    #[arg(long, value_enum)]
    pub steps: Option<StepsArg>,
    /// Only the first COUNT test images of each trained network
    #[arg(long, value_name = "COUNT", value_parser = at_least_one)]
    pub images: Option<usize>,
    /// Name each skipped case, not only the reasons and their counts
    #[arg(long)]
    pub list_skipped: bool,
    /// Number of problems of shape files that run at a time on the emulator, up to 256 [default:
    /// one per processor core]
    #[arg(long, value_name = "COUNT", value_parser = at_least_one)]
    pub jobs: Option<usize>,
}

/// Options of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A convolution or a pool (no `oc`) in benchdnn notation, e.g.
    /// mb128ic64ih56oc64oh56kh3ph1+bf16+nhwc
    #[arg(required = true, value_name = "PROBLEM")]
    pub problem: String,
    /// Also print what the driver reports of the loaded kernel, and its compiler's log
    #[arg(long)]
    pub jit: bool,
    /// Type of the tensors [default: the problem's, else f32]
    #[arg(long, value_enum)]
    pub dtype: Option<DTypeArg>,
    /// Order of the activations [default: the problem's, else nchw]
    #[arg(long, value_enum)]
    pub layout: Option<LayoutArg>,
    /// Mode of f32 multiplication [default: the problem's, else strict]
    #[arg(long, value_enum)]
    pub math: Option<MathArg>,
}

/// Problems, for the commands that take several.
#[derive(Args, Debug)]
pub struct ProblemsArgs {
    /// Problems in benchdnn notation (`explain` shows one), shape files, or FILE:LINE
    #[arg(required = true, value_name = "PROBLEM|FILE")]
    pub problems: Vec<String>,
    /// Images per batch [default: the problem's]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub batch: Option<usize>,
    /// Type of the tensors [default: the problem's, else f32]
    #[arg(long, value_enum)]
    pub dtype: Option<DTypeArg>,
    /// Order of the activations [default: the problem's, else nchw]
    #[arg(long, value_enum)]
    pub layout: Option<LayoutArg>,
    /// Order of the filters [default: the problem's, else kcrs]
    #[arg(long, value_enum)]
    pub filter_layout: Option<FilterLayoutArg>,
    /// Mode of f32 multiplication [default: the problem's, else strict]
    #[arg(long, value_enum)]
    pub math: Option<MathArg>,
}

/// Options of `counters`.
#[derive(Args, Debug)]
pub struct CountersArgs {
    /// Problems.
    #[command(flatten)]
    pub problems: ProblemsArgs,
    /// Only this kernel (an id, as `explain` prints it) instead of the plan's choice
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    pub kernel: Option<String>,
    /// Every kernel that accepts, the plan's choice first
    #[arg(long)]
    pub all: bool,
    /// Split-K, the number of partial sums per output tile [default: the plan's]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub split_k: Option<u32>,
    /// Skip problems with more multiplications than this (suffixes K, M, G)
    #[arg(long, value_name = "COUNT", default_value = "1G", value_parser = count)]
    pub max_macs: u64,
    /// Do not look for ptxas and nvdisasm
    #[arg(long)]
    pub no_machine_code: bool,
}

/// Options of `tune`.
#[derive(Args, Debug)]
pub struct TuneArgs {
    /// Problems.
    #[command(flatten)]
    pub problems: ProblemsArgs,
    /// Quantity to compare; required on the emulator, which has no times
    #[arg(long, value_enum, default_value_t)]
    pub by: ByArg,
    /// Number of samples, whose median counts
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = at_least_one)]
    pub samples: usize,
    /// Maximum workspace of a plan in bytes (suffixes K, M, G: powers of ten) [default: the limit
    /// of plans]
    #[arg(long, value_name = "BYTES", value_parser = count)]
    pub workspace: Option<u64>,
    /// Do not store the results
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `calibrate`.
#[derive(Args, Debug)]
pub struct CalibrateArgs {
    /// results.tar.gz of `run-all`, or a file of rows that the benchmarks wrote (JSON lines)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Tuning file to write; the card's earlier factors there are replaced [default: that of
    /// --tuning]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Leave out rows whose id contains this text; several times for several texts
    #[arg(long, value_name = "TEXT")]
    pub exclude: Vec<String>,
    /// Also take rows of another build of this crate, whose kernels may be others
    #[arg(long)]
    pub any_build: bool,
    /// Do not store the factors
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `nets`.
#[derive(Args, Debug)]
pub struct NetsArgs {
    /// Only networks whose name begins with one of these [default: all]
    #[arg(value_name = "NETWORK")]
    pub networks: Vec<String>,
    /// Type of the tensors [default: bf16, with --check f32]
    #[arg(long, value_enum)]
    pub dtype: Option<DTypeArg>,
    /// Images per batch, measured on a GPU, predicted elsewhere [default: 128]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub batch: Option<usize>,
    /// Rows and columns of the image that is checked [default: on the emulator full size where that
    /// is fast enough, else a small one; on a GPU a small one]
    #[arg(long, value_name = "PIXELS", value_parser = at_least_one)]
    pub size: Option<usize>,
    /// Path of the chart, or `none`
    #[arg(long, value_name = "FILE", default_value = "nets.svg")]
    pub svg: String,
    /// Count and predict only, run nothing
    #[arg(long)]
    pub count_only: bool,
    /// Compute the network stored in FOLDER at full size, and compare logits and every layer's
    /// statistics; a second time with fused launches where there are kernels for them
    #[arg(long, value_name = "FOLDER")]
    pub check: Option<PathBuf>,
}

/// Options of `classify`.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("filters").required(true)))]
pub struct ClassifyArgs {
    /// A PNG or JPEG file
    #[arg(required = true, value_name = "PICTURE")]
    pub picture: PathBuf,
    /// SqueezeNet 1.1's weights: a safetensors file with torchvision's names, or a folder of the
    /// package ndf's arrays
    #[arg(long, value_name = "FILE|FOLDER", group = "filters")]
    pub weights: Option<PathBuf>,
    /// Draw weights by seed: the classes are meaningless, but everything is computed
    #[arg(long, group = "filters")]
    pub random: bool,
    /// The names of the 1000 classes, one per line
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Type of the tensors [default: f32]
    #[arg(long, value_enum)]
    pub dtype: Option<DTypeArg>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_bottleneck() {
        let cli =
            Cli::try_parse_from(["warpconv", "--device", "emulator:80"]).expect("valid arguments");
        assert!(matches!(
            cli.command.unwrap_or_default(),
            Command::Bottleneck(_)
        ));
    }

    #[test]
    fn nothing_to_check_is_refused() {
        for line in [
            ["bottleneck", "--batch", "0"],
            ["bottleneck", "--size", "0"],
        ] {
            let parsed = Cli::try_parse_from(["warpconv"].iter().chain(&line));
            assert!(parsed.is_err(), "{line:?}");
        }
        for option in ["--batch", "--images"] {
            let line = ["warpconv", "verify", "cases", option];
            assert!(Cli::try_parse_from(line.iter().chain(&["0"])).is_err());
            assert!(Cli::try_parse_from(line.iter().chain(&["1"])).is_ok());
        }
    }
}
