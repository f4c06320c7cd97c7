//! The cuDNN baseline: loaded at run time; all of its plans for a problem are timed, and the best
//! is kept.
//!
//! Convolutions use both of its interfaces. The older one has eight algorithms, with and without
//! bias and ReLU in the kernel ([`legacy`]). The graph interface has engines ([`graph`]): all
//! configurations of its heuristics A and B and its fallback, and every engine of the operation
//! graph in its default configuration. Each is built into an execution plan, for the convolution
//! alone and for convolution, bias and ReLU fused. Plans that exceed the workspace limit, cannot be
//! built or fail are skipped; [`search`] times the rest. Accumulation is in f32; plans that round
//! inputs or sums further than the problem permits are skipped too.
//!
//! Only cuDNN 9 is supported: status and attribute constants differ in version 8, and cudarc's
//! bindings are those of 9.

mod descriptors;
mod graph;
mod legacy;
mod library;
mod pool;
mod search;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cudnn::sys::{self, cudnnStatus_t};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

pub use library::{FUNCTIONS, Found, VARIABLE, find};

use super::options::Options;
use super::timed_graph::text;

/// A failed call of cuDNN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Name of the function.
    pub call: &'static str,
    /// Status that it returned.
    pub status: cudnnStatus_t,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.call, self.status)
    }
}

/// Converts the status of a call to a result.
pub fn checked(call: &'static str, status: cudnnStatus_t) -> Result<(), Failure> {
    match status {
        cudnnStatus_t::CUDNN_STATUS_SUCCESS => Ok(()),
        status => Err(Failure { call, status }),
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor) = (self.version / 10_000, self.version / 100 % 100);
        write!(f, "cuDNN {major}.{minor}.{}", self.version % 100)?;
        match &self.file {
            Some(file) => write!(f, " of {}", file.display()),
            None => Ok(()),
        }
    }
}

/// cuDNN in the context and the stream of a benchmark.
pub struct Cudnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    found: Found,
    workspace: RefCell<Option<CudaSlice<u8>>>,
    /// Maximum workspace of a plan, in bytes.
    most_workspace: u64,
    /// Maximum time of a search, in seconds.
    seconds: f64,
}

impl Cudnn {
    /// Finds the library and opens it in the stream's context. The error gives the reason if there
    /// is none.
    pub fn open(stream: &Arc<CudaStream>, options: &Options) -> Result<Cudnn, String> {
        let found = find()?;
        stream.context().bind_to_thread().map_err(text)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the library and all of its functions that are called here were found; the context
        // is bound.
        checked("cudnnCreate", unsafe { sys::cudnnCreate(&mut handle) })
            .map_err(|failure| format!("cuDNN is there and does not start: {failure}"))?;
        let cudnn = Cudnn {
            handle,
            stream: stream.clone(),
            found,
            workspace: RefCell::new(None),
            most_workspace: options.cudnn_workspace << 20,
            seconds: options.search_seconds(),
        };
        // SAFETY: the handle is cuDNN's own and the stream belongs to the context in which it was
        // made.
        let status = unsafe { sys::cudnnSetStream(handle, stream.cu_stream().cast()) };
        checked("cudnnSetStream", status).map_err(text)?;
        Ok(cudnn)
    }

    /// The version as text, with the file unless the loader found it.
    pub fn version(&self) -> String {
        self.found.to_string()
    }

    /// Workspace of at least `bytes` bytes, shared by all plans: they run one after another in one
    /// stream. An address stays valid until a larger workspace is requested.
    fn workspace(&self, bytes: u64) -> Result<*mut c_void, String> {
        if bytes == 0 {
            return Ok(std::ptr::null_mut());
        }
        let mut workspace = self.workspace.borrow_mut();
        let enough = |held: &CudaSlice<u8>| held.len() as u64 >= bytes;
        if !workspace.as_ref().is_some_and(enough) {
            // Queued work may still use the old workspace.
            self.stream.synchronize().map_err(text)?;
            *workspace = None;
            // SAFETY: cuDNN writes its workspace before it reads it.
            let fresh = unsafe { self.stream.alloc::<u8>(bytes as usize) }.map_err(text)?;
            self.stream.synchronize().map_err(text)?;
            *workspace = Some(fresh);
        }
        let address = workspace
            .as_ref()
            .map_or(0, |held| held.device_ptr(&self.stream).0);
        Ok(address as *mut c_void)
    }

    /// Allocates the largest workspace at once, so that its address does not change while plans use
    /// it.
    fn reserve(&self) -> Result<*mut c_void, String> {
        self.workspace(self.most_workspace)
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        // A failure cannot be handled here, and the process is about to end.
        let _queued = self.stream.synchronize();
        // SAFETY: the handle is this value's own, and the work queued with it is done.
        let _status = unsafe { sys::cudnnDestroy(self.handle) };
    }
}
