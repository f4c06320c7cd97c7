//! `cvt`: between numbers of every kind.

use super::exact::{Round, round_f32, saturate};
use super::harness::*;

/// A whole number's type: name, register, bits, signed.
const INTEGERS: [(&str, Type, u32, bool); 8] = [
    ("u8", B32, 8, false),
    ("s8", B32, 8, true),
    ("u16", B16, 16, false),
    ("s16", B16, 16, true),
    ("u32", B32, 32, false),
    ("s32", B32, 32, true),
    ("u64", B64, 64, false),
    ("s64", B64, 64, true),
];

/// The range of a type.
fn range(bits: u32, signed: bool) -> (i128, i128) {
    if signed {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

/// A value of a type from the low bits of an operand.
fn value(raw: u64, bits: u32, signed: bool) -> i128 {
    let shift = 64 - bits;
    if signed {
        i128::from(((raw << shift) as i64) >> shift)
    } else {
        i128::from(raw << shift >> shift)
    }
}

#[test]
fn floats_become_integers() {
    type Rounding = fn(f64) -> f64;
    let roundings: [(&str, Rounding); 4] = [
        ("rni", f64::round_ties_even),
        ("rzi", f64::trunc),
        ("rmi", f64::floor),
        ("rpi", f64::ceil),
    ];
    let mut inputs = singles(&special_f32());
    inputs.extend(random(2000, 0xffff_ffff));
    inputs.extend((0..200).map(|n| [u64::from((n as f32 * 0.25 - 25.0).to_bits()), 0, 0]));
    for (name, register, bits, signed) in INTEGERS {
        let (low, high) = range(bits, signed);
        for (rounding, round) in roundings {
            // A register wider than the type holds the value extended.
            integers(
                &format!("cvt.{rounding}.{name}.f32 %d, %a;"),
                register,
                [F32; 3],
                &inputs,
                |[a, ..]| {
                    let a = f64::from(f(a));
                    let whole = if a.is_nan() {
                        0
                    } else {
                        round(a).clamp(-3e38, 3e38) as i128
                    };
                    // NaN gives 0 in types of up to 32 bits, the highest bit alone in wider ones.
                    if a.is_nan() && bits == 64 {
                        return 1 << 63;
                    }
                    whole.clamp(low, high) as u64
                },
            );
        }
    }
}

#[test]
fn doubles_become_integers() {
    let mut inputs = singles(&special_f64());
    inputs.extend(random(2000, u64::MAX));
    for (name, register, bits, signed) in INTEGERS {
        let (low, high) = range(bits, signed);
        integers(
            &format!("cvt.rzi.{name}.f64 %d, %a;"),
            register,
            [F64; 3],
            &inputs,
            |[a, ..]| {
                let a = d(a);
                // NaN gives the highest bit alone.
                let highest = if signed { low } else { 1 << (bits - 1) };
                let whole = if a.is_nan() {
                    highest
                } else {
                    a.clamp(-1e38, 1e38) as i128
                };
                whole.clamp(low, high) as u64
            },
        );
    }
}

#[test]
fn integers_become_floats() {
    let mut inputs = singles(&special_integers());
    inputs.extend(random(2000, u64::MAX));
    for (name, register, bits, signed) in INTEGERS.into_iter().filter(|row| row.2 >= 16) {
        for (mode, rounding) in Round::ALL {
            f32s(
                &format!("cvt.{rounding}.f32.{name} %d, %a;"),
                [register; 3],
                &inputs,
                |[a, ..]| {
                    let value = value(a, bits, signed);
                    let near = value as f64;
                    let rest = (value - near as i128) as f64;
                    round_f32(near, rest, mode)
                },
            );
        }
        f64s(
            &format!("cvt.rn.f64.{name} %d, %a;"),
            [register; 3],
            &inputs,
            |[a, ..]| value(a, bits, signed) as f64,
        );
    }
}

#[test]
fn integers_become_narrower_and_wider() {
    let mut inputs = singles(&special_integers());
    inputs.extend(random(2000, u64::MAX));
    for (from, from_register, from_bits, from_signed) in
        INTEGERS.into_iter().filter(|row| row.2 >= 16)
    {
        for (to, to_register, to_bits, to_signed) in INTEGERS {
            let (low, high) = range(to_bits, to_signed);
            let wrap = |[a, ..]: [u64; 3]| {
                value(value(a, from_bits, from_signed) as u64, to_bits, to_signed) as u64
            };
            let clamp =
                |[a, ..]: [u64; 3]| value(a, from_bits, from_signed).clamp(low, high) as u64;
            let registers = [from_register; 3];
            integers(
                &format!("cvt.{to}.{from} %d, %a;"),
                to_register,
                registers,
                &inputs,
                wrap,
            );
            if to != from {
                integers(
                    &format!("cvt.sat.{to}.{from} %d, %a;"),
                    to_register,
                    registers,
                    &inputs,
                    clamp,
                );
            }
        }
    }
}

#[test]
fn doubles_become_floats_and_back() {
    let mut inputs = singles(&special_f64());
    inputs.extend(random(4000, u64::MAX));
    for (mode, rounding) in Round::ALL {
        f32s(
            &format!("cvt.{rounding}.f32.f64 %d, %a;"),
            [F64; 3],
            &inputs,
            |[a, ..]| round_f32(d(a), 0.0, mode),
        );
    }
    let floats = singles(&special_f32());
    f64s("cvt.f64.f32 %d, %a;", [F32; 3], &floats, |[a, ..]| {
        f64::from(f(a))
    });
    f32s("cvt.sat.f32.f32 %d, %a;", [F32; 3], &floats, |[a, ..]| {
        saturate(f(a))
    });
    f32s("cvt.rni.f32.f32 %d, %a;", [F32; 3], &floats, |[a, ..]| {
        f(a).round_ties_even()
    });
    f32s("cvt.rpi.f32.f32 %d, %a;", [F32; 3], &floats, |[a, ..]| {
        f(a).ceil()
    });
}

/// A number rounded to ten bits after the point, subnormal ones to multiples of 2^-136; `finite`
/// keeps what is too large below infinity.
fn to_tf32(x: f32, round: fn(f64) -> f64, relu: bool, finite: bool) -> f32 {
    if x.is_nan() || x.is_infinite() && !finite {
        return if relu && x < 0.0 { 0.0 } else { x };
    }
    let x = f64::from(x);
    let largest = f64::from(f32::from_bits(0x7f7f_e000));
    let exponent = x.abs().max(2f64.powi(-126)).log2().floor() as i32;
    // The logarithm may be off by one next to a power of two; the step must be that of the number
    // itself.
    let exponent = if 2f64.powi(exponent) > x.abs().max(2f64.powi(-126)) {
        exponent - 1
    } else {
        exponent
    };
    let step = 2f64.powi(exponent - 10);
    let rounded = if x.is_infinite() {
        x
    } else {
        round(x / step) * step
    };
    let rounded = if relu && rounded <= 0.0 { 0.0 } else { rounded };
    match rounded.abs() > largest {
        true if finite => largest.copysign(rounded) as f32,
        true => f64::INFINITY.copysign(rounded) as f32,
        false => rounded as f32,
    }
}

#[test]
fn floats_become_tf32() {
    let mut inputs = singles(&special_f32());
    inputs.extend(random(4000, 0xffff_ffff));
    // Ties, and their neighbours, of several magnitudes.
    let ties = (0..4000u64).map(|i| 0x1000 * i + (i % 3) - 1 + (i * 0x0d80_0000));
    inputs.extend(ties.map(|bits| [bits & 0xffff_ffff, 0, 0]));
    for (code, round, relu, finite) in [
        ("rna", f64::round as fn(f64) -> f64, false, false),
        ("rna.satfinite", f64::round, false, true),
        ("rn", f64::round_ties_even, false, false),
        ("rz", f64::trunc, false, false),
        ("rn.relu", f64::round_ties_even, true, false),
        ("rz.relu", f64::trunc, true, false),
    ] {
        f32s(
            &format!("cvt.{code}.tf32.f32 %d, %a;"),
            [F32; 3],
            &inputs,
            |[a, ..]| to_tf32(f(a), round, relu, finite),
        );
    }
}

#[test]
fn halves_may_stay_finite() {
    let inputs = pairs(&special_f32());
    let f16 = |x: u64, relu: bool| {
        let x = if relu && f(x) <= 0.0 { 0.0 } else { f(x) };
        let near = half::f16::from_f32(x);
        if near.is_infinite() {
            half::f16::MAX.to_f32().copysign(x)
        } else {
            near.to_f32()
        }
    };
    let bf16 = |x: u64| {
        let near = half::bf16::from_f32(f(x));
        if near.is_infinite() {
            half::bf16::MAX.to_f32().copysign(f(x))
        } else {
            near.to_f32()
        }
    };
    let same = |a: &[f32; 2], b: &[f32; 2]| {
        a.iter()
            .zip(b)
            .all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
    };
    let halves = |bits: u64| [bits, bits >> 16].map(|h| half::f16::from_bits(h as u16).to_f32());
    let bfloats = |bits: u64| [bits, bits >> 16].map(|h| half::bf16::from_bits(h as u16).to_f32());
    for (modifier, relu) in [("", false), (".relu", true)] {
        let code = format!("cvt.rn.satfinite{modifier}.f16x2.f32 %d, %a, %b;");
        check(&code, B32, [F32; 3], &inputs, halves, same, |[a, b, _]| {
            [f16(b, relu), f16(a, relu)]
        });
    }
    let code = "cvt.rn.satfinite.bf16x2.f32 %d, %a, %b;";
    check(code, B32, [F32; 3], &inputs, bfloats, same, |[a, b, _]| {
        [bf16(b), bf16(a)]
    });
}

/// A number of eight bits from the format's definition: sign, exponent, fraction; `None` for NaN.
fn fp8(code: u64, exponent_bits: u32) -> Option<f64> {
    let code = code & 0xff;
    let fraction_bits = 7 - exponent_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let exponent = ((code & 0x7f) >> fraction_bits) as i32;
    let fraction = code & ((1 << fraction_bits) - 1);
    let sign = if code & 0x80 != 0 { -1.0 } else { 1.0 };
    let part = fraction as f64 / f64::from(1 << fraction_bits);
    match (exponent_bits, exponent, fraction) {
        // The only NaN of e4m3; e5m2 has infinities, which are not made here, and NaN as binary16.
        (4, 15, 7) | (5, 31, 1..) => None,
        (5, 31, 0) => Some(sign * f64::INFINITY),
        (_, 0, _) => Some(sign * part * 2f64.powi(1 - bias)),
        _ => Some(sign * (1.0 + part) * 2f64.powi(exponent - bias)),
    }
}

/// The nearest of all finite numbers, the one with the even code of two; NaN is 0x7f.
fn nearest_fp8(x: f64, exponent_bits: u32, relu: bool) -> u64 {
    if x.is_nan() {
        return 0x7f;
    }
    let x = if relu && x <= 0.0 { 0.0 } else { x };
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    let finite = |code: &u64| fp8(*code, exponent_bits).is_some_and(f64::is_finite);
    let codes: Vec<u64> = (0..0x80).filter(finite).collect();
    let distance = |code: u64| (fp8(code, exponent_bits).expect("finite") - x.abs()).abs();
    let best = codes.iter().copied().min_by(|&a, &b| {
        let order = distance(a).total_cmp(&distance(b));
        order.then((a & 1).cmp(&(b & 1)))
    });
    // Beyond the largest one, distances of huge numbers would round to the same.
    let largest = codes[codes.len() - 1];
    let end = fp8(largest, exponent_bits).expect("finite");
    sign | if x.abs() >= end {
        largest
    } else {
        best.expect("some")
    }
}

#[test]
fn pairs_of_eight_bits() {
    use half::f16;
    let mut values: Vec<f32> = special_f32().into_iter().map(f).collect();
    for exponent in -20..18 {
        for step in 0..33 {
            let x = 2f32.powi(exponent) * (1.0 + step as f32 / 32.0);
            values.extend([x, -x, f32::from_bits(x.to_bits() + 1)]);
        }
    }
    let singles: Vec<[u64; 3]> = values
        .iter()
        .zip(values.iter().rev())
        .map(|(a, b)| [u64::from(a.to_bits()), u64::from(b.to_bits()), 0])
        .collect();
    let halves: Vec<[u64; 3]> = (0..0x1_0000u64)
        .step_by(7)
        .map(|bits| [bits << 16 | ((bits * 31) & 0xffff), 0, 0])
        .collect();
    let pairs: Vec<[u64; 3]> = (0..0x100u64)
        .map(|a| [a << 8 | ((a * 5) & 0xff), 0, 0])
        .collect();
    for (name, exponent_bits) in [("e4m3x2", 4), ("e5m2x2", 5)] {
        for (suffix, relu) in [("", false), (".relu", true)] {
            let to = |x: f64| nearest_fp8(x, exponent_bits, relu);
            integers(
                &format!("cvt.rn.satfinite{suffix}.{name}.f32 %d, %a, %b;"),
                B16,
                [F32; 3],
                &singles,
                |[a, b, _]| to(f64::from(f(b))) | to(f64::from(f(a))) << 8,
            );
            let half = |bits: u64| f64::from(f16::from_bits(bits as u16));
            integers(
                &format!("cvt.rn.satfinite{suffix}.{name}.f16x2 %d, %a;"),
                B16,
                [B32; 3],
                &halves,
                |[a, ..]| to(half(a & 0xffff)) | to(half(a >> 16)) << 8,
            );
            let from = |code: u64| match fp8(code, exponent_bits) {
                None => 0x7fff,
                Some(x) if relu && x <= 0.0 => 0,
                Some(x) => u64::from(f16::from_f64(x).to_bits()),
            };
            integers(
                &format!("cvt.rn{suffix}.f16x2.{name} %d, %a;"),
                B32,
                [B16; 3],
                &pairs,
                |[a, ..]| from(a) | from(a >> 8) << 16,
            );
        }
    }
}
