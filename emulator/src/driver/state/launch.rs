//! A kernel launch.

use std::sync::Arc;

use crate::LaunchConfig;
use crate::driver::state::module::Function;

/// A kernel, its shape and its parameters.
#[derive(Clone)]
pub struct Launch {
    pub function: Arc<Function>,
    pub config: LaunchConfig,
    pub params: Arc<[u8]>,
    /// True for a cooperative launch, whose blocks may wait for each other.
    pub cooperative: bool,
}

impl Launch {
    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.function.kernel.kernel().name
    }

    /// Number of worker threads that the launch can use, at most `most`.
    pub fn workers(&self, most: usize) -> usize {
        if self.cooperative {
            // Each of its blocks has its own thread.
            return most;
        }
        let clusters = self.config.clusters(self.function.kernel.kernel());
        usize::try_from(clusters).unwrap_or(most).clamp(1, most)
    }
}
