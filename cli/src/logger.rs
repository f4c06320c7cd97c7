//! The logger: warnings of the library, and the topics of `WARPCONV_LOG`.

use std::io::Write as _;

use log::{Level, LevelFilter, Log, Metadata, Record};
use warpconv::device;
use warpconv::plan;

/// Prints warnings, and the records of the chosen topics, to standard error.
struct Logger {
    plans: bool,
    images: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        match metadata.target() {
            plan::LOG_TARGET => self.plans,
            device::LOG_TARGET => self.images || metadata.level() <= Level::Warn,
            _ => false,
        }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let topic = match (record.target(), record.level()) {
                (plan::LOG_TARGET, _) => "plan",
                (_, level) if level <= Level::Warn => "warning",
                _ => "image",
            };
            // An error of standard error is ignored.
            let _ = writeln!(std::io::stderr(), "{topic}: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Returns whether the value of `WARPCONV_LOG`, topics separated by commas, has this one.
fn has(value: &str, topic: &str) -> bool {
    value.split(',').any(|part| part.trim() == topic)
}

/// Installs the logger.
pub fn install() {
    let value = std::env::var("WARPCONV_LOG").unwrap_or_default();
    let logger = Logger {
        plans: has(&value, "plan"),
        images: has(&value, "image"),
    };
    let level = match (logger.plans, logger.images) {
        (true, _) => LevelFilter::Debug,
        (false, true) => LevelFilter::Info,
        (false, false) => LevelFilter::Warn,
    };
    // It lives as long as the process.
    if log::set_logger(Box::leak(Box::new(logger))).is_ok() {
        log::set_max_level(level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_separated_by_commas() {
        assert!(has("plan", "plan") && has("image, plan", "plan"));
        assert!(has("image, plan", "image"));
        assert!(!has("", "plan") && !has("plans", "plan") && !has("launch", "image"));
    }
}
