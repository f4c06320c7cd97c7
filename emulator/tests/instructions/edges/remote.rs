//! Access of a block to the shared memory of another of its cluster without a wait: `st.async`,
//! `red.async`, bulk copies and operations on barriers. The last byte there, and the first beyond;
//! the last barrier, and the first beyond.
use super::harness::{Bench, LANES, Params, fill_shared, legal, reported, text, touch};
use ptx_emulator::ir::Space;
use ptx_emulator::report::{Access, AccessKind, AsyncFault, ClusterFault};
use ptx_emulator::{Fault, FaultKind, LoadedKernel};

/// An operation on `bytes` bytes at `%r7`, completed by the barrier at `%r10`, both addresses of
/// another block.
#[derive(Clone, Copy)]
struct Remote {
    text: &'static str,
    bytes: u32,
    kind: AccessKind,
}

const fn remote(text: &'static str, bytes: u32, kind: AccessKind) -> Remote {
    Remote { text, bytes, kind }
}

const REMOTE: [Remote; 15] = {
    use AccessKind::{Atomic, Write};
    [
        remote(
            "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r7], %r9, [%r10]",
            4,
            Write,
        ),
        remote(
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.f64 [%r7], %d1, [%r10]",
            8,
            Write,
        ),
        remote(
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.s32 [%r7], {%r9, %r9}, \
            [%r10]",
            8,
            Write,
        ),
        remote(
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r7], \
            {%r9, %r9, %r9, %r9}, [%r10]",
            16,
            Write,
        ),
        remote(
            "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b64 [%r7], {%rd9, %rd9}, \
            [%r10]",
            16,
            Write,
        ),
        remote(
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r7], \
            %r9, [%r10]",
            4,
            Atomic,
        ),
        remote(
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u64 [%r7], \
            %rd9, [%r10]",
            8,
            Atomic,
        ),
        remote(
            "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r7], [tile], \
            16, [%r10]",
            16,
            Write,
        ),
        remote(
            "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r7], [tile], \
            48, [%r10]",
            48,
            Write,
        ),
        remote(
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 \
            [%r7], [tile], 16, [%r10]",
            16,
            Atomic,
        ),
        remote(
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u64 \
            [%r7], [tile], 16, [%r10]",
            16,
            Atomic,
        ),
        remote(
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.xor.b32 \
            [%r7], [tile], 48, [%r10]",
            48,
            Atomic,
        ),
        remote(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r7], [%rd1], 16, \
            [%r10]",
            16,
            Write,
        ),
        remote(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r7], [%rd1], 48, \
            [%r10]",
            48,
            Write,
        ),
        remote(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster \
            [%r5], [%rd1], 32, [%r8], %h2",
            32,
            Write,
        ),
    ]
};

/// Bytes of one lane's place in the part that lanes use which are not at the edge.
const PLACE: u32 = 64;
/// End of that part: behind 16 bytes for barriers.
const EDGE: u32 = 16 + 32 * PLACE;

/// Behaviour of [`kernel`]; lanes that are not at the edge have a [`PLACE`] each.
const BODY: &str = "    .shared .align 16 .b64 bars[2];
    mov.u32 %r1, bars;
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    mov.u32 %r3, %cluster_ctarank;
    ld.param.u32 %r4, [object];
    ld.param.u64 %rd1, [far];
{fill}
    bar.warp.sync 0xffffffff;
    ld.param.u32 %r17, [bytes];
    setp.eq.u32 %p1, %r2, 0;
    @%p1 mbarrier.init.shared::cta.b64 [%r4], 64;
    @%p1 fence.mbarrier_init.release.cluster;
    @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], %r17;
    fence.proxy.async;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    setp.eq.u32 %p3, %r3, 1;
    @%p3 bra OTHER;
    ld.param.u32 %r5, [at];
    ld.param.u32 %r8, [bar];
    ld.param.u32 %r6, [lane];
    ld.param.u32 %r11, [all];
    ld.param.u32 %r18, [rank];
    setp.eq.u32 %p2, %r2, %r6;
    mul.lo.u32 %r12, %r2, 64;
    add.u32 %r12, %r12, %r1;
    selp.b32 %r5, %r5, %r12, %p2;
    selp.b32 %r8, %r8, %r4, %p2;
    setp.ne.or.u32 %p2, %r11, 0, %p2;
    mapa.shared::cluster.u32 %r7, %r5, %r18;
    mapa.shared::cluster.u32 %r10, %r8, %r18;
    mov.u32 %r9, 1;
    mov.u64 %rd9, 1;
    mov.u16 %h2, 2;
    @%p2 {operation};
    bra MEET;
OTHER:
    ld.param.u32 %r19, [waits];
    setp.ne.and.u32 %p5, %r19, 0, %p1;
    @!%p5 bra MEET;
    mbarrier.arrive.shared::cta.b64 _, [%r4], 63;
WAIT:
    mbarrier.try_wait.parity.shared::cta.b64 %p6, [%r4], 0;
    @!%p6 bra WAIT;
MEET:
    bar.warp.sync 0xffffffff;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;";

/// A cluster of two blocks of a warp. Both write all of their shared memory; the second waits for
/// the bytes that it is told, at the barrier of the first 16 bytes or at the one that ends its
/// shared memory. Lanes of the first block do the operation: `lane` at `at`, the others, if all
/// take part, each at a place of its own.
fn kernel(bench: &Bench, operation: &str) -> LoadedKernel {
    let fill = fill_shared("%r2", 0);
    let body = BODY.replace("{fill}", &fill);
    let body = body.replace("{operation}", operation);
    let params = ".param .u64 far, .param .u32 object, .param .u32 bytes, .param .u32 at, .param \
        .u32 bar, \
                  .param .u32 lane, .param .u32 all, .param .u32 rank, .param .u32 waits";
    let tile = ".extern .shared .align 16 .b8 tile[];";
    let text = text(90, tile, params, &body).replace(".version 8.0", ".version 8.1");
    bench.kernel(&text)
}

/// One launch of [`kernel`].
#[derive(Clone, Copy)]
struct Run {
    far: u64,
    /// The barrier that there is.
    object: u32,
    /// The barrier that is named.
    bar: u32,
    at: u32,
    bytes: u32,
    lane: u32,
    all: bool,
    rank: u32,
    waits: bool,
    shared: u32,
}

impl Run {
    fn run(self, bench: &Bench, kernel: &LoadedKernel) -> Result<(), Fault> {
        let params = Params::default()
            .u64(self.far)
            .u32(self.object)
            .u32(self.bytes)
            .u32(self.at)
            .u32(self.bar)
            .u32(self.lane)
            .u32(self.all.into())
            .u32(self.rank)
            .u32(self.waits.into());
        bench.run_cluster(kernel, self.shared, &params)
    }
}

/// The access must have been reported as out of bounds in the second block.
fn out_of_bounds_there(result: Result<(), Fault>, wanted: Access, lane: u32, what: &str) {
    let fault = reported(result, what);
    let good = match &*fault.kind {
        FaultKind::InCluster {
            block: [1, 0, 0],
            fault,
        } => matches!(&**fault, FaultKind::OutOfBounds { touch, .. } if *touch == wanted),
        _ => false,
    };
    assert!(good, "{what}: expected {wanted:?} out of bounds\n{fault}");
    assert_eq!(fault.thread, Some([lane, 0, 0]), "{what}\n{fault}");
}

#[test]
fn asynchronous_accesses_at_the_end_of_another_blocks_memory() {
    let bench = Bench::new(90);
    let far = bench.filled(64);
    for operation in REMOTE {
        let kernel = kernel(&bench, operation.text);
        let bytes = operation.bytes;
        let align = bytes.min(16);
        for more in [0, 1, align - 1, align, align + 1] {
            let end = EDGE + bytes + more;
            // The last aligned place with all of its bytes inside, and the one behind it.
            let last = (end - bytes) / align * align;
            for (lane, all) in LANES
                .into_iter()
                .flat_map(|lane| [(lane, false), (lane, true)])
            {
                let run = Run {
                    far,
                    object: 8,
                    bar: 8,
                    at: last,
                    bytes: if all { 32 * bytes } else { bytes },
                    lane,
                    all,
                    rank: 1,
                    waits: true,
                    shared: end - 16,
                };
                let what = format!("`{}` at {last} of {end}, {lane}, all {all}", operation.text);
                legal(run.run(&bench, &kernel), &what);
                let at = last + align;
                let wanted = touch(operation.kind, Space::Shared, at.into(), bytes);
                let beyond = Run { at, ..run };
                out_of_bounds_there(beyond.run(&bench, &kernel), wanted, lane, &what);
            }
        }
        // One byte off.
        for off in [1, align / 2] {
            let run = Run {
                far,
                object: 8,
                bar: 8,
                at: EDGE + off,
                bytes,
                lane: 17,
                all: false,
                rank: 1,
                waits: true,
                shared: EDGE + 64,
            };
            let fault = reported(run.run(&bench, &kernel), operation.text);
            let aligned = match &*fault.kind {
                FaultKind::InCluster { fault, .. } => {
                    matches!(**fault, FaultKind::Misaligned { align: a, .. } if a == align)
                }
                _ => false,
            };
            assert!(aligned, "{}\n{fault}", operation.text);
        }
    }
}

/// Operations that name a barrier of another block, and the bytes that they move to it.
fn on_barriers() -> impl Iterator<Item = (&'static str, u32)> {
    let barriers = [
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r10]",
        "mbarrier.arrive.expect_tx.release.cluster.shared::cluster.b64 _, [%r10], 16",
        "mbarrier.arrive_drop.release.cluster.shared::cluster.b64 _, [%r10]",
        "mbarrier.expect_tx.relaxed.cluster.shared::cluster.b64 [%r10], 16",
        "mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [%r10], 16",
    ];
    let copies = REMOTE
        .iter()
        .map(|operation| (operation.text, operation.bytes));
    copies.chain(barriers.map(|operation| (operation, 0)))
}

/// The barrier that completes an operation, or that one is on, ends with the other block's shared
/// memory; or bytes of it are beyond.
#[test]
fn barriers_at_the_end_of_another_blocks_memory() {
    let bench = Bench::new(90);
    let far = bench.filled(64);
    let object = EDGE + 64;
    for (operation, bytes) in on_barriers() {
        let kernel = kernel(&bench, operation);
        for more in [0, 1, 4, 7] {
            for (lane, all) in LANES
                .into_iter()
                .flat_map(|lane| [(lane, false), (lane, true)])
            {
                let run = Run {
                    far,
                    object,
                    bar: object,
                    at: EDGE,
                    bytes: if all { 32 * bytes } else { bytes },
                    lane,
                    all,
                    rank: 1,
                    waits: bytes > 0,
                    shared: object + 8 + more - 16,
                };
                let what = format!("`{operation}`, {more} more, lane {lane}, all {all}");
                legal(run.run(&bench, &kernel), &what);
                let wanted = touch(AccessKind::Atomic, Space::Shared, (object + 8).into(), 8);
                let beyond = Run {
                    bar: object + 8,
                    ..run
                };
                out_of_bounds_there(beyond.run(&bench, &kernel), wanted, lane, &what);
                if bytes > 0 {
                    continue;
                }
                // The same on the block's own barrier, by its address in the cluster.
                let own = Run { rank: 0, ..run };
                legal(own.run(&bench, &kernel), &what);
                let beyond = Run { rank: 0, ..beyond };
                let result = beyond.run(&bench, &kernel);
                super::harness::out_of_bounds(result, wanted, Some(lane), &what);
            }
        }
    }
}

/// A barrier four bytes off, and eight bytes where there is none.
#[test]
fn barriers_that_are_not_there() {
    let bench = Bench::new(90);
    let far = bench.filled(64);
    let object = EDGE + 64;
    for (operation, bytes) in on_barriers() {
        let kernel = kernel(&bench, operation);
        for (bar, none) in [(object + 4, false), (object - 8, true)] {
            let run = Run {
                far,
                object,
                bar,
                at: EDGE,
                bytes,
                lane: 17,
                all: false,
                rank: 1,
                waits: false,
                shared: object + 64,
            };
            let fault = reported(run.run(&bench, &kernel), operation);
            let good = match &*fault.kind {
                FaultKind::InCluster { fault, .. } => match &**fault {
                    FaultKind::Misaligned { align: 8, .. } => !none,
                    FaultKind::Asynchronous(AsyncFault::NoMbarrier { address, .. }) => {
                        none && *address == u64::from(bar)
                    }
                    _ => false,
                },
                _ => false,
            };
            assert!(good, "{operation}\n{fault}");
        }
    }
}

/// Operations that only a barrier of the block itself allows: at its generic address they are good,
/// at that of the other block's barrier they are not; and so in a cluster of one block, whose
/// barriers have addresses in the cluster, too.
#[test]
fn barriers_of_the_block_itself() {
    let bench = Bench::new(90);
    for operation in [
        "mbarrier.arrive.b64 %rd5, [%rd2]",
        "mbarrier.arrive.expect_tx.b64 %rd5, [%rd2], 16",
        "mbarrier.arrive.noComplete.b64 %rd5, [%rd2], 1",
        "mbarrier.test_wait.parity.b64 %p1, [%rd2], 0",
        "mbarrier.try_wait.parity.b64 %p1, [%rd2], 1",
        "mbarrier.expect_tx.relaxed.cta.b64 [%rd2], 16",
        "mbarrier.inval.b64 [%rd2]",
    ] {
        let body = format!(
            "    .shared .align 8 .b64 bar;
    ld.param.u32 %r1, [rank];
    mov.u32 %r2, bar;
    cvt.u64.u32 %rd1, %r2;
    cvta.shared.u64 %rd1, %rd1;
    mapa.u64 %rd2, %rd1, %r1;
    mov.u32 %r3, %tid.x;
    setp.eq.u32 %p2, %r3, 0;
    @%p2 mbarrier.init.shared::cta.b64 [bar], 2;
    @%p2 fence.mbarrier_init.release.cluster;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    mov.u32 %r4, %cluster_ctarank;
    setp.eq.and.u32 %p2, %r4, 0, %p2;
    @%p2 {operation};
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;"
        );
        let kernel = bench.kernel(&text(90, "", ".param .u32 rank", &body));
        let params = |rank: u32| Params::default().u32(rank);
        legal(bench.run_cluster(&kernel, 0, &params(0)), operation);
        legal(bench.run(&kernel, (32, 0), &params(0)), operation);
        let fault = reported(bench.run_cluster(&kernel, 0, &params(1)), operation);
        let other = matches!(
            &*fault.kind,
            FaultKind::Cluster(ClusterFault::OtherBlocksBarrier { block: [1, 0, 0] })
        );
        assert!(other, "{operation}\n{fault}");
        // A cluster of one block has no second one.
        for (result, rank) in [
            (bench.run_cluster(&kernel, 0, &params(2)), 2),
            (bench.run(&kernel, (32, 0), &params(1)), 1),
        ] {
            let fault = reported(result, operation);
            let none = matches!(&*fault.kind,
                FaultKind::Cluster(ClusterFault::NoBlock { rank: r, blocks, .. })
                    if (*r, *blocks) == (rank, rank));
            assert!(none, "{operation}\n{fault}");
        }
    }
}
