//! A drop-in `libcuda.so` that executes PTX on the CPU.
#![deny(missing_docs)]

mod ast;
pub mod ir;
mod lexer;
mod load_error;
mod parse;

pub use load_error::LoadError;
