//! Cases of the operations between convolutions, and of the packing of filters.

use warpconv::kernels::{DType, Layout};
use warpconv::plan::Operation;
use warpconv::problem::{
    Activation, Conv2d, FilterLayout, Lrn, LrnParameters, Relu, Softmax, Subsample, Tanh,
    TensorDesc,
};

use super::{Cases, PLAIN, SmokeProblem, dense};

/// Tensor that is read, and tensor that is written.
type Pair = (TensorDesc, TensorDesc);

/// The pairs of tensors that are offered in each layout of the kernel, each with its label and its
/// shift.
fn pairs(cases: &Cases<'_>) -> Vec<(String, Pair, Option<u32>)> {
    let kernel = cases.kernel.kernel();
    let mut all = Vec::new();
    for layout in Layout::ALL {
        if kernel.layout.is_some_and(|own| own != layout) {
            continue;
        }
        let of = |extents| dense(extents, layout, kernel.dtype);
        let both = |desc: Option<TensorDesc>| desc.clone().zip(desc);
        let slices = || {
            let desc = of([2, 5, 6, 7])?;
            Some((desc.slice(8, 2).ok()?, desc.slice(9, 3).ok()?))
        };
        let offered = [
            (PLAIN, both(of([1, 5, 6, 7])), None),
            ("batch 2, slices", slices(), None),
            ("vectors", both(of([1, 16, 8, 9])), None),
            ("unaligned", both(of([1, 16, 8, 9])), Some(1)),
        ];
        for (label, pair, shift) in offered {
            let label = match (kernel.layout, label) {
                (None, _) => format!("{label}, {}", layout.name()),
                (Some(_), _) => String::from(label),
            };
            all.extend(pair.map(|pair| (label, pair, shift)));
        }
    }
    all
}

/// Adds a case per pair of tensors.
fn each<P: Operation>(
    cases: &mut Cases<'_>,
    name: &str,
    make: impl Fn(&TensorDesc, &TensorDesc) -> Option<P>,
    wrap: fn(P) -> SmokeProblem,
) {
    for (label, (x, y), shift) in pairs(cases) {
        let label = match name {
            "" => label,
            _ => format!("{name}, {label}"),
        };
        cases.offer_with(&label, make(&x, &y), [None, shift], wrap);
    }
}

/// Adds the cases of a ReLU kernel.
pub(super) fn relu(cases: &mut Cases<'_>) {
    each(cases, "", |x, y| Relu::new(x, y).ok(), SmokeProblem::Relu);
}

/// Adds the cases of a kernel of local response normalisation.
pub(super) fn lrn(cases: &mut Cases<'_>) {
    for (name, size) in [("", 5), ("window of 2", 2)] {
        let parameters = LrnParameters {
            size,
            alpha: 1e-2,
            beta: 0.75,
            k: 2.0,
        };
        let make = |x: &TensorDesc, y: &TensorDesc| Lrn::new(x, y, parameters).ok();
        each(cases, name, make, SmokeProblem::Lrn);
    }
}

/// Adds the cases of a softmax kernel.
pub(super) fn softmax(cases: &mut Cases<'_>) {
    let make = |x: &TensorDesc, y: &TensorDesc| Softmax::new(x, y).ok();
    each(cases, "", make, SmokeProblem::Softmax);
    let kernel = cases.kernel.kernel();
    for layout in Layout::ALL {
        let x = dense([1, 1000, 1, 2], layout, kernel.dtype);
        let problem = x.and_then(|x| Softmax::new(&x, &x).ok());
        let label = format!("long row, {}", layout.name());
        cases.offer(&label, problem, SmokeProblem::Softmax);
    }
}

/// Adds the cases of a kernel of the hyperbolic tangent.
pub(super) fn tanh(cases: &mut Cases<'_>) {
    let scale = [1.7159, 2.0 / 3.0];
    let make = |x: &TensorDesc, y: &TensorDesc| Tanh::new(x, y, scale).ok();
    each(cases, "", make, SmokeProblem::Tanh);
}

/// Adds the cases of a kernel of trainable subsampling.
pub(super) fn subsample(cases: &mut Cases<'_>) {
    let kernel = cases.kernel.kernel();
    let tangent = Activation::Tanh {
        amplitude: 1.7159,
        slope: 2.0 / 3.0,
    };
    for layout in Layout::ALL {
        let start = || {
            let builder = Subsample::builder().input(1, 5, 8, 6).kernel(2, 2);
            let builder = builder.stride(2, 2).dtype(kernel.dtype).layout(layout);
            builder.activation(Activation::Identity)
        };
        let sliced = start().input(2, 5, 8, 6);
        let offered = [
            (PLAIN, start(), None),
            (
                "mean, relu",
                start().mean(true).activation(Activation::Relu),
                None,
            ),
            ("tanh", start().activation(tangent), None),
            (
                "overlapping windows",
                start().kernel(3, 2).stride(1, 2),
                None,
            ),
            (
                "batch 2, slices",
                sliced.input_slice(8, 2).output_slice(9, 3),
                None,
            ),
            ("unaligned", start().input(1, 16, 8, 6), Some(1)),
        ];
        for (label, builder, shift) in offered {
            let label = match kernel.layout {
                None => format!("{label}, {}", layout.name()),
                Some(_) => String::from(label),
            };
            let (problem, wrap) = (builder.build().ok(), SmokeProblem::Subsample);
            cases.offer_with(&label, problem, [None, shift], wrap);
        }
    }
}

/// Adds the cases of a kernel that packs filters.
pub(super) fn pack_filter(cases: &mut Cases<'_>) {
    // Bits are moved: one kernel serves all types of a size.
    let size = cases.kernel.kernel().dtype.size();
    for dtype in DType::ALL {
        if dtype.size() != size {
            continue;
        }
        for layout in FilterLayout::ALL {
            for (shape, line) in [
                ("", "mb1ic9ih5oc5kh3"),
                ("groups, ", "g4mb1ic12ih5oc8kh3"),
                ("many channels, ", "mb1ic70ih6oc2kh6"),
            ] {
                let conv = line.parse::<Conv2d>().ok();
                let conv = conv.and_then(|conv| {
                    let builder = conv.to_builder().dtype(dtype).filter_layout(layout);
                    builder.build().ok()
                });
                let label = format!("{shape}{}, {}", dtype.name(), layout.name());
                if let Some(conv) = conv {
                    cases.push(&label, SmokeProblem::PackFilter(conv), None, None);
                }
            }
        }
    }
}
