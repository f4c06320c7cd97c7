//! Settings of the environment, read once.

pub use crate::note::{SILENT, report, say};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::DeviceConfig;
use crate::driver::queue::schedule::Schedule;
use crate::driver::registry::lock;
use crate::driver::status::{CUresult, Result};
use crate::memory::MAX_DEVICES;

/// The settings of this process.
pub struct Config {
    /// Compute capabilities (75, 80, 90): device `i` emulates entry `i`; the last one repeats.
    pub capabilities: Vec<u32>,
    /// Number of devices.
    pub devices: usize,
    /// Memory per device in bytes; `None` for that of the emulated card, at most half of the
    /// machine's.
    pub memory: Option<u64>,
    /// Amount of output on standard error.
    pub log: Log,
    /// Worker threads of a launch; `None` for one per CPU core.
    pub threads: Option<usize>,
    /// Limit of instructions that one warp may execute in a launch.
    pub instructions: u64,
    /// Time limit of a launch; `None` for no limit.
    pub time: Option<Duration>,
    /// The version of the emulated driver, as returned by `cuDriverGetVersion`: 13000 for 13.0.
    pub driver_version: i32,
    /// Policy of starting ready work.
    pub schedule: Schedule,
    /// Treatment of conflicting accesses without order.
    pub order: OrderCheck,
}

/// Values of `PTX_EMULATOR_ORDER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderCheck {
    /// Conflicts are reported and break their context.
    Error,
    /// Conflicts are reported, and work continues.
    Report,
    /// Conflicts are not detected.
    Off,
}

/// Parses `error`, `report` or `off`.
fn order_check(text: &str) -> std::result::Result<OrderCheck, String> {
    match text {
        "error" => Ok(OrderCheck::Error),
        "report" => Ok(OrderCheck::Report),
        "off" => Ok(OrderCheck::Off),
        _ => Err(format!(
            "PTX_EMULATOR_ORDER is {text:?}; it may be error, report or off"
        )),
    }
}

/// Values of `PTX_EMULATOR_LOG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// Reports of faults only.
    Quiet,
    /// Also calls of unsupported functions and calls that fail.
    Failures,
    /// Every call of the driver API.
    All,
}

/// Limits of launches set by the client, in place of the environment's: instructions of a warp, and
/// time.
static LIMITS: Mutex<Option<(u64, Option<Duration>)>> = Mutex::new(None);

/// Limits of one launch: instructions of a warp, and time.
pub fn limits() -> (u64, Option<Duration>) {
    let set = *lock(&LIMITS);
    set.unwrap_or_else(|| match Config::get() {
        Ok(config) => (config.instructions, config.time),
        Err(_) => (
            DeviceConfig::DEFAULT_INSTRUCTION_LIMIT,
            Some(DeviceConfig::DEFAULT_TIME_LIMIT),
        ),
    })
}

/// Sets the limits of later launches.
pub fn set_limits(instructions: u64, time: Option<Duration>) {
    *lock(&LIMITS) = Some((instructions.max(1), time));
}

impl Config {
    /// The settings, or `CUDA_ERROR_NO_DEVICE` if a variable is invalid (reported once on standard
    /// error).
    pub fn get() -> Result<&'static Config> {
        static CONFIG: OnceLock<Option<Config>> = OnceLock::new();
        let config = CONFIG.get_or_init(|| {
            match Config::from_environment(|name| std::env::var(name).ok()) {
                Ok(config) => Some(config),
                Err(message) => {
                    say(&format!("ptx-emulator: {message}"));
                    None
                }
            }
        });
        config.as_ref().ok_or(CUresult::NO_DEVICE)
    }

    fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> std::result::Result<Config, String> {
        let capabilities = match variable("PTX_EMULATOR_SM") {
            Some(list) => list
                .split(',')
                .map(capability)
                .collect::<std::result::Result<Vec<_>, _>>()?,
            None => vec![80],
        };
        let devices = match variable("PTX_EMULATOR_DEVICES") {
            Some(count) => number("PTX_EMULATOR_DEVICES", &count, MAX_DEVICES as usize)?,
            None => capabilities.len(),
        };
        if devices.max(capabilities.len()) > MAX_DEVICES as usize {
            let count = capabilities.len();
            return Err(format!(
                "PTX_EMULATOR_SM names {count} devices; there may be up to {MAX_DEVICES}"
            ));
        }
        let memory = variable("PTX_EMULATOR_MEMORY")
            .map(|size| bytes(&size))
            .transpose()?;
        let log = match variable("PTX_EMULATOR_LOG").as_deref() {
            None | Some("" | "0") => Log::Quiet,
            Some("2" | "all") => Log::All,
            Some(_) => Log::Failures,
        };
        let threads = match variable("PTX_EMULATOR_THREADS") {
            Some(count) => Some(number("PTX_EMULATOR_THREADS", &count, 1024)?.max(1)),
            None => None,
        };
        let instructions = match variable("PTX_EMULATOR_INSTRUCTIONS") {
            Some(count) => instructions(&count)?,
            None => DeviceConfig::DEFAULT_INSTRUCTION_LIMIT,
        };
        let time = match variable("PTX_EMULATOR_SECONDS") {
            Some(time) => seconds(&time)?,
            None => Some(DeviceConfig::DEFAULT_TIME_LIMIT),
        };
        let driver_version = match variable("PTX_EMULATOR_DRIVER") {
            Some(version) => driver_version(&version)?,
            None => 13000,
        };
        let schedule = match variable("PTX_EMULATOR_SCHEDULE") {
            Some(schedule) => Schedule::parse(&schedule)?,
            None => Schedule::Eager,
        };
        let order = match variable("PTX_EMULATOR_ORDER") {
            Some(order) => order_check(&order)?,
            None => OrderCheck::Error,
        };
        Ok(Config {
            schedule,
            order,
            capabilities,
            devices,
            memory,
            log,
            threads,
            instructions,
            time,
            driver_version,
        })
    }
}

/// Parses `75`, `80` or `90`, with an optional dot.
pub fn capability(text: &str) -> std::result::Result<u32, String> {
    match text.trim() {
        "75" | "7.5" => Ok(75),
        "80" | "8.0" => Ok(80),
        "90" | "9.0" => Ok(90),
        other => Err(format!(
            "PTX_EMULATOR_SM is \"{other}\"; it may be 75, 80 or 90, or several of them with commas"
        )),
    }
}

fn number(name: &str, text: &str, most: usize) -> std::result::Result<usize, String> {
    match text.trim().parse() {
        Ok(count) if count <= most => Ok(count),
        _ => Err(format!(
            "{name} is \"{text}\"; it may be a number up to {most}"
        )),
    }
}

/// Parses a number, at least 1.
fn instructions(text: &str) -> std::result::Result<u64, String> {
    let count = text.trim().parse::<u64>().ok();
    count.filter(|&count| count > 0).ok_or_else(|| {
        format!("PTX_EMULATOR_INSTRUCTIONS is \"{text}\"; it may be a number from 1 on")
    })
}

/// Parses a number of seconds, such as `0.5` or `600`; 0 for no limit.
fn seconds(text: &str) -> std::result::Result<Option<Duration>, String> {
    let seconds = text.trim().parse::<f64>().ok();
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time.ok_or_else(|| {
        format!(
            "PTX_EMULATOR_SECONDS is \"{text}\"; it may be a number such as 0.5 or 600, or 0 for \
            no limit"
        )
    })?;
    Ok((!time.is_zero()).then_some(time))
}

/// Parses `8G`, `512M`, `64K` or a number of bytes.
fn bytes(text: &str) -> std::result::Result<u64, String> {
    let trimmed = text.trim();
    let (digits, unit) = match trimmed.chars().last() {
        Some('k' | 'K') => (&trimmed[..trimmed.len() - 1], 1 << 10),
        Some('m' | 'M') => (&trimmed[..trimmed.len() - 1], 1 << 20),
        Some('g' | 'G') => (&trimmed[..trimmed.len() - 1], 1u64 << 30),
        _ => (trimmed, 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit))
        .filter(|&total| total > 0)
        .ok_or_else(|| {
            format!("PTX_EMULATOR_MEMORY is \"{text}\"; it may be a size such as 512M or 8G")
        })
}

/// Parses `12.4` or `12040`.
fn driver_version(text: &str) -> std::result::Result<i32, String> {
    let version = match text.trim().split_once('.') {
        Some((major, minor)) => major
            .parse::<i32>()
            .ok()
            .zip(minor.parse::<i32>().ok())
            .and_then(|(major, minor)| {
                major.checked_mul(1000)?.checked_add(minor.checked_mul(10)?)
            }),
        None => text.trim().parse::<i32>().ok(),
    };
    version
        .filter(|version| (11_000..14_000).contains(version))
        .ok_or_else(|| {
            format!(
                "PTX_EMULATOR_DRIVER is \"{text}\"; it may be a version from 11.0 on, such as 12.4"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> std::result::Result<Config, String> {
        Config::from_environment(|name| {
            pairs
                .iter()
                .find(|pair| pair.0 == name)
                .map(|pair| pair.1.to_owned())
        })
    }

    #[test]
    fn variables_are_read() {
        let config = with(&[
            ("PTX_EMULATOR_SM", "75,9.0"),
            ("PTX_EMULATOR_MEMORY", "2G"),
            ("PTX_EMULATOR_DRIVER", "12.4"),
            ("PTX_EMULATOR_INSTRUCTIONS", "5000"),
            ("PTX_EMULATOR_SECONDS", "0.5"),
        ])
        .expect("the values are good");
        assert_eq!(config.capabilities, [75, 90]);
        assert_eq!(config.devices, 2);
        assert_eq!(config.memory, Some(2 << 30));
        assert_eq!(config.driver_version, 12040);
        assert_eq!(config.instructions, 5000);
        assert_eq!(config.time, Some(Duration::from_millis(500)));
        let endless = with(&[("PTX_EMULATOR_SECONDS", "0")]).expect("0 means no limit");
        assert_eq!(endless.time, None);
        assert!(
            with(&[])
                .is_ok_and(|config| config.capabilities == [80] && config.driver_version == 13000)
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for pair in [
            ("PTX_EMULATOR_SM", "86"),
            ("PTX_EMULATOR_DEVICES", "many"),
            ("PTX_EMULATOR_DEVICES", ""),
            ("PTX_EMULATOR_DEVICES", "-1"),
            ("PTX_EMULATOR_DEVICES", "11"),
            ("PTX_EMULATOR_DEVICES", "18446744073709551616"),
            ("PTX_EMULATOR_SM", "80,80,80,80,80,80,80,80,80,80,80"),
            ("PTX_EMULATOR_MEMORY", "0"),
            ("PTX_EMULATOR_DRIVER", "9"),
            ("PTX_EMULATOR_DRIVER", "9999999.1"),
            ("PTX_EMULATOR_INSTRUCTIONS", "0"),
            ("PTX_EMULATOR_INSTRUCTIONS", "18446744073709551616"),
            ("PTX_EMULATOR_SECONDS", "-1"),
            ("PTX_EMULATOR_SECONDS", "nan"),
            ("PTX_EMULATOR_SECONDS", "1e30"),
            ("PTX_EMULATOR_SCHEDULE", "late"),
            ("PTX_EMULATOR_SCHEDULE", "random"),
            ("PTX_EMULATOR_ORDER", "on"),
        ] {
            assert!(
                with(&[pair])
                    .err()
                    .is_some_and(|message| message.contains(pair.0)),
                "{pair:?}"
            );
        }
        for count in ["0", " 10 "] {
            assert!(with(&[("PTX_EMULATOR_DEVICES", count)]).is_ok(), "{count}");
        }
    }
}
