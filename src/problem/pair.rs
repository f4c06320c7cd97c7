//! Shared part of operations that keep the extents: an input and an output of the same shape.

use std::fmt;

use crate::error::Error;
use crate::problem::tensor::TensorDesc;

/// Input and output of an operation that keeps the extents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) input: TensorDesc,
    pub(crate) output: TensorDesc,
}

impl Pair {
    /// Two tensors that may be slices; `what` names the output in errors.
    pub(crate) fn new(
        what: &'static str,
        input: &TensorDesc,
        output: &TensorDesc,
    ) -> Result<Self, Error> {
        let extents = |t: &TensorDesc| vec![t.n(), t.c(), t.h(), t.w()];
        if extents(input) != extents(output) {
            return Err(Error::Shape {
                what,
                expected: extents(input),
                got: extents(output),
            });
        }
        if input.layout() != output.layout() {
            return Err(Error::Incompatible {
                what: "an output of one layout",
                with: "an input of the other",
            });
        }
        if input.dtype() != output.dtype() {
            return Err(Error::Incompatible {
                what: "an output of one type",
                with: "an input of another",
            });
        }
        Ok(Self {
            input: input.clone(),
            output: output.clone(),
        })
    }

    /// The same tensors with `n` images.
    pub(crate) fn with_batch(&self, n: usize) -> Result<Self, Error> {
        Ok(Self {
            input: self.input.with_batch(n)?,
            output: self.output.with_batch(n)?,
        })
    }

    /// One read and one write of every element; saturated.
    pub(crate) fn min_bytes(&self) -> u64 {
        let bytes = self.input.elements() as u64 * self.input.dtype().size() as u64;
        bytes.saturating_mul(2)
    }
}

/// The methods of a problem that holds a `pair`.
macro_rules! pair_methods {
    () => {
        /// The same problem for `n` images.
        ///
        /// # Errors
        /// [`Error::TooLarge`] if the tensors would not fit the address space.
        pub(crate) fn with_batch(&self, n: usize) -> Result<Self, Error> {
            let mut problem = self.clone();
            problem.pair = self.pair.with_batch(n)?;
            Ok(problem)
        }

        /// The input.
        pub(crate) fn input(&self) -> &TensorDesc {
            &self.pair.input
        }

        /// The output.
        pub(crate) fn output(&self) -> &TensorDesc {
            &self.pair.output
        }

        /// Bytes that device memory must move at least: one read and one write of every element;
        /// saturated.
        pub(crate) fn min_bytes(&self) -> u64 {
            self.pair.min_bytes()
        }
    };
}
pub(crate) use pair_methods;

/// A finite number that can be compared and hashed bit by bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Real(u64);

impl Real {
    /// Takes any number.
    pub(crate) fn unchecked(value: f64) -> Real {
        Real(value.to_bits())
    }

    /// Refuses NaN and infinities.
    pub(crate) fn finite(what: &'static str, value: f64) -> Result<Real, Error> {
        if value.is_finite() {
            return Ok(Real(value.to_bits()));
        }
        Err(Error::Parameter {
            what,
            value,
            needs: "finite",
        })
    }

    /// Refuses negative numbers too.
    pub(crate) fn not_negative(what: &'static str, value: f64) -> Result<Real, Error> {
        if value.is_finite() && value >= 0.0 {
            return Ok(Real(value.to_bits()));
        }
        Err(Error::Parameter {
            what,
            value,
            needs: "finite and not negative",
        })
    }

    /// The number.
    pub(crate) fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
