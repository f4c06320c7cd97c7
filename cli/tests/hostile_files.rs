//! Every file that the command line opens, replaced by one that cannot be used: the command ends
//! with a sentence that names the file and the reason, with the exit code of an input error, in
//! bounded time and memory. Compared with: the exit code, the texts that the message must hold, 10
//! s of processor time, 1 GB of resident memory.
//!
//! Not here: PTX modules, which only a build with `WARPCONV_PTX_FILES` reads (the emulator's `fuzz`
//! has their text), and rows of benchmarks, which `bench_support.rs` has.

#![cfg(target_os = "linux")]

mod command;
#[path = "command/limited.rs"]
mod limited;
mod paths;

#[path = "hostile/arrays.rs"]
mod arrays;
#[path = "hostile/cases.rs"]
mod cases;
#[path = "hostile/fixture.rs"]
mod fixture;
#[path = "hostile/kinds.rs"]
mod kinds;
#[path = "hostile/pictures.rs"]
mod pictures;
#[path = "hostile/shapes.rs"]
mod shapes;
#[path = "hostile/tunings.rs"]
mod tunings;
#[path = "hostile/weights.rs"]
mod weights;
