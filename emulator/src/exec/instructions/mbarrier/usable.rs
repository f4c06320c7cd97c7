//! Visibility of the initialisation of mbarrier objects.
use crate::exec::machine::context::Context;
use crate::report::AsyncFault;
use crate::sanitizer::UnlocatedFault;
use crate::sanitizer::fences::Write;
use crate::sanitizer::shadow::Actor;

pub(crate) fn fault(lane: usize, fault: AsyncFault) -> Box<UnlocatedFault> {
    UnlocatedFault::lane(lane, fault.into())
}

/// The barrier at an address, if the thread may access it.
pub(crate) fn usable(
    cx: &Context,
    actor: &Actor,
    address: u64,
    proxy: bool,
) -> Result<usize, Box<UnlocatedFault>> {
    let lane = actor.lane as usize;
    let Some(slot) = cx.mbarriers.find(address) else {
        let nearest = cx.shared_region(address);
        return Err(fault(lane, AsyncFault::NoMbarrier { address, nearest }));
    };
    let barrier = &cx.mbarriers.list[slot];
    let init = &barrier.init;
    let seen = if init.warp == actor.warp {
        init.lane == actor.lane || init.sync != actor.sync
    } else {
        cx.order.is_before(actor.warp, init.warp, barrier.time)
            || cx.order.sees_init(actor.warp, init.warp, barrier.time)
    };
    let fenced = !proxy
        || cx.fences.covers(
            &cx.order,
            actor.warp,
            Some(actor.lane),
            Write {
                warp: init.warp,
                lane: init.lane,
                time: barrier.time,
                sync: init.sync,
                init: true,
            },
        );
    if seen && fenced {
        return Ok(slot);
    }
    Err(fault(
        lane,
        AsyncFault::MbarrierNotVisible {
            address,
            by: cx.thread(init.warp, init.lane),
            line: cx.line(init.pc),
            proxy: seen,
        },
    ))
}
