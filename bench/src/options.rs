//! The benchmarks' options. The command line is criterion's, so they come from the environment.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use warpconv::kernels::Math;
use warpconv::{DType, Layout};

/// Storage type and math mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// f32 on CUDA cores.
    F32,
    /// f32 stored, three tf32 products each.
    Tf32x3,
    /// f32 stored, tf32 products.
    Tf32,
    /// f16.
    F16,
    /// bf16.
    Bf16,
}

impl Kind {
    /// All kinds.
    pub const ALL: &[Kind] = &[Kind::F32, Kind::Tf32x3, Kind::Tf32, Kind::F16, Kind::Bf16];

    /// The storage type.
    pub fn dtype(self) -> DType {
        match self {
            Kind::F32 | Kind::Tf32x3 | Kind::Tf32 => DType::F32,
            Kind::F16 => DType::F16,
            Kind::Bf16 => DType::Bf16,
        }
    }

    /// The math mode.
    pub fn math(self) -> Math {
        match self {
            Kind::Tf32x3 => Math::Tf32x3,
            Kind::Tf32 => Math::Tf32,
            _ => Math::Strict,
        }
    }

    /// The name in ids and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::F32 => "f32",
            Kind::Tf32x3 => "tf32x3",
            Kind::Tf32 => "tf32",
            Kind::F16 => "f16",
            Kind::Bf16 => "bf16",
        }
    }
}

/// Options of the benchmarks: WARPCONV_BENCH="--quick --type bf16" cargo bench
///
/// The command line is criterion's: filters, --save-baseline, --baseline, --list.
#[derive(Clone, Debug, Parser)]
#[command(name = "WARPCONV_BENCH", no_binary_name = true)]
pub struct Options {
    /// Only these batches, with commas [default: the benchmark's own]
    #[arg(long, value_delimiter = ',')]
    pub batch: Vec<usize>,
    /// Only these types, with commas [default: the benchmark's own]
    #[arg(long = "type", value_enum, value_delimiter = ',')]
    pub kinds: Vec<Kind>,
    /// Only these layouts, with commas: nhwc, nchw [default: both; of modules the one that goes
    /// with the type, both if full]
    #[arg(long, value_delimiter = ',', value_parser = layout)]
    pub layout: Vec<Layout>,
    /// Problems from files in benchdnn notation in place of the networks' layers
    #[arg(long, value_delimiter = ',')]
    pub shapes: Vec<PathBuf>,
    /// A few problems, fewer samples, fewer of cuDNN's plans
    #[arg(long)]
    pub quick: bool,
    /// Every network, batch and type
    #[arg(long, conflicts_with = "quick")]
    pub full: bool,
    /// One copy of the operands, so that what fits the L2 cache stays in it between launches
    #[arg(long)]
    pub warm: bool,
    /// Skip problems of more multiplications [default: none on a GPU; on the emulator 20 million,
    /// of graphs 400 million]
    #[arg(long)]
    pub max_macs: Option<u64>,
    /// Seconds that the search through cuDNN's plans may take for a row [default: 2, 1 if quick, 5
    /// if full]
    #[arg(long)]
    pub cudnn_seconds: Option<f64>,
    /// MiB of workspace that a plan of cuDNN may take
    #[arg(long, default_value_t = 1024)]
    pub cudnn_workspace: u64,
    /// Leave cuDNN out
    #[arg(long)]
    pub no_cudnn: bool,
    /// Only these rows, with commas, such as layers/googlenet/conv2/n128/bf16/nhwc or
    /// bottleneck/252/n128/bf16/nhwc
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["shapes", "batch", "kinds", "layout"])]
    pub row: Vec<String>,
    /// Only the rows that a file names, such as benches/first_run.txt
    #[arg(long, conflicts_with_all = ["shapes", "batch", "kinds", "layout"])]
    pub rows: Option<PathBuf>,
    /// Plan without these kernels, with commas
    #[arg(long, value_delimiter = ',')]
    pub exclude: Vec<String>,
}

/// The environment variable that holds the options.
pub const OPTIONS_VARIABLE: &str = "WARPCONV_BENCH";

/// The environment variable that names the file of rows.
pub const JSON_VARIABLE: &str = "WARPCONV_BENCH_JSON";

fn layout(text: &str) -> Result<Layout, String> {
    let named = Layout::ALL.into_iter().find(|layout| layout.name() == text);
    named.ok_or_else(|| String::from("nhwc or nchw"))
}

impl Options {
    /// Reads the environment; a wrong option ends the program with a message.
    pub fn from_env() -> Options {
        let words = std::env::var(OPTIONS_VARIABLE).unwrap_or_default();
        Options::parse_from(words.split_whitespace())
    }

    /// The batches: those of the options, else the benchmark's own, of which `--quick` takes the
    /// last and `--full` all.
    pub fn batches(&self, usual: &[usize], full: &[usize]) -> Vec<usize> {
        match self {
            _ if !self.batch.is_empty() => self.batch.clone(),
            Options { full: true, .. } => full.to_vec(),
            Options { quick: true, .. } => usual.last().copied().into_iter().collect(),
            _ => usual.to_vec(),
        }
    }

    /// The types: those of the options, else the benchmark's own; `--full` takes all.
    pub fn kinds(&self, usual: &[Kind]) -> Vec<Kind> {
        match self {
            _ if !self.kinds.is_empty() => self.kinds.clone(),
            Options { full: true, .. } => Kind::ALL.to_vec(),
            _ => usual.to_vec(),
        }
    }

    /// The layouts of the options, else both, NHWC first.
    pub fn layouts(&self) -> Vec<Layout> {
        if self.layout.is_empty() {
            vec![Layout::Nhwc, Layout::Nchw]
        } else {
            self.layout.clone()
        }
    }

    /// Time limit in seconds of the search through cuDNN's plans for one record.
    pub fn search_seconds(&self) -> f64 {
        let usual = match self {
            Options { full: true, .. } => 5.0,
            Options { quick: true, .. } => 1.0,
            _ => 2.0,
        };
        self.cudnn_seconds.unwrap_or(usual).max(0.0)
    }
}
