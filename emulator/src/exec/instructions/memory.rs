//! `ld` and `st`: dispatch by the state space of each lane's address.
use crate::exec::instructions::cluster;
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{all_global, compute, sort};
use crate::exec::memory::{global, local, shared};
use crate::ir::{AccessType, Address, Op, Reg, Space};
use crate::report::{AccessKind, FaultKind};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes an operation of the family.
#[inline(always)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Ld { access, d, addr } => I::load(cx, w, m, access, d, addr)?,
        Op::St { access, src, addr } => I::store(cx, w, m, access, src, addr)?,
        // Hints have no effect.
        Op::Nop => {}
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
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
