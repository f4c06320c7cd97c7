//! Convolutions by cuDNN's older interface: eight algorithms, and separate kernels for bias, ReLU
//! and layouts.

use std::ffi::c_void;

use cudarc::cudnn::sys::{self, cudnnConvolutionFwdAlgo_t as Algorithm};
use cudarc::driver::sys::CUdeviceptr;
use warpconv::Layout;
use warpconv::launch::ConvPointers;
use warpconv::problem::Conv2d;

use super::descriptors::{Activation, Convolution, Filter, Tensor};
use super::{Cudnn, Failure, checked};

/// The algorithms, each with its name and whether it transforms its operands. A transform reduces
/// the number of products and changes the rounding.
pub const ALGORITHMS: [(Algorithm, &str, bool); 8] = {
    use Algorithm as A;
    [
        (
            A::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
            "implicit gemm",
            false,
        ),
        (
            A::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
            "implicit precomp gemm",
            false,
        ),
        (A::CUDNN_CONVOLUTION_FWD_ALGO_GEMM, "gemm", false),
        (A::CUDNN_CONVOLUTION_FWD_ALGO_DIRECT, "direct", false),
        (A::CUDNN_CONVOLUTION_FWD_ALGO_FFT, "fft", true),
        (A::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING, "fft tiling", true),
        (A::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, "winograd", true),
        (
            A::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
            "winograd nonfused",
            true,
        ),
    ]
};

static ONE: f32 = 1.0;
static ZERO: f32 = 0.0;

/// A scaling factor as cuDNN takes it: f32 for all types used here.
pub fn factor(value: &'static f32) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

/// A device address as cuDNN takes it for reading.
pub fn input(address: CUdeviceptr) -> *const c_void {
    address as *const c_void
}

/// A device address as cuDNN takes it for writing.
pub fn output(address: CUdeviceptr) -> *mut c_void {
    address as *mut c_void
}

/// A problem in cuDNN's older descriptors.
pub struct LegacyConv {
    x: Tensor,
    w: Filter,
    y: Tensor,
    bias: Tensor,
    conv: Convolution,
    relu: Activation,
    has_bias: bool,
    has_relu: bool,
}

impl LegacyConv {
    /// Descriptors of the problem; an error if padding differs between opposite sides.
    pub fn new(conv: &Conv2d) -> Result<LegacyConv, String> {
        let padding = conv.window().padding;
        if padding.top != padding.bottom || padding.left != padding.right {
            return Err(String::from("padding differs between opposite sides"));
        }
        LegacyConv::describe(conv).map_err(|failure| failure.to_string())
    }

    fn describe(conv: &Conv2d) -> Result<LegacyConv, Failure> {
        Ok(LegacyConv {
            x: Tensor::of(conv.input())?,
            w: Filter::of(conv)?,
            y: Tensor::of(conv.output())?,
            bias: Tensor::dense(
                [1, conv.output().c(), 1, 1],
                conv.input().layout(),
                conv.input().dtype(),
            )?,
            conv: Convolution::of(conv)?,
            relu: Activation::relu()?,
            has_bias: conv.bias(),
            has_relu: conv.relu(),
        })
    }

    /// Bytes of workspace that an algorithm needs; an error where it does not support the problem.
    pub fn workspace(&self, cudnn: &Cudnn, algorithm: Algorithm) -> Result<u64, Failure> {
        let mut bytes = 0;
        // SAFETY: handle and descriptors are live; the pointer outlives the call.
        let status = unsafe {
            sys::cudnnGetConvolutionForwardWorkspaceSize(
                cudnn.handle,
                self.x.raw(),
                self.w.raw(),
                self.conv.raw(),
                self.y.raw(),
                algorithm,
                &mut bytes,
            )
        };
        checked("cudnnGetConvolutionForwardWorkspaceSize", status)?;
        Ok(bytes as u64)
    }

    /// Returns whether one call can include bias and ReLU.
    pub fn can_fuse(&self) -> bool {
        self.has_bias && self.has_relu
    }

    /// The convolution alone.
    ///
    /// # Safety
    /// The addresses are of device memory of the handle's context, as long as the problem requires,
    /// and the workspace has `bytes`; all stay valid until the stream has done the work.
    pub unsafe fn forward(
        &self,
        cudnn: &Cudnn,
        algorithm: Algorithm,
        at: &ConvPointers,
        workspace: *mut c_void,
        bytes: u64,
    ) -> Result<(), Failure> {
        // SAFETY: the caller guarantees the addresses; descriptors and factors are live.
        let status = unsafe {
            sys::cudnnConvolutionForward(
                cudnn.handle,
                factor(&ONE),
                self.x.raw(),
                input(at.x),
                self.w.raw(),
                input(at.w),
                self.conv.raw(),
                algorithm,
                workspace,
                bytes as usize,
                factor(&ZERO),
                self.y.raw(),
                output(at.y),
            )
        };
        checked("cudnnConvolutionForward", status)
    }

    /// Convolution, bias and ReLU in one call.
    ///
    /// # Safety
    /// As for [`LegacyConv::forward`].
    pub unsafe fn fused(
        &self,
        cudnn: &Cudnn,
        algorithm: Algorithm,
        at: &ConvPointers,
        workspace: *mut c_void,
        bytes: u64,
    ) -> Result<(), Failure> {
        // SAFETY: as above. The added tensor, which is multiplied by zero, is y itself, as cuDNN's
        // documentation permits.
        let status = unsafe {
            sys::cudnnConvolutionBiasActivationForward(
                cudnn.handle,
                factor(&ONE),
                self.x.raw(),
                input(at.x),
                self.w.raw(),
                input(at.w),
                self.conv.raw(),
                algorithm,
                workspace,
                bytes as usize,
                factor(&ZERO),
                self.y.raw(),
                input(at.y),
                self.bias.raw(),
                input(at.bias),
                self.relu.raw(),
                self.y.raw(),
                output(at.y),
            )
        };
        checked("cudnnConvolutionBiasActivationForward", status)
    }

    /// Bias and ReLU as separate kernels, in place on y.
    ///
    /// # Safety
    /// As for [`LegacyConv::forward`].
    pub unsafe fn epilogue(&self, cudnn: &Cudnn, at: &ConvPointers) -> Result<(), Failure> {
        if self.has_bias {
            // SAFETY: as above.
            let status = unsafe {
                sys::cudnnAddTensor(
                    cudnn.handle,
                    factor(&ONE),
                    self.bias.raw(),
                    input(at.bias),
                    factor(&ONE),
                    self.y.raw(),
                    output(at.y),
                )
            };
            checked("cudnnAddTensor", status)?;
        }
        if self.has_relu {
            // SAFETY: as above; in-place operation is permitted where both descriptors are the
            // same.
            let status = unsafe {
                sys::cudnnActivationForward(
                    cudnn.handle,
                    self.relu.raw(),
                    factor(&ONE),
                    self.y.raw(),
                    input(at.y),
                    factor(&ZERO),
                    self.y.raw(),
                    output(at.y),
                )
            };
            checked("cudnnActivationForward", status)?;
        }
        Ok(())
    }
}

/// A tensor in both layouts, to time the transposition from one to the other.
pub struct Transpose {
    from: Tensor,
    to: Tensor,
    /// Bytes of the tensor.
    pub bytes: u64,
}

impl Transpose {
    /// Descriptors of a dense tensor: to the other layout, or `back` from it.
    pub fn of(desc: &warpconv::problem::TensorDesc, back: bool) -> Result<Transpose, Failure> {
        let dims = [desc.n(), desc.c(), desc.h(), desc.w()];
        let own = Tensor::dense(dims, desc.layout(), desc.dtype())?;
        let there = match desc.layout() {
            Layout::Nchw => Layout::Nhwc,
            Layout::Nhwc => Layout::Nchw,
        };
        let changed = Tensor::dense(dims, there, desc.dtype())?;
        let (from, to) = if back { (changed, own) } else { (own, changed) };
        Ok(Transpose {
            from,
            to,
            bytes: (desc.elements() * desc.dtype().size()) as u64,
        })
    }

    /// Queues the transposition.
    ///
    /// # Safety
    /// Both addresses are of device memory of the handle's context, as long as the tensor.
    pub unsafe fn run(
        &self,
        cudnn: &Cudnn,
        from: CUdeviceptr,
        to: CUdeviceptr,
    ) -> Result<(), Failure> {
        // SAFETY: the caller guarantees the addresses; descriptors and factors are live.
        let status = unsafe {
            sys::cudnnTransformTensor(
                cudnn.handle,
                factor(&ONE),
                self.from.raw(),
                input(from),
                factor(&ZERO),
                self.to.raw(),
                output(to),
            )
        };
        checked("cudnnTransformTensor", status)
    }
}
