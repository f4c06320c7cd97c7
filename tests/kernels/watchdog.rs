//! Kernels with bounded waits: they compute the same as the others, and one that hangs names the
//! barrier of the missing arrival, the warp that waits, and the phase.
//!
//! The modules of `tests/data/watchdog.ptxa`, which `cargo xtask prebuilt` makes, on the emulator.

use crate::mutations::{GATHER, Problem, Text, WGMMA, id, open};
use crate::trials::{in_child, test};
use libtest_mimic::Trial;
use ptx_archive::Archive;
use warpconv::Error;
use warpconv::Layout;
use warpconv::device::Gpu;
use warpconv::kernels::DType;
use warpconv::plan::{Limits, Plan};
use warpconv::problem::Bottleneck2d;
use warpconv_testing::reference::{self, BottleneckOperands};
use warpconv_testing::{self as check, RunError};

/// f16, x through registers.
const REGISTERS: &str = "wgmma_gather_f16_nhwc_64x128x64_v2_sm90a";
/// f16, stride 2.
const BOTTLENECK: &str = "bottleneck_wgmma_f16_nhwc_4x8x64_v16_s2_sm90a";

const ARRIVE: &str = "mbarrier.arrive.shared::cta.b64";

/// A kernel that lacks an arrival, and what waits for it.
struct Hang {
    lacks: &'static str,
    kernel: &'static str,
    edit: fn(&mut Text),
    /// The warps of which one began to wait first.
    warps: std::ops::Range<u32>,
    barrier: &'static str,
    phase: u32,
}

const HANGS: [Hang; 4] = [
    // Of three stages the first is filled again first.
    Hang {
        lacks: "the consumers' arrival when a stage is read",
        kernel: WGMMA,
        edit: |text| {
            let waits = text.all("wgmma.wait_group.sync.aligned 1;", 1);
            let arrival = text.after(waits[0], ARRIVE, 12);
            text.remove(arrival);
        },
        warps: 8..9,
        barrier: "empty[0]",
        phase: 0,
    },
    Hang {
        lacks: "the producers' arrival when a stage is stored",
        kernel: GATHER,
        edit: |text| {
            let waits = text.all("cp.async.wait_group 1;", 1);
            let arrival = text.after(waits[0], ARRIVE, 12);
            text.remove(arrival);
        },
        warps: 0..8,
        barrier: "full[0]",
        phase: 0,
    },
    Hang {
        lacks: "the producers' arrival when a stage is stored",
        kernel: REGISTERS,
        edit: |text| {
            let arrival = text.last_after_fence("st.shared");
            text.remove(arrival);
        },
        warps: 0..8,
        barrier: "full[0]",
        phase: 0,
    },
    Hang {
        lacks: "the arrival when the first intermediate is stored",
        kernel: BOTTLENECK,
        edit: |text| {
            let arrival = text.first_after_fence("stmatrix");
            text.remove(arrival);
        },
        warps: 8..12,
        barrier: "mid1_full",
        phase: 0,
    },
];

impl Text {
    /// The watchdog module of a kernel.
    fn watchdog(kernel: &str) -> Text {
        let archive = Archive::parse(include_bytes!("../data/watchdog.ptxa")).expect("an archive");
        let entry = archive.entries.iter().find(|entry| entry.id == kernel);
        Text::new(
            &entry
                .and_then(|entry| entry.text())
                .expect("a module of it"),
        )
    }

    /// The arrivals that announce what was stored by `store`: a proxy fence comes between them.
    fn after_fences(&self, store: &str) -> Vec<usize> {
        let stores = (0..self.lines.len() - 1).filter(|&at| {
            self.lines[at].contains(store) && self.lines[at + 1].contains("fence.proxy.async")
        });
        stores.map(|at| self.after(at, ARRIVE, 12)).collect()
    }

    fn first_after_fence(&self, store: &str) -> usize {
        *self.after_fences(store).first().expect("an arrival")
    }

    fn last_after_fence(&self, store: &str) -> usize {
        *self.after_fences(store).last().expect("an arrival")
    }
}

/// A bottleneck of two patches, each of three stages of channels.
struct Bottleneck {
    plan: Plan<Bottleneck2d>,
    operands: [Vec<f64>; 4],
}

impl Bottleneck {
    fn new(gpu: &Gpu) -> Bottleneck {
        let problem = Bottleneck2d::builder()
            .input(1, 192, 13, 16)
            .mid_channels(64)
            .filters(64)
            .stride(2)
            .dtype(DType::F16)
            .layout(Layout::Nhwc)
            .bias([false; 3])
            .build()
            .expect("a valid problem");
        let limits = Limits {
            kernel: Some(id(BOTTLENECK)),
            ..Limits::default()
        };
        let [first, second, third] = problem.convolutions().each_ref();
        let integers = |len, seed| check::integers(len, 1, seed);
        Bottleneck {
            operands: [
                integers(problem.input().elements(), 1),
                integers(first.filter().elements(), 2),
                integers(second.filter().elements(), 3),
                integers(third.filter().elements(), 4),
            ],
            plan: Plan::within(&problem, gpu.capability(), &limits).expect("the kernel takes it"),
        }
    }

    fn operands(&self) -> BottleneckOperands<'_> {
        let [x, w @ ..] = self.operands.each_ref().map(Vec::as_slice);
        BottleneckOperands {
            x,
            w,
            bias: [None; 3],
            residual: None,
        }
    }

    /// Returns whether the result is the reference's: sums of these integers are exact in f32, and
    /// both round each once.
    fn right(&self, y: &[f64]) -> bool {
        let store = |value| check::round(DType::F16, value);
        let want = reference::bottleneck2d(self.plan.problem(), &self.operands(), store);
        want.is_ok_and(|want| want == y)
    }
}

/// Runs a kernel with `text` for its PTX; true if the result is the reference's.
fn run(kernel: &str, text: &Text) -> Result<bool, RunError> {
    let (gpu, id) = (open(), id(kernel));
    // SAFETY: the text may do anything, and the emulator checks what it does.
    unsafe { gpu.replace_ptx(id, &text.lines.join("\n")) }.unwrap();
    if kernel == BOTTLENECK {
        let problem = Bottleneck::new(&gpu);
        let y = check::run_bottleneck(&gpu, &problem.plan, &problem.operands())?;
        return Ok(problem.right(&y));
    }
    let problem = Problem::new(&gpu, id);
    Ok(problem.right(&problem.run(&gpu)?))
}

/// Blocks of a kernel's launch.
fn blocks(kernel: &str) -> u32 {
    let gpu = open();
    match kernel {
        BOTTLENECK => Bottleneck::new(&gpu).plan.grid(),
        _ => Problem::new(&gpu, id(kernel)).blocks(),
    }
}

/// Compares the error of a kernel that hangs with what it lacks.
fn is_named(hang: &Hang) {
    let mut text = Text::watchdog(hang.kernel);
    (hang.edit)(&mut text);
    let error = match run(hang.kernel, &text) {
        Err(RunError::Device(error)) => error,
        other => panic!("{} without {}: {other:?}", hang.kernel, hang.lacks),
    };
    let Error::Watchdog {
        kernel,
        block,
        warp,
        barrier,
        phase,
        others,
    } = &error
    else {
        panic!("{error}");
    };
    let place = (kernel.as_str(), barrier.as_str(), *phase);
    assert_eq!(place, (hang.kernel, hang.barrier, hang.phase), "{error}");
    assert!(hang.warps.contains(warp), "{error}");
    // Blocks run side by side, and each of them lacks the arrival.
    assert!(*block < blocks(hang.kernel), "{error}");
    assert!(!others.is_empty(), "the other side waits too: {error}");
}

/// Dynamic shared memory that begins 16 bytes further on, after a variable of the module.
fn misalignment_is_named() {
    let mut text = Text::watchdog(WGMMA);
    let memory = text.all(".extern .shared .align 1024 .b8 memory[];", 1)[0];
    text.lines[memory] =
        String::from(".shared .align 16 .b8 before[16];\n.extern .shared .align 16 .b8 memory[];");
    let body = text.after(memory, "{", 12);
    text.lines[body] = String::from("{ .reg .u32 at; mov.u32 at, before;");
    let Err(RunError::Device(error)) = run(WGMMA, &text) else {
        panic!("no error");
    };
    let Error::SharedAlignment {
        kernel,
        block: 0,
        base: 16,
        needs: 1024,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(kernel, WGMMA);
}

/// A test per kernel as it is, and one per hang.
pub fn trials() -> Vec<Trial> {
    let whole = [WGMMA, GATHER, REGISTERS, BOTTLENECK]
        .into_iter()
        .map(|name| {
            test(format!("watchdog::{name}::as_it_is"), move || {
                let right = run(name, &Text::watchdog(name)).unwrap();
                assert!(right, "{name}, as it is");
            })
        });
    let hangs = HANGS.iter().map(|hang| {
        let lacks = hang.lacks.replace('\'', "").replace(' ', "_");
        in_child(
            format!("watchdog::{}::without_{lacks}", hang.kernel),
            || is_named(hang),
        )
    });
    let alignment = in_child("watchdog::misaligned_shared_memory", misalignment_is_named);
    whole.chain(hangs).chain([alignment]).collect()
}
