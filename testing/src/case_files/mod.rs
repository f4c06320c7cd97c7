//! The files of stored cases: JSON and NumPy's `.npy`, read with bounds and with errors that name
//! the file.

pub mod json;
pub mod npy;

/// A tensor in dense order, as the cases store it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its extents, slowest first.
    pub shape: Vec<usize>,
    /// The elements, the last extent running fastest.
    pub data: Vec<f64>,
}
