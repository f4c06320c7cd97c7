//! `mma` against matrices multiplied in Rust.

use half::f16;
use ptx_emulator::MatrixKind;

use super::harness::{Random, run};
use super::product::{Bits, FLOATS, Matrices, Product};

/// Values of all magnitudes that sums survive in.
fn random_cases(product: Product, count: usize) -> Vec<Matrices> {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut cases = Vec::new();
    for case in 0..count {
        let spread = [0, 4, 8][case % 3];
        let value = |random: &mut Random| {
            let scale = 2f64.powi(random.bits() as i32 % (spread + 1));
            random.unit() * scale
        };
        let elements = |count: usize, random: &mut Random| -> Vec<Bits> {
            (0..count)
                .map(|_| {
                    let value = value(random);
                    product.element(value, random)
                })
                .collect()
        };
        let a = elements(16 * product.depth, &mut random);
        let b = elements(8 * product.depth, &mut random);
        let c = (0..16 * 8)
            .map(|_| {
                let value = random.unit() * 16.0;
                if product.narrow {
                    u32::from(f16::from_f64(value).to_bits())
                } else {
                    (value as f32).to_bits()
                }
            })
            .collect();
        cases.push(Matrices { a, b, c });
    }
    cases
}

/// The sum and the sum of magnitudes, in f64. Products of factors are exact there, and so nearly
/// are sums.
fn reference(product: Product, case: &Matrices, row: usize, column: usize) -> (f64, f64) {
    let c = f64::from(product.sum(case.c[row * 8 + column]));
    (0..product.depth).fold((c, c.abs()), |(sum, magnitude), k| {
        let a = f64::from(product.factor(case.a[row * product.depth + k]));
        let b = f64::from(product.factor(case.b[column * product.depth + k]));
        (sum + a * b, magnitude + (a * b).abs())
    })
}

#[test]
fn sums_are_near_the_exact_ones() {
    for product in FLOATS {
        let cases = random_cases(product, 60);
        for (case, sums) in cases.iter().zip(product.run(&cases)) {
            for (at, &bits) in sums.iter().enumerate() {
                let (want, magnitude) = reference(product, case, at / 8, at % 8);
                let got = f64::from(product.sum(bits));
                // One rounding to nearest a product, and one of f16 (with its smallest step) at the
                // end.
                let mut bound = product.depth as f64 * magnitude * 2f64.powi(-24) * 1.001;
                if product.narrow {
                    bound += want.abs() * 2f64.powi(-11) + 2f64.powi(-25);
                }
                let error = (got - want).abs();
                assert!(
                    error <= bound,
                    "{} at {at}: got {got}, expected {want}, bound {bound:e}",
                    product.name
                );
            }
        }
    }
}

/// The bits of a sum that is formed in the order that the emulator documents.
fn in_order(product: Product, case: &Matrices, row: usize, column: usize) -> Bits {
    let c = product.sum(case.c[row * 8 + column]);
    let sum = (0..product.depth).fold(c, |sum, k| {
        let a = product.factor(case.a[row * product.depth + k]);
        let b = product.factor(case.b[column * product.depth + k]);
        a.mul_add(b, sum)
    });
    match (product.narrow, sum.is_nan()) {
        (true, true) => 0x7fff,
        (true, false) => u32::from(f16::from_f32(sum).to_bits()),
        (false, true) => 0x7fff_ffff,
        (false, false) => sum.to_bits(),
    }
}

#[test]
fn special_values_go_through_to_the_bit() {
    let f16s = [
        0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00,
        0xfc00, 0x7e00, 0x7c01,
    ];
    let bf16s = [
        0x0000, 0x8000, 0x0001, 0x807f, 0x0080, 0x3f80, 0xbf80, 0x7f7f, 0xff7f, 0x7f80, 0xff80,
        0x7fc0, 0x7f81,
    ];
    let f32s = [
        0x0000_0000,
        0x8000_0000,
        0x0000_0001,
        0x8000_1fff,
        0x0000_2000,
        0x807f_e000,
        0x0080_0000,
        0x3f80_0000,
        0xbf80_1234,
        0x7f7f_e000,
        0xff7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x7f80_2000,
    ];
    for product in FLOATS {
        let factors: &[Bits] = match product.kind {
            MatrixKind::F16 => &f16s,
            MatrixKind::Bf16 => &bf16s,
            _ => &f32s,
        };
        let sums: &[Bits] = if product.narrow { &f16s } else { &f32s };
        let mut random = Random(0xfeed_beef_0123_4567);
        // Few special values in a case, or every sum would be NaN.
        let mut cases = Vec::new();
        for rarity in [1, 4, 16, 64, 256] {
            for _ in 0..20 {
                let mut some = |from: &[Bits], plain: Bits| {
                    if random.bits() >> 30 & (rarity - 1) == 0 {
                        random.pick(from)
                    } else {
                        plain
                    }
                };
                let one = if product.bits == 32 {
                    0x3f80_0000
                } else if product.kind == MatrixKind::F16 {
                    0x3c00
                } else {
                    0x3f80
                };
                let zero_sum = sums[0];
                cases.push(Matrices {
                    a: (0..16 * product.depth)
                        .map(|_| some(factors, one))
                        .collect(),
                    b: (0..8 * product.depth).map(|_| some(factors, one)).collect(),
                    c: (0..16 * 8).map(|_| some(sums, zero_sum)).collect(),
                });
            }
        }
        let mut seen = [0usize; 3];
        for (case, got) in cases.iter().zip(product.run(&cases)) {
            for (at, &bits) in got.iter().enumerate() {
                let want = in_order(product, case, at / 8, at % 8);
                assert_eq!(
                    bits, want,
                    "{} at {at}: {bits:#x} is not {want:#x}",
                    product.name
                );
                let value = product.sum(bits);
                seen[if value.is_nan() {
                    0
                } else {
                    usize::from(value.is_finite()) + 1
                }] += 1;
            }
        }
        assert!(
            seen.iter().all(|&count| count > 100),
            "{}: {seen:?}",
            product.name
        );
    }
}

#[test]
fn minus_zero_stays() {
    // -0 + 1 * -0 + ... is -0, and any +0 makes it +0.
    let product = FLOATS[0];
    let case = Matrices {
        a: vec![0x3c00; 16 * 16],
        b: (0..8 * 16)
            .map(|i| if i == 16 { 0 } else { 0x8000 })
            .collect(),
        c: vec![0x8000_0000; 16 * 8],
    };
    let sums = &product.run(&[case])[0];
    for (at, &bits) in sums.iter().enumerate() {
        assert_eq!(bits, if at % 8 == 1 { 0 } else { 0x8000_0000 }, "{at}");
    }
}

/// Factors of one name each, and whether sums stop at the ends of their range.
const INTEGERS: [(&str, usize, usize, bool, bool, bool); 8] = [
    ("m16n8k32.row.col.s32.s8.s8.s32", 32, 8, true, true, false),
    ("m16n8k32.row.col.s32.u8.s8.s32", 32, 8, false, true, false),
    ("m16n8k16.row.col.s32.s8.u8.s32", 16, 8, true, false, false),
    ("m16n8k16.row.col.s32.u8.u8.s32", 16, 8, false, false, false),
    (
        "m16n8k32.row.col.satfinite.s32.s8.s8.s32",
        32,
        8,
        true,
        true,
        true,
    ),
    ("m16n8k32.row.col.s32.s4.s4.s32", 32, 4, true, true, false),
    ("m16n8k64.row.col.s32.u4.s4.s32", 64, 4, false, true, false),
    (
        "m16n8k64.row.col.satfinite.s32.u4.u4.s32",
        64,
        4,
        false,
        false,
        true,
    ),
];

/// A number of eight bits from the format's definition.
fn fp8(code: u32, exponent_bits: u32) -> f32 {
    let fraction_bits = 7 - exponent_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let exponent = ((code & 0x7f) >> fraction_bits) as i32;
    let fraction = code & ((1 << fraction_bits) - 1);
    let part = fraction as f32 / (1 << fraction_bits) as f32;
    let sign = if code & 0x80 != 0 { -1.0 } else { 1.0 };
    sign * match (exponent_bits, exponent, fraction) {
        (4, 15, 7) | (5, 31, 1..) => f32::NAN,
        (5, 31, 0) => f32::INFINITY,
        (_, 0, _) => part * 2f32.powi(1 - bias),
        _ => (1.0 + part) * 2f32.powi(exponent - bias),
    }
}

/// Every code comes up, NaN and infinity in few of the cases; compared to the bit with sums in the
/// documented order.
#[test]
fn factors_of_eight_bits_go_through_to_the_bit() {
    for (name, depth, a_bits, b_bits) in [
        ("m16n8k32.row.col.f32.e4m3.e4m3.f32", 32, 4, 4),
        ("m16n8k32.row.col.f32.e5m2.e4m3.f32", 32, 5, 4),
        ("m16n8k32.row.col.f32.e4m3.e5m2.f32", 32, 4, 5),
        ("m16n8k16.row.col.f32.e5m2.e5m2.f32", 16, 5, 5),
        ("m16n8k32.row.col.f16.e4m3.e4m3.f16", 32, 4, 4),
    ] {
        let narrow = name.ends_with("f16");
        let product = Product {
            name,
            kind: MatrixKind::Fp8,
            depth,
            bits: 8,
            narrow,
        };
        let mut random = Random(0x0ddc_0ffe_e0dd_f00d);
        let cases: Vec<Matrices> = (0..60)
            .map(|case| {
                let mut some = |count: usize| -> Vec<Bits> {
                    let code = |random: &mut Random| match random.bits() as u32 & 0xff {
                        code if case % 4 != 0 && code & 0x78 == 0x78 => code & 0x87,
                        code => code,
                    };
                    (0..count).map(|_| code(&mut random)).collect()
                };
                let (a, b) = (some(16 * depth), some(8 * depth));
                let codes = some(16 * 8);
                let c = codes.iter().map(|&code| match narrow {
                    true => u32::from(f16::from_f32(code as f32).to_bits()),
                    false => (code as f32).to_bits(),
                });
                let c = c.collect();
                Matrices { a, b, c }
            })
            .collect();
        let mut finite = 0;
        for (case, got) in cases.iter().zip(product.run(&cases)) {
            for (at, &bits) in got.iter().enumerate() {
                let (row, column) = (at / 8, at % 8);
                let sum = (0..depth).fold(product.sum(case.c[at]), |sum, k| {
                    let a = fp8(case.a[row * depth + k], a_bits);
                    let b = fp8(case.b[column * depth + k], b_bits);
                    a.mul_add(b, sum)
                });
                let want = match (narrow, sum.is_nan()) {
                    (true, true) => 0x7fff,
                    (true, false) => u32::from(f16::from_f32(sum).to_bits()),
                    (false, true) => 0x7fff_ffff,
                    (false, false) => sum.to_bits(),
                };
                assert_eq!(bits, want, "{name} at {at}: {bits:#x} is not {want:#x}");
                finite += usize::from(sum.is_finite());
            }
        }
        assert!(finite > 4000, "{name}: only {finite} sums are finite");
    }
}

#[test]
fn integers_are_exact() {
    for (name, depth, bits, a_signed, b_signed, saturates) in INTEGERS {
        let kind = if bits == 8 {
            MatrixKind::Int8
        } else {
            MatrixKind::Int4
        };
        let product = Product {
            name,
            kind,
            depth,
            bits,
            narrow: false,
        };
        let mut random = Random(0x0dd0_0dd0_0dd0_0dd1);
        let mask = (1 << bits) - 1;
        let cases: Vec<Matrices> = (0..40)
            .map(|case| {
                let mut some = |count: usize| -> Vec<Bits> {
                    (0..count)
                        .map(|_| {
                            if case % 4 == 0 {
                                mask >> 1
                            } else {
                                random.bits() as u32 & mask
                            }
                        })
                        .collect()
                };
                let (a, b) = (some(16 * depth), some(8 * depth));
                let ends = [
                    0,
                    1,
                    u32::MAX,
                    0x7fff_ffff,
                    0x8000_0000,
                    0x7fff_ff00,
                    0x8000_0100,
                ];
                let c = (0..16 * 8).map(|_| random.pick(&ends)).collect();
                Matrices { a, b, c }
            })
            .collect();
        let value = |bits_of: Bits, signed: bool| {
            let value = i64::from(bits_of);
            if signed && value >> (bits - 1) != 0 {
                value - (1 << bits)
            } else {
                value
            }
        };
        for (case, got) in cases.iter().zip(product.run(&cases)) {
            for (at, &bits) in got.iter().enumerate() {
                let (row, column) = (at / 8, at % 8);
                let sum = (0..depth).fold(i64::from(case.c[at].cast_signed()), |sum, k| {
                    let a = value(case.a[row * depth + k], a_signed);
                    sum + a * value(case.b[column * depth + k], b_signed)
                });
                let want = if saturates {
                    sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
                } else {
                    sum as i32
                };
                assert_eq!(bits.cast_signed(), want, "{name} at {at}");
            }
        }
    }
}

#[test]
fn destinations_may_be_sources() {
    // The sums stay where they are, move, cross over, or take the place of a factor.
    let product = FLOATS[0];
    let case = &random_cases(product, 1)[0];
    let want = product.run(std::slice::from_ref(case))[0].clone();
    let fragments = [product.fragments(case)];
    for (d, results) in [
        (
            [6, 7, 8, 9],
            "mov.b32 %d0, %a6; mov.b32 %d1, %a7; mov.b32 %d2, %a8; mov.b32 %d3, %a9;",
        ),
        (
            [7, 6, 9, 8],
            "mov.b32 %d0, %a7; mov.b32 %d1, %a6; mov.b32 %d2, %a9; mov.b32 %d3, %a8;",
        ),
        (
            [0, 4, 2, 3],
            "mov.b32 %d0, %a0; mov.b32 %d1, %a4; mov.b32 %d2, %a2; mov.b32 %d3, %a3;",
        ),
    ] {
        let [d0, d1, d2, d3] = d;
        let code = format!(
            "mma.sync.aligned.{} {{%a{d0},%a{d1},%a{d2},%a{d3}}}, {{%a0,%a1,%a2,%a3}}, \
            {{%a4,%a5}}, \
             {{%a6,%a7,%a8,%a9}}; {results}",
            product.name
        );
        let (lanes, _) = run(&code, 10, 4, &fragments);
        assert_eq!(product.sums(&lanes[0]), want, "{code}");
    }
}

#[test]
fn chains_of_products_accumulate() {
    // Three products into the same sums, in a loop, with a guard that is true, and the first of
    // constants.
    let product = FLOATS[4];
    let case = &random_cases(product, 1)[0];
    let code = format!(
        "mov.u32 %t0, 0; mov.f32 %f0, 0f3F800000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, \
        %f0;
        LOOP: setp.lt.u32 %p, %t0, 3;
        @%p mma.sync.aligned.{} {{%f0,%f1,%f2,%f3}}, {{%a0,%a1,%a2,%a3}}, {{%a4,%a5}}, \
        {{%f0,%f1,%f2,%f3}};
        add.u32 %t0, %t0, 1;
        @%p bra LOOP;
        mov.b32 %d0, %f0; mov.b32 %d1, %f1; mov.b32 %d2, %f2; mov.b32 %d3, %f3;",
        product.name
    );
    let (lanes, counters) = run(&code, 10, 4, &[product.fragments(case)]);
    assert_eq!(counters.matrix(MatrixKind::Tf32).instructions, 3);
    let mut step = case.clone();
    step.c = vec![0x3f80_0000; 16 * 8];
    for _ in 0..3 {
        step.c = (0..16 * 8)
            .map(|at| in_order(product, &step, at / 8, at % 8))
            .collect();
    }
    assert_eq!(product.sums(&lanes[0]), step.c);
}
