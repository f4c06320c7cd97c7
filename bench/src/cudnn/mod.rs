//! cuDNN, the peer: found at run time, asked for everything that it has for a problem, and the best
//! of it timed.
//!
//! Convolutions come from both of its interfaces. The older one has eight algorithms, with and
//! without bias and ReLU in the kernel ([`legacy`]). The graph interface has engines ([`graph`]):
//! all configurations that its heuristics A and B and its fallback name, and every engine of the
//! operation graph as it comes, each built into an execution plan, for the convolution alone and
//! for convolution, bias and ReLU in one. What takes more workspace than allowed, cannot be built
//! or fails is passed over; [`search`] times the rest. Sums are in f32; what rounds inputs or sums
//! further than the problem says is passed over too.
//!
//! Only cuDNN 9 is taken: statuses and attributes have other numbers in version 8, and cudarc's
//! bindings are those of 9.

mod descriptors;
mod graph;
mod legacy;
mod library;
mod pool;
mod search;

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cudnn::sys::{self, cudnnStatus_t};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

pub use library::find;

use super::options::Options;
use super::timed_graph::text;

/// A call of cuDNN's that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The function.
    pub call: &'static str,
    /// Its status.
    pub status: cudnnStatus_t,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.call, self.status)
    }
}

/// The status of a call as a result.
pub fn checked(call: &'static str, status: cudnnStatus_t) -> Result<(), Failure> {
    match status {
        cudnnStatus_t::CUDNN_STATUS_SUCCESS => Ok(()),
        status => Err(Failure { call, status }),
    }
}

/// cuDNN in the context and the stream of a benchmark.
pub struct Cudnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    version: usize,
    workspace: RefCell<Option<CudaSlice<u8>>>,
    /// Bytes of workspace that a plan may take.
    most_workspace: u64,
    /// Seconds that a search may take.
    seconds: f64,
}

impl Cudnn {
    /// Finds the library and opens it in the stream's context. The error says why there is none.
    pub fn open(stream: &Arc<CudaStream>, options: &Options) -> Result<Cudnn, String> {
        let version = find()?;
        stream.context().bind_to_thread().map_err(text)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the library and all of its functions that are called here were found; the context
        // is bound.
        checked("cudnnCreate", unsafe { sys::cudnnCreate(&mut handle) })
            .map_err(|failure| format!("cuDNN is there and does not start: {failure}"))?;
        let cudnn = Cudnn {
            handle,
            stream: stream.clone(),
            version,
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

    /// The version in words.
    pub fn version(&self) -> String {
        let (major, minor) = (self.version / 10_000, self.version / 100 % 100);
        format!("cuDNN {major}.{minor}.{}", self.version % 100)
    }

    /// Workspace of at least so many bytes, shared by all plans: they run one after another in one
    /// stream. An address stays valid until more is asked for.
    fn workspace(&self, bytes: u64) -> Result<*mut c_void, String> {
        if bytes == 0 {
            return Ok(std::ptr::null_mut());
        }
        let mut workspace = self.workspace.borrow_mut();
        let enough = |held: &CudaSlice<u8>| held.len() as u64 >= bytes;
        if !workspace.as_ref().is_some_and(enough) {
            // Work that uses the old one may be under way.
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

    /// Allocates the largest workspace at once, so that no address changes while plans hold one.
    fn reserve(&self) -> Result<*mut c_void, String> {
        self.workspace(self.most_workspace)
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the process is about to end.
        let _queued = self.stream.synchronize();
        // SAFETY: the handle is this value's own, and the work queued with it is done.
        let _status = unsafe { sys::cudnnDestroy(self.handle) };
    }
}
