//! Copies under way: which of them a wait is for, whose they are, and what may touch their bytes
//! meanwhile.
use super::harness::{Bench, Params, legal, reported, text};
use ptx_emulator::report::AsyncFault;
use ptx_emulator::{Fault, FaultKind};

fn is_pending(fault: &Fault) -> bool {
    matches!(&*fault.kind, FaultKind::AsyncCopyPending { .. })
}

/// Two groups of `cp.async` whose bytes lie side by side. A wait that leaves the later one under
/// way lets the bytes of the first be read and none beside them; the next wait is for the other
/// one.
#[test]
fn waits_for_one_group_after_the_other() {
    let bench = Bench::new(80);
    let far = bench.filled(32);
    for (bytes, small) in [4u32, 8, 16]
        .map(|bytes| [(bytes, false), (bytes, true)])
        .concat()
    {
        let cache = if bytes == 16 { "cg" } else { "ca" };
        // An access of one byte makes the shadow's units bytes.
        let byte = if small {
            "@%p7 ld.shared.u8 %r9, [tile];"
        } else {
            ""
        };
        let body = format!(
            "    .shared .align 16 .b8 tile[32];
    mov.u32 %r1, tile;
    setp.ne.u32 %p7, %r1, %r1;
    {byte}
    ld.param.u64 %rd1, [far];
    cp.async.{cache}.shared.global [tile], [%rd1], {bytes};
    cp.async.commit_group;
    cp.async.{cache}.shared.global [tile+{bytes}], [%rd1+16], {bytes};
    cp.async.commit_group;
    ld.param.u32 %r2, [waits];
    setp.lt.u32 %p1, %r2, 1;
    @%p1 bra READ;
    cp.async.wait_group 1;
    setp.lt.u32 %p1, %r2, 2;
    @%p1 bra READ;
    cp.async.wait_group 0;
READ:
    ld.param.u32 %r3, [at];
    ld.shared.u32 %r4, [%r3];"
        );
        let params = ".param .u64 far, .param .u32 waits, .param .u32 at";
        let kernel = bench.kernel(&text(80, "", params, &body));
        for waits in 0..=2 {
            for at in (0..2 * bytes).step_by(4) {
                let params = Params::default().u64(far).u32(waits).u32(at);
                let result = bench.run(&kernel, (1, 0), &params);
                let what = format!("{bytes} bytes, small {small}, {waits} waits, read at {at}");
                if at / bytes < waits {
                    legal(result, &what);
                } else {
                    let fault = reported(result, &what);
                    assert!(is_pending(&fault), "{what}\n{fault}");
                }
            }
        }
    }
}

/// The report of a copy under way names the thread that began it, with and without barriers of some
/// of the warps.
#[test]
fn owners_of_copies() {
    let bench = Bench::new(80);
    let far = bench.filled(16);
    for (barrier, small) in [("0", false), ("1, 96", false), ("0", true), ("1, 96", true)] {
        let byte = if small {
            "@%p7 ld.shared.u8 %r9, [tile];"
        } else {
            ""
        };
        let body = format!(
            "    .shared .align 16 .b32 tile[4];
    mov.u32 %r1, tile;
    setp.ne.u32 %p7, %r1, %r1;
    {byte}
    bar.sync {barrier};
    mov.u32 %r2, %tid.x;
    ld.param.u64 %rd1, [far];
    ld.param.u32 %r3, [owner];
    ld.param.u32 %r4, [other];
    setp.eq.u32 %p1, %r2, %r3;
    @%p1 cp.async.ca.shared.global [tile], [%rd1], 4;
    setp.eq.u32 %p2, %r2, %r4;
    @%p2 ld.shared.u32 %r5, [tile];"
        );
        let params = ".param .u64 far, .param .u32 owner, .param .u32 other";
        let kernel = bench.kernel(&text(80, "", params, &body));
        for owner in [0, 5, 31, 32, 37, 63, 64, 69, 95] {
            let other = owner ^ 2;
            let params = Params::default().u64(far).u32(owner).u32(other);
            let fault = reported(bench.run(&kernel, (96, 0), &params), "a copy under way");
            match &*fault.kind {
                FaultKind::AsyncCopyPending { owner: found, .. } => {
                    assert_eq!(*found, [owner, 0, 0], "barrier {barrier}, small {small}");
                }
                _ => panic!("{fault}"),
            }
            assert_eq!(fault.thread, Some([other, 0, 0]));
        }
    }
}

/// A bulk copy from shared memory, and one to the same bytes or to bytes beside them: where they
/// share some, the first has to be waited for. In a kernel with matrix products and without.
#[test]
fn bulk_copies_over_what_another_reads() {
    let bench = Bench::new(90);
    let (far, out) = (bench.filled(64), bench.filled(64));
    for products in [false, true] {
        let product = if products {
            "@%p7 wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f4}, %rd5, \
            %rd5, %p7, 1, 1, 0, 0;"
        } else {
            ""
        };
        let body = format!(
            "    .shared .align 8 .b64 bar;
    .shared .align 16 .b8 tile[256];
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    setp.ne.u32 %p7, %r1, %r1;
    {product}
    shl.b32 %r3, %r2, 2;
    setp.lt.u32 %p1, %r2, 64;
    add.u32 %r3, %r3, %r1;
    @%p1 st.shared.u32 [%r3], 0;
    fence.proxy.async;
    setp.eq.u32 %p2, %r2, 0;
    @%p2 mbarrier.init.shared::cta.b64 [bar], 1;
    @%p2 fence.mbarrier_init.release.cluster;
    bar.sync 0;
    ld.param.u64 %rd1, [far];
    ld.param.u64 %rd2, [out];
    ld.param.u32 %r4, [at];
    add.u32 %r4, %r4, %r1;
    ld.param.u32 %r5, [waits];
    setp.ne.and.u32 %p3, %r5, 0, %p2;
    @%p2 cp.async.bulk.global.shared::cta.bulk_group [%rd2], [tile+64], 48;
    @%p2 cp.async.bulk.commit_group;
    @%p3 cp.async.bulk.wait_group.read 0;
    @%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 32;
    @%p2 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%rd1], 32, [bar];
    @%p2 cp.async.bulk.wait_group 0;"
        );
        let params = ".param .u64 far, .param .u64 out, .param .u32 at, .param .u32 waits";
        let kernel = bench.kernel(&text(90, "", params, &body));
        for at in (0..=160).step_by(16) {
            for waits in [0, 1] {
                let params = Params::default().u64(far).u64(out).u32(at).u32(waits);
                let result = bench.run(&kernel, (128, 0), &params);
                let what = format!("32 bytes to {at}, waits {waits}, products {products}");
                if waits == 1 || at + 32 <= 64 || at >= 112 {
                    legal(result, &what);
                    continue;
                }
                let fault = reported(result, &what);
                let reading = matches!(
                    &*fault.kind,
                    FaultKind::Asynchronous(AsyncFault::ReadUnderWay { .. })
                );
                assert!(reading, "{what}\n{fault}");
            }
        }
    }
}

/// Fences between the proxies by ever other sets of lanes: as many as are remembered, and one more.
#[test]
fn fences_of_ever_other_lanes() {
    let bench = Bench::new(90);
    let body = "    ld.param.u32 %r1, [sets];
    mov.u32 %r2, %laneid;
    mov.u32 %r3, 0;
LOOP:
    add.u32 %r3, %r3, 1;
    shr.u32 %r4, %r3, %r2;
    and.b32 %r4, %r4, 1;
    setp.ne.u32 %p1, %r4, 0;
    @%p1 fence.proxy.async;
    setp.lt.u32 %p2, %r3, %r1;
    @%p2 bra LOOP;";
    let kernel = bench.kernel(&text(90, "", ".param .u32 sets", body));
    let run = |sets: u32| bench.run(&kernel, (32, 0), &Params::default().u32(sets));
    legal(run(4096), "4096 sets of lanes");
    let fault = reported(run(4097), "one more");
    assert!(matches!(&*fault.kind, FaultKind::TooMany { .. }), "{fault}");
}

/// Fences of a whole warp: as many as are remembered, and one more.
#[test]
fn fences_of_a_warp() {
    let bench = Bench::new(90);
    let body = format!(
        "    ld.param.u32 %r1, [rounds];
    ld.param.u32 %r2, [more];
    mov.u32 %r3, 0;
LOOP:
{}    add.u32 %r3, %r3, 1;
    setp.lt.u32 %p1, %r3, %r1;
    @%p1 bra LOOP;
    setp.eq.u32 %p1, %r2, 0;
    @%p1 bra END;
    fence.proxy.async;
END:",
        "    fence.proxy.async;\n".repeat(1 << 10)
    );
    let params = ".param .u32 rounds, .param .u32 more";
    let kernel = bench.kernel(&text(90, "", params, &body));
    let run = |more: u32| bench.run(&kernel, (32, 0), &Params::default().u32(1 << 10).u32(more));
    legal(run(0), "2^20 fences");
    let fault = reported(run(1), "one more");
    assert!(
        matches!(
            &*fault.kind,
            FaultKind::TooMany {
                most: 1_048_576,
                ..
            }
        ),
        "{fault}"
    );
}
