//! Tests of ranges of bytes against sets of bytes.

use super::*;
use std::collections::BTreeSet;

const BYTES: u64 = 40;

fn set(bytes: &Bytes) -> BTreeSet<u64> {
    match bytes {
        Bytes::Exact(ranges) => ranges.iter().flat_map(|&(first, end)| first..end).collect(),
        Bytes::Somewhere => panic!("not exact"),
    }
}

/// A random set of up to three ranges; testing all combinations would take too long.
fn some(seed: &mut u64) -> Bytes {
    let mut bytes = Bytes::default();
    for base in [0, 32] {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(12345);
        let dense = (*seed >> 32) as u32;
        let sparse = dense & dense << 3 & dense >> 5;
        let chosen = match *seed >> 20 & 3 {
            0 => dense,
            1 => sparse,
            2 => u32::MAX,
            _ => 0,
        };
        bytes.push_mask(base, if base == 32 { chosen & 0xff } else { chosen });
    }
    bytes
}

#[test]
fn ranges_agree_with_sets() {
    let mut seed = 1;
    let mut answers = [0; 4];
    for _ in 0..20_000 {
        let (a, b) = (some(&mut seed), some(&mut seed));
        let (x, y) = (set(&a), set(&b));
        let both: Vec<u64> = x.intersection(&y).copied().collect();
        let common = a.common(&b, BYTES);
        assert_eq!(common.map(|range| range.0), both.first().copied());
        if let Some((first, end)) = common {
            assert!((first..end).all(|byte| both.contains(&byte)) && !both.contains(&end));
        }
        assert_eq!(a.covers(&b, BYTES), y.is_subset(&x), "{a:?} {b:?}");
        answers[usize::from(common.is_some())] += 1;
        answers[2 + usize::from(a.covers(&b, BYTES))] += 1;
    }
    assert!(answers.iter().all(|&count| count > 1000), "{answers:?}");
}

#[test]
fn masks_join_across_sectors() {
    let mut bytes = Bytes::default();
    bytes.push_mask(0, 0xf000_0001);
    bytes.push_mask(32, 0x0000_000f);
    bytes.push_mask(64, 0);
    bytes.push_mask(96, u32::MAX);
    assert_eq!(bytes, Bytes::Exact(vec![(0, 1), (28, 36), (96, 128)]));
}

#[test]
fn rows_are_ranges() {
    let rows = |sizes, pitches| Bytes::rows(100, sizes, pitches);
    assert_eq!(
        rows([4, 3, 1], [10, 0]),
        Bytes::Exact(vec![(100, 104), (110, 114), (120, 124)])
    );
    assert_eq!(rows([10, 3, 1], [10, 0]), Bytes::range(100, 130));
    assert_eq!(rows([10, 2, 2], [10, 20]), Bytes::range(100, 140));
    assert_eq!(
        rows([2, 2, 2], [50, 3]),
        Bytes::Exact(vec![(100, 102), (103, 105), (150, 152), (153, 155)])
    );
    assert!(rows([0, 3, 1], [10, 0]).is_empty());
    assert_eq!(rows([4, 3, 1], [0, 0]), Bytes::range(100, 104));
}

#[test]
fn bytes_that_are_not_known_meet_only_all() {
    let all = Bytes::range(0, BYTES);
    let nearly = Bytes::range(0, BYTES - 1);
    assert_eq!(all.common(&Bytes::Somewhere, BYTES), Some((0, BYTES)));
    assert_eq!(Bytes::Somewhere.common(&all, BYTES), Some((0, BYTES)));
    assert_eq!(nearly.common(&Bytes::Somewhere, BYTES), None);
    assert_eq!(Bytes::Somewhere.common(&Bytes::Somewhere, BYTES), None);
    assert!(Bytes::Somewhere.covers(&Bytes::Somewhere, BYTES));
    assert!(!Bytes::Somewhere.covers(&nearly, BYTES));
    assert!(!Bytes::default().covers(&Bytes::Somewhere, BYTES));
}

#[test]
fn reads_and_atomics_do_not_conflict_among_themselves() {
    let one = |way| {
        let bytes = Bytes::range(4, 8);
        match way {
            Way::Read => Footprint::reads(bytes),
            Way::Write => Footprint::writes(bytes),
            Way::Atomic => Footprint {
                atomic: bytes,
                ..Footprint::default()
            },
        }
    };
    for a in [Way::Read, Way::Write, Way::Atomic] {
        for b in [Way::Read, Way::Write, Way::Atomic] {
            let harmless = a == b && a != Way::Write;
            let expected = (!harmless).then_some(((4, 8), a, b));
            assert_eq!(one(a).conflict(&one(b), BYTES), expected);
            // A replacement must conflict with everything that the original conflicts with.
            let replaces = a == b || a == Way::Write;
            assert_eq!(one(a).stands_for(&one(b), BYTES), replaces, "{a:?} {b:?}");
        }
    }
}
