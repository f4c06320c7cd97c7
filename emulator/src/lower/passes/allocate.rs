//! Assigns rows to virtual registers and predicates.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::ir::operations::{Place, visit};
use crate::ir::{Constant, Kernel, NO_PC, Op, Pred, PredSrc, Reg, Width};
use crate::load_error::LoadError;
use crate::lower::Result;
use crate::lower::draft::{Draft, Kind};
use crate::lower::passes::flow_graph::Graph;
use crate::lower::passes::liveness;
use crate::lower::passes::liveness::{Liveness, Segment};
use crate::lower::passes::products;
use crate::lower::passes::{copy_propagation, reconvergence};

/// Maximum length of segment lists to be joined: the effort grows with its square.
const MAX_SEGMENTS: usize = 2048;

/// The row of a register that no instruction uses.
pub const UNASSIGNED: u16 = u16::MAX;

/// Result of the allocation.
pub struct Assignment {
    /// The registers that share their rows.
    pub classes: Classes,
    /// The first row of each class.
    pub rows: Vec<u16>,
    /// The index of each virtual predicate.
    pub preds: Vec<u16>,
    /// Per instruction: true if it is kept.
    keep: Vec<bool>,
}

/// Converts a draft to the kernel's code.
pub fn finish(mut draft: Draft, mut kernel: Kernel) -> Result<Kernel> {
    copy_propagation::run(&mut draft);
    products::hold(&mut draft);
    let graph = Graph::new(&mut draft)?;
    reconvergence::set(&mut draft, &graph);
    let assignment = assign(&draft, &graph, &mut kernel)?;
    #[cfg(test)]
    crate::lower::passes::verify::check(&draft, &graph, &assignment);
    for inst in &mut draft.code {
        visit(inst, &mut |place, _| match place {
            Place::Reg(reg) => *reg = assignment.row(*reg),
            Place::Pred(pred) => *pred = Pred(assignment.preds[usize::from(pred.0)]),
        });
    }
    let mut keep = assignment.keep;
    kernel.lists = take_lists(&draft, &mut keep);
    draft.retain(&keep);
    resolve_labels(&mut draft, &mut kernel);
    kernel.code = draft.code;
    kernel.lines = draft.lines;
    products::watch(&mut kernel);
    Ok(kernel)
}

fn assign(draft: &Draft, graph: &Graph, kernel: &mut Kernel) -> Result<Assignment> {
    let mut live = liveness::find(&draft.code, graph, draft.regs.len(), draft.preds as usize)?;
    let (classes, keep) = join_copies(draft, &mut live);
    let rows = assign_rows(draft, &live, &classes, kernel)?;
    let preds = assign_preds(&live, kernel);
    Ok(Assignment {
        classes,
        rows,
        preds,
        keep,
    })
}

impl Assignment {
    /// The first row of a virtual register.
    pub fn row(&self, reg: Reg) -> Reg {
        Reg(self.rows[self.classes.find(usize::from(reg.0))])
    }
}

/// The register lists of operations; the instructions that carried them are dropped.
fn take_lists(draft: &Draft, keep: &mut [bool]) -> Vec<Vec<Reg>> {
    let mut lists = vec![Vec::new(); usize::from(draft.lists)];
    for (inst, keep) in draft.code.iter().zip(keep) {
        if let Op::Extra { list, regs, .. } = inst.op {
            if !products::is_held(list) {
                lists[usize::from(list)].extend(regs.iter().copied().filter(|reg| !reg.is_none()));
            }
            *keep = false;
        }
    }
    lists
}

fn resolve_labels(draft: &mut Draft, kernel: &mut Kernel) {
    let place = |label: u32| draft.labels.get(label as usize).copied().unwrap_or(NO_PC);
    for inst in &mut draft.code {
        match &mut inst.op {
            Op::Bra { target, reconverge } => {
                *target = place(*target);
                *reconverge = place(*reconverge);
            }
            Op::BrxIdx { reconverge, .. } => *reconverge = place(*reconverge),
            _ => {}
        }
    }
    let resolve = |table: &Vec<u32>| table.iter().map(|&label| place(label)).collect();
    kernel.branch_tables = draft.tables.iter().map(resolve).collect();
}

/// Classes of registers that share rows because copies join them.
pub struct Classes {
    parent: Vec<u32>,
}

impl Classes {
    /// As [`Classes::find`], with path compression.
    fn shorten(&mut self, mut reg: usize) -> usize {
        while self.parent[reg] as usize != reg {
            let next = self.parent[self.parent[reg] as usize];
            self.parent[reg] = next;
            reg = next as usize;
        }
        reg
    }

    /// The representative of the class of `reg`.
    pub fn find(&self, mut reg: usize) -> usize {
        while self.parent[reg] as usize != reg {
            reg = self.parent[reg] as usize;
        }
        reg
    }
}

/// Joins the two registers of a copy if their live ranges do not overlap, and drops the copy. So a
/// loop's `mov accumulator, sum;` costs nothing.
fn join_copies(draft: &Draft, live: &mut Liveness) -> (Classes, Vec<bool>) {
    let mut classes = Classes {
        parent: (0..draft.regs.len() as u32).collect(),
    };
    let mut keep = vec![true; draft.code.len()];
    for (inst, keep) in draft.code.iter().zip(&mut keep) {
        let Op::Mov { d, a, .. } = inst.op else {
            continue;
        };
        let variable = |reg: Reg| draft.regs[usize::from(reg.0)].kind == Kind::Variable;
        if inst.guard != PredSrc::TRUE || !variable(a) || !variable(d) {
            continue;
        }
        let (to, from) = (
            classes.shorten(usize::from(d.0)),
            classes.shorten(usize::from(a.0)),
        );
        if to != from {
            let Some(joined) = join(&live.segments[to], &live.segments[from]) else {
                continue;
            };
            live.segments[to] = joined;
            live.segments[from] = Vec::new();
            classes.parent[from] = to as u32;
        }
        *keep = false;
    }
    // From here on every path has length one.
    for reg in 0..classes.parent.len() {
        classes.parent[reg] = classes.find(reg) as u32;
    }
    (classes, keep)
}

/// The union of two lists of segments, or `None` if they overlap.
fn join(a: &[Segment], b: &[Segment]) -> Option<Vec<Segment>> {
    if a.len() + b.len() > MAX_SEGMENTS {
        return None;
    }
    let mut joined: Vec<Segment> = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let from_a = j == b.len() || (i < a.len() && a[i].0 <= b[j].0);
        let next = if from_a { a[i] } else { b[j] };
        i += usize::from(from_a);
        j += usize::from(!from_a);
        match joined.last_mut() {
            Some(last) if next.0 < last.1 => return None,
            Some(last) if next.0 == last.1 => last.1 = next.1,
            _ => joined.push(next),
        }
    }
    Some(joined)
}

/// The range from the first to the last use, in whole instructions: a destination does not share
/// rows with a source whose range ends there.
fn extent(segments: &[Segment]) -> Option<(u32, u32)> {
    Some((segments.first()?.0 & !1, segments.last()?.1))
}

/// Allocation state of the rows.
#[derive(Default)]
struct Rows {
    taken: Vec<bool>,
    /// Index below which no row is free.
    low: usize,
}

impl Rows {
    fn take(&mut self, count: usize) -> usize {
        let mut at = self.low;
        loop {
            let wanted = at..at + count;
            if self.taken.len() < wanted.end {
                self.taken.resize(wanted.end, false);
            }
            match self.taken[wanted.clone()].iter().rposition(|&taken| taken) {
                None => {
                    self.taken[wanted].fill(true);
                    break;
                }
                Some(blocked) => at += blocked + 1,
            }
        }
        while self.taken.get(self.low) == Some(&true) {
            self.low += 1;
        }
        at
    }

    fn free(&mut self, at: usize, count: usize) {
        self.taken[at..at + count].fill(false);
        self.low = self.low.min(at);
    }
}

/// Linear scan over (start, end, rows, index), sorted by start. Calls `place` with each index and
/// its first row.
fn scan(
    mut intervals: Vec<(u32, u32, usize, usize)>,
    mut place: impl FnMut(usize, usize),
) -> usize {
    intervals.sort_unstable();
    let mut rows = Rows::default();
    let mut active = BinaryHeap::new();
    for (start, end, count, index) in intervals {
        while let Some(&Reverse((end, at, count))) = active.peek() {
            if end > start {
                break;
            }
            active.pop();
            rows.free(at, count);
        }
        let at = rows.take(count);
        active.push(Reverse((end, at, count)));
        place(index, at);
    }
    rows.taken.len()
}

/// The first row of each class: constants and special registers first, then results of
/// instructions.
fn assign_rows(
    draft: &Draft,
    live: &Liveness,
    classes: &Classes,
    kernel: &mut Kernel,
) -> Result<Vec<u16>> {
    let mut rows = vec![UNASSIGNED; draft.regs.len()];
    let mut next = 0usize;
    // A 64-bit register is an array of 32 values over its two rows, so a lane's value covers two
    // lanes of a 32-bit row. Rows are therefore reused among registers of one width only. Otherwise
    // a write by some lanes on their side of a branch would change values of other lanes on the
    // other side.
    let (mut narrow, mut wide) = (Vec::new(), Vec::new());
    for (index, reg) in draft.regs.iter().enumerate() {
        let Some((start, end)) = extent(&live.segments[index]) else {
            continue;
        };
        let count = if reg.width == Width::W64 { 2 } else { 1 };
        let place = Reg(next.min(usize::from(u16::MAX)) as u16);
        match reg.kind {
            Kind::Variable => {
                debug_assert_eq!(classes.find(index), index);
                let intervals = if count == 1 { &mut narrow } else { &mut wide };
                intervals.push((start, end, count, index));
                continue;
            }
            Kind::Constant(value) => kernel.constants.push(Constant { reg: place, value }),
            Kind::Special(special) => kernel.specials.push((place, special)),
            // Its value is already known.
            Kind::DynamicShared(_) => {}
        }
        rows[index] = place.0;
        next += count;
    }
    let first = next;
    let mut used = 0;
    for intervals in [narrow, wide] {
        let base = first + used;
        used += scan(intervals, |index, at| {
            rows[index] = (base + at).min(usize::from(u16::MAX)) as u16
        });
    }
    if first + used >= usize::from(u16::MAX) {
        return Err(LoadError::new(
            0,
            format!(
                "kernel `{}` needs more than 65534 rows of registers",
                kernel.name
            ),
        ));
    }
    kernel.rows = (first + used) as u32;
    // A compiler keeps addresses and constants elsewhere, and needs some registers of its own.
    kernel.registers = (used as u32 + 8).next_multiple_of(8).clamp(16, 255);
    Ok(rows)
}

fn assign_preds(live: &Liveness, kernel: &mut Kernel) -> Vec<u16> {
    let segments = &live.segments[live.regs..];
    let mut preds = vec![0u16; segments.len()];
    let extents = segments.iter().enumerate().skip(1);
    let intervals =
        extents.filter_map(|(index, list)| extent(list).map(|(start, end)| (start, end, 1, index)));
    let used = scan(intervals.collect(), |index, at| {
        preds[index] = at as u16 + 1
    });
    kernel.preds = used as u32 + 1;
    preds
}
