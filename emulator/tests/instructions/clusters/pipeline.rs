//! A pipeline of bulk tensor copies to both blocks of a cluster, released by arrivals at the
//! barriers of both, as CUTLASS has them.

use super::Bench;
use ptx_emulator::LaunchConfig;
use ptx_emulator::tensor_map::{Tensor, TensorMap};

/// Rows of the tensor, two a step.
const ROWS: u32 = 12;

/// `pipe(map, unsigned* out)`: in every step each block loads a row of 32 words and sends it to
/// both; lane `i` of the second warp sums three times the first row's word and the second one's.
/// `arrivals` at an empty barrier, whose block is the rank of lane 0 to `arrivals - 1` or the block
/// itself, and what the producer does at the end.
fn program(arrivals: u32, target: &str, tail: &str) -> String {
    format!(
        "
.visible .entry pipe(.param .align 64 .b8 map[128], .param .u64 out)
{{
    .reg .pred %p<8>;
    .reg .b16 %rs<2>;
    .reg .b32 %r<40>;
    .reg .b64 %rd<8>;
    .shared .align 128 .b32 tile[128];
    .shared .align 8 .b64 full[2];
    .shared .align 8 .b64 empty[2];
    ld.param.u64 %rd1, [out];
    mov.b64 %rd2, map;
    cvta.param.u64 %rd3, %rd2;
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %cluster_ctarank;
    mov.u32 %r3, tile;
    mov.u32 %r4, full;
    mov.u32 %r5, empty;
    mov.u16 %rs1, 3;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra met;
    mbarrier.init.shared::cta.b64 [full], 1;
    mbarrier.init.shared::cta.b64 [full+8], 1;
    mbarrier.init.shared::cta.b64 [empty], {arrivals};
    mbarrier.init.shared::cta.b64 [empty+8], {arrivals};
    fence.mbarrier_init.release.cluster;
met:
    barrier.cluster.arrive.relaxed.aligned;
    barrier.cluster.wait.acquire.aligned;
    mov.u32 %r6, 0;
    mov.u32 %r20, 0;
    setp.ge.u32 %p2, %r1, 32;
    @%p2 bra consumer;
    @%p1 bra done;
producer:
    and.b32 %r7, %r6, 1;
    shr.u32 %r8, %r6, 1;
    and.b32 %r9, %r8, 1;
    xor.b32 %r10, %r9, 1;
    shl.b32 %r11, %r7, 3;
    add.u32 %r12, %r4, %r11;
    add.u32 %r13, %r5, %r11;
free:
    mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r13], %r10;
    @!%p3 bra free;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r12], 256;
    shl.b32 %r14, %r7, 8;
    shl.b32 %r15, %r2, 7;
    add.u32 %r16, %r3, %r14;
    add.u32 %r16, %r16, %r15;
    shl.b32 %r17, %r6, 1;
    add.u32 %r17, %r17, %r2;
    cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::\
    cluster [%r16], [%rd3, {{0, %r17}}], [%r12], %rs1;
    add.u32 %r6, %r6, 1;
    setp.lt.u32 %p4, %r6, {steps};
    @%p4 bra producer;
{tail}
    bra done;
consumer:
    and.b32 %r7, %r6, 1;
    shr.u32 %r8, %r6, 1;
    and.b32 %r9, %r8, 1;
    shl.b32 %r11, %r7, 3;
    add.u32 %r12, %r4, %r11;
    add.u32 %r13, %r5, %r11;
filled:
    mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r12], %r9;
    @!%p3 bra filled;
    shl.b32 %r14, %r7, 8;
    and.b32 %r21, %r1, 31;
    shl.b32 %r22, %r21, 2;
    add.u32 %r23, %r3, %r14;
    add.u32 %r23, %r23, %r22;
    ld.shared.u32 %r24, [%r23];
    ld.shared.u32 %r25, [%r23+128];
    mad.lo.u32 %r20, %r24, 3, %r20;
    add.u32 %r20, %r20, %r25;
    bar.warp.sync 0xffffffff;
    setp.ge.u32 %p5, %r21, {arrivals};
    mov.u32 %r26, {target};
    mapa.shared::cluster.u32 %r27, %r13, %r26;
    @!%p5 mbarrier.arrive.shared::cluster.b64 _, [%r27];
    add.u32 %r6, %r6, 1;
    setp.lt.u32 %p4, %r6, {steps};
    @%p4 bra consumer;
    mov.u32 %r28, %ctaid.x;
    shl.b32 %r29, %r28, 5;
    add.u32 %r30, %r29, %r21;
    mul.wide.u32 %rd4, %r30, 4;
    add.u64 %rd5, %rd1, %rd4;
    st.global.u32 [%rd5], %r20;
done:
    ret;
}}
",
        steps = ROWS / 2,
    )
}

/// Waits until both stages are free: no block ends before the others have arrived at its barriers
/// for the last time.
const TAIL: &str = "
tail:
    mbarrier.try_wait.parity.shared::cta.b64 %p3, [empty], 0;
    @!%p3 bra tail;
tail1:
    mbarrier.try_wait.parity.shared::cta.b64 %p3, [empty+8], 0;
    @!%p3 bra tail1;
";

/// The lane's number: lanes 0 and 1 arrive at the barriers of blocks 0 and 1.
const BOTH: &str = "%r21";

/// Runs it on two clusters: the sums, and the bytes of device memory that were asked for.
fn run(program: &str) -> Result<(Vec<u32>, u64, u64), String> {
    let bench = Bench::new(program, "pipe");
    let words: Vec<u32> = (0..ROWS * 32).map(|i| i * 5 + 11).collect();
    let (input, output) = (bench.words(&words), bench.words(&[0; 128]));
    let tensor = Tensor {
        data_type: 2,
        address: input,
        dims: &[32, ROWS.into()],
        strides: &[128],
        element_strides: &[1, 1],
        interleave: 0,
        swizzle: 0,
        promotion: 0,
        fill: 0,
    };
    let map = TensorMap::tiled(&tensor, &[32, 1]).expect("a good map");
    let mut params = map.encode().to_vec();
    params.extend(output.to_le_bytes());
    let config = LaunchConfig {
        cluster: Some([2, 1, 1]),
        ..LaunchConfig::linear(4, 64)
    };
    let ran = bench.device.launch(&bench.kernel, config, &params);
    let counters = ran.map_err(|fault| fault.to_string())?;
    let bytes = counters.global_loads.bytes;
    Ok((bench.read(output, 128), bytes, counters.distributed.bytes))
}

#[test]
fn copies_to_both_blocks_feed_a_pipeline() {
    let (sums, bytes, distributed) = run(&program(2, BOTH, TAIL)).expect("no fault");
    let word = |row: u32, lane: u32| (row * 32 + lane) * 5 + 11;
    let expected: Vec<u32> = (0..128)
        .map(|i| {
            let lane = i % 32;
            (0..ROWS / 2)
                .map(|step| 3 * word(2 * step, lane) + word(2 * step + 1, lane))
                .sum()
        })
        .collect();
    assert_eq!(sums, expected);
    // Each cluster reads the tensor once and sends half of it from either block to the other.
    let once = u64::from(ROWS * 128);
    assert_eq!((bytes, distributed), (2 * once, 2 * once));
}

#[test]
fn a_consumer_that_releases_only_its_own_block_is_reported() {
    // One arrival, at the own block's barrier: the other block's producer is not ordered after this
    // consumer.
    let report = run(&program(1, "%r2", TAIL)).expect_err("a fault");
    let pending = "asynchronous copy not waited for: shared write of 128 bytes";
    assert!(report.starts_with(pending), "{report}");
    assert!(
        report.contains("in the shared memory of block ("),
        "{report}"
    );
}

#[test]
fn a_producer_that_does_not_wait_at_the_end_is_reported() {
    let report = run(&program(2, BOTH, "")).expect_err("a fault");
    let exited = "shared memory of block (1,0,0), which has exited: shared::cluster atomic";
    assert!(report.starts_with(exited), "{report}");
}
