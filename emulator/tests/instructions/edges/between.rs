//! `cp.async.bulk` from a block's shared memory to that of another of its cluster.
use super::harness::{Bench, LANES, Params, legal, out_of_bounds, text, touch};
use ptx_emulator::ir::Space;
use ptx_emulator::report::AccessKind;

/// Both blocks fill their shared memory; a lane of the first copies to the second, which puts all
/// of its bytes out.
const BODY: &str = "    .shared .align 16 .b64 bars[2];
    mov.u32 %r1, bars;
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    mov.u32 %r3, %cluster_ctarank;
    ld.param.u32 %r5, [bytes];
    mov.u32 %r14, %dynamic_smem_size;
    mov.u32 %r15, %r2;
    mul.lo.u32 %r16, %r3, 0x80;
    add.u32 %r16, %r16, 1;
FILL:
    setp.ge.u32 %p4, %r15, %r14;
    @%p4 bra FILLED;
    add.u32 %r17, %r1, %r15;
    add.u32 %r18, %r16, %r15;
    st.shared.u8 [%r17], %r18;
    add.u32 %r15, %r15, 32;
    bra FILL;
FILLED:
    setp.eq.u32 %p1, %r2, 0;
    @%p1 mbarrier.init.shared::cta.b64 [bars], 1;
    @%p1 fence.mbarrier_init.release.cluster;
    @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bars], %r5;
    fence.proxy.async;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    setp.eq.u32 %p3, %r3, 1;
    @%p3 bra OTHER;
    ld.param.u32 %r6, [from];
    ld.param.u32 %r7, [to];
    ld.param.u32 %r8, [lane];
    setp.eq.u32 %p2, %r2, %r8;
    mapa.shared::cluster.u32 %r7, %r7, 1;
    mov.u32 %r9, bars;
    mapa.shared::cluster.u32 %r9, %r9, 1;
    @%p2 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r7], [%r6], \
    %r5, [%r9];
    bra MEET;
OTHER:
    mbarrier.try_wait.parity.shared::cta.b64 %p6, [bars], 0;
    @!%p6 bra OTHER;
    mov.u32 %r15, %r2;
    ld.param.u64 %rd1, [out];
COPY:
    setp.ge.u32 %p4, %r15, %r14;
    @%p4 bra MEET;
    add.u32 %r17, %r1, %r15;
    ld.shared.u8 %r18, [%r17];
    cvt.u64.u32 %rd2, %r15;
    add.u64 %rd2, %rd2, %rd1;
    st.global.u8 [%rd2], %r18;
    add.u32 %r15, %r15, 32;
    bra COPY;
MEET:
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;";

/// A copy from shared memory to another block: its source ends with the block's own shared memory,
/// or bytes of it are beyond. The destination's bytes are copied, and none beside them.
#[test]
fn sources_of_copies_between_blocks() {
    let bench = Bench::new(90);
    let out = bench.filled(256);
    let params =
        ".param .u64 out, .param .u32 bytes, .param .u32 from, .param .u32 to, .param .u32 lane";
    let tile = ".extern .shared .align 16 .b8 tile[];";
    let kernel = bench.kernel(&text(90, tile, params, BODY));
    for bytes in [16u32, 48, 80] {
        for more in [0, 1, 15, 16, 17] {
            let shared = 80 + more;
            let end = 16 + shared;
            let last = (end - bytes) / 16 * 16;
            for lane in LANES {
                let run = |from: u32, to: u32| {
                    let params = Params::default().u64(out).u32(bytes).u32(from);
                    bench.run_cluster(&kernel, shared, &params.u32(to).u32(lane))
                };
                let what = format!("{bytes} bytes from {last} of {end}, lane {lane}");
                for (from, to) in [(last, 16), (16, last), (last, last)] {
                    legal(run(from, to), &what);
                    let mut got = vec![0; shared as usize];
                    bench.memory().read(out, &mut got).expect("inside");
                    for (i, &byte) in got.iter().enumerate() {
                        let place = i as u32 + 16;
                        let wanted = if (to..to + bytes).contains(&place) {
                            place - to + from - 16 + 1
                        } else {
                            0x80 + place - 16 + 1
                        };
                        assert_eq!(byte, wanted as u8, "{what}, to {to}: byte {place}");
                    }
                }
                let wanted = touch(AccessKind::Read, Space::Shared, (last + 16).into(), bytes);
                let result = run(last + 16, 16);
                out_of_bounds(result, wanted, Some(lane), &what);
            }
        }
    }
}
