//! Products that are left out against the same products multiplied.
use super::*;
use crate::random::Random;

/// Numbers of a type: of both signs, the smallest and largest, subnormal ones. Then what is not
/// finite.
struct Numbers {
    finite: &'static [u32],
    special: &'static [u32],
    /// Zeros, with bits that do not matter.
    zeros: &'static [u32],
    /// Numbers a word.
    parts: u32,
}

const HALVES: Numbers = Numbers {
    finite: &[
        0x3c00, 0xbc00, 1, 0x8001, 0x3ff, 0x83ff, 0x7bff, 0xfbff, 0x400,
    ],
    special: &[0x7c00, 0xfc00, 0x7e00, 0xfe00, 0x7c01, 0xffff],
    zeros: &[0, 0x8000],
    parts: 2,
};
const BRAINS: Numbers = Numbers {
    finite: &[
        0x3f80, 0xbf80, 1, 0x8001, 0x7f, 0x807f, 0x7f7f, 0xff7f, 0x80,
    ],
    special: &[0x7f80, 0xff80, 0x7fc0, 0xffc0, 0x7f81, 0xffff],
    zeros: &[0, 0x8000],
    parts: 2,
};
const TF32: Numbers = Numbers {
    finite: &[
        0x3f80_0000,
        0xbf80_1fff,
        0x2000,
        0x8000_2000,
        0x7f7f_ffff,
        0xff7f_e000,
    ],
    special: &[
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x7f80_0001,
        0xffff_ffff,
        0x7f80_2000,
    ],
    zeros: &[0, 1 << 31, 1, 0x1fff, 0x8000_1fff],
    parts: 1,
};
const WORDS: Numbers = Numbers {
    finite: &[
        0,
        0x3f80_0000,
        0xbf80_0000,
        1,
        0x8000_0001,
        0x7f7f_ffff,
        0xff7f_ffff,
        0x80_0000,
    ],
    special: &[
        0x7f80_0000,
        0xff80_0000,
        0x7fff_ffff,
        0x7fc0_0000,
        0xffc0_0000,
        0x7f80_0001,
        1 << 31,
    ],
    zeros: &[0],
    parts: 1,
};
const SUMMED_HALVES: Numbers = Numbers {
    finite: &[
        0, 0x3c00, 0xbc00, 1, 0x8001, 0x3ff, 0x83ff, 0x7bff, 0xfbff, 0x400,
    ],
    special: &[
        0x7c00, 0xfc00, 0x7fff, 0x7e00, 0xfe00, 0x7c01, 0xfc01, 0x8000,
    ],
    zeros: &[0],
    parts: 2,
};

/// Filling of a matrix.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fill {
    Zeros,
    Finite,
    /// Zeros but for one number.
    NearlyZeros,
    /// Finite but for one number, which is not or, among sums, is -0.
    NearlyFinite,
}

const FILLS: [Fill; 4] = [
    Fill::Zeros,
    Fill::Finite,
    Fill::NearlyZeros,
    Fill::NearlyFinite,
];

fn fill(w: &mut Warp, random: &mut Random, regs: &[Reg], numbers: &Numbers, fill: Fill) {
    let usual = match fill {
        Fill::Zeros | Fill::NearlyZeros => numbers.zeros,
        Fill::Finite | Fill::NearlyFinite => numbers.finite,
    };
    let odd = match fill {
        Fill::NearlyZeros => numbers.finite,
        _ => numbers.special,
    };
    let parts = numbers.parts;
    let count = u64::from(32 * parts) * regs.len() as u64;
    let other = match fill {
        Fill::Zeros | Fill::Finite => u64::MAX,
        _ => random.next() % count,
    };
    let mut at = 0;
    for &reg in regs {
        for lane in 0..32 {
            let mut word = 0;
            for part in 0..parts {
                let from = if at == other { odd } else { usual };
                word |= random.of(from) << (32 / parts * part);
                at += 1;
            }
            w.u32s_mut(reg)[lane] = word;
        }
    }
}

/// A product of each of the kinds whose zeros are left out, with factors and sums of each kind of
/// filling.
#[test]
fn products_of_zeros_leave_the_bits_that_multiplying_does() {
    let mut random = Random(1);
    let (a, b) = ([1, 2, 3, 4].map(Reg), [5, 6].map(Reg));
    let d = [7, 8, 9, 10].map(Reg);
    let kinds = [
        (MatrixTy::F16, HALVES, MatrixSum::F32, WORDS),
        (MatrixTy::F16, HALVES, MatrixSum::F16, SUMMED_HALVES),
        (MatrixTy::Bf16, BRAINS, MatrixSum::F32, WORDS),
        (MatrixTy::Tf32, TF32, MatrixSum::F32, WORDS),
    ];
    for (ty, factors, sum, sums) in kinds {
        let (mut left_out, mut multiplied) = (0, 0);
        for round in 0..32 * 64 {
            let words = if round % 2 == 0 { 4 } else { 8 };
            let kind = Mma {
                rows: 16,
                a: ty,
                b: ty,
                sum,
                words,
            };
            let [left, right, before] = [2, 8, 32].map(|by| FILLS[round / by % 4]);
            let mut w = Warp::new(0, 0, 11, 1);
            w.clear_rows();
            // Registers that the instruction does not use may hold anything.
            let used = usize::from(words / 4);
            fill(&mut w, &mut random, &a, &factors, Fill::NearlyFinite);
            fill(&mut w, &mut random, &b, &factors, Fill::NearlyFinite);
            fill(&mut w, &mut random, &d, &sums, Fill::NearlyFinite);
            fill(&mut w, &mut random, &a[..2 * used], &factors, left);
            fill(&mut w, &mut random, &b[..used], &factors, right);
            let summed = if sum == MatrixSum::F16 { 2 } else { 4 };
            fill(&mut w, &mut random, &d[..summed], &sums, before);
            let mut expected = Warp::new(0, 0, 11, 1);
            expected.rows = w.rows.clone();
            product(&mut expected, kind, d, &a[..2 * used], &b[..used]);
            if adds_nothing(&w, kind, d, a, b) {
                left_out += 1;
            } else {
                multiplied += 1;
            }
            mma(&mut w, kind, d, a, b);
            for reg in 0..11 {
                let (got, expected) = (w.u32s(Reg(reg)), expected.u32s(Reg(reg)));
                assert_eq!(
                    got, expected,
                    "{kind:?} {left:?} {right:?} {before:?} {reg}"
                );
            }
        }
        assert!(left_out > 100 && multiplied > 100, "{ty:?}: {left_out}");
    }
}
