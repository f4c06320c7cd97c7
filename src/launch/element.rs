//! The element types that kernels store.

use cudarc::driver::{DeviceRepr, ValidAsZeroBits};

use crate::kernels::DType;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A type that activations, filters and bias can be stored as: [`f32`], [`half::f16`],
/// [`half::bf16`].
pub trait Element:
    DeviceRepr + ValidAsZeroBits + Copy + Send + Sync + 'static + sealed::Sealed
{
    /// The catalog's name of the type.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

impl Element for half::f16 {
    const DTYPE: DType = DType::F16;
}

impl Element for half::bf16 {
    const DTYPE: DType = DType::Bf16;
}
