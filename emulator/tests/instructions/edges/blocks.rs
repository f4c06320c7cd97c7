//! State that a block or cluster leaves to the next one of the same worker: nothing.
use super::harness::{Bench, Params, reported, text};
use ptx_emulator::report::{AsyncFault, ClusterFault};
use ptx_emulator::{Fault, FaultKind, LaunchConfig, LoadedKernel};

/// Launches blocks of one thread, or with `cluster` clusters of two blocks of one thread, one after
/// the other.
fn run(
    bench: &Bench,
    kernel: &LoadedKernel,
    (blocks, cluster): (u32, bool),
    params: &Params,
) -> Result<(), Fault> {
    let config = LaunchConfig {
        cluster: cluster.then_some([2, 1, 1]),
        ..LaunchConfig::linear(blocks, 1)
    };
    bench.launch(kernel, config, params).map(|_| ())
}

/// Blocks below `waits` wait for their copy. The others may not rely on what a block before had
/// waited for, though barrier, phase and warp have the same numbers.
#[test]
fn phases_that_the_block_before_waited_for() {
    let bench = Bench::new(90);
    let far = bench.filled(16);
    let body = "    .shared .align 8 .b64 bar;
    .shared .align 16 .b32 tile[4];
    mov.u32 %r2, %ctaid.x;
    ld.param.u64 %rd1, [far];
    ld.param.u32 %r3, [waits];
    mbarrier.init.shared::cta.b64 [bar], 1;
    fence.mbarrier_init.release.cluster;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 16;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%rd1], 16, [bar];
    setp.ge.u32 %p1, %r2, %r3;
    @%p1 bra READ;
WAIT:
    mbarrier.try_wait.parity.shared::cta.b64 %p2, [bar], 0;
    @!%p2 bra WAIT;
READ:
    ld.shared.u32 %r4, [tile];";
    let kernel = bench.kernel(&text(90, "", ".param .u64 far, .param .u32 waits", body));
    for waits in 0..=3 {
        let params = Params::default().u64(far).u32(waits);
        let result = run(&bench, &kernel, (3, false), &params);
        if waits == 3 {
            assert_eq!(result, Ok(()));
            continue;
        }
        let fault = reported(result, "a block that does not wait");
        assert_eq!(fault.block, [waits, 0, 0], "{fault}");
        let pending = matches!(
            &*fault.kind,
            FaultKind::Asynchronous(AsyncFault::CopyPending { parity: 0, .. })
        );
        assert!(pending, "{fault}");
    }
}

/// Clusters below `meets` meet before one of their blocks writes to the other; in the others it
/// cannot know that the other block runs, whichever of the two it is.
#[test]
fn clusters_that_have_not_met() {
    let bench = Bench::new(90);
    let body = "    .shared .align 16 .b32 cell[4];
    mov.u32 %r2, %clusterid.x;
    mov.u32 %r3, %cluster_ctarank;
    ld.param.u32 %r4, [meets];
    ld.param.u32 %r5, [by];
    setp.ge.u32 %p1, %r2, %r4;
    @%p1 bra WRITE;
    barrier.cluster.arrive.release;
    barrier.cluster.wait.acquire;
WRITE:
    setp.ne.u32 %p2, %r3, %r5;
    @%p2 bra MEET;
    xor.b32 %r6, %r3, 1;
    mov.u32 %r7, cell;
    mapa.shared::cluster.u32 %r8, %r7, %r6;
    st.shared::cluster.u32 [%r8], %r6;
MEET:
    barrier.cluster.arrive.release;
    barrier.cluster.wait.acquire;";
    let kernel = bench.kernel(&text(90, "", ".param .u32 meets, .param .u32 by", body));
    for by in [0, 1] {
        for meets in 0..=2 {
            let params = Params::default().u32(meets).u32(by);
            let result = run(&bench, &kernel, (4, true), &params);
            if meets == 2 {
                assert_eq!(result, Ok(()));
                continue;
            }
            let fault = reported(result, "a cluster that has not met");
            let first = 2 * meets;
            assert_eq!(fault.block, [first + by, 0, 0], "{fault}");
            let other = [first + 1 - by, 0, 0];
            let unknown = matches!(
                &*fault.kind,
                FaultKind::Cluster(ClusterFault::NotStarted { block, .. }) if *block == other
            );
            assert!(unknown, "{fault}");
        }
    }
}

/// A copy that a barrier counts, and a fence behind the wait for it, in each block of a cluster and
/// at each of its barriers: the bytes may then be copied on.
#[test]
fn fences_behind_copies_of_every_barrier_of_a_cluster() {
    let bench = Bench::new(90);
    let (far, out) = (bench.filled(16), bench.filled(32));
    let body = "    .shared .align 8 .b64 bars[6];
    .shared .align 16 .b32 tile[4];
    mov.u32 %r3, %cluster_ctarank;
    ld.param.u64 %rd1, [far];
    ld.param.u64 %rd2, [out];
    ld.param.u32 %r4, [bar];
    mul.wide.u32 %rd3, %r3, 16;
    add.u64 %rd2, %rd2, %rd3;
    mov.u32 %r5, bars;
    add.u32 %r6, %r5, 48;
INIT:
    mbarrier.init.shared::cta.b64 [%r5], 1;
    add.u32 %r5, %r5, 8;
    setp.lt.u32 %p1, %r5, %r6;
    @%p1 bra INIT;
    shl.b32 %r4, %r4, 3;
    mov.u32 %r5, bars;
    add.u32 %r5, %r5, %r4;
    cp.async.cg.shared.global [tile], [%rd1], 16;
    cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r5];
WAIT:
    mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5], 0;
    @!%p2 bra WAIT;
    ld.param.u32 %r7, [fenced];
    setp.eq.u32 %p3, %r7, 0;
    @%p3 bra COPY;
    fence.proxy.async;
COPY:
    cp.async.bulk.global.shared::cta.bulk_group [%rd2], [tile], 16;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;
    barrier.cluster.arrive.release;
    barrier.cluster.wait.acquire;";
    let params = ".param .u64 far, .param .u64 out, .param .u32 bar, .param .u32 fenced";
    let kernel = bench.kernel(&text(90, "", params, body));
    for bar in 0..6 {
        let run = |fenced: u32| {
            let params = Params::default().u64(far).u64(out).u32(bar).u32(fenced);
            run(&bench, &kernel, (2, true), &params)
        };
        assert_eq!(run(1), Ok(()), "barrier {bar}");
        let fault = reported(run(0), "without the fence");
        let pending = matches!(
            &*fault.kind,
            FaultKind::Asynchronous(AsyncFault::CopyPending { ordinary: true, .. })
        );
        assert!(pending, "{fault}");
    }
}
