//! LeNet-5's trainable subsampling.

use crate::error::Error;
use crate::problem::conv2d::{Conv2d, Window, outputs};
use crate::problem::pair::Real;
use crate::problem::tensor::{Builder, Built, TensorDesc, Windowed};
use crate::problem::{DType, Layout, Padding};

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

impl Stored {
    /// Refuses constants that are not finite.
    fn checked(self) -> Result<Stored, Error> {
        if let Stored::Tanh(amplitude, slope) = self {
            Real::finite("the amplitude of a tanh", amplitude.get())?;
            Real::finite("the slope of a tanh", slope.get())?;
        }
        Ok(self)
    }
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

/// Options of a subsampling alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsampleOptions {
    mean: bool,
    /// Unchecked until the problem is built.
    activation: Stored,
}

impl Built for Subsample {
    type Own = SubsampleOptions;

    fn build(builder: Builder<Subsample>) -> Result<Subsample, Error> {
        let Builder { layout, dtype, .. } = builder;
        let window = builder.window;
        window.check(["the height of the window", "the width of the window"])?;
        if window.dilation != [1, 1] || window.padding != Padding::NONE {
            return Err(Error::Incompatible {
                what: "dilation or padding",
                with: "a subsampling",
            });
        }
        let (named, slice) = (TensorDesc::named, builder.input_slice);
        let input = named("input", builder.input, layout, dtype, slice)?;
        let [rows, columns] = window.axes([input.h(), input.w()]);
        let [p, q] = outputs(rows, columns, false)?;
        let (extents, slice) = ([input.n(), input.c(), p, q], builder.output_slice);
        Ok(Subsample {
            output: named("output", extents, layout, dtype, slice)?,
            input,
            window,
            mean: builder.own.mean,
            activation: builder.own.activation.checked()?,
        })
    }
}

impl Windowed for Subsample {}

impl Builder<Subsample> {
    /// Takes the mean of a window (or, `false`, its sum).
    pub fn mean(mut self, mean: bool) -> Self {
        self.own.mean = mean;
        self
    }

    /// Activation at the end.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.own.activation = match activation {
            Activation::Identity => Stored::Identity,
            Activation::Relu => Stored::Relu,
            Activation::Tanh { amplitude, slope } => {
                Stored::Tanh(Real::unchecked(amplitude), Real::unchecked(slope))
            }
        };
        self
    }
}

impl Subsample {
    /// Starts the description of a subsampling: sums, and no activation. Windows lie side by side
    /// if the stride is the kernel.
    pub fn builder() -> Builder<Subsample> {
        Builder::new(SubsampleOptions {
            mean: false,
            activation: Stored::Identity,
        })
    }

    /// The description that builds this problem again: change it and build.
    pub fn to_builder(&self) -> Builder<Subsample> {
        let own = SubsampleOptions {
            mean: self.mean,
            activation: self.activation,
        };
        Builder {
            window: self.window,
            ..Builder::between(&self.input, &self.output, own)
        }
    }

    /// The same problem for `n` images.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the tensors would not fit the address space.
    pub(crate) fn with_batch(&self, n: usize) -> Result<Self, Error> {
        let input = &self.input;
        let builder = self.to_builder();
        builder.input(n, input.c(), input.h(), input.w()).build()
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
    pub fn activation(&self) -> Activation {
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
