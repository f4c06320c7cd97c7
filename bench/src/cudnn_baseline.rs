//! cuDNN as the baseline, if this build and this machine have it.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpconv::device::Gpu;
use warpconv::launch::{ConvPointers, PoolPointers};
use warpconv::problem::{Conv2d, Pool2d};

use super::options::Options;
use super::record::CudnnRecord;
use super::timed_graph::{Launch, Length};

/// cuDNN's best plan for a problem: its record and the closure that launches it.
pub struct Best<'a> {
    /// The record, complete except for the final time.
    pub row: CudnnRecord,
    /// Launches the plan, bias and ReLU included.
    pub launch: Box<Launch<'a>>,
}

/// Addresses of the operands of copy `i`.
pub type At<'a, P> = Box<dyn Fn(usize) -> P + 'a>;

/// The cuDNN baseline.
pub struct CudnnBaseline {
    #[cfg(feature = "cudnn")]
    cudnn: Option<super::cudnn::Cudnn>,
    /// Its version, or the reason why there is none.
    pub words: String,
}

impl CudnnBaseline {
    /// An absent baseline, with the reason.
    pub fn absent(why: impl Into<String>) -> CudnnBaseline {
        CudnnBaseline {
            #[cfg(feature = "cudnn")]
            cudnn: None,
            words: why.into(),
        }
    }

    /// Opens cuDNN; its absence is reported as text, never as an error.
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

    /// Returns the absent baseline of a build without cuDNN.
    #[cfg(not(feature = "cudnn"))]
    pub fn open(_gpu: &Gpu, _stream: &Arc<CudaStream>, _options: &Options) -> CudnnBaseline {
        CudnnBaseline::absent("this build is without the feature `cudnn`")
    }

    /// The version or the reason, without the places that were looked through.
    pub fn short(&self) -> &str {
        self.words.split(": ").next().unwrap_or_default()
    }

    /// Returns whether cuDNN is available.
    pub fn is_there(&self) -> bool {
        #[cfg(feature = "cudnn")]
        return self.cudnn.is_some();
        #[cfg(not(feature = "cudnn"))]
        false
    }

    /// cuDNN's best plan for a convolution, or the reason why there is none.
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

    /// Returns an error: this build has no cuDNN.
    #[cfg(not(feature = "cudnn"))]
    pub fn conv<'a>(
        &'a self,
        _problem: &Conv2d,
        _at: At<'a, ConvPointers>,
        _length: Length,
    ) -> Result<Best<'a>, String> {
        Err(self.words.clone())
    }

    /// cuDNN's pooling, or the reason why there is none.
    #[cfg(feature = "cudnn")]
    pub fn pool<'a>(
        &'a self,
        problem: &Pool2d,
        at: At<'a, PoolPointers>,
    ) -> Result<Best<'a>, String> {
        let cudnn = self.cudnn.as_ref().ok_or_else(|| self.words.clone())?;
        cudnn.pool(problem, at)
    }

    /// Returns an error: this build has no cuDNN.
    #[cfg(not(feature = "cudnn"))]
    pub fn pool<'a>(
        &'a self,
        _problem: &Pool2d,
        _at: At<'a, PoolPointers>,
    ) -> Result<Best<'a>, String> {
        Err(self.words.clone())
    }
}
