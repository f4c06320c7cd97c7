//! From named layers to a module: shapes are inferred, concatenations become slices, memory is planned.

use crate::error::Error;
use crate::nets::Form;
use crate::ops::{Module, Node, Place, Step};
use crate::problem::{
    Activation, Conv2d, Lrn, LrnParameters, Padding, Pool2d, PoolKind, Subsample, Tanh, TensorDesc,
};

/// A tensor of a network that is being described; made by the layers of [`Builder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tensor(usize);

/// A convolution as a layer: it has a bias always.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Conv {
    filters: usize,
    size: [usize; 2],
    stride: usize,
    padding: usize,
    groups: usize,
    relu: bool,
    residual: Option<Tensor>,
}

impl Conv {
    /// Filters of `size` x `size`, stride 1, no padding, no ReLU.
    pub const fn new(filters: usize, size: usize) -> Conv {
        Conv {
            filters,
            size: [size, size],
            stride: 1,
            padding: 0,
            groups: 1,
            relu: false,
            residual: None,
        }
    }

    /// Pixels from one window to the next.
    pub const fn stride(self, stride: usize) -> Conv {
        Conv { stride, ..self }
    }

    /// Zeros on all four sides.
    pub const fn padding(self, padding: usize) -> Conv {
        Conv { padding, ..self }
    }

    /// Groups that see only their own channels.
    pub const fn groups(self, groups: usize) -> Conv {
        Conv { groups, ..self }
    }

    /// A ReLU behind it, in the same launch.
    pub const fn relu(self) -> Conv {
        Conv { relu: true, ..self }
    }

    /// Adds a tensor before the ReLU, in the same launch.
    pub const fn add(self, residual: Tensor) -> Conv {
        Conv {
            residual: Some(residual),
            ..self
        }
    }
}

/// One set of filters with its bias, by the names under which files hold them.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// `NAME.weight` and `NAME.bias`.
    pub name: String,
    /// The batch normalisation to be folded into it, if a file holds `NORM.weight`, `NORM.bias`, `NORM.running_mean` and
    /// `NORM.running_var`.
    pub norm: Option<String>,
    /// The convolution that takes it.
    pub conv: Conv2d,
    /// The channels that each filter sees, a bit each, if not all: its other weights are zero.
    pub sees: Option<&'static [u16]>,
    /// Whether it is trained; patterns that are set by hand are not.
    pub trained: bool,
}

impl Parameter {
    /// Its shape: filters, channels of a group, rows, columns.
    pub fn shape(&self) -> [usize; 4] {
        let conv = &self.conv;
        [conv.k(), conv.group_c(), conv.r(), conv.s()]
    }

    /// Numbers in it that are trained, the bias among them.
    pub fn count(&self) -> u64 {
        if !self.trained {
            return 0;
        }
        let [_, _, r, s] = self.shape();
        let weights = match self.sees {
            None => self.conv.filter_elements() as u64,
            Some(sees) => {
                let seen: u32 = sees.iter().map(|channels| channels.count_ones()).sum();
                u64::from(seen) * (r * s) as u64
            }
        };
        let bias = if self.conv.bias() { self.conv.k() } else { 0 };
        weights + bias as u64
    }

    /// Sets the weights of channels that a filter does not see to zero.
    pub(super) fn mask(&self, w: &mut [f64]) {
        let [_, channels, r, s] = self.shape();
        for (filter, &seen) in w
            .chunks_mut(channels * r * s)
            .zip(self.sees.into_iter().flatten())
        {
            for (channel, taps) in filter.chunks_mut(r * s).enumerate() {
                if seen >> channel & 1 == 0 {
                    taps.fill(0.0);
                }
            }
        }
    }
}

/// A network ready to be planned: a module, and what its weights are called.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    module: Module,
    parameters: Vec<Parameter>,
    output: TensorDesc,
}

impl Network {
    /// The launches. Hidden tensors have buffers of their own; see [`Module::sharing_buffers`].
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// One for each of [`Module::weights`], in the same order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The same with its launches put together in another way, which take the same weights.
    pub(super) fn with_module(self, module: Module) -> Network {
        Network { module, ..self }
    }

    /// The logits.
    pub fn output(&self) -> &TensorDesc {
        &self.output
    }

    /// Numbers that are trained: filters and biases.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(Parameter::count).sum()
    }
}

/// The extents of a tensor, and the wider one that it is a slice of.
#[derive(Clone, Copy, Debug)]
struct Shape {
    c: usize,
    h: usize,
    w: usize,
    part_of: Option<(Tensor, usize)>,
}

/// What a layer computes; slices are filled in when all of them are known.
#[derive(Clone, Debug)]
enum Kind {
    Conv {
        conv: Conv2d,
        residual: Option<Tensor>,
        norm: Option<String>,
        sees: Option<&'static [u16]>,
        trained: bool,
    },
    Pool(Pool2d),
    Lrn(LrnParameters),
    Tanh,
    Subsample(Subsample),
}

#[derive(Clone, Debug)]
struct Layer {
    name: String,
    kind: Kind,
    from: Tensor,
    to: Tensor,
}

/// Describes a network, layer by layer. The first thing that is wrong is kept and returned by [`Builder::finish`], so that a
/// description reads as one.
#[derive(Debug)]
pub struct Builder {
    form: Form,
    tensors: Vec<Shape>,
    layers: Vec<Layer>,
    wrong: Option<Error>,
}

impl Builder {
    /// A network of one form, and its input: `channels` planes of the form's rows and columns.
    pub fn new(form: &Form, channels: usize) -> (Builder, Tensor) {
        let input = Shape {
            c: channels,
            h: form.image,
            w: form.image,
            part_of: None,
        };
        let builder = Builder {
            form: *form,
            tensors: vec![input],
            layers: Vec::new(),
            wrong: None,
        };
        (builder, Tensor(0))
    }

    /// A convolution.
    pub fn conv(&mut self, name: impl Into<String>, from: Tensor, conv: Conv) -> Tensor {
        self.convolve(name.into(), None, from, conv)
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
        self.pool(
            name.into(),
            from,
            [size, stride, 0],
            PoolKind::Max { indices: false },
            false,
        )
    }

    /// The same with windows that reach over the last row and column where the stride leaves some over, as Caffe's do.
    pub fn max_pool_ceil(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        size: usize,
        stride: usize,
    ) -> Tensor {
        self.pool(
            name.into(),
            from,
            [size, stride, 0],
            PoolKind::Max { indices: false },
            true,
        )
    }

    /// The maximum of the nine neighbours of each pixel, as many as before.
    pub fn max_pool_same(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        self.pool(
            name.into(),
            from,
            [3, 1, 1],
            PoolKind::Max { indices: false },
            false,
        )
    }

    /// The same as [`Builder::max_pool`] with `padding` on all four sides.
    pub fn max_pool_padded(
        &mut self,
        name: impl Into<String>,
        from: Tensor,
        [size, stride, padding]: [usize; 3],
    ) -> Tensor {
        let kind = PoolKind::Max { indices: false };
        self.pool(name.into(), from, [size, stride, padding], kind, false)
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

    /// LeNet-5's squashing function, `1.7159 tanh(2/3 x)`.
    pub fn tanh(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        let extents = self.extents(from);
        self.layer(name.into(), Kind::Tanh, from, extents)
    }

    /// LeNet-5's trainable subsampling: the sum of 2x2 pixels times the channel's coefficient, its bias, and the squashing
    /// function.
    pub fn subsample(&mut self, name: impl Into<String>, from: Tensor) -> Tensor {
        let [c, h, w] = self.extents(from);
        let form = &self.form;
        let [amplitude, slope] = Tanh::LENET5;
        let made = Subsample::new([form.n, c, h, w], form.layout, form.dtype, [2, 2])
            .and_then(|made| made.activation(Activation::Tanh { amplitude, slope }));
        match made {
            Ok(made) => {
                let extents = [c, made.output().h(), made.output().w()];
                self.layer(name.into(), Kind::Subsample(made), from, extents)
            }
            Err(error) => self.failed(error, [c, 1, 1]),
        }
    }

    /// A convolution whose filters see only some channels each, a bit for each channel: the others' weights are zero.
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

    /// A fully connected layer whose weights are patterns set by hand.
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

    /// Tensors one behind the other in the channels of a wider one. What makes them writes them there: nothing is copied.
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

    /// The network that ends in `output`.
    ///
    /// # Errors
    /// The first error of any layer, as of [`Conv2dBuilder::build`](crate::problem::Conv2dBuilder::build); else as
    /// [`Module::new`].
    pub fn finish(mut self, output: Tensor) -> Result<Network, Error> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let mut hidden = vec![None; self.tensors.len()];
        let (mut nodes, mut parameters) = (Vec::new(), Vec::new());
        for layer in &self.layers {
            let mut place = |tensor: Tensor| {
                let (root, _) = self.root(tensor);
                if root.0 == 0 {
                    return Place::Input;
                }
                if root == self.root(output).0 {
                    return Place::Output;
                }
                let used = hidden.iter().flatten().count();
                Place::Hidden(*hidden[root.0].get_or_insert(used))
            };
            let (step, parameter, residual) = self.step(layer)?;
            let (from, to) = (place(layer.from), place(layer.to));
            let mut node = Node::new(layer.name.clone(), step, from, to);
            node.residual = residual.map(&mut place);
            nodes.push(node);
            parameters.extend(parameter);
        }
        let [c, h, w] = self.extents(output);
        Ok(Network {
            module: Module::new(nodes, self.form.dtype)?,
            parameters,
            output: TensorDesc::new(self.form.n, c, h, w, self.form.layout, self.form.dtype)?,
        })
    }

    /// A layer with the slices that its tensors turned out to be.
    fn step(&self, layer: &Layer) -> Result<(Step, Option<Parameter>, Option<Tensor>), Error> {
        let (from, to) = (self.slice(layer.from), self.slice(layer.to));
        match &layer.kind {
            Kind::Conv {
                conv,
                residual,
                norm,
                sees,
                trained,
            } => {
                let mut builder = conv.to_builder();
                if let Some((pitch, offset)) = from {
                    builder = builder.input_slice(pitch, offset);
                }
                if let Some((pitch, offset)) = to {
                    builder = builder.output_slice(pitch, offset);
                }
                if let Some((pitch, offset)) = residual.and_then(|tensor| self.slice(tensor)) {
                    builder = builder.residual_slice(pitch, offset);
                }
                let conv = builder.build()?;
                let parameter = Parameter {
                    name: layer.name.clone(),
                    norm: norm.clone(),
                    conv: conv.clone(),
                    sees: *sees,
                    trained: *trained,
                };
                Ok((Step::Conv(conv), Some(parameter), *residual))
            }
            Kind::Pool(pool) => {
                let mut builder = pool.to_builder();
                if let Some((pitch, offset)) = from {
                    builder = builder.input_slice(pitch, offset);
                }
                if let Some((pitch, offset)) = to {
                    builder = builder.output_slice(pitch, offset);
                }
                Ok((Step::Pool(builder.build()?), None, None))
            }
            Kind::Lrn(parameters) => {
                let lrn = Lrn::between(self.desc(layer.from)?, self.desc(layer.to)?, *parameters)?;
                Ok((Step::Lrn(lrn), None, None))
            }
            Kind::Tanh => {
                let [amplitude, slope] = Tanh::LENET5;
                let tanh = Tanh::between(self.desc(layer.from)?, self.desc(layer.to)?)?;
                Ok((Step::Tanh(tanh.scaled(amplitude, slope)?), None, None))
            }
            Kind::Subsample(subsample) => {
                let mut subsample = subsample.clone();
                if let Some((pitch, offset)) = from {
                    subsample = subsample.input_slice(pitch, offset)?;
                }
                if let Some((pitch, offset)) = to {
                    subsample = subsample.output_slice(pitch, offset)?;
                }
                let parameter = Parameter {
                    name: layer.name.clone(),
                    norm: None,
                    conv: subsample.parameters()?,
                    sees: None,
                    trained: true,
                };
                Ok((Step::Subsample(subsample), Some(parameter), None))
            }
        }
    }

    fn convolve(&mut self, name: String, norm: Option<String>, from: Tensor, conv: Conv) -> Tensor {
        let [c, h, w] = self.extents(from);
        let form = &self.form;
        let built = Conv2d::builder()
            .input(form.n, c, h, w)
            .filters(conv.filters)
            .kernel(conv.size[0], conv.size[1])
            .stride(conv.stride, conv.stride)
            .padding(Padding::same(conv.padding))
            .groups(conv.groups)
            .bias(true)
            .relu(conv.relu)
            .residual(conv.residual.is_some())
            .dtype(form.dtype)
            .layout(form.layout)
            .filter_layout(form.filter_layout)
            .math(form.math)
            .build();
        let built = match built {
            Ok(built) => built,
            Err(error) => return self.failed(error, [conv.filters, 1, 1]),
        };
        let extents = [built.k(), built.p(), built.q()];
        if let Some(added) = conv.residual
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
            residual: conv.residual,
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
        let [c, h, w] = self.extents(from);
        let mut builder = Pool2d::builder()
            .kind(kind)
            .input(self.form.n, c, h, w)
            .dtype(self.form.dtype)
            .layout(self.form.layout);
        if kind.is_windowed() {
            builder = builder
                .window(size, size)
                .stride(stride, stride)
                .padding(Padding::same(padding))
                .ceil_mode(ceil);
        }
        match builder.build() {
            Ok(pool) => {
                let extents = [c, pool.p(), pool.q()];
                self.layer(name, Kind::Pool(pool), from, extents)
            }
            Err(error) => self.failed(error, [c, 1, 1]),
        }
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

    /// Keeps an error, and gives a tensor for the description to go on with.
    fn failed(&mut self, error: Error, extents: [usize; 3]) -> Tensor {
        self.keep(error);
        self.tensor(extents)
    }

    fn keep(&mut self, error: Error) {
        self.wrong.get_or_insert(error);
    }

    /// The tensor that has memory of its own, and the first channel in it.
    fn root(&self, tensor: Tensor) -> (Tensor, usize) {
        match self.tensors[tensor.0].part_of {
            None => (tensor, 0),
            Some((whole, offset)) => {
                let (root, before) = self.root(whole);
                (root, before + offset)
            }
        }
    }

    /// Pitch and offset, if the tensor is part of another.
    fn slice(&self, tensor: Tensor) -> Option<(usize, usize)> {
        self.tensors[tensor.0].part_of?;
        let (root, offset) = self.root(tensor);
        Some((self.tensors[root.0].c, offset))
    }

    fn desc(&self, tensor: Tensor) -> Result<TensorDesc, Error> {
        let [c, h, w] = self.extents(tensor);
        let form = &self.form;
        let dense = TensorDesc::new(form.n, c, h, w, form.layout, form.dtype)?;
        match self.slice(tensor) {
            Some((pitch, offset)) => dense.slice(pitch, offset),
            None => Ok(dense),
        }
    }
}
