//! Units of the shadow of shared memory: a kernel that moves 16 bytes at a time begins with units
//! of 16 bytes, which its first smaller access divides.
//!
//! Random programs run three times: with all units divided by their first store, with the units
//! divided where the accesses want it, and with vector clocks, which keep the smallest units and
//! look at each. Reports, results and counters of the first two must be the same. Those with
//! vector clocks name the same access and byte, if not the same other access.
use super::harness::{Bench, Params, text};
use ptx_emulator::{Counters, Fault, FaultKind, LaunchConfig, LoadedKernel};
use std::fmt::Write as _;

/// The first byte of the accesses; before it lies what no access touches.
const FIRST: u32 = 32;
/// Bytes of the accesses: the last unit has 12.
const BYTES: u32 = 268;
/// Static variables, and the dynamic ones at an offset that is no multiple of 16.
const VARIABLES: &str = ".shared .align 16 .b8 apart[20];
.extern .shared .align 4 .b8 tile[];";
/// Bytes of the static variables.
const STATIC: u32 = 20;
const PARAMS: &str = ".param .u64 far, .param .u64 out, .param .u32 early";
const BLOCKS: u32 = 3;
const THREADS: u32 = 64;

/// A generator of pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u32) -> u32 {
        (self.next() % u64::from(end)) as u32
    }

    /// Returns true in `percent` of a hundred calls.
    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u32) as usize]
    }
}

/// Accesses of lanes at `%r5` (generic: `%rd5`), and their bytes.
const ACCESSES: [(&str, u32); 33] = [
    ("ld.shared.u8 %r20, [%r5]", 1),
    ("ld.shared.v2.u8 {%r20, %r21}, [%r5]", 2),
    ("ld.shared.u16 %r20, [%r5]", 2),
    ("ld.shared.u32 %r20, [%r5]", 4),
    ("ld.shared.v4.u8 {%r20, %r21, %r22, %r23}, [%r5]", 4),
    ("ld.shared.u64 %rd6, [%r5]", 8),
    ("ld.shared.v2.u32 {%r20, %r21}, [%r5]", 8),
    ("ld.shared.v4.u32 {%r20, %r21, %r22, %r23}, [%r5]", 16),
    ("ld.shared.v2.u64 {%rd6, %rd7}, [%r5]", 16),
    ("ld.v4.u32 {%r20, %r21, %r22, %r23}, [%rd5]", 16),
    ("ld.u32 %r20, [%rd5]", 4),
    ("st.u16 [%rd5], %r10", 2),
    ("ld.volatile.shared.u32 %r20, [%r5]", 4),
    (
        "ld.volatile.shared.v4.u32 {%r20, %r21, %r22, %r23}, [%r5]",
        16,
    ),
    ("st.shared.u8 [%r5], %r10", 1),
    ("st.shared.u16 [%r5], %r10", 2),
    ("st.shared.u32 [%r5], %r10", 4),
    ("st.shared.v2.u16 [%r5], {%r10, %r11}", 4),
    ("st.shared.u64 [%r5], %rd8", 8),
    ("st.shared.v2.u32 [%r5], {%r11, %r10}", 8),
    ("st.shared.v4.u32 [%r5], {%r11, %r11, %r11, %r11}", 16),
    ("st.shared.v4.u32 [%r5], {%r11, %r11, %r11, %r10}", 16),
    ("st.shared.v4.u32 [%r5], {%r10, %r10, %r10, %r10}", 16),
    ("st.shared.v2.u64 [%r5], {%rd8, %rd8}", 16),
    ("st.v4.u32 [%rd5], {%r11, %r11, %r10, %r11}", 16),
    (
        "st.volatile.shared.v4.u32 [%r5], {%r11, %r11, %r11, %r10}",
        16,
    ),
    ("atom.shared.add.u32 %r20, [%r5], %r10", 4),
    ("atom.shared.add.u64 %rd6, [%r5], %rd8", 8),
    ("red.shared.add.u32 [%r5], 1", 4),
    ("cp.async.ca.shared.global [%r5], [%rd1], 4", 4),
    ("cp.async.ca.shared.global [%r5], [%rd1], 8", 8),
    ("cp.async.cg.shared.global [%r5], [%rd1], 16", 16),
    ("cp.async.cg.shared.global [%r5], [%rd1], 16, 4", 16),
];

/// Accesses of a whole warp, and the lanes whose rows of 16 bytes they touch.
const MATRICES: [(&str, u32); 4] = [
    ("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r20}, [%r5]", 8),
    (
        "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r20, %r21}, [%r5]",
        16,
    ),
    ("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r5], {%r10}", 8),
    (
        "stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r5], {%r11, %r11}",
        16,
    ),
];

/// Accesses whose elements have so many bytes at least; all of 16 bytes, if `rows`.
fn accesses(least: u32, rows: bool) -> Vec<(&'static str, u32)> {
    let small = match least {
        1 => &[][..],
        2 => &[".u8"],
        _ => &[".u8", ".u16"],
    };
    let fits = |text: &str| !small.iter().any(|part| text.contains(part));
    let all = ACCESSES.into_iter();
    all.filter(|a| fits(a.0) && (!rows || a.1 == 16)).collect()
}

/// Appends an access of some lanes to some place.
fn access(out: &mut String, random: &mut Random, (least, rows): (u32, bool)) {
    let matrix = random.chance(20);
    let (instruction, bytes, mut lanes, first) = if matrix {
        let (instruction, rows) = random.of(&MATRICES);
        (instruction, 16, rows, 0)
    } else {
        let (instruction, bytes) = random.of(&accesses(least, rows));
        let lanes = random.of(&[1, 1, 2, 4, 8, 16]);
        (instruction, bytes, lanes, random.below(33 - lanes))
    };
    let step = if random.chance(15) { 0 } else { bytes };
    if step != 0 {
        lanes = lanes.min(BYTES / bytes);
    }
    let room = BYTES - bytes - step * (lanes - 1);
    let at = FIRST + random.below(room / bytes + 1) * bytes;
    // One warp, or both at the same places.
    let warp = random.of(&[0, 0, 0, 1, 1, 1, 2]);
    let block = if random.chance(20) {
        random.below(BLOCKS)
    } else {
        BLOCKS
    };
    let last = if matrix { 32 } else { lanes };
    let _ = write!(
        out,
        "
    and.b32 %r6, %r2, 31;
    sub.u32 %r6, %r6, {first};
    setp.lt.u32 %p2, %r6, {last};
    shr.u32 %r7, %r2, 5;
    setp.eq.and.u32 %p3, %r7, {warp}, %p2;
    selp.u32 %r7, {warp}, %r7, %p2;
    setp.eq.u32 %p4, {warp}, 2;
    and.pred %p4, %p4, %p2;
    or.pred %p2, %p3, %p4;
    setp.eq.u32 %p5, {block}, {BLOCKS};
    setp.eq.or.u32 %p5, %r3, {block}, %p5;
    and.pred %p2, %p2, %p5;
    rem.u32 %r6, %r6, {lanes};
    mad.lo.u32 %r5, %r6, {step}, {at};
    cvt.u64.u32 %rd5, %r5;
    cvta.shared.u64 %rd5, %rd5;
    @%p2 {instruction};
    xor.b32 %r30, %r30, %r20;
    xor.b32 %r30, %r30, %r23;
    mul.lo.u32 %r30, %r30, 5;
    xor.b64 %rd9, %rd9, %rd6;"
    );
}

/// Writes all of the memory, or all but its last bytes, and waits.
fn fill(random: &mut Random) -> String {
    let (store, step) = random.of(&[
        ("st.shared.v4.u32 [%r5], {%r11, %r11, %r11, %r11}", 16),
        ("cp.async.cg.shared.global [%r5], [%rd1], 16", 16),
        ("st.shared.u32 [%r5], %r11", 4),
    ]);
    let count = BYTES / step;
    format!(
        "
    mov.u32 %r5, %r2;
FILL:
    setp.lt.u32 %p2, %r5, {count};
    mad.lo.u32 %r5, %r5, {step}, {FIRST};
    @%p2 {store};
    sub.u32 %r5, %r5, {FIRST};
    div.u32 %r5, %r5, {step};
    add.u32 %r5, %r5, {THREADS};
    setp.lt.u32 %p2, %r5, {count};
    @%p2 bra FILL;
    cp.async.wait_all;
    bar.sync 0;"
    )
}

/// Accesses, and between them what orders them. `least`: bytes of the smallest one.
fn steps(random: &mut Random, least: u32) -> String {
    let mut out = String::new();
    let steps = 4 + random.below(20);
    // The first accesses of most programs are to whole units.
    let whole = random.below(steps);
    let ordered = random.of(&[40, 80, 95]);
    for step in 0..steps {
        access(&mut out, random, (least, step < whole));
        if random.chance(60) {
            out += "\n    cp.async.commit_group;";
        }
        if random.chance(ordered) {
            out += random.of(&[
                "\n    cp.async.wait_all;\n    bar.sync 0;",
                "\n    cp.async.wait_all;\n    bar.sync 0;",
                "\n    cp.async.wait_group 1;\n    bar.sync 0;",
                "\n    bar.sync 0;",
                "\n    bar.warp.sync 0xffffffff;",
            ]);
        }
    }
    out
}

/// A program whose smallest access is its first (`early`) or last. The copy of 16 bytes at the end
/// never runs.
fn program(random: &mut Random) -> String {
    let (least, small) = random.of(&[(1, "u8"), (2, "u16"), (4, "u32"), (4, "u32")]);
    let filled = random.chance(75);
    let fill = if filled { fill(random) } else { String::new() };
    let steps = steps(random, least);
    format!(
        "
    mov.u32 %r2, %tid.x;
    mov.u32 %r3, %ctaid.x;
    ld.param.u64 %rd1, [far];
    ld.param.u32 %r4, [early];
    mov.u32 %r11, 0x01010101;
    add.u32 %r10, %r2, 0x01010101;
    mov.b64 %rd8, {{%r11, %r10}};
    mov.u32 %r30, 0;
    mov.u64 %rd9, 0;
    setp.eq.u32 %p1, %r2, 40;
    setp.ne.and.u32 %p2, %r4, 0, %p1;
    @%p2 st.shared.{small} [apart], 0;{fill}{steps}
    setp.eq.and.u32 %p2, %r4, 0, %p1;
    @%p2 st.shared.{small} [apart], 0;
    setp.gt.u32 %p2, %r4, 1;
    @%p2 cp.async.cg.shared.global [apart], [%rd1], 16;
    mad.lo.u32 %r5, %r3, {THREADS}, %r2;
    ld.param.u64 %rd2, [out];
    mul.wide.u32 %rd4, %r5, 16;
    add.u64 %rd2, %rd2, %rd4;
    cvt.u64.u32 %rd4, %r30;
    st.global.v2.u64 [%rd2], {{%rd4, %rd9}};"
    )
}

/// A barrier of some warps that never runs: a kernel with one keeps vector clocks.
const NAMED_BARRIER: &str = "
    setp.le.u32 %p2, %r4, 1;
    @%p2 bra DONE;
    bar.arrive 1, 64;
DONE:";

/// The counters of a launch and what it wrote, or its report.
type Outcome = Result<(Counters, Vec<u8>), Fault>;

/// A result, for a message.
fn show(outcome: &Outcome) -> String {
    match outcome {
        Ok(_) => "good".to_owned(),
        Err(fault) => fault.to_string(),
    }
}

/// A report without the other access.
fn summary(fault: &Fault) -> (u32, [u32; 3], Option<[u32; 3]>, String) {
    let kind = match &*fault.kind {
        FaultKind::SharedRace { touch, at, .. } => format!("race {touch:?} {at}"),
        kind => format!("{kind:?}"),
    };
    (fault.line, fault.block, fault.thread, kind)
}

/// Returns whether two launches are equal but for counters and the other access of a race.
fn is_alike(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Ok((_, one)), Ok((_, other))) => one == other,
        (Err(one), Err(other)) => summary(one) == summary(other),
        _ => false,
    }
}

/// The device and the buffers of the programs.
struct Trial {
    bench: Bench,
    far: u64,
    out: u64,
}

impl Trial {
    /// Bytes that a launch writes.
    const RESULTS: u64 = (BLOCKS * THREADS * 16) as u64;

    fn new() -> Trial {
        let bench = Bench::new(90);
        let far = bench.filled(64);
        let pattern: Vec<u8> = (0..64).collect();
        bench.memory().write(far, &pattern).expect("inside");
        let out = bench.filled(Self::RESULTS);
        Trial { bench, far, out }
    }

    fn kernel(&self, body: &str) -> LoadedKernel {
        self.bench.kernel(&text(90, VARIABLES, PARAMS, body))
    }

    fn run(&self, kernel: &LoadedKernel, early: u32) -> Outcome {
        let (memory, out) = (self.bench.memory(), self.out);
        memory.fill(out, &[0], Self::RESULTS).expect("inside");
        let params = Params::default().u64(self.far).u64(out).u32(early);
        let config = LaunchConfig {
            shared_bytes: FIRST + BYTES - STATIC,
            ..LaunchConfig::linear(BLOCKS, THREADS)
        };
        let counters = self.bench.launch(kernel, config, &params)?;
        let mut bytes = vec![0; Self::RESULTS as usize];
        memory.read(out, &mut bytes).expect("inside");
        Ok((counters, bytes))
    }
}

#[test]
fn large_units_report_what_small_ones_do() {
    let trial = Trial::new();
    // Good launches, races, reads of what nobody wrote, copies not waited for.
    let mut counts = [0u32; 4];
    for seed in 0..3000 {
        let body = program(&mut Random(seed));
        let kernel = trial.kernel(&body);
        let (small, large) = (trial.run(&kernel, 1), trial.run(&kernel, 0));
        let clocks = trial.run(&trial.kernel(&(body.clone() + NAMED_BARRIER)), 0);
        let kind = match &small {
            Ok(_) => 0,
            Err(fault) => match &*fault.kind {
                FaultKind::SharedRace { .. } => 1,
                FaultKind::Uninitialised { .. } => 2,
                FaultKind::AsyncCopyPending { .. } => 3,
                _ => panic!("seed {seed}: {fault}\n{body}"),
            },
        };
        counts[kind] += 1;
        let equal = small == large && is_alike(&small, &clocks);
        let [small, large, clocks] = [small, large, clocks].map(|outcome| show(&outcome));
        assert!(
            equal,
            "seed {seed}\n-- small units\n{small}\n-- large units\n{large}\n-- vector \
            clocks\n{clocks}\n{body}"
        );
    }
    assert!(counts.iter().all(|&count| count > 100), "{counts:?}");
}
