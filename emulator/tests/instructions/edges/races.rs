//! Races and copies under way: accesses that touch at their ends are good, those that share a byte
//! are reported.
use super::harness::{Bench, Params, legal, reported, text};
use ptx_emulator::report::AsyncFault;
use ptx_emulator::{Fault, FaultKind};

const TILE: &str = ".extern .shared .align 128 .b8 tile[];";
/// Bytes of the dynamic shared memory of every program here.
const BYTES: u32 = 256;

/// Accesses at `%r5`, and their bytes; the last is whether it writes.
const ACCESSES: [(&str, u32, bool); 9] = [
    ("ld.shared.u8 %r20, [%r5]", 1, false),
    ("ld.shared.u16 %h1, [%r5]", 2, false),
    ("ld.shared.u32 %r20, [%r5]", 4, false),
    (
        "ld.shared.v4.u32 {%r20, %r21, %r22, %r23}, [%r5]",
        16,
        false,
    ),
    ("st.shared.u8 [%r5], %r19", 1, true),
    ("st.shared.u16 [%r5], %h2", 2, true),
    ("st.shared.u32 [%r5], %r19", 4, true),
    ("st.shared.u64 [%r5], %rd9", 8, true),
    ("st.shared.v4.u32 [%r5], {%r19, %r19, %r19, %r19}", 16, true),
];

/// All bytes are zero; each thread has a value of its own in `%r19`, `%h2` and `%rd9`.
fn start(threads: u32) -> String {
    format!(
        "    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    add.u32 %r19, %r2, 0x01010101;
    cvt.u16.u32 %h2, %r19;
    mov.b64 %rd9, {{%r19, %r19}};
    mov.u32 %r3, %r2;
FILL:
    add.u32 %r4, %r1, %r3;
    st.shared.u8 [%r4], 0;
    add.u32 %r3, %r3, {threads};
    setp.lt.u32 %p1, %r3, {BYTES};
    @%p1 bra FILL;
    fence.proxy.async;
    bar.sync 0;"
    )
}

/// Returns whether the ranges share a byte.
fn share(a: (u32, u32), b: (u32, u32)) -> bool {
    a.0 < b.0 + b.1 && b.0 < a.0 + a.1
}

fn is_race(fault: &Fault) -> bool {
    matches!(&*fault.kind, FaultKind::SharedRace { .. })
}

/// Thread 0 accesses at 64; a thread of another warp, or of the same one, accesses around it, with
/// no barrier between.
#[test]
fn accesses_that_touch_and_that_overlap() {
    let bench = Bench::new(90);
    for (first, first_bytes, first_writes) in ACCESSES {
        for (second, second_bytes, second_writes) in ACCESSES {
            if !first_writes && !second_writes {
                continue;
            }
            let body = format!(
                "{}
    ld.param.u32 %r6, [other];
    setp.eq.u32 %p2, %r2, 0;
    setp.eq.u32 %p3, %r2, %r6;
    mov.u32 %r5, 64;
    @%p2 {first};
    ld.param.u32 %r5, [at];
    @%p3 {second};",
                start(64)
            );
            let kernel = bench.kernel(&text(90, TILE, ".param .u32 other, .param .u32 at", &body));
            for other in [5, 37] {
                // A warp's reads are over before its next instruction writes.
                let may_race = first_writes || other >= 32;
                let step = second_bytes as usize;
                for at in (64 - second_bytes..=64 + first_bytes).step_by(1) {
                    if !at.is_multiple_of(step as u32) {
                        continue;
                    }
                    let params = Params::default().u32(other).u32(at);
                    let result = bench.run(&kernel, (64, BYTES), &params);
                    let what = format!("`{first}` at 64, `{second}` at {at} by thread {other}");
                    if may_race && share((64, first_bytes), (at, second_bytes)) {
                        let fault = reported(result, &what);
                        assert!(is_race(&fault), "{what}\n{fault}");
                    } else {
                        legal(result, &what);
                    }
                }
            }
        }
    }
}

/// A `cp.async` under way owns its bytes, and none beside them.
#[test]
fn bytes_beside_an_asynchronous_copy() {
    let bench = Bench::new(90);
    let far = bench.filled(64);
    for copied in [4u32, 8, 16] {
        let cache = if copied == 16 { "cg" } else { "ca" };
        for (access, bytes, _) in ACCESSES {
            let body = format!(
                "{}
    ld.param.u64 %rd1, [far];
    setp.eq.u32 %p2, %r2, 3;
    @%p2 cp.async.{cache}.shared.global [tile+64], [%rd1], {copied};
    ld.param.u32 %r5, [at];
    ld.param.u32 %r6, [other];
    setp.eq.u32 %p3, %r2, %r6;
    @%p3 {access};
    cp.async.wait_all;",
                start(64)
            );
            let params = ".param .u64 far, .param .u32 at, .param .u32 other";
            let kernel = bench.kernel(&text(90, TILE, params, &body));
            for other in [3, 4, 40] {
                for at in (64 - bytes..=64 + copied).filter(|at| at % bytes == 0) {
                    let params = Params::default().u64(far).u32(at).u32(other);
                    let result = bench.run(&kernel, (64, BYTES), &params);
                    let what =
                        format!("{copied} bytes under way to 64, `{access}` at {at} by {other}");
                    if share((64, copied), (at, bytes)) {
                        let fault = reported(result, &what);
                        // When another warp comes to its turn, the copy's own may have waited: then
                        // it is a race.
                        let pending = matches!(&*fault.kind, FaultKind::AsyncCopyPending { .. });
                        assert!(pending || other >= 32 && is_race(&fault), "{what}\n{fault}");
                    } else {
                        legal(result, &what);
                    }
                }
            }
        }
    }
}

/// The sides of a bulk copy under way: to shared memory nobody may touch the bytes, from it nobody
/// may write them.
#[test]
fn bytes_beside_a_bulk_copy() {
    let bench = Bench::new(90);
    let far = bench.filled(64);
    for (copy, load) in [
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile+64], [%rd1], \
            48, [bar]",
            true,
        ),
        (
            "cp.async.bulk.global.shared::cta.bulk_group [%rd1], [tile+64], 48",
            false,
        ),
    ] {
        for (access, bytes, writes) in ACCESSES {
            let body = format!(
                "    .shared .align 8 .b64 bar;
{}
    ld.param.u64 %rd1, [far];
    setp.eq.u32 %p2, %r2, 3;
    @%p2 mbarrier.init.shared::cta.b64 [bar], 1;
    @%p2 fence.mbarrier_init.release.cluster;
    bar.sync 0;
    @%p2 {copy};
    cp.async.bulk.commit_group;
    ld.param.u32 %r5, [at];
    add.u32 %r5, %r5, %r1;
    ld.param.u32 %r6, [other];
    setp.eq.u32 %p3, %r2, %r6;
    @%p3 {access};
    cp.async.bulk.wait_group 0;",
                start(64).replace("bar.sync 0;", "")
            );
            let params = ".param .u64 far, .param .u32 at, .param .u32 other";
            let kernel = bench.kernel(&text(90, TILE, params, &body));
            for other in [3, 4, 40] {
                for at in (64 - bytes..=64 + 48).filter(|at| at % bytes == 0) {
                    let params = Params::default().u64(far).u32(at).u32(other);
                    let result = bench.run(&kernel, (64, BYTES), &params);
                    let what = format!(
                        "a bulk copy of 48 bytes at 64 (load {load}), `{access}` at {at} by {other}"
                    );
                    if share((64, 48), (at, bytes)) && (load || writes) {
                        let fault = reported(result, &what);
                        let good = match &*fault.kind {
                            FaultKind::Asynchronous(AsyncFault::CopyPending { .. }) => load,
                            FaultKind::Asynchronous(AsyncFault::ReadUnderWay { .. }) => !load,
                            _ => false,
                        };
                        assert!(good, "{what}\n{fault}");
                    } else {
                        legal(result, &what);
                    }
                }
            }
        }
    }
}

/// Bytes that ordinary stores wrote without a fence: beside a bulk copy they are good, in it they
/// are not.
#[test]
fn unfenced_bytes_beside_a_bulk_copy() {
    let bench = Bench::new(90);
    let far = bench.filled(64);
    for copy in [
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile+64], [%rd1], 48, \
        [bar]",
        "cp.async.bulk.global.shared::cta.bulk_group [%rd1], [tile+64], 48",
    ] {
        for (access, bytes, writes) in ACCESSES {
            if !writes {
                continue;
            }
            let body = format!(
                "    .shared .align 8 .b64 bar;
    setp.eq.u32 %p2, %r2, %r2;
{}
    ld.param.u64 %rd1, [far];
    setp.eq.u32 %p2, %r2, 3;
    @%p2 mbarrier.init.shared::cta.b64 [bar], 1;
    @%p2 fence.mbarrier_init.release.cluster;
    ld.param.u32 %r5, [at];
    add.u32 %r5, %r5, %r1;
    ld.param.u32 %r6, [other];
    setp.eq.u32 %p3, %r2, %r6;
    @%p3 {access};
    bar.sync 0;
    @%p2 {copy};
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;",
                start(64)
            );
            let params = ".param .u64 far, .param .u32 at, .param .u32 other";
            let kernel = bench.kernel(&text(90, TILE, params, &body));
            for other in [3, 40] {
                for at in (64 - bytes..=64 + 48).filter(|at| at % bytes == 0) {
                    let params = Params::default().u64(far).u32(at).u32(other);
                    let result = bench.run(&kernel, (64, BYTES), &params);
                    let what = format!("`{access}` at {at} by {other}, then `{copy}`");
                    if share((64, 48), (at, bytes)) {
                        let fault = reported(result, &what);
                        let good = matches!(
                            &*fault.kind,
                            FaultKind::Asynchronous(AsyncFault::Unfenced { .. })
                        );
                        assert!(good, "{what}\n{fault}");
                    } else {
                        legal(result, &what);
                    }
                }
            }
        }
    }
}
