//! Loads and stores of shared memory.
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::bank_conflicts::count;
use crate::exec::memory::local::{get, put};
use crate::ir::{AccessType, Reg, Space, Width};
use crate::report::{Access, AccessKind, FaultKind};
use crate::sanitizer::shadow::Actor;
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Identity of a lane of the current split, for the race checker.
#[inline(always)]
pub(crate) fn actor(w: &Warp, lane: usize, strong: bool) -> Actor {
    Actor {
        warp: w.index,
        lane: lane as u32,
        pc: w.pc,
        sync: w.sync_count,
        strong,
    }
}

/// Checks bounds and alignment of all lanes.
#[inline(always)]
pub(crate) fn check_bounds(
    cx: &Context,
    m: u32,
    kind: AccessKind,
    address: &[u64; 32],
    bytes: u32,
) -> Outcome {
    let first = address[(m.trailing_zeros() & 31) as usize];
    let (mut high, mut bits) = (first, first);
    for (i, &lane) in address.iter().enumerate() {
        let a = if m >> i & 1 != 0 { lane } else { first };
        high = high.max(a);
        bits |= a;
    }
    let limit = u64::from(cx.shared.bytes);
    if high <= limit && u64::from(bytes) <= limit - high && bits & u64::from(bytes - 1) == 0 {
        return Ok(());
    }
    Err(bounds_trouble(cx, m, kind, address, bytes))
}

#[cold]
fn bounds_trouble(
    cx: &Context,
    m: u32,
    kind: AccessKind,
    address: &[u64; 32],
    bytes: u32,
) -> Box<UnlocatedFault> {
    let limit = u64::from(cx.shared.bytes);
    let outside = |a: u64| a > limit || u64::from(bytes) > limit - a;
    let bad = |&i: &usize| outside(address[i]) || !address[i].is_multiple_of(u64::from(bytes));
    let lane = lanes(m).find(bad).unwrap_or(0);
    let at = address[lane];
    let touch = touch(kind, Space::Shared, at, bytes);
    if !outside(at) {
        let nearest = cx.shared_region(at);
        return UnlocatedFault::lane(
            lane,
            FaultKind::Misaligned {
                touch,
                align: bytes,
                nearest,
            },
        );
    }
    let actual = crate::exec::memory::address::space_of(at);
    if actual != Space::Global || at >= crate::memory::FIRST_ADDRESS {
        return UnlocatedFault::lane(lane, FaultKind::WrongSpace { touch, actual });
    }
    let nearest = cx.shared_region(at);
    UnlocatedFault::lane(lane, FaultKind::OutOfBounds { touch, nearest })
}

/// Checks and records a lane's read, unit by unit.
#[inline(never)]
pub(crate) fn read_units(cx: &mut Context, actor: &Actor, touched: Access) -> Outcome {
    cx.shared.shadow.divide(touched.bytes);
    let shift = cx.shared.shadow.shift;
    let first = touched.address >> shift;
    let units = u64::from(touched.bytes) >> shift;
    for unit in first..first + units.max(1) {
        if let Err(conflict) = cx.shared.shadow.read(unit as usize, &cx.order, actor) {
            return Err(cx.shared_trouble(conflict, touched, unit << shift, actor));
        }
        if actor.strong {
            cx.order.read_flag(unit as usize, actor.warp);
        }
    }
    Ok(())
}

/// Checks and records a lane's write, unit by unit. `bytes` are the values to be written.
#[inline(never)]
pub(crate) fn write_units(
    cx: &mut Context,
    actor: &Actor,
    touched: Access,
    bytes: &[u8],
) -> Outcome {
    cx.shared.shadow.divide(touched.bytes);
    let shift = cx.shared.shadow.shift;
    let first = touched.address >> shift;
    let size = 1usize << shift;
    for (i, new) in bytes.chunks(size).enumerate() {
        let unit = first + i as u64;
        let at = (unit << shift) as usize;
        let same = byte_slice(&cx.shared.words).get(at..at + new.len()) == Some(new);
        if let Err(conflict) = cx
            .shared
            .shadow
            .write(unit as usize, &cx.order, actor, same)
        {
            // In a large unit some bytes may already have the value.
            if cx.shared.shadow.divide_all() {
                return write_units(cx, actor, touched, bytes);
            }
            return Err(cx.shared_trouble(conflict, touched, unit << shift, actor));
        }
        cx.order
            .write_flag(unit as usize, actor.warp, actor.strong, false);
    }
    Ok(())
}

/// Words as bytes.
#[inline(always)]
pub(crate) fn byte_slice(words: &[u32]) -> &[u8] {
    // SAFETY: any u32 is four bytes, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 4) }
}

/// Words as mutable bytes.
#[inline(always)]
pub(crate) fn byte_slice_mut(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: as in `byte_slice`; any four bytes are a u32.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 4) }
}

/// `ld.shared`.
#[inline(always)]
pub(crate) fn load(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    d: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = u32::from(access.bytes) * u32::from(access.count);
    let kind = AccessKind::Read;
    check_bounds(cx, m, kind, address, bytes)?;
    let unique = count(cx, w, m, kind, address, bytes);
    cx.shared.shadow.divide(bytes);
    let quick = !access.strong;
    let words = access.bytes == 4 && access.reg == Width::W32;
    if words && quick {
        match access.count {
            4 => return load_words::<4>(cx, w, m, unique, d, address),
            2 => return load_words::<2>(cx, w, m, unique, d, address),
            _ => return load_words::<1>(cx, w, m, unique, d, address),
        }
    }
    if access.bytes == 2 && access.count == 1 && access.reg != Width::W64 && quick {
        return load_halves(cx, w, m, unique, access, d[0], address);
    }
    let element = u32::from(access.bytes);
    for lane in lanes(m) {
        let shadow = &mut cx.shared.shadow;
        let unit = std::iter::once((address[lane] >> shadow.shift) as usize);
        let len = bytes as usize >> shadow.shift;
        let reader = (w.index, w.sync_count);
        if !quick || !shadow.read_small(unit, len, &cx.order, reader) {
            let actor = actor(w, lane, access.strong);
            read_units(cx, &actor, touch(kind, Space::Shared, address[lane], bytes))?;
        }
        for (j, &reg) in d.iter().enumerate().take(usize::from(access.count)) {
            let at = (address[lane] + j as u64 * u64::from(element)) as usize;
            let source = &byte_slice(&cx.shared.words)[at..];
            put(w, lane, reg, access, element_of(source, element));
        }
    }
    Ok(())
}

/// The element of 1, 2, 4 or 8 bytes at the start of a slice of shared memory, which has more than
/// eight bytes after the last one. A copy of variable length would cost a call per element.
#[inline(always)]
fn element_of(source: &[u8], bytes: u32) -> u64 {
    let all = source
        .first_chunk()
        .map_or(0, |&all| u64::from_le_bytes(all));
    all & u64::MAX >> (64 - 8 * bytes)
}

/// Loads `COUNT` words per lane.
#[inline(always)]
fn load_words<const COUNT: usize>(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    unique: u32,
    d: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    // Inactive lanes may have any address.
    let mut first = [0usize; 32];
    for lane in 0..32 {
        first[lane] = if m >> lane & 1 != 0 {
            (address[lane] / 4) as usize
        } else {
            0
        };
    }
    let shadow = &mut cx.shared.shadow;
    let shift = shadow.shift;
    let fine = if shift == 2 && !cx.order.precise {
        let units = lanes(unique).map(|lane| first[lane]);
        shadow.read_fast::<COUNT>(units, &cx.order, w.index)
    } else {
        let units = lanes(unique).map(|lane| (first[lane] * 4) >> shift);
        let reader = (w.index, w.sync_count);
        shadow.read_small(units, (COUNT * 4) >> shift, &cx.order, reader)
    };
    if !fine {
        closer_look(cx, w, m, COUNT as u32 * 4, address)?;
    }
    let mut out = [[0u32; 32]; COUNT];
    let words = &cx.shared.words[..];
    for lane in 0..32 {
        debug_assert!(first[lane] + COUNT <= words.len());
        // SAFETY: `check_bounds` has passed for the active lanes, and the others read the first
        // words, of which there are always at least eight (see `Worker::new`).
        let source: [u32; COUNT] = unsafe {
            words
                .as_ptr()
                .add(first[lane])
                .cast::<[u32; COUNT]>()
                .read()
        };
        for j in 0..COUNT {
            out[j][lane] = source[j];
        }
    }
    for j in 0..COUNT {
        if !d[j].is_none() {
            w.set32(m, d[j], &out[j]);
        }
    }
    Ok(())
}

/// Loads two bytes per lane.
#[inline(always)]
fn load_halves(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    unique: u32,
    access: AccessType,
    d: Reg,
    address: &[u64; 32],
) -> Outcome {
    let shadow = &mut cx.shared.shadow;
    let shift = shadow.shift;
    let units = lanes(unique).map(|lane| (address[lane] >> shift) as usize);
    let reader = (w.index, w.sync_count);
    if !shadow.read_small(units, 2 >> shift, &cx.order, reader) {
        closer_look(cx, w, m, 2, address)?;
    }
    if d.is_none() {
        return Ok(());
    }
    let bytes = byte_slice(&cx.shared.words);
    let mut out = [0u32; 32];
    for lane in lanes(m) {
        let at = address[lane] as usize;
        let half = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        out[lane] = match (access.signed, access.reg) {
            (true, Width::W32) => i32::from(half.cast_signed()).cast_unsigned(),
            _ => u32::from(half),
        };
    }
    w.set32(m, d, &out);
    Ok(())
}

/// Checks and records reads lane by lane.
#[inline(never)]
pub(crate) fn closer_look(
    cx: &mut Context,
    w: &Warp,
    m: u32,
    bytes: u32,
    address: &[u64; 32],
) -> Outcome {
    for lane in lanes(m) {
        let actor = actor(w, lane, false);
        read_units(
            cx,
            &actor,
            touch(AccessKind::Read, Space::Shared, address[lane], bytes),
        )?;
    }
    Ok(())
}

/// `st.shared`.
#[inline(always)]
pub(crate) fn store(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    src: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = u32::from(access.bytes) * u32::from(access.count);
    let kind = AccessKind::Write;
    check_bounds(cx, m, kind, address, bytes)?;
    let unique = count(cx, w, m, kind, address, bytes);
    cx.shared.shadow.divide(bytes);
    let words = access.bytes == 4 && access.reg == Width::W32 && !access.strong;
    if words && !cx.order.precise && unique == m {
        let shift = cx.shared.shadow.shift;
        // Constant lengths compile to vector instructions.
        let done = match (access.count, bytes >> shift) {
            (4, 1) => store_words::<4, 1>(cx, w, m, src, address),
            (4, 4) => store_words::<4, 4>(cx, w, m, src, address),
            (4, 8) => store_words::<4, 8>(cx, w, m, src, address),
            (2, 1) => store_words::<2, 1>(cx, w, m, src, address),
            (2, 2) => store_words::<2, 2>(cx, w, m, src, address),
            (2, 4) => store_words::<2, 4>(cx, w, m, src, address),
            (1, 1) => store_words::<1, 1>(cx, w, m, src, address),
            (1, 2) => store_words::<1, 2>(cx, w, m, src, address),
            _ => false,
        };
        if done {
            return Ok(());
        }
    }
    if words {
        return match access.count {
            4 => store_each::<4>(cx, w, m, src, address),
            2 => store_each::<2>(cx, w, m, src, address),
            _ => store_each::<1>(cx, w, m, src, address),
        };
    }
    if access.bytes == 2 && access.count == 1 && access.reg != Width::W64 && !access.strong {
        return store_halves(cx, w, m, src[0], address);
    }
    let element = usize::from(access.bytes);
    for lane in lanes(m) {
        let mut value = [0u8; 32];
        for (j, &reg) in src.iter().enumerate().take(usize::from(access.count)) {
            let word = get(w, lane, reg, access.reg).to_le_bytes();
            value[j * element..][..element].copy_from_slice(&word[..element]);
        }
        let value = &value[..bytes as usize];
        let actor = actor(w, lane, access.strong);
        let shadow = &mut cx.shared.shadow;
        let unit = (address[lane] >> shadow.shift) as usize;
        let len = bytes as usize >> shadow.shift;
        if access.strong || !shadow.write_small(unit, len, &cx.order, &actor, false) {
            write_units(
                cx,
                &actor,
                touch(kind, Space::Shared, address[lane], bytes),
                value,
            )?;
        }
        let at = address[lane] as usize;
        byte_slice_mut(&mut cx.shared.words)[at..at + value.len()].copy_from_slice(value);
    }
    Ok(())
}

/// Stores `COUNT` words per lane, lane by lane.
#[inline(always)]
fn store_each<const COUNT: usize>(
    cx: &mut Context,
    w: &Warp,
    m: u32,
    src: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = COUNT as u32 * 4;
    for lane in lanes(m) {
        let at = address[lane];
        let value: [u32; COUNT] = std::array::from_fn(|j| w.u32s(src[j])[lane]);
        let actor = actor(w, lane, false);
        let shadow = &mut cx.shared.shadow;
        let shift = shadow.shift;
        let (unit, len) = ((at >> shift) as usize, bytes as usize >> shift);
        if !shadow.write_small(unit, len, &cx.order, &actor, false) {
            let touched = touch(AccessKind::Write, Space::Shared, at, bytes);
            write_units(cx, &actor, touched, byte_slice(&value))?;
        }
        cx.shared.words[(at / 4) as usize..][..COUNT].copy_from_slice(&value);
    }
    Ok(())
}

/// Stores two bytes per lane.
#[inline(always)]
fn store_halves(cx: &mut Context, w: &Warp, m: u32, src: Reg, address: &[u64; 32]) -> Outcome {
    for lane in lanes(m) {
        let at = address[lane];
        let value = (w.u32s(src)[lane] as u16).to_le_bytes();
        let actor = actor(w, lane, false);
        let shadow = &mut cx.shared.shadow;
        let unit = (at >> shadow.shift) as usize;
        if !shadow.write_small(unit, 2 >> shadow.shift, &cx.order, &actor, false) {
            let touched = touch(AccessKind::Write, Space::Shared, at, 2);
            write_units(cx, &actor, touched, &value)?;
        }
        byte_slice_mut(&mut cx.shared.words)[at as usize..][..2].copy_from_slice(&value);
    }
    Ok(())
}

/// Stores `COUNT` words per lane, in `UNITS` units, each lane to another address. Returns false,
/// without any effect, if lanes must be checked one by one.
#[inline(always)]
fn store_words<const COUNT: usize, const UNITS: usize>(
    cx: &mut Context,
    w: &Warp,
    m: u32,
    src: [Reg; 4],
    address: &[u64; 32],
) -> bool {
    let shadow = &cx.shared.shadow;
    let shift = shadow.shift;
    let unit = |lane: usize| (address[lane] >> shift) as usize;
    let mut good = true;
    for lane in lanes(m) {
        good &= shadow.may_write_fast::<UNITS>(unit(lane), &cx.order, w.index);
    }
    if !good {
        return false;
    }
    for lane in lanes(m) {
        let actor = actor(w, lane, false);
        cx.shared
            .shadow
            .write_fast::<UNITS>(unit(lane), &cx.order, &actor);
        let target = &mut cx.shared.words[(address[lane] / 4) as usize..][..COUNT];
        for j in 0..COUNT {
            target[j] = w.u32s(src[j])[lane];
        }
    }
    true
}
