//! Loading and launching a damaged program.

use super::mutate::{NUMBERS_OF_LAUNCHES, Random, Source};
use ptx_emulator::{Device, DeviceConfig, FaultKind, LaunchConfig, Module};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Outcomes of texts.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub refused: u64,
    pub clean: u64,
    pub faults: u64,
    /// Of the faults: time limits.
    pub timeouts: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.refused += other.refused;
        self.clean += other.clean;
        self.faults += other.faults;
        self.timeouts += other.timeouts;
    }
}

/// Outcome of one text.
#[derive(Default)]
pub struct Found {
    pub count: Counts,
    /// The emulator's own failure, if it reports one.
    pub internal: Option<String>,
}

/// Text of the emulator about a panic of its own.
const INTERNAL: &str = "internal error of the emulator";

/// Runs a text; an error is a panic that came through.
pub fn run(text: &str, source: &Source, random: &mut Random) -> Result<Found, String> {
    catch_unwind(AssertUnwindSafe(|| try_run(text, source, random))).map_err(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_default()
    })
}

fn try_run(text: &str, source: &Source, random: &mut Random) -> Found {
    let mut found = Found::default();
    let refuse = |message: String| {
        let internal = message.contains(INTERNAL).then_some(message);
        Found {
            count: Counts {
                refused: 1,
                ..Counts::default()
            },
            internal,
        }
    };
    let module = match Module::parse(text) {
        Ok(module) => module,
        Err(error) => return refuse(error.to_string()),
    };
    let sm = module.program().target.clamp(75, 90);
    let device = Device::new(DeviceConfig {
        memory_bytes: 16 << 20,
        workers: Some(1 + random.below(2)),
        instruction_limit: 3000,
        time_limit: Some(Duration::from_millis(300)),
        print_bytes: 4096,
        ..DeviceConfig::new(sm)
    });
    let loaded = match device.load(&module) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(error.to_string()),
    };
    let params = parameters(&device, random);
    for kernel in loaded.kernel_names().take(4) {
        let Some(handle) = loaded.kernel(kernel) else {
            continue;
        };
        let config = launch_config(&source.text, kernel, random);
        let wanted = handle.kernel().param_bytes as usize;
        let mut given = params.repeat(wanted / params.len() + 1);
        given.truncate(wanted);
        let launched = if random.below(16) == 0 && config.blocks() <= 4 {
            device.launch_cooperative(&handle, config, &given)
        } else {
            device.launch(&handle, config, &given)
        };
        match launched {
            Ok(_) => found.count.clean += 1,
            Err(fault) => {
                found.count.faults += 1;
                match *fault.kind {
                    FaultKind::Internal(_) => found.internal = Some(fault.to_string()),
                    FaultKind::TimeLimit { .. } => found.count.timeouts += 1,
                    _ => {}
                }
                // The report itself must not fail.
                assert!(!fault.to_string().is_empty());
            }
        }
    }
    found
}

/// Parameters: addresses of buffers, with small numbers among them.
fn parameters(device: &Device, random: &mut Random) -> Vec<u8> {
    let memory = device.memory();
    let mut params = Vec::new();
    for index in 0..8 {
        let address = memory.alloc(65536).expect("a small buffer");
        if random.below(8) > 0 {
            memory
                .write(address, &[index; 65536])
                .expect("inside the buffer");
        }
        let value = match random.below(8) {
            0 => *random.pick(&NUMBERS_OF_LAUNCHES),
            _ => address,
        };
        params.extend(value.to_le_bytes());
    }
    params
}

/// The shape that the program requires, mostly.
fn launch_config(text: &str, kernel: &str, random: &mut Random) -> LaunchConfig {
    let mut config = LaunchConfig::linear(
        1 + random.below(3) as u32,
        *random.pick(&[1, 32, 33, 128, 256]),
    );
    let directive = text.lines().find_map(|line| {
        let words: Vec<&str> = line
            .strip_prefix("//! launch ")?
            .split_whitespace()
            .collect();
        (words.first() == Some(&kernel)).then_some(words)
    });
    if let Some(words) = directive {
        let sizes = |text: &str| {
            let mut sizes = [1; 3];
            for (size, word) in sizes.iter_mut().zip(text.split(',')) {
                *size = word.parse().unwrap_or(1);
            }
            sizes
        };
        config.grid = sizes(words.get(1).unwrap_or(&"1"));
        config.block = sizes(words.get(2).unwrap_or(&"32"));
        config.shared_bytes = words.get(3).and_then(|word| word.parse().ok()).unwrap_or(0);
    }
    match random.below(24) {
        0 => config.grid[random.below(3)] = *random.pick(&NUMBERS_OF_LAUNCHES) as u32,
        1 => config.block[random.below(3)] = *random.pick(&NUMBERS_OF_LAUNCHES) as u32,
        2 => config.shared_bytes = *random.pick(&NUMBERS_OF_LAUNCHES) as u32,
        _ => {}
    }
    config
}
