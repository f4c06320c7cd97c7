//! Barriers: objects at the end of shared memory, counts, bytes, parities and numbers at the ends
//! of their ranges.
use super::harness::{Bench, LANES, Params, legal, out_of_bounds, reported, text, touch};
use ptx_emulator::ir::Space;
use ptx_emulator::report::{AccessKind, AsyncFault};
use ptx_emulator::{Fault, FaultKind};

const TILE: &str = ".extern .shared .align 16 .b8 tile[];";

/// The largest count of arrivals, and of bytes.
const MOST: u32 = (1 << 20) - 1;

fn asynchronous(fault: &Fault) -> &AsyncFault {
    match &*fault.kind {
        FaultKind::Asynchronous(fault) => fault,
        _ => panic!("{fault}"),
    }
}

/// A barrier is an object of eight bytes: the operation touches the last eight, or eight of which
/// one is missing.
#[test]
fn barriers_at_the_end_of_shared_memory() {
    let bench = Bench::new(90);
    let address = bench.filled(16);
    for operation in [
        "mbarrier.init.shared::cta.b64 [%r5], 1",
        "mbarrier.arrive.shared::cta.b64 _, [%r5]",
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r5], 16",
        "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r5], 16",
        "mbarrier.test_wait.parity.shared::cta.b64 %p5, [%r5], 0",
        "mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r5], 1",
        "mbarrier.inval.shared::cta.b64 [%r5]",
        "cp.async.mbarrier.arrive.shared::cta.b64 [%r5]",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile+16], [%rd1], 16, \
        [%r5]",
    ] {
        let init = if operation.contains("init") {
            ""
        } else {
            "@%p1 mbarrier.init.shared::cta.b64 [%r6], 1;\n    fence.mbarrier_init.release.cluster;"
        };
        let body = format!(
            "    mov.u32 %r1, tile;
    ld.param.u32 %r5, [at];
    ld.param.u32 %r6, [lane];
    ld.param.u64 %rd1, [far];
    mov.u32 %r7, %tid.x;
    setp.eq.u32 %p1, %r7, %r6;
    ld.param.u32 %r6, [object];
    {init}
    bar.warp.sync 0xffffffff;
    @%p1 {operation};"
        );
        let params = ".param .u64 far, .param .u32 at, .param .u32 lane, .param .u32 object";
        let kernel = bench.kernel(&text(90, TILE, params, &body));
        for lane in LANES {
            for shared in [40, 41, 44, 47] {
                let run = |at: u32| {
                    let params = Params::default().u64(address).u32(at).u32(lane).u32(32);
                    bench.run(&kernel, (32, shared), &params)
                };
                let what = format!("{operation}, {shared} bytes, lane {lane}");
                legal(run(32), &what);
                let wanted = touch(AccessKind::Atomic, Space::Shared, 40, 8);
                out_of_bounds(run(40), wanted, Some(lane), &what);
            }
            let result = bench.run(
                &kernel,
                (32, 40),
                &Params::default().u64(address).u32(28).u32(lane).u32(32),
            );
            let fault = reported(result, "four bytes off");
            let aligned = matches!(&*fault.kind, FaultKind::Misaligned { align: 8, .. });
            assert!(aligned, "{fault}");
        }
    }
}

/// One thread runs these lines with a barrier `bar`.
fn alone(lines: &str) -> Result<(), Fault> {
    let bench = Bench::new(90);
    let body = format!("    .shared .align 8 .b64 bar[2];\n{lines}");
    let kernel = bench.kernel(&text(90, "", "", &body));
    bench.run(&kernel, (1, 0), &Params::default())
}

fn init(count: u32) -> String {
    format!("    mbarrier.init.shared::cta.b64 [bar], {count};\n")
}

#[test]
fn counts_of_arrivals() {
    legal(alone(&init(1)), "the smallest count");
    legal(alone(&init(MOST)), "the largest count");
    for count in [0, MOST + 1, u32::MAX] {
        let fault = reported(alone(&init(count)), "a count out of range");
        let wanted = AsyncFault::MbarrierCount { address: 0, count };
        assert_eq!(asynchronous(&fault), &wanted);
    }
    let arrive = |of: u32, count: u32| {
        let arrival = format!("    mbarrier.arrive.shared::cta.b64 _, [bar], {count};");
        alone(&(init(of) + &arrival))
    };
    for of in [1, 2, 100, MOST] {
        legal(arrive(of, of), "all at once");
        legal(arrive(of, 1), "one of them");
        let fault = reported(arrive(of, of + 1), "one too many");
        let wanted = if of == MOST {
            let count = MOST + 1;
            AsyncFault::MbarrierCount { address: 0, count }
        } else {
            AsyncFault::MbarrierArrivals {
                address: 0,
                arrivals: of + 1,
                pending: of,
            }
        };
        assert_eq!(asynchronous(&fault), &wanted);
        let fault = reported(arrive(of, 0), "none");
        let wanted = AsyncFault::MbarrierCount {
            address: 0,
            count: 0,
        };
        assert_eq!(asynchronous(&fault), &wanted);
    }
    // Two arrivals: the second finds what the first left.
    let two = |first: u32, second: u32| {
        let lines = format!(
            "    mbarrier.arrive.shared::cta.b64 _, [bar], {first};
    mbarrier.arrive.shared::cta.b64 _, [bar], {second};"
        );
        alone(&(init(5) + &lines))
    };
    legal(two(2, 3), "the phase is complete");
    legal(two(5, 5), "two phases");
    let fault = reported(two(2, 4), "one too many");
    let wanted = AsyncFault::MbarrierArrivals {
        address: 0,
        arrivals: 4,
        pending: 3,
    };
    assert_eq!(asynchronous(&fault), &wanted);
}

/// `.noComplete` may do everything but complete the phase.
#[test]
fn arrivals_that_must_not_complete() {
    let run = |count: u32| {
        let lines = format!("    mbarrier.arrive.noComplete.shared::cta.b64 %rd1, [bar], {count};");
        alone(&(init(4) + &lines))
    };
    legal(run(3), "one is left");
    let fault = reported(run(4), "none is left");
    assert_eq!(
        asynchronous(&fault),
        &AsyncFault::MbarrierCompletes { address: 0 }
    );
}

/// The same after any number of phases.
#[test]
fn arrivals_that_must_not_complete_later_phases() {
    for phases in 0..=5 {
        let run = |last: u32| {
            let phase = "    mbarrier.arrive.shared::cta.b64 _, [bar], 4;\n".repeat(phases);
            let lines =
                format!("    mbarrier.arrive.noComplete.shared::cta.b64 %rd1, [bar], {last};");
            alone(&(init(4) + &phase + &lines))
        };
        legal(run(3), "one is left");
        let fault = reported(run(4), "none is left");
        let wanted = AsyncFault::MbarrierCompletes { address: 0 };
        assert_eq!(asynchronous(&fault), &wanted, "{phases} phases");
    }
}

#[test]
fn bytes_that_a_phase_waits_for() {
    let run = |first: u32, second: u32| {
        let lines = format!(
            "    mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], {first};
    mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], {second};"
        );
        alone(&(init(1) + &lines))
    };
    legal(run(MOST, 0), "the most bytes");
    legal(run(MOST - 1, 1), "the most bytes in two parts");
    for (first, second) in [(MOST, 1), (1, MOST), (MOST - 15, 16)] {
        let fault = reported(run(first, second), "one byte too many");
        let wanted = AsyncFault::MbarrierBytes {
            address: 0,
            before: first.into(),
            change: second.into(),
        };
        assert_eq!(asynchronous(&fault), &wanted);
    }
}

#[test]
fn parities() {
    let run = |parity: u32| {
        let lines = format!("    mbarrier.test_wait.parity.shared::cta.b64 %p1, [bar], {parity};");
        alone(&(init(1) + &lines))
    };
    legal(run(0), "parity 0");
    legal(run(1), "parity 1");
    let fault = reported(run(2), "parity 2");
    let wanted = AsyncFault::MbarrierParity {
        address: 0,
        parity: 2,
    };
    assert_eq!(asynchronous(&fault), &wanted);
}

/// A state serves for its own phase and the next one.
#[test]
fn states_of_phases() {
    let run = |phases: usize| {
        let state = "    mbarrier.arrive.shared::cta.b64 %rd1, [bar];\n";
        let more = "    mbarrier.arrive.shared::cta.b64 _, [bar];\n".repeat(phases);
        let wait = "    mbarrier.test_wait.shared::cta.b64 %p1, [bar], %rd1;";
        alone(&(init(1) + state + &more + wait))
    };
    legal(run(0), "the phase is just complete");
    let fault = reported(run(1), "two phases ago");
    let wanted = AsyncFault::MbarrierState {
        address: 0,
        given: 0,
        current: 2,
    };
    assert_eq!(asynchronous(&fault), &wanted);
}

/// A state belongs to its barrier, whichever of the block's it is.
#[test]
fn states_of_several_barriers() {
    let run = |waits_for: u32| {
        let lines = format!(
            "    mbarrier.init.shared::cta.b64 [bar], 1;
    mbarrier.init.shared::cta.b64 [bar+8], 1;
    mbarrier.arrive.shared::cta.b64 %rd1, [bar+8];
    mbarrier.test_wait.shared::cta.b64 %p1, [bar+{waits_for}], %rd1;"
        );
        alone(&lines)
    };
    legal(run(8), "its own barrier");
    let fault = reported(run(0), "another barrier");
    assert!(
        matches!(asynchronous(&fault), AsyncFault::MbarrierState { .. }),
        "{fault}"
    );
}

/// Ordinary accesses beside a barrier are good, to its first and last byte they are not.
#[test]
fn bytes_beside_a_barrier() {
    let bench = Bench::new(90);
    for (access, bytes) in [
        ("ld.shared.u8 %r9, [%r5]", 1),
        ("st.shared.u8 [%r5], %r9", 1),
        ("st.shared.u16 [%r5], %h1", 2),
        ("ld.shared.u32 %r9, [%r5]", 4),
        ("st.volatile.shared.u32 [%r5], %r9", 4),
        ("atom.shared.add.u32 %r9, [%r5], 1", 4),
        ("st.shared.v4.u32 [%r5], {%r9, %r9, %r9, %r9}", 16),
    ] {
        let body = format!(
            "    mov.u32 %r1, tile;
    ld.param.u32 %r5, [at];
    mov.u32 %r7, 0;
FILL:
    add.u32 %r8, %r1, %r7;
    st.shared.u8 [%r8], 0;
    add.u32 %r7, %r7, 1;
    setp.lt.u32 %p1, %r7, 80;
    @%p1 bra FILL;
    mbarrier.init.shared::cta.b64 [tile+32], 1;
    {access};"
        );
        let kernel = bench.kernel(&text(90, TILE, ".param .u32 at", &body));
        for at in (0..64).step_by(bytes) {
            let result = bench.run(&kernel, (1, 80), &Params::default().u32(at));
            let what = format!("{access} at {at}, the barrier at 32");
            if at + bytes as u32 <= 32 || at >= 40 {
                legal(result, &what);
                continue;
            }
            let fault = reported(result, &what);
            let AsyncFault::MbarrierTouched { touch } = asynchronous(&fault) else {
                panic!("{fault}");
            };
            assert_eq!(touch.address, at.into(), "{what}");
        }
    }
}

/// Barriers of a block that can be distinguished.
#[test]
fn as_many_barriers_as_there_are() {
    let bench = Bench::new(90);
    let body = "    mov.u32 %r1, tile;
    ld.param.u32 %r5, [count];
    mov.u32 %r7, 0;
LOOP:
    mbarrier.init.shared::cta.b64 [%r1], 1;
    add.u32 %r1, %r1, 8;
    add.u32 %r7, %r7, 1;
    setp.lt.u32 %p1, %r7, %r5;
    @%p1 bra LOOP;";
    let kernel = bench.kernel(&text(90, TILE, ".param .u32 count", body));
    let run = |count: u32| bench.run(&kernel, (1, 2048), &Params::default().u32(count));
    legal(run(128), "128 barriers");
    let fault = reported(run(129), "129 barriers");
    assert_eq!(
        asynchronous(&fault),
        &AsyncFault::TooManyMbarriers { most: 128 }
    );
}

/// Named barriers: numbers below 16, counts of whole warps.
#[test]
fn numbers_and_counts_of_named_barriers() {
    let bench = Bench::new(80);
    let body = "    ld.param.u32 %r1, [id];
    ld.param.u32 %r2, [count];
    barrier.sync %r1, %r2;";
    let kernel = bench.kernel(&text(80, "", ".param .u32 id, .param .u32 count", body));
    let run =
        |id: u32, count: u32| bench.run(&kernel, (64, 0), &Params::default().u32(id).u32(count));
    legal(run(0, 64), "number 0");
    legal(run(15, 64), "number 15");
    legal(run(3, 32), "each warp by itself");
    for (id, count) in [
        (16, 64),
        (u32::MAX, 64),
        (3, 33),
        (3, 0),
        (3, 1),
        (3, 31),
        (3, 96),
    ] {
        let fault = reported(run(id, count), &format!("number {id}, {count} threads"));
        // Threads that the block does not have never come.
        let good = if count == 96 {
            matches!(
                &*fault.kind,
                FaultKind::Deadlock { .. }
                    | FaultKind::BadBarrier { .. }
                    | FaultKind::ExitedAtBarrier { .. }
            )
        } else {
            matches!(&*fault.kind, FaultKind::BadBarrier { id: i, count: c }
                if (*i, *c) == (id, count))
        };
        assert!(good, "number {id}, {count} threads\n{fault}");
    }
}

/// A branch by index reaches the last label of its table, and not one further.
#[test]
fn branches_by_index() {
    let bench = Bench::new(80);
    let body = "    ld.param.u32 %r1, [index];
TABLE: .branchtargets A, B, C;
    brx.idx %r1, TABLE;
A:
    ret;
B:
    ret;
C:
    ret;";
    let kernel = bench.kernel(&text(80, "", ".param .u32 index", body));
    let run = |index: u32| bench.run(&kernel, (32, 0), &Params::default().u32(index));
    legal(run(0), "the first");
    legal(run(2), "the last");
    for index in [3, 4, u32::MAX] {
        reported(run(index), "past the table");
    }
}
