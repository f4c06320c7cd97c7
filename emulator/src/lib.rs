//! A drop-in `libcuda.so` that executes PTX on the CPU.
#![deny(missing_docs)]

pub mod ir;
