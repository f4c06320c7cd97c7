//! Execution of kernels.

use std::sync::Arc;
use std::time::Instant;

use crate::driver::backend::fault_code;
use crate::driver::config;
use crate::driver::journal::{Record, note_fault, note_launch};
use crate::driver::state::context::PRINT_BYTES;
use crate::driver::state::{Context, Launch};
use crate::driver::status::Result;
use crate::report::FaultKind;

impl Launch {
    /// Runs the kernel. A fault is reported and breaks the context; the launch itself still
    /// succeeds.
    pub fn run(&self, context: &Arc<Context>) -> Result {
        let start = Instant::now();
        let kernel = &self.function.kernel;
        let backend = &context.device.backend;
        let print_bytes = context.limit(PRINT_BYTES);
        match backend.launch(
            kernel,
            self.config,
            &self.params,
            self.cooperative,
            print_bytes,
        ) {
            Ok(counters) => {
                note_launch(Record {
                    kernel: kernel.kernel().name.clone(),
                    ordinal: context.device.ordinal,
                    config: self.config,
                    nanoseconds: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
                    counters,
                });
                Ok(())
            }
            Err(fault) => {
                let report = fault.to_string();
                config::report(&format!("ptx-emulator: {report}"));
                let code = fault_code(&fault);
                note_fault(report, code);
                if matches!(*fault.kind, FaultKind::InvalidLaunch(_)) {
                    return Err(code);
                }
                context.fail(code);
                Ok(())
            }
        }
    }
}
