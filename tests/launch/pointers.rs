//! Raw pointers of every kind of launch: null, off the alignment, or over what is written. Each is
//! refused with the operand's name before anything is launched; so the addresses here are none. And
//! the buffers of branches, which are many.

use crate::common::inception::fuses;
use crate::common::{gpu, zeros};
use warpconv::launch::Unary;
use warpconv::launch::{
    BottleneckPointers, BranchesBuffers, BranchesPointers, ConvPointers, DeviceBuffer,
    DeviceBufferMut, PoolPointers, SubsamplePointers, UnaryPointers, Workspace,
};
use warpconv::plan::Operation;
use warpconv::plan::{Limits, Plan};
use warpconv::problem::{
    Added, Bottleneck2d, Branches, Conv2d, Lrn, MAX_CONVOLUTIONS, Pool2d, PoolKind, Product, Relu,
    Subsample, TensorDesc,
};
use warpconv::{DType, Error, Layout};

/// Error of an operand whose address is 0.
#[derive(Clone, Copy, PartialEq)]
enum Null {
    /// It must not be.
    Refused,
    /// Then the operand is missing.
    Missing,
}

use Null::{Missing, Refused};

/// An operand's name, what 0 means, its size in bytes and what it is aligned to at least.
type Operand = (&'static str, Null, u64, u64);

/// Tries every wrong address. `pairs` are numbers of operands that must lie apart: the one that is
/// written, and another.
fn refuses(
    kind: &str,
    operands: &[Operand],
    pairs: &[(usize, usize)],
    launch: impl Fn(&[u64]) -> Result<(), Error>,
) {
    let good: Vec<u64> = (1..=operands.len() as u64).map(|i| i << 24).collect();
    let with = |index: usize, address| {
        let mut addresses = good.clone();
        addresses[index] = address;
        launch(&addresses)
    };
    for (index, &(buffer, null, _, aligned)) in operands.iter().enumerate() {
        let want = match null {
            Refused => Error::NullBuffer { buffer },
            Missing => Error::MissingBuffer { buffer },
        };
        assert_eq!(with(index, 0), Err(want), "{kind}: {buffer} is null");
        if aligned > 1 {
            let address = good[index] + aligned / 2;
            let got = with(index, address);
            let right = matches!(
                &got,
                Err(Error::Misaligned { buffer: named, address: at, needs, has })
                if *named == buffer && *at == address && *needs >= aligned && *has == aligned / 2
            );
            assert!(right, "{kind}: {buffer} off its alignment: {got:?}");
        }
    }
    for &(over, under) in pairs {
        let (written, read) = (operands[over].0, operands[under].0);
        // From behind the first element to the last one, and up to the first one.
        let behind = (operands[over].2 - 1) / 16 * 16;
        let before = (operands[under].2 - 1) / 16 * 16;
        for address in [good[over] + behind, good[over] - before] {
            let want = Err(Error::Overlap { written, read });
            assert_eq!(with(under, address), want, "{kind}: {address:#x}");
        }
    }
}

fn stream() -> cudarc::driver::sys::CUstream {
    gpu().stream().cu_stream()
}

fn bytes(len: usize) -> u64 {
    4 * len as u64
}

#[test]
fn of_a_convolution() {
    let problem: Conv2d = "mb2ic8ih9oc12kh3ph1+bias+residual+relu".parse().unwrap();
    let plan = Plan::new(&problem, gpu().capability()).unwrap();
    assert_eq!(plan.workspace_bytes(), 0, "{plan}");
    let prepared = gpu().prepare(&plan).unwrap();
    let y = bytes(problem.output().len());
    let operands = [
        ("x", Refused, bytes(problem.input().len()), 4),
        ("w", Refused, bytes(problem.filter().len()), 4),
        ("bias", Missing, bytes(problem.output().c()), 4),
        ("residual", Missing, y, 4),
        ("y", Refused, y, 4),
    ];
    let pairs = [0, 1, 2, 3].map(|read| (4, read));
    refuses("a convolution", &operands, &pairs, |at| {
        let pointers = ConvPointers {
            x: at[0],
            w: at[1],
            bias: at[2],
            residual: at[3],
            y: at[4],
            workspace: 0,
        };
        // SAFETY: each of these is refused before anything is launched.
        unsafe { prepared.launch_raw(stream(), pointers) }
    });
}

#[test]
fn of_a_pooling() {
    let builder = Pool2d::builder().input(2, 8, 9, 9).kernel(2, 2);
    let problem = builder.kind(PoolKind::Max { indices: true }).build();
    let problem = problem.unwrap();
    let plan = Plan::new(&problem, gpu().capability()).unwrap();
    let prepared = gpu().prepare(&plan).unwrap();
    let operands = [
        ("x", Refused, bytes(problem.input().len()), 4),
        ("y", Refused, bytes(problem.output().len()), 4),
        ("indices", Missing, problem.output().elements() as u64, 1),
    ];
    let pairs = [(1, 0), (2, 0), (2, 1)];
    refuses("a pooling", &operands, &pairs, |at| {
        let pointers = PoolPointers {
            x: at[0],
            y: at[1],
            indices: at[2],
        };
        // SAFETY: each of these is refused before anything is launched.
        unsafe { prepared.launch_raw(stream(), pointers) }
    });
}

#[test]
fn of_what_keeps_the_extents() {
    let gpu = gpu();
    let x = TensorDesc::new([2, 8, 3, 5], Layout::Nchw, DType::F32).unwrap();
    let relu = Relu::new(&x, &x).unwrap();
    let lrn = Lrn::new(&x, &x, warpconv_nets::ALEXNET_LRN).unwrap();
    let of_relu = gpu
        .prepare(&Plan::new(&relu, gpu.capability()).unwrap())
        .unwrap();
    let of_lrn = gpu
        .prepare(&Plan::new(&lrn, gpu.capability()).unwrap())
        .unwrap();
    let operands = [("x", Refused, bytes(240), 4), ("y", Refused, bytes(240), 4)];
    let pointers = |at: &[u64]| UnaryPointers { x: at[0], y: at[1] };
    refuses("a ReLU", &operands, &[(1, 0)], |at| {
        // SAFETY: each of these is refused before anything is launched.
        unsafe { of_relu.launch_raw(stream(), pointers(at)) }
    });
    refuses("a normalisation", &operands, &[(1, 0)], |at| {
        // SAFETY: each of these is refused before anything is launched.
        unsafe { of_lrn.launch_raw(stream(), pointers(at)) }
    });
    // A normalisation reads what its neighbours write; a ReLU may be in place.
    let both = UnaryPointers {
        x: 1 << 24,
        y: 1 << 24,
    };
    // SAFETY: refused before anything is launched.
    let refused = unsafe { of_lrn.launch_raw(stream(), both) };
    let (written, read) = ("y", "x");
    assert_eq!(refused, Err(Error::Overlap { written, read }));
}

#[test]
fn of_a_subsampling() {
    let builder = Subsample::builder().kernel(2, 2).stride(2, 2);
    let problem = builder.input(2, 8, 4, 6).build().unwrap();
    let plan = Plan::new(&problem, gpu().capability()).unwrap();
    let prepared = gpu().prepare(&plan).unwrap();
    let operands = [
        ("x", Refused, bytes(problem.input().len()), 4),
        ("y", Refused, bytes(problem.output().len()), 4),
        ("coefficient", Refused, bytes(8), 4),
        ("bias", Refused, bytes(8), 4),
    ];
    let pairs = [0, 2, 3].map(|read| (1, read));
    refuses("a subsampling", &operands, &pairs, |at| {
        let pointers = SubsamplePointers {
            x: at[0],
            y: at[1],
            coefficient: at[2],
            bias: at[3],
        };
        // SAFETY: each of these is refused before anything is launched.
        unsafe { prepared.launch_raw(stream(), pointers) }
    });
}

#[test]
fn of_a_bottleneck() {
    let builder = Bottleneck2d::builder().input(1, 12, 5, 4).mid_channels(4);
    let builder = builder.filters(12).added(Added::Tensor);
    let problem = builder.build().unwrap();
    let plan = Plan::new(&problem, gpu().capability()).unwrap();
    let prepared = gpu().prepare(&plan).unwrap();
    let [w1, w2, w3] = problem
        .convolutions()
        .each_ref()
        .map(|conv| bytes(conv.filter().len()));
    let [bias1, bias2, bias3] = problem
        .convolutions()
        .each_ref()
        .map(|conv| bytes(conv.output().c()));
    let y = bytes(problem.output().len());
    let operands = [
        ("x", Refused, bytes(problem.input().len()), 4),
        ("w1", Refused, w1, 4),
        ("w2", Refused, w2, 4),
        ("w3", Refused, w3, 4),
        ("bias1", Missing, bias1, 4),
        ("bias2", Missing, bias2, 4),
        ("bias3", Missing, bias3, 4),
        ("residual", Missing, y, 4),
        ("y", Refused, y, 4),
    ];
    let pairs: Vec<_> = (0..8).map(|read| (8, read)).collect();
    refuses("a bottleneck", &operands, &pairs, |at| {
        let pointers = BottleneckPointers {
            x: at[0],
            w: [at[1], at[2], at[3]],
            bias: [at[4], at[5], at[6]],
            residual: at[7],
            y: at[8],
        };
        // SAFETY: each of these is refused before anything is launched.
        unsafe { prepared.launch_raw(stream(), pointers) }
    });
}

/// Two convolutions of each of two inputs, with and without sums that blocks share in the
/// workspace.
#[test]
fn of_branches() {
    if !fuses() {
        return;
    }
    let conv = |c: usize| -> Conv2d {
        let line = format!("mb1ic{c}ih4oc32kh1+tf32+nhwc+packed+bias");
        line.parse().unwrap()
    };
    let products = [64, 128].map(|c| Product::new(vec![conv(c), conv(c)]).unwrap());
    let problem = Branches::new(products.to_vec()).unwrap();
    for split_k in [1, 2] {
        let limits = Limits {
            split_k: Some(split_k),
            ..Limits::default()
        };
        let plan = Plan::within(&problem, gpu().capability(), &limits).unwrap();
        assert_eq!(plan.workspace_bytes() > 0, split_k == 2, "{plan}");
        assert_eq!(
            (plan.score().split_k, plan.launches()),
            (split_k, 1),
            "{plan}"
        );
        of_planned_branches(&plan);
        buffers_of_planned_branches(&plan);
    }
}

fn of_planned_branches(plan: &Plan<Branches>) {
    let prepared = gpu().prepare(plan).unwrap();
    let mut operands: Vec<Operand> = Vec::new();
    for input in plan.problem().inputs() {
        operands.push(("x", Refused, bytes(input.len()), 4));
    }
    for conv in plan.problem().convolutions() {
        operands.push(("w", Refused, bytes(conv.filter().len()), 16));
        operands.push(("bias", Missing, bytes(conv.output().c()), 4));
        operands.push(("y", Refused, bytes(conv.output().len()), 4));
    }
    let all = 0..operands.len();
    let apart = |over: usize| all.clone().filter(move |&other| other != over);
    let ys = all.clone().filter(|&at| operands[at].0 == "y");
    let mut pairs: Vec<(usize, usize)> = ys
        .flat_map(|y| apart(y).map(move |other| (y, other)))
        .collect();
    if plan.workspace_bytes() > 0 {
        let workspace = operands.len();
        pairs.extend(all.clone().map(|other| (workspace, other)));
        operands.push(("workspace", Refused, plan.workspace_bytes(), 256));
    }
    refuses("branches", &operands, &pairs, |at| {
        let mut pointers = BranchesPointers::default();
        pointers.x[..2].copy_from_slice(&at[..2]);
        for (index, operands) in at[2..14].chunks(3).enumerate() {
            pointers.w[index] = operands[0];
            pointers.bias[index] = operands[1];
            pointers.y[index] = operands[2];
        }
        pointers.workspace = at.get(14).copied().unwrap_or(0);
        // SAFETY: each of these is refused before anything is launched.
        unsafe { prepared.launch_raw(stream(), pointers) }
    });
}

/// Buffers of 2 inputs and 4 convolutions with one that is too short, too many or missing.
fn buffers_of_planned_branches(plan: &Plan<Branches>) {
    let (gpu, problem) = (gpu(), plan.problem());
    let prepared = gpu.prepare(plan).unwrap();
    let convolutions: Vec<_> = problem.convolutions().collect();
    let zero = |len: usize| zeros::<f32>(len);
    let x: Vec<_> = problem.inputs().map(|x| zero(x.len())).collect();
    let w: Vec<_> = convolutions
        .iter()
        .map(|c| zero(c.filter().len()))
        .collect();
    let bias: Vec<_> = convolutions.iter().map(|c| zero(c.output().c())).collect();
    let mut y: Vec<_> = convolutions
        .iter()
        .map(|c| zero(c.output().len()))
        .collect();
    let (short, mut short_y) = (zero(7), zero(7));
    let mut workspace = Workspace::new(gpu.stream(), plan.workspace_bytes()).unwrap();
    let length = |what, expected, got| Error::Length {
        what,
        expected,
        got,
    };
    let missing = |buffer| Error::MissingBuffer { buffer };
    let own = [x[1].len(), w[2].len(), bias[3].len(), y[1].len()];
    let mut cases = vec![
        ("all", Ok(())),
        ("x", Err(length("x", own[0], 7))),
        ("w", Err(length("w", own[1], 7))),
        ("bias", Err(length("bias", own[2], 7))),
        ("y", Err(length("y", own[3], 7))),
        ("no bias", Err(missing("bias"))),
        ("no y", Err(missing("y"))),
        ("xs", Err(length("the inputs of branches", 2, 1))),
        ("ws", Err(length("the filters of branches", 4, 3))),
        ("biases", Err(length("the biases of branches", 4, 3))),
        ("ys", Err(length("the outputs of branches", 4, 3))),
    ];
    if plan.workspace_bytes() > 0 {
        cases.push(("no workspace", Err(missing("workspace"))));
    }
    for (case, want) in cases {
        let mut xs: Vec<&dyn DeviceBuffer<f32>> = x.iter().map(|x| x as _).collect();
        let mut ws: Vec<&dyn DeviceBuffer<f32>> = w.iter().map(|w| w as _).collect();
        let mut biases: Vec<Option<&dyn DeviceBuffer<f32>>> =
            bias.iter().map(|bias| Some(bias as _)).collect();
        let mut outputs = y.iter_mut().map(|y| y as &mut dyn DeviceBufferMut<f32>);
        let mut ys: [Option<&mut dyn DeviceBufferMut<f32>>; MAX_CONVOLUTIONS] =
            std::array::from_fn(|_| outputs.next());
        let mut y_of = vec![0, 1, 2, 3];
        let mut workspace = Some(&mut workspace);
        match case {
            "x" => xs[1] = &short,
            "w" => ws[2] = &short,
            "bias" => biases[3] = Some(&short),
            "y" => ys[1] = Some(&mut short_y),
            "no bias" => biases[0] = None,
            "no y" => ys[2] = None,
            "xs" => xs.truncate(1),
            "ws" => ws.truncate(3),
            "biases" => biases.truncate(3),
            "ys" => y_of.truncate(3),
            "no workspace" => workspace = None,
            _ => {}
        }
        let buffers = BranchesBuffers {
            x: &xs,
            w: &ws,
            bias: &biases,
            y: ys,
            y_of: &y_of,
            workspace,
        };
        assert_eq!(
            prepared.launch(gpu.stream(), buffers),
            want,
            "{case} of branches"
        );
    }
    gpu.synchronize().unwrap();
}

/// In place, one buffer is both operands: as long as each of them.
#[test]
fn of_a_map_in_place_lengths_are_both_operands() {
    let relu = TensorDesc::new([1, 2, 3, 4], Layout::Nchw, DType::F32)
        .and_then(|x| Relu::new(&x, &x))
        .unwrap();
    let wide = relu.output().slice(5, 2).unwrap();
    let relu = Relu::new(relu.input(), &wide).unwrap();
    let prepared = gpu()
        .prepare(&Plan::new(&relu, gpu().capability()).unwrap())
        .unwrap();
    let mut buffer = zeros::<f32>(24);
    let refused = prepared.launch_in_place(gpu().stream(), &mut buffer);
    let (what, expected, got) = ("y", 60, 24);
    assert_eq!(
        refused,
        Err(Error::Length {
            what,
            expected,
            got
        })
    );
}
