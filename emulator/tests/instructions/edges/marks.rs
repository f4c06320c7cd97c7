//! Bytes that count as written: exactly those that somebody wrote, whoever wrote and whoever reads.
use super::harness::{Bench, LANES, Params, legal, reported, text};
use ptx_emulator::{Fault, FaultKind};

/// The report of a read must name this byte as the first that nobody wrote.
fn unwritten(result: Result<(), Fault>, first: u64, what: &str) {
    let fault = reported(result, what);
    match &*fault.kind {
        FaultKind::Uninitialised { first: found, .. } if *found == first => {}
        _ => panic!("{what}: expected byte {first:#x} to be named\n{fault}"),
    }
}

const LOADS: [(&str, u64); 8] = [
    ("ld.global.u8 %r1, [%rd1]", 1),
    ("ld.global.u16 %h1, [%rd1]", 2),
    ("ld.global.u32 %r1, [%rd1]", 4),
    ("ld.global.u64 %rd2, [%rd1]", 8),
    ("ld.volatile.global.u32 %r1, [%rd1]", 4),
    ("ld.global.v2.u32 {%r1, %r2}, [%rd1]", 8),
    ("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1]", 16),
    ("atom.global.add.u32 %r1, [%rd1], 0", 4),
];

/// `[at]` plus `stride` times the lane, for the lanes of `active`.
const ADDRESSES: &str = "
    ld.param.u64 %rd1, [at];
    ld.param.u64 %rd3, [stride];
    ld.param.u32 %r11, [active];
    mov.u32 %r12, %tid.x;
    cvt.u64.u32 %rd4, %r12;
    mul.lo.u64 %rd4, %rd4, %rd3;
    add.u64 %rd1, %rd1, %rd4;
    shr.u32 %r11, %r11, %r12;
    and.b32 %r11, %r11, 1;
    setp.ne.u32 %p1, %r11, 0;";
const PARAMS: &str = ".param .u64 at, .param .u64 stride, .param .u32 active";

fn params(at: u64, stride: u64, active: u32) -> Params {
    Params::default().u64(at).u64(stride).u32(active)
}

/// One byte is missing: reads beside it are good, reads of it name it. Where it lies in its group
/// of 32 differs.
#[test]
fn one_byte_that_nobody_wrote() {
    let bench = Bench::new(80);
    for (load, bytes) in LOADS {
        let kernel = bench.kernel(&text(
            80,
            "",
            PARAMS,
            &format!("{ADDRESSES}\n    @%p1 {load};"),
        ));
        for hole in [0u64, 1, 3, 4, 15, 16, 31, 32, 33, 63, 64, 95, 127] {
            let base = bench.memory().alloc(133).expect("room");
            for byte in (0..133).filter(|&byte| byte != hole) {
                bench.memory().write(base + byte, &[1]).expect("inside");
            }
            let around = hole / bytes * bytes;
            for at in [around.wrapping_sub(bytes), around, around + bytes] {
                if at > 133 - bytes {
                    continue;
                }
                for lane in LANES {
                    // All lanes at one address, or one alone.
                    for active in [1 << lane, u32::MAX] {
                        let result = bench.run(&kernel, (32, 0), &params(base + at, 0, active));
                        let what = format!("{load} at {at}, byte {hole} missing");
                        if at == around {
                            unwritten(result, base + hole, &what);
                        } else {
                            legal(result, &what);
                        }
                    }
                }
            }
        }
    }
}

/// A whole warp reads neighbours: a byte is missing before the row, in it, or behind it.
#[test]
fn rows_beside_a_byte_that_nobody_wrote() {
    let bench = Bench::new(80);
    for (load, bytes) in LOADS {
        let kernel = bench.kernel(&text(
            80,
            "",
            PARAMS,
            &format!("{ADDRESSES}\n    @%p1 {load};"),
        ));
        let row = 32 * bytes;
        let start = 2 * bytes;
        for hole in [
            0,
            start - 1,
            start,
            start + 1,
            start + row / 2,
            start + row - 1,
            start + row,
        ] {
            let base = bench.memory().alloc(start + row + 5).expect("room");
            let all = start + row + 5;
            bench.memory().fill(base, &[1], hole).expect("inside");
            bench
                .memory()
                .fill(base + hole + 1, &[1], all - hole - 1)
                .expect("inside");
            let result = bench.run(&kernel, (32, 0), &params(base + start, bytes, u32::MAX));
            let what = format!("{load}: a row from {start}, byte {hole} missing");
            if (start..start + row).contains(&hole) {
                let lane = ((hole - start) / bytes) as u32;
                let fault = result.as_ref().err().and_then(|fault| fault.thread);
                assert_eq!(fault, Some([lane, 0, 0]), "{what}");
                unwritten(result, base + hole, &what);
            } else {
                legal(result, &what);
            }
        }
    }
}

/// A store marks its own bytes and no others.
#[test]
fn stores_mark_what_they_write() {
    let bench = Bench::new(80);
    for (store, bytes) in [
        ("st.global.u8 [%rd1], %r1", 1u64),
        ("st.global.u16 [%rd1], %h1", 2),
        ("st.global.u32 [%rd1], %r1", 4),
        ("st.global.u64 [%rd1], %rd2", 8),
        ("st.volatile.global.u32 [%rd1], %r1", 4),
        ("st.global.v2.u32 [%rd1], {%r1, %r1}", 8),
        ("st.global.v4.u32 [%rd1], {%r1, %r1, %r1, %r1}", 16),
        ("st.global.v4.u8 [%rd1], {%r1, %r1, %r1, %r1}", 4),
        ("atom.global.exch.b32 _, [%rd1], %r1", 4),
    ] {
        let kernel = bench.kernel(&text(
            80,
            "",
            PARAMS,
            &format!("{ADDRESSES}\n    @%p1 {store};"),
        ));
        for (first, stride, active) in [
            (1, 0, 1u32 << 17),
            (3, 1, u32::MAX),
            (0, 1, u32::MAX),
            (2, 2, 0x8000_8001),
            (5, 3, 0x0000_00ff),
        ] {
            let size = bytes * (first + 32 * stride + 3) + 7;
            let base = bench.memory().alloc(size).expect("room");
            let params = params(base + first * bytes, stride * bytes, active);
            legal(bench.run(&kernel, (32, 0), &params), store);
            let mut wanted = vec![false; size as usize];
            for lane in (0..32).filter(|lane| active >> lane & 1 != 0) {
                let at = (first * bytes + lane * stride * bytes) as usize;
                wanted[at..at + bytes as usize].fill(true);
            }
            for (byte, &wanted) in wanted.iter().enumerate() {
                let written = bench.memory().is_written(base + byte as u64, 1);
                let what = format!(
                    "{store} from {first}, stride {stride}, lanes {active:#x}: byte {byte}"
                );
                assert_eq!(written, Ok(wanted), "{what}");
            }
        }
    }
}

/// The host's own copies, fills and questions, at every offset and length around a group of 32
/// bytes.
#[test]
fn the_host_marks_what_it_writes() {
    let bench = Bench::new(80);
    let memory = bench.memory();
    for first in [0u64, 1, 3, 4, 31, 32, 33] {
        for bytes in [1u64, 2, 3, 4, 5, 28, 31, 32, 33, 64, 65] {
            let base = memory.alloc(133).expect("room");
            memory
                .write(base + first, &vec![7; bytes as usize])
                .expect("inside");
            for byte in 0..133 {
                let inside = (first..first + bytes).contains(&byte);
                assert_eq!(
                    memory.is_written(base + byte, 1),
                    Ok(inside),
                    "{first}+{bytes}: {byte}"
                );
            }
            assert_eq!(memory.is_written(base + first, bytes), Ok(true));
            assert_eq!(memory.is_written(base + first, bytes + 1), Ok(false));
            if first > 0 {
                assert_eq!(memory.is_written(base + first - 1, bytes + 1), Ok(false));
            }
        }
    }
}

/// Shared memory, word by word: a store marks its own words, and no word beside them is taken for
/// written or for written by its thread.
#[test]
fn shared_words_beside_a_store() {
    let bench = Bench::new(80);
    for (store, words) in [
        ("st.shared.u32 [%r5], %r2", 1u32),
        ("st.shared.u64 [%r5], %rd2", 2),
        ("st.shared.v2.u32 [%r5], {%r2, %r2}", 2),
        ("st.shared.v4.u32 [%r5], {%r2, %r2, %r2, %r2}", 4),
        ("st.shared.v2.u64 [%r5], {%rd2, %rd2}", 4),
    ] {
        // Thread 5 may write one more word first, thread 41 of another warp stores, thread 70 of a
        // third one reads.
        let body = format!(
            "    .shared .align 16 .b32 tile[16];
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    cvt.u64.u32 %rd2, %r2;
    ld.param.u32 %r3, [first];
    setp.eq.u32 %p1, %r2, 5;
    setp.lt.and.u32 %p1, %r3, 64, %p1;
    @%p1 st.shared.u32 [%r3], %r2;
    setp.eq.u32 %p2, %r2, 41;
    mov.u32 %r5, 16;
    @%p2 {store};
    ld.param.u32 %r4, [at];
    setp.eq.u32 %p3, %r2, 70;
    ld.param.u32 %r6, [meets];
    setp.eq.u32 %p4, %r6, 0;
    @%p4 bra READ;
    bar.sync 0;
READ:
    @%p3 ld.shared.u32 %r7, [%r4];"
        );
        let params = ".param .u32 first, .param .u32 at, .param .u32 meets";
        let kernel = bench.kernel(&text(80, "", params, &body));
        let run = |first: u32, at: u32, meets: u32| {
            let params = Params::default().u32(first).u32(at).u32(meets);
            bench.run(&kernel, (96, 0), &params)
        };
        let stored = 16..16 + 4 * words;
        for at in (0..64).step_by(4) {
            let what = format!("`{store}` at 16, a read at {at}");
            if stored.contains(&at) {
                legal(run(64, at, 1), &what);
                continue;
            }
            unwritten(run(64, at, 1), at.into(), &what);
            legal(run(at, at, 1), &what);
            let fault = reported(run(at, at, 0), &what);
            match &*fault.kind {
                FaultKind::SharedRace { rival, .. } => {
                    assert_eq!(rival.thread, Some([5, 0, 0]), "{what}\n{fault}");
                }
                _ => panic!("{what}\n{fault}"),
            }
        }
    }
}

/// Shared memory, byte by byte: the bytes of one store are written, those beside it are not.
#[test]
fn shared_bytes_that_nobody_wrote() {
    let bench = Bench::new(80);
    for (load, bytes) in [
        ("ld.shared.u8 %r1, [%r5]", 1u32),
        ("ld.shared.u16 %h1, [%r5]", 2),
        ("ld.shared.u32 %r1, [%r5]", 4),
        ("ld.shared.v2.u32 {%r1, %r2}, [%r5]", 8),
        ("ld.shared.v4.u32 {%r1, %r2, %r3, %r4}, [%r5]", 16),
        ("ld.shared.u64 %rd2, [%r5]", 8),
        ("ld.volatile.shared.u32 %r1, [%r5]", 4),
        ("atom.shared.add.u32 %r1, [%r5], 0", 4),
    ] {
        let body = format!(
            "    mov.u32 %r5, tile;
    ld.param.u32 %r6, [hole];
    ld.param.u32 %r9, [lane];
    mov.u32 %r7, 0;
FILL:
    setp.ne.u32 %p1, %r7, %r6;
    add.u32 %r8, %r5, %r7;
    @%p1 st.shared.u8 [%r8], 0;
    add.u32 %r7, %r7, 1;
    setp.lt.u32 %p1, %r7, 64;
    @%p1 bra FILL;
    bar.sync 0;
    ld.param.u32 %r5, [at];
    mov.u32 %r8, %tid.x;
    setp.eq.u32 %p2, %r8, %r9;
    setp.eq.u32 %p3, %r9, 32;
    or.pred %p2, %p2, %p3;
    @%p2 {load};"
        );
        let variables = ".extern .shared .align 16 .b8 tile[];";
        let params = ".param .u32 hole, .param .u32 at, .param .u32 lane";
        let kernel = bench.kernel(&text(80, variables, params, &body));
        for hole in [0u32, 1, 3, 4, 7, 8, 15, 16, 31, 47, 63] {
            for at in (0..64).step_by(bytes as usize) {
                // One lane, or with 32 all of them.
                for lane in [17, 32] {
                    let params = Params::default().u32(hole).u32(at).u32(lane);
                    let result = bench.run(&kernel, (32, 64), &params);
                    let what = format!("{load} at {at}, byte {hole} missing, lane {lane}");
                    if (at..at + bytes).contains(&hole) {
                        unwritten(result, hole.into(), &what);
                    } else {
                        legal(result, &what);
                    }
                }
            }
        }
    }
}
