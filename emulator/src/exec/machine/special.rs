//! Registers that hold constants and special registers.
use crate::exec::machine::context::{Context, thread_index};
use crate::exec::machine::warp::Warp;
use crate::ir::{ConstantValue, Special};

/// Fills the rows that hold constants and special registers.
pub(crate) fn fill_rows(cx: &Context, w: &mut Warp) {
    let kernel = cx.grid.kernel;
    for constant in &kernel.constants {
        match constant.value {
            ConstantValue::Word(value) => *w.u32s_mut(constant.reg) = [value; 32],
            ConstantValue::Double(value) => *w.u64s_mut(constant.reg) = [value; 32],
            ConstantValue::Symbol { symbol, addend } => {
                let address = cx.grid.symbols[symbol as usize].wrapping_add_signed(addend);
                *w.u64s_mut(constant.reg) = [address; 32];
            }
        }
    }
    for &(reg, special) in &kernel.specials {
        if special == Special::GridId {
            *w.u64s_mut(reg) = [u64::from(cx.grid.epoch); 32];
        } else {
            let row = std::array::from_fn(|lane| special_value(cx, w.own, lane as u32, special));
            *w.u32s_mut(reg) = row;
        }
    }
}

fn special_value(cx: &Context, warp: u32, lane: u32, special: Special) -> u32 {
    let config = &cx.grid.config;
    let axis = |a: u8| usize::from(a.min(2));
    let sms = cx.grid.device.multiprocessors();
    match special {
        Special::Tid(a) => thread_index(config.block, warp * 32 + lane)[axis(a)],
        Special::Ntid(a) => config.block[axis(a)],
        Special::Ctaid(a) => cx.block[axis(a)],
        Special::Nctaid(a) => config.grid[axis(a)],
        Special::LaneId => lane,
        Special::WarpId => warp,
        Special::NwarpId => config.threads().div_ceil(32) as u32,
        Special::SmId => (cx.block_number() % u64::from(sms)) as u32,
        Special::NsmId => sms,
        Special::LaneMaskEq => 1 << lane,
        Special::LaneMaskLt => (1 << lane) - 1,
        Special::LaneMaskLe => u32::MAX >> (31 - lane),
        Special::LaneMaskGe => u32::MAX << lane,
        Special::LaneMaskGt => (u32::MAX << lane) & !(1 << lane),
        Special::DynamicSharedBytes => config.shared_bytes,
        Special::TotalSharedBytes => cx.shared.bytes,
        Special::ClusterId(a) => cx.block[axis(a)] / cx.cluster.size[axis(a)],
        Special::NclusterId(a) => config.grid[axis(a)] / cx.cluster.size[axis(a)],
        Special::ClusterCtaId(a) => cx.block[axis(a)] % cx.cluster.size[axis(a)],
        Special::ClusterNctaId(a) => cx.cluster.size[axis(a)],
        Special::ClusterRank => cx.cluster.rank,
        Special::ClusterBlocks => cx.cluster.count(),
        Special::IsExplicitCluster => u32::from(cx.grid.explicit_cluster),
        Special::GridId => 0,
    }
}
