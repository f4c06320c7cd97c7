//! `cp.reduce.async.bulk` to device memory: both of its sides, one lane alone and among others, and
//! bytes beside it.
use super::harness::{
    Bench, LANES, Params, fill_shared, legal, out_of_bounds, reported, text, touch,
};
use ptx_emulator::ir::Space;
use ptx_emulator::report::{AccessKind, AsyncFault};
use ptx_emulator::{Fault, FaultKind, LoadedKernel};

/// Operations with the bytes of their elements.
const OPERATIONS: [(&str, u32); 17] = [
    ("add.u32", 4),
    ("add.s32", 4),
    ("add.u64", 8),
    ("add.f32", 4),
    ("add.f64", 8),
    ("add.noftz.f16", 2),
    ("add.noftz.bf16", 2),
    ("min.f16", 2),
    ("max.bf16", 2),
    ("min.u32", 4),
    ("max.s32", 4),
    ("min.s64", 8),
    ("inc.u32", 4),
    ("dec.u32", 4),
    ("and.b32", 4),
    ("or.b64", 8),
    ("xor.b32", 4),
];

/// Start of the dynamic part of shared memory.
const TILE: u32 = 128;
/// Bytes of it for lanes that are not at the edge, 16 each.
const REST: u32 = 512;

/// A kernel of one warp: `lane` adds `size` bytes from `near` to those at `to`, the others, if all
/// take part, 16 bytes each to places of their own from `rest` on.
fn kernel(bench: &Bench, operation: &str) -> LoadedKernel {
    let fill = fill_shared("%r2", 1);
    let body = format!(
        "    .shared .align 128 .b8 first[128];
    mov.u32 %r1, first;
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
{fill}
    fence.proxy.async;
    bar.sync 0;
    ld.param.u64 %rd1, [to];
    ld.param.u64 %rd2, [rest];
    ld.param.u32 %r5, [near];
    ld.param.u32 %r6, [size];
    ld.param.u32 %r7, [lane];
    ld.param.u32 %r8, [all];
    setp.eq.u32 %p1, %r2, %r7;
    shl.b32 %r9, %r2, 4;
    cvt.u64.u32 %rd3, %r9;
    add.u64 %rd2, %rd2, %rd3;
    add.u32 %r9, %r9, %r1;
    selp.b64 %rd1, %rd1, %rd2, %p1;
    selp.b32 %r5, %r5, %r9, %p1;
    selp.b32 %r6, %r6, 16, %p1;
    setp.ne.or.u32 %p2, %r8, 0, %p1;
    @%p2 cp.reduce.async.bulk.global.shared::cta.bulk_group.{operation} [%rd1], [%r5], %r6;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;"
    );
    let params = ".param .u64 to, .param .u64 rest, .param .u32 near, .param .u32 size, .param \
        .u32 lane, .param .u32 all";
    let tile = ".extern .shared .align 128 .b8 tile[];";
    bench.kernel(&text(90, tile, params, &body))
}

/// One launch of [`kernel`].
#[derive(Clone, Copy)]
struct Run {
    to: u64,
    rest: u64,
    near: u32,
    size: u32,
    lane: u32,
    all: bool,
    shared: u32,
}

impl Run {
    fn run(self, bench: &Bench, kernel: &LoadedKernel) -> Result<(), Fault> {
        let params = Params::default().u64(self.to).u64(self.rest);
        let params = params.u32(self.near).u32(self.size).u32(self.lane);
        bench.run(kernel, (32, self.shared), &params.u32(self.all.into()))
    }
}

#[test]
fn reductions_at_the_ends_of_both_memories() {
    let bench = Bench::new(90);
    let rest = bench.filled(REST.into());
    for (operation, _) in OPERATIONS {
        let kernel = kernel(&bench, operation);
        for size in [16u32, 48] {
            for more in [0, 1, 15, 16, 17] {
                let base = bench.filled((size + more).into());
                let last = more / 16 * 16;
                for (lane, all) in LANES
                    .into_iter()
                    .flat_map(|lane| [(lane, false), (lane, true)])
                {
                    let run = Run {
                        to: base + u64::from(last),
                        rest,
                        near: TILE + REST + last,
                        size,
                        lane,
                        all,
                        shared: REST + size + more,
                    };
                    let what = format!("{operation}: {size} bytes, {more} more, {lane}, all {all}");
                    legal(run.run(&bench, &kernel), &what);
                    let to = run.to + 16;
                    let wanted = touch(AccessKind::Atomic, Space::Global, to, size);
                    let beyond = Run { to, ..run };
                    out_of_bounds(beyond.run(&bench, &kernel), wanted, Some(lane), &what);
                    let near = run.near + 16;
                    let wanted = touch(AccessKind::Read, Space::Shared, near.into(), size);
                    let beyond = Run { near, ..run };
                    out_of_bounds(beyond.run(&bench, &kernel), wanted, Some(lane), &what);
                }
            }
        }
    }
}

/// Sizes and places that are no multiple of 16, and bytes that nobody wrote.
#[test]
fn reductions_of_odd_sizes_and_places() {
    let bench = Bench::new(90);
    let base = bench.filled(96);
    for (operation, _) in OPERATIONS {
        let kernel = kernel(&bench, operation);
        let good = Run {
            to: base + 16,
            rest: base,
            near: TILE + 16,
            size: 32,
            lane: 17,
            all: false,
            shared: 96,
        };
        legal(good.run(&bench, &kernel), operation);
        // No bytes: nothing is touched.
        let none = Run {
            to: base + 96,
            near: TILE + 96,
            size: 0,
            ..good
        };
        legal(none.run(&bench, &kernel), operation);
        for off in [1, 2, 4, 8, 15] {
            let near = Run {
                near: good.near + off,
                ..good
            };
            let to = Run {
                to: good.to + u64::from(off),
                ..good
            };
            for (run, at) in [(near, u64::from(near.near)), (to, to.to)] {
                let fault = reported(run.run(&bench, &kernel), "misaligned");
                let aligned = matches!(&*fault.kind,
                    FaultKind::Misaligned { touch, align: 16, .. } if touch.address == at);
                assert!(aligned, "{operation}\n{fault}");
            }
            let size = Run {
                size: 16 + off,
                ..good
            };
            let fault = reported(size.run(&bench, &kernel), "no multiple of 16");
            let wanted = AsyncFault::BulkSize { bytes: 16 + off };
            assert!(
                matches!(&*fault.kind, FaultKind::Asynchronous(f) if *f == wanted),
                "{operation}\n{fault}"
            );
        }
        // A reduction reads what it is done on: one byte that nobody wrote.
        for hole in [0u64, 15, 16, 47, 48, 63] {
            let place = bench.memory().alloc(64).expect("room");
            for byte in (0..64).filter(|&byte| byte != hole) {
                bench.memory().write(place + byte, &[0]).expect("inside");
            }
            let run = Run {
                to: place + 16,
                ..good
            };
            let result = run.run(&bench, &kernel);
            if !(16..48).contains(&hole) {
                legal(result, operation);
                continue;
            }
            let fault = reported(result, "a byte that nobody wrote");
            let first = place + hole;
            assert!(
                matches!(&*fault.kind, FaultKind::Uninitialised { first: f, .. } if *f == first),
                "{operation}, byte {hole}\n{fault}"
            );
        }
    }
}

/// A reduction changes its own elements, each by its own, and nothing beside them.
#[test]
fn reductions_change_their_own_bytes() {
    let bench = Bench::new(90);
    for (operation, bytes) in [
        ("add.u32", 4u32),
        ("add.u64", 8),
        ("xor.b32", 4),
        ("or.b64", 8),
    ] {
        let kernel = kernel(&bench, operation);
        for (lane, all) in LANES
            .into_iter()
            .flat_map(|lane| [(lane, false), (lane, true)])
        {
            let (base, rest) = (bench.filled(96), bench.filled(REST.into()));
            let run = Run {
                to: base + 32,
                rest,
                near: TILE + REST,
                size: 48,
                lane,
                all,
                shared: REST + 48,
            };
            legal(run.run(&bench, &kernel), operation);
            let mut got = [0; 96];
            bench.memory().read(base, &mut got).expect("inside");
            let what = format!("{operation} of {bytes} bytes, lane {lane}, all {all}");
            let wanted = [&[0; 32][..], &[1; 48], &[0; 16]].concat();
            assert_eq!(got[..], wanted, "{what}");
            let mut got = [0; REST as usize];
            bench.memory().read(rest, &mut got).expect("inside");
            for (i, &byte) in got.iter().enumerate() {
                let wanted = u8::from(all && i / 16 != lane as usize);
                assert_eq!(byte, wanted, "{what}, byte {i} of the others");
            }
        }
    }
}

/// Constant memory is not changed, neither by a copy nor by a reduction.
#[test]
fn constant_memory() {
    let bench = Bench::new(90);
    for (instruction, kind) in [
        (
            "cp.async.bulk.global.shared::cta.bulk_group",
            AccessKind::Write,
        ),
        (
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32",
            AccessKind::Atomic,
        ),
    ] {
        let variables = ".const .align 16 .b8 fixed[32] = {1};\n.global .align 16 .b8 free[32];";
        let body = format!(
            "    .shared .align 16 .b32 tile[4];
    st.shared.v4.u32 [tile], {{0, 0, 0, 0}};
    fence.proxy.async;
    mov.u64 %rd1, fixed;
    cvta.const.u64 %rd1, %rd1;
    mov.u64 %rd2, free;
    ld.param.u32 %r1, [which];
    setp.ne.u32 %p1, %r1, 0;
    selp.b64 %rd1, %rd1, %rd2, %p1;
    {instruction} [%rd1], [tile], 16;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;"
        );
        let kernel = bench.kernel(&text(90, variables, ".param .u32 which", &body));
        let run = |which: u32| bench.run(&kernel, (1, 0), &Params::default().u32(which));
        legal(run(0), instruction);
        let fault = reported(run(1), instruction);
        assert!(
            matches!(&*fault.kind, FaultKind::ReadOnly { touch, .. } if touch.kind == kind),
            "{fault}"
        );
    }
}
