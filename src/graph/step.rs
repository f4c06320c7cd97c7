//! Operation of one launch of a graph.
//!
//! A new kind of step is one more variant of [`Step`] here, one of `PreparedStep` in `prepared.rs`,
//! and one arm of the reference in `testing/src/step.rs`; the compiler names all of them.

use std::borrow::Cow;

use crate::problem::{
    Added, Bottleneck2d, Branches, Conv2d, Lrn, Pool2d, Relu, Softmax, Subsample, Tanh, TensorDesc,
};

/// Operation that a node of a graph launches.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A convolution, its epilogue included.
    Conv(Conv2d),
    /// A pooling.
    Pool(Pool2d),
    /// Several convolutions in one launch, some behind a pooling.
    Branches(Box<Branches>),
    /// A ReLU of its own, from one tensor to another.
    Relu(Relu),
    /// A whole bottleneck. The node names a residual only if it is another tensor than the input
    /// ([`Added::Tensor`]).
    Bottleneck(Bottleneck2d),
    /// A local response normalisation.
    Lrn(Lrn),
    /// A softmax over channels.
    Softmax(Softmax),
    /// A hyperbolic tangent, scaled.
    Tanh(Tanh),
    /// A trainable subsampling. Its coefficients are given as the filters, its biases as the bias,
    /// of [`Subsample::parameters`].
    Subsample(Subsample),
}

impl Step {
    /// The tensors it reads, in the order of [`Node::from`]; the residual is apart.
    pub(crate) fn inputs(&self) -> Vec<&TensorDesc> {
        match self {
            Step::Conv(conv) => vec![conv.input()],
            Step::Pool(pool) => vec![pool.input()],
            Step::Branches(branches) => branches.inputs().collect(),
            Step::Relu(relu) => vec![relu.input()],
            Step::Bottleneck(bottleneck) => vec![bottleneck.input()],
            Step::Lrn(lrn) => vec![lrn.input()],
            Step::Softmax(softmax) => vec![softmax.input()],
            Step::Tanh(tanh) => vec![tanh.input()],
            Step::Subsample(subsample) => vec![subsample.input()],
        }
    }

    /// The tensor that is added before the last ReLU, if any.
    pub(crate) fn residual(&self) -> Option<&TensorDesc> {
        match self {
            Step::Conv(conv) => conv.residual(),
            Step::Bottleneck(bottleneck) => match bottleneck.added() {
                Added::Tensor => bottleneck.residual(),
                Added::Nothing | Added::Input => None,
            },
            Step::Branches(_) | Step::Pool(_) | Step::Relu(_) | Step::Subsample(_) => None,
            Step::Lrn(_) | Step::Softmax(_) | Step::Tanh(_) => None,
        }
    }

    /// The tensors it writes, in the order of [`Node::to`].
    pub(crate) fn outputs(&self) -> Vec<&TensorDesc> {
        match self {
            Step::Conv(conv) => vec![conv.output()],
            Step::Pool(pool) => vec![pool.output()],
            Step::Branches(branches) => branches.convolutions().map(Conv2d::output).collect(),
            Step::Relu(relu) => vec![relu.output()],
            Step::Bottleneck(bottleneck) => vec![bottleneck.output()],
            Step::Lrn(lrn) => vec![lrn.output()],
            Step::Softmax(softmax) => vec![softmax.output()],
            Step::Tanh(tanh) => vec![tanh.output()],
            Step::Subsample(subsample) => vec![subsample.output()],
        }
    }

    /// The convolutions whose filters it takes, in their order: each needs a
    /// [`Weights`](super::Weights) of [`FilterDesc::len`](crate::problem::FilterDesc::len)
    /// elements, and a bias exactly if it has one. A step with parameters of another kind names a
    /// convolution whose parameters have the same form, such as a 1x1 of as many groups as
    /// channels.
    pub fn weights(&self) -> Vec<Conv2d> {
        match self {
            Step::Conv(conv) => vec![conv.clone()],
            Step::Bottleneck(bottleneck) => bottleneck.convolutions().to_vec(),
            Step::Subsample(subsample) => subsample.parameters().into_iter().collect(),
            Step::Branches(branches) => branches.convolutions().cloned().collect(),
            Step::Pool(_) | Step::Relu(_) => Vec::new(),
            Step::Lrn(_) | Step::Softmax(_) | Step::Tanh(_) => Vec::new(),
        }
    }

    /// Multiply-adds with weights; a pooling has none.
    pub fn macs(&self) -> u64 {
        match self {
            Step::Conv(conv) => conv.macs(),
            Step::Bottleneck(bottleneck) => bottleneck.macs(),
            Step::Subsample(subsample) => subsample.output().elements() as u64,
            Step::Branches(branches) => branches.macs(),
            Step::Pool(_) | Step::Relu(_) => 0,
            Step::Lrn(_) | Step::Softmax(_) | Step::Tanh(_) => 0,
        }
    }

    /// Bytes at least moved: each operand once.
    pub fn min_bytes(&self) -> u64 {
        match self {
            Step::Conv(conv) => conv.min_bytes(),
            Step::Pool(pool) => pool.min_bytes(),
            Step::Branches(branches) => branches.min_bytes(),
            Step::Relu(relu) => relu.min_bytes(),
            Step::Bottleneck(bottleneck) => bottleneck.min_bytes(),
            Step::Lrn(lrn) => lrn.min_bytes(),
            Step::Softmax(softmax) => softmax.min_bytes(),
            Step::Tanh(tanh) => tanh.min_bytes(),
            Step::Subsample(subsample) => subsample.min_bytes(),
        }
    }
}

/// Tensor that a launch reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorId {
    /// Input of the graph.
    Input,
    /// Intermediate tensor of this number. Several launches may write it, each its own channels.
    Intermediate(usize),
    /// Output of the graph; the problem states which slice of it.
    Output,
}

/// Step with the tensors that it reads and writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The layer's name, as in the literature.
    pub name: Cow<'static, str>,
    /// Operation of the node.
    pub step: Step,
    /// Tensors read, one for each input of the step: never the output.
    pub from: Vec<TensorId>,
    /// Tensors written, one for each output of the step: never the input, nor where it reads. Two
    /// outputs may be different channels of the same tensor.
    pub to: Vec<TensorId>,
    /// The residual, exactly if the step has one: read like `from`.
    pub residual: Option<TensorId>,
}

impl Node {
    /// Node that reads one tensor and writes one, without a residual.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        step: Step,
        from: TensorId,
        to: TensorId,
    ) -> Node {
        Node {
            name: name.into(),
            step,
            from: vec![from],
            to: vec![to],
            residual: None,
        }
    }

    /// Adds the tensor of the residual.
    pub(crate) fn with_residual(self, residual: TensorId) -> Node {
        Node {
            residual: Some(residual),
            ..self
        }
    }

    /// Every tensor that it reads with its id, the residual last.
    pub fn reads(&self) -> impl Iterator<Item = (TensorId, &TensorDesc)> {
        let inputs = self.from.iter().copied().zip(self.step.inputs());
        inputs.chain(self.residual.zip(self.step.residual()))
    }

    /// Every tensor that it writes with its id.
    pub fn writes(&self) -> impl Iterator<Item = (TensorId, &TensorDesc)> {
        self.to.iter().copied().zip(self.step.outputs())
    }

    /// Multiply-adds with weights; a pooling has none.
    pub(crate) fn macs(&self) -> u64 {
        self.step.macs()
    }

    /// Bytes at least moved: each operand once.
    pub(crate) fn min_bytes(&self) -> u64 {
        self.step.min_bytes()
    }
}
