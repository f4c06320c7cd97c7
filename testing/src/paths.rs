//! Paths of the stored cases.

use std::path::{Path, PathBuf};

/// The folder of stored cases: `WARPCONV_TEST_DATA`, set in bundles for other machines, else
/// `tests/data` of the tree that this crate was built in.
pub fn data() -> PathBuf {
    let named = std::env::var_os("WARPCONV_TEST_DATA").filter(|value| !value.is_empty());
    named.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data"),
        PathBuf::from,
    )
}
