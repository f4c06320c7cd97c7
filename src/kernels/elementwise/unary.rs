//! Operations from one tensor to another of the same extents: ReLU, tanh, local response
//! normalisation, softmax.

use super::activation_args::TanhArgs;
use super::channel_args::{LrnArgs, SoftmaxArgs};
use crate::kernels::Operation;
use crate::kernels::elementwise::activation_args::ReluArgs;
use crate::kernels::operation::Arguments;
use crate::problem::{Lrn, Relu, Softmax, Tanh, TensorDesc};

/// An operation from one tensor to another of the same extents, without weights.
pub trait Unary: Operation {
    /// The kernel's argument struct.
    #[doc(hidden)]
    type Args: Arguments + Send + Sync + std::fmt::Debug + 'static;

    /// True if the output may be the input's own elements.
    #[doc(hidden)]
    const IN_PLACE: bool;

    /// The input, of the output's extents.
    fn input(&self) -> &TensorDesc;

    /// Everything but the pointers.
    #[doc(hidden)]
    fn arguments(&self) -> Self::Args;

    /// Sets the pointers.
    #[doc(hidden)]
    fn set_pointers(arguments: &mut Self::Args, x: u64, y: u64);
}

/// The implementation for a problem with its argument struct.
macro_rules! map {
    ($problem:ty, $args:ty $(, $run:ident)?; in place: $in_place:expr) => {
        impl Unary for $problem {
            type Args = $args;
            const IN_PLACE: bool = $in_place;

            fn input(&self) -> &TensorDesc {
                self.input()
            }

            fn arguments(&self) -> $args {
                <$args>::from(self)
            }

            fn set_pointers(arguments: &mut $args, x: u64, y: u64) {
                (arguments$(.$run)?.x, arguments$(.$run)?.y) = (x, y);
            }
        }
    };
}

map!(Relu, ReluArgs; in place: true);
map!(Tanh, TanhArgs, run; in place: true);
// An element is read and written by one thread.
map!(Softmax, SoftmaxArgs; in place: true);
// A thread reads channels that others write.
map!(Lrn, LrnArgs; in place: false);
