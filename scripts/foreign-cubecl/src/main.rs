//! Kernels of cubecl and cubek on whatever libcuda is loaded, each compared with a reference in
//! f64.
//!
//! `foreign-cubecl CAPABILITY` runs what that capability has. Exit status 1 if a result is wrong or
//! a kernel does not run. `foreign-cubecl CAPABILITY NAME` runs the kernel of that name alone,
//! `foreign-cubecl CAPABILITY list` prints the names.

mod conv;
mod elementwise;
mod matmul;
mod reduce;
mod tensors;

use cubecl::cuda::CudaRuntime;
use cubecl::prelude::*;

/// The runtime and its client.
pub type Client = ComputeClient<CudaRuntime>;

/// Number of kernels that ran, and those that failed.
#[derive(Default)]
pub struct Tally {
    /// The name of the only kernel to run, or `list`.
    only: Option<String>,
    ran: usize,
    wrong: Vec<String>,
}

impl Tally {
    /// Runs one kernel, which returns its largest error in units of what is allowed.
    pub fn add(&mut self, name: &str, body: impl FnOnce() -> Result<f64, String>) {
        match self.only.as_deref() {
            Some("list") => return println!("{name}"),
            Some(only) if only != name => return,
            _ => {}
        }
        self.ran += 1;
        match guarded(body) {
            Ok(share) if share <= 1.0 => println!("  {name}: {share:.3} of the tolerance"),
            Ok(share) => self.wrong.push(format!(
                "{name}: the error is {share:.3} times the tolerance"
            )),
            Err(reason) => self.wrong.push(format!("{name}: {reason}")),
        }
    }
}

/// Runs `body`; a panic in it becomes an error.
fn guarded(body: impl FnOnce() -> Result<f64, String>) -> Result<f64, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn main() -> std::process::ExitCode {
    let Some(capability) = std::env::args()
        .nth(1)
        .and_then(|word| word.parse::<u32>().ok())
    else {
        eprintln!("usage: foreign-cubecl CAPABILITY");
        return 2.into();
    };
    let client = CudaRuntime::client(&Default::default());
    let mut tally = Tally {
        only: std::env::args().nth(2),
        ..Default::default()
    };
    let parts: [fn(&Client, u32, &mut Tally); 4] =
        [elementwise::run, reduce::run, matmul::run, conv::run];
    for part in parts {
        part(&client, capability, &mut tally);
    }
    if tally.only.as_deref() == Some("list") {
        return 0.into();
    }
    println!("{} kernels, {} wrong", tally.ran, tally.wrong.len());
    for line in &tally.wrong {
        eprintln!("wrong: {line}");
    }
    u8::from(!tally.wrong.is_empty()).into()
}
