//! Addresses of a load, store or atomic, and their state spaces.
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::ir::{
    Address, CLUSTER_WINDOW_BYTES, LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, Space, WINDOW_BYTES,
};

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

/// The state space of a generic address; `Shared` also for shared memory of another block of the
/// cluster.
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

/// The lanes of `m` whose generic addresses lie in each space, with addresses relative to its
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

/// Returns whether no lane's address lies in a window.
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
