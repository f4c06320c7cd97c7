//! Where tests find what they need: in the tree they were built in, or where the environment says,
//! as in a bundle that was brought to another machine.
// Each test binary uses its part of this.
#![allow(dead_code)]

use std::path::PathBuf;

/// The folder of stored cases: `WARPCONV_TEST_DATA`, else `tests/data` of the tree.
pub fn data() -> PathBuf {
    named("WARPCONV_TEST_DATA").unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join("data")
    })
}

/// The command line: `WARPCONV_BIN`, else the one that cargo built.
#[cfg(feature = "cli")]
pub fn warpconv() -> PathBuf {
    named("WARPCONV_BIN").unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_warpconv")))
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
