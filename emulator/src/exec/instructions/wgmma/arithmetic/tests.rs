//! Products of which parts are left out, against the same products multiplied in full.
use super::*;
use crate::exec::instructions::wgmma::operands::{
    PIECES, convert, put_left, put_right, take_left, words_of,
};
use crate::ir::{MatrixTy, Wgmma};
use crate::random::Random;

/// Elements of a type: zeros, finite ones of both signs, and those that are not finite.
fn elements_of(ty: MatrixTy) -> [&'static [u32]; 3] {
    match ty {
        MatrixTy::F16 => [
            &[0, 0x8000],
            &[0x3c00, 0xbc00, 1, 0x8001, 0x3ff, 0x7bff, 0xfbff, 0x400],
            &[0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff],
        ],
        MatrixTy::Bf16 => [
            &[0, 0x8000],
            &[0x3f80, 0xbf80, 1, 0x8001, 0x7f, 0x7f7f, 0xff7f, 0x80],
            &[0x7f80, 0xff80, 0x7fc0, 0x7f81, 0xffff],
        ],
        MatrixTy::Tf32 => [
            &[0, 1 << 31, 1, 0x1fff, 0x8000_1fff],
            &[0x3f80_0000, 0xbf80_1fff, 0x2000, 0x8000_2000, 0x7f7f_ffff],
            &[
                0x7f80_0000,
                0xff80_0000,
                0x7fc0_0000,
                0x7f80_0001,
                0x7f80_2000,
            ],
        ],
        MatrixTy::E4m3 => [
            &[0, 0x80],
            &[0x38, 0xb8, 1, 0x81, 0x7e, 0xfe],
            &[0x7f, 0xff],
        ],
        MatrixTy::E5m2 => [
            &[0, 0x80],
            &[0x3c, 0xbc, 1, 0x81, 0x7b, 0xfb],
            &[0x7c, 0xfc, 0x7d, 0x7f, 0xff],
        ],
        _ => [&[0], &[1, 0x7f, 0x80, 0xff], &[1, 0x7f, 0x80, 0xff]],
    }
}

/// Filling of eight rows: with the first zero only, zeros, finite numbers, and the last two but for
/// one finite number, or one that is not.
const FILLS: usize = 6;

fn fill(random: &mut Random, ty: MatrixTy) -> [[u8; 16]; PIECES] {
    let [zeros, finite, special] = elements_of(ty);
    // Mostly the first one.
    let fill = random.below(2 * FILLS).saturating_sub(FILLS);
    let usual = [&zeros[..1], zeros, finite, zeros, zeros, finite][fill];
    let size = ty.bits() as usize / 8;
    let count = PIECES * 16 / size;
    let other = random.below(count);
    let odd = [usual, usual, usual, finite, special, special][fill];
    let mut pieces = [[0; 16]; PIECES];
    for i in 0..count {
        let bits = random.of(if i == other { odd } else { usual });
        let at = i * size;
        pieces[at / 16][at % 16..][..size].copy_from_slice(&bits.to_le_bytes()[..size]);
    }
    pieces
}

/// Accumulators: all finite ones but -0, with one that is not, or 0.
fn fill_sums(random: &mut Random, w: &mut Warp, sums: &[Reg], sum: MatrixSum) {
    let halves = sum == MatrixSum::F16;
    let (usual, odd): (&[u32], &[u32]) = match sum {
        MatrixSum::F32 => (
            &[
                0,
                0x3f80_0000,
                0xbf80_0000,
                1,
                0x8000_0001,
                0x7f7f_ffff,
                0xff80_0000,
            ],
            &[
                1 << 31,
                1 << 31,
                1 << 31,
                0x7fff_ffff,
                0x7fc0_0000,
                0xffc0_0000,
                0x7f80_0001,
            ],
        ),
        MatrixSum::F16 => (
            &[0, 0x3c00, 0xbc00, 1, 0x8001, 0x7bff, 0xfbff, 0x7c00, 0xfc00],
            &[0x8000, 0x7fff, 0x7e00, 0xfe00, 0x7c01, 0xfc01],
        ),
        _ => (&[0, 1, u32::MAX, 1 << 31, i32::MAX as u32], &[7]),
    };
    let parts = if halves { 2 } else { 1 };
    for &reg in sums {
        let usual = if random.below(4) == 0 {
            &usual[..1]
        } else {
            usual
        };
        let other = if random.below(4) == 0 {
            random.below(32)
        } else {
            32
        };
        for lane in 0..32 {
            let mut word = 0;
            for part in 0..parts {
                let from = if lane == other { odd } else { usual };
                word |= random.of(from) << (16 * part);
            }
            w.u32s_mut(reg)[lane] = word;
        }
    }
}

/// A product of each pair of types, one after another with the same factors' memory.
#[test]
fn parts_left_out_have_the_bits_that_multiplying_gives() {
    use MatrixTy::{Bf16, E4m3, E5m2, F16, S8, Tf32, U8};
    let kinds = [
        (F16, F16, MatrixSum::F32),
        (F16, F16, MatrixSum::F16),
        (Bf16, Bf16, MatrixSum::F32),
        (Tf32, Tf32, MatrixSum::F32),
        (E4m3, E5m2, MatrixSum::F32),
        (E5m2, E4m3, MatrixSum::F16),
        (S8, U8, MatrixSum::S32),
        (U8, S8, MatrixSum::S32Sat),
    ];
    let mut random = Random(1);
    let mut kind = kinds[0];
    let mut factors = Factors::default();
    let (mut left_out, mut multiplied, mut stored) = (0, 0, 0);
    for _ in 0..6000 {
        if random.below(4) == 0 {
            kind = random.of(&kinds);
        }
        let (ty, ty_b, sum) = kind;
        let is_float = !matches!(ty, S8 | U8);
        let wgmma = Wgmma {
            columns: random.of(&[8, 16, 32]),
            ty,
            ty_b,
            sum,
            negate_a: is_float && random.below(4) == 0,
            negate_b: is_float && random.below(4) == 0,
            transpose_a: ty.bits() == 16 && random.chance(50),
            transpose_b: ty.bits() == 16 && random.chance(50),
        };
        let warp = random.below(4);
        let sums: Vec<Reg> = (1..=wgmma.sums() as u16).map(Reg).collect();
        let fragment: Vec<Reg> = (0..4).map(|i| Reg(70 + i)).collect();
        let mut w = Warp::new(0, 0, 80, 1);
        w.clear_rows();
        fill_sums(&mut random, &mut w, &sums, sum);
        // Without properties of its columns, nothing is left out of it.
        let mut full = Factors::default();
        factors.start(wgmma);
        full.start(wgmma);
        if random.below(4) == 0 {
            // Two registers with eight rows, two with the others.
            for half in 0..2 {
                let words = words_of(&fill(&mut random, ty));
                for (i, &word) in words.iter().enumerate() {
                    w.u32s_mut(fragment[half + 2 * (i / 32)])[i % 32] = word;
                }
            }
            for factors in [&mut factors, &mut full] {
                take_left(&w, warp, factors, wgmma, &fragment);
            }
        } else {
            for octet in 0..8 {
                let pieces = fill(&mut random, ty);
                put_left(&mut factors, wgmma, octet, &pieces);
                let what = (ty, wgmma.negate_a, wgmma.transpose_a);
                convert(what, octet, &pieces, |row, k, value| {
                    full.set_left(row, k, value);
                });
            }
        }
        for octet in 0..usize::from(wgmma.columns) / 8 {
            let pieces = fill(&mut random, ty_b);
            put_right(&mut factors, wgmma, octet, &pieces);
            let what = (ty_b, wgmma.negate_b, wgmma.transpose_b);
            convert(what, octet, &pieces, |column, k, value| {
                full.set_right(column, k, value);
            });
        }
        let keep = random.below(4) != 0;
        let mut expected = Warp::new(0, 0, 80, 1);
        expected.rows = w.rows.clone();
        for (w, factors) in [(&mut w, &factors), (&mut expected, &full)] {
            match sum {
                MatrixSum::F32 => multiply(w, &sums, factors, warp, keep),
                MatrixSum::F16 => multiply_half(w, &sums, factors, warp, keep),
                sum => multiply_integers(w, &sums, factors, warp, (keep, sum)),
            }
        }
        for &reg in &sums {
            let (got, expected) = (w.u32s(reg), expected.u32s(reg));
            assert_eq!(got, expected, "{wgmma:?} {reg:?} {keep}");
        }
        for place in (0..2).flat_map(|half| {
            (0..usize::from(wgmma.columns) / 8).map(move |column| (2 * warp + half, column))
        }) {
            match factors.adds_nothing(place) {
                true => left_out += 1,
                false => multiplied += 1,
            }
        }
        stored += factors.clear_groups();
    }
    assert!(
        left_out > 1000 && multiplied > 1000,
        "{left_out} {multiplied}"
    );
    assert!(stored > 1000, "{stored}");
}
