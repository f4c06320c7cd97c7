//! The proxy fences of a block, and the accesses that they cover.
use crate::sanitizer::async_proxy::Tracked;
use crate::sanitizer::vector_clock::Order;

/// The proxy fences that the lanes of each warp have executed, in order.
///
/// A fence of all remaining lanes of a warp covers everything ordered before the warp. Other warps
/// that synchronise with it acquire that coverage ([`Order::fence_proxies`]). A fence of some lanes
/// covers the same for these lanes only.
#[derive(Default)]
pub(crate) struct Fences {
    list: Vec<Vec<Fence>>,
    /// Per warp, the latest fence of each set of lanes that is not the whole warp.
    partial: Vec<Vec<Partial>>,
}

/// A fence of some lanes of a warp.
struct Partial {
    lanes: u32,
    /// The warp's count of synchronisations at the fence.
    sync: u32,
    /// Vector clock of the warp, by [`Order::knowledge`].
    known: Vec<u32>,
}

/// An ordinary write that a fence must cover.
#[derive(Clone, Copy)]
pub(crate) struct Write {
    pub warp: u32,
    pub lane: u32,
    pub time: u32,
    /// The warp's count of synchronisations at the write.
    pub sync: u32,
    /// True for a barrier's initialisation.
    pub init: bool,
}

/// Maximum number of stored fences per warp: 12 MiB.
pub(crate) const MOST_FENCES: usize = 1 << 20;
/// Maximum number of lane sets per warp, other than all lanes, whose fences are stored: about 4
/// MiB.
const MOST_SETS: usize = 4096;

/// A stored fence.
#[derive(Clone, Copy)]
struct Fence {
    time: u32,
    lanes: u32,
    /// True if it orders only the initialisation of barriers.
    only_init: bool,
}

impl Fences {
    pub fn new(warps: usize) -> Fences {
        Fences {
            list: vec![Vec::new(); warps],
            partial: (0..warps).map(|_| Vec::new()).collect(),
        }
    }

    pub fn clear(&mut self) {
        self.list.iter_mut().for_each(Vec::clear);
        self.partial.iter_mut().for_each(Vec::clear);
    }

    /// Records a fence of some lanes of a warp. `whole`: they are all remaining lanes of the warp;
    /// `sync`: its count of synchronisations. Returns whether there was room.
    pub fn add(
        &mut self,
        order: &mut Order,
        warp: usize,
        (lanes, whole): (u32, bool),
        sync: u32,
        only_init: bool,
    ) -> bool {
        let time = order.arrive();
        if self.list[warp].len() == MOST_FENCES || self.partial[warp].len() == MOST_SETS {
            return false;
        }
        if !only_init && whole {
            order.fence_proxies(warp, time);
        } else if !only_init {
            let known = order.knowledge(warp, time);
            let list = &mut self.partial[warp];
            list.retain(|fence| fence.lanes != lanes);
            // Truncated to the bits of a writer's count.
            let sync = sync & (u32::MAX >> 6);
            list.push(Partial { lanes, sync, known });
        }
        self.list[warp].push(Fence {
            time,
            lanes,
            only_init,
        });
        true
    }

    /// Returns whether a fence lies on a path from a write to the current access of a lane of the
    /// warp `me`; without a lane, to that of all its lanes.
    pub fn covers(&self, order: &Order, me: u32, my_lane: Option<u32>, write: Write) -> bool {
        let Write {
            warp,
            lane,
            time,
            sync,
            init,
        } = write;
        // Usually a whole warp has executed the fence, which needs no search.
        if order.is_fenced(me, warp, time) {
            return true;
        }
        let sync = sync & (u32::MAX >> 6);
        let list = &self.list[warp as usize];
        let first = list.partition_point(|fence| fence.time < time);
        let own = list[first..]
            .iter()
            .find(|fence| fence.lanes >> lane & 1 != 0 && (init || !fence.only_init));
        let seen =
            |time| order.is_before(me, warp, time) || init && order.sees_init(me, warp, time);
        own.is_some_and(|fence| me == warp || seen(fence.time))
            || self.mine(me, my_lane).any(|fence| {
                // Between lanes of a warp, the write precedes the fence if the lanes have
                // synchronised.
                let met = me != warp || my_lane == Some(lane) || sync != fence.sync;
                met && fence.known.get(warp as usize).is_some_and(|&t| time <= t)
            })
    }

    /// Returns whether a fence lies between the completion of a copy by a barrier's phase and the
    /// current access of a lane.
    pub fn covers_copy(&self, order: &Order, me: u32, my_lane: Option<u32>, copy: Tracked) -> bool {
        let column = order.slot_column(copy.slot);
        order.phases_fenced(me, copy.slot) > copy.phase
            || self
                .mine(me, my_lane)
                .any(|fence| fence.known.get(column).is_some_and(|&n| n > copy.phase))
    }

    /// The fences that a lane executed with only some lanes of its warp.
    fn mine(&self, me: u32, my_lane: Option<u32>) -> impl Iterator<Item = &Partial> {
        let list = self.partial.get(me as usize).map_or(&[][..], Vec::as_slice);
        list.iter()
            .filter(move |fence| my_lane.is_some_and(|lane| fence.lanes >> lane & 1 != 0))
    }

    /// The time of a warp's latest fence that any of the lanes executed.
    pub fn latest(&self, warp: usize, lanes: u32) -> Option<u32> {
        let fence = self.list[warp].iter().rfind(|f| f.lanes & lanes != 0);
        fence.map(|fence| fence.time)
    }
}
