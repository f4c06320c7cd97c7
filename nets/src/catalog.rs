//! The networks by name, with their published accuracy.

use super::{Edges, Network, NetworkConfig, Variant};
use super::{
    alexnet, googlenet, lenet5, lenet5_relu, nin_cifar, nin_imagenet, resnet50, squeezenet1_1,
    vgg16, zfnet512,
};
use warpconv::error::Error;

/// A published accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Top-1 accuracy on ImageNet's validation images in percent, one crop per image.
    pub top1: f64,
    /// Source of the figure.
    pub source: &'static str,
}

/// A network that can be built by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name of the network.
    pub name: &'static str,
    /// Year of publication.
    pub year: u32,
    /// Variant: with or without bottlenecks.
    pub variant: Variant,
    /// Rows and columns of its input image.
    pub image: usize,
    /// The smallest input image, in rows and columns, for which the layers are still meaningful;
    /// for quick runs.
    pub small: usize,
    /// Its accuracy, if one was published for a single crop.
    pub published: Option<Published>,
    build: fn(&NetworkConfig) -> Result<Network, Error>,
}

impl Entry {
    /// Returns whether the network has a naive variant to compare with, or is that variant.
    pub fn has_naive(&self) -> bool {
        let naive = |other: &Entry| other.name == self.name && other.variant == Variant::Naive;
        ENTRIES.iter().any(naive)
    }

    /// Describes the network in a configuration.
    ///
    /// # Errors
    /// As [`Builder::finish`](super::Builder::finish): a picture may be too small for it.
    pub fn build(&self, config: &NetworkConfig) -> Result<Network, Error> {
        (self.build)(config)
    }
}

const fn published(top1: f64, source: &'static str) -> Option<Published> {
    Some(Published { top1, source })
}

/// The accuracies: Caffe's models at github.com/BVLC/caffe (`models/bvlc_alexnet/readme.md` 57.1,
/// `models/bvlc_googlenet/readme.md` 68.7, centre crop), Network in Network's in its authors' entry
/// of Caffe's model zoo (gist d802a5849de39225bcc6: 59.36), torchvision's weights `IMAGENET1K_V1`
/// as stated beside them in github.com/pytorch/vision (VGG-16 71.592, SqueezeNet 1.1 58.178,
/// ResNet-50 76.130).
const ENTRIES: [Entry; 13] = [
    Entry {
        name: "LeNet-5",
        year: 1998,
        variant: Variant::Bottlenecked,
        image: 32,
        small: 32,
        published: None,
        build: lenet5,
    },
    Entry {
        name: "LeNet-5 (ReLU)",
        year: 1998,
        variant: Variant::Bottlenecked,
        image: 28,
        small: 28,
        published: None,
        build: lenet5_relu,
    },
    Entry {
        name: "AlexNet",
        year: 2012,
        variant: Variant::Bottlenecked,
        image: 227,
        small: 67,
        published: published(57.1, "Caffe, bvlc_alexnet, centre crop"),
        build: |config| alexnet(config, crate::ALEXNET_LRN),
    },
    Entry {
        name: "ZFNet-512",
        year: 2013,
        variant: Variant::Bottlenecked,
        image: 224,
        small: 64,
        published: None,
        build: zfnet512,
    },
    Entry {
        name: "NiN (CIFAR)",
        year: 2013,
        variant: Variant::Bottlenecked,
        image: 32,
        small: 32,
        published: None,
        build: nin_cifar,
    },
    Entry {
        name: "NiN",
        year: 2013,
        variant: Variant::Bottlenecked,
        image: 224,
        small: 67,
        published: published(59.36, "Caffe model zoo, Network in Network"),
        build: nin_imagenet,
    },
    Entry {
        name: "VGG-16",
        year: 2014,
        variant: Variant::Bottlenecked,
        image: 224,
        small: 32,
        published: published(71.592, "torchvision, IMAGENET1K_V1"),
        build: vgg16,
    },
    Entry {
        name: "GoogLeNet",
        year: 2014,
        variant: Variant::Naive,
        image: 224,
        small: 64,
        published: None,
        build: |config| googlenet(config, Variant::Naive),
    },
    Entry {
        name: "GoogLeNet",
        year: 2014,
        variant: Variant::Bottlenecked,
        image: 224,
        small: 64,
        published: published(68.7, "Caffe, bvlc_googlenet, centre crop"),
        build: |config| googlenet(config, Variant::Bottlenecked),
    },
    Entry {
        name: "ResNet-50",
        year: 2015,
        variant: Variant::Naive,
        image: 224,
        small: 32,
        published: None,
        build: |config| resnet50(config, Variant::Naive),
    },
    Entry {
        name: "ResNet-50",
        year: 2015,
        variant: Variant::Bottlenecked,
        image: 224,
        small: 32,
        published: published(76.13, "torchvision, IMAGENET1K_V1"),
        build: |config| resnet50(config, Variant::Bottlenecked),
    },
    Entry {
        name: "SqueezeNet 1.1",
        year: 2016,
        variant: Variant::Naive,
        image: 224,
        small: 32,
        published: None,
        build: |config| squeezenet1_1(config, Edges::TORCHVISION, Variant::Naive),
    },
    Entry {
        name: "SqueezeNet 1.1",
        year: 2016,
        variant: Variant::Bottlenecked,
        image: 224,
        small: 32,
        published: published(58.178, "torchvision, IMAGENET1K_V1"),
        build: |config| squeezenet1_1(config, Edges::TORCHVISION, Variant::Bottlenecked),
    },
];

/// Every network, oldest first, the naive variant before the published one.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}
