//! State of a thread: bytes of local memory beside a store, and the end of the parameters.
use super::harness::{Bench, LANES, Params, legal, reported, text};
use ptx_emulator::FaultKind;
use ptx_emulator::ir::Space;
use ptx_emulator::report::AccessKind;

/// All 40 bytes are 0xff, then one lane or all store 0x11; each lane's bytes go to device memory.
const LOCAL: &str = "    .local .align 16 .b8 own[40];
    mov.u64 %rd1, own;
    mov.u32 %r9, 0x11111111;
    mov.b64 %rd9, {%r9, %r9};
    mov.u16 %h1, 0x1111;
    mov.u32 %r1, 0;
FILL:
    cvt.u64.u32 %rd4, %r1;
    add.u64 %rd4, %rd4, %rd1;
    st.local.u64 [%rd4], 0xffffffffffffffff;
    add.u32 %r1, %r1, 8;
    setp.lt.u32 %p1, %r1, 40;
    @%p1 bra FILL;
    ld.param.u32 %r2, [lane];
    mov.u32 %r3, %tid.x;
    setp.eq.u32 %p2, %r3, %r2;
    setp.eq.or.u32 %p2, %r2, 32, %p2;
    ld.param.u64 %rd3, [at];
    add.u64 %rd3, %rd3, %rd1;
    @%p2 {store};
    ld.param.u64 %rd5, [out];
    mul.wide.u32 %rd6, %r3, 40;
    add.u64 %rd5, %rd5, %rd6;
    mov.u32 %r1, 0;
COPY:
    cvt.u64.u32 %rd4, %r1;
    add.u64 %rd6, %rd4, %rd1;
    ld.local.u64 %rd7, [%rd6];
    add.u64 %rd6, %rd4, %rd5;
    st.global.u64 [%rd6], %rd7;
    add.u32 %r1, %r1, 8;
    setp.lt.u32 %p1, %r1, 40;
    @%p1 bra COPY;";

/// A store of one to sixteen bytes to local memory leaves the bytes beside it as they were, in
/// every lane.
#[test]
fn local_bytes_beside_a_store() {
    let bench = Bench::new(80);
    for (store, bytes) in [
        ("st.local.u8 [%rd3], %r9", 1u64),
        ("st.local.u16 [%rd3], %h1", 2),
        ("st.local.u32 [%rd3], %r9", 4),
        ("st.local.u64 [%rd3], %rd9", 8),
        ("st.local.v2.u8 [%rd3], {%r9, %r9}", 2),
        ("st.local.v4.u8 [%rd3], {%r9, %r9, %r9, %r9}", 4),
        ("st.local.v2.u16 [%rd3], {%h1, %h1}", 4),
        ("st.local.v4.u32 [%rd3], {%r9, %r9, %r9, %r9}", 16),
    ] {
        let body = LOCAL.replace("{store}", store);
        let params = ".param .u64 out, .param .u64 at, .param .u32 lane";
        let kernel = bench.kernel(&text(80, "", params, &body));
        let out = bench.filled(32 * 40);
        for at in (0..=40 - bytes).step_by(bytes as usize) {
            for lane in LANES.into_iter().chain([32]) {
                let params = Params::default().u64(out).u64(at).u32(lane);
                legal(bench.run(&kernel, (32, 0), &params), store);
                let mut got = vec![0; 32 * 40];
                bench.memory().read(out, &mut got).expect("inside");
                for (i, &byte) in got.iter().enumerate() {
                    let (of, place) = (i / 40, i as u64 % 40);
                    let stored =
                        (of == lane as usize || lane == 32) && (at..at + bytes).contains(&place);
                    let wanted = if stored { 0x11 } else { 0xff };
                    let what = format!("`{store}` at {at} by {lane}: byte {place} of lane {of}");
                    assert_eq!(byte, wanted, "{what}");
                }
            }
        }
    }
}

/// Parameters are read at addresses that a register holds: to the last byte, one beyond, and
/// misaligned, also where the misaligned read ends with the buffer.
#[test]
fn parameters_at_the_end_and_misaligned() {
    let bench = Bench::new(80);
    for (load, bytes) in [
        ("ld.param.u8 %r5, [%rd1]", 1u64),
        ("ld.param.u16 %h1, [%rd1]", 2),
        ("ld.param.u32 %r5, [%rd1]", 4),
        ("ld.param.u64 %rd5, [%rd1]", 8),
        ("ld.param.v4.u32 {%r5, %r6, %r7, %r8}, [%rd1]", 16),
    ] {
        let body = format!(
            "    mov.b64 %rd1, more;
    ld.param.u64 %rd2, [at];
    add.u64 %rd1, %rd1, %rd2;
    {load};"
        );
        // 16 bytes of the first parameter, then those that are read.
        let kernel = bench.kernel(&text(
            80,
            "",
            ".param .u64 at, .param .u64 unused, .param .align 1 .b8 more[35]",
            &body,
        ));
        let all = 16 + 35;
        for at in 0..=36u64 {
            let params = Params::default().u64(at).u64(0).bytes(1, &[0; 35]);
            let result = bench.run(&kernel, (32, 0), &params);
            let address = 16 + at;
            let what = format!("`{load}` at {address} of {all}");
            if address + bytes <= all && address.is_multiple_of(bytes) {
                legal(result, &what);
                continue;
            }
            let fault = reported(result, &what);
            let (touch, nearest, beyond) = match &*fault.kind {
                FaultKind::OutOfBounds { touch, nearest } => (touch, nearest, true),
                FaultKind::Misaligned {
                    touch,
                    nearest,
                    align,
                } => {
                    assert_eq!(u64::from(*align), bytes, "{what}");
                    (touch, nearest, false)
                }
                _ => panic!("{what}\n{fault}"),
            };
            assert_eq!(beyond, address + bytes > all, "{what}\n{fault}");
            assert_eq!((touch.kind, touch.space), (AccessKind::Read, Space::Param));
            assert_eq!((touch.address, touch.bytes), (address, bytes as u32));
            let region = nearest.as_ref().expect("the parameters");
            assert_eq!((region.base, region.bytes), (0, all));
        }
    }
}
