//! Small PTX programs, compared with their stored results.
//!
//! The first lines of each `pass/NAME.ptx` and `fail/NAME.ptx` describe its launch. `NAME.expected`
//! beside it has its results or its report, letter by letter. Directives, one per line after `//!`:
//!
//! ```text
//! sm 80                          capability 8.0 (the default)
//! buffer NAME TYPE COUNT FILL    device memory; TYPE u8 u16 u32 s32 u64 s64 b32 f32 f64;
//!                                FILL iota, unset or values
//! free NAME                      free it before the launch
//! arg NAME [OFFSET]              a parameter: the buffer's address and some bytes
//! arg TYPE VALUE                 a parameter: a number
//! cluster SIZE                   blocks of a cluster of the launches after it, as X or X,Y,Z
//! launch NAME GRID BLOCK [SHARED]  sizes as X or X,Y,Z
//! show NAME                      print the buffer afterwards
//! counters                       print what was counted
//! limit COUNT                    limit of instructions per warp
//! ```
//!
//! Each program is a test of its own:
//!
//! ```text
//! cargo test --test programs fail::             # all of a folder
//! cargo test --test programs pass::vector_add   # one, and those named like it
//! UPDATE_EXPECTED=1 cargo test --test programs pass::vector_add
//! ```
//!
//! The last command rewrites the expectation; review the difference.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use ptx_emulator::{Class, Counters, Device, DeviceConfig, LaunchConfig, MatrixKind, Module};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut all = trials("pass", false);
    all.extend(trials("fail", true));
    libtest_mimic::run(&arguments, all).exit_code()
}

/// A test per program of a folder.
fn trials(folder: &str, must_fail: bool) -> Vec<Trial> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder);
    let mut programs: Vec<PathBuf> = std::fs::read_dir(&root)
        .expect("the folder is there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ptx"))
        .collect();
    programs.sort();
    assert!(!programs.is_empty(), "no programs in {}", root.display());
    let trial = |path: PathBuf| {
        let name = path.file_stem().expect("a file").to_string_lossy();
        Trial::test(format!("{folder}::{name}"), move || check(&path, must_fail))
    };
    programs.into_iter().map(trial).collect()
}

/// Runs a program and compares what it shows, or its report, with what is stored.
fn check(path: &Path, must_fail: bool) -> Result<(), Failed> {
    let text = std::fs::read_to_string(path)?;
    let (got, failed) = match run(&text) {
        Ok(shown) => (shown, false),
        Err(report) => (report + "\n", true),
    };
    let expected_path = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&expected_path, &got)?;
    }
    let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
    match failed == must_fail && got == expected {
        true => Ok(()),
        false => Err(Failed::from(format!(
            "{}\n-- expected\n{expected}-- got\n{got}",
            path.display()
        ))),
    }
}

/// A buffer of a program.
struct Buffer {
    address: u64,
    kind: String,
    count: usize,
}

/// Runs a program: what it shows, or the report.
fn run(text: &str) -> Result<String, String> {
    let directives: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let option = |name: &str| {
        directives
            .iter()
            .find(|words| words[0] == name)
            .map(|words| number(words[1]))
    };
    let sm = option("sm").unwrap_or(80) as u32;
    let mut config = DeviceConfig {
        memory_bytes: 1 << 24,
        workers: Some(2),
        ..DeviceConfig::new(sm)
    };
    config.instruction_limit = option("limit").unwrap_or(1_000_000);
    let device = Device::new(config);
    let module = Module::parse(text).map_err(|error| error.to_string())?;
    let loaded = device.load(&module).map_err(|error| error.to_string())?;
    let mut buffers: HashMap<&str, Buffer> = HashMap::new();
    let mut params = Vec::new();
    let mut shown = String::new();
    let mut counters = Counters::default();
    let mut cluster = None;
    for words in &directives {
        match words[..] {
            ["buffer", name, kind, count, ref fill @ ..] => {
                buffers.insert(
                    name,
                    buffer(&device, name, kind, number(count) as usize, fill),
                );
            }
            ["free", name] => device
                .memory()
                .free(buffers[name].address)
                .expect("an allocation"),
            ["arg", first, ref rest @ ..] => argument(&mut params, buffers.get(first), first, rest),
            ["cluster", size] => cluster = Some(sizes(size)),
            ["launch", name, grid, block, ref shared @ ..] => {
                let config = LaunchConfig {
                    grid: sizes(grid),
                    block: sizes(block),
                    shared_bytes: shared.first().map_or(0, |bytes| number(bytes) as u32),
                    cluster,
                };
                let kernel = loaded.kernel(name).expect("the module has the kernel");
                counters = device
                    .launch(&kernel, config, &params)
                    .map_err(|fault| fault.to_string())?;
                params.clear();
            }
            ["show", name] => show(&mut shown, &device, name, &buffers[name]),
            ["counters"] => count(&mut shown, &counters),
            _ => {}
        }
    }
    Ok(shown)
}

/// A whole number, decimal or hexadecimal.
fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|_| {
        text.parse::<i64>()
            .unwrap_or_else(|_| panic!("{text} is no number")) as u64
    })
}

fn sizes(text: &str) -> [u32; 3] {
    let mut sizes = [1; 3];
    for (size, word) in sizes.iter_mut().zip(text.split(',')) {
        *size = number(word) as u32;
    }
    sizes
}

/// Bytes of an element.
fn width(kind: &str) -> usize {
    kind[1..].parse::<usize>().expect("a type") / 8
}

/// The bytes of a number of a type.
fn encode(kind: &str, text: &str) -> Vec<u8> {
    match kind {
        "f32" => text
            .parse::<f32>()
            .expect("a number")
            .to_le_bytes()
            .to_vec(),
        "f64" => text
            .parse::<f64>()
            .expect("a number")
            .to_le_bytes()
            .to_vec(),
        _ => number(text).to_le_bytes()[..width(kind)].to_vec(),
    }
}

fn buffer(device: &Device, name: &str, kind: &str, count: usize, fill: &[&str]) -> Buffer {
    let memory = device.memory();
    let address = memory
        .alloc_labelled((count * width(kind)) as u64, Some(name))
        .expect("enough memory");
    if fill != ["unset"] {
        let element = |index: usize| match fill {
            ["iota"] => encode(kind, &index.to_string()),
            _ => encode(kind, fill[index % fill.len()]),
        };
        let bytes: Vec<u8> = (0..count).flat_map(element).collect();
        memory.write(address, &bytes).expect("inside the buffer");
    }
    Buffer {
        address,
        kind: kind.to_owned(),
        count,
    }
}

/// Appends a parameter, aligned to its size.
fn argument(params: &mut Vec<u8>, buffer: Option<&Buffer>, first: &str, rest: &[&str]) {
    let bytes = match buffer {
        Some(buffer) => {
            let offset = rest.first().map_or(0, |offset| number(offset));
            buffer.address.wrapping_add(offset).to_le_bytes().to_vec()
        }
        None => encode(first, rest[0]),
    };
    params.resize(params.len().next_multiple_of(bytes.len()), 0);
    params.extend(bytes);
}

/// Prints a buffer, eight elements a line.
fn show(out: &mut String, device: &Device, name: &str, buffer: &Buffer) {
    let width = width(&buffer.kind);
    let mut bytes = vec![0; buffer.count * width];
    device
        .memory()
        .read(buffer.address, &mut bytes)
        .expect("inside the buffer");
    let element = |bytes: &[u8]| {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        match buffer.kind.as_str() {
            "f32" => f32::from_bits(bits as u32).to_string(),
            "f64" => f64::from_bits(bits).to_string(),
            "s32" => (bits as i32).to_string(),
            "s64" => (bits as i64).to_string(),
            "b32" => format!("{bits:#010x}"),
            "b64" => format!("{bits:#018x}"),
            _ => bits.to_string(),
        }
    };
    let elements: Vec<String> = bytes.chunks(width).map(element).collect();
    for (index, line) in elements.chunks(8).enumerate() {
        let _ = writeln!(out, "{name}[{}] {}", index * 8, line.join(" "));
    }
}

/// Prints what is not zero.
fn count(out: &mut String, counters: &Counters) {
    for class in Class::ALL {
        let executed = counters.class(class);
        if executed.warp > 0 {
            let _ = writeln!(
                out,
                "{} {} warp, {} thread",
                class.name(),
                executed.warp,
                executed.thread
            );
        }
    }
    for kind in MatrixKind::ALL {
        let work = counters.matrix(kind);
        if work.instructions > 0 {
            let (name, count, adds) = (kind.name(), work.instructions, work.multiply_adds);
            let _ = writeln!(
                out,
                "products of {name}: {count} instructions, {adds} multiply-adds"
            );
        }
    }
    for (name, traffic) in [
        ("global loads", counters.global_loads),
        ("global stores", counters.global_stores),
    ] {
        if traffic.requests > 0 {
            let (requests, sectors, bytes) = (traffic.requests, traffic.sectors, traffic.bytes);
            let _ = writeln!(
                out,
                "{name}: {requests} requests, {sectors} sectors, {bytes} bytes"
            );
        }
    }
    for (name, traffic) in [
        ("shared loads", counters.shared_loads),
        ("shared stores", counters.shared_stores),
    ] {
        if traffic.requests > 0 {
            let (requests, wavefronts, conflicts) =
                (traffic.requests, traffic.wavefronts, traffic.conflicts);
            let _ = writeln!(
                out,
                "{name}: {requests} requests, {wavefronts} wavefronts, {conflicts} conflicts"
            );
        }
    }
    let rest = [
        ("device bytes read", counters.device_bytes_read),
        ("device bytes written", counters.device_bytes_written),
        ("global atomics", counters.global_atomics),
        ("shared atomics", counters.shared_atomics),
        ("barriers", counters.barriers),
        ("divergent branches", counters.divergent_branches),
        ("blocks", counters.blocks),
        ("warps", counters.warps),
        ("threads", counters.threads),
        ("distributed requests", counters.distributed.requests),
        ("distributed bytes", counters.distributed.bytes),
    ];
    for (name, value) in rest.into_iter().filter(|(_, value)| *value > 0) {
        let _ = writeln!(out, "{name}: {value}");
    }
}
