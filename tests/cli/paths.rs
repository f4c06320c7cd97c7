//! Paths of the programs and files that the tests use.

use std::path::PathBuf;

pub use warpconv_testing::paths::data;

/// The command line: `WARPCONV_BIN`, as in a bundle on another machine, else the one that cargo
/// built.
pub fn warpconv() -> PathBuf {
    let named = std::env::var_os("WARPCONV_BIN").filter(|value| !value.is_empty());
    named.map_or_else(|| env!("CARGO_BIN_EXE_warpconv").into(), PathBuf::from)
}
