//! Several convolutions in one launch, and the inception module made of such launches, against the reference and against one
//! launch each.

mod common;

use std::array::from_fn;
use std::sync::Mutex;

use warpconv::catalog::{Algorithm, DType, KernelId, Layout, Math, kernels};
use warpconv::check::{LoadedModule, Operands, Stored, disturbed_gap, pack, pack_filter, unpack};
use warpconv::check::{integers, sprinkle_special};
use warpconv::gpu::{DeviceChoice, Gpu};
use warpconv::launch::{BranchesBuffers, DeviceBuffer, DeviceBufferMut, Workspace};
use warpconv::ops::{Inception, InceptionForm, Module, ModuleBuffers, Step, Weights};
use warpconv::plan::{BranchesPlan, Capability, Limits, Tuning};
use warpconv::problem::{Branches, Conv2d, MOST_CONVOLUTIONS};
use warpconv::{Error, reference};

use common::gpu;

/// An image small enough for the emulator, odd in both directions.
const IMAGE: (usize, usize) = (5, 7);

/// GoogLeNet's modules: channels, then the widths of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and projection.
const GOOGLENET: [(&str, [usize; 7]); 9] = [
    ("3a", [192, 64, 96, 128, 16, 32, 32]),
    ("3b", [256, 128, 128, 192, 32, 96, 64]),
    ("4a", [480, 192, 96, 208, 16, 48, 64]),
    ("4b", [512, 160, 112, 224, 24, 64, 64]),
    ("4c", [512, 128, 128, 256, 24, 64, 64]),
    ("4d", [512, 112, 144, 288, 32, 64, 64]),
    ("4e", [528, 256, 160, 320, 32, 128, 128]),
    ("5a", [832, 256, 160, 320, 32, 128, 128]),
    ("5b", [832, 384, 192, 384, 48, 128, 128]),
];

fn module(
    widths: [usize; 7],
    n: usize,
    image: (usize, usize),
    dtype: DType,
    layout: Layout,
) -> Inception {
    let [c, k1, reduce3, k3, reduce5, k5, pool_projection] = widths;
    Inception {
        n,
        c,
        h: image.0,
        w: image.1,
        k1,
        reduce3,
        k3,
        reduce5,
        k5,
        pool_projection,
        dtype,
        layout,
        math: match dtype {
            DType::F32 => Math::Tf32,
            DType::F16 | DType::Bf16 => Math::Strict,
        },
    }
}

fn holds<T: Stored>(name: &str, module: &Module, launches: usize) {
    let mut loaded = LoadedModule::<T>::new(gpu(), module).unwrap();
    assert_eq!(loaded.launches(), launches, "{name}");
    loaded.launch().unwrap();
    let verdict = loaded.check(u64::MAX).unwrap();
    assert_eq!(verdict.failure, None, "{name}");
}

fn holds_in(name: &str, module: &Module, launches: usize) {
    match module.dtype() {
        DType::F32 => holds::<f32>(name, module, launches),
        DType::F16 => holds::<half::f16>(name, module, launches),
        DType::Bf16 => holds::<half::bf16>(name, module, launches),
    }
}

/// Widths that fit no tile, no vector and no half of a word.
const ODD: [usize; 7] = [27, 13, 11, 19, 5, 7, 9];

/// Counters are the process's: who reads them runs alone.
static COUNTED: Mutex<()> = Mutex::new(());

/// Times that [`outputs`] launches.
const LAUNCHES: u64 = 2;

/// Whether the device has kernels for several convolutions in one launch.
fn fuses() -> bool {
    gpu().capability().version() >= (8, 0)
}

#[test]
fn all_of_googlenets_modules_take_two_launches() {
    let _others = COUNTED.lock().unwrap();
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
    let _others = COUNTED.lock().unwrap();
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
fn weights_of(module: &Module, order: &[usize]) -> Vec<(Vec<f64>, Vec<f64>)> {
    let all = module.weights();
    let each = all.iter().zip(order);
    each.map(|(conv, &seed)| {
        let w = integers(conv.filter_elements(), 1, 10 + seed as u64);
        (w, integers(conv.k(), 3, 50 + seed as u64))
    })
    .collect()
}

/// The output of a module for dense `x`, poisoned before, between canaries.
fn run<T: Stored>(module: &Module, x: &[f64], order: &[usize]) -> Vec<f64> {
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
    let mut hidden: Vec<_> = module.hidden().iter().map(|&len| poisoned(len)).collect();
    let len = module.output_len();
    let mut fenced = vec![T::fence(); len + 2 * CANARIES];
    fenced[CANARIES..CANARIES + len].fill(T::poison());
    let mut whole = gpu.upload(&fenced).unwrap();
    let mut y = whole.slice_mut(CANARIES..CANARIES + len);
    let mut workspace = prepared.allocate_workspace(gpu.stream()).unwrap();
    let buffers = ModuleBuffers {
        x: &x,
        weights: &weights,
        hidden: &mut hidden,
        y: &mut y,
        workspace: workspace.as_mut(),
    };
    prepared.launch(gpu.stream(), buffers).unwrap();
    let got = gpu.download(&whole).unwrap();
    for at in (0..CANARIES).chain(CANARIES + len..len + 2 * CANARIES) {
        assert_eq!(
            got[at].bits(),
            T::fence().bits(),
            "element {at} was written"
        );
    }
    got[CANARIES..CANARIES + len]
        .iter()
        .map(|v| v.value())
        .collect()
}

fn same(name: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let equal = got == want || (got.is_nan() && want.is_nan());
        assert!(equal, "{name}: element {at} is {got}, wanted {want}");
    }
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

/// Integers: every sum is exact, so that the order of additions cannot show. With infinities and NaN in x, each must reach what
/// lies in its field and nothing else.
#[test]
fn fused_is_separate_to_the_bit() {
    let _others = COUNTED.lock().unwrap();
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

/// The outputs of a launch with this kernel and as many blocks a tile: each convolution into a buffer of its own.
fn outputs<T: Stored>(branches: &Branches, plan: &BranchesPlan, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let gpu = gpu();
    let prepared = gpu.prepare_branches(plan).unwrap();
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
        let y: [_; MOST_CONVOLUTIONS] =
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

fn filters(conv: &Conv2d, index: usize) -> (Vec<f64>, Vec<f64>) {
    let w = integers(conv.filter_elements(), 1, 10 + index as u64);
    (w, integers(conv.k(), 3, 50 + index as u64))
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

/// Every kernel of the catalog on both launches of a module, with and without several blocks to a sum, against the reference
/// to the bit: all numbers are integers.
#[test]
fn every_kernel_computes_both_launches() {
    let _others = COUNTED.lock().unwrap();
    let mut ran = 0;
    for (index, kernel) in kernels().iter().enumerate() {
        if kernel.algorithm != Algorithm::MmaBranches || !fuses() {
            continue;
        }
        // Wide enough for two tiles of filters with a boundary between convolutions inside, and for several steps.
        let wide = if kernel.vector == 16 {
            [160, 40, 32, 72, 16, 24, 88]
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
            for splits in [1, 2] {
                let limits = Limits {
                    kernel: Some(KernelId(index)),
                    splits: Some(splits),
                    ..Limits::default()
                };
                let plan = match BranchesPlan::within(branches, gpu().capability(), &limits) {
                    Ok(plan) => plan,
                    Err(Error::KernelRefused { refusal, .. }) => {
                        assert!(splits > 1, "{}: {refusal}", kernel.id());
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
                        &format!("{} {} x{splits}", kernel.id(), node.name),
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

#[test]
fn what_no_kernel_takes_is_separate_and_says_why() {
    let strict = Inception {
        math: Math::Strict,
        ..module(ODD, 1, IMAGE, DType::F32, Layout::Nhwc)
    };
    let choice = strict.choose(&Capability::h200()).unwrap();
    assert_eq!(choice.module, strict.separate().unwrap());
    let reason = choice.reason.unwrap();
    assert!(
        reason.contains("multiplies in tf32, the problem asks for strict"),
        "{reason}"
    );
    let widths = [32, 16, 24, 40, 8, 16, 8];
    let old = module(widths, 1, IMAGE, DType::F16, Layout::Nhwc);
    let choice = old.choose(&Capability::sm75()).unwrap();
    assert_eq!(choice.module.launches(), 7);
    let reason = choice.reason.unwrap();
    assert!(
        reason.contains("needs compute capability 8.0, the device has 7.5"),
        "{reason}"
    );
    let new = old.choose(&Capability::h200()).unwrap();
    assert_eq!((new.module.launches(), new.reason), (2, None));
}

/// Each launch's sectors of device memory counted once, by the plans as they are: input, filters and output, what lies between
/// the launches written and read again, parts of sums that blocks share. The bound is the least that three launches move: all 1x1s
/// over the input, 3x3 and 5x5, and the pooling with its projection, each its operands once.
#[test]
fn little_more_moves_than_three_launches_must() {
    let _alone = COUNTED.lock().unwrap();
    let gpu = gpu();
    if !fuses() || gpu.counters().is_none() {
        return;
    }
    for (index, n, side, dtype, layout) in [
        (0, 1, 28, DType::Bf16, Layout::Nhwc),
        (0, 2, 14, DType::F32, Layout::Nchw),
        (6, 1, 14, DType::Bf16, Layout::Nhwc),
        (8, 1, 7, DType::F16, Layout::Nhwc),
        (8, 3, 7, DType::Bf16, Layout::Nhwc),
        (8, 1, 7, DType::F32, Layout::Nhwc),
    ] {
        let (name, widths) = GOOGLENET[index];
        let job = module(widths, n, (side, side), dtype, layout);
        let least = job.fused_in_three().unwrap().min_bytes();
        for fused in [job.fused().unwrap(), job.fused_in_three().unwrap()] {
            let moved = match dtype {
                DType::F32 => moved_by::<f32>(&fused),
                DType::F16 => moved_by::<half::f16>(&fused),
                DType::Bf16 => moved_by::<half::bf16>(&fused),
            };
            let numbers = format!(
                "{name}, N = {n}, {}: {moved} bytes by {} launches, the least of three is {least}",
                dtype.name(),
                fused.launches()
            );
            println!("{numbers}");
            assert!(4 * moved <= 5 * least, "{numbers}");
            assert!(2 * moved > least, "{numbers}");
        }
    }
}

/// Bytes from and to device memory of one pass.
fn moved_by<T: Stored>(module: &Module) -> u64 {
    let gpu = gpu();
    let mut loaded = LoadedModule::<T>::new(gpu, module).unwrap();
    gpu.synchronize().unwrap();
    gpu.reset_counters();
    loaded.launch().unwrap();
    gpu.synchronize().unwrap();
    gpu.counters().unwrap().device_bytes()
}

/// A captured module, replayed twice, gives what plain launches give, to the bit: what a launch leaves in the workspace does for the
/// next one.
#[test]
fn a_captured_module_is_what_plain_launches_are() {
    let _alone = COUNTED.lock().unwrap();
    if !fuses() {
        return;
    }
    let gpu = gpu();
    // SAFETY: what follows happens in one stream, and so does each of the other tests.
    unsafe { gpu.context().disable_event_tracking() };
    let stream = gpu.context().new_stream().unwrap();
    let tuning = Tuning::new(gpu.card());
    for (widths, image) in [(ODD, IMAGE), (GOOGLENET[8].1, (2, 3))] {
        let job = module(widths, 1, image, DType::Bf16, Layout::Nhwc);
        let fused = job.fused().unwrap();
        let load = || LoadedModule::<half::bf16>::in_stream(gpu, &stream, &fused, &tuning).unwrap();
        let x = integers(fused.input().unwrap().elements(), 3, 11);
        let mut plain = load();
        plain.launch().unwrap();
        let first = plain.outputs().unwrap();
        plain.set_input(&x).unwrap();
        plain.launch().unwrap();
        let want = plain.outputs().unwrap();
        assert_ne!(first, want);
        assert!(want.iter().flat_map(|(_, y)| y).all(|v| v.is_finite()));

        let mut captured = load();
        let graph = captured.capture().unwrap();
        graph.launch().unwrap();
        assert_eq!(captured.outputs().unwrap(), first);
        captured.set_input(&x).unwrap();
        for _ in 0..2 {
            graph.launch().unwrap();
            assert_eq!(captured.outputs().unwrap(), want);
        }
    }
}

/// A device of compute capability 7.5 has no such kernels: the launches are separate, which is said, and each is within its bound
/// of the reference.
#[test]
fn an_older_device_computes_it_separately() {
    let _alone = COUNTED.lock().unwrap();
    let gpu = match Gpu::open(&DeviceChoice::Emulator { sm: 75 }) {
        Ok(gpu) => gpu,
        // A process has one driver: where that is a GPU's, this is for a run without.
        Err(Error::DriverInUse { .. } | Error::NoEmulator { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(gpu.capability().version(), (7, 5));
    for (dtype, layout) in [(DType::F16, Layout::Nhwc), (DType::F16, Layout::Nchw)] {
        let job = module(ODD, 2, IMAGE, dtype, layout);
        assert!(job.fused().unwrap().prepare(&gpu).is_err());
        let choice = job.choose(gpu.capability()).unwrap();
        assert_eq!(choice.form, InceptionForm::Separate);
        assert_eq!(choice.module, job.separate().unwrap());
        let text = choice.to_string();
        assert!(
            text.contains("needs compute capability 8.0, the device has 7.5"),
            "{text}"
        );
        let mut loaded = LoadedModule::<half::f16>::new(&gpu, &choice.module).unwrap();
        loaded.launch().unwrap();
        assert_eq!(loaded.check(u64::MAX).unwrap().failure, None);
    }
}

/// The naive module: every launch within its bound, and with infinities and NaN in the input what the reference says, to the bit.
#[test]
fn the_naive_module_is_what_the_reference_says() {
    let _others = COUNTED.lock().unwrap();
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            let job = Inception {
                math: Math::Strict,
                ..module(ODD, 2, IMAGE, dtype, layout)
            };
            let naive = job.naive().unwrap();
            for special in [false, true] {
                let name = format!("naive {} {} {special}", dtype.name(), layout.name());
                let mut x = integers(naive.input().unwrap().elements(), 1, 7);
                if special {
                    sprinkle_special(&mut x, 97, 3);
                }
                let got = match dtype {
                    DType::F32 => run_dense::<f32>(&naive, &x),
                    DType::F16 => run_dense::<half::f16>(&naive, &x),
                    DType::Bf16 => run_dense::<half::bf16>(&naive, &x),
                };
                let mut want = Vec::new();
                for node in naive.nodes() {
                    want.push(match &node.step {
                        Step::Conv(conv) => {
                            let (w, bias) = filters(conv, want.len());
                            reference::conv2d(conv, &x, &w, Some(&bias), None).unwrap()
                        }
                        Step::Pool(pool) => reference::pool2d(pool, &x).unwrap().0,
                        step => panic!("{step:?}"),
                    });
                }
                assert_eq!(special, want.iter().flatten().any(|v| v.is_nan()), "{name}");
                assert_eq!(got.len(), want.len(), "{name}");
                for (got, want) in got.iter().zip(&want) {
                    same(&name, got, want);
                }
            }
        }
    }
}

/// Each tensor in the module's output, dense, for the weights of [`filters`].
fn run_dense<T: Stored>(module: &Module, x: &[f64]) -> Vec<Vec<f64>> {
    let weights = module.weights();
    let operands = weights.iter().enumerate().map(|(index, conv)| {
        let (w, bias) = filters(conv, index);
        Operands {
            w,
            bias: Some(bias),
        }
    });
    let (gpu, operands) = (gpu(), operands.collect());
    let tuning = Tuning::new(gpu.card());
    let mut loaded =
        LoadedModule::<T>::with(gpu, gpu.stream(), module, &tuning, x, operands).unwrap();
    loaded.launch().unwrap();
    let outputs = loaded.outputs().unwrap();
    outputs.into_iter().map(|(_, y)| y).collect()
}
