//! cuDNN beside this crate, if this build and this machine have it.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpconv::device::Gpu;
use warpconv::launch::{ConvPointers, PoolPointers};
use warpconv::problem::{Conv2d, Pool2d};

use super::options::Options;
use super::record::CudnnRecord;
use super::timed_graph::{Launch, Length};

/// The best that cuDNN has for a problem: what to put into the row, and what launches it.
pub struct Best<'a> {
    /// Everything but the final time.
    pub row: CudnnRecord,
    /// Launches the whole of it, bias and ReLU included.
    pub launch: Box<Launch<'a>>,
}

/// Addresses of the operands of copy `i`.
pub type At<'a, P> = Box<dyn Fn(usize) -> P + 'a>;

/// The peer.
pub struct CudnnBaseline {
    #[cfg(feature = "cudnn")]
    cudnn: Option<super::cudnn::Cudnn>,
    /// Its version, or why there is none.
    pub words: String,
}

impl CudnnBaseline {
    /// No peer, for a reason.
    pub fn absent(why: impl Into<String>) -> CudnnBaseline {
        CudnnBaseline {
            #[cfg(feature = "cudnn")]
            cudnn: None,
            words: why.into(),
        }
    }

    /// Looks for cuDNN; its absence is a sentence, never an error.
    #[cfg(feature = "cudnn")]
    pub fn open(gpu: &Gpu, stream: &Arc<CudaStream>, options: &Options) -> CudnnBaseline {
        if options.no_cudnn {
            return CudnnBaseline::absent("left out (--no-cudnn)");
        }
        if gpu.kind() == warpconv::device::DeviceKind::Emulator {
            return CudnnBaseline::absent("cuDNN cannot run on the emulator");
        }
        match super::cudnn::Cudnn::open(stream, options) {
            Ok(cudnn) => CudnnBaseline {
                words: cudnn.version(),
                cudnn: Some(cudnn),
            },
            Err(why) => CudnnBaseline::absent(why),
        }
    }

    /// This build has no peer.
    #[cfg(not(feature = "cudnn"))]
    pub fn open(_gpu: &Gpu, _stream: &Arc<CudaStream>, _options: &Options) -> CudnnBaseline {
        CudnnBaseline::absent("this build is without the feature `cudnn`")
    }

    /// Returns whether there is one.
    pub fn is_there(&self) -> bool {
        #[cfg(feature = "cudnn")]
        return self.cudnn.is_some();
        #[cfg(not(feature = "cudnn"))]
        false
    }

    /// The best of cuDNN for a convolution, or why it has nothing.
    #[cfg(feature = "cudnn")]
    pub fn conv<'a>(
        &'a self,
        problem: &Conv2d,
        at: At<'a, ConvPointers>,
        length: Length,
    ) -> Result<Best<'a>, String> {
        let cudnn = self.cudnn.as_ref().ok_or_else(|| self.words.clone())?;
        cudnn.best_conv(problem, at, length)
    }

    /// There is no peer in this build.
    #[cfg(not(feature = "cudnn"))]
    pub fn conv<'a>(
        &'a self,
        _problem: &Conv2d,
        _at: At<'a, ConvPointers>,
        _length: Length,
    ) -> Result<Best<'a>, String> {
        Err(self.words.clone())
    }

    /// cuDNN's pooling, or why it has none.
    #[cfg(feature = "cudnn")]
    pub fn pool<'a>(
        &'a self,
        problem: &Pool2d,
        at: At<'a, PoolPointers>,
    ) -> Result<Best<'a>, String> {
        let cudnn = self.cudnn.as_ref().ok_or_else(|| self.words.clone())?;
        cudnn.pool(problem, at)
    }

    /// There is no peer in this build.
    #[cfg(not(feature = "cudnn"))]
    pub fn pool<'a>(
        &'a self,
        _problem: &Pool2d,
        _at: At<'a, PoolPointers>,
    ) -> Result<Best<'a>, String> {
        Err(self.words.clone())
    }
}
