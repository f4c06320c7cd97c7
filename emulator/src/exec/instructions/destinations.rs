//! Destinations of copies to shared memory of one or more blocks of a cluster.
use crate::exec::instructions::bulk_access::{begin_load, shared_part};
use crate::exec::instructions::cluster::{check_reachable, fault, locate, visit};
use crate::exec::instructions::mbarrier;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::warp::Warp;
use crate::exec::memory::shared::check_bounds;
use crate::ir::{Reg, Space};
use crate::report::{AccessKind, ClusterFault};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Destinations of a copy, and the barriers that complete it: at the same offsets in one or more
/// blocks.
pub(crate) struct Destinations {
    /// Mask of destination blocks: bit `i` is the block of rank `i`.
    blocks: u32,
    pub at: u64,
    barrier: u64,
    /// The barriers of a copy that has started: rank and slot.
    pub slots: Vec<(u32, usize)>,
}

impl Destinations {
    /// Destinations from addresses of `.shared::cluster`, or from a mask of blocks.
    pub fn new(
        cx: &mut Context,
        w: &Warp,
        lane: usize,
        [dst, barrier]: [u64; 2],
        (kind, bytes, align): (AccessKind, u32, u32),
        mask: Option<Reg>,
    ) -> Result<Destinations, Box<UnlocatedFault>> {
        let written = touch(kind, Space::Cluster, dst, bytes);
        let (rank, at) = locate(cx, lane, written)?;
        let (other, barrier) = locate(
            cx,
            lane,
            touch(AccessKind::Atomic, Space::Cluster, barrier, 8),
        )?;
        let all = cx.cluster.count();
        let blocks = match mask {
            None if rank != other => {
                let blocks = [rank, other].map(|rank| cx.cluster.blocks[rank as usize]);
                return Err(fault(lane, ClusterFault::BarrierElsewhere { blocks }));
            }
            None => 1 << rank,
            Some(mask) => {
                let mask = w.u32s(mask)[lane] & 0xffff;
                if mask >> all != 0 {
                    let blocks = all;
                    return Err(fault(lane, ClusterFault::MulticastMask { mask, blocks }));
                }
                mask
            }
        };
        let found = Destinations {
            blocks,
            at,
            barrier,
            slots: Vec::new(),
        };
        for rank in found.ranks() {
            if rank != cx.cluster.rank {
                check_reachable(cx, w, lane, rank, written)?;
            }
            cx.at(rank, |cx| {
                let barrier = [found.barrier; 32];
                check_bounds(cx, 1 << lane, AccessKind::Atomic, &barrier, 8)?;
                shared_part(cx, lane, kind, at, bytes, align)
            })?;
        }
        Ok(found)
    }

    fn ranks(&self) -> impl Iterator<Item = u32> + use<> {
        let blocks = self.blocks;
        (0..32).filter(move |rank| blocks >> rank & 1 != 0)
    }

    /// Calls `does` in each of the blocks.
    pub fn each(&self, cx: &mut Context, mut does: impl FnMut(&mut Context) -> Outcome) -> Outcome {
        for rank in self.ranks() {
            cx.at(rank, &mut does)?;
        }
        Ok(())
    }

    /// Starts the copy.
    pub fn begin(
        &mut self,
        cx: &mut Context,
        w: &Warp,
        lane: usize,
        (bytes, reduces): (u32, bool),
    ) -> Outcome {
        for rank in self.ranks() {
            let place = (self.at, bytes);
            let slot = cx.at(rank, |cx| {
                begin_load(cx, w, lane, place, self.barrier, reduces)
            })?;
            if rank != cx.cluster.rank {
                note_copy(cx, w, lane, (rank, slot), bytes);
            }
            self.slots.push((rank, slot));
        }
        Ok(())
    }

    /// Completes the copy.
    pub fn end(&self, cx: &mut Context, lane: usize, bytes: u32) -> Outcome {
        for &(rank, slot) in &self.slots {
            cx.at(rank, |cx| {
                mbarrier::expect(cx, slot, lane, -i64::from(bytes))
            })?;
        }
        Ok(())
    }
}

/// Records a copy to another block, which must be complete before that block ends.
pub(crate) fn note_copy(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    (rank, slot): (u32, usize),
    bytes: u32,
) {
    cx.counters.distributed.requests += u64::from(bytes != 0);
    cx.counters.distributed.bytes += u64::from(bytes);
    let phase = cx.mbarriers_of(rank).get(slot).phase_number();
    visit(cx, w, lane, rank, (Some((slot, phase)), true));
}
