//! Checks an allocation: follows every value through the code and panics if a row does not have the
//! virtual register's value when it is read. Runs on every kernel that the unit tests lower.

use std::collections::BTreeSet;

use crate::ir::operations::{Place, visit};
use crate::ir::{Op, PredSrc, Reg, Width};
use crate::lower::draft::{Draft, Kind};
use crate::lower::passes::allocate::{Assignment, UNASSIGNED};
use crate::lower::passes::flow_graph::Graph;

/// The virtual registers (then the predicates) whose value each row (then each predicate) has;
/// `None` before the first write.
type State = Vec<Option<BTreeSet<usize>>>;

struct Checker<'c> {
    draft: &'c Draft,
    assignment: &'c Assignment,
    rows: usize,
}

/// Panics if the assignment is wrong.
pub fn check(draft: &Draft, graph: &Graph, assignment: &Assignment) {
    let regs = draft.regs.len();
    let assigned = assignment.rows.iter().filter(|&&row| row != UNASSIGNED);
    let rows = assigned.map(|&row| usize::from(row) + 2).max().unwrap_or(0);
    let preds = assignment
        .preds
        .iter()
        .map(|&pred| usize::from(pred) + 1)
        .max()
        .unwrap_or(0);
    let checker = Checker {
        draft,
        assignment,
        rows,
    };
    let mut first: State = vec![None; rows + preds];
    for index in 0..regs {
        let filled = draft.regs[index].kind != Kind::Variable;
        if filled && assignment.rows[index] != UNASSIGNED {
            for slot in checker.slots(index) {
                first[slot] = Some(BTreeSet::from([index]));
            }
        }
    }
    let mut entry: Vec<Option<State>> = vec![None; graph.blocks.len()];
    entry[0] = Some(first);
    let mut open = vec![0];
    while let Some(block) = open.pop() {
        let mut state = entry[block].clone().expect("an open block has a state");
        for i in graph.blocks[block].start..graph.blocks[block].end {
            checker.step(i, &mut state, false);
        }
        for &next in &graph.blocks[block].next {
            let merged = entry[next]
                .as_ref()
                .map_or_else(|| state.clone(), |old| meet(old, &state));
            if entry[next].as_ref() != Some(&merged) {
                entry[next] = Some(merged);
                open.push(next);
            }
        }
    }
    for (block, state) in entry.into_iter().enumerate() {
        let mut state = state.expect("every block is reached");
        for i in graph.blocks[block].start..graph.blocks[block].end {
            checker.step(i, &mut state, true);
        }
    }
}

fn meet(a: &State, b: &State) -> State {
    a.iter()
        .zip(b)
        .map(|pair| match pair {
            (Some(a), Some(b)) => Some(a & b),
            // A value that was never written agrees with any value.
            (Some(a), None) | (None, Some(a)) => Some(a.clone()),
            (None, None) => None,
        })
        .collect()
}

impl Checker<'_> {
    fn slots(&self, place: usize) -> Vec<usize> {
        if place >= self.draft.regs.len() {
            return vec![
                self.rows + usize::from(self.assignment.preds[place - self.draft.regs.len()]),
            ];
        }
        let row = usize::from(self.assignment.row(Reg(place as u16)).0);
        let count = if self.draft.regs[place].width == Width::W64 {
            2
        } else {
            1
        };
        (row..row + count).collect()
    }

    fn step(&self, i: usize, state: &mut State, judge: bool) {
        let mut inst = self.draft.code[i];
        let (mut uses, mut defs) = (Vec::new(), Vec::new());
        visit(&mut inst, &mut |place, role| {
            let place = match place {
                Place::Reg(reg) => usize::from(reg.0),
                Place::Pred(pred) => self.draft.regs.len() + usize::from(pred.0),
            };
            if role.reads() {
                uses.push(place);
            }
            if role.writes() {
                defs.push(place);
            }
        });
        for &place in uses.iter().filter(|_| judge) {
            for slot in self.slots(place) {
                let holds = state[slot]
                    .as_ref()
                    .is_none_or(|held| held.contains(&place));
                assert!(
                    holds,
                    "line {}: {inst:?} reads {place} in {slot}",
                    self.draft.lines[i]
                );
            }
        }
        let targets: Vec<usize> = defs.iter().flat_map(|&place| self.slots(place)).collect();
        let distinct: BTreeSet<usize> = targets.iter().copied().collect();
        assert!(
            distinct.len() == targets.len() || defs[0] == defs[defs.len() - 1],
            "{inst:?} writes a row twice"
        );
        let joined = match inst.op {
            Op::Mov { d, a, .. } => {
                inst.guard == PredSrc::TRUE && self.assignment.row(d) == self.assignment.row(a)
            }
            _ => false,
        };
        for &place in &defs {
            for held in state.iter_mut().flatten() {
                held.remove(&place);
            }
            for slot in self.slots(place) {
                let held = state[slot].get_or_insert_default();
                if !joined {
                    held.clear();
                }
                held.insert(place);
            }
        }
    }
}
