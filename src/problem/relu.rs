//! ReLU as an operation of its own.

use crate::catalog::{DType, Layout};
use crate::error::Error;
use crate::problem::tensor::TensorDesc;

/// `y = max(x, 0)` with NaN kept, element by element. Input and output may be different slices, or the same buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relu {
    input: TensorDesc,
    output: TensorDesc,
}

impl Relu {
    /// A ReLU between two dense tensors.
    ///
    /// # Errors
    /// As [`TensorDesc::new`].
    pub fn new(
        n: usize,
        c: usize,
        h: usize,
        w: usize,
        layout: Layout,
        dtype: DType,
    ) -> Result<Self, Error> {
        let input = TensorDesc::new(n, c, h, w, layout, dtype)?;
        Ok(Self {
            output: input.clone(),
            input,
        })
    }

    /// A ReLU from `input` to `output`, which may be slices.
    ///
    /// # Errors
    /// [`Error::Shape`] if their extents differ, [`Error::Incompatible`] if their layouts or types do.
    pub fn between(input: TensorDesc, output: TensorDesc) -> Result<Self, Error> {
        let extents = |t: &TensorDesc| vec![t.n(), t.c(), t.h(), t.w()];
        if extents(&input) != extents(&output) {
            return Err(Error::Shape {
                what: "output of a ReLU",
                expected: extents(&input),
                got: extents(&output),
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
        Ok(Self { input, output })
    }

    /// The same problem with the input as channels `offset..offset + c` of a tensor of `pitch` channels.
    ///
    /// # Errors
    /// As [`TensorDesc::slice`].
    pub fn input_slice(self, pitch: usize, offset: usize) -> Result<Self, Error> {
        Ok(Self {
            input: self.input.slice(pitch, offset)?,
            ..self
        })
    }

    /// The same problem with the output as channels `offset..offset + c` of a tensor of `pitch` channels.
    ///
    /// # Errors
    /// As [`TensorDesc::slice`].
    pub fn output_slice(self, pitch: usize, offset: usize) -> Result<Self, Error> {
        Ok(Self {
            output: self.output.slice(pitch, offset)?,
            ..self
        })
    }

    /// Images.
    pub fn n(&self) -> usize {
        self.input.n()
    }

    /// Channels.
    pub fn c(&self) -> usize {
        self.input.c()
    }

    /// Rows.
    pub fn h(&self) -> usize {
        self.input.h()
    }

    /// Columns.
    pub fn w(&self) -> usize {
        self.input.w()
    }

    /// How an element is stored.
    pub fn dtype(&self) -> DType {
        self.input.dtype()
    }

    /// The layout of both tensors.
    pub fn layout(&self) -> Layout {
        self.input.layout()
    }

    /// The input.
    pub fn input(&self) -> &TensorDesc {
        &self.input
    }

    /// The output.
    pub fn output(&self) -> &TensorDesc {
        &self.output
    }

    /// Bytes that device memory must move at least: one read and one write of every element; saturated.
    pub fn min_bytes(&self) -> u64 {
        let bytes = self.input.elements() as u64 * self.dtype().size() as u64;
        bytes.saturating_mul(2)
    }
}
