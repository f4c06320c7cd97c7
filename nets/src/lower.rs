//! Lowers the layers of a description to the launches of a graph, when all slices are known.

use super::builder::{Builder, Kind, Layer, Tensor};
use super::network::{Network, Parameter};
use warpconv::error::Error;
use warpconv::graph::{Graph, Node, Step, TensorId};
use warpconv::problem::{Lrn, Relu, Softmax, Tanh, TensorDesc};

impl Builder {
    /// Builds the network that ends in `output`.
    ///
    /// # Errors
    /// The first error of any layer, as of
    /// [`Builder::build`](warpconv::problem::Builder::build); else as [`Graph::new`].
    pub fn finish(mut self, output: Tensor) -> Result<Network, Error> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let mut intermediates = vec![None; self.tensors.len()];
        let (mut nodes, mut parameters) = (Vec::new(), Vec::new());
        for layer in &self.layers {
            let mut place = |tensor: Tensor| {
                let (root, _) = self.root(tensor);
                if root.0 == 0 {
                    return TensorId::Input;
                }
                if root == self.root(output).0 {
                    return TensorId::Output;
                }
                let used = intermediates.iter().flatten().count();
                TensorId::Intermediate(*intermediates[root.0].get_or_insert(used))
            };
            let (step, parameter, residual) = self.step(layer)?;
            let (from, to) = (place(layer.from), place(layer.to));
            let mut node = Node::new(layer.name.clone(), step, from, to);
            node.residual = residual.map(&mut place);
            nodes.push(node);
            parameters.extend(parameter.map(|parameter| Parameter {
                index: parameters.len() as u64,
                ..parameter
            }));
        }
        let [c, h, w] = self.extents(output);
        Ok(Network {
            graph: Graph::new(nodes, self.config.dtype)?,
            parameters,
            output: TensorDesc::new(
                [self.config.n, c, h, w],
                self.config.layout,
                self.config.dtype,
            )?,
        })
    }

    /// The step of a layer, with the resolved slices of its tensors.
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
                    norm_epsilon: self.norm_epsilon,
                    conv: conv.clone(),
                    sees: *sees,
                    trained: *trained,
                    index: 0,
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
                let lrn = Lrn::new(&self.desc(layer.from)?, &self.desc(layer.to)?, *parameters)?;
                Ok((Step::Lrn(lrn), None, None))
            }
            Kind::Relu => {
                let relu = Relu::new(&self.desc(layer.from)?, &self.desc(layer.to)?)?;
                Ok((Step::Relu(relu), None, None))
            }
            Kind::Softmax => {
                let softmax = Softmax::new(&self.desc(layer.from)?, &self.desc(layer.to)?)?;
                Ok((Step::Softmax(softmax), None, None))
            }
            &Kind::Tanh { amplitude, slope } => {
                let tanh = Tanh::new(
                    &self.desc(layer.from)?,
                    &self.desc(layer.to)?,
                    [amplitude, slope],
                )?;
                Ok((Step::Tanh(tanh), None, None))
            }
            Kind::Subsample(subsample) => {
                let mut builder = subsample.to_builder();
                if let Some((pitch, offset)) = from {
                    builder = builder.input_slice(pitch, offset);
                }
                if let Some((pitch, offset)) = to {
                    builder = builder.output_slice(pitch, offset);
                }
                let subsample = builder.build()?;
                let parameter = Parameter {
                    name: layer.name.clone(),
                    norm: None,
                    norm_epsilon: self.norm_epsilon,
                    conv: subsample.parameters()?,
                    sees: None,
                    trained: true,
                    index: 0,
                };
                Ok((Step::Subsample(subsample), Some(parameter), None))
            }
        }
    }

    /// The tensor that owns the memory, and the first channel within it.
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
        let config = &self.config;
        let dense = TensorDesc::new([config.n, c, h, w], config.layout, config.dtype)?;
        match self.slice(tensor) {
            Some((pitch, offset)) => dense.slice(pitch, offset),
            None => Ok(dense),
        }
    }
}
