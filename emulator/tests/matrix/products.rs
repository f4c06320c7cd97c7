//! `mma`.
//!
//! The fragments are those of the PTX ISA, "Matrix Fragments for mma.m16n8k4" and its like: of the lane with
//! `group = lane / 4` and `thread = lane % 4`, element `i` of a lane's part of each matrix is in the row and column
//! that the functions here say.

use half::{bf16, f16};
use ptx_emulator::{MatrixKind, MatrixWork};

use crate::harness::{Lanes, Random, run};

/// The bits of an element, which lie in the low ones.
type Bits = u32;

/// An `mma` as the tests know it.
#[derive(Clone, Copy)]
struct Product {
    name: &'static str,
    kind: MatrixKind,
    depth: usize,
    /// Bits of an element of the factors.
    bits: usize,
    /// Whether the sums are f16.
    narrow: bool,
}

const FLOATS: [Product; 8] = [
    float("m16n8k16.row.col.f32.f16.f16.f32", MatrixKind::F16, 16),
    float("m16n8k8.row.col.f32.f16.f16.f32", MatrixKind::F16, 8),
    float("m16n8k16.row.col.f32.bf16.bf16.f32", MatrixKind::Bf16, 16),
    float("m16n8k8.row.col.f32.bf16.bf16.f32", MatrixKind::Bf16, 8),
    float("m16n8k8.row.col.f32.tf32.tf32.f32", MatrixKind::Tf32, 8),
    float("m16n8k4.row.col.f32.tf32.tf32.f32", MatrixKind::Tf32, 4),
    float("m16n8k16.row.col.f16.f16.f16.f16", MatrixKind::F16, 16),
    float("m16n8k8.row.col.f16.f16.f16.f16", MatrixKind::F16, 8),
];

const fn float(name: &'static str, kind: MatrixKind, depth: usize) -> Product {
    Product {
        name,
        kind,
        depth,
        bits: if matches!(kind, MatrixKind::Tf32) {
            32
        } else {
            16
        },
        narrow: name.as_bytes()[name.len() - 2] == b'1',
    }
}

/// Three matrices of one case: `a` and `c` by rows, `b` by columns.
#[derive(Clone)]
struct Matrices {
    a: Vec<Bits>,
    b: Vec<Bits>,
    c: Vec<Bits>,
}

impl Product {
    /// Elements of `a` that a lane holds.
    fn a_elements(self) -> usize {
        16 * self.depth / 32
    }

    fn b_elements(self) -> usize {
        8 * self.depth / 32
    }

    /// Elements of a word.
    fn per_word(self) -> usize {
        32 / self.bits
    }

    fn sum_words(self) -> usize {
        if self.narrow { 2 } else { 4 }
    }

    /// Row and column of element `i` of a lane's part of `a`.
    fn a_place(self, lane: usize, i: usize) -> (usize, usize) {
        let (group, thread, per) = (lane / 4, lane % 4, self.per_word());
        let row = if i / per % 2 == 0 { group } else { group + 8 };
        (row, thread * per + i % per + i / (2 * per) * 4 * per)
    }

    /// Row and column of element `i` of a lane's part of `b`.
    fn b_place(self, lane: usize, i: usize) -> (usize, usize) {
        let (group, thread, per) = (lane / 4, lane % 4, self.per_word());
        (thread * per + i % per + i / per * 4 * per, group)
    }

    /// Row and column of element `i` of a lane's part of the sums.
    fn c_place(self, lane: usize, i: usize) -> (usize, usize) {
        let row = if i < 2 { lane / 4 } else { lane / 4 + 8 };
        (row, lane % 4 * 2 + i % 2)
    }

    /// The code, with the registers spelled as inline assembly has them.
    fn code(self) -> String {
        let list = |letter: char, from: usize, count: usize| {
            let names: Vec<String> = (from..from + count)
                .map(|i| format!("%{letter}{i}"))
                .collect();
            format!("{{{}}}", names.join(", "))
        };
        let a = self.a_elements() / self.per_word();
        let b = self.b_elements() / self.per_word();
        let c = self.sum_words();
        format!(
            "mma.sync.aligned.{} {}, {}, {}, {};",
            self.name,
            list('d', 0, c),
            list('a', 0, a),
            list('a', a, b),
            list('a', a + b, c)
        )
    }

    /// The registers of a warp.
    fn fragments(self, case: &Matrices) -> Lanes {
        let per = self.per_word();
        let pack = |elements: Vec<Bits>, bits: usize| -> Vec<u32> {
            let word = |part: &[Bits]| {
                let shifted = part
                    .iter()
                    .enumerate()
                    .map(|(i, &e)| u64::from(e) << (bits * i));
                shifted.fold(0, |word, bits| word | bits) as u32
            };
            elements.chunks(32 / bits).map(word).collect()
        };
        (0..32)
            .map(|lane| {
                let a = (0..self.a_elements()).map(|i| {
                    let (row, column) = self.a_place(lane, i);
                    case.a[row * self.depth + column]
                });
                let b = (0..self.b_elements()).map(|i| {
                    let (row, column) = self.b_place(lane, i);
                    case.b[column * self.depth + row]
                });
                let c = (0..4).map(|i| {
                    let (row, column) = self.c_place(lane, i);
                    case.c[row * 8 + column]
                });
                let mut words = pack(a.collect(), 32 / per);
                words.extend(pack(b.collect(), 32 / per));
                words.extend(pack(c.collect(), if self.narrow { 16 } else { 32 }));
                words
            })
            .collect()
    }

    /// Runs the cases and gives the sums, by rows.
    fn run(self, cases: &[Matrices]) -> Vec<Vec<Bits>> {
        let fragments: Vec<Lanes> = cases.iter().map(|case| self.fragments(case)).collect();
        let (lanes, counters) = run(
            &self.code(),
            fragments[0][0].len(),
            self.sum_words(),
            &fragments,
        );
        let work = MatrixWork {
            instructions: cases.len() as u64,
            multiply_adds: (cases.len() * 16 * 8 * self.depth) as u64,
        };
        for kind in MatrixKind::ALL {
            let expected = if kind == self.kind {
                work
            } else {
                MatrixWork::default()
            };
            assert_eq!(counters.matrix(kind), expected, "{}: {kind:?}", self.name);
        }
        lanes.iter().map(|lanes| self.sums(lanes)).collect()
    }

    fn sums(self, lanes: &Lanes) -> Vec<Bits> {
        let mut out = vec![0; 16 * 8];
        for (lane, words) in lanes.iter().enumerate() {
            for i in 0..4 {
                let (row, column) = self.c_place(lane, i);
                out[row * 8 + column] = if self.narrow {
                    words[i / 2] >> (16 * (i % 2)) & 0xffff
                } else {
                    words[i]
                };
            }
        }
        out
    }

    /// The value of an element of a factor, which f32 holds exactly.
    fn factor(self, bits: Bits) -> f32 {
        match self.kind {
            MatrixKind::F16 => f16::from_bits(bits as u16).to_f32(),
            MatrixKind::Bf16 => bf16::from_bits(bits as u16).to_f32(),
            _ => f32::from_bits(bits & 0xffff_e000),
        }
    }

    fn sum(self, bits: Bits) -> f32 {
        if self.narrow {
            f16::from_bits(bits as u16).to_f32()
        } else {
            f32::from_bits(bits)
        }
    }

    /// An element near `value`; of tf32 with random bits where hardware ignores them.
    fn element(self, value: f64, random: &mut Random) -> Bits {
        match self.kind {
            MatrixKind::F16 => u32::from(f16::from_f64(value).to_bits()),
            MatrixKind::Bf16 => u32::from(bf16::from_f64(value).to_bits()),
            _ => (value as f32).to_bits() & 0xffff_e000 | random.bits() as u32 & 0x1fff,
        }
    }
}

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

/// The sum and the sum of magnitudes, in f64. Products of factors are exact there, and so nearly are sums.
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
                // One rounding to nearest a product, and one of f16 (with its smallest step) at the end.
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
            "mma.sync.aligned.{} {{%a{d0},%a{d1},%a{d2},%a{d3}}}, {{%a0,%a1,%a2,%a3}}, {{%a4,%a5}}, \
             {{%a6,%a7,%a8,%a9}}; {results}",
            product.name
        );
        let (lanes, _) = run(&code, 10, 4, &fragments);
        assert_eq!(product.sums(&lanes[0]), want, "{code}");
    }
}

#[test]
fn chains_of_products_accumulate() {
    // Three products into the same sums, in a loop, with a guard that is true, and the first of constants.
    let product = FLOATS[4];
    let case = &random_cases(product, 1)[0];
    let code = format!(
        "mov.u32 %t0, 0; mov.f32 %f0, 0f3F800000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;
        LOOP: setp.lt.u32 %p, %t0, 3;
        @%p mma.sync.aligned.{} {{%f0,%f1,%f2,%f3}}, {{%a0,%a1,%a2,%a3}}, {{%a4,%a5}}, {{%f0,%f1,%f2,%f3}};
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
