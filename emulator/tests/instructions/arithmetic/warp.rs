//! Operations of a whole warp: by all lanes, by every second lane on a path of its own, and by
//! lanes of both paths together. Each is compared with the PTX ISA's rules for the lanes that take
//! part.

use ptx_emulator::{Device, DeviceConfig, FaultKind, LaunchConfig, Module};

use super::harness::*;

/// Runs `code` for whole warps, with the even and the odd lanes apart, and with both at
/// instructions of their own that name all lanes. `MASK` in it stands for the lanes that take part;
/// `%i0`, `%i1` and `%i2` are the lower halves of the operands.
fn check(
    code: &str,
    operands: [Type; 3],
    inputs: &[[u64; 3]],
    expected: impl Fn(&[[u64; 3]], u32, usize) -> u64,
) {
    assert_eq!(inputs.len() % 32, 0);
    let part = |mask: &str| code.replace("MASK", mask);
    let halves = "cvt.u32.u64 %i0, %a;\ncvt.u32.u64 %i1, %b;\ncvt.u32.u64 %i2, %c;\n";
    let paths = |even: &str, odd: &str| {
        let (even, odd) = (part(even), part(odd));
        format!(
            "{halves}and.b32 %i4, %i3, 1;\nsetp.eq.u32 %q, %i4, 0;\n@%q bra EVEN;\n{odd}\nbra \
            DONE;\nEVEN:\n{even}\nDONE:"
        )
    };
    let apart = paths("0x55555555", "0xaaaaaaaa");
    let met = paths("0xffffffff", "0xffffffff");
    let all = halves.to_owned() + &part("0xffffffff");
    let texts = [
        (&all, [u32::MAX; 2]),
        (&apart, [0x5555_5555, 0xaaaa_aaaa]),
        (&met, [u32::MAX; 2]),
    ];
    for (text, members) in texts {
        let got = run(text, B64, operands, inputs);
        for (at, got) in got.iter().enumerate() {
            let (warp, lane) = (&inputs[at / 32 * 32..][..32], at % 32);
            let members = members[lane % 2];
            let want = expected(warp, members, lane);
            assert_eq!(*got, want, "{text}\nlane {lane} of {members:#x}: {warp:x?}");
        }
    }
}

/// The lanes of a mask.
fn lanes(members: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |lane| members >> lane & 1 == 1)
}

/// Lanes that take part whose first operand is `value`, as bits.
fn equal(warp: &[[u64; 3]], members: u32, value: u64) -> u64 {
    lanes(members)
        .filter(|&lane| warp[lane][0] == value)
        .map(|lane| 1 << lane)
        .sum()
}

/// Warps whose first operands are all alike, nearly so, of few kinds, and of any.
fn warps(kinds: impl Fn(usize, u64) -> u64) -> Vec<[u64; 3]> {
    let any = random(32 * 40, u64::MAX);
    let each = any.iter().enumerate();
    each.map(|(at, &[a, b, c])| [kinds(at, a), b, c]).collect()
}

fn of_few_kinds(at: usize, value: u64) -> u64 {
    match at / 32 % 4 {
        0 => 1,
        1 => u64::from(at % 32 != at / 32),
        2 => value % 3,
        _ => value % 2,
    }
}

/// The source lane and whether it is in range, of offset `b` and of clamp and segments in `c`.
fn source(mode: &str, lane: i64, b: u64, c: u64) -> (usize, bool) {
    let (offset, clamp, segments) = ((b & 31) as i64, (c & 31) as i64, (c >> 8 & 31) as i64);
    let (least, most) = (
        lane & segments,
        (lane & segments) | (clamp & !segments & 31),
    );
    let from = match mode {
        "up" => lane - offset,
        "down" => lane + offset,
        "bfly" => lane ^ offset,
        _ => least | (offset & !segments & 31),
    };
    let inside = if mode == "up" {
        from >= most
    } else {
        from <= most
    };
    (if inside { from } else { lane } as usize, inside)
}

#[test]
fn shuffles_take_the_lanes_that_the_isa_says() {
    // Segments of 32, 16, 8 and 4 lanes with the clamps that `__shfl_sync` gives, and any clamp.
    let mut inputs = random(32 * 60, u64::MAX);
    for (at, input) in inputs.iter_mut().enumerate() {
        let segments = [0, 16, 24, 28, 7][at / 32 % 5] << 8;
        let clamp = [0, 31, input[2] & 31][at / 160 % 3];
        input[2] = segments | clamp | input[2] & !0x1f1f;
    }
    for mode in ["up", "down", "bfly", "idx"] {
        let code = format!(
            "shfl.sync.{mode}.b32 %i5|%p, %i0, %i1, %i2, MASK;\nselp.u32 %i4, 1, 0, %p;\nmov.b64 \
            %d, {{%i5, %i4}};"
        );
        check(&code, [B64; 3], &inputs, |warp, _, lane| {
            let (from, inside) = source(mode, lane as i64, warp[lane][1], warp[lane][2]);
            // Of a lane that takes no part the ISA promises nothing; here it is what the lane
            // holds.
            warp[from][0] & 0xffff_ffff | u64::from(inside) << 32
        });
    }
}

#[test]
fn votes_are_of_the_lanes_that_take_part() {
    let inputs = warps(of_few_kinds);
    for (mode, holds) in [
        (
            "all",
            (|for_it, members| for_it == members) as fn(u64, u64) -> bool,
        ),
        ("any", |for_it, _| for_it != 0),
        ("uni", |for_it, members| for_it == 0 || for_it == members),
    ] {
        for negated in ["", "!"] {
            let code = format!(
                "setp.eq.u64 %p, %a, 1;\nvote.sync.{mode}.pred %q, {negated}%p, MASK;\nselp.u64 \
                %d, 1, 0, %q;"
            );
            check(&code, [B64; 3], &inputs, |warp, members, _| {
                let for_it = equal(warp, members, 1);
                let members = u64::from(members);
                let for_it = if negated.is_empty() {
                    for_it
                } else {
                    for_it ^ members
                };
                u64::from(holds(for_it, members))
            });
        }
    }
    let code = "setp.eq.u64 %p, %a, 1;\nvote.sync.ballot.b32 %i5, %p, MASK;\ncvt.u64.u32 %d, %i5;";
    check(code, [B64; 3], &inputs, |warp, members, _| {
        equal(warp, members, 1)
    });
}

#[test]
fn matches_are_of_the_lanes_that_take_part() {
    // Values that differ in their upper halves only, too.
    for shift in [0, 32] {
        let inputs = warps(|at, value| of_few_kinds(at, value) << shift);
        let all = |warp: &[[u64; 3]], members: u32| {
            let first = lanes(members).next().expect("some lane");
            let same = equal(warp, members, warp[first][0]) == u64::from(members);
            if same {
                u64::from(members) | 1 << 32
            } else {
                0
            }
        };
        let any = |warp: &[[u64; 3]], members, lane: usize| equal(warp, members, warp[lane][0]);
        let pair = "selp.u32 %i4, 1, 0, %p;\nmov.b64 %d, {%i5, %i4};";
        let code = format!("match.all.sync.b64 %i5|%p, %a, MASK;\n{pair}");
        check(&code, [B64; 3], &inputs, |warp, members, _| {
            all(warp, members)
        });
        let code = "match.any.sync.b64 %i5, %a, MASK;\ncvt.u64.u32 %d, %i5;";
        check(code, [B64; 3], &inputs, any);
        if shift == 0 {
            let code = format!("match.all.sync.b32 %i5|%p, %i0, MASK;\n{pair}");
            check(&code, [B64; 3], &inputs, |warp, members, _| {
                all(warp, members)
            });
            let code = "match.any.sync.b32 %i5, %i0, MASK;\ncvt.u64.u32 %d, %i5;";
            check(code, [B64; 3], &inputs, any);
        }
    }
}

#[test]
fn reductions_are_of_the_lanes_that_take_part() {
    let inputs = warps(|_, value| value);
    type Both = fn(u32, u32) -> u32;
    let operations: [(&str, Both); 8] = [
        ("add.s32", |a, b| a.wrapping_add(b)),
        ("and.b32", |a, b| a & b),
        ("or.b32", |a, b| a | b),
        ("xor.b32", |a, b| a ^ b),
        ("min.u32", |a, b| a.min(b)),
        ("max.u32", |a, b| a.max(b)),
        ("min.s32", |a, b| (a as i32).min(b as i32) as u32),
        ("max.s32", |a, b| (a as i32).max(b as i32) as u32),
    ];
    for (operation, both) in operations {
        let code = format!("redux.sync.{operation} %i5, %i0, MASK;\ncvt.u64.u32 %d, %i5;");
        check(&code, [B64; 3], &inputs, |warp, members, _| {
            let values = lanes(members).map(|lane| warp[lane][0] as u32);
            u64::from(values.reduce(both).expect("some lane"))
        });
    }
}

#[test]
fn one_lane_is_elected() {
    let inputs = warps(|_, value| value);
    let code = "elect.sync %i5|%p, MASK;\nselp.u32 %i4, 1, 0, %p;\nmov.b64 %d, {%i5, %i4};";
    check(code, [B64; 3], &inputs, |_, members, lane| {
        // Which one is not said; here it is the first.
        let leader = members.trailing_zeros() as usize;
        leader as u64 | u64::from(lane == leader) << 32
    });
}

/// A mask names the lane that gives it, and all lanes that it names give the same.
#[test]
fn masks_that_differ_or_leave_out_a_lane_are_reported() {
    let wrong = |mask: &str, use_it: &str| {
        let text = format!(
            ".version 8.1\n.target sm_90\n.address_size 64\n.visible .entry k()\n{{\n.reg .pred \
            %p<2>;\n.reg .b32 %r<4>;\nmov.u32 %r1, %tid.x;\n{mask}\n{use_it}\nret;\n}}"
        );
        let module = Module::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let device = Device::new(DeviceConfig::new(90));
        let loaded = device.load(&module).expect("the module fits");
        let kernel = loaded.kernel("k").expect("the kernel");
        let result = device.launch(&kernel, LaunchConfig::linear(1, 32), &[]);
        *result.expect_err("the mask is wrong").kind
    };
    for (mask, named) in [
        // Lane 7 is left out.
        ("mov.u32 %r2, 0xffffff7f;", 0xffff_ff7f),
        // The last lane gives a mask of its own.
        (
            "setp.eq.u32 %p1, %r1, 31;\nselp.u32 %r2, 0x80000000, 0xffffffff, %p1;",
            u32::MAX,
        ),
    ] {
        for use_it in [
            "vote.sync.ballot.b32 %r3, 1, %r2;",
            "bar.warp.sync %r2;",
            "redux.sync.add.u32 %r3, %r1, %r2;",
        ] {
            let active = u32::MAX;
            let want = FaultKind::BadWarpMask { named, active };
            assert_eq!(wrong(mask, use_it), want, "{mask} {use_it}");
        }
    }
    // The guard keeps half of the lanes from coming.
    let half = "setp.lt.u32 %p1, %r1, 16;";
    for use_it in [
        "@%p1 vote.sync.ballot.b32 %r3, 1, 0xffffffff;",
        "@%p1 bar.warp.sync 0xffffffff;",
    ] {
        let (named, active) = (u32::MAX, 0xffff);
        let want = FaultKind::DivergentWarp { named, active };
        assert_eq!(wrong(half, use_it), want, "{use_it}");
    }
}

#[test]
fn lanes_know_their_place() {
    let inputs = random(32 * 8, u64::MAX);
    type Place = fn(u32, u32) -> u32;
    let places: [(&str, Place); 8] = [
        ("laneid", |_, lane| lane),
        ("warpid", |warp, _| warp),
        ("nwarpid", |_, _| 8),
        ("lanemask_eq", |_, lane| 1 << lane),
        ("lanemask_lt", |_, lane| (0..lane).map(|i| 1 << i).sum()),
        ("lanemask_le", |_, lane| (0..=lane).map(|i| 1 << i).sum()),
        ("lanemask_gt", |_, lane| {
            (lane + 1..32).map(|i| 1 << i).sum()
        }),
        ("lanemask_ge", |_, lane| (lane..32).map(|i| 1 << i).sum()),
    ];
    for (name, place) in places {
        let got = run(&format!("mov.u32 %d, %{name};"), B32, [B32; 3], &inputs);
        for (at, got) in got.iter().enumerate() {
            let want = place(at as u32 / 32, at as u32 % 32);
            assert_eq!(*got as u32, want, "{name} of thread {at}");
        }
    }
}
