//! Copies to several blocks of a cluster: each of them is checked, and none that the mask does
//! not name.
use super::harness::{Bench, LANES, Params, fill_shared, legal, reported, text, touch};
use ptx_emulator::ir::Space;
use ptx_emulator::report::{AccessKind, AsyncFault, ClusterFault};
use ptx_emulator::tensor_map::{Tensor, TensorMap};
use ptx_emulator::{Fault, FaultKind, LaunchConfig, LoadedKernel};

/// Blocks of the cluster.
const BLOCKS: u32 = 4;
/// No block.
const NONE: u32 = BLOCKS;
/// Start of the dynamic part of shared memory.
const TILE: u32 = 128;

/// Behaviour of [`kernel`]; `{odd}` and `{copy}` stand for instructions.
const BODY: &str = "    .shared .align 8 .b64 bar;
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    mov.u32 %r3, %cluster_ctarank;
    ld.param.u64 %rd1, [far];
    ld.param.u32 %r5, [at];
    ld.param.u32 %r6, [mask];
    cvt.u16.u32 %h1, %r6;
    mov.b64 %rd2, map;
    cvta.param.u64 %rd2, %rd2;
{fill}
    fence.proxy.async;
    bar.warp.sync 0xffffffff;
    setp.eq.u32 %p1, %r2, 0;
    ld.param.u32 %r7, [without];
    setp.ne.and.u32 %p2, %r7, %r3, %p1;
    @%p2 mbarrier.init.shared::cta.b64 [bar], 1;
    @%p2 fence.mbarrier_init.release.cluster;
    @%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 32;
    ld.param.u32 %r8, [special];
    setp.eq.and.u32 %p3, %r8, %r3, %p1;
    ld.param.u64 %rd5, [out];
    {odd}
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    ld.param.u32 %r9, [lane];
    setp.eq.u32 %p5, %r2, %r9;
    setp.eq.and.u32 %p5, %r3, 1, %p5;
    @%p5 {copy};
    shr.u32 %r10, %r6, %r3;
    and.b32 %r10, %r10, 1;
    setp.ne.and.u32 %p6, %r10, 0, %p2;
    @!%p6 bra MEET;
WAIT:
    mbarrier.try_wait.parity.shared::cta.b64 %p7, [bar], 0;
    @!%p7 bra WAIT;
MEET:
    bar.warp.sync 0xffffffff;
    cp.async.bulk.wait_group 0;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    @!%p1 bra END;
    ld.shared.u8 %r11, [%r5];
    ld.shared.u8 %r12, [%r5+31];
    mul.wide.u32 %rd6, %r3, 2;
    add.u64 %rd5, %rd5, %rd6;
    st.global.u8 [%rd5], %r11;
    st.global.u8 [%rd5+1], %r12;
END:";

/// A cluster of four blocks of a warp; one lane of the second copies 32 bytes to all blocks of the
/// mask, which wait for them. One block may have no barrier, or `odd` something of its own at its
/// destination: an ordinary write without a fence, or a copy from there under way. Afterwards each
/// block puts the first and the last byte of its destination out.
fn kernel(bench: &Bench, tensor: bool, odd: &str) -> LoadedKernel {
    let copy = if tensor {
        "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.\
        multicast::cluster \
         [%r5], [%rd2, {0}], [bar], %h1"
    } else {
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster \
         [%r5], [%rd1], 32, [bar], %h1"
    };
    let fill = fill_shared("%r2", 7);
    let body = BODY.replace("{fill}", &fill);
    let body = body.replace("{odd}", odd).replace("{copy}", copy);
    let params = ".param .u64 far, .param .u64 out, .param .u32 at, .param .u32 mask, .param .u32 \
        without, \
                  .param .u32 special, .param .u32 lane, .param .align 64 .b8 map[128]";
    let tile = ".extern .shared .align 128 .b8 tile[];";
    bench.kernel(&text(90, tile, params, &body))
}

/// One launch of [`kernel`].
#[derive(Clone, Copy)]
struct Run {
    at: u32,
    mask: u32,
    without: u32,
    special: u32,
    lane: u32,
    shared: u32,
}

/// The bytes that are copied, and where blocks put what they got.
struct Places {
    far: u64,
    out: u64,
    map: TensorMap,
}

impl Places {
    fn new(bench: &Bench) -> Places {
        let far = bench.filled(32);
        let bytes: Vec<u8> = (100..132).collect();
        bench.memory().write(far, &bytes).expect("inside");
        let tensor = Tensor {
            data_type: 0,
            address: far,
            dims: &[32],
            strides: &[],
            element_strides: &[1],
            interleave: 0,
            swizzle: 0,
            promotion: 0,
            fill: 0,
        };
        Places {
            far,
            out: bench.filled(64),
            map: TensorMap::tiled(&tensor, &[32]).expect("a good map"),
        }
    }

    fn run(&self, bench: &Bench, kernel: &LoadedKernel, run: Run) -> Result<(), Fault> {
        let params = Params::default()
            .u64(self.far)
            .u64(self.out)
            .u32(run.at)
            .u32(run.mask)
            .u32(run.without)
            .u32(run.special)
            .u32(run.lane)
            .bytes(64, &self.map.encode());
        let config = LaunchConfig {
            cluster: Some([BLOCKS, 1, 1]),
            shared_bytes: run.shared,
            ..LaunchConfig::linear(BLOCKS, 32)
        };
        bench.launch(kernel, config, &params).map(|_| ())
    }
}

/// Expected report, without the block: of the copying block itself there is none to name.
fn inner(fault: &Fault) -> (u32, &FaultKind) {
    match &*fault.kind {
        FaultKind::InCluster {
            block: [x, 0, 0],
            fault,
        } => (*x, fault),
        kind => (1, kind),
    }
}

#[test]
fn destinations_at_the_end_of_each_block() {
    let bench = Bench::new(90);
    let places = Places::new(&bench);
    for (tensor, align) in [(false, 16), (true, 128)] {
        let kernel = kernel(&bench, tensor, "");
        for mask in 1..1 << BLOCKS {
            for (lane, more) in LANES
                .into_iter()
                .flat_map(|lane| [0, 1, align].map(|m| (lane, m)))
            {
                let shared = 32 + more;
                let last = TILE + more / align * align;
                let run = Run {
                    at: last,
                    mask,
                    without: NONE,
                    special: NONE,
                    lane,
                    shared,
                };
                let what = format!("tensor {tensor}, mask {mask:#b}, {shared} bytes, lane {lane}");
                legal(places.run(&bench, &kernel, run), &what);
                let mut got = [0; 2 * BLOCKS as usize];
                bench.memory().read(places.out, &mut got).expect("inside");
                for (rank, bytes) in got.chunks(2).enumerate() {
                    let there = mask >> rank & 1 != 0;
                    let wanted = if there { [100, 131] } else { [7, 7] };
                    assert_eq!(bytes, wanted, "{what}, block {rank}");
                }
                let at = last + align;
                let fault = reported(places.run(&bench, &kernel, Run { at, ..run }), &what);
                let (block, kind) = inner(&fault);
                assert_eq!(block, mask.trailing_zeros(), "{what}\n{fault}");
                let wanted = touch(AccessKind::Write, Space::Shared, at.into(), 32);
                assert!(
                    matches!(kind, FaultKind::OutOfBounds { touch, .. } if *touch == wanted),
                    "{what}\n{fault}"
                );
                assert_eq!(fault.thread, Some([lane, 0, 0]), "{what}");
            }
        }
    }
}

/// Masks that name no block of the cluster, or one more than it has.
#[test]
fn masks_of_blocks() {
    let bench = Bench::new(90);
    let places = Places::new(&bench);
    for tensor in [false, true] {
        let kernel = kernel(&bench, tensor, "");
        for mask in [0, 0xf, 0x10, 0x11, 0x8000, 0xffff] {
            let run = Run {
                at: TILE,
                mask,
                without: NONE,
                special: NONE,
                lane: 3,
                shared: 32,
            };
            let result = places.run(&bench, &kernel, run);
            if mask <= 0xf {
                legal(result, "blocks of the cluster");
                continue;
            }
            let fault = reported(result, "a block that the cluster does not have");
            let wanted = ClusterFault::MulticastMask {
                mask,
                blocks: BLOCKS,
            };
            assert!(
                matches!(&*fault.kind, FaultKind::Cluster(f) if *f == wanted),
                "{fault}"
            );
        }
    }
}

/// One block differs from the others: it has no barrier, or something is under way at its
/// destination. That is reported if the mask names it, and only then.
#[test]
fn one_destination_that_is_not_ready() {
    let bench = Bench::new(90);
    let places = Places::new(&bench);
    let write = "@%p3 st.shared.u8 [%r5+31], 9;";
    let read = "@%p3 cp.async.bulk.global.shared::cta.bulk_group [%rd5+32], [%r5], 32;
    @%p3 cp.async.bulk.commit_group;";
    for tensor in [false, true] {
        for (odd, lacks) in [("", true), (write, false), (read, false)] {
            let kernel = kernel(&bench, tensor, odd);
            for mask in 1..1 << BLOCKS {
                for rank in 0..BLOCKS {
                    let run = Run {
                        at: TILE,
                        mask,
                        without: if lacks { rank } else { NONE },
                        special: if lacks { NONE } else { rank },
                        lane: 17,
                        shared: 32,
                    };
                    let result = places.run(&bench, &kernel, run);
                    let what = format!("`{odd}`, tensor {tensor}, mask {mask:#b}, block {rank}");
                    if mask >> rank & 1 == 0 {
                        legal(result, &what);
                        continue;
                    }
                    let fault = reported(result, &what);
                    let (block, kind) = inner(&fault);
                    assert_eq!(block, rank, "{what}\n{fault}");
                    let good = match kind {
                        FaultKind::Asynchronous(AsyncFault::NoMbarrier { .. }) => lacks,
                        FaultKind::Asynchronous(AsyncFault::Unfenced { at, .. }) => {
                            odd == write && *at == u64::from(TILE + 31)
                        }
                        FaultKind::Asynchronous(AsyncFault::ReadUnderWay { .. }) => odd == read,
                        _ => false,
                    };
                    assert!(good, "{what}\n{fault}");
                }
            }
        }
    }
}
