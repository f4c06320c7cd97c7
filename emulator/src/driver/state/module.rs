//! Modules and functions.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};

use crate::driver::types::Handle;

/// A loaded module.
pub struct Module {
    pub handle: Handle,
    pub context: Handle,
    pub program: crate::Module,
    pub loaded: crate::LoadedModule,
    /// Handles of its functions, by name.
    pub functions: Mutex<HashMap<String, Handle>>,
}

/// A kernel of a module.
pub struct Function {
    pub handle: Handle,
    pub module: Arc<Module>,
    pub kernel: crate::LoadedKernel,
    pub name: CString,
    /// The maximum of dynamic shared memory in bytes that launches may request.
    pub max_dynamic_shared: AtomicU32,
    pub carveout: AtomicU32,
    pub cluster: ClusterSettings,
}

/// Settable attributes of a function for clusters.
#[derive(Default)]
pub struct ClusterSettings {
    /// `CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH`, `_HEIGHT` and `_DEPTH`; zeros if not set.
    pub required: [AtomicU32; 3],
    /// `CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED`
    pub non_portable: AtomicBool,
    /// `CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE`
    pub policy: AtomicU32,
}
