//! Several convolutions in one launch, and the inception module made of such launches, against the
//! reference and against one launch each.

use std::array::from_fn;

use warpconv::Error;
use warpconv::graph::{FuseOptions, Graph, GraphBuffers, Step, Weights};
use warpconv::kernels::{Algorithm, DType, KernelId, Layout, Math, kernels};
use warpconv::launch::{BranchesBuffers, DeviceBuffer, DeviceBufferMut, Workspace};
use warpconv::ops::Inception;
use warpconv::plan::{Capability, Limits, Plan};
use warpconv::problem::{
    Branches, Conv2d, FilterLayout, MAX_CONVOLUTIONS, Padding, Pool2d, PoolKind, Product,
};
use warpconv_testing::reference;
use warpconv_testing::{GraphOnDevice, Stored, disturbed_gap, pack, pack_filter, unpack};
use warpconv_testing::{integers, sprinkle_special};

use crate::common::gpu;
use crate::common::inception::{GOOGLENET, IMAGE, ODD, filters, fuses, module, same};
use crate::common::process::own_process;

fn holds<T: Stored>(name: &str, module: &Graph, launches: usize) {
    let mut loaded = GraphOnDevice::<T>::new(gpu(), module).unwrap();
    assert_eq!(loaded.launches(), launches, "{name}");
    loaded.launch().unwrap();
    let check_result = loaded.check(u64::MAX).unwrap();
    assert_eq!(check_result.failure, None, "{name}");
}

fn holds_in(name: &str, module: &Graph, launches: usize) {
    match module.dtype() {
        DType::F32 => holds::<f32>(name, module, launches),
        DType::F16 => holds::<half::f16>(name, module, launches),
        DType::Bf16 => holds::<half::bf16>(name, module, launches),
    }
}

/// Times that [`outputs`] launches.
const LAUNCHES: u64 = 2;

#[test]
fn all_of_googlenets_modules_take_two_launches() {
    if !fuses() {
        return;
    }
    for (index, (name, widths)) in GOOGLENET.into_iter().enumerate() {
        let dtype = DType::ALL[(index + 2) % 3];
        // The sums are long: one image of few pixels is what the reference can afford.
        let job = module(widths, 1, (2, 3), dtype, Layout::Nhwc);
        holds_in(name, &job.fused().unwrap(), 2);
    }
}

#[test]
fn every_type_and_layout_within_its_bound() {
    if !fuses() {
        return;
    }
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            for widths in [ODD, [32, 16, 24, 40, 8, 16, 8]] {
                let job = module(widths, 2, IMAGE, dtype, layout);
                let name = format!("{widths:?} {} {}", dtype.name(), layout.name());
                holds_in(&name, &job.fused().unwrap(), 2);
                holds_in(&name, &job.fused_in_three().unwrap(), 3);
            }
        }
    }
}

/// Small integers, so that nothing is rounded anywhere, for the weights of a module in its order.
fn weights_of(module: &Graph, order: &[usize]) -> Vec<(Vec<f64>, Vec<f64>)> {
    let all = module.weights();
    let each = all.iter().zip(order);
    each.map(|(conv, &seed)| {
        let w = integers(conv.filter().elements(), 1, 10 + seed as u64);
        (w, integers(conv.output().c(), 3, 50 + seed as u64))
    })
    .collect()
}

/// The output of a module for dense `x`, poisoned before, between canaries.
fn run<T: Stored>(module: &Graph, x: &[f64], order: &[usize]) -> Vec<f64> {
    const CANARIES: usize = 64;
    let gpu = gpu();
    let prepared = module.prepare(gpu).unwrap();
    let input = module.input().unwrap();
    let x = gpu.upload(&pack(input, x, T::poison()).unwrap()).unwrap();
    let operands: Vec<_> = module
        .weights()
        .iter()
        .zip(weights_of(module, order))
        .map(|(conv, (w, bias))| {
            let bias: Vec<T> = bias.into_iter().map(T::nearest).collect();
            let w = gpu.upload(&pack_filter::<T>(conv, &w).unwrap()).unwrap();
            (w, gpu.upload(&bias).unwrap())
        })
        .collect();
    let weights: Vec<Weights<'_, T>> = operands
        .iter()
        .map(|(w, bias)| Weights {
            w,
            bias: Some(bias),
        })
        .collect();
    let poisoned = |len: usize| gpu.upload(&vec![T::poison(); len]).unwrap();
    let mut intermediates: Vec<_> = module
        .intermediates()
        .iter()
        .map(|&len| poisoned(len))
        .collect();
    let len = module.output_len();
    let mut fenced = vec![T::guard(); len + 2 * CANARIES];
    fenced[CANARIES..CANARIES + len].fill(T::poison());
    let mut whole = gpu.upload(&fenced).unwrap();
    let mut y = whole.slice_mut(CANARIES..CANARIES + len);
    let mut workspace = prepared.allocate_workspace(gpu.stream()).unwrap();
    let buffers = GraphBuffers {
        x: &x,
        weights: &weights,
        intermediates: &mut intermediates,
        y: &mut y,
        workspace: workspace.as_mut(),
    };
    prepared.launch(gpu.stream(), buffers).unwrap();
    let got = gpu.download(&whole).unwrap();
    for at in (0..CANARIES).chain(CANARIES + len..len + 2 * CANARIES) {
        assert_eq!(
            got[at].bits(),
            T::guard().bits(),
            "element {at} was written"
        );
    }
    got[CANARIES..CANARIES + len]
        .iter()
        .map(|v| v.value())
        .collect()
}

fn fused_is_separate<T: Stored>(job: &Inception, special: bool) {
    let (c, pixels) = (job.c, job.n * job.h * job.w);
    let mut x = integers(c * pixels, 1, 7);
    if special {
        sprinkle_special(&mut x, 97, 3);
    }
    let name = format!("{job:?}, special values: {special}");
    // The order of the weights in `separate`, by their number in `fused`.
    let want = run::<T>(&job.separate().unwrap(), &x, &[0, 1, 4, 2, 5, 3]);
    assert!(special || want.iter().all(|v| v.is_finite()), "{name}");
    assert_eq!(special, want.iter().any(|v| v.is_nan()), "{name}");
    let order = [0, 1, 2, 3, 4, 5];
    same(&name, &run::<T>(&job.fused().unwrap(), &x, &order), &want);
    let in_three = [0, 1, 2, 4, 5, 3];
    same(
        &name,
        &run::<T>(&job.fused_in_three().unwrap(), &x, &in_three),
        &want,
    );
}

/// Integers: every sum is exact, so that the order of additions cannot show. With infinities and
/// NaN in x, each must reach what lies in its field and nothing else.
#[test]
fn fused_is_separate_to_the_bit() {
    if !fuses() {
        return;
    }
    for layout in Layout::ALL {
        for (widths, image) in [
            (ODD, (1, 1)),
            (ODD, (6, 5)),
            ([16, 8, 8, 16, 8, 8, 24], (3, 9)),
        ] {
            for special in [false, true] {
                let of = |dtype| module(widths, 3, image, dtype, layout);
                let special = special && image != (1, 1);
                fused_is_separate::<half::bf16>(&of(DType::Bf16), special);
                fused_is_separate::<half::f16>(&of(DType::F16), special);
                fused_is_separate::<f32>(&of(DType::F32), special);
            }
        }
    }
}

/// Widths and images drawn from a fixed seed, in turn in every type and layout, with and without
/// infinities and NaN.
#[test]
fn random_widths_are_separate_to_the_bit() {
    if !fuses() {
        return;
    }
    // Drawn once: numbers from 0 to 59 decide each width and side.
    let drawn = integers(12 * 9, 30, 2014);
    for (index, draw) in drawn.chunks(9).enumerate() {
        let from = |at: usize, least: usize, range: usize| {
            least + (draw[at] as i64).rem_euclid(range as i64) as usize
        };
        let mut widths: [usize; 7] = from_fn(|at| from(at, 1, 41));
        // Enough channels that special values reach every kind of branch.
        widths[0] += 16;
        let image = (from(7, 3, 7), from(8, 3, 7));
        let layout = Layout::ALL[index / 3 % 2];
        let special = index >= 6;
        let job = module(widths, 2, image, DType::ALL[index % 3], layout);
        match job.dtype {
            DType::F32 => fused_is_separate::<f32>(&job, special),
            DType::F16 => fused_is_separate::<half::f16>(&job, special),
            DType::Bf16 => fused_is_separate::<half::bf16>(&job, special),
        }
    }
}

/// The outputs of a launch with this kernel and as many blocks per tile: each convolution into a
/// buffer of its own.
fn outputs<T: Stored>(branches: &Branches, plan: &Plan<Branches>, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let gpu = gpu();
    let prepared = gpu.prepare(plan).unwrap();
    let upload = |values: &[T]| gpu.upload(values).unwrap();
    let xs: Vec<_> = branches
        .inputs()
        .zip(x)
        .map(|(desc, x)| upload(&pack(desc, x, T::poison()).unwrap()))
        .collect();
    let convolutions: Vec<&Conv2d> = branches.convolutions().collect();
    let (mut ws, mut biases, mut ys) = (Vec::new(), Vec::new(), Vec::new());
    for (index, conv) in convolutions.iter().enumerate() {
        let (w, bias) = filters(conv, index);
        ws.push(upload(&pack_filter::<T>(conv, &w).unwrap()));
        let bias: Vec<T> = bias.into_iter().map(T::nearest).collect();
        biases.push(upload(&bias));
        ys.push(upload(&vec![T::poison(); conv.output().len()]));
    }
    let mut workspace = match plan.workspace_bytes() {
        0 => None,
        bytes => Some(Workspace::new(gpu.stream(), bytes).unwrap()),
    };
    // Twice: what a launch leaves in the workspace must do for the next.
    for _ in 0..LAUNCHES {
        let x: Vec<_> = xs.iter().map(|x| x as &dyn DeviceBuffer<T>).collect();
        let w: Vec<_> = ws.iter().map(|w| w as &dyn DeviceBuffer<T>).collect();
        let bias: Vec<_> = biases
            .iter()
            .map(|b| Some(b as &dyn DeviceBuffer<T>))
            .collect();
        let y_of: Vec<usize> = (0..ys.len()).collect();
        let mut each = ys.iter_mut();
        let y: [_; MAX_CONVOLUTIONS] =
            from_fn(|_| each.next().map(|y| y as &mut dyn DeviceBufferMut<T>));
        let buffers = BranchesBuffers {
            x: &x,
            w: &w,
            bias: &bias,
            y,
            y_of: &y_of,
            workspace: workspace.as_mut(),
        };
        prepared.launch(gpu.stream(), buffers).unwrap();
    }
    let each = ys.iter().zip(convolutions);
    each.map(|(y, conv)| {
        let stored = gpu.download(y).unwrap();
        // The poison around a slice is still there.
        assert_eq!(
            disturbed_gap(conv.output(), &stored, T::poison()),
            None,
            "{conv}"
        );
        unpack(conv.output(), &stored).unwrap()
    })
    .collect()
}

fn expected(branches: &Branches, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut all = Vec::new();
    for (index, product) in branches.products().iter().enumerate() {
        let mut x = x.get(index).unwrap_or(&x[0]).clone();
        if let Some(pooling) = product.pooling() {
            x = reference::pool2d(pooling, &x).unwrap().0;
        }
        for conv in product.convolutions() {
            let (w, bias) = filters(conv, all.len());
            all.push(reference::conv2d(conv, &x, &w, Some(&bias), None).unwrap());
        }
    }
    all
}

/// Every kernel of the catalog on both launches of a module, with and without several blocks to a
/// sum, against the reference to the bit: all numbers are integers.
#[test]
fn every_kernel_computes_both_launches() {
    let mut ran = 0;
    for (index, kernel) in kernels().iter().enumerate() {
        if kernel.algorithm != Algorithm::MmaMultiConv || !fuses() {
            continue;
        }
        // Wide enough for two tiles of filters with a boundary between convolutions inside, and for
        // several steps.
        let wide = if kernel.vector == 16 {
            [160, 104, 32, 152, 16, 24, 88]
        } else {
            [71, 37, 21, 67, 3, 9, 5]
        };
        let layout = kernel.layout.unwrap();
        let job = Inception {
            math: kernel.math,
            ..module(wide, 2, (4, 5), kernel.dtype, layout)
        };
        let fused = job.fused().unwrap();
        for node in fused.nodes() {
            let Step::Branches(branches) = &node.step else {
                panic!("{} is no step of branches", node.name);
            };
            let x: Vec<Vec<f64>> = branches
                .inputs()
                .map(|desc| integers(desc.elements(), 1, desc.c() as u64))
                .collect();
            let want = expected(branches, &x);
            for split_k in [1, 2] {
                let limits = Limits {
                    kernel: Some(KernelId(index)),
                    split_k: Some(split_k),
                    ..Limits::default()
                };
                let plan = match Plan::within(&**branches, gpu().capability(), &limits) {
                    Ok(plan) => plan,
                    Err(Error::KernelRefused { refusal, .. }) => {
                        assert!(split_k > 1, "{}: {refusal}", kernel.name());
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                let got = match kernel.dtype {
                    DType::F32 => outputs::<f32>(branches, &plan, &x),
                    DType::F16 => outputs::<half::f16>(branches, &plan, &x),
                    DType::Bf16 => outputs::<half::bf16>(branches, &plan, &x),
                };
                for (got, want) in got.iter().zip(&want) {
                    same(
                        &format!("{} {} x{split_k}", kernel.name(), node.name),
                        got,
                        want,
                    );
                }
                ran += 1;
            }
        }
    }
    assert_eq!(ran > 0, fuses());
}

/// The kernels that copy 16 bytes of x at a time: those that bring cells into shared memory.
fn copying_kernels() -> impl Iterator<Item = KernelId> {
    let entries = kernels().iter().enumerate().filter(|(_, kernel)| {
        kernel.algorithm == Algorithm::MmaMultiConv && kernel.vector == 16 && fuses()
    });
    entries.map(|(index, _)| KernelId(index))
}

/// A launch of the kernel is the reference to the bit, with about one special value in `every`, and
/// meets no bank twice.
fn pooled_holds(id: KernelId, branches: &Branches, split_k: u32, every: u64) {
    let kernel = id.kernel();
    let mut x = integers(branches.inputs().next().unwrap().elements(), 2, 5);
    sprinkle_special(&mut x, every, 3);
    let limits = Limits {
        kernel: Some(id),
        split_k: Some(split_k),
        ..Limits::default()
    };
    let name = format!("{} {branches} x{split_k}", kernel.name());
    let plan = Plan::within(branches, gpu().capability(), &limits).unwrap();
    assert_eq!(plan.score().split_k, split_k, "{name}");
    let want = expected(branches, std::slice::from_ref(&x));
    for want in &want {
        assert!(want.iter().any(|v| v.is_finite()), "{name}: nothing to see");
    }
    gpu().reset_counters();
    let got = match kernel.dtype {
        DType::F32 => outputs::<f32>(branches, &plan, &[x]),
        DType::F16 => outputs::<half::f16>(branches, &plan, &[x]),
        DType::Bf16 => outputs::<half::bf16>(branches, &plan, &[x]),
    };
    if let Some(counted) = gpu().counters() {
        let conflicts = counted.shared_loads.conflicts + counted.shared_stores.conflicts;
        assert_eq!(conflicts, 0, "{name}");
    }
    for (got, want) in got.iter().zip(&want) {
        same(&name, got, want);
    }
}

/// Maxima of cells that were brought into shared memory, and of those of images too wide for that:
/// edges of images within a tile, a last tile that is not full, the widest image whose cells fit
/// and the next, infinities and NaN.
#[test]
fn pooled_cells_are_those_of_the_image() {
    own_process(|| {
        for id in copying_kernels() {
            let kernel = id.kernel();
            let fits = match (kernel.tile_m, kernel.tile_n) {
                (128, 128) => 31,
                (64, 128) => 15,
                (64, 64) => 47,
                _ => panic!("how wide an image fits {}?", kernel.name()),
            };
            for image in [(13, 11), (1, 1), (3, 70), (3, fits), (3, fits + 1)] {
                let widths = [72, 8, 8, 8, 8, 8, 24];
                let job = Inception {
                    math: kernel.math,
                    ..module(widths, 2, image, kernel.dtype, Layout::Nhwc)
                };
                let fused = job.fused().unwrap();
                let Step::Branches(branches) = &fused.nodes()[0].step else {
                    panic!("{fused:?} begins with something else");
                };
                pooled_holds(id, branches, 1, 211);
            }
        }
    });
}

/// Rows whose last channels fill no whole copy: those behind them, NaN, must not be read as
/// channels. By one step and by several, by one block per tile and by two of two steps each.
#[test]
fn pooled_rows_end_within_a_copy() {
    own_process(|| {
        for id in copying_kernels() {
            let kernel = id.kernel();
            // 54 bytes of 64, and 104 of 112.
            let (c, pitch) = match kernel.dtype {
                DType::F32 => (26, 28),
                _ => (27, 32),
            };
            for (blocks, split_k) in [(0, 1), (3, 1), (3, 2)] {
                let before = blocks * kernel.tile_k as usize;
                let pooling = Pool2d::builder()
                    .input(1, before + c, 5, 11)
                    .input_slice(before + pitch, 0)
                    .kernel(3, 3)
                    .stride(1, 1)
                    .padding(Padding::same(1))
                    .kind(PoolKind::Max { indices: false })
                    .dtype(kernel.dtype)
                    .layout(Layout::Nhwc)
                    .build();
                let conv = Conv2d::builder()
                    .input(1, before + c, 5, 11)
                    .filters(24)
                    .kernel(1, 1)
                    .bias(true)
                    .dtype(kernel.dtype)
                    .layout(Layout::Nhwc)
                    .filter_layout(FilterLayout::Packed)
                    .math(kernel.math)
                    .build();
                let product = Product::pooled(pooling.unwrap(), vec![conv.unwrap()]).unwrap();
                let branches = Branches::new(vec![product]).unwrap();
                pooled_holds(id, &branches, split_k, 2011);
            }
        }
    });
}

#[test]
fn what_no_kernel_takes_is_separate_and_says_why() {
    let strict = Inception {
        math: Math::Strict,
        ..module(ODD, 1, IMAGE, DType::F32, Layout::Nhwc)
    };
    let (graph, decision) = strict
        .choose(&FuseOptions::new(&Capability::h200()))
        .unwrap();
    assert_eq!(graph, strict.separate().unwrap());
    let reason = decision.reason().unwrap();
    assert!(
        reason.contains("multiplies in tf32, the problem asks for strict"),
        "{reason}"
    );
    let widths = [32, 16, 24, 40, 8, 16, 8];
    let old = module(widths, 1, IMAGE, DType::F16, Layout::Nhwc);
    let (graph, decision) = old.choose(&FuseOptions::new(&Capability::sm75())).unwrap();
    assert_eq!(graph.launches(), 7);
    let reason = decision.reason().unwrap();
    assert!(
        reason.contains("needs compute capability 8.0, the device has 7.5"),
        "{reason}"
    );
    let (graph, decision) = old.choose(&FuseOptions::new(&Capability::h200())).unwrap();
    assert_eq!((graph.launches(), decision.reason()), (2, None));
}
