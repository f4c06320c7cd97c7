//! Registers of matrix products of a warpgroup, which stay in use until the wait for the products.

use crate::ir::operations::{Place, visit};
use crate::ir::{Inst, Kernel, Op, Reg, Watch};
use crate::lower::draft::Draft;

/// Number of a list whose registers are only kept alive.
const HELD: u16 = u16::MAX;

/// Keeps the registers of all products alive until every wait for products, so that they hold no
/// other value while they are in use.
pub fn hold(draft: &mut Draft) {
    let mut regs: Vec<Reg> = Vec::new();
    let mut product = false;
    for inst in &draft.code {
        match inst.op {
            Op::Wgmma { .. } => product = true,
            Op::Extra { regs: some, .. } if product => {
                regs.extend(some.iter().filter(|reg| !reg.is_none()));
            }
            _ => product = false,
        }
    }
    regs.sort_unstable();
    regs.dedup();
    if regs.is_empty() {
        return;
    }
    let mut moved = Vec::with_capacity(draft.code.len() + 1);
    let (mut code, mut lines) = (Vec::new(), Vec::new());
    for (&inst, &line) in draft.code.iter().zip(&draft.lines) {
        moved.push(code.len() as u32);
        code.push(inst);
        lines.push(line);
        if let Op::WgmmaWait { .. } = inst.op {
            for chunk in regs.chunks(8) {
                let mut held = [Reg::NONE; 8];
                held[..chunk.len()].copy_from_slice(chunk);
                let op = Op::Extra {
                    list: HELD,
                    update: false,
                    regs: held,
                };
                code.push(Inst::new(op));
                lines.push(line);
            }
        }
    }
    moved.push(code.len() as u32);
    for label in &mut draft.labels {
        *label = moved
            .get(*label as usize)
            .copied()
            .unwrap_or(code.len() as u32);
    }
    draft.code = code;
    draft.lines = lines;
}

/// Returns whether the registers of a list are only kept alive.
pub fn is_held(list: u16) -> bool {
    list == HELD
}

/// Finds the instructions that access registers of products.
pub fn watch(kernel: &mut Kernel) {
    let mut is_watched = vec![false; usize::from(u16::MAX) + 1];
    let mut any = false;
    for inst in &kernel.code {
        if let Op::Wgmma { list, .. } = inst.op {
            any = true;
            for reg in &kernel.lists[usize::from(list)] {
                is_watched[usize::from(reg.0)] = true;
            }
        }
    }
    if !any {
        return;
    }
    kernel.watched = kernel
        .code
        .iter()
        .map(|inst| {
            let mut watch = Watch::default();
            if matches!(inst.op, Op::Wgmma { .. }) {
                return None;
            }
            visit(&mut inst.clone(), &mut |place, role| {
                // Products have 32-bit registers, which share no rows with wider ones.
                let Place::Reg(&mut reg) = place else { return };
                if is_watched[usize::from(reg.0)] {
                    if role.reads() {
                        watch.reads.push(reg);
                    }
                    if role.writes() {
                        watch.writes.push(reg);
                    }
                }
            });
            let touches = !watch.reads.is_empty() || !watch.writes.is_empty();
            touches.then(|| Box::new(watch))
        })
        .collect();
}
