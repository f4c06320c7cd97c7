//! RAII handles of cuDNN's older descriptors.

use std::ffi::c_int;

use cudarc::cudnn::sys::{
    self, cudnnActivationMode_t, cudnnConvolutionMode_t, cudnnDataType_t, cudnnMathType_t,
    cudnnNanPropagation_t, cudnnPoolingMode_t, cudnnTensorFormat_t,
};
use warpconv::kernels::Math;
use warpconv::problem::{Conv2d, TensorDesc};
use warpconv::{DType, Layout};

use super::{Failure, checked};

/// A descriptor: created empty, destroyed when it is dropped.
macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $create:ident, $destroy:ident) => {
        $(#[$doc])*
        pub struct $name($raw);

        impl $name {
            fn create() -> Result<$name, Failure> {
                let mut raw = std::ptr::null_mut();
                // SAFETY: the library has this function, and the pointer outlives the call.
                checked(stringify!($create), unsafe { sys::$create(&mut raw) })?;
                Ok($name(raw))
            }

            /// The raw handle.
            pub fn raw(&self) -> $raw {
                self.0
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by `create` and not destroyed before. A failure cannot be handled
                // here.
                let _status = unsafe { sys::$destroy(self.0) };
            }
        }
    };
}

descriptor!(
    /// A tensor descriptor.
    Tensor,
    sys::cudnnTensorDescriptor_t,
    cudnnCreateTensorDescriptor,
    cudnnDestroyTensorDescriptor
);
descriptor!(
    /// A filter descriptor.
    Filter,
    sys::cudnnFilterDescriptor_t,
    cudnnCreateFilterDescriptor,
    cudnnDestroyFilterDescriptor
);
descriptor!(
    /// A convolution descriptor.
    Convolution,
    sys::cudnnConvolutionDescriptor_t,
    cudnnCreateConvolutionDescriptor,
    cudnnDestroyConvolutionDescriptor
);
descriptor!(
    /// An activation descriptor.
    Activation,
    sys::cudnnActivationDescriptor_t,
    cudnnCreateActivationDescriptor,
    cudnnDestroyActivationDescriptor
);
descriptor!(
    /// A pooling descriptor.
    Pooling,
    sys::cudnnPoolingDescriptor_t,
    cudnnCreatePoolingDescriptor,
    cudnnDestroyPoolingDescriptor
);

/// cuDNN's type of elements stored as `dtype`.
pub fn data_type(dtype: DType) -> cudnnDataType_t {
    match dtype {
        DType::F32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
        DType::F16 => cudnnDataType_t::CUDNN_DATA_HALF,
        DType::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}

fn format(layout: Layout) -> cudnnTensorFormat_t {
    match layout {
        Layout::Nchw => cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
        Layout::Nhwc => cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
    }
}

/// Strides in elements: image, channel, row, column.
pub fn strides(desc: &TensorDesc) -> [i64; 4] {
    let first = desc.index(0, 0, 0, 0);
    [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
        .map(|(n, c, h, w)| (desc.index(n, c, h, w) - first) as i64)
}

/// A number as a C int, which cuDNN's older interface takes.
fn int(value: usize) -> Result<c_int, Failure> {
    c_int::try_from(value).map_err(|_| Failure {
        call: "a size beyond 2^31 - 1",
        status: sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED,
    })
}

impl Tensor {
    /// A dense tensor of the given extents.
    pub fn dense(dims: [usize; 4], layout: Layout, dtype: DType) -> Result<Tensor, Failure> {
        let tensor = Tensor::create()?;
        let [n, c, h, w] = dims;
        let (n, c, h, w) = (int(n)?, int(c)?, int(h)?, int(w)?);
        // SAFETY: the descriptor is live.
        let status = unsafe {
            sys::cudnnSetTensor4dDescriptor(tensor.0, format(layout), data_type(dtype), n, c, h, w)
        };
        checked("cudnnSetTensor4dDescriptor", status)?;
        Ok(tensor)
    }

    /// The tensor of a problem: the channels of a slice with the strides of the whole; the channel
    /// offset is part of the address.
    pub fn of(desc: &TensorDesc) -> Result<Tensor, Failure> {
        let dims = [desc.n(), desc.c(), desc.h(), desc.w()];
        if desc.is_dense() {
            return Tensor::dense(dims, desc.layout(), desc.dtype());
        }
        let tensor = Tensor::create()?;
        let [n, c, h, w] = dims;
        let [sn, sc, sh, sw] =
            strides(desc).map(|stride| usize::try_from(stride).unwrap_or(usize::MAX));
        let (sn, sc, sh, sw) = (int(sn)?, int(sc)?, int(sh)?, int(sw)?);
        let (n, c, h, w) = (int(n)?, int(c)?, int(h)?, int(w)?);
        let dtype = data_type(desc.dtype());
        // SAFETY: the descriptor is live.
        let status = unsafe {
            sys::cudnnSetTensor4dDescriptorEx(tensor.0, dtype, n, c, h, w, sn, sc, sh, sw)
        };
        checked("cudnnSetTensor4dDescriptorEx", status)?;
        Ok(tensor)
    }
}

impl Filter {
    /// The filters of a problem, dense: KCRS with NCHW, KRSC with NHWC.
    pub fn of(conv: &Conv2d) -> Result<Filter, Failure> {
        let filter = Filter::create()?;
        let (dtype, layout) = (
            data_type(conv.input().dtype()),
            format(conv.input().layout()),
        );
        let (k, c) = (int(conv.output().c())?, int(conv.filter().c)?);
        let (r, s) = (int(conv.filter().r)?, int(conv.filter().s)?);
        // SAFETY: the descriptor is live.
        let status =
            unsafe { sys::cudnnSetFilter4dDescriptor(filter.0, dtype, layout, k, c, r, s) };
        checked("cudnnSetFilter4dDescriptor", status)?;
        Ok(filter)
    }
}

impl Convolution {
    /// The problem's padding, stride, dilation, groups and math mode. Padding must be the same on
    /// opposite sides.
    pub fn of(conv: &Conv2d) -> Result<Convolution, Failure> {
        let descriptor = Convolution::create()?;
        let [stride_h, stride_w] = conv.window().stride;
        let [dilation_h, dilation_w] = conv.window().dilation;
        let padding = conv.window().padding;
        let numbers = [
            padding.top,
            padding.left,
            stride_h,
            stride_w,
            dilation_h,
            dilation_w,
        ];
        let mut ints = [0; 6];
        for (int_of, number) in ints.iter_mut().zip(numbers) {
            *int_of = int(number)?;
        }
        let [ph, pw, sh, sw, dh, dw] = ints;
        let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let sums = cudnnDataType_t::CUDNN_DATA_FLOAT;
        let groups = int(conv.groups())?;
        // SAFETY: the descriptor is live in all three calls.
        unsafe {
            let status = sys::cudnnSetConvolution2dDescriptor(
                descriptor.0,
                ph,
                pw,
                sh,
                sw,
                dh,
                dw,
                mode,
                sums,
            );
            checked("cudnnSetConvolution2dDescriptor", status)?;
            let status = sys::cudnnSetConvolutionGroupCount(descriptor.0, groups);
            checked("cudnnSetConvolutionGroupCount", status)?;
            let status = sys::cudnnSetConvolutionMathType(descriptor.0, products(conv));
            checked("cudnnSetConvolutionMathType", status)?;
        }
        Ok(descriptor)
    }
}

/// cuDNN's math type of a convolution. For f32 the default permits tf32 on tensor cores; FMA is f32
/// arithmetic, and also stands for 3xTF32.
fn products(conv: &Conv2d) -> cudnnMathType_t {
    match (conv.input().dtype(), conv.math()) {
        (DType::F32, Math::Tf32) => cudnnMathType_t::CUDNN_DEFAULT_MATH,
        (DType::F32, _) => cudnnMathType_t::CUDNN_FMA_MATH,
        (DType::F16 | DType::Bf16, _) => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    }
}

impl Activation {
    /// A ReLU that propagates NaN.
    pub fn relu() -> Result<Activation, Failure> {
        let activation = Activation::create()?;
        let mode = cudnnActivationMode_t::CUDNN_ACTIVATION_RELU;
        let nan = cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
        // SAFETY: the descriptor is live.
        let status = unsafe { sys::cudnnSetActivationDescriptor(activation.0, mode, nan, 0.0) };
        checked("cudnnSetActivationDescriptor", status)?;
        Ok(activation)
    }
}

impl Pooling {
    /// A pooling window, with the same padding on opposite sides; a maximum propagates NaN.
    pub fn new(
        mode: cudnnPoolingMode_t,
        window: [usize; 2],
        padding: [usize; 2],
        stride: [usize; 2],
    ) -> Result<Pooling, Failure> {
        let pooling = Pooling::create()?;
        let nan = cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
        let (r, s) = (int(window[0])?, int(window[1])?);
        let (ph, pw) = (int(padding[0])?, int(padding[1])?);
        let (sh, sw) = (int(stride[0])?, int(stride[1])?);
        // SAFETY: the descriptor is live.
        let status =
            unsafe { sys::cudnnSetPooling2dDescriptor(pooling.0, mode, nan, r, s, ph, pw, sh, sw) };
        checked("cudnnSetPooling2dDescriptor", status)?;
        Ok(pooling)
    }
}
