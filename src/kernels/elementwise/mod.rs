//! The layers between convolutions: ReLU, normalisation, softmax, tanh, subsampling.

pub(crate) mod activation_args;
pub(crate) mod channel_args;
mod lrn;
mod relu;
mod softmax;
mod subsample;
mod tanh;
mod unary;

pub use unary::Unary;
