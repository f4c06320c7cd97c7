//! Every file that the command line opens, replaced by one that cannot be used: the command ends
//! with a sentence that names the file and the reason, with the exit code of an input error, in
//! bounded time and memory. Compared with: the exit code, the texts that the message must hold, 10
//! s of processor time, 1 GB of resident memory.
//!
//! Not here: PTX modules, which only a build with `WARPCONV_PTX_FILES` reads (the emulator's `fuzz`
//! has their text).

#![cfg(target_os = "linux")]

mod arrays;
mod cases;
mod fixture;
mod kinds;
mod pictures;
mod results;
mod shapes;
mod tunings;
mod weights;
