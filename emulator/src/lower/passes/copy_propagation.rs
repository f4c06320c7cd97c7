//! Removes copies of values that never change, and unused results.

use crate::ir::operations::{Place, Role, is_pure, visit};
use crate::ir::{Address, ConstantValue, IntBinary, Op, PredSrc, Reg, Space, Width};
use crate::lower::draft::{Draft, Kind, Virtual};
use crate::lower::names::NameMap;

/// Rewrites the draft and drops redundant instructions.
pub fn run(draft: &mut Draft) {
    let mut keep = vec![true; draft.code.len()];
    forward_copies(draft, &mut keep);
    drop_unread(draft, &mut keep);
    drop_short_branches(draft, &mut keep);
    draft.retain(&keep);
}

/// Replacements of registers.
struct Aliases {
    of: Vec<Reg>,
}

impl Aliases {
    fn find(&mut self, reg: Reg) -> Reg {
        let mut end = reg;
        // A cycle of copies gives none of its registers a value; the number of registers bounds the
        // traversal.
        for _ in 0..self.of.len() {
            let next = self.of[usize::from(end.0)];
            if next == end {
                break;
            }
            end = next;
        }
        // The cycle is cut at the end of the traversal, so that it is traversed only once.
        self.of[usize::from(end.0)] = end;
        let mut at = reg;
        while at != end {
            at = std::mem::replace(&mut self.of[usize::from(at.0)], end);
        }
        end
    }
}

/// `mov d, a` where each of the two is written once (or `a` is a filled row): uses of `d` become
/// uses of `a`. A sum of two constants is a constant, and is treated in the same way.
///
/// At each use of `d` its only write has happened, and `a` cannot change between that write and the
/// use: its only write would have to happen again, and `d`'s after it. (That holds for registers
/// that are written before they are read; the values of others are undefined.)
fn forward_copies(draft: &mut Draft, keep: &mut [bool]) {
    let mut writes = vec![0u32; draft.regs.len()];
    for inst in &mut draft.code {
        visit(inst, &mut |place, role| {
            if let Place::Reg(reg) = place
                && role.writes()
            {
                writes[usize::from(reg.0)] += 1;
            }
        });
    }
    let mut aliases = Aliases {
        of: (0..draft.regs.len())
            .map(|index| Reg(index as u16))
            .collect(),
    };
    let mut constants = constants(draft);
    for (inst, keep) in draft.code.iter().zip(keep) {
        let (d, value) = match inst.op {
            Op::Mov { d, a, .. } => {
                let filled = draft.regs[usize::from(a.0)].kind != Kind::Variable;
                (d, (filled || writes[usize::from(a.0)] == 1).then_some(a))
            }
            Op::IntBinary {
                op: IntBinary::Add,
                d,
                a,
                b,
                ..
            } => {
                let (a, b) = (aliases.find(a), aliases.find(b));
                let value = sum(
                    draft.regs[usize::from(a.0)].kind,
                    draft.regs[usize::from(b.0)].kind,
                );
                let width = draft.regs[usize::from(d.0)].width;
                (
                    d,
                    value.and_then(|value| {
                        constant(&mut draft.regs, &mut aliases, &mut constants, value, width)
                    }),
                )
            }
            _ => continue,
        };
        let Some(value) = value else { continue };
        if writes[usize::from(d.0)] == 1 && inst.guard == PredSrc::TRUE && value != d {
            aliases.of[usize::from(d.0)] = value;
            *keep = false;
        }
    }
    for inst in &mut draft.code {
        visit(inst, &mut |place, role| {
            if let (Place::Reg(reg), Role::Use) = (place, role) {
                *reg = aliases.find(*reg);
            }
        });
        fold_address(&draft.regs, &mut inst.op);
    }
}

type Constants = NameMap<(ConstantValue, Width), Reg>;

/// The existing constants.
fn constants(draft: &Draft) -> Constants {
    let mut constants = Constants::default();
    for (index, reg) in draft.regs.iter().enumerate() {
        if let Kind::Constant(value) = reg.kind {
            constants
                .entry((value, reg.width))
                .or_insert(Reg(index as u16));
        }
    }
    constants
}

/// The register of a constant, created if there is room.
fn constant(
    regs: &mut Vec<Virtual>,
    aliases: &mut Aliases,
    constants: &mut Constants,
    value: ConstantValue,
    width: Width,
) -> Option<Reg> {
    if let Some(&reg) = constants.get(&(value, width)) {
        return Some(reg);
    }
    let reg = Reg(u16::try_from(regs.len())
        .ok()
        .filter(|&index| index < u16::MAX)?);
    regs.push(Virtual {
        width,
        kind: Kind::Constant(value),
    });
    aliases.of.push(reg);
    constants.insert((value, width), reg);
    Some(reg)
}

/// The sum of two 64-bit constants, as in the addresses at the start of kernels.
fn sum(a: Kind, b: Kind) -> Option<ConstantValue> {
    let (Kind::Constant(a), Kind::Constant(b)) = (a, b) else {
        return None;
    };
    match (a, b) {
        (ConstantValue::Double(a), ConstantValue::Double(b)) => {
            Some(ConstantValue::Double(a.wrapping_add(b)))
        }
        (ConstantValue::Symbol { symbol, addend }, ConstantValue::Double(more))
        | (ConstantValue::Double(more), ConstantValue::Symbol { symbol, addend }) => {
            Some(ConstantValue::Symbol {
                symbol,
                addend: addend.wrapping_add(more.cast_signed()),
            })
        }
        _ => None,
    }
}

/// Folds a constant base into the offset, for spaces whose addresses are small numbers.
fn fold_address(regs: &[Virtual], op: &mut Op) {
    let (space, address) = match op {
        Op::Ld { access, addr, .. } | Op::St { access, addr, .. } => (access.space, addr),
        Op::Atom { space, addr, .. } => (*space, addr),
        Op::CpAsync { dst, .. } => (Space::Shared, dst),
        Op::Mbarrier {
            space: Space::Shared,
            addr,
            ..
        } => (Space::Shared, addr),
        _ => return,
    };
    if address.base.is_none() || !matches!(space, Space::Param | Space::Shared | Space::Local) {
        return;
    }
    let base = match regs[usize::from(address.base.0)].kind {
        Kind::Constant(ConstantValue::Word(base)) => i64::from(base),
        Kind::Constant(ConstantValue::Double(base)) => base.cast_signed(),
        _ => return,
    };
    let sum = base
        .checked_add(i64::from(address.offset))
        .and_then(|sum| i32::try_from(sum).ok());
    if let Some(offset) = sum.filter(|&sum| sum >= 0) {
        *address = Address {
            base: Reg::NONE,
            wide: true,
            offset,
        };
    }
}

/// Drops instructions without side effects whose results are unused, until none is left.
fn drop_unread(draft: &mut Draft, keep: &mut [bool]) {
    let regs = draft.regs.len();
    let places = regs + draft.preds as usize;
    let index = |place: &Place<'_>| match place {
        Place::Reg(reg) => usize::from(reg.0),
        Place::Pred(pred) => regs + usize::from(pred.0),
    };
    let mut reads = vec![0u32; places];
    let mut writers = vec![Vec::new(); places];
    for (i, (inst, _)) in draft
        .code
        .iter_mut()
        .zip(keep.iter())
        .enumerate()
        .filter(|(_, (_, keep))| **keep)
    {
        let pure = is_pure(&inst.op);
        visit(inst, &mut |place, role| {
            if role.reads() {
                reads[index(&place)] += 1;
            }
            if role.writes() && pure {
                writers[index(&place)].push(i as u32);
            }
        });
    }
    // Each instruction is examined once per result, when the last use of that result is dropped.
    let mut open: Vec<u32> = (0..draft.code.len() as u32)
        .filter(|&i| keep[i as usize] && is_pure(&draft.code[i as usize].op))
        .collect();
    while let Some(i) = open.pop() {
        let (inst, keep) = (&mut draft.code[i as usize], &mut keep[i as usize]);
        let mut read = !*keep;
        visit(inst, &mut |place, role| {
            read |= role.writes() && reads[index(&place)] > 0
        });
        if read {
            continue;
        }
        *keep = false;
        visit(inst, &mut |place, role| {
            if role.reads() {
                let count = &mut reads[index(&place)];
                *count -= 1;
                if *count == 0 {
                    open.append(&mut writers[index(&place)]);
                }
            }
        });
    }
    // An atomic with an unused result does not read memory, as far as checks are concerned.
    for inst in &mut draft.code {
        if let Op::Atom { d, .. } = &mut inst.op
            && !d.is_none()
            && reads[usize::from(d.0)] == 0
        {
            *d = Reg::NONE;
        }
    }
}

/// Drops branches to the next instruction, as at the end of inlined functions.
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
    /// Drops the instructions that are not kept; labels move to the following instruction.
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
