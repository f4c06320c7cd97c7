use std::collections::HashSet;

use warpconv::kernels::{Algorithm, kernels};

use super::*;

/// The tiers of which every kernel runs on one at least.
fn tiers() -> [Capability; 3] {
    [Capability::sm75(), Capability::sm80(), Capability::h200()]
}

#[test]
fn every_kernel_of_the_catalog_has_a_problem() {
    let mut listed = HashSet::new();
    for capability in tiers() {
        let cases = list(&capability);
        let here: HashSet<KernelId> = cases.iter().map(|case| case.kernel).collect();
        for kernel in runnable(&capability) {
            let name = kernel.kernel().name();
            assert!(here.contains(&kernel), "{name} has no problem");
        }
        listed.extend(here);
    }
    for (index, kernel) in kernels().iter().enumerate() {
        assert!(listed.contains(&KernelId(index)), "{}", kernel.name());
    }
}

#[test]
fn cases_of_a_kernel_have_labels_of_their_own_and_begin_with_the_plain_one() {
    for capability in tiers() {
        for kernel in runnable(&capability) {
            let cases = of_kernel(&capability, kernel);
            let labels: Vec<&str> = cases.iter().map(|case| case.label.as_str()).collect();
            let name = kernel.kernel().name();
            let different: HashSet<&&str> = labels.iter().collect();
            assert_eq!(different.len(), labels.len(), "{name}: {labels:?}");
            if kernel.kernel().algorithm != Algorithm::PackFilter {
                assert!(labels[0].starts_with(PLAIN), "{name}: {labels:?}");
            }
        }
    }
}

/// Options that every kernel of an algorithm has to be listed with.
fn options(algorithm: Algorithm) -> &'static [&'static str] {
    match algorithm {
        Algorithm::Direct | Algorithm::DirectFewChannels | Algorithm::Grouped => &[
            "residual",
            "stride 2, asymmetric padding",
            "dilation",
            "batch 2, slices",
        ],
        Algorithm::Wgmma => &[
            "plain 3x3",
            "residual",
            "stride 2, asymmetric padding",
            "1x1",
            "split-K 2",
            "split-K 3",
        ],
        Algorithm::Mma | Algorithm::MmaFewChannels | Algorithm::WgmmaGather => {
            &["residual", "packed", "split-K 2", "split-K 3"]
        }
        Algorithm::MmaSmallGroups => &["residual", "dilation", "split-K 2", "split-K 3"],
        Algorithm::Pointwise => &["bias, relu", "residual", "stride 2"],
        Algorithm::SmallGroups | Algorithm::Depthwise => &["residual", "stride 2", "several tiles"],
        Algorithm::BottleneckSimt | Algorithm::Bottleneck | Algorithm::BottleneckWgmma => {
            &["residual", "packed", "several tiles", "all channels"]
        }
        Algorithm::MmaMultiConv => &["bias, relu", "pooled", "split-K 2", "split-K 3"],
        Algorithm::MaxPool => &["indices", "ceil mode, maximum", "dilation", "unaligned"],
        Algorithm::AvgPool => &["mean by a divisor", "adaptive mean", "unaligned"],
        Algorithm::GlobalPool => &["global maximum", "unaligned"],
        Algorithm::PackFilter
        | Algorithm::Relu
        | Algorithm::Lrn
        | Algorithm::Softmax
        | Algorithm::Tanh
        | Algorithm::Subsample => &[],
    }
}

#[test]
fn kernels_are_listed_with_their_options() {
    for capability in tiers() {
        for kernel in runnable(&capability) {
            let cases = of_kernel(&capability, kernel);
            for option in options(kernel.kernel().algorithm) {
                let name = kernel.kernel().name();
                let labels: Vec<&str> = cases.iter().map(|case| case.label.as_str()).collect();
                assert!(
                    labels.contains(option),
                    "{name} without {option}: {labels:?}"
                );
            }
        }
    }
}

#[test]
fn a_kernel_that_the_device_does_not_run_has_no_cases() {
    let newest = kernels()
        .iter()
        .position(|kernel| kernel.algorithm == Algorithm::Wgmma);
    let newest = KernelId(newest.expect("the catalog has kernels by wgmma"));
    assert_eq!(of_kernel(&Capability::sm80(), newest), []);
    assert_eq!(
        of_kernel(&Capability::h200(), KernelId(kernels().len())),
        []
    );
}
