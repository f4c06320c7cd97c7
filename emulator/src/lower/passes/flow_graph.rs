//! Basic blocks and the edges between them.

use crate::ir::{Op, PredSrc};
use crate::load_error::LoadError;
use crate::lower::Result;
use crate::lower::draft::Draft;

/// Maximum number of targets of all computed branches in a kernel; those of a table count once per
/// branch that uses it.
const MAX_WAYS: usize = 1 << 22;

/// A basic block: entered at its start and left at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Its first instruction.
    pub start: usize,
    /// The instruction after its last.
    pub end: usize,
    /// The successors.
    pub next: Vec<usize>,
    /// The predecessors.
    pub previous: Vec<usize>,
}

/// The blocks of a kernel in code order; all are reachable.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The blocks, in code order.
    pub blocks: Vec<Block>,
}

impl Graph {
    /// Builds the graph of a draft, and drops its unreachable instructions.
    ///
    /// # Errors
    /// The number of computed branch targets exceeds the limit.
    pub fn new(draft: &mut Draft) -> Result<Graph> {
        let mut ways = 0usize;
        for (inst, &line) in draft.code.iter().zip(&draft.lines) {
            if let Op::BrxIdx { table, .. } = inst.op {
                ways = ways.saturating_add(draft.tables[usize::from(table)].len());
            }
            if ways > MAX_WAYS {
                let message = format!(
                    "the computed branches of the kernel have more than {MAX_WAYS} targets"
                );
                return Err(LoadError::new(line, message));
            }
        }
        let graph = Graph::of_code(draft);
        let reached = graph.reached();
        if reached.iter().all(|&reached| reached) {
            return Ok(graph);
        }
        let mut keep = vec![false; draft.code.len()];
        for (block, _) in graph
            .blocks
            .iter()
            .zip(&reached)
            .filter(|(_, reached)| **reached)
        {
            keep[block.start..block.end].fill(true);
        }
        draft.retain(&keep);
        Ok(Graph::of_code(draft))
    }

    fn of_code(draft: &Draft) -> Graph {
        let count = draft.code.len();
        let mut leader = vec![false; count + 1];
        leader[0] = true;
        for (i, inst) in draft.code.iter().enumerate() {
            match inst.op {
                Op::Bra { target, .. } => leader[draft.labels[target as usize] as usize] = true,
                Op::BrxIdx { table, .. } => {
                    for &target in &draft.tables[usize::from(table)] {
                        leader[draft.labels[target as usize] as usize] = true;
                    }
                }
                Op::Exit | Op::Trap if inst.guard == PredSrc::TRUE => {}
                _ => continue,
            }
            leader[i + 1] = true;
        }
        let starts: Vec<usize> = (0..count).filter(|&i| leader[i]).collect();
        let mut block_at = vec![usize::MAX; count + 1];
        for (block, &start) in starts.iter().enumerate() {
            block_at[start] = block;
        }
        let ends = starts.iter().skip(1).copied().chain([count]);
        let mut blocks: Vec<Block> = starts
            .iter()
            .zip(ends)
            .map(|(&start, end)| Block {
                start,
                end,
                next: successors(draft, end, &block_at),
                previous: Vec::new(),
            })
            .collect();
        for block in 0..blocks.len() {
            for next in blocks[block].next.clone() {
                blocks[next].previous.push(block);
            }
        }
        Graph { blocks }
    }

    /// The blocks in postorder: each after its successors, except in loops.
    pub fn postorder(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.blocks.len());
        let mut seen = vec![false; self.blocks.len()];
        let mut open = Vec::new();
        if !seen.is_empty() {
            seen[0] = true;
            open.push((0, 0));
        }
        while let Some((block, tried)) = open.last_mut() {
            let block = *block;
            if let Some(&next) = self.blocks[block].next.get(*tried) {
                *tried += 1;
                if !std::mem::replace(&mut seen[next], true) {
                    open.push((next, 0));
                }
            } else {
                order.push(block);
                open.pop();
            }
        }
        order
    }

    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.blocks.len()];
        let mut open = vec![0];
        while let Some(block) = open.pop() {
            if std::mem::replace(&mut reached[block], true) {
                continue;
            }
            open.extend(
                self.blocks[block]
                    .next
                    .iter()
                    .filter(|&&next| !reached[next]),
            );
        }
        reached
    }
}

/// The successors of the block that ends before `end`.
fn successors(draft: &Draft, end: usize, block_at: &[usize]) -> Vec<usize> {
    let inst = &draft.code[end - 1];
    let at = |label: u32| block_at[draft.labels[label as usize] as usize];
    let mut next = match inst.op {
        Op::Bra { target, .. } => vec![at(target)],
        Op::BrxIdx { table, .. } => draft.tables[usize::from(table)]
            .iter()
            .map(|&label| at(label))
            .collect(),
        _ => Vec::new(),
    };
    let ends = matches!(
        inst.op,
        Op::Bra { .. } | Op::BrxIdx { .. } | Op::Exit | Op::Trap
    );
    if !(ends && inst.guard == PredSrc::TRUE) {
        next.push(block_at[end]);
    }
    // Falling off the end is an exit; a draft ends in one, so only targets beyond the end have no
    // block.
    next.retain(|&block| block != usize::MAX);
    next.sort_unstable();
    next.dedup();
    next
}
