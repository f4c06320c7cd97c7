//! Fences of memory and between the proxies.
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::warp::Warp;
use crate::ir::Op;
use crate::report::FaultKind;
use crate::sanitizer::fences::MOST_FENCES;
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Fence => fence(cx, w)?,
        Op::ProxyFence { mbarrier_init } => proxy_fence(cx, w, m, mbarrier_init)?,
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// `membar`, `fence`
fn fence(cx: &mut Context, w: &Warp) -> Outcome {
    // Orders blocks on other cores: x86 may reorder loads before earlier stores.
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    if cx.order.is_exhausted() {
        return Err(UnlocatedFault::warp(FaultKind::TooManyBarriers));
    }
    cx.order.fence(w.index);
    Ok(())
}

/// `fence.proxy.async`, `fence.mbarrier_init`
fn proxy_fence(cx: &mut Context, w: &Warp, m: u32, mbarrier_init: bool) -> Outcome {
    let lanes = (m, m == w.alive);
    let (warp, sync) = (w.index as usize, w.sync_count);
    let noted = cx
        .fences
        .add(&mut cx.order, warp, lanes, sync, mbarrier_init);
    if !noted {
        return Err(UnlocatedFault::warp(FaultKind::TooMany {
            what: "fences between the proxies in one warp of a block",
            most: MOST_FENCES as u64,
        }));
    }
    Ok(())
}
