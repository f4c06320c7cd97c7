//! Addresses of a load, store or atomic, and which memory they belong to.
use crate::exec::instructions::cluster;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::{global, local, shared};
use crate::ir::{
    AccessType, Address, CLUSTER_WINDOW_BYTES, LOCAL_WINDOW, PARAM_WINDOW, Reg, SHARED_WINDOW,
    Space, WINDOW_BYTES,
};
use crate::report::{AccessKind, FaultKind};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// The address of every lane.
#[inline(always)]
pub(crate) fn compute(w: &Warp, addr: Address) -> [u64; 32] {
    let offset = i64::from(addr.offset) as u64;
    let mut out = [offset; 32];
    if addr.base.is_none() {
        return out;
    }
    if addr.wide {
        let base = w.u64s(addr.base);
        for i in 0..32 {
            out[i] = base[i].wrapping_add(offset);
        }
    } else {
        let base = w.u32s(addr.base);
        for i in 0..32 {
            out[i] = u64::from(base[i].wrapping_add(offset as u32));
        }
    }
    out
}

/// The space that a generic address points into; `Shared` also for shared memory of another block
/// of the cluster.
pub(crate) fn space_of(address: u64) -> Space {
    let inside = |window: u64| address.wrapping_sub(window) < WINDOW_BYTES;
    match address {
        _ if address.wrapping_sub(SHARED_WINDOW) < CLUSTER_WINDOW_BYTES => Space::Shared,
        _ if inside(LOCAL_WINDOW) => Space::Local,
        _ if inside(PARAM_WINDOW) => Space::Param,
        _ => Space::Global,
    }
}

/// First generic address of a space's window.
pub(crate) fn window(space: Space) -> u64 {
    match space {
        Space::Shared | Space::Cluster => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        Space::Param => PARAM_WINDOW,
        _ => 0,
    }
}

/// The lanes of `m` whose generic addresses lie in each space, addresses made relative to its
/// window.
pub(crate) fn sort(m: u32, address: &[u64; 32]) -> [(Space, u32, [u64; 32]); 4] {
    [Space::Global, Space::Shared, Space::Local, Space::Param].map(|space| {
        let mut mask = 0;
        let mut relative = *address;
        for lane in lanes(m) {
            if space_of(address[lane]) == space {
                mask |= 1 << lane;
                relative[lane] = address[lane] - window(space);
            }
        }
        (space, mask, relative)
    })
}

/// Whether no lane's address lies in a window.
#[inline(always)]
pub(crate) fn all_global(m: u32, address: &[u64; 32]) -> bool {
    let mut windows = 0u32;
    for (i, lane) in address.iter().enumerate() {
        let outside =
            lane.wrapping_sub(SHARED_WINDOW) >= PARAM_WINDOW + WINDOW_BYTES - SHARED_WINDOW;
        windows |= u32::from(!outside) << i;
    }
    windows & m == 0
}

/// `ld` in any space.
#[inline(always)]
pub(crate) fn load(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    d: [Reg; 4],
    addr: Address,
) -> Outcome {
    let address = compute(w, addr);
    match access.space {
        Space::Global | Space::Const => global::load(cx, w, m, access, d, &address),
        Space::Shared => match shared::load(cx, w, m, access, d, &address) {
            Ok(()) => Ok(()),
            Err(trouble) => match cluster::own_offsets(cx, m, &address) {
                Some(address) => load_cluster(cx, w, m, access, d, &address),
                None => Err(trouble),
            },
        },
        Space::Cluster => load_cluster(cx, w, m, access, d, &address),
        Space::Local => local::load(w, m, access, d, &address),
        Space::Param => local::load_param(cx, w, m, access, d, &address),
        Space::Generic if all_global(m, &address) => global::load(cx, w, m, access, d, &address),
        Space::Generic => load_generic(cx, w, m, access, d, &address),
    }
}

#[cold]
fn load_generic(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    d: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    for (space, mask, relative) in sort(m, address) {
        match space {
            _ if mask == 0 => {}
            Space::Shared => load_cluster(cx, w, mask, access, d, &relative)?,
            Space::Local => local::load(w, mask, access, d, &relative)?,
            Space::Param => local::load_param(cx, w, mask, access, d, &relative)?,
            _ => global::load(cx, w, mask, access, d, &relative)?,
        }
    }
    Ok(())
}

/// `ld.shared::cluster`
#[cold]
#[inline(never)]
fn load_cluster(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    d: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = u32::from(access.bytes) * u32::from(access.count);
    let what = (AccessKind::Read, bytes, true);
    cluster::each_block(cx, w, m, what, address, |cx, w, m, address| {
        shared::load(cx, w, m, access, d, address)
    })
}

/// `st.shared::cluster`
#[cold]
#[inline(never)]
fn store_cluster(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    src: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = u32::from(access.bytes) * u32::from(access.count);
    let what = (AccessKind::Write, bytes, true);
    cluster::each_block(cx, w, m, what, address, |cx, w, m, address| {
        shared::store(cx, w, m, access, src, address)
    })
}

/// `st` in any space.
#[inline(always)]
pub(crate) fn store(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    src: [Reg; 4],
    addr: Address,
) -> Outcome {
    let address = compute(w, addr);
    match access.space {
        Space::Global => global::store(cx, w, m, access, src, &address),
        Space::Shared => match shared::store(cx, w, m, access, src, &address) {
            Ok(()) => Ok(()),
            Err(trouble) => match cluster::own_offsets(cx, m, &address) {
                Some(address) => store_cluster(cx, w, m, access, src, &address),
                None => Err(trouble),
            },
        },
        Space::Cluster => store_cluster(cx, w, m, access, src, &address),
        Space::Local => local::store(w, m, access, src, &address),
        Space::Generic if all_global(m, &address) => global::store(cx, w, m, access, src, &address),
        Space::Generic => store_generic(cx, w, m, access, src, &address),
        Space::Const | Space::Param => Err(read_only(m, access.space, access, &address)),
    }
}

#[cold]
fn store_generic(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    src: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    for (space, mask, relative) in sort(m, address) {
        match space {
            _ if mask == 0 => {}
            Space::Shared => store_cluster(cx, w, mask, access, src, &relative)?,
            Space::Local => local::store(w, mask, access, src, &relative)?,
            Space::Param => return Err(read_only(mask, space, access, &relative)),
            _ => global::store(cx, w, mask, access, src, &relative)?,
        }
    }
    Ok(())
}

#[cold]
fn read_only(m: u32, space: Space, access: AccessType, address: &[u64; 32]) -> Box<UnlocatedFault> {
    let lane = m.trailing_zeros() as usize;
    let bytes = u32::from(access.bytes) * u32::from(access.count);
    let touch = touch(AccessKind::Write, space, address[lane], bytes);
    UnlocatedFault::lane(
        lane,
        FaultKind::ReadOnly {
            touch,
            region: None,
        },
    )
}
