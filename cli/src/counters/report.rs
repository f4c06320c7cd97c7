//! Counters as tables and as JSON.

use ptx_emulator::Class;
use ptx_emulator::counters::{GlobalTraffic, SharedTraffic};
use serde_json::{Value, json};
use warpconv::plan::Capability;
use warpconv::problem::notation::Problem;

use super::machine::Machine;
use super::{Counted, blocks};
use crate::exit::Failure;
use crate::output::{Align, bytes, grouped, number, say, several, table};
use crate::problems::Listed;

/// Number of opcodes of the main loop that are named; the others are summed.
const NAMED_OPCODES: usize = 8;

/// A line of the table: the counter, the least that the problem needs, and a remark.
struct Line {
    what: &'static str,
    counted: String,
    least: String,
    ratio: Option<f64>,
}

impl Line {
    /// A line of a counter and its least value.
    fn of(what: &'static str, counted: u64, least: u64, show: fn(u64) -> String) -> Line {
        Line {
            what,
            counted: show(counted),
            least: show(least),
            ratio: ratio(counted as f64, least as f64),
        }
    }

    /// A line of sectors per request, and the least number that holds the same bytes.
    fn sectors(what: &'static str, traffic: &GlobalTraffic) -> Option<Line> {
        let (found, least) = sectors_a_request(traffic)?;
        Some(Line {
            what,
            counted: format!("{found:.2}"),
            least: format!("{least:.2}"),
            ratio: ratio(found, least),
        })
    }

    /// A line of wavefronts, and their number without bank conflicts.
    fn wavefronts(what: &'static str, traffic: &SharedTraffic) -> Option<Line> {
        let least = traffic.wavefronts.checked_sub(traffic.conflicts)?;
        (traffic.requests > 0).then(|| Line::of(what, traffic.wavefronts, least, grouped))
    }
}

/// Ratio of the counter to its least value.
fn ratio(counted: f64, least: f64) -> Option<f64> {
    (least > 0.0).then(|| counted / least)
}

/// Sectors per request, and the least number that holds the same bytes.
fn sectors_a_request(traffic: &GlobalTraffic) -> Option<(f64, f64)> {
    let requests = traffic.requests as f64;
    (traffic.requests > 0).then(|| {
        (
            traffic.sectors as f64 / requests,
            traffic.bytes as f64 / 32.0 / requests,
        )
    })
}

/// Prints the counters of one plan.
pub fn print(counted: &Counted, capability: &Capability) -> Result<(), Failure> {
    let kernel = counted.kernel.kernel();
    say(format_args!(
        "kernel:  {}{}, {} of {} threads, {} of shared memory per block, {}",
        kernel.name(),
        match counted.split_k {
            1 => String::new(),
            split_k => format!(" in {split_k} splits"),
        },
        several(u64::from(counted.grid), "block"),
        counted.block,
        bytes(u64::from(counted.shared_bytes)),
        several(counted.launches.len() as u64, "launch")
    ))?;
    if counted.launches.len() > 1 {
        for launch in &counted.launches {
            say(format_args!(
                "         {}: {}, {} of device memory, {} instructions of warps",
                launch.kernel,
                several(blocks(launch), "block"),
                bytes(launch.counters.device_bytes()),
                grouped(launch.counters.instructions().warp)
            ))?;
        }
    }
    let rows = lines(counted).into_iter().map(|line| {
        vec![
            line.what.to_owned(),
            line.counted,
            line.least,
            line.ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]
    });
    say(table(
        &[
            ("counter", Align::Left),
            ("counted", Align::Right),
            ("at least", Align::Right),
            ("times", Align::Right),
        ],
        rows.collect(),
    ))?;
    say(format_args!("instructions of warps: {}", classes(counted)))?;
    print_machine(counted, capability)?;
    print_prediction(counted)
}

/// The lines of the table.
fn lines(counted: &Counted) -> Vec<Line> {
    let (totals, least) = (&counted.totals, &counted.least);
    let loads = &totals.global_loads;
    let stores = &totals.global_stores;
    let mut lines = vec![
        Line::of(
            "device memory read, each sector once per launch",
            totals.device_bytes_read,
            least.read,
            bytes,
        ),
        Line::of(
            "device memory written, likewise",
            totals.device_bytes_written,
            least.written,
            bytes,
        ),
        Line::of(
            "device memory, both",
            totals.device_bytes(),
            least.read + least.written,
            bytes,
        ),
    ];
    if counted.part_bytes > 0 {
        // Usually in the caches, but counted as device memory.
        let parts = counted.part_bytes;
        lines.push(Line::of("of that, sums of shared tiles", parts, 0, bytes));
        lines.push(Line::of(
            "device memory without these",
            totals.device_bytes().saturating_sub(parts),
            least.read + least.written,
            bytes,
        ));
    }
    lines.push(Line::of(
        "bytes that threads access",
        loads.bytes + stores.bytes,
        least.read + least.written,
        bytes,
    ));
    lines.extend(Line::sectors("sectors per request, loads", loads));
    lines.extend(Line::sectors("sectors per request, stores", stores));
    lines.extend(Line::wavefronts(
        "shared memory wavefronts, loads",
        &totals.shared_loads,
    ));
    lines.extend(Line::wavefronts(
        "shared memory wavefronts, stores",
        &totals.shared_stores,
    ));
    let conflicts = totals.shared_loads.conflicts + totals.shared_stores.conflicts;
    if totals.shared_loads.requests + totals.shared_stores.requests > 0 {
        lines.push(Line::of("bank conflicts", conflicts, 0, grouped));
    }
    if least.macs > 0 {
        let fma = 32 * totals.class(Class::FmaF32).warp;
        if fma >= least.macs || counted.matrix_macs() == 0 {
            lines.push(Line::of(
                "multiply-adds on CUDA cores, idle lanes too",
                fma,
                least.macs,
                grouped,
            ));
        }
        if counted.matrix_macs() > 0 {
            lines.push(Line::of(
                "multiply-adds on tensor cores",
                counted.matrix_macs(),
                counted.least_matrix_macs(),
                grouped,
            ));
        }
    }
    lines
}

/// Text of the instructions by class, the most frequent first.
fn classes(counted: &Counted) -> String {
    let all = counted.totals.instructions().warp;
    let mut classes: Vec<(Class, u64)> = Class::ALL
        .into_iter()
        .map(|class| (class, counted.totals.class(class).warp))
        .filter(|&(_, warps)| warps > 0)
        .collect();
    classes.sort_by_key(|&(_, warps)| std::cmp::Reverse(warps));
    let parts = classes.into_iter().map(|(class, warps)| {
        format!(
            "{} {} ({:.1}%)",
            class.name(),
            grouped(warps),
            100.0 * warps as f64 / all as f64
        )
    });
    format!("{}: {}", grouped(all), parts.collect::<Vec<_>>().join(", "))
}

/// Prints the figures of the machine code.
fn print_machine(counted: &Counted, capability: &Capability) -> Result<(), Failure> {
    let machine = match &counted.machine {
        None => return Ok(()),
        Some(Err(why)) => return say(format_args!("machine code: not looked at: {why}")),
        Some(Ok(machine)) => machine,
    };
    let occupancy = counted.occupancy.map_or_else(String::new, |found| {
        format!(
            ", {} per multiprocessor at a time ({} of {} warps, limited by {})",
            several(u64::from(found.blocks), "block"),
            found.warps,
            found.most_warps,
            found.limit
        )
    });
    let (major, minor) = capability.version();
    say(format_args!(
        "machine code for {}: {} registers, {} bytes spilled, {} bytes of stack{occupancy} on \
         {major}.{minor}",
        machine.arch, machine.registers, machine.spill_bytes, machine.stack_bytes
    ))?;
    if machine.main_loop.is_empty() {
        return Ok(());
    }
    say(format_args!("main loop: {}", mix(machine)))
}

/// Text of the main loop's instruction mix.
fn mix(machine: &Machine) -> String {
    let all = machine.loop_length();
    let share = |count: u32| 100.0 * f64::from(count) / f64::from(all.max(1));
    let mut parts: Vec<String> = machine
        .main_loop
        .iter()
        .take(NAMED_OPCODES)
        .map(|(name, count)| format!("{name} {count} ({:.1}%)", share(*count)))
        .collect();
    let rest: u32 = machine
        .main_loop
        .iter()
        .skip(NAMED_OPCODES)
        .map(|(_, count)| count)
        .sum();
    if rest > 0 {
        parts.push(format!("others {rest} ({:.1}%)", share(rest)));
    }
    format!("{all} instructions: {}", parts.join(", "))
}

/// Prints the prediction.
fn print_prediction(counted: &Counted) -> Result<(), Failure> {
    let prediction = &counted.prediction;
    let parts = prediction
        .parts
        .iter()
        .filter(|part| part.us > 0.0)
        .map(|part| format!("{} {:.2}", part.what, part.us));
    say(format_args!(
        "predicted on an H200: {:.2} us, bound by {} ({} us; cost model {:.2} us): a prediction, \
         not a measurement",
        prediction.us,
        prediction.bound,
        parts.collect::<Vec<_>>().join(", "),
        counted.model_us
    ))
}

/// Converts one plan's counters to JSON.
pub fn to_json(counted: &Counted, listed: &Listed) -> Value {
    let (totals, least) = (&counted.totals, &counted.least);
    let global = |traffic: &GlobalTraffic| {
        let found = sectors_a_request(traffic);
        json!({
            "requests": traffic.requests,
            "sectors": traffic.sectors,
            "bytes": traffic.bytes,
            "sectors_a_request": number(found.map(|(found, _)| found)),
            "least_sectors_a_request": number(found.map(|(_, least)| least)),
        })
    };
    let shared = |traffic: &SharedTraffic| {
        json!({
            "requests": traffic.requests,
            "wavefronts": traffic.wavefronts,
            "conflicts": traffic.conflicts,
        })
    };
    let classes = Class::ALL.into_iter().map(|class| {
        let ran = totals.class(class);
        (
            class.name().to_owned(),
            json!({"warp": ran.warp, "thread": ran.thread}),
        )
    });
    let problem = match &listed.problem {
        Problem::Conv(conv) => conv.to_string(),
        Problem::Pool(pool) => pool.to_string(),
    };
    json!({
        "problem": problem,
        "name": listed.name,
        "kernel": counted.kernel.kernel().name(),
        "splits": counted.split_k,
        "part_bytes": counted.part_bytes,
        "grid": counted.grid,
        "block": counted.block,
        "shared_bytes": counted.shared_bytes,
        "launches": counted.launches.iter().map(|launch| json!({
            "kernel": launch.kernel,
            "blocks": blocks(launch),
            "device_bytes": launch.counters.device_bytes(),
            "warp_instructions": launch.counters.instructions().warp,
        })).collect::<Vec<_>>(),
        "device_bytes_read": totals.device_bytes_read,
        "device_bytes_written": totals.device_bytes_written,
        "least_bytes_read": least.read,
        "least_bytes_written": least.written,
        "device_bytes_ratio": number(ratio(
            totals.device_bytes() as f64,
            (least.read + least.written) as f64,
        )),
        "global_loads": global(&totals.global_loads),
        "global_stores": global(&totals.global_stores),
        "shared_loads": shared(&totals.shared_loads),
        "shared_stores": shared(&totals.shared_stores),
        "macs": least.macs,
        "fma_f32_macs": 32 * totals.class(Class::FmaF32).warp,
        "matrix_macs": counted.matrix_macs(),
        "least_matrix_macs": counted.least_matrix_macs(),
        "instructions": classes.collect::<serde_json::Map<_, _>>(),
        "machine_code": machine_json(counted),
        "predicted": {
            "card": "H200",
            "us": number(Some(counted.prediction.us)),
            "bound": counted.prediction.bound,
            "parts_us": counted.prediction.parts.iter()
                .map(|part| (part.what.to_owned(), number(Some(part.us))))
                .collect::<serde_json::Map<_, _>>(),
            "cost_model_us": number(Some(counted.model_us)),
        },
    })
}

/// Machine code of the kernel as JSON; null if it was not examined.
fn machine_json(counted: &Counted) -> Value {
    let Some(Ok(machine)) = &counted.machine else {
        return Value::Null;
    };
    json!({
        "arch": machine.arch,
        "registers": machine.registers,
        "spill_bytes": machine.spill_bytes,
        "stack_bytes": machine.stack_bytes,
        "blocks_a_multiprocessor": counted.occupancy.map(|found| found.blocks),
        "warps_a_multiprocessor": counted.occupancy.map(|found| found.warps),
        "occupancy_limit": counted.occupancy.map(|found| found.limit),
        "main_loop": machine.main_loop.iter()
            .map(|(name, count)| (name.clone(), json!(count)))
            .collect::<serde_json::Map<_, _>>(),
    })
}
