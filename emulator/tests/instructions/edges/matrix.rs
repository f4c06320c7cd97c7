//! Rows of `ldmatrix` and `stmatrix`, and what the descriptors of `wgmma` reach.
use super::harness::{Bench, LANES, Params, legal, out_of_bounds, reported, text, touch};
use ptx_emulator::ir::Space;
use ptx_emulator::report::{AccessKind, AsyncFault};
use ptx_emulator::{FaultKind, LoadedKernel};

const TILE: &str = ".extern .shared .align 128 .b8 tile[];";

/// Writes the words of dynamic shared memory by so many threads, or its bytes.
fn fill(threads: u32, small: bool) -> String {
    let (unit, shift) = if small { ("u8", 0) } else { ("u32", 2) };
    format!(
        "
    mov.u32 %r1, tile;
    mov.u32 %r2, %dynamic_smem_size;
    shr.u32 %r2, %r2, {shift};
    mov.u32 %r3, %tid.x;
FILL:
    setp.ge.u32 %p3, %r3, %r2;
    @%p3 bra FILLED;
    shl.b32 %r4, %r3, {shift};
    add.u32 %r4, %r4, %r1;
    st.shared.{unit} [%r4], 0;
    add.u32 %r3, %r3, {threads};
    bra FILL;
FILLED:
    fence.proxy.async;
    bar.sync 0;"
    )
}

fn rows(sm: u32, instruction: &str, generic: bool, small: bool) -> (Bench, LoadedKernel) {
    let bench = Bench::new(sm);
    let (space, convert) = if generic {
        ("", "    cvta.shared.u64 %rd1, %rd1;")
    } else {
        (".shared", "")
    };
    let body = format!(
        "{}
    ld.param.u32 %r5, [at];
    ld.param.u32 %r6, [lane];
    mov.u32 %r7, %tid.x;
    shl.b32 %r8, %r7, 4;
    setp.eq.u32 %p1, %r7, %r6;
    selp.b32 %r5, %r5, %r8, %p1;
    cvt.u64.u32 %rd1, %r5;
{convert}
    {};",
        fill(32, small),
        instruction.replace("{}", space)
    );
    // The fence is for the asynchronous proxy, which devices before 9.0 do not have.
    let body = if sm < 90 {
        body.replace("fence.proxy.async;", "")
    } else {
        body
    };
    let kernel = bench.kernel(&text(sm, TILE, ".param .u32 at, .param .u32 lane", &body));
    (bench, kernel)
}

/// Each lane that gives a row gives one at the edge; all others lie in the first 512 bytes.
#[test]
fn rows_at_the_end_of_shared_memory() {
    for (instruction, count, kind) in [
        (
            "ldmatrix.sync.aligned.m8n8.x1{}.b16 {%r11}, [%rd1]",
            1,
            AccessKind::Read,
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x2.trans{}.b16 {%r11, %r12}, [%rd1]",
            2,
            AccessKind::Read,
        ),
        (
            "ldmatrix.sync.aligned.m8n8.x4{}.b16 {%r11, %r12, %r13, %r14}, [%rd1]",
            4,
            AccessKind::Read,
        ),
        (
            "stmatrix.sync.aligned.m8n8.x1{}.b16 [%rd1], {%r11}",
            1,
            AccessKind::Write,
        ),
        (
            "stmatrix.sync.aligned.m8n8.x2{}.b16 [%rd1], {%r11, %r12}",
            2,
            AccessKind::Write,
        ),
        (
            "stmatrix.sync.aligned.m8n8.x4.trans{}.b16 [%rd1], {%r11, %r12, %r13, %r14}",
            4,
            AccessKind::Write,
        ),
    ] {
        let oldest = if kind == AccessKind::Read { 80 } else { 90 };
        for (generic, small, sm) in [(false, false, oldest), (true, true, 90)] {
            let (bench, kernel) = rows(sm, instruction, generic, small);
            for lane in 0..8 * count {
                for more in [16, 17, 20, 24, 31] {
                    let shared = 512 + more;
                    let run = |at: u32| {
                        let params = Params::default().u32(at).u32(lane);
                        bench.run(&kernel, (32, shared), &params)
                    };
                    let what = format!("{instruction}, lane {lane}, {shared} bytes");
                    legal(run(512), &what);
                    let wanted = touch(kind, Space::Shared, 528, 16);
                    out_of_bounds(run(528), wanted, Some(lane), &what);
                }
            }
            // What other lanes give is not used.
            for lane in 8 * count..32 {
                let params = Params::default().u32(1 << 20).u32(lane);
                legal(bench.run(&kernel, (32, 512), &params), instruction);
            }
        }
    }
}

/// Of x1 and x2 a device of 7.5 wants an address from every lane.
#[test]
fn rows_of_unused_lanes_before_8_0() {
    let bench = Bench::new(75);
    for (x, regs) in [(1, "%r11"), (2, "%r11, %r12")] {
        let body = format!(
            "    mov.u32 %r1, tile;
    ld.param.u32 %r5, [at];
    ld.param.u32 %r6, [lane];
    mov.u32 %r7, %tid.x;
    shl.b32 %r8, %r7, 4;
    add.u32 %r9, %r8, %r1;
    st.shared.v4.u32 [%r9], {{%r7, %r7, %r7, %r7}};
    bar.sync 0;
    setp.eq.u32 %p1, %r7, %r6;
    selp.b32 %r5, %r5, %r8, %p1;
    ldmatrix.sync.aligned.m8n8.x{x}.shared.b16 {{{regs}}}, [%r5];"
        );
        let kernel = bench.kernel(&text(75, TILE, ".param .u32 at, .param .u32 lane", &body));
        for lane in LANES.into_iter().chain([7, 8, 15, 16]) {
            let run = |at: u32| {
                let params = Params::default().u32(at).u32(lane);
                bench.run(&kernel, (32, 512), &params)
            };
            legal(run(496), "the last row");
            let wanted = touch(AccessKind::Read, Space::Shared, 512, 16);
            out_of_bounds(run(512), wanted, Some(lane), "the first beyond");
        }
    }
}

/// A product of 64 rows, 8 columns and two pieces of 16 bytes a row. `left`: whether the left
/// matrix is the one that `at` moves; the other stays where it is, or is in registers.
fn product(bench: &Bench, left: Option<bool>) -> LoadedKernel {
    // Eights of rows 128 bytes apart, pieces along the summed dimension 1024 (left) and 128 (right)
    // bytes.
    let body = format!(
        "{}
    ld.param.u32 %r5, [at];
    shr.u32 %r5, %r5, 4;
    cvt.u64.u32 %rd5, %r5;
    shr.u32 %r1, %r1, 4;
    cvt.u64.u32 %rd6, %r1;
    or.b64 %rd7, {}, 0x0000000800400000;
    or.b64 %rd8, {}, 0x0000000800080000;
    setp.eq.u32 %p2, %r1, %r1;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f1, %f2, %f3, %f4}}, {}, %rd8, %p2, \
    1, 1, {};
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned 0;",
        fill(128, false),
        if left == Some(true) { "%rd5" } else { "%rd6" },
        if left == Some(true) { "%rd6" } else { "%rd5" },
        if left.is_none() {
            "{%r20, %r21, %r22, %r23}"
        } else {
            "%rd7"
        },
        if left.is_none() { "0" } else { "0, 0" },
    );
    bench.kernel(&text(90, TILE, ".param .u32 at", &body))
}

/// The last piece that a descriptor reaches ends at the last byte of shared memory, or one byte
/// beyond.
#[test]
fn descriptors_at_the_end_of_shared_memory() {
    let bench = Bench::new(90);
    for (left, reach) in [(Some(true), 2048), (Some(false), 256), (None, 256)] {
        let kernel = product(&bench, left);
        // The matrix at the edge starts behind 2048 bytes for the other.
        let run =
            |at: u32, shared: u32| bench.run(&kernel, (128, shared), &Params::default().u32(at));
        for more in [0, 4, 16, 32] {
            legal(run(2048 + more, 2048 + more + reach), "the last byte");
        }
        for missing in [1, 2, 4, 8, 12, 15, 16] {
            let shared = 2048 + reach - missing;
            let wanted = touch(
                AccessKind::Read,
                Space::Shared,
                (2048 + reach - 16).into(),
                16,
            );
            let what = format!("{missing} bytes short, left {left:?}");
            out_of_bounds(run(2048, shared), wanted, None, &what);
        }
    }
}

/// Operands of a product under way may not be written, to the last byte; what lies beside it may.
/// Once it has been waited for, all may be written.
#[test]
fn bytes_beside_the_factors_of_a_product() {
    let bench = Bench::new(90);
    for waits in [false, true] {
        let wait = "    wgmma.wait_group.sync.aligned 0;\n";
        let body = format!(
            "{}
    shr.u32 %r6, %r1, 4;
    cvt.u64.u32 %rd5, %r6;
    or.b64 %rd7, %rd5, 0x0000000800400000;
    add.u64 %rd8, %rd5, 144;
    or.b64 %rd8, %rd8, 0x0000000800080000;
    setp.eq.u32 %p2, %r1, %r1;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f1, %f2, %f3, %f4}}, %rd7, %rd8, %p2, \
    1, 1, 0, 0;
    wgmma.commit_group.sync.aligned;
{}
    mov.u32 %r7, %tid.x;
    ld.param.u32 %r8, [by];
    setp.eq.u32 %p3, %r7, %r8;
    ld.param.u32 %r5, [at];
    mov.u32 %r9, 7;
    @%p3 st.shared.u8 [%r5], %r9;
{}",
            fill(128, true),
            if waits { wait } else { "" },
            if waits { "" } else { wait },
        );
        let kernel = bench.kernel(&text(90, TILE, ".param .u32 by, .param .u32 at", &body));
        // The left matrix has 2048 bytes; the right one begins behind 256 that neither has, and has
        // 256.
        for by in [0, 127] {
            for (at, read) in [
                (0, true),
                (1024, true),
                (2047, true),
                (2048, false),
                (2303, false),
                (2304, true),
                (2559, true),
                (2560, false),
            ] {
                let params = Params::default().u32(by).u32(at);
                let result = bench.run(&kernel, (128, 2816), &params);
                let what = format!("a write at {at} by {by}, waits {waits}");
                if waits || !read {
                    legal(result, &what);
                    continue;
                }
                let fault = reported(result, &what);
                let good = matches!(&*fault.kind,
                    FaultKind::Asynchronous(AsyncFault::ReadUnderWay { at: a, .. })
                        if *a == u64::from(at));
                assert!(good, "{what}\n{fault}");
            }
        }
    }
}

/// Bits of a descriptor: a base offset, which is not supported, has bits 49 to 51; those beside it
/// mean nothing.
#[test]
fn bits_of_descriptors() {
    let bench = Bench::new(90);
    let body = format!(
        "{}
    shr.u32 %r6, %r1, 4;
    cvt.u64.u32 %rd5, %r6;
    ld.param.u64 %rd6, [left];
    ld.param.u64 %rd9, [right];
    or.b64 %rd7, %rd5, 0x0000000800400000;
    or.b64 %rd7, %rd7, %rd6;
    or.b64 %rd8, %rd5, 0x0000000800080000;
    or.b64 %rd8, %rd8, %rd9;
    setp.eq.u32 %p2, %r1, %r1;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f1, %f2, %f3, %f4}}, %rd7, %rd8, %p2, \
    1, 1, 0, 0;
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned 0;",
        fill(128, false)
    );
    let params = ".param .u64 left, .param .u64 right";
    let kernel = bench.kernel(&text(90, TILE, params, &body));
    for bit in [14, 15, 30, 31, 46, 47, 48, 49, 50, 51, 52, 61] {
        for (left, right) in [(1u64 << bit, 0), (0, 1 << bit)] {
            let params = Params::default().u64(left).u64(right);
            let result = bench.run(&kernel, (128, 2048), &params);
            let what = format!("bit {bit}, {left:#x} {right:#x}");
            if !(49..52).contains(&bit) {
                legal(result, &what);
                continue;
            }
            let fault = reported(result, &what);
            let offset = matches!(
                &*fault.kind,
                FaultKind::Asynchronous(AsyncFault::BaseOffset { .. })
            );
            assert!(offset, "{what}\n{fault}");
        }
    }
}

/// Instructions of a whole warp: 31 lanes are too few, whichever is missing.
#[test]
fn instructions_that_want_all_lanes() {
    let bench = Bench::new(90);
    for instruction in [
        "wgmma.fence.sync.aligned",
        "wgmma.commit_group.sync.aligned",
        "wgmma.wait_group.sync.aligned 0",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r11}, [%r1]",
        "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r12], {%r11}",
        "movmatrix.sync.aligned.m8n8.trans.b16 %r11, %r13",
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r11, %r12}, \
        {%r13}, {%f1, %f2, %f3, %f4}",
    ] {
        let body = format!(
            "{}
    mov.u32 %r7, %tid.x;
    shl.b32 %r12, %r7, 4;
    ld.param.u32 %r8, [missing];
    setp.eq.u32 %p3, %r7, %r8;
    @%p3 bra MET;
    {instruction};
MET:",
            fill(32, false)
        );
        let kernel = bench.kernel(&text(90, TILE, ".param .u32 missing", &body));
        legal(
            bench.run(&kernel, (32, 512), &Params::default().u32(32)),
            instruction,
        );
        for lane in LANES {
            let result = bench.run(&kernel, (32, 512), &Params::default().u32(lane));
            let fault = reported(result, instruction);
            let good = matches!(&*fault.kind, FaultKind::MissingLanes { .. });
            assert!(good, "{instruction}\n{fault}");
        }
    }
}

/// Products of one shape may follow each other on the same sums; one of another shape has to wait.
#[test]
fn products_that_share_their_sums() {
    let bench = Bench::new(90);
    for (second, good) in [("n8", true), ("n16", false)] {
        let sums = if second == "n8" {
            "{%f0, %f1, %f2, %f3}"
        } else {
            "{%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7}"
        };
        let body = format!(
            "{}
    shr.u32 %r6, %r1, 4;
    cvt.u64.u32 %rd5, %r6;
    or.b64 %rd7, %rd5, 0x0000000800400000;
    or.b64 %rd8, %rd5, 0x0000000800080000;
    setp.eq.u32 %p2, %r1, %r1;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f0, %f1, %f2, %f3}}, %rd7, %rd8, %p2, \
    1, 1, 0, 0;
    wgmma.mma_async.sync.aligned.m64{second}k16.f32.bf16.bf16 {sums}, %rd7, %rd8, %p2, 1, 1, 0, 0;
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned 0;",
            fill(128, false)
        );
        let kernel = bench.kernel(&text(90, TILE, "", &body));
        let result = bench.run(&kernel, (128, 2048), &Params::default());
        if good {
            legal(result, second);
            continue;
        }
        let fault = reported(result, second);
        let under_way = matches!(
            &*fault.kind,
            FaultKind::Asynchronous(AsyncFault::RegisterUnderWay { sum: true, .. })
        );
        assert!(under_way, "{fault}");
    }
}
