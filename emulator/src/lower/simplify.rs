//! Removes copies of values that never change, and what nothing reads.

use super::builder::{Draft, Kind};
use super::operands::{Place, Role, is_pure, visit};
use crate::ir::{Op, PredSrc, Reg};

/// Rewrites the draft; what becomes needless is dropped.
pub fn run(draft: &mut Draft) {
    let mut keep = vec![true; draft.code.len()];
    forward_copies(draft, &mut keep);
    drop_unread(draft, &mut keep);
    drop_short_branches(draft, &mut keep);
    draft.retain(&keep);
}

/// `mov d, a` where each of the two is written once (or `a` is a filled row): readers of `d` read `a` instead.
///
/// Wherever `d` is read its only write has happened, and between that write and the read `a` cannot change: its only
/// write would have to happen again, and `d`'s after it. (That is so for registers that are written before they are
/// read, and what others hold is undefined.)
fn forward_copies(draft: &mut Draft, keep: &mut [bool]) {
    let mut writes = vec![0u32; draft.regs.len()];
    for inst in &mut draft.code {
        visit(inst, &mut |place, role| {
            if let (Place::Reg(reg), Role::Def) = (place, role) {
                writes[usize::from(reg.0)] += 1;
            }
        });
    }
    let mut alias: Vec<Reg> = (0..draft.regs.len())
        .map(|index| Reg(index as u16))
        .collect();
    for (inst, keep) in draft.code.iter().zip(keep) {
        let Op::Mov { d, a, .. } = inst.op else {
            continue;
        };
        let filled = draft.regs[usize::from(a.0)].kind != Kind::Variable;
        let once = filled || writes[usize::from(a.0)] == 1;
        if once && writes[usize::from(d.0)] == 1 && inst.guard == PredSrc::TRUE && a != d {
            alias[usize::from(d.0)] = a;
            *keep = false;
        }
    }
    let find = |mut reg: Reg| {
        // A chain cannot be a circle: that would be registers that are never given a value; its length bounds it.
        for _ in 0..alias.len() {
            let next = alias[usize::from(reg.0)];
            if next == reg {
                break;
            }
            reg = next;
        }
        reg
    };
    for inst in &mut draft.code {
        visit(inst, &mut |place, role| {
            if let (Place::Reg(reg), Role::Use) = (place, role) {
                *reg = find(*reg);
            }
        });
    }
}

/// Drops instructions without effect whose results are not read, until there are no more.
fn drop_unread(draft: &mut Draft, keep: &mut [bool]) {
    let regs = draft.regs.len();
    let mut reads = vec![0u32; regs + draft.preds as usize];
    let index = |place: &Place<'_>| match place {
        Place::Reg(reg) => usize::from(reg.0),
        Place::Pred(pred) => regs + usize::from(pred.0),
    };
    for (inst, _) in draft
        .code
        .iter_mut()
        .zip(keep.iter())
        .filter(|(_, keep)| **keep)
    {
        visit(inst, &mut |place, role| {
            if role == Role::Use {
                reads[index(&place)] += 1;
            }
        });
    }
    let mut changed = true;
    while changed {
        changed = false;
        // Backwards, so that a chain goes in one pass.
        for (inst, keep) in draft.code.iter_mut().zip(keep.iter_mut()).rev() {
            if !*keep || !is_pure(&inst.op) {
                continue;
            }
            let mut read = false;
            visit(inst, &mut |place, role| {
                read |= role == Role::Def && reads[index(&place)] > 0
            });
            if !read {
                *keep = false;
                changed = true;
                visit(inst, &mut |place, role| {
                    if role == Role::Use {
                        reads[index(&place)] -= 1;
                    }
                });
            }
        }
    }
}

/// Drops branches to the next instruction, which inlined functions end in.
fn drop_short_branches(draft: &Draft, keep: &mut [bool]) {
    let mut next = draft.code.len();
    for (i, inst) in draft.code.iter().enumerate().rev() {
        if let Op::Bra { target, .. } = inst.op {
            let target = draft.labels[target as usize] as usize;
            if target > i && target <= next {
                keep[i] = false;
            }
        }
        if keep[i] {
            next = i;
        }
    }
}

impl Draft {
    /// Drops the instructions that are not to be kept; labels move to what follows them.
    pub fn retain(&mut self, keep: &[bool]) {
        let mut moved = Vec::with_capacity(keep.len() + 1);
        let mut count = 0;
        for &kept in keep {
            moved.push(count);
            count += u32::from(kept);
        }
        moved.push(count);
        for label in &mut self.labels {
            *label = moved.get(*label as usize).copied().unwrap_or(count);
        }
        let mut flags = keep.iter();
        self.code.retain(|_| flags.next() == Some(&true));
        let mut flags = keep.iter();
        self.lines.retain(|_| flags.next() == Some(&true));
    }
}
