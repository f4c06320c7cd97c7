//! f16 and bf16.

// References go through f32: the `half` crate drops the low bits of an f64.
use half::{bf16, f16};

use super::exact::{sticky, sticky_f32, two_sum};
use super::harness::*;

const HALVES: [Type; 3] = [B16; 3];

/// f16 values where arithmetic goes wrong first.
fn special_f16() -> Vec<u64> {
    let positive = [
        0u16, 1, 0x3ff, 0x400, 0x401, 0x2e66, 0x3800, 0x3bff, 0x3c00, 0x3c01, 0x4000, 0x4248,
        0x7bff, 0x7c00, 0x7e00,
    ];
    positive
        .iter()
        .flat_map(|&bits| [bits, bits | 0x8000])
        .map(u64::from)
        .collect()
}

/// bf16 values likewise.
fn special_bf16() -> Vec<u64> {
    let positive = [
        0u16, 1, 0x7f, 0x80, 0x81, 0x3dcd, 0x3f00, 0x3f7f, 0x3f80, 0x3f81, 0x4000, 0x4049, 0x7f7f,
        0x7f80, 0x7fc0,
    ];
    positive
        .iter()
        .flat_map(|&bits| [bits, bits | 0x8000])
        .map(u64::from)
        .collect()
}

fn h(bits: u64) -> f64 {
    f16::from_bits(bits as u16).to_f64()
}

fn b(bits: u64) -> f64 {
    bf16::from_bits(bits as u16).to_f64()
}

/// `a * b + c` such that one rounding to half precision gives the right result.
fn fused(a: f64, b: f64, c: f64) -> f64 {
    let (sum, rest) = two_sum(a * b, c);
    sticky(sum, rest)
}

fn f16s(code: &str, operands: [Type; 3], inputs: &[[u64; 3]], expected: impl Fn([u64; 3]) -> f16) {
    let same = |a: &f16, b: &f16| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    check(
        code,
        B16,
        operands,
        inputs,
        |bits| f16::from_bits(bits as u16),
        same,
        expected,
    );
}

fn bf16s(
    code: &str,
    operands: [Type; 3],
    inputs: &[[u64; 3]],
    expected: impl Fn([u64; 3]) -> bf16,
) {
    let same = |a: &bf16, b: &bf16| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    check(
        code,
        B16,
        operands,
        inputs,
        |bits| bf16::from_bits(bits as u16),
        same,
        expected,
    );
}

#[test]
fn half_arithmetic_rounds_once() {
    let inputs = triples(&special_f16(), 0xffff);
    f16s("add.rn.f16 %d, %a, %b;", HALVES, &inputs, |[x, y, _]| {
        f16::from_f32(sticky_f32(h(x) + h(y)))
    });
    f16s("sub.rn.f16 %d, %a, %b;", HALVES, &inputs, |[x, y, _]| {
        f16::from_f32(sticky_f32(h(x) - h(y)))
    });
    f16s("mul.rn.f16 %d, %a, %b;", HALVES, &inputs, |[x, y, _]| {
        f16::from_f32(sticky_f32(h(x) * h(y)))
    });
    f16s(
        "fma.rn.f16 %d, %a, %b, %c;",
        HALVES,
        &inputs,
        |[x, y, z]| f16::from_f32(sticky_f32(fused(h(x), h(y), h(z)))),
    );
    f16s("neg.f16 %d, %a;", HALVES, &inputs, |[x, ..]| {
        -f16::from_bits(x as u16)
    });
    f16s("abs.f16 %d, %a;", HALVES, &inputs, |[x, ..]| {
        f16::from_bits(x as u16 & 0x7fff)
    });
}

#[test]
fn packed_halves_are_two() {
    let inputs = random(4000, 0xffff_ffff);
    let split = |bits: u64| [bits as u16, (bits >> 16) as u16];
    let code = "fma.rn.f16x2 %d, %a, %b, %c;";
    let decode = |bits: u64| split(bits).map(f16::from_bits);
    let same = |a: &[f16; 2], b: &[f16; 2]| {
        a.iter()
            .zip(b)
            .all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
    };
    check(code, B32, [B32; 3], &inputs, decode, same, |[x, y, z]| {
        let lane = |shift: u32| {
            let part = |bits: u64| h(bits >> shift);
            f16::from_f32(sticky_f32(fused(part(x), part(y), part(z))))
        };
        [lane(0), lane(16)]
    });
}

#[test]
fn bfloat_arithmetic_rounds_once() {
    let inputs = triples(&special_bf16(), 0xffff);
    bf16s(
        "fma.rn.bf16 %d, %a, %b, %c;",
        HALVES,
        &inputs,
        |[x, y, z]| bf16::from_f32(sticky_f32(fused(b(x), b(y), b(z)))),
    );
    bf16s("add.rn.bf16 %d, %a, %b;", HALVES, &inputs, |[x, y, _]| {
        bf16::from_f32(sticky_f32(fused(b(x), 1.0, b(y))))
    });
    bf16s("mul.rn.bf16 %d, %a, %b;", HALVES, &inputs, |[x, y, _]| {
        bf16::from_f32(sticky_f32(b(x) * b(y)))
    });
    bf16s("neg.bf16 %d, %a;", HALVES, &inputs, |[x, ..]| {
        -bf16::from_bits(x as u16)
    });
}

#[test]
fn floats_become_halves_and_back() {
    let mut inputs = singles(&special_f32());
    inputs.extend(random(4000, 0xffff_ffff));
    // Around every tie of f16's normal numbers.
    inputs.extend((0..4000u64).map(|n| [0x3f80_0000 + n * 0x1000 + (n % 3), 0, 0]));
    f16s("cvt.rn.f16.f32 %d, %a;", [F32; 3], &inputs, |[a, ..]| {
        f16::from_f32(f(a))
    });
    bf16s("cvt.rn.bf16.f32 %d, %a;", [F32; 3], &inputs, |[a, ..]| {
        bf16::from_f32(f(a))
    });
    bf16s("cvt.rz.bf16.f32 %d, %a;", [F32; 3], &inputs, |[a, ..]| {
        let a = f(a);
        if a.is_nan() {
            bf16::NAN
        } else {
            bf16::from_bits((a.to_bits() >> 16) as u16)
        }
    });
    let halves: Vec<[u64; 3]> = (0..=0xffff).map(|bits| [bits, 0, 0]).collect();
    f32s("cvt.f32.f16 %d, %a;", HALVES, &halves, |[a, ..]| {
        f16::from_bits(a as u16).to_f32()
    });
    f32s("cvt.f32.bf16 %d, %a;", HALVES, &halves, |[a, ..]| {
        bf16::from_bits(a as u16).to_f32()
    });
}

#[test]
fn pairs_of_floats_are_packed() {
    let mut inputs = pairs(&special_f32());
    inputs.extend(random(4000, 0xffff_ffff));
    let numbers: Vec<[u64; 3]> = inputs
        .into_iter()
        .filter(|[x, y, _]| !f(*x).is_nan() && !f(*y).is_nan())
        .collect();
    let packed = |high: u16, low: u16| (u64::from(high) << 16) | u64::from(low);
    integers(
        "cvt.rn.f16x2.f32 %d, %a, %b;",
        B32,
        [F32; 3],
        &numbers,
        |[x, y, _]| packed(f16::from_f32(f(x)).to_bits(), f16::from_f32(f(y)).to_bits()),
    );
    integers(
        "cvt.rn.bf16x2.f32 %d, %a, %b;",
        B32,
        [F32; 3],
        &numbers,
        |[x, y, _]| {
            packed(
                bf16::from_f32(f(x)).to_bits(),
                bf16::from_f32(f(y)).to_bits(),
            )
        },
    );
}

#[test]
fn half_comparisons_are_those_of_numbers() {
    let inputs = pairs(&special_f16());
    for (name, test) in [
        ("lt", (|x, y| x < y) as fn(f64, f64) -> bool),
        ("eq", |x, y| x == y),
        ("geu", |x, y| !(x < y)),
    ] {
        let code = format!("setp.{name}.f16 %p, %a, %b;\n    selp.u32 %d, 1, 0, %p;");
        integers(&code, B32, HALVES, &inputs, |[x, y, _]| {
            u64::from(test(h(x), h(y)))
        });
    }
    f16s(
        "max.f16 %d, %a, %b;",
        HALVES,
        &pairs(&special_f16()),
        |[x, y, _]| {
            let (a, b) = (f16::from_bits(x as u16), f16::from_bits(y as u16));
            match (a.is_nan(), b.is_nan()) {
                (true, _) => b,
                (_, true) => a,
                _ if a == b => {
                    if a.is_sign_negative() {
                        b
                    } else {
                        a
                    }
                }
                _ => {
                    if a > b {
                        a
                    } else {
                        b
                    }
                }
            }
        },
    );
}

/// Packed operations are the single ones of each half: what those give is compared with Rust's
/// arithmetic above and below.
#[test]
fn packed_operations_are_two_single_ones() {
    let mut inputs = random(2000, 0xffff_ffff);
    let special = special_f16();
    for (i, input) in inputs.iter_mut().enumerate().take(1000) {
        let pick = |n: usize| special[n % special.len()] | special[n / 7 % special.len()] << 16;
        *input = [pick(i), pick(3 * i + 1), pick(11 * i + 5)];
    }
    for (code, ty) in [
        ("add.rn.TY %d, %a, %b;", "f16"),
        ("sub.rn.TY %d, %a, %b;", "f16"),
        ("mul.rn.TY %d, %a, %b;", "f16"),
        ("add.rn.sat.TY %d, %a, %b;", "f16"),
        ("mul.rn.ftz.TY %d, %a, %b;", "f16"),
        ("fma.rn.sat.TY %d, %a, %b, %c;", "f16"),
        ("fma.rn.relu.TY %d, %a, %b, %c;", "f16"),
        ("min.TY %d, %a, %b;", "f16"),
        ("max.TY %d, %a, %b;", "f16"),
        ("abs.TY %d, %a;", "f16"),
        ("neg.TY %d, %a;", "f16"),
        ("add.rn.TY %d, %a, %b;", "bf16"),
        ("sub.rn.TY %d, %a, %b;", "bf16"),
        ("mul.rn.TY %d, %a, %b;", "bf16"),
        ("fma.rn.relu.TY %d, %a, %b, %c;", "bf16"),
        ("min.TY %d, %a, %b;", "bf16"),
        ("max.TY %d, %a, %b;", "bf16"),
        ("abs.TY %d, %a;", "bf16"),
        ("neg.TY %d, %a;", "bf16"),
    ] {
        let single = |shift: u32| {
            let inputs: Vec<[u64; 3]> = inputs
                .iter()
                .map(|input| input.map(|bits| bits >> shift & 0xffff))
                .collect();
            run(&code.replace("TY", ty), B16, HALVES, &inputs)
        };
        let packed = run(
            &code.replace("TY", &format!("{ty}x2")),
            B32,
            [B32; 3],
            &inputs,
        );
        for (((got, low), high), input) in packed.iter().zip(single(0)).zip(single(16)).zip(&inputs)
        {
            let want = low & 0xffff | (high & 0xffff) << 16;
            assert_eq!(got & 0xffff_ffff, want, "{code} {ty}x2 of {input:x?}");
        }
    }
}

/// `.sat` keeps results within 0 and 1, `.relu` above 0; NaN becomes 0 by the one and stays by the
/// other.
#[test]
fn half_results_are_kept_within_bounds() {
    let mut inputs = triples(&special_f16(), 0xffff);
    // Zeros of both signs, which leave by the lower bound.
    inputs.extend(pairs(&special_f16()));
    let exact = |[x, y, z]: [u64; 3]| f16::from_f32(sticky_f32(fused(h(x), h(y), h(z))));
    let sum = |[x, y, _]: [u64; 3]| f16::from_f32(sticky_f32(fused(h(x), 1.0, h(y))));
    let saturated = |value: f16| match value.to_f32() {
        value if value > 0.0 => f16::from_f32(value.min(1.0)),
        _ => f16::ZERO,
    };
    f16s("add.rn.sat.f16 %d, %a, %b;", HALVES, &inputs, |input| {
        saturated(sum(input))
    });
    f16s("fma.rn.sat.f16 %d, %a, %b, %c;", HALVES, &inputs, |input| {
        saturated(exact(input))
    });
    // Whether minus zero is below zero is not said; where the result is one, either will do.
    let positive = |value: f16, got: f16| match value.to_f32() {
        value if value.is_nan() => got.is_nan(),
        value if value > 0.0 => got == f16::from_f32(value),
        _ => got == f16::ZERO,
    };
    let code = "fma.rn.relu.f16 %d, %a, %b, %c;";
    for (input, bits) in inputs.iter().zip(run(code, B16, HALVES, &inputs)) {
        let got = f16::from_bits(bits as u16);
        assert!(
            positive(exact(*input), got),
            "{code} of {input:x?} is {got}"
        );
    }
}

/// `set` writes ones of the destination's kind: all bits of an integer, 1.0 of a real.
#[test]
fn comparisons_are_written_as_numbers() {
    let inputs: Vec<[u64; 3]> = random(300, u64::MAX)
        .into_iter()
        .flat_map(|[a, b, c]| [[a, b, c], [a, a, c]])
        .collect();
    for (to, register, one) in [
        ("u32", B32, 0xffff_ffff),
        ("s32", B32, 0xffff_ffff),
        ("f32", B32, 0x3f80_0000),
    ] {
        let code = format!("set.lt.{to}.s32 %d, %a, %b;");
        integers(&code, register, [B32; 3], &inputs, |[a, b, _]| {
            if (a as i32) < (b as i32) { one } else { 0 }
        });
        let code = format!("setp.gt.s32 %p, %c, 0;\nset.eq.and.{to}.u32 %d, %a, %b, %p;");
        integers(&code, register, [B32; 3], &inputs, |[a, b, c]| {
            if a as u32 == b as u32 && c as i32 > 0 {
                one
            } else {
                0
            }
        });
    }
    for (ty, one) in [("f16", 0x3c00u64), ("bf16", 0x3f80)] {
        let less = |a: u64, b: u64| {
            let value = |bits: u64| match ty {
                "f16" => f16::from_bits(bits as u16).to_f32(),
                _ => bf16::from_bits(bits as u16).to_f32(),
            };
            if value(a) < value(b) { one } else { 0 }
        };
        let code = format!("set.lt.{ty}x2.{ty}x2 %d, %a, %b;");
        integers(&code, B32, [B32; 3], &inputs, |[a, b, _]| {
            less(a, b) | less(a >> 16, b >> 16) << 16
        });
    }
}

/// `.ftz` takes subnormal halves for zeros of their sign, as operands and as results.
#[test]
fn subnormal_halves_are_flushed_when_asked() {
    let flush = |bits: u64| {
        if bits & 0x7c00 == 0 {
            bits & 0x8000
        } else {
            bits
        }
    };
    let mut inputs = triples(&special_f16(), 0xffff);
    inputs.extend(pairs(&special_f16()));
    // Small operands with others that bring them back into range, and the other way round.
    inputs.extend(
        random(4000, 0x83ff)
            .into_iter()
            .map(|[a, b, c]| [a, b | 0x7000, c]),
    );
    inputs.extend(random(4000, 0x8fff));
    type Exact = fn([f64; 3]) -> f64;
    let operations: [(&str, Exact); 4] = [
        ("add.rn.ftz.f16 %d, %a, %b;", |[x, y, _]| fused(x, 1.0, y)),
        ("sub.rn.ftz.f16 %d, %a, %b;", |[x, y, _]| fused(x, 1.0, -y)),
        ("mul.rn.ftz.f16 %d, %a, %b;", |[x, y, _]| x * y),
        ("fma.rn.ftz.f16 %d, %a, %b, %c;", |[x, y, z]| fused(x, y, z)),
    ];
    for (code, exact) in operations {
        f16s(code, HALVES, &inputs, |input| {
            let result = exact(input.map(|bits| h(flush(bits & 0xffff))));
            let rounded = f16::from_f32(sticky_f32(result));
            f16::from_bits(flush(rounded.to_bits().into()) as u16)
        });
    }
}
