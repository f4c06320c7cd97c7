//! Records of a benchmark and of its run, as JSON lines. The benchmarks write them; their report
//! and the command line read them.

use serde_json::{Value, json};
use warpconv::plan::Capability;

/// The version of the format; lines of other versions are ignored.
pub const FORMAT: u64 = 1;

/// A benchmark's run: device, driver, date and settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Name of the benchmark.
    pub bench: String,
    /// The card's name.
    pub device: String,
    /// True on the emulator: then no row has a time.
    pub emulated: bool,
    /// The driver's CUDA version: 12040 is 12.4.
    pub driver: u64,
    /// The card's capability; `None` in records of earlier versions.
    pub capability: Option<Capability>,
    /// The build that measured, as [`Tuning::build`](warpconv::plan::Tuning::build) names it; empty
    /// in records of earlier versions.
    pub build: String,
    /// The commit of the build, if it is known.
    pub commit: String,
    /// Date and time in UTC.
    pub date: String,
    /// cuDNN's version, or the reason why there is none.
    pub cudnn: String,
    /// Source of the peak rates.
    pub peak_rates: String,
    /// Cache state of the operands over a chain of launches.
    pub cache: String,
}

/// cuDNN's part of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CudnnRecord {
    /// Microseconds of its best plan, bias and ReLU included.
    pub us: Option<f64>,
    /// Name of the best plan.
    pub plan: String,
    /// True if bias and ReLU are in its kernel; otherwise they are separate kernels, whose time
    /// `us` includes.
    pub fused: bool,
    /// Microseconds of its best plan without a Winograd or Fourier transform, if the best plan has
    /// one.
    pub direct_us: Option<f64>,
    /// Microseconds of single kernels: the convolution alone, bias and ReLU, layout transposes.
    pub parts: Vec<(String, f64)>,
    /// Number of plans that were timed.
    pub timed: u64,
    /// Remark, such as the reason why there is no time.
    pub note: String,
}

/// One measurement, with its problem, kernel, roofline and cuDNN's result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Id: network/layer/batch/type/layout.
    pub id: String,
    /// The problem in benchdnn notation; empty for a module.
    pub problem: String,
    /// Name of the family.
    pub family: String,
    /// Number of images.
    pub batch: u64,
    /// Kind: f32, tf32x3, tf32, f16, bf16.
    pub kind: String,
    /// Layout: nhwc or nchw.
    pub layout: String,
    /// Name of the kernel, or names of the kernels.
    pub kernel: String,
    /// Names of the excluded kernels that the plan would have taken; empty if there is none.
    pub instead_of: String,
    /// The numbers that the launches were timed or counted with.
    pub operands: String,
    /// Number of multiply-adds.
    pub macs: u64,
    /// Least number of bytes moved.
    pub bytes: u64,
    /// Time of the roofline, microseconds.
    pub floor_us: f64,
    /// Name of the roofline's bound: arithmetic or memory.
    pub bound: String,
    /// Waves of the launch: its blocks divided by those that the card holds at a time, rounded up.
    pub blocks_per_sm: u64,
    /// Microseconds of a launch, the median of the samples; `None` on the emulator.
    pub us: Option<f64>,
    /// The distance between the samples' quartiles, as a share of the median.
    pub spread: Option<f64>,
    /// Instructions of all threads, on the emulator; otherwise `None`.
    pub instructions: Option<u64>,
    /// The SM clock after the samples, MHz.
    pub sm_mhz: Option<u64>,
    /// cuDNN's part of the record.
    pub cudnn: CudnnRecord,
}

impl Row {
    /// Ratio of the roofline's time to the measured time.
    pub fn share(&self) -> Option<f64> {
        self.us.map(|us| self.floor_us / us)
    }

    /// Ratio of cuDNN's time to ours.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.cudnn.us? / self.us?)
    }
}

/// A row that was not measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Skipped {
    /// Id of the row.
    pub id: String,
    /// The reason.
    pub why: String,
}

/// A rate of the card: measured by `benches/ceilings.rs`, or taken from the table of peak rates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ceiling {
    /// What is measured: copy, fill, fp32, tf32, half.
    pub name: String,
    /// The rate.
    pub value: f64,
    /// Its unit: B/s or FLOP/s.
    pub unit: String,
    /// Where the number comes from.
    pub note: String,
}

/// A line of a file of records.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The run of the rows that follow.
    Run(Run),
    /// A record.
    Row(Box<Row>),
    /// A row that was not measured.
    Skipped(Skipped),
    /// A rate of the card.
    Ceiling(Ceiling),
}

impl Skipped {
    /// Converts the skipped row to a JSON line.
    pub fn to_json(&self) -> Value {
        json!({ "kind": "skipped", "format": FORMAT, "id": self.id, "why": self.why })
    }

    fn of(line: &Value) -> Option<Skipped> {
        Some(Skipped {
            id: line["id"].as_str()?.to_owned(),
            why: string(line, "why"),
        })
    }
}

impl Ceiling {
    /// Converts the rate to a JSON line.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": "ceiling", "format": FORMAT, "name": self.name, "value": self.value,
            "unit": self.unit, "note": self.note,
        })
    }

    fn of(line: &Value) -> Option<Ceiling> {
        Some(Ceiling {
            name: line["name"].as_str()?.to_owned(),
            value: time(&line["value"])?,
            unit: string(line, "unit"),
            note: string(line, "note"),
        })
    }
}

impl Run {
    /// Converts the run to a JSON line.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": "run", "format": FORMAT, "bench": self.bench, "device": self.device,
            "emulated": self.emulated,
            "driver": self.driver, "capability": self.capability.as_ref().map(capability_json),
            "build": self.build, "commit": self.commit, "date": self.date, "cudnn": self.cudnn,
            "ceilings": self.peak_rates, "cache": self.cache,
        })
    }

    fn of(line: &Value) -> Run {
        let text = |key| string(line, key);
        Run {
            bench: text("bench"),
            device: text("device"),
            emulated: line["emulated"].as_bool().unwrap_or(false),
            driver: line["driver"].as_u64().unwrap_or(0),
            capability: capability(&line["capability"]),
            build: text("build"),
            commit: text("commit"),
            date: text("date"),
            cudnn: text("cudnn"),
            peak_rates: text("ceilings"),
            cache: text("cache"),
        }
    }
}

impl CudnnRecord {
    fn to_json(&self) -> Value {
        let parts: Vec<Value> = self
            .parts
            .iter()
            .map(|(name, us)| json!([name, us]))
            .collect();
        json!({
            "us": self.us, "plan": self.plan, "fused": self.fused, "direct_us": self.direct_us,
            "parts": parts,
            "timed": self.timed, "note": self.note,
        })
    }

    fn of(value: &Value) -> CudnnRecord {
        let parts = value["parts"].as_array().map_or(&[][..], Vec::as_slice);
        CudnnRecord {
            us: time(&value["us"]),
            plan: string(value, "plan"),
            fused: value["fused"].as_bool().unwrap_or(false),
            direct_us: time(&value["direct_us"]),
            parts: parts
                .iter()
                .filter_map(|part| Some((part[0].as_str()?.to_owned(), time(&part[1])?)))
                .collect(),
            timed: value["timed"].as_u64().unwrap_or(0),
            note: string(value, "note"),
        }
    }
}

impl Row {
    /// Converts the record to a JSON line.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": "row", "format": FORMAT, "id": self.id, "problem": self.problem,
            "family": self.family,
            "batch": self.batch, "type": self.kind, "layout": self.layout, "kernel": self.kernel,
            "instead_of": self.instead_of, "operands": self.operands,
            "macs": self.macs,
            "bytes": self.bytes, "floor_us": self.floor_us, "bound": self.bound,
            "turns": self.blocks_per_sm, "us": self.us,
            "spread": self.spread, "instructions": self.instructions, "sm_mhz": self.sm_mhz,
            "share": self.share(), "ratio": self.ratio(), "peer": self.cudnn.to_json(),
        })
    }

    fn of(line: &Value) -> Option<Row> {
        let text = |key| string(line, key);
        let count = |key: &str| line[key].as_u64();
        Some(Row {
            id: line["id"].as_str()?.to_owned(),
            problem: text("problem"),
            family: text("family"),
            batch: count("batch")?,
            kind: text("type"),
            layout: text("layout"),
            kernel: text("kernel"),
            instead_of: text("instead_of"),
            operands: text("operands"),
            macs: count("macs")?,
            bytes: count("bytes")?,
            floor_us: time(&line["floor_us"])?,
            bound: text("bound"),
            blocks_per_sm: count("turns").unwrap_or(0),
            us: time(&line["us"]),
            spread: line["spread"].as_f64(),
            instructions: count("instructions"),
            sm_mhz: count("sm_mhz"),
            cudnn: CudnnRecord::of(&line["peer"]),
        })
    }
}

/// Parses a line of a file of records; `None` for other lines, and for lines of another version.
pub fn parse(line: &str) -> Option<Line> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["format"].as_u64() != Some(FORMAT) {
        return None;
    }
    match line["kind"].as_str()? {
        "run" => Some(Line::Run(Run::of(&line))),
        "row" => Row::of(&line).map(|row| Line::Row(Box::new(row))),
        "skipped" => Skipped::of(&line).map(Line::Skipped),
        "ceiling" => Ceiling::of(&line).map(Line::Ceiling),
        _ => None,
    }
}

/// Converts a card's capability to JSON.
fn capability_json(capability: &Capability) -> Value {
    json!({
        "major": capability.major, "minor": capability.minor, "sm_count": capability.sm_count,
        "shared_per_block": capability.shared_per_block,
        "shared_per_block_optin": capability.shared_per_block_optin,
        "shared_per_sm": capability.shared_per_sm,
        "registers_per_sm": capability.registers_per_sm,
        "max_threads_per_sm": capability.max_threads_per_sm,
        "max_threads_per_block": capability.max_threads_per_block,
        "max_grid_x": capability.max_grid_x, "clock_khz": capability.clock_khz,
    })
}

/// Reads a capability; `None` if a figure of it is missing.
fn capability(value: &Value) -> Option<Capability> {
    let figure = |key: &str| u32::try_from(value[key].as_u64()?).ok();
    let mut capability = Capability::h200();
    for (key, field) in [
        ("major", &mut capability.major),
        ("minor", &mut capability.minor),
        ("sm_count", &mut capability.sm_count),
        ("shared_per_block", &mut capability.shared_per_block),
        (
            "shared_per_block_optin",
            &mut capability.shared_per_block_optin,
        ),
        ("shared_per_sm", &mut capability.shared_per_sm),
        ("registers_per_sm", &mut capability.registers_per_sm),
        ("max_threads_per_sm", &mut capability.max_threads_per_sm),
        (
            "max_threads_per_block",
            &mut capability.max_threads_per_block,
        ),
        ("max_grid_x", &mut capability.max_grid_x),
        ("clock_khz", &mut capability.clock_khz),
    ] {
        *field = figure(key)?;
    }
    Some(capability)
}

fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Reads a time or a rate, which must be positive and finite.
fn time(value: &Value) -> Option<f64> {
    value.as_f64().filter(|us| us.is_finite() && *us > 0.0)
}
