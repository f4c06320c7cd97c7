//! Special registers.

use crate::ir::{Clock, Special};

/// Kind of a special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialRegister {
    /// Constant while a warp runs; the flag is true for 64 bits.
    Row(Special, bool),
    /// Variable, read by an instruction; the flag is true for 64 bits.
    Clock(Clock, bool),
}

/// The special register with a name.
pub fn find(name: &str) -> Option<SpecialRegister> {
    let name = name.strip_prefix('%')?;
    if let Some((vector, component)) = name.split_once('.') {
        let axis = match component {
            "x" => 0,
            "y" => 1,
            "z" => 2,
            _ => return None,
        };
        let special = match vector {
            "tid" => Special::Tid(axis),
            "ntid" => Special::Ntid(axis),
            "ctaid" => Special::Ctaid(axis),
            "nctaid" => Special::Nctaid(axis),
            "clusterid" => Special::ClusterId(axis),
            "nclusterid" => Special::NclusterId(axis),
            "cluster_ctaid" => Special::ClusterCtaId(axis),
            "cluster_nctaid" => Special::ClusterNctaId(axis),
            _ => return None,
        };
        return Some(SpecialRegister::Row(special, false));
    }
    Some(match name {
        "clock" | "clock_lo" => SpecialRegister::Clock(Clock::Clock32, false),
        "clock_hi" => SpecialRegister::Clock(Clock::ClockHi, false),
        "clock64" => SpecialRegister::Clock(Clock::Clock64, true),
        "globaltimer" => SpecialRegister::Clock(Clock::GlobalTimer, true),
        "globaltimer_lo" => SpecialRegister::Clock(Clock::GlobalTimerLo, false),
        "globaltimer_hi" => SpecialRegister::Clock(Clock::GlobalTimerHi, false),
        _ => SpecialRegister::Row(row(name)?, name == "gridid"),
    })
}

fn row(name: &str) -> Option<Special> {
    Some(match name {
        "laneid" => Special::LaneId,
        "warpid" => Special::WarpId,
        "nwarpid" => Special::NwarpId,
        "smid" => Special::SmId,
        "nsmid" => Special::NsmId,
        "gridid" => Special::GridId,
        "lanemask_eq" => Special::LaneMaskEq,
        "lanemask_le" => Special::LaneMaskLe,
        "lanemask_lt" => Special::LaneMaskLt,
        "lanemask_ge" => Special::LaneMaskGe,
        "lanemask_gt" => Special::LaneMaskGt,
        "dynamic_smem_size" => Special::DynamicSharedBytes,
        "total_smem_size" => Special::TotalSharedBytes,
        "cluster_ctarank" => Special::ClusterRank,
        "cluster_nctarank" => Special::ClusterBlocks,
        _ => return None,
    })
}
