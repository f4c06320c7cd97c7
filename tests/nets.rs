//! Whole networks: their published numbers, and that what is planned once computes what it should.

mod common;

use common::gpu;
use warpconv::DType;
use warpconv::check::LoadedModule;
use warpconv::nets::{
    Edges, Form, Network, Variant, alexnet, entries, googlenet, lenet5, nin_cifar, nin_imagenet,
    resnet50, squeezenet1_1, vgg16, zfnet512,
};
use warpconv::ops::Module;
use warpconv::plan::Tuning;
use warpconv::problem::LrnParameters;

fn squeezenet(form: &Form) -> Network {
    squeezenet1_1(form, Edges::TORCHVISION, Variant::Bottlenecked).unwrap()
}

/// Parameters: 25,557,032 of torchvision's ResNet-50 count two numbers a channel of each batch normalisation, which folded
/// leaves one (26,560 channels); the others are torchvision's (VGG-16, SqueezeNet), the ONNX collection's (AlexNet, ZFNet-512
/// and GoogLeNet), the paper's (LeNet-5), and summed by hand over the published widths (Network in Network). Multiplications:
/// torchvision states 15.47, 4.089 and 0.349 thousand millions; AlexNet's are summed by hand.
#[test]
fn networks_have_their_published_numbers() {
    let numbers = |network: Network| (network.parameter_count(), network.module().macs());
    let form = Form::new(1, 224);
    assert_eq!(
        numbers(alexnet(&Form::new(1, 227), LrnParameters::ALEXNET).unwrap()),
        (60_965_224, 724_406_816)
    );
    // "LeNet-5 contains 340,908 connections, but only 60,000 trainable free parameters."
    let lenet = lenet5(&Form::new(1, 32)).unwrap();
    assert_eq!(lenet.parameter_count(), 60_000);
    assert_eq!(zfnet512(&form).unwrap().parameter_count(), 87_250_536);
    assert_eq!(nin_imagenet(&form).unwrap().parameter_count(), 7_595_176);
    let cifar = nin_cifar(&Form::new(1, 32)).unwrap();
    assert_eq!(cifar.parameter_count(), 966_986);
    assert_eq!(
        numbers(vgg16(&form).unwrap()),
        (138_357_544, 15_470_264_320)
    );
    let google = googlenet(&form, Variant::Bottlenecked).unwrap();
    assert_eq!(google.parameter_count(), 6_998_552);
    let resnet = resnet50(&form, Variant::Bottlenecked).unwrap();
    assert_eq!(numbers(resnet), (25_557_032 - 26_560, 4_089_184_256));
    let (parameters, macs) = numbers(squeezenet(&form));
    assert_eq!((parameters, macs / 1_000_000), (1_235_496, 349));
}

#[test]
fn every_network_ends_in_logits_and_needs_few_buffers() {
    for entry in entries() {
        for image in [entry.image, entry.small] {
            let network = entry.build(&Form::tensor(2, image, DType::Bf16));
            let network = network.unwrap_or_else(|e| panic!("{} at {image}: {e}", entry.name));
            let output = network.output();
            assert_eq!(
                (output.n(), output.h(), output.w()),
                (2, 1, 1),
                "{}",
                entry.name
            );
            let own = network.module().clone();
            let shared = own.clone().sharing_buffers();
            let bytes = |module: &Module| module.hidden().iter().sum::<usize>();
            assert!(
                shared.hidden().len() <= 7,
                "{}: {:?}",
                entry.name,
                shared.hidden()
            );
            assert!(bytes(&shared) < bytes(&own), "{}", entry.name);
            assert_eq!(own.weights().len(), network.parameters().len());
        }
        let refused = entry.build(&Form::new(1, 4));
        assert!(
            refused.is_err() || entry.name.starts_with("ResNet"),
            "{}",
            entry.name
        );
    }
}

/// Every launch within its own bound of the f64 reference; sharing buffers, and replaying a graph, give the same bits.
#[test]
fn small_networks_compute_what_they_should() {
    let gpu = gpu();
    // SAFETY: everything below happens in one stream.
    unsafe { gpu.context().disable_event_tracking() };
    let stream = gpu.context().new_stream().unwrap();
    let tuning = Tuning::new(gpu.card());
    let form = Form::new(1, 35);
    let network = squeezenet(&form);
    let (x, weights) = (network.random_input(1), network.random(10));
    let load = |module: &Module| {
        LoadedModule::<f32>::with(gpu, &stream, module, &tuning, &x, weights.clone()).unwrap()
    };
    let mut own = load(network.module());
    own.launch().unwrap();
    let verdict = own.check(u64::MAX).unwrap();
    assert_eq!(verdict.failure, None);
    assert!(verdict.max_rel_error < 1e-5, "{verdict}");
    let logits = own.outputs().unwrap();

    let mut shared = load(&network.module().clone().sharing_buffers());
    assert_eq!(shared.check(u64::MAX).unwrap().failure, None);
    assert_eq!(shared.outputs().unwrap(), logits);

    let other = network.random_input(2);
    let graph = shared.capture().unwrap();
    shared.set_input(&other).unwrap();
    graph.launch().unwrap();
    let replayed = shared.outputs().unwrap();
    assert_ne!(replayed, logits);
    own.set_input(&other).unwrap();
    own.launch().unwrap();
    assert_eq!(own.outputs().unwrap(), replayed);
}

/// ResNet-50 on a small picture: each bottleneck that the plan fuses is one launch, of the same weights in the same order, and
/// within its own bound of the reference.
#[test]
fn bottlenecks_of_a_network_are_fused() {
    let gpu = gpu();
    let build = |n, image| {
        let form = Form::tensor(n, image, DType::Bf16);
        resnet50(&form, Variant::Bottlenecked).unwrap()
    };
    let fuse = |network: Network| network.with_fused_bottlenecks(gpu.capability()).unwrap();
    let (separate, fused) = (build(128, 224), fuse(build(128, 224)));
    let launches = |network: &Network| network.module().launches();
    assert!(
        launches(&fused) < launches(&separate),
        "{}",
        launches(&fused)
    );
    let convs = |network: &Network| -> Vec<[usize; 4]> {
        let weights = network.module().weights();
        weights
            .iter()
            .map(|w| [w.k(), w.c(), w.r(), w.s()])
            .collect()
    };
    assert_eq!(convs(&fused), convs(&separate));
    assert_eq!(fused.module().macs(), separate.module().macs());
    assert!(fused.module().min_bytes() < separate.module().min_bytes());
}
