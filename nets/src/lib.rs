//! Whole networks, LeNet-5 to ResNet-50: plain descriptions, converted to graphs of
//! [`ops`](warpconv::ops).
//!
//! A description lists its layers in order on a [`Builder`], which infers the shapes. The branches
//! of a concatenation write their slices of it, and bias, residual and ReLU become part of the
//! preceding convolution's launch. Fully connected layers are convolutions whose filters are as
//! large as the plane. The result is a [`Network`]: a [`Graph`](warpconv::graph::Graph) to plan,
//! launch or capture, and the names of its weights.
//!
//! ```
//! use warpconv_nets::{NetworkConfig, Variant, resnet50};
//!
//! let network = resnet50(&NetworkConfig::new(1, 224), Variant::Bottlenecked)?;
//! assert_eq!(network.graph().macs() / 1_000_000, 4_089);
//! let shared = network.graph().clone().sharing_buffers();
//! assert!(shared.intermediates().len() < 8);
//! # Ok::<(), warpconv::Error>(())
//! ```
//!
//! [`Network::fused`] fuses launches where kernels accept them and the model ranks them first. A
//! bottleneck becomes one launch, and so do branches over the same input and independent
//! convolutions of equally many pixels. Where every group is fused, an inception module is two
//! launches, and so is a fire module.
//!
//! # Weights
//! [`Network::random`] draws them by seed; [`Network::read`] takes them from a map of named
//! tensors, and [`Network::read_safetensors`] from a file. Names are
//! torchvision's where torchvision has the network; each description says which.

#![deny(missing_docs)]

mod alexnet;
mod builder;
mod catalog;
mod conv;
mod googlenet;
mod lenet;
mod lower;
mod network;
mod nin;
mod resnet;
mod squeezenet;
mod vgg;
mod weights;

pub use alexnet::{alexnet, zfnet512};
pub use builder::{Builder, Tensor};
pub use catalog::{Entry, Published, entries};
pub use conv::Conv;
pub use googlenet::googlenet;
pub use lenet::{lenet5, lenet5_relu};
pub use network::{Network, Parameter};
pub use nin::{nin_cifar, nin_imagenet};
pub use resnet::resnet50;
pub use squeezenet::{Edges, squeezenet1_1};
pub use vgg::vgg16;
pub use weights::{Named, value};

use warpconv::kernels::{DType, Layout, Math};
use warpconv::problem::{FilterLayout, LrnParameters};

/// The amplitude and the slope of LeNet-5's activation (LeCun et al. 1998, appendix A).
pub const LENET5_TANH: [f64; 2] = [1.7159, 2.0 / 3.0];

/// AlexNet's normalisation: size 5, alpha 1e-4, beta 0.75, k 2.
pub const ALEXNET_LRN: LrnParameters = LrnParameters {
    size: 5,
    alpha: 1e-4,
    beta: 0.75,
    k: 2.0,
};

/// GoogLeNet's normalisation, which is Caffe's for AlexNet too: size 5, alpha 1e-4, beta 0.75, k 1.
pub const GOOGLENET_LRN: LrnParameters = LrnParameters {
    k: 1.0,
    ..ALEXNET_LRN
};

/// Configuration in which a network is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Number of images.
    pub n: usize,
    /// Rows and columns of an image.
    pub image: usize,
    /// Storage type of all tensors.
    pub dtype: DType,
    /// Mode of f32 multiplication.
    pub math: Math,
    /// The layout of activations.
    pub layout: Layout,
    /// The layout of filters.
    pub filter_layout: FilterLayout,
}

impl NetworkConfig {
    /// Configuration for CUDA cores: f32, NCHW, filters KCRS.
    pub const fn new(n: usize, image: usize) -> NetworkConfig {
        NetworkConfig {
            n,
            image,
            dtype: DType::F32,
            math: Math::Strict,
            layout: Layout::Nchw,
            filter_layout: FilterLayout::Kcrs,
        }
    }

    /// Configuration for tensor cores: NHWC, and filters that are packed once rather than before
    /// every launch. f32 is multiplied as tf32.
    pub const fn tensor(n: usize, image: usize, dtype: DType) -> NetworkConfig {
        NetworkConfig {
            n,
            image,
            dtype,
            math: match dtype {
                DType::F32 => Math::Tf32,
                DType::F16 | DType::Bf16 => Math::Strict,
            },
            layout: Layout::Nhwc,
            filter_layout: FilterLayout::Packed,
        }
    }
}

/// Variant of a network: with or without its bottlenecks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Large filters on all channels, in place of the bottlenecks.
    Naive,
    /// The network as published.
    Bottlenecked,
}

impl Variant {
    /// `naive` or `bottlenecked`.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::Naive => "naive",
            Variant::Bottlenecked => "bottlenecked",
        }
    }
}
