//! Builder of a network, layer by layer: shapes are inferred, concatenations become slices.

use crate::NetworkConfig;
use crate::conv::Conv;
use warpconv::error::Error;
use warpconv::problem::{
    self, Activation, Conv2d, LrnParameters, Padding, Pool2d, PoolKind, Subsample,
};

/// A max pooling without indices of the maxima.
const MAXIMUM: PoolKind = PoolKind::Max { indices: false };

/// A tensor of a network that is being described; made by the layers of [`Builder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tensor(pub(super) usize);

/// The extents of a tensor, and the wider one that it is a slice of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) c: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) part_of: Option<(Tensor, usize)>,
}

/// Operation of a layer; slices are filled in when all of them are known.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Conv {
        conv: Conv2d,
        residual: Option<Tensor>,
        norm: Option<String>,
        sees: Option<&'static [u16]>,
        trained: bool,
    },
    Pool(Pool2d),
    Relu,
    Lrn(LrnParameters),
    Softmax,
    Tanh {
        amplitude: f64,
        slope: f64,
    },
    Subsample(Subsample),
}

#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) from: Tensor,
    pub(super) to: Tensor,
}

/// Describes a network, layer by layer. The first error is kept and returned by
/// [`Builder::finish`], so that a description needs no `?` per layer.
#[derive(Debug)]
pub struct Builder {
    pub(super) config: NetworkConfig,
    pub(super) tensors: Vec<Shape>,
    pub(super) layers: Vec<Layer>,
    pub(super) wrong: Option<Error>,
    pub(super) norm_epsilon: f64,
}

/// Default constant that a batch normalisation adds to the variance: that of PyTorch's
/// `BatchNorm2d`.
const NORM_EPSILON: f64 = 1e-5;

impl Builder {
    /// A network of one configuration, and its input: `channels` planes of the configuration's rows
    /// and columns.
    pub fn new(config: &NetworkConfig, channels: usize) -> (Builder, Tensor) {
        Builder::with_input(config, [channels, config.image, config.image])
    }

    /// As [`Builder::new`] with an input of these channels, rows and columns instead of the
    /// configuration's square image.
    pub fn with_input(config: &NetworkConfig, [c, h, w]: [usize; 3]) -> (Builder, Tensor) {
        let input = Shape {
            c,
            h,
            w,
            part_of: None,
        };
        let builder = Builder {
            config: *config,
            tensors: vec![input],
            layers: Vec::new(),
            wrong: None,
            norm_epsilon: NORM_EPSILON,
        };
        (builder, Tensor(0))
    }

    /// Sets the constant that batch normalisations add to the variance before taking its root; the
    /// default is 1e-5.
    pub fn norm_epsilon(&mut self, epsilon: f64) {
        self.norm_epsilon = epsilon;
    }

    /// Adds a convolution.
    pub fn conv(&mut self, name: impl Into<String>, from: Tensor, conv: Conv) -> Tensor {
        self.convolve(name.into(), None, from, conv)
    }

    /// Adds a convolution of any kind: filters, window, groups, bias and ReLU are those of `conv`;
    /// input, types, layouts and the residual are set here.
    pub fn convolution(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        conv: problem::Builder<Conv2d>,
        residual: Option<Tensor>,
    ) -> Tensor {
        self.described(name.into(), None, from, conv, residual)
    }

    /// A convolution into which the batch normalisation `norm` is folded when its weights are read.
    pub fn conv_norm(
        &mut self,
        name: impl Into<String>,
        norm: impl Into<String>,
        from: Tensor,
        conv: Conv,
    ) -> Tensor {
        self.convolve(name.into(), Some(norm.into()), from, conv)
    }

    /// A fully connected layer: a convolution whose filters are as large as the plane.
    pub fn linear(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        outputs: usize,
        relu: bool,
    ) -> Tensor {
        let Shape { h, w, .. } = self.tensors[from.0];
        let conv = Conv {
            size: [h, w],
            relu,
            ..Conv::new(outputs, 1)
        };
        self.convolve(name.into(), None, from, conv)
    }

    /// The maximum of windows of `size` x `size`.
    pub fn max_pool(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        size: usize,
        stride: usize,
    ) -> Tensor {
        self.max_pool_padded(name, from, [size, stride, 0])
    }

    /// [`Builder::max_pool`] in ceil mode, as in Caffe: the last window may extend beyond the last
    /// row and column.
    pub fn max_pool_ceil(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        size: usize,
        stride: usize,
    ) -> Tensor {
        self.pool(name.into(), from, [size, stride, 0], MAXIMUM, true)
    }

    /// The maximum over the 3x3 neighbourhood of each pixel, with as many output pixels as input
    /// pixels.
    pub fn max_pool_same(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        self.max_pool_padded(name, from, [3, 1, 1])
    }

    /// The same as [`Builder::max_pool`] with `padding` on all four sides.
    pub fn max_pool_padded(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        [size, stride, padding]: [usize; 3],
    ) -> Tensor {
        self.pool(name.into(), from, [size, stride, padding], MAXIMUM, false)
    }

    /// The mean of windows of `size` x `size`, in ceil mode.
    pub fn mean_pool_ceil(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        size: usize,
        stride: usize,
    ) -> Tensor {
        let kind = PoolKind::Average {
            count_include_pad: true,
            divisor_override: None,
        };
        self.pool(name.into(), from, [size, stride, 0], kind, true)
    }

    /// The mean of each plane.
    pub fn global_mean(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        self.pool(name.into(), from, [1, 1, 0], PoolKind::GlobalAverage, false)
    }

    /// A pooling of any kind: kind, window and ceil mode are those of `pool`; input, type and
    /// layout are set here. A graph does not store indices of maxima.
    pub fn pooling(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        pool: problem::Builder<Pool2d>,
    ) -> Tensor {
        let [c, h, w] = self.extents(from);
        let config = &self.config;
        let pool = pool
            .input(config.n, c, h, w)
            .dtype(config.dtype)
            .layout(config.layout);
        match pool.build() {
            Ok(pool) => {
                let extents = [c, pool.output().h(), pool.output().w()];
                self.layer(name.into(), Kind::Pool(pool), from, extents)
            }
            Err(error) => self.failed(error, [c, 1, 1]),
        }
    }

    /// Local response normalisation.
    pub fn lrn(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        parameters: LrnParameters,
    ) -> Tensor {
        let Shape { c, h, w, .. } = self.tensors[from.0];
        self.layer(name.into(), Kind::Lrn(parameters), from, [c, h, w])
    }

    /// A ReLU in a launch of its own; [`Conv::relu`] makes it part of a convolution.
    pub fn relu(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        let extents = self.extents(from);
        self.layer(name.into(), Kind::Relu, from, extents)
    }

    /// Softmax over the channels of each pixel.
    pub fn softmax(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        let extents = self.extents(from);
        self.layer(name.into(), Kind::Softmax, from, extents)
    }

    /// LeNet-5's activation, `1.7159 tanh(2/3 x)`.
    pub fn tanh(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        self.tanh_scaled(name, from, crate::LENET5_TANH)
    }

    /// The activation `amplitude * tanh(slope * x)`.
    pub fn tanh_scaled(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        [amplitude, slope]: [f64; 2],
    ) -> Tensor {
        let extents = self.extents(from);
        let kind = Kind::Tanh { amplitude, slope };
        self.layer(name.into(), kind, from, extents)
    }

    /// LeNet-5's trainable subsampling: the sum of 2x2 pixels times the channel's coefficient, plus
    /// its bias, then the activation.
    pub fn subsample(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        let [amplitude, slope] = crate::LENET5_TANH;
        let subsample = Subsample::builder()
            .kernel(2, 2)
            .stride(2, 2)
            .activation(Activation::Tanh { amplitude, slope });
        self.subsampling(name, from, subsample)
    }

    /// A trainable subsampling; input, layout and type come from the network.
    pub fn subsampling(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        subsample: problem::Builder<Subsample>,
    ) -> Tensor {
        let [c, h, w] = self.extents(from);
        let config = &self.config;
        let built = subsample
            .input(config.n, c, h, w)
            .layout(config.layout)
            .dtype(config.dtype)
            .build();
        match built {
            Ok(made) => {
                let extents = [c, made.output().h(), made.output().w()];
                self.layer(name.into(), Kind::Subsample(made), from, extents)
            }
            Err(error) => self.failed(error, [c, 1, 1]),
        }
    }

    /// A convolution whose filters read only some channels each, one bit per channel: the weights
    /// of other channels are zero.
    pub fn conv_seeing(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        conv: Conv,
        channels: &'static [u16],
    ) -> Tensor {
        let tensor = self.convolve(name.into(), None, from, conv);
        if let Some(Layer {
            kind: Kind::Conv { sees, .. },
            ..
        }) = self.layers.last_mut()
        {
            *sees = Some(channels);
        }
        tensor
    }

    /// A fully connected layer whose weights are fixed patterns and not trained.
    pub fn patterns(&mut self, name: impl Into<String>, from: Tensor, outputs: usize) -> Tensor {
        let tensor = self.linear(name, from, outputs, false);
        if let Some(Layer {
            kind: Kind::Conv { trained, .. },
            ..
        }) = self.layers.last_mut()
        {
            *trained = false;
        }
        tensor
    }

    /// Concatenates tensors along the channels. The layers that compute them write into the wider
    /// tensor directly: nothing is copied.
    pub fn concat(&mut self, parts: &[Tensor]) -> Tensor {
        let shapes: Vec<Shape> = parts.iter().map(|part| self.tensors[part.0]).collect();
        let first = shapes.first().copied().unwrap_or(Shape {
            c: 0,
            h: 0,
            w: 0,
            part_of: None,
        });
        let mut channels = 0;
        let whole = Tensor(self.tensors.len());
        for (part, shape) in parts.iter().zip(&shapes) {
            if (shape.h, shape.w) != (first.h, first.w) {
                self.keep(Error::Shape {
                    what: "rows and columns of a part of a concatenation",
                    expected: vec![first.h, first.w],
                    got: vec![shape.h, shape.w],
                });
            }
            // A tensor lies in one place only; the input's is the caller's.
            if shape.part_of.is_some() || part.0 == 0 {
                self.keep(Error::Incompatible {
                    what: "a part of a concatenation",
                    with: "another concatenation or the network's input",
                });
            }
            self.tensors[part.0].part_of = Some((whole, channels));
            channels += shape.c;
        }
        self.tensors.push(Shape {
            c: channels,
            h: first.h,
            w: first.w,
            part_of: None,
        });
        whole
    }

    /// Channels, rows and columns of a tensor.
    pub fn extents(&self, tensor: Tensor) -> [usize; 3] {
        let Shape { c, h, w, .. } = self.tensors[tensor.0];
        [c, h, w]
    }

    fn convolve(&mut self, name: String, norm: Option<String>, from: Tensor, conv: Conv) -> Tensor {
        let described = Conv2d::builder()
            .filters(conv.filters)
            .kernel(conv.size[0], conv.size[1])
            .stride(conv.stride, conv.stride)
            .padding(Padding::same(conv.padding))
            .groups(conv.groups)
            .bias(true)
            .relu(conv.relu);
        self.described(name, norm, from, described, conv.residual)
    }

    fn described(
        &mut self,
        name: String,
        norm: Option<String>,
        from: Tensor,
        conv: problem::Builder<Conv2d>,
        residual: Option<Tensor>,
    ) -> Tensor {
        let [c, h, w] = self.extents(from);
        let config = &self.config;
        let built = conv
            .input(config.n, c, h, w)
            .residual(residual.is_some())
            .dtype(config.dtype)
            .layout(config.layout)
            .filter_layout(config.filter_layout)
            .math(config.math)
            .build();
        let built = match built {
            Ok(built) => built,
            Err(error) => return self.failed(error, [c, 1, 1]),
        };
        let extents = [built.output().c(), built.output().h(), built.output().w()];
        if let Some(added) = residual
            && self.extents(added) != extents
        {
            let got = self.extents(added).to_vec();
            self.keep(Error::Shape {
                what: "the tensor that a convolution adds",
                expected: extents.to_vec(),
                got,
            });
        }
        let kind = Kind::Conv {
            conv: built,
            residual,
            norm,
            sees: None,
            trained: true,
        };
        self.layer(name, kind, from, extents)
    }

    fn pool(
        &mut self,
        name: String,
        from: Tensor,
        [size, stride, padding]: [usize; 3],
        kind: PoolKind,
        ceil: bool,
    ) -> Tensor {
        let mut builder = Pool2d::builder().kind(kind);
        if matches!(kind, PoolKind::Max { .. } | PoolKind::Average { .. }) {
            builder = builder
                .kernel(size, size)
                .stride(stride, stride)
                .padding(Padding::same(padding))
                .ceil_mode(ceil);
        }
        self.pooling(name, from, builder)
    }

    fn layer(&mut self, name: String, kind: Kind, from: Tensor, [c, h, w]: [usize; 3]) -> Tensor {
        let to = self.tensor([c, h, w]);
        self.layers.push(Layer {
            name,
            kind,
            from,
            to,
        });
        to
    }

    fn tensor(&mut self, [c, h, w]: [usize; 3]) -> Tensor {
        self.tensors.push(Shape {
            c,
            h,
            w,
            part_of: None,
        });
        Tensor(self.tensors.len() - 1)
    }

    /// Keeps the first error, and returns a tensor with which the description can continue.
    fn failed(&mut self, error: Error, extents: [usize; 3]) -> Tensor {
        self.keep(error);
        self.tensor(extents)
    }

    fn keep(&mut self, error: Error) {
        self.wrong.get_or_insert(error);
    }
}
