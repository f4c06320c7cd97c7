//! Wavefronts and bank conflicts of a request to shared memory.
use crate::exec::machine::context::{Context, Site};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::report::AccessKind;

/// Compares the lanes' addresses with the site's pattern and recomputes the pattern if they differ.
#[inline(always)]
pub(crate) fn pattern(site: &mut Site, m: u32, address: &[u64; 32], bytes: u32) {
    let first = address[(m.trailing_zeros() & 31) as usize];
    let mut relative = [0u32; 32];
    // Lanes that access parts of a word share it or not depending on the first lane's position in
    // its word.
    let part = first as u32 & 3;
    let mut differ = (site.mask ^ m) | (site.part ^ part);
    for (i, &lane) in address.iter().enumerate() {
        let a = if m >> i & 1 != 0 { lane } else { first };
        relative[i] = (a.wrapping_sub(first)) as u32;
        differ |= relative[i] ^ site.pattern[i];
    }
    if differ != 0 {
        site.part = part;
        analyse(site, m, address, relative, bytes);
    }
}

/// Computes the wavefronts and the lanes with repeated addresses.
#[inline(never)]
fn analyse(site: &mut Site, m: u32, address: &[u64; 32], relative: [u32; 32], bytes: u32) {
    site.mask = m;
    site.pattern = relative;
    site.unique = unique_lanes(m, &relative);
    let lanes_a_phase = if bytes <= 4 { 32 } else { 128 / bytes as usize };
    site.wavefronts = 0;
    site.ideal = 0;
    for phase in (0..32).step_by(lanes_a_phase) {
        let mask = m & (((1u64 << lanes_a_phase) - 1) << phase) as u32;
        if mask != 0 {
            site.ideal += 1;
            site.wavefronts += phase_wavefronts(mask, address, bytes);
        }
    }
}

/// The lanes whose value no lower lane has.
fn unique_lanes(m: u32, values: &[u32; 32]) -> u32 {
    const SLOTS: usize = 64;
    let mut unique = 0;
    // A hash table of lanes plus one; 0 is an empty slot.
    let mut table = [0u8; SLOTS];
    for lane in lanes(m) {
        let mut slot = (values[lane].wrapping_mul(0x9e37_79b1) >> 26) as usize;
        loop {
            match table[slot] {
                0 => {
                    table[slot] = lane as u8 + 1;
                    unique |= 1 << lane;
                    break;
                }
                other if values[usize::from(other) - 1] == values[lane] => break,
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }
    unique
}

/// Wavefronts of the lanes in one phase: the largest number of different words in one bank.
fn phase_wavefronts(mask: u32, address: &[u64; 32], bytes: u32) -> u32 {
    // Usually no bank has two words. An access is aligned to its size, so two accesses use the same
    // group of banks or disjoint ones.
    let width = u64::from(bytes.max(4));
    let groups = 128 / width;
    let mut asked = [u64::MAX; 32];
    let has_conflict = lanes(mask).any(|lane| {
        let place = address[lane] / width;
        let before = std::mem::replace(&mut asked[(place % groups) as usize], place);
        before != u64::MAX && before != place
    });
    if !has_conflict {
        return 1;
    }
    let mut words: Vec<u64> = Vec::with_capacity(64);
    for lane in lanes(mask) {
        let first = address[lane] / 4;
        words.extend((0..u64::from(bytes.div_ceil(4))).map(|i| first + i));
    }
    words.sort_unstable();
    words.dedup();
    let mut banks = [0u32; 32];
    for word in words {
        banks[(word % 32) as usize] += 1;
    }
    banks.into_iter().max().unwrap_or(0)
}

/// Counts a request by the pattern of its addresses; returns the lanes whose address no lower lane
/// has.
#[inline(always)]
pub(crate) fn count(
    cx: &mut Context,
    w: &Warp,
    m: u32,
    kind: AccessKind,
    address: &[u64; 32],
    bytes: u32,
) -> u32 {
    let site = cx.sites.at(w.pc);
    pattern(site, m, address, bytes);
    let (wavefronts, ideal, unique) = (site.wavefronts, site.ideal, site.unique);
    cx.count_shared(kind, wavefronts, ideal);
    unique
}

#[cfg(test)]
mod tests;
