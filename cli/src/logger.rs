//! The logger of `WARPCONV_LOG`.

use std::io::Write as _;

use log::{LevelFilter, Log, Metadata, Record};
use warpconv::plan::LOG_TARGET;

/// Prints records of plans to standard error.
struct Plans;

impl Log for Plans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == LOG_TARGET
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // An error of standard error is ignored.
            let _ = writeln!(std::io::stderr(), "plan: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Returns whether the value of `WARPCONV_LOG`, topics separated by commas, has `plan`.
fn wants_plans(value: &str) -> bool {
    value.split(',').any(|topic| topic.trim() == "plan")
}

/// Installs the logger if `WARPCONV_LOG` enables it.
pub fn install() {
    let value = std::env::var("WARPCONV_LOG").unwrap_or_default();
    if wants_plans(&value) && log::set_logger(&Plans).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_separated_by_commas() {
        assert!(wants_plans("plan") && wants_plans("launch, plan"));
        assert!(!wants_plans("") && !wants_plans("plans") && !wants_plans("launch"));
    }
}
