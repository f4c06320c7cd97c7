//! Convolutions of cubek-convolution: forward, and the gradients of data and weights.
//!
//! Left out of cubek 0.2: the specialized algorithms, which read outside of their tensors
//! for this size; the data gradient of a strided and dilated convolution, which every algorithm has
//! wrong.

use cubecl::cuda::CudaRuntime;
use cubek_convolution::{
    AcceleratedTileKind, ConvAlgorithm, ConvolutionArgs, ConvolutionInputs, Strategy, launch_ref,
};
use cubek_matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek_std::InputBinding;
use half::f16;

use crate::tensors::{Element, Expected, Tensor, compare, poisoned, random};
use crate::{Client, Tally};

/// The algorithms, from the capability on that each needs.
const ALGORITHMS: [(u32, ConvAlgorithm); 6] = [
    (75, ConvAlgorithm::SimpleSyncCyclic),
    (75, ConvAlgorithm::SimpleSyncStrided),
    (75, ConvAlgorithm::SimpleSyncTilewise),
    (80, ConvAlgorithm::SimpleAsyncCyclic),
    (80, ConvAlgorithm::SimpleAsyncStrided),
    (90, ConvAlgorithm::SimpleAsyncTma),
];

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Forward,
    Data,
    Weights,
}

/// A convolution of NHWC by KRSC.
#[derive(Clone, Copy)]
struct Problem {
    images: usize,
    size: [usize; 2],
    channels: usize,
    filters: usize,
    filter: [usize; 2],
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Problem {
    fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.size[axis] + 2 * self.padding - self.dilation * (self.filter[axis] - 1) - 1)
                / self.stride
                + 1
        })
    }

    fn shapes(&self) -> [[usize; 4]; 3] {
        let ([h, w], [r, s], [p, q]) = (self.size, self.filter, self.output());
        [
            [self.images, h, w, self.channels],
            [self.filters, r, s, self.channels],
            [self.images, p, q, self.filters],
        ]
    }

    /// Calls `term` with the indices into x, f and y of each product.
    fn each(&self, mut term: impl FnMut(usize, usize, usize)) {
        let [[n, h, w, c], [k, r, s, _], [_, p, q, _]] = self.shapes();
        let place = |out: usize, tap: usize, size: usize| {
            (out * self.stride + tap * self.dilation)
                .checked_sub(self.padding)
                .filter(|at| *at < size)
        };
        for at in 0..n * p * q * r * s {
            let (tap, at) = (at % (r * s), at / (r * s));
            let (j, i, image) = (at % q, at / q % p, at / q / p);
            let (Some(y), Some(x)) = (place(i, tap / s, h), place(j, tap % s, w)) else {
                continue;
            };
            for channels in 0..c * k {
                let (channel, filter) = (channels % c, channels / c);
                term(
                    ((image * h + y) * w + x) * c + channel,
                    (filter * r * s + tap) * c + channel,
                    at * k + filter,
                );
            }
        }
    }
}

/// Forward convolutions by each algorithm; the gradients by one.
pub fn run(client: &Client, capability: u32, tally: &mut Tally) {
    let problem = Problem {
        images: 2,
        size: [9, 7],
        channels: 24,
        filters: 40,
        filter: [3, 3],
        stride: 1,
        padding: 1,
        dilation: 1,
    };
    let strided = Problem {
        stride: 2,
        filter: [3, 2],
        dilation: 2,
        padding: 2,
        ..problem
    };
    for (least, algorithm) in ALGORITHMS {
        for kind in [AcceleratedTileKind::Cmma, AcceleratedTileKind::Mma] {
            // See matmul.rs for `mma` before 9.0.
            if capability < least || kind == AcceleratedTileKind::Mma && capability < 90 {
                continue;
            }
            let mut add = |direction, problem, what: &str| {
                let name = format!("conv {what}, {algorithm} {kind}");
                tally.add(&name, || one(client, algorithm, kind, direction, problem));
            };
            add(Direction::Forward, problem, "forward");
            add(Direction::Forward, strided, "forward, strided and dilated");
            if algorithm == ConvAlgorithm::SimpleSyncCyclic {
                add(Direction::Data, problem, "data gradient");
                add(Direction::Weights, problem, "weight gradient");
                add(
                    Direction::Weights,
                    strided,
                    "weight gradient, strided and dilated",
                );
            }
        }
    }
}

fn one(
    client: &Client,
    algorithm: ConvAlgorithm,
    tile_kind: AcceleratedTileKind,
    direction: Direction,
    problem: Problem,
) -> Result<f64, String> {
    let shapes = problem.shapes();
    let [x, f, y] = [0, 1, 2].map(|which| random::<f16>(client, &shapes[which], 7 + which as u64));
    let result = poisoned::<f16>(client, &shapes[[2, 0, 1][direction as usize]]);
    let input =
        |tensor: &Tensor| InputBinding::new(tensor.handle.clone().binding(), f16::storage());
    let out = result.handle.clone().binding();
    let inputs = match direction {
        Direction::Forward => ConvolutionInputs::Forward {
            input: input(&x),
            weight: input(&f),
            bias: None,
            out,
        },
        Direction::Data => ConvolutionInputs::BackwardData {
            out_grad: input(&y),
            weights: input(&f),
            in_grad: out,
        },
        Direction::Weights => ConvolutionInputs::BackwardWeight {
            input: input(&x),
            out_grad: input(&y),
            weight_grad: out,
        },
    };
    let args = ConvolutionArgs {
        stride: [problem.stride; 2],
        padding: [problem.padding; 2],
        dilation: [problem.dilation; 2],
    };
    let elements = MatmulGlobalElems {
        lhs: f16::storage(),
        rhs: f16::storage(),
        out: f16::storage(),
    };
    let strategy = Strategy::Inferred {
        algorithm,
        tile_kind,
    };
    launch_ref::<CudaRuntime, 2>(
        &strategy,
        client,
        inputs,
        args,
        MatmulElems::from_globals(&elements),
    )
    .map_err(|error| format!("{error:?}"))?;
    let mut sums = vec![(0.0, 0.0, 0usize); result.values.len()];
    problem.each(|at_x, at_f, at_y| {
        let (at, product) = match direction {
            Direction::Forward => (at_y, x.values[at_x] * f.values[at_f]),
            Direction::Data => (at_x, y.values[at_y] * f.values[at_f]),
            Direction::Weights => (at_f, x.values[at_x] * y.values[at_y]),
        };
        let (sum, magnitude, terms) = &mut sums[at];
        (*sum, *magnitude, *terms) = (*sum + product, *magnitude + product.abs(), *terms + 1);
    });
    // Sums in f32, then one rounding to f16; results near zero may be subnormal in f16.
    let expected: Vec<_> = sums
        .iter()
        .map(|&(value, magnitude, terms): &(f64, f64, usize)| Expected {
            value,
            tolerance: magnitude * terms as f64 * 2f64.powi(-24)
                + value.abs() * 2f64.powi(-11)
                + 2f64.powi(-25),
        })
        .collect();
    compare::<f16>(client, &result, &expected)
}
