//! Counts of random patterns of addresses against a search of all pairs of lanes and a count of
//! the words of each bank.
use super::*;
use crate::random::Random;

/// Lanes whose address no lower lane has.
fn unique(m: u32, address: &[u64; 32]) -> u32 {
    let is_new = |&lane: &usize| !lanes(m).any(|o| o < lane && address[o] == address[lane]);
    lanes(m).filter(is_new).fold(0, |bits, i| bits | 1 << i)
}

/// Wavefronts, and how many of them there are without conflicts.
fn wavefronts(m: u32, address: &[u64; 32], bytes: u64) -> (u32, u32) {
    let phase = if bytes <= 4 { 32 } else { 128 / bytes as usize };
    let (mut wavefronts, mut ideal) = (0, 0);
    for first in (0..32).step_by(phase) {
        let mut words: [Vec<u64>; 32] = std::array::from_fn(|_| Vec::new());
        for lane in (first..first + phase).filter(|lane| m >> lane & 1 != 0) {
            for byte in address[lane]..address[lane] + bytes {
                let of_bank = &mut words[(byte / 4 % 32) as usize];
                if !of_bank.contains(&(byte / 4)) {
                    of_bank.push(byte / 4);
                }
            }
        }
        let most = words.iter().map(Vec::len).max().unwrap_or(0) as u32;
        wavefronts += most;
        ideal += most.min(1);
    }
    (wavefronts, ideal)
}

/// The address of a lane in a pattern of some kind.
fn address(random: &mut Random, kind: u64, lane: u64, step: u64, base: u64) -> u64 {
    match kind {
        0 => base + lane * step,
        1 => base + lane % 8 * step + lane / 8,
        2 => base + (lane ^ (step % 32)),
        3 => base + random.below(4) as u64,
        4 => base + random.below(40) as u64,
        _ => random.below(2048) as u64,
    }
}

#[test]
fn counts_are_those_of_a_search() {
    let mut random = Random(7);
    let (mut repeated, mut conflicts) = (0, 0);
    for bytes in [1u64, 2, 4, 8, 16, 32] {
        let mut site = Site::default();
        for round in 0..3000 {
            let m = match random.below(4) {
                0 => u32::MAX,
                1 => 1 << random.below(32),
                _ => random.below(1 << 32) as u32,
            };
            if m == 0 {
                continue;
            }
            let (kind, step) = (random.below(6) as u64, random.below(40) as u64);
            let base = random.below(64) as u64;
            let mut at: [u64; 32] = std::array::from_fn(|lane| {
                bytes * address(&mut random, kind, lane as u64, step, base)
            });
            for again in 0..3 {
                pattern(&mut site, m, &at, bytes as u32);
                let expected = unique(m, &at);
                assert_eq!(
                    site.unique, expected,
                    "{bytes} {round} {again} {m:#x} {at:?}"
                );
                let counted = (site.wavefronts, site.ideal);
                let expected = wavefronts(m, &at, bytes);
                assert_eq!(counted, expected, "{bytes} {round} {again} {m:#x} {at:?}");
                repeated += u32::from(site.unique != m);
                conflicts += u32::from(counted.0 > counted.1);
                // The same pattern elsewhere.
                let further = bytes * random.below(64) as u64;
                at = at.map(|address| address + further);
            }
        }
    }
    assert!(
        repeated > 1000 && conflicts > 1000,
        "{repeated} {conflicts}"
    );
}
