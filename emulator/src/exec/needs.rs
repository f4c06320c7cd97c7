//! Parts of a block's state that a kernel's instructions need.
use crate::ir::{AtomTy, BarrierKind, Inst, Kernel, Op, Reg, Space};

/// Returns whether the kernel uses the cluster barrier, which a cluster of one block has too.
pub(crate) fn uses_cluster_barrier(kernel: &Kernel) -> bool {
    let is = |inst: &Inst| matches!(inst.op, Op::ClusterArrive { .. } | Op::ClusterWait { .. });
    kernel.code.iter().any(is)
}

/// Returns whether the kernel has barriers for some of its warps only.
pub(crate) fn is_order_partial(kernel: &Kernel) -> bool {
    kernel.code.iter().any(|inst| match inst.op {
        Op::Barrier { kind, count, .. } => count != Reg::NONE || kind == BarrierKind::Arrive,
        _ => false,
    }) || uses_barriers_in_memory(kernel)
}

/// Returns whether the kernel uses the asynchronous proxy or mbarrier objects.
pub(crate) fn uses_barriers_in_memory(kernel: &Kernel) -> bool {
    let is = |inst: &Inst| matches!(inst.op, Op::Mbarrier { .. } | Op::ProxyFence { .. });
    kernel.code.iter().any(is) || reads_asynchronously(kernel)
}

/// Returns whether the asynchronous proxy reads shared memory.
pub(crate) fn reads_asynchronously(kernel: &Kernel) -> bool {
    let is = |inst: &Inst| {
        matches!(
            inst.op,
            Op::BulkStore { .. }
                | Op::BulkShared { .. }
                | Op::TensorStore { .. }
                | Op::Wgmma { .. }
        )
    };
    kernel.code.iter().any(is)
}

/// Returns whether the kernel may communicate through shared memory with fences and flags.
pub(crate) fn has_flags(kernel: &Kernel) -> bool {
    let shared = |space: Space| space.may_be_shared();
    let is_flag = |inst: &Inst| match inst.op {
        Op::Ld { access, .. } | Op::St { access, .. } => access.strong && shared(access.space),
        Op::Atom { space, .. } => shared(space),
        // Operations ordered by an earlier fence are visible after the wait.
        Op::ClusterArrive { relaxed, .. } => relaxed,
        _ => false,
    };
    let fences = kernel.code.iter().any(|inst| inst.op == Op::Fence);
    fences && kernel.code.iter().any(is_flag)
}

/// Size in bytes of the smallest possible access to shared memory, at most four.
pub(crate) fn smallest_shared_access(kernel: &Kernel) -> u32 {
    let shared = |space: Space| space.may_be_shared();
    let bytes = |op: &Op| match op {
        Op::Ld { access, .. } | Op::St { access, .. } if shared(access.space) => {
            access.bytes.into()
        }
        Op::Atom {
            space,
            ty: AtomTy::B16 | AtomTy::F16 | AtomTy::Bf16,
            ..
        } if shared(*space) => 2,
        _ => 4,
    };
    kernel
        .code
        .iter()
        .map(|inst| bytes(&inst.op))
        .min()
        .unwrap_or(4)
        .min(4)
}

/// Returns whether the kernel has 16-byte accesses to shared memory.
pub(crate) fn moves_rows(kernel: &Kernel) -> bool {
    let is = |inst: &Inst| matches!(inst.op, Op::LdMatrix { .. } | Op::CpAsync { bytes: 16, .. });
    kernel.code.iter().any(is)
}
