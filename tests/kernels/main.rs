//! Kernels: every one against the f64 reference on every architecture, counters against limits,
//! kernels that are broken on purpose, machine code.
//!
//! ```text
//! cargo test --test kernels                            # all
//! cargo test --test kernels sm80::                     # against the reference, as compute 8.0
//! cargo test --test kernels counters::simt::direct     # limits of some kernels
//! UPDATE_EXPECTED=1 cargo test --test kernels counters::   # writes the counted limits anew
//! cargo test --test kernels -- --list
//! ```

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "emulator")]
mod counters;
mod machine_code;
#[cfg(feature = "emulator")]
mod mutations;
mod pack;
#[cfg(feature = "emulator")]
mod shared_memory;
mod suite;
mod trials;
#[cfg(feature = "emulator")]
mod watchdog;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = suite::trials();
    trials.extend(pack::trials());
    trials.extend(machine_code::trials());
    #[cfg(feature = "emulator")]
    {
        trials.extend(counters::trials());
        trials.extend(shared_memory::trials());
        trials.extend(mutations::trials());
        trials.extend(watchdog::trials());
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
