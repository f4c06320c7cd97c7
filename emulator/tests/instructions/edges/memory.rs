//! Loads, stores and atomics of one to sixteen bytes, in every space.
use super::accesses::{Access, LOADS, STORES, STRONG};
use super::harness::{Bench, LANES, Params, legal, out_of_bounds, text, touch};
use ptx_emulator::LoadedKernel;
use ptx_emulator::ir::Space;
use ptx_emulator::report::AccessKind;

/// The lanes' addresses: those of `edge` from `at` on, the others from `rest` on, each lane
/// `stride` bytes further.
const PARAMS: &str =
    ".param .u64 at, .param .u64 rest, .param .u64 stride, .param .u32 edge, .param .u32 active";
const ADDRESSES: &str = "
    ld.param.u64 %rd4, [at];
    ld.param.u64 %rd5, [rest];
    ld.param.u64 %rd6, [stride];
    ld.param.u32 %r10, [edge];
    ld.param.u32 %r11, [active];
    mov.u32 %r12, %tid.x;
    shr.u32 %r10, %r10, %r12;
    and.b32 %r10, %r10, 1;
    setp.ne.u32 %p1, %r10, 0;
    selp.b64 %rd1, %rd4, %rd5, %p1;
    cvt.u64.u32 %rd7, %r12;
    mul.lo.u64 %rd7, %rd7, %rd6;
    add.u64 %rd1, %rd1, %rd7;
    shr.u32 %r11, %r11, %r12;
    and.b32 %r11, %r11, 1;
    setp.ne.u32 %p2, %r11, 0;";

/// Accessing lanes, and those of them at the edge.
struct Lanes {
    edge: u32,
    active: u32,
    /// Elements from one lane to the next.
    step: i64,
    /// The lane whose access lies highest; all others lie below, `step` apart, if it is not zero.
    last: u32,
}

fn patterns(row: bool) -> Vec<Lanes> {
    let mut patterns = Vec::new();
    for last in LANES {
        for active in [1 << last, u32::MAX, 0x8002_0003] {
            patterns.push(Lanes {
                edge: 1 << last,
                active,
                step: 0,
                last,
            });
        }
    }
    if row {
        for (active, step, last) in [
            (u32::MAX, 1, 31),
            (0x0003_ffff, 1, 17),
            (u32::MAX, -1, 0),
            (0x5555_5555, 1, 30),
            (u32::MAX, 3, 31),
        ] {
            patterns.push(Lanes {
                edge: u32::MAX,
                active,
                step,
                last,
            });
        }
    }
    patterns
}

/// Memory whose edge is tried: `size` bytes from `base` on.
struct Place {
    space: Space,
    base: u64,
    size: u64,
    /// Addresses of lanes that are not at the edge.
    rest: u64,
    /// Dynamic shared memory of the launch.
    shared: u32,
    /// Parameters behind those of the addresses.
    more: usize,
}

/// Tries an access at the last place inside and at the first outside, whichever lanes do it.
fn check_edge(bench: &Bench, kernel: &LoadedKernel, access: &Access, place: &Place) {
    let bytes = u64::from(access.bytes);
    let inside = place.size / bytes;
    for lanes in patterns(place.size >= 96 * bytes) {
        let stride = lanes.step.wrapping_mul(bytes as i64);
        // The lane `last` lies at the element `element`, wherever lane 0 is then.
        let run = |element: u64| {
            let at = place.base + element * bytes;
            let first = at.wrapping_sub((stride * i64::from(lanes.last)) as u64);
            let params = Params::default()
                .u64(first)
                .u64(place.rest)
                .u64(stride as u64)
                .u32(lanes.edge)
                .u32(lanes.active);
            let params = params.clone().bytes(16, &vec![0; place.more]);
            (at, bench.run(kernel, (32, place.shared), &params))
        };
        let what = |at: u64| {
            format!(
                "`{}` in {:?} at byte {} of {}, lanes {:#x} of {:#x}, step {}",
                access.text,
                place.space,
                at - place.base,
                place.size,
                lanes.edge,
                lanes.active,
                lanes.step
            )
        };
        if inside > 0 {
            let (at, result) = run(inside - 1);
            legal(result, &what(at));
        }
        let (at, result) = run(inside);
        let wanted = touch(access.kind, place.space, at, access.bytes);
        out_of_bounds(result, wanted, Some(lanes.last), &what(at));
    }
}

/// Sizes around an access of so many bytes, and one for rows of a warp with each overhang.
fn sizes(bytes: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> = vec![1, bytes, bytes + 1, 2 * bytes - 1, 2 * bytes, 17, 31, 33];
    sizes.extend([0, 1, bytes - 1].map(|more| 96 * bytes + more));
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn instruction(access: &Access, space: &str) -> String {
    format!("    @%p2 {};", access.text.replace("{}", space))
}

fn for_sm(access: &Access) -> Bench {
    Bench::new(access.sm)
}

#[test]
fn global_memory() {
    for access in LOADS.iter().chain(&STORES).chain(&STRONG) {
        let bench = for_sm(access);
        let rest = bench.filled(4096);
        for space in [".global", ""] {
            let body = format!("{ADDRESSES}\n{}", instruction(access, space));
            let kernel = bench.kernel(&text(access.sm, "", PARAMS, &body));
            for size in sizes(access.bytes.into()) {
                let base = bench.filled(size);
                // The others are in the same allocation, or in another.
                for rest in [base, rest] {
                    if rest == base && size < access.bytes.into() {
                        continue;
                    }
                    let place = Place {
                        space: Space::Global,
                        base,
                        size,
                        rest,
                        shared: 0,
                        more: 0,
                    };
                    check_edge(&bench, &kernel, access, &place);
                }
            }
        }
    }
}

#[test]
fn global_memory_before_its_start() {
    let bench = Bench::new(75);
    let base = bench.filled(64);
    for access in LOADS.iter().chain(&STORES) {
        let body = format!("{ADDRESSES}\n{}", instruction(access, ".global"));
        let kernel = bench.kernel(&text(75, "", PARAMS, &body));
        for lane in LANES {
            for active in [1 << lane, u32::MAX] {
                let at = base - u64::from(access.bytes);
                let params = |at: u64| {
                    let params = Params::default().u64(at).u64(base).u64(0);
                    params.u32(1 << lane).u32(active)
                };
                legal(bench.run(&kernel, (32, 0), &params(base)), access.text);
                let wanted = touch(access.kind, Space::Global, at, access.bytes);
                let result = bench.run(&kernel, (32, 0), &params(at));
                out_of_bounds(result, wanted, Some(lane), access.text);
            }
        }
    }
}

/// Lanes that lie in different allocations do what each would do alone.
#[test]
fn lanes_in_different_allocations() {
    let bench = Bench::new(80);
    let body = "
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    mov.u32 %r1, %tid.x;
    and.b32 %r2, %r1, 1;
    setp.ne.u32 %p1, %r2, 0;
    selp.b64 %rd3, %rd1, %rd2, %p1;
    mul.wide.u32 %rd4, %r1, 4;
    add.u64 %rd5, %rd3, %rd4;
    st.global.u32 [%rd5], %r1;
    ld.global.u32 %r3, [%rd5];
    add.u32 %r3, %r3, 1;
    atom.global.add.u32 %r4, [%rd3+128], %r3;
    st.global.u32 [%rd5], %r3;
    red.global.max.u32 [%rd3+132], %r3;";
    let kernel = bench.kernel(&text(80, "", ".param .u64 a, .param .u64 b", body));
    let (a, b) = (bench.filled(136), bench.filled(136));
    legal(
        bench.run(&kernel, (32, 0), &Params::default().u64(a).u64(b)),
        "lanes in two allocations",
    );
    for (base, odd) in [(a, 1), (b, 0)] {
        let mut bytes = [0; 136];
        bench.memory().read(base, &mut bytes).expect("inside");
        let words: Vec<u32> = bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect();
        let mine = |lane: &u32| lane % 2 == odd;
        for lane in 0..32 {
            let wanted = if mine(&lane) { lane + 1 } else { 0 };
            assert_eq!(words[lane as usize], wanted, "lane {lane}");
        }
        let sum: u32 = (0..32).filter(mine).map(|lane| lane + 1).sum();
        let most = (0..32).filter(mine).map(|lane| lane + 1).max().unwrap_or(0);
        assert_eq!(words[32..], [sum, most]);
    }
}

/// Writes shared memory up to `size`, in words as far as they go or byte by byte, so that its units
/// are that large.
fn fill_shared(size: u64, small: bool) -> String {
    let (unit, shift, count) = if small {
        ("u8", 0, size)
    } else {
        ("u32", 2, size / 4)
    };
    format!(
        "
    mov.u32 %r20, %tid.x;
FILL:
    setp.ge.u32 %p3, %r20, {count};
    @%p3 bra FILLED;
    shl.b32 %r21, %r20, {shift};
    st.shared.{unit} [%r21], 0;
    add.u32 %r20, %r20, 32;
    bra FILL;
FILLED:
    bar.sync 0;"
    )
}

fn check_shared(access: &Access, size: u64, small: bool, generic: bool, fixed: u64) {
    let bench = for_sm(access);
    let variables = ".extern .shared .align 16 .b8 tile[];";
    let space = if generic { "" } else { ".shared" };
    let convert = if generic {
        "cvta.shared.u64 %rd1, %rd1;"
    } else {
        ""
    };
    // The name must be used, else the kernel has no dynamic part.
    let fixed_variable = if fixed > 0 {
        format!("    .shared .align 16 .b8 fixed[{fixed}];\n    mov.u32 %r22, fixed;")
    } else {
        String::new()
    };
    let dynamic = if size > fixed {
        "    mov.u32 %r23, tile;"
    } else {
        ""
    };
    let body = format!(
        "{fixed_variable}\n{dynamic}\n{}\n{ADDRESSES}\n{convert}\n{}",
        fill_shared(size, small),
        instruction(access, space)
    );
    let variables = if size > fixed { variables } else { "" };
    let kernel = bench.kernel(&text(access.sm, variables, PARAMS, &body));
    let place = Place {
        space: Space::Shared,
        base: 0,
        size,
        rest: 0,
        shared: (size - fixed.next_multiple_of(16).min(size)) as u32,
        more: 0,
    };
    if size >= access.bytes.into() {
        check_edge(&bench, &kernel, access, &place);
    }
}

#[test]
fn shared_memory() {
    for access in LOADS.iter().chain(&STORES).chain(&STRONG) {
        for size in sizes(access.bytes.into()) {
            for small in [true, false] {
                // Units of words cannot tell which bytes of a word are written.
                if small || access.bytes >= 4 {
                    for generic in [false, true] {
                        check_shared(access, size, small, generic, 0);
                    }
                }
            }
        }
    }
}

/// The bytes of static variables count as they are declared; the dynamic part begins at the next
/// multiple of 16.
#[test]
fn static_shared_memory_and_both_kinds_together() {
    for access in LOADS.iter().chain(&STORES) {
        let bytes = u64::from(access.bytes);
        for size in [bytes, bytes + 1, 2 * bytes - 1, 17, 33] {
            if size >= bytes {
                check_shared(access, size, true, false, size);
            }
        }
        for (fixed, dynamic) in [(5, 1), (16, 17), (17, 31), (1, 2 * bytes - 1)] {
            let size = u64::next_multiple_of(fixed, 16) + dynamic;
            check_shared(access, size, true, false, fixed);
        }
    }
}

#[test]
fn local_memory() {
    for access in LOADS.iter().chain(&STORES) {
        let bench = for_sm(access);
        for size in sizes(access.bytes.into()) {
            if size < access.bytes.into() {
                continue;
            }
            for generic in [false, true] {
                let (space, convert) = if generic {
                    ("", "    cvta.local.u64 %rd1, %rd1;")
                } else {
                    (".local", "")
                };
                let body = format!(
                    "    .local .align 16 .b8 frame[{size}];\n    mov.u32 %r22, frame;\n\
                    {ADDRESSES}\n{convert}\n{}",
                    instruction(access, space)
                );
                let kernel = bench.kernel(&text(access.sm, "", PARAMS, &body));
                let place = Place {
                    space: Space::Local,
                    base: 0,
                    size,
                    rest: 0,
                    shared: 0,
                    more: 0,
                };
                check_edge(&bench, &kernel, access, &place);
            }
        }
    }
}

#[test]
fn constants() {
    for access in &LOADS {
        let bench = for_sm(access);
        for size in sizes(access.bytes.into()) {
            if size < access.bytes.into() {
                continue;
            }
            for (space, convert) in [(".const", ""), ("", "    cvta.const.u64 %rd8, %rd8;")] {
                let body = format!(
                    "{ADDRESSES}\n    mov.u64 %rd8, table;\n{convert}\n    add.u64 %rd1, %rd1, \
                    %rd8;\n{}",
                    instruction(access, space)
                );
                let variables = format!(".const .align 16 .b8 table[{size}];");
                let module = ptx_emulator::Module::parse(&text(75, &variables, PARAMS, &body));
                let loaded = bench.load(&module.expect("good text"));
                let (base, bytes) = loaded.global("table").expect("the variable");
                assert_eq!(bytes, size);
                let kernel = loaded.kernel("k").expect("the kernel");
                check_relative(&bench, &kernel, access, base, size);
            }
        }
    }
}

/// As [`check_edge`], of addresses that the kernel adds `base` to.
fn check_relative(bench: &Bench, kernel: &LoadedKernel, access: &Access, base: u64, size: u64) {
    let bytes = u64::from(access.bytes);
    for lane in LANES {
        for active in [1 << lane, u32::MAX] {
            let params = |at: u64| {
                let params = Params::default().u64(at).u64(0).u64(0);
                params.u32(1 << lane).u32(active)
            };
            let at = size / bytes * bytes;
            let what = format!("`{}` at byte {at} of {size}", access.text);
            legal(bench.run(kernel, (32, 0), &params(at - bytes)), &what);
            let wanted = touch(access.kind, Space::Global, base + at, access.bytes);
            let result = bench.run(kernel, (32, 0), &params(at));
            out_of_bounds(result, wanted, Some(lane), &what);
        }
    }
}

#[test]
fn kernel_parameters() {
    // The blob is the last parameter, 48 bytes after the first.
    const FIRST: u64 = 32;
    for access in &LOADS {
        let bench = for_sm(access);
        for size in sizes(access.bytes.into()) {
            if size < access.bytes.into() || size > 2048 {
                continue;
            }
            let params = format!("{PARAMS}, .param .align 16 .b8 blob[{size}]");
            for generic in [false, true] {
                let (space, convert) = if generic {
                    ("", "    cvta.param.u64 %rd1, %rd1;")
                } else {
                    (".param", "")
                };
                let body = format!("{ADDRESSES}\n{convert}\n{}", instruction(access, space));
                let kernel = bench.kernel(&text(access.sm, "", &params, &body));
                let place = Place {
                    space: Space::Param,
                    base: 0,
                    size: FIRST + size,
                    rest: 0,
                    shared: 0,
                    more: size as usize,
                };
                check_edge(&bench, &kernel, access, &place);
            }
        }
    }
}

/// Addresses without a register.
#[test]
fn constant_addresses() {
    for (instruction, bytes, kind) in [
        ("ld.shared.u8 %r1, [tile+{}]", 1, AccessKind::Read),
        (
            "ld.shared.v4.u32 {%r1, %r2, %r3, %r4}, [tile+{}]",
            16,
            AccessKind::Read,
        ),
        ("st.shared.u16 [tile+{}], %h1", 2, AccessKind::Write),
        (
            "st.shared.v2.u32 [tile+{}], {%r1, %r1}",
            8,
            AccessKind::Write,
        ),
        (
            "atom.shared.add.u32 %r1, [tile+{}], 1",
            4,
            AccessKind::Atomic,
        ),
    ] {
        for size in sizes(bytes) {
            if size < bytes {
                continue;
            }
            let bench = Bench::new(80);
            let run = |at: u64| {
                let body = format!(
                    "    .shared .align 16 .b8 tile[{size}];\n{}\n    {};",
                    fill_shared(size, true),
                    instruction.replace("{}", &at.to_string())
                );
                let kernel = bench.kernel(&text(80, "", "", &body));
                bench.run(&kernel, (32, 0), &Params::default())
            };
            let at = size / bytes * bytes;
            legal(run(at - bytes), instruction);
            let wanted = touch(kind, Space::Shared, at, bytes as u32);
            out_of_bounds(run(at), wanted, Some(0), instruction);
        }
    }
}
