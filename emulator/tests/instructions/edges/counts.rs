//! Bytes of device memory that a launch counts: each sector of 32 bytes once, whichever instruction
//! touches it.
use super::harness::{Bench, Params, text};
use ptx_emulator::LaunchConfig;

/// `{access}`, some times, each time `step` bytes further.
const BODY: &str = "    .shared .align 128 .b8 tile[128];
    mov.u32 %r2, %tid.x;
    shl.b32 %r3, %r2, 2;
    mov.u32 %r4, tile;
    add.u32 %r3, %r3, %r4;
    st.shared.u32 [%r3], 0;
    fence.proxy.async;
    bar.sync 0;
    ld.param.u64 %rd1, [at];
    ld.param.u64 %rd2, [step];
    ld.param.u32 %r7, [count];
LOOP:
{access}
    add.u64 %rd1, %rd1, %rd2;
    sub.u32 %r7, %r7, 1;
    setp.ne.u32 %p2, %r7, 0;
    @%p2 bra LOOP;";

/// A warp, or a bulk copy, touches rows of 128 bytes one after the other; each sector of the rows
/// counts once, and a later launch counts it again. Some rows begin inside of a sector, and some
/// overlap.
#[test]
fn rows_are_counted_by_their_sectors() {
    let bench = Bench::new(90);
    let base = bench.filled(64 * 1024);
    let loads = "    mul.wide.u32 %rd4, %r2, 4;
    add.u64 %rd4, %rd4, %rd1;
    ld.global.u32 %r5, [%rd4];";
    let stores = "    mul.wide.u32 %rd4, %r2, 4;
    add.u64 %rd4, %rd4, %rd1;
    st.global.u32 [%rd4], 0;";
    let copies = "    setp.eq.u32 %p1, %r2, 0;
    @%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [tile], 128;
    @%p1 cp.async.bulk.commit_group;
    @%p1 cp.async.bulk.wait_group 0;";
    for (access, writes) in [(loads, false), (stores, true), (copies, true)] {
        let body = BODY.replace("{access}", access);
        let params = ".param .u64 at, .param .u64 step, .param .u32 count";
        let kernel = bench.kernel(&text(90, "", params, &body));
        for first in [0u64, 16, 992, 1008, 1024, 4096] {
            for (step, count) in [
                (128u64, 1u32),
                (128, 40),
                (32, 100),
                (16, 70),
                (144, 9),
                (0, 5),
            ] {
                let mut sectors: Vec<u64> = (0..u64::from(count))
                    .flat_map(|row| {
                        let at = first + row * step;
                        at / 32..(at + 127) / 32 + 1
                    })
                    .collect();
                sectors.sort_unstable();
                sectors.dedup();
                let bytes = sectors.len() as u64 * 32;
                let params = Params::default().u64(base + first).u64(step).u32(count);
                for again in [false, true] {
                    let config = LaunchConfig::linear(1, 32);
                    let counted = bench.launch(&kernel, config, &params).expect("good");
                    let got = (counted.device_bytes_read, counted.device_bytes_written);
                    let wanted = if writes { (0, bytes) } else { (bytes, 0) };
                    let what = format!("{count} rows from {first}, step {step}, again {again}");
                    assert_eq!(got, wanted, "{what}\n{access}");
                }
            }
        }
    }
}
