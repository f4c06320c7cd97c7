//! Tensors with reproducible values, and the largest error of one against a reference.

use cubecl::cuda::CudaRuntime;
use cubecl::ir::StorageType;
use cubecl::prelude::*;
use cubecl::std::tensor::TensorHandle;
use half::f16;

use crate::Client;

/// The element types that the kernels are run with.
pub trait Element: CubeElement + CubePrimitive + Copy {
    /// The element nearest to `value`.
    fn of(value: f64) -> Self;
    /// Its value.
    fn value(self) -> f64;
    /// Its name to cubecl.
    fn storage() -> StorageType {
        Self::as_type_native_unchecked().storage_type()
    }
}

impl Element for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn value(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f16 {
    fn of(value: f64) -> Self {
        f16::from_f64(value)
    }
    fn value(self) -> f64 {
        self.to_f64()
    }
}

/// A tensor on the device, its elements in row-major order, and the same values here.
pub struct Tensor {
    /// The device's.
    pub handle: TensorHandle<CudaRuntime>,
    /// The values as they were rounded to the element's type.
    pub values: Vec<f64>,
}

/// A tensor of `shape` with values in -1..1 drawn from `seed`.
pub fn random<E: Element>(client: &Client, shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let elements: Vec<E> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            E::of((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0)
        })
        .collect();
    upload(client, shape, &elements)
}

/// A tensor of `shape` with 1000 in each element: what no kernel writes stays wrong. Not NaN: cubek
/// loads what lies behind a matrix and multiplies it by zero.
pub fn poisoned<E: Element>(client: &Client, shape: &[usize]) -> Tensor {
    upload(client, shape, &vec![E::of(1000.0); shape.iter().product()])
}

fn upload<E: Element>(client: &Client, shape: &[usize], elements: &[E]) -> Tensor {
    let handle = client.create_from_slice(E::as_bytes(elements));
    Tensor {
        handle: TensorHandle::new_contiguous(shape.to_vec(), handle, E::storage()),
        values: elements.iter().map(|element| element.value()).collect(),
    }
}

/// Expected value of an element, and the bound of its error.
#[derive(Clone, Copy)]
pub struct Expected {
    /// The reference's value.
    pub value: f64,
    /// The largest error allowed.
    pub tolerance: f64,
}

/// The largest error of `tensor`, in units of the tolerance.
pub fn compare<E: Element>(
    client: &Client,
    tensor: &Tensor,
    expected: &[Expected],
) -> Result<f64, String> {
    let bytes = client
        .read_one(tensor.handle.handle.clone())
        .map_err(|error| format!("{error:?}"))?;
    let found = E::from_bytes(&bytes);
    if found.len() < expected.len() {
        return Err(format!("{} elements, not {}", found.len(), expected.len()));
    }
    let mut worst = 0.0f64;
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found.value() - expected.value).abs();
        if error.is_nan() {
            return Err(format!(
                "element {at} is {}, not {}",
                found.value(),
                expected.value
            ));
        }
        let share = if error == 0.0 {
            0.0
        } else {
            error / expected.tolerance
        };
        worst = worst.max(share);
    }
    Ok(worst)
}
