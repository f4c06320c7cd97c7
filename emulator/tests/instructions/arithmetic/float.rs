//! f32 and f64 arithmetic.

use super::exact::{Round, flush, fma_f32, round_f32, saturate, two_sum};
use super::harness::*;

const THREE: [Type; 3] = [F32; 3];
const DOUBLES: [Type; 3] = [F64; 3];

fn f32_pairs() -> Vec<[u64; 3]> {
    let mut inputs = pairs(&special_f32());
    inputs.extend(random(4000, 0xffff_ffff));
    inputs
}

#[test]
fn sums_and_products_round_as_told() {
    for (mode, name) in Round::ALL {
        let add = |a: f32, b: f32| fma_f32(a, 1.0, b, mode);
        let multiply = |a: f32, b: f32| round_f32(f64::from(a) * f64::from(b), 0.0, mode);
        let inputs = f32_pairs();
        f32s(
            &format!("add.{name}.f32 %d, %a, %b;"),
            THREE,
            &inputs,
            |[a, b, _]| add(f(a), f(b)),
        );
        f32s(
            &format!("sub.{name}.f32 %d, %a, %b;"),
            THREE,
            &inputs,
            |[a, b, _]| add(f(a), -f(b)),
        );
        f32s(
            &format!("mul.{name}.f32 %d, %a, %b;"),
            THREE,
            &inputs,
            |[a, b, _]| multiply(f(a), f(b)),
        );
    }
}

#[test]
fn nearest_is_rusts_own() {
    let inputs = f32_pairs();
    f32s("add.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        f(a) + f(b)
    });
    f32s("sub.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        f(a) - f(b)
    });
    f32s("mul.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        f(a) * f(b)
    });
    f32s("div.rn.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        f(a) / f(b)
    });
    f32s("sqrt.rn.f32 %d, %a;", THREE, &inputs, |[a, ..]| f(a).sqrt());
    f32s("rcp.rn.f32 %d, %a;", THREE, &inputs, |[a, ..]| 1.0 / f(a));
}

#[test]
fn fused_multiplication_rounds_once() {
    let inputs = triples(&special_f32(), 0xffff_ffff);
    f32s("fma.rn.f32 %d, %a, %b, %c;", THREE, &inputs, |[a, b, c]| {
        f(a).mul_add(f(b), f(c))
    });
    for (mode, name) in Round::ALL {
        let code = format!("fma.{name}.f32 %d, %a, %b, %c;");
        f32s(&code, THREE, &inputs, |[a, b, c]| {
            fma_f32(f(a), f(b), f(c), mode)
        });
    }
}

#[test]
fn denormals_are_flushed_when_asked() {
    let inputs = f32_pairs();
    let flushed = |a, b, op: fn(f32, f32) -> f32| flush(op(flush(f(a)), flush(f(b))));
    f32s("add.ftz.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        flushed(a, b, |a, b| a + b)
    });
    f32s("sub.ftz.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        flushed(a, b, |a, b| a - b)
    });
    f32s("mul.ftz.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        flushed(a, b, |a, b| a * b)
    });
    f32s("div.rn.ftz.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        flushed(a, b, |a, b| a / b)
    });
    let three = triples(&special_f32(), 0xffff_ffff);
    f32s(
        "fma.rn.ftz.f32 %d, %a, %b, %c;",
        THREE,
        &three,
        |[a, b, c]| flush(flush(f(a)).mul_add(flush(f(b)), flush(f(c)))),
    );
}

#[test]
fn saturation_keeps_to_the_unit_interval() {
    let inputs = f32_pairs();
    f32s("add.sat.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        saturate(f(a) + f(b))
    });
    f32s("mul.sat.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        saturate(f(a) * f(b))
    });
    f32s(
        "fma.rn.sat.f32 %d, %a, %b, %a;",
        THREE,
        &inputs,
        |[a, b, _]| saturate(f(a).mul_add(f(b), f(a))),
    );
}

/// The smaller of two numbers: -0 is below +0, and a NaN loses.
fn least(a: f32, b: f32) -> f32 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        _ => {
            if a < b {
                a
            } else {
                b
            }
        }
    }
}

#[test]
fn minimum_and_maximum_know_nan_and_signed_zeros() {
    let inputs = f32_pairs();
    f32s("min.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        least(f(a), f(b))
    });
    f32s("max.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        -least(-f(a), -f(b))
    });
    let or_nan = |a: f32, b: f32, value: f32| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            value
        }
    };
    f32s("min.NaN.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        or_nan(f(a), f(b), least(f(a), f(b)))
    });
    f32s("max.NaN.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        or_nan(f(a), f(b), -least(-f(a), -f(b)))
    });
}

#[test]
fn signs_change_without_arithmetic() {
    let inputs = f32_pairs();
    f32s("neg.f32 %d, %a;", THREE, &inputs, |[a, ..]| -f(a));
    f32s("abs.f32 %d, %a;", THREE, &inputs, |[a, ..]| f(a).abs());
    f32s("copysign.f32 %d, %a, %b;", THREE, &inputs, |[a, b, _]| {
        f(b).copysign(f(a))
    });
}

#[test]
fn comparisons_order_nan_as_told() {
    type Test = fn(f32, f32) -> bool;
    let tests: [(&str, Test); 14] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a < b || a > b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
        ("equ", |a, b| !(a < b || a > b)),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| !(a >= b)),
        ("leu", |a, b| !(a > b)),
        ("gtu", |a, b| !(a <= b)),
        ("geu", |a, b| !(a < b)),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    for (name, test) in tests {
        let code = format!("setp.{name}.f32 %p, %a, %b;\n    selp.u32 %d, 1, 0, %p;");
        integers(&code, B32, THREE, &f32_pairs(), |[a, b, _]| {
            u64::from(test(f(a), f(b)))
        });
    }
}

#[test]
fn doubles_are_rusts_own() {
    let mut inputs = pairs(&special_f64());
    inputs.extend(random(4000, u64::MAX));
    f64s("add.rn.f64 %d, %a, %b;", DOUBLES, &inputs, |[a, b, _]| {
        d(a) + d(b)
    });
    f64s("sub.rn.f64 %d, %a, %b;", DOUBLES, &inputs, |[a, b, _]| {
        d(a) - d(b)
    });
    f64s("mul.rn.f64 %d, %a, %b;", DOUBLES, &inputs, |[a, b, _]| {
        d(a) * d(b)
    });
    f64s("div.rn.f64 %d, %a, %b;", DOUBLES, &inputs, |[a, b, _]| {
        d(a) / d(b)
    });
    f64s("sqrt.rn.f64 %d, %a;", DOUBLES, &inputs, |[a, ..]| {
        d(a).sqrt()
    });
    f64s(
        "fma.rn.f64 %d, %a, %b, %a;",
        DOUBLES,
        &inputs,
        |[a, b, _]| d(a).mul_add(d(b), d(a)),
    );
    f64s("neg.f64 %d, %a;", DOUBLES, &inputs, |[a, ..]| -d(a));
}

#[test]
fn double_sums_round_as_told() {
    let mut inputs = pairs(&special_f64());
    inputs.extend(random(4000, u64::MAX));
    for (mode, name) in Round::ALL {
        f64s(
            &format!("add.{name}.f64 %d, %a, %b;"),
            DOUBLES,
            &inputs,
            |[a, b, _]| {
                let (a, b) = (d(a), d(b));
                let (sum, rest) = two_sum(a, b);
                if sum == 0.0 {
                    let negative = if a.is_sign_negative() == b.is_sign_negative() {
                        a.is_sign_negative()
                    } else {
                        mode == Round::Rm
                    };
                    return if negative { -0.0 } else { 0.0 };
                }
                if sum.is_infinite() && a.is_finite() && b.is_finite() {
                    let towards_zero = mode == Round::Rz
                        || (mode == Round::Rm && sum > 0.0)
                        || (mode == Round::Rp && sum < 0.0);
                    return if towards_zero {
                        f64::MAX.copysign(sum)
                    } else {
                        sum
                    };
                }
                match mode {
                    Round::Rm if rest < 0.0 => sum.next_down(),
                    Round::Rp if rest > 0.0 => sum.next_up(),
                    Round::Rz if rest != 0.0 && (rest < 0.0) == (sum > 0.0) => {
                        if sum > 0.0 {
                            sum.next_down()
                        } else {
                            sum.next_up()
                        }
                    }
                    _ => sum,
                }
            },
        );
    }
}

/// Compares approximate results: as many units in the last place off as allowed, or less than
/// `absolute`.
fn near(code: &str, inputs: &[[u64; 3]], ulps: f64, absolute: f64, expected: impl Fn(f64) -> f64) {
    let same = |got: &f32, want: &f32| {
        let (got, want) = (f64::from(*got), f64::from(*want));
        let unit = f64::from(f32::from_bits((want.abs() as f32).to_bits() + 1)) - want.abs();
        got == want
            || (got.is_nan() && want.is_nan())
            || (got - want).abs() <= (ulps * unit).max(absolute)
    };
    check(
        code,
        F32,
        THREE,
        inputs,
        |bits| f32::from_bits(bits as u32),
        same,
        |[a, ..]| expected(f64::from(f(a))) as f32,
    );
}

#[test]
fn approximations_keep_their_promise() {
    let normal: Vec<u64> = special_f32()
        .into_iter()
        .filter(|&bits| !f(bits).is_subnormal())
        .collect();
    let mut inputs = singles(&normal);
    inputs.extend((1..4000).map(|n| [u64::from((n as f32 * 0.013 - 20.0).to_bits()), 0, 0]));
    near("rcp.approx.ftz.f32 %d, %a;", &inputs, 1.0, 1e-38, |x| {
        1.0 / x
    });
    near("sqrt.approx.f32 %d, %a;", &inputs, 2.0, 0.0, f64::sqrt);
    near("rsqrt.approx.f32 %d, %a;", &inputs, 2.0, 0.0, |x| {
        1.0 / x.sqrt()
    });
    near(
        "ex2.approx.ftz.f32 %d, %a;",
        &inputs,
        2.0,
        1.2e-38,
        f64::exp2,
    );
    near("lg2.approx.f32 %d, %a;", &inputs, 2.0, 2.4e-7, f64::log2);
    near("tanh.approx.f32 %d, %a;", &inputs, 16384.0, 0.0, f64::tanh);
    let angles: Vec<[u64; 3]> = (0..1000)
        .map(|n| [u64::from((n as f32 * 0.006 - 3.0).to_bits()), 0, 0])
        .collect();
    near("sin.approx.f32 %d, %a;", &angles, 0.0, 1e-6, f64::sin);
    near("cos.approx.f32 %d, %a;", &angles, 0.0, 1e-6, f64::cos);
}

#[test]
fn classes_of_numbers_are_told_apart() {
    type Test = fn(f32) -> bool;
    let tests: [(&str, Test); 5] = [
        ("finite", f32::is_finite),
        ("infinite", f32::is_infinite),
        ("number", |x| !x.is_nan()),
        ("notanumber", f32::is_nan),
        ("subnormal", f32::is_subnormal),
    ];
    for (name, test) in tests {
        let code = format!("testp.{name}.f32 %p, %a;\n    selp.u32 %d, 1, 0, %p;");
        integers(&code, B32, THREE, &singles(&special_f32()), |[a, ..]| {
            u64::from(test(f(a)))
        });
    }
}

/// The reciprocals of f64 that keep the upper 32 bits, and what changes a sign alone.
#[test]
fn doubles_by_their_upper_halves() {
    let inputs: Vec<[u64; 3]> = random(500, u64::MAX)
        .into_iter()
        .chain(singles(&special_f64()))
        .filter(|[a, ..]| !d(*a).is_nan() && !d(*a).is_subnormal())
        .collect();
    let upper = |x: f64| x.to_bits() >> 32 << 32;
    let three = [B64; 3];
    integers("abs.f64 %d, %a;", B64, three, &inputs, |[a, ..]| {
        a & !(1 << 63)
    });
    integers("neg.f64 %d, %a;", B64, three, &inputs, |[a, ..]| {
        a ^ 1 << 63
    });
    let code = "rcp.approx.ftz.f64 %d, %a;";
    integers(code, B64, three, &inputs, |[a, ..]| upper(1.0 / d(a)));
    let positive: Vec<[u64; 3]> = inputs
        .iter()
        .map(|[a, b, c]| [a & !(1 << 63), *b, *c])
        .collect();
    let code = "rsqrt.approx.ftz.f64 %d, %a;";
    integers(code, B64, three, &positive, |[a, ..]| {
        upper(1.0 / d(a).sqrt())
    });
}
