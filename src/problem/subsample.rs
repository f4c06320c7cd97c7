//! LeNet-5's trainable subsampling.

use crate::error::Error;
use crate::problem::conv2d::Conv2d;
use crate::problem::pair::Real;
use crate::problem::tensor::{TensorDesc, Window, outputs};
use crate::problem::{DType, Layout};

/// Activation at the end of a subsampling.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// No activation.
    #[default]
    Identity,
    /// `max(x, 0)`, NaN kept.
    Relu,
    /// `amplitude tanh(slope x)`.
    Tanh {
        /// Factor of the tangent.
        amplitude: f64,
        /// Factor of x.
        slope: f64,
    },
}

/// Stored form of an [`Activation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stored {
    Identity,
    Relu,
    Tanh(Real, Real),
}

/// Trainable subsampling (LeCun et al. 1998, section II.B, S2 and S4): each channel has a
/// coefficient and a bias, `y[c][p][q] = act(coefficient[c] * sum of the window of
/// x[c] + bias[c])`. Without padding; windows that would pass the end of the image are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subsample {
    input: TensorDesc,
    output: TensorDesc,
    window: Window,
    mean: bool,
    activation: Stored,
}

impl Subsample {
    /// A subsampling between two dense tensors by windows (rows, columns) side by side: sums, and
    /// no activation.
    ///
    /// # Errors
    /// As [`TensorDesc::new`]; [`Error::Zero`] if the window is, [`Error::WindowTooLarge`] if it
    /// does not fit the image.
    pub fn new(
        [n, c, h, w]: [usize; 4],
        layout: Layout,
        dtype: DType,
        [r, s]: [usize; 2],
    ) -> Result<Self, Error> {
        let input = TensorDesc::named("input", [n, c, h, w], layout, dtype, None)?;
        Self {
            output: input.clone(),
            input,
            window: Window {
                stride: [r, s],
                ..Window::new(r, s)
            },
            mean: false,
            activation: Stored::Identity,
        }
        .sized(None)
    }

    /// The same problem with another stride (rows, columns).
    ///
    /// # Errors
    /// As [`Subsample::new`].
    pub fn stride(self, stride: [usize; 2]) -> Result<Self, Error> {
        let slice = Some((self.output.channel_pitch(), self.output.channel_offset()));
        let window = Window {
            stride,
            ..self.window
        };
        Self { window, ..self }.sized(slice)
    }

    /// The same problem with the mean of a window (or, `false`, its sum).
    pub fn mean(self, mean: bool) -> Self {
        Self { mean, ..self }
    }

    /// The same problem with another activation.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a constant of it is not finite.
    pub fn activation(self, activation: Activation) -> Result<Self, Error> {
        let activation = match activation {
            Activation::Identity => Stored::Identity,
            Activation::Relu => Stored::Relu,
            Activation::Tanh { amplitude, slope } => Stored::Tanh(
                Real::finite("the amplitude of a tanh", amplitude)?,
                Real::finite("the slope of a tanh", slope)?,
            ),
        };
        Ok(Self { activation, ..self })
    }

    /// The same problem with the input as channels `offset..offset + c` of a tensor of `pitch`
    /// channels.
    ///
    /// # Errors
    /// As [`TensorDesc::slice`].
    pub fn input_slice(self, pitch: usize, offset: usize) -> Result<Self, Error> {
        let input = self.input.slice(pitch, offset)?;
        Ok(Self { input, ..self })
    }

    /// The same problem with the output as channels `offset..offset + c` of a tensor of `pitch`
    /// channels.
    ///
    /// # Errors
    /// As [`TensorDesc::slice`].
    pub fn output_slice(self, pitch: usize, offset: usize) -> Result<Self, Error> {
        let output = self.output.slice(pitch, offset)?;
        Ok(Self { output, ..self })
    }

    /// The same problem for `n` images.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the tensors would not fit the address space.
    pub(crate) fn with_batch(&self, n: usize) -> Result<Self, Error> {
        Ok(Self {
            input: self.input.with_batch(n)?,
            output: self.output.with_batch(n)?,
            ..self.clone()
        })
    }

    /// Recomputes the output from window and stride.
    fn sized(self, slice: Option<(usize, usize)>) -> Result<Self, Error> {
        for (what, extents) in [
            ("a side of the window", self.window.kernel),
            ("a stride", self.window.stride),
        ] {
            if extents.contains(&0) {
                return Err(Error::Zero { what });
            }
        }
        let [rows, columns] = self.window.axes([self.input.h(), self.input.w()]);
        let [p, q] = outputs(rows, columns, false)?;
        let extents = [self.input.n(), self.input.c(), p, q];
        let (layout, dtype) = (self.input.layout(), self.input.dtype());
        let output = TensorDesc::named("output", extents, layout, dtype, slice)?;
        Ok(Self { output, ..self })
    }

    /// Images.
    pub(crate) fn n(&self) -> usize {
        self.input.n()
    }

    /// Channels, each with a coefficient and a bias.
    pub(crate) fn c(&self) -> usize {
        self.input.c()
    }

    /// Output rows.
    pub(crate) fn p(&self) -> usize {
        self.output.h()
    }

    /// Output columns.
    pub(crate) fn q(&self) -> usize {
        self.output.w()
    }

    /// Kernel and stride; there is neither dilation nor padding.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Divisor of a window's sum: 1, or its elements if the mean is taken.
    pub fn divisor(&self) -> usize {
        match self.mean {
            true => self.window.kernel[0] * self.window.kernel[1],
            false => 1,
        }
    }

    /// Activation at the end.
    pub fn activation_kind(&self) -> Activation {
        match self.activation {
            Stored::Identity => Activation::Identity,
            Stored::Relu => Activation::Relu,
            Stored::Tanh(amplitude, slope) => Activation::Tanh {
                amplitude: amplitude.get(),
                slope: slope.get(),
            },
        }
    }

    /// The convolution whose parameters have the form of these: 1x1 of one channel a group, on the
    /// output, the filters being the coefficients.
    ///
    /// # Errors
    /// None that a valid subsampling could cause.
    pub fn parameters(&self) -> Result<Conv2d, Error> {
        Conv2d::builder()
            .input(self.n(), self.c(), self.p(), self.q())
            .filters(self.c())
            .kernel(1, 1)
            .groups(self.c())
            .bias(true)
            .dtype(self.dtype())
            .layout(self.layout())
            .build()
    }

    /// Storage type of an element.
    pub(crate) fn dtype(&self) -> DType {
        self.input.dtype()
    }

    /// The layout of both tensors.
    pub(crate) fn layout(&self) -> Layout {
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

    /// Bytes that device memory must move at least: input, coefficients, biases and output once;
    /// saturated.
    pub(crate) fn min_bytes(&self) -> u64 {
        let elements = self.input.elements() as u64 + self.output.elements() as u64;
        let weights = 2 * self.c() as u64;
        elements
            .saturating_add(weights)
            .saturating_mul(self.dtype().size() as u64)
    }
}
