//! Moves, packing and selection.
use crate::exec::machine::lanes::{lane_count, lanes, wide1};
use crate::exec::machine::softfloat::flush;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{space_of, window};
use crate::ir::{CLUSTER_SHIFT, Packing, Pred, PredSrc, Reg, Space, Width};

/// Copies a register.
#[inline(always)]
pub(crate) fn mov(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg) {
    if width == Width::W64 {
        let value = *w.u64s(a);
        w.set64(m, d, &value);
    } else {
        let value = *w.u32s(a);
        w.set32(m, d, &value);
    }
}

fn row(w: &Warp, r: Reg) -> [u32; 32] {
    if r.is_none() { [0; 32] } else { *w.u32s(r) }
}

/// Builds a register from parts.
#[inline(always)]
pub(crate) fn pack(w: &mut Warp, m: u32, kind: Packing, d: Reg, parts: [Reg; 4]) {
    let p = parts.map(|r| row(w, r));
    match kind {
        Packing::B32By16 => {
            let out = std::array::from_fn(|i| p[0][i] & 0xffff | p[1][i] << 16);
            w.set32(m, d, &out);
        }
        Packing::B16By8 => {
            let out = std::array::from_fn(|i| p[0][i] & 0xff | (p[1][i] & 0xff) << 8);
            w.set32(m, d, &out);
        }
        Packing::B32By8 => {
            let out = std::array::from_fn(|i| {
                p[0][i] & 0xff | (p[1][i] & 0xff) << 8 | (p[2][i] & 0xff) << 16 | p[3][i] << 24
            });
            w.set32(m, d, &out);
        }
        Packing::B64By32 => {
            let out = std::array::from_fn(|i| u64::from(p[0][i]) | u64::from(p[1][i]) << 32);
            w.set64(m, d, &out);
        }
        Packing::B64By16 => {
            let out = std::array::from_fn(|i| {
                let half = |j: usize| u64::from(p[j][i] & 0xffff) << (16 * j);
                half(0) | half(1) | half(2) | half(3)
            });
            w.set64(m, d, &out);
        }
    }
}

/// Splits a register into parts.
#[inline(always)]
pub(crate) fn unpack(w: &mut Warp, m: u32, kind: Packing, parts: [Reg; 4], a: Reg) {
    let (bits, count, wide) = match kind {
        Packing::B32By16 => (16, 2, false),
        Packing::B16By8 => (8, 2, false),
        Packing::B32By8 => (8, 4, false),
        Packing::B64By32 => (32, 2, true),
        Packing::B64By16 => (16, 4, true),
    };
    let value: [u64; 32] = if wide {
        *w.u64s(a)
    } else {
        w.u32s(a).map(u64::from)
    };
    let mask = (1u64 << bits) - 1;
    for (j, &part) in parts.iter().enumerate().take(count) {
        if !part.is_none() {
            let out = value.map(|x| (x >> (bits * j) & mask) as u32);
            w.set32(m, part, &out);
        }
    }
}

/// `p ? a : b`.
#[inline(always)]
pub(crate) fn selp(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg, b: Reg, p: PredSrc) {
    let p = w.pred(p);
    select(w, m, width, d, a, b, p);
}

/// The lanes of `choice` from `a`, other lanes from `b`.
#[inline(always)]
fn select(w: &mut Warp, m: u32, width: Width, d: Reg, a: Reg, b: Reg, choice: u32) {
    if width == Width::W64 {
        let (a, b) = (w.u64s(a), w.u64s(b));
        let mut out = [0; 32];
        for i in 0..lane_count() {
            // Arithmetic select: the compiler would turn a condition into a choice of two
            // addresses.
            let from_a = 0u64.wrapping_sub(u64::from(choice >> i & 1));
            out[i] = a[i] & from_a | b[i] & !from_a;
        }
        w.set64(m, d, &out);
    } else {
        let (a, b) = (w.u32s(a), w.u32s(b));
        let mut out = [0; 32];
        for i in 0..lane_count() {
            let from_a = 0u32.wrapping_sub(choice >> i & 1);
            out[i] = a[i] & from_a | b[i] & !from_a;
        }
        w.set32(m, d, &out);
    }
}

/// `c >= 0 ? a : b` of integers.
pub(crate) fn slct_s32(w: &mut Warp, m: u32, width: Width, d: Reg, [a, b, c]: [Reg; 3]) {
    let c = *w.u32s(c);
    let choice = lanes(u32::MAX).fold(0, |bits, i| bits | u32::from(c[i] as i32 >= 0) << i);
    select(w, m, width, d, a, b, choice);
}

/// `c >= 0 ? a : b` of f32.
pub(crate) fn slct_f32(w: &mut Warp, m: u32, width: Width, d: Reg, [a, b, c]: [Reg; 3], ftz: bool) {
    let c = *w.u32s(c);
    let value = |x: u32| f32::from_bits(if ftz { flush(x) } else { x });
    let choice = lanes(u32::MAX).fold(0, |bits, i| bits | u32::from(value(c[i]) >= 0.0) << i);
    select(w, m, width, d, a, b, choice);
}

/// Converts an address of a space to a generic one, or back.
pub(crate) fn cvta(w: &mut Warp, m: u32, space: Space, to_space: bool, wide: bool, d: Reg, a: Reg) {
    let base = window(space);
    if base == 0 || !wide {
        mov(w, m, if wide { Width::W64 } else { Width::W32 }, d, a);
    } else if to_space {
        wide1(w, m, d, a, |x| x.wrapping_sub(base));
    } else {
        wide1(w, m, d, a, |x| x.wrapping_add(base));
    }
}

/// Sets the predicate to whether a generic address lies in a space. `rank`: the block's rank in its
/// cluster.
pub(crate) fn is_space(w: &mut Warp, m: u32, (space, rank): (Space, u32), p: Pred, a: Reg) {
    let address = *w.u64s(a);
    let is = |address: u64| match (space, space_of(address)) {
        (Space::Const, actual) => actual == Space::Global,
        (Space::Cluster, actual) => actual == Space::Shared,
        (Space::Shared, Space::Shared) => {
            let tag = (address - window(Space::Shared)) >> CLUSTER_SHIFT;
            tag == 0 || tag == u64::from(rank) + 1
        }
        (wanted, actual) => actual == wanted,
    };
    let bits = lanes(m).fold(0, |bits, i| bits | u32::from(is(address[i])) << i);
    w.set_pred(m, p, bits);
}
