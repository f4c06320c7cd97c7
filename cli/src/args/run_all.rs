//! Arguments of `run-all`.

use std::path::PathBuf;

use clap::Args;

use super::values::minutes;

/// Options of `run-all`.
#[derive(Args, Debug)]
pub struct RunAllArgs {
    /// Minutes that the whole run takes at most [default: 5]
    #[arg(long, value_name = "N", value_parser = minutes)]
    pub minutes: Option<f64>,
    /// As --minutes 2
    #[arg(long, conflicts_with_all = ["minutes", "full"])]
    pub quick: bool,
    /// As --minutes 45, and after the rows the tests, stored cases and benchmarks of the bundle
    #[arg(long, conflicts_with = "minutes")]
    pub full: bool,
    /// Go on from OUTPUT/results.tar.gz: what has a result is not repeated
    #[arg(long)]
    pub resume: bool,
    /// Folder of results.tar.gz and summary.txt
    #[arg(long, value_name = "FOLDER", default_value = "results")]
    pub output: PathBuf,
    /// Unpacked bundle: a folder with benches, watchdog, cubins and ptx [default: that of this
    /// program]
    #[arg(long, value_name = "FOLDER")]
    pub programs: Option<PathBuf>,
    /// Also run these kernels under compute-sanitizer's four tools
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub sanitize: Vec<String>,
    /// Also profile these kernels by ncu
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub profile: Vec<String>,
    /// Leave cuDNN out
    #[arg(long)]
    pub no_cudnn: bool,
    /// Leave these kernels out
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Only kernels whose id contains one of these texts, among canaries and kernels
    #[arg(long, value_name = "TEXT", num_args = 1.., value_delimiter = ',')]
    pub only: Vec<String>,
    /// Seconds after which the checks of a kernel hang [default: 20, 60 on the emulator]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

impl RunAllArgs {
    /// Minutes of the run.
    pub fn minutes(&self) -> f64 {
        match (self.minutes, self.quick, self.full) {
            (Some(minutes), ..) => minutes,
            (None, true, _) => 2.0,
            (None, _, true) => 45.0,
            _ => 5.0,
        }
    }
}
