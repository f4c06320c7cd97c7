//! Whole networks: their published numbers, and that what is planned once computes what it should.

use crate::common::gpu;
use crate::common::process::own_process;
use half::{bf16, f16};
use warpconv::DType;
use warpconv::device::Gpu;
use warpconv::graph::{FuseOptions, FusePolicy, FusionDecision, Graph, Pattern};
use warpconv::plan::Tuning;
use warpconv_nets::{
    Builder, Conv, Edges, Network, NetworkConfig, Variant, alexnet, entries, googlenet, lenet5,
    nin_cifar, nin_imagenet, resnet50, squeezenet1_1, vgg16, zfnet512,
};
use warpconv_testing::{GraphOnDevice, NormError, Stored};

fn squeezenet(config: &NetworkConfig) -> Network {
    squeezenet1_1(config, Edges::TORCHVISION, Variant::Bottlenecked).unwrap()
}

/// Parameters: 25,557,032 of torchvision's ResNet-50 count two numbers a channel of each batch
/// normalisation, which folded leaves one (26,560 channels); the others are torchvision's (VGG-16,
/// SqueezeNet), the ONNX collection's (AlexNet, ZFNet-512 and GoogLeNet), the paper's (LeNet-5),
/// and summed by hand over the published widths (Network in Network). Multiplications: torchvision
/// states 15.47, 4.089 and 0.349 thousand millions; AlexNet's are summed by hand.
#[test]
fn networks_have_their_published_numbers() {
    let numbers = |network: Network| (network.parameter_count(), network.graph().macs());
    let config = NetworkConfig::new(1, 224);
    assert_eq!(
        numbers(alexnet(&NetworkConfig::new(1, 227), warpconv_nets::ALEXNET_LRN).unwrap()),
        (60_965_224, 724_406_816)
    );
    // "LeNet-5 contains 340,908 connections, but only 60,000 trainable free parameters."
    let lenet = lenet5(&NetworkConfig::new(1, 32)).unwrap();
    assert_eq!(lenet.parameter_count(), 60_000);
    assert_eq!(zfnet512(&config).unwrap().parameter_count(), 87_250_536);
    assert_eq!(nin_imagenet(&config).unwrap().parameter_count(), 7_595_176);
    let cifar = nin_cifar(&NetworkConfig::new(1, 32)).unwrap();
    assert_eq!(cifar.parameter_count(), 966_986);
    assert_eq!(
        numbers(vgg16(&config).unwrap()),
        (138_357_544, 15_470_264_320)
    );
    let google = googlenet(&config, Variant::Bottlenecked).unwrap();
    assert_eq!(google.parameter_count(), 6_998_552);
    let resnet = resnet50(&config, Variant::Bottlenecked).unwrap();
    assert_eq!(numbers(resnet), (25_557_032 - 26_560, 4_089_184_256));
    let (parameters, macs) = numbers(squeezenet(&config));
    assert_eq!((parameters, macs / 1_000_000), (1_235_496, 349));
}

#[test]
fn every_network_ends_in_logits_and_needs_few_buffers() {
    for entry in entries() {
        for image in [entry.image, entry.small] {
            let network = entry.build(&NetworkConfig::tensor(2, image, DType::Bf16));
            let network = network.unwrap_or_else(|e| panic!("{} at {image}: {e}", entry.name));
            let output = network.output();
            assert_eq!(
                (output.n(), output.h(), output.w()),
                (2, 1, 1),
                "{}",
                entry.name
            );
            let own = network.graph().clone();
            let shared = own.clone().sharing_buffers();
            let bytes = |module: &Graph| module.intermediates().iter().sum::<usize>();
            assert!(
                shared.intermediates().len() <= 7,
                "{}: {:?}",
                entry.name,
                shared.intermediates()
            );
            assert!(bytes(&shared) < bytes(&own), "{}", entry.name);
            assert_eq!(own.weights().len(), network.parameters().len());
        }
        let refused = entry.build(&NetworkConfig::new(1, 4));
        assert!(
            refused.is_err() || entry.name.starts_with("ResNet"),
            "{}",
            entry.name
        );
    }
}

/// Every launch within its own bound of the f64 reference; sharing buffers, and replaying a graph,
/// give the same bits.
#[test]
fn small_networks_compute_what_they_should() {
    own_process(|| {
        let gpu = gpu();
        // SAFETY: each buffer is used in one stream only, here and in the other tests, which share
        // this context.
        unsafe { gpu.context().disable_event_tracking() };
        let stream = gpu.context().new_stream().unwrap();
        let tuning = Tuning::new(gpu.card());
        let config = NetworkConfig::new(1, 35);
        let network = squeezenet(&config);
        let (x, weights) = (network.random_input(1), network.random(10));
        let load = |module: &Graph| {
            GraphOnDevice::<f32>::with(gpu, &stream, module, &tuning, &x, weights.clone()).unwrap()
        };
        let mut own = load(network.graph());
        own.launch().unwrap();
        let check_result = own.check(u64::MAX).unwrap();
        assert_eq!(check_result.failure, None);
        assert!(check_result.max_rel_error < 1e-5, "{check_result}");
        let logits = own.outputs().unwrap();

        let mut shared = load(&network.graph().clone().sharing_buffers());
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
    });
}

/// Effect of fusion at full size: launches and bytes, and neither weights nor multiplications.
#[test]
fn networks_are_fused_where_it_pays() {
    if !fuses() {
        return;
    }
    let gpu = gpu();
    let (resnet, google): (Build, Build) = (
        |config| resnet50(config, Variant::Bottlenecked).unwrap(),
        |config| googlenet(config, Variant::Bottlenecked).unwrap(),
    );
    for (name, build) in [("ResNet-50", resnet), ("GoogLeNet", google)] {
        let separate = build(&NetworkConfig::tensor(128, 224, DType::Bf16));
        let options = FuseOptions::new(gpu.capability());
        let (fused, decisions) = separate.clone().fused(&options).unwrap();
        assert!(decisions.iter().any(FusionDecision::is_fused), "{name}");
        let launches = |network: &Network| network.graph().launches();
        assert!(
            launches(&fused) < launches(&separate),
            "{name}: {}",
            launches(&fused)
        );
        assert_eq!(fused.graph().macs(), separate.graph().macs(), "{name}");
        assert!(
            fused.graph().min_bytes() < separate.graph().min_bytes(),
            "{name}"
        );
        // Each launch takes the weights of its own layers, which are the same numbers as before.
        let mut taken = Vec::new();
        for (weights, parameter) in fused.graph().weights().iter().zip(fused.parameters()) {
            let shape = [
                weights.output().c(),
                weights.filter().c,
                weights.filter().r,
                weights.filter().s,
            ];
            assert_eq!(shape, parameter.shape(), "{name}: {}", parameter.name);
            taken.push(parameter.name.as_str());
        }
        let mut all: Vec<&str> = separate.parameters().iter().map(|p| &*p.name).collect();
        taken.sort_unstable();
        all.sort_unstable();
        assert_eq!(taken, all, "{name}");
        assert_eq!(
            fused.parameter_count(),
            separate.parameter_count(),
            "{name}"
        );
    }
    // Two launches per module: GoogLeNet's nine have seven layers each, SqueezeNet's eight have
    // three.
    let fits = |network: Network| {
        let (fused, _) = network.fused(&always(gpu)).unwrap();
        fused.graph().launches()
    };
    let google = google(&NetworkConfig::tensor(1, 64, DType::F16));
    let whole = google.graph().launches();
    assert_eq!(fits(google), whole - 9 * 5);
    let squeeze = squeezenet(&NetworkConfig::tensor(1, 64, DType::F16));
    let whole = squeeze.graph().launches();
    assert_eq!(fits(squeeze), whole - 8);
}

type Build = fn(&NetworkConfig) -> Network;

/// Fuses wherever a kernel accepts the nodes.
fn always(gpu: &Gpu) -> FuseOptions<'_> {
    FuseOptions {
        policy: FusePolicy::Always,
        ..FuseOptions::new(gpu.capability())
    }
}

/// Returns whether the device has kernels for several convolutions at once.
fn fuses() -> bool {
    let has = gpu().capability().version() >= (8, 0);
    if !has {
        println!("nothing to fuse before compute capability 8.0");
    }
    has
}

/// All launches that a kernel takes at once, each within its own bound of the f64 reference;
/// sharing buffers gives the same bits; and the logits are those of separate launches: both may be
/// off by what [`network_tolerance`](warpconv_testing::network_tolerance) allows, so their
/// difference by twice that.
fn fused_equals_separate<T: Stored>(network: Network, fewer: usize) {
    let gpu = gpu();
    let tuning = Tuning::new(gpu.card());
    let (fused, _) = network.clone().fused(&always(gpu)).unwrap();
    assert_eq!(fused.graph().launches() + fewer, network.graph().launches());
    let x = network.random_input(1);
    let load = |network: &Network, module: &Graph| {
        let weights = network.random(10);
        GraphOnDevice::<T>::with(gpu, gpu.stream(), module, &tuning, &x, weights).unwrap()
    };
    let logits = |loaded: &mut GraphOnDevice<T>| -> Vec<f64> {
        loaded.launch().unwrap();
        let outputs = loaded.outputs().unwrap().into_iter();
        outputs.flat_map(|(_, values)| values).collect()
    };
    let want = logits(&mut load(&network, network.graph()));
    let mut own = load(&fused, fused.graph());
    let got = logits(&mut own);
    assert_eq!(own.check(u64::MAX).unwrap().failure, None);
    let shared = fused.graph().clone().sharing_buffers();
    assert_eq!(logits(&mut load(&fused, &shared)), got);
    let apart = NormError::of(&got, &want, T::DTYPE);
    println!("{fewer} launches fewer: off by {apart}");
    assert!(apart.is_near(), "{apart}");
}

#[test]
fn a_fused_googlenet_equals_a_separate_one() {
    if !fuses() {
        return;
    }
    let network = googlenet(
        &NetworkConfig::tensor(1, 64, DType::F16),
        Variant::Bottlenecked,
    )
    .unwrap();
    fused_equals_separate::<f16>(network, 45);
}

#[test]
fn a_fused_squeezenet_equals_a_separate_one() {
    if !fuses() {
        return;
    }
    fused_equals_separate::<bf16>(squeezenet(&NetworkConfig::tensor(2, 51, DType::Bf16)), 8);
}

/// Two stages of bottlenecks, the second with a stride, on CUDA cores; and the same on tensor
/// cores.
fn two_bottlenecks(config: &NetworkConfig) -> Network {
    let (mut net, x) = Builder::new(config, 24);
    let mut block = |name: &str, x, mid_channels: usize, wide: usize, stride: usize| {
        let past = net.conv(format!("{name}.past"), x, Conv::new(wide, 1).stride(stride));
        let y = net.conv(format!("{name}.1"), x, Conv::new(mid_channels, 1).relu());
        let y = net.conv(
            format!("{name}.2"),
            y,
            Conv::new(mid_channels, 3).stride(stride).padding(1).relu(),
        );
        net.conv(format!("{name}.3"), y, Conv::new(wide, 1).relu().add(past))
    };
    let x = block("a", x, 16, 48, 1);
    let x = block("b", x, 15, 64, 2);
    let x = net.global_mean("mean", x);
    let x = net.linear("fc", x, 10, false);
    net.finish(x).unwrap()
}

#[test]
fn fused_bottlenecks_equal_separate_ones_on_cuda_cores() {
    if !fuses() {
        return;
    }
    fused_equals_separate::<f32>(two_bottlenecks(&NetworkConfig::new(2, 13)), 4);
}

/// Five windows over one input are one more than a launch takes: the fifth stays by itself.
#[test]
fn more_branches_than_a_launch_takes_are_fused_in_part() {
    if !fuses() {
        return;
    }
    let (mut net, x) = Builder::new(&NetworkConfig::tensor(2, 9, DType::F16), 16);
    let windows = [1, 3, 5, 7, 9];
    let branches = windows.map(|window| {
        let conv = Conv::new(24, window).padding(window / 2).relu();
        net.conv(format!("{window}x{window}"), x, conv)
    });
    let x = net.concat(&branches);
    let x = net.global_mean("mean", x);
    let x = net.linear("fc", x, 10, false);
    fused_equals_separate::<f16>(net.finish(x).unwrap(), 3);
}

#[test]
fn a_fused_resnet_equals_a_separate_one() {
    if !fuses() {
        return;
    }
    let network = resnet50(
        &NetworkConfig::tensor(1, 33, DType::Bf16),
        Variant::Bottlenecked,
    )
    .unwrap();
    let options = FuseOptions {
        pattern: Some(Pattern::Bottleneck),
        ..always(gpu())
    };
    let (fused, _) = network.clone().fused(&options).unwrap();
    let fewer = network.graph().launches() - fused.graph().launches();
    assert!(fewer >= 2 * 3, "{fewer}");
    fused_equals_separate::<bf16>(network, fewer);
}

/// The clock of a pass: by a graph where the stream can be captured, else launch by launch.
#[test]
fn a_pass_is_timed_as_a_graph() {
    own_process(|| {
        let gpu = gpu();
        // SAFETY: each buffer is used in one stream only, here and in the other tests, which share
        // this context.
        unsafe { gpu.context().disable_event_tracking() };
        let stream = gpu.context().new_stream().unwrap();
        let network = two_bottlenecks(&NetworkConfig::new(1, 5));
        let tuning = Tuning::new(gpu.card());
        for (stream, captured) in [(&stream, true), (gpu.stream(), false)] {
            let (x, weights) = (network.random_input(1), network.random(10));
            let module = network.graph().clone().sharing_buffers();
            let loaded = GraphOnDevice::<f32>::with(gpu, stream, &module, &tuning, &x, weights);
            let mut loaded = loaded.unwrap();
            let time = loaded.time(1).unwrap();
            assert_eq!(time.captured, captured);
            assert!(time.us.is_finite() && time.us >= 0.0, "{time:?}");
            // What was timed is the network.
            assert_eq!(loaded.check(u64::MAX).unwrap().failure, None);
        }
    });
}
