//! `cp.async` and bulk copies: both of their sides, and what they do to neighbouring bytes.
use super::harness::{
    Bench, LANES, Params, fill_shared, legal, out_of_bounds, reported, text, touch,
};
use ptx_emulator::ir::Space;
use ptx_emulator::report::{AccessKind, AsyncFault};
use ptx_emulator::{Fault, FaultKind, LaunchConfig, LoadedKernel};

const PARAMS: &str = ".param .u64 near, .param .u64 far, .param .u32 size, .param .u32 edge, \
    .param .u32 active, \
                      .param .u64 near_rest, .param .u64 far_rest";
/// `%r5`: the lane's address in shared memory; `%rd1`: in device memory; `%p2`: whether it takes
/// part.
const ADDRESSES: &str = "
    ld.param.u64 %rd4, [near];
    ld.param.u64 %rd5, [near_rest];
    ld.param.u64 %rd2, [far];
    ld.param.u64 %rd3, [far_rest];
    ld.param.u32 %r10, [edge];
    ld.param.u32 %r11, [active];
    mov.u32 %r12, %tid.x;
    shr.u32 %r10, %r10, %r12;
    and.b32 %r10, %r10, 1;
    setp.ne.u32 %p1, %r10, 0;
    shl.b32 %r13, %r12, 4;
    cvt.u64.u32 %rd6, %r13;
    add.u64 %rd5, %rd5, %rd6;
    selp.b64 %rd4, %rd4, %rd5, %p1;
    cvt.u32.u64 %r5, %rd4;
    selp.b64 %rd1, %rd2, %rd3, %p1;
    ld.param.u32 %r6, [size];
    shr.u32 %r11, %r11, %r12;
    and.b32 %r11, %r11, 1;
    setp.ne.u32 %p2, %r11, 0;";

/// One launch: the lane at the edge copies between `near` and `far`, the others far from both.
struct Copy {
    near: u64,
    far: u64,
    size: u32,
    lane: u32,
    active: u32,
    /// Offsets of the other lanes' copies in shared memory (16 bytes further each) and in device
    /// memory.
    rest: (u64, u64),
    shared: u32,
}

impl Copy {
    fn run(&self, bench: &Bench, kernel: &LoadedKernel) -> Result<(), Fault> {
        let params = Params::default()
            .u64(self.near)
            .u64(self.far)
            .u32(self.size);
        let params = params.u32(1 << self.lane).u32(self.active);
        let params = params.u64(self.rest.0).u64(self.rest.1);
        bench.run(kernel, (32, self.shared), &params)
    }
}

fn cp_async(bench: &Bench, bytes: u32, with_size: bool, small: bool) -> LoadedKernel {
    let cache = if bytes == 16 { "cg" } else { "ca" };
    let size = if with_size { ", %r6" } else { "" };
    // An access of one byte makes the shadow's units bytes.
    let byte = if small {
        "@%p7 ld.shared.u8 %r9, [tile];"
    } else {
        ""
    };
    let body = format!(
        "    mov.u32 %r1, tile;\n    setp.ne.u32 %p7, %r1, %r1;\n    {byte}\n{ADDRESSES}\n    @%p2 \
         cp.async.{cache}.shared.global [%r5], [%rd1], {bytes}{size};\n    cp.async.wait_all;"
    );
    bench.kernel(&text(
        80,
        ".extern .shared .align 16 .b8 tile[];",
        PARAMS,
        &body,
    ))
}

/// Dynamic shared memory that holds 32 times 16 bytes for lanes that are not at the edge, and
/// `more`.
const REST: u32 = 512;

#[test]
fn asynchronous_copies_to_the_end_of_shared_memory() {
    let bench = Bench::new(80);
    let far = bench.filled(16);
    for bytes in [4u32, 8, 16] {
        for small in [false, true] {
            let kernel = cp_async(&bench, bytes, false, small);
            for more in [0, 1, bytes - 1, bytes, bytes + 3, 2 * bytes - 1] {
                for lane in LANES {
                    for active in [1 << lane, u32::MAX] {
                        let shared = REST + more;
                        let run = |near: u32| {
                            let copy = Copy {
                                near: near.into(),
                                far,
                                size: bytes,
                                lane,
                                active,
                                rest: (0, far),
                                shared,
                            };
                            copy.run(&bench, &kernel)
                        };
                        let beyond = shared / bytes * bytes;
                        let what = format!(
                            "{bytes} bytes to {beyond} of {shared}, lane {lane} of {active:#x}"
                        );
                        // The last 16 bytes may be another lane's where the edge lies among the
                        // others'.
                        if active != u32::MAX || more >= bytes {
                            legal(run(beyond - bytes), &what);
                        }
                        let wanted = touch(AccessKind::Write, Space::Shared, beyond.into(), bytes);
                        out_of_bounds(run(beyond), wanted, Some(lane), &what);
                    }
                }
            }
        }
    }
}

/// A copy reads `size` bytes, and fills the rest of its own with zeros.
#[test]
fn asynchronous_copies_from_the_end_of_an_allocation() {
    let bench = Bench::new(80);
    let rest = bench.filled(64);
    for bytes in [4u32, 8, 16] {
        for with_size in [false, true] {
            let kernel = cp_async(&bench, bytes, with_size, false);
            for allocated in [1, 3, bytes, bytes + 1, 2 * bytes - 1, 17, 33] {
                let base = bench.filled(allocated.into());
                for size in if with_size { 0..=bytes } else { bytes..=bytes } {
                    for at in (0..allocated + bytes).step_by(bytes as usize) {
                        for lane in LANES {
                            let copy = Copy {
                                near: 512,
                                far: base + u64::from(at),
                                size,
                                lane,
                                active: if at == 0 { 1 << lane } else { u32::MAX },
                                rest: (0, rest),
                                shared: REST + 16,
                            };
                            let result = copy.run(&bench, &kernel);
                            let what = format!(
                                "{size} of {bytes} bytes from {at} of {allocated}, lane {lane}"
                            );
                            if size == 0 || at + size <= allocated {
                                legal(result, &what);
                                continue;
                            }
                            // Sizes that are no power of two are read byte by byte.
                            let wanted = if size.is_power_of_two() {
                                touch(AccessKind::Read, Space::Global, copy.far, size)
                            } else {
                                let first = base + u64::from(at.max(allocated));
                                touch(AccessKind::Read, Space::Global, first, 1)
                            };
                            out_of_bounds(result, wanted, Some(lane), &what);
                        }
                    }
                }
            }
        }
    }
}

/// A thread copies in bulk, once its barrier is there.
fn bulk(bench: &Bench, load: bool) -> LoadedKernel {
    let copy = if load {
        "    @%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], %r6;
    @%p2 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r5], [%rd1], %r6, \
    [bar];"
    } else {
        "    @%p2 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r5], %r6;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;"
    };
    // The barrier lies in the first 16 bytes, the dynamic part behind it.
    let fill = fill_shared("%r12", 0);
    let body = format!(
        "    .shared .align 8 .b64 bar;
    mov.u32 %r1, tile;
{ADDRESSES}
    ld.param.u32 %r11, [active];
    popc.b32 %r11, %r11;
    setp.eq.u32 %p3, %r12, 0;
    @%p3 mbarrier.init.shared::cta.b64 [bar], %r11;
    @%p3 fence.mbarrier_init.release.cluster;
{fill}
    fence.proxy.async;
    bar.sync 0;
{copy}"
    );
    bench.kernel(&text(
        90,
        ".extern .shared .align 128 .b8 tile[];",
        PARAMS,
        &body,
    ))
}

/// Start of the dynamic part of [`bulk`].
const TILE: u32 = 128;

#[test]
fn bulk_copies_at_the_end_of_shared_memory() {
    let bench = Bench::new(90);
    let far = bench.filled(1024);
    for (load, kind) in [(true, AccessKind::Write), (false, AccessKind::Read)] {
        let kernel = bulk(&bench, load);
        for size in [16u32, 32, 48, 256, 1008] {
            for more in [0, 1, 8, 15, 16, 17, 31] {
                for lane in LANES {
                    let shared = size + more;
                    let run = |near: u32| {
                        let copy = Copy {
                            near: near.into(),
                            far,
                            size,
                            lane,
                            active: 1 << lane,
                            rest: (0, far),
                            shared,
                        };
                        copy.run(&bench, &kernel)
                    };
                    let last = TILE + more / 16 * 16;
                    let what = format!("load {load}: {size} bytes, {shared} in all, lane {lane}");
                    legal(run(last), &what);
                    let wanted = touch(kind, Space::Shared, u64::from(last + 16), size);
                    out_of_bounds(run(last + 16), wanted, Some(lane), &what);
                }
            }
        }
    }
}

#[test]
fn bulk_copies_at_the_end_of_an_allocation() {
    let bench = Bench::new(90);
    for (load, kind) in [(true, AccessKind::Read), (false, AccessKind::Write)] {
        let kernel = bulk(&bench, load);
        for size in [16u32, 32, 48, 256, 1008] {
            for more in [0, 1, 8, 15, 16, 17, 31] {
                let base = bench.filled(u64::from(size + more));
                for lane in LANES {
                    let run = |at: u32| {
                        let copy = Copy {
                            near: TILE.into(),
                            far: base + u64::from(at),
                            size,
                            lane,
                            active: 1 << lane,
                            rest: (0, base),
                            shared: 1024,
                        };
                        (copy.far, copy.run(&bench, &kernel))
                    };
                    let last = more / 16 * 16;
                    let what = format!("load {load}: {size} bytes of {}, lane {lane}", size + more);
                    legal(run(last).1, &what);
                    let (far, result) = run(last + 16);
                    let wanted = touch(kind, Space::Global, far, size);
                    out_of_bounds(result, wanted, Some(lane), &what);
                }
            }
        }
    }
}

/// All lanes copy at once: only one of them is at the edge.
#[test]
fn one_lane_of_a_bulk_copy_by_all() {
    let bench = Bench::new(90);
    let rest = bench.filled(64);
    for load in [true, false] {
        let kernel = bulk(&bench, load);
        let base = bench.filled(33);
        for lane in LANES {
            let copy = |near: u32, far: u64| {
                let copy = Copy {
                    near: near.into(),
                    far,
                    size: 16,
                    lane,
                    active: u32::MAX,
                    rest: (TILE.into(), rest),
                    shared: REST + 31,
                };
                copy.run(&bench, &kernel)
            };
            let what = format!("load {load}, lane {lane}");
            let (near, far) = (TILE + REST, base + 16);
            legal(copy(near, far), &what);
            let (here, there) = if load {
                (AccessKind::Write, AccessKind::Read)
            } else {
                (AccessKind::Read, AccessKind::Write)
            };
            let wanted = touch(here, Space::Shared, u64::from(near + 16), 16);
            out_of_bounds(copy(near + 16, far), wanted, Some(lane), &what);
            let wanted = touch(there, Space::Global, far + 16, 16);
            out_of_bounds(copy(near, far + 16), wanted, Some(lane), &what);
        }
    }
}

/// A bulk copy has a multiple of 16 bytes below 2^24, from and to multiples of 16.
#[test]
fn sizes_and_alignments_of_bulk_copies() {
    let bench = Bench::new(90);
    let base = bench.filled(64);
    for load in [true, false] {
        let kernel = bulk(&bench, load);
        let run = |near: u32, far: u64, size: u32| {
            let copy = Copy {
                near: near.into(),
                far,
                size,
                lane: 17,
                active: 1 << 17,
                rest: (0, base),
                shared: 64,
            };
            copy.run(&bench, &kernel)
        };
        legal(run(TILE, base, 32), "aligned");
        for off in [1, 2, 4, 8, 15] {
            for (near, far, at) in [
                (TILE + off, base, u64::from(TILE + off)),
                (TILE, base + u64::from(off), base + u64::from(off)),
            ] {
                let fault = reported(run(near, far, 32), "misaligned");
                let good = matches!(&*fault.kind,
                    FaultKind::Misaligned { touch, align: 16, .. } if touch.address == at);
                assert!(good, "{fault}");
            }
            let fault = reported(run(TILE, base, 16 + off), "no multiple of 16");
            let wanted = AsyncFault::BulkSize { bytes: 16 + off };
            assert!(
                matches!(&*fault.kind, FaultKind::Asynchronous(f) if *f == wanted),
                "{fault}"
            );
        }
        // The largest size is within the rule, though not within shared memory.
        let largest = (1 << 24) - 16;
        // Loads count their bytes first, which a barrier holds 2^20 of.
        if !load {
            let fault = reported(run(TILE, base, largest), "more than there is");
            assert!(
                matches!(&*fault.kind, FaultKind::OutOfBounds { .. }),
                "{fault}"
            );
            let fault = reported(run(TILE, base, 1 << 24), "too large");
            let wanted = AsyncFault::BulkSize { bytes: 1 << 24 };
            assert!(
                matches!(&*fault.kind, FaultKind::Asynchronous(f) if *f == wanted),
                "{fault}"
            );
        }
    }
}

/// A copy of no bytes touches nothing and counts as nothing, behind the last byte of both memories,
/// too.
#[test]
fn bulk_copies_of_no_bytes() {
    let bench = Bench::new(90);
    let base = bench.filled(32);
    for load in [true, false] {
        let kernel = bulk(&bench, load);
        for (near, far) in [
            (TILE, base),
            (TILE + 32, base + 32),
            (TILE + 48, base + 48),
            (1 << 20, 0),
        ] {
            let params = Params::default().u64(near.into()).u64(far).u32(0);
            let params = params.u32(1 << 17).u32(1 << 17).u64(0).u64(base);
            let config = LaunchConfig {
                shared_bytes: 32,
                ..LaunchConfig::linear(1, 32)
            };
            let what = format!("load {load}: from {near:#x} or {far:#x}");
            let counted = bench.launch(&kernel, config, &params);
            let counted = counted.unwrap_or_else(|fault| panic!("{what}\n{fault}"));
            let (loads, stores) = (counted.global_loads, counted.global_stores);
            assert_eq!(
                (loads.requests, loads.sectors, loads.bytes),
                (0, 0, 0),
                "{what}"
            );
            assert_eq!(
                (stores.requests, stores.sectors, stores.bytes),
                (0, 0, 0),
                "{what}"
            );
            let device = (counted.device_bytes_read, counted.device_bytes_written);
            assert_eq!(device, (0, 0), "{what}");
        }
    }
}

/// One lane hands its copies over to a barrier; those of another lane, begun by the same
/// instruction, stay its own.
#[test]
fn copies_of_two_lanes_that_end_differently() {
    let bench = Bench::new(90);
    let far = bench.filled(64);
    let body = "    .shared .align 8 .b64 bar;
    .shared .align 16 .b32 tile[4];
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    ld.param.u64 %rd1, [far];
    setp.eq.u32 %p1, %r2, 1;
    @%p1 mbarrier.init.shared::cta.b64 [bar], 1;
    shl.b32 %r3, %r2, 2;
    add.u32 %r4, %r1, %r3;
    setp.lt.u32 %p2, %r2, 2;
    @%p2 cp.async.ca.shared.global [%r4], [%rd1], 4;
    @%p1 cp.async.mbarrier.arrive.noinc.shared::cta.b64 [bar];
    ld.param.u32 %r5, [waits];
    setp.ne.u32 %p3, %r5, 0;
    @%p3 cp.async.wait_all;
    setp.eq.u32 %p4, %r2, 0;
    @%p4 ld.shared.u32 %r6, [%r4];";
    let kernel = bench.kernel(&text(90, "", ".param .u64 far, .param .u32 waits", body));
    let run = |waits: u32| bench.run(&kernel, (32, 0), &Params::default().u64(far).u32(waits));
    legal(run(1), "lane 0 has waited");
    let fault = reported(run(0), "lane 0 has not waited");
    assert!(
        matches!(&*fault.kind, FaultKind::AsyncCopyPending { .. }),
        "{fault}"
    );
}

/// A commit takes the copies of the lanes that execute it, and no others'.
#[test]
fn commits_of_other_lanes() {
    let bench = Bench::new(80);
    let far = bench.filled(64);
    let body = "    .shared .align 16 .b32 tile[4];
    mov.u32 %r2, %tid.x;
    ld.param.u64 %rd1, [far];
    ld.param.u32 %r5, [by];
    setp.eq.u32 %p1, %r2, 0;
    setp.eq.u32 %p2, %r2, %r5;
    @%p1 cp.async.ca.shared.global [tile], [%rd1], 4;
    @%p2 cp.async.commit_group;
    cp.async.wait_group 0;
    @%p1 ld.shared.u32 %r6, [tile];";
    let kernel = bench.kernel(&text(80, "", ".param .u64 far, .param .u32 by", body));
    let run = |by: u32| bench.run(&kernel, (32, 0), &Params::default().u64(far).u32(by));
    legal(run(0), "its own commit");
    for by in [1, 31, 32] {
        let fault = reported(run(by), "another lane's commit");
        assert!(
            matches!(&*fault.kind, FaultKind::AsyncCopyPending { .. }),
            "{fault}"
        );
    }
    // Another lane that has committed oftener does not count for this one.
    let copy = "    @%p1 cp.async.ca";
    let more = "    @%p2 cp.async.commit_group;\n".repeat(3) + copy;
    let wait = "    cp.async.wait_group 0;";
    let last = "    @%p1 cp.async.commit_group;\n".to_owned() + wait;
    let body = body.replace(copy, &more).replace(wait, &last);
    let kernel = bench.kernel(&text(80, "", ".param .u64 far, .param .u32 by", &body));
    let params = Params::default().u64(far).u32(1);
    legal(
        bench.run(&kernel, (32, 0), &params),
        "commits of both lanes",
    );
}
