//! The crate's own kernels, each with one line of its PTX broken on purpose: the emulator reports
//! the very check that the line is there for, at the instruction that relies on it, and what no
//! check can see the comparison with the reference finds.
//!
//! On the emulator only: on a GPU such kernels do whatever they like.

use crate::trials::in_child;
use libtest_mimic::Trial;
use warpconv::Error;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::kernels::{KernelId, kernels};
use warpconv::plan::{Limits, Plan};
use warpconv::problem::Conv2d;
use warpconv::ptx;
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{RunError, Tolerance};

/// f16, copies of 16 bytes, four stages.
const MMA: &str = "mma_f16_nhwc_64x64x64_v16_sm80";
/// bf16, three stages.
pub const WGMMA: &str = "wgmma_bf16_nhwc_64x128x64_sm90a";
/// f16, copies of 16 bytes, three stages.
pub const GATHER: &str = "wgmma_gather_f16_nhwc_64x128x64_v16_sm90a";

/// Nine steps per tile: every stage of every ring is used again.
const PROBLEM: &str = "mb2ic64ih7oc64kh3ph1+nhwc";

const WAIT: &str = "mbarrier.try_wait.parity";
const EXPECT: &str = "mbarrier.arrive.expect_tx";
const FENCE: &str = "fence.proxy.async.shared::cta;";

const COPY: &str = "asynchronous copy not waited for: shared read";
const UNFENCED: &str = "no fence.proxy.async after ordinary writes: asynchronous shared read";

/// A descriptor's constant part: 128 byte swizzle, rows 1024 bytes a group of eight.
const SWIZZLE_128: u64 = 1 << 62 | 64 << 32 | 1 << 16;
/// The same with 64 byte swizzle.
const SWIZZLE_64: u64 = 2 << 62 | 64 << 32 | 1 << 16;

/// Expected report of a broken kernel.
enum Sign {
    /// A report that says all of this, of a line with that in it.
    Report(&'static [&'static str], &'static str),
    /// A run to the end, with a result that is not the reference's.
    Wrong,
}

/// A kernel that lacks something.
struct Case {
    lacks: &'static str,
    kernel: &'static str,
    edit: fn(&mut Text),
    sign: Sign,
}

const CASES: &[Case] = &[
    Case {
        lacks: "the wait for a stage's copies by cp.async",
        kernel: MMA,
        edit: |text| {
            let waits = text.all("cp.async.wait_group 2;", 2);
            text.remove(waits[1]);
        },
        sign: Sign::Report(&[COPY], "ldmatrix"),
    },
    Case {
        lacks: "the barrier of the main loop",
        kernel: MMA,
        edit: |text| {
            let waits = text.all("cp.async.wait_group 2;", 2);
            let barrier = text.after(waits[1], "bar.sync 0;", 12);
            text.remove(barrier);
        },
        sign: Sign::Report(
            &["race: shared read", "against a write by thread"],
            "ldmatrix",
        ),
    },
    Case {
        lacks: "the swizzle of ldmatrix's addresses",
        kernel: MMA,
        edit: |text| {
            // Three for where copies go and where the fragments of k = 0 are, then two for each
            // other k.
            let addresses = text.all("xor.b32", 9);
            text.swap(addresses[3], ", 32;", ", 64;");
        },
        sign: Sign::Wrong,
    },
    Case {
        lacks: "the wait for a stage's bulk copies",
        kernel: WGMMA,
        edit: |text| {
            let first = text.before_product(WAIT);
            text.no_wait(first);
        },
        sign: Sign::Report(&[COPY], "wgmma.mma_async"),
    },
    Case {
        lacks: "the wait for the products before their sums are read",
        kernel: WGMMA,
        edit: |text| {
            let waits = text.all("wgmma.wait_group.sync.aligned 0;", 1);
            text.remove(waits[0]);
        },
        sign: Sign::Report(
            &["a sum of a matrix product that is under way is read"],
            "%f",
        ),
    },
    Case {
        lacks: "the wait for the products before their stage is given back",
        kernel: WGMMA,
        edit: |text| {
            let waits = text.all("wgmma.wait_group.sync.aligned 1;", 1);
            text.remove(waits[0]);
        },
        sign: Sign::Report(
            &["shared write of", "while a matrix product of warpgroup"],
            "cp.async.bulk.tensor",
        ),
    },
    Case {
        lacks: "the fence between what is stored and the bulk copy of it",
        kernel: WGMMA,
        edit: |text| {
            let guards = text.all(FENCE, 1);
            text.remove(guards[0]);
        },
        sign: Sign::Report(&[UNFENCED], "cp.async.bulk.tensor.3d.global"),
    },
    Case {
        lacks: "16 of the bytes that it lets a stage wait for",
        kernel: WGMMA,
        edit: |text| {
            let im2col = text.all(".im2col.", 1);
            let expect = text.before(im2col[0], EXPECT, 12);
            let bytes = text.lines[expect].rsplit(' ').next().unwrap().to_owned();
            let set = text.before(expect, &format!(" {}", bytes.replace(';', ",")), 4);
            text.swap(set, ", 24576;", ", 24592;");
        },
        sign: Sign::Report(
            &[
                "deadlock: no warp of the block",
                "lacks 0 arrivals and 16 bytes",
            ],
            WAIT,
        ),
    },
    Case {
        lacks: "the swizzle of a descriptor",
        kernel: WGMMA,
        edit: |text| {
            let parts = text.all(&format!(", {SWIZZLE_128};"), 4);
            text.swap(parts[0], &SWIZZLE_128.to_string(), &SWIZZLE_64.to_string());
        },
        sign: Sign::Wrong,
    },
    Case {
        lacks: "the fence between cp.async and the products",
        kernel: GATHER,
        edit: |text| {
            let waits = text.all("cp.async.wait_group 1;", 1);
            let fence = text.after(waits[0], FENCE, 1);
            text.remove(fence);
        },
        sign: Sign::Report(&[UNFENCED], "wgmma.mma_async"),
    },
    Case {
        lacks: "the wait for cp.async before a stage is announced",
        kernel: GATHER,
        edit: |text| {
            let waits = text.all("cp.async.wait_group 1;", 1);
            text.remove(waits[0]);
        },
        sign: Sign::Report(&[COPY], "wgmma.mma_async"),
    },
];

/// The lines of a kernel's PTX. Whatever is looked for must be there, as often as said: a kernel
/// that has changed fails here.
pub struct Text {
    pub lines: Vec<String>,
}

impl Text {
    fn of(id: KernelId) -> Text {
        Text::new(&ptx::text(id).expect("every kernel has a text"))
    }

    pub fn new(text: &str) -> Text {
        Text {
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    /// The lines with `what`, of which there are `count`.
    pub fn all(&self, what: &str, count: usize) -> Vec<usize> {
        let has = |&at: &usize| self.lines[at].contains(what);
        let found: Vec<usize> = (0..self.lines.len()).filter(has).collect();
        assert_eq!(found.len(), count, "lines with `{what}`: {found:?}");
        found
    }

    /// The first line with `what` after line `at`, at most `within` lines further.
    pub fn after(&self, at: usize, what: &str, within: usize) -> usize {
        let mut near = at + 1..=at + within;
        near.find(|&line| self.lines[line].contains(what))
            .unwrap_or_else(|| panic!("no `{what}` within {within} lines after {}", at + 1))
    }

    /// The last line with `what` before line `at`, at most `within` lines before.
    pub fn before(&self, at: usize, what: &str, within: usize) -> usize {
        let mut near = (at - within..at).rev();
        near.find(|&line| self.lines[line].contains(what))
            .unwrap_or_else(|| panic!("no `{what}` within {within} lines before {}", at + 1))
    }

    /// The last line with `what` before the first product.
    fn before_product(&self, what: &str) -> usize {
        let product = |line: &String| line.contains("wgmma.mma_async");
        let first = self.lines.iter().position(product).expect("products");
        self.before(first, what, 24)
    }

    pub fn remove(&mut self, at: usize) {
        // The lines after it keep their numbers.
        self.lines[at] = String::new();
    }

    fn swap(&mut self, at: usize, from: &str, to: &str) {
        let line = &mut self.lines[at];
        assert_eq!(line.matches(from).count(), 1, "`{from}` in `{line}`");
        *line = line.replace(from, to);
    }

    /// Lets a loop that waits for a phase believe at once that it has ended.
    fn no_wait(&mut self, at: usize) {
        let line = &self.lines[at];
        let (_, register) = line.split_once("selp.u32 ").expect("the answer's register");
        let (register, rest) = register.split_once(',').expect("an operand");
        assert_eq!(rest.trim(), "1, 0, p;}", "{line}");
        self.lines[at] = format!("mov.u32 {register}, 1;");
    }
}

/// A plan of the problem with the kernel, operands, and the result that is expected.
pub struct Problem {
    plan: Plan<Conv2d>,
    x: Vec<f64>,
    w: Vec<f64>,
    want: Vec<f64>,
}

impl Problem {
    pub fn new(gpu: &Gpu, id: KernelId) -> Problem {
        let line = format!("{PROBLEM}+{}", id.kernel().dtype.name());
        let conv: Conv2d = line.parse().unwrap();
        let limits = Limits {
            kernel: Some(id),
            split_k: Some(1),
            ..Limits::default()
        };
        let x = check::integers(conv.input().elements(), 3, 1);
        let w = check::integers(conv.filter().len(), 3, 2);
        Problem {
            want: reference::conv2d(&conv, &x, &w, None, None).unwrap(),
            plan: Plan::within(&conv, gpu.capability(), &limits).unwrap(),
            x,
            w,
        }
    }

    pub fn run(&self, gpu: &Gpu) -> Result<Vec<f64>, RunError> {
        check::run_conv(gpu, &self.plan, &self.x, &self.w, None, None)
    }

    /// Returns whether the result is the reference's, bit for bit: the sums of these integers are
    /// exact in f32, and both are rounded once.
    pub fn right(&self, y: &[f64]) -> bool {
        let conv = self.plan.problem();
        let extents = check::extents(conv.output());
        check::compare(
            y,
            &self.want,
            extents,
            conv.input().dtype(),
            Tolerance::Exact,
        )
        .is_ok()
    }

    /// Blocks of the launch.
    pub fn blocks(&self) -> u32 {
        self.plan.grid()
    }
}

pub fn id(name: &str) -> KernelId {
    let named = |kernel: &warpconv::kernels::Kernel| kernel.name() == name;
    KernelId(kernels().iter().position(named).expect("in the catalog"))
}

/// A context of its own, for a fault stays as long as the context does.
pub fn open() -> Gpu {
    let gpu = Gpu::open(&DeviceChoice::Emulator { sm: 90 }).expect("the emulator's library");
    gpu.emulator().expect("the emulator").silence(true);
    gpu
}

/// Runs the kernel with `text` for its PTX.
fn run(name: &str, text: &Text) -> (Problem, Result<Vec<f64>, RunError>) {
    let (gpu, id) = (open(), id(name));
    // SAFETY: the text may do anything, and the emulator checks what it does.
    unsafe { gpu.replace_ptx(id, &text.lines.join("\n")) }.unwrap();
    let problem = Problem::new(&gpu, id);
    let result = problem.run(&gpu);
    (problem, result)
}

/// The line of the kernel's PTX that a report blames; it may speak of others.
fn blamed(report: &str, kernel: &str) -> usize {
    let place = format!("kernel {kernel}, PTX line ");
    let (_, line) = report.split_once(&place).expect("a line is blamed");
    let digits = line.split(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap().parse().unwrap()
}

/// Fault.
fn survives(case: &Case) -> Result<(), String> {
    let mut text = Text::of(id(case.kernel));
    (case.edit)(&mut text);
    let (problem, result) = run(case.kernel, &text);
    let (says, of) = match (&case.sign, &result) {
        (Sign::Wrong, Ok(y)) if !problem.right(y) => return Ok(()),
        (Sign::Wrong, Ok(_)) => return Err(String::from("the result is right")),
        (Sign::Wrong, Err(error)) => return Err(error.to_string()),
        (Sign::Report(..), Ok(_)) => return Err(String::from("no report")),
        (Sign::Report(says, of), Err(_)) => (says, of),
    };
    let Err(RunError::Device(Error::Driver { message, .. })) = &result else {
        return Err(format!("{result:?}"));
    };
    let line = &text.lines[blamed(message, case.kernel) - 1];
    let said = says.iter().all(|part| message.contains(part));
    (said && line.contains(of))
        .then_some(())
        .ok_or_else(|| format!("{message}\n{line}"))
}

/// A test per kernel as it is, and one per broken one.
pub fn trials() -> Vec<Trial> {
    let whole = [MMA, WGMMA, GATHER].into_iter().map(|name| {
        in_child(format!("mutations::{name}::as_it_is"), move || {
            let (problem, result) = run(name, &Text::of(id(name)));
            assert!(problem.right(&result.unwrap()), "{name}, as it is");
        })
    });
    let broken = CASES.iter().map(|case| {
        let lacks = case.lacks.replace(['.', '\''], "").replace([' ', '='], "_");
        in_child(
            format!("mutations::{}::without_{lacks}", case.kernel),
            || {
                if let Err(why) = survives(case) {
                    panic!("{} without {}: {why}", case.kernel, case.lacks);
                }
            },
        )
    });
    whole.chain(broken).collect()
}
