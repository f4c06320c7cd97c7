//! The layers of AlexNet, NiN, GoogLeNet, ResNet-50 and VGG-16, and grouped and depthwise ones, at a batch of 128.
//!
//! `cargo bench --bench layers -- googlenet` runs some of them.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use half::bf16;
use warpconv::Layout;
use warpconv::check::Stored;
use warpconv::gpu::Gpu;
use warpconv::problem::Conv2d;

/// Network, layer, problem in benchdnn notation.
const LAYERS: [(&str, &str, &str); 40] = [
    ("alexnet", "conv1", "ic3ih227oc96oh55kh11sh4ph0"),
    ("alexnet", "conv2", "g2ic96ih27oc256oh27kh5ph2"),
    ("alexnet", "conv3", "ic256ih13oc384oh13kh3ph1"),
    ("alexnet", "conv4", "g2ic384ih13oc384oh13kh3ph1"),
    ("alexnet", "conv5", "g2ic384ih13oc256oh13kh3ph1"),
    ("nin", "conv1", "ic3ih224oc96oh54kh11sh4ph0"),
    ("nin", "cccp1", "ic96ih54oc96oh54kh1ph0"),
    ("nin", "conv2", "ic96ih27oc256oh27kh5ph2"),
    ("nin", "cccp3", "ic256ih27oc256oh27kh1ph0"),
    ("nin", "conv4", "ic384ih6oc1024oh6kh3ph1"),
    ("nin", "cccp8", "ic1024ih6oc1000oh6kh1ph0"),
    ("vgg16", "conv1_1", "ic3ih224oc64oh224kh3ph1"),
    ("vgg16", "conv1_2", "ic64ih224oc64oh224kh3ph1"),
    ("vgg16", "conv2_2", "ic128ih112oc128oh112kh3ph1"),
    ("vgg16", "conv3_2", "ic256ih56oc256oh56kh3ph1"),
    ("vgg16", "conv4_2", "ic512ih28oc512oh28kh3ph1"),
    ("vgg16", "conv5_2", "ic512ih14oc512oh14kh3ph1"),
    ("googlenet", "conv1", "ic3ih224oc64oh112kh7sh2ph3"),
    ("googlenet", "conv2_reduce", "ic64ih56oc64oh56kh1ph0"),
    ("googlenet", "conv2", "ic64ih56oc192oh56kh3ph1"),
    ("googlenet", "3a_1x1", "ic192ih28oc64oh28kh1ph0"),
    ("googlenet", "3a_3x3", "ic96ih28oc128oh28kh3ph1"),
    ("googlenet", "3a_5x5_reduce", "ic192ih28oc16oh28kh1ph0"),
    ("googlenet", "3a_5x5", "ic16ih28oc32oh28kh5ph2"),
    ("googlenet", "3b_3x3", "ic128ih28oc192oh28kh3ph1"),
    ("googlenet", "4c_3x3", "ic128ih14oc256oh14kh3ph1"),
    ("googlenet", "4e_3x3", "ic160ih14oc320oh14kh3ph1"),
    ("googlenet", "5b_3x3", "ic192ih7oc384oh7kh3ph1"),
    ("resnet50", "res2a_1x1b", "ic64ih56oc256oh56kh1ph0"),
    ("resnet50", "res2a_3x3", "ic64ih56oc64oh56kh3ph1"),
    ("resnet50", "res3a_3x3", "ic128ih56oc128oh28kh3sh2ph1"),
    ("resnet50", "res3a_proj", "ic256ih56oc512oh28kh1sh2ph0"),
    ("resnet50", "res4b_3x3", "ic256ih14oc256oh14kh3ph1"),
    ("resnet50", "res5b_1x1a", "ic2048ih7oc512oh7kh1ph0"),
    ("resnet50", "res5b_3x3", "ic512ih7oc512oh7kh3ph1"),
    ("resnext50", "g32_128_56", "g32ic128ih56oc128oh56kh3ph1"),
    ("resnext50", "g32_512_14", "g32ic512ih14oc512oh14kh3ph1"),
    ("mobilenet", "dw32_112", "g32ic32ih112oc32oh112kh3ph1"),
    ("mobilenet", "dw64_112_s2", "g64ic64ih112oc64oh56kh3sh2ph1"),
    ("mobilenet", "dw512_14", "g512ic512ih14oc512oh14kh3ph1"),
];

/// Images a batch.
const BATCH: usize = 128;

fn main() {
    let Some(gpu) = support::gpu() else { return };
    let mut criterion = support::criterion(gpu.stream());
    for (network, layer, problem) in LAYERS {
        let problem: Conv2d = problem.parse().expect("a problem of the table");
        let problem = problem
            .with_batch(BATCH)
            .and_then(|p| p.with_epilogue(true, false, true));
        let problem = problem.expect("a problem of the table");
        for layout in Layout::ALL {
            let problem = problem.with_layout(layout).expect("a problem of the table");
            run::<f32>(&gpu, &mut criterion, network, layer, &problem);
            run::<bf16>(&gpu, &mut criterion, network, layer, &problem);
        }
    }
    criterion.final_summary();
}

/// One layer in one type.
fn run<T: Stored>(
    gpu: &Gpu,
    criterion: &mut Criterion<support::DeviceTime>,
    network: &str,
    layer: &str,
    problem: &Conv2d,
) {
    let problem = problem
        .with_dtype(T::DTYPE)
        .expect("a problem of the table");
    let mut group = criterion.benchmark_group(network);
    group.throughput(Throughput::Elements(2 * problem.macs()));
    let name = format!("{}/{}", T::DTYPE.name(), problem.layout().name());
    let mut conv = None;
    group.bench_function(BenchmarkId::new(layer, name), |bencher| {
        // Here, so that a layer that is filtered out is neither uploaded nor checked.
        let conv = conv.get_or_insert_with(|| support::Conv::<T>::checked(gpu, &problem));
        bencher.iter(|| conv.launch());
    });
    if let Some(conv) = conv {
        println!("kernel: {}", conv.kernel());
    }
    group.finish();
}
